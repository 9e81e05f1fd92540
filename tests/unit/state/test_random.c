/* Random operations from a seed: what must hold after every one of them. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { STEPS = 8000, SEEDS = 4, NODES = 4, VMS = 4, REPLICAS = 3 };

struct world {
  struct t t;
  struct t twin; /* the same operations; thrown away and restored from a snapshot now and then */
  uint64_t random;
  uint64_t epochs[4096];  /* by instance uid */
  uint64_t started[4096]; /* the last epoch in which it could be started */
  bool unproved[4096];    /* and nothing has proved since that it does not run in it */
  uint64_t epoch_max;
  unsigned fences_begun, fences_done, fences_lifted, moved, nodes_removed;
  unsigned deleted_vms, refused_for_room, tombstones_made, tombstones_gone;
};

static uint64_t draw(struct world *w, uint64_t below) {
  w->random = blx__mix64(w->random);
  return w->random % below;
}

/* Any node there is; now and then uid 0. */
static uint64_t node_uid(struct world *w, const struct t *t) {
  uint64_t at = draw(w, NODES + 1), uid = 0;
  for (const struct blx_node_info *n = NULL; at > 0; at--) {
    n = blx__state_node_after_uid(t->st, uid);
    if (!n) break;
    uid = n->uid;
  }
  return uid;
}

static const char *vm_name(struct world *w) {
  static const char *const names[VMS] = {"a", "b", "a-1", "c"};
  return names[draw(w, VMS)];
}

static const char *instance_name(struct world *w, char out[32]) {
  blx__str_format(out, 32, "%s-%u", vm_name(w), (unsigned)draw(w, REPLICAS) + 1);
  return out;
}

static bool applied(const struct t *t) {
  return t->result.code == 0 && t->result.index == t->index;
}

static void prove(struct world *w, struct t *t, uint64_t uid, uint64_t incarnation) {
  uint64_t proved[2 * VMS * REPLICAS + 1]; /* of two tenants */
  size_t n = 0;
  const struct blx_instance *i = blx__state_instance_on_node_after(t->st, uid, 0);
  for (; i; i = blx__state_instance_on_node_after(t->st, uid, i->uid))
    if (i->fenced && n < BLX__COUNT(proved)) proved[n++] = i->uid;
  t_fence_done(t, uid, incarnation);
  if (!applied(t)) return;
  for (size_t k = 0; k < n; k++) w->unproved[proved[k] % 4096] = false;
}

/* A node that is forgotten is followed by another one of its name. */
static void remove_node(struct t *t, const struct blx_node_info *n) {
  char name[64];
  uint64_t memory_mib = n->capacity->memory_mib;
  blx__str_format(name, sizeof name, "%s", n->name);
  t_remove(t, name);
  const char *request_id = t->request_id;
  t->request_id = NULL;
  if (!blx__state_node_by_name(t->st, name)) {
    t_join(t, name, 4, memory_mib);
    t_register_ha(t, t->result.uid, t->index + 100);
  }
  t->request_id = request_id;
}

/* All of it at a stretch, which random steps seldom hit upon. */
static void fail_over(struct world *w, struct t *t, const struct blx_instance *i, const struct blx_node_info *n) {
  char name[32];
  if (!i || !n) return;
  uint64_t uid = n->uid, incarnation = n->incarnation;
  blx__str_format(name, sizeof name, "%s", i->name);
  const char *request_id = t->request_id;
  t->request_id = NULL;
  t_fence_begin(t, uid, incarnation, true);
  prove(w, t, uid, incarnation);
  t_assign(t, name, node_uid(w, t));
  t->request_id = request_id;
}

static void random_fence(struct world *w, struct t *t, const struct blx_instance *i) {
  uint64_t uid = i && i->node_uid && draw(w, 4) ? i->node_uid : node_uid(w, t), off = draw(w, 8) == 0;
  const struct blx_node_info *n = blx__state_node(t->st, uid);
  switch (draw(w, 8)) {
  case 0: fail_over(w, t, i, n); return;
  case 1: t_fence_begin(t, uid, n ? n->incarnation + off : 1, draw(w, 2)); return;
  case 2:
  case 3: prove(w, t, uid, n ? n->fence_incarnation + off : 1); return;
  case 4:
  case 5: t_return(t, uid, off && n ? n->fence_incarnation : t->index + 100); return;
  case 6: t_disarm(t, draw(w, 3) ? 0 : draw(w, 100000)); return;
  default:
    if (n) remove_node(t, n);
    return;
  }
}

