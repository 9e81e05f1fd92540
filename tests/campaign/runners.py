"""Runners whose monitors prove that they run alone. A monitor holds the lock of its instance in a directory that all
nodes share, from before it begins until its process is gone; one that finds it taken writes a line into VIOLATIONS. An
observer sees how long each lives, so that there is a history to judge: doubles(). Neither asks the cluster.

Lines of JOURNAL and VIOLATIONS: what, instance, node, epoch, seconds since the machine's boot, pid. The lock's file
holds the line of its last holder."""

import collections
import contextlib
import os
import pathlib
import shutil
import signal
import threading
import time

from cluster import alive

VIOLATIONS, JOURNAL = "VIOLATIONS", "JOURNAL"

FLAKE = """{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = derivation {
  name = "guarded"; system = "x86_64-linux"; builder = "/bin/sh"; source = ./runner;
  args = [ "-c" "/bin/cp -r $source $out" ];
}; }; }
"""
# The directory is NODE/vms/INSTANCE-UID/work. The descriptor is left to what is executed: it is the monitor's.
GUARD = """#!/bin/sh
instance=$(basename "$(dirname "$PWD")")
node=$(basename "$(dirname "$(dirname "$(dirname "$PWD")")")")
read -r epoch <../lock
line() { read -r now _ </proc/uptime; echo "$1 $instance $node ${epoch:-0} $now $$"; }
exec 9>>"%(shared)s/$instance.lock"
if ! flock -n 9; then
  line twice >>"%(shared)s/VIOLATIONS"
  exit 1
fi
: >"%(shared)s/$instance.lock"
line start | tee "%(shared)s/$instance.lock" >>"%(shared)s/JOURNAL"
exec "$(dirname "$0")/guarded-run" "$@"
"""
# A monitor that speaks QMP and runs no guest: a machine has room for many.
MONITOR = """#!/usr/bin/python3
import json, os, selectors, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("blixard-qmp.sock")
listener.listen()
ready = selectors.DefaultSelector()
ready.register(listener, selectors.EVENT_READ)
def say(client, what):
    client.sendall(json.dumps(what).encode() + b"\\r\\n")
def hear(client, line):
    told = json.loads(line)
    say(client, {"return": {"running": True, "status": "running"} if told["execute"] == "query-status" else {}})
    if told["execute"] in ("quit", "system_powerdown"):
        os._exit(0)
held = {}
while True:
    for key, _ in ready.select():
        if key.fileobj is listener:
            client = listener.accept()[0]
            ready.register(client, selectors.EVENT_READ)
            held[client] = b""
            say(client, {"QMP": {"version": {}, "capabilities": []}})
            continue
        client, data = key.fileobj, key.fileobj.recv(65536)
        *lines, held[client] = (held[client] + data).split(b"\\n")
        for line in filter(bytes.strip, lines):
            hear(client, line)
        if not data:
            ready.unregister(client)
            del held[client]
            client.close()
"""


def make(directory, shared, run):
    """A flake whose runner takes the lock, then executes `run`: the text of a script, or a runner's directory."""
    binaries = directory / "runner/bin"
    if isinstance(run, pathlib.Path):
        shutil.copytree(run, directory / "runner")
        for path in (directory / "runner", binaries):
            path.chmod(0o755)
        (binaries / "microvm-run").rename(binaries / "guarded-run")
    else:
        binaries.mkdir(parents=True)
        (binaries / "guarded-run").write_text(run)
    (binaries / "microvm-run").write_text(GUARD % {"shared": shared})
    for path in (binaries / "guarded-run", binaries / "microvm-run"):
        path.chmod(0o755)
    (directory / "flake.nix").write_text(FLAKE)
    shared.mkdir(exist_ok=True)
    return f"path:{directory}#vm"


def violations(shared):
    path = shared / VIOLATIONS
    return path.read_text().splitlines() if path.exists() else []


def started(shared):
    path = shared / JOURNAL
    return len(path.read_text().splitlines()) if path.exists() else 0


# ---- the history of monitors

# @began and @last, when it was seen alive last: seconds since boot. @began is cut to TICK_S.
Run = collections.namedtuple("Run", "instance node epoch began last pid")
TICK_S, LOOK_S = 0.01, 0.05


class Observer(threading.Thread):
    """Sees every monitor that wrote into the journal until it is gone."""

    def __init__(self, shared):
        super().__init__(daemon=True)
        self.journal, self.over, self.error = shared / JOURNAL, threading.Event(), None
        self.found, self.live, self.offset = [], [], 0

    def run(self):
        try:
            while not self.over.wait(LOOK_S):
                self.look()
        except BaseException as error:  # told by the main thread
            self.error = error

    def look(self):
        for line in self.more():
            _, instance, node, epoch, began, pid = line.split()
            self.found.append([instance, node, int(epoch), float(began), float(began), int(pid)])
            self.live.append(self.found[-1])
        for run in list(self.live):
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            if alive(run[-1]) and works_for(run[-1], run[0]):
                run[4] = now
            else:
                self.live.remove(run)

    def more(self):
        """Whole lines that came since."""
        if not self.journal.exists():
            return []
        with open(self.journal, "rb") as journal:
            journal.seek(self.offset)
            whole = journal.read().rpartition(b"\n")[0]
        self.offset += len(whole) + bool(whole)
        return whole.decode().splitlines()

    def runs(self):
        return [Run(*run) for run in self.found]


def works_for(pid, instance):
    """Pids are given again."""
    try:
        return f"/{instance}/" in os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False


def end(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def pairs(runs):
    """Each run with the next of the same instance."""
    by_instance = collections.defaultdict(list)
    for run in sorted(runs, key=lambda run: run.began):
        by_instance[run.instance].append(run)
    return [pair for of_one in by_instance.values() for pair in zip(of_one, of_one[1:])]


def doubles(runs):
    """Why an instance ran twice at a time, or under an epoch that another node had or that was over: a line each."""
    latest, found = {}, []
    for run in sorted(runs, key=lambda run: run.began):
        before = latest.get(run.instance)
        if before and run.began + TICK_S < before.last:
            found.append(f"two at the same time: {before}, {run}")
        if before and run.epoch < before.epoch:
            found.append(f"an epoch that was over: {before}, {run}")
        if before and run.epoch == before.epoch and run.node != before.node:
            found.append(f"one epoch on two nodes: {before}, {run}")
        if not before or run.last >= before.last:
            latest[run.instance] = run
    return found


def failovers(runs):
    return sum(before.node != after.node for before, after in pairs(runs))


def gaps(runs):
    """Seconds in which nothing ran of an instance that ran before and after."""
    return [max(0, after.began - before.last) for before, after in pairs(runs)]
