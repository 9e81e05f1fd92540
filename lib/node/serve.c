/* Calls come in here, from the socket or from this node itself, and go where their row says: LOCAL rows are answered by
 * this member; READ and WRITE rows by the leader, to whom any other member passes them on, one hop. A worker passes on
 * to a server all but the few that are about itself. */
#include "node/node_int.h"

#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

/* Who answers: servers do, a worker that does not passes it on to one. */
enum answerer {
  SERVERS,
  SERVERS_AND_OUTSIDERS, /* a daemon that is in no cluster, too */
  MEMBERS,               /* workers, too */
  ALL,
};

struct handler {
  void (*handle)(struct blx__call *call);
  enum answerer by;
};

static const struct handler handlers[BLX__RPC_COUNT] = {
    [BLX__RPC_CLUSTER_INIT] = {blx__handle_cluster_init, ALL},
    [BLX__RPC_CLUSTER_JOIN] = {blx__handle_cluster_join, ALL},
    [BLX__RPC_CLUSTER_STATUS] = {blx__handle_cluster_status, SERVERS_AND_OUTSIDERS},
    [BLX__RPC_NODE_LIST] = {blx__handle_node_list, SERVERS},
    [BLX__RPC_VM_CREATE] = {blx__handle_vm_create, SERVERS},
    [BLX__RPC_VM_GET] = {blx__handle_vm_get, SERVERS},
    [BLX__RPC_VM_LIST] = {blx__handle_vm_list, SERVERS},
    [BLX__RPC_VM_START] = {blx__handle_vm_start, SERVERS},
    [BLX__RPC_VM_STOP] = {blx__handle_vm_stop, SERVERS},
    [BLX__RPC_VM_RESTART] = {blx__handle_vm_restart, SERVERS},
    [BLX__RPC_VM_KILL] = {blx__handle_vm_kill, SERVERS},
    [BLX__RPC_VM_PAUSE] = {blx__handle_vm_pause, SERVERS},
    [BLX__RPC_VM_RESUME] = {blx__handle_vm_resume, SERVERS},
    [BLX__RPC_VM_DELETE] = {blx__handle_vm_delete, SERVERS},
    [BLX__RPC_VM_LOGS] = {blx__handle_vm_logs, MEMBERS},
    [BLX__RPC_VM_EXEC] = {blx__handle_vm_exec, MEMBERS},
    [BLX__RPC_WATCH] = {blx__handle_watch, SERVERS},
    [BLX__RPC_NODE_GET] = {blx__handle_node_get, SERVERS},
    [BLX__RPC_NODE_CORDON] = {blx__handle_node_cordon, SERVERS},
    [BLX__RPC_NODE_UNCORDON] = {blx__handle_node_uncordon, SERVERS},
    [BLX__RPC_NODE_LABEL] = {blx__handle_node_label, SERVERS},
    [BLX__RPC_VM_DELETE_FORCE] = {blx__handle_vm_delete_force, SERVERS},
    [BLX__RPC_MEMBER_JOIN] = {blx__handle_member_join, SERVERS},
    [BLX__RPC_MEMBER_INVITE] = {blx__handle_member_invite, ALL},
    [BLX__RPC_MEMBER_READY] = {blx__handle_member_ready, SERVERS},
    [BLX__RPC_REPORT] = {blx__handle_report, SERVERS},
    [BLX__RPC_RENEW] = {blx__handle_renew, SERVERS},
    [BLX__RPC_HA_STATUS] = {blx__handle_ha_status, SERVERS},
    [BLX__RPC_HA_DISARM] = {blx__handle_ha_disarm, SERVERS},
    [BLX__RPC_NODE_FENCE] = {blx__handle_node_fence, SERVERS},
    [BLX__RPC_NODE_FENCE_COMMAND] = {blx__handle_node_fence_command, SERVERS},
    [BLX__RPC_STATS] = {blx__handle_stats, SERVERS},
    [BLX__RPC_MEMBER_STATS] = {blx__handle_member_stats, MEMBERS},
    [BLX__RPC_SETTINGS_GET] = {blx__handle_settings_get, SERVERS},
    [BLX__RPC_SETTINGS_SET] = {blx__handle_settings_set, SERVERS},
    [BLX__RPC_CLUSTER_TRANSFER] = {blx__handle_cluster_transfer, SERVERS},
    [BLX__RPC_CLUSTER_LEAVE] = {blx__handle_cluster_leave, MEMBERS},
    [BLX__RPC_NODE_REMOVE] = {blx__handle_node_remove, SERVERS},
    [BLX__RPC_AUDIT_LIST] = {blx__handle_audit_list, SERVERS},
    [BLX__RPC_AUDIT_VERIFY] = {blx__handle_audit_verify, SERVERS},
    [BLX__RPC_AUDIT_FETCH] = {blx__handle_audit_fetch, SERVERS},
    [BLX__RPC_SHARE] = {blx__handle_share, MEMBERS},
    [BLX__RPC_CLUSTER_BACKUP] = {blx__handle_cluster_backup, SERVERS},
    [BLX__RPC_VM_EXPLAIN] = {blx__handle_vm_explain, SERVERS},
    [BLX__RPC_VM_PLAN] = {blx__handle_vm_plan, SERVERS},
    [BLX__RPC_CAPACITY] = {blx__handle_capacity, SERVERS},
    [BLX__RPC_VM_SCALE] = {blx__handle_vm_scale, SERVERS},
    [BLX__RPC_NODE_TAINT] = {blx__handle_node_taint, SERVERS},
    [BLX__RPC_QUOTA_SET] = {blx__handle_quota_set, SERVERS},
    [BLX__RPC_QUOTA_GET] = {blx__handle_quota_get, SERVERS},
};

