/* What the agent asks of whatever runs VMs on this node, and the two that can: microvm.nix's runners
 * (blx__vm_microvm_open) and a simulation (blx__vm_sim_open). Everything happens on the loop's thread. Each call
 * completes exactly once, by its `done`, never before the call returned; strings and descriptions are borrowed for the
 * duration of the call only. One operation at a time for an instance: a second one completes with BUSY, except that
 * stop, kill and destroy overtake a prepare and a kill overtakes a stop, which then completes with CANCELLED. Since
 * 0.1.
 */
#ifndef BLX__VM_DRIVER_H
#define BLX__VM_DRIVER_H

#include "base/buf.h"
#include "base/map.h"
#include "io/loop.h"
#include "measure/usage.h"

enum {
  BLX__VM_TEXT_MAX = 384,          /* bytes of a sentence in a status */
  BLX__VM_PAUSE_MS = 5000,         /* how long a monitor may take to pause or resume */
  BLX__VM_INSTANCES_MAX = 4096,    /* instances that one driver keeps */
  BLX__VM_LOGS_MAX = 256,          /* readers of logs at the same time */
  BLX__VM_CONFIG_MAX = 48 << 10,   /* bytes of a module file */
  BLX__VM_LOG_LINES_ALL = 1 << 30, /* tail_lines: everything that is kept */
  BLX__VM_STATS_MAX = 16,          /* snapshots of statistics under way at the same time */
};

/* An instance under one assignment. The directory and the cgroup are named by instance and uid; the epoch travels along
 * and comes back with every event. */
struct blx__vm_key {
  const char *instance; /* a name of DESIGN.md */
  uint64_t uid;
  uint64_t epoch;
};

struct blx__vm_desc {
  struct blx__vm_key key;
  uint32_t vcpus, memory_mib; /* what the cluster accounts for: wins over the module's; 0: the module's (config only) */
  const char *hypervisor;     /* "qemu"; NULL: "qemu" */
  const char *flake;          /* REF#NAME, or NULL: then config */
  const uint8_t *config;      /* text of a microvm.nix module */
  size_t config_len;          /* 1..BLX__VM_CONFIG_MAX */
  const char *config_name;    /* the file name it had, for messages; may be NULL */
  bool ready_none;            /* the guest has no agent: running is ready */
  const char *nixpkgs_ref;    /* flake references that the module is built with, pinned; NULL: the driver's own */
  const char *microvm_ref;
  bool ha;                  /* its cgroup is among those that a watchdog process ends, and it starts in none else */
  uint64_t start_before_ms; /* CLOCK_BOOTTIME: from then on it is not started any more; 0: at any time */
};

enum blx__vm_state {
  BLX__VM_ABSENT,   /* there is no directory */
  BLX__VM_PREPARED, /* the runner is built; it was never started since */
  BLX__VM_RUNNING,  /* the monitor runs, the guest has not said ready */
  BLX__VM_READY,
  BLX__VM_EXITED, /* exit_status, signal and text say how */
};

/* Whether @ref says which revision it is: a reference that moves would give each node, and each day, another guest. */
bool blx__vm_ref_is_pinned(const char *ref);

struct blx__vm_status {
  enum blx__vm_state state;
  uint64_t epoch;      /* under which it was started; 0 when it was not */
  int32_t exit_status; /* 0..255; -1 when a signal ended it or nobody knows */
  int32_t signal;      /* 0: none */
  int32_t vmm_pid;     /* 0: none */
  bool no_limits;      /* no cgroup holds it; text says why */
  bool stopping;       /* the end was asked for */
  bool paused;         /* its virtual CPUs stand still */
  bool local_data;     /* it has a disk on this node, in its working directory: a regular file of 1 MiB or
                          more, or one named as an image (.img, .raw, .qcow2) */
  bool data_known;     /* it ran for long enough to have one, and was looked at since */
  bool reset;          /* exit_status is 0, but the guest rebooted or panicked: it did not power off */
  char text[BLX__VM_TEXT_MAX + 1];
};

enum blx__vm_event {
  BLX__VM_EVENT_READY,
  BLX__VM_EVENT_EXITED,   /* always, also when it was asked for: it comes before that call's done */
  BLX__VM_EVENT_PROTOCOL, /* its monitor answered garbage; it still runs: kill it */
  BLX__VM_EVENT_DATA,     /* local_data or data_known of the status is true now */
};

