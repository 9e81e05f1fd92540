#!/usr/bin/python3
"""Creates a second beside etcd's puts: the same client code (tests/bench/rpc.c), requests of the same size, three
members each with its own log on the disk, every call at the leader, in pairs one after the other; and the channel
alone, the same requests to one process that sends them back. Needs Debian's etcd-server."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from cluster import BIN, BUILD, Cluster  # noqa: E402

PAIRS = 5
CALLS = 30000
CONNECTIONS, CALLERS = 16, 16
ALONE_CALLS = 2000  # one caller
PATIENCE_S = 30


def load(kind, prefix, count, connections, callers, socket):
    done = subprocess.run(
        [BUILD / "tests/bench/rpc", kind, prefix, *map(str, (count, connections, callers)), str(socket)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f"bench: {done.stderr}")
    return json.loads(done.stdout)


def both_loads(kind, socket):
    alone = load(kind, "alone", ALONE_CALLS, 1, 1, socket)
    if kind == "raw":
        socket.unlink()
    return alone, load(kind, "many", CALLS, CONNECTIONS, CALLERS, socket)


def blixard(directory):
    del directory
    cluster = Cluster(capacity="vcpus=65536,memory_mib=1000000000", log_level="warning")
    try:
        cluster.form()
        return both_loads("blixard", cluster.leader().socket)
    finally:
        cluster.close()


def etcd(directory):
    """Its sockets are files named like a host and a port, in its working directory."""
    peers = ",".join(f"e{n}=unix://localhost:1{n}" for n in (1, 2, 3))
    logs = [directory / f"log{n}" for n in (1, 2, 3)]
    members = []
    try:
        for n, log in enumerate(logs, 1):
            urls = (f"unix://localhost:{n}", f"unix://localhost:1{n}")
            arguments = [
                *("etcd", "--name", f"e{n}", "--data-dir", str(directory / f"data{n}"), "--initial-cluster", peers),
                *("--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]),
                *("--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1]),
            ]
            members.append(subprocess.Popen(arguments, cwd=directory, stdout=log.open("w"), stderr=subprocess.STDOUT))
        deadline = time.monotonic() + PATIENCE_S
        leader = None
        while not leader or not all("ready to serve client requests" in log.read_text() for log in logs):
            if time.monotonic() > deadline:
                sys.exit(f"bench: etcd did not come up: {logs[0].read_text()[-400:]}")
            time.sleep(0.1)
            leader = next((n for n, log in enumerate(logs, 1) if "became leader" in log.read_text()), None)
        return both_loads("etcd", directory / f"localhost:{leader}")
    finally:
        for member in members:
            member.terminate()
        for member in members:
            member.wait()


def raw(directory):
    """What Blixard's requests take to a process that sends them back: as fast as any service here could be."""
    return both_loads("raw", directory / "raw.sock")


def main():
    if not (BIN / "blixardd").exists():
        sys.exit(f"bench: {BIN} holds no blixardd: run 'make all' or set BLX_BUILD")
    if not shutil.which("etcd"):
        print("creates beside etcd: skipped, there is no etcd: apt-get install etcd-server")
        return
    base = os.environ.get("BLX_BENCH_DIR", "/var/tmp")
    print(f"{CONNECTIONS} connections with {CALLERS} callers each, and one caller alone; three members; calls a second")
    print(f"{'pair':>4} {'creates':>9} {'p50 ms':>7} {'p99 ms':>7} {'puts':>9} {'p50 ms':>7} {'p99 ms':>7} {'ratio':>6}"
          f" {'alone ms':>9} {'p99':>6} {'put ms':>7} {'p99':>6} {'raw':>9} {'alone ms':>9}")
    ratios = []
    for pair in range(1, PAIRS + 1):
        told = {}
        for run in (blixard, etcd, raw):
            with tempfile.TemporaryDirectory(prefix="blixard-etcd-", dir=base) as directory:
                told[run] = run(pathlib.Path(directory))
        (alone, ours), (put_alone, theirs), (raw_alone, channel) = told[blixard], told[etcd], told[raw]
        ratios.append(ours["per_second"] / theirs["per_second"])
        print(
            f"{pair:>4} {ours['per_second']:>9} {ours['p50_us'] / 1000:>7.2f} {ours['p99_us'] / 1000:>7.2f}"
            f" {theirs['per_second']:>9} {theirs['p50_us'] / 1000:>7.2f} {theirs['p99_us'] / 1000:>7.2f}"
            f" {ratios[-1]:>6.2f} {alone['p50_us'] / 1000:>9.2f} {alone['p99_us'] / 1000:>6.2f}"
            f" {put_alone['p50_us'] / 1000:>7.2f} {put_alone['p99_us'] / 1000:>6.2f}"
            f" {channel['per_second']:>9} {raw_alone['p50_us'] / 1000:>9.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


main()
