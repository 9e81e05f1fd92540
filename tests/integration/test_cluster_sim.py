"""Three daemons, everything real but the virtual machines."""

import json
import os
import re
import subprocess
import threading
import time

import grpc
import pytest

from cluster import BIN, EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_RETRY, EXIT_USAGE, HELLO, instances, parallel, until
from stock import Stub, refused


def request(messages, name, **spec):
    """A create request as a program would send it."""
    return messages.VmCreateRequest(
        spec=messages.VmSpec(name=name, config_name="hello.nix", **spec), config=HELLO.read_bytes()
    )


def follow(stub, messages, until_event, **watch):
    """Events of a watch up to the first for which until_event() is true."""
    stream = stub.Watch(messages.WatchRequest(**watch), timeout=60)
    seen = []
    for event in stream:
        seen.append(event)
        if until_event(event):
            stream.cancel()
            return seen
    raise AssertionError(f"the watch ended after {len(seen)} events")


# ---- the cluster as a whole


def test_three_replicas_run_on_three_nodes(shared):
    vm = shared.create("spread", "--replicas", 3)
    assert {i["node"] for i in vm["instances"]} == {"n1", "n2", "n3"}
    assert [i["name"] for i in vm["instances"]] == ["spread-1", "spread-2", "spread-3"]
    assert {i["phase"] for i in vm["instances"]} == {"Running"}


def test_any_member_answers_any_call(shared):
    for number, node in enumerate(shared.nodes):
        name = f"any-{number}x"
        shared.create(name, node=node)
        for other in shared.nodes:
            assert shared.get(name, node=other)["phase"] == "Running"
            assert shared.json("cluster", "status", node=other)["leader"]
            assert {n["name"] for n in shared.json("node", "list", node=other)["nodes"]} == {"n1", "n2", "n3"}
        shared.cli("vm", "stop", name, "--wait", node=node)
        shared.cli("vm", "delete", name, "--wait", node=node)


def test_restart_ends_it_and_starts_it_under_the_next_epoch_at_once(shared):
    shared.create("re", "--replicas", 2, "--restart", "never")
    before = instances(shared.get("re"))
    shared.cli("vm", "restart", "re-2", "--wait")
    after = instances(shared.get("re"))
    assert int(after["re-1"]["epoch"]) == int(before["re-1"]["epoch"])
    assert int(after["re-2"]["epoch"]) == int(before["re-2"]["epoch"]) + 1
    shared.cli("vm", "restart", "re", "--force", "--wait")
    assert {i["phase"] for i in shared.get("re")["instances"]} == {"Running"}
    assert int(instances(shared.get("re"))["re-1"]["epoch"]) == int(before["re-1"]["epoch"]) + 1
    shared.cli("vm", "stop", "re", "--wait")
    done = shared.cli("vm", "restart", "re", check=False)
    assert done.returncode == EXIT_CONFLICT and "the VM re is stopped: start it instead" in done.stderr


def test_pause_lets_it_stand_still_and_resume_lets_it_go_on(shared):
    shared.create("still", "--replicas", 2)
    done = shared.cli("vm", "pause", "still", "--wait")
    assert done.stdout.splitlines()[-1] == "vm/still is paused" and not done.stderr
    assert all(i["paused"] for i in shared.get("still")["instances"])
    paused = shared.get("still")
    assert (paused["phase"], paused["reason"]["code"]) == ("Running", "Paused")
    assert "Running, paused" in shared.cli("vm", "describe", "still").stdout
    done = shared.cli("vm", "resume", "still", "--wait")
    assert done.stdout.splitlines()[-1] == "vm/still is resumed" and not done.stderr
    assert not any(i["paused"] for i in shared.get("still")["instances"])
    shared.cli("vm", "pause", "still")
    shared.cli("vm", "kill", "still", "--wait")
    killed = shared.get("still")
    assert (killed["phase"], killed["desired"], killed["paused"]) == ("Stopped", "Stopped", False)


