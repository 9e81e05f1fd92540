/* Whether what is said about placement is meaningful together; each field by itself the schema checks. */
#include "placement/feasible.h"

static const char origin[] = "placement";

static blx__rc check_match(const struct blx_node_match *m, const char *field, size_t at, blx_error *err) {
  bool list = m->op == BLX_MATCH_OP_IN || m->op == BLX_MATCH_OP_NOT_IN;
  bool one = m->op == BLX_MATCH_OP_GREATER || m->op == BLX_MATCH_OP_LESS;
  uint64_t number;
  if (m->op < BLX_MATCH_OP_IN || m->op > BLX_MATCH_OP_LESS)
    return blx__fail(err, BLX_E_INVALID, origin, "%s[%zu].op: %d is not one", field, at, (int)m->op);
  if (!m->key || !m->key[0])
    return blx__fail(err, BLX_E_INVALID, origin, "%s[%zu].key: a label's name is missing", field, at);
  if (list && m->n_values == 0)
    return blx__fail(err, BLX_E_INVALID, origin, "%s[%zu].values: In and NotIn need one or more", field, at);
  if (!list && !one && m->n_values > 0)
    return blx__fail(err, BLX_E_INVALID, origin, "%s[%zu].values: Exists and NotExists take none", field, at);
  if (!one) return BLX__OK;
  const char *text = m->n_values == 1 && m->values[0] ? m->values[0] : "";
  if (!blx__parse_u64(text + (text[0] == '-'), 0, INT64_MAX, &number))
    return blx__fail(err, BLX_E_INVALID, origin, "%s[%zu].values: Greater and Less need one whole number", field, at);
  return BLX__OK;
}

static blx__rc check_strategy(const struct blx_vm_spec *s, blx_error *err) {
  uint32_t weight = 0, seen = 0;
  if (s->strategy < BLX_STRATEGY_BEST_FIT || s->strategy > BLX_STRATEGY_COMBINED)
    return blx__fail(err, BLX_E_INVALID, origin, "strategy: %d is not a strategy", (int)s->strategy);
  if (s->strategy != BLX_STRATEGY_COMBINED)
    return s->n_strategies == 0 ? BLX__OK
                                : blx__fail(err, BLX_E_INVALID, origin,
                                            "strategies: are for the strategy Combined only; set strategy to Combined");
  for (size_t i = 0; i < s->n_strategies; i++) {
    int32_t part = s->strategies[i]->strategy;
    if (part < BLX_STRATEGY_BEST_FIT || part >= BLX_STRATEGY_COMBINED)
      return blx__fail(err, BLX_E_INVALID, origin, "strategies[%zu].strategy: %d cannot be a part of Combined", i,
                       (int)part);
    if (seen & 1u << part) return blx__fail(err, BLX_E_INVALID, origin, "strategies[%zu].strategy: is there twice", i);
    seen |= 1u << part;
    weight += s->strategies[i]->weight;
  }
  return weight > 0 ? BLX__OK
                    : blx__fail(err, BLX_E_INVALID, origin,
                                "strategies: the strategy Combined needs one or more with a weight above 0");
}

static blx__rc check_resources(const struct blx_vm_spec *s, blx_error *err) {
  for (size_t i = 0; i < s->n_resources; i++) {
    for (size_t k = 0; k < i; k++) {
      if (!blx__str_eq(s->resources[i]->name, s->resources[k]->name)) continue;
      return blx__fail(err, BLX_E_INVALID, origin, "resources[%zu].name: %s is there twice", i, s->resources[i]->name);
    }
  }
  for (size_t i = 0; i < s->n_data; i++) {
    for (size_t k = 0; k < i; k++) {
      if (!blx__str_eq(s->data[i]->key, s->data[k]->key)) continue;
      return blx__fail(err, BLX_E_INVALID, origin, "data[%zu].key: %s is there twice", i, s->data[i]->key);
    }
  }
  return BLX__OK;
}

static blx__rc check_near(const struct blx_vm_spec *s, blx_error *err) {
  for (size_t i = 0; i < s->n_near; i++) {
    const struct blx_near *n = s->near[i];
    int things = (n->vm && n->vm[0]) + (n->node && n->node[0]) + (n->domain && n->domain->key && n->domain->key[0]);
    if (things == 1) continue;
    return blx__fail(err, BLX_E_INVALID, origin, "near[%zu]: names %d things: it takes a VM, a node or a domain", i,
                     things);
  }
  for (size_t i = 0; i < s->n_spread; i++) {
    if (s->spread[i]->max_per_domain > 0 || s->spread[i]->max_skew > 0) continue;
    return blx__fail(err, BLX_E_INVALID, origin, "spread[%zu]: says nothing: set max_per_domain or max_skew", i);
  }
  return BLX__OK;
}

blx__rc blx__placement_spec_check(const struct blx_vm_spec *s, blx_error *err) {
  if (s->n_affinity > BLX__PLACEMENT_AFFINITY_MAX || s->n_spread > BLX__PLACEMENT_SPREAD_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "affinity, spread: there are more than %d or %d rules",
                     BLX__PLACEMENT_AFFINITY_MAX, BLX__PLACEMENT_SPREAD_MAX);
  BLX__TRY(check_strategy(s, err));
  for (size_t i = 0; i < s->n_constraints; i++) BLX__TRY(check_match(s->constraints[i], "constraints", i, err));
  for (size_t i = 0; i < s->n_preferences; i++) BLX__TRY(check_match(s->preferences[i], "preferences", i, err));
  BLX__TRY(check_resources(s, err));
  return check_near(s, err);
}

static bool same_pair(const struct blx_distance *a, const struct blx_distance *b) {
  return (blx__str_eq(a->a, b->a) && blx__str_eq(a->b, b->b)) || (blx__str_eq(a->a, b->b) && blx__str_eq(a->b, b->a));
}

blx__rc blx__placement_settings_check(const struct blx_placement_settings *s, blx_error *err) {
  if (s->survive_nodes > 16)
    return blx__fail(err, BLX_E_INVALID, origin, "survive_nodes: %u is above 16", s->survive_nodes);
  if (s->n_distances > BLX__PLACEMENT_DISTANCES_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "distances: %zu are above %d", s->n_distances,
                     BLX__PLACEMENT_DISTANCES_MAX);
  for (size_t i = 0; i < s->n_overcommit; i++) {
    const struct blx_overcommit *o = s->overcommit[i];
    if (o->nodes && (!o->nodes->key || !o->nodes->key[0]))
      return blx__fail(err, BLX_E_INVALID, origin, "overcommit[%zu].nodes: a label's name is missing", i);
    if (!o->nodes && i + 1 < s->n_overcommit)
      return blx__fail(err, BLX_E_INVALID, origin,
                       "overcommit[%zu]: is for all nodes, so that those after it never hold: put it last", i);
  }
  for (size_t i = 0; i < s->n_distances; i++) {
    const struct blx_distance *d = s->distances[i];
    if (!d->a || !d->a[0] || !d->b || !d->b[0] || blx__str_eq(d->a, d->b))
      return blx__fail(err, BLX_E_INVALID, origin, "distances[%zu]: names two different zones", i);
    for (size_t k = 0; k < i; k++) {
      if (!same_pair(d, s->distances[k])) continue;
      return blx__fail(err, BLX_E_INVALID, origin, "distances[%zu]: %s and %s are there twice", i, d->a, d->b);
    }
  }
  return BLX__OK;
}
