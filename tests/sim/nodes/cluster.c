#include "nodes.h"

#include "consensus/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cluster cluster;

/* ---- words and dice */

void cluster_log(const char *fmt, ...) {
  if (!cluster.o.verbose) return;
  va_list ap;
  va_start(ap, fmt);
  (void)printf("%10.3f ", (double)twin.sim.now_us / 1000.0);
  (void)vprintf(fmt, ap);
  (void)printf("\n");
  va_end(ap);
}

void cluster_fail(const char *fmt, ...) {
  if (cluster.failed) return;
  cluster.failed = true;
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(cluster.why, sizeof cluster.why, fmt, ap);
  va_end(ap);
  cluster_log("FAILED %s", cluster.why);
}

void cluster_sometimes(enum sometimes point) {
  cluster.reached |= UINT64_C(1) << point;
}

uint64_t cluster_rng(uint64_t lo, uint64_t hi) {
  return blx__sim_rng_in(&twin.sim.rng, lo, hi);
}

bool cluster_chance(unsigned percent) {
  return blx__sim_rng_chance(&twin.sim.rng, percent);
}

/* ---- events */

void cluster_after(uint64_t after_us, blx__sim_fn *fn, uint64_t a) {
  blx__sim_after(&twin.sim, 0, after_us, (struct blx__sim_call){.fn = fn, .a = a});
}

static void watch_leader(void) {
  const struct node *leader = cluster_leader();
  if (!leader || leader->n->uid == cluster.leader_uid) return;
  if (cluster.leader_uid != 0) cluster_sometimes(SOME_NEW_LEADER);
  cluster.leader_uid = leader->n->uid;
}

bool cluster_until(bool (*done)(void), uint64_t ms) {
  uint64_t end_us = twin.sim.now_us + ms * 1000;
  while (!cluster.failed && !(done && done())) {
    if (blx__sim_due_us(&twin.sim) > end_us) {
      if (twin.sim.now_us < end_us) twin.sim.now_us = end_us;
      return done && done();
    }
    unsigned at = 0;
    (void)blx__sim_step(&twin.sim, &at);
    if (at == 0 || at > cluster.count) continue;
    check_node(&cluster.nodes[at]);
    watch_leader();
  }
  return !cluster.failed;
}

/* ---- nodes */

static void on_log(void *user, int level, const char *component, const char *message) {
  const struct node *n = user;
  (void)level;
  cluster_log("%s %s: %s", n->name, component, message);
}

static void on_fatal(void *user, int code, const char *text) {
  struct node *n = user;
  n->fatal_code = code;
  cluster_sometimes(SOME_STOPPED_ITSELF);
  cluster_log("%s stopped itself: %s", n->name, text);
}

static struct blx_node_options options_of(struct node *n) {
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  o.data_dir = n->dir;
  o.name = n->name;
  o.simulate_vms = 1;
  o.bootstrap = n->number == 1;
  o.capacity = &n->capacity;
  o.no_watchdog = 1;
  storm_labels(&o, n->number);
  o.log = on_log;
  o.log_user = n;
  o.log_level = cluster.o.verbose ? BLX_LOG_INFO : -1;
  o.on_fatal = on_fatal;
  o.fatal_user = n;
  return o;
}

bool node_open(struct node *n) {
  BLX__ASSERT(!n->n);
  const struct blx_node_options o = options_of(n);
  blx_error err = {0};
  n->fatal_code = 0;
  n->checked_index = 0;
  twin_process_begin(n->m);
  cluster_log("%s starts", n->name);
  int code = blx__node_open(&o, &n->n, &err).code;
  if (code == 0) return true;
  n->n = NULL;
  twin_process_die(n->m, false);
  twin_process_gone(n->m);
  cluster_log("%s does not start: %s", n->name, err.message);
  if (code == BLX_E_IO || code == BLX_E_NOSPACE) return false;
  cluster_fail("%s does not start: %s", n->name, err.message);
  return true;
}

static void close_it(struct node *n) {
  struct blx__node *open = n->n;
  n->n = NULL;
  blx__node_close(open);
  twin_process_gone(n->m);
}

void node_stop(struct node *n) {
  if (!n->n) return;
  cluster_log("%s is stopped", n->name);
  close_it(n);
}

static void forget_everything(struct node *n) {
  char name[BLX__DISK_NAME_MAX + 1] = "";
  struct blx__sim_disk *d = &n->m->disks[DIR_AGENT];
  blx__sim_disk_start(d);
  while (blx__sim_disk_next(d, name)) {
    blx__rc rc = blx__sim_disk_remove(d, name);
    BLX__ASSERT(rc.code == 0);
  }
  blx__vm_sim_host_free(&n->host);
}

void node_die(struct node *n, bool power) {
  if (!n->n) return;
  cluster_log("%s %s", n->name, power ? "loses its power" : "is killed");
  cluster_sometimes(power ? SOME_POWER_LOST : SOME_KILLED);
  twin_process_die(n->m, power);
  close_it(n);
  for (unsigned d = 0; d < DIR_COUNT; d++)
    if (n->m->disks[d].torn_count > 0) cluster_sometimes(SOME_TORN);
  if (power) blx__vm_sim_host_power_off(&n->host);
  if (power && cluster.o.broken == BROKEN_JOURNAL) forget_everything(n);
}

