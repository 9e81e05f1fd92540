/* The best node for an instance, found in the index. */
#include "placement/index.h"
#include "placement/score.h"

/* The best found so far; a place is its node's rank among equal costs. */
struct pick {
  uint64_t cost;
  uint32_t place; /* FLEET_NONE: none */
};

struct hunt {
  const struct fleet_query *q;
  const struct fleet_bits *bits;
  struct fleet_costs costs;
  struct fleet_tree *tree;
  bool avoids; /* among the nodes with an Avoid taint that is not tolerated, or among the others */
  struct pick best;
};

/* Everything but room, which the cost says; without replicas of the VM. */
static bool may_take(const struct hunt *h, uint32_t place) {
  const struct fleet_query *q = h->q;
  const struct blx__fleet *f = q->f;
  uint32_t slot = f->index->slot_at[place];
  if (!fleet_bit(h->bits->suits, place) || fleet_bit(h->bits->avoids, place) != h->avoids) return false;
  if (f->out[slot] != FLEET_IN || f->replicas[slot] > 0 || f->nodes[slot].view.uid == q->request->avoid_uid)
    return false;
  if (!q->others) return true;
  struct blx__placement_around around;
  fleet_around(q, slot, &around);
  return blx__placement_agrees(&q->class->need, &around);
}

static uint64_t whole_cost(const struct hunt *h, uint32_t place, int32_t alone) {
  uint32_t slot = h->q->f->index->slot_at[place];
  if (h->q->class->proximity) return fleet_cost(h->q, slot, NULL, NULL);
  return (uint64_t)alone + (h->q->class->moves ? fleet_cost_around(h->q, slot) : 0);
}

static void consider(struct hunt *h, uint32_t place, int32_t alone) {
  uint64_t cost = whole_cost(h, place, alone);
  bool better = cost < h->best.cost || (cost == h->best.cost && place < h->best.place);
  if ((h->best.place == FLEET_NONE || better) && may_take(h, place)) h->best = (struct pick){cost, place};
}

/* ---- all nodes that suit it */

static void scan(struct hunt *h) {
  uint32_t n = h->q->f->index->n, places[64];
  int32_t alone[64];
  for (uint32_t word = 0; word < (n + 63) / 64; word++) {
    size_t found = 0;
    for (uint64_t left = h->bits->suits[word]; left != 0; left &= left - 1)
      places[found++] = word * 64 + (uint32_t)__builtin_ctzll(left);
    fleet_costs_of(&h->costs, places, found, alone);
    for (size_t i = 0; i < found; i++) {
      if (alone[i] == FLEET_FULL || (h->best.place != FLEET_NONE && (uint64_t)alone[i] > h->best.cost)) continue;
      consider(h, places[i], alone[i]);
    }
  }
}

/* ---- the cheapest first */

