/* Functions of the library that the linker sends here first (--wrap, see the Makefile): where a whole node takes what
 * is the simulator's to say, and where a part of it is broken on purpose to show that somebody would notice. */
#include "nodes.h"

#include "control/control.h"
#include "measure/load.h"
#include "io/process.h"
#include "state/state_int.h"
#include "vm/sim_int.h"

#include <stdlib.h>
#include <string.h>

#define REAL(type, name, ...)      \
  type __real_##name(__VA_ARGS__); \
  type __wrap_##name(__VA_ARGS__)

REAL(blx__rc, blx__vm_sim_open, struct blx__loop *loop, const struct blx__vm_sim_options *options,
     struct blx__vm_driver **out, blx_error *err);
REAL(void, blx__vm_sim_set_kill_at, struct blx__vm_driver *sim, uint64_t boot_ms);
REAL(blx__rc, blx__vm_microvm_open, struct blx__loop *loop, const struct blx__vm_options *options,
     struct blx__vm_driver **out, blx_error *err);
REAL(blx__rc, blx__consensus_open, const struct blx__consensus_options *options, struct blx__consensus **out,
     blx_error *err);
REAL(void, blx__state_end, struct blx__state *st);
REAL(blx__rc, blx__state_restore, struct blx__state *st, struct blx__slice snapshot, blx_error *err);
REAL(void, blx__state_apply, struct blx__state *st, struct blx__slice op, struct blx__buf *result);
REAL(void, blx__state_key_put, struct blx__state *st, const struct blx_idempotency *draft);
REAL(bool, blx__placement_feasible, const struct blx__placement_node *node, const struct blx__placement_need *need,
     const struct blx__placement_around *around, struct blx__placement_verdict *out);
REAL(blx__rc, blx__consensus_propose, struct blx__consensus *c, struct blx__slice op, blx__consensus_cb cb, void *user,
     blx_error *err);
REAL(void, blx__consensus_deliver, struct blx__consensus *c, uint64_t from_uid, struct blx__slice message);
REAL(void, blx__rpc_call_reply, struct blx__rpc_call *c, const void *message, size_t size);
REAL(bool, blx__rpc_call_send, struct blx__rpc_call *c, const void *message, size_t size);
REAL(blx__rc, blx__state_share, const struct blx__state *st, uint64_t node_uid, struct blx__arena *arena,
     struct blx_assignment ***out, size_t *n, blx_error *err);
REAL(uint64_t, blx__state_share_index, const struct blx__state *st, uint64_t node_uid);
REAL(blx__rc, blx__control_step, struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
     struct blx__control_out *out, blx_error *err);

static bool broken(enum broken part) {
  return cluster.o.broken == part;
}

/* ---- what is the simulator's to say */

/* On the machine's host, where guests outlive their daemon; as fast as the daemon's own simulated driver. */
blx__rc __wrap_blx__vm_sim_open(struct blx__loop *loop, const struct blx__vm_sim_options *options,
                                struct blx__vm_driver **out, blx_error *err) {
  struct blx__vm_sim_host *host = &cluster.nodes[loop->m->number].host;
  struct blx__vm_sim_options *o = &host->options;
  o->prepare_ms = options->prepare_ms;
  o->start_ms = options->start_ms;
  o->ready_ms = options->ready_ms;
  o->stop_ms = options->stop_ms;
  o->on_event = options->on_event;
  o->user = options->user;
  BLX__MAP_FOREACH(pos, &cluster.truths) {
    const struct truth *t = blx__map_value(pos);
    if (t->runs && t->machine == loop->m->number) cluster_sometimes(SOME_ADOPTED);
  }
  return blx__vm_sim_open_on(loop, host, out, err);
}

blx__rc __wrap_blx__vm_microvm_open(struct blx__loop *loop, const struct blx__vm_options *options,
                                    struct blx__vm_driver **out, blx_error *err) {
  (void)loop;
  (void)options;
  (void)out;
  return blx__fail(err, BLX_E_UNSUPPORTED, "sim", "there are no real guests here");
}

/* The watchdog process of a machine: it looks at the clock that the agent goes by, and not when the daemon is paused or
 * gone. */
static void on_kill(void *arg, uint64_t number, uint64_t unused);

static void look_later(struct node *n) {
  uint64_t now_ms = twin_boot_ms(n->m, twin.sim.now_us), at_ms = n->host.kill_at_ms;
  uint64_t after_us = at_ms > now_ms ? (at_ms - now_ms) * 1000 * 1000000 / n->m->boot_ppm : 0;
  cluster_after(after_us + cluster_rng(0, 50000), on_kill, n->number);
}

static void on_kill(void *arg, uint64_t number, uint64_t unused) {
  struct node *n = &cluster.nodes[number];
  (void)arg;
  (void)unused;
  if (broken(BROKEN_KILLER)) return;
  if (twin_boot_ms(n->m, twin.sim.now_us) < n->host.kill_at_ms) {
    /* It was put off, and that looks for itself; a clock that is read in whole ms may be one early. */
    if (n->host.kill_at_ms - twin_boot_ms(n->m, twin.sim.now_us) <= 2) look_later(n);
    return;
  }
  unsigned killed = n->n && n->n->driver ? blx__vm_sim_kill_ha(n->n->driver) : blx__vm_sim_host_kill_ha(&n->host);
  if (killed == 0) return;
  cluster_sometimes(SOME_KILLED_IN_TIME);
  cluster_log("the watchdog of %s kills %u guests", n->name, killed);
}

