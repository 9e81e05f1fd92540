/* In which order those that wait have their turn, and who makes room for whom. */
#include "../harness.h"
#include "lead.h"

static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
static const struct t_seen ended = {.phase = BLX_PHASE_STOPPED, .dead = true};

static void define(struct leader *l, const char *name, uint32_t replicas, uint32_t memory_mib, uint32_t priority) {
  ck_assert_int_eq(t_create_sized(&l->t, name, replicas, memory_mib, priority), 0);
}

static unsigned placed(struct leader *l, const char *vm, unsigned replicas) {
  unsigned n = 0;
  for (unsigned i = 1; i <= replicas; i++) {
    char name[32];
    blx__str_format(name, sizeof name, "%s-%u", vm, i);
    n += t_instance(&l->t, name)->node_uid != 0;
  }
  return n;
}

START_TEST(the_higher_priority__is_placed_first_however_long_the_other_waits) {
  struct leader l;
  open_leader(&l, 1);
  t_cordon(&l.t, "node1", true);
  define(&l, "low", 1, 800, 1);
  l.t.time_ms += 10000;
  define(&l, "high", 1, 800, 2);
  t_cordon(&l.t, "node1", false);
  turn(&l);
  ck_assert_str_eq(node_of(&l, "high-1"), "node1");
  ck_assert_str_eq(node_of(&l, "low-1"), "");
  ck_assert_str_eq(t_instance(&l.t, "low-1")->reason->text, "node1 lacks 576 MiB");
  close_leader(&l);
}
END_TEST

START_TEST(tenants__share_what_there_is_whoever_came_first) {
  struct leader l;
  open_leader(&l, 1);
  t_cordon(&l.t, "node1", true);
  l.t.tenant = "default";
  define(&l, "many", 8, 128, 0);
  l.t.time_ms += 10000;
  l.t.tenant = "other";
  define(&l, "few", 4, 128, 0);
  l.t.tenant = "default";
  t_cordon(&l.t, "node1", false);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 8);
  ck_assert_uint_eq(placed(&l, "many", 8), 4);
  close_leader(&l);
}
END_TEST

START_TEST(of_one_tenant__the_one_that_waits_longer_comes_first) {
  struct leader l;
  open_leader(&l, 1);
  t_cordon(&l.t, "node1", true);
  define(&l, "late", 1, 800, 0);
  t_desire(&l.t, "late", BLX_DESIRED_STOPPED);
  l.t.time_ms += 1000;
  define(&l, "first", 1, 800, 0);
  l.t.time_ms += 1000;
  t_desire(&l.t, "late", BLX_DESIRED_RUNNING);
  t_cordon(&l.t, "node1", false);
  turn(&l);
  ck_assert_str_eq(node_of(&l, "first-1"), "node1");
  ck_assert_str_eq(node_of(&l, "late-1"), "");
  close_leader(&l);
}
END_TEST

/* node1 has 1024 MiB: `small` ones would take what `large` waits for, again and again. */
START_TEST(one_that_waits_for_a_minute__is_kept_a_node_for) {
  struct leader l;
  open_leader(&l, 1);
  define(&l, "small", 2, 512, 0);
  turn_and_run(&l);
  define(&l, "large", 1, 1000, 0);
  turn(&l);
  ck_assert_uint_eq(placed(&l, "large", 1), 0);
  l.t.time_ms += 61000;
  define(&l, "next", 1, 512, 0);
  t_desire(&l.t, "small", BLX_DESIRED_STOPPED);
  t_report(&l.t, "small-1", ended);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 0);
  ck_assert_str_eq(t_instance(&l.t, "next-1")->reason->text,
                   "node1 has room that is kept for large-1, which waits longer");
  t_report(&l.t, "small-2", ended);
  turn(&l);
  ck_assert_uint_eq(placed(&l, "large", 1), 1);
  ck_assert_uint_eq(placed(&l, "next", 1), 0);
  close_leader(&l);
}
END_TEST

START_TEST(one_that_no_node_could_ever_take__keeps_none) {
  struct leader l;
  open_leader(&l, 1);
  define(&l, "huge", 1, 5000, 0);
  turn(&l);
  l.t.time_ms += 61000;
  define(&l, "web", 1, 512, 0);
  turn(&l);
  ck_assert_uint_eq(placed(&l, "web", 1), 1);
  close_leader(&l);
}
END_TEST

