/* The audit log as the state makes it: a record for each operation that carries where it came from (op.source), chained
 * by SHA-256 over the hash before and the record's bytes. Only the head and the count stay here; the records go to the
 * embedder, who keeps them. Operations of logs from before there was an audit log carry no source, and leave no record:
 * the chain begins at the same operation on every member, whenever each was upgraded. */
#include "state/state_int.h"

#include <string.h>

enum { RECORD_BYTES_MAX = 4096 };

/* What an operation is called, and what it is about. */
struct named {
  const char *verb, *kind, *name;
  char detail[129];
};

static const char *node_name(const struct blx__state *st, uint64_t uid) {
  const struct blx_node_info *node = blx__state_node(st, uid);
  return node ? node->name : "";
}

static struct named of_vm(const char *verb, const char *name) {
  return (struct named){.verb = verb, .kind = "vm", .name = name};
}

static struct named of_node(const char *verb, const char *name) {
  return (struct named){.verb = verb, .kind = "node", .name = name};
}

static struct named name_assign(const struct blx__state *st, const struct blx_op_assign *a) {
  const struct blx_instance *i = blx__state_instance(st, a->instance_uid);
  uint64_t epoch = a->expected_epoch + 1;
  struct named n = {.verb = "instance.assign", .kind = "instance", .name = i ? i->name : ""};
  (void)blx__str_format(n.detail, sizeof n.detail, "to %s, epoch %llu", node_name(st, a->node_uid),
                        (unsigned long long)epoch);
  return n;
}

static struct named of_cluster(const struct blx__state *st, const char *verb) {
  return (struct named){.verb = verb, .kind = "cluster", .name = st->data.cluster_name};
}

static struct named name_disarm(const struct blx__state *st, const struct blx_op_ha_disarm *d) {
  struct named n = of_cluster(st, d->for_ms ? "ha.disarm" : "ha.arm");
  if (d->for_ms) (void)blx__str_format(n.detail, sizeof n.detail, "for %llu s", (unsigned long long)(d->for_ms / 1000));
  return n;
}

static struct named name_fence(const struct blx__state *st, const struct blx_op *op) {
  if (op->fence_begin) {
    struct named n = of_node("node.fence", node_name(st, op->fence_begin->node_uid));
    (void)blx__str_copy(n.detail, sizeof n.detail, op->fence_begin->reason ? op->fence_begin->reason : "");
    return n;
  }
  struct named n = of_node("node.fenced", node_name(st, op->fence_done->node_uid));
  (void)blx__str_copy(n.detail, sizeof n.detail, op->fence_done->proof ? op->fence_done->proof : "");
  return n;
}

static struct named name_scale(const struct blx_op_vm_scale *s) {
  struct named n = of_vm("vm.scale", s->name);
  (void)blx__str_format(n.detail, sizeof n.detail, "to %u replica%s", s->replicas, s->replicas == 1 ? "" : "s");
  return n;
}

static struct named name_quota(const struct blx_op_quota_set *q) {
  const char *tenant = blx__state_tenant(q->quota ? q->quota->tenant : NULL);
  return (struct named){.verb = q->remove ? "quota.remove" : "quota.set", .kind = "quota", .name = tenant};
}

static struct named name_preempt(const struct blx__state *st, const struct blx_op_preempt *p) {
  const struct blx_instance *i = blx__state_instance(st, p->instance_uid);
  struct named n = {.verb = "instance.preempt", .kind = "instance", .name = i ? i->name : ""};
  (void)blx__str_format(n.detail, sizeof n.detail, "on %s, of %zu instance%s", node_name(st, p->node_uid), p->n_victims,
                        p->n_victims == 1 ? "" : "s");
  return n;
}

/* What placement goes by. */
static struct named name_of_placement_op(const struct blx__state *st, const struct blx_op *op) {
  if (op->preempt) return name_preempt(st, op->preempt);
  if (op->vm_scale) return name_scale(op->vm_scale);
  if (op->node_taint) return of_node("node.taint", op->node_taint->name);
  if (op->quota_set) return name_quota(op->quota_set);
  return of_node("node.other", "");
}

static struct named name_of_node_op(const struct blx__state *st, const struct blx_op *op) {
  if (op->node_join) return of_node("node.join", op->node_join->node ? op->node_join->node->name : "");
  if (op->node_register)
    return of_node("node.register", op->node_register->node ? node_name(st, op->node_register->node->uid) : "");
  if (op->node_voter)
    return of_node(op->node_voter->voter ? "node.vote" : "node.unvote", node_name(st, op->node_voter->uid));
  if (op->node_cordon)
    return of_node(op->node_cordon->cordoned ? "node.cordon" : "node.uncordon", op->node_cordon->name);
  if (op->node_label) return of_node("node.label", op->node_label->name);
  if (op->fence_begin || op->fence_done) return name_fence(st, op);
  if (op->node_return)
    return of_node("node.return", op->node_return->node ? node_name(st, op->node_return->node->uid) : "");
  if (op->node_fence_command) return of_node("node.fence_command", op->node_fence_command->name);
  if (op->node_remove) return of_node("node.remove", op->node_remove->name);
  return name_of_placement_op(st, op);
}

