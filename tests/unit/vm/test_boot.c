/* The microvm.nix driver with nothing simulated: a runner built by Nix from a module file, booted by QEMU under the
 * shim. */
#include "../harness.h"
#include "support_boot.h"

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

static unsigned boot_entries(const char *name) {
  char path[PATH_MAX + 64];
  (void)blx__str_format(path, sizeof path, "%s/%s", boot.dir, name);
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
  struct blx__vm_desc d = boot_desc("hello-1", 1);
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
  ck_assert(u.has_guest && u.guest_memory_bytes > 32 << 20 && u.guest_memory_bytes <= (uint64_t)d.memory_mib << 20);
  ck_assert(u.guest_available_bytes > 0 && u.guest_available_bytes < u.guest_memory_bytes && u.guest_processes > 3);

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
  struct blx__vm_desc d = boot_desc("hello-2", 2), e = boot_desc("hello-3", 3);
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
  boot_open(&b);
  boot_stop_and_start_again(&b);
  deadline_and_murder(&b);
  struct blx__vm_desc d = boot_desc("hello-1", 1);
  struct waited a = bench_adopt(&b, &d.key);
  ok(a);
  ck_assert_int_eq(a.status.state, BLX__VM_ABSENT);
  bench_close(&b);
  ck_assert_uint_eq(boot_entries("vms"), 0);
  ck_assert_uint_eq(boot_entries("builds"), 0);
}
END_TEST

START_TEST(guest__of_a_closed_driver__runs_on_and_is_adopted) {
  struct bench b;
  boot_open(&b);
  struct blx__vm_desc d = boot_desc("hello-1", 7), e = boot_desc("hello-2", 8);
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

  boot_open(&b);
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
  ck_assert_uint_eq(boot_entries("vms"), 0);
}
END_TEST

START_TEST(build__that_fails_or_is_cancelled__says_why_and_leaves_nothing) {
  struct bench b;
  boot_open(&b);
  struct blx__vm_desc d = boot_desc("bad-1", 20);
  d.config = (const uint8_t *)"{ services.nginx.enable = true; }";
  d.config_len = strlen((const char *)d.config);
  struct waited w = bench_prepare(&b, &d);
  ck_assert(w.failed);
  ck_assert_int_eq(w.err.code, BLX_E_INVALID);
  ck_assert_msg(strstr(w.err.message, "the option services is not supported"), "%s", w.err.message);
  ck_assert_uint_eq(boot_entries("vms"), 0);
  w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_NOT_FOUND);

  struct blx__vm_desc e = boot_desc("late-1", 21);
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
  ck_assert_uint_eq(boot_entries("vms"), 0);
  ck_assert_uint_eq(boot_entries("builds"), 0);
}
END_TEST

START_TEST(runner_of_a_flake__is_refused_to_a_user_who_cannot_reach_it_and_ends_with_its_shim) {
  struct bench b;
  char flake[PATH_MAX + 16], file[PATH_MAX], command[6 * PATH_MAX];
  (void)blx__str_format(file, sizeof file, "%s/module.nix", boot.dir);
  ck_assert_int_eq(blx__file_write_atomic(file, boot_module, strlen(boot_module), 0600, NULL).code, 0);
  (void)blx__str_format(command, sizeof command,
                        "'%s/wrap' --out '%s/flake' --name web --module '%s' --kernel '%s' --guest '%s' --accel tcg",
                        boot.runner, boot.dir, file, boot.kernel, boot.guest);
  ck_assert_int_eq(system(command), 0);
  boot_open(&b);
  struct blx__vm_desc d = boot_desc("web-1", 25);
  (void)blx__str_format(flake, sizeof flake, "%s/flake#web", boot.dir);
  d.flake = flake;
  struct waited w = bench_prepare(&b, &d); /* both a module and a flake */
  ck_assert(w.failed && w.err.code == BLX_E_INVALID);
  d.config = NULL;
  d.config_len = 0;
  ok(bench_prepare(&b, &d));
  /* The user of the monitors may not enter: refused by this driver, which was not told that it is optional. */
  ck_assert_int_eq(chmod(boot.dir, 0700), 0);
  w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_DENIED);
  ck_assert_int_eq(chmod(boot.dir, 0755), 0);
  ok(bench_start(&b, &d));
  bench_wait_event(&b, BLX__VM_EVENT_READY, 25, 1);
  ck_assert_int_eq(kill(parent_of(bench_last(&b, 25)->vmm_pid), SIGTERM), 0);
  bench_wait_event(&b, BLX__VM_EVENT_EXITED, 25, 1);
  ck_assert_int_eq(bench_last(&b, 25)->exit_status, 0);
  ok(bench_destroy(&b, &d.key));
  bench_close(&b);
}
END_TEST

