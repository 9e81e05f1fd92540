/* What instances use, measured when somebody asks. */
#include "vm/vm_int.h"

#include "io/work.h"
#include "vm/cgroup.h"

#include <stdlib.h>
#include <string.h>

static const char origin[] = "vm/stats";

/* A snapshot under way: a worker measures while the shims ask their monitors; it is over when both are done. */
struct sample {
  struct blx__list link;
  struct microvm *m;
  blx__vm_stats_fn *done;
  void *user;
  struct blx__timer *timer; /* ends the wait for the shims */
  bool measured;            /* the worker has let go of it */
  size_t count;
  struct blx__vm_stats *rows;
  struct place {
    char id[VM_ID_MAX], cgroup[VM_ID_MAX + VM_TAG_MAX + 1]; /* cgroup empty: none is made */
    int32_t pid;
  } * places;
};

static void sample_free(struct sample *s) {
  blx__timer_free(s->timer);
  free(s->rows);
  free(s->places);
  free(s);
}

static void sample_end(struct sample *s, const blx_error *err) {
  for (size_t i = 0; i < s->count; i++) {
    const struct vm_instance *in = blx__map_get_str(&s->m->instances, s->places[i].id);
    if (in && in->counts && !in->asked) blx__counters_copy(&s->rows[i].usage, &in->counters);
  }
  blx__list_remove(&s->link);
  s->m->samples_count--;
  s->done(s->user, err, s->rows, err ? 0 : s->count);
  sample_free(s);
}

static void on_waited(void *arg) {
  sample_end(arg, NULL);
}

static void measure_work(void *arg) {
  struct sample *s = arg;
  for (size_t i = 0; i < s->count; i++) {
    const char *dirs[BLX__VM_CGROUPS_MAX];
    struct blx__vm_cgroup g = {0};
    if (s->places[i].cgroup[0]) blx__vm_cgroup_find(&g, s->places[i].cgroup);
    for (unsigned k = 0; k < g.count; k++) dirs[k] = g.path[k];
    blx__usage_read(&s->rows[i].usage, dirs, g.count, s->places[i].pid);
  }
}

static void measure_done(void *arg) {
  struct sample *s = arg;
  struct microvm *m = s->m;
  blx_error err;
  m->jobs--;
  s->measured = true;
  if (m->closing) {
    (void)blx__fail(&err, BLX_E_CANCELLED, origin, "the driver was closed");
    sample_end(s, &err);
    vm_close_check(m);
  } else {
    blx__timer_start(s->timer, m->counters_due > 0 ? VM_COUNTERS_WAIT_MS : 0, 0);
  }
}

void vm_stats_counters(struct vm_instance *in, const char *text) {
  if (!in->asked) return;
  in->asked = false;
  blx__counters_take(&in->counters, text ? text : "");
  if (--in->m->counters_due > 0) return;
  BLX__LIST_FOREACH (it, &in->m->samples) {
    struct sample *s = BLX__CONTAINER(it, struct sample, link);
    if (s->measured) blx__timer_start(s->timer, 0, 0);
  }
}

static void ask_shim(struct vm_instance *in) {
  if (!in->counts || in->asked || !vm_link_send(in, BLX__SHIM_ASK, 0)) return;
  in->asked = true;
  in->m->counters_due++;
}

static struct sample *sample_new(struct microvm *m, size_t most) {
  struct sample *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->m = m;
  s->timer = blx__timer_new(m->loop, on_waited, s);
  s->rows = calloc(most, sizeof *s->rows);
  s->places = calloc(most, sizeof *s->places);
  if (s->timer && s->rows && s->places) return s;
  sample_free(s);
  return NULL;
}

blx__rc vm_stats(struct blx__vm_driver *d, blx__vm_stats_fn *done, void *user, blx_error *err) {
  struct microvm *m = BLX__CONTAINER(d, struct microvm, base);
  if (m->closing || m->samples_count >= BLX__VM_STATS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%u snapshots of statistics are being taken: try again later",
                     m->samples_count);
  struct sample *s = sample_new(m, m->instances.count + 1);
  if (!s) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for statistics");
  s->done = done;
  s->user = user;
  BLX__MAP_FOREACH(pos, &m->instances) {
    struct vm_instance *in = blx__map_value(pos);
    if (!vm_runs(in)) continue;
    struct place *p = &s->places[s->count];
    (void)blx__str_copy(p->id, sizeof p->id, in->id);
    if (!m->opt.cgroup_none) vm_cgroup_name(in, in->ha, p->cgroup);
    p->pid = in->status.vmm_pid;
    (void)blx__str_copy(s->rows[s->count].instance, sizeof s->rows[s->count].instance, in->name);
    s->rows[s->count++].uid = in->uid;
  }
  blx__rc rc = blx__work(m->loop, measure_work, measure_done, s, err);
  if (rc.code != 0) {
    sample_free(s);
    return rc;
  }
  m->jobs++;
  m->samples_count++;
  blx__list_push(&m->samples, &s->link);
  BLX__MAP_FOREACH(pos, &m->instances) ask_shim(blx__map_value(pos));
  return BLX__OK;
}

void vm_stats_cancel(struct microvm *m) {
  blx_error err;
  (void)blx__fail(&err, BLX_E_CANCELLED, origin, "the driver was closed");
  for (struct blx__list *it = m->samples.next, *next; it != &m->samples; it = next) {
    next = it->next;
    struct sample *s = BLX__CONTAINER(it, struct sample, link);
    if (s->measured) sample_end(s, &err);
  }
}
