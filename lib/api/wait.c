/* Waiting for a VM: one look, then the server's events, a look again only when one says that something changed. */
#include "api/api_int.h"

#include <time.h>

enum { SLICE_MS = 250 }; /* how soon a wait notices that it was cancelled */

struct wait {
  blx_client *client;
  const char *name;
  int phase;
  uint64_t end_ms;
  const volatile int *cancel;
  struct blx_vm *vm; /* as last seen, owned */
};

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool instance_reached(const struct blx_instance *i, int phase) {
  if (phase == BLX_VM_WAIT_PAUSED) return i->paused;
  if (phase == BLX_VM_WAIT_RESUMED) return i->phase == BLX_PHASE_RUNNING && !i->paused;
  return i->phase == phase;
}

static bool reached(const struct blx_vm *vm, int phase) {
  if (phase == BLX_VM_WAIT_GONE) return false;
  for (size_t i = 0; i < vm->n_instances; i++)
    if (!instance_reached(vm->instances[i], phase)) return false;
  if (vm->n_instances > 0) return true;
  return phase >= 0 ? vm->phase == phase : !vm->paused == (phase == BLX_VM_WAIT_RESUMED);
}

static const char *label_of(int phase) {
  if (phase == BLX_VM_WAIT_GONE) return "gone";
  if (phase == BLX_VM_WAIT_PAUSED) return "paused";
  return phase == BLX_VM_WAIT_RESUMED ? "resumed" : blx__enum_label(blx__enum_phase(), phase);
}

/* 1: there; 0: not yet; else an error. */
static int look(struct wait *w, blx_error *reterr) {
  struct blx_vm_name_request req = BLX_VM_NAME_REQUEST_INIT;
  req.name = w->name;
  struct blx_vm *vm = NULL;
  blx_error err;
  int rc = blx_vm_get(w->client, &req, &vm, &err);
  if (rc == BLX_E_NOT_FOUND && w->phase == BLX_VM_WAIT_GONE) return 1;
  if (rc != 0) return blx__fail_as(reterr, &err).code;
  blx_vm_free(w->vm);
  w->vm = vm;
  return reached(vm, w->phase) ? 1 : 0;
}

static int timed_out(const struct wait *w, blx_error *reterr) {
  const char *want = label_of(w->phase);
  if (!w->vm) return blx__fail(reterr, BLX_E_TIMEOUT, "client", "%s is not %s yet", w->name, want).code;
  const struct blx_reason *why = w->vm->reason;
  return blx__fail(reterr, BLX_E_TIMEOUT, "client", "%s is not %s yet: it is %s%s%.300s", w->name, want,
                   blx__enum_label(blx__enum_phase(), w->vm->phase), why && why->text && *why->text ? ", " : "",
                   why && why->text ? why->text : "")
      .code;
}

/* Until an event says that a look is worth it: 0; else an error. A broken watch is opened again by the caller. */
static int next_change(struct wait *w, blx_watch *watch, blx_error *reterr) {
  for (;;) {
    uint64_t now = now_ms();
    if (w->cancel && *w->cancel) return blx__fail(reterr, BLX_E_CANCELLED, "client", "the wait was cancelled").code;
    if (now >= w->end_ms) return timed_out(w, reterr);
    uint64_t left = w->end_ms - now;
    struct blx_event *event = NULL;
    blx_error err;
    int rc = blx_watch_next(watch, left < SLICE_MS ? (uint32_t)left : SLICE_MS, &event, &err);
    blx_event_free(event);
    if (rc == 1) return 0;
    if (rc == 0) return blx__fail(reterr, BLX_E_UNAVAILABLE, "client", "the server ended the watch").code;
    if (rc != BLX_E_TIMEOUT) return blx__fail_as(reterr, &err).code;
  }
}

/* One watch from now on, so that no change between a look and an event is missed. */
static int follow(struct wait *w, blx_error *reterr) {
  struct blx_watch_request req = BLX_WATCH_REQUEST_INIT;
  const char *vm = w->vm && w->vm->spec ? w->vm->spec->name : w->name;
  req.vm = vm;
  blx_watch *watch = NULL;
  int rc = blx_watch_open(w->client, &req, &watch, reterr);
  if (rc != 0) return rc;
  for (;;) {
    rc = look(w, reterr);
    if (rc != 0) break;
    rc = next_change(w, watch, reterr);
    if (rc != 0) break;
  }
  blx_watch_close(watch);
  return rc;
}

static void pause_before_retry(void) {
  struct timespec t = {.tv_nsec = SLICE_MS * 1000000L};
  nanosleep(&t, NULL);
}

static bool can_be_waited_for(int phase) {
  if (phase < 0) return phase >= BLX_VM_WAIT_RESUMED;
  const struct blx__enum_desc *phases = blx__enum_phase();
  for (unsigned i = 0; i < phases->value_count; i++)
    if (phases->values[i].number == phase) return true;
  return false;
}

int blx_vm_wait(blx_client *client, const char *name, int phase, uint32_t timeout_ms, const volatile int *cancel,
                struct blx_vm **out, blx_error *reterr) {
  if (!blx__api_client_take(client, true, reterr)) return BLX_E_MISUSE;
  blx__api_handle_put(client); /* each call takes it again: a close need not wait for the whole wait */
  if (!can_be_waited_for(phase))
    return blx__fail(reterr, BLX_E_INVALID, "client", "phase: %d is none of enum blx_phase, nor of BLX_VM_WAIT_*",
                     phase)
        .code;
  if (!name || timeout_ms < 1 || timeout_ms > 86400000)
    return blx__api_misuse(reterr, "a wait needs a name and a time of 1 to 86400000 ms");
  struct wait w = {.client = client, .name = name, .phase = phase, .cancel = cancel, .end_ms = now_ms() + timeout_ms};
  int rc;
  do {
    rc = look(&w, reterr);
    if (rc == 0) rc = follow(&w, reterr);
    /* A member that went away is not the end of the wait: the next one is asked. */
    bool again = rc == BLX_E_UNAVAILABLE || rc == BLX_E_NO_LEADER || rc == BLX_E_STALE;
    if (!again || now_ms() >= w.end_ms || (cancel && *cancel)) break;
    pause_before_retry();
  } while (true);
  if (rc == 1 && out && phase != BLX_VM_WAIT_GONE) {
    *out = w.vm;
    w.vm = NULL;
  }
  blx_vm_free(w.vm);
  /* It was open when the wait began. */
  if (rc == BLX_E_MISUSE)
    return blx__fail(reterr, BLX_E_CANCELLED, "client", "the client was closed during the wait").code;
  return rc == 1 ? 0 : rc;
}
