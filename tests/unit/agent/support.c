#include "support.h"
#include "io/file.h"
#include "io/timer.h"
#include "lease/lease.h"
#include "schema/codec.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum kind { PREPARE, START, STOP, KILL_, PAUSE, DESTROY, ADOPT };

struct op {
  struct blx__defer defer;
  struct host *host;
  enum kind kind;
  uint64_t uid, epoch;
  bool busy, lost, paused;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
};

static struct guest *guest_of(struct host *h, uint64_t uid) {
  for (int n = 0; n < GUESTS; n++)
    if (h->guests[n].uid == uid) return &h->guests[n];
  ck_abort_msg("no such guest");
}

static bool runs(const struct guest *g) {
  return g->status.state == BLX__VM_RUNNING || g->status.state == BLX__VM_READY;
}

static void event(struct host *h, struct guest *g, enum blx__vm_event what) {
  struct blx__vm_key key = {g->name, g->uid, g->status.epoch};
  if (h->world->agent) blx__agent_event(h->world->agent, &key, what, &g->status);
}

static void end_guest(struct host *h, struct guest *g, int32_t status, int32_t signal) {
  if (!runs(g)) return;
  g->status.state = BLX__VM_EXITED;
  g->status.exit_status = status;
  g->status.signal = signal;
  event(h, g, BLX__VM_EVENT_EXITED);
}

static void become_ready(struct host *h, struct guest *g) {
  if (g->status.state != BLX__VM_RUNNING) return;
  g->status.state = BLX__VM_READY;
  event(h, g, BLX__VM_EVENT_READY);
}

static void step(struct world *w) {
  w->steps++;
  if (w->steps == w->cut_at) {
    w->cut = true;
    blx__loop_defer(w->loop, &w->close);
  }
}

/* ---- the driver */

static blx__rc do_start(struct host *h, struct guest *g, uint64_t epoch, blx_error *err) {
  if (h->fail_start) return blx__fail(err, BLX_E_IO, "host", "no monitor today");
  if (runs(g) || epoch >= EPOCHS || ++g->starts[epoch] > 1) h->violations++;
  g->status = (struct blx__vm_status){.state = BLX__VM_RUNNING, .epoch = epoch};
  return BLX__OK;
}

static blx__rc perform(const struct op *op, struct guest *g, blx_error *err) {
  struct host *h = op->host;
  if (op->busy) return blx__fail(err, BLX_E_BUSY, "host", "one at a time");
  switch (op->kind) {
  case PREPARE:
    if (h->hold_prepare) return blx__fail(err, BLX_E_CANCELLED, "host", "overtaken");
    if (h->fail_prepare) return blx__fail(err, BLX_E_INVALID, "host", "the module does not build");
    if (!runs(g) && g->status.state != BLX__VM_EXITED) g->status.state = BLX__VM_PREPARED;
    return BLX__OK;
  case START: return do_start(h, g, op->epoch, err);
  case STOP:
  case KILL_: end_guest(h, g, op->kind == STOP ? 0 : -1, op->kind == STOP ? 0 : 9); return BLX__OK;
  case PAUSE:
    if (h->fail_pause) return blx__fail(err, BLX_E_TIMEOUT, "host", "the monitor did not pause");
    if (!runs(g)) return blx__fail(err, BLX_E_NOT_FOUND, "host", "it does not run");
    g->status.paused = op->paused;
    return BLX__OK;
  case DESTROY:
    if (runs(g)) h->violations++;
    g->status = (struct blx__vm_status){.state = BLX__VM_ABSENT};
    return BLX__OK;
  case ADOPT:
    if (h->adopt_errors > 0) {
      h->adopt_errors--;
      return blx__fail(err, BLX_E_UNAVAILABLE, "host", "the shim does not answer");
    }
    return BLX__OK;
  }
  return BLX__OK;
}

static void op_run(void *arg) {
  struct op *op = arg;
  struct host *h = op->host;
  struct guest *g = guest_of(h, op->uid);
  if ((op->kind == PREPARE && h->hold_prepare && h->kills == 0) || (op->kind == STOP && h->hold_stop)) {
    blx__loop_defer(h->world->loop, &op->defer);
    return;
  }
  if (op->lost && h->world->agent) { /* the agent that asked must not hear of it */
    blx__loop_defer(h->world->loop, &op->defer);
    return;
  }
  h->pending--;
  blx_error err;
  blx__rc rc = op->lost ? blx__fail(&err, BLX_E_CANCELLED, "host", "lost") : perform(op, g, &err);
  if (op->kind == ADOPT)
    op->adopted(op->user, rc.code != 0 ? &err : NULL, &g->status);
  else
    op->done(op->user, rc.code != 0 ? &err : NULL);
  if (op->kind == START && rc.code == 0 && !h->never_ready) become_ready(h, g);
  free(op);
}

