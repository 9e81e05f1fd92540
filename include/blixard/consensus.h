/* The consensus part alone: replicate a state machine of your own over a few members. Each member is one handle, in a
 * process of its own or beside others; it has its own thread, a directory for its log, and a unix socket on which the
 * other members reach it. An operation is bytes; the members agree on their order, and each hands them to its table of
 * functions. What a caller was told is done is on the disks of a majority and is not lost.
 *
 * Only the member that leads takes operations and confirmed reads; the others answer NO_LEADER, the leader's uid in
 * blx_error.leader when it is known. TIMEOUT, FATAL and CANCELLED mean that the outcome is unknown: send again, with a
 * number of your own in the operation by which the state machine knows what it has done already.
 *
 * Each call comes twice. The blocking one returns when it is done; from where completions run it is BLX_E_MISUSE, and
 * so it is on the member's own thread. The _async one completes exactly once and never from inside the call that asked;
 * when it returns anything but 0 there is no completion. Where it completes is chosen by `completions` of the options:
 *
 * BLX_COMPLETIONS_THREAD: on the member's thread. It must not block: an election waits for it.
 *
 * BLX_COMPLETIONS_DISPATCH: inside blx_consensus_dispatch(), or in the close. So are on_role and on_fatal. All that
 * blixard/completions.h says of a client holds, with BLX_CONSENSUS_WAITING_MAX calls that are not told yet; each keeps
 * its answer until then. The table and the log are the member's thread's in either case. */
#ifndef BLIXARD_CONSENSUS_H
#define BLIXARD_CONSENSUS_H

#include <blixard/completions.h>
#include <blixard/error.h>
#include <blixard/log.h>
#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  BLX_CONSENSUS_OP_MAX = 64 << 10,      /* bytes of one operation */
  BLX_CONSENSUS_ANSWER_MAX = 1 << 20,   /* bytes the state machine may answer to one operation */
  BLX_CONSENSUS_SNAPSHOT_MAX = 1 << 30, /* bytes of a snapshot */
  BLX_CONSENSUS_WAITING_MAX = 4096,     /* calls of one member that are not completed yet; one more is BUSY */
  BLX_CONSENSUS_MEMBERS_MAX = 64,
  BLX_CONSENSUS_PATH_MAX = 1000, /* bytes of a path; the last part of a socket's at most 80 */
};

/* What a member is; int32_t in signatures. */
enum {
  BLX_CONSENSUS_STOPPED = 0, /* poisoned */
  BLX_CONSENSUS_FOLLOWER = 1,
  BLX_CONSENSUS_CANDIDATE = 2,
  BLX_CONSENSUS_ELECTED = 3, /* leads, but what earlier leaders left is not committed yet: no service */
  BLX_CONSENSUS_LEADER = 4,  /* takes operations and confirmed reads */
};

/* How far a member takes part. */
enum {
  BLX_CONSENSUS_SPARE = 0,   /* known, nothing is sent to it */
  BLX_CONSENSUS_STANDBY = 1, /* gets the log, has no vote */
  BLX_CONSENSUS_VOTER = 2,
};

typedef struct blx_consensus blx_consensus;

/* Where a function of the table writes; valid during that call only. */
typedef struct blx_output blx_output;

/* Append @len bytes. @out NULL (nobody waits for the answer) is allowed and success.
 * Errors: BLX_E_NOSPACE (the maximum would be passed; nothing was added), BLX_E_NOMEM. Thread: the one that was given
 * @out. Since 0.1. */
BLX_API int blx_output_add(blx_output *out, const void *bytes, size_t len);

/* The replicated state machine. Every function but `write` runs on the member's thread, one at a time, and may call
 * blx_output_add() and nothing else of this header. They must be deterministic (no clock, no randomness, no I/O) and
 * must not block. */
