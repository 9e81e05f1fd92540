/* The whole library through its public headers, with simulated VMs: one node, then three. */
#include "../harness.h"

#include <blixard/blixard.h>
#include "io/file.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void) {
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-api-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void) {
  blx_error err;
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}

static void log_line(void *user, int level, const char *component, const char *message) {
  (void)level;
  if (getenv("BLX_TEST_LOG")) fprintf(stderr, "%s %s: %s\n", (const char *)user, component, message);
}

static blx_node *open_node(const char *name, int bootstrap) {
  char data[96];
  static struct blx_resources capacity = {.struct_size = sizeof capacity, .vcpus = 8, .memory_mib = 1024};
  (void)blx__str_format(data, sizeof data, "%s/%s", dir, name);
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  o.data_dir = data;
  o.name = name;
  o.bootstrap = (uint32_t)bootstrap;
  o.simulate_vms = 1;
  o.capacity = &capacity;
  o.heartbeat_ms = 50;
  o.election_ms = 500;
  o.log = log_line;
  o.log_user = (void *)(uintptr_t)name;
  o.log_level = BLX_LOG_DEBUG;
  blx_node *node = NULL;
  blx_error err = {0};
  ck_assert_msg(blx_node_open(&o, &node, &err) == 0, "%s", err.message);
  return node;
}

static blx_client *client_of(blx_node *node) {
  blx_client *client = NULL;
  blx_error err = {0};
  ck_assert_msg(blx_node_client(node, &client, &err) == 0, "%s", err.message);
  return client;
}

static int create(blx_client *client, const char *name, uint32_t replicas, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  spec.name = name;
  spec.flake = "path:/nowhere#web";
  spec.has_replicas = 1;
  spec.replicas = replicas;
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  req.spec = &spec;
  struct blx_vm *vm = NULL;
  int rc = blx_vm_create(client, &req, &vm, err);
  blx_vm_free(vm);
  return rc;
}

static int named(int (*verb)(blx_client *, const struct blx_vm_name_request *, struct blx_vm **, blx_error *),
                 blx_client *client, const char *name, blx_error *err) {
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  req.name = name;
  struct blx_vm *vm = NULL;
  int rc = verb(client, &req, &vm, err);
  blx_vm_free(vm);
  return rc;
}

#define OK(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.message)

START_TEST(one_node__takes_a_vm_through_its_life) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  blx_error err = {0};
  OK(create(c, "web", 2, &err));
  ck_assert_int_eq(create(c, "web", 2, &err), BLX_E_EXISTS);
  struct blx_vm *vm = NULL;
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 10000, NULL, &vm, &err));
  ck_assert_uint_eq(vm->n_instances, 2);
  ck_assert_str_eq(vm->instances[1]->name, "web-2");
  ck_assert_str_eq(vm->instances[1]->node, "a");
  blx_vm_free(vm);
  OK(named(blx_vm_stop, c, "web", &err));
  OK(blx_vm_wait(c, "web", BLX_PHASE_STOPPED, 10000, NULL, NULL, &err));
  OK(named(blx_vm_start, c, "web", &err));
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 10000, NULL, NULL, &err));
  OK(named(blx_vm_delete, c, "web", &err));
  OK(blx_vm_wait(c, "web", -1, 10000, NULL, NULL, &err));
  ck_assert_int_eq(named(blx_vm_get, c, "web", &err), BLX_E_NOT_FOUND);
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

static uint64_t create_keyed(blx_client *client, const char *key, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  spec.name = "web";
  spec.flake = "path:/nowhere#web";
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  req.spec = &spec;
  req.request_id = key;
  struct blx_vm *vm = NULL;
  if (blx_vm_create(client, &req, &vm, err) != 0) return 0;
  uint64_t uid = vm->uid;
  ck_assert_str_eq(vm->spec->name, "web");
  blx_vm_free(vm);
  return uid;
}

START_TEST(a_repeated_create__is_answered_with_its_own_vm_when_that_is_gone_and_when_another_has_the_name) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  blx_error err = {0};
  uint64_t first = create_keyed(c, "first", &err);
  ck_assert_msg(first != 0, "%s", err.message);
  OK(named(blx_vm_delete, c, "web", &err));
  OK(blx_vm_wait(c, "web", -1, 10000, NULL, NULL, &err));
  ck_assert_msg(create_keyed(c, "first", &err) == first, "%s", err.message);
  ck_assert_int_eq(named(blx_vm_get, c, "web", &err), BLX_E_NOT_FOUND);
  uint64_t second = create_keyed(c, "second", &err);
  ck_assert_msg(second > first, "%s", err.message);
  ck_assert_msg(create_keyed(c, "first", &err) == first, "%s", err.message);
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

