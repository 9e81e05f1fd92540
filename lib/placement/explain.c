/* Why: every node's verdict, in order, grouped, and in a sentence. */
#include "placement/fleet_int.h"

#include <stdlib.h>
#include <string.h>

enum { LISTED_MAX = 5000, EXAMPLES_MAX = 8, TEXT_BYTES = 512 };

/* How far a node is from taking it; the lower, the nearer. */
struct miss {
  uint32_t slot, obstacles;
  uint64_t stubborn, others, amount, uid;
};

/* A node in the order of a report: those that fit by rank, then the misses. */
struct listed {
  struct miss miss;
  struct fleet_rank rank;
};

static struct miss miss_of(const struct fleet_query *q, uint32_t slot, const struct blx__placement_verdict *v) {
  int32_t worst = blx__placement_worst(v->obstacles);
  struct miss m = {.slot = slot, .obstacles = v->obstacles, .uid = q->f->nodes[slot].view.uid};
  m.stubborn = worst < 0 ? 0 : (uint64_t)(BLX__PLACEMENT_OBSTACLES - worst);
  m.others = (uint64_t)__builtin_popcount(v->obstacles);
  m.amount = v->short_memory_mib + v->short_cpu_milli * 1024 / 1000 + v->short_named;
  return m;
}

static int miss_order(const struct miss *a, const struct miss *b) {
  if (a->stubborn != b->stubborn) return a->stubborn < b->stubborn ? -1 : 1;
  if (a->others != b->others) return a->others < b->others ? -1 : 1;
  if (a->amount != b->amount) return a->amount < b->amount ? -1 : 1;
  return a->uid < b->uid ? -1 : a->uid > b->uid;
}

static int listed_order(const void *left, const void *right) {
  const struct listed *a = left, *b = right;
  if (a->miss.obstacles && b->miss.obstacles) return miss_order(&a->miss, &b->miss);
  if (a->miss.obstacles || b->miss.obstacles) return a->miss.obstacles ? 1 : -1;
  return fleet_ranks_before(&a->rank, &b->rank) ? -1 : 1;
}

/* ---- a sentence */

/* What nodes do or are that have it: "40 lack memory or vCPUs". */
static const char *const group_words[BLX__PLACEMENT_OBSTACLES] = {
    [BLX_OBSTACLE_CODE_HYPERVISOR] = "cannot run its monitor",
    [BLX_OBSTACLE_CODE_CPU_FEATURE] = "lack a processor's feature",
    [BLX_OBSTACLE_CODE_LABEL] = "do not carry the labels",
    [BLX_OBSTACLE_CODE_TENANT] = "are not its tenant's",
    [BLX_OBSTACLE_CODE_TAINT] = "have a taint that it does not tolerate",
    [BLX_OBSTACLE_CODE_HA] = "cannot take highly available ones",
    [BLX_OBSTACLE_CODE_FENCED] = "are fenced",
    [BLX_OBSTACLE_CODE_CORDONED] = "are cordoned",
    [BLX_OBSTACLE_CODE_SILENT] = "have not been heard from or are kept for others",
    [BLX_OBSTACLE_CODE_BARRED] = "have not removed an earlier instance",
    [BLX_OBSTACLE_CODE_AFFINITY] = "are not near what it must be near",
    [BLX_OBSTACLE_CODE_ANTI_AFFINITY] = "are near what it must not be near",
    [BLX_OBSTACLE_CODE_DOMAIN_FULL] = "have as many replicas as they may",
    [BLX_OBSTACLE_CODE_NODE_QUOTA] = "have as much of the tenant as they may",
    [BLX_OBSTACLE_CODE_SURVIVE] = "are kept free for the loss of nodes",
    [BLX_OBSTACLE_CODE_RESOURCE] = "lack a resource",
    [BLX_OBSTACLE_CODE_ROOM] = "lack memory or vCPUs",
};

struct nearest {
  struct miss miss[BLX__FLEET_NAMED_MAX];
  size_t n, total, fit;
  uint32_t worst[BLX__PLACEMENT_OBSTACLES]; /* nodes by their most stubborn obstacle */
};

