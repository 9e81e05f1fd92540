"""Placement, as operators see it: three daemons, everything real but the virtual machines."""

import json
import re

import pytest

import cluster as clusters
from cluster import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_OK, EXIT_USAGE, instances, until

NODES = ("n1", "n2", "n3")
LABELS = {"n1": ("zone=a", "rack=r1", "cores=8"), "n2": ("zone=a", "rack=r2", "cores=16"),
          "n3": ("zone=b", "rack=r3", "cores=32", "class=burst")}
VCPUS, MEMORY = 8, 4096
PLAN_SAME, PLAN_CHANGES = 0, 1


@pytest.fixture(scope="module")
def servers():
    has = f"vcpus={VCPUS},memory_mib={MEMORY},gpu=2"
    cluster = clusters.Cluster(names=NODES, capacity=has, more=("--no-watchdog",))
    try:
        cluster.form()
        for name in NODES:
            cluster.cli("node", "label", name, *LABELS[name])
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def fleet(servers):
    """The cluster, which is as it was again after each test."""
    yield servers
    servers.delete_all()
    for node in servers.json("node", "list")["nodes"]:
        keys = {taint["key"] for taint in node["taints"]}
        if keys:
            servers.cli("node", "taint", node["name"], *(f"{key}-" for key in keys))
        if node["cordoned"]:
            servers.cli("node", "uncordon", node["name"])
    servers.cli("quota", "delete", "default", check=False)
    servers.cli("cluster", "settings", "set", "--overcommit", "none", "--survive-nodes", 0, "--survive-level", "none",
                "--distance", "none")


def create(fleet, name, *arguments, wait=True, **more):
    more_arguments = ("--wait", "--timeout", "60s") if wait else ()
    return fleet.cli("vm", "create", name, "--flake", "x#y", *arguments, *more_arguments, **more)


def explain(fleet, name, *more):
    return fleet.json("vm", "explain", name, "--all", *more)


def obstacles(report):
    """Of each node that cannot take it the codes of its obstacles, and what they say."""
    return {node["node"]: {o["code"]: o for o in node["obstacles"]} for node in report["nodes"] if not node["fits"]}


def why(fleet, name):
    return fleet.get(name)["reason"]["text"]


def on(fleet, name):
    """Where the instances of a VM are that run."""
    return {i["name"]: i["node"] for i in fleet.get(name)["instances"] if i["phase"] == "Running"}


def until_waits(fleet, name, *words):
    """A VM waits, and its reason says why."""
    until(lambda: all(word in why(fleet, name) for word in words), 15,
          f"{name} waits and says {words}; it says {why(fleet, name)!r}")


def plan(fleet, *words, status):
    done = fleet.cli(*words, "--plan", "-o", "json", check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)



# ---- what is asked for


def test_what_the_flags_of_create_say_is_in_the_spec_and_reads_as_it_was_typed(fleet):
    create(fleet, "all", "--stopped", "--cpu", "1.5", "--vcpus", 2, "--resource", "gpu=1", "--resource",
           "disk/ssd=2GiB", "--constraint", "zone in a,b", "--constraint", "cores>4", "--constraint",
           "!gone", "--constraint", "zone!=c",
           "--constraint", "rack", "--constraint", "zone not in (x, y)", "--prefer", "zone=b:30", "--tolerate", "gpu",
           "--tolerate", "old=yes", "--tolerate", "*", "--together", "app=db,tier=back@zone:10", "--apart", "self@rack",
           "--apart", "app=web:5", "--spread", "zone:max=2", "--spread", "rack:skew=1:weight=20", "--cpu-feature",
           "sse2", "--priority", 7, "--no-preempt", "--strategy", "BestFit=70,NetworkProximity=30", "--near", "zone=b",
           "--near", "node/n1", "--near", "vm/db", "--data", "volume/db=3GiB", wait=False)
    spec = fleet.get("all")["spec"]
    assert (spec["cpu_milli"], spec["priority"], spec["preemptible"], spec["strategy"]) == (1500, 7, False, "Combined")
    assert spec["resources"] == [{"name": "gpu", "amount": 1}, {"name": "disk/ssd", "amount": 2048}]
    assert [(c["key"], c["op"], c["values"]) for c in spec["constraints"]] == [
        ("zone", "In", ["a", "b"]), ("cores", "Greater", ["4"]), ("gone", "NotExists", []), ("zone", "NotIn", ["c"]),
        ("rack", "Exists", []), ("zone", "NotIn", ["x", "y"])]
    assert [(p["key"], p["values"], p["weight"]) for p in spec["preferences"]] == [("zone", ["b"], 30)]
    tolerated = [(t["key"], t.get("value")) for t in spec["tolerations"]]
    assert tolerated == [("gpu", None), ("old", "yes"), ("", None)]
    assert [(a["level"], a["apart"], a["weight"], len(a["selector"])) for a in spec["affinity"]] == [
        ("zone", False, 10, 2), ("rack", True, 0, 0), ("host", True, 5, 1)]
    spread = [(s["level"], s["max_per_domain"], s["max_skew"]) for s in spec["spread"]]
    assert spread == [("zone", 2, 0), ("rack", 0, 1)]
    assert [(s["strategy"], s["weight"]) for s in spec["strategies"]] == [("BestFit", 70), ("NetworkProximity", 30)]
    assert [(n["vm"], n["node"]) for n in spec["near"]] == [("", ""), ("", "n1"), ("db", "")]
    assert spec["data"] == [{"key": "volume/db", "bytes": 3 << 30}] and spec["cpu_features"] == ["sse2"]
    described = fleet.cli("vm", "describe", "all").stdout
    for words in ("CPU reserved:   1.5", "gpu=1,disk/ssd=2048", "zone in a,b; cores>4; !gone; zone not in c; rack;",
                  "zone in b:30", "gpu,old=yes,*", "zone:max=2; rack:skew=1:weight=20",
                  "together app=db,tier=back@zone:10; apart self@rack; apart app=web@host:5",
                  "Combined BestFit=70,NetworkProximity=30",
                  "zone=b, node/n1, vm/db", "volume/db (3072 MiB)", "Preemptible:    no"):
        assert words in described, described


