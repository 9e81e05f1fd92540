#include "support.h"

static int taint(struct t *t, const char *node, struct blx_taint *set, struct blx_taint *unset) {
  struct blx_op_node_taint o = BLX_OP_NODE_TAINT_INIT;
  o.name = node;
  o.set = &set;
  o.n_set = set != NULL;
  o.unset = &unset;
  o.n_unset = unset != NULL;
  struct blx_op op = BLX_OP_INIT;
  op.node_taint = &o;
  return t_apply(t, &op);
}

int t_taint(struct t *t, const char *node, const char *key, const char *value, int32_t effect) {
  struct blx_taint one = BLX_TAINT_INIT;
  one.key = key;
  one.value = value;
  one.effect = effect;
  return taint(t, node, &one, NULL);
}

int t_untaint(struct t *t, const char *node, const char *key) {
  struct blx_taint one = BLX_TAINT_INIT;
  one.key = key;
  return taint(t, node, NULL, &one);
}

static int quota(struct t *t, const struct blx_quota *q, bool gone) {
  struct blx_quota copy = *q;
  struct blx_op_quota_set o = BLX_OP_QUOTA_SET_INIT;
  o.quota = &copy;
  o.remove = gone;
  struct blx_op op = BLX_OP_INIT;
  op.quota_set = &o;
  return t_apply(t, &op);
}

int t_quota(struct t *t, const struct blx_quota *q) {
  return quota(t, q, false);
}

int t_quota_remove(struct t *t, const char *tenant) {
  struct blx_quota q = BLX_QUOTA_INIT;
  q.tenant = tenant;
  return quota(t, &q, true);
}
