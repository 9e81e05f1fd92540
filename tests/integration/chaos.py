"""Load and faults for a cluster of real daemons, with journals of what was acknowledged, and the checks afterwards.

Each worker alone writes to its names, so it knows what may be true of them; a request is sent again under its id until
its outcome is certain, or given up, and then either outcome is allowed. Watches go from member to member without a
gap."""

import collections
import os
import random
import signal
import subprocess
import threading
import time

import grpc

from cluster import HELLO, until
from stock import Stub

BROKEN_OFF = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
CONFIG = HELLO.read_bytes()
NOT_DONE = {"NO_LEADER", "BUSY"}  # certainly not done
RUNNING, STOPPED = 0, 1  # Desired
UNKNOWN = {"TIMEOUT", "UNAVAILABLE", "FATAL", "CANCELLED", "INTERNAL", "NOMEM"}


def launch(node, *more):
    """Start the daemon, without waiting for anything."""
    node.dir.mkdir(mode=0o711, exist_ok=True)
    with open(node.log, "ab") as log:
        node.process = subprocess.Popen(node.arguments() + list(more), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True)


class Broken(AssertionError):
    pass


def outcome(call, request, timeout):
    """(code, answer): OK, one of Blixard's codes, or UNAVAILABLE/TIMEOUT where no member said anything."""
    try:
        return "OK", call(request, timeout)
    except grpc.RpcError as error:
        code = dict(error.trailing_metadata() or ()).get("blixard-code")
        if code is None:
            code = {grpc.StatusCode.UNAVAILABLE: "UNAVAILABLE", grpc.StatusCode.DEADLINE_EXCEEDED: "TIMEOUT",
                    grpc.StatusCode.CANCELLED: "CANCELLED"}.get(error.code(), f"? {error.code()} {error.details()}")
        return code, error.details()


class Model:
    """What may be true of one name that one worker alone writes to: a set of (uid, desired) or None for absent."""

    def __init__(self):
        self.may = {None}
        self.deleting = False  # it was, once: its name may still be waiting for its nodes