static struct op *op_new(struct blx__vm_driver *d, enum kind kind, const struct blx__vm_key *key, void *user) {
  struct host *h = (struct host *)d;
  struct op *op = calloc(1, sizeof *op);
  ck_assert_ptr_nonnull(op);
  op->host = h;
  op->kind = kind;
  op->uid = key->uid;
  op->epoch = key->epoch;
  op->user = user;
  op->busy = h->refuse > 0;
  if (op->busy) h->refuse--;
  h->pending++;
  ck_assert_str_eq(key->instance, guest_of(h, key->uid)->name);
  blx__defer_init(&op->defer, op_run, op);
  blx__loop_defer(h->world->loop, &op->defer);
  step(h->world);
  op->lost = h->world->cut && h->world->lose;
  return op;
}

static void prepare(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  ck_assert_uint_eq(desc->vcpus, 1);
  ck_assert_uint_gt(desc->config_len, 0);
  ((struct host *)d)->prepares++;
  op_new(d, PREPARE, &desc->key, user)->done = done;
}

static void start(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct host *h = (struct host *)d;
  if (desc->start_before_ms != 0 && boot_ms(h->world) >= desc->start_before_ms) h->late_starts++;
  op_new(d, START, &desc->key, user)->done = done;
}

static void stop(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t deadline_ms, blx__vm_done_fn *done,
                 void *user) {
  ((struct host *)d)->stops++;
  ((struct host *)d)->stop_deadline_ms = deadline_ms;
  op_new(d, STOP, key, user)->done = done;
}

static void kill_it(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  ((struct host *)d)->kills++;
  op_new(d, KILL_, key, user)->done = done;
}

static void pause_it(struct blx__vm_driver *d, const struct blx__vm_key *key, bool paused, blx__vm_done_fn *done,
                     void *user) {
  ((struct host *)d)->pauses++;
  struct op *op = op_new(d, PAUSE, key, user);
  op->paused = paused;
  op->done = done;
}

static void destroy(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  op_new(d, DESTROY, key, user)->done = done;
}

static void adopt(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_adopt_fn *done, void *user) {
  op_new(d, ADOPT, key, user)->adopted = done;
}

static const struct blx__vm_ops host_ops = {.name = "test",
                                            .prepare = prepare,
                                            .start = start,
                                            .stop = stop,
                                            .kill = kill_it,
                                            .pause = pause_it,
                                            .destroy = destroy,
                                            .adopt = adopt};

void host_reboot(struct world *w) {
  for (int n = 0; n < GUESTS; n++)
    if (runs(&w->host.guests[n]))
      w->host.guests[n].status =
          (struct blx__vm_status){.state = BLX__VM_EXITED, .epoch = w->host.guests[n].status.epoch, .exit_status = -1};
}

void host_exit(struct world *w, int n, int32_t status, int32_t signal) {
  end_guest(&w->host, &w->host.guests[n], status, signal);
}

void host_ready(struct world *w, int n) {
  become_ready(&w->host, &w->host.guests[n]);
}

void host_garbage(struct world *w, int n) {
  struct guest *g = &w->host.guests[n];
  ck_assert(blx__str_copy(g->status.text, sizeof g->status.text, "its monitor answered half a brace"));
  event(&w->host, g, BLX__VM_EVENT_PROTOCOL);
  g->status.text[0] = '\0';
}

bool host_runs(const struct world *w, int n) {
  return runs(&w->host.guests[n]);
}

unsigned host_starts(const struct world *w, int n) {
  unsigned sum = 0;
  for (int e = 0; e < EPOCHS; e++) sum += w->host.guests[n].starts[e];
  return sum;
}

/* ---- the cluster */

static void apply(struct world *w, struct record *r, const struct blx_instance_report *report) {
  r->reports++;
  r->seq = report->seq;
  r->phase = report->phase;
  r->code = report->reason ? report->reason->code : BLX_REASON_CODE_NONE;
  ck_assert(blx__str_format(r->text, sizeof r->text, "%s",
                            report->reason && report->reason->text ? report->reason->text : ""));
  r->paused = report->paused != 0;
  r->local_data = report->local_data != 0;
  r->era = report->era;
  r->data_known = report->data_known != 0;
  r->has_exit = report->has_exit_status != 0;
  r->exit_status = report->exit_status;
  if (report->dead && runs(guest_of(&w->host, r->uid))) w->cluster.violations++;
  if (report->dead) r->dead = true;
  if (report->gone && r->remove) r->gone = true;
  if (r->gone) r->assigned = false;
  if (r->dead && w->cluster.restarts && r->desired == BLX_DESIRED_RUNNING && !r->remove) {
    r->epoch++;
    r->seq = 0;
    r->dead = false;
  }
  blx__loop_defer(w->loop, &w->share);
}

