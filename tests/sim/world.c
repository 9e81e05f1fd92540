#include "sim.h"

#include "consensus/guard_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCH_MS = 1700000000, DELAY_MIN_US = 200, DELAY_MAX_US = 3000 };

/* ---- words */

void world_log(struct world *w, const char *fmt, ...) {
  if (!w->o.verbose) return;
  va_list ap;
  va_start(ap, fmt);
  (void)printf("%10.3f ", (double)w->sim.now_us / 1000.0);
  (void)vprintf(fmt, ap);
  (void)printf("\n");
  va_end(ap);
}

void world_fail(struct world *w, const char *fmt, ...) {
  if (w->failed) return;
  w->failed = true;
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(w->why, sizeof w->why, fmt, ap);
  va_end(ap);
  world_log(w, "FAILED %s", w->why);
}

void world_sometimes(struct world *w, enum blx__sometimes point) {
  w->reached |= UINT64_C(1) << point;
}

uint64_t world_place(const struct world *w, uint64_t id) {
  return (uint64_t)(uintptr_t)blx__map_get_u64(&w->places, id);
}

/* ---- events */

void world_after(struct world *w, uint64_t after_us, blx__sim_fn *fn, uint64_t a, uint64_t b) {
  blx__sim_after(&w->sim, 0, after_us, (struct blx__sim_call){.fn = fn, .arg = w, .a = a, .b = b});
}

void node_after(struct sim_node *n, uint64_t after_us, blx__sim_fn *fn, void *arg) {
  blx__sim_after(&n->w->sim, (unsigned)n->uid, after_us, (struct blx__sim_call){.fn = fn, .arg = arg});
}

bool world_step(struct world *w) {
  unsigned node = 0;
  if (w->failed || !blx__sim_step(&w->sim, &node)) return false;
  if (node != 0) node_check(&w->nodes[node - 1]);
  return !w->failed;
}

bool world_until(struct world *w, bool (*done)(struct world *w, void *arg), void *arg, uint64_t max_ms) {
  uint64_t end_us = w->sim.now_us + max_ms * 1000;
  while (!done(w, arg)) {
    if (w->failed || blx__sim_due_us(&w->sim) > end_us) {
      if (w->sim.now_us < end_us && !w->failed) w->sim.now_us = end_us;
      return done(w, arg);
    }
    (void)world_step(w);
  }
  return true;
}

static bool never(struct world *w, void *arg) {
  (void)w;
  (void)arg;
  return false;
}

void world_run_ms(struct world *w, uint64_t ms) {
  (void)world_until(w, never, NULL, ms);
}

/* ---- the network */

static void on_deliver(void *user, unsigned from, unsigned to, struct blx__slice message) {
  struct world *w = user;
  struct sim_node *n = &w->nodes[to - 1];
  blx__consensus_deliver(n->c, from, message);
  node_check(n);
}

static bool on_send(void *user, uint64_t to_uid, struct blx__slice message) {
  struct sim_node *n = user;
  struct world *w = n->w;
  BLX__ASSERT(to_uid <= SIM_NODES_MAX);
  if (to_uid == 0)
    return false; /* an answer to a leader that R19 made libraft forget: nobody is reached, as with peers */
  unsigned from = (unsigned)n->uid, to = (unsigned)to_uid;
  if (to > w->nodes_count || w->sim.links[from][to].cut) return true; /* nobody tells a sender that a link is cut */
  if (message.data[1] == MESSAGE_CHUNK) w->installs_sent++;
  if (n->votes_muted && message.data[1] == RAFT_IO_REQUEST_VOTE) return true;
  blx__sim_send(&w->sim, from, to, message);
  return true;
}

void world_cut(struct world *w, unsigned from, unsigned to, bool cut) {
  w->sim.links[from + 1][to + 1].cut = cut;
}

void world_isolate(struct world *w, unsigned node, bool cut) {
  blx__sim_net_isolate(&w->sim, node + 1, cut);
}

