#include "placement/fit.h"
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

enum {
  BEST_MAX = 8,       /* candidates kept per cell of the waste table */
  ONE = 4096,         /* one cell of processors, in the unit of the potential */
  CHUNK = 256,        /* rooms, of which is told first which hold a request */
  RECENT = 64,        /* capacities noted last, by which most nodes are known at once */
  HORIZON_SHARE = 12, /* demand looks ahead over 1/12 of what the fleet can take */
  HORIZON_MAX = 1 << 24,
  MEMORY_WORTH_MAX = 1 << 22, /* where next to no node has memory: then a cell is worth below 2^31 */
  /* Tuned together, on traces and planted instances; in 256ths where not said otherwise. */
  CHOICES_LOG2 = 4, /* a power of two of requests */
  PRICE = 128,      /* room against waste */
  PRIOR = 256,      /* requests that a capacity class counts for */
  MEMORY = 48,      /* memory against processors, both as shares of the fleet */
  RESERVE = 20,     /* places: below it the price grows with the square of reserve / places; a whole number */
  OPENING = 96,     /* per cell of processors that the machine is smaller than the largest */
};
#define PRICE_MAX (UINT64_C(1) << 30)
#define POTENTIAL_MAX (INT64_C(1) << 40)
#define CHANCE_ONE (UINT64_C(1) << 31)

struct axis {
  uint64_t unit, recip, top; /* what a cell holds, 0: nothing is known yet; 2^40 / unit; of the last cell */
  uint64_t last;             /* cell */
};

struct grid {
  struct axis cpu, memory;
};

struct blx__fit {
  uint32_t cpu_cells, memory_cells;
  struct grid grid;
  uint64_t fleet_cpu;   /* sum of the capacities */
  int64_t memory_worth; /* of one cell of memory, in the unit of the potential */
  int64_t opening;      /* per cell of processors */
  size_t n_shapes, n_classes;
  struct blx__fit_shape shapes[BLX__FIT_SHAPES_MAX], classes[BLX__FIT_CLASSES_MAX];
  bool ready, stale;  /* stale: the waste is of other shapes or units */
  int64_t *potential; /* per cell */
  int32_t *waste;     /* at most what the cell is worth, which is below 2^31 */
  uint32_t *places;   /* nodes with at least that much free */
};

struct blx__fit *blx__fit_new(uint32_t cpu_cells, uint32_t memory_cells) {
  size_t cells = (size_t)cpu_cells * memory_cells;
  struct blx__fit *m = calloc(1, sizeof *m);
  BLX__ASSERT(cpu_cells > 1 && memory_cells > 1);
  if (!m) return NULL;
  m->cpu_cells = cpu_cells;
  m->memory_cells = memory_cells;
  m->waste = calloc(cells, sizeof *m->waste);
  m->potential = calloc(cells, sizeof *m->potential);
  m->places = calloc(cells, sizeof *m->places);
  if (m->waste && m->potential && m->places) return m;
  blx__fit_free(m);
  return NULL;
}

void blx__fit_free(struct blx__fit *m) {
  if (!m) return;
  free(m->waste);
  free(m->potential);
  free(m->places);
  free(m);
}

size_t blx__fit_bytes(const struct blx__fit *m) {
  size_t cell = sizeof(*m->potential) + sizeof(*m->waste) + sizeof(*m->places);
  return m ? sizeof *m + (size_t)m->cpu_cells * m->memory_cells * cell : 0;
}

bool blx__fit_ready(const struct blx__fit *m) {
  return m && m->ready;
}

/* ---- cells */

/* The nearest cell, for capacities and shapes alike, so that what fits exactly fits in cells too. */
static inline uint32_t cell_of(const struct axis *a, uint64_t amount) {
  uint64_t cell = ((amount + a->unit / 2) * a->recip) >> 40;
  return (uint32_t)(amount < a->top ? cell : a->last);
}

static uint32_t cpu_cell(const struct blx__fit *m, uint64_t cpu_milli) {
  return cell_of(&m->grid.cpu, cpu_milli);
}

static uint32_t memory_cell(const struct blx__fit *m, uint64_t memory_mib) {
  return cell_of(&m->grid.memory, memory_mib);
}

