#include "../harness.h"
#include "../state/support.h"

#include "control/servers.h"

#include <stdio.h>
#include <string.h>

/* A group that does what it is told, and at once. */
struct fleet {
  struct t t;
  struct blx__control_server s[16];
  size_t n;
  char did[512]; /* "+4 -2 >1 x3": promoted, demoted, led, removed */
};

/* @zones: a letter for each server, its zone; '.': none. The first @voters vote, the first leads. */
static void open_fleet(struct fleet *f, const char *zones, size_t voters) {
  memset(f, 0, sizeof *f);
  f->n = strlen(zones);
  t_open_cluster(&f->t, (unsigned)f->n);
  for (size_t i = 0; i < f->n; i++) {
    char name[32], label[16];
    f->s[i] = (struct blx__control_server){.uid = i + 1, .votes = i < voters, .leads = i == 0};
    snprintf(name, sizeof name, "node%zu", i + 1);
    snprintf(label, sizeof label, "zone=%c", zones[i]);
    if (zones[i] != '.') ck_assert_int_eq(t_label(&f->t, name, label), 0);
  }
}

static size_t at(const struct fleet *f, uint64_t uid) {
  for (size_t i = 0; i < f->n; i++)
    if (f->s[i].uid == uid) return i;
  ck_abort_msg("no server %u", (unsigned)uid);
}

static struct blx__control_server_change look(const struct fleet *f) {
  return blx__control_servers(f->t.st, f->s, f->n);
}

/* One change. False: there is none. */
static bool turn(struct fleet *f) {
  static const char signs[] = " +-x>";
  struct blx__control_server_change c = look(f);
  size_t used = strlen(f->did);
  if (c.step == BLX__SERVER_NONE) return false;
  size_t i = at(f, c.uid);
  snprintf(f->did + used, sizeof f->did - used, "%s%c%u", used ? " " : "", signs[c.step], (unsigned)c.uid);
  switch (c.step) {
  case BLX__SERVER_PROMOTE: ck_assert(!f->s[i].votes); break;
  case BLX__SERVER_DEMOTE: ck_assert(f->s[i].votes && !f->s[i].leads); break;
  case BLX__SERVER_TRANSFER: ck_assert(f->s[i].votes && !f->s[i].leads); break;
  case BLX__SERVER_REMOVE:
  case BLX__SERVER_NONE: ck_assert(!f->s[i].votes && !f->s[i].leads); break;
  }
  if (c.step == BLX__SERVER_TRANSFER)
    for (size_t k = 0; k < f->n; k++) f->s[k].leads = k == i;
  if (c.step == BLX__SERVER_PROMOTE || c.step == BLX__SERVER_DEMOTE) f->s[i].votes = c.step == BLX__SERVER_PROMOTE;
  if (c.step == BLX__SERVER_REMOVE) {
    memmove(&f->s[i], &f->s[i + 1], (f->n - i - 1) * sizeof f->s[0]);
    f->n--;
  }
  return true;
}

/* Until nothing is left to do; what was done. */
static const char *settle(struct fleet *f) {
  f->did[0] = '\0';
  for (unsigned i = 0; turn(f); i++) ck_assert_uint_lt(i, 40);
  return f->did;
}

static const char *voters(struct fleet *f) {
  static char text[128];
  text[0] = '\0';
  for (size_t i = 0; i < f->n; i++)
    if (f->s[i].votes) snprintf(text + strlen(text), sizeof text - strlen(text), "%u", (unsigned)f->s[i].uid);
  return text;
}

#define SETTLES(f, what) ck_assert_str_eq(settle(f), what)
#define VOTE(f, who) ck_assert_str_eq(voters(f), who)

START_TEST(three_vote__and_five_of_seven) {
  static const struct {
    const char *zones, *vote;
  } rows[] = {{".", "1"},        {"..", "12"},         {"...", "123"},
              {"......", "123"}, {".......", "12345"}, {".........", "12345"}};
  for (size_t i = 0; i < BLX__COUNT(rows); i++) {
    struct fleet f;
    open_fleet(&f, rows[i].zones, 1);
    settle(&f);
    VOTE(&f, rows[i].vote);
    t_close(&f.t);
  }
  ck_assert_uint_eq(blx__control_voters_wanted(6), 3);
  ck_assert_uint_eq(blx__control_voters_wanted(7), 5);
}
END_TEST

START_TEST(too_many_voters__lose_their_vote_the_newest_first_and_never_the_leader) {
  struct fleet f;
  open_fleet(&f, ".....", 5);
  f.s[0].leads = false;
  f.s[4].leads = true;
  SETTLES(&f, "-4 -3");
  t_close(&f.t);
}
END_TEST

START_TEST(voters__are_spread_over_zones) {
  struct fleet f;
  open_fleet(&f, "aaabc", 1);
  SETTLES(&f, "+4 +5");
  VOTE(&f, "145");
  t_close(&f.t);
  open_fleet(&f, "aabbccc", 1);
  settle(&f);
  VOTE(&f, "12345"); /* no zone has three */
  t_close(&f.t);
}
END_TEST

START_TEST(voters__that_sit_together_are_replaced_one_by_one_and_the_leader_hands_over_if_it_must) {
  struct fleet f;
  open_fleet(&f, "aaabc", 3);
  SETTLES(&f, "+4 -3 +5 -2");
  VOTE(&f, "145");
  t_close(&f.t);
  open_fleet(&f, "abbbc", 3);
  f.s[0].votes = false; /* 2 and 3 vote, of zone b, and 4, which leads */
  f.s[0].leads = false;
  f.s[3].votes = f.s[3].leads = true;
  settle(&f);
  VOTE(&f, "145");
  t_close(&f.t);
}
END_TEST

