/* The servers, as their leader arranges them: who votes and who stands by (control/servers.h decides), who leads, who
 * leaves. What the state says of votes follows the group. */
#include "node/node_int.h"

#include "control/servers.h"

typedef unsigned long long ull;

enum {
  REMOVAL_MAX_MS = 25000, /* a call waits so long for a node to be out of the group */
  EVACUATE_MAX = 32,      /* instances told to end at one look */
};

_Static_assert((int)BLX__CONTROL_SERVERS_MAX >= (int)BLX__CONSENSUS_MEMBERS_MAX, "each member must fit");

bool blx__servers_has(const struct blx__node *n, uint64_t uid, bool *votes) {
  struct blx__consensus_status cs;
  if (!n->consensus) return false;
  blx__consensus_status(n->consensus, &cs);
  for (uint32_t i = 0; i < cs.members_count; i++) {
    if (cs.members[i].uid != uid) continue;
    *votes = cs.members[i].membership == BLX__MEMBER_VOTER;
    return cs.members[i].membership != BLX__MEMBER_SPARE;
  }
  return false;
}

static const char *name_of(const struct blx__node *n, uint64_t uid) {
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  return node ? node->name : "a node that was removed";
}

/* ---- the group, one change after another */

static void changed(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct blx__node *n = user;
  (void)index;
  (void)result;
  n->servers.busy = false;
  if (err)
    blx__log(&n->log, BLX_LOG_DEBUG, "node", "a change of the servers was not made: %s", err->message);
  else
    blx__servers_tick(n);
}

static size_t view(const struct blx__node *n, struct blx__control_server out[BLX__CONTROL_SERVERS_MAX]) {
  struct blx__consensus_status cs;
  blx__consensus_status(n->consensus, &cs);
  for (uint32_t i = 0; i < cs.members_count; i++) {
    const struct blx__consensus_member *m = &cs.members[i];
    out[i] = (struct blx__control_server){.uid = m->uid, .votes = m->membership == BLX__MEMBER_VOTER};
    out[i].leads = m->uid == n->uid;
    out[i].leaves = m->uid == n->servers.leaving;
    out[i].silent_ms = blx__lead_silent_ms(n, m->uid);
    if (!out[i].leads && cs.last_index > m->match_index) out[i].behind = cs.last_index - m->match_index;
  }
  return cs.members_count;
}

/* The group is what is true; the state follows. False: there is nothing to follow. */
static bool note_votes(struct blx__node *n) {
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid)) {
    bool votes = false;
    (void)blx__servers_has(n, node->uid, &votes);
    if (node->role != BLX_NODE_ROLE_SERVER || !node->voter == !votes) continue;
    struct blx_op_node_voter voter = {.struct_size = sizeof voter, .uid = node->uid, .voter = votes};
    struct blx_op op = {.struct_size = sizeof op, .node_voter = &voter};
    blx_error err;
    n->servers.busy = blx__node_propose(n, &op, changed, n, &err).code == 0;
    return true;
  }
  return false;
}

static void carry_out(struct blx__node *n, struct blx__control_server_change c) {
  static const char *const what[] = {"", "votes from now on", "stands by from now on", "is taken out of the group",
                                     "is to lead"};
  blx_error err;
  blx__rc rc = BLX__OK;
  switch (c.step) {
  case BLX__SERVER_NONE: return;
  case BLX__SERVER_PROMOTE: rc = blx__consensus_add_member(n->consensus, c.uid, changed, n, &err); break;
  case BLX__SERVER_DEMOTE: rc = blx__consensus_stand_by(n->consensus, c.uid, changed, n, &err); break;
  case BLX__SERVER_REMOVE: rc = blx__consensus_remove_member(n->consensus, c.uid, changed, n, &err); break;
  case BLX__SERVER_TRANSFER: rc = blx__consensus_transfer(n->consensus, c.uid, changed, n, &err); break;
  }
  n->servers.busy = rc.code == 0;
  if (rc.code == 0)
    blx__log(&n->log, BLX_LOG_INFO, "node", "server %llu (%s) %s", (ull)c.uid, name_of(n, c.uid), what[c.step]);
  else
    blx__log(&n->log, BLX_LOG_DEBUG, "node", "the servers are to be changed a little later: %s", err.message);
}

/* ---- a node is taken out: cordoned, then out of the group, then out of the state */

static void removal_end(struct blx__node *n, int code, const char *text) {
  struct blx__call *call = n->servers.removal;
  n->servers.removal = NULL;
  n->servers.leaving = n->servers.evacuated = 0;
  if (call) blx__call_failf(call, code, "%s", text);
}

static void removed(struct blx__call *call, const struct blx_op_result *result) {
  const struct blx_node_remove_request *req = call->request;
  struct blx_node_info unknown = {.struct_size = sizeof unknown, .uid = result->uid, .name = req->name};
  blx__call_answer(call, call->note ? call->note : &unknown);
}

