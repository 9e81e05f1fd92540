/* What goes wrong in a run: members, network, disks and clocks; and who is in the group. */
#include "run.h"

enum { FAULTS = 20 };

static void on_restart(void *arg, uint64_t node, uint64_t unused) {
  struct world *w = arg;
  struct sim_node *n = &w->nodes[node];
  (void)unused;
  if (!n->alive) node_start(n);
}

static void crash_for_a_while(struct world *w, struct sim_node *n) {
  if (!n->alive) return;
  node_crash(n);
  world_after(w, blx__sim_rng_in(&w->sim.rng, 10, 4000) * 1000, on_restart, n->uid - 1, 0);
}

static void on_mend(void *arg, uint64_t node, uint64_t unused) {
  (void)unused;
  world_isolate(arg, (unsigned)node, false);
}

static void on_link_mend(void *arg, uint64_t from, uint64_t to) {
  world_cut(arg, (unsigned)from, (unsigned)to, false);
}

static void on_disk_release(void *arg, uint64_t a, uint64_t b) {
  struct sim_node *n = arg;
  (void)a;
  (void)b;
  n->ticks_held = false;
  sim_disk_release(n);
}

static void on_room(void *arg, uint64_t a, uint64_t b) {
  struct sim_node *n = arg;
  (void)a;
  (void)b;
  n->free_bytes = n->size_bytes;
}

/* ---- faults of one member; @for_us is how long the passing ones last */

static void cut_off(struct world *w, struct sim_node *n, uint64_t for_us) {
  world_log(w, "n%llu is cut off", (unsigned long long)n->uid);
  world_isolate(w, (unsigned)n->uid - 1, true);
  world_after(w, for_us, on_mend, n->uid - 1, 0);
}

static void cut_link(struct world *w, struct sim_node *n, uint64_t for_us) {
  unsigned from = (unsigned)n->uid - 1, to = (unsigned)blx__sim_rng_in(&w->sim.rng, 0, w->nodes_count - 1);
  if (from == to) return;
  world_log(w, "n%u no longer reaches n%u", from + 1, to + 1);
  world_cut(w, from, to, true);
  world_after(w, for_us, on_link_mend, from, to);
}

static void hang(struct world *w, struct sim_node *n, bool whole, uint64_t for_us) {
  if (!n->alive) return;
  world_log(w, "n%llu%s", (unsigned long long)n->uid, whole ? " is paused" : "'s disk hangs");
  n->disk.held = true;
  n->ticks_held = whole;
  node_after(n, for_us, on_disk_release, n);
}

