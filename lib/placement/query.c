/* A question to the fleet: what is counted once, and how one node stands to it. */
#include "placement/fleet_int.h"
#include "placement/score.h"

#include <string.h>

/* ---- the asking VM's own instances */

static size_t self_at(struct fleet_query *q, struct fleet_level *level) {
  size_t at = 0;
  while (at < q->n_self && q->f->self[at].level != level) at++;
  BLX__ASSERT(at < FLEET_SELF_MAX);
  if (at == q->n_self) q->f->self[q->n_self++].level = level;
  return at;
}

static void find_self(struct fleet_query *q) {
  const struct blx_vm_spec *s = q->class->spec;
  for (size_t i = 0; i < s->n_affinity; i++)
    if (!q->class->rule[i]) q->self_of_affinity[i] = self_at(q, q->class->level[i]);
  for (size_t i = 0; i < s->n_spread; i++) q->self_of_spread[i] = self_at(q, q->class->spread[i]);
}

static void count_on(const struct fleet_query *q, uint32_t node, bool there) {
  const struct blx__fleet *f = q->f;
  f->replicas[node] = there ? f->replicas[node] + 1 : 0;
  for (size_t k = 0; k < q->n_self; k++) {
    uint32_t *count = &f->self[k].count[f->self[k].level->of[node]];
    *count = there ? *count + 1 : 0;
  }
}

static void count_self(const struct fleet_query *q, bool there) {
  const struct blx__fleet *f = q->f;
  if (q->vm->n > FLEET_VM_ON) {
    for (uint32_t i = q->vm->first; i != FLEET_NONE; i = f->instances[i].next_of_vm)
      count_on(q, f->instances[i].node, there);
    return;
  }
  for (uint32_t i = 0; i < q->vm->n; i++) count_on(q, q->vm->on[i], there);
}

static void count_also(struct fleet_query *q) {
  for (size_t i = 0; i < q->request->n_replicas; i++) {
    uint32_t slot = fleet_ids_get(&q->f->node_ids, q->request->replicas[i]);
    if (slot == FLEET_NONE) continue;
    fleet_query_own(q, slot, true);
    q->also++;
  }
}

static void forget_also(struct fleet_query *q) {
  for (size_t i = 0; i < q->request->n_replicas; i++) {
    uint32_t slot = fleet_ids_get(&q->f->node_ids, q->request->replicas[i]);
    if (slot != FLEET_NONE) fleet_query_own(q, slot, false);
  }
}

/* Only if every domain holds one is the emptiest among those that do. */
static uint32_t emptiest_of(const struct fleet_query *q, const struct fleet_self *self) {
  uint32_t least = UINT32_MAX;
  size_t held = 0;
  for (uint32_t d = 0; q->vm->n + q->also >= self->level->ids.count && d < self->level->n_domains; d++) {
    if (self->level->domains[d] && self->count[d] < least) least = self->count[d];
    held += self->count[d] > 0;
  }
  return held < self->level->ids.count || least == UINT32_MAX ? 0 : least;
}

/* ---- survival of nodes' loss */

static struct blx__survive_node survivor(const struct fleet_node *n) {
  const struct blx__placement_node *v = &n->view;
  struct blx__survive_node out = {.ha_instances = n->autos};
  if (!blx__survive_usable(v)) return out;
  out.free_cpu_milli = v->cpu_milli > v->allocated_cpu_milli ? v->cpu_milli - v->allocated_cpu_milli : 0;
  out.free_memory_mib = v->memory_mib > v->allocated_memory_mib ? v->memory_mib - v->allocated_memory_mib : 0;
  return out;
}

static uint64_t larger(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

static struct blx__survive_shape largest_auto(const struct fleet_query *q) {
  struct blx__survive_shape shape = {0};
  BLX__MAP_FOREACH(pos, &q->f->classes) {
    const struct fleet_class *c = blx__map_value(pos);
    if (!c->is_auto || (c->instances == 0 && c != q->class)) continue;
    shape.cpu_milli = larger(shape.cpu_milli, c->need.cpu_milli);
    shape.memory_mib = larger(shape.memory_mib, c->need.memory_mib);
  }
  return shape;
}

static void note_worst(struct fleet_query *q, uint32_t slot, uint64_t weight) {
  uint32_t at = BLX__SURVIVE_NODES_MAX + 1;
  while (at > 0 && q->worst[at - 1] < weight) at--;
  for (uint32_t i = BLX__SURVIVE_NODES_MAX; i > at; i--) {
    q->worst[i] = q->worst[i - 1];
    q->worst_slot[i] = q->worst_slot[i - 1];
  }
  if (at > BLX__SURVIVE_NODES_MAX) return;
  q->worst[at] = weight;
  q->worst_slot[at] = slot;
}

static void weigh_domains(struct fleet_query *q) {
  const struct blx__fleet *f = q->f;
  const struct fleet_level *level = f->survive;
  for (uint32_t d = 0; d < level->n_domains; d++) f->weights[d] = 0;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    if (f->nodes[slot].view.uid == 0) continue;
    struct blx__survive_node n = survivor(&f->nodes[slot]);
    f->weights[level->of[slot]] += blx__survive_places(&n, q->shape) + n.ha_instances;
  }
  q->first_number = FLEET_NONE;
  for (uint32_t d = 0; d < level->n_domains; d++) {
    if (q->first_number == FLEET_NONE || f->weights[d] > q->first_domain) {
      q->second_domain = q->first_domain;
      q->first_domain = f->weights[d];
      q->first_number = d;
    } else {
      q->second_domain = larger(q->second_domain, f->weights[d]);
    }
  }
}