START_TEST(one_node__is_after_a_restart_what_it_was) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  blx_error err = {0};
  OK(create(c, "web", 1, &err));
  OK(create(c, "db", 1, &err));
  OK(named(blx_vm_stop, c, "db", &err));
  OK(blx_vm_wait(c, "db", BLX_PHASE_STOPPED, 10000, NULL, NULL, &err));
  blx_client_close(c);
  blx_node_close(node);
  node = open_node("a", 1);
  c = client_of(node);
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  OK(blx_vm_list_get(c, &req, &list, &err));
  ck_assert_uint_eq(list->n_vms, 2);
  ck_assert_str_eq(list->vms[0]->spec->name, "db");
  ck_assert_int_eq(list->vms[0]->desired, BLX_DESIRED_STOPPED);
  blx_vm_list_free(list);
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 20000, NULL, NULL, &err));
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

START_TEST(a_second_node_on_the_directory__is_refused) {
  make_dir();
  blx_node *node = open_node("a", 1);
  char data[96];
  (void)blx__str_format(data, sizeof data, "%s/a", dir);
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  o.data_dir = data;
  o.name = "a";
  blx_node *second = NULL;
  blx_error err = {0};
  ck_assert_int_eq(blx_node_open(&o, &second, &err), BLX_E_BUSY);
  ck_assert_ptr_null(second);
  blx_node_close(node);
  remove_dir();
}
END_TEST

START_TEST(misuse__is_answered_and_harmless) {
  blx_error err = {0};
  ck_assert_int_eq(blx_node_open(NULL, NULL, &err), BLX_E_MISUSE);
  struct blx_node_options o = {0};
  blx_node *node = NULL;
  ck_assert_int_eq(blx_node_open(&o, &node, &err), BLX_E_MISUSE);
  blx_node_close(NULL);
  blx_client_close(NULL);
  blx_vm_free(NULL);
  ck_assert_int_eq(create(NULL, "web", 1, &err), BLX_E_MISUSE);
  struct blx_client_options co = BLX_CLIENT_OPTIONS_INIT;
  blx_client *c = NULL;
  ck_assert_int_eq(blx_client_open(&co, &c, &err), BLX_E_INVALID);
  ck_assert_int_eq(blx_vm_wait(NULL, "web", 3, 1, NULL, NULL, NULL), BLX_E_MISUSE);
}
END_TEST

/* ---- a blocking call from a completion */

struct nested {
  blx_client *client;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  int code, done;
};

static void nested_done(void *user, const blx_error *why, struct blx_vm_list *result) {
  struct nested *n = user;
  ck_assert_ptr_null(why);
  blx_vm_list_free(result);
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  pthread_mutex_lock(&n->lock);
  n->code = blx_vm_list_get(n->client, &req, &list, NULL);
  n->done = 1;
  pthread_cond_signal(&n->cond);
  pthread_mutex_unlock(&n->lock);
}

START_TEST(a_blocking_call_from_a_completion__is_misuse) {
  make_dir();
  blx_node *node = open_node("a", 1);
  struct nested n = {.client = client_of(node), .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  blx_error err = {0};
  OK(blx_vm_list_get_async(n.client, &req, nested_done, &n, &err));
  pthread_mutex_lock(&n.lock);
  while (!n.done) pthread_cond_wait(&n.cond, &n.lock);
  pthread_mutex_unlock(&n.lock);
  ck_assert_int_eq(n.code, BLX_E_MISUSE);
  blx_client_close(n.client);
  blx_node_close(node);
  remove_dir();
}
END_TEST

START_TEST(watch__begins_with_what_there_is_and_goes_on_in_order) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  blx_error err = {0};
  OK(create(c, "web", 1, &err));
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 10000, NULL, NULL, &err));
  struct blx_watch_request req = BLX_WATCH_REQUEST_INIT;
  blx_watch *w = NULL;
  OK(blx_watch_open(c, &req, &w, &err));
  static const char *const first[] = {"a", "web", "web-1"};
  uint64_t index = 0;
  for (size_t i = 0; i < 3; i++) {
    struct blx_event *e = NULL;
    ck_assert_int_eq(blx_watch_next(w, 5000, &e, &err), 1);
    ck_assert_str_eq(e->name, first[i]);
    index = e->index;
    blx_event_free(e);
  }
  OK(named(blx_vm_delete, c, "web", &err));
  int gone = 0;
  while (!gone) {
    struct blx_event *e = NULL;
    ck_assert_int_eq(blx_watch_next(w, 5000, &e, &err), 1);
    ck_assert_uint_ge(e->index, index);
    index = e->index;
    gone = e->kind == BLX_EVENT_KIND_VM && e->type == BLX_EVENT_TYPE_DELETED;
    blx_event_free(e);
  }
  blx_watch_close(w);
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