def test_explain_ranks_the_nodes_and_the_first_is_the_one_that_was_taken(fleet):
    create(fleet, "web")
    report = explain(fleet, "web")
    assert (report["instance"], report["nodes_total"], report["nodes_fit"]) == ("web-1", 3, 3)
    assert report["node"] == on(fleet, "web")["web-1"] and report["reason"]["code"] == "None"
    assert [n["rank"] for n in report["nodes"]] == [1, 2, 3] and report["nodes"][0]["node"] == report["chosen"]
    for node in report["nodes"]:
        assert node["fits"] and node["obstacles"] == [] and node["cost"] == sum(p["cost"] for p in node["parts"])
    assert report["need"]["cpu_milli"] == 1000 and report["need"]["memory_mib"] == 128
    text = fleet.cli("vm", "explain", "web-1").stdout
    assert "Would go to:" in text and "BestFit" in text and all(name in text for name in NODES), text
    done = fleet.cli("vm", "explain", "nosuch", check=False)
    assert done.returncode == EXIT_NOT_FOUND and "nosuch" in done.stderr
    assert fleet.cli("vm", "explain", "web-9", check=False).returncode == EXIT_NOT_FOUND


def test_a_combined_strategy_is_explained_part_by_part(fleet):
    create(fleet, "web", "--strategy", "BestFit=70,LoadBalanced=25,DataLocality=7", "--data", "volume/db=3GiB")
    for node in explain(fleet, "web")["nodes"]:
        found = [re.fullmatch(r"Combined (\w+) (\d+)/102 of (\d+)", part["name"]) for part in node["parts"]]
        assert all(found) and [m[1] for m in found] == ["BestFit", "LoadBalanced", "DataLocality"], node["parts"]
        assert [int(m[2]) for m in found] == [70, 25, 7]
        whole = sum(int(m[2]) * int(m[3]) for m in found) // 102
        assert node["cost"] == whole == sum(part["cost"] for part in node["parts"])
    text = fleet.cli("vm", "explain", "web").stdout
    assert re.search(r"Combined BestFit 70/102 of \d+ = \d+, Combined LoadBalanced 25/102 of \d+ = \d+", text), text


def test_a_vm_that_fits_nowhere_says_so_for_every_node_with_what_is_missing(fleet):
    create(fleet, "big", "--memory", 5000, "--vcpus", 10, wait=False)
    until_waits(fleet, "big", *NODES)
    report = explain(fleet, "big")
    assert report["chosen"] == "" and report["nodes_fit"] == 0
    found = obstacles(report)
    assert set(found) == set(NODES)
    for name in NODES:
        room = found[name]["Room"]
        assert (room["short_memory_mib"], room["short_cpu_milli"]) == (5000 - MEMORY, 2000)
        assert "904 MiB" in room["text"] and name in room["text"]
    assert [(g["code"], g["nodes"], sorted(g["examples"])) for g in report["groups"]] == [("Room", 3, list(NODES))]
    assert "lacks 904 MiB" in report["text"]
    pending = fleet.json("vm", "list", "--pending")["vms"]
    assert [vm["spec"]["name"] for vm in pending] == ["big"]
    assert pending[0]["reason"]["code"] == report["reason"]["code"]
    line = fleet.cli("vm", "list", "--pending").stdout.splitlines()[1]
    assert line.startswith("big ") and all(name in line for name in NODES)


