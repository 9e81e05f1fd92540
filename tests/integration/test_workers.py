"""Workers: nodes that run instances and take no part in consensus. Real daemons, simulated virtual machines."""

import re
import signal
import subprocess

import pytest

from cluster import BIN, EXIT_CONFLICT, Cluster, Node, instances, until

WORKERS = ("w1", "w2")


def add_workers(cluster):
    """Two workers join: one asks from the outside, the other is invited from the inside."""
    workers = [Node(cluster, name) for name in WORKERS]
    for worker in workers:
        worker.start()
    server = cluster.nodes[0]
    workers[0].cli("cluster", "join", "--address", f"unix:{server.socket}", "--worker")
    server.cli("cluster", "join", "--address", f"unix:{workers[1].socket}", "--worker")
    cluster.nodes += workers
    cluster.wait_ready()
    for worker in workers:
        cluster.cli("node", "label", worker.name, "kind=worker")
    return cluster


def on_workers(cluster, name, *arguments, **more):
    """A VM that only workers take."""
    return cluster.create(name, "--node-selector", "kind=worker", *arguments, **more)


def starts(cluster):
    """How often each instance was started in each epoch, by all the daemons' logs."""
    count = {}
    for node in cluster.nodes:
        for name, epoch in re.findall(r"(\S+), epoch (\d+): \S+ -> starting", node.log.read_text()):
            count[name, int(epoch)] = count.get((name, int(epoch)), 0) + 1
    return count


def epochs(cluster, name, **more):
    return {i["name"]: (i["node"], i["epoch"], i["uid"]) for i in cluster.get(name, **more)["instances"]}


@pytest.fixture(scope="module")
def five():
    cluster = Cluster()
    try:
        yield add_workers(cluster.form())
    finally:
        cluster.close()


@pytest.fixture
def new_five(new_cluster):
    return add_workers(new_cluster().form())


# ---- what harms nobody


def test_workers_show_as_such_and_never_vote(five):
    for node in five.nodes:
        roles = {n["name"]: (n["role"], n.get("voter", False)) for n in five.json("node", "list", node=node)["nodes"]}
        assert roles == {
            **{n: ("server", True) for n in ("n1", "n2", "n3")},
            **{w: ("worker", False) for w in WORKERS},
        }
    table = five.cli("node", "list").stdout
    assert re.search(r"w1 +Ready +worker,simulated ", table) and re.search(r"n2 +Ready +server,", table), table
    assert re.search(r"Roles: +worker,simulated\n", five.cli("node", "describe", "w1").stdout)
    assert re.search(r"w2 +Ready +worker,", five.cli("cluster", "status", "--verbose").stdout)
    for worker in five.nodes[3:]:
        assert sorted(p.name for p in worker.dir.iterdir() if p.is_dir()) == ["agent"], "it has no log"


def test_any_verb_asked_of_a_worker_is_answered(five):
    w1, w2 = five.nodes[3:]
    vm = on_workers(five, "through", "--replicas", 2, node=w1)
    assert {i["node"] for i in vm["instances"]} == set(WORKERS)
    assert {i["phase"] for i in vm["instances"]} == {"Running"}
    assert five.get("through", node=w2) == five.get("through")
    status = five.json("cluster", "status", node=w1)
    assert status["leader"] and len(status["nodes"]) == 5
    watch = subprocess.Popen(
        [str(BIN / "blixard"), "events", "--follow", "--for", "vm/through", "-o", "json"],
        env={"BLIXARD_SOCKET": str(w1.socket)}, stdout=subprocess.PIPE, text=True,
    )
    try:
        five.cli("vm", "restart", "through-1", "--wait", node=w2)
        assert "through" in watch.stdout.readline()
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()
    five.cli("vm", "stop", "through", "--wait", node=w1)
    five.cli("vm", "delete", "through", "--wait", node=w2)
    assert "through" not in five.names(node=w1)
    done = five.cli("vm", "get", "through", node=w1, check=False)
    assert done.returncode == 3 and "through" in done.stderr