START_TEST(a_higher_priority__ends_those_below_and_gets_their_room) {
  struct leader l;
  open_leader(&l, 1);
  define(&l, "low", 2, 512, 1);
  turn_and_run(&l);
  define(&l, "high", 1, 400, 5);
  step(&l);
  check_fresh(&l);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 1);
  ck_assert_uint_eq(l.refused, 0);
  const struct blx_instance *a = t_instance(&l.t, "low-1"), *b = t_instance(&l.t, "low-2");
  ck_assert_int_eq((a->ending != BLX_ENDING_NONE) + (b->ending != BLX_ENDING_NONE), 1);
  const char *victim = a->ending != BLX_ENDING_NONE ? "low-1" : "low-2";
  ck_assert_int_eq(t_instance(&l.t, victim)->reason->code, BLX_REASON_CODE_PREEMPTED);
  ck_assert_int_eq(t_instance(&l.t, "high-1")->reason->code, BLX_REASON_CODE_WAITS_FOR_ROOM);
  ck_assert_uint_eq(turn(&l), 0); /* it waits for the end of them */
  /* The room is its own meanwhile. */
  t_report(&l.t, victim, ended);
  l.t.time_ms += 5000;
  turn(&l);
  ck_assert_str_eq(node_of(&l, "high-1"), "node1");
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_int_ne(t_instance(&l.t, victim)->dead, 0);
  close_leader(&l);
}
END_TEST

START_TEST(the_same_priority_and_what_is_not_preemptible__are_never_ended) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec spec = t_spec("firm", 1);
  spec.memory_mib = 512;
  spec.has_preemptible = 1;
  spec.preemptible = 0;
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  define(&l, "same", 1, 512, 5);
  turn_and_run(&l);
  define(&l, "high", 1, 400, 5);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 0);
  ck_assert_int_eq(t_instance(&l.t, "high-1")->reason->code, BLX_REASON_CODE_NO_ROOM);
  close_leader(&l);
}
END_TEST

/* It would end, and be started for it again, for ever. */
START_TEST(what_one_depends_on__does_not_end_for_it) {
  struct leader l;
  open_leader(&l, 1);
  define(&l, "db", 1, 800, 1);
  turn_and_run(&l);
  struct blx_vm_spec mid = t_spec("mid", 0), web = t_spec("web", 1);
  const char *on_db = "db", *on_mid = "mid";
  mid.depends_on = &on_db;
  mid.n_depends_on = 1;
  web.depends_on = &on_mid;
  web.n_depends_on = 1;
  web.priority = 9;
  web.memory_mib = 500;
  ck_assert_int_eq(t_create(&l.t, &mid, BLX_DESIRED_RUNNING), 0);
  ck_assert_int_eq(t_create(&l.t, &web, BLX_DESIRED_RUNNING), 0);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 0);
  ck_assert_int_eq(t_instance(&l.t, "web-1")->reason->code, BLX_REASON_CODE_NO_ROOM);
  close_leader(&l);
}
END_TEST

/* db-1 ends for `high`: what depends on it is not placed by the same step, which apply would refuse. */
START_TEST(what_depends_on_one_that_is_ended__waits_in_the_same_step) {
  struct leader l;
  open_leader(&l, 1);
  ck_assert_int_eq(t_join(&l.t, "small", 8, 200), 0); /* which has room for web, and no other */
  define(&l, "db", 1, 800, 1);
  turn_and_run(&l);
  define(&l, "high", 1, 800, 9);
  struct blx_vm_spec web = t_spec("web", 1);
  const char *on_db = "db";
  web.depends_on = &on_db;
  web.n_depends_on = 1;
  web.memory_mib = 100;
  ck_assert_int_eq(t_create(&l.t, &web, BLX_DESIRED_RUNNING), 0);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 1);
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_uint_eq(l.assigns, 0);
  close_leader(&l);
}
END_TEST

/* Two of higher priority in one step: each has its own room made. */
START_TEST(two_that_make_room_in_one_step__do_not_count_on_the_same) {
  struct leader l;
  open_leader(&l, 2);
  define(&l, "low", 2, 800, 1);
  turn_and_run(&l);
  define(&l, "high", 2, 800, 5);
  turn(&l);
  ck_assert_uint_eq(l.preempts, 2);
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_uint_ne(t_instance(&l.t, "high-1")->room_on_uid, t_instance(&l.t, "high-2")->room_on_uid);
  close_leader(&l);
}
END_TEST

/* One of six replicas is seen to run, or to have ended; what is to go is gone. */
static void report_some(struct leader *l, const char *vm, uint64_t random) {
  char name[32];
  blx__str_format(name, sizeof name, "%s-%u", vm, (unsigned)(random / 8 % 6) + 1);
  const struct blx_instance *i = blx__state_instance_by_name(l->t.st, NULL, name);
  bool gone = i && blx__state_scaled_away(blx__state_vm(l->t.st, i->vm_uid), i);
  bool ends = i && (gone || i->ending != BLX_ENDING_NONE || random % 4 == 0);
  if (!i || i->dead) return;
  t_report(&l->t, name, ends ? (struct t_seen){.phase = BLX_PHASE_FAILED, .dead = true, .gone = gone} : running);
}

