#include "placement/fleet.h"
#include "base/digest.h"
#include "placement/index.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

static const char origin[] = "placement";

static blx__rc no_memory(blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, origin, "no memory for the fleet");
}

/* ---- open and close */

void *fleet_grow(void *records, size_t used, size_t bytes) {
  void *more = aligned_alloc(FLEET_LINE, (bytes + FLEET_LINE - 1) / FLEET_LINE * FLEET_LINE);
  if (!more) return NULL;
  if (used > 0) memcpy(more, records, used);
  free(records);
  return more;
}

static bool fleet_fill(struct blx__fleet *f, blx_error *err) {
  uint32_t n = f->options.nodes_max;
  f->nodes_free = f->vms_free = f->instances_free = FLEET_NONE;
  f->nodes = fleet_grow(NULL, 0, n * sizeof *f->nodes);
  f->replicas = calloc(n, sizeof *f->replicas);
  f->out = calloc(n, sizeof *f->out);
  for (size_t i = 0; i < FLEET_SELF_MAX; i++) {
    f->self[i].count = calloc(n, sizeof(uint32_t));
    if (!f->self[i].count) return false;
  }
  f->weights = calloc(n, sizeof *f->weights);
  f->places = calloc(n, sizeof *f->places);
  f->weighed = calloc(n, sizeof *f->weighed);
  f->near.host = calloc(n, 1);
  f->near.rack = calloc(n, 1);
  f->near.zone = calloc(n, 1);
  if (!f->nodes || !f->replicas || !f->out || !f->weights || !f->places || !f->weighed) return false;
  if (!f->near.host || !f->near.rack || !f->near.zone) return false;
  fleet_ids_of(&f->node_ids, f->nodes, sizeof *f->nodes);
  f->index = fleet_index_new(n);
  if (f->options.learns) f->learn = fleet_learn_new(&f->options);
  if (!f->index || (f->options.learns && !f->learn)) return false;
  f->host = fleet_level_ref(f, "host", err);
  f->rack = fleet_level_ref(f, "\nrack", err);
  f->zone = fleet_level_ref(f, "zone", err);
  return f->host && f->rack && f->zone;
}

blx__rc blx__fleet_new(const struct blx__fleet_options *o, struct blx__fleet **out, blx_error *err) {
  if (o->nodes_max < 1 || o->nodes_max > BLX__FLEET_NODES_MAX || o->instances_max < 1 ||
      o->instances_max > BLX__FLEET_INSTANCES_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "a fleet of %u nodes and %u instances: 1 to %d and 1 to %d can be",
                     o->nodes_max, o->instances_max, BLX__FLEET_NODES_MAX, BLX__FLEET_INSTANCES_MAX);
  struct blx__fleet *f = calloc(1, sizeof *f);
  if (!f) return no_memory(err);
  f->options = *o;
  if (!fleet_fill(f, err)) {
    blx__fleet_free(f);
    return no_memory(err);
  }
  *out = f;
  return BLX__OK;
}

static void node_free(struct fleet_node *n) {
  blx__msg_free_owned(n->rec);
  free(n->named);
  free(n->named_extra);
}

void blx__fleet_free(struct blx__fleet *f) {
  if (!f) return;
  fleet_vms_free(f);
  for (uint32_t i = 0; i < f->nodes_used; i++)
    if (f->nodes[i].view.uid != 0) node_free(&f->nodes[i]);
  fleet_levels_free(f);
  fleet_index_free(f->index);
  fleet_ids_free(&f->node_ids);
  fleet_ids_free(&f->instance_ids);
  for (size_t i = 0; i < FLEET_SELF_MAX; i++) free(f->self[i].count);
  blx__msg_free_owned(f->settings);
  fleet_learn_free(f->learn);
  free(f->instances);
  free(f->terms);
  free(f->nodes);
  free(f->replicas);
  free(f->out);
  free(f->weights);
  free(f->places);
  free(f->weighed);
  free(f->near.host);
  free(f->near.rack);
  free(f->near.zone);
  free(f);
}

/* ---- settings */