static size_t at(const struct blx__fit *m, uint32_t cpu, uint32_t memory) {
  BLX__ASSERT(cpu < m->cpu_cells && memory < m->memory_cells);
  return (size_t)cpu * m->memory_cells + memory;
}

static int64_t worth(const struct blx__fit *m, uint32_t cpu_cells, uint32_t memory_cells) {
  return (int64_t)cpu_cells * ONE + memory_cells * m->memory_worth;
}

/* ---- a cost */

/* Exact below 2^18; above, 2^15 steps for each doubling. */
static inline uint64_t squeeze(uint64_t score) {
  if (score < UINT64_C(1) << 18) return score;
  unsigned log2 = 63 - (unsigned)__builtin_clzll(score);
  uint64_t cost = (UINT64_C(1) << 18) + ((uint64_t)(log2 - 18) << 15) + ((score >> (log2 - 15)) & 0x7fff);
  return cost < BLX__FIT_COST_MAX ? cost : BLX__FIT_COST_MAX;
}

static uint32_t in_32_bits(uint64_t amount) {
  return amount < UINT32_MAX ? (uint32_t)amount : UINT32_MAX;
}

struct blx__fit_room blx__fit_room_of(const struct blx__fit *m, const struct blx__fit_node *node) {
  bool empty = node->free_cpu_milli == node->cpu_milli && node->free_memory_mib == node->memory_mib;
  struct blx__fit_room room = {.cpu_milli = in_32_bits(node->free_cpu_milli),
                               .memory_mib = in_32_bits(node->free_memory_mib)};
  BLX__ASSERT(m->ready);
  if (empty) room.before = m->opening * (int64_t)(m->cpu_cells - 1 - cpu_cell(m, node->cpu_milli));
  room.before -= m->potential[at(m, cpu_cell(m, room.cpu_milli), memory_cell(m, room.memory_mib))];
  return room;
}

struct blx__fit_ask blx__fit_ask_of(const struct blx__fit *m, uint64_t cpu_milli, uint64_t memory_mib) {
  /* Seldom below 0: what the request fills was hardly wasted by more than twice its size. */
  return (struct blx__fit_ask){
      .cpu_milli = cpu_milli,
      .memory_mib = memory_mib,
      .size = 2 * worth(m, cpu_cell(m, cpu_milli) + 1, memory_cell(m, memory_mib) + 1),
  };
}

static bool holds(const struct blx__fit_room *room, const struct blx__fit_ask *ask) {
  return (room->cpu_milli >= ask->cpu_milli) & (room->memory_mib >= ask->memory_mib);
}

/* Of a room that holds it. @grid: a copy, which no write to costs can change, so that it stays in registers. */
static inline int64_t score_in(const struct grid *grid, const int64_t *potential, const struct blx__fit_room *room,
                               const struct blx__fit_ask *ask) {
  uint32_t cpu = cell_of(&grid->cpu, room->cpu_milli - ask->cpu_milli);
  uint32_t memory = cell_of(&grid->memory, room->memory_mib - ask->memory_mib);
  return potential[(size_t)cpu * (grid->memory.last + 1) + memory] + room->before + ask->size;
}

static inline int32_t cost_of(int64_t score) {
  return score > 0 ? (int32_t)squeeze((uint64_t)score) : 0;
}

/* In chunks: first, without a jump, which rooms hold it, for that is in no order; then these alone. */
void blx__fit_least(const struct blx__fit *m, const struct blx__fit_room *rooms, size_t n,
                    const struct blx__fit_ask *ask, int32_t *out) {
  const struct grid grid = m->grid;
  const struct blx__fit_ask asked = *ask;
  const int64_t *potential = m->potential;
  uint16_t which[CHUNK];
  BLX__ASSERT(m->ready);
  for (size_t left = n, some; left > 0; left -= some, rooms += some) {
    int64_t least[CHUNK / BLX__FIT_GROUP];
    size_t found = 0;
    some = left < CHUNK ? left : CHUNK;
    for (size_t i = 0; i < CHUNK / BLX__FIT_GROUP; i++) least[i] = INT64_MAX;
    for (size_t i = 0; i < some; i++) {
      which[found] = (uint16_t)i;
      found += holds(&rooms[i], &asked);
    }
    for (size_t i = 0; i < found; i++) {
      int64_t score = score_in(&grid, potential, &rooms[which[i]], &asked), *of = &least[which[i] / BLX__FIT_GROUP];
      *of = score < *of ? score : *of;
    }
    for (size_t i = 0; i < some; i += BLX__FIT_GROUP) {
      int64_t score = least[i / BLX__FIT_GROUP];
      *out++ = score == INT64_MAX ? BLX__FIT_FULL : cost_of(score);
    }
  }
}

