/* Files that are put and fetched whole, and how the table of files comes to its end. */
#include "../harness.h"
#include "support_disk.h"

#include "io/work.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- put and fetch */

START_TEST(put__replaces_a_file_by_many_parts_and_is_told_once) {
  enum { PARTS = 600, LARGEST = 9 * MIB + 3 }; /* more than is written between two syncs of its own */
  struct box b;
  struct blx__slice parts[PARTS];
  size_t len = 0, got = 0;
  uint8_t *bytes = pattern(LARGEST + PARTS * PARTS, 5), *back = NULL;
  box_open(&b, true);
  for (size_t i = 0; i < PARTS; i++) {
    parts[i] = (struct blx__slice){bytes + len, i == PARTS / 2 ? LARGEST : i};
    len += parts[i].len;
  }
  start_thread(&b);
  write_text(&b, "f", "what was there before");
  ck_assert_int_eq(sync_code(&b, NULL), 0);
  ck_assert_int_eq(put_code(&b, "f", parts, PARTS), 0);
  check_file(&b, "f", bytes, len);
  ck_assert_int_eq(fetch_code(&b, "f", &back, &got), 0);
  ck_assert_uint_eq(got, len);
  ck_assert_int_eq(memcmp(back, bytes, len), 0);
  free(back);
  free(bytes);
  ck_assert_int_eq(put_code(&b, "f", NULL, 0), 0);
  check_text(&b, "f", "");
  box_free(&b);
}
END_TEST

/* As a snapshot is made. */
START_TEST(what_was_put__is_renamed_and_synced_on_the_thread) {
  struct box b;
  box_open(&b, true);
  for (unsigned round = 0; round < 3; round++) {
    uint8_t *bytes = pattern(2 * MIB, round);
    const struct blx__slice parts[] = {{bytes, MIB}, {bytes + MIB, MIB}};
    ck_assert_int_eq(put_code(&b, "s.new", parts, 2), 0);
    ck_assert_int_eq(b.d.ops->rename(b.d.self, "s.new", "s").code, 0);
    ck_assert_int_eq(sync_code(&b, NULL), 0);
    ck_assert(!is_there(&b, "s.new"));
    check_file(&b, "s", bytes, 2 * MIB);
    ck_assert_int_eq(sync_code(&b, "s"), 0);
    free(bytes);
  }
  box_free(&b);
}
END_TEST

START_TEST(fetch__gives_every_byte_of_files_of_any_size) {
  static const size_t sizes[] = {0, 1, SMALL, 3 * MIB + 1};
  struct box b;
  box_open(&b, true);
  for (unsigned i = 0; i < BLX__COUNT(sizes); i++) {
    uint8_t *bytes = pattern(sizes[i], i), *back = NULL;
    size_t len = 0;
    ck_assert_int_eq(b.d.ops->write(b.d.self, "f", 0, (struct blx__slice){bytes, sizes[i]}).code, 0);
    ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "f").code, 0);
    ck_assert_int_eq(fetch_code(&b, "f", &back, &len), 0);
    ck_assert_uint_eq(len, sizes[i]);
    ck_assert_ptr_nonnull(back);
    ck_assert_int_eq(memcmp(back, bytes, len), 0);
    free(back);
    free(bytes);
  }
  box_free(&b);
}
END_TEST

START_TEST(fetch__of_a_missing_file_or_a_directory_gives_no_bytes) {
  struct box b;
  box_open(&b, true);
  uint8_t *bytes = NULL;
  size_t len = 0;
  ck_assert_int_eq(fetch_code(&b, "none", &bytes, &len), BLX_E_NOT_FOUND);
  ck_assert_ptr_null(bytes);
  ck_assert_int_eq(mkdirat(b.fd, "dir", 0700), 0);
  ck_assert_int_eq(fetch_code(&b, "dir", &bytes, &len), BLX_E_IO);
  ck_assert_ptr_null(bytes);
  ck_assert_uint_eq(len, 0);
  const struct blx__slice part = {(const uint8_t *)"x", 1};
  ck_assert_int_ne(put_code(&b, "dir", &part, 1), 0);
  ck_assert(is_there(&b, "dir"));
  /* The others' errors are not the thread's. */
  write_text(&b, "a", "goes on");
  ck_assert_int_eq(sync_code(&b, "a"), 0);
  check_text(&b, "a", "goes on");
  box_free(&b);
}
END_TEST

static void work_at_gate(void *arg) {
  pthread_mutex_t *gate = arg;
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
}

static void work_done(void *arg) {
  (void)arg;
}

START_TEST(put_and_fetch__that_find_the_workers_queue_full_are_done_all_the_same) {
  struct box b;
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  struct answer put = {.b = &b}, fetched = {.b = &b};
  const struct blx__slice part = {(const uint8_t *)"new", 3};
  int queued = 0;
  box_open(&b, true);
  write_text(&b, "f", "old");
  write_text(&b, "g", "one");
  pthread_mutex_lock(&gate);
  /* Both workers stand at the gate then. */
  while (queued < BLX__WORK_QUEUE_MAX + BLX__WORK_THREADS) {
    queued += blx__work(b.loop, work_at_gate, work_done, &gate, NULL).code == 0;
    (void)sched_yield();
  }
  b.d.ops->put(b.d.self, "f", &part, 1, on_done, &put);
  b.d.ops->fetch(b.d.self, "g", on_bytes, &fetched);
  pthread_mutex_unlock(&gate);
  ck_assert(put.calls == 0 && fetched.calls == 0);
  await(&b, 2);
  ck_assert(put.calls == 1 && fetched.calls == 1);
  ck_assert_int_eq(put.code, 0);
  ck_assert_int_eq(fetched.code, 0);
  ck_assert_uint_eq(fetched.len, 3);
  free(fetched.bytes);
  check_text(&b, "f", "new");
  box_free(&b);
}
END_TEST

