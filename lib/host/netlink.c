#include "host/net_int.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { NETLINK_WAIT_S = 2 };

int net_ask(struct nlmsghdr *ask) {
  struct {
    struct nlmsghdr head;
    struct nlmsgerr error;
    char rest[512];
  } answer = {0};
  struct timeval wait = {.tv_sec = NETLINK_WAIT_S};
  BLX__ASSERT(ask->nlmsg_flags & NLM_F_ACK);
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return errno;
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  bool told = send(fd, ask, ask->nlmsg_len, 0) == (ssize_t)ask->nlmsg_len &&
              recv(fd, &answer, sizeof answer, 0) >= (ssize_t)(sizeof answer.head + sizeof answer.error.error);
  int errnum = told ? -answer.error.error : errno;
  (void)close(fd);
  return told && answer.head.nlmsg_type != NLMSG_ERROR ? EPROTO : errnum;
}

int net_delete(unsigned index) {
  struct {
    struct nlmsghdr head;
    struct ifinfomsg link;
  } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
           .link = {.ifi_index = (int)index}};
  int errnum = net_ask(&ask.head);
  return errnum == ENODEV ? 0 : errnum;
}

bool net_bring_up(const char *name, bool all_multicast) {
  struct ifreq ask = {0};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  (void)blx__str_copy(ask.ifr_name, sizeof ask.ifr_name, name);
  bool ok = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ask) == 0;
  ask.ifr_flags = (short)(ask.ifr_flags | IFF_UP | (all_multicast ? IFF_ALLMULTI : 0));
  ok = ok && ioctl(fd, SIOCSIFFLAGS, &ask) == 0;
  int errnum = errno;
  if (fd >= 0) (void)close(fd);
  errno = errnum;
  return ok;
}

bool net_name_ok(const char *name) {
  size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  return n > 0 && n < IF_NAMESIZE && name[n] == '\0' && name[0] != '.' && name[0] != '-';
}
