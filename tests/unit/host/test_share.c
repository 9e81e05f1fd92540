/* Which directories a runner may share with its guest. */
#include "../harness.h"
#include "support.h"

#include "base/rc.h"
#include "host/share.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct place place;
static struct blx__host_share shares[BLX__HOST_SHARES_MAX];
static unsigned count;

static void name_share(const char *tag, const char *socket, const char *source) {
  char path[128];
  (void)blx__str_format(path, sizeof path, SHARE "/virtiofs/%s/socket", tag);
  place_put(&place, path, socket);
  (void)blx__str_format(path, sizeof path, SHARE "/virtiofs/%s/source", tag);
  place_put(&place, path, source);
}

static void given(const char *allowed, uint32_t uid) {
  blx_error err;
  blx__rc rc = blx__host_shares_open(place.fd, allowed, uid, uid, shares, &count, &err);
  ck_assert_msg(rc.code == 0, "%s", err.message);
}

static void refused(const char *allowed, int code, const char *text) {
  blx_error err = {0};
  count = 99;
  ck_assert_int_eq(blx__host_shares_open(place.fd, allowed, 0, 0, shares, &count, &err).code, code);
  ck_assert_msg(strstr(err.message, text), "%s", err.message);
  ck_assert_uint_eq(count, 99);
}

/* Where the share's descriptor leads. */
static void leads_to(const struct blx__host_share *s, const char *below) {
  char self[32], real[PATH_MAX], want[PATH_MAX];
  (void)blx__str_format(self, sizeof self, "/proc/self/fd/%d", s->source);
  ssize_t n = readlink(self, real, sizeof real - 1);
  ck_assert_int_gt(n, 0);
  real[n] = '\0';
  (void)blx__str_format(want, sizeof want, "%s/%s", place.top, below);
  ck_assert_str_eq(real, want);
}

static const char *below_top(const char *name) {
  static char path[PATH_MAX];
  (void)blx__str_format(path, sizeof path, "%s/%s", place.top, name);
  return path;
}

START_TEST(no_shares__are_none) {
  place_open(&place);
  given(NULL, 0);
  ck_assert_uint_eq(count, 0);
  place_dir(&place, SHARE "/virtiofs");
  given(NULL, 0);
  ck_assert_uint_eq(count, 0);
  place_close(&place);
}
END_TEST

START_TEST(source__that_is_relative__is_made_in_the_working_directory_for_the_monitors_user) {
  struct stat st;
  place_open(&place);
  name_share("data", "h-virtiofs-data.sock\n", "./a//b/\n");
  given(NULL, geteuid() == 0 ? 65534 : geteuid());
  ck_assert_uint_eq(count, 1);
  ck_assert_str_eq(shares[0].tag, "data");
  ck_assert_str_eq(shares[0].socket, "h-virtiofs-data.sock");
  ck_assert(!shares[0].read_only);
  leads_to(&shares[0], "vms/web-1-7/"
                       "work/a/b");
  ck_assert_int_eq(fstatat(place.fd, "work/a/b", &st, 0), 0);
  ck_assert_uint_eq(st.st_uid, geteuid() == 0 ? 65534 : geteuid());
  blx__host_shares_close(shares, count);
  given(NULL, 0); /* it is there */
  ck_assert_uint_eq(count, 1);
  blx__host_shares_close(shares, count);
  place_close(&place);
}
END_TEST

START_TEST(source__that_leads_out_of_the_working_directory__is_refused) {
  place_open(&place);
  name_share("t", "s", "a/../../x");
  refused("/", BLX_E_INVALID, "leads out of the VM's directory by \"..\"");
  name_share("t", "s", "link/x");
  ck_assert_int_eq(symlinkat("/etc", place.fd, "work/link"), 0);
  refused("/", BLX_E_DENIED, "lies behind a link: link");
  name_share("t", "s", "link");
  refused("/", BLX_E_DENIED, "lies behind a link: link");
  place_put(&place, "work/file", "");
  name_share("t", "s", "file");
  refused("/", BLX_E_DENIED, "is no directory");
  name_share("t", "s", ".\n");
  refused("/", BLX_E_INVALID, "is the VM's directory itself");
  name_share("t", "s", "");
  refused("/", BLX_E_INVALID, "is the VM's directory itself");
  place_close(&place);
}
END_TEST

