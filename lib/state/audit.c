/* The audit log as the state makes it: a record for each operation that carries where it came from (op.source), chained
 * by SHA-256 over the hash before and the record's bytes, which hold the code of a refusal and not its words. Only the
 * head and the count stay here; the records go to the embedder, who keeps them. Operations of logs from before there
 * was an audit log carry no source, and leave no record: the chain begins at the same operation on every member,
 * whenever each was upgraded. */
#include "state/state_int.h"

#include <string.h>

enum { RECORD_BYTES_MAX = 4096 };

/* What an operation is called, and what it is about; what else there is to say goes to st->audit.detail. */
struct named {
  const char *verb, *kind, *name;
};

static const char *node_name(const struct blx__state *st, uint64_t uid) {
  const struct blx_node_info *node = blx__state_node(st, uid);
  return node ? node->name : "";
}

/* ---- what each is about */

#define ABOUT(field, expression)                                                           \
  static const char *about_##field(const struct blx__state *st, const struct blx_op *op) { \
    (void)st;                                                                              \
    (void)op;                                                                              \
    return expression;                                                                     \
  }
ABOUT(cluster_init, op->cluster_init->name)
ABOUT(node_join, op->node_join->node ? op->node_join->node->name : "")
ABOUT(node_register, op->node_register->node ? node_name(st, op->node_register->node->uid) : "")
ABOUT(node_voter, node_name(st, op->node_voter->uid))
ABOUT(config_put, op->config_put->sha256)
ABOUT(vm_create, op->vm_create->spec ? op->vm_create->spec->name : "")
ABOUT(vm_desire, op->vm_desire->name)
ABOUT(vm_delete, op->vm_delete->name)
ABOUT(explain, "")
ABOUT(report, node_name(st, op->report->node_uid))
ABOUT(node_cordon, op->node_cordon->name)
ABOUT(vm_restart, op->vm_restart->name)
ABOUT(vm_pause, op->vm_pause->name)
ABOUT(vm_delete_force, op->vm_delete_force->name)
ABOUT(node_label, op->node_label->name)
ABOUT(vm_kill, op->vm_kill->name)
ABOUT(settings_set, st->data.cluster_name)
ABOUT(fence_begin, node_name(st, op->fence_begin->node_uid))
ABOUT(fence_done, node_name(st, op->fence_done->node_uid))
ABOUT(node_return, op->node_return->node ? node_name(st, op->node_return->node->uid) : "")
ABOUT(ha_disarm, st->data.cluster_name)
ABOUT(node_fence_command, op->node_fence_command->name)
ABOUT(node_remove, op->node_remove->name)
ABOUT(recover, node_name(st, op->recover->survivor_uid))
ABOUT(regroup, node_name(st, op->regroup->survivor_uid))
ABOUT(node_clear, node_name(st, op->node_clear->node_uid))
ABOUT(vm_scale, op->vm_scale->name)
ABOUT(node_taint, op->node_taint->name)
ABOUT(quota_set, blx__state_tenant(op->quota_set->quota ? op->quota_set->quota->tenant : NULL))

static const char *about_assign(const struct blx__state *st, const struct blx_op *op) {
  const struct blx_instance *i = blx__state_instance(st, op->assign->instance_uid);
  return i ? i->name : "";
}

static const char *about_preempt(const struct blx__state *st, const struct blx_op *op) {
  const struct blx_instance *i = blx__state_instance(st, op->preempt->instance_uid);
  return i ? i->name : "";
}

/* ---- another verb by what is asked for, and what else there is to say */

static void more_voter(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)st;
  if (!op->node_voter->voter) n->verb = "node.unvote";
}

static void more_cordon(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)st;
  if (!op->node_cordon->cordoned) n->verb = "node.uncordon";
}

static void more_desire(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)st;
  if (op->vm_desire->desired == BLX_DESIRED_STOPPED) n->verb = "vm.stop";
}

static void more_pause(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)st;
  if (!op->vm_pause->paused) n->verb = "vm.resume";
}

static void more_assign(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)n;
  const struct blx_op_assign *a = op->assign;
  const struct blx_instance *i = blx__state_instance(st, a->instance_uid);
  uint64_t epoch = i && i->epoch == a->expected_epoch ? blx__state_next_epoch(st, i) : a->expected_epoch + 1;
  (void)blx__str_format(st->audit.detail, sizeof st->audit.detail, "to %s, epoch %llu", node_name(st, a->node_uid),
                        (unsigned long long)epoch);
}

static void more_fence(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)n;
  const char *said = op->fence_begin ? op->fence_begin->reason : op->fence_done->proof;
  (void)blx__str_copy(st->audit.detail, sizeof st->audit.detail, said ? said : "");
}

static void more_preempt(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)n;
  size_t victims = op->preempt->n_victims;
  (void)blx__str_format(st->audit.detail, sizeof st->audit.detail, "on %s, of %zu instance%s",
                        node_name(st, op->preempt->node_uid), victims, victims == 1 ? "" : "s");
}

static void more_scale(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)n;
  uint32_t replicas = op->vm_scale->replicas;
  (void)blx__str_format(st->audit.detail, sizeof st->audit.detail, "to %u replica%s", replicas,
                        replicas == 1 ? "" : "s");
}

static void more_quota(struct blx__state *st, const struct blx_op *op, struct named *n) {
  (void)st;
  if (op->quota_set->remove) n->verb = "quota.remove";
}

