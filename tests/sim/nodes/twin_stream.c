/* Sockets of simulated machines: two ends, bytes in order, as slow as the link between them. What a link that is cut
 * holds up goes on when it is mended, as TCP would have it, or breaks the connection after a while. */
#include "twin.h"

#include "io/stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  KERNEL_BYTES = 200 << 10, /* on the way, before a sender's own queue fills */
  RETRY_US = 20000,
  DEAD_MACHINE_US = 3000000, /* until others notice that a machine is gone, at most */
};

enum chunk_kind { CHUNK_BYTES, CHUNK_END, CHUNK_BROKEN };

struct chunk {
  struct blx__list link;
  uint64_t at_us;
  enum chunk_kind kind;
  size_t len;
  uint8_t bytes[];
};

struct blx__stream {
  struct blx__list link; /* in machine->streams, or a listener's backlog and that */
  struct blx__list backlog;
  struct blx__loop *loop;
  unsigned remote; /* the other machine */
  const struct blx__stream_ops *ops;
  void *user;
  struct blx__stream *peer; /* NULL: nobody reads what is written */
  struct blx__list rx;
  struct blx__timer *rx_timer, *finish_timer;
  uint64_t rx_last_us, held_since_us;
  size_t in_flight, queue_max;
  bool above, paused, connecting, finishing, closing, failed;
  struct blx__defer opened, closed, writable;
  blx_error why;
};

struct blx__listener {
  struct blx__loop *loop;
  struct blx__timer *timer;
  struct blx__list backlog;
  void (*on_accept)(void *user, struct blx__stream *s);
  void *user;
  char path[BLX__STREAM_PATH_MAX + 1];
};

uint64_t twin_delay_us(unsigned from, unsigned to) {
  const struct blx__sim_link *link = &twin.sim.links[from][to];
  uint64_t us = blx__sim_rng_in(&twin.sim.rng, link->delay_min_us, link->delay_max_us);
  if (link->late_percent && blx__sim_rng_chance(&twin.sim.rng, link->late_percent))
    us += blx__sim_rng_in(&twin.sim.rng, 0, link->late_max_us);
  return us;
}

static bool is_cut(unsigned a, unsigned b) {
  return twin.sim.links[a][b].cut;
}

/* ---- what is on the way */

static void rx_arm(struct blx__stream *s) {
  struct blx__list *it = blx__list_first(&s->rx);
  if (!it || !s->ops || s->paused || s->connecting || s->closing || s->finishing) return;
  uint64_t at_us = BLX__CONTAINER(it, struct chunk, link)->at_us, now_us = twin_loop_now_us(s->loop);
  twin_timer_start_us(s->rx_timer, at_us > now_us ? at_us - now_us : 0);
}

static void chunk_push(struct blx__stream *to, enum chunk_kind kind, const void *bytes, size_t len, uint64_t more_us) {
  struct chunk *c = malloc(sizeof *c + len);
  BLX__ASSERT(c != NULL);
  c->kind = kind;
  c->len = len;
  if (len) memcpy(c->bytes, bytes, len);
  uint64_t at_us = twin.sim.now_us + twin_delay_us(to->remote, to->loop->m->number) + more_us;
  c->at_us = to->rx_last_us > at_us ? to->rx_last_us : at_us;
  to->rx_last_us = c->at_us;
  bool first = blx__list_empty(&to->rx);
  blx__list_push(&to->rx, &c->link);
  if (first) rx_arm(to);
}

static void chunk_free(struct chunk *c) {
  blx__list_remove(&c->link);
  free(c);
}

static void rx_drop(struct blx__stream *s) {
  for (struct blx__list *it; (it = blx__list_first(&s->rx)) != NULL;)
    chunk_free(BLX__CONTAINER(it, struct chunk, link));
}

/* The other end reads on to what was sent, and then finds @kind. */
static void part(struct blx__stream *s, enum chunk_kind kind, uint64_t more_us) {
  struct blx__stream *peer = s->peer;
  if (!peer) return;
  s->peer = NULL;
  peer->peer = NULL;
  chunk_push(peer, kind, NULL, 0, more_us);
}

static void fail(struct blx__stream *s, const char *what) {
  if (s->closing) return;
  (void)blx__fail(&s->why, BLX_E_UNAVAILABLE, "io", "%s", what);
  s->failed = true;
  blx__stream_close(s);
}

size_t blx__stream_queued(const struct blx__stream *s) {
  return s->in_flight > KERNEL_BYTES ? s->in_flight - KERNEL_BYTES : 0;
}

static void taken(struct blx__stream *sender, size_t len) {
  BLX__ASSERT(sender->in_flight >= len);
  sender->in_flight -= len;
  bool room = sender->above && blx__stream_queued(sender) < (sender->queue_max + 1) / 2;
  if (room || sender->finishing) blx__loop_defer(sender->loop, &sender->writable);
}

