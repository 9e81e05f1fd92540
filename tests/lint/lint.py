#!/usr/bin/python3
"""Checks of the house rules. Prints one line per finding, "file:line: sentence", then "lint: N findings".

Usage: lint.py [--root DIR] [--schemagen PROGRAM]. Exit status 0 without findings, 1 with, 2 when it could not look.
A line that must break a ban says why: "lint: allow WORD: the reason" in a comment on it or on the line above.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
PUBLIC_HEADER_LINES_MAX = 400
FOLDER_SOURCES_MAX = 16
COLUMNS_MAX = 120
CPPCHECK_LIST = "tests/lint/cppcheck.txt"
# What the Makefile gives to the compiler, as far as reading the sources needs it.
INCLUDE_FLAGS = ["-D_GNU_SOURCE", "-Ilib", "-Iinclude", "-Itools/cli", '-DBLX__PREFIX="/usr"', '-DBLX__VERSION="0"']

# Folder of lib/ -> the folders it may include besides its own. "placement/feasible.h" is one header of a folder.
MAY = {
    "base": "",
    "schema": "base",
    "lease": "schema base",
    "placement": "schema base",
    "state": "placement/feasible.h placement/survive.h lease schema base",
    "control": "state placement lease schema base",
    "io": "base",
    "consensus": "io schema base",
    "rpc": "io schema base",
    "client": "rpc io schema base",
    "measure": "base",
    "host": "base",
    "vm": "host measure io schema base",
    "storage": "io schema base",
    "network": "io schema base",
    "function": "vm host io schema base",
    "history": "schema base",
    "agent": "vm host measure storage network function history io lease schema base",
    "node": "agent history function network storage vm host measure client rpc consensus io control state "
            "placement lease schema base",
    "offline": "node/identity.h consensus io state placement lease schema base",
    "api": "offline node agent history function network storage vm host measure client rpc consensus io control state "
           "placement lease schema base",
}

# System header (or folder of headers) -> the folders of lib/ that may name it.
LIBRARIES = {
    "uv.h": "io consensus",
    "uv/": "io consensus",
    "raft.h": "consensus",
    "raft/": "consensus",
    "nghttp2/": "rpc",
    "jansson.h": "schema",
    "openssl/": "base rpc",
    "curl/": "io",
    "sqlite3.h": "history",
    "rados/": "storage",
    "rbd/": "storage",
    "cephfs/": "storage",
    "netlink/": "network",
    "nftables/": "network",
    "yaml.h": "",
    "check.h": "",
}
PRIVATE_LIBRARIES = tuple(LIBRARIES)

# Programs that live outside lib/ and are no consumers of the public headers: what they may include of lib/.
PARTS = (
    (re.compile(r"daemon/shim[^/]*$"), "vm host measure schema base"),
    (re.compile(r"daemon/watchdog[^/]*$"), "lease base"),
    (re.compile(r"tools/guest/"), "vm base"),
    (re.compile(r"tools/schemagen/"), "schema base"),
)
CONSUMERS = re.compile(r"(daemon/|tools/|examples/)")

BANNED = "sprintf vsprintf strcpy strcat atoi atol gets strtok alloca".split()
BANNED_IN_LIB = "printf vprintf puts putchar perror getenv secure_getenv exit _exit abort".split()
CALL = r"(?<![\w.>])(%s)\s*\("
BANNED_RE = re.compile(CALL % "|".join(BANNED))
BANNED_IN_LIB_RE = re.compile(CALL % "|".join(BANNED_IN_LIB))
STDERR_RE = re.compile(r"\b(stderr|stdout)\b")
GENERATED_RE = re.compile(r"(?:made|generated) by schemagen", re.I)
ALLOW_RE = re.compile(r"lint: allow (\w+): \S")
INCLUDE_RE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TOKEN_RE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
# Spelled in pieces so that this file does not hold what it looks for.
MACHINE_PATHS = ("/" + "work/", "/tmp/" + "bash_jobs")
WIDTH_SUFFIXES = (".c", ".h", ".py", ".sh", ".nix")
TAB_FREE_SUFFIXES = (".c", ".h", ".def", ".py", ".sh", ".nix", ".md", ".proto", ".in")


class Lint:
    def __init__(self, root):
        self.root = root
        self.findings = []
        self.texts = {}
        for path in list_files(root):
            try:
                with open(os.path.join(root, path), "rb") as f:
                    data = f.read()
            except FileNotFoundError:
                continue
            if b"\0" not in data[:8192]:
                self.texts[path] = data.decode("utf-8", "replace")

    def add(self, path, line, sentence):
        self.findings.append((path, line, sentence))

    def sources(self, suffixes=(".c", ".h")):
        return [p for p in sorted(self.texts) if p.endswith(suffixes)]


def list_files(root):
    """Tracked files and those that would be added; without git, every file outside build/."""
    if os.path.exists(os.path.join(root, ".git")):
        out = subprocess.run(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"],
                             stdout=subprocess.PIPE, check=True).stdout
        return sorted({p for p in out.decode().split("\0") if p and os.path.isfile(os.path.join(root, p))})
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if not (folder == root and d == "build")]
        found += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return sorted(found)


def is_generated(text):
    return any(GENERATED_RE.search(line) for line in text.split("\n", 3)[:3])


def blank(match):
    """A comment becomes spaces, a string an empty one; lines stay where they are."""
    text = match.group(0)
    if text[0] in "\"'":
        return text[0] + " " * (len(text) - 2) + text[-1]
    return re.sub(r"[^\n]", " ", text)


def strip_c(text):
    return TOKEN_RE.sub(blank, text)


def drop_directives(stripped):
    """Blank preprocessor lines with their continuations, so that macros do not unbalance braces."""
    lines, out, inside = stripped.split("\n"), [], False
    for line in lines:
        directive = inside or line.lstrip().startswith("#")
        out.append("" if directive else line)
        inside = directive and line.rstrip().endswith("\\")
    return "\n".join(out)


def functions(code):
    """(name, first line, last line) of each function body at the top level."""
    depth, line, head, head_line, body = 0, 1, "", 1, None
    for c in code:
        if c == "\n":
            line += 1
        if depth == 0:
            if c == "{":
                called = re.search(r"(\w+)\s*\([^{}]*\)\s*(?:__attribute__\s*\(\(.*\)\)\s*)?$", head, re.S)
                body = (called.group(1), head_line) if called else None
                if not re.search(r'extern\s+"\s*"?\s*C?\s*"?\s*$', head):
                    depth = 1
                head = ""
            elif c in ";}":
                head = ""
            elif head or not c.isspace():
                if not head or head.strip() == "END_TEST":
                    head, head_line = head if c.isspace() else "", line
                head += c
        elif c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0 and body:
                yield body[0], body[1], line


def allowed(lines, at, word):
    """True if line @at (from 1), or the comment above it, allows @word."""
    for text in lines[max(0, at - 2):at]:
        match = ALLOW_RE.search(text)
        if match and match.group(1) == word:
            return True
    return False


def check_text(lint):
    for path, text in sorted(lint.texts.items()):
        generated = is_generated(text)
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                lint.add(path, number, "ends with blanks")
            if "\t" in line and path.endswith(TAB_FREE_SUFFIXES):
                lint.add(path, number, "has a tab; use spaces")
            if len(line) > COLUMNS_MAX and path.endswith(WIDTH_SUFFIXES) and not generated:
                lint.add(path, number, f"is {len(line)} columns wide; {COLUMNS_MAX} is the most")
            for bad in MACHINE_PATHS:
                if bad in line:
                    lint.add(path, number, "names a path of the machine it was written on")
        if text and not text.endswith("\n"):
            lint.add(path, text.count("\n") + 1, "does not end with a newline")


def check_sizes(lint):
    folders = {}
    for path in lint.sources((".c", ".h", ".py", ".sh")):
        text = lint.texts[path]
        lines = text.count("\n")
        public = path.startswith("include/") and path.endswith(".h")
        limit = PUBLIC_HEADER_LINES_MAX if public else FILE_LINES_MAX
        if lines > limit and not is_generated(text):
            what = "a public header" if public else "a file"
            lint.add(path, limit + 1, f"has {lines} lines; {limit} is the most for {what}")
        if path.endswith(".c") and not is_generated(text):
            for name, first, last in functions(drop_directives(strip_c(text))):
                if last - first + 1 > FUNCTION_LINES_MAX:
                    lint.add(path, first, f"{name} has {last - first + 1} lines; {FUNCTION_LINES_MAX} is the most")
        parts = path.split("/")
        if len(parts) >= 3 and parts[0] == "lib" and path.endswith(".c"):
            folders.setdefault("/".join(parts[:-1]), []).append(path)
    for folder, sources in sorted(folders.items()):
        if len(sources) > FOLDER_SOURCES_MAX:
            lint.add(sources[FOLDER_SOURCES_MAX], 1,
                     f"{folder} has {len(sources)} sources; {FOLDER_SOURCES_MAX} is the most for a folder")


def check_bans(lint):
    for path in lint.sources():
        lines = lint.texts[path].split("\n")
        for number, code in enumerate(strip_c(lint.texts[path]).split("\n"), 1):
            words = BANNED_RE.findall(code)
            if path.startswith("lib/"):
                words += BANNED_IN_LIB_RE.findall(code) + STDERR_RE.findall(code)
            for word in words:
                if not allowed(lines, number, word):
                    where = "everywhere" if word in BANNED else "in lib"
                    lint.add(path, number, f"uses {word}, which is banned {where}")


def includes(text):
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE_RE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def listed(header, entries):
    """True if a quoted header is one of @entries, or lies in a folder that is."""
    return header in entries or header.split("/")[0] in entries


def check_lib_include(lint, path, number, quoted, header):
    folder = path.split("/")[1]
    if folder not in MAY:
        lint.add(path, number, f"is in lib/{folder}, which the table of folders in tests/lint/lint.py does not have")
        return
    if quoted and "/" in header:
        own = header.startswith(folder + "/")
        if not own and not listed(header, MAY[folder].split()):
            may = MAY[folder] or "nothing"
            lint.add(path, number, f'lib/{folder} may not include "{header}"; it may include: {may}')
        elif not own and header.endswith("_int.h"):
            lint.add(path, number, f'"{header}" is private to its folder')
    elif quoted:
        lint.add(path, number, f'"{header}" needs its folder in front, as in "base/buf.h"')
    for prefix, may in LIBRARIES.items():
        if not quoted and header.startswith(prefix) and folder not in may.split():
            lint.add(path, number, f"lib/{folder} may not include <{header}>; only these may: {may or 'none of lib/'}")


def check_part_include(lint, path, number, quoted, header):
    entries = next((may.split() for pattern, may in PARTS if pattern.match(path)), None)
    if entries is not None:
        if quoted and "/" in header and not listed(header, entries):
            lint.add(path, number, f'may not include "{header}"; it may include: {" ".join(entries)}')
    elif quoted and "/" in header:
        lint.add(path, number, f'includes "{header}"; consumers of the library see <blixard/...> only')
    if quoted and header.endswith("_int.h") and "/" in header:
        lint.add(path, number, f'"{header}" is private to its folder')


def check_public_include(lint, path, number, quoted, header):
    if quoted:
        lint.add(path, number, f'includes "{header}"; a public header names others as <blixard/...>')
    elif header.startswith(PRIVATE_LIBRARIES) and not (header == "uv.h" and path == "include/blixard/uv.h"):
        lint.add(path, number, f"a public header may not include <{header}>")


def check_includes(lint):
    for path in lint.sources():
        if path.startswith("lib/"):
            check = check_lib_include
        elif path.startswith("include/"):
            check = check_public_include
        elif CONSUMERS.match(path):
            check = check_part_include
        else:
            continue
        if path.startswith("lib/") and path.count("/") < 2:
            lint.add(path, 1, "lies in no folder of lib/")
            continue
        for number, quoted, header in includes(lint.texts[path]):
            check(lint, path, number, quoted, header)


def check_makefile_table(lint):
    """The Makefile links each folder's tests with what the folder may include: its table must not allow more."""
    for number, line in enumerate(lint.texts.get("Makefile", "").split("\n"), 1):
        match = re.match(r"DEPS_(\w+) := (.*)$", line)
        if not match or "$(" in match.group(2):
            continue
        folder, deps = match.groups()
        may = {entry.split("/")[0] for entry in MAY.get(folder, "").split()}
        extra = [d for d in deps.split() if d not in may]
        if extra:
            lint.add("Makefile", number, f"lets lib/{folder} depend on {' '.join(extra)}, which the design does not")