/* Events of a watch that ends by itself; the index of the last. */
static size_t count_once(blx_client *c, struct blx_watch_request *req, uint64_t *last) {
  blx_watch *w = NULL;
  blx_error err = {0};
  size_t n = 0;
  req->once = 1;
  OK(blx_watch_open(c, req, &w, &err));
  for (;; n++) {
    struct blx_event *e = NULL;
    int rc = blx_watch_next(w, 5000, &e, &err);
    ck_assert_msg(rc >= 0, "%s", err.message);
    if (rc == 0) break;
    ck_assert_uint_ge(e->index, *last);
    *last = e->index;
    blx_event_free(e);
  }
  blx_watch_close(w);
  return n;
}

START_TEST(watch_of_what_is_kept__begins_with_the_oldest_and_ends_by_itself) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  blx_error err = {0};
  OK(create(c, "web", 1, &err));
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 10000, NULL, NULL, &err));
  uint64_t last = 0, again = 0;
  struct blx_watch_request kept = BLX_WATCH_REQUEST_INIT, later = BLX_WATCH_REQUEST_INIT;
  kept.kept = 1;
  ck_assert_uint_ge(count_once(c, &kept, &last), 5); /* the node and the VM came, the instance went through phases */
  later.since_index = last;
  ck_assert_uint_eq(count_once(c, &later, &again), 0);
  later.since_index = last - 1;
  ck_assert_uint_ge(count_once(c, &later, &again), 1);
  ck_assert_uint_eq(again, last);
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

enum { BIG_VMS = 400, BIG_LABELS = 64 };

/* A VM of some 17 KB. */
static void create_big(blx_client *c, unsigned number) {
  static char keys[BIG_LABELS][8], value[251];
  struct blx_label rows[BIG_LABELS], *labels[BIG_LABELS];
  struct blx_vm_create_request req = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm *vm = NULL;
  blx_error err = {0};
  char name[16];
  memset(value, 'v', sizeof value - 1);
  for (unsigned i = 0; i < BIG_LABELS; i++) {
    (void)blx__str_format(keys[i], sizeof keys[i], "k%u", i);
    rows[i] = (struct blx_label){.struct_size = sizeof rows[i], .key = keys[i], .value = value};
    labels[i] = &rows[i];
  }
  (void)blx__str_format(name, sizeof name, "big%04u", number);
  spec.name = name;
  spec.flake = "path:/nowhere#web";
  spec.labels = labels;
  spec.n_labels = BIG_LABELS;
  req.spec = &spec;
  req.stopped = 1;
  OK(blx_vm_create(c, &req, &vm, &err));
  blx_vm_free(vm);
}

/* Every name once and in order, over as many parts as there are. */
static unsigned count_parts(blx_client *c, uint32_t limit) {
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  char after[64] = "", expected[16];
  unsigned parts = 0, seen = 0;
  do {
    struct blx_vm_list *list = NULL;
    blx_error err = {0};
    req.limit = limit;
    req.after = after;
    OK(blx_vm_list_get(c, &req, &list, &err));
    ck_assert(list->n_vms > 0 && list->n_vms <= limit);
    for (size_t i = 0; i < list->n_vms; i++) {
      (void)blx__str_format(expected, sizeof expected, "big%04u", seen++);
      ck_assert_str_eq(list->vms[i]->spec->name, expected);
    }
    (void)blx__str_copy(after, sizeof after, list->next ? list->next : "");
    blx_vm_list_free(list);
    parts++;
  } while (after[0] != '\0');
  ck_assert_uint_eq(seen, BIG_VMS);
  return parts;
}

START_TEST(a_list_too_long_for_one_answer__is_refused_whole_and_comes_in_parts) {
  make_dir();
  blx_node *node = open_node("a", 1);
  blx_client *c = client_of(node);
  for (unsigned i = 0; i < BIG_VMS; i++) create_big(c, i);
  struct blx_vm_list_request all = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  blx_error err = {0};
  ck_assert_int_eq(blx_vm_list_get(c, &all, &list, &err), BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "limit"));
  ck_assert_uint_eq(count_parts(c, 100), 4);
  unsigned parts = count_parts(c, 100000);
  ck_assert(parts >= 2 && parts <= 4);
  blx_client_close(c);
  blx_node_close(node);
  remove_dir();
}
END_TEST

