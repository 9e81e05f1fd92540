/* A cluster of whole nodes, servers and workers: lib/node as the daemon opens it, one on each machine of the twin, with
 * users beside, faults, and the invariants of a cluster watched from outside. A seed is a run. */
#ifndef BLX_TESTS_SIM_NODES_H
#define BLX_TESTS_SIM_NODES_H

#include "node/node_int.h"
#include "twin.h"

enum { NODES_MAX = MACHINES_MAX - 1, SERVERS_MAX = 7, WORKERS_MAX = 20, WHY_SIZE = 512, VMS = 6, REPLICAS_MAX = 3 };

/* Points that some seed must come by. */
#define NODES_SOMETIMES_MAP(X)                                                \
  X(ALONE, "a cluster of one was run")                                        \
  X(SEVEN, "a cluster of seven was run")                                      \
  X(KILLED, "a daemon was killed")                                            \
  X(POWER_LOST, "a machine lost its power")                                   \
  X(STOPPED, "a daemon was stopped in order, and started")                    \
  X(STOPPED_ITSELF, "a daemon stopped itself")                                \
  X(PAUSED, "a daemon was paused")                                            \
  X(CUT, "a link was cut")                                                    \
  X(CLOCK_JUMPED, "a clock jumped")                                           \
  X(ADOPTED, "a daemon that was killed found guests running")                 \
  X(DIED_ALONE, "a guest ended while no daemon was there")                    \
  X(GUEST_ENDED, "a guest ended by itself")                                   \
  X(MOVED, "an instance was started on another node than before")             \
  X(RESTARTED, "an instance was started again on its node")                   \
  X(START_LIED, "a start that succeeded said it had failed")                  \
  X(NO_ROOM, "an instance waited for room")                                   \
  X(RETRIED, "a user asked again after an unknown outcome")                   \
  X(UNKNOWN_DONE, "what had an unknown outcome had been done")                \
  X(REFUSED, "a user was refused: no leader")                                 \
  X(ASKED_TWICE, "an answered request was asked again and answered the same") \
  X(KEY_CONFLICT, "a key came with another request, and was refused")         \
  X(WATCH_RESUMED, "a watch went on at another node where it was")            \
  X(WATCH_STALE, "a watch came too late and began anew")                      \
  X(SNAPSHOT, "a snapshot was restored")                                      \
  X(NEW_LEADER, "a second leader served")                                     \
  X(TORN, "a crash left a part of a write")                                   \
  X(WORKERS, "a cluster with workers was run")                                \
  X(MANY_WORKERS, "a cluster with many workers was run")                      \
  X(WORKER_RAN, "a guest was started on a worker")                            \
  X(WORKER_RESUMED, "a worker came to a server with the share that it had")   \
  X(AUDIT_LOST, "a process died before its last audit records were synced")   \
  X(AUDIT_WAITED, "a snapshot waited for audit records to be synced")         \
  X(AUDIT_GAP, "a member lacked audit records")                               \
  X(AUDIT_FETCHED, "a member was given audit records by another")             \
  X(KILLED_IN_TIME, "a watchdog killed a guest")                              \
  X(FENCED, "a node was fenced")                                              \
  X(FAILED_OVER, "a guest was started elsewhere after its node was fenced")   \
  X(RETURNED, "a node that was fenced came back")                             \
  X(STORM, "placement was asked for all it can")                              \
  X(PREEMPTED, "an instance was ended for one of higher priority")

#define NODES_SOMETIMES_ENUM(name, text) SOME_##name,
enum sometimes { NODES_SOMETIMES_MAP(NODES_SOMETIMES_ENUM) SOME_COUNT };
#undef NODES_SOMETIMES_ENUM

/* Parts broken on purpose, each to show that its invariant is watched. @expected begins the text of the failure. */
#define NODES_BROKEN_MAP(X)                                                                                          \
  X(NONE, "nothing", "")                                                                                             \
  X(DEATH, "death", "I1 ")                    /* the driver says that a guest is dead that runs on */                \
  X(RATES, "rates", "I1 ")                    /* some machines' clocks are slower than the settings allow for */     \
  X(KILLER, "killer", "I1 ")                  /* nobody ends guests for a daemon that is paused or gone */           \
  X(JOURNAL, "journal", "I2 ")                /* a machine that lost its power has lost its journal and its past */  \
  X(ACKS, "acks", "I3 ")                      /* some proposals are acknowledged and thrown away */                  \
  X(APPLY, "apply", "I4 ")                    /* one node leaves out one operation */                                \
  X(ROOM, "room", "I6 ")                      /* every node can take everything */                                   \
  X(KEYS, "keys", "I8 ")                      /* no request is remembered */                                         \
  X(READS, "reads", "I11 ")                   /* any member answers reads, from what it has */                       \
  X(WATCH, "watch", "I12 ")                   /* some events of a watch are left out */                              \
  X(SHARE, "share", "I13 the desired state")  /* after the faults a worker is not told of one instance */            \
  X(LEADER, "leader", "I13 a leader")         /* after the faults no message arrives at members */                   \
  X(ANSWERS, "answers", "I13 the operations") /* after the faults no request is answered */                          \
  X(AUDIT, "audit", "I9 ")                    /* snapshots do not wait for audit records, and no member gives any */ \
  X(CONTROL, "control", "I13 the desired state") /* after the faults control does nothing */

#define NODES_BROKEN_ENUM(name, text, expected) BROKEN_##name,
enum broken { NODES_BROKEN_MAP(NODES_BROKEN_ENUM) BROKEN_COUNT };
#undef NODES_BROKEN_ENUM

struct cluster_options {
  uint64_t seed;
  bool verbose;
  bool no_workers, no_storm;
  enum broken broken;
};

