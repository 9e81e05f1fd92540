"""Each rule of lint.py finds a violation planted for it, and nothing in a clean tree."""
import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


@pytest.fixture
def tree(tmp_path):
    shutil.copy(os.path.join(ROOT, ".clang-format"), tmp_path)
    put(tmp_path, "lib/base/rc.c", '#include "base/rc.h"\n\nint blx__one(void) {\n  return 1;\n}\n')
    put(tmp_path, "include/blixard/vm.h", "#include <blixard/error.h>\n")
    return tmp_path


def put(tree, path, text):
    target = tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def lint(tree, *more):
    run = subprocess.run([sys.executable, os.path.join(HERE, "lint.py"), "--root", str(tree), *more], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = run.stdout.splitlines()
    assert lines[-1] == f"lint: {len(lines) - 1} findings"
    assert (run.returncode == 0) == (len(lines) == 1)
    return lines[:-1]


def test_clean_tree_has_no_findings(tree):
    assert lint(tree) == []


def body(lines):
    return "void f(void) {\n" + "  ;\n" * (lines - 2) + "}\n"


PLANTED = {
    "tab": ("lib/base/a.c", "int a;\n/* a\tb */\n", "lib/base/a.c:2: has a tab"),
    "trailing blank": ("README.md", "one \n", "README.md:1: ends with blanks"),
    "no newline at the end": ("README.md", "one", "does not end with a newline"),
    "wide line": ("lib/base/a.c", "/* " + "x" * 120 + " */\n", "columns wide"),
    "machine path": ("README.md", "see /" + "work/main\n", "README.md:1: names a path"),
    "long function": ("lib/base/a.c", "int x;\n\n" + body(71), "lib/base/a.c:3: f has 71 lines"),
    "long file": ("daemon/a.c", "int a;\n" * 601, "has 601 lines; 600"),
    "long public header": ("include/blixard/a.h", "int a;\n" * 401, "has 401 lines; 400"),
    "banned call": ("tools/cli/a.c", "int a = atoi(x);\n", "uses atoi, which is banned everywhere"),
    "banned in lib": ("lib/io/a.c", "void f(void) {\n  exit(1);\n}\n", "lib/io/a.c:2: uses exit, which is banned"),
    "standard error in lib": ("lib/io/a.c", "void f(void) {\n  fprintf(stderr, x);\n}\n", "uses stderr"),
    "folder out of the table": ("lib/base/a.c", '#include "io/loop.h"\n', 'lib/base may not include "io/loop.h"'),
    "one header of a folder": ("lib/state/a.c", '#include "placement/fleet.h"\n', 'not include "placement/fleet.h"'),
    "unknown folder": ("lib/misc/a.c", '#include "base/rc.h"\n', "table of folders"),
    "private header": ("lib/vm/a.c", '#include "io/io_int.h"\n', "is private to its folder"),
    "header without folder": ("lib/vm/a.c", '#include "driver.h"\n', "needs its folder in front"),
    "foreign library": ("lib/vm/a.c", "#include <uv.h>\n", "lib/vm may not include <uv.h>"),
    "raft outside": ("lib/node/a.c", "#include <raft.h>\n", "lib/node may not include <raft.h>"),
    "json outside": ("lib/vm/a.c", "#include <jansson.h>\n", "lib/vm may not include <jansson.h>"),
    "tls outside": ("lib/io/a.c", "#include <openssl/ssl.h>\n", "lib/io may not include <openssl/ssl.h>"),
    "consumer looks inside": ("tools/cli/a.c", '#include "base/buf.h"\n', "consumers of the library"),
    "daemon looks inside": ("daemon/blixardd.c", '#include "node/node.h"\n', "consumers of the library"),
    "shim looks too far": ("daemon/shim.c", '#include "io/loop.h"\n', 'may not include "io/loop.h"'),
    "library in a public header": ("include/blixard/a.h", "#include <uv.h>\n", "public header may not include <uv.h>"),
    "quoted in a public header": ("include/blixard/a.h", '#include "base/rc.h"\n', "a public header names others"),
    "format": ("lib/base/a.c", "int   a;\n", "lib/base/a.c:1: is not formatted"),
    "table of the Makefile": ("Makefile", "DEPS_vm := io schema\nDEPS_io := schema base\n", "Makefile:2: lets lib/io"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_violation_is_found(tree, kind):
    path, text, expected = PLANTED[kind]
    put(tree, path, text)
    findings = lint(tree)
    assert any(expected in f for f in findings), findings


def test_seventeenth_source_of_a_folder_is_found(tree):
    for i in range(17):
        put(tree, f"lib/io/f{i:02}.c", "int a;\n")
    assert any("lib/io has 17 sources; 16" in f for f in lint(tree))


def test_allowed_is_not_found(tree):
    put(tree, "lib/state/a.c", '#include "placement/feasible.h"\n#include "state/state_int.h"\n')
    put(tree, "lib/consensus/a.c", "#include <raft.h>\n#include <raft/uv.h>\n")
    put(tree, "include/blixard/uv.h", "#include <uv.h>\n")
    put(tree, "lib/base/a.c", '/* sprintf(x) */\nconst char *s = "exit(1)";\n' + body(70))
    reason = "/* lint: allow _exit: a child after vfork has no other way out */"
    put(tree, "lib/io/a.c", f"void f(void) {{\n  {reason}\n  _exit(1);\n}}\n")
    put(tree, "lib/schema/gen.c", "/* Made by schemagen; change the table. */\n" + "int   a;\n" * 700)
    assert lint(tree) == []


def test_stale_generated_files_are_found(tree):
    put(tree, "gen.sh", '#!/bin/sh\necho "types.h differs"\nexit 1\n')
    os.chmod(tree / "gen.sh", 0o755)
    assert any("types.h differs" in f for f in lint(tree, "--schemagen", str(tree / "gen.sh")))


def test_what_clang_tidy_says_is_found(tree):
    shutil.copy(os.path.join(ROOT, ".clang-tidy"), tree)
    text = "#include <string.h>\n\nint blx__a(const char *s) {\n  return strcmp(s, s + 1) == 2;\n}\n"
    put(tree, "lib/base/a.c", text)
    assert any("lib/base/a.c:4: clang-tidy: " in f for f in lint(tree))


def test_what_cppcheck_says_is_found_unless_it_is_explained(tree):
    put(tree, "tests/lint/cppcheck.txt", "// none\n")
    put(tree, "lib/base/a.c", "int blx__a(void) {\n  int x[2] = {0};\n  return x[2];\n}\n")
    assert any("lib/base/a.c:3: cppcheck: " in f for f in lint(tree))
    put(tree, "tests/lint/cppcheck.txt", "arrayIndexOutOfBounds:lib/base/a.c\n")
    assert lint(tree) == []
