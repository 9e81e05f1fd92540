"""The audit log of three daemons: who asked, why, what came of it; the same chain everywhere, whatever happens."""

import json
import os
import random
import sqlite3
import subprocess
import threading

import pytest

from cluster import EXIT_CORRUPT, EXIT_NOT_FOUND, EXIT_USAGE, Cluster, until
from stock import Stub, refused


@pytest.fixture
def three():
    one = Cluster(log_level="info")
    try:
        yield one.form()
    finally:
        one.close()


def records(node, *flags):
    return node.cluster.json("audit", "list", "--stale", "--limit", 100000, *flags, node=node)["records"]


def chain(node):
    return [(r["seq"], r["hash"]) for r in records(node)]


def level(one):
    """Wait until every server has applied what the leader has, and has every record of it."""
    def same():
        all_of = [chain(n) for n in one.running_nodes()]
        return all(c == all_of[0] for c in all_of)
    until(same, 30, "every server has the same records")


def verdict(node, status=0):
    done = node.cli("audit", "verify", "-o", "json", check=False)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout), done.stderr


def define(one, name, *flags, **more):
    return one.cli("vm", "create", name, "--flake", "github:o/r/0123456789012345678901234567890123456789#x",
                   "--stopped", *flags, **more)


def change(node, sql):
    """As somebody who can write the file would."""
    database = sqlite3.connect(node.dir / "history.db", timeout=20)
    assert database.execute(sql).rowcount >= 1
    database.commit()
    database.close()


def test_records_say_who_why_and_what_came_of_it_whoever_was_asked(three):
    follower = next(n for n in three.nodes if n is not three.leader())
    define(three, "web", "--reason", "für Zoë: 100 % \u2615", "--request-id", "r-1", node=follower)
    assert define(three, "web", "--reason", "again", node=follower, check=False).returncode == 5
    three.cli("node", "cordon", follower.name, "--reason", "new disk")
    three.cli("vm", "delete", "web", "--reason", "no longer needed", node=follower)
    level(three)
    made, again = [r for r in records(follower, "--object", "vm/web") if r["verb"] == "vm.create"]
    assert made["principal"] == again["principal"] == f"uid:{os.getuid()}"
    assert made["source"].startswith(f"{follower.name}: uid {os.getuid()}, pid "), made
    assert made["reason"] == "für Zoë: 100 % \u2615" and made["request_id"] == "r-1" and made["code"] == 0
    assert made["tenant"] == "default" and made["kind"] == "request"
    assert again["code"] != 0 and again["message"] and again["reason"] == "again"
    assert made["time_ms"] > 0 and again["index"] > made["index"]
    assert [r["reason"] for r in records(follower, "--verb", "node.cordon")] == ["new disk"]
    assert [r["reason"] for r in records(follower, "--verb", "vm.delete")] == ["no longer needed"]
    # How it became a cluster, too, and in whose name.
    joins = records(follower, "--verb", "node.join")
    assert [r["object"] for r in joins] == ["node/n1", "node/n2", "node/n3"]
    assert joins[1]["principal"] == f"uid:{os.getuid()}" and joins[1]["source"].startswith("n2: uid ")
    # Filters, one record, tables.
    assert [r["verb"] for r in records(follower, "--result", "refused", "--verb", "vm")] == ["vm.create"]
    assert [r["seq"] for r in records(follower, "--result", "EXISTS")] == [again["seq"]]
    assert not records(follower, "--principal", "uid:4711") and not records(follower, "--until", "1h")
    assert len(records(follower, "--since", "1h")) == len(records(follower))
    assert three.json("audit", "show", made["seq"])["hash"] == made["hash"]
    assert three.cli("audit", "show", 999999, check=False).returncode == EXIT_NOT_FOUND
    assert three.cli("audit", "show", "x", check=False).returncode == EXIT_USAGE
    assert three.cli("audit", "list", "--result", "maybe", check=False).returncode == EXIT_USAGE
    assert three.cli("vm", "stop", "web", "--reason", "x" * 257, check=False).returncode == EXIT_USAGE
    assert "für Zoë" in three.cli("audit", "list", "--limit", 50, "-o", "wide").stdout


