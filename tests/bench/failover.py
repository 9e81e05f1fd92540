#!/usr/bin/python3
"""From the kill -9 of a leader to the next write that is answered: Blixard's creates and etcd's puts, three members
each, by the same stock gRPC client, which asks the two survivors in turn and gives each a tenth of a second. With each
one's own timings, and with fast ones. Needs Debian's etcd-server. Then, where there are root, Nix and QEMU: from the
loss of a node, all that runs on it at once, to the next guest of its highly available VM that is ready, beside what
that is made of: T_safe, after which the node is proved dead, and a start of the same VM. BLX_ROUNDS=0: that alone."""

import itertools
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import grpc  # noqa: E402
from cluster import BIN, Cluster, end_guests, only, processes_of, until  # noqa: E402
from stock import compile_proto  # noqa: E402

ROUNDS = int(os.environ.get("BLX_ROUNDS", "30"))
NODE_ROUNDS = int(os.environ.get("BLX_NODE_ROUNDS", "1"))
ATTEMPT_S = 0.1
PATIENCE_S = 60


def wait(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"bench: not within {PATIENCE_S} s: {what}")
        time.sleep(0.05)


class Blixard:
    def __init__(self, directory, timings):
        self.messages = compile_proto(directory)
        more = timings and ["--heartbeat-ms", str(timings[0]), "--election-ms", str(timings[1])]
        self.cluster = Cluster(capacity="vcpus=65536,memory_mib=1000000000", log_level="warning", more=more or ())
        self.cluster.form()
        self.numbers = itertools.count()

    def sockets(self):
        return [node.socket for node in self.cluster.nodes]

    def leader(self):
        return self.cluster.nodes.index(self.cluster.leader())

    def kill(self, at):
        self.cluster.nodes[at].kill()

    def restart(self, at):
        self.cluster.nodes[at].start()
        self.cluster.wait_ready()

    def call(self, channel):
        request = self.messages.VmCreateRequest(stopped=True)
        request.spec.name = f"vm{next(self.numbers)}"
        request.spec.flake = "path:/nowhere#x"
        return channel.unary_unary("/blixard.v1.Blixard/VmCreate")(request.SerializeToString(), timeout=ATTEMPT_S)

    def close(self):
        self.cluster.close()


