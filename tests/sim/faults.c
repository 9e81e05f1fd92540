/* What goes wrong in a run: members, network, disks and clocks; and who is in the group. */
#include "run.h"

enum { FAULTS = 20 };

static void on_restart(struct world *w, struct sim_event *e) {
  struct sim_node *n = &w->nodes[e->a];
  if (!n->alive) node_start(n);
}

static void crash_for_a_while(struct world *w, struct sim_node *n) {
  if (!n->alive) return;
  node_crash(n);
  world_after(w, sim_rng_in(&w->rng, 10, 4000) * 1000, NULL, on_restart, NULL, n->uid - 1, 0);
}

static void on_mend(struct world *w, struct sim_event *e) {
  world_isolate(w, (unsigned)e->a, false);
}

static void on_link_mend(struct world *w, struct sim_event *e) {
  world_cut(w, (unsigned)e->a, (unsigned)e->b, false);
}

static void on_disk_release(struct world *w, struct sim_event *e) {
  (void)w;
  e->node->disk_held = false;
  e->node->ticks_held = false;
  sim_disk_release(e->node);
}

static void on_room(struct world *w, struct sim_event *e) {
  (void)w;
  e->node->free_bytes = e->node->size_bytes;
}

/* ---- faults of one member; @for_us is how long the passing ones last */

static void cut_off(struct world *w, struct sim_node *n, uint64_t for_us) {
  world_log(w, "n%llu is cut off", (unsigned long long)n->uid);
  world_isolate(w, (unsigned)n->uid - 1, true);
  world_after(w, for_us, NULL, on_mend, NULL, n->uid - 1, 0);
}

static void cut_link(struct world *w, struct sim_node *n, uint64_t for_us) {
  unsigned from = (unsigned)n->uid - 1, to = (unsigned)sim_rng_in(&w->rng, 0, w->nodes_count - 1);
  if (from == to) return;
  world_log(w, "n%u no longer reaches n%u", from + 1, to + 1);
  world_cut(w, from, to, true);
  world_after(w, for_us, NULL, on_link_mend, NULL, from, to);
}

static void hang(struct world *w, struct sim_node *n, bool whole, uint64_t for_us) {
  if (!n->alive) return;
  world_log(w, "n%llu%s", (unsigned long long)n->uid, whole ? " is paused" : "'s disk hangs");
  n->disk_held = true;
  n->ticks_held = whole;
  world_after(w, for_us, n, on_disk_release, NULL, 0, 0);
}

static void fail_a_write(struct world *w, struct sim_node *n) {
  static const int why[] = {RAFT_NOSPACE, RAFT_IOERR};
  int status = why[sim_rng_in(&w->rng, 0, 1)];
  world_log(w, "a write of n%llu will fail", (unsigned long long)n->uid);
  switch (sim_rng_in(&w->rng, 0, 3)) {
  case 0: n->fail_next_vote = status; break;
  case 1: n->fail_next_put = status; break;
  default: n->fail_next_append = status; break;
  }
}

static void fill_disk(struct world *w, struct sim_node *n, uint64_t for_us) {
  if (!n->alive) return;
  world_log(w, "n%llu's disk is nearly full", (unsigned long long)n->uid);
  n->size_bytes = UINT64_C(1) << 40;
  n->free_bytes = 1;
  world_after(w, for_us + 1000000, n, on_room, NULL, 0, 0);
}

/* Forward only for the monotonic clock, as after a suspended machine; either way for the one on the wall. */
static void jump_clock(struct world *w, struct sim_node *n) {
  world_log(w, "n%llu's clock jumps", (unsigned long long)n->uid);
  if (sim_rng_chance(&w->rng, 50)) n->clock_jumped_us += sim_rng_in(&w->rng, 1, 20000) * 1000;
  n->clock_behind_ms = sim_rng_in(&w->rng, 0, 10000000);
  world_sometimes(w, BLX__SOMETIMES_CLOCK_JUMPED);
}

/* Start with a damaged disk: it must be refused, and nothing forgotten. Then the disk comes back from a copy. */
static void refuse_damaged(struct world *w, struct sim_node *n) {
  blx_error err = {0};
  int code = node_try_start(n, &err);
  world_log(w, "n%llu with a damaged disk: %s", (unsigned long long)n->uid, err.message);
  if (code == BLX_E_CORRUPT)
    world_sometimes(w, BLX__SOMETIMES_FLIP_REFUSED);
  else
    world_fail(w, "n%llu was started with a damaged disk (code %d)", (unsigned long long)n->uid, code);
}

