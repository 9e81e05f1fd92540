/* A VM driver of your own: what a node asks when an instance is to be made, started, stopped or removed on it. Give a
 * table of functions to blx_node_open() (vm_driver of its options), and what the cluster calls virtual machines is
 * whatever the table makes of them; placement, restarts and epochs stay the cluster's.
 *
 * Headers below sys/ are stable within a minor version only (0.1.x): a table may gain functions at its end, and a
 * program built with an older header goes on working until the next minor version.
 *
 * The table's functions run on the node's thread, one at a time; `open`, `adopt` and `close` also on the thread that is
 * in blx_node_open(), before the node's begins or when that fails. They must return at once, for the node waits, and
 * call of this library only what is declared here. What they are given is borrowed for the call; copy what you keep.
 *
 * Most of them are given a blx_vm_driver_call. It is answered exactly once, later or at once, by blx_vm_driver_done()
 * or blx_vm_driver_found(). A second answer, or one after the node was closed, is BLX_E_MISUSE and does nothing. A call
 * that is never answered keeps its instance where it is until the node is closed: then every call under way is over,
 * and what it was for runs on or not as the driver left it.
 *
 * One call at a time for an instance, but for `kill`, which may come while a `prepare` or a `stop` of it is under way:
 * do the kill, and answer the other one too, success or BLX_E_CANCELLED. An instance is known by name and uid together;
 * a name may come back under another uid before the first one is destroyed.
 *
 * A table without sessions, or without statistics, is one that runs no commands and measures nothing: callers of
 * blx_vm_exec_open() are told BLX_E_UNSUPPORTED, those of blx_stats_open() get a note.
 *
 * Functions below: thread any, also from inside the table's. Errors of all of them: BLX_E_MISUSE (answered already; the
 * node is closed; NULL; struct_size not set), BLX_E_INVALID (names the value), BLX_E_UNSUPPORTED (a struct of a newer
 * library), BLX_E_BUSY and BLX_E_NOMEM (the node is behind; nothing was taken: the same again a little later). */
#ifndef BLIXARD_SYS_VM_DRIVER_H
#define BLIXARD_SYS_VM_DRIVER_H

#include <blixard/calls.h>
#include <blixard/error.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  BLX_VM_DRIVER_TEXT_MAX = 384,               /* bytes of a sentence in a status; the rest is cut off */
  BLX_VM_DRIVER_LOG_BYTES_MAX = 64 << 10,     /* bytes of a console that wait for its reader */
  BLX_VM_DRIVER_LOG_LINES_ALL = 1 << 30,      /* tail_lines: everything that is kept */
  BLX_VM_DRIVER_EVENTS_MAX = 4096,            /* events that the node has not taken yet; one more is BUSY */
  BLX_VM_DRIVER_SESSION_BYTES_MAX = 32 << 10, /* bytes of one piece of a session, either way */
  BLX_VM_DRIVER_STATS_MAX = 4096,             /* instances in one answer of statistics */
};

/* How an instance is; int32_t in structs. */
enum {
  BLX_VM_DRIVER_ABSENT = 0,   /* nothing is there */
  BLX_VM_DRIVER_PREPARED = 1, /* made, and never started since */
  BLX_VM_DRIVER_RUNNING = 2,  /* runs, and has not said ready */
  BLX_VM_DRIVER_READY = 3,
  BLX_VM_DRIVER_EXITED = 4, /* exit_status, signal and text say how */
};

/* What a driver tells; int32_t in signatures. */
enum {
  BLX_VM_DRIVER_EVENT_READY = 1,
  BLX_VM_DRIVER_EVENT_EXITED = 2,   /* it is dead. Always, also when that was asked for: before the call's answer */
  BLX_VM_DRIVER_EVENT_PROTOCOL = 3, /* its monitor talks nonsense, and still runs: the node has it killed */
};

/* Where a session's output comes from; int32_t in signatures. */
enum {
  BLX_VM_DRIVER_STREAM_OUT = 1, /* standard output, and all that a terminal or a console shows */
  BLX_VM_DRIVER_STREAM_ERR = 2,
};

typedef struct blx_vm_driver blx_vm_driver;                 /* a node that uses the table; from `open` until `close` */
typedef struct blx_vm_driver_call blx_vm_driver_call;       /* one call that waits for its answer */
typedef struct blx_vm_driver_logs blx_vm_driver_logs;       /* one reader of a console */
typedef struct blx_vm_driver_session blx_vm_driver_session; /* a command that runs, or somebody at a console */

/* An instance under one assignment. */
struct blx_vm_driver_key {
  size_t struct_size;
  const char *instance; /* its name, 1..63 bytes */
  uint64_t uid;         /* of the VM's instance, never used again */
  uint64_t epoch;       /* of the assignment, rising; comes back with each event and status */
};
#define BLX_VM_DRIVER_KEY_INIT BLX_INIT_(struct blx_vm_driver_key)
BLX_INIT_FN_(vm_driver_key)

