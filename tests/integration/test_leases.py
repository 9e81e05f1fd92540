"""Leases with real daemons, shims, watchdog processes and control groups; the monitors are scripts. A node that is cut
off ends what runs under its lease before that starts elsewhere, and nothing else."""

import signal
import time

import pytest

from cluster import BIN, EXIT_USAGE, Cluster, alive, end_guests, only, processes_of, program, until
from test_monitors import FLAKE, INSTALL

# Notes when it begins, and what it is told, for as long as it lives: on the clock that leases are counted by.
WITNESS = """#!/usr/bin/python3
import json, os, socket, time
boot = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
out = open("%s/%%d" %% os.getpid(), "w", buffering=1)
print("pid", boot(), os.getcwd(), file=out)
listener = socket.socket(socket.AF_UNIX)
listener.bind("blixard-qmp.sock")
listener.listen()
listener.settimeout(0.02)
clients = []
def say(c, what):
    c.sendall(json.dumps(what).encode() + b"\\r\\n")
while True:
    print("at", boot(), file=out)
    try:
        c = listener.accept()[0]
        c.settimeout(0.005)
        say(c, {"QMP": {"version": {"qemu": {"major": 8, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}})
        clients.append(c)
    except socket.timeout:
        pass
    for c in list(clients):
        try:
            data = c.recv(65536)
        except socket.timeout:
            continue
        except OSError:
            data = b""
        if not data:
            clients.remove(c)
            continue
        for line in data.splitlines():
            try:
                asked = json.loads(line)["execute"]
            except ValueError:
                continue
            say(c, {"return": {}})
            if asked in ("stop", "cont"):
                print(asked, boot(), file=out)
                stamp = {"seconds": int(time.time()), "microseconds": 0}
                say(c, {"event": "STOP" if asked == "stop" else "RESUME", "timestamp": stamp})
"""


def boot():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Runs:
    """What the monitors of one VM have noted: a file for each that ever began."""

    def __init__(self, path):
        self.path = path
        path.mkdir(mode=0o777)
        path.chmod(0o777)

    def all(self):
        """(pid, began, last sign of life, what it was told), in order."""
        found = []
        for file in self.path.iterdir():
            lines = [line.split() for line in file.read_text().splitlines()]
            lines = [line for line in lines if len(line) >= 2]
            if lines and lines[0][0] == "pid":
                told = [line[0] for line in lines if line[0] in ("stop", "cont")]
                found.append((int(file.name), float(lines[0][1]), float(lines[-1][1]), told))
        return sorted(found, key=lambda run: run[1])

    def never_twice(self):
        runs = self.all()
        for before, after in zip(runs, runs[1:]):
            assert before[2] < after[1], f"two at the same time: {runs}"
        return runs


@pytest.fixture(scope="module")
def three():
    more = ["--watchdog", str(BIN / "blixard-watchdog"), "--no-watchdog"]
    cluster = Cluster(simulate=False, capacity="vcpus=16,memory_mib=4096", more=more)
    try:
        cluster.form()
        done = cluster.cli("cluster", "settings", "set", "--leases-of", "4s", check=False)
        assert done.returncode in (0, EXIT_USAGE), done.stderr
        cluster.lease_s = 4 if done.returncode == 0 else 20
        until(lambda: all(n.get("ha_ready") for n in cluster.json("node", "list")["nodes"]), 20, "every node is ready")
        yield cluster
        cluster.delete_all()
    finally:
        end_guests(cluster)
        cluster.close()


def make(cluster, path, name, ha):
    path.mkdir()
    path.chmod(0o755)
    runs = Runs(path / "runs")
    flake = path / "flake"
    flake.mkdir()
    (flake / "flake.nix").write_text(FLAKE % INSTALL)
    (flake / "microvm-run").write_text(WITNESS % runs.path)
    cluster.cli("vm", "create", name, "--flake", f"path:{flake}#vm", "--memory", 64, "--ready-none", "--ha", ha,
                "--stop-timeout", "1s", "--wait", "--timeout", "120s")
    if ha != "off":  # cut off before, it would stay for the disk that it might have
        until(lambda: only(cluster, name).get("data_known"), 20, "it is known to have no disk")
    return runs


def place_together(cluster, path):
    """One that is highly available and one that is not, on a node that does not lead."""
    leader = cluster.leader().name
    for node in cluster.nodes:
        cluster.cli("node", "uncordon", node.name)
    away = next(n for n in cluster.nodes if n.name != leader)
    for node in cluster.nodes:
        if node is not away:
            cluster.cli("node", "cordon", node.name)
    ha = make(cluster, path / "ha", "ha", "auto")
    off = make(cluster, path / "off", "off", "off")
    for node in cluster.nodes:
        cluster.cli("node", "uncordon", node.name)
    assert only(cluster, "ha")["node"] == away.name and only(cluster, "off")["node"] == away.name
    return away, ha, off


def runs_elsewhere(cluster, name, away, asked):
    told = only(cluster, name, node=asked)
    return told["phase"] == "Running" and told["node"] != away.name


