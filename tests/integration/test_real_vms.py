"""Real guests: three daemons, runners by Nix, QEMU. The tests share one cluster and clean up after themselves."""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from cluster import BIN, EXIT_NOT_FOUND, HELLO, Cluster, alive, cgroups, end_guests, processes_of, program, until

BOOT = "120s"


@pytest.fixture(scope="module")
def real():
    one = Cluster(simulate=False, capacity="vcpus=4,memory_mib=2048")
    try:
        one.form()
        yield one
        one.delete_all()
        assert not monitors(one), "every VM was deleted"
    finally:
        end_guests(one)
        one.close()


def works_for(pid, instance, node):
    """Whether a process works in an instance's directory on a node: by its directory or its arguments."""
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return any(f"{node.dir}/" in text and f"/{instance}-" in text for text in (f"{cwd}/", arguments))


def monitors(one, instance=None):
    """Pids of the VMMs, of one instance or of all."""
    return sorted(
        pid
        for pid in processes_of(one.dir)
        if program(pid).startswith("qemu-system")
        and (instance is None or any(works_for(pid, instance, n) for n in one.nodes))
    )


def shims(one, instance):
    return sorted(
        pid
        for pid in processes_of(one.dir)
        if program(pid) == "blixard-shim" and any(works_for(pid, instance, n) for n in one.nodes)
    )


def instance(vm, number=1):
    return vm["instances"][number - 1]


def grown(one, name, field, above):
    return lambda: int(instance(one.get(name))[field]) > above


def test_hello_runs_three_times_on_three_nodes(real):
    vm = real.create("hello", "--replicas", 3, "--strategy", "LoadBalanced")
    assert {i["node"] for i in vm["instances"]} == {"n1", "n2", "n3"}
    assert len(monitors(real)) == 3
    for number in (1, 2, 3):
        console = real.cli("vm", "logs", f"hello-{number}").stdout
        assert "hello from hello" in console


def test_logs_end_with_the_tail_and_follow_what_comes(real):
    whole = real.cli("vm", "logs", "hello-1").stdout.splitlines()
    assert real.cli("vm", "logs", "hello-1", "--tail", 1).stdout.splitlines() == whole[-1:]
    every = real.cli("vm", "logs", "hello", "--tail", 1, node=real.nodes[1]).stdout
    assert all(f"hello-{number} | " in every for number in (1, 2, 3))

    real.create("talker")
    follower = subprocess.Popen(
        [BIN / "blixard", "vm", "logs", "talker-1", "--follow", "--tail", "100"],
        stdout=subprocess.PIPE,
        text=True,
        env={"BLIXARD_SOCKET": str(real.nodes[2].socket)},
    )
    assert any("hello from hello" in line for line in follower.stdout)
    # The end of what it follows is the end of it.
    real.cli("vm", "delete", "talker", "--wait")
    follower.stdout.read()
    assert follower.wait(30) in (0, EXIT_NOT_FOUND)


