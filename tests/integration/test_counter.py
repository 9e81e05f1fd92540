"""examples/replicated_counter.c as three processes under load, whose members are killed: what was answered is there.

Rounds: BLX_COUNTER_ROUNDS with one member killed, BLX_COUNTER_PAIRS with two at once; `make soak` runs 200 and 50. The
seed of BLX_COUNTER_SEED repeats the choices, not the machine's timing.
"""

import os
import random
import selectors
import subprocess
import sys
import time

import pytest

from cluster import BUILD, ROOT

sys.path.append(str(ROOT / "tests/campaign"))
import linear  # noqa: E402

PROGRAM = BUILD / "examples/replicated_counter"
ELECTION_MS = 200
CLIENTS = 8
ANSWER_S = 1.0  # after this a client asks the next member
SERVICE_S = 60  # a machine may be busy; nobody waits as long on an idle one
ROUNDS = int(os.environ.get("BLX_COUNTER_ROUNDS", "24"))
PAIRS = int(os.environ.get("BLX_COUNTER_PAIRS", "8"))


class Client:
    """One request at a time; the next number only when the last one was answered."""

    def __init__(self, ident):
        self.ident, self.number, self.by = ident, 0, 0
        self.asked, self.due, self.sent = 1 + ident % 3, 0.0, 0.0
        self.waits = False  # for an answer of the member it asked
        self.journal = []  # (number, by, counter, sent, answered)


def check(journals, value, finals):
    """@journals: {client: [(number, by, counter, sent, answered)]}; @value and @finals {client: (number, sum)}: the
    state at the end, all requests being answered. Returns what is wrong, None if nothing."""
    for client, journal in journals.items():
        number, total = finals.get(client, (0, 0))
        if journal and number < journal[-1][0]:
            return f"client {client} was answered {journal[-1][0]}, the state knows {number}: a write is lost"
        if total != sum(by for _, by, *_ in journal):
            return f"client {client} added {sum(by for _, by, *_ in journal)}, the state has {total}"
    done = sorted((entry for journal in journals.values() for entry in journal), key=lambda entry: entry[2])
    reached, newest = 0, 0.0
    for _, by, counter, sent, answered in done:
        if counter - by != reached:
            return f"an answer says {counter} after adding {by}, but the counter was {reached}"
        if answered < newest:
            return f"the answer {counter} came before a request that it follows was sent"
        reached, newest = counter, max(newest, sent)
    ops = [linear.Op("counter", sent, answered, ("add", by), counter) for _, by, counter, sent, answered in done]
    if linear.check(ops, linear.Counter):
        return "the answers are not those of one counter"
    return None if reached == value else f"the answers add up to {reached}, the counter is {value}"


