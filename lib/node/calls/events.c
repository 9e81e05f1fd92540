/* Events: each goes to history as it happens, and to watches. A watch is a place among them, and holds no queue: it
 * reads state's ring, and history, on a worker, for what the ring does not have any more. Both have the same events in
 * the same order, so that a place in the one is a place in the other. */
#include "node/node_int.h"

#include "io/work.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_ARENA = 4 << 20 };

/* ---- to history */

void blx__events_init(struct blx__node *n) {
  blx__buf_init(&n->audit.events, BLX__HISTORY_EVENTS_MAX);
}

void blx__events_free(struct blx__node *n) {
  blx__buf_free(&n->audit.events);
}

static void give(struct node_audit *a) {
  if (a->events.len == 0) return;
  blx__history_add_events(a->history, a->events_index, a->events_part++, a->events_ms,
                          (struct blx__slice){a->events.data, a->events.len});
  blx__buf_clear(&a->events);
}

void blx__events_note(struct blx__node *n, const struct blx_event *event) {
  struct node_audit *a = &n->audit;
  if (!a->history) return;
  if (event->index != a->events_index) {
    BLX__ASSERT(a->events.len == 0 && event->index > a->events_index);
    a->events_index = event->index;
    a->events_ms = event->time_ms;
    a->events_part = 0;
  }
  if (blx__history_events_put(&a->events, event, NULL).code == 0) return;
  give(a); /* it was full */
  blx__rc rc = blx__history_events_put(&a->events, event, NULL);
  BLX__ASSERT(rc.code == 0);
}

void blx__events_noted(struct blx__node *n) {
  if (n->audit.history) give(&n->audit);
}

/* ---- watches */

struct watch {
  struct blx__list link;
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  uint64_t index;       /* of the last event looked at; all below are done */
  size_t done_at_index; /* how many events of that index are done */
  size_t seen_at_index; /* while walking */
  bool full;            /* the caller takes no more for now */
  bool once;            /* ends after what there is */
  bool has_kind, all_tenants;
  int32_t kind;
  char tenant[64], vm[64], on_node[64];
  /* Of history: */
  bool oldest, tell_cut; /* as they were asked for, and since_ms */
  uint64_t since_ms;
  bool reading; /* a worker has `page` and `pages` */
  bool gone;    /* meanwhile */
  struct blx__history_events page;
  size_t page_at; /* how many events of it are done */
  bool has_page;
  struct blx__arena pages;
  blx__rc rc;
  blx_error err;
};

/* Also on a worker: of the watch only what does not change. */
static bool wanted(const void *user, const struct blx_event *e) {
  const struct watch *w = user;
  const char *on = e->kind == BLX_EVENT_KIND_NODE ? e->name : e->node;
  if (w->on_node[0] && !blx__str_eq(on, w->on_node)) return false;
  if (w->has_kind && e->kind != w->kind) return false;
  if (e->kind == BLX_EVENT_KIND_NODE || e->kind == BLX_EVENT_KIND_SETTINGS) return w->vm[0] == '\0';
  if (!w->all_tenants && !blx__str_eq(e->tenant ? e->tenant : "", w->tenant)) return false;
  if (w->vm[0] == '\0') return true;
  if (e->kind == BLX_EVENT_KIND_QUOTA) return false;
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
  bool next = e->index > w->index;
  if (!next && w->seen_at_index++ < w->done_at_index) return;
  if (wanted(w, e) && !send_event(w, e)) {
    w->full = true; /* this one is not done */
    return;
  }
  if (next) {
    w->index = e->index;
    w->done_at_index = 0;
    w->seen_at_index = 1;
  }
  w->done_at_index++;
}

static void pump(struct watch *w);

/* Where history is asked first: by time, or from its beginning. */
static bool begins_in_history(const struct watch *w) {
  return w->oldest || w->since_ms > 0;
}

/* The events of the page that are not sent yet. True: all are. */
static bool send_page(struct watch *w) {
  const struct blx__history_events *p = &w->page;
  if (p->cut && w->tell_cut) {
    struct blx_event e = BLX_EVENT_INIT;
    e.index = p->begins;
    e.time_ms = p->begins_ms;
    e.kind = BLX_EVENT_KIND_NODE;
    e.type = BLX_EVENT_TYPE_CUT;
    e.name = w->node->self->name;
    if (!send_event(w, &e)) return false;
    w->tell_cut = false;
  }
  while (w->page_at < p->count && send_event(w, p->events[w->page_at])) w->page_at++;
  if (w->page_at < p->count) return false;
  w->index = p->index;
  w->done_at_index = p->done;
  w->has_page = false;
  blx__arena_free(&w->pages);
  return true;
}

static void watch_free(struct watch *w) {
  blx__arena_free(&w->pages);
  blx__rpc_call_unref(w->rpc);
  free(w);
}

