/* Inside lib/node: the node, the calls it answers, and what its files do for each other. One thread: the node's. */
#ifndef BLX__NODE_INT_H
#define BLX__NODE_INT_H

#include "agent/agent.h"
#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "client/channel.h"
#include "consensus/consensus.h"
#include "control/control.h"
#include "history/history.h"
#include "io/loop.h"
#include "io/timer.h"
#include "measure/load.h"
#include "node/node.h"
#include "rpc/conn.h"
#include "rpc/server.h"
#include "schema/codec.h"
#include "schema/desc.h"
#include "schema/internal.h"
#include "schema/rpc_table.h"
#include "schema/validate.h"
#include "state/state.h"
#include "vm/driver.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
  BLX__NODE_REGISTER_MS = 3000,     /* a registration that was not answered is sent again */
  BLX__NODE_CALL_ARENA = 32 << 20,  /* bytes one call may use for request and answer */
  BLX__NODE_ANSWER_MAX = 4 << 20,   /* bytes of one answer */
  BLX__NODE_CALLS_MAX = 8192,       /* calls in flight; more are BUSY */
  BLX__NODE_EXECS_MAX = 256,        /* commands and consoles that are open by a node, on it or on others */
  BLX__NODE_CONNS_MAX = 256,        /* connections to other members */
  BLX__NODE_DEADLINE_MS = 30000,    /* of a call that came without one */
  BLX__NODE_OWN_DEADLINE_MS = 5000, /* of registrations and reports */
  BLX__NODE_SHARE_MS = 5000,        /* a server that has not begun to tell a worker its share by then is left */
  BLX__NODE_WATCHDOG_S = 10,        /* a watchdog device resets the machine after so long; settings must allow that */
  BLX__NODE_STATS_MAX = 32,         /* streams of statistics at the same time */
  BLX__NODE_BACKUPS_MAX = 4,        /* backups that are being read */
  BLX__NODE_BACKUP_KEPT_MAX = 1 << 18, /* records that were replaced and are kept for them; above that they end */
  BLX__NODE_LEFT_LOOKS = 2,            /* looks, one a second, at a call that waits at a member which leads no more */
  BLX__NODE_SETTLE_MS = 1000,          /* a new leader waits so long to hear from the nodes before it places anything */
};

struct blx__call;
typedef void (*blx__call_done)(void *user, const blx_error *err, struct blx__slice answer);

/* Cluster time @ms at the loop's time @at_ms; both 0: nothing was committed yet. */
struct blx__lead_clock {
  uint64_t ms, at_ms;
};

/* Where the clocks on the voters' walls have their median, as what is to be added to the loop's time. Of an even number
 * it is both middles and what lies between. Not known: nobody leads here, or fewer than a majority said theirs. */
struct blx__lead_median {
  bool known;
  int64_t low_ms, high_ms;
};

/* servers.c: the group as this leader changes it. */
struct blx__servers {
  bool busy;                 /* a change is under way */
  uint64_t evacuated;        /* a node whose instances end first; 0: none */
  uint64_t leaving;          /* a node that is taken out of the cluster; 0: none */
  struct blx__call *removal; /* the call that waits for it, or NULL */
  uint64_t removal_ms;       /* loop time at which that came */
};

/* What only the leader knows: soft, never replicated. */
struct blx__lead {
  bool leading;           /* proposals are served */
  uint64_t since_ms;      /* loop time at which it began */
  uint64_t barrier_ms;    /* CLOCK_BOOTTIME of its first committed entry: no leader before it answers later */
  uint64_t ticked_ms;     /* loop time at which it looked last, which it does each second unless it stands still */
  struct blx__map seen;   /* node uid -> struct seen, freed when leadership ends */
  struct blx__map fences; /* node uid -> struct fence: its fence command */
  unsigned fences_running;
  struct blx__control *control; /* while it leads; NULL: not made yet */
  unsigned outstanding;         /* operations of control that are not answered yet */
  bool dirty;                   /* something changed since control last ran */
  struct blx__defer kick;
  struct blx__timer *due;
  struct blx__lead_clock clock; /* kept by every member: the next leader goes on from it */
  struct blx__lead_median wall;
};