class Group:
    def __init__(self, directory, seed):
        self.directory, self.random = directory, random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.members, self.partial, self.lines = {}, {}, []
        self.clients = [Client(ident) for ident in range(CLIENTS)]
        self.answers = 0
        self.asking = False

    # ---- members

    def start(self, uid):
        process = subprocess.Popen([PROGRAM, self.directory, str(uid), str(ELECTION_MS)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, bufsize=0)
        os.set_blocking(process.stdout.fileno(), False)
        self.members[uid], self.partial[uid] = process, b""
        self.selector.register(process.stdout, selectors.EVENT_READ, uid)

    def kill(self, uids):
        for uid in uids:
            self.members[uid].kill()
        for uid in uids:
            process = self.members.pop(uid)
            process.wait()
            self.read(uid, process)  # what it had said is said
            self.selector.unregister(process.stdout)
            process.stdout.close()
            process.stdin.close()

    def close(self):
        self.kill(list(self.members))

    def say(self, uid, line):
        try:
            self.members[uid].stdin.write(line.encode() + b"\n")
        except (KeyError, BrokenPipeError):
            pass  # the client's time runs out

    # ---- lines

    def read(self, uid, process):
        while chunk := process.stdout.read(65536):
            *lines, self.partial[uid] = (self.partial[uid] + chunk).split(b"\n")
            for line in lines:
                self.take(uid, line.decode().split())

    def take(self, uid, words):
        if words[0] not in ("ok", "retry") or len(words) < 3:
            self.lines.append((uid, words))
            return
        client = self.clients[int(words[1])]
        if int(words[2]) != client.number:
            return  # of a request that another member answered first
        if words[0] == "ok":
            client.journal.append((client.number, client.by, int(words[3]), client.sent, time.monotonic()))
            self.answers += 1
            self.ask(client)
        elif uid == client.asked:
            client.asked = int(words[3]) if len(words) > 3 else 1 + uid % 3
            client.due, client.waits = time.monotonic() + 0.02, False

    # ---- clients

    def ask(self, client):
        """The next request; none when they are to end."""
        client.due = float("inf")
        if self.asking:
            client.number, client.by, client.sent = client.number + 1, self.random.randint(1, 9), time.monotonic()
            self.send(client)

    def send(self, client):
        client.due, client.waits = time.monotonic() + ANSWER_S, True
        self.say(client.asked, f"add {client.ident} {client.number} {client.by}")

    def pump(self, seconds):
        for key, _ in self.selector.select(seconds):
            if key.data in self.members:
                self.read(key.data, self.members[key.data])
        now = time.monotonic()
        for client in self.clients:
            if client.due <= now:
                if client.waits or client.asked not in self.members:
                    client.asked = 1 + client.asked % 3
                self.send(client)

    def until(self, condition, what):
        deadline = time.monotonic() + SERVICE_S
        while not condition():
            assert all(p.poll() is None for p in self.members.values()), "a member ended by itself"
            assert time.monotonic() < deadline, f"not within {SERVICE_S} s: {what}"
            self.pump(0.02)

    def run_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.pump(min(left, 0.02))

    # ---- questions

    def answer(self, uid, line, kind):
        self.lines.clear()
        self.say(uid, line)
        self.until(lambda: any(u == uid for u, _ in self.lines), f"member {uid} answers '{line}'")
        words = next(w for u, w in self.lines if u == uid)
        return words if words[0] == kind else None

    def form(self):
        for uid in (1, 2, 3):
            self.start(uid)
        for uid in (2, 3):
            self.until(lambda u=uid: self.answer(1, f"join {u}", "join")[2] == "ok", f"member {uid} joins")
        self.asking = True
        for client in self.clients:
            self.ask(client)

    def end(self):
        """No more requests; all that were sent are answered, and every member has applied the same."""
        self.asking = False
        self.until(lambda: all(c.due == float("inf") for c in self.clients), "every client has its last answer")

        def told(uid):
            return self.answer(uid, "status", "status")

        self.until(lambda: len({(t[3], t[4]) for t in map(told, (1, 2, 3))}) == 1, "the members are equal")

        def value():
            return next(filter(None, (self.answer(uid, "get", "value") for uid in (1, 2, 3))), None)

        self.until(lambda: value() is not None, "the counter is read")
        words = value()
        finals = {int(c): (int(n), int(s)) for c, n, s in (word.split(":") for word in words[2:])}
        return int(words[1]), finals

    def round(self, victims):
        """Kill some, let the others go on without them for a moment, start them again; service is back."""
        killed = self.random.sample(sorted(self.members), victims)
        self.kill(killed)
        self.run_for(self.random.choice((0, 0.05, 0.3)))
        for uid in killed:
            self.start(uid)
        before = self.answers
        self.until(lambda: self.answers > before + CLIENTS, "answers after members were killed")
        self.run_for(self.random.uniform(0, 0.2))


@pytest.fixture
def group(tmp_path):
    seed = int(os.environ.get("BLX_COUNTER_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"BLX_COUNTER_SEED={seed}")
    one = Group(tmp_path, seed)
    try:
        one.form()
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("rounds, victims", [(ROUNDS, 1), (PAIRS, 2)], ids=["one member killed", "two killed at once"])
def test_what_was_answered_is_in_the_final_state(group, rounds, victims):
    began = time.monotonic()
    for number in range(rounds):
        before = group.answers
        group.round(victims)
        assert group.answers > before, f"round {number} answered nothing"
    took = time.monotonic() - began
    value, finals = group.end()
    wrong = check({c.ident: c.journal for c in group.clients}, value, finals)
    assert wrong is None, wrong
    print(f"rounds={rounds} killed_at_once={victims} answered={group.answers} seconds={took:.0f}")


GOOD = {0: [(1, 5, 5, 0.0, 1.0), (2, 1, 9, 4.0, 5.0)], 1: [(1, 3, 8, 2.0, 3.0)]}


@pytest.mark.parametrize("journals, value, finals", [
    (GOOD, 8, {0: (1, 5), 1: (1, 3)}),  # the last answered write is lost
    (GOOD, 12, {0: (2, 6), 1: (1, 6)}),  # one was done twice
    (GOOD, 10, {0: (2, 6), 1: (1, 3)}),  # somebody else added
    ({**GOOD, 1: [(1, 3, 9, 2.0, 3.0)]}, 9, {0: (2, 6), 1: (1, 3)}),  # two were told the same
    # answered before a request that it follows was sent
    ({0: [(1, 5, 5, 4.0, 5.0)], 1: [(1, 3, 8, 2.0, 3.0)]}, 8, {0: (1, 5), 1: (1, 3)}),
])
def test_the_check_refuses_bad_histories(journals, value, finals):
    assert check(GOOD, 9, {0: (2, 6), 1: (1, 3)}) is None
    assert check(journals, value, finals) is not None
