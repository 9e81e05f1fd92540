/* blixard-guest itself, as a process here, over a terminal instead of a virtio-serial port. */
#include "../harness.h"
#include "support_boot.h"

#include "vm/proto_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 30000, SILENCE_MS = 500, SIZE_MAX_BYTES = 1 << 20, KILLS = 200 };

struct host {
  int port, other; /* master; the agent's end, kept open */
  pid_t agent;
  struct blx__guest_reader reader;
  uint8_t bytes[4096];
  size_t len, at;
  struct blx__guest_msg msg;
};

static void send_msg(struct host *h, const struct blx__guest_msg *msg) {
  uint8_t frame[BLX__GUEST_FRAME_MAX];
  size_t n = blx__guest_write(msg, frame);
  for (size_t at = 0; at < n;) {
    struct pollfd p = {.fd = h->port, .events = POLLOUT};
    ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
    ssize_t k = write(h->port, frame + at, n - at);
    ck_assert(k > 0 || errno == EAGAIN);
    if (k > 0) at += (size_t)k;
  }
}

/* The next message, in h->msg; false: nothing comes for @ms. */
static bool heard(struct host *h, int ms) {
  for (;;) {
    size_t taken;
    bool got = blx__guest_read(&h->reader, h->bytes + h->at, h->len - h->at, &taken, &h->msg);
    h->at += taken;
    if (got) return true;
    struct pollfd p = {.fd = h->port, .events = POLLIN};
    if (poll(&p, 1, ms) == 0) return false;
    ssize_t n = read(h->port, h->bytes, sizeof h->bytes);
    ck_assert_int_gt(n, 0);
    h->len = (size_t)n;
    h->at = 0;
  }
}

/* Wait for this type; others are dropped. */
static void await(struct host *h, enum blx__guest_type type) {
  do ck_assert_msg(heard(h, WAIT_MS), "no message of type %d came", (int)type);
  while (h->msg.type != type);
}

static void begin(struct host *h) {
  char guest[PATH_MAX], path[64];
  struct termios raw;
  *h = (struct host){.port = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)};
  ck_assert(boot_program("blixard-guest", guest));
  ck_assert(h->port >= 0 && grantpt(h->port) == 0 && unlockpt(h->port) == 0);
  ck_assert_int_eq(ptsname_r(h->port, path, sizeof path), 0);
  h->other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  ck_assert(h->other >= 0 && tcgetattr(h->other, &raw) == 0);
  cfmakeraw(&raw);
  ck_assert_int_eq(tcsetattr(h->other, TCSANOW, &raw), 0);
  h->agent = fork();
  if (h->agent == 0) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves none */
    (void)execl(guest, guest, "--port", path, (char *)NULL);
    _exit(127);
  }
  await(h, BLX__GUEST_HELLO);
}

static void finish(struct host *h) {
  (void)kill(h->agent, SIGKILL);
  (void)waitpid(h->agent, NULL, 0);
  (void)close(h->port);
  (void)close(h->other);
}

static void tell(struct host *h, enum blx__guest_type type, uint32_t session, uint32_t arg) {
  send_msg(h, &(struct blx__guest_msg){.type = type, .session = session, .arg = arg});
}

static void give(struct host *h, enum blx__guest_type type, uint32_t session, const void *data, size_t n) {
  send_msg(h, &(struct blx__guest_msg){.type = type, .session = session, .data = data, .data_len = n});
}

/* "sh -c SCRIPT" as a session. */
static void run(struct host *h, uint32_t session, const char *script) {
  char data[512] = "\0sh\0-c";
  size_t n = strlen(script) + 1;
  memcpy(data + 7, script, n);
  give(h, BLX__GUEST_EXEC, session, data, 7 + n);
}

static void await_exit(struct host *h, uint32_t session, uint32_t how) {
  do await(h, BLX__GUEST_EXEC_EXIT);
  while (h->msg.session != session);
  ck_assert_uint_eq(h->msg.arg, how);
}