void __wrap_blx__vm_sim_set_kill_at(struct blx__vm_driver *sim, uint64_t boot_ms) {
  __real_blx__vm_sim_set_kill_at(sim, boot_ms);
  look_later(&cluster.nodes[sim_of(sim)->loop->m->number]);
}

/* No process is begun here: what one would do to simulated guests, wraps do. */
blx__rc blx__process_spawn(struct blx__loop *loop, const struct blx__process_spec *spec, blx__process_exit_fn *on_exit,
                           void *user, struct blx__process **out, blx_error *err) {
  (void)loop;
  (void)spec;
  (void)on_exit;
  (void)user;
  (void)out;
  return blx__fail(err, BLX_E_UNSUPPORTED, "sim", "there are no processes here");
}

void blx__process_kill(struct blx__process *p, int signal) {
  (void)p;
  (void)signal;
  BLX__ASSERT(false);
}

blx__rc __wrap_blx__consensus_open(const struct blx__consensus_options *options, struct blx__consensus **out,
                                   blx_error *err) {
  struct blx__consensus_options o = *options;
  o.snapshot_entries = cluster.snapshot_entries;
  o.snapshot_trailing = cluster.snapshot_entries / 4;
  o.segment_bytes = cluster.segment_bytes;
  return __real_blx__consensus_open(&o, out, err);
}

/* Events of every replica, by index: the first that comes to an index says what it brought, the others agree. */
void __wrap_blx__state_end(struct blx__state *st) {
  const struct state_events *ev = &st->events;
  struct events_at at = {.count = ev->entry_count};
  for (size_t i = 0; i < ev->entry_count; i++) at.hash = event_hash(at.hash, ev->entry[i]);
  struct events_at *known = blx__map_get_u64(&cluster.events, st->data.index);
  if (known && (known->count != at.count || known->hash != at.hash))
    cluster_fail("I4 index %llu brought other events to one member than to another",
                 (unsigned long long)st->data.index);
  if (!known && at.count > 0) {
    known = malloc(sizeof *known);
    BLX__ASSERT(known != NULL);
    *known = at;
    bool kept = blx__map_set_u64(&cluster.events, st->data.index, known, NULL);
    BLX__ASSERT(kept);
  }
  __real_blx__state_end(st);
}

blx__rc __wrap_blx__state_restore(struct blx__state *st, struct blx__slice snapshot, blx_error *err) {
  cluster_sometimes(SOME_SNAPSHOT);
  storm_restored(st);
  return __real_blx__state_restore(st, snapshot, err);
}

/* Asked for when a worker comes with a share of its own. */
uint64_t __wrap_blx__state_share_index(const struct blx__state *st, uint64_t node_uid) {
  cluster_sometimes(SOME_WORKER_RESUMED);
  return __real_blx__state_share_index(st, node_uid);
}

/* ---- what is broken on purpose */

blx__rc __wrap_blx__state_share(const struct blx__state *st, uint64_t node_uid, struct blx__arena *arena,
                                struct blx_assignment ***out, size_t *n, blx_error *err) {
  blx__rc rc = __real_blx__state_share(st, node_uid, arena, out, n, err);
  bool worker = rc.code == 0 && blx__state_node(st, node_uid)->role == BLX_NODE_ROLE_WORKER;
  if (broken(BROKEN_SHARE) && cluster.calm && worker && *n > 0) --*n;
  return rc;
}

/* Answered as if it had been committed, on a later turn as promised; its sender gets the good result of another. */
struct false_ack {
  blx__consensus_cb cb;
  void *user;
};

