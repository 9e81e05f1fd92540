/* Users: each has one request under way at a time, asks any daemon, and asks again, with the same key, while the
 * outcome is unknown. What they were told is held against what is. */
#include "nodes.h"

#include "rpc/conn.h"
#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

enum {
  USERS = 5,
  REQUESTS_MAX = 4000, /* of one run */
  DEADLINE_MS = 4000,
  BODY_MAX = 4096,
};

/* What is known of a request with a key. */
enum fate { FATE_OPEN, FATE_ANSWERED, FATE_REFUSED, FATE_UNKNOWN };

struct request {
  enum blx__rpc_id rpc;
  char key[24]; /* "": a read */
  struct blx__buf body;
  enum fate fate;
  int code;          /* of the answer */
  uint64_t uid;      /* of the VM that the good answer was about */
  bool maybe_done;   /* an earlier attempt may have been carried out */
  bool again;        /* it was answered, and is asked again */
  bool other_body;   /* a copy of another's key with a body of its own: must conflict */
  uint64_t original; /* of which request; its place + 1 */
  uint64_t floor;    /* a read sees at least this index */
};

struct user {
  unsigned number;
  struct blx__timer *timer;
  struct request *r; /* NULL: idle */
};

static struct {
  struct blx__loop *loop;
  struct blx__rpc_conn *conns[NODES_MAX + 1];
  struct user users[USERS];
  struct request *requests[REQUESTS_MAX];
  size_t count;
  uint64_t seen_index; /* the highest that anybody was told of */
  bool ended, deleting, closing;
  unsigned deletes; /* begun at the end */
  unsigned joined;  /* nodes that are in the cluster */
} all;

/* ---- requests */

static struct request *request_new(enum blx__rpc_id rpc) {
  if (all.count == REQUESTS_MAX) return NULL;
  struct request *r = calloc(1, sizeof *r);
  BLX__ASSERT(r != NULL);
  r->rpc = rpc;
  blx__buf_init(&r->body, BODY_MAX);
  all.requests[all.count++] = r;
  if (blx__rpc_rows()[rpc].route == BLX__ROUTE_WRITE) (void)blx__str_format(r->key, sizeof r->key, "k%zu", all.count);
  return r;
}

static void encode(struct request *r, const void *message) {
  blx_error err = {0};
  blx__buf_clear(&r->body);
  if (blx__msg_encode(blx__rpc_rows()[r->rpc].request(), message, &r->body, &err).code != 0)
    cluster_fail("a request cannot be encoded: %s", err.message);
}

static void encode_named(struct request *r, const char *name) {
  struct blx_vm_name_request req = {.struct_size = sizeof req, .name = name, .request_id = r->key};
  req.force = r->rpc == BLX__RPC_VM_RESTART && cluster_chance(30);
  encode(r, &req);
}

static void encode_create(struct request *r, const char *name) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  char on[8];
  const char *names[] = {on};
  spec.name = name;
  spec.flake = "path:/x#y";
  spec.vcpus = 1;
  spec.memory_mib = (uint32_t)cluster_rng(64, 400);
  spec.replicas = (uint32_t)cluster_rng(0, REPLICAS_MAX);
  spec.has_replicas = 1;
  spec.restart_policy = cluster_chance(70) ? BLX_RESTART_POLICY_ALWAYS : (int32_t)cluster_rng(1, 2);
  spec.strategy = (int32_t)cluster_rng(0, 1);
  spec.ready_none = cluster_chance(20);
  spec.ha = cluster_chance(50) ? BLX_HA_POLICY_AUTO : (int32_t)cluster_rng(0, 1);
  (void)blx__str_format(on, sizeof on, "vm%u", (unsigned)cluster_rng(1, VMS));
  spec.depends_on = names;
  spec.n_depends_on = cluster_chance(12) && !blx__str_eq(on, name);
  storm_spec(&spec);
  struct blx_vm_create_request req = {.struct_size = sizeof req, .spec = &spec, .request_id = r->key};
  req.stopped = cluster_chance(10);
  encode(r, &req);
}

