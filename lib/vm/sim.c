/* The simulated driver: no process, no file; everything is a timer of the loop, so that a whole cluster can be
 * simulated in one thread. */
#include "vm/sim_int.h"

#include <stdlib.h>
#include <string.h>

static const char origin[] = "vm/sim";

enum { CONSOLE_MAX = 160, PAUSED_LOOK_MS = 10 };

/* An instance while no driver is open on its host. */
struct kept {
  char id[SIM_ID_MAX], name[64];
  uint64_t uid, made_ms, started_ms;
  bool ha;
  struct blx__vm_status status;
};

struct blx__vm_logs {
  struct blx__list link;
  struct sim *sim;
  struct sim_instance *instance;
  bool follow, said;
  bool *gone; /* set when it is freed inside its own callback */
  blx__vm_log_bytes_fn *on_bytes;
  blx__vm_log_end_fn *on_end;
  void *user;
  struct blx__timer *timer;
};

static bool every(uint32_t *counter, uint32_t n) {
  (*counter)++;
  return n != 0 && *counter % n == 0;
}

static void tell(struct sim_instance *in, enum blx__vm_event event) {
  struct blx__vm_key key = {.instance = in->name, .uid = in->uid, .epoch = in->status.epoch};
  struct blx__vm_status status = in->status;
  if (in->sim->opt->on_event) in->sim->opt->on_event(in->sim->opt->user, &key, event, &status);
}

static void tell_host(const struct blx__vm_sim_host *host, const char *name, uint64_t uid, uint64_t epoch, bool runs) {
  const struct blx__vm_key key = {.instance = name, .uid = uid, .epoch = epoch};
  if (host && host->on_run) host->on_run(host->user, &key, runs);
}

void sim_ended(struct sim_instance *in, int32_t exit_status, int32_t signal, const char *text) {
  blx__timer_stop(in->life_timer);
  sim_sessions_end(in->sim, in);
  tell_host(in->sim->host, in->name, in->uid, in->status.epoch, false);
  in->status.state = BLX__VM_EXITED;
  in->status.exit_status = exit_status;
  in->status.signal = signal;
  in->status.vmm_pid = 0;
  in->status.paused = false;
  (void)blx__str_copy(in->status.text, sizeof in->status.text, text);
}

static void ended(struct sim_instance *in, int32_t exit_status, int32_t signal, const char *text) {
  sim_ended(in, exit_status, signal, text);
  tell(in, BLX__VM_EVENT_EXITED);
}

/* ---- instances */

static void instance_free(struct sim_instance *in) {
  (void)blx__map_remove_str(&in->sim->instances, in->id);
  blx__timer_free(in->op_timer);
  blx__timer_free(in->life_timer);
  free(in);
}

static void on_op(void *arg);
static void on_life(void *arg);

struct sim_instance *sim_find(struct sim *s, const struct blx__vm_key *key) {
  char id[SIM_ID_MAX];
  if (!blx__str_format(id, sizeof id, "%s-%llu", key->instance, (unsigned long long)key->uid)) return NULL;
  return blx__map_get_str(&s->instances, id);
}

/* The instance of @key, made if need be. NULL: no memory, or too many. */
static struct sim_instance *instance_get(struct sim *s, const struct blx__vm_key *key) {
  char id[SIM_ID_MAX];
  if (!blx__str_format(id, sizeof id, "%s-%llu", key->instance, (unsigned long long)key->uid)) return NULL;
  struct sim_instance *in = blx__map_get_str(&s->instances, id);
  if (in) return in;
  in = s->instances.count < BLX__VM_INSTANCES_MAX ? calloc(1, sizeof *in) : NULL;
  if (!in) return NULL;
  in->sim = s;
  in->status.exit_status = -1;
  in->uid = key->uid;
  (void)blx__str_copy(in->id, sizeof in->id, id);
  (void)blx__str_copy(in->name, sizeof in->name, key->instance);
  in->op_timer = blx__timer_new(s->loop, on_op, in);
  in->life_timer = blx__timer_new(s->loop, on_life, in);
  if (in->op_timer && in->life_timer && blx__map_set_str(&s->instances, id, in, NULL)) return in;
  blx__timer_free(in->op_timer);
  blx__timer_free(in->life_timer);
  free(in);
  return NULL;
}