/* ---- the life of a call */

#ifdef __SANITIZE_ADDRESS__
static const size_t spare_calls_max = 0; /* so that a use after the end is seen */
#else
static const size_t spare_calls_max = 256;
#endif
enum { SPARE_ARENA_MAX_BYTES = 8 << 10, SCRATCH_MAX_BYTES = 64 << 10 };

/* One that is over, with its memory, or a new one. */
static struct blx__call *spare_call(struct blx__node *n) {
  struct blx__list *spare = blx__list_first(&n->spare_calls);
  if (!spare) return calloc(1, sizeof(struct blx__call));
  struct blx__call *call = BLX__CONTAINER(spare, struct blx__call, link);
  blx__list_remove(spare);
  n->spare_calls_count--;
  *call = (struct blx__call){.arena = call->arena};
  return call;
}

static void keep_or_free(struct blx__node *n, struct blx__call *call) {
  blx__arena_reset(&call->arena);
  if (n->spare_calls_count < spare_calls_max && call->arena.end - call->arena.at <= SPARE_ARENA_MAX_BYTES) {
    blx__list_push(&n->spare_calls, &call->link);
    n->spare_calls_count++;
    return;
  }
  blx__arena_free(&call->arena);
  free(call);
}

void blx__serve_free(struct blx__node *n) {
  for (struct blx__list *it; (it = blx__list_first(&n->spare_calls)) != NULL;) {
    struct blx__call *call = BLX__CONTAINER(it, struct blx__call, link);
    blx__list_remove(it);
    blx__arena_free(&call->arena);
    free(call);
  }
  blx__buf_free(&n->scratch);
}

/* To encode into, mostly without asking for memory. Whoever comes in between gets a new one. */
static struct blx__buf scratch_take(struct blx__node *n, size_t max) {
  struct blx__buf b = n->scratch;
  n->scratch = (struct blx__buf){0};
  b.max = max;
  b.len = 0;
  return b;
}

static void scratch_put(struct blx__node *n, struct blx__buf *b) {
  if (n->scratch.cap == 0 && b->cap <= SCRATCH_MAX_BYTES)
    n->scratch = *b;
  else
    blx__buf_free(b);
}

