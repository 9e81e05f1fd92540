#include "host/net_int.h"
#include "host/record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARE "booted/share/microvm/"
static const char origin[] = "host/net";
static const char record_name[] = "taps";

blx__rc blx__host_nets_remove(int dir, blx_error *err) {
  char text[HOST_TEXT_MAX], *rest = NULL;
  BLX__TRY(host_record_lines(dir, record_name, text, &rest, err));
  for (const char *line = strtok_r(rest, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    char name[IF_NAMESIZE] = "", is[IF_NAMESIZE] = "";
    unsigned index = 0, major_number = 0, minor_number = 0;
    int got = sscanf(line, "%15s %u %u:%u", name, &index, &major_number, &minor_number);
    if (got < 2) continue;
    bool there = if_indextoname(index, is) && strcmp(is, name) == 0;
    int errnum = there ? net_delete(index) : 0;
    if (errnum != 0) return blx__fail_errno(err, errnum, origin, "the network interface %s cannot be removed", name);
    if (got == 4) net_node_remove(index, major_number, minor_number);
  }
  return host_record_remove(dir, record_name, err);
}

blx__rc net_refused(int errnum, const char *name, blx_error *err) {
  if (errnum == EBUSY || errnum == EEXIST)
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
  if (fd < 0) return net_refused(errno, name, err);
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
  ok = ok && write(record, line, n) == (ssize_t)n && ioctl(fd, TUNSETPERSIST, 1UL) == 0 && net_bring_up(name, false);
  blx__rc rc = ok ? BLX__OK : net_refused(errno, name, err);
  (void)close(fd);
  return rc;
}

static blx__rc tap_flags(int dir, short *out, blx_error *err) {
  char text[HOST_TEXT_MAX], *rest = NULL;
  BLX__TRY(host_read_at(dir, SHARE "tap-flags", text, err));
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

static blx__rc make_taps(int dir, uint32_t owner, int record, unsigned *count, blx_error *err) {
  char names[HOST_TEXT_MAX], *rest = NULL;
  short flags = 0;
  BLX__TRY(host_read_at(dir, SHARE "tap-interfaces", names, err));
  if (names[strspn(names, " \n")] == '\0') return BLX__OK;
  BLX__TRY(tap_flags(dir, &flags, err));
  for (const char *name = strtok_r(names, " \n", &rest); name; name = strtok_r(NULL, " \n", &rest)) {
    if (!net_name_ok(name))
      return blx__fail(err, BLX_E_INVALID, origin,
                       "\"%.40s\" in the runner's tap-interfaces is no name of an interface: 1 to 15 of A-Z, a-z, 0-9, "
                       "_, - and .",
                       name);
    if (++*count > BLX__HOST_NETS_MAX)
      return blx__fail(err, BLX_E_INVALID, origin, "the runner names more than %d taps", BLX__HOST_NETS_MAX);
    BLX__TRY(make_tap(name, flags, owner, record, err));
  }
  return BLX__OK;
}

blx__rc blx__host_nets_make(int dir, uint32_t uid, uint32_t gid, blx_error *err) {
  unsigned count = 0;
  int record = -1;
  blx_error ignored;
  BLX__TRY(blx__host_nets_remove(dir, err));
  BLX__TRY(host_record_begin(dir, record_name, &record, err));
  blx__rc rc = make_taps(dir, uid, record, &count, err);
  if (rc.code == 0) rc = net_macvtaps_make(dir, uid, gid, record, &count, err);
  (void)close(record);
  if (rc.code == 0 && count > 0) return rc;
  blx__rc removed = blx__host_nets_remove(dir, &ignored);
  (void)removed; /* what stays is noted: whoever cleans up next tries again */
  return rc;
}
