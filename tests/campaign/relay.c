/* Carries what daemons say to each other over TCP, so that a network can lie between their unix sockets:
 *   relay IP PORT OWN_SOCKET [PEER_SOCKET PEER_IP]...
 * It serves each PEER_SOCKET and passes what comes there to PORT of PEER_IP; what comes to its own IP and PORT it
 * passes to OWN_SOCKET, whose daemon sees a caller with this program's credentials. It says "ready" when it listens.
 * One process in each namespace; it ends with the one that started it, when its standard input ends. It never asks
 * whether a peer lives: that is for the daemons. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTENERS_MAX = 16, PAIRS_MAX = 1024, ROOM = 64 << 10 };

/* One direction of a connection. */
struct way {
  size_t at, len; /* what is to be written yet */
  char bytes[ROOM];
};

struct pair {
  int fd[2];          /* [0] came in, [1] was made for it */
  bool connecting;    /* [1] is not there yet */
  struct way *way[2]; /* [i]: from fd[i] to the other */
};

struct listener {
  int fd;
  bool tcp; /* towards the own daemon */
  const char *unix_path, *ip;
};

static struct listener listeners[LISTENERS_MAX];
static struct pair pairs[PAIRS_MAX];
static int n_listeners, n_pairs;
static uint16_t port;

static int fail(const char *what) {
  fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
  return -1;
}

static struct sockaddr_in inet_address(const char *ip) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, ip, &in.sin_addr) != 1) fail(ip);
  return in;
}

static struct sockaddr_un unix_address(const char *path) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
  return un;
}

static int listen_on(const struct sockaddr *address, socklen_t size) {
  int on = 1, fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address, size) != 0 || listen(fd, 128) != 0) {
    close(fd);
    return fail("listen");
  }
  return fd;
}

static int listen_unix(const char *path) {
  struct sockaddr_un un = unix_address(path);
  unlink(path);
  return listen_on((struct sockaddr *)&un, sizeof un);
}

static int listen_inet(const char *ip) {
  struct sockaddr_in in = inet_address(ip);
  return listen_on((struct sockaddr *)&in, sizeof in);
}

/* -1: certainly not. *@connecting: not known yet. */
static int connect_for(const struct listener *l, bool *connecting) {
  struct sockaddr_un un = unix_address(l->tcp ? l->unix_path : "");
  struct sockaddr_in in = l->tcp ? (struct sockaddr_in){0} : inet_address(l->ip);
  const struct sockaddr *to = l->tcp ? (struct sockaddr *)&un : (struct sockaddr *)&in;
  int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  *connecting = false;
  if (connect(fd, to, l->tcp ? sizeof un : sizeof in) == 0) return fd;
  *connecting = errno == EINPROGRESS;
  if (*connecting) return fd;
  close(fd);
  return -1;
}

static void take(const struct listener *l) {
  int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  bool connecting = false;
  int other = n_pairs < PAIRS_MAX ? connect_for(l, &connecting) : -1;
  struct way *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
  if (other < 0 || a == NULL || b == NULL) {
    close(fd);
    if (other >= 0) close(other);
    free(a);
    free(b);
    return;
  }
  pairs[n_pairs++] = (struct pair){.fd = {fd, other}, .connecting = connecting, .way = {a, b}};
}

static void end(int number) {
  struct pair *p = &pairs[number];
  for (int i = 0; i < 2; i++) {
    close(p->fd[i]);
    free(p->way[i]);
  }
  *p = pairs[--n_pairs];
}

/* False at the end of either side. */
static bool push(struct way *w, int to) {
  while (w->len > 0) {
    ssize_t n = send(to, w->bytes + w->at, w->len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    w->at += (size_t)n;
    w->len -= (size_t)n;
  }
  w->at = 0;
  return true;
}

static bool pull(struct way *w, int from, int to) {
  ssize_t n = w->len > 0 ? 1 : recv(from, w->bytes, sizeof w->bytes, 0);
  if (n == 0) return false;
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (w->len == 0) w->len = (size_t)n;
  return push(w, to);
}

static bool carry(struct pair *p, const short ready[2]) {
  if (p->connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    if (ready[1] == 0) return (ready[0] & (POLLHUP | POLLERR)) == 0;
    if (getsockopt(p->fd[1], SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return false;
    p->connecting = false;
    return true;
  }
  for (int i = 0; i < 2; i++) {
    if ((ready[1 - i] & POLLOUT) != 0 && !push(p->way[i], p->fd[1 - i])) return false;
    if ((ready[i] & (POLLIN | POLLHUP | POLLERR)) != 0 && !pull(p->way[i], p->fd[i], p->fd[1 - i])) return false;
  }
  return true;
}

static void watch(const struct pair *p, struct pollfd out[2]) {
  for (int i = 0; i < 2; i++) {
    bool reads = !p->connecting && p->way[i]->len == 0, writes = p->connecting ? i == 1 : p->way[1 - i]->len > 0;
    out[i] = (struct pollfd){p->fd[i], (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0};
    /* A hang-up is told whether asked for or not: not again and again while the other side does not take what is left.
     */
    if (!reads && !writes && !p->connecting) out[i].fd = -1;
  }
}

static void turn(void) {
  static struct pollfd polled[1 + LISTENERS_MAX + 2 * PAIRS_MAX];
  int first = 1 + n_listeners, before = n_pairs;
  polled[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
  for (int i = 0; i < n_listeners; i++) polled[1 + i] = (struct pollfd){listeners[i].fd, POLLIN, 0};
  for (int i = 0; i < n_pairs; i++) watch(&pairs[i], &polled[first + 2 * i]);
  if (poll(polled, (nfds_t)(first + 2 * n_pairs), -1) < 0) return;
  if (polled[0].revents != 0) exit(0);
  /* From the last on: one that ends is replaced by one that was looked at. */
  for (int i = before - 1; i >= 0; i--) {
    const struct pollfd *of = &polled[first + 2 * i];
    if (!carry(&pairs[i], (short[]){of[0].revents, of[1].revents})) end(i);
  }
  for (int i = 0; i < n_listeners; i++)
    if (polled[1 + i].revents != 0) take(&listeners[i]);
}

int main(int argc, char **argv) {
  if (argc < 4 || argc % 2 != 0 || (argc - 4) / 2 >= LISTENERS_MAX)
    return fputs("usage: relay IP PORT OWN_SOCKET [PEER_SOCKET PEER_IP]...\n", stderr), 2;
  port = (uint16_t)strtoul(argv[2], NULL, 10);
  listeners[n_listeners++] = (struct listener){listen_inet(argv[1]), true, argv[3], NULL};
  for (int i = 4; i < argc; i += 2)
    listeners[n_listeners++] = (struct listener){listen_unix(argv[i]), false, argv[i], argv[i + 1]};
  for (int i = 0; i < n_listeners; i++)
    if (listeners[i].fd < 0) return 1;
  puts("ready");
  fflush(stdout);
  for (;;) turn();
}
