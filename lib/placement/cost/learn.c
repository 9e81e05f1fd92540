/* What BestFit goes by: the shapes that came, and the fleet's free room at the last refresh. */
#include "placement/index.h"

#include <stdlib.h>
#include <string.h>

enum {
  KNOWN_MAX = 4096, /* different shapes that are counted; later ones are not */
  EVERY = 1024,     /* the histogram is taken over at 1, 2, 4 .. so many, then after each half more */
  NODES_SHARE = 12, /* the room after a twelfth of the nodes' number, */
  REFRESH_MIN = 16, /* at least so many */
  COUNT_BITS = 3,   /* of a count that is told: so that the waste is computed anew seldom */
  LARGE_CPU = 1024, /* cells, of a fleet that learns; */
  LARGE_MEMORY = 128,
  SMALL_CPU = 256, /* of one that is told, by a leader that has no time to lose */
  SMALL_MEMORY = 64,
};

struct fleet_learn {
  struct blx__fit *fit;
  struct blx__fit_node *nodes;           /* nodes_max, for a refresh */
  struct blx__fit_shape *known, *sorted; /* room each; known: of a fleet that counts itself */
  size_t n_known, room;
  uint64_t seen, next_shapes, next_room;
};

struct fleet_learn *fleet_learn_new(const struct blx__fleet_options *o) {
  struct fleet_learn *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  l->fit = o->learns ? blx__fit_new(LARGE_CPU, LARGE_MEMORY) : blx__fit_new(SMALL_CPU, SMALL_MEMORY);
  l->nodes = calloc(o->nodes_max, sizeof *l->nodes);
  l->room = o->learns ? KNOWN_MAX : BLX__FLEET_SHAPES_MAX;
  l->sorted = calloc(l->room, sizeof *l->sorted);
  if (o->learns) l->known = calloc(l->room, sizeof *l->known);
  l->next_shapes = l->next_room = 1;
  if (l->fit && l->nodes && l->sorted && (l->known || !o->learns)) return l;
  fleet_learn_free(l);
  return NULL;
}

void fleet_learn_free(struct fleet_learn *l) {
  if (!l) return;
  blx__fit_free(l->fit);
  free(l->nodes);
  free(l->known);
  free(l->sorted);
  free(l);
}

size_t fleet_learn_bytes(const struct blx__fleet *f) {
  const struct fleet_learn *l = f->learn;
  if (!l) return 0;
  size_t lists = l->known ? 2 : 1;
  return sizeof *l + blx__fit_bytes(l->fit) + f->options.nodes_max * sizeof *l->nodes +
         lists * l->room * sizeof *l->sorted;
}

const struct blx__fit *fleet_fit(const struct blx__fleet *f) {
  return f->learn && blx__fit_ready(f->learn->fit) ? f->learn->fit : NULL;
}

void blx__fleet_refresh(struct blx__fleet *f) {
  struct fleet_learn *l = f->learn;
  if (!l) return;
  fleet_index_order(f);
  for (uint32_t at = 0; at < f->index->n; at++) l->nodes[at] = fleet_fit_node(&f->index->gauge[at]);
  (void)blx__fit_refresh(l->fit, l->nodes, f->index->n);
  f->index->epoch++;
}

/* ---- told */

static uint64_t rounded(uint64_t count) {
  unsigned shift = 0;
  while (count >> shift >= 1u << COUNT_BITS) shift++;
  return count >> shift << shift;
}

blx__rc blx__fleet_shapes(struct blx__fleet *f, const struct blx__fleet_shape *shapes, size_t n, blx_error *err) {
  if (n > BLX__FLEET_SHAPES_MAX)
    return blx__fail(err, BLX_E_INVALID, "placement", "%zu shapes are more than %d", n, BLX__FLEET_SHAPES_MAX);
  if (!f->learn) f->learn = fleet_learn_new(&f->options);
  if (!f->learn) return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for shapes");
  for (size_t i = 0; i < n; i++)
    f->learn->sorted[i] = (struct blx__fit_shape){shapes[i].cpu_milli, shapes[i].memory_mib, rounded(shapes[i].count)};
  blx__fit_learn(f->learn->fit, f->learn->sorted, n);
  blx__fleet_refresh(f);
  return BLX__OK;
}

/* ---- counted */

static void count(struct fleet_learn *l, const struct fleet_class *c) {
  size_t i = 0;
  while (i < l->n_known && (l->known[i].cpu_milli != c->need.cpu_milli || l->known[i].memory_mib != c->need.memory_mib))
    i++;
  if (i == l->room) return;
  if (i == l->n_known) l->known[l->n_known++] = (struct blx__fit_shape){c->need.cpu_milli, c->need.memory_mib, 0};
  l->known[i].count++;
}

void fleet_arrived(struct blx__fleet *f, const struct fleet_class *c) {
  struct fleet_learn *l = f->learn;
  uint64_t every = f->node_ids.count / NODES_SHARE;
  if (!f->options.learns) return;
  BLX__ASSERT(l != NULL);
  if (every < REFRESH_MIN) every = REFRESH_MIN;
  count(l, c);
  l->seen++;
  if (l->seen >= l->next_shapes) {
    memcpy(l->sorted, l->known, l->n_known * sizeof *l->known);
    blx__fit_learn(l->fit, l->sorted, l->n_known);
    l->next_shapes = l->seen < EVERY ? l->seen * 2 : l->seen + (l->seen / 2 > EVERY ? l->seen / 2 : EVERY);
    l->next_room = l->seen;
  }
  if (l->seen < l->next_room) return;
  blx__fleet_refresh(f);
  l->next_room = l->seen < every ? l->seen * 2 : l->seen + every;
}

void blx__fleet_arrived(struct blx__fleet *f, uint64_t vm_uid) {
  uint32_t slot = fleet_ids_get(&f->vm_ids, vm_uid);
  if (slot != FLEET_NONE) fleet_arrived(f, f->vms[slot].class);
}
