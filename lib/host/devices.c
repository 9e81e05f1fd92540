#include "host/devices.h"

#include "host/net.h"
#include "host/pci.h"
#include "host/share.h"

blx__rc blx__host_devices_make(int dir, const char *name, uint32_t uid, uint32_t gid, blx_error *err) {
  const struct blx__host_pci pci = {.dir = dir, .name = name, .root = ""};
  blx_error ignored;
  BLX__TRY(blx__host_nets_make(dir, uid, gid, err));
  blx__rc rc = blx__host_pci_make(&pci, uid, gid, err);
  if (rc.code == 0) return rc;
  blx__rc removed = blx__host_nets_remove(dir, &ignored);
  (void)removed; /* what stays is noted: whoever cleans up next tries again */
  return rc;
}

blx__rc blx__host_devices_remove(int dir, const char *name, blx_error *err) {
  const struct blx__host_pci pci = {.dir = dir, .name = name, .root = ""};
  blx_error second;
  blx__host_shares_unlink(dir);
  blx__rc rc = blx__host_pci_remove(&pci, err);
  blx__rc nets = blx__host_nets_remove(dir, rc.code == 0 ? err : &second);
  return rc.code == 0 ? nets : rc;
}
