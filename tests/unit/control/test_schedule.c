#include "../harness.h"
#include "lead.h"

static const struct t_seen crashed = {.phase = BLX_PHASE_FAILED, .dead = true, .has_exit = true, .exit_status = 1};

START_TEST(three_replicas__go_to_three_nodes) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "web", 3);
  ck_assert_uint_eq(turn(&l), 3);
  ck_assert_uint_eq(l.assigns, 3);
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_str_ne(node_of(&l, "web-1"), node_of(&l, "web-2"));
  ck_assert_str_ne(node_of(&l, "web-1"), node_of(&l, "web-3"));
  ck_assert_str_ne(node_of(&l, "web-2"), node_of(&l, "web-3"));
  ck_assert_uint_eq(turn(&l), 0);
  ck_assert_uint_eq(l.out.next_due_ms, 0);
  close_leader(&l);
}
END_TEST

START_TEST(a_fourth_replica__joins_where_the_fewest_are) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "web", 7);
  ck_assert_uint_eq(turn(&l), 7);
  struct blx__placement_node n;
  for (uint64_t uid = 1; uid <= 3; uid++) {
    ck_assert(blx__state_placement_node(l.t.st, uid, &n));
    ck_assert_uint_ge(n.allocated_cpu_milli, 2000);
    ck_assert_uint_le(n.allocated_cpu_milli, 3000);
  }
  close_leader(&l);
}
END_TEST

START_TEST(one_step__does_not_give_the_same_room_twice) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec spec = t_spec("web", 3);
  spec.memory_mib = 400;
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 2);
  ck_assert_uint_eq(l.explains, 1);
  ck_assert_uint_eq(l.refused, 0);
  const struct blx_instance *i = t_instance(&l.t, "web-3");
  ck_assert_int_eq(i->reason->code, BLX_REASON_CODE_NO_ROOM);
  ck_assert_str_eq(i->reason->text, "node1 lacks 176 MiB");
  ck_assert_uint_eq(turn(&l), 0);
  close_leader(&l);
}
END_TEST

START_TEST(an_explanation__is_proposed_again_only_when_it_differs) {
  struct leader l;
  open_leader(&l, 2);
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.memory_mib = 2000;
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  ck_assert_uint_eq(turn(&l), 1);
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text, "node1 lacks 976 MiB; node2 lacks 976 MiB");
  ck_assert_uint_eq(turn(&l), 0);
  t_cordon(&l.t, "node1", true);
  ck_assert_uint_eq(turn(&l), 1);
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text, "node2 lacks 976 MiB; node1 is cordoned");
  close_leader(&l);
}
END_TEST

START_TEST(a_suspect_node__gets_nothing_and_is_named) {
  struct leader l;
  open_leader(&l, 2);
  l.status[1] = l.status[2] = BLX_NODE_STATUS_SUSPECT;
  t_create_named(&l.t, "web", 1);
  turn(&l);
  ck_assert_uint_eq(l.explains, 1);
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text,
                   "node1 has not been heard from; node2 has not been heard from");
  l.status[2] = BLX_NODE_STATUS_READY;
  turn(&l);
  ck_assert_uint_eq(l.assigns, 1);
  ck_assert_str_eq(node_of(&l, "web-1"), "node2");
  close_leader(&l);
}
END_TEST

/* Two of one shape: what bars the one says nothing about the other. */
START_TEST(a_node_that_must_still_remove_an_instance__takes_no_other_of_that_name) {
  struct leader l;
  open_leader(&l, 2);
  t_cordon(&l.t, "node2", true);
  t_create_named(&l.t, "web", 1);
  ck_assert_uint_eq(turn(&l), 1);
  uint64_t uid = t_instance(&l.t, "web-1")->uid;
  ck_assert_int_eq(t_delete_force(&l.t, "web", 1), 0);
  t_create_named(&l.t, "web", 1);
  t_create_named(&l.t, "db", 1);
  turn(&l);
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_str_eq(node_of(&l, "db-1"), "node1");
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text,
                   "node1 has not confirmed that an earlier instance of that name is gone; node2 is cordoned");
  ck_assert_uint_eq(turn(&l), 0);
  ck_assert_int_eq(t_report_as(&l.t, 1, uid, 1, 9, (struct t_seen){.dead = true, .gone = true}), 0);
  turn(&l);
  ck_assert_str_eq(node_of(&l, "web-1"), "node1");
  close_leader(&l);
}
END_TEST