void blx__fit_costs(const struct blx__fit *m, const struct blx__fit_room *rooms, const uint32_t *which, size_t n,
                    const struct blx__fit_ask *ask, int32_t *out) {
  const struct grid grid = m->grid;
  const struct blx__fit_ask asked = *ask;
  const int64_t *potential = m->potential;
  uint16_t holding[CHUNK];
  BLX__ASSERT(m->ready);
  for (size_t left = n, some; left > 0; left -= some, which += some, out += some) {
    size_t found = 0;
    some = left < CHUNK ? left : CHUNK;
    for (size_t i = 0; i < some; i++) {
      holding[found] = (uint16_t)i;
      found += holds(&rooms[which[i]], &asked);
      out[i] = BLX__FIT_FULL;
    }
    for (size_t i = 0; i < found; i++)
      out[holding[i]] = cost_of(score_in(&grid, potential, &rooms[which[holding[i]]], &asked));
  }
}

uint64_t blx__fit_cost(const struct blx__fit *m, const struct blx__fit_node *node, uint64_t cpu_milli,
                       uint64_t memory_mib) {
  struct blx__fit_room room = blx__fit_room_of(m, node);
  struct blx__fit_ask ask = blx__fit_ask_of(m, cpu_milli, memory_mib);
  if (!holds(&room, &ask)) return BLX__FIT_COST_MAX;
  return (uint64_t)cost_of(score_in(&m->grid, m->potential, &room, &ask));
}

/* ---- waste */

struct step {
  uint32_t cpu, memory; /* cells; cpu >= 1, else a cell would depend on itself */
  uint64_t chance;      /* of CHANCE_ONE */
};

struct candidate {
  int64_t waste;
  uint64_t chance;
};

static uint64_t requests_seen(const struct blx__fit *m) {
  uint64_t total = 0;
  for (size_t s = 0; s < m->n_shapes; s++) total += m->shapes[s].count;
  return total;
}

/* The chance that all choices miss, from the chance that one does. */
static uint64_t all_miss(uint64_t miss) {
  for (uint32_t i = 0; i < CHOICES_LOG2; i++) miss = (miss * miss) >> 31;
  return miss;
}

/* @best is ordered by waste; @nothing: the waste if none of the choices fits. */
static int64_t expected_best(const struct candidate *best, uint32_t n, int64_t nothing) {
  uint64_t miss = CHANCE_ONE, before = miss;
  int64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    miss = miss > best[i].chance ? miss - best[i].chance : 0;
    uint64_t after = all_miss(miss);
    sum += best[i].waste * (int64_t)(before - after) / (int64_t)CHANCE_ONE;
    before = after;
  }
  int64_t rest = n == BEST_MAX ? best[n - 1].waste : nothing;
  return sum + rest * (int64_t)before / (int64_t)CHANCE_ONE;
}

static uint32_t keep_best(struct candidate *best, uint32_t n, struct candidate next) {
  if (n == BEST_MAX && next.waste >= best[n - 1].waste) return n;
  uint32_t i = n < BEST_MAX ? n++ : n - 1;
  for (; i > 0 && best[i - 1].waste > next.waste; i--) best[i] = best[i - 1];
  best[i] = next;
  return n;
}

static int64_t waste_of(const struct blx__fit *m, const struct step *steps, uint32_t cpu, uint32_t memory) {
  struct candidate best[BEST_MAX];
  uint32_t n = 0;
  for (size_t s = 0; s < m->n_shapes; s++) {
    if (steps[s].cpu > cpu || steps[s].memory > memory) continue;
    int64_t left = m->waste[at(m, cpu - steps[s].cpu, memory - steps[s].memory)];
    n = keep_best(best, n, (struct candidate){left, steps[s].chance});
  }
  return expected_best(best, n, worth(m, cpu, memory));
}