struct node *cluster_leader(void) {
  struct node *best = NULL;
  uint64_t best_term = 0;
  for (unsigned i = 1; i <= cluster.count; i++) {
    struct node *n = &cluster.nodes[i];
    if (!n->n || !n->n->consensus || n->fatal_code || n->n->role != BLX__ROLE_LEADER) continue;
    uint64_t term = blx__consensus_raft(n->n->consensus)->current_term;
    if (term <= best_term) continue;
    best = n;
    best_term = term;
  }
  return best;
}

/* ---- the whole */

static void node_init(struct node *n, unsigned number) {
  n->number = number;
  n->m = &twin.machines[number];
  (void)blx__str_format(n->name, sizeof n->name, "n%u", number);
  (void)blx__str_format(n->dir, sizeof n->dir, "/n%u", number);
  (void)blx__str_format(n->address, sizeof n->address, "unix:/n%u/blixard.sock", number);
  n->capacity = (struct blx_resources){.struct_size = sizeof n->capacity, .vcpus = 8};
  n->capacity.memory_mib = 256 * cluster_rng(2, 6);
  n->host.on_run = check_run;
  n->host.user = n;
}

/* How the drivers lie in this run. */
static void set_lies(void) {
  for (unsigned i = 1; i <= cluster.count; i++) {
    struct blx__vm_sim_options *o = &cluster.nodes[i].host.options;
    if (cluster_chance(50)) o->fail_prepare_every = (uint32_t)cluster_rng(2, 9);
    if (cluster_chance(50)) o->fail_start_every = (uint32_t)cluster_rng(2, 9);
    if (cluster_chance(50)) o->lie_start_every = (uint32_t)cluster_rng(2, 9);
    if (cluster_chance(50)) o->fail_adopt_every = (uint32_t)cluster_rng(2, 5);
    o->lie_dead = cluster.o.broken == BROKEN_DEATH;
  }
}

/* Some networks are slow, some clocks are wrong. */
static void set_pace(void) {
  if (cluster_chance(40)) {
    const struct blx__sim_link slow = {.delay_min_us = 200,
                                       .delay_max_us = 1000 * cluster_rng(2, 20),
                                       .late_percent = (unsigned)cluster_rng(0, 5),
                                       .late_max_us = 300000};
    blx__sim_net_set(&twin.sim, &slow);
  }
  /* Of what the settings allow two machines to differ, each has half. */
  for (unsigned i = 1; i <= cluster.count; i++) {
    uint64_t dice = blx__mix64(cluster.o.seed * 64 + i);
    twin.machines[i].boot_ppm = cluster.o.broken == BROKEN_RATES && i % 2 == 0 ? 100000 : 997500 + dice % 5001;
    twin.machines[i].boot_ahead_ms = dice / 5001 % 1000000;
  }
  for (unsigned i = 1; cluster_chance(30) && i <= cluster.count; i++)
    blx__sim_clock_rate(&twin.sim, i, cluster_rng(900000, 1100000));
}

/* Dice of their own: a seed's servers are what they are without workers. */
static unsigned workers_of(const struct cluster_options *o) {
  uint64_t dice = blx__mix64(o->seed ^ 0x776f726b6572);
  if (o->no_workers || dice % 100 < 35) return 0;
  return dice % 100 < 92 ? 1 + (unsigned)(dice / 100 % 4) : 5 + (unsigned)(dice / 100 % (WORKERS_MAX - 4));
}

void cluster_init(const struct cluster_options *o) {
  memset(&cluster, 0, sizeof cluster);
  cluster.o = *o;
  twin_init(o->seed);
  storm_begin();
  cluster.servers = (unsigned)cluster_rng(1, SERVERS_MAX);
  cluster.count = cluster.servers + workers_of(o);
  bool patient = o->broken == BROKEN_RATES || o->broken == BROKEN_KILLER || blx__mix64(o->seed) % 3 == 0;
  cluster.pace = patient ? 10 : 1;
  cluster.snapshot_entries = cluster_chance(50) ? (uint32_t)cluster_rng(16, 200) : 0;
  cluster.segment_bytes = (uint32_t)cluster_rng(8, 256) << 10;
  if (cluster.servers == 1) cluster_sometimes(SOME_ALONE);
  if (cluster.servers == SERVERS_MAX) cluster_sometimes(SOME_SEVEN);
  if (cluster.count > cluster.servers) cluster_sometimes(SOME_WORKERS);
  if (cluster.count > cluster.servers + WORKERS_MAX / 2) cluster_sometimes(SOME_MANY_WORKERS);
  for (unsigned i = 1; i <= cluster.count; i++) node_init(&cluster.nodes[i], i);
  set_lies();
  set_pace();
  for (unsigned i = 1; i <= cluster.count && !cluster.failed; i++) (void)node_open(&cluster.nodes[i]);
}

static void free_values(struct blx__map *m) {
  BLX__MAP_FOREACH(pos, m) free(blx__map_value(pos));
  blx__map_clear(m);
}

void cluster_free(void) {
  for (unsigned i = 1; i <= cluster.count; i++) {
    node_stop(&cluster.nodes[i]);
    cluster.nodes[i].host.on_run = NULL;
    blx__vm_sim_host_free(&cluster.nodes[i].host);
  }
  storm_end();
  free_values(&cluster.truths);
  free_values(&cluster.events);
  blx__map_clear(&cluster.epochs);
  blx__map_clear(&cluster.chains);
  twin_history_free();
  twin_free();
}
