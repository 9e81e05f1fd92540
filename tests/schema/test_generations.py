"""Two generations of one table: programs built with the older header against the newer library, and the other way.

Tables of a few rows stand in for lib/schema's; schemagen, lib/schema and a program are built with each.
"""
import glob
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O0", "-Wall", "-Werror"]
LIBS = ["-ljansson", "-lcrypto", "-lm"]

TYPES = """\
MSG(part, Part, "a part")
  F(1, ONE, U32, _, weight, 0, 0, 0, 0, "weight"){part}
MSG_END(part)
MSG(thing, Thing, "a thing")
  F(1, ONE, STR, NAME, name, 1, 63, 0, "", "name")
  F(2, REP, MSG, part, parts, 0, 0, 8, 0, "parts")
  F(3, OPT, U64, _, price, 0, 0, 0, 0, "price"){thing}
MSG_END(thing)
"""
SERVICE = 'SERVICE({0}, "calls")\n  RPC({1}, {2}, thing, thing, UNARY, LOCAL, "a call")\nSERVICE_END({0})\n'
ROWS_PART = '\n  F(2, ONE, U32, _, colour, 0, 100, 0, 0, "colour")'
ROWS_THING = ('\n  F(4, ONE, U32, _, height, 0, 100, 0, 0, "height")'
              '\n  F(5, ONE, STR, ANY, note, 0, 63, 0, "", "note")')

# What an embedder does. Without blx_X_init the padding is whatever the memory held.
PROGRAM = """\
#include <blixard/types.h>
#include <string.h>
struct blx_thing *FILL(void) {
  static struct blx_thing thing;
  static struct blx_part part, *parts[] = {&part};
  memset(&thing, 0xff, sizeof thing);
  memset(&part, 0xff, sizeof part);
#ifdef NEWER
  blx_thing_init(&thing);
  blx_part_init(&part);
  part.colour = NEWER;
#else
  thing.struct_size = sizeof thing;
  part.struct_size = sizeof part;
  thing.unknown = part.unknown = NULL;
#endif
  thing.name = "one";
  thing.parts = parts;
  thing.n_parts = 1;
  thing.price = 7;
  thing.has_price = 1;
  part.weight = 3;
  return &thing;
}
"""

MAIN = """\
#include "schema/json.h"
#include "schema/validate.h"
#include <stdio.h>
#include <string.h>
struct blx_thing *FILL(void);
int main(void) {
  const struct blx__msg_desc *desc = blx__desc_thing();
  void *thing = FILL(), *owned;
  blx_error err = {0};
  struct blx__buf json, copy, wire;
  blx__buf_init(&json, 4096);
  blx__buf_init(&copy, 4096);
  blx__buf_init(&wire, 4096);
  if (blx__msg_validate(desc, thing, &err).code || blx__json_write(desc, thing, 0, &json, &err).code ||
      blx__msg_own(desc, thing, &owned, &err).code || blx__json_write(desc, owned, 0, &copy, &err).code ||
      blx__msg_encode(desc, thing, &wire, &err).code) {
    printf("%d %s", err.code, err.message);
    return 1;
  }
  printf("%s %s ", blx__buf_cstr(&json), blx__buf_cstr(&copy));
  for (size_t i = 0; i < wire.len; i++) printf("%02x", wire.data[i]);
  return 0;
}
"""
OBJECT = '{"name":"one","parts":[{"weight":3}],"price":7}'
GOOD = OBJECT + " " + OBJECT + " 0a036f6e6512020803" + "1807"


def run(*argv, good=True):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    assert not good or done.returncode == 0, done.stdout
    return done


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def flags(tree):
    own = [tree / "lib", tree / "include", os.path.join(ROOT, "lib"), os.path.join(ROOT, "include")]
    return FLAGS + [f"-I{path}" for path in own]


def tables(tree, part="", thing=""):
    write(tree / "lib/schema/types.def", TYPES.format(part=part, thing=thing))
    write(tree / "lib/schema/api.def", SERVICE.format("Blixard", "ask", "Ask"))
    write(tree / "lib/schema/internal.def", SERVICE.format("Member", "tell", "Tell"))
    (tree / "docs/reference").mkdir(parents=True, exist_ok=True)
    (tree / "include/blixard").mkdir(parents=True, exist_ok=True)


