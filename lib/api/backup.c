/* Backups: the stream of a server's into a file, and files into directories. */
#include "api/api_int.h"

#include "offline/backup_file.h"
#include "offline/offline.h"

enum { PARTS_HELD = 16, WAIT_MS = 30000 };

static int next_part(const void *reader, uint32_t timeout_ms, struct blx_backup_part **out, blx_error *reterr) {
  void *message = NULL;
  int rc = blx__reader_next(reader, BLX__API_BACKUP, timeout_ms, &message, reterr);
  if (rc == 1) *out = message;
  if (rc != 0) return rc;
  return blx__fail(reterr, BLX_E_UNAVAILABLE, "backup", "the server ended before all was sent: try again").code;
}

static int copy_parts(const void *reader, struct blx__backup_writer *w, uint32_t timeout_ms, blx_error *reterr) {
  for (bool last = false; !last;) {
    struct blx_backup_part *part = NULL;
    int rc = next_part(reader, timeout_ms, &part, reterr);
    if (rc < 0) return rc;
    last = part->last != 0;
    rc = blx__backup_add(w, (struct blx__slice){part->records.data, part->records.len}, reterr).code;
    blx__msg_free_owned(part);
    if (rc != 0) return rc;
  }
  return 0;
}

static int save(const void *reader, const char *path, uint32_t flags, uint32_t timeout_ms, struct blx_backup_info **out,
                blx_error *reterr) {
  struct blx_backup_part *first = NULL;
  struct blx__backup_writer *w = NULL;
  int rc = next_part(reader, timeout_ms, &first, reterr);
  if (rc < 0) return rc;
  rc = first->info ? blx__backup_create(path, flags & BLX_BACKUP_REPLACE, first->info, &w, reterr).code
                   : blx__fail(reterr, BLX_E_INTERNAL, "backup", "the server does not say what it sends").code;
  blx__msg_free_owned(first);
  if (rc == 0) rc = copy_parts(reader, w, timeout_ms, reterr);
  if (rc == 0) return blx__backup_commit(w, out, reterr).code;
  blx__backup_abandon(w);
  return rc;
}

int blx_cluster_backup_save(blx_client *client, const char *path, uint32_t flags, uint32_t timeout_ms,
                            struct blx_backup_info **out, blx_error *reterr) {
  const struct blx_backup_request request = BLX_BACKUP_REQUEST_INIT;
  const struct blx__reader_options options = {
      .kind = BLX__API_BACKUP, .id = BLX__RPC_CLUSTER_BACKUP, .request = &request, .most = PARTS_HELD};
  void *reader = NULL;
  if (!path || !out) return blx__api_misuse(reterr, "the path or the place for the result is NULL");
  if (!*path) return blx__fail(reterr, BLX_E_INVALID, "backup", "the path of the backup is empty").code;
  if (flags & ~(uint32_t)BLX_BACKUP_REPLACE) return blx__api_misuse(reterr, "flags: only BLX_BACKUP_REPLACE is known");
  if (timeout_ms > BLX__API_TIMEOUT_MAX_MS)
    return blx__fail(reterr, BLX_E_INVALID, "backup", "timeout_ms: %u is above %d", timeout_ms, BLX__API_TIMEOUT_MAX_MS)
        .code;
  int rc = blx__reader_open(client, &options, &reader, reterr);
  if (rc == 0) rc = blx__reader_start(reader, BLX__API_BACKUP, reterr);
  if (rc != 0) return rc;
  rc = save(reader, path, flags, timeout_ms ? timeout_ms : WAIT_MS, out, reterr);
  blx__reader_close(reader, BLX__API_BACKUP);
  return rc;
}

int blx_backup_inspect(const char *path, struct blx_backup_info **out, blx_error *reterr) {
  if (!path || !out) return blx__api_misuse(reterr, "the path or the place for the result is NULL");
  return blx__backup_read(path, NULL, NULL, out, reterr).code;
}

enum { DATA_DIR_MAX = 80 };

int blx_backup_restore(const struct blx_restore_options *options, char cluster_id[33], struct blx_backup_info **out,
                       blx_error *reterr) {
  struct blx_restore_options o;
  struct blx_backup_info *info = NULL;
  if (!options || !cluster_id) return blx__api_misuse(reterr, "the options or the place for the id is NULL");
  size_t min = offsetof(struct blx_restore_options, cluster_name);
  blx__rc rc = blx__api_take_struct(&o, sizeof o, min, options, "restore", reterr);
  if (rc.code != 0) return rc.code;
  if (!o.path || !o.data_dir || !*o.data_dir || strlen(o.data_dir) > DATA_DIR_MAX || !o.name)
    return blx__fail(reterr, BLX_E_INVALID, "restore", "path, name and a data_dir of 1 to %d bytes are required",
                     DATA_DIR_MAX)
        .code;
  const struct blx__offline_restore how = {o.path, o.data_dir, o.name, o.cluster_name};
  rc = blx__offline_restore(&how, cluster_id, &info, reterr);
  if (rc.code != 0) return rc.code;
  if (out)
    *out = info;
  else
    blx__msg_free_owned(info);
  return 0;
}

void blx_backup_info_free(struct blx_backup_info *info) {
  blx__msg_free_owned(info);
}
