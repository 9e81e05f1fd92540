#include "schemagen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct row rows[] = {
#define ENUM(NAME, PROTO, DOC) {.tag = T_ENUM, .source = HERE, .name = #NAME, .proto = #PROTO, .doc = DOC},
#define EV(E, NAME, LABEL, NUMBER, DOC) \
  {.tag = T_EV, .source = HERE, .name = #NAME, .proto = #LABEL, .id = NUMBER, .sub = #E, .doc = DOC},
#define ENUM_END(NAME) {.tag = T_ENUM_END, .source = HERE, .name = #NAME},
#define MSG(NAME, PROTO, DOC) {.tag = T_MSG, .source = HERE, .name = #NAME, .proto = #PROTO, .doc = DOC},
#define F(ID, CARD, KIND, SUB, NAME, MIN, MAX, CAP, DEF, DOC) \
  {.tag = T_FIELD,                                            \
   .source = HERE,                                            \
   .name = #NAME,                                             \
   .id = ID,                                                  \
   .card = #CARD,                                             \
   .kind = #KIND,                                             \
   .sub = #SUB,                                               \
   .min = #MIN,                                               \
   .max = #MAX,                                               \
   .cap = #CAP,                                               \
   .def = #DEF,                                               \
   .doc = DOC},
#define MSG_END(NAME) {.tag = T_MSG_END, .source = HERE, .name = #NAME},
#define SERVICE(PROTO, DOC) {.tag = T_SERVICE, .source = HERE, .name = #PROTO, .proto = #PROTO, .doc = DOC},
#define RPC(NAME, PROTO, REQUEST, RESPONSE, MODE, ROUTE, DOC) \
  {.tag = T_RPC,                                              \
   .source = HERE,                                            \
   .name = #NAME,                                             \
   .proto = #PROTO,                                           \
   .request = #REQUEST,                                       \
   .response = #RESPONSE,                                     \
   .mode = #MODE,                                             \
   .route = #ROUTE,                                           \
   .doc = DOC},
#define SERVICE_END(PROTO) {.tag = T_SERVICE_END, .source = HERE, .name = #PROTO},
#include "schema/macros.h"
#define HERE FROM_TYPES
#include "schema/types.def"
#undef HERE
#define HERE FROM_API
#include "schema/api.def"
#undef HERE
#define HERE FROM_INTERNAL
#include "schema/internal.def"
#undef HERE
#include "schema/macros_end.h"
};
const size_t row_count = BLX__COUNT(rows);

const struct row *row_find(enum tag tag, const char *name) {
  for (size_t i = 0; i < row_count; i++)
    if (rows[i].tag == tag && strcmp(rows[i].name, name) == 0) return &rows[i];
  return NULL;
}

static bool one_of(const char *word, const char *const *list) {
  for (; *list; list++)
    if (strcmp(word, *list) == 0) return true;
  return false;
}

static bool fault(const struct row *owner, const struct row *r, const char *what) {
  fprintf(stderr, "schemagen: %s.%s: %s\n", owner ? owner->name : "-", r->name, what);
  return false;
}

static bool zero(const char *number) {
  return strcmp(number, "0") == 0;
}

/* Words of C and C++ that a generated member must not be called. */
static const char *const keywords[] = {
    "auto",    "bool",     "break",    "case",   "catch", "char",    "class",    "const",       "continue", "default",
    "delete",  "do",       "double",   "else",   "enum",  "export",  "extern",   "false",       "float",    "for",
    "friend",  "goto",     "if",       "inline", "int",   "long",    "new",      "namespace",   "not",      "operator",
    "or",      "private",  "public",   "return", "short", "signed",  "sizeof",   "static",      "struct",   "switch",
    "this",    "template", "throw",    "true",   "try",   "typedef", "typename", "union",       "unsigned", "using",
    "virtual", "void",     "volatile", "while",  "xor",   "and",     "unknown",  "struct_size", NULL};

