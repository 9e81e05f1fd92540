/* The calls about fencing: how it is, disarm and arm it, cut a node off, say how one is powered off; and what a node's
 * view says of it. And about the cluster's settings, which are leases for the most part, and tenants' quotas. */
#include "node/node_int.h"

#include "lease/lease.h"

typedef unsigned long long ull;

enum { REASON_BYTES = 256, PROOF_BYTES = 512 };

static uint64_t left(uint64_t wanted, uint64_t is) {
  return wanted > is ? wanted - is : 0;
}

/* ---- a node's view */

/* Until it changes if nothing is heard; 0: not known. */
static uint64_t status_left_ms(const struct blx__node *n, const struct blx_node_info *view,
                               const struct blx__control_soft *soft) {
  const struct blx_settings *s = blx__state_settings(n->state);
  uint64_t now_ms = blx__lead_time_ms(n), proof_ms, arm_ms;
  if (view->fence == BLX_FENCE_BEGUN) {
    if (!blx__state_time_proves(n->state, view->uid)) return 0;
    proof_ms = left(blx__state_t_safe_ms(n->state, soft->lease_ms), soft->unanswered_ms);
    arm_ms = left(s->extended_until_ms, now_ms);
  } else if (view->fence == BLX_FENCE_NONE && view->status == BLX_NODE_STATUS_SUSPECT) {
    if (blx__state_ha_on_node(n->state, view->uid) == 0) return 0;
    proof_ms = left(blx__lease_fence_ms(s->lease), soft->unanswered_ms);
    arm_ms = left(s->disarmed_until_ms, now_ms);
  } else {
    return 0;
  }
  return proof_ms > arm_ms ? proof_ms : arm_ms;
}

void blx__ha_view(const struct blx__node *n, struct blx_node_info *view) {
  struct blx__control_soft soft = {0};
  if (!n->lead.leading) return;
  blx__lead_soft(n, view->uid, &soft);
  uint64_t lease_ms = soft.lease_ms ? soft.lease_ms : blx__state_settings(n->state)->lease->lease_ms;
  if (view->fence != BLX_FENCE_NONE) view->status_since_ms = view->fence_since_ms;
  if (view->fence == BLX_FENCE_BEGUN) view->status = BLX_NODE_STATUS_FENCING;
  if (view->fence == BLX_FENCE_DONE)
    view->status = view->instances > 0 ? BLX_NODE_STATUS_FENCED : BLX_NODE_STATUS_CLEAN;
  if (view->fence == BLX_FENCE_NONE) view->lease_left_ms = left(lease_ms, soft.unanswered_ms);
  view->status_left_ms = status_left_ms(n, view, &soft);
}

static bool word_suspect(const struct blx__node *n, const struct blx_node_info *view, char *text, char *unblock,
                         size_t size) {
  uint32_t ha = blx__state_ha_on_node(n->state, view->uid);
  uint64_t disarmed_ms = left(blx__state_settings(n->state)->disarmed_until_ms, blx__lead_time_ms(n));
  if (ha == 0) return false;
  (void)blx__str_format(text, size,
                        "has not been heard from: nothing is placed there, and it is fenced in %llu s for its %u "
                        "highly available instance%s%s",
                        (ull)((view->status_left_ms + 999) / 1000), ha, ha == 1 ? "" : "s",
                        disarmed_ms > 0 ? ", when fencing is armed again" : "");
  (void)blx__str_format(unblock, size, "start its daemon; `blixard node fence %s` does not wait%s", view->name,
                        disarmed_ms > 0 ? "; `blixard ha arm`" : "");
  return true;
}

static void word_fencing(const struct blx__node *n, const struct blx_node_info *view, char *text, size_t size) {
  static const char cut[] = "is cut off: what is highly available there starts elsewhere when it is proved dead";
  if (blx__state_time_proves(n->state, view->uid))
    (void)blx__str_format(text, size, "%s, in %llu s at the latest", cut, (ull)((view->status_left_ms + 999) / 1000));
  else
    (void)blx__str_format(text, size,
                          "%s, by its fence command: no watchdog device resets it in time, or none can as it is a "
                          "virtual machine",
                          cut);
}

