/* What goes wrong in a run: daemons, machines, links, disks, clocks, guests. */
#include "nodes.h"

enum { FAULTS = 28, SUPERVISE_MS = 100 };

static uint64_t ms(uint64_t lo, uint64_t hi) {
  return cluster_rng(lo, hi) * 1000;
}

/* Most faults are short; some last until a lease is over and what ran under it runs elsewhere. */
static uint64_t duration(void) {
  return cluster.used && cluster_chance(25) ? ms(4000, 15000) : ms(50, 5000);
}

static struct node *node_at(uint64_t number) {
  return &cluster.nodes[number];
}

/* ---- down and up */

static void up_later(struct node *n);

static void on_up(void *arg, uint64_t number, uint64_t unused) {
  struct node *n = node_at(number);
  (void)arg;
  (void)unused;
  if (!n->n && !cluster.failed && !node_open(n)) up_later(n);
}

static void up_later(struct node *n) {
  cluster_after(cluster.used && cluster_chance(25) ? ms(4000, 12000) : ms(10, 4000), on_up, n->number);
}

static void go_down(struct node *n, bool power) {
  if (!n->n) return;
  node_die(n, power);
  up_later(n);
}

static void stop_in_order(struct node *n) {
  if (!n->n) return;
  node_stop(n);
  cluster_sometimes(SOME_STOPPED);
  up_later(n);
}

/* Who has stopped itself is started again, as the daemon's supervisor does it. */
static void on_supervise(void *arg, uint64_t a, uint64_t b) {
  (void)arg;
  (void)a;
  (void)b;
  for (unsigned i = 1; i <= cluster.count; i++) {
    struct node *n = node_at(i);
    if (!n->n || !n->fatal_code) continue;
    node_stop(n);
    up_later(n);
  }
  cluster_after((uint64_t)SUPERVISE_MS * 1000, on_supervise, 0);
}

/* ---- passing faults */

static void on_mend(void *arg, uint64_t number, uint64_t to) {
  (void)arg;
  for (unsigned i = 1; i <= cluster.count; i++) {
    if (to != 0 && i != to) continue;
    twin.sim.links[number][i].cut = false;
    if (to == 0) twin.sim.links[i][number].cut = false;
  }
}

/* From the other nodes, not from the users, who see what such a node says. */
static void cut_off(struct node *n, uint64_t for_us) {
  cluster_log("%s is cut off", n->name);
  cluster_sometimes(SOME_CUT);
  for (unsigned i = 1; i <= cluster.count; i++)
    if (i != n->number) twin.sim.links[n->number][i].cut = twin.sim.links[i][n->number].cut = true;
  cluster_after(for_us, on_mend, n->number);
}

static void cut_link(struct node *n, uint64_t for_us) {
  unsigned to = (unsigned)cluster_rng(1, cluster.count);
  if (to == n->number) return;
  cluster_log("%s no longer reaches n%u", n->name, to);
  cluster_sometimes(SOME_CUT);
  twin.sim.links[n->number][to].cut = true;
  blx__sim_after(&twin.sim, 0, for_us, (struct blx__sim_call){.fn = on_mend, .a = n->number, .b = to});
}

static void pause_it(struct node *n, uint64_t for_us) {
  if (!n->n) return;
  /* It is not woken by peace. */
  uint64_t most_us = cluster.used ? cluster.peace_us + 5000000 - twin.sim.now_us : for_us;
  if (for_us > most_us) for_us = most_us;
  cluster_log("%s is paused", n->name);
  cluster_sometimes(SOME_PAUSED);
  twin_pause(n->m, for_us);
}

static void on_release(void *arg, uint64_t number, uint64_t unused) {
  (void)arg;
  (void)unused;
  for (unsigned d = 0; d < DIR_COUNT; d++) blx__sim_disk_release(&node_at(number)->m->disks[d]);
}

static void hang_disk(struct node *n, uint64_t for_us) {
  if (!n->n) return;
  cluster_log("%s's disk hangs", n->name);
  for (unsigned d = 0; d < DIR_COUNT; d++) n->m->disks[d].held = true;
  cluster_after(for_us, on_release, n->number);
}

static void fail_a_write(struct node *n) {
  static const int why[] = {BLX_E_NOSPACE, BLX_E_IO};
  static const enum machine_dir where[] = {DIR_RAFT, DIR_AGENT, DIR_AGENT};
  if (!n->n) return;
  cluster_log("a write of %s will fail", n->name);
  enum machine_dir dir = where[cluster_rng(0, BLX__COUNT(where) - 1)];
  struct blx__sim_disk *d = &n->m->disks[dir];
  if (dir == DIR_AGENT) n->journal_failed = true;
  blx__sim_disk_fail(d, (enum blx__sim_disk_act)cluster_rng(0, BLX__SIM_DISK_ACTS - 1), why[cluster_rng(0, 1)]);
}

static void on_room(void *arg, uint64_t number, uint64_t unused) {
  (void)arg;
  (void)unused;
  node_at(number)->m->free_bytes = node_at(number)->m->size_bytes;
}

