"""Real daemons under load while their machines, disks, clocks and network fail; see campaign.py.

`make check` runs short ones. BLX_CAMPAIGN_MINUTES=N runs N minutes in all, and prints a line of each and one of all of
them; BLX_CAMPAIGN_SEED repeats the choices, not the machine's timing."""

import os
import random
import time

import pytest

import runners
from campaign import KINDS, REAL_KINDS, Campaign, sentence
from net import DISK_MIB, end_all

FAST = ("--heartbeat-ms", "50", "--election-ms", "500")
ROOMY = "vcpus=4096,memory_mib=1048576"
MINUTES = float(os.environ.get("BLX_CAMPAIGN_MINUTES", "0"))


def seed_of(name):
    seed = int(os.environ.get("BLX_CAMPAIGN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"{name}: BLX_CAMPAIGN_SEED={seed}")
    return seed


def judge(name, campaign, seconds):
    began = time.monotonic()
    campaign.run(seconds)
    told = campaign.check()
    print(f"{name}: faults {dict(campaign.faults)}; {dict(campaign.counts)}")
    print(sentence(campaign.seed, (time.monotonic() - began) / 60, told), flush=True)
    assert not any(told[what] for what in ("lost", "double", "leaks", "failed")), told
    assert told["acknowledged"] > 10
    return told


def simulated(new_net, messages, names, seed, seconds, **more):
    cluster = new_net(names, capacity=ROOMY, more=FAST, log_level="info", disk_mib=DISK_MIB).form()
    return judge("simulated guests", Campaign(cluster, messages, seed, kinds=KINDS, **more), seconds)


def scripted(new_net, messages, tmp_path, seed, seconds, **more):
    cluster = new_net(simulate=False, capacity=ROOMY, more=FAST, log_level="info", preload=False)
    try:
        flake = runners.make(tmp_path / f"flake{seed}", tmp_path / "shared", runners.MONITOR)
        campaign = Campaign(cluster.form(), messages, seed, kinds=REAL_KINDS, flake=flake, shared=tmp_path / "shared",
                            pace_s=0.25, clients=4, replicas=(1, 1, 2), **more)
        return judge("scripts for monitors", campaign, seconds)
    except BaseException:
        end_all(cluster)
        raise


@pytest.mark.skipif(MINUTES > 0, reason="the long one runs")
def test_each_fault_once_with_simulated_guests(new_net, messages):
    simulated(new_net, messages, ("n1", "n2", "n3"), seed_of("simulated guests"), 0)


@pytest.mark.skipif(MINUTES > 0, reason="the long one runs")
def test_each_fault_of_the_network_once_with_monitors_that_hold_locks(new_net, messages, tmp_path):
    told = scripted(new_net, messages, tmp_path, seed_of("scripts for monitors"), 0)
    assert told["acknowledged"] > 0
