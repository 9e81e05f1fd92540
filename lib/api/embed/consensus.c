/* A member's life: its options, its thread, the order in which its parts open and close. */
#include "api/consensus_int.h"

#include "io/file.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert((int)BLX_CONSENSUS_OP_MAX == (int)BLX__CONSENSUS_OP_MAX, "as the header says");
_Static_assert((int)BLX_CONSENSUS_ANSWER_MAX == (int)BLX__CONSENSUS_RESULT_MAX, "as the header says");
_Static_assert((int)BLX_CONSENSUS_WAITING_MAX == (int)BLX__CONSENSUS_WAITING_MAX, "as the header says");
_Static_assert((int)BLX_CONSENSUS_SNAPSHOT_MAX == (int)BLX__CONSENSUS_SNAPSHOT_MAX, "as the header says");
_Static_assert((int)BLX_CONSENSUS_MEMBERS_MAX == (int)BLX__CONSENSUS_MEMBERS_MAX, "as the header says");
_Static_assert(sizeof(((struct blx_consensus_options *)0)->cluster_id) == BLX__CONSENSUS_CLUSTER_ID_BYTES, "one id");

enum {
  HEARTBEAT_MS = 200,
  ELECTION_MS = 2000,
  ELECTION_HEARTBEATS_MIN = 5,
  SNAPSHOT_ENTRIES_MIN = 64,
  SNAPSHOT_ENTRIES_MAX = 65536,
};

/* ---- the embedder's table, seen from lib/consensus */

int blx_output_add(blx_output *out, const void *bytes, size_t len) {
  struct blx__buf *buf = (struct blx__buf *)(void *)out;
  if (!buf || len == 0) return 0;
  if (len > buf->max - buf->len) return BLX_E_NOSPACE;
  return blx__buf_add(buf, bytes, len) ? 0 : BLX_E_NOMEM;
}

static blx_output *output(struct blx__buf *buf) {
  return (blx_output *)(void *)buf;
}

static void fsm_begin(void *user, uint64_t index, uint64_t time_ms) {
  struct blx__api_consensus *c = user;
  if (c->fsm.begin) c->fsm.begin(c->fsm.user, index, time_ms);
}

/* Anything but 0 and BLX_E_* is a mistake, and stops the member too. */
static int code_of(int rc) {
  return rc < 0 ? rc : BLX_E_INTERNAL;
}

static void fsm_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  struct blx__api_consensus *c = user;
  if (c->early_code != 0) return;
  int rc = c->fsm.apply(c->fsm.user, op.data, op.len, output(result));
  if (rc == 0) return;
  if (c->core)
    blx__consensus_poison(c->core, code_of(rc), "the state machine could not carry out an operation");
  else
    c->early_code = code_of(rc);
}

static void fsm_end(void *user) {
  struct blx__api_consensus *c = user;
  if (c->fsm.end) c->fsm.end(c->fsm.user);
}

/* What an embedder has frozen, or, where it cannot, what it has written already. */
struct frozen {
  int (*write)(void *frozen, blx_output *out);
  void *theirs;
  struct blx__buf written;
};

static blx__rc not_written(blx_error *err, int rc) {
  return blx__fail(err, code_of(rc), "consensus", "the state machine could not write its snapshot (%s)",
                   blx_error_name(rc));
}

static void *fsm_freeze(void *user, blx_error *err) {
  struct blx__api_consensus *c = user;
  struct frozen *z = calloc(1, sizeof *z);
  int rc = BLX_E_NOMEM;
  if (z) {
    blx__buf_init(&z->written, BLX__CONSENSUS_SNAPSHOT_MAX);
    z->write = c->fsm.write;
    rc = c->fsm.freeze ? c->fsm.freeze(c->fsm.user, &z->theirs) : c->fsm.snapshot(c->fsm.user, output(&z->written));
  }
  if (rc == 0) return z;
  (void)not_written(err, rc);
  if (z) blx__buf_free(&z->written);
  free(z);
  return NULL;
}

static blx__rc fsm_write(void *frozen, struct blx__buf *out, blx_error *err) {
  const struct frozen *z = frozen;
  int rc = z->write                                             ? z->write(z->theirs, output(out))
           : blx__buf_add(out, z->written.data, z->written.len) ? 0
                                                                : BLX_E_NOMEM;
  return rc == 0 ? BLX__OK : not_written(err, rc);
}

