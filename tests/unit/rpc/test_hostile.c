#include "../harness.h"

#include "base/digest.h"
#include "io/process.h"
#include "io/stream.h"
#include "support_raw.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GROWTH_MAX_BYTES = 4 << 20 };

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

/* Write @n bytes of noise behind @head until the server has had enough of it. Returns how many it took. */
static size_t pour(struct world *w, const void *head, size_t head_len, size_t n, uint64_t seed) {
  struct raw r;
  int open = 0;
  size_t poured = 0;
  uint8_t noise[65536];
  raw_open(w, &r, &open);
  if (head_len > 0) ck_assert(blx__stream_write(r.stream, head, head_len));
  while (!r.closed && poured < n) {
    for (size_t i = 0; i + 8 <= sizeof noise; i += 8) {
      seed = blx__mix64(seed + i);
      memcpy(noise + i, &seed, sizeof seed);
    }
    if (r.stream && blx__stream_write(r.stream, noise, sizeof noise)) poured += sizeof noise;
    settle(w);
  }
  ck_assert(r.closed);
  return poured;
}

START_TEST(ten_megabytes_of_noise__cost_no_memory_and_hold_up_nobody) {
  /* Nothing; a client's first words; those, and the head of a frame of 16 KiB for a call that is not there; those, and
   * a ping of 8 MiB; the same of a later version. */
  static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
  static const struct {
    const char *bytes;
    size_t len;
  } heads[] = {{"", 0},
               {hello, 24},
               {hello, 33},
               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\100\0\0\0\0\0\0\1", 42},
               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\177\377\377\6\0\0\0\0\0", 42},
               {"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", 24}};
  struct world w;
  world_open(&w);
  still_answers(&w);
  (void)pour(&w, "", 0, 1, 1);
  size_t before = mallinfo2().uordblks, poured = 0;
  uint64_t connections = 0;
  for (; poured < 10u << 20; connections++) {
    poured += pour(&w, heads[connections % BLX__COUNT(heads)].bytes, heads[connections % BLX__COUNT(heads)].len,
                   10u << 20, connections);
    if (connections % 20 == 0) still_answers(&w);
    ck_assert_uint_le(mallinfo2().uordblks, before + GROWTH_MAX_BYTES);
  }
  still_answers(&w);
  settle(&w);
  ck_assert_uint_le(mallinfo2().uordblks, before + 200000);
  ck_assert_uint_eq(stats_of(&w).noise, connections + 1);
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

enum { IDLE_CONNECTIONS = 2000 };

/* In a process of its own, without the loop: connect, say the first @a bytes of what a caller says before its first
 * call, on every other connection @b of them, and wait until each is closed. */
static void idle_about(const char *path, size_t a, size_t b) {
  struct sockaddr_un sa = {.sun_family = AF_UNIX};
  (void)blx__str_copy(sa.sun_path, sizeof sa.sun_path, path);
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a check fails */
  static int fds[IDLE_CONNECTIONS];
  for (int i = 0; i < IDLE_CONNECTIONS; i++) {
    fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&sa, sizeof sa) != 0) _exit(4);
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (write(fds[i], hello, i % 2 ? b : a) < 0) _exit(5);
  }
  char c[64];
  for (int i = 0; i < IDLE_CONNECTIONS; i++)
    while (read(fds[i], c, sizeof c) > 0) continue;
  _exit(0);
}

static void child_ended(void *user) {
  blx__loop_stop(user);
}

/* @stay: so many of them may, to the end. */
static void be_idled_about(size_t a, size_t b, unsigned stay) {
  struct world w;
  more_descriptors();
  world_open(&w);
  still_answers(&w);
  size_t before = mallinfo2().uordblks;
  pid_t pid = fork();
  if (pid == 0) idle_about(w.path, a, b);
  struct blx__pidwatch *watch = NULL;
  ck_assert_int_eq(blx__pidwatch_open(w.loop, pid, child_ended, w.loop, &watch, NULL).code, 0);
  while (stats_of(&w).accepted < IDLE_CONNECTIONS + 1) still_answers(&w);
  ck_assert_uint_le(mallinfo2().uordblks, before + GROWTH_MAX_BYTES);
  while (stats_of(&w).connections > stay + 1) {
    still_answers(&w);
    settle(&w);
  }
  ck_assert_uint_le(mallinfo2().uordblks, before + GROWTH_MAX_BYTES);
  struct blx__rpc_server_stats s = stats_of(&w);
  ck_assert_uint_eq(s.cut_preface + s.closed_idle + s.connections, IDLE_CONNECTIONS + 1);
  ck_assert_int_eq(kill(pid, SIGKILL), 0);
  while (waitpid(pid, NULL, WNOHANG) == 0) blx__loop_run(w.loop);
  blx__pidwatch_close(watch);
  while (stats_of(&w).connections > 1) settle(&w);
  ck_assert_uint_le(mallinfo2().uordblks, before + 200000);
  world_close(&w);
}

