"""The checker itself: it finds what is wrong with bad histories and nothing wrong with good ones."""

import random
import time

import pytest

from linear import NEVER, RUNNING, STOPPED, UNKNOWN, Counter, Op, Vm, check, stale_revisions


def add(start, end, by, value):
    return Op("counter", start, end, ("add", by), value)


def get(start, end, value):
    return Op("counter", start, end, ("get",), value)


def lost(start, by):
    return Op("counter", start, NEVER, ("add", by), UNKNOWN)


@pytest.mark.parametrize("history", [
    [],
    [add(0, 1, 5, 5), get(2, 3, 5)],
    [add(0, 9, 5, 5), get(1, 2, 0), get(3, 4, 5)],
    [add(0, 9, 1, 3), add(0, 9, 2, 2), get(3, 4, 2)],
    [add(0, 9, 1, 1), add(0, 9, 2, 3), get(3, 4, 1)],
    [get(0, 5, 0), add(0, 5, 7, 7)],
    # Of unknown outcome: it happened, it happened late, it never happened.
    [lost(0, 5), get(1, 2, 5)],
    [lost(0, 5), get(1, 2, 0), get(100, 101, 5)],
    [lost(0, 5), get(1, 2, 0), add(3, 4, 1, 1), get(100, 101, 1)],
    [lost(0, 5), lost(0, 3), get(1, 2, 3), get(4, 5, 8)],
    [Op("counter", 0, NEVER, ("get",), UNKNOWN), add(3, 4, 1, 1)],
])
def test_good_histories_of_a_counter_are_accepted(history):
    assert check(history, Counter) == {}


@pytest.mark.parametrize("history", [
    [add(0, 1, 5, 5), get(2, 3, 0)],  # the write is lost, or the read is stale
    [add(0, 1, 5, 5), add(2, 3, 1, 1)],  # lost to a later write
    [get(0, 1, 4)],  # of a value never written
    [add(0, 9, 5, 5), get(1, 2, 5), get(3, 4, 0)],  # the second read goes back
    [add(0, 1, 1, 3), add(2, 3, 2, 2)],  # the other way round in time
    [add(0, 1, 5, 5), get(2, 3, 10)],  # done twice
    [lost(5, 5), get(1, 2, 5)],  # an effect before its call
    [lost(0, 5), get(1, 2, 5), get(3, 4, 0)],  # came, and went again
    [lost(0, 5), lost(0, 3), get(1, 2, 3), get(4, 5, 5)],
    [add(0, 1, 1, 1), add(0, 1, 1, 1)],  # two answers, one effect
])
def test_bad_histories_of_a_counter_are_refused(history):
    assert set(check(history, Counter)) == {"counter"}


def op(start, end, call, output):
    return Op("web", start, end, call, output)


def create(start, end, output, request="r", desired=RUNNING):
    return op(start, end, ("create", request, desired), output)


def stop(start, end, output):
    return op(start, end, ("desire", STOPPED), output)


def delete(start, end, output):
    return op(start, end, ("delete",), output)


def read(start, end, output):
    return op(start, end, ("read",), output)


def seen(uid, desired=RUNNING, deleting=False, revision=1):
    return ("ok", uid, desired, deleting, revision)


@pytest.mark.parametrize("history", [
    [create(0, 1, ("ok", 7)), read(2, 3, seen(7))],
    [create(0, 1, ("ok", 7)), stop(2, 3, ("ok", 7)), read(4, 5, seen(7, STOPPED))],
    [create(0, 5, ("ok", 7)), create(0, 5, "EXISTS")],
    [create(0, 1, ("ok", 7)), delete(2, 3, ("ok", 7)), read(4, 5, seen(7, deleting=True)), read(6, 7, "NOT_FOUND"),
     create(8, 9, ("ok", 8))],
    [create(0, 1, ("ok", 7)), delete(2, 3, ("ok", 7)), create(4, 5, "CONFLICT"), create(6, 7, ("ok", 8))],
    [create(0, 1, ("ok", 7)), delete(2, 3, ("ok", 7)), delete(4, 5, ("ok", 7)), delete(6, 7, "NOT_FOUND")],
    # The create's answer was lost: its uid is learnt by the first who sees it.
    [create(0, NEVER, UNKNOWN), read(3, 4, "NOT_FOUND"), read(5, 6, seen(7)), stop(7, 8, ("ok", 7))],
    [create(0, NEVER, UNKNOWN), read(3, 4, "NOT_FOUND"), create(5, 6, ("ok", 9)), read(7, 8, seen(9))],
    # A delete of unknown outcome that takes effect long after.
    [create(0, 1, ("ok", 7)), delete(2, NEVER, UNKNOWN), read(3, 4, seen(7)), read(50, 51, "NOT_FOUND")],
    [read(0, 1, "NOT_FOUND"), delete(2, 3, "NOT_FOUND"), stop(4, 5, "NOT_FOUND")],
])
def test_good_histories_of_a_vm_are_accepted(history):
    assert check(history, Vm) == {} and stale_revisions(history) == []