static void fsm_thaw(void *user, void *frozen) {
  struct blx__api_consensus *c = user;
  struct frozen *z = frozen;
  if (c->fsm.thaw) c->fsm.thaw(c->fsm.user, z->theirs);
  blx__buf_free(&z->written);
  free(z);
}

static blx__rc fsm_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  struct blx__api_consensus *c = user;
  int rc = c->fsm.restore(c->fsm.user, snapshot.data, snapshot.len);
  if (rc == 0) return BLX__OK;
  return blx__fail(err, code_of(rc), "consensus", "the state machine could not read its snapshot of %zu bytes (%s)",
                   snapshot.len, blx_error_name(rc));
}

/* ---- what the member tells */

int32_t blx__api_role(enum blx__consensus_role role) {
  switch (role) {
  case BLX__ROLE_NONE: return BLX_CONSENSUS_STOPPED;
  case BLX__ROLE_FOLLOWER: return BLX_CONSENSUS_FOLLOWER;
  case BLX__ROLE_CANDIDATE: return BLX_CONSENSUS_CANDIDATE;
  case BLX__ROLE_ELECTED: return BLX_CONSENSUS_ELECTED;
  case BLX__ROLE_LEADER: return BLX_CONSENSUS_LEADER;
  }
  return BLX_CONSENSUS_STOPPED;
}

static void tell_role(struct blx__api_item *item) {
  struct blx__api_consensus *c = BLX__CONTAINER(item, struct blx__api_consensus, role);
  pthread_mutex_lock(&c->lock);
  int32_t role = c->role_now;
  uint64_t leader = c->role_leader, term = c->role_term;
  c->role_waits = false;
  pthread_mutex_unlock(&c->lock);
  if (!atomic_load(&c->closing)) c->on_role(c->user, role, leader, term);
}

static void keep_role(struct blx__api_consensus *c, int32_t role, uint64_t leader, uint64_t term) {
  pthread_mutex_lock(&c->lock);
  bool first = !c->role_waits;
  c->role_waits = true;
  c->role_now = role;
  c->role_leader = leader;
  c->role_term = term;
  pthread_mutex_unlock(&c->lock);
  if (first) blx__api_queue_push(c->queue, &c->role);
}

static void on_role(void *user, enum blx__consensus_role role, uint64_t leader_uid, uint64_t term) {
  struct blx__api_consensus *c = user;
  atomic_store(&c->leader, leader_uid);
  if (!c->on_role || atomic_load(&c->closing)) return;
  if (c->queue)
    keep_role(c, blx__api_role(role), leader_uid, term);
  else
    c->on_role(c->user, blx__api_role(role), leader_uid, term);
}

static void tell_fatal(struct blx__api_item *item) {
  struct blx__api_consensus *c = BLX__CONTAINER(item, struct blx__api_consensus, fatal);
  c->on_fatal(c->user, c->fatal_code, c->fatal_text);
}

static void on_fatal(void *user, int code, const char *text) {
  struct blx__api_consensus *c = user;
  if (!c->on_fatal) return;
  if (!c->queue) {
    c->on_fatal(c->user, code, text);
    return;
  }
  c->fatal_code = code;
  (void)blx__str_copy(c->fatal_text, sizeof c->fatal_text, text);
  blx__api_queue_push(c->queue, &c->fatal);
}

static uint64_t now_ms(void *user) {
  const struct blx__api_consensus *c = user;
  return blx__loop_wall_ms(c->loop);
}

static bool send_peer(void *user, uint64_t to_uid, struct blx__slice message) {
  struct blx__api_consensus *c = user;
  return c->peers && blx__peers_send(c->peers, to_uid, message);
}

static void deliver(void *user, uint64_t from_uid, struct blx__slice message) {
  struct blx__api_consensus *c = user;
  if (c->core) blx__consensus_deliver(c->core, from_uid, message);
}

/* ---- options */

static blx__rc take_struct(void *to, size_t size, const void *from, blx_error *err) {
  return blx__api_take_struct(to, size, sizeof(size_t), from, "consensus", err);
}

static blx__rc check_path(const char *name, const char *path, blx_error *err) {
  if (path && *path && strlen(path) <= BLX_CONSENSUS_PATH_MAX) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "consensus", "%s: a path of 1 to %d bytes is required", name,
                   BLX_CONSENSUS_PATH_MAX);
}

static blx__rc check_identity(const struct blx_consensus_options *o, blx_error *err) {
  BLX__TRY(check_path("dir", o->dir, err));
  if (o->uid == 0) return blx__fail(err, BLX_E_INVALID, "consensus", "uid: 0 is below 1");
  return BLX__OK;
}

