#include "host/net_int.h"
#include "host/record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SHARE "booted/share/microvm/"
static const char origin[] = "host/net";

enum {
  LINE_MAX_BYTES = 128,
  INDEX_LEAST = 1 << 24, /* far above what the kernel hands out by itself */
  INDEX_TRIES = 4,
};

static const struct {
  const char *name;
  uint32_t mode;
} modes[] = {{"bridge", MACVLAN_MODE_BRIDGE},
             {"private", MACVLAN_MODE_PRIVATE},
             {"vepa", MACVLAN_MODE_VEPA},
             {"passthru", MACVLAN_MODE_PASSTHRU},
             {"source", MACVLAN_MODE_SOURCE}};

struct macvtap {
  char id[IF_NAMESIZE], link[IF_NAMESIZE];
  uint8_t mac[6];
  uint32_t mode;
  unsigned link_index, index;
};

/* ---- what the runner says */

static bool parse_mac(const char *text, uint8_t mac[6]) {
  int end = 0;
  int got =
      sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end);
  return got == 6 && end == 17 && text[end] == '\0' && (mac[0] & 1) == 0;
}

static bool parse_mode(const char *text, uint32_t *mode) {
  for (size_t i = 0; i < BLX__COUNT(modes); i++)
    if (strcmp(text, modes[i].name) == 0) {
      *mode = modes[i].mode;
      return true;
    }
  return false;
}

/* "ID MAC LINK MODE" */
static blx__rc parse(char *line, struct macvtap *out, blx_error *err) {
  char *word[5] = {0}, *rest = NULL, shown[LINE_MAX_BYTES];
  (void)blx__str_copy(shown, sizeof shown, line);
  unsigned count = 0;
  for (char *w = strtok_r(line, " ", &rest); w && count < BLX__COUNT(word); w = strtok_r(NULL, " ", &rest))
    word[count++] = w;
  if (count != 4)
    return blx__fail(err, BLX_E_INVALID, origin,
                     "\"%.100s\" in the runner's macvtap-interfaces is not \"ID MAC LINK MODE\"", shown);
  if (!net_name_ok(word[0]) || !net_name_ok(word[2]))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "\"%.40s\" in the runner's macvtap-interfaces is no name of an interface: 1 to 15 of A-Z, a-z, "
                     "0-9, _, - and .",
                     net_name_ok(word[0]) ? word[2] : word[0]);
  if (!parse_mac(word[1], out->mac))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "\"%.40s\" in the runner's macvtap-interfaces is no address of one interface: six pairs of "
                     "hexadecimal digits, the first of them even",
                     word[1]);
  if (!parse_mode(word[3], &out->mode))
    return blx__fail(err, BLX_E_INVALID, origin,
                     "the macvtap %s has mode \"%.40s\"; bridge, private, vepa, passthru and source are known", word[0],
                     word[3]);
  (void)blx__str_copy(out->id, sizeof out->id, word[0]);
  (void)blx__str_copy(out->link, sizeof out->link, word[2]);
  return BLX__OK;
}

/* ---- netlink */

struct request {
  struct nlmsghdr head;
  struct ifinfomsg link;
  char attributes[256];
};

static struct rtattr *put(struct request *r, unsigned short type, const void *data, size_t n) {
  size_t at = NLMSG_ALIGN(r->head.nlmsg_len);
  BLX__ASSERT(at + RTA_SPACE(n) <= sizeof *r);
  struct rtattr *a = (struct rtattr *)(void *)((char *)r + at);
  a->rta_type = type;
  a->rta_len = (unsigned short)RTA_LENGTH(n);
  if (n > 0) memcpy(RTA_DATA(a), data, n);
  r->head.nlmsg_len = (uint32_t)(at + RTA_ALIGN(a->rta_len));
  return a;
}

static void end_nest(const struct request *r, struct rtattr *a) {
  a->rta_len = (unsigned short)((const char *)r + r->head.nlmsg_len - (char *)a);
}

/* Under an index of our choice, so that it can be noted before it is there. 0 or errno. */
static int create(const struct macvtap *m) {
  struct request r = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                               .nlmsg_type = RTM_NEWLINK,
                               .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL},
                      .link = {.ifi_index = (int)m->index}};
  (void)put(&r, IFLA_IFNAME, m->id, strlen(m->id) + 1);
  (void)put(&r, IFLA_LINK, &m->link_index, sizeof m->link_index);
  (void)put(&r, IFLA_ADDRESS, m->mac, sizeof m->mac);
  struct rtattr *info = put(&r, IFLA_LINKINFO, NULL, 0);
  (void)put(&r, IFLA_INFO_KIND, "macvtap", sizeof "macvtap" - 1);
  struct rtattr *data = put(&r, IFLA_INFO_DATA, NULL, 0);
  (void)put(&r, IFLA_MACVLAN_MODE, &m->mode, sizeof m->mode);
  end_nest(&r, data);
  end_nest(&r, info);
  return net_ask(&r.head);
}

