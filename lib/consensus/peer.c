/* A connection carries one direction: hello, then frames of a length (u32, little-endian) and a message.
 *   hello: 0 magic | 8 version u32 | 12 cluster id | 28 from u64 | 36 to u64 | 44 bytes of path u32 | 48 path
 * The path is where the sender listens: a member that came back without the newest members in its log could not answer
 * a leader that is one of them, and so would never hear of it. */
#include "consensus/peer.h"
#include "consensus/bytes_int.h"
#include "consensus/guard_int.h"

#include "io/loop.h"
#include "io/stream.h"
#include "io/timer.h"

#include <stdlib.h>
#include <unistd.h>

enum {
  HELLO_BYTES = 48,
  HELLO_VERSION = 2,
  FRAME_HEAD = 4,
  QUEUE_MAX = 24 << 20,              /* bytes that wait for one member */
  QUEUE_FULL_FOR_ENTRIES = 8 << 20,  /* no more entries behind this much: Raft sends them again */
  SMALL = 64 << 10,                  /* votes, results, heartbeats: always queued */
  QUEUE_FULL_FOR_SNAPSHOT = 1 << 20, /* its parts wait for what goes beside them */
  BUF_KEPT_MAX = 1 << 20,
  SWEEPS = 4, /* looks for late hellos, in the time that one may take */
};

static const uint8_t magic[8] = {'B', 'L', 'X', 'P', 'E', 'E', 'R', '1'};

struct outgoing;

struct peer {
  struct blx__peers *p;
  uint64_t uid;
  char path[BLX__STREAM_PATH_MAX + 1];
  struct blx__stream *stream;
  struct outgoing *out; /* what the stream points to */
  uint64_t open_since_ms, try_at_ms, backoff_ms;
  bool complained;
};

struct incoming {
  struct blx__list link;
  struct blx__peers *p;
  struct blx__stream *stream;
  struct blx__buf buf;
  uint64_t from; /* 0 until the hello */
  uint64_t since_ms;
  bool closing;
};

struct blx__peers {
  struct blx__peers_options o;
  char path[BLX__STREAM_PATH_MAX + 1]; /* where it listens */
  struct blx__listener *listener;
  struct blx__timer *sweep;
  struct blx__list incoming; /* struct incoming, at most BLX__PEERS_INCOMING_MAX */
  unsigned incoming_count;
  struct peer *peers[BLX__PEERS_MAX];
  unsigned peers_count;
  unsigned streams_open; /* their last callback is still to come */
  bool closing;
  struct blx__defer last;
  void (*done)(void *user);
  void *done_user;
};

/* What an outgoing stream points to; it outlives a forgotten peer until on_closed. */
struct outgoing {
  struct blx__peers *p;
  struct peer *peer; /* NULL once forgotten or replaced */
};

static void on_last(void *arg) {
  struct blx__peers *p = arg;
  void (*done)(void *) = p->done;
  void *user = p->done_user;
  for (unsigned i = 0; i < p->peers_count; i++) free(p->peers[i]);
  free(p);
  if (done) done(user);
}

static void stream_gone(struct blx__peers *p) {
  BLX__ASSERT(p->streams_open > 0);
  p->streams_open--;
  if (p->closing && p->streams_open == 0) blx__loop_defer(p->o.loop, &p->last);
}

/* ---- what comes in */

static struct peer *find(const struct blx__peers *p, uint64_t uid) {
  for (unsigned i = 0; i < p->peers_count; i++)
    if (p->peers[i]->uid == uid) return p->peers[i];
  return NULL;
}

static void incoming_close(struct incoming *in) {
  if (in->closing) return;
  in->closing = true;
  blx__stream_close(in->stream);
}

static const char *check_hello(struct incoming *in, const uint8_t *b) {
  struct blx__peers *p = in->p;
  if (memcmp(b, magic, sizeof magic) != 0 || get_u32(b + 8) != HELLO_VERSION) return "it speaks another protocol";
  if (memcmp(b + 12, p->o.cluster_id, BLX__CONSENSUS_CLUSTER_ID_BYTES) != 0) return "it belongs to another cluster";
  uint64_t from = get_u64(b + 28), to = get_u64(b + 36);
  if (to != p->o.uid) return "it takes this member for another one";
  if (from == 0 || from == p->o.uid) return "it claims to be this member itself: was a directory copied?";
  if (get_u32(b + 44) > BLX__STREAM_PATH_MAX) return "it says that it listens at a path that is too long";
  return NULL;
}

