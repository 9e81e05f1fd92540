"""What a server tells a worker, seen by a worker that is a stock gRPC client."""

import importlib
import pathlib
import subprocess
import threading

import grpc
import pytest

from cluster import BUILD, ROOT, until
from stock import Stub

MEMBER = "/blixard.v1.Member/"


@pytest.fixture(scope="module")
def members(messages, tmp_path_factory):
    """The messages between members; those of the public service are in `messages` already."""
    directory = pathlib.Path(messages.__file__).parent
    subprocess.run(
        ["protoc", f"-I{ROOT}/lib/schema", f"--python_out={directory}", "blixard_member.proto"], check=True
    )
    return importlib.import_module("blixard_member_pb2")


class Fake:
    """A worker that joins, sends heartbeats and follows its share, and runs nothing."""

    def __init__(self, messages, members, socket, name="fake", incarnation=7):
        self.messages, self.members, self.incarnation = messages, members, incarnation
        self.channel = grpc.insecure_channel(f"unix:{socket}")
        self.me = messages.Node(
            name=name, address=f"unix:/none/{name}", role=messages.NodeRole.worker, incarnation=incarnation,
            capacity=messages.Resources(vcpus=5000, memory_mib=10**6), hypervisors=[0], simulated=True,
            labels=[messages.Label(key="kind", value="fake")],
        )
        joined = self.call("MemberJoin", members.MemberJoinRequest(node=self.me), members.MemberJoinReply)
        self.uid, self.servers = joined.uid, joined.members
        self.stop = threading.Event()
        self.beats = threading.Thread(target=self.beat)
        self.beats.start()

    def call(self, name, request, answer):
        make = self.channel.unary_unary(
            MEMBER + name, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
        )
        return make(request, timeout=20)

    def report(self, **more):
        request = self.members.ReportRequest(node_uid=self.uid, incarnation=self.incarnation, **more)
        return self.call("Report", request, self.members.OpResult)

    def beat(self):
        while not self.stop.wait(1):
            try:
                self.report()
            except grpc.RpcError:
                pass

    def share(self, index=0, incarnation=None):
        make = self.channel.unary_stream(
            MEMBER + "Share", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=self.members.SharePart.FromString,
        )
        incarnation = self.incarnation if incarnation is None else incarnation
        return make(self.members.ShareRequest(node_uid=self.uid, incarnation=incarnation, index=index), timeout=60)

    def close(self):
        self.stop.set()
        self.beats.join()
        self.channel.close()


@pytest.fixture
def fake(new_cluster, messages, members):
    cluster = new_cluster(names=("n1",)).form()
    one = Fake(messages, members, cluster.nodes[0].socket)
    one.cluster = cluster
    yield one
    one.close()


def create(fake, name, replicas, config=b"{ }"):
    label = fake.messages.Label(key="kind", value="fake")
    spec = fake.messages.VmSpec(name=name, config_name="x.nix", replicas=replicas, node_selector=[label])
    with Stub(fake.messages, fake.cluster.nodes[0].socket) as stub:
        stub.VmCreate(fake.messages.VmCreateRequest(spec=spec, config=config))


def assigned(fake):
    return int(fake.cluster.json("node", "describe", "fake")["node"]["instances"])


def complete(stream):
    """The parts of one round."""
    parts = [next(stream)]
    while parts[-1].more:
        parts.append(next(stream))
    return parts


