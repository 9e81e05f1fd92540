/* Instances of the microvm.nix driver: what is remembered of each, the completion of operations, and the driver's own
 * life. */
#include "vm/vm_int.h"

#include "io/file.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char origin[] = "vm";

const char *vm_path(const struct vm_instance *in, const char *name, char out[PATH_MAX]) {
  bool fits = blx__str_format(out, PATH_MAX, "%s/%s", in->dir, name);
  BLX__ASSERT(fits);
  return out;
}

void vm_cgroup_name(const struct vm_instance *in, bool ha, char out[VM_ID_MAX + VM_TAG_MAX + 1]) {
  bool fits = blx__str_format(out, VM_ID_MAX + VM_TAG_MAX + 1, "%s%s/%s", in->m->opt.host_tag, ha ? "-ha" : "", in->id);
  BLX__ASSERT(fits);
}

bool vm_runs(const struct vm_instance *in) {
  return in->status.state == BLX__VM_RUNNING || in->status.state == BLX__VM_READY;
}

/* ---- instances */

static void on_finish(void *arg);

static void instance_free(struct vm_instance *in) {
  BLX__ASSERT(in->holds == 0 && !in->link && !in->build && !in->shim);
  (void)blx__map_remove_str(&in->m->instances, in->id);
  blx__loop_undefer(&in->finish);
  blx__timer_free(in->timer);
  blx__timer_free(in->data_timer);
  free(in);
}

void vm_instance_settle(struct vm_instance *in) {
  bool idle = in->op == VM_OP_NONE && in->holds == 0 && !in->link;
  if (idle && !vm_runs(in) && !in->m->closing) instance_free(in);
}

static blx__rc instance_get(struct microvm *m, const struct blx__vm_key *key, struct vm_instance **out,
                            blx_error *err) {
  char id[VM_ID_MAX];
  if (m->closing) return blx__fail(err, BLX_E_CANCELLED, origin, "the driver is closing");
  if (!blx__name_ok(key->instance, 63))
    return blx__fail(err, BLX_E_INVALID, origin, "an instance's name must match " BLX__NAME_PATTERN);
  bool fits = blx__str_format(id, sizeof id, "%s-%llu", key->instance, (unsigned long long)key->uid);
  BLX__ASSERT(fits);
  struct vm_instance *in = blx__map_get_str(&m->instances, id);
  if (in) {
    *out = in;
    return BLX__OK;
  }
  if (m->instances.count >= BLX__VM_INSTANCES_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "this node handles %d instances already", BLX__VM_INSTANCES_MAX);
  in = calloc(1, sizeof *in);
  if (in) in->timer = blx__timer_new(m->loop, vm_on_timer, in);
  if (in) in->data_timer = blx__timer_new(m->loop, vm_on_data_timer, in);
  if (!in || !in->timer || !in->data_timer || !blx__map_set_str(&m->instances, id, in, NULL)) {
    if (in) blx__timer_free(in->timer);
    if (in) blx__timer_free(in->data_timer);
    free(in);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for an instance");
  }
  in->m = m;
  in->uid = key->uid;
  in->status.exit_status = -1;
  (void)blx__str_copy(in->id, sizeof in->id, id);
  (void)blx__str_copy(in->name, sizeof in->name, key->instance);
  fits = blx__str_format(in->dir, sizeof in->dir, "%s/vms/%s", m->state_dir, id);
  BLX__ASSERT(fits);
  blx__defer_init(&in->finish, on_finish, in);
  *out = in;
  return BLX__OK;
}

/* ---- events */

static void event_now(struct vm_instance *in, enum blx__vm_event event) {
  struct blx__vm_key key = {.instance = in->name, .uid = in->uid, .epoch = in->status.epoch};
  struct blx__vm_status status = in->status;
  if (in->m->opt.on_event && !in->m->closing) in->m->opt.on_event(in->m->opt.user, &key, event, &status);
}

/* What happens while start or adopt is not yet told as done is told after it. */
void vm_emit(struct vm_instance *in, enum blx__vm_event event) {
  bool hold = in->op == VM_OP_START || in->op == VM_OP_ADOPT;
  if (!hold || event == BLX__VM_EVENT_PROTOCOL)
    event_now(in, event);
  else if (event == BLX__VM_EVENT_READY)
    in->held_ready = true;
  else if (event == BLX__VM_EVENT_DATA)
    in->held_data = true;
  else
    in->held_exited = true;
}

/* ---- completion of operations */

/* A refusal has no operation to hang on. */
struct refusal {
  struct blx__defer defer;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
  blx_error err;
};

static void on_refusal(void *arg) {
  struct refusal *r = arg;
  if (r->adopted)
    r->adopted(r->user, &r->err, NULL);
  else
    r->done(r->user, &r->err);
  free(r);
}

