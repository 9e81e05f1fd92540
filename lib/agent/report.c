#include "agent/agent_int.h"
#include "base/failpoint.h"
#include "schema/codec.h"

#include <stdlib.h>
#include <string.h>

/* A report is a view of an instance's journalled state, made when it is sent: a newer state replaces one that was not
 * sent yet, and "dead" cannot be lost, since every later state of that epoch says it too. */
enum { BATCH_ARENA_MAX = BLX__AGENT_REPORTS_MAX * 16 * 1024 };

struct batch {
  struct blx__agent *agent; /* NULL: closed, the answer goes nowhere */
  struct blx__arena arena;
  const struct blx_instance_report *reports[BLX__AGENT_REPORTS_MAX];
  size_t count;
};

static int phase_of(const struct instance *i) {
  switch (i->state) {
  case NEW:
  case PREPARING: return BLX_PHASE_CREATING;
  case STARTING:
  case WAIT_READY: return BLX_PHASE_STARTING;
  case READY: return BLX_PHASE_RUNNING;
  case STOPPING: return BLX_PHASE_STOPPING;
  case DEAD:
  case DESTROYING:
  case GONE: break;
  }
  static const int failures[] = {BLX_REASON_CODE_BUILD_FAILED, BLX_REASON_CODE_START_FAILED, BLX_REASON_CODE_CRASHED,
                                 BLX_REASON_CODE_VMM_PROTOCOL, BLX_REASON_CODE_NODE_RESTARTED};
  for (size_t n = 0; n < BLX__COUNT(failures); n++)
    if (instance_code(i) == failures[n]) return BLX_PHASE_FAILED;
  return BLX_PHASE_STOPPED;
}

/* False: no memory. */
static bool batch_add(struct batch *batch, struct instance *i) {
  struct blx_instance_report report = BLX_INSTANCE_REPORT_INIT;
  report.instance_uid = i->uid;
  report.epoch = i->epoch;
  report.seq = i->seq;
  report.phase = phase_of(i);
  report.reason = i->reason;
  report.dead = i->state == DEAD || i->state == DESTROYING || i->state == GONE;
  report.gone = i->state == GONE;
  report.paused = i->state == READY && i->paused;
  report.local_data = i->local_data;
  report.era = i->agent->era;
  report.data_known = i->data_known || i->local_data;
  report.has_exit_status = i->has_exit_status;
  report.exit_status = i->exit_status;
  void *copy = NULL;
  if (blx__msg_copy(blx__desc_instance_report(), &batch->arena, &report, &copy, NULL).code != 0) return false;
  batch->reports[batch->count++] = copy;
  i->asked = false;
  return true;
}

static void arm(struct blx__agent *agent, uint64_t after_ms) {
  uint64_t at = blx__loop_now_ms(agent->loop) + after_ms;
  if (agent->report_at_ms != 0 && agent->report_at_ms <= at) return;
  agent->report_at_ms = at;
  blx__timer_start(agent->report_timer, after_ms, 0);
}

static void acknowledge(struct blx__agent *agent, const struct blx_instance_report *report) {
  struct instance *i = blx__map_get_u64(&agent->instances, report->instance_uid);
  if (!i || i->seq != report->seq || i->asked) return;
  blx__list_remove(&i->dirty);
  if (report->gone && !instance_busy(i)) instance_drop(i, true);
}

static void sent(void *arg, const blx_error *err, const uint64_t *stale, size_t count) {
  struct batch *batch = arg;
  struct blx__agent *agent = batch->agent;
  if (agent) {
    if (!err) blx__failpoint(BLX__FAILPOINT_REPORT_ANSWERED);
    agent->batch = NULL;
    if (err) {
      uint64_t next = agent->backoff_ms == 0 ? BLX__AGENT_REPORT_RETRY_MIN_MS : agent->backoff_ms * 2;
      agent->backoff_ms = next < BLX__AGENT_REPORT_RETRY_MAX_MS ? next : BLX__AGENT_REPORT_RETRY_MAX_MS;
      blx__log(agent->log, BLX_LOG_DEBUG, "agent", "%zu reports are sent again in %llu ms: %s", batch->count,
               (unsigned long long)agent->backoff_ms, err->message);
    } else {
      agent->backoff_ms = 0;
      for (size_t n = 0; n < batch->count; n++) {
        const struct blx_instance_report *report = batch->reports[n];
        /* The answer names instances, the batch the epochs: a later epoch of the same instance is not meant. */
        for (size_t s = 0; s < count; s++)
          if (stale[s] == report->instance_uid) blx__agent_instance_stale(agent, report->instance_uid, report->epoch);
        acknowledge(agent, report);
      }
    }
    agent->report_at_ms = 0;
    if (!blx__list_empty(&agent->dirty)) arm(agent, agent->backoff_ms);
  }
  blx__arena_free(&batch->arena);
  free(batch);
}

void report_timer_fn(void *arg) {
  struct blx__agent *agent = arg;
  agent->report_at_ms = 0;
  if (agent->batch || agent->closing || blx__list_empty(&agent->dirty)) return;
  struct batch *batch = calloc(1, sizeof *batch);
  if (batch) {
    batch->agent = agent;
    batch->arena.limit_bytes = BATCH_ARENA_MAX;
    BLX__LIST_FOREACH (link, &agent->dirty) {
      struct instance *i = BLX__CONTAINER(link, struct instance, dirty);
      /* Unwritten, its number could be used again after a restart. */
      if (i->journalling) continue;
      if (!batch_add(batch, i) || batch->count == BLX__AGENT_REPORTS_MAX) break;
    }
  }
  if (!batch || batch->count == 0) {
    if (batch) blx__arena_free(&batch->arena);
    free(batch);
    arm(agent, BLX__AGENT_REPORT_RETRY_MIN_MS);
    return;
  }
  agent->batch = batch;
  agent->sink.send(agent->sink.user, batch->reports, batch->count, sent, batch);
  blx__failpoint(BLX__FAILPOINT_REPORT_SENT);
}

void report_due(struct instance *i, bool at_once) {
  struct blx__agent *agent = i->agent;
  if (blx__list_empty(&i->dirty)) blx__list_push(&agent->dirty, &i->dirty);
  if (agent->batch) return; /* its answer sees to it */
  arm(agent, agent->backoff_ms > 0 ? agent->backoff_ms : at_once ? 0 : BLX__AGENT_REPORT_DELAY_MS);
}

void report_detach(struct blx__agent *agent) {
  if (agent->batch) agent->batch->agent = NULL;
  agent->batch = NULL;
}