static blx__rc check_numbers(struct blx_consensus_options *o, blx_error *err) {
  if (!o->heartbeat_ms) o->heartbeat_ms = HEARTBEAT_MS;
  if (!o->election_ms) o->election_ms = ELECTION_MS;
  if (o->heartbeat_ms < 10 || o->heartbeat_ms > 1000)
    return blx__fail(err, BLX_E_INVALID, "consensus", "heartbeat_ms: %u is outside of 10 to 1000", o->heartbeat_ms);
  if (o->election_ms < ELECTION_HEARTBEATS_MIN * o->heartbeat_ms || o->election_ms > 10000)
    return blx__fail(err, BLX_E_INVALID, "consensus", "election_ms: %u is outside of %d heartbeats (%u) to 10000",
                     o->election_ms, ELECTION_HEARTBEATS_MIN, ELECTION_HEARTBEATS_MIN * o->heartbeat_ms);
  if (o->snapshot_entries && (o->snapshot_entries < SNAPSHOT_ENTRIES_MIN || o->snapshot_entries > SNAPSHOT_ENTRIES_MAX))
    return blx__fail(err, BLX_E_INVALID, "consensus", "snapshot_entries: %u is outside of %d to %d",
                     o->snapshot_entries, SNAPSHOT_ENTRIES_MIN, SNAPSHOT_ENTRIES_MAX);
  if (o->completions != BLX_COMPLETIONS_THREAD && o->completions != BLX_COMPLETIONS_DISPATCH)
    return blx__fail(err, BLX_E_INVALID, "consensus", "completions: %d is none of BLX_COMPLETIONS_*", o->completions);
  if (o->n_addresses > BLX_CONSENSUS_MEMBERS_MAX)
    return blx__fail(err, BLX_E_INVALID, "consensus", "addresses: %zu are more than %d", o->n_addresses,
                     BLX_CONSENSUS_MEMBERS_MAX);
  return BLX__OK;
}

static blx__rc take_options(struct blx__api_consensus *c, struct blx_consensus_options *o, blx_error *err) {
  BLX__TRY(check_identity(o, err));
  BLX__TRY(check_numbers(o, err));
  if (o->socket_path) BLX__TRY(check_path("socket_path", o->socket_path, err));
  if (!o->fsm || (o->n_addresses > 0 && !o->addresses))
    return blx__fail(err, BLX_E_MISUSE, "consensus", "the state machine's table, or the addresses, are NULL");
  BLX__TRY(take_struct(&c->fsm, sizeof c->fsm, o->fsm, err));
  bool freezes = c->fsm.freeze && c->fsm.write && c->fsm.thaw, none = !c->fsm.freeze && !c->fsm.write && !c->fsm.thaw;
  if (!c->fsm.apply || !c->fsm.restore || !(freezes || (none && c->fsm.snapshot)))
    return blx__fail(err, BLX_E_MISUSE, "consensus",
                     "the state machine needs apply, restore, and either snapshot or all of freeze, write and thaw");
  c->dir = strdup(o->dir);
  if (!c->dir) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for a member");
  c->uid = o->uid;
  c->log = (struct blx__log){o->log, o->log_user, o->log_level};
  c->user = o->user;
  c->on_role = o->on_role;
  c->on_fatal = o->on_fatal;
  c->role = (struct blx__api_item){.run = tell_role, .owner = c};
  c->fatal = (struct blx__api_item){.run = tell_fatal, .owner = c};
  return o->completions == BLX_COMPLETIONS_DISPATCH ? blx__api_queue_new(&c->queue, err) : BLX__OK;
}

int blx_consensus_bootstrap(const struct blx_consensus_options *options, blx_error *reterr) {
  struct blx_consensus_options o;
  if (!options) return blx__api_misuse(reterr, "the options are NULL");
  blx__rc rc = take_struct(&o, sizeof o, options, reterr);
  if (rc.code == 0) rc = check_identity(&o, reterr);
  if (rc.code == 0) rc = blx__dir_make(o.dir, 0700, reterr);
  if (rc.code == 0) rc = blx__consensus_bootstrap(o.dir, o.cluster_id, o.uid, reterr);
  return rc.code;
}

/* ---- close, on the member's thread: first what decides, then what it speaks through */

static void peers_closed(void *user) {
  struct blx__api_consensus *c = user;
  blx__loop_stop(c->loop);
}

