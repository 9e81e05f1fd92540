"""Noise on a daemon's socket: random bytes, absurd frames, idle connections. Closed, without memory, others served."""

import json
import os
import random
import re
import resource
import socket
import stat

import grpc
import pytest

from cluster import until

GROWTH_MAX_KIB = 4096
MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
IDLE = 2000
# A ClientHello of TLS 1.0, as one would be sent by mistake; and one that says it is 16 MiB long.
TLS = (b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x01" + bytes(32) + b"\0\0\x04\0\x2f\0\x35\x01\0",
       b"\x16\x03\x01\xff\xff\x01\xff\xff\xff\x03\x01")


def rss_kib(node):
    with open(f"/proc/{node.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def descriptors(node):
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def connect(node):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(20)
    s.connect(str(node.socket))
    return s


def pour(node, head, noise):
    """Send until the daemon closes; how many bytes were given away."""
    given = 0
    with connect(node) as s:
        try:
            s.sendall(head)
            while given < len(noise):
                given += s.send(noise[given:given + 65536])
            while s.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    return given


def serves(node):
    return node.cli("--timeout", "5s", "vm", "list", check=False).returncode == 0


def test_ten_megabytes_of_noise_and_absurd_frames_change_nothing(shared):
    node = shared.nodes[0]
    noise = random.Random(1).randbytes(1 << 20)
    heads = [b"", MAGIC, MAGIC + SETTINGS, MAGIC + SETTINGS + b"\0\x40\0\0\0\0\0\0\1",
             MAGIC + SETTINGS + b"\x7f\xff\xff\6\0\0\0\0\0", MAGIC + SETTINGS + b"\0\0\4\3\0\0\0\0\0",
             b"GET / HTTP/1.1\r\n", *TLS]
    pour(node, b"", noise)
    assert serves(node)
    before, given, i = rss_kib(node), 0, 0
    while given < 10 << 20:
        given += pour(node, heads[i % len(heads)], noise)
        i += 1
    assert serves(node)
    assert rss_kib(node) <= before + GROWTH_MAX_KIB
    for hello in TLS:
        with connect(node) as s:
            s.sendall(hello)
            while s.recv(65536):  # what a server of HTTP/2 says first, perhaps, and the end
                pass
    counted = [int(n) for n in re.findall(r"closed a connection of .* number (\d+) so far: ", node.log.read_text())]
    assert counted == list(range(1, len(counted) + 1)) and len(counted) > 10


def test_two_thousand_idle_connections_are_cut_and_the_others_are_served(shared):
    node = shared.nodes[1]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    assert serves(node)
    before, files = rss_kib(node), descriptors(node)
    idle = [connect(node) for _ in range(IDLE)]
    try:
        for s in idle[::2]:
            s.send(MAGIC[:7])
        assert serves(node)
        assert rss_kib(node) <= before + GROWTH_MAX_KIB
        assert all(s.recv(1) == b"" for s in idle)
    finally:
        for s in idle:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: descriptors(node) <= files + 4, 10, "the daemon closes them, too")
    counted = re.findall(r"that said nothing in 5000 ms, number (\d+) so far", node.log.read_text())
    assert int(counted[-1]) >= IDLE
    assert serves(node)


def test_a_daemon_has_one_socket(shared):
    for node in shared.nodes:
        files = [p for p in node.dir.iterdir() if stat.S_ISSOCK(p.stat().st_mode)]
        assert files == [node.socket]


def say(node, *messages):
    """How a member's channel ends for a caller who says this."""
    with grpc.insecure_channel(f"unix:{node.socket}") as channel:
        call = channel.stream_stream("/blixard.v1.Member/Channel", request_serializer=lambda b: b,
                                     response_deserializer=lambda b: b)
        try:
            list(call(iter(messages), timeout=20))
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def term_of(node):
    return json.loads(node.cli("cluster", "status", "-o", "json").stdout)["term"]


def test_the_members_channel_is_for_members(shared, new_cluster):
    hello = b"\x0a\x20" + b"f" * 32 + b"\x10\x02\x18\x01"
    term = term_of(shared.nodes[0])
    for messages in ([hello], [hello, b"\x22\x04junk"], [b"\x22\x04junk"]):
        code, details = say(shared.nodes[0], *messages)
        assert code in ("ABORTED", "FAILED_PRECONDITION") and "another cluster" in details
    assert say(shared.nodes[0], b"\xff\xff")[0] == "INVALID_ARGUMENT"
    assert say(shared.nodes[0]) == ("OK", "")
    outside = new_cluster().nodes[0]
    outside.start()
    assert say(outside, hello) == ("UNAVAILABLE", "daemon n1 is in no cluster yet")
    assert term_of(shared.nodes[0]) == term
