/* Records as callers and agents see them. */
#include "state/state_int.h"

static blx__rc no_room(blx_error *err, const struct blx__arena *arena) {
  return blx__fail(err, BLX_E_NOMEM, "state", "the answer does not fit into %zu bytes", arena->limit_bytes);
}

static blx__rc no_node(blx_error *err, uint64_t uid) {
  return blx__fail(err, BLX_E_NOT_FOUND, "state", "the cluster has no node with uid %llu", (unsigned long long)uid);
}

/* ---- what would help, where the record does not say: not replicated, so that the words may change */

static const char *const unblock_of[] = {
    [BLX_REASON_CODE_UNPLACED] = "it is placed as soon as the leader has looked at it",
    [BLX_REASON_CODE_BUILDING] = "it goes on when its runner is built",
    [BLX_REASON_CODE_BOOTING] = "it runs as soon as the guest says that it is ready",
    [BLX_REASON_CODE_BACK_OFF] = "it starts by itself then, or at once when the VM is restarted",
    [BLX_REASON_CODE_STOPPED_BY_USER] = "it is killed when its stop timeout is over, or at once by a kill of the VM",
    [BLX_REASON_CODE_DELETE_REQUESTED] = "its node removes it; if that never comes back, delete the VM by force",
    [BLX_REASON_CODE_NODE_RESTARTED] = "it is started again when it has ended, if it shall run",
    [BLX_REASON_CODE_RESTART_REQUESTED] =
        "it is killed when its stop timeout is over, or at once by a restart with force",
    [BLX_REASON_CODE_NODE_FENCING] = "its node's status says what is waited for: `blixard node describe`",
    [BLX_REASON_CODE_NODE_FENCED] = "it is placed as soon as the leader has looked at it",
    [BLX_REASON_CODE_LEASE_LOST] = "it is placed as soon as the leader has looked at it",
    [BLX_REASON_CODE_RECOVERED] = "it goes on when no node is unclear any more: `blixard node list` shows them",
    [BLX_REASON_CODE_WAITS_FOR_STOP] = "it goes on when that VM has stopped; a kill does not wait for it",
};

const char *blx__state_unblock(const struct blx_reason *r, int32_t phase) {
  bool settled = phase == BLX_PHASE_RUNNING || phase == BLX_PHASE_STOPPED || phase == BLX_PHASE_FAILED;
  if (!r || (r->unblock && r->unblock[0])) return r ? r->unblock : NULL;
  return !settled && r->code >= 0 && (size_t)r->code < BLX__COUNT(unblock_of) ? unblock_of[r->code] : r->unblock;
}

/* False: no memory. */
static bool add_unblock(struct blx_reason **reason, int32_t phase, struct blx__arena *arena) {
  const char *unblock = blx__state_unblock(*reason, phase);
  if (!*reason || unblock == (*reason)->unblock) return true;
  struct blx_reason *copy = blx__arena_alloc(arena, sizeof *copy);
  if (!copy) return false;
  *copy = **reason;
  copy->unblock = unblock;
  *reason = copy;
  return true;
}

/* Drafts of the instances, pointing into the records, with the names of their nodes. */
static struct blx_instance **instance_drafts(const struct blx__state *st, const struct state_vm *vm,
                                             struct blx__arena *arena, uint32_t *running) {
  size_t n = vm->instances.count, at = 0;
  struct blx_instance *drafts = blx__arena_alloc(arena, (n + 1) * sizeof *drafts);
  struct blx_instance **list = blx__arena_alloc(arena, (n + 1) * sizeof *list);
  if (!drafts || !list) return NULL;
  BLX__MAP_FOREACH(pos, &vm->instances) {
    const struct state_instance *i = blx__map_value(pos);
    const struct blx_node_info *node = blx__state_node(st, i->rec->node_uid);
    drafts[at] = *i->rec;
    drafts[at].node = node ? node->name : NULL;
    drafts[at].tenant = vm->rec->tenant;
    *running += i->rec->phase == BLX_PHASE_RUNNING;
    if (!add_unblock(&drafts[at].reason, drafts[at].phase, arena)) return NULL;
    list[at] = &drafts[at];
    at++;
  }
  BLX__ASSERT(at == n);
  return list;
}

blx__rc blx__state_view_vm(const struct blx__state *st, uint64_t uid, struct blx__arena *arena, struct blx_vm **out,
                           blx_error *err) {
  const struct state_vm *vm = blx__state_vm_get(st, uid);
  if (!vm) return blx__fail(err, BLX_E_NOT_FOUND, "state", "there is no VM with uid %llu", (unsigned long long)uid);
  struct blx_vm *draft = blx__arena_alloc(arena, sizeof *draft);
  if (!draft) return no_room(err, arena);
  *draft = *vm->rec;
  draft->running = 0;
  draft->instances = instance_drafts(st, vm, arena, &draft->running);
  draft->n_instances = vm->instances.count;
  if (!draft->instances || !add_unblock(&draft->reason, draft->phase, arena)) return no_room(err, arena);
  *out = draft;
  return BLX__OK;
}