static void damage(struct world *w, struct sim_node *n) {
  if (!n->alive) return;
  node_crash(n);
  if (n->disk.snapshot.present) {
    uint8_t *at = &n->disk.snapshot.data[sim_rng_in(&w->rng, 0, n->disk.snapshot.len - 1)];
    uint8_t bit = (uint8_t)(1U << sim_rng_in(&w->rng, 0, 7));
    *at ^= bit;
    refuse_damaged(w, n);
    *at ^= bit;
  } else {
    n->fail_next_load = RAFT_CORRUPT;
    refuse_damaged(w, n);
  }
  if (!n->alive) world_after(w, sim_rng_in(&w->rng, 10, 4000) * 1000, NULL, on_restart, NULL, n->uid - 1, 0);
}

/* ---- changes of members, and of the leader */

static const char *const change_names[] = {"added", "removed", "transferred"};

static void on_changed(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct sim_change *change = user;
  (void)index;
  (void)result;
  if (!err) world_sometimes(change->w, change->point);
  world_log(change->w, "member %llu %s: %s", (unsigned long long)change->uid,
            change_names[change->point - BLX__SOMETIMES_MEMBER_ADDED], err ? err->message : "done");
  change->busy = false;
}

static struct sim_change *change_new(struct world *w, enum blx__sometimes point, uint64_t uid) {
  for (unsigned i = 0; i < SIM_CHANGES_MAX; i++) {
    struct sim_change *change = &w->changes[i];
    if (change->busy) continue;
    *change = (struct sim_change){.w = w, .busy = true, .point = point, .uid = uid};
    return change;
  }
  return NULL;
}

static void add_member(struct world *w, struct sim_node *leader) {
  struct sim_node *n = NULL;
  for (unsigned i = 0; i < w->nodes_count; i++) /* one that was begun goes on before another is tried */
    if (!w->nodes[i].was_voter) n = &w->nodes[i];
  if (!n && w->nodes_count == SIM_NODES_MAX) return;
  if (!n) {
    n = world_add_node(w);
    n->disk_max_us = leader->disk_max_us;
    node_start(n);
  }
  struct sim_change *change = change_new(w, BLX__SOMETIMES_MEMBER_ADDED, n->uid);
  if (!change) return;
  if (blx__consensus_add_member(leader->c, n->uid, on_changed, change, NULL).code != 0) change->busy = false;
}

static void remove_member(struct world *w, struct sim_node *leader) {
  struct blx__consensus_status s;
  blx__consensus_status(leader->c, &s);
  if (s.members_count < 2) return;
  uint64_t uid = s.members[sim_rng_in(&w->rng, 0, s.members_count - 1)].uid;
  struct sim_change *change = uid == leader->uid ? NULL : change_new(w, BLX__SOMETIMES_MEMBER_REMOVED, uid);
  if (!change) return;
  w->nodes[uid - 1].was_voter = true; /* a uid that was a member is not used again */
  if (blx__consensus_remove_member(leader->c, uid, on_changed, change, NULL).code != 0) change->busy = false;
}

static void hand_over(struct world *w, struct sim_node *leader) {
  struct sim_change *change = change_new(w, BLX__SOMETIMES_TRANSFERRED, leader->uid);
  if (!change) return;
  if (blx__consensus_transfer(leader->c, 0, on_changed, change, NULL).code != 0) change->busy = false;
}

static void change_members(struct world *w, struct sim_node *leader) {
  if (!leader) return;
  switch (sim_rng_in(&w->rng, 0, 2)) {
  case 0: add_member(w, leader); break;
  case 1: remove_member(w, leader); break;
  default: hand_over(w, leader); break;
  }
}

static void one_fault(struct world *w) {
  struct sim_node *leader = world_leader(w), *n = &w->nodes[sim_rng_in(&w->rng, 0, w->nodes_count - 1)];
  if (leader && sim_rng_chance(&w->rng, 40)) n = leader;
  uint64_t for_us = sim_rng_in(&w->rng, 50, 5000) * 1000;
  switch (sim_rng_in(&w->rng, 0, FAULTS - 1)) {
  case 0:
  case 1:
  case 2:
  case 3: crash_for_a_while(w, n); break;
  case 4:
  case 5: cut_off(w, n, for_us); break;
  case 6:
  case 7:
  case 8: cut_link(w, n, for_us); break;
  case 9:
  case 10: hang(w, n, false, for_us); break;
  case 11:
  case 12: hang(w, n, true, for_us); break;
  case 13: fail_a_write(w, n); break;
  case 14: fill_disk(w, n, for_us); break;
  case 15: jump_clock(w, n); break;
  case 16: damage(w, n); break;
  default: change_members(w, leader); break;
  }
}

void faults_supervise(struct world *w) {
  for (unsigned i = 0; i < w->nodes_count; i++)
    if (w->nodes[i].alive && w->nodes[i].fatal_code && w->nodes[i].fatal_code != BLX_E_CORRUPT)
      crash_for_a_while(w, &w->nodes[i]);
}

void faults_step(struct world *w) {
  faults_supervise(w);
  one_fault(w);
}