class Worker(threading.Thread):
    def __init__(self, chaos, number, seed):
        super().__init__(daemon=True)
        self.chaos, self.number = chaos, number
        self.random = random.Random(seed)
        self.stubs = [Stub(chaos.messages, n.socket) for n in chaos.cluster.nodes]
        self.names = collections.defaultdict(Model)
        self.answered = []  # (method, request, code, uid)
        self.serial = 0
        self.counts = collections.Counter()
        self.error = None

    def run(self):
        try:
            while not self.chaos.over.is_set():
                self.step()
        except BaseException as error:  # told by the main thread
            self.error = error
            self.chaos.over.set()
        finally:
            for stub in self.stubs:
                stub.close()

    def rid(self):
        self.serial += 1
        return f"w{self.number}-{self.chaos.salt}-{self.serial}"

    def ask(self, method, request, timeout=3):
        stub = self.random.choice(self.stubs)
        return outcome(getattr(stub, method), request, timeout)

    def write(self, method, request):
        """Send until it is definite, or give up: (code, answer, whether it may have been done without our knowing)."""
        unknown = False
        for attempt in range(self.random.choice((1, 3, 200))):
            code, answer = self.ask(method, request)
            self.counts[code] += 1
            if code in UNKNOWN:
                unknown = True
            elif code not in NOT_DONE:
                if code.startswith("?"):
                    raise Broken(f"{method} {request.name if method != 'VmCreate' else request.spec.name}: {code}")
                self.answered.append((method, request, code, answer.uid if code == "OK" else 0))
                return code, answer, False
            if self.chaos.over.is_set():
                break
            time.sleep(0.05)
        return None, None, unknown

    def step(self):
        m = self.chaos.messages
        name = f"w{self.number}-{self.random.randrange(12)}"
        model = self.names[name]
        choice = self.random.random()
        if choice < 0.30:
            self.create(m, name, model)
        elif choice < 0.42:
            self.desire(m, name, model, "VmStop", STOPPED)
        elif choice < 0.54:
            self.desire(m, name, model, "VmStart", RUNNING)
        elif choice < 0.68:
            self.delete(m, name, model)
        elif choice < 0.88:
            self.read(m, name, model)
        elif choice < 0.96:
            self.again()
        else:
            self.other_body(m)

    def create(self, m, name, model):
        stopped = self.random.random() < 0.2
        request = m.VmCreateRequest(spec=m.VmSpec(name=name, config_name="hello.nix", memory_mib=32,
                                                  replicas=self.random.choice((1, 1, 2, 3))),
                                    config=CONFIG, stopped=stopped, request_id=self.rid())
        code, vm, unknown = self.write("VmCreate", request)
        new = STOPPED if stopped else RUNNING
        if code == "OK":
            if None not in model.may:
                raise Broken(f"create of {name} succeeded though it exists: {model.may}, got uid {vm.uid}")
            model.may = {(vm.uid, new)}
        elif code == "EXISTS":
            if model.may == {None}:
                raise Broken(f"create of {name}: EXISTS, but it was never made or is deleted: {vm}")
            model.may.discard(None)
        elif code == "CONFLICT":
            if not model.deleting and None not in model.may:
                raise Broken(f"create of {name}: CONFLICT with {model.may}: {vm}")
        elif code is None:
            if unknown and None in model.may:
                model.may.add(("?", new))
        else:
            raise Broken(f"create of {name}: {code}: {vm}")

    def desire(self, m, name, model, method, want):
        code, vm, unknown = self.write(method, m.VmNameRequest(name=name, request_id=self.rid()))
        there = {s for s in model.may if s is not None}
        if code == "OK":
            if not there:
                raise Broken(f"{method} of {name} succeeded though it is gone")
            self.same_uid(name, there, vm.uid)
            model.may = {(vm.uid, want)}
            if vm.desired != want:
                raise Broken(f"{method} of {name} answered desired {vm.desired}")
        elif code in ("NOT_FOUND", "CONFLICT"):
            if None not in model.may:
                raise Broken(f"{method} of {name}: {code}, but it exists: {model.may}: {vm}")
            model.may = {None}
        elif code is None:
            if unknown:
                model.may |= {(uid, want) for uid, _ in there}
        else:
            raise Broken(f"{method} of {name}: {code}: {vm}")

    def delete(self, m, name, model):
        code, vm, unknown = self.write("VmDelete", m.VmNameRequest(name=name, request_id=self.rid()))
        there = {s for s in model.may if s is not None}
        if code == "OK":
            if not there and not model.deleting:
                raise Broken(f"delete of {name} succeeded though it is gone: {vm}")
            if not vm.deleting:
                raise Broken(f"delete of {name} answered with a VM that is not being deleted: {vm}")
            model.deleting = True
            model.may = {None}
        elif code == "NOT_FOUND":
            if None not in model.may:
                raise Broken(f"delete of {name}: NOT_FOUND, but it exists: {model.may}")
            model.may = {None}
        elif code is None:
            if unknown and there:
                model.may.add(None)
                model.deleting = True
        else:
            raise Broken(f"delete of {name}: {code}: {vm}")

    @staticmethod
    def same_uid(name, there, uid):
        if not any(known in ("?", uid) for known, _ in there):
            raise Broken(f"{name} has uid {uid}, known are {there}")

    def read(self, m, name, model):
        code, vm = self.ask("VmGet", m.VmNameRequest(name=name))
        self.counts[f"read {code}"] += 1
        there = {s for s in model.may if s is not None}
        if code == "OK" and vm.deleting:
            if None not in model.may:
                raise Broken(f"read of {name}: deleting, but nobody asked: {model.may}")
        elif code == "OK":
            self.same_uid(name, there, vm.uid)
            now = {s for s in there if s[0] in ("?", vm.uid) and s[1] == vm.desired}
            if not now:
                raise Broken(f"read of {name}: desired {vm.desired}, may be {model.may}")
        elif code == "NOT_FOUND":
            if None not in model.may:
                raise Broken(f"read of {name}: NOT_FOUND, but it exists: {model.may}")
        elif code not in NOT_DONE | UNKNOWN:
            raise Broken(f"read of {name}: {code}: {vm}")

    def again(self):
        """A request that was answered before, sent again: the same answer."""
        if not self.answered:
            return
        method, request, was, uid = self.random.choice(self.answered[-200:])
        code, answer = self.ask(method, request)
        self.counts[f"again {code}"] += 1
        if code in UNKNOWN | NOT_DONE:
            return
        if code != was or (code == "OK" and answer.uid != uid):
            raise Broken(f"{method} {request.request_id} was answered {was} {uid} and now {code} {answer}")

    def other_body(self, m):
        used = [a for a in self.answered[-200:] if a[0] == "VmCreate"]
        if not used:
            return
        _, request, _, _ = self.random.choice(used)
        other = m.VmCreateRequest()
        other.CopyFrom(request)
        other.spec.memory_mib = 64
        code, answer = self.ask("VmCreate", other)
        if code not in UNKNOWN | NOT_DONE | {"CONFLICT"}:
            raise Broken(f"{request.request_id} with another body: {code} {answer}")


