/* Consoles. An instance of this node is read through its driver; another node's through that node, one hop. A caller
 * who reads slowly stops the sources: nothing is buffered here beyond the call's own queue. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_MAX = 64 << 10 }; /* log_chunk.data's maximum; a driver offers no more at once */

struct stream;

/* One instance: exactly one of local and remote while it is open. */
struct source {
  struct stream *stream;
  char instance[64];
  struct blx__vm_logs *local;
  struct blx__rpc_pending *remote;
  struct blx__buf held; /* one message of remote that the caller's queue had no room for */
  bool open;
  bool in_line, hidden; /* local: the last byte was within a line; that line is older than since_ms */
};

struct stream {
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  bool ended;    /* the caller is gone or was told the end */
  bool opening;  /* sources are being opened: do not end yet */
  unsigned refs; /* the call, and each open source */
  uint64_t since_ms;
  size_t count;
  struct source sources[];
};

static void unref(struct stream *s) {
  if (--s->refs > 0) return;
  blx__rpc_call_unref(s->rpc);
  free(s);
}

static void end_if_done(struct stream *s) {
  if (s->opening || s->ended) return;
  for (size_t i = 0; i < s->count; i++)
    if (s->sources[i].open) return;
  s->ended = true;
  blx__rpc_call_finish(s->rpc, NULL);
}

static bool send_chunk(struct stream *s, const struct blx_log_chunk *chunk) {
  struct blx__buf out;
  blx__buf_init(&out, CHUNK_MAX + 4096);
  blx_error err;
  bool sent = true;
  if (blx__msg_encode(blx__desc_log_chunk(), chunk, &out, &err).code != 0)
    blx__rpc_call_finish(s->rpc, &err);
  else
    sent = blx__rpc_call_send(s->rpc, out.data, out.len);
  blx__buf_free(&out);
  return sent;
}

/* A note is dropped when the caller's queue is full: the console's bytes matter more. */
static void send_note(struct source *src, const char *note) {
  struct blx_log_chunk chunk = BLX_LOG_CHUNK_INIT;
  chunk.instance = src->instance;
  chunk.note = note;
  (void)send_chunk(src->stream, &chunk);
}

/* ---- an instance of this node */

/* How many of these bytes, all of one time, come before the first that is shown. */
static size_t hidden_of(const struct source *src, uint64_t at_ms, const uint8_t *bytes, size_t n) {
  bool old = at_ms != 0 && at_ms < src->stream->since_ms;
  if (!src->in_line || !src->hidden) return !src->in_line && old ? n : 0;
  const uint8_t *end = memchr(bytes, '\n', n);
  return old || !end ? n : (size_t)(end - bytes) + 1;
}

static bool local_bytes(void *user, uint64_t at_ms, const uint8_t *bytes, size_t n) {
  struct source *src = user;
  if (src->stream->ended) return true;
  BLX__ASSERT(n > 0 && n <= CHUNK_MAX);
  size_t skip = hidden_of(src, at_ms, bytes, n);
  struct blx_log_chunk chunk = BLX_LOG_CHUNK_INIT;
  chunk.instance = src->instance;
  chunk.at_ms = at_ms;
  chunk.data = (struct blx_bytes){bytes + skip, n - skip};
  if (skip < n && !send_chunk(src->stream, &chunk)) return false;
  src->in_line = bytes[n - 1] != '\n';
  src->hidden = skip == n;
  return true;
}

static void local_end(void *user, const blx_error *err) {
  struct source *src = user;
  struct stream *s = src->stream;
  src->local = NULL;
  src->open = false;
  if (err && !s->ended) send_note(src, err->message);
  end_if_done(s);
  unref(s);
}

