/* The data directory: its lock, and the file that says which node of which cluster it is. */
#ifndef BLX__NODE_IDENTITY_H
#define BLX__NODE_IDENTITY_H

#include "base/buf.h"
#include "schema/internal.h"
#include <blixard/types.h>

/* Make @dir (mode 0711: monitors reach their own directories below it, and list nothing) and take its lock, held until
 * the descriptor is closed. Errors: BUSY (another process has it), DENIED (others may write to it), NOSPACE, IO. */
blx__rc blx__identity_lock(const char *dir, int *fd, blx_error *err) BLX__MUST;

/* Read @dir/identity. @out receives an owned record (blx__msg_free_owned) or NULL when there is none.
 * Errors: CORRUPT (its digest does not match; says which file), IO. */
blx__rc blx__identity_read(const char *dir, struct blx_identity **out, blx_error *err) BLX__MUST;

/* Write it, durably, in one step. */
blx__rc blx__identity_write(const char *dir, const struct blx_identity *identity, blx_error *err) BLX__MUST;

/* What this machine can give to instances: what it has, less so much. @reserve_memory_mib  0: the larger of 512 MiB and
 * an eighth. INVALID: nothing would be left. */
blx__rc blx__identity_capacity(uint32_t reserve_vcpus, uint32_t reserve_memory_mib, struct blx_resources *out,
                               blx_error *err) BLX__MUST;

/* Whether this machine is itself a virtual one, as @cpuinfo ("/proc/cpuinfo") or @dmi ("/sys/class/dmi/id") tells: it
 * may then be held without its clocks moving. What cannot be read says no. */
/* Features of the processors that VMs may ask for (spec.cpu_features), of a fixed list, in its order.
 * @cpuinfo  /proc/cpuinfo; flags of the first processor that it names
 * @out      static texts. Returns how many, BLX__IDENTITY_FEATURES_MAX at most. */
enum { BLX__IDENTITY_FEATURES_MAX = 64 };
size_t blx__identity_features(const char *cpuinfo, const char *out[BLX__IDENTITY_FEATURES_MAX]);

bool blx__identity_virtualized(const char *cpuinfo, const char *dmi);

#endif