/* What is to run. */
struct blx_vm_driver_desc {
  size_t struct_size;
  uint32_t vcpus;         /* 1..512: what the cluster accounts for */
  uint32_t memory_mib;    /* 32..1048576 */
  const char *hypervisor; /* "qemu": what the VM's spec asks for */
  const char *flake;      /* REF#NAME, or NULL: then config */
  struct blx_bytes config;
  const char *config_name; /* the file name that the config had; NULL: none */
  uint32_t ready_none;     /* 1: it never says ready, running is enough */
  uint32_t reserved;       /* 0 */
  const char *nixpkgs_ref; /* with config: the cluster's pinned flake references to build it with; NULL: none is set */
  const char *microvm_ref;
};

struct blx_vm_driver_status {
  size_t struct_size;
  int32_t state;       /* BLX_VM_DRIVER_ABSENT to _EXITED; not looked at in an event */
  int32_t exit_status; /* EXITED: 0..255, or -1: a signal ended it, or nobody knows */
  int32_t signal;      /* EXITED: 1..64; 0: none */
  uint32_t paused;     /* 1: it stands still */
  uint64_t epoch;      /* under which it was started; 0: it was not; not looked at in an event */
  const char *text;    /* one sentence for people, UTF-8; NULL: none */
  uint32_t reset;      /* EXITED with status 0: 1: it rebooted or panicked, rather than power itself off */
};
#define BLX_VM_DRIVER_STATUS_INIT BLX_INIT_(struct blx_vm_driver_status)
BLX_INIT_FN_(vm_driver_status)

/* What a session is about. */
struct blx_vm_driver_session_spec {
  size_t struct_size;
  const char *const *argv; /* the command's words, none of them NULL; NULL: the console */
  size_t argc;             /* 1..64; 0: the console */
  uint32_t tty;            /* 1: the command gets a terminal, and its standard error comes as standard output */
  uint32_t rows, columns;  /* of that terminal, at most 65535; 0: not known, 24 and 80 will do */
};

/* The table. What may be NULL says so. */
struct blx_vm_driver_ops {
  size_t struct_size;
  void *user;

  /* The node begins to use the table. Keep @driver for events. A BLX_E_* code, with a sentence in @err: the node does
   * not open, or does not join. */
  int (*open)(void *user, blx_vm_driver *driver, blx_error *err);

  /* Asked before each prepare: whether this can run here at all. A BLX_E_* code, with the reason in @err, is told as
   * prepare's. NULL: everything can. */
  int (*supported)(void *user, const struct blx_vm_driver_key *key, const struct blx_vm_driver_desc *desc,
                   blx_error *err);

  /* Make what can be started. Comes again for an instance that is made already. An error is the VM's reason
   * (BuildFailed), and the cluster tries again later; BLX_E_BUSY, BLX_E_CANCELLED and BLX_E_NOMEM: the same call comes
   * again soon, here and in `start`. */
  void (*prepare)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                  const struct blx_vm_driver_desc *desc);

  /* Start it; answered when it runs. At most once in an epoch unless the answer was to come again. Then report
   * BLX_VM_DRIVER_EVENT_READY, within two minutes, unless ready_none. An error is the VM's reason (StartFailed), after
   * a kill. */
  void (*start)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                const struct blx_vm_driver_desc *desc);

  /* Shut it down; after @deadline_ms kill it. Success means that it is dead for certain, as it is when it was dead or
   * never known: the cluster starts it elsewhere on that word. An error: the node asks again, with a kill. */
  void (*stop)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key, uint32_t deadline_ms);

  /* Kill it now; the rest as in stop. */
  void (*kill)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key);

  /* Let it stand still (@paused 1), or go on; so already: success. An error is the VM's reason (PauseFailed). NULL:
   * this driver cannot, BLX_E_UNSUPPORTED. */
  void (*pause)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key, uint32_t paused);

  /* Remove all that is left of it, and end the readers of its console. Not there: success. An error: it is asked again
   * later. */
  void (*destroy)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key);

  /* The node came back, or lost its record: find out how it is, and tell its events from now on. The answer is
   * blx_vm_driver_found(), _ABSENT for what is not known; blx_vm_driver_done() with an error: it is asked again, and
   * killed after the third time. */
  void (*adopt)(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key);

  /* Give the last @tail_lines lines of its console to @logs by blx_vm_driver_logs_add(), then, if @follow is 1, what
   * comes; then blx_vm_driver_logs_end(). A line's time is when it was added. A BLX_E_* code, with a sentence in @err:
   * there is no such console, and @logs is over. NULL: this driver keeps none; then logs_close is NULL too. */
  int (*logs)(void *user, blx_vm_driver_logs *logs, const struct blx_vm_driver_key *key, uint32_t tail_lines,
              uint32_t follow, blx_error *err);

  /* The reader is gone before the end was told. */
  void (*logs_close)(void *user, blx_vm_driver_logs *logs);

  /* The node lets go, once for each `open` that succeeded. The driver, its calls and readers are over; no function runs
   * any more. What runs may run on: the next node with this name and directory adopts it. NULL: nothing to do. */
  void (*close)(void *user);

  /* What follows is younger than 0.1's first tables, which end here. */

  /* Begin a session: run a command in the instance, or let somebody at its console. Give what it prints to @session by
   * blx_vm_driver_session_output(), then its end by blx_vm_driver_session_end(); both may be called from in here. A
   * BLX_E_* code, with a sentence in @err: it did not begin, and @session is over. At most 64 are open at a time. NULL:
   * there are no sessions; then session_write and session_close are NULL too. */
  int (*session_open)(void *user, blx_vm_driver_session *session, const struct blx_vm_driver_key *key,
                      const struct blx_vm_driver_session_spec *spec, blx_error *err);

  /* @len bytes, at most BLX_VM_DRIVER_SESSION_BYTES_MAX, for its standard input; @len 0: that ends here. 1: taken, all
   * of it; 0: there is no room, nothing was taken; call blx_vm_driver_session_room() when there is, and the same comes
   * again. May come while another thread of yours is telling the end, and means nothing then. */
  int (*session_write)(void *user, blx_vm_driver_session *session, const void *bytes, size_t len);

  /* Its terminal has another size now, 1 to 65535 each. May come as session_write may. NULL: it is not told. */
  void (*session_resize)(void *user, blx_vm_driver_session *session, uint32_t rows, uint32_t columns);

  /* Whoever began it is gone before the end was told: kill the command; a console goes on without them. @session is
   * over. */
  void (*session_close)(void *user, blx_vm_driver_session *session);

  /* Measure what runs now, and answer by blx_vm_driver_measured(), within a second: whoever asked waits no longer. At
   * most 16 such calls are unanswered at a time, then those who ask are told BLX_E_BUSY. NULL: it does not measure. */
  void (*stats)(void *user, blx_vm_driver_call *call);
};
#define BLX_VM_DRIVER_OPS_INIT BLX_INIT_(struct blx_vm_driver_ops)
BLX_INIT_FN_(vm_driver_ops)

