/* The C headers: public types and calls, the cluster's own messages, the ids of the RPCs. */
#include "schemagen.h"

#include <string.h>

enum { NAME_MAX_BYTES = 128, LINE_MAX_COLUMNS = 120 };

static void put_enum(struct blx__buf *out, const struct row *e) {
  char up[NAME_MAX_BYTES], ev[NAME_MAX_BYTES];
  upper(e->name, up, sizeof up);
  put(out, "/* %s: %s. */\nenum blx_%s {\n", e->proto, e->doc, e->name);
  for (const struct row *v = e + 1; v->tag == T_EV; v++)
    put(out, "  BLX_%s_%s = %ld, /* %s: %s */\n", up, upper(v->name, ev, sizeof ev), v->id, v->proto, v->doc);
  put(out, "  BLX_%s_WIDTH_ = 0x7fffffff /* values of later versions fit */\n};\n\n", up);
}

static const char *scalar_type(const char *kind) {
  if (strcmp(kind, "U64") == 0) return "uint64_t ";
  if (strcmp(kind, "I64") == 0) return "int64_t ";
  if (strcmp(kind, "I32") == 0 || strcmp(kind, "ENUM") == 0) return "int32_t ";
  if (strcmp(kind, "STR") == 0) return "const char *";
  if (strcmp(kind, "BYTES") == 0) return "struct blx_bytes ";
  return "uint32_t ";
}

static void put_field(struct blx__buf *out, const struct row *f) {
  char decl[NAME_MAX_BYTES], limits[256], note[1024];
  bool rep = strcmp(f->card, "REP") == 0, msg = strcmp(f->kind, "MSG") == 0;
  if (msg)
    (void)blx__str_format(decl, sizeof decl, "struct blx_%s *%s%s;", f->sub, rep ? "*" : "", f->name);
  else
    (void)blx__str_format(decl, sizeof decl, "%s%s%s;", scalar_type(f->kind), rep ? "*" : "", f->name);
  limits_text(f, limits, sizeof limits);
  bool is_enum = strcmp(f->kind, "ENUM") == 0;
  (void)blx__str_format(note, sizeof note, "%s%s%s%s%s%s", f->doc, is_enum ? " (enum blx_" : "", is_enum ? f->sub : "",
                        is_enum ? ")" : "", limits[0] ? "; " : "", limits);
  if (!note[0])
    put(out, "  %s\n", decl);
  else if (strlen(decl) + strlen(note) + 9 <= LINE_MAX_COLUMNS)
    put(out, "  %s /* %s */\n", decl, note);
  else
    put(out, "  /* %s */\n  %s\n", note, decl);
  if (rep) put(out, "  size_t n_%s;\n", f->name);
  if (!rep && !msg && strcmp(f->card, "OPT") == 0) put(out, "  uint32_t has_%s;\n", f->name);
}

static void put_struct(struct blx__buf *out, const struct row *m) {
  put(out, "/* %s: %s. */\nstruct blx_%s {\n  size_t struct_size;\n  const void *unknown;\n", m->proto, m->doc,
      m->name);
  for (const struct row *f = m + 1; f->tag == T_FIELD; f++) {
    if (layout_pad_before(m, f)) put(out, "  uint32_t before_%s_; /* unused; zero */\n", f->name);
    put_field(out, f);
  }
  put(out, "};\n\n");
}

static void put_forward(struct blx__buf *out, enum source from) {
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].tag == T_MSG && rows[i].source == from) put(out, "struct blx_%s;\n", rows[i].name);
  put(out, "\n");
}

static void put_body(struct blx__buf *out, enum source from) {
  put_forward(out, from);
  for (size_t i = 0; i < row_count; i++) {
    if (rows[i].source != from) continue;
    if (rows[i].tag == T_ENUM) put_enum(out, &rows[i]);
    if (rows[i].tag == T_MSG) put_struct(out, &rows[i]);
  }
  for (size_t i = 0; i < row_count; i++) {
    char up[NAME_MAX_BYTES];
    if (rows[i].tag != T_MSG || rows[i].source != from) continue;
    put(out, "#define BLX_%s_INIT BLX_INIT_(struct blx_%s)\n", upper(rows[i].name, up, sizeof up), rows[i].name);
  }
  if (from == FROM_INTERNAL) return;
  put(out, "\n/* blx_X_init(&x): the same for a struct that is there already, its padding too. */\n");
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].tag == T_MSG && rows[i].source == from) put(out, "BLX_INIT_FN_(%s)\n", rows[i].name);
}