static void note(struct nearest *all, const struct miss *m) {
  size_t at = all->n;
  all->total++;
  all->fit += m->obstacles == 0;
  if (m->obstacles) all->worst[blx__placement_worst(m->obstacles)]++;
  while (at > 0 && miss_order(m, &all->miss[at - 1]) < 0) at--;
  if (at == BLX__FLEET_NAMED_MAX) return;
  size_t last = all->n < BLX__FLEET_NAMED_MAX ? all->n++ : all->n - 1;
  memmove(&all->miss[at + 1], &all->miss[at], (last - at) * sizeof all->miss[0]);
  all->miss[at] = *m;
}

static size_t say(char *out, size_t size, size_t len, const char *before, const char *what) {
  if (len + 1 >= size) return len;
  (void)blx__str_format(out + len, size - len, "%s%s", before, what);
  return len + strlen(out + len);
}

/* Nodes that are not named, the most frequent obstacle first. */
static void say_rest(const struct nearest *all, char *out, size_t size, size_t len) {
  uint32_t left[BLX__PLACEMENT_OBSTACLES];
  size_t more = all->total - all->n;
  char part[96];
  if (more == 0) return;
  memcpy(left, all->worst, sizeof left);
  for (size_t i = 0; i < all->n; i++)
    if (all->miss[i].obstacles) left[blx__placement_worst(all->miss[i].obstacles)]--;
  (void)blx__str_format(part, sizeof part, "; and %zu more node%s", more, more == 1 ? "" : "s");
  len = say(out, size, len, part, "");
  for (size_t told = 0;; told++) {
    size_t most = 0;
    for (size_t i = 1; i < BLX__PLACEMENT_OBSTACLES; i++)
      if (left[i] > left[most]) most = i;
    if (left[most] == 0) return;
    (void)blx__str_format(part, sizeof part, "%s%u %s", told ? ", " : ": ", left[most], group_words[most]);
    len = say(out, size, len, part, "");
    left[most] = 0;
  }
}

static void full_verdict(const struct fleet_query *q, uint32_t slot, struct blx__fleet_verdict *v) {
  memset(v, 0, sizeof *v);
  fleet_verdict(q, slot, v);
  if (!v->around.unwanted_by) return;
  const char *name = fleet_unwanted_by(q, slot);
  if (v->v.what[BLX_OBSTACLE_CODE_ANTI_AFFINITY] == v->around.unwanted_by)
    v->v.what[BLX_OBSTACLE_CODE_ANTI_AFFINITY] = name;
  v->around.unwanted_by = name;
}

static void say_nearest(const struct fleet_query *q, const struct nearest *all, char *out, size_t size) {
  struct blx__fleet_verdict v;
  size_t len = 0;
  out[0] = 0;
  if (all->total == 0) (void)blx__str_copy(out, size, "the cluster has no nodes");
  for (size_t i = 0; i < all->n; i++) {
    char one[BLX__PLACEMENT_SENTENCE_BYTES];
    uint32_t slot = all->miss[i].slot;
    full_verdict(q, slot, &v);
    struct blx__placement_case c = {&q->f->nodes[slot].view, &q->class->need, &v.around, &v.v};
    blx__placement_short(&c, blx__placement_worst(v.v.obstacles), one, sizeof one);
    len = say(out, size, len, i ? "; " : "", one);
  }
  say_rest(all, out, size, len);
}

/* The verdict without the cost, which no miss depends on. */
static void look(const struct fleet_query *q, uint32_t slot, struct blx__placement_verdict *v) {
  struct blx__placement_around around;
  fleet_obstacles(q, slot, &around, v);
}

