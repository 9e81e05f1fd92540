/* The audit log on the disk: its chain, what comes twice, what lacks, what goes, and what a damaged one says. */
#include "../harness.h"

#include "history/history.h"
#include "schema/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHAIN_MAX = 2048 };

/* A chain as state makes it, kept whole to hand out parts of it. */
static struct chain {
  unsigned count;
  uint8_t hash[CHAIN_MAX + 1][BLX__SHA256_BYTES]; /* [0]: zeros */
  struct blx__buf record[CHAIN_MAX + 1];
  uint64_t time_ms[CHAIN_MAX + 1];
} chain;

static const char words[] = "it runs already"; /* of each fifth, which was refused */
static unsigned given;                         /* how far state has come */
static char dir[64], path[96];
static struct blx__arena arena;
static struct blx__history *h;
static int fatal_code;
static char fatal_text[512];

static void on_fatal(void *user, int code, const char *text) {
  (void)user;
  fatal_code = code;
  (void)blx__str_copy(fatal_text, sizeof fatal_text, text);
}

static struct blx__history_options options = {.path = path, .on_fatal = on_fatal};

static void begin(void) {
  memset(&chain, 0, sizeof chain);
  fatal_code = 0;
  given = 0;
  options.max_age_ms = options.max_bytes = 0;
  arena = (struct blx__arena){.limit_bytes = 16 << 20};
  ck_assert(blx__str_format(dir, sizeof dir, "/tmp/blx-history-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert(blx__str_format(path, sizeof path, "%s/history.db", dir));
}

static int open_it(blx_error *err) {
  return blx__history_open(&options, &h, err).code;
}

static void must_open(void) {
  blx_error err = {0};
  ck_assert_msg(open_it(&err) == 0, "%s", err.message);
}

static void close_it(void) {
  blx__history_close(h);
  h = NULL;
}

static void end(void) {
  static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
  close_it();
  for (unsigned i = 0; i <= CHAIN_MAX; i++) blx__buf_free(&chain.record[i]);
  blx__arena_free(&arena);
  for (unsigned i = 0; i < BLX__COUNT(tails); i++) {
    char name[128];
    (void)blx__str_format(name, sizeof name, "%s%s", path, tails[i]);
    (void)unlink(name);
  }
  ck_assert_int_eq(rmdir(dir), 0);
}

static void chain_add(const char *object, uint64_t time_ms) {
  unsigned n = ++chain.count;
  ck_assert_uint_le(n, CHAIN_MAX);
  struct blx_audit_record a = BLX_AUDIT_RECORD_INIT;
  a.seq = n;
  a.index = 10 + n;
  a.time_ms = chain.time_ms[n] = time_ms;
  a.principal = n % 2 ? "uid:0" : "uid:7";
  a.verb = n % 3 ? "vm.start" : "node.cordon";
  a.object = object;
  a.code = n % 5 == 0 ? BLX_E_CONFLICT : 0;
  blx__buf_init(&chain.record[n], 4096);
  ck_assert_int_eq(blx__msg_encode(blx__desc_audit_record(), &a, &chain.record[n], NULL).code, 0);
  const struct blx__slice parts[] = {{chain.hash[n - 1], BLX__SHA256_BYTES},
                                     {chain.record[n].data, chain.record[n].len}};
  blx__sha256(parts, 2, chain.hash[n]);
}

static void chain_make(unsigned count) {
  while (chain.count < count) chain_add("vm/web", 1000 + chain.count);
}

static void give(unsigned from, unsigned to) {
  if (to > given) given = to;
  for (unsigned n = from; n <= to; n++) {
    struct blx__history_record r = {.seq = n, .index = 10 + n, .time_ms = chain.time_ms[n]};
    r.prev = chain.hash[n - 1];
    r.hash = chain.hash[n];
    r.record = (struct blx__slice){chain.record[n].data, chain.record[n].len};
    r.message = n % 5 == 0 ? words : NULL;
    blx__history_add(h, &r);
  }
}

static struct blx__history_check check(void) {
  struct blx__history_check c = {.state_seq = given};
  memcpy(c.state_head, chain.hash[given], sizeof c.state_head);
  blx_error err = {0};
  while (!c.done) ck_assert_msg(blx__history_check(h, &c, &err).code == 0, "%s", err.message);
  return c;
}

static void check_good(uint64_t records) {
  struct blx__history_check c = check();
  ck_assert_msg(c.ok, "record %llu: %s", (unsigned long long)c.bad_seq, c.text);
  ck_assert_uint_eq(c.records, records);
}

static void check_bad(uint64_t seq) {
  struct blx__history_check c = check();
  ck_assert(!c.ok);
  ck_assert_msg(c.bad_seq == seq, "record %llu: %s", (unsigned long long)c.bad_seq, c.text);
  ck_assert_uint_gt(strlen(c.text), 20);
}

static struct blx_audit_list list(struct blx_audit_list_request r) {
  struct blx_audit_list out = BLX_AUDIT_LIST_INIT;
  blx_error err = {0};
  r.struct_size = sizeof r;
  ck_assert_msg(blx__history_list(h, &r, &arena, &out, &err).code == 0, "%s", err.message);
  return out;
}

static void sql(const char *text) {
  sqlite3 *db = NULL;
  char *why = NULL;
  ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
  ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, &why) == SQLITE_OK, "%s", why);
  ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(records__survive_and_come_again_without_harm) {
  begin();
  must_open();
  chain_make(200);
  give(1, 150);
  close_it();
  must_open();
  give(100, 200); /* the log is applied again from a snapshot on */
  check_good(200);
  struct blx_audit_list out = list((struct blx_audit_list_request){.limit = 1000});
  ck_assert_uint_eq(out.n_records, 200);
  for (unsigned i = 0; i < 200; i++) {
    ck_assert_uint_eq(out.records[i]->seq, i + 1);
    ck_assert(blx__str_eq(out.records[i]->message, (i + 1) % 5 == 0 ? words : NULL));
  }
  ck_assert_int_eq(fatal_code, 0);
  end();
}
END_TEST

START_TEST(a_snapshot__may_take_the_place_of_entries_whose_records_are_synced_only) {
  begin();
  must_open();
  chain_make(3);
  ck_assert(!blx__history_may_truncate(h, 5)); /* that no event is missing up to there is to be written */
  check_good(0);
  ck_assert(blx__history_may_truncate(h, 5));
  give(1, 3); /* of indexes 11 to 13 */
  ck_assert(!blx__history_may_truncate(h, 13));
  check_good(3); /* waits for the writer */
  ck_assert(blx__history_may_truncate(h, 13));
  end();
}
END_TEST

/* As members of two versions say it. */
START_TEST(a_refusal_in_other_words__is_the_same_record) {
  struct blx_audit_part part = BLX_AUDIT_PART_INIT;
  begin();
  must_open();
  chain_make(10);
  give(1, 10);
  check_good(10);
  sql("UPDATE audit SET message='in other words' WHERE seq=5");
  check_good(10);
  close_it();
  must_open();
  give(4, 10); /* the log gives them again */
  check_good(10);
  ck_assert_int_eq(fatal_code, 0);
  struct blx_audit_list out = list((struct blx_audit_list_request){.from_seq = 5, .limit = 1});
  ck_assert_str_eq(out.records[0]->message, "in other words");
  blx_error err = {0};
  ck_assert_int_eq(
      blx__history_part(h, &(struct blx_audit_fetch_request){.upto_seq = 5, .limit = 2}, &arena, &part, &err).code, 0);
  ck_assert_str_eq(part.links[0]->message, "in other words"); /* as a member gives it to another */
  end();
}
END_TEST

START_TEST(a_record_that_is_not_the_logs__is_fatal) {
  begin();
  must_open();
  chain_make(10);
  give(1, 10);
  close_it();
  sql("UPDATE audit SET hash=zeroblob(32) WHERE seq=4");
  must_open();
  give(4, 4);
  struct blx__history_check c = {0};
  (void)blx__history_check(h, &c, NULL).code;
  ck_assert_int_eq(fatal_code, BLX_E_CORRUPT);
  ck_assert_ptr_nonnull(strstr(fatal_text, "record 4 "));
  end();
}
END_TEST

START_TEST(whatever_is_changed__the_first_bad_record_is_named) {
  static const struct {
    const char *change;
    uint64_t seq;
  } cases[] = {
      {"UPDATE audit SET record=CAST(substr(record,1,9)||x'7a'||substr(record,11) AS BLOB) WHERE seq=7", 7},
      {"UPDATE audit SET time_ms=time_ms+1 WHERE seq=8", 8},
      {"UPDATE audit SET hash=zeroblob(32) WHERE seq=9", 9},
      {"UPDATE audit SET hash='text' WHERE seq=3", 3},
      {"UPDATE audit SET prev=zeroblob(32) WHERE seq=5", 5},
      {"DELETE FROM audit WHERE seq=6", 6},
      {"DELETE FROM audit WHERE seq=12", 12},
      {"DELETE FROM audit WHERE seq=1", 1},
      {"UPDATE audit SET seq=20 WHERE seq=12", 12},
  };
  for (unsigned i = 0; i < BLX__COUNT(cases); i++) {
    begin();
    must_open();
    chain_make(12);
    give(1, 12);
    check_good(12);
    sql(cases[i].change);
    check_bad(cases[i].seq);
    end();
  }
}
END_TEST

/* Who can write the file can hash it anew; the state's head tells. */
START_TEST(a_chain_that_was_made_anew__leads_to_another_head) {
  begin();
  must_open();
  chain_make(5);
  give(1, 5);
  check_good(5);
  chain.hash[5][0] ^= 1; /* as if the cluster's state had another */
  check_bad(5);
  end();
}
END_TEST

static void part_of(unsigned upto, unsigned n, struct blx_audit_part *out) {
  *out = (struct blx_audit_part)BLX_AUDIT_PART_INIT;
  out->links = blx__arena_alloc(&arena, n * sizeof *out->links);
  for (unsigned i = 0; i < n; i++) {
    struct blx_audit_link *link = blx__arena_alloc(&arena, sizeof *link);
    *link = (struct blx_audit_link)BLX_AUDIT_LINK_INIT;
    link->prev = (struct blx_bytes){chain.hash[upto - i - 1], BLX__SHA256_BYTES};
    link->record = (struct blx_bytes){chain.record[upto - i].data, chain.record[upto - i].len};
    if ((upto - i) % 5 == 0) link->message = words;
    out->links[out->n_links++] = link;
  }
}

static struct blx__history_gap gap_now(void) {
  struct blx__history_gap gap;
  ck_assert(blx__history_gap(h, &gap));
  return gap;
}

START_TEST(what_a_snapshot_stood_for__is_a_gap_that_is_filled_from_above) {
  struct blx_audit_part part;
  struct blx__history_gap gap;
  blx_error err = {0};
  begin();
  must_open();
  chain_make(40);
  give(1, 10);
  blx__history_head(h, 30, chain.hash[30]);
  give(31, 35);
  check_good(15);
  gap = gap_now();
  ck_assert_uint_eq(gap.first, 11);
  ck_assert_uint_eq(gap.last, 30);
  part_of(29, 3, &part); /* not what was asked for */
  ck_assert_int_eq(blx__history_fill(h, gap, &part, &err).code, BLX_E_CONFLICT);
  part_of(30, 8, &part);
  ck_assert_int_eq(blx__history_fill(h, gap, &part, &err).code, 0);
  ck_assert_int_eq(blx__history_fill(h, gap, &part, &err).code, BLX_E_CONFLICT); /* the gap is another one now */
  close_it();
  must_open();
  gap = gap_now();
  ck_assert_uint_eq(gap.last, 22);
  part_of(22, 12, &part);
  part.links[5]->record.len--; /* what comes before it is good */
  ck_assert_int_eq(blx__history_fill(h, gap, &part, &err).code, BLX_E_CONFLICT);
  gap = gap_now();
  ck_assert_uint_eq(gap.last, 17);
  part_of(17, 7, &part);
  ck_assert_int_eq(blx__history_fill(h, gap, &part, &err).code, 0);
  ck_assert(!blx__history_gap(h, &gap));
  give(36, 40);
  check_good(40);
  ck_assert_str_eq(list((struct blx_audit_list_request){.from_seq = 25, .limit = 1}).records[0]->message, words);
  end();
}
END_TEST

START_TEST(what_nobody_has__is_a_cut_and_the_chain_goes_on_over_it) {
  struct blx_audit_cut **cuts = NULL;
  size_t n = 0;
  begin();
  must_open();
  chain_make(20);
  blx__history_head(h, 12, chain.hash[12]);
  give(13, 20);
  check_good(8);
  ck_assert_int_eq(blx__history_give_up(h, gap_now(), NULL).code, 0);
  struct blx__history_gap gap;
  ck_assert(!blx__history_gap(h, &gap));
  check_good(8);
  ck_assert_int_eq(blx__history_cuts(h, &arena, &cuts, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 1);
  ck_assert_uint_eq(cuts[0]->first_seq, 1);
  ck_assert_uint_eq(cuts[0]->last_seq, 12);
  ck_assert_uint_eq(cuts[0]->fetching, 0);
  ck_assert_str_ne(cuts[0]->why, "");
  end();
}
END_TEST

/* Records of other members below which this one's own are another chain's. */
START_TEST(a_gap_that_leads_to_another_chain__is_refused) {
  struct blx_audit_part part;
  begin();
  must_open();
  chain_make(9);
  give(1, 4);
  blx__history_head(h, 9, chain.hash[9]);
  check_good(4);
  close_it();
  sql("UPDATE audit SET hash=zeroblob(32) WHERE seq=4");
  must_open();
  part_of(9, 5, &part);
  blx_error err = {0};
  ck_assert_int_eq(blx__history_fill(h, gap_now(), &part, &err).code, BLX_E_CORRUPT);
  ck_assert_uint_eq(gap_now().last, 9);
  end();
}
END_TEST

START_TEST(the_oldest__go_by_size_and_leave_a_cut_from_which_the_rest_verifies) {
  struct blx_audit_cut **cuts = NULL;
  size_t n = 0;
  begin();
  options.max_bytes = 50 * 150;
  must_open();
  chain_make(400);
  for (unsigned at = 0; at < 400; at += 50) {
    give(at + 1, at + 50);
    (void)check();
  }
  struct blx_audit_list out = list((struct blx_audit_list_request){.limit = 1000});
  ck_assert_uint_ge(out.n_records, 20);
  ck_assert_uint_le(out.n_records, 60);
  ck_assert_uint_eq(out.records[out.n_records - 1]->seq, 400);
  check_good(out.n_records);
  close_it();
  must_open();
  check_good(out.n_records);
  ck_assert_int_eq(blx__history_cuts(h, &arena, &cuts, &n, NULL).code, 0);
  ck_assert_uint_eq(n, 1);
  ck_assert_uint_eq(cuts[0]->first_seq, 1);
  ck_assert_uint_eq(cuts[0]->last_seq, 400 - out.n_records);
  give(1, 3); /* the log gives them again: they stay gone */
  check_good(out.n_records);
  end();
}
END_TEST

START_TEST(the_oldest__go_by_age) {
  begin();
  options.max_age_ms = 1000;
  must_open();
  for (unsigned n = 1; n <= 10; n++) chain_add("vm/web", n * 500);
  give(1, 10);
  check_good(3); /* of 4,000, 4,500 and 5,000 */
  end();
}
END_TEST

START_TEST(a_list__is_filtered_paged_and_goes_both_ways) {
  begin();
  must_open();
  chain_make(30);
  chain_add("node/n1", 5000);
  give(1, 31);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.principal = "uid:7"}).n_records, 15);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.verb = "vm"}).n_records, 21);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.verb = "vm.start"}).n_records, 21);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.verb = "vm.sta"}).n_records, 0);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.object = "n1"}).n_records, 1);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.object = "vm/web"}).n_records, 30);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.result = "ok"}).n_records, 25);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.result = "refused"}).n_records, 6);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.result = "CONFLICT"}).n_records, 6);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.since_ms = 1020}).n_records, 11);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.since_ms = 1020, .until_ms = 1025}).n_records, 5);
  ck_assert_uint_eq(list((struct blx_audit_list_request){.since_ms = 1020, .backward = 1}).n_records, 11);
  struct blx_audit_list out = list((struct blx_audit_list_request){.backward = 1, .limit = 4});
  ck_assert_uint_eq(out.records[0]->seq, 31);
  ck_assert_uint_eq(out.next_seq, 27);
  out = list((struct blx_audit_list_request){.from_seq = 29, .limit = 3});
  ck_assert_uint_eq(out.n_records, 3);
  ck_assert_uint_eq(out.next_seq, 0);
  struct blx_audit_list_request r = BLX_AUDIT_LIST_REQUEST_INIT;
  r.result = "sometimes";
  blx_error err = {0};
  ck_assert_int_eq(blx__history_list(h, &r, &arena, &out, &err).code, BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "sometimes"));
  end();
}
END_TEST