def test_whatever_waits_has_a_code_a_sentence_and_what_would_help_in_answers_and_events(shared, messages):
    waiting = {getattr(messages.Phase, p) for p in ("Pending", "Creating", "Starting", "Stopping", "Deleting")}
    with Stub(messages, shared.nodes[1].socket) as stub:
        since = int(shared.json("cluster", "status")["index"])
        shared.create("told", "--replicas", 2)
        shared.cli("vm", "restart", "told", "--wait")
        shared.cli("vm", "stop", "told", "--wait")
        shared.cli("vm", "delete", "told", "--wait")
        events = list(stub.Watch(messages.WatchRequest(since_index=since, vm="told", once=True), timeout=30))
        stub.VmCreate(messages.VmCreateRequest(spec=messages.VmSpec(name="brief", flake="x#y")))
        answers = [stub.VmGet(messages.VmNameRequest(name="brief")) for _ in range(20)]
        shared.cli("vm", "delete", "brief", "--wait")
    seen = {e.phase for e in events}
    assert waiting - {messages.Phase.Starting} <= seen, seen
    for e in [*events, *answers, *(i for vm in answers for i in vm.instances)]:
        if e.phase in waiting and getattr(e, "type", None) != messages.EventType.deleted:
            assert e.reason.code and e.reason.text and e.reason.unblock, e


def test_a_wait_for_a_pause_ends_with_its_time_and_says_where_the_vm_is(shared):
    shared.create("nowhere", "--node-selector", "site=moon", wait=False)
    done = shared.cli("vm", "pause", "nowhere", "--wait", "--timeout", "700ms", check=False)
    assert done.returncode == EXIT_RETRY
    assert "nowhere is not paused yet: it is Pending" in done.stderr and "[TIMEOUT]" in done.stderr
    done = shared.cli("vm", "resume", "nowhere", "--wait", "--timeout", "700ms", check=False)
    assert done.returncode == EXIT_RETRY
    assert "nowhere is not resumed yet: it is Pending" in done.stderr
    shared.cli("vm", "delete", "nowhere", "--wait")


def test_a_verb_under_an_old_revision_is_refused_with_both_numbers_and_changes_nothing(shared):
    now = int(shared.create("rev")["revision"])
    for verb in ("start", "stop", "restart", "pause", "resume", "kill", "delete"):
        done = shared.cli("vm", verb, "rev", "--if-revision", now - 1, check=False)
        assert done.returncode == EXIT_CONFLICT
        assert f"the VM rev has revision {now}, not {now - 1}: read it again [STALE]" in done.stderr
    assert int(shared.get("rev")["revision"]) == now
    for verb in ("pause", "resume", "restart", "stop", "start", "kill"):
        shared.cli("vm", verb, "rev", "--wait", "--if-revision", shared.get("rev")["revision"])
    assert shared.get("rev")["phase"] == "Stopped"


def test_what_depends_on_another_starts_after_it_and_stops_before_it(shared):
    shared.create("base", "--stopped", wait=False)
    shared.create("top", "--depends-on", "base", wait=False)
    until(lambda: shared.get("top")["reason"]["code"] == "WaitsForStart", 10, "it says what it waits for")
    assert shared.get("top")["reason"]["unblock"] == "start the VM base"
    shared.cli("vm", "start", "base")
    shared.wait("top", "phase=Running")
    base, top = (instances(shared.get(name))[f"{name}-1"] for name in ("base", "top"))
    assert int(base["phase_since_ms"]) <= int(top["phase_since_ms"])
    done = shared.cli("vm", "delete", "base", check=False)
    assert done.returncode == EXIT_CONFLICT and "the VM top depends on base: delete top first" in done.stderr
    shared.cli("vm", "stop", "top")
    shared.cli("vm", "stop", "base", "--wait")
    base, top = (instances(shared.get(name))[f"{name}-1"] for name in ("base", "top"))
    assert (base["phase"], top["phase"]) == ("Stopped", "Stopped")
    assert int(top["phase_since_ms"]) <= int(base["phase_since_ms"])
    shared.cli("vm", "delete", "top", "--wait")
    shared.cli("vm", "delete", "base", "--wait")


def test_stop_and_start_keep_the_vm_and_raise_the_epoch(shared):
    before = instances(shared.create("again"))["again-1"]
    shared.cli("vm", "stop", "again", "--wait")
    stopped = shared.get("again")
    assert (stopped["phase"], stopped["desired"]) == ("Stopped", "Stopped")
    assert instances(stopped)["again-1"]["reason"]["code"] == "StoppedByUser"
    shared.cli("vm", "start", "again", "--wait")
    after = instances(shared.get("again"))["again-1"]
    assert after["phase"] == "Running"
    assert int(after["uid"]) == int(before["uid"])
    assert int(after["epoch"]) > int(before["epoch"])


