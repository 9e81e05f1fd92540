/* Nodes: what they say of themselves, what users say of them, and what was deleted there by force. */
#include "state/state_int.h"

blx__rc blx__state_op_cluster_init(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                   blx_error *err) {
  (void)out;
  const struct blx_op_cluster_init *o = op->cluster_init;
  if (st->data.cluster_id[0])
    return blx__fail(err, BLX_E_CONFLICT, "state", "the cluster %s was initialised before", st->data.cluster_name);
  if (!o->id || !o->id[0]) return blx__fail(err, BLX_E_INVALID, "state", "id: the cluster needs one");
  blx__str_copy(st->data.cluster_id, sizeof st->data.cluster_id, o->id);
  blx__str_copy(st->data.cluster_name, sizeof st->data.cluster_name, o->name ? o->name : "");
  return BLX__OK;
}

static const struct blx_label *find_label(struct blx_label *const *list, size_t n, const char *key) {
  for (size_t i = 0; i < n; i++)
    if (blx__str_eq(list[i]->key, key)) return list[i];
  return NULL;
}

/* What users set, and of the daemon's labels those with other keys, as far as there is room. */
static void merge_labels(struct blx_node_info *n, struct blx_label *out[STATE_LABELS_MAX]) {
  size_t at = 0;
  BLX__ASSERT(n->n_set_labels <= STATE_LABELS_MAX);
  for (size_t i = 0; i < n->n_set_labels; i++) out[at++] = n->set_labels[i];
  for (size_t i = 0; i < n->n_daemon_labels && at < STATE_LABELS_MAX; i++)
    if (!find_label(out, at, n->daemon_labels[i]->key)) out[at++] = n->daemon_labels[i];
  n->labels = out;
  n->n_labels = at;
}

void blx__state_take_description(struct blx_node_info *to, const struct blx_node_info *from,
                                 struct blx_label *labels[STATE_LABELS_MAX]) {
  to->incarnation = from->incarnation;
  to->address = from->address;
  to->peer_address = from->peer_address;
  to->capacity = from->capacity;
  to->hypervisors = from->hypervisors;
  to->n_hypervisors = from->n_hypervisors;
  to->version = from->version;
  to->simulated = from->simulated;
  to->ha_ready = from->ha_ready;
  to->watchdog = from->watchdog;
  to->tells_disks = from->tells_disks;
  to->no_watchdog = from->no_watchdog;
  to->virtualized = from->virtualized;
  to->daemon_labels = from->labels;
  to->n_daemon_labels = from->n_labels;
  to->cpu_features = from->cpu_features;
  to->n_cpu_features = from->n_cpu_features;
  merge_labels(to, labels);
}

blx__rc blx__state_op_node_join(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_node_info *o = op->node_join->node;
  if (!o || !blx__name_ok(o->name, 63))
    return blx__fail(err, BLX_E_INVALID, "state", "name: a node's name must match " BLX__NAME_PATTERN);
  if (blx__state_node_by_name(st, o->name))
    return blx__fail(err, BLX_E_EXISTS, "state", "the cluster has a node named %s already: choose another name",
                     o->name);
  if (st->data.nodes.count >= BLX__STATE_NODES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d nodes, the most it can have",
                     (int)BLX__STATE_NODES_MAX);
  struct blx_node_info draft = BLX_NODE_INFO_INIT;
  struct blx_label *labels[STATE_LABELS_MAX];
  blx__state_take_description(&draft, o, labels);
  draft.name = o->name;
  draft.role = o->role;
  draft.uid = st->data.next_node_uid++;
  draft.joined_ms = st->data.time_ms;
  blx__state_put_node(st, &draft);
  out->uid = draft.uid;
  return BLX__OK;
}

blx__rc blx__state_node_known(const struct blx__state *st, uint64_t uid, struct state_node **out, blx_error *err) {
  struct state_node *e = blx__state_node_get(st, uid);
  if (!e && uid > 0 && uid < st->data.next_node_uid)
    return blx__fail(err, BLX_E_NOT_FOUND, "state",
                     "the node with uid %llu was removed: wipe its data directory and join anew",
                     (unsigned long long)uid);
  if (!e)
    return blx__fail(err, BLX_E_NOT_FOUND, "state", "the cluster has no node with uid %llu: it must join first",
                     (unsigned long long)uid);
  *out = e;
  return BLX__OK;
}

