/* The PCI devices that an instance's runner names, given to its monitor by VFIO and taken back. Used by the shim, and
 * by the driver after a shim that died. Calls block for file operations; blx__host_pci_make waits up to
 * BLX__HOST_PCI_WAIT_MS for each device. Thread: any. Since 0.1. */
#ifndef BLX__HOST_PCI_H
#define BLX__HOST_PCI_H

#include "base/rc.h"

enum {
  BLX__HOST_PCI_MAX = 8,        /* devices of a monitor */
  BLX__HOST_PCI_WAIT_MS = 2000, /* until a device that was probed has its driver and its group's file */
};

struct blx__host_pci {
  int dir;          /* the instance's directory, vms/NAME-UID; the node's claims lie in ../../pci */
  const char *name; /* of the instance, for those that want the same device */
  const char *root; /* in front of /sys and /dev: "", or a tree of a test's */
};

/* Whether booted/share/microvm/pci-devices names any. Its monitor pins its memory then. */
bool blx__host_pci_wanted(int dir);

/* For each device of booted/share/microvm/pci-devices, one address a line: claim it for the instance, note it in the
 * file `pci`, bind it to vfio-pci in place of its driver, and give the file of its IOMMU group to @uid and @gid. What
 * that file names is given back first; so is what a failure leaves.
 * Errors: INVALID (no address), NOT_FOUND (no such device), UNSUPPORTED (no IOMMU, no vfio-pci), CONFLICT (another
 * instance of this node has it), DENIED, IO. */
blx__rc blx__host_pci_make(const struct blx__host_pci *p, uint32_t uid, uint32_t gid, blx_error *err) BLX__MUST;

/* Give back what the file `pci` names: the override cleared, unbound, probed again by the host's drivers, its group's
 * file root's again, the claim dropped. Its monitor must be dead. Nothing named: success. Errors: DENIED, IO. */
blx__rc blx__host_pci_remove(const struct blx__host_pci *p, blx_error *err) BLX__MUST;

#endif