static void random_report(struct world *w, struct t *t, const struct blx_instance *i) {
  static const int32_t codes[] = {
      BLX_REASON_CODE_NONE,         BLX_REASON_CODE_EXITED,         BLX_REASON_CODE_CRASHED,   BLX_REASON_CODE_BOOTING,
      BLX_REASON_CODE_BUILD_FAILED, BLX_REASON_CODE_NODE_RESTARTED, BLX_REASON_CODE_LEASE_LOST};
  uint64_t r = draw(w, 1000000);
  struct t_seen seen = {.phase = (int32_t)(r % 10),
                        .code = codes[r / 10 % 7],
                        .dead = r / 100 % 3 == 0,
                        .gone = r / 1000 % (i && i->phase == BLX_PHASE_DELETING ? 2 : 5) == 0,
                        .has_exit = r / 10000 % 2,
                        .local_data = r % 13 == 0,
                        .exit_status = (int32_t)(r / 100000) - 2};
  if (!i) {
    t_report_as(t, 1, r, 1, 1, seen);
    return;
  }
  uint64_t uid = i->uid, from = r % 17 ? i->node_uid : 1, epoch = i->epoch - (r % 23 == 0);
  bool its_own = from == i->node_uid && epoch == i->epoch;
  t_report_as(t, from, uid, epoch, i->report_seq + r % 3, seen);
  if (its_own && (seen.dead || seen.gone) && applied(t)) w->unproved[uid % 4096] = false;
}

/* Of the node's first tombstone; sometimes in another epoch, or of another node. */
static void report_tombstone(struct world *w, struct t *t) {
  uint64_t r = draw(w, 1000), of_uid = node_uid(w, t);
  const struct blx_tombstone *b = blx__state_tombstone_on_node_after(t->st, of_uid, 0);
  struct t_seen seen = {.phase = BLX_PHASE_STOPPED, .dead = r / 4 % 3 != 0, .gone = r / 12 % 3 != 0};
  if (b)
    t_report_as(t, r / 36 % 7 ? of_uid : 1, b->instance_uid, b->epoch - (r / 36 % 5 == 0), 1, seen);
  else
    t_report_as(t, of_uid, 1, 1, 1, seen);
}

static void random_quota(struct world *w, struct t *t) {
  struct blx_quota q = BLX_QUOTA_INIT;
  if (draw(w, 3) == 0) {
    t_taint(t, "node2", draw(w, 2) ? "gpu" : "old", "x", BLX_TAINT_EFFECT_AVOID);
    t_untaint(t, "node2", draw(w, 2) ? "gpu" : "old");
    return;
  }
  q.tenant = draw(w, 4) == 0 ? "default" : "other";
  q.has_instances = draw(w, 2) == 0;
  q.instances = 4 + (uint32_t)draw(w, VMS * REPLICAS);
  q.has_memory_mib = draw(w, 2) == 0;
  q.memory_mib = 1024 + draw(w, 4096);
  if (draw(w, 2))
    t_quota(t, &q);
  else
    t_quota_remove(t, q.tenant);
}