@pytest.mark.parametrize("arguments, code, words", [
    (("--constraint", "zone=c"), "Label", "zone"),
    (("--constraint", "cores>64"), "Label", "cores"),
    (("--constraint", "!rack"), "Label", "rack"),
    (("--constraint", "node.name=n9"), "Label", "node.name"),
    (("--node-selector", "disk=ssd"), "Label", "does not carry the label disk=ssd"),
    (("--cpu-feature", "nosuch"), "CpuFeature", "nosuch"),
    (("--resource", "gpu=3"), "Resource", "1 short"),
    (("--resource", "fpga=1"), "Resource", "has no fpga"),
    (("--together", "app=nobody"), "Affinity", "must be near"),
])
def test_each_demand_that_no_node_meets_is_an_obstacle_of_every_node(fleet, arguments, code, words):
    create(fleet, "picky", *arguments, wait=False)
    until_waits(fleet, "picky", *NODES)
    found = obstacles(explain(fleet, "picky"))
    assert set(found) == set(NODES)
    for name in NODES:
        assert list(found[name]) == [code]
        assert words in found[name][code]["text"] and name in found[name][code]["text"]
    assert f"{code} " in fleet.cli("vm", "explain", "picky").stdout


def test_constraints_and_preferences_choose_among_the_nodes(fleet):
    create(fleet, "hard", "--constraint", "cores<32", "--constraint", "node.name not in n1")
    assert on(fleet, "hard") == {"hard-1": "n2"}
    create(fleet, "soft", "--prefer", "zone=b:100")
    assert on(fleet, "soft") == {"soft-1": "n3"}
    create(fleet, "gpus", "--resource", "gpu=2", "--constraint", "zone=b")
    create(fleet, "more", "--resource", "gpu=1", "--constraint", "zone=b", wait=False)
    until_waits(fleet, "more", "n3", "gpu")
    assert obstacles(explain(fleet, "more"))["n3"]["Resource"]["short_amount"] == 1
    assert "gpu 2/2" in fleet.cli("node", "describe", "n3").stdout
    assert "gpu 2/2" in fleet.cli("node", "list", "-o", "wide").stdout
    fleet.cli("vm", "delete", "gpus", "--wait")
    fleet.wait("more", "phase=Running")


def test_strategies_take_the_nodes_that_they_are_named_for(fleet):
    for name in ("one", "two", "three"):
        create(fleet, f"packed-{name}", "--memory", 1024)
    (full,) = {on(fleet, f"packed-{n}")[f"packed-{n}-1"] for n in ("one", "two", "three")}
    create(fleet, "balanced", "--strategy", "LoadBalanced", "--memory", 512)
    assert on(fleet, "balanced") != {"balanced-1": full}
    create(fleet, "close", "--strategy", "NetworkProximity", "--near", "node/n3")
    assert on(fleet, "close") == {"close-1": "n3"}
    create(fleet, "closer", "--strategy", "NetworkProximity=100", "--near", "vm/close")
    assert on(fleet, "closer") == {"closer-1": "n3"}
    report = explain(fleet, "closer")
    assert all(node["parts"] for node in report["nodes"]) and report["nodes"][0]["cost"] == 0


# ---- taints


def test_a_taint_keeps_away_what_does_not_tolerate_it_and_leaves_what_runs(fleet):
    create(fleet, "stays", "--replicas", 3, "--apart", "self")
    before = instances(fleet.get("stays"))
    for name in NODES:
        done = fleet.cli("node", "taint", name, "gpu=a100:NoPlace", "--reason", "for guests with a GPU")
        assert done.stdout == f"node/{name} is tainted as asked\n"
    create(fleet, "away", wait=False)
    until_waits(fleet, "away", *NODES)
    found = obstacles(explain(fleet, "away"))
    assert all(list(found[n]) == ["Taint"] and "gpu=a100" in found[n]["Taint"]["text"] for n in NODES)
    create(fleet, "other", "--tolerate", "gpu=b200", wait=False)
    until_waits(fleet, "other", *NODES)
    create(fleet, "welcome", "--tolerate", "gpu=a100")
    create(fleet, "any", "--tolerate", "*")
    assert "gpu=a100:NoPlace" in fleet.cli("node", "describe", "n1").stdout
    taints = fleet.json("node", "describe", "n1")["node"]["taints"]
    assert taints == [{"key": "gpu", "value": "a100", "effect": "NoPlace"}]
    assert instances(fleet.get("stays")) == before
    fleet.cli("node", "taint", "n2", "gpu-")
    fleet.wait("away", "phase=Running")
    assert on(fleet, "away") == {"away-1": "n2"}
    record = fleet.json("audit", "list", "--verb", "node.taint", "--limit", 10)["records"]
    assert any(r["reason"] == "for guests with a GPU" for r in record)