/* A flake whose runner is what @script makes. @out: its reference. */
static void put_flake(const char *name, const char *script, char out[PATH_MAX + 64]) {
  char path[PATH_MAX + 96], text[2048];
  blx_error err;
  (void)blx__str_format(path, sizeof path, "%s/%s", boot.dir, name);
  ck_assert_int_eq(blx__dir_make(path, 0755, &err).code, 0);
  (void)blx__str_format(path, sizeof path, "%s/%s/flake.nix", boot.dir, name);
  bool fits = blx__str_format(text, sizeof text,
                              "{ outputs = { self }: { nixosConfigurations.vm.config.microvm.declaredRunner = "
                              "derivation {\n name = \"%s\"; system = \"x86_64-linux\"; builder = \"/bin/sh\";\n"
                              "  args = [ \"-c\" ''%s'' ]; }; }; }\n",
                              name, script);
  ck_assert(fits);
  ck_assert_int_eq(blx__file_write_atomic(path, text, strlen(text), 0644, &err).code, 0);
  (void)blx__str_format(out, PATH_MAX + 64, "path:%s/%s#vm", boot.dir, name);
}

static struct blx__vm_desc flake_desc(const char *name, uint64_t uid, const char *flake) {
  struct blx__vm_desc d = boot_desc(name, uid);
  d.flake = flake;
  d.config = NULL;
  d.config_len = 0;
  return d;
}

/* Whether a process of this machine has @argument. */
static bool runs_with(const char *argument) {
  char path[300], text[4096];
  bool found = false;
  DIR *d = opendir("/proc");
  struct dirent *e;
  ck_assert_ptr_nonnull(d);
  while (!found && (e = readdir(d))) {
    (void)blx__str_format(path, sizeof path, "/proc/%s/cmdline", e->d_name);
    FILE *f = fopen(path, "re");
    if (!f) continue;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    for (size_t at = 0; at < n && !found; at += strlen(text + at) + 1) found = strcmp(text + at, argument) == 0;
  }
  (void)closedir(d);
  return found;
}

static void wait_not_running(const char *argument) {
  for (unsigned i = 0; i < 500 && runs_with(argument); i++) (void)poll(NULL, 0, 10);
  ck_assert(!runs_with(argument));
}

START_TEST(build__that_waits_behind_one_that_hangs__is_cancelled_at_once) {
  struct bench b;
  boot_open(&b);
  char flake[PATH_MAX + 64];
  put_flake("hangs", "/bin/sleep 600.25", flake);
  struct blx__vm_desc head = flake_desc("hangs-1", 30, flake), behind = boot_desc("behind-1", 31);
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
  wait_not_running("600.25");
  bench_close(&b);
  ck_assert_uint_eq(boot_entries("vms"), 0);
  ck_assert_uint_eq(boot_entries("builds"), 0);
}
END_TEST