void blx__fleet_nearest(struct blx__fleet *f, const struct blx__fleet_request *request, char *out, size_t size) {
  struct fleet_query q;
  struct nearest all = {.n = 0};
  BLX__ASSERT(size > 0);
  out[0] = 0;
  if (!fleet_query_begin(&q, f, request)) return;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    struct blx__placement_verdict v;
    if (f->nodes[slot].view.uid == 0) continue;
    look(&q, slot, &v);
    struct miss m = miss_of(&q, slot, &v);
    note(&all, &m);
  }
  say_nearest(&q, &all, out, size);
  fleet_query_end(&q);
}

uint64_t blx__fleet_nearest_node(struct blx__fleet *f, const struct blx__fleet_request *request) {
  const uint32_t room = 1u << BLX_OBSTACLE_CODE_ROOM | 1u << BLX_OBSTACLE_CODE_RESOURCE;
  struct fleet_query q;
  struct miss best = {.uid = 0};
  if (!fleet_query_begin(&q, f, request)) return 0;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    struct blx__placement_verdict v;
    if (f->nodes[slot].view.uid == 0) continue;
    look(&q, slot, &v);
    struct miss m = miss_of(&q, slot, &v);
    if (m.obstacles == 0 || (m.obstacles & ~room)) continue;
    if (best.uid == 0 || miss_order(&m, &best) < 0) best = m;
  }
  fleet_query_end(&q);
  return best.uid;
}

/* ---- a report */

struct report {
  const struct fleet_query *q;
  struct blx__arena *arena;
  struct listed *all;
  size_t n;
};

static blx__rc full(const struct blx__arena *arena, blx_error *err) {
  return blx__fail(err, BLX_E_INVALID, "placement", "an explanation does not fit into %zu bytes", arena->limit_bytes);
}

static bool list_all(struct report *r) {
  const struct blx__fleet *f = r->q->f;
  r->all = blx__arena_alloc(r->arena, (f->node_ids.count + 1) * sizeof *r->all);
  if (!r->all) return false;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    struct blx__placement_verdict v;
    if (f->nodes[slot].view.uid == 0) continue;
    look(r->q, slot, &v);
    struct listed *l = &r->all[r->n++];
    l->miss = miss_of(r->q, slot, &v);
    if (v.obstacles == 0) l->rank = fleet_rank(r->q, slot);
  }
  qsort(r->all, r->n, sizeof *r->all, listed_order);
  return true;
}

static struct blx_obstacle *obstacle_of(const struct report *r, const struct blx__placement_case *c, int32_t code) {
  struct blx_obstacle *o = blx__arena_alloc(r->arena, sizeof *o);
  char text[BLX__PLACEMENT_SENTENCE_BYTES];
  if (!o) return NULL;
  *o = (struct blx_obstacle)BLX_OBSTACLE_INIT;
  blx__placement_sentence(c, code, text, sizeof text);
  o->code = code;
  o->text = blx__arena_strdup(r->arena, text);
  if (!o->text) return NULL;
  if (code != BLX_OBSTACLE_CODE_SILENT && c->verdict->what[code]) {
    o->what = blx__arena_strdup(r->arena, c->verdict->what[code]);
    if (!o->what) return NULL;
  }
  o->short_amount = blx__placement_short_amount(c, code);
  if (code != BLX_OBSTACLE_CODE_ROOM) return o;
  o->short_cpu_milli = c->verdict->short_cpu_milli < UINT32_MAX ? (uint32_t)c->verdict->short_cpu_milli : UINT32_MAX;
  o->short_memory_mib = c->verdict->short_memory_mib;
  return o;
}

static bool add_obstacles(const struct report *r, const struct blx__placement_case *c, struct blx_node_verdict *out) {
  size_t n = (size_t)__builtin_popcount(c->verdict->obstacles);
  out->obstacles = blx__arena_alloc(r->arena, (n + 1) * sizeof(struct blx_obstacle *));
  if (!out->obstacles) return false;
  for (int32_t code = 0; code < BLX__PLACEMENT_OBSTACLES; code++) {
    if (!(c->verdict->obstacles & 1u << code)) continue;
    out->obstacles[out->n_obstacles] = obstacle_of(r, c, code);
    if (!out->obstacles[out->n_obstacles++]) return false;
  }
  return true;
}

