/* A copy of everything that a cluster agreed on, in a file, and a new cluster made of it. */
#ifndef BLIXARD_BACKUP_H
#define BLIXARD_BACKUP_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BLX_BACKUP_REPLACE = 1 }; /* flags: what is at the path goes */

/* Save the cluster's state as of one index: everything that was acknowledged before the call, and nothing half. Any
 * server can be asked; it sends in parts, of which a few are in memory. The file, of mode 0600 for it may hold secrets,
 * appears when all of it is on the disk; a save that was interrupted leaves none. Instances' disks and consoles are not
 * in it.
 * @path        where; its directory must exist
 * @flags       0, or BLX_BACKUP_REPLACE
 * @timeout_ms  how long to wait for the next part, 1..3600000; 0: 30000
 * @out         what was saved; free with blx_backup_info_free(); untouched on error
 * Errors: BLX_E_EXISTS (there is a file), BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT, BLX_E_BUSY (too many
 * backups at a time, or this one is read more slowly than the cluster changes), BLX_E_UNSUPPORTED (an older server),
 * BLX_E_NOSPACE, BLX_E_DENIED, BLX_E_NOT_FOUND (the directory), BLX_E_INVALID, BLX_E_IO, BLX_E_NOMEM, BLX_E_MISUSE.
 * Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_cluster_backup_save(blx_client *client, const char *path, uint32_t flags, uint32_t timeout_ms,
                                    struct blx_backup_info **out, blx_error *reterr);

/* Read a backup to its end, compare its checksum, say what is in it. Blocks. @out as above.
 * Errors: BLX_E_CORRUPT (says at which byte), BLX_E_NOT_FOUND, BLX_E_UNSUPPORTED (of a newer version), BLX_E_DENIED,
 * BLX_E_INVALID (no file), BLX_E_IO, BLX_E_NOMEM, BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_backup_inspect(const char *path, struct blx_backup_info **out, blx_error *reterr);

struct blx_restore_options {
  size_t struct_size;
  const char *path;         /* the backup; required */
  const char *data_dir;     /* empty, or made: of the new cluster's first node, at most 80 bytes; required */
  const char *name;         /* that node's name, as in blixard/node.h; required */
  const char *cluster_name; /* of the new cluster; NULL: as it was */
};
#define BLX_RESTORE_OPTIONS_INIT BLX_INIT_(struct blx_restore_options)
BLX_INIT_FN_(restore_options)

/* Make a NEW cluster, with an id of its own, of a backup: one node, which serves once it is opened on @data_dir. VMs
 * and their modules are those of the backup. Instances keep their names, uids and epochs, belong to no node, and are
 * placed as nodes join; the old cluster's nodes, events and answers kept for repeated requests are not in it, nor are
 * VMs that were being deleted. The old cluster is not told: where it still runs, everything runs twice. Blocks.
 * @cluster_id  32 hexadecimal digits and a zero
 * @out         what was restored, as blx_backup_inspect() says; NULL: not wanted
 * Errors: those of blx_backup_inspect(), BLX_E_EXISTS (the directory is not empty), BLX_E_BUSY (a daemon has it),
 * BLX_E_NOSPACE. Nothing is left in the directory then. Thread: any. Since 0.1. */
BLX_API int blx_backup_restore(const struct blx_restore_options *options, char cluster_id[33],
                               struct blx_backup_info **out, blx_error *reterr);

/* NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_backup_info_free(struct blx_backup_info *info);

#ifdef __cplusplus
}
#endif
#endif