START_TEST(a_node_that_must_still_remove_one_of_another_tenant__takes_those_of_its_name) {
  struct leader l;
  open_leader(&l, 2);
  t_cordon(&l.t, "node2", true);
  l.t.tenant = "acme";
  t_create_named(&l.t, "web", 1);
  ck_assert_uint_eq(turn(&l), 1);
  ck_assert_int_eq(t_delete_force(&l.t, "web", 1), 0);
  t_create_named(&l.t, "web", 1);
  l.t.tenant = NULL;
  t_create_named(&l.t, "web", 1);
  turn(&l);
  ck_assert(l.assigns == 1 && l.refused == 0);
  ck_assert_str_eq(node_of(&l, "web-1"), "node1");
  ck_assert_uint_eq(blx__state_instance_by_name(l.t.st, "acme", "web-1")->node_uid, 0);
  close_leader(&l);
}
END_TEST

START_TEST(a_cordoned_node__gets_what_waited_when_the_cordon_is_lifted) {
  struct leader l;
  open_leader(&l, 1);
  t_cordon(&l.t, "node1", true);
  t_create_named(&l.t, "web", 1);
  turn(&l);
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text, "node1 is cordoned");
  t_cordon(&l.t, "node1", false);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 1);
  close_leader(&l);
}
END_TEST

START_TEST(a_new_leader_that_knows_nobody__waits_instead_of_explaining) {
  struct leader l;
  open_leader(&l, 2);
  l.status[1] = l.status[2] = BLX_NODE_STATUS_UNKNOWN;
  t_create_named(&l.t, "web", 1);
  ck_assert_uint_eq(turn(&l), 0);
  ck_assert_uint_eq(l.out.next_due_ms, l.t.time_ms + BLX__CONTROL_LOOK_AGAIN_MS);
  struct blx_vm_spec huge = t_spec("huge", 1);
  huge.memory_mib = 5000;
  t_create(&l.t, &huge, BLX_DESIRED_RUNNING);
  turn(&l);
  ck_assert_uint_eq(l.explains, 1);
  close_leader(&l);
}
END_TEST

START_TEST(one_that_is_not_due__waits_for_its_time_and_goes_home) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "web", 1);
  turn(&l);
  char home[64];
  blx__str_copy(home, sizeof home, node_of(&l, "web-1"));
  t_report(&l.t, "web-1", crashed);
  uint64_t due = t_instance(&l.t, "web-1")->not_before_ms;
  ck_assert_uint_eq(turn(&l), 0);
  ck_assert_uint_eq(l.out.next_due_ms, due);
  l.t.time_ms = due;
  ck_assert_uint_eq(turn(&l), 1);
  ck_assert_uint_eq(l.refused, 0);
  ck_assert_str_eq(node_of(&l, "web-1"), home);
  ck_assert_uint_eq(t_instance(&l.t, "web-1")->epoch, 2);
  close_leader(&l);
}
END_TEST

START_TEST(one_confirmed_dead_whose_node_fell_silent__goes_elsewhere) {
  struct leader l;
  open_leader(&l, 2);
  t_create_named(&l.t, "web", 1);
  turn(&l);
  uint64_t home = t_instance(&l.t, "web-1")->node_uid;
  l.status[home] = BLX_NODE_STATUS_SUSPECT;
  l.t.time_ms += 60000;
  ck_assert_uint_eq(turn(&l), 0);
  t_report(&l.t, "web-1", crashed);
  l.t.time_ms += 2000;
  turn(&l);
  ck_assert_uint_eq(l.assigns, 1);
  ck_assert_uint_ne(t_instance(&l.t, "web-1")->node_uid, home);
  close_leader(&l);
}
END_TEST

