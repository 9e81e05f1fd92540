/* Unary calls at full speed through lib/rpc, at a cluster of Blixard or of etcd: the same client for both. Prints one
 * line of JSON. usage: rpc blixard|etcd|raw PREFIX COUNT CONNECTIONS CALLERS SOCKET...   The connections are spread
 * over the sockets, each caller has one call under way. A call creates a VM that is not started, or puts a key: with a
 * request of as many bytes. raw: the same requests as for Blixard, to a process of our own at SOCKET that does nothing
 * but send them back. */
#include "io/loop.h"
#include "rpc/conn.h"
#include "rpc/server.h"
#include "schema/codec.h"
#include "schema/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { COUNT_MAX = 1000000, CONNECTIONS_MAX = 64, CALLERS_MAX = 64, SOCKETS_MAX = 16, BODY_MAX = 4096, HEAD_MAX = 16 };

static const char module[] =
    "{ microvm = { hypervisor = \"qemu\"; vcpu = 1; mem = 64; }; networking.hostName = \"b\"; }";

struct bench {
  struct blx__loop *loop;
  bool etcd;
  const char *prefix;
  uint64_t count, begun, done;
  uint32_t *took_us;
  struct blx__rpc_conn *conns[CONNECTIONS_MAX];
};

struct caller {
  struct bench *bench;
  struct blx__rpc_conn *conn;
  uint64_t began_ns;
};

static uint64_t now_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void need(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "rpc: %s\n", what);
  exit(1);
}

/* ---- requests */

static void create_request(const char *name, struct blx__buf *out) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  spec.name = name;
  spec.config_name = "bench.nix";
  spec.memory_mib = 64;
  request.spec = &spec;
  request.stopped = 1;
  request.config = (struct blx_bytes){(const uint8_t *)module, sizeof module - 1};
  need(blx__msg_encode(blx__desc_vm_create_request(), &request, out, NULL).code == 0, "a request is too long");
}

/* One field of bytes. */
static void put_bytes(struct blx__buf *out, unsigned field, const char *bytes, size_t n) {
  uint8_t head[HEAD_MAX] = {(uint8_t)(field << 3 | 2)};
  size_t at = 1;
  for (size_t rest = n;; rest >>= 7) {
    head[at++] = (uint8_t)((rest & 127) | (rest > 127 ? 128 : 0));
    if (rest <= 127) break;
  }
  need(blx__buf_add(out, head, at) && blx__buf_add(out, bytes, n), "a request is too long");
}

/* etcdserverpb.PutRequest: key, value; as long as the creation of a VM of that name. */
static void put_request(const char *name, struct blx__buf *out) {
  char value[BODY_MAX];
  struct blx__buf like;
  blx__buf_init(&like, BODY_MAX);
  create_request(name, &like);
  size_t key_len = strlen(name), rest = like.len - key_len - 2;
  memset(value, 'v', sizeof value);
  put_bytes(out, 1, name, key_len);
  put_bytes(out, 2, value, rest > 130 ? rest - 3 : rest - 2);
  need(out->len == like.len, "the two requests differ in length");
  blx__buf_free(&like);
}

/* ---- the channel alone */

static const struct blx__rpc_method *find_any(void *user, const char *path) {
  static struct blx__rpc_method method = {.kind = BLX__RPC_UNARY};
  (void)user;
  method.path = path;
  return &method;
}

static void send_back(void *user, struct blx__rpc_call *call, struct blx__slice request) {
  (void)user;
  blx__rpc_call_reply(call, request.data, request.len);
}

/* In a process of its own, which ends with this one. */
static void serve_raw(const char *path) {
  static const struct blx__rpc_service service = {.find = find_any, .on_call = send_back};
  struct blx__rpc_server_options options = {.path = path, .mode = 0600, .service = &service};
  struct blx__loop *loop = NULL;
  struct blx__rpc_server *server = NULL;
  blx_error err = {0};
  int listens[2];
  char c = 0;
  need(pipe(listens) == 0, "no pipe");
  pid_t pid = fork();
  need(pid >= 0, "no process");
  if (pid > 0) {
    need(read(listens[0], &c, 1) == 1, "the channel's other end did not come up");
    return;
  }
  need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && blx__loop_new(&loop, NULL).code == 0, "no loop");
  need(blx__rpc_server_open(loop, &options, &server, &err).code == 0, err.message);
  need(write(listens[1], &c, 1) == 1, "the other end is gone");
  blx__loop_run(loop);
  _exit(0);
}

