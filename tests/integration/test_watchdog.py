"""blixard-watchdog alone: what it kills, when, and when it lets the machine be reset. Control groups are real."""

import ctypes
import mmap
import os
import pathlib
import signal
import struct
import subprocess
import time

import pytest

from cluster import BUILD, alive, until

PROGRAM = BUILD / "bin" / "blixard-watchdog"
KILL_AT, OWNED_AT, LOOKED_AT, STUCK, DEVICE_S = 48, 56, 64, 72, 80  # lib/lease/page.c: struct shared
HIERARCHY = next((p for p in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs")), None)

MAY_NOT = HIERARCHY is None or os.geteuid() != 0
pytestmark = pytest.mark.skipif(MAY_NOT, reason="skipped: no control groups can be made here")


def boot_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Watch:
    """A group with a group in it, a page, and the process."""

    def __init__(self, directory, *arguments, **environment):
        self.page = directory / "page"
        self.group = pathlib.Path(HIERARCHY, f"blx-watchdog-{os.getpid()}-{directory.name}"[:200])
        (self.group / "web-1").mkdir(parents=True)
        self.children = []
        self.pid = None
        self.arguments = [PROGRAM, "--page", self.page, "--group", self.group, *arguments]
        self.environment = environment

    def start(self):
        done = subprocess.run(
            self.arguments, capture_output=True, text=True, timeout=20, env={**os.environ, **self.environment}
        )
        if done.returncode == 0:
            (self.pid,) = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self.is_it(pid)]
            with open(self.page, "r+b") as file:
                self.map = mmap.mmap(file.fileno(), 4096)
        return done

    def is_it(self, pid):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(str(self.page)) in words and alive(pid)

    def get(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    def set(self, at, value):
        ctypes.c_uint64.from_buffer(self.map, at).value = value

    def add(self, *command, lives=True):
        """A process in the inner group; unless it lives, it may be dead at once."""
        enter = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
        child = subprocess.Popen(["sh", "-c", enter, self.group / "web-1", *command])
        self.children.append(child)
        procs = self.group / "web-1" / "cgroup.procs"
        until(lambda: not lives or str(child.pid) in procs.read_text().split(), 10, "it is in its group")
        return child

    def close(self):
        if self.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        for child in self.children:
            child.kill()
            child.wait()
        until(lambda: not (self.group / "web-1" / "cgroup.procs").read_text(), 10, "the group is empty")
        (self.group / "web-1").rmdir()
        self.group.rmdir()


@pytest.fixture
def watch(tmp_path):
    made = []

    def make(*arguments, **environment):
        made.append(Watch(tmp_path, *arguments, **environment))
        return made[-1]

    yield make
    for w in made:
        w.close()


def test_it_kills_when_the_time_has_come_and_not_before(watch):
    w = watch()
    assert w.start().returncode == 0
    assert w.get(LOOKED_AT) > 0 and w.get(DEVICE_S) == 0
    w.set(KILL_AT, boot_ms() + 60_000)
    child = w.add("sleep", "600")
    time.sleep(0.5)
    assert child.poll() is None
    now = boot_ms()
    w.set(KILL_AT, now + 700)
    assert child.wait(timeout=10) == -signal.SIGKILL
    took = boot_ms() - now
    assert took >= 700, took
    # And what is begun later does not get away with it.
    late = w.add("sleep", "600", lives=False)
    assert late.wait(timeout=10) == -signal.SIGKILL
    w.set(KILL_AT, boot_ms() + 60_000)
    child = w.add("sleep", "600")
    time.sleep(0.3)
    assert child.poll() is None


def test_a_new_page_lets_nothing_live(watch):
    w = watch()
    child = w.add("sleep", "600")
    assert w.start().returncode == 0
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_a_fork_bomb_dies(watch):
    w = watch()
    assert w.start().returncode == 0
    w.set(KILL_AT, boot_ms() + 60_000)
    procs = w.group / "web-1" / "cgroup.procs"
    many = "n=0; while [ $n -lt 60 ]; do sh -c 'while :; do sleep 0.01; done' & n=$((n+1)); done; wait"
    w.add("sh", "-c", many)
    until(lambda: len(procs.read_text().split()) > 60, 20, "there are many")
    w.set(KILL_AT, boot_ms())
    until(lambda: not procs.read_text(), 10, "all are dead")


def test_a_stopped_process_dies(watch):
    w = watch()
    assert w.start().returncode == 0
    w.set(KILL_AT, boot_ms() + 60_000)
    child = w.add("sleep", "600")
    os.kill(child.pid, signal.SIGSTOP)
    w.set(KILL_AT, boot_ms())
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_there_is_one(watch):
    w = watch()
    assert w.start().returncode == 0
    second = subprocess.run(w.arguments, capture_output=True, text=True, timeout=20)
    assert second.returncode == 5
    os.kill(w.pid, signal.SIGKILL)
    until(lambda: not alive(w.pid), 10, "it is dead")
    assert w.start().returncode == 0


def test_it_goes_when_it_is_not_needed(watch):
    w = watch()
    assert w.start().returncode == 0
    w.set(KILL_AT, boot_ms() + 60_000)
    child = w.add("sleep", "600")
    os.kill(w.pid, signal.SIGTERM)
    time.sleep(0.5)
    assert alive(w.pid), "it left what it is to kill"
    # An agent that went and a time that passed: it kills, then it goes.
    w.set(KILL_AT, boot_ms())
    assert child.wait(timeout=10) == -signal.SIGKILL
    until(lambda: not alive(w.pid), 10, "it has ended")


def test_without_an_agent_it_ends_by_itself(watch):
    w = watch()
    assert w.start().returncode == 0
    assert alive(w.pid)
    w.set(OWNED_AT, boot_ms() - 29_000)
    time.sleep(0.3)
    assert alive(w.pid)
    w.set(OWNED_AT, boot_ms() - 31_000)
    until(lambda: not alive(w.pid), 10, "it has ended")


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    directory = tmp_path_factory.mktemp("device")
    source = pathlib.Path(__file__).with_name("watchdog_device.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", directory / "device.so", source], check=True)
    return directory / "device.so"


def with_device(watch, device, file, least=None):
    more = {"BLX_WATCHDOG_LEAST_S": str(least)} if least else {}
    file.touch()
    return watch("--device", file, "--device-s", "10", LD_PRELOAD=str(device), BLX_WATCHDOG_FILE=str(file), **more)


def test_the_device_is_petted_until_something_does_not_die(watch, device, tmp_path):
    file = tmp_path / "device"
    w = with_device(watch, device, file)
    assert w.start().returncode == 0
    w.set(KILL_AT, boot_ms() + 60_000)
    before = file.stat().st_size
    time.sleep(0.5)
    assert file.stat().st_size > before
    assert set(file.read_bytes()) == {0}
    # What does not die is played by what keeps coming: a loop that puts a new process into the group without end.
    one = "echo $$ > \"$0\"/cgroup.procs; while :; do :; done"
    feeder = subprocess.Popen(
        ["sh", "-c", 'while :; do sh -c "$1" "$0" & done', w.group / "web-1", one],
        preexec_fn=lambda: os.nice(-10),
        start_new_session=True,
    )
    try:
        w.set(KILL_AT, boot_ms())
        until(lambda: w.get(STUCK) == 1, 30, "it says that something does not die")
    finally:
        os.killpg(feeder.pid, signal.SIGKILL)
        feeder.wait()
    until(lambda: w.get(STUCK) == 0, 30, "and that all is well again")


def test_the_device_is_released_at_the_end_only(watch, device, tmp_path):
    file = tmp_path / "device"
    w = with_device(watch, device, file)
    assert w.start().returncode == 0
    assert w.get(DEVICE_S) == 10
    os.kill(w.pid, signal.SIGTERM)
    until(lambda: not alive(w.pid), 10, "it has ended")
    assert w.get(LOOKED_AT) == 0
    assert file.read_bytes().endswith(b"V") and file.read_bytes().count(b"V") == 1


def test_what_is_no_device_or_waits_too_long_is_refused(watch, device, tmp_path):
    w = with_device(watch, device, tmp_path / "device", least=60)
    done = w.start()
    assert done.returncode == 1 and "waits 60 s at least, more than the 10 s" in done.stderr
    w.arguments[w.arguments.index("--device") + 1] = tmp_path / "page"
    done = w.start()
    assert done.returncode == 1 and "is not a watchdog device" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    ["", "--page /tmp/x", "--page x --group /x", "--page /x --group /x --device /y", "--page /x --group /x more"],
)
def test_misuse_is_told(arguments):
    done = subprocess.run([PROGRAM, *arguments.split()], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stderr.startswith("usage: blixard-watchdog")
