/* The inside of the simulated driver: its instances, and the sessions in its guests. */
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
  struct blx__list sessions;
  size_t sessions_open;
  uint64_t kill_at_ms; /* without a host */
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
  bool ha;     /* as it was started */
  bool untold; /* it was killed, and its owner has not heard of it */
  bool op_ha;
  uint64_t op_before_ms;
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

/* ---- sim_session.c: as in driver.h */
blx__rc sim_stats(struct blx__vm_driver *d, blx__vm_stats_fn *done, void *user, blx_error *err);
blx__rc sim_session_open(struct blx__vm_driver *d, const struct blx__vm_key *key,
                         const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                         void *user, struct blx__vm_session **out, blx_error *err);
bool sim_session_write(struct blx__vm_driver *d, struct blx__vm_session *session, const uint8_t *bytes, size_t n);
void sim_session_resize(struct blx__vm_driver *d, struct blx__vm_session *session, uint16_t rows, uint16_t columns);
void sim_session_close(struct blx__vm_driver *d, struct blx__vm_session *session);

/* Its monitor is dead, and nobody is told but the host. */
void sim_ended(struct sim_instance *in, int32_t exit_status, int32_t signal, const char *text);

/* The guest of @in is gone, and every session in it; NULL: the driver is closing, and all of them end. */
void sim_sessions_end(struct sim *s, const struct sim_instance *in);

/* The instance of @key; NULL: there is none. */
struct sim_instance *sim_find(struct sim *s, const struct blx__vm_key *key);

#endif
