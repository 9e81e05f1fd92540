#include "run.h"
#include "history.h"

#include <stdlib.h>
#include <string.h>

enum {
  CHAOS_MS = 30000,
  LEADER_WITHIN_MS = 10000,
  AGREE_WITHIN_MS = 20000,
  SETTLE_MS = 200,  /* for failures of the disk that were under way */
  OPS_MAX = 20000,  /* proposals of one run, */
  READS_MAX = 5000, /* and confirmed reads */
};

enum fate { FATE_NONE, FATE_SENT, FATE_ACKED, FATE_NOT_DONE, FATE_UNKNOWN };

struct run {
  struct world w;
  const struct sim_fsm *fsm;
  enum fate *fates; /* by id - 1 */
  uint64_t ops_count, acked_count, reads_count, reads_asked, clock;
  struct history_event *history; /* the operations by id - 1, then the confirmed reads */
  bool calm, load_ended;
};

/* The context of one call: which run, which operation, what was known when it was made. */
struct ask {
  struct run *run;
  struct sim_node *node;
  uint64_t id, began;
};

static struct run *run_of(struct world *w) {
  return BLX__CONTAINER(w, struct run, w);
}

static void on_acked(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct ask *a = user;
  struct run *run = a->run;
  enum fate *fate = &run->fates[a->id - 1];
  if (*fate != FATE_SENT) world_fail(&run->w, "operation %llu was completed twice", (unsigned long long)a->id);
  if (!err) {
    *fate = FATE_ACKED;
    run->acked_count++;
    run->history[a->id - 1].ended = ++run->clock;
    if (index != world_place(&run->w, a->id))
      world_fail(&run->w, "operation %llu was answered with index %llu and is at %llu", (unsigned long long)a->id,
                 (unsigned long long)index, (unsigned long long)world_place(&run->w, a->id));
    uint64_t id = 0;
    if (run->fsm == &sim_fsm_log && (result.len != 8 || memcpy(&id, result.data, 8) == NULL || id != a->id))
      world_fail(&run->w, "operation %llu got the answer of another one", (unsigned long long)a->id);
  } else {
    *fate = err->code == BLX_E_NO_LEADER || err->code == BLX_E_BUSY ? FATE_NOT_DONE : FATE_UNKNOWN;
    if (*fate == FATE_UNKNOWN) world_sometimes(&run->w, BLX__SOMETIMES_UNKNOWN);
  }
  free(a);
}

static struct ask *ask_new(struct run *run, struct sim_node *n) {
  struct ask *a = calloc(1, sizeof *a);
  BLX__ASSERT(a != NULL);
  a->run = run;
  a->node = n;
  a->began = ++run->clock;
  return a;
}

static void propose(struct run *run, struct sim_node *n) {
  if (run->ops_count == OPS_MAX) return;
  struct ask *a = ask_new(run, n);
  a->id = ++run->ops_count;
  run->fates[a->id - 1] = FATE_SENT;
  run->history[a->id - 1] = (struct history_event){.began = a->began, .ended = UINT64_MAX, .write = true};
  struct blx__buf op;
  blx__buf_init(&op, BLX__CONSENSUS_OP_MAX);
  bool made = run->fsm->make_op(&run->w.sim.rng, a->id, &op);
  BLX__ASSERT(made);
  blx__rc rc = blx__consensus_propose(n->c, (struct blx__slice){op.data, op.len}, on_acked, a, NULL);
  blx__buf_free(&op);
  if (rc.code == 0) return;
  run->fates[a->id - 1] = FATE_NOT_DONE;
  free(a);
}

static void on_confirmed(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct ask *a = user;
  (void)result;
  if (!err) {
    struct run *run = a->run;
    uint64_t applied = blx__consensus_raft(a->node->c)->last_applied; /* what the state machine would answer from */
    if (applied < index)
      world_fail(&run->w, "a read was confirmed before index %llu was applied", (unsigned long long)index);
    run->history[OPS_MAX + run->reads_count++] =
        (struct history_event){.began = a->began, .ended = ++run->clock, .place = applied};
  }
  free(a);
}

static void confirm(struct run *run, struct sim_node *n) {
  if (run->reads_asked == READS_MAX) return;
  run->reads_asked++;
  struct ask *a = ask_new(run, n);
  if (blx__consensus_confirm(n->c, on_confirmed, a, NULL).code != 0) free(a);
}

/* ---- load */

static void on_load(void *arg, uint64_t a, uint64_t b) {
  struct world *w = arg;
  (void)a;
  (void)b;
  struct run *run = run_of(w);
  if (run->load_ended) return;
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct sim_node *n = &w->nodes[i];
    if (!n->alive || n->fatal_code || blx__consensus_raft(n->c)->state != RAFT_LEADER) continue;
    for (uint64_t k = blx__sim_rng_in(&w->sim.rng, 1, 4); k > 0; k--) propose(run, n);
    if (blx__sim_rng_chance(&w->sim.rng, 30)) confirm(run, n);
  }
  world_after(w, blx__sim_rng_in(&w->sim.rng, 1000, 60000), on_load, 0, 0);
}

