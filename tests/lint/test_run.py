"""The test runner counts what it should, and counts what broke as failed."""
import os
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUMMARY = "100%: Checks: {}, Failures: {}, Errors: 0"


def run(tmp_path, *args):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests/run.py"), "--out", str(tmp_path / "out"), *args],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.splitlines(), done.returncode


def script(tmp_path, name, body):
    path = tmp_path / name
    path.write_text("#!/bin/bash\n" + body + "\n")
    path.chmod(0o755)
    return str(path)


def test_checks_of_programs_are_summed(tmp_path):
    a = script(tmp_path, "a", "echo " + SUMMARY.format(5, 0))
    b = script(tmp_path, "b", "echo " + SUMMARY.format(2, 0) + '; echo "SKIP: no nix"')
    lines, status = run(tmp_path, "--unit", a, b)
    assert (lines[-1], status) == ("6 passed, 0 failed, 1 skipped", 0)
    assert any("no nix" in line for line in lines)


def test_program_without_a_summary_failed(tmp_path):
    lines, status = run(tmp_path, "--unit", script(tmp_path, "a", "exit 0"))
    assert (lines[-1], status) == ("0 passed, 1 failed, 0 skipped", 1)


def test_program_that_crashes_after_its_summary_failed(tmp_path):
    lines, status = run(tmp_path, "--unit", script(tmp_path, "a", f"echo {SUMMARY.format(3, 0)}; kill -SEGV $$"))
    assert (lines[-1], status) == ("3 passed, 1 failed, 0 skipped", 1)


def test_failed_checks_count_and_their_output_is_shown(tmp_path):
    a = script(tmp_path, "a", f"echo because; echo {SUMMARY.format(3, 2)}; exit 1")
    lines, status = run(tmp_path, "--unit", a)
    assert (lines[-1], status) == ("1 passed, 2 failed, 0 skipped", 1)
    assert any("| because" in line for line in lines)


def test_program_past_its_deadline_failed(tmp_path):
    lines, _ = run(tmp_path, "--timeout", "1", "--unit", script(tmp_path, "a", "sleep 60"))
    assert lines[-1] == "0 passed, 1 failed, 0 skipped"
    assert any("killed after 1 s" in line for line in lines)


def test_program_may_skip_as_a_whole(tmp_path):
    ok = script(tmp_path, "ok", "echo " + SUMMARY.format(1, 0))
    lines, status = run(tmp_path, "--unit", ok, script(tmp_path, "a", "echo no kvm here; exit 77"))
    assert (lines[-1], status) == ("1 passed, 0 failed, 1 skipped", 0)


def test_commands_count_as_declared_or_as_they_say(tmp_path):
    lines, status = run(tmp_path, "--cmd", "sim:200=true", "own:1=echo '3 passed, 0 failed, 1 skipped'")
    assert (lines[-1], status) == ("203 passed, 0 failed, 1 skipped", 0)
    lines, status = run(tmp_path, "--cmd", "sim:200=false")
    assert (lines[-1], status) == ("0 passed, 200 failed, 0 skipped", 1)


def test_pytest_is_counted_by_its_report(tmp_path):
    (tmp_path / "test_x.py").write_text("import pytest\n\ndef test_a():\n    pass\n\n"
                                        "def test_b():\n    assert False\n\n"
                                        "def test_c():\n    pytest.skip('no network')\n")
    lines, status = run(tmp_path, "--pytest", str(tmp_path / "test_x.py"))
    assert (lines[-1], status) == ("1 passed, 1 failed, 1 skipped", 1)
    assert any("no network" in line for line in lines)


def test_nothing_run_is_no_success(tmp_path):
    lines, status = run(tmp_path)
    assert (lines[-1], status) == ("0 passed, 0 failed, 0 skipped", 1)


def test_interrupt_ends_what_runs(tmp_path):
    argv = [sys.executable, os.path.join(ROOT, "tests/run.py"), "--out", str(tmp_path / "out"), "--cmd",
            f"sleep:1=echo $$ > {tmp_path}/pid; sleep 60; true"]
    runner = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(30) == 128 + signal.SIGINT
    group = (tmp_path / "pid").read_text().strip()
    left = subprocess.run(["ps", "-o", "stat=", "-g", group], text=True, stdout=subprocess.PIPE).stdout.split()
    assert [state for state in left if not state.startswith("Z")] == []
