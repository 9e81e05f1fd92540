"""Nodes: cordon, labels, and deletion by force. Three daemons, everything real but the virtual machines."""

import signal

import grpc
import pytest

from cluster import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE, HELLO, instances, until
from stock import Stub, refused


def test_a_cordoned_node_keeps_what_runs_and_uncordon_places_what_waited(new_cluster):
    cluster = new_cluster().form()
    before = cluster.create("stays", "--replicas", 3)
    revision = cluster.json("node", "describe", "n1")["node"]["revision"]
    done = cluster.cli("node", "cordon", "n1", "--if-revision", int(revision) + 1, check=False)
    assert done.returncode == EXIT_CONFLICT and "read it again" in done.stderr, done.stderr
    cluster.cli("node", "cordon", "n1", "--if-revision", revision, "--reason", "a fan is loud")
    for other in ("n2", "n3"):
        cluster.cli("node", "cordon", other)
    cluster.create("waits", wait=False)

    def why():
        return cluster.get("waits")["reason"]["text"]

    until(lambda: all(f"{n.name} is cordoned" in why() for n in cluster.nodes), 10, "the reason names the nodes")
    assert instances(cluster.get("stays")) == instances(before)
    node = cluster.json("node", "describe", "n1", node=cluster.nodes[2])["node"]
    assert node["cordon_reason"] == "a fan is loud" and node["cordoned_by"].startswith("uid:")
    assert int(node["joined_ms"]) <= int(node["status_since_ms"]) <= int(node["cordoned_ms"])
    described = cluster.cli("node", "describe", "n1").stdout
    for words in ("Ready, cordoned", "a fan is loud", "blixard node uncordon n1", "stays-", "Free:"):
        assert words in described, described
    assert cluster.cli("node", "uncordon", "n1").stdout == "node/n1 is not cordoned\n"
    cluster.wait("waits", "phase=Running")
    assert instances(cluster.get("waits"))["waits-1"]["node"] == "n1"