void world_delay(struct world *w, uint64_t min_us, uint64_t max_us) {
  const struct blx__sim_link link = {.delay_min_us = min_us, .delay_max_us = max_us, .late_max_us = 50 * max_us};
  blx__sim_net_set(&w->sim, &link);
}

/* ---- what every run must keep: same operations at same indexes, equal chains, one leader per term */

static void on_begin(void *user, uint64_t index, uint64_t time_ms) {
  struct sim_node *n = user;
  if (index <= n->applied_index)
    world_fail(n->w, "n%llu applied index %llu after %llu", (unsigned long long)n->uid, (unsigned long long)index,
               (unsigned long long)n->applied_index);
  n->applying_index = index;
  n->applying_hash = blx__mix64(index ^ blx__mix64(time_ms));
  n->inner.begin(n->inner.user, index, time_ms);
}

static void on_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  struct sim_node *n = user;
  uint64_t id = 0;
  BLX__ASSERT(op.len >= sizeof id);
  memcpy(&id, op.data, sizeof id); /* every operation begins with its id */
  void *old = blx__map_get_u64(&n->w->places, id), *now = (void *)(uintptr_t)n->applying_index;
  if (old && old != now) world_fail(n->w, "operation %llu was applied at two indexes", (unsigned long long)id);
  bool kept = old || blx__map_set_u64(&n->w->places, id, now, NULL);
  BLX__ASSERT(kept);
  for (size_t i = 0; i < op.len; i++) n->applying_hash = blx__mix64(n->applying_hash ^ op.data[i]);
  n->inner.apply(n->inner.user, op, result);
}

static void on_end(void *user) {
  struct sim_node *n = user;
  n->inner.end(n->inner.user);
  n->applied_index = n->applying_index;
  void *mine = (void *)(uintptr_t)(n->applying_hash | 1); /* never NULL */
  void *seen = blx__map_get_u64(&n->w->hashes, n->applying_index);
  if (seen && seen != mine)
    world_fail(n->w, "n%llu applied something else at index %llu than another member did", (unsigned long long)n->uid,
               (unsigned long long)n->applying_index);
  bool kept = seen || blx__map_set_u64(&n->w->hashes, n->applying_index, mine, NULL);
  BLX__ASSERT(kept);
}

static void *on_freeze(void *user, blx_error *err) {
  struct sim_node *n = user;
  if (!n->snapshots_fail) return n->inner.freeze(n->inner.user, err);
  (void)blx__fail(err, BLX_E_NOMEM, "sim", "the script says so");
  return NULL;
}

static void on_thaw(void *user, void *frozen) {
  struct sim_node *n = user;
  n->inner.thaw(n->inner.user, frozen);
}

static blx__rc on_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  struct sim_node *n = user;
  return n->inner.restore(n->inner.user, snapshot, err);
}

static void on_role(void *user, enum blx__consensus_role role, uint64_t leader_uid, uint64_t term) {
  struct sim_node *n = user;
  world_log(n->w, "n%llu %s in term %llu (leader %llu)", (unsigned long long)n->uid, blx__consensus_role_name(role),
            (unsigned long long)term, (unsigned long long)leader_uid);
  if (role != BLX__ROLE_ELECTED && role != BLX__ROLE_LEADER) return;
  void *mine = &n->w->nodes[n->uid - 1];
  void *seen = blx__map_get_u64(&n->w->leaders, term);
  if (seen && seen != mine) world_fail(n->w, "two leaders in term %llu", (unsigned long long)term);
  bool kept = seen || blx__map_set_u64(&n->w->leaders, term, mine, NULL);
  BLX__ASSERT(kept);
}

static void on_fatal(void *user, int code, const char *text) {
  struct sim_node *n = user;
  n->fatal_code = code;
  world_log(n->w, "n%llu poisoned: %s: %s", (unsigned long long)n->uid, blx_error_name(code), text);
}

