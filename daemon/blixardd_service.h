/* What blixardd(8) tells the service manager that started it, if one did. */
#ifndef BLXD_SERVICE_H
#define BLXD_SERVICE_H

#include <blixard/blixard.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* sd_notify(3)'s protocol, without its library: lines "READY=1", "STATUS=..." in one datagram to $NOTIFY_SOCKET.
 * Without that variable nothing happens. False: nobody was told. */
bool service_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line of the daemon's log; blixardd.c. */
void daemon_log(int level, const char *message);

/* The node asked about itself every few seconds: its answer is the status and, where a watchdog waits, the sign of
 * life. A node whose loop stands still gives none. */
struct service_watch {
  blx_client *client; /* NULL: nobody wants to know */
  int answer_fd;      /* an eventfd: an answer came */
  uint32_t every_ms;
  bool watchdog;
  bool in_flight;
  pthread_mutex_t lock; /* what follows is written on the client's thread */
  bool alive;
  char answer[160];
  char told[160]; /* the main thread's own */
};

/* Prepare; asks nobody when nobody listens. What fails is logged by the caller from @err. */
int service_watch_open(struct service_watch *w, blx_node *node, blx_error *err);
/* Ask now, unless an answer is outstanding. */
void service_watch_ask(struct service_watch *w);
/* Take the answer that made answer_fd readable, and tell the service manager. */
void service_watch_tell(struct service_watch *w);
void service_watch_close(struct service_watch *w);

#endif
