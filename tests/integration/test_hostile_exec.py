"""Callers of commands, consoles and logs that ask for what cannot be, or leave at the worst moment. Simulated
guests."""

import os
import signal
import subprocess
import time

import pytest

from cluster import BIN, EXIT_RETRY, EXIT_USAGE, Cluster, until
from test_exec import Terminal, begin, environment, execute, rss_kib, told


@pytest.fixture(scope="module")
def pair():
    one = Cluster(names=("n1", "n2"))
    try:
        one.form()
        one.create("web")
        known(one, "web")
        yield one
    finally:
        one.close()


def known(one, name):
    """A member answers from what it has applied, which may be a moment behind what the leader said."""
    for node in one.nodes:
        until(lambda: execute(node, name, "--", "echo", "x").returncode == 0, 10, f"{node.name} knows that {name} runs")


def said_once(done):
    return done.stderr.startswith(b"blixard: ") and done.stderr.count(b"\n") == 1


def serves(one):
    for node in one.nodes:
        done = execute(node, "web", "--", "echo", "served")
        assert done.stdout == b"served\n", done


@pytest.mark.parametrize("words", [
    ["echo", *["x"] * 10000], ["x" * (100 << 10)], ["echo", "y" * (100 << 10)], [""], ["", "echo"],
    ["echo", b"\xff\xfe"], ["echo", "\x1b[2J"], ["/" * 2040], ["."], ["echo", *[""] * 62],
], ids=range(10))
def test_words_that_cannot_be_are_refused_in_one_line_or_run(pair, words):
    for node in pair.nodes:
        done = execute(node, "web", "--", *words, timeout=20)
        assert done.returncode == 0 or (said_once(done) and b"\x1b" not in done.stderr), done
    serves(pair)


def test_more_commands_than_there_may_be_are_busy_and_the_others_run(pair):
    owner = pair.node(pair.get("web")["instances"][0]["node"])
    before = told(owner, "begun")
    callers = [begin(pair.nodes[i % 2], "exec", "web", "-i", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE) for i in range(100)]
    try:
        until(lambda: told(owner, "begun") - before + sum(c.poll() is not None for c in callers) >= 100, 60,
              "each was answered")
        refused = [c for c in callers if c.poll() is not None]
        assert 1 <= len(refused) <= 60
        for caller in refused:
            assert caller.returncode == EXIT_RETRY and b"[BUSY]" in caller.stderr.read()
        running = [c for c in callers if c.poll() is None]
        for caller in running:
            out, _ = caller.communicate(b"there\n", timeout=30)
            assert (caller.returncode, out) == (0, b"there\n")
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
            for pipe in (caller.stdin, caller.stdout, caller.stderr):
                pipe.close()
    serves(pair)


@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("how", [
    ("vm", "stop", "gone", "--wait"), ("vm", "kill", "gone", "--wait"), ("vm", "restart", "gone", "--force", "--wait"),
    ("vm", "delete", "gone", "--wait"),
], ids=lambda words: words[1])
def test_an_instance_that_goes_in_the_middle_ends_its_commands_with_a_sentence(pair, how, asked):
    pair.create("gone")
    known(pair, "gone")
    owner = pair.node(pair.get("gone")["instances"][0]["node"])
    before = told(owner, "begun")
    pipe = subprocess.PIPE
    callers = [begin(pair.nodes[asked], "exec", "gone", "--", "yes", stdout=pipe, stderr=pipe),
               begin(pair.nodes[asked], "exec", "gone", "-i", "--", "cat", stdin=pipe, stderr=pipe)]
    try:
        assert callers[0].stdout.read(4) == b"y\ny\n"
        callers[1].stdin.write(b"x" * 1000)
        callers[1].stdin.flush()
        until(lambda: told(owner, "begun") == before + 2, 10, "both run")
        pair.cli(*how)
        for caller in callers:
            _, text = caller.communicate(timeout=20)
            assert caller.returncode == EXIT_RETRY and text.count(b"\n") == 1 and b"[UNAVAILABLE]" in text, text
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
        if "gone" in pair.names():
            pair.cli("vm", "delete", "gone", "--wait")
    serves(pair)


