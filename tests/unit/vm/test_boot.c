/* The microvm.nix driver with nothing simulated: a runner built by Nix from a module file, booted by QEMU under the
 * shim. */
#include "../harness.h"
#include "support.h"

#include "io/file.h"

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char dir[PATH_MAX], shim[PATH_MAX], guest[PATH_MAX], kernel[PATH_MAX], runner[PATH_MAX], store[PATH_MAX];
static char missing[256];
static const char module[] = "{ microvm = { hypervisor = \"qemu\"; vcpu = 1; mem = 128; };\n"
                             "  networking.hostName = \"hello\"; }\n";

static bool find(const char *what, const char *folder, const char *path, char out[PATH_MAX]) {
  char name[PATH_MAX];
  if (folder && blx__str_format(name, sizeof name, "%s/%s", folder, path) && realpath(name, out)) return true;
  if (!folder && realpath(path, out)) return true;
  (void)blx__str_format(missing, sizeof missing, "%s is missing", what);
  return false;
}

static bool program(const char *name, char out[PATH_MAX]) {
  char self[PATH_MAX], folder[PATH_MAX + 16];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return false;
  self[n] = '\0';
  *strrchr(self, '/') = '\0';
  (void)blx__str_format(folder, sizeof folder, "%s/../../../bin", self);
  if (find(name, folder, name, out)) return true;
  const char *build = getenv("BLX_BUILD");
  (void)blx__str_format(folder, sizeof folder, "%s/bin", build ? build : "build/release");
  return find(name, folder, name, out) || find(name, "build/release/bin", name, out);
}

static bool equipped(void) {
  char ignored[PATH_MAX];
  if (geteuid() != 0) {
    (void)blx__str_copy(missing, sizeof missing, "only root may set limits and build");
    return false;
  }
  return find("nix", NULL, "/usr/bin/nix", ignored) && find("QEMU", NULL, "/usr/bin/qemu-system-x86_64", ignored) &&
         find("busybox", NULL, "/bin/busybox", ignored) && find("cpio", NULL, "/usr/bin/cpio", ignored) &&
         find("the guests' kernel (make deps)", NULL, "build/deps/kernel", kernel) &&
         find("the runner flake", NULL, "nix/debian-runner", runner) && program("blixard-shim", shim) &&
         program("blixard-guest", guest);
}

static void open_driver(struct bench *b) {
  bench_open(b);
  struct blx__vm_options o = {.state_dir = dir,
                              .host_tag = "blixard-unit-test-1",
                              .shim_path = shim,
                              .runner_dir = runner,
                              .kernel_dir = kernel,
                              .guest_path = guest,
                              .nix_store_dir = store,
                              .vmm_uid = 65534,
                              .vmm_gid = 65534,
                              .on_event = bench_event,
                              .user = b};
  blx_error err;
  ck_assert_msg(blx__vm_microvm_open(b->loop, &o, &b->driver, &err).code == 0, "%s", err.message);
}

static struct blx__vm_desc desc(const char *name, uint64_t uid) {
  return (struct blx__vm_desc){.key = {.instance = name, .uid = uid, .epoch = uid + 40},
                               .vcpus = 1,
                               .memory_mib = 128,
                               .hypervisor = "qemu",
                               .config = (const uint8_t *)module,
                               .config_len = sizeof module - 1,
                               .config_name = "hello.nix"};
}

static void ok(struct waited w) {
  ck_assert_msg(!w.failed, "%s", w.err.message);
}

static uint64_t now_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned entries(const char *path) {
  unsigned n = 0;
  DIR *d = opendir(path);
  struct dirent *e;
  while (d && (e = readdir(d))) n += e->d_name[0] != '.';
  if (d) (void)closedir(d);
  return n;
}

static unsigned entries_of(const char *name) {
  char path[PATH_MAX + 64];
  (void)blx__str_format(path, sizeof path, "%s/%s", dir, name);
  return entries(path);
}

static pid_t parent_of(int32_t pid) {
  char path[64];
  int parent = 0;
  (void)blx__str_format(path, sizeof path, "/proc/%d/status", pid);
  FILE *f = fopen(path, "re");
  char line[256];
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "PPid: %d", &parent) == 1) break;
  if (f) (void)fclose(f);
  return parent;
}

