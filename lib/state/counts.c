/* What is counted as it comes and goes: named resources; what each tenant has, beside what it may have; and how many
 * instances of which shape are defined. A tenant is known while it has a VM or a quota. */
#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* ---- sums of named resources: few names each, kept by name and without zeros, so that equal sums look alike */

/* Where @name is, or would be. */
static size_t place_of(const struct state_amounts *a, const char *name, bool *found) {
  size_t at = 0;
  while (at < a->n && strcmp(a->list[at].name, name) < 0) at++;
  *found = at < a->n && strcmp(a->list[at].name, name) == 0;
  return at;
}

uint64_t blx__state_amount(const struct state_amounts *a, const char *name) {
  bool found;
  size_t at = place_of(a, name ? name : "", &found);
  return found ? a->list[at].amount : 0;
}

static void add(struct state_amounts *a, const char *name, uint64_t amount) {
  bool found;
  size_t at = place_of(a, name, &found);
  if (found) {
    a->list[at].amount += amount;
    return;
  }
  if (a->n == a->room) {
    a->room = a->room ? 2 * a->room : 4;
    a->list = reallocarray(a->list, a->room, sizeof *a->list);
    STATE_MUST(a->list != NULL);
  }
  memmove(&a->list[at + 1], &a->list[at], (a->n - at) * sizeof *a->list);
  a->n++;
  a->list[at] = (struct state_amount){strdup(name), amount};
  STATE_MUST(a->list[at].name != NULL);
}

static void take(struct state_amounts *a, const char *name, uint64_t amount) {
  bool found;
  size_t at = place_of(a, name, &found);
  BLX__ASSERT(found);
  a->list[at].amount -= amount;
  if (a->list[at].amount != 0) return;
  free(a->list[at].name);
  a->n--;
  memmove(&a->list[at], &a->list[at + 1], (a->n - at) * sizeof *a->list);
}

void blx__state_amounts_count(struct state_amounts *a, struct blx_amount *const *list, size_t n, bool in) {
  for (size_t i = 0; i < n; i++) {
    const char *name = list[i]->name ? list[i]->name : "";
    if (list[i]->amount == 0) continue;
    if (in)
      add(a, name, list[i]->amount);
    else
      take(a, name, list[i]->amount);
  }
}

void blx__state_amounts_free(struct state_amounts *a) {
  for (size_t i = 0; i < a->n; i++) free(a->list[i].name);
  free(a->list);
  *a = (struct state_amounts){0};
}

blx__rc blx__state_amounts_check(struct blx_amount *const *list, size_t n, const char *what, blx_error *err) {
  for (size_t i = 0; i < n; i++) {
    const char *name = list[i]->name;
    if (!name || !name[0]) return blx__fail(err, BLX_E_INVALID, "state", "%s: a resource has no name", what);
    for (size_t k = 0; k < i; k++)
      if (blx__str_eq(list[k]->name, name))
        return blx__fail(err, BLX_E_INVALID, "state", "%s: %.64s is named twice", what, name);
  }
  return BLX__OK;
}

/* ---- shapes, and the same by how frequent they are */

enum { FREQUENT_KEY_BYTES = 3 * 8 };

struct shape {
  uint64_t cpu_milli, memory_mib, count;
};

