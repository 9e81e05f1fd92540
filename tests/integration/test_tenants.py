"""Several tenants on one cluster: real daemons, simulated guests; at last two real ones."""

import json
import os
import re
import signal
import subprocess

import pytest

import stock
from cluster import BIN, EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE, HELLO, Cluster, Node
from cluster import end_guests, processes_of, program, until

LONGEST = "a" * 56


@pytest.fixture(scope="module")
def four():
    """Three servers and a worker."""
    one = Cluster()
    try:
        one.form()
        worker = Node(one, "w1")
        worker.start()
        worker.cli("cluster", "join", "--address", f"unix:{one.nodes[0].socket}", "--worker")
        one.nodes.append(worker)
        one.wait_ready()
        for node in one.nodes:
            one.cli("node", "label", node.name, f"at={node.name}")
        yield one
    finally:
        one.close()


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """Each test begins with an empty cluster."""
    yield
    if "four" not in request.fixturenames:
        return
    one = request.getfixturevalue("four")
    for vm in one.json("vm", "list", "-A")["vms"]:
        of(one, vm["tenant"], "vm", "delete", vm["spec"]["name"], "--wait", "--timeout", "60s")
    for quota in one.json("quota", "list")["quotas"]:
        one.cli("quota", "delete", quota["tenant"])


def of(one, tenant, *arguments, **more):
    return one.cli("--tenant", tenant, *arguments, **more)


