/* How many more instances of a shape fit. Where nothing but the node itself counts that is a division for each node;
 * else they are placed on paper, one after another. Of those no more than the tenant's quota lets in. */
#include "control/control_int.h"
#include "schema/desc.h"

#include <stdlib.h>

enum {
  FITS_MAX = 100000,
  PLACED_MAX = 20000,        /* on paper, one after another, */
  PLACED_WORK_MAX = 8000000, /* and with room kept for lost nodes so many looks at a node */
  EXAMPLES_MAX = 8,
  TEXT_BYTES = 480,
  LIMIT_BYTES = 64,
};

struct spot {
  uint64_t uid;
  struct blx__placement_node node;
  uint64_t fits;
  uint32_t obstacles; /* of the next one */
  bool filled;        /* by division: the node says it, and not the engine */
};

struct count {
  struct blx__control *c;
  const struct blx__control_input *in;
  struct blx__arena *arena;
  struct blx_capacity_report *out;
  struct blx__fleet_request request;
  struct blx__placement_need need;
  struct blx__state_quota_room quota;
  struct view_vm *vm;
  struct spot *spots; /* by uid, as the view has them */
  uint64_t fits;      /* on the nodes, quota or no quota */
  bool cut;
};

static blx__rc no_memory(const struct count *k, blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "control", "the answer does not fit into %zu bytes", k->arena->limit_bytes);
}

/* ---- by division */

static bool is_plain(const struct count *k, bool survives) {
  const struct blx__placement_need *n = &k->need;
  const struct blx_quota *q = n->quota;
  bool node_quota = q && (q->has_node_instances || q->has_node_vcpus || q->has_node_memory_mib);
  return n->n_affinity == 0 && n->n_spread == 0 && !node_quota && !survives;
}

static uint64_t times(uint64_t has, uint64_t used, uint64_t each) {
  return each == 0 ? FITS_MAX : has > used ? (has - used) / each : 0;
}

static uint64_t times_on(const struct count *k, const struct blx__placement_node *n) {
  uint64_t most = times(n->cpu_milli, n->allocated_cpu_milli, k->need.cpu_milli);
  uint64_t memory = times(n->memory_mib, n->allocated_memory_mib, k->need.memory_mib);
  if (memory < most) most = memory;
  for (size_t i = 0; i < k->need.n_named; i++) {
    for (size_t j = 0; j < n->n_named; j++) {
      const struct blx__placement_amount *a = &n->named[j];
      if (!blx__str_eq(a->name, k->need.named[i]->name)) continue;
      uint64_t named = times(a->capacity, a->allocated, k->need.named[i]->amount);
      if (named < most) most = named;
    }
  }
  return most < FITS_MAX ? most : FITS_MAX;
}

/* The node with that many of them on it. */
static bool fill(const struct count *k, struct spot *s) {
  struct blx__placement_amount *named = blx__arena_alloc(k->arena, (s->node.n_named + 1) * sizeof *named);
  if (!named) return false;
  s->node.allocated_cpu_milli += s->fits * k->need.cpu_milli;
  s->node.allocated_memory_mib += s->fits * k->need.memory_mib;
  for (size_t j = 0; j < s->node.n_named; j++) {
    named[j] = s->node.named[j];
    for (size_t i = 0; i < k->need.n_named; i++)
      if (blx__str_eq(named[j].name, k->need.named[i]->name)) named[j].allocated += s->fits * k->need.named[i]->amount;
  }
  s->node.named = named;
  return true;
}

static blx__rc divide(struct count *k, blx_error *err) {
  for (size_t i = 0; i < k->c->n_nodes; i++) {
    struct spot *s = &k->spots[i];
    struct blx__fleet_verdict v;
    if (!blx__fleet_judge(k->c->fleet, &k->request, s->uid, &v)) continue;
    s->obstacles = v.v.obstacles;
    if (v.v.obstacles != 0) continue;
    s->fits = times_on(k, &s->node);
    if (!fill(k, s)) return no_memory(k, err);
    struct blx__placement_verdict next;
    (void)blx__placement_feasible(&s->node, &k->need, NULL, &next);
    s->obstacles = next.obstacles;
    s->filled = true;
    k->fits += s->fits;
  }
  k->cut = k->fits > FITS_MAX;
  if (k->cut) k->fits = FITS_MAX;
  return BLX__OK;
}

