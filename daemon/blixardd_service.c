#include "blixardd_service.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ASK_MS = 2000, CALL_MS = 10000, MESSAGE_MAX = 512 };

/* The address of the service manager; false: there is none that could be understood. */
static bool manager_address(struct sockaddr_un *to, socklen_t *size) {
  const char *path = getenv("NOTIFY_SOCKET");
  if (path == NULL || (path[0] != '/' && path[0] != '@')) return false;
  size_t len = strlen(path);
  if (len < 2 || len >= sizeof to->sun_path) return false;
  *to = (struct sockaddr_un){.sun_family = AF_UNIX};
  memcpy(to->sun_path, path, len);
  if (path[0] == '@') to->sun_path[0] = '\0'; /* an abstract name begins with a zero, and has none at its end */
  *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  return true;
}

/* A manager that is gone or slow is not waited for: the node matters more than what is told about it. */
bool service_notify(const char *fmt, ...) {
  char message[MESSAGE_MAX];
  struct sockaddr_un to;
  socklen_t size = 0;
  if (!manager_address(&to, &size)) return false;
  va_list ap;
  va_start(ap, fmt);
  int len = vsnprintf(message, sizeof message, fmt, ap);
  va_end(ap);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  bool sent = fd >= 0 && len > 0 && len < MESSAGE_MAX &&
              sendto(fd, message, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&to, size) == len;
  if (!sent) {
    snprintf(message, sizeof message, "the service manager could not be told: %s", strerror(errno));
    daemon_log(BLX_LOG_WARNING, message);
  }
  if (fd >= 0) close(fd);
  return sent;
}

/* How long the service manager waits for a sign of life, in ms; 0: it waits for none of this process. */
static uint32_t watchdog_ms(void) {
  const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
  char *end = NULL;
  if (text == NULL || (pid != NULL && strtoull(pid, NULL, 10) != (unsigned long long)getpid())) return 0;
  errno = 0;
  unsigned long long us = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || us < 1000) return 0;
  return us / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(us / 1000);
}

int service_watch_open(struct service_watch *w, blx_node *node, blx_error *err) {
  struct sockaddr_un to;
  socklen_t size = 0;
  *w = (struct service_watch){.answer_fd = -1, .every_ms = ASK_MS, .lock = PTHREAD_MUTEX_INITIALIZER};
  if (!manager_address(&to, &size)) return 0;
  uint32_t dog_ms = watchdog_ms();
  w->watchdog = dog_ms != 0;
  /* Three chances within the time allowed. */
  if (dog_ms != 0 && dog_ms / 3 < ASK_MS) w->every_ms = dog_ms / 3 > 0 ? dog_ms / 3 : 1;
  const char *address = blx_node_address(node);
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  options.addresses = &address;
  options.n_addresses = 1;
  options.timeout_ms = CALL_MS;
  w->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (w->answer_fd < 0) {
    *err = (blx_error){.code = BLX_E_IO};
    snprintf(err->message, sizeof err->message, "no eventfd: %s", strerror(errno));
    return err->code;
  }
  return blx_client_open(&options, &w->client, err);
}

/* One sentence for people, as `systemctl status` shows it. */
static void describe(const struct blx_cluster_status *st, char *out, size_t size) {
  uint32_t instances = 0;
  const char *self = st->answered_by != NULL ? st->answered_by : "";
  const char *leader = st->leader != NULL ? st->leader : "";
  if (st->id == NULL || *st->id == '\0') {
    snprintf(out, size, "in no cluster yet: blixard cluster init, or join");
    return;
  }
  for (size_t i = 0; i < st->n_nodes; i++)
    if (strcmp(st->nodes[i]->name, self) == 0) instances = st->nodes[i]->instances;
  const char *plural = instances == 1 ? "" : "s";
  if (*leader == '\0')
    snprintf(out, size, "no leader at the moment, %u instance%s", instances, plural);
  else if (strcmp(leader, self) == 0)
    snprintf(out, size, "leader, %u instance%s", instances, plural);
  else
    snprintf(out, size, "follower of %s, %u instance%s", leader, instances, plural);
}

static void on_answer(void *user, const blx_error *err, struct blx_cluster_status *st) {
  struct service_watch *w = user;
  int code = err != NULL ? err->code : 0;
  uint64_t one = 1;
  pthread_mutex_lock(&w->lock);
  /* A refusal is an answer; these two are made by the client itself when none came. */
  w->alive = code != BLX_E_TIMEOUT && code != BLX_E_UNAVAILABLE && code != BLX_E_CANCELLED;
  if (code == 0 && st != NULL)
    describe(st, w->answer, sizeof w->answer);
  else
    snprintf(w->answer, sizeof w->answer, "%.140s", err != NULL ? err->message : "");
  pthread_mutex_unlock(&w->lock);
  blx_cluster_status_free(st);
  if (write(w->answer_fd, &one, sizeof one) < 0) errno = 0; /* full: it wakes all the same */
}

void service_watch_ask(struct service_watch *w) {
  struct blx_cluster_status_request request = BLX_CLUSTER_STATUS_REQUEST_INIT;
  blx_error err;
  if (w->client == NULL || w->in_flight) return;
  request.stale = 1;
  w->in_flight = blx_cluster_status_get_async(w->client, &request, on_answer, w, &err) == 0;
}

void service_watch_tell(struct service_watch *w) {
  uint64_t count = 0;
  char answer[sizeof w->answer];
  if (read(w->answer_fd, &count, sizeof count) != (ssize_t)sizeof count) return;
  w->in_flight = false;
  pthread_mutex_lock(&w->lock);
  bool alive = w->alive;
  memcpy(answer, w->answer, sizeof answer);
  pthread_mutex_unlock(&w->lock);
  if (w->watchdog && alive) service_notify("WATCHDOG=1");
  if (strcmp(answer, w->told) == 0) return;
  if (service_notify("STATUS=%s", answer)) memcpy(w->told, answer, sizeof w->told);
}

void service_watch_close(struct service_watch *w) {
  blx_client_close(w->client); /* completes what is in flight */
  w->client = NULL;
  if (w->answer_fd >= 0) close(w->answer_fd);
  w->answer_fd = -1;
}
