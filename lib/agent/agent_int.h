/* Inside lib/agent: one instance and its states, the agent, and what its files do for each other. */
#ifndef BLX__AGENT_INT_H
#define BLX__AGENT_INT_H

#include "agent/agent.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/sm.h"
#include "io/process.h"
#include "io/timer.h"

enum {
  JOURNAL_FILE_MAX = 128 * 1024, /* bytes of one journal file */
  JOURNAL_JOB_MAX = 32,          /* files written by one piece of work */
  JOURNAL_RETRY_MS = 50,         /* until the workers are asked again when their queue was full */
  INSTANCE_NAME_SIZE = 64,
  TENANT_NAME_SIZE = 64,
  EVENT_TEXT_SIZE = 400,
};

/* The numbers are in journal files: they are never reused. */
enum state {
  NEW = 0,        /* nothing is known of it on this host yet; not journalled */
  PREPARING = 1,  /* its runner is built and its directory made; nothing was ever started in this epoch */
  STARTING = 2,   /* its monitor may run */
  WAIT_READY = 3, /* its monitor ran; the guest has not said ready */
  READY = 4,
  STOPPING = 5,   /* is being stopped or killed; the reason says which, and what it will be when dead */
  DEAD = 6,       /* the driver confirmed that nothing runs, and nothing will in this epoch */
  DESTROYING = 7, /* dead, and what it left on the host is being removed */
  GONE = 8,       /* removed; the journal is kept until the cluster knows */
};

/* What the share wants of an instance. */
enum intent {
  HOLD,   /* not known yet: leave it as it is */
  RUN,    /* run in this epoch */
  STOP,   /* do not run, keep everything */
  REMOVE, /* stop and remove everything */
  NEXT,   /* another epoch has begun here */
  KILL,   /* this epoch is over */
};

struct instance {
  struct blx__agent *agent;
  char name[INSTANCE_NAME_SIZE], tenant[TENANT_NAME_SIZE]; /* tenant "": nobody has said it yet */
  uint64_t uid, epoch;
  enum state state;
  uint64_t turn;      /* drawn from the agent at each move: answers to what was begun before carry another one */
  unsigned calls;     /* of the driver, of this turn, not answered yet */
  bool journalling;   /* the journal of this turn is not written yet */
  bool damaged;       /* its journal could not be read: kill it once the share is known */
  bool adopting;      /* what the journal says it is has not been compared with the host yet */
  bool waiting;       /* the timer tries the same again */
  bool killing;       /* a kill was asked of the driver in this turn */
  bool behind;        /* the share has it under a lower epoch than ours: do nothing */
  bool stale;         /* the cluster said that this epoch is over */
  bool seen;          /* in the share that is being taken over */
  bool asked;         /* the cluster asks how it is, and no batch since says so */
  bool ready, exited; /* what the driver told of this epoch */
  bool broken;        /* its monitor answered what it should not */
  bool paused;        /* READY: it stands still */
  bool pausing;       /* what the driver was asked to make of it in this turn */
  bool pause_failed;  /* not tried again until the share or the lease changes */
  bool lease_paused;  /* it stands still for want of a lease */
  bool lease_lost;    /* it was to be dead in this epoch, for want of a lease */
  bool local_data;    /* it has a disk on this node; */
  bool data_known;    /* or it was looked for one in vain; */
  bool data_told;     /* its last report, or the next, says all of that */
  int32_t exit_signal;
  bool reset;          /* status 0, but no power-off */
  bool witnessed;      /* it ended while we looked: nothing restarted but, perhaps, its shim */
  int32_t exit_status; /* as reported: a status, or minus a signal */
  uint32_t has_exit_status;
  char event_text[EVENT_TEXT_SIZE]; /* with exited or broken: the driver's sentence */
  uint64_t seq;                     /* of the report that tells this state; journalled with it */
  unsigned tries;
  uint64_t since_ms;           /* WAIT_READY: when it began */
  struct blx_vm_spec *spec;    /* owned; of this epoch */
  struct blx_reason *reason;   /* owned; may be NULL */
  struct blx_assignment *want; /* owned; NULL: not in the share */
  struct blx__timer *timer;
  struct blx__list dirty;        /* in agent->dirty while its report is not acknowledged */
  struct blx__list journal_link; /* in agent->to_journal while it waits to be written */
};

/* A call of the driver on its way. Outlives the agent if it must. */
struct call {
  struct blx__list link;
  struct blx__agent *agent; /* NULL: closed, the answer goes nowhere */
  uint64_t uid, turn;
};

struct batch;
struct journal_job;

struct watchdog {
  char *program, *path, *group, *device;
  uint32_t device_s;
  struct blx__lease_page *page;
  struct blx__timer *timer;
  struct blx__process *starting; /* it goes into the background when it looks */
  uint64_t retry_ms;             /* loop time from which it is started again; 0: at once */
  char why[513];                 /* it could not be started last */
};

enum { LEASE_ASKS = 8 /* questions that an answer may still come to */ };

enum lease_phase {
  LEASE_HELD,
  LEASE_ENDING, /* instances are paused */
  LEASE_OVER,   /* and are to be dead */
};