def test_a_node_to_avoid_is_the_last_to_be_taken(fleet):
    fleet.cli("node", "taint", "n1", "old:Avoid")
    fleet.cli("node", "taint", "n2", "old:Avoid")
    create(fleet, "fills", "--memory", 3000)
    assert on(fleet, "fills") == {"fills-1": "n3"}
    create(fleet, "overflows", "--memory", 3000)
    assert on(fleet, "overflows")["overflows-1"] in ("n1", "n2")
    fleet.cli("node", "taint", "n1", "old-")
    done = fleet.cli("node", "taint", "n1", "x:NoPlace", "--if-revision", 1, check=False)
    assert done.returncode == EXIT_CONFLICT and "[STALE]" in done.stderr
    assert fleet.cli("node", "taint", "n9", "x:NoPlace", check=False).returncode == EXIT_NOT_FOUND
    assert fleet.cli("node", "taint", "n1", "x:NoPlace", "x-", check=False).returncode == EXIT_USAGE


# ---- other VMs


def test_the_replica_that_finds_no_node_apart_from_the_others_says_why_for_every_node(fleet):
    create(fleet, "web", "--replicas", 3, "--apart", "self@host")
    assert sorted(on(fleet, "web").values()) == list(NODES)
    fleet.cli("vm", "scale", "web", "--replicas", 4)
    until_waits(fleet, "web", *NODES)
    report = explain(fleet, "web")
    assert report["instance"] == "web-4"
    found = obstacles(report)
    assert set(found) == set(NODES)
    assert all(list(found[n]) == ["AntiAffinity"] and n in found[n]["AntiAffinity"]["text"] for n in NODES)
    create(fleet, "zoned", "--replicas", 3, "--apart", "self@zone", wait=False)
    until_waits(fleet, "zoned", *NODES)
    until(lambda: len(on(fleet, "zoned")) == 2, 10, "two run")
    assert "n3" in on(fleet, "zoned").values()


def test_apart_holds_for_who_comes_later_too(fleet):
    create(fleet, "shy", "--label", "app=shy", "--apart", "app=loud", "--constraint", "zone=b")
    create(fleet, "loud", "--label", "app=loud", "--constraint", "zone=b", wait=False)
    until_waits(fleet, "loud", "n3", "shy")
    found = obstacles(explain(fleet, "loud"))
    assert "AntiAffinity" in found["n3"] and "shy" in found["n3"]["AntiAffinity"]["text"]
    fleet.cli("vm", "delete", "shy", "--wait")
    fleet.wait("loud", "phase=Running")


def test_together_follows_the_others_to_their_node_or_rack(fleet):
    create(fleet, "db", "--label", "app=db", "--constraint", "node.name=n2")
    create(fleet, "cache", "--together", "app=db")
    create(fleet, "front", "--together", "app=db@zone", "--constraint", "node.name!=n2")
    assert (on(fleet, "cache"), on(fleet, "front")) == ({"cache-1": "n2"}, {"front-1": "n1"})
    create(fleet, "first", "--label", "app=first", "--together", "app=first", "--replicas", 3)
    assert len(set(on(fleet, "first").values())) == 1


def test_spread_limits_the_replicas_of_a_domain(fleet):
    create(fleet, "web", "--replicas", 4, "--spread", "zone:max=1", wait=False)
    until_waits(fleet, "web", *NODES)
    until(lambda: len(on(fleet, "web")) == 2, 10, "two run")
    found = obstacles(explain(fleet, "web"))
    assert all("DomainFull" in found[n] and "may have 1" in found[n]["DomainFull"]["text"] for n in NODES)
    create(fleet, "even", "--replicas", 4, "--spread", "zone:skew=1")
    by_zone = [LABELS[node][0] for node in on(fleet, "even").values()]
    assert sorted(by_zone) == ["zone=a", "zone=a", "zone=b", "zone=b"]


# ---- priorities


