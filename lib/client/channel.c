#include "client/channel.h"

#include "base/arena.h"
#include "io/timer.h"
#include "rpc/conn.h"
#include "schema/codec.h"
#include "schema/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
  CLUSTER_ID_BYTES = 32,
  ADDRESS_MAX_BYTES = 256,
  DECODE_MAX_BYTES = BLX__CHANNEL_PIECE_MAX + (64 << 10), /* of memory for one piece */
  KEPT_MAX_BYTES = 1 << 20,                               /* of a buffer that is kept for the next message */
  SWEEPS = 4, /* looks for calls that do not say who they are, in the time that one may take */
};

static const char component[] = "channel";

struct line;

struct peer {
  struct blx__channel *ch;
  uint64_t uid;
  char address[ADDRESS_MAX_BYTES + 1];
  struct line *line; /* NULL: none under way */
  uint64_t try_at_ms, backoff_ms;
  bool complained;
};

/* A call to a member. It outlives a peer that was forgotten until its connection is closed. */
struct line {
  struct blx__channel *ch;
  struct peer *peer; /* NULL: given up */
  struct blx__rpc_conn *conn;
  struct blx__rpc_pending *call;
  struct blx__list queue; /* struct waiting */
  size_t queued_bytes;
  uint64_t since_ms;
};

struct waiting {
  struct blx__list link;
  size_t len, at; /* bytes, and how many of them are said */
  uint8_t bytes[];
};

/* A call of a member. */
struct incoming {
  struct blx__list link;
  struct blx__channel *ch;
  struct blx__rpc_call *call;
  uint64_t from;          /* 0 until it said so */
  struct blx__buf pieces; /* of a message that is not whole */
  uint64_t since_ms;
  bool ended;
};

/* What no other refusal of a call has for its code. */
enum { REFUSED_FOR_GOOD = BLX_E_STALE };

struct blx__channel {
  struct blx__channel_options o;
  char cluster_id[CLUSTER_ID_BYTES + 1], address[ADDRESS_MAX_BYTES + 1];
  struct blx__timer *sweep;
  struct peer *peers[BLX__CHANNEL_PEERS_MAX];
  unsigned peers_count, lines_count;
  struct blx__list incoming; /* struct incoming */
  unsigned incoming_count;
  struct blx__buf encoded; /* of the piece being said */
  bool closing;
  struct blx__defer last;
  void (*done)(void *user);
  void *done_user;
};

static void on_last(void *arg) {
  struct blx__channel *ch = arg;
  void (*done)(void *) = ch->done;
  void *user = ch->done_user;
  for (unsigned i = 0; i < ch->peers_count; i++) free(ch->peers[i]);
  blx__buf_free(&ch->encoded);
  free(ch);
  if (done) done(user);
}

static void maybe_last(struct blx__channel *ch) {
  if (ch->closing && ch->lines_count == 0 && ch->incoming_count == 0) blx__loop_defer(ch->o.loop, &ch->last);
}

static struct peer *find(const struct blx__channel *ch, uint64_t uid) {
  for (unsigned i = 0; i < ch->peers_count; i++)
    if (ch->peers[i]->uid == uid) return ch->peers[i];
  return NULL;
}

/* ---- what goes out */

/* A call counts as good once it has lasted: one that ends after its first words was refused. */
static void back_off(struct peer *peer, uint64_t since_ms) {
  uint64_t now = blx__loop_now_ms(peer->ch->o.loop);
  if (now - since_ms >= BLX__CHANNEL_BACKOFF_MAX_MS) {
    peer->backoff_ms = BLX__CHANNEL_BACKOFF_MIN_MS;
    peer->complained = false;
  }
  peer->try_at_ms = now + peer->backoff_ms;
  peer->backoff_ms *= 2;
  if (peer->backoff_ms > BLX__CHANNEL_BACKOFF_MAX_MS) peer->backoff_ms = BLX__CHANNEL_BACKOFF_MAX_MS;
}

static void waiting_free(struct line *line, struct waiting *w) {
  blx__list_remove(&w->link);
  line->queued_bytes -= w->len;
  free(w);
}

