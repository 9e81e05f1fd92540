"""What turns a module file into a runner: nix/debian-runner and nix/vm-template, by real builds without a network."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from cluster import BIN, ROOT, Cluster
from test_real_vms import end_guests

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
