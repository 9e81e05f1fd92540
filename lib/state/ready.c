/* Instances that wait for the scheduler, in two orders: by when they are due, and by priority before that. */
#include "state/state_int.h"

enum { READY_KEY_BYTES = 2 + 16 };

static uint32_t priority_of(uint32_t priority) {
  return priority < BLX__STATE_PRIORITY_MAX ? priority : BLX__STATE_PRIORITY_MAX;
}

/* The highest priority has the lowest key. */
static size_t ready_key(uint8_t key[READY_KEY_BYTES], uint32_t priority, uint64_t due_ms, uint64_t uid) {
  BLX__ASSERT(priority <= BLX__STATE_PRIORITY_MAX);
  uint32_t rank = BLX__STATE_PRIORITY_MAX - priority;
  key[0] = (uint8_t)(rank >> 8);
  key[1] = (uint8_t)rank;
  return 2 + blx__state_pair_key(key + 2, due_ms, uid);
}

void blx__state_waiting_put(struct blx__state *st, struct state_instance *e) {
  uint8_t due[16], ready[READY_KEY_BYTES];
  BLX__ASSERT(!e->waiting);
  e->waiting = true;
  e->due_ms = e->rec->not_before_ms;
  e->priority = priority_of(e->vm->rec->spec->priority);
  STATE_MUST(blx__map_set(&st->data.waiting, due, blx__state_pair_key(due, e->due_ms, e->rec->uid), e, NULL));
  STATE_MUST(blx__map_set(&st->data.ready, ready, ready_key(ready, e->priority, e->due_ms, e->rec->uid), e, NULL));
}

void blx__state_waiting_drop(struct blx__state *st, struct state_instance *e) {
  uint8_t due[16], ready[READY_KEY_BYTES];
  if (!e->waiting) return;
  e->waiting = false;
  const void *one = blx__map_remove(&st->data.waiting, due, blx__state_pair_key(due, e->due_ms, e->rec->uid));
  const void *two = blx__map_remove(&st->data.ready, ready, ready_key(ready, e->priority, e->due_ms, e->rec->uid));
  BLX__ASSERT(one == e && two == e);
}

static const struct state_instance *waiting_after(const struct blx__state *st, uint64_t due_ms, uint64_t uid) {
  uint8_t key[16];
  return blx__state_after(&st->data.waiting, key, blx__state_pair_key(key, due_ms, uid));
}

const struct blx_instance *blx__state_waiting_after(const struct blx__state *st, uint64_t due_ms, uint64_t uid) {
  const struct state_instance *e = waiting_after(st, due_ms, uid);
  return e ? e->rec : NULL;
}

uint64_t blx__state_next_due_ms(const struct blx__state *st, uint64_t now_ms) {
  const struct state_instance *e = waiting_after(st, now_ms, UINT64_MAX);
  return e ? e->due_ms : 0;
}

const struct blx_instance *blx__state_ready_next(const struct blx__state *st, uint64_t now_ms,
                                                 struct blx__state_ready *at) {
  uint8_t key[READY_KEY_BYTES];
  if (!at->begun) *at = (struct blx__state_ready){.begun = true, .priority = BLX__STATE_PRIORITY_MAX};
  for (;;) {
    size_t n = ready_key(key, priority_of(at->priority), at->due_ms, at->uid);
    const struct state_instance *e = blx__state_after(&st->data.ready, key, n);
    if (!e) return NULL;
    bool due = e->due_ms <= now_ms;
    *at = (struct blx__state_ready){.begun = true, .priority = e->priority};
    /* What follows in its priority is due later still: on to the next one. */
    at->due_ms = due ? e->due_ms : UINT64_MAX;
    at->uid = due ? e->rec->uid : UINT64_MAX;
    if (due) return e->rec;
  }
}
