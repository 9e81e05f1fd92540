/* blixard-shim itself, with a monitor that is a shell script and a guest that is this test: guests of version 1, mute
 * ones and hostile ones are hard to boot. */
#include "../harness.h"
#include "support_boot.h"

#include "io/file.h"
#include "vm/proto_guest.h"
#include "vm/proto_shim.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 20000, UID = 7, RSS_MAX_KIB = 2048 };

static char dir[64];
static pid_t monitor;
static int guest_port, guest_listener; /* the guest's end */
static struct blx__guest_reader guest_reader;

static void path_of(const char *name, char out[100]) {
  ck_assert(blx__str_format(out, 100, "%s/%s", dir, name));
}

static struct sockaddr_un address(const char *name) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  path_of(name, addr.sun_path);
  return addr;
}

static void wait_readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
}

/* A connection to the shim that waits at most WAIT_MS for what it reads. */
static int connect_shim(void) {
  struct sockaddr_un addr = address("ctl.sock");
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
  return fd;
}

static void start_shim(const char *script, const char *more) {
  char shim[PATH_MAX], path[100], command[PATH_MAX + 256], text[256];
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blixard-shim-XXXXXX");
  ck_assert(mkdtemp(dir) != NULL && boot_program("blixard-shim", shim));
  const char *const folders[] = {"booted", "booted/bin"};
  for (unsigned i = 0; i < 2; i++) {
    path_of(folders[i], path);
    ck_assert_int_eq(mkdir(path, 0755), 0);
  }
  path_of("booted/bin/microvm-run", path);
  (void)blx__str_format(text, sizeof text, "#!/bin/sh\necho $$ >../pid\n%s\n", script);
  ck_assert_int_eq(blx__file_write_atomic(path, text, strlen(text), 0755, NULL).code, 0);
  (void)blx__str_format(command, sizeof command,
                        "%s --dir %s --instance web-1 --uid %d --epoch 1 --memory-mib 64 --vcpus 1 %s", shim, dir, UID,
                        more);
  ck_assert_int_eq(system(command), 0);
  path_of("pid", path);
  FILE *f = NULL;
  for (unsigned i = 0; i < 500 && (monitor == 0 || !f); i++) {
    if (f) (void)fclose(f);
    f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &monitor) != 1) monitor = 0;
    (void)usleep(10000);
  }
  ck_assert_int_gt(monitor, 1);
  (void)fclose(f);
}

static void stop_shim(void) {
  char path[100];
  ck_assert_int_eq(kill(monitor, SIGKILL), 0);
  path_of("exit", path);
  for (unsigned i = 0; i < 500 && access(path, F_OK) != 0; i++) (void)usleep(10000);
  monitor = 0;
  path_of("ctl.sock", path);
  for (unsigned i = 0; i < 500 && access(path, F_OK) == 0; i++) (void)usleep(10000);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

/* ---- as the guest */

static void guest_send(const struct blx__guest_msg *msg) {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t n = blx__guest_write(msg, frame);
  ck_assert_int_eq(send(guest_port, frame, n, MSG_NOSIGNAL), (ssize_t)n);
}

static struct blx__guest_msg guest_await(enum blx__guest_type type) {
  struct blx__guest_msg msg;
  for (;;) {
    uint8_t byte;
    size_t taken;
    wait_readable(guest_port);
    ck_assert_int_eq(recv(guest_port, &byte, 1, 0), 1);
    if (blx__guest_read(&guest_reader, &byte, 1, &taken, &msg) && msg.type == type) return msg;
  }
}

static void guest_open(unsigned version) {
  struct sockaddr_un addr = address("work/blixard-guest.sock");
  guest_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  guest_reader = (struct blx__guest_reader){0};
  ck_assert_int_eq(bind(guest_listener, (const struct sockaddr *)&addr, sizeof addr), 0);
  ck_assert_int_eq(listen(guest_listener, 1), 0);
  wait_readable(guest_listener);
  guest_port = accept(guest_listener, NULL, NULL);
  ck_assert_int_ge(guest_port, 0);
  (void)guest_await(BLX__GUEST_HELLO);
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_HELLO, .value = version, .text = "blixard-guest 1"});
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_READY});
}

static void guest_close(void) {
  (void)close(guest_port);
  (void)close(guest_listener);
}

/* ---- as the agent */

struct agent {
  int fd;
  struct blx__session_reader reader;
  struct blx__session_msg msg;
};

