/* The inside of the microvm.nix driver: instances, their builds, their link to a shim, the readers of their consoles.
 */
#ifndef BLX__VM_INT_H
#define BLX__VM_INT_H

#include "base/list.h"
#include "base/map.h"
#include "io/process.h"
#include "io/stream.h"
#include "io/timer.h"
#include "vm/driver.h"
#include "vm/proto_shim.h"

#include <limits.h>

enum {
  VM_ID_MAX = 96,  /* "web-1-17" */
  VM_TAG_MAX = 52, /* a host tag, and "-ha" */
  VM_STRINGS = 11,
  VM_MEMORY_UNKNOWN_MIB = 4096, /* limit of a guest whose amount only its module knows */
  VM_PATH_MAX = 900,            /* state_dir; leaves room for what is below it */
  VM_LINK_RETRY_MS = 100,       /* a shim that holds its lock but does not answer yet */
  VM_LINK_RETRIES_MAX = 50,
  VM_HELLO_WAIT_MS = 5000,  /* from connecting to the shim's first STATE */
  VM_OVERTIME_MS = 5000,    /* a shim that did not end its monitor by then is killed, and the monitor with it */
  VM_SHIM_START_MS = 30000, /* from spawning the shim to its monitor running */
  VM_BUILD_DEADLINE_MS = 600000,
  VM_WRAP_DEADLINE_MS = 60000,
  VM_BUILD_TAIL_BYTES = 2048, /* of a build's output */
  VM_CONSOLE_POLL_MS = 200,
  VM_CONSOLE_CHUNK_BYTES = 32 << 10,
  VM_COUNTERS_WAIT_MS = 250, /* how long the shims' answers are waited for */
  VM_SHIM_CODE_BASE = 64,    /* blixard-shim ends with 64 - BLX_E_* when it could not start */
};

enum vm_op {
  VM_OP_NONE,
  VM_OP_PREPARE,
  VM_OP_START,
  VM_OP_STOP,
  VM_OP_KILL,
  VM_OP_PAUSE,
  VM_OP_DESTROY,
  VM_OP_ADOPT,
};

struct vm_build; /* build.c */
struct vm_link;  /* link.c */

struct microvm {
  struct blx__vm_driver base;
  struct blx__loop *loop;
  struct blx__vm_options opt;
  char *strings[VM_STRINGS]; /* what its pointers point to */
  char state_dir[VM_PATH_MAX];
  struct blx__map instances; /* by id */
  struct blx__list builds;   /* waiting; the first is under way */
  struct blx__list logs;
  size_t logs_open;
  struct blx__list sessions;
  size_t sessions_open;
  struct blx__list held;    /* inspect.c: jobs for which the workers have no room yet; two for an instance at most */
  unsigned looks;           /* of its jobs, on worker threads */
  unsigned jobs;            /* on worker threads or held, and processes under way: close waits for them */
  struct blx__list samples; /* snapshots of statistics under way */
  unsigned samples_count;
  unsigned counters_due; /* shims that were asked for counters and have not answered */
  bool closing;
  void (*on_close)(void *user);
  void *close_user;
  struct blx__defer closed;
};

struct vm_instance {
  struct microvm *m;
  char id[VM_ID_MAX], name[64];
  uint64_t uid;
  char dir[VM_PATH_MAX + 128];
  struct blx__vm_status status;
  unsigned holds; /* jobs and processes that point here */

  enum vm_op op;
  uint64_t op_epoch;
  uint32_t deadline_ms;
  bool pause_wanted; /* of VM_OP_PAUSE */
  uint32_t memory_mib, vcpus;
  bool ready_none;
  bool ha;                  /* its cgroup is among those that a watchdog process ends */
  uint64_t start_before_ms; /* of VM_OP_START; 0: any time */
  blx__vm_done_fn *done;
  blx__vm_adopt_fn *adopted;
  void *user;
  bool finishing, failed;
  blx_error err;
  struct blx__defer finish;
  struct blx__timer *timer; /* the link's retries; an operation's overtime */
  bool held_ready, held_exited, held_data;
  struct blx__timer *data_timer;
  unsigned looks; /* for a disk, since it runs */

  struct vm_build *build;
  struct blx__process *shim;
  bool spawned; /* the start under way got so far */

  struct vm_link *link; /* link.c; NULL: none */
  struct blx__shim_reader reader;
  unsigned retries;
  bool greeted;               /* the shim's first STATE came */
  bool counts;                /* it answers ASK */
  bool asked;                 /* and has not yet */
  struct blx__usage counters; /* of its last answer */
};

/* What a look at an instance's directory shows, off the loop. */
struct vm_view {
  bool dir, prepared, started, locked, recorded;
  bool ha; /* it has a cgroup among those of highly available ones */
  bool local_data;
  struct blx__shim_msg record; /* if recorded */
};

