#include "support.h"

#include <string.h>

void t_open(struct t *t, uint32_t keys_max) {
  *t = (struct t){.time_ms = 1000000, .arena.limit_bytes = 16 << 20};
  struct blx__state_options options = {.keys_max = keys_max};
  t->st = blx__state_new(&options);
  ck_assert_ptr_nonnull(t->st);
}

void t_open_cluster(struct t *t, unsigned nodes) {
  t_open(t, 0);
  ck_assert_int_eq(t_init(t), 0);
  for (unsigned i = 1; i <= nodes; i++) {
    char name[16];
    blx__str_format(name, sizeof name, "node%u", i);
    ck_assert_int_eq(t_join(t, name, 8, 1024), 0);
  }
}

void t_close(struct t *t) {
  blx__state_free(t->st);
  blx__arena_free(&t->arena);
}

int t_apply_bytes(struct t *t, const void *bytes, size_t n) {
  struct blx__buf out;
  blx__buf_init(&out, 1 << 20);
  blx__state_begin(t->st, ++t->index, t->time_ms);
  blx__state_apply(t->st, (struct blx__slice){bytes, n}, &out);
  blx__state_end(t->st);
  t->result = (struct blx_op_result)BLX_OP_RESULT_INIT;
  if (!blx__state_fatal(t->st)) {
    void *r = NULL;
    blx__arena_reset(&t->arena);
    ck_assert_int_eq(
        blx__msg_decode(blx__desc_op_result(), &t->arena, (struct blx__slice){out.data, out.len}, &r, NULL).code, 0);
    t->result = *(struct blx_op_result *)r;
  }
  blx__buf_free(&out);
  return t->result.code;
}

int t_apply(struct t *t, const struct blx_op *op) {
  struct blx_op copy = *op;
  copy.request_id = t->request_id;
  copy.tenant = t->tenant;
  if (t->digest) copy.request_digest = (struct blx_bytes){(const uint8_t *)t->digest, strlen(t->digest)};
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1 << 20);
  blx_error err = {0};
  ck_assert_msg(blx__msg_encode(blx__desc_op(), &copy, &bytes, &err).code == 0, "%s", err.message);
  int code = t_apply_bytes(t, bytes.data, bytes.len);
  blx__buf_free(&bytes);
  return code;
}

int t_init(struct t *t) {
  struct blx_op_cluster_init o = BLX_OP_CLUSTER_INIT_INIT;
  o.id = "00112233445566778899aabbccddeeff";
  o.name = "test";
  struct blx_op op = BLX_OP_INIT;
  op.cluster_init = &o;
  return t_apply(t, &op);
}

int t_join(struct t *t, const char *name, uint32_t vcpus, uint64_t memory_mib) {
  int32_t qemu[] = {BLX_HYPERVISOR_QEMU};
  struct blx_resources capacity = BLX_RESOURCES_INIT;
  capacity.vcpus = vcpus;
  capacity.memory_mib = memory_mib;
  struct blx_amount gpu = {.struct_size = sizeof gpu, .name = "gpu", .amount = 4}, *named = &gpu;
  capacity.named = &named;
  capacity.n_named = 1;
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  n.name = name;
  n.capacity = &capacity;
  n.hypervisors = qemu;
  n.n_hypervisors = 1;
  struct blx_op_node_join o = BLX_OP_NODE_JOIN_INIT;
  o.node = &n;
  struct blx_op op = BLX_OP_INIT;
  op.node_join = &o;
  return t_apply(t, &op);
}

int t_cordon(struct t *t, const char *name, bool cordoned) {
  struct blx_op_node_cordon o = BLX_OP_NODE_CORDON_INIT;
  o.name = name;
  o.cordoned = cordoned;
  struct blx_op op = BLX_OP_INIT;
  op.node_cordon = &o;
  return t_apply(t, &op);
}

