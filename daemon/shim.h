/* blixard-shim: one small process for each virtual machine monitor. It is the monitor's parent, keeps its console, its
 * cgroup and its exit status, talks to it and to its guest, and outlives the daemon that started it. One thread, one
 * poll loop, nothing allocated but what QMP's JSON needs. */
#ifndef BLIXARD_SHIM_H
#define BLIXARD_SHIM_H

#include "base/rc.h"
#include "host/share.h"
#include "vm/cgroup.h"
#include "measure/times.h"
#include "vm/proto_guest.h"
#include "vm/proto_qmp.h"
#include "vm/proto_shim.h"

#include <limits.h>
#include <poll.h>
#include <sys/types.h>

enum {
  SHIM_CODE_BASE = 64,         /* it ends with this minus BLX_E_* when the monitor could not be started */
  SHIM_LOCK_ROUNDS = 200,      /* of 10 ms, until an earlier shim is gone */
  SHIM_CLIENTS_MAX = 8,        /* agents connected at the same time; one more takes the place of another */
  SHIM_CONSOLE_MAX = 1 << 20,  /* bytes of console.log; as many again in console.log.1 */
  SHIM_CONNECT_RETRY_MS = 100, /* while the monitor makes its sockets */
  SHIM_BOOT_MS = 30000,        /* how long that is expected, and how long a monitor may take to greet */
  SHIM_CONNECT_LATE_MS = 1000,
  SHIM_HELLO_RETRY_MS = 1000,    /* until the guest says ready */
  SHIM_TERM_DEADLINE_MS = 10000, /* for the guest, when the shim itself is asked to end */
  SHIM_CLOCK_MS = 60000,         /* how often the guest hears the time */
  SHIM_GUEST_OUT_MAX = 32 << 10, /* bytes that wait for the guest's port */
  SHIM_GUEST_RESERVE = 2 << 10,  /* of these, for what is no data of a session */
  SHIM_STATS_WAIT_MS = 150,      /* for what the guest says of itself; less than VM_COUNTERS_WAIT_MS */
  SHIM_GUEST_WAIT_MS = 5000,     /* from a session's beginning to a guest that answers */
  SHIM_CONSOLES_MAX = 4,         /* sessions at the console at the same time */
  SHIM_SESSIONS_MAX = 2 * BLX__GUEST_SESSIONS_MAX + SHIM_CONSOLES_MAX, /* as many again that were left and end */
  SHIM_SESSION_RESERVE = 512,                                          /* for an END, and for a note */
  SHIM_SESSION_IN_MAX = 16 << 10,                                      /* bytes of a session on their way in */
  SHIM_SESSION_OUT_MAX = BLX__GUEST_WINDOW + 2 * SHIM_SESSION_RESERVE, /* and out */
  SHIM_SHARE_WAIT_MS = 3000,                                           /* for the virtiofsds to say that they are up */
  SHIM_SHARE_GRACE_MS = 1000, /* for a monitor to end by itself after its virtiofsd did */
  SHIM_LAST_LINE_MAX = 160,   /* of the console, for the sentence about an exit */
};

struct shim_options {
  const char *dir;         /* the instance's directory, absolute: booted, work/, console.log, exit, ctl.sock, lock */
  const char *instance;    /* its name, told to the guest */
  const char *cgroup;      /* below each controller's root: "blixard-1/web-1-7"; NULL: none is made */
  const char *share_paths; /* "A:B": below these lies what may be shared; NULL: none */
  const char *virtiofsd;   /* NULL: looked for */
  uint64_t uid, epoch;
  uint64_t lock_fd; /* the lock, taken for us already; 0: none */
  uint64_t memory_mib, vcpus;
  uint64_t vmm_uid, vmm_gid; /* 0: stays as it is */
  uint64_t start_before_ms;  /* CLOCK_BOOTTIME: the monitor is not started from then on; 0: at any time */
  bool cgroup_required, ready_none;
  bool vmm_user_optional; /* a user who cannot reach the runner is no reason not to start */
};

struct shim_console {
  int dir_fd, fd;
  size_t size;
  struct blx__times times;
  char line[SHIM_LAST_LINE_MAX + 1]; /* the last line with anything on it, printable */
  size_t line_len;
  bool line_ended;
};

struct shim_client {
  int fd; /* -1: free */
  bool greeted;
  bool asks;     /* for counters, and has not got them */
  uint64_t came; /* the how manieth it was */
  struct blx__shim_reader reader;
};

struct shim {
  struct shim_options opt;
  int dir_fd, work_fd, lock_fd;
  struct blx__vm_cgroup cgroup;
  struct shim_console console;

  pid_t vmm;
  int vmm_fd, vmm_out; /* a pidfd; the read end of its stdout and stderr */
  int vmm_in;          /* the write end of its stdin, which is the console's; -1: it closed that */

  int qmp_fd;
  bool qmp_ready, qmp_broken, powerdown_sent;
  struct blx__qmp_reader qmp;
  uint64_t qmp_due_ms;   /* it was reached, and has not greeted; then that is a breach; 0: no */
  char qmp_shutdown[64]; /* the reason that the monitor gave for ending */
  unsigned counters_due; /* answers of the monitor that are still to come */
  struct blx__usage counters;
  uint32_t stats_tag;    /* of the last question to the guest */
  uint64_t stats_due_ms; /* until when its answer is waited for; 0: it is not */

