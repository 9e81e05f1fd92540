#include "vm/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define SHARE "booted/share/microvm/"
static const char origin[] = "vm/tap";
static const char taps_file[] = "taps";

enum { TAPS_FILE_MAX = 2048, BOOT_ID_MAX = 64, NETLINK_WAIT_S = 2 };

/* The whole of a small file as text; a missing one is empty. */
static blx__rc read_at(int dir, const char *name, char text[TAPS_FILE_MAX], blx_error *err) {
  text[0] = '\0';
  int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return BLX__OK;
  if (fd < 0) return blx__fail_errno(err, errno, origin, "%s cannot be read", name);
  ssize_t n = read(fd, text, TAPS_FILE_MAX);
  int errnum = errno;
  (void)close(fd);
  text[n > 0 && n < TAPS_FILE_MAX ? n : 0] = '\0';
  if (n < 0) return blx__fail_errno(err, errnum, origin, "%s cannot be read", name);
  if (n == TAPS_FILE_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "%s is longer than %d bytes", name, TAPS_FILE_MAX - 1);
  return BLX__OK;
}

static bool boot_id(char out[BOOT_ID_MAX]) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID_MAX - 1);
  if (fd >= 0) (void)close(fd);
  if (n <= 0) return false;
  out[n] = '\0';
  out[strcspn(out, "\n")] = '\0';
  return true;
}

/* By its number, which no other interface gets while this one is there. One that is gone: success. */
static int link_delete(unsigned index) {
  struct {
    struct nlmsghdr head;
    struct ifinfomsg link;
  } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
           .link = {.ifi_index = (int)index}};
  struct {
    struct nlmsghdr head;
    struct nlmsgerr error;
    char rest[256];
  } answer = {0};
  struct timeval wait = {.tv_sec = NETLINK_WAIT_S};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return errno;
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  bool told = send(fd, &ask, sizeof ask, 0) == (ssize_t)sizeof ask &&
              recv(fd, &answer, sizeof answer, 0) >= (ssize_t)(sizeof answer.head + sizeof answer.error.error);
  int errnum = told ? -answer.error.error : errno;
  (void)close(fd);
  if (told && answer.head.nlmsg_type != NLMSG_ERROR) return EPROTO;
  return errnum == ENODEV ? 0 : errnum;
}

blx__rc blx__vm_taps_remove(int dir, blx_error *err) {
  char text[TAPS_FILE_MAX], now[BOOT_ID_MAX], *rest = NULL;
  BLX__TRY(read_at(dir, taps_file, text, err));
  const char *line = strtok_r(text, "\n", &rest);
  /* Since the host went down and up again its interfaces are others. */
  bool same_boot = line && boot_id(now) && strcmp(line, now) == 0;
  while (same_boot && (line = strtok_r(NULL, "\n", &rest))) {
    char name[IF_NAMESIZE] = "", is[IF_NAMESIZE] = "";
    unsigned index = 0;
    if (sscanf(line, "%15s %u", name, &index) != 2 || !if_indextoname(index, is) || strcmp(is, name) != 0) continue;
    int errnum = link_delete(index);
    if (errnum != 0) return blx__fail_errno(err, errnum, origin, "the network interface %s cannot be removed", name);
  }
  if (unlinkat(dir, taps_file, 0) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, origin, "the record of network interfaces cannot be removed");
  return BLX__OK;
}

static blx__rc tap_refused(int errnum, const char *name, blx_error *err) {
  if (errnum == EBUSY)
    return blx__fail(err, BLX_E_CONFLICT, origin,
                     "this host has a network interface %s already: give the VM's interface another id, or the VM "
                     "another node",
                     name);
  if (errnum == EPERM || errnum == EACCES)
    return blx__fail(err, BLX_E_DENIED, origin,
                     "the daemon may not make the network interface %s: it lacks CAP_NET_ADMIN; run it as root", name);
  if (errnum == ENOENT || errnum == ENODEV || errnum == ENXIO)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "the network interface %s needs /dev/net/tun, which this host lacks: load its module tun", name);
  return blx__fail_errno(err, errnum, origin, "the network interface %s cannot be made", name);
}

static bool bring_up(const char *name) {
  struct ifreq ask = {0};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  (void)blx__str_copy(ask.ifr_name, sizeof ask.ifr_name, name);
  bool ok = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ask) == 0;
  ask.ifr_flags = (short)(ask.ifr_flags | IFF_UP);
  ok = ok && ioctl(fd, SIOCSIFFLAGS, &ask) == 0;
  int errnum = errno;
  if (fd >= 0) (void)close(fd);
  errno = errnum;
  return ok;
}

/* The monitor opens it itself, with no group but its own. */
static bool monitor_may_open(int fd, uint32_t owner) {
  struct stat st;
  mode_t both = S_IROTH | S_IWOTH;
  return owner == 0 || (fstat(fd, &st) == 0 && (st.st_uid == owner || (st.st_mode & both) == both));
}

