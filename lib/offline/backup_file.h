/* A backup as a file: "BLXBACK1" | length u32, a backup_info | for each record length u32, a snapshot_record | 0 u32 |
 * SHA-256 of all before. Integers are little-endian. All of this blocks. Thread: any. */
#ifndef BLX__OFFLINE_BACKUP_FILE_H
#define BLX__OFFLINE_BACKUP_FILE_H

#include "base/buf.h"
#include "schema/internal.h"
#include <blixard/types.h>

/* ---- writing: nothing is at @path before the end, and what was begun and not ended leaves nothing */
struct blx__backup_writer;

/* @replace: what is at @path goes, at the end. Mode 0600: a state may hold secrets.
 * Errors: EXISTS, INVALID, NOT_FOUND (its directory), DENIED, NOSPACE, IO, NOMEM. */
blx__rc blx__backup_create(const char *path, bool replace, const struct blx_backup_info *info,
                           struct blx__backup_writer **out, blx_error *err) BLX__MUST;

/* Whole records, each with its length in front, as blx__state_write_part makes them. Errors: CORRUPT (they are none),
 * NOSPACE, IO. */
blx__rc blx__backup_add(struct blx__backup_writer *w, struct blx__slice records, blx_error *err) BLX__MUST;

/* The end: on the platter, under its name. @out: an owned blx_backup_info, complete. @w is gone in any case. */
blx__rc blx__backup_commit(struct blx__backup_writer *w, struct blx_backup_info **out, blx_error *err) BLX__MUST;
void blx__backup_abandon(struct blx__backup_writer *w); /* NULL allowed */

/* ---- reading */

/* Each record in turn, without its length; valid during the call. */
typedef blx__rc blx__backup_record_fn(void *user, struct blx__slice record, blx_error *err);

/* Read @path to its end and compare the checksum: only then is anything known of what was told. @fn NULL: nobody is
 * told. @out: an owned blx_backup_info. Errors: NOT_FOUND, DENIED, CORRUPT (says at which byte), UNSUPPORTED (of a
 * newer format), IO, NOMEM, those of @fn. */
blx__rc blx__backup_read(const char *path, blx__backup_record_fn *fn, void *user, struct blx_backup_info **out,
                         blx_error *err) BLX__MUST;

#endif
