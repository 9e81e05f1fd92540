/* Calls between members, on the leader: a daemon joins, comes into the group, an agent reports. */
#include "node/node_int.h"

#include "control/servers.h"

#include <stdlib.h>

#include <string.h>

static void answer_join(struct blx__call *call, const struct blx_op_result *result) {
  struct blx__node *n = call->node;
  struct blx_member_join_reply reply = {.struct_size = sizeof reply, .uid = result->uid};
  reply.cluster_id = n->identity->cluster_id;
  reply.cluster_name = n->identity->cluster_name;
  blx_error err;
  if (blx__node_peers(n, &call->arena, &reply.members, &reply.n_members, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &reply);
}

static bool in_group(const struct blx__node *n, uint64_t uid) {
  struct blx__consensus_status cs;
  blx__consensus_status(n->consensus, &cs);
  for (uint32_t i = 0; i < cs.members_count; i++)
    if (cs.members[i].uid == uid) return true;
  return false;
}

/* Nothing was ever given to it, so that an empty journal says the truth. */
static bool holds_nothing(const struct blx__node *n, uint64_t uid) {
  return !blx__state_instance_on_node_after(n->state, uid, 0) && !blx__state_tombstone_on_node_after(n->state, uid, 0);
}

/* The node that @node began to join as, if its daemon died before it noted its uid: same name, same role, same sockets,
 * and never yet in the group, so that no log of it counts; one that is being removed was. NULL: it joins as a new one.
 */
static const struct blx_node_info *begun_before(const struct blx__node *n, const struct blx_node_info *node) {
  const struct blx_node_info *old = node->name ? blx__state_node_by_name(n->state, node->name) : NULL;
  bool same = old && !old->cordoned && blx__str_eq(old->address, node->address) &&
              blx__str_eq(old->peer_address, node->peer_address);
  if (!same || old->role != node->role || old->voter || in_group(n, old->uid)) return NULL;
  if (blx__state_is_gone(n->state, old->uid)) return NULL; /* it was in a group before */
  return old->role == BLX_NODE_ROLE_WORKER && !holds_nothing(n, old->uid) ? NULL : old;
}

void blx__handle_member_join(struct blx__call *call) {
  const struct blx_member_join_request *req = call->request;
  if (!req->node) {
    blx__call_failf(call, BLX_E_INVALID, "node: is required");
    return;
  }
  const struct blx_node_info *begun = begun_before(call->node, req->node);
  if (begun) {
    struct blx_node_info again = *req->node;
    again.uid = begun->uid;
    struct blx_op_node_register reg = {.struct_size = sizeof reg, .node = &again, .replaces = begun->incarnation};
    struct blx_op op = {.struct_size = sizeof op, .node_register = &reg};
    blx__call_propose(call, &op, NULL, answer_join);
    return;
  }
  struct blx_op_node_join join = {.struct_size = sizeof join, .node = req->node};
  struct blx_op op = {.struct_size = sizeof op, .node_join = &join};
  blx__call_propose(call, &op, req->request_id, answer_join);
}

static void answer_empty(struct blx__call *call) {
  struct blx_empty empty = {.struct_size = sizeof empty};
  blx__call_answer(call, &empty);
}

/* It spoke to us just now: who joined is ready before its first heartbeat. */
static void voter_noted(struct blx__call *call, const struct blx_op_result *result) {
  (void)result;
  const struct blx_member_ready_request *req = call->request;
  const struct blx_node_info *node = blx__state_node(call->node->state, req->uid);
  if (node) blx__lead_seen(call->node, node->uid, node->incarnation, 0);
  answer_empty(call);
}

/* A stand-by is in the group, and in the state a server that does not vote. */
static void member_added(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  (void)index;
  (void)result;
  struct blx__call *call = user;
  const struct blx_member_ready_request *req = call->request;
  bool votes = false;
  if (err) {
    blx__call_fail(call, err);
    return;
  }
  (void)blx__servers_has(call->node, req->uid, &votes);
  if (!votes) {
    voter_noted(call, NULL);
    return;
  }
  struct blx_op_node_voter voter = {.struct_size = sizeof voter, .uid = req->uid, .voter = 1};
  struct blx_op op = {.struct_size = sizeof op, .node_voter = &voter};
  blx__call_propose(call, &op, NULL, voter_noted);
}

/* With its vote at once while there are too few, else standing by. */
static blx__rc add_to_group(struct blx__node *n, struct blx__call *call, uint64_t uid, blx_error *err) {
  struct blx__consensus_status cs;
  uint32_t servers = 0, voters = 0;
  blx__consensus_status(n->consensus, &cs);
  for (uint32_t i = 0; i < cs.members_count; i++) voters += cs.members[i].membership == BLX__MEMBER_VOTER;
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid)) servers += node->role == BLX_NODE_ROLE_SERVER;
  if (voters < blx__control_voters_wanted(servers))
    return blx__consensus_add_member(n->consensus, uid, member_added, call, err);
  return blx__consensus_stand_by(n->consensus, uid, member_added, call, err);
}