struct blx_consensus_fsm {
  size_t struct_size;
  void *user;
  /* A log entry begins. @index rises; @time_ms is the cluster's time (ms since 1970), the same on every member, and
   * never goes back. NULL allowed. */
  void (*begin)(void *user, uint64_t index, uint64_t time_ms);
  /* One operation. An operation that is refused says so in @answer and returns 0. Anything else is a BLX_E_* code and
   * stops this member for good, for one that cannot follow must not go on as if it had. */
  int (*apply)(void *user, const void *op, size_t op_len, blx_output *answer);
  /* The entry ends: a good place to tell others what changed. NULL allowed. */
  void (*end)(void *user);
  /* Write everything, at once: no operation is applied meanwhile. A BLX_E_* code: not now, it is tried again later.
   * NULL allowed when the three at the end are there. */
  int (*snapshot)(void *user, blx_output *out);
  /* Replace everything by what `snapshot` or `write` wrote; never between `freeze` and `thaw`. A BLX_E_* code stops
   * this member, or makes the open fail. */
  int (*restore)(void *user, const void *snapshot, size_t snapshot_len);
  /* For a state that takes longer to write than an operation may wait (a few milliseconds): all three or none.
   * freeze: everything as it is now, to be written later. *@out is yours, not NULL. A BLX_E_* code: not now. */
  int (*freeze)(void *user, void **out);
  /* Write what was frozen. On another thread, while operations are applied: it must look at nothing else. */
  int (*write)(void *frozen, blx_output *out);
  /* @frozen is no longer needed; also after a `write` that failed, or that was never called. */
  void (*thaw)(void *user, void *frozen);
};
#define BLX_CONSENSUS_FSM_INIT BLX_INIT_(struct blx_consensus_fsm)
BLX_INIT_FN_(consensus_fsm)

/* Where a member listens. */
struct blx_consensus_address {
  size_t struct_size;
  uint64_t uid;
  const char *socket_path;
};
#define BLX_CONSENSUS_ADDRESS_INIT BLX_INIT_(struct blx_consensus_address)
BLX_INIT_FN_(consensus_address)

struct blx_consensus_options {
  size_t struct_size;
  const char *dir;         /* of this member alone, on ext4, XFS or tmpfs; made with mode 0700 when missing; required */
  uint64_t uid;            /* 1 or more, never used again in this cluster; required */
  uint8_t cluster_id[16];  /* the same at every member: one of another cluster is turned away */
  const char *socket_path; /* where the others reach this member, mode 0660; NULL: DIR/peer.sock */
  const struct blx_consensus_address *const *addresses; /* of the members, itself allowed; at most 64 */
  size_t n_addresses;
  const struct blx_consensus_fsm *fsm; /* required; copied */
  void *user;                          /* for the two functions below */
  /* The role, the leader (0: unknown) or the term changed. Where completions run; on the member's thread perhaps before
   * the open returned; in a dispatch only the last of the changes that were not told yet is told. It may call _async
   * functions and blx_consensus_status_get(). NULL allowed. */
  void (*on_role)(void *user, int32_t role, uint64_t leader_uid, uint64_t term);
  /* This member has stopped itself, once; calls complete with BLX_E_FATAL from now on. Close it, mend the cause, open
   * it again. Where completions run. NULL allowed. */
  void (*on_fatal)(void *user, int code, const char *text);
  blx_log_fn log; /* on the member's thread; NULL: silent */
  void *log_user;
  int32_t log_level;         /* BLX_LOG_* */
  uint32_t heartbeat_ms;     /* 0: 200; 10..1000 */
  uint32_t election_ms;      /* 0: 2000; at least 5 heartbeats, at most 10000 */
  uint32_t snapshot_entries; /* 0: 8192; 64..65536: a snapshot is due after so many log entries */
  uint32_t unsafe_fs;  /* 1: also on file systems other than ext4, XFS and tmpfs, where a crash may cost the log */
  uint32_t reserved;   /* 0: older programs have padding here */
  int32_t completions; /* BLX_COMPLETIONS_*; 0: on the member's thread */
};
#define BLX_CONSENSUS_OPTIONS_INIT BLX_INIT_(struct blx_consensus_options)
BLX_INIT_FN_(consensus_options)

/* What came of an operation. */
struct blx_consensus_answer {
  size_t struct_size;
  uint64_t index; /* of the log entry it is in */
  struct blx_bytes bytes;
};

struct blx_consensus_member {
  size_t struct_size;
  uint64_t uid;
  int32_t membership;   /* BLX_CONSENSUS_SPARE, _STANDBY or _VOTER */
  uint64_t match_index; /* at the leader: how far its log is known to agree; else 0 */
};

