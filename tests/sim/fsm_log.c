/* The simplest state machine: it keeps the ids of what it applied, in order. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

struct log_fsm {
  uint64_t *ids;
  size_t count, cap;
  struct blx__map places; /* id -> place + 1 */
  bool doubled;
};

static void *log_create(void) {
  return calloc(1, sizeof(struct log_fsm));
}

static void log_destroy(void *self) {
  struct log_fsm *f = self;
  blx__map_clear(&f->places);
  free(f->ids);
  free(f);
}

static void add(struct log_fsm *f, uint64_t id) {
  if (f->count == f->cap) {
    f->cap = f->cap ? f->cap * 2 : 256;
    f->ids = realloc(f->ids, f->cap * sizeof *f->ids);
    BLX__ASSERT(f->ids != NULL);
  }
  f->ids[f->count++] = id;
  void *old = NULL;
  bool kept = blx__map_set_u64(&f->places, id, (void *)(uintptr_t)f->count, &old);
  BLX__ASSERT(kept);
  if (old) f->doubled = true;
}

static void log_begin(void *user, uint64_t index, uint64_t time_ms) {
  (void)user;
  (void)index;
  (void)time_ms;
}

static void log_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  struct log_fsm *f = user;
  uint64_t id = 0;
  BLX__ASSERT(op.len >= sizeof id);
  memcpy(&id, op.data, sizeof id);
  add(f, id);
  bool answered = !result || blx__buf_add(result, &id, sizeof id);
  BLX__ASSERT(answered);
}

static void log_end(void *user) {
  (void)user;
}

struct log_frozen {
  size_t count;
  uint64_t ids[];
};

static void *log_freeze(void *user, blx_error *err) {
  struct log_fsm *f = user;
  (void)err;
  struct log_frozen *z = malloc(sizeof *z + f->count * sizeof *f->ids);
  BLX__ASSERT(z != NULL);
  z->count = f->count;
  if (f->count) memcpy(z->ids, f->ids, f->count * sizeof *f->ids);
  return z;
}

static blx__rc log_write(void *frozen, struct blx__buf *out, blx_error *err) {
  const struct log_frozen *z = frozen;
  if (blx__buf_add(out, z->ids, z->count * sizeof *z->ids)) return BLX__OK;
  return blx__fail(err, BLX_E_NOMEM, "sim", "no memory for a snapshot of %zu ids", z->count);
}

static void log_thaw(void *user, void *frozen) {
  (void)user;
  free(frozen);
}

static blx__rc log_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  struct log_fsm *f = user;
  if (snapshot.len % sizeof(uint64_t) != 0)
    return blx__fail(err, BLX_E_CORRUPT, "sim", "a snapshot of %zu bytes", snapshot.len);
  blx__map_clear(&f->places);
  f->count = 0;
  f->doubled = false;
  for (size_t i = 0; i < snapshot.len; i += sizeof(uint64_t)) {
    uint64_t id = 0;
    memcpy(&id, snapshot.data + i, sizeof id);
    add(f, id);
  }
  return BLX__OK;
}

static void log_bind(void *self, struct blx__fsm *out) {
  *out = (struct blx__fsm){.user = self,
                           .begin = log_begin,
                           .apply = log_apply,
                           .end = log_end,
                           .freeze = log_freeze,
                           .write = log_write,
                           .thaw = log_thaw,
                           .restore = log_restore};
}

static bool log_make_op(struct blx__sim_rng *r, uint64_t id, struct blx__buf *out) {
  static const uint8_t filler[200] = {1};
  return blx__buf_add(out, &id, sizeof id) && blx__buf_add(out, filler, (size_t)blx__sim_rng_in(r, 0, sizeof filler));
}

static bool log_has(void *self, uint64_t id) {
  return blx__map_get_u64(&((struct log_fsm *)self)->places, id) != NULL;
}

static const char *log_check(void *self) {
  return ((struct log_fsm *)self)->doubled ? "an operation was applied twice" : NULL;
}

const struct sim_fsm sim_fsm_log = {.name = "log",
                                    .create = log_create,
                                    .destroy = log_destroy,
                                    .bind = log_bind,
                                    .make_op = log_make_op,
                                    .has = log_has,
                                    .check = log_check};