/* Why one is where it is, what a creation would do, how many more fit. NULL: not this time. */
static struct request *request_look(void) {
  enum blx__rpc_id rpc = storm_look();
  struct request *r = rpc != BLX__RPC_COUNT ? request_new(rpc) : NULL;
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_explain_request explain = {.struct_size = sizeof explain, .name = "vm1"};
  struct blx_vm_create_request create = {.struct_size = sizeof create, .spec = &spec};
  struct blx_vm_plan_request plan = {.struct_size = sizeof plan, .create = &create};
  struct blx_capacity_request capacity = {.struct_size = sizeof capacity, .spec = &spec};
  if (!r) return NULL;
  spec.name = "vm-planned";
  spec.flake = "path:/x#y";
  spec.vcpus = 1;
  spec.memory_mib = 128;
  storm_spec(&spec);
  if (rpc == BLX__RPC_VM_EXPLAIN)
    encode(r, &explain);
  else if (rpc == BLX__RPC_VM_PLAN)
    encode(r, &plan);
  else
    encode(r, &capacity);
  return r;
}

static struct request *request_random(void) {
  char name[8];
  struct request *look = request_look();
  if (look) return look;
  (void)blx__str_format(name, sizeof name, "vm%u", (unsigned)cluster_rng(1, VMS));
  unsigned dice = (unsigned)cluster_rng(1, 100);
  enum blx__rpc_id rpc = dice <= 35   ? BLX__RPC_VM_CREATE
                         : dice <= 50 ? BLX__RPC_VM_DELETE
                         : dice <= 62 ? BLX__RPC_VM_STOP
                         : dice <= 72 ? BLX__RPC_VM_START
                         : dice <= 76 ? BLX__RPC_VM_RESTART
                         : dice <= 79 ? BLX__RPC_VM_KILL
                         : dice <= 82 ? BLX__RPC_VM_PAUSE
                         : dice <= 85 ? BLX__RPC_VM_RESUME
                         : dice <= 88 ? BLX__RPC_VM_DELETE_FORCE
                                      : BLX__RPC_VM_LIST;
  struct request *r = request_new(rpc);
  if (!r) return NULL;
  struct blx_vm_list_request list = {.struct_size = sizeof list, .stale = cluster.o.broken == BROKEN_READS};
  if (rpc == BLX__RPC_VM_LIST)
    encode(r, &list);
  else if (rpc == BLX__RPC_VM_CREATE)
    encode_create(r, name);
  else
    encode_named(r, name);
  return r;
}

/* Somebody's answered request once more: as it was, or its key with another body. */
static struct request *request_again(void) {
  if (all.count == 0) return NULL;
  size_t at = cluster_rng(0, all.count - 1);
  const struct request *old = all.requests[at];
  if (old->fate != FATE_ANSWERED || !old->key[0] || old->original) return NULL;
  struct request *r = request_new(old->rpc);
  if (!r) return NULL;
  (void)blx__str_copy(r->key, sizeof r->key, old->key);
  r->original = at + 1;
  r->again = true;
  r->other_body = cluster_chance(30);
  if (r->other_body && r->rpc == BLX__RPC_VM_CREATE)
    encode_create(r, "vm-other");
  else if (r->other_body)
    encode_named(r, "vm-other");
  else if (!blx__buf_add(&r->body, old->body.data, old->body.len))
    cluster_fail("no memory for a request");
  return r;
}

/* ---- answers */

static void user_next(struct user *u, uint64_t after_ms) {
  blx__timer_start(u->timer, after_ms, 0);
}

