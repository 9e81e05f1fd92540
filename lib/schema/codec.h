/* Messages as proto3 bytes, and copies of them.
 *
 * Bytes are canonical: fields by rising id, zero and empty left out, numbers of a repeated field packed. Decoding
 * accepts what protobuf accepts, and refuses more: a length above the row's maximum (before anything is allocated for
 * it), more elements than the row's cap, a number that its type cannot hold, another wire type than the row's, text
 * that is not UTF-8 or holds a NUL, nesting deeper than BLX__MSG_DEPTH_MAX. Fields with ids that this version does not
 * know are kept byte for byte and written again in order of id. Encoding refuses what decoding would refuse.
 *
 * Structs given by a caller may be smaller (built with an older header: what is missing counts as zero) or larger with
 * a tail of zeroes; any other struct_size is BLX_E_UNSUPPORTED. Structs made here always have the whole size.
 * Reference: protobuf.dev, "Encoding". Thread: any; an arena or buffer is used by one thread at a time. */
#ifndef BLX__SCHEMA_CODEC_H
#define BLX__SCHEMA_CODEC_H

#include "base/arena.h"
#include "base/buf.h"
#include "schema/desc.h"

enum {
  BLX__MSG_DEPTH_MAX = 32,
  BLX__MSG_UNKNOWN_MAX = 64,               /* different unknown fields in one message */
  BLX__MSG_OWNED_BYTES_MAX = 256 * 1048576 /* what decode_owned may take for a while */
};

/* A zero message with struct_size set, in the arena. NULL when the arena is full. */
void *blx__msg_new(const struct blx__msg_desc *desc, struct blx__arena *arena);

/* Append @msg as bytes to @out; @out is unchanged on failure.
 * Errors: BLX_E_INVALID (a value that decoding would refuse, or it does not fit @out->max), BLX_E_UNSUPPORTED
 * (struct_size), BLX_E_NOMEM. */
blx__rc blx__msg_encode(const struct blx__msg_desc *desc, const void *msg, struct blx__buf *out,
                        blx_error *err) BLX__MUST;

/* Decode @bytes into the arena; nothing in the result points into @bytes. @out is untouched on failure; the arena then
 * holds garbage until it is reset.
 * Errors: BLX_E_INVALID (names the field; also when it needs more than the arena's limit), BLX_E_NOMEM. */
blx__rc blx__msg_decode(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice bytes, void **out,
                        blx_error *err) BLX__MUST;

/* The same, and UNSUPPORTED for a field that this version does not know. */
blx__rc blx__msg_decode_known(const struct blx__msg_desc *desc, struct blx__arena *arena, struct blx__slice bytes,
                              void **out, blx_error *err) BLX__MUST;

/* Deep copy into the arena, unknown fields too; the copy has the whole struct size.
 * Errors: BLX_E_UNSUPPORTED (struct_size), BLX_E_INVALID (arena's limit, depth), BLX_E_NOMEM. */
blx__rc blx__msg_copy(const struct blx__msg_desc *desc, struct blx__arena *arena, const void *msg, void **out,
                      blx_error *err) BLX__MUST;

/* Deep copy into one allocation of exactly the size it needs; free it with blx__msg_free_owned. Errors: as copy. */
blx__rc blx__msg_own(const struct blx__msg_desc *desc, const void *msg, void **out, blx_error *err) BLX__MUST;

/* Decode into one allocation. Errors: as decode. */
blx__rc blx__msg_decode_owned(const struct blx__msg_desc *desc, struct blx__slice bytes, void **out,
                              blx_error *err) BLX__MUST;

/* Free what own or decode_owned gave; NULL is allowed. */
void blx__msg_free_owned(void *owned);

/* Bytes of memory that an owned message takes. */
size_t blx__msg_owned_bytes(const void *owned);

#endif