START_TEST(describe__tells_what_the_tables_say_and_nothing_of_the_inside) {
  static const char vcpus[] =
      "{\"name\":\"vcpus\",\"type\":\"u32\",\"min\":1,\"max\":512,\"default\":1,\"doc\":\"virtual CPUs\"}";
  char *text = NULL;
  blx_error err = {0};
  OK(blx_describe("vm_spec", &text, &err));
  ck_assert_ptr_nonnull(strstr(text, vcpus));
  ck_assert_ptr_nonnull(strstr(text, "\"unit\":\"MiB\""));
  blx_string_free(text);
  OK(blx_describe("phase", &text, &err));
  ck_assert_ptr_nonnull(strstr(text, "{\"name\":\"Running\",\"number\":3,"));
  blx_string_free(text);
  OK(blx_describe(NULL, &text, &err));
  ck_assert_ptr_nonnull(strstr(text, "\"node_info\""));
  ck_assert_ptr_null(strstr(text, "\"op\""));
  blx_string_free(text);
  text = NULL;
  ck_assert_int_eq(blx_describe("op", &text, &err), BLX_E_NOT_FOUND);
  ck_assert_ptr_null(text);
  ck_assert_int_eq(blx_describe("vm", NULL, &err), BLX_E_MISUSE);
}
END_TEST

static void join(blx_node *node, blx_node *member) {
  blx_client *c = client_of(node);
  struct blx_cluster_join_request req = BLX_CLUSTER_JOIN_REQUEST_INIT;
  req.address = blx_node_address(member);
  struct blx_cluster_status *st = NULL;
  blx_error err = {0};
  OK(blx_cluster_join(c, &req, &st, &err));
  ck_assert_str_ne(st->id, "");
  blx_cluster_status_free(st);
  blx_client_close(c);
}

START_TEST(three_nodes__spread_replicas_and_any_of_them_answers) {
  make_dir();
  blx_node *n[3] = {open_node("a", 1), open_node("b", 0), open_node("c", 0)};
  blx_client *outside = client_of(n[1]);
  blx_error err = {0};
  ck_assert_int_eq(create(outside, "web", 1, &err), BLX_E_CONFLICT);
  blx_client_close(outside);
  join(n[1], n[0]);
  join(n[2], n[1]);
  blx_client *c = client_of(n[2]);
  OK(create(c, "web", 3, &err));
  struct blx_vm *vm = NULL;
  OK(blx_vm_wait(c, "web", BLX_PHASE_RUNNING, 20000, NULL, &vm, &err));
  ck_assert_str_ne(vm->instances[0]->node, vm->instances[1]->node);
  ck_assert_str_ne(vm->instances[1]->node, vm->instances[2]->node);
  ck_assert_str_ne(vm->instances[0]->node, vm->instances[2]->node);
  blx_vm_free(vm);
  OK(named(blx_vm_delete, c, "web", &err));
  OK(blx_vm_wait(c, "web", -1, 20000, NULL, NULL, &err));
  blx_client_close(c);
  for (int i = 2; i >= 0; i--) blx_node_close(n[i]);
  remove_dir();
}
END_TEST

START_TEST(three_nodes__go_on_when_the_leader_is_closed) {
  make_dir();
  blx_node *n[3] = {open_node("a", 1), open_node("b", 0), open_node("c", 0)};
  join(n[1], n[0]);
  join(n[2], n[0]);
  blx_client *c = client_of(n[0]);
  blx_error err = {0};
  OK(create(c, "one", 1, &err));
  blx_client_close(c);
  blx_node_close(n[0]);
  c = client_of(n[1]);
  OK(create(c, "two", 1, &err));
  struct blx_vm_list_request req = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *list = NULL;
  OK(blx_vm_list_get(c, &req, &list, &err));
  ck_assert_uint_eq(list->n_vms, 2);
  blx_vm_list_free(list);
  OK(blx_vm_wait(c, "two", BLX_PHASE_RUNNING, 20000, NULL, NULL, &err));
  blx_client_close(c);
  blx_node_close(n[1]);
  blx_node_close(n[2]);
  remove_dir();
}
END_TEST

BLX_TEST_MAIN("api", misuse__is_answered_and_harmless, one_node__takes_a_vm_through_its_life,
              a_repeated_create__is_answered_with_its_own_vm_when_that_is_gone_and_when_another_has_the_name,
              one_node__is_after_a_restart_what_it_was, a_second_node_on_the_directory__is_refused,
              a_blocking_call_from_a_completion__is_misuse, watch__begins_with_what_there_is_and_goes_on_in_order,
              watch_of_what_is_kept__begins_with_the_oldest_and_ends_by_itself,
              a_list_too_long_for_one_answer__is_refused_whole_and_comes_in_parts,
              describe__tells_what_the_tables_say_and_nothing_of_the_inside,
              three_nodes__spread_replicas_and_any_of_them_answers, three_nodes__go_on_when_the_leader_is_closed)