/* The answer of a repeated request must be that of the first. */
static void check_again(const struct request *r) {
  const struct request *first = all.requests[r->original - 1];
  if (r->other_body) {
    if (r->code != BLX_E_CONFLICT)
      cluster_fail("I8 %s was used for another request, and that was answered with %s", r->key,
                   r->code ? blx_error_name(r->code) : "good");
    cluster_sometimes(SOME_KEY_CONFLICT);
  } else {
    if (r->code != first->code || (r->code == 0 && r->uid != first->uid))
      cluster_fail("I8 %s was answered with %s about %llu, and before with %s about %llu", r->key,
                   r->code ? blx_error_name(r->code) : "good", (unsigned long long)r->uid,
                   first->code ? blx_error_name(first->code) : "good", (unsigned long long)first->uid);
    cluster_sometimes(SOME_ASKED_TWICE);
  }
}

static void see(uint64_t index) {
  if (index > all.seen_index) all.seen_index = index;
}

static uint64_t index_of(enum blx__rpc_id rpc, const void *answer) {
  if (rpc == BLX__RPC_VM_LIST) return ((const struct blx_vm_list *)answer)->index;
  if (rpc == BLX__RPC_VM_EXPLAIN) return ((const struct blx_placement_report *)answer)->index;
  if (rpc == BLX__RPC_VM_PLAN) return ((const struct blx_vm_plan *)answer)->index;
  BLX__ASSERT(rpc == BLX__RPC_CAPACITY);
  return ((const struct blx_capacity_report *)answer)->index;
}

static void read_answer(struct request *r, struct blx__slice bytes) {
  struct blx__arena arena = {.limit_bytes = 4 << 20};
  void *decoded = NULL;
  blx_error err = {0};
  if (blx__msg_decode(blx__rpc_rows()[r->rpc].response(), &arena, bytes, &decoded, &err).code != 0) {
    cluster_fail("an answer cannot be read: %s", err.message);
  } else if (!r->key[0]) {
    uint64_t index = index_of(r->rpc, decoded);
    if (index < r->floor)
      cluster_fail("I11 %s was read as of index %llu, after somebody had been told of %llu",
                   blx__rpc_rows()[r->rpc].name, (unsigned long long)index, (unsigned long long)r->floor);
    see(index);
  } else {
    const struct blx_vm *vm = decoded;
    r->uid = vm->uid;
    see(vm->revision);
  }
  blx__arena_free(&arena);
}

static bool is_unknown(const struct blx__rpc_result *result) {
  int code = result->err->code;
  return result->maybe_done && code != BLX_E_NO_LEADER && code != BLX_E_BUSY &&
         (code == BLX_E_TIMEOUT || code == BLX_E_UNAVAILABLE || code == BLX_E_CANCELLED || code == BLX_E_FATAL ||
          code == BLX_E_INTERNAL || code == BLX_E_IO || code == BLX_E_NOSPACE);
}

/* Not done for want of a leader or of room, which is no answer either. */
static bool is_refusal(int code) {
  return code == BLX_E_NO_LEADER || code == BLX_E_BUSY || code == BLX_E_UNAVAILABLE || code == BLX_E_NOSPACE ||
         code == BLX_E_CANCELLED || code == BLX_E_TIMEOUT || code == BLX_E_FATAL;
}

static void answered(struct user *u) {
  struct request *r = u->r;
  u->r = NULL;
  r->fate = FATE_ANSWERED;
  if (r->maybe_done) cluster_sometimes(SOME_UNKNOWN_DONE);
  if (r->again) check_again(r);
  user_next(u, cluster_rng(10, 700) * cluster.pace);
}