void blx__handle_member_ready(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_member_ready_request *req = call->request;
  const struct blx_node_info *node = blx__state_node(n->state, req->uid);
  bool votes = false;
  if (blx__state_node_was_removed(n->state, req->uid)) {
    blx__call_failf(call, BLX_E_DENIED, "node %llu was removed from the cluster \"%s\"", (unsigned long long)req->uid,
                    n->identity->cluster_name);
    return;
  }
  if (!node) {
    blx__call_failf(call, BLX_E_NOT_FOUND, "no node has uid %llu: join anew with an empty data directory",
                    (unsigned long long)req->uid);
    return;
  }
  if (node->role == BLX_NODE_ROLE_WORKER) {
    blx__call_failf(call, BLX_E_CONFLICT, "node %s is a worker, it does not vote: a server joins as one", node->name);
    return;
  }
  if (blx__state_is_gone(n->state, req->uid)) {
    blx__call_failf(call, BLX_E_CONFLICT,
                    "the cluster was recovered without node %s: empty its data directory, and let it join as a new "
                    "node under another name",
                    node->name);
    return;
  }
  if (req->uid == n->servers.leaving) {
    blx__call_failf(call, BLX_E_BUSY, "node %s is being removed", node->name);
    return;
  }
  if (blx__servers_has(n, req->uid, &votes)) {
    answer_empty(call);
    return;
  }
  blx_error err;
  if (add_to_group(n, call, req->uid, &err).code != 0) blx__call_fail(call, &err);
}

static void answer_report(struct blx__call *call, const struct blx_op_result *result) {
  blx__call_answer(call, result);
}

static void propose_reports(struct blx__call *call, const struct blx_op_result *registered) {
  (void)registered;
  const struct blx_report_request *req = call->request;
  if (req->n_reports == 0) {
    struct blx_op_result ok = {.struct_size = sizeof ok, .index = blx__state_index(call->node->state)};
    blx__call_answer(call, &ok);
    return;
  }
  struct blx_op_report report = {.struct_size = sizeof report, .node_uid = req->node_uid};
  report.reports = req->reports;
  report.n_reports = req->n_reports;
  struct blx_op op = {.struct_size = sizeof op, .report = &report};
  blx__call_propose(call, &op, NULL, answer_report);
}

static bool is_fenced(const struct blx__node *n, uint64_t uid) {
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  return node && node->fence != BLX_FENCE_NONE;
}

/* One of an earlier life that was long on its way would hide the present one for ever. */
static bool is_outdated(const struct blx__node *n, const struct blx_report_request *req) {
  const struct blx_node_info *node = blx__state_node(n->state, req->node_uid);
  return node && req->replaces != 0 && req->replaces != node->incarnation &&
         req->registration->incarnation != node->incarnation;
}

void blx__handle_report(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_report_request *req = call->request;
  if (req->registration && req->registration->uid == req->node_uid && is_fenced(n, req->node_uid)) {
    if (is_outdated(n, req)) {
      blx__call_failf(call, BLX_E_STALE, "the node %s was started anew since: it registers again by itself",
                      req->registration->name ? req->registration->name : "");
      return;
    }
    struct blx_op_node_return back = {.struct_size = sizeof back, .node = req->registration};
    struct blx_op op = {.struct_size = sizeof op, .node_return = &back};
    blx__call_propose(call, &op, NULL, propose_reports);
    return;
  }
  if (req->registration && req->registration->uid == req->node_uid) {
    struct blx_op_node_register reg = {.struct_size = sizeof reg, .node = req->registration};
    reg.replaces = req->replaces;
    struct blx_op op = {.struct_size = sizeof op, .node_register = &reg};
    blx__call_propose(call, &op, NULL, propose_reports);
    return;
  }
  blx__lead_seen(n, req->node_uid, req->incarnation, req->wall_ms);
  if (req->clear_era != 0) {
    struct blx_op_node_clear clear = {.struct_size = sizeof clear, .node_uid = req->node_uid};
    clear.incarnation = req->incarnation;
    clear.era = req->clear_era;
    struct blx_op op = {.struct_size = sizeof op, .node_clear = &clear};
    blx__call_propose(call, &op, NULL, propose_reports);
    return;
  }
  propose_reports(call, NULL);
}

/* ---- statistics of this node */

static int by_name(const void *a, const void *b) {
  const struct blx_instance_stats *x = *(struct blx_instance_stats *const *)a;
  const struct blx_instance_stats *y = *(struct blx_instance_stats *const *)b;
  int order = strcmp(x->instance, y->instance);
  return order != 0 ? order : (x->uid > y->uid) - (x->uid < y->uid); /* two tenants may have one of that name each */
}

