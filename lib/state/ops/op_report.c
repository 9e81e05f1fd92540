/* What agents saw. */
#include "state/state_int.h"

typedef unsigned long long ull;

enum { HOW_BYTES = 384, TEXT_BYTES = 512 };

/* An agent that confirmed a death cannot take it back: what it sees now runs without leave. */
static bool is_stale(const struct blx__state *st, uint64_t node_uid, const struct blx_instance_report *r,
                     struct state_instance **out) {
  struct state_instance *e = blx__state_instance_get(st, r->instance_uid);
  if (!e || e->rec->node_uid != node_uid || e->rec->epoch != r->epoch) return true;
  bool alive = !r->dead && !r->gone;
  if (alive && e->rec->dead && r->seq > e->rec->report_seq) return true;
  if (alive && e->rec->fenced && !e->rec->dead) return true; /* nothing was ever to run under that epoch */
  *out = e;
  return false;
}

/* 1 s, doubled with each failure in a row up to 300 s, then 10 % less or more, so that what failed together does not
 * start together. The draw comes from index and uid: every member makes the same. */
static uint64_t back_off_ms(const struct blx__state *st, const struct blx_instance *i) {
  BLX__ASSERT(i->failures > 0);
  unsigned doublings = i->failures - 1 < 16 ? i->failures - 1 : 16;
  uint64_t ms = (uint64_t)BLX__STATE_BACK_OFF_FIRST_MS << doublings;
  if (ms > BLX__STATE_BACK_OFF_MAX_MS) ms = BLX__STATE_BACK_OFF_MAX_MS;
  uint64_t draw = blx__mix64(st->data.index ^ blx__mix64(i->uid)) % 201;
  return ms * (900 + draw) / 1000;
}

/* What stands behind the instance's name: in the agent's own words where it has some, which are the monitor's last. */
static void how_it_ended(char *out, size_t size, const struct blx_instance_report *r) {
  int32_t code = blx__state_reason_code(r->reason);
  bool worded = code == BLX_REASON_CODE_CRASHED || code == BLX_REASON_CODE_EXITED;
  if (worded && r->reason->text && r->reason->text[0])
    blx__str_format(out, size, ": %s", r->reason->text);
  else if (code == BLX_REASON_CODE_NODE_RESTARTED)
    blx__str_copy(out, size, " was not running any more when its node came back");
  else if (!r->has_exit_status)
    blx__str_copy(out, size, " ended");
  else if (r->exit_status < 0)
    blx__str_format(out, size, " was ended by signal %lld", -(long long)r->exit_status);
  else
    blx__str_format(out, size, " ended with status %d", r->exit_status);
}

/* Failures before the guest ran: what the agent wrote is worth more than how the process ended. */
static bool keeps_its_reason(const struct blx_instance_report *r) {
  int32_t code = blx__state_reason_code(r->reason);
  return code == BLX_REASON_CODE_BUILD_FAILED || code == BLX_REASON_CODE_START_FAILED ||
         code == BLX_REASON_CODE_VMM_PROTOCOL;
}

static bool powered_off(const struct blx_instance_report *r) {
  int32_t code = blx__state_reason_code(r->reason);
  if (r->phase != BLX_PHASE_STOPPED || code == BLX_REASON_CODE_NODE_RESTARTED) return false;
  return code == BLX_REASON_CODE_EXITED || (r->has_exit_status && r->exit_status == 0);
}

static void start_again_later(struct blx__state *st, struct blx_instance *i, const struct blx_instance_report *r) {
  char ended[HOW_BYTES], text[TEXT_BYTES];
  i->failures++;
  uint64_t wait_ms = back_off_ms(st, i);
  ull about_s = (wait_ms + 500) / 1000 ? (wait_ms + 500) / 1000 : 1;
  i->not_before_ms = st->data.time_ms + wait_ms;
  struct blx_reason reason;
  if (keeps_its_reason(r)) {
    blx__str_format(text, sizeof text, "it is tried again in about %llu s", about_s);
    reason = blx__state_reason(r->reason->code, r->reason->text, text);
    i->phase = BLX_PHASE_FAILED;
  } else {
    how_it_ended(ended, sizeof ended, r);
    blx__str_format(text, sizeof text, "%s%s; starts again in about %llu s", i->name, ended, about_s);
    reason = blx__state_reason(BLX_REASON_CODE_BACK_OFF, text, NULL);
    i->phase = BLX_PHASE_PENDING;
  }
  i->reason = &reason;
  blx__state_put_instance(st, i);
}

static void stay(struct blx__state *st, struct blx_instance *i, const struct blx_instance_report *r, int32_t code,
                 const char *why) {
  char ended[HOW_BYTES], text[TEXT_BYTES];
  how_it_ended(ended, sizeof ended, r);
  blx__str_format(text, sizeof text, "%s%s; %s", i->name, ended, why);
  struct blx_reason reason = blx__state_reason(code, text, "start the VM");
  if (keeps_its_reason(r)) reason = blx__state_reason(r->reason->code, r->reason->text, "start the VM");
  i->phase = powered_off(r) ? BLX_PHASE_STOPPED : BLX_PHASE_FAILED;
  i->not_before_ms = 0;
  i->reason = &reason;
  blx__state_put_instance(st, i);
}

