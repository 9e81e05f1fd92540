"""What the CLI and the daemon say, word by word. The files in golden/ are sessions: a line `$ command`, its output,
lines of standard error marked with `! `, the exit status in brackets. To accept new words: BLX_GOLDEN=write and read
the difference."""

import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess

import pytest

import cluster as clusters

GOLDEN = pathlib.Path(__file__).parent / "golden"
WRITE = os.environ.get("BLX_GOLDEN") == "write"
EXIT_OK, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_RETRY = 0, 2, 3, 5, 6


def commands(name):
    return [line[2:] for line in (GOLDEN / name).read_text().splitlines() if line.startswith("$ ")]


def block(name, command):
    """The lines under one command of a session."""
    lines, inside = [], False
    for line in (GOLDEN / name).read_text().splitlines():
        if line.startswith("$ "):
            inside = line[2:] == command
        elif inside:
            lines.append(line)
    return "\n".join(lines).rstrip("\n")


def rewrite(name, command, text):
    path, out, inside = GOLDEN / name, [], False
    for line in path.read_text().splitlines():
        if line.startswith("$ "):
            inside = line[2:] == command
            out += [line, *(text.splitlines() + [""] if inside else [])]
        elif not inside:
            out.append(line)
    path.write_text("\n".join(out).rstrip("\n") + "\n")


def run(*words, at="/nowhere/blixard.sock", stdin=subprocess.DEVNULL, **more):
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "BLIXARD_SOCKET": str(at), **more.pop("env", {})}
    return subprocess.run([str(clusters.BIN / words[0]), *words[1:]], env=environment, capture_output=True, text=True,
                          timeout=60, stdin=stdin, cwd=clusters.ROOT, **more)


def session_of(done, clean=lambda text: text):
    lines = clean(done.stdout).splitlines() + ["! " + line for line in clean(done.stderr).splitlines()]
    return "\n".join([*lines, f"[{done.returncode}]"])


def compare(name, command, text):
    if WRITE:
        rewrite(name, command, text)
    assert text == block(name, command)


@pytest.mark.parametrize("command", commands("help.txt"))
def test_help_says(command):
    compare("help.txt", command, session_of(run(*shlex.split(command))))


@pytest.mark.parametrize("command", commands("usage.txt"))
def test_wrong_command_line_gets_one_sentence(command):
    done = run(*shlex.split(command))
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    compare("usage.txt", command, session_of(done))


HOSTILE_NAMES = ["", "a" * 300, "a" * 57, "../x", "-", "a-", "-a", "Web", "web_1", "web.1", "web 1", "a\nb", "a\tb",
                 "\x1b[2J", "\U0001f98a", "ä", "vm/", "vm/../x", "a/b", "%s%n", "$(id)"]
HOSTILE_SIZES = ["-1", "0", "31", "1048577", "1e99", "512 MB", "512MB", "18446744073709551616", "NaN", "inf", "",
                 " 512", "512 ", "0x200", "+512", "1_000", "९", "9" * 4000]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_name_is_refused_with_the_pattern(name):
    for verb in ("create", "status", "delete", "logs"):
        if name == "a" * 57 and verb != "create":
            continue  # an instance may be called so
        more = ["--flake", "x#y"] if verb == "create" else []
        done = run("blixard", "vm", verb, *more, "--", name)
        assert done.returncode == EXIT_USAGE and done.stdout == ""
        assert "[a-z0-9]([a-z0-9-]*[a-z0-9])?" in done.stderr and done.stderr.endswith("[INVALID]\n")
        assert len(done.stderr.splitlines()) == 1 and len(done.stderr) < 300 and "\x1b" not in done.stderr


@pytest.mark.parametrize("value", HOSTILE_SIZES)
def test_hostile_size_is_refused_with_range_and_unit(value):
    done = run("blixard", "vm", "create", "web", "--flake", "x#y", "--memory", value)
    assert done.returncode == EXIT_USAGE and "from 32 to 1048576 (MiB)" in done.stderr
    done = run("blixard", "vm", "create", "web", "--flake", "x#y", f"--replicas={value or '-'}")
    assert done.returncode == EXIT_USAGE if value not in ("0", "31") else EXIT_RETRY
    done = run("blixard", "vm", "list", "--timeout", value)
    assert done.returncode == EXIT_USAGE and "30s" in done.stderr


