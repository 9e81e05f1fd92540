"""The daemon dies at a named place (lib/base/failpoint.h) of an instance's life and is started again: what was wished
comes true, nothing is left of what was deleted, and no instance ever has two monitors. One real daemon, real guests.

A third of the places by default; all of them with BLX_FAILPOINTS=all, as `make soak` does."""

import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from cluster import BIN, HELLO, ROOT, Cluster, alive, cgroups, end_guests, processes_of, program, until

NAMES = re.findall(r'^  X\(\w+, "([a-z-]+)"\)', (ROOT / "lib/base/failpoint.h").read_text(), re.M)
PLACES = [name for name in NAMES if not name.startswith("shim-")]  # those: test_failpoints_shim.py
# Reached a second time in the script below: there a runner, a root and a console are left of the first start.
AGAIN = ["journalled-starting:2", "start-linked:2", "start-spawned:2", "stop-sent:2", "report-answered:2"]
USUAL = ["journal-preparing", "build-nix", "journal-starting", "start-root", "start-spawned", "start-state",
         "stop-sent", "journal-dead", "start-shim:2", "remove-begun", "remove-half", "journal-gone"]
CONVERGES_S = 60


def monitors(one):
    """VMMs by the instance in whose directory they work: `web-1-17` -> pids."""
    found = {}
    for pid in processes_of(one.dir):
        try:
            where = pathlib.Path(os.readlink(f"/proc/{pid}/cwd"))
        except OSError:
            continue
        if program(pid).startswith("qemu-system") and where.name == "work" and alive(pid):
            found.setdefault(where.parent.name, []).append(pid)
    return found


class Census(threading.Thread):
    """Looks again and again for two monitors of one instance, whatever the daemon is doing."""

    def __init__(self, one):
        super().__init__(daemon=True)
        self.one, self.twice, self.looks, self.over = one, [], 0, threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            self.looks += 1
            self.twice += [pids for pids in monitors(self.one).values() if len(pids) > 1]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@pytest.fixture(scope="module")
def lone():
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    try:
        one.form()
        one.create("first")  # builds the runner
        one.cli("vm", "delete", "first", "--wait", "--timeout", "60s")
        yield one
    finally:
        end_guests(one)
        one.close()


def died(node):
    return node.process.poll() is not None


def step(node, *words):
    """Ask for something and wait until it is so; true if the daemon died before. It had committed what was asked."""
    asked = subprocess.Popen(
        [BIN / "blixard", *map(str, words), "--wait", "--timeout", f"{2 * CONVERGES_S}s"],
        env={"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(node.socket)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: died(node) or asked.poll() is not None, 3 * CONVERGES_S, f"{words}\n{node.log_end()}")
        if not died(node):
            assert asked.returncode == 0, f"{words}: {asked.stderr.read()}\n{node.log_end()}"
            return False
    finally:
        asked.kill()
        asked.communicate()
    assert node.process.returncode == -signal.SIGKILL, node.log_end()
    return True


def there_is(one, name):
    """All that a VM has on its host, by kind."""
    mark = re.compile(rf"(^|[/ -]){name}-1([-/. ]|$)")
    files = [str(p) for p in one.nodes[0].dir.rglob("*") if mark.search(p.name)]
    roots = [p for p in (one.dir / "nix").glob("var/nix/gcroots/**/*") if p.is_symlink()]
    return {
        "directories": [f for f in files if "/agent/" not in f],
        "journal": [f for f in files if "/agent/" in f],
        "roots": [str(p) for p in roots if mark.search(f"{p.name} {os.readlink(p)}")],
        "processes": [a for a in processes_of(one.dir).values() if mark.search(a)],
        "control groups": [c for c in cgroups(one.id) if mark.search(c)],
    }


def left_of(one, name):
    return {kind: found for kind, found in there_is(one, name).items() if found}


def wished(one, name, wish):
    """Whether the VM is as the last command wanted it."""
    if wish == "deleted":
        return name not in one.names() and not left_of(one, name)
    phase = one.get(name)["phase"] if name in one.names() else None
    return phase == {"create": "Running", "start": "Running", "stop": "Stopped"}[wish]


def again(one, node, name, wish):
    """The daemon is started without its failpoint: within a minute all is as was wished."""
    began = time.monotonic()
    node.start()
    if wish in ("create", "start") and name in one.names():
        one.wait(name, "phase=Running", timeout=f"{CONVERGES_S}s")
    until(lambda: wished(one, name, wish), CONVERGES_S, f"{name} is as `{wish}` wants it\n{node.log_end()}")
    assert time.monotonic() - began < CONVERGES_S


def script(name):
    """What is asked, in order, with what it means."""
    return [
        ("create", ("vm", "create", name, "--microvm-config", HELLO, "--restart", "on-failure")),
        ("stop", ("vm", "stop", name)),
        ("start", ("vm", "start", name)),
        ("deleted", ("vm", "delete", name)),
    ]


@pytest.mark.parametrize("place", PLACES + AGAIN if os.environ.get("BLX_FAILPOINTS") == "all" else USUAL)
def test_a_daemon_that_dies_there_finds_its_way_and_leaves_nothing(lone, monkeypatch, place):
    node, name, was_reached = lone.nodes[0], f"p-{place.replace(':', '-')}", False
    node.terminate()
    monkeypatch.setenv("BLIXARD_FAILPOINT", place)
    with Census(lone) as census:
        node.start()
        monkeypatch.delenv("BLIXARD_FAILPOINT")
        lone.wait_ready()
        for wish, words in script(name):
            if step(node, *words):
                assert not was_reached
                was_reached = True
                again(lone, node, name, wish)
            assert wished(lone, name, wish) or wish == "deleted"
            assert wish != "create" or all(there_is(lone, name).values()), there_is(lone, name)
        until(lambda: wished(lone, name, "deleted"), 20, f"nothing is left: {left_of(lone, name)}")
    assert was_reached, f"{place} was never reached"
    assert census.looks > 10 and not census.twice
    assert not monitors(lone)


def test_a_name_that_is_no_failpoint_is_refused(new_cluster, monkeypatch):
    one = new_cluster(("n1",))
    monkeypatch.setenv("BLIXARD_FAILPOINT", "nowhere")
    with pytest.raises(AssertionError, match="BLIXARD_FAILPOINT=nowhere names no failpoint"):
        one.nodes[0].start()


def test_a_shim_that_is_slow_to_begin_is_waited_for_by_the_next_daemon(tmp_path, monkeypatch):
    """Taken for dead, it would start its monitor under an epoch that is over: of an instance that runs elsewhere by
    then, or was deleted. Its lock is taken before it begins."""
    slow = tmp_path / "slow-shim"
    slow.write_text(f'#!/bin/sh\nsleep 2\nexec {BIN}/blixard-shim "$@"\n')
    slow.chmod(0o755)
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    one.daemon_arguments[one.daemon_arguments.index("--shim") + 1] = str(slow)
    node = one.nodes[0]
    try:
        monkeypatch.setenv("BLIXARD_FAILPOINT", "start-spawned")
        one.form()
        monkeypatch.delenv("BLIXARD_FAILPOINT")
        with Census(one) as census:
            assert step(node, "vm", "create", "late", "--microvm-config", HELLO, "--restart", "on-failure")
            again(one, node, "late", "create")
            (told,) = one.get("late")["instances"]
            assert (int(told["epoch"]), int(told["restarts"])) == (1, 0), "it was taken for dead"
        assert not census.twice
        one.delete_all()
        assert not left_of(one, "late")
    finally:
        end_guests(one)
        one.close()