START_TEST(stopped_and_deleted_vms__are_left_alone) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec spec = t_spec("off", 2);
  t_create(&l.t, &spec, BLX_DESIRED_STOPPED);
  t_create_named(&l.t, "bye", 1);
  turn(&l);
  t_report(&l.t, "bye-1", crashed);
  t_delete(&l.t, "bye");
  l.t.time_ms += 100000;
  ck_assert_uint_eq(turn(&l), 0);
  close_leader(&l);
}
END_TEST

START_TEST(a_step__proposes_at_most_so_many_and_the_next_goes_on) {
  struct leader l;
  open_leader(&l, 0);
  ck_assert_int_eq(t_join(&l.t, "big", 4096, 1 << 20), 0);
  t_create_named(&l.t, "web", 2 * BLX__CONTROL_OPS_MAX + 22);
  ck_assert_uint_eq(turn(&l), BLX__CONTROL_OPS_MAX);
  ck_assert_uint_ne(l.out.next_due_ms, 0);
  ck_assert_uint_eq(turn(&l), BLX__CONTROL_OPS_MAX);
  ck_assert_uint_eq(turn(&l), 22);
  ck_assert_uint_eq(turn(&l), 0);
  close_leader(&l);
}
END_TEST

START_TEST(explanations__never_keep_an_assignment_waiting) {
  struct leader l;
  open_leader(&l, 1);
  struct blx_vm_spec huge = t_spec("huge", 500);
  huge.memory_mib = 5000;
  t_create(&l.t, &huge, BLX_DESIRED_RUNNING);
  t_create_named(&l.t, "web", 1);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 1);
  ck_assert_uint_eq(l.explains, BLX__CONTROL_EXPLAIN_MAX);
  unsigned turns = 1;
  while (turn(&l) > 0) turns++;
  ck_assert_uint_le(turns, 17);
  ck_assert_int_eq(t_instance(&l.t, "huge-500")->reason->code, BLX_REASON_CODE_NO_ROOM);
  close_leader(&l);
}
END_TEST

START_TEST(one_behind_thousands_that_fit_nowhere__gets_its_turn) {
  struct leader l;
  open_leader(&l, 1);
  for (unsigned i = 0; i < 6; i++) {
    char name[16];
    blx__str_format(name, sizeof name, "huge%u", i);
    struct blx_vm_spec huge = t_spec(name, 1000);
    huge.memory_mib = 5000;
    t_create(&l.t, &huge, BLX_DESIRED_RUNNING);
  }
  t_create_named(&l.t, "web", 1);
  unsigned tries = 0;
  while (t_instance(&l.t, "web-1")->epoch == 0 && ++tries < 100) {
    l.t.time_ms += 1000;
    turn(&l);
  }
  ck_assert_uint_lt(tries, 100);
  close_leader(&l);
}
END_TEST

START_TEST(the_same_arguments__give_the_same_operations) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "web", 5);
  t_create_named(&l.t, "db", 30);
  step(&l);
  struct blx__control_out before = l.out;
  struct blx__arena other = {.limit_bytes = 4 << 20};
  struct blx__control_out again;
  ck_assert_int_eq(step_with(&l, soft_of, &other, &again, NULL).code, 0);
  ck_assert_uint_eq(before.op_count, again.op_count);
  for (size_t i = 0; i < again.op_count; i++) {
    ck_assert_uint_eq(before.ops[i].len, again.ops[i].len);
    ck_assert_mem_eq(before.ops[i].data, again.ops[i].data, again.ops[i].len);
  }
  blx__arena_free(&other);
  close_leader(&l);
}
END_TEST

START_TEST(an_arena_too_small__is_an_error_and_not_half_a_step) {
  struct leader l;
  open_leader(&l, 3);
  t_create_named(&l.t, "web", 5);
  struct blx__arena tiny = {.limit_bytes = 64};
  ck_assert_int_eq(step_with(&l, soft_of, &tiny, &l.out, NULL).code, BLX_E_NOMEM);
  blx__arena_free(&tiny);
  close_leader(&l);
}
END_TEST

