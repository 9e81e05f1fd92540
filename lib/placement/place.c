#include "placement/place.h"
#include "base/digest.h"

#include <string.h>

uint64_t blx__place_fullness(const struct blx__placement_node *node, const struct blx__placement_need *need) {
  uint64_t cpus = node->vcpus ? (node->allocated_vcpus + need->vcpus) * 10000 / node->vcpus : 0;
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

struct strategy {
  const char *name;
  uint64_t (*score)(const struct blx__placement_node *node, const struct blx__placement_need *need);
  const char *why_not; /* of one that has no score */
};

static const struct strategy strategies[] = {
    [BLX_STRATEGY_BEST_FIT] = {"BestFit", score_best_fit, NULL},
    [BLX_STRATEGY_LOAD_BALANCED] = {"LoadBalanced", score_load_balanced, NULL},
    [BLX_STRATEGY_DATA_LOCALITY] = {"DataLocality", NULL, "the cluster does not know yet where data lies"},
    [BLX_STRATEGY_NETWORK_PROXIMITY] = {"NetworkProximity", NULL, "the cluster does not measure distances yet"},
};

blx__rc blx__placement_strategy_check(int32_t strategy, blx_error *err) {
  if (strategy < 0 || (size_t)strategy >= BLX__COUNT(strategies))
    return blx__fail(err, BLX_E_INVALID, "placement", "strategy: %d is not a strategy; use BestFit or LoadBalanced",
                     (int)strategy);
  const struct strategy *s = &strategies[strategy];
  if (!s->score)
    return blx__fail(err, BLX_E_UNSUPPORTED, "placement",
                     "strategy %s is not supported: %s; use BestFit or LoadBalanced", s->name, s->why_not);
  return BLX__OK;
}

/* A candidate's rank, compared field by field: the lower wins. */
struct rank {
  uint64_t avoided, not_sticky, same_vm, score, hash, uid;
};

static struct rank rank_of(const struct blx__place_node *n, const struct blx__place_request *request,
                           const struct strategy *s) {
  return (struct rank){.avoided = request->avoid_uid != 0 && n->node.uid == request->avoid_uid,
                       .not_sticky = request->sticky_uid == 0 || n->node.uid != request->sticky_uid,
                       .same_vm = n->same_vm_count,
                       .score = s->score(&n->node, &request->need),
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
  BLX__ASSERT(request->strategy >= 0 && (size_t)request->strategy < BLX__COUNT(strategies));
  const struct strategy *s = &strategies[request->strategy];
  BLX__ASSERT(s->score != NULL);
  int32_t best = BLX__PLACEMENT_NONE;
  struct rank best_rank = {0};
  for (size_t i = 0; i < n; i++) {
    BLX__ASSERT(i == 0 || nodes[i - 1].node.uid < nodes[i].node.uid);
    if (!nodes[i].usable || !blx__placement_feasible(&nodes[i].node, &request->need, NULL)) continue;
    struct rank r = rank_of(&nodes[i], request, s);
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
  blx__placement_feasible(&n->node, &request->need, v);
  struct miss m = {.uid = n->node.uid};
  switch (v->obstacle) {
  case BLX__PLACEMENT_FITS: m.kind = 1; break;
  case BLX__PLACEMENT_ROOM: m.kind = n->usable ? 0 : 2; break;
  case BLX__PLACEMENT_CORDONED: m.kind = 3; break;
  case BLX__PLACEMENT_LABEL: m.kind = 6; break;
  case BLX__PLACEMENT_HYPERVISOR: m.kind = 7; break;
  case BLX__PLACEMENT_HA: m.kind = 5; break;
  case BLX__PLACEMENT_FENCED: m.kind = 4; break;
  }
  if (v->obstacle == BLX__PLACEMENT_ROOM) m.amount = v->short_memory_mib + v->short_vcpus * 1024;
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
  blx__placement_feasible(&n->node, &request->need, &v);
  unsigned long long mib = v.short_memory_mib, cpus = v.short_vcpus;
  bool hard = v.obstacle != BLX__PLACEMENT_FITS && v.obstacle != BLX__PLACEMENT_ROOM;
  if (!n->usable && !hard)
    blx__str_format(out, size, "%s %s", n->node.name, n->why_not ? n->why_not : "is not usable now");
  else if (v.obstacle != BLX__PLACEMENT_ROOM)
    blx__placement_sentence(&n->node, &request->need, &v, out, size);
  else if (mib && cpus)
    blx__str_format(out, size, "%s lacks %llu MiB and %llu vCPU%s", n->node.name, mib, cpus, cpus == 1 ? "" : "s");
  else if (mib)
    blx__str_format(out, size, "%s lacks %llu MiB", n->node.name, mib);
  else
    blx__str_format(out, size, "%s lacks %llu vCPU%s", n->node.name, cpus, cpus == 1 ? "" : "s");
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
