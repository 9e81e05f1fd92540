/* What one instance's monitor gets of the host: its cgroup, of version 1 with its separate hierarchies or version 2
 * where memory is in it; and the network interfaces that its runner names. Used by the shim, which makes them, and by
 * the driver, which cleans up after a shim that died. Every call blocks for a few file operations;
 * blx__vm_cgroup_remove may take 5 s. Thread: any. Since 0.1. */
#ifndef BLX__VM_CGROUP_H
#define BLX__VM_CGROUP_H

#include "base/rc.h"

#include <limits.h>

enum {
  BLX__VM_CGROUPS_MAX = 4,        /* hierarchies: memory, cpu, pids; or one unified */
  BLX__VM_MEMORY_EXTRA_MIB = 256, /* what a monitor may use besides the guest's memory */
  BLX__VM_PIDS_MAX = 512,         /* threads of a monitor */
  BLX__VM_TAPS_MAX = 16,          /* interfaces of a monitor */
};

struct blx__vm_limits {
  uint64_t memory_mib, vcpus; /* of the guest; what the monitor needs itself is added */
};

/* Zero-initialise; owns nothing. */
struct blx__vm_cgroup {
  char path[BLX__VM_CGROUPS_MAX][PATH_MAX]; /* directories that exist */
  unsigned count;
  bool unified;
};

/* Make @name ("TAG/INSTANCE", one slash) with its limits. What was made before a failure stays in @g: remove it.
 * Errors: UNSUPPORTED (no memory controller on this host), DENIED, IO. */
blx__rc blx__vm_cgroup_make(struct blx__vm_cgroup *g, const char *name, const struct blx__vm_limits *want,
                            blx_error *err) BLX__MUST;

/* Fill @g with what exists of @name. */
void blx__vm_cgroup_find(struct blx__vm_cgroup *g, const char *name);

/* Put the calling process in. */
bool blx__vm_cgroup_join(const struct blx__vm_cgroup *g) BLX__MUST;

/* SIGKILL to everything in it. */
void blx__vm_cgroup_kill(const struct blx__vm_cgroup *g);

/* Kill what is left, wait at most 5 s until it is gone, remove the directories. False: something would not die. */
bool blx__vm_cgroup_remove(struct blx__vm_cgroup *g);

/* Make the taps that booted/share/microvm/tap-interfaces below the instance's directory @dir names, with its tap-flags,
 * owned by @owner and up, and note them in the file `taps`: what that names is removed first. Nothing is left of a
 * failure. Macvtaps, PCI devices and shares, which a runner may name too, are refused.
 * Errors: UNSUPPORTED, INVALID (what a file says), CONFLICT (an interface of that name is there), DENIED, IO. */
blx__rc blx__vm_taps_make(int dir, uint32_t owner, blx_error *err) BLX__MUST;

/* Remove what the file `taps` notes, if it still is what was made, and the file. Nothing noted: success.
 * Errors: DENIED, IO. */
blx__rc blx__vm_taps_remove(int dir, blx_error *err) BLX__MUST;

#endif
