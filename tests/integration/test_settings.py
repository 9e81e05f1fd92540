"""The cluster's settings: read, changed, refused; and modules built by the flakes that they name, on a worker too."""

import pytest

from cluster import EXIT_CONFLICT, EXIT_USAGE, ROOT, Cluster, Node, end_guests
from test_runner import MICROVM, MODULE, NIXPKGS, Store, pytestmark as needs_nix

PIN = "github:NixOS/nixpkgs/" + "0123456789" * 4


@pytest.fixture(scope="module")
def three():
    one = Cluster()
    try:
        yield one.form()
    finally:
        one.close()


def settings(cluster, **more):
    return cluster.json("cluster", "settings", **more)


def test_the_defaults_are_shown_by_every_member_with_what_follows_from_them(three):
    for node in three.nodes:
        now = settings(three, node=node)
        assert now["settings"]["lease"]["lease_ms"] == 20000 and now["t_safe_ms"] == 33150
    table = three.cli("cluster", "settings").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1] for line in table}
    assert rows["KEY"] == "VALUE" and rows["lease.lease_ms"] == "20000" and rows["T_safe"] == "33150"
    assert rows["nixpkgs_ref"] == "-"
    assert "lease_ms: 20000" in three.cli("cluster", "settings", "-o", "yaml").stdout


@pytest.mark.parametrize("words, says", [
    (["lease.lease=3"], "there is no setting \"lease.lease\"; there are lease.renew_ms, lease.lease_ms, lease.kill_ms, "
     "lease.watchdog_ms, lease.margin_ms, lease.rate_ppm, lease.suspect_ms, nixpkgs_ref, microvm_ref"),
    (["lease=3"], "there is no setting \"lease\"; there are "),
    (["revision=3"], "there is no setting \"revision\"; there are "),
    (["lease.lease_ms"], "\"lease.lease_ms\" is not KEY=VALUE"),
    (["lease.lease_ms=3"], "lease.lease_ms: \"3\" is not a whole number from 1000 to 600000"),
    (["lease.lease_ms=many"], "lease.lease_ms: \"many\" is not a whole number"),
    (["lease.lease_ms=6000"], "lease_ms less kill_ms (6000 - 5000) must be at least three times renew_ms (3000)"),
    (["lease.suspect_ms=4000"], "suspect_ms: 4000 is below twice renew_ms (3000)"),
    (["nixpkgs_ref=github:NixOS/nixpkgs"], 'nixpkgs_ref: "github:NixOS/nixpkgs" is not pinned'),
    (["microvm_ref=/etc/microvm"], 'microvm_ref: "/etc/microvm" is not pinned'),
    (["--leases-of", "1s"], "--leases-of: \"1s\" is not a duration from 2000ms to 400s"),
    (["--leases-of", "30s", "lease.margin_ms=1000"], "there is a lease beside it"),
    (["--leases-of", "30s", "--fast-leases"], "exclude each other"),
    ([], "KEY=VALUE is missing"),
])
def test_what_cannot_be_is_refused_with_the_reason_and_changes_nothing(three, words, says):
    before = settings(three)["settings"]
    done = three.cli("cluster", "settings", "set", *words, check=False)
    assert done.returncode == EXIT_USAGE and says in done.stderr, done.stderr
    assert settings(three)["settings"] == before