static void on_room(void *arg) {
  struct blx__stream *s = arg;
  if (s->closing) return;
  if (s->finishing) {
    if (blx__stream_queued(s) == 0) blx__stream_close(s);
    return;
  }
  s->above = false;
  if (s->ops && s->ops->on_writable) s->ops->on_writable(s->user);
}

/* True when the link holds up what came. */
static bool held_up(struct blx__stream *s) {
  if (!is_cut(s->remote, s->loop->m->number)) {
    s->held_since_us = 0;
    return false;
  }
  uint64_t now_us = twin.sim.now_us;
  if (s->held_since_us == 0) s->held_since_us = now_us;
  if (now_us - s->held_since_us > (uint64_t)CUT_PATIENCE_MS * 1000) {
    part(s, CHUNK_BROKEN, 0);
    fail(s, "the connection broke: the other side was not heard for too long");
  } else {
    twin_timer_start_us(s->rx_timer, RETRY_US);
  }
  return true;
}

static void on_rx(void *arg) {
  struct blx__stream *s = arg;
  for (struct blx__list *it; (it = blx__list_first(&s->rx)) != NULL;) {
    struct chunk *c = BLX__CONTAINER(it, struct chunk, link);
    if (!s->ops || s->paused || s->connecting || s->closing || s->finishing) return;
    if (c->at_us > twin_loop_now_us(s->loop) || held_up(s)) break;
    blx__list_remove(&c->link);
    switch (c->kind) {
    case CHUNK_BYTES:
      if (s->peer) taken(s->peer, c->len);
      s->ops->on_bytes(s->user, c->bytes, c->len);
      break;
    case CHUNK_END: blx__stream_close(s); break;
    case CHUNK_BROKEN: fail(s, "the connection broke"); break;
    }
    free(c);
  }
  if (s->held_since_us == 0) rx_arm(s);
}

/* ---- ends */

static void on_opened(void *arg) {
  struct blx__stream *s = arg;
  s->connecting = false;
  if (s->closing) return;
  if (s->ops->on_open) s->ops->on_open(s->user);
  rx_arm(s);
}

static void on_closed(void *arg) {
  struct blx__stream *s = arg;
  if (s->ops) s->ops->on_closed(s->user, s->failed ? &s->why : NULL);
  free(s);
}

static struct blx__stream *stream_new(struct blx__loop *loop, unsigned remote) {
  struct blx__stream *s = calloc(1, sizeof *s);
  BLX__ASSERT(s != NULL);
  s->loop = loop;
  s->remote = remote;
  s->queue_max = BLX__STREAM_QUEUE_MAX_BYTES;
  s->rx_timer = blx__timer_new(loop, on_rx, s);
  blx__list_init(&s->rx);
  blx__list_init(&s->backlog);
  blx__list_push(&loop->m->streams, &s->link);
  blx__defer_init(&s->opened, on_opened, s);
  blx__defer_init(&s->closed, on_closed, s);
  blx__defer_init(&s->writable, on_room, s);
  return s;
}

void blx__stream_attach(struct blx__stream *s, const struct blx__stream_ops *ops, void *user) {
  BLX__ASSERT(!s->ops && ops && ops->on_bytes && ops->on_closed);
  s->ops = ops;
  s->user = user;
  rx_arm(s);
}

bool blx__stream_write_parts(struct blx__stream *s, const struct blx__slice *parts, size_t n) {
  BLX__ASSERT(n <= BLX__STREAM_PARTS_MAX);
  size_t size = 0;
  for (size_t i = 0; i < n; i++) size += parts[i].len;
  if (s->closing || s->finishing || size == 0) return true;
  size_t queued = blx__stream_queued(s);
  if (size > s->queue_max || queued > s->queue_max - size) {
    s->above = true;
    return false;
  }
  if (!s->peer || s->loop->m->muted) return true;
  for (size_t i = 0; i < n; i++)
    if (parts[i].len) chunk_push(s->peer, CHUNK_BYTES, parts[i].data, parts[i].len, 0);
  s->in_flight += size;
  if (blx__stream_queued(s) >= (s->queue_max + 1) / 2) s->above = true;
  return true;
}

bool blx__stream_write(struct blx__stream *s, const void *bytes, size_t size) {
  const struct blx__slice all = {bytes, size};
  return blx__stream_write_parts(s, &all, 1);
}

void blx__stream_queue_max(struct blx__stream *s, size_t max_bytes) {
  BLX__ASSERT(max_bytes > 0);
  s->queue_max = max_bytes;
}

