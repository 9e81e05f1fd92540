"""An installed copy is enough to build against, from C and from C++."""

import os
import pathlib
import re
import subprocess

import pytest

from cluster import BUILD, ROOT, until


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    destination = tmp_path_factory.mktemp("root")
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(
        ["make", f"B={BUILD.relative_to(ROOT)}", "install", f"DESTDIR={destination}", "PREFIX=/opt/blixard"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return destination / "opt/blixard"


def flags(installed, *asked):
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(installed.parents[1]),
    }
    return subprocess.run(
        ["pkg-config", *asked, "blixard"], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()


def test_an_embedder_builds_and_runs_against_the_installed_copy(installed, tmp_path):
    program = tmp_path / "embed"
    subprocess.run(
        [
            "gcc",
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            ROOT / "examples/embed.c",
            *flags(installed, "--cflags", "--libs"),
            "-o",
            program,
        ],
        check=True,
    )
    done = subprocess.run(
        [program, tmp_path / "node"],
        env={**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "created hello" in done.stdout and "hello-1" in done.stdout


def test_three_replicated_counters_build_and_agree_against_the_installed_copy(installed, tmp_path):
    program = tmp_path / "counter"
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", ROOT / "examples/replicated_counter.c",
                    *flags(installed, "--cflags", "--libs"), "-o", program], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")}
    members = [subprocess.Popen([program, tmp_path / "data", uid], env=environment, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, bufsize=1) for uid in "123"]

    def ask(uid, line):
        members[uid - 1].stdin.write(line + "\n")
        return members[uid - 1].stdout.readline().split()

    try:
        until(lambda: ask(1, "get")[0] == "value", 60, "the first member leads")
        assert ask(1, "join 2") == ["join", "2", "ok"] and ask(1, "join 3") == ["join", "3", "ok"]
        assert ask(1, "add 1 1 5") == ["ok", "1", "1", "5"]
        assert ask(1, "add 1 1 5") == ["ok", "1", "1", "5"], "a repeated request was done again"
        assert ask(2, "add 2 1 5") == ["retry", "2", "1", "1"]
        assert ask(1, "get") == ["value", "5", "1:1:5"]
    finally:
        for member in members:
            member.stdin.close()
    assert [member.wait(20) for member in members] == [0, 0, 0]


@pytest.mark.parametrize("compiler, language", [("gcc", "c"), ("clang", "c"), ("g++", "c++"), ("clang++", "c++")])
def test_each_public_header_stands_alone(installed, compiler, language):
    standard = "c11" if language == "c" else "c++17"
    for header in sorted((installed / "include/blixard").rglob("*.h")):
        name = header.relative_to(installed / "include")
        done = subprocess.run(
            [
                compiler,
                f"-std={standard}",
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
                *flags(installed, "--cflags"),
                "-x",
                language,
                "-",
            ],
            input=f"#include <{name}>\n",
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"


def test_the_library_exports_its_own_names_only(installed):
    library = installed / "lib/libblixard.so"
    told = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in told.splitlines()} - {"BLIXARD_0.1"}
    assert names and all(re.fullmatch(r"blx_[a-z][a-z0-9_]*", name) for name in names), names
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    assert "Library soname: [libblixard.so.0]" in dynamic


def test_every_declared_function_is_exported(installed):
    declared = set()
    for header in pathlib.Path(installed / "include/blixard").rglob("*.h"):
        declared |= set(re.findall(r"^BLX_API[^;{]*?\b(blx_\w+)\(", header.read_text(), re.M))
    told = subprocess.run(
        ["nm", "-D", "--defined-only", installed / "lib/libblixard.so"], check=True, capture_output=True, text=True
    )
    exported = {line.split()[-1].split("@")[0] for line in told.stdout.splitlines()}
    assert declared and declared <= exported, declared - exported


def test_programs_of_the_installed_copy_say_their_version(installed):
    for program in ("blixard", "blixardd"):
        done = subprocess.run([installed / "bin" / program, "--version"], capture_output=True, text=True)
        assert done.returncode == 0 and "0.1.0" in done.stdout, done.stderr
