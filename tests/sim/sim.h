/* A whole cluster in one thread under one seed: the real consensus, guard and libraft on a simulated disk, network and
 * clock. Everything that is random comes from the world's generator, everything that happens is an event in its queue,
 * so a seed is a run. Used by the `sim` program and, with scripted faults, by the unit tests of lib/consensus. */
#ifndef BLX_TESTS_SIM_H
#define BLX_TESTS_SIM_H

#include "base/list.h"
#include "base/map.h"
#include "consensus/consensus.h"
#include "consensus/testing.h"
#include "io/sim.h"
#include "consensus/logio_int.h"

enum { SIM_NODES_MAX = 8, SIM_CHANGES_MAX = 4, SIM_WHY_SIZE = 512 };

/* The state machine under test: a table, so that another can be put in its place. */
struct sim_fsm {
  const char *name;
  void *(*create)(void);
  void (*destroy)(void *self);
  void (*bind)(void *self, struct blx__fsm *out);
  /* Bytes of a random operation that `has` can find again by @id. False: no memory. */
  bool (*make_op)(struct blx__sim_rng *r, uint64_t id, struct blx__buf *out);
  /* Did the operation of this id take place? */
  bool (*has)(void *self, uint64_t id);
  /* NULL, or the invariant that does not hold. */
  const char *(*check)(void *self);
};
extern const struct sim_fsm sim_fsm_log;   /* keeps ids */
extern const struct sim_fsm sim_fsm_state; /* lib/state */

struct world;
struct sim_node;

/* What a worker was asked to do; one thing at a time. */
struct sim_work {
  void (*fn)(void *arg);
  void (*done)(void *arg);
  void *arg;
};

struct sim_node {
  struct world *w;
  struct sim_work work;
  uint64_t uid; /* its number in the twin, too */
  bool alive;
  struct raft_io io;
  struct blx__consensus_seam seam;
  struct blx__consensus *c;
  void *fsm;
  struct blx__fsm inner;
  struct blx__log log;
  uint64_t applying_index, applying_hash, applied_index;

  struct blx__sim_disk disk; /* a script may set min_us, max_us and held: see io/sim.h */
  struct logio logio;        /* what is on it */
  struct raft_io real;       /* its functions, where a script stands before them */
  raft_io_close_cb close_cb;
  uint64_t tick_ms;
  raft_io_tick_cb tick;

  /* What a script or the chaos sets. */
  bool ticks_held;
  bool votes_muted;     /* it may stand for election, but nobody hears of it */
  int fail_next_append; /* RAFT_* status, once */
  int fail_next_vote, fail_next_load, fail_next_put;
  int fatal_code;
  bool snapshots_fail;
  bool lost;                       /* it must join anew */
  bool was_voter;                  /* it was seen as a voter, or removed */
  uint64_t free_bytes, size_bytes; /* size 0: nobody knows */
};

struct sim_options {
  uint64_t seed;
  unsigned nodes;
  const struct sim_fsm *fsm;
  unsigned rules_off;
  uint32_t heartbeat_ms, election_ms, snapshot_entries, snapshot_trailing;
  uint64_t log_bytes_max;
  uint32_t chunk_bytes; /* of a snapshot in one message; 0: as usual */
  bool verbose;
};

/* A change of members or leader that was asked for and is not answered yet. */
struct sim_change {
  struct world *w;
  enum blx__sometimes point;
  uint64_t uid;
  bool busy;
};

struct world {
  struct sim_options o;
  struct blx__sim sim; /* randomness, events, clocks, network */
  struct sim_node nodes[SIM_NODES_MAX];
  unsigned nodes_count;

  struct sim_change changes[SIM_CHANGES_MAX];
  struct blx__map leaders; /* term -> uid + 1 */
  struct blx__map hashes;  /* index -> hash of what was applied there */
  struct blx__map chains;  /* index -> chain */
  uint64_t installs_sent;  /* parts of snapshots sent by leaders */
  struct blx__map places;  /* id of an operation -> the index it was applied at */
  uint64_t reached;        /* bits of enum blx__sometimes */
  bool failed;
  char why[SIM_WHY_SIZE];
};

/* Zeroed by the caller. Members 1..nodes, bootstrapped and not started. */
void world_init(struct world *w, const struct sim_options *options);
void world_free(struct world *w);

void world_fail(struct world *w, const char *fmt, ...) BLX__PRINTF(2, 3);
void world_log(struct world *w, const char *fmt, ...) BLX__PRINTF(2, 3);

/* Schedule @fn(the world, @a, @b), whatever happens to the nodes; or @fn(@arg), unless the node crashes meanwhile. */
void world_after(struct world *w, uint64_t after_us, blx__sim_fn *fn, uint64_t a, uint64_t b);
void node_after(struct sim_node *n, uint64_t after_us, blx__sim_fn *fn, void *arg);

/* Run the next event. False: none left, or an invariant broke. */
bool world_step(struct world *w);
/* Run until @done holds, or @max_ms of virtual time are over. The value of @done at the end. */
bool world_until(struct world *w, bool (*done)(struct world *w, void *arg), void *arg, uint64_t max_ms);
void world_run_ms(struct world *w, uint64_t ms);

/* The member that serves as leader, or NULL. */
struct sim_node *world_leader(struct world *w);
void world_cut(struct world *w, unsigned from, unsigned to, bool cut); /* one way; numbers from 0 */
void world_isolate(struct world *w, unsigned node, bool cut);
/* Between all; a late message takes up to 50 times @max_us more. Nothing is lost, doubled or late unless it is set. */
void world_delay(struct world *w, uint64_t min_us, uint64_t max_us);

/* The code of open; @err is filled. */
int node_try_start(struct sim_node *n, blx_error *err);
void node_start(struct sim_node *n); /* not starting fails the world */
void node_crash(struct sim_node *n);
/* A further member with an empty disk, not started. */
struct sim_node *world_add_node(struct world *w);
void world_set_rules_off(struct world *w, unsigned rules_off); /* from the next start on */
void node_check(struct sim_node *n);

void world_sometimes(struct world *w, enum blx__sometimes point);
/* The index that operation @id was applied at, 0: nowhere. */
uint64_t world_place(const struct world *w, uint64_t id);

/* disk.c */
void sim_disk_init(struct sim_node *n);
void sim_disk_bootstrap(struct sim_node *n, unsigned members);
void sim_disk_crash(struct sim_node *n);                    /* what is not synced meets its fate */
void sim_disk_release(struct sim_node *n);                  /* no longer held */
uint64_t sim_disk_snapshot_index(const struct sim_node *n); /* 0: it has none */
void sim_disk_free(struct sim_node *n);

/* From outside, while the member is down. False: there is none that is whole. */
bool sim_disk_snapshot(const struct blx__sim_disk *d, struct store_snapshot *out, size_t *len);
/* Each record of the log in order; @data, as long as it is, may be changed: the record is then sealed again, synced. */
typedef void sim_edit_fn(void *arg, const struct store_record *r, uint8_t *data);
void sim_disk_edit(struct blx__sim_disk *d, sim_edit_fn *edit, void *arg);
/* A place whose damage must be refused: in the meta that counts, the snapshot, or a record below the mark. False: there
 * is none. */
bool sim_disk_spot(struct blx__sim_disk *d, struct blx__sim_rng *r, char name[BLX__DISK_NAME_MAX + 1], size_t *offset);

#endif