/* ---- load */

static void next(struct caller *c);

static void on_done(void *user, const struct blx__rpc_result *result) {
  struct caller *c = user;
  struct bench *b = c->bench;
  if (result->err) need(false, result->err->message);
  b->took_us[b->done++] = (uint32_t)((now_ns() - c->began_ns) / 1000);
  if (b->done == b->count)
    blx__loop_stop(b->loop);
  else
    next(c);
}

static void next(struct caller *c) {
  struct bench *b = c->bench;
  char name[64];
  struct blx__buf body;
  blx_error err = {0};
  if (b->begun == b->count) return;
  (void)blx__str_format(name, sizeof name, "%s-%llux", b->prefix, (unsigned long long)(1000000 + b->begun++));
  blx__buf_init(&body, BODY_MAX);
  if (b->etcd)
    put_request(name, &body);
  else
    create_request(name, &body);
  struct blx__rpc_request request = {.body = {body.data, body.len}, .deadline_ms = 60000};
  request.path = b->etcd ? "/etcdserverpb.KV/Put" : "/blixard.v1.Blixard/VmCreate";
  c->began_ns = now_ns();
  need(blx__rpc_unary(c->conn, &request, on_done, c, NULL, &err).code == 0, err.message);
  blx__buf_free(&body);
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void run(struct bench *b, unsigned connections, unsigned callers, char **sockets, unsigned n_sockets) {
  static struct caller all[CONNECTIONS_MAX * CALLERS_MAX];
  blx_error err = {0};
  for (unsigned i = 0; i < connections; i++)
    need(blx__rpc_conn_new(b->loop, sockets[i % n_sockets], &b->conns[i], &err).code == 0, err.message);
  uint64_t began = now_ns();
  for (unsigned i = 0; i < connections * callers; i++) {
    all[i] = (struct caller){.bench = b, .conn = b->conns[i % connections]};
    next(&all[i]);
  }
  blx__loop_run(b->loop);
  double seconds = (double)(now_ns() - began) / 1e9;
  qsort(b->took_us, b->done, sizeof *b->took_us, by_value);
  printf("{\"calls\": %llu, \"per_second\": %.0f, \"p50_us\": %u, \"p99_us\": %u}\n", (unsigned long long)b->done,
         (double)b->done / seconds, b->took_us[b->done / 2], b->took_us[b->done * 99 / 100]);
}

int main(int argc, char **argv) {
  struct bench b = {0};
  uint64_t connections = 0, callers = 0;
  const char *kind = argc >= 7 && argc <= 6 + SOCKETS_MAX ? argv[1] : "";
  b.etcd = strcmp(kind, "etcd") == 0;
  bool raw = strcmp(kind, "raw") == 0;
  bool ok = (b.etcd || raw || strcmp(kind, "blixard") == 0) && blx__parse_u64(argv[3], 1, COUNT_MAX, &b.count) &&
            blx__parse_u64(argv[4], 1, CONNECTIONS_MAX, &connections) &&
            blx__parse_u64(argv[5], 1, CALLERS_MAX, &callers);
  if (!ok) {
    fprintf(stderr, "usage: rpc blixard|etcd|raw PREFIX COUNT CONNECTIONS CALLERS SOCKET...\n");
    return 2;
  }
  b.prefix = argv[2];
  b.took_us = calloc(b.count, sizeof *b.took_us);
  if (raw) serve_raw(argv[6]);
  need(b.took_us && blx__loop_new(&b.loop, NULL).code == 0, "out of memory");
  run(&b, (unsigned)connections, (unsigned)callers, argv + 6, (unsigned)argc - 6);
  return 0; /* connections and loop end with the process */
}
