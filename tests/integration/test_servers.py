"""Who votes and who stands by; who leads; nodes that leave, are removed, and come back. Real daemons."""

import pytest

from cluster import EXIT_CONFLICT, EXIT_CORRUPT, EXIT_NOT_FOUND, EXIT_RETRY, EXIT_USAGE, Node, until


def votes(one, **more):
    return {n["name"] for n in one.json("node", "list", **more)["nodes"] if n.get("voter")}


def instances_on(one, name):
    return next(n["instances"] for n in one.json("node", "list")["nodes"] if n["name"] == name)


def join(one, name, *more):
    node = Node(one, name)
    node.start(*more)
    node.cli("cluster", "join", "--address", f"unix:{one.running_nodes()[0].socket}")
    one.nodes.append(node)
    return node


def ended(node):
    until(lambda: node.process.poll() is not None, 20, f"{node.name} ended; its log:\n{node.log_end()}")
    return node.process.returncode


def comes_back(node):
    """A daemon that is started, asks for its place, and ends when it hears that it has none."""
    try:
        node.start()
    except AssertionError:
        pass  # so soon that nothing was asked of it
    assert ended(node) == EXIT_CORRUPT


def refused_start(node):
    """A daemon that is started and ends; what it says last."""
    with pytest.raises(AssertionError) as why:
        node.start()
    assert node.process.returncode == EXIT_CORRUPT, why.value
    return node.log_end()


def test_of_seven_servers_five_vote_and_the_others_take_over(new_cluster):
    one = new_cluster(names=("n1",)).form()
    for i in range(2, 7):
        join(one, f"n{i}")
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    # A stand-by answers as any member does, and runs instances.
    stand_by = one.node("n6")
    one.create("web", "--replicas", 6, "--strategy", "LoadBalanced", node=stand_by)
    assert instances_on(one, "n6") == 1
    join(one, "n7")
    until(lambda: len(votes(one)) == 5, 20, "five of seven vote")
    leader = one.leader()
    rest = [n for n in one.nodes if n.name in votes(one) and n is not leader]
    for node in rest[:2]:
        node.kill()
    one.cli("vm", "stop", "web", node=leader)  # three of five agree
    for node in rest[:2]:
        node.start()
    one.wait_ready()
    one.delete_all()


def test_voters_follow_the_zones(new_cluster):
    one = new_cluster(names=("n1",)).form()
    for name in ("n2", "n3", "n4", "n5"):
        join(one, name)
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    for name, zone in (("n1", "a"), ("n2", "a"), ("n3", "a"), ("n4", "b"), ("n5", "c")):
        one.cli("node", "label", name, f"zone={zone}")
    until(lambda: {"n4", "n5"} < votes(one) and len(votes(one)) == 3, 20, "one of each zone votes")


def test_a_voter_that_is_gone_for_a_minute_is_replaced_and_comes_back_as_a_stand_by(new_cluster):
    one = new_cluster(names=("n1",)).form()
    for name in ("n2", "n3", "n4"):
        join(one, name)
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    gone = next(n for n in one.nodes if n.name in ("n2", "n3") and n is not one.leader())
    gone.kill()
    until(lambda: votes(one) == {"n1", "n2", "n3", "n4"} - {gone.name}, 90, "n4 votes instead")
    gone.start()
    one.wait_ready()
    assert votes(one, node=gone) == {"n1", "n2", "n3", "n4"} - {gone.name}
    assert gone.cli("cluster", "status").stdout.startswith("Cluster:")


def test_leadership_moves_on_request(new_cluster):
    one = new_cluster(names=("n1",)).form()
    done = one.cli("cluster", "transfer-leadership", check=False)
    assert done.returncode == EXIT_CONFLICT and "nobody to hand leadership to" in done.stderr, done.stderr
    for name in ("n2", "n3", "n4"):
        join(one, name)
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    for node in one.nodes[:3]:
        said = one.cli("cluster", "transfer-leadership", node.name, node=one.node("n4")).stdout
        assert said == f"{node.name} leads\n"
        assert one.leader() is node
    one.cli("cluster", "transfer-leadership")
    until(lambda: one.json("cluster", "status")["leader"] in ("n1", "n2"), 10, "another one leads")
    done = one.cli("cluster", "transfer-leadership", "n4", check=False)
    assert done.returncode == EXIT_CONFLICT and "n4 does not vote" in done.stderr, done.stderr
    done = one.cli("cluster", "transfer-leadership", "n9", check=False)
    assert done.returncode == EXIT_NOT_FOUND and "no node named n9" in done.stderr, done.stderr


