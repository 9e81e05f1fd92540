"""Daemons that are killed, halted and damaged while they are used."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from chaos import Chaos, launch
from cluster import BIN, EXIT_CONFLICT, EXIT_CORRUPT, HELLO, Cluster, until

FAST = ("--heartbeat-ms", "50", "--election-ms", "500")
ROOMY = "vcpus=4096,memory_mib=1048576"


def descriptors(cluster):
    return sum(len(os.listdir(f"/proc/{node.pid}/fd")) for node in cluster.nodes)


def test_nothing_acknowledged_is_lost_and_members_stay_equal_while_daemons_are_killed_and_halted(new_cluster, messages):
    cluster = new_cluster(capacity=ROOMY, more=FAST, log_level="info").form()
    before = descriptors(cluster)
    chaos = Chaos(cluster, messages, seed=2026, workers=5)
    chaos.run(25)
    chaos.check()
    until(lambda: descriptors(cluster) <= before + 12, 10, "descriptors are closed with their connections")


def ask_to_join(node, member):
    command = [str(BIN / "blixard"), "--timeout", "20s", "cluster", "join", "--address", f"unix:{member.socket}"]
    environment = {"BLIXARD_SOCKET": str(node.socket), "PATH": os.environ["PATH"]}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def join_cut(node, member, seconds):
    """Begin a join, and kill the daemon that joins."""
    asking = ask_to_join(node, member)
    time.sleep(seconds)
    node.kill()
    asking.kill()
    asking.wait()


def test_a_founding_and_joins_that_were_cut_anywhere_go_on_with_the_same_command(new_cluster):
    cluster = new_cluster(more=FAST, log_level="info")
    dice = random.Random(7)
    first, *rest = cluster.nodes
    for _ in range(6):
        launch(first, "--bootstrap")
        time.sleep(dice.uniform(0, 0.1))
        first.kill()
    first.start("--bootstrap")
    until(lambda: first.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 10, "it serves")
    for node in rest:
        for _ in range(4):
            node.start()
            join_cut(node, first, dice.choice((dice.uniform(0, 0.03), dice.uniform(0, 0.3))))
        node.start()
        done = node.cli("cluster", "join", "--address", f"unix:{first.socket}", check=False)
        # A restart may have finished the join by itself.
        assert done.returncode == 0 or (done.returncode == EXIT_CONFLICT and "already" in done.stderr), done.stderr

    def whole():
        nodes = cluster.json("node", "list", node=first)["nodes"]
        return len(nodes) == 3 and all(n["status"] == "Ready" and n.get("voter") for n in nodes)

    until(whole, 15, "three nodes are ready, and vote")


def test_a_node_whose_place_was_under_way_when_the_leader_died_gets_it_from_the_next(new_cluster):
    cluster = new_cluster(names=("n1", "n2", "n3", "n4"), more=FAST, log_level="info")
    first, second, third, last = cluster.nodes
    first.start("--bootstrap")
    for node in (second, third):
        node.start()
        node.cli("cluster", "join", "--address", f"unix:{first.socket}")
    last.start()
    asking = ask_to_join(last, second)
    until((last.dir / "raft/member").exists, 10, "it has a uid")
    os.kill(last.pid, signal.SIGSTOP)  # it does not catch up
    time.sleep(0.3)
    cluster.leader(node=first).kill()
    os.kill(last.pid, signal.SIGCONT)
    said = asking.communicate()[1]
    assert asking.returncode == 0, said
    survivor = cluster.running_nodes()[0]

    def has_place():
        done = survivor.cli("--timeout", "2s", "node", "list", "-o", "json", check=False)
        nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
        ready = {n["name"] for n in nodes if n["status"] == "Ready"}
        return ready == {n.name for n in cluster.running_nodes()} and sum(n.get("voter", False) for n in nodes) == 3

    until(has_place, 20, "it stands by, and three vote")


@pytest.fixture(scope="module")
def killed():
    """A member that was killed after use, and a copy of its directory."""
    one = Cluster(names=("n1", "n2"), more=FAST, log_level="info")
    try:
        one.form()
        for number in range(5):
            one.cli("vm", "create", f"v{number}", "--microvm-config", HELLO)
        node = one.nodes[1]
        time.sleep(2.2)  # what is damaged within a second of its writing may pass for a torn write
        node.kill()
        copy = one.dir / "copy"
        shutil.copytree(node.dir, copy, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
        yield node, copy
    finally:
        one.close()


def flip(pattern, at):
    def act(directory):
        for path in directory.glob(pattern):
            content = bytearray(path.read_bytes())
            content[at] ^= 0x10
            path.write_bytes(content)
    return act


def remove(*patterns):
    def act(directory):
        for path in [p for pattern in patterns for p in directory.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return act


@pytest.mark.parametrize("damage, named", [
    (flip("identity", 40), "identity"), (flip("raft/member", 25), "raft/member"),
    (flip("raft/meta-*", 30), "raft"), (flip("raft/log-*", 9), "raft"), (flip("raft/log-*", 600), "raft"),
    (remove("raft/log-*"), "raft"), (remove("raft"), "raft"), (remove("raft/*"), "raft"),
    (remove("raft/log-*", "raft/meta-*"), "raft"), (remove("raft/meta-*"), "raft"), (remove("raft/member"), "raft"),
    (remove("raft/mark"), "raft"),
    (remove("identity"), "identity"),
])
def test_a_damaged_or_missing_file_is_refused_by_name_and_never_taken_for_an_empty_node(killed, damage, named):
    node, copy = killed
    shutil.rmtree(node.dir)
    shutil.copytree(copy, node.dir)
    damage(node.dir)
    done = subprocess.run(node.arguments(), capture_output=True, text=True, timeout=20)
    assert done.returncode == EXIT_CORRUPT, done.stderr
    assert f"{node.dir}/{named}" in done.stderr.splitlines()[-1]


def test_an_init_upon_half_a_restored_log_exits_with_7_and_works_once_that_is_gone(killed, new_cluster):
    """Most CORRUPT keep a daemon from answering at all; this one reaches the command line."""
    _, copy = killed
    fresh = new_cluster(names=("fresh",)).nodes[0]
    fresh.start()
    shutil.copytree(copy / "raft", fresh.dir / "raft")
    (fresh.dir / "raft/member").unlink()
    done = fresh.cli("cluster", "init", check=False)
    assert done.returncode == EXIT_CORRUPT and done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert f"{fresh.dir}/raft" in sentence and "restore it" in sentence and "[CORRUPT]" in sentence
    assert fresh.process.wait(20) == EXIT_CORRUPT
    shutil.rmtree(fresh.dir / "raft")
    fresh.start()
    until(lambda: fresh.cli("cluster", "status", check=False).returncode == 0, 20, "it goes on founding its cluster")