/* audit.c, events.c */
enum { BLX__AUDIT_JOBS_MAX = 16 };
struct node_audit {
  struct blx__history *history; /* NULL: a worker, or in no cluster */
  uint64_t max_age_ms, max_bytes, events_max_age_ms, events_max_bytes;
  struct blx__buf events; /* of the entry that is applied, which go to history together */
  uint64_t events_index, events_ms;
  uint32_t events_part;
  bool events_wait; /* a watch could not read them: it is tried again */
  unsigned jobs;    /* questions to it that are on a worker */
  bool fetching;    /* what lacks is being asked for, or written */
  struct blx__history_gap asked;
  uint64_t ask_uid;     /* server that was asked last */
  size_t refused;       /* servers in a row that do not have it */
  unsigned denied_left; /* refused requests that may be noted */
  uint64_t denied_dropped;
  char fatal_text[512]; /* written before fatal_code */
  atomic_int fatal_code;
};

/* Who asked for the cluster that is being made; all NULL: nobody, or an earlier life. */
struct node_founder {
  const char *principal, *source, *reason;
};

/* lease.c: questions for leases that wait to be sent or confirmed together. */
struct blx__renew {
  struct blx_lease_settings settings; /* as they were in the last answer; of servers, state has them */
  struct blx__timer *ask, *send;
  struct blx__defer flush;
  struct blx__list waiting;
  size_t asks;      /* in them */
  unsigned batches; /* on their way */
  unsigned unready;
  uint64_t sent_ms; /* loop time of the last */
};

/* soft.c */
struct node_soft {
  struct blx__map said; /* while it leads: node uid -> struct said */
  uint64_t seq;         /* rises when what some node has built changes */
  struct blx__load load;
  uint64_t asks, saying, saying_seq, told; /* of this node: digests of what it has built */
};

struct blx__node {
  struct blx__arena mem; /* copies of the options */
  struct blx__log log;
  const char *data_dir, *socket_path, *address;
  bool simulate_vms, unsafe_fs;
  uint32_t heartbeat_ms, election_ms;
  blx_fatal_fn on_fatal;
  void *fatal_user;
  struct blx_node_info
      *self; /* as it registers: name, addresses, capacity, labels, hypervisors, version, incarnation */
  int lock_fd;

  struct blx__loop *loop;
  pthread_t thread;
  pid_t pid; /* that opened it */
  bool thread_started;
  int fatal_code; /* 0, or why it stopped itself */
  char fatal_text[512];

  struct blx_identity *identity; /* owned; NULL: in no cluster */
  struct node_founder founder;
  struct node_audit audit;
  const char *joined_at; /* the address of the member it joined through in this life, or NULL */
  uint64_t uid;          /* of this node; 0: in no cluster */
  struct blx__state *state;
  struct blx__consensus *consensus;
  enum blx__consensus_role role;
  struct blx__channel *channel; /* to the other members; NULL: in no cluster */
  struct blx__lead lead;
  struct blx__servers servers;
  struct blx__renew renew;
  struct node_soft soft;
  bool registered;         /* the cluster knows this incarnation */
  uint64_t unclear_era;    /* in this era it waits for word that nothing runs here but the share; 0: it does not */
  bool saying_clear;       /* that is on its way */
  bool self_changed;       /* and not what it says of itself now */
  bool announcing;         /* a registration is on its way */
  bool asking_place;       /* a member was asked to take this node into the group */
  uint64_t led_ms;         /* loop time at which a leader was last known */
  uint64_t share_revision; /* of the share the agent has */
  bool nodes_changed;      /* the servers' addresses are to be taken over */
  struct blx__timer *announce;
  size_t ask_next;          /* which known member is asked next for a place in the group */
  struct blx__defer follow; /* runs after an apply, outside of it */

