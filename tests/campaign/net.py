"""A cluster whose daemons hear each other through a network that can be broken.

Each node has a network namespace, joined to the others by veth and one bridge, which stands in a namespace of its own:
nothing on the machine is touched. Daemons speak over unix sockets, so a relay (relay.c) in each namespace carries them
over TCP. Every node is known to all by one path; a mount namespace for each daemon puts its own relay's sockets over
the paths of the others. Callers outside see the real sockets.

Names of namespaces hold the number of the process that made them; sweep() removes those whose process is gone, with
what runs in them, so that also a test that was killed leaves nothing for ever."""

import contextlib
import functools
import os
import pathlib
import re
import select
import signal
import subprocess
import tempfile

from cluster import Cluster, Node, alive, processes_of, until

HERE = pathlib.Path(__file__).resolve().parent
PREFIX = "blxnet"
PORT = 7700
DISK_MIB = 256
ALL = 100  # per cent of what goes from one node to another is dropped
DAEMON = 'shift=$1; shift; while [ "$shift" -gt 0 ]; do mount --bind "$1" "$2" || exit 99; shift 2; ' \
         'shift=$((shift - 1)); done; exec "$@"'


def run(*words, check=True, **more):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, **more)
    assert not check or done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


def namespaces():
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines()]


def remove_namespace(name):
    for pid in run("ip", "netns", "pids", name, check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", name, check=False)


def sweep():
    for name in namespaces():
        made_by = re.fullmatch(PREFIX + r"(\d+)\w*-\w+", name)
        if made_by and not alive(int(made_by[1])):
            remove_namespace(name)


def relay_program(directory):
    path = directory / "relay"
    run("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", HERE / "relay.c", "-o", path)
    return path


class Net:
    """The namespaces and what is dropped between them. Nodes are named by their place, from 0."""

    count = 0

    def __init__(self, nodes):
        sweep()
        Net.count += 1
        self.tag = f"{PREFIX}{os.getpid()}x{Net.count}"
        self.switch = f"{self.tag}-sw"
        self.nodes = nodes
        self.dropped, self.slowed = {}, set()
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def name(self, node):
        return f"{self.tag}-{node}"

    @staticmethod
    def ip(node):
        return f"10.77.0.{node + 1}"

    def make(self):
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for n in range(self.nodes):
            run("ip", "netns", "add", self.name(n))
            run("ip", "-n", self.name(n), "link", "add", "eth0", "address", f"02:00:00:00:00:{n + 1:02x}", "type",
                "veth", "peer", "name", f"v{n}", "netns", self.switch)
            lines = ["link set lo up", "link set eth0 up", f"addr add {self.ip(n)}/24 dev eth0"]
            # Known for ever: what is cut is TCP, not the search for neighbours.
            lines += [f"neigh replace {self.ip(o)} lladdr 02:00:00:00:00:{o + 1:02x} dev eth0 nud permanent"
                      for o in range(self.nodes) if o != n]
            run("ip", "-n", self.name(n), "-batch", "-", input="\n".join(lines) + "\n")
            run("ip", "-n", self.switch, "link", "set", f"v{n}", "master", "br0", "up")
        self.nft("add table bridge faults\n"
                 "add chain bridge faults forward { type filter hook forward priority 0; policy accept; }\n")

    def nft(self, text):
        run("ip", "netns", "exec", self.switch, "nft", "-f", "-", input=text)

    def apply(self):
        rules = [f"add rule bridge faults forward iifname v{a} oifname v{b} "
                 + ("drop" if part >= ALL else f"numgen random mod 100 < {part} drop")
                 for (a, b), part in self.dropped.items()]
        self.nft("flush chain bridge faults forward\n" + "\n".join(rules) + "\n")

    def drop(self, *ways, part=ALL):
        """Of what goes from a to b, for each (a, b): nothing arrives, or less. Nobody is told."""
        self.dropped.update(dict.fromkeys(ways, part))
        self.apply()

    def around(self, node):
        """Every way to and from a node."""
        return [way for o in range(self.nodes) if o != node for way in ((node, o), (o, node))]

    def every(self):
        return [(a, b) for a in range(self.nodes) for b in range(self.nodes) if a != b]

    def slow(self, node):
        """What comes to a node comes at 256 kbit/s, with up to a second of queue before it is dropped."""
        self.slowed.add(node)
        run("ip", "netns", "exec", self.switch, "tc", "qdisc", "replace", "dev", f"v{node}", "root", "tbf", "rate",
            "256kbit", "burst", "16k", "latency", "1000ms")

    def heal(self):
        self.dropped.clear()
        self.apply()
        for node in self.slowed:
            run("ip", "netns", "exec", self.switch, "tc", "qdisc", "del", "dev", f"v{node}", "root")
        self.slowed.clear()

    def close(self):
        for name in [self.name(n) for n in range(self.nodes)] + [self.switch]:
            remove_namespace(name)


class NetNode(Node):
    def __init__(self, cluster, name, place):
        super().__init__(cluster, name)
        self.place = place
        self.socket = cluster.dir / "api" / name / "blixard.sock"
        self.faults = cluster.dir / "faults" / name
        self.relay = None
        for directory in (self.socket.parent, self.faults):
            directory.mkdir(parents=True)

    def view(self, other):
        return self.cluster.dir / "view" / self.name / other.name

    def others(self):
        return [n for n in self.cluster.nodes if n is not self]

    def start_relay(self):
        peers = []
        for other in self.others():
            self.view(other).mkdir(parents=True)
            peers += [self.view(other) / "blixard.sock", self.cluster.net.ip(other.place)]
        command = ["nsenter", f"--net=/run/netns/{self.cluster.net.name(self.place)}", self.cluster.relay,
                   self.cluster.net.ip(self.place), PORT, self.socket, *peers]
        self.relay = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      start_new_session=True)
        assert select.select([self.relay.stdout], [], [], 10)[0] and self.relay.stdout.readline() == b"ready\n"

    def arguments(self):
        """The daemon in its namespaces; the process that is started becomes it."""
        mounts = [word for other in self.others() for word in (self.view(other), other.socket.parent)]
        preload = [f"LD_PRELOAD={self.cluster.library}", f"BLX_FAULT_DIR={self.faults}"] if self.cluster.library else []
        return ["nsenter", f"--net=/run/netns/{self.cluster.net.name(self.place)}", "unshare", "--mount",
                "--propagation", "slave", "sh", "-c", DAEMON, "sh", str(len(mounts) // 2), *map(str, mounts), "env",
                *preload, *super().arguments()]

    # ---- faults of the machine

    def break_with(self, fault, text=""):
        """What faults.c does as long as there is a file."""
        (self.faults / fault).write_text(text)

    def mend(self):
        for path in self.faults.iterdir():
            path.unlink()
        with contextlib.suppress(FileNotFoundError):
            (self.dir / "filler").unlink()

    def fill_disk(self, left_kib=0):
        """All of the node's file system is taken but so much."""
        free = os.statvfs(self.dir)
        size = free.f_bavail * free.f_frsize - left_kib * 1024
        with open(self.dir / "filler", "wb") as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), 0, max(size, 4096))
        with open(self.dir / "filler", "ab") as filler, contextlib.suppress(OSError):
            while left_kib == 0:
                filler.write(b"x" * 4096)
                filler.flush()

    def mount_disk(self, size_mib):
        """An ext4 of its own, so that it can be full without the machine being."""
        image = self.cluster.dir / f"{self.name}.img"
        with open(image, "wb") as out:
            out.truncate(size_mib << 20)
        run("mkfs.ext4", "-q", "-m", "0", image)
        self.dir.mkdir(mode=0o711, exist_ok=True)
        run("mount", "-o", "loop", image, self.dir)
        self.cluster.disks.append(self.dir)
        self.dir.chmod(0o711)
        os.rmdir(self.dir / "lost+found")


