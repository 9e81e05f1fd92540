/* This node's share of the cluster's state against what the driver reports. The agent starts, stops and removes the
 * instances assigned to this node, journals each step before it takes it, and tells the cluster what it saw.
 *
 * Highly available instances run under the node's lease (lease.c): they are paused before it ends and dead when it has
 * ended, and start only while it is there.
 *
 * What it holds to: it never acts on a lower epoch; it starts an instance at most once in an epoch, across its own
 * restarts; it starts nothing before the first share; "dead" is reported only when the driver confirmed it.
 * Everything happens on the loop's thread. */
#ifndef BLX__AGENT_AGENT_H
#define BLX__AGENT_AGENT_H

#include "base/arena.h"
#include "base/log.h"
#include "io/loop.h"
#include "schema/internal.h"
#include "vm/driver.h"

enum {
  BLX__AGENT_INSTANCES_MAX = 4096,       /* of one node; more are left alone and logged */
  BLX__AGENT_READY_TIMEOUT_MS = 120000,  /* default of ready_timeout_ms */
  BLX__AGENT_REPORT_DELAY_MS = 100,      /* reports wait so long for company */
  BLX__AGENT_REPORTS_MAX = 64,           /* in one batch */
  BLX__AGENT_REPORT_RETRY_MIN_MS = 200,  /* back-off after a batch that failed ... */
  BLX__AGENT_REPORT_RETRY_MAX_MS = 2000, /* ... doubling up to here */
  BLX__AGENT_ADOPT_TRIES = 3,            /* then what cannot be adopted is killed */
  BLX__AGENT_RETRY_MIN_MS = 1000,        /* back-off of a stop, removal or adoption that failed ... */
  BLX__AGENT_RETRY_MAX_MS = 30000,       /* ... doubling up to here */
};

struct blx__agent;

/* Answer to a batch of reports, exactly once per send.
 * @arg      as given to send
 * @err      NULL: the batch is applied; else it is sent again later
 * @stale    uids of instances in the batch whose epoch is over; @count of them */
typedef void blx__agent_sent_fn(void *arg, const blx_error *err, const uint64_t *stale, size_t count);

/* Carries reports to the cluster.
 * send: one batch at a time, at most one report per instance; @reports are valid until @done is called. It may be
 * called inside send. */
struct blx__agent_sink {
  void (*send)(void *user, const struct blx_instance_report *const *reports, size_t count, blx__agent_sent_fn *done,
               void *arg);
  void *user;
};

/* Who ends highly available instances in time although the agent hangs or is gone (lease/page.h). Without one there is
 * no lease here, and they are not started. Times are CLOCK_BOOTTIME, ms. */
struct blx__agent_killer {
  void (*set)(void *user, uint64_t boot_ms); /* from then on they are killed; 0: at once */
  uint64_t (*get)(void *user);               /* what was set last, in a life before too */
  bool (*watched)(void *user);               /* somebody looks */
  void *user;
};

/* The process that is the killer of real VMs (blixard-watchdog). Strings are copied. */
struct blx__agent_watchdog {
  const char *program; /* NULL: none is started */
  const char *page;    /* the page that it has with us; in the data directory */
  const char *group;   /* the control group that holds those of highly available instances */
  const char *device;  /* resets the machine when the process hangs; NULL: none */
  uint32_t device_s;   /* after so long */
};

struct blx__agent_options {
  struct blx__loop *loop;
  struct blx__vm_driver *driver; /* borrowed; closed after the agent; its events go to blx__agent_event */
  const char *journal_dir;       /* copied; made if it is missing */
  const char *node_name;         /* copied; for messages */
  uint64_t node_uid;
  const struct blx__log *log; /* borrowed; may be NULL */
  uint64_t ready_timeout_ms;  /* from the monitor's start until the guest said ready; 0: the default */
  struct blx__agent_sink sink;
  struct blx__agent_watchdog watchdog; /* with a program, its process is the killer; else */
  struct blx__agent_killer killer;     /* copied; set NULL: none */
  uint64_t (*boot_ms)(void *user);     /* NULL: the loop's; else a test's */
  void *boot_user;
};

/* Read the journal and begin to adopt what runs. Blocks for the reads of a few small files per instance.
 * @out  close with blx__agent_close()
 * Errors: IO, DENIED, NOSPACE (the journal's directory), NOMEM. A damaged journal file is no error: it is logged, and
 * once the share is known, that instance is adopted if it runs under the epoch it should, else killed and reported
 * dead. Of the watchdog's page: IO, DENIED, NOSPACE, CORRUPT. */
