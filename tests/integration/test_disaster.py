"""Most of a cluster is lost: one server goes on, or a backup becomes a new cluster."""

import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import threading
import time

from chaos import launch
from cluster import BIN, EXIT_CONFLICT, EXIT_CORRUPT, EXIT_RETRY, EXIT_USAGE, HELLO, Node, instances, until
from daemons import blixardd

FAST = ("--heartbeat-ms", "50", "--election-ms", "500")
ROOMY = "vcpus=4096,memory_mib=1048576"


class Load:
    """Creates VMs from several threads; `acknowledged` are those that the cluster said were made."""

    def __init__(self, cluster, node, prefix, threads=4):
        self.cluster, self.node, self.prefix = cluster, node, prefix
        self.acknowledged, self.lock, self.over = set(), threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        count = 0
        while not self.over.is_set():
            name = f"{self.prefix}-{number}-{count}"
            count += 1
            done = self.cluster.cli("--timeout", "2s", "vm", "create", name, "--microvm-config", HELLO, node=self.node,
                                    check=False)
            if done.returncode == 0:
                with self.lock:
                    self.acknowledged.add(name)

    def reach(self, count):
        until(lambda: len(self.acknowledged) >= count, 60, f"{count} VMs were made")

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.acknowledged


def digests(directory):
    """What is in it, but for sockets and the lock."""
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(pathlib.Path(directory).rglob("*")) if p.is_file() and p.name != "lock"}


def inspect(directory):
    done = blixardd("recover", "--inspect", "--data-dir", directory)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def recover(node, *more):
    return blixardd("recover", "--data-dir", node.dir, *more)


def join_new(cluster, name, member):
    node = Node(cluster, name)
    cluster.nodes.append(node)
    node.start()
    node.cli("cluster", "join", "--address", f"unix:{member.socket}")
    return node


def ended_refused(node):
    """An old server stopped itself, and said why and what to do."""
    try:
        node.process.wait(20)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{node.name} does not stop itself:\n{node.log_end()}") from None
    log = node.log.read_text()
    assert node.process.returncode == EXIT_CORRUPT and "was recovered without member" in log, node.log_end()
    assert "join as a new node" in log


def test_the_last_server_goes_on_with_all_that_was_acknowledged_and_old_ones_stay_out(new_cluster):
    cluster = new_cluster(capacity=ROOMY, more=FAST, log_level="info").form()
    survivor = cluster.leader()
    lost = [n for n in cluster.nodes if n is not survivor]
    worker = Node(cluster, "w1")
    worker.start()
    worker.cli("cluster", "join", "--worker", "--address", f"unix:{lost[0].socket}")
    load = Load(cluster, survivor, "vm")
    load.reach(40)
    for node in lost:
        node.kill()
    busy = recover(survivor)
    assert busy.returncode == EXIT_RETRY and "stop it" in busy.stderr, busy
    made = load.end()
    survivor.kill()
    for node in lost:
        shutil.copytree(node.dir, cluster.dir / f"old-{node.name}", symlinks=True, ignore=lambda d, names: [
            n for n in names if (pathlib.Path(d) / n).is_socket()])
        shutil.rmtree(node.dir)

    before = digests(survivor.dir)
    dry = recover(survivor)
    assert dry.returncode == 0 and "Nothing was changed" in dry.stdout, dry
    assert "the longest log" in dry.stdout and all(n.name in dry.stdout for n in lost)
    wrong = recover(survivor, "--yes-cluster-id", cluster.id[:-1] + "x")
    assert wrong.returncode == EXIT_USAGE and cluster.id in wrong.stderr, wrong
    assert digests(survivor.dir) == before
    seen = inspect(survivor.dir)
    assert seen["cluster_id"] == cluster.id and len(seen["servers"]) == 3 and seen["vms"] >= len(made)

    done = recover(survivor, "--yes-cluster-id", cluster.id)
    assert done.returncode == 0 and "becomes the only one" in done.stdout and "cluster join" in done.stdout, done
    again = recover(survivor, "--yes-cluster-id", cluster.id)
    assert again.returncode == EXIT_CONFLICT and "only one already" in again.stderr, again
    cluster.nodes = [survivor, worker]
    survivor.start()
    until(lambda: cluster.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "it serves alone")
    assert made <= cluster.names()
    voters = {n["name"] for n in cluster.json("node", "list")["nodes"] if n.get("voter")}
    assert voters == {survivor.name}
    until(lambda: {n["name"] for n in cluster.json("node", "list")["nodes"] if n["status"] == "Ready"} ==
          {survivor.name, "w1"}, 20, "the worker has found the one that is left")
    cluster.create("after")

    # Wiped ones join anew; the old name is taken, and a directory without a log does not get its old uid back.
    same_name = Node(cluster, lost[0].name)
    cluster.nodes.append(same_name)
    same_name.start()
    refused = same_name.cli("cluster", "join", "--address", f"unix:{survivor.socket}", check=False)
    assert refused.returncode == EXIT_CONFLICT and "choose another name" in refused.stderr, refused
    same_name.terminate()
    cluster.nodes.remove(same_name)
    shutil.rmtree(same_name.dir)
    fresh = [join_new(cluster, name, survivor) for name in ("n4", "n5")]
    until(lambda: sum(1 for n in cluster.json("node", "list")["nodes"] if n.get("voter")) == 3, 20, "three vote again")
    cluster.create("wide", "--replicas", "3")

    # The old ones come back with what they had: a majority of their own group.
    term, leader = (cluster.json("cluster", "status")[k] for k in ("term", "leader"))
    for node in lost:
        shutil.copytree(cluster.dir / f"old-{node.name}", node.dir, symlinks=True)
        launch(node)
    for node in lost:
        ended_refused(node)
    after = cluster.json("cluster", "status")
    assert (after["term"], after["leader"]) == (term, leader)
    # With another leader here, and the one that was recovered not there at all.
    survivor.kill()
    until(lambda: cluster.cli("--timeout", "2s", "vm", "list", node=fresh[0], check=False).returncode == 0, 20,
          "the new ones have elected one of them")
    assert made | {"after", "wide"} <= cluster.names(node=fresh[0])


