/* Runs in which placement is asked for all it can: priorities, taints, quotas, neighbours that are wanted or not, room
 * kept for lost nodes; and what must hold of each decision, as somebody sees it who does not decide. The dice are their
 * own: a seed's other runs stay what they were. */
#include "nodes.h"

#include "placement/survive.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { QUOTA_INSTANCES = 12, QUOTA_VMS = 5, LIVE_MAX = 256 };

static struct {
  uint64_t dice, drawn;
  const struct blx__state *st; /* of the leader whose step was the last */
  uint64_t *ops;               /* what it proposed, as hashes, in order */
  size_t n, next;
  bool pure; /* nothing else came to that state since */
} all;

void storm_begin(void) {
  free(all.ops);
  memset(&all, 0, sizeof all);
  all.dice = blx__mix64(cluster.o.seed ^ 0x73746f726d);
  cluster.storm = !cluster.o.no_storm && all.dice % 100 < 45;
  if (cluster.storm) cluster_sometimes(SOME_STORM);
}

void storm_end(void) {
  free(all.ops);
  all.ops = NULL;
}

static uint64_t draw(uint64_t below) {
  return blx__mix64(all.dice ^ ++all.drawn * 0x9e3779b97f4a7c15u) % below;
}

/* ---- what users ask for */

/* Static: a spec is encoded before the next one is made. */
static struct {
  struct blx_label own, selector_label, *labels[1], *selector[1];
  struct blx_vm_affinity affinity[2], *affinities[2];
  struct blx_vm_spread spread, *spreads[1];
  struct blx_node_match match, *matches[1];
  struct blx_toleration toleration, *tolerations[1];
  const char *values[1];
} parts;

static const char *const kinds[] = {"a", "b"}, *const levels[] = {"host", "rack"};

static void add_affinity(struct blx_vm_spec *spec) {
  struct blx_vm_affinity *a = &parts.affinity[spec->n_affinity];
  *a = (struct blx_vm_affinity)BLX_VM_AFFINITY_INIT;
  parts.selector_label = (struct blx_label)BLX_LABEL_INIT;
  parts.selector_label.key = "kind";
  parts.selector_label.value = kinds[draw(2)];
  parts.selector[0] = &parts.selector_label;
  a->selector = parts.selector;
  a->n_selector = draw(3) != 0;
  a->level = levels[draw(2)];
  a->apart = draw(3) != 0;
  a->weight = draw(3) == 0 ? 50 : 0;
  parts.affinities[spec->n_affinity++] = a;
  spec->affinity = parts.affinities;
}

void storm_spec(struct blx_vm_spec *spec) {
  if (!cluster.storm) return;
  parts.own = (struct blx_label)BLX_LABEL_INIT;
  parts.own.key = "kind";
  parts.own.value = kinds[draw(2)];
  parts.labels[0] = &parts.own;
  spec->labels = parts.labels;
  spec->n_labels = 1;
  spec->priority = (uint32_t)draw(4) * 10;
  spec->has_preemptible = 1;
  spec->preemptible = draw(4) != 0;
  spec->strategy = (int32_t)draw(3);
  if (draw(2) == 0) spec->cpu_milli = (uint32_t)(100 + draw(2000));
  if (draw(2) == 0) add_affinity(spec);
  if (draw(3) == 0) {
    parts.spread = (struct blx_vm_spread)BLX_VM_SPREAD_INIT;
    parts.spread.level = levels[draw(2)];
    parts.spread.max_per_domain = 1 + (uint32_t)draw(2);
    parts.spread.max_skew = (uint32_t)draw(2);
    parts.spread.weight = 50;
    parts.spreads[0] = &parts.spread;
    spec->spread = parts.spreads;
    spec->n_spread = 1;
  }
  if (draw(4) == 0) {
    parts.match = (struct blx_node_match)BLX_NODE_MATCH_INIT;
    parts.match.key = "rack";
    parts.match.op = (int32_t)draw(2);
    parts.match.weight = 20;
    parts.values[0] = "r1";
    parts.match.values = parts.values;
    parts.match.n_values = 1;
    parts.matches[0] = &parts.match;
    if (draw(2) == 0) {
      spec->constraints = parts.matches;
      spec->n_constraints = 1;
    } else {
      spec->preferences = parts.matches;
      spec->n_preferences = 1;
    }
  }
  if (draw(3) == 0) {
    parts.toleration = (struct blx_toleration)BLX_TOLERATION_INIT;
    parts.toleration.key = "storm";
    parts.tolerations[0] = &parts.toleration;
    spec->tolerations = parts.tolerations;
    spec->n_tolerations = 1;
  }
}