int t_config(struct t *t, const char *text, char sha256[65]) {
  struct blx__slice s = {(const uint8_t *)text, strlen(text)};
  uint8_t digest[BLX__SHA256_BYTES];
  blx__sha256(&s, 1, digest);
  blx__sha256_hex(digest, sha256);
  struct blx_op_config_put o = BLX_OP_CONFIG_PUT_INIT;
  o.sha256 = sha256;
  o.text = (struct blx_bytes){s.data, s.len};
  struct blx_op op = BLX_OP_INIT;
  op.config_put = &o;
  return t_apply(t, &op);
}

struct blx_vm_spec t_spec(const char *name, uint32_t replicas) {
  struct blx_vm_spec s = BLX_VM_SPEC_INIT;
  s.name = name;
  s.vcpus = 1;
  s.memory_mib = 128;
  s.has_replicas = 1;
  s.replicas = replicas;
  s.stop_timeout_ms = 30000;
  return s;
}

int t_create(struct t *t, const struct blx_vm_spec *spec, int32_t desired) {
  struct blx_vm_spec copy = *spec;
  struct blx_op_vm_create o = BLX_OP_VM_CREATE_INIT;
  o.spec = &copy;
  o.desired = desired;
  struct blx_op op = BLX_OP_INIT;
  op.vm_create = &o;
  return t_apply(t, &op);
}

int t_create_sized(struct t *t, const char *name, uint32_t replicas, uint32_t memory_mib, uint32_t priority) {
  struct blx_vm_spec spec = t_spec(name, replicas);
  spec.memory_mib = memory_mib;
  spec.priority = priority;
  return t_create(t, &spec, BLX_DESIRED_RUNNING);
}

int t_create_named(struct t *t, const char *name, uint32_t replicas) {
  struct blx_vm_spec spec = t_spec(name, replicas);
  return t_create(t, &spec, BLX_DESIRED_RUNNING);
}

int t_desire(struct t *t, const char *name, int32_t desired) {
  struct blx_op_vm_desire o = BLX_OP_VM_DESIRE_INIT;
  o.name = name;
  o.desired = desired;
  struct blx_op op = BLX_OP_INIT;
  op.vm_desire = &o;
  return t_apply(t, &op);
}

int t_restart(struct t *t, const char *name, int32_t ending) {
  struct blx_op_vm_restart o = BLX_OP_VM_RESTART_INIT;
  o.name = name;
  o.ending = ending;
  struct blx_op op = BLX_OP_INIT;
  op.vm_restart = &o;
  return t_apply(t, &op);
}

int t_pause(struct t *t, const char *name, bool paused) {
  struct blx_op_vm_pause o = BLX_OP_VM_PAUSE_INIT;
  o.name = name;
  o.paused = paused;
  struct blx_op op = BLX_OP_INIT;
  op.vm_pause = &o;
  return t_apply(t, &op);
}

int t_kill(struct t *t, const char *name) {
  struct blx_op_vm_kill o = BLX_OP_VM_KILL_INIT;
  o.name = name;
  struct blx_op op = BLX_OP_INIT;
  op.vm_kill = &o;
  return t_apply(t, &op);
}

int t_scale(struct t *t, const char *name, uint32_t replicas) {
  struct blx_op_vm_scale o = BLX_OP_VM_SCALE_INIT;
  o.name = name;
  o.replicas = replicas;
  struct blx_op op = BLX_OP_INIT;
  op.vm_scale = &o;
  return t_apply(t, &op);
}

const struct blx_assignment *t_told(struct t *t, const char *instance) {
  const struct blx_instance *i = t_instance(t, instance);
  struct blx_assignment **share = NULL;
  size_t n = 0;
  ck_assert_ptr_nonnull(i);
  if (!i->node_uid) return NULL;
  ck_assert_int_eq(blx__state_share(t->st, i->node_uid, &t->arena, &share, &n, NULL).code, 0);
  for (size_t k = 0; k < n; k++)
    if (share[k]->instance_uid == i->uid) return share[k];
  return NULL;
}

int t_delete(struct t *t, const char *name) {
  struct blx_op_vm_delete o = BLX_OP_VM_DELETE_INIT;
  o.name = name;
  struct blx_op op = BLX_OP_INIT;
  op.vm_delete = &o;
  return t_apply(t, &op);
}

