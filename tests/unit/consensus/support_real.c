#include "support_real.h"

#include "io/file.h"
#include "io/timer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES] = "a test cluster";

void real_init(struct real *r) {
  *r = (struct real){.snapshot_entries = 1000};
  ck_assert_int_eq(blx__loop_new(&r->loop, NULL).code, 0);
  ck_assert(blx__str_format(r->root, sizeof r->root, "/tmp/blx-consensus-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(r->root));
}

void real_free(struct real *r) {
  for (unsigned i = 0; i < REAL_MAX; i++) real_close(r, i);
  blx__loop_free(r->loop);
  ck_assert_int_eq(blx__dir_remove_tree(r->root, NULL).code, 0);
}

void real_make(struct real *r, unsigned i, bool first) {
  struct real_member *m = &r->m[i];
  m->r = r;
  m->uid = i + 1;
  ck_assert(blx__str_format(m->dir, sizeof m->dir, "%s/n%u", r->root, i + 1));
  ck_assert(blx__str_format(m->socket, sizeof m->socket, "%s/n%u.sock", r->root, i + 1));
  ck_assert_int_eq(blx__dir_make(m->dir, 0700, NULL).code, 0);
  blx_error err = {0};
  if (first) ck_assert_msg(blx__consensus_bootstrap(m->dir, cluster_id, m->uid, &err).code == 0, "%s", err.message);
}

static uint64_t on_now(void *user) {
  return blx__loop_wall_ms(((struct real_member *)user)->r->loop);
}

static bool on_send(void *user, uint64_t to_uid, struct blx__slice message) {
  struct real_member *m = user;
  return m->peers && blx__peers_send(m->peers, to_uid, message);
}

static void on_fatal(void *user, int code, const char *text) {
  (void)text;
  ((struct real_member *)user)->fatal_code = code;
}

static void on_deliver(void *user, uint64_t from_uid, struct blx__slice message) {
  struct real_member *m = user;
  if (m->c) blx__consensus_deliver(m->c, from_uid, message);
}

static void open_peers(struct real_member *m) {
  struct blx__peers_options o = {
      .loop = m->r->loop, .listen_path = m->socket, .uid = m->uid, .user = m, .deliver = on_deliver, .hello_ms = 300};
  memcpy(o.cluster_id, cluster_id, sizeof cluster_id);
  blx_error err = {0};
  ck_assert_msg(blx__peers_open(&o, &m->peers, &err).code == 0, "%s", err.message);
  for (unsigned i = 0; i < REAL_MAX; i++) {
    char path[REAL_PATH];
    ck_assert(blx__str_format(path, sizeof path, "%s/n%u.sock", m->r->root, i + 1));
    if (i + 1 != m->uid) ck_assert_int_eq(blx__peers_set_address(m->peers, i + 1, path, NULL).code, 0);
  }
}

int real_open(struct real *r, unsigned i, blx_error *err) {
  struct real_member *m = &r->m[i];
  m->fatal_code = 0;
  m->fsm = sim_fsm_log.create();
  const struct blx__consensus_seam seam = {.rules_off = r->rules_off};
  char dir[REAL_PATH]; /* the caller's for the call only */
  ck_assert(blx__str_copy(dir, sizeof dir, m->dir));
  struct blx__consensus_options o = {.loop = r->loop,
                                     .dir = dir,
                                     .uid = m->uid,
                                     .user = m,
                                     .now_ms = on_now,
                                     .send = on_send,
                                     .on_fatal = on_fatal,
                                     .may_truncate = r->may_truncate,
                                     .heartbeat_ms = 20,
                                     .election_ms = 200,
                                     .snapshot_entries = r->snapshot_entries,
                                     .snapshot_trailing = 5,
                                     .snapshot_bytes = r->snapshot_bytes,
                                     .reserve_bytes = r->reserve_bytes,
                                     .segment_bytes = r->segment_bytes,
                                     .unsafe_fs = r->unsafe_fs,
                                     .seam = &seam};
  memcpy(o.cluster_id, cluster_id, sizeof cluster_id);
  sim_fsm_log.bind(m->fsm, &o.fsm);
  int code = blx__consensus_open(&o, &m->c, err).code;
  memset(dir, 'x', sizeof dir - 1);
  if (code != 0) {
    sim_fsm_log.destroy(m->fsm);
    m->fsm = NULL;
    return code;
  }
  open_peers(m);
  return 0;
}

static void on_closed(void *user) {
  ((struct real_member *)user)->closes--;
}

static bool is_closed(struct real *r, void *member) {
  (void)r;
  return ((struct real_member *)member)->closes == 0;
}

void real_close(struct real *r, unsigned i) {
  struct real_member *m = &r->m[i];
  if (!m->c) return;
  m->closes = 2;
  blx__peers_close(m->peers, on_closed, m);
  m->peers = NULL;
  blx__consensus_close(m->c, on_closed, m);
  real_until(r, is_closed, m);
  m->c = NULL;
  sim_fsm_log.destroy(m->fsm);
  m->fsm = NULL;
}

struct wait {
  struct real *r;
  bool (*done)(struct real *r, void *arg);
  void *arg;
  bool held;
  uint64_t end_ms;
};

static void on_look(void *arg) {
  struct wait *w = arg;
  w->held = w->done(w->r, w->arg);
  if (w->held || blx__loop_now_ms(w->r->loop) > w->end_ms) blx__loop_stop(w->r->loop);
}

void real_until(struct real *r, bool (*done)(struct real *r, void *arg), void *arg) {
  struct wait w = {.r = r, .done = done, .arg = arg, .end_ms = blx__loop_now_ms(r->loop) + 60000};
  struct blx__timer *t = blx__timer_new(r->loop, on_look, &w);
  ck_assert_ptr_nonnull(t);
  blx__timer_start(t, 0, 1);
  blx__loop_run(r->loop);
  blx__timer_free(t);
  ck_assert_msg(w.held, "what was waited for did not come within a minute");
}

struct real_member *real_leader(struct real *r) {
  for (unsigned i = 0; i < REAL_MAX; i++) {
    struct blx__consensus_status s;
    if (!r->m[i].c) continue;
    blx__consensus_status(r->m[i].c, &s);
    if (s.role == BLX__ROLE_LEADER) return &r->m[i];
  }
  return NULL;
}

bool real_has_leader(struct real *r, void *arg) {
  (void)arg;
  return real_leader(r) != NULL;
}

bool real_fired(struct real *r, void *outcome) {
  (void)r;
  return ((struct outcome *)outcome)->fired > 0;
}

void real_commit(struct real *r, uint64_t id) {
  for (;;) {
    real_until(r, real_has_leader, NULL);
    struct outcome x = {0};
    const struct blx__slice op = {.data = (const uint8_t *)&id, .len = sizeof id};
    if (blx__consensus_propose(real_leader(r)->c, op, outcome_cb, &x, NULL).code != 0) continue;
    real_until(r, real_fired, &x);
    if (x.code == 0) return;
    ck_assert(x.code == BLX_E_NO_LEADER || x.code == BLX_E_TIMEOUT); /* a busy machine may cost an election */
  }
}
