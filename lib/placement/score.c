#include "placement/score.h"

uint64_t fleet_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  uint64_t cpus = node->cpu_milli ? (node->allocated_cpu_milli + need->cpu_milli) * 10000 / node->cpu_milli : 0;
  uint64_t memory = node->memory_mib ? (node->allocated_memory_mib + need->memory_mib) * 10000 / node->memory_mib : 0;
  return cpus + memory;
}

static uint64_t at_most(uint64_t cost, uint64_t most) {
  return cost < most ? cost : most;
}

static uint64_t best_fit(const struct fleet_query *q, uint32_t slot) {
  uint64_t full = fleet_fullness(&q->f->nodes[slot].view, &q->class->need);
  return FLEET_COST_MAX - at_most(full * 50, FLEET_COST_MAX);
}

static uint64_t load_balanced(const struct fleet_query *q, uint32_t slot) {
  const struct fleet_node *n = &q->f->nodes[slot];
  uint64_t given = at_most(fleet_fullness(&n->view, &q->class->need) * 50, FLEET_COST_MAX);
  if (!n->rec->has_load_cpu_permille) return given;
  uint64_t memory = n->raw_memory_mib ? n->rec->load_memory_mib * 1000000 / n->raw_memory_mib : 0;
  uint64_t load = (at_most(n->rec->load_cpu_permille, 1000) * 1000 + at_most(memory, FLEET_COST_MAX)) / 2;
  return (given + load) / 2;
}

static bool stores(const struct blx_node_info *rec, const char *key) {
  for (size_t i = 0; i < rec->n_stored; i++)
    if (blx__str_eq(rec->stored[i]->key, key)) return true;
  return false;
}

/* 2^40 are enough for a share: what is larger is scaled down before it is added. */
static uint64_t data_locality(const struct fleet_query *q, uint32_t slot) {
  const struct blx_vm_spec *s = q->class->spec;
  uint64_t all = 0, missing = 0;
  unsigned shift = 0;
  for (size_t i = 0; i < s->n_data; i++)
    while (s->data[i]->bytes >> shift > UINT64_C(1) << 36) shift++;
  for (size_t i = 0; i < s->n_data; i++) {
    uint64_t bytes = s->data[i]->bytes >> shift;
    all += bytes;
    if (!stores(q->f->nodes[slot].rec, s->data[i]->key)) missing += bytes;
  }
  return all ? missing * FLEET_COST_MAX / all : 0;
}

/* ---- distances */

enum { NEAR_RACK = 100000, NEAR_ZONE = 250000 };

static const char *value_at(const struct fleet_level *level, uint32_t slot) {
  return level->domains[level->of[slot]]->value;
}

static uint64_t zones_apart(const struct blx_placement_settings *s, const char *a, const char *b) {
  for (size_t i = 0; s && i < s->n_distances; i++) {
    const struct blx_distance *d = s->distances[i];
    if ((blx__str_eq(d->a, a) && blx__str_eq(d->b, b)) || (blx__str_eq(d->a, b) && blx__str_eq(d->b, a)))
      return at_most((uint64_t)NEAR_ZONE + d->us, FLEET_COST_MAX);
  }
  return FLEET_COST_MAX;
}

static uint64_t distance(const struct blx__fleet *f, uint32_t a, uint32_t b) {
  const char *zone_a = value_at(f->zone, a), *zone_b = value_at(f->zone, b);
  if (f->host->of[a] == f->host->of[b]) return 0;
  if (f->rack->of[a] == f->rack->of[b] && value_at(f->rack, a)[0]) return NEAR_RACK;
  if (f->zone->of[a] == f->zone->of[b] && zone_a[0]) return NEAR_ZONE;
  return zone_a[0] && zone_b[0] ? zones_apart(f->settings, zone_a, zone_b) : FLEET_COST_MAX;
}

static uint64_t nearest_instance(const struct fleet_query *q, uint32_t slot, const struct fleet_vm *vm) {
  uint64_t nearest = UINT64_MAX;
  for (uint32_t i = vm ? vm->first : FLEET_NONE; i != FLEET_NONE; i = q->f->instances[i].next_of_vm) {
    uint64_t far = distance(q->f, slot, q->f->instances[i].node);
    nearest = far < nearest ? far : nearest;
  }
  return nearest;
}

static bool named_by(const struct blx__placement_node *node, const struct blx_near *near) {
  if (near->node && near->node[0]) return blx__str_eq(node->name, near->node);
  const char *value = near->domain ? blx__placement_label(node, near->domain->key) : NULL;
  return value && blx__str_eq(value, near->domain->value ? near->domain->value : "");
}

static uint64_t nearest_node(const struct fleet_query *q, uint32_t slot, const struct blx_near *near) {
  uint64_t nearest = UINT64_MAX;
  for (uint32_t i = 0; i < q->f->nodes_used; i++) {
    if (q->f->nodes[i].view.uid == 0 || !named_by(&q->f->nodes[i].view, near)) continue;
    uint64_t far = distance(q->f, slot, i);
    nearest = far < nearest ? far : nearest;
  }
  return nearest;
}