def test_the_low_one_ends_for_the_high_one_waits_with_the_reason_and_comes_back(fleet):
    create(fleet, "low", "--memory", 3000, "--replicas", 3, "--apart", "self", "--priority", 10)
    would = plan(fleet, "vm", "create", "high", "--flake", "x#y", "--memory", 3000, "--priority", 500,
                 status=PLAN_CHANGES)
    (planned,) = would["instances"]
    assert planned["action"] == "preempt" and len(planned["victims"]) == 1 and planned["node"] in NODES
    assert fleet.cli("vm", "get", "high", check=False).returncode == EXIT_NOT_FOUND
    assert len(on(fleet, "low")) == 3
    create(fleet, "high", "--memory", 3000, "--priority", 500)
    assert on(fleet, "high") == {"high-1": planned["node"]}
    until(lambda: len(on(fleet, "low")) == 2, 10, "one of the low ones gave way")
    until_waits(fleet, "low", *NODES)
    assert planned["victims"][0] not in on(fleet, "low")
    told = fleet.json("events", "--for", "vm/low")["events"]
    ended = [e for e in told if e["reason"]["code"] == "Preempted"]
    assert {e["name"] for e in ended if e["kind"] == "instance"} == {planned["victims"][0]}
    assert all("high" in e["reason"]["text"] for e in ended)
    fleet.cli("vm", "delete", "high", "--wait")
    fleet.wait("low", "phase=Running")
    assert len(on(fleet, "low")) == 3


def test_neither_an_equal_nor_one_that_is_not_preemptible_ends_for_another(fleet):
    create(fleet, "kept", "--memory", 3000, "--replicas", 3, "--apart", "self", "--priority", 10, "--no-preempt")
    create(fleet, "high", "--memory", 3000, "--priority", 500, wait=False)
    until_waits(fleet, "high", *NODES)
    would = plan(fleet, "vm", "create", "higher", "--flake", "x#y", "--memory", 3000, "--priority", 1000,
                 status=PLAN_CHANGES)
    assert (would["waiting"], would["instances"][0]["action"], would["instances"][0]["victims"]) == (1, "wait", [])
    assert len(on(fleet, "kept")) == 3


def test_what_waits_is_placed_by_priority(fleet):
    create(fleet, "full", "--memory", 3000, "--replicas", 3, "--apart", "self", "--no-preempt")
    create(fleet, "low", "--memory", 3000, "--priority", 1, wait=False)
    create(fleet, "high", "--memory", 3000, "--priority", 2, wait=False)
    until_waits(fleet, "high", *NODES)
    until_waits(fleet, "low", *NODES)
    fleet.cli("vm", "scale", "full", "--replicas", 2)
    fleet.wait("high", "phase=Running")
    assert on(fleet, "low") == {}


# ---- plans and scale


def test_a_plan_changes_nothing_and_its_status_says_whether_there_is_something_to_do(fleet):
    before = fleet.names()
    would = plan(fleet, "vm", "create", "web", "--flake", "x#y", "--replicas", 2, status=PLAN_CHANGES)
    assert [(i["instance"], i["action"]) for i in would["instances"]] == [("web-1", "place"), ("web-2", "place")]
    assert all(i["node"] in NODES for i in would["instances"]) and would["changes"] > 0 and would["waiting"] == 0
    assert fleet.names() == before
    create(fleet, "web", "--replicas", 2)
    assert on(fleet, "web") == {i["instance"]: i["node"] for i in would["instances"]}
    assert plan(fleet, "vm", "scale", "web", "--replicas", 2, status=PLAN_SAME)["changes"] == 0
    more = plan(fleet, "vm", "scale", "web", "--replicas", 3, status=PLAN_CHANGES)
    assert [i["action"] for i in more["instances"] if i["instance"] == "web-3"] == ["place"]
    less = plan(fleet, "vm", "scale", "web", "--replicas", 1, status=PLAN_CHANGES)
    assert [i["instance"] for i in less["instances"] if i["action"] == "remove"] == ["web-2"]
    assert len(on(fleet, "web")) == 2
    done = fleet.cli("vm", "scale", "web", "--replicas", 3, "--plan", check=False)
    assert done.returncode == PLAN_CHANGES and "nothing was done" in done.stdout and "web-3" in done.stdout
    for words in (("vm", "create", "web", "--flake", "x#y", "--plan"), ("vm", "create", "no", "--plan"),
                  ("vm", "scale", "nosuch", "--replicas", 1, "--plan")):
        done = fleet.cli(*words, check=False)
        assert done.returncode > PLAN_CHANGES and done.stdout == "" and done.stderr.startswith("blixard: ")


def test_a_plan_of_what_fits_nowhere_says_that_it_would_wait(fleet):
    would = plan(fleet, "vm", "create", "big", "--flake", "x#y", "--memory", 5000, status=PLAN_CHANGES)
    assert would["waiting"] == 1 and would["instances"][0]["action"] == "wait"
    assert set(obstacles(would["report"])) == set(NODES)
    text = fleet.cli("vm", "create", "big", "--flake", "x#y", "--memory", 5000, "--plan", check=False).stdout
    assert "and 1 instance would wait for a node" in text and "904 MiB" in text