static struct blx__call *call_new(struct blx__node *n, const struct blx__rpc_row *row, blx_error *err) {
  struct blx__call *call = n->calls_count < BLX__NODE_CALLS_MAX ? spare_call(n) : NULL;
  if (!call) {
    (void)blx__fail(err, BLX_E_BUSY, "node", "%d calls are in flight: try again later", BLX__NODE_CALLS_MAX);
    return NULL;
  }
  call->node = n;
  call->row = row;
  call->arena.limit_bytes = BLX__NODE_CALL_ARENA;
  call->principal = "";
  blx__list_push(&n->calls, &call->link);
  n->calls_count++;
  return call;
}

static void call_free(struct blx__call *call) {
  struct blx__node *n = call->node;
  blx__list_remove(&call->link);
  n->calls_count--;
  if (n->init_call == call) n->init_call = NULL;
  if (call->rpc) blx__rpc_call_unref(call->rpc);
  keep_or_free(n, call);
}

void blx__call_release(struct blx__call *call) {
  call_free(call);
}

static blx__rc call_decode(struct blx__call *call, struct blx__slice bytes, blx_error *err) {
  void *copy = blx__arena_alloc(&call->arena, bytes.len + 1), *decoded = NULL;
  if (!copy) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a request of %zu bytes", bytes.len);
  if (bytes.len) memcpy(copy, bytes.data, bytes.len);
  call->bytes = (struct blx__slice){copy, bytes.len};
  /* What is not understood must not be half done. */
  BLX__TRY((call->row->route == BLX__ROUTE_WRITE ? blx__msg_decode_known : blx__msg_decode)(
      call->row->request(), &call->arena, call->bytes, &decoded, err));
  call->request = decoded;
  return BLX__OK;
}

void blx__call_fail(struct blx__call *call, const blx_error *err) {
  blx_error out = *err;
  if (!out.origin[0] || strcmp(out.origin, "api") == 0)
    (void)blx__str_copy(out.origin, sizeof out.origin, call->node->self->name);
  blx__audit_deny(call, &out);
  if (call->rpc)
    blx__rpc_call_finish(call->rpc, &out);
  else if (call->done)
    call->done(call->done_user, &out, (struct blx__slice){0});
  call_free(call);
}

void blx__call_failf(struct blx__call *call, int code, const char *fmt, ...) {
  char text[400];
  va_list ap;
  va_start(ap, fmt);
  int len = __builtin_vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  blx_error err;
  (void)blx__fail(&err, code, call->node->self->name, "%s", len < 0 ? "" : text);
  blx__call_fail(call, &err);
}