static void on_false_ack(void *arg) {
  struct false_ack ack = *(struct false_ack *)arg;
  free(arg);
  struct blx_op_result result = {.struct_size = sizeof result, .uid = 1, .index = 1};
  struct blx__buf bytes;
  blx__buf_init(&bytes, 1024);
  blx__rc rc = blx__msg_encode(blx__desc_op_result(), &result, &bytes, NULL);
  BLX__ASSERT(rc.code == 0);
  ack.cb(ack.user, NULL, 1, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
}

static struct node *node_of_consensus(const struct blx__consensus *c) {
  for (unsigned i = 1; i <= cluster.count; i++)
    if (cluster.nodes[i].n && cluster.nodes[i].n->consensus == c) return &cluster.nodes[i];
  return NULL;
}

blx__rc __wrap_blx__consensus_propose(struct blx__consensus *c, struct blx__slice op, blx__consensus_cb cb, void *user,
                                      blx_error *err) {
  const struct node *n = broken(BROKEN_ACKS) && cluster_chance(3) ? node_of_consensus(c) : NULL;
  if (!n) return __real_blx__consensus_propose(c, op, cb, user, err);
  struct false_ack *ack = malloc(sizeof *ack);
  BLX__ASSERT(ack != NULL);
  *ack = (struct false_ack){cb, user};
  return blx__loop_post(n->n->loop, on_false_ack, ack, err);
}

void __wrap_blx__consensus_deliver(struct blx__consensus *c, uint64_t from_uid, struct blx__slice message) {
  if (broken(BROKEN_LEADER) && cluster.calm) return;
  __real_blx__consensus_deliver(c, from_uid, message);
}

void __wrap_blx__state_apply(struct blx__state *st, struct blx__slice op, struct blx__buf *result) {
  const struct node *n = &cluster.nodes[cluster.servers];
  if (broken(BROKEN_APPLY) && n->n && n->n->state == st && cluster_chance(2)) {
    struct blx_op_result ok = {.struct_size = sizeof ok};
    if (result) (void)blx__msg_encode(blx__desc_op_result(), &ok, result, NULL).code;
    return;
  }
  struct storm_op storm;
  storm_applying(st, op, &storm);
  __real_blx__state_apply(st, op, result);
  storm_applied(st, &storm, result);
}

void __wrap_blx__state_key_put(struct blx__state *st, const struct blx_idempotency *draft) {
  if (!broken(BROKEN_KEYS)) __real_blx__state_key_put(st, draft);
}

bool __wrap_blx__placement_feasible(const struct blx__placement_node *node, const struct blx__placement_need *need,
                                    const struct blx__placement_around *around, struct blx__placement_verdict *out) {
  bool fits = __real_blx__placement_feasible(node, need, around, out);
  return fits || broken(BROKEN_ROOM);
}

/* It never ends, and whoever asked waits for his deadline, again and again. */
void __wrap_blx__rpc_call_reply(struct blx__rpc_call *c, const void *message, size_t size) {
  if (!broken(BROKEN_ANSWERS) || !cluster.calm) __real_blx__rpc_call_reply(c, message, size);
}

bool __wrap_blx__rpc_call_send(struct blx__rpc_call *c, const void *message, size_t size) {
  if (broken(BROKEN_WATCH) && cluster_chance(2)) return true;
  return __real_blx__rpc_call_send(c, message, size);
}

static void say_op(const struct blx__state *st, const char *who, struct blx__slice bytes) {
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  void *decoded = NULL;
  if (blx__msg_decode(blx__desc_op(), &arena, bytes, &decoded, NULL).code != 0) return;
  const struct blx_op *op = decoded;
  uint64_t uid = op->assign ? op->assign->instance_uid : op->explain ? op->explain->instance_uid : 0;
  const struct blx_instance *i = blx__state_instance(st, uid);
  cluster_log("%s: %s to %llu: %s", who, i ? i->name : "?", op->assign ? (unsigned long long)op->assign->node_uid : 0,
              op->explain && op->explain->reason ? op->explain->reason->text : "");
  blx__arena_free(&arena);
}

/* What control keeps between steps is a cache: one that knows nothing yet comes to the same. */
static void check_fresh(const struct blx__control_input *in, const struct blx__control_out *out) {
  enum { EVERY = 16 };
  if (cluster.steps++ % EVERY != 0) return;
  static struct blx__control_out again;
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  struct blx__control *fresh = blx__control_new();
  blx_error err = {0};
  BLX__ASSERT(fresh != NULL);
  if (__real_blx__control_step(fresh, in, &arena, &again, &err).code != 0)
    cluster_fail("control failed anew: %s", err.message);
  bool same = again.op_count == out->op_count && again.next_due_ms == out->next_due_ms;
  for (size_t i = 0; same && i < out->op_count; i++)
    same = out->ops[i].len == again.ops[i].len && memcmp(out->ops[i].data, again.ops[i].data, out->ops[i].len) == 0;
  for (size_t i = 0; !same && i < out->op_count; i++) say_op(in->st, "kept", out->ops[i]);
  for (size_t i = 0; !same && i < again.op_count; i++) say_op(in->st, "fresh", again.ops[i]);
  if (!same)
    cluster_fail("control proposes %zu operations with what it keeps, and %zu others without", out->op_count,
                 again.op_count);
  blx__control_free(fresh);
  blx__arena_free(&arena);
}

blx__rc __wrap_blx__control_step(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                                 struct blx__control_out *out, blx_error *err) {
  *out = (struct blx__control_out){0};
  if (broken(BROKEN_CONTROL) && cluster.calm) return BLX__OK;
  blx__rc rc = __real_blx__control_step(c, in, arena, out, err);
  if (rc.code == 0) check_fresh(in, out);
  if (rc.code == 0) storm_proposed(in->st, out);
  return rc;
}

/* The machine that the simulator runs on is none of the cluster's. */
void __wrap_blx__load_read(struct blx__load *load) {
  uint64_t dice = blx__mix64(cluster.o.seed * 4096 + cluster.loads++);
  load->has_cpu = load->has_memory = true;
  load->cpu_permille = (uint32_t)(dice % 1001);
  load->memory_mib = dice / 1001 % 1024;
}
