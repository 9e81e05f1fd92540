#include "io/address_int.h"
#include "io/io_int.h"
#include "io/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  BACKLOG = 4096,
  ACCEPTS_PER_TURN = 64,   /* so that a storm of connections does not starve the open ones */
  FULL_TABLE_WAIT_MS = 100 /* out of descriptors: the waiting connection would wake the loop without end */
};

struct blx__listener {
  uv_poll_t poll;
  struct blx__loop *loop;
  struct blx__timer *again;
  int fd;
  void (*on_accept)(void *user, struct blx__stream *s);
  void *user;
  bool closing;
  dev_t dev; /* of the socket file we made */
  ino_t ino;
  char path[BLX__STREAM_PATH_MAX + 1];
};

static void on_readable(uv_poll_t *h, int status, int events);

static void listen_again(void *arg) {
  struct blx__listener *l = arg;
  (void)uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

static void on_readable(uv_poll_t *h, int status, int events) {
  struct blx__listener *l = h->data;
  (void)status;
  (void)events;
  for (int i = 0; i < ACCEPTS_PER_TURN && !l->closing; i++) {
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      (void)uv_poll_stop(&l->poll);
      blx__timer_start(l->again, FULL_TABLE_WAIT_MS, 0);
      return;
    }
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0) return;
    struct blx__stream *s = stream_wrap(l->loop, fd);
    if (s) l->on_accept(l->user, s);
  }
}

/* Is someone listening there? A file that is no socket is never touched. */
static blx__rc remove_dead(const struct address *a, const char *path, blx_error *err) {
  struct stat st;
  if (lstat(path, &st) != 0) {
    if (errno == ENOENT) return BLX__OK;
    return blx__fail_errno(err, errno, "io", "cannot look at %s", path);
  }
  if (!S_ISSOCK(st.st_mode))
    return blx__fail(err, BLX_E_EXISTS, "io", "%s is in the way: it is not a socket; move it or choose another path",
                     path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return blx__fail_errno(err, errno, "io", "cannot make a socket");
  int e = connect(fd, (const struct sockaddr *)&a->sa, a->sa_len) == 0 ? 0 : errno;
  (void)close(fd);
  if (e == 0 || e == EAGAIN || e == EPROTOTYPE)
    return blx__fail(err, BLX_E_BUSY, "io", "another process answers on %s: stop it or choose another path", path);
  if (e != ECONNREFUSED && e != ENOENT) return blx__fail_errno(err, e, "io", "cannot tell who owns %s", path);
  if (unlink(path) != 0 && errno != ENOENT)
    return blx__fail_errno(err, errno, "io", "cannot remove the dead socket %s", path);
  return BLX__OK;
}

static blx__rc bind_at(struct blx__listener *l, unsigned mode, blx_error *err) {
  struct address a;
  BLX__TRY(address_open(l->path, &a, err));
  blx__rc rc = remove_dead(&a, l->path, err);
  if (rc.code != 0) goto out;
  /* The file gets the descriptor's mode less the umask, so it is never open to more than @mode allows. */
  if (fchmod(l->fd, (mode_t)mode) != 0 || bind(l->fd, (const struct sockaddr *)&a.sa, a.sa_len) != 0) {
    if (errno == EADDRINUSE)
      rc = blx__fail(err, BLX_E_BUSY, "io", "another process has just taken %s", l->path);
    else
      rc = blx__fail_errno(err, errno, "io", "cannot listen at %s", l->path);
    goto out;
  }
  struct stat st;
  if (chmod(l->path, (mode_t)mode) != 0 || lstat(l->path, &st) != 0 || listen(l->fd, BACKLOG) != 0) {
    rc = blx__fail_errno(err, errno, "io", "cannot listen at %s", l->path);
    (void)unlink(l->path);
    goto out;
  }
  l->dev = st.st_dev;
  l->ino = st.st_ino;
out:
  address_close(&a);
  return rc;
}

blx__rc blx__listener_open(struct blx__loop *loop, const char *path, unsigned mode,
                           void (*on_accept)(void *user, struct blx__stream *s), void *user, struct blx__listener **out,
                           blx_error *err) {
  struct blx__listener *l = calloc(1, sizeof *l);
  if (!l) return blx__fail(err, BLX_E_NOMEM, "io", "no memory to listen at %s", path);
  l->loop = loop;
  l->on_accept = on_accept;
  l->user = user;
  (void)blx__str_copy(l->path, sizeof l->path, path); /* too long is refused by address_open */
  l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  blx__rc rc = l->fd < 0 ? blx__fail_errno(err, errno, "io", "cannot make a socket") : BLX__OK;
  if (rc.code == 0 && strlen(path) > BLX__STREAM_PATH_MAX)
    rc = blx__fail(err, BLX_E_INVALID, "io", "a socket's path has 1 to %d bytes", BLX__STREAM_PATH_MAX);
  if (rc.code == 0) rc = bind_at(l, mode, err);
  if (rc.code == 0 && (l->again = blx__timer_new(loop, listen_again, l)) == NULL) {
    rc = blx__fail(err, BLX_E_NOMEM, "io", "no memory to listen at %s", path);
    (void)unlink(l->path);
  }
  if (rc.code != 0) {
    if (l->fd >= 0) (void)close(l->fd);
    free(l);
    return rc;
  }
  int e = uv_poll_init(&loop->uv, &l->poll, l->fd);
  BLX__ASSERT(e == 0);
  l->poll.data = l;
  e = uv_poll_start(&l->poll, UV_READABLE, on_readable);
  BLX__ASSERT(e == 0);
  *out = l;
  return BLX__OK;
}

static void on_closed(uv_handle_t *h) {
  free(h->data);
}

void blx__listener_close(struct blx__listener *l) {
  if (!l || l->closing) return;
  l->closing = true;
  struct stat st;
  if (lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) (void)unlink(l->path);
  blx__timer_free(l->again);
  uv_close((uv_handle_t *)&l->poll, on_closed);
  (void)close(l->fd);
}
