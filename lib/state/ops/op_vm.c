/* What users want: configs, VMs, running or stopped, deleted. */
#include "state/state_int.h"

#include <string.h>

blx__rc blx__state_op_config_put(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  (void)out;
  const struct blx_op_config_put *o = op->config_put;
  struct blx__slice text = {o->text.data, o->text.len};
  uint8_t digest[BLX__SHA256_BYTES];
  char hex[BLX__SHA256_HEX];
  blx__sha256(&text, 1, digest);
  blx__sha256_hex(digest, hex);
  if (!blx__str_eq(o->sha256, hex))
    return blx__fail(err, BLX_E_INVALID, "state", "sha256: the text has the digest %s, not %s", hex,
                     o->sha256 ? o->sha256 : "''");
  if (blx__state_config(st, hex)) return BLX__OK;
  if (st->data.configs.count >= BLX__STATE_CONFIGS_MAX && !blx__state_drop_unused_config(st))
    return blx__fail(err, BLX_E_BUSY, "state", "the cluster keeps %d configs, the most it can, and VMs use all of them",
                     (int)BLX__STATE_CONFIGS_MAX);
  struct blx_config draft = BLX_CONFIG_INIT;
  draft.sha256 = hex;
  draft.text = o->text;
  blx__state_put_config(st, &draft);
  return BLX__OK;
}

/* ---- create */

static bool instance_name(char out[64], const char *vm, uint32_t ordinal) {
  char digits[12];
  size_t at = sizeof digits, len = strnlen(vm, 64);
  digits[--at] = '\0';
  do digits[--at] = (char)('0' + ordinal % 10);
  while ((ordinal /= 10) > 0);
  digits[--at] = '-';
  if (len + sizeof digits - at > 64) return false;
  memcpy(out, vm, len);
  memcpy(out + len, &digits[at], sizeof digits - at);
  return true;
}

/* "node2", "node1 and node2", "node1, node2, node3 and 3 more instances". */
unsigned blx__state_unconfirmed_nodes(const struct blx__state *st, const struct state_vm *vm,
                                      char out[STATE_NODES_TEXT_BYTES]) {
  uint64_t seen[3] = {0};
  unsigned n = 0, more = 0;
  BLX__MAP_FOREACH(pos, &vm->instances) {
    uint64_t uid = ((const struct state_instance *)blx__map_value(pos))->rec->node_uid;
    bool known = uid == 0;
    for (unsigned i = 0; i < n; i++) known = known || seen[i] == uid;
    if (known) continue;
    if (n < BLX__COUNT(seen))
      seen[n++] = uid;
    else
      more++;
  }
  size_t len = 0;
  for (unsigned i = 0; i < n; i++) {
    const struct blx_node_info *node = blx__state_node(st, seen[i]);
    const char *between = i == 0 ? "" : i + 1 == n && !more ? " and " : ", ";
    blx__str_format(out + len, 160 - len, "%s%.40s", between, node ? node->name : "its node");
    len += strlen(out + len);
  }
  if (more) blx__str_format(out + len, 160 - len, " and %u more instances", more);
  if (n == 0) blx__str_copy(out, 160, "its nodes");
  return n;
}

blx__rc blx__state_replica_names_free(const struct blx__state *st, const char *tenant, const char *vm, uint32_t from,
                                      uint32_t to, blx_error *err) {
  for (uint32_t ordinal = from; ordinal <= to; ordinal++) {
    char name[64];
    BLX__ASSERT(instance_name(name, vm, ordinal));
    if (blx__state_vm_named(st, tenant, name))
      return blx__fail(err, BLX_E_EXISTS, "state",
                       "replica %u would be named %s, and a VM has that name: choose another name", ordinal, name);
  }
  return BLX__OK;
}