def test_an_assignment_is_the_clusters_and_reports_leave_none(three):
    three.create("web", "--replicas", "2")
    level(three)
    assigned = [r for r in records(three.nodes[0]) if r["verb"] == "instance.assign"]
    assert sorted(r["object"] for r in assigned) == ["instance/web-1", "instance/web-2"]
    assert {(r["kind"], r["principal"]) for r in assigned} == {("cluster", "cluster")}
    assert all(r["detail"].startswith("to n") for r in assigned)
    verbs = {r["verb"] for r in records(three.nodes[0])}
    assert not {"node.report", "instance.explain"} & verbs


def test_the_chain_is_the_same_everywhere_and_a_changed_byte_is_named(three):
    for i in range(8):
        define(three, f"vm{i}", node=three.nodes[i % 3])
    level(three)
    # A vote that is given between two looks is a record more.
    until(lambda: len({verdict(node)[0]["head"] for node in three.nodes}) == 1, 10, "one head")
    good = verdict(three.nodes[1])[0]
    assert good["ok"] and good["records"] == good["last_seq"] and not good.get("cuts")
    change(three.nodes[1], "UPDATE audit SET record=CAST(replace(CAST(record AS TEXT),'vm5','vm6') AS BLOB) "
                           "WHERE instr(record,CAST('vm/vm5' AS BLOB))>0")
    bad, said = verdict(three.nodes[1], EXIT_CORRUPT)
    seq = next(r["seq"] for r in records(three.nodes[0]) if r["object"] == "vm/vm5")
    assert not bad["ok"] and bad["bad_seq"] == seq and f"record {seq}" in said, (bad, said)
    assert verdict(three.nodes[0])[0]["ok"]


def test_export_has_every_record_as_a_line(three):
    for i in range(5):
        define(three, f"vm{i}")
    path = three.dir / "export.jsonl"
    three.cli("audit", "export", path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["seq"] for r in lines] == list(range(1, len(lines) + 1))
    assert all(after["prev"] == before["hash"] for before, after in zip(lines, lines[1:]))
    out = three.cli("audit", "export", "-", "--verb", "vm.create").stdout.splitlines()
    assert [json.loads(line)["object"] for line in out] == [f"vm/vm{i}" for i in range(5)]
    assert three.cli("audit", "export", three.dir / "no/where", check=False).returncode != 0


def test_a_new_member_and_one_whose_database_is_gone_fetch_what_they_lack():
    one = Cluster(names=("n1", "n2", "n3"), log_level="info")
    try:
        first, second, third = one.nodes
        first.start("--bootstrap")
        for i in range(20):
            define(one, f"vm{i}")
        second.start()
        second.cli("cluster", "join", "--address", f"unix:{first.socket}", "--reason", "more of us")
        level(one)
        assert verdict(second)[0]["records"] == verdict(first)[0]["records"] > 20
        assert [r["reason"] for r in records(second, "--object", "node/n2", "--verb", "node.join")] == ["more of us"]
        # A database that is damaged is refused, and the way back is the one that it says.
        second.terminate()
        database = second.dir / "history.db"
        whole = database.read_bytes()
        database.write_bytes(b"\0" * 4096 + whole[4096:])
        status, said = ends(second)
        assert status == EXIT_CORRUPT and "history.db" in said and "move it away" in said, said
        for name in ("history.db", "history.db-wal", "history.db-shm"):
            (second.dir / name).unlink(missing_ok=True)
        second.start()
        third.start()
        third.cli("cluster", "join", "--address", f"unix:{first.socket}")
        level(one)
        for node in one.nodes:
            assert not verdict(node)[0].get("cuts")
    finally:
        one.close()