static bool add_parts(const struct report *r, const struct blx__fleet_verdict *v, struct blx_node_verdict *out) {
  struct blx_score_part *parts = blx__arena_alloc(r->arena, (v->n_parts + 1) * sizeof *parts);
  out->parts = blx__arena_alloc(r->arena, (v->n_parts + 1) * sizeof(struct blx_score_part *));
  if (!parts || !out->parts) return false;
  for (size_t i = 0; i < v->n_parts; i++) {
    parts[i] = (struct blx_score_part)BLX_SCORE_PART_INIT;
    parts[i].name = blx__arena_strdup(r->arena, v->parts[i].name);
    parts[i].cost = v->parts[i].cost;
    out->parts[out->n_parts++] = &parts[i];
    if (!parts[i].name) return false;
  }
  return true;
}

static struct blx_node_verdict *verdict_of(const struct report *r, uint32_t slot, uint32_t rank) {
  const struct fleet_node *n = &r->q->f->nodes[slot];
  struct blx_node_verdict *out = blx__arena_alloc(r->arena, sizeof *out);
  struct blx__fleet_verdict v;
  full_verdict(r->q, slot, &v);
  struct blx__placement_case c = {&n->view, &r->q->class->need, &v.around, &v.v};
  if (!out) return NULL;
  *out = (struct blx_node_verdict)BLX_NODE_VERDICT_INIT;
  out->node = blx__arena_strdup(r->arena, n->view.name);
  out->uid = n->view.uid;
  out->fits = v.v.obstacles == 0;
  out->rank = out->fits ? rank : 0;
  out->cost = v.cost;
  out->replicas = v.replicas;
  return out->node && add_obstacles(r, &c, out) && add_parts(r, &v, out) ? out : NULL;
}

static bool add_nodes(const struct report *r, size_t most, struct blx_placement_report *out) {
  if (most == 0 || most > LISTED_MAX) most = LISTED_MAX;
  if (most > r->n) most = r->n;
  out->nodes = blx__arena_alloc(r->arena, (most + 1) * sizeof(struct blx_node_verdict *));
  if (!out->nodes) return false;
  for (size_t i = 0; i < most; i++) {
    out->nodes[i] = verdict_of(r, r->all[i].miss.slot, (uint32_t)i + 1);
    if (!out->nodes[i]) return false;
    out->n_nodes++;
  }
  return true;
}

static struct blx_obstacle_group *group_of(const struct report *r, int32_t code) {
  struct blx_obstacle_group *g = blx__arena_alloc(r->arena, sizeof *g);
  if (!g) return NULL;
  *g = (struct blx_obstacle_group)BLX_OBSTACLE_GROUP_INIT;
  g->code = code;
  g->examples = blx__arena_alloc(r->arena, EXAMPLES_MAX * sizeof(const char *));
  if (!g->examples) return NULL;
  for (size_t i = 0; i < r->n; i++) {
    if (!(r->all[i].miss.obstacles & 1u << code)) continue;
    g->nodes++;
    if (g->n_examples == EXAMPLES_MAX) continue;
    g->examples[g->n_examples] = blx__arena_strdup(r->arena, r->q->f->nodes[r->all[i].miss.slot].view.name);
    if (!g->examples[g->n_examples++]) return NULL;
  }
  return g;
}

static bool add_groups(const struct report *r, struct blx_placement_report *out) {
  out->groups = blx__arena_alloc(r->arena, BLX__PLACEMENT_OBSTACLES * sizeof(struct blx_obstacle_group *));
  if (!out->groups) return false;
  for (int32_t code = 0; code < BLX__PLACEMENT_OBSTACLES; code++) {
    struct blx_obstacle_group *g = group_of(r, code);
    size_t at = out->n_groups;
    if (!g) return false;
    if (g->nodes == 0) continue;
    for (; at > 0 && out->groups[at - 1]->nodes < g->nodes; at--) out->groups[at] = out->groups[at - 1];
    out->groups[at] = g;
    out->n_groups++;
  }
  return true;
}

