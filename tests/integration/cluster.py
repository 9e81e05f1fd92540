"""A cluster of real daemons in a directory of its own, for tests. Nothing of it outlives close()."""

import concurrent.futures
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BLX_BUILD", "build/release")
BIN = BUILD / "bin"
HELLO = ROOT / "examples/hello.nix"

EXIT_OK, EXIT_INTERNAL, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_DENIED, EXIT_CONFLICT, EXIT_RETRY, EXIT_CORRUPT = range(8)
EXIT_FATAL = 70  # of blixardd


def processes_of(directory):
    """Processes that work for nodes under a directory: pid -> its arguments in one line."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            arguments = (
                pathlib.Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            cwd = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if f"{directory}/" in arguments or f"{cwd}/".startswith(f"{directory}/"):
            found[int(entry)] = arguments.strip()
    return found


def cgroups(cluster_id=""):
    """Control groups of a cluster's instances, by path; without an id those of every cluster on this machine."""
    return {
        path
        for tag in glob.glob(f"/sys/fs/cgroup/**/blixard-{cluster_id[:8]}*", recursive=True)
        for path in (tag, *glob.glob(f"{tag}/*/"))
    }


def until(condition, seconds, what):
    """For what no event tells: a process's end, a file's appearance."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def alive(pid):
    """A zombie is dead."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def program(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
    except OSError:
        return ""


def end_guests(one):
    """What a failed test left running: daemons first, or they would start it again."""
    for node in one.running_nodes():
        node.terminate()
    for pid in processes_of(one.dir):
        os.kill(pid, signal.SIGKILL)


class Node:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.dir = cluster.dir / name
        self.socket = self.dir / "blixard.sock"
        self.log = cluster.dir / f"{name}.log"
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def arguments(self):
        return [
            str(BIN / "blixardd"),
            "--data-dir",
            str(self.dir),
            "--name",
            self.name,
            "--socket",
            str(self.socket),
            *self.cluster.daemon_arguments,
        ]

    def start(self, *more):
        """Start the daemon and wait until it answers."""
        self.dir.mkdir(mode=0o711, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.arguments() + list(more), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(self.answers, 20, f"{self.name} answers; its log ends with:\n{self.log_end()}")

    def answers(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log_end()}"
        return self.cli("--timeout", "2s", "cluster", "status", "--stale", check=False).returncode == 0

    def log_end(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""

    def cli(self, *arguments, **more):
        return self.cluster.cli(*arguments, node=self, **more)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """A clean stop; its VMs run on."""
        self.process.terminate()
        status = self.process.wait(30)
        assert status == 0, f"{self.name} ended with {status}:\n{self.log_end()}"


class Cluster:
    def __init__(
        self, names=("n1", "n2", "n3"), simulate=True, capacity="vcpus=64,memory_mib=65536", more=(), log_level="debug"
    ):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="blx", dir="/tmp"))
        self.id = ""
        self.daemon_arguments = ["--log-level", log_level, "--capacity", capacity, *more]
        if simulate:
            self.daemon_arguments.append("--simulate-vms")
        else:
            self.daemon_arguments += [
                "--shim",
                str(BIN / "blixard-shim"),
                "--guest",
                str(BIN / "blixard-guest"),
                "--runner-dir",
                str(ROOT / "nix/debian-runner"),
                "--kernel-dir",
                str(ROOT / "build/deps/kernel"),
                "--nix-store-dir",
                str(self.dir / "nix"),
            ]
        self.nodes = [Node(self, name) for name in names]

    def form(self):
        """Start the daemons and make one cluster of them."""
        first, *rest = self.nodes
        first.start("--bootstrap")
        for node in rest:
            node.start()
            node.cli("cluster", "join", "--address", f"unix:{first.socket}")
        self.id = self.json("cluster", "status")["id"]
        self.wait_ready()
        return self

    def wait_ready(self):
        """The leader has heard from every node: from then on it places instances on all of them."""

        def ready():
            nodes = self.json("node", "list")["nodes"]
            return len(nodes) == len(self.nodes) and all(n["status"] == "Ready" for n in nodes)

        until(ready, 20, "every node is Ready")

    def node(self, name):
        return next(n for n in self.nodes if n.name == name)

    def running_nodes(self):
        return [n for n in self.nodes if n.process and n.process.poll() is None]

    def cli(self, *arguments, node=None, check=True, timeout=180, socket=None):
        node = node or self.running_nodes()[0]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.dir), "BLIXARD_SOCKET": str(socket or node.socket)}
        done = subprocess.run(
            [str(BIN / "blixard"), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert done.returncode == 0, f"blixard {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr}"
        return done

    def json(self, *arguments, **more):
        return json.loads(self.cli(*arguments, "-o", "json", **more).stdout)

    def create(self, name, *arguments, wait=True, **more):
        """A VM from examples/hello.nix, and with wait until it runs."""
        more_arguments = ["--wait", "--timeout", "120s"] if wait else []
        self.cli("vm", "create", name, "--microvm-config", HELLO, *arguments, *more_arguments, **more)
        return self.get(name)

    def get(self, name, **more):
        return self.json("vm", "get", name, **more)

    def names(self, **more):
        return {vm["spec"]["name"] for vm in self.json("vm", "list", **more)["vms"]}

    def wait(self, name, condition, timeout="60s", **more):
        return self.cli("vm", "wait", name, "--for", condition, "--timeout", timeout, **more)

    def leader(self, **more):
        return self.node(self.json("cluster", "status", **more)["leader"])

    def delete_all(self):
        for name in self.names():
            self.cli("vm", "delete", name, "--wait", "--timeout", "60s")

    def end_daemons(self):
        for node in self.running_nodes():
            node.process.terminate()
        for node in self.nodes:
            if node.process:
                try:
                    node.process.wait(20)
                except subprocess.TimeoutExpired:
                    node.kill()

    def close(self):
        """Ends what is left, then says what should not have been there."""
        self.end_daemons()
        try:
            until(lambda: not processes_of(self.dir), 5, "no process is left")
        except AssertionError:
            left = processes_of(self.dir)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"processes were left: {left}") from None
        finally:
            mounts = [line.split()[1] for line in open("/proc/mounts") if f"{self.dir}/" in line]
            for mount in mounts:
                subprocess.run(["umount", mount], check=False)
            shutil.rmtree(self.dir, ignore_errors=True)
        assert not mounts, f"mounts were left: {mounts}"
        assert not self.id or not cgroups(self.id), f"control groups were left: {cgroups(self.id)}"


def instances(vm):
    """A VM's instances by name."""
    return {i["name"]: i for i in vm["instances"]}


def only(cluster, name, **more):
    """The instance of a VM that has one."""
    (instance,) = cluster.get(name, **more)["instances"]
    return instance


def parallel(calls):
    """Run functions at the same time; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
