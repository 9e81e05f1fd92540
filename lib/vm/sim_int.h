/* The inside of the simulated driver: its instances. */
#ifndef BLX__VM_SIM_INT_H
#define BLX__VM_SIM_INT_H

#include "base/map.h"
#include "io/timer.h"
#include "vm/driver.h"

enum { SIM_ID_MAX = 96 };

enum op { OP_NONE, OP_PREPARE, OP_START, OP_STOP, OP_KILL, OP_PAUSE, OP_DESTROY, OP_ADOPT };

struct sim {
  struct blx__vm_driver base;
  struct blx__loop *loop;
  struct blx__vm_sim_options own;
  const struct blx__vm_sim_options *opt; /* own, or the host's, which change while it runs */
  struct blx__vm_sim_host *host;         /* may be NULL */
  struct blx__map instances;             /* by id */
  struct blx__list logs;
  size_t logs_open;
  uint32_t prepares, starts, lies, adoptions, readies;
  bool closing;
  struct blx__defer closed;
  void (*on_close)(void *user);
  void *close_user;
};

struct sim_instance {
  struct sim *sim;
  char id[SIM_ID_MAX], name[64];
  uint64_t uid;
  struct blx__vm_status status;
  bool known; /* prepared at least once; otherwise a place for an operation on what does not exist */
  enum op op;
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
  uint64_t op_epoch;
  bool op_paused;      /* what OP_PAUSE makes of it */
  uint64_t made_ms;    /* by the wall clock */
  uint64_t started_ms; /* by the loop's */
  struct blx__timer *op_timer, *life_timer;
};

static inline struct sim *sim_of(struct blx__vm_driver *d) {
  return BLX__CONTAINER(d, struct sim, base);
}

static inline bool sim_runs(const struct sim_instance *in) {
  return in->status.state == BLX__VM_RUNNING || in->status.state == BLX__VM_READY;
}

/* What it would use: made up by a rule of uid and uptime. */
static inline struct blx__usage sim_usage(const struct sim_instance *in) {
  uint64_t now_ms = blx__loop_now_ms(in->sim->loop), up_ms = now_ms > in->started_ms ? now_ms - in->started_ms : 0;
  struct blx__usage u = {true, true, true, true, true, true, .at_us = now_ms * 1000, .uptime_ms = up_ms};
  u.cpu_us = up_ms * 10 * (5 + in->uid * 7 % 90); /* 5 to 94 % of a processor */
  u.memory_bytes = (32 + in->uid % 64) << 20;
  u.balloon_bytes = 128 << 20;
  u.read_bytes = up_ms * (in->uid % 8);
  u.written_bytes = up_ms * (in->uid % 4);
  return u;
}

/* The instance of @key; NULL: there is none. */
struct sim_instance *sim_find(struct sim *s, const struct blx__vm_key *key);

#endif
