"""blixardd under a service manager: what it tells, how it ends, and the units that start it."""

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from cluster import (BIN, EXIT_CORRUPT, EXIT_DENIED, EXIT_FATAL, EXIT_INTERNAL, EXIT_OK, EXIT_RETRY, EXIT_USAGE, ROOT,
                     until)
from daemons import HERE, STOP_SECONDS_MAX, Daemon, Manager, blixardd


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-D_GNU_SOURCE", HERE / "faults.c", "-o", path, "-ldl"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def daemon(tmp_path):
    """Makes daemons that end with the test."""
    made = []

    def make(*arguments, name="d", **more):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Daemon(directory, *arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def faulty(daemon, library, tmp_path):
    """Makes a daemon whose disk does what there are files for in .faults."""

    def make(*arguments, **more):
        faults = tmp_path / "faults"
        faults.mkdir(exist_ok=True)
        one = daemon(*arguments, library=library, faults=faults, **more)
        one.faults = faults
        return one

    return make


@pytest.fixture
def manager(tmp_path):
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


# ---- what the service manager hears


def test_it_tells_when_it_serves_what_it_is_and_that_it_ends(daemon, manager):
    one = daemon("--bootstrap", NOTIFY_SOCKET=str(manager.name)).start()
    manager.until("READY=1")
    assert one.cli("cluster", "status", "--stale").returncode == EXIT_OK, "it says READY when it answers"
    manager.until("STATUS=leader, 0 instances")
    assert not [line for line in manager.heard if line.startswith(("WATCHDOG", "STOPPING"))]
    assert one.stop()[0] == EXIT_OK
    manager.until("STOPPING=1")
    assert manager.heard.count("READY=1") == 1
    assert manager.heard.index("READY=1") < manager.heard.index("STOPPING=1")


def test_an_abstract_name_is_understood(daemon, tmp_path):
    manager = Manager(f"@blixard-test-{os.getpid()}-{tmp_path.name}")
    try:
        daemon(NOTIFY_SOCKET=manager.name).start()
        manager.until("READY=1")
        manager.until("STATUS=in no cluster yet: blixard cluster init, or join")
    finally:
        manager.close()


@pytest.mark.parametrize("address", ["", "/", "@", "relative", "vsock:2:3", "/" + "x" * 200, "/nowhere/at/all"])
def test_a_manager_that_is_not_there_costs_nothing(daemon, address):
    one = daemon("--bootstrap", NOTIFY_SOCKET=address).start()
    one.wait_said("answers at")
    assert one.stop()[0] == EXIT_OK


def test_a_manager_that_does_not_read_is_not_waited_for(daemon, manager):
    flood = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    flood.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            flood.sendto(b"x", str(manager.name))
    flood.close()
    one = daemon("--bootstrap", NOTIFY_SOCKET=str(manager.name)).start()
    one.wait_said("the service manager could not be told")
    status, seconds = one.stop()
    assert status == EXIT_OK and seconds < STOP_SECONDS_MAX


def test_followers_say_whom_they_follow_and_how_many_instances_they_have(new_cluster, tmp_path, monkeypatch):
    manager = Manager(tmp_path / "notify")
    cluster = new_cluster(("n1", "n2"))
    first, second = cluster.nodes
    first.start("--bootstrap")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.name))
    second.start()
    monkeypatch.delenv("NOTIFY_SOCKET")
    manager.until("STATUS=in no cluster yet: blixard cluster init, or join")
    second.cli("cluster", "join", "--address", f"unix:{first.socket}")
    cluster.wait_ready()
    cluster.create("web", "--replicas", "3", "--node-selector", "here=no", wait=False)
    manager.until("STATUS=follower of n1, 0 instances")
    cluster.create("all", "--replicas", "4", "--strategy", "LoadBalanced")
    count = next(n["instances"] for n in cluster.json("node", "list")["nodes"] if n["name"] == "n2")
    assert count > 0
    manager.until(f"STATUS=follower of n1, {count} instance{'s' if count > 1 else ''}")
    manager.close()


