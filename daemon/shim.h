/* blixard-shim: one small process for each virtual machine monitor. It is the monitor's parent, keeps its console, its
 * cgroup and its exit status, talks to it and to its guest, and outlives the daemon that started it. One thread, one
 * poll loop, nothing allocated but what QMP's JSON needs. */
#ifndef BLIXARD_SHIM_H
#define BLIXARD_SHIM_H

#include "base/rc.h"
#include "vm/cgroup.h"
#include "measure/times.h"
#include "vm/proto_guest.h"
#include "vm/proto_qmp.h"
#include "vm/proto_shim.h"

#include <limits.h>
#include <sys/types.h>

enum {
  SHIM_CODE_BASE = 64,         /* it ends with this minus BLX_E_* when the monitor could not be started */
  SHIM_LOCK_ROUNDS = 200,      /* of 10 ms, until an earlier shim is gone */
  SHIM_CLIENTS_MAX = 4,        /* agents connected at the same time; one more takes the place of another */
  SHIM_CONSOLE_MAX = 1 << 20,  /* bytes of console.log; as many again in console.log.1 */
  SHIM_CONNECT_RETRY_MS = 100, /* while the monitor makes its sockets */
  SHIM_BOOT_MS = 30000,        /* how long that is expected */
  SHIM_CONNECT_LATE_MS = 1000,
  SHIM_HELLO_RETRY_MS = 1000,    /* until the guest says ready */
  SHIM_TERM_DEADLINE_MS = 10000, /* for the guest, when the shim itself is asked to end */
  SHIM_LAST_LINE_MAX = 160,      /* of the console, for the sentence about an exit */
};

struct shim_options {
  const char *dir;      /* the instance's directory, absolute: booted, work/, console.log, exit, ctl.sock, lock */
  const char *instance; /* its name, told to the guest */
  const char *cgroup;   /* below each controller's root: "blixard-1/web-1-7"; NULL: none is made */
  uint64_t uid, epoch;
  uint64_t memory_mib, vcpus;
  uint64_t vmm_uid, vmm_gid; /* 0: stays as it is */
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

  int qmp_fd;
  bool qmp_ready, qmp_broken, powerdown_sent;
  struct blx__qmp_reader qmp;
  char qmp_shutdown[64]; /* the reason that the monitor gave for ending */
  unsigned counters_due; /* answers of the monitor that are still to come */
  struct blx__usage counters;

  int guest_fd;
  bool guest_known, guest_asked;
  struct blx__guest_reader guest;

  int listen_fd;
  struct shim_client client[SHIM_CLIENTS_MAX];
  uint64_t clients_seen;

  struct blx__shim_msg state;
  char protocol[BLX__SHIM_TEXT_MAX + 1]; /* first breach of protocol; empty: none */
  uint64_t started_ms, next_connect_ms, next_hello_ms;
  uint64_t stop_at_ms, stop_half_ms, stop_deadline_ms; /* 0: no stop was asked for */
};

/* shim_main.c */
uint64_t shim_now_ms(void);
void shim_set_state(struct shim *s, enum blx__shim_state state, const char *text);
/* One sentence about a breach; told to the agents and kept for those that come. */
void shim_breach(struct shim *s, const char *sentence);

/* shim_vmm.c */
blx__rc shim_vmm_spawn(struct shim *s, blx_error *err) BLX__MUST;
void shim_vmm_kill(struct shim *s);
/* It ended: take its status, drain its console, remove its cgroup, leave the record. */
void shim_vmm_reap(struct shim *s);

/* shim_console.c */
blx__rc shim_console_open(struct shim_console *c, int dir_fd, blx_error *err) BLX__MUST;
/* Take what the pipe @from holds now; false when its other end is closed. */
bool shim_console_drain(struct shim_console *c, int from);

/* shim_peers.c: the monitor's QMP socket and the guest's port */
void shim_peers_connect(struct shim *s);
void shim_qmp_readable(struct shim *s);
void shim_qmp_powerdown(struct shim *s);
void shim_qmp_pause(struct shim *s, bool paused); /* the monitor's event says when it is so */
/* Counters for whoever asks: answered when the monitor has, with none when it does not. */
void shim_qmp_ask(struct shim *s);
void shim_guest_readable(struct shim *s);
void shim_guest_send(struct shim *s, enum blx__guest_type type, const char *text);

/* shim_ctl.c: agents */
blx__rc shim_ctl_open(struct shim *s, blx_error *err) BLX__MUST;
void shim_ctl_stop(struct shim *s, uint32_t deadline_ms);
void shim_ctl_accept(struct shim *s);
void shim_ctl_readable(struct shim *s, struct shim_client *c);
void shim_ctl_push(struct shim *s, const struct blx__shim_msg *msg);
void shim_ctl_push_counters(struct shim *s, const char *text); /* to those that asked */

#endif
