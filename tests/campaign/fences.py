"""A campaign in which nodes are fenced: leases are short, guests that are highly available are there from the first
fault to the last, and a node is lost for longer than T_safe until what it had runs elsewhere; then it returns."""

import collections
import json
import os
import signal
import time

import runners
from campaign import Broken, Campaign
from cluster import processes_of, until

LEASE = "5s"
ELSEWHERE_S = 120  # T_safe of these leases is 8.3 s; the rest is a new leader's wait, and other work of the machine
BACK_S = 60
PAUSE_S = 60


class FenceCampaign(Campaign):
    """@flake: of the load; @guests_flake: of @guests that are highly available and run all the time."""

    def __init__(self, cluster, *others, guests=2, guests_flake=None, **more):
        super().__init__(cluster, *others, **more)
        self.guests, self.guests_flake = [f"gha{n}" for n in range(1, guests + 1)], guests_flake
        self.observer = runners.Observer(self.shared)
        self.longest = collections.Counter()

    # ---- faults: each is one node that is lost until it is fenced and its guests run elsewhere

    def fence_cut(self, nodes, seconds):
        def cut(node):
            self.cluster.net.drop(*self.cluster.net.around(node.place))

        self.lose(nodes, seconds, cut)

    def fence_deaf(self, nodes, seconds):
        """It is heard, and hears nothing: no answer to its lease's questions."""
        def cut(node):
            self.cluster.net.drop(*[(o.place, node.place) for o in nodes if o is not node])

        self.lose(nodes, seconds, cut)

    def fence_mute(self, nodes, seconds):
        """It hears, and is not heard."""
        def cut(node):
            self.cluster.net.drop(*[(node.place, o.place) for o in nodes if o is not node])

        self.lose(nodes, seconds, cut)

    def fence_kill(self, nodes, seconds):
        """Its daemon alone: guests, shims and the watchdog process live."""
        self.lose(nodes, seconds, lambda node: node.kill())

    def fence_stop(self, nodes, seconds):
        self.lose(nodes, seconds, lambda node: os.kill(node.pid, signal.SIGSTOP))

    def fence_pause(self, nodes, _seconds):
        """The same for a minute, far beyond T_safe: what wakes up must not go on as if nothing were."""
        self.lose(nodes, PAUSE_S, lambda node: os.kill(node.pid, signal.SIGSTOP))

    def fence_power(self, nodes, seconds):
        """Everything of it dies at once."""
        def cut(node):
            node.kill()
            for _ in range(2):  # what was just being started, too
                for pid in processes_of(node.dir):
                    runners.end(pid)

        self.lose(nodes, seconds, cut)

    def lose(self, nodes, seconds, how):
        where = {}

        def all_run():
            where.clear()
            # One whose node goes before it is known whether it has a disk there waits for that node.
            where.update(self.homes(nodes[0], settled=True))
            return self.over.is_set() or set(where) == set(self.guests)

        self.until(all_run, BACK_S, lambda: f"guests run: {where}")
        victim = next((n for n in nodes if n.name in where.values()), nodes[0])
        asked = next(n for n in nodes if n is not victim)
        before = self.told(victim, asked)
        began = time.monotonic()
        how(victim)
        seen = {}

        def moved():
            seen.update(node=self.told(victim, asked), homes=self.homes(asked))
            return self.over.is_set() or (set(seen["homes"]) == set(self.guests) and "status" in seen["node"]
                                          and victim.name not in seen["homes"].values())

        self.until(moved, ELSEWHERE_S, lambda: f"what {victim.name} had runs elsewhere: {seen}")
        if self.over.is_set():
            return
        # One whose guests had just ended, of the fault before, loses them without a fence.
        fenced = seen["node"].get("fence") == "done"
        self.counts["fenced"] += fenced
        self.longest["elsewhere_ms"] = max(self.longest["elsewhere_ms"], int((time.monotonic() - began) * 1000))
        self.wait(seconds - (time.monotonic() - began))
        self.cluster.heal()
        self.start_ended()
        self.returned(victim, asked, before if fenced else {})

    def returned(self, victim, asked, before):
        """It goes on, and after a fence as one that is new."""
        def back():
            now = self.told(victim, asked)
            return self.over.is_set() or (now.get("status") == "Ready" and not now.get("fence_proof")
                                          and now.get("incarnation") not in (None, before.get("incarnation")))

        self.until(back, BACK_S, lambda: f"{victim.name} is back: {self.told(victim, asked)}, it was {before}")
        self.counts["returned"] += not self.over.is_set()

    @staticmethod
    def until(condition, seconds, what):
        try:
            until(condition, seconds, "")
        except AssertionError:
            raise Broken(f"not within {seconds} s: {what()}") from None

    # ---- what the cluster says; nothing while there is no leader

    def ask(self, node, *words):
        done = self.cluster.cli("--timeout", "3s", *words, "-o", "json", node=node, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def told(self, victim, asked):
        return self.ask(asked, "node", "describe", victim.name).get("node", {})

    def homes(self, asked, settled=False):
        """The nodes of the guests that run; @settled: of those of which it is known whether they have disks, too."""
        found = {}
        for name in self.guests:
            for one in self.ask(asked, "vm", "get", name).get("instances", []):
                if one["phase"] == "Running" and (one.get("data_known") or not settled):
                    found[name] = one["node"]
        return found

    # ---- the run

    def run(self, seconds, **more):
        self.cluster.cli("cluster", "settings", "set", "--leases-of", LEASE)
        self.until(lambda: all(n.get("ha_ready") for n in self.cluster.json("node", "list")["nodes"]), BACK_S,
                   lambda: "every node can end its instances")
        for name in self.guests:
            self.cluster.cli("vm", "create", name, "--flake", self.guests_flake, "--memory", 128, "--ready-none",
                             "--ha", "auto", "--ha-max-restart", 100, "--stop-timeout", "2s", "--wait", "--timeout",
                             "120s")
        self.observer.start()
        super().run(seconds, **more)

    def watched(self):
        """What ran, and what ran twice; it is printed also where a campaign ends for another reason."""
        self.observer.over.set()
        if self.observer.is_alive():
            self.observer.join(30)
        runs = self.observer.runs()
        bad = runners.doubles(runs)
        for line in bad + runners.violations(self.shared):
            print(f"double: {line}", flush=True)
        if self.observer.error:
            raise Broken(f"nobody watched the monitors: {self.observer.error!r}") from self.observer.error
        return runs, bad

    def check(self):
        self.wait_settled()
        for name in self.guests:
            self.until(lambda n=name: "hello from" in self.cluster.cli("vm", "logs", f"{n}-1").stdout, BACK_S,
                       lambda n=name: f"the guest {n} says that it runs")
        told = super().check()
        runs, bad = self.watched()
        guests = [r for r in runs if r.instance.rsplit("-", 2)[0] in self.guests]
        moves, gaps = runners.failovers(guests), runners.gaps(guests)
        self.longest["guest_gap_ms"] = max((int(gap * 1000) for gap in gaps), default=0)
        if self.counts["fenced"] and not moves:
            raise Broken(f"seed {self.seed}: {self.counts['fenced']} nodes were fenced, and no guest ran elsewhere")
        return {**told, "double": told["double"] + len(bad), "failovers": moves,
                "other_failovers": runners.failovers(runs) - moves, "monitors": len(runs),
                "fenced": self.counts["fenced"], "returned": self.counts["returned"], **self.longest}
