/* Fleets on which the index's trees have levels, beside a scan that judges every node. What a judgement says is the
 * differential test's affair. */
#include "support.h"

#include "base/digest.h"
#include "placement/index.h"

#include <stdio.h>

enum { NODES_MAX = 4200, SHAPES = 6, VMS = 100 * SHAPES, FULL = 3 * NODES_MAX, ROUNDS_MAX = 3000, REFRESH = 40 };

struct world {
  struct p p;
  uint32_t nodes;
  bool alike; /* the nodes, and what is asked for, are of one size */
  uint64_t drawn;
  uint64_t placed[FULL + ROUNDS_MAX];
  size_t n;
};

static uint64_t draw(struct world *w, uint64_t n) {
  return blx__mix64(++w->drawn) % n;
}

/* Of six sizes, a fifth with a fast disk, some with a taint to avoid. */
static void tell_node(struct world *w, uint64_t uid, bool cordoned) {
  struct blx_node_info n = p_node(uid);
  struct blx_resources has = BLX_RESOURCES_INIT;
  struct blx_label disk = BLX_LABEL_INIT, *labels[] = {&disk};
  struct blx_taint old = BLX_TAINT_INIT, *taints[] = {&old};
  has.vcpus = 8u << (w->alike ? 0 : uid % 3);
  has.memory_mib = 16384u << (w->alike ? 0 : uid % 2);
  disk.key = "disk";
  disk.value = uid % 5 == 0 ? "fast" : "slow";
  old.key = "old";
  old.value = "yes";
  old.effect = BLX_TAINT_EFFECT_AVOID;
  n.capacity = &has;
  n.labels = labels;
  n.n_labels = 1;
  n.taints = taints;
  n.n_taints = uid % 7 == 0;
  n.cordoned = cordoned;
  p_tell(&w->p, &n);
}

/* Two by the shapes known, one of them on fast disks alone; one balanced; one with a preference; one spread over the
 * disks; one large.
 */
static void tell_vms(struct world *w) {
  static const uint32_t memory[SHAPES] = {512, 1536, 1024, 768, 2048, 12288};
  struct blx__fleet_shape shapes[SHAPES];
  blx_error err = {0};
  for (uint32_t vm = 0; vm < VMS; vm++) {
    uint32_t i = vm % SHAPES;
    struct blx_vm_spec s = p_spec("");
    struct blx_node_match fast = BLX_NODE_MATCH_INIT, *matches[] = {&fast};
    struct blx_vm_spread even = BLX_VM_SPREAD_INIT, *spread[] = {&even};
    const char *value = "fast";
    char name[16];
    (void)snprintf(name, sizeof name, "vm%u", vm);
    s.name = name;
    s.vcpus = w->alike ? 2 : 1 + i;
    s.memory_mib = w->alike ? 2048 : memory[i];
    fast.key = "disk";
    fast.values = &value;
    fast.n_values = 1;
    fast.weight = i == 3 ? 40 : 0;
    s.constraints = s.preferences = matches;
    s.n_constraints = i == 1;
    s.n_preferences = i == 3;
    if (i == 2) s.strategy = BLX_STRATEGY_LOAD_BALANCED;
    even.level = "disk";
    even.max_skew = 1;
    even.weight = 3;
    s.spread = spread;
    s.n_spread = i == 4;
    p_vm(&w->p, vm + 1, &s);
    shapes[i] = (struct blx__fleet_shape){s.vcpus * 1000, s.memory_mib, 100 >> i};
  }
  ck_assert_int_eq(blx__fleet_shapes(w->p.f, shapes, SHAPES, &err).code, 0);
}

static bool before(const struct blx__fleet_verdict *v, const struct blx__fleet_verdict *best) {
  if (v->avoids != best->avoids) return !v->avoids;
  if (v->replicas != best->replicas) return v->replicas < best->replicas;
  return v->cost < best->cost;
}

/* Of equal ones the first by the hash. */
static uint64_t scan(struct world *w, uint64_t vm_uid, struct blx__fleet_verdict *best) {
  static struct blx__fleet_verdict v;
  struct blx__fleet_request r = {.vm_uid = vm_uid};
  uint64_t found = 0, hash = 0;
  for (uint64_t uid = 1; uid <= w->nodes; uid++) {
    uint64_t own = blx__mix64(P_SEED ^ blx__mix64(uid));
    ck_assert(blx__fleet_judge(w->p.f, &r, uid, &v));
    if (v.v.obstacles != 0) continue;
    if (found && (before(best, &v) || (!before(&v, best) && hash < own))) continue;
    *best = v;
    found = uid;
    hash = own;
  }
  return found;
}

static void place(struct world *w) {
  static struct blx__fleet_verdict best;
  struct blx__fleet_request r = {.vm_uid = 1 + draw(w, VMS)};
  struct blx__fleet_choice c = {.node_uid = 0};
  uint64_t wanted = scan(w, r.vm_uid, &best);
  ck_assert(blx__fleet_choose(w->p.f, &r, &c) == (wanted != 0));
  ck_assert_uint_eq(c.node_uid, wanted);
  ck_assert(wanted == 0 || c.cost == best.cost);
  if (wanted != 0) w->placed[w->n++] = p_place(&w->p, r.vm_uid, wanted);
}

static void change(struct world *w, int round) {
  uint64_t uid = 1 + draw(w, w->nodes);
  if (round % 3 == 0) tell_node(w, uid, draw(w, 2) == 0);
  for (uint64_t gone = draw(w, 3); gone > 0; gone--) {
    size_t at = draw(w, w->n);
    (void)blx__fleet_unplace(w->p.f, w->placed[at]); /* false: it went with its node */
    w->placed[at] = w->placed[--w->n];
  }
  if (round % REFRESH == 0) blx__fleet_refresh(w->p.f);
  if (round % 101 == 100) {
    ck_assert(blx__fleet_drop_node(w->p.f, w->nodes));
    tell_node(w, w->nodes, false);
  }
}

