#include "state/state_int.h"

#include "lease/lease.h"

#include <stdlib.h>
#include <string.h>

struct blx__state *blx__state_new(const struct blx__state_options *options) {
  struct blx__state *st = calloc(1, sizeof *st);
  if (!st) return NULL;
  if (options) st->options = *options;
  if (st->options.keys_max == 0) st->options.keys_max = BLX__STATE_KEYS_MAX;
  st->default_lease = blx__lease_defaults();
  st->defaults = (struct blx_settings)BLX_SETTINGS_INIT;
  st->defaults.lease = &st->default_lease;
  st->data.next_uid = st->data.next_node_uid = 1;
  st->scratch.limit_bytes = STATE_SCRATCH_BYTES;
  blx__state_audit_init(st);
  if (blx__state_events_init(&st->events)) return st;
  free(st);
  return NULL;
}

void blx__state_free(struct blx__state *st) {
  if (!st) return;
  BLX__ASSERT(st->frozen == 0);
  free(st->released);
  blx__state_events_free(&st->events);
  blx__state_audit_free(st);
  blx__state_data_free(&st->data);
  blx__arena_free(&st->scratch);
  free(st);
}

const char *blx__state_fatal(const struct blx__state *st) {
  return st->fatal[0] ? st->fatal : NULL;
}

static void set_fatal(struct blx__state *st, const char *what, const char *detail) {
  if (st->fatal[0]) return;
  blx__str_format(st->fatal, sizeof st->fatal, "entry %llu: %s: %s", (unsigned long long)st->data.index, what, detail);
}

void blx__state_begin(struct blx__state *st, uint64_t index, uint64_t time_ms) {
  if (st->fatal[0]) return;
  if (index <= st->data.index) {
    set_fatal(st, "the log goes back", "an entry with an index not above the last one");
    return;
  }
  st->data.index = index;
  st->audit.position = 0;
  if (time_ms > st->data.time_ms) st->data.time_ms = time_ms;
}

void blx__state_end(struct blx__state *st) {
  blx__state_events_flush(st);
}

struct row {
  size_t offset; /* of the pointer in struct blx_op */
  state_op_fn *fn;
};

#define ROW(name) \
  { offsetof(struct blx_op, name), blx__state_op_##name }
static const struct row rows[] = {
    ROW(cluster_init),    ROW(node_join),   ROW(node_register),      ROW(node_voter),  ROW(config_put),
    ROW(vm_create),       ROW(vm_desire),   ROW(vm_delete),          ROW(assign),      ROW(explain),
    ROW(report),          ROW(node_cordon), ROW(vm_restart),         ROW(vm_pause),    ROW(vm_kill),
    ROW(vm_delete_force), ROW(node_label),  ROW(settings_set),       ROW(fence_begin), ROW(fence_done),
    ROW(node_return),     ROW(ha_disarm),   ROW(node_fence_command), ROW(node_remove), ROW(recover),
    ROW(vm_scale),        ROW(node_taint),  ROW(quota_set),          ROW(preempt),
};

/* The one operation that is set; NULL: none, or several. */
static const struct row *row_of(const struct blx_op *op) {
  const struct row *found = NULL;
  for (size_t i = 0; i < BLX__COUNT(rows); i++) {
    void *body;
    memcpy(&body, (const char *)op + rows[i].offset, sizeof body);
    if (!body) continue;
    if (found) return NULL;
    found = &rows[i];
  }
  return found;
}

static const struct blx_op *decode(struct blx__state *st, struct blx__slice bytes) {
  void *msg = NULL;
  blx_error err = {0};
  blx__arena_reset(&st->scratch);
  int code = blx__msg_decode_known(blx__desc_op(), &st->scratch, bytes, &msg, &err).code;
  if (code != 0) {
    bool newer = code == BLX_E_UNSUPPORTED;
    set_fatal(st, newer ? "an operation of a newer version; upgrade this node" : "an operation that cannot be read",
              err.message);
    return NULL;
  }
  if (!row_of(msg)) {
    set_fatal(st, "an operation that this version does not know", "upgrade this node");
    return NULL;
  }
  return msg;
}

static void write_result(const struct blx_op_result *r, struct blx__buf *out) {
  if (!out) return;
  STATE_MUST(blx__msg_encode(blx__desc_op_result(), r, out, NULL).code == 0);
}

static blx__rc run(struct blx__state *st, const struct blx_op *op, struct state_answer *answer, blx_error *err) {
  if (!st->data.cluster_id[0] && !op->cluster_init)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "the cluster has not been initialised: its first operation is missing");
  if (op->tenant && op->tenant[0] && !blx__name_ok(op->tenant, STATE_TENANT_MAX))
    return blx__fail(err, BLX_E_INVALID, "state", "tenant: the name does not match " BLX__NAME_PATTERN);
  blx__rc rc = row_of(op)->fn(st, op, answer, err);
  blx__state_settle(st);
  return rc;
}

static void run_and_answer(struct blx__state *st, const struct blx_op *op, struct blx_op_result *r, blx_error *err,
                           struct state_answer *answer) {
  r->code = run(st, op, answer, err).code;
  r->message = r->code ? err->message : NULL;
  r->uid = answer->uid;
  r->index = st->data.index;
  r->stale_instances = answer->stale;
  r->n_stale_instances = answer->n_stale;
}

/* An operation with a key: the stored answer, or a new one that is then stored, a refusal too; but not that something
 * has to come before it, for then it comes again. */
static void run_keyed(struct blx__state *st, const struct blx_op *op, struct blx_op_result *r, blx_error *err,
                      struct state_answer *answer) {
  char key[131];
  BLX__ASSERT(blx__str_format(key, sizeof key, "%s/%s", blx__state_tenant(op->tenant), op->request_id));
  struct state_request request = {.key = key, .digest = op->request_digest};
  const struct blx_op_result *known = NULL;
  blx__rc rc = blx__state_key_find(st, &request, &known, err);
  if (known) {
    *r = *known;
    return;
  }
  if (rc.code != 0) {
    r->code = rc.code;
    r->message = err->message;
    r->index = st->data.index;
    blx__state_audit_end(st, op, r);
    return;
  }
  run_and_answer(st, op, r, err, answer);
  if (op->vm_create && r->code == BLX_E_STALE) return;
  blx__state_audit_end(st, op, r);
  struct blx_idempotency stored = BLX_IDEMPOTENCY_INIT;
  stored.key = key;
  stored.digest = op->request_digest;
  stored.time_ms = st->data.time_ms;
  stored.result = r;
  blx__state_key_put(st, &stored);
}

void blx__state_apply(struct blx__state *st, struct blx__slice bytes, struct blx__buf *result) {
  if (st->fatal[0]) return;
  const struct blx_op *op = decode(st, bytes);
  if (!op) return;
  struct blx_op_result r = BLX_OP_RESULT_INIT;
  struct state_answer answer = {0};
  blx_error err = {0};
  blx__state_audit_begin(st, op);
  if (op->request_id && op->request_id[0]) {
    run_keyed(st, op, &r, &err, &answer);
  } else {
    run_and_answer(st, op, &r, &err, &answer);
    blx__state_audit_end(st, op, &r);
  }
  st->audit.position++;
  write_result(&r, result);
}
