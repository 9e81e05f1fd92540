/* Completions through an eventfd, and on a libuv loop: where they run, in which order, how many wait, and what a close
 * does with those that nobody dispatched. */
#include "support.h"

#include <blixard/uv.h>
#include "base/rc.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 20000, CALLS = 200, EVENTS = 1500 };

static blx_node *node;
static blx_client *client;

static void open_node(int32_t completions) {
  node = api_open_node(completions);
  client = api_client_of(node);
}

static void close_node(void) {
  api_close(node, client);
}

/* A client that nobody answers. */
static blx_client *open_lonely(int32_t completions) {
  const char *const address[] = {"unix:/tmp/blx-dispatch-nobody"};
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  blx_client *c = NULL;
  blx_error err = {0};
  o.addresses = address;
  o.n_addresses = 1;
  o.completions = completions;
  ck_assert_msg(blx_client_open(&o, &c, &err) == 0, "%s", err.message);
  return c;
}

/* Wait until the descriptor is readable, then dispatch. */
static int wait_and_dispatch(blx_node *n, uint32_t max) {
  struct pollfd fd = {.fd = blx_node_fd(n, NULL), .events = POLLIN};
  ck_assert_int_eq(poll(&fd, 1, WAIT_MS), 1);
  return blx_node_dispatch(n, max, NULL);
}

static int readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0);
}

/* ---- calls */

struct seen {
  pthread_t thread; /* where all of them should run */
  unsigned count, cancelled, failed;
  size_t order[CALLS]; /* numbers in the order of completion */
  int inner;           /* what a blocking call said from inside */
  int dispatch;        /* what a dispatch said from inside */
  blx_client *client;
};

struct numbered {
  struct seen *seen;
  size_t number;
};

static void on_list(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct seen *s = user;
  ck_assert(pthread_equal(s->thread, pthread_self()));
  ck_assert((err == NULL) == (result != NULL));
  s->count++;
  if (err && err->code == BLX_E_CANCELLED)
    s->cancelled++;
  else if (err)
    s->failed++;
  blx_vm_list_free(result);
}

static void on_numbered(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct numbered *n = user;
  n->seen->order[n->seen->count] = n->number;
  on_list(n->seen, err, result);
}

static int list_async(blx_client *c, blx_vm_list_fn fn, void *user, blx_error *err) {
  struct blx_vm_list_request request = BLX_VM_LIST_REQUEST_INIT;
  return blx_vm_list_get_async(c, &request, fn, user, err);
}

START_TEST(completions__run_in_the_dispatch_and_nowhere_else_in_their_order) {
  struct seen s = {.thread = pthread_self()};
  static struct numbered numbered[CALLS];
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_DISPATCH);
  ck_assert_int_eq(blx_node_dispatch(node, 0, &err), 0);
  for (size_t i = 0; i < CALLS; i++) {
    numbered[i] = (struct numbered){&s, i};
    ck_assert_msg(list_async(client, on_numbered, &numbered[i], &err) == 0, "%s", err.message);
  }
  ck_assert_uint_eq(s.count, 0);
  while (s.count < CALLS) ck_assert_int_gt(wait_and_dispatch(node, 0), 0);
  ck_assert_uint_eq(s.failed + s.cancelled, 0);
  bool seen[CALLS] = {false};
  for (size_t i = 0; i < CALLS; i++) seen[s.order[i]] = true;
  for (size_t i = 0; i < CALLS; i++) ck_assert_msg(seen[i], "call %zu", i);
  ck_assert_int_eq(blx_node_dispatch(node, 0, &err), 0);
  ck_assert_int_eq(readable(blx_node_fd(node, NULL)), 0);
  close_node();
}
END_TEST

