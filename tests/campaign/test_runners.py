"""That a second monitor of an instance is noticed, and that one after another is none."""

import subprocess

import pytest

import runners
from cluster import alive, until
from runners import Run


def start(flake, directory, node, epoch):
    work = directory / node / "vms/web-1-7/work"
    work.mkdir(parents=True, exist_ok=True)
    (work.parent / "lock").write_text(str(epoch))  # without an end of line, as the daemon writes it
    return subprocess.Popen([flake / "runner/bin/microvm-run"], cwd=work, stdout=subprocess.DEVNULL)


def test_a_second_monitor_of_an_instance_is_written_down_and_does_not_run(tmp_path):
    flake, shared = tmp_path / "flake", tmp_path / "shared"
    assert runners.make(flake, shared, "#!/bin/sh\nexec sleep 60\n") == f"path:{flake}#vm"
    first = start(flake, tmp_path, "n1", 3)
    try:
        until(lambda: runners.started(shared) == 1, 10, "it holds the lock")
        assert start(flake, tmp_path, "n2", 4).wait(10) == 1
        (line,) = runners.violations(shared)
        assert line.split()[:4] == ["twice", "web-1-7", "n2", "4"]
        what, instance, node, epoch, _, pid = (shared / "web-1-7.lock").read_text().split()
        assert (what, instance, node, epoch, pid) == ("start", "web-1-7", "n1", "3", str(first.pid))
    finally:
        first.kill()
        first.wait()
    # The lock is the process's: it is free as soon as that is gone.
    second = start(flake, tmp_path, "n2", 5)
    try:
        until(lambda: runners.started(shared) == 2, 10, "it runs elsewhere")
        assert len(runners.violations(shared)) == 1
        assert (shared / "web-1-7.lock").read_text().split()[2:4] == ["n2", "5"]
    finally:
        second.kill()
        second.wait()


def run(node, epoch, began, last, instance="web-1-7"):
    return Run(instance, node, epoch, began, last, 1)


@pytest.mark.parametrize("history, why", [
    ([run("n1", 1, 10, 20), run("n2", 2, 19.9, 30)], "two at the same time"),
    ([run("n2", 2, 19.9, 30), run("n1", 1, 10, 20)], "two at the same time"),
    ([run("n1", 1, 10, 40), run("n1", 1, 20, 30), run("n2", 2, 35, 36)], "two at the same time"),
    ([run("n1", 1, 10, 40), run("n2", 2, 39, 39.5)], "two at the same time"),
    ([run("n1", 2, 10, 20), run("n2", 1, 21, 30)], "an epoch that was over"),
    ([run("n1", 2, 10, 20), run("n1", 3, 21, 30), run("n1", 2, 31, 40)], "an epoch that was over"),
    ([run("n1", 2, 10, 20), run("n2", 2, 21, 30)], "one epoch on two nodes"),
])
def test_a_history_in_which_an_instance_ran_twice_is_said_to_be_one(history, why):
    assert any(line.startswith(why) for line in runners.doubles(history))


def test_a_history_of_failovers_that_waited_for_each_death_is_a_good_one():
    history = [run("n1", 1, 10, 20), run("n1", 1, 21, 30), run("n2", 2, 38.5, 50), run("n1", 3, 49.995, 60),
               run("n2", 1, 15, 45, "other-1-8")]
    assert runners.doubles(history) == []
    assert runners.failovers(history) == 2
    assert max(runners.gaps(history)) == 8.5


def test_an_observer_sees_how_long_each_monitor_lives_and_a_second_one_beside_it(tmp_path):
    """The second takes a lock of its own: only the history tells."""
    flakes, shared = [tmp_path / "flake", tmp_path / "other"], tmp_path / "shared"
    for flake in flakes:
        runners.make(flake, shared, "#!/bin/sh\nexec sleep 60\n")
    seen = runners.Observer(shared)
    seen.start()
    first = start(flakes[0], tmp_path, "n1", 3)
    second = None
    try:
        until(lambda: runners.started(shared) == 1, 10, "it holds the lock")
        (shared / "web-1-7.lock").unlink()
        second = start(flakes[1], tmp_path, "n2", 4)
        until(lambda: len(seen.live) == 2, 10, "both are seen")
        until(lambda: all(r.last > r.began + 0.2 for r in seen.runs()), 10, "for some time")
    finally:
        for one in filter(None, (first, second)):
            one.kill()
            one.wait()
    until(lambda: not seen.live, 10, "their ends are seen")
    seen.over.set()
    seen.join()
    assert not seen.error and not alive(first.pid)
    (line,) = runners.doubles(seen.runs())
    assert line.startswith("two at the same time")
    assert runners.violations(shared) == []
