/* Commands in guests and their serial consoles. An instance of this node is reached through its driver; another node's
 * through that node, one hop; a worker that has not got it asks a server. Nothing is buffered here beyond the call's
 * own queue and one message each way: who reads slowly stops the command, and the command who writes too fast. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

enum {
  CHUNK_MAX = 64 << 10,  /* maximum of vm_exec_output.out and .err */
  INPUT_MAX = 48 << 10,  /* bytes of one message of the caller's */
  OUTPUT_MAX = 72 << 10, /* and of one to it */
  NAMES_SHOWN = 8,
};

/* At most one of local and remote. */
struct exec {
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  char *principal;
  char tenant[64], instance[64], where[264]; /* where: the node that is asked, or the server's address */
  struct blx__timer *timer;                  /* until the first message came */
  struct blx__vm_session *local;
  struct blx__rpc_pending *remote;
  struct blx__buf in, out; /* one message of the caller's, or to it, that found no room */
  bool console;
  bool begun, gone; /* the first message came; the caller is gone or was told the end */
  bool in_ended;    /* the caller said so, and what reads was not told yet: there was no room */
  bool paused;      /* the caller was stopped */
  bool over;        /* local: it ended, and the caller was not told yet */
  int32_t exit_status, signal;
  size_t told[3]; /* of what the driver offers again, by stream: so much was sent */
};

static void exec_free(struct exec *e) {
  e->node->execs--;
  blx__timer_free(e->timer);
  blx__rpc_call_unref(e->rpc);
  blx__buf_free(&e->in);
  blx__buf_free(&e->out);
  free(e->principal);
  free(e);
}

static void finish(struct exec *e, const blx_error *err) {
  blx__rpc_call_finish(e->rpc, err);
}

/* Who did what, without the words: they may hold secrets. */
static void note(const struct exec *e, const char *what) {
  char in_tenant[BLX__IN_TENANT_BYTES];
  blx__log(&e->node->log, BLX_LOG_INFO, "exec", "%s in %s%s for %s: %s", e->console ? "the console" : "a command",
           e->instance, blx__call_in_tenant(e->tenant, in_tenant), e->principal, what);
}

static void close_local(struct exec *e, const char *why) {
  if (!e->local) return;
  e->node->driver->ops->session_close(e->node->driver, e->local);
  e->local = NULL;
  note(e, why);
}

static void fail(struct exec *e, int code, const char *sentence) {
  blx_error err;
  (void)blx__fail(&err, code, e->node->self->name, "%s", sentence);
  finish(e, &err);
}

static bool send_output(struct exec *e, const struct blx_vm_exec_output *output) {
  struct blx__buf bytes;
  blx__buf_init(&bytes, OUTPUT_MAX);
  blx_error err;
  bool sent = true;
  if (blx__msg_encode(blx__desc_vm_exec_output(), output, &bytes, &err).code != 0)
    finish(e, &err);
  else
    sent = blx__rpc_call_send(e->rpc, bytes.data, bytes.len);
  blx__buf_free(&bytes);
  return sent;
}

static void go_on(struct exec *e) {
  if (!e->paused) return;
  e->paused = false;
  blx__rpc_call_resume(e->rpc);
}

/* ---- an instance of this node */

static bool local_output(void *user, enum blx__vm_session_stream stream, const uint8_t *bytes, size_t n) {
  struct exec *e = user;
  size_t *told = &e->told[stream];
  BLX__ASSERT(*told <= n);
  if (blx__rpc_call_is_over(e->rpc)) return false; /* until it is closed: nobody hears it any more */
  while (*told < n) {
    struct blx_vm_exec_output output = BLX_VM_EXEC_OUTPUT_INIT;
    size_t piece = n - *told < CHUNK_MAX ? n - *told : CHUNK_MAX;
    *(stream == BLX__VM_SESSION_ERR ? &output.err : &output.out) = (struct blx_bytes){bytes + *told, piece};
    if (!send_output(e, &output)) return false;
    *told += piece;
  }
  *told = 0;
  return true;
}

static void local_tell_end(struct exec *e) {
  struct blx_vm_exec_output output = BLX_VM_EXEC_OUTPUT_INIT;
  output.ended = 1;
  output.exit_status = e->exit_status;
  output.signal = e->signal;
  if (!e->over || !send_output(e, &output)) return;
  e->over = false;
  finish(e, NULL);
}

