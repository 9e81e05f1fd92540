"""Monitors that misbehave, beside a guest that does not: each harms its own VM only. One real daemon; the bad monitors
are runners like any other, of a flake each, whose `microvm-run` is a script of ours. What a monitor may say is in
test_hostile.py."""

import os
import pathlib
import re
import signal
import time

import pytest

from cluster import Cluster, alive, cgroups, end_guests, only, processes_of, program, until
from test_failpoints import left_of, monitors

FLAKE = """{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = derivation {
  name = "bad"; system = "x86_64-linux"; builder = "/bin/sh"; script = ./microvm-run;
  args = [ "-c" "%s" ];
}; }; }
"""
INSTALL = "/bin/mkdir -p $out/bin && cd $out/bin && /bin/cp $script microvm-run && /bin/chmod 755 microvm-run"
FLOOD_GIB = int(os.environ.get("BLX_FLOOD_GIB", "2"))
PIDS_MAX, CONSOLE_MAX = 512, 1 << 20

SILENT = """#!/usr/bin/python3
import socket, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("blixard-qmp.sock")
listener.listen()
%s
"""
SAYS_NOTHING = SILENT % "client = listener.accept()\ntime.sleep(600)"
HANGS_UP = SILENT % "while True:\n    listener.accept()[0].close()"
IS_DEAF = SILENT % "time.sleep(600)"

FLOOD = f"""#!/usr/bin/python3
import os, time
block = (b"x" * 1023 + b"\\n") * 64
left = {FLOOD_GIB} << 30
while left > 0:
    left -= os.write(1, block[:left])
os.write(1, b"the flood is over\\n")
time.sleep(600)
"""
BOMB = """#!/usr/bin/python3
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
# Two generations, the second in a session of its own and deaf to what can be ignored.
LITTER = """#!/usr/bin/python3
import os, signal, time
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    os.fork()
time.sleep(600)
"""


@pytest.fixture(scope="module")
def one():
    cluster = Cluster(names=("n1",), simulate=False, capacity="vcpus=16,memory_mib=4096")
    try:
        cluster.form()
        cluster.create("honest")
        yield cluster
        cluster.delete_all()
    finally:
        end_guests(cluster)
        cluster.close()


@pytest.fixture(autouse=True)
def others_run_on(one):
    """Whatever happens to the bad one, the guest beside it and the daemon are what they were."""
    before, pids = one.get("honest")["instances"], monitors(one)
    yield
    after = one.get("honest")
    assert after["phase"] == "Running" and after["instances"] == before
    assert all(monitors(one)[name] == of for name, of in pids.items())
    assert one.nodes[0].process.poll() is None
    assert rss_kib(one.nodes[0].pid) < 65536


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def make(one, path, name, script, *more, build=INSTALL):
    """A VM whose monitor is a script."""
    path.mkdir(exist_ok=True)
    (path / "flake.nix").write_text(FLAKE % build)
    (path / "microvm-run").write_text(script)
    one.cli("vm", "create", name, "--flake", f"path:{path}#vm", "--memory", 64, "--stop-timeout", "1s", *more)


def of(one, name):
    """Pids that work for a VM: its monitor with all it has begun, and its shim."""
    return [pid for pid, words in processes_of(one.dir).items() if works_for(pid, words, name)]


def works_for(pid, words, name):
    try:
        return f"/{name}-1-" in f"{os.readlink(f'/proc/{pid}/cwd')}/ {words}"
    except OSError:
        return False


def shim_of(one, name):
    """A monitor goes by its shim's program too until it has become its own."""
    shims = []

    def alone():
        shims[:] = [pid for pid in of(one, name) if program(pid) == "blixard-shim"]
        return len(shims) == 1

    until(alone, 10, f"{name} has one shim")
    return shims[0]


def delete(one, name):
    one.cli("vm", "delete", name, "--wait", "--timeout", "60s")
    until(lambda: not left_of(one, name), 10, f"nothing is left of {name}: {left_of(one, name)}")
    assert not of(one, name)


def test_a_monitor_that_never_greets_fails_its_vm(one, tmp_path):
    """It says nothing, it hangs up at once, it does not even take the connection."""
    ways = {"mute": SAYS_NOTHING, "hasty": HANGS_UP, "deaf": IS_DEAF}
    for name, script in ways.items():
        make(one, tmp_path / name, name, script, "--restart", "never")
    for name in ways:
        until(lambda: len(of(one, name)) == 2, 60, "it runs under its shim")
    shims = {name: shim_of(one, name) for name in ways}
    time.sleep(5)
    assert all(rss_kib(pid) < 8192 for pid in shims.values())
    for name in ways:
        one.wait(name, "phase=Failed", timeout="60s")
        told = only(one, name)
        assert told["reason"]["code"] == "VmmProtocol" and "did not greet within 30 s" in told["reason"]["text"], told
        assert not of(one, name)
        delete(one, name)