enum blx__rpc_id storm_look(void) {
  static const enum blx__rpc_id looks[] = {BLX__RPC_VM_EXPLAIN, BLX__RPC_VM_PLAN, BLX__RPC_CAPACITY};
  return cluster.storm && draw(10) == 0 ? looks[draw(BLX__COUNT(looks))] : BLX__RPC_COUNT;
}

/* Racks of two, and one node that is in none. */
void storm_labels(struct blx_node_options *o, unsigned number) {
  static const char *const racks[] = {"r1", "r2", "r3", "r4"};
  static struct blx_label rack[NODES_MAX + 1], *list[NODES_MAX + 1][1];
  if (!cluster.storm || number % 7 == 6) return;
  rack[number] = (struct blx_label)BLX_LABEL_INIT;
  rack[number].key = "rack";
  rack[number].value = racks[number / 2 % BLX__COUNT(racks)];
  list[number][0] = &rack[number];
  o->labels = list[number];
  o->n_labels = 1;
}

static void propose(const struct blx_op *op) {
  const struct node *leader = cluster_leader();
  blx_error err = {0};
  if (leader && blx__node_propose(leader->n, op, NULL, NULL, &err).code != 0) cluster_log("storm: %s", err.message);
}

static void cordon_or_taint(void) {
  char name[8];
  struct blx_op op = BLX_OP_INIT;
  struct blx_op_node_cordon cordon = BLX_OP_NODE_CORDON_INIT;
  struct blx_op_node_taint taints = BLX_OP_NODE_TAINT_INIT;
  struct blx_taint taint = BLX_TAINT_INIT, *list[] = {&taint};
  (void)blx__str_format(name, sizeof name, "n%u", 1 + (unsigned)draw(cluster.count));
  if (draw(2) == 0) {
    cordon.name = name;
    cordon.cordoned = draw(2) == 0;
    op.node_cordon = &cordon;
  } else {
    taint.key = "storm";
    taint.value = "";
    taint.effect = (int32_t)draw(2);
    taints.name = name;
    taints.set = taints.unset = list;
    if (draw(2) == 0)
      taints.n_set = 1;
    else
      taints.n_unset = 1;
    op.node_taint = &taints;
  }
  propose(&op);
}

static void scale(void) {
  char name[8];
  struct blx_op op = BLX_OP_INIT;
  struct blx_op_vm_scale scale = BLX_OP_VM_SCALE_INIT;
  (void)blx__str_format(name, sizeof name, "vm%u", 1 + (unsigned)draw(VMS));
  scale.name = name;
  scale.replicas = (uint32_t)draw(REPLICAS_MAX + 2);
  op.vm_scale = &scale;
  op.tenant = "default";
  propose(&op);
}

static void blow(void *arg, uint64_t a, uint64_t b) {
  (void)arg;
  (void)a;
  (void)b;
  if (!cluster.storm || cluster.calm) return;
  if (draw(2) == 0)
    scale();
  else
    cordon_or_taint();
  cluster_after(200000 + draw(1500000), blow, 0);
}

static bool has_settings(const struct blx__state *st) {
  const struct blx_quota *q = blx__state_quota(st, "default");
  return blx__state_settings(st)->placement && q && q->revision != 0;
}

uint32_t storm_memory_percent(void) {
  return cluster.storm ? 100 + 50 * (uint32_t)(all.dice / 128 % 2) : 100;
}

