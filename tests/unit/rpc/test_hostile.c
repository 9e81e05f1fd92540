#include "../harness.h"

#include "base/digest.h"
#include "io/process.h"
#include "io/stream.h"
#include "support_service.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A connection that speaks what it likes. */
struct raw {
  struct world *w;
  struct blx__stream *stream;
  size_t got;
  bool closed;
  int *open;
};

static void raw_bytes(void *user, const uint8_t *p, size_t n) {
  struct raw *r = user;
  (void)p;
  r->got += n;
}

static void raw_closed(void *user, const blx_error *why) {
  struct raw *r = user;
  (void)why;
  r->closed = true;
  r->stream = NULL;
  if (--*r->open == 0) blx__loop_stop(r->w->loop);
}

static const struct blx__stream_ops raw_ops = {NULL, raw_bytes, NULL, raw_closed};

static void raw_open(struct world *w, struct raw *r, int *open) {
  *r = (struct raw){.w = w, .open = open};
  ++*open;
  ck_assert_int_eq(blx__stream_connect(w->loop, w->path, &raw_ops, r, &r->stream, NULL).code, 0);
}

static struct blx__rpc_server_stats stats_of(struct world *w) {
  struct blx__rpc_server_stats s;
  blx__rpc_server_stats(w->server, &s);
  return s;
}

static void still_answers(struct world *w) {
  struct answer a = ask(w, "/t.T/Echo", "x", 1, 10000);
  ck_assert(!a.failed);
  free(a.bytes);
}