int t_assign(struct t *t, const char *instance, uint64_t node_uid) {
  const struct blx_instance *i = t_instance(t, instance);
  ck_assert_ptr_nonnull(i);
  struct blx_op_assign o = BLX_OP_ASSIGN_INIT;
  o.instance_uid = i->uid;
  o.node_uid = node_uid;
  o.expected_epoch = i->epoch;
  o.by_tenant = t->by_tenant;
  struct blx_op op = BLX_OP_INIT;
  op.assign = &o;
  return t_apply(t, &op);
}

int t_explain(struct t *t, const char *instance, int32_t code, const char *text) {
  const struct blx_instance *i = t_instance(t, instance);
  ck_assert_ptr_nonnull(i);
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = code;
  reason.text = text;
  struct blx_op_explain o = BLX_OP_EXPLAIN_INIT;
  o.instance_uid = i->uid;
  o.expected_epoch = i->epoch;
  o.reason = &reason;
  struct blx_op op = BLX_OP_INIT;
  op.explain = &o;
  return t_apply(t, &op);
}

int t_report_as(struct t *t, uint64_t node_uid, uint64_t instance_uid, uint64_t epoch, uint64_t seq,
                struct t_seen seen) {
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = seen.code;
  reason.text = seen.text;
  struct blx_instance_report r = BLX_INSTANCE_REPORT_INIT;
  r.instance_uid = instance_uid;
  r.epoch = epoch;
  r.seq = seq;
  r.phase = seen.phase;
  r.reason = &reason;
  r.dead = seen.dead;
  r.paused = seen.paused;
  r.gone = seen.gone;
  r.local_data = seen.local_data;
  r.era = seen.era;
  r.data_known = seen.data_known;
  r.has_exit_status = seen.has_exit;
  r.exit_status = seen.exit_status;
  struct blx_instance_report *list[] = {&r};
  struct blx_op_report o = BLX_OP_REPORT_INIT;
  o.node_uid = node_uid;
  o.reports = list;
  o.n_reports = 1;
  struct blx_op op = BLX_OP_INIT;
  op.report = &o;
  return t_apply(t, &op);
}

int t_report(struct t *t, const char *instance, struct t_seen seen) {
  const struct blx_instance *i = t_instance(t, instance);
  ck_assert_ptr_nonnull(i);
  return t_report_as(t, i->node_uid, i->uid, i->epoch, i->report_seq + 1, seen);
}

void t_run(struct t *t, const char *instance, uint64_t node_uid) {
  ck_assert_int_eq(t_assign(t, instance, node_uid), 0);
  ck_assert_int_eq(t_report(t, instance, (struct t_seen){.phase = BLX_PHASE_RUNNING}), 0);
}

int t_delete_force(struct t *t, const char *name, uint64_t silent_uid) {
  struct blx_op_vm_delete_force o = BLX_OP_VM_DELETE_FORCE_INIT;
  o.name = name;
  o.silent_nodes = &silent_uid;
  o.n_silent_nodes = silent_uid != 0;
  struct blx_op op = BLX_OP_INIT;
  op.vm_delete_force = &o;
  op.principal = "uid:1000";
  return t_apply(t, &op);
}

int t_label(struct t *t, const char *node, const char *changes) {
  enum { MOST = 8 };
  struct blx_label rows[2 * MOST], *set[MOST], *unset[MOST];
  char words[256], *rest = NULL;
  struct blx_op_node_label o = BLX_OP_NODE_LABEL_INIT;
  ck_assert(blx__str_format(words, sizeof words, "%s", changes));
  o.name = node;
  o.set = set;
  o.unset = unset;
  for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
    struct blx_label *l = &rows[o.n_set + o.n_unset];
    char *equals = strchr(w, '=');
    ck_assert(o.n_set < MOST && o.n_unset < MOST);
    *l = (struct blx_label)BLX_LABEL_INIT;
    l->key = w;
    l->value = equals ? equals + 1 : "";
    if (equals)
      *equals = '\0', set[o.n_set++] = l;
    else
      w[strlen(w) - 1] = '\0', unset[o.n_unset++] = l;
  }
  struct blx_op op = BLX_OP_INIT;
  op.node_label = &o;
  return t_apply(t, &op);
}

