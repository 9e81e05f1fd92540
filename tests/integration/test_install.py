"""An installed copy is enough to build against, from C and from C++."""

import ctypes
import json
import os
import pathlib
import re
import select
import subprocess
import threading

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


def build(installed, name, tmp_path, *more):
    program = tmp_path / name
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", ROOT / f"examples/{name}.c",
               *flags(installed, "--cflags", "--libs"), *more, "-o", program]
    subprocess.run(command, check=True)
    return program


def environment_of(installed):
    return {**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")}


def run(installed, program, *arguments):
    done = subprocess.run(
        [program, *arguments], env=environment_of(installed), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_both_ways_to_runners_are_installed(installed):
    share = installed / "share/blixard"
    assert all(os.access(share / kind / "wrap", os.X_OK) for kind in ("debian-runner", "vm-template"))
    wrapped = subprocess.run([share / "vm-template/wrap", "--vcpu"], capture_output=True, text=True)
    assert wrapped.stderr == "wrap: --vcpu wants a value\n"
    assert (share / "guest.nix").is_file() and (share / "vm-template/vm.nix").is_file()


def test_an_embedder_builds_and_runs_against_the_installed_copy(installed, tmp_path):
    told = run(installed, build(installed, "embed", tmp_path), tmp_path / "node")
    assert "created hello" in told and "hello-1" in told


def test_a_program_with_its_own_libuv_loop_builds_and_runs_against_the_installed_copy(installed, tmp_path):
    told = run(installed, build(installed, "uv_loop", tmp_path, "-D_POSIX_C_SOURCE=200809L", "-luv"), tmp_path / "node")
    assert told.splitlines() == ["created hello", "hello-1 runs", "hello is gone", "the timer ticked meanwhile"]


def test_placement_without_a_cluster_builds_and_decides_against_the_installed_copy(installed, tmp_path):
    (tmp_path / "nodes.csv").write_text("sn,cpu_milli,memory_mib\nn1,4000,8192\n")
    (tmp_path / "pods.csv").write_text("name,cpu_milli,memory_mib\np1,1000,2048\n")
    program = build(installed, "place", tmp_path)
    answer = json.loads(run(installed, program, tmp_path / "nodes.csv", tmp_path / "pods.csv"))
    assert (answer["placed"], answer["cpu_allocated_pct"], answer["memory_allocated_pct"]) == (1, 25, 25)


def test_a_driver_of_ones_own_builds_and_runs_against_the_installed_copy(installed, tmp_path):
    told = run(installed, build(installed, "own_driver", tmp_path, "-D_POSIX_C_SOURCE=200809L"), tmp_path / "node")
    assert told.splitlines() == ["nap-1 runs as an own process", "nap is gone"]


def test_a_watcher_builds_and_goes_on_after_a_restart_of_the_daemon(installed, tmp_path, new_cluster):
    program = build(installed, "watch_events", tmp_path)
    cluster = new_cluster(names=("n1",)).form()
    node = cluster.nodes[0]
    out = tmp_path / "events"

    def told(*wanted):
        events = [json.loads(line) for line in out.read_text().splitlines()]
        return any(wanted == (event["kind"], event["name"], event["phase"]) for event in events)

    with open(out, "w") as file:
        watcher = subprocess.Popen([program, f"unix:{node.socket}", "1000"], env=environment_of(installed), stdout=file)
    try:
        until(lambda: told("node", "n1", "Pending"), 20, "the node is told")
        node.terminate()
        node.start()
        cluster.create("web")
        until(lambda: told("instance", "web-1", "Running"), 20, "the instance runs")
    finally:
        watcher.kill()
        watcher.wait()
    assert len(run(installed, program, f"unix:{node.socket}", "3").splitlines()) == 3


class ClientOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("addresses", ctypes.POINTER(ctypes.c_char_p)),
                ("n_addresses", ctypes.c_size_t), ("timeout_ms", ctypes.c_uint32), ("log", ctypes.c_void_p),
                ("log_user", ctypes.c_void_p), ("log_level", ctypes.c_int32), ("reserved", ctypes.c_uint32),
                ("completions", ctypes.c_int32)]


def test_another_language_dispatches_on_its_own_thread(installed, new_cluster):
    """By ctypes, with no header and no thread of Python's but this one: structs come from JSON and go to it."""
    library = ctypes.CDLL(installed / "lib/libblixard.so")
    node = new_cluster(names=("n1",)).form().nodes[0]
    addresses = (ctypes.c_char_p * 1)(f"unix:{node.socket}".encode())
    options = ClientOptions(ctypes.sizeof(ClientOptions), addresses, 1, completions=1)
    client, request, told = ctypes.c_void_p(), ctypes.c_void_p(), []
    assert library.blx_client_open(ctypes.byref(options), ctypes.byref(client), None) == 0
    assert library.blx_from_json(b"node_list_request", b"{}", ctypes.c_size_t(2), ctypes.byref(request), None) == 0

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    def on_list(_user, error, result):
        text = ctypes.c_char_p()
        assert not error and library.blx_to_json(b"node_list", ctypes.c_void_p(result), ctypes.byref(text), None) == 0
        told.append((threading.get_ident(), json.loads(text.value)["nodes"][0]["name"]))
        library.blx_string_free(text)
        library.blx_node_list_free(ctypes.c_void_p(result))

    for _ in range(3):
        assert library.blx_node_list_get_async(client, request, on_list, None, None) == 0
    while len(told) < 3:
        assert select.select([library.blx_client_fd(client, None)], [], [], 20)[0]
        assert library.blx_client_dispatch(client, 0, None) >= 0
    assert told == [(threading.get_ident(), "n1")] * 3
    library.blx_message_free(request)
    library.blx_client_close(client)
    assert library.blx_client_dispatch(client, 0, None) == -3  # BLX_E_MISUSE


def test_examples_are_short():
    for example in sorted((ROOT / "examples").glob("*.c")):
        assert len(example.read_text().splitlines()) < 120, example


def test_three_replicated_counters_build_and_agree_against_the_installed_copy(installed, tmp_path):
    program = build(installed, "replicated_counter", tmp_path)
    environment = environment_of(installed)
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
                *(["-D_POSIX_C_SOURCE=200809L"] if header.name == "uv.h" else []),  # for libuv's own header
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
