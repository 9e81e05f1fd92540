/* The guard: libraft 0.15.0 made safe from outside, by standing between it and its table of disk and network functions.
 *
 * Rule  What libraft does                             What the guard does
 * R1    a follower acknowledges what it has on disk,  keeps the highest index that this term's leader was seen to
 *       also a tail that was never compared           match, and clamps outgoing results to it
 * R2    entries of older terms are committed by       a barrier at once on becoming leader; until it is on the own
 *       counting; a new leader writes no no-op        disk, results count as contact only, and later for what they
 *                                                     say (withhold.c); no service until it is committed
 * R3    a failed write is survived                    any failure of the disk poisons this member
 * R4    what is not on disk yet is advertised         a follower with appends in flight sees no tick and no TimeoutNow
 * R5    candidacy or a vote during a snapshot install swallows ticks, and votes, meanwhile
 * R6    a snapshot holds an uncommitted configuration fsm.c answers BUSY
 * R7    changes of members overlap                    member.c: own barrier first, one at a time
 *       a loaded configuration counts as committed    until its index is, it can be rolled back
 * R8    snapshots by count of entries alone            fsm.c: by bytes and entries, members at different times; the
 *                                                     entries since the last one stay; calls.c: BUSY beyond a limit
 * R9    reads a configuration that was compacted away  seen before it is passed on: that of the last snapshot is taken
 * R10   nothing commits while proposals keep coming   calls.c: one entry outstanding
 * R11   a snapshot is one message                     transfer.c: parts, a few at a time
 * R12   a full disk is found when a write fails        host.c: proposals are refused while there still is room
 * R13   a damaged end of the log, term or vote is       store.c: checksums, what was written after it, and a mark that
 *       taken for one never written                   is at most a second old
 * R15   writes that never reach some file systems      host.c: the file system's type
 * R16   commit runs past what matched                 leader_commit is clamped to prev + n
 * R17   raft_uv calls its close callback twice        libraft's own disk is not used (logio.c is), and it is passed on
 *                                                     once whatever the disk below does
 *       several writes cancelled: looks for an entry   cancelled newest first
 *       that the first one's end has cut off
 * R18   an only voter leads without a term of its own: takes the next term before anything is written
 *       after a crash it writes other entries under
 *       the same index and term
 * R19   who does not know that it is a voter gives no votes anyway: the candidate knows whose votes count
 *       vote, and two members wait for ever
 * R20   takes entries that it has compacted for new    a message begins behind what was compacted
 *       ones and appends them again
 * R21   hides its term when it refuses a pre-vote: a   the answer carries it
 *       candidate with the only long log and an old
 *       term, and the others, wait for ever
 * R22   gives no vote while it remembers a leader,    an election timeout of silence makes it forget
 *       however silent that is */
#ifndef BLX__CONSENSUS_GUARD_INT_H
#define BLX__CONSENSUS_GUARD_INT_H

#include "base/buf.h"
#include "base/list.h"
#include "consensus/consensus.h"
#include "consensus/libraft_int.h"

struct blx__consensus;

/* A message of libraft's that is finished, to be reported to it when it is off the stack. */
struct sent {
  struct blx__list link;
  struct raft_io_send *req;
  raft_io_send_cb cb;
  int status;
};

struct guard {
  struct raft_io real; /* the table as it was */
  raft_io_tick_cb tick;
  raft_io_recv_cb recv;
  raft_io_close_cb close_cb; /* NULL once it ran */

  struct blx__list appends; /* struct append, in flight or withheld; as many as libraft submits, a handful */
  unsigned appends_count;
  unsigned appends_held; /* of them, those that are still to go to the disk */
  uint64_t appends_serial;
  struct blx__list sends;  /* struct sent: to be reported to libraft when it is off the stack */
  struct blx__buf encoded; /* the message being sent; kept, for fresh memory costs more than to fill it */

  uint64_t log_bytes; /* of the entries in libraft's memory, */
  bool log_counted;   /* unless this is false */

  uint64_t loaded_conf_index; /* of the snapshot that was loaded; 0: none */

  uint64_t match_term, match_index; /* R1 */
  struct raft_message handed;       /* R4: leadership that came while the log was being written; type 0: none */
  uint64_t handed_ms;
  bool receiving;                        /* an AppendEntries is being handled, */
  uint64_t receiving_hi, receiving_term; /* of this term, which reaches to this index */

  struct raft_message withheld[8]; /* R2: results that do not count yet, of one term */
  unsigned withheld_count;

  struct raft_io_snapshot_put put; /* libraft has one at a time */
  struct raft_io_snapshot_put *put_outer;
  raft_io_snapshot_put_cb put_cb;
  struct raft_buffer *put_bufs;
  bool put_install, put_withheld;
  bool put_waiting; /* our own snapshot is still being written into memory (fsm.c) */
  uint64_t put_index, put_term;

