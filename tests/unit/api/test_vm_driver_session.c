/* Sessions and statistics of a driver of the embedder's, through the public headers. */
#include "support_driver.h"

#include <stdio.h>
#include <time.h>

enum { PIECES = 200, PIECE = BLX_VM_DRIVER_SESSION_BYTES_MAX, RACES = 30 };

static void nap(void) {
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static blx_vm_exec *begin(const char *const *argv, size_t argc) {
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  blx_vm_exec *exec = NULL;
  unsigned before = fake_count(SESSION_OPEN);
  req.name = "web";
  req.argv = (const char **)(uintptr_t)argv;
  req.n_argv = argc;
  req.console = argc == 0;
  ck_assert_int_eq(blx_vm_exec_open(client, &req, &exec, NULL), 0);
  fake_await(SESSION_OPEN, before + 1);
  return exec;
}

static const char *const words[] = {"sh", "-c", "echo hi"};

/* All that comes until the end; *@err: why it ended otherwise. */
struct heard {
  int rc;
  blx_error err;
  size_t out, errors, wrong;
  int32_t exit_status, signal;
};

static struct heard hear(blx_vm_exec *exec) {
  struct heard h = {0};
  struct blx_vm_exec_output *o = NULL;
  while ((h.rc = blx_vm_exec_next(exec, WAIT_MS, &o, &h.err)) == 1) {
    for (size_t i = 0; i < o->out.len; i++, h.out++)
      h.wrong += h.out >= 3 && o->out.data[i] != (uint8_t)('a' + (h.out - 3) / PIECE % 26);
    h.errors += o->err.len;
    if (o->ended) h.exit_status = o->exit_status;
    if (o->ended) h.signal = o->signal;
    blx_vm_exec_output_free(o);
  }
  return h;
}

static void open_vm(void) {
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
}

static void shut(void) {
  close_node();
  remove_dir();
}

START_TEST(a_command__has_its_words_streams_and_status) {
  blx_error why = {.code = BLX_E_NOT_FOUND, .message = "there is no \xff in PATH"};
  open_vm();
  blx_vm_exec *exec = begin(words, 3);
  ck_assert_str_eq(fake.words, "sh|-c|echo hi|");
  ck_assert(fake.tty == 0);
  ck_assert_int_eq(blx_vm_exec_write(exec, "input", 5, WAIT_MS, NULL), 5);
  ck_assert_int_eq(blx_vm_exec_resize(exec, 50, 132, WAIT_MS, NULL), 0);
  fake_await(SESSION_RESIZE, 1);
  ck_assert(fake.rows == 50 && fake.columns == 132);
  ck_assert_int_eq(blx_vm_exec_write(exec, NULL, 0, WAIT_MS, NULL), 0);
  fake_await(SESSION_WRITE, 2);
  ck_assert(fake.input_ended && fake.input_len == 5 && memcmp(fake.input, "input", 5) == 0);
  ck_assert_int_eq(blx_vm_driver_session_output(fake.session, BLX_VM_DRIVER_STREAM_ERR, "oops", 4, NULL), 0);
  ck_assert_int_eq(blx_vm_driver_session_end(fake.session, NULL, 3, 0, NULL), 0);
  struct heard h = hear(exec);
  ck_assert(h.rc == 0 && h.exit_status == 3 && h.signal == 0 && h.out == 3 && h.errors == 4);
  blx_vm_exec_close(exec);

  exec = begin(NULL, 0);
  ck_assert_str_eq(fake.words, "");
  ck_assert_int_eq(blx_vm_driver_session_end(fake.session, NULL, -1, 15, NULL), 0);
  h = hear(exec);
  ck_assert(h.rc == 0 && h.exit_status == -1 && h.signal == 15);
  blx_vm_exec_close(exec);

  exec = begin(words, 3);
  ck_assert_int_eq(blx_vm_driver_session_end(fake.session, &why, 0, 0, NULL), 0);
  h = hear(exec);
  ck_assert_int_eq(h.rc, BLX_E_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(h.err.message, "there is no ? in PATH"));
  blx_vm_exec_close(exec);

  fake_set(SESSION_OPEN, false, BLX_E_UNSUPPORTED, "this thing has no shell");
  exec = begin(words, 3);
  h = hear(exec);
  ck_assert_int_eq(h.rc, BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(h.err.message, "no shell"));
  blx_vm_exec_close(exec);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_output(fake.session, BLX_VM_DRIVER_STREAM_OUT, "x", 1, &err));
  ck_assert_uint_eq(fake_count(SESSION_CLOSE), 0);
  shut();
}
END_TEST

