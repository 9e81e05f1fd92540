/* Levels, their domains, and the counters of VMs in them. */
#include "base/digest.h"
#include "placement/fleet_int.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 640 };

/* A rack is one within its zone only. */
static size_t value_of(const struct blx__fleet *f, const struct fleet_level *level,
                       const struct blx__placement_node *node, char out[VALUE_MAX]) {
  if (level != f->rack) {
    (void)blx__str_copy(out, VALUE_MAX, blx__placement_domain(node, level->name));
    return strlen(out);
  }
  const char *rack = blx__placement_domain(node, "rack");
  out[0] = 0;
  if (rack[0]) (void)blx__str_format(out, VALUE_MAX, "%s\n%s", blx__placement_domain(node, "zone"), rack);
  return strlen(out);
}

static struct fleet_domain *domain_new(struct blx__fleet *f, struct fleet_level *level, const char *value, size_t len) {
  uint32_t number = 0;
  while (number < level->n_domains && level->domains[number]) number++;
  BLX__ASSERT(number < f->options.nodes_max);
  struct fleet_domain *d = calloc(1, sizeof *d + len + 1);
  if (!d || !blx__map_set(&level->ids, value, len + 1, d, NULL)) {
    free(d);
    return NULL;
  }
  memcpy(d->value, value, len);
  d->number = number;
  level->domains[number] = d;
  if (number == level->n_domains) level->n_domains++;
  return d;
}

static void domain_leave(struct fleet_level *level, uint32_t number) {
  struct fleet_domain *d = level->domains[number];
  BLX__ASSERT(d != NULL && d->nodes > 0);
  if (--d->nodes > 0) return;
  blx__map_remove(&level->ids, d->value, strlen(d->value) + 1);
  level->domains[number] = NULL;
  while (level->n_domains > 0 && !level->domains[level->n_domains - 1]) level->n_domains--;
  free(d);
}

static bool level_put(struct blx__fleet *f, struct fleet_level *level, uint32_t slot) {
  char value[VALUE_MAX];
  size_t len = value_of(f, level, &f->nodes[slot].view, value);
  struct fleet_domain *d = blx__map_get(&level->ids, value, len + 1);
  if (level->of[slot] != FLEET_NONE) {
    if (d && d->number == level->of[slot]) return true;
    domain_leave(level, level->of[slot]);
    level->of[slot] = FLEET_NONE;
  }
  if (!d) d = domain_new(f, level, value, len);
  if (!d || !fleet_rules_grow(f, level)) return false;
  d->nodes++;
  level->of[slot] = d->number;
  return true;
}

bool fleet_levels_put(struct blx__fleet *f, uint32_t slot) {
  for (size_t i = 0; i < f->n_levels; i++)
    if (!level_put(f, f->levels[i], slot)) return false;
  return true;
}

void fleet_levels_drop(struct blx__fleet *f, uint32_t slot) {
  for (size_t i = 0; i < f->n_levels; i++) {
    struct fleet_level *level = f->levels[i];
    if (level->of[slot] == FLEET_NONE) continue;
    domain_leave(level, level->of[slot]);
    level->of[slot] = FLEET_NONE;
  }
}

static void level_free(struct fleet_level *level) {
  for (uint32_t i = 0; level->domains && i < level->n_domains; i++) free(level->domains[i]);
  blx__map_clear(&level->ids);
  free(level->domains);
  free(level->of);
  free(level->name);
  free(level);
}

static struct fleet_level *level_new(struct blx__fleet *f, const char *name) {
  struct fleet_level *level = calloc(1, sizeof *level);
  if (!level) return NULL;
  level->name = strdup(name);
  level->domains = calloc(f->options.nodes_max, sizeof(struct fleet_domain *));
  level->of = malloc(f->options.nodes_max * sizeof *level->of);
  if (!level->name || !level->domains || !level->of) {
    level_free(level);
    return NULL;
  }
  memset(level->of, 0xff, f->options.nodes_max * sizeof *level->of);
  if (!f->rack && blx__str_eq(name, "\nrack")) f->rack = level;
  for (uint32_t slot = 0; slot < f->nodes_used; slot++) {
    if (f->nodes[slot].view.uid == 0 || level_put(f, level, slot)) continue;
    level_free(level);
    return NULL;
  }
  return level;
}

struct fleet_level *fleet_level_ref(struct blx__fleet *f, const char *name, blx_error *err) {
  struct fleet_level *level = NULL;
  if (!name || !name[0]) name = "host";
  for (size_t i = 0; i < f->n_levels && !level; i++)
    if (blx__str_eq(f->levels[i]->name, name)) level = f->levels[i];
  if (!level && f->n_levels == FLEET_LEVELS_MAX) {
    (void)blx__fail(err, BLX_E_BUSY, "placement", "level %s: rules name %d levels already", name, FLEET_LEVELS_MAX);
    return NULL;
  }
  if (!level) {
    level = level_new(f, name);
    if (!level) (void)blx__fail(err, BLX_E_NOMEM, "placement", "no memory for a level of domains");
    if (level) f->levels[f->n_levels++] = level;
  }
  if (level) level->refs++;
  return level;
}

