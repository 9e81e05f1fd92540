"""What turns a module file into a runner: nix/debian-runner and nix/vm-template, by real builds without a network."""

import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import threading

import pytest

from cluster import BIN, ROOT, Cluster, Node, end_guests
from test_real_vms import shims

KERNEL = ROOT / "build/deps/kernel"
NIXPKGS = ROOT / "tests/integration/nix/nixpkgs"
MICROVM = ROOT / "tests/integration/nix/microvm"
MODULE = '{ microvm = { hypervisor = "qemu"; vcpu = 1; mem = 128; }; networking.hostName = "hello"; }\n'

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nix") or not (KERNEL / "vmlinuz").exists(),
    reason="needs root, Nix and the guests' kernel",
)


class Store:
    """A Nix store of the tests' own, and what is built with it."""

    def __init__(self, directory):
        self.dir = directory
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "NIX_STORE_DIR": f"{directory}/store",
            "NIX_STATE_DIR": f"{directory}/var/nix",
            "NIX_LOG_DIR": f"{directory}/log",
            "NIX_CONF_DIR": f"{directory}/etc",
            "NIX_CONFIG": "experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false\n"
            "substituters =",
        }

    def nix(self, *arguments, check=True):
        done = subprocess.run(
            ["nix", *map(str, arguments)], env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def eval(self, flake, attribute, check=True):
        done = self.nix("eval", "--json", "--no-write-lock-file", f"path:{flake}#{attribute}", check=check)
        return json.loads(done.stdout) if check else done.stderr

    def build(self, flake, out, name="vm"):
        runner = f'path:{flake}#nixosConfigurations."{name}".config.microvm.declaredRunner'
        self.nix("build", "--no-write-lock-file", "--out-link", out, runner)
        return pathlib.Path(os.readlink(out))

    def pin(self, directory):
        hashed = self.nix("hash", "path", directory).stdout.strip()
        return f"path:{directory}?narHash={hashed}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("nix"))


def wrap(kind, directory, text, *more, name="vm", check=True):
    directory.mkdir(exist_ok=True)
    module = directory / "module.nix"
    module.write_text(text)
    arguments = ["--out", directory / "flake", "--name", name, "--module", module, "--guest", BIN / "blixard-guest"]
    arguments += ["--kernel", KERNEL, "--accel", "tcg", *more]
    done = subprocess.run([ROOT / "nix" / kind / "wrap", *map(str, arguments)], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return directory / "flake" if check else done.stderr


# ---- nix/vm-template, with small stand-ins for nixpkgs and microvm.nix


@pytest.fixture(scope="module")
def pins(store):
    return ["--nixpkgs", store.pin(NIXPKGS), "--microvm", store.pin(MICROVM)]


def config(attribute):
    return f'nixosConfigurations."vm".config.{attribute}'


def test_a_wrapped_module_builds_a_runner_in_microvm_nix_s_layout_and_the_cluster_s_amounts_win(store, pins, tmp_path):
    flake = wrap("vm-template", tmp_path / "vm", MODULE, *pins, "--vcpu", 3, "--mem", 300)
    runner = store.build(flake, tmp_path / "current")
    assert runner.name.endswith("-microvm-qemu-hello")
    run = (runner / "bin/microvm-run").read_text()
    assert "-m 300 -smp 3 " in run
    assert os.access(runner / "bin/microvm-run", os.X_OK)
    assert (runner / "share/microvm/system").read_text() == "x86_64-linux"
    # The port that the node looks for, and its own QMP.
    assert "-qmp unix:blixard-qmp.sock,server=on,wait=off" in run
    assert "-device virtio-serial-device -chardev socket,id=blixard-guest,path=blixard-guest.sock,server=on" in run
    assert "-device virtserialport,chardev=blixard-guest,name=org.blixard.guest.0" in run


def test_without_amounts_those_of_the_file_are_taken_and_its_own_arguments_stay(store, pins, tmp_path):
    text = '{ lib, ... }: { microvm = { vcpu = 2; mem = lib.mkDefault 200; qemu.extraArgs = [ "-S" ]; }; }\n'
    flake = wrap("vm-template", tmp_path / "vm", text, *pins)
    assert store.eval(flake, config("microvm.vcpu")) == 2
    assert store.eval(flake, config("microvm.mem")) == 200
    assert store.eval(flake, config("networking.hostName")) == "microvm"
    arguments = store.eval(flake, config("microvm.qemu.extraArgs"))
    assert "-S" in arguments and "unix:blixard-qmp.sock,server=on,wait=off" in arguments


def test_the_agent_is_a_service_of_the_guest_that_is_started_again_for_ever(store, pins, tmp_path):
    flake = wrap("vm-template", tmp_path / "vm", MODULE, *pins)
    service = store.eval(flake, config("systemd.services.blixard-guest"))
    assert service["wantedBy"] == service["after"] == ["multi-user.target"]
    assert service["serviceConfig"]["Restart"] == "always"
    program, *options = service["serviceConfig"]["ExecStart"].split()
    assert options == ["--name-host"]
    package = config("services.blixard-guest.package")
    store.nix("build", "--no-write-lock-file", "--out-link", tmp_path / "guest", f"path:{flake}#{package}")
    assert program == f"{os.readlink(tmp_path / 'guest')}/bin/blixard-guest"
    assert pathlib.Path(program).read_bytes() == (BIN / "blixard-guest").read_bytes()


def test_the_agent_s_device_fits_the_machine_and_only_qemu_gets_it(store, pins, tmp_path):
    text = '{ microvm.qemu.machine = "q35"; services.blixard-guest.enable = true; }\n'
    flake = wrap("vm-template", tmp_path / "pci", text, *pins)
    assert "virtio-serial-pci" in store.eval(flake, config("microvm.qemu.extraArgs"))
    flake = wrap("vm-template", tmp_path / "other", '{ microvm.hypervisor = "crosvm"; }\n', *pins)
    assert store.eval(flake, config("microvm.qemu.extraArgs")) == []
    flake = wrap("vm-template", tmp_path / "none", "{ services.blixard-guest.enable = false; }\n", *pins)
    assert store.eval(flake, config("microvm.qemu.extraArgs")) == []


def test_the_pins_are_what_the_lock_file_says_and_microvm_nix_follows_our_nixpkgs(store, pins, tmp_path):
    flake = wrap("vm-template", tmp_path / "vm", MODULE, *pins)
    store.nix("flake", "lock", f"path:{flake}")
    nodes = json.loads((flake / "flake.lock").read_text())["nodes"]
    assert nodes["nixpkgs"]["locked"]["narHash"] == pins[1].split("narHash=")[1]
    assert nodes["microvm"]["locked"]["narHash"] == pins[3].split("narHash=")[1]
    assert nodes["microvm"]["inputs"]["nixpkgs"] == ["nixpkgs"]
    assert set(nodes) == {"root", "nixpkgs", "microvm"}


def test_an_input_that_is_not_what_was_pinned_is_refused(store, pins, tmp_path):
    other = tmp_path / "nixpkgs"
    shutil.copytree(NIXPKGS, other)
    (other / "more").write_text("changed")
    moved = f"path:{other}?narHash=sha256-" + "A" * 43 + "="
    flake = wrap("vm-template", tmp_path / "vm", MODULE, "--nixpkgs", moved, *pins[2:])
    said = store.eval(flake, config("microvm.mem"), check=False)
    assert "hash mismatch" in said.lower(), said


@pytest.mark.parametrize("ref", ["github:NixOS/nixpkgs", "github:NixOS/nixpkgs/nixos-24.11", "/etc/nixpkgs",
                                 "git+file:///x?rev=abc", "path:/x?narHash=sha256-AAAA", 'github:a/b"/' + "0" * 40])
def test_a_reference_that_moves_is_refused_by_name(pins, tmp_path, ref):
    said = wrap("vm-template", tmp_path / "vm", MODULE, "--nixpkgs", ref, *pins[2:], check=False)
    assert said.startswith(f"wrap: --nixpkgs {ref} ") and ("not pinned" in said or "characters" in said)
    assert not (tmp_path / "vm/flake").exists()


def test_a_missing_reference_says_which_key_of_the_configuration_gives_it(pins, tmp_path):
    said = wrap("vm-template", tmp_path / "vm", MODULE, *pins[:2], check=False)
    assert "--microvm is missing: set microvm_ref" in said


def test_a_node_builds_by_the_template_when_its_configuration_says_so(pins, tmp_path):
    module = tmp_path / "hello.nix"
    module.write_text(MODULE)
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    words = one.daemon_arguments
    words[words.index("--runner-dir") + 1] = str(ROOT / "nix/vm-template")
    words += ["--nixpkgs-ref", pins[1], "--microvm-ref", pins[3]]
    try:
        one.form()
        one.cli("vm", "create", "hello", "--microvm-config", module, "--vcpus", 2, "--memory", 256, "--ready-none")
        one.wait("hello", "phase=Running", timeout="120s")
        (run,) = one.dir.glob("n1/vms/hello-1-*/booted/bin/microvm-run")
        assert "-m 256 -smp 2 " in run.read_text()
        one.cli("vm", "kill", "hello", "--wait")
        one.cli("vm", "delete", "hello", "--wait")
    finally:
        end_guests(one)
        one.close()


# ---- nix/debian-runner


def debian(store, directory, options, check=True):
    return store.eval(wrap("debian-runner", directory, options), config("microvm.declaredRunner.drvPath"), check=check)


VOL = '{ image = "data.img"; mountPoint = "/data"; size = 16; }'
NET = '{ type = "user"; id = "net"; mac = "02:00:00:00:00:01"; }'
MACVTAP = '{ type = "macvtap"; id = "m"; mac = "02:00:00:00:00:0C"; macvtap = { link = "eth0"; mode = "vepa"; }; }'
FS = '{ proto = "virtiofs"; tag = "data"; source = "data"; mountPoint = "/data"; }'


@pytest.mark.parametrize("options, told", [
    ("microvm.volumes = 1;", "microvm.volumes must be a list of at most 8 volumes"),
    ("microvm.volumes = [ 1 ];", "microvm.volumes[0] must be an attribute set"),
    ('microvm.volumes = [ { mountPoint = "/data"; size = 16; } ];', "microvm.volumes[0].image is missing: it must be"),
    ('microvm.volumes = [ { image = "a"; } ];', "microvm.volumes[0].size is missing: it must be a number of MiB"),
    (f'microvm.volumes = [ {VOL} ({VOL} // {{ image = "../x"; }}) ];', "microvm.volumes[1].image must be a path"),
    (f'microvm.volumes = [ ({VOL} // {{ image = "/x"; }}) ];', "microvm.volumes[0].image must be a path"),
    (f'microvm.volumes = [ ({VOL} // {{ image = "a,b"; }}) ];', "microvm.volumes[0].image must be a path"),
    (f'microvm.volumes = [ ({VOL} // {{ mountPoint = "/"; }}) ];', "microvm.volumes[0].mountPoint must be null, or"),
    (f'microvm.volumes = [ ({VOL} // {{ mountPoint = "/a/../b"; }}) ];', "microvm.volumes[0].mountPoint must be"),
    (f"microvm.volumes = [ ({VOL} // {{ size = 0; }}) ];", "microvm.volumes[0].size must be a number of MiB"),
    (f'microvm.volumes = [ ({VOL} // {{ fsType = "xfs"; }}) ];', "microvm.volumes[0].fsType must be \"ext2\""),
    (f'microvm.volumes = [ ({VOL} // {{ autoCreate = 1; }}) ];', "microvm.volumes[0].autoCreate must be true or"),
    (f'microvm.volumes = [ ({VOL} // {{ label = "a b"; }}) ];', "microvm.volumes[0].label must be null, or 1 to 16"),
    (f'microvm.volumes = [ ({VOL} // {{ readOnly = 1; }}) ];', "microvm.volumes[0].readOnly must be true or false"),
    (f"microvm.volumes = [ ({VOL} // {{ direct = true; }}) ];", "the option microvm.volumes[0].direct is not supp"),
    (f'microvm.volumes = [ {VOL} ({VOL} // {{ image = "b"; }}) ];', 'mountPoint "/data" is given twice'),
    (f'microvm.volumes = [ {VOL} ({VOL} // {{ mountPoint = "/b"; }}) ];', 'image "data.img" is given twice'),
    ("microvm.interfaces = { };", "microvm.interfaces must be a list of at most 4 interfaces"),
    (f'microvm.interfaces = [ ({NET} // {{ type = "bridge"; }}) ];', 'microvm.interfaces[0].type must be "user",'),
    (f'microvm.interfaces = [ ({NET} // {{ type = "macvtap"; }}) ];', "net is a macvtap, so it needs macvtap = { l"),
    (f'microvm.interfaces = [ ({MACVTAP} // {{ type = "tap"; }}) ];', 'm has type "tap", so it takes no macvtap = {'),
    (f'microvm.interfaces = [ ({MACVTAP} // {{ macvtap = {{ link = "eth0"; mode = "x"; }}; }}) ];',
     "microvm.interfaces[0].macvtap must be { link = the host's interface"),
    (f'microvm.interfaces = [ ({MACVTAP} // {{ macvtap = {{ link = "../x"; mode = "vepa"; }}; }}) ];',
     "microvm.interfaces[0].macvtap must be { link = the host's interface"),
    (f'microvm.interfaces = [ ({NET} // {{ id = "sixteen-letters-"; }}) ];', "interfaces[0].id must be 1 to 15"),
    (f'microvm.interfaces = [ ({NET} // {{ id = "../x"; }}) ];', "microvm.interfaces[0].id must be 1 to 15"),
    (f'microvm.interfaces = [ ({NET} // {{ mac = "02:00:00:00:00"; }}) ];', "microvm.interfaces[0].mac must be six"),
    (f'microvm.interfaces = [ ({NET} // {{ mac = "03:00:00:00:00:01"; }}) ];', "microvm.interfaces[0].mac must be six"),
    (f"microvm.interfaces = [ ({NET} // {{ macvtap = 1; }}) ];", "microvm.interfaces[0].macvtap must be"),
    (f"microvm.interfaces = [ ({NET} // {{ vlan = 1; }}) ];", "the option microvm.interfaces[0].vlan is not"),
    (f"microvm.interfaces = [ {NET} {NET} ];", 'microvm.interfaces: type "user" is given twice'),
    (f'microvm.interfaces = [ {NET} ({NET} // {{ type = "tap"; }}) ];', 'microvm.interfaces: id "net" is given twice'),
    ('microvm.shares = [ { tag = "a"; source = "/a"; mountPoint = "/a"; } ];',
     "microvm.shares[0].proto must be \"virtiofs\": the Debian runner's kernel has no 9p"),
    (f'microvm.shares = [ ({FS} // {{ proto = "9p"; }}) ];', "microvm.shares[0].proto must be \"virtiofs\""),
    (f'microvm.shares = [ ({FS} // {{ tag = "a,b"; }}) ];', "microvm.shares[0].tag must be 1 to 36"),
    (f'microvm.shares = [ ({FS} // {{ source = "../x"; }}) ];', "microvm.shares[0].source must be a path"),
    (f'microvm.shares = [ ({FS} // {{ source = "a b"; }}) ];', "microvm.shares[0].source must be a path"),
    (f'microvm.shares = [ ({FS} // {{ mountPoint = "/bin"; }}) ];', "microvm.shares[0].mountPoint must be an absolute"),
    (f'microvm.shares = [ ({FS} // {{ socket = "/run/x"; }}) ];', "microvm.shares[0].socket must be null, or a name"),
    (f'microvm.shares = [ ({FS} // {{ cache = "never"; }}) ];', "the option microvm.shares[0].cache is not supported"),
    (f'microvm.shares = [ {FS} ({FS} // {{ mountPoint = "/b"; }}) ];', 'microvm.shares: tag "data" is given twice'),
    (f'microvm.shares = [ {FS} ]; microvm.volumes = [ {VOL} ];', 'mountPoint "/data" is given to a volume and to a sh'),
    ('microvm.hypervisor = "firecracker";', 'microvm.hypervisor must be "qemu"'),
    ("microvm.mem = 2048;", "microvm.mem must be a number of MiB"),
    ('networking.hostName = "A B";', "networking.hostName must be a name"),
    ('microvm.qemu.extraArgs = "-S";', "microvm.qemu.extraArgs must be a list of strings"),
    ("microvm.teleport = true;", "the option microvm.teleport is not supported; supported are microvm.hypervisor"),
])
def test_an_option_that_the_debian_runner_cannot_take_is_named(store, tmp_path, options, told):
    said = debian(store, tmp_path / "vm", f"{{ {options} }}", check=False)
    assert "debian-runner: " in said and told in said, said


def test_volumes_and_interfaces_become_devices_and_files_of_the_contract(store, tmp_path):
    text = f"""{{ microvm = {{
      volumes = [ {VOL} {{ image = "in/b.img"; mountPoint = null; size = 8; readOnly = true; autoCreate = false; }} ];
      interfaces = [ {NET} {{ type = "tap"; id = "vm-tap0"; mac = "02:00:00:00:00:AB"; }} ];
      shares = [ ];
    }}; }}"""
    runner = store.build(wrap("debian-runner", tmp_path / "vm", text), tmp_path / "current")
    run = (runner / "bin/microvm-run").read_text()
    subprocess.run(["bash", "-n", runner / "bin/microvm-run"], check=True)
    assert "file=data.img,format=raw" in run and "read-only=off -device virtio-blk-device,drive=vol0" in run
    assert "read-only=on -device virtio-blk-device,drive=vol1" in run
    assert "-netdev user,id=net0 -device virtio-net-device,netdev=net0,mac=02:00:00:00:00:01" in run
    assert "-netdev tap,id=net1,ifname=vm-tap0,script=no,downscript=no" in run
    share = runner / "share/microvm"
    assert (share / "tap-interfaces").read_text() == "vm-tap0\n"
    assert (share / "tap-flags").read_text() == "vnet_hdr"
    assert (share / "macvtap-interfaces").read_text() == (share / "pci-devices").read_text() == ""


def test_shares_and_macvtaps_become_devices_and_files_of_the_contract(store, tmp_path):
    text = f"""{{ microvm = {{ mem = 96;
      interfaces = [ {MACVTAP} {NET} ];
      shares = [ {FS} {{ proto = "virtiofs"; tag = "ro-store"; source = "/nix/store"; mountPoint = "/nix/store";
                         socket = "s.sock"; }} ];
    }}; networking.hostName = "fs"; }}"""
    runner = store.build(wrap("debian-runner", tmp_path / "vm", text), tmp_path / "current")
    run = (runner / "bin/microvm-run").read_text()
    subprocess.run(["bash", "-n", runner / "bin/microvm-run"], check=True)
    assert 'exec 30<>"/dev/tap$(< /sys/class/net/m/ifindex)"' in run
    assert "-netdev tap,id=net0,fd=30 -device virtio-net-device,netdev=net0,mac=02:00:00:00:00:0c" in run
    assert "memory-backend=mem " in run and "-object memory-backend-memfd,id=mem,size=96M,share=on" in run
    assert "path=fs-virtiofs-data.sock -device vhost-user-fs-device,chardev=fs0,tag=data" in run
    assert "path=s.sock -device vhost-user-fs-device,chardev=fs1,tag=ro-store" in run
    share = runner / "share/microvm"
    assert (share / "macvtap-interfaces").read_text() == "m 02:00:00:00:00:0C eth0 vepa\n"
    assert (share / "tap-interfaces").read_text() == ""
    files = {str(p.relative_to(share / "virtiofs")): p.read_text() for p in share.glob("virtiofs/*/*")}
    assert files == {"data/socket": "fs-virtiofs-data.sock\n", "data/source": "data\n",
                     "ro-store/socket": "s.sock\n", "ro-store/source": "/nix/store\n"}


def test_the_examples_are_modules_for_both(store, pins, tmp_path):
    for example in ("hello", "nginx"):
        text = (ROOT / f"examples/{example}.nix").read_text()
        for kind, more in (("debian-runner", []), ("vm-template", pins)):
            flake = wrap(kind, tmp_path / f"{example}-{kind}", text, *more)
            assert store.eval(flake, config("networking.hostName")) == example
            assert store.eval(flake, config("microvm.mem")) == 128
            assert store.eval(flake, config("microvm.declaredRunner.drvPath")).endswith(".drv")


def test_a_guest_reaches_its_host_by_the_user_network(store, tmp_path):
    changed = tmp_path / "debian-runner"
    shutil.copytree(ROOT / "nix/debian-runner", changed)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        init = changed / "init.sh"
        # It gives no such page; that it says so is enough.
        asked = f"wget -O - http://10.0.2.2:{server.server_port}/\n"
        init.write_text(init.read_text().replace('hostname "$(cat', asked + 'hostname "$(cat', 1))
        flake = wrap(changed, tmp_path / "vm", f"{{ microvm = {{ mem = 128; interfaces = [ {NET} ]; }}; }}")
        runner = store.build(flake, tmp_path / "current")
        monitor = subprocess.Popen([runner / "bin/microvm-run"], cwd=tmp_path, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True, errors="replace")
        try:
            lines = list(itertools.takewhile(lambda line: "hello from" not in line, monitor.stdout))
        finally:
            monitor.kill()
            monitor.wait()
            server.shutdown()
    assert any("501 Unsupported method" in line for line in lines), lines


class Apart(Node):
    """A node in namespaces of its own: of networks, for its taps, and of mounts, for a tun device as udev makes it."""

    def arguments(self):
        tun = self.cluster.dir / "tun"
        if not tun.exists():
            os.mknod(tun, 0o600 | stat.S_IFCHR, os.makedev(10, 200))
            tun.chmod(0o666)
        script = f'mount --bind {tun} /dev/net/tun && exec "$@"'
        return ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *super().arguments()]

    def links(self):
        """Name -> flags of the network interfaces there."""
        command = ["nsenter", "-t", str(self.pid), "-n", "ip", "-j", "link"]
        done = subprocess.run(command, capture_output=True, check=True)
        return {link["ifname"]: link["flags"] for link in json.loads(done.stdout)}


def test_a_guest_has_its_volume_and_its_networks_and_leaves_no_tap_behind(tmp_path):
    module = tmp_path / "net.nix"
    module.write_text(f"""{{ microvm = {{
      vcpu = 1; mem = 128;
      volumes = [ ({VOL} // {{ label = "kept"; }}) ];
      interfaces = [ {NET} {{ type = "tap"; id = "vm-tap0"; mac = "02:00:00:00:00:AB"; }} ];
    }}; networking.hostName = "net"; }}""")
    one = Cluster(names=("n1",), simulate=False, capacity="vcpus=4,memory_mib=2048")
    node = Apart(one, "n1")
    one.nodes = [node]
    try:
        one.form()
        one.cli("vm", "create", "net", "--microvm-config", module, "--restart", "never")
        one.wait("net", "phase=Running", timeout="120s")
        console = one.cli("vm", "logs", "net-1").stdout
        assert "init: vda on /data" in console
        assert "up as 02:00:00:00:00:01" in console and "up as 02:00:00:00:00:ab" in console
        assert "LOWER_UP" in node.links()["vm-tap0"], "the monitor holds its end"
        (directory,) = one.dir.glob("n1/vms/net-1-*")
        image = directory / "work/data.img"
        assert image.stat().st_size == 16 << 20

        # Another VM that names the same tap, on the same node.
        one.cli("vm", "create", "second", "--microvm-config", module, "--restart", "never")
        one.wait("second", "phase=Failed", timeout="60s")
        assert "network interface vm-tap0 already" in one.get("second")["instances"][0]["reason"]["text"]
        one.cli("vm", "delete", "second", "--wait")
        assert "LOWER_UP" in node.links()["vm-tap0"]

        # The volume stays what it is over a stop and a start.
        one.cli("vm", "stop", "net", "--wait", "--timeout", "60s")
        assert "vm-tap0" not in node.links()
        one.cli("vm", "start", "net", "--wait", "--timeout", "120s")
        assert "vm-tap0" in node.links()
        about = subprocess.run(["/sbin/dumpe2fs", "-h", image], capture_output=True, text=True).stdout
        assert re.search(r"^Mount count: +2$", about, re.M), about
        assert re.search(r"^Filesystem volume name: +kept$", about, re.M), about

        # The shim dies, and its monitor with it: the node, which looks after them, removes what they had.
        (shim,) = shims(one, "net-1")
        os.kill(shim, signal.SIGKILL)
        one.wait("net", "phase=Failed", timeout="60s")
        assert set(node.links()) == {"lo"}
        one.cli("vm", "delete", "net", "--wait", "--timeout", "60s")
        assert not list(one.dir.glob("n1/vms/*"))
    finally:
        end_guests(one)
        one.close()
