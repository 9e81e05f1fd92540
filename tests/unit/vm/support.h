/* What the tests of drivers share: a loop, a driver under test, and waiting for what it tells. */
#ifndef BLX_TESTS_VM_SUPPORT_H
#define BLX_TESTS_VM_SUPPORT_H

#include "io/timer.h"
#include "vm/driver.h"

enum { BENCH_EVENTS_MAX = 64, BENCH_DEADLINE_MS = 60000 };

struct bench {
  struct blx__loop *loop;
  struct blx__vm_driver *driver;
  struct {
    enum blx__vm_event event;
    uint64_t uid, epoch;
    struct blx__vm_status status;
  } events[BENCH_EVENTS_MAX];
  unsigned event_count;
  struct blx__timer *deadline;
  bool late;
};

/* One completion to wait for. */
struct waited {
  struct bench *bench;
  unsigned times;
  bool failed;
  blx_error err;
  struct blx__vm_status status; /* of adopt */
  unsigned events_before;       /* how many events came before it */
};

enum { READING_PIECES_MAX = 32 };

/* What a reader of logs got. */
struct reading {
  struct bench *bench;
  struct blx__buf text;
  bool ended;
  unsigned refuse; /* so many times the bytes are not taken */
  unsigned pieces; /* the first ones: when they came, how long they are */
  struct piece {
    uint64_t at_ms;
    size_t n;
  } piece[READING_PIECES_MAX];
};

enum { MEASURED_MAX = 8 };

/* What a snapshot of statistics told. */
struct measured {
  struct bench *bench;
  unsigned times;
  int code;
  size_t count;
  struct blx__vm_stats rows[MEASURED_MAX];
};

void bench_measured(void *user, const blx_error *err, const struct blx__vm_stats *list, size_t count);
void bench_wait_measured(struct bench *b, struct measured *m);
/* Ask, wait; the usage of the only instance that runs. */
struct blx__usage bench_usage(struct bench *b);

void bench_open(struct bench *b);
void bench_close(struct bench *b); /* the driver first, if there is one */
void bench_event(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                 const struct blx__vm_status *status);
void bench_done(void *user, const blx_error *err);
void bench_adopted(void *user, const blx_error *err, const struct blx__vm_status *status);
bool bench_log_bytes(void *user, uint64_t at_ms, const uint8_t *bytes, size_t n);
void bench_log_end(void *user, const blx_error *err);

/* Run the loop until something happens; the test fails after BENCH_DEADLINE_MS. */
void bench_turn(struct bench *b);
/* Run the loop until the condition holds; the test fails after BENCH_DEADLINE_MS. */
void bench_wait_done(struct bench *b, struct waited *w);
void bench_wait_event(struct bench *b, enum blx__vm_event event, uint64_t uid, unsigned nth);
void bench_wait_text(struct bench *b, struct reading *r, const char *text);
void bench_wait_end(struct bench *b, struct reading *r);
unsigned bench_events(const struct bench *b, enum blx__vm_event event, uint64_t uid);
/* The latest event of an instance. */
const struct blx__vm_status *bench_last(const struct bench *b, uint64_t uid);

/* Call, wait, and give what came. */
struct waited bench_prepare(struct bench *b, const struct blx__vm_desc *d);
struct waited bench_start(struct bench *b, const struct blx__vm_desc *d);
struct waited bench_stop(struct bench *b, const struct blx__vm_key *k, uint32_t deadline_ms);
struct waited bench_kill(struct bench *b, const struct blx__vm_key *k);
struct waited bench_destroy(struct bench *b, const struct blx__vm_key *k);
struct waited bench_adopt(struct bench *b, const struct blx__vm_key *k);

#endif
