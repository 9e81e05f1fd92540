#include "agent/agent_int.h"
#include "schema/closure.h"
#include "io/file.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

static void agent_free(struct blx__agent *agent) {
  if (!agent) return;
  for (;;) {
    struct blx__map_pos first = blx__map_seek(&agent->instances, NULL, 0);
    if (!first.node) break;
    instance_drop(blx__map_value(first), false);
  }
  blx__map_clear(&agent->instances);
  blx__timer_free(agent->report_timer);
  blx__timer_free(agent->journal_timer);
  blx__timer_free(agent->lease.timer);
  watchdog_free(agent);
  free(agent->dir);
  free(agent->node_name);
  free(agent);
}

static void finish(void *arg) {
  struct blx__agent *agent = arg;
  void (*closed)(void *) = agent->closed;
  void *closed_arg = agent->closed_arg;
  agent_free(agent);
  closed(closed_arg);
}

static struct blx__agent *agent_new(const struct blx__agent_options *options) {
  struct blx__agent *agent = calloc(1, sizeof *agent);
  if (!agent) return NULL;
  agent->loop = options->loop;
  agent->driver = options->driver;
  agent->log = options->log;
  agent->sink = options->sink;
  agent->node_uid = options->node_uid;
  agent->killer = options->killer;
  agent->boot_ms = options->boot_ms;
  agent->boot_user = options->boot_user;
  agent->ready_timeout_ms = options->ready_timeout_ms > 0 ? options->ready_timeout_ms : BLX__AGENT_READY_TIMEOUT_MS;
  blx__list_init(&agent->calls);
  blx__list_init(&agent->dirty);
  blx__list_init(&agent->to_journal);
  blx__defer_init(&agent->finish, finish, agent);
  agent->dir = strdup(options->journal_dir);
  agent->node_name = strdup(options->node_name ? options->node_name : "");
  agent->report_timer = blx__timer_new(agent->loop, report_timer_fn, agent);
  agent->journal_timer = blx__timer_new(agent->loop, journal_run, agent);
  agent->lease.timer = blx__timer_new(agent->loop, lease_timer_fn, agent);
  bool timers = agent->report_timer && agent->journal_timer && agent->lease.timer;
  if (agent->dir && agent->node_name && timers) return agent;
  agent_free(agent);
  return NULL;
}

blx__rc blx__agent_open(const struct blx__agent_options *options, struct blx__agent **out, blx_error *err) {
  BLX__ASSERT(options->loop && options->driver && options->journal_dir && options->sink.send);
  struct blx__agent *agent = agent_new(options);
  if (!agent) return blx__fail(err, BLX_E_NOMEM, "agent", "no memory for the agent of this node");
  blx__rc rc = blx__dir_make(agent->dir, 0700, err);
  if (rc.code == 0) rc = journal_load(agent, err);
  if (rc.code == 0) rc = watchdog_open(agent, &options->watchdog, err);
  if (rc.code != 0) {
    agent_free(agent);
    return rc;
  }
  lease_open(agent);
  agent->opened = true;
  BLX__MAP_FOREACH(pos, &agent->instances) {
    struct instance *i = blx__map_value(pos);
    if (i->state != NEW && !i->adopting) report_due(i, false);
    if (i->state != NEW) machine_step(i);
  }
  blx__log(agent->log, BLX_LOG_INFO, "agent", "%s (node %llu): %zu instances in the journal", agent->node_name,
           (unsigned long long)agent->node_uid, agent->instances.count);
  *out = agent;
  return BLX__OK;
}

/* ---- the share */

static bool same_want(const struct blx_assignment *have, const struct blx_assignment *now) {
  return have && have->epoch == now->epoch && have->desired == now->desired && have->remove == now->remove &&
         have->dead == now->dead && have->ending == now->ending && have->paused == now->paused &&
         have->held == now->held;
}