/* Answer a call: @err NULL or with code 0: done; else code (BLX_E_*) and message of @err say why not. An adopt that
 * succeeded is answered by blx_vm_driver_found(). Since 0.1. */
BLX_API int blx_vm_driver_done(blx_vm_driver_call *call, const blx_error *err, blx_error *reterr);

/* Answer an adopt: how the instance is. Since 0.1. */
BLX_API int blx_vm_driver_found(blx_vm_driver_call *call, const struct blx_vm_driver_status *status, blx_error *reterr);

/* Answer stats: what the instances that run use.
 * @stats  @count pointers, borrowed, 0..BLX_VM_DRIVER_STATS_MAX; of each: struct_size, instance and uid are required;
 *         at_us 0: now; what has no has_ is not known; cpu_permille is not looked at; what a guest says of itself is
 *         all there or not at all
 * Since 0.1. */
BLX_API int blx_vm_driver_measured(blx_vm_driver_call *call, const struct blx_instance_stats *const *stats,
                                   size_t count, blx_error *reterr);

/* Tell what happened to an instance. Events and answers are taken in the order of the calls.
 * @event   BLX_VM_DRIVER_EVENT_*; of an epoch that is over, or an instance that is not known: ignored
 * @status  NULL: nothing more is known
 * Since 0.1. */
BLX_API int blx_vm_driver_event(blx_vm_driver *driver, const struct blx_vm_driver_key *key, int32_t event,
                                const struct blx_vm_driver_status *status, blx_error *reterr);

/* Bytes of a console: all of them are taken, or none. @len 0..BLX_VM_DRIVER_LOG_BYTES_MAX. BLX_E_BUSY: its reader is
 * slow. Since 0.1. */
BLX_API int blx_vm_driver_logs_add(blx_vm_driver_logs *logs, const void *bytes, size_t len, blx_error *reterr);

/* No more will come. @err NULL: all was read; else why not. Since 0.1. */
BLX_API int blx_vm_driver_logs_end(blx_vm_driver_logs *logs, const blx_error *err, blx_error *reterr);

/* Bytes that a session printed: all of them are taken, or none.
 * @stream  BLX_VM_DRIVER_STREAM_OUT or _ERR
 * @len     0..BLX_VM_DRIVER_SESSION_BYTES_MAX
 * BLX_E_BUSY: its reader is slow, let the command wait. Since 0.1. */
BLX_API int blx_vm_driver_session_output(blx_vm_driver_session *session, int32_t stream, const void *bytes, size_t len,
                                         blx_error *reterr);

/* There is room for input again, after a session_write that was answered with 0. Since 0.1. */
BLX_API int blx_vm_driver_session_room(blx_vm_driver_session *session, blx_error *reterr);

/* A session ended: nothing comes after what was printed.
 * @err          NULL or code 0: it ended as follows; else why it was cut off, BLX_E_UNAVAILABLE for one, or did not
 *               begin after all (BLX_E_NOT_FOUND: there is no such program)
 * @exit_status  0..255, and @signal 0; or -1, and @signal 1..64; of a console 0 and 0
 * Since 0.1. */
BLX_API int blx_vm_driver_session_end(blx_vm_driver_session *session, const blx_error *err, int32_t exit_status,
                                      int32_t signal, blx_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