static void line_closed(void *user) {
  struct line *line = user;
  struct blx__channel *ch = line->ch;
  free(line);
  ch->lines_count--;
  maybe_last(ch);
}

static void line_close(struct line *line) {
  if (line->peer) line->peer->line = NULL;
  line->peer = NULL;
  for (struct blx__list *n; (n = blx__list_first(&line->queue)) != NULL;)
    waiting_free(line, BLX__CONTAINER(n, struct waiting, link));
  blx__rpc_conn_close(line->conn, line_closed, line);
}

static bool line_message(void *user, struct blx__slice message) {
  (void)user; /* a call carries one direction: whatever comes back is not for us */
  (void)message;
  return true;
}

static void line_done(void *user, const struct blx__rpc_result *result) {
  struct line *line = user;
  struct peer *peer = line->peer;
  if (!peer) return; /* closed by us */
  if (!peer->complained)
    blx__log(line->ch->o.log, BLX_LOG_WARNING, component, "member %llu is not reached: %s",
             (unsigned long long)peer->uid, result->err ? result->err->message : "it ended the call");
  peer->complained = true;
  back_off(peer, line->since_ms);
  const struct blx__channel_options o = line->ch->o;
  const uint64_t by = peer->uid;
  const blx_error err = result->err ? *result->err : (blx_error){0};
  line_close(line);
  if (err.code == REFUSED_FOR_GOOD && o.on_refused) o.on_refused(o.user, by, err.message);
}

/* False: the call takes no more now. */
static bool say(struct line *line, const struct blx_channel_message *message) {
  struct blx__buf *out = &line->ch->encoded;
  blx_error err;
  blx__buf_clear(out);
  if (blx__msg_encode(blx__desc_channel_message(), message, out, &err).code == 0)
    return blx__rpc_send(line->call, out->data, out->len);
  blx__log(line->ch->o.log, BLX_LOG_WARNING, component, "a message cannot be sent: %s", err.message);
  blx__rpc_cancel(line->call);
  return false;
}

/* Say what is left of @message from *@at on. False: the call takes no more now. */
static bool say_pieces(struct line *line, struct blx__slice message, size_t *at) {
  while (*at < message.len) {
    size_t left = message.len - *at, n = left < BLX__CHANNEL_PIECE_MAX ? left : BLX__CHANNEL_PIECE_MAX;
    struct blx_channel_message piece = {.struct_size = sizeof piece, .more = n < left};
    piece.data = (struct blx_bytes){(uint8_t *)(uintptr_t)message.data + *at, n};
    if (!say(line, &piece)) return false;
    *at += n;
  }
  return true;
}

static void line_writable(void *user) {
  struct line *line = user;
  for (struct blx__list *n; (n = blx__list_first(&line->queue)) != NULL;) {
    struct waiting *w = BLX__CONTAINER(n, struct waiting, link);
    if (!say_pieces(line, (struct blx__slice){w->bytes, w->len}, &w->at)) return;
    waiting_free(line, w);
  }
}

static const struct blx__rpc_bidi_ops line_ops = {{line_message, line_done}, line_writable};

static blx__rc line_begin(struct line *line, blx_error *err) {
  struct blx__channel *ch = line->ch;
  const struct blx__rpc_request request = {.path = ch->o.path};
  BLX__TRY(blx__rpc_bidi(line->conn, &request, &line_ops, line, &line->call, err));
  struct blx_channel_message hello = {.struct_size = sizeof hello, .cluster_id = ch->cluster_id};
  hello.from_uid = ch->o.uid;
  hello.to_uid = line->peer->uid;
  hello.address = ch->address;
  (void)say(line, &hello); /* there is room on a new call */
  return BLX__OK;
}

static blx__rc line_open(struct peer *peer, blx_error *err) {
  struct blx__channel *ch = peer->ch;
  struct line *line = calloc(1, sizeof *line);
  if (!line) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a call to a member");
  *line = (struct line){.ch = ch, .peer = peer, .since_ms = blx__loop_now_ms(ch->o.loop)};
  blx__list_init(&line->queue);
  blx__rc rc = blx__rpc_conn_new(ch->o.loop, peer->address, &line->conn, err);
  if (rc.code != 0) {
    free(line);
    return rc;
  }
  ch->lines_count++;
  peer->line = line;
  rc = line_begin(line, err);
  if (rc.code != 0) line_close(line);
  return rc;
}