/* ---- one after another */

static struct spot *spot_of(const struct count *k, uint64_t uid) {
  const struct view_node *n = blx__view_node(k->c, uid);
  BLX__ASSERT(n != NULL);
  return &k->spots[n - k->c->nodes];
}

static blx__rc place(struct count *k, bool survives, blx_error *err) {
  uint64_t most = PLACED_MAX;
  if (survives && k->c->n_nodes > 0 && PLACED_WORK_MAX / k->c->n_nodes < most) most = PLACED_WORK_MAX / k->c->n_nodes;
  struct blx__fleet_choice choice;
  uint64_t work = 0;
  while (k->fits < most && work < PLACED_WORK_MAX && blx__fleet_choose(k->c->fleet, &k->request, &choice)) {
    work += ++k->fits; /* each looks at those before it */
    const struct blx__fleet_instance to = {CONTROL_UID + k->fits, CONTROL_UID, choice.node_uid, 1, false};
    BLX__TRY(blx__view_give(k->c, k->vm, &to, err));
    spot_of(k, choice.node_uid)->fits++;
  }
  k->cut = k->fits == most || work >= PLACED_WORK_MAX;
  for (size_t i = 0; i < k->c->n_nodes; i++) {
    struct blx__fleet_verdict v;
    if (blx__fleet_judge(k->c->fleet, &k->request, k->spots[i].uid, &v)) k->spots[i].obstacles = v.v.obstacles;
  }
  return BLX__OK;
}

/* ---- the answer */

static const char *dimension(const struct count *k, const struct spot *s) {
  int32_t code = blx__placement_worst(s->obstacles);
  if (code < 0) return "";
  const struct blx__placement_node *n = &s->node;
  if (code == BLX_OBSTACLE_CODE_ROOM && n->cpu_milli >= n->allocated_cpu_milli &&
      n->cpu_milli - n->allocated_cpu_milli >= k->need.cpu_milli)
    return "memory";
  if (code == BLX_OBSTACLE_CODE_ROOM) return "cpu";
  return blx__enum_label(blx__enum_obstacle_code(), code);
}

static blx__rc say_limit(const struct count *k, const struct spot *s, struct blx_node_capacity *out, blx_error *err) {
  char text[BLX__PLACEMENT_SENTENCE_BYTES];
  struct blx__fleet_verdict v;
  struct blx__placement_verdict after;
  struct blx__placement_case what = {.node = &s->node, .need = &k->need, .verdict = &after};
  int32_t code = blx__placement_worst(s->obstacles);
  out->limit = "";
  if (code < 0) return BLX__OK;
  if (s->filled) {
    (void)blx__placement_feasible(&s->node, &k->need, NULL, &after);
  } else {
    if (!blx__fleet_judge(k->c->fleet, &k->request, s->uid, &v)) return BLX__OK;
    what.verdict = &v.v;
    what.around = &v.around;
  }
  blx__placement_sentence(&what, code, text, sizeof text);
  out->limit = blx__arena_strdup(k->arena, text);
  return out->limit ? BLX__OK : no_memory(k, err);
}

