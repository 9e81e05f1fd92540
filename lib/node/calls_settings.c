/* What holds for the whole cluster: read and changed. */
#include "node/node_int.h"

#include "lease/lease.h"

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

static void changed(struct blx__call *call, const struct blx_op_result *result) {
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
  BLX__TRY(blx__msg_validate(blx__desc_settings_set_request(), &whole, err));
  BLX__TRY(check_ref("nixpkgs_ref", change.nixpkgs_ref, err));
  BLX__TRY(check_ref("microvm_ref", change.microvm_ref, err));
  if (req->has_leases_of_ms) {
    *lease = blx__lease_scaled(req->leases_of_ms);
    change.lease = lease;
  }
  if (!change.lease && !change.has_nixpkgs_ref && !change.has_microvm_ref)
    return blx__fail(err, BLX_E_INVALID, "node", "change: nothing is to change");
  o->lease = change.lease;
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
  blx__call_propose(call, &op, req->request_id, changed);
}
