#include "host/pci.h"

#include "host/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char origin[] = "host/pci";
static const char record_name[] = "pci", devices_file[] = "booted/share/microvm/pci-devices";
static const char vfio[] = "vfio-pci";

enum { ADDRESS_LEN = 12, WAIT_ROUND_MS = 10, CLAIM_MAX = 256 };

/* ---- addresses */

/* "0000:06:00.1", as `lspci -D` prints it. */
static bool address_ok(const char *text) {
  static const char form[] = "hhhh:hh:hh.d", hex[] = "0123456789abcdef";
  if (strlen(text) != ADDRESS_LEN) return false;
  for (unsigned i = 0; i < ADDRESS_LEN; i++) {
    bool ok = form[i] == 'h'   ? strchr(hex, text[i]) != NULL
              : form[i] == 'd' ? text[i] >= '0' && text[i] <= '7'
                               : text[i] == form[i];
    if (!ok) return false;
  }
  return true;
}

static const char *device_path(const struct blx__host_pci *p, const char *address, const char *name,
                               char out[PATH_MAX]) {
  bool fits =
      blx__str_format(out, PATH_MAX, "%s/sys/bus/pci/devices/%s%s%s", p->root, address, name[0] ? "/" : "", name);
  BLX__ASSERT(fits);
  return out;
}

/* The last part of what a link of the device leads to: "vfio-pci" for its driver; "" without one. */
static void link_of(const struct blx__host_pci *p, const char *address, const char *name, char out[64]) {
  char path[PATH_MAX], target[PATH_MAX];
  ssize_t n = readlink(device_path(p, address, name, path), target, sizeof target - 1);
  target[n > 0 ? n : 0] = '\0';
  const char *slash = strrchr(target, '/');
  (void)blx__str_copy(out, 64, slash ? slash + 1 : target);
}

/* ---- claims: the node's pci/ADDRESS, a link to "BOOT INSTANCE", under a lock of the directory */

static blx__rc claims_open(const struct blx__host_pci *p, int *out, blx_error *err) {
  if (mkdirat(p->dir, "../../pci", 0700) != 0 && errno != EEXIST)
    return blx__fail_errno(err, errno, origin, "the claims of PCI devices cannot be kept");
  int fd = openat(p->dir, "../../pci", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 || flock(fd, LOCK_EX) != 0) {
    int errnum = errno;
    if (fd >= 0) (void)close(fd);
    return blx__fail_errno(err, errnum, origin, "the claims of PCI devices cannot be looked at");
  }
  *out = fd;
  return BLX__OK;
}

/* Who has the device; "": nobody, in this boot. */
static void claimant(int claims, const char *address, char out[CLAIM_MAX]) {
  char now[HOST_BOOT_ID_MAX], text[CLAIM_MAX];
  ssize_t n = readlinkat(claims, address, text, sizeof text - 1);
  text[n > 0 ? n : 0] = '\0';
  size_t boot = strcspn(text, " ");
  bool same = n > 0 && host_boot_id(now) && strlen(now) == boot && strncmp(text, now, boot) == 0;
  (void)blx__str_copy(out, CLAIM_MAX, same && text[boot] == ' ' ? text + boot + 1 : "");
}

static blx__rc claim(const struct blx__host_pci *p, const char *address, blx_error *err) {
  char now[HOST_BOOT_ID_MAX], holder[CLAIM_MAX], text[CLAIM_MAX];
  int claims = -1;
  if (!host_boot_id(now)) return blx__fail_errno(err, errno, origin, "the kernel's boot_id cannot be read");
  BLX__TRY(claims_open(p, &claims, err));
  claimant(claims, address, holder);
  blx__rc rc = BLX__OK;
  if (holder[0] && strcmp(holder, p->name) != 0) {
    rc = blx__fail(err, BLX_E_CONFLICT, origin,
                   "the PCI device %s is %s's on this node: stop that one, or name another device", address, holder);
  } else {
    (void)blx__str_format(text, sizeof text, "%s %s", now, p->name);
    (void)unlinkat(claims, address, 0);
    if (symlinkat(text, claims, address) != 0)
      rc = blx__fail_errno(err, errno, origin, "the PCI device %s cannot be claimed", address);
  }
  (void)close(claims);
  return rc;
}