/* What the state of the cluster says of a member's address counts for more: one that is known stays. */
static void learn_address(struct blx__peers *p, uint64_t uid, const uint8_t *path, size_t len) {
  char text[BLX__STREAM_PATH_MAX + 1];
  blx_error err;
  if (len == 0 || find(p, uid) || memchr(path, 0, len)) return;
  memcpy(text, path, len);
  text[len] = '\0';
  if (blx__peers_set_address(p, uid, text, &err).code != 0)
    blx__log(p->o.log, BLX_LOG_WARNING, "peer", "member %llu cannot be answered: %s", (unsigned long long)uid,
             err.message);
}

static bool take_hello(struct incoming *in) {
  if (in->buf.len < HELLO_BYTES) return false;
  const char *why = check_hello(in, in->buf.data);
  if (why) {
    blx__log(in->p->o.log, BLX_LOG_WARNING, "peer", "a connection is refused: %s", why);
    incoming_close(in);
    return false;
  }
  size_t path_len = get_u32(in->buf.data + 44);
  if (in->buf.len - HELLO_BYTES < path_len) return false;
  in->from = get_u64(in->buf.data + 28);
  learn_address(in->p, in->from, in->buf.data + HELLO_BYTES, path_len);
  blx__buf_consume(&in->buf, HELLO_BYTES + path_len);
  struct peer *peer = find(in->p, in->from);
  if (peer) peer->try_at_ms = 0; /* it is up: no need to wait */
  /* A member that connects anew has given up its old connection, though we may not have heard. */
  BLX__LIST_FOREACH (it, &in->p->incoming) {
    struct incoming *other = BLX__CONTAINER(it, struct incoming, link);
    if (other != in && other->from == in->from) incoming_close(other);
  }
  return true;
}

/* Bytes of the frame at @b of @n bytes, 0: not all there yet, SIZE_MAX: not allowed. */
static size_t frame_at(const uint8_t *b, size_t n) {
  if (n < FRAME_HEAD) return 0;
  size_t len = get_u32(b);
  if (len < 2 || len > BLX__CONSENSUS_MESSAGE_MAX) return SIZE_MAX;
  return n - FRAME_HEAD < len ? 0 : FRAME_HEAD + len;
}

static void take_frames(struct incoming *in) {
  size_t at = 0;
  while (!in->closing) {
    size_t n = frame_at(in->buf.data + at, in->buf.len - at);
    if (n == SIZE_MAX) {
      blx__log(in->p->o.log, BLX_LOG_WARNING, "peer", "member %llu sent a frame of a size that is not allowed",
               (unsigned long long)in->from);
      incoming_close(in);
    }
    if (n == 0 || n == SIZE_MAX) break;
    in->p->o.deliver(in->p->o.user, in->from,
                     (struct blx__slice){.data = in->buf.data + at + FRAME_HEAD, .len = n - FRAME_HEAD});
    at += n;
  }
  if (!in->closing) blx__buf_consume(&in->buf, at);
  if (in->buf.len == 0 && in->buf.cap > BUF_KEPT_MAX) blx__buf_free(&in->buf);
}

static void on_bytes(void *user, const uint8_t *bytes, size_t size) {
  struct incoming *in = user;
  if (in->closing) return;
  if (!blx__buf_add(&in->buf, bytes, size)) {
    incoming_close(in);
    return;
  }
  if (in->from == 0 && !take_hello(in)) return;
  take_frames(in);
}

static void on_incoming_closed(void *user, const blx_error *why) {
  struct incoming *in = user;
  struct blx__peers *p = in->p;
  (void)why;
  blx__list_remove(&in->link);
  p->incoming_count--;
  blx__buf_free(&in->buf);
  free(in);
  stream_gone(p);
}

static const struct blx__stream_ops incoming_ops = {.on_bytes = on_bytes, .on_closed = on_incoming_closed};

static void on_accept(void *user, struct blx__stream *s) {
  struct blx__peers *p = user;
  struct blx__cred cred;
  blx_error err;
  bool trusted = blx__stream_cred(s, &cred, &err).code == 0 && (cred.uid == 0 || cred.uid == geteuid());
  struct incoming *in = NULL;
  if (trusted && !p->closing && p->incoming_count < BLX__PEERS_INCOMING_MAX) in = calloc(1, sizeof *in);
  if (!in) {
    if (!trusted) blx__log(p->o.log, BLX_LOG_WARNING, "peer", "a connection of an unprivileged user is refused");
    blx__stream_close(s);
    return;
  }
  in->p = p;
  in->stream = s;
  in->since_ms = blx__loop_now_ms(p->o.loop);
  blx__buf_init(&in->buf, BLX__CONSENSUS_MESSAGE_MAX + FRAME_HEAD + (1 << 20));
  blx__list_push(&p->incoming, &in->link);
  p->incoming_count++;
  p->streams_open++;
  blx__stream_attach(s, &incoming_ops, in);
}