START_TEST(refused_requests__have_a_chain_of_their_own) {
  begin();
  must_open();
  struct blx_audit_record a = BLX_AUDIT_RECORD_INIT;
  struct blx__buf b;
  blx__buf_init(&b, 4096);
  a.time_ms = 77;
  a.code = BLX_E_INVALID;
  a.kind = BLX_AUDIT_KIND_DENIED;
  ck_assert_int_eq(blx__msg_encode(blx__desc_audit_record(), &a, &b, NULL).code, 0);
  for (int i = 0; i < 5; i++) blx__history_deny(h, 77, (struct blx__slice){b.data, b.len});
  blx__buf_free(&b);
  struct blx_audit_list out = list((struct blx_audit_list_request){.denied = 1});
  ck_assert_uint_eq(out.n_records, 5);
  ck_assert_uint_eq(out.records[4]->seq, 5);
  struct blx__history_check c = {.denied = true};
  while (!c.done) ck_assert_int_eq(blx__history_check(h, &c, NULL).code, 0);
  ck_assert(c.ok);
  ck_assert_uint_eq(c.records, 5);
  sql("UPDATE denied SET record=x'00' WHERE seq=3");
  c = (struct blx__history_check){.denied = true};
  while (!c.done) ck_assert_int_eq(blx__history_check(h, &c, NULL).code, 0);
  ck_assert(!c.ok);
  ck_assert_uint_eq(c.bad_seq, 3);
  end();
}
END_TEST