static void on_fault(void *arg, uint64_t a, uint64_t b) {
  struct world *w = arg;
  (void)a;
  (void)b;
  if (run_of(w)->calm)
    faults_supervise(w); /* what was broken before the peace may show only now */
  else
    faults_step(w);
  world_after(w, blx__sim_rng_in(&w->sim.rng, 50, 3000) * 1000, on_fault, 0, 0);
}

static void make_peace(struct run *run) {
  struct world *w = &run->w;
  run->calm = true;
  world_log(w, "peace");
  const struct blx__sim_link *link = &w->sim.links[1][1];
  world_delay(w, link->delay_min_us, link->delay_max_us);
  blx__sim_net_mend(&w->sim);
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct sim_node *n = &w->nodes[i];
    n->ticks_held = false;
    sim_disk_release(n);
    n->free_bytes = n->size_bytes;
    n->fail_next_append = n->fail_next_vote = n->fail_next_put = 0;
  }
  world_run_ms(w, SETTLE_MS);
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct sim_node *n = &w->nodes[i];
    n->lost = n->alive && n->fatal_code == BLX_E_CORRUPT;
    if (n->lost) continue;
    if (n->alive && n->fatal_code) node_crash(n);
    if (!n->alive) node_start(n);
  }
}

/* ---- the reckoning */

/* A leader that serves: @arg is how many operations were acknowledged before. */
static bool has_leader(struct world *w, void *arg) {
  (void)arg;
  return world_leader(w) != NULL;
}

static bool is_served(struct world *w, void *arg) {
  return world_leader(w) != NULL && run_of(w)->acked_count > *(uint64_t *)arg;
}

/* Does the group, as the leader knows it, have this one as a voter? One that must join anew is not asked. */
static bool is_counted(const struct sim_node *leader, const struct sim_node *n) {
  if (n->alive && n->fatal_code == BLX_E_CORRUPT) return false;
  struct blx__consensus_status s;
  blx__consensus_status(leader->c, &s);
  for (uint32_t i = 0; i < s.members_count; i++)
    if (s.members[i].uid == n->uid) return s.members[i].membership == BLX__MEMBER_VOTER;
  return false;
}

/* A group most of whose voters must join anew cannot be asked for anything. Seen from any member's newest log. */
static bool has_quorum(struct run *run) {
  struct world *w = &run->w;
  unsigned lost = 0;
  for (unsigned i = 0; i < w->nodes_count; i++) lost += w->nodes[i].lost;
  return lost == 0 || world_until(w, has_leader, NULL, LEADER_WITHIN_MS);
}

static bool all_agree(struct world *w, void *arg) {
  (void)arg;
  uint64_t first = 0;
  const struct sim_node *leader = world_leader(w);
  if (!leader) return false;
  for (unsigned i = 0; i < w->nodes_count; i++) {
    if (!is_counted(leader, &w->nodes[i])) continue;
    if (!w->nodes[i].alive) return false;
    struct blx__consensus_status s;
    blx__consensus_status(w->nodes[i].c, &s);
    if (s.waiting != 0 || s.applied_index != s.last_index) return false;
    if (first != 0 && s.applied_index != first) return false;
    first = s.applied_index;
  }
  return true;
}

static void show_members(struct world *w) {
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct blx__consensus_status s;
    if (!w->nodes[i].alive) continue;
    blx__consensus_status(w->nodes[i].c, &s);
    world_log(w, "n%u %s term %llu leader %llu applied %llu commit %llu last %llu snapshot %llu waiting %u", i + 1,
              blx__consensus_role_name(s.role), (unsigned long long)s.term, (unsigned long long)s.leader_uid,
              (unsigned long long)s.applied_index, (unsigned long long)s.commit_index, (unsigned long long)s.last_index,
              (unsigned long long)s.snapshot_index, s.waiting);
  }
}

static void check_fates(struct run *run) {
  struct world *w = &run->w;
  const struct sim_node *leader = world_leader(w);
  if (!leader) {
    world_fail(w, "there is no leader at the end");
    return;
  }
  for (unsigned i = 0; i < w->nodes_count; i++) {
    struct sim_node *n = &w->nodes[i];
    if (!is_counted(leader, n)) continue;
    const char *broken = run->fsm->check(n->fsm);
    if (broken) world_fail(w, "n%u: %s", i + 1, broken);
    for (uint64_t id = 1; id <= run->ops_count; id++) {
      enum fate fate = run->fates[id - 1];
      bool has = run->fsm->has(n->fsm, id);
      if (fate == FATE_ACKED && !has)
        world_fail(w, "operation %llu was acknowledged and is not on n%u", (unsigned long long)id, i + 1);
      if (fate == FATE_NOT_DONE && has)
        world_fail(w, "operation %llu was refused and yet is on n%u", (unsigned long long)id, i + 1);
      if (fate == FATE_UNKNOWN && has) world_sometimes(w, BLX__SOMETIMES_UNKNOWN_DONE);
      if (fate == FATE_SENT) world_fail(w, "operation %llu was never completed", (unsigned long long)id);
    }
  }
}