def unclear(cluster):
    return {n["name"] for n in cluster.json("node", "list")["nodes"] if n.get("unclear")}


def instance(cluster, name):
    return instances(cluster.json("vm", "get", name))[f"{name}-1"]


def test_nothing_runs_twice_although_what_the_lost_servers_had_acknowledged_is_lost(new_cluster):
    cluster = new_cluster(more=FAST, log_level="info").form()
    survivor = cluster.nodes[0]
    workers = [Node(cluster, name) for name in ("w1", "w2")]
    for worker in workers:
        worker.start()
        worker.cli("cluster", "join", "--worker", "--address", f"unix:{cluster.nodes[1].socket}")
        cluster.nodes.append(worker)
    cluster.wait_ready()
    for name in ("n1", "n2", "n3", "w2"):
        cluster.cli("node", "cordon", name)
    cluster.create("moved")
    cluster.create("again")
    cluster.create("steady")
    cluster.create("idle", "--stopped", wait=False)
    assert {instance(cluster, name)["node"] for name in ("moved", "again", "steady")} == {"w1"}
    survivor.terminate()
    # A start of a worker that the survivor does not know of.
    workers[1].terminate()
    workers[1].start()

    # What the survivor never hears of: one goes to the other worker, one is started again where it was, one for the
    # first time, and one is new.
    other = cluster.nodes[1]
    until(lambda: cluster.cli("--timeout", "2s", "vm", "list", node=other, check=False).returncode == 0, 20, "a leader")
    cluster.cli("vm", "restart", "again", "--wait", node=other)
    cluster.wait("again", "phase=Running", node=other)
    cluster.cli("vm", "stop", "moved", "--wait", node=other)
    cluster.cli("node", "cordon", "w1", node=other)
    cluster.cli("node", "uncordon", "w2", node=other)
    for name in ("moved", "idle"):
        cluster.cli("vm", "start", name, "--wait", node=other)
    cluster.create("unheard", node=other)
    was = {vm["spec"]["name"]: instances(vm)[vm["spec"]["name"] + "-1"]
           for vm in cluster.json("vm", "list", node=other)["vms"]}
    assert was["moved"]["node"] == "w2" and was["moved"]["epoch"] == 2 and was["again"]["epoch"] == 2
    for node in cluster.nodes[1:3]:
        node.kill()
        shutil.rmtree(node.dir)
    cluster.nodes = [survivor, *workers]

    done = recover(survivor, "--yes-cluster-id", cluster.id)
    assert done.returncode == 0 and "--proved 'HOW YOU KNOW'" in done.stdout, done
    survivor.start()
    until(lambda: cluster.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "it serves alone")
    until(lambda: unclear(cluster) == {"n2", "n3"}, 30, "who lives has said what runs there")
    # What runs where it was known to be ran on all the time, whatever its epoch is.
    for name in ("steady", "again"):
        now = instance(cluster, name)
        assert (now["node"], now["epoch"], now["phase"]) == ("w1", was[name]["epoch"], "Running"), now
    # What ran elsewhere does not any more, and starts nowhere; but what is new does.
    log = workers[1].log.read_text()
    assert "moved-1, epoch 2: stopping -> dead" in log and "idle-1, epoch 1: stopping -> dead" in log
    cluster.cli("vm", "start", "idle")
    cluster.cli("node", "uncordon", "n1")
    cluster.create("after")
    for name in ("moved", "idle"):
        cluster.wait(name, "phase=Pending")
        until(lambda: instance(cluster, name)["reason"]["code"] == "Recovered", 10, "it says why it waits")
    assert "unheard" not in cluster.names() and cluster.json("vm", "get", "after")["uid"] > 1 << 20
    node = cluster.json("node", "describe", "n2")["node"]
    assert node["unclear"] and "node fence n2 --proved" in node["reason"]["unblock"], node
    until(lambda: "has not said what runs there" in
          cluster.cli("node", "remove", "n2", "--yes-name", "n2", check=False).stderr, 30, "it is not removed")

    for name in ("n2", "n3"):
        until(lambda: cluster.cli("node", "fence", name, "--yes-name", name, "--proved", "unplugged", check=False)
              .returncode == 0, 30, f"{name} is silent, and proved off")
    for name in ("moved", "idle"):
        cluster.wait(name, "phase=Running")
        assert instance(cluster, name)["epoch"] == 1 << 32
    assert not unclear(cluster)
    assert instance(cluster, "steady")["epoch"] == was["steady"]["epoch"]
    cluster.cli("node", "remove", "n2", "--yes-name", "n2")