def cluster_rate(cluster, seconds):
    """How fast cluster time goes by, measured at two operations."""
    def now():
        cluster.cli("node", "label", "n1", f"tick={time.monotonic_ns()}")
        return int(cluster.json("cluster", "status")["time_ms"]), time.monotonic() * 1000

    (first, began) = now()
    time.sleep(seconds)
    (last, ended) = now()
    return (last - first) / (ended - began)


def test_one_wall_of_three_moves_no_cluster_time_and_two_do_by_a_tenth(new_cluster, library, tmp_path, monkeypatch):
    cluster = new_cluster()
    monkeypatch.setenv("LD_PRELOAD", str(library))
    for node in cluster.nodes:
        (tmp_path / node.name).mkdir()
        monkeypatch.setenv("BLX_FAULT_DIR", str(tmp_path / node.name))
        node.start(*(["--bootstrap"] if node is cluster.nodes[0] else []))
    monkeypatch.delenv("LD_PRELOAD")
    for node in cluster.nodes[1:]:
        node.cli("cluster", "join", "--address", f"unix:{cluster.nodes[0].socket}")
    cluster.wait_ready()
    until(lambda: all(n["voter"] for n in cluster.json("node", "list")["nodes"]), 20, "all of them vote")
    leader = cluster.leader()
    (tmp_path / leader.name / "wall").touch()
    time.sleep(4)  # a heartbeat of each
    assert 0.98 < cluster_rate(cluster, 5) < 1.02
    other = next(node for node in cluster.nodes if node is not leader)
    (tmp_path / other.name / "wall").touch()
    time.sleep(4)
    assert 1.07 < cluster_rate(cluster, 5) < 1.12


def watchdogs(manager):
    return manager.listen().count("WATCHDOG=1")


def test_the_watchdog_is_fed_while_the_node_answers_and_not_when_it_stands_still(faulty, manager):
    one = faulty("--bootstrap", NOTIFY_SOCKET=str(manager.name), WATCHDOG_USEC="600000").start()
    manager.until("STATUS=leader, 0 instances")
    began, fed = time.monotonic(), watchdogs(manager)
    until(lambda: watchdogs(manager) >= fed + 10, 10, "it is fed again and again")
    assert time.monotonic() - began > 1, "not more often than the time allowed asks for"
    (one.faults / "accept").touch()
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(one.data / "blixard.sock"))
    time.sleep(0.5)
    fed = watchdogs(manager)
    time.sleep(2)
    assert watchdogs(manager) == fed
    (one.faults / "accept").unlink()
    until(lambda: watchdogs(manager) > fed, 10, "it is fed again")
    caller.close()