def test_no_daemon_is_one_line_and_exit_6():
    done = run("blixard", "vm", "list")
    assert done.returncode == EXIT_RETRY and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "/nowhere/blixard.sock" in done.stderr and "[UNAVAILABLE]" in done.stderr


def test_module_too_large_or_unclear_is_refused_before_anything_is_sent(tmp_path):
    for text, says in [("", "empty"), ("x" * 49153, "49152"), ("{ microvm.mem = 2 * 512; }", "--memory"),
                       ("{ microvm.mem = 128; a.microvm = { mem = 256; }; }", "--memory"), ("{ mem = 31; }", "32"),
                       ("{ vcpu = 99999999999999999999; }", "512"), ("{ vcpu = \"2\"; }", "--vcpus")]:
        (tmp_path / "m.nix").write_text(text)
        done = run("blixard", "vm", "create", "web", "--microvm-config", str(tmp_path / "m.nix"))
        assert done.returncode == EXIT_USAGE and says in done.stderr, (text, done.stderr)
        assert done.stdout == ""


def test_completion_is_a_script_that_completes():
    script = run("blixard", "completion", "bash").stdout
    cases = [("blixard ''", "vm"), ("blixard vm cre", "create"), ("blixard vm create x --stra", "--strategy"),
             ("blixard vm list -o y", "yaml"), ("blixard vm create x --restart on", "on-failure")]
    for words, expected in cases:
        ask_bash = (f"{script}\nCOMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n"
                    "_blixard; echo \"${COMPREPLY[@]}\"")
        done = subprocess.run(["bash", "-c", ask_bash], capture_output=True, text=True, timeout=10)
        assert expected in done.stdout.split(), (words, done.stdout, done.stderr)


def test_every_flag_is_in_its_man_page():
    for program, page in (("blixard", "blixard.1"), ("blixardd", "blixardd.8")):
        text = (clusters.ROOT / "docs/man" / page).read_text()
        pages = [run(program, "--help").stdout]
        if program == "blixard":
            verbs = re.findall(r"^  ((?:vm|cluster|node) [a-z]+)", pages[0], re.M)
            assert len(verbs) > 10
            pages += [run(program, *verb.split(), "--help").stdout for verb in verbs]
        flags = {flag for page_text in pages for flag in re.findall(r"^  (?:-\w, )?--([a-z-]+)", page_text, re.M)}
        assert len(flags) > 8
        assert [flag for flag in sorted(flags) if f"Fl -{flag}" not in text] == []


# ---- against a daemon


@pytest.fixture(scope="module")
def one():
    """One simulated node with a VM web of two replicas that run."""
    cluster = clusters.Cluster(names=("n1",), capacity="vcpus=8,memory_mib=4096", more=("--label", "zone=a"))
    try:
        cluster.form()
        cluster.cli("vm", "create", "web", "--microvm-config", str(clusters.ROOT / "examples/nginx.nix"),
                    "--replicas", "2", "--label", "tier=front", "--wait")
        yield cluster
    finally:
        cluster.close()


def ask(cluster, *words, **more):
    return run("blixard", *words, at=cluster.nodes[0].socket, **more)


def clean(cluster):
    """What differs from run to run gets a word; columns are two spaces apart."""
    def replace(text):
        text = text.replace(str(cluster.dir), "DIR")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
        text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
        text = re.sub(r"\b\d+[smhd]\b", "AGE", text)
        text = re.sub(r"(\"?\w*(?:_ms|revision|incarnation|report_seq|index|term)\"?: )\d+", r"\1N", text)
        text = re.sub(r"^(Index:|Revision:) .*$", r"\1 N", text, flags=re.M)
        return re.sub(r"(?<=\S) {2,}", "  ", text)
    return replace


