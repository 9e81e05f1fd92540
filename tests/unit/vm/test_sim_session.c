/* Sessions in simulated guests: what a driver's must do, and what the simulated commands say. */
#include "../harness.h"
#include "support.h"

#include <string.h>

/* One session and what came of it. */
struct session {
  struct bench bench;
  struct blx__vm_desc desc;
  struct blx__vm_session *open;
  struct reading out, err;
  struct waited ended; /* failed, err: how */
  int32_t exit_status, signal;
  unsigned rooms;
};

static bool on_output(void *user, enum blx__vm_session_stream stream, const uint8_t *bytes, size_t n) {
  struct session *s = user;
  return bench_log_bytes(stream == BLX__VM_SESSION_ERR ? &s->err : &s->out, 0, bytes, n);
}

static void on_room(void *user) {
  ((struct session *)user)->rooms++;
}

static void on_end(void *user, const blx_error *err, int32_t exit_status, int32_t signal) {
  struct session *s = user;
  s->open = NULL;
  s->exit_status = exit_status;
  s->signal = signal;
  bench_done(&s->ended, err);
}

static const struct blx__vm_session_events events = {on_output, on_room, on_end};

static void start(struct session *s) {
  *s = (struct session){.desc = {.key = {.instance = "web-1", .uid = 1, .epoch = 5}, .vcpus = 1, .memory_mib = 128}};
  const struct blx__vm_sim_options o = {.on_event = bench_event, .user = &s->bench};
  bench_open(&s->bench);
  ck_assert_int_eq(blx__vm_sim_open(s->bench.loop, &o, &s->bench.driver, NULL).code, 0);
  ck_assert(!bench_prepare(&s->bench, &s->desc).failed);
  ck_assert(!bench_start(&s->bench, &s->desc).failed);
  s->out.bench = s->err.bench = s->ended.bench = &s->bench;
  blx__buf_init(&s->out.text, 1 << 20);
  blx__buf_init(&s->err.text, 1 << 20);
}

static void finish(struct session *s) {
  blx__buf_free(&s->out.text);
  blx__buf_free(&s->err.text);
  bench_close(&s->bench);
}

static int open_words(struct session *s, const char *const *argv, size_t argc, blx_error *err) {
  const struct blx__vm_session_spec spec = {.argv = argv, .argc = argc, .rows = 10, .columns = 20};
  return s->bench.driver->ops->session_open(s->bench.driver, &s->desc.key, &spec, &events, s, &s->open, err).code;
}

static bool give(struct session *s, const char *text) {
  return s->bench.driver->ops->session_write(s->bench.driver, s->open, (const uint8_t *)text, strlen(text));
}

/* Run one to its end. */
#define RUN(s, ...)                                                                 \
  do {                                                                              \
    const char *const argv[] = {__VA_ARGS__};                                       \
    blx__buf_clear(&(s)->out.text);                                                 \
    blx__buf_clear(&(s)->err.text);                                                 \
    (s)->ended.times = 0;                                                           \
    (s)->ended.failed = false;                                                      \
    ck_assert_int_eq(open_words((s), argv, sizeof argv / sizeof argv[0], NULL), 0); \
    ck_assert_uint_eq((s)->ended.times, 0);                                         \
    bench_wait_done(&(s)->bench, &(s)->ended);                                      \
  } while (0)

START_TEST(a_command__says_its_words_and_how_it_ended) {
  struct session s;
  start(&s);
  RUN(&s, "echo", "hello", "there");
  ck_assert_str_eq(blx__buf_cstr(&s.out.text), "hello there\n");
  ck_assert(!s.ended.failed && s.exit_status == 0 && s.signal == 0);
  RUN(&s, "warn", "careful");
  ck_assert_uint_eq(s.out.text.len, 0);
  ck_assert_str_eq(blx__buf_cstr(&s.err.text), "careful\n");
  RUN(&s, "exit", "7");
  ck_assert_int_eq(s.exit_status, 7);
  RUN(&s, "exit", "256");
  ck_assert_int_eq(s.exit_status, 2);
  RUN(&s, "fail-with-signal", "9");
  ck_assert(s.exit_status == -1 && s.signal == 9);
  RUN(&s, "no-such-program");
  ck_assert(s.ended.failed && s.ended.err.code == BLX_E_NOT_FOUND);
  finish(&s);
}
END_TEST

