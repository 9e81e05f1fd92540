/* What is no open handle: closed, of another kind or process, too many, or closed while others use it. */
#include "support.h"

#include "io/file.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

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

START_TEST(closed_handles__are_misuse_for_ever_and_closing_them_again_is_nothing) {
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  struct blx_vm_logs_request logs = BLX_VM_LOGS_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  struct blx_event *event = NULL;
  struct blx_log_chunk *chunk = NULL;
  blx_watch *w = NULL;
  blx_vm_logs *l = NULL;
  open_all();
  blx_node *closed_node = node;
  blx_client *closed = new_client();
  logs.name = "web";
  ck_assert_int_eq(blx_watch_open(closed, &watch, &w, NULL), 0);
  ck_assert_int_eq(blx_vm_logs_open(closed, &logs, &l, NULL), 0);
  blx_watch_close(w);
  blx_vm_logs_close(l);
  blx_client_close(closed);
  for (int round = 0; round < 100; round++) { /* new handles in the old ones' places */
    blx_client *other = new_client();
    ck_assert_ptr_ne(other, closed);
    blx_client_close(closed);
    blx_watch_close(w);
    blx_vm_logs_close(l);
    ck_assert_int_eq(blx_vm_list_get(other, &list, &result, NULL), 0);
    blx_vm_list_free(result);
    blx_client_close(other);
  }
  REFUSED(BLX_E_MISUSE, blx_vm_list_get(closed, &list, &result, &err));
  REFUSED(BLX_E_MISUSE, blx_watch_open(closed, &watch, &w, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_wait(closed, "web", 0, 1000, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_client_fd(closed, &err));
  REFUSED(BLX_E_MISUSE, blx_client_dispatch(closed, 0, &err));
  REFUSED(BLX_E_MISUSE, blx_watch_next(w, 0, &event, &err));
  REFUSED(BLX_E_MISUSE, blx_vm_logs_next(l, 0, &chunk, &err));
  close_all();
  blx_node_close(closed_node);
  REFUSED(BLX_E_MISUSE, blx_node_client(closed_node, &closed, &err));
  REFUSED(BLX_E_MISUSE, blx_node_fd(closed_node, &err));
  ck_assert_str_eq(blx_node_address(closed_node), "");
}
END_TEST

START_TEST(what_is_no_handle_or_one_of_another_kind__is_misuse) {
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  struct blx_event *event = NULL;
  struct blx_consensus_status *status = NULL;
  blx_watch *w = NULL;
  uint64_t memory[8] = {0}, uid = 0;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_placement_request place = BLX_PLACEMENT_REQUEST_INIT;
  place.spec = &spec;
  open_all();
  ck_assert_int_eq(blx_watch_open(client, &watch, &w, NULL), 0);
  void *const wrong[] = {memory, (void *)(uintptr_t)1, (void *)(uintptr_t)-1, (void *)(uintptr_t)INTPTR_MIN, node, w};
  for (size_t i = 0; i < BLX__COUNT(wrong); i++) {
    REFUSED(BLX_E_MISUSE, blx_vm_list_get(wrong[i], &list, &result, &err));
    REFUSED(BLX_E_MISUSE, blx_consensus_status_get(wrong[i], &status, &err));
    REFUSED(BLX_E_MISUSE, blx_placement_choose(wrong[i], &place, &uid, &err));
    blx_client_close(wrong[i]);
    blx_consensus_close(wrong[i]);
    blx_placement_close(wrong[i]);
  }
  REFUSED(BLX_E_MISUSE, blx_watch_next((blx_watch *)(void *)client, 0, &event, &err));
  REFUSED(BLX_E_MISUSE, blx_node_client((blx_node *)(void *)client, &client, &err));
  blx_watch_close((blx_watch *)(void *)client);
  blx_node_close((blx_node *)(void *)client);
  ck_assert_int_eq(blx_vm_list_get(client, &list, &result, NULL), 0);
  blx_vm_list_free(result);
  ck_assert_int_eq(blx_watch_next(w, WAIT_MS, &event, NULL), 1);
  blx_event_free(event);
  blx_watch_close(w);
  close_all();
}
END_TEST

/* More than there may be: placements are the cheapest. Then a million one after the other, in the memory of one. */
START_TEST(a_million_handles__at_once_are_busy_and_in_turn_take_no_memory) {
  enum { MILLION = 1000000, AT_ONCE = 65536 };
  static blx_placement *all[AT_ONCE];
  struct blx_placement_options o = BLX_PLACEMENT_OPTIONS_INIT;
  blx_placement *p = NULL;
  blx_error busy = {0};
  size_t n = 0, refused = 0;
  o.nodes_max = 1;
  while (n < AT_ONCE && blx_placement_open(&o, &all[n], &busy) == 0) n++;
  ck_assert_uint_eq(n, AT_ONCE);
  for (size_t i = n; i < MILLION; i++) refused += blx_placement_open(&o, &p, &busy) == BLX_E_BUSY;
  ck_assert_uint_eq(refused, MILLION - AT_ONCE);
  ck_assert_ptr_nonnull(strstr(busy.message, "65536 handles"));
  struct blx_client_options client_options = BLX_CLIENT_OPTIONS_INIT;
  const char *const address[] = {"/tmp/x"};
  blx_client *c = NULL;
  client_options.addresses = address;
  client_options.n_addresses = 1;
  REFUSED(BLX_E_BUSY, blx_client_open(&client_options, &c, &err));
  while (n > 0) blx_placement_close(all[--n]);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  size_t good = 0;
  for (size_t i = 0; i < MILLION; i++) {
    bool opened = blx_placement_open(&o, &p, NULL) == 0;
    blx_placement_close(p);
    good += opened && blx_placement_remove_node(p, 1, NULL) == BLX_E_MISUSE;
  }
  ck_assert_uint_eq(good, MILLION);
  getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps what is freed for a while */
  ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 4096);
#endif
}
END_TEST

/* ---- wrong threads and wrong times */

static void *read_events(void *arg) {
  struct blx_event *event = NULL;
  int rc;
  while ((rc = blx_watch_next(arg, WAIT_MS, &event, NULL)) == 1) blx_event_free(event);
  return (void *)(intptr_t)rc;
}

static void *wait_for_vm(void *arg) {
  return (void *)(intptr_t)blx_vm_wait(arg, "never", BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, NULL);
}

static void *list_for_ever(void *arg) {
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  int rc;
  while ((rc = blx_vm_list_get(arg, &list, &result, NULL)) == 0) blx_vm_list_free(result);
  return (void *)(intptr_t)rc;
}

START_TEST(a_watch_and_a_client_closed_under_their_callers__send_them_away) {
  enum { THREADS = 4, ROUNDS = 10 };
  struct blx_watch_request watch = BLX_WATCH_REQUEST_INIT;
  open_all();
  for (useconds_t round = 0; round < ROUNDS; round++) {
    pthread_t reader, callers[THREADS];
    blx_client *c = new_client();
    blx_watch *w = NULL;
    void *rc = NULL;
    ck_assert_int_eq(blx_watch_open(c, &watch, &w, NULL), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_events, w), 0);
    for (size_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&callers[i], NULL, list_for_ever, c), 0);
    usleep(round * 1000);
    blx_watch_close(w);
    blx_client_close(c);
    pthread_join(reader, &rc);
    ck_assert((intptr_t)rc == BLX_E_CANCELLED || (intptr_t)rc == BLX_E_MISUSE);
    for (size_t i = 0; i < THREADS; i++) {
      pthread_join(callers[i], &rc);
      ck_assert((intptr_t)rc == BLX_E_CANCELLED || (intptr_t)rc == BLX_E_MISUSE);
    }
  }
  close_all();
}
END_TEST

