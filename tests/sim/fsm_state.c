/* The project's own state machine under simulated faults: random operations of users, scheduler and agents. What it
 * checks of each replica: equal digests at equal index, I2 epochs only rise, I6 allocations stay within capacities. */
#include "sim.h"

#include "schema/codec.h"
#include "state/state.h"

#include <stdlib.h>
#include <string.h>

enum { VMS = 12, INSTANCES = 24, NODES = 4, CHECK_EVERY = 16 };

struct state_fsm {
  struct blx__state *state;
  struct blx__map ids;    /* id -> this */
  struct blx__map epochs; /* instance uid -> epoch + 1 */
  uint64_t checked;
  const char *broken;
};

/* Digest at an index, over all replicas of a world; it empties itself when the last replica is gone. */
static struct {
  struct blx__map digests;
  unsigned replicas;
} shared;

static void *state_create(void) {
  struct state_fsm *f = calloc(1, sizeof *f);
  BLX__ASSERT(f != NULL);
  f->state = blx__state_new(NULL);
  BLX__ASSERT(f->state != NULL);
  shared.replicas++;
  return f;
}

static void state_destroy(void *self) {
  struct state_fsm *f = self;
  blx__state_free(f->state);
  blx__map_clear(&f->ids);
  blx__map_clear(&f->epochs);
  free(f);
  if (--shared.replicas == 0) blx__map_clear(&shared.digests);
}

static void state_begin(void *user, uint64_t index, uint64_t time_ms) {
  struct state_fsm *f = user;
  blx__state_begin(f->state, index, time_ms);
}

/* An operation is its id and the encoded op. */
static void state_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  struct state_fsm *f = user;
  uint64_t id = 0;
  BLX__ASSERT(op.len > sizeof id);
  memcpy(&id, op.data, sizeof id);
  void *old = NULL;
  bool kept = blx__map_set_u64(&f->ids, id, f, &old);
  BLX__ASSERT(kept);
  if (old) f->broken = "an operation was applied twice";
  blx__state_apply(f->state, (struct blx__slice){op.data + sizeof id, op.len - sizeof id}, result);
}

static void check_epochs(struct state_fsm *f) {
  for (uint64_t uid = 1; uid <= INSTANCES * 4; uid++) {
    const struct blx_instance *in = blx__state_instance(f->state, uid);
    if (!in) continue;
    uintptr_t before = (uintptr_t)blx__map_get_u64(&f->epochs, uid);
    if (before > in->epoch + 1) f->broken = "an epoch fell";
    bool kept = blx__map_set_u64(&f->epochs, uid, (void *)(uintptr_t)(in->epoch + 1), NULL);
    BLX__ASSERT(kept);
  }
}

static void check_capacity(struct state_fsm *f) {
  const struct blx_node_info *node = blx__state_node_after_uid(f->state, 0);
  for (; node; node = blx__state_node_after_uid(f->state, node->uid)) {
    struct blx__placement_node view;
    if (!blx__state_placement_node(f->state, node->uid, &view)) continue;
    if (view.allocated_cpu_milli > view.cpu_milli || view.allocated_memory_mib > view.memory_mib)
      f->broken = "a node's capacity was exceeded";
  }
}

static void check_digest(struct state_fsm *f) {
  uint8_t digest[BLX__SHA256_BYTES];
  blx_error err;
  if (blx__state_digest(f->state, digest, &err).code != 0) {
    f->broken = "a digest could not be made";
    return;
  }
  uintptr_t mine = 0, theirs;
  memcpy(&mine, digest, sizeof mine);
  mine |= 1;
  uint64_t index = blx__state_index(f->state);
  theirs = (uintptr_t)blx__map_get_u64(&shared.digests, index);
  if (theirs != 0 && theirs != mine) f->broken = "replicas differ at the same index";
  bool kept = blx__map_set_u64(&shared.digests, index, (void *)mine, NULL);
  BLX__ASSERT(kept);
}

static void state_end(void *user) {
  struct state_fsm *f = user;
  blx__state_end(f->state);
  if (blx__state_fatal(f->state)) f->broken = blx__state_fatal(f->state);
  check_epochs(f);
  check_capacity(f);
  if (blx__state_index(f->state) % CHECK_EVERY == 0) check_digest(f);
}