static void push(struct fleet_next *heap, uint32_t *n, struct fleet_next e) {
  uint32_t at = (*n)++;
  for (; at > 0 && heap[(at - 1) / 2].key > e.key; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = e;
}

static struct fleet_next pop(struct fleet_next *heap, uint32_t *n) {
  struct fleet_next first = heap[0], last = heap[--*n];
  uint32_t at = 0;
  for (uint32_t child; (child = at * 2 + 1) < *n; at = child) {
    if (child + 1 < *n && heap[child + 1].key < heap[child].key) child++;
    if (heap[child].key >= last.key) break;
    heap[at] = heap[child];
  }
  heap[at] = last;
  return first;
}

/* What is below what was taken from the heap. */
static void push_below(const struct hunt *h, uint32_t *n, uint32_t level, uint32_t at) {
  uint64_t keys[FLEET_FAN];
  const uint64_t *below = level > 1 ? &h->tree->least[level - 2][at * FLEET_FAN] : keys;
  if (level == 1) fleet_tree_group(&h->costs, h->tree, at, keys);
  for (uint32_t i = 0; i < FLEET_FAN; i++)
    if (below[i] != FLEET_KEY_FULL)
      push(h->q->f->index->heap, n, (struct fleet_next){below[i], at * FLEET_FAN + i, level - 1});
}

/* After the first of a room's nodes the next. */
static void push_beside(const struct hunt *h, uint32_t *n, struct fleet_next e) {
  uint32_t next = h->costs.by_room ? fleet_rooms_next(&h->q->f->index->rooms, fleet_key_place(e.key)) : FLEET_NONE;
  if (next == FLEET_NONE) return;
  e.key = fleet_key(fleet_key_cost(e.key), next, e.at);
  push(h->q->f->index->heap, n, e);
}

/* Best first (as a priority search tree is read: McCreight, 1985). False: too many were in vain. */
static bool walk(struct hunt *h) {
  struct fleet_index *x = h->q->f->index;
  uint32_t n = 0, most = 32 + x->n / 64;
  push_below(h, &n, FLEET_TREE_LEVELS + 1, 0);
  while (n > 0) {
    struct fleet_next e = pop(x->heap, &n);
    if (h->best.place != FLEET_NONE && (uint64_t)fleet_key_cost(e.key) > h->best.cost) return true;
    if (e.level > 0) {
      push_below(h, &n, e.level, e.at);
      continue;
    }
    consider(h, fleet_key_place(e.key), fleet_key_cost(e.key));
    if (h->best.place != FLEET_NONE && !h->q->class->moves) return true;
    if (most-- == 0) return false;
    push_beside(h, &n, e);
  }
  return true;
}

/* Nodes without a replica of the VM. */
static bool hunt_fresh(struct hunt *h) {
  uint64_t n = h->q->f->index->n, suits = h->bits->n_suits;
  h->best.place = FLEET_NONE;
  if (h->avoids ? h->bits->n_avoids == 0 : suits == h->bits->n_avoids) return false;
  if (suits * suits < 8 * n) {
    scan(h);
    return h->best.place != FLEET_NONE;
  }
  if (!h->q->class->moves) {
    uint64_t first = fleet_tree_cheapest(&h->costs, h->tree);
    if (first == FLEET_KEY_FULL) return false;
    consider(h, fleet_key_place(first), fleet_key_cost(first));
  }
  if (h->best.place == FLEET_NONE && !walk(h)) scan(h);
  return h->best.place != FLEET_NONE;
}

/* ---- in the order of rank */

static void note_if_better(const struct fleet_query *q, uint32_t slot, struct fleet_rank *best) {
  if (!fleet_fits(q, slot)) return;
  struct fleet_rank rank = fleet_rank(q, slot);
  if (best->uid == 0 || fleet_ranks_before(&rank, best)) *best = rank;
}

/* Nodes with replicas of the VM: those where its instances are. */
static bool hunt_among_replicas(const struct hunt *h, struct fleet_rank *best) {
  const struct fleet_query *q = h->q;
  const struct blx__fleet *f = q->f;
  for (uint32_t i = q->vm->first; i != FLEET_NONE; i = f->instances[i].next_of_vm) {
    uint32_t slot = f->instances[i].node;
    if (f->nodes[slot].view.uid == q->request->avoid_uid) continue;
    if (fleet_bit(h->bits->avoids, f->index->place_of[slot]) == h->avoids) note_if_better(q, slot, best);
  }
  for (size_t i = 0; i < q->request->n_replicas; i++) {
    uint32_t slot = fleet_ids_get(&f->node_ids, q->request->replicas[i]);
    if (slot == FLEET_NONE || f->nodes[slot].view.uid == q->request->avoid_uid) continue;
    if (fleet_bit(h->bits->avoids, f->index->place_of[slot]) == h->avoids) note_if_better(q, slot, best);
  }
  return best->uid != 0;
}

static void find_best(const struct fleet_query *q, struct fleet_rank *best) {
  const struct blx__fleet_request *r = q->request;
  uint32_t sticky = r->sticky_uid == r->avoid_uid ? FLEET_NONE : fleet_ids_get(&q->f->node_ids, r->sticky_uid);
  uint32_t avoid = fleet_ids_get(&q->f->node_ids, r->avoid_uid);
  if (sticky != FLEET_NONE) note_if_better(q, sticky, best);
  if (best->uid != 0 || q->f->node_ids.count == 0) return;
  struct hunt h = {.q = q, .bits = fleet_bits_of(q)};
  h.tree = fleet_tree_of(q, h.bits, &h.costs);
  for (int avoids = 0; avoids <= 1; avoids++) {
    h.avoids = avoids == 1;
    if (hunt_fresh(&h)) {
      *best = fleet_rank(q, q->f->index->slot_at[h.best.place]);
      BLX__ASSERT(best->cost == h.best.cost);
      return;
    }
    if (hunt_among_replicas(&h, best)) return;
  }
  if (avoid != FLEET_NONE) note_if_better(q, avoid, best);
}

bool blx__fleet_choose(struct blx__fleet *f, const struct blx__fleet_request *request, struct blx__fleet_choice *out) {
  struct fleet_query q;
  struct fleet_rank best = {.uid = 0};
  if (!fleet_query_begin(&q, f, request)) return false;
  find_best(&q, &best);
  fleet_query_end(&q);
  if (best.uid == 0) return false;
  *out = (struct blx__fleet_choice){.node_uid = best.uid, .cost = best.cost, .replicas = best.replicas};
  return true;
}