int t_create_ha(struct t *t, const char *name, int32_t ha) {
  struct blx_vm_spec spec = t_spec(name, 1);
  spec.ha = ha;
  spec.ha_max_restart = 3;
  return t_create(t, &spec, BLX_DESIRED_RUNNING);
}

static int describe(struct t *t, uint64_t uid, uint64_t incarnation, bool returns, bool disks) {
  int32_t qemu[] = {BLX_HYPERVISOR_QEMU};
  const struct blx_node_info *known = blx__state_node(t->st, uid);
  struct blx_resources capacity = BLX_RESOURCES_INIT;
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  if (known) capacity = *known->capacity;
  n.name = known ? known->name : "none";
  n.uid = uid;
  n.incarnation = incarnation;
  n.capacity = &capacity;
  n.hypervisors = qemu;
  n.n_hypervisors = 1;
  n.ha_ready = 1;
  n.no_watchdog = 1;
  n.tells_disks = disks;
  struct blx_op_node_register reg = BLX_OP_NODE_REGISTER_INIT;
  struct blx_op_node_return ret = BLX_OP_NODE_RETURN_INIT;
  struct blx_op op = BLX_OP_INIT;
  reg.node = ret.node = &n;
  if (returns)
    op.node_return = &ret;
  else
    op.node_register = &reg;
  return t_apply(t, &op);
}

int t_register_ha(struct t *t, uint64_t uid, uint64_t incarnation) {
  return describe(t, uid, incarnation, false, false);
}

int t_register_disks(struct t *t, uint64_t uid, uint64_t incarnation) {
  return describe(t, uid, incarnation, false, true);
}

int t_return(struct t *t, uint64_t uid, uint64_t incarnation) {
  return describe(t, uid, incarnation, true, false);
}

int t_fence_begin(struct t *t, uint64_t uid, uint64_t incarnation, bool by_operator) {
  struct blx_op_fence_begin o = BLX_OP_FENCE_BEGIN_INIT;
  o.node_uid = uid;
  o.incarnation = incarnation;
  o.reason = "silent";
  o.by_operator = by_operator;
  struct blx_op op = BLX_OP_INIT;
  op.fence_begin = &o;
  return t_apply(t, &op);
}

int t_fence_done(struct t *t, uint64_t uid, uint64_t incarnation) {
  struct blx_op_fence_done o = BLX_OP_FENCE_DONE_INIT;
  o.node_uid = uid;
  o.incarnation = incarnation;
  o.proof = "lease: not answered for 40 s";
  struct blx_op op = BLX_OP_INIT;
  op.fence_done = &o;
  return t_apply(t, &op);
}

int t_disarm(struct t *t, uint64_t for_ms) {
  struct blx_op_ha_disarm o = BLX_OP_HA_DISARM_INIT;
  o.for_ms = for_ms;
  o.reason = "a new switch";
  struct blx_op op = BLX_OP_INIT;
  op.ha_disarm = &o;
  op.principal = "uid:1000";
  return t_apply(t, &op);
}

int t_fence_command(struct t *t, const char *node, const char *command) {
  struct blx_op_node_fence_command o = BLX_OP_NODE_FENCE_COMMAND_INIT;
  o.name = node;
  o.command = command;
  struct blx_op op = BLX_OP_INIT;
  op.node_fence_command = &o;
  return t_apply(t, &op);
}

int t_remove(struct t *t, const char *node) {
  struct blx_op_node_remove o = BLX_OP_NODE_REMOVE_INIT;
  o.name = node;
  struct blx_op op = BLX_OP_INIT;
  op.node_remove = &o;
  return t_apply(t, &op);
}

const struct blx_instance *t_instance(const struct t *t, const char *name) {
  return blx__state_instance_by_name(t->st, t->tenant, name);
}

const struct blx_vm *t_vm(const struct t *t, const char *name) {
  return blx__state_vm_by_name(t->st, t->tenant, name);
}
