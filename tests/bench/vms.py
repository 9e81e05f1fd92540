#!/usr/bin/python3
"""Figures of real VMs: a create until its guest is ready beside the same runner started by hand, in pairs one after the
other; the shim's memory; how long a daemon takes to follow its VMs again. Root, Nix and QEMU are needed."""

import datetime
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from cluster import BIN, Cluster, processes_of, until  # noqa: E402

PAIRS = 7
MANY = 50
PATIENCE_S = 120

# A greeting and yes to everything: a monitor as far as its shim can tell, of a few MiB. No guest.
MONITOR = """#!/usr/bin/python3
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("blixard-qmp.sock")
listener.listen()
while True:
    client, _ = listener.accept()
    client.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\\r\\n')
    while client.recv(4096):
        client.sendall(b'{"return": {}}\\r\\n')
"""
FLAKE = """{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = derivation {
  name = "idle"; system = "x86_64-linux"; builder = "/bin/sh"; script = ./microvm-run;
  args = [ "-c" "/bin/mkdir -p $out/bin && cd $out/bin && /bin/cp $script microvm-run && /bin/chmod 755 microvm-run" ];
}; }; }
"""
# Of lib/vm/proto_guest.h: HELLO of version 1 without a name, and how READY begins.
HELLO = bytes([0xB1, 0x17, 1, ((1 + 8 + 1) & 0xFF) ^ 0x5A, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0])
READY = bytes([0xB1, 0x17, 2])


def lone(more=()):
    cluster = Cluster(names=("n1",), simulate=False, capacity="vcpus=256,memory_mib=65536", log_level="info", more=more)
    return cluster.form()


def directory_of(cluster, name):
    (directory,) = (cluster.nodes[0].dir / "vms").glob(f"{name}-1-*")
    return directory


def wait_ready(directory, deadline):
    """As a shim would: the guest's port as soon as it is there, a HELLO each second until it says READY."""
    port, heard, hello_at = None, b"", 0
    while READY not in heard:
        if time.monotonic() > deadline:
            sys.exit("bench: a guest that was started by hand did not say that it is ready")
        if not port:
            try:
                port = socket.socket(socket.AF_UNIX)
                port.connect(str(directory / "blixard-guest.sock"))
                port.settimeout(0.01)
            except OSError:
                port = None
                time.sleep(0.01)
                continue
        if time.monotonic() >= hello_at:
            port.sendall(HELLO)
            hello_at = time.monotonic() + 1
        try:
            heard += port.recv(4096)
        except TimeoutError:
            pass
    port.close()


def by_hand_s(runner, directory):
    directory.mkdir()
    began = time.monotonic()
    with open(directory / "console.log", "wb") as console:
        monitor = subprocess.Popen(
            [runner / "bin/microvm-run"], cwd=directory, stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        wait_ready(directory, began + PATIENCE_S)
        return time.monotonic() - began
    finally:
        monitor.kill()
        monitor.wait()
        shutil.rmtree(directory)


def created_s(cluster, name):
    """From the create's answer to the end of a wait for it: two starts of the CLI's are in it."""
    cluster.create(name, wait=False)
    began = time.monotonic()
    cluster.wait(name, "phase=Running", timeout=f"{PATIENCE_S}s")
    return time.monotonic() - began


def shims(cluster):
    found = [pid for pid in processes_of(cluster.dir) if os.readlink(f"/proc/{pid}/exe").endswith("/blixard-shim")]
    return sorted(found)


def rollup_kib(pid, what):
    return int(re.search(rf"^{what}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])


def create_rows():
    cluster = lone()
    try:
        cluster.create("first")
        runner = (directory_of(cluster, "first") / "current").resolve()
        ours, hands = [], []
        for number in range(PAIRS):
            hands.append(by_hand_s(runner, cluster.dir / "by-hand"))
            ours.append(created_s(cluster, f"pair-{number}"))
            cluster.cli("vm", "kill", f"pair-{number}", "--wait")
            cluster.cli("vm", "delete", f"pair-{number}", "--wait")
        ratio = statistics.median(o / h for o, h in zip(ours, hands))
        pairs = ", ".join(f"{o:.2f}/{h:.2f}" for o, h in zip(ours, hands))
        return [
            ("vm create until its guest is ready, runner built", f"{statistics.median(ours):.2f} s", ""),
            ("the same runner by hand until then", f"{statistics.median(hands):.2f} s", ""),
            ("the one to the other", f"{ratio:.2f}", f"median of {PAIRS} pairs: {pairs}"),
            *shim_rows(cluster, "of a guest"),
        ]
    finally:
        end(cluster)


def shim_rows(cluster, which):
    sizes = [(rollup_kib(pid, "Rss"), rollup_kib(pid, "Pss")) for pid in shims(cluster)]
    rss, pss = max(s[0] for s in sizes), statistics.mean(s[1] for s in sizes)
    note = f"largest of {len(sizes)}; PSS {pss / 1024:.2f} MiB"
    return [(f"shim's resident memory, {which}", f"{rss / 1024:.2f} MiB", note)]


def followed_s(cluster, node, count):
    """From the daemon's exec to its last word that a VM is followed again, by its own log."""
    known = node.log.stat().st_size
    began = time.time()
    node.start()
    found = []

    def all_found():
        nonlocal found
        with open(node.log, "rb") as log:
            log.seek(known)
            found = re.findall(r"^(\S+)Z .*: still runs, and is followed again", log.read().decode(), re.M)
        return len(found) == count

    until(all_found, 60, f"{count} VMs are followed again")
    last = datetime.datetime.fromisoformat(found[-1]).replace(tzinfo=datetime.timezone.utc)
    return last.timestamp() - began


def adopt_rows():
    cluster = lone()
    try:
        flake = cluster.dir / "flake"
        flake.mkdir()
        (flake / "flake.nix").write_text(FLAKE)
        (flake / "microvm-run").write_text(MONITOR)
        cluster.cli("vm", "create", "many", "--flake", f"path:{flake}#vm", "--memory", 64, "--replicas", MANY,
                    "--stop-timeout", "1s", "--ready-none", "--wait", "--timeout", "300s", timeout=320)
        node, took = cluster.nodes[0], []
        for how in (node.kill, node.terminate) * 3:
            how()
            took.append(followed_s(cluster, node, MANY))
        note = f"median of {len(took)}, killed and stopped in turns; the slowest {max(took):.2f} s; scripts with QMP"
        return [(f"start of a daemon until it follows {MANY} VMs again", f"{statistics.median(took):.2f} s", note),
                *shim_rows(cluster, "of a script")]
    finally:
        end(cluster)


def end(cluster):
    try:
        for name in cluster.names():
            cluster.cli("vm", "kill", name, "--wait")
            cluster.cli("vm", "delete", name, "--wait")
    finally:
        cluster.close()


def main():
    if os.geteuid() != 0 or not (BIN / "blixard-shim").exists() or not shutil.which("nix"):
        sys.exit(f"bench: real VMs need root, Nix and {BIN}/blixard-shim (make all)")
    rows = [*create_rows(), *adopt_rows()]
    width = [max(len(r[c]) for r in rows) for c in range(3)]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"Blixard's real VMs on {os.cpu_count()} CPUs, load {load}; one daemon; KVM where it works, else TCG")
    for name, value, note in rows:
        print(f"  {name:<{width[0]}}  {value:>{width[1]}}  {note}".rstrip())


main()
