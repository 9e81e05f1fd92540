/* The strategies that are compared. Those of others look at every node for every request; of equal ones the first
 * wins. */
#include "quality.h"

#include <math.h>
#include <string.h>

enum { CURVE_EVERY = 32 };

const char *const strategy_names[STRATEGIES] = {
    "first-fit",         "first-fit by size",  "best-fit",        "worst-fit",    "Nomad binpack",
    "K8s MostAllocated", "K8s LeastAllocated", "Blixard BestFit", "in a cluster",
};

/* The higher wins. @has: the node's; @left: what would be free with the request there. */
typedef double (*score_fn)(const struct amount *has, const struct amount *left);

static double free_shares(const struct amount *has, const struct amount *left) {
  return (double)left->cpu_milli / (double)has->cpu_milli + (double)left->memory_mib / (double)has->memory_mib;
}

static double first_fit(const struct amount *has, const struct amount *left) {
  (void)has, (void)left;
  return 0;
}

/* Through the machines from the largest to the smallest. */
static double first_fit_large(const struct amount *has, const struct amount *left) {
  (void)left;
  return (double)has->cpu_milli;
}

static double best_fit(const struct amount *has, const struct amount *left) {
  return -free_shares(has, left);
}

static double worst_fit(const struct amount *has, const struct amount *left) {
  return free_shares(has, left);
}

/* nomad/structs/funcs.go: ScoreFitBinPack, which cuts the score at 0 and 18. */
static double nomad(const struct amount *has, const struct amount *left) {
  double cpu = (double)left->cpu_milli / (double)has->cpu_milli;
  double memory = (double)left->memory_mib / (double)has->memory_mib;
  double score = 20 - (pow(10, cpu) + pow(10, memory));
  return score < 0 ? 0 : score > 18 ? 18 : score;
}

/* pkg/scheduler/framework/plugins/noderesources: both with equal weights, in the whole numbers that they use. */
static double most_allocated(const struct amount *has, const struct amount *left) {
  uint64_t cpu = (has->cpu_milli - left->cpu_milli) * 100 / has->cpu_milli;
  uint64_t memory = (has->memory_mib - left->memory_mib) * 100 / has->memory_mib;
  return (double)((cpu + memory) / 2);
}

static double least_allocated(const struct amount *has, const struct amount *left) {
  return (double)((left->cpu_milli * 100 / has->cpu_milli + left->memory_mib * 100 / has->memory_mib) / 2);
}

static const score_fn scores[OURS] = {first_fit, first_fit_large, best_fit,       worst_fit,
                                      nomad,     most_allocated,  least_allocated};

static bool fits(const struct amount *need, const struct amount *room) {
  return need->cpu_milli <= room->cpu_milli && need->memory_mib <= room->memory_mib;
}

static void take(struct amount *from, const struct amount *what) {
  from->cpu_milli -= what->cpu_milli;
  from->memory_mib -= what->memory_mib;
}

static size_t scan(const struct trial *t, const struct amount *room, score_fn score, const struct amount *need) {
  size_t best = t->n_nodes;
  double highest = 0;
  for (size_t i = 0; i < t->n_nodes; i++) {
    struct amount left = room[i];
    if (!fits(need, &left)) continue;
    take(&left, need);
    double here = score(&t->nodes[i], &left);
    if (best < t->n_nodes && here <= highest) continue;
    best = i;
    highest = here;
  }
  return best;
}

/* ---- a run */

struct fleet {
  struct amount room[NODES_MAX], all, used;
};

static double share(uint64_t part, uint64_t whole) {
  return 100 * (double)part / (double)whole;
}

/* Of every strategy, ours too, it is checked here that the node has the room. */
static void put(const struct trial *t, struct fleet *f, size_t node, const struct amount *need, struct outcome *o) {
  struct amount *room = &f->room[node];
  bool opens = room->cpu_milli == t->nodes[node].cpu_milli && room->memory_mib == t->nodes[node].memory_mib;
  if (!fits(need, room)) fail("a node was chosen", "that has not the room");
  take(room, need);
  f->used.cpu_milli += need->cpu_milli;
  f->used.memory_mib += need->memory_mib;
  o->placed++;
  o->machines += opens;
}

struct outcome run(const struct trial *t, int strategy, FILE *curve) {
  static struct fleet f;
  struct outcome o = {0};
  struct engine *e = strategy == OURS ? engine_open(t) : NULL;
  struct cluster *c = strategy == OURS_CLUSTER ? cluster_open(t) : NULL;
  memset(&f, 0, sizeof f);
  memcpy(f.room, t->nodes, sizeof f.room);
  for (size_t i = 0; i < t->n_nodes; i++) {
    f.all.cpu_milli += t->nodes[i].cpu_milli;
    f.all.memory_mib += t->nodes[i].memory_mib;
  }
  for (size_t i = 0; t->cycle || i < t->n_requests; i++) {
    const struct amount *need = &t->requests[i % t->n_requests];
    size_t node = e ? engine_place(e, need) : c ? cluster_place(c, need) : scan(t, f.room, scores[strategy], need);
    if (node < t->n_nodes) put(t, &f, node, need, &o);
    if (node == t->n_nodes) o.refused++;
    bool ends = (node == t->n_nodes && t->stop) || (!t->cycle && i + 1 == t->n_requests);
    if (curve && (i % CURVE_EVERY == 0 || ends))
      fprintf(curve, "arrivals,%s,%zu,%.3f,%llu\n", strategy_names[strategy], i,
              share(f.used.cpu_milli, f.all.cpu_milli), (unsigned long long)o.machines);
    if (ends) break;
  }
  if (e) engine_close(e);
  if (c) cluster_close(c);
  o.cpu_pct = share(f.used.cpu_milli, f.all.cpu_milli);
  o.memory_pct = share(f.used.memory_mib, f.all.memory_mib);
  return o;
}
