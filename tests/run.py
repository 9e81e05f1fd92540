#!/usr/bin/python3
"""Runs the project's tests and ends with one line: "N passed, N failed, N skipped".

  tests/run.py --unit BIN... --pytest PATH... --cmd NAME:COUNT=COMMAND...

--unit    libcheck programs. The line "100%: Checks: 5, Failures: 0, Errors: 0" is what counts; a program that ends
          without it failed. A program skips by printing "SKIP: reason" lines (each takes one of its checks), or as a
          whole by exit status 77, its last line being the reason.
--pytest  files or folders for pytest.
--cmd     a shell command that stands for COUNT tests: all passed with exit status 0, all skipped with 77, else all
          failed; unless its output has a line "N passed, N failed, N skipped", which then counts.

Programs come first, several at a time. Then pytest, which waits more than it works, one entry after another; beside it
the commands, likewise, with the lowest priority: they may compute, but start no daemons.

Each runs in a session of its own; at its deadline its group is killed. Output goes to files under --out and is
shown for what failed. An interrupt ends them all. Exit status 0 when something passed and nothing failed, else 1.
"""
import argparse
import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree

CHECK_LINE = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
SUM_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped", re.M)
SKIP_LINE = re.compile(r"^SKIP: (.+)$", re.M)
SHOWN_LINES_MAX = 80
SKIP_STATUS = 77
RUNNING = set()  # the groups of what runs now


def stop(number, _frame):
    for group in list(RUNNING):
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


class Result:
    def __init__(self, name):
        self.name, self.passed, self.failed, self.skips = name, 0, 0, []
        self.why, self.log, self.seconds = "", "", 0.0


def run_logged(argv, opts, result, seconds, env=None):
    """Returns the output and the exit status; None as status means that time ran out."""
    safe = re.sub(r"[^\w.-]+", "_", result.name)
    result.log = os.path.join(opts.out, safe + ".log")
    began = time.monotonic()
    with open(result.log, "wb") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=opts.root,
                                 env={**os.environ, **(env or {})}, start_new_session=True)
        RUNNING.add(child.pid)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        RUNNING.discard(child.pid)
    result.seconds = time.monotonic() - began
    with open(result.log, "rb") as log:
        return log.read().decode("utf-8", "replace"), status


def ended(status, seconds):
    if status is None:
        return f"was killed after {seconds} s"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def run_unit(program, opts):
    result = Result(os.path.relpath(program, opts.root))
    seconds = opts.timeout
    text, status = run_logged([os.path.abspath(program)], opts, result, seconds, {"CK_FORK": "no"})
    line = CHECK_LINE.search(text)
    if status == SKIP_STATUS:
        result.skips.append(last_line(text))
    elif not line:
        result.failed, result.why = 1, f"{ended(status, seconds)} before it said how many checks passed"
    else:
        checks, failures, errors = map(int, line.groups())
        result.skips = SKIP_LINE.findall(text)[:checks]
        result.failed = failures + errors
        result.passed = max(0, checks - result.failed - len(result.skips))
        if result.failed:
            result.why = f"{result.failed} of {checks} checks failed"
        elif status != 0:
            result.failed, result.why = 1, f"{ended(status, seconds)} though its checks passed"
        elif checks == 0:
            result.failed, result.why = 1, "has no checks"
    return result


def read_junit(path, result):
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skipped is not None:
            result.skips.append(f"{case.get('name')}: {skipped.get('message', 'no reason given')}")
        else:
            result.passed += 1


def run_pytest(path, opts):
    result = Result(os.path.relpath(path, opts.root))
    xml_path = os.path.join(os.path.abspath(opts.out), re.sub(r"[^\w.-]+", "_", result.name) + ".xml")
    if os.path.exists(xml_path):
        os.unlink(xml_path)
    argv = [opts.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={xml_path}", path]
    _, status = run_logged(argv, opts, result, opts.pytest_timeout, {"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        read_junit(xml_path, result)
    except (OSError, xml.etree.ElementTree.ParseError):
        result.failed += 1
        result.why = f"pytest {ended(status, opts.pytest_timeout)} without a report"
        return result
    if result.failed:
        result.why = f"{result.failed} tests failed"
    elif status != 0:
        result.failed, result.why = 1, f"pytest {ended(status, opts.pytest_timeout)} though its tests passed"
    return result


def run_cmd(entry, opts):
    match = re.match(r"([^:=]+):(\d+)=(.+)$", entry, re.S)
    result = Result(match.group(1))
    count, seconds = int(match.group(2)), opts.cmd_timeout
    text, status = run_logged(["/usr/bin/nice", "-n", "19", "/bin/bash", "-c", match.group(3)], opts, result, seconds)
    sums = SUM_LINE.findall(text)
    if sums:
        result.passed, result.failed, skipped = map(int, sums[-1])
        reasons = SKIP_LINE.findall(text)
        result.skips = (reasons + ["no reason given"] * skipped)[:skipped]
        if status != 0 and result.failed == 0:
            result.failed = 1
    elif status == 0:
        result.passed = count
    elif status == SKIP_STATUS:
        result.skips = [last_line(text)] * count
    else:
        result.failed = count
    if result.failed:
        result.why = f"{ended(status, seconds)}: {result.failed} failed"
    return result


def show(result):
    state = "FAIL" if result.failed else "skip" if result.skips and not result.passed else "ok"
    counts = f"{result.passed} passed" + (f", {len(result.skips)} skipped" if result.skips else "")
    print(f"  {state:4} {result.name}: {result.why or counts} ({result.seconds:.1f} s)", flush=True)
    if result.failed:
        with open(result.log, errors="replace") as log:
            lines = log.read().splitlines()
        for line in lines[-SHOWN_LINES_MAX:]:
            print(f"       | {line}")
        print(f"       | all of it: {result.log}", flush=True)


def run_all(opts):
    results, lock = [], threading.Lock()

    def note(result):
        with lock:
            results.append(result)
            show(result)

    def run_each(run, entries):
        for entry in entries:
            note(run(entry, opts))

    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run_unit, p, opts) for p in opts.unit]):
            note(done.result())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beside = pool.submit(run_each, run_cmd, opts.cmd)
        run_each(run_pytest, opts.pytest)
        beside.result()
    return results


def parse():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    args.add_argument("--unit", nargs="*", default=[], metavar="BIN")
    args.add_argument("--pytest", nargs="*", default=[], metavar="PATH")
    args.add_argument("--cmd", nargs="*", default=[], metavar="NAME:COUNT=COMMAND")
    args.add_argument("--out", default=os.path.join(here, "build/test-out"), help="folder for outputs")
    args.add_argument("--jobs", type=int, default=2, help="unit programs at a time")
    args.add_argument("--timeout", type=int, default=300, help="seconds for a unit program")
    args.add_argument("--pytest-timeout", type=int, default=2700, help="seconds for each --pytest")
    args.add_argument("--cmd-timeout", type=int, default=1800, help="seconds for each --cmd")
    args.add_argument("--python", default=sys.executable)
    opts = args.parse_args()
    opts.root = here
    for entry in opts.cmd:
        if not re.match(r"[^:=]+:\d+=.", entry):
            args.error(f"--cmd {entry}: expected NAME:COUNT=COMMAND")
    return opts


def main():
    opts = parse()
    os.makedirs(opts.out, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    results = run_all(opts)
    for result in results:
        for reason in result.skips:
            print(f"skipped {result.name}: {reason}")
    for result in results:
        if result.failed:
            print(f"failed {result.name}: {result.why}")
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    print(f"{passed} passed, {failed} failed, {sum(len(r.skips) for r in results)} skipped", flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