/* Crashes, cordons, silent nodes: whatever a step proposes on what is true, apply accepts. */
START_TEST(what_a_step_proposes__is_accepted_while_nothing_else_happens) {
  struct leader l;
  open_leader(&l, 5);
  t_create_named(&l.t, "web", 9);
  t_create_named(&l.t, "db", 7);
  struct blx_vm_spec fat = t_spec("fat", 6);
  fat.memory_mib = 700;
  fat.strategy = BLX_STRATEGY_LOAD_BALANCED;
  t_create(&l.t, &fat, BLX_DESIRED_RUNNING);
  uint64_t random = 3;
  size_t assigns = 0;
  for (unsigned n = 0; n < 600; n++) {
    random = blx__mix64(random);
    char name[32], node[16];
    static const char *const vms[] = {"web", "db", "fat"};
    blx__str_format(name, sizeof name, "%s-%u", vms[random % 3], (unsigned)(random / 8 % 6) + 1);
    blx__str_format(node, sizeof node, "node%u", (unsigned)(random / 64 % 5) + 1);
    l.status[random / 512 % 6] = random / 4096 % 3 ? BLX_NODE_STATUS_READY : BLX_NODE_STATUS_SUSPECT;
    if (random / 16384 % 8 == 0) t_cordon(&l.t, node, random / 131072 % 3 == 0);
    const struct blx_instance *i = t_instance(&l.t, name);
    if (!i->dead) t_report(&l.t, name, random / 262144 % 2 ? crashed : (struct t_seen){.phase = BLX_PHASE_RUNNING});
    l.t.time_ms += random / 1048576 % 20000;
    turn(&l);
    ck_assert_uint_eq(l.refused, 0);
    assigns += l.assigns;
  }
  ck_assert_uint_gt(assigns, 100);
  close_leader(&l);
}
END_TEST

START_TEST(what_depends_on_another__is_told_what_it_waits_for_once_and_then_placed) {
  static const struct t_seen running = {.phase = BLX_PHASE_RUNNING};
  struct leader l;
  open_leader(&l, 1);
  const char *on = "db";
  struct blx_vm_spec spec = t_spec("web", 1);
  spec.depends_on = &on;
  spec.n_depends_on = 1;
  t_create_named(&l.t, "db", 1);
  t_create(&l.t, &spec, BLX_DESIRED_RUNNING);
  turn(&l);
  ck_assert_uint_eq(l.assigns, 1);
  ck_assert_uint_eq(l.explains, 1);
  const struct blx_reason *why = t_instance(&l.t, "web-1")->reason;
  ck_assert_int_eq(why->code, BLX_REASON_CODE_WAITS_FOR_START);
  ck_assert_str_eq(why->text, "waits for the VM db, on which it depends and which does not run yet");
  ck_assert_str_eq(why->unblock, "it starts when all instances of db run");
  ck_assert_uint_eq(turn(&l), 0);
  t_desire(&l.t, "db", BLX_DESIRED_STOPPED);
  turn(&l);
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->text,
                   "waits for the VM db, on which it depends and which is stopped");
  ck_assert_str_eq(t_instance(&l.t, "web-1")->reason->unblock, "start the VM db");
  t_report(&l.t, "db-1", (struct t_seen){.phase = BLX_PHASE_STOPPED, .dead = true});
  t_desire(&l.t, "db", BLX_DESIRED_RUNNING);
  turn(&l);
  t_report(&l.t, "db-1", running);
  turn(&l);
  ck_assert_str_eq(node_of(&l, "web-1"), "node1");
  close_leader(&l);
}
END_TEST