static void fill_disk(struct node *n, uint64_t for_us) {
  cluster_log("%s's disk is nearly full", n->name);
  n->m->free_bytes = 1;
  cluster_after(for_us, on_room, n->number);
}

/* Forward only for the monotonic clock, as after a suspended machine; either way for the one on the wall. */
static void jump_clock(struct node *n) {
  cluster_log("%s's clock jumps", n->name);
  cluster_sometimes(SOME_CLOCK_JUMPED);
  if (cluster_chance(50)) blx__sim_clock_jump(&twin.sim, n->number, ms(1, 20000));
  blx__sim_wall_set(&twin.sim, n->number, -(int64_t)cluster_rng(0, 10000000));
}

/* ---- guests */

static void end_guest(void) {
  size_t count = cluster.truths.count, at = count > 0 ? cluster_rng(0, count - 1) : 0, i = 0;
  BLX__MAP_FOREACH(pos, &cluster.truths) {
    struct truth *t = blx__map_value(pos);
    if (i++ < at || !t->runs) continue;
    struct node *n = node_at(t->machine);
    size_t len = 0;
    const uint8_t *key = blx__map_key(pos, &len);
    struct blx__vm_key vm = {.instance = t->name, .epoch = t->epoch};
    for (size_t k = 0; k < len; k++) vm.uid = vm.uid << 8 | key[k];
    int32_t status = (int32_t)cluster_rng(0, 2), signal = status == 2 ? 9 : 0;
    cluster_log("%s ends by itself", t->name);
    bool ended = n->n ? n->n->driver && blx__vm_sim_end(n->n->driver, &vm, signal ? -1 : status, signal)
                      : blx__vm_sim_host_end(&n->host, &vm, signal ? -1 : status, signal);
    if (ended) cluster_sometimes(n->n ? SOME_GUEST_ENDED : SOME_DIED_ALONE);
    return;
  }
}

/* ---- what leases are for: a node that is away with a guest until that runs elsewhere */

static void lose_one(void) {
  size_t count = cluster.truths.count, at = count > 0 ? cluster_rng(0, count - 1) : 0, i = 0;
  struct node *n = NULL;
  BLX__MAP_FOREACH(pos, &cluster.truths) {
    const struct truth *t = blx__map_value(pos);
    if (i++ >= at && t->runs && !n) n = node_at(t->machine);
  }
  if (!n || n == cluster_leader()) return;
  switch (cluster_rng(0, 2)) {
  case 0: cut_off(n, ms(5000, 15000)); break;
  case 1: pause_it(n, ms(5000, 15000)); break;
  default: go_down(n, false); break;
  }
}

/* ---- one after another */

static void one_fault(void) {
  struct node *leader = cluster_leader(), *n = node_at(cluster_rng(1, cluster.count));
  if (leader && cluster_chance(40)) n = leader;
  uint64_t for_us = duration();
  if (cluster.used && (cluster.o.broken == BROKEN_RATES || cluster.o.broken == BROKEN_KILLER)) {
    lose_one(); /* and nothing else, so that the others can start what it had */
    return;
  }
  switch (cluster_rng(0, FAULTS - 1)) {
  case 0:
  case 1:
  case 2:
  case 3: go_down(n, false); break;
  case 4:
  case 5:
  case 6: go_down(n, true); break;
  case 7: stop_in_order(n); break;
  case 8:
  case 9: cut_off(n, for_us); break;
  case 10:
  case 11:
  case 12: cut_link(n, for_us); break;
  case 13: hang_disk(n, for_us); break;
  case 14:
  case 15: pause_it(n, for_us); break;
  case 16: fail_a_write(n); break;
  case 17: fill_disk(n, for_us); break;
  case 18: jump_clock(n); break;
  case 19:
  case 20:
  case 21:
  case 22: lose_one(); break;
  default: end_guest(); break;
  }
}

static void on_fault(void *arg, uint64_t a, uint64_t b) {
  (void)arg;
  (void)a;
  (void)b;
  if (cluster.calm) return;
  one_fault();
  cluster_after(ms(50, 2500), on_fault, 0);
}

void chaos_begin(void) {
  cluster_after(ms(50, 2500), on_fault, 0);
  on_supervise(NULL, 0, 0);
}

static void be_honest(struct node *n) {
  struct blx__vm_sim_options *o = &n->host.options;
  o->fail_prepare_every = o->fail_start_every = o->lie_start_every = o->fail_adopt_every = 0;
}

void chaos_end(void) {
  cluster_log("peace");
  cluster.calm = true;
  blx__sim_net_mend(&twin.sim);
  for (unsigned i = 1; i <= cluster.count; i++) {
    struct node *n = node_at(i);
    n->m->free_bytes = n->m->size_bytes;
    be_honest(n);
    for (unsigned d = 0; d < DIR_COUNT; d++) {
      blx__sim_disk_release(&n->m->disks[d]);
      for (unsigned act = 0; act < BLX__SIM_DISK_ACTS; act++)
        blx__sim_disk_fail(&n->m->disks[d], (enum blx__sim_disk_act)act, 0);
    }
    if (!n->n && !cluster.failed && !node_open(n)) up_later(n);
  }
}