static void build_waste(struct blx__fit *m) {
  struct step steps[BLX__FIT_SHAPES_MAX];
  uint64_t total = requests_seen(m);
  BLX__ASSERT(total > 0 && total < UINT64_C(1) << 32);
  for (size_t s = 0; s < m->n_shapes; s++) {
    uint32_t cpu = cpu_cell(m, m->shapes[s].cpu_milli);
    steps[s] =
        (struct step){cpu ? cpu : 1, memory_cell(m, m->shapes[s].memory_mib), (m->shapes[s].count << 31) / total};
  }
  for (uint32_t c = 0; c < m->cpu_cells; c++)
    for (uint32_t g = 0; g < m->memory_cells; g++) m->waste[at(m, c, g)] = (int32_t)waste_of(m, steps, c, g);
  m->stale = false;
}

/* ---- room */

/* Each cell becomes the sum of all at or above it. */
static void sum_from_above(const struct blx__fit *m, uint32_t *t) {
  for (uint32_t c = m->cpu_cells; c-- > 0;)
    for (uint32_t g = m->memory_cells - 1; g-- > 0;) t[at(m, c, g)] += t[at(m, c, g + 1)];
  for (uint32_t c = m->cpu_cells - 1; c-- > 0;)
    for (uint32_t g = 0; g < m->memory_cells; g++) t[at(m, c, g)] += t[at(m, c + 1, g)];
}

/* Each cell becomes the sum of all at or below it. */
static void sum_from_below(const struct blx__fit *m, int64_t *t) {
  for (uint32_t c = 0; c < m->cpu_cells; c++)
    for (uint32_t g = 1; g < m->memory_cells; g++) t[at(m, c, g)] += t[at(m, c, g - 1)];
  for (uint32_t c = 1; c < m->cpu_cells; c++)
    for (uint32_t g = 0; g < m->memory_cells; g++) t[at(m, c, g)] += t[at(m, c - 1, g)];
}

/* The cell that @k of the shape need; false: more than the grid has. A shape below one cell counts as one. */
static bool cell_of_multiple(const struct blx__fit *m, const struct blx__fit_shape *s, uint64_t k, size_t *cell) {
  uint64_t cpu = (s->cpu_milli > m->grid.cpu.unit ? s->cpu_milli : m->grid.cpu.unit) * k, memory = s->memory_mib * k;
  if (cpu > m->grid.cpu.unit * (m->cpu_cells - 1) || memory > m->grid.memory.unit * (m->memory_cells - 1)) return false;
  *cell = at(m, cpu_cell(m, cpu), memory_cell(m, memory));
  return true;
}

/* Add what each place for the shape is worth. @demand in 256ths of a request, at most 2^32. */
static void price_shape(struct blx__fit *m, const struct blx__fit_shape *s, uint64_t demand) {
  size_t cell = 0;
  uint64_t places = 1;
  if (!cell_of_multiple(m, s, 1, &cell)) return;
  uint64_t size = (uint64_t)worth(m, (uint32_t)(cell / m->memory_cells), (uint32_t)(cell % m->memory_cells));
  for (uint64_t k = 1; cell_of_multiple(m, s, k, &cell); k++) places += m->places[cell];
  uint64_t price = (size * demand >> 8) * PRICE / 256 / places;
  if (price > PRICE_MAX) price = PRICE_MAX;
  price += price * RESERVE * RESERVE / (places * places);
  for (uint64_t k = 1; price > 0 && cell_of_multiple(m, s, k, &cell); k++) m->potential[cell] += (int64_t)price;
}

static uint64_t horizon_of(const struct blx__fit *m, uint64_t total) {
  uint64_t asked = 0;
  for (size_t s = 0; s < m->n_shapes; s++) asked += m->shapes[s].count * m->shapes[s].cpu_milli;
  uint64_t horizon = m->fleet_cpu / (asked / total + 1) / HORIZON_SHARE + 1;
  return horizon < HORIZON_MAX ? horizon : HORIZON_MAX;
}