static blx__rc name_is_free(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                            uint32_t replicas, blx_error *err) {
  const struct state_vm *vm = blx__state_vm_named(st, tenant, spec->name);
  if (vm && vm->rec->deleting) {
    char nodes[STATE_NODES_TEXT_BYTES];
    (void)blx__state_unconfirmed_nodes(st, vm, nodes);
    return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s is being deleted: its name is free when %s confirmed",
                     spec->name, nodes);
  }
  if (vm) return blx__fail(err, BLX_E_EXISTS, "state", "a VM named %s exists already: choose another name", spec->name);
  const struct state_instance *i = blx__state_instance_named(st, tenant, spec->name);
  if (i)
    return blx__fail(err, BLX_E_EXISTS, "state", "%s is the name of an instance of the VM %s: choose another name",
                     spec->name, i->rec->vm);
  return blx__state_replica_names_free(st, tenant, spec->name, 1, replicas, err);
}

/* Each exists, so that there can be no circle: what is created later cannot be named earlier. */
static blx__rc dependencies_exist(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                                  blx_error *err) {
  if (spec->n_depends_on > 16)
    return blx__fail(err, BLX_E_INVALID, "state", "spec.depends_on: %zu names are above 16", spec->n_depends_on);
  for (size_t n = 0; n < spec->n_depends_on; n++) {
    const char *name = spec->depends_on[n];
    const struct state_vm *on = blx__state_vm_named(st, tenant, name);
    for (size_t k = 0; k < n; k++)
      if (blx__str_eq(spec->depends_on[k], name))
        return blx__fail(err, BLX_E_INVALID, "state", "spec.depends_on: %s is named twice", name);
    if (blx__str_eq(name, spec->name))
      return blx__fail(err, BLX_E_INVALID, "state", "spec.depends_on: %s cannot wait for itself", name);
    if (!on)
      return blx__fail(err, BLX_E_NOT_FOUND, "state", "spec.depends_on: there is no VM named %.64s: create it first",
                       name ? name : "''");
    if (on->rec->deleting)
      return blx__fail(err, BLX_E_CONFLICT, "state", "spec.depends_on: the VM %s is being deleted", name);
  }
  return BLX__OK;
}

static blx__rc admissible(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                          uint32_t replicas, blx_error *err) {
  if (!spec || !blx__name_ok(spec->name, 56))
    return blx__fail(err, BLX_E_INVALID, "state",
                     "spec.name: a VM's name has at most 56 bytes and must match " BLX__NAME_PATTERN);
  if (replicas > STATE_REPLICAS_MAX)
    return blx__fail(err, BLX_E_INVALID, "state", "spec.replicas: %u is above %d", replicas, (int)STATE_REPLICAS_MAX);
  BLX__TRY(blx__placement_spec_check(spec, err));
  bool config = spec->config_sha256 && spec->config_sha256[0];
  if (config && !blx__state_config(st, spec->config_sha256) && st->data.configs.count >= BLX__STATE_CONFIGS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state",
                     "the cluster keeps %d configs, the most it can, and VMs use all of them: delete a VM, or use a "
                     "config that another VM has",
                     (int)BLX__STATE_CONFIGS_MAX);
  if (config && !blx__state_config(st, spec->config_sha256))
    return blx__fail(err, BLX_E_STALE, "state", "the cluster does not hold the config %s: put it first",
                     spec->config_sha256);
  if (st->data.vms.count >= BLX__STATE_VMS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d VMs, the most it can have",
                     (int)BLX__STATE_VMS_MAX);
  if (st->data.instances.count + replicas > BLX__STATE_INSTANCES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %zu of %d instances: %u more do not fit",
                     st->data.instances.count, (int)BLX__STATE_INSTANCES_MAX, replicas);
  BLX__TRY(name_is_free(st, tenant, spec, replicas, err));
  BLX__TRY(blx__state_quota_allows(st, tenant, spec, 1, replicas, err));
  BLX__TRY(blx__state_levels_allow(st, spec, err));
  return dependencies_exist(st, tenant, spec, err);
}

blx__rc blx__state_may_create(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                              blx_error *err) {
  return admissible(st, tenant, spec, spec ? blx__state_replicas(spec) : 0, err);
}

struct blx_reason blx__state_unplaced(void) {
  return blx__state_reason(BLX_REASON_CODE_UNPLACED, "waits for the scheduler to choose a node", NULL);
}

