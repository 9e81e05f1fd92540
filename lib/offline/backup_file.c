#include "offline/backup_file.h"

#include "base/digest.h"
#include "io/file.h"
#include "schema/codec.h"
#include "schema/desc.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FORMAT = 1, INFO_MAX = 4096, OUT_BYTES = 256 << 10, IN_BYTES = 256 << 10 };

static const uint8_t magic[8] = {'B', 'L', 'X', 'B', 'A', 'C', 'K', '1'};
static const char origin[] = "backup";

static uint32_t u32_at(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void u32_put(uint8_t p[4], uint32_t v) {
  for (unsigned i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static blx__rc own_info(const struct blx_backup_info *info, struct blx_backup_info **out, blx_error *err) {
  void *owned = NULL;
  BLX__TRY(blx__msg_own(blx__desc_backup_info(), info, &owned, err));
  *out = owned;
  return BLX__OK;
}

/* ---- writing */

struct blx__backup_writer {
  char path[PATH_MAX], temp[PATH_MAX]; /* temp "": the file has no name yet */
  bool replace;
  int fd;
  struct blx__sha256 *digest;
  struct blx__buf out;
  struct blx_backup_info *info;
  uint64_t bytes, records;
};

void blx__backup_abandon(struct blx__backup_writer *w) {
  if (!w) return;
  if (w->fd >= 0) (void)close(w->fd);
  if (w->temp[0]) (void)unlink(w->temp);
  blx__sha256_free(w->digest);
  blx__msg_free_owned(w->info);
  blx__buf_free(&w->out);
  free(w);
}

static blx__rc flush(struct blx__backup_writer *w, blx_error *err) {
  for (size_t at = 0; at < w->out.len;) {
    ssize_t n = write(w->fd, w->out.data + at, w->out.len - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return blx__fail_errno(err, n < 0 ? errno : EIO, origin, "cannot write %s after %llu bytes", w->path,
                             (unsigned long long)w->bytes);
    at += (size_t)n;
  }
  blx__buf_clear(&w->out);
  return BLX__OK;
}

static blx__rc put(struct blx__backup_writer *w, const void *bytes, size_t len, blx_error *err) {
  for (size_t at = 0; at < len;) {
    if (w->out.len == OUT_BYTES) BLX__TRY(flush(w, err));
    size_t room = OUT_BYTES - w->out.len, n = len - at < room ? len - at : room;
    if (!blx__buf_add(&w->out, (const uint8_t *)bytes + at, n))
      return blx__fail(err, BLX_E_NOMEM, origin, "no memory to write %s", w->path);
    at += n;
  }
  if (w->digest) blx__sha256_add(w->digest, (struct blx__slice){bytes, len});
  w->bytes += len;
  return BLX__OK;
}

static const char *dir_of(const char *path, char out[PATH_MAX]) {
  (void)blx__str_copy(out, PATH_MAX, path);
  char *slash = strrchr(out, '/');
  if (!slash) return ".";
  slash[slash == out] = '\0';
  return out;
}

/* Without a name, where the file system can: then not even a SIGKILL leaves anything behind. */
static blx__rc open_file(struct blx__backup_writer *w, blx_error *err) {
  char dir[PATH_MAX];
  w->fd = open(dir_of(w->path, dir), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (w->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    if (!blx__str_format(w->temp, sizeof w->temp, "%s.XXXXXX", w->path))
      return blx__fail(err, BLX_E_INVALID, origin, "the path of the backup is too long");
    w->fd = mkostemp(w->temp, O_CLOEXEC);
    if (w->fd < 0) w->temp[0] = '\0';
  }
  if (w->fd < 0) return blx__fail_errno(err, errno, origin, "cannot make a file beside %s", w->path);
  if (fchmod(w->fd, 0600) == 0) return BLX__OK;
  return blx__fail_errno(err, errno, origin, "cannot set the mode of %s", w->path);
}

static blx__rc exists(const char *path, blx_error *err) {
  return blx__fail(err, BLX_E_EXISTS, origin, "%s is there already: give another name, or --force to replace it", path);
}

static blx__rc put_info(struct blx__backup_writer *w, const struct blx_backup_info *info, blx_error *err) {
  struct blx__buf bytes;
  uint8_t len[4];
  struct blx_backup_info head = *info;
  head.format = FORMAT;
  head.records = head.bytes = 0;
  head.sha256 = NULL;
  BLX__TRY(own_info(&head, &w->info, err));
  blx__buf_init(&bytes, INFO_MAX);
  blx__rc rc = blx__msg_encode(blx__desc_backup_info(), &head, &bytes, err);
  u32_put(len, (uint32_t)bytes.len);
  if (rc.code == 0) rc = put(w, magic, sizeof magic, err);
  if (rc.code == 0) rc = put(w, len, sizeof len, err);
  if (rc.code == 0) rc = put(w, bytes.data, bytes.len, err);
  blx__buf_free(&bytes);
  return rc;
}

static blx__rc begin(struct blx__backup_writer *w, const char *path, const struct blx_backup_info *info,
                     blx_error *err) {
  struct stat st;
  if (!*path || !blx__str_copy(w->path, sizeof w->path, path))
    return blx__fail(err, BLX_E_INVALID, origin, "the path of the backup must have 1 to %d bytes", PATH_MAX - 1);
  if (!w->replace && lstat(path, &st) == 0) return exists(path, err);
  w->digest = blx__sha256_new();
  if (!w->digest) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a backup");
  BLX__TRY(open_file(w, err));
  return put_info(w, info, err);
}

blx__rc blx__backup_create(const char *path, bool replace, const struct blx_backup_info *info,
                           struct blx__backup_writer **out, blx_error *err) {
  struct blx__backup_writer *w = calloc(1, sizeof *w);
  if (!w) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a backup");
  w->fd = -1;
  w->replace = replace;
  blx__buf_init(&w->out, OUT_BYTES);
  blx__rc rc = begin(w, path, info, err);
  if (rc.code == 0)
    *out = w;
  else
    blx__backup_abandon(w);
  return rc;
}

blx__rc blx__backup_add(struct blx__backup_writer *w, struct blx__slice records, blx_error *err) {
  uint64_t count = 0;
  for (size_t at = 0; at < records.len; count++) {
    uint32_t n = records.len - at >= 4 ? u32_at(records.data + at) : 0;
    if (n == 0 || n > BLX__STATE_RECORD_MAX || n > records.len - at - 4)
      return blx__fail(err, BLX_E_CORRUPT, origin, "what was sent for the backup are no records: nothing was written");
    at += 4 + (size_t)n;
  }
  w->records += count;
  return put(w, records.data, records.len, err);
}

static blx__rc name_it(struct blx__backup_writer *w, blx_error *err) {
  char of_fd[64], between[PATH_MAX];
  if (!w->temp[0]) {
    uint64_t salt = 0;
    BLX__TRY(blx__random_bytes(&salt, sizeof salt, err));
    bool fits = blx__str_format(of_fd, sizeof of_fd, "/proc/self/fd/%d", w->fd) &&
                blx__str_format(between, sizeof between, "%s.%016llx", w->path, (unsigned long long)salt);
    if (!fits) return blx__fail(err, BLX_E_INVALID, origin, "the path of the backup is too long");
    const char *name = w->replace ? between : w->path;
    if (linkat(AT_FDCWD, of_fd, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0)
      return errno == EEXIST ? exists(w->path, err) : blx__fail_errno(err, errno, origin, "cannot name %s", w->path);
    if (!w->replace) return BLX__OK;
    (void)blx__str_copy(w->temp, sizeof w->temp, between);
  }
  int rc = w->replace ? rename(w->temp, w->path) : link(w->temp, w->path);
  if (rc != 0)
    return errno == EEXIST ? exists(w->path, err) : blx__fail_errno(err, errno, origin, "cannot name %s", w->path);
  if (!w->replace) (void)unlink(w->temp);
  w->temp[0] = '\0';
  return BLX__OK;
}

static blx__rc sync_dir(const struct blx__backup_writer *w, blx_error *err) {
  char dir[PATH_MAX];
  int fd = open(dir_of(w->path, dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int why = fd < 0 || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) (void)close(fd);
  return why == 0 ? BLX__OK : blx__fail_errno(err, why, origin, "cannot flush the directory of %s", w->path);
}

static blx__rc finish(struct blx__backup_writer *w, struct blx_backup_info **out, blx_error *err) {
  static const uint8_t end[4];
  uint8_t digest[BLX__SHA256_BYTES];
  char hex[BLX__SHA256_HEX];
  BLX__TRY(put(w, end, sizeof end, err));
  blx__sha256_end(w->digest, digest);
  w->digest = NULL;
  BLX__TRY(put(w, digest, sizeof digest, err));
  BLX__TRY(flush(w, err));
  if (fsync(w->fd) != 0) return blx__fail_errno(err, errno, origin, "cannot flush %s", w->path);
  BLX__TRY(name_it(w, err));
  BLX__TRY(sync_dir(w, err));
  blx__sha256_hex(digest, hex);
  struct blx_backup_info info = *w->info;
  info.records = w->records;
  info.bytes = w->bytes;
  info.sha256 = hex;
  return own_info(&info, out, err);
}

blx__rc blx__backup_commit(struct blx__backup_writer *w, struct blx_backup_info **out, blx_error *err) {
  blx__rc rc = finish(w, out, err);
  blx__backup_abandon(w);
  return rc;
}

/* ---- reading */

struct reading {
  const char *path;
  FILE *file;
  uint64_t at; /* bytes that were read */
  struct blx__sha256 *digest;
  uint8_t *record; /* BLX__STATE_RECORD_MAX */
  uint64_t records;
};

static blx__rc damaged(const struct reading *r, uint64_t at, const char *what, blx_error *err) {
  return blx__fail(err, BLX_E_CORRUPT, origin, "%s is damaged at byte %llu: %s; use another backup", r->path,
                   (unsigned long long)at, what);
}

static blx__rc get(struct reading *r, void *out, size_t len, const char *what, blx_error *err) {
  size_t n = fread(out, 1, len, r->file);
  if (n < len && ferror(r->file)) return blx__fail_errno(err, errno, origin, "cannot read %s", r->path);
  if (n < len) return damaged(r, r->at + n, what, err);
  if (r->digest) blx__sha256_add(r->digest, (struct blx__slice){out, len});
  r->at += len;
  return BLX__OK;
}

static blx__rc read_info(struct reading *r, struct blx_backup_info **out, blx_error *err) {
  uint8_t head[sizeof magic + 4], bytes[INFO_MAX];
  void *owned = NULL;
  blx_error why;
  BLX__TRY(get(r, head, sizeof head, "it ends in its header", err));
  if (memcmp(head, magic, sizeof magic - 1) != 0) return damaged(r, 0, "it is no backup of Blixard", err);
  if (head[sizeof magic - 1] != magic[sizeof magic - 1])
    return blx__fail(err, BLX_E_UNSUPPORTED, origin, "%s is of another format than this version reads: use its own",
                     r->path);
  uint32_t len = u32_at(head + sizeof magic);
  if (len > sizeof bytes) return damaged(r, sizeof magic, "its header is too long", err);
  BLX__TRY(get(r, bytes, len, "it ends in its header", err));
  if (blx__msg_decode_owned(blx__desc_backup_info(), (struct blx__slice){bytes, len}, &owned, &why).code != 0)
    return damaged(r, sizeof head, why.message, err);
  *out = owned;
  return BLX__OK;
}

static blx__rc read_records(struct reading *r, blx__backup_record_fn *fn, void *user, blx_error *err) {
  for (;; r->records++) {
    uint8_t head[4];
    uint64_t at = r->at;
    BLX__TRY(get(r, head, sizeof head, "it ends before its last record", err));
    uint32_t len = u32_at(head);
    if (len == 0) return BLX__OK;
    if (len > BLX__STATE_RECORD_MAX) return damaged(r, at, "a record is too long", err);
    BLX__TRY(get(r, r->record, len, "it ends in a record", err));
    if (fn) BLX__TRY(fn(user, (struct blx__slice){r->record, len}, err));
  }
}

static blx__rc read_trailer(struct reading *r, char hex[BLX__SHA256_HEX], blx_error *err) {
  uint8_t digest[BLX__SHA256_BYTES], said[BLX__SHA256_BYTES];
  uint64_t at = r->at;
  blx__sha256_end(r->digest, digest);
  r->digest = NULL;
  BLX__TRY(get(r, said, sizeof said, "it ends in its checksum", err));
  if (memcmp(digest, said, sizeof digest) != 0)
    return damaged(r, at, "its checksum does not match what is before it", err);
  if (fgetc(r->file) != EOF) return damaged(r, r->at, "something follows its end", err);
  blx__sha256_hex(digest, hex);
  return BLX__OK;
}

static blx__rc read_all(struct reading *r, blx__backup_record_fn *fn, void *user, struct blx_backup_info **out,
                        blx_error *err) {
  struct blx_backup_info *info = NULL;
  char hex[BLX__SHA256_HEX];
  BLX__TRY(read_info(r, &info, err));
  blx__rc rc = read_records(r, fn, user, err);
  if (rc.code == 0) rc = read_trailer(r, hex, err);
  if (rc.code == 0) {
    struct blx_backup_info whole = *info;
    whole.records = r->records;
    whole.bytes = r->at;
    whole.sha256 = hex;
    rc = own_info(&whole, out, err);
  }
  blx__msg_free_owned(info);
  return rc;
}

/* A fifo would be waited for. */
static FILE *open_regular(const char *path, blx_error *err) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  int why = fd < 0 || fstat(fd, &st) != 0 ? errno : 0;
  FILE *file = why == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
  if (file) return file;
  if (fd >= 0) (void)close(fd);
  if (why != 0)
    (void)blx__fail_errno(err, why, origin, "cannot open %s", path);
  else
    (void)blx__fail(err, BLX_E_INVALID, origin, "%s is not a file", path);
  return NULL;
}

blx__rc blx__backup_read(const char *path, blx__backup_record_fn *fn, void *user, struct blx_backup_info **out,
                         blx_error *err) {
  blx_error why = {0};
  struct reading r = {.path = path, .file = open_regular(path, &why)};
  if (!r.file) return blx__fail_as(err, &why);
  r.digest = blx__sha256_new();
  r.record = malloc(BLX__STATE_RECORD_MAX);
  blx__rc rc = r.digest && r.record ? read_all(&r, fn, user, out, err)
                                    : blx__fail(err, BLX_E_NOMEM, origin, "no memory to read %s", path);
  blx__sha256_free(r.digest);
  free(r.record);
  (void)fclose(r.file);
  return rc;
}