def test_a_recovery_is_refused_where_it_would_lose_or_is_not_needed(new_cluster):
    cluster = new_cluster(capacity=ROOMY, more=FAST, log_level="info").form()
    leader = cluster.leader()
    behind, other = [n for n in cluster.nodes if n is not leader]
    cluster.create("first", wait=False)
    behind.terminate()
    for number in range(5):
        cluster.create(f"more-{number}", wait=False, node=leader)
    until(lambda: cluster.json("cluster", "status", "--stale", node=other)["index"] ==
          cluster.json("cluster", "status", "--stale", node=leader)["index"], 20, "the other one has it all")

    alive = recover(behind, "--yes-cluster-id", cluster.id)
    assert alive.returncode == EXIT_CONFLICT and "are a majority" in alive.stderr, alive
    leader.terminate()
    # One that answers and this one would do, too.
    alive = recover(behind, "--yes-cluster-id", cluster.id)
    assert alive.returncode == EXIT_CONFLICT and "1 of 3 servers answer" in alive.stderr, alive
    other.terminate()

    shorter = recover(behind, "--with", other.dir, "--yes-cluster-id", cluster.id)
    assert shorter.returncode == EXIT_CONFLICT and f"{other.dir} has the longer log" in shorter.stderr, shorter
    note = cluster.dir / "note.json"
    note.write_text(json.dumps(inspect(leader.dir)))
    shorter = recover(behind, "--with", note)
    assert shorter.returncode == EXIT_CONFLICT and f"{leader.dir} has the longer log" in shorter.stderr, shorter
    assert "the longest log" in shorter.stdout
    twice = recover(behind, "--with", behind.dir)
    assert twice.returncode == EXIT_USAGE, twice
    for text in ("", "{", "[]", '{"uid": 3}', "\0" * 100):
        note.write_text(text)
        bad = recover(behind, "--with", note)
        assert bad.returncode in (EXIT_USAGE, EXIT_CORRUPT) and bad.stderr.startswith("blixardd: "), bad
    assert recover(leader, "--with", behind.dir, "--with", other.dir).returncode == 0

    nobody = blixardd("recover", "--data-dir", cluster.dir / "nothing")
    assert nobody.returncode == 3 and not (cluster.dir / "nothing").exists(), nobody
    mark = leader.dir / "raft/mark"
    mark.write_bytes(b"\xff" * mark.stat().st_size)
    before = digests(leader.dir)
    damaged = recover(leader, "--yes-cluster-id", cluster.id)
    assert damaged.returncode == EXIT_CORRUPT and digests(leader.dir) == before, damaged
    for arguments in (["--nonsense"], ["--yes-cluster-id"], ["word"]):
        assert blixardd("recover", *arguments).returncode == EXIT_USAGE
    assert "--even-though-alive" not in blixardd("recover", "--help").stdout


