"""Directories of the host in real guests, by virtiofs: a daemon, its virtiofsds, QEMU."""

import os
import pathlib
import shutil
import signal
import stat

import pytest

from cluster import BIN, ROOT, Cluster, alive, end_guests, processes_of, program, until
from test_exec import execute
from test_real_vms import shims

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nix") or not (ROOT / "build/deps/kernel/vmlinuz").exists(),
    reason="needs root, Nix and the guests' kernel",
)
NOBODY = 65534


def module(shares):
    lines = "\n".join(
        f'{{ proto = "virtiofs"; tag = "{tag}"; source = "{source}"; mountPoint = "{place}"; }}'
        for tag, source, place in shares
    )
    return (f'{{ microvm = {{ hypervisor = "qemu"; vcpu = 1; mem = 128; shares = [ {lines} ]; }}; '
            'networking.hostName = "shares"; }\n')


class Host:
    """One node with directories of which one is shared and one is not."""

    def __init__(self, directory):
        self.dir = directory
        self.given, self.kept = directory / "given", directory / "kept"
        for made in (self.given / "deep", self.kept):
            made.mkdir(parents=True)
        (self.given / "out").symlink_to(self.kept)
        self.one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048",
                           more=("--share-paths", f"/srv/none:{self.given}"))
        self.one.dir.chmod(0o755)  # so that its monitors run without root
        self.one.form()
        self.node = self.one.nodes[0]

    def create(self, name, shares, *more):
        path = self.dir / f"{name}.nix"
        path.write_text(module(shares))
        self.one.cli("vm", "create", name, "--microvm-config", path, *more)

    def wait_running(self, name):
        until(lambda: self.one.get(name)["instances"][0]["phase"] in ("Running", "Failed"), 120, f"{name} runs")
        assert self.one.get(name)["instances"][0]["phase"] == "Running", self.reason(name)

    def reason(self, name):
        return self.one.get(name)["instances"][0]["reason"]["text"]

    def served(self, name):
        """The virtiofsds of an instance: pid -> arguments."""
        return {pid: a for pid, a in processes_of(self.one.dir).items()
                if program(pid) == "virtiofsd" and f"/{name}-" in a}

    def monitors(self, name):
        return [pid for pid in processes_of(self.one.dir)
                if program(pid).startswith("qemu") and f"/{name}-" in os.readlink(f"/proc/{pid}/cwd")]

    def work(self, name):
        (found,) = self.one.dir.glob(f"n1/vms/{name}-*/work")
        return found

    def run(self, name, script):
        done = execute(self.node, name, "--", "sh", "-c", script)
        assert done.returncode == 0, (done.stderr, self.reason(name))
        return done.stdout.decode()


@pytest.fixture
def host(tmp_path):
    one = Host(tmp_path)
    try:
        yield one
    finally:
        end_guests(one.one)
        one.one.close()


def test_a_guest_and_its_host_share_directories_over_a_restart_of_the_daemon(host):
    (host.given / "from-host").write_text("written by the host\n")
    host.create("s", [("given", host.given, "/given"), ("own", "data/own", "/own")], "--restart", "never")
    host.wait_running("s")
    assert "init: share given on /given" in host.one.cli("vm", "logs", "s-1").stdout
    assert host.run("s", "cat /given/from-host") == "written by the host\n"
    host.run("s", "echo written by the guest >/given/deep/from-guest; echo mine >/own/file")
    assert (host.given / "deep/from-guest").read_text() == "written by the guest\n"
    work = host.work("s")
    assert (work / "data/own/file").read_text() == "mine\n"

    # A virtiofsd sees its own directory and nothing else, and gives the guest no way to make a device of the host.
    done = execute(host.node, "s", "--", "busybox", "mknod", "/given/null", "c", "1", "3")
    assert done.returncode != 0 and b"Operation not permitted" in done.stderr, done.stderr
    assert not (host.given / "null").exists()
    inner = [pid for pid in host.served("s") if not os.path.exists(f"/proc/{pid}/root/etc")]
    assert inner, "none of them shut itself in"
    sockets = sorted(p for p in work.iterdir() if "virtiofs" in p.name)
    assert [p.name for p in sockets] == ["shares-virtiofs-given.sock", "shares-virtiofs-own.sock"]
    assert all(stat.S_ISSOCK(p.stat().st_mode) and p.stat().st_uid == NOBODY for p in sockets)
    assert (work / "data/own").stat().st_uid == NOBODY

    before = host.served("s")
    host.node.terminate()
    (host.given / "while-away").write_text("there is no daemon\n")
    host.node.start()
    host.one.wait_ready()
    host.wait_running("s")
    assert host.served("s") == before
    assert host.run("s", "cat /given/while-away") == "there is no daemon\n"

    host.one.cli("vm", "stop", "s", "--wait", "--timeout", "60s")
    assert not host.served("s") and not any("virtiofs" in p.name for p in work.iterdir())
    assert host.one.get("s")["instances"][0]["phase"] == "Stopped"
    host.one.cli("vm", "start", "s", "--wait", "--timeout", "120s")
    assert host.run("s", "cat /own/file") == "mine\n"

    running = host.served("s")
    host.one.cli("vm", "delete", "s", "--wait", "--timeout", "60s")
    assert running and not any(alive(pid) for pid in running)
    assert not list(host.one.dir.glob("n1/vms/*"))
    assert (host.given / "deep/from-guest").exists(), "what was shared is its owner's"


