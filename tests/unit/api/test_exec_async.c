/* Commands in simulated guests without a thread that waits: what they say, and what was sent, is told to functions. */
#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

enum { WAIT_MS = 20000, BIG = 3 << 20 };

static blx_node *node;
static blx_client *client;

static void create_web(void) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  spec.name = "web";
  spec.flake = "path:/nowhere#web";
  req.spec = &spec;
  ck_assert_int_eq(blx_vm_create(client, &req, &vm, NULL), 0);
  blx_vm_free(vm);
  ck_assert_int_eq(blx_vm_wait(client, "web", BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, NULL), 0);
}

static void open_all(int32_t completions) {
  node = api_open_node(completions);
  client = api_client_of(node);
  create_web();
}

/* A session, and what its functions were told. The numbers are read by another thread in one test only. */
struct session {
  blx_vm_exec *exec;
  pthread_t thread; /* where all should run */
  bool anywhere;    /* wherever that is */
  bool closes;      /* another thread closes it meanwhile */
  size_t left;      /* bytes that are still to be written; each sent asks for the next */
  unsigned close_after;
  size_t out, wrong;
  unsigned outputs, sents, last_sent_bytes;
  char first[64], instance[64];
  int32_t exit_status;
  bool ended;
  int end_code; /* as it was told last */
  atomic_int sent_code;
  atomic_uint ends, told;
};

static void on_sent(void *user, const blx_error *err);

/* The next of what is left, or that there is no more. */
static void write_next(struct session *s) {
  static const char bytes[20000] = {0};
  blx_error err = {0};
  size_t n = s->left < sizeof bytes ? s->left : sizeof bytes;
  s->left -= n; /* before: it may be told on another thread at once */
  s->last_sent_bytes = (unsigned)n;
  int rc = blx_vm_exec_write_async(s->exec, bytes, n, on_sent, s, &err);
  if (rc == BLX_E_CONFLICT) return; /* it ended first */
  if ((!client || s->closes) && rc == BLX_E_MISUSE) return;
  ck_assert_msg(rc == (int)n, "%d %s", rc, err.message);
}

static void on_sent(void *user, const blx_error *err) {
  struct session *s = user;
  ck_assert(s->anywhere || pthread_equal(s->thread, pthread_self()));
  ck_assert_uint_eq(atomic_load(&s->ends), 0); /* the end is the last that is told */
  s->sents++;
  s->sent_code = err ? err->code : 0;
  if (!err && s->last_sent_bytes > 0) write_next(s);
  atomic_fetch_add(&s->told, 1);
}

/* From inside, of a session that is told. */
static void cannot_be_read(const struct session *s) {
  struct blx_vm_exec_output *none = NULL;
  REFUSED(BLX_E_MISUSE, blx_vm_exec_next(s->exec, 0, &none, &err));
}

static void on_output(void *user, const blx_error *err, struct blx_vm_exec_output *o) {
  struct session *s = user;
  ck_assert(s->anywhere || pthread_equal(s->thread, pthread_self()));
  ck_assert_uint_eq(atomic_load(&s->ends), 0);
  ck_assert(err == NULL || o == NULL);
  if (!o) {
    s->end_code = err ? err->code : 0;
    atomic_fetch_add(&s->ends, 1);
    return;
  }
  if (s->outputs++ == 0) cannot_be_read(s);
  if (o->instance && *o->instance) snprintf(s->instance, sizeof s->instance, "%s", o->instance);
  for (size_t i = 0; i < o->out.len; i++, s->out++) {
    if (s->out + 1 < sizeof s->first) s->first[s->out] = (char)o->out.data[i];
    s->wrong += o->out.data[i] != 0;
  }
  s->ended |= o->ended != 0;
  if (o->ended) s->exit_status = o->exit_status;
  blx_vm_exec_output_free(o);
  if (s->close_after > 0 && s->outputs == s->close_after) blx_vm_exec_close(s->exec);
}

static void begin(struct session *s, const char *word, const char *second) {
  const char *argv[] = {word, second};
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  blx_error err = {0};
  s->thread = pthread_self();
  req.name = "web";
  req.argv = argv;
  req.n_argv = second ? 2 : 1;
  ck_assert_msg(blx_vm_exec_open_async(client, &req, on_output, s, &s->exec, &err) == 0, "%s", err.message);
}

/* A turn of the embedder's loop. False: nothing is there within @ms. */
static bool turn(int ms) {
  struct pollfd fd = {.fd = blx_node_fd(node, NULL), .events = POLLIN};
  if (poll(&fd, 1, ms) != 1) return false;
  ck_assert_int_ge(blx_node_dispatch(node, 0, NULL), 0);
  return true;
}

static void until_end(struct session *s) {
  while (atomic_load(&s->ends) == 0) ck_assert(turn(WAIT_MS));
}

