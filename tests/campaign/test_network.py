"""Partitions and halts, one at a time: what each member says meanwhile, and that none of it was wrong.

Clients work all the time; what they were answered must be linearizable, which two leaders that accept would not be."""

import os
import signal
import threading
import time

import pytest

from campaign import Campaign
from chaos import outcome
from cluster import HELLO, until
from load import CALL_S
from stock import Stub

ROOMY = "vcpus=4096,memory_mib=1048576"
PROMPT_S = 5  # a call is served by then, or told that there is no leader
SLACK_S = 1  # of a machine that does other things too


@pytest.fixture
def working(new_net, messages):
    """Three members with the timing that users have, and clients; at the end all of their journals are looked at."""
    cluster = new_net(capacity=ROOMY, log_level="info").form()
    until(lambda: all(n.get("voter") for n in cluster.json("node", "list")["nodes"]), 20, "all of them vote")
    campaign = Campaign(cluster, messages, seed=13, clients=4, kinds=())
    for thread in campaign.clients + campaign.watchers:
        thread.start()
    try:
        yield campaign
        cluster.heal()
        campaign.check_service()
    finally:
        campaign.over.set()
        for thread in campaign.clients + campaign.watchers:
            thread.join(30)
    assert not [t.error for t in campaign.clients + campaign.watchers if t.error]
    told = campaign.check()
    assert not any(told[what] for what in ("lost", "failed", "leaks")), told
    assert told["acknowledged"] > 10, told


class Asker(threading.Thread):
    """Asks one member for a confirmed read and a write, again and again: how it was answered, and how long it took."""

    def __init__(self, messages, node, over):
        super().__init__(daemon=True)
        self.messages, self.node, self.over = messages, node, over
        self.answers, self.error = [], None

    def run(self):
        m, number = self.messages, 0
        try:
            with Stub(m, self.node.socket) as stub:
                while not self.over.is_set():
                    number += 1
                    self.ask(stub.VmList, m.VmListRequest())
                    self.ask(stub.VmDelete, m.VmNameRequest(name="nobody", request_id=f"{self.node.name}-{number}"))
                    time.sleep(0.2)
        except BaseException as error:
            self.error = error

    def ask(self, call, request):
        began = time.monotonic()
        code, _ = outcome(call, request, 20)
        self.answers.append((code, time.monotonic() - began, began))

    def served_since(self, when):
        return any(code in ("OK", "NOT_FOUND") for code, _, began in self.answers if began >= when)


WAYS = {
    "from the leader": lambda leader, others: [(leader, o) for o in others],
    "to the leader": lambda leader, others: [(o, leader) for o in others],
    "from the leader to one": lambda leader, others: [(leader, others[0])],
    "from one to the leader": lambda leader, others: [(others[0], leader)],
    "from one to all": lambda leader, others: [(others[0], leader), (others[0], others[1])],
    "to one from all": lambda leader, others: [(leader, others[0]), (others[1], others[0])],
    "both ways": lambda leader, others: [way for o in others for way in ((leader, o), (o, leader))],
}


USUAL = list(WAYS) if os.environ.get("BLX_CAMPAIGN_MINUTES") else list(WAYS)[:4]


@pytest.mark.parametrize("ways", [WAYS[name] for name in USUAL], ids=USUAL)
def test_a_cut_network_gives_service_or_no_leader_within_five_seconds_and_never_two_leaders(working, messages, ways):
    """Hostile act 13."""
    cluster = working.cluster
    leader = cluster.leader()
    others = [n.place for n in cluster.nodes if n is not leader]
    over = threading.Event()
    askers = [Asker(messages, node, over) for node in cluster.nodes]
    for asker in askers:
        asker.start()
    time.sleep(0.5)
    cluster.net.drop(*ways(leader.place, others))
    began = time.monotonic()
    time.sleep(9)
    over.set()
    for asker in askers:
        asker.join(30)
    assert not [a.error for a in askers if a.error]
    slow = [(a.node.name, code, round(took, 1), round(at - began, 1)) for a in askers for code, took, at in a.answers
            if took > PROMPT_S + SLACK_S]
    assert not slow, f"the leader was {leader.name}: {slow}"
    strange = {code for a in askers for code, _, _ in a.answers} - {"OK", "NOT_FOUND", "NO_LEADER", "TIMEOUT", "BUSY",
                                                                   "UNAVAILABLE"}
    assert not strange
    assert any(a.served_since(began + PROMPT_S) for a in askers), "a majority is whole, and serves"


def test_a_leader_that_was_halted_for_thirty_seconds_serves_nothing_that_is_old(working, messages):
    """Hostile act 11. What is asked of it while it stands still it answers when it goes on: by what is true then."""
    cluster, m = working.cluster, messages
    cluster.cli("vm", "create", "old", "--microvm-config", HELLO, "--stopped")
    cluster.cli("vm", "create", "kept", "--microvm-config", HELLO, "--stopped")
    leader, term = cluster.leader(), int(cluster.json("cluster", "status")["term"])
    other = next(n for n in cluster.nodes if n is not leader)
    os.kill(leader.pid, signal.SIGSTOP)
    began, answers = time.monotonic(), []
    try:
        until(lambda: other.cli("--timeout", "2s", "vm", "list", check=False).returncode == 0, 10, "another leader")
        other.cli("vm", "delete", "old", "--wait", "--timeout", "60s")
        other.cli("vm", "start", "kept")
        threads = [threading.Thread(target=ask_halted, args=(m, leader, answers)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(max(0, 30 - (time.monotonic() - began)))
    finally:
        os.kill(leader.pid, signal.SIGCONT)
    for thread in threads:
        thread.join(60)
    assert len(answers) == 3 * len(threads)
    said = {(name, code, desired) for name, code, desired in answers}
    allowed = {("old", "NOT_FOUND", None), ("kept", "OK", 0)}
    unsure = ("NO_LEADER", "TIMEOUT", "UNAVAILABLE")
    refused = {(name, code, None) for name in ("old", "kept", "late") for code in unsure}
    assert said <= allowed | refused | {("late", "NOT_FOUND", None)}, said
    get = ("--timeout", "5s", "vm", "get", "kept")
    until(lambda: leader.cli(*get, check=False).returncode == 0, 20, "it serves again")
    assert int(cluster.json("cluster", "status")["term"]) > term, "another one led meanwhile"
    cluster.cli("vm", "delete", "kept", "--wait", "--timeout", "60s")


def ask_halted(messages, node, answers):
    with Stub(messages, node.socket) as stub:
        for name, call in (("old", stub.VmGet), ("kept", stub.VmGet), ("late", stub.VmDelete)):
            code, vm = outcome(call, messages.VmNameRequest(name=name), 45)
            answers.append((name, code, vm.desired if code == "OK" else None))


def test_half_open_connections_are_found_and_replaced(working):
    """A member dies and comes back behind a cut: nobody is told, neither end of any connection is closed."""
    cluster = working.cluster
    victim = next(n for n in cluster.nodes if n is not cluster.leader())
    cluster.net.drop(*cluster.net.around(victim.place))
    victim.kill()
    victim.start()
    time.sleep(CALL_S)
    cluster.net.heal()

    def caught_up():
        told = [cluster.json("node", "describe", victim.name, node=n) for n in cluster.nodes if n is not victim]
        return all(t["node"]["status"] == "Ready" for t in told)

    until(caught_up, 20, "it is Ready again")
    victim.cli("--timeout", "10s", "vm", "list")