void node_check(struct sim_node *n) {
  struct world *w = n->w;
  if (!n->alive || n->fatal_code) return;
  struct blx__consensus_status s;
  blx__consensus_status(n->c, &s);
  uint64_t chain = 0;
  memcpy(&chain, s.chain, sizeof chain);
  if (chain == 0) return;
  void *mine = (void *)(uintptr_t)(chain | 1);
  void *seen = blx__map_get_u64(&w->chains, s.applied_index);
  if (seen && seen != mine)
    world_fail(w, "n%llu has another chain at index %llu than another member", (unsigned long long)n->uid,
               (unsigned long long)s.applied_index);
  bool kept = seen || blx__map_set_u64(&w->chains, s.applied_index, mine, NULL);
  BLX__ASSERT(kept);
}

/* ---- members */

static void on_turn(void *arg, uint64_t a, uint64_t b) {
  (void)a;
  (void)b;
  blx__consensus_turn(((struct sim_node *)arg)->c);
}

static void on_wake(void *user) {
  struct sim_node *n = user;
  node_after(n, 0, on_turn, n);
}

static uint64_t on_now(void *user) {
  const struct sim_node *n = user;
  return (uint64_t)(EPOCH_MS + blx__sim_wall_ms(&n->w->sim, (unsigned)n->uid));
}

static void on_log(void *user, int level, const char *component, const char *message) {
  struct sim_node *n = user;
  (void)component;
  if (level < BLX_LOG_INFO) world_log(n->w, "n%llu says: %s", (unsigned long long)n->uid, message);
}

static bool on_space(void *user, uint64_t *free_bytes, uint64_t *size_bytes) {
  const struct sim_node *n = user;
  *free_bytes = n->free_bytes;
  *size_bytes = n->size_bytes;
  return n->size_bytes != 0;
}

static void on_sometimes(void *user, enum blx__sometimes point) {
  world_sometimes(((struct sim_node *)user)->w, point);
}

/* A worker's work takes a while, and sees what was frozen as it was at the beginning. */
static void on_work(void *arg, uint64_t a, uint64_t b) {
  struct sim_node *n = arg;
  (void)a;
  (void)b;
  struct sim_work work = n->work;
  n->work = (struct sim_work){0};
  work.fn(work.arg);
  work.done(work.arg);
}

static void on_work_asked(void *user, void (*fn)(void *arg), void (*done)(void *arg), void *arg) {
  struct sim_node *n = user;
  BLX__ASSERT(!n->work.fn); /* a member writes one snapshot at a time */
  n->work = (struct sim_work){fn, done, arg};
  node_after(n, 10 * blx__sim_rng_in(&n->w->sim.rng, n->disk.min_us, n->disk.max_us), on_work, n);
}

static void on_mark(void *user) {
  struct sim_node *n = user;
  logio_mark(&n->logio);
}

static void bind_seam(struct sim_node *n) {
  n->seam = (struct blx__consensus_seam){.io = &n->io,
                                         .wake = on_wake,
                                         .user = n,
                                         .rules_off = n->w->o.rules_off,
                                         .space = on_space,
                                         .work = on_work_asked,
                                         .chunk_bytes = n->w->o.chunk_bytes,
                                         .mark = on_mark,
                                         .sometimes = on_sometimes};
}