static void on_sweep(void *arg) {
  struct blx__peers *p = arg;
  uint64_t now = blx__loop_now_ms(p->o.loop);
  BLX__LIST_FOREACH (it, &p->incoming) {
    struct incoming *in = BLX__CONTAINER(it, struct incoming, link);
    if (in->from == 0 && now - in->since_ms >= p->o.hello_ms) incoming_close(in);
  }
}

/* ---- what goes out */

/* A connection counts as good once it has lasted: one that is cut after its hello was refused. */
static void back_off(struct peer *peer) {
  uint64_t now = blx__loop_now_ms(peer->p->o.loop);
  if (peer->open_since_ms && now - peer->open_since_ms >= BLX__PEERS_BACKOFF_MAX_MS) {
    peer->backoff_ms = BLX__PEERS_BACKOFF_MIN_MS;
    peer->complained = false;
  }
  peer->open_since_ms = 0;
  peer->stream = NULL;
  peer->out = NULL;
  peer->try_at_ms = now + peer->backoff_ms;
  peer->backoff_ms *= 2;
  if (peer->backoff_ms > BLX__PEERS_BACKOFF_MAX_MS) peer->backoff_ms = BLX__PEERS_BACKOFF_MAX_MS;
}

static void on_open(void *user) {
  struct outgoing *out = user;
  if (out->peer) out->peer->open_since_ms = blx__loop_now_ms(out->p->o.loop);
}

static void on_no_bytes(void *user, const uint8_t *bytes, size_t size) {
  (void)user; /* a connection carries one direction: whatever comes back is not for us */
  (void)bytes;
  (void)size;
}

static void on_outgoing_closed(void *user, const blx_error *why) {
  struct outgoing *out = user;
  struct blx__peers *p = out->p;
  if (out->peer && !p->closing) {
    if (why && !out->peer->complained)
      blx__log(p->o.log, BLX_LOG_WARNING, "peer", "member %llu is lost: %s", (unsigned long long)out->peer->uid,
               why->message);
    out->peer->complained = true;
    back_off(out->peer);
  }
  free(out);
  stream_gone(p);
}

static const struct blx__stream_ops outgoing_ops = {
    .on_open = on_open, .on_bytes = on_no_bytes, .on_closed = on_outgoing_closed};

static void hello_of(const struct blx__peers *p, uint64_t to, uint8_t out[HELLO_BYTES]) {
  memcpy(out, magic, sizeof magic);
  put_u32(out + 8, HELLO_VERSION);
  memcpy(out + 12, p->o.cluster_id, BLX__CONSENSUS_CLUSTER_ID_BYTES);
  put_u64(out + 28, p->o.uid);
  put_u64(out + 36, to);
  put_u32(out + 44, (uint32_t)strlen(p->path));
}

static bool connect_to(struct peer *peer) {
  struct blx__peers *p = peer->p;
  if (blx__loop_now_ms(p->o.loop) < peer->try_at_ms) return false;
  struct outgoing *out = calloc(1, sizeof *out);
  if (!out) return false;
  *out = (struct outgoing){.p = p, .peer = peer};
  blx_error err;
  if (blx__stream_connect(p->o.loop, peer->path, &outgoing_ops, out, &peer->stream, &err).code != 0) {
    if (!peer->complained)
      blx__log(p->o.log, BLX_LOG_INFO, "peer", "member %llu cannot be reached: %s", (unsigned long long)peer->uid,
               err.message);
    peer->complained = true;
    free(out);
    back_off(peer);
    return false;
  }
  p->streams_open++;
  peer->out = out;
  blx__stream_queue_max(peer->stream, QUEUE_MAX);
  uint8_t hello[HELLO_BYTES];
  hello_of(p, peer->uid, hello);
  const struct blx__slice parts[] = {{hello, sizeof hello}, {(const uint8_t *)p->path, strlen(p->path)}};
  return blx__stream_write_parts(peer->stream, parts, BLX__COUNT(parts));
}

