/* The .proto files, the reference page and the lock. */
#include "schemagen.h"

#include <string.h>

static const char *proto_type(const struct row *f) {
  if (strcmp(f->kind, "BOOL") == 0) return "bool";
  if (strcmp(f->kind, "U32") == 0) return "uint32";
  if (strcmp(f->kind, "I32") == 0) return "int32";
  if (strcmp(f->kind, "U64") == 0) return "uint64";
  if (strcmp(f->kind, "I64") == 0) return "int64";
  if (strcmp(f->kind, "STR") == 0) return "string";
  if (strcmp(f->kind, "BYTES") == 0) return "bytes";
  const struct row *sub = row_find(strcmp(f->kind, "ENUM") == 0 ? T_ENUM : T_MSG, f->sub);
  return sub ? sub->proto : "?";
}

static void put_proto_field(struct blx__buf *out, const struct row *f) {
  char limits[256];
  bool opt = strcmp(f->card, "OPT") == 0 && strcmp(f->kind, "MSG") != 0, rep = strcmp(f->card, "REP") == 0;
  bool is_enum = strcmp(f->kind, "ENUM") == 0;
  limits_text(f, limits, sizeof limits);
  put(out, "  %s%s%s %s = %ld;",
      opt   ? "optional "
      : rep ? "repeated "
            : "",
      proto_type(f), is_enum ? ".Enum" : "", f->name, f->id);
  if (f->doc[0] || limits[0]) put(out, "  // %s%s%s", f->doc, f->doc[0] && limits[0] ? "; " : "", limits);
  put(out, "\n");
}

static void put_proto_row(struct blx__buf *out, const struct row *r) {
  switch (r->tag) {
  case T_ENUM: put(out, "// %s\nmessage %s {\n  enum Enum {\n", r->doc, r->proto); break;
  case T_EV: put(out, "    %s = %ld;  // %s\n", r->proto, r->id, r->doc); break;
  case T_ENUM_END: put(out, "  }\n}\n\n"); break;
  case T_MSG: put(out, "// %s\nmessage %s {\n", r->doc, r->proto); break;
  case T_FIELD: put_proto_field(out, r); break;
  case T_MSG_END: put(out, "}\n\n"); break;
  case T_SERVICE: put(out, "// %s\nservice %s {\n", r->doc, r->proto); break;
  case T_RPC:
    /* In full: inside a service a call of the same name would hide the message. */
    put(out, "  rpc %s(%s.blixard.v1.%s) returns (%s.blixard.v1.%s);  // %s\n", r->proto,
        strcmp(r->mode, "BIDI") == 0 ? "stream " : "", row_find(T_MSG, r->request)->proto,
        strcmp(r->mode, "UNARY") == 0 ? "" : "stream ", row_find(T_MSG, r->response)->proto, r->doc);
    break;
  case T_SERVICE_END: put(out, "}\n"); break;
  }
}

static const char proto_head[] = "// Made by schemagen from the tables in lib/schema; run `make schema`.\n"
                                 "// Enums lie inside a message, so that their labels stay short in JSON.\n"
                                 "syntax = \"proto3\";\npackage blixard.v1;\n\n";

void out_proto(struct blx__buf *out) {
  put(out, "%s", proto_head);
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].source != FROM_INTERNAL) put_proto_row(out, &rows[i]);
}

void out_member_proto(struct blx__buf *out) {
  put(out, "%simport \"blixard.proto\";\n\n", proto_head);
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].source == FROM_INTERNAL) put_proto_row(out, &rows[i]);
}

static void put_reference_row(struct blx__buf *out, const struct row *r) {
  char limits[256];
  switch (r->tag) {
  case T_ENUM:
    put(out, "### %s\n\n%s. In C: `enum blx_%s`.\n\n| label | number | meaning |\n|---|---|---|\n", r->proto, r->doc,
        r->name);
    break;
  case T_EV: put(out, "| `%s` | %ld | %s |\n", r->proto, r->id, r->doc); break;
  case T_MSG:
    put(out,
        "### %s\n\n%s. In C: `struct blx_%s`.\n\n| field | id | type | limits | meaning |\n|---|---|---|---|---|\n",
        r->proto, r->doc, r->name);
    break;
  case T_FIELD:
    limits_text(r, limits, sizeof limits);
    put(out, "| `%s` | %ld | %s%s | %s | %s |\n", r->name, r->id, strcmp(r->card, "REP") == 0 ? "list of " : "",
        proto_type(r), limits, r->doc);
    break;
  case T_SERVICE:
    put(out,
        "## Service blixard.v1.%s\n\n%s.\n\n| call | request | answer | who answers | meaning |\n"
        "|---|---|---|---|---|\n",
        r->proto, r->doc);
    break;
  case T_RPC:
    put(out, "| `%s` | %s%s | %s%s | %s | %s |\n", r->proto, strcmp(r->mode, "BIDI") == 0 ? "stream of " : "",
        row_find(T_MSG, r->request)->proto, strcmp(r->mode, "UNARY") == 0 ? "" : "stream of ",
        row_find(T_MSG, r->response)->proto,
        strcmp(r->route, "LOCAL") == 0  ? "the member asked"
        : strcmp(r->route, "READ") == 0 ? "the leader, after a"
                                          " confirmation round"
                                        : "the leader commits it",
        r->doc);
    break;
  case T_ENUM_END:
  case T_MSG_END:
  case T_SERVICE_END: put(out, "\n"); break;
  }
}

void out_reference(struct blx__buf *out) {
  put(out,
      "# Types and calls\n\nMade by schemagen from `lib/schema/types.def` and `lib/schema/api.def`; run `make "
      "schema`.\n\nOn the wire these are proto3 messages (`lib/schema/blixard.proto`, any gRPC client works); in C "
      "the structs of\n`<blixard/types.h>`. In JSON the names are those below, enums are their labels, bytes are "
      "base64, 64-bit numbers are\nnumbers up to 2^53 and text beyond; both are read. A field that is zero, empty "
      "or absent is left out.\n\n");
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].source != FROM_INTERNAL) put_reference_row(out, &rows[i]);
}

void out_lock(struct blx__buf *out) {
  const struct row *owner = NULL;
  for (size_t i = 0; i < row_count; i++) {
    const struct row *r = &rows[i];
    if (r->tag == T_ENUM || r->tag == T_MSG || r->tag == T_SERVICE) owner = r;
    if (r->tag == T_EV) put(out, "value %s %ld %s %s\n", owner->name, r->id, r->name, r->proto);
    if (r->tag == T_MSG) put(out, "message %s %s\n", r->name, r->proto);
    if (r->tag == T_MSG) out_layout_lock(out, r);
    if (r->tag == T_FIELD)
      put(out, "field %s %ld %s %s %s %s min=%s max=%s cap=%s default=%s\n", owner->name, r->id, r->card, r->kind,
          r->sub, r->name, r->min, r->max, r->cap, r->def);
    if (r->tag == T_RPC)
      put(out, "rpc %s %s %s %s %s %s\n", owner->name, r->proto, r->request, r->response, r->mode, r->route);
  }
}
