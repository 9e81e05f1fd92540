/* For tests with real guests: where everything is, and a driver with nothing simulated. */
#ifndef BLX_TESTS_VM_SUPPORT_BOOT_H
#define BLX_TESTS_VM_SUPPORT_BOOT_H

#include "support.h"

#include <check.h>
#include <limits.h>

extern struct boot_paths {
  char dir[PATH_MAX], shim[PATH_MAX], guest[PATH_MAX], kernel[PATH_MAX], runner[PATH_MAX], store[PATH_MAX];
} boot;
extern const char boot_module[];        /* of the guest "hello" */
extern uint32_t boot_build_deadline_ms; /* of the drivers that are opened; 0: theirs */

void boot_open(struct bench *b);
struct blx__vm_desc boot_desc(const char *name, uint64_t uid);
bool boot_program(const char *name, char out[PATH_MAX]); /* one of ours, beside this test; false: not built */

/* Run @tests in a directory of their own, which is removed; 77: no guest can be booted here. */
int boot_main(const char *name, const TTest *const *tests, size_t count);

#endif