/* Wait until a process that is not ours has ended. */
static void wait_gone(pid_t pid) {
  struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
  if (p.fd < 0) return;
  ck_assert_int_eq(poll(&p, 1, BENCH_DEADLINE_MS), 1);
  (void)close(p.fd);
}

static void read_console(struct bench *b, const struct blx__vm_key *key, uint32_t lines, struct reading *r) {
  struct blx__vm_logs *logs;
  *r = (struct reading){.bench = b};
  blx__buf_init(&r->text, 4 << 20);
  ck_assert_int_eq(
      b->driver->ops->logs(b->driver, key, lines, false, bench_log_bytes, bench_log_end, r, &logs, NULL).code, 0);
  bench_wait_end(b, r);
}

/* One after the other: each boot takes seconds. */
static void boot_stop_and_start_again(struct bench *b) {
  struct blx__vm_desc d = desc("hello-1", 1);
  uint64_t t0 = now_ms();
  ok(bench_prepare(b, &d));
  uint64_t t1 = now_ms();
  ok(bench_start(b, &d));
  uint64_t t2 = now_ms();
  bench_wait_event(b, BLX__VM_EVENT_READY, 1, 1);
  printf("built in %llu ms, started in %llu ms, ready after %llu ms\n", (unsigned long long)(t1 - t0),
         (unsigned long long)(t2 - t1), (unsigned long long)(now_ms() - t1));
  ck_assert_uint_eq(b->events[0].epoch, 41);
  ck_assert_int_eq(bench_last(b, 1)->state, BLX__VM_READY);
  struct waited again = bench_start(b, &d);
  ck_assert(again.failed && again.err.code == BLX_E_CONFLICT);
  ok(bench_prepare(b, &d)); /* while it runs */
  struct waited gone = bench_destroy(b, &d.key);
  ck_assert(gone.failed && gone.err.code == BLX_E_CONFLICT);

  struct blx__usage u = bench_usage(b);
  ck_assert(u.has_cpu && u.cpu_us > 100000 && u.has_memory && u.memory_bytes > 10 << 20);
  ck_assert(u.has_uptime && u.uptime_ms <= now_ms() - t1 + 1000);
  ck_assert(u.has_read && u.has_written && !u.has_balloon); /* its monitor says: no disks, no balloon */

  struct waited w = bench_stop(b, &d.key, 20000);
  ok(w);
  ck_assert_uint_eq(bench_events(b, BLX__VM_EVENT_EXITED, 1), 1);
  ck_assert_int_eq(bench_last(b, 1)->exit_status, 0);
  ck_assert_int_eq(bench_last(b, 1)->signal, 0);
  ck_assert(bench_last(b, 1)->stopping);
  ck_assert_str_eq(bench_last(b, 1)->text, "the guest powered off, as was asked");
  ok(bench_stop(b, &d.key, 1000)); /* dead already */

  struct reading r;
  read_console(b, &d.key, BLX__VM_LOG_LINES_ALL, &r);
  bench_wait_text(b, &r, "hello from hello");
  bench_wait_text(b, &r, "this is hello-1");
  blx__buf_free(&r.text);
  /* At once after the end was told. */
  ok(bench_start(b, &d));
  struct waited slow = {.bench = b};
  b->driver->ops->stop(b->driver, &d.key, 600000, bench_done, &slow);
  ok(bench_kill(b, &d.key));
  bench_wait_done(b, &slow);
  ck_assert(slow.failed && slow.err.code == BLX_E_CANCELLED);
  ck_assert_int_eq(bench_last(b, 1)->signal, SIGKILL);
  ok(bench_destroy(b, &d.key));
}