/* ---- the end */

START_TEST(quit__before_anything_was_asked_is_quiet_at_once) {
  struct box b;
  box_open(&b, true);
  ck_assert(!b.d.ops->busy(b.d.self));
  b.d.ops->quit(b.d.self);
  ck_assert(!b.d.ops->busy(b.d.self));
  box_free(&b);
}
END_TEST

START_TEST(quit__lets_no_callback_come_and_busy_ends) {
  enum { ROUNDS = 20, SYNCS = 10 };
  for (unsigned round = 0; round < ROUNDS; round++) {
    struct box b;
    box_open(&b, true);
    struct answer never = {.b = &b};
    uint8_t *bytes = pattern(MIB, round);
    const struct blx__slice part = {bytes, MIB};
    if (round % 2) start_thread(&b);
    unsigned told = b.told;
    write_text(&b, "g", "to be fetched");
    for (unsigned i = 0; i < SYNCS; i++) {
      ck_assert_int_eq(b.d.ops->write(b.d.self, "f", i * MIB, part).code, 0);
      b.d.ops->sync(b.d.self, i % 3 ? "f" : NULL, on_done, &never);
    }
    if (round % 4 < 2) b.d.ops->put(b.d.self, "h", &part, 1, on_done, &never);
    if (round % 4 < 2) b.d.ops->fetch(b.d.self, "g", on_bytes, &never);
    for (unsigned i = 0; i < round * 20; i++) (void)sched_yield(); /* some of it done, nothing told */
    b.d.ops->quit(b.d.self);
    ck_assert(b.d.ops->busy(b.d.self)); /* the loop had no turn */
    box_close(&b);
    free(bytes); /* nothing looks at them any more */
    ck_assert_uint_eq(never.calls, 0);
    ck_assert_uint_eq(b.told, told);
    box_free(&b);
    ck_assert_uint_eq(never.calls, 0);
  }
}
END_TEST

/* The thread did it all, and only the loop does not know yet. */
START_TEST(quit__is_busy_until_the_answers_under_way_were_dropped) {
  struct box b;
  box_open(&b, true);
  struct answer never = {.b = &b};
  write_text(&b, "f", "done");
  for (unsigned i = 0; i < 5; i++) b.d.ops->sync(b.d.self, "f", on_done, &never);
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, "f").code, 0);
  b.d.ops->quit(b.d.self);
  for (unsigned i = 0; i < 20; i++) {
    ck_assert(b.d.ops->busy(b.d.self));
    (void)usleep(1000); /* so that the thread sleeps too */
  }
  box_close(&b);
  ck_assert_uint_eq(never.calls, 0);
  box_free(&b);
}
END_TEST

/* The same file again and again: a worker that was quick is no reason to fail. */
START_TEST(quit__in_the_middle_of_a_put_cuts_it_short) {
  enum { PARTS = 256, TRIES = 10 };
  struct blx__slice parts[PARTS];
  uint8_t *bytes = pattern(MIB, 1);
  bool cut = false;
  for (size_t i = 0; i < PARTS; i++) parts[i] = (struct blx__slice){bytes, MIB};
  for (unsigned try = 0; try < TRIES && !cut; try++) {
    struct box b;
    box_open(&b, true);
    struct answer never = {.b = &b};
    struct stat st = {0};
    b.d.ops->put(b.d.self, "f", parts, PARTS, on_done, &never);
    while (fstatat(b.fd, "f", &st, 0) != 0 || st.st_size == 0) (void)sched_yield();
    b.d.ops->quit(b.d.self);
    ck_assert(b.d.ops->busy(b.d.self));
    box_close(&b);
    ck_assert_int_eq(fstatat(b.fd, "f", &st, 0), 0);
    ck_assert_int_gt(st.st_size, 0);
    cut = st.st_size < (off_t)PARTS * MIB;
    ck_assert_uint_eq(never.calls, 0);
    box_free(&b);
  }
  ck_assert(cut);
  free(bytes);
}
END_TEST

START_TEST(quit__after_all_was_told_is_quiet_as_soon_as_the_thread_is) {
  struct box b;
  box_open(&b, true);
  start_thread(&b);
  write_text(&b, "f", "unsynced");
  ck_assert_int_eq(b.d.ops->sync_now(b.d.self, NULL).code, 0);
  b.d.ops->quit(b.d.self);
  while (b.d.ops->busy(b.d.self)) (void)sched_yield(); /* without the loop */
  check_text(&b, "f", "unsynced");
  box_free(&b);
}
END_TEST

BLX_TEST_MAIN("io/disk_large", put__replaces_a_file_by_many_parts_and_is_told_once,
              what_was_put__is_renamed_and_synced_on_the_thread, fetch__gives_every_byte_of_files_of_any_size,
              fetch__of_a_missing_file_or_a_directory_gives_no_bytes,
              put_and_fetch__that_find_the_workers_queue_full_are_done_all_the_same,
              quit__before_anything_was_asked_is_quiet_at_once, quit__lets_no_callback_come_and_busy_ends,
              quit__is_busy_until_the_answers_under_way_were_dropped, quit__in_the_middle_of_a_put_cuts_it_short,
              quit__after_all_was_told_is_quiet_as_soon_as_the_thread_is)