/* Until they are there. */
bool storm_is_set(void) {
  const struct node *leader = cluster_leader();
  if (!cluster.storm) return true;
  if (!leader || leader->m->paused_until_us > twin.sim.now_us) return false;
  if (has_settings(leader->n->state)) return true;
  if (twin.sim.now_us < cluster.settings_us) return false;
  cluster.settings_us = twin.sim.now_us + 300000;
  struct blx_placement_settings settings = BLX_PLACEMENT_SETTINGS_INIT;
  struct blx_overcommit over = BLX_OVERCOMMIT_INIT, *list[] = {&over};
  struct blx_op_settings_set set = BLX_OP_SETTINGS_SET_INIT;
  struct blx_op_quota_set quota_set = BLX_OP_QUOTA_SET_INIT;
  struct blx_quota quota = BLX_QUOTA_INIT;
  struct blx_op op = BLX_OP_INIT;
  over.cpu_percent = 200;
  over.memory_percent = storm_memory_percent();
  settings.overcommit = list;
  settings.n_overcommit = 1;
  settings.survive_nodes = (uint32_t)(all.dice / 512 % 3 == 0);
  set.placement = &settings;
  op.settings_set = &set;
  propose(&op);
  quota.tenant = "default";
  quota.has_vms = quota.has_instances = 1;
  quota.vms = QUOTA_VMS;
  quota.instances = QUOTA_INSTANCES;
  quota.has_node_instances = 1;
  quota.node_instances = 4;
  quota_set.quota = &quota;
  op = (struct blx_op)BLX_OP_INIT;
  op.quota_set = &quota_set;
  propose(&op);
  return false;
}

void storm_blow(void) {
  if (cluster.storm) cluster_after(500000, blow, 0);
}

/* All nodes take all again, so that what is wanted can be. */
bool storm_is_over(void) {
  const struct node *leader = cluster_leader();
  if (!cluster.storm) return true;
  if (!leader) return false;
  const struct blx_node_info *n = blx__state_node_after_uid(leader->n->state, 0);
  for (; n; n = blx__state_node_after_uid(leader->n->state, n->uid)) {
    struct blx_op op = BLX_OP_INIT;
    struct blx_op_node_cordon cordon = BLX_OP_NODE_CORDON_INIT;
    if (!n->cordoned) continue;
    if (twin.sim.now_us < cluster.settings_us) return false;
    cordon.name = n->name;
    op.node_cordon = &cordon;
    propose(&op);
    cluster.settings_us = twin.sim.now_us + 100000;
    return false;
  }
  return true;
}

/* ---- the engine and apply never disagree */

static uint64_t hash_of(struct blx__slice op) {
  uint64_t h = op.len;
  for (size_t i = 0; i < op.len; i++) h = blx__mix64(h ^ op.data[i]);
  return h;
}

void storm_proposed(const struct blx__state *st, const struct blx__control_out *out) {
  free(all.ops);
  all.ops = calloc(out->op_count + 1, sizeof *all.ops);
  BLX__ASSERT(all.ops != NULL);
  for (size_t i = 0; i < out->op_count; i++) all.ops[i] = hash_of(out->ops[i]);
  all.st = st;
  all.n = out->op_count;
  all.next = 0;
  all.pure = true;
}

/* Is it what the step that saw this very state proposed? */
static bool storm_expects(const struct blx__state *st, struct blx__slice op) {
  if (st != all.st || !all.pure) return false;
  all.pure = all.next < all.n && all.ops[all.next] == hash_of(op);
  all.next++;
  return all.pure;
}

void storm_restored(const struct blx__state *st) {
  if (st == all.st) all.pure = false;
}

/* ---- of single operations */

/* NULL: those may be ended for that one. */
static const char *wrong_victim(const struct blx__state *st, const struct blx_op_preempt *o) {
  const struct blx_instance *i = blx__state_instance(st, o->instance_uid);
  const struct blx_vm *vm = i ? blx__state_vm(st, i->vm_uid) : NULL;
  if (!vm) return "I6 room was made for nobody";
  for (size_t v = 0; v < o->n_victims; v++) {
    const struct blx_instance *victim = blx__state_instance(st, o->victims[v]->uid);
    const struct blx_vm *of = victim ? blx__state_vm(st, victim->vm_uid) : NULL;
    if (!of || victim->dead || victim->node_uid != o->node_uid) return "I6 one was ended for room that it has not";
    if (of->spec->priority >= vm->spec->priority) return "I6 one was ended for another that is no more important";
    if (of->spec->has_preemptible && !of->spec->preemptible) return "I6 one was ended that is not preemptible";
  }
  return NULL;
}