static void nap(void) {
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

START_TEST(a_command__is_told_in_the_dispatch_and_ends_once) {
  struct session s = {.end_code = 1};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&s, "echo", "hello");
  until_end(&s);
  ck_assert_str_eq(s.instance, "web-1");
  ck_assert_str_eq(s.first, "hello\n");
  ck_assert(s.ended && s.exit_status == 0 && s.end_code == 0);
  ck_assert(!turn(100));
  REFUSED(BLX_E_CONFLICT, blx_vm_exec_write_async(s.exec, "x", 1, on_sent, &s, &err));
  blx_vm_exec_close(s.exec);
  struct session bad = {.end_code = 1};
  begin(&bad, "no-such-program", NULL);
  until_end(&bad);
  ck_assert(bad.end_code == BLX_E_NOT_FOUND && !bad.ended);
  blx_vm_exec_close(bad.exec);
  ck_assert(!turn(100));
  ck_assert(atomic_load(&s.ends) == 1 && atomic_load(&bad.ends) == 1 && s.sents == 0);
  api_close(node, client);
}
END_TEST

/* One thread writes 3 MiB and reads them back, without ever waiting in a call. */
START_TEST(what_is_written__comes_back_whole_on_one_thread_that_never_waits) {
  struct session s = {.left = BIG};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&s, "cat", NULL);
  write_next(&s);
  REFUSED(BLX_E_BUSY, blx_vm_exec_write_async(s.exec, "x", 1, on_sent, &s, &err));
  REFUSED(BLX_E_BUSY, blx_vm_exec_resize_async(s.exec, 1, 1, on_sent, &s, &err));
  until_end(&s);
  ck_assert_uint_eq(s.out, BIG);
  ck_assert_uint_eq(s.wrong, 0);
  ck_assert(s.ended && s.exit_status == 0 && s.end_code == 0 && s.sent_code == 0);
  ck_assert_uint_eq(s.sents, BIG / 20000 + 2); /* the rest, and the end of the input */
  blx_vm_exec_close(s.exec);
  api_close(node, client);
}
END_TEST

START_TEST(a_size__follows_what_was_written_before) {
  struct session s = {0};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&s, "size", NULL);
  while (s.out < 6) ck_assert(turn(WAIT_MS));
  ck_assert_int_eq(blx_vm_exec_resize_async(s.exec, 30, 90, on_sent, &s, NULL), 0);
  while (s.sents < 1) ck_assert(turn(WAIT_MS));
  ck_assert_int_eq(blx_vm_exec_write_async(s.exec, NULL, 0, on_sent, &s, NULL), 0);
  until_end(&s);
  ck_assert_str_eq(s.first, "24 80\n30 90\n");
  ck_assert_uint_eq(s.sents, 2);
  blx_vm_exec_close(s.exec);
  api_close(node, client);
}
END_TEST

START_TEST(who_does_not_dispatch__stops_the_command_and_it_goes_on_later) {
  struct session s = {.end_code = 1};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&s, "yes", NULL);
  for (unsigned i = 0; i < 500; i++) nap();
  ck_assert_uint_eq(s.outputs, 0);
  int n = blx_node_dispatch(node, 0, NULL);
  ck_assert(n > 0 && n <= 64);
  while (s.outputs < 1000) ck_assert(turn(WAIT_MS));
  blx_vm_exec_close(s.exec);
  until_end(&s);
  ck_assert(s.end_code == BLX_E_CANCELLED && !s.ended);
  unsigned outputs = s.outputs;
  ck_assert(!turn(100));
  ck_assert(s.outputs == outputs && atomic_load(&s.ends) == 1);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write_async(s.exec, "x", 1, on_sent, &s, &err));
  api_close(node, client);
}
END_TEST

START_TEST(a_session__may_be_closed_by_its_own_function_and_after_one_output_no_other_comes) {
  struct session s = {.close_after = 3};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&s, "yes", NULL);
  until_end(&s);
  ck_assert(s.end_code == BLX_E_CANCELLED && s.outputs == 3);
  api_close(node, client);
}
END_TEST

/* Nobody reads the session, which was opened to be read, so that a write finds no room in the end. */
static void write_until_it_waits(struct session *s) {
  const char *argv[] = {"cat"};
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  req.name = "web";
  req.argv = argv;
  req.n_argv = 1;
  s->anywhere = true;
  s->left = 1 << 30;
  ck_assert_int_eq(blx_vm_exec_open(client, &req, &s->exec, NULL), 0);
  write_next(s);
  for (unsigned before = 0, quiet = 0; quiet < 500; nap()) {
    unsigned now = atomic_load(&s->told);
    quiet = now == before ? quiet + 1 : 0;
    before = now;
  }
}

START_TEST(a_write_that_waits__is_told_when_the_session_is_closed) {
  struct session s = {0};
  open_all(BLX_COMPLETIONS_THREAD);
  write_until_it_waits(&s);
  unsigned before = atomic_load(&s.told);
  ck_assert_uint_gt(before, 10);
  blx_vm_exec_close(s.exec);
  for (unsigned i = 0; i < WAIT_MS && atomic_load(&s.told) == before; i++) nap();
  ck_assert_uint_eq(atomic_load(&s.told), before + 1);
  ck_assert_int_eq(s.sent_code, BLX_E_CANCELLED);
  api_close(node, client);
}
END_TEST

