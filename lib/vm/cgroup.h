/* The cgroup of one instance's monitor, of version 1 with its separate hierarchies or version 2 where memory is in it.
 * Used by the shim, which makes it, and by the driver, which cleans up after a shim that died. Every call blocks for a
 * few file operations; blx__vm_cgroup_remove may take 5 s. Thread: any. Since 0.1. */
#ifndef BLX__VM_CGROUP_H
#define BLX__VM_CGROUP_H

#include "base/rc.h"

#include <limits.h>

enum {
  BLX__VM_CGROUPS_MAX = 4,        /* hierarchies: memory, cpu, pids; or one unified */
  BLX__VM_MEMORY_EXTRA_MIB = 256, /* what a monitor may use besides the guest's memory */
  BLX__VM_PIDS_MAX = 512,         /* threads of a monitor */
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

/* The directory that the groups named "@parent/..." are in, of the hierarchy in which every process of theirs is. It
 * can be made, and is there while any of them is. Errors: UNSUPPORTED, DENIED, IO. */
blx__rc blx__vm_cgroup_parent(const char *parent, char out[PATH_MAX], blx_error *err) BLX__MUST;

/* Fill @g with what exists of @name. */
void blx__vm_cgroup_find(struct blx__vm_cgroup *g, const char *name);

/* Put the calling process in. */
bool blx__vm_cgroup_join(const struct blx__vm_cgroup *g) BLX__MUST;

/* SIGKILL to everything in it. */
void blx__vm_cgroup_kill(const struct blx__vm_cgroup *g);

/* Kill what is left, wait at most 5 s until it is gone, remove the directories. False: something would not die. */
bool blx__vm_cgroup_remove(struct blx__vm_cgroup *g);

#endif
