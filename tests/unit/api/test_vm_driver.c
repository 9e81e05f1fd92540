/* A node with a driver of the embedder's, through the public headers. */
#include "support_driver.h"

#include <time.h>

enum { RACES = 20 };

static void leave(void) {
  pthread_mutex_unlock(&fake.lock);
}

/* Until the instance has that reason; its text then, and its number of restarts. */
static unsigned wait_reason(int32_t code, const char *text) {
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  req.name = "web";
  for (int turns = 0; turns < WAIT_MS / 10; turns++) {
    struct blx_vm *vm = NULL;
    ck_assert_int_eq(blx_vm_get(client, &req, &vm, NULL), 0);
    const struct blx_reason *reason = vm->n_instances ? vm->instances[0]->reason : NULL;
    bool same = (reason ? reason->code : BLX_REASON_CODE_NONE) == code &&
                (!text || (reason && reason->text && strstr(reason->text, text)));
    unsigned restarts = vm->n_instances ? vm->instances[0]->restarts : 0;
    blx_vm_free(vm);
    if (same) return restarts;
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  ck_abort_msg("reason %d with \"%s\" does not come", code, text ? text : "");
}

START_TEST(a_vm__lives_and_dies_by_the_embedders_table) {
  make_dir();
  open_node();
  ck_assert_uint_eq(fake_count(OPEN), 1);
  create(256);
  wait_for(BLX_PHASE_RUNNING);
  ck_assert_uint_eq(fake_count(START), 1);
  ck_assert_uint_eq(fake.last_memory, 256);
  ck_assert_str_eq(fake.last_config, "{ anything = \"at all\"; }");
  uint64_t first = fake.vms[0].epoch;

  pthread_mutex_lock(&fake.lock);
  fake_end(&fake.vms[0], 3, "it fell over");
  leave();
  fake_await(START, 2);
  wait_for(BLX_PHASE_RUNNING);
  ck_assert_uint_eq(wait_reason(BLX_REASON_CODE_NONE, NULL), 1);
  ck_assert_uint_gt(fake.vms[0].epoch, first);

  verb(blx_vm_pause);
  wait_reason(BLX_REASON_CODE_PAUSED, NULL);
  ck_assert(fake.vms[0].paused);
  verb(blx_vm_resume);
  wait_reason(BLX_REASON_CODE_NONE, NULL);
  verb(blx_vm_stop);
  wait_for(BLX_PHASE_STOPPED);
  ck_assert(fake_count(STOP) == 1 && !fake.vms[0].runs);
  verb(blx_vm_start);
  wait_for(BLX_PHASE_RUNNING);
  verb(blx_vm_delete);
  wait_for(-1);
  ck_assert_uint_eq(fake_count(DESTROY), 1);
  ck_assert_uint_eq(fake.vms[0].uid, 0);
  close_node();
  ck_assert_uint_eq(fake.counts[CLOSE], 1);
  remove_dir();
}
END_TEST

START_TEST(a_monitor_that_talks_nonsense__is_killed_and_named) {
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  pthread_mutex_lock(&fake.lock);
  fake_tell(&fake.vms[0], BLX_VM_DRIVER_EVENT_PROTOCOL, -1, 0, "it answered \xff\xfe");
  leave();
  fake_await(KILL, 1);
  fake_await(START, 2);
  wait_for(BLX_PHASE_RUNNING);
  close_node();
  remove_dir();
}
END_TEST

START_TEST(an_answer__counts_once) {
  blx_error bad = {.code = 7, .message = "no such code"};
  struct blx_vm_driver_status status = BLX_VM_DRIVER_STATUS_INIT;
  make_dir();
  fake_set(PREPARE, true, 0, "");
  open_node();
  create(128);
  blx_vm_driver_call *call = fake_release(PREPARE, 1);
  status.state = 9;
  REFUSED(BLX_E_INVALID, blx_vm_driver_found(call, &status, &err));
  status.state = BLX_VM_DRIVER_ABSENT;
  status.signal = 65;
  REFUSED(BLX_E_INVALID, blx_vm_driver_found(call, &status, &err));
  status.signal = 0;
  status.paused = 2;
  REFUSED(BLX_E_INVALID, blx_vm_driver_found(call, &status, &err));
  status.paused = 0;
  REFUSED(BLX_E_MISUSE, blx_vm_driver_found(call, &status, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_found(call, NULL, &err));
  status.struct_size = 0;
  REFUSED(BLX_E_MISUSE, blx_vm_driver_found(call, &status, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done((void *)&bad, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done((void *)fake.driver, NULL, &err));
  ck_assert_int_eq(blx_vm_driver_done(call, NULL, NULL), 0);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  wait_for(BLX_PHASE_RUNNING);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  ck_assert_int_eq(blx_vm_driver_done(call, &bad, NULL), BLX_E_MISUSE);
  close_node();
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  remove_dir();
}
END_TEST

static void *race(void *arg) {
  intptr_t taken = blx_vm_driver_done(arg, NULL, NULL) == 0 ? 1 : 0;
  return (void *)taken;
}

START_TEST(two_threads_that_answer_the_same__are_told_apart) {
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  for (unsigned i = 0; i < RACES; i++) {
    pthread_t other;
    unsigned asked = fake_count(PAUSE);
    fake_set(PAUSE, true, 0, "");
    verb(i % 2 ? blx_vm_resume : blx_vm_pause);
    blx_vm_driver_call *call = fake_release(PAUSE, asked + 1);
    ck_assert_int_eq(pthread_create(&other, NULL, race, call), 0);
    void *theirs, *mine = race(call);
    pthread_join(other, &theirs);
    ck_assert_int_eq((intptr_t)mine + (intptr_t)theirs, 1);
    wait_reason(i % 2 ? BLX_REASON_CODE_NONE : BLX_REASON_CODE_PAUSED, NULL);
  }
  close_node();
  remove_dir();
}
END_TEST

START_TEST(what_the_driver_refuses__is_the_vms_reason) {
  make_dir();
  fake_set(PREPARE, false, BLX_E_NOSPACE, "the shed is full \xc3\x28");
  open_node();
  create(128);
  wait_reason(BLX_REASON_CODE_BUILD_FAILED, "the shed is full ?(");
  fake_set(PREPARE, false, 0, "");
  fake_set(START, false, BLX_E_IO, "");
  wait_reason(BLX_REASON_CODE_START_FAILED, "the operating system refused");
  fake_set(START, false, BLX_E_BUSY, "not just now");
  unsigned starts = fake_count(START);
  fake_await(START, starts + 2); /* the same again, in the same epoch */
  fake_set(START, false, 0, "");
  wait_for(BLX_PHASE_RUNNING);
  fake_set(PAUSE, false, BLX_E_TIMEOUT, "it fidgets");
  verb(blx_vm_pause);
  wait_reason(BLX_REASON_CODE_PAUSE_FAILED, "it fidgets");
  fake_set(PAUSE, false, -999, "nonsense");
  verb(blx_vm_resume);
  verb(blx_vm_pause);
  wait_reason(BLX_REASON_CODE_PAUSE_FAILED, "-999");
  fake_set(DESTROY, false, BLX_E_IO, "it sticks");
  fake_set(KILL, false, 0, "");
  verb(blx_vm_delete);
  fake_await(DESTROY, 1);
  fake_set(DESTROY, false, 0, "");
  wait_for(-1);
  create(333);
  wait_reason(BLX_REASON_CODE_BUILD_FAILED, "333 MiB are an unlucky number");
  close_node();
  remove_dir();
}
END_TEST

START_TEST(a_close__ends_what_the_driver_holds) {
  struct blx_vm_driver_key key = BLX_VM_DRIVER_KEY_INIT;
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  fake_set(STOP, true, 0, "");
  verb(blx_vm_stop);
  fake_await(STOP, 1);
  blx_vm_driver *closed = fake.driver;
  close_node();
  blx_vm_driver_call *call = fake_release(STOP, 1);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  key.instance = "web-1";
  REFUSED(BLX_E_MISUSE, blx_vm_driver_event(closed, &key, BLX_VM_DRIVER_EVENT_READY, NULL, &err));
  ck_assert_uint_eq(fake.counts[CLOSE], 1);
  ck_assert(fake.vms[0].runs);

  fake_set(ADOPT, true, 0, "");
  open_node(); /* adopts what was running */
  fake_await(ADOPT, 1);
  close_node();
  call = fake_release(ADOPT, 1);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_done(call, NULL, &err));
  open_node();
  wait_for(BLX_PHASE_STOPPED);
  ck_assert(!fake.vms[0].runs);
  ck_assert_uint_eq(fake.counts[OPEN], 3);
  close_node();
  remove_dir();
}
END_TEST

START_TEST(what_runs__is_adopted_by_the_next_node) {
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  close_node();
  open_node();
  fake_await(ADOPT, 1);
  wait_for(BLX_PHASE_RUNNING);
  verb(blx_vm_delete);
  wait_for(-1);
  ck_assert_uint_eq(fake_count(START), 1);
  close_node();
  remove_dir();
}
END_TEST

static void *flood(void *arg) {
  struct blx_vm_driver_key key = BLX_VM_DRIVER_KEY_INIT;
  unsigned *taken = arg;
  key.instance = "nobody-1";
  int rc = 0;
  while (rc == 0 || rc == BLX_E_BUSY) {
    rc = blx_vm_driver_event(fake.driver, &key, BLX_VM_DRIVER_EVENT_EXITED, NULL, NULL);
    *taken += rc == 0 ? 1 : 0;
  }
  ck_assert_int_eq(rc, BLX_E_MISUSE);
  return NULL;
}

START_TEST(events_from_any_thread__are_bounded_and_end_with_the_node) {
  pthread_t threads[2];
  unsigned taken[2] = {0};
  struct blx_vm_driver_key key = BLX_VM_DRIVER_KEY_INIT;
  make_dir();
  open_node();
  REFUSED(BLX_E_MISUSE, blx_vm_driver_event(fake.driver, NULL, BLX_VM_DRIVER_EVENT_READY, NULL, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_event(fake.driver, &key, BLX_VM_DRIVER_EVENT_READY, NULL, &err));
  key.instance = "a-name-that-has-more-than-the-sixty-three-bytes-that-a-name-may-have";
  REFUSED(BLX_E_INVALID, blx_vm_driver_event(fake.driver, &key, BLX_VM_DRIVER_EVENT_READY, NULL, &err));
  key.instance = "web-1";
  REFUSED(BLX_E_INVALID, blx_vm_driver_event(fake.driver, &key, 0, NULL, &err));
  REFUSED(BLX_E_INVALID, blx_vm_driver_event(fake.driver, &key, 4, NULL, &err));
  create(128);
  wait_for(BLX_PHASE_RUNNING); /* before the flood: an event that finds no room is the driver's to tell again */
  for (size_t i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, flood, &taken[i]), 0);
  for (unsigned i = 0; i < 20; i++) wait_for(BLX_PHASE_RUNNING);
  close_node();
  for (size_t i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  ck_assert_uint_gt(taken[0] + taken[1], 0);
  remove_dir();
}
END_TEST

/* ---- consoles */

static blx_vm_logs *read_logs(uint32_t tail, uint32_t follow) {
  struct blx_vm_logs_request req = BLX_VM_LOGS_REQUEST_INIT;
  blx_vm_logs *logs = NULL;
  req.name = "web";
  req.has_tail_lines = tail > 0;
  req.tail_lines = tail;
  req.follow = follow;
  ck_assert_int_eq(blx_vm_logs_open(client, &req, &logs, NULL), 0);
  return logs;
}

/* Bytes, or the last note, up to @most bytes or the end. */
static size_t drain(blx_vm_logs *logs, size_t most, char *note, size_t note_size) {
  size_t got = 0;
  while (got < most) {
    struct blx_log_chunk *chunk = NULL;
    int rc = blx_vm_logs_next(logs, WAIT_MS, &chunk, NULL);
    ck_assert_int_ge(rc, 0);
    if (rc == 0) break;
    got += chunk->data.len;
    if (chunk->note) (void)blx__str_copy(note, note_size, chunk->note);
    blx_log_chunk_free(chunk);
  }
  return got;
}

/* All of it, however slow the reader is. */
static void add(const char *bytes, size_t len) {
  int rc;
  while ((rc = blx_vm_driver_logs_add(fake.logs, bytes, len, NULL)) == BLX_E_BUSY)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  ck_assert_int_eq(rc, 0);
}

static void *add_much(void *arg) {
  static char piece[32 << 10];
  memset(piece, 'x', sizeof piece);
  for (int i = 0; i < *(int *)arg; i++) add(piece, sizeof piece);
  ck_assert_int_eq(blx_vm_driver_logs_end(fake.logs, NULL, NULL), 0);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_logs_add(fake.logs, piece, 1, &err));
  return NULL;
}

START_TEST(a_console__comes_from_the_driver_as_fast_as_it_is_read) {
  char note[600] = "";
  pthread_t writer;
  int pieces = 400;
  blx_error why = {.code = BLX_E_IO, .message = "the tape tore"};
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  blx_vm_logs *logs = read_logs(7, 0);
  ck_assert_uint_eq(drain(logs, 100, note, sizeof note), 4);
  ck_assert_str_eq(note, "");
  blx_vm_logs_close(logs);
  ck_assert(fake.last_tail == 7 && fake.last_follow == 0);

  logs = read_logs(0, 1);
  fake_await(LOGS, 2);
  ck_assert_uint_eq(fake.last_tail, BLX_VM_DRIVER_LOG_LINES_ALL);
  REFUSED(BLX_E_INVALID, blx_vm_driver_logs_add(fake.logs, note, BLX_VM_DRIVER_LOG_BYTES_MAX + 1, &err));
  ck_assert_int_eq(pthread_create(&writer, NULL, add_much, &pieces), 0);
  ck_assert_uint_eq(drain(logs, SIZE_MAX, note, sizeof note), 4 + 400 * (32 << 10));
  pthread_join(writer, NULL);
  blx_vm_logs_close(logs);
  ck_assert_uint_eq(fake_count(LOGS_CLOSE), 0);

  logs = read_logs(0, 1);
  fake_await(LOGS, 3);
  ck_assert_int_eq(blx_vm_driver_logs_end(fake.logs, &why, NULL), 0);
  ck_assert_uint_eq(drain(logs, 100, note, sizeof note), 4);
  ck_assert_str_eq(note, "the tape tore");
  blx_vm_logs_close(logs);

  logs = read_logs(0, 1);
  fake_await(LOGS, 4);
  ck_assert_uint_eq(drain(logs, 4, note, sizeof note), 4);
  blx_vm_logs_close(logs);
  fake_await(LOGS_CLOSE, 1);
  REFUSED(BLX_E_MISUSE, blx_vm_driver_logs_add(fake.logs, "x", 1, &err));

  fake_set(LOGS, false, BLX_E_NOT_FOUND, "it never spoke");
  logs = read_logs(0, 1);
  ck_assert_uint_eq(drain(logs, 100, note, sizeof note), 0);
  ck_assert_str_eq(note, "it never spoke");
  blx_vm_logs_close(logs);
  fake_set(LOGS, false, 0, "");
  logs = read_logs(0, 1);
  fake_await(LOGS, 6);
  close_node();
  ck_assert_uint_eq(fake_count(LOGS_CLOSE), 2);
  blx_vm_logs_close(logs);
  remove_dir();
}
END_TEST

static uint64_t wall_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* All that comes, as one text; *@at_ms: when the last piece came. */
static void read_text(blx_vm_logs *logs, char *text, size_t size, uint64_t *at_ms) {
  struct blx_log_chunk *chunk = NULL;
  size_t used = 0;
  while (blx_vm_logs_next(logs, WAIT_MS, &chunk, NULL) == 1) {
    ck_assert_uint_lt(used + chunk->data.len, size);
    memcpy(text + used, chunk->data.data, chunk->data.len);
    used += chunk->data.len;
    *at_ms = chunk->at_ms;
    blx_log_chunk_free(chunk);
  }
  text[used] = '\0';
}

START_TEST(lines__have_the_time_when_they_were_added__and_older_ones_are_left_out_whole) {
  make_dir();
  open_node();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  struct blx_vm_logs_request req = BLX_VM_LOGS_REQUEST_INIT;
  blx_vm_logs *logs = NULL;
  char text[64];
  uint64_t at_ms = 0, since = wall_ms() + 1000;
  req.name = "web";
  req.follow = 1;
  req.since_ms = since;
  ck_assert_int_eq(blx_vm_logs_open(client, &req, &logs, NULL), 0);
  fake_await(LOGS, 1);
  add("old\nbegan", 9);
  ck_assert_uint_lt(wall_ms(), since); /* else this machine is too slow for what follows */
  while (wall_ms() < since + 100) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  add(" before", 7);
  add("\n", 1);
  add("new\n", 4);
  ck_assert_int_eq(blx_vm_driver_logs_end(fake.logs, NULL, NULL), 0);
  read_text(logs, text, sizeof text, &at_ms);
  ck_assert_str_eq(text, "new\n");
  ck_assert(at_ms >= since && at_ms <= wall_ms());
  blx_vm_logs_close(logs);
  close_node();
  remove_dir();
}
END_TEST

/* The first tables ended where sessions begin. */
static void open_with_first_table(void) {
  struct blx_vm_driver_ops ops = fake_table();
  blx_error err = {0};
  ops.struct_size = offsetof(struct blx_vm_driver_ops, session_open);
  ck_assert_msg(open_with(&ops, 0, &err) == 0, "%s", err.message);
  client = api_client_of(node);
}

START_TEST(statistics__of_a_driver_that_does_not_measure__say_so) {
  struct blx_stats_request req = BLX_STATS_REQUEST_INIT;
  struct blx_node_stats *stats_of = NULL;
  blx_stats *stats = NULL;
  make_dir();
  open_with_first_table();
  create(128);
  wait_for(BLX_PHASE_RUNNING);
  ck_assert_int_eq(blx_stats_open(client, &req, &stats, NULL), 0);
  ck_assert_int_eq(blx_stats_next(stats, WAIT_MS, &stats_of, NULL), 1);
  ck_assert_str_eq(stats_of->node, "a");
  ck_assert_str_eq(stats_of->driver, "the embedder's");
  ck_assert(stats_of->heard && stats_of->n_instances == 0 && stats_of->capacity->vcpus == 64);
  ck_assert_str_eq(stats_of->note, "the driver of node a does not measure");
  blx_node_stats_free(stats_of);
  ck_assert_int_eq(blx_stats_next(stats, WAIT_MS, &stats_of, NULL), 0);
  blx_stats_close(stats);
  req.node = "b";
  ck_assert_int_eq(blx_stats_open(client, &req, &stats, NULL), 0);
  REFUSED(BLX_E_NOT_FOUND, blx_stats_next(stats, WAIT_MS, &stats_of, &err));
  blx_stats_close(stats);
  REFUSED(BLX_E_MISUSE, blx_stats_next(stats, 0, &stats_of, &err));
  close_node();
  remove_dir();
}
END_TEST

/* ---- options */

START_TEST(a_command__is_not_supported_by_a_table_without_sessions) {
  const char *argv[] = {"echo"};
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  struct blx_vm_exec_output *output = NULL;
  blx_vm_exec *exec = NULL;
  make_dir();
  open_with_first_table();
  create(256);
  wait_for(BLX_PHASE_RUNNING);
  req.name = "web";
  req.argv = argv;
  req.n_argv = 1;
  ck_assert_int_eq(blx_vm_exec_open(client, &req, &exec, NULL), 0);
  REFUSED(BLX_E_UNSUPPORTED, blx_vm_exec_next(exec, WAIT_MS, &output, &err));
  blx_vm_exec_close(exec);
  close_node();
  remove_dir();
}
END_TEST

START_TEST(a_table__is_whole_and_not_of_a_simulation) {
  struct {
    struct blx_vm_driver_ops ops;
    void *tail;
  } newer = {.ops = fake_table()};
  struct blx_vm_driver_ops ops = fake_table();
  make_dir();
  REFUSED(BLX_E_INVALID, open_with(&ops, 1, &err));
  ops.start = NULL;
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  ops = fake_table();
  ops.logs_close = NULL;
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  ops = fake_table();
  ops.session_write = NULL;
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  ops = fake_table();
  ops.session_open = NULL;
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  ops = fake_table();
  ops.struct_size = 0;
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  ops.struct_size = offsetof(struct blx_vm_driver_ops, adopt); /* a table of before there was adopt */
  REFUSED(BLX_E_MISUSE, open_with(&ops, 0, &err));
  newer.ops.struct_size = sizeof newer;
  newer.tail = &newer;
  REFUSED(BLX_E_UNSUPPORTED, open_with(&newer.ops, 0, &err));
  fake_set(OPEN, false, BLX_E_DENIED, "the shed is locked");
  ops = fake_table();
  REFUSED(BLX_E_DENIED, open_with(&ops, 0, &err));
  ck_assert(fake.counts[OPEN] == 1 && fake.counts[CLOSE] == 0);
  remove_dir();

  make_dir();
  newer.tail = NULL;
  newer.ops.struct_size = offsetof(struct blx_vm_driver_ops, logs); /* an older program's: no logs, no close */
  newer.ops.pause = NULL;
  newer.ops.supported = NULL;
  blx_error err = {0};
  ck_assert_msg(open_with(&newer.ops, 0, &err) == 0, "%s", err.message);
  client = api_client_of(node);
  create(333);
  wait_for(BLX_PHASE_RUNNING);
  char note[600] = "";
  blx_vm_logs *logs = read_logs(0, 0);
  ck_assert_uint_eq(drain(logs, 100, note, sizeof note), 0);
  ck_assert_ptr_nonnull(strstr(note, "keeps no consoles"));
  blx_vm_logs_close(logs);
  verb(blx_vm_pause);
  wait_reason(BLX_REASON_CODE_PAUSE_FAILED, "cannot pause web-1");
  close_node();
  ck_assert_uint_eq(fake.counts[CLOSE], 0);
  remove_dir();
}
END_TEST

BLX_TEST_MAIN("vm_driver", a_vm__lives_and_dies_by_the_embedders_table,
              a_monitor_that_talks_nonsense__is_killed_and_named, an_answer__counts_once,
              two_threads_that_answer_the_same__are_told_apart, what_the_driver_refuses__is_the_vms_reason,
              a_close__ends_what_the_driver_holds, what_runs__is_adopted_by_the_next_node,
              events_from_any_thread__are_bounded_and_end_with_the_node,
              a_console__comes_from_the_driver_as_fast_as_it_is_read,
              a_command__is_not_supported_by_a_table_without_sessions,
              lines__have_the_time_when_they_were_added__and_older_ones_are_left_out_whole,
              statistics__of_a_driver_that_does_not_measure__say_so, a_table__is_whole_and_not_of_a_simulation)
