/* Defaults and limits, as the tables give them. Run by the leader at admission, defaults first. Thread: any. */
#ifndef BLX__SCHEMA_VALIDATE_H
#define BLX__SCHEMA_VALIDATE_H

#include "schema/codec.h"

/* Fill in the table's default where a field is zero or empty (OPT: absent), in nested messages that are present too.
 * Texts filled in are static.
 * @msg  of the whole struct size: from new, decode, copy or own
 * Errors: BLX_E_MISUSE (a struct of another size: copy it first). */
blx__rc blx__msg_defaults(const struct blx__msg_desc *desc, struct blx__arena *arena, void *msg,
                          blx_error *err) BLX__MUST;

/* Check minimum, maximum, caps, forms of text and enum values, nested messages too. A number's minimum counts also when
 * it is zero, except in an OPT field that is absent. I32 and I64 rows with min 0 and max 0 take their whole type. Text
 * with a minimum of 1, and a message with min 1, are required.
 * Errors: BLX_E_INVALID with path, value, bound and unit of the first fault: "spec.memory_mib: 16 is below 32 (MiB)";
 *         BLX_E_UNSUPPORTED (struct_size). */
blx__rc blx__msg_validate(const struct blx__msg_desc *desc, const void *msg, blx_error *err) BLX__MUST;

/* Refuse a message that carries fields this version does not know: log entries never do.
 * Errors: BLX_E_UNSUPPORTED with path and field number. */
blx__rc blx__msg_refuse_unknown(const struct blx__msg_desc *desc, const void *msg, blx_error *err) BLX__MUST;

/* The unit that a field's name ends with: "MiB" for memory_mib, "ms", "bytes", ... ; "" if it has none. Static. */
const char *blx__field_unit(const struct blx__field *field);

/* What a number field takes, for messages: "a whole number from 32 to 1048576 (MiB)". False if cut. */
bool blx__field_range(const struct blx__field *field, char *out, size_t out_size);

#endif
