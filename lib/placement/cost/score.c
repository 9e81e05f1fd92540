#include "placement/score.h"
#include "placement/index.h"

static uint64_t share_of(uint64_t taken, uint64_t has) {
  return has ? taken * 10000 / has : 0;
}

uint64_t fleet_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  return share_of(node->allocated_cpu_milli + need->cpu_milli, node->cpu_milli) +
         share_of(node->allocated_memory_mib + need->memory_mib, node->memory_mib);
}

static uint64_t at_most(uint64_t cost, uint64_t most) {
  return cost < most ? cost : most;
}

/* Without its load. */
static struct fleet_gauge allocation_of(const struct blx__placement_node *view) {
  return (struct fleet_gauge){.cpu_milli = view->cpu_milli,
                              .memory_mib = view->memory_mib,
                              .allocated_cpu_milli = view->allocated_cpu_milli,
                              .allocated_memory_mib = view->allocated_memory_mib,
                              .load = FLEET_NONE};
}

static uint64_t best_fit(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot) {
  const struct blx__placement_node *view = &f->nodes[slot].view;
  const struct blx__fit *fit = fleet_fit(f);
  if (!fit) return FLEET_COST_MAX - at_most(fleet_fullness(view, &c->need) * 50, FLEET_COST_MAX);
  struct fleet_gauge gauge = allocation_of(view);
  struct blx__fit_node node = fleet_fit_node(&gauge);
  return blx__fit_cost(fit, &node, c->need.cpu_milli, c->need.memory_mib);
}

struct fleet_gauge fleet_gauge_of(const struct fleet_node *n) {
  struct fleet_gauge g = allocation_of(&n->view);
  if (!n->rec->has_load_cpu_permille) return g;
  uint64_t memory = n->raw_memory_mib ? n->rec->load_memory_mib * 1000000 / n->raw_memory_mib : 0;
  g.load = (uint32_t)(at_most(n->rec->load_cpu_permille, 1000) * 1000 + at_most(memory, FLEET_COST_MAX)) / 2;
  return g;
}

static uint64_t balanced(const struct fleet_gauge *g, const struct blx__placement_need *need) {
  uint64_t cpus = share_of(g->allocated_cpu_milli + need->cpu_milli, g->cpu_milli);
  uint64_t memory = share_of(g->allocated_memory_mib + need->memory_mib, g->memory_mib);
  uint64_t given = at_most((cpus + memory) * 50, FLEET_COST_MAX);
  return g->load == FLEET_NONE ? given : (given + g->load) / 2;
}

int32_t fleet_balanced_alone(const struct fleet_gauge *g, const struct blx__placement_need *need) {
  if (g->cpu_milli < g->allocated_cpu_milli + need->cpu_milli) return FLEET_FULL;
  if (g->memory_mib < g->allocated_memory_mib + need->memory_mib) return FLEET_FULL;
  return (int32_t)balanced(g, need);
}

static uint64_t load_balanced(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot) {
  struct fleet_gauge g = fleet_gauge_of(&f->nodes[slot]);
  return balanced(&g, &c->need);
}

static bool stores(const struct blx_node_info *rec, const char *key) {
  for (size_t i = 0; i < rec->n_stored; i++)
    if (blx__str_eq(rec->stored[i]->key, key)) return true;
  return false;
}

/* 2^36 each are enough for a share: what is larger is scaled down before it is added. */
static uint64_t data_locality(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot) {
  const struct blx_vm_spec *s = c->spec;
  uint64_t all = 0, missing = 0;
  unsigned shift = 0;
  for (size_t i = 0; i < s->n_data; i++)
    while (s->data[i]->bytes >> shift > UINT64_C(1) << 36) shift++;
  for (size_t i = 0; i < s->n_data; i++) {
    uint64_t bytes = s->data[i]->bytes >> shift;
    all += bytes;
    if (!stores(f->nodes[slot].rec, s->data[i]->key)) missing += bytes;
  }
  return all ? missing * FLEET_COST_MAX / all : 0;
}

/* ---- strategies: a row and a function each */

static const struct {
  const char *name;
  uint64_t (*cost)(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot);
} strategies[] = {
    [BLX_STRATEGY_BEST_FIT] = {"BestFit", best_fit},
    [BLX_STRATEGY_LOAD_BALANCED] = {"LoadBalanced", load_balanced},
    [BLX_STRATEGY_DATA_LOCALITY] = {"DataLocality", data_locality},
    [BLX_STRATEGY_NETWORK_PROXIMITY] = {"NetworkProximity", NULL}, /* residents have a say: fleet_proximity() */
};

/* @q: NULL: what residents decide counts as nothing. */
static uint64_t one(const struct blx__fleet *f, const struct fleet_class *c, const struct fleet_query *q, uint32_t slot,
                    int32_t strategy) {
  BLX__ASSERT(strategy >= 0 && (size_t)strategy < BLX__COUNT(strategies));
  if (strategies[strategy].cost) return strategies[strategy].cost(f, c, slot);
  return q ? fleet_proximity(q, slot) : 0;
}

