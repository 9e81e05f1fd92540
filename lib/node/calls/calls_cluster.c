/* The calls about the cluster and its nodes: make it, look at it, join it; cordon and label a node. */
#include "node/node_int.h"

#include "base/digest.h"
#include "io/file.h"
#include "node/identity.h"
#include "schema/validate.h"

#include <stdlib.h>
#include <string.h>

enum { STATUS_TEXT_BYTES = 256 };

/* What a node's status means, and what would change it. */
static void word_status(const struct blx__node *n, const struct blx_node_info *view, char text[STATUS_TEXT_BYTES],
                        char unblock[STATUS_TEXT_BYTES]) {
  uint64_t suspect_ms = blx__state_settings(n->state)->lease->suspect_ms;
  uint64_t wall = blx__loop_wall_ms(n->loop), silent_ms = suspect_ms;
  if (wall > view->status_since_ms) silent_ms += wall - view->status_since_ms;
  if (view->unclear && view->status != BLX_NODE_STATUS_FENCING) {
    (void)blx__str_copy(
        text, STATUS_TEXT_BYTES,
        "since the recovery it has not said what runs there: nothing is placed there, and what the lost "
        "part of the log may have put there starts nowhere else");
    (void)blx__str_format(unblock, STATUS_TEXT_BYTES,
                          "start its daemon; if its machine is off: `blixard node fence %s --proved 'HOW YOU KNOW'`",
                          view->name);
    return;
  }
  if (blx__ha_word_status(n, view, text, unblock, STATUS_TEXT_BYTES)) return;
  if (!n->lead.leading) {
    (void)blx__str_copy(text, STATUS_TEXT_BYTES,
                        "this member does not lead, and only the leader knows who is heard from");
    (void)blx__str_copy(unblock, STATUS_TEXT_BYTES, "ask without --stale");
  } else if (view->status == BLX_NODE_STATUS_SUSPECT) {
    (void)blx__str_format(text, STATUS_TEXT_BYTES,
                          "has not been heard from for %llu s: nothing is placed there, and what was assigned to it is "
                          "started nowhere else",
                          (unsigned long long)(silent_ms / 1000));
    (void)blx__str_copy(unblock, STATUS_TEXT_BYTES,
                        "start its daemon; `blixard vm delete VM --force` gives up what it holds of a VM");
  } else if (view->status == BLX_NODE_STATUS_UNKNOWN) {
    (void)blx__str_format(text, STATUS_TEXT_BYTES,
                          "this leader is new and has not heard from it yet; after %llu s of silence it is Suspect",
                          (unsigned long long)suspect_ms / 1000);
  } else if (view->cordoned) {
    (void)blx__str_copy(text, STATUS_TEXT_BYTES,
                        "is heard from, and cordoned: what runs there runs on, nothing new is placed there");
    (void)blx__str_format(unblock, STATUS_TEXT_BYTES, "blixard node uncordon %s", view->name);
  } else {
    (void)blx__str_copy(text, STATUS_TEXT_BYTES, "is heard from, and instances are placed there");
  }
}

/* What the leader knows and state does not. */
static blx__rc add_soft(struct blx__call *call, struct blx_node_info *view, blx_error *err) {
  struct blx__node *n = call->node;
  char text[STATUS_TEXT_BYTES] = "", unblock[STATUS_TEXT_BYTES] = "";
  struct blx_reason *reason = blx__arena_alloc(&call->arena, sizeof *reason);
  view->status = (int32_t)blx__lead_status(n, view->uid);
  view->status_since_ms = blx__lead_status_since(n, view->uid);
  blx__ha_view(n, view);
  blx__soft_view(n, view, false);
  view->leader = n->consensus && view->uid == blx__consensus_leader(n->consensus);
  word_status(n, view, text, unblock);
  if (reason) {
    *reason = (struct blx_reason)BLX_REASON_INIT;
    reason->code = view->unclear                             ? BLX_REASON_CODE_RECOVERED
                   : view->status == BLX_NODE_STATUS_SUSPECT ? BLX_REASON_CODE_NODE_SILENT
                                                             : BLX_REASON_CODE_NONE;
    reason->text = blx__arena_strdup(&call->arena, text);
    reason->unblock = blx__arena_strdup(&call->arena, unblock);
    view->reason = reason;
  }
  if (reason && reason->text && reason->unblock) return BLX__OK;
  return blx__fail(err, BLX_E_NOMEM, "node", "no memory for the status of a node");
}

