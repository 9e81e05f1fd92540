#include "consensus.h"

#include "consensus/peer.h"
#include "io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEAD_BYTES = 16, BATCH_OPS = BLX__CONSENSUS_BATCH_OPS_MAX, FILE_BYTES = 512 << 20 };
enum { KIND_BATCH = 100, KIND_ACK = 101 };

struct floor_member {
  struct blx__loop *loop;
  struct blx__peers *peers;
  struct blx__defer flush;
  uint64_t uid;
  unsigned members;
  int fd;
  off_t at;
  pthread_t thread;
  pthread_mutex_t lock; /* of `waiting`, which the first submits fill from outside */
  struct slot *waiting[OUTSTANDING_MAX];
  size_t waiting_count;
  struct slot *batch[BATCH_OPS];
  size_t batch_count;
  unsigned votes;
  uint64_t seq;
  uint8_t message[HEAD_BYTES + BATCH_OPS * OP_BYTES];
};

static void need_at(bool ok, int line) {
  if (ok) return;
  fprintf(stderr, "bench: the floor failed at line %d: %s\n", line, strerror(errno));
  _exit(1);
}
#define need(ok) need_at(ok, __LINE__)

static void write_durably(struct floor_member *f, const uint8_t *bytes, size_t size) {
  if (f->at + (off_t)size > FILE_BYTES) f->at = 0;
  need(pwrite(f->fd, bytes, size, f->at) == (ssize_t)size && fdatasync(f->fd) == 0);
  f->at += (off_t)size;
}

static void vote(struct floor_member *f) {
  if (++f->votes != f->members / 2 + 1) return;
  size_t n = f->batch_count;
  f->batch_count = 0;
  for (size_t i = 0; i < n; i++) slot_done(f->batch[i], true);
  blx__loop_defer(f->loop, &f->flush);
}

static void flush(void *arg) {
  struct floor_member *f = arg;
  if (f->batch_count > 0) return;
  pthread_mutex_lock(&f->lock);
  size_t n = f->waiting_count < BATCH_OPS ? f->waiting_count : BATCH_OPS;
  memcpy(f->batch, f->waiting, n * sizeof f->batch[0]);
  f->waiting_count -= n;
  memmove(f->waiting, f->waiting + n, f->waiting_count * sizeof f->waiting[0]);
  pthread_mutex_unlock(&f->lock);
  if (n == 0) return;
  f->batch_count = n;
  f->votes = 0;
  f->seq++;
  f->message[0] = 1;
  f->message[1] = KIND_BATCH;
  memcpy(f->message + 8, &f->seq, sizeof f->seq);
  for (size_t i = 0; i < n; i++) memset(f->message + HEAD_BYTES + i * OP_BYTES, (int)i, OP_BYTES);
  size_t size = HEAD_BYTES + n * OP_BYTES;
  unsigned sent = 1;
  for (uint64_t uid = 1; uid <= f->members; uid++)
    if (uid != f->uid) sent += blx__peers_send(f->peers, uid, (struct blx__slice){f->message, size});
  need(sent > f->members / 2); /* one that lags behind may miss a batch */
  write_durably(f, f->message, size);
  vote(f);
}

static void deliver(void *user, uint64_t from, struct blx__slice message) {
  struct floor_member *f = user;
  if (message.data[1] == KIND_ACK) {
    if (f->batch_count > 0 && memcmp(message.data + 8, &f->seq, sizeof f->seq) == 0) vote(f);
    return;
  }
  write_durably(f, message.data, message.len);
  uint8_t ack[HEAD_BYTES] = {1, KIND_ACK};
  memcpy(ack + 8, message.data + 8, 8);
  need(blx__peers_send(f->peers, from, (struct blx__slice){ack, sizeof ack}));
}

static void flush_posted(void *arg) {
  flush(arg);
}

bool floor_submit(void *floor, enum what what, struct slot *slot) {
  struct floor_member *f = floor;
  (void)what;
  pthread_mutex_lock(&f->lock);
  f->waiting[f->waiting_count++] = slot;
  pthread_mutex_unlock(&f->lock);
  if (pthread_equal(pthread_self(), f->thread)) return true; /* vote() looks next */
  return blx__loop_post(f->loop, flush_posted, f, NULL).code == 0;
}

static void *run(void *arg) {
  struct floor_member *f = arg;
  blx__loop_run(f->loop);
  return NULL;
}

struct floor_member *floor_open(const char *dir, uint64_t uid, unsigned members) {
  struct floor_member *f = calloc(1, sizeof *f);
  char path[PATH_BYTES + 32];
  need(f != NULL);
  f->uid = uid;
  f->members = members;
  pthread_mutex_init(&f->lock, NULL);
  (void)blx__str_format(path, sizeof path, "%s/floor%llu", dir, (unsigned long long)uid);
  f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  need(f->fd >= 0 && posix_fallocate(f->fd, 0, FILE_BYTES) == 0 && fsync(f->fd) == 0);
  need(blx__loop_new(&f->loop, NULL).code == 0);
  blx__defer_init(&f->flush, flush, f);
  (void)blx__str_format(path, sizeof path, "%s/floor%llu.sock", dir, (unsigned long long)uid);
  struct blx__peers_options options = {.loop = f->loop, .listen_path = path, .uid = uid, .user = f};
  options.deliver = deliver;
  need(blx__peers_open(&options, &f->peers, NULL).code == 0);
  for (uint64_t other = 1; other <= members; other++) {
    (void)blx__str_format(path, sizeof path, "%s/floor%llu.sock", dir, (unsigned long long)other);
    if (other != uid) need(blx__peers_set_address(f->peers, other, path, NULL).code == 0);
  }
  need(pthread_create(&f->thread, NULL, run, f) == 0);
  return f;
}
