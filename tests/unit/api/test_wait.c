/* blx_vm_wait_async: where it completes, what ends it, how many there may be. */
#include "support.h"

#include <blixard/uv.h>
#include "base/rc.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { WAIT_MS = 20000, MOST = BLX_CLIENT_CALLS_MAX / 2 };

static blx_node *node;
static blx_client *client;

static void open_node(int32_t completions) {
  node = api_open_node(completions);
  client = api_client_of(node);
}

static void close_node(void) {
  api_close(node, client);
}

static blx_client *open_client(const char *address, int32_t completions) {
  const char *const addresses[] = {address};
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  blx_client *c = NULL;
  blx_error err = {0};
  o.addresses = addresses;
  o.n_addresses = 1;
  o.completions = completions;
  ck_assert_msg(blx_client_open(&o, &c, &err) == 0, "%s", err.message);
  return c;
}

static void create(const char *name, uint32_t replicas, uint32_t stopped) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_error err = {0};
  spec.name = name;
  spec.flake = "path:/nowhere#web";
  spec.has_replicas = 1;
  spec.replicas = replicas;
  request.spec = &spec;
  request.stopped = stopped;
  ck_assert_msg(blx_vm_create(client, &request, &vm, &err) == 0, "%s", err.message);
  blx_vm_free(vm);
}

static void verb(int (*call)(blx_client *, const struct blx_vm_name_request *, struct blx_vm **, blx_error *),
                 const char *name) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_error err = {0};
  request.name = name;
  ck_assert_msg(call(client, &request, &vm, &err) == 0, "%s", err.message);
  blx_vm_free(vm);
}

/* What a wait was told; on any thread. */
struct heard {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  unsigned count, cancelled, told_vm;
  int code;
  char message[512];
  pthread_t thread;
  bool running, paused; /* the last VM: all of it */
};
#define HEARD_INIT \
  { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER }

static void on_vm(void *user, const blx_error *err, struct blx_vm *vm) {
  struct heard *h = user;
  pthread_mutex_lock(&h->lock);
  h->count++;
  h->thread = pthread_self();
  h->code = err ? err->code : 0;
  h->cancelled += h->code == BLX_E_CANCELLED;
  (void)blx__str_copy(h->message, sizeof h->message, err ? err->message : "");
  h->told_vm += vm != NULL;
  h->running = h->paused = vm != NULL;
  for (size_t i = 0; vm && i < vm->n_instances; i++) {
    h->running = h->running && vm->instances[i]->phase == BLX_PHASE_RUNNING;
    h->paused = h->paused && vm->instances[i]->paused;
  }
  pthread_cond_broadcast(&h->cond);
  pthread_mutex_unlock(&h->lock);
  blx_vm_free(vm);
}

static void hear(struct heard *h, unsigned count) {
  pthread_mutex_lock(&h->lock);
  while (h->count < count) pthread_cond_wait(&h->cond, &h->lock);
  pthread_mutex_unlock(&h->lock);
}

static void wait_and_dispatch(void) {
  struct pollfd fd = {.fd = blx_node_fd(node, NULL), .events = POLLIN};
  ck_assert_int_eq(poll(&fd, 1, WAIT_MS), 1);
  (void)blx_node_dispatch(node, 0, NULL);
}

static void wait_async(blx_client *c, const char *name, int phase, uint32_t timeout_ms, struct heard *h) {
  blx_error err = {0};
  ck_assert_msg(blx_vm_wait_async(c, name, phase, timeout_ms, NULL, on_vm, h, &err) == 0, "%s", err.message);
}

START_TEST(wait__completes_in_the_dispatch_with_the_vm_as_it_is_then) {
  struct heard run = HEARD_INIT, gone = HEARD_INIT, of_one = HEARD_INIT;
  open_node(BLX_COMPLETIONS_DISPATCH);
  create("web", 3, 1);
  wait_async(client, "web", BLX_PHASE_RUNNING, WAIT_MS, &run);
  wait_async(client, "web-2", BLX_PHASE_RUNNING, WAIT_MS, &of_one);
  wait_async(client, "web", BLX_VM_WAIT_GONE, WAIT_MS, &gone);
  usleep(100000);
  ck_assert_int_eq(blx_node_dispatch(node, 0, NULL), 0);
  verb(blx_vm_start, "web");
  while (run.count + of_one.count < 2) wait_and_dispatch();
  ck_assert(run.running && of_one.running && run.told_vm == 1);
  ck_assert(pthread_equal(run.thread, pthread_self()));
  ck_assert_uint_eq(gone.count, 0);
  verb(blx_vm_delete, "web");
  while (gone.count == 0) wait_and_dispatch();
  ck_assert_int_eq(gone.code, 0);
  ck_assert_uint_eq(gone.told_vm, 0);
  close_node();
  ck_assert_uint_eq(run.count + of_one.count + gone.count, 3);
}
END_TEST