def test_scale_adds_instances_and_takes_the_highest_away(fleet):
    create(fleet, "web")
    done = fleet.cli("vm", "scale", "web", "--replicas", 3, "--wait", "--reason", "a busy day")
    assert done.stdout == "vm/web will have 3 replicas\nvm/web is Running\n"
    before = instances(fleet.get("web"))
    assert sorted(on(fleet, "web")) == ["web-1", "web-2", "web-3"]
    fleet.cli("vm", "scale", "web", "--replicas", 2)
    until(lambda: sorted(instances(fleet.get("web"))) == ["web-1", "web-2"], 15, "web-3 is gone")
    after = instances(fleet.get("web"))
    assert all(after[name] == before[name] for name in after)
    done = fleet.cli("vm", "scale", "web", "--replicas", 5, "--if-revision", 1, check=False)
    assert done.returncode == EXIT_CONFLICT and "[STALE]" in done.stderr
    for _ in range(2):  # the same request is done once
        fleet.cli("vm", "scale", "web", "--replicas", 1, "--request-id", "scale-1")
    fleet.cli("vm", "scale", "web", "--replicas", 0)
    until(lambda: fleet.get("web")["instances"] == [], 15, "all are gone")
    fleet.cli("vm", "scale", "web", "--replicas", 1, "--wait")
    assert fleet.cli("vm", "scale", "nosuch", "--replicas", 1, check=False).returncode == EXIT_NOT_FOUND
    records = fleet.json("audit", "list", "--verb", "vm.scale", "--object", "vm/web")["records"]
    assert any(r["reason"] == "a busy day" and r["code"] == 0 for r in records)


# ---- quotas


def test_what_is_above_the_quota_is_refused_with_the_numbers(fleet):
    assert fleet.cli("quota", "set", "default", "vms=2", "instances=3", "memory_mib=1024", "--reason", "by contract"
                     ).stdout == "quota/default set\n"
    create(fleet, "one")
    create(fleet, "two", "--stopped", wait=False)
    done = create(fleet, "three", wait=False, check=False)
    assert done.returncode == EXIT_CONFLICT and "default has 2 of 2 VMs" in done.stderr and "[QUOTA]" in done.stderr
    done = fleet.cli("vm", "scale", "one", "--replicas", 3, check=False)
    assert done.returncode == EXIT_CONFLICT and "2 of 3 instances" in done.stderr and "[QUOTA]" in done.stderr
    for words in (("vm", "create", "three", "--flake", "x#y"), ("vm", "scale", "one", "--replicas", 3)):
        done = fleet.cli(*words, "--plan", check=False)
        assert done.returncode == EXIT_CONFLICT and "[QUOTA]" in done.stderr
    fleet.cli("quota", "set", "default", "vms-", "instances-")
    done = create(fleet, "three", "--memory", 1024, wait=False, check=False)
    assert done.returncode == EXIT_CONFLICT and "256 of 1024 MiB" in done.stderr, done.stderr
    quota = fleet.json("quota", "get")
    assert (quota["tenant"], quota["memory_mib"], quota["used_vms"], quota["used_instances"]) == ("default", 1024, 2, 2)
    assert "vms" not in quota and quota["used"]["memory_mib"] == 256
    fleet.cli("quota", "delete", "default")
    create(fleet, "three", "--memory", 1024)


def test_quotas_are_listed_and_changed_by_what_is_named(fleet):
    fleet.cli("quota", "set", "default", "vms=20", "named.gpu=4", "named.disk/ssd=10GiB", "node_vcpus=6")
    fleet.cli("quota", "set", "default", "vms=10", "named.gpu-", "--node", "zone in a,b")
    quota = fleet.json("get", "quota/default")
    assert (quota["vms"], quota["node_vcpus"]) == (10, 6)
    assert quota["named"] == [{"name": "disk/ssd", "amount": 10240}]
    assert [(m["key"], m["op"], m["values"]) for m in quota["nodes"]] == [("zone", "In", ["a", "b"])]
    assert fleet.cli("quota", "set", "default", "vms=10").stdout == "quota/default is so already\n"
    assert fleet.json("quota", "list")["quotas"] == [quota]
    assert "0/10" in fleet.cli("quota", "ls").stdout
    assert "0 of 10" in fleet.cli("quota", "get").stdout and "zone in a,b" in fleet.cli("quota", "get").stdout
    done = fleet.cli("quota", "set", "default", "vms=5", "--if-revision", 1, check=False)
    assert done.returncode == EXIT_CONFLICT and "[STALE]" in done.stderr
    fleet.cli("quota", "set", "default", "--any-node")
    assert fleet.json("quota", "get")["nodes"] == []
    fleet.cli("quota", "rm", "default")
    others = fleet.json("quota", "get", "others")
    assert (others["tenant"], others["revision"], others["used_vms"]) == ("others", 0, 0) and "vms" not in others
    assert all(q["revision"] == 0 for q in fleet.json("quota", "list")["quotas"])


