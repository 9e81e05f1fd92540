#include "../harness.h"
#include "support_real.h"

#include "io/file.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES] = "a test cluster";

static const uint8_t other_cluster[BLX__CONSENSUS_CLUSTER_ID_BYTES] = "another one";

START_TEST(bootstrap__of_a_used_directory_is_refused) {
  struct real r;
  real_init(&r);
  bool there = true;
  blx_error err;
  real_make(&r, 0, false);
  ck_assert_int_eq(blx__consensus_probe(r.m[0].dir, &there, &err).code, 0);
  ck_assert(!there);
  real_make(&r, 0, true);
  ck_assert_int_eq(blx__consensus_probe(r.m[0].dir, &there, &err).code, 0);
  ck_assert(there);
  ck_assert_int_eq(blx__consensus_bootstrap(r.m[0].dir, other_cluster, 1, &err).code, BLX_E_EXISTS);
  ck_assert_int_eq(blx__consensus_bootstrap("/nonexistent/x", other_cluster, 1, &err).code, BLX_E_NOT_FOUND);
  real_free(&r);
}
END_TEST

START_TEST(open__of_a_directory_in_use_or_of_another_member_is_refused) {
  struct real r;
  real_init(&r);
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  blx_error err = {0};
  struct real again = r;
  again.m[0].c = NULL;
  ck_assert_int_eq(real_open(&again, 0, &err), BLX_E_BUSY);
  real_close(&r, 0);
  r.m[0].uid = 2;
  ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_CONFLICT);
  r.m[0].uid = 1;
  ck_assert_int_eq(real_open(&r, 0, &err), 0);
  real_free(&r);
}
END_TEST

START_TEST(open__without_the_member_file_is_refused) {
  struct real r;
  real_init(&r);
  real_make(&r, 0, true);
  char path[REAL_PATH + 16];
  bool there;
  blx_error err = {0};
  ck_assert(blx__str_format(path, sizeof path, "%s/member", r.m[0].dir));
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_CORRUPT);
  ck_assert_int_eq(blx__consensus_probe(r.m[0].dir, &there, &err).code, BLX_E_CORRUPT);
  real_free(&r);
}
END_TEST

/* Change one byte of the newest file whose name has @prefix. */
static void damage(const char *dir, const char *prefix, long at) {
  char newest[256] = "", path[REAL_PATH + 300];
  DIR *d = opendir(dir);
  ck_assert_ptr_nonnull(d);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || strstr(e->d_name, ".meta")) continue;
    if (strverscmp(e->d_name, newest) > 0) ck_assert(blx__str_copy(newest, sizeof newest, e->d_name));
  }
  ck_assert_int_eq(closedir(d), 0);
  ck_assert_msg(newest[0] != '\0', "no file %s* in %s", prefix, dir);
  ck_assert(blx__str_format(path, sizeof path, "%s/%s", dir, newest));
  FILE *f = fopen(path, "r+");
  ck_assert_ptr_nonnull(f);
  ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
  int c = fgetc(f);
  ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
  ck_assert_int_ne(fputc(c ^ 0x40, f), EOF);
  ck_assert_int_eq(fclose(f), 0);
}

START_TEST(a_damaged_log_or_snapshot__is_refused_and_changes_nothing) {
  struct real r;
  real_init(&r);
  r.snapshot_entries = 10;
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  for (uint64_t id = 1; id <= 30; id++) real_commit(&r, id);
  real_close(&r, 0);
  blx_error err = {0};
  damage(r.m[0].dir, "snapshot", 130);
  ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_CORRUPT);
  ck_assert_ptr_nonnull(strstr(err.message, "checksum"));
  ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_BUSY); /* the first attempt still tidies up on the loop */
  blx__loop_free(r.loop);
  ck_assert_int_eq(blx__loop_new(&r.loop, NULL).code, 0);
  damage(r.m[0].dir, "snapshot", 130);
  damage(r.m[0].dir, "log-", 40);
  ck_assert_int_ne(real_open(&r, 0, &err), 0);
  blx__loop_free(r.loop);
  ck_assert_int_eq(blx__loop_new(&r.loop, NULL).code, 0);
  damage(r.m[0].dir, "log-", 40);
  ck_assert_int_eq(real_open(&r, 0, &err), 0);
  real_commit(&r, 31);
  ck_assert(sim_fsm_log.has(r.m[0].fsm, 1) && sim_fsm_log.has(r.m[0].fsm, 30));
  real_free(&r);
}
END_TEST