def test_stopped_at_creation_starts_only_when_asked(shared):
    shared.create("later", "--stopped", wait=False)
    shared.create("witness")
    assert shared.get("later")["phase"] != "Running"
    shared.cli("vm", "start", "later", "--wait")
    assert shared.get("later")["phase"] == "Running"


def test_delete_frees_the_name_for_another_vm(shared):
    first = shared.create("reborn", "--replicas", 2)
    shared.cli("vm", "delete", "reborn", "--wait")
    assert shared.cli("vm", "get", "reborn", check=False).returncode == EXIT_NOT_FOUND
    second = shared.create("reborn")
    assert int(second["uid"]) > int(first["uid"])


def test_a_vm_named_like_anothers_instance_is_refused(shared):
    shared.create("twin")
    done = shared.cli("vm", "create", "twin-1", "--microvm-config", HELLO, check=False)
    assert done.returncode == EXIT_CONFLICT, done.stderr
    assert "twin" in done.stderr


def test_two_hundred_parallel_creates_of_one_name_have_one_winner(shared, messages):
    """All of them are under way before the first is answered, over the three members alike."""
    with Stub(messages, shared.nodes[0].socket) as a, Stub(messages, shared.nodes[1].socket) as b:
        with Stub(messages, shared.nodes[2].socket) as c:
            ways = [
                stub.channel.unary_unary(
                    "/blixard.v1.Blixard/VmCreate",
                    request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=messages.Vm.FromString,
                )
                for stub in (a, b, c)
            ]
            wants = [request(messages, "race", labels=[messages.Label(key="by", value=str(n))]) for n in range(200)]
            calls = [ways[n % 3].future(want, timeout=30) for n, want in enumerate(wants)]
            refusals = [dict(call.exception().trailing_metadata()) for call in calls if call.exception()]
            winners = [n for n, call in enumerate(calls) if not call.exception()]
            said = {call.exception().details() for call in calls if call.exception()}
    assert len(winners) == 1 and len(refusals) == 199
    assert {r["blixard-code"] for r in refusals} == {"EXISTS"}
    assert said == {"a VM named race exists already: choose another name"}
    assert shared.get("race")["spec"]["labels"] == [{"key": "by", "value": str(winners[0])}]
    done = shared.cli("vm", "create", "race", "--microvm-config", HELLO, check=False)
    assert done.returncode == EXIT_CONFLICT and "race" in done.stderr


def test_a_vm_deleted_while_it_starts_or_stops_is_gone_and_leaves_nothing(shared):
    """At once, and at each of the moments at which its node is about something else."""
    for number in range(24):
        shared.create("brief", "--replicas", 3, wait=False, node=shared.nodes[number % 3])
        time.sleep(number * 0.012)
        if number % 3 == 1:
            shared.cli("vm", "restart", "brief")
        if number % 3 == 2:
            shared.cli("vm", "stop", "brief")
        shared.cli("vm", "delete", "brief", "--wait", "--timeout", "20s")
        assert shared.cli("vm", "status", "brief", check=False).returncode == EXIT_NOT_FOUND
    journals = [node.dir / "agent" for node in shared.nodes]
    until(lambda: not [i for j in journals for i in j.glob("*-brief-*")], 10, "no agent remembers any of them")
    alive = [i for vm in shared.json("vm", "list")["vms"] for i in vm["instances"] if not i["dead"]]
    for node in shared.json("node", "list")["nodes"]:
        assert node["instances"] == len([i for i in alive if i["node"] == node["name"]])
        assert node["tombstones"] == 0


def test_the_same_request_id_gives_the_same_vm_and_another_body_a_conflict(shared):
    arguments = ("vm", "create", "once", "--microvm-config", HELLO, "--request-id", "once-0001", "-o", "json")
    first = shared.json(*arguments[:-2])
    for node in shared.nodes:
        again = shared.json(*arguments[:-2], node=node)
        assert int(again["uid"]) == int(first["uid"])
    other = shared.cli(*arguments[:-2], "--memory", 256, check=False)
    assert other.returncode == EXIT_CONFLICT, other.stderr
    assert shared.get("once")["spec"]["memory_mib"] == 128