static void core_closed(void *user) {
  struct blx__api_consensus *c = user;
  struct blx__peers *peers = c->peers;
  c->core = NULL;
  c->peers = NULL;
  if (peers)
    blx__peers_close(peers, peers_closed, c);
  else
    blx__loop_stop(c->loop);
}

static void begin_close(void *arg) {
  struct blx__api_consensus *c = arg;
  if (c->core)
    blx__consensus_close(c->core, core_closed, c);
  else
    core_closed(c);
}

/* ---- open, on the member's thread too: the table never runs on another one */

static blx__rc open_peers(struct blx__api_consensus *c, const struct blx_consensus_options *o, blx_error *err) {
  char path[BLX_CONSENSUS_PATH_MAX + 16];
  (void)blx__str_format(path, sizeof path, "%s/peer.sock", o->dir);
  struct blx__peers_options options = {.loop = c->loop, .uid = c->uid, .log = &c->log, .user = c, .deliver = deliver};
  options.listen_path = o->socket_path ? o->socket_path : path;
  memcpy(options.cluster_id, o->cluster_id, sizeof options.cluster_id);
  BLX__TRY(blx__peers_open(&options, &c->peers, err));
  for (size_t i = 0; i < o->n_addresses; i++) {
    struct blx_consensus_address a;
    if (!o->addresses[i]) return blx__fail(err, BLX_E_MISUSE, "consensus", "address %zu is NULL", i);
    BLX__TRY(take_struct(&a, sizeof a, o->addresses[i], err));
    if (a.uid == c->uid) continue;
    BLX__TRY(check_path("address", a.socket_path, err));
    BLX__TRY(blx__peers_set_address(c->peers, a.uid, a.socket_path, err));
  }
  return BLX__OK;
}

static blx__rc open_core(struct blx__api_consensus *c, const struct blx_consensus_options *o, blx_error *err) {
  struct blx__consensus_options options = {
      .loop = c->loop,
      .dir = c->dir,
      .uid = c->uid,
      .fsm = {.user = c,
              .begin = fsm_begin,
              .apply = fsm_apply,
              .end = fsm_end,
              .freeze = fsm_freeze,
              .write = fsm_write,
              .thaw = fsm_thaw,
              .restore = fsm_restore},
      .log = &c->log,
      .user = c,
      .now_ms = now_ms,
      .send = send_peer,
      .on_role = on_role,
      .on_fatal = on_fatal,
      .heartbeat_ms = o->heartbeat_ms,
      .election_ms = o->election_ms,
      .snapshot_entries = o->snapshot_entries,
      .unsafe_fs = o->unsafe_fs != 0,
  };
  memcpy(options.cluster_id, o->cluster_id, sizeof options.cluster_id);
  BLX__TRY(blx__consensus_open(&options, &c->core, err));
  if (c->early_code == 0) return BLX__OK;
  return blx__fail(err, c->early_code, "consensus", "the state machine could not carry out an operation of the log");
}

static blx__rc open_parts(struct blx__api_consensus *c, const struct blx_consensus_options *o, blx_error *err) {
  BLX__TRY(blx__loop_new(&c->loop, err));
  BLX__TRY(blx__dir_make(c->dir, 0700, err));
  BLX__TRY(open_peers(c, o, err));
  return open_core(c, o, err);
}

/* What the opener waits for. */
struct opening {
  struct blx__api_consensus *c;
  const struct blx_consensus_options *options;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  blx__rc rc;
  blx_error err;
};

static void *thread_main(void *arg) {
  struct opening *opening = arg;
  struct blx__api_consensus *c = opening->c;
  blx__rc rc = open_parts(c, opening->options, &opening->err);
  if (rc.code != 0 && c->loop) {
    atomic_store(&c->closing, true);
    begin_close(c);
    blx__loop_run(c->loop);
  }
  pthread_mutex_lock(&opening->lock);
  opening->rc = rc;
  opening->done = true;
  pthread_cond_signal(&opening->cond);
  pthread_mutex_unlock(&opening->lock); /* the opener goes on, and what it lent is gone */
  if (rc.code == 0) blx__loop_run(c->loop);
  return NULL;
}

static blx__rc start(struct opening *opening, blx_error *err) {
  struct blx__api_consensus *c = opening->c;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int why = pthread_create(&c->thread, NULL, thread_main, opening);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (why != 0) return blx__fail_errno(err, why, "consensus", "cannot start the member's thread");
  c->thread_started = true;
  pthread_mutex_lock(&opening->lock);
  while (!opening->done) pthread_cond_wait(&opening->cond, &opening->lock);
  pthread_mutex_unlock(&opening->lock);
  if (opening->rc.code == 0) return BLX__OK;
  return blx__fail_as(err, &opening->err);
}