static bool reach(struct peer *peer) {
  uint64_t now = blx__loop_now_ms(peer->ch->o.loop);
  blx_error err;
  if (peer->line) return true;
  if (now < peer->try_at_ms) return false;
  if (line_open(peer, &err).code == 0) return true;
  if (!peer->complained)
    blx__log(peer->ch->o.log, BLX_LOG_WARNING, component, "member %llu cannot be called: %s",
             (unsigned long long)peer->uid, err.message);
  peer->complained = true;
  back_off(peer, now);
  return false;
}

/* What the call does not take at once waits here, so that a long message needs not to fit into its queue. */
static bool queue_rest(struct line *line, struct blx__slice message, size_t at) {
  struct waiting *w = malloc(sizeof *w + message.len);
  if (!w) {
    /* Half a message cannot be left out. */
    if (at > 0) blx__rpc_cancel(line->call);
    return false;
  }
  w->len = message.len;
  w->at = at;
  memcpy(w->bytes, message.data, message.len);
  blx__list_push(&line->queue, &w->link);
  line->queued_bytes += message.len;
  return true;
}

bool blx__channel_send(struct blx__channel *ch, uint64_t to_uid, struct blx__slice message) {
  BLX__ASSERT(message.len >= 1 && message.len <= BLX__CHANNEL_MESSAGE_MAX);
  struct peer *peer = find(ch, to_uid);
  if (ch->closing || !peer || !reach(peer)) return false;
  struct line *line = peer->line;
  size_t full = message.len > BLX__CHANNEL_SMALL_BYTES ? BLX__CHANNEL_QUEUE_FOR_LARGE
                                                       : BLX__CHANNEL_QUEUE_MAX_BYTES - BLX__CHANNEL_SMALL_BYTES;
  if (line->queued_bytes >= full) return false;
  size_t at = 0;
  if (blx__list_empty(&line->queue) && say_pieces(line, message, &at)) return true;
  return queue_rest(line, message, at);
}

/* ---- what comes in */

static void incoming_end(struct incoming *in, const blx_error *err) {
  if (in->ended) return;
  in->ended = true;
  blx__rpc_call_finish(in->call, err);
}

static void refuse(struct incoming *in, int code, const char *why) {
  blx_error err;
  blx__log(in->ch->o.log, BLX_LOG_WARNING, component, "a call of a member is refused: %s", why);
  (void)blx__fail(&err, code, component, "member %llu refuses the call: %s", (unsigned long long)in->ch->o.uid, why);
  incoming_end(in, &err);
}

/* What the state of the cluster says of a member's address counts for more: one that is known stays. */
static void learn_address(struct blx__channel *ch, uint64_t uid, const char *address) {
  blx_error err;
  if (!address || !*address || find(ch, uid)) return;
  if (blx__channel_set_address(ch, uid, address, &err).code != 0)
    blx__log(ch->o.log, BLX_LOG_WARNING, component, "member %llu cannot be answered: %s", (unsigned long long)uid,
             err.message);
}

static void take_hello(struct incoming *in, const struct blx_channel_message *m) {
  struct blx__channel *ch = in->ch;
  char why[BLX__CHANNEL_WHY_SIZE];
  if (!m->cluster_id || strcmp(m->cluster_id, ch->cluster_id) != 0)
    refuse(in, BLX_E_CONFLICT, "the caller belongs to another cluster");
  else if (m->from_uid != 0 && ch->o.refuses && ch->o.refuses(ch->o.user, m->from_uid, why))
    refuse(in, REFUSED_FOR_GOOD, why); /* also by who has the address of the one that it means */
  else if (m->to_uid != ch->o.uid)
    refuse(in, BLX_E_CONFLICT, "the caller takes this member for another one");
  else if (m->from_uid == 0 || m->from_uid == ch->o.uid)
    refuse(in, BLX_E_CONFLICT, "the caller claims to be this member itself: was a directory copied?");
  if (in->ended) return;
  in->from = m->from_uid;
  learn_address(ch, in->from, m->address);
  struct peer *peer = find(ch, in->from);
  if (peer) peer->try_at_ms = 0; /* it is up: no need to wait */
  /* A member that calls anew has given up its old call, though we may not have heard. */
  BLX__LIST_FOREACH (n, &ch->incoming) {
    struct incoming *other = BLX__CONTAINER(n, struct incoming, link);
    if (other != in && other->from == in->from) incoming_end(other, NULL);
  }
}