static void propose_removal(struct blx__call *call) {
  const struct blx_node_remove_request *req = call->request;
  struct blx_op_node_remove o = {.struct_size = sizeof o, .name = req->name, .if_revision = 0};
  struct blx_op op = {.struct_size = sizeof op, .node_remove = &o};
  blx__call_propose(call, &op, req->request_id, removed);
}

static void removal_step(struct blx__node *n) {
  uint64_t uid = n->servers.leaving;
  struct blx__call *call = n->servers.removal;
  struct blx__control_server all[BLX__CONTROL_SERVERS_MAX];
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  size_t count = view(n, all);
  bool in_group = false;
  for (size_t i = 0; i < count; i++) in_group = in_group || all[i].uid == uid;
  if (!in_group && !(node && node->voter)) {
    n->servers.removal = NULL;
    n->servers.leaving = 0;
    propose_removal(call);
  } else if (blx__loop_now_ms(n->loop) - n->servers.removal_ms > REMOVAL_MAX_MS) {
    removal_end(n, BLX_E_TIMEOUT,
                "the node is still in the group, another change may be in the way: the same command "
                "goes on where this one stopped");
  }
}

/* What lives on a node that leaves by force is told to end, to start elsewhere: the node is cordoned. What ends
 * already, is deleted or was stopped goes by itself. */
static void end_instances(struct blx__node *n, uint64_t uid) {
  const struct blx_instance *i = blx__state_instance_on_node_after(n->state, uid, 0);
  for (unsigned told = 0; i && told < EVACUATE_MAX; i = blx__state_instance_on_node_after(n->state, uid, i->uid)) {
    const struct blx_vm *vm = blx__state_vm(n->state, i->vm_uid);
    if (i->dead || blx__state_is_ending(vm, i)) continue;
    struct blx_op_vm_restart o = {.struct_size = sizeof o, .name = i->name, .ending = BLX_ENDING_SHUT_DOWN};
    struct blx_op op = {.struct_size = sizeof op, .vm_restart = &o, .tenant = vm->tenant};
    op.principal = n->servers.removal->principal;
    op.reason = "its node leaves the cluster";
    blx_error err;
    told++;
    if (blx__node_propose(n, &op, NULL, NULL, &err).code != 0) return; /* with the next look */
  }
}

static void evacuate(struct blx__node *n) {
  uint64_t uid = n->servers.evacuated;
  char text[sizeof((blx_error *)0)->message + 128];
  blx_error err;
  if (blx__state_may_remove(n->state, uid, &err).code == 0) {
    n->servers.evacuated = 0;
    n->servers.leaving = uid;
    removal_step(n);
  } else if (blx__loop_now_ms(n->loop) - n->servers.removal_ms > REMOVAL_MAX_MS) {
    (void)blx__str_format(text, sizeof text,
                          "it is cordoned, and what runs there ends, but not yet all: %s; the same "
                          "command goes on where this one stopped",
                          err.message);
    removal_end(n, BLX_E_TIMEOUT, text);
  } else {
    end_instances(n, uid);
  }
}

void blx__servers_tick(struct blx__node *n) {
  if (!n->lead.leading || n->closing || n->fatal_code != 0) return;
  if (n->servers.evacuated != 0)
    evacuate(n);
  else if (n->servers.removal)
    removal_step(n);
  if (n->servers.busy || note_votes(n) || !*blx__state_cluster_id(n->state)) return;
  struct blx__control_server all[BLX__CONTROL_SERVERS_MAX];
  size_t count = view(n, all);
  carry_out(n, blx__control_servers(n->state, all, count));
}

void blx__servers_end(struct blx__node *n) {
  removal_end(n, n->closing ? BLX_E_CANCELLED : BLX_E_NO_LEADER,
              "leadership moved while the node was taken out of the group: the same command goes on where this one "
              "stopped");
}

/* ---- the call that removes a node */

static void cordoned(struct blx__call *call, const struct blx_op_result *result) {
  struct blx__node *n = call->node;
  const struct blx_node_remove_request *req = call->request;
  uint64_t other = n->servers.leaving + n->servers.evacuated; /* one of them is 0 */
  if (other != 0 && other != result->uid) {
    blx__call_failf(call, BLX_E_BUSY, "node %s is being removed: one after the other", name_of(n, other));
    return;
  }
  /* The same node, asked for again: the newer call waits. */
  removal_end(n, BLX_E_TIMEOUT, "another call waits for this node's removal now");
  if (req->force)
    n->servers.evacuated = result->uid;
  else
    n->servers.leaving = result->uid;
  n->servers.removal = call;
  n->servers.removal_ms = blx__loop_now_ms(n->loop);
  blx__servers_tick(n);
}