@pytest.mark.parametrize("history", [
    [create(0, 1, ("ok", 7)), read(2, 3, "NOT_FOUND")],  # lost
    [create(0, 1, ("ok", 7)), stop(2, 3, ("ok", 7)), read(4, 5, seen(7))],  # stale
    [read(0, 1, seen(7))],  # never made
    [create(0, 1, ("ok", 7)), read(2, 3, seen(8))],  # another's
    [create(0, 1, ("ok", 7)), create(2, 3, ("ok", 8))],  # twice under one name
    [create(0, 1, ("ok", 7)), create(2, 3, "CONFLICT")],  # nobody is deleting it
    [create(0, 1, "EXISTS")],
    [create(0, 1, ("ok", 7)), delete(2, 3, "NOT_FOUND")],
    [create(0, 1, ("ok", 7)), delete(2, 3, ("ok", 7)), read(4, 5, "NOT_FOUND"), read(6, 7, seen(7, deleting=True))],
    [create(0, 1, ("ok", 7)), delete(2, 3, ("ok", 7)), read(4, 5, seen(7))],  # the delete is lost
    [create(0, 1, ("ok", 7)), read(2, 3, seen(7, revision=9)), read(4, 5, seen(7, revision=8))],  # goes back
    [create(0, NEVER, UNKNOWN), read(2, 3, seen(7)), read(4, 5, seen(8))],
    [create(0, NEVER, UNKNOWN), read(2, 3, seen(7)), read(4, 5, "NOT_FOUND")],
    [create(3, NEVER, UNKNOWN), read(0, 1, seen(7))],
])
def test_bad_histories_of_a_vm_are_refused(history):
    assert set(check(history, Vm)) == {"web"}


def test_a_bad_key_is_named_and_the_others_are_not():
    good = [Op(f"k{n}", 0, 1, ("get",), 0) for n in range(20)]
    assert set(check([*good, Op("bad", 0, 1, ("get",), 1)], Counter)) == {"bad"}


def test_a_read_below_what_a_write_had_told_is_stale_though_its_words_are_right():
    history = [create(0, 1, ("ok", 7, 40)), read(2, 3, seen(7, revision=39))]
    assert check(history, Vm) == {}
    assert [(bad.start, newest) for bad, newest in stale_revisions(history)] == [(2, 40)]
    assert stale_revisions([create(0, 5, ("ok", 7, 40)), read(2, 3, seen(7, revision=39))]) == []


def machine(seed, calls, clients, keys, lose=0.02):
    """What clients of a machine that does one call at a time would write down; some answers are lost."""
    dice = random.Random(seed)
    free, values, history = [0.0] * clients, {}, []
    for _ in range(calls):
        client = min(range(clients), key=free.__getitem__)
        key, start = f"k{dice.randrange(keys)}", free[client]
        effect, end = start + dice.random(), 0.0
        end = effect + dice.random()
        history.append([effect, key, start, end, dice.choice((("get",), ("add", dice.randint(1, 9))))])
        free[client] = end + dice.random() / 10
    done = []
    for _, key, start, end, call in sorted(history, key=lambda one: one[0]):
        value = values[key] = values.get(key, 0) + (call[1] if call[0] == "add" else 0)
        gone = dice.random() < lose
        done.append(Op(key, start, NEVER if gone else end, call, UNKNOWN if gone else value))
    return done


@pytest.mark.parametrize("clients, keys", [(4, 1), (16, 1), (16, 100)])
def test_ten_thousand_calls_are_judged_in_time_and_one_wrong_answer_is_found(clients, keys):
    history = machine(clients * keys, 10000, clients, keys, lose=0.02 if keys > 1 else 0.0003)
    began = time.process_time()
    assert check(history, Counter) == {}
    assert time.process_time() - began < 30
    at = next(n for n in range(5000, 10000) if history[n].call[0] == "get" and history[n].output is not UNKNOWN)
    history[at] = history[at]._replace(output=history[at].output + 10**9)
    assert set(check(history, Counter)) == {history[at].key}


@pytest.mark.parametrize("seed", range(40))
def test_the_search_says_what_trying_every_order_says(seed):
    """Small histories, half of them with an answer changed."""
    history = machine(seed, 6, 3, 1, lose=0.2)
    dice = random.Random(seed)
    if seed % 2:
        at = dice.randrange(len(history))
        if history[at].output is not UNKNOWN:
            history[at] = history[at]._replace(output=max(0, history[at].output + dice.choice((-3, -1, 1, 3))))

    def every(left, value):
        if all(one.output is UNKNOWN for one in left):
            return True
        for one in left:
            if any(other.output is not UNKNOWN and other.end < one.start for other in left if other is not one):
                continue
            for after in Counter.step(value, one.call, one.output):
                if every([other for other in left if other is not one], after):
                    return True
        return False

    assert (check(history, Counter) == {}) == every(history, 0)
