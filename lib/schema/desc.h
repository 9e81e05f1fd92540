/* Descriptions of every message and enum, built at compile time from the tables. Const and static. Thread: any. */
#ifndef BLX__SCHEMA_DESC_H
#define BLX__SCHEMA_DESC_H

#include "base/rc.h"
#include "schema/internal.h"

enum blx__card { BLX__CARD_ONE, BLX__CARD_OPT, BLX__CARD_REP };

enum blx__kind {
  BLX__KIND_BOOL,
  BLX__KIND_U32,
  BLX__KIND_I32,
  BLX__KIND_U64,
  BLX__KIND_I64,
  BLX__KIND_STR,
  BLX__KIND_BYTES,
  BLX__KIND_ENUM,
  BLX__KIND_MSG
};

/* What text may hold. ANY: UTF-8. NAME: DESIGN's names. LINE: UTF-8 without control characters. */
enum blx__form { BLX__FORM_ANY, BLX__FORM_NAME, BLX__FORM_LINE };

struct blx__enum_value {
  int32_t number;
  const char *label, *doc;
};

struct blx__enum_desc {
  const char *name, *proto, *doc; /* "node_status", "NodeStatus" */
  const struct blx__enum_value *values;
  unsigned value_count;
};

struct blx__msg_desc;

struct blx__field {
  uint32_t id;
  enum blx__card card;
  enum blx__kind kind;
  enum blx__form form;
  size_t offset; /* of the value, or of the pointer to the elements */
  size_t aux;    /* of has_x or n_x; 0: there is none */
  size_t size;   /* of the value, or of the pointer */
  int64_t min;   /* smallest number; fewest bytes of STR and BYTES; 1 for MSG: required */
  uint64_t max;  /* largest number (0 together with min 0: the whole range of its type); most bytes */
  size_t cap;    /* most elements of REP */
  const char *def_text;
  int64_t def_number;
  const struct blx__msg_desc *(*msg)(void);
  const struct blx__enum_desc *(*enumeration)(void);
  const char *name, *doc;
};

struct blx__msg_desc {
  const char *name, *proto, *doc;  /* "vm_spec", "VmSpec" */
  const struct blx__field *fields; /* by rising id */
  unsigned field_count;
  size_t size; /* of the struct */
};

/* blx__desc_vm_spec(), blx__enum_phase(): one function for each message and enum. */
#define ENUM(NAME, PROTO, DOC) const struct blx__enum_desc *blx__enum_##NAME(void);
#define MSG(NAME, PROTO, DOC) const struct blx__msg_desc *blx__desc_##NAME(void);
#include "schema/macros.h"
#include "schema/types.def"
#include "schema/api.def"
#include "schema/internal.def"
#include "schema/macros_end.h"

/* The message of that name ("vm_spec"), or NULL. */
const struct blx__msg_desc *blx__desc_find(const char *name);

/* Call @visit with each message, types first. */
void blx__desc_each(void (*visit)(void *user, const struct blx__msg_desc *desc), void *user);

/* The field of that name, or NULL. */
const struct blx__field *blx__desc_field(const struct blx__msg_desc *desc, const char *name);

/* "Running"; "unknown" for a number without a label; never NULL. */
const char *blx__enum_label(const struct blx__enum_desc *desc, int32_t value);

/* The number of a label, case as written, '-' and '_' being the same. False, and @out untouched, if there is none. */
bool blx__enum_value(const struct blx__enum_desc *desc, const char *label, int32_t *out);

#endif