/* Whatever happens: one that was kept and one that is new say the same, and apply takes it. */
START_TEST(what_is_kept_between_steps__changes_nothing) {
  struct leader l;
  open_leader(&l, 5);
  static const char *const vms[] = {"web", "db", "fat", "low"};
  define(&l, "web", 6, 128, 3);
  define(&l, "db", 6, 300, 0);
  define(&l, "fat", 6, 700, 7);
  define(&l, "low", 6, 64, 0);
  uint64_t random = 11;
  size_t assigns = 0, preempts = 0;
  for (unsigned n = 0; n < 1500; n++) {
    random = blx__mix64(random);
    char node[16];
    const char *vm = vms[random % 4];
    blx__str_format(node, sizeof node, "node%u", (unsigned)(random / 64 % 5) + 1);
    l.status[random / 512 % 6] = random / 4096 % 3 ? BLX_NODE_STATUS_READY : BLX_NODE_STATUS_SUSPECT;
    if (random / 16384 % 8 == 0) t_cordon(&l.t, node, random / 131072 % 3 == 0);
    if (random / 16384 % 8 == 1) t_label(&l.t, node, random / 131072 % 2 ? "disk=fast" : "disk-");
    if (random / 16384 % 8 == 2) t_scale(&l.t, vm, (uint32_t)(random / 131072 % 7));
    if (random / 16384 % 8 == 3) t_desire(&l.t, vm, random / 131072 % 3 ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED);
    for (unsigned reports = 0; reports < 6; reports++)
      report_some(&l, vms[(random >> 3 * reports) % 4], random >> 5 * reports);
    l.t.time_ms += random / 1048576 % 20000;
    turn(&l);
    ck_assert_uint_eq(l.refused, 0);
    step(&l);
    check_fresh(&l);
    assigns += l.assigns;
    preempts += l.preempts;
  }
  ck_assert_uint_gt(assigns, 100);
  ck_assert_uint_gt(preempts, 4);
  close_leader(&l);
}
END_TEST

/* A VM of one instance whose spread names four levels: level<first> and the three after it. */
static int create_at(struct leader *l, const char *name, uint32_t memory_mib, unsigned first) {
  struct blx_vm_spread spread[4], *list[4];
  char level[4][16];
  struct blx_vm_spec spec = t_spec(name, 1);
  for (unsigned i = 0; i < 4; i++) {
    blx__str_format(level[i], sizeof level[i], "level%u", first + i);
    spread[i] = (struct blx_vm_spread)BLX_VM_SPREAD_INIT;
    spread[i].level = level[i];
    spread[i].max_skew = 1;
    list[i] = &spread[i];
  }
  spec.spread = list;
  spec.n_spread = 4;
  spec.memory_mib = memory_mib;
  return t_create(&l->t, &spec, BLX_DESIRED_RUNNING);
}

/* There can be 64. */
START_TEST(as_many_levels_as_there_can_be__are_no_matter) {
  struct leader l;
  open_leader(&l, 3);
  for (unsigned v = 0; v < 17; v++) {
    char name[16];
    blx__str_format(name, sizeof name, "v%u", v);
    ck_assert_int_eq(create_at(&l, name, 32, 4 * v), v < 16 ? 0 : BLX_E_QUOTA);
  }
  turn(&l);
  for (unsigned v = 0; v < 16; v++) {
    char name[16];
    blx__str_format(name, sizeof name, "v%u-1", v);
    ck_assert_uint_ne(t_instance(&l.t, name)->node_uid, 0);
  }
  close_leader(&l);
}
END_TEST

/* Each of them waits, and is deleted: what the leader remembers of it is not in the way of the next. */
START_TEST(levels_that_gone_vms_named__leave_room_for_others) {
  struct leader l;
  open_leader(&l, 1);
  for (unsigned n = 0; n < 30; n++) {
    ck_assert_int_eq(create_at(&l, "web", 4096, 4 * n), 0);
    turn(&l);
    ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text, "node1 lacks 3072 MiB");
    ck_assert_int_eq(t_delete(&l.t, "web"), 0);
  }
  ck_assert_int_eq(create_at(&l, "web", 128, 200), 0);
  turn(&l);
  ck_assert_str_eq(node_of(&l, "web-1"), "node1");
  close_leader(&l);
}
END_TEST

BLX_TEST_MAIN("control/queue", as_many_levels_as_there_can_be__are_no_matter,
              levels_that_gone_vms_named__leave_room_for_others,
              the_higher_priority__is_placed_first_however_long_the_other_waits,
              tenants__share_what_there_is_whoever_came_first, of_one_tenant__the_one_that_waits_longer_comes_first,
              one_that_waits_for_a_minute__is_kept_a_node_for, one_that_no_node_could_ever_take__keeps_none,
              a_higher_priority__ends_those_below_and_gets_their_room,
              the_same_priority_and_what_is_not_preemptible__are_never_ended, what_one_depends_on__does_not_end_for_it,
              what_depends_on_one_that_is_ended__waits_in_the_same_step,
              two_that_make_room_in_one_step__do_not_count_on_the_same, what_is_kept_between_steps__changes_nothing)
