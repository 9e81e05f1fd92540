#include "consensus/mark_int.h"

#include "base/digest.h"
#include "consensus/bytes_int.h"
#include "io/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOT_BYTES = 512, SLOTS = 2, BODY_BYTES = 64, PATH_SIZE = 1024 };

static const uint8_t magic[8] = {'b', 'l', 'x', 'm', 'a', 'r', 'k', '1'};

struct mark_job {
  struct mark *m;
  struct mark_values v;
  int failed; /* errno, or 0 */
};

static void encode(const struct mark_values *v, uint8_t slot[SLOT_BYTES]) {
  const uint64_t fields[] = {v->seq, v->term, v->vote, v->prev_term, v->prev_vote, v->last_index};
  memset(slot, 0, SLOT_BYTES);
  memcpy(slot, magic, sizeof magic);
  for (size_t i = 0; i < BLX__COUNT(fields); i++) put_u64(slot + 8 + 8 * i, fields[i]);
  const struct blx__slice body = {slot, BODY_BYTES};
  blx__sha256(&body, 1, slot + BODY_BYTES);
}

static bool decode(const uint8_t slot[SLOT_BYTES], struct mark_values *v) {
  uint8_t digest[BLX__SHA256_BYTES];
  const struct blx__slice body = {slot, BODY_BYTES};
  blx__sha256(&body, 1, digest);
  if (memcmp(slot, magic, sizeof magic) != 0 || memcmp(digest, slot + BODY_BYTES, sizeof digest) != 0) return false;
  uint64_t *fields[] = {&v->seq, &v->term, &v->vote, &v->prev_term, &v->prev_vote, &v->last_index};
  for (size_t i = 0; i < BLX__COUNT(fields); i++) *fields[i] = get_u64(slot + 8 + 8 * i);
  return true;
}

/* 0 or an errno. */
static int write_slot(int fd, unsigned at, const struct mark_values *v) {
  uint8_t slot[SLOT_BYTES];
  encode(v, slot);
  ssize_t n;
  do n = pwrite(fd, slot, sizeof slot, (off_t)at * SLOT_BYTES);
  while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof slot) return n < 0 ? errno : EIO;
  return fdatasync(fd) == 0 ? 0 : errno;
}

static blx__rc path_of(const char *dir, char path[PATH_SIZE], blx_error *err) {
  if (blx__str_format(path, PATH_SIZE, "%s/mark", dir)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "consensus", "the path of the data directory is longer than %d bytes",
                   PATH_SIZE - 6);
}

blx__rc mark_create(const char *dir, uint64_t term, uint64_t last_index, blx_error *err) {
  char path[PATH_SIZE];
  BLX__TRY(path_of(dir, path, err));
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return blx__fail_errno(err, errno, "consensus", "cannot make '%s'", path);
  struct mark_values v = {.term = term, .prev_term = term, .last_index = last_index};
  int why = 0;
  for (unsigned i = 0; i < SLOTS && why == 0; i++, v.seq++) why = write_slot(fd, i, &v);
  if (why == 0 && fsync(fd) != 0) why = errno;
  (void)close(fd);
  return why == 0 ? BLX__OK : blx__fail_errno(err, why, "consensus", "cannot write '%s'", path);
}

blx__rc mark_open(struct mark *m, const char *dir, struct blx__loop *loop, const struct blx__log *log, blx_error *err) {
  char path[PATH_SIZE];
  BLX__TRY(path_of(dir, path, err));
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT)
    return blx__fail(err, BLX_E_CORRUPT, "consensus",
                     "'%s' is missing: restore it from a backup, or empty the data directory and join as a new node",
                     path);
  if (fd < 0) return blx__fail_errno(err, errno, "consensus", "cannot open '%s'", path);
  uint8_t file[SLOTS * SLOT_BYTES] = {0};
  ssize_t n = pread(fd, file, sizeof file, 0);
  struct mark_values best = {0}, v = {0};
  unsigned good = 0, slot = 0;
  for (unsigned i = 0; i < SLOTS; i++) {
    if (!decode(file + i * SLOT_BYTES, &v)) continue;
    if (good++ > 0 && v.seq < best.seq) continue;
    best = v;
    slot = i;
  }
  if (n < 0 || good == 0) {
    (void)close(fd);
    return blx__fail(err, BLX_E_CORRUPT, "consensus",
                     "'%s' is damaged: restore it from a backup, or empty the data directory and join as a new node",
                     path);
  }
  if (good < SLOTS)
    blx__log(log, BLX_LOG_WARNING, "consensus", "half of '%s' is damaged, by a crash or a bad disk; the other is used",
             path);
  *m = (struct mark){.fd = fd, .now = best, .loop = loop, .log = log, .written_seq = best.seq, .written_slot = slot};
  pthread_mutex_init(&m->lock, NULL);
  return BLX__OK;
}