void blx__call_answer(struct blx__call *call, const void *answer) {
  struct blx__node *n = call->node;
  struct blx__buf out = scratch_take(n, BLX__NODE_ANSWER_MAX);
  blx_error err;
  blx__rc rc = blx__msg_encode(call->row->response(), answer, &out, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    blx__call_answer_bytes(call, (struct blx__slice){out.data, out.len});
  scratch_put(n, &out);
}

void blx__call_answer_bytes(struct blx__call *call, struct blx__slice answer) {
  if (call->rpc)
    blx__rpc_call_reply(call->rpc, answer.data, answer.len);
  else if (call->done)
    call->done(call->done_user, NULL, answer);
  call_free(call);
}

/* ---- proposing */

static void unwaited(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  (void)index;
  (void)result;
  const struct blx__node *n = user;
  if (err)
    blx__log(&n->log, BLX_LOG_WARNING, "node", "an operation nobody waits for was not committed: %s", err->message);
}

/* What leaves a record in the audit log says where it came from. What agents see and why something waits would flood
 * it, and decides nothing. */
static void name_source(const struct blx__node *n, struct blx_op *op) {
  bool silent = op->report || op->explain;
  if (silent)
    op->source = op->reason = NULL;
  else if (!op->source || !*op->source)
    op->source = n->self->name;
}

blx__rc blx__node_propose(struct blx__node *n, const struct blx_op *given, blx__consensus_cb cb, void *user,
                          blx_error *err) {
  struct blx_op draft = *given, *op = &draft;
  if (blx__member_recovering(n) && !op->regroup)
    return blx__fail(err, BLX_E_NO_LEADER, n->self->name, "the cluster is being recovered: try again");
  name_source(n, op);
  struct blx__buf bytes = scratch_take(n, BLX__CONSENSUS_OP_MAX);
  if (!cb) {
    cb = unwaited;
    user = n;
  }
  /* Committed, a field that this version does not know would stop every member at its entry. */
  blx__rc rc = blx__msg_refuse_unknown(blx__desc_op(), op, err);
  if (rc.code == 0) rc = blx__msg_encode(blx__desc_op(), op, &bytes, err);
  if (rc.code == 0)
    rc = blx__consensus_propose(n->consensus, (struct blx__slice){bytes.data, bytes.len}, cb, user, err);
  scratch_put(n, &bytes);
  return rc;
}

static void proposed(void *user, const blx_error *err, uint64_t index, struct blx__slice answer) {
  struct blx__call *call = user;
  if (err) {
    blx__call_fail(call, err);
    return;
  }
  void *decoded = NULL;
  blx_error why;
  if (blx__msg_decode(blx__desc_op_result(), &call->arena, answer, &decoded, &why).code != 0) {
    blx__call_fail(call, &why);
    return;
  }
  struct blx_op_result *result = decoded;
  if (result->index == 0) result->index = index;
  if (result->code == BLX_E_STALE && call->stale) {
    call->stale(call);
    return;
  }
  if (result->code != 0) {
    (void)blx__fail(&why, result->code, call->node->self->name, "%s",
                    result->message && *result->message ? result->message : blx_error_text(result->code));
    blx__call_fail(call, &why);
    return;
  }
  call->after(call, result);
}

void blx__call_propose(struct blx__call *call, struct blx_op *op, const char *request_id,
                       void (*after)(struct blx__call *, const struct blx_op_result *)) {
  uint8_t digest[BLX__SHA256_BYTES];
  if (request_id && *request_id) {
    const struct blx__slice parts[] = {{(const uint8_t *)call->row->path, strlen(call->row->path)}, call->bytes};
    blx__sha256(parts, 2, digest);
    op->request_id = request_id;
    op->request_digest = (struct blx_bytes){digest, sizeof digest};
  }
  op->principal = call->principal;
  op->source = call->source;
  op->reason = call->reason;
  call->proposed = true;
  call->after = after;
  blx_error err;
  if (blx__node_propose(call->node, op, proposed, call, &err).code != 0) blx__call_fail(call, &err);
}

/* ---- routing */

static bool wants_stale(const struct blx__call *call) {
  const struct blx__field *field = blx__desc_field(call->row->request(), "stale");
  if (!field) return false;
  uint32_t stale = 0;
  memcpy(&stale, (const char *)call->request + field->offset, sizeof stale);
  return stale != 0;
}

static void confirmed(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  (void)index;
  (void)result;
  struct blx__call *call = user;
  if (err)
    blx__call_fail(call, err);
  else
    handlers[call->row->id].handle(call);
}

static void to_leader(struct blx__call *call) {
  struct blx__node *n = call->node;
  uint64_t leader = blx__consensus_leader(n->consensus);
  const struct blx_node_info *node = leader != 0 && leader != n->uid ? blx__state_node(n->state, leader) : NULL;
  if (node && node->address && !call->forwarded) {
    blx__call_forward(call, node->address);
    return;
  }
  blx_error err;
  (void)blx__fail(&err, BLX_E_NO_LEADER, n->self->name,
                  "the cluster has no leader that answers at the moment: try again");
  if (node && node->address) (void)blx__str_copy(err.leader, sizeof err.leader, node->address);
  blx__call_fail(call, &err);
}

static void route_worker(struct blx__call *call) {
  const struct handler *h = &handlers[call->row->id];
  if (h->by == MEMBERS || h->by == ALL)
    h->handle(call);
  else if (call->row->id == BLX__RPC_CLUSTER_STATUS && wants_stale(call))
    blx__worker_answer_status(call);
  else if (call->row->stream)
    blx__call_relay(call, blx__worker_server(call->node));
  else
    blx__call_forward(call, blx__worker_server(call->node));
}

static void route(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct handler *h = &handlers[call->row->id];
  if (n->closing) {
    blx__call_failf(call, BLX_E_CANCELLED, "node %s is stopping", n->self->name);
  } else if (n->fatal_code != 0) {
    blx__call_failf(call, BLX_E_FATAL, "node %s has stopped itself: %s", n->self->name, n->fatal_text);
  } else if (n->worker) {
    route_worker(call);
  } else if (!n->consensus && h->by != ALL && h->by != SERVERS_AND_OUTSIDERS) {
    blx__call_failf(call, BLX_E_CONFLICT,
                    "daemon %s is in no cluster: run `blixard cluster init`, or `blixard cluster join`", n->self->name);
  } else if (call->row->route == BLX__ROUTE_LOCAL || !n->consensus ||
             (call->row->route == BLX__ROUTE_READ && wants_stale(call))) {
    h->handle(call);
  } else if (n->role != BLX__ROLE_LEADER) {
    to_leader(call);
  } else if (call->row->route == BLX__ROUTE_WRITE) {
    h->handle(call);
  } else {
    blx_error err;
    if (blx__consensus_confirm(n->consensus, confirmed, call, &err).code != 0) blx__call_fail(call, &err);
  }
}

/* ---- in from ourselves: routed on the next turn, so that no completion comes before the submit returned */

struct submitted {
  struct blx__defer defer;
  struct blx__call *call;
};

static void route_later(void *arg) {
  struct submitted *s = arg;
  route(s->call);
}

blx__rc blx__node_submit(struct blx__node *n, enum blx__rpc_id id, const void *request, blx__call_done done, void *user,
                         blx_error *err) {
  struct blx__call *call = call_new(n, &blx__rpc_rows()[id], err);
  if (!call) return (blx__rc){BLX_E_BUSY};
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__NODE_ANSWER_MAX);
  blx__rc rc = blx__msg_encode(call->row->request(), request, &bytes, err);
  if (rc.code == 0) rc = call_decode(call, (struct blx__slice){bytes.data, bytes.len}, err);
  blx__buf_free(&bytes);
  struct submitted *s = rc.code == 0 ? blx__arena_alloc(&call->arena, sizeof *s) : NULL;
  if (rc.code == 0 && !s) rc = blx__fail(err, BLX_E_NOMEM, "node", "no memory for a call");
  if (rc.code != 0) {
    call_free(call);
    return rc;
  }
  call->done = done;
  call->done_user = user;
  call->principal = "node";
  call->source = n->self->name;
  s->call = call;
  blx__defer_init(&s->defer, route_later, s);
  blx__loop_defer(n->loop, &s->defer);
  return rc;
}

