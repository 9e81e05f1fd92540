/* The audit log's records and their chain. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { KEPT_MAX = 64 };

struct log {
  struct blx__arena arena;
  struct blx_audit_record *records[KEPT_MAX];
  uint8_t prev[KEPT_MAX][BLX__SHA256_BYTES], hash[KEPT_MAX][BLX__SHA256_BYTES];
  unsigned count;
};

static void on_audit(void *user, const struct blx__state_audit *a) {
  struct log *log = user;
  ck_assert_uint_lt(log->count, KEPT_MAX);
  void *msg = NULL;
  ck_assert_int_eq(blx__msg_decode_known(blx__desc_audit_record(), &log->arena, a->record, &msg, NULL).code, 0);
  struct blx_audit_record *r = msg;
  ck_assert_uint_eq(r->seq, a->seq);
  ck_assert_uint_eq(r->index, a->index);
  ck_assert_uint_eq(r->time_ms, a->time_ms);
  const struct blx__slice parts[] = {{a->prev, BLX__SHA256_BYTES}, a->record};
  uint8_t hash[BLX__SHA256_BYTES];
  blx__sha256(parts, 2, hash);
  ck_assert_mem_eq(hash, a->hash, sizeof hash);
  memcpy(log->prev[log->count], a->prev, sizeof hash);
  memcpy(log->hash[log->count], a->hash, sizeof hash);
  log->records[log->count++] = r;
}

static void open_logged(struct t *t, struct log *log) {
  *log = (struct log){.arena = {.limit_bytes = 1 << 20}};
  *t = (struct t){.time_ms = 1000, .arena = {.limit_bytes = 1 << 20}};
  const struct blx__state_options options = {.on_audit = on_audit, .user = log};
  t->st = blx__state_new(&options);
  ck_assert_ptr_nonnull(t->st);
  ck_assert_int_eq(t_init(t), 0);
}

static void close_logged(struct t *t, struct log *log) {
  t_close(t);
  blx__arena_free(&log->arena);
}

/* As the leader proposes what @principal asked for. */
static int stop_as(struct t *t, const char *name, const char *principal, const char *request_id) {
  struct blx_op_vm_desire want = {.struct_size = sizeof want, .name = name, .desired = BLX_DESIRED_STOPPED};
  struct blx_op op = {.struct_size = sizeof op, .vm_desire = &want, .principal = principal, .request_id = request_id};
  op.source = "n1: uid 0, pid 7";
  op.reason = "because";
  op.tenant = "default";
  t->request_id = request_id;
  t->digest = request_id ? "d" : NULL;
  t->tenant = "default";
  return t_apply(t, &op);
}

START_TEST(an_operation_with_a_source__leaves_one_record_done_or_refused) {
  struct t t;
  struct log log;
  open_logged(&t, &log);
  ck_assert_uint_eq(log.count, 0); /* what carries no source leaves none */
  ck_assert_int_eq(t_create_named(&t, "web", 1), 0);
  ck_assert_uint_eq(log.count, 0);
  ck_assert_int_eq(stop_as(&t, "web", "uid:0", NULL), 0);
  ck_assert_int_eq(stop_as(&t, "db", "uid:0", NULL), BLX_E_NOT_FOUND);
  ck_assert_uint_eq(log.count, 2);
  const struct blx_audit_record *r = log.records[0];
  ck_assert_uint_eq(r->seq, 1);
  ck_assert_uint_eq(r->index, blx__state_index(t.st) - 1);
  ck_assert_int_eq(r->kind, BLX_AUDIT_KIND_REQUEST);
  ck_assert_str_eq(r->principal, "uid:0");
  ck_assert_str_eq(r->source, "n1: uid 0, pid 7");
  ck_assert_str_eq(r->verb, "vm.stop");
  ck_assert_str_eq(r->object, "vm/web");
  ck_assert_str_eq(r->reason, "because");
  ck_assert_int_eq(r->code, 0);
  ck_assert_int_eq(log.records[1]->code, BLX_E_NOT_FOUND);
  ck_assert_str_eq(log.records[1]->object, "vm/db");
  ck_assert_str_ne(log.records[1]->message, "");
  uint8_t zeros[BLX__SHA256_BYTES] = {0};
  ck_assert_mem_eq(log.prev[0], zeros, sizeof zeros);
  ck_assert_mem_eq(log.prev[1], log.hash[0], sizeof zeros);
  ck_assert_uint_eq(blx__state_audit_seq(t.st), 2);
  ck_assert_mem_eq(blx__state_audit_head(t.st), log.hash[1], sizeof zeros);
  close_logged(&t, &log);
}
END_TEST

START_TEST(what_the_cluster_does_itself__is_told_from_requests_and_left_out_when_it_failed) {
  struct t t;
  struct log log;
  open_logged(&t, &log);
  ck_assert_int_eq(t_create_named(&t, "web", 1), 0);
  ck_assert_int_eq(stop_as(&t, "web", NULL, NULL), 0);
  ck_assert_int_eq(stop_as(&t, "db", NULL, NULL), BLX_E_NOT_FOUND);
  ck_assert_uint_eq(log.count, 1);
  ck_assert_int_eq(log.records[0]->kind, BLX_AUDIT_KIND_CLUSTER);
  ck_assert_str_eq(log.records[0]->principal, "cluster");
  close_logged(&t, &log);
}
END_TEST