/* Its node was, and not its guest: no failure, and no restart policy has a say. */
static void cut_off(struct blx__state *st, const struct state_instance *e, struct blx_instance *i, bool recovered) {
  const struct blx_node_info *n = blx__state_node(st, i->node_uid);
  const char *node = n ? n->name : "its node";
  char text[192];
  struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_NODE_FENCED, text, NULL);
  if (e->rec->fenced) {
    blx__str_format(text, sizeof text, "%s was fenced: starts elsewhere", node);
  } else if (recovered) {
    blx__str_format(text, sizeof text, "did not run on %s when the cluster was recovered: starts again", node);
    reason.code = BLX_REASON_CODE_RECOVERED;
  } else {
    reason.code = BLX_REASON_CODE_LEASE_LOST;
    blx__str_format(text, sizeof text, "was ended by %s, which was cut off from the cluster: starts again", node);
  }
  i->phase = BLX_PHASE_PENDING;
  i->reason = &reason;
  i->not_before_ms = 0;
  blx__state_put_instance(st, i);
}

/* It ended and the user wants it running: the restart policy speaks, unless we had asked it to end ourselves. */
static void ended_while_wanted(struct blx__state *st, const struct state_instance *e, struct blx_instance *i,
                               const struct blx_instance_report *r) {
  bool asked = e->rec->ending != BLX_ENDING_NONE ||
               (e->rec->phase == BLX_PHASE_STOPPING &&
                blx__state_reason_code(e->rec->reason) == BLX_REASON_CODE_STOPPED_BY_USER) ||
               blx__state_reason_code(r->reason) == BLX_REASON_CODE_STOPPED_BY_USER;
  if (asked) {
    struct blx_reason reason =
        blx__state_reason(BLX_REASON_CODE_UNPLACED, "has stopped, and is wanted again: waits for the scheduler", NULL);
    i->phase = BLX_PHASE_PENDING;
    i->reason = &reason;
    i->not_before_ms = 0;
    i->failures = 0;
    blx__state_put_instance(st, i);
    return;
  }
  int32_t code = blx__state_reason_code(r->reason);
  bool recovered = code == BLX_REASON_CODE_RECOVERED;
  if (e->rec->fenced || recovered || code == BLX_REASON_CODE_LEASE_LOST) {
    cut_off(st, e, i, recovered);
    return;
  }
  bool steady =
      e->rec->phase == BLX_PHASE_RUNNING && st->data.time_ms >= e->rec->phase_since_ms + (uint64_t)BLX__STATE_STEADY_MS;
  if (steady) i->failures = 0;
  int32_t policy = e->vm->rec->spec->restart_policy;
  if (policy == BLX_RESTART_POLICY_NEVER)
    stay(st, i, r, BLX_REASON_CODE_POLICY_NEVER, "its restart policy never leaves it there");
  else if (policy == BLX_RESTART_POLICY_ON_FAILURE && powered_off(r))
    stay(st, i, r, BLX_REASON_CODE_EXITED, "its restart policy on_failure leaves it there");
  else
    start_again_later(st, i, r);
}

static void report_dead(struct blx__state *st, struct state_instance *e, struct blx_instance *i,
                        const struct blx_instance_report *r) {
  const struct blx_vm *vm = e->vm->rec;
  bool first = !i->dead, leaves = blx__state_leaving(e);
  i->dead = 1;
  i->ending = BLX_ENDING_NONE;
  i->preempted_for_uid = 0;
  i->paused = 0;
  if (leaves && r->gone) {
    blx__state_drop_instance(st, e);
    return;
  }
  if (!first) {
    blx__state_put_instance_seq(st, e, r->seq);
    return;
  }
  if (leaves) {
    const struct blx_node_info *n = blx__state_node(st, i->node_uid);
    char text[128];
    blx__str_format(text, sizeof text, "was deleted and has stopped; %s removes its files", n ? n->name : "its node");
    struct blx_reason reason = blx__state_reason(BLX_REASON_CODE_DELETE_REQUESTED, text, NULL);
    i->phase = BLX_PHASE_DELETING;
    i->reason = &reason;
    blx__state_put_instance(st, i);
  } else if (vm->desired == BLX_DESIRED_STOPPED) {
    struct blx_reason reason =
        blx__state_reason(BLX_REASON_CODE_STOPPED_BY_USER, "was stopped on request", "start the VM");
    if (blx__state_reason_code(r->reason) == BLX_REASON_CODE_STOPPED_BY_USER && r->reason->text && r->reason->text[0])
      reason.text = r->reason->text;
    i->phase = BLX_PHASE_STOPPED;
    i->reason = &reason;
    blx__state_put_instance(st, i);
  } else {
    ended_while_wanted(st, e, i, r);
  }
}

static bool phase_of_a_living(int32_t phase) {
  return phase == BLX_PHASE_CREATING || phase == BLX_PHASE_STARTING || phase == BLX_PHASE_RUNNING ||
         phase == BLX_PHASE_STOPPING || phase == BLX_PHASE_FAILED;
}