static void more_disarm(struct blx__state *st, const struct blx_op *op, struct named *n) {
  uint64_t for_ms = op->ha_disarm->for_ms;
  if (for_ms == 0)
    n->verb = "ha.arm";
  else
    (void)blx__str_format(st->audit.detail, sizeof st->audit.detail, "for %llu s", (unsigned long long)(for_ms / 1000));
}

/* ---- all of them; a test looks for each field of the schema's `op` */

struct row {
  size_t offset; /* of the pointer in struct blx_op */
  const char *verb, *kind;
  const char *(*about)(const struct blx__state *st, const struct blx_op *op);
  void (*more)(struct blx__state *st, const struct blx_op *op, struct named *n); /* NULL: nothing */
};

#define ROW(field, verb, kind, more) \
  { offsetof(struct blx_op, field), verb, kind, about_##field, more }
static const struct row rows[] = {
    ROW(cluster_init, "cluster.init", "cluster", NULL),
    ROW(node_join, "node.join", "node", NULL),
    ROW(node_register, "node.register", "node", NULL),
    ROW(node_voter, "node.vote", "node", more_voter),
    ROW(config_put, "config.put", "config", NULL),
    ROW(vm_create, "vm.create", "vm", NULL),
    ROW(vm_desire, "vm.start", "vm", more_desire),
    ROW(vm_delete, "vm.delete", "vm", NULL),
    ROW(assign, "instance.assign", "instance", more_assign),
    ROW(explain, "instance.explain", "instance", NULL),
    ROW(report, "node.report", "node", NULL),
    ROW(node_cordon, "node.cordon", "node", more_cordon),
    ROW(vm_restart, "vm.restart", "vm", NULL),
    ROW(vm_pause, "vm.pause", "vm", more_pause),
    ROW(vm_delete_force, "vm.delete_force", "vm", NULL),
    ROW(node_label, "node.label", "node", NULL),
    ROW(vm_kill, "vm.kill", "vm", NULL),
    ROW(settings_set, "settings.set", "cluster", NULL),
    ROW(fence_begin, "node.fence", "node", more_fence),
    ROW(fence_done, "node.fenced", "node", more_fence),
    ROW(node_return, "node.return", "node", NULL),
    ROW(ha_disarm, "ha.disarm", "cluster", more_disarm),
    ROW(node_fence_command, "node.fence_command", "node", NULL),
    ROW(node_remove, "node.remove", "node", NULL),
    ROW(recover, "cluster.recover", "node", NULL),
    ROW(regroup, "cluster.recover", "node", NULL),
    ROW(node_clear, "node.clear", "node", NULL),
    ROW(vm_scale, "vm.scale", "vm", more_scale),
    ROW(node_taint, "node.taint", "node", NULL),
    ROW(quota_set, "quota.set", "quota", more_quota),
    ROW(preempt, "instance.preempt", "instance", more_preempt),
};

/* Before it is applied: what it deletes still has its name. */
static struct named name_of(struct blx__state *st, const struct blx_op *op) {
  for (size_t i = 0; i < BLX__COUNT(rows); i++) {
    void *body;
    memcpy(&body, (const char *)op + rows[i].offset, sizeof body);
    if (!body) continue;
    struct named n = {.verb = rows[i].verb, .kind = rows[i].kind, .name = rows[i].about(st, op)};
    if (rows[i].more) rows[i].more(st, op, &n);
    return n;
  }
  return (struct named){.verb = "other", .kind = "op"};
}

static void append(struct blx__state *st, const struct blx_audit_record *record, const char *message) {
  struct state_audit *a = &st->audit;
  struct state_data *d = &st->data;
  blx__buf_clear(&a->bytes);
  STATE_MUST(blx__msg_encode(blx__desc_audit_record(), record, &a->bytes, NULL).code == 0);
  const struct blx__slice parts[] = {{d->audit_head, sizeof d->audit_head}, {a->bytes.data, a->bytes.len}};
  uint8_t hash[BLX__SHA256_BYTES];
  blx__sha256_with(st->audit.digest, parts, BLX__COUNT(parts), hash);
  if (st->options.on_audit) {
    struct blx__state_audit out = {.seq = record->seq, .index = record->index, .time_ms = record->time_ms};
    out.prev = d->audit_head;
    out.hash = hash;
    out.record = parts[1];
    out.message = message;
    st->options.on_audit(st->options.user, &out);
  }
  d->audit_seq = record->seq;
  memcpy(d->audit_head, hash, sizeof hash);
}

void blx__state_audit_begin(struct blx__state *st, const struct blx_op *op) {
  struct state_audit *a = &st->audit;
  a->wanted = op->source && op->source[0];
  if (!a->wanted) return;
  a->detail[0] = '\0';
  struct named n = name_of(st, op);
  a->verb = n.verb;
  size_t kind = strlen(n.kind);
  BLX__ASSERT(kind + 2 < sizeof a->object);
  memcpy(a->object, n.kind, kind);
  a->object[kind] = '/';
  (void)blx__str_copy(a->object + kind + 1, sizeof a->object - kind - 1, n.name ? n.name : "");
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
  record.request_id = op->request_id;
  append(st, &record, r->message);
}

bool blx__state_audit_init(struct blx__state *st) {
  blx__buf_init(&st->audit.bytes, RECORD_BYTES_MAX);
  st->audit.digest = blx__sha256_new();
  return st->audit.digest != NULL;
}

void blx__state_audit_free(struct blx__state *st) {
  blx__sha256_free(st->audit.digest);
  blx__buf_free(&st->audit.bytes);
}

uint64_t blx__state_audit_seq(const struct blx__state *st) {
  return st->data.audit_seq;
}

const uint8_t *blx__state_audit_head(const struct blx__state *st) {
  return st->data.audit_head;
}