class Watcher(threading.Thread):
    """Follows events from member to member, without a gap; epochs only rise and have one node each."""

    def __init__(self, chaos, seed):
        super().__init__(daemon=True)
        self.chaos, self.random = chaos, random.Random(seed)
        self.index = 0
        self.epochs, self.nodes = {}, {}
        self.events = collections.defaultdict(list)  # complete indexes only
        self.error = None

    def run(self):
        try:
            while not self.chaos.over.is_set():
                self.follow(self.random.choice(self.chaos.cluster.nodes))
        except BaseException as error:
            self.error = error
            self.chaos.over.set()

    def follow(self, node):
        m = self.chaos.messages
        with Stub(m, node.socket) as stub:
            stream = stub.Watch(m.WatchRequest(since_index=self.index), timeout=self.random.uniform(1, 8))
            snapshot, last, pending = self.index == 0, self.index, []
            if snapshot:
                self.epochs.clear()
            try:
                for event in stream:
                    if event.index < last or (event.index == self.index and not snapshot):
                        raise Broken(f"the watch went back from {last} ({self.index} is done) to {event.index}")
                    if event.index > last:
                        if not snapshot:
                            self.take(last, pending)
                        if last:
                            self.index, snapshot = last, False
                        last, pending = event.index, []
                    pending.append(event)
                    self.check(event)
                    if self.chaos.over.is_set():
                        stream.cancel()
            except grpc.RpcError as error:
                code = dict(error.trailing_metadata() or ()).get("blixard-code")
                if code == "STALE":
                    self.index = 0
                elif error.code() not in BROKEN_OFF:
                    raise Broken(f"the watch ended with {error.code()} {code} {error.details()}") from error
            time.sleep(0.02)

    def take(self, index, pending):
        if not pending or index == 0:
            return
        self.events[index] = [e.SerializeToString(deterministic=True) for e in pending]

    def check(self, event):
        if event.kind != 2:
            return
        old = self.epochs.get(event.uid, 0)
        if event.epoch < old:
            raise Broken(f"the epoch of {event.name} fell from {old} to {event.epoch}")
        self.epochs[event.uid] = event.epoch
        if event.node and event.epoch and self.nodes.setdefault((event.uid, event.epoch), event.node) != event.node:
            raise Broken(f"{event.name} epoch {event.epoch} on two nodes")


def wait_for_equal_chains(cluster):
    """All members have applied the same, to the same index."""

    def equal():
        told = [cluster.json("cluster", "status", "--stale", node=n) for n in cluster.nodes]
        return len({(t["index"], t["chain"]) for t in told}) == 1

    until(equal, 20, "equal chains")


