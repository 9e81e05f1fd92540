"""A campaign: clients, faults of every kind from one seed, then the end of the faults, and what must be true."""

import collections
import json
import os
import random
import signal
import threading
import time

import linear
import net
import runners
from chaos import Broken, Watcher, launch, wait_for_equal_chains
from cluster import ROOT, cgroups, processes_of, program, until
from linear import UNKNOWN
from load import GENERATION_S, NAMES, Client

LEADER_S, SERVICE_S = 10, 60
MARGIN_KIB = 256  # of a "full" disk that is left: nothing to write into, but the file system's own
WATCHDOG = "blixard-watchdog"  # one of each node stays
CORRUPT_FREE = (0, -signal.SIGKILL, 70)  # ends of a daemon that may be started again: 70 when its disk failed

KINDS = ("kill", "kill two", "stop", "one way", "isolate", "split", "loss", "half open", "full disk", "full disks",
         "clock", "clocks", "slow")
REAL_KINDS = ("kill", "kill two", "stop", "one way", "isolate", "split", "loss", "half open", "slow")
# Of fences.py: a node is lost for longer than T_safe, until what it had runs elsewhere.
FENCE_KINDS = ("fence cut", "fence deaf", "fence mute", "fence kill", "fence stop", "fence power")


class Campaign:
    """@clients: threads; @kinds: the faults; @longest_s: of one of them; @ha_part: of what they make is highly
    available."""

    def __init__(self, cluster, messages, seed, clients=6, kinds=KINDS, longest_s=4, flake=None, shared=None,
                 memory_mib=32, replicas=(1, 1, 2, 3), pace_s=0.02, ha_part=0,
                 names=NAMES, generation_s=GENERATION_S):
        self.cluster, self.messages, self.seed = cluster, messages, seed
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.began = time.monotonic()
        self.flake, self.shared, self.memory_mib, self.replicas = flake, shared, memory_mib, replicas
        self.pace_s, self.kinds, self.longest_s, self.ha_part = pace_s, kinds, longest_s, ha_part
        self.names, self.generation_s = names, generation_s
        self.clients = [Client(self, n, seed * 1000 + n) for n in range(clients)]
        self.watchers = [Watcher(self, seed * 1000 + 500 + n) for n in range(2)]
        self.faults, self.counts = collections.Counter(), collections.Counter()

    # ---- faults

    def fault(self, kind):
        self.faults[kind] += 1
        self.check_ends()
        nodes = self.random.sample(self.cluster.nodes, len(self.cluster.nodes))
        seconds = self.random.uniform(self.longest_s / 3, self.longest_s)
        try:
            getattr(self, kind.replace(" ", "_"))(nodes, seconds)
        finally:
            self.cluster.heal()
            self.start_ended()

    def wait(self, seconds):
        self.over.wait(seconds)

    def check_ends(self):
        for node in self.cluster.nodes:
            if node.process.poll() is not None and node.process.returncode not in CORRUPT_FREE:
                raise Broken(f"{node.name} ended by itself with {node.process.returncode}:\n{node.log_end()}")

    def start_ended(self):
        """As a service manager does: also those whose disk failed, now that it works again."""
        self.check_ends()
        for node in self.cluster.nodes:
            if node.process.poll() is not None:
                self.counts["ended by the fault"] += node.process.returncode == 70
                launch(node)

    def kill(self, nodes, seconds):
        nodes[0].kill()
        self.wait(seconds / 2)

    def kill_two(self, nodes, seconds):
        for node in nodes[:2]:
            node.kill()
        self.wait(seconds / 2)

    def stop(self, nodes, seconds):
        victims = nodes[: self.random.choice((1, 1, 2))]
        for node in victims:
            os.kill(node.pid, signal.SIGSTOP)
        self.wait(seconds)

    def one_way(self, nodes, seconds):
        """From one to all others, from all to one, or on one link."""
        at, other = nodes[0].place, nodes[1].place
        outward = [(at, o.place) for o in nodes[1:]]
        ways = self.random.choice((outward, [(b, a) for a, b in outward], [(at, other)]))
        self.cluster.net.drop(*ways)
        self.wait(seconds)

    def isolate(self, nodes, seconds):
        self.cluster.net.drop(*self.cluster.net.around(nodes[0].place))
        self.wait(seconds)

    def split(self, nodes, seconds):
        """Two parts, each without the other; or one link in both directions."""
        half = {n.place for n in nodes[: len(nodes) // 2]}
        parts = [(a, b) for a, b in self.cluster.net.every() if (a in half) != (b in half)]
        link = [(nodes[0].place, nodes[1].place), (nodes[1].place, nodes[0].place)]
        self.cluster.net.drop(*self.random.choice((parts, link)))
        self.wait(seconds)

    def loss(self, _nodes, seconds):
        self.cluster.net.drop(*self.cluster.net.every(), part=30)
        self.wait(seconds)

    def half_open(self, nodes, seconds):
        """A daemon dies and comes back, and nobody hears of it: the others' connections lead to nobody."""
        self.cluster.net.drop(*self.cluster.net.around(nodes[0].place))
        nodes[0].kill()
        launch(nodes[0])
        self.wait(seconds)

    def full_disk(self, nodes, seconds):
        nodes[0].fill_disk(left_kib=self.random.choice((0, MARGIN_KIB, 20 << 10)))
        self.wait(seconds)

    def full_disks(self, nodes, seconds):
        for node in nodes:
            node.fill_disk(left_kib=self.random.choice((0, MARGIN_KIB, 20 << 10)))
        self.wait(seconds)

    def clock(self, nodes, seconds):
        nodes[0].break_with("wall", self.random.choice(("3600", "-3600", str(-int(time.time())), "86400000")))
        self.wait(seconds)

    def clocks(self, nodes, seconds):
        for node in nodes:
            self.clock([node], 0)
        self.wait(seconds)

    def slow(self, nodes, seconds):
        self.cluster.net.slow(nodes[0].place)
        self.wait(seconds)

    # ---- the run

    def run(self, seconds, calm=(0.3, 1.5)):
        """Faults by the seed for @seconds; 0: each once."""
        for thread in self.clients + self.watchers:
            thread.start()
        end, due = time.monotonic() + seconds, self.random.sample(self.kinds, 0 if seconds else len(self.kinds))
        try:
            while (due or time.monotonic() < end) and not self.over.is_set():
                self.wait(self.random.uniform(*calm))
                if not self.over.is_set():
                    self.fault(due.pop() if due else self.random.choice(self.kinds))
            self.check_service()
        finally:
            self.over.set()
            for thread in self.clients + self.watchers:
                thread.join(30)
        errors = [thread.error for thread in self.clients + self.watchers if thread.error]
        if errors:
            raise Broken(f"seed {self.seed}: {'; '.join(map(repr, errors))}") from errors[0]

    def check_service(self):
        """I13, with the clients still at work: a leader, and operations."""
        began, status = time.monotonic(), ("--timeout", "2s", "cluster", "status")
        until(lambda: self.cluster.cli(*status, check=False).returncode == 0, LEADER_S, "a leader after the faults")
        self.counts["leader_ms"] = int((time.monotonic() - began) * 1000)
        before = [c.counts["acknowledged"] for c in self.clients]

        def all_go_on():
            return self.over.is_set() or all(c.counts["acknowledged"] > b for c, b in zip(self.clients, before))

        until(all_go_on, SERVICE_S - (time.monotonic() - began), "an operation of each client after the faults")
        self.counts["service_ms"] = int((time.monotonic() - began) * 1000)

    # ---- afterwards

    def check(self):
        """All that must be true now. Returns what the last line of a campaign tells."""
        self.check_ends()
        final = self.read_all()
        self.wait_settled()
        self.check_chains()
        failed = self.check_history(final)
        double = len(runners.violations(self.shared)) if self.shared else 0
        leaks = self.delete_all()
        self.check_ends()
        for client in self.clients:
            self.counts.update(client.counts)
            client.close()
        self.counts["started"] = runners.started(self.shared) if self.shared else 0
        return {"operations": self.counts["calls"], "acknowledged": self.counts["acknowledged"], **failed,
                "double": double, "leaks": len(leaks), "reads": self.counts["read"],
                **{name: self.counts[name] for name in ("leader_ms", "service_ms")}}

    def history(self):
        return [op for client in self.clients for op in client.history]

    def read_all(self):
        """A confirmed read of every name that was ever written to."""
        reader = Client(self, len(self.clients), self.seed)
        for key in sorted({op.key for op in self.history()}):
            until(lambda k=key: reader.read(k, seconds=5), SERVICE_S, f"{key} is read")
        reader.close()
        self.counts.update(reader.counts)
        return reader.history

    def check_history(self, final):
        """@final reads show what is lost; all of it, whether every read was right."""
        history = self.history()
        writes = [op for op in history if op.call[0] != "read"]
        lost = linear.check(writes + final, linear.Vm)
        wrong = {} if lost else linear.check(history + final, linear.Vm)
        stale = linear.stale_revisions(history + final)
        known = {(op.key, op.output[1]) for op in history if op.output is not UNKNOWN and op.output[0] == "ok"}
        unknown = {op.key for op in history if op.output is UNKNOWN and op.call[0] == "create"}
        made_up = [seen for c in self.clients for seen in c.stale if seen not in known and seen[0] not in unknown]
        if lost or wrong or stale or made_up:
            self.keep({**lost, **wrong}, stale, made_up)
        return {"lost": len(lost), "failed": len(wrong) + len(stale) + len(made_up)}

    def keep(self, bad, stale, made_up):
        """For whoever looks for the reason."""
        path = ROOT / "build/campaign" / f"seed-{self.seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [[*op[:4], "unknown" if op.output is UNKNOWN else op.output] for ops in bad.values() for op in ops]
        rows += [["stale", newest, *op] for op, newest in stale] + [["made up", *seen] for seen in made_up]
        path.write_text("\n".join(json.dumps(row, default=str) for row in rows) + "\n")
        print(f"the calls of {len(bad)} names that cannot be ordered: {path}")

    def wait_settled(self):
        def left():
            found = []
            for vm in self.cluster.json("vm", "list")["vms"]:
                want = vm.get("desired", "Running")
                if vm.get("deleting") or any(i["phase"] != want for i in vm.get("instances", [])):
                    found.append((vm["spec"]["name"], want, vm["phase"], vm.get("deleting"), vm.get("reason")))
            return found

        deadline = time.monotonic() + SERVICE_S
        while unsettled := left():
            if time.monotonic() > deadline:
                raise Broken(f"seed {self.seed}: not as desired in {SERVICE_S} s: {unsettled[:5]}, of {len(unsettled)}")
            time.sleep(0.5)

    def check_chains(self):
        wait_for_equal_chains(self.cluster)
        first, *rest = self.watchers
        for other in rest:
            for index in set(first.events) & set(other.events):
                if first.events[index] != other.events[index]:
                    raise Broken(f"two watches differ at index {index}")

    def delete_all(self):
        """What is left of anything after everything was deleted: processes, control groups, directories, links."""
        self.cluster.delete_all()
        found = []

        def clean():
            found[:] = self.leaks()
            return not found

        try:
            until(clean, 20, "nothing is left")
        except AssertionError:
            print(f"left after everything was deleted: {found}")
        return found

    def leaks(self):
        ours = {n.pid for n in self.cluster.nodes} | {n.relay.pid for n in self.cluster.nodes}
        others = {pid: words for pid, words in processes_of(self.cluster.dir).items() if pid not in ours}
        dogs = [words for pid, words in others.items() if program(pid) == WATCHDOG]
        found = [words for words in others.values() if words not in dogs] + dogs[len(self.cluster.nodes):]
        found += [str(path) for n in self.cluster.nodes for part in ("vms", "agent")
                  for path in (n.dir / part).glob("g*")]
        found += [group for group in cgroups(self.cluster.id) if "/g" in group]
        for node in self.cluster.nodes:
            links = net.run("ip", "-n", self.cluster.net.name(node.place), "-o", "link").splitlines()
            found += [line for line in links if line.split(":")[1].split("@")[0].strip() not in ("lo", "eth0")]
        return found


def sentence(told, minutes, more=""):
    return " ".join([f"campaign {more}minutes={minutes:.3g}", *(f"{name}={told[name]}" for name in (
        "operations", "acknowledged", "reads", "lost", "double", "leaks", "failed", "failovers"))])