/* instance.c */
blx__rc vm_open(struct blx__loop *loop, const struct blx__vm_options *options, const struct blx__vm_ops *ops,
                struct blx__vm_driver **out, blx_error *err) BLX__MUST;
void vm_close(struct blx__vm_driver *d, void (*done)(void *user), void *user);
bool vm_runs(const struct vm_instance *in);
/* NULL: refused, and told on a later turn. */
struct vm_instance *vm_op_begin(struct microvm *m, const struct blx__vm_key *key, enum vm_op op, blx__vm_done_fn *done,
                                blx__vm_adopt_fn *adopted, void *user);
void vm_refuse(struct microvm *m, blx__vm_done_fn *done, blx__vm_adopt_fn *adopted, void *user, const blx_error *err);
void vm_op_finish(struct vm_instance *in, const blx_error *err); /* done follows on a later turn */
void vm_emit(struct vm_instance *in, enum blx__vm_event event);
/* "DIR/NAME"; the sizes are chosen so that it fits. */
const char *vm_path(const struct vm_instance *in, const char *name, char out[PATH_MAX]);
void vm_cgroup_name(const struct vm_instance *in, bool ha, char out[VM_ID_MAX + VM_TAG_MAX + 1]);
void vm_close_check(struct microvm *m);
void vm_instance_settle(struct vm_instance *in); /* free it if there is nothing left to remember */

/* microvm.c */
void vm_on_timer(void *arg);
void vm_set_exited(struct vm_instance *in, const struct blx__shim_msg *m);
void vm_on_paused(struct vm_instance *in); /* its monitor stands still, or goes on */

/* inspect.c: blocking looks and removals, on a worker */
/* When no shim holds the lock, whatever is left in the cgroup is killed, and a monitor that
 * ended without a record gets one. */
void vm_inspect(struct vm_instance *in,
                void (*done)(struct vm_instance *in, const struct vm_view *v, const blx_error *err));
void vm_remove(struct vm_instance *in, void (*done)(struct vm_instance *in, const blx_error *err));
/* GC root of what runs: ROOTS/TAG/booted-ID -> DIR/booted, which points to what `current` does now. */
blx__rc vm_boot_link(struct vm_instance *in, blx_error *err) BLX__MUST;
/* The lock of its directory, to be lent to its shim and closed. Errors: CONFLICT (it runs), IO. */
blx__rc vm_lock_take(struct vm_instance *in, int *fd, blx_error *err) BLX__MUST;
/* Where Nix's state is: PREFIX/var/nix. */
void vm_nix_state(const struct microvm *m, char out[PATH_MAX]);

blx__rc vm_stats(struct blx__vm_driver *d, blx__vm_stats_fn *done, void *user, blx_error *err);
void vm_stats_counters(struct vm_instance *in, const char *text); /* its shim answered; NULL: it will not */
void vm_stats_cancel(struct microvm *m);

/* inspect.c: its disk on this node */
bool vm_has_data(int dir); /* the instance's directory */
/* It runs now: look for it, a few times, and tell when it is there. */
void vm_data_begin(struct vm_instance *in);
void vm_data_look(struct vm_instance *in);
void vm_on_data_timer(void *arg);

/* build.c */
blx__rc vm_build_begin(struct vm_instance *in, const struct blx__vm_desc *desc, blx_error *err) BLX__MUST;
void vm_build_cancel(struct vm_instance *in);
void vm_on_build_gone(struct vm_instance *in); /* microvm.c: a destroy may have waited for it */

/* link.c: the connection to a shim */
void vm_link_open(struct vm_instance *in);
void vm_link_close(struct vm_instance *in);
bool vm_link_send(struct vm_instance *in, enum blx__shim_type type, uint32_t deadline_ms);
void vm_link_kill_shim(struct vm_instance *in);
/* Implemented in microvm.c: the first STATE came; the link could not be made; the shim went away. */
void vm_on_linked(struct vm_instance *in);
void vm_on_link_failed(struct vm_instance *in, const blx_error *err);
void vm_on_link_lost(struct vm_instance *in);

/* console.c */
blx__rc vm_logs_open(struct microvm *m, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                     blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user, struct blx__vm_logs **out,
                     blx_error *err) BLX__MUST;
void vm_logs_free(struct blx__vm_logs *logs);
void vm_logs_end_all(struct microvm *m, const char *id); /* NULL: every one */

/* session.c */
blx__rc vm_session_open(struct microvm *m, const struct blx__vm_key *key, const struct blx__vm_session_spec *spec,
                        const struct blx__vm_session_events *events, void *user, struct blx__vm_session **out,
                        blx_error *err) BLX__MUST;
bool vm_session_write(struct blx__vm_session *s, const uint8_t *bytes, size_t n);
void vm_session_resize(struct blx__vm_session *s, uint16_t rows, uint16_t columns);
void vm_session_close(struct blx__vm_session *s);
void vm_session_end_all(struct microvm *m);

#endif