static uint64_t combined(const struct blx__fleet *f, const struct fleet_class *c, const struct fleet_query *q,
                         uint32_t slot) {
  uint64_t sum = 0, weights = 0;
  for (size_t i = 0; i < c->spec->n_strategies; i++) {
    const struct blx_strategy_weight *part = c->spec->strategies[i];
    weights += part->weight;
    if (part->weight > 0) sum += part->weight * one(f, c, q, slot, part->strategy);
  }
  return weights ? sum / weights : 0;
}

static uint64_t own(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot) {
  const struct fleet_strategy *s = &f->strategies[c->spec->strategy - BLX__FLEET_STRATEGY_FIRST];
  return at_most(s->fn(s->user, &f->nodes[slot].view, &c->need), FLEET_COST_MAX);
}

static uint64_t strategy_cost(const struct blx__fleet *f, const struct fleet_class *c, const struct fleet_query *q,
                              uint32_t slot) {
  int32_t strategy = c->spec->strategy;
  if (strategy >= BLX__FLEET_STRATEGY_FIRST) return own(f, c, slot);
  return strategy == BLX_STRATEGY_COMBINED ? combined(f, c, q, slot) : one(f, c, q, slot, strategy);
}

static const char *strategy_name(const struct blx__fleet *f, int32_t strategy) {
  if (strategy >= BLX__FLEET_STRATEGY_FIRST) return f->strategies[strategy - BLX__FLEET_STRATEGY_FIRST].name;
  return strategy == BLX_STRATEGY_COMBINED ? "Combined" : strategies[strategy].name;
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

/* Each part's share of the mean, named with its weight and its own cost. What is rounded down is the sum of the first
 * so many, and a share is what its part adds to that: so all of them add up to combined() exactly. */
static void add_combined(const struct fleet_query *q, uint32_t slot, struct sum *sum) {
  const struct blx_vm_spec *s = q->class->spec;
  uint64_t weights = 0, so_far = 0, told = 0;
  for (size_t i = 0; i < s->n_strategies; i++) weights += s->strategies[i]->weight;
  for (size_t i = 0; i < s->n_strategies; i++) {
    const struct blx_strategy_weight *part = s->strategies[i];
    char of[52];
    if (part->weight == 0) continue;
    uint64_t cost = one(q->f, q->class, q, slot, part->strategy);
    so_far += part->weight * cost;
    (void)blx__str_format(of, sizeof of, "%s %u/%llu of %llu", strategies[part->strategy].name, part->weight,
                          (unsigned long long)weights, (unsigned long long)cost);
    add(sum, "Combined", of, so_far / weights - told);
    told = so_far / weights;
  }
  BLX__ASSERT(sum->cost == combined(q->f, q->class, q, slot));
}

static void add_preferences(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot, struct sum *sum) {
  for (size_t i = 0; i < c->spec->n_preferences; i++) {
    const struct blx_node_match *m = c->spec->preferences[i];
    bool holds = blx__placement_matches(&f->nodes[slot].view, m);
    add(sum, "preference", m->key, holds ? 0 : (uint64_t)m->weight * FLEET_WEIGHT);
  }
}

static void add_around(const struct fleet_query *q, uint32_t slot, struct sum *sum) {
  const struct blx_vm_spec *s = q->class->spec;
  for (size_t i = 0; i < s->n_affinity; i++) {
    const struct blx_vm_affinity *rule = s->affinity[i];
    if (rule->weight == 0) continue;
    bool bad = (fleet_near(q, slot, i) > 0) == (rule->apart != 0);
    add(sum, rule->apart ? "apart" : "affinity", rule->level ? rule->level : "host",
        bad ? (uint64_t)rule->weight * FLEET_WEIGHT : 0);
  }
  for (size_t i = 0; i < s->n_spread; i++) {
    const struct blx_vm_spread *rule = s->spread[i];
    if (rule->max_skew == 0) continue;
    uint64_t most = (uint64_t)q->emptiest[i] + rule->max_skew, would = (uint64_t)fleet_replicas(q, slot, i) + 1;
    add(sum, "spread", rule->level ? rule->level : "host",
        would > most ? (would - most) * rule->weight * FLEET_WEIGHT : 0);
  }
}

uint64_t fleet_cost(const struct fleet_query *q, uint32_t slot, struct blx__fleet_part *parts, size_t *n) {
  struct sum sum = {.parts = parts};
  int32_t strategy = q->class->spec->strategy;
  if (parts && strategy == BLX_STRATEGY_COMBINED)
    add_combined(q, slot, &sum);
  else
    add(&sum, strategy_name(q->f, strategy), "", strategy_cost(q->f, q->class, q, slot));
  add_preferences(q->f, q->class, slot, &sum);
  add_around(q, slot, &sum);
  if (n) *n = sum.n;
  return sum.cost;
}

uint64_t fleet_cost_around(const struct fleet_query *q, uint32_t slot) {
  struct sum sum = {.cost = 0};
  add_around(q, slot, &sum);
  return sum.cost;
}

int32_t fleet_cost_alone(const struct blx__fleet *f, const struct fleet_class *c, uint32_t slot) {
  struct sum sum = {.cost = 0};
  if (!blx__placement_has_room(&f->nodes[slot].view, &c->need)) return FLEET_FULL;
  sum.cost = strategy_cost(f, c, NULL, slot);
  add_preferences(f, c, slot, &sum);
  BLX__ASSERT(sum.cost < FLEET_FULL);
  return (int32_t)sum.cost;
}