/* The nodes by name. */
static blx__rc view_nodes(struct blx__call *call, struct blx_node_info ***out, size_t *count, blx_error *err) {
  struct blx__node *n = call->node;
  uint32_t most = blx__state_counts(n->state).nodes;
  struct blx_node_info **nodes = blx__arena_alloc(&call->arena, sizeof *nodes * (most + (size_t)1));
  if (!nodes) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of %u nodes", most);
  const struct blx_node_info *node = blx__state_node_after(n->state, NULL);
  for (; node; node = blx__state_node_after(n->state, node->name)) {
    BLX__ASSERT(*count < most);
    struct blx_node_info *view = NULL;
    BLX__TRY(blx__state_view_node(n->state, node->uid, &call->arena, &view, err));
    BLX__TRY(add_soft(call, view, err));
    nodes[(*count)++] = view;
  }
  *out = nodes;
  return BLX__OK;
}

static blx__rc view_status(struct blx__call *call, struct blx_cluster_status *st, blx_error *err) {
  struct blx__node *n = call->node;
  struct blx__consensus_status cs;
  blx__consensus_status(n->consensus, &cs);
  char *hex = blx__arena_alloc(&call->arena, BLX__SHA256_HEX);
  if (!hex) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for the status");
  blx__sha256_hex(cs.chain, hex);
  struct blx__state_counts counts = blx__state_counts(n->state);
  st->id = n->identity->cluster_id;
  st->name = n->identity->cluster_name;
  st->chain = hex;
  st->term = cs.term;
  st->index = blx__state_index(n->state);
  st->time_ms = blx__state_time_ms(n->state);
  st->vms = counts.vms;
  st->instances = counts.instances;
  st->running = counts.running;
  const struct blx_node_info *leader = blx__state_node(n->state, blx__consensus_leader(n->consensus));
  if (leader) st->leader = leader->name;
  return view_nodes(call, &st->nodes, &st->n_nodes, err);
}

