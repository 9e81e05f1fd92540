/* Operations of the log, each with two bytes of length in front, applied to a small cluster. Whatever is applied or
 * refused, the state can be written and read back; after one that cannot be read it is fatal and untouched. */
#include "fuzz.h"
#include "support_state.h"

enum { OPS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct t t;
  fuzz_state_open(&t);
  struct blx__buf result;
  blx__buf_init(&result, 1 << 20);
  for (unsigned i = 0; i < OPS_MAX && size >= 2 && !blx__state_fatal(t.st); i++) {
    size_t n = (size_t)data[0] | (size_t)data[1] << 8;
    if (n > size - 2) n = size - 2;
    t.time_ms += 1000;
    blx__buf_clear(&result);
    blx__state_begin(t.st, ++t.index, t.time_ms);
    blx__state_apply(t.st, (struct blx__slice){data + 2, n}, &result);
    blx__state_end(t.st);
    FUZZ_SHALL(blx__state_fatal(t.st) || result.len > 0);
    data += 2 + n;
    size -= 2 + n;
  }
  if (!blx__state_fatal(t.st)) fuzz_state_check(&t);
  blx__buf_free(&result);
  t_close(&t);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  return fuzz_mutate_frames(data, size, max_size, seed, 2, blx__desc_op());
}

static struct blx__buf all;

static void add(const struct blx_op *op) {
  struct blx__buf one;
  blx__buf_init(&one, 65536);
  FUZZ_SHALL(blx__buf_add(&one, "\0\0", 2));
  FUZZ_SHALL(blx__msg_encode(blx__desc_op(), op, &one, NULL).code == 0);
  one.data[0] = (uint8_t)(one.len - 2);
  one.data[1] = (uint8_t)((one.len - 2) >> 8);
  fuzz_seed(one.data, one.len);
  FUZZ_SHALL(blx__buf_add(&all, one.data, one.len));
  blx__buf_free(&one);
}

static void add_vm_ops(void) {
  struct blx_vm_spec spec = t_spec("db", 1);
  struct blx_op_vm_create create = BLX_OP_VM_CREATE_INIT;
  struct blx_op_vm_desire desire = BLX_OP_VM_DESIRE_INIT;
  struct blx_op_vm_delete gone = BLX_OP_VM_DELETE_INIT;
  create.spec = &spec;
  struct blx_op_vm_delete_force force = BLX_OP_VM_DELETE_FORCE_INIT;
  uint64_t silent = 1;
  desire.name = gone.name = force.name = "web";
  force.silent_nodes = &silent;
  force.n_silent_nodes = 1;
  desire.desired = BLX_DESIRED_STOPPED;
  struct blx_op a = BLX_OP_INIT, b = BLX_OP_INIT, c = BLX_OP_INIT, d = BLX_OP_INIT;
  a.request_id = "key-1";
  a.vm_create = &create;
  b.vm_desire = &desire;
  c.vm_delete_force = &force;
  d.vm_delete = &gone;
  add(&a);
  add(&b);
  add(&c);
  add(&d);
}

static void add_run_ops(const struct t *t) {
  const struct blx_instance *one = t_instance(t, "web-1"), *two = t_instance(t, "web-2");
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = BLX_REASON_CODE_NO_ROOM;
  reason.text = "no";
  struct blx_op_assign assign = BLX_OP_ASSIGN_INIT;
  assign.instance_uid = two->uid;
  assign.node_uid = 2;
  struct blx_op_explain explain = BLX_OP_EXPLAIN_INIT;
  explain.instance_uid = two->uid;
  explain.reason = &reason;
  struct blx_instance_report seen = BLX_INSTANCE_REPORT_INIT, *list[] = {&seen};
  seen.instance_uid = one->uid;
  seen.epoch = one->epoch;
  seen.seq = one->report_seq + 1;
  seen.phase = BLX_PHASE_FAILED;
  seen.reason = &reason;
  struct blx_op_report report = BLX_OP_REPORT_INIT;
  report.node_uid = one->node_uid;
  report.reports = list;
  report.n_reports = 1;
  struct blx_op a = BLX_OP_INIT, b = BLX_OP_INIT, c = BLX_OP_INIT;
  a.explain = &explain;
  b.assign = &assign;
  c.report = &report;
  add(&a);
  add(&b);
  add(&c);
}

static void add_preempt_op(const struct t *t) {
  struct blx_op_preempt o = BLX_OP_PREEMPT_INIT;
  struct blx_preempt_victim victim = BLX_PREEMPT_VICTIM_INIT, *list[] = {&victim};
  struct blx_op op = BLX_OP_INIT;
  victim.uid = t_instance(t, "web-1")->uid;
  victim.epoch = 1;
  o.instance_uid = t_instance(t, "web-2")->uid;
  o.node_uid = 1;
  o.victims = list;
  o.n_victims = 1;
  op.preempt = &o;
  add(&op);
}

