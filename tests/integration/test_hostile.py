"""Hostile callers against daemons: each act has one clear outcome, nothing is made or left, and the daemon goes on."""

import concurrent.futures
import os
import socket
import struct
import subprocess

import grpc
import pytest

from cluster import (BIN, EXIT_CONFLICT, EXIT_DENIED, EXIT_NOT_FOUND, EXIT_RETRY, EXIT_USAGE, HELLO, ROOT, Cluster,
                     parallel, processes_of, until)

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
    ("VmGet", part(1, "a\0b"), "name"),
    ("VmCreate", create_body("a\0b"), "spec.name"),
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
    ("VmCreate", create_body("other", more=part(5, "../acme"))),
    ("VmCreate", create_body("other", more=part(5, "a" * 57))),
    ("VmList", part(1, "Acme")),
    ("VmList", part(1, "a" * 57)),
    ("Watch", part(2, "a/b")),
    ("VmLogs", part(1, "other") + part(4, "-")),
    ("VmExplain", part(1, "other") + part(2, "a b")),
    ("Capacity", part(1, part(1, "x")) + part(3, "a\nb")),
    ("QuotaSet", part(1, part(1, "a_b"))),
    ("VmPlan", part(1, create_body("other", more=part(5, "a.b")))),
])
def test_tenants_of_no_name_are_refused_with_their_field(shared, path, body):
    status, sentence, code = raw(shared.nodes[0], BLIXARD + path, body)
    assert (status, code) == ("INVALID_ARGUMENT", "INVALID")
    assert "tenant" in sentence


def test_a_principal_of_any_length_is_refused_or_kept_never_fatal(shared):
    principal = (("blixard-principal", "x" * 9000),)
    assert raw(shared.nodes[0], BLIXARD + "VmCreate", create_body("p"), principal)[2] == "INVALID"


# ---- joins that go wrong


def test_a_join_that_was_refused_leaves_the_daemon_as_it_was(new_cluster):
    cluster = new_cluster(("n1", "n2"))
    first, second = cluster.nodes
    first.start("--bootstrap")
    second.start()
    address = f"unix:{first.socket}"
    for _ in range(2):
        taken = second.cli("cluster", "join", "--node-id", "n1", "--address", address, check=False)
        assert taken.returncode == EXIT_CONFLICT and "already" in taken.stderr
    away = second.cli("cluster", "join", "--node-id", "n3", "--address", "unix:/tmp/nobody/here", check=False)
    assert away.returncode == EXIT_NOT_FOUND and "no daemon answers" in away.stderr
    itself = second.cli("cluster", "join", "--address", f"unix:{second.socket}", check=False)
    assert itself.returncode == EXIT_CONFLICT
    second.cli("cluster", "join", "--address", address)
    assert [n["name"] for n in cluster.json("node", "list")["nodes"]] == ["n1", "n2"]


def test_addresses_where_nobody_answers_are_not_remembered_for_ever(shared):
    with grpc.insecure_channel(f"unix:{shared.nodes[1].socket}") as channel:
        call = channel.unary_unary(BLIXARD + "ClusterJoin", request_serializer=bytes, response_deserializer=bytes)
        for number in range(300):
            with pytest.raises(grpc.RpcError) as caught:
                call(part(2, f"unix:/tmp/nobody/{number}"), timeout=20)
            assert caught.value.code().name == "NOT_FOUND", (number, caught.value.details())
    shared.create("after-addresses", node=shared.nodes[1])


def test_of_two_joins_at_the_same_time_both_end_in_one_node(new_cluster):
    cluster = new_cluster(("n1", "n2"))
    first, second = cluster.nodes
    first.start("--bootstrap")
    second.start()
    ways = [lambda: second.cli("cluster", "join", "--address", f"unix:{first.socket}", check=False),
            lambda: first.cli("cluster", "join", "--address", f"unix:{second.socket}", check=False)]
    done = parallel(ways)
    assert 0 in [d.returncode for d in done]
    assert {d.returncode for d in done} <= {0, EXIT_CONFLICT, EXIT_RETRY}, [d.stderr for d in done]
    cluster.wait_ready()
    assert [n["name"] for n in cluster.json("node", "list")["nodes"]] == ["n1", "n2"]


def test_a_daemon_that_answers_a_join_with_nonsense_changes_nothing(new_cluster):
    cluster = new_cluster(("n1",))
    cluster.nodes[0].start()
    path = cluster.dir / "liar.sock"
    handler = grpc.method_handlers_generic_handler("blixard.v1.Member", {
        "MemberJoin": grpc.unary_unary_rpc_method_handler(lambda _request, _context: part(1, "no id") + part(2, 7)),
    })
    liar = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[handler])
    liar.add_insecure_port(f"unix:{path}")
    liar.start()
    try:
        done = cluster.cli("cluster", "join", "--address", f"unix:{path}", check=False)
        assert done.returncode == EXIT_USAGE and "is it blixardd?" in done.stderr
    finally:
        liar.stop(None).wait()
    assert not (cluster.nodes[0].dir / "identity").exists()
    cluster.cli("cluster", "init")


