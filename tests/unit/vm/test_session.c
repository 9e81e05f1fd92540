/* Commands and the console in a guest that is really booted, through shim and driver. */
#include "support_boot.h"

#include "base/digest.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One session: what it gives, and what is still to be given to it. */
struct talk {
  struct bench *bench;
  struct blx__vm_session *session;
  struct blx__buf out, err;
  unsigned refuse;      /* output is not taken so many times; UINT32_MAX: never */
  const uint8_t *input; /* to be written as there is room */
  size_t input_len;
  bool input_end; /* then its end */
  bool ended, failed;
  blx_error why;
  int32_t status, signal;
};

static bool on_output(void *user, enum blx__vm_session_stream stream, const uint8_t *bytes, size_t n) {
  struct talk *t = user;
  if (t->refuse > 0) {
    if (t->refuse != UINT32_MAX) t->refuse--;
    return false;
  }
  blx__loop_stop(t->bench->loop);
  ck_assert(blx__buf_add(stream == BLX__VM_SESSION_OUT ? &t->out : &t->err, bytes, n));
  return true;
}

static void push(struct talk *t) {
  const struct blx__vm_ops *ops = t->bench->driver->ops;
  while (t->input_len > 0) {
    size_t n = t->input_len < BLX__VM_SESSION_WRITE_MAX ? t->input_len : BLX__VM_SESSION_WRITE_MAX;
    if (!ops->session_write(t->bench->driver, t->session, t->input, n)) return;
    t->input += n;
    t->input_len -= n;
  }
  if (t->input_end && ops->session_write(t->bench->driver, t->session, NULL, 0)) t->input_end = false;
}

static void on_room(void *user) {
  push(user);
}

static void on_end(void *user, const blx_error *err, int32_t exit_status, int32_t signal) {
  struct talk *t = user;
  ck_assert(!t->ended);
  t->ended = true;
  t->failed = err != NULL;
  if (err) t->why = *err;
  t->status = exit_status;
  t->signal = signal;
  blx__loop_stop(t->bench->loop);
}

static const struct blx__vm_session_events events = {.on_output = on_output, .on_room = on_room, .on_end = on_end};
static const struct blx__vm_key key = {.instance = "hello-1", .uid = 1, .epoch = 41};

static void init(struct bench *b, struct talk *t) {
  *t = (struct talk){.bench = b};
  blx__buf_init(&t->out, 4 << 20);
  blx__buf_init(&t->err, 4 << 20);
}

static void open_spec(struct talk *t, const struct blx__vm_session_spec *spec) {
  blx_error err;
  struct blx__vm_driver *d = t->bench->driver;
  ck_assert_msg(d->ops->session_open(d, &key, spec, &events, t, &t->session, &err).code == 0, "%s", err.message);
  push(t);
}

static void open_sh(struct talk *t, const char *script, bool tty) {
  const char *argv[] = {"sh", "-c", script};
  open_spec(t, &(struct blx__vm_session_spec){.argv = argv, .argc = 3, .tty = tty, .rows = 33, .columns = 111});
}

static void wait_end(struct talk *t) {
  while (!t->ended) bench_turn(t->bench);
}

static void wait_out(struct talk *t, const char *text) {
  for (;;) {
    const char *have = blx__buf_cstr(&t->out);
    if (have && strstr(have, text)) return;
    ck_assert_msg(!t->ended, "ended before \"%s\": %s", text, have);
    bench_turn(t->bench);
  }
}

static void finish(struct talk *t) {
  blx__buf_free(&t->out);
  blx__buf_free(&t->err);
}

/* Run to its end; it must be as said. */
static void expect(struct bench *b, const char *script, const char *out, const char *err, int32_t status,
                   int32_t signal) {
  struct talk t;
  init(b, &t);
  open_sh(&t, script, false);
  wait_end(&t);
  ck_assert_msg(!t.failed, "%s: %s", script, t.why.message);
  ck_assert_str_eq(blx__buf_cstr(&t.out), out);
  ck_assert_str_eq(blx__buf_cstr(&t.err), err);
  ck_assert_int_eq(t.status, status);
  ck_assert_int_eq(t.signal, signal);
  finish(&t);
}

static void close_session(struct talk *t) {
  t->bench->driver->ops->session_close(t->bench->driver, t->session);
}

