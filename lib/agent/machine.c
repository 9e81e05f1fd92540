#include "agent/agent_int.h"

#include <string.h>

#define TO BLX__SM_TO
static const struct blx__sm_state states[] = {
    [NEW] = {"new", TO(PREPARING) | TO(WAIT_READY) | TO(READY) | TO(STOPPING) | TO(DEAD), false},
    [PREPARING] = {"preparing", TO(PREPARING) | TO(STARTING) | TO(DEAD), false},
    [STARTING] = {"starting", TO(WAIT_READY) | TO(READY) | TO(STOPPING) | TO(DEAD), false},
    [WAIT_READY] = {"waiting for ready", TO(WAIT_READY) | TO(READY) | TO(STOPPING) | TO(DEAD), false},
    [READY] = {"ready", TO(READY) | TO(STOPPING) | TO(DEAD), false},
    [STOPPING] = {"stopping", TO(DEAD), false},
    [DEAD] = {"dead", TO(PREPARING) | TO(DEAD) | TO(DESTROYING), false},
    [DESTROYING] = {"being removed", TO(GONE), false},
    [GONE] = {"gone", TO(PREPARING) | TO(DEAD), true},
};
const struct blx__sm_table machine_table = {states, BLX__COUNT(states)};

void machine_move(struct instance *i, enum state to, int code, const char *text, const char *unblock) {
  BLX__ASSERT(!i->journalling && !i->agent->closing);
  blx__log(i->agent->log, BLX_LOG_INFO, "agent", "%s, epoch %llu: %s -> %s%s%s", i->name, (unsigned long long)i->epoch,
           blx__sm_name(&machine_table, i->state), blx__sm_name(&machine_table, to), *text ? ": " : "", text);
  i->state = (enum state)blx__sm_move(&machine_table, i->state, to);
  i->turn = ++i->agent->turns;
  i->calls = 0;
  i->tries = 0;
  i->waiting = i->killing = i->adopting = i->damaged = false;
  i->data_told = true;
  i->seq++;
  blx__timer_stop(i->timer);
  instance_set_reason(i, code, text, unblock);
  i->journalling = true;
  journal_write(i);
}

static const char held[] = "the cluster was recovered, and does not know yet whether it runs on another node";
static const char not_there[] = "it was not running any more when its node came back";

/* To @to for the reason it already has. */
static void move_on(struct instance *i, enum state to) {
  struct blx_reason kept = BLX_REASON_INIT;
  if (i->reason) kept = *i->reason;
  machine_move(i, to, kept.code, kept.text ? kept.text : "", kept.unblock ? kept.unblock : "");
}

/* Why an instance is not to run: what it is told when it is stopped, or never started. */
static void leave(struct instance *i, enum state to, enum intent intent) {
  switch (intent) {
  case STOP: machine_move(i, to, BLX_REASON_CODE_STOPPED_BY_USER, "was stopped on request", "start the VM"); return;
  case REMOVE:
    machine_move(i, to, BLX_REASON_CODE_DELETE_REQUESTED, "is no longer assigned to this node, or was deleted", "");
    return;
  case NEXT:
    machine_move(i, to, BLX_REASON_CODE_NODE_RESTARTED, "a newer assignment to this node replaces this one", "");
    return;
  case KILL:
  case HOLD:
  case RUN: machine_move(i, to, BLX_REASON_CODE_NODE_RESTARTED, "the cluster has ended this epoch of it", ""); return;
  }
}

static const char lost_lease[] = "its node had no lease any more: the cluster did not answer it in time";

void machine_lost_lease(struct instance *i) {
  machine_move(i, STOPPING, BLX_REASON_CODE_LEASE_LOST, lost_lease, "see why the node was cut off");
}

void machine_paused(struct instance *i) {
  i->lease_paused = i->paused && instance_ha(i) && !(i->want && i->want->paused && lease_held(i->agent));
  if (!i->paused)
    machine_move(i, READY, BLX_REASON_CODE_NONE, "", "");
  else if (i->lease_paused)
    machine_move(i, READY, BLX_REASON_CODE_PAUSED,
                 "stands still: the cluster does not answer its node, and it is ended "
                 "when the lease ends",
                 "see why the node is cut off");
  else
    machine_move(i, READY, BLX_REASON_CODE_PAUSED, "stands still on request, in its node's memory", "resume the VM");
}