void fleet_level_unref(struct blx__fleet *f, struct fleet_level *level) {
  if (!level || --level->refs > 0) return;
  size_t at = 0;
  while (f->levels[at] != level) at++;
  f->levels[at] = f->levels[--f->n_levels];
  level_free(level);
}

void fleet_levels_free(struct blx__fleet *f) {
  for (size_t i = 0; i < f->n_levels; i++) level_free(f->levels[i]);
  f->n_levels = 0;
}

/* ---- rules */

static bool rule_grow(struct fleet_rule *r) {
  uint32_t room = r->room ? r->room : 8;
  while (room < r->level->n_domains) room *= 2;
  if (room == r->room) return true;
  uint32_t *match = realloc(r->match, room * sizeof *match);
  if (!match) return false;
  r->match = match;
  uint32_t *holders = realloc(r->holders, room * sizeof *holders);
  if (!holders) return false;
  r->holders = holders;
  memset(match + r->room, 0, (room - r->room) * sizeof *match);
  memset(holders + r->room, 0, (room - r->room) * sizeof *holders);
  r->room = room;
  return true;
}

bool fleet_rules_grow(struct blx__fleet *f, const struct fleet_level *level) {
  BLX__MAP_FOREACH(tenant, &f->tenants) {
    struct fleet_tenant *t = blx__map_value(tenant);
    BLX__MAP_FOREACH(pos, &t->rules) {
      struct fleet_rule *r = blx__map_value(pos);
      if (r->level == level && r->room < level->n_domains && !rule_grow(r)) return false;
    }
  }
  return true;
}

static void count_rule(uint32_t *per_domain, uint32_t *all, uint32_t domain, int32_t by) {
  BLX__ASSERT(by >= 0 || (per_domain[domain] >= (uint32_t)-by && *all >= (uint32_t)-by));
  per_domain[domain] += (uint32_t)by;
  *all += (uint32_t)by;
}

void fleet_count_rules(const struct fleet_class *c, uint32_t slot, int32_t by) {
  for (size_t i = 0; i < c->n_matched; i++)
    count_rule(c->matched[i]->match, &c->matched[i]->matches, c->matched[i]->level->of[slot], by);
  for (size_t i = 0; i < c->n_apart; i++)
    count_rule(c->apart[i]->holders, &c->apart[i]->all_holders, c->apart[i]->level->of[slot], by);
}

void fleet_count_node(struct blx__fleet *f, uint32_t slot, int32_t by) {
  for (uint32_t i = f->nodes[slot].first; i != FLEET_NONE; i = f->instances[i].next_on_node)
    fleet_count_rules(f->vms[f->instances[i].vm].class, slot, by);
}

static void rule_free(struct blx__fleet *f, struct fleet_rule *r) {
  if (!r) return;
  fleet_level_unref(f, r->level);
  blx__msg_free_owned(r->said);
  free(r->match);
  free(r->holders);
  free(r);
}

static bool class_matched(struct fleet_class *c, struct fleet_rule *r) {
  if (c->n_matched == c->matched_room) {
    size_t room = c->matched_room ? c->matched_room * 2 : 4;
    struct fleet_rule **more = realloc(c->matched, room * sizeof(struct fleet_rule *));
    if (!more) return false;
    c->matched = more;
    c->matched_room = room;
  }
  c->matched[c->n_matched++] = r;
  return true;
}

static bool selects(const struct fleet_rule *r, const struct fleet_class *c) {
  return blx__placement_selects(r->said->selector, r->said->n_selector, c->spec->labels, c->spec->n_labels);
}

/* A new rule counts what is there already. */
static bool rule_meet(struct blx__fleet *f, struct fleet_tenant *t, struct fleet_rule *r) {
  for (struct fleet_class *c = t->classes; c; c = c->next)
    if (selects(r, c) && !class_matched(c, r)) return false;
  for (uint32_t i = 0; i < f->instances_used; i++) {
    const struct fleet_instance *e = &f->instances[i];
    if (e->uid == 0 || e->node == FLEET_NONE) continue;
    const struct fleet_class *c = f->vms[e->vm].class;
    if (c->tenant == t && selects(r, c)) count_rule(r->match, &r->matches, r->level->of[e->node], 1);
  }
  return true;
}