static void agent_send(struct agent *a, const struct blx__session_msg *msg) {
  uint8_t frame[BLX__SESSION_FRAME_MAX];
  size_t n = blx__session_write(msg, frame);
  ck_assert_int_eq(send(a->fd, frame, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void agent_open(struct agent *a, const char *word) {
  *a = (struct agent){.fd = connect_shim()};
  struct blx__session_msg m = {.type = BLX__SESSION_OPEN, .uid = UID, .data = (const uint8_t *)word};
  m.data_len = word ? strlen(word) + 1 : 0;
  agent_send(a, &m);
}

static void agent_await(struct agent *a, enum blx__session_type type) {
  bool got = false;
  while (!got || a->msg.type != type) {
    uint8_t bytes[BLX__SESSION_FRAME_MAX];
    size_t taken, want = blx__session_want(&a->reader);
    wait_readable(a->fd);
    ssize_t n = recv(a->fd, bytes, want, 0);
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(blx__session_read(&a->reader, bytes, (size_t)n, &taken, &got, &a->msg, NULL).code, 0);
  }
}

/* The end that comes; closes. */
static void expect_end(struct agent *a, int code, const char *text) {
  char said[BLX__SESSION_TEXT_MAX + 1];
  agent_await(a, BLX__SESSION_END);
  blx__session_text(&a->msg, said);
  ck_assert_msg(a->msg.a == code && strstr(said, text), "%d: %s", a->msg.a, said);
  (void)close(a->fd);
}

START_TEST(shim__of_a_guest_of_version_1_or_of_none__says_that_commands_are_not_supported) {
  struct agent a;
  start_shim("exec sleep 1000", "");
  guest_open(1);
  agent_open(&a, "true");
  expect_end(&a, BLX_E_UNSUPPORTED, "too old");
  /* And it was sent nothing of version 2. */
  struct pollfd p = {.fd = guest_port, .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, 300), 0);
  stop_shim();
  guest_close();
  start_shim("exec sleep 1000", "--ready-none");
  agent_open(&a, "true");
  expect_end(&a, BLX_E_UNSUPPORTED, "no blixard-guest answers");
  stop_shim();
}
END_TEST

START_TEST(shim__with_a_guest_that_breaks_the_rules__ends_that_session_only) {
  static const uint8_t data[BLX__GUEST_DATA_MAX];
  struct agent greedy, absurd, good;
  start_shim("exec sleep 1000", "");
  guest_open(2);
  agent_open(&greedy, "greedy");
  uint32_t first = guest_await(BLX__GUEST_EXEC).session;
  agent_open(&absurd, "absurd");
  uint32_t second = guest_await(BLX__GUEST_EXEC).session;
  agent_open(&good, "good");
  uint32_t third = guest_await(BLX__GUEST_EXEC).session;
  ck_assert(first != second && second != third);
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = second, .arg = 7 << 16});
  expect_end(&absurd, BLX_E_VMM_PROTOCOL, "cannot be");
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = 12345}); /* there is none */
  /* The agent does not read, so the sockets fill and no credit comes; this guest goes on all the same. */
  struct blx__guest_msg out = {.type = BLX__GUEST_EXEC_OUT, .session = first, .data = data, .data_len = sizeof data};
  for (unsigned i = 0; i < 400; i++) guest_send(&out);
  expect_end(&greedy, BLX_E_VMM_PROTOCOL, "more than it was allowed");
  ck_assert_uint_eq(guest_await(BLX__GUEST_EXEC_KILL).session, first);
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_ERR, .session = third, .data = data, .data_len = 5});
  agent_await(&good, BLX__SESSION_ERRORS);
  ck_assert_uint_eq(good.msg.data_len, 5);
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = third, .arg = BLX__GUEST_EXITED | 9});
  agent_await(&good, BLX__SESSION_END);
  ck_assert(good.msg.a == 0 && good.msg.b == 9);
  (void)close(good.fd);
  stop_shim();
  guest_close();
}
END_TEST

START_TEST(shim__with_an_agent_that_breaks_the_rules__ends_its_session) {
  struct agent a;
  struct blx__session_msg open = {
      .type = BLX__SESSION_OPEN, .uid = UID + 1, .data = (const uint8_t *)"x", .data_len = 2};
  uint8_t frame[BLX__SESSION_FRAME_MAX];
  start_shim("exec sleep 1000", "");
  guest_open(2);
  a = (struct agent){.fd = connect_shim()};
  agent_send(&a, &open);
  expect_end(&a, BLX_E_CONFLICT, "this is instance 7, not 8");
  a = (struct agent){.fd = connect_shim()};
  open.uid = UID;
  size_t n = blx__session_write(&open, frame);
  frame[5] = 9;
  ck_assert_int_eq(send(a.fd, frame, n, 0), (ssize_t)n);
  expect_end(&a, BLX_E_UNSUPPORTED, "version 1 of sessions, the agent 9");
  a = (struct agent){.fd = connect_shim()};
  open.data_len = 1;
  agent_send(&a, &open);
  expect_end(&a, BLX_E_INVALID, "its last word has no end");
  agent_open(&a, "twice");
  open.data_len = 2;
  agent_send(&a, &open);
  expect_end(&a, BLX_E_VMM_PROTOCOL, "the first message");
  stop_shim();
  guest_close();
}
END_TEST