static bool field_check(const struct row *msg, const struct row *f, long last_id) {
  static const char *const cards[] = {"ONE", "OPT", "REP", NULL};
  static const char *const kinds[] = {"BOOL", "U32", "I32", "U64", "I64", "STR", "BYTES", "ENUM", "MSG", NULL};
  static const char *const forms[] = {"ANY", "NAME", "LINE", NULL};
  bool ok = true;
  if (f->id <= last_id) ok = fault(msg, f, "ids must rise from row to row");
  if (f->id > 536870911 || (f->id >= 19000 && f->id <= 19999)) ok = fault(msg, f, "protobuf does not allow this id");
  if (!one_of(f->card, cards)) ok = fault(msg, f, "unknown cardinality");
  if (!one_of(f->kind, kinds)) ok = fault(msg, f, "unknown kind");
  if (one_of(f->name, keywords)) ok = fault(msg, f, "a word of C or C++, or of the generated structs");
  bool text = strcmp(f->kind, "STR") == 0, bytes = strcmp(f->kind, "BYTES") == 0;
  if (text && !one_of(f->sub, forms)) ok = fault(msg, f, "unknown form of text");
  if ((text || bytes) && zero(f->max)) ok = fault(msg, f, "needs a maximum length");
  if (text != (f->def[0] == '"')) ok = fault(msg, f, "the default of text is text, of anything else a number");
  if (strcmp(f->card, "REP") == 0 && zero(f->cap)) ok = fault(msg, f, "a repeated field needs a cap");
  if (strcmp(f->kind, "ENUM") == 0 && !row_find(T_ENUM, f->sub)) ok = fault(msg, f, "unknown enum");
  if (strcmp(f->kind, "MSG") == 0 && !row_find(T_MSG, f->sub)) ok = fault(msg, f, "unknown message");
  return ok;
}

static bool rpc_check(const struct row *service, const struct row *rpc) {
  static const char *const modes[] = {"UNARY", "STREAM", "BIDI", NULL};
  static const char *const routes[] = {"LOCAL", "READ", "WRITE", NULL};
  bool ok = true;
  if (!one_of(rpc->mode, modes)) ok = fault(service, rpc, "unknown mode");
  if (!one_of(rpc->route, routes)) ok = fault(service, rpc, "unknown route");
  if (!row_find(T_MSG, rpc->request) || !row_find(T_MSG, rpc->response)) ok = fault(service, rpc, "unknown message");
  return ok;
}

/* rpc_table.h names the services by their table. */
static bool service_check(const struct row *r) {
  const char *want = r->source == FROM_API ? "Blixard" : "Member";
  return strcmp(r->name, want) == 0 || fault(NULL, r, "api.def holds service Blixard, internal.def service Member");
}

static bool row_check(const struct row *owner, const struct row *r) {
  switch (r->tag) {
  case T_FIELD: return field_check(owner, r, r[-1].tag == T_FIELD ? r[-1].id : 0);
  case T_EV:
    if (r[-1].tag == T_ENUM && r->id != 0) return fault(owner, r, "the first value of an enum is 0");
    if (r[-1].tag == T_EV && r->id <= r[-1].id) return fault(owner, r, "values must rise from row to row");
    return strcmp(r->sub, owner->name) == 0 || fault(owner, r, "belongs to another enum");
  case T_RPC: return rpc_check(owner, r);
  case T_ENUM_END:
  case T_MSG_END:
  case T_SERVICE_END: return strcmp(owner->name, r->name) == 0 || fault(owner, r, "ends something else");
  case T_SERVICE: return service_check(r);
  case T_ENUM:
  case T_MSG: return row_find(r->tag, r->name) == r || fault(NULL, r, "declared twice");
  }
  return false;
}

bool rows_check(void) {
  bool ok = true;
  const struct row *owner = NULL;
  for (size_t i = 0; i < row_count; i++) {
    const struct row *r = &rows[i];
    if (r->tag == T_ENUM || r->tag == T_MSG || r->tag == T_SERVICE) owner = r;
    ok = row_check(owner, r) && ok;
  }
  return ok;
}

void put(struct blx__buf *out, const char *fmt, ...) {
  char line[4096];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (n >= 0 && (size_t)n < sizeof line && blx__buf_add(out, line, (size_t)n)) return;
  fprintf(stderr, "schemagen: an output is too long\n");
  exit(1);
}

const char *upper(const char *name, char *out, size_t out_size) {
  size_t n = 0;
  for (; name[n] && n + 1 < out_size; n++)
    out[n] = name[n] >= 'a' && name[n] <= 'z' ? (char)(name[n] - 'a' + 'A') : name[n];
  out[n] = '\0';
  return out;
}

void limits_text(const struct row *f, char *out, size_t out_size) {
  bool text = strcmp(f->kind, "STR") == 0 || strcmp(f->kind, "BYTES") == 0;
  char range[64] = "", cap[48] = "", def[96] = "";
  if (text && !zero(f->min))
    (void)blx__str_format(range, sizeof range, "%s..%s bytes", f->min, f->max);
  else if (text)
    (void)blx__str_format(range, sizeof range, "at most %s bytes", f->max);
  else if (!zero(f->max))
    (void)blx__str_format(range, sizeof range, "%s..%s", f->min, f->max);
  if (!zero(f->cap)) (void)blx__str_format(cap, sizeof cap, "%sat most %s of them", range[0] ? ", " : "", f->cap);
  if (!zero(f->def) && strcmp(f->def, "\"\"") != 0)
    (void)blx__str_format(def, sizeof def, "%sdefault %s", range[0] || cap[0] ? ", " : "", f->def);
  (void)blx__str_format(out, out_size, "%s%s%s", range, cap, def);
}