static void on_life(void *arg) {
  struct sim_instance *in = arg;
  struct sim *s = in->sim;
  if (in->untold) {
    in->untold = false;
    tell(in, BLX__VM_EVENT_EXITED);
    return;
  }
  if (in->status.paused) {
    blx__timer_start(in->life_timer, PAUSED_LOOK_MS, 0);
    return;
  }
  if (in->status.state == BLX__VM_RUNNING) {
    in->status.state = BLX__VM_READY;
    (void)blx__str_copy(in->status.text, sizeof in->status.text, "the simulated guest said ready");
    if (every(&s->readies, s->opt->exit_every)) blx__timer_start(in->life_timer, s->opt->exit_after_ms, 0);
    tell(in, BLX__VM_EVENT_READY);
    return;
  }
  if (in->status.state == BLX__VM_READY) ended(in, 0, 0, "the simulated guest powered off");
}

/* ---- operations: each waits its time on op_timer, then happens */

static void refused_later(struct sim *s, blx__vm_done_fn *done, void *user, blx_error why);

/* False: refused, and told on a later turn. */
static struct sim_instance *op_begin(struct sim *s, const struct blx__vm_key *key, enum op op, uint32_t after_ms,
                                     blx__vm_done_fn *done, void *user) {
  blx_error why;
  struct sim_instance *in = s->closing ? NULL : instance_get(s, key);
  if (!in) {
    (void)blx__fail(&why, s->closing ? BLX_E_CANCELLED : BLX_E_NOMEM, origin,
                    s->closing ? "the driver is closing" : "no memory for a simulated instance");
    refused_later(s, done, user, why);
    return NULL;
  }
  bool overtakes = (in->op == OP_PREPARE && (op == OP_STOP || op == OP_KILL || op == OP_DESTROY)) ||
                   (in->op == OP_STOP && op == OP_KILL);
  if (in->op != OP_NONE && !overtakes) {
    (void)blx__fail(&why, BLX_E_BUSY, origin, "another operation on %s is under way: try again later", in->name);
    refused_later(s, done, user, why);
    return NULL;
  }
  if (overtakes) {
    (void)blx__fail(&why, BLX_E_CANCELLED, origin, "the operation before on %s was overtaken", in->name);
    refused_later(s, in->done, in->user, why);
  }
  in->op = op;
  in->op_epoch = key->epoch;
  in->done = done;
  in->adopted = NULL;
  in->user = user;
  blx__timer_start(in->op_timer, after_ms, 0);
  return in;
}

struct refusal {
  struct blx__defer defer;
  struct sim *sim;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
  blx_error why;
};

static void on_refusal(void *arg) {
  struct refusal *r = arg;
  if (r->adopted)
    r->adopted(r->user, &r->why, NULL);
  else
    r->done(r->user, &r->why);
  free(r);
}

static struct refusal *refusal_new(struct sim *s, void *user, const blx_error *why) {
  struct refusal *r = calloc(1, sizeof *r);
  BLX__ASSERT(r); /* a completion that cannot be delivered would hang its caller for ever */
  r->sim = s;
  r->user = user;
  r->why = *why;
  blx__defer_init(&r->defer, on_refusal, r);
  blx__loop_defer(s->loop, &r->defer);
  return r;
}

static void refused_later(struct sim *s, blx__vm_done_fn *done, void *user, blx_error why) {
  refusal_new(s, user, &why)->done = done;
}

static blx__rc do_prepare(struct sim_instance *in, blx_error *err) {
  struct sim *s = in->sim;
  if (every(&s->prepares, s->opt->fail_prepare_every))
    return blx__fail(err, BLX_E_INVALID, origin, "the simulated build of %s failed, as it was told to", in->name);
  if (!in->known) in->made_ms = blx__loop_wall_ms(s->loop);
  in->known = true;
  if (!sim_runs(in)) in->status = (struct blx__vm_status){.state = BLX__VM_PREPARED, .exit_status = -1};
  return BLX__OK;
}