def check_format(lint):
    paths = [p for p in lint.sources() if not is_generated(lint.texts[p])]
    if not paths or ".clang-format" not in lint.texts:
        return
    if not shutil.which("clang-format"):
        lint.add(".clang-format", 1, "clang-format is not installed, so the format of the sources was not checked")
        return
    halves = [paths[0::2], paths[1::2]]
    runs = [subprocess.Popen(["clang-format", "--dry-run", "-Werror", *half], cwd=lint.root, text=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for half in halves if half]
    for run in runs:
        _, err = run.communicate()
        seen = set()
        for match in re.finditer(r"^([^:\n]+):(\d+):\d+: error: ", err, re.M):
            if match.group(1) not in seen:
                seen.add(match.group(1))
                lint.add(match.group(1), int(match.group(2)), "is not formatted; run clang-format -i on it")
        if run.returncode != 0 and not seen:
            lint.add(".clang-format", 1, f"clang-format failed: {err.strip().splitlines()[-1:] or run.returncode}")


def add_told(lint, tool, runs, pattern):
    """The findings that the runs of a tool printed; that it printed none and failed is one too."""
    told = set()
    for run in runs:
        out, _ = run.communicate()
        found = {(os.path.relpath(m.group(1), lint.root), int(m.group(2)), m.group(3)) for m in pattern.finditer(out)}
        if run.returncode != 0 and not found:
            lint.add(tool, 1, f"failed with status {run.returncode}: {' '.join(out.split())[-200:]}")
        told |= found
    for path, line, sentence in told:
        lint.add(path, line, f"{tool}: {sentence}")


def compiled(lint):
    return [p for p in lint.sources((".c",)) if re.match(r"(lib|daemon|tools|examples)/", p)]


def check_clang_tidy(lint):
    """The checks of .clang-tidy; those that follow values through the program cost minutes and are left out there."""
    paths = compiled(lint)
    if not paths or ".clang-tidy" not in lint.texts:
        return
    if not shutil.which("clang-tidy"):
        lint.add(".clang-tidy", 1, "clang-tidy is not installed, so it did not look at the sources")
        return
    halves = [half for half in (paths[0::2], paths[1::2]) if half]
    runs = [subprocess.Popen(["clang-tidy", "--quiet", *half, "--", "-std=gnu11", *INCLUDE_FLAGS], cwd=lint.root,
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for half in halves]
    add_told(lint, "clang-tidy", runs, re.compile(r"^([^:\n]+):(\d+):\d+: (?:warning|error): (.+)$", re.M))


def check_cppcheck(lint):
    """What tests/lint/cppcheck.txt does not explain away."""
    paths = compiled(lint)
    if not paths or CPPCHECK_LIST not in lint.texts:
        return
    if not shutil.which("cppcheck"):
        lint.add(CPPCHECK_LIST, 1, "cppcheck is not installed, so it did not look at the sources")
        return
    run = subprocess.Popen(["cppcheck", "-j2", "--quiet", "--std=c11", "--enable=warning,performance,portability",
                            f"--suppressions-list={CPPCHECK_LIST}", "--error-exitcode=1", "--inline-suppr",
                            "--template={file}:{line}: {message} ({id})", *INCLUDE_FLAGS, *paths],
                           cwd=lint.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    add_told(lint, "cppcheck", [run], re.compile(r"^([^:\n]+):(\d+): (.+)$", re.M))


def check_generated(lint, schemagen):
    if not schemagen or not os.path.exists(schemagen):
        return
    run = subprocess.run([schemagen, "--check", "."], cwd=lint.root, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    if run.returncode != 0:
        said = " ".join(run.stdout.split())[-300:]
        lint.add("lib/schema", 1, f"generated files are stale; run schemagen again ({said})")


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    here = os.path.dirname(os.path.abspath(__file__))
    args.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    args.add_argument("--schemagen", help="default: build/release/bin/schemagen, if it was built")
    opts = args.parse_args()
    root = os.path.abspath(opts.root)
    if not os.path.isdir(root):
        print(f"lint: {root} is no directory", file=sys.stderr)
        return 2
    lint = Lint(root)
    for check in (check_text, check_sizes, check_bans, check_includes, check_makefile_table, check_format,
                  check_clang_tidy, check_cppcheck):
        check(lint)
    schemagen = opts.schemagen or os.path.join(root, "build/release/bin/schemagen")
    check_generated(lint, os.path.abspath(schemagen))
    for path, line, sentence in sorted(lint.findings):
        print(f"{path}:{line}: {sentence}")
    print(f"lint: {len(lint.findings)} findings")
    return 1 if lint.findings else 0


if __name__ == "__main__":
    sys.exit(main())