static void on_answer(void *arg, const struct blx__rpc_result *result) {
  struct user *u = arg;
  struct request *r = u->r;
  BLX__ASSERT(r != NULL);
  if (all.closing) return;
  r->code = result->err ? result->err->code : 0;
  cluster_log("user %u: %s %s: %s", u->number, blx__rpc_rows()[r->rpc].name, r->key,
              result->err ? result->err->message : "good");
  if (!result->err) {
    read_answer(r, result->response);
    answered(u);
    return;
  }
  if (!is_unknown(result) && !is_refusal(r->code)) {
    answered(u);
    return;
  }
  if (is_unknown(result)) r->maybe_done = true;
  if (r->code == BLX_E_NO_LEADER) cluster_sometimes(SOME_REFUSED);
  bool gives_up = !all.ended && !all.deleting && cluster_chance(15);
  if (gives_up || !r->key[0]) {
    r->fate = r->maybe_done ? FATE_UNKNOWN : FATE_REFUSED;
    u->r = NULL;
  } else if (r->maybe_done) {
    cluster_sometimes(SOME_RETRIED);
  }
  user_next(u, cluster_rng(50, 600));
}

static void ask(struct user *u) {
  struct request *r = u->r;
  unsigned at = (unsigned)cluster_rng(1, cluster.count);
  struct blx__rpc_request request = {.path = blx__rpc_rows()[r->rpc].path, .deadline_ms = DEADLINE_MS};
  request.body = (struct blx__slice){r->body.data, r->body.len};
  r->floor = all.seen_index;
  blx_error err = {0};
  if (blx__rpc_unary(all.conns[at], &request, on_answer, u, NULL, &err).code != 0) user_next(u, 200);
}

static struct request *delete_next(void) {
  char name[16];
  unsigned turn = all.deletes++ % (VMS + 1);
  (void)blx__str_format(name, sizeof name, "vm%u", turn);
  if (turn == 0) (void)blx__str_copy(name, sizeof name, "vm-other");
  struct request *r = request_new(BLX__RPC_VM_DELETE);
  if (r) encode_named(r, name);
  return r;
}

static void on_user(void *arg) {
  struct user *u = arg;
  if (!u->r && all.deleting)
    u->r = delete_next();
  else if (!u->r && !all.ended)
    u->r = cluster_chance(10) ? request_again() : request_random();
  if (u->r)
    ask(u);
  else if (!all.ended)
    user_next(u, 100);
}

/* ---- the cluster is made */

static void join_one(void *arg);

static void on_joined(void *arg, const struct blx__rpc_result *result) {
  (void)arg;
  if (all.closing) return;
  bool in = !result->err || result->err->code == BLX_E_CONFLICT;
  cluster_log("n%u joins: %s", all.joined + 1, result->err ? result->err->message : "good");
  if (in) all.joined++;
  if (all.joined < cluster.count) user_next(&all.users[0], 100);
}

/* One after another: a server by the first, a worker by any that is in, and asked from either side. */
static void join_one(void *arg) {
  (void)arg;
  unsigned asked = all.joined + 1, other = 1;
  struct blx_cluster_join_request join = {.struct_size = sizeof join};
  if (asked > cluster.servers) {
    join.role = BLX_NODE_ROLE_WORKER;
    other = (unsigned)cluster_rng(1, all.joined);
    if (cluster_chance(40)) {
      other = asked;
      asked = (unsigned)cluster_rng(1, all.joined);
    }
  }
  join.address = cluster.nodes[other].address;
  struct blx__buf body;
  blx__buf_init(&body, BODY_MAX);
  blx_error err = {0};
  blx__rc rc = blx__msg_encode(blx__rpc_rows()[BLX__RPC_CLUSTER_JOIN].request(), &join, &body, &err);
  struct blx__rpc_request request = {.path = blx__rpc_rows()[BLX__RPC_CLUSTER_JOIN].path, .deadline_ms = 10000};
  request.body = (struct blx__slice){body.data, body.len};
  if (rc.code == 0) rc = blx__rpc_unary(all.conns[asked], &request, on_joined, NULL, NULL, &err);
  if (rc.code != 0) cluster_fail("a join cannot be asked for: %s", err.message);
  blx__buf_free(&body);
}