static void give_out(struct blx__fleet *f, struct fleet_node *n) {
  n->view.cpu_milli = n->raw_cpu_milli;
  n->view.memory_mib = n->raw_memory_mib;
  blx__placement_overcommit(f->settings, &n->view);
}

blx__rc blx__fleet_settings(struct blx__fleet *f, const struct blx_placement_settings *s, blx_error *err) {
  void *copy = NULL;
  struct fleet_level *level = NULL;
  if (s) BLX__TRY(blx__placement_settings_check(s, err));
  if (s && s->survive_level && s->survive_level[0]) {
    level = fleet_level_ref(f, s->survive_level, err);
    if (!level) return no_memory(err);
  }
  if (s && blx__msg_own(blx__desc_placement_settings(), s, &copy, err).code != 0) {
    fleet_level_unref(f, level);
    return no_memory(err);
  }
  fleet_level_unref(f, f->survive);
  f->survive = level;
  blx__msg_free_owned(f->settings);
  f->settings = copy;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    if (f->nodes[slot].view.uid == 0) continue;
    give_out(f, &f->nodes[slot]);
    fleet_index_note(f, slot, true);
  }
  return BLX__OK;
}

/* ---- nodes */

static blx__rc find_slot(struct blx__fleet *f, uint64_t uid, uint32_t *out, blx_error *err) {
  uint32_t slot = f->nodes_free;
  if (slot != FLEET_NONE) {
    f->nodes_free = f->nodes[slot].first;
  } else {
    if (f->nodes_used == f->options.nodes_max)
      return blx__fail(err, BLX_E_BUSY, origin, "%u nodes are known, the most that this fleet has room for",
                       f->nodes_used);
    slot = f->nodes_used++;
  }
  f->nodes[slot] = (struct fleet_node){.first = FLEET_NONE};
  if (!fleet_ids_set(&f->node_ids, uid, slot)) {
    f->nodes[slot].first = f->nodes_free;
    f->nodes_free = slot;
    return no_memory(err);
  }
  *out = slot;
  fleet_index_layout(f);
  return BLX__OK;
}

/* What of a record placement looks at, with what is measured put into its fields. */
static struct blx_node_info bare_of(const struct blx_node_info *n, const struct blx__fleet_soft *soft) {
  struct blx_node_info bare = BLX_NODE_INFO_INIT;
  bare.name = n->name;
  bare.uid = n->uid;
  bare.capacity = n->capacity;
  bare.labels = n->labels;
  bare.n_labels = n->n_labels;
  bare.hypervisors = n->hypervisors;
  bare.n_hypervisors = n->n_hypervisors;
  bare.taints = n->taints;
  bare.n_taints = n->n_taints;
  bare.cpu_features = n->cpu_features;
  bare.n_cpu_features = n->n_cpu_features;
  bare.cordoned = n->cordoned;
  bare.fence = n->fence;
  bare.ha_ready = n->ha_ready;
  bare.watchdog = n->watchdog && n->watchdog[0] ? "1" : NULL;
  bare.virtualized = n->virtualized;
  bare.fence_command = n->fence_command && n->fence_command[0] ? "1" : NULL;
  bare.no_watchdog = n->no_watchdog;
  if (!soft) return bare;
  bare.has_load_cpu_permille = bare.has_load_memory_mib = soft->has_load;
  bare.load_cpu_permille = soft->load_cpu_permille;
  bare.load_memory_mib = soft->load_memory_mib;
  bare.stored = (struct blx_data_item **)soft->stored;
  bare.n_stored = soft->n_stored;
  return bare;
}

static uint64_t amount_of(const struct blx_resources *r, const char *name) {
  for (size_t i = 0; r && i < r->n_named; i++)
    if (blx__str_eq(r->named[i]->name, name)) return r->named[i]->amount;
  return 0;
}

static uint64_t cpu_milli_of(const struct blx_resources *r) {
  return r->cpu_milli ? r->cpu_milli : (uint64_t)r->vcpus * 1000;
}

