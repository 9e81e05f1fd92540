#include "../harness.h"

#include "io/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
  struct blx__loop *loop;
  int calls, status, signal;
  bool timed_out;
  char output[512];
};

static void on_exit_cb(void *user, int status, int signal, bool timed_out, struct blx__slice tail) {
  struct seen *s = user;
  s->calls++;
  s->status = status;
  s->signal = signal;
  s->timed_out = timed_out;
  size_t n = tail.len < sizeof s->output - 1 ? tail.len : sizeof s->output - 1;
  if (n) memcpy(s->output, tail.data, n);
  s->output[n] = '\0';
  blx__loop_stop(s->loop);
}

static struct seen run(struct blx__process_spec spec) {
  struct seen s = {0};
  ck_assert_int_eq(blx__loop_new(&s.loop, NULL).code, 0);
  struct blx__process *p = NULL;
  ck_assert_int_eq(blx__process_spawn(s.loop, &spec, on_exit_cb, &s, &p, NULL).code, 0);
  ck_assert_int_gt(blx__process_pid(p), 0);
  ck_assert_int_eq(s.calls, 0);
  blx__loop_run(s.loop);
  blx__loop_free(s.loop);
  ck_assert_int_eq(s.calls, 1);
  return s;
}

#define SH(script)           \
  (const char *const[]) {    \
    "sh", "-c", script, NULL \
  }

START_TEST(exit_status_and_output__are_reported) {
  struct seen s = run((struct blx__process_spec){.argv = SH("echo out; echo err >&2; exit 7"), .output_max = 100});
  ck_assert_int_eq(s.status, 7);
  ck_assert_int_eq(s.signal, 0);
  ck_assert_str_eq(s.output, "out\nerr\n");
}
END_TEST

START_TEST(output__keeps_its_end) {
  struct seen s = run((struct blx__process_spec){.argv = SH("seq 1 100000"), .output_max = 20});
  ck_assert_str_eq(s.output, "\n99998\n99999\n100000\n");
}
END_TEST

START_TEST(deadline__ends_the_whole_group) {
  struct seen s = run(
      (struct blx__process_spec){.argv = SH("echo begun; sleep 1000 & wait"), .output_max = 100, .deadline_ms = 100});
  ck_assert(s.timed_out);
  ck_assert_int_eq(s.signal, SIGTERM);
  ck_assert_int_eq(s.status, -1);
}
END_TEST

START_TEST(child__has_a_clean_inheritance) {
  signal(SIGPIPE, SIG_IGN);
  int leak[2];
  ck_assert_int_eq(pipe(leak), 0);
  struct seen s = run((struct blx__process_spec){.argv = SH("ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigIgn|SigBlk' "
                                                            "/proc/self/status; env; ps -o sid= -p $$ | tr -d ' '; "
                                                            "echo $$; pwd"),
                                                 .cwd = "/",
                                                 .new_session = true,
                                                 .env = (const char *const[]){"PATH=/usr/bin:/bin", NULL},
                                                 .output_max = 500});
  ck_assert_int_eq(s.status, 0);
  ck_assert_msg(strncmp(s.output, "0 1 2 3 S", 9) == 0, "%s", s.output);
  const char *ignored = strstr(s.output, "SigIgn:\t");
  ck_assert_ptr_nonnull(ignored);
  ck_assert_uint_eq(strtoull(ignored + 8, NULL, 16) >> (SIGPIPE - 1) & 1, 0);
  ck_assert_ptr_nonnull(strstr(s.output, "SigBlk:\t0000000000000000"));
  close(leak[0]);
  close(leak[1]);
  signal(SIGPIPE, SIG_DFL);
}
END_TEST

START_TEST(lent_descriptor__carries_its_lock_to_the_child) {
  char path[] = "/tmp/blx-lent-XXXXXX", target[64] = "";
  int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(flock(fd, LOCK_EX), 0);
  /* Whatever its number is here: 3 and others of the call's own descriptors too. */
  for (int at = 3; at < 9; at++) {
    int lent = fcntl(fd, F_DUPFD_CLOEXEC, at);
    struct seen s = run((struct blx__process_spec){
        .argv = SH("readlink /proc/self/fd/3; flock -n 3 && echo held; ls /proc/self/fd | tr '\\n' ' '"),
        .lend_fd = lent,
        .output_max = 100});
    ck_assert_int_eq(sscanf(s.output, "%63s", target), 1);
    ck_assert_str_eq(target, path);
    ck_assert_msg(strstr(s.output, "\nheld\n0 1 2 3 4 \n") || strstr(s.output, "\nheld\n0 1 2 3 4 "), "%s", s.output);
    close(lent);
  }
  close(fd);
  unlink(path);
}
END_TEST

