"""What a runner asks of its host: a real guest on a macvtap, in a network namespace of its node's own; PCI devices."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from cluster import ROOT, Cluster, end_guests
from test_exec import execute
from test_real_vms import shims
from test_runner import Apart

NOBODY = 65534
MODULE = """{ microvm = { hypervisor = "qemu"; vcpu = 1; mem = 128; interfaces = [
  { type = "macvtap"; id = "vm-m"; mac = "02:00:00:00:00:0D"; macvtap = { link = "%s"; mode = "bridge"; }; }
]; }; networking.hostName = "%s"; }
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nix") or not (ROOT / "build/deps/kernel/vmlinuz").exists(),
    reason="needs root, Nix and the guests' kernel",
)


class Wired(Apart):
    """With a cable in its namespace, low0 to low1, and the namespace's own view of /sys."""

    def arguments(self):
        words = super().arguments()
        at = words.index("-c") + 1
        words[at] = "ip link add low0 type veth peer name low1 && ip link set low0 up && ip link set low1 up && " \
            f"ip addr add 10.9.0.1/24 dev low1 && mount -t sysfs sysfs /sys && {words[at]}"
        return words

    def link(self, name):
        command = ["nsenter", "-t", str(self.pid), "-n", "ip", "-j", "-d", "link", "show", name]
        (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return found


def test_a_guest_reaches_what_is_on_the_link_of_its_macvtap_and_leaves_nothing_behind(tmp_path):
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    one.dir.chmod(0o755)  # so that its monitors run without root
    node = Wired(one, "n1")
    one.nodes = [node]
    try:
        one.form()
        for name, link in (("mac", "low0"), ("lost", "eth7")):
            path = tmp_path / f"{name}.nix"
            path.write_text(MODULE % (link, name))
            one.cli("vm", "create", name, "--microvm-config", path, "--restart", "never")
        one.wait("lost", "phase=Failed", timeout="60s")
        assert "no network interface eth7 for the macvtap vm-m" in one.get("lost")["instances"][0]["reason"]["text"]
        one.cli("vm", "delete", "lost", "--wait")
        one.wait("mac", "phase=Running", timeout="120s")

        about = node.link("vm-m")
        assert about["address"] == "02:00:00:00:00:0d" and about["link"] == "low0"
        assert about["linkinfo"] == {"info_kind": "macvtap", "info_data": about["linkinfo"]["info_data"]}
        assert about["linkinfo"]["info_data"]["mode"] == "bridge"
        device = pathlib.Path(f"/dev/tap{about['ifindex']}")
        assert device.stat().st_uid == device.stat().st_gid == NOBODY
        script = "ip addr add 10.9.0.2/24 dev eth0 && ping -c 3 -W 5 10.9.0.1"
        done = execute(node, "mac", "--", "sh", "-c", script)
        assert done.returncode == 0, done.stdout + done.stderr

        one.cli("vm", "stop", "mac", "--wait", "--timeout", "60s")
        assert set(node.links()) == {"lo", "low0", "low1"} and not device.exists()
        one.cli("vm", "start", "mac", "--wait", "--timeout", "120s")
        device = pathlib.Path(f"/dev/tap{node.link('vm-m')['ifindex']}")
        assert device.exists()

        # The shim dies, and its monitor with it: the node, which looks after them, removes what they had.
        (shim,) = shims(one, "mac-1")
        os.kill(shim, signal.SIGKILL)
        one.wait("mac", "phase=Failed", timeout="60s")
        assert set(node.links()) == {"lo", "low0", "low1"} and not device.exists()
        one.delete_all()
    finally:
        end_guests(one)
        one.close()


def test_a_pci_device_that_this_host_has_not_is_a_clear_reason(tmp_path):
    # As microvm.devices has it in a runner of microvm.nix.
    changed = tmp_path / "debian-runner"
    shutil.copytree(ROOT / "nix/debian-runner", changed)
    build = changed / "build.sh"
    empty = ': >"$out/share/microvm/pci-devices"'
    assert empty in build.read_text()
    build.write_text(build.read_text().replace(empty, 'echo ffff:ff:1f.7 >"$out/share/microvm/pci-devices"'))
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    words = one.daemon_arguments
    words[words.index("--runner-dir") + 1] = str(changed)
    try:
        one.form()
        one.create("pci", "--restart", "never", wait=False)
        one.wait("pci", "phase=Failed", timeout="60s")
        text = one.get("pci")["instances"][0]["reason"]["text"]
        assert "this host has no PCI device ffff:ff:1f.7: lspci -D shows those that it has" in text
        one.delete_all()
    finally:
        end_guests(one)
        one.close()