bool blx__ha_word_status(const struct blx__node *n, const struct blx_node_info *view, char *text, char *unblock,
                         size_t size) {
  if (!n->lead.leading) return false;
  if (view->status == BLX_NODE_STATUS_FENCING) {
    const char *failure = blx__lead_fence_failure(n, view->uid);
    word_fencing(n, view, text, size);
    if (failure) (void)blx__str_format(text, size, "is cut off, and not proved dead: %.180s; it is run again", failure);
    blx__utf8_mend(text); /* what the command said may be cut within a character, and no answer could carry that */
    (void)blx__str_format(unblock, size,
                          "if you know that its machine is off: `blixard node fence %s --proved 'HOW YOU KNOW'`",
                          view->name);
  } else if (view->status == BLX_NODE_STATUS_FENCED) {
    (void)blx__str_format(text, size, "is proved to run nothing that starts elsewhere; %u instance%s there %s for it",
                          view->instances, view->instances == 1 ? "" : "s", view->instances == 1 ? "waits" : "wait");
    (void)blx__str_copy(unblock, size,
                        "start its daemon: it comes back by itself; `blixard vm delete VM --force` gives up what is "
                        "there");
  } else if (view->status == BLX_NODE_STATUS_CLEAN) {
    (void)blx__str_copy(text, size, "is fenced, and no instance is on it any more");
    (void)blx__str_copy(unblock, size, "start its daemon: it comes back by itself");
  } else {
    return view->status == BLX_NODE_STATUS_SUSPECT && word_suspect(n, view, text, unblock, size);
  }
  return true;
}

/* ---- ha_status, ha_disarm */

static blx__rc view_one(struct blx__call *call, uint64_t uid, struct blx_ha_node *out, blx_error *err) {
  const struct blx__state *st = call->node->state;
  struct blx__placement_node node;
  *out = (struct blx_ha_node)BLX_HA_NODE_INIT;
  BLX__TRY(blx__call_view_node(call, uid, &out->node, err));
  if (blx__state_placement_node(st, uid, &node)) {
    out->manual_missing = blx__placement_ha_missing(&node, BLX_HA_POLICY_MANUAL);
    out->auto_missing = blx__placement_ha_missing(&node, BLX_HA_POLICY_AUTO);
  }
  out->instances = blx__state_ha_on_node(st, uid);
  return BLX__OK;
}

static blx__rc view_nodes(struct blx__call *call, struct blx_ha_status *out, blx_error *err) {
  const struct blx__state *st = call->node->state;
  size_t most = blx__state_counts(st).nodes;
  struct blx_ha_node *rows = blx__arena_alloc(&call->arena, (most + 1) * sizeof *rows);
  out->nodes = blx__arena_alloc(&call->arena, (most + 1) * sizeof *out->nodes);
  if (!rows || !out->nodes) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of %zu nodes", most);
  const struct blx_node_info *node = blx__state_node_after(st, NULL);
  for (; node; node = blx__state_node_after(st, node->name)) {
    BLX__ASSERT(out->n_nodes < most);
    BLX__TRY(view_one(call, node->uid, &rows[out->n_nodes], err));
    out->nodes[out->n_nodes] = &rows[out->n_nodes];
    out->n_nodes++;
  }
  return BLX__OK;
}