@functools.cache
def cannot():
    """Why this machine gives no test what it needs: namespaces with a bridge and nft, and a file system in a file.
    None: it does."""
    with tempfile.TemporaryDirectory(prefix="blxtry") as directory:
        image, place = pathlib.Path(directory, "image"), pathlib.Path(directory, "place")
        place.mkdir()
        image.write_bytes(b"")
        os.truncate(image, 8 << 20)
        try:
            Net(2).close()
            run("mkfs.ext4", "-q", image)
            run("mount", "-o", "loop", image, place)
            run("umount", place)
        except (AssertionError, OSError) as error:
            return str(error).strip() or repr(error)
    return None


class NetCluster(Cluster):
    """As Cluster. With @library faults.c is in the daemons; with @disk_mib each has a file system for itself."""

    def __init__(self, names, relay, library=None, disk_mib=0, **more):
        super().__init__(names=(), **more)
        self.relay, self.library, self.net, self.disks = relay, library, None, []
        try:
            self.net = Net(len(names))
            self.nodes = [NetNode(self, name, place) for place, name in enumerate(names)]
            for node in self.nodes:
                node.start_relay()
                if disk_mib:
                    node.mount_disk(disk_mib)
        except BaseException:
            self.close()
            raise

    def heal(self):
        """Everything works again; daemons that are halted go on. None is started."""
        self.net.heal()
        for node in self.nodes:
            node.mend()
            if node.process and node.process.poll() is None:
                os.kill(node.pid, signal.SIGCONT)

    def close(self):
        if self.net:
            self.heal()
        for node in self.nodes:
            if node.relay:
                node.relay.stdin.close()
                node.relay.stdout.close()
        try:
            for node in self.nodes:
                if node.relay:
                    assert node.relay.wait(10) == 0, "the relay ended in order"
            self.end_daemons()
            for disk in self.disks:
                run("umount", disk)
            super().close()
        finally:
            if self.net:
                self.net.close()


def end_all(one):
    """What a failed test left running: the daemons, then what they began; relays are for close()."""
    for node in one.nodes:
        if node.process and node.process.poll() is None:
            os.kill(node.pid, signal.SIGCONT)
            node.kill()
    relays = {node.relay.pid for node in one.nodes if node.relay}

    def left():
        return {pid: words for pid, words in processes_of(one.dir).items() if pid not in relays}

    for pid in left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not left(), 10, "what they began has ended")