/* Whether the ha=auto instances of any node fit elsewhere, all counted as the largest of them: I6 of what is new. */
static void check_survival(const struct blx__state *st, const char *name) {
  const struct blx_placement_settings *s = blx__state_settings(st)->placement;
  struct blx__survive_shape shape = {0};
  uint64_t places = 0, own[NODES_MAX + 2] = {0}, autos[NODES_MAX + 2] = {0};
  if (!s || s->survive_nodes == 0) return;
  BLX__ASSERT(s->survive_nodes == 1);
  const struct blx_vm *vm = blx__state_vm_after_uid(st, 0);
  for (; vm; vm = blx__state_vm_after_uid(st, vm->uid)) {
    const struct blx_instance *i = blx__state_instance_after(st, vm->uid, 0);
    uint64_t cpu_milli = blx__placement_cpu_milli(vm->spec);
    for (; i; i = blx__state_instance_after(st, vm->uid, i->ordinal)) {
      if (i->dead || vm->spec->ha != BLX_HA_POLICY_AUTO) continue;
      if (cpu_milli > shape.cpu_milli) shape.cpu_milli = cpu_milli;
      if (vm->spec->memory_mib > shape.memory_mib) shape.memory_mib = vm->spec->memory_mib;
      autos[i->node_uid]++;
    }
  }
  if (shape.memory_mib == 0) return;
  const struct blx_node_info *n = blx__state_node_after_uid(st, 0);
  for (; n; n = blx__state_node_after_uid(st, n->uid)) {
    struct blx__placement_node node;
    if (!blx__state_placement_node(st, n->uid, &node) || !blx__survive_usable(&node)) continue;
    uint64_t cpu = node.cpu_milli > node.allocated_cpu_milli ? node.cpu_milli - node.allocated_cpu_milli : 0;
    uint64_t mib = node.memory_mib > node.allocated_memory_mib ? node.memory_mib - node.allocated_memory_mib : 0;
    own[n->uid] = cpu / shape.cpu_milli < mib / shape.memory_mib ? cpu / shape.cpu_milli : mib / shape.memory_mib;
    places += own[n->uid];
  }
  for (size_t uid = 1; uid < BLX__COUNT(own); uid++)
    if (autos[uid] > places - own[uid])
      cluster_fail("I6 %s was placed, and %llu instances of node %zu would find %llu places", name, (ull)autos[uid],
                   uid, (ull)(places - own[uid]));
}

/* Around an operation: before it, and when it was applied. */
void storm_applying(const struct blx__state *st, struct blx__slice op, struct storm_op *out) {
  void *decoded = NULL;
  *out = (struct storm_op){.arena = {.limit_bytes = 4 << 20}};
  if (!cluster.storm || blx__msg_decode(blx__desc_op(), &out->arena, op, &decoded, NULL).code != 0) return;
  out->op = decoded;
  out->expected = storm_expects(st, op);
  if (out->op->preempt) out->wrong = wrong_victim(st, out->op->preempt);
}

void storm_applied(const struct blx__state *st, struct storm_op *o, const struct blx__buf *result) {
  void *decoded = NULL;
  bool known =
      o->op && result &&
      blx__msg_decode(blx__desc_op_result(), &o->arena, (struct blx__slice){result->data, result->len}, &decoded, NULL)
              .code == 0;
  const struct blx_op_result *r = decoded;
  if (known && (o->op->assign || o->op->preempt)) {
    uint64_t uid = o->op->assign ? o->op->assign->instance_uid : o->op->preempt->instance_uid;
    const struct blx_instance *i = blx__state_instance(st, uid);
    cluster_log("control: %s %s: %s", o->op->assign ? "assign" : "make room for", i ? i->name : "nobody",
                r->code          ? r->message
                : i && i->reason ? i->reason->text
                                 : "good");
  }
  if (known && o->expected && r->code != 0 && (o->op->assign || o->op->preempt))
    cluster_fail("I6 the engine and apply disagree: %s", r->message);
  if (known && o->op->preempt && r->code == 0) {
    cluster_sometimes(SOME_PREEMPTED);
    if (o->wrong) cluster_fail("%s", o->wrong);
  }
  if (known && o->op->assign && r->code == 0 && o->op->assign->expected_epoch == 0)
    check_survival(st, blx__state_instance(st, o->op->assign->instance_uid)->name);
  blx__arena_free(&o->arena);
}

