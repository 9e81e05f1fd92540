/* In which order the instances that wait have their turn: by priority; inside one priority first the one that has
 * waited for long and longest; then the tenant that has the smallest dominant share at that moment (Ghodsi et al.,
 * Dominant Resource Fairness, 2011), and of a tenant the one that waits longest. */
#include "control/control_int.h"
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

enum { PATIENCE = 16 };

struct item {
  const struct blx_instance *i;
  const char *tenant;
  uint64_t since_ms;
  uint32_t priority;
};

/* The instances of one tenant, by age; they lie together. */
struct lane {
  size_t at, end;
  uint64_t share;
};

struct queue {
  struct blx__control *c;
  uint64_t now_ms;
  struct item *items;
  size_t n, level_end; /* items; where the present priority ends among them */
  struct lane *heap;   /* of the present priority; the one whose turn it is in front */
  size_t n_lanes;
  bool taken;        /* the front lane gave the last one: its share may have changed */
  unsigned patience; /* how many more of this priority may be let in for their age */
  bool patient, cut;
};

/* ---- order */

static int by_turn(const void *a, const void *b) {
  const struct item *x = a, *y = b;
  if (x->priority != y->priority) return x->priority > y->priority ? -1 : 1;
  int tenant = strcmp(x->tenant, y->tenant);
  if (tenant != 0) return tenant;
  if (x->since_ms != y->since_ms) return x->since_ms < y->since_ms ? -1 : 1;
  return x->i->uid < y->i->uid ? -1 : x->i->uid > y->i->uid;
}

static bool older(const struct item *a, const struct item *b) {
  return a->since_ms != b->since_ms ? a->since_ms < b->since_ms : a->i->uid < b->i->uid;
}

static bool goes_before(const struct queue *q, const struct lane *a, const struct lane *b) {
  return a->share != b->share ? a->share < b->share : older(&q->items[a->at], &q->items[b->at]);
}

static void swap(struct lane *a, struct lane *b) {
  struct lane t = *a;
  *a = *b;
  *b = t;
}

static void sift_down(struct queue *q, size_t at) {
  for (;;) {
    size_t least = at, left = 2 * at + 1, right = left + 1;
    if (left < q->n_lanes && goes_before(q, &q->heap[left], &q->heap[least])) least = left;
    if (right < q->n_lanes && goes_before(q, &q->heap[right], &q->heap[least])) least = right;
    if (least == at) return;
    swap(&q->heap[at], &q->heap[least]);
    at = least;
  }
}

static void drop_lane(struct queue *q, size_t at) {
  BLX__ASSERT(at < q->n_lanes);
  q->heap[at] = q->heap[--q->n_lanes];
}

static void heapify(struct queue *q) {
  for (size_t at = q->n_lanes / 2; at-- > 0;) sift_down(q, at);
}

/* ---- one priority after another */

static uint64_t share_of(const struct queue *q, const char *tenant) {
  const struct view_tenant *t = blx__map_get_str(&q->c->tenants, tenant);
  return t ? blx__view_share(q->c, t) : 0;
}

/* The lanes of the priority that begins at items[level_end]. */
static void begin_level(struct queue *q) {
  size_t at = q->level_end;
  q->n_lanes = 0;
  q->patience = PATIENCE;
  while (at < q->n && q->items[at].priority == q->items[q->level_end].priority) {
    struct lane *l = &q->heap[q->n_lanes++];
    *l = (struct lane){.at = at, .share = share_of(q, q->items[at].tenant)};
    while (at < q->n && q->items[at].priority == q->items[l->at].priority &&
           strcmp(q->items[at].tenant, q->items[l->at].tenant) == 0)
      at++;
    l->end = at;
  }
  q->level_end = at;
  heapify(q);
}

static void update_lane(struct queue *q, size_t at) {
  if (q->heap[at].at == q->heap[at].end)
    drop_lane(q, at);
  else
    q->heap[at].share = share_of(q, q->items[q->heap[at].at].tenant);
}

/* The oldest of this priority, if it has waited for long. */
static const struct item *take_patient(struct queue *q) {
  size_t oldest = 0;
  for (size_t i = 1; i < q->n_lanes; i++)
    if (older(&q->items[q->heap[i].at], &q->items[q->heap[oldest].at])) oldest = i;
  const struct item *it = &q->items[q->heap[oldest].at];
  if (q->now_ms < it->since_ms || q->now_ms - it->since_ms < BLX__CONTROL_PATIENT_MS) return NULL;
  q->heap[oldest].at++;
  update_lane(q, oldest);
  heapify(q);
  return it;
}

const struct blx_instance *blx__queue_next(struct queue *q) {
  if (q->taken) {
    update_lane(q, 0);
    sift_down(q, 0);
  }
  q->taken = false;
  if (q->n_lanes == 0 && q->level_end < q->n) begin_level(q);
  if (q->n_lanes == 0) return NULL;
  const struct item *it = q->patience > 0 ? take_patient(q) : NULL;
  q->patient = it != NULL;
  q->patience -= q->patience > 0 && it;
  if (it) return it->i;
  q->patience = 0;
  q->taken = true;
  return q->items[q->heap[0].at++].i;
}