  struct blx__rpc_server *server;
  struct blx__rpc_service service;
  struct blx__rpc_method methods[BLX__RPC_COUNT];
  struct blx__map conns;  /* address -> struct blx__rpc_conn */
  struct blx__list calls; /* struct blx__call.link */
  size_t calls_count;
  struct blx__list spare_calls; /* over, kept for the next */
  size_t spare_calls_count;
  struct blx__buf scratch;  /* to encode into */
  size_t execs;             /* commands and consoles */
  struct blx__list watches; /* streams of events */
  unsigned stats_count;     /* streams of statistics */
  struct blx__list backups; /* struct backup, stream_backup.c */
  unsigned backups_count;
  struct blx__map shares;      /* uid of a worker -> struct share, the stream that it follows its share by */
  struct blx__list shares_due; /* those to be looked at after this apply */
  bool shares_behind;          /* a worker knows more than this server: look at all after each apply */
  uint64_t servers_revision;   /* rises when the servers or their addresses change */
  struct blx__worker *worker;  /* NULL: a server, or in no cluster */
  struct blx__call
      *init_call; /* cluster_init waiting for its cluster, or cluster_join for the end of one begun before */

  const char *watchdog_path, *watchdog_device;
  const char *shim_path, *guest_path, *runner_dir, *kernel_dir, *nix_store_dir, *nixpkgs_ref, *microvm_ref;
  const char *share_paths, *virtiofsd_path; /* NULL: as in the options */
  blx__node_driver_fn *own_driver;          /* NULL: simulate_vms says which */
  void *own_driver_user;
  struct blx__vm_driver *driver;
  struct blx__agent *agent;
  blx__agent_sent_fn *report_done; /* of the batch of reports under way, or NULL */
  void *report_arg;

  bool closing;
  unsigned close_waits; /* parts that have not said they are closed */
  void (*closed)(struct blx__node *);
};

/* One call, from a caller or from ourselves. Answered exactly once, by one of the functions below, and freed by it. */
struct blx__call {
  struct blx__node *node;
  const struct blx__rpc_row *row;
  struct blx__arena arena;
  const void *request;     /* decoded, in the arena */
  struct blx__slice bytes; /* the same, encoded, in the arena */
  const char *principal;
  const char *source, *reason;     /* for the audit log: from where, and why; NULL: not given */
  bool proposed;                   /* it came to the log */
  bool forwarded;                  /* came from another member on somebody's behalf: not passed on again */
  const char *forwarded_to;        /* where it was passed on to */
  struct blx__rpc_pending *passed; /* while it waits there */
  unsigned passed_looks;           /* in a row in which that did not lead */
  struct blx__rpc_call *rpc;       /* NULL: our own */
  blx__call_done done;             /* our own */
  void *done_user;
  void (*after)(struct blx__call *, const struct blx_op_result *); /* see blx__call_propose */
  void (*stale)(struct blx__call *); /* NULL, or what a refusal with STALE leads to instead of the caller's answer */
  void *note;                        /* the handler's own, in the arena */
  struct blx__list link;
};

/* ---- serve.c: calls come in, and are routed */
blx__rc blx__serve_open(struct blx__node *n, blx_error *err) BLX__MUST;
void blx__serve_free(struct blx__node *n);
/* A call of our own to the cluster: goes the way a caller's would. @done exactly once, never before this returned. */
blx__rc blx__node_submit(struct blx__node *n, enum blx__rpc_id id, const void *request, blx__call_done done, void *user,
                         blx_error *err) BLX__MUST;
void blx__call_fail(struct blx__call *call, const blx_error *err);
/* The call is over for the router; who took a reference to call->rpc goes on with it. */
void blx__call_release(struct blx__call *call);
void blx__call_failf(struct blx__call *call, int code, const char *fmt, ...) BLX__PRINTF(3, 4);
/* @answer is of the row's response type. */
void blx__call_answer(struct blx__call *call, const void *answer);
void blx__call_answer_bytes(struct blx__call *call, struct blx__slice answer);
/* Encode @op with the caller's principal and @request_id, commit it; @after gets what apply said when it was accepted
 * (the call is then its to answer); a refusal is answered here. */
void blx__call_propose(struct blx__call *call, struct blx_op *op, const char *request_id,
                       void (*after)(struct blx__call *, const struct blx_op_result *));
/* The same without a call: @cb as in consensus.h; NULL: a failure is logged. */
blx__rc blx__node_propose(struct blx__node *n, const struct blx_op *op, blx__consensus_cb cb, void *user,
                          blx_error *err) BLX__MUST;

/* ---- forward.c: calls to other members */
/* Give up calls that wait at a member which leads no more: its network may be cut, or it stands still, and nothing
 * would end them before their deadlines. Once a second, on a member. */
