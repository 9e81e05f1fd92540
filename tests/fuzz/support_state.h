/* States for the fuzz targets of lib/state. */
#ifndef BLX_TESTS_FUZZ_STATE_H
#define BLX_TESTS_FUZZ_STATE_H

#include "../unit/state/support.h"

/* Two nodes, the VM web with two replicas of which web-1 was assigned and runs, a config. */
void fuzz_state_open(struct t *t);

/* What every state that took something must be able to do: be written, be read back, and be the same. */
void fuzz_state_check(const struct t *t);

#endif