void blx__queue_content(struct queue *q) {
  q->patience = 0;
}

bool blx__queue_is_patient(const struct queue *q) {
  return q->patient;
}

bool blx__queue_cut(const struct queue *q) {
  return q->cut;
}

/* ---- what is looked at in this step */

static void add(struct queue *q, const struct blx_vm *vm, const struct blx_instance *i) {
  struct item *it = &q->items[q->n++];
  it->i = i;
  it->tenant = vm->tenant && vm->tenant[0] ? vm->tenant : "default";
  it->priority = vm->spec->priority;
  it->since_ms = i->not_before_ms > i->phase_since_ms ? i->not_before_ms : i->phase_since_ms;
}

/* The highest uid, or nearly, of that priority that is due since ever; halving steps find it without a walk. */
static uint64_t last_uid_due_at_once(const struct blx__state *st, uint64_t now_ms, uint32_t priority) {
  uint64_t last = 0;
  for (uint64_t step = UINT64_C(1) << 62; step > 0; step /= 2) {
    struct blx__state_ready at = {.begun = true, .priority = priority, .uid = last + step};
    const struct blx_instance *i = blx__state_ready_next(st, now_ms, &at);
    if (i && at.priority == priority && at.due_ms == 0) last = at.uid;
  }
  return last;
}

/* A place behind @at, drawn from the time, so that the turn of each comes without anything being remembered. */
static struct blx__state_ready drawn_after(const struct blx__control_input *in, struct blx__state_ready at) {
  uint64_t draw = blx__mix64(in->now_ms);
  struct blx__state_ready to = {.begun = true, .priority = at.priority};
  if ((draw & 1) != 0) to.priority = (uint32_t)(draw >> 32) % (at.priority + 1);
  if (to.priority != at.priority) at.due_ms = at.uid = 0;
  if ((draw & 2) != 0) {
    to.due_ms = at.due_ms + (draw >> 2) % (in->now_ms - at.due_ms + 1);
  } else {
    uint64_t last = last_uid_due_at_once(in->st, in->now_ms, to.priority);
    to.uid = at.due_ms > 0 || last <= at.uid ? 0 : at.uid + (draw >> 2) % (last - at.uid);
  }
  return to;
}

/* When more wait than one step looks at, a quarter of those it looks at are drawn. */
static void gather(struct queue *q, const struct blx__control_input *in, size_t most) {
  struct blx__state_ready at = {0};
  const struct blx_instance *i;
  bool more = blx__state_counts(in->st).waiting > most;
  size_t first = more ? most - most / 4 : most;
  while (q->n < first && (i = blx__state_ready_next(in->st, in->now_ms, &at)) != NULL)
    add(q, blx__state_vm(in->st, i->vm_uid), i);
  if (!more || q->n < first) return;
  q->cut = true;
  struct blx__state_ready last = at;
  at = drawn_after(in, at);
  while (q->n < most && (i = blx__state_ready_next(in->st, in->now_ms, &at)) != NULL) {
    bool again = at.priority == last.priority
                     ? at.due_ms < last.due_ms || (at.due_ms == last.due_ms && at.uid <= last.uid)
                     : at.priority > last.priority;
    if (!again) add(q, blx__state_vm(in->st, i->vm_uid), i);
  }
}

blx__rc blx__queue_new(struct blx__control *c, const struct blx__control_input *in, const struct blx__guests *guests,
                       struct blx__arena *arena, struct queue **out, blx_error *err) {
  const struct blx__state *st = in->st;
  size_t most = blx__state_counts(st).waiting, more = guests ? guests->n : 0;
  if (most > BLX__CONTROL_LOOK_MAX) most = BLX__CONTROL_LOOK_MAX;
  struct queue *q = blx__arena_alloc(arena, sizeof *q);
  if (q) q->items = blx__arena_alloc(arena, (most + more + 1) * sizeof *q->items);
  if (q) q->heap = blx__arena_alloc(arena, (most + more + 1) * sizeof *q->heap);
  if (!q || !q->items || !q->heap)
    return blx__fail(err, BLX_E_NOMEM, "control", "a step does not fit into %zu bytes", arena->limit_bytes);
  q->c = c;
  q->now_ms = in->now_ms;
  gather(q, in, most);
  for (size_t k = 0; k < more; k++) add(q, guests->vm, &guests->list[k]);
  qsort(q->items, q->n, sizeof *q->items, by_turn);
  *out = q;
  return BLX__OK;
}

const struct blx_instance *blx__queue_look(const struct queue *q, size_t at) {
  return at < q->n ? q->items[at].i : NULL;
}