static void streams_and_ends(struct bench *b) {
  expect(b, "echo hi", "hi\n", "", 0, 0);
  expect(b, "exit 7", "", "", 7, 0);
  expect(b, "echo out; echo err >&2", "out\n", "err\n", 0, 0);
  expect(b, "kill -9 $$", "", "", -1, SIGKILL);
  /* What it leaves behind is not waited for. */
  expect(b, "sleep 100 & echo left", "left\n", "", 0, 0);
  struct talk t;
  init(b, &t);
  const char *argv[] = {"no-such-program", "x"};
  open_spec(&t, &(struct blx__vm_session_spec){.argv = argv, .argc = 2});
  wait_end(&t);
  ck_assert(t.failed && t.why.code == BLX_E_NOT_FOUND);
  ck_assert_msg(strstr(t.why.message, "no-such-program: there is no such program"), "%s", t.why.message);
  finish(&t);
}

static void standard_input(struct bench *b) {
  struct talk t;
  init(b, &t);
  t.input = (const uint8_t *)"to and fro\n";
  t.input_len = 11;
  t.input_end = true;
  open_sh(&t, "cat; echo end", false);
  wait_end(&t);
  ck_assert_str_eq(blx__buf_cstr(&t.out), "to and fro\nend\n");
  finish(&t);

  enum { MUCH = 1 << 20 };
  uint8_t *much = malloc(MUCH);
  ck_assert_ptr_nonnull(much);
  for (size_t i = 0; i < MUCH; i++) much[i] = (uint8_t)blx__mix64(i);
  init(b, &t);
  t.input = much;
  t.input_len = MUCH;
  t.input_end = true;
  t.refuse = 3;
  open_sh(&t, "cat", false);
  wait_end(&t);
  ck_assert_msg(!t.failed && t.status == 0, "%s, status %d, signal %d, %zu of %d bytes came",
                t.failed ? t.why.message : "ended", t.status, t.signal, t.out.len, MUCH);
  ck_assert_uint_eq(t.out.len, MUCH);
  ck_assert_mem_eq(t.out.data, much, MUCH);
  finish(&t);
  free(much);
}

/* One that is not read and one that does not read stop nobody else. */
static void several_at_once(struct bench *b) {
  struct talk lazy, deaf, t[2], more;
  uint8_t *much = calloc(1, 4 << 20);
  init(b, &lazy);
  lazy.refuse = UINT32_MAX;
  open_sh(&lazy, "echo $$ >/tmp/lazy; yes", false);
  init(b, &deaf);
  deaf.input = much;
  deaf.input_len = 4 << 20;
  open_sh(&deaf, "sleep 1000", false);
  for (unsigned i = 0; i < 2; i++) {
    init(b, &t[i]);
    open_sh(&t[i], i == 0 ? "read a; echo first $a" : "read a; echo second $a", false);
  }
  for (unsigned i = 2; i > 0; i--) {
    t[i - 1].input = (const uint8_t *)"x\n";
    t[i - 1].input_len = 2;
    push(&t[i - 1]);
    wait_end(&t[i - 1]);
  }
  ck_assert_str_eq(blx__buf_cstr(&t[0].out), "first x\n");
  ck_assert_str_eq(blx__buf_cstr(&t[1].out), "second x\n");
  ck_assert(deaf.input_len > 0 && !lazy.ended && !deaf.ended);
  expect(b, "kill -0 $(cat /tmp/lazy) && echo lives", "lives\n", "", 0, 0);

  struct talk filling[6];
  for (unsigned i = 0; i < 6; i++) {
    init(b, &filling[i]);
    open_sh(&filling[i], "echo on; cat", false);
    wait_out(&filling[i], "on\n");
  }
  init(b, &more);
  open_sh(&more, "true", false);
  wait_end(&more);
  ck_assert(more.failed && more.why.code == BLX_E_BUSY);
  ck_assert_msg(strstr(more.why.message, "8 commands run in this guest already"), "%s", more.why.message);
  for (unsigned i = 0; i < 6; i++) close_session(&filling[i]);
  /* Closed: killed, and its place is free again. */
  close_session(&lazy);
  close_session(&deaf);
  expect(b,
         "i=0; while kill -0 $(cat /tmp/lazy) 2>/dev/null && [ $i -lt 50 ]; do i=$((i+1)); sleep 0.1; done; "
         "kill -0 $(cat /tmp/lazy) 2>/dev/null || echo dead",
         "dead\n", "", 0, 0);
  for (unsigned i = 0; i < 6; i++) finish(&filling[i]);
  for (unsigned i = 0; i < 2; i++) finish(&t[i]);
  finish(&more);
  finish(&lazy);
  finish(&deaf);
  free(much);
}

