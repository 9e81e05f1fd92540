/* Commands in simulated guests through the public functions. */
#include "support.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_MS = 20000, BIG = 3 << 20 };

static blx_node *node;
static blx_client *client;

static void create(const char *name, uint32_t replicas) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  spec.name = name;
  spec.flake = "path:/nowhere#web";
  spec.has_replicas = 1;
  spec.replicas = replicas;
  req.spec = &spec;
  ck_assert_int_eq(blx_vm_create(client, &req, &vm, NULL), 0);
  blx_vm_free(vm);
  ck_assert_int_eq(blx_vm_wait(client, name, BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, NULL), 0);
}

static void open_all(void) {
  node = api_open_node(BLX_COMPLETIONS_THREAD);
  client = api_client_of(node);
  create("web", 1);
}

static void close_all(void) {
  api_close(node, client);
}

/* What a session said until it ended. */
struct said {
  int rc;
  blx_error err;
  size_t out, others; /* bytes; others: of out that are not what was expected */
  char first[256], instance[64];
  size_t errors;
  int32_t exit_status, signal;
  bool ended;
};

static void take(struct said *said, const struct blx_vm_exec_output *o, char expected) {
  if (o->instance && *o->instance) snprintf(said->instance, sizeof said->instance, "%s", o->instance);
  for (size_t i = 0; i < o->out.len; i++) {
    if (said->out + i + 1 < sizeof said->first) said->first[said->out + i] = (char)o->out.data[i];
    said->others += o->out.data[i] != expected;
  }
  said->out += o->out.len;
  said->errors += o->err.len;
  if (!o->ended) return;
  said->ended = true;
  said->exit_status = o->exit_status;
  said->signal = o->signal;
}

static struct said listen(blx_vm_exec *exec, char expected) {
  struct said said = {0};
  struct blx_vm_exec_output *o = NULL;
  while ((said.rc = blx_vm_exec_next(exec, WAIT_MS, &o, &said.err)) == 1) {
    take(&said, o, expected);
    blx_vm_exec_output_free(o);
  }
  return said;
}

static blx_vm_exec *begin(const char *name, const char *word, const char *second) {
  const char *argv[] = {word, second};
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  blx_vm_exec *exec = NULL;
  blx_error err = {0};
  req.name = name;
  req.argv = argv;
  req.n_argv = second ? 2 : word ? 1 : 0;
  ck_assert_msg(blx_vm_exec_open(client, &req, &exec, &err) == 0, "%s", err.message);
  return exec;
}

static struct said run(const char *name, const char *word, const char *second) {
  blx_vm_exec *exec = begin(name, word, second);
  struct said said = listen(exec, 0);
  blx_vm_exec_close(exec);
  return said;
}

START_TEST(a_command__tells_its_instance_then_what_it_says_then_how_it_ended) {
  open_all();
  struct said said = run("web", "echo", "hello");
  ck_assert_int_eq(said.rc, 0);
  ck_assert_str_eq(said.instance, "web-1");
  ck_assert_str_eq(said.first, "hello\n");
  ck_assert(said.ended && said.exit_status == 0 && said.signal == 0);
  said = run("web-1", "exit", "7");
  ck_assert(said.ended && said.exit_status == 7);
  said = run("web-1", "fail-with-signal", "15");
  ck_assert(said.ended && said.signal == 15);
  said = run("web-1", "warn", "careful");
  ck_assert(said.ended && said.errors == 8 && said.out == 0);
  close_all();
}
END_TEST

START_TEST(what_is_asked_wrongly__is_refused_with_a_sentence) {
  open_all();
  create("many", 2);
  create("none", 0);
  const struct {
    const char *name, *word;
    int code;
    const char *text;
  } asked[] = {{"nowhere", "echo", BLX_E_NOT_FOUND, "there is no VM or instance \"nowhere\""},
               {"many", "echo", BLX_E_INVALID, "name one of many-1, many-2"},
               {"none", "echo", BLX_E_CONFLICT, "has no instances"},
               {"web", NULL, BLX_E_INVALID, "name the command"},
               {"web", "", BLX_E_INVALID, "name the command"},
               {"web", "no-such-program", BLX_E_NOT_FOUND, "no such program"}};
  for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
    struct said said = run(asked[i].name, asked[i].word, NULL);
    ck_assert_msg(said.rc == asked[i].code, "%zu: %d %s", i, said.rc, said.err.message);
    ck_assert_msg(strstr(said.err.message, asked[i].text) != NULL, "%zu: %s", i, said.err.message);
    ck_assert(!said.ended);
  }
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  req.name = "web";
  ck_assert_int_eq(blx_vm_pause(client, &req, &vm, NULL), 0);
  blx_vm_free(vm);
  ck_assert_int_eq(blx_vm_wait(client, "web", BLX_VM_WAIT_PAUSED, WAIT_MS, NULL, NULL, NULL), 0);
  ck_assert_int_eq(run("web", "echo", NULL).rc, BLX_E_CONFLICT);
  ck_assert_int_eq(blx_vm_stop(client, &req, &vm, NULL), 0);
  blx_vm_free(vm);
  ck_assert_int_eq(blx_vm_wait(client, "web", BLX_PHASE_STOPPED, WAIT_MS, NULL, NULL, NULL), 0);
  struct said said = run("web", "echo", NULL);
  ck_assert_int_eq(said.rc, BLX_E_CONFLICT);
  ck_assert_ptr_nonnull(strstr(said.err.message, "web-1 is Stopped, not Running"));
  close_all();
}
END_TEST