void blx__handle_ha_status(struct blx__call *call) {
  const struct blx__node *n = call->node;
  const struct blx_settings *s = blx__state_settings(n->state);
  struct blx_ha_status st = BLX_HA_STATUS_INIT;
  struct blx_lease_settings lease = *s->lease;
  blx_error err;
  st.time_ms = n->lead.leading ? blx__lead_time_ms(n) : blx__state_time_ms(n->state);
  st.armed = st.time_ms >= s->disarmed_until_ms;
  if (!st.armed) {
    st.disarmed_until_ms = s->disarmed_until_ms;
    st.disarmed_by = s->disarmed_by;
    st.disarm_reason = s->disarm_reason;
  }
  st.extended_until_ms = st.time_ms < s->extended_until_ms ? s->extended_until_ms : 0;
  st.t_safe_ms = blx__state_t_safe_ms(n->state, 0);
  st.lease = &lease;
  st.instances = blx__state_counts(n->state).ha;
  st.index = blx__state_index(n->state);
  if (view_nodes(call, &st, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &st);
}

static void answer_status(struct blx__call *call, const struct blx_op_result *result) {
  (void)result;
  blx__handle_ha_status(call);
}

void blx__handle_ha_disarm(struct blx__call *call) {
  const struct blx_ha_disarm_request *req = call->request;
  struct blx_op_ha_disarm disarm = {.struct_size = sizeof disarm, .for_ms = req->for_ms, .reason = req->reason};
  struct blx_op op = {.struct_size = sizeof op, .ha_disarm = &disarm};
  blx__call_propose(call, &op, req->request_id, answer_status);
}

/* ---- node_fence, node_fence_command */

/* Whoever says that a machine is off must not be contradicted by it. False: it was answered. */
static bool may_be_off(struct blx__call *call, const struct blx_node_info *n) {
  enum blx_node_status heard = blx__lead_status(call->node, n->uid);
  if (heard == BLX_NODE_STATUS_SUSPECT) return true;
  if (heard == BLX_NODE_STATUS_READY)
    blx__call_failf(
        call, BLX_E_CONFLICT,
        "node %s is heard from, so its machine is not off: fence it without a proof of yours, and what ends "
        "there is proved by itself",
        n->name);
  else
    blx__call_failf(call, BLX_E_BUSY,
                    "this leader is new and does not know yet whether node %s is silent: say so again in %d s", n->name,
                    (int)(blx__state_settings(call->node->state)->lease->suspect_ms + 999) / 1000);
  return false;
}

/* A repeated request finds its work done. */
static void begun(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_node_fence_request *req = call->request;
  const struct blx_node_info *n = blx__state_node(call->node->state, result->uid);
  if (!n || n->fence != BLX_FENCE_BEGUN || !req->proved || !req->proved[0]) {
    blx__call_answer_node(call, result);
    return;
  }
  /* It may have been heard from, and been given a lease, while that was committed. */
  if (!may_be_off(call, n)) return;
  char proof[PROOF_BYTES];
  struct blx_op_fence_done done = {.struct_size = sizeof done, .node_uid = n->uid, .proof = proof};
  struct blx_op op = {.struct_size = sizeof op, .fence_done = &done};
  (void)blx__str_format(proof, sizeof proof, "operator %s: %s", call->principal, req->proved);
  done.incarnation = n->fence_incarnation;
  done.word = 1;
  done.whole = blx__state_is_unclear(call->node->state, n->uid);
  blx__call_propose(call, &op, NULL, blx__call_answer_node);
}

void blx__handle_node_fence(struct blx__call *call) {
  const struct blx_node_fence_request *req = call->request;
  const struct blx_node_info *n = blx__state_node_by_name(call->node->state, req->name);
  if (!n) {
    blx__call_failf(call, BLX_E_NOT_FOUND, "there is no node named %s: `blixard node list` shows those there are",
                    req->name);
    return;
  }
  if (req->proved && req->proved[0] && !may_be_off(call, n)) return;
  char reason[REASON_BYTES];
  struct blx_op_fence_begin begin = {.struct_size = sizeof begin, .node_uid = n->uid, .by_operator = 1};
  struct blx_op op = {.struct_size = sizeof op, .fence_begin = &begin};
  bool said = req->reason && req->reason[0];
  (void)blx__str_format(reason, sizeof reason, "operator %.110s%s%s", call->principal, said ? ": " : "",
                        said ? req->reason : "");
  blx__utf8_mend(reason);
  begin.incarnation = n->incarnation;
  begin.reason = reason;
  blx__call_propose(call, &op, req->request_id, begun);
}

void blx__handle_node_fence_command(struct blx__call *call) {
  const struct blx_node_fence_command_request *req = call->request;
  struct blx_op_node_fence_command set = {.struct_size = sizeof set, .name = req->name, .command = req->command};
  struct blx_op op = {.struct_size = sizeof op, .node_fence_command = &set};
  set.if_revision = req->if_revision;
  if (req->command && req->command[0] && req->command[0] != '/') {
    blx__call_failf(call, BLX_E_INVALID,
                    "command: the program needs its whole path, for any server may have to run it: \"%.64s\"",
                    req->command);
    return;
  }
  blx__call_propose(call, &op, req->request_id, blx__call_answer_node);
}

/* ---- settings */

static void answer_settings(struct blx__call *call) {
  const struct blx_settings *s = blx__state_settings(call->node->state);
  struct blx_settings_detail detail = BLX_SETTINGS_DETAIL_INIT;
  detail.settings = (struct blx_settings *)(uintptr_t)s;
  detail.t_safe_ms = blx__lease_t_safe_ms(s->lease, 0);
  detail.index = blx__state_index(call->node->state);
  blx__call_answer(call, &detail);
}

void blx__handle_settings_get(struct blx__call *call) {
  answer_settings(call);
}

static void settings_changed(struct blx__call *call, const struct blx_op_result *result) {
  (void)result;
  answer_settings(call);
}

static blx__rc check_ref(const char *key, const char *ref, blx_error *err) {
  if (!ref || !*ref || blx__vm_ref_is_pinned(ref)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, "node",
                   "%s: \"%.200s\" is not pinned: give it rev= or narHash=, or write github:OWNER/REPO/REV", key, ref);
}

static uint32_t other(uint32_t asked, uint32_t now) {
  return asked ? asked : now;
}

/* What was not named stays. */
static void merge_lease(struct blx_lease_settings *to, const struct blx_lease_settings *now) {
  to->renew_ms = other(to->renew_ms, now->renew_ms);
  to->lease_ms = other(to->lease_ms, now->lease_ms);
  to->kill_ms = other(to->kill_ms, now->kill_ms);
  to->watchdog_ms = other(to->watchdog_ms, now->watchdog_ms);
  to->margin_ms = other(to->margin_ms, now->margin_ms);
  to->rate_ppm = other(to->rate_ppm, now->rate_ppm);
  to->suspect_ms = other(to->suspect_ms, now->suspect_ms);
}

/* @lease: room for the one that is meant. */
static blx__rc admit(const struct blx__node *n, const struct blx_settings_set_request *req,
                     struct blx_lease_settings *lease, struct blx_op_settings_set *o, blx_error *err) {
  const struct blx_settings *now = blx__state_settings(n->state);
  struct blx_settings_change change = BLX_SETTINGS_CHANGE_INIT;
  struct blx_settings_set_request whole = *req;
  if (req->change) change = *req->change;
  if (change.lease && req->has_leases_of_ms)
    return blx__fail(err, BLX_E_INVALID, "node", "leases_of_ms: there is a lease beside it: give one of the two");
  if (change.lease) {
    *lease = *change.lease;
    merge_lease(lease, now->lease);
    change.lease = lease;
  }
  whole.change = &change;
  if (change.placement) BLX__TRY(blx__msg_defaults(blx__desc_placement_settings(), NULL, change.placement, err));
  BLX__TRY(blx__msg_validate(blx__desc_settings_set_request(), &whole, err));
  BLX__TRY(check_ref("nixpkgs_ref", change.nixpkgs_ref, err));
  BLX__TRY(check_ref("microvm_ref", change.microvm_ref, err));
  if (req->has_leases_of_ms) {
    *lease = blx__lease_scaled(req->leases_of_ms);
    change.lease = lease;
  }
  if (!change.lease && !change.placement && !change.has_nixpkgs_ref && !change.has_microvm_ref)
    return blx__fail(err, BLX_E_INVALID, "node", "change: nothing is to change");
  o->lease = change.lease;
  o->placement = change.placement;
  o->set_nixpkgs = change.has_nixpkgs_ref;
  o->nixpkgs_ref = change.nixpkgs_ref;
  o->set_microvm = change.has_microvm_ref;
  o->microvm_ref = change.microvm_ref;
  /* The rest of a lease is what it was here: not what another change, under way, makes of it. */
  o->if_revision = req->if_revision || !change.lease ? req->if_revision : now->revision;
  return BLX__OK;
}

void blx__handle_settings_set(struct blx__call *call) {
  const struct blx_settings_set_request *req = call->request;
  struct blx_op_settings_set set = {.struct_size = sizeof set};
  struct blx_lease_settings lease;
  blx_error err;
  if (admit(call->node, req, &lease, &set, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  struct blx_op op = {.struct_size = sizeof op, .settings_set = &set};
  blx__call_propose(call, &op, req->request_id, settings_changed);
}

/* ---- quotas */

/* Of one that has neither a quota nor a VM: no limits, and nothing used. */
static struct blx_quota quota_of(const struct blx__state *st, const char *tenant, struct blx_resources *nothing) {
  const struct blx_quota *known = blx__state_quota(st, tenant);
  struct blx_quota none = BLX_QUOTA_INIT;
  if (known) return *known;
  *nothing = (struct blx_resources)BLX_RESOURCES_INIT;
  none.tenant = tenant && *tenant ? tenant : "default";
  none.used = nothing;
  return none;
}

static void quota_changed(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_quota_set_request *req = call->request;
  struct blx_resources nothing;
  struct blx_quota q = quota_of(call->node->state, req->quota->tenant, &nothing);
  (void)result;
  blx__call_answer(call, &q);
}

static blx__rc admit_quota(struct blx_quota_set_request *req, blx_error *err) {
  if (!req->quota) return blx__fail(err, BLX_E_INVALID, "node", "quota: is required");
  BLX__TRY(blx__msg_defaults(blx__desc_quota_set_request(), NULL, req, err));
  return blx__msg_validate(blx__desc_quota_set_request(), req, err);
}

void blx__handle_quota_set(struct blx__call *call) {
  struct blx_quota_set_request *req = (struct blx_quota_set_request *)(uintptr_t)call->request;
  struct blx_op_quota_set set = {.struct_size = sizeof set, .remove = req->remove, .if_revision = req->if_revision};
  struct blx_op op = {.struct_size = sizeof op, .quota_set = &set};
  blx_error err;
  if (admit_quota(req, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  set.quota = req->quota;
  op.tenant = blx__call_tenant(req->quota->tenant); /* whom it is about; who asked stands beside it */
  blx__call_propose(call, &op, req->request_id, quota_changed);
}

static size_t count_tenants(const struct blx__state *st) {
  size_t n = 0;
  for (const struct blx_quota *q = blx__state_quota_after(st, NULL); q; q = blx__state_quota_after(st, q->tenant)) n++;
  return n;
}

static blx__rc list_quotas(struct blx__call *call, struct blx_quota_list *out, blx_error *err) {
  const struct blx__state *st = call->node->state;
  size_t most = count_tenants(st);
  out->quotas = blx__arena_alloc(&call->arena, (most + 1) * sizeof *out->quotas);
  if (!out->quotas) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of %zu tenants", most);
  const struct blx_quota *q = blx__state_quota_after(st, NULL);
  for (; q; q = blx__state_quota_after(st, q->tenant)) {
    BLX__ASSERT(out->n_quotas < most);
    out->quotas[out->n_quotas++] = (struct blx_quota *)(uintptr_t)q;
  }
  return BLX__OK;
}

void blx__handle_quota_get(struct blx__call *call) {
  const struct blx_quota_get_request *req = call->request;
  struct blx_quota_list list = BLX_QUOTA_LIST_INIT;
  struct blx_resources nothing;
  struct blx_quota one, *only = &one;
  blx_error err;
  list.index = blx__state_index(call->node->state);
  if (req->tenant && *req->tenant) {
    one = quota_of(call->node->state, req->tenant, &nothing);
    list.quotas = &only;
    list.n_quotas = 1;
  } else if (list_quotas(call, &list, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  blx__call_answer(call, &list);
}