static blx__rc do_start(struct sim_instance *in, blx_error *err) {
  struct sim *s = in->sim;
  if (!in->known) return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s was not prepared", in->name);
  if (sim_runs(in)) return blx__fail(err, BLX_E_CONFLICT, origin, "%s runs already", in->name);
  if (in->op_before_ms != 0 && blx__loop_boot_ms(s->loop) >= in->op_before_ms)
    return blx__fail(err, BLX_E_TIMEOUT, origin, "the lease of its node ended before %s was started", in->name);
  bool fails = every(&s->starts, s->opt->fail_start_every);
  if (fails) return blx__fail(err, BLX_E_IO, origin, "the simulated start of %s failed, as it was told to", in->name);
  in->status = (struct blx__vm_status){
      .state = BLX__VM_RUNNING, .epoch = in->op_epoch, .exit_status = -1, .vmm_pid = (int32_t)s->starts};
  (void)blx__str_copy(in->status.text, sizeof in->status.text, "the simulated monitor runs");
  in->started_ms = blx__loop_now_ms(s->loop);
  in->ha = in->op_ha;
  in->untold = false;
  tell_host(s->host, in->name, in->uid, in->op_epoch, true);
  uint32_t never = s->opt->never_ready_every;
  if (never == 0 || s->starts % never != 0) blx__timer_start(in->life_timer, s->opt->ready_ms, 0);
  if (!every(&s->lies, s->opt->lie_start_every)) return BLX__OK;
  return blx__fail(err, BLX_E_IO, origin, "the simulated start of %s claims to have failed, as it was told to",
                   in->name);
}

static void do_stop(struct sim_instance *in) {
  if (!sim_runs(in) || in->sim->opt->lie_dead) return;
  in->status.stopping = true;
  ended(in, 0, 0, "the simulated guest powered off, as was asked");
}

static blx__rc do_pause(struct sim_instance *in, blx_error *err) {
  if (sim_runs(in)) in->status.paused = in->op_paused;
  return sim_runs(in) ? BLX__OK : blx__fail(err, BLX_E_NOT_FOUND, origin, "%s does not run", in->name);
}

static void logs_end_of(struct sim *s, const struct sim_instance *in);

static blx__rc do_destroy(struct sim_instance *in, blx_error *err) {
  if (sim_runs(in)) return blx__fail(err, BLX_E_CONFLICT, origin, "%s runs: stop it first", in->name);
  logs_end_of(in->sim, in);
  in->known = false;
  in->status = (struct blx__vm_status){.state = BLX__VM_ABSENT, .exit_status = -1};
  return BLX__OK;
}

static blx__rc do_adopt(struct sim_instance *in, blx_error *err) {
  struct sim *s = in->sim;
  if (!every(&s->adoptions, s->opt->fail_adopt_every)) return BLX__OK;
  return blx__fail(err, BLX_E_UNAVAILABLE, origin, "the simulated shim of %s does not answer, as it was told to",
                   in->name);
}

static void on_op(void *arg) {
  struct sim_instance *in = arg;
  enum op op = in->op;
  blx__vm_done_fn *done = in->done;
  blx__vm_adopt_fn *adopted = in->adopted;
  void *user = in->user;
  blx_error err;
  blx__rc rc = BLX__OK;
  in->op = OP_NONE;
  switch (op) {
  case OP_NONE: return;
  case OP_PREPARE: rc = do_prepare(in, &err); break;
  case OP_START: rc = do_start(in, &err); break;
  case OP_STOP:
  case OP_KILL: do_stop(in); break;
  case OP_PAUSE: rc = do_pause(in, &err); break;
  case OP_DESTROY: rc = do_destroy(in, &err); break;
  case OP_ADOPT: rc = do_adopt(in, &err); break;
  }
  struct blx__vm_status status = in->status;
  if (!in->known && in->op == OP_NONE) instance_free(in);
  if (adopted)
    adopted(user, rc.code == 0 ? NULL : &err, rc.code == 0 ? &status : NULL);
  else
    done(user, rc.code == 0 ? NULL : &err);
}