static void build_potential(struct blx__fit *m, const struct blx__fit_node *nodes, size_t n) {
  size_t cells = (size_t)m->cpu_cells * m->memory_cells;
  uint64_t free_cpu = 0, total = requests_seen(m), horizon = horizon_of(m, total);
  memset(m->places, 0, cells * sizeof *m->places);
  memset(m->potential, 0, cells * sizeof *m->potential);
  for (size_t i = 0; i < n; i++) {
    m->places[at(m, cpu_cell(m, nodes[i].free_cpu_milli), memory_cell(m, nodes[i].free_memory_mib))]++;
    free_cpu += nodes[i].free_cpu_milli;
  }
  sum_from_above(m, m->places);
  for (size_t s = 0; s < m->n_shapes; s++)
    price_shape(m, &m->shapes[s], ((m->shapes[s].count << 24) / total) * horizon >> 16);
  for (size_t k = 0; k < m->n_classes; k++) price_shape(m, &m->classes[k], horizon * PRIOR / (total + 1));
  sum_from_below(m, m->potential);
  for (size_t i = 0; i < cells; i++) {
    int64_t p = m->waste[i] - m->potential[i];
    m->potential[i] = p < -POTENTIAL_MAX ? -POTENTIAL_MAX : p;
  }
  /* the share of the fleet that is free, in 256ths: steps, so that it changes rarely */
  m->opening = (int64_t)((uint64_t)ONE * OPENING / 256 * (free_cpu / (m->fleet_cpu / 256 + 1)) / 256);
}

/* ---- taking over */

static int by_count(const void *left, const void *right) {
  const struct blx__fit_shape *a = left, *b = right;
  if (a->count != b->count) return a->count > b->count ? -1 : 1;
  if (a->cpu_milli != b->cpu_milli) return a->cpu_milli > b->cpu_milli ? -1 : 1;
  return a->memory_mib > b->memory_mib ? -1 : a->memory_mib < b->memory_mib;
}

static int by_size(const void *left, const void *right) {
  const struct blx__fit_shape *a = left, *b = right;
  if (a->cpu_milli != b->cpu_milli) return a->cpu_milli > b->cpu_milli ? -1 : 1;
  return a->memory_mib > b->memory_mib ? -1 : a->memory_mib < b->memory_mib;
}

/* Up to three significant bits. */
static uint64_t coarse(uint64_t amount) {
  uint64_t unit = 1;
  while (amount / unit >= 8) unit *= 2;
  return (amount + unit - 1) / unit * unit;
}

static void merge(struct blx__fit_shape *kept, size_t *n, struct blx__fit_shape s) {
  size_t i = BLX__FIT_EXACT_MAX;
  s.cpu_milli = coarse(s.cpu_milli);
  s.memory_mib = coarse(s.memory_mib);
  while (i < *n && (kept[i].cpu_milli != s.cpu_milli || kept[i].memory_mib != s.memory_mib)) i++;
  if (i < *n)
    kept[i].count += s.count;
  else if (*n < BLX__FIT_SHAPES_MAX)
    kept[(*n)++] = s;
}

/* So that shares of their sum can be taken of 64 bits. */
static void bound_counts(struct blx__fit_shape *shapes, size_t n) {
  const uint64_t most = UINT64_C(1) << 48;
  uint64_t sum = 0;
  unsigned shift = 0;
  for (size_t i = 0; i < n; i++) {
    if (shapes[i].count > most) shapes[i].count = most;
    sum += shapes[i].count;
  }
  while (sum >> shift >= UINT64_C(1) << 31) shift++;
  for (size_t i = 0; i < n; i++) shapes[i].count = shapes[i].count >> shift ? shapes[i].count >> shift : 1;
}