/* The ids in front of state's own snapshot. */
struct state_frozen {
  struct blx__buf ids;
  struct blx__state_frozen *state;
};

static void *state_freeze(void *user, blx_error *err) {
  struct state_fsm *f = user;
  struct state_frozen *z = calloc(1, sizeof *z);
  uint64_t count = f->ids.count;
  BLX__ASSERT(z != NULL);
  blx__buf_init(&z->ids, 64 << 20);
  bool ok = blx__buf_add(&z->ids, &count, sizeof count);
  BLX__MAP_FOREACH(pos, &f->ids) {
    size_t n = 0;
    const void *key = blx__map_key(pos, &n);
    ok = ok && blx__buf_add(&z->ids, key, n);
  }
  z->state = blx__state_freeze(f->state, err);
  BLX__ASSERT(ok && z->state);
  return z;
}

static blx__rc state_write(void *frozen, struct blx__buf *out, blx_error *err) {
  struct state_frozen *z = frozen;
  if (!blx__buf_add(out, z->ids.data, z->ids.len))
    return blx__fail(err, BLX_E_NOMEM, "sim", "no memory for a snapshot");
  return blx__state_write(z->state, out, err);
}

static void state_thaw(void *user, void *frozen) {
  struct state_fsm *f = user;
  struct state_frozen *z = frozen;
  blx__state_thaw(f->state, z->state);
  blx__buf_free(&z->ids);
  free(z);
}

static blx__rc state_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  struct state_fsm *f = user;
  uint64_t count = 0;
  BLX__ASSERT(snapshot.len >= sizeof count);
  memcpy(&count, snapshot.data, sizeof count);
  size_t head = sizeof count + count * sizeof count;
  BLX__ASSERT(snapshot.len >= head);
  blx__map_clear(&f->ids);
  for (uint64_t i = 0; i < count; i++) {
    bool kept = blx__map_set(&f->ids, snapshot.data + sizeof count + i * sizeof count, sizeof count, f, NULL);
    BLX__ASSERT(kept);
  }
  return blx__state_restore(f->state, (struct blx__slice){snapshot.data + head, snapshot.len - head}, err);
}

static void state_bind(void *self, struct blx__fsm *out) {
  *out = (struct blx__fsm){.user = self,
                           .begin = state_begin,
                           .apply = state_apply,
                           .end = state_end,
                           .freeze = state_freeze,
                           .write = state_write,
                           .thaw = state_thaw,
                           .restore = state_restore};
}

/* ---- random operations, among few names and uids so that they meet each other */

struct draft {
  struct blx_op op;
  struct blx_op_cluster_init init;
  struct blx_op_node_join join;
  struct blx_op_vm_create create;
  struct blx_op_vm_desire desire;
  struct blx_op_vm_delete delete;
  struct blx_op_assign assign;
  struct blx_op_report report;
  struct blx_vm_spec spec;
  struct blx_node_info node;
  struct blx_resources capacity;
  struct blx_instance_report one;
  struct blx_instance_report *reports[1];
  int32_t hypervisors[1];
  char name[16], request_id[32];
};

static void draft_join(struct blx__sim_rng *r, struct draft *d) {
  (void)blx__str_format(d->name, sizeof d->name, "n%u", (unsigned)blx__sim_rng_in(r, 1, NODES));
  d->capacity = (struct blx_resources){.struct_size = sizeof d->capacity, .vcpus = 8, .memory_mib = 1024};
  d->node = (struct blx_node_info){.struct_size = sizeof d->node, .name = d->name, .capacity = &d->capacity};
  d->node.hypervisors = d->hypervisors;
  d->node.n_hypervisors = 1;
  d->join = (struct blx_op_node_join){.struct_size = sizeof d->join, .node = &d->node};
  d->op.node_join = &d->join;
}

static void draft_create(struct blx__sim_rng *r, struct draft *d) {
  d->spec = (struct blx_vm_spec){.struct_size = sizeof d->spec, .name = d->name, .flake = "path:/x#y", .vcpus = 1};
  d->spec.memory_mib = (uint32_t)blx__sim_rng_in(r, 64, 512);
  d->spec.has_replicas = 1;
  d->spec.replicas = (uint32_t)blx__sim_rng_in(r, 0, 3);
  d->spec.stop_timeout_ms = 30000;
  d->spec.restart_policy = (int32_t)blx__sim_rng_in(r, 0, 2);
  d->create = (struct blx_op_vm_create){.struct_size = sizeof d->create, .spec = &d->spec};
  d->op.vm_create = &d->create;
}

