/* Whom to end so that an instance of higher priority fits. */
#include "placement/fleet_int.h"
#include "placement/score.h"

#include <stdlib.h>
#include <string.h>

/* What a node would lose; compared field by field, the lower wins. */
struct loss {
  uint64_t highest, sum, n, cost, hash, uid;
};

struct victim {
  uint64_t priority, uid;
  uint32_t instance;
};

struct search {
  struct fleet_query *q;
  struct victim *all; /* room for the instances of any node */
  size_t n_ending, n; /* those that end anyway, then those that may be ended */
};

static bool loses_less(const struct loss *a, const struct loss *b) {
  if (a->highest != b->highest) return a->highest < b->highest;
  if (a->sum != b->sum) return a->sum < b->sum;
  if (a->n != b->n) return a->n < b->n;
  if (a->cost != b->cost) return a->cost < b->cost;
  if (a->hash != b->hash) return a->hash < b->hash;
  return a->uid < b->uid;
}

/* The most important first, and the one that was there first. */
static int importance(const void *left, const void *right) {
  const struct victim *a = left, *b = right;
  if (a->priority != b->priority) return a->priority > b->priority ? -1 : 1;
  return a->uid < b->uid ? -1 : a->uid > b->uid;
}

static void take_away(struct search *s, const struct victim *v) {
  struct blx__fleet *f = s->q->f;
  if (&f->vms[f->instances[v->instance].vm] == s->q->vm) fleet_query_own(s->q, f->instances[v->instance].node, false);
  fleet_detach(f, v->instance);
}

static void bring_back(struct search *s, const struct victim *v, uint32_t slot) {
  struct blx__fleet *f = s->q->f;
  fleet_attach(f, v->instance, slot);
  if (&f->vms[f->instances[v->instance].vm] == s->q->vm) fleet_query_own(s->q, slot, true);
}

static bool may_be_ended(const struct fleet_class *c, uint32_t priority) {
  bool preemptible = !c->spec->has_preemptible || c->spec->preemptible;
  return preemptible && c->spec->priority < priority;
}

static void list_victims(struct search *s, uint32_t slot) {
  const struct blx__fleet *f = s->q->f;
  s->n = s->n_ending = 0;
  for (int ending = 1; ending >= 0; ending--) {
    for (uint32_t i = f->nodes[slot].first; i != FLEET_NONE; i = f->instances[i].next_on_node) {
      const struct fleet_class *c = f->vms[f->instances[i].vm].class;
      if (f->terms[i].ending != (ending == 1)) continue;
      if (!ending && !may_be_ended(c, s->q->class->spec->priority)) continue;
      s->all[s->n++] = (struct victim){.priority = c->spec->priority, .uid = f->instances[i].uid, .instance = i};
    }
    if (ending) s->n_ending = s->n;
  }
  qsort(s->all + s->n_ending, s->n - s->n_ending, sizeof *s->all, importance);
}

/* Those that must go stand in @out; all are away, and come back in the end. */
static bool choose_victims(struct search *s, uint32_t slot, struct blx__fleet_preemption *out, struct loss *loss) {
  struct blx__fleet *f = s->q->f;
  if (!fleet_query_fits(s->q, slot)) return false;
  *out = (struct blx__fleet_preemption){.node_uid = f->nodes[slot].view.uid};
  *loss = (struct loss){.hash = f->nodes[slot].hash, .uid = out->node_uid};
  for (size_t i = s->n_ending; i < s->n; i++) {
    const struct victim *v = &s->all[i];
    bring_back(s, v, slot);
    if (fleet_query_fits(s->q, slot)) continue;
    take_away(s, v);
    if (out->n == BLX__FLEET_VICTIMS_MAX) return false;
    out->victims[out->n] = v->uid;
    out->epochs[out->n++] = f->terms[v->instance].epoch;
    loss->highest = loss->highest > v->priority + 1 ? loss->highest : v->priority + 1;
    loss->sum += v->priority;
  }
  loss->n = out->n;
  loss->cost = fleet_cost(s->q, slot, NULL, NULL);
  return true;
}

static bool consider(struct search *s, uint32_t slot, struct blx__fleet_preemption *out, struct loss *loss) {
  struct blx__fleet *f = s->q->f;
  const struct fleet_node *n = &f->nodes[slot];
  if (n->view.uid == 0 || !n->usable || f->out[slot] != FLEET_IN || !blx__placement_suits(&n->view, &s->q->class->need))
    return false;
  list_victims(s, slot);
  for (size_t i = 0; i < s->n; i++) take_away(s, &s->all[i]);
  bool found = choose_victims(s, slot, out, loss);
  for (size_t i = 0; i < s->n; i++)
    if (f->instances[s->all[i].instance].node == FLEET_NONE) bring_back(s, &s->all[i], slot);
  fleet_query_settle(s->q);
  return found;
}

bool blx__fleet_preempt(struct blx__fleet *f, const struct blx__fleet_request *request,
                        struct blx__fleet_preemption *out) {
  struct fleet_query q;
  struct search s = {.q = &q};
  struct loss best = {.uid = 0}, loss = {.uid = 0};
  struct blx__fleet_preemption found;
  uint32_t most = 1;
  if (!fleet_query_begin(&q, f, request)) return false;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) most = f->nodes[slot].n > most ? f->nodes[slot].n : most;
  s.all = malloc(most * sizeof *s.all);
  for (uint32_t slot = 0; s.all && slot < f->nodes_used; slot++) {
    if (!consider(&s, slot, &found, &loss)) continue;
    if (best.uid != 0 && !loses_less(&loss, &best)) continue;
    best = loss;
    *out = found;
  }
  free(s.all);
  fleet_query_end(&q);
  return best.uid != 0;
}
