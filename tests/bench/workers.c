/* Many workers in one process: each joins, follows its share and has its lease renewed by the calls between members,
 * over a connection of its own, as a worker's daemon does. Then VMs are created, and the clock runs until every
 * assignment has come to its worker. Prints one line of JSON. usage: workers WORKERS VMS REPLICAS report|silent|idle
 * SOCKET...   With `report` each worker tells after 100 ms that what it was given runs; with `idle` no VM is created:
 * once all are there that is said, and they live on until the process is ended, with a line each second of how many
 * leases were renewed so far and how many were not. */
#include "io/loop.h"
#include "io/timer.h"
#include "rpc/conn.h"
#include "schema/codec.h"
#include "schema/internal.h"
#include "schema/rpc_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
  WORKERS_MAX = 5000,
  VMS_MAX = 100,
  REPLICAS_MAX = 1000,
  SOCKETS_MAX = 7,
  JOINS_AT_ONCE = 32,
  TICK_MS = 30,
  TICKS = 100,   /* to one renewal of each worker's lease: 3 s, lease.renew_ms */
  A_SECOND = 33, /* ticks */
  REPORT_MS = 100,
  REPORTS_MAX = 64,
};

struct seen {
  uint64_t uid, epoch;
};

struct worker {
  struct blx__rpc_conn *conn;
  struct blx__timer *reporter;
  struct seen *untold; /* not reported yet */
  size_t untold_count, untold_room;
  uint64_t uid, asked;
  uint32_t number;
  bool known;
};

static struct {
  struct blx__loop *loop;
  struct blx__timer *ticker;
  struct worker *workers;
  uint32_t count, joining, joined, known, ticked;
  unsigned long vms, replicas;
  bool report, idle;
  const char *const *sockets;
  size_t socket_count;
  uint64_t granted, refused; /* renewals */
  uint64_t assigned, told, begun_ns, first_ns, last_ns, started_ns;
} all;

static uint64_t now_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void need(bool ok, const char *what, const blx_error *err) {
  if (ok) return;
  fprintf(stderr, "workers: %s%s%s\n", what, err ? ": " : "", err ? err->message : "");
  exit(1);
}

static void *decode(enum blx__rpc_id id, struct blx__arena *arena, struct blx__slice bytes) {
  void *out = NULL;
  blx_error err = {0};
  need(blx__msg_decode(blx__rpc_rows()[id].response(), arena, bytes, &out, &err).code == 0, "a bad answer", &err);
  return out;
}

/* A unary call, or with @ops a stream. */
static void ask(struct blx__rpc_conn *conn, enum blx__rpc_id id, const void *message, blx__rpc_done_fn *done,
                const struct blx__rpc_stream_ops *ops, void *user) {
  blx_error err = {0};
  struct blx__buf body;
  blx__buf_init(&body, 64 << 10);
  need(blx__msg_encode(blx__rpc_rows()[id].request(), message, &body, &err).code == 0, "a bad request", &err);
  struct blx__rpc_request request = {.path = blx__rpc_rows()[id].path, .body = {body.data, body.len}};
  if (!ops) request.deadline_ms = 60000;
  blx__rc rc = ops ? blx__rpc_stream(conn, &request, ops, user, NULL, &err)
                   : blx__rpc_unary(conn, &request, done, user, NULL, &err);
  need(rc.code == 0, "a call cannot be made", &err);
  blx__buf_free(&body);
}

/* ---- the end */

static void finish(void) {
  double took = (double)(all.last_ns - all.first_ns) / 1e9, whole = (double)(all.last_ns - all.begun_ns) / 1e9;
  printf("{\"workers\": %u, \"assignments\": %llu, \"per_second\": %.0f, \"with_creates_per_second\": %.0f, "
         "\"joined_s\": %.2f}\n",
         all.count, (unsigned long long)all.assigned, (double)all.assigned / took, (double)all.assigned / whole,
         (double)(all.begun_ns - all.started_ns) / 1e9);
  fflush(stdout);
  exit(0);
}

/* ---- VMs */

static void created(void *user, const struct blx__rpc_result *result) {
  (void)user;
  need(!result->err, "a VM was not created", result->err);
}

static void create_all(void) {
  all.begun_ns = now_ns();
  for (unsigned long i = 0; i < all.vms; i++) {
    char name[32];
    (void)blx__str_format(name, sizeof name, "wide-%lux", i);
    struct blx_label kind = {.struct_size = sizeof kind, .key = "bench", .value = "worker"}, *selector[] = {&kind};
    struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
    spec.name = name;
    spec.flake = "path:/bench#none";
    spec.memory_mib = 64;
    spec.replicas = (uint32_t)all.replicas;
    spec.has_replicas = 1;
    spec.strategy = BLX_STRATEGY_LOAD_BALANCED;
    spec.node_selector = selector;
    spec.n_node_selector = 1;
    struct blx_vm_create_request request = {.struct_size = sizeof request, .spec = &spec};
    ask(all.workers[i % all.count].conn, BLX__RPC_VM_CREATE, &request, created, NULL, NULL);
  }
}