@pytest.mark.parametrize("variables", [
    {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"},
    {"WATCHDOG_USEC": "0"},
    {"WATCHDOG_USEC": "soon"},
    {},
])
def test_a_watchdog_that_is_not_for_it_is_not_fed(daemon, manager, variables):
    daemon("--bootstrap", NOTIFY_SOCKET=str(manager.name), **variables).start()
    manager.until("STATUS=leader, 0 instances")
    time.sleep(1)
    assert watchdogs(manager) == 0


# ---- ends


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_it_serves_is_quick_and_said(daemon, sign):
    one = daemon("--bootstrap").start()
    one.wait_said("answers at")
    status, seconds = one.stop(sign)
    assert status == EXIT_OK and seconds < 5
    assert f"{sign.name}: ends after closing the node, its VMs run on" in one.said()
    one.log.unlink()
    one.start().wait_said("answers at")
    assert one.stop()[0] == EXIT_OK


def test_a_stop_while_it_opens_waits_for_that_and_says_so(faulty, manager):
    one = faulty("--bootstrap", NOTIFY_SOCKET=str(manager.name))
    (one.faults / "lock").touch()
    one.start()
    manager.until("STATUS=waits for opening the node")
    assert [line for line in manager.heard if line.startswith("EXTEND_TIMEOUT_USEC=")]
    one.process.terminate()
    one.wait_said("SIGTERM: ends after opening the node")
    (one.faults / "lock").unlink()
    assert one.process.wait(5) == EXIT_OK
    assert "waits for opening the node, 2 s so far" in one.said()
    assert "READY=1" not in manager.listen() and "STOPPING=1" in manager.heard


def test_a_stop_ends_in_time_though_opening_never_does(faulty):
    one = faulty("--bootstrap")
    (one.faults / "lock").touch()
    one.start()
    until((one.data / "lock").exists, 20, "it takes the lock")
    status, seconds = one.stop()
    assert status == EXIT_OK and 5 < seconds < STOP_SECONDS_MAX
    assert "opening the node takes longer than 9 s: ends without it" in one.said()


def test_a_stop_ends_in_time_though_the_disk_hangs_and_what_was_acknowledged_is_there(faulty):
    one = faulty("--bootstrap").start()
    one.wait_said("answers at")
    create = ("vm", "create", "kept", "--microvm-config", str(ROOT / "examples/hello.nix"))
    until(lambda: one.cli(*create, "--request-id", "one").returncode == EXIT_OK, 20, "a VM is created")
    (one.faults / "hang").touch()
    hanging = one.cli("--timeout", "1s", "vm", "create", "lost", "--microvm-config", str(ROOT / "examples/hello.nix"))
    assert hanging.returncode != EXIT_OK
    status, seconds = one.stop()
    assert status == EXIT_OK and seconds < STOP_SECONDS_MAX
    assert "closing the node takes longer than 9 s: ends without it, nothing acknowledged is lost" in one.said()
    (one.faults / "hang").unlink()
    one.start()
    until(lambda: one.cli("vm", "get", "kept").returncode == EXIT_OK, 20, "it is there again")
    assert one.stop()[0] == EXIT_OK


@pytest.mark.parametrize("fault, doing", [("lock", "opening"), ("hang", "closing")])
def test_a_second_signal_ends_it_at_once(faulty, fault, doing):
    one = faulty("--bootstrap")
    if fault == "lock":
        (one.faults / fault).touch()
        one.start()
        until((one.data / "lock").exists, 20, "it takes the lock")
    else:
        one.start().wait_said("answers at")
        until(lambda: one.cli("vm", "list").returncode == EXIT_OK, 20, "it leads")
        (one.faults / fault).touch()
        one.cli("--timeout", "1s", "vm", "create", "x", "--microvm-config", str(ROOT / "examples/hello.nix"))
    one.process.terminate()
    one.wait_said(f"SIGTERM: ends after {doing} the node")
    time.sleep(0.2)
    assert one.process.poll() is None, "the first signal waits"
    status, seconds = one.stop(signal.SIGINT)
    assert status == EXIT_OK and seconds < 1
    assert f"SIGINT again: ends without waiting for {doing} the node" in one.said()


def test_a_stop_during_a_join_is_quick_and_the_join_is_told(daemon, tmp_path):
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "silent.sock"))
    silent.listen(8)
    one = daemon().start()
    one.wait_said("answers at")
    command = [str(BIN / "blixard"), "--socket", str(one.data / "blixard.sock"), "--timeout", "8s", "cluster", "join",
               "--address", f"unix:{tmp_path}/silent.sock"]
    asking = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True)
    peer, _ = silent.accept()
    status, seconds = one.stop()
    assert status == EXIT_OK and seconds < STOP_SECONDS_MAX
    _, said = asking.communicate(timeout=20)
    assert asking.returncode == EXIT_RETRY and said.count("\n") == 1, said
    peer.close()
    silent.close()


def test_a_stop_without_a_majority_is_quick_and_who_waits_is_told(new_cluster):
    cluster = new_cluster(("n1", "n2"))
    first, second = cluster.form().nodes
    second.kill()
    command = [str(BIN / "blixard"), "--socket", str(first.socket), "--timeout", "8s", "vm", "create", "never",
               "--microvm-config", str(ROOT / "examples/hello.nix")]
    asking = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True)
    time.sleep(1)
    assert asking.poll() is None, "it waits for a majority"
    began = time.monotonic()
    first.terminate()
    assert time.monotonic() - began < STOP_SECONDS_MAX
    _, said = asking.communicate(timeout=20)
    assert asking.returncode == EXIT_RETRY and said.count("\n") == 1, said