bool users_joined(void) {
  return all.joined == cluster.count && cluster_leader() != NULL;
}

void users_join_all(void) {
  all.joined = 1;
  if (cluster.count == 1) return;
  blx__timer_free(all.users[0].timer);
  all.users[0].timer = blx__timer_new(all.loop, join_one, NULL);
  user_next(&all.users[0], 1000);
}

/* ---- the whole */

void users_open(void) {
  memset(&all, 0, sizeof all);
  struct machine *m = &twin.machines[USERS_MACHINE];
  twin_process_begin(m);
  blx__rc rc = blx__loop_new(&all.loop, NULL);
  BLX__ASSERT(rc.code == 0);
  for (unsigned i = 1; i <= cluster.count; i++) {
    rc = blx__rpc_conn_new(all.loop, cluster.nodes[i].address, &all.conns[i], NULL);
    BLX__ASSERT(rc.code == 0);
  }
  for (unsigned i = 0; i < USERS; i++) {
    all.users[i].number = i + 1;
    all.users[i].timer = blx__timer_new(all.loop, on_user, &all.users[i]);
  }
}

void users_begin(void) {
  blx__timer_free(all.users[0].timer);
  all.users[0].timer = blx__timer_new(all.loop, on_user, &all.users[0]);
  for (unsigned i = 0; i < USERS; i++) user_next(&all.users[i], cluster_rng(0, 500));
}

void users_end(void) {
  all.ended = true;
}

bool users_idle(void) {
  for (unsigned i = 0; i < USERS; i++)
    if (all.users[i].r) return false;
  return true;
}

void users_delete_all(void) {
  all.deleting = true;
  for (unsigned i = 0; i < USERS; i++) user_next(&all.users[i], 0);
}

void users_close(void) {
  all.closing = true;
  for (unsigned i = 1; i <= cluster.count; i++) blx__rpc_conn_close(all.conns[i], NULL, NULL);
  for (unsigned i = 0; i < USERS; i++) {
    blx__timer_free(all.users[i].timer);
    all.users[i].timer = NULL;
  }
}

struct blx__loop *users_loop(void) {
  return all.loop;
}

void users_free(void) {
  blx__loop_free(all.loop);
  twin_process_gone(&twin.machines[USERS_MACHINE]);
  for (size_t i = 0; i < all.count; i++) {
    blx__buf_free(&all.requests[i]->body);
    free(all.requests[i]);
  }
}

static void check_request(const struct blx__state *st, const struct request *r) {
  char key[64];
  (void)blx__str_format(key, sizeof key, "default/%s", r->key);
  const struct blx_idempotency *known = blx__map_get_str(&st->data.keys, key);
  switch (r->fate) {
  case FATE_OPEN: cluster_fail("I13 the operation %s was never answered", r->key); break;
  case FATE_ANSWERED:
    /* One that was never proposed leaves no trace: the request itself was wrong. */
    if (!known && r->code != BLX_E_INVALID) cluster_fail("I3 %s was acknowledged, and nothing knows of it", r->key);
    if (known && (known->result->code != r->code || (r->code == 0 && known->result->uid != r->uid)))
      cluster_fail("I3 %s was answered with %d about %llu, and is kept with %d about %llu", r->key, r->code,
                   (unsigned long long)r->uid, known->result->code, (unsigned long long)known->result->uid);
    break;
  case FATE_REFUSED:
    if (known) cluster_fail("I3 %s was refused, and yet was done", r->key);
    break;
  case FATE_UNKNOWN:
    if (known) cluster_sometimes(SOME_UNKNOWN_DONE);
    break;
  }
}

void users_check(void) {
  const struct node *leader = cluster_leader();
  if (!leader) return;
  for (size_t i = 0; i < all.count && !cluster.failed; i++)
    if (all.requests[i]->key[0] && !all.requests[i]->original) check_request(leader->n->state, all.requests[i]);
}