static void send_batch(void *user, const struct blx_instance_report *const *reports, size_t count,
                       blx__agent_sent_fn *done, void *arg) {
  struct world *w = user;
  struct cluster *c = &w->cluster;
  if (c->held || count == 0 || count > BLX__AGENT_REPORTS_MAX) c->violations++;
  c->sends++;
  step(w);
  if (c->hold) {
    c->held = done;
    c->held_arg = arg;
    return;
  }
  if (c->fail > 0) {
    c->fail--;
    blx_error err = {.code = BLX_E_NO_LEADER};
    done(arg, &err, NULL, 0);
    return;
  }
  uint64_t stale[BLX__AGENT_REPORTS_MAX];
  size_t stales = 0;
  for (size_t i = 0; i < count; i++) {
    const struct blx_instance_report *report = reports[i];
    struct record *r = NULL;
    for (int n = 0; n < GUESTS; n++)
      if (c->records[n].uid == report->instance_uid) r = &c->records[n];
    if (!r || !r->assigned || report->epoch < r->epoch)
      stale[stales++] = report->instance_uid;
    else if (report->seq > r->seq || report->era > r->era)
      apply(w, r, report);
  }
  done(arg, NULL, stale, stales);
}

void share(struct world *w) {
  if (!w->agent) return;
  struct blx_assignment all[GUESTS];
  const struct blx_assignment *list[GUESTS];
  struct blx_vm_spec specs[GUESTS];
  size_t count = 0;
  for (int n = 0; n < GUESTS; n++) {
    const struct record *r = &w->cluster.records[n];
    if (!r->assigned) continue;
    specs[n] = (struct blx_vm_spec)BLX_VM_SPEC_INIT;
    specs[n].name = r->name;
    specs[n].vcpus = 1;
    specs[n].memory_mib = 128;
    specs[n].stop_timeout_ms = 1234;
    specs[n].ha = r->ha;
    all[n] = (struct blx_assignment)BLX_ASSIGNMENT_INIT;
    all[n].instance = r->name;
    all[n].tenant = r->tenant;
    all[n].instance_uid = r->uid;
    all[n].epoch = r->epoch;
    all[n].spec = &specs[n];
    all[n].desired = r->desired;
    all[n].remove = r->remove;
    all[n].dead = r->dead || r->fenced;
    all[n].ending = r->ending;
    all[n].paused = r->pause;
    all[n].held = r->held;
    all[n].tell = r->tell || (r->fenced && !r->dead);
    all[n].config = (struct blx_bytes){(const uint8_t *)"{ }", 3};
    list[count++] = &all[n];
  }
  blx_error err;
  ck_assert_msg(blx__agent_share(w->agent, list, count, &err).code == 0, "%s", err.message);
}

static void share_later(void *arg) {
  share(arg);
}

struct record *assign(struct world *w, int n) {
  struct record *r = &w->cluster.records[n];
  r->assigned = true;
  r->dead = r->gone = false;
  r->epoch++;
  r->seq = 0;
  return r;
}

/* ---- the killer */

uint64_t boot_ms(void *world) {
  const struct world *w = world;
  return blx__loop_boot_ms(w->loop) + w->ahead_ms;
}

static void watchdog(struct world *w) {
  if (boot_ms(w) < w->kill_at_ms) return;
  for (int n = 0; n < GUESTS; n++)
    if (w->cluster.records[n].ha) end_guest(&w->host, &w->host.guests[n], -1, 9);
}

static void set_kill_at(void *user, uint64_t at_ms) {
  struct world *w = user;
  w->kill_at_ms = at_ms;
  watchdog(w);
}

static uint64_t get_kill_at(void *user) {
  return ((struct world *)user)->kill_at_ms;
}

static bool is_watched(void *user) {
  return !((struct world *)user)->not_watched;
}

void pass(struct world *w, uint64_t ms) {
  w->ahead_ms += ms;
  watchdog(w);
}

/* ---- the world */

static void log_line(void *user, int level, const char *component, const char *message) {
  struct world *w = user;
  if (level == BLX_LOG_ERROR) w->errors++;
  if (getenv("AGENT_TEST_LOG")) printf("%s: %s\n", component, message);
}

static void closed(void *arg) {
  ((struct world *)arg)->closed = true;
}

