/* What a shim that died unseen had made is taken back when the driver looks, and when it destroys. */
#include "../harness.h"
#include "support.h"

#include "host/net.h"
#include "io/file.h"

#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const struct blx__vm_key key = {.instance = "web-1", .uid = 7, .epoch = 3};
static char dir[128];
static int dir_fd;

static void put(const char *name, const char *text) {
  char path[PATH_MAX];
  (void)blx__str_format(path, sizeof path, "%s/booted/share/microvm/%s", dir, name);
  char *slash = strrchr(path, '/');
  *slash = '\0';
  ck_assert_int_eq(blx__dir_make(path, 0755, NULL).code, 0);
  *slash = '/';
  ck_assert_int_eq(blx__file_write_atomic(path, text, strlen(text), 0644, NULL).code, 0);
}

static bool there(const char *name) {
  return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* As a shim leaves it that was killed. */
static void leave(void) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  blx_error err;
  (void)blx__str_format(addr.sun_path, sizeof addr.sun_path,
                        "%s/"
                        "work/fs.sock",
                        dir);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert(fd >= 0 && bind(fd, (const struct sockaddr *)&addr, sizeof addr) == 0);
  (void)close(fd);
  ck_assert_msg(blx__host_nets_make(dir_fd, 0, 0, &err).code == 0, "%s", err.message);
  ck_assert(there("taps") && there("work/fs.sock") && if_nametoindex("vm-a") != 0);
}

START_TEST(what_a_shim_that_died_unseen_had__goes_when_the_driver_looks_and_when_it_destroys) {
  char state[64] = "/tmp/blx-left-XXXXXX", work[PATH_MAX];
  blx_error err;
  struct bench b;
  ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
  ck_assert_ptr_nonnull(mkdtemp(state));
  (void)blx__str_format(dir, sizeof dir, "%s/vms/web-1-7", state);
  (void)blx__str_format(work, sizeof work, "%s/work", dir);
  ck_assert_int_eq(blx__dir_make(work, 0755, NULL).code, 0);
  dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge(dir_fd, 0);
  put("tap-interfaces", "vm-a\n");
  put("virtiofs/t/socket", "fs.sock\n");
  leave();
  bench_open(&b);
  struct blx__vm_options o = {.state_dir = state,
                              .host_tag = "blixard-unit-test-3",
                              .shim_path = "/bin/false",
                              .nix_store_dir = state,
                              .on_event = bench_event,
                              .user = &b};
  ck_assert_msg(blx__vm_microvm_open(b.loop, &o, &b.driver, &err).code == 0, "%s", err.message);
  struct waited w = bench_adopt(&b, &key);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  ck_assert_int_eq(w.status.state, BLX__VM_EXITED);
  ck_assert(!there("taps") && !there("work/fs.sock"));
  ck_assert_uint_eq(if_nametoindex("vm-a"), 0);
  leave();
  w = bench_destroy(&b, &key);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  ck_assert_uint_eq(if_nametoindex("vm-a"), 0);
  bench_close(&b);
  (void)close(dir_fd);
  ck_assert_int_eq(blx__dir_remove_tree(state, NULL).code, 0);
}
END_TEST

int main(void) {
  if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
    printf("SKIP: taps need root and /dev/net/tun\n");
    return 77;
  }
  Suite *suite = suite_create("vm/left");
  TCase *tcase = tcase_create("vm/left");
  tcase_add_test(tcase, what_a_shim_that_died_unseen_had__goes_when_the_driver_looks_and_when_it_destroys);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