static void run_read(void *arg) {
  struct watch *w = arg;
  w->rc = blx__history_read_events(w->node->audit.history, &w->page, &w->pages, &w->err);
}

static void read_done(void *arg) {
  struct watch *w = arg;
  struct blx__node *n = w->node;
  n->audit.jobs--;
  w->reading = false;
  if (w->gone) {
    watch_free(w);
  } else if (w->rc.code != 0) {
    blx__rpc_call_finish(w->rpc, &w->err);
  } else {
    w->oldest = false;
    w->since_ms = 0;
    w->has_page = true;
    w->page_at = 0;
    pump(w);
  }
  if (n->closing) blx__node_part_closed(n);
}

/* What is not there for now is tried again with the next tick. */
static void read_history(struct watch *w) {
  struct blx__node *n = w->node;
  w->page = (struct blx__history_events){.index = w->index, .done = w->done_at_index, .wanted = wanted, .user = w};
  w->page.oldest = w->oldest;
  w->page.since_ms = w->since_ms;
  w->reading =
      !n->closing && n->audit.jobs < BLX__AUDIT_JOBS_MAX && blx__work(n->loop, run_read, read_done, w, NULL).code == 0;
  if (w->reading)
    n->audit.jobs++;
  else
    n->audit.events_wait = true;
}

/* From the ring. False: it does not have it any more. */
static bool send_ring(struct watch *w, blx_error *err) {
  /* The last index may have been sent in part only: begin with it again and skip what is done. */
  uint64_t since = w->done_at_index > 0 ? w->index - 1 : w->index;
  w->seen_at_index = 0;
  return blx__state_events_since(w->node->state, since, step, w, err).code == 0;
}

static void pump(struct watch *w) {
  blx_error err;
  if (w->full || w->reading || blx__rpc_call_is_over(w->rpc)) return;
  if (w->has_page && !send_page(w)) {
    w->full = true;
    return;
  }
  bool history = w->node->audit.history != NULL;
  if (history && (w->page.more || begins_in_history(w))) {
    read_history(w);
  } else if (!send_ring(w, &err)) {
    if (history)
      read_history(w);
    else
      blx__rpc_call_finish(w->rpc, &err);
  } else if (w->once && !w->full) {
    blx__rpc_call_finish(w->rpc, NULL);
  }
}

void blx__watches_tick(struct blx__node *n) {
  if (!n->audit.events_wait) return;
  n->audit.events_wait = false;
  blx__watches_pump(n);
}

void blx__watches_pump(struct blx__node *n) {
  BLX__LIST_FOREACH (it, &n->watches) pump(BLX__CONTAINER(it, struct watch, link));
}

static void watch_writable(void *user) {
  struct watch *w = user;
  w->full = false;
  pump(w);
}

static void watch_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct watch *w = user;
  blx__list_remove(&w->link);
  w->gone = true;
  if (!w->reading) watch_free(w);
}

static const struct blx__rpc_call_ops watch_ops = {watch_writable, watch_gone};

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

static const struct blx_vm *next_vm(const struct watch *w, const struct blx_vm *vm) {
  const struct blx__state *st = w->node->state;
  const char *name = vm ? vm->spec->name : NULL;
  if (w->all_tenants) return blx__state_vm_of_any_after(st, vm ? vm->tenant : NULL, name);
  return blx__state_vm_after(st, w->tenant, name);
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
  const struct blx_vm *vm = NULL;
  for (; ok && (vm = next_vm(w, vm)) != NULL;) ok = send_vm(w, vm);
  return ok;
}

static struct watch *watch_new(struct blx__call *call, const struct blx_watch_request *req) {
  struct watch *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  w->node = call->node;
  w->rpc = blx__rpc_call_ref(call->rpc);
  w->pages.limit_bytes = PAGE_ARENA;
  w->oldest = req->kept != 0;
  w->since_ms = req->kept ? 0 : req->since_ms;
  w->tell_cut = req->tell_cut != 0;
  /* Without a history the ring is all that is kept. */
  w->index = begins_in_history(w) ? blx__state_events_dropped(call->node->state) : req->since_index;
  w->once = req->once != 0;
  w->has_kind = req->has_kind != 0;
  w->kind = req->kind;
  w->all_tenants = req->all_tenants != 0;
  (void)blx__str_copy(w->tenant, sizeof w->tenant, blx__call_tenant(req->tenant));
  (void)blx__str_copy(w->vm, sizeof w->vm, req->vm ? req->vm : "");
  (void)blx__str_copy(w->on_node, sizeof w->on_node, req->node ? req->node : "");
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
  blx__rpc_call_watch(w->rpc, &watch_ops, w);
  bool from_now = req->since_index == 0 && !begins_in_history(w);
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
