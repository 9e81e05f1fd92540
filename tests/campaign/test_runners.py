"""That a second monitor of an instance is noticed, and that one after another is none."""

import subprocess

import runners
from cluster import until


def start(flake, directory, node):
    work = directory / node / "vms/web-1-7/work"
    work.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen([flake / "runner/bin/microvm-run"], cwd=work, stdout=subprocess.DEVNULL)


def test_a_second_monitor_of_an_instance_is_written_down_and_does_not_run(tmp_path):
    flake, shared = tmp_path / "flake", tmp_path / "shared"
    assert runners.make(flake, shared, "#!/bin/sh\nexec sleep 60\n") == f"path:{flake}#vm"
    first = start(flake, tmp_path, "n1")
    try:
        until(lambda: runners.started(shared) == 1, 10, "it holds the lock")
        assert start(flake, tmp_path, "n2").wait(10) == 1
        (line,) = runners.violations(shared)
        assert line.split()[:3] == ["twice", "web-1-7", "n2"]
    finally:
        first.kill()
        first.wait()
    # The lock is the process's: it is free as soon as that is gone.
    second = start(flake, tmp_path, "n2")
    try:
        until(lambda: runners.started(shared) == 2, 10, "it runs elsewhere")
        assert len(runners.violations(shared)) == 1
    finally:
        second.kill()
        second.wait()
