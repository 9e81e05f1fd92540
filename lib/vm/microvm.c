/* The driver of microvm.nix's runners: the operations on an instance, each a short chain of a look at its directory, a
 * process or a message to its shim. The order of microvm.nix's own units is kept: build, link `booted`, start; `booted`
 * goes when the instance does. */
#include "vm/vm_int.h"

#include "base/failpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char origin[] = "vm";

enum { ARGS_MAX = 32, NUMBER_MAX = 24, SHIM_OUTPUT_MAX = 1024 };

static struct microvm *microvm_of(struct blx__vm_driver *d) {
  return BLX__CONTAINER(d, struct microvm, base);
}

static void op_fail(struct vm_instance *in, int code, const char *sentence) {
  blx_error err;
  (void)blx__fail(&err, code, origin, "%s", sentence);
  vm_op_finish(in, &err);
}

/* ---- what the monitor does */

/* An operation that waits for its shim; the others take what happens to the monitor as news only. */
static bool op_waits(const struct vm_instance *in) {
  bool ours = in->op == VM_OP_START || in->op == VM_OP_ADOPT || in->op == VM_OP_STOP || in->op == VM_OP_KILL ||
              in->op == VM_OP_PAUSE;
  return ours && !in->finishing;
}

void vm_set_exited(struct vm_instance *in, const struct blx__shim_msg *m) {
  struct blx__vm_status *s = &in->status;
  bool was_running = vm_runs(in) || in->link;
  enum vm_op op = op_waits(in) ? in->op : VM_OP_NONE;
  vm_link_close(in);
  blx__timer_stop(in->timer);
  s->state = BLX__VM_EXITED;
  if (m->epoch != 0) s->epoch = m->epoch;
  s->exit_status = m->exit_status;
  s->signal = m->signal;
  s->vmm_pid = 0;
  s->paused = false;
  s->stopping = (m->flags & BLX__SHIM_STOPPING) != 0;
  s->reset = (m->flags & BLX__SHIM_RESET) != 0;
  (void)blx__str_copy(s->text, sizeof s->text, m->text);
  /* A start that did not get so far fails instead, and an adoption says it in its status. */
  if (was_running && op != VM_OP_START && op != VM_OP_ADOPT) vm_emit(in, BLX__VM_EVENT_EXITED);
  if (op == VM_OP_NONE)
    vm_instance_settle(in);
  else if (in->finishing)
    return; /* the agent closed the driver in that event */
  else if (op == VM_OP_START)
    op_fail(in, BLX_E_IO, s->text);
  else if (op == VM_OP_PAUSE)
    op_fail(in, BLX_E_NOT_FOUND, s->text);
  else
    vm_op_finish(in, NULL);
}

static void on_seen(struct vm_instance *in, const struct vm_view *v, const blx_error *err);

static void ask_for_end(struct vm_instance *in) {
  if (in->op == VM_OP_KILL) {
    (void)vm_link_send(in, BLX__SHIM_KILL, 0);
    blx__timer_start(in->timer, VM_OVERTIME_MS, 0);
    return;
  }
  (void)vm_link_send(in, BLX__SHIM_STOP, in->deadline_ms);
  blx__failpoint(BLX__FAILPOINT_STOP_SENT);
  blx__timer_start(in->timer, (uint64_t)in->deadline_ms + VM_OVERTIME_MS, 0);
}

static void ask_for_pause(struct vm_instance *in) {
  (void)vm_link_send(in, in->pause_wanted ? BLX__SHIM_PAUSE : BLX__SHIM_RESUME, 0);
  blx__timer_start(in->timer, BLX__VM_PAUSE_MS, 0);
}

void vm_on_paused(struct vm_instance *in) {
  if (in->op == VM_OP_PAUSE && !in->finishing && in->status.paused == in->pause_wanted) vm_op_finish(in, NULL);
}