static blx__rc release(const struct blx__host_pci *p, const char *address, blx_error *err) {
  char holder[CLAIM_MAX];
  int claims = -1;
  BLX__TRY(claims_open(p, &claims, err));
  claimant(claims, address, holder);
  if (strcmp(holder, p->name) == 0) (void)unlinkat(claims, address, 0);
  (void)close(claims);
  return BLX__OK;
}

/* ---- binding */

static blx__rc put(const char *path, const char *text, const char *address, blx_error *err) {
  int errnum = host_put(path, text);
  if (errnum == 0) return BLX__OK;
  return blx__fail_errno(err, errnum, origin, "the PCI device %s cannot be moved to another driver (%.200s)", address,
                         path);
}

/* To the driver that @override names, or to whichever takes it. */
static blx__rc rebind(const struct blx__host_pci *p, const char *address, const char *override, blx_error *err) {
  char path[PATH_MAX], driver[64];
  BLX__TRY(put(device_path(p, address, "driver_override", path), override, address, err));
  link_of(p, address, "driver", driver);
  if (driver[0]) BLX__TRY(put(device_path(p, address, "driver/unbind", path), address, address, err));
  bool fits = blx__str_format(path, sizeof path, "%s/sys/bus/pci/drivers_probe", p->root);
  BLX__ASSERT(fits);
  return put(path, address, address, err);
}

static void group_path(const struct blx__host_pci *p, const char *group, char out[PATH_MAX]) {
  bool fits = blx__str_format(out, PATH_MAX, "%s/dev/vfio/%s", p->root, group);
  BLX__ASSERT(fits);
}

/* Its driver and the file of its group come with the probe; that file's name by devtmpfs or udev a little later. */
static blx__rc await_group(const struct blx__host_pci *p, const char *address, const char *group, blx_error *err) {
  char driver[64] = "", path[PATH_MAX];
  struct stat st;
  group_path(p, group, path);
  for (unsigned waited_ms = 0; waited_ms <= BLX__HOST_PCI_WAIT_MS; waited_ms += WAIT_ROUND_MS) {
    link_of(p, address, "driver", driver);
    if (strcmp(driver, vfio) == 0 && stat(path, &st) == 0) return BLX__OK;
    (void)nanosleep(&(struct timespec){.tv_nsec = WAIT_ROUND_MS * 1000000L}, NULL);
  }
  if (strcmp(driver, vfio) == 0)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "the PCI device %s was given to vfio-pci, and %s did not come: load the module vfio_iommu_type1",
                     address, path);
  return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                   "vfio-pci did not take the PCI device %s: load that module on this host (modprobe vfio-pci)",
                   address);
}

static blx__rc take(const struct blx__host_pci *p, const char *address, uint32_t uid, uint32_t gid, int record,
                    blx_error *err) {
  char path[PATH_MAX], group[64];
  struct stat st;
  if (!address_ok(address))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "\"%.40s\" in the runner's pci-devices is no address of a PCI device: it is like 0000:06:00.1, "
                     "as lspci -D prints it",
                     address);
  if (stat(device_path(p, address, "", path), &st) != 0)
    return blx__fail(err, BLX_E_NOT_FOUND, origin,
                     "this host has no PCI device %s: lspci -D shows those that it has; or give the VM another node",
                     address);
  link_of(p, address, "iommu_group", group);
  if (!group[0])
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "the PCI device %s cannot be given to a VM: this host has no IOMMU, or it is off. Switch it on in "
                     "the firmware, and with intel_iommu=on or amd_iommu=on on the kernel's command line",
                     address);
  BLX__TRY(claim(p, address, err));
  if (dprintf(record, "%s %s\n", address, group) < 0) {
    int errnum = errno;
    blx_error ignored;
    blx__rc released = release(p, address, &ignored);
    (void)released; /* it is ours still, for the next start */
    return blx__fail_errno(err, errnum, origin, "the record of PCI devices cannot be written");
  }
  BLX__TRY(rebind(p, address, vfio, err));
  BLX__TRY(await_group(p, address, group, err));
  group_path(p, group, path);
  if (chown(path, uid, gid) != 0)
    return blx__fail_errno(err, errno, origin, "%s, of the PCI device %s, cannot be given to user %u", path, address,
                           uid);
  return BLX__OK;
}