static void send_noise(struct world *w, uint64_t seed) {
  struct raw r;
  int open = 0;
  uint8_t noise[512];
  raw_open(w, &r, &open);
  size_t n = 0;
  if (seed % 4 == 1) n = (size_t)snprintf((char *)noise, sizeof noise, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  if (seed % 4 >= 2) { /* a good preface, then noise that looks like frames */
    memcpy(noise, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    n = 33;
  }
  for (uint64_t x = seed; n < sizeof noise; n++) noise[n] = (uint8_t)(x = blx__mix64(x + n));
  if (seed % 4 == 2) noise[33] = 0x7f;                            /* a frame of 8 MiB */
  if (seed % 4 == 3) memcpy(noise + 33, "\0\0\4\3\0\0\0\0\0", 9); /* RST_STREAM of stream 0 */
  ck_assert(blx__stream_write(r.stream, noise, sizeof noise));
  blx__loop_run(w->loop);
  ck_assert(r.closed);
}

START_TEST(noise__is_closed_and_counted_and_leaves_no_memory_behind) {
  struct world w;
  world_open(&w);
  for (uint64_t i = 0; i < 40; i++) send_noise(&w, i);
  still_answers(&w);
  size_t before = mallinfo2().uordblks;
  for (uint64_t i = 0; i < 400; i++) send_noise(&w, i);
  still_answers(&w);
  ck_assert_uint_le(mallinfo2().uordblks, before + 200000);
  struct blx__rpc_server_stats s = stats_of(&w);
  ck_assert_uint_eq(s.noise, 440);
  ck_assert_uint_eq(s.connections, 1);
  world_close(&w);
}
END_TEST

static void more_descriptors(void) {
  struct rlimit l;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
  l.rlim_cur = l.rlim_max;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
}

START_TEST(connections__that_never_begin_are_cut_and_the_others_are_served) {
  struct world w;
  more_descriptors();
  world_open(&w);
  enum { SILENT = 300 };
  struct raw *r = calloc(SILENT, sizeof *r);
  int open = 0;
  for (int i = 0; i < SILENT; i++) {
    raw_open(&w, &r[i], &open);
    ck_assert(blx__stream_write(r[i].stream, "P", 1));
  }
  still_answers(&w);
  while (open > 0) blx__loop_run(w.loop);
  ck_assert_uint_eq(stats_of(&w).cut_preface, SILENT);
  still_answers(&w);
  free(r);
  world_close(&w);
}
END_TEST

struct closing {
  struct world *w;
  int open;
};

static void one_closed(void *user) {
  struct closing *c = user;
  if (--c->open == 0) blx__loop_stop(c->w->loop);
}

START_TEST(five_hundred_idle_connections__stay_and_each_is_served) {
  struct world w;
  more_descriptors();
  world_open(&w);
  enum { IDLE = 500 };
  struct blx__rpc_conn *mine = w.conn, **conns = calloc(IDLE, sizeof(struct blx__rpc_conn *));
  for (int i = 0; i < IDLE; i++) {
    ck_assert_int_eq(blx__rpc_conn_new(w.loop, w.path, &conns[i], NULL).code, 0);
    w.conn = conns[i];
    still_answers(&w);
  }
  ck_assert_uint_eq(stats_of(&w).connections, IDLE);
  for (int i = 0; i < IDLE; i += 50) {
    w.conn = conns[i];
    still_answers(&w);
  }
  struct closing c = {&w, IDLE};
  for (int i = 0; i < IDLE; i++) blx__rpc_conn_close(conns[i], one_closed, &c);
  blx__loop_run(w.loop);
  w.conn = mine;
  free(conns);
  world_close(&w);
}
END_TEST

START_TEST(connections__over_the_maximum_are_closed_and_counted) {
  struct world w;
  more_descriptors();
  world_open(&w);
  enum { MANY = BLX__RPC_CONNECTIONS_MAX + 50 };
  struct raw *r = calloc(MANY, sizeof *r);
  int open = 0;
  still_answers(&w);
  for (int i = 0; i < MANY; i++) raw_open(&w, &r[i], &open);
  for (int closed = 0; closed < 50;) {
    still_answers(&w); /* on the connection made before the flood */
    closed = 0;
    for (int i = 0; i < MANY; i++) closed += r[i].closed;
  }
  ck_assert_uint_ge(stats_of(&w).refused_full, 50);
  for (int i = 0; i < MANY; i++)
    if (r[i].stream) blx__stream_close(r[i].stream);
  while (open > 0) blx__loop_run(w.loop);
  free(r);
  world_close(&w);
}
END_TEST

/* As user 65534, without the loop: what the child gets from the server, 0 bytes and the end. */
static void as_nobody(const char *path) {
  struct sockaddr_un sa = {.sun_family = AF_UNIX};
  (void)blx__str_copy(sa.sun_path, sizeof sa.sun_path, path);
  if (setgid(65534) != 0 || setuid(65534) != 0) _exit(3);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) _exit(4);
  char c;
  _exit(read(fd, &c, 1) == 0 ? 0 : 5);
}

static void nobody_ended(void *user) {
  blx__loop_stop(user);
}

START_TEST(another_user__is_refused_and_counted) {
  if (geteuid() != 0) return;
  struct world w;
  world_open(&w);
  ck_assert_int_eq(chmod(w.dir, 0755), 0);
  ck_assert_int_eq(chmod(w.path, 0666), 0);
  pid_t pid = fork();
  if (pid == 0) as_nobody(w.path);
  struct blx__pidwatch *watch = NULL;
  ck_assert_int_eq(blx__pidwatch_open(w.loop, pid, nobody_ended, w.loop, &watch, NULL).code, 0);
  blx__loop_run(w.loop);
  blx__pidwatch_close(watch);
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_int_eq(WEXITSTATUS(status), 0);
  ck_assert_uint_eq(stats_of(&w).refused_user, 1);
  still_answers(&w);
  world_close(&w);
}
END_TEST

BLX_TEST_MAIN("rpc/hostile", noise__is_closed_and_counted_and_leaves_no_memory_behind,
              connections__that_never_begin_are_cut_and_the_others_are_served,
              five_hundred_idle_connections__stay_and_each_is_served,
              connections__over_the_maximum_are_closed_and_counted, another_user__is_refused_and_counted)