# ---- the data directory


@pytest.mark.parametrize("mode, owner, sentence", [
    (0o777, 0, "may be written by everyone"),
    (0o770, 0, "may be written by its group"),
    (0o700, 65534, "belongs to user 65534"),
])
def test_a_data_directory_that_others_may_change_is_refused(tmp_path, mode, owner, sentence):
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(mode)
    os.chown(directory, owner, owner)
    command = [BIN / "blixardd", "--data-dir", directory, "--name", "a", "--bootstrap", "--simulate-vms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == EXIT_DENIED
    assert sentence in done.stderr and done.stderr.count("\n") == 1
    assert not list(directory.iterdir())


def test_a_second_daemon_on_a_directory_is_refused_and_the_first_goes_on(shared):
    node = shared.nodes[0]
    done = subprocess.run(node.arguments(), capture_output=True, text=True, timeout=20)
    assert done.returncode == EXIT_RETRY
    assert "another process has the data directory" in done.stderr
    assert shared.json("cluster", "status", node=node)["leader"]


# ---- the control socket of a shim; its monitor is a script


class Shim:
    HELLO, STATE, REFUSED, STOP, KILL, PROTOCOL = 1, 2, 3, 4, 5, 6
    FIXED = struct.Struct("<BBQQQIiiiBB")

    def __init__(self, directory, script):
        self.dir = directory
        run = directory / "booted/bin/microvm-run"
        run.parent.mkdir(parents=True)
        run.write_text(script)
        run.chmod(0o755)
        command = [BIN / "blixard-shim", "--dir", directory, "--instance", "x-1", "--uid", "7", "--epoch", "3",
                   "--memory-mib", "64", "--vcpus", "1"]
        subprocess.run(command, check=True, timeout=20)

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.dir / "ctl.sock"))
        client.settimeout(20)
        return client

    def frame(self, kind, version=1, uid=7, deadline_ms=0):
        body = self.FIXED.pack(kind, version, uid, 3, 0, deadline_ms, 0, 0, 0, 1, 0)
        return struct.pack("<I", len(body)) + body

    def read(self, client):
        """The type and the text of the next message; None at the end."""
        head = client.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return None
        body = client.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL)
        return body[0], body[self.FIXED.size:].decode()

    def rss_kib(self):
        """Of the shim, which is the monitor's parent."""
        (monitor,) = processes_of(self.dir)
        with open(f"/proc/{monitor}/status") as status:
            parent = next(line.split()[1] for line in status if line.startswith("PPid:"))
        with open(f"/proc/{parent}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def greeted(self):
        client = self.connect()
        client.sendall(self.frame(self.HELLO))
        assert self.read(client)[0] == self.STATE
        return client

    def end(self):
        client = self.greeted()
        client.sendall(self.frame(self.KILL))
        while self.read(client):
            pass
        until(lambda: not processes_of(self.dir), 10, "the shim and its monitor are gone")


@pytest.fixture
def shim(tmp_path):
    one = Shim(tmp_path, "#!/bin/sh\nexec sleep 600\n")
    yield one
    one.end()
    assert "signal 9" in (tmp_path / "exit").read_text()


@pytest.mark.parametrize("data", [
    os.urandom(4096),
    b"\0\0\0\0",
    b"\xff\xff\xff\xff" + b"x" * 100,
    struct.pack("<I", 2) + b"\x63\x01",
    b"GET / HTTP/1.1\r\n\r\n",
])
def test_a_shim_that_hears_nonsense_hangs_up_and_keeps_its_monitor(shim, data):
    client = shim.connect()
    client.sendall(data)
    answer = shim.read(client)
    assert answer is None or answer[0] == shim.REFUSED
    shim.greeted().close()


@pytest.mark.parametrize("words, sentence", [
    (dict(kind=Shim.KILL), "the first message must be HELLO"),
    (dict(kind=Shim.HELLO, uid=8), "this is instance 7, not 8"),
    (dict(kind=Shim.HELLO, version=9), "speaks version 1 and one more or less"),
])
def test_a_shim_refuses_who_does_not_mean_it(shim, words, sentence):
    client = shim.connect()
    client.sendall(shim.frame(**words))
    kind, text = shim.read(client)
    assert kind == shim.REFUSED and sentence in text
    assert shim.read(client) is None


def test_a_shim_is_reached_whoever_else_stays_connected(shim):
    silent = [shim.connect() for _ in range(20)]
    stuck = [shim.greeted() for _ in range(20)]
    late = shim.greeted()
    late.sendall(shim.frame(shim.STOP, deadline_ms=600000))
    assert shim.read(late)[0] == shim.STATE
    for client in silent + stuck:
        client.close()


# What a monitor says on its own socket as soon as the shim is there; then it is silent.
LIAR = """#!/usr/bin/python3
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("blixard-qmp.sock")
listener.listen()
client, _ = listener.accept()
try:
    client.sendall(%(data)r)
    for _ in range(%(more)d):
        client.sendall(b"x" * 65536)
except OSError:
    pass
time.sleep(600)
"""
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


@pytest.mark.parametrize("data, more, sentence", [
    (b"\x00\xff" * 500 + b"\n", 0, "no JSON"),
    (GREETING[:20] + b"\n", 0, "no JSON"),
    (b'{"return": {}}\n', 0, "did not greet first"),
    (GREETING + b"[7]\n", 0, "no message of QMP"),
    (GREETING + b'{"event": "', 16384, "a line of more than"),  # 1 GiB without an end
], ids=["bytes", "half", "rude", "other", "endless"])
def test_a_monitor_that_answers_nonsense_is_told_of_and_costs_its_shim_nothing(tmp_path, data, more, sentence):
    shim = Shim(tmp_path, LIAR % dict(data=data, more=more))
    try:
        client = shim.connect()
        client.sendall(shim.frame(shim.HELLO))
        kind, text = shim.read(client)
        while kind != shim.PROTOCOL:
            kind, text = shim.read(client)
        assert sentence in text and len(text) < 300
        assert shim.rss_kib() < 8192
    finally:
        shim.end()


# A runner directory whose `wrap` makes a liar of a module that says so, and leaves the others to the real one.
WRAP = """#!/bin/sh
set -eu
out=$2 module=$6 # --out, --name, --module
lie=$(sed -n 's/^# lie: //p' "$module")
[ "$lie" ] || exec %(real)s/wrap "$@"
mkdir -p "$out"
cp "$(dirname "$0")/$lie.py" "$out/microvm-run"
cat >"$out/flake.nix" <<'END'
{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = derivation {
  name = "liar"; system = "x86_64-linux"; builder = "/bin/sh"; script = ./microvm-run;
  args = [ "-c" "/bin/mkdir -p $out/bin && cd $out/bin && /bin/cp $script microvm-run && /bin/chmod 755 microvm-run" ];
}; }; }
END
"""
LIES = {"bytes": (b"\x00\xff" * 500 + b"\n", 0, "no JSON"), "half": (GREETING[:20] + b"\n", 0, "no JSON"),
        "endless": (GREETING + b'{"event": "', 16384, "a line of more than")}


@pytest.fixture
def lying(tmp_path):
    """One daemon with real guests, and a module for each lie."""
    wrap = tmp_path / "wrap"
    wrap.write_text(WRAP % dict(real=ROOT / "nix/debian-runner"))
    wrap.chmod(0o755)
    for name, (data, more, _) in LIES.items():
        (tmp_path / f"{name}.py").write_text(LIAR % dict(data=data, more=more))
        (tmp_path / f"{name}.nix").write_text(f"# lie: {name}\n" + HELLO.read_text())
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=8,memory_mib=2048")
    one.daemon_arguments[one.daemon_arguments.index("--runner-dir") + 1] = str(tmp_path)
    try:
        yield one.form()
    finally:
        one.delete_all()
        one.close()


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_a_monitor_that_lies_fails_its_vm_and_nobody_else_s(lying, tmp_path):
    honest = lying.create("honest")
    before = rss_kib(lying.nodes[0].pid)
    for name in LIES:
        lying.cli("vm", "create", name, "--microvm-config", tmp_path / f"{name}.nix", "--restart", "never")
    for name, (_, _, sentence) in LIES.items():
        lying.wait(name, "phase=Failed", timeout="60s")
        (told,) = lying.get(name)["instances"]
        assert told["reason"]["code"] == "VmmProtocol" and sentence in told["reason"]["text"], told
        assert len(told["reason"]["text"]) < 400
    lying.cli("vm", "create", "again", "--microvm-config", tmp_path / "half.nix")
    until(lambda: int(lying.get("again")["instances"][0]["restarts"]) >= 1, 60, "by policy it is started again")
    after = lying.get("honest")
    assert after["instances"] == honest["instances"] and after["phase"] == "Running"
    assert rss_kib(lying.nodes[0].pid) < before + 8192
    for name in LIES:
        lying.cli("vm", "delete", name, "--wait", "--timeout", "60s")
    assert not [a for a in processes_of(lying.dir).values() if any(f"/{name}-1-" in a for name in LIES)]


def test_a_monitor_that_says_nothing_can_be_ended(tmp_path):
    shim = Shim(tmp_path, LIAR % dict(data=b"", more=0))
    client = shim.greeted()
    client.sendall(shim.frame(shim.STOP, deadline_ms=500))
    while shim.read(client):
        pass
    until(lambda: not processes_of(tmp_path), 10, "the shim and its monitor are gone")
