/* Messages between members over unix sockets: each member listens on one, and connects to the others to send. Only root
 * and this process's own user get through (SO_PEERCRED); a hello says which cluster and which member speaks to which,
 * and where that one listens, so that it can be answered by one that did not know it.
 * All on the loop's thread. */
#ifndef BLX__CONSENSUS_PEER_H
#define BLX__CONSENSUS_PEER_H

#include "consensus/consensus.h"

enum {
  BLX__PEERS_MAX = BLX__CONSENSUS_MEMBERS_MAX,
  BLX__PEERS_INCOMING_MAX = 256, /* connections at a time, those without a hello included */
  BLX__PEERS_HELLO_MS = 5000,    /* a connection that has not said hello by then is cut */
  BLX__PEERS_BACKOFF_MIN_MS = 50,
  BLX__PEERS_BACKOFF_MAX_MS = 2000,
};

struct blx__peers;

struct blx__peers_options {
  struct blx__loop *loop;
  const char *listen_path; /* gets mode 0660 */
  uint64_t uid;
  uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  const struct blx__log *log; /* borrowed, NULL: silent */
  uint32_t hello_ms;          /* 0: BLX__PEERS_HELLO_MS */
  void *user;
  /* A whole message of a member that showed its hello; valid during the call. It may close the peers. */
  void (*deliver)(void *user, uint64_t from_uid, struct blx__slice message);
};

/* Begin to listen. Errors: those of blx__listener_open. */
blx__rc blx__peers_open(const struct blx__peers_options *options, struct blx__peers **out, blx_error *err) BLX__MUST;

/* Where @uid listens; NULL forgets it. A change drops the connection. Errors: BUSY (BLX__PEERS_MAX known), INVALID (its
 * own uid, 0, or a path that is too long), NOMEM. */
blx__rc blx__peers_set_address(struct blx__peers *p, uint64_t uid, const char *path, blx_error *err) BLX__MUST;

/* Copy @message to @to_uid's queue, connecting first where needed. False: unknown, not reachable now, or its queue is
 * full; Raft sends again. True promises nothing. */
bool blx__peers_send(struct blx__peers *p, uint64_t to_uid, struct blx__slice message);

/* Stop; @done (NULL allowed) is the last callback, on a later turn. */
void blx__peers_close(struct blx__peers *p, void (*done)(void *user), void *user);

#endif
