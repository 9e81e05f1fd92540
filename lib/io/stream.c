#include "io/address_int.h"
#include "io/io_int.h"
#include "io/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  READS_PER_TURN = 4,     /* of READ_BUF_BYTES each: a fast sender does not starve the others */
  READS_AT_END_MAX = 64,  /* what the kernel still holds for us when the other side broke off */
  KEEP_BUF_BYTES = 16384, /* an empty queue keeps no more than this */
  QUEUE_BUF_MIN_BYTES = 4096
};

struct blx__stream {
  uv_poll_t poll;
  struct blx__loop *loop;
  int fd, events;
  const struct blx__stream_ops *ops;
  void *user;
  struct blx__defer opened, broke;
  struct blx__timer *finish_timer;
  uint8_t *queue; /* bytes queue_at .. queue_at + queue_len wait to be sent */
  size_t queue_at, queue_len, queue_cap, queue_max;
  bool above, paused, connecting, finishing, closing, failed;
  bool broken; /* nothing more is taken; what came before is delivered, then it closes */
  blx_error why;
};

static void fail(struct blx__stream *s, int errnum, const char *what) {
  if (s->closing) return;
  (void)blx__fail(&s->why, BLX_E_UNAVAILABLE, "io", "%s: %s", what, strerrordesc_np(errnum));
  s->failed = true;
  blx__stream_close(s);
}

static void on_poll(uv_poll_t *h, int status, int events);

static void poll_update(struct blx__stream *s) {
  if (s->closing) return;
  int want = 0;
  if (s->ops && !s->paused && !s->connecting && !s->finishing) want |= UV_READABLE;
  if (s->queue_len > 0) want |= UV_WRITABLE;
  if (want == s->events) return;
  s->events = want;
  int e = want ? uv_poll_start(&s->poll, want, on_poll) : uv_poll_stop(&s->poll);
  BLX__ASSERT(e == 0);
}

/* The other side takes nothing any more. What it said before that is still there, and may say why. */
static void break_off(struct blx__stream *s, int errnum) {
  static const char what[] = "the other side does not take what is sent";
  if (!s->ops || s->paused || s->finishing) {
    fail(s, errnum, what);
    return;
  }
  (void)blx__fail(&s->why, BLX_E_UNAVAILABLE, "io", "%s: %s", what, strerrordesc_np(errnum));
  s->broken = true;
  blx__loop_defer(s->loop, &s->broke);
}

static size_t size_of(const struct blx__slice *parts, size_t n) {
  size_t size = 0;
  for (size_t i = 0; i < n; i++) size += parts[i].len;
  return size;
}

/* The parts without their first @skip bytes. How many are left. */
static size_t rest_of(const struct blx__slice *parts, size_t n, size_t skip, struct iovec out[BLX__STREAM_PARTS_MAX]) {
  size_t left = 0;
  for (size_t i = 0; i < n; i++) {
    size_t gone = skip < parts[i].len ? skip : parts[i].len;
    skip -= gone;
    if (gone == parts[i].len) continue;
    /* sendmsg does not write to it */
    out[left++] = (struct iovec){(void *)(uintptr_t)(parts[i].data + gone), parts[i].len - gone};
  }
  return left;
}

/* True when it took everything or the kernel takes no more; false when the stream broke. */
static bool send_some(struct blx__stream *s, const struct blx__slice *parts, size_t n, size_t *sent) {
  struct iovec iov[BLX__STREAM_PARTS_MAX];
  *sent = 0;
  for (size_t left; (left = rest_of(parts, n, *sent, iov)) > 0;) {
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = left};
    ssize_t w = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (w < 0 && errno == EINTR) continue;
    if (w < 0 && errno == EAGAIN) return true;
    if (w < 0) {
      break_off(s, errno);
      return false;
    }
    *sent += (size_t)w;
  }
  return true;
}

static void queue_drop(struct blx__stream *s) {
  free(s->queue);
  s->queue = NULL;
  s->queue_at = s->queue_len = s->queue_cap = 0;
}

static void flush(struct blx__stream *s) {
  size_t sent = 0;
  const struct blx__slice all = {s->queue + s->queue_at, s->queue_len};
  if (!send_some(s, &all, 1, &sent)) return;
  s->queue_at += sent;
  s->queue_len -= sent;
  if (s->queue_len == 0) {
    s->queue_at = 0;
    if (s->queue_cap > KEEP_BUF_BYTES) queue_drop(s);
    if (s->finishing) {
      blx__stream_close(s);
      return;
    }
  }
  if (s->above && s->queue_len < (s->queue_max + 1) / 2) {
    s->above = false;
    if (s->ops && s->ops->on_writable && !s->finishing) s->ops->on_writable(s->user);
  }
}