typedef void blx__vm_event_fn(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                              const struct blx__vm_status *status);
typedef void blx__vm_done_fn(void *user, const blx_error *err); /* @err NULL: done */
typedef void blx__vm_adopt_fn(void *user, const blx_error *err, const struct blx__vm_status *status);

/* Bytes of a console that came at @at_ms, ms since 1970 (0: not known). False: not taken; the same bytes are offered
 * again a little later. */
typedef bool blx__vm_log_bytes_fn(void *user, uint64_t at_ms, const uint8_t *bytes, size_t n);
/* The last call. @err NULL: all was read, or the instance was destroyed. */
typedef void blx__vm_log_end_fn(void *user, const blx_error *err);

/* What an instance that runs uses. */
struct blx__vm_stats {
  char instance[64];
  uint64_t uid;
  struct blx__usage usage;
};
/* All that run, in no order, borrowed. @err: then there are none. */
typedef void blx__vm_stats_fn(void *user, const blx_error *err, const struct blx__vm_stats *list, size_t count);

struct blx__vm_driver;
struct blx__vm_logs;

enum {
  BLX__VM_SESSIONS_MAX = 64,            /* sessions of one driver at the same time */
  BLX__VM_SESSION_ARGS_MAX = 64,        /* words of a command */
  BLX__VM_SESSION_ARGS_BYTES = 2048,    /* of all of them, with their NULs */
  BLX__VM_SESSION_WRITE_MAX = 32 << 10, /* bytes of one write */
};

/* What a session is about: a command of its own in the guest, or, without words, the guest's serial console. */
struct blx__vm_session_spec {
  const char *const *argv; /* borrowed for the call; argv[0] is looked up in the guest's PATH */
  size_t argc;             /* 0: the console */
  bool tty;                /* the command gets a terminal: its standard error comes as standard output */
  uint16_t rows, columns;  /* of that terminal; 0: 24 and 80 */
};

enum blx__vm_session_stream { BLX__VM_SESSION_OUT = 1, BLX__VM_SESSION_ERR = 2 };

struct blx__vm_session_events {
  /* False: not taken; the same bytes are offered again a little later. */
  bool (*on_output)(void *user, enum blx__vm_session_stream stream, const uint8_t *bytes, size_t n);
  void (*on_room)(void *user); /* after a write that was refused: try again */
  /* The last call. @err NULL: the command ended, with @exit_status 0..255, or -1 and a signal 1..64; a console ended
   * with its instance. Else: UNAVAILABLE (the guest, its agent or its shim is gone), NOT_FOUND (no such program). */
  void (*on_end)(void *user, const blx_error *err, int32_t exit_status, int32_t signal);
};

struct blx__vm_session;

struct blx__vm_ops {
  const char *name; /* "microvm.nix", "simulated" */

  /* Whether @desc can run here at all. Errors: UNSUPPORTED and INVALID with the reason. May be called any time. */
  blx__rc (*supported)(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx_error *err);

  /* Build the runner and make the instance's directory. Again and again is fine: a running guest keeps what it was
   * started from. Errors: UNSUPPORTED, INVALID (the build's last words), TIMEOUT, CANCELLED, NOSPACE, IO. A failure
   * leaves what was there before. */
  void (*prepare)(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user);

  /* Start the monitor from what was prepared. Errors: NOT_FOUND (not prepared), CONFLICT (it runs already), DENIED,
   * UNSUPPORTED (a limit cannot be set), TIMEOUT (it was to start before), IO: the sentence says what its monitor said.
   */
  void (*start)(struct blx__vm_driver *d, const struct blx__vm_desc *desc, blx__vm_done_fn *done, void *user);

  /* Shut the guest down; at the deadline kill it. Done: it is dead. Dead already, or unknown: success. */
  void (*stop)(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t deadline_ms, blx__vm_done_fn *done,
               void *user);

  /* Kill it now. Done: it is dead. Dead already, or unknown: success. */
  void (*kill)(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user);

  /* Let its virtual CPUs stand still, or go on; so already: success. Done: its monitor said so. Errors: NOT_FOUND (it
   * does not run, or ended meanwhile), TIMEOUT (its monitor did not say so in BLX__VM_PAUSE_MS). */
  void (*pause)(struct blx__vm_driver *d, const struct blx__vm_key *key, bool paused, blx__vm_done_fn *done,
                void *user);

  /* Remove its directory, roots and cgroup; readers of its logs end. Errors: CONFLICT (it runs), IO. */
  void (*destroy)(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_done_fn *done, void *user);

