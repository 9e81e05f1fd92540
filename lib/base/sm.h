/* Checked state-machine tables (the idea of dqlite's lib/sm.h): a long action declares its states and the moves it may
 * make, and a move that is not in the table is a bug, found at once. */
#ifndef BLX__BASE_SM_H
#define BLX__BASE_SM_H

#include "base/rc.h"

struct blx__sm_state {
  const char *name;
  uint64_t next; /* bit set of the states it may move to; states are numbered 0..63 */
  bool final;
};

struct blx__sm_table {
  const struct blx__sm_state *states;
  unsigned count;
};

#define BLX__SM_TO(state) (UINT64_C(1) << (state))

/* True if @from may move to @to. */
bool blx__sm_may(const struct blx__sm_table *t, unsigned from, unsigned to);

/* Move, or trap. Returns @to. */
unsigned blx__sm_move(const struct blx__sm_table *t, unsigned from, unsigned to);

const char *blx__sm_name(const struct blx__sm_table *t, unsigned state);

#endif
