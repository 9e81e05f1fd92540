/* libraft by itself over the members' own sockets and raft_uv's log: one entry outstanding, nothing that makes it safe.
 * What of the distance to the floor is libraft's, and what is ours, is read from this. */
#include "consensus.h"

#include "consensus/guard_int.h"
#include "consensus/peer.h"
#include "io/loop.h"

#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  BATCH_OPS = BLX__CONSENSUS_BATCH_OPS_MAX,
  SEGMENT_BYTES = 32 << 20,  /* as lib/consensus/host.c would choose */
  SNAPSHOT_BYTES = 32 << 20, /* as lib/consensus/consensus.c has it */
  SNAPSHOT_ASK = 64,
  TRAILING = 1024,
  ELECTION_MS = 300,
  NEVER_MS = 3600000, /* the others: the first is to lead */
};

struct raw_member {
  struct raft raft;
  struct raft_io io;
  struct raft_fsm fsm;
  struct raft_uv_transport transport;
  struct blx__loop *loop;
  struct blx__peers *peers;
  raft_io_recv_cb recv;
  int (*real_start)(struct raft_io *, unsigned, raft_io_tick_cb, raft_io_recv_cb);
  struct blx__list sends;
  struct blx__defer report, flush;
  struct blx__buf encoded;
  uint64_t bytes_since_snapshot;
  pthread_t thread;
  pthread_mutex_t lock; /* of `waiting`, which the first submits fill from outside */
  struct slot *waiting[OUTSTANDING_MAX];
  size_t waiting_count;
  struct slot *batch[BATCH_OPS];
  size_t batch_count;
  struct raft_apply apply;
};

static void need_at(bool ok, int line) {
  if (ok) return;
  fprintf(stderr, "bench: raw libraft failed at line %d\n", line);
  _exit(1);
}
#define need(ok) need_at(ok, __LINE__)

static struct raw_member *of(struct raft_io *io) {
  const struct raft *r = io->data;
  return r->data;
}

/* ---- libraft's table: raft_uv's own, but for the network */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address) {
  (void)t;
  (void)id;
  (void)address;
  return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb) {
  (void)t;
  (void)cb;
  return 0;
}

static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id, const char *address,
                             raft_uv_connect_cb cb) {
  (void)t;
  (void)req;
  (void)id;
  (void)address;
  (void)cb;
  return RAFT_NOCONNECTION;
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb) {
  cb(t);
}

static void recv_nothing(struct raft_io *io, struct raft_message *m) {
  (void)io;
  (void)m;
}

static int start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct raw_member *m = of(io);
  m->recv = recv;
  return m->real_start(io, msecs, tick, recv_nothing);
}

/* libraft still reads the request when this returns, and frees it in its callback. */
static void report(void *arg) {
  struct raw_member *m = arg;
  for (struct blx__list *n; (n = blx__list_first(&m->sends)) != NULL;) {
    struct sent *s = BLX__CONTAINER(n, struct sent, link);
    blx__list_remove(n);
    if (s->cb) s->cb(s->req, 0);
    free(s);
  }
}

static int send_message(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                        raft_io_send_cb cb) {
  struct raw_member *m = of(io);
  struct sent *s = malloc(sizeof *s);
  need(s != NULL);
  *s = (struct sent){.req = req, .cb = cb};
  blx__buf_clear(&m->encoded);
  need(message->type != RAFT_IO_INSTALL_SNAPSHOT && message_encode(&m->encoded, message));
  /* What is not taken is lost, and libraft sends it again. */
  (void)blx__peers_send(m->peers, message->server_id, (struct blx__slice){m->encoded.data, m->encoded.len});
  blx__list_push(&m->sends, &s->link);
  blx__loop_defer(m->loop, &m->report);
  return 0;
}

static void deliver(void *user, uint64_t from, struct blx__slice bytes) {
  struct raw_member *m = user;
  struct message message;
  char address[24];
  if (!m->recv || message_decode(bytes, &message) != NULL || message.kind != MESSAGE_RAFT) return;
  (void)blx__str_format(address, sizeof address, "n%llu", (unsigned long long)from);
  message.raft.server_id = from;
  message.raft.server_address = address;
  m->recv(&m->io, &message.raft);
}

/* ---- the state machine: it counts bytes */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result) {
  struct raw_member *m = fsm->data;
  m->bytes_since_snapshot += buf->len;
  *result = NULL;
  return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs) {
  struct raw_member *m = fsm->data;
  if (m->bytes_since_snapshot < SNAPSHOT_BYTES) return RAFT_BUSY;
  m->bytes_since_snapshot = 0;
  *n_bufs = 1;
  *bufs = raft_malloc(sizeof **bufs);
  need(*bufs != NULL);
  **bufs = (struct raft_buffer){.base = raft_calloc(1, sizeof(uint64_t)), .len = sizeof(uint64_t)};
  need((*bufs)->base != NULL);
  return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf) {
  (void)fsm;
  raft_free(buf->base);
  return 0;
}

/* ---- the load: what waits is the next entry */