START_TEST(a_write_that_waits__is_told_when_its_instance_goes) {
  struct session s = {0};
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  struct blx_vm_exec_output *o = NULL;
  int rc;
  open_all(BLX_COMPLETIONS_THREAD);
  write_until_it_waits(&s);
  unsigned before = atomic_load(&s.told);
  req.name = "web";
  ck_assert_int_eq(blx_vm_stop(client, &req, &vm, NULL), 0);
  blx_vm_free(vm);
  while ((rc = blx_vm_exec_next(s.exec, WAIT_MS, &o, NULL)) == 1) blx_vm_exec_output_free(o);
  ck_assert_int_lt(rc, 0);
  for (unsigned i = 0; i < WAIT_MS && (s.sent_code == 0 || atomic_load(&s.told) == before); i++) nap();
  ck_assert_int_eq(s.sent_code, BLX_E_CONFLICT);
  ck_assert_uint_gt(atomic_load(&s.told), before);
  blx_vm_exec_close(s.exec);
  api_close(node, client);
}
END_TEST

START_TEST(the_close_of_a_client__tells_all_before_it_returns) {
  struct session flood = {.anywhere = true}, writes = {.anywhere = true, .left = 1 << 30};
  open_all(BLX_COMPLETIONS_DISPATCH);
  begin(&flood, "yes", NULL);
  begin(&writes, "cat", NULL);
  while (flood.outputs < 10) ck_assert(turn(WAIT_MS));
  write_next(&writes);
  for (unsigned i = 0; i < 50; i++) nap();
  blx_client *closed = client;
  client = NULL;
  blx_client_close(closed);
  ck_assert(atomic_load(&flood.ends) == 1 && flood.end_code == BLX_E_CANCELLED);
  ck_assert(atomic_load(&writes.ends) == 1 && writes.end_code == BLX_E_CANCELLED && writes.sents == 1);
  blx_vm_exec_close(flood.exec);
  blx_vm_exec_close(writes.exec);
  api_close(node, client);
}
END_TEST

START_TEST(on_the_clients_thread__functions_are_told_too_and_others_close_meanwhile) {
  open_all(BLX_COMPLETIONS_THREAD);
  for (unsigned i = 0; i < 30; i++) {
    struct session s = {.anywhere = true, .closes = true, .left = 100000};
    begin(&s, i % 2 ? "cat" : "yes", NULL);
    write_next(&s);
    if (i % 3 > 0) nanosleep(&(struct timespec){.tv_nsec = 200000L * i}, NULL);
    blx_vm_exec_close(s.exec);
    for (unsigned k = 0; k < WAIT_MS && atomic_load(&s.ends) == 0; k++) nap();
    ck_assert_uint_eq(atomic_load(&s.ends), 1);
    ck_assert(s.end_code == BLX_E_CANCELLED || (i % 2 && s.end_code == 0));
  }
  api_close(node, client);
}
END_TEST

START_TEST(misuse__is_told_and_nothing_is_called) {
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  struct session s = {0};
  open_all(BLX_COMPLETIONS_DISPATCH);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open_async(NULL, &req, on_output, &s, &s.exec, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open_async(client, NULL, on_output, &s, &s.exec, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open_async(client, &req, NULL, &s, &s.exec, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open_async(client, &req, on_output, &s, NULL, &err));
  ck_assert_ptr_null(s.exec);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write_async(NULL, "x", 1, on_sent, &s, &err));
  begin(&s, "yes", NULL);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write_async(s.exec, "x", 1, NULL, &s, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write_async(s.exec, NULL, 1, on_sent, &s, &err));
  REFUSED(BLX_E_INVALID, blx_vm_exec_resize_async(s.exec, 0, 1, on_sent, &s, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_resize_async(s.exec, 1, 1, NULL, &s, &err));
  blx_vm_exec_close(s.exec);
  until_end(&s);
  ck_assert_uint_eq(s.sents, 0);
  api_close(node, client);
}
END_TEST

BLX_TEST_MAIN("api/exec_async", a_command__is_told_in_the_dispatch_and_ends_once,
              what_is_written__comes_back_whole_on_one_thread_that_never_waits, a_size__follows_what_was_written_before,
              who_does_not_dispatch__stops_the_command_and_it_goes_on_later,
              a_session__may_be_closed_by_its_own_function_and_after_one_output_no_other_comes,
              a_write_that_waits__is_told_when_the_session_is_closed,
              a_write_that_waits__is_told_when_its_instance_goes, the_close_of_a_client__tells_all_before_it_returns,
              on_the_clients_thread__functions_are_told_too_and_others_close_meanwhile,
              misuse__is_told_and_nothing_is_called)
