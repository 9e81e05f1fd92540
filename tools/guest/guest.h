/* blixard-guest's parts. One thread, one poll loop, nothing allocated: every queue has its place from the beginning. */
#ifndef BLIXARD_GUEST_H
#define BLIXARD_GUEST_H

#include "vm/proto_guest.h"

#include <poll.h>
#include <sys/types.h>

enum {
  GUEST_OUT_MAX = 64 << 10,    /* bytes that wait for the port */
  GUEST_OUT_RESERVE = 1 << 10, /* of these, for what is no output of a command */
  GUEST_WORDS_MAX = 64,        /* of a command */
  GUEST_DRAIN_MS = 200,        /* for a terminal's last words, which come after its command's end */
  GUEST_POLLED = 2 + 3 * BLX__GUEST_SESSIONS_MAX,
};

struct guest_session {
  bool used;
  uint32_t id;
  pid_t pid; /* 0: it ended, and @status says how */
  int status;
  int in_fd, out_fd, err_fd; /* our ends; -1: closed. With a terminal, in and out are its master */
  bool tty;
  uint8_t in[BLX__GUEST_WINDOW]; /* for its standard input */
  size_t in_len;
  bool in_end;
  bool killed;       /* nobody wants its output */
  uint32_t in_cost;  /* what @in cost the host: given back when it is empty */
  uint32_t credit;   /* what may be sent */
  uint64_t drain_at; /* when its terminal is given up; 0: not yet */
};

struct guest_agent {
  const char *port;
  bool name_host, power_off;
  int fd, signal_fd;
  bool named;
  char hello[48]; /* our name, and what tells this life from others */
  uint8_t out[GUEST_OUT_MAX];
  size_t out_len;
  struct guest_session session[BLX__GUEST_SESSIONS_MAX];
};

/* main.c */
void guest_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t guest_now_ms(void);
/* False: the queue is full. Output leaves GUEST_OUT_RESERVE to the rest. */
bool guest_queue(struct guest_agent *a, const struct blx__guest_msg *msg);

/* exec.c */
void guest_exec_message(struct guest_agent *a, const struct blx__guest_msg *msg);
/* What sessions wait for, as entries of @p from @n on; returns how many there are then. */
nfds_t guest_exec_polled(struct guest_agent *a, struct pollfd *p, nfds_t n);
/* Move what can be moved, take ended children, tell of ends. Returns ms until it must be called again, or -1. */
int guest_exec_step(struct guest_agent *a);
void guest_exec_kill_all(struct guest_agent *a); /* the host is gone */

/* spawn.c: false, with errno. The descriptors of @s become our ends, which do not block. */
bool guest_spawn(struct guest_session *s, char *const *words, uint32_t size);
void guest_resize(const struct guest_session *s, uint32_t size);

/* info.c */
void guest_stats(struct guest_agent *a, uint32_t tag);
void guest_clock(const struct blx__guest_msg *msg);

#endif