static void terminal(struct bench *b) {
  struct talk t;
  init(b, &t);
  open_sh(&t,
          "tty; stty size; echo err >&2; echo $TERM; read a; stty size; read b; echo got $a $b; cat; echo bye; exit 3",
          true);
  wait_out(&t, "xterm\r\n");
  ck_assert_msg(strstr((const char *)t.out.data, "/dev/pts/"), "%s", t.out.data);
  ck_assert_msg(strstr((const char *)t.out.data, "33 111\r\nerr\r\n"), "%s", t.out.data);
  b->driver->ops->session_resize(b->driver, t.session, 50, 132);
  t.input = (const uint8_t *)"one\n";
  t.input_len = 4;
  push(&t);
  wait_out(&t, "50 132\r\n");
  t.input = (const uint8_t *)"two\n";
  t.input_len = 4;
  t.input_end = true;
  push(&t);
  wait_end(&t);
  ck_assert_msg(strstr(blx__buf_cstr(&t.out), "got one two\r\n"), "%s", t.out.data);
  ck_assert_msg(strstr((const char *)t.out.data, "bye\r\n"), "%s", t.out.data);
  ck_assert_int_eq(t.status, 3);
  ck_assert_uint_eq(t.err.len, 0);
  finish(&t);
  /* ^C reaches the command of a terminal. */
  init(b, &t);
  open_sh(&t, "echo on; exec sleep 1000", true);
  wait_out(&t, "on\r\n");
  t.input = (const uint8_t *)"\x03";
  t.input_len = 1;
  push(&t);
  wait_end(&t);
  ck_assert_int_eq(t.signal, SIGINT);
  finish(&t);
}

static void open_console(struct bench *b, struct talk *t) {
  init(b, t);
  open_spec(t, &(struct blx__vm_session_spec){.argc = 0});
}

static void console(struct bench *b, struct talk *last) {
  struct talk t;
  open_console(b, &t);
  t.input = (const uint8_t *)"\n";
  t.input_len = 1;
  push(&t);
  wait_out(&t, "# ");
  t.input = (const uint8_t *)"echo $((6*7))-is-it; tty\n";
  t.input_len = 25;
  push(&t);
  wait_out(&t, "42-is-it");
  wait_out(&t, "/dev/ttyS0");
  open_console(b, last);
  t.input = (const uint8_t *)"echo again-$((1+1))\n";
  t.input_len = 20;
  push(&t);
  wait_out(&t, "again-2");
  wait_out(last, "again-2");
  close_session(&t);
  finish(&t);
  /* And it is in the log. */
  struct reading r = {.bench = b};
  struct blx__vm_logs *logs;
  blx__buf_init(&r.text, 4 << 20);
  ck_assert_int_eq(
      b->driver->ops
          ->logs(b->driver, &key, BLX__VM_LOG_LINES_ALL, false, bench_log_bytes, bench_log_end, &r, &logs, NULL)
          .code,
      0);
  bench_wait_end(b, &r);
  ck_assert_ptr_nonnull(strstr(blx__buf_cstr(&r.text), "42-is-it"));
  blx__buf_free(&r.text);
}

/* The agent in the guest ends: what it ran is told to be gone, and the next one serves. */
static void agent_started_again(struct bench *b) {
  struct talk t;
  init(b, &t);
  open_sh(&t, "echo on; cat", false);
  wait_out(&t, "on\n");
  struct talk murder;
  init(b, &murder);
  open_sh(&murder, "kill -9 $PPID; sleep 1000", false);
  wait_end(&murder);
  ck_assert(murder.failed && murder.why.code == BLX_E_UNAVAILABLE);
  finish(&murder);
  wait_end(&t);
  ck_assert(t.failed && t.why.code == BLX_E_UNAVAILABLE);
  ck_assert_msg(strstr(t.why.message, "agent ended and was started again"), "%s", t.why.message);
  finish(&t);
  expect(b, "echo again", "again\n", "", 0, 0);
}

