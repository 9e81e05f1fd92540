/* What a backup holds, what a restore makes of it, and what a recovery leaves to know. */
#include "../harness.h"
#include "support.h"

#include <string.h>

enum { BYTES_MAX = 16 << 20, UIDS = 1 << 24 };
#define ERA (UINT64_C(1) << 32)

#define TO_SHALL(expected, call) ck_assert_int_eq(call, expected)

/* ---- recovery */

static int recover(struct t *t, uint64_t survivor, uint64_t below) {
  struct blx_op_recover o = BLX_OP_RECOVER_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.survivor_uid = survivor;
  o.below = below;
  op.recover = &o;
  return t_apply(t, &op);
}

static int vote(struct t *t, uint64_t uid) {
  struct blx_op_node_voter o = BLX_OP_NODE_VOTER_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.uid = uid;
  o.voter = 1;
  op.node_voter = &o;
  return t_apply(t, &op);
}

static int join_worker(struct t *t, const char *name) {
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  struct blx_op_node_join o = BLX_OP_NODE_JOIN_INIT;
  struct blx_op op = BLX_OP_INIT;
  n.name = name;
  n.role = BLX_NODE_ROLE_WORKER;
  o.node = &n;
  op.node_join = &o;
  return t_apply(t, &op);
}

static void check_recovered(const struct blx__state *st) {
  ck_assert_uint_eq(blx__state_gone_below(st), 5);
  ck_assert(blx__state_is_gone(st, 1) && blx__state_is_gone(st, 3));
  ck_assert(!blx__state_is_gone(st, 2)); /* goes on */
  ck_assert(!blx__state_is_gone(st, 4)); /* a worker */
  ck_assert(!blx__state_is_gone(st, 5)); /* still to join */
  ck_assert(!blx__state_node(st, 1)->voter && blx__state_node(st, 2)->voter && !blx__state_node(st, 3)->voter);
}