def test_a_worker_has_nothing_to_recover(new_cluster):
    cluster = new_cluster(names=("n1",), more=FAST).form()
    worker = Node(cluster, "w1")
    cluster.nodes.append(worker)
    worker.start()
    worker.cli("cluster", "join", "--worker", "--address", f"unix:{cluster.nodes[0].socket}")
    worker.terminate()
    refused = recover(worker)
    assert refused.returncode == EXIT_CONFLICT and "keeps no state" in refused.stderr, refused


# ---- backups


def backup(cluster, path, *more, node=None, check=True):
    done = cluster.cli("cluster", "backup", "save", path, *more, node=node, check=check)
    return done


def restore(path, directory, name, *more):
    return blixardd("restore", "--data-dir", directory, "--from", path, "--name", name, *more)


def what_was_wanted(cluster, **more):
    return {vm["spec"]["name"]: (vm["uid"], vm["spec"], vm["desired"]) for vm in
            cluster.json("vm", "list", **more)["vms"]}


def test_a_backup_under_load_becomes_a_new_cluster(new_cluster, tmp_path):
    old = new_cluster(capacity=ROOMY, more=FAST, log_level="info").form()
    old.create("web", "--replicas", "2")
    old.create("idle", "--stopped", wait=False)
    follower = next(n for n in old.nodes if n is not old.leader())
    load = Load(old, follower, "vm", threads=3)
    load.reach(20)
    acknowledged = set(load.acknowledged)
    path = tmp_path / "backup"
    saved = json.loads(backup(old, path, "-o", "json", node=follower).stdout)
    at_the_end = set(load.end())
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size == saved["bytes"]
    info = json.loads(old.cli("cluster", "backup", "inspect", path, "-o", "json").stdout)
    assert info == saved and info["cluster_id"] == old.id
    assert old.cli("cluster", "backup", "inspect", path).stdout.startswith("Cluster:")
    exists = backup(old, path, check=False)
    assert exists.returncode == EXIT_CONFLICT and "--force" in exists.stderr, exists
    assert list(tmp_path.iterdir()) == [path]
    # A quiet one, to compare with.
    wanted = what_was_wanted(old)
    epochs = {name: i["epoch"] for vm in old.json("vm", "list")["vms"] for name, i in instances(vm).items()}
    quiet = tmp_path / "quiet"
    backup(old, quiet)
    backup(old, quiet, "--force")
    for node in old.nodes:
        node.terminate()

    new = new_cluster(names=("m1",), capacity=ROOMY, more=FAST, log_level="info")
    first = new.nodes[0]
    done = restore(path, first.dir, "m1", "--cluster-name", "second")
    assert done.returncode == 0, done
    first.start()
    until(lambda: new.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "it serves")
    there = set(new.names()) - {"web", "idle"}
    assert acknowledged <= there and len(there) + 2 == saved["vms"]
    assert there - at_the_end <= {f"vm-{t}-{len([n for n in at_the_end if n.startswith(f'vm-{t}-')]) + x}"
                                  for t in range(3) for x in range(3)}
    status = new.json("cluster", "status")
    assert status["id"] != old.id and status["name"] == "second" and status["index"] > saved["index"]
    first.terminate()
    again = restore(path, first.dir, "m1")
    assert again.returncode == EXIT_CONFLICT and "not empty" in again.stderr, again

    third = new_cluster(names=("k1",), capacity=ROOMY, more=FAST, log_level="info")
    first = third.nodes[0]
    assert restore(quiet, first.dir, "k1").returncode == 0
    first.start()
    until(lambda: third.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "it serves")
    assert what_was_wanted(third) == wanted
    assert [n["name"] for n in third.json("node", "list")["nodes"]] == ["k1"]
    third.wait("web", "phase=Running")
    for vm in third.json("vm", "list")["vms"]:
        for name, i in instances(vm).items():
            assert i["epoch"] > epochs[name] or (i["epoch"] == epochs[name] and i.get("phase") != "Running"), i
    join_new(third, "k2", first)
    join_new(third, "k3", first)
    digest = third.json("cluster", "status", "--verbose")
    assert len(digest["nodes"]) == 3
    third.create("later", "--replicas", "3")

    # A restored one is saved, and restored.
    more = tmp_path / "more"
    backup(third, more, node=third.nodes[2])
    wanted = what_was_wanted(third)
    fourth = new_cluster(names=("j1",), capacity=ROOMY, more=FAST, log_level="info")
    assert restore(more, fourth.nodes[0].dir, "j1").returncode == 0
    fourth.nodes[0].start()
    until(lambda: fourth.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 20, "it serves")
    assert what_was_wanted(fourth) == wanted
    fourth.wait("later", "phase=Running")


