/* Taps as a runner's files name them, made and removed in a network namespace of the test's own. */
#include "../harness.h"
#include "support.h"

#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct place place;

static void put(const char *name, const char *text) {
  char path[64];
  (void)blx__str_format(path, sizeof path, SHARE "/%s", name);
  place_put(&place, path, text);
}

static void set_tun_mode(mode_t mode) {
  ck_assert_int_eq(fchmodat(place.fd, "tun", mode, 0), 0);
}

static void open_dir(void) {
  place_open(&place);
  place_apart(&place);
}

static void close_dir(void) {
  place_apart_end();
  place_close(&place);
}

static bool noted(void) {
  return place_has(&place, "taps");
}

static void made(uint32_t owner) {
  blx_error err;
  ck_assert_msg(blx__host_nets_make(place.fd, owner, owner, &err).code == 0, "%s", err.message);
}

static void refused(int code, const char *text) {
  blx_error err = {0};
  ck_assert_int_eq(blx__host_nets_make(place.fd, 0, 0, &err).code, code);
  ck_assert_msg(strstr(err.message, text), "%s", err.message);
  ck_assert(!noted());
}

static void removed(void) {
  blx_error err;
  ck_assert_msg(blx__host_nets_remove(place.fd, &err).code == 0, "%s", err.message);
  ck_assert(!noted());
}

static bool is_up(const char *name) {
  struct ifreq ask = {0};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  (void)blx__str_copy(ask.ifr_name, sizeof ask.ifr_name, name);
  ck_assert_int_eq(ioctl(fd, SIOCGIFFLAGS, &ask), 0);
  (void)close(fd);
  return ask.ifr_flags & IFF_UP;
}

/* As a monitor does it: 0 or errno. */
static int attach(const char *name, short flags) {
  struct ifreq ask = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
  (void)blx__str_copy(ask.ifr_name, sizeof ask.ifr_name, name);
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  int errnum = ioctl(fd, TUNSETIFF, &ask) == 0 ? 0 : errno;
  (void)close(fd);
  return errnum;
}

START_TEST(taps__that_a_runner_names__are_there_for_their_owner_until_they_are_removed) {
  open_dir();
  put("tap-interfaces", "vm-a\nvm-b.1\n");
  put("tap-flags", "vnet_hdr");
  made(65534);
  ck_assert(noted());
  ck_assert(is_up("vm-a") && is_up("vm-b.1"));
  pid_t child = fork();
  if (child == 0) {
    if (setresuid(65534, 65534, 65534) != 0) _exit(99);
    _exit(attach("vm-a", IFF_VNET_HDR));
  }
  int status = 0;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  child = fork();
  if (child == 0) _exit(setresuid(65533, 65533, 65533) != 0 ? 99 : attach("vm-a", IFF_VNET_HDR));
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == EPERM);
  removed();
  ck_assert_uint_eq(if_nametoindex("vm-a"), 0);
  ck_assert_uint_eq(if_nametoindex("vm-b.1"), 0);
  removed(); /* again */
  close_dir();
}
END_TEST

START_TEST(taps__left_by_a_shim_that_died__are_made_anew) {
  open_dir();
  put("tap-interfaces", "vm-a\n");
  put("tap-flags", "vnet_hdr multi_queue\n");
  made(65534);
  unsigned before = if_nametoindex("vm-a");
  made(65534);
  ck_assert_uint_ne(if_nametoindex("vm-a"), before);
  ck_assert_int_eq(attach("vm-a", IFF_VNET_HDR | IFF_MULTI_QUEUE), 0);
  removed();
  close_dir();
}
END_TEST

START_TEST(taps__that_cannot_be_made__are_refused_and_leave_nothing) {
  open_dir();
  put("tap-interfaces", "vm-a\nlo\n");
  refused(BLX_E_CONFLICT, "this host has a network interface lo already");
  ck_assert_uint_eq(if_nametoindex("vm-a"), 0);
  ck_assert_uint_ne(if_nametoindex("lo"), 0);
  static const char *const bad[] = {"../x", "sixteen-letters-", "a/b", "-a", ".", "a:b", "a\tb", "\x01"};
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    put("tap-interfaces", bad[i]);
    refused(BLX_E_INVALID, "is no name of an interface");
  }
  put("tap-interfaces", "a b c d e f g h i j k l m n o p q");
  refused(BLX_E_INVALID, "more than 16 taps");
  ck_assert_uint_eq(if_nametoindex("a"), 0);
  put("tap-interfaces", "vm-a");
  put("tap-flags", "vnet_hdr turbo");
  refused(BLX_E_INVALID, "tap-flags say \"turbo\"");
  char big[4000];
  memset(big, 'a', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  put("tap-flags", big);
  refused(BLX_E_INVALID, "is longer than");
  close_dir();
}
END_TEST

START_TEST(record_of_taps__that_means_others_by_now__removes_nothing) {
  open_dir();
  put("tap-interfaces", "vm-a\n");
  made(0);
  char text[512];
  place_get(&place, "taps", text, sizeof text);
  ck_assert_uint_gt(strlen(text), 40);
  /* Of an earlier boot of the host. */
  char first = text[0];
  text[0] = first == 'a' ? 'b' : 'a';
  place_put(&place, "taps", text);
  removed();
  unsigned index = if_nametoindex("vm-a");
  ck_assert_uint_ne(index, 0);
  text[0] = first;
  /* And of an interface that has the number of another. */
  char *name = strstr(text, "vm-a");
  ck_assert_ptr_nonnull(name);
  *name = 'x';
  place_put(&place, "taps", text);
  removed();
  ck_assert_uint_eq(if_nametoindex("vm-a"), index);
  close_dir();
}
END_TEST

START_TEST(taps__without_the_capability__are_denied_with_what_is_missing) {
  open_dir();
  put("tap-interfaces", "vm-a\n");
  pid_t child = fork();
  if (child == 0) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) != 0) _exit(98);
    data[0].effective &= ~(1U << CAP_NET_ADMIN);
    data[0].permitted &= ~(1U << CAP_NET_ADMIN);
    if (syscall(SYS_capset, &head, data) != 0) _exit(99);
    blx_error err = {0};
    bool ok =
        blx__host_nets_make(place.fd, 0, 0, &err).code == BLX_E_DENIED && strstr(err.message, "lacks CAP_NET_ADMIN");
    _exit(ok && !noted() ? 0 : 1);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  /* The daemon may, and its monitors could not open what it makes. */
  set_tun_mode(0600);
  blx_error err = {0};
  ck_assert_int_eq(blx__host_nets_make(place.fd, 65534, 65534, &err).code, BLX_E_DENIED);
  ck_assert_msg(strstr(err.message, "chmod 0666"), "%s", err.message);
  made(0);
  removed();
  close_dir();
}
END_TEST

int main(void) {
  if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
    printf("SKIP: taps need root and /dev/net/tun\n");
    return 77;
  }
  const TTest *const tests[] = {taps__that_a_runner_names__are_there_for_their_owner_until_they_are_removed,
                                taps__left_by_a_shim_that_died__are_made_anew,
                                taps__that_cannot_be_made__are_refused_and_leave_nothing,
                                record_of_taps__that_means_others_by_now__removes_nothing,
                                taps__without_the_capability__are_denied_with_what_is_missing};
  Suite *suite = suite_create("host/tap");
  TCase *tcase = tcase_create("host/tap");
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tcase, tests[i]);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