def test_a_change_is_of_what_was_named_holds_on_every_member_and_after_a_restart(new_cluster):
    one = new_cluster().form()
    said = one.cli("cluster", "settings", "set", "lease.margin_ms=1000", f"nixpkgs_ref={PIN}").stdout
    assert said == "settings changed; T_safe is 31150 ms\n"
    for node in one.nodes:
        now = settings(one, node=node)["settings"]
        assert now["lease"]["margin_ms"] == 1000 and now["lease"]["lease_ms"] == 20000
        assert now["nixpkgs_ref"] == PIN and not now.get("microvm_ref")
    # Leases of two settings may be out now: a third must wait; what is not about leases need not.
    done = one.cli("cluster", "settings", "set", "--fast-leases", check=False)
    assert done.returncode == 6 and "change them again in" in done.stderr, done.stderr
    revision = settings(one)["settings"]["revision"]
    done = one.cli("cluster", "settings", "set", "nixpkgs_ref=", "--if-revision", revision - 1, check=False)
    assert done.returncode == EXIT_CONFLICT and "read them again" in done.stderr, done.stderr
    twice = ["cluster", "settings", "set", "nixpkgs_ref=", "--if-revision", revision, "--request-id", "once"]
    assert [one.cli(*twice).returncode for _ in range(2)] == [0, 0]
    assert not settings(one)["settings"].get("nixpkgs_ref")
    for node in one.nodes:
        node.terminate()
    for node in one.nodes:
        node.start()
    one.wait_ready()
    assert settings(one)["settings"]["lease"]["margin_ms"] == 1000


def test_leases_of_a_length_come_with_all_that_belongs_to_it(new_cluster):
    one = new_cluster(names=("n1",)).form()
    one.cli("cluster", "settings", "set", "--fast-leases")
    lease = settings(one)["settings"]["lease"]
    assert (lease["lease_ms"], lease["renew_ms"], lease["kill_ms"]) == (2000, 300, 500)


# ---- builds


@pytest.fixture(scope="module")
def pins(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("nix"))
    return store.pin(NIXPKGS), store.pin(MICROVM)


def run_of(one, node, vm):
    (run,) = one.dir.glob(f"{node}/vms/{vm}-1-*/booted/bin/microvm-run")
    return run.resolve()


@needs_nix
def test_servers_and_workers_build_by_the_settings_flakes_and_what_runs_stays(pins, tmp_path):
    """The daemons are given none at all."""
    module = tmp_path / "hello.nix"
    module.write_text(MODULE)
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    words = one.daemon_arguments
    words[words.index("--runner-dir") + 1] = str(ROOT / "nix/vm-template")
    none = f"{'A' * 43}="
    # What blixardd asks for at its start is not what is built with: these lead nowhere.
    words += ["--nixpkgs-ref", f"path:/nowhere?narHash=sha256-{none}"]
    words += ["--microvm-ref", f"path:/nowhere?narHash=sha256-{none}"]
    create = ["--microvm-config", module, "--vcpus", 1, "--memory", 256, "--ready-none", "--node-selector"]
    try:
        one.form()
        worker = Node(one, "w1")
        worker.start()
        worker.cli("cluster", "join", "--address", f"unix:{one.nodes[0].socket}", "--worker")
        one.nodes.append(worker)
        one.wait_ready()
        one.cli("node", "label", "n1", "at=n1")
        one.cli("node", "label", "w1", "at=w1")
        one.cli("cluster", "settings", "set", f"nixpkgs_ref={pins[0]}", f"microvm_ref={pins[1]}")
        for node in ("n1", "w1"):
            one.cli("vm", "create", f"on-{node}", *create, f"at={node}")
        for node in ("n1", "w1"):
            one.wait(f"on-{node}", "phase=Running", timeout="120s")
        before = {}
        for node in ("n1", "w1"):
            before[node] = run_of(one, node, f"on-{node}"), one.get(f"on-{node}")["instances"][0]
        # Another change, which no build could follow: what runs goes on, under the same epoch.
        one.cli("cluster", "settings", "set", "nixpkgs_ref=", "microvm_ref=")
        one.cli("vm", "create", "next", *create, "at=w1")
        one.wait("next", "phase=Failed", timeout="60s")
        assert "nowhere" in one.get("next")["reason"]["text"]
        for node, (run, instance) in before.items():
            now = one.get(f"on-{node}")["instances"][0]
            assert run_of(one, node, f"on-{node}") == run
            assert (now["phase"], now["epoch"], now["uid"]) == ("Running", instance["epoch"], instance["uid"])
        for name in ("on-n1", "on-w1", "next"):
            one.cli("vm", "kill", name, "--wait")
            one.cli("vm", "delete", name, "--wait")
    finally:
        end_guests(one)
        one.close()