/* ---- what holds at every index */

struct live {
  const struct blx_vm_spec *spec;
  const struct blx_instance *i;
  struct blx__placement_node node;
};

static size_t find_live(const struct blx__state *st, struct live *out) {
  size_t n = 0;
  for (const struct blx_vm *vm = blx__state_vm_after_uid(st, 0); vm; vm = blx__state_vm_after_uid(st, vm->uid)) {
    const struct blx_instance *i = blx__state_instance_after(st, vm->uid, 0);
    for (; i && n < LIVE_MAX; i = blx__state_instance_after(st, vm->uid, i->ordinal)) {
      if (i->dead || !blx__state_placement_node(st, i->node_uid, &out[n].node)) continue;
      out[n].spec = vm->spec;
      out[n].i = i;
      n++;
    }
  }
  return n;
}

static bool labels_match(const struct blx_vm_affinity *a, const struct live *of, const struct live *other) {
  if (a->n_selector == 0) return other->i->vm_uid == of->i->vm_uid;
  for (size_t s = 0; s < a->n_selector; s++) {
    bool found = false;
    for (size_t l = 0; l < other->spec->n_labels; l++)
      found = found || (blx__str_eq(a->selector[s]->key, other->spec->labels[l]->key) &&
                        blx__str_eq(a->selector[s]->value, other->spec->labels[l]->value));
    if (!found) return false;
  }
  return true;
}

static bool one_domain(const struct live *a, const struct live *b, const char *level) {
  const char *x = blx__placement_domain(&a->node, level), *y = blx__placement_domain(&b->node, level);
  return a->i->node_uid == b->i->node_uid || (x[0] && blx__str_eq(x, y));
}

static void check_apart(const struct live *all_live, size_t n, const struct live *of) {
  for (size_t r = 0; r < of->spec->n_affinity; r++) {
    const struct blx_vm_affinity *a = of->spec->affinity[r];
    if (!a->apart || a->weight > 0) continue;
    for (size_t o = 0; o < n; o++) {
      const struct live *other = &all_live[o];
      if (other == of || !labels_match(a, of, other) || !one_domain(of, other, a->level)) continue;
      cluster_fail("I6 %s is to be apart from %s at level %s, and is on one with it", of->i->name, other->i->name,
                   a->level);
    }
  }
}

static void check_spread(const struct live *all_live, size_t n, const struct live *of) {
  for (size_t r = 0; r < of->spec->n_spread; r++) {
    const struct blx_vm_spread *s = of->spec->spread[r];
    uint32_t count = 0;
    if (s->max_per_domain == 0) continue;
    const char *mine = blx__placement_domain(&of->node, s->level);
    for (size_t o = 0; o < n; o++)
      count += all_live[o].i->vm_uid == of->i->vm_uid &&
               blx__str_eq(mine, blx__placement_domain(&all_live[o].node, s->level));
    if (count > s->max_per_domain)
      cluster_fail("I6 %u replicas of %s are in %s %s, %u may be", count, of->i->vm, s->level, mine, s->max_per_domain);
  }
}

void storm_check(const struct blx__state *st) {
  static struct live live[LIVE_MAX];
  if (!cluster.storm) return;
  size_t n = find_live(st, live);
  for (size_t i = 0; i < n && !cluster.failed; i++) {
    check_apart(live, n, &live[i]);
    check_spread(live, n, &live[i]);
  }
  const struct blx_quota *q = blx__state_quota(st, "default");
  if (!q || q->revision == 0) return;
  if (q->used_vms > q->vms || q->used_instances > q->instances)
    cluster_fail("I6 the tenant has %u VMs and %u instances, and may have %u and %u", q->used_vms, q->used_instances,
                 q->vms, q->instances);
}