static void weigh(struct fleet_query *q) {
  const struct blx__fleet *f = q->f;
  const struct blx_placement_settings *s = f->settings;
  q->demanded = q->request->keep_survive && s && (s->survive_nodes > 0 || f->survive);
  if (!q->demanded) return;
  q->shape = largest_auto(q);
  q->places = 0;
  q->first_domain = q->second_domain = 0;
  memset(q->worst, 0, sizeof q->worst);
  q->survives = q->shape.cpu_milli > 0;
  if (!q->survives) return;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    if (f->nodes[slot].view.uid == 0) continue;
    struct blx__survive_node n = survivor(&f->nodes[slot]);
    uint64_t places = blx__survive_places(&n, q->shape);
    f->places[slot] = places;
    f->weighed[slot] = places + n.ha_instances;
    q->places += places;
    note_worst(q, slot, places + n.ha_instances);
  }
  if (f->survive) weigh_domains(q);
}

/* What blx__survive_*_missing() would say with the instance on @slot: only that node's weight differs. (f->weights and
 * f->places are what was when it was weighed: in a preemption instances of the node are away meanwhile.) */
static uint64_t short_places(const struct fleet_query *q, uint32_t slot) {
  const struct blx__fleet *f = q->f;
  struct blx__survive_node n = survivor(&f->nodes[slot]);
  uint64_t was = f->places[slot], lost = 0, domain = 0;
  n.ha_instances += q->class->is_auto;
  n.free_cpu_milli -= n.free_cpu_milli < q->class->need.cpu_milli ? n.free_cpu_milli : q->class->need.cpu_milli;
  n.free_memory_mib -= n.free_memory_mib < q->class->need.memory_mib ? n.free_memory_mib : q->class->need.memory_mib;
  uint64_t now = blx__survive_places(&n, q->shape), weight = now + n.ha_instances, places = q->places - was + now;
  bool counted = f->settings->survive_nodes == 0;
  uint32_t left = f->settings->survive_nodes;
  for (uint32_t i = 0; i <= BLX__SURVIVE_NODES_MAX && left > 0; i++) {
    bool itself = q->worst[i] > 0 && q->worst_slot[i] == slot;
    if (!counted && weight >= q->worst[i]) {
      lost += weight;
      counted = true;
      left--;
    }
    if (itself || left == 0) continue;
    lost += q->worst[i];
    left--;
  }
  if (f->survive) {
    uint32_t d = f->survive->of[slot];
    domain =
        larger(d == q->first_number ? q->second_domain : q->first_domain, f->weights[d] - f->weighed[slot] + weight);
  }
  lost = larger(lost, domain);
  return lost > places ? lost - places : 0;
}

/* ---- begin and end */

static void mark_out(struct fleet_query *q, bool on) {
  const struct blx__fleet_request *r = q->request;
  for (size_t i = 0; i < r->n_barred; i++) {
    uint32_t slot = fleet_ids_get(&q->f->node_ids, r->barred[i]);
    if (slot != FLEET_NONE) q->f->out[slot] = on ? FLEET_BARRED : FLEET_IN;
  }
  for (size_t i = 0; i < r->n_reserved; i++) {
    uint32_t slot = fleet_ids_get(&q->f->node_ids, r->reserved[i]);
    if (slot != FLEET_NONE) q->f->out[slot] = on ? q->f->out[slot] | FLEET_RESERVED : FLEET_IN;
  }
}