/* Bytes that arrived before the other side broke off are delivered, then the reason. */
static void receive(struct blx__stream *s, int reads_max) {
  for (int i = 0; i < reads_max && !s->closing && !s->paused && !s->finishing; i++) {
    ssize_t n = recv(s->fd, s->loop->read_buf, READ_BUF_BYTES, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      fail(s, errno, "the connection broke");
      return;
    }
    if (n == 0) {
      s->failed = s->broken;
      blx__stream_close(s);
      return;
    }
    s->ops->on_bytes(s->user, s->loop->read_buf, (size_t)n);
    if ((size_t)n < READ_BUF_BYTES && reads_max == READS_PER_TURN) return;
  }
}

static void on_poll(uv_poll_t *h, int status, int events) {
  struct blx__stream *s = h->data;
  if (status < 0) {
    s->events = 0;
    if (s->ops && !s->connecting) receive(s, READS_AT_END_MAX);
    if (!s->closing) fail(s, ECONNRESET, "the connection broke");
    return;
  }
  if ((events & UV_WRITABLE) && s->queue_len > 0 && !s->closing) flush(s);
  if ((events & UV_READABLE) && s->ops && !s->closing) receive(s, READS_PER_TURN);
  poll_update(s);
}

static void on_broke(void *arg) {
  struct blx__stream *s = arg;
  receive(s, READS_AT_END_MAX);
  if (s->closing) return;
  s->failed = true;
  blx__stream_close(s);
}

static void on_connected(void *arg) {
  struct blx__stream *s = arg;
  s->connecting = false;
  if (s->closing) return;
  if (s->ops->on_open) s->ops->on_open(s->user);
  poll_update(s);
}

struct blx__stream *stream_wrap(struct blx__loop *loop, int fd) {
  struct blx__stream *s = calloc(1, sizeof *s);
  if (!s || uv_poll_init(&loop->uv, &s->poll, fd) != 0) {
    (void)close(fd);
    free(s);
    return NULL;
  }
  s->poll.data = s;
  s->loop = loop;
  s->fd = fd;
  s->queue_max = BLX__STREAM_QUEUE_MAX_BYTES;
  blx__defer_init(&s->opened, on_connected, s);
  blx__defer_init(&s->broke, on_broke, s);
  return s;
}

void blx__stream_attach(struct blx__stream *s, const struct blx__stream_ops *ops, void *user) {
  BLX__ASSERT(!s->ops && ops && ops->on_bytes && ops->on_closed);
  s->ops = ops;
  s->user = user;
  poll_update(s);
}

static blx__rc connect_to(int fd, const char *path, blx_error *err) {
  struct address a;
  blx__rc rc = address_open(path, &a, err);
  if (rc.code == BLX_E_NOT_FOUND)
    return blx__fail(err, BLX_E_UNAVAILABLE, "io", "there is no socket at %s: is the daemon running?", path);
  if (rc.code != 0) return rc;
  int e;
  do e = connect(fd, (const struct sockaddr *)&a.sa, a.sa_len) == 0 ? 0 : errno;
  while (e == EINTR);
  address_close(&a);
  switch (e) {
  case 0: return BLX__OK;
  case ENOENT: return blx__fail(err, BLX_E_UNAVAILABLE, "io", "there is no socket at %s: is the daemon running?", path);
  case ECONNREFUSED:
    return blx__fail(err, BLX_E_UNAVAILABLE, "io", "nobody answers at %s: is the daemon running?", path);
  case EAGAIN: return blx__fail(err, BLX_E_UNAVAILABLE, "io", "too many wait to connect to %s: try again later", path);
  case EACCES:
    return blx__fail(err, BLX_E_DENIED, "io", "you may not connect to %s: run as root or as the daemon's user", path);
  default: return blx__fail_errno(err, e, "io", "cannot connect to %s", path);
  }
}

blx__rc blx__stream_connect(struct blx__loop *loop, const char *path, const struct blx__stream_ops *ops, void *user,
                            struct blx__stream **out, blx_error *err) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return blx__fail_errno(err, errno, "io", "cannot make a socket");
  blx__rc rc = connect_to(fd, path, err);
  if (rc.code != 0) {
    (void)close(fd);
    return rc;
  }
  struct blx__stream *s = stream_wrap(loop, fd);
  if (!s) return blx__fail(err, BLX_E_NOMEM, "io", "no memory for a connection to %s", path);
  s->connecting = true;
  blx__stream_attach(s, ops, user);
  blx__loop_defer(loop, &s->opened);
  *out = s;
  return BLX__OK;
}