/* The view of a record, without instances. */
static blx__rc read_node(const struct blx_node_info *rec, const struct blx_resources *extra, struct fleet_node *out,
                         blx_error *err) {
  const struct blx_resources *has = rec->capacity;
  out->view = blx__placement_node_of(rec);
  out->raw_cpu_milli = out->view.cpu_milli;
  out->raw_memory_mib = out->view.memory_mib;
  if (extra) {
    out->extra_cpu_milli = cpu_milli_of(extra);
    out->extra_memory_mib = extra->memory_mib;
  }
  out->view.allocated_cpu_milli = out->extra_cpu_milli;
  out->view.allocated_memory_mib = out->extra_memory_mib;
  if (!has || has->n_named == 0) return BLX__OK;
  out->named = calloc(has->n_named, sizeof *out->named);
  out->named_extra = calloc(has->n_named, sizeof *out->named_extra);
  if (!out->named || !out->named_extra) return no_memory(err);
  for (size_t i = 0; i < has->n_named; i++) {
    out->named_extra[i] = amount_of(extra, has->named[i]->name);
    out->named[i] = (struct blx__placement_amount){
        .name = has->named[i]->name, .capacity = has->named[i]->amount, .allocated = out->named_extra[i]};
  }
  out->view.named = out->named;
  out->view.n_named = has->n_named;
  return BLX__OK;
}

/* Its instances leave it, and come back to what it is now. */
static bool node_renew(struct blx__fleet *f, uint32_t slot, const struct fleet_node *anew) {
  struct fleet_node *n = &f->nodes[slot];
  uint32_t first = n->first, count = n->n;
  fleet_count_node(f, slot, -1);
  for (uint32_t i = first; i != FLEET_NONE; i = f->instances[i].next_on_node)
    fleet_use(f, slot, f->vms[f->instances[i].vm].class, false);
  if (n->view.uid != 0) node_free(n);
  *n = *anew;
  n->first = first;
  n->n = count;
  give_out(f, n);
  for (uint32_t i = first; i != FLEET_NONE; i = f->instances[i].next_on_node)
    fleet_use(f, slot, f->vms[f->instances[i].vm].class, true);
  fleet_index_note(f, slot, true);
  if (!fleet_levels_put(f, slot)) return false;
  fleet_count_node(f, slot, 1);
  return true;
}

blx__rc blx__fleet_set_node(struct blx__fleet *f, const struct blx_node_info *record, const struct blx_resources *extra,
                            const struct blx__fleet_soft *soft, blx_error *err) {
  struct fleet_node anew = {.usable = !soft || soft->usable, .why_not = soft ? soft->why_not : NULL};
  struct blx_node_info bare = bare_of(record, soft);
  void *copy = NULL;
  uint32_t slot = fleet_ids_get(&f->node_ids, record->uid);
  if (record->uid == 0 || !record->name || !record->name[0])
    return blx__fail(err, BLX_E_INVALID, origin, "a node has a name, and a uid above 0");
  BLX__TRY(blx__msg_own(blx__desc_node_info(), &bare, &copy, err));
  anew.rec = copy;
  blx__rc rc = read_node(copy, extra, &anew, err);
  if (rc.code == 0 && slot == FLEET_NONE) rc = find_slot(f, record->uid, &slot, err);
  if (rc.code != 0) {
    node_free(&anew);
    return rc;
  }
  anew.hash = blx__mix64(f->options.seed ^ blx__mix64(record->uid));
  return node_renew(f, slot, &anew) ? BLX__OK : no_memory(err);
}

/* In place of @was, which is part of @all. */
static void replace(uint64_t *all, uint64_t *was, uint64_t now) {
  BLX__ASSERT(*all >= *was);
  *all = *all - *was + now;
  *was = now;
}

bool blx__fleet_set_extra(struct blx__fleet *f, uint64_t uid, const struct blx_resources *extra) {
  uint32_t slot = fleet_ids_get(&f->node_ids, uid);
  if (slot == FLEET_NONE) return false;
  struct fleet_node *n = &f->nodes[slot];
  replace(&n->view.allocated_cpu_milli, &n->extra_cpu_milli, cpu_milli_of(extra));
  replace(&n->view.allocated_memory_mib, &n->extra_memory_mib, extra->memory_mib);
  for (size_t i = 0; i < n->view.n_named; i++)
    replace(&n->named[i].allocated, &n->named_extra[i], amount_of(extra, n->named[i].name));
  fleet_index_note(f, slot, false);
  return true;
}