def test_wait_ends_by_its_own_timeout_and_says_where_the_vm_is(shared):
    shared.create("idle", "--stopped", wait=False)
    done = shared.wait("idle", "phase=Running", timeout="300ms", check=False)
    assert done.returncode == EXIT_RETRY
    assert "idle" in done.stderr
    assert shared.wait("nobody", "phase=Running", timeout="5s", check=False).returncode == EXIT_NOT_FOUND


def test_wait_that_began_before_the_change_ends_with_it(shared):
    shared.create("awaited", "--stopped", wait=False)
    waiter = threading.Thread(target=lambda: shared.wait("awaited", "phase=Running"))
    waiter.start()
    shared.cli("vm", "start", "awaited")
    waiter.join(60)
    assert not waiter.is_alive()
    assert shared.get("awaited")["phase"] == "Running"


# ---- room


def test_a_vm_too_large_for_every_node_is_pending_with_the_numbers_and_runs_when_room_is_made(new_cluster, messages):
    cluster = new_cluster(capacity="vcpus=8,memory_mib=4096").form()
    cluster.create("big", "--replicas", 3, "--memory", 3000)
    created = cluster.json("vm", "create", "late", "--microvm-config", HELLO, "--memory", 2000)
    assert created["phase"] == "Pending"
    with Stub(messages, cluster.nodes[0].socket) as stub:
        last = follow(stub, messages, lambda e: e.reason.code == messages.ReasonCode.NoRoom, vm="late")[-1]
        assert last.phase == messages.Phase.Pending
        # 2000 wanted, 4096 - 3000 = 1096 free.
        assert re.findall(r"(n\d) lacks 904 MiB", last.reason.text) == ["n1", "n2", "n3"], last.reason.text
        assert last.reason.unblock
    cluster.cli("vm", "delete", "big")
    cluster.wait("late", "phase=Running")


def test_parallel_creates_never_exceed_the_capacity(new_cluster):
    cluster = new_cluster(capacity="vcpus=4,memory_mib=1024").form()
    parallel(
        [
            lambda n=n: cluster.cli(
                "vm", "create", f"fill{n}", "--microvm-config", HELLO, "--memory", 500, node=cluster.nodes[n % 3]
            )
            for n in range(12)
        ]
    )

    # Two fit on each node: six run, six wait.
    def settled():
        vms = cluster.json("vm", "list")["vms"]
        phases = [i["phase"] for vm in vms for i in vm["instances"]]
        return len(phases) == 12 and phases.count("Running") == 6 and phases.count("Pending") == 6

    until(settled, 30, "six of twelve run and six wait")
    for node in cluster.json("node", "list")["nodes"]:
        assert int(node["allocated"]["memory_mib"]) == 1000


# ---- members come and go


def test_the_leader_killed_another_serves_within_ten_seconds_and_nothing_is_lost(new_cluster):
    cluster = new_cluster().form()
    names = {f"kept{n}" for n in range(10)}
    parallel([lambda n=n: cluster.create(n, wait=False) for n in sorted(names)])
    old = cluster.leader()
    old.kill()
    survivor = cluster.running_nodes()[0]
    began = time.monotonic()
    cluster.cli("--timeout", "10s", "vm", "create", "after", "--microvm-config", HELLO, node=survivor)
    assert time.monotonic() - began < 10.5
    assert cluster.leader(node=survivor).name != old.name
    for node in cluster.running_nodes():
        assert cluster.names(node=node) == names | {"after"}
    old.start()
    assert cluster.names(node=old) == names | {"after"}
    for name in names:
        cluster.wait(name, "phase=Running", node=old)


