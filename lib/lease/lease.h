/* How long a node may run highly available instances without word from the cluster, and when the cluster may believe
 * that they do not run there any more. Durations only: whose clock they are measured by is the caller's affair, and is
 * CLOCK_BOOTTIME, which goes on while a machine sleeps.
 *
 * A lease lasts from when its node asked (not from the answer) for lease_ms. kill_ms before its end the node pauses its
 * highly available instances; when two fifths of kill_ms are left it kills them; a watchdog device resets the machine
 * if that did not happen. So nothing of it runs T_safe after the cluster's last answer, if no clock's rate is further
 * off than rate_ppm:
 *
 *   T_safe = (lease + watchdog) * (1 + rate) + margin
 *
 * The argument follows Gray and Cheriton, "Leases" (1989), with the watchdog's time added, as a killer may hang too.
 * Thread: any; nothing is kept. */
#ifndef BLX__LEASE_LEASE_H
#define BLX__LEASE_LEASE_H

#include "base/rc.h"
#include "schema/internal.h"

/* The defaults of the schema: T_safe is 33.15 s. */
struct blx_lease_settings blx__lease_defaults(void);

/* All of them for leases of @lease_ms (2,000..400,000), in the defaults' proportions as far as their minima allow:
 * tests run whole failovers in seconds. */
struct blx_lease_settings blx__lease_scaled(uint32_t lease_ms);

/* Whether they keep the promise together: three questions fit before instances are paused, the killer has 200 ms and
 * two of its turns, a node is suspect before its lease ends and not for one lost question. Errors: INVALID (says which
 * two contradict each other, with their numbers). */
blx__rc blx__lease_check(const struct blx_lease_settings *s, blx_error *err) BLX__MUST;

/* ms after the cluster's last possible answer at which nothing of the node runs any more; of a lease that was given for
 * @lease_ms (0: as the settings say). Rounded up. */
uint64_t blx__lease_t_safe_ms(const struct blx_lease_settings *s, uint64_t lease_ms);

/* From the start of a lease of @lease_ms (0: as the settings say): when instances are paused, and when killed. */
uint64_t blx__lease_pause_ms(const struct blx_lease_settings *s, uint64_t lease_ms);
uint64_t blx__lease_kill_ms(const struct blx_lease_settings *s, uint64_t lease_ms);

/* A node that was not answered for so long has its lease ended, so that nothing is lost by cutting it off. */
uint64_t blx__lease_fence_ms(const struct blx_lease_settings *s);

#endif