def refused(one, code, *words):
    """The sentence."""
    done = one.cli(*words, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def make(one, tenant, name, *more, at=None):
    """A VM of a tenant that runs."""
    where = ["--node-selector", f"at={at}"] if at else []
    of(one, tenant, "vm", "create", name, "--microvm-config", HELLO, *where, *more, "--wait", "--timeout", "60s")
    return get(one, tenant, name)


def get(one, tenant, name):
    return json.loads(of(one, tenant, "vm", "get", name, "-o", "json").stdout)


def listed(one, *arguments):
    return [(vm["tenant"], vm["spec"]["name"]) for vm in one.json("vm", "list", *arguments)["vms"]]


def until_it_answers(one, tenant, name, node):
    """A command in its guest says so; a member may hear of its start a moment after the leader."""
    command = ("vm", "exec", name, "--", "echo", "here")
    until(lambda: of(one, tenant, *command, node=node, check=False).stdout == "here\n", 20, f"{name} of {tenant}")


@pytest.mark.parametrize("verb", ["get", "describe", "explain", "logs", "exec"])
def test_what_is_not_there_names_the_list_of_that_tenant(four, verb):
    words = ["vm", verb, "nosuch", *(["--", "true"] if verb == "exec" else [])]
    sentence = refused(four, EXIT_NOT_FOUND, "--tenant", "acme", *words)
    assert "in tenant acme" in sentence and "`blixard vm list --tenant acme` shows those there are" in sentence
    sentence = refused(four, EXIT_NOT_FOUND, *words)
    assert "`blixard vm list` shows those there are" in sentence and "tenant" not in sentence


def test_a_command_in_a_vm_that_was_stopped_names_the_start_of_that_tenants(four):
    make(four, "acme", "web")
    of(four, "acme", "vm", "stop", "web", "--wait", "--timeout", "60s")
    sentence = refused(four, EXIT_CONFLICT, "--tenant", "acme", "vm", "exec", "web", "--", "true")
    assert "`blixard vm start web --tenant acme --wait` first" in sentence


@pytest.mark.parametrize("at", ["n1", "w1"])
def test_vms_of_one_name_run_beside_each_other_on_one_node_and_end_apart(four, at):
    vms = [make(four, tenant, "web", at=at) for tenant in ("acme", "default", "other")]
    assert [vm["tenant"] for vm in vms] == ["acme", "default", "other"]
    assert [vm["instances"][0]["name"] for vm in vms] == ["web-1"] * 3
    assert [vm["instances"][0]["node"] for vm in vms] == [at] * 3
    assert len({vm["instances"][0]["uid"] for vm in vms}) == 3
    assert listed(four) == [("default", "web")]
    assert listed(four, "--tenant", "acme") == [("acme", "web")]
    assert listed(four, "-A") == [("acme", "web"), ("default", "web"), ("other", "web")]
    of(four, "acme", "vm", "delete", "web", "--wait", "--timeout", "60s")
    assert listed(four, "--all-tenants") == [("default", "web"), ("other", "web")]
    for vm in vms[1:]:
        now = get(four, vm["tenant"], "web")
        assert (now["phase"], now["instances"][0]["epoch"]) == ("Running", vm["instances"][0]["epoch"])
    again = make(four, "acme", "web", at=at)
    assert again["uid"] not in {vm["uid"] for vm in vms}


@pytest.mark.parametrize("asked", ["n1", "n2", "w1"])
@pytest.mark.parametrize("at", ["n1", "w1"])
def test_commands_and_consoles_are_those_of_the_tenant_whoever_is_asked(four, at, asked):
    """Two run and one does not: whom a command reached is seen by that."""
    node = four.node(asked)
    for tenant in ("acme", "other"):
        make(four, tenant, "web", at=at)
    of(four, "acme", "vm", "stop", "web", "--wait", "--timeout", "60s")
    until_it_answers(four, "other", "web-1", node)
    refused = of(four, "acme", "vm", "exec", "web-1", "--", "echo", "here", node=node, check=False)
    assert refused.returncode == EXIT_CONFLICT, refused.stderr
    nobody = four.cli("vm", "exec", "web-1", "--", "echo", "here", node=node, check=False)
    assert nobody.returncode == EXIT_NOT_FOUND
    assert of(four, "other", "vm", "logs", "web", node=node).stdout == "simulated console of web-1\n"
    nobody = of(four, "third", "vm", "logs", "web-1", node=node, check=False)
    assert nobody.returncode == EXIT_NOT_FOUND
    assert '"web-1" in tenant third:' in nobody.stderr
    of(four, "acme", "vm", "start", "web", "--wait", "--timeout", "60s")
    until_it_answers(four, "acme", "web", node)


def test_every_change_is_of_the_tenant_that_is_named(four):
    make(four, "acme", "web")
    make(four, "other", "web")
    of(four, "acme", "vm", "scale", "web", "--replicas", 2, "--wait", "--timeout", "60s")
    of(four, "acme", "vm", "pause", "web", "--wait", "--timeout", "60s")
    of(four, "acme", "vm", "restart", "web-1", "--force")
    acme, other = get(four, "acme", "web"), get(four, "other", "web")
    assert (acme["paused"], len(acme["instances"])) == (True, 2)
    assert (other["paused"], len(other["instances"]), other["instances"][0]["restarts"]) == (False, 1, 0)
    of(four, "acme", "vm", "resume", "web", "--wait", "--timeout", "60s")
    of(four, "acme", "vm", "kill", "web", "--wait", "--timeout", "60s")
    assert get(four, "other", "web")["phase"] == "Running"
    gone = of(four, "third", "vm", "stop", "web", check=False)
    assert gone.returncode == EXIT_NOT_FOUND and "no VM named web in tenant third" in gone.stderr


def test_a_request_sent_again_is_the_tenants_own(four):
    """The same id of another tenant is another request."""
    for tenant in ("acme", "other"):
        for _ in range(2):
            command = ("vm", "create", "web", "--microvm-config", HELLO, "--stopped", "--request-id", "one")
            of(four, tenant, *command)
    assert listed(four, "-A") == [("acme", "web"), ("other", "web")]


def test_descriptions_and_explanations_are_of_the_tenants_own(four):
    make(four, "acme", "web", at="n1")
    make(four, "other", "web", at="n2")
    for tenant, node in (("acme", "n1"), ("other", "n2")):
        described = of(four, tenant, "vm", "describe", "web").stdout
        assert re.search(rf"^Tenant: +{tenant}$", described, re.M)
        report = json.loads(of(four, tenant, "vm", "explain", "web-1", "-o", "json").stdout)
        assert (report["instance"], report["node"]) == ("web-1", node)
    missing = of(four, "third", "vm", "explain", "web", check=False)
    assert missing.returncode == EXIT_NOT_FOUND and "in tenant third" in missing.stderr
    there = four.json("node", "describe", "n1")["instances"]
    assert [(i["tenant"], i["name"]) for i in there] == [("acme", "web-1")]
    assert "acme" in four.cli("node", "describe", "n1").stdout


def test_what_a_vm_needs_and_avoids_is_within_its_tenant(four):
    make(four, "other", "db", "--label", "app=db", at="n1")
    refused = of(four, "acme", "vm", "create", "app", "--microvm-config", HELLO, "--depends-on", "db", check=False)
    assert refused.returncode == EXIT_NOT_FOUND and "there is no VM named db" in refused.stderr
    make(four, "acme", "away", "--apart", "app=db", at="n1")
    near = of(four, "acme", "vm", "create", "near", "--microvm-config", HELLO, "--together", "app=db", "--plan", "-o",
              "json", check=False)
    assert json.loads(near.stdout)["waiting"] == 1
    assert json.loads(of(four, "other", "vm", "create", "near", "--microvm-config", HELLO, "--together", "app=db",
                         "--plan", "-o", "json", check=False).stdout)["instances"][0]["node"] == "n1"


def test_events_are_the_tenants_own_or_everybodys(four):
    make(four, "acme", "web")
    make(four, "other", "web")
    four.cli("quota", "set", "acme", "vms=5")

    def tenants(*arguments):
        rows = four.json("events", *arguments)["events"]
        return {row["tenant"] for row in rows if row["kind"] in ("vm", "instance", "quota")}

    assert tenants("--tenant", "acme") == {"acme"}
    assert tenants("-A", "--vm", "web") >= {"acme", "other"}
    assert tenants("-A", "--since", "0") == {"acme", "other"}
    assert tenants("--tenant", "acme", "--since", "0") == {"acme"}
    assert tenants("--for", "quota/acme") == {"acme"}
    assert tenants("--for", "quota/other") == set()
    assert four.cli("events", "-A", "--for", "vm/web").stdout.split()[0] == "TENANT"


def test_a_list_that_is_watched_tells_two_of_one_name_apart(four):
    make(four, "acme", "web")
    command = [str(BIN / "blixard"), "vm", "list", "-A", "--watch", "-o", "json"]
    environment = {"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(four.nodes[1].socket)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watch:
        try:
            def until_line(kind, tenant):
                for line in watch.stdout:
                    row = json.loads(line)
                    if (row["type"], row["vm"]["tenant"]) == (kind, tenant):
                        return row["vm"]
                raise AssertionError("the watch ended")

            assert until_line("created", "acme")["phase"] == "Running"
            make(four, "other", "web")
            assert until_line("created", "other")["spec"]["name"] == "web"
            of(four, "acme", "vm", "delete", "web", "--wait", "--timeout", "60s")
            assert until_line("deleted", "acme")["spec"]["name"] == "web"
            assert get(four, "other", "web")["phase"] == "Running"
        finally:
            watch.kill()


def test_tables_of_all_tenants_have_a_column_and_others_have_none(four):
    make(four, "acme", "web")
    make(four, "other", "web")
    for command in (("vm", "list"), ("get", "vm"), ("get", "instances"), ("vm", "list", "--pending")):
        assert four.cli(*command, "-A").stdout.split()[0] == "TENANT", command
        assert four.cli(*command).stdout.split()[0] == "NAME", command
    lines = four.cli("get", "instances", "-A", "--no-headers").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["acme", "web-1"], ["other", "web-1"]]
    assert four.cli("vm", "list", "-A", "--filter", "tenant=other", "--columns", "tenant,name",
                    "--no-headers").stdout.split() == ["other", "web"]
    assert len(four.cli("vm", "list", "-A", "-o", "wide", "--no-headers").stdout.splitlines()) == 2


def test_what_is_used_is_shown_of_the_tenant_or_of_all(four):
    make(four, "acme", "web", at="n1")
    make(four, "other", "web", at="n1")
    make(four, "other", "db", at="w1")

    def top(*arguments):
        return [line.split()[:2] for line in four.cli("top", "--once", *arguments).stdout.splitlines()[1:]
                if line.split()[1:2] in (["n1"], ["w1"], ["web-1"], ["db-1"])]

    assert top("--tenant", "acme") == [["web-1", "n1"]]
    assert sorted(top("-A")) == [["acme", "web-1"], ["other", "db-1"], ["other", "web-1"]]
    assert top() == []
    nodes = four.json("top", "nodes", "--once")["nodes"]
    assert sum(len(node["instances"]) for node in nodes) == 3


def test_a_quota_is_the_tenants_own_and_a_refusal_says_whose_and_how_much(four):
    four.cli("quota", "set", "acme", "instances=2", "memory_mib=1024")
    make(four, "acme", "web", "--replicas", 2)
    refused = of(four, "acme", "vm", "scale", "web", "--replicas", 3, check=False)
    assert refused.returncode != 0
    assert "tenant acme has 2 of 2 instances and web needs 1 more" in refused.stderr
    refused = of(four, "acme", "vm", "create", "db", "--microvm-config", HELLO, check=False)
    assert "tenant acme has 2 of 2 instances and db needs 1 more" in refused.stderr
    make(four, "other", "web", "--replicas", 3)
    mine = json.loads(of(four, "acme", "quota", "get", "-o", "json").stdout)
    assert (mine["tenant"], mine["instances"], mine["used_instances"]) == ("acme", 2, 2)
    all_of_them = four.json("quota", "list")["quotas"]
    assert [(q["tenant"], q["used_instances"]) for q in all_of_them] == [("acme", 2), ("other", 3)]
    assert of(four, "acme", "cluster", "capacity", "--shape", "1c64m", "-o", "json").returncode == 0


def test_the_audit_log_says_whose_it_was(four):
    make(four, "acme", "web")
    make(four, "other", "web")

    def records(*arguments):
        return four.json("audit", "list", "--object", "vm/web", "--verb", "vm.create", *arguments)["records"]

    assert {"acme", "other"} <= {r["tenant"] for r in records()}
    assert {r["tenant"] for r in records("--tenant", "acme")} == {"acme"}
    placed = four.json("audit", "list", "--tenant", "acme", "--object", "web-1")["records"]
    assert placed and {r["tenant"] for r in placed} == {"acme"}
    assert four.json("audit", "verify")["ok"]


def test_the_environment_names_a_tenant_and_the_flag_wins(four):
    make(four, "acme", "web")
    make(four, "other", "db")

    def run(*arguments, tenant="acme"):
        environment = {"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(four.nodes[0].socket)}
        environment["BLIXARD_TENANT"] = tenant
        return subprocess.run([str(BIN / "blixard"), *arguments], env=environment, capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)

    assert run("vm", "list", "-o", "name").stdout == "vm/web\n"
    assert run("vm", "list", "-o", "name", "--tenant", "other").stdout == "vm/db\n"
    assert run("--tenant=other", "vm", "list", "-o", "name").stdout == "vm/db\n"
    assert run("vm", "list", "-o", "name", "-A").stdout == "vm/web\nvm/db\n"
    assert run("vm", "list", "-o", "name", tenant="").stdout == ""
    assert run("vm", "wait", "web", "--for", "phase=Running").returncode == 0
    assert run("__complete", "vm", "describe", "").stdout == "web\n"
    assert run("__complete", "--tenant", "other", "vm", "describe", "").stdout == "db\n"
    assert run("audit", "list", "--object", "vm/db").stdout.count("vm/db") > 0
    bad = run("vm", "list", tenant="No Name")
    assert bad.returncode == EXIT_USAGE
    assert bad.stderr == ('blixard: BLIXARD_TENANT: the tenant "No Name" does not match [a-z0-9]([a-z0-9-]*[a-z0-9])?, '
                          "at most 56 characters [INVALID]\n")


@pytest.mark.parametrize("arguments, sentence", [
    (("vm", "list", "--tenant", "../x"), '--tenant: the tenant "../x" does not match'),
    (("vm", "list", "--tenant", "a" * 57), "at most 56 characters"),
    (("vm", "list", "--tenant", ""), '--tenant: the tenant "" does not match'),
    (("vm", "list", "-A", "--tenant", "a"), "do not go together"),
    (("get", "vm/web", "-A"), "--all-tenants is for lists"),
])
def test_what_names_no_tenant_is_refused_in_one_sentence(four, arguments, sentence):
    refused = four.cli(*arguments, check=False)
    assert refused.returncode == EXIT_USAGE
    assert sentence in refused.stderr and refused.stderr.count("\n") == 1


def test_a_console_of_what_is_nowhere_names_the_next_command(four):
    of(four, "acme", "vm", "create", "web", "--microvm-config", HELLO, "--node-selector", "at=nowhere")
    said = of(four, "acme", "vm", "logs", "web")
    assert "not placed on a node yet: `blixard vm describe web --tenant acme` says why" in said.stdout + said.stderr


def test_names_of_all_their_length_fit_everywhere(four):
    make(four, LONGEST, "b" * 56, at="w1")
    until_it_answers(four, LONGEST, "b" * 56, four.node("w1"))
    assert listed(four, "-A") == [(LONGEST, "b" * 56)]
    assert four.json("node", "describe", "w1")["instances"][0]["tenant"] == LONGEST
    assert four.json("events", "--tenant", LONGEST)["events"]
    four.cli("quota", "set", LONGEST, "vms=1")
    refused = of(four, LONGEST, "vm", "create", "c" * 56, "--microvm-config", HELLO, check=False)
    assert f"tenant {LONGEST} has 1 of 1 VMs" in refused.stderr


def test_a_list_of_all_comes_in_parts_and_a_worker_counts_vms_by_tenant(four, messages):
    want = [("acme", "db"), ("acme", "web"), ("default", "web"), ("other", "web")]
    for tenant, name in want:
        make(four, tenant, name, at="w1")
    found, request = [], messages.VmListRequest(all_tenants=True, limit=1)
    with stock.Stub(messages, four.nodes[2].socket) as stub:
        while True:
            part = stub.VmList(request)
            found += [(vm.tenant, vm.spec.name) for vm in part.vms]
            if not part.next:
                break
            request.after, request.after_tenant = part.next, part.next_tenant
    assert found == want
    assert four.json("cluster", "status", "--stale", node=four.node("w1"))["vms"] == 4


def test_what_one_tenant_deletes_by_force_is_its_own_alone(new_cluster):
    one = new_cluster().form()
    leader = one.leader()
    silent = next(node for node in one.nodes if node is not leader)
    one.cli("node", "label", silent.name, f"at={silent.name}", node=leader)
    make(one, "acme", "web", at=silent.name)
    other = make(one, "other", "web", at=silent.name)["instances"][0]

    def detail():
        return one.json("node", "describe", silent.name, node=leader)

    silent.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: detail()["node"]["status"] == "Suspect", 20, "the leader misses the node")
        of(one, "acme", "vm", "delete", "web", node=leader)
        described = of(one, "acme", "vm", "describe", "web", node=leader).stdout
        assert "`blixard vm delete web --tenant acme --force`" in described
        of(one, "acme", "vm", "delete", "web", "--force", node=leader)
        assert [(t["tenant"], t["instance"]) for t in detail()["tombstones"]] == [("acme", "web-1")]
        assert [(i["tenant"], i["name"]) for i in detail()["instances"]] == [("other", "web-1")]
    finally:
        silent.process.send_signal(signal.SIGCONT)
    until(lambda: not detail()["tombstones"], 30, "the node that returned removed what it held")
    one.wait_ready()
    until_it_answers(one, "other", "web", silent)
    now = get(one, "other", "web")["instances"][0]
    assert (now["uid"], now["epoch"], now["phase"]) == (other["uid"], other["epoch"], "Running")
    assert make(one, "acme", "web", at=silent.name)["phase"] == "Running"


# ---- real guests


def test_two_real_guests_of_one_name_know_nothing_of_each_other():
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=2,memory_mib=1024")

    def monitors():
        return sorted(pid for pid in processes_of(one.dir) if program(pid).startswith("qemu-system"))

    try:
        one.form()
        for tenant in ("acme", "other"):
            of(one, tenant, "vm", "create", "hello", "--microvm-config", HELLO, "--wait", "--timeout", "170s")
            of(one, tenant, "vm", "exec", "hello", "--", "sh", "-c", f"echo {tenant} > /tmp/who")
        assert len(monitors()) == 2
        for tenant in ("acme", "other"):
            assert of(one, tenant, "vm", "exec", "hello-1", "--", "cat", "/tmp/who").stdout == f"{tenant}\n"
            assert "hello from hello" in of(one, tenant, "vm", "logs", "hello").stdout
        of(one, "acme", "vm", "delete", "hello", "--wait", "--timeout", "60s")
        until(lambda: len(monitors()) == 1, 20, "one monitor is left")
        assert of(one, "other", "vm", "exec", "hello-1", "--", "cat", "/tmp/who").stdout == "other\n"
        of(one, "other", "vm", "delete", "hello", "--wait", "--timeout", "60s")
    finally:
        end_guests(one)
        one.close()