struct blx_consensus_status {
  size_t struct_size;
  int32_t role;
  int32_t fatal_code; /* 0, or why it stopped itself */
  uint64_t uid, leader_uid, term;
  uint64_t commit_index, applied_index, last_index, snapshot_index;
  uint64_t time_ms;  /* cluster time of the last entry applied */
  uint8_t chain[32]; /* running SHA-256 over all operations applied: equal at equal applied_index */
  uint32_t waiting;  /* operations that are not answered yet */
  struct blx_consensus_member **members;
  size_t n_members;
};

/* Make options->dir the first and only voter of a new cluster; dir, uid and cluster_id are read. The other members are
 * not bootstrapped: open them on empty directories and let the leader add them.
 * Errors: BLX_E_EXISTS (the directory holds a member: just open it), BLX_E_INVALID, BLX_E_UNSUPPORTED, BLX_E_DENIED,
 * BLX_E_NOSPACE, BLX_E_BUSY (in use), BLX_E_IO, BLX_E_MISUSE. Blocks for a few disk writes. Thread: any. Since 0.1. */
BLX_API int blx_consensus_bootstrap(const struct blx_consensus_options *options, blx_error *reterr);

/* Open a member: load what is on its disk, and take part.
 * @options  borrowed for the call
 * @out      the member; close with blx_consensus_close(); untouched on error
 * Errors: BLX_E_INVALID, BLX_E_UNSUPPORTED (the struct is of a newer library), BLX_E_BUSY (another process has the
 * directory or the socket; 65536 handles are open), BLX_E_CONFLICT (the directory is another member's or another
 * cluster's), BLX_E_CORRUPT (names what is damaged; nothing was changed), what `restore` returned, BLX_E_DENIED,
 * BLX_E_NOSPACE, BLX_E_IO, BLX_E_NOMEM, BLX_E_MISUSE. Thread: any but a member's. Since 0.1. */
BLX_API int blx_consensus_open(const struct blx_consensus_options *options, blx_consensus **out, blx_error *reterr);

/* Close a member: its calls complete with BLX_E_CANCELLED first. Blocks until its thread has ended and its directory is
 * free. NULL is allowed, and so is a second time; calls of it are BLX_E_MISUSE from then on (blixard/client.h says so
 * of all handles). With BLX_COMPLETIONS_DISPATCH what nobody dispatched is told here. From where completions run, from
 * the member's own thread, or in a child of fork, nothing happens. Thread: any but those. Since 0.1. */
BLX_API void blx_consensus_close(blx_consensus *consensus);

/* As blx_client_fd() and blx_client_dispatch(), for this member. Errors and threads: as there. Since 0.1. */
BLX_API int blx_consensus_fd(blx_consensus *consensus, blx_error *reterr);
BLX_API int blx_consensus_dispatch(blx_consensus *consensus, uint32_t max, blx_error *reterr);

/* @err NULL on success. @index, @answer: those of the entry and of `apply`; 0 and empty for other calls. All are valid
 * during the call only. */
typedef void (*blx_consensus_fn)(void *user, const blx_error *err, uint64_t index, const void *answer,
                                 size_t answer_len);

/* Commit an operation; done when it is applied here.
 * @op   1..BLX_CONSENSUS_OP_MAX bytes, copied
 * @out  what `apply` answered; free with blx_consensus_answer_free(); untouched on error; NULL: not wanted
 * Errors: BLX_E_NO_LEADER (certainly not done: ask the leader), BLX_E_BUSY (too much waits; not done), BLX_E_NOSPACE
 * (the disk; not done), BLX_E_INVALID (its size); outcome unknown: BLX_E_TIMEOUT (leadership was lost meanwhile),
 * BLX_E_FATAL, BLX_E_CANCELLED; BLX_E_NOMEM, BLX_E_MISUSE. Thread: any; blocking: any but its own. Since 0.1. */
BLX_API int blx_consensus_propose(blx_consensus *consensus, const void *op, size_t op_len,
                                  struct blx_consensus_answer **out, blx_error *reterr);
BLX_API int blx_consensus_propose_async(blx_consensus *consensus, const void *op, size_t op_len, blx_consensus_fn done,
                                        void *user, blx_error *reterr);
BLX_API void blx_consensus_answer_free(struct blx_consensus_answer *answer);

