"""Clients of a campaign. Each writes down every call; all work on the same names, so that the journals together are a
history for linear.py. A write is sent again under its id until its outcome is certain, or given up: then it may have
been done or may be done yet."""

import collections
import random
import threading
import time

import linear
from chaos import CONFIG, NOT_DONE, UNKNOWN, Broken, outcome
from linear import NEVER, RUNNING, STOPPED, Op
from stock import Stub

RECONNECT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
             ("grpc.max_reconnect_backoff_ms", 500))
CALL_S, GIVE_UP_S = 3, 12
NAMES = 12  # in use at a time; after GENERATION_S there are new ones, and most of the old are deleted
GENERATION_S = 30
LOST = UNKNOWN | {"NOSPACE", "STALE"}  # also refused for want of space: a member may say so of what another one did
DESIRED = {0: RUNNING, 1: STOPPED}
HA_AUTO = 2


class Client(threading.Thread):
    def __init__(self, campaign, number, seed):
        super().__init__(daemon=True)
        self.campaign, self.number, self.random = campaign, number, random.Random(seed)
        self.stubs = [Stub(campaign.messages, n.socket, RECONNECT) for n in campaign.cluster.nodes]
        self.history, self.stale, self.counts = [], [], collections.Counter()
        self.serial, self.error = 0, None

    def run(self):
        try:
            while not self.campaign.over.is_set():
                self.step()
                time.sleep(self.random.uniform(0, 2 * self.campaign.pace_s))
        except BaseException as error:  # told by the main thread
            self.error = error
            self.campaign.over.set()

    def close(self):
        for stub in self.stubs:
            stub.close()

    def name(self, back=0):
        generation = int((time.monotonic() - self.campaign.began) / self.campaign.generation_s)
        return f"g{max(0, generation - back)}-{self.random.randrange(self.campaign.names)}"

    def step(self):
        choice = self.random.random()
        if choice < 0.20:
            self.create(self.name())
        elif choice < 0.32:
            self.desire(self.name(), self.random.choice((RUNNING, STOPPED)))
        elif choice < 0.40:
            self.delete(self.name())
        elif choice < 0.48:
            self.delete(self.name(back=self.random.randint(1, 2)))
        elif choice < 0.85:
            self.read(self.name())
        else:
            self.read_stale(self.name())

    def note(self, key, start, call, output):
        self.history.append(Op(key, start, NEVER if output is linear.UNKNOWN else time.monotonic(), call, output))

    def send(self, method, request):
        """Code and answer; the code is None where nothing is certain, "no" for what was certainly not done."""
        maybe, began = False, time.monotonic()
        while True:
            stub = self.random.choice(self.stubs)
            code, answer = outcome(getattr(stub, method), request, CALL_S)
            self.counts["calls"] += 1
            self.counts[code] += 1
            if code.startswith("?"):
                raise Broken(f"{method} {request}: {code}")
            if code in LOST:
                maybe = True
            elif code not in NOT_DONE:
                return code, answer
            if self.campaign.over.is_set() or time.monotonic() - began > GIVE_UP_S:
                return (None if maybe else "no"), None
            time.sleep(0.05)

    def write(self, method, request, name, call, words):
        start = time.monotonic()
        self.serial += 1
        request.request_id = f"c{self.number}-{self.campaign.seed}-{self.serial}"
        code, answer = self.send(method, request)
        if code == "no":
            return
        if code is None:
            self.counts["unknown"] += 1
            self.note(name, start, call, linear.UNKNOWN)
        elif code == "OK":
            self.counts["acknowledged"] += 1
            self.note(name, start, call, ("ok", answer.uid, answer.revision))
        elif code in words:
            self.note(name, start, call, code)
        else:
            raise Broken(f"{method} of {name}: {code}: {answer}")

    def create(self, name):
        m = self.campaign.messages
        stopped = self.random.random() < 0.2
        spec = m.VmSpec(name=name, memory_mib=32, replicas=self.random.choice(self.campaign.replicas))
        request = m.VmCreateRequest(spec=spec, stopped=stopped)
        if self.campaign.flake:
            request.spec.flake, request.spec.ready_none = self.campaign.flake, True
            request.spec.stop_timeout_ms, request.spec.memory_mib = 2000, self.campaign.memory_mib
            if self.random.random() < self.campaign.ha_part:
                request.spec.ha, request.spec.ha_max_restart = HA_AUTO, 100
        else:
            request.spec.config_name, request.config = "hello.nix", CONFIG
        call = ("create", f"{self.number}-{self.serial}", STOPPED if stopped else RUNNING)
        self.write("VmCreate", request, name, call, ("EXISTS", "CONFLICT"))

    def desire(self, name, want):
        request = self.campaign.messages.VmNameRequest(name=name)
        method = "VmStop" if want == STOPPED else "VmStart"
        self.write(method, request, name, ("desire", want), ("NOT_FOUND", "CONFLICT"))

    def delete(self, name):
        request = self.campaign.messages.VmNameRequest(name=name)
        self.write("VmDelete", request, name, ("delete",), ("NOT_FOUND",))

    def read(self, name, stub=None, seconds=CALL_S):
        """Whether it was answered."""
        start, request = time.monotonic(), self.campaign.messages.VmNameRequest(name=name)
        code, vm = outcome((stub or self.random.choice(self.stubs)).VmGet, request, seconds)
        self.counts["calls"] += 1
        if code == "OK":
            self.counts["read"] += 1
            self.note(name, start, ("read",), ("ok", vm.uid, DESIRED[vm.desired], vm.deleting, vm.revision))
        elif code == "NOT_FOUND":
            self.counts["read"] += 1
            self.note(name, start, ("read",), code)
        elif code not in NOT_DONE | UNKNOWN:
            raise Broken(f"read of {name}: {code}: {vm}")
        return code in ("OK", "NOT_FOUND")

    def read_stale(self, name):
        request = self.campaign.messages.VmNameRequest(name=name, stale=True)
        code, vm = outcome(self.random.choice(self.stubs).VmGet, request, CALL_S)
        self.counts["calls"] += 1
        if code == "OK":
            self.counts["read stale"] += 1
            self.stale.append((name, vm.uid))
        elif code not in NOT_DONE | UNKNOWN | {"NOT_FOUND"}:
            raise Broken(f"stale read of {name}: {code}: {vm}")