@pytest.mark.parametrize("command", commands("formats.txt"))
def test_answer_is_printed(one, command):
    compare("formats.txt", command, session_of(ask(one, *shlex.split(command)[1:]), clean(one)))


@pytest.mark.parametrize("words", ["vm list", "vm status web", "vm get web-1", "vm describe web", "node ls", "get node",
                                   "get vm", "get vm web", "cluster status"])
def test_json_is_one_document_and_nothing_else(one, words):
    for flag in ("--format=json", "-ojson"):
        done = ask(one, *words.split(), flag)
        assert done.returncode == EXIT_OK and done.stderr == ""
        assert isinstance(json.loads(done.stdout), dict)


def test_create_with_wait_prints_one_document(one):
    done = ask(one, "vm", "create", "doc", "--flake", "x#y", "--memory", "64", "--wait", "-o", "json")
    assert done.returncode == EXIT_OK and done.stderr == ""
    assert json.loads(done.stdout)["phase"] == "Running"
    done = ask(one, "vm", "delete", "doc", "--wait")
    assert done.returncode == EXIT_OK and done.stdout == "vm/doc will be deleted\nvm/doc is gone\n"
    assert ask(one, "vm", "get", "doc").returncode == EXIT_NOT_FOUND


@pytest.mark.parametrize("text, memory, vcpus", [
    ("{ microvm.mem = 256; microvm.vcpu = 2; }", 256, 2),
    ("{ lib, ... }: { microvm = { mem = lib.mkForce 256; vcpu = lib.mkDefault 2; }; }", 256, 2),
    ("{ # mem = 64;\n /* vcpu = 4; */ microvm.mem = 256; }", 256, 1),
    ("{ x = \"mem = 64;\"; y = ''vcpu = 4; ''' ''${ ${\"mem = 7;\"} ''; microvm = { mem=256 ; }; }", 256, 1),
    ("{ shmem = 64; mem' = 64; guest.mem-x = 5; x = a: a.mem == 3; }", 128, 1),
    ("{ microvm.hypervisor = \"qemu\"; }", 128, 1),
])
def test_size_is_read_off_the_module(one, tmp_path, text, memory, vcpus):
    (tmp_path / "m.nix").write_text(text)
    done = ask(one, "vm", "create", "sized", "--microvm-config", str(tmp_path / "m.nix"), "--stopped", "-o", "json")
    assert done.returncode == EXIT_OK, done.stderr
    spec = json.loads(done.stdout)["spec"]
    assert (spec["memory_mib"], spec["vcpus"], spec["config_name"]) == (memory, vcpus, "m.nix")
    assert ask(one, "vm", "delete", "sized", "--wait").returncode == EXIT_OK


def test_taken_name_is_a_conflict_and_the_same_request_is_not(one):
    create = ["vm", "create", "twice", "--flake", "x#y", "--stopped"]
    assert ask(one, *create, "--request-id", "k1").returncode == EXIT_OK
    assert ask(one, *create, "--request-id", "k1").returncode == EXIT_OK
    done = ask(one, *create)
    assert done.returncode == EXIT_CONFLICT and "[EXISTS]" in done.stderr and "twice" in done.stderr
    assert ask(one, "vm", "rm", "vm/twice", "--wait").returncode == EXIT_OK


def test_server_refuses_what_the_command_line_lets_through(one):
    for more in (["--hypervisor", "firecracker"], ["--strategy", "DataLocality"]):
        done = ask(one, "vm", "create", "no", "--flake", "x#y", *more)
        assert done.returncode == EXIT_USAGE and done.stderr.rstrip().split("[")[-1].startswith("UNSUPPORTED")
    assert ask(one, "vm", "get", "no").returncode == EXIT_NOT_FOUND


def test_wait_that_runs_out_says_where_it_is(one):
    done = ask(one, "vm", "wait", "web", "--for", "phase=Stopped", "--timeout", "300ms")
    assert done.returncode == EXIT_RETRY and "[TIMEOUT]" in done.stderr and "Running" in done.stderr


