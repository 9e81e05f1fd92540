"""blixardd's configuration: each key and flag, each kind of error, what can be told without starting."""

import os
import re
import shlex
import stat

import pytest
import yaml

from cluster import EXIT_OK, EXIT_USAGE, ROOT
from daemons import blixardd, keys

# Key -> another value than its default. test_every_key_is_tried sees to it that none is missing.
VALUES = {
    "data_dir": "/srv/blixard",
    "name": "n7",
    "socket": "/run/other.sock",
    "bootstrap": True,
    "simulate_vms": True,
    "capacity": {"vcpus": 3, "memory_mib": 4096},
    "label": {"zone": "a, b", "rack": 'say "1"\\', "empty": ""},
    "log_level": "debug",
    "shim": "/opt/shim",
    "guest": "/opt/guest",
    "runner_dir": "/opt/runner",
    "kernel_dir": "/opt/kernel",
    "nix_store_dir": "/opt/é",
    "nixpkgs_ref": "github:NixOS/nixpkgs/" + "0123456789" * 4,
    "microvm_ref": "git+https://example.org/microvm.nix?ref=main&rev=" + "abcdef0123" * 4,
    "share_paths": "/srv/a:/srv/b c",
    "virtiofsd": "/opt/virtiofsd",
    "heartbeat_ms": 100,
    "election_ms": 3000,
    "unsafe_fs": True,
    "audit_max_age": 30,
    "audit_max_size": 512,
    "events_max_age": 14,
    "events_max_size": 64,
    "reserve_vcpus": 1,
    "reserve_memory": 900,
    "watchdog": "/opt/watchdog",
    "watchdog_device": "/dev/watchdog1",
    "no_watchdog": True,
}

PARTS = ["--simulate-vms=false", "--shim", "/bin/true", "--guest", "/bin/true", "--runner-dir", "/",
         "--kernel-dir", "/"]
NARROW = "path:/opt/flake?narHash=sha256-" + "A1+/" * 10 + "abc="


