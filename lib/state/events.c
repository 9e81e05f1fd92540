/* The ring of events that watchers read from. */
#include "state/state_int.h"

#include <stdlib.h>

bool blx__state_events_init(struct state_events *ev) {
  *ev = (struct state_events){0};
  ev->ring = calloc(BLX__STATE_EVENTS_MAX, sizeof(struct blx_event *));
  return ev->ring != NULL;
}

static void drop_ring(struct state_events *ev) {
  for (uint64_t i = ev->first; i < ev->next; i++) blx__msg_free_owned(ev->ring[i % BLX__STATE_EVENTS_MAX]);
  ev->first = ev->next;
  for (size_t i = 0; i < ev->entry_count; i++) blx__msg_free_owned(ev->entry[i]);
  ev->entry_count = 0;
}

void blx__state_events_free(struct state_events *ev) {
  if (ev->ring) drop_ring(ev);
  free(ev->ring);
  free(ev->entry);
}

void blx__state_events_forget(struct blx__state *st) {
  drop_ring(&st->events);
  st->events.dropped_index = st->data.index;
}

static void add(struct blx__state *st, const struct blx_event *draft) {
  struct state_events *ev = &st->events;
  if (ev->entry_count == ev->entry_room) {
    size_t room = ev->entry_room ? ev->entry_room * 2 : 64;
    struct blx_event **grown = reallocarray(ev->entry, room, sizeof *grown);
    STATE_MUST(grown != NULL);
    ev->entry = grown;
    ev->entry_room = room;
  }
  void *e = NULL;
  STATE_MUST(blx__msg_own(blx__desc_event(), draft, &e, NULL).code == 0);
  ev->entry[ev->entry_count++] = e;
}

static struct blx_event event_of(const struct blx__state *st, int32_t kind, int32_t type) {
  struct blx_event e = BLX_EVENT_INIT;
  e.index = st->data.index;
  e.time_ms = st->data.time_ms;
  e.kind = kind;
  e.type = type;
  return e;
}

void blx__state_event_settings(struct blx__state *st) {
  if (st->quiet) return;
  struct blx_event e = event_of(st, BLX_EVENT_KIND_SETTINGS, BLX_EVENT_TYPE_CHANGED);
  e.name = "settings";
  add(st, &e);
}

void blx__state_event_quota(struct blx__state *st, int32_t type, const char *tenant) {
  if (st->quiet) return;
  struct blx_event e = event_of(st, BLX_EVENT_KIND_QUOTA, type);
  e.tenant = tenant;
  e.name = tenant;
  add(st, &e);
}

void blx__state_event_node(struct blx__state *st, int32_t type, const struct blx_node_info *n) {
  if (st->quiet) return;
  struct blx_event e = event_of(st, BLX_EVENT_KIND_NODE, type);
  e.name = n->name;
  e.uid = n->uid;
  add(st, &e);
}

void blx__state_event_vm(struct blx__state *st, int32_t type, const struct blx_vm *vm) {
  if (st->quiet) return;
  struct blx_event e = event_of(st, BLX_EVENT_KIND_VM, type);
  e.tenant = vm->tenant;
  e.name = vm->spec->name;
  e.uid = vm->uid;
  e.phase = vm->phase;
  e.reason = vm->reason;
  e.vm = vm->spec->name;
  add(st, &e);
}

void blx__state_event_instance(struct blx__state *st, int32_t type, const struct state_instance *i) {
  if (st->quiet) return;
  struct blx_event e = event_of(st, BLX_EVENT_KIND_INSTANCE, type);
  const struct state_node *n = i->rec->node_uid ? blx__state_node_get(st, i->rec->node_uid) : NULL;
  e.tenant = i->vm->rec->tenant;
  e.name = i->rec->name;
  e.uid = i->rec->uid;
  e.phase = i->rec->phase;
  e.reason = i->rec->reason;
  e.node = n ? n->rec->name : NULL;
  e.vm = i->rec->vm;
  e.epoch = i->rec->epoch;
  add(st, &e);
}

static void keep(struct state_events *ev, struct blx_event *e) {
  if (ev->next - ev->first == BLX__STATE_EVENTS_MAX) {
    struct blx_event *oldest = ev->ring[ev->first % BLX__STATE_EVENTS_MAX];
    ev->dropped_index = oldest->index;
    blx__msg_free_owned(oldest);
    ev->first++;
  }
  ev->ring[ev->next % BLX__STATE_EVENTS_MAX] = e;
  ev->next++;
}

void blx__state_events_flush(struct blx__state *st) {
  struct state_events *ev = &st->events;
  /* The listener hears each before it may leave the ring: one entry can change more objects than the ring holds. */
  for (size_t i = 0; i < ev->entry_count; i++) {
    if (st->options.on_event) st->options.on_event(st->options.user, ev->entry[i]);
  }
  for (size_t i = 0; i < ev->entry_count; i++) keep(ev, ev->entry[i]);
  ev->entry_count = 0;
}

uint64_t blx__state_events_dropped(const struct blx__state *st) {
  return st->events.dropped_index;
}

blx__rc blx__state_events_since(const struct blx__state *st, uint64_t since_index,
                                void (*fn)(void *user, const struct blx_event *event), void *user, blx_error *err) {
  const struct state_events *ev = &st->events;
  if (since_index < ev->dropped_index)
    return blx__fail(err, BLX_E_STALE, "state",
                     "index %llu is too old: the oldest kept is %llu; read everything again and watch from there",
                     (unsigned long long)since_index, (unsigned long long)ev->dropped_index);
  for (uint64_t i = ev->first; i < ev->next; i++) {
    const struct blx_event *e = ev->ring[i % BLX__STATE_EVENTS_MAX];
    if (e->index > since_index) fn(user, e);
  }
  return BLX__OK;
}