static void answer_status(struct blx__call *call) {
  struct blx__node *n = call->node;
  if (n->worker) {
    blx__worker_answer_status(call);
    return;
  }
  struct blx_cluster_status st = {.struct_size = sizeof st, .answered_by = n->self->name};
  blx_error err;
  if (n->consensus && view_status(call, &st, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &st);
}

void blx__answer_status(struct blx__call *call) {
  answer_status(call);
}

void blx__handle_cluster_status(struct blx__call *call) {
  answer_status(call);
}

void blx__handle_node_list(struct blx__call *call) {
  struct blx_node_list list = {.struct_size = sizeof list, .index = blx__state_index(call->node->state)};
  blx_error err;
  if (view_nodes(call, &list.nodes, &list.n_nodes, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &list);
}

/* ---- one node */

enum { REASON_SHOWN_BYTES = 240 };

/* With what would help. The end of a build's log has its place in the VM; 4,096 of them would not fit into an answer.
 */
static bool show_reason(struct blx__call *call, struct blx_instance *i) {
  if (!i->reason) return true;
  struct blx_reason *shown = blx__arena_alloc(&call->arena, sizeof *shown);
  if (!shown) return false;
  *shown = *i->reason;
  shown->unblock = blx__state_unblock(i->reason, i->phase);
  i->reason = shown;
  if (!shown->text || strlen(shown->text) < REASON_SHOWN_BYTES) return true;
  char *text = blx__arena_strndup(&call->arena, shown->text, REASON_SHOWN_BYTES - 3);
  if (!text) return false;
  blx__utf8_mend(text);
  shown->text = text;
  return true;
}

/* Drafts that point into the records, which stay as they are until this call is answered. */
static bool list_instances(struct blx__call *call, const struct blx_node_info *node, struct blx_node_detail *out) {
  enum { MOST = 4096 };
  const struct blx__state *st = call->node->state;
  size_t n = 0;
  const struct blx_instance *i = blx__state_instance_on_node_after(st, node->uid, 0);
  for (; i && n < MOST; i = blx__state_instance_on_node_after(st, node->uid, i->uid)) n++;
  struct blx_instance *drafts = blx__arena_alloc(&call->arena, (n + 1) * sizeof *drafts);
  out->instances = blx__arena_alloc(&call->arena, (n + 1) * sizeof *out->instances);
  if (!drafts || !out->instances) return false;
  i = blx__state_instance_on_node_after(st, node->uid, 0);
  for (; i && out->n_instances < n; i = blx__state_instance_on_node_after(st, node->uid, i->uid)) {
    struct blx_instance *draft = &drafts[out->n_instances];
    *draft = *i;
    draft->node = node->name;
    draft->tenant = blx__state_vm(st, i->vm_uid)->tenant;
    if (!show_reason(call, draft)) return false;
    out->instances[out->n_instances++] = draft;
  }
  return true;
}

static bool list_tombstones(struct blx__call *call, const struct blx_node_info *node, struct blx_node_detail *out) {
  const struct blx__state *st = call->node->state;
  size_t most = node->tombstones;
  out->tombstones = blx__arena_alloc(&call->arena, (most + 1) * sizeof *out->tombstones);
  if (!out->tombstones) return false;
  const struct blx_tombstone *t = blx__state_tombstone_on_node_after(st, node->uid, 0);
  for (; t && out->n_tombstones < most; t = blx__state_tombstone_on_node_after(st, node->uid, t->instance_uid))
    out->tombstones[out->n_tombstones++] = (struct blx_tombstone *)(uintptr_t)t;
  BLX__ASSERT(!t && out->n_tombstones == most);
  return true;
}

blx__rc blx__call_view_node(struct blx__call *call, uint64_t uid, struct blx_node_info **out, blx_error *err) {
  BLX__TRY(blx__state_view_node(call->node->state, uid, &call->arena, out, err));
  blx__soft_view(call->node, *out, true);
  return add_soft(call, *out, err);
}

static blx__rc view_detail(struct blx__call *call, uint64_t uid, struct blx_node_detail *out,
                           struct blx_resources *room, blx_error *err) {
  BLX__TRY(blx__call_view_node(call, uid, &out->node, err));
  const struct blx_resources *has = out->node->capacity, *used = out->node->allocated;
  if (has && used && has->vcpus > used->vcpus) room->vcpus = has->vcpus - used->vcpus;
  if (has && used && has->memory_mib > used->memory_mib) room->memory_mib = has->memory_mib - used->memory_mib;
  out->free = room;
  out->index = blx__state_index(call->node->state);
  if (list_instances(call, out->node, out) && list_tombstones(call, out->node, out)) return BLX__OK;
  return blx__fail(err, BLX_E_NOMEM, "node", "no memory for what is on node %s", out->node->name);
}

void blx__handle_node_get(struct blx__call *call) {
  const struct blx_node_name_request *req = call->request;
  const struct blx_node_info *node = blx__state_node_by_name(call->node->state, req->name);
  struct blx_resources room = BLX_RESOURCES_INIT;
  struct blx_node_detail detail = BLX_NODE_DETAIL_INIT;
  blx_error err;
  if (!node)
    blx__call_failf(call, BLX_E_NOT_FOUND, "there is no node named %s: `blixard node list` shows those there are",
                    req->name);
  else if (view_detail(call, node->uid, &detail, &room, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, &detail);
}

/* The node as it is right after the apply that this call waited for. */
void blx__call_answer_node(struct blx__call *call, const struct blx_op_result *result) {
  struct blx_node_info *view = NULL;
  blx_error err;
  if (blx__call_view_node(call, result->uid, &view, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer(call, view);
}

void blx__handle_node_cordon(struct blx__call *call) {
  const struct blx_node_cordon_request *req = call->request;
  struct blx_op_node_cordon cordon = {.struct_size = sizeof cordon, .name = req->name, .cordoned = 1};
  cordon.reason = req->reason;
  cordon.if_revision = req->if_revision;
  struct blx_op op = {.struct_size = sizeof op, .node_cordon = &cordon};
  blx__call_propose(call, &op, req->request_id, blx__call_answer_node);
}

void blx__handle_node_uncordon(struct blx__call *call) {
  const struct blx_node_name_request *req = call->request;
  struct blx_op_node_cordon cordon = {.struct_size = sizeof cordon, .name = req->name};
  cordon.if_revision = req->if_revision;
  struct blx_op op = {.struct_size = sizeof op, .node_cordon = &cordon};
  blx__call_propose(call, &op, req->request_id, blx__call_answer_node);
}

void blx__handle_node_label(struct blx__call *call) {
  const struct blx_node_label_request *req = call->request;
  struct blx_op_node_label label = {.struct_size = sizeof label, .name = req->name, .if_revision = req->if_revision};
  label.set = req->set;
  label.n_set = req->n_set;
  label.unset = req->unset;
  label.n_unset = req->n_unset;
  struct blx_op op = {.struct_size = sizeof op, .node_label = &label};
  blx__call_propose(call, &op, req->request_id, blx__call_answer_node);
}

void blx__handle_node_taint(struct blx__call *call) {
  const struct blx_node_taint_request *req = call->request;
  struct blx_op_node_taint taint = {.struct_size = sizeof taint, .name = req->name, .if_revision = req->if_revision};
  blx_error err;
  taint.set = req->set;
  taint.n_set = req->n_set;
  taint.unset = req->unset;
  taint.n_unset = req->n_unset;
  struct blx_op op = {.struct_size = sizeof op, .node_taint = &taint};
  if (blx__msg_validate(blx__desc_node_taint_request(), req, &err).code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_propose(call, &op, req->request_id, blx__call_answer_node);
}

/* ---- init */

void blx__handle_cluster_init(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_cluster_init_request *req = call->request;
  if (n->identity) {
    blx__call_failf(call, BLX_E_CONFLICT, "this daemon is in cluster \"%s\" already: run `blixard cluster status`",
                    n->identity->cluster_name);
    return;
  }
  blx_error err;
  n->founder.principal = blx__arena_strdup(&n->mem, call->principal);
  n->founder.source = call->source ? blx__arena_strdup(&n->mem, call->source) : NULL;
  n->founder.reason = call->reason ? blx__arena_strdup(&n->mem, call->reason) : NULL;
  blx__rc rc = blx__member_found(n, req->name, &err);
  if (rc.code != 0) {
    /* Once it is written down, a cluster that does not start stops the node, and its next start says the same. */
    if (n->identity) blx__node_fatal(n, rc.code, err.message);
    blx__call_fail(call, &err);
    return;
  }
  n->init_call = call;
}

void blx__init_done(struct blx__node *n) {
  struct blx__call *call = n->init_call;
  const struct blx_node_info *me = n->state ? blx__state_node(n->state, n->uid) : NULL;
  bool votes = false;
  if (!call || n->worker || !n->registered || !me || !blx__servers_has(n, n->uid, &votes) || (votes && !me->voter))
    return;
  n->init_call = NULL;
  answer_status(call);
}

/* ---- join, seen from the daemon that is asked to do it */

/* What the new node becomes. */
static int32_t join_role(const struct blx__call *call) {
  if (call->row->id == BLX__RPC_CLUSTER_JOIN) return ((const struct blx_cluster_join_request *)call->request)->role;
  return ((const struct blx_member_invite_request *)call->request)->role;
}

static bool same_address(const char *a, const char *b) {
  if (a && strncmp(a, "unix:", 5) == 0) a += 5;
  if (b && strncmp(b, "unix:", 5) == 0) b += 5;
  return a && b && strcmp(a, b) == 0;
}

/* Whoever asks for a join with another daemon than those this one can have joined through means that one's. */
static bool is_own_join(const struct blx__call *call) {
  const struct blx__node *n = call->node;
  if (call->row->id != BLX__RPC_CLUSTER_JOIN) return true;
  const char *address = ((const struct blx_cluster_join_request *)call->request)->address;
  bool own = same_address(n->joined_at, address);
  for (size_t i = 0; !own && i < n->identity->n_peers; i++) own = same_address(n->identity->peers[i]->address, address);
  return own;
}

/* A join that was begun before, by a call that was cut or by this daemon's earlier life, goes on by itself: the call
 * waits for its end. False: there is none. */
static bool goes_on(struct blx__call *call) {
  struct blx__node *n = call->node;
  bool votes = false;
  bool begun = n->identity && (n->identity->standing == BLX_STANDING_JOINING ||
                               (n->consensus && !blx__servers_has(n, n->uid, &votes)));
  if (!begun || (!n->consensus && !n->worker) || !is_own_join(call)) return false;
  if (join_role(call) != n->identity->role) {
    if (n->identity->standing != BLX_STANDING_JOINING) return false; /* it has joined: this is about another daemon */
    blx__call_failf(call, BLX_E_CONFLICT,
                    "this daemon is joining \"%s\" as a %s: what it is does not change; to join as another, empty its "
                    "data directory",
                    n->identity->cluster_name, n->worker ? "worker" : "server");
    return true;
  }
  if (n->init_call)
    blx__call_failf(n->init_call, BLX_E_BUSY, "another call waits for this daemon to join \"%s\" now: try again later",
                    n->identity->cluster_name);
  n->init_call = call;
  return true;
}

/* The node asks for its vote by itself until it has it: a leader that died under our asking is not the end of the join.
 */
static void joined(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__call *call = user;
  if (!err)
    answer_status(call);
  else if (!blx_error_retryable(err->code) || !goes_on(call))
    blx__call_fail(call, err);
}

/* The identity is written: a start that fails now cannot be taken back, and the next one says the same. */
static blx__rc start_or_stop(struct blx__node *n, blx_error *err) {
  blx__rc rc = blx__node_start(n, err);
  if (rc.code != 0) blx__node_fatal(n, rc.code, err->message);
  return rc;
}

static blx__rc own_identity(const struct blx_member_join_reply *reply, const char *name, int32_t role, void **owned,
                            blx_error *err) {
  size_t digits = reply->cluster_id ? strspn(reply->cluster_id, "0123456789abcdef") : 0;
  if (reply->uid == 0 || digits != (size_t)2 * BLX__CONSENSUS_CLUSTER_ID_BYTES || reply->cluster_id[digits] != '\0')
    return blx__fail(err, BLX_E_INVALID, "node",
                     "the daemon there answers without a uid or a cluster: is it blixardd?");
  for (size_t i = 0; role == BLX_NODE_ROLE_WORKER && i < reply->n_members; i++)
    if (!reply->members[i]->address || !*reply->members[i]->address)
      return blx__fail(err, BLX_E_INVALID, "node", "the daemon there names a server without an address");
  if (role == BLX_NODE_ROLE_WORKER && reply->n_members == 0)
    return blx__fail(err, BLX_E_INVALID, "node", "the daemon there names no server: is its version older?");
  struct blx_identity identity = {.struct_size = sizeof identity, .uid = reply->uid, .name = name};
  identity.cluster_id = reply->cluster_id;
  identity.cluster_name = reply->cluster_name;
  identity.standing = BLX_STANDING_JOINING;
  identity.role = role;
  identity.peers = reply->members;
  identity.n_peers = reply->n_members;
  return blx__msg_own(blx__desc_identity(), &identity, owned, err);
}

static blx__rc accept_uid(struct blx__node *n, const char *name, const char *through, int32_t role,
                          struct blx__slice answer, blx_error *err) {
  void *decoded = NULL, *owned = NULL;
  const char *kept = blx__arena_strdup(&n->mem, name);
  n->joined_at = blx__arena_strdup(&n->mem, through);
  if (!kept || !n->joined_at) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for the node's name");
  BLX__TRY(blx__msg_decode_owned(blx__desc_member_join_reply(), answer, &decoded, err));
  blx__rc rc = own_identity(decoded, name, role, &owned, err);
  blx__msg_free_owned(decoded);
  BLX__TRY(rc);
  rc = blx__identity_write(n->data_dir, owned, err);
  if (rc.code != 0) {
    blx__msg_free_owned(owned);
    return rc;
  }
  n->identity = owned;
  n->self->name = kept;
  return start_or_stop(n, err);
}

/* Where the member is that the daemon joins through. */
static const char *join_address(const struct blx__call *call) {
  if (call->row->id == BLX__RPC_CLUSTER_JOIN) return ((const struct blx_cluster_join_request *)call->request)->address;
  return ((const struct blx_member_invite_request *)call->request)->address;
}

/* The name that the new node takes. */
static const char *join_name(const struct blx__call *call) {
  const char *asked = call->row->id == BLX__RPC_CLUSTER_JOIN
                          ? ((const struct blx_cluster_join_request *)call->request)->node_id
                          : ((const struct blx_member_invite_request *)call->request)->node_id;
  return asked && *asked ? asked : call->node->self->name;
}

/* Whoever asked the daemon to join can mend the address; asking again cannot. */
static blx_error as_address_error(const blx_error *err, const char *address) {
  blx_error out = *err;
  if (err->code == BLX_E_UNAVAILABLE)
    (void)blx__fail(&out, BLX_E_NOT_FOUND, "node", "no daemon answers at %.128s: start it, or give another address",
                    address);
  return out;
}

static blx__rc check_address(const char *address, blx_error *err) {
  const char *path = address && strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
  if (path && path[0] == '/') return BLX__OK;
  if (path && strchr(path, '/'))
    return blx__fail(err, BLX_E_INVALID, "node",
                     "address: \"%.128s\" is relative to nowhere: give an absolute path, unix:/...", address);
  return blx__fail(err, BLX_E_UNSUPPORTED, "node",
                   "address: \"%.64s\" is no unix socket; daemons are reached by unix:PATH, TCP is not supported yet",
                   address ? address : "");
}

/* A uid was given: start with it. A server then asks to be made a voter, a worker waits until the cluster knows it. */
static void got_uid(void *user, const blx_error *err, struct blx__slice answer) {
  struct blx__call *call = user;
  struct blx__node *n = call->node;
  blx_error why;
  if (err) {
    why = as_address_error(err, join_address(call));
    blx__call_fail(call, &why);
    return;
  }
  if (n->identity) {
    blx__call_failf(call, BLX_E_CONFLICT, "this daemon joined a cluster in the meantime: run `blixard cluster status`");
    return;
  }
  if (accept_uid(n, join_name(call), join_address(call), join_role(call), answer, &why).code != 0) {
    blx__call_fail(call, &why);
    return;
  }
  if (n->worker) {
    n->init_call = call;
    return;
  }
  struct blx_member_ready_request ready = {.struct_size = sizeof ready, .uid = n->uid};
  if (blx__node_ask(n, join_address(call), BLX__RPC_MEMBER_READY, &ready, joined, call, &why).code != 0)
    blx__call_fail(call, &why);
}

static void join_at(struct blx__call *call) {
  struct blx__node *n = call->node;
  struct blx_node_info me = *n->self;
  struct blx_member_join_request req = {.struct_size = sizeof req, .node = &me};
  uint8_t digest[BLX__SHA256_BYTES];
  char hex[BLX__SHA256_HEX], id[64];
  blx_error err;
  me.name = join_name(call);
  me.role = join_role(call);
  /* The same daemon that asks twice, because the first answer was lost, gets the same uid; under another name, or
   * role, it asks for something else. */
  const struct blx__slice name[] = {{(const uint8_t *)me.name, strlen(me.name)}, {(const uint8_t *)"worker", 6}};
  blx__sha256(name, me.role == BLX_NODE_ROLE_WORKER ? 2 : 1, digest);
  blx__sha256_hex(digest, hex);
  (void)blx__str_format(id, sizeof id, "join-%016llx-%.16s", (unsigned long long)me.incarnation, hex);
  req.request_id = id;
  if (blx__node_ask_for(call, join_address(call), BLX__RPC_MEMBER_JOIN, &req, got_uid, &err).code != 0)
    blx__call_fail(call, &err);
}

static void invited(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__call *call = user;
  if (!err) {
    answer_status(call);
    return;
  }
  blx_error why = as_address_error(err, join_address(call));
  blx__call_fail(call, &why);
}

void blx__handle_cluster_join(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_cluster_join_request *req = call->request;
  blx_error err;
  if (check_address(req->address, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  if (goes_on(call)) return;
  if (!n->identity) {
    join_at(call);
    return;
  }
  struct blx_member_invite_request invite = {.struct_size = sizeof invite, .node_id = req->node_id, .role = req->role};
  invite.address = n->worker ? blx__worker_server(n) : n->address;
  if (blx__node_ask_for(call, req->address, BLX__RPC_MEMBER_INVITE, &invite, invited, &err).code != 0)
    blx__call_fail(call, &err);
}

void blx__handle_member_invite(struct blx__call *call) {
  struct blx__node *n = call->node;
  if (goes_on(call)) return;
  if (n->identity) {
    blx__call_failf(
        call, BLX_E_CONFLICT,
        "both daemons are in a cluster already (that one in \"%s\"): a node leaves its cluster by `blixard cluster "
        "leave`, and joins another one with an emptied data directory",
        n->identity->cluster_name);
    return;
  }
  join_at(call);
}