struct blx_reason blx__state_not_started(void) {
  return blx__state_reason(BLX_REASON_CODE_STOPPED_BY_USER, "is defined and was not started", "start the VM");
}

static struct blx_reason stopped_by_user(void) {
  return blx__state_reason(BLX_REASON_CODE_STOPPED_BY_USER, "was stopped on request", "start the VM");
}

/* With the VM's reason, so that nothing is left to settle. */
void blx__state_create_instance(struct blx__state *st, const struct blx_vm *vm, uint32_t ordinal) {
  struct blx_instance i = BLX_INSTANCE_INIT;
  char name[64];
  BLX__ASSERT(instance_name(name, vm->spec->name, ordinal));
  i.name = name;
  i.uid = st->data.next_uid++;
  i.vm = vm->spec->name;
  i.vm_uid = vm->uid;
  i.ordinal = ordinal;
  i.phase = vm->phase;
  i.reason = vm->reason;
  i.dead = 1;
  blx__state_put_instance(st, &i);
}

blx__rc blx__state_op_vm_create(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_op_vm_create *o = op->vm_create;
  struct blx_vm_spec *spec = o->spec;
  uint32_t replicas = spec && spec->has_replicas ? spec->replicas : 1;
  BLX__TRY(admissible(st, op->tenant, spec, replicas, err));
  bool run = o->desired != BLX_DESIRED_STOPPED;
  struct blx_reason reason = blx__state_unplaced();
  struct blx_vm vm = BLX_VM_INIT;
  if (!run) reason = blx__state_not_started();
  vm.uid = st->data.next_uid++;
  vm.tenant = blx__state_tenant(op->tenant);
  vm.spec = spec;
  vm.desired = run ? BLX_DESIRED_RUNNING : BLX_DESIRED_STOPPED;
  vm.phase = run ? BLX_PHASE_PENDING : BLX_PHASE_STOPPED;
  vm.reason = &reason;
  vm.spec_revision = st->data.index;
  vm.created_ms = st->data.time_ms;
  blx__state_put_vm(st, &vm);
  for (uint32_t ordinal = 1; ordinal <= replicas; ordinal++) blx__state_create_instance(st, &vm, ordinal);
  struct state_vm *e = blx__state_vm_get(st, vm.uid);
  BLX__ASSERT(e != NULL && e->instances.count == replicas);
  if (replicas == 0) STATE_MUST(blx__map_set_u64(&st->data.unsettled, vm.uid, e, NULL));
  out->uid = vm.uid;
  return BLX__OK;
}

/* ---- start, stop, kill */

blx__rc blx__state_vm_find(const struct blx__state *st, const struct blx_op *op, const char *name, uint64_t if_revision,
                           struct state_vm **out, blx_error *err) {
  struct state_vm *e = blx__state_vm_named(st, op->tenant, name);
  const char *tenant = blx__state_tenant(op->tenant);
  bool named = !blx__str_eq(tenant, blx__state_tenant(NULL));
  if (!e)
    return blx__fail(err, BLX_E_NOT_FOUND, "state", "there is no VM named %s%s%s", name && name[0] ? name : "''",
                     named ? " in tenant " : "", named ? tenant : "");
  if (if_revision && if_revision != e->rec->revision)
    return blx__fail(err, BLX_E_STALE, "state", "the VM %s has revision %llu, not %llu: read it again", name,
                     (unsigned long long)e->rec->revision, (unsigned long long)if_revision);
  *out = e;
  return BLX__OK;
}

/* One that still shuts down finishes that; its death starts it again. Its agent may not have heard of the stop at all,
 * and would have nothing new to say: it is asked. */
static void ask_again(struct blx__state *st, struct blx_instance *i) {
  if (i->phase != BLX_PHASE_STOPPING || blx__state_reason_code(i->reason) != BLX_REASON_CODE_STOPPED_BY_USER) return;
  i->report_seq = 0;
  blx__state_put_instance(st, i);
}

