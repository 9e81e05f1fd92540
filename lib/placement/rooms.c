/* Nodes with the same room: BestFit goes by what of a node is free, and whether that is all of it, so that they cost
 * the same whatever is asked for. A tree of a shape is over rooms, then, not over nodes: the larger a fleet, the more
 * of its nodes are alike. The places of a room stand in a treap (Seidel and Aragon, 1996), whose form follows from
 * which they are. */
#include "base/digest.h"
#include "placement/index.h"

#include <stdlib.h>

/* Of nodes that take nothing new, or have no processors or no memory free: it holds nothing, and no tree finds it. */
enum { NO_ROOM = 0 };

bool fleet_rooms_new(struct fleet_rooms *r, uint32_t nodes_max) {
  size_t rooms = (size_t)nodes_max + 1;
  r->of = malloc(rooms * sizeof *r->of);
  r->at = calloc(rooms, sizeof *r->at);
  r->first = malloc(rooms * sizeof *r->first);
  r->places = malloc(nodes_max * sizeof *r->places);
  fleet_ids_of(&r->by_key, r->at, sizeof *r->at);
  return r->of && r->at && r->first && r->places && fleet_log_new(&r->log, nodes_max + 1) &&
         fleet_ids_reserve(&r->by_key, nodes_max);
}

void fleet_rooms_free(struct fleet_rooms *r) {
  free(r->of);
  free(r->at);
  free(r->first);
  free(r->places);
  fleet_log_free(&r->log);
  fleet_ids_free(&r->by_key);
}

size_t fleet_rooms_bytes(const struct fleet_rooms *r, uint32_t nodes_max) {
  size_t rooms = (size_t)nodes_max + 1;
  return rooms * (sizeof *r->of + sizeof *r->at + sizeof *r->first) + nodes_max * sizeof *r->places +
         fleet_log_bytes(&r->log, nodes_max + 1) + r->by_key.room * sizeof *r->by_key.at;
}

/* ---- the places of a room */

static bool above(uint32_t a, uint32_t b) {
  return blx__mix64(a) > blx__mix64(b);
}

/* On the way down the places below @place are divided: those left of it, those right of it. */
static void put_in(struct fleet_place *all, uint32_t *at, uint32_t place) {
  while (*at != FLEET_NONE && above(*at, place)) at = place < *at ? &all[*at].left : &all[*at].right;
  uint32_t below = *at, *lower = &all[place].left, *higher = &all[place].right;
  *at = place;
  while (below != FLEET_NONE) {
    if (below < place) {
      *lower = below;
      lower = &all[below].right;
      below = *lower;
    } else {
      *higher = below;
      higher = &all[below].left;
      below = *higher;
    }
  }
  *lower = *higher = FLEET_NONE;
}

static void take_out(struct fleet_place *all, uint32_t *at, uint32_t place) {
  while (*at != place) at = place < *at ? &all[*at].left : &all[*at].right;
  uint32_t lower = all[place].left, higher = all[place].right;
  while (lower != FLEET_NONE && higher != FLEET_NONE) {
    if (above(lower, higher)) {
      *at = lower;
      at = &all[lower].right;
      lower = *at;
    } else {
      *at = higher;
      at = &all[higher].left;
      higher = *at;
    }
  }
  *at = lower != FLEET_NONE ? lower : higher;
}

uint32_t fleet_rooms_next(const struct fleet_rooms *r, uint32_t place) {
  uint32_t next = FLEET_NONE;
  for (uint32_t at = r->at[r->places[place].room].root; at != FLEET_NONE;) {
    if (at > place) next = at;
    at = at > place ? r->places[at].left : r->places[at].right;
  }
  return next;
}

static uint32_t leftmost(const struct fleet_rooms *r, uint32_t root) {
  while (r->places[root].left != FLEET_NONE) root = r->places[root].left;
  return root;
}

/* ---- rooms */

static bool takes_new(const struct fleet_node *n) {
  return n->usable && !n->view.cordoned && !n->view.fenced;
}

static uint32_t at_most(uint64_t amount, uint32_t most) {
  return amount < most ? (uint32_t)amount : most;
}

/* What is free, and whether that is all. */
static uint64_t key_of(const struct fleet_gauge *g) {
  struct blx__fit_node n = fleet_fit_node(g);
  uint64_t cpu = at_most(n.free_cpu_milli, INT32_MAX), memory = at_most(n.free_memory_mib, UINT32_MAX);
  bool all = n.free_cpu_milli == n.cpu_milli && n.free_memory_mib == n.memory_mib;
  return cpu > 0 && memory > 0 ? cpu << 33 | memory << 1 | all : NO_ROOM;
}

