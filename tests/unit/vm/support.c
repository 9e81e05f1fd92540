#include "support.h"

#include <check.h>
#include <string.h>

static void on_deadline(void *arg) {
  struct bench *b = arg;
  b->late = true;
  blx__loop_stop(b->loop);
}

void bench_open(struct bench *b) {
  *b = (struct bench){0};
  ck_assert_int_eq(blx__loop_new(&b->loop, NULL).code, 0);
  b->deadline = blx__timer_new(b->loop, on_deadline, b);
  ck_assert_ptr_nonnull(b->deadline);
}

void bench_turn(struct bench *b) {
  blx__timer_start(b->deadline, BENCH_DEADLINE_MS, 0);
  blx__loop_run(b->loop);
  blx__timer_stop(b->deadline);
  ck_assert_msg(!b->late, "nothing came within %d ms", BENCH_DEADLINE_MS);
}

static void on_close(void *user) {
  struct bench *b = user;
  b->driver = NULL;
  blx__loop_stop(b->loop);
}

void bench_close(struct bench *b) {
  if (b->driver) b->driver->ops->close(b->driver, on_close, b);
  while (b->driver) bench_turn(b);
  blx__timer_free(b->deadline);
  blx__loop_free(b->loop);
}

void bench_event(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                 const struct blx__vm_status *status) {
  struct bench *b = user;
  ck_assert_uint_lt(b->event_count, BENCH_EVENTS_MAX);
  b->events[b->event_count].event = event;
  b->events[b->event_count].uid = key->uid;
  b->events[b->event_count].epoch = key->epoch;
  b->events[b->event_count++].status = *status;
  blx__loop_stop(b->loop);
}

void bench_done(void *user, const blx_error *err) {
  struct waited *w = user;
  w->times++;
  w->failed = err != NULL;
  if (err) w->err = *err;
  w->events_before = w->bench->event_count;
  blx__loop_stop(w->bench->loop);
}

void bench_adopted(void *user, const blx_error *err, const struct blx__vm_status *status) {
  struct waited *w = user;
  bench_done(user, err);
  if (status) w->status = *status;
}

bool bench_log_bytes(void *user, uint64_t at_ms, const uint8_t *bytes, size_t n) {
  struct reading *r = user;
  blx__loop_stop(r->bench->loop);
  if (r->refuse > 0) {
    r->refuse--;
    return false;
  }
  ck_assert(blx__buf_add(&r->text, bytes, n));
  if (r->pieces < READING_PIECES_MAX) r->piece[r->pieces++] = (struct piece){at_ms, n};
  return true;
}

void bench_log_end(void *user, const blx_error *err) {
  struct reading *r = user;
  ck_assert(!r->ended && !err);
  r->ended = true;
  blx__loop_stop(r->bench->loop);
}

void bench_wait_done(struct bench *b, struct waited *w) {
  while (w->times == 0) bench_turn(b);
  ck_assert_uint_eq(w->times, 1);
}

void bench_measured(void *user, const blx_error *err, const struct blx__vm_stats *list, size_t count) {
  struct measured *m = user;
  m->times++;
  m->code = err ? err->code : 0;
  m->count = count;
  for (size_t i = 0; i < count && i < MEASURED_MAX; i++) m->rows[i] = list[i];
  blx__loop_stop(m->bench->loop);
}

void bench_wait_measured(struct bench *b, struct measured *m) {
  while (m->times == 0) bench_turn(b);
  ck_assert_uint_eq(m->times, 1);
}

struct blx__usage bench_usage(struct bench *b) {
  struct measured m = {.bench = b};
  ck_assert_int_eq(b->driver->ops->stats(b->driver, bench_measured, &m, NULL).code, 0);
  ck_assert_uint_eq(m.times, 0);
  bench_wait_measured(b, &m);
  ck_assert_int_eq(m.code, 0);
  ck_assert_uint_eq(m.count, 1);
  return m.rows[0].usage;
}

unsigned bench_events(const struct bench *b, enum blx__vm_event event, uint64_t uid) {
  unsigned n = 0;
  for (unsigned i = 0; i < b->event_count; i++) n += b->events[i].event == event && b->events[i].uid == uid;
  return n;
}

const struct blx__vm_status *bench_last(const struct bench *b, uint64_t uid) {
  for (unsigned i = b->event_count; i > 0; i--)
    if (b->events[i - 1].uid == uid) return &b->events[i - 1].status;
  return NULL;
}

void bench_wait_event(struct bench *b, enum blx__vm_event event, uint64_t uid, unsigned nth) {
  while (bench_events(b, event, uid) < nth) bench_turn(b);
}

void bench_wait_text(struct bench *b, struct reading *r, const char *text) {
  for (;;) {
    const char *have = blx__buf_cstr(&r->text);
    if (have && strstr(have, text)) return;
    bench_turn(b);
  }
}

void bench_wait_end(struct bench *b, struct reading *r) {
  while (!r->ended) bench_turn(b);
}

/* The completion must not come before the call has returned. */
#define CALL(call)                \
  struct waited w = {.bench = b}; \
  b->driver->ops->call;           \
  ck_assert_uint_eq(w.times, 0);  \
  bench_wait_done(b, &w);         \
  return w

struct waited bench_prepare(struct bench *b, const struct blx__vm_desc *d) {
  CALL(prepare(b->driver, d, bench_done, &w));
}

struct waited bench_start(struct bench *b, const struct blx__vm_desc *d) {
  CALL(start(b->driver, d, bench_done, &w));
}

struct waited bench_stop(struct bench *b, const struct blx__vm_key *k, uint32_t deadline_ms) {
  CALL(stop(b->driver, k, deadline_ms, bench_done, &w));
}

struct waited bench_kill(struct bench *b, const struct blx__vm_key *k) {
  CALL(kill(b->driver, k, bench_done, &w));
}

struct waited bench_destroy(struct bench *b, const struct blx__vm_key *k) {
  CALL(destroy(b->driver, k, bench_done, &w));
}

struct waited bench_adopt(struct bench *b, const struct blx__vm_key *k) {
  CALL(adopt(b->driver, k, bench_adopted, &w));
}
