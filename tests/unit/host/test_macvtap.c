/* Macvtaps as a runner's files name them, in a network namespace of the test's own, on a pair of its own. */
#include "../harness.h"
#include "support.h"

#include "base/rc.h"
#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static struct place place;

/* `ip`, since it is none of ours. */
static void ip(const char *const *words) {
  char *argv[16] = {"ip"};
  for (unsigned i = 0; words[i]; i++) argv[i + 1] = (char *)(uintptr_t)words[i];
  pid_t child = fork();
  if (child == 0) {
    (void)execvp("ip", argv);
    _exit(127);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "ip %s %s ... failed", words[0], words[1]);
}

static void open_place(void) {
  place_open(&place);
  place_apart(&place);
  ip((const char *const[]){"link", "add", "low0", "type", "veth", "peer", "name", "low1", NULL});
}

static void close_place(void) {
  place_apart_end();
  place_close(&place);
}

static void put(const char *text) {
  place_put(&place, SHARE "/macvtap-interfaces", text);
}

static void made(uint32_t uid, uint32_t gid) {
  blx_error err;
  ck_assert_msg(blx__host_nets_make(place.fd, uid, gid, &err).code == 0, "%s", err.message);
}

static void removed(void) {
  blx_error err;
  ck_assert_msg(blx__host_nets_remove(place.fd, &err).code == 0, "%s", err.message);
  ck_assert(!place_has(&place, "taps"));
}

static void refused(int code, const char *text) {
  blx_error err = {0};
  ck_assert_int_eq(blx__host_nets_make(place.fd, 0, 0, &err).code, code);
  ck_assert_msg(strstr(err.message, text), "%s", err.message);
  ck_assert(!place_has(&place, "taps"));
  ck_assert_uint_eq(if_nametoindex("vm-m"), 0);
}

/* What `ip -d link` says of it. */
static void says(const char *name, const char *text) {
  char said[2048], command[64];
  (void)blx__str_format(command, sizeof command, "ip -d link show %s", name);
  FILE *f = popen(command, "r");
  ck_assert_ptr_nonnull(f);
  size_t n = fread(said, 1, sizeof said - 1, f);
  said[n] = '\0';
  ck_assert_int_eq(pclose(f), 0);
  ck_assert_msg(strstr(said, text), "%s not in %s", text, said);
}

static void node_of(const char *name, char path[32]) {
  (void)blx__str_format(path, 32, "/dev/tap%u", if_nametoindex(name));
}

