/* Which servers vote. Three do, five of seven or more, spread over failure domains; the others stand by, with the whole
 * log, and take the place of one that is gone. Pure, and nothing is remembered between two looks. Thread: any. */
#ifndef BLX__CONTROL_SERVERS_H
#define BLX__CONTROL_SERVERS_H

#include "state/state.h"

enum {
  BLX__CONTROL_SERVERS_MAX = 64,
  BLX__CONTROL_VOTER_GONE_MS = 60000, /* a voter that is silent for so long gives its vote to one that lives */
  BLX__CONTROL_BEHIND_MAX = 4096,     /* log entries that a settled voter may be behind */
};

/* A member of the Raft group, as the leader sees it. */
struct blx__control_server {
  uint64_t uid;
  bool votes; /* else it stands by */
  bool leads;
  bool leaves;        /* is being taken out of the cluster */
  uint64_t silent_ms; /* since it was heard from */
  uint64_t behind;    /* log entries that it is not known to have */
};

enum blx__control_server_step {
  BLX__SERVER_NONE,
  BLX__SERVER_PROMOTE,  /* let it vote */
  BLX__SERVER_DEMOTE,   /* let it stand by */
  BLX__SERVER_REMOVE,   /* take it out of the group */
  BLX__SERVER_TRANSFER, /* hand leadership to it, for the present leader's vote is to go */
};

struct blx__control_server_change {
  enum blx__control_server_step step;
  uint64_t uid; /* 0 with NONE */
};

/* How many of @servers servers are to vote. */
uint32_t blx__control_voters_wanted(uint32_t servers);

/* The next change: one at a time, and none while a voter that is there has not caught up.
 * Domains are told by the labels `zone`, then `rack`, then `host` (without it: the node itself): the voters are spread
 * first over zones as evenly as they can be, then over racks, then over hosts. What is in the group and not a server of
 * the state is taken out. A voter is replaced before it goes, by a server that is heard from; one that is silent and
 * has no successor stays, one that leaves does not.
 * @servers  the group, at most BLX__CONTROL_SERVERS_MAX, each uid once, exactly one of them leads */
struct blx__control_server_change blx__control_servers(const struct blx__state *st,
                                                       const struct blx__control_server *servers, size_t n);

#endif