  struct raft_configuration conf,
      put_conf; /* R9: of the last snapshot, and of the one on its way; 0 members: unknown */
  uint64_t conf_index, put_conf_index;
};

/* Replace the functions of c->io; between raft_init and raft_start. */
void guard_install(struct blx__consensus *c);

/* The last thing of all. */
void guard_free(struct blx__consensus *c);

/* After raft_start: what libraft takes for granted and is not (R7). */
void guard_started(struct blx__consensus *c);

/* member.c (R9): true, and this member is poisoned, if libraft could not follow @a. */
bool guard_loses_configuration(struct blx__consensus *c, const struct raft_append_entries *a);
/* @to is replaced. False: no memory, and @to is empty. */
bool guard_conf_copy(struct raft_configuration *to, const struct raft_configuration *from);

/* The entry in memory at @index; NULL: compacted, or not there yet. */
const struct raft_entry *guard_entry(const struct raft *r, uint64_t index);

/* Hand to the disk what a leader held back until its messages were sent: when libraft is off the stack, and before any
 * other change on disk. */
void guard_appends_submit(struct blx__consensus *c);

/* Number of the oldest write of entries that the disk has not answered; 0: none. */
uint64_t guard_oldest_append(const struct blx__consensus *c);

/* Bytes of the entries in libraft's memory (R8). */
uint64_t guard_log_bytes(struct blx__consensus *c);

/* Hand a decoded message to libraft, or drop it; frees what libraft does not take. */
void guard_receive(struct blx__consensus *c, struct raft_message *m);

/* withhold.c (R2): the result of an AppendEntries that came, made harmless if it may not count yet. */
void withhold_result(struct blx__consensus *c, struct raft_message *m);
/* Something was stored: what was withheld may count now. */
void withhold_release(struct blx__consensus *c);

/* fsm.c: our own snapshot is in memory: put it on the disk. Otherwise it has failed with @status. */
void guard_snapshot_written(struct blx__consensus *c, int status, unsigned trailing, const struct raft_snapshot *s);

/* Report finished sends to libraft. True if there were any. */
bool guard_sends_report(struct blx__consensus *c);

/* codec.c: what members say to each other, as bytes. MESSAGE_RAFT stands for libraft's own, whose kinds are below 16.
 */
enum message_kind {
  MESSAGE_RAFT = 0,
  MESSAGE_CONFIRM = 16,
  MESSAGE_CONFIRM_REPLY = 17,
  MESSAGE_CHUNK = 18,
  MESSAGE_CHUNK_ACK = 19,
};

#define CHUNK_ANEW UINT64_MAX /* in an acknowledgement: nothing of this transfer is here */
enum { CHUNK_BYTES_MAX = 128 << 10, SNAPSHOT_BYTES_MAX = BLX__CONSENSUS_SNAPSHOT_MAX + 256 };

/* A part of a snapshot on its way (R11); transfer.c. */
struct message_chunk {
  uint64_t serial, term;                 /* of the transfer, which the leader of @term numbers */
  uint64_t index, last_term, conf_index; /* of the snapshot */
  uint64_t total, offset;                /* bytes of the whole, and where these begin */
  struct blx__slice conf;                /* encoded by message_encode_conf */
  struct blx__slice bytes;               /* 1..CHUNK_BYTES_MAX */
};

struct message {
  enum message_kind kind;
  struct raft_message raft; /* owns memory of raft_malloc */
  struct {
    uint64_t term, seq;
  } confirm;
  struct message_chunk chunk; /* points into the bytes that were decoded */
  struct {
    uint64_t serial, term, have;
  } ack;
};

/* Append @m, which is no InstallSnapshot; long AppendEntries are cut to what fits in MESSAGE_MAX, which Raft takes for
 * a shorter message. False: too large, or no memory. */
bool message_encode(struct blx__buf *out, const struct raft_message *m);
bool message_encode_conf(struct blx__buf *out, const struct raft_configuration *conf);
bool message_encode_chunk(struct blx__buf *out, const struct message_chunk *chunk);
void message_encode_chunk_ack(uint8_t out[26], uint64_t serial, uint64_t term, uint64_t have);
void message_encode_confirm(uint8_t out[18], bool reply, uint64_t term, uint64_t seq);

/* Take a message apart; every length is checked before it is believed. NULL, or the static reason why not. */
const char *message_decode(struct blx__slice bytes, struct message *out);
const char *message_decode_conf(struct blx__slice bytes, struct raft_configuration *conf);
void message_free(struct raft_message *m);

#endif