void blx__forward_look(struct blx__node *n);
struct blx__rpc_conn *blx__node_conn(struct blx__node *n, const char *address, blx_error *err);
/* Send a call to @address as it is, on its caller's behalf, and answer it with what comes back. From a worker to a
 * server, which may pass it on to the leader; from a server to the leader, and no further. */
void blx__call_forward(struct blx__call *call, const char *address);
/* The same for a call that streams. A caller who reads slowly stops the source: one message at most is held here. */
void blx__call_relay(struct blx__call *call, const char *address);
/* Ask @address ourselves. */
blx__rc blx__node_ask(struct blx__node *n, const char *address, enum blx__rpc_id id, const void *request,
                      blx__call_done done, void *user, blx_error *err) BLX__MUST;
/* The same for @call, in its caller's name. */
blx__rc blx__node_ask_for(struct blx__call *call, const char *address, enum blx__rpc_id id, const void *request,
                          blx__call_done done, blx_error *err) BLX__MUST;
/* The same in another way. */
struct blx__node_asking {
  uint64_t deadline_ms;
  bool forwarded; /* on behalf of others: not to be passed on */
};
blx__rc blx__node_ask_with(struct blx__node *n, const char *address, enum blx__rpc_id id, const void *request,
                           const struct blx__node_asking *how, blx__call_done done, void *user,
                           blx_error *err) BLX__MUST;
void blx__forward_close(struct blx__node *n);

/* ---- node.c */
void blx__node_part_closed(struct blx__node *n);
blx__rc blx__node_open_agent(struct blx__node *n, blx_error *err) BLX__MUST; /* needs n->uid */

/* ---- worker.c: a node without consensus, state or vote; all it knows of its cluster comes from the servers */
blx__rc blx__worker_start(struct blx__node *n, blx_error *err) BLX__MUST; /* needs n->identity */
blx__rc blx__worker_new(struct blx__node *n, blx_error *err) BLX__MUST;   /* n->worker, which asks nobody yet */
/* A server told a part of this worker's share. */
void blx__worker_take(struct blx__node *n, struct blx__slice message);
void blx__worker_announce(struct blx__node *n);
/* Where the server is that is asked at present. */
const char *blx__worker_server(const struct blx__node *n);
/* A server tells this worker its share. */
bool blx__worker_is_told(const struct blx__node *n);
/* It takes no share any more, ends what runs here and removes it. */
blx__rc blx__worker_let_go(struct blx__node *n, blx_error *err) BLX__MUST;
/* The server at @address did not answer: another one is asked from now on. */
void blx__worker_avoid(struct blx__node *n, const char *address);
/* A question was answered by the leader; or was not, for @err. */
void blx__worker_heard(struct blx__node *n, const blx_error *err);
/* It has another incarnation now. */
void blx__worker_begin_anew(struct blx__node *n);
/* Answer a cluster_status of this node's own knowledge. */
void blx__worker_answer_status(struct blx__call *call);
/* A call that waits in init_call is answered when the cluster knows this worker. */
void blx__worker_init_done(struct blx__node *n);
void blx__worker_close(struct blx__node *n);
void blx__worker_free(struct blx__worker *w); /* NULL allowed */

/* ---- member.c: consensus, registration, heartbeats, what follows an apply */
void blx__member_init(struct blx__node *n);
blx__rc blx__node_start(struct blx__node *n, blx_error *err) BLX__MUST; /* as what n->identity says */
void blx__member_announce(struct blx__node *n);
/* This server was recovered, and its state does not know it yet: nothing is begun by what that says. */
bool blx__member_recovering(const struct blx__node *n);
/* The agent has the share of that era; @unclear: the cluster waits for word that nothing else runs here. */
void blx__member_era(struct blx__node *n, uint64_t era, bool unclear);
/* Say so, as soon as it is true. */
void blx__member_say_clear(struct blx__node *n);
/* Make a new cluster of this node. @cluster_name NULL or "": blixard. */
blx__rc blx__member_found(struct blx__node *n, const char *cluster_name, blx_error *err) BLX__MUST;
/* The agent's sink: see agent/agent.h. */
void blx__member_report(void *user, const struct blx_instance_report *const *reports, size_t count,
                        blx__agent_sent_fn *done, void *arg);