START_TEST(a_recovery__takes_the_votes_of_all_other_servers_for_good) {
  struct t t;
  t_open_cluster(&t, 3);
  T_SHALL(0, join_worker(&t, "worker"));
  for (uint64_t uid = 1; uid <= 3; uid++) T_SHALL(0, vote(&t, uid));
  ck_assert(!blx__state_is_gone(t.st, 1));
  T_SHALL(BLX_E_NOT_FOUND, recover(&t, 9, 10));
  T_SHALL(BLX_E_INVALID, recover(&t, 2, 2));
  T_SHALL(BLX_E_INVALID, recover(&t, 2, 6));
  ck_assert_uint_eq(blx__state_gone_below(t.st), 0);
  T_SHALL(0, recover(&t, 2, 5));
  check_recovered(t.st);
  T_SHALL(0, t_join(&t, "fresh", 8, 1024));
  T_SHALL(0, vote(&t, 5));
  T_SHALL(0, recover(&t, 2, 5)); /* said again by a leader that does not know: nothing changes */
  ck_assert(blx__state_node(t.st, 5)->voter);

  struct t twin;
  struct blx__buf b;
  blx__buf_init(&b, BYTES_MAX);
  t_open(&twin, 0);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  ck_assert_int_eq(blx__state_restore(twin.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  check_recovered(twin.st);
  blx__buf_free(&b);
  t_close(&twin);
  T_SHALL(0, recover(&t, 5, 6)); /* once more, with another one */
  ck_assert(blx__state_is_gone(t.st, 2) && !blx__state_node(t.st, 2)->voter && blx__state_node(t.st, 5)->voter);
  t_close(&t);
}
END_TEST

/* ---- backup */

/* All parts of a backup, each of @limit bytes or a little more. */
static void save(struct t *t, size_t limit, struct blx__buf *out) {
  blx_error err = {0};
  struct blx__state_cursor at = {0};
  struct blx__state_frozen *z = blx__state_freeze(t->st, &err);
  ck_assert_ptr_nonnull(z);
  struct blx__state_frozen_counts n = blx__state_frozen_counts(z);
  ck_assert_uint_eq(n.index, blx__state_index(t->st));
  ck_assert_uint_eq(n.vms, blx__state_counts(t->st).vms);
  blx__buf_init(out, BYTES_MAX);
  for (bool done = false; !done;) {
    struct blx__buf part;
    blx__buf_init(&part, limit + BLX__STATE_RECORD_MAX);
    ck_assert_msg(blx__state_write_part(z, &at, limit, &part, &done, &err).code == 0, "%s", err.message);
    ck_assert(done || part.len >= limit);
    ck_assert(blx__buf_add(out, part.data, part.len));
    blx__buf_free(&part);
  }
  blx__state_thaw(t->st, z);
}

static int reseed(const struct blx__buf *in, struct blx__state_reseed *r, struct blx__buf *out, blx_error *err) {
  blx__buf_init(out, BYTES_MAX);
  for (size_t at = 0; at < in->len;) {
    uint32_t n;
    ck_assert(in->len - at >= 4);
    memcpy(&n, in->data + at, 4);
    blx__rc rc = blx__state_reseed_take(r, (struct blx__slice){in->data + at + 4, n}, out, err);
    if (rc.code != 0) return rc.code;
    at += 4 + n;
  }
  return blx__state_reseed_end(r, out, err).code;
}

/* The state of @t as that of a new cluster, in @to. */
static void move(struct t *t, struct t *to, const char *name, uint64_t *node_uid) {
  struct blx__buf saved, seed;
  blx_error err = {0};
  struct blx__state_reseed r = {
      .cluster_id = "00112233445566778899aabbccddeeff", .cluster_name = name, .node_name = "new"};
  save(t, 700, &saved);
  ck_assert_msg(reseed(&saved, &r, &seed, &err) == 0, "%s", err.message);
  t_open(to, 0);
  ck_assert_msg(blx__state_restore(to->st, (struct blx__slice){seed.data, seed.len}, &err).code == 0, "%s",
                err.message);
  to->index = blx__state_index(to->st);
  to->time_ms = blx__state_time_ms(to->st);
  ck_assert_uint_eq(r.index, to->index);
  *node_uid = r.node_uid;
  blx__state_reseed_free(&r);
  blx__buf_free(&saved);
  blx__buf_free(&seed);
  t_check_rebuilt(to);
}

static struct t fill(void) {
  struct t t;
  char digest[65];
  t_open_cluster(&t, 2);
  T_SHALL(0, t_config(&t, "{ }", digest));
  struct blx_vm_spec spec = t_spec("web", 2);
  spec.flake = NULL;
  spec.config_sha256 = digest;
  T_SHALL(0, t_create(&t, &spec, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "web-1", 1));
  T_SHALL(0, t_report(&t, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}));
  T_SHALL(0, t_create_named(&t, "gone", 1));
  T_SHALL(0, t_assign(&t, "gone-1", 2));
  T_SHALL(0, t_delete(&t, "gone"));
  T_SHALL(0, t_create_named(&t, "buried", 1));
  T_SHALL(0, t_assign(&t, "buried-1", 2));
  T_SHALL(0, t_delete_force(&t, "buried", 2));
  struct blx_vm_spec idle = t_spec("idle", 1);
  T_SHALL(0, t_create(&t, &idle, BLX_DESIRED_STOPPED));
  struct blx_vm_spec once = t_spec("once", 1);
  once.restart_policy = BLX_RESTART_POLICY_NEVER;
  T_SHALL(0, t_create(&t, &once, BLX_DESIRED_RUNNING));
  T_SHALL(0, t_assign(&t, "once-1", 1));
  T_SHALL(0, t_report(&t, "once-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}));
  T_SHALL(0, t_report(&t, "once-1",
                      (struct t_seen){
                          .phase = BLX_PHASE_STOPPED, .code = BLX_REASON_CODE_EXITED, .dead = true, .has_exit = true}));
  T_SHALL(0, t_create_named(&t, "none", 0));
  T_SHALL(0, t_create_named(&t, "less", 2));
  struct blx_quota quota = BLX_QUOTA_INIT;
  quota.has_vms = 1;
  quota.vms = 9;
  T_SHALL(0, t_quota(&t, &quota));
  T_SHALL(0, t_assign(&t, "less-2", 1));
  T_SHALL(0, t_scale(&t, "less", 1));
  t.request_id = "a-key";
  T_SHALL(0, t_create_named(&t, "keyed", 1));
  t.request_id = NULL;
  return t;
}

static void waits(const struct t *t, const char *name, uint64_t epoch) {
  const struct blx_instance *i = t_instance(t, name);
  ck_assert_ptr_nonnull(i);
  ck_assert_uint_eq(i->epoch, epoch);
  ck_assert_uint_eq(i->node_uid, 0);
  ck_assert_int_eq(i->phase, BLX_PHASE_PENDING);
  ck_assert(i->dead);
  ck_assert_ptr_nonnull(strstr(i->reason->text, "restored from a backup"));
}

START_TEST(a_restored_state__is_a_new_cluster_with_all_vms_and_no_node_of_the_old) {
  struct t t, to;
  uint64_t node = 0;
  t = fill();
  uint64_t web = t_vm(&t, "web")->uid, web_1 = t_instance(&t, "web-1")->uid;
  move(&t, &to, "second", &node);
  ck_assert_str_eq(blx__state_cluster_id(to.st), "00112233445566778899aabbccddeeff");
  ck_assert_str_eq(blx__state_cluster_name(to.st), "second");
  ck_assert_uint_eq(blx__state_index(to.st), blx__state_index(t.st) + 1);
  ck_assert_uint_eq(blx__state_counts(to.st).nodes, 1);
  ck_assert_str_eq(blx__state_node(to.st, node)->name, "new");
  ck_assert(blx__state_node(to.st, node)->voter && node == 3 && blx__state_next_node_uid(to.st) == 4);
  ck_assert_uint_eq(t_vm(&to, "web")->uid, web);
  ck_assert_uint_eq(t_instance(&to, "web-1")->uid, web_1);
  /* Above all epochs that the old cluster may have given since, to those it had not assigned either. */
  waits(&to, "web-1", ERA);
  waits(&to, "web-2", ERA);
  waits(&to, "keyed-1", ERA);
  waits(&to, "less-1", ERA);
  ck_assert_uint_eq(blx__state_quota(to.st, NULL)->vms, 9);
  ck_assert_uint_eq(blx__state_quota(to.st, NULL)->used_vms, blx__state_counts(to.st).vms);
  ck_assert_ptr_null(t_instance(&to, "less-2"));
  ck_assert_int_eq(t_vm(&to, "web")->phase, BLX_PHASE_PENDING);
  ck_assert_int_eq(t_vm(&to, "idle")->phase, BLX_PHASE_STOPPED);
  ck_assert_int_eq(t_vm(&to, "once")->phase, t_vm(&t, "once")->phase);
  ck_assert_int_eq(t_vm(&to, "none")->phase, t_vm(&t, "none")->phase);
  ck_assert_int_eq(t_instance(&to, "idle-1")->phase, BLX_PHASE_STOPPED);
  ck_assert_ptr_nonnull(t_vm(&to, "none"));
  ck_assert_ptr_null(t_vm(&to, "gone"));
  ck_assert_ptr_null(t_vm(&to, "buried"));
  ck_assert_int_eq(t_instance(&to, "once-1")->phase, t_instance(&t, "once-1")->phase); /* it had ended: not again */
  ck_assert_uint_eq(t_instance(&to, "once-1")->node_uid, 0);
  t_close(&to);
  t_close(&t);
}
END_TEST

START_TEST(a_restored_state__has_the_vms_of_all_tenants_under_their_own_names) {
  struct t t, to;
  uint64_t node = 0, uids[2];
  static const char *const tenants[2] = {"acme", "other"};
  t_open_cluster(&t, 1);
  for (unsigned i = 0; i < 2; i++) {
    t.tenant = tenants[i];
    T_SHALL(0, t_create_named(&t, "web", i + 1));
    uids[i] = blx__state_vm_by_name(t.st, tenants[i], "web")->uid;
  }
  move(&t, &to, NULL, &node);
  for (unsigned i = 0; i < 2; i++) {
    ck_assert_uint_eq(blx__state_vm_by_name(to.st, tenants[i], "web")->uid, uids[i]);
    ck_assert_uint_eq(blx__state_instance_by_name(to.st, tenants[i], "web-1")->vm_uid, uids[i]);
    ck_assert_uint_eq(blx__state_quota(to.st, tenants[i])->used_instances, i + 1);
  }
  ck_assert_ptr_null(t_vm(&to, "web"));
  t_close(&to);
  t_close(&t);
}
END_TEST

START_TEST(a_restored_state__goes_on_and_epochs_rise) {
  struct t t, to, again;
  uint64_t node = 0, node_again = 0;
  t = fill();
  move(&t, &to, NULL, &node);
  ck_assert_str_eq(blx__state_cluster_name(to.st), blx__state_cluster_name(t.st));
  TO_SHALL(0, t_join(&to, "n2", 8, 4096));
  TO_SHALL(0, t_assign(&to, "web-1", 4));
  ck_assert_uint_eq(t_instance(&to, "web-1")->epoch, ERA + 1);
  ck_assert_uint_eq(t_instance(&to, "web-1")->restarts, 1);
  TO_SHALL(0, t_report(&to, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}));
  TO_SHALL(0, t_create_named(&to, "gone", 1)); /* the name is free */
  to.request_id = "a-key";                     /* forgotten */
  TO_SHALL(BLX_E_EXISTS, t_create_named(&to, "keyed", 1));
  to.request_id = NULL;
  move(&to, &again, NULL, &node_again); /* a restored one is restored */
  ck_assert_uint_eq(node_again, 5);
  ck_assert_uint_ge(t_instance(&to, "gone-1")->uid, UIDS); /* nor has it a uid that those have */
  waits(&again, "web-1", 2 * ERA);
  waits(&again, "gone-1", ERA);
  t_close(&again);
  t_close(&to);
  t_close(&t);
}
END_TEST

START_TEST(the_same_backup__always_makes_the_same_state) {
  struct t t, a, b;
  uint64_t node = 0;
  uint8_t one[BLX__SHA256_BYTES], two[BLX__SHA256_BYTES];
  t = fill();
  move(&t, &a, "x", &node);
  move(&t, &b, "x", &node);
  ck_assert_int_eq(blx__state_digest(a.st, one, NULL).code, 0);
  ck_assert_int_eq(blx__state_digest(b.st, two, NULL).code, 0);
  ck_assert_mem_eq(one, two, sizeof one);
  t_close(&a);
  t_close(&b);
  t_close(&t);
}
END_TEST

START_TEST(a_backup_that_is_none__is_refused) {
  struct t t;
  struct blx__buf saved, out;
  blx_error err = {0};
  t = fill();
  save(&t, 1 << 20, &saved);
  uint32_t n;
  memcpy(&n, saved.data, 4);
  struct blx__buf headless = saved;
  headless.data += 4 + n;
  headless.len -= 4 + n;
  struct blx__state_reseed r = {.cluster_id = "1", .node_name = "new"};
  ck_assert_int_eq(reseed(&headless, &r, &out, &err), BLX_E_CORRUPT);
  blx__state_reseed_free(&r);
  blx__buf_free(&out);
  struct blx__buf empty = {0};
  r = (struct blx__state_reseed){.cluster_id = "1", .node_name = "new"};
  ck_assert_int_eq(reseed(&empty, &r, &out, &err), BLX_E_CORRUPT);
  blx__state_reseed_free(&r);
  blx__buf_free(&out);
  /* A flipped bit anywhere: an error, or a snapshot that the state takes or refuses. */
  for (size_t bit = 0; bit < 8 * n; bit += 7) {
    saved.data[4 + bit / 8] ^= (uint8_t)(1u << bit % 8);
    r = (struct blx__state_reseed){.cluster_id = "1", .node_name = "new"};
    if (reseed(&saved, &r, &out, &err) == 0) {
      struct t to;
      t_open(&to, 0);
      if (blx__state_restore(to.st, (struct blx__slice){out.data, out.len}, &err).code == 0) t_check_rebuilt(&to);
      t_close(&to);
    }
    blx__state_reseed_free(&r);
    blx__buf_free(&out);
    saved.data[4 + bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  blx__buf_free(&saved);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/backup", a_recovery__takes_the_votes_of_all_other_servers_for_good,
              a_restored_state__is_a_new_cluster_with_all_vms_and_no_node_of_the_old,
              a_restored_state__goes_on_and_epochs_rise,
              a_restored_state__has_the_vms_of_all_tenants_under_their_own_names,
              the_same_backup__always_makes_the_same_state, a_backup_that_is_none__is_refused)