/* The instance of an assignment, new if there is something to do. NULL without an error: nothing to do. */
static blx__rc instance_for(struct blx__agent *agent, const struct blx_assignment *now, struct instance **out,
                            blx_error *err) {
  *out = blx__map_get_u64(&agent->instances, now->instance_uid);
  /* One that was fenced is to be found dead, also by an agent that has lost its journal. */
  if (*out || (now->dead && !now->remove && !now->tell)) return BLX__OK;
  if (agent->instances.count >= BLX__AGENT_INSTANCES_MAX) {
    blx__log(agent->log, BLX_LOG_ERROR, "agent", "%s is left alone: this node has %d instances already", now->instance,
             BLX__AGENT_INSTANCES_MAX);
    return BLX__OK;
  }
  *out = instance_new(agent, now->instance, now->instance_uid, now->epoch);
  if (!*out) return blx__fail(err, BLX_E_NOMEM, "agent", "no memory for the instance %s", now->instance);
  (*out)->seen = true;
  return BLX__OK;
}

static blx__rc take_assignment(struct blx__agent *agent, const struct blx_assignment *now, blx_error *err) {
  if (!now->spec || !now->instance || now->instance_uid == 0 || now->epoch == 0)
    return blx__fail(err, BLX_E_INVALID, "agent", "an assignment lacks its name, uid, epoch or spec");
  struct instance *i = NULL;
  BLX__TRY(instance_for(agent, now, &i, err));
  if (!i) return BLX__OK;
  i->seen = true;
  i->behind = now->epoch < i->epoch;
  if (now->tenant && *now->tenant && !blx__str_copy(i->tenant, sizeof i->tenant, now->tenant))
    return blx__fail(err, BLX_E_INVALID, "agent", "the tenant of %s is longer than %d bytes", i->name,
                     TENANT_NAME_SIZE - 1);
  if (now->tell && now->epoch == i->epoch && i->state != NEW && !i->adopting) {
    i->asked = true; /* a report that is under way may be older than the question */
    report_due(i, false);
  }
  if (i->behind || same_want(i->want, now)) return BLX__OK;
  void *copy = NULL;
  BLX__TRY(blx__msg_own(blx__desc_assignment(), now, &copy, err));
  blx__msg_free_owned(i->want);
  i->want = copy;
  i->pause_failed = false;
  return BLX__OK;
}

void agent_step_all(struct blx__agent *agent) {
  struct blx__map_pos pos = blx__map_seek(&agent->instances, NULL, 0);
  while (pos.node) {
    struct instance *i = blx__map_value(pos);
    uint64_t uid = i->uid;
    machine_step(i);
    /* It may be gone from the map, which then has to be entered anew, behind it. */
    uint8_t key[8];
    for (int n = 0; n < 8; n++) key[n] = (uint8_t)((uid + 1) >> (56 - 8 * n));
    pos = uid == UINT64_MAX ? (struct blx__map_pos){NULL, 0} : blx__map_seek(&agent->instances, key, sizeof key);
  }
}

blx__rc blx__agent_share(struct blx__agent *agent, const struct blx_assignment *const *assignments, size_t count,
                         blx_error *err) {
  BLX__ASSERT(!agent->closing);
  BLX__MAP_FOREACH(pos, &agent->instances)((struct instance *)blx__map_value(pos))->seen = false;
  for (size_t n = 0; n < count; n++) BLX__TRY(take_assignment(agent, assignments[n], err));
  BLX__MAP_FOREACH(pos, &agent->instances) {
    struct instance *i = blx__map_value(pos);
    if (i->seen) continue;
    i->behind = false;
    blx__msg_free_owned(i->want);
    i->want = NULL;
  }
  agent->shared = true;
  agent_step_all(agent);
  return BLX__OK;
}

void blx__agent_era(struct blx__agent *agent, uint64_t era, bool unclear) {
  BLX__ASSERT(!agent->closing);
  agent->era = era;
  if (!unclear || agent->told_era == era) return;
  agent->told_era = era;
  blx__log(agent->log, BLX_LOG_WARNING, "agent",
           "the cluster was recovered, and a part of its log may be lost: it is told what runs here");
  blx__agent_lease_end(agent);
  BLX__MAP_FOREACH(pos, &agent->instances) {
    struct instance *i = blx__map_value(pos);
    if (i->state == NEW || i->adopting) continue; /* what is found is told anyhow */
    i->asked = true;
    report_due(i, false);
  }
}

static bool is_clear(const struct instance *i) {
  bool over = i->state == DEAD || i->state == DESTROYING || i->state == GONE;
  if (i->state == NEW || i->state == STARTING || i->adopting) return false;
  return over || (i->want && !i->want->dead && !i->behind);
}

