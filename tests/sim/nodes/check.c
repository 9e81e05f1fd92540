/* The invariants, as seen by somebody who sees everything. */
#include "nodes.h"

#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* ---- I1, I2, and I6 as it really is */

static struct truth *truth_of(const struct blx__vm_key *key) {
  struct truth *t = blx__map_get_u64(&cluster.truths, key->uid);
  if (t) return t;
  t = calloc(1, sizeof *t);
  bool kept = t && blx__str_copy(t->name, sizeof t->name, key->instance) &&
              blx__map_set_u64(&cluster.truths, key->uid, t, NULL);
  BLX__ASSERT(kept);
  return t;
}

void check_run(void *user, const struct blx__vm_key *key, bool runs) {
  struct node *n = user;
  struct truth *t = truth_of(key);
  cluster_log("%s really %s on %s in epoch %llu", t->name, runs ? "runs" : "ends", n->name, (ull)key->epoch);
  if (!runs) {
    if (t->machine == n->number) t->runs = false;
    return;
  }
  if (t->runs)
    cluster_fail("I1 %s was started on %s (epoch %llu) and still runs on n%u (epoch %llu)", t->name, n->name,
                 (ull)key->epoch, t->machine, (ull)t->epoch);
  if (key->epoch <= t->epoch)
    cluster_fail("I2 %s was started in epoch %llu after epoch %llu", t->name, (ull)key->epoch, (ull)t->epoch);
  if (n->number > cluster.servers) cluster_sometimes(SOME_WORKER_RAN);
  n->started = true;
  if (t->epoch != 0) cluster_sometimes(t->machine == n->number ? SOME_RESTARTED : SOME_MOVED);
  const struct node *leader = t->epoch != 0 && t->machine != n->number ? cluster_leader() : NULL;
  const struct blx_node_info *before =
      leader ? blx__state_node_by_name(leader->n->state, cluster.nodes[t->machine].name) : NULL;
  if (before && before->fence != BLX_FENCE_NONE) cluster_sometimes(SOME_FAILED_OVER);
  t->machine = n->number;
  t->runs = true;
  t->epoch = key->epoch;
}

/* What runs on @n, against what it has, by a state that knows the sizes. */
static void check_load(const struct node *n, const struct blx__state *st) {
  uint64_t memory_mib = 0;
  BLX__MAP_FOREACH(pos, &cluster.truths) {
    size_t len = 0;
    const struct truth *t = blx__map_value(pos);
    if (!t->runs || t->machine != n->number) continue;
    const uint8_t *key = blx__map_key(pos, &len);
    uint64_t uid = 0;
    for (size_t i = 0; i < len; i++) uid = uid << 8 | key[i];
    const struct blx_instance *in = blx__state_instance(st, uid);
    const struct blx_vm *vm = in ? blx__state_vm(st, in->vm_uid) : NULL;
    if (vm) memory_mib += vm->spec->memory_mib;
  }
  if (memory_mib > n->capacity.memory_mib * storm_memory_percent() / 100)
    cluster_fail("I6 the guests on %s have %llu MiB of its %llu", n->name, (ull)memory_mib,
                 (ull)n->capacity.memory_mib);
}

/* ---- I2 and I6 in each replica */

static bool waits_for_room(const struct blx_instance *in) {
  return in->reason && in->reason->code == BLX_REASON_CODE_NO_ROOM;
}

static void check_epochs(const struct node *n) {
  const struct blx__state *st = n->n->state;
  for (const struct blx_vm *vm = blx__state_vm_after_uid(st, 0); vm; vm = blx__state_vm_after_uid(st, vm->uid)) {
    const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
    for (; in; in = blx__state_instance_after(st, vm->uid, in->ordinal)) {
      /* An index apart, a replica that is behind is no fall: only what it says at a newer index counts. */
      uint64_t at = (uint64_t)(uintptr_t)blx__map_get_u64(&cluster.epochs, in->uid);
      uint64_t index = at >> 24, epoch = at & 0xffffff;
      if (in->revision > index && in->epoch < epoch)
        cluster_fail("I2 the epoch of %s fell from %llu to %llu on %s", in->name, (ull)epoch, (ull)in->epoch, n->name);
      void *now = (void *)(uintptr_t)(in->revision << 24 | in->epoch);
      bool kept = in->revision <= index || blx__map_set_u64(&cluster.epochs, in->uid, now, NULL);
      BLX__ASSERT(kept);
      if (waits_for_room(in)) cluster_sometimes(SOME_NO_ROOM);
      if (in->reason && in->reason->text && strstr(in->reason->text, "claims to have failed"))
        cluster_sometimes(SOME_START_LIED);
    }
  }
}