def test_a_flood_on_a_console_fills_no_disk_and_no_memory(one, tmp_path):
    make(one, tmp_path / "flake", "flood", FLOOD, "--restart", "never", "--ready-none", "--wait", "--timeout", "60s")
    began, shim, largest = time.monotonic(), shim_of(one, "flood"), 0
    (directory,) = (one.nodes[0].dir / "vms").glob("flood-1-*")
    processor = processor_s(shim)

    def over():
        nonlocal largest
        sizes = [size for p in directory.glob("console.log*") if (size := size_of(p)) is not None]
        largest = max(largest, *sizes)
        assert largest <= CONSOLE_MAX and len(sizes) <= 2
        return "the flood is over" in one.cli("vm", "logs", "flood", "--tail", "1").stdout

    until(over, 60 + 30 * FLOOD_GIB, "the last line is in the log")
    took = time.monotonic() - began
    print(f"{FLOOD_GIB} GiB of console in {took:.1f} s; the shim took {processor_s(shim) - processor:.1f} s of a "
          f"processor and has {rss_kib(shim)} KiB; the largest log was {largest} bytes")
    assert rss_kib(shim) < 8192
    assert only(one, "flood")["phase"] == "Running"
    delete(one, "flood")


def size_of(path):
    """None: it was renamed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def processor_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_fork_bomb_stays_in_its_control_group_and_can_be_killed(one, tmp_path):
    make(one, tmp_path / "flake", "bomb", BOMB, "--restart", "never", "--ready-none", "--wait", "--timeout", "60s")
    (group,) = [pathlib.Path(c) for c in cgroups(one.id) if "/bomb-1-" in c and (pathlib.Path(c) / "pids.max").exists()]
    until(lambda: int((group / "pids.current").read_text()) >= PIDS_MAX, 60, "it is as large as it may be")
    assert int((group / "pids.max").read_text()) == PIDS_MAX
    one.create("beside")  # boots while the bomb goes on
    assert int((group / "pids.current").read_text()) <= PIDS_MAX
    delete(one, "beside")
    one.cli("vm", "kill", "bomb", "--wait", "--timeout", "30s")
    assert not of(one, "bomb")
    one.cli("vm", "start", "bomb", "--wait", "--timeout", "60s")
    until(lambda: int((group / "pids.current").read_text()) >= PIDS_MAX, 60, "once more")
    delete(one, "bomb")


def test_a_killed_shim_is_found_and_its_guest_is_started_again_by_policy(one):
    one.create("orphan", "--restart", "on-failure")
    before, shim = only(one, "orphan"), shim_of(one, "orphan")
    ((pid,),) = [pids for name, pids in monitors(one).items() if name.startswith("orphan-1-")]
    os.kill(shim, signal.SIGKILL)
    until(lambda: not alive(pid), 10, "the monitor ended with it")
    until(lambda: int(only(one, "orphan")["restarts"]) > int(before["restarts"]), 60, "the restart is counted")
    one.wait("orphan", "phase=Running", timeout="120s")
    assert shim_of(one, "orphan") != shim
    ((again,),) = [pids for name, pids in monitors(one).items() if name.startswith("orphan-1-")]
    assert again != pid
    delete(one, "orphan")


def test_a_killed_shim_s_monitor_leaves_nothing_whatever_it_had_begun(one, tmp_path):
    make(one, tmp_path / "flake", "litter", LITTER, "--restart", "never", "--ready-none", "--wait", "--timeout", "60s")
    shim = shim_of(one, "litter")
    until(lambda: len(of(one, "litter")) == 4, 10, "its shim, itself, a child and a grandchild")
    os.kill(shim, signal.SIGKILL)
    one.wait("litter", "phase=Failed", timeout="60s")
    told = only(one, "litter")["reason"]
    assert told["code"] in ("Crashed", "PolicyNever") and "its shim is gone" in told["text"], told
    assert not of(one, "litter")
    delete(one, "litter")


def builders(mark):
    """Processes of a build, which Nix starts outside of every directory of ours."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and mark in pathlib.Path("/proc", entry, "cmdline").read_bytes() and alive(int(entry)):
                found.append(int(entry))
        except OSError:
            pass
    return found


@pytest.mark.parametrize("daemon_dies", [False, True], ids=["at once", "after its daemon was killed"])
def test_a_vm_deleted_during_its_build_is_gone_and_so_is_the_build(one, tmp_path, daemon_dies, others_run_on):
    mark = f"/bin/sleep 60{os.getpid()}"
    make(one, tmp_path / "flake", "early", "", build=mark)
    until(lambda: builders(mark.encode()), 60, "it is being built")
    assert only(one, "early")["phase"] == "Creating"
    if daemon_dies:
        one.nodes[0].kill()
        until(lambda: not builders(mark.encode()), 10, "the build ended with the daemon")
        one.nodes[0].start()
        until(lambda: builders(mark.encode()), 60, "it is being built again")
    delete(one, "early")
    assert not builders(mark.encode())
    delete(one, one.create("after")["spec"]["name"])  # the next build has its turn
