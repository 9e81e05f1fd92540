/* A member's directory, for those that open it without a running member. */
#ifndef BLX__CONSENSUS_DISK_INT_H
#define BLX__CONSENSUS_DISK_INT_H

#include "base/buf.h"

/* Held until the descriptor is closed. Errors: BUSY, NOT_FOUND, DENIED, IO. */
blx__rc disk_lock_dir(const char *dir, int *out, blx_error *err) BLX__MUST;

/* Whose it is: the file `member`. Errors: NOT_FOUND (nobody's), CORRUPT. */
blx__rc disk_read_member(const char *dir, int dir_fd, uint64_t *uid, uint8_t *cluster_id, blx_error *err) BLX__MUST;
blx__rc disk_write_member(const char *dir, uint64_t uid, const uint8_t *cluster_id, blx_error *err) BLX__MUST;

/* It may become a new group's: of a file system that is known, and without anything that counts. */
blx__rc disk_make_ready(const char *dir, int dir_fd, blx_error *err) BLX__MUST;

/* The file `recovered`: what members below @below say does not count, if the log reaches @index. */
blx__rc disk_write_recovered(const char *dir, uint64_t below, uint64_t index, blx_error *err) BLX__MUST;

#endif
