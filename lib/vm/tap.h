/* The network interfaces that an instance's runner names. Used by the shim, which makes them, and by the driver, which
 * cleans up after a shim that died. Every call blocks for a few system calls. Thread: any. Since 0.1. */
#ifndef BLX__VM_TAP_H
#define BLX__VM_TAP_H

#include "base/rc.h"

enum { BLX__VM_TAPS_MAX = 16 }; /* interfaces of a monitor */

/* Make the taps that booted/share/microvm/tap-interfaces below the instance's directory @dir names, with its tap-flags,
 * owned by @owner and up, and note them in the file `taps`: what that names is removed first. Nothing is left of a
 * failure. Macvtaps, PCI devices and shares, which a runner may name too, are refused.
 * Errors: UNSUPPORTED, INVALID (what a file says), CONFLICT (an interface of that name is there), DENIED, IO. */
blx__rc blx__vm_taps_make(int dir, uint32_t owner, blx_error *err) BLX__MUST;

/* Remove what the file `taps` notes, if it still is what was made, and the file. Nothing noted: success.
 * Errors: DENIED, IO. */
blx__rc blx__vm_taps_remove(int dir, blx_error *err) BLX__MUST;

#endif