/* A confirmed read: a majority has said that this member leads still, and everything that was committed before the call
 * is applied here. It writes nothing. Reads that come together share one round of questions.
 * @look  runs on the member's thread, between two entries, when that is so: it may look at the state machine's data
 *        without a lock. In the _async twin the completion does, when its @err is NULL; in a dispatch it needs a lock
 *        of the embedder's that the table takes too, and sees perhaps what came later. NULL allowed.
 * Errors: BLX_E_NO_LEADER (ask the leader), BLX_E_BUSY, BLX_E_FATAL, BLX_E_CANCELLED, BLX_E_NOMEM, BLX_E_MISUSE.
 * Thread: any; blocking: any but its own. Since 0.1. */
BLX_API int blx_consensus_read(blx_consensus *consensus, void (*look)(void *user), void *user, blx_error *reterr);
BLX_API int blx_consensus_read_async(blx_consensus *consensus, blx_consensus_fn done, void *user, blx_error *reterr);

/* Tell this member where @uid listens; NULL: forget it. Each member keeps its own list, in memory only.
 * Errors: BLX_E_INVALID (0, or too long a path), BLX_E_BUSY (64 are known), BLX_E_NOMEM, BLX_E_MISUSE. Thread: any but
 * its own. Since 0.1. */
BLX_API int blx_consensus_set_address(blx_consensus *consensus, uint64_t uid, const char *socket_path,
                                      blx_error *reterr);

/* Make @uid a voter, bringing its log up to date first. Its address must be known here and ours there. One that is a
 * voter already is success.
 * Errors: BLX_E_NO_LEADER, BLX_E_BUSY (another change or a transfer), BLX_E_TIMEOUT (leadership was lost, or it does
 * not catch up: the same call goes on where this one stopped), BLX_E_INVALID, BLX_E_FATAL, BLX_E_CANCELLED,
 * BLX_E_NOMEM, BLX_E_MISUSE. Thread: any; blocking: any but its own. Since 0.1. */
BLX_API int blx_consensus_add_member(blx_consensus *consensus, uint64_t uid, blx_error *reterr);
BLX_API int blx_consensus_add_member_async(blx_consensus *consensus, uint64_t uid, blx_consensus_fn done, void *user,
                                           blx_error *reterr);

/* Take @uid out. One that is not in is success. The leader hands over first: BLX_E_CONFLICT. Other errors and thread as
 * above. Since 0.1. */
BLX_API int blx_consensus_remove_member(blx_consensus *consensus, uint64_t uid, blx_error *reterr);
BLX_API int blx_consensus_remove_member_async(blx_consensus *consensus, uint64_t uid, blx_consensus_fn done, void *user,
                                              blx_error *reterr);

/* Hand leadership to the voter @uid, 0: to any.
 * Errors: BLX_E_NO_LEADER, BLX_E_BUSY, BLX_E_NOT_FOUND (no such voter), BLX_E_TIMEOUT (it did not take over), and as
 * above. Thread as above. Since 0.1. */
BLX_API int blx_consensus_transfer(blx_consensus *consensus, uint64_t uid, blx_error *reterr);
BLX_API int blx_consensus_transfer_async(blx_consensus *consensus, uint64_t uid, blx_consensus_fn done, void *user,
                                         blx_error *reterr);

/* How this member is, and what it knows of the others.
 * @out  free with blx_consensus_status_free(); untouched on error
 * Errors: BLX_E_BUSY, BLX_E_CANCELLED, BLX_E_NOMEM, BLX_E_MISUSE. Thread: any; on its own it does not wait. Since 0.1.
 */
BLX_API int blx_consensus_status_get(blx_consensus *consensus, struct blx_consensus_status **out, blx_error *reterr);
BLX_API void blx_consensus_status_free(struct blx_consensus_status *status);

/* The leader as last heard of, 0: unknown. Never waits. Thread: any. Since 0.1. */
BLX_API uint64_t blx_consensus_leader(const blx_consensus *consensus);

/* Stop this member for good, for a reason of the embedder's (its own disk is broken): nothing more goes in or out,
 * calls complete with BLX_E_FATAL, on_fatal runs. A second time is nothing.
 * @code  BLX_E_*; @text: one sentence, cut at 511 bytes
 * Errors: BLX_E_BUSY, BLX_E_NOMEM, BLX_E_MISUSE. Thread: any. Since 0.1. */
BLX_API int blx_consensus_poison(blx_consensus *consensus, int code, const char *text, blx_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