static const char made_by[] = "Made by schemagen; change the table and run `make schema`";

static const char types_head[] =
    " *\n"
    " * Every struct begins with struct_size: start from its BLX_X_INIT or blx_X_init(), or from zeroes with "
    "struct_size set\n * to its size.\n"
    " * What lies beyond struct_size counts as zero, so a program built with an older header goes on working; a "
    "larger\n"
    " * struct whose tail is not zero is refused with BLX_E_UNSUPPORTED. `unknown` belongs to the library: fields that "
    "a\n"
    " * newer version sent; leave it NULL. Text is UTF-8, terminated, NULL meaning empty. A NULL pointer to a struct "
    "means\n"
    " * absent. has_x tells whether x is given; n_x is the number of elements of x; arrays of structs are arrays of\n"
    " * pointers. An enum is kept in an int32_t. Structs you fill stay yours; structs you are given you free. Since "
    "0.1. */\n";

static const char types_prelude[] =
    "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
    "#ifdef __cplusplus\n#define BLX_INIT_(type) {sizeof(type)}\n#else\n"
    "#define BLX_INIT_(type) {.struct_size = sizeof(type)}\n#endif\n\n"
    "/* In the header, since it must fill the struct that the program was built with. */\n"
    "#define BLX_INIT_FN_(name) \\\n"
    "  static inline void blx_##name##_init(struct blx_##name *object) { \\\n"
    "    memset(object, 0, sizeof *object); \\\n"
    "    object->struct_size = sizeof *object; \\\n"
    "  }\n\n"
    "/* A run of bytes; data may be NULL when len is 0. */\n"
    "struct blx_bytes {\n  const uint8_t *data;\n  size_t len;\n};\n\n";

static const char tail[] = "\n#ifdef __cplusplus\n}\n#endif\n#endif\n";

void out_types_h(struct blx__buf *out) {
  put(out, "/* The objects of a cluster. %s (lib/schema/types.def).\n%s", made_by, types_head);
  put(out, "/* clang-format off */\n#ifndef BLIXARD_TYPES_H\n#define BLIXARD_TYPES_H\n\n%s", types_prelude);
  put_body(out, FROM_TYPES);
  put(out, "\n#ifdef __cplusplus\n}\n#endif\n\n#include <blixard/calls.h>\n#endif\n");
}

void out_calls_h(struct blx__buf *out) {
  put(out, "/* Requests and answers. %s (lib/schema/api.def).\n", made_by);
  put(out, " * Included by blixard/types.h, which says what all these structs have in common. Since 0.1. */\n");
  put(out,
      "/* clang-format off */\n#ifndef BLIXARD_CALLS_H\n#define BLIXARD_CALLS_H\n\n#include <blixard/types.h>\n\n");
  put(out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
  put_body(out, FROM_API);
  put(out, "%s", tail);
}

void out_internal_h(struct blx__buf *out) {
  put(out, "/* Log operations, snapshot records, calls between members. %s\n", made_by);
  put(out, " * (lib/schema/internal.def). blixard/types.h says what all these structs have in common. */\n");
  put(out, "/* clang-format off */\n#ifndef BLX__SCHEMA_INTERNAL_H\n#define BLX__SCHEMA_INTERNAL_H\n\n");
  put(out, "#include <blixard/types.h>\n\n");
  put_body(out, FROM_INTERNAL);
  put(out, "\n#endif\n");
}

void out_rpc_ids_h(struct blx__buf *out) {
  put(out, "/* Numbers of the RPCs, for switches; they never leave the process.\n * %s\n", made_by);
  put(out, " * (lib/schema/api.def, lib/schema/internal.def). */\n/* clang-format off */\n");
  put(out, "#ifndef BLX__SCHEMA_RPC_IDS_H\n#define BLX__SCHEMA_RPC_IDS_H\n\nenum blx__rpc_id {\n");
  for (size_t i = 0; i < row_count; i++) {
    char up[NAME_MAX_BYTES];
    if (rows[i].tag == T_RPC) put(out, "  BLX__RPC_%s,\n", upper(rows[i].name, up, sizeof up));
  }
  put(out, "  BLX__RPC_COUNT\n};\n\n#endif\n");
}