def test_a_tenant_has_as_much_on_a_node_as_it_may_and_only_on_its_nodes(fleet):
    fleet.cli("quota", "set", "default", "node_instances=1", "--node", "zone=a")
    create(fleet, "web", "--replicas", 3, wait=False)
    until_waits(fleet, "web", *NODES)
    until(lambda: sorted(on(fleet, "web").values()) == ["n1", "n2"], 10, "two run")
    found = obstacles(explain(fleet, "web"))
    assert all("1 of 1 instances" in found[n]["NodeQuota"]["text"] for n in ("n1", "n2")) and "Tenant" in found["n3"]
    fleet.cli("quota", "set", "default", "--any-node")
    fleet.wait("web", "phase=Running")
    assert sorted(on(fleet, "web").values()) == list(NODES)


# ---- capacity


def test_capacity_is_what_fits_and_not_one_more(fleet):
    assert fleet.json("cluster", "capacity", "--shape", "2c512m")["fits"] == 12
    create(fleet, "there", "--vcpus", 3, "--memory", 1024, "--constraint", "zone=b")
    report = fleet.json("cluster", "capacity", "--shape", "2c512m")
    assert report["fits"] == 10 and report["limit"] == "cpu"
    assert {n["node"]: n["fits"] for n in report["nodes"]} == {"n1": 4, "n2": 4, "n3": 2}
    assert fleet.json("cluster", "capacity", "--shape", "2c512m", "--constraint", "zone in a")["fits"] == 8
    assert fleet.json("cluster", "capacity", "--shape", "1c2g")["limit"] == "memory"
    assert fleet.json("cluster", "capacity", "--shape", "16c1g")["fits"] == 0
    create(fleet, "fill", "--vcpus", 2, "--memory", 512, "--replicas", 11, wait=False)
    until(lambda: len(on(fleet, "fill")) == 10, 20, "ten run")
    assert fleet.json("cluster", "capacity", "--shape", "2c512m")["fits"] == 0
    text = fleet.cli("cluster", "capacity", "--shape", "1c256m").stdout
    assert re.search(r"Fit: +1 more", text) and re.search(r"n3 +1 ", text), text


def test_capacity_ends_with_the_quota_and_says_its_numbers(fleet):
    create(fleet, "there", "--vcpus", 1, "--memory", 512)
    fleet.cli("quota", "set", "default", "memory_mib=2048")
    report = fleet.json("cluster", "capacity", "--shape", "2c512m")
    assert (report["fits"], report["limit"]) == (3, "quota memory")
    words = "3 more fit: tenant default has 512 of 2048 MiB of memory and the next one needs 512 more"
    assert words in report["text"] and "the nodes have room for 11" in report["text"]
    assert fleet.cli("vm", "create", "four", "--flake", "x#y", "--vcpus", 2, "--memory", 512, "--replicas", 4,
                     check=False).returncode != EXIT_OK
    create(fleet, "three", "--vcpus", 2, "--memory", 512, "--replicas", 3, "--stopped", wait=False)
    assert fleet.json("cluster", "capacity", "--shape", "2c512m")["fits"] == 0


def test_capacity_that_survives_the_loss_of_a_node_is_less(fleet):
    whole = fleet.json("cluster", "capacity", "--shape", "2c512m", "--ha", "auto")["fits"]
    survives = fleet.json("cluster", "capacity", "--shape", "2c512m", "--ha", "auto", "--survive", 1)
    assert (whole, survives["fits"]) == (12, 8)
    fleet.cli("cluster", "settings", "set", "--survive-nodes", 1)
    assert fleet.json("cluster", "capacity", "--shape", "2c512m", "--ha", "auto")["fits"] == 8
    assert fleet.json("cluster", "capacity", "--shape", "2c512m", "--ha", "auto", "--survive", 0)["fits"] == 12


def test_room_for_the_loss_of_a_node_is_kept_until_it_need_not_be(fleet):
    fleet.cli("cluster", "settings", "set", "--survive-nodes", 1)
    create(fleet, "safe", "--ha", "auto", "--vcpus", 2, "--replicas", 9, wait=False)
    until_waits(fleet, "safe", *NODES)
    until(lambda: len(on(fleet, "safe")) == 8, 20, "eight run")
    found = obstacles(explain(fleet, "safe"))
    assert all("Survive" in found[n] and found[n]["Survive"]["short_amount"] > 0 for n in NODES)
    fleet.cli("cluster", "settings", "set", "--survive-nodes", 0)
    fleet.wait("safe", "phase=Running")


