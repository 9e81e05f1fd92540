#include "vm/vm_int.h"

#include "base/failpoint.h"

#include <signal.h>
#include <stdlib.h>

static const char origin[] = "vm/shim";

static void retry_later(struct vm_instance *in, const blx_error *why) {
  if (++in->retries > VM_LINK_RETRIES_MAX) {
    vm_on_link_failed(in, why);
    return;
  }
  blx__timer_start(in->timer, VM_LINK_RETRY_MS, 0);
}

static void on_state(struct vm_instance *in, const struct blx__shim_msg *m) {
  struct blx__vm_status *s = &in->status;
  bool was_ready = s->state == BLX__VM_READY;
  s->epoch = m->epoch;
  s->vmm_pid = m->vmm_pid;
  s->no_limits = (m->flags & BLX__SHIM_NO_LIMITS) != 0;
  s->stopping = (m->flags & BLX__SHIM_STOPPING) != 0;
  s->paused = (m->flags & BLX__SHIM_PAUSED) != 0;
  in->counts = (m->flags & BLX__SHIM_COUNTS) != 0;
  (void)blx__str_copy(s->text, sizeof s->text, m->text);
  bool first = !in->greeted;
  in->greeted = true;
  if (first && m->state != BLX__SHIM_EXITED) blx__failpoint(BLX__FAILPOINT_START_STATE);
  switch (m->state) {
  case BLX__SHIM_RUNNING: s->state = BLX__VM_RUNNING; break;
  case BLX__SHIM_READY: s->state = BLX__VM_READY; break;
  case BLX__SHIM_EXITED:
    blx__failpoint(BLX__FAILPOINT_STOP_SEEN);
    vm_set_exited(in, m);
    return;
  }
  if (first) {
    blx__timer_stop(in->timer);
    vm_on_linked(in);
    vm_data_begin(in);
  }
  if (s->state == BLX__VM_READY && !was_ready) vm_emit(in, BLX__VM_EVENT_READY);
  vm_on_paused(in);
}

static void on_message(struct vm_instance *in, const struct blx__shim_msg *m) {
  blx_error err;
  switch (m->type) {
  case BLX__SHIM_STATE: on_state(in, m); return;
  case BLX__SHIM_REFUSED:
    (void)blx__fail(&err, BLX_E_CONFLICT, origin, "the shim of %s refuses us: %s", in->name, m->text);
    vm_link_close(in);
    vm_on_link_failed(in, &err);
    return;
  case BLX__SHIM_PROTOCOL:
    (void)blx__str_copy(in->status.text, sizeof in->status.text, m->text);
    vm_emit(in, BLX__VM_EVENT_PROTOCOL);
    return;
  case BLX__SHIM_COUNTERS: vm_stats_counters(in, m->text); return;
  case BLX__SHIM_ASK:
  case BLX__SHIM_HELLO:
  case BLX__SHIM_STOP:
  case BLX__SHIM_KILL:
  case BLX__SHIM_PAUSE:
  case BLX__SHIM_RESUME: return;
  }
}

/* Outlives its instance until the stream is closed. */
struct vm_link {
  struct vm_instance *in; /* NULL: let go of, and reports to nobody */
  struct blx__stream *stream;
};

static void on_bytes(void *user, const uint8_t *bytes, size_t n) {
  struct vm_link *l = user;
  for (size_t at = 0, taken = 0; at < n && l->in; at += taken) {
    struct vm_instance *in = l->in;
    struct blx__shim_msg m;
    bool got = false;
    blx_error err;
    if (blx__shim_read(&in->reader, bytes + at, n - at, &taken, &got, &m, &err).code != 0) {
      vm_link_close(in);
      vm_on_link_lost(in);
      return;
    }
    if (got) on_message(in, &m);
  }
}

static void on_open(void *user) {
  struct vm_link *l = user;
  if (l->in) (void)vm_link_send(l->in, BLX__SHIM_HELLO, 0);
}

static void on_closed(void *user, const blx_error *why) {
  struct vm_link *l = user;
  struct vm_instance *in = l->in;
  free(l);
  if (!in) return;
  in->link = NULL;
  vm_stats_counters(in, NULL);
  if (in->greeted) {
    vm_on_link_lost(in);
    return;
  }
  blx_error err;
  if (why)
    err = *why;
  else
    (void)blx__fail(&err, BLX_E_UNAVAILABLE, origin, "the shim of %s closed the connection", in->name);
  retry_later(in, &err);
}

static const struct blx__stream_ops link_ops = {.on_open = on_open, .on_bytes = on_bytes, .on_closed = on_closed};

void vm_link_open(struct vm_instance *in) {
  char path[PATH_MAX];
  blx_error err;
  BLX__ASSERT(!in->link);
  in->greeted = false;
  in->reader = (struct blx__shim_reader){0};
  struct vm_link *l = calloc(1, sizeof *l);
  if (!l) {
    (void)blx__fail(&err, BLX_E_NOMEM, origin, "no memory for the link to a shim");
    retry_later(in, &err);
    return;
  }
  l->in = in;
  if (blx__stream_connect(in->m->loop, vm_path(in, "ctl.sock", path), &link_ops, l, &l->stream, &err).code != 0) {
    free(l);
    retry_later(in, &err);
    return;
  }
  in->link = l;
  blx__timer_start(in->timer, VM_HELLO_WAIT_MS, 0);
}

void vm_link_close(struct vm_instance *in) {
  struct vm_link *l = in->link;
  if (!l) return;
  in->link = NULL;
  vm_stats_counters(in, NULL);
  l->in = NULL;
  blx__stream_close(l->stream);
}

bool vm_link_send(struct vm_instance *in, enum blx__shim_type type, uint32_t deadline_ms) {
  struct blx__shim_msg m = {.type = type, .uid = in->uid, .epoch = in->op_epoch, .deadline_ms = deadline_ms};
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  return in->link && blx__stream_write(in->link->stream, frame, blx__shim_write(&m, frame));
}

void vm_link_kill_shim(struct vm_instance *in) {
  struct blx__cred cred;
  /* The other end is the listener that the shim opened: its process is the shim, whether it answers or not. */
  if (in->link && blx__stream_cred(in->link->stream, &cred, NULL).code == 0 && cred.pid > 1)
    (void)kill(cred.pid, SIGKILL);
}