static void local_end(void *user, const blx_error *err, int32_t exit_status, int32_t signal) {
  struct exec *e = user;
  e->local = NULL;
  note(e, err ? err->message : "it ended");
  if (err) {
    blx_error why = *err;
    (void)blx__str_copy(why.origin, sizeof why.origin, e->node->self->name);
    finish(e, &why);
    return;
  }
  e->over = true;
  e->exit_status = exit_status;
  e->signal = signal;
  local_tell_end(e);
}

/* What the caller wrote, then the end of it. False: there is no room. */
static bool local_write(struct exec *e) {
  const struct blx__vm_ops *ops = e->node->driver->ops;
  struct blx__vm_driver *d = e->node->driver;
  if (e->in.len > 0 && e->local && !ops->session_write(d, e->local, e->in.data, e->in.len)) return false;
  blx__buf_clear(&e->in);
  if (e->in_ended && e->local && !ops->session_write(d, e->local, NULL, 0)) return false;
  e->in_ended = false;
  return true;
}

static void local_room(void *user) {
  struct exec *e = user;
  if (!e->gone && local_write(e)) go_on(e);
}

static const struct blx__vm_session_events local_events = {local_output, local_room, local_end};

static bool local_input(struct exec *e, const struct blx_vm_exec_input *input) {
  if (input->rows > 0 && input->columns > 0 && e->local)
    e->node->driver->ops->session_resize(e->node->driver, e->local, (uint16_t)input->rows, (uint16_t)input->columns);
  if (input->data.len > 0 && !blx__buf_add(&e->in, input->data.data, input->data.len)) {
    fail(e, BLX_E_NOMEM, "no memory for what the command shall read");
    return true;
  }
  e->in_ended = e->in_ended || input->end != 0;
  return local_write(e);
}

static void open_local(struct exec *e, const struct blx_vm_exec_request *req) {
  struct blx__node *n = e->node;
  struct blx__vm_key key = {0};
  struct blx__vm_session_spec spec = {.argv = req->argv, .argc = req->console ? 0 : req->n_argv, .tty = req->tty != 0};
  struct blx_vm_exec_output output = BLX_VM_EXEC_OUTPUT_INIT;
  blx_error err;
  spec.rows = (uint16_t)req->rows;
  spec.columns = (uint16_t)req->columns;
  blx__rc rc = blx__agent_find(n->agent, e->tenant, e->instance, &key, &err);
  if (rc.code == 0 && !n->driver->ops->session_open)
    rc = blx__fail(&err, BLX_E_UNSUPPORTED, n->self->name,
                   "the VM driver of node %s runs no commands in guests and has no consoles to write to: `blixard vm "
                   "logs %s` reads what it keeps",
                   n->self->name, e->instance);
  if (rc.code == 0) rc = n->driver->ops->session_open(n->driver, &key, &spec, &local_events, e, &e->local, &err);
  if (rc.code != 0) {
    (void)blx__str_copy(err.origin, sizeof err.origin, n->self->name);
    finish(e, &err);
    return;
  }
  note(e, "begun");
  output.instance = e->instance;
  (void)send_output(e, &output);
}

/* ---- an instance of another node */

static bool remote_message(void *user, struct blx__slice message) {
  struct exec *e = user;
  if (e->gone || blx__rpc_call_send(e->rpc, message.data, message.len)) return true;
  if (blx__buf_add(&e->out, message.data, message.len)) return false;
  fail(e, BLX_E_NOMEM, "no memory to pass on what the command said");
  return true;
}

static void remote_done(void *user, const struct blx__rpc_result *result) {
  struct exec *e = user;
  e->remote = NULL;
  if (e->gone) {
    exec_free(e);
    return;
  }
  /* What the other side says has a node for its origin. */
  bool lost = result->err && result->err->code == BLX_E_UNAVAILABLE &&
              (strcmp(result->err->origin, "rpc") == 0 || strcmp(result->err->origin, "io") == 0);
  if (!lost) {
    finish(e, result->err);
    return;
  }
  blx_error err;
  if (e->node->worker) blx__worker_avoid(e->node, e->where);
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, e->node->self->name,
                  "%s %s, by which %s is reached, does not answer: %.200s", e->node->worker ? "the server at" : "node",
                  e->where, e->instance, result->err->message);
  finish(e, &err);
}