void vm_refuse(struct microvm *m, blx__vm_done_fn *done, blx__vm_adopt_fn *adopted, void *user, const blx_error *err) {
  struct refusal *r = calloc(1, sizeof *r);
  BLX__ASSERT(r); /* a completion that cannot be delivered would hang its caller for ever */
  *r = (struct refusal){.done = done, .adopted = adopted, .user = user, .err = *err};
  blx__defer_init(&r->defer, on_refusal, r);
  blx__loop_defer(m->loop, &r->defer);
}

void vm_op_finish(struct vm_instance *in, const blx_error *err) {
  BLX__ASSERT(in->op != VM_OP_NONE && !in->finishing);
  blx__timer_stop(in->timer);
  in->finishing = true;
  in->failed = err != NULL;
  if (err) in->err = *err;
  blx__loop_defer(in->m->loop, &in->finish);
}

static void on_finish(void *arg) {
  struct vm_instance *in = arg;
  blx__vm_done_fn *done = in->done;
  blx__vm_adopt_fn *adopted = in->adopted;
  void *user = in->user;
  bool failed = in->failed, ready = in->held_ready, exited = in->held_exited, data = in->held_data;
  blx_error err = in->err;
  struct blx__vm_status status = in->status;
  enum vm_op op = in->op;
  struct microvm *m = in->m;
  in->op = VM_OP_NONE;
  in->finishing = in->held_ready = in->held_exited = in->held_data = false;
  /* Kept alive over the callbacks, which may begin the next operation on it. */
  in->holds++;
  if (adopted)
    adopted(user, failed ? &err : NULL, failed ? NULL : &status);
  else
    done(user, failed ? &err : NULL);
  if (op == VM_OP_START && !failed) {
    if (ready) event_now(in, BLX__VM_EVENT_READY);
    if (data) event_now(in, BLX__VM_EVENT_DATA);
    if (exited) event_now(in, BLX__VM_EVENT_EXITED);
  }
  in->holds--;
  vm_instance_settle(in);
  vm_close_check(m);
}

/* False: refused, and told on a later turn. */
struct vm_instance *vm_op_begin(struct microvm *m, const struct blx__vm_key *key, enum vm_op op, blx__vm_done_fn *done,
                                blx__vm_adopt_fn *adopted, void *user) {
  blx_error err;
  struct vm_instance *in = NULL;
  if (instance_get(m, key, &in, &err).code != 0) {
    vm_refuse(m, done, adopted, user, &err);
    return NULL;
  }
  bool ending = op == VM_OP_STOP || op == VM_OP_KILL || op == VM_OP_DESTROY;
  bool overtakes = (in->op == VM_OP_PREPARE && ending) || (in->op == VM_OP_STOP && op == VM_OP_KILL);
  if (overtakes && !in->finishing) {
    (void)blx__fail(&err, BLX_E_CANCELLED, origin, "the operation before on %s was overtaken", in->name);
    vm_refuse(m, in->done, NULL, in->user, &err);
    vm_build_cancel(in);
    in->op = VM_OP_NONE;
  }
  if (in->op != VM_OP_NONE || (in->build && !ending)) {
    (void)blx__fail(&err, BLX_E_BUSY, origin, "another operation on %s is under way: try again later", in->name);
    vm_refuse(m, done, adopted, user, &err);
    return NULL;
  }
  in->op = op;
  in->op_epoch = key->epoch;
  in->done = done;
  in->adopted = adopted;
  in->user = user;
  in->retries = 0;
  return in;
}

/* ---- life */

static void options_free(struct microvm *m) {
  for (unsigned i = 0; i < VM_STRINGS; i++) free(m->strings[i]);
}

static void on_closed(void *arg) {
  struct microvm *m = arg;
  void (*on_close)(void *) = m->on_close;
  void *user = m->close_user;
  blx__map_clear(&m->instances);
  options_free(m);
  free(m);
  on_close(user);
}

/* Jobs and processes point at instances, and operations have their completion to come: the driver goes after the last.
 */
void vm_close_check(struct microvm *m) {
  if (!m->closing || m->jobs > 0) return;
  BLX__MAP_FOREACH(pos, &m->instances) {
    const struct vm_instance *in = blx__map_value(pos);
    if (in->op != VM_OP_NONE || in->holds > 0) return;
  }
  struct blx__map_pos pos;
  while ((pos = blx__map_seek(&m->instances, NULL, 0)).node) instance_free(blx__map_value(pos));
  blx__loop_defer(m->loop, &m->closed);
}

