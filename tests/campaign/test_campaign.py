"""Real daemons under load while their machines, disks, clocks and network fail; see campaign.py.

`make check` has each kind of fault once. BLX_CAMPAIGN_MINUTES=N runs rounds for N minutes instead, with three and five
daemons, faults of up to a minute, and simulated guests, scripts for monitors, QEMU and nodes that are fenced in turn;
each prints a line, and the last line is the sum. BLX_CAMPAIGN_SEED repeats the choices, not the machine's timing."""

import collections
import os
import random
import subprocess
import time
import traceback

import pytest

import runners
from campaign import FENCE_KINDS, KINDS, REAL_KINDS, Campaign, sentence
from cluster import BIN
from fences import FenceCampaign
from net import DISK_MIB, end_all

FAST = ("--heartbeat-ms", "50", "--election-ms", "500")
ROOMY = "vcpus=4096,memory_mib=1048576"
THREE, FIVE = ("n1", "n2", "n3"), ("n1", "n2", "n3", "n4", "n5")
MINUTES = float(os.environ.get("BLX_CAMPAIGN_MINUTES", "0"))
ROUND_S = min(240, MINUTES * 10)  # each kind of round comes to its turn
BAD = ("lost", "double", "leaks", "failed")

short = pytest.mark.skipif(MINUTES > 0, reason="rounds for BLX_CAMPAIGN_MINUTES are asked for")


def first_seed():
    return int(os.environ.get("BLX_CAMPAIGN_SEED", random.SystemRandom().randrange(1 << 32)))


def judge(name, campaign, seconds):
    print(f"{name}: BLX_CAMPAIGN_SEED={campaign.seed}", flush=True)
    began = time.monotonic()
    campaign.run(seconds)
    told = collections.Counter(campaign.check())
    print(f"{name}: faults {dict(campaign.faults)}; {dict(campaign.counts)}; {dict(told)}")
    told.update({f"fault {kind}": times for kind, times in campaign.faults.items()})
    print(sentence(told, (time.monotonic() - began) / 60, f"seed={campaign.seed} "), flush=True)
    return told


def simulated(new_net, messages, _directory, seed, seconds, names=THREE, **more):
    cluster = new_net(names, capacity=ROOMY, more=FAST, log_level="info", disk_mib=DISK_MIB)
    try:
        told = judge("simulated guests", Campaign(cluster.form(), messages, seed, kinds=KINDS, **more), seconds)
        new_net.close(cluster)
        return told
    except BaseException:
        end_all(cluster)
        raise


def guarded(new_net, messages, directory, seed, seconds, name, run, capacity=ROOMY, kinds=REAL_KINDS, **more):
    """Real shims, and monitors that hold locks: what @run(cluster) says is the runner."""
    cluster = new_net(simulate=False, capacity=capacity, more=FAST, log_level="info", preload=False)
    shared = directory / f"shared{seed}"
    try:
        flake = runners.make(directory / f"flake{seed}", shared, run(cluster.form()))
        told = judge(name, Campaign(cluster, messages, seed, kinds=kinds, flake=flake, shared=shared, **more), seconds)
        assert runners.started(shared) >= 1, "monitors ran, and took their locks"
        new_net.close(cluster)
        return told
    except BaseException:
        end_all(cluster)
        raise


def scripted(new_net, messages, directory, seed, seconds, **more):
    more = {"pace_s": 0.25, "clients": 4, "replicas": (1, 1, 2), **more}
    name = "scripts for monitors"
    return guarded(new_net, messages, directory, seed, seconds, name, lambda _: runners.MONITOR, **more)


def of_hello(cluster):
    """The runner that the daemons build for examples/hello.nix."""
    node = cluster.node(cluster.create("first")["instances"][0]["node"])
    (booted,) = node.dir.glob("vms/first-1-*/booted")
    cluster.cli("vm", "stop", "first", "--wait", "--timeout", "60s")
    return booted.resolve()