START_TEST(wait__for_pause_and_resume_is_for_every_instance) {
  struct heard paused = HEARD_INIT, resumed = HEARD_INIT;
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_THREAD);
  create("web", 2, 0);
  ck_assert_msg(blx_vm_wait(client, "web", BLX_VM_WAIT_RESUMED, WAIT_MS, NULL, NULL, &err) == 0, "%s", err.message);
  wait_async(client, "web", BLX_VM_WAIT_PAUSED, WAIT_MS, &paused);
  verb(blx_vm_pause, "web");
  hear(&paused, 1);
  ck_assert(paused.code == 0 && paused.paused && paused.running);
  ck_assert_int_eq(blx_vm_wait(client, "web", BLX_VM_WAIT_RESUMED, 100, NULL, NULL, &err), BLX_E_TIMEOUT);
  ck_assert_ptr_nonnull(strstr(err.message, "web is not resumed yet: it is Running, "));
  wait_async(client, "web", BLX_VM_WAIT_RESUMED, WAIT_MS, &resumed);
  verb(blx_vm_resume, "web");
  hear(&resumed, 1);
  ck_assert(resumed.code == 0 && resumed.running && !resumed.paused);
  create("none", 0, 0); /* what is wanted is all there is */
  ck_assert_int_eq(blx_vm_wait(client, "none", BLX_VM_WAIT_RESUMED, WAIT_MS, NULL, NULL, &err), 0);
  ck_assert_int_eq(blx_vm_wait(client, "none", BLX_VM_WAIT_PAUSED, 100, NULL, NULL, &err), BLX_E_TIMEOUT);
  close_node();
}
END_TEST