START_TEST(two_thousand_connections__that_say_nothing_are_cut_and_take_next_to_no_memory) {
  be_idled_about(0, 23, 0);
}
END_TEST

START_TEST(two_thousand_connections__that_call_nothing_are_closed_but_for_the_last_hundred) {
  be_idled_about(24, 33, BLX__RPC_IDLE_MAX);
}
END_TEST

/* Looks at the memory after each turn of the loop, before what the turn put off is done. */
struct memory_peak {
  struct blx__defer each_turn;
  struct blx__loop *loop;
  size_t bytes;
  unsigned turns;
};

static void look_at_memory(void *arg) {
  struct memory_peak *m = arg;
  size_t now = mallinfo2().uordblks;
  if (now > m->bytes) m->bytes = now;
  m->turns++;
  blx__loop_defer(m->loop, &m->each_turn);
}

START_TEST(two_thousand_connections__that_begin_in_one_turn_take_the_memory_of_a_hundred) {
  static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  struct world w;
  struct sockaddr_un sa = {.sun_family = AF_UNIX};
  static int fds[IDLE_CONNECTIONS];
  more_descriptors();
  world_open(&w);
  (void)blx__str_copy(sa.sun_path, sizeof sa.sun_path, w.path);
  for (int i = 0; i < IDLE_CONNECTIONS; i++) {
    fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(fds[i], 0);
    while (connect(fds[i], (struct sockaddr *)&sa, sizeof sa) != 0) {
      ck_assert_int_eq(errno, EAGAIN);
      still_answers(&w);
    }
    ck_assert_int_eq(write(fds[i], hello, 23), 23);
  }
  while (stats_of(&w).accepted < IDLE_CONNECTIONS + 1) still_answers(&w);
  struct memory_peak m = {.loop = w.loop};
  size_t before = mallinfo2().uordblks;
  for (int i = 0; i < IDLE_CONNECTIONS; i++) ck_assert_int_eq(write(fds[i], hello + 23, 1), 1);
  blx__defer_init(&m.each_turn, look_at_memory, &m);
  blx__loop_defer(w.loop, &m.each_turn);
  while (stats_of(&w).connections > BLX__RPC_IDLE_MAX + 1) still_answers(&w);
  blx__loop_undefer(&m.each_turn);
  ck_assert_uint_gt(m.turns, 2);
  ck_assert_uint_le(m.bytes, before + GROWTH_MAX_BYTES);
  for (int i = 0; i < IDLE_CONNECTIONS; i++) ck_assert_int_eq(close(fds[i]), 0);
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

START_TEST(five_hundred_idle_callers__are_each_served_and_take_the_memory_of_a_hundred) {
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
  ck_assert_uint_le(stats_of(&w).connections, BLX__RPC_IDLE_MAX + 1);
  ck_assert_uint_ge(stats_of(&w).closed_idle, IDLE - BLX__RPC_IDLE_MAX - 1);
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

START_TEST(another_user__is_refused_and_counted) {
  if (geteuid() != 0) return;
  struct world w;
  world_open(&w);
  ck_assert_int_eq(chmod(w.dir, 0755), 0);
  ck_assert_int_eq(chmod(w.path, 0666), 0);
  pid_t pid = fork();
  if (pid == 0) as_nobody(w.path);
  struct blx__pidwatch *watch = NULL;
  ck_assert_int_eq(blx__pidwatch_open(w.loop, pid, child_ended, w.loop, &watch, NULL).code, 0);
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
              ten_megabytes_of_noise__cost_no_memory_and_hold_up_nobody,
              two_thousand_connections__that_say_nothing_are_cut_and_take_next_to_no_memory,
              two_thousand_connections__that_call_nothing_are_closed_but_for_the_last_hundred,
              two_thousand_connections__that_begin_in_one_turn_take_the_memory_of_a_hundred,
              connections__that_never_begin_are_cut_and_the_others_are_served,
              five_hundred_idle_callers__are_each_served_and_take_the_memory_of_a_hundred,
              connections__over_the_maximum_are_closed_and_counted, another_user__is_refused_and_counted)