bool blx__peers_send(struct blx__peers *p, uint64_t to_uid, struct blx__slice message) {
  BLX__ASSERT(message.len >= 2 && message.len <= BLX__CONSENSUS_MESSAGE_MAX);
  struct peer *peer = find(p, to_uid);
  if (p->closing || !peer || (!peer->stream && !connect_to(peer))) return false;
  size_t full = message.data[1] == MESSAGE_CHUNK ? QUEUE_FULL_FOR_SNAPSHOT
                : message.len > SMALL            ? QUEUE_FULL_FOR_ENTRIES
                                                 : QUEUE_MAX;
  if (blx__stream_queued(peer->stream) >= full) return false;
  uint8_t head[FRAME_HEAD];
  put_u32(head, (uint32_t)message.len);
  /* In one: a head that goes ahead wakes the other side for nothing, and takes this side's processor. */
  const struct blx__slice parts[] = {{head, sizeof head}, message};
  return blx__stream_write_parts(peer->stream, parts, BLX__COUNT(parts));
}

/* ---- members, open, close */

static void disconnect(struct peer *peer) {
  if (!peer->stream) return;
  peer->out->peer = NULL;
  peer->out = NULL;
  blx__stream_close(peer->stream);
  peer->stream = NULL;
}

static void forget(struct blx__peers *p, struct peer *peer) {
  disconnect(peer);
  for (unsigned i = 0; i < p->peers_count; i++)
    if (p->peers[i] == peer) p->peers[i] = p->peers[--p->peers_count];
  free(peer);
}

blx__rc blx__peers_set_address(struct blx__peers *p, uint64_t uid, const char *path, blx_error *err) {
  if (uid == 0 || uid == p->o.uid)
    return blx__fail(err, BLX_E_INVALID, "peer", "member %llu is no other member", (unsigned long long)uid);
  struct peer *peer = find(p, uid);
  if (!path) {
    if (peer) forget(p, peer);
    return BLX__OK;
  }
  if (peer && strcmp(peer->path, path) == 0) return BLX__OK;
  if (strlen(path) > BLX__STREAM_PATH_MAX)
    return blx__fail(err, BLX_E_INVALID, "peer", "the socket's path is longer than %d bytes", BLX__STREAM_PATH_MAX);
  if (!peer) {
    if (p->peers_count == BLX__PEERS_MAX)
      return blx__fail(err, BLX_E_BUSY, "peer", "%d other members are known already", BLX__PEERS_MAX);
    peer = calloc(1, sizeof *peer);
    if (!peer) return blx__fail(err, BLX_E_NOMEM, "peer", "no memory for one more member");
    peer->p = p;
    peer->uid = uid;
    p->peers[p->peers_count++] = peer;
  }
  disconnect(peer);
  (void)blx__str_copy(peer->path, sizeof peer->path, path);
  peer->try_at_ms = 0;
  peer->backoff_ms = BLX__PEERS_BACKOFF_MIN_MS;
  return BLX__OK;
}

blx__rc blx__peers_open(const struct blx__peers_options *options, struct blx__peers **out, blx_error *err) {
  BLX__ASSERT(options->loop && options->deliver && options->uid != 0);
  struct blx__peers *p = calloc(1, sizeof *p);
  if (!p) return blx__fail(err, BLX_E_NOMEM, "peer", "no memory for the members' socket");
  p->o = *options;
  p->o.listen_path = NULL;                                            /* borrowed for this call only */
  (void)blx__str_copy(p->path, sizeof p->path, options->listen_path); /* too long is refused by the listener */
  if (!p->o.hello_ms) p->o.hello_ms = BLX__PEERS_HELLO_MS;
  blx__list_init(&p->incoming);
  blx__defer_init(&p->last, on_last, p);
  p->sweep = blx__timer_new(p->o.loop, on_sweep, p);
  blx__rc rc = p->sweep ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "peer", "no memory for a timer");
  if (rc.code == 0) rc = blx__listener_open(p->o.loop, options->listen_path, 0660, on_accept, p, &p->listener, err);
  if (rc.code != 0) {
    blx__timer_free(p->sweep);
    free(p);
    return rc;
  }
  uint64_t sweep_ms = p->o.hello_ms / SWEEPS + 1;
  blx__timer_start(p->sweep, sweep_ms, sweep_ms);
  *out = p;
  return BLX__OK;
}

void blx__peers_close(struct blx__peers *p, void (*done)(void *user), void *user) {
  BLX__ASSERT(!p->closing);
  p->closing = true;
  p->done = done;
  p->done_user = user;
  blx__listener_close(p->listener);
  blx__timer_free(p->sweep);
  BLX__LIST_FOREACH (it, &p->incoming) {
    incoming_close(BLX__CONTAINER(it, struct incoming, link));
  }
  for (unsigned i = 0; i < p->peers_count; i++) disconnect(p->peers[i]);
  if (p->streams_open == 0) blx__loop_defer(p->o.loop, &p->last);
}