def test_overcommit_is_of_the_nodes_that_carry_its_label(fleet):
    create(fleet, "wide", "--vcpus", 8, "--replicas", 4, wait=False)
    until_waits(fleet, "wide", *NODES)
    fleet.cli("cluster", "settings", "set", "--overcommit", "class=burst:cpu=200,memory=150")
    fleet.wait("wide", "phase=Running")
    assert sorted(on(fleet, "wide").values()) == ["n1", "n2", "n3", "n3"]
    assert fleet.json("cluster", "capacity", "--shape", "1c5g")["fits"] == 0
    assert fleet.json("cluster", "capacity", "--shape", "100mc4000m")["nodes"][0]["fits"] == 0
    settings = fleet.json("cluster", "settings")["settings"]["placement"]
    assert [(o["nodes"]["key"], o["cpu_percent"], o["memory_percent"]) for o in settings["overcommit"]] == [
        ("class", 200, 150)]


def test_settings_of_placement_keep_what_is_not_named(fleet):
    fleet.cli("cluster", "settings", "set", "--overcommit", "class=burst:cpu=200", "--overcommit", "memory=110",
              "--survive-nodes", 1, "--distance", "a:b=500us", "--distance", "a:c=2ms")
    fleet.cli("cluster", "settings", "set", "--survive-level", "rack", "--distance", "b:a=700us", "--distance", "a:c-")
    fleet.cli("cluster", "settings", "set", "placement.survive_nodes=2")
    now = fleet.json("cluster", "settings")["settings"]["placement"]
    assert (now["survive_nodes"], now["survive_level"]) == (2, "rack")
    assert [(d["a"], d["b"], d["us"]) for d in now["distances"]] == [("b", "a", 700)]
    assert [(o["cpu_percent"], o["memory_percent"]) for o in now["overcommit"]] == [(200, 100), (100, 110)]
    text = fleet.cli("cluster", "settings").stdout
    assert "class=burst:cpu=200,memory=100; cpu=100,memory=110" in text and "b:a=700us" in text
    done = fleet.cli("cluster", "settings", "set", "--overcommit", "cpu=200", "--overcommit", "class=burst:cpu=300",
                     check=False)
    assert done.returncode == EXIT_USAGE and "put it last" in done.stderr


# ---- what is measured


def test_what_a_node_measures_is_shown(fleet):
    def loads():
        nodes = fleet.json("node", "list")["nodes"]
        return [n for n in nodes if isinstance(n.get("load_cpu_permille"), int) and n.get("load_memory_mib")]

    until(lambda: len(loads()) == 3, 30, "every node says how it is used")
    assert re.search(r"^Load: +\d+\.\d% CPU, \d+ MiB$", fleet.cli("node", "describe", "n1").stdout, re.M)
    heading, *rows = fleet.cli("top", "nodes", "--once").stdout.splitlines()
    assert "HOST CPU%" in heading and len(rows) >= 3
    assert re.search(r"\d% CPU", fleet.cli("node", "list", "-o", "wide").stdout)


@pytest.mark.parametrize("words", [
    "vm explain web", "vm explain web-1 --all", "vm list --pending", "vm scale web --replicas 1", "quota list",
    "quota get", "get quota", "cluster capacity --shape 1c1g", "cluster settings", "node taint n1 x:Avoid",
    "quota set default vms=9", "quota delete default", "node list", "get vm"])
def test_json_is_one_document_and_nothing_else(fleet, words):
    create(fleet, "web")
    done = fleet.cli(*words.split(), "-o", "json")
    assert done.returncode == EXIT_OK and done.stderr == "" and isinstance(json.loads(done.stdout), dict)
    for output in ("yaml", "table", "wide", "name"):
        done = fleet.cli(*words.split(), "-o", output)
        assert done.stderr == "" and "\x1b" not in done.stdout


def test_any_member_answers(fleet):
    create(fleet, "web")
    for node in fleet.nodes:
        assert fleet.json("vm", "explain", "web", node=node)["nodes_total"] == 3
        assert fleet.json("cluster", "capacity", "--shape", "1c1g", node=node)["fits"] > 0
        assert fleet.json("cluster", "capacity", "--shape", "1c1g", "--stale", node=node)["fits"] > 0
        done = fleet.cli("vm", "scale", "web", "--replicas", 2, "--plan", node=node, check=False)
        assert done.returncode == PLAN_CHANGES, done.stderr
        fleet.cli("quota", "set", "default", f"vms={5 + int(node.name[1])}", node=node)
