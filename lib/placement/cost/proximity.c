/* How far a node is from what spec.near names. Which nodes an entry names, by their name or a label, is found once for
 * a question, and their hosts, racks and zones are marked: a node is then looked at by its own three marks, and by the
 * distances that are said of its zone. Where a VM is may change within a question, so its instances are walked. */
#include "placement/score.h"

#include <string.h>

enum { NEAR_RACK = 100000, NEAR_ZONE = 250000 };

static uint64_t at_most(uint64_t cost, uint64_t most) {
  return cost < most ? cost : most;
}

static const char *value_at(const struct fleet_level *level, uint32_t slot) {
  return level->domains[level->of[slot]]->value;
}

/* ---- to the instances of a VM */

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

/* ---- to nodes and domains */

static bool is_vm(const struct blx_near *near) {
  return near->vm && near->vm[0];
}

static bool named_by(const struct blx__placement_node *node, const struct blx_near *near) {
  if (near->node && near->node[0]) return blx__str_eq(node->name, near->node);
  const char *value = near->domain ? blx__placement_label(node, near->domain->key) : NULL;
  return value && blx__str_eq(value, near->domain->value ? near->domain->value : "");
}

/* Nodes without the label are no rack, and no zone. */
static void mark(struct fleet_query *q, uint32_t slot, size_t entry) {
  struct blx__fleet *f = q->f;
  uint8_t bit = (uint8_t)(1u << entry);
  f->near.host[f->host->of[slot]] |= bit;
  if (value_at(f->rack, slot)[0]) f->near.rack[f->rack->of[slot]] |= bit;
  if (value_at(f->zone, slot)[0]) f->near.zone[f->zone->of[slot]] |= bit;
  q->near_found |= bit;
}

static const struct fleet_domain *zone_named(const struct blx__fleet *f, const char *name) {
  return blx__map_get(&f->zone->ids, name, strlen(name) + 1);
}

/* A zone that is @us away from one that is marked. */
static void note_apart(struct fleet_query *q, const struct fleet_domain *from, const struct fleet_domain *to,
                       uint32_t us) {
  struct fleet_near *near = &q->f->near;
  for (size_t entry = 0; entry < FLEET_NEAR_MAX; entry++) {
    if (!(near->zone[to->number] >> entry & 1)) continue;
    BLX__ASSERT(near->n_apart[entry] < BLX__COUNT(near->apart[entry]));
    near->apart[entry][near->n_apart[entry]++] =
        (struct fleet_apart){from->number, (uint32_t)at_most((uint64_t)NEAR_ZONE + us, FLEET_COST_MAX)};
  }
}

static void mark_nodes(struct fleet_query *q) {
  const struct blx_vm_spec *s = q->class->spec;
  const struct blx__fleet *f = q->f;
  bool any = false;
  for (size_t i = 0; i < s->n_near; i++) any |= !is_vm(s->near[i]);
  for (uint32_t slot = 0; any && slot < f->nodes_used; slot++) {
    if (f->nodes[slot].view.uid == 0) continue;
    for (size_t i = 0; i < s->n_near; i++)
      if (!is_vm(s->near[i]) && named_by(&f->nodes[slot].view, s->near[i])) mark(q, slot, i);
  }
  for (size_t i = 0; q->near_found && f->settings && i < f->settings->n_distances; i++) {
    const struct blx_distance *d = f->settings->distances[i];
    const struct fleet_domain *a = zone_named(f, d->a), *b = zone_named(f, d->b);
    if (!a || !b) continue;
    note_apart(q, a, b, d->us);
    note_apart(q, b, a, d->us);
  }
}

void fleet_proximity_begin(struct fleet_query *q) {
  const struct blx_vm_spec *s = q->class->spec;
  if (!q->class->proximity) return;
  BLX__ASSERT(s->n_near <= FLEET_NEAR_MAX && q->near_found == 0);
  for (size_t i = 0; i < s->n_near; i++) {
    uintptr_t at = is_vm(s->near[i]) ? (uintptr_t)blx__map_get_str(&q->class->tenant->vms, s->near[i]->vm) : 0;
    q->near_vm[i] = at ? &q->f->vms[at - 1] : NULL;
  }
  mark_nodes(q);
}

void fleet_proximity_end(struct fleet_query *q) {
  struct blx__fleet *f = q->f;
  if (!q->near_found) return;
  memset(f->near.host, 0, f->host->n_domains);
  memset(f->near.rack, 0, f->rack->n_domains);
  memset(f->near.zone, 0, f->zone->n_domains);
  memset(f->near.n_apart, 0, sizeof f->near.n_apart);
  q->near_found = 0;
}

static uint64_t nearest_node(const struct fleet_query *q, uint32_t slot, size_t entry) {
  const struct blx__fleet *f = q->f;
  const struct fleet_near *near = &f->near;
  uint64_t nearest = FLEET_COST_MAX;
  if (!(q->near_found >> entry & 1)) return UINT64_MAX;
  if (near->host[f->host->of[slot]] >> entry & 1) return 0;
  if (near->rack[f->rack->of[slot]] >> entry & 1) return NEAR_RACK;
  if (near->zone[f->zone->of[slot]] >> entry & 1) return NEAR_ZONE;
  for (size_t i = 0; i < near->n_apart[entry]; i++) {
    const struct fleet_apart *a = &near->apart[entry][i];
    if (a->zone == f->zone->of[slot] && a->far < nearest) nearest = a->far;
  }
  return nearest;
}

uint64_t fleet_proximity(const struct fleet_query *q, uint32_t slot) {
  const struct blx_vm_spec *s = q->class->spec;
  uint64_t sum = 0;
  for (size_t i = 0; i < s->n_near; i++) {
    uint64_t far = is_vm(s->near[i]) ? nearest_instance(q, slot, q->near_vm[i]) : nearest_node(q, slot, i);
    sum += far == UINT64_MAX ? 0 : far;
  }
  return s->n_near ? sum / s->n_near : 0;
}