static void *close_client(void *arg) {
  blx_client_close(arg);
  return NULL;
}

START_TEST(a_client_closed_during_a_wait_for_a_vm__cancels_it) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  pthread_t waiter;
  void *rc = NULL;
  open_all();
  spec.name = "never";
  spec.flake = "path:/nowhere#web";
  spec.vcpus = 512;
  spec.has_replicas = 1;
  spec.replicas = 100; /* more than there is room for: some stay Pending */
  request.spec = &spec;
  ck_assert_int_eq(blx_vm_create(client, &request, &vm, NULL), 0);
  blx_vm_free(vm);
  blx_client *c = new_client();
  ck_assert_int_eq(pthread_create(&waiter, NULL, wait_for_vm, c), 0);
  usleep(300000);
  blx_client_close(c);
  pthread_join(waiter, &rc);
  ck_assert_int_eq((int)(intptr_t)rc, BLX_E_CANCELLED);
  close_all();
}
END_TEST

START_TEST(a_client_closed_by_many_threads_at_once__is_closed_by_one) {
  enum { THREADS = 8, ROUNDS = 10 };
  open_all();
  for (int round = 0; round < ROUNDS; round++) {
    pthread_t threads[THREADS];
    blx_client *c = new_client();
    for (size_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, close_client, c), 0);
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  }
  close_all();
}
END_TEST