START_TEST(agent__greeted__says_its_version_and_ready_answers_pings_and_fits_in_a_mebibyte) {
  struct host h;
  struct stat st;
  char guest[PATH_MAX];
  begin(&h);
  ck_assert(h.msg.value == BLX__GUEST_VERSION);
  ck_assert_int_eq(strncmp(h.msg.text, "blixard-guest", 13), 0);
  send_msg(&h, &(struct blx__guest_msg){.type = BLX__GUEST_HELLO, .value = 1, .text = "web-1"});
  await(&h, BLX__GUEST_HELLO);
  await(&h, BLX__GUEST_READY);
  send_msg(&h, &(struct blx__guest_msg){.type = BLX__GUEST_PING, .value = 77});
  await(&h, BLX__GUEST_PONG);
  ck_assert(h.msg.value == 77);
  finish(&h);
  ck_assert(boot_program("blixard-guest", guest) && stat(guest, &st) == 0);
  ck_assert_int_lt(st.st_size, SIZE_MAX_BYTES);
}
END_TEST

START_TEST(agent__asked_for_figures_and_told_the_time__gives_them_and_leaves_a_right_clock) {
  struct host h;
  struct blx__guest_stats stats;
  uint8_t now[8];
  struct timespec t;
  begin(&h);
  tell(&h, BLX__GUEST_STATS, 5, 0);
  await(&h, BLX__GUEST_STATS_REPLY);
  ck_assert_uint_eq(h.msg.session, 5);
  ck_assert(blx__guest_stats_read(&h.msg, &stats));
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  ck_assert(stats.uptime_ms / 1000 + 60 > (uint64_t)t.tv_sec && stats.uptime_ms / 1000 < (uint64_t)t.tv_sec + 60);
  ck_assert(stats.memory_kib > 1024 && stats.available_kib <= stats.memory_kib && stats.available_kib > 0);
  ck_assert_uint_gt(stats.processes, 1);
  (void)clock_gettime(CLOCK_REALTIME, &t);
  blx__guest_clock_write((uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec, now);
  give(&h, BLX__GUEST_CLOCK, 0, now, sizeof now); /* off by less than a second: nothing is set */
  send_msg(&h, &(struct blx__guest_msg){.type = BLX__GUEST_PING, .value = 1});
  await(&h, BLX__GUEST_PONG);
  finish(&h);
}
END_TEST

/* Take the session's next output; what it cost, 0: none came for @ms. */
static uint32_t cost_of_output(struct host *h, uint32_t session, int ms) {
  if (!heard(h, ms)) return 0;
  ck_assert(h->msg.type == BLX__GUEST_EXEC_OUT && h->msg.session == session);
  return (uint32_t)h->msg.data_len + BLX__GUEST_FRAME_COST;
}

/* Take output until it cost @least, and until nothing more comes; what it cost. */
static uint32_t cost_of_what_comes(struct host *h, uint32_t session, uint32_t least) {
  uint32_t cost = 0, next;
  while ((next = cost_of_output(h, session, cost < least ? WAIT_MS : SILENCE_MS)) > 0) cost += next;
  return cost;
}

START_TEST(agent__without_credit__sends_no_more_of_a_session_and_answers_the_rest) {
  struct host h;
  begin(&h);
  run(&h, 1, "yes");
  uint32_t cost = cost_of_what_comes(&h, 1, BLX__GUEST_WINDOW - 2 * BLX__GUEST_FRAME_COST);
  ck_assert(cost <= BLX__GUEST_WINDOW && cost > BLX__GUEST_WINDOW - 2 * BLX__GUEST_FRAME_COST);
  send_msg(&h, &(struct blx__guest_msg){.type = BLX__GUEST_PING, .value = 1});
  await(&h, BLX__GUEST_PONG);
  run(&h, 2, "echo other; exit 4");
  await(&h, BLX__GUEST_EXEC_OUT);
  ck_assert(h.msg.session == 2 && h.msg.data_len == 6 && memcmp(h.msg.data, "other\n", 6) == 0);
  await_exit(&h, 2, BLX__GUEST_EXITED | 4);
  /* More than there can be is no credit. */
  tell(&h, BLX__GUEST_EXEC_CREDIT, 1, 2 * BLX__GUEST_WINDOW);
  ck_assert_uint_eq(cost_of_what_comes(&h, 1, 0), 0);
  tell(&h, BLX__GUEST_EXEC_CREDIT, 1, 1000);
  uint32_t more = cost_of_what_comes(&h, 1, 1);
  ck_assert(more > 0 && cost + more <= BLX__GUEST_WINDOW + 1000);
  tell(&h, BLX__GUEST_EXEC_KILL, 1, 0);
  await_exit(&h, 1, BLX__GUEST_SIGNALED | SIGKILL);
  finish(&h);
}
END_TEST

START_TEST(agent__input_that_is_not_read__costs_credit_that_comes_back_and_more_ends_the_session) {
  struct host h;
  static uint8_t data[BLX__GUEST_DATA_MAX];
  begin(&h);
  run(&h, 1, "wc -c");
  for (unsigned i = 0; i < 3; i++) give(&h, BLX__GUEST_EXEC_STDIN, 1, data, 1000);
  uint32_t back = 0;
  while (back < 3 * (1000 + BLX__GUEST_FRAME_COST)) {
    await(&h, BLX__GUEST_EXEC_CREDIT);
    back += h.msg.arg;
  }
  ck_assert_uint_eq(back, 3 * (1000 + BLX__GUEST_FRAME_COST));
  tell(&h, BLX__GUEST_EXEC_EOF, 1, 0);
  await(&h, BLX__GUEST_EXEC_OUT);
  ck_assert(h.msg.data_len >= 5 && memcmp(h.msg.data, "3000\n", 5) == 0);
  await_exit(&h, 1, BLX__GUEST_EXITED);

  run(&h, 2, "exec sleep 1000");
  /* A pipe takes 64 KiB, the window 32; nobody reads. */
  for (unsigned i = 0; i < 30; i++) give(&h, BLX__GUEST_EXEC_STDIN, 2, data, sizeof data);
  await_exit(&h, 2, BLX__GUEST_SIGNALED | SIGKILL);
  finish(&h);
}
END_TEST

/* A command that waits for room in its pipe must not learn first that nobody reads any more. */
START_TEST(agent__kill_of_a_command_that_waits_to_write__is_always_by_the_signal) {
  struct host h;
  begin(&h);
  for (uint32_t i = 1; i <= KILLS; i++) {
    run(&h, i, "trap '' PIPE; while echo y; do :; done 2>/dev/null; exit 9");
    for (uint32_t cost = 0, next; cost < BLX__GUEST_WINDOW - 2 * BLX__GUEST_FRAME_COST; cost += next)
      ck_assert_uint_gt(next = cost_of_output(&h, i, WAIT_MS), 0);
    tell(&h, BLX__GUEST_EXEC_KILL, i, 0);
    await_exit(&h, i, BLX__GUEST_SIGNALED | SIGKILL);
  }
  finish(&h);
}
END_TEST

START_TEST(agent__one_session_too_many_or_words_that_are_none__are_refused_with_an_errno) {
  struct host h;
  begin(&h);
  for (uint32_t i = 1; i <= BLX__GUEST_SESSIONS_MAX; i++) run(&h, i, "exec cat");
  run(&h, 99, "true");
  await_exit(&h, 99, BLX__GUEST_NOT_STARTED | EAGAIN);
  for (uint32_t i = 1; i <= BLX__GUEST_SESSIONS_MAX; i++) tell(&h, BLX__GUEST_EXEC_EOF, i, 0);
  for (uint32_t i = 1; i <= BLX__GUEST_SESSIONS_MAX; i++) {
    await(&h, BLX__GUEST_EXEC_EXIT);
    ck_assert_uint_eq(h.msg.arg, BLX__GUEST_EXITED);
  }
  give(&h, BLX__GUEST_EXEC, 3, "\0sh", 3); /* no end */
  await_exit(&h, 3, BLX__GUEST_NOT_STARTED | EINVAL);
  give(&h, BLX__GUEST_EXEC, 4, "", 0);
  await_exit(&h, 4, BLX__GUEST_NOT_STARTED | EINVAL);
  give(&h, BLX__GUEST_EXEC, 5, "\0no-such-program", 17);
  await_exit(&h, 5, BLX__GUEST_NOT_STARTED | ENOENT);
  give(&h, BLX__GUEST_EXEC, 6, "\1no-such-program", 17);
  await_exit(&h, 6, BLX__GUEST_NOT_STARTED | ENOENT);
  run(&h, 7, "echo still here");
  await_exit(&h, 7, BLX__GUEST_EXITED);
  finish(&h);
}
END_TEST

BLX_TEST_MAIN("vm/guest", agent__greeted__says_its_version_and_ready_answers_pings_and_fits_in_a_mebibyte,
              agent__asked_for_figures_and_told_the_time__gives_them_and_leaves_a_right_clock,
              agent__without_credit__sends_no_more_of_a_session_and_answers_the_rest,
              agent__input_that_is_not_read__costs_credit_that_comes_back_and_more_ends_the_session,
              agent__kill_of_a_command_that_waits_to_write__is_always_by_the_signal,
              agent__one_session_too_many_or_words_that_are_none__are_refused_with_an_errno)