static int by_fits(const void *a, const void *b) {
  const struct spot *x = a, *y = b;
  if (x->fits != y->fits) return x->fits > y->fits ? -1 : 1;
  return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static blx__rc list_node(const struct count *k, const struct spot *s, struct blx_node_capacity **out, blx_error *err) {
  struct blx_node_capacity *n = blx__arena_alloc(k->arena, sizeof *n);
  struct blx_resources *room = blx__arena_alloc(k->arena, sizeof *room);
  struct blx__placement_node now;
  if (!n || !room || !blx__state_placement_node(k->in->st, s->uid, &now)) return no_memory(k, err);
  *n = (struct blx_node_capacity)BLX_NODE_CAPACITY_INIT;
  *room = (struct blx_resources)BLX_RESOURCES_INIT;
  uint64_t cpu_milli = now.cpu_milli > now.allocated_cpu_milli ? now.cpu_milli - now.allocated_cpu_milli : 0;
  room->cpu_milli = cpu_milli < UINT32_MAX ? (uint32_t)cpu_milli : UINT32_MAX;
  room->vcpus = room->cpu_milli / 1000;
  room->memory_mib = now.memory_mib > now.allocated_memory_mib ? now.memory_mib - now.allocated_memory_mib : 0;
  n->node = now.name;
  n->fits = (uint32_t)s->fits;
  n->free = room;
  *out = n;
  return say_limit(k, s, n, err);
}

/* Nodes by obstacle: the most frequent first. */
static blx__rc group(const struct count *k, blx_error *err) {
  struct blx_obstacle_group *groups = blx__arena_alloc(k->arena, BLX__PLACEMENT_OBSTACLES * sizeof *groups);
  k->out->groups = blx__arena_alloc(k->arena, BLX__PLACEMENT_OBSTACLES * sizeof(struct blx_obstacle_group *));
  if (!groups || !k->out->groups) return no_memory(k, err);
  for (int32_t code = 0; code < BLX__PLACEMENT_OBSTACLES; code++) {
    struct blx_obstacle_group *g = &groups[code];
    *g = (struct blx_obstacle_group)BLX_OBSTACLE_GROUP_INIT;
    g->code = code;
    g->examples = blx__arena_alloc(k->arena, EXAMPLES_MAX * sizeof *g->examples);
    if (!g->examples) return no_memory(k, err);
    for (size_t i = 0; i < k->c->n_nodes; i++) {
      if ((k->spots[i].obstacles >> code & 1) == 0) continue;
      g->nodes++;
      if (g->n_examples < EXAMPLES_MAX) g->examples[g->n_examples++] = k->spots[i].node.name;
    }
    size_t at = k->out->n_groups;
    if (g->nodes == 0) continue;
    for (; at > 0 && k->out->groups[at - 1]->nodes < g->nodes; at--) k->out->groups[at] = k->out->groups[at - 1];
    k->out->groups[at] = g;
    k->out->n_groups++;
  }
  return BLX__OK;
}

/* What stops the next one on most nodes. */
static const char *most_frequent(const struct count *k) {
  enum { KINDS_MAX = BLX__PLACEMENT_OBSTACLES + 2 };
  const char *kinds[KINDS_MAX] = {""};
  size_t counts[KINDS_MAX] = {0}, n = 1, best = 0;
  for (size_t i = 0; i < k->c->n_nodes; i++) {
    const char *d = dimension(k, &k->spots[i]);
    size_t at = 0;
    while (at < n && !blx__str_eq(kinds[at], d)) at++;
    if (at == n && n < KINDS_MAX) kinds[n++] = d;
    if (at == 0 || at == KINDS_MAX) continue;
    if (++counts[at] > counts[best]) best = at;
  }
  return kinds[best];
}

typedef unsigned long long ull;

/* By the nodes alone, and what stops the next one there. */
static void say_nodes(const struct count *k, size_t with, char *out, size_t size) {
  (void)blx__str_format(out, size, "%s%llu more fit%s, on %zu of %zu nodes%s%s", k->cut ? "at least " : "",
                        (ull)k->fits, k->fits == 1 ? "s" : "", with, k->c->n_nodes,
                        k->out->limit[0] ? "; what stops the next one: " : "", k->out->limit);
}

static void say_quota(const struct count *k, size_t with, char *out, size_t size) {
  const struct blx__state_quota_room *q = &k->quota;
  (void)blx__str_format(out, size,
                        "%llu more fit%s: tenant %s has %llu of %llu %.64s and the next one needs %llu more: delete "
                        "what is not needed, or have the quota raised; the nodes have room for %s%llu, on %zu of %zu",
                        (ull)q->instances, q->instances == 1 ? "s" : "", q->tenant, (ull)q->has, (ull)q->limit, q->of,
                        (ull)q->each, k->cut ? "at least " : "", (ull)k->fits, with, k->c->n_nodes);
}

/* In words. What a quota stops is refused before any node is looked at. */
static blx__rc say(const struct count *k, size_t with, blx_error *err) {
  char text[TEXT_BYTES], limit[LIMIT_BYTES];
  if (k->quota.instances > k->fits) {
    k->out->fits = (uint32_t)k->fits;
    say_nodes(k, with, text, sizeof text);
  } else {
    k->out->fits = (uint32_t)k->quota.instances;
    say_quota(k, with, text, sizeof text);
    (void)blx__str_format(limit, sizeof limit, "quota %s", k->quota.name);
    k->out->limit = blx__arena_strdup(k->arena, limit);
  }
  k->out->text = blx__arena_strdup(k->arena, text);
  return k->out->text && k->out->limit ? BLX__OK : no_memory(k, err);
}

static blx__rc answer(struct count *k, blx_error *err) {
  struct blx_capacity_report *out = k->out;
  size_t n = k->c->n_nodes;
  out->limit = most_frequent(k);
  out->index = blx__state_index(k->in->st);
  qsort(k->spots, n, sizeof *k->spots, by_fits);
  out->nodes = blx__arena_alloc(k->arena, (n + 1) * sizeof *out->nodes);
  if (!out->nodes) return no_memory(k, err);
  for (; out->n_nodes < n; out->n_nodes++)
    BLX__TRY(list_node(k, &k->spots[out->n_nodes], &out->nodes[out->n_nodes], err));
  BLX__TRY(group(k, err));
  size_t with = 0;
  while (with < n && k->spots[with].fits > 0) with++;
  return say(k, with, err);
}

static blx__rc count_all(struct count *k, bool survives, blx_error *err) {
  k->spots = blx__arena_alloc(k->arena, (k->c->n_nodes + 1) * sizeof *k->spots);
  if (!k->spots) return no_memory(k, err);
  for (size_t i = 0; i < k->c->n_nodes; i++) {
    k->spots[i].uid = k->c->nodes[i].uid;
    BLX__ASSERT(blx__state_placement_node(k->in->st, k->spots[i].uid, &k->spots[i].node));
  }
  BLX__TRY(is_plain(k, survives) ? divide(k, err) : place(k, survives, err));
  return answer(k, err);
}

/* With other settings than the cluster's until the view is brought up to date the next time. */
static blx__rc survive_as_asked(struct count *k, const struct blx_capacity_request *req, bool *survives,
                                blx_error *err) {
  const struct blx_placement_settings *is = blx__state_settings(k->in->st)->placement;
  struct blx_placement_settings other = BLX_PLACEMENT_SETTINGS_INIT;
  if (is) other = *is;
  if (req->has_survive) other.survive_nodes = req->survive;
  *survives = other.survive_nodes > 0 || (other.survive_level && other.survive_level[0]);
  if (!req->has_survive) return BLX__OK;
  k->c->settings_revision = UINT64_MAX;
  return blx__fleet_settings(k->c->fleet, &other, err);
}

blx__rc blx__control_capacity(struct blx__control *c, const struct blx__control_input *in,
                              const struct blx_capacity_request *req, struct blx__arena *arena,
                              struct blx_capacity_report *out, blx_error *err) {
  const struct blx_quota *quota = blx__state_limits(in->st, req->tenant);
  struct count k = {.c = c, .in = in, .arena = arena, .out = out};
  struct blx_vm_spec spec = *req->spec;
  bool survives = false;
  *out = (struct blx_capacity_report)BLX_CAPACITY_REPORT_INIT;
  /* What is asked to survive the loss of nodes is what starts elsewhere by itself. */
  if (req->has_survive && req->survive > 0) spec.ha = BLX_HA_POLICY_AUTO;
  k.need = blx__placement_need_of(&spec, quota);
  k.quota = blx__state_quota_room(in->st, req->tenant, &spec);
  BLX__TRY(blx__view_update(c, in, err));
  blx__rc rc = survive_as_asked(&k, req, &survives, err);
  if (rc.code == 0) {
    k.vm = blx__view_guest(c, in->st, req->tenant, &spec, err);
    rc = k.vm ? BLX__OK : (blx__rc){BLX_E_NOMEM};
  }
  k.request = (struct blx__fleet_request){.vm_uid = CONTROL_UID, .keep_survive = true};
  if (rc.code == 0) rc = count_all(&k, survives, err);
  if (rc.code != 0) {
    blx__control_forget(c);
    return rc;
  }
  blx__view_undo(c);
  blx__view_drop_guest(c);
  return BLX__OK;
}
