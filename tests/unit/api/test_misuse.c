/* The public functions called in every way they do not allow: one code and a sentence, and nothing breaks. */
#include "support.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANDLES = 10000, READERS = 8, CALLS = 64, WAIT_MS = 20000 };

static blx_node *node;
static blx_client *client;

static blx_client *new_client(void) {
  return api_client_of(node);
}

static void open_all(void) {
  node = api_open_node(BLX_COMPLETIONS_THREAD);
  client = new_client();
}

static void close_all(void) {
  api_close(node, client);
}

START_TEST(null__is_misuse_everywhere_and_free_of_it_is_allowed) {
  struct blx_vm *vm = NULL;
  struct blx_vm_name_request name = BLX_VM_NAME_REQUEST_INIT;
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  void *message = NULL;
  char *text = NULL;
  name.name = "web";
  open_all();
  REFUSED(BLX_E_MISUSE, blx_vm_get(NULL, &name, &vm, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_get(client, NULL, &vm, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_get(client, &name, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_get_async(client, &name, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_get_async(NULL, &name, (blx_vm_fn)(uintptr_t)1, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait(NULL, "web", 0, 1, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait(client, NULL, 0, 1, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait(client, "web", 0, 0, NULL, NULL, &err));
  REFUSED(BLX_E_INVALID, blx_vm_wait(client, "web", 99, 1000, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_watch_open(client, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_watch_next(NULL, 0, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_logs_next(NULL, 0, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_stats_next(NULL, 0, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_stats_open(client, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_node_open(NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_node_client(NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_node_client(node, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_client_open(&options, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_to_json("vm", NULL, &text, &err));
  REFUSED(BLX_E_INVALID, blx_to_json(NULL, &name, &text, &err));
  REFUSED(BLX_E_MISUSE, blx_from_json("vm", NULL, 0, &message, &err));
  REFUSED(BLX_E_INVALID, blx_from_json(NULL, "{}", 2, &message, &err));
  ck_assert_int_eq(blx_vm_get(NULL, NULL, NULL, NULL), BLX_E_MISUSE);
  blx_vm_free(NULL);
  blx_message_free(NULL);
  blx_string_free(NULL);
  blx_watch_close(NULL);
  blx_vm_logs_close(NULL);
  blx_stats_close(NULL);
  blx_node_stats_free(NULL);
  blx_client_close(NULL);
  blx_node_close(NULL);
  close_all();
}
END_TEST

static int open_client(const char *const *addresses, size_t count, blx_error *err) {
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  blx_client *c = NULL;
  o.addresses = addresses;
  o.n_addresses = count;
  int rc = blx_client_open(&o, &c, err);
  ck_assert((rc == 0) == (c != NULL));
  blx_client_close(c);
  return rc;
}

START_TEST(addresses__that_are_none_are_refused) {
  static const char *const empty[] = {"unix:/tmp/x", ""}, *const null[] = {NULL}, *const good[] = {"/tmp/x"};
  static char endless[4096];
  const char *const longest[] = {endless};
  memset(endless, 'a', sizeof endless - 1);
  endless[0] = '/';
  REFUSED(BLX_E_INVALID, open_client(NULL, 1, &err));
  REFUSED(BLX_E_INVALID, open_client(good, 0, &err));
  REFUSED(BLX_E_INVALID, open_client(good, SIZE_MAX, &err));
  REFUSED(BLX_E_INVALID, open_client(empty, 2, &err));
  REFUSED(BLX_E_INVALID, open_client(null, 1, &err));
  REFUSED(BLX_E_INVALID, open_client(longest, 1, &err));
}
END_TEST

static int create(const struct blx_vm_create_request *request, blx_error *err) {
  struct blx_vm *vm = NULL;
  int rc = blx_vm_create(client, request, &vm, err);
  ck_assert((rc == 0) == (vm != NULL));
  blx_vm_free(vm);
  return rc;
}

START_TEST(structs__of_another_size_or_with_arrays_that_are_not_there_are_refused) {
  static struct {
    struct blx_vm_create_request request;
    unsigned char tail[64];
  } newer;
  static char endless[3 << 20];
  memset(endless, 'a', sizeof endless - 1);
  open_all();
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request good = BLX_VM_CREATE_REQUEST_INIT, bad;
  spec.name = "web";
  spec.flake = "path:/nowhere#web";
  good.spec = &spec;
  for (size_t size = 0; size < 16; size++) {
    bad = good;
    bad.struct_size = size;
    REFUSED(BLX_E_UNSUPPORTED, create(&bad, &err));
  }
  newer.request = good;
  newer.request.struct_size = sizeof newer;
  newer.tail[63] = 1;
  REFUSED(BLX_E_UNSUPPORTED, create(&newer.request, &err));
  newer.request.struct_size = SIZE_MAX;
  REFUSED(BLX_E_UNSUPPORTED, create(&newer.request, &err));
  bad = good;
  bad.config = (struct blx_bytes){NULL, 100};
  REFUSED(BLX_E_INVALID, create(&bad, &err));
  bad.config = (struct blx_bytes){(const uint8_t *)endless, SIZE_MAX};
  REFUSED(BLX_E_INVALID, create(&bad, &err));
  spec.n_labels = 5;
  REFUSED(BLX_E_INVALID, create(&good, &err));
  spec.n_labels = SIZE_MAX;
  REFUSED(BLX_E_INVALID, create(&good, &err));
  struct blx_label *none[2] = {NULL, NULL};
  spec.labels = none;
  spec.n_labels = 2;
  REFUSED(BLX_E_INVALID, create(&good, &err));
  spec.labels = NULL;
  spec.n_labels = 0;
  spec.name = endless;
  REFUSED(BLX_E_INVALID, create(&good, &err));
  spec.name = "web\xff";
  REFUSED(BLX_E_INVALID, create(&good, &err));
  spec.name = "web";
  newer.tail[63] = 0;
  newer.request.struct_size = sizeof newer;
  blx_error err = {0};
  ck_assert_msg(create(&newer.request, &err) == 0, "a tail of zeroes: %s", err.message);
  close_all();
}
END_TEST

START_TEST(node_options__that_make_no_sense_open_nothing) {
  struct {
    struct blx_node_options options;
    unsigned char tail[8];
  } newer = {0};
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  blx_node *n = NULL;
  static char endless[300];
  memset(endless, 'a', sizeof endless - 1);
  o.name = "a";
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.data_dir = endless;
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.data_dir = "/proc/nowhere";
  ck_assert_int_lt(blx_node_open(&o, &n, NULL), 0);
  o.data_dir = "/tmp/blx-misuse-none";
  o.name = "../x";
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.name = "a";
  o.socket_path = endless;
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.socket_path = NULL;
  o.election_ms = 50;
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.election_ms = 0;
  o.n_labels = 3;
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  o.struct_size = 0;
  REFUSED(BLX_E_MISUSE, blx_node_open(&o, &n, &err));
  newer.options = o;
  newer.options.struct_size = sizeof newer;
  newer.tail[7] = 1;
  REFUSED(BLX_E_UNSUPPORTED, blx_node_open(&newer.options, &n, &err));
  o.struct_size = sizeof o;
  o.n_labels = 0;
  o.completions = 2;
  REFUSED(BLX_E_INVALID, blx_node_open(&o, &n, &err));
  ck_assert_ptr_null(n);
  ck_assert_int_ne(access("/tmp/blx-misuse-none", F_OK), 0);
}
END_TEST

struct seen {
  sem_t sem;
  int code, inner;
  unsigned count;
  pthread_mutex_t lock;
};

static void on_status(void *user, const blx_error *err, struct blx_cluster_status *result) {
  struct seen *s = user;
  struct blx_cluster_status_request req = BLX_CLUSTER_STATUS_REQUEST_INIT;
  struct blx_cluster_status *again = NULL;
  pthread_mutex_lock(&s->lock);
  s->inner = blx_cluster_status_get(client, &req, &again, NULL);
  s->code = err ? err->code : 0;
  s->count++;
  pthread_mutex_unlock(&s->lock);
  blx_cluster_status_free(again);
  blx_cluster_status_free(result);
  blx_client_close(client); /* not from here: nothing happens */
  sem_post(&s->sem);
}

START_TEST(completions__may_neither_block_nor_close) {
  struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER};
  struct blx_cluster_status_request req = BLX_CLUSTER_STATUS_REQUEST_INIT;
  blx_error err = {0};
  sem_init(&s.sem, 0, 0);
  open_all();
  ck_assert_msg(blx_cluster_status_get_async(client, &req, on_status, &s, &err) == 0, "%s", err.message);
  sem_wait(&s.sem);
  ck_assert_int_eq(s.inner, BLX_E_MISUSE);
  struct blx_cluster_status *status = NULL;
  ck_assert_int_eq(blx_cluster_status_get(client, &req, &status, &err), 0);
  blx_cluster_status_free(status);
  close_all();
  sem_destroy(&s.sem);
}
END_TEST

static void count_one(void *user, const blx_error *err, struct blx_vm_list *result) {
  struct seen *s = user;
  pthread_mutex_lock(&s->lock);
  s->count++;
  s->code = err ? err->code : s->code;
  pthread_mutex_unlock(&s->lock);
  blx_vm_list_free(result);
}

START_TEST(client_closed__with_calls_in_flight_and_readers_open__completes_each_call_once) {
  struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER};
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  blx_watch *watches[READERS];
  open_all();
  blx_client *c = new_client();
  for (unsigned i = 0; i < READERS; i++) ck_assert_int_eq(blx_watch_open(c, &watch, &watches[i], NULL), 0);
  for (unsigned i = 0; i < CALLS; i++) ck_assert_int_eq(blx_vm_list_get_async(c, &list, count_one, &s, NULL), 0);
  blx_client_close(c);
  ck_assert_uint_eq(s.count, CALLS);
  for (unsigned i = 0; i < READERS; i++) {
    struct blx_event *event = NULL;
    REFUSED(BLX_E_MISUSE, blx_watch_next(watches[i], 1000, &event, &err));
    blx_watch_close(watches[i]);
  }
  close_all();
}
END_TEST

START_TEST(node_closed__with_clients_and_readers_open__they_hear_it_and_close_as_ever) {
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  struct blx_event *event = NULL;
  blx_watch *w = NULL;
  open_all();
  ck_assert_int_eq(blx_watch_open(client, &watch, &w, NULL), 0);
  ck_assert_int_eq(blx_watch_next(w, WAIT_MS, &event, NULL), 1);
  blx_event_free(event);
  blx_node_close(node);
  node = NULL;
  int rc;
  while ((rc = blx_watch_next(w, WAIT_MS, &event, NULL)) == 1) blx_event_free(event);
  ck_assert_int_eq(rc, BLX_E_UNAVAILABLE);
  REFUSED(BLX_E_UNAVAILABLE, blx_vm_list_get(client, &list, &result, &err));
  blx_watch_close(w);
  close_all();
}
END_TEST

START_TEST(handles_in_a_child_of_fork__are_misuse_and_their_close_does_nothing) {
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  blx_watch *w = NULL;
  open_all();
  ck_assert_int_eq(blx_watch_open(client, &watch, &w, NULL), 0);
  pid_t child = fork();
  if (child == 0) {
    bool refused = blx_vm_list_get(client, &list, &result, NULL) == BLX_E_MISUSE;
    blx_watch_close(w);
    blx_client_close(client);
    blx_node_close(node);
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  ck_assert_int_eq(blx_vm_list_get(client, &list, &result, NULL), 0);
  blx_vm_list_free(result);
  blx_watch_close(w);
  close_all();
}
END_TEST

START_TEST(handles_until_descriptors_run_out__the_last_is_refused_and_the_others_go_on) {
  static blx_client *clients[HANDLES];
  struct rlimit before, low;
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  open_all();
  ck_assert_int_eq(blx_vm_list_get(client, &list, &result, NULL), 0);
  blx_vm_list_free(result);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
  low = before;
  low.rlim_cur = 200;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
  const char *const address[] = {blx_node_address(node)};
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  o.addresses = address;
  o.n_addresses = 1;
  size_t n = 0;
  blx_error err = {0};
  while (n < HANDLES && blx_client_open(&o, &clients[n], &err) == 0) n++;
  ck_assert_uint_gt(n, 10);
  ck_assert_uint_lt(n, HANDLES);
  ck_assert_msg(strlen(err.message) > 10 && err.code != 0, "%s", err.message);
  ck_assert_int_eq(blx_vm_list_get(client, &list, &result, &err), 0);
  blx_vm_list_free(result);
  while (n > 0) blx_client_close(clients[--n]);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
  ck_assert_int_eq(blx_client_open(&o, &clients[0], &err), 0);
  blx_client_close(clients[0]);
  close_all();
}
END_TEST

BLX_TEST_MAIN("api/misuse", null__is_misuse_everywhere_and_free_of_it_is_allowed, addresses__that_are_none_are_refused,
              structs__of_another_size_or_with_arrays_that_are_not_there_are_refused,
              node_options__that_make_no_sense_open_nothing, completions__may_neither_block_nor_close,
              client_closed__with_calls_in_flight_and_readers_open__completes_each_call_once,
              node_closed__with_clients_and_readers_open__they_hear_it_and_close_as_ever,
              handles_in_a_child_of_fork__are_misuse_and_their_close_does_nothing,
              handles_until_descriptors_run_out__the_last_is_refused_and_the_others_go_on)