int node_try_start(struct sim_node *n, blx_error *err) {
  BLX__ASSERT(!n->alive);
  struct world *w = n->w;
  sim_disk_init(n);
  n->alive = true;
  n->work = (struct sim_work){0};
  blx__sim_node_start(&w->sim, (unsigned)n->uid);
  n->applied_index = 0;
  n->fatal_code = 0;
  n->fsm = w->o.fsm->create();
  BLX__ASSERT(n->fsm != NULL);
  w->o.fsm->bind(n->fsm, &n->inner);
  bind_seam(n);
  struct blx__log log = {.fn = on_log, .user = n, .level_max = w->o.verbose ? BLX_LOG_WARNING : BLX_LOG_ERROR};
  n->log = log;
  struct blx__consensus_options o = {.uid = n->uid,
                                     .cluster_id = "simulated",
                                     .fsm = {.user = n,
                                             .begin = on_begin,
                                             .apply = on_apply,
                                             .end = on_end,
                                             .freeze = on_freeze,
                                             .write = n->inner.write,
                                             .thaw = on_thaw,
                                             .restore = on_restore},
                                     .log = &n->log,
                                     .user = n,
                                     .now_ms = on_now,
                                     .send = on_send,
                                     .on_role = on_role,
                                     .on_fatal = on_fatal,
                                     .heartbeat_ms = w->o.heartbeat_ms,
                                     .election_ms = w->o.election_ms,
                                     .snapshot_entries = w->o.snapshot_entries,
                                     .snapshot_trailing = w->o.snapshot_trailing,
                                     .log_bytes_max = w->o.log_bytes_max,
                                     .seam = &n->seam};
  int code = blx__consensus_open(&o, &n->c, err).code;
  if (code != 0) {
    n->alive = false;
    blx__sim_node_stop(&w->sim, (unsigned)n->uid);
    w->o.fsm->destroy(n->fsm);
    n->fsm = NULL;
    return code;
  }
  world_log(w, "n%llu starts at index %llu", (unsigned long long)n->uid,
            (unsigned long long)blx__consensus_raft(n->c)->last_applied);
  return 0;
}

void node_start(struct sim_node *n) {
  blx_error err = {0};
  if (node_try_start(n, &err) != 0)
    world_fail(n->w, "n%llu does not start: %s", (unsigned long long)n->uid, err.message);
}

void node_crash(struct sim_node *n) {
  if (!n->alive) return;
  world_log(n->w, "n%llu crashes", (unsigned long long)n->uid);
  sim_disk_crash(n);
  blx__consensus_close(n->c, NULL, NULL);
  blx__consensus_turn(n->c);
  n->c = NULL;
  n->alive = false;
  blx__sim_node_stop(&n->w->sim, (unsigned)n->uid);
  n->w->o.fsm->destroy(n->fsm);
  n->fsm = NULL;
}

struct sim_node *world_leader(struct world *w) {
  struct sim_node *best = NULL;
  uint64_t best_term = 0;
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct sim_node *n = &w->nodes[i];
    if (!n->alive) continue;
    struct blx__consensus_status s;
    blx__consensus_status(n->c, &s);
    if (s.role == BLX__ROLE_LEADER && s.term > best_term) {
      best = n;
      best_term = s.term;
    }
  }
  return best;
}

struct sim_node *world_add_node(struct world *w) {
  BLX__ASSERT(w->nodes_count < SIM_NODES_MAX);
  struct sim_node *n = &w->nodes[w->nodes_count++];
  n->w = w;
  n->uid = w->nodes_count;
  blx__sim_disk_init(&n->disk, &w->sim, w->nodes_count);
  n->disk.min_us = 500;
  n->disk.max_us = 5000;
  return n;
}

void world_set_rules_off(struct world *w, unsigned rules_off) {
  w->o.rules_off = rules_off;
}

void world_init(struct world *w, const struct sim_options *options) {
  w->o = *options;
  blx__sim_init(&w->sim, options->seed);
  w->sim.deliver = on_deliver;
  w->sim.user = w;
  world_delay(w, DELAY_MIN_US, DELAY_MAX_US);
  for (unsigned i = 0; i < options->nodes; i++) sim_disk_bootstrap(world_add_node(w), options->nodes);
}

void world_free(struct world *w) {
  for (unsigned i = 0; i < w->nodes_count; i++) {
    node_crash(&w->nodes[i]);
    sim_disk_free(&w->nodes[i]);
  }
  blx__sim_free(&w->sim);
  blx__map_clear(&w->leaders);
  blx__map_clear(&w->hashes);
  blx__map_clear(&w->chains);
  blx__map_clear(&w->places);
}
