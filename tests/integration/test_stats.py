"""What operators look at: times of consoles' lines."""

import datetime
import re
import subprocess
import time

from cluster import BIN

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_lines_of_consoles_have_times_on_every_member_and_old_ones_are_left_out(shared):
    before = time.time()
    shared.create("timed", "--replicas", 3)
    for node in shared.nodes:
        lines = shared.cli("vm", "logs", "timed", "--timestamps", node=node).stdout.splitlines()
        assert len(lines) == 3
        for line in lines:
            prefix, when, text = re.fullmatch(rf"(timed-\d) \| ({RFC3339}) (.*)", line).groups()
            assert text == f"simulated console of {prefix}"
            at = datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
            assert before - 0.01 <= at <= time.time()
        assert len(shared.cli("vm", "logs", "timed", "--since", "1h30m", node=node).stdout.splitlines()) == 3
        assert shared.cli("vm", "logs", "timed", "--since", "2100-01-01T00:00:00+01:00", node=node).stdout == ""
        date = datetime.datetime.fromtimestamp(before - 1, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        one = shared.cli("vm", "logs", "timed-2", "--since", date, "--tail", "5", node=node).stdout
        assert one == "simulated console of timed-2\n"
    time.sleep(1.1)
    assert shared.cli("vm", "logs", "timed", "--since", "1s").stdout == ""
    follower = subprocess.Popen(
        [BIN / "blixard", "vm", "logs", "timed-1", "-f", "--timestamps"],
        stdout=subprocess.PIPE, text=True, env={"BLIXARD_SOCKET": str(shared.nodes[1].socket)},
    )
    assert re.fullmatch(rf"{RFC3339} simulated console of timed-1\n", follower.stdout.readline())
    shared.cli("vm", "delete", "timed", "--wait")
    assert follower.wait(30) == 0