START_TEST(source__that_is_absolute__lies_below_what_the_operator_allows) {
  char allowed[PATH_MAX], both[2 * PATH_MAX];
  place_open(&place);
  place_dir(&place, "../../ok/in");
  place_dir(&place, "../../okay");
  place_dir(&place, "../../other");
  (void)blx__str_copy(allowed, sizeof allowed, below_top("ok"));
  (void)blx__str_format(both, sizeof both, "/none:%s:", allowed);
  name_share("t", "s", below_top("ok/in"));
  refused(NULL, BLX_E_DENIED, "(none but /nix/store): add one to share_paths in the daemon's configuration");
  refused("", BLX_E_DENIED, "none but /nix/store");
  refused("ok:relative", BLX_E_DENIED, "share_paths");
  given(both, 0);
  leads_to(&shares[0], "ok/in");
  ck_assert(!shares[0].read_only);
  blx__host_shares_close(shares, count);
  name_share("t", "s", allowed);
  given(allowed, 0);
  blx__host_shares_close(shares, count);
  /* Its name goes on; it is a link out; it climbs out. */
  name_share("t", "s", below_top("okay"));
  refused(both, BLX_E_DENIED, "is not below a directory");
  ck_assert_int_eq(symlink("../other", below_top("ok/link")), 0);
  name_share("t", "s", below_top("ok/link"));
  refused(both, BLX_E_DENIED, "/other, is not below");
  name_share("t", "s", below_top("ok/../other"));
  refused(both, BLX_E_DENIED, "/other, is not below");
  /* A link in, and one in the setting itself. */
  ck_assert_int_eq(symlink("ok", below_top("alias")), 0);
  name_share("t", "s", below_top("alias/in"));
  given(both, 0);
  blx__host_shares_close(shares, count);
  name_share("t", "s", below_top("ok/in"));
  given(below_top("alias"), 0);
  blx__host_shares_close(shares, count);
  given("/", 0);
  blx__host_shares_close(shares, count);
  name_share("t", "s", below_top("ok/gone"));
  refused(both, BLX_E_NOT_FOUND, "is no directory of this host: make it");
  place_close(&place);
}
END_TEST

START_TEST(tags_and_sockets__that_an_option_could_read_otherwise__are_refused) {
  static const char *const sockets[] = {"", "../s", "/s", "a/b", "s,x", ".s", "-s", "a b"};
  char name[BLX__HOST_TAG_MAX + 2];
  place_open(&place);
  for (size_t i = 0; i < BLX__COUNT(sockets); i++) {
    name_share("t", sockets[i], "x");
    refused(NULL, BLX_E_INVALID, "the socket of share t");
  }
  name_share("t", "s", "x");
  memset(name, 'a', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  name_share(name, "s", "x");
  refused(NULL, BLX_E_INVALID, "is no tag of a share");
  place_close(&place);
  place_open(&place);
  name_share("a,b", "s", "x");
  refused(NULL, BLX_E_INVALID, "\"a,b\" is no tag of a share");
  place_close(&place);
  place_open(&place);
  for (unsigned i = 0; i <= BLX__HOST_SHARES_MAX; i++) {
    (void)blx__str_format(name, sizeof name, "t%u", i);
    name_share(name, name, "x");
  }
  refused(NULL, BLX_E_INVALID, "more than 16 shares");
  place_close(&place);
}
END_TEST

START_TEST(sockets__left_by_a_shim_that_died__are_removed_and_nothing_else_is) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  place_open(&place);
  name_share("a", "a.sock\n", "x\n");
  name_share("b", "b.sock\n", "x\n");
  name_share("c", "../booted\n", "x\n");
  (void)blx__str_format(addr.sun_path, sizeof addr.sun_path,
                        "%s/"
                        "work/a.sock",
                        place.dir);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert(fd >= 0 && bind(fd, (const struct sockaddr *)&addr, sizeof addr) == 0);
  (void)close(fd);
  place_put(&place, "work/b.sock", "a file of the guest's owner");
  blx__host_shares_unlink(place.fd);
  ck_assert(!place_has(&place, "work/a.sock") && place_has(&place, "work/b.sock") && place_has(&place, "booted"));
  place_close(&place);
}
END_TEST

BLX_TEST_MAIN("host/share", no_shares__are_none,
              source__that_is_relative__is_made_in_the_working_directory_for_the_monitors_user,
              source__that_leads_out_of_the_working_directory__is_refused,
              source__that_is_absolute__lies_below_what_the_operator_allows,
              tags_and_sockets__that_an_option_could_read_otherwise__are_refused,
              sockets__left_by_a_shim_that_died__are_removed_and_nothing_else_is)