static void want_running(struct blx__state *st, const struct state_instance *e) {
  struct blx_instance i = *e->rec;
  struct blx_reason reason = blx__state_unplaced();
  bool waited = blx__state_reason_code(i.reason) == BLX_REASON_CODE_WAITS_FOR_STOP;
  if (!i.dead && waited) {
    i.reason = NULL;
    blx__state_put_instance(st, &i);
  } else if (!i.dead) {
    ask_again(st, &i);
  }
  if (!i.dead) return;
  if (i.phase == BLX_PHASE_PENDING && i.not_before_ms == 0 && i.failures == 0) return;
  i.phase = BLX_PHASE_PENDING;
  i.reason = &reason;
  i.not_before_ms = 0;
  i.failures = 0;
  blx__state_put_instance(st, &i);
}

static void stop_for(struct blx__state *st, const struct state_instance *e, int32_t phase, struct blx_reason *reason) {
  struct blx_instance i = *e->rec;
  i.phase = phase;
  i.reason = reason;
  i.not_before_ms = 0;
  i.failures = 0;
  if (i.phase == e->rec->phase && i.reason->code == blx__state_reason_code(e->rec->reason)) return;
  blx__state_put_instance(st, &i);
}

static void want_stopped(struct blx__state *st, const struct state_instance *e) {
  const struct blx_vm *first = e->rec->dead ? NULL : blx__state_stops_first(e->vm);
  struct blx_reason reason = stopped_by_user();
  char text[160];
  if (e->rec->dead) {
    stop_for(st, e, BLX_PHASE_STOPPED, &reason);
    return;
  }
  if (!first) {
    reason = blx__state_reason(BLX_REASON_CODE_STOPPED_BY_USER, "was asked to shut down", NULL);
    stop_for(st, e, BLX_PHASE_STOPPING, &reason);
    return;
  }
  blx__str_format(text, sizeof text, "shuts down when the VM %s, which depends on it, has stopped", first->spec->name);
  reason = blx__state_reason(BLX_REASON_CODE_WAITS_FOR_STOP, text, NULL);
  stop_for(st, e, e->rec->phase, &reason);
}

void blx__state_stop_now(struct blx__state *st, const struct state_instance *e) {
  want_stopped(st, e);
  blx__state_touch_share(st, e->rec->node_uid);
}

blx__rc blx__state_vm_stays(const struct state_vm *e, blx_error *err) {
  if (!e->rec->deleting) return BLX__OK;
  return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s is being deleted: nothing else can be done with it",
                   e->rec->spec->name);
}

/* To start one that is paused, and to stop it, lets it go on. */
static void desire(struct blx__state *st, struct state_vm *e, int32_t desired) {
  if (e->rec->desired == desired && !e->rec->paused) return;
  struct blx_vm draft = *e->rec;
  draft.desired = desired;
  draft.paused = 0;
  blx__state_put_vm(st, &draft);
  STATE_MUST(blx__map_set_u64(&st->data.unsettled, e->rec->uid, e, NULL));
}

blx__rc blx__state_op_vm_desire(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_op_vm_desire *o = op->vm_desire;
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  BLX__TRY(blx__state_vm_stays(e, err));
  if (o->desired != BLX_DESIRED_RUNNING && o->desired != BLX_DESIRED_STOPPED)
    return blx__fail(err, BLX_E_INVALID, "state", "desired: %d is neither running nor stopped", (int)o->desired);
  desire(st, e, o->desired);
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct state_instance *i = blx__map_value(pos);
    if (blx__state_leaving(i)) continue;
    if (o->desired == BLX_DESIRED_RUNNING)
      want_running(st, i);
    else
      want_stopped(st, i);
  }
  out->uid = e->rec->uid;
  return BLX__OK;
}

static void kill_one(struct blx__state *st, const struct state_instance *e) {
  if (e->rec->dead || e->rec->ending == BLX_ENDING_KILL) return;
  struct blx_reason reason =
      blx__state_reason(BLX_REASON_CODE_STOPPED_BY_USER, "was killed on request", "start the VM");
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_STOPPING;
  i.reason = &reason;
  i.ending = BLX_ENDING_KILL;
  blx__state_put_instance(st, &i);
}

