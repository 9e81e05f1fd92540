#include "../harness.h"

#include "base/failpoint.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REFUSED = 3 };

/* What becomes of a process with this in its environment that comes by a place so many times: its wait status. The
 * variable is looked at once for each process. */
static int status_of(const char *text, enum blx__failpoint here, unsigned times) {
  pid_t pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    blx_error err;
    if (text)
      (void)setenv("BLIXARD_FAILPOINT", text, 1);
    else
      (void)unsetenv("BLIXARD_FAILPOINT");
    if (blx__failpoint_arm(&err).code != 0) _exit(err.code == BLX_E_INVALID ? REFUSED : 1);
    for (unsigned i = 0; i < times; i++) blx__failpoint(here);
    _exit(0);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  return status;
}

START_TEST(failpoint__costs_a_process_that_did_not_ask_for_it_nothing) {
  ck_assert_int_eq(status_of(NULL, BLX__FAILPOINT_START_ROOT, 5), 0);
  ck_assert_int_eq(status_of("", BLX__FAILPOINT_START_ROOT, 5), 0);
  ck_assert_int_eq(status_of("start-linked", BLX__FAILPOINT_START_ROOT, 5), 0);
}
END_TEST

START_TEST(failpoint__kills_at_the_time_that_was_named) {
  ck_assert_int_eq(status_of("start-root", BLX__FAILPOINT_START_ROOT, 1), SIGKILL);
  ck_assert_int_eq(status_of("start-root:3", BLX__FAILPOINT_START_ROOT, 2), 0);
  ck_assert_int_eq(status_of("start-root:3", BLX__FAILPOINT_START_ROOT, 3), SIGKILL);
}
END_TEST

START_TEST(failpoint__that_has_no_such_name_is_refused) {
  static const char *const bad[] = {"start",        "start-root-", "start-root:", "start-root:0",
                                    "start-root:x", ":1",          "none"};
  for (size_t i = 0; i < BLX__COUNT(bad); i++)
    ck_assert_msg(WEXITSTATUS(status_of(bad[i], BLX__FAILPOINT_START_ROOT, 1)) == REFUSED, "%s", bad[i]);
}
END_TEST

START_TEST(failpoint__before_anybody_looked_is_passed_by) {
  for (int p = 1; p <= BLX__FAILPOINT_REPORT_ANSWERED; p++) blx__failpoint((enum blx__failpoint)p);
}
END_TEST

BLX_TEST_MAIN("base/failpoint", failpoint__costs_a_process_that_did_not_ask_for_it_nothing,
              failpoint__kills_at_the_time_that_was_named, failpoint__that_has_no_such_name_is_refused,
              failpoint__before_anybody_looked_is_passed_by)