/* A guest that stood still has the host's time again when it goes on. */
static void clock_after_a_pause(struct bench *b) {
  struct waited w[2] = {{.bench = b}, {.bench = b}};
  struct talk t;
  char *end;
  expect(b, "date -s @1000000 >/dev/null; [ $(date +%s) -lt 1000100 ] && echo set", "set\n", "", 0, 0);
  for (unsigned i = 0; i < 2; i++) {
    b->driver->ops->pause(b->driver, &key, i == 0, bench_done, &w[i]);
    bench_wait_done(b, &w[i]);
    ck_assert_msg(!w[i].failed, "%s", w[i].err.message);
  }
  init(b, &t);
  open_sh(&t, "i=0; while [ $(date +%s) -lt 2000000 ] && [ $i -lt 50 ]; do i=$((i+1)); sleep 0.1; done; date +%s",
          false);
  wait_end(&t);
  int64_t off = strtoll(blx__buf_cstr(&t.out), &end, 10) - (int64_t)time(NULL);
  ck_assert_msg(off > -5 && off < 5 && *end == '\n', "the guest's clock is off by %lld s", (long long)off);
  finish(&t);
}

static void refused_at_once(struct bench *b) {
  struct blx__vm_session *s = NULL;
  struct talk t;
  blx_error err;
  const char *words[BLX__VM_SESSION_ARGS_MAX + 1];
  char longest[BLX__VM_SESSION_ARGS_BYTES + 1];
  struct blx__vm_key other = key;
  init(b, &t);
  for (size_t i = 0; i < BLX__COUNT(words); i++) words[i] = "w";
  struct blx__vm_session_spec spec = {.argv = words, .argc = BLX__COUNT(words)};
  ck_assert_int_eq(b->driver->ops->session_open(b->driver, &key, &spec, &events, &t, &s, &err).code, BLX_E_INVALID);
  memset(longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  words[0] = longest;
  spec.argc = 1;
  ck_assert_int_eq(b->driver->ops->session_open(b->driver, &key, &spec, &events, &t, &s, &err).code, BLX_E_INVALID);
  words[0] = "w";
  other.uid = 99;
  ck_assert_int_eq(b->driver->ops->session_open(b->driver, &other, &spec, &events, &t, &s, &err).code, BLX_E_NOT_FOUND);
  ck_assert_ptr_null(s);
  finish(&t);
}

START_TEST(session__in_a_booted_guest__runs_commands_and_answers_at_the_console) {
  struct bench b;
  struct talk dying, watching;
  boot_open(&b);
  struct blx__vm_desc d = boot_desc("hello-1", 1);
  struct waited w = bench_prepare(&b, &d);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  struct talk early;
  init(&b, &early);
  const char *words[] = {"true"};
  struct blx__vm_session_spec spec = {.argv = words, .argc = 1};
  blx_error err;
  ck_assert_int_eq(b.driver->ops->session_open(b.driver, &key, &spec, &events, &early, &early.session, &err).code,
                   BLX_E_CONFLICT);
  finish(&early);
  w = bench_start(&b, &d);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  bench_wait_event(&b, BLX__VM_EVENT_READY, 1, 1);
  streams_and_ends(&b);
  standard_input(&b);
  several_at_once(&b);
  terminal(&b);
  agent_started_again(&b);
  clock_after_a_pause(&b);
  refused_at_once(&b);
  console(&b, &watching);
  /* The guest dies meanwhile. */
  init(&b, &dying);
  open_sh(&dying, "echo on; cat", false);
  wait_out(&dying, "on\n");
  w = bench_kill(&b, &d.key);
  ck_assert(!w.failed);
  wait_end(&dying);
  ck_assert(dying.failed && dying.why.code == BLX_E_UNAVAILABLE);
  wait_end(&watching);
  ck_assert(!watching.failed && watching.signal == SIGKILL);
  finish(&dying);
  finish(&watching);
  w = bench_destroy(&b, &d.key);
  ck_assert(!w.failed);
  bench_close(&b);
}
END_TEST

int main(void) {
  const TTest *const tests[] = {session__in_a_booted_guest__runs_commands_and_answers_at_the_console};
  return boot_main("vm/session", tests, sizeof tests / sizeof tests[0]);
}