def test_a_reader_that_stands_still_costs_a_bounded_memory_and_goes_on_where_it_was(pair):
    before = [rss_kib(node) for node in pair.nodes]
    reader = begin(pair.nodes[0], "exec", "web", "--", "yes", stdout=subprocess.PIPE)
    try:
        assert reader.stdout.read(2) == b"y\n"
        os.kill(reader.pid, signal.SIGSTOP)
        time.sleep(3)
        for node, kib in zip(pair.nodes, before):
            assert rss_kib(node) < kib + 8192
        serves(pair)
        os.kill(reader.pid, signal.SIGCONT)
        assert reader.stdout.read(8 << 20) == b"y\n" * (4 << 20)
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()


def test_consoles_of_callers_that_are_killed_are_given_back(pair):
    for _ in range(10):
        two = [Terminal(pair.nodes[i], "console", "web") for i in range(2)]
        try:
            for one in two:
                one.expect(b"connected to web-1")
                one.type(b"hello\r")
                one.expect(b"hello")
            for one in two:
                one.process.send_signal(signal.SIGKILL)
                one.process.wait()
        finally:
            for one in two:
                one.close()
    owner = pair.node(pair.get("web")["instances"][0]["node"])
    until(lambda: told(owner, "the console in web-1 .*: begun") <= told(owner, "the console in web-1 .*went away"), 10,
          "each is left")
    serves(pair)


@pytest.mark.parametrize("since", ids=range(15), argvalues=[
    "", "-1", "1", "1x", "nan", "inf", "1e9h", "99999999999999999999s", "1h-1m", "yesterday", "2026-13-01T00:00:00Z",
    "2026-01-01", "2026-01-01T00:00:00+99:00", "\x1b[2J", "1h" * 500 + "x",
])
def test_a_since_that_makes_no_sense_is_refused_in_one_line(pair, since):
    done = subprocess.run([BIN / "blixard", "vm", "logs", "web", "--since", since], env=environment(pair.nodes[0]),
                          capture_output=True, timeout=20)
    assert done.returncode == EXIT_USAGE and said_once(done) and b"\x1b" not in done.stderr, done


def test_a_terminal_is_asked_for_where_there_is_none(pair):
    """The command gets one all the same, of 24 lines and 80 columns; what is piped in is typed."""
    done = execute(pair.nodes[0], "web", "-it", "--", "size")
    assert (done.returncode, done.stdout) == (0, b"24 80\n"), done
    nothing = subprocess.run([BIN / "blixard", "vm", "exec", "web", "-it", "--", "echo", "hi"],
                             env=environment(pair.nodes[0]), stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert (nothing.returncode, nothing.stdout) == (0, b"hi\n"), nothing
    closed = subprocess.run(["sh", "-c", f"exec {BIN}/blixard vm exec web -it -- echo hi <&-"],
                            env=environment(pair.nodes[0]), capture_output=True, timeout=20)
    assert closed.returncode == 0 and closed.stdout == b"hi\n", closed


def test_a_storm_of_sizes_ends_with_the_last_one(pair):
    one = Terminal(pair.nodes[1], "exec", "web", "-it", "--", "size")
    try:
        one.expect(b"40 100")
        for i in range(400):
            one.resize(10 + i % 50, 20 + i)
            one.process.send_signal(signal.SIGWINCH)
        one.resize(33, 77)
        one.process.send_signal(signal.SIGWINCH)
        one.expect(b"33 77")
        assert one.process.poll() is None
        one.process.send_signal(signal.SIGTERM)
        assert one.end() == 128 + signal.SIGTERM
    finally:
        one.close()
