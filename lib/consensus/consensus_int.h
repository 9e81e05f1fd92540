/* The insides of one member, for this folder only. */
#ifndef BLX__CONSENSUS_CONSENSUS_INT_H
#define BLX__CONSENSUS_CONSENSUS_INT_H

#include "base/list.h"
#include "consensus/guard_int.h"
#include "consensus/testing.h"

enum {
  ENTRY_VERSION = 1,
  SNAPSHOT_VERSION = 1,
  FATAL_TEXT_SIZE = 400,
  ADDRESS_SIZE = 24, /* "n" and a u64 */
  RESULT_SMALL = 32, /* bytes of an answer that need no memory of their own */
};

/* One call that owes its caller a completion. */
struct call {
  struct blx__list link;
  blx__consensus_cb cb;
  void *user;
  uint32_t *counter; /* lowered at completion; NULL: not counted */
  int code;          /* 0 or BLX_E_* */
  const char *why;   /* static, or fatal_text; set when code is */
  uint64_t index;
  uint8_t *result; /* owned, or `small` */
  size_t result_len;
  uint8_t small[RESULT_SMALL];
  size_t op_len;
  uint8_t op[];
};

/* One log entry on its way: at most one with rule R10. Freed in libraft's callback. */
struct batch {
  struct blx__list link;
  struct raft_apply req;
  struct blx__consensus *c;
  uint64_t serial;
  struct blx__list calls;
};

/* A confirmed-read round: what it costs is one message to each voter and back. */
struct confirm {
  struct blx__list next;    /* calls that the next round will serve */
  struct blx__list round;   /* calls of the round in flight */
  struct blx__list applied; /* confirmed; wait until `index` is applied */
  uint64_t seq, term, index;
  uint32_t acks_count;
  uint64_t acks[BLX__CONSENSUS_MEMBERS_MAX]; /* uids that answered this round */
};

/* A snapshot that is coming in, in parts. */
struct incoming {
  uint64_t from; /* 0: none */
  struct message_chunk head;
  uint8_t conf[4 + 9 * BLX__CONSENSUS_MEMBERS_MAX];
  uint8_t *bytes; /* of raft_malloc; NULL once it was handed on */
  struct blx__sha256 *digest;
  uint64_t have;
  bool whole, refused;
  uint64_t heard_ms, fed_ms;
};

/* transfer.c: snapshots between members. */
struct transfer {
  struct blx__list out; /* at most one for each member */
  struct loaded *fetched;
  uint64_t serial;
  struct incoming in;
};

/* fsm.c: our own snapshot from the freeze until it is on the disk. */
struct snapshot_job;

/* codec.c: the bytes of one log entry. All integers little-endian; the length a multiple of 8, the rest zero. */
struct entry_head {
  uint64_t time_ms, proposer, serial;
  uint32_t ops_count;
};
enum { ENTRY_HEAD_BYTES = 40, ENTRY_OP_HEAD_BYTES = 4 };
size_t entry_size(size_t ops_count, size_t ops_bytes);
void entry_begin(uint8_t *at, size_t size, const struct entry_head *head);
uint8_t *entry_put_op(uint8_t *at, const uint8_t *op, size_t size); /* @at: after the head or the last op */
struct entry_reader {
  const uint8_t *at, *end;
  uint32_t left;
};
/* False unless every byte is as it must be: the operations can then be taken without a further check. */
bool entry_open(struct entry_reader *r, struct entry_head *head, const void *bytes, size_t size);
bool entry_next(struct entry_reader *r, struct blx__slice *op);

/* The last committed entry, while it is not applied yet: the next one goes on its way first. */
struct unapplied {
  struct blx__buf bytes;   /* a copy: libraft may free its own */
  struct blx__slice entry; /* empty: none */
  struct entry_reader ops;
  uint64_t index, time_ms;
  struct batch *mine; /* NULL: another member's */
  bool answered;      /* libraft has let go of `mine` */
  unsigned turns;     /* since it was committed */
};

enum member_step { MEMBER_IDLE, MEMBER_ADD, MEMBER_REMOVE, MEMBER_TRANSFER };

/* The one change of members that is under way. */
struct member {
  enum member_step step;
  uint64_t uid;
  unsigned tries;
  bool in_flight; /* libraft holds `change` or `transfer` */
  struct call *call;
  struct raft_change change;
  struct raft_transfer transfer;
};

struct disk; /* disk.c: the log, its directory and lock */
struct host; /* host.c */