static void *write_all(void *arg) {
  static const char bytes[64 << 10] = {0};
  for (size_t left = BIG; left > 0;) {
    int n = blx_vm_exec_write(arg, bytes, left < sizeof bytes ? left : sizeof bytes, WAIT_MS, NULL);
    ck_assert_int_gt(n, 0);
    left -= (size_t)n;
  }
  ck_assert_int_eq(blx_vm_exec_write(arg, NULL, 0, WAIT_MS, NULL), 0);
  return NULL;
}

START_TEST(what_is_written__comes_back_whole_while_another_thread_reads) {
  pthread_t writer;
  open_all();
  blx_vm_exec *exec = begin("web", "cat", NULL);
  ck_assert_int_eq(pthread_create(&writer, NULL, write_all, exec), 0);
  struct said said = listen(exec, 0);
  pthread_join(writer, NULL);
  ck_assert_uint_eq(said.out, BIG);
  ck_assert_uint_eq(said.others, 0);
  ck_assert(said.ended && said.exit_status == 0);
  REFUSED(BLX_E_CONFLICT, blx_vm_exec_write(exec, "x", 1, 0, &err));
  blx_vm_exec_close(exec);
  close_all();
}
END_TEST

/* Nothing is read: the queues fill, the command stops, and so does who writes. */
START_TEST(who_does_not_read__stops_the_writer_and_nobody_else) {
  static const char bytes[32 << 10] = {'x'};
  open_all();
  blx_vm_exec *exec = begin("web", "cat", NULL);
  int n = 0;
  size_t given = 0;
  while ((n = blx_vm_exec_write(exec, bytes, sizeof bytes, 500, NULL)) > 0) given += (size_t)n;
  ck_assert_int_eq(n, BLX_E_TIMEOUT);
  ck_assert_uint_gt(given, 1 << 20);
  ck_assert_uint_lt(given, 16 << 20);
  ck_assert_str_eq(run("web", "echo", "served").first, "served\n");
  blx_vm_exec_close(exec);
  close_all();
}
END_TEST

START_TEST(a_console__says_back_what_it_is_told_and_a_size_follows) {
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  struct blx_vm_exec_output *o = NULL;
  blx_vm_exec *exec = NULL;
  open_all();
  req.name = "web";
  req.console = 1;
  ck_assert_int_eq(blx_vm_exec_open(client, &req, &exec, NULL), 0);
  ck_assert_int_eq(blx_vm_exec_write(exec, "hello\n", 6, WAIT_MS, NULL), 6);
  ck_assert_int_eq(blx_vm_exec_next(exec, WAIT_MS, &o, NULL), 1);
  ck_assert_str_eq(o->instance, "web-1");
  blx_vm_exec_output_free(o);
  ck_assert_int_eq(blx_vm_exec_next(exec, WAIT_MS, &o, NULL), 1);
  ck_assert(o->out.len == 6 && memcmp(o->out.data, "hello\n", 6) == 0);
  blx_vm_exec_output_free(o);
  REFUSED(BLX_E_TIMEOUT, blx_vm_exec_next(exec, 0, &o, &err));
  blx_vm_exec_close(exec);
  exec = begin("web", "size", NULL);
  ck_assert_int_eq(blx_vm_exec_resize(exec, 30, 90, WAIT_MS, NULL), 0);
  ck_assert_int_eq(blx_vm_exec_write(exec, NULL, 0, WAIT_MS, NULL), 0);
  ck_assert_str_eq(listen(exec, 0).first, "24 80\n30 90\n");
  blx_vm_exec_close(exec);
  close_all();
}
END_TEST