def test_a_worker_says_of_itself_what_it_knows(five):
    w1 = five.nodes[3]
    on_workers(five, "self", "--replicas", 2)
    status = five.json("cluster", "status", "--stale", node=w1)
    me = status["nodes"][0]
    assert (status["answered_by"], len(status["nodes"]), me["name"], me["role"]) == ("w1", 1, "w1", "worker")
    count = int(five.json("node", "describe", "w1")["node"]["instances"])
    assert count > 0 and (status["instances"], status["running"], me["instances"]) == (count, count, count)
    assert "knows of itself" in me["reason"]["text"] and "--stale" in me["reason"]["unblock"]
    five.cli("vm", "delete", "self", "--wait")


def test_what_instances_on_workers_use_is_asked_of_any_node(five):
    on_workers(five, "used", "--replicas", 2)
    for node in five.nodes:
        nodes = {n["node"]: n for n in five.json("top", node=node)["nodes"]}
        assert set(nodes) == {"n1", "n2", "n3", *WORKERS} and all(n["heard"] for n in nodes.values())
        seen = {i["instance"]: i for name in WORKERS for i in nodes[name]["instances"]}
        assert {"used-1", "used-2"} <= set(seen) and all("cpu_permille" in i for i in seen.values())
    five.cli("vm", "delete", "used", "--wait")


def test_the_console_of_an_instance_on_a_worker_is_read_from_any_node(five):
    vm = on_workers(five, "logs", "--replicas", 2)
    for node in five.nodes:
        assert "simulated console of logs-1" in five.cli("vm", "logs", "logs-1", node=node).stdout
        both = five.cli("vm", "logs", "logs", node=node).stdout
        assert "console of logs-1" in both and "console of logs-2" in both
    there = next(n for n in five.nodes if n.name == vm["instances"][0]["node"])
    follow = subprocess.Popen(
        [str(BIN / "blixard"), "vm", "logs", "logs-1", "--follow"],
        env={"BLIXARD_SOCKET": str(five.nodes[0].socket)}, stdout=subprocess.PIPE, text=True,
    )
    assert "console of logs-1" in follow.stdout.readline()
    follow.terminate()
    follow.wait()
    follow.stdout.close()
    assert five.cli("vm", "logs", "nothing", node=there, check=False).returncode == 3
    five.cli("vm", "delete", "logs", "--wait")


def test_a_cordoned_worker_keeps_what_runs_and_takes_nothing_new(five):
    five.cli("node", "cordon", "w1", "--reason", "its fan is loud")
    vm = on_workers(five, "cordoned", "--replicas", 3)
    assert {i["node"] for i in vm["instances"]} == {"w2"}
    five.cli("node", "uncordon", "w1", node=five.nodes[3])
    five.cli("vm", "delete", "cordoned", "--wait")


def test_a_worker_is_no_server_and_joins_only_once(five):
    w1 = five.nodes[3]
    for asked, there in ((w1, five.nodes[0]), (five.nodes[0], w1), (w1, five.nodes[4])):
        done = five.cli("cluster", "join", "--address", f"unix:{there.socket}", "--worker", node=asked, check=False)
        assert done.returncode == EXIT_CONFLICT and "in a cluster already" in done.stderr, done.stderr
    assert five.cli("cluster", "init", node=w1, check=False).returncode == EXIT_CONFLICT


# ---- what harms


def test_a_worker_goes_on_when_the_leader_is_killed(new_five):
    cluster = new_five
    on_workers(cluster, "calm", "--replicas", 4)
    before, leader = epochs(cluster, "calm"), cluster.leader()
    leader.kill()
    w1 = cluster.node("w1")
    until(lambda: cluster.cli("cluster", "status", node=w1, check=False).returncode == 0, 20, "there is a leader again")
    on_workers(cluster, "later", "--replicas", 2, node=w1)
    assert epochs(cluster, "calm", node=w1) == before
    assert {i["phase"] for i in cluster.get("calm", node=w1)["instances"]} == {"Running"}
    assert max(starts(cluster).values()) == 1
    leader.start()
    cluster.wait_ready()