static void fail_a_write(struct world *w, struct sim_node *n) {
  static const int why[] = {RAFT_NOSPACE, RAFT_IOERR};
  int status = why[blx__sim_rng_in(&w->sim.rng, 0, 1)];
  world_log(w, "a write of n%llu will fail", (unsigned long long)n->uid);
  switch (blx__sim_rng_in(&w->sim.rng, 0, 3)) {
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
  node_after(n, for_us + 1000000, on_room, n);
}

/* Forward only for the monotonic clock, as after a suspended machine; either way for the one on the wall. */
static void jump_clock(struct world *w, struct sim_node *n) {
  world_log(w, "n%llu's clock jumps", (unsigned long long)n->uid);
  unsigned node = (unsigned)n->uid;
  if (blx__sim_rng_chance(&w->sim.rng, 50))
    blx__sim_clock_jump(&w->sim, node, blx__sim_rng_in(&w->sim.rng, 1, 20000) * 1000);
  blx__sim_wall_set(&w->sim, node, -(int64_t)blx__sim_rng_in(&w->sim.rng, 0, 10000000));
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
  char name[BLX__DISK_NAME_MAX + 1];
  size_t offset = 0;
  if (sim_disk_spot(&n->disk, &w->sim.rng, name, &offset)) {
    unsigned bit = (unsigned)blx__sim_rng_in(&w->sim.rng, 0, 7);
    world_log(w, "n%llu: bit %u of byte %zu of '%s' turns over", (unsigned long long)n->uid, bit, offset, name);
    bool flipped = blx__sim_disk_flip(&n->disk, name, offset, bit);
    BLX__ASSERT(flipped);
    refuse_damaged(w, n);
    flipped = blx__sim_disk_flip(&n->disk, name, offset, bit);
    BLX__ASSERT(flipped);
  }
  if (!n->alive) world_after(w, blx__sim_rng_in(&w->sim.rng, 10, 4000) * 1000, on_restart, n->uid - 1, 0);
}

/* ---- changes of members, and of the leader */

static const char *const change_names[] = {"added", "removed", "standing by", "transferred"};

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

/* One that was never a member; NULL: there are enough. */
static struct sim_node *new_member(struct world *w, struct sim_node *leader) {
  struct sim_node *n = NULL;
  for (unsigned i = 0; i < w->nodes_count; i++) /* one that was begun goes on before another is tried */
    if (!w->nodes[i].was_voter) n = &w->nodes[i];
  if (n || w->nodes_count == SIM_NODES_MAX) return n;
  n = world_add_node(w);
  n->disk.max_us = leader->disk.max_us;
  node_start(n);
  return n;
}

static void add_member(struct world *w, struct sim_node *leader) {
  struct sim_node *n = new_member(w, leader);
  if (!n) return;
  struct sim_change *change = change_new(w, BLX__SOMETIMES_MEMBER_ADDED, n->uid);
  if (!change) return;
  if (blx__consensus_add_member(leader->c, n->uid, on_changed, change, NULL).code != 0) change->busy = false;
}

static void remove_member(struct world *w, struct sim_node *leader) {
  struct blx__consensus_status s;
  blx__consensus_status(leader->c, &s);
  if (s.members_count < 2) return;
  uint64_t uid = s.members[blx__sim_rng_in(&w->sim.rng, 0, s.members_count - 1)].uid;
  struct sim_change *change = uid == leader->uid ? NULL : change_new(w, BLX__SOMETIMES_MEMBER_REMOVED, uid);
  if (!change) return;
  w->nodes[uid - 1].was_voter = true; /* a uid that was a member is not used again */
  if (blx__consensus_remove_member(leader->c, uid, on_changed, change, NULL).code != 0) change->busy = false;
}

/* A voter loses its vote, or one that is not in the group yet comes as a stand-by; either may be made a voter later. */
static void stand_by(struct world *w, struct sim_node *leader) {
  struct blx__consensus_status s;
  blx__consensus_status(leader->c, &s);
  uint64_t uid = s.members[blx__sim_rng_in(&w->sim.rng, 0, s.members_count - 1)].uid;
  if (blx__sim_rng_chance(&w->sim.rng, 30)) {
    struct sim_node *n = new_member(w, leader);
    if (n) uid = n->uid;
  }
  struct sim_change *change = uid == leader->uid ? NULL : change_new(w, BLX__SOMETIMES_MEMBER_STOOD_BY, uid);
  if (!change) return;
  if (blx__consensus_stand_by(leader->c, uid, on_changed, change, NULL).code != 0) change->busy = false;
}

/* A stand-by gets its vote. */
static void promote(struct world *w, struct sim_node *leader) {
  struct blx__consensus_status s;
  blx__consensus_status(leader->c, &s);
  for (uint32_t i = 0; i < s.members_count; i++) {
    if (s.members[i].membership != BLX__MEMBER_STANDBY) continue;
    struct sim_change *change = change_new(w, BLX__SOMETIMES_MEMBER_ADDED, s.members[i].uid);
    if (!change) return;
    if (blx__consensus_add_member(leader->c, s.members[i].uid, on_changed, change, NULL).code != 0)
      change->busy = false;
    return;
  }
}

static void hand_over(struct world *w, struct sim_node *leader) {
  struct sim_change *change = change_new(w, BLX__SOMETIMES_TRANSFERRED, leader->uid);
  if (!change) return;
  if (blx__consensus_transfer(leader->c, 0, on_changed, change, NULL).code != 0) change->busy = false;
}

static void change_members(struct world *w, struct sim_node *leader) {
  if (!leader) return;
  switch (blx__sim_rng_in(&w->sim.rng, 0, 4)) {
  case 0: add_member(w, leader); break;
  case 1: remove_member(w, leader); break;
  case 2: stand_by(w, leader); break;
  case 3: promote(w, leader); break;
  default: hand_over(w, leader); break;
  }
}

static void one_fault(struct world *w) {
  struct sim_node *leader = world_leader(w), *n = &w->nodes[blx__sim_rng_in(&w->sim.rng, 0, w->nodes_count - 1)];
  if (leader && blx__sim_rng_chance(&w->sim.rng, 40)) n = leader;
  uint64_t for_us = blx__sim_rng_in(&w->sim.rng, 50, 5000) * 1000;
  switch (blx__sim_rng_in(&w->sim.rng, 0, FAULTS - 1)) {
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
