"""Commands in guests and consoles: real daemons, simulated guests, whose commands lib/vm/sim_session.c lists."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import grpc
import pytest

from cluster import BIN, BUILD, EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_RETRY, EXIT_USAGE, Cluster, Node, alive, until
from stock import Stub

MIB = 1 << 20


@pytest.fixture(scope="module")
def four():
    """Three servers and a worker, with an instance on each."""
    one = Cluster()
    try:
        one.form()
        worker = Node(one, "w1")
        worker.start()
        worker.cli("cluster", "join", "--address", f"unix:{one.nodes[0].socket}", "--worker")
        one.nodes.append(worker)
        one.wait_ready()
        for node in one.nodes:
            one.cli("node", "label", node.name, f"at={node.name}")
            one.create(f"on-{node.name}", "--node-selector", f"at={node.name}")
        one.create("many", "--replicas", "3")
        yield one
    finally:
        one.close()


def environment(node):
    return {"PATH": os.environ["PATH"], "HOME": "/", "BLIXARD_SOCKET": str(node.socket)}


def execute(node, *arguments, data=b"", timeout=60):
    return subprocess.run(
        [str(BIN / "blixard"), "vm", "exec", *arguments],
        env=environment(node),
        input=data,
        capture_output=True,
        timeout=timeout,
    )


def begin(node, *arguments, **more):
    """A CLI that goes on, and what runs it."""
    return subprocess.Popen([str(BIN / "blixard"), "vm", *arguments], env=environment(node), **more)


def told(node, text):
    """How often a node's log says so of its commands and consoles."""
    return len(re.findall(f" exec: .*{text}", node.log.read_text()))


def rss_kib(node):
    with open(f"/proc/{node.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_a_command_runs_wherever_its_instance_is_and_whoever_is_asked(four):
    for asked in four.nodes:
        for there in four.nodes:
            done = execute(asked, f"on-{there.name}", "--", "echo", "from", asked.name)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"from {asked.name}\n".encode(), b""), there.name
            assert execute(asked, f"on-{there.name}-1", "--", "exit", "7").returncode == 7


def test_the_exit_status_is_the_commands_and_its_errors_stay_apart(four):
    node = four.nodes[0]
    for status in (0, 1, 255):
        assert execute(node, "on-n2", "--", "exit", str(status)).returncode == status
    assert execute(node, "on-n2", "--", "fail-with-signal", "9").returncode == 137
    done = execute(node, "on-n2", "warn", "--help", "me")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"--help me\n")


