#include "agent/agent_int.h"
#include "schema/codec.h"

#include <stdlib.h>

struct instance *instance_new(struct blx__agent *agent, const char *name, uint64_t uid, uint64_t epoch) {
  BLX__ASSERT(uid != 0 && !blx__map_get_u64(&agent->instances, uid));
  struct instance *i = calloc(1, sizeof *i);
  if (!i) return NULL;
  i->agent = agent;
  i->uid = uid;
  i->epoch = epoch;
  i->state = NEW;
  i->data_told = true;
  i->turn = ++agent->turns;
  /* The clock, not 1: were its journal lost, the reports of a life before it would hide those of this one. */
  i->seq = blx__loop_wall_ms(agent->loop);
  blx__list_init(&i->dirty);
  blx__list_init(&i->journal_link);
  i->timer = blx__timer_new(agent->loop, machine_timer, i);
  if (!i->timer || !blx__str_copy(i->name, sizeof i->name, name) ||
      !blx__map_set_u64(&agent->instances, uid, i, NULL)) {
    blx__timer_free(i->timer);
    free(i);
    return NULL;
  }
  return i;
}

void instance_drop(struct instance *i, bool forget) {
  if (forget) journal_remove(i);
  (void)blx__map_remove_u64(&i->agent->instances, i->uid);
  blx__list_remove(&i->dirty);
  blx__list_remove(&i->journal_link);
  blx__timer_free(i->timer);
  blx__msg_free_owned(i->spec);
  blx__msg_free_owned(i->reason);
  blx__msg_free_owned(i->want);
  free(i);
}

bool instance_set_spec(struct instance *i, const struct blx_vm_spec *spec) {
  void *copy = NULL;
  blx_error why;
  if (blx__msg_own(blx__desc_vm_spec(), spec, &copy, &why).code != 0) {
    blx__log(i->agent->log, BLX_LOG_ERROR, "agent", "%s: cannot keep its spec: %s", i->name, why.message);
    return false;
  }
  blx__msg_free_owned(i->spec);
  i->spec = copy;
  return true;
}

void instance_set_reason(struct instance *i, int code, const char *text, const char *unblock) {
  struct blx_reason reason = BLX_REASON_INIT;
  reason.code = code;
  reason.text = text;
  reason.unblock = unblock;
  void *copy = NULL;
  blx_error why;
  if (blx__msg_own(blx__desc_reason(), &reason, &copy, &why).code != 0) {
    blx__log(i->agent->log, BLX_LOG_ERROR, "agent", "%s: cannot keep why: %s", i->name, why.message);
    return;
  }
  blx__msg_free_owned(i->reason);
  i->reason = copy;
  /* One text that cannot be encoded would hold up the journal, and with it every report of this node. */
  if (i->reason->text) blx__utf8_mend((char *)(uintptr_t)i->reason->text);
}

int instance_code(const struct instance *i) {
  return i->reason ? i->reason->code : BLX_REASON_CODE_NONE;
}

enum intent instance_intent(const struct instance *i) {
  const struct blx_assignment *want = i->want;
  if (i->behind) return HOLD;
  if (!i->agent->shared) return i->stale ? KILL : HOLD;
  if (!want || want->remove) return REMOVE;
  if (want->epoch > i->epoch) return NEXT;
  if (i->stale || want->dead) return KILL;
  if (want->ending != BLX_ENDING_NONE) return STOP;
  return want->desired == BLX_DESIRED_STOPPED ? STOP : RUN;
}

bool instance_hurried(const struct instance *i) {
  enum intent intent = instance_intent(i);
  return lease_ended(i) || intent == KILL || intent == NEXT || (intent == STOP && i->want->ending == BLX_ENDING_KILL);
}

bool instance_held(const struct instance *i) {
  return i->want && i->want->held && i->want->epoch == i->epoch && !i->behind;
}

bool instance_busy(const struct instance *i) {
  return i->journalling || i->calls > 0 || i->waiting || i->agent->closing;
}

void instance_wait(struct instance *i) {
  uint64_t after = BLX__AGENT_RETRY_MIN_MS;
  for (unsigned n = 0; n < i->tries && after < BLX__AGENT_RETRY_MAX_MS; n++) after *= 2;
  if (after > BLX__AGENT_RETRY_MAX_MS) after = BLX__AGENT_RETRY_MAX_MS;
  i->tries++;
  i->waiting = true;
  blx__timer_start(i->timer, after, 0);
}