static bool queue_add(struct blx__stream *s, const uint8_t *p, size_t n) {
  if (s->queue_at > 0 && s->queue_at + s->queue_len + n > s->queue_cap) {
    memmove(s->queue, s->queue + s->queue_at, s->queue_len);
    s->queue_at = 0;
  }
  if (s->queue_len + n > s->queue_cap) {
    size_t cap = s->queue_cap ? s->queue_cap : QUEUE_BUF_MIN_BYTES;
    while (cap < s->queue_len + n) cap *= 2;
    uint8_t *q = realloc(s->queue, cap);
    if (!q) return false;
    s->queue = q;
    s->queue_cap = cap;
  }
  memcpy(s->queue + s->queue_at + s->queue_len, p, n);
  s->queue_len += n;
  return true;
}

static bool queue_rest(struct blx__stream *s, const struct blx__slice *parts, size_t n, size_t sent) {
  struct iovec iov[BLX__STREAM_PARTS_MAX];
  size_t left = rest_of(parts, n, sent, iov);
  for (size_t i = 0; i < left; i++)
    if (!queue_add(s, iov[i].iov_base, iov[i].iov_len)) return false;
  return true;
}

bool blx__stream_write_parts(struct blx__stream *s, const struct blx__slice *parts, size_t n) {
  BLX__ASSERT(n <= BLX__STREAM_PARTS_MAX);
  size_t size = size_of(parts, n);
  if (s->closing || s->finishing || s->broken || size == 0) return true;
  if (size > s->queue_max || s->queue_len > s->queue_max - size) {
    s->above = true;
    return false;
  }
  size_t sent = 0;
  if (s->queue_len == 0 && !send_some(s, parts, n, &sent)) return true;
  if (!queue_rest(s, parts, n, sent)) {
    fail(s, ENOMEM, "no memory to queue what is to be sent");
    return true;
  }
  if (s->queue_len >= (s->queue_max + 1) / 2) s->above = true;
  poll_update(s);
  return true;
}

bool blx__stream_write(struct blx__stream *s, const void *bytes, size_t size) {
  const struct blx__slice all = {bytes, size};
  return blx__stream_write_parts(s, &all, 1);
}

size_t blx__stream_queued(const struct blx__stream *s) {
  return s->queue_len;
}

void blx__stream_queue_max(struct blx__stream *s, size_t max_bytes) {
  BLX__ASSERT(max_bytes > 0);
  s->queue_max = max_bytes;
}

void blx__stream_pause(struct blx__stream *s, bool paused) {
  s->paused = paused;
  poll_update(s);
}

blx__rc blx__stream_cred(struct blx__stream *s, struct blx__cred *out, blx_error *err) {
  struct ucred c;
  socklen_t n = sizeof c;
  if (s->closing) return blx__fail(err, BLX_E_IO, "io", "the connection is closed");
  if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0)
    return blx__fail_errno(err, errno, "io", "cannot tell who is connected");
  *out = (struct blx__cred){.uid = c.uid, .gid = c.gid, .pid = c.pid};
  return BLX__OK;
}

static void on_closed(uv_handle_t *h) {
  struct blx__stream *s = h->data;
  if (s->ops) s->ops->on_closed(s->user, s->failed ? &s->why : NULL);
  free(s);
}

void blx__stream_close(struct blx__stream *s) {
  if (s->closing) return;
  s->closing = true;
  queue_drop(s);
  blx__loop_undefer(&s->opened);
  blx__loop_undefer(&s->broke);
  blx__timer_free(s->finish_timer);
  s->finish_timer = NULL;
  uv_close((uv_handle_t *)&s->poll, on_closed);
  (void)close(s->fd);
}

static void on_finish_late(void *arg) {
  blx__stream_close(arg);
}

void blx__stream_finish(struct blx__stream *s) {
  if (s->closing || s->finishing) return;
  s->finishing = true;
  s->finish_timer = s->queue_len > 0 ? blx__timer_new(s->loop, on_finish_late, s) : NULL;
  if (!s->finish_timer) {
    blx__stream_close(s);
    return;
  }
  blx__timer_start(s->finish_timer, BLX__STREAM_FINISH_MS, 0);
  poll_update(s);
}
