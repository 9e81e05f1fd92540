/* Streams of events. A watch holds no events of its own: it is a place in state's ring, and sends from there whenever
 * the caller takes more; a caller that is slower than the ring is long is told STALE. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

struct watch {
  struct blx__list link;
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  uint64_t index;       /* of the last event looked at; all below are done */
  size_t done_at_index; /* how many events of that index are done */
  size_t seen_at_index; /* while walking */
  bool full;            /* the caller takes no more for now */
  bool once;            /* ends after what there is */
  bool has_kind;
  int32_t kind;
  char tenant[64], vm[64];
};

static bool wanted(const struct watch *w, const struct blx_event *e) {
  if (w->has_kind && e->kind != w->kind) return false;
  if (e->kind == BLX_EVENT_KIND_NODE) return w->vm[0] == '\0';
  if (!blx__str_eq(e->tenant ? e->tenant : "", w->tenant)) return false;
  if (w->vm[0] == '\0') return true;
  const char *of = e->kind == BLX_EVENT_KIND_INSTANCE ? e->vm : e->name;
  return blx__str_eq(of, w->vm) || blx__str_eq(e->name, w->vm);
}

static bool send_event(struct watch *w, const struct blx_event *event) {
  struct blx_event draft = *event;
  struct blx_reason reason;
  struct blx__buf bytes;
  if (draft.reason) {
    reason = *draft.reason;
    reason.unblock = blx__state_unblock(&reason, draft.phase);
    draft.reason = &reason;
  }
  blx__buf_init(&bytes, 64 << 10);
  blx_error err;
  bool sent = true;
  if (blx__msg_encode(blx__desc_event(), &draft, &bytes, &err).code != 0)
    blx__rpc_call_finish(w->rpc, &err);
  else
    sent = blx__rpc_call_send(w->rpc, bytes.data, bytes.len);
  blx__buf_free(&bytes);
  return sent;
}

static void step(void *user, const struct blx_event *e) {
  struct watch *w = user;
  if (w->full) return;
  if (e->index > w->index) {
    w->index = e->index;
    w->done_at_index = w->seen_at_index = 0;
  }
  if (w->seen_at_index++ < w->done_at_index) return;
  if (wanted(w, e) && !send_event(w, e)) {
    w->full = true;
    return;
  }
  w->done_at_index++;
}

static void pump(struct watch *w) {
  if (w->full || blx__rpc_call_is_over(w->rpc)) return;
  /* The last index may have been sent in part only: begin with it again and skip what is done. */
  uint64_t since = w->done_at_index > 0 ? w->index - 1 : w->index;
  w->seen_at_index = 0;
  blx_error err;
  if (blx__state_events_since(w->node->state, since, step, w, &err).code != 0)
    blx__rpc_call_finish(w->rpc, &err);
  else if (w->once && !w->full)
    blx__rpc_call_finish(w->rpc, NULL);
}

void blx__watches_pump(struct blx__node *n) {
  BLX__LIST_FOREACH (it, &n->watches) pump(BLX__CONTAINER(it, struct watch, link));
}

static void on_writable(void *user) {
  struct watch *w = user;
  w->full = false;
  pump(w);
}

static void on_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct watch *w = user;
  blx__list_remove(&w->link);
  blx__rpc_call_unref(w->rpc);
  free(w);
}

static const struct blx__rpc_call_ops ops = {on_writable, on_gone};

/* ---- the beginning of a watch from now on: what there is */

static bool send_object(struct watch *w, enum blx_event_kind kind, const char *tenant, const char *name, uint64_t uid,
                        struct blx_event *e) {
  e->struct_size = sizeof *e;
  e->index = blx__state_index(w->node->state);
  e->time_ms = blx__state_time_ms(w->node->state);
  e->kind = (int32_t)kind;
  e->type = BLX_EVENT_TYPE_CREATED;
  e->tenant = tenant;
  e->name = name;
  e->uid = uid;
  return !wanted(w, e) || send_event(w, e);
}

static bool send_vm(struct watch *w, const struct blx_vm *vm) {
  const struct blx__state *st = w->node->state;
  struct blx_event e = {.phase = vm->phase, .reason = vm->reason};
  bool ok = send_object(w, BLX_EVENT_KIND_VM, vm->tenant, vm->spec->name, vm->uid, &e);
  const struct blx_instance *in = blx__state_instance_after(st, vm->uid, 0);
  for (; ok && in; in = blx__state_instance_after(st, vm->uid, in->ordinal)) {
    const struct blx_node_info *node = blx__state_node(st, in->node_uid);
    struct blx_event ie = {.phase = in->phase, .reason = in->reason, .vm = in->vm, .epoch = in->epoch};
    ie.node = node ? node->name : NULL;
    ok = send_object(w, BLX_EVENT_KIND_INSTANCE, vm->tenant, in->name, in->uid, &ie);
  }
  return ok;
}

/* False: there is more than one answer may hold. */
static bool send_all(struct watch *w) {
  const struct blx__state *st = w->node->state;
  bool ok = true;
  const struct blx_node_info *node = blx__state_node_after(st, NULL);
  for (; ok && node; node = blx__state_node_after(st, node->name)) {
    struct blx_event e = {0};
    ok = send_object(w, BLX_EVENT_KIND_NODE, NULL, node->name, node->uid, &e);
  }
  const struct blx_vm *vm = blx__state_vm_after(st, w->tenant, NULL);
  for (; ok && vm; vm = blx__state_vm_after(st, w->tenant, vm->spec->name)) ok = send_vm(w, vm);
  return ok;
}

static struct watch *watch_new(struct blx__call *call, const struct blx_watch_request *req) {
  struct watch *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  w->node = call->node;
  w->rpc = blx__rpc_call_ref(call->rpc);
  w->index = req->kept ? blx__state_events_dropped(call->node->state) : req->since_index;
  w->once = req->once != 0;
  w->has_kind = req->has_kind != 0;
  w->kind = req->kind;
  (void)blx__str_copy(w->tenant, sizeof w->tenant, req->tenant && *req->tenant ? req->tenant : "default");
  (void)blx__str_copy(w->vm, sizeof w->vm, req->vm ? req->vm : "");
  return w;
}

void blx__handle_watch(struct blx__call *call) {
  const struct blx_watch_request *req = call->request;
  struct watch *w = call->rpc ? watch_new(call, req) : NULL;
  if (!w) {
    blx__call_failf(call, BLX_E_NOMEM, "no memory for a watch");
    return;
  }
  blx__list_push(&call->node->watches, &w->link);
  blx__rpc_call_watch(w->rpc, &ops, w);
  bool from_now = req->since_index == 0 && req->kept == 0;
  blx__call_release(call);
  if (from_now) w->index = blx__state_index(w->node->state);
  if (!from_now || send_all(w)) {
    pump(w);
    return;
  }
  blx_error err;
  (void)blx__fail(&err, BLX_E_BUSY, w->node->self->name,
                  "there are too many objects to begin a watch with: list them, then watch from the list's index");
  blx__rpc_call_finish(w->rpc, &err);
}
