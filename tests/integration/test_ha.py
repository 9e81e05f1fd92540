"""Fencing, as users see it: three daemons, everything real but the virtual machines."""

import os
import pathlib
import select
import subprocess

import grpc
import pytest

import cluster as clusters
from cluster import EXIT_CONFLICT, instances, until
from stock import Stub, refused


def follower_with(cluster, *vms):
    """A follower that runs one instance of each of these VMs, without high availability."""
    leader = cluster.leader()
    victim = next(n for n in cluster.nodes if n is not leader)
    cluster.cli("node", "label", victim.name, "for=these", node=leader)
    for name in vms:
        cluster.create(name, "--node-selector", "for=these", node=leader)
    return leader, victim


def test_a_silent_node_is_fenced_by_an_operators_word_and_what_is_not_to_move_waits_for_it(new_cluster):
    cluster = new_cluster().form()
    leader, victim = follower_with(cluster, "plain")
    name = victim.name
    fence = ("node", "fence", name, "--yes-name", name, "--proved", "its plug was pulled")
    done = cluster.cli(*fence, node=leader, check=False)
    assert done.returncode == EXIT_CONFLICT and "is heard from" in done.stderr, done.stderr
    victim.kill()

    def node():
        return cluster.json("node", "describe", name, node=leader)["node"]

    until(lambda: node()["status"] == "Suspect", 20, "the leader misses the node")
    assert node()["fence"] == "none"
    for _ in range(2):  # sent again, it finds its work done
        done = cluster.cli(*fence, "--request-id", "fence-1", "--reason", "smoke", node=leader)
        assert done.stdout == f"node/{name} is fenced: what it had starts elsewhere\n"
    now = node()
    assert (now["status"], now["fence"]) == ("Fenced", "done")
    assert now["fence_reason"].startswith("operator uid:") and now["fence_reason"].endswith(": smoke")
    assert now["fence_proof"].startswith("operator uid:") and now["fence_proof"].endswith(": its plug was pulled")
    assert "1 instance there waits for it" in now["reason"]["text"]
    plain = instances(cluster.get("plain", node=leader))["plain-1"]
    assert (plain["phase"], plain["reason"]["code"], plain["epoch"]) == ("Unreachable", "HaOff", 1)
    assert plain["reason"]["unblock"] == (
        f"it goes on when {name} comes back; `blixard vm delete plain --force` gives it up")
    described = cluster.cli("node", "describe", name, node=leader).stdout
    for words in ("Fenced", "its plug was pulled", "Fence reason:", "smoke"):
        assert words in described, described
    cluster.cli("vm", "delete", "plain", "--force", node=leader)
    assert node()["status"] == "Clean"
    status = cluster.cli("ha", "status", node=leader).stdout
    assert "Clean" in next(line for line in status.splitlines() if line.startswith(name + " ")), status
    cluster.create("more", node=leader)
    assert instances(cluster.get("more", node=leader))["more-1"]["node"] != name


def test_without_a_word_of_his_a_fence_waits_for_its_proof_and_says_how_long(new_cluster):
    cluster = new_cluster().form()
    leader, victim = follower_with(cluster, "plain")
    name = victim.name
    victim.kill()
    done = cluster.cli("node", "fence", name, "--yes-name", name, node=leader)
    assert "is being fenced" in done.stdout, done.stdout
    node = cluster.json("node", "describe", name, node=leader)["node"]
    assert node["status"] == "Fencing" and 20000 < node["status_left_ms"] <= 33150, node
    assert node["lease_left_ms"] == 0 and "--proved" in node["reason"]["unblock"]
    row = next(n for n in cluster.json("ha", "status", node=leader)["nodes"] if n["node"]["name"] == name)
    assert row["node"]["status"] == "Fencing"
    until(lambda: cluster.json("node", "describe", name, node=leader)["node"]["status"] == "Fenced", 45,
          "the time has proved it")
    proof = cluster.json("node", "describe", name, node=leader)["node"]["fence_proof"]
    assert proof.startswith("lease: not answered for ") and proof.endswith(" s, T_safe is 34 s"), proof


def test_an_instance_with_ha_waits_for_a_node_that_can_end_it_and_says_what_is_missing(shared):
    shared.cli("vm", "create", "ha", "--microvm-config", clusters.HELLO, "--ha", "auto", "--ha-max-restart", 2)
    try:
        until(lambda: "cannot end highly available instances itself" in shared.get("ha")["reason"]["text"] or
              "--no-watchdog" in shared.get("ha")["reason"]["text"], 10, "it says what its nodes lack")
        spec = shared.get("ha")["spec"]
        assert (spec["ha"], spec["ha_max_restart"]) == ("auto", 2)
        assert "HA:" in shared.cli("vm", "describe", "ha").stdout
        status = shared.json("ha", "status")
        assert [n["node"]["name"] for n in status["nodes"]] == ["n1", "n2", "n3"]
        assert all(n["auto_missing"] for n in status["nodes"]) and status["instances"] == 0
    finally:
        shared.cli("vm", "delete", "ha", "--wait")