static void close_now(void *arg) {
  struct world *w = arg;
  struct blx__agent *agent = w->agent;
  if (!agent) return;
  w->agent = NULL;
  w->closed = false;
  blx__agent_close(agent, closed, w);
}

static struct blx__log test_log;

void agent_open(struct world *w) {
  test_log = (struct blx__log){log_line, w, BLX_LOG_DEBUG};
  struct blx__agent_options options = {
      .loop = w->loop, .driver = w->driver, .journal_dir = w->dir, .node_name = "n1", .node_uid = 1, .log = &test_log};
  options.ready_timeout_ms = w->ready_timeout_ms;
  options.sink = (struct blx__agent_sink){send_batch, w};
  options.boot_ms = boot_ms;
  options.boot_user = w;
  if (!w->no_killer) options.killer = (struct blx__agent_killer){set_kill_at, get_kill_at, is_watched, w};
  char page[80];
  ck_assert(blx__str_format(page, sizeof page, "%s.page", w->dir));
  if (w->watchdog) options.watchdog = (struct blx__agent_watchdog){w->watchdog, page, "/sys/fs/cgroup/none", NULL, 0};
  blx_error err;
  ck_assert_msg(blx__agent_open(&options, &w->agent, &err).code == 0, "%s", err.message);
}

void lease(struct world *w) {
  const struct blx_lease_settings s = blx__lease_defaults();
  ck_assert(blx__agent_lease_granted(w->agent, blx__agent_lease_ask(w->agent), 20000, &s));
}

static bool is_closed(struct world *w) {
  return w->closed;
}

void agent_close(struct world *w) {
  close_now(w);
  run_until(w, is_closed);
}

void world_open(struct world *w) {
  memset(w, 0, sizeof *w);
  ck_assert(blx__str_copy(w->dir, sizeof w->dir, "/tmp/blixard-agent-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(w->dir));
  ck_assert_int_eq(blx__loop_new(&w->loop, NULL).code, 0);
  w->host.base.ops = &host_ops;
  w->host.world = w;
  w->driver = &w->host.base;
  for (int n = 0; n < GUESTS; n++) {
    struct guest *g = &w->host.guests[n];
    struct record *r = &w->cluster.records[n];
    g->uid = r->uid = (uint64_t)n + 11;
    ck_assert(blx__str_format(g->name, sizeof g->name, "web-%d", n + 1));
    ck_assert(blx__str_copy(r->name, sizeof r->name, g->name));
  }
  blx__defer_init(&w->share, share_later, w);
  blx__defer_init(&w->close, close_now, w);
  agent_open(w);
}

static bool is_quiet(struct world *w) {
  return w->host.pending == 0;
}

void world_close(struct world *w) {
  w->host.hold_prepare = w->host.hold_stop = false;
  if (w->agent) agent_close(w);
  run_until(w, is_quiet);
  blx__loop_undefer(&w->share);
  blx__loop_undefer(&w->close);
  if (w->cluster.held) w->cluster.held(w->cluster.held_arg, NULL, NULL, 0);
  ck_assert_uint_eq(w->host.violations, 0);
  ck_assert_uint_eq(w->cluster.violations, 0);
  ck_assert_uint_eq(w->host.late_starts, 0);
  blx__loop_free(w->loop);
  ck_assert_int_eq(blx__dir_remove_tree(w->dir, NULL).code, 0);
}

struct watch {
  struct world *world;
  bool (*cond)(struct world *w);
  uint64_t until_ms;
  bool late;
};

static void look(void *arg) {
  struct watch *watch = arg;
  watch->late = blx__loop_now_ms(watch->world->loop) > watch->until_ms;
  if (watch->cond(watch->world) || watch->late) blx__loop_stop(watch->world->loop);
}

void run_until(struct world *w, bool (*cond)(struct world *w)) {
  if (cond(w)) return;
  struct watch watch = {w, cond, blx__loop_now_ms(w->loop) + 20000, false};
  struct blx__timer *timer = blx__timer_new(w->loop, look, &watch);
  ck_assert_ptr_nonnull(timer);
  blx__timer_start(timer, 0, 1);
  blx__loop_run(w->loop);
  blx__timer_free(timer);
  ck_assert_msg(!watch.late || cond(w), "what the test waits for did not come");
}

const char *journal_path(struct world *w, int n, char *out, size_t size) {
  const struct record *r = &w->cluster.records[n];
  ck_assert(blx__str_format(out, size, "%s/%llu-%s", w->dir, (unsigned long long)r->uid, r->name));
  return out;
}

bool journal_exists(struct world *w, int n) {
  char path[256];
  return access(journal_path(w, n, path, sizeof path), F_OK) == 0;
}
