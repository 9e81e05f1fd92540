"""What operators look at: times of consoles' lines, and what instances use."""

import datetime
import json
import os
import pty
import re
import signal
import subprocess
import time

from cluster import BIN

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_lines_of_consoles_have_times_on_every_member_and_old_ones_are_left_out(shared):
    before = time.time()
    shared.create("timed", "--replicas", 3)
    for node in shared.nodes:
        lines = shared.cli("vm", "logs", "timed", "--timestamps", node=node).stdout.splitlines()
        assert len(lines) == 3
        for line in lines:
            prefix, when, text = re.fullmatch(rf"(timed-\d) \| ({RFC3339}) (.*)", line).groups()
            assert text == f"simulated console of {prefix}"
            at = datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
            assert before - 0.01 <= at <= time.time()
        assert len(shared.cli("vm", "logs", "timed", "--since", "1h30m", node=node).stdout.splitlines()) == 3
        assert shared.cli("vm", "logs", "timed", "--since", "2100-01-01T00:00:00+01:00", node=node).stdout == ""
        date = datetime.datetime.fromtimestamp(before - 1, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        one = shared.cli("vm", "logs", "timed-2", "--since", date, "--tail", "5", node=node).stdout
        assert one == "simulated console of timed-2\n"
    time.sleep(1.1)
    assert shared.cli("vm", "logs", "timed", "--since", "1s").stdout == ""
    follower = subprocess.Popen(
        [BIN / "blixard", "vm", "logs", "timed-1", "-f", "--timestamps"],
        stdout=subprocess.PIPE, text=True, env={"BLIXARD_SOCKET": str(shared.nodes[1].socket)},
    )
    assert re.fullmatch(rf"{RFC3339} simulated console of timed-1\n", follower.stdout.readline())
    shared.cli("vm", "delete", "timed", "--wait")
    assert follower.wait(30) == 0


# ---- top


def top(cluster, *flags, **more):
    """(what each node said by name, what each instance uses by name) of `top -o json`."""
    nodes = {n["node"]: n for n in json.loads(cluster.cli("top", "-o", "json", *flags, **more).stdout)["nodes"]}
    return nodes, {i["instance"]: dict(i, node=n) for n in nodes for i in nodes[n]["instances"]}


def table(text):
    """The rows of a table as dictionaries, and the lines after it."""
    lines = text.splitlines()
    heads = lines[0].split()
    rows = [line for line in lines[1:] if len(line.split()) == len(heads)]
    return [dict(zip(heads, row.split())) for row in rows], lines[1 + len(rows):]


def test_top_has_every_running_instance_of_three_nodes_whoever_is_asked(shared):
    vm = shared.create("busy", "--replicas", 6)
    shared.create("idle", "--stopped", wait=False)
    where = {i["name"]: i["node"] for i in vm["instances"]}
    assert set(where.values()) == {"n1", "n2", "n3"}
    for node in shared.nodes:
        nodes, seen = top(shared, node=node)
        assert list(nodes) == ["n1", "n2", "n3"]
        assert all(n["heard"] and n["driver"] == "simulated" and not n["note"] for n in nodes.values())
        assert {name: seen[name]["node"] for name in seen} == where
        for one in seen.values():
            # The rule by which the simulated driver makes them up.
            assert abs(one["cpu_permille"] - 10 * (5 + int(one["uid"]) * 7 % 90)) <= 1
            assert int(one["memory_bytes"]) == (32 + int(one["uid"]) % 64) << 20 and int(one["uptime_ms"]) > 0
    shared.cli("vm", "delete", "idle", "--wait")


def test_top_is_sorted_and_sums_up_nodes(shared):
    rows, after = table(shared.cli("top").stdout)
    assert [r["NAME"] for r in rows] == [r["NAME"] for r in sorted(rows, key=lambda r: -float(r["CPU%"]))]
    assert len(rows) == 6 and after == ["numbers of simulated instances are made up (3 of 3 nodes)"]
    by_memory, _ = table(shared.cli("top", "vms", "--sort-by", "memory", "--once").stdout)
    sizes = [int(r["MEMORY"].rstrip("M")) for r in by_memory]
    assert sizes == sorted(sizes, reverse=True)
    text = shared.cli("top", "nodes").stdout.splitlines()
    for line in text[1:4]:
        name, count, cpu, of, memory, capacity, _, _, driver, heard = line.split()
        mine = [r for r in rows if r["NODE"] == name]
        assert int(count) == len(mine) and abs(float(cpu) - sum(float(r["CPU%"]) for r in mine)) < 0.5
        assert memory == f"{sum(int(r['MEMORY'].rstrip('M')) for r in mine)}M"
        assert (of, capacity, driver, heard) == ("6400.0", "64G", "simulated", "yes")
    assert shared.cli("top", "-o", "name").stdout.splitlines() == [f"instance/{r['NAME']}" for r in rows]


def test_top_on_a_terminal_goes_on_until_q(shared):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [BIN / "blixard", "top"], stdin=slave, stdout=slave, stderr=slave,
        env={"BLIXARD_SOCKET": str(shared.nodes[0].socket), "TERM": "xterm"},
    )
    os.close(slave)
    seen = b""
    while seen.count(b"\x1b[H") < 2:
        seen += os.read(master, 65536)
    assert b"busy-1" in seen and process.poll() is None
    os.write(master, b"q")
    assert process.wait(10) == 0
    os.close(master)


def test_a_node_that_is_dead_or_stands_still_is_said_to_be_not_heard_from(new_cluster):
    cluster = new_cluster().form()
    vm = cluster.create("web", "--replicas", 6, "--strategy", "LoadBalanced")
    where = {i["name"]: i["node"] for i in vm["instances"]}
    dead, still = cluster.node("n2"), cluster.node("n3")
    dead.kill()
    nodes, seen = top(cluster, node=cluster.node("n1"))
    assert [n for n in nodes if not nodes[n]["heard"]] == ["n2"] and "nobody answers" in nodes["n2"]["note"]
    assert {name: seen[name]["node"] for name in seen} == where
    assert all(("cpu_permille" in seen[name]) == (where[name] != "n2") for name in where)
    os.kill(still.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        nodes, seen = top(cluster, node=cluster.node("n1"))
        assert time.monotonic() - began < 8
        assert nodes["n3"]["note"] == "it did not answer within a second" and not nodes["n3"]["heard"]
        assert nodes["n1"]["heard"] and not nodes["n2"]["heard"] and set(seen) == set(where), "it needs no leader"
        rows, after = table(cluster.cli("top", node=cluster.node("n1")).stdout)
        assert {r["CPU%"] for r in rows if r["NODE"] == "n3"} == {"-"}
        assert "n3 is not heard from: it did not answer within a second" in after
    finally:
        os.kill(still.pid, signal.SIGCONT)
        dead.start()