struct blx__consensus {
  struct blx__consensus_options o;
  struct blx__consensus_seam seam;
  struct raft raft;
  struct raft_fsm fsm;
  struct raft_io *io;
  struct disk *disk; /* NULL with a seam */
  struct guard guard;
  char address[ADDRESS_SIZE];

  unsigned depth; /* > 0: libraft is on the stack */
  bool settling, woken;
  bool closing, close_begun, raft_closed, opened;
  void (*close_done)(void *user);
  void *close_user;

  int fatal_code; /* 0 unless poisoned */
  bool fatal_told;
  char fatal_text[FATAL_TEXT_SIZE];

  uint64_t led_term; /* of the last term this member led */
  bool leading, barrier_accepted, barrier_in_flight, ready;
  struct raft_barrier barrier;

  enum blx__consensus_role told_role;
  uint64_t told_leader, told_term;

  struct blx__list waiting; /* calls not in a batch yet */
  struct blx__list batches;
  struct blx__list done; /* calls to complete */
  uint32_t proposals_count, reads_count;
  uint64_t serial;
  struct confirm confirm;
  struct member member;
  struct transfer transfer;
  struct snapshot_job *snapshot_job; /* NULL: none under way */
  uint32_t chunk_bytes;

  /* After a recovery: what members below say does not count, as long as the log reaches the index. 0: none. */
  uint64_t gone_below, gone_index;

  uint8_t chain[BLX__SHA256_BYTES];
  struct unapplied unapplied;
  struct blx__slice unchained; /* the last applied entry, in unapplied.bytes, while `chain` is one behind; else empty */
  uint64_t unchained_index;
  uint64_t time_ms;
  uint64_t bytes_since_snapshot;
  uint64_t snapshot_len;      /* bytes of the last snapshot */
  uint64_t snapshot_retry_at; /* index; the last one failed */
  struct raft_barrier nudge;
  bool nudging;
  uint64_t nudged_at_ms;

  struct host *host; /* NULL with a seam */
  bool host_ticked;
  uint64_t host_at_ms;
  bool space_low; /* R12 */
  uint64_t space_free, space_limit;
  uint64_t stuck_append; /* the write that the last look found to be the oldest, 0: none */
  unsigned stuck_looks;
  uint64_t space_taken; /* bytes appended since the last look */
};