def flags_of(key, value):
    flag = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else [f"{flag}=false"]
    if key == "label":
        return [word for pair in value.items() for word in (flag, "=".join(pair))]
    if key == "capacity":
        return [flag, ",".join(f"{part}={number}" for part, number in value.items())]
    return [flag, str(value)]


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file."""

    def write(text, mode=0o644):
        path = tmp_path / "blixardd.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


def printed(*arguments):
    done = blixardd(*arguments, "--print-config")
    assert done.returncode == EXIT_OK and done.stderr == "", done.stderr
    return yaml.safe_load(done.stdout), done.stdout


def refused(path, *arguments):
    """What is said of a file, without its name."""
    done = blixardd("--config", path, *arguments)
    assert done.returncode == EXIT_USAGE and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith(f"{path}:") for line in lines), done.stderr
    return [line[len(str(path)) + 1:] for line in lines]


# ---- one table for both


def test_every_key_is_tried_here_and_is_a_flag():
    assert sorted(keys()) == sorted(VALUES)
    told = blixardd("--help").stdout
    flags = set(re.findall(r"^  --([a-z-]+)", told, re.M))
    orders = {"config", "check-config", "print-config", "help", "version"}
    assert flags - orders == {key.replace("_", "-") for key in VALUES}


@pytest.mark.parametrize("key", VALUES)
def test_a_key_and_its_flag_mean_the_same_and_come_back(file, key):
    path = file(yaml.safe_dump({key: VALUES[key]}, allow_unicode=True))
    by_file, text = printed("--config", path)
    by_flag, flag_text = printed(*flags_of(key, VALUES[key]))
    assert by_file == by_flag and by_file[key] == VALUES[key]
    assert re.search(rf"^{key}:.*  # {re.escape(str(path))}:1$", text, re.M)
    assert re.search(rf"^{key}:.*  # command line$", flag_text, re.M)
    again, _ = printed("--config", file(flag_text))
    assert again == by_flag


@pytest.mark.parametrize("key", VALUES)
def test_a_flag_wins_over_the_file(file, key):
    path = file(yaml.safe_dump({key: VALUES[key]}, allow_unicode=True))
    others = {"capacity": {"vcpus": 9, "memory_mib": 999}, "label": {"only": "this"}, "log_level": "error",
              "name": "n8", "heartbeat_ms": 50, "election_ms": 4000, "audit_max_age": 7, "audit_max_size": 9,
              "events_max_age": 3, "events_max_size": 5, "reserve_vcpus": 2, "reserve_memory": 700,
              "nixpkgs_ref": NARROW, "microvm_ref": NARROW}
    other = others.get(key, False if isinstance(VALUES[key], bool) else "/another/path")
    values, text = printed("--config", path, *flags_of(key, other))
    assert values[key] == other
    assert re.search(rf"^{key}:.*  # command line$", text, re.M)


def test_a_value_in_the_file_is_checked_though_a_flag_wins(file):
    assert refused(file("heartbeat_ms: 5\n"), "--heartbeat-ms", "50") == [
        '1:15: heartbeat_ms: "5" is not a whole number from 10 to 1000 (ms)']


def test_the_whole_configuration_printed_is_a_file_that_says_the_same(file):
    values, text = printed(*[word for key in VALUES for word in flags_of(key, VALUES[key])])
    assert values == VALUES
    assert printed("--config", file(text))[0] == VALUES


@pytest.mark.parametrize("paths", ["srv", "/srv:", ":/srv", "/srv::/b", "/srv:b", "/" + "a" * 1024])
def test_a_list_of_paths_holds_whole_paths_only(file, paths):
    (line,) = refused(file(f"share_paths: '{paths}'\n"))
    assert line.startswith("1:14: share_paths: ") and "is not a list of paths that begin with /, with : between" in line


@pytest.mark.parametrize("ref", ["github:NixOS/nixpkgs", "github:NixOS/nixpkgs/nixos-24.11", "/etc/nixpkgs",
                                 "git+file:///x?rev=abc", "path:/x?narHash=sha256-AAAA", "github:a/b/c/" + "0" * 40])
def test_a_flake_reference_that_moves_is_refused(file, ref):
    (line,) = refused(file(f"nixpkgs_ref: '{ref}'\n"))
    assert line.startswith(f'1:14: nixpkgs_ref: "{ref}" is not a pinned flake reference'), line


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n", "~\n", "{}\n", "---\n...\n"])
def test_a_file_that_says_nothing_leaves_the_defaults(file, text):
    assert printed("--config", file(text))[0] == printed()[0]


def test_the_usual_file_is_read_if_it_is_there():
    script = ("mount -t tmpfs none /etc && mkdir /etc/blixard"
              " && printf 'heartbeat_ms: 77\\n' >/etc/blixard/blixardd.yaml")
    if os.geteuid() != 0 or blixardd(wrap=("unshare", "-m", "true")).returncode != 0:
        pytest.skip("needs a mount namespace of its own")
    done = blixardd("--print-config", wrap=("unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh"))
    assert "heartbeat_ms: 77  # /etc/blixard/blixardd.yaml:1\n" in done.stdout, done.stderr


# ---- each kind of error, with its place


@pytest.mark.parametrize("text, said", [
    ("hartbeat_ms: 100\n", '1:1: there is no key "hartbeat_ms"; the nearest is heartbeat_ms'),
    ("\n  data-dir: /x\n", '2:3: there is no key "data-dir"; the nearest is data_dir'),
    ("pineapple: 1\n", '1:1: there is no key "pineapple"; `blixardd --help` has them all, as flags'),
    ("check_config: true\n", '1:1: there is no key "check_config"; `blixardd --help` has them all, as flags'),
    ("version: 1\n", '1:1: "version" is for the command line only'),
    ("heartbeat_ms: 9\n", '1:15: heartbeat_ms: "9" is not a whole number from 10 to 1000 (ms)'),
    ("heartbeat_ms: 1001\n", '1:15: heartbeat_ms: "1001" is not a whole number from 10 to 1000 (ms)'),
    ("heartbeat_ms: 1e2\n", '1:15: heartbeat_ms: "1e2" is not a whole number from 10 to 1000 (ms)'),
    ("heartbeat_ms: -1\n", '1:15: heartbeat_ms: "-1" is not a whole number from 10 to 1000 (ms)'),
    ("heartbeat_ms: 99999999999999999999\n",
     '1:15: heartbeat_ms: "99999999999999999999" is not a whole number from 10 to 1000 (ms)'),
    ('heartbeat_ms: "100"\n', '1:15: heartbeat_ms: "100" in quotes is text, not a whole number from 10 to 1000 (ms)'),
    ("heartbeat_ms: [100]\n", "1:15: heartbeat_ms: this is a list, not a whole number from 10 to 1000 (ms)"),
    ("heartbeat_ms: {a: 1}\n", "1:15: heartbeat_ms: this is a mapping, not a whole number from 10 to 1000 (ms)"),
    ("heartbeat_ms:\n",
     "1:14: heartbeat_ms: has no value; give a whole number from 10 to 1000 (ms), or leave the key out"),
    ("heartbeat_ms: !!int 100\n", '1:15: tags are not taken: leave "tag:yaml.org,2002:int" out'),
    ("election_ms: 500\n", "1:1: election_ms: 500 ms is less than 5 heartbeats (1000 ms)"),
    ("bootstrap: yes\n", '1:12: bootstrap: "yes" is not true or false'),
    ('bootstrap: "true"\n', '1:12: bootstrap: "true" in quotes is text, not true or false'),
    ("log_level: loud\n", '1:12: log_level: "loud" is not error, warning, info or debug'),
    ("name: N_1\n", '1:7: name: "N_1" is not a name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters'),
    ("name: " + "n" * 64 + "\n",
     f'1:7: name: "{"n" * 64}" is not a name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters'),
    ("data_dir: some/where\n",
     '1:11: data_dir: "some/where" is relative, which in a file says nothing: begin with /'),
    ('data_dir: ""\n', '1:11: data_dir: "" is not a path of 1 to 80 bytes'),
    ("data_dir: /" + "d" * 80 + "\n", f'1:11: data_dir: "/{"d" * 80}" is not a path of 1 to 80 bytes'),
    ("socket: /" + "s" * 107 + "\n", f'1:9: socket: "/{"s" * 89}..." is not a path of 1 to 107 bytes'),
    ('socket: "/a\\nb"\n', '1:9: socket: "/a?b" is not a path of 1 to 107 bytes'),
    ('socket: "/a\\0b"\n', "1:9: socket: holds a byte of value 0"),
    ("socket: " + "s" * 5000 + "\n", "1:9: socket: is longer than 4096 bytes"),
    ("name: a\nname: b\n", "2:1: name is given twice, in line 1 first: keep one"),
    ("capacity: 4\n", "1:11: capacity: this is text; write {vcpus: N, memory_mib: N}"),
    ("capacity: {vcpus: 4}\n",
     "1:11: capacity: memory_mib is missing: a capacity is made of vcpus and memory_mib"),
    ("capacity: {}\n", "1:11: capacity: vcpus is missing: a capacity is made of vcpus and memory_mib"),
    ("capacity: {vcpus: 0, memory_mib: 64}\n", '1:12: capacity: vcpus: "0" is not a whole number from 1 to 65536'),
    ("capacity: {vcpus: 1, memory_mib: 512 MB}\n",
     '1:22: capacity: memory_mib: "512 MB" is not a whole number from 32 to 1073741824'),
    ("capacity: {vcpus: 1, memory_mib: 64, gpu: many}\n",
     '1:38: capacity: gpu: "many" is not an amount: a whole number, which MiB, GiB or TiB may follow, or shared'),
    ("capacity: {vcpus: 1, memory_mib: 64, gpu: 1, gpu: 2}\n", '1:46: capacity: "gpu" is given twice'),
    ("capacity: {vcpus: 1, vcpus: 2, memory_mib: 64}\n", "1:22: capacity.vcpus is given twice"),
    ("label: [a, b]\n", "1:8: label: this is a list; write {KEY: VALUE}"),
    ("label: {a: 1, a: 2}\n", '1:15: label: the label "a" is given twice'),
    ("label: {a: [1]}\n", "1:12: label.a: this is a list, not text"),
    ("label: {a: }\n", "1:12: label.a: has no value; give text, or leave the key out"),
    ("label: {" + "k" * 64 + ": 1}\n", f'1:9: label: "{"k" * 64}" is not a label: at most 64, a key of 1 to 63 bytes, '
     "a value of at most 253"),
    ("label: {" + ", ".join(f"k{i}: 1" for i in range(65)) + "}\n",
     '1:511: label: "k64" is not a label: at most 64, a key of 1 to 63 bytes, a value of at most 253'),
    ("name: &x a\n", "1:7: anchors and aliases are not taken: write the value out"),
    ("name: *x\n", "1:7: anchors and aliases are not taken: write the value out"),
    ("<<: {name: a}\n", '1:1: there is no key "<<"; `blixardd --help` has them all, as flags'),
    ("? [a]\n: b\n", "1:3: a key: this is a list, not a word"),
    ("- name\n", "1:1: this is a list; the file is a mapping, KEY: VALUE in each line"),
    ("name\n", "1:1: this is text; the file is a mapping, KEY: VALUE in each line"),
    ("name: a\n---\nname: b\n", "2:1: a second document begins here; one is all there may be"),
    ("label: {a: 1\n", "2:1: this is not YAML: did not find expected ',' or '}', while parsing a flow mapping"),
    ("name: a\n@socket: /b\n", "2:1: this is not YAML: found character that cannot start any token, "
     "while scanning for the next token"),
    (b"name: a\n#\n\xff\n", "3:1: this is not YAML: invalid leading UTF-8 octet"),
    ("name: a\n".encode("utf-16"), "1:1: this is not YAML: invalid leading UTF-8 octet"),
    (b"name: a\n\0", "2:1: this is not YAML: control characters are not allowed"),
])
def test_a_fault_is_told_with_its_place_and_what_would_do(file, text, said):
    assert refused(file(text)) == [said]


def test_all_faults_of_a_file_are_told_in_one_go(file):
    assert refused(file("nam: a\nheartbeat_ms: 1\n\nlog_level: x\nname: &a b\n")) == [
        '1:1: there is no key "nam"; the nearest is name',
        '2:15: heartbeat_ms: "1" is not a whole number from 10 to 1000 (ms)',
        '4:12: log_level: "x" is not error, warning, info or debug',
        "5:7: anchors and aliases are not taken: write the value out",
    ]


def test_of_very_many_faults_twenty_are_told_and_the_rest_counted(file):
    lines = refused(file("".join(f"k{i}: 1\n" for i in range(5000))))
    assert len(lines) == 21 and lines[-1] == " and 4980 more"


@pytest.mark.parametrize("shape", [
    lambda: "[" * 1000000,
    lambda: "name: " + "{a: " * 200000,
    lambda: "".join(" " * i + "a:\n" for i in range(1200)),
])
def test_deep_nesting_is_refused_at_once(file, shape):
    done = blixardd("--config", file(shape()), timeout=5)
    assert done.returncode == EXIT_USAGE
    assert "nested deeper than 8" in done.stderr


@pytest.mark.parametrize("make, said", [
    (lambda path: path.write_bytes(b"#" * (1 << 20) + b"\n"), "is longer than 1 MiB"),
    (lambda path: os.mkfifo(path, 0o600), "is not a regular file"),
    (lambda path: path.mkdir(), "is not a regular file"),
    (lambda path: None, "cannot be read: No such file or directory"),
    (lambda path: (path.touch(), path.chmod(0o666)), "may be written by others than its owner"),
    (lambda path: (path.touch(), path.chmod(0o664)), "may be written by others than its owner"),
    (lambda path: (path.touch(), os.chown(path, 65534, 0)), "or is another user's: run chown and chmod 0644"),
])
def test_what_is_no_file_to_be_trusted_is_refused(tmp_path, make, said):
    path = tmp_path / "c.yaml"
    before = os.umask(0o022)
    make(path)
    os.umask(before)
    done = blixardd("--config", path)
    assert done.returncode == EXIT_USAGE and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"blixardd: --config: {path} ") and said in done.stderr


@pytest.mark.parametrize("arguments, said", [
    (["--hartbeat-ms", "5"], "there is no flag --hartbeat-ms, --heartbeat-ms is near; see `blixardd --help`"),
    (["--label", "a=1", "--label", "a=2"], '--label: the label "a" is given twice'),
    (["--capacity", "vcpus=4"], "--capacity: memory_mib is missing: a capacity is made of vcpus and memory_mib"),
    (["--bootstrap=maybe"], '--bootstrap: "maybe" is not true or false'),
    (["--name", "../x"], '--name: "../x" is not a name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters'),
    (["--name", ""], '--name: "" is not a name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters'),
    (["--election-ms", "100"], "--election-ms: 100 ms is less than 5 heartbeats (1000 ms)"),
    (["--config", ""], '--config: "" is not a path'),
])
def test_a_wrong_flag_is_one_line(arguments, said):
    done = blixardd(*arguments)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr == f"blixardd: {said} [INVALID]\n"


# ---- --check-config


def check(*arguments, **more):
    done = blixardd("--check-config", "--simulate-vms", *arguments, **more)
    assert done.returncode == (EXIT_USAGE if done.stderr else EXIT_OK), done.stderr
    return done.stderr.splitlines()


def test_a_configuration_without_a_fault_is_called_so_and_nothing_is_made(tmp_path, file):
    path = file(f"data_dir: {tmp_path}/data\nsimulate_vms: true\nname: a\n")
    done = blixardd("--check-config", "--config", path)
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, f"blixardd: nothing wrong with {path}\n", "")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("prepare, arguments, said", [
    (lambda d: d.chmod(0o777), [], "--data-dir: {d} may be written by everyone (mode 777): run chmod 0711 on it"),
    (lambda d: d.chmod(0o770), [], "--data-dir: {d} may be written by its group (mode 770): run chmod 0711 on it"),
    (lambda d: os.chown(d, 65534, 0), [],
     "--data-dir: {d} belongs to user 65534, this daemon is user 0: run chown on it"),
    (lambda d: (d.rmdir(), d.touch()), [], "--data-dir: {d} is not a directory: give another one"),
    (lambda d: (d / "blixard.sock").touch(), [],
     "--socket: {d}/blixard.sock is in the way: it is not a socket; move it or choose another path"),
    (lambda d: None, ["--socket", "/nowhere/at/all.sock"],
     "--socket: its directory /nowhere/at: No such file or directory"),
    (lambda d: None, ["--simulate-vms=false", "--shim", "/nowhere/shim", "--guest", "/bin/true", "--runner-dir", "/",
                      "--kernel-dir", "/"], "--shim: /nowhere/shim: No such file or directory"),
    (lambda d: None, ["--simulate-vms=false", "--shim", "/bin/true", "--guest", "/etc/passwd", "--runner-dir", "/",
                      "--kernel-dir", "/"], "--guest: /etc/passwd is not a program that can be run"),
    (lambda d: None, ["--simulate-vms=false", "--shim", "/bin/true", "--guest", "/bin/true", "--runner-dir", "/",
                      "--kernel-dir", "/etc/passwd"], "--kernel-dir: /etc/passwd is not a directory"),
    (lambda d: None, [*PARTS, "--share-paths", "/usr:/nowhere"], "--share-paths: /nowhere: No such file or directory"),
    (lambda d: None, [*PARTS, "--virtiofsd", "/nowhere"], "--virtiofsd: /nowhere: No such file or directory"),
    (lambda d: None, ["--election-ms", "900"], "--election-ms: 900 ms is less than 5 heartbeats (1000 ms)"),
])
def test_what_lies_on_the_disk_is_looked_at(tmp_path, prepare, arguments, said):
    directory = tmp_path / "data"
    directory.mkdir(0o711)
    prepare(directory)
    assert check("--data-dir", directory, *arguments) == [f"blixardd: {said.format(d=directory)} [INVALID]"]


def test_guests_of_the_template_need_two_references_and_no_kernel(tmp_path):
    template = ROOT / "nix/vm-template"
    common = ["--data-dir", tmp_path, "--simulate-vms=false", "--shim", "/bin/true", "--guest", "/bin/true",
              "--runner-dir", template]
    pinned = VALUES["nixpkgs_ref"]
    tmp_path.chmod(0o711)
    says = f"{template} makes guests from nixpkgs and microvm.nix: say which, by pinned flake references [INVALID]"
    assert check(*common) == [f"blixardd: --nixpkgs-ref: {says}", f"blixardd: --microvm-ref: {says}"]
    assert check(*common, "--nixpkgs-ref", pinned) == [f"blixardd: --microvm-ref: {says}"]
    assert check(*common, "--nixpkgs-ref", pinned, "--microvm-ref", pinned) == []


def test_findings_name_the_line_that_gave_the_value_and_come_all_at_once(tmp_path, file):
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o777)
    path = file(f"name: a\ndata_dir: {directory}\nsocket: /nowhere/x.sock\nelection_ms: 60\nlog_level: x\n")
    assert check("--config", path) == [
        f'{path}:5:12: log_level: "x" is not error, warning, info or debug',
        f"{path}:4:1: election_ms: 60 ms is less than 5 heartbeats (1000 ms)",
        f"{path}:2:1: data_dir: {directory} may be written by everyone (mode 777): run chmod 0711 on it",
        f"{path}:3:1: socket: its directory /nowhere: No such file or directory",
    ]


def test_findings_of_the_file_and_of_the_disk_are_counted_together(tmp_path, file):
    path = file("".join(f"k{i}: 1\n" for i in range(19)) + f"election_ms: 60\ndata_dir: {tmp_path}/none/data\n")
    (tmp_path / "none").touch()
    lines = check("--config", path, "--socket", "/nowhere/x.sock")
    assert len(lines) == 21 and lines[19] == f"{path}:20:1: election_ms: 60 ms is less than 5 heartbeats (1000 ms)"
    assert lines[20] == f"{path}: and 2 more"


def mounted(kind, directory, *arguments):
    """The check with a file system mounted on the directory, in a mount namespace that ends with it."""
    script = f'mount {kind} {shlex.quote(str(directory))} && exec "$@"'
    if os.geteuid() != 0 or blixardd(wrap=("unshare", "-m", "true")).returncode != 0:
        pytest.skip("needs a mount namespace of its own")
    return check("--data-dir", directory, *arguments, wrap=("unshare", "-m", "sh", "-c", script, "sh"))


def test_a_read_only_file_system_and_one_that_loses_data_are_found(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir(0o711)
    (line,) = mounted("-t tmpfs -o ro,mode=0711 none", directory)
    assert "is on a file system that is mounted read-only: mount it for writing" in line
    (line,) = mounted("-t ramfs -o mode=0711 none", directory)
    assert "on which a log is not known to survive a crash" in line
    assert mounted("-t ramfs -o mode=0711 none", directory, "--unsafe-fs") == []


def test_the_directory_that_will_be_made_is_judged_by_the_one_above(tmp_path):
    (tmp_path / "plain").touch()
    assert check("--data-dir", tmp_path / "plain/data") == [
        f"blixardd: --data-dir: {tmp_path}/plain is not a directory: give another one [INVALID]"]
    assert stat.S_ISREG((tmp_path / "plain").stat().st_mode)