/* Ends that come twice, of sessions that never were, credit out of nothing, and frames that are none. */
START_TEST(shim__with_a_guest_that_lies__serves_the_next_one) {
  static const uint8_t noise[] = {0xb1, 0x17, 40, 0xff, 0xff, 0xff, 0xb1, 0x17, 33, 0, 0, 0, 0xb1, 0xb1, 0x17};
  struct agent a, b;
  start_shim("exec sleep 1000", "");
  guest_open(2);
  for (uint32_t session = 0; session < 40; session++)
    for (int type = BLX__GUEST_EXEC; type <= BLX__GUEST_STATS_REPLY; type++)
      guest_send(&(struct blx__guest_msg){.type = (enum blx__guest_type)type, .session = session, .arg = UINT32_MAX});
  agent_open(&a, "first");
  uint32_t first = guest_await(BLX__GUEST_EXEC).session;
  ck_assert_int_eq(send(guest_port, noise, sizeof noise, 0), sizeof noise);
  for (unsigned i = 0; i < 3; i++)
    guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = first, .arg = BLX__GUEST_EXITED | 5});
  agent_await(&a, BLX__SESSION_END);
  ck_assert(a.msg.a == 0 && a.msg.b == 5);
  (void)close(a.fd);
  agent_open(&b, "second");
  uint32_t second = guest_await(BLX__GUEST_EXEC).session;
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = first, .arg = BLX__GUEST_EXITED | 9});
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_OUT, .session = first, .data = noise, .data_len = 3});
  guest_send(&(struct blx__guest_msg){.type = BLX__GUEST_EXEC_EXIT, .session = second, .arg = BLX__GUEST_EXITED | 6});
  agent_await(&b, BLX__SESSION_END);
  ck_assert_msg(b.msg.a == 0 && b.msg.b == 6, "%d %d", b.msg.a, b.msg.b);
  (void)close(b.fd);
  stop_shim();
  guest_close();
}
END_TEST

/* ---- counters */

static uint64_t now_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void control_send(int fd, enum blx__shim_type type) {
  uint8_t frame[BLX__SHIM_FRAME_MAX];
  size_t n = blx__shim_write(&(struct blx__shim_msg){.type = type, .uid = UID, .epoch = 1}, frame);
  ck_assert_int_eq(send(fd, frame, n, MSG_NOSIGNAL), (ssize_t)n);
}

static struct blx__usage control_counters(int fd, struct blx__shim_reader *r) {
  struct blx__usage u = {0};
  for (;;) {
    struct blx__shim_msg m;
    uint8_t byte;
    size_t taken;
    bool got;
    wait_readable(fd);
    ck_assert_int_eq(recv(fd, &byte, 1, 0), 1);
    ck_assert_int_eq(blx__shim_read(r, &byte, 1, &taken, &got, &m, NULL).code, 0);
    if (!got || m.type != BLX__SHIM_COUNTERS) continue;
    blx__counters_take(&u, m.text);
    return u;
  }
}

static void guest_tell(uint32_t tag, uint64_t memory_kib, uint64_t available_kib, size_t cut) {
  const struct blx__guest_stats stats = {
      .uptime_ms = 5000, .memory_kib = memory_kib, .available_kib = available_kib, .load_milli = 70, .processes = 9};
  uint8_t bytes[BLX__GUEST_STATS_BYTES];
  blx__guest_stats_write(&stats, bytes);
  guest_send(&(struct blx__guest_msg){
      .type = BLX__GUEST_STATS_REPLY, .session = tag, .data = bytes, .data_len = sizeof bytes - cut});
}

START_TEST(counters__have_what_the_guest_says__and_nothing_of_one_that_is_mute_or_lies) {
  struct blx__shim_reader reader = {0};
  start_shim("exec sleep 1000", "");
  guest_open(2);
  int fd = connect_shim();
  control_send(fd, BLX__SHIM_HELLO);
  control_send(fd, BLX__SHIM_ASK);
  uint32_t tag = guest_await(BLX__GUEST_STATS).session;
  guest_tell(tag, 1000, 400, 0);
  struct blx__usage u = control_counters(fd, &reader);
  ck_assert(u.has_guest && u.guest_memory_bytes == 1024000 && u.guest_available_bytes == 409600);
  ck_assert(u.guest_uptime_ms == 5000 && u.guest_load_milli == 70 && u.guest_processes == 9 && !u.has_balloon);

  control_send(fd, BLX__SHIM_ASK); /* mute: told without it, soon; what comes after that is of no question */
  uint64_t before = now_ms();
  tag = guest_await(BLX__GUEST_STATS).session;
  u = control_counters(fd, &reader);
  ck_assert(!u.has_guest && now_ms() - before < 2000);
  guest_tell(tag, 1000, 400, 0);

  static const struct {
    uint64_t memory_kib, available_kib;
    size_t cut;
  } lies[] = {{1000, 1001, 0}, {0, 0, 0}, {UINT64_MAX, 5, 0}, {1ULL << 54, 5, 0}, {1000, 400, 1}, {1000, 400, 32}};
  for (unsigned i = 0; i < BLX__COUNT(lies); i++) {
    control_send(fd, BLX__SHIM_ASK);
    tag = guest_await(BLX__GUEST_STATS).session;
    guest_tell(tag - 1, 1000, 400, 0); /* the answer to another question */
    guest_tell(tag, lies[i].memory_kib, lies[i].available_kib, lies[i].cut);
    ck_assert_msg(!control_counters(fd, &reader).has_guest, "%u", i);
  }
  (void)close(fd);
  stop_shim();
  guest_close();
}
END_TEST