static bool wants_pause(const struct instance *i, enum intent intent) {
  if (instance_ha(i) && !lease_held(i->agent)) return true;
  return intent == RUN ? i->want->paused : i->paused;
}

static void exited(struct instance *i) {
  bool clean = i->has_exit_status && i->exit_signal == 0 && i->exit_status == 0 && !i->reset;
  char text[EVENT_TEXT_SIZE + 100];
  if (!i->has_exit_status && !i->witnessed) {
    machine_move(i, DEAD, BLX_REASON_CODE_NODE_RESTARTED, not_there, "");
    return;
  }
  if (lease_ended(i)) {
    machine_move(i, DEAD, BLX_REASON_CODE_LEASE_LOST, lost_lease, "see why the node was cut off");
    return;
  }
  if (i->event_text[0])
    (void)blx__str_copy(text, sizeof text, i->event_text);
  else if (clean)
    (void)blx__str_copy(text, sizeof text, "the guest powered itself off");
  else if (i->exit_signal)
    (void)blx__str_format(text, sizeof text, "its monitor was ended by signal %d", i->exit_signal);
  else if (!i->has_exit_status)
    (void)blx__str_copy(text, sizeof text, "its monitor is gone, nobody knows how it ended");
  else
    (void)blx__str_format(text, sizeof text, "its monitor ended with status %d", i->exit_status);
  machine_move(i, DEAD, clean ? BLX_REASON_CODE_EXITED : BLX_REASON_CODE_CRASHED, text,
               clean ? "" : "look at its console");
}

/* Begin the epoch that the share names. */
static void begin_epoch(struct instance *i) {
  if (!instance_set_spec(i, i->want->spec)) return;
  i->epoch = i->want->epoch;
  i->has_exit_status = 0;
  i->exit_status = i->exit_signal = 0;
  i->ready = i->exited = i->broken = i->stale = i->reset = i->witnessed = i->paused = false;
  i->lease_lost = i->lease_paused = i->local_data = i->data_known = false;
  if (i->want->desired == BLX_DESIRED_STOPPED) {
    leave(i, DEAD, STOP);
    return;
  }
  machine_move(i, PREPARING, BLX_REASON_CODE_BUILDING, "its runner is being built", "");
}

/* A lost or damaged journal must not lead to a second start: the host is asked first. */
static void step_new(struct instance *i) {
  if (!i->agent->shared) return;
  if (!i->damaged && (!i->want || (i->want->dead && !i->want->remove && !i->want->tell))) {
    instance_drop(i, false);
    return;
  }
  if (i->want) i->epoch = i->want->epoch;
  if (i->want && !instance_set_spec(i, i->want->spec)) return;
  act_adopt(i);
}

static void start(struct instance *i) {
  if (instance_held(i))
    machine_move(i, STOPPING, BLX_REASON_CODE_RECOVERED, held, "");
  else if (lease_permits(i))
    act_start(i);
  else
    machine_lost_lease(i); /* the driver may know of it already: it is killed to be sure */
}

static void step_running(struct instance *i, enum intent intent) {
  if (i->exited) {
    exited(i);
    return;
  }
  if (i->broken) {
    machine_move(i, STOPPING, BLX_REASON_CODE_VMM_PROTOCOL, i->event_text, "look at its console and at the monitor");
    return;
  }
  if (intent != RUN && intent != HOLD) {
    leave(i, STOPPING, intent);
    return;
  }
  bool pause = wants_pause(i, intent);
  if (lease_ended(i))
    machine_lost_lease(i);
  else if (i->state == STARTING)
    start(i); /* the driver could not take it before */
  else if (i->state == WAIT_READY && i->ready)
    machine_move(i, READY, BLX_REASON_CODE_NONE, "", "");
  else if (i->state == READY && pause != i->paused && !i->pause_failed)
    act_pause(i, pause);
  else if (i->state == READY && i->lease_paused && lease_held(i->agent))
    machine_paused(i); /* it stays so, on request */
  else if (i->state != STARTING && !i->data_told)
    move_on(i, i->state);
}

