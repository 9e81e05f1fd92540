#include "../harness.h"
#include "support.h"

#include <string.h>

struct heard {
  struct {
    uint64_t index;
    int32_t kind, type, phase;
    char name[64], node[64];
  } event[64];
  size_t n, all;
};

static void hear(void *user, const struct blx_event *e) {
  struct heard *h = user;
  h->all++;
  if (h->n == 64) return;
  h->event[h->n].index = e->index;
  h->event[h->n].kind = e->kind;
  h->event[h->n].type = e->type;
  h->event[h->n].phase = e->phase;
  blx__str_copy(h->event[h->n].name, 64, e->name ? e->name : "");
  blx__str_copy(h->event[h->n].node, 64, e->node ? e->node : "");
  h->n++;
}

START_TEST(each_change__is_an_event_of_its_index_in_order) {
  struct t t;
  struct heard h = {0};
  t_open_cluster(&t, 1);
  uint64_t before = t.index;
  t_create_named(&t, "web", 2);
  t_assign(&t, "web-2", 1);
  t_delete(&t, "web");
  ck_assert_int_eq(blx__state_events_since(t.st, before, hear, &h, NULL).code, 0);
  ck_assert_uint_eq(h.n, 8);
  ck_assert_str_eq(h.event[0].name, "web");
  ck_assert_int_eq(h.event[0].type, BLX_EVENT_TYPE_CREATED);
  ck_assert_int_eq(h.event[0].kind, BLX_EVENT_KIND_VM);
  ck_assert_str_eq(h.event[2].name, "web-2");
  ck_assert_int_eq(h.event[2].kind, BLX_EVENT_KIND_INSTANCE);
  ck_assert_uint_eq(h.event[2].index, before + 1);
  ck_assert_int_eq(h.event[3].type, BLX_EVENT_TYPE_CHANGED);
  ck_assert_int_eq(h.event[3].phase, BLX_PHASE_CREATING);
  ck_assert_str_eq(h.event[3].node, "node1");
  ck_assert_uint_eq(h.event[3].index, before + 2);
  ck_assert_str_eq(h.event[5].name, "web-1");
  ck_assert_int_eq(h.event[5].type, BLX_EVENT_TYPE_DELETED);
  ck_assert_int_eq(h.event[6].phase, BLX_PHASE_DELETING);
  for (size_t i = 1; i < h.n; i++) ck_assert_uint_ge(h.event[i].index, h.event[i - 1].index);
  t_close(&t);
}
END_TEST

START_TEST(a_refused_operation__makes_no_event) {
  struct t t;
  struct heard h = {0};
  t_open_cluster(&t, 1);
  t_create_named(&t, "web", 1);
  uint64_t before = t.index;
  t_create_named(&t, "web", 1);
  t_desire(&t, "web", BLX_DESIRED_RUNNING);
  t_assign(&t, "web-1", 99);
  ck_assert_int_eq(blx__state_events_since(t.st, before, hear, &h, NULL).code, 0);
  ck_assert_uint_eq(h.n, 0);
  t_close(&t);
}
END_TEST

START_TEST(the_listener__hears_at_the_end_of_the_entry) {
  struct heard h = {0};
  struct blx__state_options options = {.on_event = hear, .user = &h};
  struct blx_op_cluster_init init = BLX_OP_CLUSTER_INIT_INIT;
  init.id = "0123";
  init.name = "test";
  struct blx_node_info n = BLX_NODE_INFO_INIT;
  n.name = "node1";
  struct blx_op_node_join join = BLX_OP_NODE_JOIN_INIT;
  join.node = &n;
  struct blx_op ops[2] = {BLX_OP_INIT, BLX_OP_INIT};
  ops[0].cluster_init = &init;
  ops[1].node_join = &join;
  struct blx__state *st = blx__state_new(&options);
  blx__state_begin(st, 1, 1);
  for (unsigned i = 0; i < 2; i++) {
    struct blx__buf b;
    blx__buf_init(&b, 4096);
    ck_assert_int_eq(blx__msg_encode(blx__desc_op(), &ops[i], &b, NULL).code, 0);
    blx__state_apply(st, (struct blx__slice){b.data, b.len}, NULL);
    blx__buf_free(&b);
  }
  ck_assert_uint_eq(h.n, 0);
  blx__state_end(st);
  ck_assert_uint_eq(h.n, 1);
  ck_assert_str_eq(h.event[0].name, "node1");
  blx__state_free(st);
}
END_TEST