static void report_alive(struct blx__state *st, struct state_instance *e, struct blx_instance *i,
                         const struct blx_instance_report *r) {
  const struct blx_vm *vm = e->vm->rec;
  /* While it is on its way out, that is what the user wants to see; an agent that has not heard yet does not undo it.
   */
  bool removed = blx__state_leaving(e);
  bool leaving = removed || vm->desired == BLX_DESIRED_STOPPED || i->ending != BLX_ENDING_NONE;
  i->paused = r->paused;
  /* One that waits for a dependent to stop has not been told. */
  bool untold = !removed && blx__state_reason_code(i->reason) == BLX_REASON_CODE_WAITS_FOR_STOP;
  if (phase_of_a_living(r->phase)) {
    if (!leaving || untold) i->phase = r->phase;
    if (!leaving) i->reason = r->reason;
  }
  bool same = i->phase == e->rec->phase && blx__state_reason_eq(i->reason, e->rec->reason) &&
              i->exit_status == e->rec->exit_status && !i->paused == !e->rec->paused &&
              !i->local_data == !e->rec->local_data && i->has_exit_status == e->rec->has_exit_status &&
              i->seen_era == e->rec->seen_era && !i->data_known == !e->rec->data_known;
  if (same)
    blx__state_put_instance_seq(st, e, r->seq);
  else
    blx__state_put_instance(st, i);
}

/* After a recovery: its node has it under a later epoch, which the lost part of the log gave it there. It was the
 * instance's only one then, and goes on. */
static void learn_epoch(struct blx__state *st, uint64_t node_uid, const struct blx_instance_report *r) {
  struct state_instance *e = blx__state_instance_get(st, r->instance_uid);
  bool told = e && r->era != 0 && r->era == st->data.era && e->rec->node_uid == node_uid;
  if (!told || r->epoch <= e->rec->epoch || r->epoch >= st->data.era || !blx__state_is_held(st, e->rec)) return;
  struct blx_instance i = *e->rec;
  i.epoch = r->epoch;
  i.dead = i.fenced = 0;
  i.report_seq = 0;
  i.ending = BLX_ENDING_NONE;
  i.preempted_for_uid = 0;
  i.not_before_ms = 0;
  bool leaves = blx__state_leaving(e), stops = e->vm->rec->desired == BLX_DESIRED_STOPPED;
  /* What the report says comes next. */
  i.phase = leaves ? BLX_PHASE_DELETING : stops ? BLX_PHASE_STOPPING : BLX_PHASE_CREATING;
  blx__state_put_instance(st, &i);
}

static void report_one(struct blx__state *st, struct state_instance *e, const struct blx_instance_report *r) {
  /* What cannot be undone counts whenever it comes: an agent that lost its journal, and whose clock was set back,
   * begins with lower numbers, and a name would never be free again. */
  bool final = (r->dead && !e->rec->dead) || r->gone;
  bool seen = r->era != 0 && r->era == st->data.era && r->phase == BLX_PHASE_RUNNING && !r->dead && !r->gone &&
              !e->rec->dead && blx__state_is_held(st, e->rec);
  if (r->seq <= e->rec->report_seq && !final && !seen) return;
  struct blx_instance i = *e->rec;
  if (r->seq > i.report_seq) i.report_seq = r->seq;
  if (r->has_exit_status) {
    i.has_exit_status = 1;
    i.exit_status = r->exit_status;
  }
  if (seen) i.seen_era = r->era; /* so it runs nowhere else, whatever is lost */
  if (r->data_known) i.data_known = 1;
  if (r->local_data) i.local_data = 1; /* and stays, as the disk does, until it goes to another node */
  if (r->dead || r->gone)
    report_dead(st, e, &i, r);
  else
    report_alive(st, e, &i, r);
}

void blx__state_confirm_dead(struct blx__state *st, struct state_instance *e) {
  struct blx_instance_report proved = BLX_INSTANCE_REPORT_INIT;
  struct blx_instance i = *e->rec;
  BLX__ASSERT(i.fenced && !i.dead);
  proved.dead = 1;
  report_dead(st, e, &i, &proved);
}

blx__rc blx__state_op_report(struct blx__state *st, const struct blx_op *op, struct state_answer *out, blx_error *err) {
  const struct blx_op_report *o = op->report;
  struct state_node *node = NULL;
  BLX__TRY(blx__state_node_known(st, o->node_uid, &node, err));
  BLX__ASSERT(o->n_reports <= BLX__COUNT(out->stale));
  for (size_t n = 0; n < o->n_reports; n++) {
    struct state_instance *e = NULL;
    if (blx__state_tombstone_report(st, o->node_uid, o->reports[n])) continue;
    learn_epoch(st, o->node_uid, o->reports[n]);
    if (is_stale(st, o->node_uid, o->reports[n], &e))
      out->stale[out->n_stale++] = o->reports[n]->instance_uid;
    else
      report_one(st, e, o->reports[n]);
  }
  if (node->rec->fence != BLX_FENCE_NONE) blx__state_fence_lift(st, o->node_uid);
  out->uid = o->node_uid;
  return BLX__OK;
}