static blx__rc refused(int errnum, const struct macvtap *m, blx_error *err) {
  if (errnum == EOPNOTSUPP)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "the network interface %s needs macvtap, which this host lacks: load its module macvtap", m->id);
  if (errnum == EINVAL)
    return blx__fail(
        err, BLX_E_INVALID, origin,
        "no macvtap can lie on %s, as %s shall: its macvtap.link must be an Ethernet interface that no other has for "
        "itself (mode passthru)",
        m->link, m->id);
  if (errnum == EBUSY || errnum == EADDRINUSE)
    return blx__fail(
        err, BLX_E_CONFLICT, origin,
        "%s cannot carry the macvtap %s: another interface on it has this address, or %s is part of a bridge", m->link,
        m->id, m->link);
  return net_refused(errnum, m->id, err);
}

/* ---- its device */

void net_node_remove(unsigned index, unsigned major_number, unsigned minor_number) {
  char path[32];
  struct stat st;
  (void)blx__str_format(path, sizeof path, "/dev/tap%u", index);
  bool ours = lstat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major_number, minor_number);
  if (ours) (void)unlink(path);
}

/* /dev/tapINDEX belongs to who runs the monitor. Where no devtmpfs makes it, we do. */
static blx__rc hand_over(const struct macvtap *m, uint32_t uid, uint32_t gid, int record, blx_error *err) {
  char path[32], sys[96], text[HOST_TEXT_MAX];
  unsigned major_number = 0, minor_number = 0;
  (void)blx__str_format(path, sizeof path, "/dev/tap%u", m->index);
  (void)blx__str_format(sys, sizeof sys, "/sys/class/net/%s/tap%u/dev", m->id, m->index);
  BLX__TRY(host_read_at(AT_FDCWD, sys, text, err));
  if (sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
    return blx__fail(err, BLX_E_UNSUPPORTED, origin,
                     "%s does not say which device the macvtap %s has: mount the sysfs of this network namespace", sys,
                     m->id);
  dev_t device = makedev(major_number, minor_number);
  struct stat st;
  bool there = lstat(path, &st) == 0;
  if (there && (!S_ISCHR(st.st_mode) || st.st_rdev != device))
    return blx__fail(err, BLX_E_CONFLICT, origin, "%s is in the way of the macvtap %s: remove it", path, m->id);
  bool ok = there || (dprintf(record, "%s %u %u:%u\n", m->id, m->index, major_number, minor_number) > 0 &&
                      mknod(path, S_IFCHR | 0600, device) == 0);
  if (!ok || lchown(path, uid, gid) != 0)
    return blx__fail_errno(err, errno, origin, "the device %s of the macvtap %s cannot be given to user %u", path,
                           m->id, uid);
  return BLX__OK;
}

static bool new_index(unsigned *out) {
  uint32_t random = 0;
  if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) return false;
  *out = INDEX_LEAST + random % (1U << 29);
  return true;
}

static blx__rc make(struct macvtap *m, uint32_t uid, uint32_t gid, int record, blx_error *err) {
  char name[IF_NAMESIZE];
  m->link_index = if_nametoindex(m->link);
  if (m->link_index == 0)
    return blx__fail(err, BLX_E_NOT_FOUND, origin,
                     "this host has no network interface %s for the macvtap %s to lie on: correct macvtap.link, or "
                     "give the VM another node",
                     m->link, m->id);
  if (if_nametoindex(m->id) != 0) return net_refused(EEXIST, m->id, err);
  bool chosen = false;
  for (unsigned i = 0; !chosen && i < INDEX_TRIES; i++)
    chosen = new_index(&m->index) && if_indextoname(m->index, name) == NULL;
  if (!chosen) return blx__fail(err, BLX_E_IO, origin, "no number for the network interface %s", m->id);
  if (dprintf(record, "%s %u\n", m->id, m->index) < 0)
    return blx__fail_errno(err, errno, origin, "the record of network interfaces cannot be written");
  int errnum = create(m);
  if (errnum != 0) return refused(errnum, m, err);
  if (!net_bring_up(m->id, true)) return refused(errno, m, err);
  return hand_over(m, uid, gid, record, err);
}

blx__rc net_macvtaps_make(int dir, uint32_t uid, uint32_t gid, int record, unsigned *count, blx_error *err) {
  char text[HOST_TEXT_MAX], *rest = NULL;
  BLX__TRY(host_read_at(dir, SHARE "macvtap-interfaces", text, err));
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    struct macvtap m = {0};
    if (line[strspn(line, " ")] == '\0') continue;
    BLX__TRY(parse(line, &m, err));
    if (++*count > BLX__HOST_NETS_MAX)
      return blx__fail(err, BLX_E_INVALID, origin, "the runner names more than %d taps and macvtaps",
                       BLX__HOST_NETS_MAX);
    BLX__TRY(make(&m, uid, gid, record, err));
  }
  return BLX__OK;
}