def test_a_share_comes_whole_then_by_what_changed_and_goes_on_from_its_index(fake):
    assert [s.name for s in fake.servers] == ["n1"]
    stream = fake.share()
    first = complete(stream)[0]
    assert first.known and first.whole and not first.assignments and [s.name for s in first.servers] == ["n1"]
    create(fake, "web", 2)
    seen = {}
    while len(seen) < 2:
        part = next(stream)
        assert part.known and not part.whole
        seen.update({a.instance_uid: a for a in part.assignments})
    assert {a.instance for a in seen.values()} == {"web-1", "web-2"} and {a.epoch for a in seen.values()} == {1}
    assert all(a.tell and a.config == b"{ }" for a in seen.values())
    stream.cancel()
    again = complete(fake.share(index=part.index))[0]
    assert not again.whole and not again.assignments and not again.left and again.index >= part.index
    fake.cluster.cli("vm", "stop", "web")
    until(lambda: fake.cluster.get("web")["desired"] == "Stopped", 10, "it is to stop")
    changed = complete(fake.share(index=part.index))
    assert changed[0].whole and {a.desired for p in changed for a in p.assignments} == {1}


def test_who_is_not_known_is_told_so_and_nothing_else(fake):
    create(fake, "web", 1)
    until(lambda: assigned(fake) == 1, 10, "it is assigned")
    stream = fake.share(incarnation=8)
    part = next(stream)
    assert not part.known and not part.assignments and part.incarnation == 7
    late = fake.messages.Node()
    late.CopyFrom(fake.me)
    late.uid, late.incarnation = fake.uid, 9
    with pytest.raises(grpc.RpcError) as refused:
        fake.report(registration=late, replaces=6)
    assert "was started anew since" in refused.value.details()
    late.incarnation = 8
    fake.report(registration=late, replaces=7)
    part = complete(stream)[0]
    assert part.known and part.whole and [a.instance for a in part.assignments] == ["web-1"]


def test_one_that_knows_more_than_the_server_is_told_nothing_older(fake):
    create(fake, "web", 1)
    until(lambda: assigned(fake) == 1, 10, "it is assigned")
    index = int(fake.cluster.json("cluster", "status")["index"])
    stream = fake.share(index=index + 5)
    part = next(stream)
    assert not part.known and not part.assignments
    create(fake, "more", 2)
    until(lambda: assigned(fake) == 3, 10, "they are assigned")
    for number in range(5):
        fake.cluster.cli("node", "label", "n1", f"a={number}")
    while not part.known:
        assert not part.assignments
        part = next(stream)
    assert part.index >= index + 5


def test_a_new_call_for_a_share_ends_the_one_before(fake):
    first = fake.share()
    complete(first)
    complete(fake.share())
    with pytest.raises(grpc.RpcError) as ended:
        next(first)
    assert "on another call" in ended.value.details()


def test_a_worker_that_does_not_read_costs_the_server_no_memory_and_misses_nothing(fake):
    """Twelve megabytes are due to it, a megabyte waits; meanwhile others change, and one goes."""
    server = fake.cluster.nodes[0]

    def rss_kib():
        text = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1])

    stream = fake.share()
    complete(stream)
    for number in range(5):
        create(fake, f"wide-{number}x", 50, config=b"# %d\n{ }" % number + b" " * 48000)
    until(lambda: assigned(fake) == 250, 30, "all are assigned")
    before = rss_kib()
    fake.cluster.cli("vm", "stop", "wide-1x")
    assert rss_kib() - before < 8 << 10
    held, index = {}, 0
    while True:
        part = next(stream)
        held.update({a.instance_uid: (a.instance, a.desired) for a in part.assignments})
        for uid in part.left:
            del held[uid]
        stopped = sum(name.startswith("wide-1x-") and desired == 1 for name, desired in held.values())
        if not part.more and len(held) == 250 and stopped == 50:
            break
        assert part.index >= index
        index = part.index
    if "asan" not in BUILD.parts:  # which keeps for a while what was freed
        assert rss_kib() - before < 16 << 10


def test_a_share_is_not_told_to_what_is_no_worker_of_this_cluster(fake):
    fake.uid = 99
    part = next(fake.share())
    assert not part.known and not part.assignments and part.incarnation == 0
    fake.uid = 0
    with pytest.raises(grpc.RpcError) as refused:
        next(fake.share())
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