START_TEST(wait__that_ends_badly_says_why) {
  struct heard late = HEARD_INIT, missing = HEARD_INIT, stopped = HEARD_INIT, there = HEARD_INIT;
  volatile int cancel = 0;
  open_node(BLX_COMPLETIONS_THREAD);
  create("web", 1, 1);
  wait_async(client, "web", BLX_PHASE_RUNNING, 300, &late);
  wait_async(client, "nothing", BLX_PHASE_RUNNING, WAIT_MS, &missing);
  wait_async(client, "nothing", BLX_VM_WAIT_GONE, WAIT_MS, &there);
  ck_assert_int_eq(blx_vm_wait_async(client, "web", BLX_PHASE_RUNNING, WAIT_MS, &cancel, on_vm, &stopped, NULL), 0);
  hear(&late, 1);
  ck_assert_int_eq(late.code, BLX_E_TIMEOUT);
  ck_assert_str_eq(late.message, "web is not Running yet: it is Stopped, is defined and was not started");
  hear(&missing, 1);
  ck_assert_int_eq(missing.code, BLX_E_NOT_FOUND);
  hear(&there, 1);
  ck_assert_int_eq(there.code, 0);
  ck_assert_uint_eq(stopped.count, 0);
  __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
  hear(&stopped, 1);
  ck_assert_int_eq(stopped.code, BLX_E_CANCELLED);
  REFUSED(BLX_E_MISUSE, blx_vm_wait_async(client, NULL, 0, 1, NULL, on_vm, &late, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait_async(client, "web", 0, 0, NULL, on_vm, &late, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait_async(client, "web", 0, 86400001, NULL, on_vm, &late, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait_async(client, "web", 0, 1, NULL, NULL, &late, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait_async(NULL, "web", 0, 1, NULL, on_vm, &late, &err));
  REFUSED(BLX_E_INVALID, blx_vm_wait_async(client, "web", -4, 1, NULL, on_vm, &late, &err));
  REFUSED(BLX_E_INVALID, blx_vm_wait_async(client, "web", 99, 1, NULL, on_vm, &late, &err));
  close_node();
  ck_assert_uint_eq(late.count + missing.count + there.count + stopped.count, 4);
}
END_TEST

/* Waits in each of their states: on events, just begun, and where nobody answers. */
START_TEST(close__ends_every_wait_once_before_it_returns) {
  open_node(BLX_COMPLETIONS_THREAD);
  create("web", 1, 1);
  for (int32_t completions = BLX_COMPLETIONS_THREAD; completions <= BLX_COMPLETIONS_DISPATCH; completions++)
    for (useconds_t round = 0; round < 12; round++) {
      struct heard h = HEARD_INIT;
      blx_client *c = open_client(blx_node_address(node), completions);
      blx_client *lonely = open_client("unix:/tmp/blx-wait-nobody", completions);
      for (int i = 0; i < 5; i++) wait_async(c, "web", BLX_PHASE_RUNNING, WAIT_MS, &h);
      for (int i = 0; i < 5; i++) wait_async(lonely, "web", BLX_PHASE_RUNNING, WAIT_MS, &h);
      usleep(round * round * 500);
      for (int i = 0; i < 5; i++) wait_async(c, "web", BLX_VM_WAIT_GONE, WAIT_MS, &h);
      blx_client_close(c);
      blx_client_close(lonely);
      ck_assert_uint_eq(h.count, 15);
      ck_assert_uint_eq(h.cancelled, 15);
    }
  close_node();
}
END_TEST

START_TEST(waits__are_bounded_and_count_as_two_calls) {
  struct heard h = HEARD_INIT;
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_THREAD);
  create("web", 1, 1);
  blx_client *c = open_client(blx_node_address(node), BLX_COMPLETIONS_THREAD);
  for (unsigned i = 0; i < MOST; i++) wait_async(c, "web", BLX_PHASE_RUNNING, WAIT_MS, &h);
  ck_assert_int_eq(blx_vm_wait_async(c, "web", BLX_PHASE_RUNNING, WAIT_MS, NULL, on_vm, &h, &err), BLX_E_BUSY);
  ck_assert_int_eq(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, &err), BLX_E_BUSY);
  ck_assert_uint_eq(h.count, 0);
  verb(blx_vm_start, "web");
  hear(&h, MOST);
  ck_assert_uint_eq(h.told_vm, MOST);
  ck_assert_msg(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, &err) == 0, "%s", err.message);
  blx_client_close(c);
  close_node();
}
END_TEST

struct chain {
  struct heard h;
  struct blx_uv uv;
  int blocking;
  unsigned stopped;
};

static void on_stopped(void *user) {
  ((struct chain *)user)->stopped++;
}

static void on_chain(void *user, const blx_error *err, struct blx_vm *vm) {
  struct chain *c = user;
  on_vm(&c->h, err, vm);
  c->blocking = blx_vm_wait(client, "web", BLX_PHASE_STOPPED, 100, NULL, NULL, NULL);
  if (c->h.count < 3)
    ck_assert_int_eq(blx_vm_wait_async(client, "web", BLX_PHASE_STOPPED, WAIT_MS, NULL, on_chain, c, NULL), 0);
  else
    blx_uv_stop(&c->uv, on_stopped, c);
}

START_TEST(completion_of_a_wait__on_a_libuv_loop_may_wait_again_but_not_block) {
  struct chain c = {.h = HEARD_INIT};
  uv_loop_t loop;
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_DISPATCH);
  create("web", 1, 1);
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_msg(blx_uv_start_node(&c.uv, &loop, node, &err) == 0, "%s", err.message);
  ck_assert_int_eq(blx_vm_wait_async(client, "web", BLX_PHASE_STOPPED, WAIT_MS, NULL, on_chain, &c, NULL), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_uint_eq(c.h.told_vm, 3);
  ck_assert_uint_eq(c.stopped, 1);
  ck_assert_int_eq(c.blocking, BLX_E_MISUSE);
  ck_assert(pthread_equal(c.h.thread, pthread_self()));
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  close_node();
}
END_TEST

START_TEST(wait__outlives_a_restart_of_the_daemon) {
  struct heard h = HEARD_INIT;
  char address[256];
  open_node(BLX_COMPLETIONS_THREAD);
  create("web", 1, 1);
  (void)blx__str_copy(address, sizeof address, blx_node_address(node));
  blx_client *c = open_client(address, BLX_COMPLETIONS_THREAD);
  wait_async(c, "web", BLX_PHASE_RUNNING, WAIT_MS, &h);
  usleep(100000);
  blx_client_close(client);
  blx_node_close(node);
  usleep(600000); /* it asks in vain, too */
  node = api_reopen_node(BLX_COMPLETIONS_THREAD);
  client = api_client_of(node);
  verb(blx_vm_start, "web");
  hear(&h, 1);
  ck_assert_msg(h.code == 0, "%s", h.message);
  blx_client_close(c);
  close_node();
}
END_TEST

BLX_TEST_MAIN("api/wait", wait__completes_in_the_dispatch_with_the_vm_as_it_is_then,
              wait__for_pause_and_resume_is_for_every_instance, wait__that_ends_badly_says_why,
              close__ends_every_wait_once_before_it_returns, waits__are_bounded_and_count_as_two_calls,
              completion_of_a_wait__on_a_libuv_loop_may_wait_again_but_not_block,
              wait__outlives_a_restart_of_the_daemon)