  int guest_fd;
  bool guest_known, guest_asked;
  struct blx__guest_reader guest;
  unsigned guest_version; /* that it said; 0: nothing yet */
  char guest_hello[64];   /* the name that it gave with it */

  int listen_fd;
  struct shim_client client[SHIM_CLIENTS_MAX];
  uint64_t clients_seen;

  struct blx__shim_msg state;
  char protocol[BLX__SHIM_TEXT_MAX + 1]; /* first breach of protocol; empty: none */
  uint64_t started_ms, next_connect_ms, next_hello_ms, next_clock_ms;
  uint64_t stop_at_ms, stop_half_ms, stop_deadline_ms; /* 0: no stop was asked for */
};

/* shim_main.c */
uint64_t shim_now_ms(void);
void shim_set_state(struct shim *s, enum blx__shim_state state, const char *text);
/* One sentence about a breach; told to the agents and kept for those that come. */
void shim_breach(struct shim *s, const char *sentence);

const char *shim_dir_name(const struct shim *s); /* the last part of its path: NAME-UID */

/* shim_vmm.c */
blx__rc shim_vmm_spawn(struct shim *s, blx_error *err) BLX__MUST;
void shim_vmm_kill(struct shim *s);
/* In a child, before its program: signals as programs expect them, a session of its own. */
void shim_child_begin(void);
/* It ended: take its status, drain its console, remove its cgroup, leave the record. */
void shim_vmm_reap(struct shim *s);

/* shim_share.c: the virtiofsds of the runner's shares */
/* Start them and wait until they are up; nothing is left of a failure. */
blx__rc shim_shares_start(struct shim *s, blx_error *err) BLX__MUST;
void shim_shares_stop(struct shim *s); /* the monitor is dead: kill them, remove their sockets */
void shim_shares_polled(struct pollfd p[2 * BLX__HOST_SHARES_MAX]); /* two for each */
void shim_shares_events(const struct pollfd p[2 * BLX__HOST_SHARES_MAX], uint64_t now);
uint64_t shim_shares_due(void); /* when the next step is; 0: none */
void shim_shares_step(struct shim *s, uint64_t now);
const char *shim_shares_blamed(
    bool monitor_signalled); /* why one ended, if a monitor that failed did so for it; or NULL */

/* shim_console.c */
blx__rc shim_console_open(struct shim_console *c, int dir_fd, blx_error *err) BLX__MUST;
/* Take what the pipe @from holds now; false when its other end is closed. */
bool shim_console_drain(struct shim_console *c, int from);

/* shim_peers.c: connections to the monitor's QMP socket and the guest's port; QMP */
void shim_peers_connect(struct shim *s);
void shim_qmp_readable(struct shim *s);
void shim_qmp_send(struct shim *s, const char *line); /* it does not take it: qmp_fd is closed */
void shim_qmp_silence(struct shim *s, uint64_t now);  /* a breach, if it lasts */
void shim_qmp_powerdown(struct shim *s);
void shim_qmp_pause(struct shim *s, bool paused); /* the monitor's event says when it is so */

/* shim_guest.c: the guest's port */
void shim_guest_opened(struct shim *s);
void shim_guest_readable(struct shim *s);
void shim_guest_flush(struct shim *s);
bool shim_guest_waits(void);                                             /* the queue holds something */
bool shim_guest_room(void);                                              /* for data of a session */
bool shim_guest_queue(struct shim *s, const struct blx__guest_msg *msg); /* false: no room, or no port */
bool shim_guest_send(struct shim *s, enum blx__guest_type type, const char *text);
void shim_guest_clock(struct shim *s);

/* shim_stats.c: counters for whoever asks */
void shim_stats_ask(struct shim *s);
void shim_stats_monitor(struct shim *s, const struct blx__qmp_msg *msg); /* an answer, good or not, to anything */
void shim_stats_monitor_gone(struct shim *s);
void shim_stats_guest(struct shim *s, const struct blx__guest_msg *msg);
void shim_stats_step(struct shim *s, uint64_t now);

/* shim_session.c */
void shim_session_accept(int fd, uint64_t now); /* a connection whose first frame is OPEN */
void shim_session_step(struct shim *s, uint64_t now);
bool shim_session_wants_hello(void); /* one waits for a guest that answers */
void shim_session_guest_message(struct shim *s, const struct blx__guest_msg *msg);
void shim_session_guest_gone(struct shim *s, const char *why);
void shim_session_console(const char *bytes, size_t n);
void shim_session_end_all(struct shim *s);                    /* the monitor ended */
bool shim_session_polled(struct pollfd p[SHIM_SESSIONS_MAX]); /* true: something waits for the console */
void shim_session_events(struct shim *s, const struct pollfd p[SHIM_SESSIONS_MAX]);

/* shim_ctl.c: agents */
blx__rc shim_ctl_open(struct shim *s, blx_error *err) BLX__MUST;
void shim_ctl_stop(struct shim *s, uint32_t deadline_ms);
void shim_ctl_accept(struct shim *s);
void shim_ctl_readable(struct shim *s, struct shim_client *c);
void shim_ctl_push(struct shim *s, const struct blx__shim_msg *msg);
void shim_ctl_push_counters(struct shim *s, const char *text); /* to those that asked */

#endif