bool fleet_query_begin(struct fleet_query *q, struct blx__fleet *f, const struct blx__fleet_request *request) {
  uint32_t vm = fleet_ids_get(&f->vm_ids, request->vm_uid);
  if (vm == FLEET_NONE) return false;
  memset(q, 0, sizeof *q);
  q->f = f;
  q->request = request;
  q->vm = &f->vms[vm];
  q->class = q->vm->class;
  q->own = fleet_ids_get(&f->instance_ids, request->instance_uid);
  q->own_node = q->own == FLEET_NONE ? FLEET_NONE : f->instances[q->own].node;
  if (q->own != FLEET_NONE) fleet_detach(f, q->own);
  find_self(q);
  count_self(q, true);
  count_also(q);
  for (size_t i = 0; i < q->class->spec->n_spread; i++) q->emptiest[i] = emptiest_of(q, &f->self[q->self_of_spread[i]]);
  mark_out(q, true);
  fleet_proximity_begin(q);
  weigh(q);
  const struct blx_vm_spec *s = q->class->spec;
  q->others = s->n_affinity > 0 || s->n_spread > 0 || q->class->n_matched > 0 || q->class->node_quota || q->survives;
  return true;
}

void fleet_query_end(struct fleet_query *q) {
  fleet_proximity_end(q);
  mark_out(q, false);
  forget_also(q);
  count_self(q, false);
  if (q->own != FLEET_NONE) fleet_attach(q->f, q->own, q->own_node);
  q->f = NULL;
}

/* ---- one node */

static void count_tenant(const struct fleet_query *q, uint32_t slot, struct blx__placement_around *out) {
  const struct blx__fleet *f = q->f;
  for (uint32_t i = f->nodes[slot].first; i != FLEET_NONE; i = f->instances[i].next_on_node) {
    const struct fleet_class *c = f->vms[f->instances[i].vm].class;
    if (c->tenant != q->class->tenant) continue;
    out->tenant_instances++;
    out->tenant_vcpus += c->need.vcpus;
    out->tenant_memory_mib += c->need.memory_mib;
  }
}

uint32_t fleet_near(const struct fleet_query *q, uint32_t slot, size_t rule) {
  const struct fleet_rule *r = q->class->rule[rule];
  uint32_t domain = q->class->level[rule]->of[slot];
  return r ? r->match[domain] : q->f->self[q->self_of_affinity[rule]].count[domain];
}

uint32_t fleet_replicas(const struct fleet_query *q, uint32_t slot, size_t rule) {
  return q->f->self[q->self_of_spread[rule]].count[q->class->spread[rule]->of[slot]];
}

void fleet_around(const struct fleet_query *q, uint32_t slot, struct blx__placement_around *out) {
  const struct fleet_class *c = q->class;
  memset(out, 0, sizeof *out);
  for (size_t i = 0; i < c->spec->n_affinity; i++) {
    out->near[i] = fleet_near(q, slot, i);
    out->anywhere[i] = c->rule[i] ? c->rule[i]->matches : q->vm->n + (uint32_t)q->also;
    out->itself[i] = c->itself[i];
  }
  for (size_t i = 0; i < c->spec->n_spread; i++) out->replicas[i] = fleet_replicas(q, slot, i);
  for (size_t i = 0; i < c->n_matched; i++) {
    const struct fleet_rule *r = c->matched[i];
    if (r->all_holders > 0 && r->holders[r->level->of[slot]] > 0) out->unwanted_by = "a VM";
  }
  if (c->node_quota) count_tenant(q, slot, out);
  if (q->survives) out->short_places = short_places(q, slot);
}

static bool holds(const struct fleet_class *c, const struct fleet_rule *r) {
  size_t at = 0;
  while (at < c->n_apart && c->apart[at] != r) at++;
  return at < c->n_apart;
}

const char *fleet_unwanted_by(const struct fleet_query *q, uint32_t slot) {
  const struct blx__fleet *f = q->f;
  const struct fleet_vm *least = NULL;
  for (size_t k = 0; k < q->class->n_matched; k++) {
    const struct fleet_rule *r = q->class->matched[k];
    if (r->holders[r->level->of[slot]] == 0) continue;
    for (uint32_t i = 0; i < f->instances_used; i++) {
      const struct fleet_instance *e = &f->instances[i];
      if (e->uid == 0 || e->node == FLEET_NONE || r->level->of[e->node] != r->level->of[slot]) continue;
      const struct fleet_vm *vm = &f->vms[e->vm];
      if (holds(vm->class, r) && (!least || vm->uid < least->uid)) least = vm;
    }
  }
  return least ? least->name : NULL;
}

bool fleet_fits(const struct fleet_query *q, uint32_t slot) {
  const struct fleet_node *n = &q->f->nodes[slot];
  struct blx__placement_around around;
  if (n->view.uid == 0 || !n->usable || q->f->out[slot] != FLEET_IN) return false;
  fleet_around(q, slot, &around);
  return blx__placement_feasible(&n->view, &q->class->need, &around, NULL);
}