def qemu(new_net, messages, directory, seed, seconds, **more):
    more = {"pace_s": 0.5, "clients": 2, "replicas": (1,), "memory_mib": 128, **more}
    more = {"names": 8, "generation_s": 1 << 30, **more}  # no more than there is room for
    more["capacity"] = "vcpus=4,memory_mib=1024"
    return guarded(new_net, messages, directory, seed, seconds, "QEMU", of_hello, **more)


def fenced(new_net, messages, directory, seed, seconds, names=THREE, **more):
    """QEMU in two guests that are highly available; scripts for monitors in the load, of which some are, too."""
    dogs = ("--watchdog", str(BIN / "blixard-watchdog"), "--no-watchdog")
    cluster = new_net(names, simulate=False, capacity=ROOMY, more=(*FAST, *dogs), log_level="info", disk_mib=DISK_MIB)
    shared = directory / f"shared{seed}"
    more = {"pace_s": 0.3, "clients": 3, "replicas": (1, 1, 2), "ha_part": 0.3, **more}
    try:
        guests = runners.make(directory / f"guests{seed}", shared, of_hello(cluster.form()))
        load = runners.make(directory / f"flake{seed}", shared, runners.MONITOR)
        campaign = FenceCampaign(cluster, messages, seed, flake=load, guests_flake=guests, shared=shared, **more)
        try:
            told = judge(f"fences of {len(names)}", campaign, seconds)
        except BaseException:
            campaign.watched()
            raise
        new_net.close(cluster)
        return told
    except BaseException:
        end_all(cluster)
        raise


@short
@pytest.mark.parametrize("kind, more", [
    (simulated, {"longest_s": 3}),
    (scripted, {"longest_s": 3}),
    (qemu, {"kinds": ("kill", "isolate", "half open"), "longest_s": 6}),
    (fenced, {"kinds": ("fence cut", "fence power"), "longest_s": 6}),
], ids=["simulated guests", "scripts for monitors", "QEMU", "fences"])
def test_nothing_is_lost_and_nothing_runs_twice_through_each_fault(new_net, messages, tmp_path, kind, more):
    told = kind(new_net, messages, tmp_path, first_seed(), 0, **more)
    assert not any(told[what] for what in BAD), told
    assert told["acknowledged"] >= 3, told


def add(total, told):
    """Times are not summed: the longest is of interest."""
    for what, much in told.items():
        total[what] = max(total[what], much) if what.endswith("_ms") else total[what] + much


@pytest.mark.skipif(not MINUTES, reason="BLX_CAMPAIGN_MINUTES says for how long; `make soak` does")
def test_rounds_for_as_many_minutes_as_are_asked_for(new_net, messages, tmp_path):
    fences = {"kinds": (*FENCE_KINDS * 3, "fence pause", *KINDS), "longest_s": 12}
    kinds = [(fenced, fences), (simulated, {}), (scripted, {}), (fenced, {**fences, "names": FIVE, "longest_s": 60}),
             (simulated, {"names": FIVE, "longest_s": 12}), (qemu, {"longest_s": 12}),
             (simulated, {"longest_s": 60, "clients": 10}), (scripted, {"longest_s": 60})]
    began, seed, total, number = time.monotonic(), first_seed(), collections.Counter(), 0
    while (left := began + MINUTES * 60 - time.monotonic()) > 0 or number == 0:
        kind, more = kinds[number % len(kinds)]
        try:
            add(total, kind(new_net, messages, tmp_path, seed + number, min(ROUND_S, left), **more))
            total[f"round {kind.__name__} of {len(more.get('names', THREE))}"] += 1
        except (AssertionError, OSError, subprocess.SubprocessError):
            traceback.print_exc()
            print(f"round {number} failed: {kind.__name__} {more} BLX_CAMPAIGN_SEED={seed + number}", flush=True)
            total["failed"] += 1
        number += 1
    print({what: total[what] for what in sorted(total)})
    print(sentence(total, (time.monotonic() - began) / 60), flush=True)
    assert not any(total[what] for what in BAD), dict(total)