static void random_op(struct world *w, struct t *t) {
  char name[32];
  const struct blx_instance *i = t_instance(t, instance_name(w, name));
  switch (i ? draw(w, 23) : draw(w, 4) ? 0 : draw(w, 4) ? 2 : 1) {
  case 0: {
    const char *on = vm_name(w);
    struct blx_vm_spec spec = t_spec(vm_name(w), draw(w, 8) ? 1 + (uint32_t)draw(w, REPLICAS) : 0);
    spec.memory_mib = 64 + 64 * (uint32_t)draw(w, 8);
    struct blx_amount gpu = {.struct_size = sizeof gpu, .name = draw(w, 12) ? "gpu" : "fpga", .amount = draw(w, 3)};
    struct blx_amount *amounts = &gpu;
    spec.resources = &amounts;
    spec.n_resources = draw(w, 6) == 0;
    spec.cpu_milli = draw(w, 3) ? 0 : 500;
    spec.restart_policy = (int32_t)draw(w, 3);
    spec.ha = (int32_t)draw(w, 3);
    spec.strategy = draw(w, 10) ? (int32_t)draw(w, 2) : BLX_STRATEGY_COMBINED;
    spec.depends_on = &on;
    spec.n_depends_on = draw(w, 6) == 0;
    t_create(t, &spec, draw(w, 4) ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED);
    return;
  }
  case 1:
    if (draw(w, 2))
      t_delete_force(t, vm_name(w), node_uid(w, t));
    else
      t_delete(t, draw(w, 5) ? "none" : vm_name(w));
    return;
  case 2: t_desire(t, vm_name(w), draw(w, 6) ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED); return;
  case 3:
    if (draw(w, 2))
      t_label(t, draw(w, 4) ? "node1" : "node2", draw(w, 2) ? "zone=a disk-" : "zone- disk=ssd");
    else
      t_cordon(t, draw(w, 2) ? "node1" : "node9", draw(w, 2));
    return;
  case 4:
    if (i) t_explain(t, i->name, BLX_REASON_CODE_NO_ROOM, draw(w, 2) ? "no" : "still no");
    return;
  case 5:
  case 6:
  case 7:
    if (i) t_assign(t, i->name, node_uid(w, t));
    return;
  case 8:
  case 9: report_tombstone(w, t); return;
  case 10: t_restart(t, draw(w, 2) ? vm_name(w) : i ? i->name : "none", (int32_t)draw(w, 3)); return;
  case 11: t_pause(t, vm_name(w), draw(w, 2)); return;
  case 12: t_kill(t, vm_name(w)); return;
  case 13: t_scale(t, vm_name(w), draw(w, 4) ? REPLICAS : (uint32_t)draw(w, REPLICAS)); return;
  case 14: random_quota(w, t); return;
  case 15:
  case 16:
  case 17: random_fence(w, t, i); return;
  default: random_report(w, t, i); return;
  }
}

static size_t tombstones(const struct t *t) {
  size_t n = 0;
  const struct blx_node_info *node = blx__state_node_after_uid(t->st, 0);
  for (; node; node = blx__state_node_after_uid(t->st, node->uid)) {
    const struct blx_tombstone *b = blx__state_tombstone_on_node_after(t->st, node->uid, 0);
    for (; b; b = blx__state_tombstone_on_node_after(t->st, node->uid, b->instance_uid)) n++;
  }
  return n;
}

static void count_fences(const struct t *t, unsigned of[BLX_FENCE_DONE + 1]) {
  const struct blx_node_info *n = blx__state_node_after_uid(t->st, 0);
  for (; n; n = blx__state_node_after_uid(t->st, n->uid)) of[n->fence]++;
}

static uint64_t last_node(const struct t *t) {
  uint64_t uid = 0;
  for (const struct blx_node_info *n; (n = blx__state_node_after_uid(t->st, uid));) uid = n->uid;
  return uid;
}

static void both(struct world *w) {
  size_t before = tombstones(&w->t);
  unsigned fences[BLX_FENCE_DONE + 1] = {0}, now[BLX_FENCE_DONE + 1] = {0};
  uint64_t last = last_node(&w->t);
  count_fences(&w->t, fences);
  uint32_t vms = blx__state_counts(w->t.st).vms;
  static const char *const ids[] = {"r1", "r2", "r3", "r4", "r5", "r6"};
  static const char *const digests[] = {"x", "y"};
  w->t.request_id = w->twin.request_id = draw(w, 12) ? NULL : ids[draw(w, 6)];
  w->t.digest = w->twin.digest = digests[draw(w, 2)];
  w->t.tenant = w->twin.tenant = draw(w, 8) ? NULL : "other";
  w->t.by_tenant = w->twin.by_tenant = draw(w, 2);
  w->t.time_ms = w->twin.time_ms += draw(w, 20) ? draw(w, 3000) : draw(w, 900000);
  uint64_t random = w->random;
  random_op(w, &w->t);
  w->random = random;
  random_op(w, &w->twin);
  ck_assert_int_eq(w->t.result.code, w->twin.result.code);
  w->deleted_vms += blx__state_counts(w->t.st).vms < vms;
  w->tombstones_made += tombstones(&w->t) > before;
  w->tombstones_gone += tombstones(&w->t) < before;
  count_fences(&w->t, now);
  w->nodes_removed += last_node(&w->t) > last;
  w->fences_begun += now[BLX_FENCE_BEGUN] > fences[BLX_FENCE_BEGUN];
  w->fences_done += now[BLX_FENCE_DONE] > fences[BLX_FENCE_DONE];
  w->fences_lifted += last_node(&w->t) == last && now[BLX_FENCE_NONE] > fences[BLX_FENCE_NONE];
  w->refused_for_room += w->t.result.code == BLX_E_NO_CAPACITY;
  ck_assert_uint_eq(w->t.index, w->twin.index);
}