START_TEST(what_makes_no_sense__is_refused_and_changes_nothing) {
  open_vm();
  blx_vm_exec *exec = begin(words, 3);
  blx_vm_driver_session *s = fake.session;
  static char much[PIECE + 1];
  REFUSED(BLX_E_INVALID, blx_vm_driver_session_output(s, 0, "x", 1, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_session_output(s, 3, "x", 1, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_session_output(s, BLX_VM_DRIVER_STREAM_OUT, NULL, 1, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_session_output(s, BLX_VM_DRIVER_STREAM_OUT, much, sizeof much, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_output(NULL, BLX_VM_DRIVER_STREAM_OUT, "x", 1, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_output((void *)fake.driver, BLX_VM_DRIVER_STREAM_OUT, "x", 1, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_room(NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_logs_end((void *)s, NULL, &err));
  static const int32_t bad[][2] = {{256, 0}, {-2, 0}, {-1, 0}, {-1, 65}, {-1, -1}, {0, 9}};
  for (unsigned i = 0; i < BLX__COUNT(bad); i++)
    REFUSED(BLX_E_INVALID, blx_vm_driver_session_end(s, NULL, bad[i][0], bad[i][1], &err));
  ck_assert_int_eq(blx_vm_driver_session_room(s, NULL), 0); /* without need */
  ck_assert_int_eq(blx_vm_driver_session_end(s, NULL, 0, 0, NULL), 0);
  struct heard h = hear(exec);
  ck_assert(h.rc == 0 && h.exit_status == 0 && h.out == 3 && h.errors == 0);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_end(s, NULL, 0, 0, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_room(s, &err));
  blx_vm_exec_close(exec);
  shut();
}
END_TEST

static void *print_much(void *arg) {
  static char piece[PIECE];
  unsigned *busy = arg;
  for (unsigned i = 0; i < PIECES; i++) {
    memset(piece, 'a' + (int)(i % 26), sizeof piece);
    int rc;
    while ((rc = blx_vm_driver_session_output(fake.session, BLX_VM_DRIVER_STREAM_OUT, piece, PIECE, NULL)) ==
           BLX_E_BUSY) {
      ++*busy;
      nap();
    }
    ck_assert_int_eq(rc, 0);
  }
  ck_assert_int_eq(blx_vm_driver_session_end(fake.session, NULL, 7, 0, NULL), 0);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_output(fake.session, BLX_VM_DRIVER_STREAM_OUT, piece, 1, &err));
  return NULL;
}

START_TEST(much_output__comes_whole_and_in_order_as_fast_as_it_is_read) {
  pthread_t writer;
  unsigned busy = 0;
  open_vm();
  blx_vm_exec *exec = begin(words, 3);
  ck_assert_int_eq(pthread_create(&writer, NULL, print_much, &busy), 0);
  for (unsigned i = 0; i < 300; i++) nap(); /* nobody reads: it is told that there is no room */
  struct heard h = hear(exec);
  pthread_join(writer, NULL);
  ck_assert_int_eq(h.rc, 0);
  ck_assert_uint_eq(h.out, 3 + (size_t)PIECES * PIECE);
  ck_assert_uint_eq(h.wrong, 0);
  ck_assert_int_eq(h.exit_status, 7);
  ck_assert_uint_gt(busy, 0);
  blx_vm_exec_close(exec);
  shut();
}
END_TEST

START_TEST(input_that_finds_no_room__comes_again_when_there_is) {
  static char bytes[4096];
  open_vm();
  fake.full = true;
  blx_vm_exec *exec = begin(words, 3);
  memset(bytes, 'i', sizeof bytes);
  size_t sent = 0;
  int rc = 0;
  while (rc >= 0 && sent < 64 << 20) {
    rc = blx_vm_exec_write(exec, bytes, sizeof bytes, 300, NULL);
    sent += rc > 0 ? (size_t)rc : 0;
  }
  ck_assert_int_eq(rc, BLX_E_TIMEOUT); /* bounded all the way */
  ck_assert_uint_ge(fake_count(SESSION_WRITE), 1);
  pthread_mutex_lock(&fake.lock);
  ck_assert_uint_eq(fake.input_len, 0);
  fake.full = false;
  pthread_mutex_unlock(&fake.lock);
  ck_assert_int_eq(blx_vm_driver_session_room(fake.session, NULL), 0);
  do rc = blx_vm_exec_write(exec, NULL, 0, WAIT_MS, NULL);
  while (rc == BLX_E_TIMEOUT);
  ck_assert_int_eq(rc, 0);
  bool ended = false;
  for (unsigned i = 0; i < WAIT_MS && !ended; i++) {
    nap();
    pthread_mutex_lock(&fake.lock);
    ended = fake.input_ended;
    pthread_mutex_unlock(&fake.lock);
  }
  ck_assert(ended && fake.input_len == sent);
  ck_assert_int_eq(blx_vm_driver_session_end(fake.session, NULL, 0, 0, NULL), 0);
  ck_assert_int_eq(hear(exec).rc, 0);
  blx_vm_exec_close(exec);
  shut();
}
END_TEST

START_TEST(a_close__is_told_once_unless_the_end_was) {
  open_vm();
  blx_vm_exec *exec = begin(words, 3);
  blx_vm_exec_close(exec);
  fake_await(SESSION_CLOSE, 1);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_end(fake.session, NULL, 0, 0, &err));
  exec = begin(words, 3);
  close_node();
  ck_assert_uint_eq(fake.counts[SESSION_CLOSE], 2);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_session_output(fake.session, BLX_VM_DRIVER_STREAM_OUT, "x", 1, &err));
  blx_vm_exec_close(exec);
  remove_dir();
}
END_TEST

struct ending {
  blx_vm_driver_session *session;
  unsigned wait_us;
  bool taken;
};

static void *end_it(void *arg) {
  struct ending *e = arg;
  if (e->wait_us > 0) nanosleep(&(struct timespec){.tv_nsec = e->wait_us * 1000L}, NULL);
  e->taken = blx_vm_driver_session_end(e->session, NULL, 0, 0, NULL) == 0;
  return NULL;
}

START_TEST(an_end_and_a_close_at_the_same_time__are_one_of_the_two) {
  unsigned ends = 0;
  open_vm();
  for (unsigned i = 0; i < RACES; i++) {
    pthread_t other;
    blx_vm_exec *exec = begin(words, 3);
    struct ending e = {.session = fake.session, .wait_us = i % 2 ? 10 * i : 0};
    unsigned closes = fake_count(SESSION_CLOSE);
    ck_assert_int_eq(pthread_create(&other, NULL, end_it, &e), 0);
    blx_vm_exec_close(exec);
    pthread_join(other, NULL);
    if (!e.taken) fake_await(SESSION_CLOSE, closes + 1);
    if (!e.taken) ck_assert_ptr_eq(fake.closed, e.session);
    if (e.taken) ck_assert_uint_eq(fake_count(SESSION_CLOSE), closes);
    ends += e.taken;
  }
  printf("%u of %d ended before they were closed\n", ends, RACES);
  shut();
}
END_TEST

START_TEST(more_than_there_may_be__are_refused) {
  blx_vm_exec *execs[65];
  open_vm();
  for (unsigned i = 0; i < 64; i++) execs[i] = begin(words, 3);
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  req.name = "web";
  req.argv = (const char **)(uintptr_t)words;
  req.n_argv = 3;
  ck_assert_int_eq(blx_vm_exec_open(client, &req, &execs[64], NULL), 0);
  ck_assert_int_eq(hear(execs[64]).rc, BLX_E_BUSY);
  blx_vm_exec_close(execs[64]);
  ck_assert_uint_eq(fake_count(SESSION_OPEN), 64);
  close_node();
  ck_assert_uint_eq(fake.counts[SESSION_CLOSE], 64);
  for (unsigned i = 0; i < 64; i++) blx_vm_exec_close(execs[i]);
  remove_dir();
}
END_TEST

/* ---- statistics */

static struct blx_node_stats *measure(void) {
  struct blx_stats_request req = BLX_STATS_REQUEST_INIT;
  struct blx_node_stats *of = NULL, *none = NULL;
  blx_stats *stats = NULL;
  ck_assert_int_eq(blx_stats_open(client, &req, &stats, NULL), 0);
  ck_assert_int_eq(blx_stats_next(stats, WAIT_MS, &of, NULL), 1);
  ck_assert_int_eq(blx_stats_next(stats, WAIT_MS, &none, NULL), 0);
  blx_stats_close(stats);
  return of;
}

START_TEST(statistics__are_what_the_driver_measured) {
  open_vm();
  struct blx_node_stats *of = measure();
  ck_assert(of->heard && of->n_instances == 1 && (of->note == NULL || *of->note == '\0'));
  const struct blx_instance_stats *in = of->instances[0];
  ck_assert_str_eq(in->instance, "web-1");
  ck_assert(in->uid == fake.vms[0].uid && in->at_us > 0 && in->has_cpu_us && in->cpu_us == 1234567);
  ck_assert(!in->has_memory_bytes && in->has_guest_memory_bytes && in->guest_memory_bytes == 5000);
  ck_assert(in->guest_available_bytes == 4000 && in->guest_processes == 6 && in->has_guest_load_milli);
  blx_node_stats_free(of);
  fake_set(STATS, false, BLX_E_IO, "the meter is broken");
  of = measure();
  ck_assert(of->n_instances == 0 && strstr(of->note, "the meter is broken"));
  blx_node_stats_free(of);
  shut();
}
END_TEST

START_TEST(statistics_that_make_no_sense__are_refused) {
  struct blx_instance_stats row = BLX_INSTANCE_STATS_INIT;
  const struct blx_instance_stats *list[] = {&row, NULL};
  open_vm();
  fake_set(STATS, true, 0, "");
  struct blx_node_stats *of = measure(); /* does not wait for it longer than a second */
  ck_assert(!of->heard);
  blx_node_stats_free(of);
  blx_vm_driver_call *call = fake_release(STATS, 1);
  REFUSED(BLX_E_INVALID, blx_vm_driver_measured(call, list, 1, &err));
  row.instance = "a-name-that-has-more-than-the-sixty-three-bytes-that-a-name-may-have";
  REFUSED(BLX_E_INVALID, blx_vm_driver_measured(call, list, 1, &err));
  row.instance = "web-1";
  row.has_guest_memory_bytes = 1;
  REFUSED(BLX_E_INVALID, blx_vm_driver_measured(call, list, 1, &err));
  row.has_guest_available_bytes = row.has_guest_uptime_ms = row.has_guest_load_milli = row.has_guest_processes = 1;
  row.guest_available_bytes = 1;
  REFUSED(BLX_E_INVALID, blx_vm_driver_measured(call, list, 1, &err));
  row.guest_memory_bytes = 1;
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, list, 2, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, NULL, 1, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_measured(call, list, BLX_VM_DRIVER_STATS_MAX + 1, &err));
  row.struct_size = 0;
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, list, 1, &err));
  row.struct_size = sizeof row;
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(NULL, list, 1, &err));
  ck_assert_int_eq(blx_vm_driver_measured(call, list, 1, NULL), 0); /* nobody waits for it any more */
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, list, 1, &err));
  fake_set(PAUSE, true, 0, "");
  verb(blx_vm_pause);
  call = fake_release(PAUSE, 1);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, list, 1, &err));
  ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  fake_set(STATS, true, 0, "");
  of = measure();
  blx_node_stats_free(of);
  call = fake_release(STATS, 2);
  shut();
  REFUSED(BLX_E_MISUSE, blx_vm_driver_measured(call, list, 1, &err));
}
END_TEST

BLX_TEST_MAIN("vm_driver_session", a_command__has_its_words_streams_and_status,
              what_makes_no_sense__is_refused_and_changes_nothing,
              much_output__comes_whole_and_in_order_as_fast_as_it_is_read,
              input_that_finds_no_room__comes_again_when_there_is, a_close__is_told_once_unless_the_end_was,
              an_end_and_a_close_at_the_same_time__are_one_of_the_two, more_than_there_may_be__are_refused,
              statistics__are_what_the_driver_measured, statistics_that_make_no_sense__are_refused)
