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
  BLX__RULE_R10_ONE_OUTSTANDING = 1 << 10,
  BLX__RULE_R16_COMMIT = 1 << 16,
};

struct blx__consensus_seam {
  /* Borrowed until `done` of close. send and recv are not used. NULL: the real disk under the options' directory. */
  struct raft_io *io;
  /* Ask that blx__consensus_turn runs soon, not from inside this call. NULL with the real disk. */
  void (*wake)(void *user);
  void *user;
  unsigned rules_off;
};

/* What wake asked for. After the turn in which `done` of close ran, @c is gone. */
void blx__consensus_turn(struct blx__consensus *c);

/* libraft's own record, to look at. */
const struct raft *blx__consensus_raft(const struct blx__consensus *c);

#endif
