/* This node's lease. It lasts from when it was asked for, not from the answer, so that it is over here before the
 * cluster may believe so, however slow the answer was and whoever gave it. What stands in the killer's page is what
 * counts: the agent pauses, and kills as well, but nobody relies on it. */
#include "agent/agent_int.h"
#include "lease/lease.h"

enum {
  LOOK_BLIND_MS = 200, /* while nobody watches the page */
  LOOK_MS = 1000,      /* timers do not go on while the machine sleeps, as the lease does */
  BLIND_MAX_MS = 2000, /* nobody looked for so long: nothing is made longer, until the killer is back */
};

typedef unsigned long long ull;

static bool offered(const struct blx__agent *agent) {
  return agent->killer.set != NULL;
}

static uint64_t lease_now_ms(const struct blx__agent *agent) {
  return agent->boot_ms ? agent->boot_ms(agent->boot_user) : blx__loop_boot_ms(agent->loop);
}

static bool watched(const struct blx__agent *agent) {
  return offered(agent) && agent->killer.watched(agent->killer.user);
}

bool blx__agent_ha_ready(const struct blx__agent *agent) {
  return watched(agent);
}

bool instance_ha(const struct instance *i) {
  return i->spec && i->spec->ha != BLX_HA_POLICY_OFF;
}

bool lease_held(const struct blx__agent *agent) {
  return lease_now_ms(agent) < agent->lease.pause_ms;
}

static bool over(const struct blx__agent *agent) {
  return lease_now_ms(agent) >= agent->lease.kill_ms;
}

/* One that was given to a life before keeps what runs, and starts nothing: when to pause by it is not known. */
static bool may_start(const struct blx__agent *agent) {
  return agent->lease.own && lease_held(agent) && watched(agent);
}

bool lease_permits(const struct instance *i) {
  return !instance_ha(i) || may_start(i->agent);
}

bool lease_ended(const struct instance *i) {
  return instance_ha(i) && (i->lease_lost || over(i->agent));
}

uint64_t lease_start_before_ms(const struct instance *i) {
  return instance_ha(i) ? i->agent->lease.pause_ms : 0;
}

const char *lease_why_not(const struct blx__agent *agent) {
  if (!offered(agent)) return "this node cannot end it in time when it is cut off: it has no watchdog process";
  if (!watched(agent)) return "the watchdog process of this node does not look at the moment";
  return "this node has no lease at the moment: it starts as soon as it has";
}

uint64_t blx__agent_lease_left_ms(const struct blx__agent *agent) {
  uint64_t now = lease_now_ms(agent);
  return agent->lease.end_ms > now ? agent->lease.end_ms - now : 0;
}

/* ---- what follows from the time */

static bool may_run(const struct instance *i) {
  return i->state == STARTING || i->state == WAIT_READY || i->state == READY || i->state == STOPPING;
}

/* However soon another lease comes, what was to be dead is killed: @lost. */
static size_t note(struct blx__agent *agent, bool lost) {
  size_t count = 0;
  BLX__MAP_FOREACH(pos, &agent->instances) {
    struct instance *i = blx__map_value(pos);
    if (!instance_ha(i) || !may_run(i)) continue;
    i->pause_failed = false;
    i->lease_lost = i->lease_lost || lost;
    count++;
  }
  return count;
}

static void note_lost(struct blx__agent *agent) {
  size_t count = note(agent, true);
  if (count > 0)
    blx__log(agent->log, BLX_LOG_WARNING, "agent", "%s has no lease: its %zu highly available instances are ended",
             agent->node_name, count);
}

static void arm(struct blx__agent *agent) {
  struct lease *l = &agent->lease;
  uint64_t now = lease_now_ms(agent), next = now < l->pause_ms ? l->pause_ms : now < l->kill_ms ? l->kill_ms : 0;
  uint64_t after = next > now ? next - now : 0;
  bool blind = offered(agent) && !watched(agent);
  if (after > LOOK_MS) after = LOOK_MS;
  if (blind && (after == 0 || after > LOOK_BLIND_MS)) after = LOOK_BLIND_MS;
  if (after > 0)
    blx__timer_start(l->timer, after, 0);
  else
    blx__timer_stop(l->timer);
}

static void look(struct blx__agent *agent) {
  struct lease *l = &agent->lease;
  if (watched(agent)) l->watched_ms = lease_now_ms(agent);
  enum lease_phase phase = lease_held(agent) ? LEASE_HELD : over(agent) ? LEASE_OVER : LEASE_ENDING;
  bool start = may_start(agent), changed = phase != l->phase || start != l->started;
  if (phase == LEASE_OVER && l->phase != LEASE_OVER) note_lost(agent);
  size_t count = phase != l->phase ? note(agent, false) : 0;
  if (phase == LEASE_ENDING && count > 0)
    blx__log(agent->log, BLX_LOG_WARNING, "agent",
             "%s has no word from the cluster: its %zu highly available instances are paused, and ended in %llu ms",
             agent->node_name, count, (ull)(l->kill_ms - lease_now_ms(agent)));
  l->phase = phase;
  l->started = start;
  arm(agent);
  if (changed && agent->opened) agent_step_all(agent);
}

void lease_timer_fn(void *arg) {
  struct blx__agent *agent = arg;
  if (!agent->closing) look(agent);
}

void lease_open(struct blx__agent *agent) {
  struct lease *l = &agent->lease;
  if (offered(agent)) l->pause_ms = l->kill_ms = l->end_ms = agent->killer.get(agent->killer.user);
  l->watched_ms = lease_now_ms(agent);
  l->phase = LEASE_HELD; /* so that one that is over by now is noticed */
  look(agent);
}

/* ---- questions and answers */

uint64_t blx__agent_lease_ask(struct blx__agent *agent) {
  struct lease *l = &agent->lease;
  l->asked_ms[++l->seq % LEASE_ASKS] = lease_now_ms(agent);
  return l->seq;
}

bool blx__agent_lease_granted(struct blx__agent *agent, uint64_t seq, uint64_t lease_ms,
                              const struct blx_lease_settings *settings) {
  struct lease *l = &agent->lease;
  if (agent->closing || seq > l->seq || seq <= l->answered || l->seq - seq >= LEASE_ASKS) return false;
  l->answered = seq;
  uint64_t from = l->asked_ms[seq % LEASE_ASKS], kill_ms = from + blx__lease_kill_ms(settings, lease_ms);
  if (lease_now_ms(agent) >= kill_ms) return false;
  if (!offered(agent)) return true;
  look(agent); /* what was to be dead by now is, although no timer came to say so */
  /* With nobody to end them, this process alone would: and it may be the next to stand still. */
  if (lease_now_ms(agent) - l->watched_ms > BLIND_MAX_MS) return false;
  l->own = true;
  l->end_ms = from + lease_ms;
  l->pause_ms = from + blx__lease_pause_ms(settings, lease_ms);
  l->kill_ms = kill_ms;
  agent->killer.set(agent->killer.user, kill_ms);
  look(agent);
  return true;
}

void blx__agent_lease_end(struct blx__agent *agent) {
  struct lease *l = &agent->lease;
  if (agent->closing) return;
  l->answered = l->seq; /* an answer to what was asked before would bring it back */
  l->own = false;
  l->end_ms = l->pause_ms = l->kill_ms = 0;
  if (offered(agent)) agent->killer.set(agent->killer.user, 0);
  look(agent);
}