blx__rc blx__state_op_node_register(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                    blx_error *err) {
  const struct blx_node_info *o = op->node_register->node;
  if (!o) return blx__fail(err, BLX_E_INVALID, "state", "node: the registration is empty");
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->uid, &e, err));
  if (e->rec->fence != BLX_FENCE_NONE)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s is fenced: it comes back by itself", e->rec->name);
  if (o->incarnation != 0 && o->incarnation == e->rec->fence_incarnation)
    return blx__fail(err, BLX_E_CONFLICT, "state", "this incarnation of %s was fenced: it comes back as a new one",
                     e->rec->name);
  /* One of an earlier life that was long on its way would hide the present one for ever. */
  const uint64_t replaces = op->node_register->replaces, last = e->rec->incarnation;
  if (replaces != 0 && replaces != last && o->incarnation != last)
    return blx__fail(err, BLX_E_STALE, "state", "the node %s was started anew since: it registers again by itself",
                     e->rec->name);
  struct blx_node_info draft = *e->rec;
  struct blx_label *labels[STATE_LABELS_MAX];
  blx__state_take_description(&draft, o, labels);
  blx__state_put_node(st, &draft);
  out->uid = o->uid;
  return BLX__OK;
}

blx__rc blx__state_op_node_voter(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_voter *o = op->node_voter;
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->uid, &e, err));
  if (o->voter && e->rec->role == BLX_NODE_ROLE_WORKER)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s is a worker, it does not vote: a server joins as one",
                     e->rec->name);
  out->uid = o->uid;
  if (!e->rec->voter == !o->voter) return BLX__OK;
  struct blx_node_info draft = *e->rec;
  draft.voter = o->voter ? 1 : 0;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

/* ---- after a recovery */

bool blx__state_is_gone(const struct blx__state *st, uint64_t uid) {
  const struct blx_node_info *n = blx__state_node(st, uid);
  if (uid >= st->data.gone_below || uid == st->data.survivor_uid) return false;
  return !n || n->role == BLX_NODE_ROLE_SERVER;
}

uint64_t blx__state_gone_below(const struct blx__state *st) {
  return st->data.gone_below;
}

uint64_t blx__state_next_node_uid(const struct blx__state *st) {
  return st->data.next_node_uid;
}

static void set_voter(struct blx__state *st, const struct blx_node_info *n, bool voter) {
  if (!n->voter == !voter) return;
  struct blx_node_info draft = *n;
  draft.voter = voter ? 1 : 0;
  blx__state_put_node(st, &draft);
}

blx__rc blx__state_may_recover(const struct blx__state *st, uint64_t survivor_uid, uint64_t below, blx_error *err) {
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, survivor_uid, &e, err));
  if (below > survivor_uid && below <= st->data.next_node_uid) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "state", "below: %llu is not above %llu and at most %llu",
                   (unsigned long long)below, (unsigned long long)survivor_uid,
                   (unsigned long long)st->data.next_node_uid);
}

void blx__state_go_on_with(struct blx__state *st, uint64_t survivor_uid, uint64_t gone_below) {
  st->data.survivor_uid = survivor_uid;
  st->data.gone_below = gone_below;
  st->data.gone_index = st->data.index;
  const struct blx_node_info *n = NULL;
  for (uint64_t after = 0; (n = blx__state_node_after_uid(st, after)) != NULL;) {
    after = n->uid; /* the record is replaced */
    set_voter(st, n, n->uid == survivor_uid || (n->voter && !blx__state_is_gone(st, n->uid)));
  }
}

/* Of logs from before there were eras; op_regroup came in its place. */
blx__rc blx__state_op_recover(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                              blx_error *err) {
  const struct blx_op_recover *o = op->recover;
  BLX__TRY(blx__state_may_recover(st, o->survivor_uid, o->below, err));
  out->uid = o->survivor_uid;
  if (o->below <= st->data.gone_below && o->survivor_uid == st->data.survivor_uid) return BLX__OK;
  blx__state_go_on_with(st, o->survivor_uid, o->below);
  return BLX__OK;
}

/* ---- what users say of a node */

blx__rc blx__state_node_find(const struct blx__state *st, const char *name, uint64_t if_revision,
                             const struct blx_node_info **out, blx_error *err) {
  const struct blx_node_info *n = blx__state_node_by_name(st, name);
  if (!n)
    return blx__fail(err, BLX_E_NOT_FOUND, "state",
                     "there is no node named %s: `blixard node list` shows those there are",
                     name && name[0] ? name : "''");
  if (if_revision && if_revision != n->revision)
    return blx__fail(err, BLX_E_STALE, "state", "the node %s has revision %llu, not %llu: read it again", name,
                     (unsigned long long)n->revision, (unsigned long long)if_revision);
  *out = n;
  return BLX__OK;
}

