"""Programs one version of a protocol apart, as binaries (`make apart`): daemons are replaced while shims run on, guests
are built when they are. Starting, adopting and stopping works; what the other one cannot is said to be not
supported."""

import pytest

from cluster import BIN, EXIT_USAGE, HELLO, Cluster, end_guests, processes_of, program
from test_exec import execute
from test_failpoints import left_of, monitors

APART = BIN.parent / "tests/apart"


def one_with(flag, path):
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=2,memory_mib=1024")
    one.daemon_arguments[one.daemon_arguments.index(flag) + 1] = str(path)
    return one


def lives(one, runs_commands):
    """A VM from its creation to its end, with a daemon that is killed in between."""
    node = one.nodes[0]
    one.form()
    one.cli("vm", "create", "web", "--microvm-config", HELLO, "--restart", "on-failure", "--wait", "--timeout", "120s")
    before = one.get("web")["instances"][0]
    pids = monitors(one)

    def command():
        done = execute(node, "web", "--", "echo", "heard")
        if runs_commands:
            assert (done.returncode, done.stdout) == (0, b"heard\n"), done
        else:
            assert done.returncode == EXIT_USAGE, done
            assert b"UNSUPPORTED" in done.stderr and done.stderr.count(b"\n") == 1

    command()
    node.kill()
    node.start()
    one.wait_ready()
    one.wait("web", "phase=Running", timeout="60s")
    after = one.get("web")["instances"][0]
    assert (after["epoch"], after["restarts"]) == (before["epoch"], before["restarts"]) and monitors(one) == pids
    command()
    assert "hello from hello" in one.cli("vm", "logs", "web").stdout
    for verb in ("pause", "resume", "stop"):
        one.cli("vm", verb, "web", "--wait", "--timeout", "60s")
    told = one.get("web")["instances"][0]
    assert told["exit_status"] == 0 and not told.get("signal"), "in order, by its agent or its power button"
    one.cli("vm", "start", "web", "--wait", "--timeout", "120s")
    one.cli("vm", "delete", "web", "--wait", "--timeout", "60s")
    assert not left_of(one, "web")
    assert not [p for p in processes_of(one.dir) if program(p).startswith(("blixard-shim", "qemu"))]


@pytest.mark.parametrize("step", ["-1", "1"])
def test_a_shim_of_the_version_before_or_after_is_driven(step):
    one = one_with("--shim", APART / f"blixard-shim{step}")
    try:
        lives(one, runs_commands=False)
    finally:
        end_guests(one)
        one.close()


@pytest.mark.parametrize("step, runs_commands", [("-1", False), ("1", True)])
def test_an_agent_of_the_version_before_or_after_is_talked_to(step, runs_commands):
    one = one_with("--guest", APART / f"blixard-guest{step}")
    try:
        lives(one, runs_commands)
    finally:
        end_guests(one)
        one.close()
