/* The inside of the network interfaces: what taps and macvtaps share. */
#ifndef BLX__HOST_NET_INT_H
#define BLX__HOST_NET_INT_H

#include "host/net.h"

#include <linux/netlink.h>

/* As Linux takes it, less what a file or a shell could read otherwise: 1 to 15 of A-Z, a-z, 0-9, _, - and . */
bool net_name_ok(const char *name);
/* Up, and with all groups of multicast if asked. False: errno. */
bool net_bring_up(const char *name, bool all_multicast);
/* The sentence for an interface that cannot be made. */
blx__rc net_refused(int errnum, const char *name, blx_error *err);

/* Ask the kernel's router: @ask with NLM_F_ACK. 0 or errno. */
int net_ask(struct nlmsghdr *ask);
/* By its number, which no other interface gets while this one is there. One that is gone: success. 0 or errno. */
int net_delete(unsigned index);

/* macvtap.c: those of booted/share/microvm/macvtap-interfaces, noted in the open @record and counted in @count, which
 * BLX__HOST_NETS_MAX limits. */
blx__rc net_macvtaps_make(int dir, uint32_t uid, uint32_t gid, int record, unsigned *count, blx_error *err) BLX__MUST;
/* Remove the device node of an interface that was deleted, if we made it. */
void net_node_remove(unsigned index, unsigned major_number, unsigned minor_number);

#endif