static uint64_t network_proximity(const struct fleet_query *q, uint32_t slot) {
  const struct blx_vm_spec *s = q->class->spec;
  uint64_t sum = 0;
  for (size_t i = 0; i < s->n_near; i++) {
    bool vm = s->near[i]->vm && s->near[i]->vm[0];
    uint64_t far = vm ? nearest_instance(q, slot, q->near_vm[i]) : nearest_node(q, slot, s->near[i]);
    sum += far == UINT64_MAX ? 0 : far;
  }
  return s->n_near ? sum / s->n_near : 0;
}

/* ---- strategies: a row and a function each */

static uint64_t combined(const struct fleet_query *q, uint32_t slot);

static const struct {
  const char *name;
  uint64_t (*cost)(const struct fleet_query *q, uint32_t slot);
} strategies[] = {
    [BLX_STRATEGY_BEST_FIT] = {"BestFit", best_fit},
    [BLX_STRATEGY_LOAD_BALANCED] = {"LoadBalanced", load_balanced},
    [BLX_STRATEGY_DATA_LOCALITY] = {"DataLocality", data_locality},
    [BLX_STRATEGY_NETWORK_PROXIMITY] = {"NetworkProximity", network_proximity},
    [BLX_STRATEGY_COMBINED] = {"Combined", combined},
};

static uint64_t combined(const struct fleet_query *q, uint32_t slot) {
  const struct blx_vm_spec *s = q->class->spec;
  uint64_t sum = 0, weights = 0;
  for (size_t i = 0; i < s->n_strategies; i++) {
    BLX__ASSERT(s->strategies[i]->strategy != BLX_STRATEGY_COMBINED);
    weights += s->strategies[i]->weight;
    if (s->strategies[i]->weight > 0)
      sum += s->strategies[i]->weight * strategies[s->strategies[i]->strategy].cost(q, slot);
  }
  return weights ? sum / weights : 0;
}

/* ---- the sum */

struct sum {
  uint64_t cost;
  struct blx__fleet_part *parts;
  size_t n;
};

static void add(struct sum *sum, const char *what, const char *of, uint64_t cost) {
  sum->cost += cost;
  if (!sum->parts || sum->n == BLX__FLEET_PARTS_MAX) return;
  struct blx__fleet_part *p = &sum->parts[sum->n++];
  p->cost = cost;
  (void)blx__str_format(p->name, sizeof p->name, "%s%s%s", what, of[0] ? " " : "", of);
}

static void add_strategy(const struct fleet_query *q, uint32_t slot, struct sum *sum) {
  int32_t strategy = q->class->spec->strategy;
  if (strategy < BLX__FLEET_STRATEGY_FIRST) {
    add(sum, strategies[strategy].name, "", strategies[strategy].cost(q, slot));
    return;
  }
  const struct fleet_strategy *own = &q->f->strategies[strategy - BLX__FLEET_STRATEGY_FIRST];
  uint64_t cost = own->fn(own->user, &q->f->nodes[slot].view, &q->class->need);
  add(sum, own->name, "", at_most(cost, FLEET_COST_MAX));
}

static void add_others(const struct fleet_query *q, uint32_t slot, struct sum *sum) {
  const struct blx_vm_spec *s = q->class->spec;
  struct blx__placement_around a;
  fleet_around(q, slot, &a);
  for (size_t i = 0; i < s->n_affinity; i++) {
    const struct blx_vm_affinity *rule = s->affinity[i];
    bool bad = rule->apart ? a.near[i] > 0 : a.near[i] == 0;
    if (rule->weight > 0)
      add(sum, rule->apart ? "apart" : "affinity", rule->level ? rule->level : "host",
          bad ? (uint64_t)rule->weight * FLEET_WEIGHT : 0);
  }
  for (size_t i = 0; i < s->n_spread; i++) {
    const struct blx_vm_spread *rule = s->spread[i];
    uint64_t most = (uint64_t)q->emptiest[i] + rule->max_skew, would = (uint64_t)a.replicas[i] + 1;
    if (rule->max_skew > 0)
      add(sum, "spread", rule->level ? rule->level : "host",
          would > most ? (would - most) * rule->weight * FLEET_WEIGHT : 0);
  }
}

uint64_t fleet_cost(const struct fleet_query *q, uint32_t slot, struct blx__fleet_part *parts, size_t *n) {
  const struct blx_vm_spec *s = q->class->spec;
  struct sum sum = {.parts = parts};
  add_strategy(q, slot, &sum);
  for (size_t i = 0; i < s->n_preferences; i++) {
    bool holds = blx__placement_matches(&q->f->nodes[slot].view, s->preferences[i]);
    add(&sum, "preference", s->preferences[i]->key, holds ? 0 : (uint64_t)s->preferences[i]->weight * FLEET_WEIGHT);
  }
  if (s->n_affinity > 0 || s->n_spread > 0) add_others(q, slot, &sum);
  if (n) *n = sum.n;
  return sum.cost;
}