START_TEST(a_file_that_is_no_database__is_refused_with_the_way_back) {
  blx_error err = {0};
  begin();
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  for (int i = 0; i < 1000; i++) ck_assert_int_gt(fputs("nothing of SQLite's ", f), 0);
  ck_assert_int_eq(fclose(f), 0);
  ck_assert_int_eq(open_it(&err), BLX_E_CORRUPT);
  ck_assert_int_eq(blx_error_exit_status(err.code), 7);
  ck_assert_ptr_nonnull(strstr(err.message, path));
  ck_assert_ptr_nonnull(strstr(err.message, "move it away"));
  ck_assert_int_eq(unlink(path), 0);
  must_open(); /* the way back */
  close_it();
  sql("PRAGMA user_version=9");
  ck_assert_int_eq(open_it(&err), BLX_E_UNSUPPORTED);
  sql("PRAGMA user_version=1"); /* of before the first release */
  ck_assert_int_eq(open_it(&err), BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(err.message, "move it away"));
  h = NULL;
  end();
}
END_TEST

/* On a file system of a few pages. */
START_TEST(a_full_disk__is_waited_for_and_holds_snapshots_up_meanwhile) {
  begin();
  if (mount("none", dir, "tmpfs", 0, "size=256k") != 0) {
    (void)fprintf(stderr, "not run: no leave to mount (%s)\n", strerror(errno));
    ck_assert_int_eq(rmdir(dir), 0);
    return;
  }
  must_open();
  chain_make(10);
  give(1, 10);
  check_good(10);
  char ballast[96];
  ck_assert(blx__str_format(ballast, sizeof ballast, "%s/ballast", dir));
  int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  static const char page[4096];
  while (write(fd, page, sizeof page) > 0) {}
  close(fd);
  chain_make(600);
  give(11, 600);
  for (int i = 0; i < 15; i++) {
    ck_assert(!blx__history_may_truncate(h, 610));
    (void)usleep(100000);
  }
  ck_assert_int_eq(fatal_code, 0);
  ck_assert_int_eq(unlink(ballast), 0);
  check_good(600);
  ck_assert(blx__history_may_truncate(h, 610));
  close_it();
  ck_assert_int_eq(umount(dir), 0);
  end();
}
END_TEST

BLX_TEST_MAIN("history/history", records__survive_and_come_again_without_harm,
              a_snapshot__may_take_the_place_of_entries_whose_records_are_synced_only,
              a_refusal_in_other_words__is_the_same_record, a_record_that_is_not_the_logs__is_fatal,
              whatever_is_changed__the_first_bad_record_is_named, a_chain_that_was_made_anew__leads_to_another_head,
              what_a_snapshot_stood_for__is_a_gap_that_is_filled_from_above,
              what_nobody_has__is_a_cut_and_the_chain_goes_on_over_it, a_gap_that_leads_to_another_chain__is_refused,
              the_oldest__go_by_size_and_leave_a_cut_from_which_the_rest_verifies, the_oldest__go_by_age,
              a_list__is_filtered_paged_and_goes_both_ways, refused_requests__have_a_chain_of_their_own,
              a_file_that_is_no_database__is_refused_with_the_way_back,
              a_full_disk__is_waited_for_and_holds_snapshots_up_meanwhile)