static void restore_twin(struct world *w) {
  struct blx__buf b;
  blx__buf_init(&b, 16 << 20);
  ck_assert_int_eq(blx__state_snapshot(w->t.st, &b, NULL).code, 0);
  blx__state_free(w->twin.st);
  struct blx__state_options options = {.keys_max = 5};
  w->twin.st = blx__state_new(&options);
  ck_assert_int_eq(blx__state_restore(w->twin.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  blx__buf_free(&b);
}

/* No epoch of an instance is begun before it was proved that nothing runs under the one before: a death that its node
 * reported, or the proof of a fence. The records do not say so themselves: the test noted what it applied. */
static void check_proved(struct world *w, const struct blx_instance *i) {
  size_t at = i->uid % 4096;
  if (i->dead || i->fenced || i->epoch == w->started[at]) return;
  ck_assert_msg(!w->unproved[at], "%s is started in epoch %llu, and may run in %llu", i->name,
                (unsigned long long)i->epoch, (unsigned long long)w->started[at]);
  w->moved += i->epoch > w->started[at] + 1;
  w->started[at] = i->epoch;
  w->unproved[at] = true;
}

static void check(struct world *w) {
  uint8_t x[BLX__SHA256_BYTES], y[BLX__SHA256_BYTES];
  ck_assert_ptr_null(blx__state_fatal(w->t.st));
  ck_assert_int_eq(blx__state_digest(w->t.st, x, NULL).code, 0);
  ck_assert_int_eq(blx__state_digest(w->twin.st, y, NULL).code, 0);
  ck_assert_mem_eq(x, y, sizeof x);
  t_check_indexes(&w->t);
  t_check_indexes(&w->twin);
  for (const struct blx_vm *vm = blx__state_vm_after_uid(w->t.st, 0); vm;
       vm = blx__state_vm_after_uid(w->t.st, vm->uid)) {
    uint32_t ordinal = 0;
    for (const struct blx_instance *i; (i = blx__state_instance_after(w->t.st, vm->uid, ordinal));
         ordinal = i->ordinal) {
      uint64_t *epoch = &w->epochs[i->uid % 4096];
      ck_assert_uint_ge(i->epoch, *epoch);
      ck_assert_uint_le(i->epoch, *epoch + 2); /* a step may fence it and give it to another node */
      *epoch = i->epoch;
      if (*epoch > w->epoch_max) w->epoch_max = *epoch;
      ck_assert(i->dead || i->node_uid != 0);
      check_proved(w, i);
      /* Never twice: what was deleted by force may run on its node, and keeps its name there. */
      uint64_t barred = blx__state_tombstone_node_after(w->t.st, vm->tenant, i->name, i->node_uid - 1);
      if (!i->dead) ck_assert_uint_ne(barred, i->node_uid);
    }
  }
}

START_TEST(replicas_that_apply_the_same__stay_equal_and_every_rule_holds) {
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    static struct world w;
    memset(&w, 0, sizeof w);
    w.random = seed;
    struct t *both_of[] = {&w.t, &w.twin};
    for (unsigned k = 0; k < 2; k++) {
      t_open(both_of[k], 5);
      ck_assert_int_eq(t_init(both_of[k]), 0);
      for (unsigned n = 1; n <= NODES; n++) {
        char name[16];
        blx__str_format(name, sizeof name, "node%u", n);
        ck_assert_int_eq(t_join(both_of[k], name, 4, 200 * n), 0);
        ck_assert_int_eq(t_register_ha(both_of[k], n, n + 10), 0);
      }
    }
    for (unsigned step = 0; step < STEPS; step++) {
      both(&w);
      check(&w);
      if (draw(&w, 40) == 0) restore_twin(&w);
    }
    /* The walk went where it should. */
    ck_assert_uint_ge(w.epoch_max, 3);
    ck_assert_uint_ge(w.deleted_vms, 3);
    ck_assert_uint_ge(w.refused_for_room, 1);
    ck_assert_uint_ge(w.tombstones_made, 3);
    ck_assert_uint_ge(w.tombstones_gone, 1);
    ck_assert_uint_ge(w.fences_begun, 10);
    ck_assert_uint_ge(w.fences_done, 5);
    ck_assert_uint_ge(w.fences_lifted, 5);
    ck_assert_uint_ge(w.moved, 1);
    ck_assert_uint_ge(w.nodes_removed, 1);
    t_close(&w.t);
    t_close(&w.twin);
  }
}
END_TEST

BLX_TEST_MAIN("state/random", replicas_that_apply_the_same__stay_equal_and_every_rule_holds)