void blx__stream_pause(struct blx__stream *s, bool paused) {
  s->paused = paused;
  if (!paused) rx_arm(s);
}

blx__rc blx__stream_cred(struct blx__stream *s, struct blx__cred *out, blx_error *err) {
  if (s->closing) return blx__fail(err, BLX_E_IO, "io", "the connection is closed");
  *out = (struct blx__cred){.uid = geteuid(), .gid = getegid(), .pid = (int32_t)s->remote};
  return BLX__OK;
}

void blx__stream_close(struct blx__stream *s) {
  if (s->closing) return;
  s->closing = true;
  part(s, CHUNK_END, 0);
  rx_drop(s);
  blx__timer_free(s->rx_timer);
  blx__timer_free(s->finish_timer);
  blx__loop_undefer(&s->opened);
  blx__loop_undefer(&s->writable);
  blx__list_remove(&s->link);
  blx__list_remove(&s->backlog);
  blx__loop_defer(s->loop, &s->closed);
}

static void on_finish_late(void *arg) {
  blx__stream_close(arg);
}

void blx__stream_finish(struct blx__stream *s) {
  if (s->closing || s->finishing) return;
  s->finishing = true;
  if (blx__stream_queued(s) == 0) {
    blx__stream_close(s);
    return;
  }
  s->finish_timer = blx__timer_new(s->loop, on_finish_late, s);
  blx__timer_start(s->finish_timer, BLX__STREAM_FINISH_MS, 0);
}

void twin_streams_break(struct machine *m, bool power) {
  BLX__LIST_FOREACH (it, &m->streams) {
    uint64_t after_us = power ? blx__sim_rng_in(&twin.sim.rng, 0, DEAD_MACHINE_US) : 0;
    part(BLX__CONTAINER(it, struct blx__stream, link), CHUNK_BROKEN, after_us);
  }
}

/* ---- listening and connecting */

static void on_backlog(void *arg) {
  struct blx__listener *l = arg;
  struct blx__list *it = blx__list_first(&l->backlog);
  if (!it) return;
  struct blx__stream *s = BLX__CONTAINER(it, struct blx__stream, backlog);
  if (is_cut(s->remote, l->loop->m->number)) { /* the first waits, and those behind with it */
    blx__list_remove(it);
    blx__list_push(&l->backlog, it);
    twin_timer_start_us(l->timer, RETRY_US);
    return;
  }
  blx__list_remove(it);
  if (!blx__list_empty(&l->backlog)) twin_timer_start_us(l->timer, 1);
  l->on_accept(l->user, s);
}

blx__rc blx__listener_open(struct blx__loop *loop, const char *path, unsigned mode,
                           void (*on_accept)(void *user, struct blx__stream *s), void *user, struct blx__listener **out,
                           blx_error *err) {
  (void)mode;
  if (blx__map_get_str(&twin.listeners, path))
    return blx__fail(err, BLX_E_BUSY, "io", "another process answers on %s", path);
  struct blx__listener *l = calloc(1, sizeof *l);
  BLX__ASSERT(l != NULL);
  l->loop = loop;
  l->on_accept = on_accept;
  l->user = user;
  l->timer = blx__timer_new(loop, on_backlog, l);
  blx__list_init(&l->backlog);
  bool kept = blx__str_copy(l->path, sizeof l->path, path) && blx__map_set_str(&twin.listeners, path, l, NULL);
  BLX__ASSERT(kept);
  *out = l;
  return BLX__OK;
}

void blx__listener_close(struct blx__listener *l) {
  if (!l) return;
  (void)blx__map_remove_str(&twin.listeners, l->path);
  for (struct blx__list *it; (it = blx__list_first(&l->backlog)) != NULL;)
    blx__stream_close(BLX__CONTAINER(it, struct blx__stream, backlog));
  blx__timer_free(l->timer);
  free(l);
}

blx__rc blx__stream_connect(struct blx__loop *loop, const char *path, const struct blx__stream_ops *ops, void *user,
                            struct blx__stream **out, blx_error *err) {
  struct blx__listener *l = blx__map_get_str(&twin.listeners, path);
  if (!l || l->loop->m->muted || loop->m->muted)
    return blx__fail(err, BLX_E_UNAVAILABLE, "io", "nobody answers at %s: is the daemon running?", path);
  struct blx__stream *s = stream_new(loop, l->loop->m->number), *other = stream_new(l->loop, loop->m->number);
  s->peer = other;
  other->peer = s;
  s->connecting = true;
  blx__stream_attach(s, ops, user);
  blx__loop_defer(loop, &s->opened);
  blx__list_push(&l->backlog, &other->backlog);
  twin_timer_start_us(l->timer, twin_delay_us(loop->m->number, l->loop->m->number));
  *out = s;
  return BLX__OK;
}
