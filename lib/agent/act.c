#include "agent/agent_int.h"
#include "schema/desc.h"

#include <stdlib.h>
#include <string.h>

/* A new call of the driver for this turn. NULL: no memory; it is tried again later. */
static struct call *call_new(struct instance *i) {
  struct call *call = calloc(1, sizeof *call);
  if (!call) {
    blx__log(i->agent->log, BLX_LOG_ERROR, "agent", "%s: no memory to go on; trying again", i->name);
    instance_wait(i);
    return NULL;
  }
  call->agent = i->agent;
  call->uid = i->uid;
  call->turn = i->turn;
  blx__list_push(&i->agent->calls, &call->link);
  i->calls++;
  return call;
}

/* The instance that an answer is for; NULL if nobody waits for it any more. */
static struct instance *call_end(struct call *call) {
  struct blx__agent *agent = call->agent;
  struct instance *i = agent ? blx__map_get_u64(&agent->instances, call->uid) : NULL;
  if (i && i->turn != call->turn) i = NULL;
  if (agent) blx__list_remove(&call->link);
  free(call);
  if (!i) return NULL;
  BLX__ASSERT(i->calls > 0);
  i->calls--;
  return i;
}

static struct blx__vm_key key_of(const struct instance *i) {
  return (struct blx__vm_key){i->name, i->uid, i->epoch};
}

static const char *some(const char *text) {
  return text && *text ? text : NULL;
}

static struct blx__vm_desc desc_of(const struct instance *i) {
  const struct blx_vm_spec *spec = i->spec;
  struct blx__vm_desc desc = {.key = key_of(i)};
  desc.vcpus = spec->vcpus;
  desc.memory_mib = spec->memory_mib;
  desc.hypervisor = blx__enum_label(blx__enum_hypervisor(), spec->hypervisor);
  if (spec->flake && *spec->flake) desc.flake = spec->flake;
  desc.config_name = spec->config_name;
  desc.ready_none = spec->ready_none != 0;
  desc.ha = instance_ha(i);
  desc.start_before_ms = lease_start_before_ms(i);
  if (i->want && i->want->epoch == i->epoch && !desc.flake) {
    desc.config = i->want->config.data;
    desc.config_len = i->want->config.len;
    desc.nixpkgs_ref = some(i->want->nixpkgs_ref);
    desc.microvm_ref = some(i->want->microvm_ref);
  }
  return desc;
}

/* Not taken, rather than failed: the same again, a little later. */
static bool put_off(struct instance *i, const blx_error *err) {
  if (!err || (err->code != BLX_E_BUSY && err->code != BLX_E_CANCELLED && err->code != BLX_E_NOMEM)) return false;
  blx__log(i->agent->log, BLX_LOG_DEBUG, "agent", "%s: %s is put off: %s", i->name,
           blx__sm_name(&machine_table, i->state), err->message);
  instance_wait(i);
  return true;
}

/* ---- prepare */

static void prepare_done(void *user, const blx_error *err) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (i->killing || instance_intent(i) != RUN) {
    machine_step(i);
    return;
  }
  if (!err && (!lease_permits(i) || instance_held(i)))
    machine_step(i);
  else if (!err)
    machine_move(i, STARTING, BLX_REASON_CODE_BOOTING, "its monitor is being started", "");
  else if (!put_off(i, err))
    machine_move(i, DEAD, BLX_REASON_CODE_BUILD_FAILED, err->message, "a module or flake that builds");
}

void act_prepare(struct instance *i) {
  struct call *call = call_new(i);
  if (!call) return;
  i->killing = false;
  struct blx__vm_desc desc = desc_of(i);
  i->agent->driver->ops->prepare(i->agent->driver, &desc, prepare_done, call);
}

/* ---- start */

static void start_done(void *user, const blx_error *err) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (err && err->code == BLX_E_CANCELLED) i->adopting = true; /* what became of it is unknown: look */
  if (put_off(i, err)) return;
  if (err) {
    /* Failed is not dead: kill what may be left of it, then say so. */
    if (!lease_permits(i)) {
      machine_lost_lease(i);
      return;
    }
    machine_move(i, STOPPING, BLX_REASON_CODE_START_FAILED, err->message, "look at its console and at the node's log");
    return;
  }
  i->since_ms = blx__loop_now_ms(i->agent->loop);
  if (i->spec->ready_none) i->ready = true;
  machine_move(i, WAIT_READY, BLX_REASON_CODE_BOOTING, "its monitor runs; the guest has not said ready", "");
}

void act_start(struct instance *i) {
  struct call *call = call_new(i);
  if (!call) return;
  struct blx__vm_desc desc = desc_of(i);
  i->agent->driver->ops->start(i->agent->driver, &desc, start_done, call);
}

/* ---- stop, kill */

static void dead_done(void *user, const blx_error *err) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (i->state == PREPARING) { /* the kill overtook the build, which answers for itself */
    machine_step(i);
    return;
  }
  if (!err) {
    machine_confirmed_dead(i);
    return;
  }
  if (i->calls > 0) return; /* the stop that the kill was to overtake */
  blx__log(i->agent->log, BLX_LOG_ERROR, "agent", "%s cannot be stopped: %s; trying again", i->name, err->message);
  instance_wait(i);
}