@pytest.mark.parametrize("asked,there", [("n1", "n1"), ("n1", "n2"), ("n1", "w1"), ("w1", "n2"), ("w1", "w1")])
def test_what_is_piped_in_comes_back_whole(four, asked, there):
    data = os.urandom(4 * MIB)
    done = execute(four.node(asked), f"on-{there}", "-i", "--", "cat", data=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


@pytest.mark.parametrize("asked,there", [("n1", "n1"), ("n1", "n2"), ("w1", "n2")])
def test_a_slow_reader_gets_all_of_it(four, asked, there, tmp_path):
    data = os.urandom(24 * MIB)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as source:
        caller = begin(four.node(asked), "exec", f"on-{there}", "-i", "--", "cat", stdin=source, stdout=subprocess.PIPE)
        time.sleep(1)
        assert source.tell() < len(data), "every queue is full, and so the input rests"
        assert caller.stdout.read() == data
    assert caller.wait(10) == 0
    caller.stdout.close()


def test_without_stdin_the_input_is_empty(four):
    done = execute(four.nodes[0], "on-n2", "--", "cat", data=b"not for it")
    assert (done.returncode, done.stdout) == (0, b"")


def test_what_cannot_run_is_refused_with_the_next_step(four):
    node = four.nodes[0]

    def refused(status, text, *arguments):
        done = execute(node, *arguments)
        assert done.returncode == status, done
        assert done.stderr.startswith(b"blixard: ") and done.stderr.count(b"\n") == 1
        assert text in done.stderr.decode(), done.stderr

    refused(EXIT_NOT_FOUND, 'no VM or instance "nowhere"', "nowhere", "--", "echo")
    refused(EXIT_USAGE, "name one of many-1, many-2, many-3", "many", "--", "echo")
    refused(EXIT_NOT_FOUND, "no such program", "many-2", "--", "no-such-program")
    refused(EXIT_USAGE, "NAME [flags] -- COMMAND [ARG...] is missing", "many-2")
    refused(EXIT_USAGE, "name the command", "many-2", "--", "")
    refused(EXIT_USAGE, "over the limit of 2048", "many-2", "--", "echo", "x" * 2040, "yyy")
    refused(EXIT_USAGE, "one word too many", "many-2", "--", "echo", *["x"] * 64)
    refused(EXIT_USAGE, "there is no flag", "many-2", "-x", "--", "echo")
    four.cli("vm", "create", "idle", "--flake", "path:/nowhere#idle", "--memory", "128", "--vcpus", "1", "--stopped")
    refused(EXIT_CONFLICT, "`blixard vm start idle --wait` first", "idle", "--", "echo")
    four.cli("vm", "delete", "idle", "--wait")


def test_a_reader_that_stops_stops_its_command_and_nothing_else(four):
    asked, there = four.node("n1"), four.node("n2")
    before = {node.name: rss_kib(node) for node in (asked, there)}
    readers = [begin(asked, "exec", "on-n2", "--", "yes", stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for reader in readers:
            assert reader.stdout.read(4) == b"y\ny\n"
        until(lambda: told(there, "begun") >= 4, 10, "they run")
        time.sleep(1)
        full = {node.name: rss_kib(node) for node in (asked, there)}
        time.sleep(2)
        for node in (asked, there):
            assert rss_kib(node) <= full[node.name] + 1024, "it is full by now"
            if "asan" not in BUILD.parts:  # which keeps for a while what was freed
                assert full[node.name] < before[node.name] + 4 * 6 * 1024
        assert execute(asked, "on-n2", "--", "echo", "served").stdout == b"served\n"
    finally:
        gone = told(there, "its caller went away")
        for reader in readers:
            reader.kill()
            reader.wait()
            reader.stdout.close()
    until(lambda: told(there, "its caller went away") == gone + 4, 10, "the commands end with their callers")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_cli_ends_the_command(four, how):
    there = four.node("w1")
    began, gone = told(there, "begun"), told(there, "its caller went away")
    caller = begin(four.node("n1"), "exec", "on-w1", "-i", "--", "cat", stdin=subprocess.PIPE)
    until(lambda: told(there, "begun") == began + 1, 10, "it began")
    caller.send_signal(how)
    assert caller.wait(10) == (-how if how == signal.SIGKILL else 128 + how)
    caller.stdin.close()
    until(lambda: told(there, "its caller went away") == gone + 1, 10, "the command is gone")


def test_output_that_nobody_reads_any_more_ends_it(four):
    caller = begin(four.node("n1"), "exec", "on-n2", "--", "yes", stdout=subprocess.PIPE)
    assert caller.stdout.read(2) == b"y\n"
    caller.stdout.close()
    assert caller.wait(10) == 0


# ---- terminals


class Terminal:
    """The CLI on a terminal of its own, of which this is the other side."""

    def __init__(self, node, *arguments, rows=40, columns=100):
        self.ours, theirs = pty.openpty()
        self.path = os.ttyname(theirs)
        self.theirs = theirs
        self.resize(rows, columns)
        self.before = termios.tcgetattr(theirs)
        self.text = b""
        self.process = begin(
            node, *arguments, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: self.own(theirs)
        )

    @staticmethod
    def own(fd):
        os.setsid()
        fcntl.ioctl(fd, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.ours, text)

    def expect(self, text, seconds=20):
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text} is not in {self.text}"
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 4096)

    def is_raw(self):
        return termios.tcgetattr(self.theirs)[3] & (termios.ICANON | termios.ECHO | termios.ISIG) == 0

    def end(self):
        """Its exit status; the terminal must be as it was."""
        status = self.process.wait(10)
        assert termios.tcgetattr(self.theirs) == self.before
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal():
    made = []

    def make(*arguments, **more):
        made.append(Terminal(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_command_gets_this_terminal_and_gives_it_back(four, terminal):
    one = terminal(four.node("n1"), "exec", "on-n2", "-it", "--", "cat")
    until(one.is_raw, 10, "the terminal is handed through")
    one.type(b"\x03not the end\r")
    one.expect(b"\x03not the end\r")
    one.process.terminate()
    assert one.end() == 128 + signal.SIGTERM


def test_its_terminal_has_the_size_of_this_one(four, terminal):
    one = terminal(four.node("n1"), "exec", "on-w1", "-it", "--", "size")
    one.expect(b"40 100")
    one.resize(50, 120)
    one.expect(b"50 120")
    one.process.send_signal(signal.SIGHUP)
    assert one.end() == 128 + signal.SIGHUP


@pytest.mark.parametrize("arguments,status", [(("exit", "7"), 7), (("no-such-program",), EXIT_NOT_FOUND)])
def test_the_terminal_is_given_back_however_it_ends(four, terminal, arguments, status):
    one = terminal(four.node("n1"), "exec", "on-n2", "-it", "--", *arguments)
    assert one.end() == status


def test_the_terminal_is_given_back_when_the_instance_goes(four, terminal):
    four.create("brief")
    one = terminal(four.node("n1"), "exec", "brief", "-it", "--", "cat")
    until(one.is_raw, 10, "the terminal is handed through")
    four.cli("vm", "delete", "brief", "--wait")
    assert one.end() == EXIT_RETRY
    one.expect(b"the guest of brief-1 is gone [UNAVAILABLE]")


def test_a_console_answers_and_is_left_by_its_key(four, terminal):
    one = terminal(four.node("n1"), "console", "on-w1")
    one.expect(b"connected to on-w1-1, Ctrl-] leaves")
    until(one.is_raw, 10, "the terminal is handed through")
    one.type(b"hello\r")
    one.expect(b"\nhello\r")
    one.type(b"\x1d")
    assert one.end() == 0
    assert four.get("on-w1")["phase"] == "Running"


def test_a_console_in_a_pipe_ends_with_its_input_or_its_instance(four):
    done = subprocess.run(
        [str(BIN / "blixard"), "vm", "console", "on-n3"],
        env=environment(four.node("n1")),
        input=b"one\ntwo\n",
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\ntwo\n", b"")
    four.create("brief")
    caller = begin(four.node("n1"), "console", "brief", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    caller.stdin.write(b"hello\n")
    caller.stdin.flush()
    assert caller.stdout.readline() == b"hello\n"
    four.cli("vm", "delete", "brief", "--wait")
    assert caller.wait(10) == 0
    caller.stdin.close()
    caller.stdout.close()


# ---- stock gRPC


def test_a_stock_client_runs_a_command(four, messages):
    request = messages.VmExecRequest(name="on-n2", argv=["cat"])
    with Stub(messages, four.node("n1").socket) as stub:
        inputs = [
            messages.VmExecInput(request=request),
            messages.VmExecInput(data=b"hello "),
            messages.VmExecInput(data=b"there"),
        ]
        first, *more, last = list(stub.exec(iter(inputs)))
        assert first.instance == "on-n2-1"
        assert b"".join(m.out for m in more) == b"hello there"
        assert (last.ended, last.exit_status, last.signal) == (True, 0, 0)


def test_a_stock_client_that_breaks_the_rules_is_told(four, messages):
    def refused(*inputs):
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.exec(iter(inputs)))
        return caught.value.code(), caught.value.details()

    make = messages.VmExecInput
    request = messages.VmExecRequest(name="on-n2", argv=["cat"])
    both = messages.VmExecRequest(name="on-n2", argv=["cat"], console=True)
    other = messages.VmExecRequest(name="on-n2", argv=["cat"], tenant="other")
    bad = messages.VmExecRequest(name="on-n2", argv=["cat"], tenant="../n2")
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    with Stub(messages, four.node("n1").socket) as stub:
        assert refused() == (invalid, "the call ended before its request came")
        assert refused(make(data=b"x"))[0] == invalid
        assert refused(make(request=request), make(request=request))[0] == invalid
        assert refused(make(request=request), make(data=b"x" * 32769))[0] == invalid
        assert refused(make(request=request), make(data=b"x" * MIB))[0] == invalid
        assert refused(make(request=both))[0] == invalid
        assert refused(make(request=messages.VmExecRequest(argv=["cat"])))[0] == invalid
        assert refused(make(request=bad))[0] == invalid
        code, sentence = refused(make(request=other))
        assert code == grpc.StatusCode.NOT_FOUND
        assert sentence.startswith('there is no VM or instance "on-n2" in tenant other:')


# ---- what goes away


def test_a_node_that_does_not_answer_is_not_waited_for_longer_than_told(new_cluster):
    one = new_cluster().form()
    for node in one.nodes:
        one.cli("node", "label", node.name, f"at={node.name}")
    still = next(n for n in one.nodes if n.name != one.leader().name)
    one.create("web", "--node-selector", f"at={still.name}")
    asked = next(n for n in one.nodes if n.name != still.name)
    still.process.send_signal(signal.SIGSTOP)
    try:
        done = execute(asked, "web", "--timeout", "1s", "--", "echo")
        assert done.returncode == EXIT_RETRY
        assert "was not reached within 1.0 s" in done.stderr.decode()
    finally:
        still.process.send_signal(signal.SIGCONT)


def test_a_node_that_is_away_is_named(new_cluster):
    one = new_cluster().form()
    for node in one.nodes:
        one.cli("node", "label", node.name, f"at={node.name}")
    away = next(n for n in one.nodes if n.name != one.leader().name)
    one.create("web", "--node-selector", f"at={away.name}")
    asked = next(n for n in one.nodes if n.name != away.name)
    caller = begin(asked, "exec", "web", "-i", "--", "cat", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: told(away, "begun") == 1, 10, "it runs")
    away.kill()
    assert caller.wait(10) == EXIT_RETRY
    assert f"node {away.name}, by which web-1 is reached, does not answer" in caller.stderr.read().decode()
    caller.stdin.close()
    caller.stderr.close()
    done = execute(asked, "web", "--", "echo")
    assert done.returncode == EXIT_RETRY
    assert f"node {away.name}, by which web-1 is reached, does not answer" in done.stderr.decode()
    assert alive(asked.pid)