static void on_applied(struct raft_apply *req, int status, void *result) {
  struct raw_member *m = req->data;
  (void)result;
  size_t n = m->batch_count;
  m->batch_count = 0;
  for (size_t i = 0; i < n; i++) slot_done(m->batch[i], status == 0);
  blx__loop_defer(m->loop, &m->flush);
}

static void flush(void *arg) {
  struct raw_member *m = arg;
  if (m->batch_count > 0) return;
  pthread_mutex_lock(&m->lock);
  size_t n = m->waiting_count < BATCH_OPS ? m->waiting_count : BATCH_OPS;
  memcpy(m->batch, m->waiting, n * sizeof m->batch[0]);
  m->waiting_count -= n;
  memmove(m->waiting, m->waiting + n, m->waiting_count * sizeof m->waiting[0]);
  pthread_mutex_unlock(&m->lock);
  if (n == 0) return;
  m->batch_count = n;
  struct raft_buffer buf = {.len = n * OP_BYTES, .base = raft_malloc(n * OP_BYTES)};
  need(buf.base != NULL);
  for (size_t i = 0; i < n; i++) memset((uint8_t *)buf.base + i * OP_BYTES, (int)i, OP_BYTES);
  m->apply = (struct raft_apply){.data = m};
  need(raft_apply(&m->raft, &m->apply, &buf, 1, on_applied) == 0);
}

static void flush_posted(void *arg) {
  flush(arg);
}

bool raw_submit(void *raw, enum what what, struct slot *slot) {
  struct raw_member *m = raw;
  (void)what;
  pthread_mutex_lock(&m->lock);
  m->waiting[m->waiting_count++] = slot;
  pthread_mutex_unlock(&m->lock);
  if (pthread_equal(pthread_self(), m->thread)) return true; /* on_applied() looks next */
  return blx__loop_post(m->loop, flush_posted, m, NULL).code == 0;
}

bool raw_leads(struct raw_member *raw) {
  return raft_state(&raw->raft) == RAFT_LEADER;
}

/* ---- open */

static void *run(void *arg) {
  struct raw_member *m = arg;
  blx__loop_run(m->loop);
  return NULL;
}

static void open_raft(struct raw_member *m, const char *dir, uint64_t uid, unsigned members) {
  char address[24];
  struct raft_configuration conf;
  m->transport = (struct raft_uv_transport){
      .init = transport_init, .listen = transport_listen, .connect = transport_connect, .close = transport_close};
  need(raft_uv_init(&m->io, blx__loop_uv(m->loop), dir, &m->transport) == 0);
  raft_uv_set_segment_size(&m->io, SEGMENT_BYTES);
  (void)raft_uv_set_snapshot_compression(&m->io, false);
  m->fsm =
      (struct raft_fsm){.version = 1, .data = m, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
  (void)blx__str_format(address, sizeof address, "n%llu", (unsigned long long)uid);
  need(raft_init(&m->raft, &m->io, &m->fsm, uid, address) == 0);
  m->raft.data = m;
  raft_configuration_init(&conf);
  for (uint64_t id = 1; id <= members; id++) {
    (void)blx__str_format(address, sizeof address, "n%llu", (unsigned long long)id);
    need(raft_configuration_add(&conf, id, address, RAFT_VOTER) == 0);
  }
  need(raft_bootstrap(&m->raft, &conf) == 0);
  raft_configuration_close(&conf);
  m->real_start = m->io.start;
  m->io.start = start;
  m->io.send = send_message;
  raft_set_heartbeat_timeout(&m->raft, ELECTION_MS / 3);
  raft_set_election_timeout(&m->raft, uid == 1 ? ELECTION_MS : NEVER_MS);
  raft_set_snapshot_threshold(&m->raft, SNAPSHOT_ASK);
  raft_set_snapshot_trailing(&m->raft, TRAILING);
  need(raft_start(&m->raft) == 0);
}

struct raw_member *raw_open(const char *dir, uint64_t uid, unsigned members) {
  struct raw_member *m = calloc(1, sizeof *m);
  char path[PATH_BYTES + 32];
  need(m != NULL);
  pthread_mutex_init(&m->lock, NULL);
  blx__list_init(&m->sends);
  blx__buf_init(&m->encoded, BLX__CONSENSUS_MESSAGE_MAX);
  need(blx__loop_new(&m->loop, NULL).code == 0);
  blx__defer_init(&m->report, report, m);
  blx__defer_init(&m->flush, flush, m);
  (void)blx__str_format(path, sizeof path, "%s/raw%llu.sock", dir, (unsigned long long)uid);
  struct blx__peers_options options = {.loop = m->loop, .listen_path = path, .uid = uid, .user = m};
  options.deliver = deliver;
  need(blx__peers_open(&options, &m->peers, NULL).code == 0);
  for (uint64_t other = 1; other <= members; other++) {
    (void)blx__str_format(path, sizeof path, "%s/raw%llu.sock", dir, (unsigned long long)other);
    if (other != uid) need(blx__peers_set_address(m->peers, other, path, NULL).code == 0);
  }
  (void)blx__str_format(path, sizeof path, "%s/raw%llu", dir, (unsigned long long)uid);
  need(mkdir(path, 0700) == 0);
  open_raft(m, path, uid, members);
  need(pthread_create(&m->thread, NULL, run, m) == 0);
  return m;
}