blx__rc blx__state_op_node_cordon(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                  blx_error *err) {
  const struct blx_op_node_cordon *o = op->node_cordon;
  const struct blx_node_info *n = NULL;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  out->uid = n->uid;
  bool worded = o->cordoned && o->reason && o->reason[0] && !blx__str_eq(o->reason, n->cordon_reason);
  if (!n->cordoned == !o->cordoned && !worded) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.cordoned = o->cordoned ? 1 : 0;
  draft.cordoned_ms = !o->cordoned ? 0 : n->cordoned ? n->cordoned_ms : st->data.time_ms;
  draft.cordoned_by = o->cordoned ? op->principal : NULL;
  draft.cordon_reason = o->cordoned ? o->reason : NULL;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

/* Each key once, in one of the lists; and what is taken away is a user's. */
static blx__rc check_labels(const struct blx_node_info *n, const struct blx_op_node_label *o, blx_error *err) {
  for (size_t i = 0; i < o->n_set; i++) {
    const char *key = o->set[i]->key;
    if (!key || !key[0]) return blx__fail(err, BLX_E_INVALID, "state", "set: a label has no key");
    if (find_label(o->set, i, key) || find_label(o->unset, o->n_unset, key))
      return blx__fail(err, BLX_E_INVALID, "state", "the label %s is named twice: name it once", key);
  }
  for (size_t i = 0; i < o->n_unset; i++) {
    const char *key = o->unset[i]->key;
    if (!find_label(n->set_labels, n->n_set_labels, key) && find_label(n->daemon_labels, n->n_daemon_labels, key))
      return blx__fail(err, BLX_E_CONFLICT, "state",
                       "the label %s of %s is given by its daemon: start that without --label %s=..., or set another "
                       "value here",
                       key, n->name, key);
  }
  return BLX__OK;
}

blx__rc blx__state_op_node_label(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_label *o = op->node_label;
  const struct blx_node_info *n = NULL;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  BLX__TRY(check_labels(n, o, err));
  struct blx_label *set[2 * STATE_LABELS_MAX], *labels[STATE_LABELS_MAX];
  size_t count = 0;
  bool changed = false;
  BLX__ASSERT(n->n_set_labels <= STATE_LABELS_MAX && o->n_set <= STATE_LABELS_MAX);
  for (size_t i = 0; i < n->n_set_labels; i++) {
    struct blx_label *l = n->set_labels[i];
    if (!find_label(o->set, o->n_set, l->key) && !find_label(o->unset, o->n_unset, l->key)) set[count++] = l;
  }
  for (size_t i = 0; i < o->n_set; i++) {
    const struct blx_label *old = find_label(n->set_labels, n->n_set_labels, o->set[i]->key);
    changed = changed || !old || !blx__str_eq(old->value ? old->value : "", o->set[i]->value ? o->set[i]->value : "");
    set[count++] = o->set[i];
  }
  if (count > STATE_LABELS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "%s would have %zu labels set on it, %d is the most: take some away",
                     n->name, count, (int)STATE_LABELS_MAX);
  out->uid = n->uid;
  if (!changed && count == n->n_set_labels) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.set_labels = set;
  draft.n_set_labels = count;
  merge_labels(&draft, labels);
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

blx__rc blx__state_op_node_fence_command(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                         blx_error *err) {
  const struct blx_op_node_fence_command *o = op->node_fence_command;
  const struct blx_node_info *n = NULL;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  out->uid = n->uid;
  if (blx__str_eq(o->command ? o->command : "", n->fence_command ? n->fence_command : "")) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.fence_command = o->command;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

/* ---- taints */

enum { TAINTS_MAX = 16 };

static const struct blx_taint *find_taint(struct blx_taint *const *list, size_t n, const char *key) {
  for (size_t i = 0; i < n; i++)
    if (blx__str_eq(list[i]->key, key)) return list[i];
  return NULL;
}

static const struct blx_taint *same_taint(struct blx_taint *const *list, size_t n, const struct blx_taint *t) {
  for (size_t i = 0; i < n; i++)
    if (blx__str_eq(list[i]->key, t->key) && list[i]->effect == t->effect) return list[i];
  return NULL;
}

/* Each once, in one of the lists. */
static blx__rc check_taints(const struct blx_op_node_taint *o, blx_error *err) {
  for (size_t i = 0; i < o->n_set; i++) {
    const struct blx_taint *t = o->set[i];
    if (!t->key || !t->key[0]) return blx__fail(err, BLX_E_INVALID, "state", "set: a taint has no key");
    if (t->effect != BLX_TAINT_EFFECT_NO_PLACE && t->effect != BLX_TAINT_EFFECT_AVOID)
      return blx__fail(err, BLX_E_INVALID, "state", "set: the taint %.64s has the effect %d, which there is not",
                       t->key, (int)t->effect);
    if (same_taint(o->set, i, t) || find_taint(o->unset, o->n_unset, t->key))
      return blx__fail(err, BLX_E_INVALID, "state", "the taint %.64s is named twice: name it once", t->key);
  }
  return BLX__OK;
}

blx__rc blx__state_op_node_taint(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_taint *o = op->node_taint;
  const struct blx_node_info *n = NULL;
  struct blx_taint *taints[2 * TAINTS_MAX];
  size_t count = 0;
  bool changed = false;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  BLX__TRY(check_taints(o, err));
  BLX__ASSERT(n->n_taints <= TAINTS_MAX && o->n_set <= TAINTS_MAX);
  for (size_t i = 0; i < n->n_taints; i++) {
    struct blx_taint *t = n->taints[i];
    if (!same_taint(o->set, o->n_set, t) && !find_taint(o->unset, o->n_unset, t->key)) taints[count++] = t;
  }
  for (size_t i = 0; i < o->n_set; i++) {
    const struct blx_taint *old = same_taint(n->taints, n->n_taints, o->set[i]);
    const char *was = old && old->value ? old->value : "", *is = o->set[i]->value ? o->set[i]->value : "";
    changed = changed || !old || !blx__str_eq(was, is);
    taints[count++] = o->set[i];
  }
  if (count > TAINTS_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "%s would have %zu taints, %d is the most: take some away", n->name,
                     count, (int)TAINTS_MAX);
  out->uid = n->uid;
  if (!changed && count == n->n_taints) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.taints = taints;
  draft.n_taints = count;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

/* ---- remove */

/* Which instances still tie a node to the cluster: those that are not dead; those whose disk is there; those that it
 * was told to remove. */
enum tie { LIVES, DISK, LEAVES, TIES };

static enum tie tie_of(const struct state_instance *e) {
  if (!e->rec->dead) return LIVES;
  if (blx__state_leaving(e)) return LEAVES;
  return e->rec->local_data ? DISK : TIES;
}

/* "web-1", "web-1 and 3 more instances"; of another tenant than default its name, too. */
static size_t tied(const struct state_node *e, enum tie tie, char *out, size_t size) {
  const struct state_instance *first = NULL;
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &e->instances) {
    const struct state_instance *i = blx__map_value(pos);
    if (tie_of(i) != tie) continue;
    if (!first) first = i;
    n++;
  }
  if (!first) return 0;
  const char *tenant = first->vm->rec->tenant;
  bool named = !blx__str_eq(tenant, blx__state_tenant(NULL));
  blx__str_format(out, size, "%s%s%s", first->rec->name, named ? " of tenant " : "", named ? tenant : "");
  size_t len = strlen(out);
  if (n > 1) blx__str_format(out + len, size - len, " and %zu more instance%s", n - 1, n == 2 ? "" : "s");
  return n;
}

/* A node that is proved dead takes with it what it was to remove; a living one removes it soon. */
blx__rc blx__state_may_remove(const struct blx__state *st, uint64_t uid, blx_error *err) {
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, uid, &e, err));
  const struct blx_node_info *n = e->rec;
  bool gone = n->fence == BLX_FENCE_DONE;
  char which[192];
  if (blx__state_unclear_rec(st, n))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "since the recovery %s has not said what runs there: start it, or if its machine is off, "
                     "`blixard node fence %s --proved 'HOW YOU KNOW'`",
                     n->name, n->name);
  if (n->fence == BLX_FENCE_BEGUN)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s is being fenced: remove it when it is Fenced", n->name);
  if (tied(e, LIVES, which, sizeof which) > 0)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s: not confirmed dead on %s: %s", which, n->name,
                     gone ? "`blixard vm delete VM --force` gives up what is there"
                          : "stop or delete what is there; if the machine is gone, `blixard node fence NODE`");
  if (tied(e, DISK, which, sizeof which) > 0)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s: the disk is on %s: `blixard vm delete VM`, if need be with --force, gives it up", which,
                     n->name);
  if (!gone && tied(e, LEAVES, which, sizeof which) > 0)
    return blx__fail(err, BLX_E_CONFLICT, "state", "%s: deleted, and %s has not confirmed yet that it is gone", which,
                     n->name);
  if (!gone && e->tombstones.count > 0)
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "%s must still remove %zu instance%s that %s deleted by force: start it, or have it fenced",
                     n->name, e->tombstones.count, e->tombstones.count == 1 ? "" : "s",
                     e->tombstones.count == 1 ? "was" : "were");
  return BLX__OK;
}