def test_lines_of_a_guest_have_times_that_survive_its_restart_and_old_ones_are_left_out(real):
    began = time.time()
    real.create("clock")
    up = time.time()

    def timed(*flags):
        """(seconds since 1970 or None, text) of each line."""
        found = []
        for line in real.cli("vm", "logs", "clock-1", "--timestamps", *flags).stdout.splitlines():
            when, _, text = line.partition(" ")
            known = when != "unknown"
            found.append((datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp(), text)
                         if known else (None, text))
        return found

    first = timed()
    assert any("hello from hello" in text for _, text in first)
    assert all(at is not None and began - 1 <= at <= up + 1 for at, _ in first)
    assert len({at for at, _ in first}) > 1, "a boot takes seconds, and its lines do"
    assert [text for _, text in first] == real.cli("vm", "logs", "clock-1").stdout.replace("\r", "").splitlines()
    assert timed("--since", "2100-01-01T00:00:00Z") == [] and timed("--since", "1h") == first

    last = max(at for at, _ in first)
    date = datetime.datetime.fromtimestamp(last, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    late = timed("--since", date)
    assert late == [line for line in first if line[0] >= last - 0.0005] and 0 < len(late) < len(first)

    # Another shim goes on with the same files.
    again = time.time()
    real.cli("vm", "restart", "clock", "--force", "--wait", "--timeout", BOOT)
    both = timed()
    assert both[:len(first)] == first and len(both) > len(first)
    assert all(at >= again - 1 for at, _ in both[len(first) + 1:])
    real.cli("vm", "delete", "clock", "--wait")


def test_top_sees_that_a_guest_is_busy_and_what_its_monitor_uses(real):
    """A guest under TCG is busy while it boots."""
    real.create("busy", wait=False)
    began = time.monotonic()

    def seen():
        nodes = json.loads(real.cli("top", "-o", "json", node=real.nodes[1]).stdout)["nodes"]
        assert all(n["heard"] and n["driver"] == "microvm.nix" for n in nodes)
        return {i["instance"]: i for n in nodes for i in n["instances"]}

    most = 0
    while most <= 500 and time.monotonic() - began < 120:
        most = max(most, seen().get("busy-1", {}).get("cpu_permille", 0))
        if most <= 500 and real.get("busy")["phase"] == "Running":
            real.cli("vm", "restart", "busy", "--force")
    assert most > 500, f"{most / 10} % of a processor at most"
    real.wait("busy", "phase=Running", timeout=BOOT)
    used = seen()
    assert {"busy-1", "hello-1", "hello-2", "hello-3"} <= set(used)
    for one in used.values():
        assert int(one["memory_bytes"]) > 20 << 20 and int(one["cpu_us"]) > 500000 and int(one["uptime_ms"]) > 1000
        assert one["read_bytes"] == one["written_bytes"] == 0 and "balloon_bytes" not in one, "no disks, no balloon"
        assert 0 <= one["cpu_permille"] < 4000
        # What the guest says of itself: this guest's own memory, not its monitor's.
        assert 32 << 20 < int(one["guest_memory_bytes"]) <= 256 << 20, one
        assert 0 < int(one["guest_available_bytes"]) < int(one["guest_memory_bytes"])
        assert one["guest_processes"] > 3 and "guest_load_milli" in one
        assert int(one["guest_uptime_ms"]) > 0
    table = real.cli("top", "--once").stdout
    assert table.startswith("NAME ") and "hello-3" in table and "made up" not in table
    heads, row = table.splitlines()[0].split(), next(r for r in table.splitlines() if r.startswith("hello-3")).split()
    assert re.fullmatch(r"[\d.]+M/[\d.]+M", dict(zip(heads, row))["GUEST-MEM"])

    # A guest that stands still is not asked, and costs its own numbers only; nor do the others become slow.
    real.cli("vm", "pause", "busy", "--wait")
    at = time.monotonic()
    still = seen()
    assert time.monotonic() - at < 5
    assert "guest_memory_bytes" not in still["busy-1"] and "cpu_us" in still["busy-1"]
    assert "guest_memory_bytes" in still["hello-1"]
    real.cli("vm", "resume", "busy", "--wait")
    assert "guest_memory_bytes" in seen()["busy-1"]
    real.cli("vm", "delete", "busy", "--wait")


def test_a_killed_daemon_leaves_its_guest_running_and_adopts_it_when_it_is_back(real):
    owner = real.node(instance(real.get("hello"))["node"])
    before = instance(real.get("hello"))
    monitor, shim = monitors(real, "hello-1"), shims(real, "hello-1")
    assert len(monitor) == 1 and len(shim) == 1
    owner.kill()
    assert alive(monitor[0]) and alive(shim[0])
    owner.start()
    real.wait("hello", "phase=Running", timeout=BOOT)
    after = instance(real.get("hello", node=owner))
    assert (after["epoch"], after["restarts"], after["node"]) == (before["epoch"], before["restarts"], before["node"])
    assert (monitors(real, "hello-1"), shims(real, "hello-1")) == (monitor, shim)
    assert "hello from hello" in real.cli("vm", "logs", "hello-1", node=owner).stdout


def test_the_leader_killed_another_serves_within_ten_seconds_and_every_guest_runs_on(real):
    pids = monitors(real)
    assert len(pids) == 3
    real.create("before", "--stopped", wait=False)
    old = real.leader()
    old.kill()
    survivor = real.running_nodes()[0]
    real.cli(
        "--timeout", "10s", "vm", "create", "during", "--microvm-config", HELLO, "--stopped", node=survivor
    )
    assert {"hello", "before", "during"} <= real.names(node=survivor)
    assert monitors(real) == pids
    old.start()
    real.wait("hello", "phase=Running", timeout=BOOT)
    assert monitors(real) == pids
    assert {"hello", "before", "during"} <= real.names(node=old)
    for name in ("before", "during"):
        real.cli("vm", "delete", name, "--wait")


def test_every_daemon_stopped_and_started_finds_every_guest_as_it_was(real):
    before = real.get("hello")
    pids = monitors(real)
    assert len(pids) == 3
    for node in real.nodes:
        node.terminate()
    assert all(alive(pid) for pid in pids)
    for node in real.nodes:
        node.start()
    real.wait("hello", "phase=Running", timeout=BOOT)
    after = real.get("hello")
    assert [(i["uid"], i["epoch"], i["node"]) for i in after["instances"]] == [
        (i["uid"], i["epoch"], i["node"]) for i in before["instances"]
    ]
    assert monitors(real) == pids


def test_a_killed_monitor_is_started_again_by_policy(real):
    real.create("crash", "--restart", "on-failure")
    before = instance(real.get("crash"))
    (pid,) = monitors(real, "crash-1")
    os.kill(pid, signal.SIGKILL)
    until(grown(real, "crash", "restarts", int(before["restarts"])), 60, "the restart is counted")
    real.wait("crash", "phase=Running", timeout=BOOT)
    after = instance(real.get("crash"))
    assert int(after["epoch"]) > int(before["epoch"])
    (again,) = monitors(real, "crash-1")
    assert again != pid
    real.cli("vm", "delete", "crash", "--wait")


def test_a_killed_monitor_stays_dead_when_the_policy_is_never(real):
    real.create("mortal", "--restart", "never")
    (pid,) = monitors(real, "mortal-1")
    os.kill(pid, signal.SIGKILL)
    real.wait("mortal", "phase=Failed", timeout="60s")
    told = instance(real.get("mortal"))
    assert told["reason"]["code"] in ("Crashed", "PolicyNever")
    assert "9" in told["reason"]["text"] or int(told["exit_status"]) == -9
    assert not monitors(real, "mortal-1")
    real.cli("vm", "delete", "mortal", "--wait")


def test_a_paused_guest_stands_still_survives_its_daemon_and_can_be_stopped_in_order(real):
    vm = real.create("still")
    (pid,) = monitors(real, "still-1")
    real.cli("vm", "pause", "still")
    until(lambda: instance(real.get("still"))["paused"], 20, "it stands still")
    owner = real.node(instance(vm)["node"])
    owner.kill()
    owner.start()
    real.wait_ready()
    until(lambda: instance(real.get("still"))["paused"], 20, "it is known to stand still")
    real.cli("vm", "resume", "still")
    until(lambda: not instance(real.get("still"))["paused"], 20, "it goes on")
    assert monitors(real, "still-1") == [pid]
    real.cli("vm", "pause", "still")
    until(lambda: instance(real.get("still"))["paused"], 20, "it stands still again")
    # A guest that stood still would not hear the request, and would be killed at the deadline: with signal 9.
    real.cli("vm", "stop", "still", "--wait", "--timeout", "60s")
    assert instance(real.get("still"))["exit_status"] == 0
    real.cli("vm", "delete", "still", "--wait")


def test_restart_boots_the_guest_anew_and_kill_asks_no_guest(real):
    real.create("anew")
    (pid,) = monitors(real, "anew-1")
    real.cli("vm", "restart", "anew", "--wait", "--timeout", BOOT)
    (again,) = monitors(real, "anew-1")
    assert again != pid
    real.cli("vm", "kill", "anew", "--wait", "--timeout", "20s")
    assert not monitors(real, "anew-1")
    assert instance(real.get("anew"))["exit_status"] == -9
    real.cli("vm", "delete", "anew", "--wait")


def test_stop_ends_the_guest_and_start_boots_it_again(real):
    real.create("pause")
    real.cli("vm", "stop", "pause", "--wait", "--timeout", "60s")
    assert not monitors(real, "pause-1")
    stopped = real.get("pause")
    assert stopped["phase"] == "Stopped"
    # A monitor that was killed at the deadline tells of signal 9.
    assert instance(stopped)["exit_status"] == 0
    real.cli("vm", "start", "pause", "--wait", "--timeout", BOOT)
    assert len(monitors(real, "pause-1")) == 1
    real.cli("vm", "delete", "pause", "--wait")


def test_delete_leaves_no_process_directory_control_group_or_root(real):
    real.create("brief", "--replicas", 3)
    assert len(monitors(real, "brief-1")) == 1
    assert len({c.split("/")[-2] for c in cgroups(real.id) if "brief" in c}) == 3
    real.cli("vm", "delete", "brief", "--wait", "--timeout", "60s")
    assert not [a for a in processes_of(real.dir).values() if "brief" in a]
    assert not [p for n in real.nodes for p in n.dir.rglob("*brief*")]
    assert not [p for p in (real.dir / "nix").rglob("gcroots/**/*brief*")]
    assert not [c for c in cgroups(real.id) if "brief" in c]


def test_a_guest_deleted_by_force_is_killed_and_removed_when_its_daemon_is_back(real):
    old = instance(real.create("ghost"))
    owner = real.node(old["node"])
    ask = {"node": next(n for n in real.nodes if n is not owner)}
    (monitor,) = monitors(real, "ghost-1")
    owner.kill()

    def detail():
        return real.json("node", "describe", owner.name, **ask)

    until(lambda: detail()["node"]["status"] == "Suspect", 40, "the leader misses the node")
    real.cli("vm", "delete", "ghost", "--force", "--wait", **ask)
    new = instance(real.create("ghost", **ask))
    assert int(new["uid"]) > int(old["uid"]) and new["node"] != old["node"]
    assert alive(monitor), "what was forgotten runs on until its node is back"
    owner.start()
    until(lambda: not detail()["tombstones"], 60, "the node that returned removed what it held")
    assert not alive(monitor)
    assert not [p for p in owner.dir.rglob("*ghost*")]
    assert len(monitors(real, "ghost-1")) == 1
    assert instance(real.get("ghost")) == new
    real.cli("vm", "delete", "ghost", "--wait", "--timeout", "60s")
    assert not [c for c in cgroups(real.id) if "ghost" in c]


def test_a_module_with_an_option_that_the_runner_does_not_know_fails_and_names_it(real, tmp_path):
    module = tmp_path / "odd.nix"
    module.write_text('{ microvm = { hypervisor = "qemu"; vcpu = 1; mem = 128; teleport = true; }; }\n')
    real.cli("vm", "create", "odd", "--microvm-config", module, "--restart", "never")
    real.wait("odd", "phase=Failed", timeout="60s")
    reason = instance(real.get("odd"))["reason"]
    assert reason["code"] == "BuildFailed"
    assert "microvm.teleport" in reason["text"]
    described = real.cli("vm", "describe", "odd").stdout
    assert "microvm.teleport" in described
    real.cli("vm", "delete", "odd", "--wait")


def test_nginx_as_the_seed_writes_it(real):
    module = HELLO.parent / "nginx.nix"
    real.cli("vm", "create", "nginx", "--microvm-config", module, "--replicas", 3)
    real.wait("nginx", "phase=Running", timeout=BOOT)
    status = json.loads(real.cli("vm", "status", "nginx", "--format", "json").stdout)
    assert len(status["instances"]) == 3
    assert "hello from nginx" in real.cli("vm", "logs", "nginx-1", "--tail", 100).stdout
    real.cli("vm", "start", "nginx")
    real.cli("vm", "delete", "nginx", "--wait", "--timeout", "60s")
