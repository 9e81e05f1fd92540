/* blixard-shim's second look at its node's lease: the monitor's process makes it when it is in its control group,
 * before it becomes the monitor. Whoever held it up between is this test, which follows it by ptrace. */
#include "../harness.h"
#include "support_boot.h"

#include "io/file.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MARGIN_MS = 3000, SHIM_ITSELF = 1, MONITOR = 2 };

static uint64_t boot_now_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Runs a shim and all that it begins under our eyes, and lets its @nth child, which is born stopped, go on only when
 * @until_ms has come. Returns how the shim ended, with what it said in @said. */
static int run_watched(char *const argv[], unsigned nth, uint64_t until_ms, char *said, size_t size) {
  int out[2], first = -1;
  ck_assert_int_eq(pipe(out), 0);
  pid_t shim = fork();
  if (shim == 0) {
    (void)dup2(out[1], 2);
    (void)ptrace(PTRACE_TRACEME, 0, 0, 0);
    (void)raise(SIGSTOP);
    (void)execv(argv[0], argv);
    _exit(127);
  }
  (void)close(out[1]);
  int status = 0;
  unsigned children = 0;
  ck_assert(waitpid(shim, &status, 0) == shim && WIFSTOPPED(status));
  ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, shim, 0, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL), 0);
  ck_assert_int_eq(ptrace(PTRACE_CONT, shim, 0, 0), 0);
  for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
    if (pid == shim && WIFEXITED(status)) first = WEXITSTATUS(status);
    if (!WIFSTOPPED(status)) continue;
    int sig = WSTOPSIG(status);
    bool born = sig == SIGSTOP; /* nobody else sends that here */
    if (born && ++children == nth) {
      while (boot_now_ms() < until_ms) (void)usleep(10000);
    }
    (void)ptrace(PTRACE_CONT, pid, 0, born || sig == SIGTRAP ? 0 : sig);
  }
  ssize_t n = read(out[0], said, size - 1);
  said[n > 0 ? n : 0] = '\0';
  (void)close(out[0]);
  return first;
}

struct start {
  char dir[64], said[1024];
  int status;
  bool ran;
};

/* A shim that is to start its monitor before MARGIN_MS are over; its @nth child is held up until then, 0: none is. */
static struct start start_held(unsigned nth) {
  struct start s = {.dir = "/tmp/blixard-late-XXXXXX"};
  char shim[PATH_MAX], path[128], before[24];
  ck_assert(mkdtemp(s.dir) != NULL && boot_program("blixard-shim", shim));
  const char *const folders[] = {"booted", "booted/bin"};
  for (unsigned i = 0; i < 2; i++) {
    ck_assert(blx__str_format(path, sizeof path, "%s/%s", s.dir, folders[i]));
    ck_assert_int_eq(mkdir(path, 0755), 0);
  }
  static const char script[] = "#!/bin/sh\n: >../ran\n";
  ck_assert(blx__str_format(path, sizeof path, "%s/booted/bin/microvm-run", s.dir));
  ck_assert_int_eq(blx__file_write_atomic(path, script, strlen(script), 0755, NULL).code, 0);
  uint64_t before_ms = boot_now_ms() + MARGIN_MS;
  ck_assert(blx__str_format(before, sizeof before, "%llu", (unsigned long long)before_ms));
  char *const argv[] = {shim,      "--dir", s.dir,          "--instance", "web-1",   "--uid", "7",
                        "--epoch", "1",     "--memory-mib", "64",         "--vcpus", "1",     "--start-before-ms",
                        before,    NULL};
  s.status = run_watched(argv, nth, before_ms, s.said, sizeof s.said);
  ck_assert(blx__str_format(path, sizeof path, "%s/ran", s.dir));
  s.ran = access(path, F_OK) == 0;
  ck_assert_int_eq(blx__dir_remove_tree(s.dir, NULL).code, 0);
  return s;
}

START_TEST(shim__that_is_in_time__starts_its_monitor) {
  struct start s = start_held(0);
  ck_assert_msg(s.status == 0 && s.ran, "%d: %s", s.status, s.said);
}
END_TEST

START_TEST(shim__that_is_held_up_before_it_looks__starts_nothing) {
  struct start s = start_held(SHIM_ITSELF);
  ck_assert(s.status != 0 && !s.ran);
  ck_assert_msg(strstr(s.said, "lease ended before the monitor was started") != NULL, "%s", s.said);
}
END_TEST

START_TEST(monitor__that_is_held_up_after_that__looks_again_and_does_not_become_one) {
  struct start s = start_held(MONITOR);
  ck_assert(s.status != 0 && !s.ran);
  ck_assert_msg(strstr(s.said, "under its node's lease, which has ended") != NULL, "%s", s.said);
}
END_TEST

BLX_TEST_MAIN("vm/shim_lease", shim__that_is_in_time__starts_its_monitor,
              shim__that_is_held_up_before_it_looks__starts_nothing,
              monitor__that_is_held_up_after_that__looks_again_and_does_not_become_one)