static void fill_stats(struct blx_instance_stats *to, const struct blx__vm_stats *from) {
  const struct blx__usage *u = &from->usage;
  *to = (struct blx_instance_stats)BLX_INSTANCE_STATS_INIT;
  to->instance = from->instance;
  to->uid = from->uid;
  to->at_us = u->at_us;
  to->has_cpu_us = u->has_cpu;
  to->cpu_us = u->cpu_us;
  to->has_memory_bytes = u->has_memory;
  to->memory_bytes = u->memory_bytes;
  to->has_balloon_bytes = u->has_balloon;
  to->balloon_bytes = u->balloon_bytes;
  to->has_read_bytes = u->has_read;
  to->read_bytes = u->read_bytes;
  to->has_written_bytes = u->has_written;
  to->written_bytes = u->written_bytes;
  to->has_uptime_ms = u->has_uptime;
  to->uptime_ms = u->uptime_ms;
  to->has_guest_memory_bytes = to->has_guest_available_bytes = to->has_guest_uptime_ms = u->has_guest;
  to->has_guest_load_milli = to->has_guest_processes = u->has_guest;
  to->guest_memory_bytes = u->guest_memory_bytes;
  to->guest_available_bytes = u->guest_available_bytes;
  to->guest_uptime_ms = u->guest_uptime_ms;
  to->guest_load_milli = (uint32_t)u->guest_load_milli;
  to->guest_processes = (uint32_t)u->guest_processes;
}

/* Into @answer by name, and that into @out. @rows is given away; NULL: there was no memory for it. */
static blx__rc encode_rows(const struct blx__node *n, struct blx_node_stats *answer, struct blx_instance_stats *rows,
                           size_t count, struct blx__buf *out, blx_error *err) {
  struct blx_instance_stats **order = calloc(count + 1, sizeof *order);
  blx__rc rc = {BLX_E_NOMEM};
  if (rows && order) {
    for (size_t i = 0; i < count; i++) order[i] = &rows[i];
    qsort(order, count, sizeof *order, by_name);
    answer->instances = order;
    answer->n_instances = count;
    rc = blx__msg_encode(blx__desc_node_stats(), answer, out, err);
  } else {
    (void)blx__fail(err, BLX_E_NOMEM, n->self->name, "no memory for statistics");
  }
  free(rows);
  free(order);
  return rc;
}

blx__rc blx__stats_encode(const struct blx__node *n, const char *why, const struct blx__vm_stats *list, size_t count,
                          struct blx__buf *out, blx_error *err) {
  struct blx_node_stats answer = BLX_NODE_STATS_INIT;
  struct blx_instance_stats *rows = calloc(count + 1, sizeof *rows);
  for (size_t i = 0; rows && i < count; i++) {
    fill_stats(&rows[i], &list[i]);
    rows[i].tenant = blx__agent_tenant(n->agent, list[i].uid);
  }
  answer.node = n->self->name;
  answer.heard = 1;
  answer.note = why;
  answer.driver = n->driver ? n->driver->ops->name : NULL;
  answer.capacity = n->self->capacity;
  return encode_rows(n, &answer, rows, count, out, err);
}

static void own_measured(void *user, const blx_error *err, const struct blx__vm_stats *list, size_t count) {
  struct blx__call *call = user;
  struct blx__buf out;
  blx_error why;
  blx__buf_init(&out, BLX__NODE_ANSWER_MAX);
  if (blx__stats_encode(call->node, err ? err->message : NULL, list, count, &out, &why).code == 0)
    blx__call_answer_bytes(call, (struct blx__slice){out.data, out.len});
  else
    blx__call_fail(call, &why);
  blx__buf_free(&out);
}

blx__rc blx__stats_measure(struct blx__node *n, blx__vm_stats_fn *done, void *user, blx_error *err) {
  if (!n->driver || !n->driver->ops->stats)
    return blx__fail(err, BLX_E_UNSUPPORTED, n->self->name, "the driver of node %s does not measure", n->self->name);
  return n->driver->ops->stats(n->driver, done, user, err);
}

void blx__handle_member_stats(struct blx__call *call) {
  blx_error err;
  if (blx__stats_measure(call->node, own_measured, call, &err).code != 0) own_measured(call, &err, NULL, 0);
}

blx__rc blx__stats_encode_unheard(const struct blx__node *n, uint64_t uid, const char *why, struct blx__buf *out,
                                  blx_error *err) {
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  if (!node) return BLX__OK;
  struct blx_node_stats answer = BLX_NODE_STATS_INIT;
  struct blx_instance_stats *rows = calloc(BLX__VM_INSTANCES_MAX, sizeof *rows);
  size_t count = 0;
  const struct blx_instance *in = blx__state_instance_on_node_after(n->state, uid, 0);
  for (; rows && in; in = blx__state_instance_on_node_after(n->state, uid, in->uid)) {
    if (in->phase != BLX_PHASE_RUNNING || count == BLX__VM_INSTANCES_MAX) continue;
    rows[count] = (struct blx_instance_stats)BLX_INSTANCE_STATS_INIT;
    rows[count].instance = in->name;
    rows[count].uid = in->uid;
    rows[count].tenant = blx__state_vm(n->state, in->vm_uid)->tenant;
    count++;
  }
  answer.node = node->name;
  answer.note = why;
  answer.capacity = node->capacity;
  return encode_rows(n, &answer, rows, count, out, err);
}