static void path_in(const struct real *r, const char *name, char path[REAL_PATH + 300]) {
  ck_assert(blx__str_format(path, REAL_PATH + 300, "%s/%s", r->m[0].dir, name));
}

static void refused(struct real *r, const char *word) {
  blx_error err = {0};
  ck_assert_int_eq(real_open(r, 0, &err), BLX_E_CORRUPT);
  ck_assert_msg(strstr(err.message, word) != NULL, "%s", err.message);
  blx__loop_free(r->loop);
  ck_assert_int_eq(blx__loop_new(&r->loop, NULL).code, 0);
}

static void used_member(struct real *r) {
  real_init(r);
  real_make(r, 0, true);
  for (uint64_t id = 1; id <= 10; id++) {
    if (id == 1 || id == 6) ck_assert_int_eq(real_open(r, 0, NULL), 0); /* a segment each */
    real_commit(r, id);
    if (id == 5 || id == 10) real_close(r, 0);
  }
}

/* With another vote the member could vote twice in a term. */
START_TEST(a_changed_term_or_vote__is_refused) {
  struct real r;
  used_member(&r);
  for (long at = 24; at < 40; at += 8) { /* the term, the vote */
    for (unsigned i = 0; i < 2; i++) {   /* there and back; which of the two files is the newer does not matter */
      char second[REAL_PATH + 300];
      path_in(&r, "meta-2", second);
      damage(r.m[0].dir, "meta-1", at);
      if (access(second, F_OK) == 0) damage(r.m[0].dir, "meta-2", at);
      if (i == 0) refused(&r, "term and vote");
    }
  }
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_free(&r);
}
END_TEST

START_TEST(r13__a_log_whose_end_is_gone_is_refused) {
  struct real r;
  char path[REAL_PATH + 300], away[REAL_PATH + 300], newest[256] = "";
  used_member(&r);
  DIR *d = opendir(r.m[0].dir);
  ck_assert_ptr_nonnull(d);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (strncmp(e->d_name, "log-", 4) == 0 && strverscmp(e->d_name, newest) > 0)
      ck_assert(blx__str_copy(newest, sizeof newest, e->d_name));
  ck_assert_int_eq(closedir(d), 0);
  path_in(&r, newest, path);
  path_in(&r, "../away", away);
  ck_assert_int_eq(rename(path, away), 0);
  refused(&r, "had more of it");
  ck_assert_int_eq(rename(away, path), 0);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  ck_assert(sim_fsm_log.has(r.m[0].fsm, 10));
  real_close(&r, 0);
  r.rules_off = BLX__RULE_R13_MARK; /* without it what was acknowledged is gone, and nobody says so */
  ck_assert_int_eq(rename(path, away), 0);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  ck_assert(!sim_fsm_log.has(r.m[0].fsm, 10));
  real_free(&r);
}
END_TEST

START_TEST(a_missing_mark_and_a_damaged_member_file__are_refused_by_name) {
  struct real r;
  char path[REAL_PATH + 300], away[REAL_PATH + 300];
  used_member(&r);
  path_in(&r, "mark", path);
  path_in(&r, "../away", away);
  ck_assert_int_eq(rename(path, away), 0);
  refused(&r, "mark");
  ck_assert_int_eq(rename(away, path), 0);
  damage(r.m[0].dir, "member", 20);
  refused(&r, "member");
  damage(r.m[0].dir, "member", 20);
  /* One of its two slots may be torn by a crash. */
  damage(r.m[0].dir, "mark", 20);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_free(&r);
}
END_TEST