def test_a_create_sent_again_after_a_crash_in_between_made_one_vm(new_cluster, messages):
    """The leader dies with creates under way; whoever asked sends each again, under its key, to another member."""
    cluster = new_cluster().form()
    old = cluster.leader()
    others = [n for n in cluster.nodes if n is not old]
    names = [f"cut{n}" for n in range(120)]
    with Stub(messages, old.socket) as stub:
        call = stub.channel.unary_unary(
            "/blixard.v1.Blixard/VmCreate",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=messages.Vm.FromString,
        )
        specs = {n: messages.VmSpec(name=n, flake="x#y") for n in names}
        wants = {n: messages.VmCreateRequest(spec=specs[n], request_id=n, stopped=True) for n in names}
        first = {n: call.future(wants[n], timeout=30) for n in names}
        until(lambda: sum(f.done() for f in first.values()) >= 20, 10, "some of them are answered")
        old.kill()
        acknowledged = {n: f.result().uid for n, f in first.items() if not f.exception()}
    assert len(acknowledged) >= 20
    until(lambda: others[0].cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "another one leads")
    for node in others:
        with Stub(messages, node.socket) as stub:
            again = {n: stub.VmCreate(wants[n]).uid for n in names}
            other = messages.VmCreateRequest(spec=messages.VmSpec(name=names[0], flake="x#z"), request_id=names[0])
            assert refused(stub.VmCreate, other)[2] == "CONFLICT"
        assert {n: again[n] for n in acknowledged} == acknowledged
        assert len(set(again.values())) == len(names)
    assert cluster.names(node=others[0]) == set(names)


def test_without_a_quorum_calls_end_by_their_timeout_and_go_on_when_it_is_back(new_cluster):
    cluster = new_cluster().form()
    first, second, third = cluster.nodes
    second.kill()
    third.kill()
    done = cluster.cli("--timeout", "3s", "vm", "create", "lonely", "--microvm-config", HELLO, node=first, check=False)
    assert done.returncode == EXIT_RETRY, done.stderr
    second.start()
    cluster.cli("--timeout", "20s", "vm", "create", "served", "--microvm-config", HELLO, node=first)
    assert "served" in cluster.names(node=second)


def test_every_daemon_stopped_and_started_the_state_is_as_it_was(new_cluster):
    cluster = new_cluster().form()
    cluster.create("web", "--replicas", 3, "--label", "tier=front", "--restart", "on-failure")
    cluster.create("db", "--memory", 512, "--vcpus", 2)
    cluster.create("off", "--stopped", wait=False)
    cluster.cli("vm", "create", "keyed", "--microvm-config", HELLO, "--request-id", "keyed-1")
    cluster.wait("keyed", "phase=Running")

    def lasting():
        return {
            vm["spec"]["name"]: (vm["uid"], vm["spec"], vm["desired"], [(i["name"], i["uid"]) for i in vm["instances"]])
            for vm in cluster.json("vm", "list")["vms"]
        }

    before = lasting()
    identity = cluster.json("cluster", "status")["id"]
    nodes = [(n["name"], n["uid"]) for n in cluster.json("node", "list")["nodes"]]
    for node in cluster.nodes:
        node.terminate()
    for node in cluster.nodes:
        node.start()
    assert cluster.json("cluster", "status")["id"] == identity
    assert lasting() == before
    assert [(n["name"], n["uid"]) for n in cluster.json("node", "list")["nodes"]] == nodes
    again = cluster.json("vm", "create", "keyed", "--microvm-config", HELLO, "--request-id", "keyed-1")
    assert again["uid"] == before["keyed"][0]
    # Simulated machines end with their daemon; the restart policy brings back those that may.
    cluster.wait("db", "phase=Running")


def test_all_members_tell_the_same_chain_at_the_same_index(shared):
    shared.create("chained", "--replicas", 3)

    def chains():
        told = [shared.json("cluster", "status", "--stale", node=n) for n in shared.nodes]
        return {(t["index"], t["chain"]) for t in told}

    until(lambda: len(chains()) == 1, 20, "three members at one index tell one digest")
    ((index, chain),) = chains()
    assert int(index) > 0 and chain


def test_a_second_daemon_on_a_data_directory_is_refused(shared):
    node = shared.nodes[1]
    second = subprocess.run(
        [a if a != str(node.socket) else f"{a}2" for a in node.arguments()], capture_output=True, text=True, timeout=30
    )
    assert second.returncode == EXIT_RETRY, second.stderr
    assert str(node.dir) in second.stderr
    assert shared.json("cluster", "status", node=node)["leader"]


def test_join_of_a_member_and_a_taken_name_are_refused(shared, new_cluster):
    done = shared.cli(
        "cluster", "join", "--address", f"unix:{shared.nodes[0].socket}", node=shared.nodes[2], check=False
    )
    assert done.returncode == EXIT_CONFLICT, done.stderr
    stranger = new_cluster(names=("n2",)).nodes[0]
    stranger.start()
    done = stranger.cli("cluster", "join", "--address", f"unix:{shared.nodes[0].socket}", check=False)
    assert done.returncode == EXIT_CONFLICT, done.stderr
    assert "n2" in done.stderr