void act_kill(struct instance *i) {
  struct call *call = call_new(i);
  if (!call) return;
  i->killing = true;
  struct blx__vm_key key = key_of(i);
  i->agent->driver->ops->kill(i->agent->driver, &key, dead_done, call);
}

void act_stop(struct instance *i) {
  int code = instance_code(i);
  bool in_order = code == BLX_REASON_CODE_STOPPED_BY_USER || code == BLX_REASON_CODE_DELETE_REQUESTED;
  if (!in_order || i->tries > 0 || instance_hurried(i)) {
    act_kill(i);
    return;
  }
  struct call *call = call_new(i);
  if (!call) return;
  struct blx__vm_key key = key_of(i);
  i->agent->driver->ops->stop(i->agent->driver, &key, i->spec->stop_timeout_ms, dead_done, call);
}

/* ---- destroy */

static void destroy_done(void *user, const blx_error *err) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (err) {
    blx__log(i->agent->log, BLX_LOG_WARNING, "agent", "%s cannot be removed: %s; trying again", i->name, err->message);
    instance_wait(i);
    return;
  }
  machine_gone(i);
}

void act_destroy(struct instance *i) {
  struct call *call = call_new(i);
  if (!call) return;
  struct blx__vm_key key = key_of(i);
  i->agent->driver->ops->destroy(i->agent->driver, &key, destroy_done, call);
}

/* ---- pause */

static void pause_done(void *user, const blx_error *err) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (i->exited || i->broken) {
    machine_step(i);
    return;
  }
  if (put_off(i, err)) return;
  if (err) {
    i->pause_failed = true;
    machine_move(i, READY, BLX_REASON_CODE_PAUSE_FAILED, err->message, "pause or resume the VM again");
    return;
  }
  i->paused = i->pausing;
  machine_paused(i);
}

void act_pause(struct instance *i, bool paused) {
  struct call *call = call_new(i);
  if (!call) return;
  i->pausing = paused;
  struct blx__vm_key key = key_of(i);
  i->agent->driver->ops->pause(i->agent->driver, &key, paused, pause_done, call);
}

/* ---- adopt */

static void adopt_done(void *user, const blx_error *err, const struct blx__vm_status *status) {
  struct instance *i = call_end(user);
  if (!i || i->agent->closing) return;
  if (!err) {
    machine_found(i, status);
    return;
  }
  if (i->tries + 1 < BLX__AGENT_ADOPT_TRIES || err->code == BLX_E_CANCELLED) {
    blx__log(i->agent->log, BLX_LOG_WARNING, "agent", "%s cannot be adopted: %s; trying again", i->name, err->message);
    instance_wait(i);
    return;
  }
  char text[BLX__VM_TEXT_MAX + 1];
  (void)blx__str_format(text, sizeof text, "could not be adopted, so it was killed: %.300s", err->message);
  blx__log(i->agent->log, BLX_LOG_ERROR, "agent", "%s %s", i->name, text);
  machine_unadoptable(i, text);
}

void act_adopt(struct instance *i) {
  struct call *call = call_new(i);
  if (!call) return;
  struct blx__vm_key key = key_of(i);
  i->agent->driver->ops->adopt(i->agent->driver, &key, adopt_done, call);
}

/* ---- events */

static bool may_run(const struct instance *i) {
  return i->state == STARTING || i->state == WAIT_READY || i->state == READY || i->state == STOPPING;
}

/* That there is none matters of one that may start elsewhere only: it costs a report. */
void instance_note_data(struct instance *i, const struct blx__vm_status *status) {
  bool news = (status->local_data && !i->local_data) || (status->data_known && !i->data_known && instance_ha(i));
  i->local_data = i->local_data || status->local_data;
  i->data_known = i->data_known || status->data_known;
  if (news) i->data_told = false;
}

void instance_note_exit(struct instance *i, const struct blx__vm_status *status) {
  i->exited = true;
  i->exit_signal = status->signal;
  i->reset = status->reset;
  i->exit_status = status->signal > 0 ? -status->signal : status->exit_status;
  i->has_exit_status = status->signal > 0 || status->exit_status >= 0; /* else nobody knows */
  (void)blx__str_copy(i->event_text, sizeof i->event_text, status->text);
}

void blx__agent_event(struct blx__agent *agent, const struct blx__vm_key *key, enum blx__vm_event event,
                      const struct blx__vm_status *status) {
  struct instance *i = blx__map_get_u64(&agent->instances, key->uid);
  if (!i || agent->closing || i->epoch != key->epoch || !may_run(i)) return;
  instance_note_data(i, status);
  switch (event) {
  case BLX__VM_EVENT_DATA: break;
  case BLX__VM_EVENT_READY: i->ready = true; break;
  case BLX__VM_EVENT_EXITED:
    instance_note_exit(i, status);
    i->witnessed = true;
    break;
  case BLX__VM_EVENT_PROTOCOL:
    i->broken = true;
    if (!i->exited) (void)blx__str_copy(i->event_text, sizeof i->event_text, status->text);
    break;
  }
  if (i->state != STOPPING) machine_step(i);
}
