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

int t_placement(struct t *t, const struct blx_placement_settings *settings) {
  struct blx_placement_settings copy = *settings;
  struct blx_op_settings_set o = BLX_OP_SETTINGS_SET_INIT;
  o.placement = &copy;
  struct blx_op op = BLX_OP_INIT;
  op.settings_set = &o;
  return t_apply(t, &op);
}

int t_preempt(struct t *t, const char *instance, uint64_t node_uid, const char *const *victims) {
  enum { MOST = 8 };
  struct blx_preempt_victim rows[MOST], *list[MOST];
  struct blx_op_preempt o = BLX_OP_PREEMPT_INIT;
  const struct blx_instance *i = t_instance(t, instance);
  ck_assert_ptr_nonnull(i);
  o.instance_uid = i->uid;
  o.expected_epoch = i->epoch;
  o.node_uid = node_uid;
  o.victims = list;
  for (; victims && victims[o.n_victims]; o.n_victims++) {
    const struct blx_instance *victim = t_instance(t, victims[o.n_victims]);
    ck_assert(victim && o.n_victims < MOST);
    rows[o.n_victims] = (struct blx_preempt_victim)BLX_PREEMPT_VICTIM_INIT;
    rows[o.n_victims].uid = victim->uid;
    rows[o.n_victims].epoch = victim->epoch;
    list[o.n_victims] = &rows[o.n_victims];
  }
  struct blx_op op = BLX_OP_INIT;
  op.preempt = &o;
  return t_apply(t, &op);
}