void mark_close(struct mark *m) {
  BLX__ASSERT(!m->job);
  (void)close(m->fd);
  pthread_mutex_destroy(&m->lock);
}

bool mark_fits(struct mark *m, const char *dir, uint64_t term, uint64_t vote, uint64_t last_index, char *text,
               size_t text_size) {
  const struct mark_values *v = &m->now;
  bool same = (term == v->term && vote == v->vote) || (term == v->prev_term && vote == v->prev_vote);
  if (!same) {
    (void)blx__str_format(text, text_size,
                          "'%s/metadata1' or 'metadata2' is damaged or missing: it holds term %llu, this member was in "
                          "term %llu; restore it from a backup, or empty the data directory and join as a new node",
                          dir, (unsigned long long)term, (unsigned long long)v->term);
    return false;
  }
  if (last_index < v->last_index) {
    (void)blx__str_format(
        text, text_size,
        "the log in '%s' ends at entry %llu, this member had it up to %llu: its newest segment (open-* "
        "or the last numbered one) is damaged or missing; restore it from a backup, or empty the "
        "data directory and join as a new node",
        dir, (unsigned long long)last_index, (unsigned long long)v->last_index);
    return false;
  }
  m->now.term = m->now.prev_term = term;
  m->now.vote = m->now.prev_vote = vote;
  return true;
}

/* With the lock, and never over the newest good slot: 0 or an errno. */
static int write_next(struct mark *m, const struct mark_values *v) {
  unsigned slot = (m->written_slot + 1) % SLOTS;
  int why = write_slot(m->fd, slot, v);
  if (why != 0) return why;
  m->written_slot = slot;
  m->written_seq = v->seq;
  return 0;
}

/* A job of a worker that began before may be under way, and is waited for; one that comes later does nothing. */
static bool write_now(struct mark *m) {
  m->now.seq++;
  pthread_mutex_lock(&m->lock);
  int why = write_next(m, &m->now);
  pthread_mutex_unlock(&m->lock);
  if (why != 0) blx__log(m->log, BLX_LOG_ERROR, "consensus", "the file 'mark' cannot be written: %s", strerror(why));
  return why == 0;
}

bool mark_vote(struct mark *m, uint64_t term, uint64_t vote) {
  m->now.prev_term = m->now.term;
  m->now.prev_vote = m->now.vote;
  m->now.term = term;
  m->now.vote = vote;
  return write_now(m);
}

bool mark_lower(struct mark *m, uint64_t last_index) {
  if (last_index >= m->now.last_index) return true;
  m->now.last_index = last_index;
  return write_now(m);
}

static bool take(struct mark *m, uint64_t last_index) {
  struct mark_values *v = &m->now;
  bool news = last_index > v->last_index || v->prev_term != v->term || v->prev_vote != v->vote;
  if (last_index > v->last_index) v->last_index = last_index;
  v->prev_term = v->term;
  v->prev_vote = v->vote;
  return news || v->seq > m->written_seq;
}

static void job_run(void *arg) {
  struct mark_job *job = arg;
  struct mark *m = job->m;
  pthread_mutex_lock(&m->lock);
  if (job->v.seq > m->written_seq) job->failed = write_next(m, &job->v);
  pthread_mutex_unlock(&m->lock);
}

static void job_done(void *arg) {
  struct mark_job *job = arg;
  job->m->job = NULL;
  if (job->failed != 0)
    blx__log(job->m->log, BLX_LOG_WARNING, "consensus", "the file 'mark' cannot be written: %s; trying again",
             strerror(job->failed));
  free(job);
}

void mark_raise(struct mark *m, uint64_t last_index) {
  if (m->job || !take(m, last_index)) return;
  struct mark_job *job = calloc(1, sizeof *job);
  if (!job) return;
  m->now.seq++;
  *job = (struct mark_job){.m = m, .v = m->now};
  if (blx__work(m->loop, job_run, job_done, job, NULL).code == 0)
    m->job = job;
  else
    free(job);
}

void mark_settle(struct mark *m, uint64_t last_index) {
  if (take(m, last_index)) (void)write_now(m);
}