void vm_on_linked(struct vm_instance *in) {
  if (in->finishing) return;
  switch (in->op) {
  case VM_OP_START:
  case VM_OP_ADOPT: vm_op_finish(in, NULL); return;
  case VM_OP_STOP:
  case VM_OP_KILL: ask_for_end(in); return;
  case VM_OP_PAUSE: ask_for_pause(in); return;
  case VM_OP_NONE:
  case VM_OP_PREPARE:
  case VM_OP_DESTROY: return;
  }
}

static void on_seen(struct vm_instance *in, const struct vm_view *v, const blx_error *err);

/* One timer, since only one of these can be waited for at a time. */
void vm_on_timer(void *arg) {
  struct vm_instance *in = arg;
  blx_error err;
  if (!in->link) {
    vm_inspect(in, on_seen); /* again: the shim may have ended meanwhile */
    return;
  }
  if (in->greeted && in->op == VM_OP_PAUSE) {
    char text[160];
    (void)blx__str_format(text, sizeof text, "the monitor of %.64s did not %s within %d s", in->name,
                          in->pause_wanted ? "pause" : "resume", BLX__VM_PAUSE_MS / 1000);
    op_fail(in, BLX_E_TIMEOUT, text);
    return;
  }
  if (in->greeted) {
    /* The shim had its deadline and more: its death is the monitor's. */
    vm_link_kill_shim(in);
    return;
  }
  bool ending = in->op == VM_OP_STOP || in->op == VM_OP_KILL;
  if (ending) vm_link_kill_shim(in);
  vm_link_close(in);
  if (ending) {
    blx__timer_start(in->timer, VM_LINK_RETRY_MS, 0);
    return;
  }
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, origin, "the shim of %s does not answer", in->name);
  vm_on_link_failed(in, &err);
}

void vm_on_link_failed(struct vm_instance *in, const blx_error *err) {
  blx__timer_stop(in->timer);
  if (op_waits(in)) {
    vm_op_finish(in, err);
    return;
  }
  if (!vm_runs(in)) return;
  /* Not known to be dead: the agent hears that, and may kill it. */
  (void)blx__str_copy(in->status.text, sizeof in->status.text, err->message);
  vm_emit(in, BLX__VM_EVENT_PROTOCOL);
}

/* The shim is gone and did not say that its monitor ended. A look kills what is left, and finds or writes the record.
 */
void vm_on_link_lost(struct vm_instance *in) {
  blx__timer_stop(in->timer);
  in->retries = 0;
  vm_inspect(in, on_seen);
}

static void seen_without_op(struct vm_instance *in, const struct vm_view *v, const blx_error *err) {
  if (err)
    vm_on_link_failed(in, err);
  else if (v->recorded)
    vm_set_exited(in, &v->record);
  else if (v->locked && vm_runs(in) && !in->link)
    vm_link_open(in);
  else
    vm_instance_settle(in);
}

static void seen_for_op(struct vm_instance *in, const struct vm_view *v) {
  if (v->locked) {
    in->ha = in->ha || v->ha;
    in->status.local_data = in->status.local_data || v->local_data;
    if (!in->link) vm_link_open(in);
    return;
  }
  if (in->op == VM_OP_ADOPT) {
    in->status = (struct blx__vm_status){.exit_status = -1, .local_data = v->local_data};
    in->status.state = v->dir && v->prepared ? BLX__VM_PREPARED : BLX__VM_ABSENT;
  }
  if (in->op == VM_OP_START && !v->recorded)
    op_fail(in, BLX_E_IO, "the shim ended without a word");
  else if (v->recorded && (vm_runs(in) || in->op == VM_OP_ADOPT || in->op == VM_OP_START))
    vm_set_exited(in, &v->record);
  else
    vm_op_finish(in, NULL);
}

/* The end of every look: it goes on with the operation that is under way. */
static void on_seen(struct vm_instance *in, const struct vm_view *v, const blx_error *err) {
  struct microvm *m = in->m;
  if (m->closing) {
    vm_close_check(m);
    return;
  }
  if (!op_waits(in))
    seen_without_op(in, v, err);
  else if (err)
    vm_op_finish(in, err);
  else
    seen_for_op(in, v);
}