START_TEST(build__that_takes_too_long__is_stopped_with_all_its_processes) {
  struct bench b;
  boot_build_deadline_ms = 2000;
  boot_open(&b);
  boot_build_deadline_ms = 0;
  char flake[PATH_MAX + 64];
  put_flake("slow", "/bin/sleep 600.5 & /bin/sleep 600.5; :", flake);
  struct blx__vm_desc d = flake_desc("slow-1", 40, flake);
  struct waited prepared = {.bench = &b};
  b.driver->ops->prepare(b.driver, &d, bench_done, &prepared);
  bench_wait_done(&b, &prepared);
  ck_assert(prepared.failed && prepared.err.code == BLX_E_TIMEOUT);
  ck_assert_msg(strstr(prepared.err.message, "slow-1 took too long"), "%s", prepared.err.message);
  wait_not_running("600.5");
  bench_close(&b);
  ck_assert_uint_eq(boot_entries("vms"), 0);
  ck_assert_uint_eq(boot_entries("builds"), 0);
}
END_TEST

START_TEST(build__that_fails__tells_the_end_of_its_log_and_leaves_what_was_there) {
  struct bench b;
  boot_open(&b);
  char flake[PATH_MAX + 64], path[PATH_MAX + 64], before[PATH_MAX] = "", after[PATH_MAX] = "";
  struct blx__vm_desc good = boot_desc("log-1", 50);
  ok(bench_prepare(&b, &good));
  (void)blx__str_format(path, sizeof path, "%s/vms/log-1-50/current", boot.dir);
  ck_assert_int_gt(readlink(path, before, sizeof before - 1), 0);
  put_flake("fails",
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo a line of the log that says little: $i; done\n"
            "echo the disk of the builder is full; exit 3",
            flake);
  struct blx__vm_desc bad = flake_desc("log-1", 50, flake), fresh = flake_desc("log-2", 51, flake);
  struct waited w = bench_prepare(&b, &bad);
  ck_assert(w.failed && w.err.code == BLX_E_INVALID);
  ck_assert_msg(strstr(w.err.message, "failed with exit code 3"), "%s", w.err.message);
  ck_assert_msg(strstr(w.err.message, "the disk of the builder is full"), "%s", w.err.message);
  ck_assert_int_gt(readlink(path, after, sizeof after - 1), 0);
  ck_assert_str_eq(before, after);
  w = bench_prepare(&b, &fresh);
  ck_assert(w.failed);
  ck_assert_uint_eq(boot_entries("vms"), 1);
  ok(bench_destroy(&b, &good.key));
  bench_close(&b);
  ck_assert_uint_eq(boot_entries("vms"), 0);
  ck_assert_uint_eq(boot_entries("builds"), 0);
}
END_TEST

START_TEST(runner__of_a_hypervisor_that_is_not_driven__is_not_started) {
  struct bench b;
  boot_open(&b);
  char flake[PATH_MAX + 64];
  static const struct {
    const char *name, *script, *told;
    int code;
  } runners[] = {
      {"said", "/bin/mkdir -p $out/share/microvm; echo cloud-hypervisor >$out/share/microvm/hypervisor",
       "hypervisor cloud-hypervisor is not supported yet", BLX_E_UNSUPPORTED},
      {"odd", "/bin/mkdir -p $out/share/microvm; echo simh >$out/share/microvm/hypervisor",
       "hypervisor simh is unknown", BLX_E_INVALID},
      {"microvm-firecracker-web", "/bin/mkdir $out", "hypervisor firecracker is not supported yet", BLX_E_UNSUPPORTED},
      {"microvm-cloud-hypervisor-web", "/bin/mkdir $out", "cloud-hypervisor is not supported yet", BLX_E_UNSUPPORTED},
      /* These get as far as their missing microvm-run. */
      {"microvm-web", "/bin/mkdir $out", "booted/bin/microvm-run", BLX_E_NOT_FOUND},
      {"plain", "/bin/mkdir $out", "booted/bin/microvm-run", BLX_E_NOT_FOUND},
  };
  for (unsigned i = 0; i < BLX__COUNT(runners); i++) {
    put_flake(runners[i].name, runners[i].script, flake);
    struct blx__vm_desc d = flake_desc("other-1", 70 + i, flake);
    ok(bench_prepare(&b, &d));
    struct waited w = bench_start(&b, &d);
    ck_assert(w.failed);
    ck_assert_msg(strstr(w.err.message, runners[i].told), "%s", w.err.message);
    ck_assert_int_eq(w.err.code, runners[i].code);
    ok(bench_destroy(&b, &d.key));
  }
  bench_close(&b);
  ck_assert_uint_eq(boot_entries("vms"), 0);
}
END_TEST