blx__rc blx__node_peers(struct blx__node *n, struct blx__arena *arena, struct blx_node_info ***out, size_t *count,
                        blx_error *err) BLX__MUST; /* the servers by uid, from state */
/* Note down how far this node came, and @peers where the servers are; @count 0: as it was. */
blx__rc blx__node_save(struct blx__node *n, enum blx_standing standing, struct blx_node_info *const *peers,
                       size_t count, blx_error *err) BLX__MUST;
void blx__node_fatal(struct blx__node *n, int code, const char *text);

/* ---- lease.c: leases, asked for, collected and answered */
void blx__lease_init(struct blx__node *n);
blx__rc blx__lease_start(struct blx__node *n, blx_error *err) BLX__MUST;
/* Each second: what the cluster is to know of whether this node can end its instances. */
void blx__lease_describe(struct blx__node *n);
/* Ask on the next turn: somebody new leads. */
void blx__lease_ask_now(struct blx__node *n);
void blx__lease_close(struct blx__node *n);

/* ---- soft.c: how busy nodes are, and what they have built */
/* The leader is told, or asks; a view of a node is filled in, with @whole what it has built too. */
void blx__soft_take(struct blx__node *n, const struct blx_lease_ask *ask);
void blx__soft_of(const struct blx__node *n, uint64_t uid, struct blx__control_soft *out);
void blx__soft_view(const struct blx__node *n, struct blx_node_info *view, bool whole);
void blx__soft_end(struct blx__node *n);
/* This node fills in its question, in @arena; was answered; has somebody new to tell. */
blx__rc blx__soft_say(struct blx__node *n, struct blx_lease_ask *ask, struct blx__arena *arena,
                      blx_error *err) BLX__MUST;
void blx__soft_said(struct blx__node *n, const struct blx_lease_ask *ask);
void blx__soft_forget(struct blx__node *n);

/* ---- lead.c: the leader's soft state and its controllers */
void blx__lead_init(struct blx__node *n);
void blx__lead_begin(struct blx__node *n);
void blx__lead_end(struct blx__node *n);
void blx__lead_kick(struct blx__node *n);
/* Node @uid spoke. @wall_ms: what its wall said then; 0: not told. */
void blx__lead_seen(struct blx__node *n, uint64_t uid, uint64_t incarnation, uint64_t wall_ms);
enum blx_node_status blx__lead_status(const struct blx__node *n, uint64_t uid);
/* What control asks of it. */
void blx__lead_soft(const struct blx__node *n, uint64_t uid, struct blx__control_soft *out);
/* What control looks at, now. */
struct blx__control_input blx__lead_input(struct blx__node *n);
/* Cluster time since which that holds, as far back as this leader knows; 0: it does not lead. */
uint64_t blx__lead_status_since(const struct blx__node *n, uint64_t uid);
/* The answer to @ask, as state says, in @out; a lease that it gives is noted. Only after a confirmation that began when
 * the question had come. */
void blx__lead_grant(struct blx__node *n, const struct blx_lease_ask *ask, struct blx_lease_grant *out);
/* How the fence command of that node failed last; NULL: it did not. */
const char *blx__lead_fence_failure(const struct blx__node *n, uint64_t uid);
void blx__lead_close(struct blx__node *n);
/* Each second: the median anew, and the clock, so that a median that moves does not count for all the time before. */
void blx__lead_tick(struct blx__node *n);
/* When a node that was heard at @at_ms counts as heard by a leader that looked at @ticked_ms last: the time for which
 * the leader itself stood still until @now_ms is not counted as silence. Loop times; never above @now_ms. */
uint64_t blx__lead_heard_ms(uint64_t at_ms, uint64_t ticked_ms, uint64_t now_ms);
/* The median of @count walls, of @voters that there are. Sorts @walls. */
struct blx__lead_median blx__lead_median(int64_t *walls, size_t count, size_t voters);
/* Cluster time: from the last committed value on by the monotonic clock, a tenth at most faster or slower until it is
 * the median. A wall may have been set to any time, the leader's too: what is due by cluster time comes about, and one
 * wall of three that lies moves nothing. */