START_TEST(a_repeated_request__leaves_no_second_record_and_a_conflict_does) {
  struct t t;
  struct log log;
  open_logged(&t, &log);
  ck_assert_int_eq(t_create_named(&t, "web", 1), 0);
  ck_assert_int_eq(stop_as(&t, "web", "uid:0", "r1"), 0);
  ck_assert_int_eq(stop_as(&t, "web", "uid:0", "r1"), 0);
  ck_assert_uint_eq(log.count, 1);
  ck_assert_str_eq(log.records[0]->request_id, "r1");
  struct blx_op_vm_kill kill = {.struct_size = sizeof kill, .name = "web"};
  struct blx_op op = {.struct_size = sizeof op, .vm_kill = &kill, .principal = "uid:0", .request_id = "r1"};
  op.source = "n1";
  t.request_id = "r1";
  t.digest = "other";
  ck_assert_int_eq(t_apply(&t, &op), BLX_E_CONFLICT);
  ck_assert_uint_eq(log.count, 2);
  ck_assert_str_eq(log.records[1]->verb, "vm.kill");
  ck_assert_int_eq(log.records[1]->code, BLX_E_CONFLICT);
  close_logged(&t, &log);
}
END_TEST

START_TEST(a_restored_state__goes_on_with_the_same_chain) {
  struct t t, u;
  struct log log, other;
  struct blx__buf b;
  open_logged(&t, &log);
  open_logged(&u, &other);
  ck_assert_int_eq(t_create_named(&t, "web", 1), 0);
  ck_assert_int_eq(stop_as(&t, "web", "uid:0", NULL), 0);
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  ck_assert_int_eq(blx__state_restore(u.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  ck_assert_uint_eq(other.count, 0);
  ck_assert_uint_eq(blx__state_audit_seq(u.st), 1);
  u.index = t.index;
  u.time_ms = t.time_ms;
  ck_assert_int_eq(stop_as(&t, "web", "uid:0", NULL), 0);
  ck_assert_int_eq(stop_as(&u, "web", "uid:0", NULL), 0);
  ck_assert_uint_eq(other.records[0]->seq, 2);
  ck_assert_mem_eq(blx__state_audit_head(t.st), blx__state_audit_head(u.st), BLX__SHA256_BYTES);
  blx__buf_free(&b);
  close_logged(&u, &other);
  close_logged(&t, &log);
}
END_TEST

static void as_operator(struct t *t, struct blx_op *op) {
  op->principal = "uid:0";
  op->source = "n1";
  (void)t_apply(t, op);
}

START_TEST(what_placement_goes_by__is_named_with_what_it_was_set_to) {
  struct t t;
  struct log log;
  open_logged(&t, &log);
  ck_assert_int_eq(t_create_named(&t, "web", 1), 0);
  struct blx_op_vm_scale scale = {.struct_size = sizeof scale, .name = "web", .replicas = 4};
  struct blx_op_node_taint taint = {.struct_size = sizeof taint, .name = "node1"};
  struct blx_quota quota = {.struct_size = sizeof quota, .tenant = "acme"};
  struct blx_op_quota_set set = {.struct_size = sizeof set, .quota = &quota};
  struct blx_op_quota_set remove = {.struct_size = sizeof remove, .quota = &quota, .remove = 1};
  struct blx_op ops[] = {BLX_OP_INIT, BLX_OP_INIT, BLX_OP_INIT, BLX_OP_INIT, BLX_OP_INIT};
  struct blx_op_preempt preempt = {.struct_size = sizeof preempt, .instance_uid = t_instance(&t, "web-1")->uid};
  ops[4].preempt = &preempt;
  ops[0].vm_scale = &scale;
  ops[1].node_taint = &taint;
  ops[2].quota_set = &set;
  ops[3].quota_set = &remove;
  for (unsigned i = 0; i < BLX__COUNT(ops); i++) as_operator(&t, &ops[i]);
  static const char *const want[][2] = {{"vm.scale", "vm/web"},
                                        {"node.taint", "node/node1"},
                                        {"quota.set", "quota/acme"},
                                        {"quota.remove", "quota/acme"},
                                        {"instance.preempt", "instance/web-1"}};
  ck_assert_uint_eq(log.count, BLX__COUNT(want));
  for (unsigned i = 0; i < BLX__COUNT(want); i++) {
    ck_assert_str_eq(log.records[i]->verb, want[i][0]);
    ck_assert_str_eq(log.records[i]->object, want[i][1]);
  }
  ck_assert_str_eq(log.records[0]->detail, "to 4 replicas");
  ck_assert_str_eq(log.records[4]->detail, "on , of 0 instances");
  ck_assert_int_eq(log.records[1]->code, BLX_E_NOT_FOUND);
  close_logged(&t, &log);
}
END_TEST

BLX_TEST_MAIN("state/audit", what_placement_goes_by__is_named_with_what_it_was_set_to,
              an_operation_with_a_source__leaves_one_record_done_or_refused,
              what_the_cluster_does_itself__is_told_from_requests_and_left_out_when_it_failed,
              a_repeated_request__leaves_no_second_record_and_a_conflict_does,
              a_restored_state__goes_on_with_the_same_chain)