def test_a_server_leaves_is_replaced_and_begins_anew(new_cluster):
    one = new_cluster(names=("n1",)).form()
    done = one.cli("cluster", "leave", check=False)
    assert done.returncode == EXIT_CONFLICT and "n1 is the only server" in done.stderr, done.stderr
    for name in ("n2", "n3", "n4"):
        join(one, name)
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    leader = one.leader()
    one.create("web", "--node-selector", "no=where", wait=False)
    one.cli("vm", "delete", "web", "--wait")
    assert "has left its cluster" in leader.cli("cluster", "leave").stdout
    assert ended(leader) != 0
    one.nodes.remove(leader)
    until(lambda: votes(one) == {"n1", "n2", "n3", "n4"} - {leader.name}, 20, "the stand-by votes instead")
    assert len(one.json("node", "list")["nodes"]) == 3
    assert "is no member of the cluster" in refused_start(leader)
    for entry in leader.dir.iterdir():
        entry.rename(one.dir / f"old-{entry.name}")
    leader.start()
    leader.cli("cluster", "join", "--address", f"unix:{one.running_nodes()[0].socket}")
    one.nodes.append(leader)
    one.wait_ready()
    assert one.json("node", "list")["nodes"][int(leader.name[1:]) - 1]["uid"] == 5


def test_a_node_that_holds_something_does_not_leave(new_cluster):
    one = new_cluster(names=("n1", "n2", "n3")).form()
    one.cli("node", "label", "n3", "at=n3")
    one.create("web", "--node-selector", "at=n3")
    n3 = one.node("n3")
    done = n3.cli("cluster", "leave", check=False)
    assert done.returncode == EXIT_CONFLICT and "web-1: not confirmed dead on n3" in done.stderr, done.stderr
    assert len(votes(one)) == 3 and not one.json("node", "list")["nodes"][2].get("cordoned")
    one.cli("vm", "delete", "web", "--wait")
    n3.cli("cluster", "leave")
    assert ended(n3) != 0
    one.nodes.remove(n3)
    until(lambda: votes(one) == {"n1", "n2"}, 20, "two vote")


def test_a_removed_server_that_comes_back_is_refused(new_cluster):
    """Hostile act 20: with its old directory, in its old life and in the next."""
    one = new_cluster(names=("n1",)).form()
    for name in ("n2", "n3", "n4"):
        join(one, name)
    until(lambda: votes(one) == {"n1", "n2", "n3"}, 20, "three vote")
    gone = next(n for n in one.nodes if n.name in ("n2", "n3") and n is not one.leader())
    done = one.cli("node", "remove", gone.name, "--yes-name", gone.name, check=False)
    assert done.returncode == EXIT_CONFLICT and f"{gone.name} is heard from: let it leave" in done.stderr, done.stderr
    gone.kill()
    one.nodes.remove(gone)
    until(lambda: "Suspect" in one.cli("node", "list").stdout, 20, "it is suspect")
    for words, says in (([], f"mean it with --yes-name {gone.name}"), (["--yes-name", "n9"], "--yes-name is not n")):
        done = one.cli("node", "remove", gone.name, *words, check=False)
        assert done.returncode == EXIT_USAGE and says in done.stderr, done.stderr
    again = ["node", "remove", gone.name, "--yes-name", gone.name, "--request-id", "once"]
    assert one.cli(*again).stdout == f"node/{gone.name} is removed\n"
    assert one.cli(*again).stdout == f"node/{gone.name} is removed\n"
    assert len(one.json("node", "list")["nodes"]) == 3
    until(lambda: votes(one) == {"n1", "n2", "n3", "n4"} - {gone.name}, 20, "the stand-by votes instead")
    comes_back(gone)
    assert "is no member of the cluster" in gone.log_end() and "empty its data directory" in gone.log_end()
    assert "is no member of the cluster" in refused_start(gone)
    assert len(one.json("node", "list")["nodes"]) == 3 and len(votes(one)) == 3