/* Its memory is for sessions that are there. */
static long rss_kib(void) {
  char path[64], line[128];
  long kib = 0;
  int parent = 0;
  (void)blx__str_format(path, sizeof path, "/proc/%d/status", monitor);
  FILE *f = fopen(path, "re");
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "PPid: %d", &parent) == 1) break;
  if (f) (void)fclose(f);
  (void)blx__str_format(path, sizeof path, "/proc/%d/status", parent);
  f = fopen(path, "re");
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
  if (f) (void)fclose(f);
  return kib;
}

START_TEST(console__of_a_monitor__echoes_to_each_reader_and_a_slow_one_misses_something_and_is_told) {
  struct agent slow, quick, more[3];
  char path[100];
  struct stat st;
  start_shim("echo boot; exec cat", "");
  printf("the shim's memory before sessions: %ld KiB\n", rss_kib());
  agent_open(&slow, NULL);
  agent_open(&quick, NULL);
  for (unsigned i = 0; i < 2; i++) agent_open(&more[i], NULL);
  agent_open(&more[2], NULL);
  expect_end(&more[2], BLX_E_BUSY, "4 others are at this console");
  for (unsigned i = 0; i < 2; i++) (void)close(more[i].fd);
  static uint8_t data[BLX__SESSION_DATA_MAX];
  memset(data, 'x', sizeof data);
  size_t sent = 0, came = 0;
  for (; sent < 800 * sizeof data; sent += sizeof data) {
    agent_send(&quick, &(struct blx__session_msg){.type = BLX__SESSION_INPUT, .data = data, .data_len = sizeof data});
    for (size_t had = came; came < had + sizeof data; came += quick.msg.data_len)
      agent_await(&quick, BLX__SESSION_OUTPUT);
  }
  ck_assert_uint_eq(came, sent);
  unsigned long missed = 0;
  size_t shown = 0;
  while (missed == 0 && shown < sent) {
    /* Something new makes room be looked for. */
    agent_await(&slow, BLX__SESSION_OUTPUT);
    char text[128] = "";
    size_t k = slow.msg.data_len < sizeof text - 1 ? slow.msg.data_len : sizeof text - 1;
    memcpy(text, slow.msg.data, k);
    if (sscanf(text, "\r\n[%lu bytes of the console were missed]", &missed) != 1) shown += slow.msg.data_len;
    agent_send(&quick, &(struct blx__session_msg){.type = BLX__SESSION_INPUT, .data = data, .data_len = 1});
  }
  ck_assert_uint_gt(missed, 0);
  long kib = rss_kib();
  printf("and after: %ld KiB\n", kib);
#ifndef __SANITIZE_ADDRESS__
  ck_assert(kib > 0 && kib <= RSS_MAX_KIB);
#endif
  path_of("console.log", path);
  ck_assert(stat(path, &st) == 0 && st.st_size > 0);
  ck_assert_int_eq(kill(monitor, SIGTERM), 0);
  agent_await(&quick, BLX__SESSION_END);
  ck_assert(quick.msg.a == 0 && quick.msg.c == SIGTERM);
  (void)close(quick.fd);
  (void)close(slow.fd);
  path_of("exit", path);
  for (unsigned i = 0; i < 500 && access(path, F_OK) != 0; i++) (void)usleep(10000);
  monitor = 0;
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}
END_TEST

BLX_TEST_MAIN("vm/shim", shim__of_a_guest_of_version_1_or_of_none__says_that_commands_are_not_supported,
              shim__with_a_guest_that_breaks_the_rules__ends_that_session_only,
              shim__with_an_agent_that_breaks_the_rules__ends_its_session,
              shim__with_a_guest_that_lies__serves_the_next_one,
              counters__have_what_the_guest_says__and_nothing_of_one_that_is_mute_or_lies,
              console__of_a_monitor__echoes_to_each_reader_and_a_slow_one_misses_something_and_is_told)