bool blx__agent_is_clear(const struct blx__agent *agent) {
  if (!agent->shared) return false;
  BLX__MAP_FOREACH(pos, &agent->instances) {
    if (!is_clear(blx__map_value(pos))) return false;
  }
  return true;
}

bool blx__agent_is_empty(const struct blx__agent *agent) {
  BLX__MAP_FOREACH(pos, &agent->instances) {
    if (((const struct instance *)blx__map_value(pos))->state != GONE) return false;
  }
  return true;
}

bool blx__agent_has_disk(const struct blx__agent *agent) {
  BLX__MAP_FOREACH(pos, &agent->instances) {
    const struct instance *i = blx__map_value(pos);
    if (i->local_data && i->state != GONE) return true;
  }
  return false;
}

void blx__agent_instance_stale(struct blx__agent *agent, uint64_t instance_uid, uint64_t epoch) {
  struct instance *i = blx__map_get_u64(&agent->instances, instance_uid);
  if (!i || i->epoch > epoch || agent->closing) return;
  i->stale = true;
  machine_step(i);
}

/* ---- questions */

/* One that a server of an earlier version assigned is of the only tenant there was. */
static const char *tenant_of(const char *tenant) {
  return tenant && *tenant ? tenant : "default";
}

blx__rc blx__agent_find(struct blx__agent *agent, const char *tenant, const char *instance, struct blx__vm_key *out,
                        blx_error *err) {
  const struct instance *found = NULL;
  BLX__MAP_FOREACH(pos, &agent->instances) {
    const struct instance *i = blx__map_value(pos);
    /* Of two with one name the later one: the other is being removed. */
    if (i->state == GONE || !blx__str_eq(i->name, instance)) continue;
    if (blx__str_eq(tenant_of(i->tenant), tenant_of(tenant))) found = i;
  }
  if (!found) return blx__fail(err, BLX_E_NOT_FOUND, "agent", "%.64s is not on node %s", instance, agent->node_name);
  *out = (struct blx__vm_key){found->name, found->uid, found->epoch};
  return BLX__OK;
}

const char *blx__agent_tenant(const struct blx__agent *agent, uint64_t uid) {
  const struct instance *i = blx__map_get_u64(&agent->instances, uid);
  return i && i->tenant[0] ? i->tenant : NULL;
}

size_t blx__agent_instances(const struct blx__agent *agent) {
  return agent->instances.count;
}

size_t blx__agent_stored(const struct blx__agent *agent, struct blx__arena *arena, const char **out, size_t most) {
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &agent->instances) {
    const struct instance *i = blx__map_value(pos);
    char key[BLX__CLOSURE_KEY_BYTES];
    bool built = i->spec && i->state >= STARTING && i->state <= DEAD, known = false;
    if (!built || n == most) continue;
    blx__closure_key(i->spec, key);
    for (size_t k = 0; k < n; k++) known = known || strcmp(out[k], key) == 0;
    if (known) continue;
    out[n] = blx__arena_strdup(arena, key);
    if (!out[n]) return n;
    n++;
  }
  return n;
}

size_t blx__agent_running(const struct blx__agent *agent) {
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &agent->instances) n += ((const struct instance *)blx__map_value(pos))->state == READY;
  return n;
}

size_t blx__agent_unreported(const struct blx__agent *agent) {
  size_t n = 0;
  BLX__LIST_FOREACH (link, &agent->dirty) n++;
  return n;
}

/* ---- close */

void agent_finish_if_idle(struct blx__agent *agent) {
  if (agent->closing && !agent->job && watchdog_is_idle(agent)) blx__loop_defer(agent->loop, &agent->finish);
}

void blx__agent_close(struct blx__agent *agent, void (*done)(void *arg), void *arg) {
  BLX__ASSERT(!agent->closing);
  agent->closing = true;
  agent->closed = done;
  agent->closed_arg = arg;
  report_detach(agent);
  while (!blx__list_empty(&agent->calls)) {
    struct call *call = BLX__CONTAINER(blx__list_first(&agent->calls), struct call, link);
    call->agent = NULL;
    blx__list_remove(&call->link);
  }
  blx__timer_stop(agent->report_timer);
  blx__timer_stop(agent->journal_timer);
  blx__timer_stop(agent->lease.timer);
  watchdog_leave(agent);
  agent_finish_if_idle(agent);
}