void blx__fit_learn(struct blx__fit *m, struct blx__fit_shape *shapes, size_t n) {
  struct blx__fit_shape kept[BLX__FIT_SHAPES_MAX] = {{0}};
  size_t n_kept = 0;
  if (n > 0) qsort(shapes, n, sizeof *shapes, by_count);
  for (size_t i = 0; i < n && shapes[i].count > 0; i++) {
    if (n > BLX__FIT_SHAPES_MAX && i >= BLX__FIT_EXACT_MAX)
      merge(kept, &n_kept, shapes[i]);
    else
      kept[n_kept++] = shapes[i];
  }
  bound_counts(kept, n_kept);
  if (n_kept == m->n_shapes && memcmp(kept, m->shapes, n_kept * sizeof *kept) == 0) return;
  memcpy(m->shapes, kept, sizeof kept);
  m->n_shapes = n_kept;
  m->stale = true;
}

static void note_class(struct blx__fit *m, const struct blx__fit_node *n) {
  struct blx__fit_shape s = {.cpu_milli = n->cpu_milli, .memory_mib = n->memory_mib};
  size_t i = m->n_classes;
  for (size_t k = 0; k < m->n_classes; k++)
    if (by_size(&s, &m->classes[k]) == 0) return;
  while (i > 0 && by_size(&s, &m->classes[i - 1]) < 0) i--;
  if (i == BLX__FIT_CLASSES_MAX) return;
  size_t last = m->n_classes < BLX__FIT_CLASSES_MAX ? m->n_classes++ : m->n_classes - 1;
  memmove(&m->classes[i + 1], &m->classes[i], (last - i) * sizeof *m->classes);
  m->classes[i] = s;
}

static struct axis axis_of(uint64_t unit, uint32_t cells) {
  return (struct axis){.unit = unit, .recip = (UINT64_C(1) << 40) / unit, .top = unit * (cells - 1), .last = cells - 1};
}

/* Units follow the largest capacities, classes are the largest ones. False: there is no capacity at all. */
static bool measure(struct blx__fit *m, const struct blx__fit_node *nodes, size_t n) {
  uint64_t largest_cpu = 0, largest_memory = 0, memory = 0;
  struct capacity {
    uint64_t cpu_milli, memory_mib;
  } noted[RECENT];
  m->fleet_cpu = 0;
  m->n_classes = 0;
  memset(noted, UINT8_MAX, sizeof noted);
  for (size_t i = 0; i < n; i++) {
    struct capacity *like = &noted[blx__mix64(nodes[i].cpu_milli ^ nodes[i].memory_mib << 32) % RECENT];
    if (nodes[i].cpu_milli > largest_cpu) largest_cpu = nodes[i].cpu_milli;
    if (nodes[i].memory_mib > largest_memory) largest_memory = nodes[i].memory_mib;
    m->fleet_cpu += nodes[i].cpu_milli;
    memory += nodes[i].memory_mib;
    if (like->cpu_milli == nodes[i].cpu_milli && like->memory_mib == nodes[i].memory_mib) continue;
    note_class(m, &nodes[i]);
    *like = (struct capacity){nodes[i].cpu_milli, nodes[i].memory_mib};
  }
  if (largest_cpu == 0 || largest_memory == 0) return false;
  uint64_t unit_cpu = largest_cpu / (m->cpu_cells - 1) + 1, unit_memory = largest_memory / (m->memory_cells - 1) + 1;
  uint64_t cpu_cells = m->fleet_cpu / n * 256 / unit_cpu + 1, memory_cells = memory / n * 256 / unit_memory + 1;
  int64_t memory_worth = (int64_t)((uint64_t)ONE * cpu_cells / memory_cells * MEMORY / 256);
  if (memory_worth > MEMORY_WORTH_MAX) memory_worth = MEMORY_WORTH_MAX;
  m->stale |= unit_cpu != m->grid.cpu.unit || unit_memory != m->grid.memory.unit || memory_worth != m->memory_worth;
  m->grid.cpu = axis_of(unit_cpu, m->cpu_cells);
  m->grid.memory = axis_of(unit_memory, m->memory_cells);
  m->memory_worth = memory_worth;
  return true;
}

bool blx__fit_refresh(struct blx__fit *m, const struct blx__fit_node *nodes, size_t n) {
  m->ready = n > 0 && m->n_shapes > 0 && measure(m, nodes, n);
  if (!m->ready) return false;
  if (m->stale) build_waste(m);
  build_potential(m, nodes, n);
  return true;
}