def test_restored_instances_wait_and_say_why(new_cluster, tmp_path):
    old = new_cluster(names=("n1",), capacity="vcpus=4,memory_mib=4096", more=FAST).form()
    old.create("web", "--memory", "2000")
    path = tmp_path / "backup"
    backup(old, path)
    old.nodes[0].terminate()
    new = new_cluster(names=("m1",), capacity="vcpus=1,memory_mib=64", more=FAST)
    assert restore(path, new.nodes[0].dir, "m1").returncode == 0
    new.nodes[0].start()
    seen = []

    def says():
        done = new.cli("--timeout", "2s", "vm", "get", "web", "-o", "json", check=False)
        if done.returncode == 0:
            seen.append(instances(json.loads(done.stdout))["web-1"])
        return bool(seen)

    until(says, 20, "it serves")
    i = seen[0]
    assert i.get("phase", "Pending") == "Pending" and not i.get("node") and i["epoch"] == 1 << 32, i
    assert i["reason"]["code"] in ("Unplaced", "NoRoom"), i


def test_bad_backups_are_refused_and_a_cut_save_leaves_nothing(new_cluster, tmp_path):
    cluster = new_cluster(names=("n1",), more=FAST).form()
    for number in range(20):
        cluster.create(f"vm-{number}", wait=False)
    path = tmp_path / "backup"
    backup(cluster, path)
    whole = path.read_bytes()
    for cut in (0, 7, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        bad = cluster.cli("cluster", "backup", "inspect", path, check=False)
        assert bad.returncode == EXIT_CORRUPT and f"damaged at byte {cut}" in bad.stderr, bad
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    path.write_bytes(flipped)
    target = tmp_path / "node"
    bad = restore(path, target, "m1")
    assert bad.returncode == EXIT_CORRUPT and not target.exists(), bad
    assert cluster.cli("cluster", "backup", "inspect", tmp_path, check=False).returncode == EXIT_USAGE
    assert cluster.cli("cluster", "backup", "inspect", tmp_path / "none", check=False).returncode == 3
    assert cluster.cli("cluster", "backup", "restore", path, check=False).returncode == EXIT_USAGE
    path.unlink()

    # Killed at some moment of a save: either the whole of it is there, or nothing.
    for delay in (0.0, 0.002, 0.004, 0.006, 0.01, 0.02):
        saving = subprocess.Popen([str(BIN / "blixard"), "--socket", str(cluster.nodes[0].socket), "cluster", "backup",
                                   "save", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        saving.kill()
        saving.wait()
        assert list(tmp_path.iterdir()) in ([], [path])
        if path.exists():
            cluster.cli("cluster", "backup", "inspect", path)
            path.unlink()
    missing = cluster.cli("cluster", "backup", "save", tmp_path / "no/where", check=False)
    assert missing.returncode == 3, missing


def test_a_backup_that_nobody_reads_for_a_while_is_one_index_and_holds_up_nobody(new_cluster, tmp_path):
    cluster = new_cluster(names=("n1",), capacity=ROOMY, more=FAST, log_level="info").form()
    for number in range(40):
        cluster.create(f"vm-{number}", wait=False)
    before = cluster.names()
    path = tmp_path / "backup"
    saving = subprocess.Popen([str(BIN / "blixard"), "--socket", str(cluster.nodes[0].socket), "--timeout", "60s",
                               "cluster", "backup", "save", str(path)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
    saving.send_signal(signal.SIGSTOP)
    for number in range(40):
        cluster.create(f"later-{number}", wait=False)
    saving.send_signal(signal.SIGCONT)
    assert saving.wait(60) == 0, saving.stderr.read()
    info = json.loads(cluster.cli("cluster", "backup", "inspect", path, "-o", "json").stdout)
    assert len(before) <= info["vms"] <= 80 and info["instances"] == info["vms"]
    # The state can be replaced and snapshotted as ever afterwards.
    cluster.delete_all()
    backup(cluster, path, "--force")
    assert json.loads(cluster.cli("cluster", "backup", "inspect", path, "-o", "json").stdout).get("vms", 0) == 0