uint64_t blx__lead_clock_read(const struct blx__lead_clock *c, uint64_t now_ms, struct blx__lead_median wall);
/* An entry of that time was applied. */
void blx__lead_clock_seen(struct blx__lead_clock *c, bool leading, uint64_t committed_ms, uint64_t now_ms,
                          struct blx__lead_median wall);
uint64_t blx__lead_time_ms(const struct blx__node *n);

/* ms since node @uid was heard from; 0: this node itself. Of one that this leader never heard from it is as much as
 * makes it suspect, at least. */
uint64_t blx__lead_silent_ms(const struct blx__node *n, uint64_t uid);

/* ---- servers.c: who votes and who stands by; nodes that leave */
/* Each second, and when a change is over: the next change. */
void blx__servers_tick(struct blx__node *n);
/* This node does not lead any more, or closes. */
void blx__servers_end(struct blx__node *n);
/* Whether the group, as this member knows it, has @uid: as a voter, or standing by. */
bool blx__servers_has(const struct blx__node *n, uint64_t uid, bool *votes);
/* This node was removed from its cluster, as a member of it says in @why: it stops for good. */
void blx__node_removed(struct blx__node *n, const char *why);
/* The identity is of a node that left. Errors: CONFLICT (says how to begin anew). */
blx__rc blx__node_check_left(const struct blx__node *n, blx_error *err) BLX__MUST;

/* ---- audit.c */
blx__rc blx__audit_open(struct blx__node *n, blx_error *err) BLX__MUST;
void blx__audit_record(struct blx__node *n, const struct blx__state_audit *record);
void blx__audit_restored(struct blx__node *n); /* the state was replaced by a snapshot */
bool blx__audit_may_truncate(void *user, uint64_t index);
void blx__audit_tick(struct blx__node *n); /* each second */
/* @call fails with @why: if it was to change something and did not come to the log, it is noted here. */
void blx__audit_deny(const struct blx__call *call, const blx_error *why);
void blx__handle_audit_list(struct blx__call *call);
void blx__handle_audit_verify(struct blx__call *call);
void blx__handle_audit_fetch(struct blx__call *call);

/* ---- events.c */
void blx__events_init(struct blx__node *n);
void blx__events_free(struct blx__node *n);
void blx__events_note(struct blx__node *n, const struct blx_event *event); /* from inside blx__state_end */
void blx__events_noted(struct blx__node *n);                               /* that was all of the entry */
/* Push what is new into every watch. */
void blx__watches_pump(struct blx__node *n);
void blx__watches_tick(struct blx__node *n); /* each second */

/* ---- stream_state.c: the shares of workers */
/* Look at the stream of that worker after this apply; at all of them. */
void blx__share_due(struct blx__node *n, uint64_t uid);
void blx__shares_due(struct blx__node *n);
/* Send what is due. */
void blx__shares_pump(struct blx__node *n);

/* ---- stream_backup.c */
/* The state is further: begin those that waited for it. */
void blx__backups_pump(struct blx__node *n);
/* The state is about to be replaced: end all that look at it. */
void blx__backups_end(struct blx__node *n);

/* ---- calls_cluster.c */
/* A node as callers see it, with what only the leader knows. */
blx__rc blx__call_view_node(struct blx__call *call, uint64_t uid, struct blx_node_info **out, blx_error *err) BLX__MUST;
/* Answer with the node as it is right after the apply that this call waited for. */
void blx__call_answer_node(struct blx__call *call, const struct blx_op_result *result);

/* ---- calls_ha.c */
/* Status and what is left of it and of its lease, of a node whose status says what was heard. */
void blx__ha_view(const struct blx__node *n, struct blx_node_info *view);
/* What that status means. False: it has nothing to do with fencing. */
bool blx__ha_word_status(const struct blx__node *n, const struct blx_node_info *view, char *text, char *unblock,
                         size_t size);

/* ---- handlers: calls_cluster.c, servers.c, calls_vm.c, calls_member.c, calls_ha.c, stream_state.c,
 * stream_logs.c, stream_exec.c */