/* consensus.c: every way into libraft is enclosed by these; the last leave looks at what changed and tells everyone. */
void consensus_enter(struct blx__consensus *c);
void consensus_leave(struct blx__consensus *c);
void consensus_wake(struct blx__consensus *c);
bool consensus_rule(const struct blx__consensus *c, unsigned rule);
bool consensus_stopped(const struct blx__consensus *c); /* poisoned or closing */
/* On a worker where there is one. False: no. */
bool consensus_work(struct blx__consensus *c, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
/* Free, off the loop where that takes long. */
void consensus_free_large(struct blx__consensus *c, void *p, size_t size);
void consensus_finalize(struct blx__consensus *c); /* the disk is quiet: last callback, free */

/* Tell the seam that this point was reached. */
#define BLX_SOMETIMES(c, name)                                                           \
  do {                                                                                   \
    if ((c)->seam.sometimes) (c)->seam.sometimes((c)->seam.user, BLX__SOMETIMES_##name); \
  } while (0)

/* calls.c */
blx__rc call_new(struct blx__slice op, blx__consensus_cb cb, void *user, struct call **out, blx_error *err);
void call_finish(struct blx__consensus *c, struct call *call, int code, const char *why);
void calls_finish(struct blx__consensus *c, struct blx__list *calls, int code, const char *why);
void calls_finish_all(struct blx__consensus *c, int code, const char *why);
void calls_run_done(struct blx__consensus *c);
blx__rc calls_refuse(const struct blx__consensus *c, blx_error *err); /* OK when this member serves */

void propose_flush(struct blx__consensus *c);
void propose_nudge(struct blx__consensus *c); /* once a tick */
void propose_applied(struct batch *b);        /* libraft has let go of it, and its calls have their answers */
struct batch *propose_find(struct blx__consensus *c, uint64_t index, uint64_t proposer, uint64_t serial);

/* fsm.c: libraft's table over ours, our own snapshots, and their container. */
void fsm_init(struct blx__consensus *c);
/* Entries up to this one are applied; libraft may count one more. */
uint64_t fsm_applied(const struct blx__consensus *c);
/* Apply what is committed, now; or unless the next entry is about to go to other members. */
void fsm_apply_settle(struct blx__consensus *c);
void fsm_apply_advance(struct blx__consensus *c);
/* The chain as it is, and make it so: after the answers and the next entry are on their way. */
void fsm_chain(const struct blx__consensus *c, uint8_t out[BLX__SHA256_BYTES]);
void fsm_chain_settle(struct blx__consensus *c);
void fsm_free(struct blx__consensus *c);
/* Write what fsm_snapshot froze, on a worker; guard_snapshot_written follows. Not 0: nothing will. */
int snapshot_write(struct blx__consensus *c, unsigned trailing, const struct raft_snapshot *s);
void snapshot_job_end(struct blx__consensus *c);     /* it is on the disk, or given up */
void snapshot_job_abandon(struct blx__consensus *c); /* with a seam, at the close: no worker has it */
/* The digest in a snapshot's head is that of all other bytes. @from..@to of @snapshot, whose head is there. */
void snapshot_digest_part(struct blx__sha256 *d, const uint8_t *snapshot, uint64_t from, uint64_t to);
/* NULL, or why these bytes, of which @digest is the digest, are no good snapshot of that index and term. */
const char *snapshot_check_head(struct blx__slice bytes, const uint8_t digest[BLX__SHA256_BYTES], uint64_t index,
                                uint64_t term);
struct snapshot_head {
  uint64_t index, term, time_ms, payload_len;
  uint8_t chain[BLX__SHA256_BYTES];
};
enum { SNAPSHOT_HEAD_BYTES = 112 };
/* Append the whole of a snapshot to @out. False: no memory, or too large. */
bool snapshot_make(struct blx__buf *out, const struct snapshot_head *head, struct blx__slice payload);
/* NULL and @head, @payload filled, or the static reason why these bytes are no good snapshot. */
const char *snapshot_check(struct blx__slice bytes, struct snapshot_head *head, struct blx__slice *payload);

/* transfer.c */
void transfer_init(struct blx__consensus *c);
/* A snapshot was read for libraft, which gets a stand-in for its bytes; _end when libraft has seen it. */
int transfer_fetched(struct blx__consensus *c, struct raft_snapshot *s);
void transfer_fetched_end(struct blx__consensus *c);
int transfer_send(struct blx__consensus *c, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb);
void transfer_received(struct blx__consensus *c, uint64_t from, const struct message_chunk *chunk);
void transfer_acked(struct blx__consensus *c, uint64_t from, uint64_t serial, uint64_t term, uint64_t have);
void transfer_advance(struct blx__consensus *c);
void transfer_tick(struct blx__consensus *c);
void transfer_end(struct blx__consensus *c);

void confirm_init(struct blx__consensus *c);
void confirm_advance(struct blx__consensus *c); /* begin a round, finish what is applied */
void confirm_tick(struct blx__consensus *c);    /* ask again those who have not answered */
void confirm_lost(struct blx__consensus *c);    /* leadership is gone */
void confirm_receive(struct blx__consensus *c, uint64_t from, bool reply, uint64_t term, uint64_t seq);

/* member.c */
void member_advance(struct blx__consensus *c);
uint32_t member_voters(const struct blx__consensus *c);
bool member_is_voter(const struct blx__consensus *c, uint64_t uid);
bool member_is_known(const struct blx__consensus *c, uint64_t uid);

/* disk.c */
blx__rc disk_open(struct blx__consensus *c, blx_error *err);
void disk_close(struct blx__consensus *c);   /* after raft_close; calls consensus_finalize later */
void disk_started(struct blx__consensus *c); /* the log is loaded: a recovery that was cut off is forgotten */
void disk_abandon(struct blx__consensus *c); /* raft_init failed: nothing runs */

/* host.c: the file system (R15), the room on it (R12), writes without an answer (R3). */
blx__rc host_check_fs(const struct blx__consensus *c, int dir_fd, blx_error *err) BLX__MUST;
blx__rc host_open(struct blx__consensus *c, blx_error *err) BLX__MUST;
void host_close(struct blx__consensus *c, void (*closed)(void *arg), void *arg); /* @closed once no worker writes */
void host_tick(struct blx__consensus *c);
blx__rc host_refuse_when_full(const struct blx__consensus *c, blx_error *err) BLX__MUST;

void address_of(uint64_t uid, char out[ADDRESS_SIZE]);

#endif
