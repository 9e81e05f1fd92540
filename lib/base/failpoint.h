/* Places at which a test lets this process die as if it were killed: with BLIXARD_FAILPOINT=NAME[:N] in the environment
 * the N-th time (the first) that the place NAME is reached is SIGKILL to itself. Else a place costs one comparison.
 * Thread: any. Since 0.1. */
#ifndef BLX__BASE_FAILPOINT_H
#define BLX__BASE_FAILPOINT_H

#include "base/rc.h"

#include <stdatomic.h>

/* By the names that tests and people use; those of shim- are reached by the shims of a daemon that has it in its
 * environment, each of them for itself. The first sixteen follow the states of lib/agent, before and after the
 * journal of each is on the disk. */
#define BLX__FAILPOINTS(X)                                                                   \
  X(JOURNAL_PREPARING, "journal-preparing")                                                  \
  X(JOURNALLED_PREPARING, "journalled-preparing")                                            \
  X(JOURNAL_STARTING, "journal-starting")                                                    \
  X(JOURNALLED_STARTING, "journalled-starting")                                              \
  X(JOURNAL_WAIT_READY, "journal-wait-ready")                                                \
  X(JOURNALLED_WAIT_READY, "journalled-wait-ready")                                          \
  X(JOURNAL_READY, "journal-ready")                                                          \
  X(JOURNALLED_READY, "journalled-ready")                                                    \
  X(JOURNAL_STOPPING, "journal-stopping")                                                    \
  X(JOURNALLED_STOPPING, "journalled-stopping")                                              \
  X(JOURNAL_DEAD, "journal-dead")                                                            \
  X(JOURNALLED_DEAD, "journalled-dead")                                                      \
  X(JOURNAL_DESTROYING, "journal-destroying")                                                \
  X(JOURNALLED_DESTROYING, "journalled-destroying")                                          \
  X(JOURNAL_GONE, "journal-gone")                                                            \
  X(JOURNALLED_GONE, "journalled-gone")                                                      \
  X(BUILD_FILES, "build-files")     /* its directory is made, the module is not written */   \
  X(BUILD_WRAP, "build-wrap")       /* the module is being wrapped */                        \
  X(BUILD_NIX, "build-nix")         /* Nix builds */                                         \
  X(BUILD_CLEAN, "build-clean")     /* it is built, what it needed for that is there */      \
  X(START_ROOT, "start-root")       /* the root of Nix's collector is made, booted is not */ \
  X(START_LINKED, "start-linked")   /* booted is */                                          \
  X(START_SPAWNED, "start-spawned") /* the shim has just begun */                            \
  X(START_SHIM, "start-shim")       /* its monitor runs, nobody knows of it */               \
  X(START_STATE, "start-state")     /* the shim said so */                                   \
  X(STOP_SENT, "stop-sent")         /* the shim was asked to end it */                       \
  X(STOP_SEEN, "stop-seen")         /* the shim said that it ended */                        \
  X(REMOVE_BEGUN, "remove-begun")   /* nothing is removed yet */                             \
  X(REMOVE_HALF, "remove-half")     /* the directory is, the root is not */                  \
  X(REMOVE_DONE, "remove-done")                                                              \
  X(REPORT_SENT, "report-sent")         /* on its way to the leader */                       \
  X(REPORT_ANSWERED, "report-answered") /* committed; the agent does not know yet */         \
  X(SHIM_LOCKED, "shim-locked")         /* of blixard-shim: it has the lock, nothing else */ \
  X(SHIM_CGROUP, "shim-cgroup")         /* the cgroup is made, and empty */                  \
  X(SHIM_SPAWNED, "shim-spawned")       /* its monitor runs, nobody was told */              \
  X(SHIM_READY, "shim-ready")           /* its guest said ready, nobody was told */          \
  X(SHIM_STOPPING, "shim-stopping")     /* it was asked to stop, the guest was not */        \
  X(SHIM_ENDED, "shim-ended")           /* its monitor ended, all else is there */           \
  X(SHIM_RECORD, "shim-record")         /* cgroup and taps are gone, no record is there */   \
  X(SHIM_RECORDED, "shim-recorded")     /* it is, nobody was told */                         \
  X(SHIM_TOLD, "shim-told")             /* its socket and its lock are still there */

enum blx__failpoint {
  BLX__FAILPOINT_NONE,
#define BLX__FAILPOINT_ENUM(id, name) BLX__FAILPOINT_##id,
  BLX__FAILPOINTS(BLX__FAILPOINT_ENUM)
#undef BLX__FAILPOINT_ENUM
};

extern atomic_int blx__failpoint_armed;

/* Look at the environment, once for each process; later calls change nothing. Errors: INVALID (no such name). */
blx__rc blx__failpoint_arm(blx_error *err) BLX__MUST;

void blx__failpoint_reached(void);

static inline void blx__failpoint(enum blx__failpoint here) {
  if (__builtin_expect(atomic_load_explicit(&blx__failpoint_armed, memory_order_relaxed) == (int)here, 0))
    blx__failpoint_reached();
}

#endif