blx__rc blx__state_op_vm_kill(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                              blx_error *err) {
  const struct blx_op_vm_kill *o = op->vm_kill;
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  BLX__TRY(blx__state_vm_stays(e, err));
  desire(st, e, BLX_DESIRED_STOPPED);
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct state_instance *i = blx__map_value(pos);
    if (blx__state_leaving(i)) continue;
    want_stopped(st, i);
    kill_one(st, i);
  }
  out->uid = e->rec->uid;
  return BLX__OK;
}

/* ---- restart, pause */

static void restart_one(struct blx__state *st, const struct state_instance *e, int32_t ending) {
  if (blx__state_leaving(e)) return;
  if (e->rec->dead) {
    want_running(st, e);
    return;
  }
  if (e->rec->ending >= ending) return;
  struct blx_reason reason =
      blx__state_reason(BLX_REASON_CODE_RESTART_REQUESTED, "ends, to be started again as was asked", NULL);
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_STOPPING;
  i.reason = &reason;
  i.ending = ending;
  blx__state_put_instance(st, &i);
}

blx__rc blx__state_op_vm_restart(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_vm_restart *o = op->vm_restart;
  const struct state_instance *one = blx__state_instance_named(st, op->tenant, o->name);
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, one ? one->vm->rec->spec->name : o->name, o->if_revision, &e, err));
  BLX__TRY(blx__state_vm_stays(e, err));
  if (e->rec->desired != BLX_DESIRED_RUNNING)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s is stopped: start it instead", e->rec->spec->name);
  if (one && blx__state_leaving(one))
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s is being deleted: nothing else can be done with it",
                     one->rec->name);
  int32_t ending = o->ending == BLX_ENDING_KILL ? BLX_ENDING_KILL : BLX_ENDING_SHUT_DOWN;
  if (one) restart_one(st, one, ending);
  if (!one) {
    BLX__MAP_FOREACH(pos, &e->instances) restart_one(st, blx__map_value(pos), ending);
  }
  out->uid = e->rec->uid;
  return BLX__OK;
}

blx__rc blx__state_op_vm_pause(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                               blx_error *err) {
  const struct blx_op_vm_pause *o = op->vm_pause;
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  BLX__TRY(blx__state_vm_stays(e, err));
  if (e->rec->desired != BLX_DESIRED_RUNNING)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s is stopped: only what runs can be paused or resumed",
                     o->name);
  out->uid = e->rec->uid;
  if (!e->rec->paused == !o->paused) return BLX__OK;
  struct blx_vm draft = *e->rec;
  draft.paused = o->paused;
  blx__state_put_vm(st, &draft);
  return BLX__OK;
}

/* ---- delete */

void blx__state_want_removed(struct blx__state *st, struct state_instance *e) {
  const struct blx_node_info *n = blx__state_node(st, e->rec->node_uid);
  if (!n) {
    blx__state_drop_instance(st, e);
    return;
  }
  char text[128];
  blx__str_format(text, sizeof text, "was deleted; %s has not confirmed yet", n->name);
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_DELETE_REQUESTED, text, NULL);
  struct blx_instance i = *e->rec;
  i.phase = BLX_PHASE_DELETING;
  i.reason = &reason;
  i.not_before_ms = 0;
  blx__state_put_instance(st, &i);
}

static bool is_silent(const struct blx_op_vm_delete_force *o, const struct blx_instance *i) {
  for (size_t n = 0; o && n < o->n_silent_nodes; n++)
    if (i->node_uid != 0 && i->node_uid == o->silent_nodes[n]) return true;
  return false;
}

static blx__rc no_dependents(const struct state_vm *e, blx_error *err) {
  if (e->dependents.count == 0) return BLX__OK;
  const char *by = ((const struct state_vm *)blx__map_value(blx__map_seek(&e->dependents, NULL, 0)))->rec->spec->name;
  return blx__fail(err, BLX_E_CONFLICT, "state", "the VM %s depends on %s: delete %s first", by, e->rec->spec->name,
                   by);
}

