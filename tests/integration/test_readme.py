"""What README.md tells people to type works as typed, in a copy of the tree, and leaves nothing outside it."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from cluster import BUILD, ROOT, cgroups, processes_of, until

QUICKSTART_SECONDS_MAX = 300


def fenced(text):
    """The shell lines of a document, block by block."""
    return [block.strip().splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)]


def files_of_tree():
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-coz", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        return [pathlib.Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
    return [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file() and p.relative_to(ROOT).parts[0] != "build"]


def outside():
    """Places where such a thing might leave files, as far as they look like its own."""
    places = [
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/run",
        "/var/lib",
        "/var/log",
        "/var/cache",
        "/etc",
        "/nix",
        "/nix/var",
        "/nix/store",
        "/root",
        "/root/.cache",
        "/root/.config",
        "/root/.local/share",
        "/root/.local/state",
    ]
    names = set()
    for place in places:
        if os.path.isdir(place):
            names |= {f"{place}/{name}" for name in os.listdir(place) if re.search("blixard|nix|hello|microvm", name)}
    return names


def links():
    return {name for name in os.listdir("/sys/class/net") if not name.startswith("veth")}


class Tree:
    """A copy of the tree in which nothing needs to be built again."""

    def __init__(self):
        # A directory that a user's own might be as deep as.
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="blx", dir="/tmp"))
        self.dir = self.scratch / "tree"
        for name in files_of_tree():
            if (ROOT / name).exists():
                (self.dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.dir / name)
        build = BUILD.relative_to(ROOT)
        subprocess.run(["cp", "-a", "--parents", build, "build/deps", self.dir], cwd=ROOT, check=True)
        if not (self.dir / "build/release").exists():
            (self.dir / "build/release").symlink_to(self.dir / build)
        # A user without sudo at hand, as root, types the same.
        (self.scratch / "bin").mkdir()
        sudo = self.scratch / "bin/sudo"
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        inherited = {
            k: v
            for k, v in os.environ.items()
            if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BLX_BUILD", "BLIXARD_SOCKET")
        }
        self.environment = {**inherited, "B": str(build), "PATH": f"{self.scratch}/bin:{os.environ['PATH']}"}

    def type(self, lines, seconds=QUICKSTART_SECONDS_MAX):
        """Typed into one shell; the first that fails ends it. Returns what was printed."""
        script = "\n".join(f"echo {shell_quoted('$ ' + line)}\n{line}" for line in lines)
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=self.dir,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=seconds,
            )
            output.seek(0)
            text = output.read()
        assert done.returncode == 0, text[-6000:]
        return text

    def pid(self, node):
        return int((self.dir / f"build/quickstart/{node}/daemon.pid").read_text())

    def cluster(self):
        """The id of its cluster, which the names of its control groups begin with."""
        identity = (self.dir / "build/quickstart/n1/identity").read_bytes()
        return re.search(rb"[0-9a-f]{32}", identity).group().decode()

    def processes(self):
        return processes_of(self.dir)

    def remove(self):
        subprocess.run(
            ["tools/quickstart/down.sh"],
            cwd=self.dir,
            env={**self.environment, "BLX_BUILD": self.environment["B"]},
            check=False,
            timeout=120,
        )
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.scratch, ignore_errors=True)


def shell_quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(scope="module")
def tree():
    one = Tree()
    try:
        yield one
    finally:
        one.remove()


@pytest.fixture(scope="module")
def before():
    return {"outside": outside(), "links": links()}


def assert_nothing_is_left(tree, before, cluster):
    until(lambda: not tree.processes(), 5, f"no process is left: {tree.processes()}")
    assert outside() <= before["outside"]
    assert links() <= before["links"]
    assert not cgroups(cluster)
    assert str(tree.dir) not in pathlib.Path("/proc/mounts").read_text()
    assert not (tree.dir / "build/quickstart").exists()


def test_the_readme_opens_with_the_two_commands():
    assert fenced((ROOT / "README.md").read_text())[0] == ["sudo make quickstart", "sudo make check"]


def test_quickstart_brings_three_guests_up_and_says_so(tree, before):
    told = tree.type(["sudo make quickstart"])
    assert len(re.findall(r"^hello-[123]\b.*Running", told, re.M)) == 3 or re.search(r"^hello\b.*3/3", told, re.M), told
    assert "hello from hello" in told


def test_the_readmes_own_lines_work_as_typed(tree):
    opening, *tour = fenced((ROOT / "README.md").read_text())
    assert len(tour) >= 7
    told = tree.type([line for block in tour for line in block])
    assert "hello from hello" in told
    assert "NoRoom" in told


def test_quickstart_again_keeps_what_runs(tree):
    pids = [tree.pid(n) for n in ("n1", "n2", "n3")]
    told = tree.type(["sudo make quickstart"])
    assert [tree.pid(n) for n in ("n1", "n2", "n3")] == pids
    assert "runs already" in told


def test_quickstart_down_leaves_nothing_and_may_be_repeated(tree, before):
    cluster = tree.cluster()
    assert cgroups(cluster)
    tree.type(["sudo make quickstart-down"])
    assert_nothing_is_left(tree, before, cluster)
    tree.type(["sudo make quickstart-down"])


def test_quickstart_works_again_after_down_and_down_works_when_half_of_it_is_dead(tree, before):
    tree.type(["sudo make quickstart"])
    for node in ("n1", "n3"):
        os.kill(tree.pid(node), signal.SIGKILL)
    cluster = tree.cluster()
    assert cgroups(cluster)
    tree.type(["sudo make quickstart-down"])
    assert_nothing_is_left(tree, before, cluster)