START_TEST(handles_of_each_kind_in_a_child_of_fork__are_misuse_there_and_go_on_in_the_parent) {
  struct blx_client_options o = BLX_CLIENT_OPTIONS_INIT;
  struct blx_vm_list_request list = BLX_VM_LIST_REQUEST_INIT;
  struct blx_vm_list *result = NULL;
  blx_placement *p = NULL;
  blx_client *c = NULL, *mine = NULL;
  open_all();
  const char *const address[] = {blx_node_address(node)};
  o.addresses = address;
  o.n_addresses = 1;
  o.completions = BLX_COMPLETIONS_DISPATCH;
  ck_assert_int_eq(blx_client_open(&o, &c, NULL), 0);
  ck_assert_int_eq(blx_placement_open(NULL, &p, NULL), 0);
  pid_t child = fork();
  if (child == 0) {
    bool refused = blx_client_dispatch(c, 0, NULL) == BLX_E_MISUSE && blx_client_fd(c, NULL) == BLX_E_MISUSE &&
                   blx_placement_remove_node(p, 1, NULL) == BLX_E_MISUSE &&
                   blx_node_client(node, &mine, NULL) == BLX_E_MISUSE && *blx_node_address(node) == 0;
    blx_placement_close(p);
    blx_client_close(c);
    blx_placement *own = NULL; /* what the child opens is its own */
    bool works =
        blx_placement_open(NULL, &own, NULL) == 0 && blx_placement_remove_node(own, 1, NULL) == BLX_E_NOT_FOUND;
    _exit(refused && works ? 0 : 1);
  }
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  ck_assert_int_eq(blx_vm_list_get(c, &list, &result, NULL), 0);
  blx_vm_list_free(result);
  ck_assert_int_eq(blx_placement_remove_node(p, 1, NULL), BLX_E_NOT_FOUND);
  blx_placement_close(p);
  blx_client_close(c);
  close_all();
}
END_TEST

/* ---- members of the consensus part alone */

static int apply_nothing(void *user, const void *op, size_t op_len, blx_output *answer) {
  (void)user;
  (void)op;
  (void)op_len;
  (void)answer;
  return 0;
}

static int snapshot_nothing(void *user, blx_output *out) {
  (void)user;
  return blx_output_add(out, "x", 1);
}

static int restore_nothing(void *user, const void *snapshot, size_t snapshot_len) {
  (void)user;
  (void)snapshot;
  (void)snapshot_len;
  return 0;
}

static void *propose_for_ever(void *arg) {
  int rc;
  while ((rc = blx_consensus_propose(arg, "op", 2, NULL, NULL)) != BLX_E_MISUSE && rc != BLX_E_CANCELLED) continue;
  return NULL;
}

START_TEST(a_member_closed_under_its_callers__turns_them_away_and_is_misuse_from_then_on) {
  enum { THREADS = 4 };
  char dir[64];
  pthread_t threads[THREADS];
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  blx_consensus *c = NULL;
  struct blx_consensus_status *status = NULL;
  blx_error why = {0};
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-handles-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  fsm.apply = apply_nothing;
  fsm.snapshot = snapshot_nothing;
  fsm.restore = restore_nothing;
  o.dir = dir;
  o.uid = 1;
  o.fsm = &fsm;
  o.unsafe_fs = 1;
  o.heartbeat_ms = 20;
  o.election_ms = 200;
  ck_assert_msg(blx_consensus_bootstrap(&o, &why) == 0, "%s", why.message);
  ck_assert_msg(blx_consensus_open(&o, &c, &why) == 0, "%s", why.message);
  for (size_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, propose_for_ever, c), 0);
  usleep(300000);
  blx_consensus_close(c);
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  blx_consensus_close(c);
  REFUSED(BLX_E_MISUSE, blx_consensus_propose(c, "op", 2, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_consensus_read(c, NULL, NULL, &err));
  REFUSED(BLX_E_MISUSE, blx_consensus_status_get(c, &status, &err));
  REFUSED(BLX_E_MISUSE, blx_consensus_set_address(c, 2, "/tmp/x", &err));
  REFUSED(BLX_E_MISUSE, blx_consensus_poison(c, BLX_E_IO, "no more", &err));
  REFUSED(BLX_E_MISUSE, blx_consensus_transfer(c, 0, &err));
  ck_assert_uint_eq(blx_consensus_leader(c), 0);
  ck_assert_int_eq(blx__dir_remove_tree(dir, &why).code, 0);
}
END_TEST

BLX_TEST_MAIN("api/handles", closed_handles__are_misuse_for_ever_and_closing_them_again_is_nothing,
              what_is_no_handle_or_one_of_another_kind__is_misuse,
              a_million_handles__at_once_are_busy_and_in_turn_take_no_memory,
              a_watch_and_a_client_closed_under_their_callers__send_them_away,
              a_client_closed_during_a_wait_for_a_vm__cancels_it,
              a_client_closed_by_many_threads_at_once__is_closed_by_one,
              handles_of_each_kind_in_a_child_of_fork__are_misuse_there_and_go_on_in_the_parent,
              a_member_closed_under_its_callers__turns_them_away_and_is_misuse_from_then_on)