/* Until it is noted it goes with this process. */
static blx__rc make_tap(const char *name, short flags, uint32_t owner, int record, blx_error *err) {
  struct ifreq ask = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | flags)};
  char line[64];
  (void)blx__str_copy(ask.ifr_name, sizeof ask.ifr_name, name);
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return tap_refused(errno, name, err);
  if (!monitor_may_open(fd, owner)) {
    (void)close(fd);
    return blx__fail(
        err, BLX_E_DENIED, origin,
        "user %u, who runs the monitors, may not open /dev/net/tun for the network interface %s: run chmod "
        "0666 on it, which is what udev does",
        owner, name);
  }
  bool ok = ioctl(fd, TUNSETIFF, &ask) == 0 && ioctl(fd, TUNSETOWNER, (unsigned long)owner) == 0;
  (void)blx__str_format(line, sizeof line, "%s %u\n", name, ok ? if_nametoindex(name) : 0);
  size_t n = strlen(line);
  ok = ok && write(record, line, n) == (ssize_t)n && ioctl(fd, TUNSETPERSIST, 1UL) == 0 && bring_up(name);
  blx__rc rc = ok ? BLX__OK : tap_refused(errno, name, err);
  (void)close(fd);
  return rc;
}

/* As Linux takes it, less what a file or a shell could read otherwise. */
static bool tap_name_ok(const char *name) {
  size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  return n > 0 && n < IF_NAMESIZE && name[n] == '\0' && name[0] != '.' && name[0] != '-';
}

static blx__rc tap_flags(int dir, short *out, blx_error *err) {
  char text[TAPS_FILE_MAX], *rest = NULL;
  BLX__TRY(read_at(dir, SHARE "tap-flags", text, err));
  for (const char *word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
    if (strcmp(word, "vnet_hdr") == 0)
      *out |= IFF_VNET_HDR;
    else if (strcmp(word, "multi_queue") == 0)
      *out |= IFF_MULTI_QUEUE;
    else
      return blx__fail(err, BLX_E_INVALID, origin,
                       "the runner's tap-flags say \"%.40s\"; vnet_hdr and multi_queue are known", word);
  }
  return BLX__OK;
}

static bool has_entries(int dir, const char *name) {
  int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (!d) {
    if (fd >= 0) (void)close(fd);
    return false;
  }
  bool any = false;
  struct dirent *e;
  while (!any && (e = readdir(d))) any = e->d_name[0] != '.';
  (void)closedir(d);
  return any;
}

/* What a runner may ask of its host, and this one does not give yet. */
static blx__rc refuse_others(int dir, blx_error *err) {
  static const struct {
    const char *file, *what;
  } others[] = {{SHARE "macvtap-interfaces", "interfaces of type macvtap; use type tap or user"},
                {SHARE "pci-devices", "the host's PCI devices (microvm.devices)"}};
  char text[TAPS_FILE_MAX];
  for (size_t i = 0; i < BLX__COUNT(others); i++) {
    BLX__TRY(read_at(dir, others[i].file, text, err));
    if (text[strspn(text, " \n")] != '\0')
      return blx__fail(err, BLX_E_UNSUPPORTED, origin, "a VM cannot have %s: not supported yet", others[i].what);
  }
  if (has_entries(dir, SHARE "virtiofs"))
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "a VM cannot have shares by virtiofs (microvm.shares): not supported yet; use a volume");
  return BLX__OK;
}

static blx__rc make_taps(int dir, char *names, short flags, uint32_t owner, blx_error *err) {
  char now[BOOT_ID_MAX], *rest = NULL;
  if (!boot_id(now)) return blx__fail_errno(err, errno, origin, "the kernel's boot_id cannot be read");
  int record = openat(dir, taps_file, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (record < 0) return blx__fail_errno(err, errno, origin, "the record of network interfaces cannot be made");
  blx__rc rc = BLX__OK;
  if (dprintf(record, "%s\n", now) < 0) rc = blx__fail_errno(err, errno, origin, "the record cannot be written");
  unsigned count = 0;
  for (const char *name = strtok_r(names, " \n", &rest); rc.code == 0 && name; name = strtok_r(NULL, " \n", &rest)) {
    if (!tap_name_ok(name))
      rc = blx__fail(err, BLX_E_INVALID, origin,
                     "\"%.40s\" in the runner's tap-interfaces is no name of an interface: 1 to 15 of A-Z, a-z, 0-9, "
                     "_, - and .",
                     name);
    else if (++count > BLX__VM_TAPS_MAX)
      rc = blx__fail(err, BLX_E_INVALID, origin, "the runner names more than %d taps", BLX__VM_TAPS_MAX);
    else
      rc = make_tap(name, flags, owner, record, err);
  }
  (void)close(record);
  return rc;
}

blx__rc blx__vm_taps_make(int dir, uint32_t owner, blx_error *err) {
  char names[TAPS_FILE_MAX];
  short flags = 0;
  blx_error ignored;
  BLX__TRY(blx__vm_taps_remove(dir, err));
  BLX__TRY(refuse_others(dir, err));
  BLX__TRY(read_at(dir, SHARE "tap-interfaces", names, err));
  if (names[strspn(names, " \n")] == '\0') return BLX__OK;
  BLX__TRY(tap_flags(dir, &flags, err));
  blx__rc rc = make_taps(dir, names, flags, owner, err);
  if (rc.code == 0) return rc;
  blx__rc removed = blx__vm_taps_remove(dir, &ignored);
  (void)removed; /* what stays is noted: whoever cleans up next tries again */
  return rc;
}