static void take_piece(struct incoming *in, const struct blx_channel_message *m) {
  struct blx__slice message = {m->data.data, m->data.len};
  if (in->pieces.len > 0 || m->more) {
    if (!blx__buf_add(&in->pieces, m->data.data, m->data.len)) {
      refuse(in, BLX_E_INVALID, "a message is over the limit of 8 MiB, or memory is out");
      return;
    }
    message = (struct blx__slice){in->pieces.data, in->pieces.len};
  }
  if (m->more) return;
  if (message.len == 0) {
    refuse(in, BLX_E_INVALID, "a message is empty");
    return;
  }
  in->ch->o.deliver(in->ch->o.user, in->from, message);
  blx__buf_clear(&in->pieces);
  if (in->pieces.cap > KEPT_MAX_BYTES) blx__buf_free(&in->pieces);
}

static bool in_message(void *user, struct blx__slice bytes) {
  struct incoming *in = user;
  struct blx__arena arena = {.limit_bytes = DECODE_MAX_BYTES};
  void *decoded = NULL;
  blx_error err;
  if (in->ended) return true;
  if (blx__msg_decode(blx__desc_channel_message(), &arena, bytes, &decoded, &err).code != 0)
    refuse(in, err.code, err.message);
  else if (in->from == 0)
    take_hello(in, decoded);
  else
    take_piece(in, decoded);
  blx__arena_free(&arena);
  return true;
}

static void in_half_close(void *user) {
  incoming_end(user, NULL);
}

static void in_gone(void *user, bool cancelled) {
  struct incoming *in = user;
  struct blx__channel *ch = in->ch;
  (void)cancelled;
  blx__list_remove(&in->link);
  blx__rpc_call_unref(in->call);
  blx__buf_free(&in->pieces);
  free(in);
  ch->incoming_count--;
  maybe_last(ch);
}

static const struct blx__rpc_call_ops in_ops = {NULL, in_gone};
static const struct blx__rpc_receive_ops in_receive_ops = {in_message, in_half_close};

void blx__channel_accept(struct blx__channel *ch, struct blx__rpc_call *call) {
  bool room = !ch->closing && ch->incoming_count < BLX__CHANNEL_INCOMING_MAX;
  struct incoming *in = room ? calloc(1, sizeof *in) : NULL;
  if (!in) {
    blx_error err;
    (void)blx__fail(&err, BLX_E_BUSY, component, "member %llu takes no more calls of members: try again later",
                    (unsigned long long)ch->o.uid);
    blx__rpc_call_finish(call, &err);
    return;
  }
  in->ch = ch;
  in->call = blx__rpc_call_ref(call);
  in->since_ms = blx__loop_now_ms(ch->o.loop);
  blx__buf_init(&in->pieces, BLX__CHANNEL_MESSAGE_MAX);
  blx__list_push(&ch->incoming, &in->link);
  ch->incoming_count++;
  blx__rpc_call_watch(call, &in_ops, in);
  blx__rpc_call_receive(call, &in_receive_ops, in);
}

static void on_sweep(void *arg) {
  struct blx__channel *ch = arg;
  uint64_t now = blx__loop_now_ms(ch->o.loop);
  BLX__LIST_FOREACH (n, &ch->incoming) {
    struct incoming *in = BLX__CONTAINER(n, struct incoming, link);
    if (in->from == 0 && !in->ended && now - in->since_ms >= ch->o.hello_ms)
      refuse(in, BLX_E_TIMEOUT, "the caller does not say who it is");
  }
}

/* ---- members, open, close */