def test_disarmed_and_armed_again(shared):
    shared.cli("ha", "disarm", "--for", "10m", "--reason", "a new switch")
    status = shared.json("ha", "status", node=shared.nodes[1])
    assert not status["armed"] and status["disarm_reason"] == "a new switch"
    assert status["disarmed_by"].startswith("uid:")
    assert 590000 < status["disarmed_until_ms"] - status["time_ms"] <= 600000
    until_ms = status["disarmed_until_ms"] + 33150 + 75000
    assert status["extended_until_ms"] == until_ms
    assert "disarmed until" in shared.cli("ha", "status").stdout
    shared.cli("ha", "arm")
    status = shared.json("ha", "status")
    assert status["armed"] and status["disarmed_until_ms"] == 0 and status["extended_until_ms"] == until_ms


def test_a_fence_command_is_kept_with_its_node(shared):
    revision = int(shared.json("node", "describe", "n2")["node"]["revision"])
    set_it = ("node", "fence-command", "n2", "--set", "/usr/bin/power off n2")
    assert shared.cli(*set_it, "--if-revision", revision + 1, check=False).returncode == EXIT_CONFLICT
    shared.cli(*set_it, "--if-revision", revision)
    assert "/usr/bin/power off n2" in shared.cli("node", "describe", "n2", node=shared.nodes[2]).stdout
    shared.cli("node", "fence-command", "n2", "--unset")
    assert shared.json("node", "describe", "n2")["node"]["fence_command"] == ""


def test_hostile_requests_about_fencing_are_refused_and_change_nothing(shared, messages):
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    with Stub(messages, shared.nodes[2].socket) as stub:
        for name in ("", "N1", "../n1", "n1\n", "x" * 64):
            assert refused(stub.NodeFence, messages.NodeFenceRequest(name=name))[0] == invalid
            assert refused(stub.NodeFenceCommand, messages.NodeFenceCommandRequest(name=name))[0] == invalid
        assert refused(stub.NodeFence, messages.NodeFenceRequest(name="n9"))[0] == grpc.StatusCode.NOT_FOUND
        for bad in ({"reason": "r" * 129}, {"proved": "p" * 257}, {"proved": "off\x1b[2J"}, {"reason": "a\nb"}):
            assert refused(stub.NodeFence, messages.NodeFenceRequest(name="n1", **bad))[0] == invalid, bad
        for command in ("ipmitool off", "./off", "/" + "x" * 1024, "/bin/true\n"):
            code, sentence, _ = refused(stub.NodeFenceCommand,
                                        messages.NodeFenceCommandRequest(name="n1", command=command))
            assert code == invalid, (command, sentence)
        for bad in ({"for_ms": 86400001}, {"for_ms": 2**64 - 1}, {"for_ms": 1000, "reason": "r" * 257}):
            assert refused(stub.HaDisarm, messages.HaDisarmRequest(**bad))[0] == invalid, bad
    assert all(n["node"]["fence"] == "none" for n in shared.json("ha", "status")["nodes"])


@pytest.mark.parametrize("typed, begins", [("n2\n", "that is not n1: nothing was done"), ("", "that is not n1"),
                                           ("n1\n", "node n1 is heard from")])
def test_at_a_terminal_the_name_is_asked_for(shared, typed, begins):
    ours, theirs = os.openpty()
    environment = {"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(shared.nodes[0].socket)}
    words = [str(pathlib.Path(clusters.BIN) / "blixard"), "node", "fence", "n1", "--proved", "it burnt"]
    with subprocess.Popen(words, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"Type its name to go on: " not in shown:
            assert select.select([ours], [], [], 10)[0], shown
            shown += os.read(ours, 4096)
        os.write(ours, typed.encode() or b"\x04")
        try:
            while select.select([ours], [], [], 10)[0]:
                more = os.read(ours, 4096)
                if not more:
                    break
                shown += more
        except OSError:
            pass  # the other end is closed
        status = process.wait(timeout=10)
    os.close(ours)
    text = shown.decode()
    assert "if its machine is on, it runs twice" in text and begins in text, text
    assert status == (EXIT_CONFLICT if typed == "n1\n" else 2), text