def test_a_stop_with_watches_and_callers_open_is_quick(daemon):
    one = daemon("--bootstrap").start()
    one.wait_said("answers at")
    until(lambda: one.cli("vm", "list").returncode == EXIT_OK, 20, "it leads")
    idle = []
    for _ in range(50):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].connect(str(one.data / "blixard.sock"))
    waiting = subprocess.Popen([str(BIN / "blixard"), "--socket", str(one.data / "blixard.sock"), "vm", "create", "big",
                                "--microvm-config", str(ROOT / "examples/hello.nix"), "--memory", "1000000", "--wait"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: one.cli("vm", "get", "big").returncode == EXIT_OK, 20, "somebody waits")
    status, seconds = one.stop()
    assert status == EXIT_OK and seconds < 5
    for client in idle:
        client.close()
    waiting.kill()
    waiting.wait()


def test_a_node_that_stopped_itself_is_status_70(faulty, manager):
    one = faulty("--bootstrap", NOTIFY_SOCKET=str(manager.name)).start()
    manager.until("STATUS=leader, 0 instances")
    (one.faults / "eio").touch()
    one.cli("--timeout", "2s", "vm", "create", "x", "--microvm-config", str(ROOT / "examples/hello.nix"))
    assert one.process.wait(STOP_SECONDS_MAX + 5) == EXIT_FATAL
    assert re.search(r"error +daemon: the node stopped itself: .* \[[A-Z]+\]$", one.said(), re.M)
    manager.until("STATUS=the node stopped itself; its log says why")


# ---- what it does not start on


def damage(data):
    (data / "identity").write_bytes(b"x" * 100)


def lose_identity(data):
    (data / "identity").unlink()


@pytest.mark.parametrize("harm", [damage, lose_identity])
def test_damaged_data_is_status_7_with_the_way_back(daemon, harm):
    one = daemon("--bootstrap").start()
    one.wait_said("answers at")
    until(lambda: one.cli("vm", "list").returncode == EXIT_OK, 20, "it leads")
    assert one.stop()[0] == EXIT_OK
    harm(one.data)
    one.start()
    assert one.process.wait(20) == EXIT_CORRUPT
    last = one.said().splitlines()[-1]
    assert last.startswith("blixardd: ") and "identity" in last and "restore it from a backup" in last


def start_on(data, *arguments, wrap=(), **more):
    return blixardd("--data-dir", data, "--name", "a", "--bootstrap", "--simulate-vms", *arguments, wrap=wrap, **more)


@pytest.mark.parametrize("mode, owner, said", [
    (0o777, 0, "may be written by everyone (mode 777): run chmod 0711 on it"),
    (0o770, 0, "may be written by its group (mode 770): run chmod 0711 on it"),
    (0o711, 65534, "belongs to user 65534"),
])
def test_a_directory_that_others_may_change_is_status_4(tmp_path, mode, owner, said):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    os.chown(data, owner, owner)
    done = start_on(data)
    assert (done.returncode, done.stdout) == (EXIT_DENIED, "") and said in done.stderr
    assert not list(data.iterdir())


@pytest.mark.parametrize("first", [["--bootstrap"], []])
def test_nfs_is_refused_before_anything_is_made_there_unless_it_is_allowed(faulty, first):
    one = faulty(*first)
    (one.faults / "nfs").touch()
    one.start()
    assert one.process.wait(20) == EXIT_USAGE
    assert "is on a file system (NFS, type 0x6969)" in one.said() and "--unsafe-fs" in one.said()
    assert one.said().count("\n") == 1 and not one.data.exists()
    one.arguments.append("--unsafe-fs")
    one.start()
    one.wait_said("answers at")
    assert one.stop()[0] == EXIT_OK


def mounting(kind, data):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("needs a mount namespace of its own")
    return "unshare", "-m", "sh", "-c", f'mount {kind} "{data}" && exec "$@"', "sh"


def test_a_read_only_directory_is_refused_with_the_reason(tmp_path):
    data = tmp_path / "data"
    data.mkdir(0o711)
    done = start_on(data, wrap=mounting("-t tmpfs -o ro,mode=0711 none", data))
    assert done.returncode in (EXIT_INTERNAL, EXIT_DENIED) and done.stderr.count("\n") == 1
    assert f"{data}/lock" in done.stderr and "Read-only file system" in done.stderr


def test_a_file_system_that_may_lose_the_log_is_refused_also_before_a_join(tmp_path):
    data = tmp_path / "data"
    data.mkdir(0o711)
    done = blixardd("--data-dir", data, "--name", "a", wrap=mounting("-t ramfs -o mode=0711 none", data))
    assert done.returncode == EXIT_USAGE and "on which a log is not known to survive a crash" in done.stderr


def test_a_second_daemon_on_a_directory_or_a_socket_is_status_6(daemon, tmp_path):
    one = daemon("--bootstrap").start()
    one.wait_said("answers at")
    done = start_on(one.data)
    assert done.returncode == EXIT_RETRY and "another process has the data directory" in done.stderr
    done = start_on(tmp_path / "other", "--socket", one.data / "blixard.sock")
    assert done.returncode == EXIT_RETRY and "another process answers on" in done.stderr
    assert one.cli("cluster", "status").returncode == EXIT_OK


# ---- the units


class Unit(configparser.ConfigParser):
    def __init__(self, path):
        super().__init__(interpolation=None, strict=True)
        self.optionxform = str
        self.read_string(path.read_text())


def test_the_unit_says_what_keeps_vms_running_and_what_must_not_be_started_again():
    service = Unit(ROOT / "daemon/blixardd.service")["Service"]
    assert service["Type"] == "notify" and service["Restart"] == "on-failure"
    prevented = {int(status) for status in service["RestartPreventExitStatus"].split()}
    assert prevented == {EXIT_USAGE, EXIT_CORRUPT}
    assert (service["KillMode"], service["Delegate"], service["OOMPolicy"]) == ("process", "yes", "continue")
    assert service["RuntimeDirectoryPreserve"] == "yes" and service["StateDirectoryMode"] == "0711"
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS_MAX and int(service["LimitNOFILE"]) >= 65536
    # What would take /dev/kvm, the control groups, the builds' sandbox or QEMU's translated code from a guest.
    for setting in ("PrivateDevices", "PrivateTmp", "ProtectControlGroups", "RestrictNamespaces", "SystemCallFilter",
                    "MemoryDenyWriteExecute", "PrivateNetwork"):
        assert setting not in service
    slice_name = re.search(r"--slice=(\S+)", (ROOT / "daemon/blixard-shim-scope.sh").read_text()).group(1)
    assert (ROOT / "daemon" / slice_name).exists()
    assert slice_name in Unit(ROOT / "daemon/blixardd.service")["Unit"]["Wants"]


def test_the_unit_starts_the_daemon_with_flags_that_it_knows():
    command = Unit(ROOT / "daemon/blixardd.service")["Service"]["ExecStart"].split()
    assert command[0] == "/usr/local/bin/blixardd"
    assert blixardd(*command[1:], "--print-config").returncode == EXIT_OK


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for name in ("blixardd.service", "blixard-vms.slice"):
        text = (ROOT / "daemon" / name).read_text().replace("/usr/local/bin", str(BIN))
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / "blixardd.service",
               tmp_path / "blixard-vms.slice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_shim_is_started_in_a_scope_with_systemd_and_plainly_without(tmp_path):
    script = tmp_path / "blixard-shim-scope"
    shutil.copy(ROOT / "daemon/blixard-shim-scope.sh", script)
    shim, run = tmp_path / "blixard-shim", tmp_path / "systemd-run"
    shim.write_text('#!/bin/sh\necho "shim $$ $*"\nexit 9\n')
    run.write_text('#!/bin/sh\necho "run $$ $*"\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    shim.chmod(0o755)
    run.chmod(0o755)
    text = script.read_text()
    here = tmp_path / "system"
    script.write_text(text.replace("/run/systemd/system", str(here)))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start():
        command = [str(script), "--dir", "/a b"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            said = child.communicate(timeout=20)[0].splitlines()
        assert child.returncode == 9, "the shim's status is the script's"
        return child.pid, said

    pid, said = start()
    assert said == [f"shim {pid} --dir /a b"], "the same process"
    here.mkdir()
    pid, said = start()
    assert said[0].startswith(f"run {pid} --scope --quiet --collect --slice=blixard-vms.slice ")
    assert said[0].endswith(f"-- {tmp_path}/blixard-shim --dir /a b") and said[1] == f"shim {pid} --dir /a b"
