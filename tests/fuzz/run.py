#!/usr/bin/python3
"""Run the fuzz targets, two at a time, and end with "N passed, N failed, N skipped".

  tests/fuzz/run.py --build DIR --seconds N [NAME...]

The corpus of a target lies in DIR/corpus/NAME and is kept, so that the next run goes on from there; it begins with
what `fuzz_NAME --seeds` writes. Inputs that once were findings (tests/fuzz/found/NAME/*) run first, always. A finding
is left in DIR/found/NAME-*, and its line says how to run it again.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
INPUT_MAX_BYTES = 4096
TAIL_LINES = 30
ENV = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def run(program, arguments):
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, env={**os.environ, **ENV})
    return done.returncode, done.stdout.decode("utf-8", "replace")


def fuzz(program, opts):
    """The name, whether nothing was found, and what to print."""
    name = os.path.basename(program)[len("fuzz_"):]
    corpus, found = os.path.join(opts.build, "corpus", name), os.path.join(opts.build, "found")
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    status, text = run(program, ["--seeds", corpus])
    known = sorted(glob.glob(os.path.join(HERE, "found", name, "*")))
    if status == 0 and known:
        status, text = run(program, known)
    if status == 0:
        status, text = run(program, [f"-max_total_time={opts.seconds}", f"-max_len={INPUT_MAX_BYTES}", "-timeout=10",
                                     "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={found}/{name}-",
                                     "-close_fd_mask=1", corpus])
    count = re.search(r"number_of_executed_units: (\d+)", text)
    cover = re.findall(r" cov: (\d+) ", text)
    if status == 0 and count and int(count.group(1)) > 0:
        return name, True, f"{count.group(1)} inputs, {cover[-1] if cover else 0} edges"
    again = re.search(r"Test unit written to (\S+)", text)
    lines = text.splitlines()[-TAIL_LINES:]
    if again:
        lines.append(f"again: {program} {again.group(1)}")
    return name, False, "\n".join(["ended with status %d" % status] + ["    | " + line for line in lines])


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    args.add_argument("--build", required=True)
    args.add_argument("--seconds", type=int, default=20, help="for each target (20)")
    args.add_argument("names", nargs="*", help="targets; none: all")
    opts = args.parse_args()
    programs = [p for p in sorted(glob.glob(os.path.join(opts.build, "tests", "fuzz", "fuzz_*")))
                if not opts.names or os.path.basename(p)[len("fuzz_"):] in opts.names]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, good, what in pool.map(lambda p: fuzz(p, opts), programs):
            print(f"  {'ok' if good else 'FAIL':4} fuzz {name}: {what}", flush=True)
            passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
