/* A leader over a state under test: it steps, and what it proposes is applied. */
#ifndef BLX_TESTS_CONTROL_LEAD_H
#define BLX_TESTS_CONTROL_LEAD_H

#include "../state/support.h"

#include "control/control.h"

#include <string.h>

enum { NODES_MAX = 8 };

struct leader {
  struct t t;
  struct blx__control *control;
  enum blx_node_status status[NODES_MAX]; /* by uid */
  struct blx__arena arena;
  struct blx__control_out out;
  bool heard_all;                              /* nodes with higher uids too */
  size_t assigns, explains, preempts, refused; /* of the last turn */
};

static inline void soft_of(void *user, uint64_t uid, struct blx__control_soft *out) {
  const struct leader *l = user;
  *out = (struct blx__control_soft){.status = uid < NODES_MAX ? l->status[uid]
                                              : l->heard_all  ? BLX_NODE_STATUS_READY
                                                              : BLX_NODE_STATUS_UNKNOWN};
}

static inline void open_leader(struct leader *l, unsigned nodes) {
  memset(l, 0, sizeof *l);
  t_open_cluster(&l->t, nodes);
  l->arena.limit_bytes = 4 << 20;
  for (unsigned i = 0; i < NODES_MAX; i++) l->status[i] = BLX_NODE_STATUS_READY;
}

static inline void close_leader(struct leader *l) {
  blx__arena_free(&l->arena);
  blx__control_free(l->control);
  t_close(&l->t);
}

static inline blx__rc step_with(struct leader *l, blx__control_soft_fn soft, struct blx__arena *arena,
                                struct blx__control_out *out, blx_error *err) {
  const struct blx__control_input in = {l->t.st, soft, l, l->t.time_ms};
  if (!l->control) l->control = blx__control_new();
  ck_assert(l->control != NULL);
  return blx__control_step(l->control, &in, arena, out, err);
}

static inline void step(struct leader *l) {
  blx__arena_reset(&l->arena);
  blx_error err = {0};
  ck_assert_msg(step_with(l, soft_of, &l->arena, &l->out, &err).code == 0, "%s", err.message);
  ck_assert_uint_le(l->out.op_count, BLX__CONTROL_OPS_MAX);
}

/* One that knows nothing yet comes to the same as one that was kept. */
static inline void check_fresh(struct leader *l) {
  static struct blx__control_out again;
  struct blx__arena arena = {.limit_bytes = 16 << 20};
  struct blx__control *kept = l->control;
  l->control = NULL;
  ck_assert_int_eq(step_with(l, soft_of, &arena, &again, NULL).code, 0);
  blx__control_free(l->control);
  l->control = kept;
  ck_assert_uint_eq(l->out.op_count, again.op_count);
  for (size_t i = 0; i < again.op_count; i++) {
    ck_assert_uint_eq(l->out.ops[i].len, again.ops[i].len);
    ck_assert_mem_eq(l->out.ops[i].data, again.ops[i].data, again.ops[i].len);
  }
  blx__arena_free(&arena);
}

/* A step, and what it proposes is applied at once. */
static inline size_t turn(struct leader *l) {
  step(l);
  l->assigns = l->explains = l->preempts = l->refused = 0;
  for (size_t i = 0; i < l->out.op_count; i++) {
    struct blx__arena a = {.limit_bytes = 1 << 16};
    void *op = NULL;
    ck_assert_int_eq(blx__msg_decode(blx__desc_op(), &a, l->out.ops[i], &op, NULL).code, 0);
    l->assigns += ((struct blx_op *)op)->assign != NULL;
    l->explains += ((struct blx_op *)op)->explain != NULL;
    l->preempts += ((struct blx_op *)op)->preempt != NULL;
    blx__arena_free(&a);
    l->refused += t_apply_bytes(&l->t, l->out.ops[i].data, l->out.ops[i].len) != 0;
  }
  ck_assert_uint_eq(l->assigns + l->explains + l->preempts, l->out.op_count);
  return l->out.op_count;
}

/* What was given a node on @node is seen to run there. */
static inline void run_on(struct leader *l, uint64_t node) {
  static const struct t_seen runs = {.phase = BLX_PHASE_RUNNING};
  const struct blx_instance *i = NULL;
  for (uint64_t uid = 0; (i = blx__state_instance_on_node_after(l->t.st, node, uid)) != NULL;) {
    uid = i->uid;
    if (i->dead || i->phase != BLX_PHASE_CREATING) continue;
    ck_assert_int_eq(t_report_as(&l->t, node, uid, i->epoch, i->report_seq + 1, runs), 0);
  }
}

static inline void turn_and_run(struct leader *l) {
  turn(l);
  for (uint64_t node = 1; node < NODES_MAX; node++) run_on(l, node);
}

static inline const char *node_of(const struct leader *l, const char *instance) {
  const struct blx_node_info *n = blx__state_node(l->t.st, t_instance(&l->t, instance)->node_uid);
  return n ? n->name : "";
}

#endif