def ends(node):
    """Start it, and wait for its end."""
    done = subprocess.run(node.arguments(), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return done.returncode, done.stderr


def test_what_is_refused_before_the_log_is_in_a_chain_of_the_members_own(three):
    node = three.nodes[0]
    for i in range(3):
        refused = node.cli("vm", "create", f"big{i}", "--flake", "a path without a name", check=False)
        assert refused.returncode == EXIT_USAGE
    leader = three.leader()
    denied = three.json("audit", "list", "--denied", node=leader)["records"]
    assert [r["object"] for r in denied[-3:]] == ["vm/big0", "vm/big1", "vm/big2"]
    assert all(r["kind"] == "denied" and r["code"] != 0 and r["message"] and r["index"] == 0 for r in denied)
    assert leader.cli("audit", "verify", "--denied").returncode == 0
    change(leader, "UPDATE denied SET record=x'0801' WHERE seq=2")
    assert leader.cli("audit", "verify", "--denied", check=False).returncode == EXIT_CORRUPT


def test_kills_lose_no_record_of_an_acknowledged_write(three):
    """Each acknowledged change has its record on every server, once, after daemons were killed time and again."""
    dice = random.Random(7)
    done, stop = [], threading.Event()

    def write(thread):
        i = 0
        while not stop.is_set():
            i += 1
            nodes = three.running_nodes()
            if not nodes:
                continue
            name = f"v{thread}-{i}"
            try:
                made = define(three, name, "--timeout", "10s", node=dice.choice(nodes), check=False, timeout=60)
            except OSError:
                continue
            if made.returncode == 0:
                done.append(name)

    threads = [threading.Thread(target=write, args=(t,)) for t in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            threading.Event().wait(1.5)
            victim = dice.choice(three.nodes)
            victim.kill()
            threading.Event().wait(0.3)
            victim.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    three.wait_ready()
    level(three)
    assert len(done) > 20
    for node in three.nodes:
        made = [r["object"] for r in records(node, "--verb", "vm.create", "--result", "ok")]
        assert len(made) == len(set(made))
        assert {f"vm/{name}" for name in done} <= set(made)
        assert verdict(node)[0]["ok"] and not verdict(node)[0].get("cuts")


def fill_log(messages, node, megabytes):
    """Entries of 48 KiB: modules of VMs that are refused, for their name is taken."""
    with Stub(messages, node.socket) as stub:
        for i in range(megabytes * 22):
            spec = messages.VmSpec(name="full", memory_mib=32, vcpus=1)
            text = f"# {i}\n".encode() + b"#" * 48000 + b"\n{ }\n"
            request = messages.VmCreateRequest(spec=spec, config=text, stopped=True)
            if i == 0:
                stub.VmCreate(request)
            else:
                refused(stub.VmCreate, request)


def test_who_comes_by_a_snapshot_fetches_the_records_before_it_and_what_nobody_has_is_a_cut(messages):
    """The log is let go twice, so that a new member gets no entries from its beginning."""
    one = Cluster(names=("n1", "n2"), log_level="info")
    try:
        first, second = one.nodes
        first.start("--bootstrap")
        fill_log(messages, first, 110)
        second.start()
        second.cli("cluster", "join", "--address", f"unix:{first.socket}")
        level(one)
        assert "of the audit log are not here: other members are asked" in second.log.read_text()
        # A vote that is given meanwhile is a record more.
        until(lambda: verdict(second)[0]["records"] == verdict(first)[0]["records"] > 4000, 10, "as many records")
        assert not verdict(second)[0].get("cuts")
        # Both lose theirs: what is left is what comes again from the logs, and the cut is written down.
        for node in (first, second):
            node.terminate()
            for name in ("history.db", "history.db-wal", "history.db-shm"):
                (node.dir / name).unlink(missing_ok=True)
        for node in (first, second):
            node.start()
        one.wait_ready()

        def is_cut(node):
            cuts = verdict(node)[0].get("cuts", [])
            return len(cuts) == 1 and not cuts[0].get("fetching")

        for node in (first, second):
            until(lambda: is_cut(node), 30, f"{node.name} notes a cut")
            cut = verdict(node)[0]["cuts"][0]
            assert cut["first_seq"] == 1 and cut["last_seq"] > 1000 and "no other one" in cut["why"], cut
            assert verdict(node)[0]["ok"]
        define(one, "later")
        level(one)
        assert records(first)[-1]["object"] == "vm/later"
    finally:
        one.close()


def test_limits_remove_the_oldest_records_and_the_rest_verifies(messages):
    one = Cluster(names=("n1",), log_level="info", more=("--audit-max-size", "1"))
    try:
        node = one.nodes[0]
        node.start("--bootstrap")
        with Stub(messages, node.socket) as stub:
            stop = stub.channel.unary_unary(
                "/blixard.v1.Blixard/VmStop", request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=messages.Vm.FromString,
            )
            for i in range(4000):
                refused(lambda: stop(messages.VmNameRequest(name=f"none{i}"), timeout=20,
                                     metadata=(("blixard-reason", "r" * 250),)))
        until(lambda: verdict(node)[0].get("cuts"), 10, "a cut is noted")
        good = verdict(node)[0]
        cut = good["cuts"][0]
        assert good["ok"] and len(good["cuts"]) == 1 and cut["first_seq"] == 1 and "limits" in cut["why"], good
        assert 500 < good["records"] < 2500 and cut["last_seq"] + good["records"] == good["last_seq"] > 4000
        assert (node.dir / "history.db").stat().st_size < 4 << 20
        # It is so after a start, too, whatever the log gives again.
        node.terminate()
        node.start()
        assert verdict(node)[0]["cuts"] == good["cuts"]
    finally:
        one.close()


def test_what_is_no_line_is_refused_and_told(messages, three):
    node = three.leader()
    with Stub(messages, node.socket) as stub:
        stop = stub.channel.unary_unary(
            "/blixard.v1.Blixard/VmStop", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=messages.Vm.FromString,
        )
        for meta in (("blixard-reason", "a%0Ab"), ("blixard-reason", "x" * 300), ("blixard-principal", "p" * 200)):
            status, said, code = refused(lambda: stop(messages.VmNameRequest(name="web"), timeout=20, metadata=(meta,)))
            assert code == "INVALID" and meta[0].removeprefix("blixard-") in said
    denied = three.json("audit", "list", "--denied", node=node)["records"]
    assert len(denied) == 3 and all(r["verb"] == "vm.stop" for r in denied)


def test_refusals_beyond_the_rate_are_counted_not_kept(messages, three):
    node = three.leader()
    with Stub(messages, node.socket) as stub:
        def bad():
            assert refused(stub.VmStop, messages.VmNameRequest(name="No Name"))[2] == "INVALID"
        for _ in range(400):
            bad()

        def told():
            bad()
            return "left out" in three.json("audit", "list", "--denied", node=node)["records"][-1]["detail"]

        until(told, 5, "a record says how many were left out")
    denied = three.json("audit", "list", "--denied", "--limit", 1000, node=node)["records"]
    assert 100 <= len(denied) < 300


def test_a_database_that_is_not_the_logs_stops_the_daemon_and_the_way_back_works(three):
    for i in range(3):
        define(three, f"vm{i}")
    level(three)
    victim = next(n for n in three.nodes if n is not three.leader())
    victim.terminate()
    change(victim, "UPDATE audit SET hash=zeroblob(32) WHERE seq=3")
    with open(victim.log, "ab") as log:
        victim.process = subprocess.Popen(victim.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    assert victim.process.wait(30) == 7
    said = victim.log.read_text()
    assert "record 3 of the audit log" in said and "move it away" in said
    for name in ("history.db", "history.db-wal", "history.db-shm"):
        (victim.dir / name).unlink(missing_ok=True)
    victim.start()
    level(three)
    assert verdict(victim)[0]["ok"] and not verdict(victim)[0].get("cuts")
