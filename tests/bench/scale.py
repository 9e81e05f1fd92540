#!/usr/bin/python3
"""`make bench-workers`: what idle workers cost three real servers. The workers are one process with a connection each,
follow their share and have their leases renewed as a worker's daemon does. Prints what the leader uses, and how much of
it is allowed."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from cluster import BUILD, Cluster  # noqa: E402

WORKERS = int(os.environ.get("WORKERS", "2000"))
SETTLE_S, MEASURE_S = 10, 60
CPU_PERCENT_MAX, MEMORY_MIB_MAX, ENTRIES_A_MINUTE_MAX = 20, 200, 10


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def index(cluster):
    return int(cluster.json("cluster", "status")["index"])


class Renewals:
    """How many the workers say were granted, and how many were not."""

    def __init__(self, lines):
        self.last = {"renewed": 0, "not_renewed": 0}
        threading.Thread(target=self.read, args=(lines,), daemon=True).start()

    def read(self, lines):
        for line in lines:
            self.last = json.loads(line)


def measure(cluster, renewals):
    leader = cluster.leader()
    pids = [n.pid for n in cluster.nodes]
    asked = renewals.last
    before, cpu, began = index(cluster), {pid: cpu_s(pid) for pid in pids}, time.monotonic()
    time.sleep(MEASURE_S)
    took = time.monotonic() - began
    used = {pid: 100 * (cpu_s(pid) - cpu[pid]) / took for pid in pids}
    entries = (index(cluster) - before) * 60 / took
    renewed = (renewals.last["renewed"] - asked["renewed"]) / took
    lost = renewals.last["not_renewed"] - asked["not_renewed"]
    assert cluster.leader() is leader, "the leader changed meanwhile: measure again"
    ready = sum(n["status"] == "Ready" for n in cluster.json("node", "list")["nodes"])
    assert ready == WORKERS + len(cluster.nodes), f"{ready} nodes are Ready"
    others = ", ".join(f"{used[pid]:.1f} %" for pid in pids if pid != leader.pid)
    rows = [
        ("leader's processor, of one core", used[leader.pid], CPU_PERCENT_MAX, "%", f"the others {others}"),
        ("leader's memory", memory_mib(leader.pid), MEMORY_MIB_MAX, "MiB", "resident"),
        ("leases that were not renewed", lost, 0, "", f"{renewed:.0f} a second were"),
        ("log entries a minute", entries, ENTRIES_A_MINUTE_MAX, "", f"in {took:.0f} s"),
    ]
    for what, value, most, unit, note in rows:
        over = "" if value <= most else "  OVER"
        print(f"{what:<34} {value:8.1f} {unit:<4} at most {most} {unit:<4} {note}{over}")


def main():
    cluster = Cluster(log_level="warning")
    workers = None
    try:
        cluster.form()
        words = [BUILD / "tests/bench/workers", str(WORKERS), "1", "1", "idle"] + [str(n.socket) for n in cluster.nodes]
        workers = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        told = json.loads(workers.stdout.readline())
        print(f"{told['workers']:,} workers joined 3 servers in {told['joined_s']} s")
        renewals = Renewals(workers.stdout)
        time.sleep(SETTLE_S)
        measure(cluster, renewals)
    finally:
        if workers:
            workers.terminate()
            workers.wait()
        cluster.close()


main()
