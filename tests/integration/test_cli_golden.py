"""What the CLI and the daemon say, word by word. The files in golden/ are sessions: a line `$ command`, its output,
lines of standard error marked with `! `, the exit status in brackets. To accept new words: BLX_GOLDEN=write and read
the difference."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time

import pytest

import cluster as clusters
from golden_text import clean
from cluster import EXIT_CONFLICT, EXIT_DENIED, EXIT_NOT_FOUND, EXIT_OK, EXIT_RETRY, EXIT_USAGE

GOLDEN = pathlib.Path(__file__).parent / "golden"
WRITE = os.environ.get("BLX_GOLDEN") == "write"


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


@pytest.mark.parametrize("command", commands("explain.txt"))
def test_schema_explains_itself_without_a_daemon(command):
    compare("explain.txt", command, session_of(run(*shlex.split(command))))


HOSTILE_NAMES = ["", "a" * 300, "a" * 57, "../x", "-", "a-", "-a", "Web", "web_1", "web.1", "web 1", "a\nb", "a\tb",
                 "\x1b[2J", "\U0001f98a", "ä", "vm/", "vm/../x", "a/b", "%s%n", "$(id)"]
HOSTILE_SIZES = ["-1", "0", "31", "1048577", "1e99", "512 MB", "512MB", "18446744073709551616", "NaN", "inf", "",
                 " 512", "512 ", "0x200", "+512", "1_000", "९", "9" * 4000]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_name_is_refused_with_the_pattern(name):
    for verb in ("create", "status", "delete", "logs", "console"):
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


def complete(line, at="/nowhere/blixard.sock"):
    """What bash would offer at the end of the line."""
    script = run("blixard", "completion", "bash").stdout
    words = shlex.split(line) if not line.endswith(" ") else [*shlex.split(line), ""]
    ask_bash = (f"{script}\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
                "_blixard; printf '%s\\n' \"${COMPREPLY[@]}\"")
    environment = {"PATH": f"{clusters.BIN}:{os.environ['PATH']}", "BLIXARD_SOCKET": str(at)}
    done = subprocess.run(["bash", "-c", ask_bash], capture_output=True, text=True, timeout=10, env=environment,
                          cwd=clusters.ROOT)
    assert done.stderr == "" and done.returncode == 0
    return done.stdout.split()


@pytest.mark.parametrize("line, offered, not_offered", [
    ("blixard ", "vm get events explain completion", "__complete migrate"),
    ("blixard vm cre", "create", "vm list"),
    ("blixard vm ", "create list wait", "migrate"),
    ("blixard vm create x --stra", "--strategy", "--replicas"),
    ("blixard vm list -o y", "yaml", "json"),
    ("blixard vm list --output ", "table wide json yaml name", "vm"),
    ("blixard vm list --output = w", "wide", "json"),
    ("blixard vm create x --restart on", "on-failure", "always"),
    ("blixard vm create x --microvm-config examples/hel", "examples/hello.nix", "examples/nginx.nix"),
    ("blixard -o json vm li", "list", "create"),
    ("blixard events --f", "--follow --for --filter --format", "--since"),
    ("blixard get ", "vm node instance event quota", "list"),
    ("blixard quota ", "set get list delete", "vms"),
    ("blixard cluster cap", "capacity", "status"),
    ("blixard vm create x --strategy ", "BestFit LoadBalanced DataLocality NetworkProximity", "vm"),
    ("blixard vm create x --a", "--apart --all", "--stopped"),
    ("blixard explain ev", "event", "vm"),
    ("blixard completion ", "bash zsh", "fish"),
    ("blixard help vm l", "list logs", "create"),
    ("blixard top n", "nodes", "vms"),
    ("blixard top nodes ", "", "vms nodes"),
    ("blixard top nodes --sort-by ", "cpu memory", "nodes"),
    ("blixard top --o", "--output --once", "--sort-by"),
    ("blixard vm status ", "", "web --stale"),
    ("blixard vm exec web --s", "--stdin --socket", "--tty"),
    ("blixard vm exec web -- l", "", "list logs"),
    ("blixard vm exec web -- ls --s", "", "--stdin --socket"),
    ("blixard vm exec web ls ", "", "vm web"),
    ("blixard nosuch ", "", "vm list"),
])
def test_completion_knows_commands_flags_and_values(line, offered, not_offered):
    found = complete(line)
    # a second name is accepted, not offered
    assert [word for word in offered.split() if word not in found and word != "--format"] == []
    assert [word for word in not_offered.split() if word in found] == []


def test_completion_of_a_value_in_its_flag_s_own_word():
    done = run("blixard", "__complete", "vm", "list", "--format=")
    assert done.stdout.split() == [f"--format={name}" for name in ("table", "wide", "json", "yaml", "name")]
    assert run("blixard", "__complete", "vm", "list", "--nosuch=").stdout == ""
    assert run("blixard", "__complete").stdout.split() == run("blixard", "__complete", "").stdout.split() != []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_script_is_one_that_the_shell_can_read(shell):
    script = run("blixard", "completion", shell).stdout
    assert "_blixard()" in script and "blixard __complete" in script
    assert (shell == "zsh") == script.startswith("#compdef blixard\n")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_flag_is_in_its_man_page():
    for program, page in (("blixard", "blixard.1"), ("blixardd", "blixardd.8")):
        text = (clusters.ROOT / "docs/man" / page).read_text()
        pages = [run(program, "--help").stdout]
        if program == "blixard":
            verbs = re.findall(r"^  ((?:vm|cluster|node|ha|audit) [a-z-]+|get|events|explain)", pages[0], re.M)
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
        clusters.until(lambda: "load_cpu_permille" in cluster.json("node", "describe", "n1")["node"], 30, "a load")
        yield cluster
    finally:
        cluster.close()


def ask(cluster, *words, **more):
    return run("blixard", *words, at=cluster.nodes[0].socket, **more)


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
    done = ask(one, "vm", "create", "no", "--flake", "x#y", "--hypervisor", "firecracker")
    assert done.returncode == EXIT_USAGE and done.stderr.rstrip().split("[")[-1].startswith("UNSUPPORTED")
    done = ask(one, "cluster", "settings", "set", "--overcommit", "cpu=200", "--overcommit", "class=burst:cpu=300")
    assert done.returncode == EXIT_USAGE and "put it last [INVALID]" in done.stderr
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


def test_interrupted_wait_after_a_change_names_its_request(one):
    process = start(one, "vm", "create", "far", "--flake", "x#y", "--node-selector", "site=moon", "--wait",
                    "--request-id", "far-0001")
    assert process.stdout.readline() == "vm/far created\n"
    clusters.until(lambda: catches(process.pid, signal.SIGINT), 10, "the wait has begun")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == EXIT_RETRY and out == ""
    assert err == ("blixard: stopped waiting for far to be Running; it goes on as request far-0001, see "
                   "`blixard vm status far` [CANCELLED]\n")
    assert ask(one, "vm", "delete", "far", "--wait").returncode == EXIT_OK


def at_terminal(cluster, *words):
    """Exit status, standard output, and what a terminal was shown on standard error."""
    ours, theirs = os.openpty()
    environment = {"PATH": os.environ["PATH"], "BLIXARD_SOCKET": str(cluster.nodes[0].socket)}
    with subprocess.Popen([str(clusters.BIN / "blixard"), *words], env=environment, stdout=subprocess.PIPE,
                          stderr=theirs, stdin=subprocess.DEVNULL, text=True) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out, shown.decode().replace("\r\n", "\n")


def test_a_wait_shows_its_progress_at_a_terminal(one):
    status, out, shown = at_terminal(one, "vm", "create", "slow", "--flake", "x#y", "--memory", "64", "--wait")
    assert status == EXIT_OK and out == "vm/slow created\nvm/slow is Running\n"
    lines = shown.splitlines()
    assert lines[0] == "waiting for slow to be Running"
    assert re.match(r"  slow-1: (Pending|Creating|Starting|Running)(, .+)?$", lines[1]) and "\x1b" not in shown
    status, out, shown = at_terminal(one, "vm", "pause", "slow", "--wait")
    assert (status, out) == (EXIT_OK, "vm/slow will be paused\nvm/slow is paused\n")
    assert shown.startswith("waiting for slow to be paused\n")
    assert at_terminal(one, "vm", "delete", "slow", "--wait")[0] == EXIT_OK


def test_who_may_not_use_the_socket_is_told_so_with_exit_4(one):
    one.dir.chmod(0o755)
    done = ask(one, "vm", "list", user=65534, group=65534, extra_groups=[])
    assert done.returncode == EXIT_DENIED and done.stdout == ""
    assert "may not be used by you" in done.stderr and done.stderr.endswith("[DENIED]\n")
    assert len(done.stderr.splitlines()) == 1


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


def test_completion_offers_names_that_the_daemon_has(one):
    socket_path = one.nodes[0].socket
    assert complete("blixard vm status w", at=socket_path) == ["web"]
    assert complete("blixard get vm ", at=socket_path) == ["web"]
    assert complete("blixard get instances ", at=socket_path) == ["web-1", "web-2"]
    assert complete("blixard get node ", at=socket_path) == ["n1"]
    assert complete(f"blixard --socket {socket_path} vm stop ") == ["web"]
    assert complete("blixard vm create ", at=socket_path) == []


def test_completion_does_not_wait_for_a_daemon_that_is_silent(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen(8)
        began = time.monotonic()
        assert complete("blixard vm status ", at=tmp_path / "s") == []
        assert time.monotonic() - began < 3


def interrupted(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (EXIT_OK, "")
    return out.splitlines()


def until_line(process, condition):
    """Lines up to the one that fulfils the condition."""
    lines = []
    while not lines or not condition(lines[-1]):
        lines.append(process.stdout.readline())
        assert lines[-1] != "", (lines, process.stderr.read())
    return lines


def test_watched_list_prints_a_line_for_each_change_until_interrupted(one):
    process = start(one, "vm", "list", "--watch", "--filter", "name=seen")
    try:
        heading = until_line(process, lambda line: line.startswith("NAME"))
        for name in ("seen", "other"):
            assert ask(one, "vm", "create", name, "--flake", "x#y", "--wait").returncode == EXIT_OK
        running = until_line(process, lambda line: " 1/1 " in line)
        for name in ("other", "seen"):
            assert ask(one, "vm", "delete", name, "--wait").returncode == EXIT_OK
        gone = until_line(process, lambda line: " Deleted " in line)
        assert len(heading) == 1 and {line.split()[0] for line in running + gone} == {"seen"}
        assert [a for a, b in zip(running, running[1:]) if a == b] == []
    finally:
        assert interrupted(process) == []


def test_watched_list_is_one_json_document_a_line(one):
    process = start(one, "get", "vm", "-w", "-o", "json")
    try:
        first = json.loads(process.stdout.readline())
        assert (first["type"], first["vm"]["spec"]["name"]) == ("created", "web")
        assert ask(one, "vm", "create", "lines", "--flake", "x#y", "--stopped").returncode == EXIT_OK
        assert ask(one, "vm", "delete", "lines", "--wait").returncode == EXIT_OK
        seen = [json.loads(line) for line in until_line(process, lambda line: '"deleted"' in line)]
        assert seen[0]["type"] == "created" and seen[-1]["type"] == "deleted"
        assert {row["vm"]["spec"]["name"] for row in seen} == {"lines"}
        assert len({row["vm"]["uid"] for row in seen}) == 1
    finally:
        assert interrupted(process) == []


def test_events_are_those_of_one_object_and_resume_by_index(one):
    assert ask(one, "vm", "create", "told", "--flake", "x#y", "--wait").returncode == EXIT_OK
    everything = json.loads(ask(one, "events", "-o", "json").stdout)["events"]
    told = json.loads(ask(one, "events", "--for", "vm/told", "-o", "json").stdout)["events"]
    assert told == [e for e in everything if e["kind"] != "node" and e["vm"] == "told"] and len(told) > 3
    assert [e["index"] for e in everything] == sorted(e["index"] for e in everything)
    assert all(("phase" in e) == (e["kind"] in ("vm", "instance")) for e in everything)
    middle = told[len(told) // 2]["index"]
    later = json.loads(ask(one, "events", "--for", "vm/told", "--since", str(middle), "-o", "json").stdout)["events"]
    assert later == [e for e in told if e["index"] > middle]
    objects = json.loads(ask(one, "events", "--since", "0", "-o", "json").stdout)["events"]
    assert {e["type"] for e in objects} == {"created"}
    assert {e["name"] for e in objects} == {"n1", "web", "web-1", "web-2", "told", "told-1"}
    assert ask(one, "vm", "delete", "told", "--wait").returncode == EXIT_OK


def test_events_are_followed_over_a_restart_without_loss_or_repetition(new_cluster):
    cluster = new_cluster(names=("n1", "n2", "n3"))
    cluster.form()
    follower = [n for n in cluster.nodes if n is not cluster.leader()][0]
    process = start(cluster, "events", "-f", "-o", "json", "--socket", str(follower.socket))
    try:
        cluster.cli("vm", "create", "before", "--flake", "x#y", "--stopped")
        seen = until_line(process, lambda line: '"name":"before-1"' in line)
        follower.terminate()
        asked = [n for n in cluster.nodes if n is not follower][0]
        cluster.cli("vm", "create", "during", "--flake", "x#y", "--stopped", node=asked)
        follower.start()
        cluster.cli("vm", "create", "after", "--flake", "x#y", "--stopped", node=asked)
        seen += until_line(process, lambda line: '"name":"after-1"' in line)
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (EXIT_OK, ""), err
    created = [(e["name"], e["uid"]) for e in map(json.loads, seen) if e["type"] == "created" and e["kind"] != "node"]
    assert [name for name, _ in created if name in ("before", "during", "after")] == ["before", "during", "after"]
    assert len(set(created)) == len(created)


@pytest.mark.parametrize("words", ["vm list -w", "events -f", "node list -w -o json", "get instances -w -o name"])
def test_reader_of_a_watch_that_goes_away_is_no_failure(one, words):
    process = start(one, *words.split())
    assert process.stdout.readline() != ""
    process.stdout.close()
    assert process.wait(10) == EXIT_OK and process.stderr.read() == ""
    process.stderr.close()


def test_watch_of_a_daemon_that_does_not_come_back_ends_with_exit_6(new_cluster):
    cluster = new_cluster(names=("n1",))
    cluster.form()
    process = start(cluster, "vm", "list", "-w", "--timeout", "1s")
    assert process.stdout.readline().startswith("NAME")
    cluster.nodes[0].terminate()
    out, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_RETRY and len(err.splitlines()) == 1 and "[UNAVAILABLE]" in err


def test_list_longer_than_one_answer_comes_whole(new_cluster):
    """260 VMs of 17 KB each are more than the 4 MiB of an answer."""
    cluster = new_cluster(names=("n1",), log_level="info")
    cluster.form()
    labels = [word for i in range(64) for word in ("--label", f"k{i}={'v' * 250}")]
    names = [f"big-{i:03}" for i in range(260)]
    for name in names:
        cluster.cli("vm", "create", name, "--flake", "x#y", "--stopped", *labels)
    document = json.loads(ask(cluster, "vm", "list", "-o", "json").stdout)
    assert [vm["spec"]["name"] for vm in document["vms"]] == names and document["next"] == ""
    assert ask(cluster, "vm", "list", "-o", "name").stdout.split() == [f"vm/{name}" for name in names]
    table = ask(cluster, "vm", "list", "--columns", "name,label.k63", "--no-headers", "--sort-by", "-name").stdout
    assert [line.split() for line in table.splitlines()] == [[name, "v" * 250] for name in reversed(names)]
    instances = ask(cluster, "get", "instances", "-o", "name").stdout.split()
    assert instances == [f"instance/{name}-1" for name in names]


def test_output_in_a_pipe_has_no_colour_and_no_progress(one):
    for words in ("vm list", "vm list -o wide", "events", "explain vm", "help", "vm wait web --for phase=Running"):
        done = ask(one, *words.split(), env={"TERM": "xterm-256color", "LC_ALL": "tr_TR.UTF-8", "COLUMNS": "7"})
        assert done.returncode == EXIT_OK and done.stderr == ""
        assert "\x1b" not in done.stdout and "\r" not in done.stdout


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
