/* One member of a Raft group: it agrees on operations, which are bytes, and hands them to a table of functions.
 * Underneath is libraft 0.15.0 behind a guard (guard_int.h) that makes it safe. Everything here is called on one
 * thread, the one that runs the loop; every callback comes on it, never from inside the call that asked for it. */
#ifndef BLX__CONSENSUS_CONSENSUS_H
#define BLX__CONSENSUS_CONSENSUS_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/log.h"

enum {
  BLX__CONSENSUS_OP_MAX = 64 << 10,   /* bytes of one operation */
  BLX__CONSENSUS_BATCH_OPS_MAX = 256, /* operations in one log entry */
  BLX__CONSENSUS_BATCH_BYTES_MAX = 256 << 10,
  BLX__CONSENSUS_WAITING_MAX = 4096,     /* proposals, and as many confirmed reads, not yet answered */
  BLX__CONSENSUS_RESULT_MAX = 1 << 20,   /* bytes the table may answer to one operation */
  BLX__CONSENSUS_SNAPSHOT_MAX = 1 << 30, /* bytes the table may write into a snapshot */
  BLX__CONSENSUS_MESSAGE_MAX = 8 << 20,  /* bytes of a message between members */
  BLX__CONSENSUS_MEMBERS_MAX = 64,
  BLX__CONSENSUS_CLUSTER_ID_BYTES = 16,
};

struct blx__loop;
struct blx__consensus;
struct blx__consensus_seam; /* testing.h */

/* The replicated state machine. Deterministic: no clock, no randomness, no I/O. An operation that it cannot carry out
 * is answered in @result; one it cannot even understand must be reported by blx__consensus_poison. */
struct blx__fsm {
  void *user;
  /* A log entry begins. @index rises; @time_ms is cluster time (ms since 1970) and never goes back. */
  void (*begin)(void *user, uint64_t index, uint64_t time_ms);
  /* One operation of the entry. @result: NULL where nobody waits, else an empty buffer for the proposer's answer. */
  void (*apply)(void *user, struct blx__slice op, struct blx__buf *result);
  void (*end)(void *user);
  /* A snapshot in three steps. `freeze`, between two entries, makes a handle on everything as it is now, at once:
   * entries go on while it is written. NULL: it cannot; it is asked again after later entries. */
  void *(*freeze)(void *user, blx_error *err);
  /* Append what was frozen to @out. On a worker's thread; it may look at nothing but @frozen. */
  blx__rc (*write)(void *frozen, struct blx__buf *out, blx_error *err);
  /* The handle is no longer needed. */
  void (*thaw)(void *user, void *frozen);
  /* Replace everything by what `write` wrote; never between `freeze` and `thaw`. A failure poisons this member. */
  blx__rc (*restore)(void *user, struct blx__slice snapshot, blx_error *err);
};

enum blx__consensus_role {
  BLX__ROLE_NONE, /* poisoned or closing */
  BLX__ROLE_FOLLOWER,
  BLX__ROLE_CANDIDATE,
  BLX__ROLE_ELECTED, /* leader, but what earlier leaders left is not committed yet: no service */
  BLX__ROLE_LEADER,  /* proposals and confirmed reads are served */
};

enum blx__consensus_membership { BLX__MEMBER_STANDBY, BLX__MEMBER_VOTER, BLX__MEMBER_SPARE };

struct blx__consensus_options {
  struct blx__loop *loop; /* NULL only with a seam */
  const char *dir;        /* existing directory on ext4, XFS or tmpfs; NULL only with a seam */
  uint64_t uid;           /* >= 1, this member's, never reused in the cluster */
  uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  struct blx__fsm fsm;
  const struct blx__log *log; /* borrowed, NULL: silent */
  void *user;                 /* for the functions below */
  /* ms since 1970 for the batches this member leads. */
  uint64_t (*now_ms)(void *user);
  /* Carry @message to a member; copies. False: dropped, and Raft will send again. May be lost, doubled, reordered. */
  bool (*send)(void *user, uint64_t to_uid, struct blx__slice message);
  /* The role, the leader or the term changed; @leader_uid 0: unknown. NULL allowed. */
  void (*on_role)(void *user, enum blx__consensus_role role, uint64_t leader_uid, uint64_t term);
  /* This member has stopped itself, once; every call is completed with FATAL. NULL allowed. */
  void (*on_fatal)(void *user, int code, const char *text);
  uint32_t heartbeat_ms, election_ms;     /* 0: 200 and 2000; election >= 3 heartbeats */
  uint32_t snapshot_entries;              /* 0: 65,536 entries since the last snapshot call for a new one, */
  uint64_t snapshot_bytes;                /* 0: 32 MiB; so do so many bytes, or as many as the last snapshot has */
  uint32_t snapshot_trailing;             /* entries that stay behind a snapshot; 0: those since the one before */
  uint64_t log_bytes_max;                 /* 0: 256 MiB; more entries in memory are refused with BUSY */
  uint64_t reserve_bytes;                 /* 0: 10 % of the file system, 24 to 512 MiB; less free refuses proposals */
  uint32_t segment_bytes;                 /* of the log, made with all its room; 0: 16 MiB */
  bool unsafe_fs;                         /* allow others than ext4, XFS and tmpfs */
  const struct blx__consensus_seam *seam; /* NULL outside of tests and the simulator */
};

/* Completion of a call, exactly once.
 * @err     NULL on success; valid during the call
 * @index   the entry the operation was committed in; for a confirmed read the index it may be served at
 * @result  what the table answered; valid during the call */