/* Operations that never took place explain nothing. */
static void check_history(struct run *run) {
  char why[HISTORY_TEXT];
  size_t count = 0;
  for (uint64_t id = 1; id <= run->ops_count; id++) {
    struct history_event e = run->history[id - 1];
    e.place = world_place(&run->w, id);
    /* Operations of one entry share its index; they were under way together. */
    if (e.place != 0) run->history[count++] = e;
  }
  memmove(run->history + count, run->history + OPS_MAX, run->reads_count * sizeof *run->history);
  if (!history_check(run->history, count + run->reads_count, why)) world_fail(&run->w, "not linearizable: %s", why);
}

static void reckon(struct run *run) {
  struct world *w = &run->w;
  make_peace(run);
  if (!has_quorum(run)) {
    world_log(w, "too many members must join anew: nothing more is asked of this group");
    return;
  }
  uint64_t before = run->acked_count;
  if (!world_until(w, is_served, &before, LEADER_WITHIN_MS)) {
    world_fail(w, "no leader commits within %d ms after the faults ended", LEADER_WITHIN_MS);
    return;
  }
  world_run_ms(w, 2000);
  run->load_ended = true;
  if (!world_until(w, all_agree, NULL, AGREE_WITHIN_MS)) {
    show_members(w);
    world_fail(w, "the members do not agree within %d ms after the load ended", AGREE_WITHIN_MS);
  }
  if (!w->failed) check_fates(run);
  if (!w->failed) check_history(run);
}

static void set_the_scene(struct run *run, uint64_t seed, unsigned rules_off, bool verbose) {
  struct world *w = &run->w;
  struct blx__sim_rng r = {.state = blx__mix64(seed)};
  const struct sim_options o = {
      .seed = seed,
      .nodes = (unsigned)blx__sim_rng_in(&r, 1, 5),
      .fsm = run->fsm,
      .rules_off = rules_off,
      .heartbeat_ms = 100,
      .election_ms = 1000,
      .snapshot_entries = (uint32_t)blx__sim_rng_in(&r, 10, 300),
      .snapshot_trailing = blx__sim_rng_chance(&r, 50) ? 0 : (uint32_t)blx__sim_rng_in(&r, 1, 100),
      .chunk_bytes = blx__sim_rng_chance(&r, 50) ? 0 : (uint32_t)blx__sim_rng_in(&r, 2000, 20000),
      .verbose = verbose};
  world_init(w, &o);
  struct blx__sim_link link = w->sim.links[1][1];
  link.delay_max_us = blx__sim_rng_in(&r, 300, 60000);
  link.late_max_us = 50 * link.delay_max_us;
  link.loss_percent = (unsigned)blx__sim_rng_in(&r, 0, 10);
  link.double_percent = (unsigned)blx__sim_rng_in(&r, 0, 10);
  link.late_percent = (unsigned)blx__sim_rng_in(&r, 0, 10);
  blx__sim_net_set(&w->sim, &link);
  for (unsigned i = 0; i < w->nodes_count; i++) {
    w->nodes[i].disk.max_us = blx__sim_rng_in(&r, 1000, 60000);
    blx__sim_clock_rate(&w->sim, i + 1, blx__sim_rng_in(&r, 900000, 1100000));
    w->nodes[i].was_voter = true;
    node_start(&w->nodes[i]);
  }
  if (w->nodes_count == 1) world_sometimes(w, BLX__SOMETIMES_ALONE);
  world_after(w, 0, on_load, 0, 0);
  world_after(w, 3000000, on_fault, 0, 0);
}

bool sim_run(uint64_t seed, const struct sim_fsm *fsm, unsigned rules_off, bool verbose, uint64_t *reached,
             char why[SIM_WHY_SIZE]) {
  struct run *run = calloc(1, sizeof *run);
  BLX__ASSERT(run != NULL);
  run->fsm = fsm;
  run->fates = calloc(OPS_MAX, sizeof *run->fates);
  run->history = calloc(OPS_MAX + READS_MAX, sizeof *run->history);
  BLX__ASSERT(run->fates != NULL && run->history != NULL);
  set_the_scene(run, seed, rules_off, verbose);
  world_run_ms(&run->w, CHAOS_MS);
  if (!run->w.failed) reckon(run);
  world_log(&run->w, "%llu operations, %llu acknowledged, %llu reads confirmed", (unsigned long long)run->ops_count,
            (unsigned long long)run->acked_count, (unsigned long long)run->reads_count);
  bool failed = run->w.failed;
  (void)blx__str_copy(why, SIM_WHY_SIZE, run->w.why);
  *reached |= run->w.reached;
  world_free(&run->w);
  free(run->fates);
  free(run->history);
  free(run);
  return !failed;
}
