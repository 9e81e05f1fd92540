"""Commands and a console in a real guest: one daemon, a runner by Nix, QEMU."""

import os
import signal
import subprocess
import time

import pytest

from cluster import EXIT_NOT_FOUND, EXIT_RETRY, HELLO, Cluster, end_guests, processes_of, until
from test_exec import Terminal, begin, execute, told


@pytest.fixture(scope="module")
def guest():
    """The node that the guest runs on."""
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=2,memory_mib=1024")
    try:
        one.form()
        one.create("hello")
        yield one.nodes[0]
        one.delete_all()
        assert not any("qemu-system" in arguments for arguments in processes_of(one.dir).values())
    finally:
        end_guests(one)
        one.close()


def test_a_command_says_its_words_and_its_status_comes_back(guest):
    done = execute(guest, "hello", "--", "echo", "hello", "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello there\n", b"")
    assert execute(guest, "hello-1", "--", "sh", "-c", "exit 7").returncode == 7
    assert execute(guest, "hello", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_its_errors_stay_apart_from_its_output(guest):
    done = execute(guest, "hello", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    done = execute(guest, "hello", "--", "no-such-program")
    assert done.returncode == EXIT_NOT_FOUND
    assert done.stderr.startswith(b"blixard: ")


def test_what_is_piped_in_comes_back_whole(guest):
    data = os.urandom(256 << 10)
    done = execute(guest, "hello", "-i", "--", "cat", data=data, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_a_command_without_stdin_reads_the_end(guest):
    assert execute(guest, "hello", "--", "cat").returncode == 0


def test_a_command_ends_with_the_cli(guest):
    caller = begin(guest, "exec", "hello", "--", "sh", "-c", "echo $$; exec sleep 1000", stdout=subprocess.PIPE)
    pid = caller.stdout.readline().decode().strip()
    assert execute(guest, "hello", "--", "test", "-d", f"/proc/{pid}").returncode == 0
    caller.kill()
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + 20
    while execute(guest, "hello", "--", "test", "-d", f"/proc/{pid}").returncode == 0:
        assert time.monotonic() < deadline, "it runs on"
    assert told(guest, "its caller went away") >= 1


def test_a_command_with_a_terminal_has_one_of_this_size(guest):
    one = Terminal(guest, "exec", "hello", "-it", "--", "sh", "-c", "tty; stty size; read line; echo got $line")
    try:
        one.expect(b"/dev/")
        one.expect(b"40 100")
        one.type(b"this\r")
        one.expect(b"got this")
        assert one.end() == 0
    finally:
        one.close()


def test_a_guest_that_nobody_waits_for_runs_commands_if_it_has_an_agent(guest):
    """Of a VM that is ready without saying so the shim asks no agent, until a command wants one."""
    one = guest.cluster
    one.cli("vm", "create", "quiet", "--microvm-config", HELLO, "--ready-none", "--wait", "--timeout", "60s")
    try:
        refusals = []

        def answered():
            done = execute(guest, "quiet", "--", "echo", "I am here")
            if done.returncode != 0:  # it boots still
                assert b"no blixard-guest answers" in done.stderr, done.stderr
                refusals.append(done)
            return done.stdout == b"I am here\n"

        until(answered, 60, "its agent answers")
        assert one.get("quiet")["phase"] == "Running" and len(refusals) < 10
        assert execute(guest, "quiet", "-i", "--", "cat", data=b"and stay").stdout == b"and stay"
    finally:
        one.cli("vm", "delete", "quiet", "--wait", "--timeout", "60s")


def test_output_that_nobody_reads_stops_its_command_and_no_other(guest):
    flood = begin(guest, "exec", "hello", "--", "yes", stdout=subprocess.PIPE)
    try:
        assert flood.stdout.read(2) == b"y\n"
        os.kill(flood.pid, signal.SIGSTOP)
        time.sleep(2)
        began = time.monotonic()
        assert execute(guest, "hello", "--", "echo", "served").stdout == b"served\n"
        assert time.monotonic() - began < 20
        os.kill(flood.pid, signal.SIGCONT)
        assert flood.stdout.read(1 << 20) == b"y\n" * (1 << 19)
    finally:
        flood.kill()
        flood.wait()
        flood.stdout.close()


def test_more_commands_than_a_guest_runs_are_busy(guest):
    callers = [begin(guest, "exec", "hello", "-i", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE) for _ in range(30)]
    try:
        until(lambda: sum(c.poll() is not None for c in callers) >= 22, 60, "the others are refused")
        refused = [c for c in callers if c.poll() is not None]
        assert len(refused) == 22
        assert all(c.returncode == EXIT_RETRY and b"[BUSY]" in c.stderr.read() for c in refused)
        for caller in callers:
            if caller not in refused:
                assert caller.communicate(b"there\n", timeout=60)[0] == b"there\n" and caller.returncode == 0
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
            for pipe in (caller.stdin, caller.stdout, caller.stderr):
                pipe.close()


def test_a_restart_in_the_middle_ends_a_command_with_a_sentence(guest):
    caller = begin(guest, "exec", "hello", "--", "sh", "-c", "echo on; exec sleep 1000", stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE)
    assert caller.stdout.readline() == b"on\n"
    guest.cluster.cli("vm", "restart", "hello", "--force", "--wait", "--timeout", "120s")
    _, text = caller.communicate(timeout=20)
    assert caller.returncode == EXIT_RETRY and text.count(b"\n") == 1 and b"[UNAVAILABLE]" in text, text
    assert execute(guest, "hello", "--", "echo", "again").stdout == b"again\n"


def test_the_console_answers_a_line(guest):
    one = Terminal(guest, "console", "hello")
    try:
        one.expect(b"connected to hello-1, Ctrl-] leaves")
        one.type(b"\r")
        time.sleep(2)
        one.type(b"echo answer-$((40 + 2))\r")
        one.expect(b"answer-42")
        one.type(b"exit\r\x1d")
        assert one.end() == 0
    finally:
        one.close()