def sources(folder):
    return sorted(glob.glob(os.path.join(ROOT, folder, "*.c")))


def schemagen(tree, good=True):
    program = str(tree / "schemagen")
    run("gcc", *flags(tree), "-o", program, *sources("tools/schemagen"), *sources("lib/base"), "-lcrypto")
    return run(program, str(tree), good=good)


def generation(tree, lock=None, **rows):
    tables(tree, **rows)
    if lock:
        write(tree / "lib/schema/schema.lock", lock)
    schemagen(tree)
    return (tree / "lib/schema/schema.lock").read_text()


def say(library, program, tmp_path, *defines):
    """What MAIN with the library of one tree says of the object that PROGRAM makes with the headers of another."""
    write(tmp_path / "main.c", MAIN)
    write(tmp_path / "program.c", PROGRAM)
    run("gcc", *flags(program), *defines, "-c", "-o", str(tmp_path / "program.o"), str(tmp_path / "program.c"))
    run("gcc", *flags(library), "-o", str(tmp_path / "main"), str(tmp_path / "main.c"), str(tmp_path / "program.o"),
        *sources("lib/schema"), *sources("lib/base"), *LIBS)
    return run(str(tmp_path / "main"), good=False).stdout


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    tree = tmp_path_factory.mktemp("old")
    return tree, generation(tree)


@pytest.fixture(scope="module")
def new(tmp_path_factory, old):
    tree = tmp_path_factory.mktemp("new")
    return tree, generation(tree, old[1], part=ROWS_PART, thing=ROWS_THING)


def test_an_older_program_is_understood_by_a_newer_library(old, new, tmp_path):
    assert say(new[0], old[0], tmp_path) == GOOD


def test_without_the_recorded_sizes_its_padding_would_be_read(old, tmp_path):
    tree = tmp_path / "careless"
    generation(tree, part=ROWS_PART, thing=ROWS_THING)
    assert say(tree, old[0], tmp_path) != GOOD


def test_a_newer_program_is_understood_by_an_older_library_as_long_as_it_sets_nothing_new(old, new, tmp_path):
    assert say(old[0], new[0], tmp_path, "-DNEWER=0") == GOOD
    assert "byte 24 is set" in say(old[0], new[0], tmp_path, "-DNEWER=5")


def test_the_lock_keeps_each_size(new):
    lines = [line for line in new[1].splitlines() if line.startswith("layout part")]
    assert lines == ["layout part 1 1 24", "layout part 2 2 32"]


def test_a_row_between_others_is_refused(tmp_path):
    tables(tmp_path)
    types = (tmp_path / "lib/schema/types.def").read_text().replace("F(3, OPT", "F(6, OPT")
    write(tmp_path / "lib/schema/types.def", types)
    schemagen(tmp_path)
    lock = (tmp_path / "lib/schema/schema.lock").read_text()
    row = '  F(5, ONE, U32, _, early, 0, 0, 0, 0, "early")\n'
    write(tmp_path / "lib/schema/types.def", types.replace("  F(6, OPT", row + "  F(6, OPT"))
    done = schemagen(tmp_path, good=False)
    assert done.returncode == 1 and "thing: programs are built with 3 rows" in done.stdout
    assert (tmp_path / "lib/schema/schema.lock").read_text() == lock


def test_each_mode_says_in_the_proto_who_streams(tmp_path):
    tables(tmp_path)
    service = (tmp_path / "lib/schema/api.def").read_text()
    for mode, rpc in (("UNARY", "Ask(.blixard.v1.Thing) returns (.blixard.v1.Thing)"),
                      ("STREAM", "Ask(.blixard.v1.Thing) returns (stream .blixard.v1.Thing)"),
                      ("BIDI", "Ask(stream .blixard.v1.Thing) returns (stream .blixard.v1.Thing)")):
        write(tmp_path / "lib/schema/api.def", service.replace("UNARY", mode))
        (tmp_path / "lib/schema/schema.lock").unlink(missing_ok=True)
        schemagen(tmp_path)
        assert "rpc " + rpc + ";" in (tmp_path / "lib/schema/blixard.proto").read_text()
    write(tmp_path / "lib/schema/api.def", service.replace("UNARY", "BOTH"))
    assert "unknown mode" in schemagen(tmp_path, good=False).stdout