static void put_u64(uint8_t *key, uint64_t v) {
  for (unsigned i = 0; i < 8; i++) key[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* The most frequent has the lowest key; then the largest. */
static void frequent_key(uint8_t key[FREQUENT_KEY_BYTES], const struct shape *s) {
  put_u64(key, ~s->count);
  put_u64(key + 8, ~s->memory_mib);
  put_u64(key + 16, ~s->cpu_milli);
}

void blx__state_count_shape(struct blx__state *st, uint64_t cpu_milli, uint64_t memory_mib, bool in) {
  uint8_t pair[16], key[FREQUENT_KEY_BYTES];
  size_t n = blx__state_pair_key(pair, cpu_milli, memory_mib);
  struct shape *s = blx__map_get(&st->data.shapes, pair, n);
  if (!s) {
    BLX__ASSERT(in);
    s = calloc(1, sizeof *s);
    STATE_MUST(s != NULL && blx__map_set(&st->data.shapes, pair, n, s, NULL));
    s->cpu_milli = cpu_milli;
    s->memory_mib = memory_mib;
  } else {
    frequent_key(key, s);
    const void *was = blx__map_remove(&st->data.frequent, key, sizeof key);
    BLX__ASSERT(was == s);
  }
  s->count = in ? s->count + 1 : s->count - 1;
  if (s->count == 0) {
    blx__map_remove(&st->data.shapes, pair, n);
    free(s);
    return;
  }
  frequent_key(key, s);
  STATE_MUST(blx__map_set(&st->data.frequent, key, sizeof key, s, NULL));
}

size_t blx__state_shapes(const struct blx__state *st, struct blx__state_shape *out, size_t max) {
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &st->data.frequent) {
    const struct shape *s = blx__map_value(pos);
    if (n == max) break;
    out[n++] = (struct blx__state_shape){s->cpu_milli, s->memory_mib, s->count};
  }
  return n;
}

void blx__state_shapes_free(struct state_data *d) {
  BLX__MAP_FOREACH(pos, &d->shapes) free(blx__map_value(pos));
  blx__map_clear(&d->shapes);
  blx__map_clear(&d->frequent);
}

/* ---- tenants */

struct state_tenant *blx__state_tenant_get(const struct blx__state *st, const char *tenant) {
  return blx__map_get_str(&st->data.tenants, blx__state_tenant(tenant));
}

static struct state_tenant *known(struct blx__state *st, const char *tenant) {
  const char *name = blx__state_tenant(tenant);
  struct state_tenant *e = blx__state_tenant_get(st, name);
  if (e) return e;
  e = calloc(1, sizeof *e);
  STATE_MUST(e != NULL);
  BLX__ASSERT(blx__str_copy(e->name, sizeof e->name, name));
  STATE_MUST(blx__map_set_str(&st->data.tenants, e->name, e, NULL));
  return e;
}

void blx__state_tenant_free(struct state_tenant *e) {
  if (e->rec) blx__msg_free_owned(e->rec);
  blx__state_amounts_free(&e->named);
  free(e->amounts);
  free(e->amount_list);
  free(e);
}

static void forget_empty(struct blx__state *st, struct state_tenant *e) {
  if (e->rec || e->vms > 0) return;
  BLX__ASSERT(e->instances == 0 && e->memory_mib == 0 && e->named.n == 0);
  blx__map_remove_str(&st->data.tenants, e->name);
  blx__state_tenant_free(e);
}

void blx__state_count_vm(struct blx__state *st, const struct blx_vm *vm, bool in) {
  struct state_tenant *e = known(st, vm->tenant);
  BLX__ASSERT(in || e->vms > 0);
  e->vms += in ? 1 : 0;
  e->vms -= in ? 0 : 1;
  forget_empty(st, e);
}

void blx__state_count_instance(struct blx__state *st, const struct blx_vm *vm, bool in) {
  struct state_tenant *e = blx__state_tenant_get(st, vm->tenant);
  const struct blx_vm_spec *s = vm->spec;
  uint64_t cpu_milli = blx__placement_cpu_milli(s);
  BLX__ASSERT(e != NULL && e->vms > 0 && (in || e->instances > 0));
  e->instances = in ? e->instances + 1 : e->instances - 1;
  e->vcpus = in ? e->vcpus + s->vcpus : e->vcpus - s->vcpus;
  e->cpu_milli = in ? e->cpu_milli + cpu_milli : e->cpu_milli - cpu_milli;
  e->memory_mib = in ? e->memory_mib + s->memory_mib : e->memory_mib - s->memory_mib;
  blx__state_amounts_count(&e->named, s->resources, s->n_resources, in);
  blx__state_count_shape(st, cpu_milli, s->memory_mib, in);
}

/* ---- the record */

void blx__state_put_quota(struct blx__state *st, const struct blx_quota *draft) {
  struct state_tenant *e = known(st, draft->tenant);
  struct blx_quota copy = *draft;
  void *rec = NULL;
  bool fresh = e->rec == NULL;
  if (!st->quiet) copy.revision = st->data.index;
  copy.tenant = e->name;
  copy.used_vms = copy.used_instances = 0;
  copy.used = NULL;
  STATE_MUST(blx__msg_own(blx__desc_quota(), &copy, &rec, NULL).code == 0);
  if (e->rec) blx__state_release(st, e->rec);
  e->rec = rec;
  STATE_MUST(blx__map_set_str(&st->data.quotas, e->name, e, NULL));
  blx__state_event_quota(st, fresh ? BLX_EVENT_TYPE_CREATED : BLX_EVENT_TYPE_CHANGED, e->name);
}

void blx__state_drop_quota(struct blx__state *st, struct state_tenant *e) {
  BLX__ASSERT(e->rec != NULL);
  blx__state_event_quota(st, BLX_EVENT_TYPE_DELETED, e->name);
  blx__map_remove_str(&st->data.quotas, e->name);
  blx__state_release(st, e->rec);
  e->rec = NULL;
  forget_empty(st, e);
}

/* ---- the view */

static uint32_t at_most_u32(uint64_t n) {
  return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* As many as an answer may hold. */
static void view_amounts(struct state_tenant *e) {
  enum { MOST = 32 };
  size_t n = e->named.n < MOST ? e->named.n : MOST;
  e->amounts = reallocarray(e->amounts, n + 1, sizeof *e->amounts);
  e->amount_list = reallocarray(e->amount_list, n + 1, sizeof(struct blx_amount *));
  STATE_MUST(e->amounts && e->amount_list);
  for (size_t i = 0; i < n; i++) {
    e->amounts[i] = (struct blx_amount)BLX_AMOUNT_INIT;
    e->amounts[i].name = e->named.list[i].name;
    e->amounts[i].amount = e->named.list[i].amount;
    e->amount_list[i] = &e->amounts[i];
  }
  e->used.named = e->amount_list;
  e->used.n_named = n;
}

static const struct blx_quota *view(struct state_tenant *e) {
  if (!e) return NULL;
  e->view = e->rec ? *e->rec : (struct blx_quota)BLX_QUOTA_INIT;
  e->used = (struct blx_resources)BLX_RESOURCES_INIT;
  e->used.vcpus = at_most_u32(e->vcpus);
  e->used.cpu_milli = at_most_u32(e->cpu_milli);
  e->used.memory_mib = e->memory_mib;
  view_amounts(e);
  e->view.tenant = e->name;
  e->view.used_vms = e->vms;
  e->view.used_instances = e->instances;
  e->view.used = &e->used;
  return &e->view;
}

const struct blx_quota *blx__state_quota(const struct blx__state *st, const char *tenant) {
  return view(blx__state_tenant_get(st, tenant));
}

const struct blx_quota *blx__state_limits(const struct blx__state *st, const char *tenant) {
  const struct state_tenant *e = blx__state_tenant_get(st, tenant);
  return e ? e->rec : NULL;
}

const struct blx_quota *blx__state_quota_after(const struct blx__state *st, const char *tenant) {
  size_t n = tenant ? strlen(tenant) : 0;
  return view(blx__state_after(&st->data.tenants, (const uint8_t *)tenant, n));
}

/* ---- the check */

struct wish {
  const char *tenant, *vm;
};

static uint64_t times(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

/* What a quota may limit, in the order in which it is looked at; then the named resources. */
enum { OF_VMS, OF_INSTANCES, OF_VCPUS, OF_MEMORY, OF_NAMED };

struct dimension {
  bool limited;
  const char *name, *of; /* for programs; behind a number, for people */
  uint64_t has, limit, each;
};

static uint64_t sum_of(const struct blx_vm_spec *spec, const char *name) {
  uint64_t sum = 0;
  for (size_t k = 0; k < spec->n_resources; k++)
    if (blx__str_eq(spec->resources[k]->name, name)) sum += spec->resources[k]->amount;
  return sum;
}

/* @each: of a VM, or of an instance of @spec. */
static struct dimension dimension(const struct state_tenant *e, const struct blx_vm_spec *spec, size_t at) {
  const struct blx_quota *q = e->rec;
  BLX__ASSERT(q != NULL && at < OF_NAMED + q->n_named);
  if (at == OF_VMS) return (struct dimension){q->has_vms, "vms", "VMs", e->vms, q->vms, 1};
  if (at == OF_INSTANCES)
    return (struct dimension){q->has_instances, "instances", "instances", e->instances, q->instances, 1};
  if (at == OF_VCPUS) return (struct dimension){q->has_vcpus, "vcpus", "vCPUs", e->vcpus, q->vcpus, spec->vcpus};
  if (at == OF_MEMORY)
    return (struct dimension){q->has_memory_mib, "memory",      "MiB of memory",
                              e->memory_mib,     q->memory_mib, spec->memory_mib};
  const struct blx_amount *named = q->named[at - OF_NAMED];
  uint64_t each = sum_of(spec, named->name);
  return (struct dimension){each > 0,      named->name, named->name, blx__state_amount(&e->named, named->name),
                            named->amount, each};
}

static blx__rc within(struct wish w, const struct dimension *d, uint32_t count, blx_error *err) {
  uint64_t more = times(d->each, count);
  if (d->has <= d->limit && more <= d->limit - d->has) return BLX__OK;
  return blx__fail(err, BLX_E_QUOTA, "state",
                   "tenant %s has %llu of %llu %.80s and %s needs %llu more: delete what is not needed, or have the "
                   "quota raised",
                   w.tenant, (ull)d->has, (ull)d->limit, d->of, w.vm, (ull)more);
}

blx__rc blx__state_quota_allows(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                                uint32_t vms, uint32_t instances, blx_error *err) {
  const struct state_tenant *e = blx__state_tenant_get(st, tenant);
  if (!e && st->data.tenants.count >= BLX__STATE_TENANTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d tenants, the most it can have",
                     (int)BLX__STATE_TENANTS_MAX);
  if (!e || !e->rec) return BLX__OK;
  struct wish w = {e->name, spec->name};
  for (size_t at = 0; at < OF_NAMED + e->rec->n_named; at++) {
    struct dimension d = dimension(e, spec, at);
    uint32_t count = at == OF_VMS ? vms : instances;
    if (d.limited && count > 0) BLX__TRY(within(w, &d, count, err));
  }
  return BLX__OK;
}

struct blx__state_quota_room blx__state_quota_room(const struct blx__state *st, const char *tenant,
                                                   const struct blx_vm_spec *spec) {
  const struct state_tenant *e = blx__state_tenant_get(st, tenant);
  struct blx__state_quota_room room = {.tenant = blx__state_tenant(tenant), .instances = UINT64_MAX};
  for (size_t at = 0; e && e->rec && at < OF_NAMED + e->rec->n_named; at++) {
    struct dimension d = dimension(e, spec, at);
    if (!d.limited || d.each == 0) continue;
    uint64_t n = d.has < d.limit ? (d.limit - d.has) / d.each : 0;
    if (at == OF_VMS) n = times(n, STATE_REPLICAS_MAX);
    if (n >= room.instances) continue;
    room.instances = n;
    room.name = d.name;
    room.of = d.of;
    room.has = d.has;
    room.limit = d.limit;
    room.each = d.each;
  }
  return room;
}
