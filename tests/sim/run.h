/* One run: load and faults for a while, then peace, then the reckoning. */
#ifndef BLX_TESTS_SIM_RUN_H
#define BLX_TESTS_SIM_RUN_H

#include "sim.h"

/* True if every invariant held; else @why says which did not. @reached gains bits of enum blx__sometimes. */
bool sim_run(uint64_t seed, const struct sim_fsm *fsm, unsigned rules_off, bool verbose, uint64_t *reached,
             char why[SIM_WHY_SIZE]);

/* faults.c: one thing goes wrong, or a change of members is asked for. */
void faults_step(struct world *w);
/* Start again who has stopped itself, as the daemon's supervisor does. */
void faults_supervise(struct world *w);

#endif