static void step_dead(struct instance *i, enum intent intent) {
  if (intent == REMOVE) {
    /* What was assigned here again before it was deleted, unheard of by this node, goes under that epoch: a report
     * under an older one is stale to the cluster, which would wait for ever. */
    bool later = i->want && i->want->epoch > i->epoch;
    if (later) i->epoch = i->want->epoch;
    if (i->state == DEAD)
      move_on(i, DESTROYING);
    else if (later)
      move_on(i, DEAD);
  } else if (intent == NEXT && !i->want->dead) {
    begin_epoch(i);
  } else if (intent == NEXT && i->want->tell) {
    /* Its node was fenced and is back: that it is dead is said under the epoch that nothing was started in. */
    i->epoch = i->want->epoch;
    i->stale = false;
    machine_move(i, DEAD, BLX_REASON_CODE_NODE_FENCED, "does not run here any more: its node was fenced", "");
  }
}

static void step_preparing(struct instance *i) {
  bool waits = instance_code(i) == BLX_REASON_CODE_LEASE_LOST;
  if (instance_held(i)) {
    /* It may have been started and ended here under this epoch already, and run elsewhere under a later one. */
    machine_move(i, DEAD, BLX_REASON_CODE_RECOVERED, held, "each node says what runs there, or is fenced");
    return;
  }
  if (lease_permits(i) && waits)
    machine_move(i, PREPARING, BLX_REASON_CODE_BUILDING, "its runner is being built", "");
  else if (lease_permits(i))
    act_prepare(i);
  else if (!waits)
    machine_move(i, PREPARING, BLX_REASON_CODE_LEASE_LOST, lease_why_not(i->agent),
                 "`blixard node describe` shows the node's lease");
}

void machine_step(struct instance *i) {
  enum intent intent = instance_intent(i);
  /* A graceful stop is not waited for when the epoch is over, and neither is a build that nobody wants. */
  bool hurry =
      (i->state == STOPPING && instance_hurried(i)) || (i->state == PREPARING && intent != RUN && intent != HOLD);
  if (hurry && i->calls > 0 && !i->killing && !i->agent->closing) act_kill(i);
  if (instance_busy(i)) return;
  if (i->adopting) {
    act_adopt(i);
    return;
  }
  switch (i->state) {
  case NEW: step_new(i); return;
  case PREPARING:
    if (intent == RUN)
      step_preparing(i);
    else if (intent != HOLD)
      leave(i, DEAD, intent);
    return;
  case STARTING:
  case WAIT_READY:
  case READY: step_running(i, intent); return;
  case STOPPING: act_stop(i); return;
  case DEAD:
  case GONE: step_dead(i, intent); return;
  case DESTROYING: act_destroy(i); return;
  }
}

void machine_journalled(struct instance *i, const blx_error *err) {
  i->journalling = false;
  if (err && (i->state == PREPARING || i->state == STARTING)) {
    /* Unrecorded, a start could happen twice: it is refused. What ends an instance goes on, for its repetition after a
     * restart does no harm. */
    machine_move(i, DEAD, BLX_REASON_CODE_START_FAILED, err->message, "make room on the node's disk");
    return;
  }
  report_due(i, i->state == DEAD || i->state == GONE);
  if (i->state == STARTING) {
    start(i);
    return;
  }
  if (i->state == WAIT_READY) blx__timer_start(i->timer, i->agent->ready_timeout_ms / 4 + 1, 0);
  machine_step(i);
}

/* The guest is slow: say how long, in the end give up. */
static void ready_late(struct instance *i) {
  uint64_t waited = blx__loop_now_ms(i->agent->loop) - i->since_ms, limit = i->agent->ready_timeout_ms;
  char text[200];
  if (waited >= limit) {
    (void)blx__str_format(text, sizeof text, "the guest did not say ready within %llu s; look at its console",
                          (unsigned long long)(limit / 1000));
    machine_move(i, STOPPING, BLX_REASON_CODE_CRASHED, text,
                 "a guest agent in the image, or ready_none in the VM's spec");
    return;
  }
  (void)blx__str_format(text, sizeof text, "the guest has not said ready for %llu s; it is killed after %llu s",
                        (unsigned long long)(waited / 1000), (unsigned long long)(limit / 1000));
  machine_move(i, WAIT_READY, BLX_REASON_CODE_BOOTING, text, "");
}