/* `member` is what bootstrap writes last. */
START_TEST(bootstrap__after_one_that_was_cut_begins_anew) {
  struct real r;
  char path[REAL_PATH + 300];
  blx_error err = {0};
  real_init(&r);
  real_make(&r, 0, true);
  path_in(&r, "member", path);
  ck_assert_int_eq(unlink(path), 0);
  real_make(&r, 0, true);
  ck_assert_msg(real_open(&r, 0, &err) == 0, "%s", err.message);
  real_commit(&r, 1);
  real_close(&r, 0);
  ck_assert_int_eq(unlink(path), 0); /* now there is more than a bootstrap leaves */
  ck_assert_int_eq(blx__consensus_bootstrap(r.m[0].dir, cluster_id, 1, &err).code, BLX_E_CORRUPT);
  real_free(&r);
}
END_TEST

START_TEST(bootstrap__removes_no_file_that_is_not_its_own) {
  struct real r;
  char path[REAL_PATH + 300];
  blx_error err = {0};
  real_init(&r);
  real_make(&r, 0, false);
  path_in(&r, "thesis.txt", path);
  ck_assert_int_eq(blx__file_write_atomic(path, "x", 1, 0600, NULL).code, 0);
  ck_assert_int_eq(blx__consensus_bootstrap(r.m[0].dir, cluster_id, 1, &err).code, BLX_E_CONFLICT);
  ck_assert_msg(strstr(err.message, "thesis.txt") != NULL, "%s", err.message);
  ck_assert_int_eq(access(path, F_OK), 0);
  real_free(&r);
}
END_TEST

/* Each cycle syncs its directory many times: the full count is asked for by `make soak` (BLX_CYCLES). */
#ifdef __SANITIZE_ADDRESS__
enum { CYCLES = 200 };
#else
enum { CYCLES = 40 };
#endif

START_TEST(a_member_alone__opens_and_closes_many_times_with_writes_under_way) {
  struct real r;
  real_init(&r);
  r.snapshot_entries = 40;
  real_make(&r, 0, true);
  const char *asked = getenv("BLX_CYCLES"); /* make soak */
  uint64_t cycles = CYCLES;
  if (asked) ck_assert(blx__parse_u64(asked, 1, 100000, &cycles));
  for (uint64_t i = 1; i <= cycles; i++) {
    blx_error err = {0};
    ck_assert_msg(real_open(&r, 0, &err) == 0, "cycle %u: %s", (unsigned)i, err.message);
    real_commit(&r, i);
    struct outcome x[3] = {{0}};
    uint64_t id = 1000000 + i;
    if (i % 2)
      for (unsigned k = 0; k < 3; k++)
        ck_assert_int_eq(
            blx__consensus_propose(r.m[0].c, (struct blx__slice){(const uint8_t *)&id, 8}, outcome_cb, &x[k], NULL)
                .code,
            0);
    real_close(&r, 0);
    if (i % 2) ck_assert_uint_eq(x[0].fired + x[1].fired + x[2].fired, 3);
  }
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_until(&r, real_has_leader, NULL);
  for (uint64_t i = 1; i <= cycles; i++)
    ck_assert_msg(sim_fsm_log.has(r.m[0].fsm, i), "operation %u is gone", (unsigned)i);
  real_free(&r);
}
END_TEST

BLX_TEST_MAIN("consensus/disk", bootstrap__of_a_used_directory_is_refused,
              open__of_a_directory_in_use_or_of_another_member_is_refused, open__without_the_member_file_is_refused,
              a_damaged_log_or_snapshot__is_refused_and_changes_nothing, a_changed_term_or_vote__is_refused,
              r13__a_log_whose_end_is_gone_is_refused, a_missing_mark_and_a_damaged_member_file__are_refused_by_name,
              bootstrap__after_one_that_was_cut_begins_anew, bootstrap__removes_no_file_that_is_not_its_own,
              a_member_alone__opens_and_closes_many_times_with_writes_under_way)