  /* After a restart of the daemon: find out how it is, and follow it again if it runs. status->epoch tells under which
   * assignment it was started; the agent compares. Errors: CONFLICT (its shim refuses us), UNAVAILABLE (it does not
   * answer), IO. */
  void (*adopt)(struct blx__vm_driver *d, const struct blx__vm_key *key, blx__vm_adopt_fn *done, void *user);

  /* Read the console, the last @tail_lines lines of it (BLX__VM_LOG_LINES_ALL: all), then go on if @follow. Works for
   * the dead, as long as the directory exists. @out is valid until on_end is called or logs_close. Errors: NOT_FOUND,
   * BUSY (BLX__VM_LOGS_MAX), NOMEM: then nothing is called. */
  blx__rc (*logs)(struct blx__vm_driver *d, const struct blx__vm_key *key, uint32_t tail_lines, bool follow,
                  blx__vm_log_bytes_fn *on_bytes, blx__vm_log_end_fn *on_end, void *user, struct blx__vm_logs **out,
                  blx_error *err);
  void (*logs_close)(struct blx__vm_driver *d, struct blx__vm_logs *logs); /* on_end is not called */

  /* Begin a session. @out is valid until on_end is called or session_close. Errors: NOT_FOUND (no such instance),
   * CONFLICT (it does not run), UNSUPPORTED (the guest has no agent, or one that is too old), INVALID (the words), BUSY
   * (BLX__VM_SESSIONS_MAX), NOMEM: then nothing is called. */
  blx__rc (*session_open)(struct blx__vm_driver *d, const struct blx__vm_key *key,
                          const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                          void *user, struct blx__vm_session **out, blx_error *err);
  /* Give @n bytes, 1..BLX__VM_SESSION_WRITE_MAX, to its standard input; @n 0: that ends here. All or nothing; false:
   * there is no room, on_room tells when. */
  bool (*session_write)(struct blx__vm_driver *d, struct blx__vm_session *s, const uint8_t *bytes, size_t n);
  void (*session_resize)(struct blx__vm_driver *d, struct blx__vm_session *s, uint16_t rows, uint16_t columns);
  /* The command is killed if it runs still; a console goes on. on_end is not called. */
  void (*session_close)(struct blx__vm_driver *d, struct blx__vm_session *s);
  /* Measure what runs, off the loop, in less than half a second as a rule. What is not known is absent. Errors: BUSY
   * (BLX__VM_STATS_MAX), NOMEM: then nothing is called; CANCELLED (the driver was closed) is told. NULL: this driver
   * does not measure. */
  blx__rc (*stats)(struct blx__vm_driver *d, blx__vm_stats_fn *done, void *user, blx_error *err);

  /* Let go: calls under way complete with CANCELLED, then @done, then the driver is freed. VMs run on. */
  void (*close)(struct blx__vm_driver *d, void (*done)(void *user), void *user);
};

/* The beginning of every driver. */
struct blx__vm_driver {
  const struct blx__vm_ops *ops;
};

/* Of microvm.nix. Paths are absolute; strings are copied. */
struct blx__vm_options {
  const char *state_dir; /* holds vms/, builds/ and with a store of its own nothing else is written anywhere */
  const char
      *host_tag; /* begins every host-wide name (cgroup, GC root) and carries the node: "blixard-1"; <= 48 bytes */
  const char *shim_path;     /* blixard-shim */
  const char *runner_dir;    /* a directory with `wrap`: nix/debian-runner, nix/vm-template */
  const char *kernel_dir;    /* what fetch-kernel.sh made */
  const char *guest_path;    /* blixard-guest */
  const char *nix_store_dir; /* a Nix prefix of our own: store/ and var/ below; NULL: the system's /nix */
  const char *nix_path;      /* the `nix` program; NULL: looked up in PATH */
  const char *nixpkgs_ref;   /* told to `wrap`: pinned flake references; NULL: not */
  const char *microvm_ref;
  const char *share_paths;    /* "A:B": below these lies what a runner may share with its guest; NULL: none */
  const char *virtiofsd_path; /* NULL: looked for in PATH and where Debian has it */
  uint32_t vmm_uid, vmm_gid;  /* monitors run as; 0: as the daemon does */
  bool vmm_user_optional;     /* as the daemon does, and the status says so, where that user cannot reach the runner */
  bool cgroup_none;           /* make none */
  bool cgroup_required;       /* refuse to start without limits */
  uint32_t build_deadline_ms; /* of one build; 0: 600,000 */
  blx__vm_event_fn *on_event;
  void *user;
};