void machine_timer(void *arg) {
  struct instance *i = arg;
  if (i->agent->closing) return;
  if (i->waiting) {
    i->waiting = false;
    machine_step(i);
  } else if (i->state == WAIT_READY && !instance_busy(i)) {
    ready_late(i);
  }
}

void machine_confirmed_dead(struct instance *i) {
  BLX__ASSERT(i->state == STOPPING);
  move_on(i, DEAD);
}

void machine_gone(struct instance *i) {
  BLX__ASSERT(i->state == DESTROYING);
  move_on(i, GONE);
}

void machine_unadoptable(struct instance *i, const char *text) {
  if (i->state == STOPPING) {
    i->adopting = false;
    machine_step(i);
    return;
  }
  machine_move(i, STOPPING, BLX_REASON_CODE_NODE_RESTARTED, text, "look at the node's log");
}

/* No journal told what it was. */
static void found_new(struct instance *i, const struct blx__vm_status *status, bool runs, bool ours) {
  enum intent intent = instance_intent(i);
  bool wanted = intent == RUN && ours;
  i->paused = status->paused;
  i->since_ms = blx__loop_now_ms(i->agent->loop);
  if (runs && wanted && status->state == BLX__VM_READY)
    machine_move(i, READY, BLX_REASON_CODE_NONE, "", "");
  else if (runs && wanted)
    machine_move(i, WAIT_READY, BLX_REASON_CODE_BOOTING, "its monitor runs; the guest has not said ready", "");
  else if (runs)
    machine_move(i, STOPPING, BLX_REASON_CODE_NODE_RESTARTED, "was found running without a record of why", "");
  else if (status->state == BLX__VM_EXITED && ours)
    exited(i);
  else if (intent != RUN)
    leave(i, DEAD, intent);
  else if (i->damaged)
    machine_move(i, DEAD, BLX_REASON_CODE_NODE_RESTARTED, not_there, "");
  else
    machine_move(i, PREPARING, BLX_REASON_CODE_BUILDING, "its runner is being built", "");
}

/* As the journal has it, or a little further on. */
static void found_running(struct instance *i, const struct blx__vm_status *status) {
  blx__log(i->agent->log, BLX_LOG_INFO, "agent", "%s, epoch %llu: still runs, and is followed again", i->name,
           (unsigned long long)i->epoch);
  i->since_ms = blx__loop_now_ms(i->agent->loop);
  i->paused = status->paused;
  if (status->state == BLX__VM_READY || i->spec->ready_none) i->ready = true;
  if (i->state == STARTING) {
    machine_move(i, WAIT_READY, BLX_REASON_CODE_BOOTING, "its monitor runs; the guest has not said ready", "");
    return;
  }
  report_due(i, false);
  if (i->state == WAIT_READY) blx__timer_start(i->timer, i->agent->ready_timeout_ms / 4 + 1, 0);
  machine_step(i);
}

void machine_found(struct instance *i, const struct blx__vm_status *status) {
  bool runs = status->state == BLX__VM_RUNNING || status->state == BLX__VM_READY;
  bool ours = status->epoch == i->epoch && status->epoch != 0;
  i->adopting = false;
  i->tries = 0;
  instance_note_data(i, status);
  if (status->state == BLX__VM_EXITED && ours) instance_note_exit(i, status);
  if (i->state == NEW) {
    found_new(i, status, runs, ours);
  } else if (i->state == STOPPING) {
    if (runs)
      machine_step(i);
    else
      move_on(i, DEAD);
  } else if (runs && !ours) {
    machine_move(i, STOPPING, BLX_REASON_CODE_NODE_RESTARTED, "was found running under another assignment", "");
  } else if (status->state == BLX__VM_EXITED && ours) {
    exited(i);
  } else if (!runs) {
    machine_move(i, DEAD, BLX_REASON_CODE_NODE_RESTARTED, not_there, "");
  } else {
    found_running(i, status);
  }
}
