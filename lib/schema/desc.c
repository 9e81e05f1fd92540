/* The description tables. Each is a static inside its message's function, where `cur` names the struct, so that a row
 * need not repeat it for offsetof. */
#include "schema/desc.h"
#include "schema/layout.h"
#include "schema/rpc_table.h"

#include <string.h>

/* Columns that depend on the kind. Text has a form and a default text, the others a number. */
#define FORM_BOOL(SUB) BLX__FORM_ANY
#define FORM_U32(SUB) BLX__FORM_ANY
#define FORM_I32(SUB) BLX__FORM_ANY
#define FORM_U64(SUB) BLX__FORM_ANY
#define FORM_I64(SUB) BLX__FORM_ANY
#define FORM_STR(SUB) BLX__FORM_##SUB
#define FORM_BYTES(SUB) BLX__FORM_ANY
#define FORM_ENUM(SUB) BLX__FORM_ANY
#define FORM_MSG(SUB) BLX__FORM_ANY

#define SUB_BOOL(SUB)
#define SUB_U32(SUB)
#define SUB_I32(SUB)
#define SUB_U64(SUB)
#define SUB_I64(SUB)
#define SUB_STR(SUB)
#define SUB_BYTES(SUB)
#define SUB_ENUM(SUB) .enumeration = blx__enum_##SUB,
#define SUB_MSG(SUB) .msg = blx__desc_##SUB,

#define DEF_BOOL(DEF) .def_number = (DEF),
#define DEF_U32(DEF) .def_number = (DEF),
#define DEF_I32(DEF) .def_number = (DEF),
#define DEF_U64(DEF) .def_number = (DEF),
#define DEF_I64(DEF) .def_number = (DEF),
#define DEF_STR(DEF) .def_text = (DEF),
#define DEF_BYTES(DEF)
#define DEF_ENUM(DEF) .def_number = (DEF),
#define DEF_MSG(DEF)

/* An optional message needs no has_x: its pointer tells. */
#define OPT_BOOL(NAME) offsetof(cur, has_##NAME)
#define OPT_U32(NAME) offsetof(cur, has_##NAME)
#define OPT_I32(NAME) offsetof(cur, has_##NAME)
#define OPT_U64(NAME) offsetof(cur, has_##NAME)
#define OPT_I64(NAME) offsetof(cur, has_##NAME)
#define OPT_STR(NAME) offsetof(cur, has_##NAME)
#define OPT_BYTES(NAME) offsetof(cur, has_##NAME)
#define OPT_ENUM(NAME) offsetof(cur, has_##NAME)
#define OPT_MSG(NAME) 0
#define AUX_ONE(KIND, NAME) 0
#define AUX_OPT(KIND, NAME) OPT_##KIND(NAME)
#define AUX_REP(KIND, NAME) offsetof(cur, n_##NAME)

#define ENUM(NAME, PROTO, DOC)                                                          \
  _Static_assert(sizeof(enum blx_##NAME) == sizeof(int32_t), "enums are 32 bits wide"); \
  const struct blx__enum_desc *blx__enum_##NAME(void) {                                 \
    static const char name[] = #NAME, proto[] = #PROTO, doc[] = DOC;                    \
    static const struct blx__enum_value values[] = {
#define EV(ENUM_NAME, NAME, LABEL, NUMBER, DOC) {.number = (NUMBER), .label = #LABEL, .doc = (DOC)},
#define ENUM_END(NAME)                                                                      \
  }                                                                                         \
  ;                                                                                         \
  static const struct blx__enum_desc desc = {name, proto, doc, values, BLX__COUNT(values)}; \
  return &desc;                                                                             \
  }
#define MSG(NAME, PROTO, DOC)                                        \
  const struct blx__msg_desc *blx__desc_##NAME(void) {               \
    typedef struct blx_##NAME cur;                                   \
    static const char name[] = #NAME, proto[] = #PROTO, doc[] = DOC; \
    static const struct blx__field fields[] = {
#define F(ID, CARD, KIND, SUB, NAME, MIN, MAX, CAP, DEF, DOC) \
  {.id = (ID),                                                \
   .card = BLX__CARD_##CARD,                                  \
   .kind = BLX__KIND_##KIND,                                  \
   .form = FORM_##KIND(SUB),                                  \
   .offset = offsetof(cur, NAME),                             \
   .aux = AUX_##CARD(KIND, NAME),                             \
   .size = sizeof(((cur *)0)->NAME),                          \
   .min = (MIN),                                              \
   .max = (uint64_t)(MAX),                                    \
   .cap = (CAP),                                              \
   DEF_##KIND(DEF) SUB_##KIND(SUB).name = #NAME,              \
   .doc = (DOC)},
/* The last entry ends a search by id without a bound check. */
#define MSG_END(NAME)                                                                                       \
  { .id = UINT32_MAX, .name = "" }                                                                          \
  }                                                                                                         \
  ;                                                                                                         \
  static const struct blx__msg_desc desc = {name, proto, doc, fields, BLX__COUNT(fields) - 1, sizeof(cur)}; \
  return &desc;                                                                                             \
  }
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/internal.def"
#include "schema/macros_end.h"