blx__rc blx__state_view_node(const struct blx__state *st, uint64_t uid, struct blx__arena *arena,
                             struct blx_node_info **out, blx_error *err) {
  const struct state_node *n = blx__state_node_get(st, uid);
  if (!n) return no_node(err, uid);
  enum { NAMED_MAX = 32 };
  struct blx_resources allocated = BLX_RESOURCES_INIT;
  struct blx_amount amounts[NAMED_MAX], *named[NAMED_MAX];
  for (size_t i = 0; i < n->named.n && i < NAMED_MAX; i++) {
    amounts[i] = (struct blx_amount)BLX_AMOUNT_INIT;
    amounts[i].name = n->named.list[i].name;
    amounts[i].amount = n->named.list[i].amount;
    named[allocated.n_named++] = &amounts[i];
  }
  allocated.named = named;
  allocated.vcpus = n->vcpus > UINT32_MAX ? UINT32_MAX : (uint32_t)n->vcpus;
  allocated.cpu_milli = n->cpu_milli > UINT32_MAX ? UINT32_MAX : (uint32_t)n->cpu_milli;
  allocated.memory_mib = n->memory_mib;
  struct blx_node_info draft = *n->rec;
  draft.allocated = &allocated;
  draft.instances = n->live;
  draft.tombstones = (uint32_t)n->tombstones.count;
  draft.unclear = blx__state_unclear_rec(st, n->rec);
  void *copy = NULL;
  BLX__TRY(blx__msg_copy(blx__desc_node_info(), arena, &draft, &copy, err));
  *out = copy;
  return BLX__OK;
}

static void assignment(const struct blx__state *st, const struct state_instance *i, struct blx_assignment *out) {
  const struct blx_vm *vm = i->vm->rec;
  const struct blx_config *config = blx__state_config(st, vm->spec->config_sha256);
  *out = (struct blx_assignment)BLX_ASSIGNMENT_INIT;
  out->instance = i->rec->name;
  out->tenant = vm->tenant;
  out->instance_uid = i->rec->uid;
  out->epoch = i->rec->epoch;
  out->spec = vm->spec;
  /* By what it was told, not by who is on his way out now: a stop that was asked for is not taken back. */
  bool held = vm->desired == BLX_DESIRED_STOPPED && i->rec->ending == BLX_ENDING_NONE &&
              blx__state_reason_code(i->rec->reason) == BLX_REASON_CODE_WAITS_FOR_STOP;
  out->desired = held ? BLX_DESIRED_RUNNING : vm->desired;
  out->remove = blx__state_leaving(i);
  out->ending = i->rec->ending;
  out->paused = vm->paused;
  if (config) {
    const struct blx_settings *settings = blx__state_settings(st);
    out->config = config->text;
    out->nixpkgs_ref = settings->nixpkgs_ref;
    out->microvm_ref = settings->microvm_ref;
  }
  /* Nothing may run in the epoch that fencing gave it, whatever is still on its way to be killed. */
  out->dead = i->rec->dead || i->rec->fenced;
  out->tell = !i->rec->dead && i->rec->report_seq == 0;
  out->held = !out->dead && blx__state_is_held(st, i->rec);
}

/* It is killed whatever it was: its VM is gone. */
static void removal(const struct blx_tombstone *t, struct blx_assignment *out) {
  *out = (struct blx_assignment)BLX_ASSIGNMENT_INIT;
  out->instance = t->instance;
  out->tenant = blx__state_tenant(t->tenant);
  out->instance_uid = t->instance_uid;
  out->epoch = t->epoch;
  out->spec = t->spec;
  out->desired = BLX_DESIRED_STOPPED;
  out->remove = 1;
  out->dead = t->dead;
}

blx__rc blx__state_share(const struct blx__state *st, uint64_t node_uid, struct blx__arena *arena,
                         struct blx_assignment ***out, size_t *n, blx_error *err) {
  const struct state_node *node = blx__state_node_get(st, node_uid);
  if (!node) return no_node(err, node_uid);
  size_t most = node->instances.count + node->tombstones.count;
  struct blx_assignment *drafts = blx__arena_alloc(arena, (most + 1) * sizeof *drafts);
  struct blx_assignment **list = blx__arena_alloc(arena, (most + 1) * sizeof *list);
  if (!drafts || !list) return no_room(err, arena);
  size_t at = 0;
  BLX__MAP_FOREACH(pos, &node->instances) assignment(st, blx__map_value(pos), &drafts[at++]);
  BLX__MAP_FOREACH(pos, &node->tombstones) removal(blx__map_value(pos), &drafts[at++]);
  for (size_t i = 0; i < at; i++) list[i] = &drafts[i];
  BLX__ASSERT(at == most);
  *out = list;
  *n = at;
  return BLX__OK;
}

uint64_t blx__state_share_revision(const struct blx__state *st, uint64_t node_uid) {
  const struct state_node *n = blx__state_node_get(st, node_uid);
  return n ? n->share_revision : 0;
}

uint64_t blx__state_share_index(const struct blx__state *st, uint64_t node_uid) {
  const struct state_node *n = blx__state_node_get(st, node_uid);
  return n ? n->share_index : 0;
}