/* Rules differ by selector and level; what else a rule says is its class's. */
static blx__rc rule_key(const struct blx_vm_affinity *said, uint8_t key[BLX__SHA256_BYTES], blx_error *err) {
  struct blx_vm_affinity bare = BLX_VM_AFFINITY_INIT;
  struct blx__buf bytes;
  bare.selector = said->selector;
  bare.n_selector = said->n_selector;
  bare.level = said->level && said->level[0] ? said->level : "host";
  blx__buf_init(&bytes, 1 << 20);
  blx__rc rc = blx__msg_encode(blx__desc_vm_affinity(), &bare, &bytes, err);
  struct blx__slice part = {.data = bytes.data, .len = bytes.len};
  if (rc.code == 0) blx__sha256(&part, 1, key);
  blx__buf_free(&bytes);
  return rc;
}

static blx__rc rule_ref(struct blx__fleet *f, struct fleet_tenant *t, const struct blx_vm_affinity *said,
                        struct fleet_rule **out, blx_error *err) {
  uint8_t key[BLX__SHA256_BYTES];
  void *copy = NULL;
  BLX__TRY(rule_key(said, key, err));
  struct fleet_rule *r = blx__map_get(&t->rules, key, sizeof key);
  if (!r) {
    struct fleet_level *level = fleet_level_ref(f, said->level, err);
    if (!level) return (blx__rc){err && err->code ? err->code : BLX_E_NOMEM};
    r = calloc(1, sizeof *r);
    if (r) r->level = level;
    blx__rc rc = blx__msg_own(blx__desc_vm_affinity(), said, &copy, err);
    if (r) r->said = copy;
    if (!r || rc.code != 0 || !rule_grow(r) || !blx__map_set(&t->rules, key, sizeof key, r, NULL)) {
      if (!r) fleet_level_unref(f, level);
      if (!r) blx__msg_free_owned(copy);
      rule_free(f, r);
      return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for a rule");
    }
    r->refs = 1;
    *out = r;
    return rule_meet(f, t, r) ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "placement", "no memory for a rule");
  }
  r->refs++;
  *out = r;
  return BLX__OK;
}

static void rule_unref(struct blx__fleet *f, struct fleet_tenant *t, struct fleet_rule *r) {
  uint8_t key[BLX__SHA256_BYTES];
  if (!r || --r->refs > 0) return;
  for (struct fleet_class *c = t->classes; c; c = c->next) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n_matched; i++)
      if (c->matched[i] != r) c->matched[kept++] = c->matched[i];
    c->n_matched = kept;
  }
  BLX__ASSERT(rule_key(r->said, key, NULL).code == 0);
  BLX__ASSERT(blx__map_remove(&t->rules, key, sizeof key) == r);
  rule_free(f, r);
}

static void note_apart(struct fleet_class *c, size_t at) {
  size_t i = 0;
  if (!c->spec->affinity[at]->apart || c->spec->affinity[at]->weight > 0 || !c->rule[at]) return;
  while (i < c->n_apart && c->apart[i] != c->rule[at]) i++;
  if (i == c->n_apart) c->apart[c->n_apart++] = c->rule[at];
}

/* @c is in its tenant's list, without instances yet. */
blx__rc fleet_class_rules(struct blx__fleet *f, struct fleet_class *c, blx_error *err) {
  const struct blx_vm_spec *s = c->spec;
  BLX__ASSERT(c->instances == 0 && c->n_matched == 0);
  BLX__MAP_FOREACH(pos, &c->tenant->rules) {
    struct fleet_rule *r = blx__map_value(pos);
    if (selects(r, c) && !class_matched(c, r)) return blx__fail(err, BLX_E_NOMEM, "placement", "no memory for a rule");
  }
  for (size_t i = 0; i < s->n_affinity; i++) {
    c->itself[i] = s->affinity[i]->n_selector == 0 ||
                   blx__placement_selects(s->affinity[i]->selector, s->affinity[i]->n_selector, s->labels, s->n_labels);
    c->level[i] = fleet_level_ref(f, s->affinity[i]->level, err);
    if (!c->level[i]) return (blx__rc){err && err->code ? err->code : BLX_E_NOMEM};
    if (s->affinity[i]->n_selector > 0) BLX__TRY(rule_ref(f, c->tenant, s->affinity[i], &c->rule[i], err));
    note_apart(c, i);
  }
  for (size_t i = 0; i < s->n_spread; i++) {
    c->spread[i] = fleet_level_ref(f, s->spread[i]->level, err);
    if (!c->spread[i]) return (blx__rc){err && err->code ? err->code : BLX_E_NOMEM};
  }
  return BLX__OK;
}

void fleet_class_rules_drop(struct blx__fleet *f, struct fleet_class *c) {
  BLX__ASSERT(c->instances == 0);
  for (size_t i = 0; i < BLX__PLACEMENT_AFFINITY_MAX; i++) {
    rule_unref(f, c->tenant, c->rule[i]);
    fleet_level_unref(f, c->level[i]);
  }
  for (size_t i = 0; i < BLX__PLACEMENT_SPREAD_MAX; i++) fleet_level_unref(f, c->spread[i]);
  free(c->matched);
  c->matched = NULL;
  c->n_matched = c->matched_room = 0;
}
