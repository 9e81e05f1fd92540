/* The network interfaces that an instance's runner names: taps and macvtaps. Used by the shim, which makes them, and
 * by the driver, which cleans up after a shim that died. Every call blocks for a few system calls. Thread: any. Since
 * 0.1. */
#ifndef BLX__HOST_NET_H
#define BLX__HOST_NET_H

#include "base/rc.h"

enum { BLX__HOST_NETS_MAX = 16 }; /* interfaces of a monitor, of both kinds */

/* Make the taps that booted/share/microvm/tap-interfaces below the instance's directory @dir names, with its
 * tap-flags, owned by @uid, and the macvtaps of macvtap-interfaces, a line "ID MAC LINK MODE" each, whose
 * /dev/tapINDEX goes to @uid and @gid. All are up, and noted in the file `taps`: what that names is removed first.
 * Nothing is left of a failure.
 * Errors: UNSUPPORTED (the host has no tun, no macvtap), INVALID (what a file says), NOT_FOUND (the link of a
 * macvtap), CONFLICT (an interface of that name or address is there), DENIED, IO. */
blx__rc blx__host_nets_make(int dir, uint32_t uid, uint32_t gid, blx_error *err) BLX__MUST;

/* Remove what the file `taps` notes, if it still is what was made, and the file. Nothing noted: success.
 * Errors: DENIED, IO. */
blx__rc blx__host_nets_remove(int dir, blx_error *err) BLX__MUST;

#endif