# ---- hostile values, by the CLI and by a stock gRPC client


@pytest.mark.parametrize(
    "name", ["", "x" * 300, "../x", "-rf", "\N{COLLISION SYMBOL}", "a\nb", "UPPER", "a_b", "ends-", "."]
)
def test_a_hostile_name_is_refused_with_the_pattern_and_nothing_is_made(shared, messages, name):
    before = shared.names()
    with Stub(messages, shared.nodes[1].socket) as stub:
        code, sentence, blixard = refused(stub.VmCreate, request(messages, name))
        assert (code, blixard) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")
        assert "name" in sentence
        assert refused(stub.VmGet, messages.VmNameRequest(name=name))[0] in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
        )
    done = shared.cli("vm", "create", "--microvm-config", HELLO, "--", name, check=False)
    assert done.returncode == EXIT_USAGE, done.stderr
    assert done.stderr.count("\n") == 1 and "name" in done.stderr
    assert shared.names() == before


@pytest.mark.parametrize("memory", ["-1", "0", "31", "1e99", "512 MB", str(2**64), "NaN", "", "1048577"])
def test_a_hostile_size_is_refused_with_range_and_unit(shared, memory):
    done = shared.cli("vm", "create", "sized", "--microvm-config", HELLO, "--memory", memory, check=False)
    assert done.returncode == EXIT_USAGE, done.stderr
    assert "32" in done.stderr and "1048576" in done.stderr and "MiB" in done.stderr
    assert "sized" not in shared.names()


@pytest.mark.parametrize(
    "field, value, bound",
    [
        ("memory_mib", 31, "32"),
        ("memory_mib", 2**32 - 1, "1048576"),
        ("vcpus", 513, "512"),
        ("replicas", 1001, "1000"),
        ("stop_timeout_ms", 999, "1000"),
    ],
)
def test_a_value_out_of_range_through_the_socket_names_field_value_and_bound(shared, messages, field, value, bound):
    with Stub(messages, shared.nodes[0].socket) as stub:
        code, sentence, blixard = refused(stub.VmCreate, request(messages, "ranged", **{field: value}))
    assert (code, blixard) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")
    assert field in sentence and str(value) in sentence and bound in sentence


def test_other_hostile_requests_are_refused_and_the_daemon_stays_up(shared, messages):
    with Stub(messages, shared.nodes[2].socket) as stub:
        large = request(messages, "large")
        large.config = b"#" * 49153
        assert refused(stub.VmCreate, large)[0] == grpc.StatusCode.INVALID_ARGUMENT
        huge = request(messages, "huge")
        huge.config = b"#" * (5 << 20)
        assert refused(stub.VmCreate, huge)[0] in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
        nothing = messages.VmCreateRequest(spec=messages.VmSpec(name="nothing"))
        assert refused(stub.VmCreate, nothing)[0] == grpc.StatusCode.INVALID_ARGUMENT
        both = request(messages, "both", flake="path:/x#y")
        assert refused(stub.VmCreate, both)[0] == grpc.StatusCode.INVALID_ARGUMENT
        many = request(messages, "many")
        for number in range(65):
            many.spec.labels.add(key=f"k{number}", value="v")
        assert refused(stub.VmCreate, many)[0] == grpc.StatusCode.INVALID_ARGUMENT
        for hypervisor in ("firecracker", "stratovirt"):
            other = request(messages, "other", hypervisor=getattr(messages.Hypervisor, hypervisor))
            code, sentence, _ = refused(stub.VmCreate, other)
            assert code == grpc.StatusCode.UNIMPLEMENTED and hypervisor in sentence
        raw = stub.channel.unary_unary("/blixard.v1.Blixard/VmCreate")
        for noise in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a", bytes(range(256))):
            assert refused(raw, noise)[0] == grpc.StatusCode.INVALID_ARGUMENT
        unknown = stub.channel.unary_unary("/blixard.v1.Blixard/VmExplode")
        assert refused(unknown, b"")[0] == grpc.StatusCode.UNIMPLEMENTED
    assert not shared.names() & {"large", "huge", "nothing", "both", "many", "other"}
    assert all(n.answers() for n in shared.nodes)