/* A guest that is still booting answers nothing: the deadline does it. A second one is killed from outside. */
static void deadline_and_murder(struct bench *b) {
  struct blx__vm_desc d = desc("hello-2", 2), e = desc("hello-3", 3);
  ok(bench_prepare(b, &d));
  ok(bench_start(b, &d));
  ok(bench_stop(b, &d.key, 300));
  ck_assert_int_eq(bench_last(b, 2)->signal, SIGKILL);
  ck_assert_str_eq(bench_last(b, 2)->text, "the guest did not shut down within 300 ms and was killed");

  ok(bench_prepare(b, &e));
  ok(bench_start(b, &e));
  struct waited a = bench_adopt(b, &e.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_RUNNING);
  ck_assert_int_gt(a.status.vmm_pid, 1);
  ck_assert_int_eq(kill(a.status.vmm_pid, SIGKILL), 0);
  bench_wait_event(b, BLX__VM_EVENT_EXITED, 3, 1);
  ck_assert_int_eq(bench_last(b, 3)->signal, SIGKILL);
  ck_assert(!bench_last(b, 3)->stopping);

  /* And its shim: the monitor must not go on unseen. */
  ok(bench_start(b, &e));
  a = bench_adopt(b, &e.key);
  ok(a);
  ck_assert_int_eq(kill(parent_of(a.status.vmm_pid), SIGKILL), 0);
  bench_wait_event(b, BLX__VM_EVENT_EXITED, 3, 2);
  ck_assert_uint_eq(b->events[b->event_count - 1].epoch, 43);
  a = bench_adopt(b, &e.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_EXITED);
  ck_assert_uint_eq(a.status.epoch, 43);
  /* A shim that hangs is killed with what it holds. */
  ok(bench_start(b, &e));
  a = bench_adopt(b, &e.key);
  ok(a);
  ck_assert_int_eq(kill(parent_of(a.status.vmm_pid), SIGSTOP), 0);
  struct blx__usage u = bench_usage(b); /* without what only the monitor knows */
  ck_assert(u.has_cpu && u.has_memory && u.has_uptime && !u.has_read && !u.has_balloon);
  ok(bench_kill(b, &e.key));
  ck_assert(kill(a.status.vmm_pid, 0) != 0 || parent_of(a.status.vmm_pid) == 1);
  ok(bench_destroy(b, &d.key));
  ok(bench_destroy(b, &e.key));
}

START_TEST(guest__booted_from_a_module__says_ready_stops_dies_and_is_started_again) {
  struct bench b;
  open_driver(&b);
  boot_stop_and_start_again(&b);
  deadline_and_murder(&b);
  struct blx__vm_desc d = desc("hello-1", 1);
  struct waited a = bench_adopt(&b, &d.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_ABSENT);
  bench_close(&b);
  ck_assert_uint_eq(entries_of("vms"), 0);
  ck_assert_uint_eq(entries_of("builds"), 0);
}
END_TEST

START_TEST(guest__of_a_closed_driver__runs_on_and_is_adopted) {
  struct bench b;
  open_driver(&b);
  struct blx__vm_desc d = desc("hello-1", 7), e = desc("hello-2", 8);
  ok(bench_prepare(&b, &d));
  ok(bench_prepare(&b, &e));
  ok(bench_start(&b, &d));
  ok(bench_start(&b, &e));
  bench_wait_event(&b, BLX__VM_EVENT_READY, 7, 1);
  bench_wait_event(&b, BLX__VM_EVENT_READY, 8, 1);
  int32_t pid = bench_last(&b, 7)->vmm_pid, other = bench_last(&b, 8)->vmm_pid;
  struct measured m = {.bench = &b};
  ck_assert_int_eq(b.driver->ops->stats(b.driver, bench_measured, &m, NULL).code, 0);
  bench_close(&b);
  ck_assert(m.times == 1 && m.code == BLX_E_CANCELLED && m.count == 0);
  ck_assert_int_eq(kill(pid, 0), 0);
  pid_t other_shim = parent_of(other);
  ck_assert_int_eq(kill(other, SIGKILL), 0); /* nobody but its shim is there to see it */
  wait_gone(other_shim);

  open_driver(&b);
  struct waited a = bench_adopt(&b, &d.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_READY);
  ck_assert_int_eq(a.status.vmm_pid, pid);
  ck_assert_uint_eq(a.status.epoch, 47);
  a = bench_adopt(&b, &e.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_EXITED);
  ck_assert_int_eq(a.status.signal, SIGKILL);
  ck_assert_uint_eq(b.event_count, 0);
  struct reading r;
  read_console(&b, &d.key, 1, &r);
  bench_wait_text(&b, &r, "this is hello-1");
  blx__buf_free(&r.text);
  ok(bench_stop(&b, &d.key, 20000));
  ck_assert_uint_eq(bench_events(&b, BLX__VM_EVENT_EXITED, 7), 1);
  ok(bench_destroy(&b, &d.key));
  ok(bench_destroy(&b, &e.key));
  bench_close(&b);
  ck_assert_uint_eq(entries_of("vms"), 0);
}
END_TEST