START_TEST(a_reader_that_does_not_take__is_offered_the_same_again_and_stops_the_writer) {
  struct session s;
  start(&s);
  s.out.refuse = 3;
  const char *const cat[] = {"cat"};
  ck_assert_int_eq(open_words(&s, cat, 1, NULL), 0);
  ck_assert(give(&s, "first\n"));
  ck_assert(!give(&s, "second\n"));
  bench_wait_text(&s.bench, &s.out, "first\n");
  ck_assert_uint_eq(s.rooms, 1);
  ck_assert(give(&s, "second\n"));
  bench_wait_text(&s.bench, &s.out, "first\nsecond\n");
  ck_assert_uint_eq(s.ended.times, 0);
  ck_assert(give(&s, ""));
  bench_wait_done(&s.bench, &s.ended);
  ck_assert(!s.ended.failed && s.exit_status == 0);
  finish(&s);
}
END_TEST

START_TEST(a_terminal__has_the_size_it_is_given) {
  struct session s;
  start(&s);
  const char *const size[] = {"size"};
  ck_assert_int_eq(open_words(&s, size, 1, NULL), 0);
  bench_wait_text(&s.bench, &s.out, "10 20\n");
  s.bench.driver->ops->session_resize(s.bench.driver, s.open, 30, 90);
  bench_wait_text(&s.bench, &s.out, "10 20\n30 90\n");
  ck_assert(give(&s, ""));
  bench_wait_done(&s.bench, &s.ended);
  finish(&s);
}
END_TEST

START_TEST(an_instance_that_ends__cuts_its_commands_and_closes_its_console) {
  struct session s;
  start(&s);
  ck_assert_int_eq(open_words(&s, NULL, 0, NULL), 0);
  ck_assert(give(&s, "who are you\n"));
  bench_wait_text(&s.bench, &s.out, "who are you\n");
  ck_assert(blx__vm_sim_end(s.bench.driver, &s.desc.key, 0, 0));
  ck_assert(s.ended.times == 1 && !s.ended.failed);
  ck_assert(!bench_start(&s.bench, &s.desc).failed);
  const char *const yes[] = {"yes"};
  s.ended.times = 0;
  ck_assert_int_eq(open_words(&s, yes, 1, NULL), 0);
  ck_assert(blx__vm_sim_end(s.bench.driver, &s.desc.key, 0, 0));
  ck_assert(s.ended.times == 1 && s.ended.failed && s.ended.err.code == BLX_E_UNAVAILABLE);
  finish(&s);
}
END_TEST

START_TEST(what_cannot_be__is_refused_at_once_and_a_close_is_silent) {
  struct session s;
  struct blx__vm_session *many[BLX__VM_SESSIONS_MAX];
  const char *words[BLX__VM_SESSION_ARGS_MAX + 1];
  static char long_word[BLX__VM_SESSION_ARGS_BYTES + 1];
  const char *const cat[] = {"cat"};
  blx_error err;
  start(&s);
  for (size_t i = 0; i < BLX__COUNT(words); i++) words[i] = "echo";
  ck_assert_int_eq(open_words(&s, words, BLX__COUNT(words), &err), BLX_E_INVALID);
  memset(long_word, 'x', sizeof long_word - 1);
  words[1] = long_word;
  ck_assert_int_eq(open_words(&s, words, 2, &err), BLX_E_INVALID);
  for (size_t i = 0; i < BLX__COUNT(many); i++) {
    ck_assert_int_eq(open_words(&s, cat, 1, &err), 0);
    many[i] = s.open;
  }
  ck_assert_int_eq(open_words(&s, cat, 1, &err), BLX_E_BUSY);
  for (size_t i = 0; i < BLX__COUNT(many); i++) s.bench.driver->ops->session_close(s.bench.driver, many[i]);
  ck_assert(!bench_stop(&s.bench, &s.desc.key, 1000).failed);
  ck_assert_int_eq(open_words(&s, cat, 1, &err), BLX_E_CONFLICT);
  s.desc.key.uid = 2;
  ck_assert_int_eq(open_words(&s, cat, 1, &err), BLX_E_NOT_FOUND);
  ck_assert_uint_eq(s.ended.times, 0);
  finish(&s);
}
END_TEST

START_TEST(a_driver_that_closes__ends_its_sessions_and_says_so) {
  struct session s;
  const char *const yes[] = {"yes"};
  start(&s);
  ck_assert_int_eq(open_words(&s, yes, 1, NULL), 0);
  finish(&s);
  ck_assert(s.ended.times == 1 && s.ended.failed && s.ended.err.code == BLX_E_UNAVAILABLE);
}
END_TEST

BLX_TEST_MAIN("vm/sim_session", a_command__says_its_words_and_how_it_ended,
              a_reader_that_does_not_take__is_offered_the_same_again_and_stops_the_writer,
              a_terminal__has_the_size_it_is_given, an_instance_that_ends__cuts_its_commands_and_closes_its_console,
              what_cannot_be__is_refused_at_once_and_a_close_is_silent,
              a_driver_that_closes__ends_its_sessions_and_says_so)