static void remote_writable(void *user) {
  struct exec *e = user;
  if (e->gone || !e->remote) return;
  if (e->in.len > 0 && !blx__rpc_send(e->remote, e->in.data, e->in.len)) return;
  blx__buf_clear(&e->in);
  go_on(e);
}

static const struct blx__rpc_bidi_ops remote_ops = {{remote_message, remote_done}, remote_writable};

static bool remote_input(struct exec *e, struct blx__slice message) {
  if (blx__rpc_send(e->remote, message.data, message.len)) return true;
  if (blx__buf_add(&e->in, message.data, message.len)) return false;
  fail(e, BLX_E_NOMEM, "no memory to pass on what the command shall read");
  return true;
}

/* On the caller's behalf, as this message. */
static void open_remote(struct exec *e, const char *address, struct blx__slice first) {
  blx_error err;
  struct blx__rpc_conn *conn = blx__node_conn(e->node, address, &err);
  const struct blx__rpc_meta meta[] = {{"blixard-principal", e->principal}};
  struct blx__rpc_request request = {.path = blx__rpc_rows()[BLX__RPC_VM_EXEC].path, .meta = meta};
  request.meta_count = BLX__COUNT(meta);
  request.deadline_ms = blx__rpc_call_deadline_ms(e->rpc);
  if (!conn || blx__rpc_bidi(conn, &request, &remote_ops, e, &e->remote, &err).code != 0) {
    finish(e, &err);
    return;
  }
  (void)blx__rpc_send(e->remote, first.data, first.len);
}

