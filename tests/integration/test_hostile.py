"""Hostile callers against daemons: each act has one clear outcome, nothing is made or left, and the daemon goes on."""

import grpc
import pytest

from cluster import HELLO, until

BLIXARD, MEMBER = "/blixard.v1.Blixard/", "/blixard.v1.Member/"


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def part(number, value):
    """One protobuf field: text, bytes or a nested message when it is bytes or str, else a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def raw(node, path, body, metadata=()):
    """A call with any bytes as its request: (gRPC status, sentence, Blixard's code)."""
    with grpc.insecure_channel(f"unix:{node.socket}") as channel:
        call = channel.unary_unary(path, request_serializer=lambda b: b, response_deserializer=lambda b: b)
        try:
            call(body, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details(), dict(error.trailing_metadata() or ()).get("blixard-code")
    return "OK", "", ""


def create_body(name, *more_spec, more=b""):
    return part(1, part(1, name) + b"".join(more_spec)) + part(2, HELLO.read_bytes()) + more


@pytest.fixture(autouse=True)
def daemons_stay_up(request):
    yield
    if "shared" in request.fixturenames:
        shared = request.getfixturevalue("shared")
        assert [n.process.poll() for n in shared.nodes] == [None, None, None]


# ---- what one request could do to everybody


NEWER_LABEL = part(10, part(1, "key") + part(98, 1))


@pytest.mark.parametrize("newer", [part(99, "of a newer version"), NEWER_LABEL])
def test_a_field_of_a_newer_version_is_refused_before_it_is_committed(shared, newer):
    """Committed, it would stop every member at that entry, at each of their starts."""
    status, sentence, code = raw(shared.nodes[1], BLIXARD + "VmCreate", create_body("unknown", newer))
    assert (status, code) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert "spec" in sentence and "leave it out" in sentence
    _, _, code = raw(shared.nodes[0], MEMBER + "Report", part(1, 1) + part(3, part(1, 5) + part(97, 1)))
    assert code == "UNSUPPORTED"
    assert "unknown" not in shared.names()


def test_a_field_of_a_newer_version_is_refused_in_changes_and_ignored_in_reads(shared):
    assert raw(shared.nodes[0], BLIXARD + "VmCreate", create_body("beside", more=part(99, 1)))[2] == "UNSUPPORTED"
    assert raw(shared.nodes[0], BLIXARD + "VmDelete", part(1, "beside") + part(99, 1))[2] == "UNSUPPORTED"
    assert raw(shared.nodes[0], BLIXARD + "VmGet", part(1, "beside") + part(99, 1))[2] == "NOT_FOUND"


def test_labels_that_no_sentence_holds_whole_do_not_stop_the_scheduler(shared):
    """The sentence of what is missing is cut inside one of their characters."""
    for name, key in (("accents-a", "k"), ("accents-b", "kk")):
        selector = f"{key}={'é' * 126}"
        shared.cli("vm", "create", name, "--microvm-config", HELLO, "--node-selector", selector)
        until(lambda: shared.get(name)["reason"]["code"] == "NoRoom", 20, "the scheduler says what is missing")
    assert shared.create("after-accents")["phase"] == "Running"


# ---- requests that make no sense


@pytest.mark.parametrize("path, body, field", [
    ("VmGet", b"", "name"),
    ("VmStart", b"", "name"),
    ("VmStop", b"", "name"),
    ("VmDelete", b"", "name"),
    ("VmLogs", b"", "name"),
    ("VmGet", part(1, "../x"), "name"),
    ("VmDelete", part(1, "-rf"), "name"),
    ("VmStop", part(1, "\U0001f600"), "name"),
    ("VmDelete", part(1, "a") + part(2, "key\nwith a line"), "request_id"),
    ("VmGet", part(1, "a") + part(4, "../b"), "tenant"),
    ("VmCreate", b"", "spec"),
    ("VmCreate", part(1, b""), "spec.name"),
    ("VmCreate", create_body("x", part(7, 2**31)), "spec.memory_mib"),
    ("ClusterJoin", part(1, "../x") + part(2, "unix:/tmp/none"), "node_id"),
    ("ClusterJoin", part(2, "unix:./none"), "address"),
    ("ClusterInit", part(1, "../x"), "name"),
])
def test_requests_outside_their_limits_name_the_field(shared, path, body, field):
    before = shared.names()
    status, sentence, code = raw(shared.nodes[0], BLIXARD + path, body)
    assert (status, code) == ("INVALID_ARGUMENT", "INVALID"), sentence
    assert sentence.startswith(f"{field}:")
    assert shared.names() == before


@pytest.mark.parametrize("path, body", [
    ("MemberJoin", b""),
    ("MemberJoin", part(1, b"")),
    ("MemberJoin", part(1, part(1, "../x"))),
    ("MemberInvite", b""),
    ("MemberReady", part(1, 77)),
    ("Report", part(1, 77) + part(4, part(2, 77))),
])
def test_calls_between_members_are_checked_like_any_other(shared, path, body):
    assert raw(shared.nodes[0], MEMBER + path, body)[2] in ("INVALID", "NOT_FOUND")
    assert {n["name"] for n in shared.json("node", "list")["nodes"]} == {"n1", "n2", "n3"}


@pytest.mark.parametrize("path, body", [
    ("VmCreate", create_body("other", more=part(5, "acme"))),
    ("VmGet", part(1, "other") + part(4, "acme")),
    ("VmList", part(1, "acme")),
])
def test_other_tenants_are_not_supported_yet(shared, path, body):
    status, sentence, code = raw(shared.nodes[0], BLIXARD + path, body)
    assert (status, code) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert "tenant" in sentence


def test_a_principal_of_any_length_is_refused_or_kept_never_fatal(shared):
    principal = (("blixard-principal", "x" * 9000),)
    assert raw(shared.nodes[0], BLIXARD + "VmCreate", create_body("p"), principal)[2] == "INVALID"