class Etcd:
    def __init__(self, directory, timings):
        self.dir = directory
        self.more = timings and ["--heartbeat-interval", str(timings[0]), "--election-timeout", str(timings[1])] or []
        self.members = [None, None, None]
        self.numbers = itertools.count()
        for at in range(3):
            self.begin(at)
        wait(lambda: self.leader() is not None, "etcd has a leader")

    def begin(self, at):
        peers = ",".join(f"e{n}=unix://localhost:1{n}" for n in range(3))
        urls = (f"unix://localhost:{at}", f"unix://localhost:1{at}")
        for name in (f"localhost:{at}", f"localhost:1{at}"):
            (self.dir / name).unlink(missing_ok=True)
        arguments = [
            *("etcd", "--name", f"e{at}", "--data-dir", str(self.dir / f"data{at}"), "--initial-cluster", peers),
            *("--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]),
            *("--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1], *self.more),
        ]
        log = (self.dir / f"log{at}").open("a")
        self.members[at] = subprocess.Popen(arguments, cwd=self.dir, stdout=log, stderr=subprocess.STDOUT)

    def sockets(self):
        return [self.dir / f"localhost:{at}" for at in range(3)]

    def status(self, at):
        """Of Maintenance.Status the header's member id and the leader: fields 1.2 and 4."""
        with grpc.insecure_channel(f"unix:{self.sockets()[at]}") as channel:
            try:
                answer = channel.unary_unary("/etcdserverpb.Maintenance/Status")(b"", timeout=1)
            except grpc.RpcError:
                return None, None
        fields = dict(numbers(answer))
        header = dict(numbers(fields[1]))
        return header.get(2), fields.get(4)

    def leader(self):
        told = [self.status(at) for at in range(3)]
        leaders = {leader for _, leader in told}
        if None in leaders or 0 in leaders or len(leaders) != 1:
            return None
        return [member for member, _ in told].index(leaders.pop())

    def kill(self, at):
        self.members[at].kill()
        self.members[at].wait()

    def restart(self, at):
        self.begin(at)
        wait(lambda: self.leader() is not None, "etcd is whole again")

    def call(self, channel):
        key = b"vm%d" % next(self.numbers)
        request = b"\x0a" + bytes([len(key)]) + key + b"\x12\x10" + 16 * b"x"
        return channel.unary_unary("/etcdserverpb.KV/Put")(request, timeout=ATTEMPT_S)

    def close(self):
        for member in self.members:
            member.terminate()
        for member in self.members:
            member.wait()


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def numbers(data):
    """A protobuf message's varints and byte strings: (id, value)."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        yield tag >> 3, value


def lose_a_leader(system):
    """Seconds until a survivor answered a write."""
    gone = None
    while gone is None:
        gone = system.leader()
    channels = [grpc.insecure_channel(f"unix:{s}") for at, s in enumerate(system.sockets()) if at != gone]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
    system.kill(gone)
    began = time.monotonic()
    for channel in itertools.cycle(channels):
        try:
            system.call(channel)
            break
        except grpc.RpcError:
            if time.monotonic() > began + PATIENCE_S:
                sys.exit("bench: no write was answered")
    took = time.monotonic() - began
    for channel in channels:
        channel.close()
    system.restart(gone)
    return took


def main():
    if not (BIN / "blixardd").exists():
        sys.exit(f"bench: {BIN} holds no blixardd: run 'make all' or set BLX_BUILD")
    if ROUNDS == 0:
        node_rows()
        return
    base = os.environ.get("BLX_BENCH_DIR", "/var/tmp")
    print(f"from the kill -9 of a leader to the next answered write, {ROUNDS} times, s")
    print(f"{'system':<8} {'heartbeat, election ms':<24} {'p50':>6} {'p99':>6} {'shortest':>9}")
    rows = [(Blixard, None, "200, 2000: its own"), (Etcd, None, "100, 1000: its own"),
            (Blixard, (100, 1000), "100, 1000"), (Blixard, (20, 200), "20, 200"), (Etcd, (20, 200), "20, 200")]
    for kind, timings, told in rows:
        if kind is Etcd and not shutil.which("etcd"):
            print(f"{kind.__name__:<8} {told:<24} skipped, there is no etcd: apt-get install etcd-server")
            continue
        with tempfile.TemporaryDirectory(prefix="blixard-failover-", dir=base) as directory:
            system = kind(pathlib.Path(directory), timings)
            try:
                took = sorted(lose_a_leader(system) for _ in range(ROUNDS))
            finally:
                system.close()
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        print(f"{kind.__name__:<8} {told:<24} {statistics.median(took):>6.2f} {p99:>6.2f} {took[0]:>9.2f}", flush=True)
    node_rows()


def boot_s(cluster):
    """From a create's answer until its guest is ready, the runner built; without high availability."""
    cluster.create("boot", wait=False)
    began = time.monotonic()
    cluster.wait("boot", "phase=Running", timeout="120s")
    took = time.monotonic() - began
    cluster.cli("vm", "kill", "boot", "--wait")
    cluster.cli("vm", "delete", "boot", "--wait")
    return took


def lose_a_node(cluster):
    """Every process of a follower that runs the VM ends at once. Seconds until it is assigned to another node, and
    until its guest there is ready."""
    leader = cluster.leader()
    away = next(n for n in cluster.nodes if n is not leader)
    others = [n for n in cluster.nodes if n is not away]
    for node in others:
        cluster.cli("node", "cordon", node.name)
    cluster.create("ha", "--ha", "auto")
    for node in others:
        cluster.cli("node", "uncordon", node.name)
    assert only(cluster, "ha")["node"] == away.name
    time.sleep(8)  # its lease was renewed more than once
    for pid in processes_of(away.dir):
        os.kill(pid, signal.SIGKILL)
    began, assigned = time.monotonic(), None
    away.process.wait()
    while True:
        now = only(cluster, "ha", node=leader)
        if not assigned and now["node"] != away.name:
            assigned = time.monotonic() - began
        if assigned and now["phase"] == "Running":
            break
        if time.monotonic() > began + 3 * PATIENCE_S:
            sys.exit("bench: it does not run elsewhere")
        time.sleep(0.05)
    ready = time.monotonic() - began
    away.start()
    cluster.wait_ready()
    cluster.cli("vm", "kill", "ha", "--wait")
    cluster.cli("vm", "delete", "ha", "--wait", "--timeout", "60s")
    return assigned, ready


def node_rows():
    if os.geteuid() != 0 or not (BIN / "blixard-shim").exists() or not shutil.which("nix"):
        print("loss of a node: skipped, real VMs need root, Nix and blixard-shim")
        return
    more = ["--watchdog", str(BIN / "blixard-watchdog"), "--no-watchdog"]
    cluster = Cluster(simulate=False, capacity="vcpus=16,memory_mib=4096", log_level="warning", more=more)
    try:
        cluster.form()
        until(lambda: all(n.get("ha_ready") for n in cluster.json("node", "list")["nodes"]), 20, "nodes are ready")
        cluster.create("warm", "--replicas", 3)  # each node has the runner
        cluster.cli("vm", "kill", "warm", "--wait")
        cluster.cli("vm", "delete", "warm", "--wait")
        safe = cluster.json("ha", "status")["t_safe_ms"] / 1000
        print(f"from the loss of a node to its HA VM's guest ready elsewhere, {NODE_ROUNDS} times, s; load "
              + ", ".join(f"{value:.1f}" for value in os.getloadavg()))
        print(f"{'T_safe':>7} {'boot':>6} {'their sum':>10} {'assigned':>9} {'ready':>7}")
        for _ in range(NODE_ROUNDS):
            boot = boot_s(cluster)
            assigned, ready = lose_a_node(cluster)
            print(f"{safe:>7.2f} {boot:>6.2f} {safe + boot:>10.2f} {assigned:>9.2f} {ready:>7.2f}", flush=True)
    finally:
        end_guests(cluster)
        cluster.close()


if __name__ == "__main__":
    main()
