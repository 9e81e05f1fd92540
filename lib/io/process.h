/* Child processes and processes of others, followed by pidfd: the embedder's SIGCHLD is not touched. */
#ifndef BLX__IO_PROCESS_H
#define BLX__IO_PROCESS_H

#include "base/buf.h"
#include "io/loop.h"

enum {
  BLX__PROCESS_KILL_AFTER_MS = 2000,       /* from SIGTERM at the deadline to SIGKILL */
  BLX__PROCESS_OUTPUT_MAX_BYTES = 8 << 20, /* the largest output_max */
};

struct blx__process;
struct blx__pidwatch;

struct blx__process_spec {
  const char *const *argv; /* NULL-terminated; argv[0] with a slash is used as it is, else looked up in env's PATH */
  const char *const *env;  /* NULL-terminated NAME=value; NULL: PATH only, the usual system directories */
  const char *cwd;         /* NULL: unchanged */
  bool new_session;        /* setsid; else a process group of its own in our session */
  bool with_us;            /* SIGTERM to it, not to its group, when this process dies, or the thread that spawned it */
  int lend_fd;             /* > 2: it has this as descriptor 3, and with it a lock on it; 0: none */
  uint32_t uid, gid;       /* both 0: unchanged; else both are set and the other groups dropped */
  size_t output_max;       /* keep the LAST so many bytes of stdout and stderr together; 0: /dev/null */
  uint64_t deadline_ms;    /* from now; 0: none. Then SIGTERM to its group, later SIGKILL */
};

/* exit_status: 0..255, or -1 when a signal ended it or when another part of the process took its status away.
 * signal: the number that ended it, or 0. output_tail: valid during the call. */
typedef void blx__process_exit_fn(void *user, int exit_status, int signal, bool timed_out,
                                  struct blx__slice output_tail);

/* Start a program. stdin is /dev/null, no descriptor but 0..2 is passed on, every signal has its default.
 * @spec is not kept. @on_exit is called exactly once, on a later turn; @out is valid until it returns.
 * Errors: NOT_FOUND (no such program or directory), DENIED, INVALID (no argv), NOMEM, IO. */
blx__rc blx__process_spawn(struct blx__loop *loop, const struct blx__process_spec *spec, blx__process_exit_fn *on_exit,
                           void *user, struct blx__process **out, blx_error *err) BLX__MUST;

int32_t blx__process_pid(const struct blx__process *p);

/* Send @signal to its process group. */
void blx__process_kill(struct blx__process *p, int signal);

/* Call @on_exit once, on a later turn, when process @pid (> 0, not our child or not awaited by us) ends.
 * Errors: NOT_FOUND (no such process: it is gone already), IO, NOMEM. */
blx__rc blx__pidwatch_open(struct blx__loop *loop, int32_t pid, void (*on_exit)(void *user), void *user,
                           struct blx__pidwatch **out, blx_error *err) BLX__MUST;

/* Needed after on_exit too, and allowed inside it; @on_exit is not called any more. NULL is allowed. */
void blx__pidwatch_close(struct blx__pidwatch *w);

#endif