START_TEST(macvtap__that_a_runner_names__is_there_for_its_monitor_until_it_is_removed) {
  char path[32];
  struct stat st;
  open_place();
  put("vm-m 02:00:00:00:0a:0B low0 bridge\nvm-n 02:00:00:00:0a:0c low0 bridge\n");
  made(65534, 65533);
  says("vm-m", "link/ether 02:00:00:00:0a:0b");
  says("vm-m", "macvtap mode bridge");
  says("vm-m", "vm-m@low0");
  says("vm-m", "ALLMULTI");
  says("vm-m", ",UP");
  node_of("vm-m", path);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert(S_ISCHR(st.st_mode) && st.st_uid == 65534 && st.st_gid == 65533);
  ck_assert_uint_eq(st.st_mode & 0077, 0);
  pid_t child = fork();
  if (child == 0) {
    bool ok = setresgid(65533, 65533, 65533) == 0 && setresuid(65534, 65534, 65534) == 0;
    _exit(ok && open(path, O_RDWR) >= 0 ? 0 : 1);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  /* Left by a shim that died: they are made anew. */
  unsigned before = if_nametoindex("vm-m");
  made(65534, 65533);
  ck_assert_uint_ne(if_nametoindex("vm-m"), before);
  node_of("vm-m", path);
  removed();
  ck_assert_uint_eq(if_nametoindex("vm-m"), 0);
  ck_assert_uint_eq(if_nametoindex("vm-n"), 0);
  ck_assert_int_ne(access(path, F_OK), 0);
  ck_assert_uint_ne(if_nametoindex("low0"), 0);
  removed(); /* again */
  close_place();
}
END_TEST

START_TEST(every_mode__is_the_kernels) {
  static const char *const modes[] = {"bridge", "private", "vepa", "passthru", "source"};
  open_place();
  for (size_t i = 0; i < BLX__COUNT(modes); i++) {
    char line[96];
    (void)blx__str_format(line, sizeof line, "vm-m 02:00:00:00:00:01 low0 %s\n", modes[i]);
    put(line);
    made(0, 0);
    (void)blx__str_format(line, sizeof line, "macvtap mode %s", modes[i]);
    says("vm-m", line);
    removed();
  }
  close_place();
}
END_TEST

START_TEST(device__where_nothing_makes_it__is_made_and_removed_by_us) {
  char path[32];
  struct stat st;
  open_place();
  place_dir(&place, "dev");
  put("vm-m 02:00:00:00:00:01 low0 bridge\n");
  /* A /dev without devtmpfs; what a test of taps needs of it is not needed here. */
  ck_assert_int_eq(mount("tmpfs", "/dev", "tmpfs", 0, NULL), 0);
  ck_assert_int_eq(mkdir("/dev/net", 0755), 0);
  made(65534, 65534);
  node_of("vm-m", path);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert(S_ISCHR(st.st_mode) && st.st_uid == 65534);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  ck_assert_msg(fd >= 0, "it is another device: %s", strerror(errno));
  (void)close(fd);
  removed();
  ck_assert_int_ne(access(path, F_OK), 0);
  /* One that is another's by now stays. */
  made(0, 0);
  node_of("vm-m", path);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(mknod(path, S_IFCHR | 0600, makedev(1, 3)), 0);
  removed();
  ck_assert_int_eq(access(path, F_OK), 0);
  ck_assert_int_eq(umount("/dev"), 0);
  close_place();
}
END_TEST

START_TEST(macvtap__that_cannot_be_made__is_refused_and_leaves_nothing) {
  static const struct {
    const char *line, *told;
    int code;
  } bad[] = {
      {"vm-m 02:00:00:00:00:01 eth9 bridge", "no network interface eth9 for the macvtap vm-m to lie on: correct",
       BLX_E_NOT_FOUND},
      {"vm-m 02:00:00:00:00:01 low0", "is not \"ID MAC LINK MODE\"", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00:01 low0 bridge more", "is not \"ID MAC LINK MODE\"", BLX_E_INVALID},
      {"../m 02:00:00:00:00:01 low0 bridge", "\"../m\" in the runner's macvtap-interfaces is no name", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00:01 a/b bridge", "\"a/b\" in the runner's macvtap-interfaces is no name", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00 low0 bridge", "\"02:00:00:00:00\" in", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00:0g low0 bridge", "is no address of one interface", BLX_E_INVALID},
      {"vm-m 03:00:00:00:00:01 low0 bridge", "is no address of one interface", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00:01 low0 turbo", "has mode \"turbo\"; bridge, private", BLX_E_INVALID},
      {"vm-m 02:00:00:00:00:01 lo bridge", "no macvtap can lie on lo", BLX_E_INVALID},
      {"low1 02:00:00:00:00:01 low0 bridge", "a network interface low1 already", BLX_E_CONFLICT},
      {"vm-m 02:00:00:00:00:01 low0 bridge\nvm-n 02:00:00:00:00:01 low0 bridge", "has this address", BLX_E_CONFLICT},
      {"vm-m 02:00:00:00:00:01 low0 passthru\nvm-n 02:00:00:00:00:02 low0 bridge", "that no other has for itself",
       BLX_E_INVALID},
  };
  char many[2048] = "";
  open_place();
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    put(bad[i].line);
    refused(bad[i].code, bad[i].told);
  }
  ck_assert_uint_ne(if_nametoindex("low1"), 0);
  for (unsigned i = 0; i <= BLX__HOST_NETS_MAX; i++) {
    char line[64];
    (void)blx__str_format(line, sizeof line, "vm-%u 02:00:00:00:01:%02x low0 bridge\n", i, i);
    strncat(many, line, sizeof many - strlen(many) - 1);
  }
  put(many);
  refused(BLX_E_INVALID, "more than 16 taps and macvtaps");
  ck_assert_uint_eq(if_nametoindex("vm-0"), 0);
  close_place();
}
END_TEST

int main(void) {
  if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
    printf("SKIP: macvtaps need root and /dev/net/tun\n");
    return 77;
  }
  const TTest *const tests[] = {macvtap__that_a_runner_names__is_there_for_its_monitor_until_it_is_removed,
                                every_mode__is_the_kernels, device__where_nothing_makes_it__is_made_and_removed_by_us,
                                macvtap__that_cannot_be_made__is_refused_and_leaves_nothing};
  Suite *suite = suite_create("host/macvtap");
  TCase *tcase = tcase_create("host/macvtap");
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tcase, tests[i]);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
