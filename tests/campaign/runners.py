"""Runners whose monitors prove that they run alone. A monitor holds the lock of its instance in a directory that all
nodes share, from before it begins until its process is gone; one that finds it taken writes a line into VIOLATIONS.

Lines of JOURNAL and VIOLATIONS: what, instance, node, seconds since the machine's boot, pid."""

import pathlib
import shutil

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
note() { read -r now _ </proc/uptime; echo "$1 $instance $node $now $$" >>"%(shared)s/$2"; }
exec 9>>"%(shared)s/$instance.lock"
if ! flock -n 9; then
  note twice VIOLATIONS
  exit 1
fi
note start JOURNAL
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