static void check_fence(const struct blx_node_info *node) {
  bool fenced = node->fence != BLX_FENCE_NONE, *before = &cluster.fenced[node->uid % BLX__COUNT(cluster.fenced)];
  if (fenced != *before) cluster_log("%s is %s", node->name, fenced ? "fenced" : "no longer fenced");
  if (fenced) cluster_sometimes(SOME_FENCED);
  if (!fenced && *before) cluster_sometimes(SOME_RETURNED);
  *before = fenced;
}

static void check_capacity(const struct node *n) {
  const struct blx__state *st = n->n->state;
  const struct blx_node_info *node = blx__state_node_after_uid(st, 0);
  for (; node; node = blx__state_node_after_uid(st, node->uid)) {
    struct blx__placement_node view;
    check_fence(node);
    if (!blx__state_placement_node(st, node->uid, &view)) continue;
    if (view.allocated_cpu_milli > view.cpu_milli || view.allocated_memory_mib > view.memory_mib)
      cluster_fail("I6 %s was given more than it has: %llu of %llu MiB, %llu of %llu CPU thousandths", node->name,
                   (ull)view.allocated_memory_mib, (ull)view.memory_mib, (ull)view.allocated_cpu_milli,
                   (ull)view.cpu_milli);
  }
}

/* ---- I4 */

static void check_chain(const struct node *n) {
  struct blx__consensus_status s;
  blx__consensus_status(n->n->consensus, &s);
  uint64_t chain = 0;
  memcpy(&chain, s.chain, sizeof chain);
  if (chain == 0) return;
  void *mine = (void *)(uintptr_t)(chain | 1), *seen = blx__map_get_u64(&cluster.chains, s.applied_index);
  if (seen && seen != mine)
    cluster_fail("I4 %s has another chain at index %llu than another member", n->name, (ull)s.applied_index);
  bool kept = seen || blx__map_set_u64(&cluster.chains, s.applied_index, mine, NULL);
  BLX__ASSERT(kept);
}

static void check_worker(struct node *n) {
  const struct node *leader = n->started ? cluster_leader() : NULL;
  if (n->n->consensus || n->n->state) cluster_fail("the worker %s keeps a state", n->name);
  if (!leader) return;
  n->started = false;
  check_load(n, leader->n->state);
}

void check_node(struct node *n) {
  if (n->n && n->n->worker) check_worker(n);
  if (!n->n || !n->n->consensus || n->fatal_code) return;
  uint64_t index = blx__state_index(n->n->state);
  if (index == n->checked_index) return;
  n->checked_index = index;
  check_chain(n);
  check_epochs(n);
  check_capacity(n);
  check_load(n, n->n->state);
  storm_check(n->n->state);
}

static void digest_of(const struct node *n, uint8_t out[BLX__SHA256_BYTES]) {
  blx_error err = {0};
  if (blx__state_digest(n->n->state, out, &err).code != 0) cluster_fail("I4 %s: %s", n->name, err.message);
}

void check_equal(void) {
  uint8_t first[BLX__SHA256_BYTES] = {0}, other[BLX__SHA256_BYTES] = {0};
  const struct node *leader = cluster_leader();
  if (!leader) return;
  digest_of(leader, first);
  for (unsigned i = 1; i <= cluster.servers; i++) {
    const struct node *n = &cluster.nodes[i];
    if (!n->n || blx__state_index(n->n->state) != blx__state_index(leader->n->state)) continue;
    digest_of(n, other);
    if (memcmp(first, other, sizeof first) != 0) cluster_fail("I4 %s and %s differ", n->name, leader->name);
  }
}

/* ---- I9: each server has every record that its state counts, and the state's heads are equal (I4's digest) */

static const char *audit_lacks(void) {
  for (unsigned i = 1; i <= cluster.servers; i++) {
    const struct node *n = &cluster.nodes[i];
    if (!n->n || !n->n->audit.history) return "a server has no audit log";
    twin_history_settle(n->n->audit.history);
    const char *why = twin_history_lacks(i, blx__state_audit_seq(n->n->state));
    if (why) return why;
  }
  return NULL;
}

bool check_audit(void) {
  return audit_lacks() == NULL;
}

const char *check_audit_why(void) {
  return audit_lacks();
}

/* ---- I13: what is wanted is so */

static char said[WHY_SIZE];

static const char *say(const char *fmt, ...) BLX__PRINTF(1, 2);
static const char *say(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  (void)__builtin_vsnprintf(said, sizeof said, fmt, ap);
  va_end(ap);
  return said;
}

static bool fits_somewhere(struct blx__state *st, const struct blx_instance *in) {
  const struct blx_node_info *node = blx__state_node_after_uid(st, 0);
  for (; node; node = blx__state_node_after_uid(st, node->uid)) {
    struct state_judgement j;
    bool barred = blx__state_tombstone_named(st, in->name, node->uid);
    if (!barred && blx__state_judge(st, blx__state_instance_get(st, in->uid), node->uid, &j)) return true;
  }
  return false;
}