def finish(cluster, away, ha, off):
    """The node is back: it is taken for new, what was not highly available went on all the time."""
    until(lambda: all(n["status"] == "Ready" and not n.get("cordoned") for n in cluster.json("node", "list")["nodes"]),
          60, "every node is Ready again")
    (run,) = off.all()
    assert alive(run[0])
    until(lambda: only(cluster, "off")["phase"] == "Running", 30, "the other one is known to run")
    assert only(cluster, "off")["node"] == away.name
    assert len(ha.never_twice()) == 2
    cluster.delete_all()


def test_a_killed_daemon_s_instance_is_dead_before_it_runs_elsewhere(three, tmp_path):
    tmp_path.chmod(0o755)
    away, ha, off = place_together(three, tmp_path)
    (first,) = ha.all()
    asked = next(n for n in three.nodes if n is not away)
    away.kill()
    began = boot()
    assert alive(first[0])  # its shim and the watchdog process run on
    until(lambda: not alive(first[0]), three.lease_s + 2, "the watchdog process ends it")
    died = boot()
    assert died - began < three.lease_s
    until(lambda: runs_elsewhere(three, "ha", away, asked), three.lease_s * 3 + 30, "it runs elsewhere")
    until(lambda: len(ha.all()) == 2, 10, "its monitor has written that down")
    before, after = ha.never_twice()
    print(f"lease {three.lease_s} s: ended {died - began:.1f} s after its daemon, elsewhere {after[1] - began:.1f} s")
    assert only(three, "off", node=asked)["phase"] == "Unreachable"
    away.start()
    finish(three, away, ha, off)


def test_a_daemon_that_stood_still_past_its_lease_comes_back_clean(three, tmp_path):
    tmp_path.chmod(0o755)
    away, ha, off = place_together(three, tmp_path)
    (first,) = ha.all()
    asked = next(n for n in three.nodes if n is not away)
    away.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not alive(first[0]), three.lease_s + 2, "the watchdog process ends it")
        until(lambda: runs_elsewhere(three, "ha", away, asked), three.lease_s * 3 + 30, "it runs elsewhere")
    finally:
        away.process.send_signal(signal.SIGCONT)
    finish(three, away, ha, off)


def test_a_daemon_that_is_started_again_within_its_lease_finds_everything_running(three, tmp_path):
    tmp_path.chmod(0o755)
    away, ha, off = place_together(three, tmp_path)
    dogs = [pid for pid, words in processes_of(away.dir).items() if program(pid) == "blixard-watchdog"]
    assert len(dogs) == 1
    away.kill()
    away.start()
    three.wait_ready()
    until(lambda: only(three, "ha")["phase"] == "Running", 30, "it is followed again")
    time.sleep(three.lease_s)
    (run,), (other,) = ha.all(), off.all()
    assert alive(run[0]) and alive(other[0])
    assert [pid for pid, words in processes_of(away.dir).items() if program(pid) == "blixard-watchdog"] == dogs
    three.delete_all()


COMMAND = """#!/bin/sh
echo "$BLIXARD_NODE $BLIXARD_NODE_UID $BLIXARD_INCARNATION" >>{dir}/asked
[ $(wc -l <{dir}/asked) -gt 1 ] || {{ echo "the controller is busy" >&2; exit 3; }}
echo "chassis power is off"
"""


def test_a_fence_command_is_run_until_it_proves_the_death_and_that_is_not_waited_for(tmp_path, new_cluster):
    tmp_path.chmod(0o755)
    one = new_cluster().form()
    script = tmp_path / "off"
    script.write_text(COMMAND.format(dir=tmp_path))
    script.chmod(0o755)
    away = next(n for n in one.nodes if n is not one.leader())
    asked = next(n for n in one.nodes if n is not away)
    for node in one.nodes:
        one.cli("node", "fence-command", node.name, "--set", str(script))
    for node in one.nodes:
        if node is not away:
            one.cli("node", "cordon", node.name)
    one.create("web", "--ha", "auto")
    assert only(one, "web")["node"] == away.name
    for node in one.nodes:
        one.cli("node", "uncordon", node.name)
    before = one.json("node", "describe", away.name)["node"]
    away.kill()
    until(lambda: (tmp_path / "asked").exists(), 60, "the command is run")
    began = boot()

    def told():
        return one.json("node", "describe", away.name, node=asked)["node"]

    until(lambda: "the controller is busy" in told()["reason"]["text"], 5, "it is said how it failed")
    until(lambda: only(one, "web", node=asked)["phase"] == "Running", 20, "it runs elsewhere")
    assert boot() - began < 11 and only(one, "web", node=asked)["node"] != away.name
    assert told()["fence_proof"] == "command: chassis power is off"
    words = f"{away.name} {before['uid']} {before['incarnation']}"
    assert (tmp_path / "asked").read_text().splitlines() == [words, words]
    away.start()
    until(lambda: told()["status"] == "Ready", 30, "it comes back by itself")
    assert not told().get("fence_proof")
    one.delete_all()
