/* What members' consensus says to each other, over gRPC: a member calls the Channel of each other member and speaks on
 * that call; what it hears comes on the calls of the others. A message is bytes, cut into pieces where it is long. The
 * first message of a call says which cluster and which member speaks to which. Nothing is promised: a message is lost
 * when its member cannot be reached or its queue is full, and Raft sends again. All on the loop's thread. */
#ifndef BLX__CLIENT_CHANNEL_H
#define BLX__CLIENT_CHANNEL_H

#include "base/log.h"
#include "io/loop.h"
#include "rpc/server.h"

enum {
  BLX__CHANNEL_PEERS_MAX = 64,
  BLX__CHANNEL_INCOMING_MAX = 256,         /* calls at a time, those that have not said who they are included */
  BLX__CHANNEL_MESSAGE_MAX = 8 << 20,      /* bytes of one message */
  BLX__CHANNEL_PIECE_MAX = 256 << 10,      /* bytes of a piece, as in internal.def */
  BLX__CHANNEL_QUEUE_MAX_BYTES = 24 << 20, /* of messages that wait for one member */
  BLX__CHANNEL_SMALL_BYTES = 64 << 10,     /* votes, results, heartbeats: queued as long as there is room; */
  BLX__CHANNEL_QUEUE_FOR_LARGE = 8 << 20,  /* what is larger is not queued behind more than this */
  BLX__CHANNEL_HELLO_MS = 5000,            /* a call that has not said who it is by then is ended */
  BLX__CHANNEL_WHY_SIZE = 320,
  BLX__CHANNEL_BACKOFF_MIN_MS = 50,
  BLX__CHANNEL_BACKOFF_MAX_MS = 2000,
};

struct blx__channel;

struct blx__channel_options {
  struct blx__loop *loop;
  const char *path;           /* of the method, "/blixard.v1.Member/Channel"; borrowed until closed */
  const char *cluster_id;     /* at most 32 bytes, copied */
  uint64_t uid;               /* of this member, >= 1 */
  const char *address;        /* where it answers, "unix:PATH", at most 256 bytes, copied; NULL: others must know */
  const struct blx__log *log; /* borrowed until closed, NULL: silent */
  uint32_t hello_ms;          /* 0: BLX__CHANNEL_HELLO_MS */
  void *user;
  /* A whole message of a member that said who it is; valid during the call. It may close the channel. */
  void (*deliver)(void *user, uint64_t from_uid, struct blx__slice message);
  /* Why member @from_uid of this cluster is not spoken with any more, in @why; false: it is. NULL: everybody is. */
  bool (*refuses)(void *user, uint64_t from_uid, char why[BLX__CHANNEL_WHY_SIZE]);
  /* Member @by_uid does not speak with this one any more, see `refuses`. It may close the channel. NULL allowed. */
  void (*on_refused)(void *user, uint64_t by_uid, const char *why);
};

/* Errors: INVALID (cluster_id or address too long), NOMEM. */
blx__rc blx__channel_open(const struct blx__channel_options *options, struct blx__channel **out,
                          blx_error *err) BLX__MUST;

/* Where @uid answers, "unix:PATH"; NULL forgets it. One that is not known when it calls is known by what it says: a
 * member that came back without the newest members in its log could not answer a leader that is one of them, and so
 * would never hear of it. A change drops what is under way. Errors: BUSY
 * (BLX__CHANNEL_PEERS_MAX known), INVALID (its own uid, 0, or an address that is too long), NOMEM. */
blx__rc blx__channel_set_address(struct blx__channel *ch, uint64_t uid, const char *address, blx_error *err) BLX__MUST;

/* Copy @message (1..BLX__CHANNEL_MESSAGE_MAX bytes) to @to_uid's queue, calling it first where needed. False: unknown,
 * not reachable now, or its queue is full. True promises nothing. */
bool blx__channel_send(struct blx__channel *ch, uint64_t to_uid, struct blx__slice message);

/* A call of another member's has begun: from on_call, for a BIDI method. */
void blx__channel_accept(struct blx__channel *ch, struct blx__rpc_call *call);

/* Stop; @done (NULL allowed) is the last callback, on a later turn, when every call is gone. */
void blx__channel_close(struct blx__channel *ch, void (*done)(void *user), void *user);

#endif