/* What was there and waits is as if it had never been anywhere, but for its epoch. */
static void let_go(struct blx__state *st, struct state_instance *e) {
  BLX__ASSERT(e->rec->dead && !(e->rec->local_data && !blx__state_leaving(e)));
  if (blx__state_leaving(e)) {
    blx__state_drop_instance(st, e);
    return;
  }
  struct blx_instance i = *e->rec;
  i.node_uid = 0;
  i.fenced = 0;
  blx__state_put_instance(st, &i);
}

blx__rc blx__state_op_node_remove(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                  blx_error *err) {
  const struct blx_op_node_remove *o = op->node_remove;
  const struct blx_node_info *n = NULL;
  BLX__TRY(blx__state_node_find(st, o->name, o->if_revision, &n, err));
  struct state_node *e = blx__state_node_get(st, n->uid);
  if (n->voter)
    return blx__fail(err, BLX_E_CONFLICT, "state", "the node %s votes: it must stop voting before it is removed",
                     n->name);
  BLX__TRY(blx__state_may_remove(st, n->uid, err));
  out->uid = n->uid;
  /* Each of them leaves the map, so that the first is found anew. */
  while (e->instances.count > 0) let_go(st, blx__map_value(blx__map_seek(&e->instances, NULL, 0)));
  while (e->tombstones.count > 0) blx__state_drop_tombstone(st, blx__map_value(blx__map_seek(&e->tombstones, NULL, 0)));
  blx__state_forget_rooms(st, n->uid);
  blx__state_drop_node(st, e);
  return BLX__OK;
}