/* In a process of its own: spawn, tell the child's pid, be killed. */
static _Noreturn void spawn_and_die(bool with_us, int tell) {
  struct blx__loop *loop = NULL;
  struct blx__process *p = NULL;
  struct blx__process_spec spec = {.argv = SH("exec sleep 1000"), .new_session = true, .with_us = with_us};
  if (blx__loop_new(&loop, NULL).code != 0 || blx__process_spawn(loop, &spec, on_exit_cb, NULL, &p, NULL).code != 0)
    _exit(1);
  int32_t pid = blx__process_pid(p);
  if (write(tell, &pid, sizeof pid) != (ssize_t)sizeof pid) _exit(1);
  (void)raise(SIGKILL);
  _exit(1);
}

START_TEST(child__ends_with_a_parent_that_is_killed_where_asked) {
  /* Orphans become ours, so that their end can be awaited. */
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  for (int with_us = 0; with_us < 2; with_us++) {
    int tell[2], status = 0;
    int32_t orphan = 0;
    ck_assert_int_eq(pipe(tell), 0);
    pid_t parent = fork();
    if (parent == 0) spawn_and_die(with_us, tell[1]);
    ck_assert_int_eq(waitpid(parent, &status, 0), parent);
    ck_assert_int_eq(status, SIGKILL);
    ck_assert_int_eq(read(tell[0], &orphan, sizeof orphan), (ssize_t)sizeof orphan);
    if (!with_us) {
      usleep(100000);
      ck_assert_int_eq(waitpid(orphan, &status, WNOHANG), 0);
      ck_assert_int_eq(kill(orphan, SIGKILL), 0);
    }
    ck_assert_int_eq(waitpid(orphan, &status, 0), orphan);
    ck_assert_int_eq(WTERMSIG(status), with_us ? SIGTERM : SIGKILL);
    close(tell[0]);
    close(tell[1]);
  }
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}
END_TEST

START_TEST(user__is_changed_where_asked) {
  if (geteuid() != 0) return;
  struct seen s =
      run((struct blx__process_spec){.argv = SH("id -u; id -g; id -G"), .uid = 65534, .gid = 65534, .output_max = 100});
  ck_assert_str_eq(s.output, "65534\n65534\n65534\n");
}
END_TEST

START_TEST(program_or_directory__that_is_missing_is_refused_with_its_name) {
  struct blx__loop *loop = NULL;
  ck_assert_int_eq(blx__loop_new(&loop, NULL).code, 0);
  struct blx__process *p = NULL;
  blx_error err = {0};
  struct blx__process_spec spec = {.argv = (const char *const[]){"no-such-program", NULL}, .output_max = 10};
  ck_assert_int_eq(blx__process_spawn(loop, &spec, on_exit_cb, NULL, &p, &err).code, BLX_E_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(err.message, "no-such-program"));
  spec = (struct blx__process_spec){.argv = SH("true"), .cwd = "/no/such/directory"};
  ck_assert_int_eq(blx__process_spawn(loop, &spec, on_exit_cb, NULL, &p, &err).code, BLX_E_NOT_FOUND);
  ck_assert_ptr_null(p);
  blx__loop_free(loop);
}
END_TEST

START_TEST(sigchld__of_the_embedder_is_not_touched) {
  struct sigaction before, after;
  sigaction(SIGCHLD, NULL, &before);
  (void)run((struct blx__process_spec){.argv = SH("true")});
  sigaction(SIGCHLD, NULL, &after);
  ck_assert(before.sa_handler == after.sa_handler);
  /* An embedder that lets the kernel reap: the status is lost, the end is not. */
  signal(SIGCHLD, SIG_IGN);
  struct seen s = run((struct blx__process_spec){.argv = SH("exit 3")});
  signal(SIGCHLD, SIG_DFL);
  ck_assert_int_eq(s.status, -1);
  ck_assert_int_eq(s.signal, 0);
}
END_TEST

static void on_watched(void *user) {
  struct seen *s = user;
  s->calls++;
  blx__loop_stop(s->loop);
}

START_TEST(pidwatch__tells_of_the_end_once_and_knows_who_is_gone) {
  struct seen s = {0};
  ck_assert_int_eq(blx__loop_new(&s.loop, NULL).code, 0);
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  struct blx__pidwatch *w = NULL;
  ck_assert_int_eq(blx__pidwatch_open(s.loop, child, on_watched, &s, &w, NULL).code, 0);
  kill(child, SIGKILL);
  blx__loop_run(s.loop);
  ck_assert_int_eq(s.calls, 1);
  blx__pidwatch_close(w);
  waitpid(child, NULL, 0);
  ck_assert_int_eq(blx__pidwatch_open(s.loop, child, on_watched, &s, &w, NULL).code, BLX_E_NOT_FOUND);
  blx__loop_free(s.loop);
}
END_TEST

BLX_TEST_MAIN("io/process", exit_status_and_output__are_reported, output__keeps_its_end, deadline__ends_the_whole_group,
              child__has_a_clean_inheritance, lent_descriptor__carries_its_lock_to_the_child,
              child__ends_with_a_parent_that_is_killed_where_asked, user__is_changed_where_asked,
              program_or_directory__that_is_missing_is_refused_with_its_name, sigchld__of_the_embedder_is_not_touched,
              pidwatch__tells_of_the_end_once_and_knows_who_is_gone)