blx__rc blx__agent_open(const struct blx__agent_options *options, struct blx__agent **out, blx_error *err) BLX__MUST;

/* The complete share of this node: what was in the last one and is not in this one is stopped and removed. Call it once
 * the node has read quorum state newer than its start, and whenever the share changed. Assignments of a lower epoch
 * than the agent has seen are ignored.
 * @assignments  borrowed during the call
 * Errors: NOMEM, INVALID (an assignment without a spec): those before it were taken over; call it again. */
blx__rc blx__agent_share(struct blx__agent *agent, const struct blx_assignment *const *assignments, size_t count,
                         blx_error *err) BLX__MUST;

/* The share that follows is of that era: one begins with each recovery of the cluster, and a part of its log may be
 * lost then. Reports say which they go by. @unclear: the cluster does not know what runs here, so that it is told of
 * all instances anew, and what runs under a lease is ended, for that was given by who is gone. Call it before the
 * share. */
void blx__agent_era(struct blx__agent *agent, uint64_t era, bool unclear);

/* Nothing runs here, and nothing will, but what the last share says, under the epoch that it says, and nothing is about
 * to begin by an earlier one. */
bool blx__agent_is_clear(const struct blx__agent *agent);

/* Nothing is left here of any instance; and whether one that is has a disk here. */
bool blx__agent_is_empty(const struct blx__agent *agent);
bool blx__agent_has_disk(const struct blx__agent *agent);

/* The cluster said that @epoch of this instance is over: kill it if it still runs under that epoch or a lower one. */
void blx__agent_instance_stale(struct blx__agent *agent, uint64_t instance_uid, uint64_t epoch);

/* What the driver tells: the node passes its driver's events on to the agent it has. */
void blx__agent_event(struct blx__agent *agent, const struct blx__vm_key *key, enum blx__vm_event event,
                      const struct blx__vm_status *status);

/* The driver's key of an instance this node knows, dead ones too, for the driver's logs(). @tenant NULL or "": default.
 * @out->instance points into the agent until it is called again. Errors: NOT_FOUND. */
blx__rc blx__agent_find(struct blx__agent *agent, const char *tenant, const char *instance, struct blx__vm_key *out,
                        blx_error *err) BLX__MUST;

/* The tenant of an instance this node knows, until the agent is called again. NULL: not known. */
const char *blx__agent_tenant(const struct blx__agent *agent, uint64_t uid);

/* ---- the node's lease */

/* It is asked for now: the number of the question. */
uint64_t blx__agent_lease_ask(struct blx__agent *agent);

/* Question @seq was answered: it lasts for @lease_ms from when it was asked. An answer that comes after the time at
 * which instances are killed by it, or after the answer to a later question, changes nothing: false. So does one while
 * nobody has watched for two seconds. */
bool blx__agent_lease_granted(struct blx__agent *agent, uint64_t seq, uint64_t lease_ms,
                              const struct blx_lease_settings *settings);

/* There is none any more, and no answer to what was asked so far brings one: end at once what runs under it. */
void blx__agent_lease_end(struct blx__agent *agent);

/* How much of it is left; 0: none. */
uint64_t blx__agent_lease_left_ms(const struct blx__agent *agent);

/* Whether this node could run such instances: somebody looks. */
bool blx__agent_ha_ready(const struct blx__agent *agent);

/* The keys of the runners that were built here and are kept (schema/closure.h), each once, at most @most of them, in
 * @arena. Returns how many; fewer when that is full. */
size_t blx__agent_stored(const struct blx__agent *agent, struct blx__arena *arena, const char **out, size_t most);

/* How many instances it keeps, and how many reports are not acknowledged. */
size_t blx__agent_instances(const struct blx__agent *agent);
/* Of these, how many run and said that they are ready. */
size_t blx__agent_running(const struct blx__agent *agent);
size_t blx__agent_unreported(const struct blx__agent *agent);

/* Stop acting; VMs run on. Answers of the driver and the sink that come later are ignored. @done is called on a later
 * turn, when nothing is being written any more; the agent is then gone. Not to be called twice. */
void blx__agent_close(struct blx__agent *agent, void (*done)(void *arg), void *arg);

#endif
