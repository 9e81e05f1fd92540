"""Whether a history of concurrent calls is linearizable: some order of the calls exists in which each takes effect
between its start and its end, and which a single machine could have answered.

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993), with what Lowe added ("Testing for
linearizability", 2017): a configuration, the set of calls done so far with the state they led to, is looked at once.
Keys are independent, so each is searched alone. A model may allow several next states (a name is free again some time
after its delete): a state of the search is then the set of all that are possible.

A call whose outcome nobody knows may take effect at any time after its start, however late, or never.
"""

import collections
import math

UNKNOWN = object()  # the output of a call that was not answered
STEPS_MAX = 2_000_000  # of one key's search; a history that needs more is said to be undecided, never to be good


class Op(collections.namedtuple("Op", "key start end call output")):
    """One call: @call is a tuple (kind, arguments...), @output what was answered or UNKNOWN, with @end ignored then."""


class Undecided(Exception):
    pass


class Entry:
    __slots__ = ("op", "number", "match", "before", "after")

    def __init__(self, op, number):
        self.op, self.number = op, number
        self.match = self.before = self.after = None


def entries_of(ops):
    """Starts and ends in order of time, as a linked list behind a head. At one time a start comes before an end: the
    calls overlap then, which allows more and never too little."""
    points = []
    for number, op in enumerate(ops):
        points.append((op.start, 0, number))
        if op.output is not UNKNOWN:
            assert op.end >= op.start, op
            points.append((op.end, 1, number))
    head, starts = Entry(None, -1), {}
    last = head
    for _, is_end, number in sorted(points):
        entry = Entry(ops[number], number)
        if is_end:
            starts[number].match = entry
        else:
            starts[number] = entry
        last.after, entry.before = entry, last
        last = entry
    return head


def lift(entry):
    """Take a call out of the list: its start, and its end if it has one."""
    for one in filter(None, (entry, entry.match)):
        one.before.after = one.after
        if one.after:
            one.after.before = one.before


def unlift(entry):
    for one in filter(None, (entry.match, entry)):
        one.before.after = one
        if one.after:
            one.after.before = one


def advance(model, states, op):
    """All states that @op may leave, from any of @states."""
    return frozenset(after for state in states for after in model.step(state, op.call, op.output))


def linearizable(ops, model):
    """Whether calls of one key can be ordered. Raises Undecided beyond STEPS_MAX."""
    # A call that may never have happened and would change nothing says nothing.
    ops = [op for op in ops if op.output is not UNKNOWN or model.changes(op.call)]
    ends_left = sum(op.output is not UNKNOWN for op in ops)
    head = entries_of(ops)
    states, done = frozenset((model.first,)), 0
    seen, stack = {(0, states)}, []
    entry, steps = head.after, 0
    while ends_left:
        steps += 1
        if steps > STEPS_MAX:
            raise Undecided(f"{len(ops)} calls need more than {STEPS_MAX} steps")
        if entry is not None and (entry.match is not None or entry.op.output is UNKNOWN):
            after = advance(model, states, entry.op)
            config = (done | 1 << entry.number, after)
            # One that nobody saw the end of and that changes nothing need not be tried here.
            idle = entry.match is None and after == states
            if after and not idle and config not in seen:
                seen.add(config)
                # A read that fits now, and changes nothing, may as well be done now: any order without it stays one.
                forced = after == states and not model.changes(entry.op.call)
                stack.append((entry, states, done, forced))
                states, done = after, config[0]
                ends_left -= entry.match is not None
                lift(entry)
                entry = head.after
            else:
                entry = entry.after
            continue
        # The end of a call that was not ordered yet: back to the last choice.
        forced = True
        while forced:
            if not stack:
                return False
            entry, states, done, forced = stack.pop()
            unlift(entry)
            ends_left += entry.match is not None
        entry = entry.after
    return True


def check(history, model):
    """The keys whose calls cannot be ordered, each with its calls; empty when the history is linearizable."""
    by_key = collections.defaultdict(list)
    for op in history:
        by_key[op.key].append(op)
    return {key: ops for key, ops in by_key.items() if not linearizable(ops, model)}