bool blx__host_pci_wanted(int dir) {
  char text[HOST_TEXT_MAX];
  return host_read_at(dir, devices_file, text, NULL).code == 0 && text[strspn(text, " \n")] != '\0';
}

static blx__rc take_all(const struct blx__host_pci *p, char *text, uint32_t uid, uint32_t gid, int record,
                        blx_error *err) {
  unsigned count = 0;
  char *rest = NULL;
  for (const char *at = text + strspn(text, " \n"); *at; count++) {
    at += strcspn(at, " \n");
    at += strspn(at, " \n");
  }
  if (count > BLX__HOST_PCI_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "the runner names more than %d PCI devices", BLX__HOST_PCI_MAX);
  for (const char *address = strtok_r(text, " \n", &rest); address; address = strtok_r(NULL, " \n", &rest)) {
    BLX__TRY(take(p, address, uid, gid, record, err));
  }
  return BLX__OK;
}

blx__rc blx__host_pci_make(const struct blx__host_pci *p, uint32_t uid, uint32_t gid, blx_error *err) {
  char text[HOST_TEXT_MAX];
  int record = -1;
  blx_error ignored;
  BLX__ASSERT(p->dir >= 0 && strlen(p->root) < PATH_MAX / 2);
  BLX__TRY(blx__host_pci_remove(p, err));
  BLX__TRY(host_read_at(p->dir, devices_file, text, err));
  if (text[strspn(text, " \n")] == '\0') return BLX__OK;
  BLX__TRY(host_record_begin(p->dir, record_name, &record, err));
  blx__rc rc = take_all(p, text, uid, gid, record, err);
  (void)close(record);
  if (rc.code == 0) return rc;
  blx__rc removed = blx__host_pci_remove(p, &ignored);
  (void)removed; /* what stays is noted: whoever cleans up next tries again */
  return rc;
}

/* ---- giving back */

/* A device that was unplugged meanwhile has nothing to go back to. */
static blx__rc give_back(const struct blx__host_pci *p, const char *address, const char *group, blx_error *err) {
  char path[PATH_MAX];
  struct stat st;
  group_path(p, group, path);
  if (stat(path, &st) == 0 && chown(path, 0, 0) != 0)
    return blx__fail_errno(err, errno, origin, "%s, of the PCI device %s, cannot be taken back", path, address);
  if (stat(device_path(p, address, "", path), &st) != 0) return BLX__OK;
  return rebind(p, address, "\n", err);
}

blx__rc blx__host_pci_remove(const struct blx__host_pci *p, blx_error *err) {
  char text[HOST_TEXT_MAX], *rest = NULL;
  BLX__TRY(host_record_lines(p->dir, record_name, text, &rest, err));
  for (char *line = strtok_r(rest, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    char address[ADDRESS_LEN + 1] = "", group[64] = "";
    if (sscanf(line, "%12s %63s", address, group) != 2 || !address_ok(address)) continue;
    BLX__TRY(give_back(p, address, group, err));
    BLX__TRY(release(p, address, err));
  }
  return host_record_remove(p->dir, record_name, err);
}