static blx__rc sim_supported(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx_error *err) {
  (void)d;
  return blx__vm_hypervisor_check(desc->hypervisor, desc->vcpus, desc->memory_mib, err);
}

static void sim_prepare(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct sim *s = sim_of(d);
  blx_error why;
  if (sim_supported(d, desc, &why).code != 0) {
    refused_later(s, done, user, why);
    return;
  }
  (void)op_begin(s, &desc->key, OP_PREPARE, s->opt->prepare_ms, done, user);
}

static void sim_start(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct sim *s = sim_of(d);
  struct sim_instance *in = op_begin(s, &desc->key, OP_START, s->opt->start_ms, done, user);
  if (!in) return;
  in->op_ha = desc->ha;
  in->op_before_ms = desc->start_before_ms;
}

static void sim_stop(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t deadline_ms,
                     blx__vm_done_fn *done, void *user) {
  struct sim *s = sim_of(d);
  uint32_t after_ms = s->opt->stop_ms < deadline_ms ? s->opt->stop_ms : deadline_ms;
  (void)op_begin(s, key, OP_STOP, after_ms, done, user);
}

static void sim_kill(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  (void)op_begin(sim_of(d), key, OP_KILL, 0, done, user);
}

static void sim_pause(struct blx__vm_driver *d, const struct blx__vm_key *key, bool paused, blx__vm_done_fn *done,
                      void *user) {
  struct sim_instance *in = op_begin(sim_of(d), key, OP_PAUSE, 0, done, user);
  if (in) in->op_paused = paused;
}

static void sim_destroy(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  (void)op_begin(sim_of(d), key, OP_DESTROY, 0, done, user);
}

/* Its refusals have the shape of adopt's completion. */
static void sim_adopt(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_adopt_fn *done, void *user) {
  struct sim *s = sim_of(d);
  blx_error why;
  struct sim_instance *in = s->closing ? NULL : instance_get(s, key);
  if (!in || in->op != OP_NONE) {
    (void)blx__fail(&why, in ? BLX_E_BUSY : BLX_E_NOMEM, origin, "%s cannot be adopted now: try again later",
                    key->instance);
    refusal_new(s, user, &why)->adopted = done;
    return;
  }
  in->op = OP_ADOPT;
  in->adopted = done;
  in->user = user;
  blx__timer_start(in->op_timer, 0, 0);
}

/* ---- logs: one line, said once, as old as the instance */

static void logs_free(struct blx__vm_logs *l) {
  if (l->gone) *l->gone = true;
  blx__list_remove(&l->link);
  l->sim->logs_open--;
  blx__timer_free(l->timer);
  free(l);
}

static void logs_end(struct blx__vm_logs *l) {
  blx__vm_log_end_fn *on_end = l->on_end;
  void *user = l->user;
  logs_free(l);
  on_end(user, NULL);
}

static void logs_end_of(struct sim *s, const struct sim_instance *in) {
  for (struct blx__list *it = s->logs.next, *next; it != &s->logs; it = next) {
    next = it->next;
    struct blx__vm_logs *l = BLX__CONTAINER(it, struct blx__vm_logs, link);
    if (in && l->instance != in) continue;
    logs_end(l);
  }
}

static void on_logs(void *arg) {
  struct blx__vm_logs *l = arg;
  char text[CONSOLE_MAX];
  if (!l->said) {
    (void)blx__str_format(text, sizeof text, "simulated console of %s\n", l->instance->name);
    blx__timer_start(l->timer, 10, 0);
    bool gone = false;
    l->gone = &gone;
    bool taken = l->on_bytes(l->user, l->instance->made_ms, (const uint8_t *)text, strlen(text));
    if (gone) return;
    l->gone = NULL;
    l->said = taken;
    return;
  }
  if (!l->follow) logs_end(l);
}