START_TEST(builds__of_one_node__come_one_after_the_other) {
  struct bench b;
  boot_open(&b);
  char flake[3][PATH_MAX + 64], script[PATH_MAX + 128], name[16], text[64] = "";
  struct blx__vm_desc d[3];
  struct waited w[3];
  for (unsigned i = 0; i < 3; i++) {
    (void)blx__str_format(name, sizeof name, "turn%u", i);
    (void)blx__str_format(script, sizeof script,
                          "echo begin >>%s/turns; /bin/sleep 0.3; echo end >>%s/turns; echo %u >$out", boot.dir,
                          boot.dir, i);
    put_flake(name, script, flake[i]);
    d[i] = flake_desc("turn-1", 60 + i, flake[i]);
    w[i] = (struct waited){.bench = &b};
    b.driver->ops->prepare(b.driver, &d[i], bench_done, &w[i]);
  }
  for (unsigned i = 0; i < 3; i++) {
    bench_wait_done(&b, &w[i]);
    ok(w[i]);
  }
  (void)blx__str_format(script, sizeof script, "%s/turns", boot.dir);
  FILE *f = fopen(script, "re");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
  (void)fclose(f);
  ck_assert_str_eq(text, "begin\nend\nbegin\nend\nbegin\nend\n");
  for (unsigned i = 0; i < 3; i++) ok(bench_destroy(&b, &d[i].key));
  bench_close(&b);
}
END_TEST

START_TEST(driver__closed_in_the_middle__completes_everything_with_cancelled) {
  struct bench b;
  boot_open(&b);
  struct blx__vm_desc d = boot_desc("mid-1", 30), e = boot_desc("mid-2", 31);
  struct waited w[2] = {{.bench = &b}, {.bench = &b}};
  b.driver->ops->prepare(b.driver, &d, bench_done, &w[0]);
  b.driver->ops->prepare(b.driver, &e, bench_done, &w[1]);
  bench_close(&b);
  for (unsigned i = 0; i < 2; i++) {
    ck_assert_uint_eq(w[i].times, 1);
    ck_assert(w[i].failed && w[i].err.code == BLX_E_CANCELLED);
  }
  ck_assert_uint_eq(boot_entries("vms"), 0);
}
END_TEST

int main(void) {
  const TTest *const tests[] = {guest__booted_from_a_module__says_ready_stops_dies_and_is_started_again,
                                guest__of_a_closed_driver__runs_on_and_is_adopted,
                                runner_of_a_flake__is_refused_to_a_user_who_cannot_reach_it_and_ends_with_its_shim,
                                build__that_fails_or_is_cancelled__says_why_and_leaves_nothing,
                                build__that_waits_behind_one_that_hangs__is_cancelled_at_once,
                                build__that_takes_too_long__is_stopped_with_all_its_processes,
                                build__that_fails__tells_the_end_of_its_log_and_leaves_what_was_there,
                                builds__of_one_node__come_one_after_the_other,
                                runner__of_a_hypervisor_that_is_not_driven__is_not_started,
                                driver__closed_in_the_middle__completes_everything_with_cancelled};
  return boot_main("vm/boot", tests, sizeof tests / sizeof tests[0]);
}