static struct blx__fit_room room_with(const struct blx__fit *fit, uint64_t key) {
  uint32_t cpu = (uint32_t)(key >> 33), memory = (uint32_t)(key >> 1), taken = !(key & 1);
  struct blx__fit_node n = {cpu + (uint64_t)taken, memory, cpu, memory};
  return fit ? blx__fit_room_of(fit, &n) : (struct blx__fit_room){.cpu_milli = cpu, .memory_mib = memory};
}

static uint32_t room_for(struct blx__fleet *f, uint64_t key) {
  struct fleet_rooms *r = &f->index->rooms;
  uint32_t room = key == NO_ROOM ? NO_ROOM : fleet_ids_get(&r->by_key, key);
  if (room != FLEET_NONE) return room;
  room = r->spare;
  if (room != FLEET_NONE)
    r->spare = r->at[room].root;
  else
    room = r->n++;
  r->of[room] = room_with(fleet_fit(f), key);
  r->at[room] = (struct fleet_room){.key = key, .root = FLEET_NONE};
  r->first[room] = FLEET_NONE;
  bool set = fleet_ids_set(&r->by_key, key, room);
  BLX__ASSERT(set); /* there is for all */
  return room;
}

static void join(struct fleet_rooms *r, uint32_t room, uint32_t place) {
  struct fleet_room *e = &r->at[room];
  r->places[place].room = room;
  if (room == NO_ROOM) return;
  put_in(r->places, &e->root, place);
  if (r->first[room] < place) return;
  r->first[room] = place;
  fleet_log_note(&r->log, room);
}

static void leave(struct fleet_rooms *r, uint32_t place) {
  uint32_t room = r->places[place].room;
  struct fleet_room *e = &r->at[room];
  if (room == NO_ROOM) return;
  take_out(r->places, &e->root, place);
  if (r->first[room] != place) return;
  fleet_log_note(&r->log, room);
  if (e->root != FLEET_NONE) {
    r->first[room] = leftmost(r, e->root);
    return;
  }
  fleet_ids_remove(&r->by_key, e->key);
  r->of[room] = (struct blx__fit_room){.cpu_milli = 0};
  *e = (struct fleet_room){.root = r->spare};
  r->first[room] = FLEET_NONE;
  r->spare = room;
}

void fleet_rooms_told(struct blx__fleet *f, uint32_t place) {
  struct fleet_rooms *r = &f->index->rooms;
  struct fleet_place *p = &r->places[place];
  bool takes = takes_new(&f->nodes[f->index->slot_at[place]]);
  r->n_open += takes;
  r->n_open -= p->open;
  p->open = takes;
}

void fleet_rooms_note(struct blx__fleet *f, uint32_t place) {
  struct fleet_rooms *r = &f->index->rooms;
  struct fleet_place *p = &r->places[place];
  uint64_t key = p->open ? key_of(&f->index->gauge[place]) : NO_ROOM;
  if (r->at[p->room].key == key) return;
  leave(r, place);
  join(r, room_for(f, key), place);
}

void fleet_rooms_build(struct blx__fleet *f) {
  struct fleet_rooms *r = &f->index->rooms;
  fleet_ids_clear(&r->by_key);
  r->of[NO_ROOM] = (struct blx__fit_room){.cpu_milli = 0};
  r->at[NO_ROOM] = (struct fleet_room){.key = NO_ROOM, .root = FLEET_NONE};
  r->first[NO_ROOM] = FLEET_NONE;
  r->n = NO_ROOM + 1;
  r->n_open = 0;
  r->spare = FLEET_NONE;
  r->epoch = f->index->epoch;
  for (uint32_t place = 0; place < f->index->n; place++) {
    r->places[place] = (struct fleet_place){.room = NO_ROOM};
    fleet_rooms_told(f, place);
    fleet_rooms_note(f, place);
  }
}

void fleet_rooms_price(struct blx__fleet *f) {
  struct fleet_rooms *r = &f->index->rooms;
  if (r->epoch == f->index->epoch) return;
  for (uint32_t room = NO_ROOM + 1; room < r->n; room++)
    if (r->first[room] != FLEET_NONE) r->of[room] = room_with(fleet_fit(f), r->at[room].key);
  r->epoch = f->index->epoch;
}
