"""Events that outlive memory: after a restart, a change of leader, from a snapshot on, and up to their limits."""

import json
import random
import re
import signal
import subprocess

import pytest

from cluster import BIN, EXIT_OK, EXIT_USAGE, Cluster, until
from stock import Stub, refused

RING = 8192  # events in memory


def define(one, name, *flags, **more):
    return one.cli("vm", "create", name, "--flake", "x#y", "--stopped", *flags, **more)


def events(node, *flags):
    """What a member tells, and what it says of where that begins."""
    done = node.cli("events", "-o", "json", *flags)
    return json.loads(done.stdout)["events"], done.stderr


def key(event):
    return event["index"], event["kind"], event["type"], event["name"], event["uid"], event.get("phase")


def told(node, *flags):
    return [key(e) for e in events(node, *flags)[0]]


def level(one):
    index = max(n.cluster.json("cluster", "status", node=n)["index"] for n in one.running_nodes())
    until(lambda: all(n.cluster.json("cluster", "status", "--stale", node=n)["index"] >= index
                      for n in one.running_nodes()), 20, "every server has applied the same")


def agreed(one, *flags):
    """What all members tell, once nothing is on its way any more."""
    found = []

    def same():
        found[:] = [told(n, *flags) for n in one.running_nodes()]
        return all(f == found[0] for f in found)
    until(same, 20, "all members tell the same events")
    return found[0]


def flood(messages, node, count, size=2000):
    """Changes that leave events and fill the log: a VM is stopped and started again and again, with reasons beside."""
    with Stub(messages, node.socket) as stub:
        calls = {}
        for name in ("VmStop", "VmStart"):
            calls[name] = stub.channel.unary_unary(
                f"/blixard.v1.Blixard/{name}", request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=messages.Vm.FromString)
        for i in range(count):
            for name in ("VmStart", "VmStop"):
                calls[name](messages.VmNameRequest(name="busy"), timeout=20)


def fill_log(messages, node, megabytes):
    """Entries of 48 KiB that are refused, for their name is taken: they leave no event."""
    with Stub(messages, node.socket) as stub:
        for i in range(megabytes * 22):
            spec = messages.VmSpec(name="full", memory_mib=32, vcpus=1)
            text = f"# {i}\n".encode() + b"#" * 48000 + b"\n{ }\n"
            request = messages.VmCreateRequest(spec=spec, config=text, stopped=True)
            if i == 0:
                stub.VmCreate(request)
            else:
                refused(stub.VmCreate, request)


def watch(messages, node, count=0, **request):
    """Events of a watch: the first @count, or all that there are."""
    got = []
    with Stub(messages, node.socket) as stub:
        for event in stub.Watch(messages.WatchRequest(once=count == 0, **request), timeout=60):
            got.append((event.index, event.kind, event.type, event.name, event.uid))
            if len(got) == count:
                break
    return got


def follow(node, path):
    with path.open("w") as out:
        return subprocess.Popen(
            [str(BIN / "blixard"), "events", "--since", "1", "-f", "-o", "json", "--socket", str(node.socket)],
            stdout=out, stderr=subprocess.PIPE, text=True)


def ended(process, path):
    """What it told, after the last event came."""
    until(lambda: '"name":"last-1"' in path.read_text(), 30, "the last event is told")
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=10)[1]
    assert (process.returncode, err) == (EXIT_OK, "")
    return [key(json.loads(line)) for line in path.read_text().splitlines()]


@pytest.fixture
def three():
    one = Cluster(log_level="info")
    try:
        yield one.form()
    finally:
        one.close()