static void draft_assign(struct blx__sim_rng *r, struct draft *d) {
  d->assign = (struct blx_op_assign){.struct_size = sizeof d->assign};
  d->assign.instance_uid = blx__sim_rng_in(r, 1, INSTANCES);
  d->assign.node_uid = blx__sim_rng_in(r, 1, NODES);
  d->assign.expected_epoch = blx__sim_rng_in(r, 0, 3);
  d->op.assign = &d->assign;
}

static void draft_report(struct blx__sim_rng *r, struct draft *d) {
  d->one = (struct blx_instance_report){.struct_size = sizeof d->one};
  d->one.instance_uid = blx__sim_rng_in(r, 1, INSTANCES);
  d->one.epoch = blx__sim_rng_in(r, 1, 4);
  d->one.seq = blx__sim_rng_in(r, 1, 9);
  d->one.dead = blx__sim_rng_chance(r, 40);
  d->one.gone = d->one.dead && blx__sim_rng_chance(r, 40);
  d->one.phase = d->one.dead ? BLX_PHASE_FAILED : (int32_t)blx__sim_rng_in(r, BLX_PHASE_CREATING, BLX_PHASE_RUNNING);
  d->reports[0] = &d->one;
  d->report = (struct blx_op_report){.struct_size = sizeof d->report, .node_uid = blx__sim_rng_in(r, 1, NODES)};
  d->report.reports = d->reports;
  d->report.n_reports = 1;
  d->op.report = &d->report;
}

static void draft_change(struct blx__sim_rng *r, struct draft *d) {
  if (blx__sim_rng_chance(r, 40)) {
    d->delete = (struct blx_op_vm_delete){.struct_size = sizeof d->delete, .name = d->name};
    d->op.vm_delete = &d->delete;
    return;
  }
  d->desire = (struct blx_op_vm_desire){.struct_size = sizeof d->desire, .name = d->name};
  d->desire.desired = (int32_t)blx__sim_rng_in(r, 0, 1);
  d->op.vm_desire = &d->desire;
}

static void draft_any(struct blx__sim_rng *r, uint64_t id, struct draft *d) {
  (void)blx__str_format(d->name, sizeof d->name, "vm%u", (unsigned)blx__sim_rng_in(r, 1, VMS));
  (void)blx__str_format(d->request_id, sizeof d->request_id, "r%llu", (unsigned long long)id);
  unsigned dice = (unsigned)blx__sim_rng_in(r, 1, 100);
  if (id == 1) {
    d->init = (struct blx_op_cluster_init){.struct_size = sizeof d->init, .id = "00112233445566778899aabbccddeeff"};
    d->op.cluster_init = &d->init;
  } else if (id < 8 || dice <= 4) {
    draft_join(r, d);
  } else if (dice <= 30) {
    draft_create(r, d);
    d->op.request_id = d->request_id;
    d->op.request_digest = (struct blx_bytes){(const uint8_t *)"0123456789abcdef0123456789abcdef", 32};
  } else if (dice <= 60) {
    draft_assign(r, d);
  } else if (dice <= 88) {
    draft_report(r, d);
  } else {
    draft_change(r, d);
  }
}

static bool state_make_op(struct blx__sim_rng *r, uint64_t id, struct blx__buf *out) {
  struct draft d = {.op = {.struct_size = sizeof d.op, .tenant = "default"}};
  draft_any(r, id, &d);
  blx_error err;
  return blx__buf_add(out, &id, sizeof id) && blx__msg_encode(blx__desc_op(), &d.op, out, &err).code == 0;
}

static bool state_has(void *self, uint64_t id) {
  return blx__map_get_u64(&((struct state_fsm *)self)->ids, id) != NULL;
}

static const char *state_check(void *self) {
  return ((struct state_fsm *)self)->broken;
}

const struct sim_fsm sim_fsm_state = {.name = "state",
                                      .create = state_create,
                                      .destroy = state_destroy,
                                      .bind = state_bind,
                                      .make_op = state_make_op,
                                      .has = state_has,
                                      .check = state_check};
