/* The seam for tests and the simulator: another disk and clock under the same consensus, and rules that can be switched
 * off one at a time to show that each is needed. The only header of this folder that shows libraft. */
#ifndef BLX__CONSENSUS_TESTING_H
#define BLX__CONSENSUS_TESTING_H

#include "consensus/consensus.h"
#include <raft.h>

/* Bits of rules_off; guard_int.h says what each rule does. */
enum {
  BLX__RULE_R1_CLAMP = 1 << 1,
  BLX__RULE_R2_BARRIER = 1 << 2,
  BLX__RULE_R3_FAIL_STOP = 1 << 3,
  BLX__RULE_R4_STORED_ONLY = 1 << 4,
  BLX__RULE_R5_INSTALL = 1 << 5,
  BLX__RULE_R6_COMMITTED_CONFIGURATION = 1 << 6,
  BLX__RULE_R7_OWN_BARRIER = 1 << 7,
  BLX__RULE_R8_LOG_BYTES = 1 << 8,
  BLX__RULE_R9_COMPACTED_CONFIGURATION = 1 << 9,
  BLX__RULE_R10_ONE_OUTSTANDING = 1 << 10,
  BLX__RULE_R11_PARTS = 1 << 11,
  BLX__RULE_R12_SPACE = 1 << 12,
  BLX__RULE_R13_MARK = 1 << 13,
  BLX__RULE_R15_FILE_SYSTEM = 1 << 15,
  BLX__RULE_R16_COMMIT = 1 << 16,
  BLX__RULE_R17_CLOSED_ONCE = 1 << 17,
  BLX__RULE_R18_OWN_TERM = 1 << 18,
  BLX__RULE_R19_VOTE = 1 << 19,
  BLX__RULE_R20_COMPACTED_ENTRIES = 1 << 20,
  BLX__RULE_R21_TERM = 1 << 21,
  BLX__RULE_R7_LOADED_CHANGE = 1 << 22,
  BLX__RULE_R22_SILENT_LEADER = 1 << 23,
};

/* Points that a campaign of simulations must have come by, or it has not tried what it claims to. */
#define BLX__SOMETIMES_MAP(X)                                                    \
  X(CLAMPED, "a follower's acknowledgement was cut to what it had compared")     \
  X(WITHHELD, "a new leader did not count a result before its barrier")          \
  X(SAT_STILL, "a follower was kept from standing for election")                 \
  X(TOOK_OVER_LATE, "leadership was taken over when the log was on disk")        \
  X(DISK_FAILED, "a failed write stopped a member")                              \
  X(CONFIGURATION_BUSY, "a snapshot waited for a configuration")                 \
  X(CHANGE_TAKEN_BACK, "a change of members was taken back to a snapshot's")     \
  X(CONFIGURATION_DOUBTED, "a loaded configuration was not taken for committed") \
  X(COMPACTED_SKIPPED, "entries came that had been compacted away")              \
  X(TERM_TOLD, "a candidate heard of a newer term")                              \
  X(SNAPSHOT_TAKEN, "a snapshot was taken")                                      \
  X(SNAPSHOT_SENT, "a snapshot was sent to another member")                      \
  X(SNAPSHOT_IN_PARTS, "a snapshot came in more than one part")                  \
  X(SNAPSHOT_INSTALLED, "a snapshot of the leader was installed")                \
  X(NOSPACE, "a proposal was refused for want of space")                         \
  X(TORN, "a crash left a part of a write")                                      \
  X(MEMBER_ADDED, "a member was added")                                          \
  X(MEMBER_REMOVED, "a member was removed")                                      \
  X(TRANSFERRED, "leadership was handed over on request")                        \
  X(UNKNOWN, "a proposal's outcome was unknown")                                 \
  X(UNKNOWN_DONE, "and yet it had taken place")                                  \
  X(CLOCK_JUMPED, "a clock jumped")                                              \
  X(FLIP_REFUSED, "a damaged snapshot was refused")                              \
  X(ALONE, "a cluster of one was run")

#define BLX__SOMETIMES_ENUM(name, text) BLX__SOMETIMES_##name,
enum blx__sometimes { BLX__SOMETIMES_MAP(BLX__SOMETIMES_ENUM) BLX__SOMETIMES_COUNT };
#undef BLX__SOMETIMES_ENUM

struct blx__consensus_seam {
  /* Borrowed until `done` of close. send and recv are not used. NULL: the real disk under the options' directory; then
   * only rules_off and chunk_bytes are looked at. */
  struct raft_io *io;
  /* Ask that blx__consensus_turn runs soon, not from inside this call. NULL with the real disk. */
  void (*wake)(void *user);
  void *user;
  unsigned rules_off;
  /* A point was reached. NULL: nobody counts. */
  void (*sometimes)(void *user, enum blx__sometimes point);
  /* Of the disk below. NULL or false: not known. */
  bool (*space)(void *user, uint64_t *free_bytes, uint64_t *size_bytes);
  /* Run @fn and then @done, both with @arg, later and on this thread; never once close was begun. */
  void (*work)(void *user, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
  uint32_t chunk_bytes; /* of a snapshot in one message; 0: as usual */
  /* Once a second: note how far the log reaches. NULL: there is nothing to note. */
  void (*mark)(void *user);
};

/* What wake asked for. After the turn in which `done` of close ran, @c is gone. */
void blx__consensus_turn(struct blx__consensus *c);

/* libraft's own record, to look at. */
const struct raft *blx__consensus_raft(const struct blx__consensus *c);

#endif