static void ask_node(struct exec *e, const struct blx_node_info *node, const struct blx_vm_exec_request *req) {
  struct blx_vm_exec_request there = *req;
  struct blx_vm_exec_input input = BLX_VM_EXEC_INPUT_INIT;
  struct blx__buf bytes;
  blx_error err;
  there.name = e->instance;
  there.node_local = 1;
  input.request = &there;
  (void)blx__str_copy(e->where, sizeof e->where, node->name);
  blx__buf_init(&bytes, INPUT_MAX);
  if (blx__msg_encode(blx__desc_vm_exec_input(), &input, &bytes, &err).code != 0)
    finish(e, &err);
  else
    open_remote(e, node->address, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
}

/* ---- which instance is meant */

/* "web-1, web-2, web-3", of many the first ones. */
static void list_names(const struct blx__state *st, const struct blx_vm *vm, char *out, size_t size) {
  size_t count = 0, at = 0;
  const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
  for (; in; in = blx__state_instance_after(st, vm->uid, in->ordinal)) {
    if (count++ >= NAMES_SHOWN || at >= size) continue;
    (void)blx__str_format(out + at, size - at, "%s%s", at > 0 ? ", " : "", in->name);
    at += strlen(out + at);
  }
  if (count > NAMES_SHOWN && at < size)
    (void)blx__str_format(out + at, size - at, ", and %zu more", count - NAMES_SHOWN);
}

static const struct blx_instance *instance_of(const struct exec *e, const struct blx_vm_exec_request *req,
                                              blx_error *err) {
  const struct blx__state *st = e->node->state;
  const struct blx_vm *vm = blx__state_vm_lookup(st, req->tenant, req->name);
  const char *here = e->node->self->name;
  if (!vm) {
    char in_tenant[BLX__IN_TENANT_BYTES], flag[BLX__IN_TENANT_BYTES];
    (void)blx__fail(err, BLX_E_NOT_FOUND, here,
                    "there is no VM or instance \"%.64s\"%s: `blixard vm list%s` shows those there are", req->name,
                    blx__call_in_tenant(req->tenant, in_tenant), blx__call_tenant_flag(req->tenant, flag));
    return NULL;
  }
  const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
  if (!blx__str_eq(vm->spec->name, req->name)) {
    while (in && !blx__str_eq(in->name, req->name)) in = blx__state_instance_after(st, vm->uid, in->ordinal);
    if (in) return in;
  }
  if (in && !blx__state_instance_after(st, vm->uid, in->ordinal)) return in;
  char names[NAMES_SHOWN * 66 + 32] = "";
  list_names(st, vm, names, sizeof names);
  if (in)
    (void)blx__fail(err, BLX_E_INVALID, here, "VM %s has several instances: name one of %s", req->name, names);
  else
    (void)blx__fail(err, BLX_E_CONFLICT, here, "VM %s has no instances: it was created with none", req->name);
  return NULL;
}

/* As far as state knows; its node's driver has the last word. A console is there from the monitor's start on. */
static blx__rc check_runs(const struct exec *e, const struct blx_instance *in, bool console, blx_error *err) {
  const char *here = e->node->self->name, *phase = blx__enum_label(blx__enum_phase(), in->phase);
  char of[BLX__IN_TENANT_BYTES];
  (void)blx__call_tenant_flag(e->tenant, of);
  if (in->paused)
    return blx__fail(err, BLX_E_CONFLICT, here, "%s stands still: `blixard vm resume %s%s` lets it go on", in->name,
                     in->vm, of);
  if (in->phase == BLX_PHASE_RUNNING || (console && in->phase == BLX_PHASE_STARTING)) return BLX__OK;
  if (in->phase == BLX_PHASE_STOPPED || in->phase == BLX_PHASE_STOPPING)
    return blx__fail(err, BLX_E_CONFLICT, here, "%s is %s, not Running: `blixard vm start %s%s --wait` first", in->name,
                     phase, in->vm, of);
  return blx__fail(err, BLX_E_CONFLICT, here,
                   "%s is %s, not Running: `blixard vm describe %s%s` says why, `blixard vm wait %s%s --for "
                   "phase=Running` waits",
                   in->name, phase, in->vm, of, in->vm, of);
}

static void ask_server(struct exec *e, struct blx__slice first) {
  const char *server = blx__worker_server(e->node);
  (void)blx__str_copy(e->where, sizeof e->where, server);
  open_remote(e, server, first);
}

static void begin(struct exec *e, const struct blx_vm_exec_request *req, struct blx__slice first) {
  struct blx__node *n = e->node;
  struct blx__vm_key key = {0};
  blx_error err;
  (void)blx__str_copy(e->instance, sizeof e->instance, req->name);
  (void)blx__str_copy(e->tenant, sizeof e->tenant, blx__call_tenant(req->tenant));
  if (req->node_local || (n->worker && blx__agent_find(n->agent, e->tenant, req->name, &key, NULL).code == 0)) {
    open_local(e, req);
    return;
  }
  if (n->worker) {
    ask_server(e, first);
    return;
  }
  const struct blx_instance *in = instance_of(e, req, &err);
  if (!in || check_runs(e, in, req->console != 0, &err).code != 0) {
    finish(e, &err);
    return;
  }
  const struct blx_node_info *node = blx__state_node(n->state, in->node_uid);
  (void)blx__str_copy(e->instance, sizeof e->instance, in->name);
  if (!node)
    fail(e, BLX_E_CONFLICT, "its node is not known any more: `blixard node list` shows those there are");
  else if (node->uid == n->uid)
    open_local(e, req);
  else
    ask_node(e, node, req);
}

static blx__rc check_request(const struct blx_vm_exec_request *req, blx_error *err) {
  size_t bytes = 0;
  if (!req) return blx__fail(err, BLX_E_INVALID, "api", "request: the first message must have it, and only that");
  if (req->console && (req->n_argv > 0 || req->tty))
    return blx__fail(err, BLX_E_INVALID, "api", "console: it takes no command and no tty");
  if (!req->console && (req->n_argv == 0 || !*req->argv[0]))
    return blx__fail(err, BLX_E_INVALID, "api", "argv: name the command that shall run");
  for (size_t i = 0; i < req->n_argv; i++) bytes += strlen(req->argv[i]) + 1;
  if (bytes > BLX__VM_SESSION_ARGS_BYTES)
    return blx__fail(err, BLX_E_INVALID, "api",
                     "argv: its words have %zu bytes, a byte more for each, over the limit of %d", bytes,
                     BLX__VM_SESSION_ARGS_BYTES);
  return BLX__OK;
}

/* ---- the call */

static void take_first(struct exec *e, const struct blx_vm_exec_input *input, struct blx__slice message) {
  blx_error err;
  blx__timer_free(e->timer);
  e->timer = NULL;
  e->begun = true;
  e->console = input->request && input->request->console;
  if (check_request(input->request, &err).code != 0) {
    (void)blx__str_copy(err.origin, sizeof err.origin, e->node->self->name);
    finish(e, &err);
    return;
  }
  begin(e, input->request, message);
}

/* The caller broke the rules: what it began ends at once. */
static void refuse(struct exec *e, const blx_error *err) {
  finish(e, err);
  close_local(e, err->message);
  if (e->remote) blx__rpc_cancel(e->remote);
}

static bool on_message(void *user, struct blx__slice message) {
  struct exec *e = user;
  struct blx__arena arena = {.limit_bytes = 4 * INPUT_MAX};
  void *decoded = NULL;
  blx_error err;
  blx__rc rc = BLX__OK;
  if (message.len > INPUT_MAX)
    rc = blx__fail(&err, BLX_E_INVALID, e->node->self->name, "a message has %zu bytes, over the limit of %d",
                   message.len, INPUT_MAX);
  if (rc.code == 0) rc = blx__msg_decode_known(blx__desc_vm_exec_input(), &arena, message, &decoded, &err);
  if (rc.code == 0) rc = blx__msg_validate(blx__desc_vm_exec_input(), decoded, &err);
  const struct blx_vm_exec_input *input = decoded;
  if (rc.code == 0 && e->begun && input->request)
    rc = blx__fail(&err, BLX_E_INVALID, e->node->self->name, "request: only the first message may have it");
  bool on = true;
  if (rc.code != 0)
    refuse(e, &err);
  else if (!e->begun)
    take_first(e, input, message);
  else
    on = e->remote ? remote_input(e, message) : local_input(e, input);
  e->paused = !on;
  blx__arena_free(&arena);
  return on;
}

static void on_half_close(void *user) {
  struct exec *e = user;
  if (!e->begun) {
    fail(e, BLX_E_INVALID, "the call ended before its request came");
    return;
  }
  e->in_ended = true;
  if (e->remote)
    blx__rpc_half_close(e->remote);
  else
    (void)local_write(e);
}

static void on_writable(void *user) {
  struct exec *e = user;
  local_tell_end(e);
  if (!e->remote || e->out.len == 0 || !blx__rpc_call_send(e->rpc, e->out.data, e->out.len)) return;
  blx__buf_clear(&e->out);
  blx__rpc_resume(e->remote);
}

static void on_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct exec *e = user;
  e->gone = true;
  close_local(e, "its caller went away");
  if (e->remote)
    blx__rpc_cancel(e->remote);
  else
    exec_free(e);
}