struct lease {
  uint64_t seq, answered, asked_ms[LEASE_ASKS]; /* by seq modulo their number */
  uint64_t pause_ms, kill_ms, end_ms;           /* CLOCK_BOOTTIME; 0: none was given */
  bool own;                                     /* given to this life of the agent */
  enum lease_phase phase;                       /* as it was when it was looked at */
  bool started;                                 /* then instances could be started */
  uint64_t watched_ms;                          /* when the killer was last seen to look, or this life began */
  struct blx__timer *timer;
};

struct blx__agent {
  struct blx__loop *loop;
  struct blx__vm_driver *driver;
  const struct blx__log *log;
  struct blx__agent_sink sink;
  uint64_t node_uid, ready_timeout_ms;
  struct blx__agent_killer killer;
  uint64_t (*boot_ms)(void *user);
  void *boot_user;
  struct lease lease;
  struct watchdog watchdog;
  bool opened; /* the journal was read */
  char *dir, *node_name;
  struct blx__map instances; /* uid -> struct instance */
  uint64_t turns;
  bool shared;       /* the first share came */
  uint64_t era;      /* of the share; */
  uint64_t told_era; /* for that one, all was told anew */
  bool closing;
  struct blx__list calls; /* struct call; at most two per instance */
  struct blx__list dirty, to_journal;
  struct batch *batch; /* sent, not answered */
  struct blx__timer *report_timer, *journal_timer;
  uint64_t report_at_ms; /* when the timer fires; 0: not set */
  uint64_t backoff_ms;   /* 0: the last batch went well */
  struct journal_job *job;
  struct blx__defer finish;
  void (*closed)(void *arg);
  void *closed_arg;
};

extern const struct blx__sm_table machine_table;

/* instance.c */
struct instance *instance_new(struct blx__agent *agent, const char *name, uint64_t uid, uint64_t epoch);
/* Out of the agent, its journal file removed if @forget; freed. */
void instance_drop(struct instance *i, bool forget);
/* Copies @spec. False: no memory. */
bool instance_set_spec(struct instance *i, const struct blx_vm_spec *spec);
void instance_set_reason(struct instance *i, int code, const char *text, const char *unblock);
int instance_code(const struct instance *i);
enum intent instance_intent(const struct instance *i);
/* It shall end in this epoch without being asked. */
bool instance_hurried(const struct instance *i);
/* It may run elsewhere: it is not to be begun here. */
bool instance_held(const struct instance *i);
/* True while the driver's or the journal's answer is awaited. */
bool instance_busy(const struct instance *i);
/* Let machine_timer try again after a while; each time a longer one. */
void instance_wait(struct instance *i);
void instance_note_exit(struct instance *i, const struct blx__vm_status *status);
void instance_note_data(struct instance *i, const struct blx__vm_status *status);

/* machine.c */
/* Look at what is wanted and what is, and take the next step if none is under way. May free @i. */
void machine_step(struct instance *i);
/* Go to @to for a reason; journal it, then act. */
void machine_move(struct instance *i, enum state to, int code, const char *text, const char *unblock);
/* The journal of the current turn is written, or @err says why not. */
void machine_journalled(struct instance *i, const blx_error *err);
void machine_timer(void *arg);
/* What the driver answered. May free @i. */
void machine_confirmed_dead(struct instance *i);
void machine_gone(struct instance *i);
void machine_found(struct instance *i, const struct blx__vm_status *status);
/* It is ended, for want of a lease. */
void machine_lost_lease(struct instance *i);
/* It stands still, or goes on. */
void machine_paused(struct instance *i);
void machine_unadoptable(struct instance *i, const char *text);

/* act.c: calls of the driver and their answers */
void act_prepare(struct instance *i);
void act_start(struct instance *i);
void act_stop(struct instance *i);
void act_kill(struct instance *i);
void act_pause(struct instance *i, bool paused);
void act_destroy(struct instance *i);
void act_adopt(struct instance *i);

/* journal.c */
blx__rc journal_load(struct blx__agent *agent, blx_error *err) BLX__MUST;
void journal_write(struct instance *i);
void journal_remove(const struct instance *i);
/* Write what waits, unless something is being written. */
void journal_run(void *agent);

/* report.c */
void report_due(struct instance *i, bool at_once);
void report_timer_fn(void *agent);
void report_detach(struct blx__agent *agent);

/* lease.c */
void lease_open(struct blx__agent *agent); /* when the journal was read */
void lease_timer_fn(void *agent);
bool instance_ha(const struct instance *i);               /* it runs under the lease */
bool lease_held(const struct blx__agent *agent);          /* nothing has to be paused */
bool lease_permits(const struct instance *i);             /* it may be started now, */
uint64_t lease_start_before_ms(const struct instance *i); /* before this time; 0: at any */
bool lease_ended(const struct instance *i);               /* it is to be dead */
const char *lease_why_not(const struct blx__agent *agent);

/* watchdog.c */
blx__rc watchdog_open(struct blx__agent *agent, const struct blx__agent_watchdog *options, blx_error *err) BLX__MUST;
void watchdog_leave(struct blx__agent *agent); /* the agent closes */
bool watchdog_is_idle(const struct blx__agent *agent);
void watchdog_free(struct blx__agent *agent);

/* agent.c */
void agent_finish_if_idle(struct blx__agent *agent);
void agent_step_all(struct blx__agent *agent);

#endif
