/* The benchmark of consensus: a closed loop of operations over something that commits them. */
#ifndef BLX_BENCH_CONSENSUS_H
#define BLX_BENCH_CONSENSUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  OP_BYTES = 256,
  OUTSTANDING_MAX = 1024,
  SAMPLES_MAX = 4 << 20,
  MEMBERS = 3,
  PATH_BYTES = 128,
  WARM_MS = 200,
};

enum what { WRITE, READ };

/* One operation that is on its way again and again. */
struct slot {
  struct load *load;
  uint64_t began_ns;
};

/* @submit starts an operation of @target; slot_done follows on @target's thread. */
struct load {
  bool (*submit)(void *target, enum what what, struct slot *slot);
  void *target;
  enum what what;
  uint64_t measure_ns, end_ns;
  uint32_t *samples_us;
  size_t count; /* of operations done in the measured time */
  unsigned active;
  bool failed;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  struct slot slots[OUTSTANDING_MAX];
};

struct result {
  double per_second;
  uint32_t p50_us, p99_us;
  uint32_t failed;
};

uint64_t now_ns(void);
void slot_done(struct slot *slot, bool ok);

/* Keep @outstanding operations on their way for @ms after a warm-up. Not on @target's thread. */
struct result load_run(struct load *load, unsigned outstanding, unsigned ms);

/* The floor: what any such system must do. The leader sends a batch to the others over the members' own sockets, and
 * each, the leader too, writes it with fdatasync; the batch is done when a majority has. Nothing else. */
struct floor_member;
struct floor_member *floor_open(const char *dir, uint64_t uid, unsigned members);
bool floor_submit(void *floor, enum what what, struct slot *slot);

/* libraft by itself over the same sockets: the same batches as entries, one outstanding. */
struct raw_member;
struct raw_member *raw_open(const char *dir, uint64_t uid, unsigned members);
bool raw_submit(void *raw, enum what what, struct slot *slot);
bool raw_leads(struct raw_member *raw); /* a guess from another thread, good enough to wait for */

#endif