void blx__handle_cluster_init(struct blx__call *call);
void blx__handle_cluster_join(struct blx__call *call);
void blx__handle_cluster_status(struct blx__call *call);
void blx__handle_node_list(struct blx__call *call);
void blx__handle_node_get(struct blx__call *call);
void blx__handle_node_cordon(struct blx__call *call);
void blx__handle_node_uncordon(struct blx__call *call);
void blx__handle_node_label(struct blx__call *call);
void blx__handle_ha_status(struct blx__call *call);
void blx__handle_ha_disarm(struct blx__call *call);
void blx__handle_node_fence(struct blx__call *call);
void blx__handle_node_fence_command(struct blx__call *call);
void blx__handle_cluster_transfer(struct blx__call *call);
void blx__handle_cluster_leave(struct blx__call *call);
void blx__leave_look(struct blx__node *n); /* a worker that leaves alone: is it done? */
void blx__handle_node_remove(struct blx__call *call);
void blx__handle_settings_get(struct blx__call *call);
void blx__handle_settings_set(struct blx__call *call);
void blx__handle_member_join(struct blx__call *call);
void blx__handle_member_invite(struct blx__call *call);
void blx__handle_member_ready(struct blx__call *call);
void blx__handle_report(struct blx__call *call);
void blx__handle_renew(struct blx__call *call);
void blx__handle_vm_create(struct blx__call *call);
void blx__handle_vm_get(struct blx__call *call);
void blx__handle_vm_list(struct blx__call *call);
void blx__handle_vm_start(struct blx__call *call);
void blx__handle_vm_stop(struct blx__call *call);
void blx__handle_vm_restart(struct blx__call *call);
void blx__handle_vm_kill(struct blx__call *call);
void blx__handle_vm_pause(struct blx__call *call);
void blx__handle_vm_resume(struct blx__call *call);
void blx__handle_vm_delete(struct blx__call *call);
void blx__handle_vm_delete_force(struct blx__call *call);
void blx__handle_vm_explain(struct blx__call *call);
void blx__handle_vm_plan(struct blx__call *call);
void blx__handle_capacity(struct blx__call *call);
void blx__handle_vm_scale(struct blx__call *call);
void blx__handle_node_taint(struct blx__call *call);
void blx__handle_quota_set(struct blx__call *call);
void blx__handle_quota_get(struct blx__call *call);
void blx__handle_vm_logs(struct blx__call *call);
void blx__handle_vm_exec(struct blx__call *call);
void blx__handle_stats(struct blx__call *call);
void blx__handle_member_stats(struct blx__call *call);
void blx__handle_watch(struct blx__call *call);
void blx__handle_share(struct blx__call *call);
void blx__handle_cluster_backup(struct blx__call *call);
/* ---- calls_vm.c */
/* The tenant that is meant: default where none is named. */
const char *blx__call_tenant(const char *tenant);
/* For sentences: " in tenant acme" and " --tenant acme"; nothing of the tenant default. */
enum { BLX__IN_TENANT_BYTES = 80 };
const char *blx__call_in_tenant(const char *tenant, char out[BLX__IN_TENANT_BYTES]);
const char *blx__call_tenant_flag(const char *tenant, char out[BLX__IN_TENANT_BYTES]);
/* What the caller left out is filled in and checked. */
blx__rc blx__call_admit_create(struct blx__call *call, struct blx_vm_create_request *req, blx_error *err) BLX__MUST;
/* ---- calls_member.c: statistics */
/* Let the driver measure. Errors: as its stats(), UNSUPPORTED. */
blx__rc blx__stats_measure(struct blx__node *n, blx__vm_stats_fn *done, void *user, blx_error *err) BLX__MUST;
/* What it measured, as a node_stats; @why: there are no numbers. */
blx__rc blx__stats_encode(const struct blx__node *n, const char *why, const struct blx__vm_stats *list, size_t count,
                          struct blx__buf *out, blx_error *err) BLX__MUST;
/* What should run on another node, which is not heard from; nothing, if there is no such node. */
blx__rc blx__stats_encode_unheard(const struct blx__node *n, uint64_t uid, const char *why, struct blx__buf *out,
                                  blx_error *err) BLX__MUST;
/* Answer a call whose answer is a cluster_status. */
void blx__answer_status(struct blx__call *call);
/* A call that waits in init_call is answered when this node is registered and in the group. */
void blx__init_done(struct blx__node *n);

#endif