START_TEST(a_dispatch_of_a_few__leaves_the_others_and_the_descriptor_says_so) {
  struct seen s = {.thread = pthread_self()};
  open_node(BLX_COMPLETIONS_DISPATCH);
  int fd = blx_node_fd(node, NULL);
  ck_assert_int_eq(fd, blx_client_fd(client, NULL));
  for (int i = 0; i < 10; i++) ck_assert_int_eq(list_async(client, on_list, &s, NULL), 0);
  ck_assert_int_eq(wait_and_dispatch(node, 1), 1);
  while (s.count < 9) s.count == 8 ? (void)wait_and_dispatch(node, 1) : (void)wait_and_dispatch(node, 2);
  uint64_t drained;
  struct pollfd p = {.fd = fd, .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
  ck_assert_int_eq((int)read(fd, &drained, sizeof drained), (int)sizeof drained);
  ck_assert_int_eq(blx_client_dispatch(client, 0, NULL), 1); /* an embedder may read the descriptor */
  ck_assert_int_eq(readable(fd), 0);
  close_node();
}
END_TEST

static void on_reentrant(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct seen *s = user;
  struct blx_vm_list_request request = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *again = NULL;
  on_list(user, err, result);
  s->inner = blx_vm_list_get(client, &request, &again, NULL);
  s->dispatch = blx_node_dispatch(node, 0, NULL);
  blx_client_close(client);
  blx_node_close(node);
  ck_assert_int_eq(list_async(client, on_list, s, NULL), 0);
}

START_TEST(inside_a_completion__blocking_dispatching_and_closing_are_refused_and_submitting_is_not) {
  struct seen s = {.thread = pthread_self()};
  struct blx_vm_list_request request = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  open_node(BLX_COMPLETIONS_DISPATCH);
  ck_assert_int_eq(list_async(client, on_reentrant, &s, NULL), 0);
  ck_assert_int_eq(wait_and_dispatch(node, 0), 1);
  ck_assert_int_eq(s.inner, BLX_E_MISUSE);
  ck_assert_int_eq(s.dispatch, BLX_E_MISUSE);
  ck_assert_int_eq(wait_and_dispatch(node, 0), 1);
  ck_assert_uint_eq(s.count, 2);
  /* A blocking call needs no dispatch. */
  ck_assert_int_eq(blx_vm_list_get(client, &request, &list, NULL), 0);
  blx_vm_list_free(list);
  close_node();
}
END_TEST

START_TEST(a_close__runs_what_nobody_dispatched_on_the_thread_that_closes_before_it_returns) {
  struct seen s = {.thread = pthread_self()};
  open_node(BLX_COMPLETIONS_DISPATCH);
  blx_client *other = NULL;
  ck_assert_int_eq(blx_node_client(node, &other, NULL), 0);
  struct seen theirs = {.thread = pthread_self()};
  ck_assert_int_eq(list_async(other, on_list, &theirs, NULL), 0);
  struct pollfd fd = {.fd = blx_node_fd(node, NULL), .events = POLLIN};
  ck_assert_int_eq(poll(&fd, 1, WAIT_MS), 1);
  for (int i = 0; i < CALLS; i++) ck_assert_int_eq(list_async(client, on_list, &s, NULL), 0);
  blx_client_close(client);
  ck_assert_uint_eq(s.count, CALLS);
  ck_assert_uint_eq(s.failed, 0);
  ck_assert_uint_eq(theirs.count, 0); /* another client's wait for their dispatch */
  ck_assert_int_eq(readable(fd.fd), 1);
  ck_assert_int_eq(blx_node_dispatch(node, 0, NULL), 1);
  ck_assert_uint_eq(theirs.count, 1);
  blx_client_close(other);
  close_node();
}
END_TEST

START_TEST(calls_that_nobody_dispatches__are_bounded_and_cancelled_by_the_close) {
  struct seen s = {.thread = pthread_self()};
  blx_error err = {0};
  blx_client *c = open_lonely(BLX_COMPLETIONS_DISPATCH);
  unsigned accepted = 0;
  while (accepted <= BLX_CLIENT_CALLS_MAX && list_async(c, on_list, &s, &err) == 0) accepted++;
  ck_assert_uint_eq(accepted, BLX_CLIENT_CALLS_MAX);
  ck_assert_int_eq(err.code, BLX_E_BUSY);
  ck_assert_ptr_nonnull(strstr(err.message, "dispatch"));
  struct pollfd p = {.fd = blx_client_fd(c, NULL), .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
  usleep(1000000); /* nobody answers: most of them are done, none is told */
  ck_assert_uint_eq(s.count, 0);
  ck_assert_int_eq(list_async(c, on_list, &s, &err), BLX_E_BUSY);
  ck_assert_int_eq(blx_client_dispatch(c, 10, &err), 10);
  ck_assert_uint_eq(s.failed, 10);
  ck_assert_int_eq(list_async(c, on_list, &s, &err), 0);
  blx_client_close(c);
  ck_assert_uint_eq(s.count, BLX_CLIENT_CALLS_MAX + 1);
  ck_assert_uint_ge(s.cancelled, 1); /* the last, at least */
  ck_assert_uint_eq(s.cancelled + s.failed, BLX_CLIENT_CALLS_MAX + 1);
}
END_TEST

START_TEST(a_client_without_dispatch__has_no_descriptor_and_completes_on_its_thread) {
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_THREAD);
  ck_assert_int_eq(blx_node_fd(node, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_node_dispatch(node, 0, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_client_fd(client, &err), BLX_E_MISUSE);
  ck_assert_int_eq(blx_client_dispatch(client, 0, &err), BLX_E_MISUSE);
  close_node();
}
END_TEST

/* ---- two threads */

static void *dispatch_until_closed(void *arg) {
  while (blx_client_dispatch(arg, 0, NULL) != BLX_E_MISUSE) usleep(100);
  return NULL;
}

static void on_any_thread(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct seen *s = user;
  (void)err;
  s->count++; /* one dispatch at a time: no two of these run at once */
  blx_vm_list_free(result);
}

START_TEST(a_close_beside_a_dispatching_thread__completes_each_call_once) {
  open_node(BLX_COMPLETIONS_THREAD);
  for (int round = 0; round < 20; round++) {
    struct seen s = {.count = 0};
    const char *const address[] = {blx_node_address(node)};
    struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
    blx_client *c = NULL;
    pthread_t thread;
    o.addresses = address;
    o.n_addresses = 1;
    o.completions = BLX_COMPLETIONS_DISPATCH;
    ck_assert_int_eq(blx_client_open(&o, &c, NULL), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, dispatch_until_closed, c), 0);
    for (int i = 0; i < CALLS; i++) ck_assert_int_eq(list_async(c, on_any_thread, &s, NULL), 0);
    usleep((useconds_t)round * 300);
    blx_client_close(c);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(s.count, CALLS);
  }
  close_node();
}
END_TEST

static void *dispatch_once(void *arg) {
  return (void *)(intptr_t)blx_node_dispatch(arg, 0, NULL);
}

static void on_slow(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct seen *s = user;
  pthread_t other;
  void *rc = NULL;
  on_list(user, err, result);
  ck_assert_int_eq(pthread_create(&other, NULL, dispatch_once, node), 0);
  pthread_join(other, &rc);
  s->dispatch = (int)(intptr_t)rc;
}

START_TEST(a_second_dispatching_thread__is_misuse) {
  struct seen s = {.thread = pthread_self()};
  open_node(BLX_COMPLETIONS_DISPATCH);
  ck_assert_int_eq(list_async(client, on_slow, &s, NULL), 0);
  ck_assert_int_eq(wait_and_dispatch(node, 0), 1);
  ck_assert_int_eq(s.dispatch, BLX_E_MISUSE);
  close_node();
}
END_TEST

/* ---- a node that stops itself, because no file can be written; libcheck's neither, so that nothing is asserted then
 */

static struct {
  pthread_t thread;
  unsigned count;
  bool elsewhere; /* or without a sentence */
  int code;
} fatal;

static void on_fatal(void *user, int code, const char *text) {
  (void)user;
  fatal.elsewhere = !pthread_equal(fatal.thread, pthread_self()) || strlen(text) <= 10;
  fatal.count++;
  fatal.code = code;
}

static void on_created(void *user, const blx_error *err, struct blx_vm *vm) {
  *(int *)user = err ? err->code : 0;
  blx_vm_free(vm);
}

START_TEST(on_fatal__is_dispatched_like_a_completion) {
  struct rlimit before, none;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  int code = 1;
  fatal.thread = pthread_self();
  fatal.count = 0;
  node = api_open_node_told(BLX_COMPLETIONS_DISPATCH, on_fatal);
  client = api_client_of(node);
  spec.name = "web";
  spec.flake = "path:/nowhere#web";
  request.spec = &spec;
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  none = before;
  none.rlim_cur = 0;
  int rc = setrlimit(RLIMIT_FSIZE, &none);
  if (rc == 0) rc = blx_vm_create_async(client, &request, on_created, &code, NULL);
  for (int ms = 0; rc == 0 && ms < WAIT_MS && (fatal.count == 0 || code == 1); ms++) {
    rc = blx_node_dispatch(node, 0, NULL) < 0;
    usleep(1000);
  }
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
  ck_assert_int_eq(rc, 0);
  ck_assert(!fatal.elsewhere);
  ck_assert_uint_eq(fatal.count, 1);
  ck_assert_int_lt(fatal.code, 0);
  ck_assert_int_lt(code, 0);
  close_node();
  ck_assert_uint_eq(fatal.count, 1);
}
END_TEST

/* ---- watches */

struct watching {
  pthread_t thread;
  blx_watch *watch;
  unsigned events, ends;
  unsigned close_after; /* events; 0: never */
  uint64_t index;
  int code;
};

static void on_event(void *user, const blx_error *err, struct blx_event *event) {
  struct watching *w = user;
  ck_assert(pthread_equal(w->thread, pthread_self()));
  ck_assert_uint_eq(w->ends, 0);
  if (!event) {
    w->ends++;
    w->code = err ? err->code : 0;
    return;
  }
  ck_assert_ptr_null(err);
  ck_assert_uint_ge(event->index, w->index);
  w->index = event->index;
  if (++w->events == w->close_after) blx_watch_close(w->watch);
  blx_event_free(event);
}

static void create_vms(unsigned from, unsigned count) {
  for (unsigned i = from; i < from + count; i++) {
    char name[32];
    struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
    struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
    struct blx_vm *vm = NULL;
    blx_error err = {0};
    (void)blx__str_format(name, sizeof name, "v%u", i);
    spec.name = name;
    spec.flake = "path:/nowhere#web";
    spec.has_replicas = 1;
    spec.replicas = 50;
    request.spec = &spec;
    ck_assert_msg(blx_vm_create(client, &request, &vm, &err) == 0, "%s", err.message);
    blx_vm_free(vm);
  }
}

START_TEST(a_watch_that_is_dispatched__tells_each_event_in_order_and_its_end_once) {
  struct watching w = {.thread = pthread_self()};
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_DISPATCH);
  ck_assert_msg(blx_watch_open_async(client, &request, on_event, &w, &w.watch, &err) == 0, "%s", err.message);
  struct blx_event *event = NULL;
  ck_assert_int_eq(blx_watch_next(w.watch, 0, &event, &err), BLX_E_MISUSE);
  create_vms(0, 2);
  while (w.events < 1 + 2 + 100) (void)wait_and_dispatch(node, 0);
  blx_watch_close(w.watch);
  unsigned before = w.events;
  while (w.ends == 0) (void)wait_and_dispatch(node, 0);
  ck_assert_uint_eq(w.events, before);
  ck_assert_int_eq(w.code, BLX_E_CANCELLED);
  close_node();
  ck_assert_uint_eq(w.ends, 1);
}
END_TEST

START_TEST(a_watch__may_be_closed_by_its_own_function_and_by_the_close_of_its_client) {
  struct watching own = {.thread = pthread_self(), .close_after = 1}, left = {.thread = pthread_self()};
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  open_node(BLX_COMPLETIONS_DISPATCH);
  create_vms(0, 1);
  ck_assert_int_eq(blx_watch_open_async(client, &request, on_event, &own, &own.watch, NULL), 0);
  ck_assert_int_eq(blx_watch_open_async(client, &request, on_event, &left, &left.watch, NULL), 0);
  while (own.ends == 0 || left.events < 2) (void)wait_and_dispatch(node, 1);
  ck_assert_uint_eq(own.events, 1);
  blx_client_close(client);
  ck_assert_uint_eq(left.ends, 1);
  ck_assert_int_eq(left.code, BLX_E_CANCELLED);
  blx_watch_close(left.watch);
  blx_watch_close(left.watch);
  close_node();
}
END_TEST

/* 1,500 objects: more than the 1,024 events that may wait. What is dispatched at once after a while is what waited. */
START_TEST(a_watch_that_nobody_dispatches__stops_the_server_and_goes_on_when_somebody_does) {
  struct watching w = {.thread = pthread_self()};
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  open_node(BLX_COMPLETIONS_DISPATCH);
  create_vms(0, EVENTS / 50);
  ck_assert_int_eq(blx_watch_open_async(client, &request, on_event, &w, &w.watch, NULL), 0);
  usleep(1500000);
  int waited = blx_node_dispatch(node, 0, NULL);
  ck_assert_int_eq(waited, 1024);
  while (w.events < 1 + EVENTS + EVENTS / 50) (void)wait_and_dispatch(node, 0);
  ck_assert_uint_eq(w.ends, 0);
  blx_watch_close(w.watch);
  while (w.ends == 0) (void)wait_and_dispatch(node, 0);
  close_node();
}
END_TEST

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_cond = PTHREAD_COND_INITIALIZER;

static void on_thread_event(void *user, const blx_error *err, struct blx_event *event) {
  struct watching *w = user;
  pthread_mutex_lock(&told_lock);
  w->ends += event == NULL;
  w->code = event == NULL && err ? err->code : w->code;
  if (event && ++w->events == w->close_after) blx_watch_close(w->watch);
  pthread_cond_signal(&told_cond);
  pthread_mutex_unlock(&told_lock);
  blx_event_free(event);
}

START_TEST(a_watch_told_on_the_clients_thread__ends_once_too) {
  struct watching w = {.close_after = 2};
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  open_node(BLX_COMPLETIONS_THREAD);
  create_vms(0, 1);
  pthread_mutex_lock(&told_lock);
  ck_assert_int_eq(blx_watch_open_async(client, &request, on_thread_event, &w, &w.watch, NULL), 0);
  while (w.ends == 0) pthread_cond_wait(&told_cond, &told_lock);
  pthread_mutex_unlock(&told_lock);
  ck_assert_uint_eq(w.events, 2);
  ck_assert_int_eq(w.code, BLX_E_CANCELLED);
  close_node();
  ck_assert_uint_eq(w.ends, 1);
}
END_TEST

/* ---- libuv */

struct looping {
  struct seen seen;
  struct blx_uv uv;
  unsigned stopped;
};

static void on_stopped(void *user) {
  struct looping *l = user;
  l->stopped++;
}

static void on_uv_list(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct looping *l = user;
  on_list(&l->seen, err, result);
  if (l->seen.count < 5)
    ck_assert_int_eq(list_async(client, on_uv_list, l, NULL), 0);
  else
    blx_uv_stop(&l->uv, on_stopped, l);
}

START_TEST(a_libuv_loop__runs_completions_until_it_is_stopped) {
  struct looping l = {.seen.thread = pthread_self()};
  uv_loop_t loop;
  blx_error err = {0};
  open_node(BLX_COMPLETIONS_DISPATCH);
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_msg(blx_uv_start_node(&l.uv, &loop, node, &err) == 0, "%s", err.message);
  ck_assert_int_eq(list_async(client, on_uv_list, &l, NULL), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_uint_eq(l.seen.count, 5);
  ck_assert_uint_eq(l.stopped, 1);
  ck_assert_int_eq(blx_uv_start_node(&l.uv, &loop, NULL, &err), BLX_E_MISUSE);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  close_node();
}
END_TEST

BLX_TEST_MAIN("api/dispatch", completions__run_in_the_dispatch_and_nowhere_else_in_their_order,
              a_dispatch_of_a_few__leaves_the_others_and_the_descriptor_says_so,
              inside_a_completion__blocking_dispatching_and_closing_are_refused_and_submitting_is_not,
              a_close__runs_what_nobody_dispatched_on_the_thread_that_closes_before_it_returns,
              calls_that_nobody_dispatches__are_bounded_and_cancelled_by_the_close,
              a_client_without_dispatch__has_no_descriptor_and_completes_on_its_thread,
              a_close_beside_a_dispatching_thread__completes_each_call_once, a_second_dispatching_thread__is_misuse,
              on_fatal__is_dispatched_like_a_completion,
              a_watch_that_is_dispatched__tells_each_event_in_order_and_its_end_once,
              a_watch__may_be_closed_by_its_own_function_and_by_the_close_of_its_client,
              a_watch_that_nobody_dispatches__stops_the_server_and_goes_on_when_somebody_does,
              a_watch_told_on_the_clients_thread__ends_once_too, a_libuv_loop__runs_completions_until_it_is_stopped)
