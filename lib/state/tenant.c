/* Tenants: what each has, counted as it comes and goes, and what it may have. A tenant is known while it has either. */
#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

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
  uint64_t cpu_milli = blx__state_cpu_milli(s);
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

static blx__rc within(struct wish w, uint64_t has, uint64_t more, uint64_t limit, const char *of, blx_error *err) {
  if (has <= limit && more <= limit - has) return BLX__OK;
  return blx__fail(err, BLX_E_QUOTA, "state",
                   "tenant %s has %llu of %llu %.80s and %s needs %llu more: delete what is not needed, or have the "
                   "quota raised",
                   w.tenant, (ull)has, (ull)limit, of, w.vm, (ull)more);
}

blx__rc blx__state_quota_allows(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                                uint32_t vms, uint32_t instances, blx_error *err) {
  const struct state_tenant *e = blx__state_tenant_get(st, tenant);
  if (!e && st->data.tenants.count >= BLX__STATE_TENANTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d tenants, the most it can have",
                     (int)BLX__STATE_TENANTS_MAX);
  const struct blx_quota *q = e ? e->rec : NULL;
  if (!q) return BLX__OK;
  struct wish w = {e->name, spec->name};
  if (q->has_vms && vms) BLX__TRY(within(w, e->vms, vms, q->vms, "VMs", err));
  if (instances == 0) return BLX__OK;
  if (q->has_instances) BLX__TRY(within(w, e->instances, instances, q->instances, "instances", err));
  if (q->has_vcpus) BLX__TRY(within(w, e->vcpus, times(spec->vcpus, instances), q->vcpus, "vCPUs", err));
  if (q->has_memory_mib)
    BLX__TRY(within(w, e->memory_mib, times(spec->memory_mib, instances), q->memory_mib, "MiB of memory", err));
  for (size_t i = 0; i < q->n_named; i++) {
    const char *name = q->named[i]->name;
    uint64_t more = 0;
    for (size_t k = 0; k < spec->n_resources; k++)
      if (blx__str_eq(spec->resources[k]->name, name)) more += times(spec->resources[k]->amount, instances);
    if (more) BLX__TRY(within(w, blx__state_amount(&e->named, name), more, q->named[i]->amount, name, err));
  }
  return BLX__OK;
}