static void all_known(void) {
  if (!all.idle) {
    create_all();
    return;
  }
  printf("{\"workers\": %u, \"joined_s\": %.2f}\n", all.count, (double)(now_ns() - all.started_ns) / 1e9);
  fflush(stdout);
}

/* ---- a worker's life */

static void reported(void *user, const struct blx__rpc_result *result) {
  struct worker *w = user;
  need(!result->err, "a report was not taken", result->err);
  if (w->untold_count > 0) blx__timer_start(w->reporter, REPORT_MS, 0);
  if (all.report && all.told == (uint64_t)all.vms * all.replicas) {
    all.last_ns = now_ns();
    finish();
  }
}

static void on_report(void *arg) {
  struct worker *w = arg;
  struct blx_instance_report reports[REPORTS_MAX], *list[REPORTS_MAX];
  size_t n = w->untold_count < REPORTS_MAX ? w->untold_count : REPORTS_MAX;
  for (size_t i = 0; i < n; i++) {
    const struct seen *s = &w->untold[w->untold_count - 1 - i];
    reports[i] = (struct blx_instance_report)BLX_INSTANCE_REPORT_INIT;
    reports[i].instance_uid = s->uid;
    reports[i].epoch = s->epoch;
    reports[i].seq = 1;
    reports[i].phase = BLX_PHASE_RUNNING;
    list[i] = &reports[i];
  }
  w->untold_count -= n;
  all.told += n;
  struct blx_report_request request = {
      .struct_size = sizeof request, .node_uid = w->uid, .incarnation = w->number + 1u};
  request.reports = list;
  request.n_reports = n;
  ask(w->conn, BLX__RPC_REPORT, &request, reported, NULL, w);
}

static void note(struct worker *w, const struct blx_assignment *a) {
  if (w->untold_count == w->untold_room) {
    w->untold_room = w->untold_room ? 2 * w->untold_room : 16;
    w->untold = realloc(w->untold, w->untold_room * sizeof *w->untold);
    need(w->untold != NULL, "no memory", NULL);
  }
  if (w->untold_count == 0) blx__timer_start(w->reporter, REPORT_MS, 0);
  w->untold[w->untold_count++] = (struct seen){a->instance_uid, a->epoch};
}

static bool on_part(void *user, struct blx__slice message) {
  struct worker *w = user;
  struct blx__arena arena = {.limit_bytes = 16 << 20};
  const struct blx_share_part *part = decode(BLX__RPC_SHARE, &arena, message);
  if (part->known && !w->known) {
    w->known = true;
    if (++all.known == all.count) all_known();
  }
  uint64_t now = part->n_assignments > 0 ? now_ns() : 0;
  if (now && all.assigned == 0) all.first_ns = now;
  if (now && !all.report) all.last_ns = now;
  for (size_t i = 0; i < part->n_assignments; i++) {
    all.assigned++;
    if (all.report) note(w, part->assignments[i]);
  }
  blx__arena_free(&arena);
  if (!all.report && !all.idle && all.assigned == (uint64_t)all.vms * all.replicas) finish();
  return true;
}

static void on_share_end(void *user, const struct blx__rpc_result *result) {
  (void)user;
  need(false, "a share ended", result->err);
}

static uint64_t wall_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Of a lease that is not renewed a worker asks again with its next question. */
static void renewed(void *user, const struct blx__rpc_result *result) {
  struct worker *w = user;
  struct blx__arena arena = {.limit_bytes = 64 << 10};
  const struct blx_renew_reply *reply = result->err ? NULL : decode(BLX__RPC_RENEW, &arena, result->response);
  bool granted = reply && reply->n_grants == 1 && reply->grants[0]->answer == BLX_LEASE_ANSWER_GRANTED;
  need(!granted || reply->grants[0]->node_uid == w->uid, "another one's lease", NULL);
  all.granted += granted;
  all.refused += !granted;
  blx__arena_free(&arena);
}

static void renew(struct worker *w) {
  struct blx_lease_ask question = {.struct_size = sizeof question, .node_uid = w->uid, .seq = ++w->asked};
  question.incarnation = w->number + 1u;
  question.wall_ms = wall_ms();
  struct blx_lease_ask *asks[] = {&question};
  struct blx_renew_request request = {.struct_size = sizeof request, .asks = asks, .n_asks = 1};
  ask(w->conn, BLX__RPC_RENEW, &request, renewed, NULL, w);
}

