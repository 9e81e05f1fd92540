#include "placement/place.h"
#include "base/digest.h"

#include <string.h>

uint64_t blx__place_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  uint64_t cpus = node->cpu_milli ? (node->allocated_cpu_milli + need->cpu_milli) * 10000 / node->cpu_milli : 0;
  uint64_t memory = node->memory_mib ? (node->allocated_memory_mib + need->memory_mib) * 10000 / node->memory_mib : 0;
  return cpus + memory;
}

/* Scores: the lowest wins. */
static uint64_t score_best_fit(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  uint64_t full = blx__place_fullness(node, need);
  return full >= 20000 ? 0 : 20000 - full;
}

static uint64_t score_load_balanced(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  return blx__place_fullness(node, need);
}

/* Whatever is asked for, until control asks the fleet. */
static uint64_t score(int32_t strategy, const struct blx__placement_node *node,
                      const struct blx__placement_need *need) {
  return strategy == BLX_STRATEGY_LOAD_BALANCED ? score_load_balanced(node, need) : score_best_fit(node, need);
}

/* A candidate's rank, compared field by field: the lower wins. */
struct rank {
  uint64_t avoided, not_sticky, same_vm, score, hash, uid;
};

static struct rank rank_of(const struct blx__place_node *n, const struct blx__place_request *request) {
  return (struct rank){.avoided = request->avoid_uid != 0 && n->node.uid == request->avoid_uid,
                       .not_sticky = request->sticky_uid == 0 || n->node.uid != request->sticky_uid,
                       .same_vm = n->same_vm_count,
                       .score = score(request->strategy, &n->node, &request->need),
                       .hash = blx__mix64(request->seed ^ blx__mix64(n->node.uid)),
                       .uid = n->node.uid};
}

static bool ranks_before(const struct rank *a, const struct rank *b) {
  if (a->avoided != b->avoided) return a->avoided < b->avoided;
  if (a->not_sticky != b->not_sticky) return a->not_sticky < b->not_sticky;
  if (a->same_vm != b->same_vm) return a->same_vm < b->same_vm;
  if (a->score != b->score) return a->score < b->score;
  if (a->hash != b->hash) return a->hash < b->hash;
  return a->uid < b->uid;
}

int32_t blx__place_choose(const struct blx__place_node *nodes, size_t n, const struct blx__place_request *request) {
  int32_t best = BLX__PLACEMENT_NONE;
  struct rank best_rank = {0};
  for (size_t i = 0; i < n; i++) {
    BLX__ASSERT(i == 0 || nodes[i - 1].node.uid < nodes[i].node.uid);
    if (!nodes[i].usable || !blx__placement_feasible(&nodes[i].node, &request->need, NULL, NULL)) continue;
    struct rank r = rank_of(&nodes[i], request);
    if (best != BLX__PLACEMENT_NONE && !ranks_before(&r, &best_rank)) continue;
    best = (int32_t)i;
    best_rank = r;
  }
  return best;
}

/* How far a node is from taking the instance; the lower, the nearer. */
struct miss {
  uint64_t kind, amount, uid;
};

static struct miss miss_of(const struct blx__place_node *n, const struct blx__place_request *request,
                           struct blx__placement_verdict *v) {
  blx__placement_feasible(&n->node, &request->need, NULL, v);
  if (!n->usable) {
    v->obstacles |= 1u << BLX_OBSTACLE_CODE_SILENT;
    v->what[BLX_OBSTACLE_CODE_SILENT] = n->why_not;
  }
  int32_t worst = blx__placement_worst(v->obstacles);
  struct miss m = {.kind = worst < 0 ? 0 : (uint64_t)(BLX__PLACEMENT_OBSTACLES - worst), .uid = n->node.uid};
  if (worst == BLX_OBSTACLE_CODE_ROOM) m.amount = v->short_memory_mib + v->short_cpu_milli * 1024 / 1000;
  return m;
}

static bool nearer(const struct miss *a, const struct miss *b) {
  if (a->kind != b->kind) return a->kind < b->kind;
  if (a->amount != b->amount) return a->amount < b->amount;
  return a->uid < b->uid;
}

static void short_form(const struct blx__place_node *n, const struct blx__place_request *request, char *out,
                       size_t size) {
  struct blx__placement_verdict v;
  (void)miss_of(n, request, &v);
  struct blx__placement_case c = {.node = &n->node, .need = &request->need, .verdict = &v};
  blx__placement_short(&c, blx__placement_worst(v.obstacles), out, size);
}

/* The nearest few, by insertion: the fleet itself stays as it is. Returns how many. */
static size_t nearest_misses(const struct blx__place_node *nodes, size_t n, const struct blx__place_request *request,
                             size_t near[BLX__PLACEMENT_EXPLAIN_NODES]) {
  struct miss miss[BLX__PLACEMENT_EXPLAIN_NODES];
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    struct blx__placement_verdict v;
    struct miss m = miss_of(&nodes[i], request, &v);
    size_t at = count;
    while (at > 0 && nearer(&m, &miss[at - 1])) at--;
    if (at == BLX__PLACEMENT_EXPLAIN_NODES) continue;
    size_t last = count < BLX__PLACEMENT_EXPLAIN_NODES ? count++ : count - 1;
    memmove(&miss[at + 1], &miss[at], (last - at) * sizeof miss[0]);
    memmove(&near[at + 1], &near[at], (last - at) * sizeof near[0]);
    miss[at] = m;
    near[at] = i;
  }
  return count;
}

void blx__place_explain(const struct blx__place_node *nodes, size_t n, const struct blx__place_request *request,
                        char *out, size_t size) {
  BLX__ASSERT(size > 0);
  size_t near[BLX__PLACEMENT_EXPLAIN_NODES];
  size_t named = nearest_misses(nodes, n, request, near);
  if (named == 0) blx__str_copy(out, size, "the cluster has no nodes");
  size_t len = 0;
  for (size_t i = 0; i < named && len < size - 1; i++) {
    char one[400];
    short_form(&nodes[near[i]], request, one, sizeof one);
    blx__str_format(out + len, size - len, "%s%s", i ? "; " : "", one);
    len += strlen(out + len);
  }
  if (n > named && len < size - 1)
    blx__str_format(out + len, size - len, "; and %zu more node%s", n - named, n - named == 1 ? "" : "s");
}
