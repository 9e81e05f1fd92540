#!/usr/bin/python3
"""`make bench`: creates a second, time to serve, idle memory, size of the library. Prints one table."""

import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from cluster import BIN, BUILD, Cluster, Node, until  # noqa: E402

STARTS = 10
CREATES = 4000
LISTED = 10000
OUTSTANDING = (1, 16, 256)
IDLE_S = 3
WORKERS, WIDE_VMS, WIDE_REPLICAS = 1000, 20, 500


def creates(cluster, prefix, count, outstanding, *more):
    """Through a member that does not lead, as most callers would."""
    leader = cluster.leader()
    node = next(n for n in cluster.nodes if n is not leader)
    done = subprocess.run(
        [BUILD / "tests/bench/create", node.socket, prefix, str(count), str(outstanding), *more],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f"bench: {done.stderr}")
    return json.loads(done.stdout)


def create_rows():
    rows = []
    for outstanding in OUTSTANDING:
        cluster = Cluster(capacity="vcpus=65536,memory_mib=1000000000", log_level="warning")
        try:
            cluster.form()
            told = creates(cluster, "def", CREATES if outstanding > 1 else CREATES // 4, outstanding)
            rows.append(
                (
                    f"creates committed, {outstanding} outstanding",
                    f"{told['per_second']:.0f} /s",
                    f"p50 {told['p50_ms']} ms, p99 {told['p99_ms']} ms",
                )
            )
        finally:
            cluster.close()
    return rows


def running_row():
    """From the first create until all were placed, started by the simulated driver and reported."""
    count = CREATES // 4
    cluster = Cluster(capacity="vcpus=65536,memory_mib=1000000000", log_level="warning")
    try:
        cluster.form()
        began = time.monotonic()
        creates(cluster, "run", count, 64, "run")
        while int(cluster.json("cluster", "status")["running"]) < count:
            time.sleep(0.02)
        took = time.monotonic() - began
        return [
            ("creates until Running, 64 outstanding", f"{count / took:.0f} /s", f"{count} VMs on 3 simulated nodes")
        ]
    finally:
        cluster.close()


def list_row():
    """The CLI's whole process, through a member that does not lead."""
    cluster = Cluster(capacity="vcpus=65536,memory_mib=1000000000", log_level="warning")
    try:
        cluster.form()
        creates(cluster, "def", LISTED, 256)
        took = []
        for _ in range(STARTS):
            began = time.monotonic()
            listed = cluster.cli("vm", "list", "-o", "json").stdout
            took.append((time.monotonic() - began) * 1000)
        assert len(json.loads(listed)["vms"]) == LISTED
        note = f"median of {STARTS}; the slowest {max(took):.0f} ms; {len(listed) / 2**20:.1f} MiB"
        return [
            (f"vm list -o json of {LISTED} VMs, whole process", f"{statistics.median(took):.0f} ms", note),
            join_row(cluster),
        ]
    finally:
        cluster.close()


def join_row(cluster):
    """A fourth server comes to them: its own state holds all of it, and placement may use it."""
    node = Node(cluster, "n4")
    cluster.nodes.append(node)
    node.start()
    began = time.monotonic()
    node.cli("cluster", "join", "--address", f"unix:{cluster.nodes[0].socket}")
    joined = time.monotonic() - began
    until(lambda: node.cluster.json("cluster", "status", "--stale", node=node)["vms"] == LISTED, 60, "it has all VMs")
    whole = time.monotonic() - began
    cluster.wait_ready()
    ready = time.monotonic() - began
    return f"join of a server to {LISTED} VMs", f"{whole:.2f} s", f"joined in {joined:.2f} s, Ready in {ready:.2f} s"


def assignment_rows():
    """Workers are one process with a connection each; what counts is that each assignment came to its worker."""
    rows = []
    for how, what in (("silent", "told to their workers"), ("report", "told, and reported to run")):
        cluster = Cluster(log_level="warning")
        try:
            cluster.form()
            done = subprocess.run(
                [BUILD / "tests/bench/workers", str(WORKERS), str(WIDE_VMS), str(WIDE_REPLICAS), how]
                + [str(n.socket) for n in cluster.nodes],
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done.returncode:
                sys.exit(f"bench: {done.stderr}")
            told = json.loads(done.stdout)
            sizes = ", ".join(f"{rss_mib(n.pid):.0f}" for n in cluster.nodes)
            rows.append(
                (
                    f"assignments committed, {told['workers']:,} workers, {what}",
                    f"{told['per_second']:.0f} /s",
                    f"{told['assignments']} of them; all joined in {told['joined_s']} s; servers of {sizes} MiB",
                )
            )
        finally:
            cluster.close()
    return rows


def start_ms(cluster, node, arguments):
    """From exec to the first answer of a CLI that is started when the daemon says READY=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        path = cluster.dir / f"{node.name}.ready"
        ready.bind(str(path))
        ready.settimeout(20)
        began = time.monotonic()
        with open(node.log, "ab") as log:
            node.process = subprocess.Popen(
                arguments, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(path)}
            )
        while b"READY=1" not in ready.recv(4096):
            pass
        node.cli("cluster", "status")
        took = (time.monotonic() - began) * 1000
    path.unlink()
    return took


def start_rows():
    fresh, again = [], []
    for _ in range(STARTS):
        cluster = Cluster(names=("n1",))
        node = cluster.nodes[0]
        node.dir.mkdir(mode=0o700)
        try:
            fresh.append(start_ms(cluster, node, [*node.arguments(), "--bootstrap"]))
            node.terminate()
            again.append(start_ms(cluster, node, node.arguments()))
        finally:
            cluster.close()
    note = f"median of {STARTS}; the slowest {{:.0f}} ms; the CLI's own start is in it"
    return [
        ("start to first answer, new cluster", f"{statistics.median(fresh):.0f} ms", note.format(max(fresh))),
        ("start to first answer, again", f"{statistics.median(again):.0f} ms", note.format(max(again))),
    ]


def rss_mib(pid):
    line = next(ln for ln in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ln.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def memory_row():
    cluster = Cluster(log_level="warning")
    try:
        cluster.form()
        time.sleep(IDLE_S)
        sizes = [rss_mib(n.pid) for n in cluster.nodes]
        return [
            (
                "resident memory of an idle daemon",
                f"{statistics.median(sizes):.1f} MiB",
                f"three members: {', '.join(f'{s:.1f}' for s in sizes)}",
            )
        ]
    finally:
        cluster.close()


def size_row():
    library = (BUILD / "lib/libblixard.so").resolve()
    with tempfile.TemporaryDirectory() as directory:
        stripped = pathlib.Path(directory, "lib.so")
        shutil.copy(library, stripped)
        subprocess.run(["strip", "--strip-unneeded", stripped], check=True)
        size = stripped.stat().st_size
    return [("libblixard.so, stripped", f"{size / 1024:.0f} KiB", "")]


def main():
    if not (BIN / "blixardd").exists():
        sys.exit(f"bench: {BIN} holds no blixardd: run 'make all' or set BLX_BUILD")
    rows = [*create_rows(), *running_row(), *assignment_rows(), *list_row()]
    rows += [*start_rows(), *memory_row(), *size_row()]
    width = [max(len(r[c]) for r in rows) for c in range(3)]
    print(f"Blixard on {os.cpu_count()} CPUs, kernel {os.uname().release}; three daemons, each fsyncing its own log")
    for name, value, note in rows:
        print(f"  {name:<{width[0]}}  {value:>{width[1]}}  {note}".rstrip())


main()