START_TEST(an_index_too_old__is_stale_and_names_the_oldest_kept) {
  struct t t;
  struct heard h = {0};
  t_open_cluster(&t, 1);
  t_create_named(&t, "big", 1000);
  uint64_t created = t.index;
  ck_assert_int_eq(blx__state_events_since(t.st, 0, hear, &h, NULL).code, 0);
  for (int i = 0; i < 4; i++) {
    t_desire(&t, "big", BLX_DESIRED_STOPPED);
    t_desire(&t, "big", BLX_DESIRED_RUNNING);
  }
  blx_error err = {0};
  ck_assert_int_eq(blx__state_events_since(t.st, created - 1, hear, &h, &err).code, BLX_E_STALE);
  ck_assert_ptr_nonnull(strstr(err.message, "is too old: the oldest kept is"));
  h = (struct heard){0};
  ck_assert_int_eq(blx__state_events_since(t.st, created + 1, hear, &h, NULL).code, 0);
  ck_assert_uint_le(h.all, BLX__STATE_EVENTS_MAX);
  ck_assert_uint_gt(h.all, 7000);
  t_close(&t);
}
END_TEST

START_TEST(one_entry_with_more_events_than_the_ring__is_heard_in_full) {
  struct heard h = {0};
  struct t t;
  t_open_cluster(&t, 1);
  for (int i = 0; i < 9; i++) {
    char name[8];
    blx__str_format(name, sizeof name, "v%d", i);
    t_create_named(&t, name, 1000);
  }
  struct blx__buf b;
  blx__buf_init(&b, 16 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  struct blx__state_options options = {.on_event = hear, .user = &h};
  struct blx__state *st = blx__state_new(&options);
  ck_assert_int_eq(blx__state_restore(st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  blx__state_begin(st, t.index + 1, t.time_ms);
  for (int i = 0; i < 9; i++) {
    char name[8];
    blx__str_format(name, sizeof name, "v%d", i);
    struct blx_op_vm_delete o = BLX_OP_VM_DELETE_INIT;
    o.name = name;
    struct blx_op op = BLX_OP_INIT;
    op.vm_delete = &o;
    blx__buf_clear(&b);
    ck_assert_int_eq(blx__msg_encode(blx__desc_op(), &op, &b, NULL).code, 0);
    blx__state_apply(st, (struct blx__slice){b.data, b.len}, NULL);
  }
  blx__state_end(st);
  ck_assert_uint_ge(h.all, 9009);
  ck_assert_int_eq(blx__state_events_since(st, t.index, hear, &h, NULL).code, BLX_E_STALE);
  ck_assert_int_eq(blx__state_events_since(st, t.index + 1, hear, &h, NULL).code, 0);
  blx__state_free(st);
  blx__buf_free(&b);
  t_close(&t);
}
END_TEST

START_TEST(after_a_restore__events_begin_anew_at_its_index) {
  struct t t;
  struct heard h = {0};
  t_open_cluster(&t, 1);
  struct blx__buf b;
  blx__buf_init(&b, 1 << 20);
  ck_assert_int_eq(blx__state_snapshot(t.st, &b, NULL).code, 0);
  ck_assert_int_eq(blx__state_restore(t.st, (struct blx__slice){b.data, b.len}, NULL).code, 0);
  ck_assert_int_eq(blx__state_events_since(t.st, t.index - 1, hear, &h, NULL).code, BLX_E_STALE);
  ck_assert_int_eq(blx__state_events_since(t.st, t.index, hear, &h, NULL).code, 0);
  ck_assert_uint_eq(h.n, 0);
  blx__buf_free(&b);
  t_close(&t);
}
END_TEST

BLX_TEST_MAIN("state/events", each_change__is_an_event_of_its_index_in_order, a_refused_operation__makes_no_event,
              the_listener__hears_at_the_end_of_the_entry, an_index_too_old__is_stale_and_names_the_oldest_kept,
              one_entry_with_more_events_than_the_ring__is_heard_in_full,
              after_a_restore__events_begin_anew_at_its_index)