def test_a_config_that_comes_and_goes_with_its_last_vm_is_there_for_every_create(shared, messages):
    """The leader leaves a config out that the cluster holds; it may be gone when the create is applied."""

    def come_and_go(worker):
        with Stub(messages, shared.nodes[worker % 3].socket) as stub:
            for turn in range(40):
                wanted = request(messages, f"brief-{worker}-{turn}x")
                wanted.config = b"{ microvm.mem = 128; } # for nobody else"
                wanted.stopped, wanted.request_id = True, f"brief-{worker}-{turn}"
                made = stub.VmCreate(wanted)
                assert stub.VmCreate(wanted).uid == made.uid
                stub.VmDelete(messages.VmNameRequest(name=wanted.spec.name))

    parallel([lambda n=n: come_and_go(n) for n in range(6)])
    assert not [name for name in shared.names() if name.startswith("brief-")]


def test_the_lines_of_the_first_design_work_as_they_are_written(new_cluster):
    """With the socket in the environment, and nginx.nix in the directory where they are typed."""
    cluster = new_cluster(("n1", "other"))
    first, other = cluster.nodes
    first.start("--bootstrap")
    other.start()

    def typed(line, node=first):
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "BLIXARD_SOCKET": str(node.socket)}
        done = subprocess.run(line, shell=True, cwd=HELLO.parent, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    typed(f"blixard cluster join --node-id node4 --address unix:{first.socket}", node=other)
    assert "node4" in typed("blixard node list")
    typed("blixard vm create nginx --microvm-config nginx.nix --replicas 3")
    nginx = json.loads(typed("blixard vm status nginx --format json"))
    assert (nginx["spec"]["name"], nginx["spec"]["replicas"], len(nginx["instances"])) == ("nginx", 3, 3)


# ---- a stock gRPC client


def test_a_stock_client_creates_watches_and_deletes_a_vm(shared, messages):
    phase = messages.Phase
    with Stub(messages, shared.nodes[1].socket) as stub:
        created = stub.VmCreate(request(messages, "stock", replicas=2))
        assert created.phase == phase.Pending and created.spec.memory_mib == 128
        running = set()

        def both_run(event):
            if event.kind == messages.EventKind.instance and event.phase == phase.Running:
                running.add(event.name)
            return running == {"stock-1", "stock-2"}

        events = follow(stub, messages, both_run, vm="stock")
        assert [e.index for e in events] == sorted(e.index for e in events)
        assert all("stock" in (e.name, e.vm) for e in events)
        last = events[-1].index
        stub.VmDelete(messages.VmNameRequest(name="stock"))

        def gone(event):
            return event.kind == messages.EventKind.vm and event.type == messages.EventType.deleted

        later = follow(stub, messages, gone, vm="stock", since_index=last)
        assert all(e.index > last for e in later)
        assert refused(stub.VmGet, messages.VmNameRequest(name="stock"))[0] == grpc.StatusCode.NOT_FOUND


def test_two_watches_by_different_members_tell_the_same_story(shared, messages):
    start = int(shared.json("cluster", "status")["index"])
    shared.create("story", "--replicas", 2)
    shared.cli("vm", "delete", "story", "--wait")
    told = []
    for node in shared.nodes:
        with Stub(messages, node.socket) as stub:
            events = follow(
                stub,
                messages,
                lambda e: e.name == "story" and e.type == messages.EventType.deleted,
                vm="story",
                since_index=start,
            )
        told.append([(e.index, e.name, e.type, e.phase, e.epoch) for e in events])
    assert told[0] == told[1] == told[2]
    assert (told[0][0][1], told[0][0][2]) == ("story", messages.EventType.created)


def test_an_instance_name_finds_its_vm_and_unknown_names_say_so(shared, messages):
    shared.create("parent", "--replicas", 2)
    with Stub(messages, shared.nodes[0].socket) as stub:
        assert stub.VmGet(messages.VmNameRequest(name="parent-2")).spec.name == "parent"
        code, sentence, blixard = refused(stub.VmStop, messages.VmNameRequest(name="nobody"))
        assert (code, blixard) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND") and "nobody" in sentence