/* Nothing is given up for it: a disk stays a reason to stay, and nothing ends before it is known that there is none. */
static blx__rc may_evacuate(const struct blx__node *n, const struct blx_node_info *node, blx_error *err) {
  const struct blx_instance *i = blx__state_instance_on_node_after(n->state, node->uid, 0);
  if (node->fence != BLX_FENCE_NONE || blx__state_is_unclear(n->state, node->uid))
    return blx__state_may_remove(n->state, node->uid, err);
  for (; i; i = blx__state_instance_on_node_after(n->state, node->uid, i->uid)) {
    const struct blx_vm *vm = blx__state_vm(n->state, i->vm_uid);
    const char *tenant = vm->tenant;
    char in_tenant[BLX__IN_TENANT_BYTES], flag[BLX__IN_TENANT_BYTES];
    if (!i->local_data || vm->deleting) continue;
    return blx__fail(err, BLX_E_CONFLICT, "node",
                     "%s%s: the disk is on %s, and would be lost: `blixard vm delete %s%s` gives it up, nothing was "
                     "ended",
                     i->name, blx__call_in_tenant(tenant, in_tenant), node->name, i->vm,
                     blx__call_tenant_flag(tenant, flag));
  }
  return BLX__OK;
}

/* May it go, and is it as dead, or as willing, as is said? */
static blx__rc check_removal(const struct blx__node *n, const struct blx_node_info *node,
                             const struct blx_node_remove_request *req, blx_error *err) {
  uint32_t servers = 0;
  enum blx_node_status heard = blx__lead_status(n, node->uid);
  const struct blx_node_info *other = blx__state_node_after_uid(n->state, 0);
  for (; other; other = blx__state_node_after_uid(n->state, other->uid)) servers += other->role == BLX_NODE_ROLE_SERVER;
  if (req->if_revision && req->if_revision != node->revision)
    return blx__fail(err, BLX_E_STALE, "node", "the node %s has revision %llu, not %llu: read it again", node->name,
                     (ull)node->revision, (ull)req->if_revision);
  if (node->role == BLX_NODE_ROLE_SERVER && servers == 1)
    return blx__fail(err, BLX_E_CONFLICT, "node",
                     "%s is the only server of the cluster, which ends with it: stop it and empty its data directory",
                     node->name);
  if (!req->leaves && heard == BLX_NODE_STATUS_UNKNOWN)
    return blx__fail(err, BLX_E_BUSY, "node", "this leader is new and does not know yet whether %s lives: try again",
                     node->name);
  if (!req->leaves && heard == BLX_NODE_STATUS_READY)
    return blx__fail(err, BLX_E_CONFLICT, "node", "%s is heard from: let it leave, by `blixard cluster leave` there",
                     node->name);
  if (req->leaves && req->force) return may_evacuate(n, node, err);
  return blx__state_may_remove(n->state, node->uid, err);
}