static void add_rules_op(void) {
  struct blx_label app = BLX_LABEL_INIT, *apps[] = {&app};
  struct blx_vm_affinity away = BLX_VM_AFFINITY_INIT, *rules[] = {&away};
  struct blx_vm_spread spread = BLX_VM_SPREAD_INIT, *spreads[] = {&spread};
  struct blx_vm_spec spec = t_spec("near", 2);
  struct blx_op_vm_create create = BLX_OP_VM_CREATE_INIT;
  struct blx_op op = BLX_OP_INIT;
  app.key = "app";
  app.value = "x";
  away.selector = apps;
  away.n_selector = 1;
  away.level = "zone";
  away.apart = 1;
  spread.max_per_domain = 1;
  spec.labels = apps;
  spec.n_labels = 1;
  spec.affinity = rules;
  spec.n_affinity = 1;
  spec.spread = spreads;
  spec.n_spread = 1;
  create.spec = &spec;
  op.vm_create = &create;
  add(&op);
}

static void add_placement_ops(void) {
  struct blx_op_vm_scale scale = BLX_OP_VM_SCALE_INIT;
  struct blx_op_node_taint taint = BLX_OP_NODE_TAINT_INIT;
  struct blx_op_quota_set set = BLX_OP_QUOTA_SET_INIT;
  struct blx_taint old = BLX_TAINT_INIT, *olds[] = {&old}, gpu = BLX_TAINT_INIT, *gpus[] = {&gpu};
  struct blx_quota quota = BLX_QUOTA_INIT;
  struct blx_amount amount = BLX_AMOUNT_INIT, *amounts[] = {&amount};
  scale.name = "web";
  scale.replicas = 1;
  old.key = "old";
  gpu.key = "gpu";
  taint.name = "node2";
  taint.set = gpus;
  taint.n_set = 1;
  taint.unset = olds;
  taint.n_unset = 1;
  amount.name = "gpu";
  amount.amount = 3;
  quota.has_vms = 1;
  quota.vms = 2;
  quota.named = amounts;
  quota.n_named = 1;
  set.quota = &quota;
  struct blx_op a = BLX_OP_INIT, b = BLX_OP_INIT, c = BLX_OP_INIT;
  a.vm_scale = &scale;
  b.node_taint = &taint;
  c.quota_set = &set;
  add(&a);
  add(&b);
  add(&c);
}

static void add_node_ops(void) {
  struct blx_node_info node = BLX_NODE_INFO_INIT;
  struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
  struct blx_op_node_register reg = BLX_OP_NODE_REGISTER_INIT;
  struct blx_op_node_voter voter = BLX_OP_NODE_VOTER_INIT;
  struct blx_op_node_cordon cordon = BLX_OP_NODE_CORDON_INIT;
  node.name = "node3";
  join.node = &node;
  struct blx_node_info known = node;
  known.uid = 1;
  known.name = "node1";
  known.incarnation = 9;
  reg.node = &known;
  voter.uid = 2;
  voter.voter = 1;
  cordon.name = "node2";
  cordon.cordoned = 1;
  struct blx_op_node_label label = BLX_OP_NODE_LABEL_INIT;
  struct blx_label zone = BLX_LABEL_INIT, *zones[] = {&zone};
  zone.key = "zone";
  zone.value = "a";
  label.name = "node1";
  label.set = zones;
  label.n_set = 1;
  struct blx_op a = BLX_OP_INIT, b = BLX_OP_INIT, c = BLX_OP_INIT, d = BLX_OP_INIT, e = BLX_OP_INIT;
  a.node_join = &join;
  b.node_register = &reg;
  c.node_voter = &voter;
  d.node_cordon = &cordon;
  e.node_label = &label;
  add(&e);
  add(&a);
  add(&b);
  add(&c);
  add(&d);
}

static void add_fence_ops(const struct t *t) {
  struct blx_op_fence_begin begin = BLX_OP_FENCE_BEGIN_INIT;
  struct blx_op_fence_done done = BLX_OP_FENCE_DONE_INIT;
  struct blx_op_node_return ret = BLX_OP_NODE_RETURN_INIT;
  struct blx_op_ha_disarm disarm = BLX_OP_HA_DISARM_INIT;
  struct blx_op_node_fence_command command = BLX_OP_NODE_FENCE_COMMAND_INIT;
  struct blx_op_node_remove remove = BLX_OP_NODE_REMOVE_INIT;
  struct blx_node_info back = *blx__state_node(t->st, 1);
  begin.node_uid = done.node_uid = 1;
  begin.incarnation = done.incarnation = back.incarnation;
  begin.by_operator = 1;
  done.proof = "command: off";
  back.incarnation += 1;
  ret.node = &back;
  disarm.for_ms = 60000;
  command.name = remove.name = "node2";
  command.command = "/bin/off";
  struct blx_op a = BLX_OP_INIT, b = BLX_OP_INIT, c = BLX_OP_INIT, d = BLX_OP_INIT, e = BLX_OP_INIT, f = BLX_OP_INIT;
  a.fence_begin = &begin;
  b.fence_done = &done;
  c.node_return = &ret;
  d.ha_disarm = &disarm;
  e.node_fence_command = &command;
  f.node_remove = &remove;
  add(&a);
  add(&b);
  add(&c);
  add(&d);
  add(&e);
  add(&f);
}

void fuzz_seeds(void) {
  struct t t;
  blx__buf_init(&all, 65536);
  fuzz_state_open(&t);
  add_node_ops();
  add_run_ops(&t);
  add_fence_ops(&t);
  add_preempt_op(&t);
  add_rules_op();
  add_placement_ops();
  add_vm_ops();
  fuzz_seed(all.data, all.len);
  blx__buf_free(&all);
  t_close(&t);
}