static void open_local(struct source *src, const struct blx_vm_logs_request *req) {
  struct blx__node *n = src->stream->node;
  struct blx__vm_key key = {0};
  blx_error err;
  uint32_t tail = req->has_tail_lines ? req->tail_lines : (uint32_t)BLX__VM_LOG_LINES_ALL;
  blx__rc rc = blx__agent_find(n->agent, req->tenant, src->instance, &key, &err);
  if (rc.code == 0)
    rc = n->driver->ops->logs(n->driver, &key, tail, req->follow != 0, local_bytes, local_end, src, &src->local, &err);
  if (rc.code != 0) {
    send_note(src, err.message);
    return;
  }
  src->open = true;
  src->stream->refs++;
}

/* ---- an instance of another node */

/* A message that finds no room is held, and its source rests until the caller has read. */
static bool remote_message(void *user, struct blx__slice message) {
  struct source *src = user;
  struct stream *s = src->stream;
  if (s->ended || blx__rpc_call_send(s->rpc, message.data, message.len)) return true;
  if (blx__buf_add(&src->held, message.data, message.len)) return false;
  blx_error err;
  (void)blx__fail(&err, BLX_E_NOMEM, s->node->self->name, "no memory to hold a piece of the console of %s",
                  src->instance);
  blx__rpc_call_finish(s->rpc, &err);
  return true;
}

static void remote_done(void *user, const struct blx__rpc_result *result) {
  struct source *src = user;
  struct stream *s = src->stream;
  src->remote = NULL;
  src->open = false;
  blx__buf_free(&src->held);
  if (result->err && !s->ended) send_note(src, result->err->message);
  end_if_done(s);
  unref(s);
}

static const struct blx__rpc_stream_ops remote_ops = {remote_message, remote_done};

static blx__rc ask_remote(struct source *src, const char *address, const struct blx_vm_logs_request *req,
                          blx_error *err) {
  struct blx__rpc_conn *conn = blx__node_conn(src->stream->node, address, err);
  if (!conn) return (blx__rc){err->code};
  struct blx_vm_logs_request there = *req;
  there.struct_size = sizeof there;
  there.name = src->instance;
  there.node_local = 1;
  struct blx__buf body;
  blx__buf_init(&body, 64 << 10);
  blx__rc rc = blx__msg_encode(blx__desc_vm_logs_request(), &there, &body, err);
  struct blx__rpc_request request = {.path = blx__rpc_rows()[BLX__RPC_VM_LOGS].path, .body = {body.data, body.len}};
  if (rc.code == 0) rc = blx__rpc_stream(conn, &request, &remote_ops, src, &src->remote, err);
  blx__buf_free(&body);
  return rc;
}

static void open_remote(struct source *src, const struct blx_node_info *node, const struct blx_vm_logs_request *req) {
  blx_error err;
  blx__buf_init(&src->held, BLX__RPC_MESSAGE_MAX_BYTES);
  if (ask_remote(src, node->address, req, &err).code != 0) {
    send_note(src, err.message);
    return;
  }
  src->open = true;
  src->stream->refs++;
}

/* ---- the call */

static void on_writable(void *user) {
  struct stream *s = user;
  for (size_t i = 0; i < s->count; i++) {
    struct source *src = &s->sources[i];
    if (!src->remote || src->held.len == 0) continue;
    if (!blx__rpc_call_send(s->rpc, src->held.data, src->held.len)) return;
    blx__buf_clear(&src->held);
    blx__rpc_resume(src->remote);
  }
}

static void on_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct stream *s = user;
  s->ended = true;
  for (size_t i = 0; i < s->count; i++) {
    struct source *src = &s->sources[i];
    if (src->remote) blx__rpc_cancel(src->remote);
    if (!src->local) continue;
    s->node->driver->ops->logs_close(s->node->driver, src->local);
    src->local = NULL;
    src->open = false;
    unref(s);
  }
  unref(s);
}

static const struct blx__rpc_call_ops ops = {on_writable, on_gone};