static void forget(struct blx__channel *ch, struct peer *peer) {
  if (peer->line) line_close(peer->line);
  for (unsigned i = 0; i < ch->peers_count; i++)
    if (ch->peers[i] == peer) ch->peers[i] = ch->peers[--ch->peers_count];
  free(peer);
}

blx__rc blx__channel_set_address(struct blx__channel *ch, uint64_t uid, const char *address, blx_error *err) {
  if (uid == 0 || uid == ch->o.uid)
    return blx__fail(err, BLX_E_INVALID, component, "member %llu is no other member", (unsigned long long)uid);
  struct peer *peer = find(ch, uid);
  if (!address) {
    if (peer) forget(ch, peer);
    return BLX__OK;
  }
  if (peer && strcmp(peer->address, address) == 0) return BLX__OK;
  if (strlen(address) > ADDRESS_MAX_BYTES)
    return blx__fail(err, BLX_E_INVALID, component, "a member's address has at most %d bytes", ADDRESS_MAX_BYTES);
  if (!peer) {
    if (ch->peers_count == BLX__CHANNEL_PEERS_MAX)
      return blx__fail(err, BLX_E_BUSY, component, "%d other members are known already", BLX__CHANNEL_PEERS_MAX);
    peer = calloc(1, sizeof *peer);
    if (!peer) return blx__fail(err, BLX_E_NOMEM, component, "no memory for one more member");
    peer->ch = ch;
    peer->uid = uid;
    ch->peers[ch->peers_count++] = peer;
  }
  if (peer->line) line_close(peer->line);
  (void)blx__str_copy(peer->address, sizeof peer->address, address);
  peer->try_at_ms = 0;
  peer->backoff_ms = BLX__CHANNEL_BACKOFF_MIN_MS;
  return BLX__OK;
}

blx__rc blx__channel_open(const struct blx__channel_options *options, struct blx__channel **out, blx_error *err) {
  BLX__ASSERT(options->loop && options->path && options->deliver && options->uid != 0);
  struct blx__channel *ch = calloc(1, sizeof *ch);
  if (!ch) return blx__fail(err, BLX_E_NOMEM, component, "no memory for the members' channel");
  ch->o = *options;
  ch->o.cluster_id = ch->o.address = NULL; /* borrowed for this call only */
  if (!ch->o.hello_ms) ch->o.hello_ms = BLX__CHANNEL_HELLO_MS;
  bool fits = blx__str_copy(ch->cluster_id, sizeof ch->cluster_id, options->cluster_id) &&
              blx__str_copy(ch->address, sizeof ch->address, options->address ? options->address : "");
  blx__buf_init(&ch->encoded, BLX__CHANNEL_PIECE_MAX + 1024);
  blx__list_init(&ch->incoming);
  blx__defer_init(&ch->last, on_last, ch);
  ch->sweep = fits ? blx__timer_new(ch->o.loop, on_sweep, ch) : NULL;
  if (!ch->sweep) {
    free(ch);
    if (!fits)
      return blx__fail(err, BLX_E_INVALID, component, "a cluster's id has at most %d bytes, an address %d",
                       CLUSTER_ID_BYTES, ADDRESS_MAX_BYTES);
    return blx__fail(err, BLX_E_NOMEM, component, "no memory for a timer");
  }
  uint64_t sweep_ms = ch->o.hello_ms / SWEEPS + 1;
  blx__timer_start(ch->sweep, sweep_ms, sweep_ms);
  *out = ch;
  return BLX__OK;
}

void blx__channel_close(struct blx__channel *ch, void (*done)(void *user), void *user) {
  BLX__ASSERT(!ch->closing);
  blx_error err;
  (void)blx__fail(&err, BLX_E_UNAVAILABLE, component, "member %llu is stopping", (unsigned long long)ch->o.uid);
  ch->closing = true;
  ch->done = done;
  ch->done_user = user;
  blx__timer_free(ch->sweep);
  for (unsigned i = 0; i < ch->peers_count; i++)
    if (ch->peers[i]->line) line_close(ch->peers[i]->line);
  BLX__LIST_FOREACH (n, &ch->incoming) incoming_end(BLX__CONTAINER(n, struct incoming, link), &err);
  maybe_last(ch);
}