/* Errors: INVALID (an option is missing or too long), DENIED, IO (the state directory), NOMEM. */
blx__rc blx__vm_microvm_open(struct blx__loop *loop, const struct blx__vm_options *options, struct blx__vm_driver **out,
                             blx_error *err) BLX__MUST;

/* How a simulated host behaves. Zero-initialised: everything takes a turn of the loop and succeeds. */
struct blx__vm_sim_options {
  uint32_t prepare_ms, start_ms, ready_ms, stop_ms; /* how long each takes */
  uint32_t fail_prepare_every, fail_start_every;    /* every n-th fails; 0: none does */
  uint32_t exit_every, exit_after_ms; /* every n-th instance that is ready ends by itself after that time */
  uint32_t never_ready_every;         /* every n-th never says ready */
  uint32_t lie_start_every;           /* every n-th that starts is said to have failed, and runs */
  uint32_t fail_adopt_every;          /* every n-th cannot be looked at: UNAVAILABLE */
  bool lie_dead;                      /* stop and kill claim success while it runs on */
  blx__vm_event_fn *on_event;
  void *user;
};

/* Nothing survives its close. Errors: NOMEM. */
blx__rc blx__vm_sim_open(struct blx__loop *loop, const struct blx__vm_sim_options *options, struct blx__vm_driver **out,
                         blx_error *err) BLX__MUST;

/* A simulated machine, for simulators of whole clusters: what runs on it outlives its driver, as guests outlive their
 * daemon. Zero-initialised by its owner, who keeps it until the last driver of it is closed. */
struct blx__vm_sim_host {
  struct blx__vm_sim_options options;                                   /* looked at anew for each operation */
  void (*on_run)(void *user, const struct blx__vm_key *key, bool runs); /* a monitor began or ended; NULL allowed */
  void *user;
  uint64_t kill_at_ms;  /* as blx__vm_sim_set_kill_at says it; of a life of the driver before, too */
  struct blx__map kept; /* its own: by id, while no driver is open */
};

/* As blx__vm_sim_open, on @host, one driver at a time; what it holds is found by adopt. Errors: NOMEM. */
blx__rc blx__vm_sim_open_on(struct blx__loop *loop, struct blx__vm_sim_host *host, struct blx__vm_driver **out,
                            blx_error *err) BLX__MUST;

/* While no driver is open: one of its instances ends by itself, false: it does not run; or all do, nobody knows how. */
bool blx__vm_sim_host_end(struct blx__vm_sim_host *host, const struct blx__vm_key *key, int32_t exit_status,
                          int32_t signal);
void blx__vm_sim_host_power_off(struct blx__vm_sim_host *host);
void blx__vm_sim_host_free(struct blx__vm_sim_host *host);

/* Let the simulated instance end by itself, with this status or signal. False: it does not run. */
bool blx__vm_sim_end(struct blx__vm_driver *sim, const struct blx__vm_key *key, int32_t exit_status, int32_t signal);

/* When highly available instances are to be dead, CLOCK_BOOTTIME. Of a driver of its own nobody but the agent ends
 * them: they stand still when the daemon does, and end with it. On a host, whoever simulates its watchdog process does.
 */
void blx__vm_sim_set_kill_at(struct blx__vm_driver *sim, uint64_t boot_ms);
uint64_t blx__vm_sim_kill_at(const struct blx__vm_driver *sim);

/* What a watchdog process does: their monitors are dead when it returns, and the driver's owner hears of it on a later
 * turn; how many. While no driver is open: the host's. */
unsigned blx__vm_sim_kill_ha(struct blx__vm_driver *sim);
unsigned blx__vm_sim_host_kill_ha(struct blx__vm_sim_host *host);

/* Number of simulated instances whose monitor runs. */
size_t blx__vm_sim_running(const struct blx__vm_driver *sim);

/* What this build knows of a hypervisor that microvm.nix has. @name: "qemu", ...; NULL: "qemu". Errors: UNSUPPORTED (a
 * known one that is not driven yet: says why), INVALID (unknown: says which are known; or an amount it cannot take). */
blx__rc blx__vm_hypervisor_check(const char *name, uint32_t vcpus, uint32_t memory_mib, blx_error *err) BLX__MUST;

/* Whether a flake's reference can be one: REF#NAME, with nothing that Nix could take for an option, or for a place
 * relative to the daemon. Whether it is there, its node sees. Errors: INVALID. Thread: any. */
blx__rc blx__vm_flake_check(const char *flake, blx_error *err) BLX__MUST;

#endif