/* @each: instances in the beginning, of three nodes. */
static void live_with(uint32_t nodes, uint32_t each, int rounds, bool alike) {
  static struct world w;
  w = (struct world){.nodes = nodes, .alike = alike};
  p_open(&w.p, nodes);
  for (uint64_t uid = 1; uid <= nodes; uid++) tell_node(&w, uid, false);
  tell_vms(&w);
  while (w.n < (size_t)nodes * each / 3) w.placed[w.n++] = p_place(&w.p, 1 + draw(&w, VMS), 1 + draw(&w, nodes));
  for (int round = 0; round < rounds; round++) {
    change(&w, round);
    place(&w);
  }
  p_close(&w.p);
}

static void live(uint32_t nodes, int rounds) {
  live_with(nodes, 9, rounds, false);
}

START_TEST(every_choice_on_a_fleet_that_lives__is_the_first_of_a_scan) {
  live(700, ROUNDS_MAX);
}
END_TEST

START_TEST(one_of_whole_groups__too) {
  live(16, 300);
  live(256, 1000);
}
END_TEST

/* All of a third to half of the nodes have the same room, or one of two. */
START_TEST(one_of_nodes_that_are_alike__too) {
  live_with(500, 1, 800, true);
  live_with(500, 3, 800, true);
}
END_TEST

static void use_of(struct world *w, uint64_t uid, uint64_t memory_mib) {
  struct blx_resources r = BLX_RESOURCES_INIT;
  r.memory_mib = memory_mib;
  ck_assert(blx__fleet_set_extra(w->p.f, uid, &r));
}

/* While there are more and more rooms, trees have more and more groups; with few again, what was there must not come
 * back. */
START_TEST(one_with_many_rooms_and_with_few__too) {
  static struct world w;
  w = (struct world){.nodes = 600};
  p_open(&w.p, w.nodes);
  for (uint64_t uid = 1; uid <= w.nodes; uid++) tell_node(&w, uid, false);
  tell_vms(&w);
  for (int round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < 500; i++) {
      use_of(&w, 1 + draw(&w, w.nodes), 1 + draw(&w, 10000));
      if (i % 4 == 0) place(&w);
    }
    ck_assert_uint_gt(w.p.f->index->rooms.n, FLEET_FAN * FLEET_FAN); /* more than the lowest group of groups has */
    while (w.n > 0) (void)blx__fleet_unplace(w.p.f, w.placed[--w.n]);
    for (uint64_t uid = 1; uid < w.nodes; uid++) use_of(&w, uid, 0);
    ck_assert(blx__fleet_drop_node(w.p.f, w.nodes));
    tell_node(&w, w.nodes, false);
    blx__fleet_refresh(w.p.f);
  }
  p_close(&w.p);
}
END_TEST

/* Where not all nodes take what is new, those that do are alike as before. */
START_TEST(a_cordoned_node__changes_no_tree) {
  static struct world w;
  w = (struct world){.nodes = 100};
  p_open(&w.p, w.nodes);
  for (uint64_t uid = 1; uid <= w.nodes; uid++) tell_node(&w, uid, uid % 10 == 0);
  tell_vms(&w);
  ck_assert_uint_ne(p_choose(&w.p, 1), 0);
  const struct fleet_class *any = w.p.f->vms[fleet_ids_get(&w.p.f->vm_ids, 1)].class;
  ck_assert_uint_eq(w.p.f->index->rooms.n_open, 90);
  ck_assert(any->shape->tree && !any->pair->tree);
  tell_node(&w, 10, false);
  tell_node(&w, 11, true);
  tell_node(&w, 20, false);
  ck_assert_uint_ne(p_choose(&w.p, 1), 0);
  ck_assert_uint_eq(w.p.f->index->rooms.n_open, 91);
  ck_assert(any->shape->tree && !any->pair->tree);
  p_close(&w.p);
}
END_TEST

START_TEST(a_log__keeps_the_newest_change_of_each) {
  struct fleet_log log = {.head = 0};
  ck_assert(fleet_log_new(&log, 4));
  for (uint32_t i = 0; i < 3; i++) fleet_log_note(&log, i % 2);
  ck_assert(log.head == 3 && log.of[0] == FLEET_NONE && log.of[1] == 1 && log.of[2] == 0);
  for (uint32_t i = 0; i < 4; i++) fleet_log_note(&log, 3); /* entry 1 is overwritten */
  fleet_log_note(&log, 1);
  ck_assert(log.head == 8 && log.of[7 % log.room] == 1 && log.of[6 % log.room] == 3);
  for (uint32_t i = 3; i < 6; i++) ck_assert_uint_eq(log.of[i % log.room], i == 4 || i == 5 ? FLEET_NONE : log.of[3]);
  fleet_log_free(&log);
}
END_TEST

/* Above 4,096 nodes the highest level has more than one bound. */
START_TEST(one_with_all_levels__too) {
  live(NODES_MAX, 250);
}
END_TEST

BLX_TEST_MAIN("placement/index", every_choice_on_a_fleet_that_lives__is_the_first_of_a_scan, one_of_whole_groups__too,
              one_of_nodes_that_are_alike__too, one_with_many_rooms_and_with_few__too, one_with_all_levels__too,
              a_cordoned_node__changes_no_tree, a_log__keeps_the_newest_change_of_each)
