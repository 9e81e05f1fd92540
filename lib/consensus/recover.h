/* A member's directory without a running member: what it holds, how the only survivor of a group becomes a group of its
 * own, and how a new group begins with a state from elsewhere. All of these block, lock the directory meanwhile, and
 * need no loop. Thread: any. */
#ifndef BLX__CONSENSUS_RECOVER_H
#define BLX__CONSENSUS_RECOVER_H

#include "consensus/consensus.h"

/* What a directory holds. Which entries are committed it does not say: those of the snapshot are, for certain. */
struct blx__consensus_found {
  uint64_t uid;
  uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  uint64_t term;                  /* that it has seen */
  uint64_t last_index, last_term; /* of its last entry: the log with the higher (last_term, last_index) is the longer */
  uint64_t snapshot_index, snapshot_term; /* 0: none */
  uint64_t time_ms;                       /* cluster time of the last operations */
  uint32_t members_count;                 /* as the last entry that changed them says */
  struct blx__consensus_member members[BLX__CONSENSUS_MEMBERS_MAX];
};

/* Look at @dir, change nothing. @fsm: its restore, begin, apply and end are given all that the log holds, what may not
 * be committed too; the rest of it is not looked at. @fsm NULL: nobody.
 * Errors: NOT_FOUND (no member is there), BUSY (another process uses it), CORRUPT (as a start would say), those of
 * fsm->restore, DENIED, IO, NOMEM. */
blx__rc blx__consensus_look(const char *dir, const struct blx__fsm *fsm, struct blx__consensus_found *out,
                            blx_error *err) BLX__MUST;

struct blx__consensus_recovery {
  uint64_t term;       /* the highest that any survivor has seen; the new one is above it, and above its own */
  uint64_t below;      /* what other members with lower uids say is dropped from now on */
  uint64_t last_index; /* that its log must have, as it was looked at: else CONFLICT */
  uint64_t last_term;
};

/* Make the member in @dir the only voter of its group, with all of its log. It is on the platter when this returns; cut
 * off in between it has not taken place, or all of it has. Whoever leads then puts blx__consensus_gone_below into the
 * state, for the members that join. @term: that of the entry which does it. Errors: as above; CONFLICT, NOSPACE. */
blx__rc blx__consensus_recover(const char *dir, const struct blx__consensus_recovery *r, uint64_t *term,
                               blx_error *err) BLX__MUST;

struct blx__consensus_seed {
  uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  uint64_t uid;
  uint64_t index;            /* that the state is as of, >= 1; the log goes on behind it */
  uint64_t time_ms;          /* cluster time */
  struct blx__slice payload; /* what fsm->restore will be given */
};

/* As blx__consensus_bootstrap, but the new group begins with a snapshot. Errors: as there. */
blx__rc blx__consensus_bootstrap_from(const char *dir, const struct blx__consensus_seed *seed,
                                      blx_error *err) BLX__MUST;

#endif