def test_every_member_tells_the_same_after_a_restart_and_a_change_of_leader(three):
    one = three
    for i in range(20):
        define(one, f"a{i}")
    before = agreed(one, "--since", "1")
    assert sum(name == "a7" for _, kind, _, name, _, _ in before) >= 1
    for number, node in enumerate([one.leader(), *(n for n in one.nodes if n is not one.leader())]):
        node.kill()
        until(lambda: one.leader(node=next(n for n in one.running_nodes())) is not None, 20, "a leader")
        define(one, f"b{number}", node=one.running_nodes()[0])
        node.start()
        one.wait_ready()
    after = agreed(one, "--since", "1")
    assert after[: len(before)] == before
    assert {f"b{i}" for i in range(3)} <= {name for _, _, _, name, _, _ in after}
    assert len(set(after)) == len(after)
    assert all(events(node, "--since", "1h")[1] == "" for node in one.nodes)


def test_filters_are_those_of_objects_and_times(three):
    one = three
    one.create("web", "--replicas", "2")
    define(one, "db")
    agreed(one)
    node = one.nodes[1]
    every, _ = events(node, "--since", "1h")
    assert told(node) == [key(e) for e in every]
    instance = next(e for e in every if e["kind"] == "instance" and e.get("node"))
    on = instance["node"]
    assert told(node, "--node", on) == [key(e) for e in every
                                        if (e["name"] if e["kind"] == "node" else e.get("node")) == on]
    assert told(node, "--vm", "web") == told(node, "--for", "vm/web")
    assert told(node, "--vm", "web", "--kind", "instance") == [
        key(e) for e in every if e["kind"] == "instance" and e["vm"] == "web"]
    assert {k for _, k, *_ in told(node, "--kind", "node")} == {"node"}
    middle = every[len(every) // 2]
    time = subprocess.run(["date", "-u", "-d", f"@{middle['time_ms'] / 1000:.3f}", "+%Y-%m-%dT%H:%M:%S.%3NZ"],
                          capture_output=True, text=True, check=True).stdout.strip()
    assert told(node, "--since", time) == [key(e) for e in every if e["time_ms"] >= middle["time_ms"]]
    assert told(node, "--since", "0s") == []
    for wrong in (["--since", "tomorrow"], ["--vm", "web", "--for", "vm/web"], ["--kind", "pool"], ["--vm", "No Name"]):
        done = node.cli("events", *wrong, check=False)
        assert done.returncode == EXIT_USAGE and done.stderr.startswith("blixard: "), done.stderr


def test_what_memory_has_no_more_comes_from_history_and_goes_on_without_a_gap(messages, three):
    one = three
    define(one, "busy")
    agreed(one)
    node = one.nodes[0]
    live = follow(node, one.dir / "live")
    try:
        # With as many as memory holds, and some.
        flood(messages, node, RING // 4)
        level(one)
        every = watch(messages, node, since_index=1)
        assert len(every) > RING + 500 and [e[0] for e in every] == sorted(e[0] for e in every)
        assert all(watch(messages, n, since_index=1) == every for n in one.nodes)
        for some in random.sample(every[: len(every) // 2], 5):
            assert watch(messages, node, since_index=some[0]) == [e for e in every if e[0] > some[0]]
        assert watch(messages, node, kept=True) == watch(messages, node, since_ms=1)
        assert watch(messages, node, kept=True)[-len(every) :] == every
        # From the past into what comes, while more of it comes.
        late = follow(node, one.dir / "late")
        flood(messages, one.nodes[1], 50)
        define(one, "last")
        agreed(one)
        shown = [ended(live, one.dir / "live"), ended(late, one.dir / "late")]
    finally:
        live.kill()
    # The first was told as it happened, the second from the disk.
    assert shown[0] == shown[1] == told(node, "--since", "1") and len(shown[0]) > len(every) + 100


def test_a_reader_that_stands_still_loses_none(messages, three):
    """More comes than its queue takes, and than memory holds: it goes on from the disk where it was."""
    narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
    one = three
    node = one.nodes[0]
    define(one, "busy")
    agreed(one)
    with Stub(messages, node.socket, narrow) as stub:
        calls = [iter(stub.Watch(messages.WatchRequest(since_index=1), timeout=200)) for _ in range(2)]
        slow = [[next(call)] for call in calls]
        flood(messages, node, 1200)
        slow[0] += [next(calls[0]) for _ in range(2000)]
        flood(messages, node, RING // 2)
        define(one, "last")
        for call, got in zip(calls, slow):
            while got[-1].name != "last-1":
                got.append(next(call))
    slow = [[(e.index, e.kind, e.type, e.name, e.uid) for e in got] for got in slow]
    every = watch(messages, node, since_index=1)
    assert len(every) > RING + 3000
    assert slow[0] == slow[1] == every[: len(slow[0])]


def test_a_member_that_comes_by_a_snapshot_says_where_its_events_begin(messages):
    """The log is let go twice, so that a new member gets no entries from its beginning."""
    one = Cluster(names=("n1", "n2"), log_level="info")
    try:
        first, second = one.nodes
        first.start("--bootstrap")
        define(one, "early")
        fill_log(messages, first, 110)
        every = told(first, "--since", "1")
        assert any(name == "early" for _, _, _, name, _, _ in every)
        second.start()
        second.cli("cluster", "join", "--address", f"unix:{first.socket}")
        define(one, "later")
        until(lambda: all(n["voter"] for n in one.json("node", "list")["nodes"]), 20, "n2 votes")
        level(one)
        rows, said = events(second, "--since", "1h")
        begins = re.fullmatch(r"blixard: n2 has events from index (\d+) on, after \S+; older ones are not kept there\n",
                              said)
        assert begins, said
        begins = int(begins[1])
        assert rows and begins > 2000
        # One more may have come between the two looks.
        same = [k for k in told(first, "--since", "1") if k[0] >= begins]
        assert [key(e) for e in rows] == same[: len(rows)] and len(same) < len(rows) + 3
        old = second.cli("events", "--since", "5", check=False)
        assert old.returncode != EXIT_OK and f"has those after {begins - 1}:" in old.stderr, old.stderr
        # The first one has all of them, over its own snapshots and a start, too.
        first.terminate()
        first.start()
        one.wait_ready()
        assert told(first, "--since", "1")[: len(every)] == every
        assert events(first, "--since", "1h")[1] == ""
        second.kill()
        second.start()
        one.wait_ready()
        assert [key(e) for e in events(second, "--since", "1h")[0]][: len(rows)] == [key(e) for e in rows]
    finally:
        one.close()


def test_limits_remove_the_oldest_events_and_that_is_told(messages):
    one = Cluster(names=("n1",), log_level="info", more=("--events-max-size", "1"))
    try:
        node = one.nodes[0]
        node.start("--bootstrap")
        define(one, "busy")
        flood(messages, node, 6000)
        rows, said = events(node, "--since", "1h")
        begins = int(re.fullmatch(r"blixard: n1 has events from index (\d+) on.*\n", said)[1])
        # Not every entry has an event.
        assert begins > 100 and begins <= rows[0]["index"] < begins + 20
        assert [e["index"] for e in rows] == sorted(e["index"] for e in rows)
        assert sum(len(json.dumps(e)) for e in rows) < 8 << 20
        old = node.cli("events", "--since", "1", check=False)
        assert old.returncode != EXIT_OK and "[STALE]" in old.stderr, old.stderr
        # So it is after a start, whatever the log gives again.
        node.terminate()
        node.start()
        until(lambda: node.cli("events", check=False).returncode == EXIT_OK, 20, "it answers")
        again, said_again = events(node, "--since", "1h")
        # Its own start is an event, and may make one more go.
        begins_again = int(re.fullmatch(r"blixard: n1 has events from index (\d+) on.*\n", said_again)[1])
        left = [key(e) for e in rows if e["index"] >= begins_again]
        assert begins <= begins_again < begins + 50 and [key(e) for e in again][: len(left)] == left
    finally:
        one.close()