static void on_late(void *user) {
  fail(user, BLX_E_INVALID, "the request did not come within 30 s");
}

static const struct blx__rpc_call_ops ops = {on_writable, on_gone};
static const struct blx__rpc_receive_ops receive_ops = {on_message, on_half_close};

void blx__handle_vm_exec(struct blx__call *call) {
  struct blx__node *n = call->node;
  if (n->execs >= BLX__NODE_EXECS_MAX) {
    blx__call_failf(call, BLX_E_BUSY, "%d commands and consoles are open by node %s: end one first",
                    BLX__NODE_EXECS_MAX, n->self->name);
    return;
  }
  struct exec *e = calloc(1, sizeof *e);
  struct blx__timer *timer = e ? blx__timer_new(n->loop, on_late, e) : NULL;
  char *principal = strdup(call->principal);
  if (!timer || !principal) {
    blx__timer_free(timer);
    free(principal);
    free(e);
    blx__call_failf(call, BLX_E_NOMEM, "no memory for a command");
    return;
  }
  *e = (struct exec){.node = n, .timer = timer, .principal = principal, .rpc = blx__rpc_call_ref(call->rpc)};
  blx__buf_init(&e->in, INPUT_MAX);
  blx__buf_init(&e->out, BLX__RPC_MESSAGE_MAX_BYTES);
  n->execs++;
  blx__timer_start(timer, BLX__RPC_REQUEST_MS, 0);
  blx__rpc_call_watch(e->rpc, &ops, e);
  blx__rpc_call_receive(e->rpc, &receive_ops, e);
  blx__call_release(call);
}