START_TEST(build__that_fails_or_is_cancelled__says_why_and_leaves_nothing) {
  struct bench b;
  open_driver(&b);
  struct blx__vm_desc d = desc("bad-1", 20);
  d.config = (const uint8_t *)"{ services.nginx.enable = true; }";
  d.config_len = strlen((const char *)d.config);
  struct waited w = bench_prepare(&b, &d);
  ck_assert(w.failed);
  ck_assert_int_eq(w.err.code, BLX_E_INVALID);
  ck_assert_msg(strstr(w.err.message, "the option services is not supported"), "%s", w.err.message);
  ck_assert_uint_eq(entries_of("vms"), 0);
  w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_NOT_FOUND);

  struct blx__vm_desc e = desc("late-1", 21);
  struct waited prepared = {.bench = &b}, destroyed = {.bench = &b}, second = {.bench = &b};
  b.driver->ops->prepare(b.driver, &e, bench_done, &prepared);
  b.driver->ops->destroy(b.driver, &e.key, bench_done, &destroyed);
  b.driver->ops->prepare(b.driver, &e, bench_done, &second);
  bench_wait_done(&b, &prepared);
  bench_wait_done(&b, &destroyed);
  bench_wait_done(&b, &second);
  ck_assert(prepared.failed && prepared.err.code == BLX_E_CANCELLED);
  ck_assert(!destroyed.failed);
  ck_assert(second.failed && second.err.code == BLX_E_BUSY);

  e.config = NULL;
  e.config_len = 0;
  e.flake = "./here#x";
  w = bench_prepare(&b, &e);
  ck_assert(w.failed && w.err.code == BLX_E_INVALID);
  bench_close(&b);
  ck_assert_uint_eq(entries_of("vms"), 0);
  ck_assert_uint_eq(entries_of("builds"), 0);
}
END_TEST

START_TEST(runner_of_a_flake__is_refused_to_a_user_who_cannot_reach_it_and_ends_with_its_shim) {
  struct bench b;
  char flake[PATH_MAX + 16], file[PATH_MAX], command[6 * PATH_MAX];
  (void)blx__str_format(file, sizeof file, "%s/module.nix", dir);
  ck_assert_int_eq(blx__file_write_atomic(file, module, sizeof module - 1, 0600, NULL).code, 0);
  (void)blx__str_format(command, sizeof command,
                        "'%s/wrap' --out '%s/flake' --name web --module '%s' --kernel '%s' --guest '%s' --accel tcg",
                        runner, dir, file, kernel, guest);
  ck_assert_int_eq(system(command), 0);
  open_driver(&b);
  struct blx__vm_desc d = desc("web-1", 25);
  (void)blx__str_format(flake, sizeof flake, "%s/flake#web", dir);
  d.flake = flake;
  struct waited w = bench_prepare(&b, &d); /* both a module and a flake */
  ck_assert(w.failed && w.err.code == BLX_E_INVALID);
  d.config = NULL;
  d.config_len = 0;
  ok(bench_prepare(&b, &d));
  /* The user of the monitors may not enter: refused by this driver, which was not told that it is optional. */
  ck_assert_int_eq(chmod(dir, 0700), 0);
  w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_DENIED);
  ck_assert_int_eq(chmod(dir, 0755), 0);
  ok(bench_start(&b, &d));
  bench_wait_event(&b, BLX__VM_EVENT_READY, 25, 1);
  ck_assert_int_eq(kill(parent_of(bench_last(&b, 25)->vmm_pid), SIGTERM), 0);
  bench_wait_event(&b, BLX__VM_EVENT_EXITED, 25, 1);
  ck_assert_int_eq(bench_last(&b, 25)->exit_status, 0);
  ok(bench_destroy(&b, &d.key));
  bench_close(&b);
}
END_TEST