def test_a_server_that_is_forced_to_leave_ends_what_runs_there_which_starts_elsewhere(new_cluster):
    one = new_cluster(names=("n1", "n2", "n3")).form()
    one.cli("node", "label", "n3", "at=n3")
    one.create("web", "--node-selector", "at=n3")
    one.cli("node", "label", "n1", "at=n3")
    n3 = one.node("n3")
    assert "What ran there has ended" in n3.cli("cluster", "leave", "--force").stdout
    assert ended(n3) != 0
    one.nodes.remove(n3)
    one.wait("web", "phase=Running")
    now = one.json("vm", "get", "web")["instances"][0]
    assert (now["node"], now["epoch"]) == ("n1", 2), now
    log = n3.log.read_text()
    assert log.index("web-1, epoch 1: stopping -> dead") < log.index("has left its cluster")
    until(lambda: votes(one) == {"n1", "n2"}, 20, "two vote")


def test_who_hears_of_no_leader_leaves_by_force_if_it_is_a_worker(new_cluster):
    one = new_cluster(names=("n1", "n2", "n3")).form()
    worker = Node(one, "w1")
    worker.start()
    worker.cli("cluster", "join", "--address", f"unix:{one.nodes[0].socket}", "--worker")
    servers = list(one.nodes)
    one.nodes.append(worker)
    one.wait_ready()
    one.cli("node", "label", "w1", "at=w1")
    one.create("web", "--node-selector", "at=w1")
    for node in servers[1:]:
        node.kill()
    n1 = servers[0]
    until(lambda: not one.json("cluster", "status", "--stale", node=n1).get("leader"), 20, "nobody leads")
    done = n1.cli("--timeout", "90s", "cluster", "leave", "--force", check=False)
    assert done.returncode == EXIT_CONFLICT and "n1 is a server and cannot leave unheard" in done.stderr, done
    n1.kill()
    until(lambda: "no server has told this worker" in
          worker.cli("cluster", "status", "--stale", "-o", "json").stdout, 20, "it hears of no server")
    done = worker.cli("cluster", "leave", check=False)
    assert done.returncode == EXIT_RETRY, done
    assert "node/w1 has left its cluster" in worker.cli("cluster", "leave", "--force").stdout
    assert ended(worker) != 0
    log = worker.log.read_text()
    assert log.index("web-1, epoch 1: stopping -> dead") < log.index("which could not be told")
    assert "is no member of the cluster" in refused_start(worker)
    one.nodes.remove(worker)
    for node in servers:
        node.start()
    until(lambda: one.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "the cluster is back")
    assert one.json("vm", "get", "web")["instances"][0]["node"] == "w1"
    until(lambda: one.cli("node", "fence", "w1", "--yes-name", "w1", "--proved", "it left", check=False)
          .returncode == 0, 30, "it is fenced")


def test_a_worker_leaves_and_a_removed_one_is_refused(new_cluster):
    one = new_cluster(names=("n1",)).form()
    workers = [Node(one, name) for name in ("w1", "w2")]
    for worker in workers:
        worker.start()
        worker.cli("cluster", "join", "--address", f"unix:{one.nodes[0].socket}", "--worker")
    one.nodes += workers
    one.wait_ready()
    assert "node/w1 has left its cluster" in workers[0].cli("cluster", "leave").stdout
    assert ended(workers[0]) != 0
    one.nodes.remove(workers[0])
    assert "is no member of the cluster" in refused_start(workers[0])
    workers[1].kill()
    one.nodes.remove(workers[1])
    until(lambda: "Suspect" in one.cli("node", "list").stdout, 20, "it is suspect")
    one.cli("node", "remove", "w2", "--yes-name", "w2")
    comes_back(workers[1])
    assert "is no member of the cluster" in refused_start(workers[1])
    assert [n["name"] for n in one.json("node", "list")["nodes"]] == ["n1"]
