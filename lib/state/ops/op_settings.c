/* What holds for the whole cluster, and for a tenant. */
#include "state/state_int.h"

#include "lease/lease.h"

typedef unsigned long long ull;

const struct blx_settings *blx__state_settings(const struct blx__state *st) {
  return st->data.settings ? st->data.settings : &st->defaults;
}

static bool same_lease(const struct blx_lease_settings *a, const struct blx_lease_settings *b) {
  return a->renew_ms == b->renew_ms && a->lease_ms == b->lease_ms && a->kill_ms == b->kill_ms &&
         a->watchdog_ms == b->watchdog_ms && a->margin_ms == b->margin_ms && a->rate_ppm == b->rate_ppm &&
         a->suspect_ms == b->suspect_ms;
}

uint64_t blx__state_t_safe_ms(const struct blx__state *st, uint64_t lease_ms) {
  const struct blx_settings *s = blx__state_settings(st);
  uint64_t now = blx__lease_t_safe_ms(s->lease, lease_ms);
  uint64_t before = s->lease_before ? blx__lease_t_safe_ms(s->lease_before, lease_ms) : 0;
  return now > before ? now : before;
}

/* Of leases that are out, only those of two settings must be waited for: the last change is over before the next.
 * Cluster time may run a tenth faster than a node's clock. */
static blx__rc may_change_lease(const struct blx__state *st, const struct blx_settings *s, blx_error *err) {
  uint64_t wait_ms = blx__state_t_safe_ms(st, 0) * 9 / 8, since_ms = st->data.time_ms - s->lease_changed_ms;
  if (!s->lease_before || since_ms >= wait_ms) return BLX__OK;
  return blx__fail(err, BLX_E_BUSY, "state",
                   "leases of the settings before the last change may be out: change them again in %llu s",
                   (ull)((wait_ms - since_ms + 999) / 1000));
}

/* What is granted until fencing is armed again lasts for a whole lease beyond that, and now for one of these. Cluster
 * time may run a tenth faster than a node's clock: what is granted now may last for an eighth longer. */
static void extend(struct blx_settings *draft, uint64_t now_ms) {
  if (draft->disarmed_until_ms <= now_ms) return;
  uint64_t now = blx__lease_t_safe_ms(draft->lease, 0);
  uint64_t before = draft->lease_before ? blx__lease_t_safe_ms(draft->lease_before, 0) : 0;
  uint64_t for_ms = draft->disarmed_until_ms - now_ms;
  uint64_t lasts_ms = draft->disarmed_until_ms + (now > before ? now : before) + for_ms / 8;
  if (lasts_ms > draft->extended_until_ms) draft->extended_until_ms = lasts_ms;
}

blx__rc blx__state_op_settings_set(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                   blx_error *err) {
  const struct blx_op_settings_set *o = op->settings_set;
  const struct blx_settings *s = blx__state_settings(st);
  (void)out;
  if (o->if_revision && o->if_revision != s->revision)
    return blx__fail(err, BLX_E_STALE, "state", "the settings have revision %llu, not %llu: read them again",
                     (ull)s->revision, (ull)o->if_revision);
  struct blx_settings draft = *s;
  if (o->lease && !same_lease(o->lease, s->lease)) {
    BLX__TRY(blx__lease_check(o->lease, err));
    BLX__TRY(may_change_lease(st, s, err));
    draft.lease_before = s->lease;
    draft.lease_changed_ms = st->data.time_ms;
    draft.lease = o->lease;
    extend(&draft, st->data.time_ms);
  }
  if (o->placement) BLX__TRY(blx__placement_settings_check(o->placement, err));
  if (o->placement) draft.placement = o->placement;
  if (o->set_nixpkgs) draft.nixpkgs_ref = o->nixpkgs_ref;
  if (o->set_microvm) draft.microvm_ref = o->microvm_ref;
  blx__state_put_settings(st, &draft);
  return BLX__OK;
}

blx__rc blx__state_op_ha_disarm(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_op_ha_disarm *o = op->ha_disarm;
  struct blx_settings draft = *blx__state_settings(st);
  (void)out;
  if (o->for_ms > BLX__STATE_DISARM_MAX_MS)
    return blx__fail(err, BLX_E_INVALID, "state", "for_ms: %llu is above %d, which is a day", (ull)o->for_ms,
                     (int)BLX__STATE_DISARM_MAX_MS);
  if (o->for_ms == 0 && draft.disarmed_until_ms == 0) return BLX__OK;
  draft.disarmed_until_ms = o->for_ms ? st->data.time_ms + o->for_ms : 0;
  draft.disarmed_by = o->for_ms ? op->principal : NULL;
  draft.disarm_reason = o->for_ms ? o->reason : NULL;
  extend(&draft, st->data.time_ms);
  blx__state_put_settings(st, &draft);
  return BLX__OK;
}

/* ---- quotas */

/* They are conditions as a VM's are. */
static blx__rc check_nodes(const struct blx_quota *q, blx_error *err) {
  struct blx_vm_spec as_spec = BLX_VM_SPEC_INIT;
  blx_error why = {0};
  as_spec.constraints = q->nodes;
  as_spec.n_constraints = q->n_nodes;
  if (blx__placement_spec_check(&as_spec, &why).code == 0) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "state", "quota.nodes as %s", why.message);
}

blx__rc blx__state_op_quota_set(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_op_quota_set *o = op->quota_set;
  const char *tenant = blx__state_tenant(o->quota ? o->quota->tenant : NULL);
  (void)out;
  if (!o->quota) return blx__fail(err, BLX_E_INVALID, "state", "quota: is required");
  if (!blx__name_ok(tenant, STATE_TENANT_MAX))
    return blx__fail(err, BLX_E_INVALID, "state", "quota.tenant: the name does not match " BLX__NAME_PATTERN);
  struct state_tenant *e = blx__state_tenant_get(st, tenant);
  uint64_t revision = e && e->rec ? e->rec->revision : 0;
  if (o->if_revision && o->if_revision != revision)
    return blx__fail(err, BLX_E_STALE, "state", "the quota of %s has revision %llu, not %llu: read it again", tenant,
                     (ull)revision, (ull)o->if_revision);
  if (o->remove) {
    if (e && e->rec) blx__state_drop_quota(st, e);
    return BLX__OK;
  }
  BLX__TRY(blx__state_amounts_check(o->quota->named, o->quota->n_named, "quota.named", err));
  BLX__TRY(check_nodes(o->quota, err));
  if (!e && st->data.tenants.count >= BLX__STATE_TENANTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d tenants, the most it can have",
                     (int)BLX__STATE_TENANTS_MAX);
  struct blx_quota draft = *o->quota;
  draft.tenant = tenant;
  blx__state_put_quota(st, &draft);
  return BLX__OK;
}
