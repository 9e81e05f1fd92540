#!/usr/bin/python3
"""Line coverage of folders of lib/, from the counters of a build with --coverage: tests/coverage.py BUILD FOLDER...

Prints each file and the sum of each folder; status 1 when a folder has fewer than 90 % of its lines reached. Lines that
only an assertion's failure reaches are not there to be reached: gcov counts the line of the condition. -v names the
lines that were not reached.
"""
import argparse
import glob
import json
import os
import subprocess
import sys

LEAST_PERCENT = 90.0


def lines_of(build, folder):
    """File -> {line: times}, of every object of the folder that some test ran."""
    files = {}
    objects = sorted(glob.glob(os.path.join(build, "obj", "lib", folder, "*.gcno")))
    told = subprocess.run(["gcov", "--json-format", "--stdout", *objects], stdout=subprocess.PIPE, check=True,
                          stderr=subprocess.DEVNULL).stdout.decode()
    for document in told.splitlines():
        for entry in json.loads(document)["files"]:
            if not entry["file"].startswith(f"lib/{folder}/"):
                continue
            seen = files.setdefault(entry["file"], {})
            for line in entry["lines"]:
                seen[line["line_number"]] = seen.get(line["line_number"], 0) + line["count"]
    return files


def ranges(numbers):
    out = []
    for n in numbers:
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    args.add_argument("build")
    args.add_argument("folders", nargs="+")
    args.add_argument("-v", action="store_true", help="name the lines that were not reached")
    opts = args.parse_args()
    good = True
    for folder in opts.folders:
        files = lines_of(opts.build, folder)
        total = reached = 0
        for path, lines in sorted(files.items()):
            hit = sum(1 for count in lines.values() if count)
            total, reached = total + len(lines), reached + hit
            print(f"  {100 * hit / len(lines):5.1f} %  {hit:4} of {len(lines):4} lines  {path}")
            if opts.v and hit < len(lines):
                print("           not " + ranges(sorted(n for n, count in lines.items() if not count)))
        percent = 100 * reached / total if total else 0.0
        print(f"coverage of lib/{folder}: {percent:.1f} % of {total} lines ({LEAST_PERCENT:.0f} % is the least)")
        good = good and percent >= LEAST_PERCENT
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