def test_a_virtiofsd_that_dies_fails_its_vm_and_the_restart_policy_speaks(host):
    host.create("never", [("own", "own", "/own")], "--restart", "never")
    host.create("always", [("own", "own", "/own")], "--restart", "always")
    for name in ("never", "always"):
        host.wait_running(name)
        for pid in host.served(name):
            os.kill(pid, signal.SIGKILL)
    host.one.wait("never", "phase=Failed", timeout="30s")
    assert "the virtiofsd of share own was killed by signal 9" in host.reason("never")
    until(lambda: host.served("always"), 60, "it is served again")
    host.wait_running("always")
    assert host.run("always", "touch /own/again; ls /own") == "again\n"

    # One that has to end with its monitor is not to blame.
    assert not host.monitors("never")
    host.one.cli("vm", "start", "never", "--wait", "--timeout", "120s")
    (monitor,) = host.monitors("never")
    os.kill(monitor, signal.SIGKILL)
    host.one.wait("never", "phase=Failed", timeout="30s")
    assert "the monitor was killed by signal 9" in host.reason("never")

    # And one whose shim is killed takes its virtiofsds along.
    (shim,) = shims(host.one, "always-1")
    served = host.served("always")
    os.kill(shim, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in served), 10, "they end with their shim")
    host.one.delete_all()


def test_what_may_not_be_shared_is_refused_with_the_way_out(host):
    for name, source in (("kept", host.kept), ("link", host.given / "out"), ("etc", "/etc"),
                         ("near", f"{host.given}x")):
        pathlib.Path(source).mkdir(exist_ok=True)
        host.create(name, [("t", source, "/t")], "--restart", "never")
        host.one.wait(name, "phase=Failed", timeout="60s")
        said = host.reason(name)
        real = os.path.realpath(source)
        assert f"the source of share t, {real}, is not below a directory" in said, said
        assert f"(/srv/none:{host.given})" in said and "share_paths in the daemon's configuration" in said
        assert not host.served(name)
    host.create("gone", [("t", host.given / "gone", "/t")], "--restart", "never")
    host.one.wait("gone", "phase=Failed", timeout="60s")
    assert "is no directory of this host: make it" in host.reason("gone")
    host.one.delete_all()


def test_the_store_is_shared_read_only_and_a_missing_virtiofsd_is_told(host):
    store = pathlib.Path("/nix/store")
    made = not store.exists()
    store.mkdir(parents=True, exist_ok=True)
    try:
        host.create("store", [("ro-store", "/nix/store", "/nix/store")], "--restart", "never")
        host.wait_running("store")
        done = execute(host.node, "store", "--", "sh", "-c", "ls /nix/store && touch /nix/store/x")
        assert done.returncode != 0 and b"Read-only file system" in done.stderr, done.stderr
        host.one.cli("vm", "stop", "store", "--wait", "--timeout", "60s")
        host.node.terminate()
        host.node.start("--virtiofsd", str(BIN / "no-virtiofsd"))
        host.one.wait_ready()
        host.one.cli("vm", "start", "store")
        host.one.wait("store", "phase=Failed", timeout="60s")
        assert "no virtiofsd" in host.reason("store") and "install qemu-system-common" in host.reason("store")
        # One that does not even begin has the last word.
        host.node.terminate()
        host.node.start("--virtiofsd", "/bin/false")
        host.one.wait_ready()
        host.one.cli("vm", "start", "store")
        until(lambda: "ended with status 1" in host.reason("store"), 60, "the reason is told")
        host.one.delete_all()
    finally:
        if made:
            store.rmdir()
            store.parent.rmdir()