/* ---- in from the socket */

static const struct blx__rpc_method *find_method(void *user, const char *path) {
  struct blx__node *n = user;
  const struct blx__rpc_row *row = blx__rpc_find_path(path);
  return row ? &n->methods[row->id] : NULL;
}

/* Only members may speak for somebody; on a local socket that is root or the daemon's own user, the only ones who can
 * connect at all. */
static const char *principal_of(struct blx__call *call) {
  const char *given = blx__rpc_call_meta(call->rpc, "blixard-principal");
  if (given) return blx__arena_strdup(&call->arena, given);
  char text[32];
  (void)blx__str_format(text, sizeof text, "uid:%u", blx__rpc_call_cred(call->rpc).uid);
  return blx__arena_strdup(&call->arena, text);
}

/* The member that was asked first, and who asked it. */
static const char *source_of(struct blx__call *call) {
  const char *given = blx__rpc_call_meta(call->rpc, "blixard-source");
  if (given) return blx__arena_strdup(&call->arena, given);
  char text[128];
  const struct blx__cred cred = blx__rpc_call_cred(call->rpc);
  (void)blx__str_format(text, sizeof text, "%s: uid %u, pid %d", call->node->self->name, cred.uid, cred.pid);
  return blx__arena_strdup(&call->arena, text);
}

static bool is_line(const char *text, size_t max) {
  if (strlen(text) > max) return false;
  for (; *text; text++)
    if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
  return true;
}