def start(cluster, *words, **more):
    environment = {"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(cluster.nodes[0].socket)}
    return subprocess.Popen([str(clusters.BIN / "blixard"), *words], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **more)


def catches(pid, signum):
    mask = re.search(r"^SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)
    return int(mask, 16) >> (signum - 1) & 1


def test_interrupted_wait_says_how_to_look_and_exits_6(one):
    process = start(one, "vm", "wait", "web", "--for", "deleted")
    clusters.until(lambda: catches(process.pid, signal.SIGINT), 10, "the wait has begun")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == EXIT_RETRY and out == ""
    assert "blixard vm status web" in err and len(err.splitlines()) == 1


def test_logs_follow_until_interrupted_with_prefixes_for_several(one):
    process = start(one, "vm", "logs", "web", "--follow", "--tail", "5")
    assert re.match(r"web-[12] \| ", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == EXIT_OK and err == ""
    single = ask(one, "vm", "logs", "web-1", "--tail", "1")
    assert single.returncode == EXIT_OK and " | " not in single.stdout


def test_reader_that_goes_away_is_no_failure(one):
    process = start(one, "vm", "logs", "web", "-f")
    process.stdout.close()
    assert process.wait(10) == EXIT_OK and process.stderr.read() == ""
    process.stderr.close()
    full = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run([str(clusters.BIN / "blixard"), "vm", "list", "--socket", str(one.nodes[0].socket)],
                          stdout=full, stderr=subprocess.PIPE, timeout=20)
    os.close(full)
    assert done.returncode == 1 and b"[IO]" in done.stderr


def test_odd_locale_and_closed_descriptors_change_nothing(one):
    plain = ask(one, "vm", "list", "-o", "name")
    odd = ask(one, "vm", "list", "-o", "name", env={"LC_ALL": "tr_TR.UTF-8", "TERM": "nonsense", "COLUMNS": "1"})
    assert plain.stdout == odd.stdout and "vm/web\n" in plain.stdout
    script = f"exec <&- 2>&-; {clusters.BIN}/blixard --socket {one.nodes[0].socket} vm list -o name"
    assert subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, timeout=20).stdout == plain.stdout


# ---- the daemon's own words


@pytest.mark.parametrize("command", commands("daemon.txt"))
def test_daemon_refuses_a_wrong_command_line(command):
    done = run(*shlex.split(command))
    assert done.stdout == "" or done.returncode == EXIT_OK
    compare("daemon.txt", command, session_of(done))


def test_daemon_tells_the_service_manager_and_logs_one_line_each(tmp_path):
    cluster = clusters.Cluster(names=("n1",))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(cluster.dir / "notify")
        manager.bind(path)
        manager.settimeout(20)
        node = cluster.nodes[0]
        with open(node.log, "wb") as log:
            process = subprocess.Popen(node.arguments() + ["--bootstrap"], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, env={"NOTIFY_SOCKET": path, "PATH": os.environ["PATH"]})
        try:
            assert manager.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            said = b""
            while not said.startswith(b"STOPPING=1"):
                said = manager.recv(512)
            assert process.wait(20) == EXIT_OK
            for line in node.log.read_text().splitlines():
                assert re.match(r"\d{4}-\d\d-\d\dT[0-9:]{8}\.\d{3}Z (error|warning|info|debug) +[a-z-]+: .", line), line
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            cluster.close()


def test_second_daemon_on_a_directory_is_refused(one):
    done = run(*["blixardd", *one.nodes[0].arguments()[1:]])
    assert done.returncode == EXIT_RETRY and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("blixardd: ") and "[BUSY]" in done.stderr


def test_example_of_embedding_runs_a_vm_and_deletes_it(tmp_path):
    done = subprocess.run([str(clusters.BUILD / "examples/embed"), str(tmp_path / "d")], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    assert done.stdout.startswith("created hello with uid ") and done.stderr == ""
    source = (clusters.ROOT / "examples/embed.c").read_text()
    assert len(source.splitlines()) < 120