START_TEST(misuse__is_told_and_does_no_harm) {
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  struct blx_vm_exec_output *o = NULL;
  blx_vm_exec *exec = NULL;
  open_all();
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open(NULL, &req, &exec, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open(client, NULL, &exec, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_open(client, &req, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_next(NULL, 0, &o, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write(NULL, "x", 1, 0, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_resize((blx_vm_exec *)client, 1, 1, 0, &err));
  blx_vm_exec_close(NULL);
  blx_vm_exec_output_free(NULL);
  exec = begin("web", "yes", NULL);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_next(exec, 0, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write(exec, NULL, 1, 0, &err));
  REFUSED(BLX_E_INVALID, blx_vm_exec_resize(exec, 0, 80, 0, &err));
  REFUSED(BLX_E_INVALID, blx_vm_exec_resize(exec, 24, 65536, 0, &err));
  blx_vm_exec_close(exec);
  blx_vm_exec_close(exec);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_next(exec, 0, &o, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write(exec, "x", 1, 0, &err));
  exec = begin("web", "yes", NULL);
  blx_client_close(client);
  REFUSED(BLX_E_MISUSE, blx_vm_exec_next(exec, 0, &o, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_exec_write(exec, "x", 1, 0, &err));
  blx_vm_exec_close(exec);
  client = NULL;
  close_all();
}
END_TEST

/* What no command line could carry. Refused here or by the cluster, in a sentence, and nothing else is harmed. */
static struct said run_words(const char **words, size_t n) {
  struct blx_vm_exec_request req = BLX_VM_EXEC_REQUEST_INIT;
  struct said said = {0};
  blx_vm_exec *exec = NULL;
  req.name = "web";
  req.argv = words;
  req.n_argv = n;
  said.rc = blx_vm_exec_open(client, &req, &exec, &said.err);
  if (said.rc != 0) return said;
  said = listen(exec, 0);
  blx_vm_exec_close(exec);
  return said;
}

static void refused_words(const char **words, size_t n) {
  struct said said = run_words(words, n);
  ck_assert_msg(said.rc == BLX_E_INVALID || said.rc == BLX_E_MISUSE, "%d %s", said.rc, said.err.message);
  ck_assert_uint_gt(strlen(said.err.message), 10);
  ck_assert_str_eq(run("web", "echo", "served").first, "served\n");
}

START_TEST(words_beyond_all_measure__are_refused_and_others_are_served) {
  enum { MANY = 10000, LONG = 1 << 20 };
  const char **many = calloc(MANY, sizeof *many);
  char *longest = malloc(LONG + 1);
  const char *two[] = {"echo", "x"};
  open_all();
  for (size_t i = 0; i < MANY; i++) many[i] = "x";
  refused_words(many, MANY);
  refused_words(many, 65);
  memset(longest, 'y', LONG);
  longest[LONG] = '\0';
  two[1] = longest;
  refused_words(two, 2);
  longest[2048] = '\0';
  refused_words(two, 2);
  two[1] = "\xff\xfe";
  refused_words(two, 2);
  two[1] = NULL;
  struct said said = run_words(two, 2); /* a word that is none: an empty one */
  ck_assert(said.rc == 0 || said.rc == BLX_E_INVALID || said.rc == BLX_E_MISUSE);
  refused_words(NULL, 0);
  for (size_t i = 0; i < MANY; i++) many[i] = longest;
  refused_words(many, MANY); /* 20 MB */
  many[0] = "echo";
  for (size_t i = 1; i < 64; i++) many[i] = "";
  ck_assert_int_eq(run_words(many, 64).rc, 0);
  free(many);
  free(longest);
  close_all();
}
END_TEST

static void *read_until_closed(void *arg) {
  struct blx_vm_exec_output *o = NULL;
  int rc;
  while ((rc = blx_vm_exec_next(arg, WAIT_MS, &o, NULL)) == 1) blx_vm_exec_output_free(o);
  return (void *)(intptr_t)rc;
}

START_TEST(a_close__ends_the_read_of_another_thread_and_the_node_closes_with_sessions_open) {
  pthread_t reader;
  void *rc = NULL;
  open_all();
  blx_vm_exec *exec = begin("web", "cat", NULL), *left = begin("web", "yes", NULL);
  ck_assert_int_eq(pthread_create(&reader, NULL, read_until_closed, exec), 0);
  nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
  blx_vm_exec_close(exec);
  pthread_join(reader, &rc);
  ck_assert_int_eq((int)(intptr_t)rc, BLX_E_CANCELLED);
  blx_node_close(node);
  node = NULL;
  blx_vm_exec_close(left);
  close_all();
}
END_TEST

BLX_TEST_MAIN("api/exec", a_command__tells_its_instance_then_what_it_says_then_how_it_ended,
              what_is_asked_wrongly__is_refused_with_a_sentence,
              what_is_written__comes_back_whole_while_another_thread_reads,
              who_does_not_read__stops_the_writer_and_nobody_else,
              a_console__says_back_what_it_is_told_and_a_size_follows, misuse__is_told_and_does_no_harm,
              words_beyond_all_measure__are_refused_and_others_are_served,
              a_close__ends_the_read_of_another_thread_and_the_node_closes_with_sessions_open)