static blx__rc sim_logs(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                        blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user,
                        struct blx__vm_logs **out, blx_error *err) {
  struct sim *s = sim_of(d);
  struct sim_instance *in = sim_find(s, key);
  if (!in || !in->known) return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s is not on this node", key->instance);
  if (s->logs_open >= BLX__VM_LOGS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d readers of logs are connected already", BLX__VM_LOGS_MAX);
  struct blx__vm_logs *l = calloc(1, sizeof *l);
  struct blx__timer *timer = l ? blx__timer_new(s->loop, on_logs, l) : NULL;
  if (!timer) {
    free(l);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a reader of logs");
  }
  *l = (struct blx__vm_logs){.sim = s,
                             .instance = in,
                             .follow = follow,
                             .said = tail_lines == 0,
                             .on_bytes = on_bytes,
                             .on_end = on_end,
                             .user = user,
                             .timer = timer};
  blx__list_push(&s->logs, &l->link);
  s->logs_open++;
  blx__timer_start(timer, 0, 0);
  *out = l;
  return BLX__OK;
}

static void sim_logs_close(struct blx__vm_driver *d, struct blx__vm_logs *logs) {
  (void)d;
  logs_free(logs);
}

/* ---- life */

/* What the host holds goes over to it, or is lost with the driver. */
static void host_keep(const struct sim_instance *in) {
  struct blx__vm_sim_host *host = in->sim->host;
  if (!host || !in->known) return;
  struct kept *k = calloc(1, sizeof *k);
  BLX__ASSERT(k != NULL); /* a guest that is forgotten would run twice */
  (void)blx__str_copy(k->id, sizeof k->id, in->id);
  (void)blx__str_copy(k->name, sizeof k->name, in->name);
  k->uid = in->uid;
  k->status = in->status;
  k->ha = in->ha;
  k->made_ms = in->made_ms;
  k->started_ms = in->started_ms;
  bool kept = blx__map_set_str(&host->kept, k->id, k, NULL);
  BLX__ASSERT(kept);
}

static blx__rc host_take(struct sim *s, blx_error *err) {
  for (struct blx__map_pos pos; (pos = blx__map_seek(&s->host->kept, NULL, 0)).node;) {
    struct kept *k = blx__map_value(pos);
    struct sim_instance *in = instance_get(s, &(struct blx__vm_key){.instance = k->name, .uid = k->uid});
    if (!in) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a simulated instance");
    in->known = true;
    in->status = k->status;
    in->ha = k->ha;
    in->made_ms = k->made_ms;
    in->started_ms = k->started_ms;
    if (in->status.state == BLX__VM_RUNNING) blx__timer_start(in->life_timer, s->opt->ready_ms, 0);
    (void)blx__map_remove_str(&s->host->kept, k->id);
    free(k);
  }
  return BLX__OK;
}

static bool kept_end(const struct blx__vm_sim_host *host, struct kept *k, int32_t exit_status, int32_t signal) {
  if (k->status.state != BLX__VM_RUNNING && k->status.state != BLX__VM_READY) return false;
  k->status.state = BLX__VM_EXITED;
  k->status.exit_status = exit_status;
  k->status.signal = signal;
  k->status.vmm_pid = 0;
  tell_host(host, k->name, k->uid, k->status.epoch, false);
  return true;
}

bool blx__vm_sim_host_end(struct blx__vm_sim_host *host, const struct blx__vm_key *key, int32_t exit_status,
                          int32_t signal) {
  char id[SIM_ID_MAX];
  if (!blx__str_format(id, sizeof id, "%s-%llu", key->instance, (unsigned long long)key->uid)) return false;
  struct kept *k = blx__map_get_str(&host->kept, id);
  return k && kept_end(host, k, exit_status, signal);
}

unsigned blx__vm_sim_host_kill_ha(struct blx__vm_sim_host *host) {
  unsigned n = 0;
  BLX__MAP_FOREACH(pos, &host->kept) {
    struct kept *k = blx__map_value(pos);
    n += k->ha && kept_end(host, k, -1, 9);
  }
  return n;
}

void blx__vm_sim_host_power_off(struct blx__vm_sim_host *host) {
  host->kill_at_ms = 0;
  BLX__MAP_FOREACH(pos, &host->kept)(void) kept_end(host, blx__map_value(pos), -1, 0);
}

void blx__vm_sim_host_free(struct blx__vm_sim_host *host) {
  BLX__MAP_FOREACH(pos, &host->kept) free(blx__map_value(pos));
  blx__map_clear(&host->kept);
}

static void on_closed(void *arg) {
  struct sim *s = arg;
  void (*on_close)(void *) = s->on_close;
  void *user = s->close_user;
  free(s);
  on_close(user);
}

static void sim_close(struct blx__vm_driver *d, void (*done)(void *user), void *user) {
  struct sim *s = sim_of(d);
  blx_error why;
  s->closing = true;
  logs_end_of(s, NULL);
  sim_sessions_end(s, NULL);
  struct blx__map_pos pos;
  while ((pos = blx__map_seek(&s->instances, NULL, 0)).node) {
    struct sim_instance *in = blx__map_value(pos);
    (void)blx__fail(&why, BLX_E_CANCELLED, origin, "the driver was closed");
    if (in->op != OP_NONE) {
      struct refusal *r = refusal_new(s, in->user, &why);
      r->done = in->done;
      r->adopted = in->adopted;
    }
    host_keep(in);
    instance_free(in);
  }
  blx__map_clear(&s->instances);
  s->on_close = done;
  s->close_user = user;
  /* Deferred after the refusals, so it is the last. */
  blx__loop_defer(s->loop, &s->closed);
}

static const struct blx__vm_ops sim_ops = {
    .name = "simulated",
    .supported = sim_supported,
    .prepare = sim_prepare,
    .start = sim_start,
    .stop = sim_stop,
    .kill = sim_kill,
    .pause = sim_pause,
    .destroy = sim_destroy,
    .adopt = sim_adopt,
    .logs = sim_logs,
    .logs_close = sim_logs_close,
    .session_open = sim_session_open,
    .session_write = sim_session_write,
    .session_resize = sim_session_resize,
    .session_close = sim_session_close,
    .stats = sim_stats,
    .close = sim_close,
};

static struct sim *sim_new(struct blx__loop *loop, blx_error *err) {
  struct sim *s = calloc(1, sizeof *s);
  if (!s) {
    (void)blx__fail(err, BLX_E_NOMEM, origin, "no memory for the simulated driver");
    return NULL;
  }
  s->base.ops = &sim_ops;
  s->loop = loop;
  blx__list_init(&s->logs);
  blx__list_init(&s->sessions);
  blx__defer_init(&s->closed, on_closed, s);
  return s;
}

blx__rc blx__vm_sim_open(struct blx__loop *loop, const struct blx__vm_sim_options *options, struct blx__vm_driver **out,
                         blx_error *err) {
  struct sim *s = sim_new(loop, err);
  if (!s) return (blx__rc){BLX_E_NOMEM};
  s->own = *options;
  s->opt = &s->own;
  *out = &s->base;
  return BLX__OK;
}

blx__rc blx__vm_sim_open_on(struct blx__loop *loop, struct blx__vm_sim_host *host, struct blx__vm_driver **out,
                            blx_error *err) {
  struct sim *s = sim_new(loop, err);
  if (!s) return (blx__rc){BLX_E_NOMEM};
  s->opt = &host->options;
  s->host = host;
  blx__rc rc = host_take(s, err);
  if (rc.code != 0) {
    while (s->instances.count > 0) instance_free(blx__map_value(blx__map_seek(&s->instances, NULL, 0)));
    free(s);
    return rc;
  }
  *out = &s->base;
  return BLX__OK;
}

bool blx__vm_sim_end(struct blx__vm_driver *sim, const struct blx__vm_key *key, int32_t exit_status, int32_t signal) {
  struct sim_instance *in = sim_find(sim_of(sim), key);
  if (!in || !sim_runs(in)) return false;
  ended(in, exit_status, signal, "the simulated monitor ended");
  return true;
}

size_t blx__vm_sim_running(const struct blx__vm_driver *sim) {
  const struct sim *s = BLX__CONTAINER(sim, const struct sim, base);
  size_t n = 0;
  BLX__MAP_FOREACH(pos, &s->instances) n += sim_runs(blx__map_value(pos)) ? 1 : 0;
  return n;
}