static void send_not_placed(struct source *src, const struct blx_instance *in, const char *tenant) {
  char note[512], flag[BLX__IN_TENANT_BYTES];
  (void)blx__str_format(note, sizeof note, "it was not placed on a node yet: `blixard vm describe %s%s` says why",
                        in->vm, blx__call_tenant_flag(tenant, flag));
  send_note(src, note);
}

static void open_source(struct source *src, const struct blx_instance *in, const struct blx_vm_logs_request *req) {
  struct blx__node *n = src->stream->node;
  const struct blx_node_info *node = blx__state_node(n->state, in->node_uid);
  if (!node)
    send_not_placed(src, in, req->tenant);
  else if (node->uid == n->uid)
    open_local(src, req);
  else if (req->node_local)
    send_note(src, "it is not on the node that was asked");
  else
    open_remote(src, node, req);
}

static size_t instances_of(const struct blx__state *st, const struct blx_vm *vm, const char *name,
                           const struct blx_instance **out) {
  bool all = blx__str_eq(vm->spec->name, name);
  size_t count = 0;
  const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
  for (; in; in = blx__state_instance_after(st, vm->uid, in->ordinal))
    if (all || blx__str_eq(in->name, name)) out[count++] = in;
  return count;
}

static struct stream *stream_new(struct blx__call *call, size_t count) {
  struct stream *s = calloc(1, sizeof *s + count * sizeof s->sources[0]);
  if (!s) {
    blx__call_failf(call, BLX_E_NOMEM, "no memory to read %zu consoles", count);
    return NULL;
  }
  s->node = call->node;
  s->rpc = blx__rpc_call_ref(call->rpc);
  s->since_ms = ((const struct blx_vm_logs_request *)call->request)->since_ms;
  s->refs = 2; /* the call's, and ours until all are open */
  s->count = count;
  s->opening = true;
  blx__rpc_call_watch(s->rpc, &ops, s);
  return s;
}

static void stream_opened(struct stream *s, struct blx__call *call) {
  s->opening = false;
  end_if_done(s);
  blx__call_release(call);
  unref(s);
}

/* A worker knows the instances that are on it; all else is a server's to find, which asks back for those that are. */
static void logs_of_worker(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_vm_logs_request *req = call->request;
  struct blx__vm_key key = {0};
  blx_error err;
  if (!req->node_local && blx__agent_find(n->agent, req->tenant, req->name, &key, &err).code != 0) {
    blx__call_relay(call, blx__worker_server(n));
    return;
  }
  struct stream *s = stream_new(call, 1);
  if (!s) return;
  s->sources[0].stream = s;
  (void)blx__str_copy(s->sources[0].instance, sizeof s->sources[0].instance, req->name);
  open_local(&s->sources[0], req);
  stream_opened(s, call);
}

void blx__handle_vm_logs(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_vm_logs_request *req = call->request;
  blx_error err;
  if (blx__msg_validate(blx__desc_vm_logs_request(), req, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  if (n->worker) {
    logs_of_worker(call);
    return;
  }
  const struct blx_vm *vm = blx__state_vm_lookup(n->state, req->tenant, req->name);
  if (!vm) {
    char in_tenant[BLX__IN_TENANT_BYTES], flag[BLX__IN_TENANT_BYTES];
    blx__call_failf(call, BLX_E_NOT_FOUND,
                    "there is no VM or instance \"%.64s\"%s: `blixard vm list%s` shows those there are", req->name,
                    blx__call_in_tenant(req->tenant, in_tenant), blx__call_tenant_flag(req->tenant, flag));
    return;
  }
  const struct blx_instance *found[1000];
  size_t count = instances_of(n->state, vm, req->name, found);
  struct stream *s = stream_new(call, count);
  if (!s) return;
  for (size_t i = 0; i < count; i++) {
    s->sources[i].stream = s;
    (void)blx__str_copy(s->sources[i].instance, sizeof s->sources[i].instance, found[i]->name);
    open_source(&s->sources[i], found[i], req);
  }
  stream_opened(s, call);
}