bool blx__fleet_add_extra(struct blx__fleet *f, uint64_t uid, const struct blx_vm_spec *spec) {
  uint32_t slot = fleet_ids_get(&f->node_ids, uid);
  struct blx_resources used = {.named = spec->resources, .n_named = spec->n_resources};
  if (slot == FLEET_NONE) return false;
  struct fleet_node *n = &f->nodes[slot];
  replace(&n->view.allocated_cpu_milli, &n->extra_cpu_milli, n->extra_cpu_milli + blx__placement_cpu_milli(spec));
  replace(&n->view.allocated_memory_mib, &n->extra_memory_mib, n->extra_memory_mib + spec->memory_mib);
  for (size_t i = 0; i < n->view.n_named; i++)
    replace(&n->named[i].allocated, &n->named_extra[i], n->named_extra[i] + amount_of(&used, n->named[i].name));
  fleet_index_note(f, slot, false);
  return true;
}

bool blx__fleet_drop_node(struct blx__fleet *f, uint64_t uid) {
  uint32_t slot = fleet_ids_get(&f->node_ids, uid);
  if (slot == FLEET_NONE) return false;
  struct fleet_node *n = &f->nodes[slot];
  while (n->first != FLEET_NONE) {
    uint32_t instance = n->first;
    fleet_detach(f, instance);
    fleet_instance_free(f, instance);
  }
  fleet_levels_drop(f, slot);
  fleet_ids_remove(&f->node_ids, uid);
  node_free(n);
  *n = (struct fleet_node){.first = f->nodes_free};
  f->nodes_free = slot;
  fleet_index_layout(f);
  return true;
}

/* ---- the rest */

bool blx__fleet_has_vm(const struct blx__fleet *f, uint64_t vm_uid) {
  return fleet_ids_get(&f->vm_ids, vm_uid) != FLEET_NONE;
}

blx__rc blx__fleet_add_strategy(struct blx__fleet *f, const char *name, blx__fleet_score_fn fn, void *user,
                                int32_t *number, blx_error *err) {
  struct fleet_strategy s = {.fn = fn, .user = user};
  if (!name || !name[0] || !fn || !blx__str_copy(s.name, sizeof s.name, name))
    return blx__fail(err, BLX_E_INVALID, origin, "a strategy has a name of 1 to %zu bytes, and a function",
                     sizeof s.name - 1);
  if (f->n_strategies == BLX__FLEET_STRATEGIES_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "there are %d strategies of embedders, the most there can be",
                     BLX__FLEET_STRATEGIES_MAX);
  *number = BLX__FLEET_STRATEGY_FIRST + (int32_t)f->n_strategies;
  f->strategies[f->n_strategies++] = s;
  return BLX__OK;
}

struct blx__fleet_memory blx__fleet_memory(const struct blx__fleet *f) {
  size_t per_level = sizeof(uint32_t) + sizeof(struct fleet_domain *);
  size_t per_node = sizeof *f->replicas + sizeof *f->out + 3 * sizeof(uint64_t) + 3 + FLEET_SELF_MAX * sizeof(uint32_t);
  struct blx__fleet_memory m = {.record_bytes = f->record_bytes};
  m.index_bytes = f->options.nodes_max * (f->n_levels * per_level + per_node);
  m.index_bytes += fleet_index_bytes(f) + fleet_learn_bytes(f) + f->node_ids.room * sizeof *f->node_ids.at;
  m.instance_bytes =
      f->instances_room * (sizeof *f->instances + sizeof *f->terms) + f->instance_ids.room * sizeof *f->instance_ids.at;
  m.record_bytes += f->vms_room * sizeof *f->vms + f->vm_ids.room * sizeof *f->vm_ids.at;
  for (uint32_t i = 0; i < f->nodes_used; i++)
    if (f->nodes[i].view.uid != 0) m.record_bytes += sizeof f->nodes[i] + blx__msg_owned_bytes(f->nodes[i].rec);
  return m;
}