/* What a monitor really does, whatever anybody believes. By uid of the instance, never forgotten. */
struct truth {
  char name[64];
  unsigned machine; /* where it was started last */
  bool runs;
  uint64_t epoch; /* under which it was started last */
};

/* One machine with its daemon. */
struct node {
  unsigned number;
  struct machine *m;
  struct blx__node *n; /* NULL: not open */
  struct blx__vm_sim_host host;
  struct blx_resources capacity;
  char name[8], dir[8], address[32];
  int fatal_code;
  bool journal_failed;    /* a file of its agent's journal could not be written, or removed */
  uint64_t checked_index; /* of its state */
  bool started;           /* a guest was started there since its load was checked */
};

struct cluster {
  struct cluster_options o;
  unsigned count, servers;          /* nodes; the first of them are servers, the others workers */
  struct node nodes[NODES_MAX + 1]; /* from 1 */
  struct blx__map truths;           /* instance uid -> struct truth */
  struct blx__map epochs;           /* instance uid -> the highest epoch that any replica knew */
  struct blx__map chains;           /* index -> chain, as all members must have it */
  struct blx__map events;           /* index -> struct events_at */
  unsigned pace;                    /* of users: so many times slower, so that guests live to see their nodes fenced */
  uint64_t leader_uid;
  uint64_t settings_us;       /* not proposed again before */
  bool fenced[NODES_MAX + 2]; /* by uid, as some replica had it last */
  uint32_t snapshot_entries, segment_bytes;
  uint64_t peace_us; /* when the faults are over, if it is used */
  bool used;         /* it is made, and users use it */
  bool calm;         /* the faults are over */
  bool failed;
  char why[WHY_SIZE];
  bool storm;            /* placement is asked for all it can */
  uint64_t steps, loads; /* of control; that were measured */
  uint64_t reached;
};
extern struct cluster cluster;

/* What an index brought: as many events, with this hash over them in order. */
struct events_at {
  uint64_t count, hash;
};
uint64_t event_hash(uint64_t hash, const struct blx_event *e);

/* ---- cluster.c: the life of nodes */
void cluster_init(const struct cluster_options *o);
void cluster_free(void);
void cluster_fail(const char *fmt, ...) BLX__PRINTF(1, 2);
void cluster_log(const char *fmt, ...) BLX__PRINTF(1, 2);
void cluster_sometimes(enum sometimes point);
uint64_t cluster_rng(uint64_t lo, uint64_t hi);
bool cluster_chance(unsigned percent);
/* Let everything happen in the next @ms, or until @done holds: its value. An invariant that breaks ends it. */
bool cluster_until(bool (*done)(void), uint64_t ms);
void cluster_after(uint64_t after_us, blx__sim_fn *fn, uint64_t a);

/* False: its disk failed it; try again later. Any other failure ends the run. */
bool node_open(struct node *n);
void node_stop(struct node *n);            /* in order */
void node_die(struct node *n, bool power); /* in no order */
struct node *cluster_leader(void);         /* who serves, or NULL */

/* ---- check.c: after every event on a machine */
void check_node(struct node *n);
/* Of the driver: a monitor begins or ends. */
void check_run(void *user, const struct blx__vm_key *key, bool runs);
/* NULL: what users want is so; else what is not yet. */
const char *check_settled(void);
const char *check_empty(void);
bool check_audit(void);            /* I9: every server has every record */
const char *check_audit_why(void); /* what is lacking */
void check_equal(void);            /* at the end: all that is kept is the same everywhere */

/* ---- users.c */
void users_open(void);
struct blx__loop *users_loop(void);
void users_close(void); /* after the watch's end */
void users_free(void);
void users_join_all(void); /* the cluster is made */
bool users_joined(void);
void users_begin(void);
void users_end(void);        /* nothing new is begun */
bool users_idle(void);       /* all that was begun is answered */
void users_delete_all(void); /* and nothing else */
void users_check(void);      /* I3: what was acknowledged is there */

/* ---- storm.c: placement is asked for all it can, and watched */
struct storm_op {
  struct blx__arena arena;
  struct blx_op *op; /* NULL: it is not looked at */
  bool expected;
  const char *wrong;
};
void storm_begin(void); /* of a run */
void storm_end(void);
void storm_spec(struct blx_vm_spec *spec);
enum blx__rpc_id storm_look(void); /* BLX__RPC_COUNT: none */
void storm_labels(struct blx_node_options *o, unsigned number);
uint32_t storm_memory_percent(void); /* of what nodes have is given out */
bool storm_is_set(void);             /* quota and settings are there */
void storm_blow(void);
bool storm_is_over(void);
void storm_proposed(const struct blx__state *st, const struct blx__control_out *out);
void storm_restored(const struct blx__state *st);
void storm_applying(const struct blx__state *st, struct blx__slice op, struct storm_op *out);
void storm_applied(const struct blx__state *st, struct storm_op *o, const struct blx__buf *result);
void storm_check(const struct blx__state *st);

/* ---- watch.c: somebody who watches all events, from where it was, at one node after another */
void watch_begin(void);
void watch_end(void);
bool watch_has_all(void); /* it saw everything until now */

/* ---- chaos.c */
void chaos_begin(void);
void chaos_end(void);

/* ---- twin_history.c */
/* NULL: that machine has the records of the audit log up to @seq. Else what it lacks. */
const char *twin_history_lacks(unsigned machine, uint64_t seq);
void twin_history_settle(struct blx__history *h); /* what is synced by now is */
void twin_history_free(void);

/* ---- run.c */
bool nodes_run(const struct cluster_options *o, uint64_t *reached, char why[WHY_SIZE]);

#endif