class Counter:
    """("add", BY) is answered with the new value, ("get",) with the value."""

    first = 0

    @staticmethod
    def changes(call):
        return call[0] == "add"

    @staticmethod
    def step(state, call, output):
        after = state + call[1] if call[0] == "add" else state
        return (after,) if output in (UNKNOWN, after) else ()


# A VM's state: None, or (uid, desired, deleting, revision of the last read). A uid that nobody was told yet is ("of",
# request): a create whose answer was lost made it.
RUNNING, STOPPED = "Running", "Stopped"


class Vm:
    """A VM's name as a register. Calls and what they are answered with:

    ("create", REQUEST, DESIRED)  ("ok", uid) | "EXISTS" | "CONFLICT"
    ("desire", DESIRED)           ("ok", uid) | "NOT_FOUND" | "CONFLICT"
    ("delete",)                   ("ok", uid) | "NOT_FOUND"
    ("read",)                     ("ok", uid, DESIRED, deleting, revision) | "NOT_FOUND"

    A VM that is being deleted is gone some time later, when its nodes confirmed it, without a call."""

    first = None

    @staticmethod
    def changes(call):
        return call[0] != "read"

    @classmethod
    def step(cls, state, call, output):
        now = [state]
        if state is not None and state[2]:
            now.append(None)
        return [after for one in now for after in getattr(cls, call[0])(one, call, output)]

    @staticmethod
    def same(state, uid):
        """The state with the uid that was told; None when it is another VM's."""
        known = state[0]
        if known == uid or isinstance(known, tuple):
            return (uid, *state[1:])
        return None

    @classmethod
    def create(cls, state, call, output):
        if output is UNKNOWN:
            return [(("of", call[1]), call[2], False, 0) if state is None else state]
        if output == "EXISTS":
            return [state] if state is not None and not state[2] else []
        if output == "CONFLICT":
            return [state] if state is not None and state[2] else []
        return [(output[1], call[2], False, 0)] if state is None else []

    @classmethod
    def desire(cls, state, call, output):
        there = state is not None and not state[2]
        if output is UNKNOWN:
            return [(state[0], call[1], *state[2:])] if there else [state]
        if output == "NOT_FOUND":
            return [state] if state is None else []
        if output == "CONFLICT":
            return [state] if state is not None and state[2] else []
        same = cls.same(state, output[1]) if there else None
        return [(same[0], call[1], *same[2:])] if same else []

    @classmethod
    def delete(cls, state, _call, output):
        if output is UNKNOWN:
            return [state if state is None else (*state[:2], True, state[3])]
        if output == "NOT_FOUND":
            return [state] if state is None else []
        same = cls.same(state, output[1]) if state is not None else None
        return [(*same[:2], True, same[3])] if same else []

    @classmethod
    def read(cls, state, _call, output):
        if output == "NOT_FOUND":
            return [state] if state is None else []
        _, uid, desired, deleting, revision = output
        same = cls.same(state, uid) if state is not None else None
        if not same or same[1] != desired or same[2] != deleting or revision < same[3]:
            return []
        return [(*same[:3], revision)]


def stale_revisions(history):
    """Reads that were answered with a revision lower than one that had been told, of the same VM, before they began.
    History as for Vm; writes may carry a revision as the last of their output ("ok", uid, revision)."""
    told = []
    for op in history:
        if op.output is not UNKNOWN and op.output[0] == "ok":
            revision = op.output[-1] if op.call[0] == "read" or len(op.output) == 3 else None
            if revision:
                told.append((op.end, op.key, op.output[1], revision))
    told.sort(key=lambda one: one[0])
    newest, found, at = collections.defaultdict(int), [], 0
    reads = [op for op in history if op.call[0] == "read" and op.output is not UNKNOWN and op.output[0] == "ok"]
    for op in sorted(reads, key=lambda one: one.start):
        while at < len(told) and told[at][0] < op.start:
            _, key, uid, revision = told[at]
            newest[key, uid] = max(newest[key, uid], revision)
            at += 1
        if op.output[4] < newest[op.key, op.output[1]]:
            found.append((op, newest[op.key, op.output[1]]))
    return found


NEVER = math.inf
