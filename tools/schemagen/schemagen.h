/* schemagen: prints what derives from lib/schema's tables as text. It includes the tables themselves and nothing that
 * is generated from them, so a broken output can always be made anew. Thread: one. */
#ifndef BLX_TOOLS_SCHEMAGEN_H
#define BLX_TOOLS_SCHEMAGEN_H

#include "base/buf.h"

enum tag { T_ENUM, T_EV, T_ENUM_END, T_MSG, T_FIELD, T_MSG_END, T_SERVICE, T_RPC, T_SERVICE_END };
enum source { FROM_TYPES, FROM_API, FROM_INTERNAL };

/* One row of a table, as it is written there. Columns a row does not have are NULL. */
struct row {
  enum tag tag;
  enum source source;
  const char *name, *proto; /* of EV: NAME and label */
  long id;                  /* of a field; of EV: its number */
  const char *card, *kind, *sub, *min, *max, *cap, *def;
  const char *request, *response, *mode, *route;
  const char *doc;
};

extern const struct row rows[];
extern const size_t row_count;

/* The ENUM or MSG row of that name; NULL if there is none. */
const struct row *row_find(enum tag tag, const char *name);

/* False, and a line for each fault on stderr, when the tables break a rule that the compiler cannot see. */
bool rows_check(void);

/* Text of the limits and the default of a field, "" if it has none: "1..512, default 1". */
void limits_text(const struct row *f, char *out, size_t out_size);

/* Append formatted text; a full buffer ends the program. */
void put(struct blx__buf *out, const char *fmt, ...) BLX__PRINTF(2, 3);

/* "vm_spec" to "VM_SPEC"; returns @out. */
const char *upper(const char *name, char *out, size_t out_size);

/* ---- layout.c */

/* Take the sizes recorded in the text of the lock. False, and a line on stderr, if one cannot be read. */
bool layout_load(const char *lock);

/* False, and lines on stderr, when a row was put between rows that programs are built with. */
bool layout_check(void);

/* Whether an unused 32-bit member is needed in front of row @f of the public message @msg. */
bool layout_pad_before(const struct row *msg, const struct row *f);

/* The lock's lines on the sizes of a message: those it has, and the present one. */
void out_layout_lock(struct blx__buf *out, const struct row *msg);

/* One writer for each output. */
void out_layout_h(struct blx__buf *out);
void out_types_h(struct blx__buf *out);
void out_calls_h(struct blx__buf *out);
void out_internal_h(struct blx__buf *out);
void out_rpc_ids_h(struct blx__buf *out);
void out_proto(struct blx__buf *out);
void out_member_proto(struct blx__buf *out);
void out_reference(struct blx__buf *out);
void out_lock(struct blx__buf *out);

#endif
