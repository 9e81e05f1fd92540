/* Data directories of nodes that do not run: what is in them, how the last survivor of a cluster goes on, and how a
 * backup becomes a new cluster. All of these block. Thread: any. */
#ifndef BLX__OFFLINE_OFFLINE_H
#define BLX__OFFLINE_OFFLINE_H

#include "base/log.h"
#include "schema/internal.h"
#include <blixard/types.h>

/* Look at a server's directory, and change nothing. @out: owned (blx__msg_free_owned).
 * Errors: NOT_FOUND (no node is there), BUSY (a daemon has it open), CONFLICT (a worker's, or one that was never a
 * member), CORRUPT, UNSUPPORTED (of a newer version), DENIED, IO, NOMEM. */
blx__rc blx__offline_inspect(const char *data_dir, struct blx_recover_member **out, blx_error *err) BLX__MUST;

/* Let the server that @seen describes, as it was found, go on as the only one. @term_above: the highest term that any
 * other survivor has seen. @term: see consensus/recover.h. Errors: as above; CONFLICT (it is not as it was seen),
 * NOSPACE. */
blx__rc blx__offline_recover(const struct blx_recover_member *seen, uint64_t term_above, uint64_t *term,
                             blx_error *err) BLX__MUST;

struct blx__offline_restore {
  const char *path, *data_dir, *name, *cluster_name; /* cluster_name NULL: as in the backup */
};
/* Make the empty or missing directory that of the first node of a new cluster with the state of a backup.
 * @cluster_id: 32 hexadecimal digits. Errors: those of blx__backup_read; EXISTS (a node is there), INVALID, BUSY. */
blx__rc blx__offline_restore(const struct blx__offline_restore *o, char cluster_id[33], struct blx_backup_info **out,
                             blx_error *err) BLX__MUST;

#endif