class Chaos:
    def __init__(self, cluster, messages, seed, workers=6, watchers=2, faults=("kill", "stop", "two", "all", "early")):
        self.cluster, self.messages, self.seed = cluster, messages, seed
        self.salt = f"{seed}"
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.workers = [Worker(self, n, seed * 1000 + n) for n in range(workers)]
        self.watchers = [Watcher(self, seed * 1000 + 500 + n) for n in range(watchers)]
        self.faults = faults
        self.counts = collections.Counter()

    # ---- faults

    def assert_up(self):
        for node in self.cluster.nodes:
            if node.process.poll() is not None:
                raise Broken(f"{node.name} ended by itself with {node.process.returncode}:\n{node.log_end()}")

    def pause(self, seconds):
        self.over.wait(seconds)

    def fault(self):
        kind = self.random.choice(self.faults)
        self.counts[kind] += 1
        nodes = self.random.sample(self.cluster.nodes, len(self.cluster.nodes))
        self.assert_up()
        if kind == "stop":
            victims = nodes[: self.random.choice((1, 1, 2))]
            for node in victims:
                os.kill(node.pid, signal.SIGSTOP)
            self.pause(self.random.uniform(1, 5))
            for node in victims:
                os.kill(node.pid, signal.SIGCONT)
            return
        if kind == "early":  # killed again and again while it starts
            node = nodes[0]
            for _ in range(self.random.randrange(1, 5)):
                node.kill()
                launch(node)
                time.sleep(self.random.uniform(0.005, 0.3))
                self.assert_up()
            return
        victims = nodes[: {"kill": 1, "two": 2, "all": len(nodes)}[kind]]
        for node in victims:
            node.kill()
        self.pause(self.random.uniform(0, 2))
        for node in victims:
            launch(node)

    def run(self, seconds, calm=(0.5, 4)):
        for thread in self.workers + self.watchers:
            thread.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and not self.over.is_set():
                self.pause(self.random.uniform(*calm))
                if not self.over.is_set() and self.faults:
                    self.fault()
            self.pause(3)
        finally:
            self.over.set()
            for thread in self.workers + self.watchers:
                thread.join(30)
        errors = [thread.error for thread in self.workers + self.watchers if thread.error]
        if errors:
            raise Broken(f"seed {self.seed}: {'; '.join(map(repr, errors))}") from errors[0]

    # ---- afterwards

    def check(self):
        self.assert_up()
        began = time.monotonic()
        status = ("--timeout", "2s", "cluster", "status")
        until(lambda: self.cluster.cli(*status, check=False).returncode == 0, 10, "a leader after the faults")
        self.counts["leader_ms"] = int((time.monotonic() - began) * 1000)
        self.wait_settled()
        self.counts["settled_ms"] = int((time.monotonic() - began) * 1000)
        wait_for_equal_chains(self.cluster)
        self.check_journals()
        self.check_watchers()
        self.assert_up()

    def unsettled(self):
        found = []
        for vm in self.cluster.json("vm", "list")["vms"]:
            want = vm.get("desired", "Running")
            if vm.get("deleting") or vm["phase"] != want or any(i["phase"] != want for i in vm.get("instances", [])):
                found.append((vm["spec"]["name"], want, vm["phase"], vm.get("deleting"), vm.get("reason")))
        return found

    def wait_settled(self):
        deadline = time.monotonic() + 60
        while True:
            left = self.unsettled()
            if not left:
                return
            if time.monotonic() > deadline:
                raise Broken(f"seed {self.seed}: not as desired after 60 s: {left[:5]} ({len(left)})")
            time.sleep(0.5)

    def check_journals(self):
        vms = self.cluster.json("vm", "list")["vms"]
        names = [v["spec"]["name"] for v in vms]
        uids = [v["uid"] for v in vms] + [i["uid"] for v in vms for i in v.get("instances", [])]
        if len(set(names)) != len(names) or len(set(uids)) != len(uids):
            raise Broken("a name or uid twice")
        now = {v["spec"]["name"]: v for v in vms}
        for worker in self.workers:
            for name, model in worker.names.items():
                vm = now.get(name)
                state = None if vm is None else (int(vm["uid"]), 1 if vm.get("desired") == "Stopped" else 0)
                if state not in model.may and not (state and ("?", state[1]) in model.may):
                    raise Broken(f"seed {self.seed}: {name} is {state}, the journal allows {model.may}")
        with Stub(self.messages, self.cluster.nodes[0].socket) as stub:
            for worker in self.workers:
                for method, request, was, uid in worker.random.sample(worker.answered, min(40, len(worker.answered))):
                    code, answer = outcome(getattr(stub, method), request, 10)
                    if code != was or (code == "OK" and answer.uid != uid):
                        raise Broken(f"{method} {request.request_id} was {was} {uid}, now {code} {answer}")

    def check_watchers(self):
        first, *rest = self.watchers
        for other in rest:
            for index in set(first.events) & set(other.events):
                if first.events[index] != other.events[index]:
                    raise Broken(f"two watches differ at index {index}")