/* ---- the operations */

static blx__rc mv_supported(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx_error *err) {
  (void)d;
  BLX__TRY(blx__vm_hypervisor_check(desc->hypervisor, desc->vcpus, desc->memory_mib, err));
  bool flake = desc->flake && desc->flake[0], config = desc->config && desc->config_len > 0;
  if (flake == config)
    return blx__fail(err, BLX_E_INVALID, origin, "%s needs a flake or a module, one of the two", desc->key.instance);
  return BLX__OK;
}

static void mv_prepare(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct microvm *m = microvm_of(d);
  blx_error err;
  if (mv_supported(d, desc, &err).code != 0) {
    vm_refuse(m, done, NULL, user, &err);
    return;
  }
  struct vm_instance *in = vm_op_begin(m, &desc->key, VM_OP_PREPARE, done, NULL, user);
  if (in && vm_build_begin(in, desc, &err).code != 0) vm_op_finish(in, &err);
}

struct strings {
  const char *at[ARGS_MAX + 1];
  unsigned count;
};

static void add(struct strings *s, const char *name, const char *value) {
  BLX__ASSERT(s->count + 2 <= ARGS_MAX);
  s->at[s->count++] = name;
  if (value) s->at[s->count++] = value;
}

static void on_shim_exit(void *user, int exit_status, int signal, bool timed_out, struct blx__slice tail) {
  struct vm_instance *in = user;
  struct microvm *m = in->m;
  in->shim = NULL;
  in->holds--;
  m->jobs--;
  /* It goes into the background once its monitor runs; success means just that. */
  if (exit_status == 0) blx__failpoint(BLX__FAILPOINT_START_SHIM);
  if (exit_status == 0 && op_waits(in)) vm_inspect(in, on_seen);
  if (exit_status != 0 && op_waits(in)) {
    char text[BLX__VM_TEXT_MAX + 1];
    size_t n = tail.len < sizeof text - 1 ? tail.len : sizeof text - 1;
    if (n > 0) memcpy(text, tail.data, n);
    while (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    bool coded = exit_status > VM_SHIM_CODE_BASE && exit_status < VM_SHIM_CODE_BASE + 32;
    if (n == 0)
      (void)blx__str_format(text, sizeof text, "blixard-shim ended with status %d, signal %d%s", exit_status, signal,
                            timed_out ? ", since it took too long" : "");
    op_fail(in, coded ? VM_SHIM_CODE_BASE - exit_status : BLX_E_IO, text);
  }
  vm_close_check(m);
}

static blx__rc spawn_shim(struct vm_instance *in, blx_error *err) {
  const struct microvm *m = in->m;
  char number[7][NUMBER_MAX], cgroup[VM_ID_MAX + VM_TAG_MAX + 1];
  const uint64_t values[7] = {in->uid,        in->op_epoch,   in->memory_mib,     in->vcpus,
                              m->opt.vmm_uid, m->opt.vmm_gid, in->start_before_ms};
  for (unsigned i = 0; i < BLX__COUNT(values); i++)
    (void)blx__str_format(number[i], sizeof number[i], "%llu", (unsigned long long)values[i]);
  vm_cgroup_name(in, in->ha, cgroup);
  struct strings argv = {0};
  add(&argv, m->opt.shim_path, NULL);
  add(&argv, "--dir", in->dir);
  add(&argv, "--instance", in->name);
  add(&argv, "--uid", number[0]);
  add(&argv, "--epoch", number[1]);
  add(&argv, "--memory-mib", number[2]);
  add(&argv, "--vcpus", number[3]);
  add(&argv, "--vmm-uid", number[4]);
  add(&argv, "--vmm-gid", number[5]);
  if (!m->opt.cgroup_none) add(&argv, "--cgroup", cgroup);
  if (m->opt.vmm_user_optional) add(&argv, "--vmm-user-optional", NULL);
  if (m->opt.cgroup_required || in->ha) add(&argv, "--cgroup-required", NULL);
  if (in->start_before_ms != 0) add(&argv, "--start-before-ms", number[6]);
  if (in->ready_none) add(&argv, "--ready-none", NULL);
  if (m->opt.share_paths) add(&argv, "--share-paths", m->opt.share_paths);
  if (m->opt.virtiofsd_path) add(&argv, "--virtiofsd", m->opt.virtiofsd_path);
  add(&argv, "--lock-fd", "3");
  struct blx__process_spec spec = {
      .argv = argv.at, .new_session = true, .output_max = SHIM_OUTPUT_MAX, .deadline_ms = VM_SHIM_START_MS};
  BLX__TRY(vm_lock_take(in, &spec.lend_fd, err));
  blx__rc rc = blx__process_spawn(m->loop, &spec, on_shim_exit, in, &in->shim, err);
  (void)close(spec.lend_fd);
  return rc;
}

/* Nothing runs here, as far as the directory tells, and what an earlier monitor left is dead. */
static void on_start_seen(struct vm_instance *in, const struct vm_view *v, const blx_error *err) {
  struct microvm *m = in->m;
  blx_error why;
  if (in->op != VM_OP_START || in->finishing) {
    vm_close_check(m);
    return;
  }
  if (err) {
    vm_op_finish(in, err);
    return;
  }
  if (v->locked) {
    (void)blx__fail(&why, BLX_E_CONFLICT, origin, "%s runs already", in->name);
    vm_op_finish(in, &why);
    return;
  }
  if (vm_boot_link(in, &why).code != 0 || spawn_shim(in, &why).code != 0) {
    vm_op_finish(in, &why);
    return;
  }
  in->spawned = true;
  in->holds++;
  m->jobs++;
  blx__failpoint(BLX__FAILPOINT_START_SPAWNED);
}

static void mv_start(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user) {
  struct vm_instance *in = vm_op_begin(microvm_of(d), &desc->key, VM_OP_START, done, NULL, user);
  blx_error err;
  if (!in) return;
  if (vm_runs(in)) {
    (void)blx__fail(&err, BLX_E_CONFLICT, origin, "%s runs already", in->name);
    vm_op_finish(in, &err);
    return;
  }
  if (blx__vm_hypervisor_check(desc->hypervisor, desc->vcpus, desc->memory_mib, &err).code != 0) {
    vm_op_finish(in, &err);
    return;
  }
  in->memory_mib = desc->memory_mib ? desc->memory_mib : VM_MEMORY_UNKNOWN_MIB;
  in->vcpus = desc->vcpus ? desc->vcpus : 1;
  in->ready_none = desc->ready_none;
  in->ha = desc->ha;
  in->start_before_ms = desc->start_before_ms;
  if (in->ha && in->m->opt.cgroup_none) {
    op_fail(in, BLX_E_UNSUPPORTED, "without control groups nothing runs highly available here");
    return;
  }
  in->spawned = false;
  in->status = (struct blx__vm_status){.state = BLX__VM_PREPARED, .exit_status = -1};
  vm_inspect(in, on_start_seen);
}

static void end_op(struct blx__vm_driver *d, const struct blx__vm_key *key, enum vm_op op, uint32_t deadline_ms,
                   blx__vm_done_fn *done, void *user) {
  struct vm_instance *in = vm_op_begin(microvm_of(d), key, op, done, NULL, user);
  if (!in) return;
  in->deadline_ms = deadline_ms;
  if (in->link && in->greeted)
    ask_for_end(in);
  else
    vm_inspect(in, on_seen);
}

static void mv_stop(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t deadline_ms,
                    blx__vm_done_fn *done, void *user) {
  end_op(d, key, VM_OP_STOP, deadline_ms, done, user);
}

static void mv_kill(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  end_op(d, key, VM_OP_KILL, 0, done, user);
}

static void mv_pause(struct blx__vm_driver *d, const struct blx__vm_key *key, bool paused, blx__vm_done_fn *done,
                     void *user) {
  struct vm_instance *in = vm_op_begin(microvm_of(d), key, VM_OP_PAUSE, done, NULL, user);
  if (!in) return;
  in->pause_wanted = paused;
  if (!vm_runs(in))
    op_fail(in, BLX_E_NOT_FOUND, "it does not run");
  else if (in->status.paused == paused)
    vm_op_finish(in, NULL);
  else if (in->link && in->greeted)
    ask_for_pause(in);
  else
    vm_inspect(in, on_seen);
}

static void on_removed(struct vm_instance *in, const blx_error *err) {
  struct microvm *m = in->m;
  if (!err) {
    in->status = (struct blx__vm_status){.state = BLX__VM_ABSENT, .exit_status = -1};
    vm_logs_end_all(m, in->id);
  }
  vm_op_finish(in, err);
  vm_close_check(m);
}

static void mv_destroy(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user) {
  struct vm_instance *in = vm_op_begin(microvm_of(d), key, VM_OP_DESTROY, done, NULL, user);
  blx_error err;
  if (!in || in->build) return; /* the build that was cancelled ends first */
  if (vm_runs(in)) {
    (void)blx__fail(&err, BLX_E_CONFLICT, origin, "%s runs: stop it first", in->name);
    vm_op_finish(in, &err);
    return;
  }
  vm_remove(in, on_removed);
}

void vm_on_build_gone(struct vm_instance *in) {
  if (in->op == VM_OP_DESTROY && !in->finishing) vm_remove(in, on_removed);
}

static void mv_adopt(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_adopt_fn *done, void *user) {
  struct vm_instance *in = vm_op_begin(microvm_of(d), key, VM_OP_ADOPT, NULL, done, user);
  if (!in) return;
  if (in->link && in->greeted)
    vm_op_finish(in, NULL);
  else
    vm_inspect(in, on_seen);
}

static blx__rc mv_logs(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                       blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user,
                       struct blx__vm_logs **out, blx_error *err) {
  return vm_logs_open(microvm_of(d), key, tail_lines, follow, on_bytes, on_end, user, out, err);
}

static void mv_logs_close(struct blx__vm_driver *d, struct blx__vm_logs *logs) {
  (void)d;
  vm_logs_free(logs);
}

static blx__rc mv_session_open(struct blx__vm_driver *d, const struct blx__vm_key *key,
                               const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                               void *user, struct blx__vm_session **out, blx_error *err) {
  return vm_session_open(microvm_of(d), key, spec, events, user, out, err);
}

static bool mv_session_write(struct blx__vm_driver *d, struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  (void)d;
  return vm_session_write(s, bytes, n);
}

static void mv_session_resize(struct blx__vm_driver *d, struct blx__vm_session *s, uint16_t rows, uint16_t columns) {
  (void)d;
  vm_session_resize(s, rows, columns);
}

static void mv_session_close(struct blx__vm_driver *d, struct blx__vm_session *s) {
  (void)d;
  vm_session_close(s);
}

static const struct blx__vm_ops microvm_ops = {
    .name = "microvm.nix",
    .supported = mv_supported,
    .prepare = mv_prepare,
    .start = mv_start,
    .stop = mv_stop,
    .kill = mv_kill,
    .pause = mv_pause,
    .destroy = mv_destroy,
    .adopt = mv_adopt,
    .logs = mv_logs,
    .logs_close = mv_logs_close,
    .session_open = mv_session_open,
    .session_write = mv_session_write,
    .session_resize = mv_session_resize,
    .session_close = mv_session_close,
    .stats = vm_stats,
    .close = vm_close,
};

blx__rc blx__vm_microvm_open(struct blx__loop *loop, const struct blx__vm_options *options, struct blx__vm_driver **out,
                             blx_error *err) {
  return vm_open(loop, options, &microvm_ops, out, err);
}