void fleet_obstacles(const struct fleet_query *q, uint32_t slot, struct blx__placement_around *around,
                     struct blx__placement_verdict *out) {
  const struct fleet_node *n = &q->f->nodes[slot];
  bool reserved = q->f->out[slot] & FLEET_RESERVED;
  fleet_around(q, slot, around);
  (void)blx__placement_feasible(&n->view, &q->class->need, around, out);
  if (reserved) out->what[BLX_OBSTACLE_CODE_SILENT] = "is kept for an instance that waits for long";
  if (!n->usable) out->what[BLX_OBSTACLE_CODE_SILENT] = n->why_not;
  if (!n->usable || reserved) out->obstacles |= 1u << BLX_OBSTACLE_CODE_SILENT;
  if (q->f->out[slot] & FLEET_BARRED) out->obstacles |= 1u << BLX_OBSTACLE_CODE_BARRED;
}

void fleet_query_own(struct fleet_query *q, uint32_t slot, bool there) {
  const struct blx__fleet *f = q->f;
  BLX__ASSERT(there || f->replicas[slot] > 0);
  f->replicas[slot] += there ? 1 : UINT32_MAX;
  for (size_t k = 0; k < q->n_self; k++) f->self[k].count[f->self[k].level->of[slot]] += there ? 1 : UINT32_MAX;
}

bool fleet_query_fits(struct fleet_query *q, uint32_t slot) {
  struct blx__survive_shape shape = q->demanded ? largest_auto(q) : q->shape;
  if (shape.cpu_milli != q->shape.cpu_milli || shape.memory_mib != q->shape.memory_mib) {
    weigh(q);
    q->unsettled = true;
  }
  return fleet_fits(q, slot);
}

void fleet_query_settle(struct fleet_query *q) {
  if (q->unsettled) weigh(q);
  q->unsettled = false;
}

void fleet_verdict(const struct fleet_query *q, uint32_t slot, struct blx__fleet_verdict *out) {
  const struct fleet_node *n = &q->f->nodes[slot];
  fleet_obstacles(q, slot, &out->around, &out->v);
  out->replicas = q->f->replicas[slot];
  out->avoids = blx__placement_taint(&n->view, &q->class->need, BLX_TAINT_EFFECT_AVOID) != NULL;
  out->cost = fleet_cost(q, slot, out->parts, &out->n_parts);
}

bool blx__fleet_judge(struct blx__fleet *f, const struct blx__fleet_request *request, uint64_t node_uid,
                      struct blx__fleet_verdict *out) {
  struct fleet_query q;
  uint32_t slot = fleet_ids_get(&f->node_ids, node_uid);
  if (slot == FLEET_NONE || !fleet_query_begin(&q, f, request)) return false;
  memset(out, 0, sizeof *out);
  fleet_verdict(&q, slot, out);
  if (out->around.unwanted_by) {
    const char *name = fleet_unwanted_by(&q, slot);
    if (out->v.what[BLX_OBSTACLE_CODE_ANTI_AFFINITY] == out->around.unwanted_by)
      out->v.what[BLX_OBSTACLE_CODE_ANTI_AFFINITY] = name;
    out->around.unwanted_by = name;
  }
  fleet_query_end(&q);
  return true;
}

/* ---- order */

struct fleet_rank fleet_rank(const struct fleet_query *q, uint32_t slot) {
  const struct fleet_node *n = &q->f->nodes[slot];
  const struct blx__fleet_request *r = q->request;
  return (struct fleet_rank){
      .avoided = r->avoid_uid != 0 && n->view.uid == r->avoid_uid,
      .not_sticky = r->sticky_uid == 0 || n->view.uid != r->sticky_uid,
      .avoids = blx__placement_taint(&n->view, &q->class->need, BLX_TAINT_EFFECT_AVOID) != NULL,
      .replicas = q->f->replicas[slot],
      .cost = fleet_cost(q, slot, NULL, NULL),
      .hash = n->hash,
      .uid = n->view.uid,
  };
}

bool fleet_ranks_before(const struct fleet_rank *a, const struct fleet_rank *b) {
  if (a->avoided != b->avoided) return b->avoided;
  if (a->not_sticky != b->not_sticky) return b->not_sticky;
  if (a->avoids != b->avoids) return b->avoids;
  if (a->replicas != b->replicas) return a->replicas < b->replicas;
  if (a->cost != b->cost) return a->cost < b->cost;
  if (a->hash != b->hash) return a->hash < b->hash;
  return a->uid < b->uid;
}