START_TEST(racks_and_hosts__count_where_zones_say_nothing) {
  struct fleet f;
  open_fleet(&f, "aaaa", 3);
  ck_assert_int_eq(t_label(&f.t, "node1", "rack=1"), 0);
  ck_assert_int_eq(t_label(&f.t, "node2", "rack=1"), 0);
  ck_assert_int_eq(t_label(&f.t, "node3", "rack=2"), 0);
  ck_assert_int_eq(t_label(&f.t, "node4", "rack=3"), 0);
  SETTLES(&f, "+4 -2");
  t_close(&f.t);
  open_fleet(&f, "aaaa", 3);
  ck_assert_int_eq(t_label(&f.t, "node2", "host=x"), 0);
  ck_assert_int_eq(t_label(&f.t, "node3", "host=x"), 0);
  SETTLES(&f, "+4 -3");
  t_close(&f.t);
}
END_TEST

START_TEST(a_voter_that_is_gone__is_replaced_and_comes_back_as_a_stand_by) {
  struct fleet f;
  open_fleet(&f, "....", 3);
  f.s[1].silent_ms = BLX__CONTROL_VOTER_GONE_MS - 1;
  SETTLES(&f, "");
  f.s[1].silent_ms = BLX__CONTROL_VOTER_GONE_MS;
  SETTLES(&f, "+4 -2");
  f.s[1].silent_ms = 0;
  SETTLES(&f, "");
  VOTE(&f, "134");
  t_close(&f.t);
}
END_TEST

START_TEST(a_voter_that_is_gone__keeps_its_vote_while_nobody_living_can_take_it) {
  struct fleet f;
  open_fleet(&f, "....", 3);
  f.s[1].silent_ms = f.s[3].silent_ms = BLX__CONTROL_VOTER_GONE_MS;
  SETTLES(&f, "");
  f.s[3].silent_ms = 10000; /* not for long, and yet it may be dying */
  SETTLES(&f, "");
  f.s[3].silent_ms = 0;
  SETTLES(&f, "+4 -2");
  t_close(&f.t);
}
END_TEST

START_TEST(nothing_changes__while_a_voter_that_is_there_is_behind) {
  struct fleet f;
  open_fleet(&f, ".....", 5);
  f.s[1].behind = BLX__CONTROL_BEHIND_MAX + 1;
  SETTLES(&f, "");
  f.s[1].silent_ms = BLX__CONTROL_VOTER_GONE_MS; /* one that is gone is behind for ever, and holds nothing up */
  SETTLES(&f, "-2 -5");
  t_close(&f.t);
}
END_TEST

START_TEST(a_server_that_leaves__is_replaced_demoted_and_taken_out) {
  struct fleet f;
  open_fleet(&f, "....", 3);
  f.s[2].leaves = true;
  SETTLES(&f, "+4 -3 x3");
  VOTE(&f, "124");
  t_close(&f.t);
  open_fleet(&f, "...", 3); /* nobody takes its place */
  f.s[2].leaves = true;
  SETTLES(&f, "-3 x3");
  t_close(&f.t);
  open_fleet(&f, "...", 3); /* the leader */
  f.s[0].leaves = true;
  f.s[1].behind = 5;
  SETTLES(&f, ">3 -1 x1");
  t_close(&f.t);
  open_fleet(&f, ".", 1); /* the last one */
  f.s[0].leaves = true;
  SETTLES(&f, "");
  t_close(&f.t);
}
END_TEST

START_TEST(what_the_state_does_not_know__is_taken_out_of_the_group) {
  struct fleet f;
  open_fleet(&f, "...", 3);
  f.s[f.n++] = (struct blx__control_server){.uid = 77, .votes = true};
  f.s[f.n++] = (struct blx__control_server){.uid = 78};
  SETTLES(&f, "-77 x77 x78");
  t_close(&f.t);
}
END_TEST

/* Whatever the zones, the votes and who is silent: it comes to an end, with a voter, and with as many as it can have.
 */
START_TEST(any_group__settles) {
  for (unsigned seed = 1; seed <= 400; seed++) {
    struct fleet f;
    char zones[16] = "";
    uint64_t r = seed * 2654435761u;
    size_t n = 1 + r % 9, living = 0, vote = 0;
    for (size_t i = 0; i < n; i++) zones[i] = "abc."[(r >> (2 * i + 4)) % 4];
    open_fleet(&f, zones, 1 + (r >> 40) % n);
    for (size_t i = 1; i < n; i++) f.s[i].silent_ms = (r >> (i + 24)) % 4 == 0 ? BLX__CONTROL_VOTER_GONE_MS : 0;
    settle(&f);
    for (size_t i = 0; i < n; i++) {
      living += f.s[i].silent_ms == 0;
      vote += f.s[i].votes && f.s[i].silent_ms == 0;
    }
    uint32_t wanted = blx__control_voters_wanted((uint32_t)n);
    ck_assert_uint_eq(vote, living < wanted ? living : wanted);
    t_close(&f.t);
  }
}
END_TEST

BLX_TEST_MAIN("control/servers", three_vote__and_five_of_seven,
              too_many_voters__lose_their_vote_the_newest_first_and_never_the_leader, voters__are_spread_over_zones,
              voters__that_sit_together_are_replaced_one_by_one_and_the_leader_hands_over_if_it_must,
              racks_and_hosts__count_where_zones_say_nothing,
              a_voter_that_is_gone__is_replaced_and_comes_back_as_a_stand_by,
              a_voter_that_is_gone__keeps_its_vote_while_nobody_living_can_take_it,
              nothing_changes__while_a_voter_that_is_there_is_behind,
              a_server_that_leaves__is_replaced_demoted_and_taken_out,
              what_the_state_does_not_know__is_taken_out_of_the_group, any_group__settles)