def test_labels_that_users_set_win_over_the_daemons_and_survive_its_restart(new_cluster):
    cluster = new_cluster(names=("n1",), more=("--label", "zone=a", "--label", "rack=7")).form()

    def labels():
        return {label["key"]: label["value"] for label in cluster.json("node", "describe", "n1")["node"]["labels"]}

    assert labels() == {"zone": "a", "rack": "7"}
    cluster.create("picky", "--node-selector", "zone=b", wait=False)
    until(lambda: "does not carry the label zone=b" in cluster.get("picky")["reason"]["text"], 10, "it says why")
    cluster.cli("node", "label", "n1", "zone=b", "disk=ssd")
    cluster.wait("picky", "phase=Running")
    cluster.nodes[0].terminate()
    cluster.nodes[0].start()
    assert labels() == {"zone": "b", "disk": "ssd", "rack": "7"}
    cluster.cli("node", "label", "n1", "zone-", "disk-")
    assert labels() == {"zone": "a", "rack": "7"}
    done = cluster.cli("node", "label", "n1", "zone-", check=False)
    assert done.returncode == EXIT_CONFLICT and "--label zone=" in done.stderr, done.stderr
    assert cluster.cli("node", "label", "n9", "a=b", check=False).returncode == EXIT_NOT_FOUND
    for word in ("zone", "=b", "-", "x" * 64 + "=1"):
        assert cluster.cli("node", "label", "n1", "--", word, check=False).returncode == EXIT_USAGE


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_deleted_by_force_the_name_is_free_and_the_node_that_returns_cleans_up(new_cluster, how):
    cluster = new_cluster().form()
    leader = cluster.leader()
    victim = next(n for n in cluster.nodes if n is not leader)
    ask = {"node": leader}
    cluster.cli("node", "label", victim.name, "for=web", **ask)
    old = instances(cluster.create("web", "--node-selector", "for=web", **ask))["web-1"]
    assert old["node"] == victim.name
    done = cluster.cli("vm", "delete", "web", "--force", check=False, **ask)
    assert done.returncode == EXIT_CONFLICT, done.stderr
    assert victim.name in done.stderr and "delete it without --force" in done.stderr

    def detail():
        return cluster.json("node", "describe", victim.name, **ask)

    if how == "killed":
        victim.kill()
    else:
        victim.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: detail()["node"]["status"] == "Suspect", 20, "the leader misses the node")
        node = detail()["node"]
        assert int(node["status_since_ms"]) >= int(node["joined_ms"]) + 9000
        reason = node["reason"]
        assert reason["code"] == "NodeSilent" and "--force" in reason["unblock"]
        cluster.cli("vm", "delete", "web", **ask)
        described = cluster.cli("vm", "describe", "web", **ask).stdout
        assert f"its name is free when {victim.name} confirmed" in described
        assert f"{victim.name} is not heard from" in described and "--force" in described
        done = cluster.cli("vm", "create", "web", "--microvm-config", HELLO, check=False, **ask)
        assert done.returncode == EXIT_CONFLICT and victim.name in done.stderr, done.stderr
        force = ("vm", "delete", "web", "--force", "--request-id", "force-1")
        cluster.cli(*force, **ask)
        assert cluster.cli("vm", "get", "web", check=False, **ask).returncode == EXIT_NOT_FOUND
        new = instances(cluster.create("web", **ask))["web-1"]
        assert int(new["uid"]) > int(old["uid"]) and new["node"] != victim.name
        cluster.cli(*force, **ask)  # sent again, it is answered again and meets no other VM
        assert [(t["instance"], t["instance_uid"], t["dead"]) for t in detail()["tombstones"]] == [
            ("web-1", old["uid"], False)
        ]
        assert detail()["node"]["allocated"]["memory_mib"] == 128
        assert "TO REMOVE" in cluster.cli("node", "describe", victim.name, **ask).stdout
    finally:
        if how == "paused":
            victim.process.send_signal(signal.SIGCONT)
    if how == "killed":
        victim.start()
    until(lambda: not detail()["tombstones"], 30, "the node that returned removed what it held")
    cluster.wait_ready()
    assert detail()["node"]["allocated"]["memory_mib"] == 0 and not detail()["instances"]
    assert "-> gone" in victim.log.read_text()
    assert instances(cluster.get("web", **ask))["web-1"] == new
    until(lambda: len({cluster.json("cluster", "status", "--stale", node=n)["chain"] for n in cluster.nodes}) == 1, 20,
          "the members tell one digest")


def test_hostile_requests_about_nodes_are_refused_by_name_and_change_nothing(shared, messages):
    label, invalid = messages.Label, grpc.StatusCode.INVALID_ARGUMENT
    before = shared.json("node", "describe", "n1")["node"]["revision"]
    with Stub(messages, shared.nodes[2].socket) as stub:
        for name in ("", "N1", "../n1", "n1\n", "x" * 64):
            assert refused(stub.NodeGet, messages.NodeNameRequest(name=name))[0] == invalid
            assert refused(stub.NodeCordon, messages.NodeCordonRequest(name=name))[0] == invalid
        assert refused(stub.NodeGet, messages.NodeNameRequest(name="n9"))[0] == grpc.StatusCode.NOT_FOUND
        for field, rows in (
            ("set", [label(key="", value="x")]),
            ("set", [label(key="k\x1b[2J", value="x")]),
            ("set", [label(key="k", value="v" * 254)]),
            ("set", [label(key="k", value="1"), label(key="k", value="2")]),
            ("set", [label(key=f"k{n}") for n in range(65)]),
            ("unset", [label(key="k" * 64)]),
        ):
            code, sentence, blixard = refused(stub.NodeLabel, messages.NodeLabelRequest(name="n1", **{field: rows}))
            assert (code, blixard) == (invalid, "INVALID"), sentence
        code, sentence, _ = refused(stub.NodeCordon, messages.NodeCordonRequest(name="n1", reason="r" * 257))
        assert code == invalid and "256" in sentence
        got = stub.NodeGet(messages.NodeNameRequest(name="n1"))
    assert str(got.node.revision) == str(before) and not got.node.cordoned
    assert got.free.memory_mib + got.node.allocated.memory_mib == got.node.capacity.memory_mib