static void member_free(struct blx__api_consensus *c) {
  if (c->thread_started) pthread_join(c->thread, NULL);
  blx__loop_free(c->loop);
  if (c->queue) blx__api_queue_drain(c->queue, c);
  blx__api_queue_unref(c->queue);
  pthread_mutex_destroy(&c->lock);
  free(c->dir);
  free(c);
}

/* Calls that other threads have posted are completed when the loop is freed; those that come later are turned away.
 * Then their threads leave, and only then the memory goes. */
static void stop(struct blx__api_consensus *c, const blx_consensus *handle) {
  atomic_store(&c->closing, true);
  while (blx__loop_post(c->loop, begin_close, c, NULL).code != 0) usleep(1000); /* it is bounded, and must get in */
  pthread_join(c->thread, NULL);
  c->thread_started = false;
  pthread_mutex_lock(&c->lock);
  struct blx__loop *loop = c->loop;
  c->loop = NULL;
  pthread_mutex_unlock(&c->lock);
  blx__loop_free(loop);
  if (handle) blx__api_handle_drop(handle);
  member_free(c);
}

bool blx__api_consensus_inside(struct blx__api_consensus *c) {
  return pthread_equal(pthread_self(), c->thread) || blx__api_queue_inside(c->queue);
}

int blx_consensus_open(const struct blx_consensus_options *options, blx_consensus **out, blx_error *reterr) {
  struct blx_consensus_options o;
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the member is NULL");
  blx__rc rc = take_struct(&o, sizeof o, options, reterr);
  if (rc.code != 0) return rc.code;
  struct blx__api_consensus *c = calloc(1, sizeof *c);
  if (!c) return blx__fail(reterr, BLX_E_NOMEM, "consensus", "no memory for a member").code;
  pthread_mutex_init(&c->lock, NULL);
  struct opening opening = {.c = c, .options = &o, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
  rc = take_options(c, &o, reterr);
  if (rc.code == 0) rc = start(&opening, reterr);
  if (rc.code != 0) {
    member_free(c);
    return rc.code;
  }
  blx_consensus *handle = blx__api_handle_new(BLX__API_CONSENSUS, c, reterr);
  if (handle) {
    *out = handle;
    return 0;
  }
  stop(c, NULL);
  return BLX_E_BUSY;
}

void blx_consensus_close(blx_consensus *consensus) {
  struct blx__api_consensus *c = consensus ? blx__api_handle_take(consensus, BLX__API_CONSENSUS, NULL) : NULL;
  if (!c) return;
  bool mine = !blx__api_consensus_inside(c) && blx__api_handle_kill(consensus);
  blx__api_handle_put(consensus);
  if (mine) stop(c, consensus);
}

uint64_t blx_consensus_leader(const blx_consensus *consensus) {
  struct blx__api_consensus *c = blx__api_handle_take(consensus, BLX__API_CONSENSUS, NULL);
  if (!c) return 0;
  uint64_t leader = atomic_load(&c->leader);
  blx__api_handle_put(consensus);
  return leader;
}

/* ---- completions on a thread of the embedder's */

static struct blx__api_queue *take_queue(const blx_consensus *consensus, blx_error *reterr) {
  struct blx__api_consensus *c = blx__api_handle_take(consensus, BLX__API_CONSENSUS, reterr);
  if (!c) return NULL;
  struct blx__api_queue *queue = c->queue;
  if (queue)
    blx__api_queue_ref(queue);
  else
    (void)blx__api_misuse(reterr, "the member was not opened with completions = BLX_COMPLETIONS_DISPATCH");
  blx__api_handle_put(consensus);
  return queue;
}

int blx_consensus_fd(blx_consensus *consensus, blx_error *reterr) {
  struct blx__api_queue *queue = take_queue(consensus, reterr);
  int fd = queue ? blx__api_queue_fd(queue) : BLX_E_MISUSE;
  blx__api_queue_unref(queue);
  return fd;
}

/* The queue is held, not the member: a close that comes meanwhile waits for the completion, not for this call. */
int blx_consensus_dispatch(blx_consensus *consensus, uint32_t max, blx_error *reterr) {
  struct blx__api_queue *queue = take_queue(consensus, reterr);
  int done = queue ? blx__api_queue_run(queue, max, reterr) : BLX_E_MISUSE;
  blx__api_queue_unref(queue);
  return done;
}