void vm_close(struct blx__vm_driver *d, void (*done)(void *user), void *user) {
  struct microvm *m = BLX__CONTAINER(d, struct microvm, base);
  blx_error err;
  BLX__ASSERT(!m->closing);
  m->closing = true;
  m->on_close = done;
  m->close_user = user;
  vm_logs_end_all(m, NULL);
  vm_session_end_all(m);
  vm_stats_cancel(m);
  (void)blx__fail(&err, BLX_E_CANCELLED, origin, "the driver was closed");
  BLX__MAP_FOREACH(pos, &m->instances) {
    struct vm_instance *in = blx__map_value(pos);
    blx__timer_stop(in->timer);
    vm_link_close(in);
    vm_build_cancel(in);
    if (in->op != VM_OP_NONE && !in->finishing) vm_op_finish(in, &err);
  }
  vm_close_check(m);
}

/* A copy that is freed with the driver; NULL stays NULL. */
static bool keep(struct microvm *m, unsigned at, const char **text) {
  BLX__ASSERT(at < VM_STRINGS);
  if (!*text) return true;
  m->strings[at] = strdup(*text);
  *text = m->strings[at];
  return m->strings[at] != NULL;
}

static blx__rc check(const struct blx__vm_options *o, blx_error *err) {
  const char *paths[] = {o->state_dir,  o->shim_path,     o->runner_dir,    o->kernel_dir,
                         o->guest_path, o->nix_store_dir, o->virtiofsd_path};
  if (!o->state_dir || !o->shim_path || !o->host_tag)
    return blx__fail(err, BLX_E_INVALID, origin, "the VM driver needs a state directory, a shim and a host tag");
  if (!blx__name_ok(o->host_tag, VM_TAG_MAX - 4))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the host tag \"%.60s\" must match " BLX__NAME_PATTERN " and have at most %d bytes", o->host_tag,
                     VM_TAG_MAX - 4);
  for (unsigned i = 0; i < BLX__COUNT(paths); i++)
    if (paths[i] && (paths[i][0] != '/' || strlen(paths[i]) >= VM_PATH_MAX))
      return blx__fail(err, BLX_E_INVALID, origin, "the path %.200s must be absolute and shorter than %d bytes",
                       paths[i], VM_PATH_MAX);
  return BLX__OK;
}

/* Nix takes no store below a symbolic link: what is behind the links counts. */
static blx__rc resolve(const char *path, unsigned mode, char out[PATH_MAX], blx_error *err) {
  BLX__TRY(blx__dir_make(path, mode, err));
  if (!realpath(path, out)) return blx__fail_errno(err, errno, origin, "%s cannot be resolved", path);
  if (strlen(out) >= VM_PATH_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "the path %.200s is longer than %d bytes", out, VM_PATH_MAX - 1);
  return BLX__OK;
}

static blx__rc take_options(struct microvm *m, const struct blx__vm_options *o, blx_error *err) {
  char path[PATH_MAX], vms[PATH_MAX];
  BLX__TRY(check(o, err));
  m->opt = *o;
  BLX__TRY(resolve(o->state_dir, 0755, path, err));
  (void)blx__str_copy(m->state_dir, sizeof m->state_dir, path);
  m->opt.state_dir = m->state_dir;
  (void)blx__str_format(vms, sizeof vms, "%s/vms", path);
  BLX__TRY(blx__dir_make(vms, 0755, err));
  if (o->nix_store_dir) {
    BLX__TRY(resolve(o->nix_store_dir, 0755, path, err));
    m->opt.nix_store_dir = path;
  }
  bool kept = keep(m, 0, &m->opt.host_tag) && keep(m, 1, &m->opt.shim_path) && keep(m, 2, &m->opt.runner_dir) &&
              keep(m, 3, &m->opt.kernel_dir) && keep(m, 4, &m->opt.guest_path) && keep(m, 5, &m->opt.nix_store_dir) &&
              keep(m, 6, &m->opt.nix_path) && keep(m, 7, &m->opt.nixpkgs_ref) && keep(m, 8, &m->opt.microvm_ref) &&
              keep(m, 9, &m->opt.share_paths) && keep(m, 10, &m->opt.virtiofsd_path);
  return kept ? BLX__OK : blx__fail(err, BLX_E_NOMEM, origin, "no memory for the VM driver");
}

blx__rc vm_open(struct blx__loop *loop, const struct blx__vm_options *options, const struct blx__vm_ops *ops,
                struct blx__vm_driver **out, blx_error *err) {
  struct microvm *m = calloc(1, sizeof *m);
  if (!m) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for the VM driver");
  m->base.ops = ops;
  m->loop = loop;
  blx__list_init(&m->builds);
  blx__list_init(&m->logs);
  blx__list_init(&m->sessions);
  blx__list_init(&m->held);
  blx__list_init(&m->samples);
  blx__defer_init(&m->closed, on_closed, m);
  blx__rc rc = take_options(m, options, err);
  if (rc.code != 0) {
    options_free(m);
    free(m);
    return rc;
  }
  *out = &m->base;
  return BLX__OK;
}
