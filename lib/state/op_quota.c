/* What operators say of nodes and tenants for placement to go by: taints, quotas. */
#include "state/state_int.h"

typedef unsigned long long ull;

/* ---- taints */

enum { TAINTS_MAX = 16 };

static const struct blx_taint *find_taint(struct blx_taint *const *list, size_t n, const char *key) {
  for (size_t i = 0; i < n; i++)
    if (blx__str_eq(list[i]->key, key)) return list[i];
  return NULL;
}

static const struct blx_taint *same_taint(struct blx_taint *const *list, size_t n, const struct blx_taint *t) {
  for (size_t i = 0; i < n; i++)
    if (blx__str_eq(list[i]->key, t->key) && list[i]->effect == t->effect) return list[i];
  return NULL;
}

/* Each once, in one of the lists. */
static blx__rc check_taints(const struct blx_op_node_taint *o, blx_error *err) {
  for (size_t i = 0; i < o->n_set; i++) {
    const struct blx_taint *t = o->set[i];
    if (!t->key || !t->key[0]) return blx__fail(err, BLX_E_INVALID, "state", "set: a taint has no key");
    if (t->effect != BLX_TAINT_EFFECT_NO_PLACE && t->effect != BLX_TAINT_EFFECT_AVOID)
      return blx__fail(err, BLX_E_INVALID, "state", "set: the taint %.64s has the effect %d, which there is not",
                       t->key, (int)t->effect);
    if (same_taint(o->set, i, t) || find_taint(o->unset, o->n_unset, t->key))
      return blx__fail(err, BLX_E_INVALID, "state", "the taint %.64s is named twice: name it once", t->key);
  }
  return BLX__OK;
}

blx__rc blx__state_op_node_taint(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_taint *o = op->node_taint;
  const struct blx_node_info *n = NULL;
  struct blx_taint *taints[2 * TAINTS_MAX];
  size_t count = 0;
  bool changed = false;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  BLX__TRY(check_taints(o, err));
  BLX__ASSERT(n->n_taints <= TAINTS_MAX && o->n_set <= TAINTS_MAX);
  for (size_t i = 0; i < n->n_taints; i++) {
    struct blx_taint *t = n->taints[i];
    if (!same_taint(o->set, o->n_set, t) && !find_taint(o->unset, o->n_unset, t->key)) taints[count++] = t;
  }
  for (size_t i = 0; i < o->n_set; i++) {
    const struct blx_taint *old = same_taint(n->taints, n->n_taints, o->set[i]);
    const char *was = old && old->value ? old->value : "", *is = o->set[i]->value ? o->set[i]->value : "";
    changed = changed || !old || !blx__str_eq(was, is);
    taints[count++] = o->set[i];
  }
  if (count > TAINTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "%s would have %zu taints, %d is the most: take some away", n->name,
                     count, (int)TAINTS_MAX);
  out->uid = n->uid;
  if (!changed && count == n->n_taints) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.taints = taints;
  draft.n_taints = count;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

/* ---- quotas */

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
  if (!e && st->data.tenants.count >= BLX__STATE_TENANTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d tenants, the most it can have",
                     (int)BLX__STATE_TENANTS_MAX);
  struct blx_quota draft = *o->quota;
  draft.tenant = tenant;
  blx__state_put_quota(st, &draft);
  return BLX__OK;
}
