"""A shim dies at a named place (lib/base/failpoint.h: shim-*) while its daemon runs on: it is found out, said, handled
by the restart policy, and nothing is left. One real daemon, real guests.

A part by default, all with BLX_FAILPOINTS=all. Shims outlive whoever started them, so that this process asks to be
their parent: it sees how each of them ended."""

import ctypes
import os
import pathlib
import signal
import threading

import pytest

from cluster import BIN, HELLO, Cluster, alive, cgroups, end_guests, only, processes_of, program, until
from test_failpoints import CONVERGES_S, NAMES, Census, left_of, monitors

BEGINNING = ["shim-locked", "shim-cgroup", "shim-spawned", "shim-ready"]
ENDING = ["shim-ended", "shim-record", "shim-recorded", "shim-told"]
SUBREAPER = 36  # of prctl(2)
ALL = os.environ.get("BLX_FAILPOINTS") == "all"
HOW = [(place, how) for place in ENDING for how in ("stopped", "murdered")]
USUAL = [("shim-ended", "stopped"), ("shim-record", "murdered"), ("shim-told", "stopped")]


class Orphans(threading.Thread):
    """Takes the ends of shims and monitors that lost their parent: pid -> (program, wait status)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ended, self.over = {}, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            for entry in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                    state, parent = rest.split()[:2]
                    if int(parent) == os.getpid() and state == "Z" and name.startswith(("blixard-shim", "qemu-system")):
                        pid, status = os.waitpid(int(entry.name), os.WNOHANG)
                        self.ended[pid] = (name, status)
                except (OSError, ValueError, ChildProcessError):
                    continue

    def killed_shims(self):
        return [pid for pid, (name, status) in self.ended.items()
                if name.startswith("blixard-shim") and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL]


@pytest.fixture(scope="module")
def orphans():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(SUBREAPER, 1, 0, 0, 0) == 0
    watcher = Orphans()
    watcher.start()
    yield watcher
    watcher.over.set()
    watcher.join()
    assert libc.prctl(SUBREAPER, 0, 0, 0, 0) == 0


@pytest.fixture(scope="module")
def lone(orphans, tmp_path_factory):
    """Its next shim dies where the file `arm` says; those after it do not."""
    folder = tmp_path_factory.mktemp("arm")
    wrapper = folder / "shim"
    wrapper.write_text(
        f'#!/bin/sh\nif mv {folder}/arm {folder}/armed 2>/dev/null; then\n'
        f'  BLIXARD_FAILPOINT=$(cat {folder}/armed); export BLIXARD_FAILPOINT\nfi\nexec {BIN}/blixard-shim "$@"\n'
    )
    wrapper.chmod(0o755)
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    one.daemon_arguments[one.daemon_arguments.index("--shim") + 1] = str(wrapper)
    one.arm = folder / "arm"
    try:
        one.form()
        yield one
    finally:
        end_guests(one)
        one.close()


def test_these_are_all_the_places_of_shims():
    assert sorted(name for name in NAMES if name.startswith("shim-")) == sorted([*BEGINNING, "shim-stopping", *ENDING])


@pytest.fixture(autouse=True)
def alone(lone):
    """What a test that failed left is not the next one's."""
    yield
    lone.arm.unlink(missing_ok=True)
    lone.delete_all()


def one_more(orphans, before):
    """Exactly one more shim was killed; its end may be taken a moment later than its daemon saw it."""
    until(lambda: len(orphans.killed_shims()) > before, 10, "a shim died there")
    assert len(orphans.killed_shims()) == before + 1


def gone(one, name):
    one.cli("vm", "delete", name, "--wait", "--timeout", f"{CONVERGES_S}s")
    until(lambda: not left_of(one, name), 20, f"nothing is left: {left_of(one, name)}")
    assert not monitors(one) and not [c for c in cgroups(one.id) if f"/{name}-1-" in c]


@pytest.mark.parametrize("place", BEGINNING if ALL else ["shim-cgroup", "shim-spawned"])
def test_a_shim_that_dies_while_it_begins_is_replaced_and_its_monitor_is_not_left(lone, orphans, place):
    before = len(orphans.killed_shims())
    lone.arm.write_text(place)
    name = f"b-{place}"
    with Census(lone) as census:
        lone.cli("vm", "create", name, "--microvm-config", HELLO, "--restart", "on-failure", "--wait",
                 "--timeout", f"{2 * CONVERGES_S}s")
        one_more(orphans, before)
        told = only(lone, name)
        assert int(told["epoch"]) == 2 and int(told["restarts"]) == 1, told
        assert len(monitors(lone)) == 1
        assert "its shim is gone" in lone.cli("events", "--for", f"vm/{name}", "-o", "json").stdout
        gone(lone, name)
    assert not census.twice and census.looks > 5


def test_a_shim_that_dies_when_nothing_restarts_it_is_said_and_all_it_had_is_gone(lone, orphans):
    before = len(orphans.killed_shims())
    lone.arm.write_text("shim-ready")
    lone.cli("vm", "create", "never", "--microvm-config", HELLO, "--restart", "never")
    lone.wait("never", "phase=Failed", timeout=f"{CONVERGES_S}s")
    one_more(orphans, before)
    assert "its shim is gone" in str(only(lone, "never")["reason"])
    assert not monitors(lone)
    gone(lone, "never")


def test_a_shim_that_dies_as_it_is_asked_to_stop_has_its_guest_stopped_all_the_same(lone, orphans):
    before = len(orphans.killed_shims())
    lone.arm.write_text("shim-stopping")
    lone.cli("vm", "create", "s-stopping", "--microvm-config", HELLO, "--restart", "on-failure", "--wait",
             "--timeout", f"{CONVERGES_S}s")
    lone.cli("vm", "stop", "s-stopping", "--wait", "--timeout", f"{CONVERGES_S}s")
    one_more(orphans, before)
    assert not monitors(lone), "it was killed with its control group"
    lone.cli("vm", "start", "s-stopping", "--wait", "--timeout", f"{CONVERGES_S}s")
    gone(lone, "s-stopping")


@pytest.mark.parametrize("place, how", HOW if ALL else USUAL)
def test_a_shim_that_dies_with_its_monitor_is_no_obstacle(lone, orphans, place, how):
    """Stopped in order; or its monitor is killed, and by the policy another takes its place."""
    before = len(orphans.killed_shims())
    lone.arm.write_text(place)
    name = f"e-{place[5:]}-{how}"
    with Census(lone) as census:
        lone.cli("vm", "create", name, "--microvm-config", HELLO, "--restart", "on-failure", "--wait",
                 "--timeout", f"{CONVERGES_S}s")
        ((pid,),) = monitors(lone).values()
        if how == "stopped":
            lone.cli("vm", "stop", name, "--wait", "--timeout", f"{CONVERGES_S}s")
            assert not monitors(lone)
            lone.cli("vm", "start", name, "--wait", "--timeout", f"{CONVERGES_S}s")
        else:
            os.kill(pid, signal.SIGKILL)
            until(lambda: int(only(lone, name)["restarts"]) == 1 and lone.get(name)["phase"] == "Running",
                  CONVERGES_S, f"{name} runs again\n{lone.nodes[0].log_end()}")
        one_more(orphans, before)
        assert not alive(pid)
        assert int(only(lone, name)["epoch"]) == 2
        gone(lone, name)
    assert not census.twice
    assert not [p for p in processes_of(lone.dir) if program(p) == "blixard-shim"]
