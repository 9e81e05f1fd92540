/* All that an instance's runner asks of its host before its monitor starts, and that is taken back when the monitor is
 * dead: network interfaces, PCI devices, the sockets of its shares. Thread: any. Since 0.1. */
#ifndef BLX__HOST_DEVICES_H
#define BLX__HOST_DEVICES_H

#include "base/rc.h"

/* Make the interfaces and take the devices for the monitor's user, in the order of microvm.nix's units. What an earlier
 * start left is taken back first; nothing is left of a failure.
 * @dir   the instance's directory
 * @name  the last part of its path
 * Errors: those of net.h and pci.h. */
blx__rc blx__host_devices_make(int dir, const char *name, uint32_t uid, uint32_t gid, blx_error *err) BLX__MUST;

/* Take back what is noted in @dir; as much as can be, then the first error. Its monitor must be dead. */
blx__rc blx__host_devices_remove(int dir, const char *name, blx_error *err) BLX__MUST;

#endif