/* Room that is not for it: another one has waited longer, or had it made. */
static bool is_kept_off(const struct blx_instance *in) {
  return strstr(in->reason->text, "is kept for") != NULL;
}

static const char *instance_settled(const struct blx__state *st, const struct blx_vm *vm,
                                    const struct blx_instance *in) {
  const struct truth *t = blx__map_get_u64(&cluster.truths, in->uid);
  bool runs = t && t->runs;
  if (in->dead && runs) return say("%s runs on n%u, and is called dead", in->name, t->machine);
  if (vm->desired == BLX_DESIRED_STOPPED) return in->dead && !runs ? NULL : say("%s is to stop", in->name);
  if (!in->dead) {
    bool good = runs && in->phase == BLX_PHASE_RUNNING && cluster.nodes[t->machine].n->uid == in->node_uid &&
                t->epoch == in->epoch;
    if (!good) return say("%s does not run: phase %d, epoch %llu", in->name, in->phase, (ull)in->epoch);
    return !vm->paused == !in->paused ? NULL : say("%s is to %s", in->name, vm->paused ? "stand still" : "go on");
  }
  if (in->phase == BLX_PHASE_PENDING && blx__state_awaits(st, vm))
    return in->reason && in->reason->code == BLX_REASON_CODE_WAITS_FOR_START
               ? NULL
               : say("%s waits for another VM, and does not say so", in->name);
  if (in->phase == BLX_PHASE_PENDING && waits_for_room(in))
    return !is_kept_off(in) && fits_somewhere((struct blx__state *)(uintptr_t)st, in)
               ? say("%s waits for room, and there is some", in->name)
               : NULL;
  bool left = (in->phase == BLX_PHASE_STOPPED || in->phase == BLX_PHASE_FAILED) && in->not_before_ms == 0 &&
              vm->spec->restart_policy != BLX_RESTART_POLICY_ALWAYS;
  return left ? NULL : say("%s is to run: phase %d, not before %llu ms", in->name, in->phase, (ull)in->not_before_ms);
}

static const char *all_members(const struct node *leader) {
  uint64_t index = blx__state_index(leader->n->state);
  for (unsigned i = 1; i <= cluster.count; i++) {
    const struct node *n = &cluster.nodes[i];
    if (!n->n || n->fatal_code || !n->n->registered) return say("%s is not a part of it", n->name);
    if (!n->n->worker && blx__state_index(n->n->state) != index) return say("%s is behind", n->name);
    if (n->n->agent && blx__agent_unreported(n->n->agent) > 0) return say("%s has something to report", n->name);
  }
  return NULL;
}

/* Nothing runs that the state does not know. */
static const char *no_strangers(const struct blx__state *st) {
  BLX__MAP_FOREACH(pos, &cluster.truths) {
    size_t len = 0;
    const struct truth *t = blx__map_value(pos);
    const uint8_t *key = blx__map_key(pos, &len);
    uint64_t uid = 0;
    for (size_t i = 0; i < len; i++) uid = uid << 8 | key[i];
    if (t->runs && !blx__state_instance(st, uid)) return say("%s runs on n%u, and nobody knows", t->name, t->machine);
  }
  return NULL;
}

const char *check_settled(void) {
  const struct node *leader = cluster_leader();
  if (!leader) return "there is no leader";
  const char *why = all_members(leader);
  const struct blx__state *st = leader->n->state;
  for (const struct blx_vm *vm = blx__state_vm_after_uid(st, 0); vm && !why;
       vm = blx__state_vm_after_uid(st, vm->uid)) {
    if (vm->deleting) return say("%s is to be deleted", vm->spec->name);
    const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
    for (; in && !why; in = blx__state_instance_after(st, vm->uid, in->ordinal)) why = instance_settled(st, vm, in);
  }
  return why ? why : no_strangers(st);
}

const char *check_empty(void) {
  const struct node *leader = cluster_leader();
  if (!leader) return "there is no leader";
  const struct blx__state_counts counts = blx__state_counts(leader->n->state);
  if (counts.vms > 0 || counts.instances > 0)
    return say("%u VMs and %u instances are left", counts.vms, counts.instances);
  for (unsigned i = 1; i <= cluster.count; i++) {
    const struct node *n = &cluster.nodes[i];
    char name[BLX__DISK_NAME_MAX + 1] = "";
    if (!n->n || !n->n->agent) return say("%s is not a part of it", n->name);
    if (blx__vm_sim_running(n->n->driver) > 0) return say("guests run on %s", n->name);
    if (blx__agent_instances(n->n->agent) > 0) return say("the agent of %s keeps instances", n->name);
    if (!n->journal_failed && blx__sim_disk_next(&n->m->disks[DIR_AGENT], name))
      return say("the journal of %s keeps %s", n->name, name);
  }
  return NULL;
}