static bool add_text(const struct report *r, struct blx_placement_report *out) {
  char text[TEXT_BYTES];
  struct nearest all = {.n = 0};
  for (size_t i = 0; i < r->n; i++) note(&all, &r->all[i].miss);
  out->nodes_total = (uint32_t)r->n;
  out->nodes_fit = (uint32_t)all.fit;
  if (all.fit == 0) {
    say_nearest(r->q, &all, text, sizeof text);
  } else {
    const struct fleet_rank *best = &r->all[0].rank;
    out->chosen = blx__arena_strdup(r->arena, r->q->f->nodes[r->all[0].miss.slot].view.name);
    if (!out->chosen) return false;
    (void)blx__str_format(text, sizeof text, "%zu of %zu node%s can take it: %s%s", all.fit, r->n, r->n == 1 ? "" : "s",
                          out->chosen,
                          !best->not_sticky && !best->avoided ? ", where it was before"
                          : all.fit == 1                      ? ""
                                                              : " is the best");
  }
  out->text = blx__arena_strdup(r->arena, text);
  return out->text != NULL;
}

static bool add_need(const struct report *r, struct blx_placement_report *out) {
  const struct blx_vm_spec *s = r->q->class->spec;
  out->need = blx__arena_alloc(r->arena, sizeof *out->need);
  if (!out->need) return false;
  *out->need = (struct blx_resources)BLX_RESOURCES_INIT;
  out->need->vcpus = s->vcpus;
  out->need->cpu_milli = (uint32_t)r->q->class->need.cpu_milli;
  out->need->memory_mib = s->memory_mib;
  out->need->named = blx__arena_alloc(r->arena, (s->n_resources + 1) * sizeof(struct blx_amount *));
  if (!out->need->named) return false;
  for (size_t i = 0; i < s->n_resources; i++) {
    struct blx_amount *a = blx__arena_alloc(r->arena, sizeof *a);
    if (!a) return false;
    *a = (struct blx_amount)BLX_AMOUNT_INIT;
    a->amount = s->resources[i]->amount;
    a->name = blx__arena_strdup(r->arena, s->resources[i]->name);
    out->need->named[out->need->n_named++] = a;
    if (!a->name) return false;
  }
  return true;
}

blx__rc blx__fleet_explain(struct blx__fleet *f, const struct blx__fleet_request *request, size_t most,
                           struct blx__arena *arena, struct blx_placement_report *out, blx_error *err) {
  struct fleet_query q;
  struct blx_placement_report report = BLX_PLACEMENT_REPORT_INIT;
  struct report r = {.q = &q, .arena = arena};
  if (!fleet_query_begin(&q, f, request))
    return blx__fail(err, BLX_E_NOT_FOUND, "placement", "there is no VM with uid %llu",
                     (unsigned long long)request->vm_uid);
  bool done = list_all(&r) && add_nodes(&r, most, &report) && add_groups(&r, &report) && add_text(&r, &report) &&
              add_need(&r, &report);
  fleet_query_end(&q);
  if (!done) return full(arena, err);
  *out = report;
  return BLX__OK;
}

blx__rc blx__fleet_node_verdict(struct blx__fleet *f, const struct blx__fleet_request *request, uint64_t node_uid,
                                struct blx__arena *arena, struct blx_node_verdict **out, blx_error *err) {
  struct fleet_query q;
  struct report r = {.q = &q, .arena = arena};
  uint32_t slot = fleet_ids_get(&f->node_ids, node_uid);
  if (slot == FLEET_NONE || !fleet_query_begin(&q, f, request))
    return blx__fail(err, BLX_E_NOT_FOUND, "placement", "there is no %s with uid %llu",
                     slot == FLEET_NONE ? "node" : "VM",
                     (unsigned long long)(slot == FLEET_NONE ? node_uid : request->vm_uid));
  struct blx_node_verdict *verdict = verdict_of(&r, slot, 0);
  fleet_query_end(&q);
  if (!verdict) return full(arena, err);
  *out = verdict;
  return BLX__OK;
}
