"""The quickstart's scripts where they must not do something. What they do is in test_readme.py."""

import os
import subprocess

import pytest

from cluster import BUILD, ROOT, alive

TOOLS = ROOT / "tools/quickstart"


def run(script, directory):
    environment = {**os.environ, "BLX_BUILD": str(BUILD), "BLX_QUICKSTART": str(directory)}
    return subprocess.run([TOOLS / script], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_tree_too_deep_for_its_sockets_is_refused_in_one_sentence_and_nothing_is_made(tmp_path):
    deep = tmp_path / ("d" * 90)
    done = run("up.sh", deep)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "too deep" in done.stderr and "80" in done.stderr
    assert not deep.exists()


def test_down_without_an_up_does_nothing(tmp_path):
    done = run("down.sh", tmp_path / "never")
    assert done.returncode == 0 and "there is no quickstart" in done.stdout
    assert not list(tmp_path.iterdir())


def test_down_leaves_a_process_alone_that_only_has_the_number_of_a_dead_daemon(tmp_path, sleeper):
    node = tmp_path / "qs/n1"
    node.mkdir(parents=True)
    (node / "daemon.pid").write_text(f"{sleeper.pid}\n")
    done = run("down.sh", tmp_path / "qs")
    assert done.returncode == 0, done.stderr
    assert alive(sleeper.pid)
    assert not list(tmp_path.iterdir())


def test_down_leaves_a_process_alone_that_merely_sits_in_its_directory(tmp_path):
    (tmp_path / "qs/n1").mkdir(parents=True)
    visitor = subprocess.Popen(["sleep", "600"], cwd=tmp_path / "qs/n1")
    try:
        assert run("down.sh", tmp_path / "qs").returncode == 0
        assert alive(visitor.pid)
    finally:
        visitor.kill()
        visitor.wait()


def test_deps_names_an_unknown_group_and_asks_for_nothing_on_a_machine_that_has_everything():
    done = subprocess.run([TOOLS / "deps.sh", "built"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and '"built"' in done.stderr
    done = subprocess.run([TOOLS / "deps.sh"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_package_is_in_a_known_group_and_says_what_it_is_for():
    rows = [
        line.split(None, 2) for line in (TOOLS / "packages.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    assert all(len(row) == 3 and row[0] in ("build", "run", "test") for row in rows)
    names = [row[1] for row in rows]
    assert len(names) == len(set(names))