/* ---- tombstones */

void blx__state_bury(struct blx__state *st, struct state_instance *e, const char *principal) {
  const struct blx_instance *i = e->rec;
  const struct blx_vm *vm = e->vm->rec;
  BLX__ASSERT(i->node_uid != 0 && i->epoch > 0 && blx__state_leaving(e));
  /* What the agent needs to stop and remove it when it has lost its journal, and placement to keep its room. */
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  spec.name = vm->spec->name;
  spec.hypervisor = vm->spec->hypervisor;
  spec.vcpus = vm->spec->vcpus;
  spec.cpu_milli = vm->spec->cpu_milli;
  spec.memory_mib = vm->spec->memory_mib;
  spec.resources = vm->spec->resources;
  spec.n_resources = vm->spec->n_resources;
  spec.labels = vm->spec->labels;
  spec.n_labels = vm->spec->n_labels;
  spec.affinity = vm->spec->affinity;
  spec.n_affinity = vm->spec->n_affinity;
  spec.stop_timeout_ms = vm->spec->stop_timeout_ms;
  spec.ready_none = vm->spec->ready_none;
  struct blx_tombstone t = BLX_TOMBSTONE_INIT;
  t.instance = i->name;
  t.instance_uid = i->uid;
  t.epoch = i->epoch;
  t.node_uid = i->node_uid;
  t.tenant = vm->tenant;
  t.since_ms = st->data.time_ms;
  t.deleted_by = principal;
  t.dead = i->dead;
  t.spec = &spec;
  blx__state_put_tombstone(st, &t);
  blx__state_drop_instance(st, e);
}

bool blx__state_tombstone_report(struct blx__state *st, uint64_t node_uid, const struct blx_instance_report *r) {
  struct blx_tombstone *t = blx__map_get_u64(&st->data.tombstones, r->instance_uid);
  if (!t || t->node_uid != node_uid || t->epoch != r->epoch || (!r->dead && !r->gone)) return false;
  if (r->gone) {
    blx__state_drop_tombstone(st, t);
  } else if (!t->dead) {
    struct blx_tombstone draft = *t;
    draft.dead = 1;
    blx__state_put_tombstone(st, &draft);
  }
  return true;
}