START_TEST(build__that_waits_behind_one_that_hangs__is_cancelled_at_once) {
  struct bench b;
  open_driver(&b);
  char flake[PATH_MAX + 64], path[PATH_MAX + 16];
  (void)blx__str_format(flake, sizeof flake, "%s/hangs", dir);
  ck_assert_int_eq(mkdir(flake, 0755), 0);
  (void)blx__str_format(path, sizeof path, "%s/flake.nix", flake);
  static const char text[] =
      "{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = derivation {\n"
      "  name = \"hangs\"; system = \"x86_64-linux\"; builder = \"/bin/sh\";\n"
      "  args = [ \"-c\" \"/bin/sleep 600\" ]; }; }; }\n";
  blx_error err;
  ck_assert_int_eq(blx__file_write_atomic(path, text, sizeof text - 1, 0644, &err).code, 0);
  (void)blx__str_format(flake, sizeof flake, "path:%s/hangs#vm", dir);
  struct blx__vm_desc head = desc("hangs-1", 30), behind = desc("behind-1", 31);
  head.flake = flake;
  head.config = NULL;
  head.config_len = 0;
  struct waited hangs = {.bench = &b}, waits = {.bench = &b};
  b.driver->ops->prepare(b.driver, &head, bench_done, &hangs);
  b.driver->ops->prepare(b.driver, &behind, bench_done, &waits);
  struct waited w = bench_destroy(&b, &behind.key);
  ck_assert(!w.failed);
  bench_wait_done(&b, &waits);
  ck_assert(waits.failed && waits.err.code == BLX_E_CANCELLED);
  ck_assert_uint_eq(hangs.times, 0);
  w = bench_destroy(&b, &head.key);
  ck_assert(!w.failed);
  bench_wait_done(&b, &hangs);
  bench_close(&b);
  ck_assert_uint_eq(entries_of("vms"), 0);
  ck_assert_uint_eq(entries_of("builds"), 0);
}
END_TEST

START_TEST(driver__closed_in_the_middle__completes_everything_with_cancelled) {
  struct bench b;
  open_driver(&b);
  struct blx__vm_desc d = desc("mid-1", 30), e = desc("mid-2", 31);
  struct waited w[2] = {{.bench = &b}, {.bench = &b}};
  b.driver->ops->prepare(b.driver, &d, bench_done, &w[0]);
  b.driver->ops->prepare(b.driver, &e, bench_done, &w[1]);
  bench_close(&b);
  for (unsigned i = 0; i < 2; i++) {
    ck_assert_uint_eq(w[i].times, 1);
    ck_assert(w[i].failed && w[i].err.code == BLX_E_CANCELLED);
  }
  ck_assert_uint_eq(entries_of("vms"), 0);
}
END_TEST

int main(void) {
  if (!equipped()) {
    printf("SKIP: no guest can be booted: %s\n", missing);
    return 77;
  }
  char template[] = "/tmp/blixard-boot-XXXXXX";
  if (!mkdtemp(template) || chmod(template, 0755) != 0) return 1;
  (void)blx__str_copy(dir, sizeof dir, template);
  (void)blx__str_format(store, sizeof store, "%s/nix", template);
  const TTest *const tests[] = {guest__booted_from_a_module__says_ready_stops_dies_and_is_started_again,
                                guest__of_a_closed_driver__runs_on_and_is_adopted,
                                runner_of_a_flake__is_refused_to_a_user_who_cannot_reach_it_and_ends_with_its_shim,
                                build__that_fails_or_is_cancelled__says_why_and_leaves_nothing,
                                build__that_waits_behind_one_that_hangs__is_cancelled_at_once,
                                driver__closed_in_the_middle__completes_everything_with_cancelled};
  Suite *suite = suite_create("vm/boot");
  TCase *tcase = tcase_create("vm/boot");
  tcase_set_timeout(tcase, 300);
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tcase, tests[i]);
  suite_add_tcase(suite, tcase);
  SRunner *runner_of_suite = srunner_create(suite);
  srunner_run_all(runner_of_suite, CK_NORMAL);
  int failed = srunner_ntests_failed(runner_of_suite);
  srunner_free(runner_of_suite);
  if (blx__dir_remove_tree(dir, NULL).code != 0) failed++;
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