blx__rc blx__state_none_held(const struct blx__state *st, const struct state_vm *e, uint32_t above, blx_error *err) {
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct blx_instance *i = ((const struct state_instance *)blx__map_value(pos))->rec;
    if (i->ordinal <= above || !blx__state_is_held(st, i)) continue;
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s may run on one of %u nodes that have not said since the recovery what runs there: start them, "
                     "or `blixard node fence NODE --proved 'HOW YOU KNOW'`, and remove it then",
                     i->name, blx__state_unclear(st));
  }
  return BLX__OK;
}

/* @force: NULL, or what names the nodes that are not waited for. */
static void delete_vm(struct blx__state *st, struct state_vm *e, const struct blx_op_vm_delete_force *force,
                      const char *principal) {
  bool again = e->rec->deleting;
  struct blx_vm draft = *e->rec;
  draft.deleting = 1;
  if (!again) blx__state_put_vm(st, &draft);
  STATE_MUST(blx__map_set_u64(&st->data.unsettled, e->rec->uid, e, NULL));
  uint32_t ordinal = 0;
  for (;;) {
    /* Dropping one changes the map, so the place is found anew each time. */
    const struct blx_instance *i = blx__state_instance_after(st, e->rec->uid, ordinal);
    if (!i) break;
    ordinal = i->ordinal;
    if (is_silent(force, i))
      blx__state_bury(st, blx__state_instance_get(st, i->uid), principal);
    else if (!again && i->phase != BLX_PHASE_DELETING)
      blx__state_want_removed(st, blx__state_instance_get(st, i->uid));
  }
}

blx__rc blx__state_op_vm_delete(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_op_vm_delete *o = op->vm_delete;
  struct state_vm *e = NULL;
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  out->uid = e->rec->uid;
  if (e->rec->deleting) return BLX__OK;
  BLX__TRY(no_dependents(e, err));
  BLX__TRY(blx__state_none_held(st, e, 0, err));
  delete_vm(st, e, NULL, NULL);
  return BLX__OK;
}

blx__rc blx__state_op_vm_delete_force(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                      blx_error *err) {
  const struct blx_op_vm_delete_force *o = op->vm_delete_force;
  struct state_instance *one = blx__state_instance_named(st, op->tenant, o->name);
  struct state_vm *e = NULL;
  if (one) {
    BLX__TRY(blx__state_vm_find(st, op, one->vm->rec->spec->name, o->if_revision, &e, err));
    out->uid = e->rec->uid;
    return blx__state_give_up(st, op, one, is_silent(o, one->rec), err);
  }
  BLX__TRY(blx__state_vm_find(st, op, o->name, o->if_revision, &e, err));
  BLX__TRY(no_dependents(e, err));
  size_t silent = 0;
  BLX__MAP_FOREACH(pos, &e->instances)
  silent += is_silent(o, ((const struct state_instance *)blx__map_value(pos))->rec);
  if (silent == 0) {
    char nodes[STATE_NODES_TEXT_BYTES];
    unsigned n = blx__state_unconfirmed_nodes(st, e, nodes);
    if (n == 0)
      return blx__fail(err, BLX_E_CONFLICT, "state", "no node holds an instance of %s: delete it without --force",
                       o->name);
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s %s heard from and can remove %s: delete it without --force; a node is Suspect after %u ms of "
                     "silence (lease.suspect_ms)",
                     nodes, n == 1 ? "is" : "are", o->name, blx__state_settings(st)->lease->suspect_ms);
  }
  if (st->data.tombstones.count + silent > BLX__STATE_TOMBSTONES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state",
                     "the cluster remembers %zu instances that silent nodes must still remove, %d is the most, and %s "
                     "would add %zu: bring back a node that `blixard node list` shows as Suspect",
                     st->data.tombstones.count, (int)BLX__STATE_TOMBSTONES_MAX, o->name, silent);
  out->uid = e->rec->uid;
  delete_vm(st, e, o, op->principal);
  for (size_t n = 0; n < o->n_silent_nodes; n++) blx__state_fence_lift(st, o->silent_nodes[n]);
  return BLX__OK;
}