/* What the audit log says of a call beside its request. What is too long or no line is not kept, and refused. */
static blx__rc take_meta(struct blx__call *call, blx_error *err) {
  char text[1024];
  const char *reason = blx__rpc_call_meta(call->rpc, "blixard-reason");
  call->principal = principal_of(call);
  call->source = source_of(call);
  if (reason) {
    blx__rpc_text_decode(reason, text, sizeof text);
    call->reason = blx__arena_strdup(&call->arena, text);
  }
  if (!call->principal || !call->source || (reason && !call->reason))
    return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a call");
  const char **const all[] = {&call->principal, &call->source, &call->reason};
  static const struct {
    const char *name;
    size_t max;
  } limits[] = {{"principal", 128}, {"source", 128}, {"reason", 256}};
  blx__rc rc = BLX__OK;
  for (size_t i = 0; i < BLX__COUNT(all); i++) {
    if (!*all[i] || is_line(*all[i], limits[i].max)) continue;
    rc = blx__fail(err, BLX_E_INVALID, "api",
                   "%s: it has to be one line of at most %zu bytes, without control characters", limits[i].name,
                   limits[i].max);
    *all[i] = "";
  }
  return rc;
}

/* Names, lengths and ranges, before anything is done. Some are not held against the limits here: in a create request,
 * a plan of one, or a shape, zeroes become defaults first, in a change of settings what is, and an agent of a newer
 * version may report what this one has no name for. */
static blx__rc check_request(const struct blx__call *call, blx_error *err) {
  const struct blx__rpc_row *row = call->row;
  if (row->id == BLX__RPC_VM_CREATE || row->id == BLX__RPC_REPORT || row->id == BLX__RPC_SETTINGS_SET) return BLX__OK;
  if (row->id == BLX__RPC_VM_PLAN || row->id == BLX__RPC_CAPACITY) return BLX__OK;
  return blx__msg_validate(row->request(), call->request, err);
}

/* The one call that a member answers whatever the cluster's state. */
static void on_channel(struct blx__node *n, struct blx__rpc_call *rpc) {
  if (n->channel) {
    blx__channel_accept(n->channel, rpc);
    return;
  }
  blx_error err;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, n->self->name, "daemon %s is in no cluster yet", n->self->name);
  blx__rpc_call_finish(rpc, &err);
}

static void on_call(void *user, struct blx__rpc_call *rpc, struct blx__slice request) {
  struct blx__node *n = user;
  const struct blx__rpc_method *method = blx__rpc_call_method(rpc);
  blx_error err;
  const struct blx__rpc_row *row = &blx__rpc_rows()[method - n->methods];
  if (row->id == BLX__RPC_CHANNEL) {
    on_channel(n, rpc);
    return;
  }
  struct blx__call *call = call_new(n, row, &err);
  if (!call) {
    blx__rpc_call_finish(rpc, &err);
    return;
  }
  call->rpc = blx__rpc_call_ref(rpc);
  call->forwarded = blx__rpc_call_meta(rpc, "blixard-forwarded") != NULL;
  blx__rc rc = take_meta(call, &err);
  /* The messages of one that streams both ways are its handler's to read. */
  if (rc.code == 0 && !row->bidi) rc = call_decode(call, request, &err);
  if (rc.code == 0 && !row->bidi) rc = check_request(call, &err);
  if (rc.code != 0)
    blx__call_fail(call, &err);
  else
    route(call);
}

blx__rc blx__serve_open(struct blx__node *n, blx_error *err) {
  const struct blx__rpc_row *rows = blx__rpc_rows();
  for (size_t i = 0; i < BLX__RPC_COUNT; i++) {
    n->methods[i].path = rows[i].path;
    n->methods[i].kind = rows[i].bidi ? BLX__RPC_BIDI : rows[i].stream ? BLX__RPC_SERVER_STREAM : BLX__RPC_UNARY;
  }
  n->service = (struct blx__rpc_service){.user = n, .find = find_method, .on_call = on_call};
  struct blx__rpc_server_options options = {
      .path = n->socket_path, .mode = 0660, .service = &n->service, .log = &n->log};
  return blx__rpc_server_open(n->loop, &options, &n->server, err);
}