/* Before it is applied: what it deletes still has its name. */
static struct named name_of(const struct blx__state *st, const struct blx_op *op) {
  if (op->vm_create) return of_vm("vm.create", op->vm_create->spec ? op->vm_create->spec->name : "");
  if (op->vm_desire)
    return of_vm(op->vm_desire->desired == BLX_DESIRED_STOPPED ? "vm.stop" : "vm.start", op->vm_desire->name);
  if (op->vm_delete) return of_vm("vm.delete", op->vm_delete->name);
  if (op->vm_delete_force) return of_vm("vm.delete_force", op->vm_delete_force->name);
  if (op->vm_restart) return of_vm("vm.restart", op->vm_restart->name);
  if (op->vm_pause) return of_vm(op->vm_pause->paused ? "vm.pause" : "vm.resume", op->vm_pause->name);
  if (op->vm_kill) return of_vm("vm.kill", op->vm_kill->name);
  if (op->assign) return name_assign(st, op->assign);
  if (op->config_put) return (struct named){.verb = "config.put", .kind = "config", .name = op->config_put->sha256};
  if (op->cluster_init)
    return (struct named){.verb = "cluster.init", .kind = "cluster", .name = op->cluster_init->name};
  if (op->settings_set) return of_cluster(st, "settings.set");
  if (op->ha_disarm) return name_disarm(st, op->ha_disarm);
  if (op->recover) return of_node("cluster.recover", node_name(st, op->recover->survivor_uid));
  if (op->report) return of_node("node.report", node_name(st, op->report->node_uid));
  if (op->explain) return (struct named){.verb = "instance.explain", .kind = "instance"};
  return name_of_node_op(st, op);
}

static void append(struct blx__state *st, const struct blx_audit_record *record) {
  struct state_audit *a = &st->audit;
  struct state_data *d = &st->data;
  blx__buf_clear(&a->bytes);
  STATE_MUST(blx__msg_encode(blx__desc_audit_record(), record, &a->bytes, NULL).code == 0);
  const struct blx__slice parts[] = {{d->audit_head, sizeof d->audit_head}, {a->bytes.data, a->bytes.len}};
  uint8_t hash[BLX__SHA256_BYTES];
  blx__sha256(parts, BLX__COUNT(parts), hash);
  if (st->options.on_audit) {
    struct blx__state_audit out = {.seq = record->seq, .index = record->index, .time_ms = record->time_ms};
    out.prev = d->audit_head;
    out.hash = hash;
    out.record = parts[1];
    st->options.on_audit(st->options.user, &out);
  }
  d->audit_seq = record->seq;
  memcpy(d->audit_head, hash, sizeof hash);
}

void blx__state_audit_begin(struct blx__state *st, const struct blx_op *op) {
  struct state_audit *a = &st->audit;
  a->wanted = op->source && op->source[0];
  if (!a->wanted) return;
  struct named n = name_of(st, op);
  a->verb = n.verb;
  (void)blx__str_format(a->object, sizeof a->object, "%s/%s", n.kind, n.name ? n.name : "");
  (void)blx__str_copy(a->detail, sizeof a->detail, n.detail);
}

void blx__state_audit_end(struct blx__state *st, const struct blx_op *op, const struct blx_op_result *r) {
  const struct state_audit *a = &st->audit;
  bool own = !op->principal || !op->principal[0] || strcmp(op->principal, "node") == 0;
  /* What the cluster itself tried in vain decided nothing. */
  if (!a->wanted || (own && r->code != 0)) return;
  struct blx_audit_record record = BLX_AUDIT_RECORD_INIT;
  record.seq = st->data.audit_seq + 1;
  record.index = st->data.index;
  record.position = a->position;
  record.time_ms = st->data.time_ms;
  record.kind = own ? BLX_AUDIT_KIND_CLUSTER : BLX_AUDIT_KIND_REQUEST;
  record.principal = op->principal && op->principal[0] ? op->principal : "cluster";
  record.tenant = op->tenant;
  record.source = op->source;
  record.verb = a->verb;
  record.object = a->object;
  record.detail = a->detail;
  record.reason = op->reason;
  record.code = r->code;
  record.message = r->message;
  record.request_id = op->request_id;
  append(st, &record);
}

void blx__state_audit_init(struct blx__state *st) {
  blx__buf_init(&st->audit.bytes, RECORD_BYTES_MAX);
}

void blx__state_audit_free(struct blx__state *st) {
  blx__buf_free(&st->audit.bytes);
}

uint64_t blx__state_audit_seq(const struct blx__state *st) {
  return st->data.audit_seq;
}

const uint8_t *blx__state_audit_head(const struct blx__state *st) {
  return st->data.audit_head;
}