void blx__handle_node_remove(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_node_remove_request *req = call->request;
  const struct blx_node_info *node = blx__state_node_by_name(n->state, req->name);
  struct blx_node_info *before = NULL;
  blx_error err;
  if (!node) {
    propose_removal(call); /* done before under the same request id, or there is none: apply knows */
    return;
  }
  if (check_removal(n, node, req, &err).code != 0 ||
      blx__state_view_node(n->state, node->uid, &call->arena, &before, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  call->note = before;
  struct blx_op_node_cordon cordon = {.struct_size = sizeof cordon, .name = req->name, .cordoned = 1};
  cordon.reason = "is being removed from the cluster";
  struct blx_op op = {.struct_size = sizeof op, .node_cordon = &cordon};
  blx__call_propose(call, &op, NULL, cordoned);
}

/* ---- this node leaves */

static blx__rc begin_anew(const struct blx__node *n, blx_error *err) {
  return blx__fail(err, BLX_E_CORRUPT, "node",
                   "node %s is no member of the cluster \"%s\" any more, and in no other: empty its data directory %s, "
                   "start its daemon, then run `blixard cluster join` or `blixard cluster init`",
                   n->identity->name, n->identity->cluster_name, n->data_dir);
}

blx__rc blx__node_check_left(const struct blx__node *n, blx_error *err) {
  return n->identity->standing == BLX_STANDING_LEFT ? begin_anew(n, err) : BLX__OK;
}

void blx__node_removed(struct blx__node *n, const char *why) {
  blx_error err;
  if (n->fatal_code != 0) return;
  blx__log(&n->log, BLX_LOG_WARNING, "node", "%s", why);
  if (blx__node_save(n, BLX_STANDING_LEFT, NULL, 0, &err).code != 0)
    blx__log(&n->log, BLX_LOG_ERROR, "node", "the identity could not be written: %s", err.message);
  (void)begin_anew(n, &err);
  blx__node_fatal(n, err.code, err.message);
}

static void has_left(struct blx__call *call, const char *how) {
  struct blx__node *n = call->node;
  struct blx_cluster_status none = {.struct_size = sizeof none, .answered_by = n->self->name};
  blx__call_answer(call, &none);
  if (!n->closing) blx__node_removed(n, how);
}

/* A worker that no server answers. To the cluster, if there still is one, it is silent, and all is on it that was: it
 * starts nowhere else before somebody proves it ended, as it is from here on. A server has a part in every election
 * that is to come: it does not go unheard. */
static void leave_alone(struct blx__call *call, const char *why) {
  struct blx__node *n = call->node;
  blx_error err;
  if (!n->worker)
    blx__call_failf(call, BLX_E_CONFLICT,
                    "%s is a server and cannot leave unheard, for without it the others may never elect a leader (%s): "
                    "bring them back, or let one server go on alone by `blixardd recover`",
                    n->self->name, why);
  else if (n->servers.removal)
    blx__call_failf(call, BLX_E_BUSY, "%s leaves its cluster already: wait for that", n->self->name);
  else if (blx__agent_has_disk(n->agent))
    blx__call_failf(call, BLX_E_CONFLICT,
                    "an instance has its disk on %s, which would be lost: nothing was ended; if that may be, stop the "
                    "daemon, end its guests and empty its data directory",
                    n->self->name);
  else if (blx__worker_let_go(n, &err).code != 0)
    blx__call_fail(call, &err);
  else {
    n->servers.removal = call;
    n->servers.removal_ms = blx__loop_now_ms(n->loop);
    blx__leave_look(n);
  }
}

void blx__leave_look(struct blx__node *n) {
  struct blx__call *call = n->servers.removal;
  if (!call || n->closing || n->fatal_code != 0) return;
  if (blx__agent_is_empty(n->agent)) {
    n->servers.removal = NULL;
    has_left(call, "this worker has left its cluster, which could not be told");
  } else if (blx__loop_now_ms(n->loop) - n->servers.removal_ms > REMOVAL_MAX_MS) {
    removal_end(n, BLX_E_TIMEOUT,
                "not all that ran here has ended and is removed yet, and nothing new begins: the same command goes on "
                "where this one stopped");
  }
}

static void left(void *user, const blx_error *err, struct blx__slice answer) {
  struct blx__call *call = user;
  const struct blx_cluster_leave_request *req = call->request;
  struct blx__node *n = call->node;
  bool alone = n->worker ? !blx__worker_is_told(n) : n->consensus && blx__consensus_leader(n->consensus) == 0;
  bool unheard = err && (err->code == BLX_E_NO_LEADER || err->code == BLX_E_UNAVAILABLE || err->code == BLX_E_TIMEOUT);
  (void)answer;
  if (unheard && alone && req->force && !n->closing)
    leave_alone(call, err->message);
  else if (err)
    blx__call_fail(call, err);
  else
    has_left(call, "this node has left its cluster");
}

void blx__handle_cluster_leave(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_cluster_leave_request *req = call->request;
  struct blx_node_remove_request remove = {.struct_size = sizeof remove, .name = n->self->name, .leaves = 1};
  remove.request_id = req->request_id;
  remove.force = req->force;
  blx_error err;
  if (req->force && n->worker && !blx__worker_is_told(n)) {
    leave_alone(call, "no server answers");
    return;
  }
  if (blx__node_submit(n, BLX__RPC_NODE_REMOVE, &remove, left, call, &err).code != 0) blx__call_fail(call, &err);
}

/* ---- who leads */

static void transferred(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct blx__call *call = user;
  (void)index;
  (void)result;
  if (err)
    blx__call_fail(call, err);
  else
    blx__answer_status(call);
}

void blx__handle_cluster_transfer(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_cluster_transfer_request *req = call->request;
  bool named = req->node && *req->node, votes = false;
  const struct blx_node_info *to = named ? blx__state_node_by_name(n->state, req->node) : NULL;
  blx_error err;
  if (named && !to) {
    blx__call_failf(call, BLX_E_NOT_FOUND, "there is no node named %s: `blixard node list` shows those there are",
                    req->node);
  } else if (named && to->uid == n->uid) {
    blx__answer_status(call);
  } else if (named && (!blx__servers_has(n, to->uid, &votes) || !votes)) {
    blx__call_failf(call, BLX_E_CONFLICT, "%s does not vote, and so cannot lead: `blixard node list` shows who votes",
                    to->name);
  } else if (blx__consensus_transfer(n->consensus, to ? to->uid : 0, transferred, call, &err).code != 0) {
    if (err.code == BLX_E_NOT_FOUND)
      blx__call_failf(call, BLX_E_CONFLICT, "no other server votes: there is nobody to hand leadership to");
    else
      blx__call_fail(call, &err);
  }
}