static void join_next(void);

static void on_joined(void *user, const struct blx__rpc_result *result) {
  static const struct blx__rpc_stream_ops ops = {on_part, on_share_end};
  struct worker *w = user;
  struct blx__arena arena = {.limit_bytes = 16 << 20};
  need(!result->err, "a worker did not join", result->err);
  const struct blx_member_join_reply *reply = decode(BLX__RPC_MEMBER_JOIN, &arena, result->response);
  w->uid = reply->uid;
  all.joined++;
  blx__arena_free(&arena);
  struct blx_share_request request = {.struct_size = sizeof request, .node_uid = w->uid, .incarnation = w->number + 1u};
  ask(w->conn, BLX__RPC_SHARE, &request, NULL, &ops, w);
  renew(w);
  join_next();
}

static void join_next(void) {
  if (all.joining == all.count) return;
  struct worker *w = &all.workers[all.joining];
  char name[32], address[64];
  w->number = all.joining++;
  (void)blx__str_format(name, sizeof name, "w%u", w->number);
  (void)blx__str_format(address, sizeof address, "unix:/nonexistent/%s.sock", name);
  struct blx_label kind = {.struct_size = sizeof kind, .key = "bench", .value = "worker"}, *labels[] = {&kind};
  struct blx_resources capacity = {.struct_size = sizeof capacity, .vcpus = 4096, .memory_mib = 1 << 20};
  struct blx_node_info me = {.struct_size = sizeof me, .name = name, .address = address, .peer_address = address};
  int32_t runs[] = {BLX_HYPERVISOR_QEMU};
  me.role = BLX_NODE_ROLE_WORKER;
  me.incarnation = w->number + 1u;
  me.capacity = &capacity;
  me.labels = labels;
  me.n_labels = 1;
  me.hypervisors = runs;
  me.n_hypervisors = 1;
  me.simulated = 1;
  blx_error err = {0};
  need(blx__rpc_conn_new(all.loop, all.sockets[w->number % all.socket_count], &w->conn, &err).code == 0,
       "no connection", &err);
  w->reporter = blx__timer_new(all.loop, on_report, w);
  need(w->reporter != NULL, "no memory", NULL);
  struct blx_member_join_request request = {.struct_size = sizeof request, .node = &me};
  ask(w->conn, BLX__RPC_MEMBER_JOIN, &request, on_joined, NULL, w);
}

static void on_tick(void *arg) {
  (void)arg;
  if (all.idle && all.known == all.count && all.ticked % A_SECOND == 0) {
    printf("{\"renewed\": %llu, \"not_renewed\": %llu}\n", (unsigned long long)all.granted,
           (unsigned long long)all.refused);
    fflush(stdout);
  }
  for (uint32_t i = all.ticked++ % TICKS; i < all.count; i += TICKS)
    if (all.workers[i].uid != 0) renew(&all.workers[i]);
}

static unsigned long number(const char *text, uint64_t max) {
  uint64_t value = 0;
  return blx__parse_u64(text, 1, max, &value) ? (unsigned long)value : 0;
}

int main(int argc, char **argv) {
  all.count = argc > 5 ? (uint32_t)number(argv[1], WORKERS_MAX) : 0;
  all.vms = argc > 5 ? number(argv[2], VMS_MAX) : 0;
  all.replicas = argc > 5 ? number(argv[3], REPLICAS_MAX) : 0;
  if (all.count == 0 || all.vms == 0 || all.replicas == 0 || argc - 5 > SOCKETS_MAX) {
    fprintf(stderr, "usage: workers WORKERS(1..%d) VMS(1..%d) REPLICAS(1..%d) report|silent|idle SOCKET...\n",
            WORKERS_MAX, VMS_MAX, REPLICAS_MAX);
    return 2;
  }
  all.report = strcmp(argv[4], "report") == 0;
  all.idle = strcmp(argv[4], "idle") == 0;
  all.sockets = (const char *const *)argv + 5;
  all.socket_count = (size_t)(argc - 5);
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
  }
  all.workers = calloc(all.count, sizeof *all.workers);
  blx_error err = {0};
  need(all.workers != NULL, "no memory", NULL);
  need(blx__loop_new(&all.loop, &err).code == 0, "no loop", &err);
  all.ticker = blx__timer_new(all.loop, on_tick, NULL);
  need(all.ticker != NULL, "no memory", NULL);
  all.started_ns = now_ns();
  blx__timer_start(all.ticker, TICK_MS, TICK_MS);
  for (unsigned i = 0; i < JOINS_AT_ONCE; i++) join_next();
  blx__loop_run(all.loop);
  return 0;
}