START_TEST(one_with_ha_that_failed_so_often_in_a_row__tries_another_node_first) {
  struct leader l;
  open_leader(&l, 2);
  t_register_ha(&l.t, 1, 11);
  t_register_ha(&l.t, 2, 21);
  t_create_ha(&l.t, "web", BLX_HA_POLICY_MANUAL); /* with ha_max_restart = 3 */
  t_create_named(&l.t, "plain", 1);
  turn(&l);
  char first[64], plain[64];
  blx__str_format(first, sizeof first, "%s", node_of(&l, "web-1"));
  blx__str_format(plain, sizeof plain, "%s", node_of(&l, "plain-1"));
  for (unsigned n = 1; n <= 3; n++) {
    ck_assert_str_eq(node_of(&l, "web-1"), first);
    t_report(&l.t, "web-1", crashed);
    t_report(&l.t, "plain-1", crashed);
    l.t.time_ms += 10000;
    turn(&l);
  }
  ck_assert_str_ne(node_of(&l, "web-1"), first);
  ck_assert_str_eq(node_of(&l, "plain-1"), plain);
  /* No other can take it: then the last one again. */
  t_report(&l.t, "web-1", crashed);
  t_cordon(&l.t, first, true);
  l.t.time_ms += 20000;
  turn(&l);
  ck_assert_str_ne(node_of(&l, "web-1"), first);
  ck_assert_int_eq(t_instance(&l.t, "web-1")->dead, 0);
  close_leader(&l);
}
END_TEST

START_TEST(after_a_recovery__what_may_run_unknown_is_explained_and_what_is_new_avoids_nodes_that_are_unclear) {
  struct leader l;
  open_leader(&l, 2);
  ck_assert_int_eq(t_create_named(&l.t, "old", 1), 0);
  struct blx_op_regroup o = BLX_OP_REGROUP_INIT;
  struct blx_op op = BLX_OP_INIT;
  o.survivor_uid = 1;
  o.below = 3;
  op.regroup = &o;
  ck_assert_int_eq(t_apply(&l.t, &op), 0);
  ck_assert_int_eq(t_create_named(&l.t, "fresh", 1), 0);
  turn(&l);
  ck_assert(l.assigns == 0 && l.refused == 0);
  ck_assert_int_eq(t_instance(&l.t, "old-1")->reason->code, BLX_REASON_CODE_RECOVERED);
  ck_assert_ptr_nonnull(strstr(t_instance(&l.t, "fresh-1")->reason->text, "has not said since the recovery"));
  ck_assert_uint_eq(turn(&l), 0); /* said once */
  ck_assert_int_eq(t_join(&l.t, "node3", 8, 1024), 0);
  l.heard_all = true;
  turn(&l);
  ck_assert(l.assigns == 1 && l.refused == 0);
  ck_assert_str_eq(node_of(&l, "fresh-1"), "node3");
  close_leader(&l);
}
END_TEST

BLX_TEST_MAIN("control/schedule",
              after_a_recovery__what_may_run_unknown_is_explained_and_what_is_new_avoids_nodes_that_are_unclear,
              three_replicas__go_to_three_nodes, a_fourth_replica__joins_where_the_fewest_are,
              one_step__does_not_give_the_same_room_twice, an_explanation__is_proposed_again_only_when_it_differs,
              a_suspect_node__gets_nothing_and_is_named,
              a_node_that_must_still_remove_an_instance__takes_no_other_of_that_name,
              a_node_that_must_still_remove_one_of_another_tenant__takes_those_of_its_name,
              a_cordoned_node__gets_what_waited_when_the_cordon_is_lifted,
              a_new_leader_that_knows_nobody__waits_instead_of_explaining,
              one_that_is_not_due__waits_for_its_time_and_goes_home,
              one_confirmed_dead_whose_node_fell_silent__goes_elsewhere, stopped_and_deleted_vms__are_left_alone,
              a_step__proposes_at_most_so_many_and_the_next_goes_on, explanations__never_keep_an_assignment_waiting,
              one_behind_thousands_that_fit_nowhere__gets_its_turn, the_same_arguments__give_the_same_operations,
              an_arena_too_small__is_an_error_and_not_half_a_step,
              what_a_step_proposes__is_accepted_while_nothing_else_happens,
              what_depends_on_another__is_told_what_it_waits_for_once_and_then_placed,
              one_with_ha_that_failed_so_often_in_a_row__tries_another_node_first)