typedef void (*blx__consensus_cb)(void *user, const blx_error *err, uint64_t index, struct blx__slice result);

struct blx__consensus_member {
  uint64_t uid;
  enum blx__consensus_membership membership;
  uint64_t match_index; /* on the leader: how far its log is known to agree; else 0 */
};

struct blx__consensus_status {
  enum blx__consensus_role role;
  uint64_t uid, term, leader_uid; /* leader 0: unknown */
  uint64_t commit_index, applied_index, last_index, snapshot_index;
  uint64_t time_ms;                 /* cluster time of the last applied entry */
  uint8_t chain[BLX__SHA256_BYTES]; /* H(i) = SHA-256(H(i-1), i, entry) of the last applied operation entry */
  uint32_t waiting;                 /* proposals not yet answered */
  uint32_t members_count;
  struct blx__consensus_member members[BLX__CONSENSUS_MEMBERS_MAX];
  int fatal_code; /* 0 unless poisoned */
};

/* Make @dir the first and only voter of a new cluster. Blocks for a few disk writes; no loop needs to run.
 * Errors: EXISTS (the directory holds a member already), INVALID, DENIED, NOSPACE, BUSY (in use), IO. */
blx__rc blx__consensus_bootstrap(const char *dir, const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES],
                                 uint64_t uid, blx_error *err) BLX__MUST;

/* True if @dir holds a member, bootstrapped or joined. Blocks. Errors: CORRUPT, DENIED, IO. */
blx__rc blx__consensus_probe(const char *dir, bool *out, blx_error *err) BLX__MUST;

/* Load what is on disk, and take part. The table may be called before this returns, the other callbacks only later.
 * A directory that was not bootstrapped waits until a leader adds this member (blx__consensus_add_member).
 * Errors: INVALID; BUSY (the directory is in use by another process); CONFLICT (it is another member's or another
 *         cluster's); CORRUPT (naming what is damaged or lost, and the way out); UNSUPPORTED (the file system); DENIED,
 *         NOSPACE, NOMEM, IO. */
blx__rc blx__consensus_open(const struct blx__consensus_options *options, struct blx__consensus **out,
                            blx_error *err) BLX__MUST;

/* Complete everything with CANCELLED and stop; @done (NULL allowed) is the last callback: the directory is free then.
 * Allowed in every callback. Twice is misuse. */
void blx__consensus_close(struct blx__consensus *c, void (*done)(void *user), void *user);

/* Put @op (1..BLX__CONSENSUS_OP_MAX bytes, copied) into the open batch. @cb is called once it is applied here.
 * Refused at once: NO_LEADER (ask blx__consensus_leader), BUSY (too many wait, or the log is too large), NOSPACE (the
 * disk is nearly full; reads go on), INVALID (size), FATAL, NOMEM.
 * In @cb: NO_LEADER (certainly not done), TIMEOUT (leadership was lost: outcome unknown), FATAL and CANCELLED (outcome
 *         unknown), NOMEM (done, but the answer was lost). */
blx__rc blx__consensus_propose(struct blx__consensus *c, struct blx__slice op, blx__consensus_cb cb, void *user,
                               blx_error *err) BLX__MUST;

/* A confirmed read (Ongaro 2014, 6.4): in @cb without an error, this member still led when the call was made and has
 * applied everything that was committed before it. Costs no log entry; reads that come together share a round.
 * Errors, at once or in @cb: NO_LEADER (ask again), BUSY, FATAL, CANCELLED, NOMEM. */
blx__rc blx__consensus_confirm(struct blx__consensus *c, blx__consensus_cb cb, void *user, blx_error *err) BLX__MUST;

/* Add @uid, or finish adding it: SPARE, STANDBY, then VOTER once its log has caught up. Adding a voter is success.
 * Errors: NO_LEADER, BUSY (another change, or a transfer), TIMEOUT (leadership lost, or it does not catch up: the same
 *         call goes on where this one stopped), INVALID, FATAL, CANCELLED. */
blx__rc blx__consensus_add_member(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                  blx_error *err) BLX__MUST;

/* Take @uid out. The leader itself must hand over first: CONFLICT. An unknown uid is success. Other errors as above. */
blx__rc blx__consensus_remove_member(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                     blx_error *err) BLX__MUST;

/* Hand leadership to the voter @uid, 0: to any. Errors: NO_LEADER, BUSY, NOT_FOUND (no such voter), TIMEOUT (it did not
 * take over within an election timeout), FATAL, CANCELLED. */
blx__rc blx__consensus_transfer(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                blx_error *err) BLX__MUST;

/* A message of @from_uid, who is known by the channel it came on. Refused bytes are dropped and logged. */
void blx__consensus_deliver(struct blx__consensus *c, uint64_t from_uid, struct blx__slice message);

/* Stop this member for good: messages and ticks are dropped, calls complete with FATAL, on_fatal(@code, @text) runs.
 * @code BLX_E_*. Allowed in every callback, also in the table's. The second time is nothing. */
void blx__consensus_poison(struct blx__consensus *c, int code, const char *text);

/* @out is filled. */
void blx__consensus_status(const struct blx__consensus *c, struct blx__consensus_status *out);

/* This directory was recovered (recover.h): other members with lower uids are gone; 0: it was not. */
uint64_t blx__consensus_gone_below(const struct blx__consensus *c);

/* The uid to ask instead, 0: unknown. */
uint64_t blx__consensus_leader(const struct blx__consensus *c);

const char *blx__consensus_role_name(enum blx__consensus_role role);

#endif