/* An id used twice in a message is a duplicate case, that is a compile error. */
#define MSG(NAME, PROTO, DOC)                                      \
  __attribute__((unused)) static void ids_of_##NAME(uint32_t id) { \
    switch (id) {                                                  \
    case 0:
#define F(ID, CARD, KIND, SUB, NAME, MIN, MAX, CAP, DEF, DOC) case ID:
#define MSG_END(NAME) \
  break;              \
  }                   \
  }
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/internal.def"
#include "schema/macros_end.h"

static const struct blx__msg_desc *(*const all_messages[])(void) = {
#define MSG(NAME, PROTO, DOC) blx__desc_##NAME,
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/internal.def"
#include "schema/macros_end.h"
};

const struct blx__msg_desc *blx__desc_find(const char *name) {
  for (size_t i = 0; i < BLX__COUNT(all_messages); i++) {
    const struct blx__msg_desc *desc = all_messages[i]();
    if (strcmp(desc->name, name) == 0) return desc;
  }
  return NULL;
}

void blx__desc_each(void (*visit)(void *user, const struct blx__msg_desc *desc), void *user) {
  for (size_t i = 0; i < BLX__COUNT(all_messages); i++) visit(user, all_messages[i]());
}

const struct blx__field *blx__desc_field(const struct blx__msg_desc *desc, const char *name) {
  for (unsigned i = 0; i < desc->field_count; i++)
    if (strcmp(desc->fields[i].name, name) == 0) return &desc->fields[i];
  return NULL;
}

const char *blx__enum_label(const struct blx__enum_desc *desc, int32_t value) {
  for (unsigned i = 0; i < desc->value_count; i++)
    if (desc->values[i].number == value) return desc->values[i].label;
  return "unknown";
}

static bool label_same(const char *a, const char *b) {
  for (; *a && *b; a++, b++) {
    char x = *a == '-' ? '_' : *a, y = *b == '-' ? '_' : *b;
    if (x != y) return false;
  }
  return *a == *b;
}

bool blx__enum_value(const struct blx__enum_desc *desc, const char *label, int32_t *out) {
  for (unsigned i = 0; i < desc->value_count; i++) {
    if (!label_same(desc->values[i].label, label)) continue;
    *out = desc->values[i].number;
    return true;
  }
  return false;
}

enum rpc_at {
#define RPC(NAME, PROTO, REQUEST, RESPONSE, MODE, ROUTE, DOC) RPC_AT_##NAME,
#include "schema/macros.h"
#include "schema/api.def"
#include "schema/internal.def"
#include "schema/macros_end.h"
  RPC_AT_END
};
_Static_assert((int)RPC_AT_END == (int)BLX__RPC_COUNT, "rpc_ids.h is stale: run `make schema`");

enum rpc_mode { MODE_UNARY, MODE_STREAM, MODE_BIDI };

static const struct blx__rpc_row rpc_rows[] = {
#define RPC(NAME, PROTO, REQUEST, RESPONSE, MODE, ROUTE, DOC) \
  {(enum blx__rpc_id)RPC_AT_##NAME,                           \
   #NAME,                                                     \
   "/blixard.v1." SERVICE_NAME "/" #PROTO,                    \
   blx__desc_##REQUEST,                                       \
   blx__desc_##RESPONSE,                                      \
   MODE_##MODE != MODE_UNARY,                                 \
   MODE_##MODE == MODE_BIDI,                                  \
   BLX__ROUTE_##ROUTE,                                        \
   MEMBER_ONLY,                                               \
   DOC},
#include "schema/macros.h"
#define SERVICE_NAME "Blixard"
#define MEMBER_ONLY false
#include "schema/api.def"
#undef SERVICE_NAME
#undef MEMBER_ONLY
#define SERVICE_NAME "Member"
#define MEMBER_ONLY true
#include "schema/internal.def"
#undef SERVICE_NAME
#undef MEMBER_ONLY
#include "schema/macros_end.h"
};

const struct blx__rpc_row *blx__rpc_rows(void) {
  return rpc_rows;
}

const struct blx__rpc_row *blx__rpc_find_path(const char *path) {
  for (size_t i = 0; i < BLX__COUNT(rpc_rows); i++)
    if (strcmp(rpc_rows[i].path, path) == 0) return &rpc_rows[i];
  return NULL;
}