def test_a_worker_that_was_killed_adopts_what_runs(new_five):
    cluster = new_five
    w1 = cluster.node("w1")
    on_workers(cluster, "kept", "--replicas", 2)
    w1.kill()
    w1.start()
    cluster.wait_ready()
    assert cluster.json("node", "describe", "w1")["node"]["role"] == "worker"
    # What it simulates ends with the daemon: it says so, and starts it under the next epoch.
    cluster.wait("kept", "phase=Running")
    assert max(starts(cluster).values()) == 1, starts(cluster)
    cluster.cli("vm", "delete", "kept", "--wait", node=w1)


def test_a_worker_outlives_its_servers_and_catches_up(new_five):
    cluster = new_five
    w1, w2 = cluster.nodes[3:]
    on_workers(cluster, "alone", "--replicas", 2)
    before = epochs(cluster, "alone")
    for server in cluster.nodes[:3]:
        server.terminate()
    done = cluster.cli("--timeout", "3s", "vm", "list", node=w1, check=False)
    assert done.returncode != 0 and "reaches no server" in done.stderr, done.stderr
    until(lambda: "no server has told" in cluster.json("cluster", "status", "--stale", node=w1)["nodes"][0]["reason"][
        "text"], 10, "it says that it is alone")
    status = cluster.json("cluster", "status", "--stale", node=w1)
    assert (status["instances"], status["running"]) == (1, 1)
    here = next(name for name, (node, _, _) in before.items() if node == "w1")
    assert f"console of {here}" in cluster.cli("--timeout", "3s", "vm", "logs", here, node=w1).stdout
    w2.kill()
    w2.start()
    for server in cluster.nodes[:3]:
        server.start()
    cluster.wait_ready()
    cluster.wait("alone", "phase=Running")
    after = epochs(cluster, "alone", node=w1)
    assert {n: i for n, i in after.items() if i[0] == "w1"} == {n: i for n, i in before.items() if i[0] == "w1"}
    assert max(starts(cluster).values()) == 1, starts(cluster)
    on_workers(cluster, "again", "--replicas", 2, node=w2)
    for name in ("alone", "again"):
        cluster.cli("vm", "delete", name, "--wait", node=w1)


def test_a_worker_finds_the_other_servers_when_its_first_is_gone(new_five):
    cluster = new_five
    w1 = cluster.node("w1")
    w1.terminate()
    cluster.nodes[0].kill()
    w1.start()
    until(lambda: cluster.cli("cluster", "status", node=w1, check=False).returncode == 0, 20, "it found another server")
    until(lambda: [n["status"] for n in cluster.json("node", "list", node=w1)["nodes"]].count("Ready") == 4, 20,
          "the leader hears it")
    on_workers(cluster, "there", "--replicas", 2, node=w1)
    cluster.nodes[0].start()
    cluster.wait_ready()


def test_a_server_that_hangs_is_left_by_its_workers(new_five):
    cluster = new_five
    leader = cluster.leader()
    hung = next(n for n in cluster.nodes[:3] if n is not leader)
    hung.process.send_signal(signal.SIGSTOP)
    try:
        for number in range(3):
            on_workers(cluster, f"on-{number}x", "--replicas", 2, node=leader)
    finally:
        hung.process.send_signal(signal.SIGCONT)
    cluster.wait_ready()
    assert max(starts(cluster).values()) == 1


def test_more_workers_than_servers_may_be(new_cluster):
    cluster = new_cluster(names=("n1",)).form()
    workers = [Node(cluster, f"w{number}") for number in range(1, 10)]
    for worker in workers:
        worker.start()
        worker.cli("cluster", "join", "--address", f"unix:{cluster.nodes[0].socket}", "--worker")
    cluster.nodes += workers
    cluster.wait_ready()
    vm = cluster.create("wide", "--replicas", 20)
    assert len({i["node"] for i in vm["instances"]}) == 10
    assert sum(n.get("voter", False) for n in cluster.json("node", "list")["nodes"]) == 1
    assert instances(vm)["wide-1"]["phase"] == "Running"
