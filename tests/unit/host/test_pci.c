/* PCI devices in a tree that stands for /sys and /dev. A second process plays the kernel: it sees each write by
 * inotify, in the order in which they came, notes it, and moves the device between drivers as Linux does. */
#include "../harness.h"
#include "support.h"

#include "base/rc.h"
#include "host/devices.h"
#include "host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NET "0000:06:00.1"
#define DISK "0000:07:00.0"
#define BUS "root/sys/bus/pci"

static struct place place, second;
static char root[PATH_MAX];
static pid_t kernel;
static uint32_t monitor;

/* ---- the tree */

/* What several devices write to keeps each write until our kernel comes to it. */
static void queue(const char *path) {
  char above[PATH_MAX];
  (void)blx__str_copy(above, sizeof above, path);
  *strrchr(above, '/') = '\0';
  place_dir(&place, above);
  ck_assert(mkfifoat(place.fd, path, 0600) == 0 || errno == EEXIST);
}

static void device(const char *address, const char *driver, const char *group) {
  char path[PATH_MAX], target[64];
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver_override", address);
  place_put(&place, path, "");
  (void)blx__str_format(path, sizeof path, BUS "/drivers/%s/unbind", driver);
  queue(path);
  (void)blx__str_format(target, sizeof target, "../../drivers/%s", driver);
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver", address);
  ck_assert_int_eq(symlinkat(target, place.fd, path), 0);
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/home", address); /* for our kernel */
  place_put(&place, path, driver);
  if (!group) return;
  (void)blx__str_format(target, sizeof target, "../../../../kernel/iommu_groups/%s", group);
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/iommu_group", address);
  ck_assert_int_eq(symlinkat(target, place.fd, path), 0);
  (void)blx__str_format(path, sizeof path, "root/dev/vfio/%s", group);
  place_put(&place, path, "");
}

/* The instance web-2-8 of the same node. */
static void open_second(void) {
  second = place;
  (void)blx__str_format(second.dir, sizeof second.dir, "%s/vms/web-2-8", place.top);
  place_dir(&second, SHARE);
  second.fd = open(second.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge(second.fd, 0);
}

/* ---- the kernel */

static void text_at(const char *path, char out[128]) {
  int fd = openat(place.fd, path, O_RDONLY);
  ssize_t n = fd < 0 ? 0 : read(fd, out, 127);
  if (fd >= 0) (void)close(fd);
  out[n > 0 ? n : 0] = '\0';
  out[strcspn(out, "\n")] = '\0';
}

static void note(const char *what, const char *text) {
  int fd = openat(place.fd, "writes", O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (fd < 0 || dprintf(fd, "%s %s\n", what, text[0] ? text : "-") < 0) _exit(2);
  (void)close(fd);
}

static void unbind(const char *address) {
  char path[PATH_MAX];
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver", address);
  (void)unlinkat(place.fd, path, 0);
}

static void probe(const char *address, bool loaded) {
  char path[PATH_MAX], driver[128], target[160];
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver_override", address);
  text_at(path, driver);
  if (driver[0] && !loaded) return;
  if (!driver[0]) {
    (void)blx__str_format(path, sizeof path, BUS "/devices/%s/home", address);
    text_at(path, driver);
  }
  (void)blx__str_format(target, sizeof target, "../../drivers/%s", driver);
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver", address);
  if (symlinkat(target, place.fd, path) != 0 && errno != EEXIST) _exit(5);
}

enum { WATCHES = 16 };
static struct watch {
  int id;
  char path[160];
  int queued; /* to be read from; -1: a file */
} watches[WATCHES];
static unsigned watch_count;

static void watch(int notify, const char *path) {
  char whole[PATH_MAX];
  (void)blx__str_format(whole, sizeof whole, "%s/%s", place.dir, path);
  watches[watch_count].id = inotify_add_watch(notify, whole, IN_CLOSE_WRITE);
  if (watches[watch_count].id < 0 || watch_count == WATCHES - 1) _exit(3);
  bool file = strcmp(strrchr(path, '/'), "/driver_override") == 0;
  watches[watch_count].queued = file ? -1 : openat(place.fd, path, O_RDWR | O_NONBLOCK);
  (void)blx__str_copy(watches[watch_count++].path, sizeof watches[0].path, path);
}

static void on_write(const struct watch *w, bool loaded) {
  const char *path = w->path;
  char text[128] = "";
  const char *short_path = path + strlen(BUS) + 1;
  if (w->queued < 0)
    text_at(path, text);
  else if (read(w->queued, text, sizeof NET - 1) != sizeof NET - 1)
    _exit(6);
  if (strcmp(strrchr(path, '/'), "/unbind") == 0) unbind(text);
  if (strcmp(strrchr(path, '/'), "/drivers_probe") == 0) probe(text, loaded);
  note(short_path, text); /* when it is done */
}

static _Noreturn void be_kernel(int ready, bool loaded) {
  static const char *const paths[] = {BUS "/drivers_probe",
                                      BUS "/drivers/nic/unbind",
                                      BUS "/drivers/nvme/unbind",
                                      BUS "/drivers/vfio-pci/unbind",
                                      BUS "/devices/" NET "/driver_override",
                                      BUS "/devices/" DISK "/driver_override"};
  int notify = inotify_init1(IN_CLOEXEC);
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  for (size_t i = 0; i < BLX__COUNT(paths); i++)
    if (place_has(&place, paths[i])) watch(notify, paths[i]);
  if (write(ready, "", 1) != 1) _exit(4);
  for (;;) {
    char events[4096] __attribute__((aligned(8)));
    ssize_t n = read(notify, events, sizeof events);
    for (ssize_t at = 0; at < n;) {
      const struct inotify_event *e = (const void *)(events + at);
      for (unsigned i = 0; i < watch_count; i++)
        if (watches[i].id == e->wd) on_write(&watches[i], loaded);
      at += (ssize_t)sizeof *e + e->len;
    }
  }
}

/* @loaded: whether it has vfio-pci */
static void start_kernel(bool loaded) {
  int ready[2];
  char byte;
  queue(BUS "/drivers_probe");
  queue(BUS "/drivers/vfio-pci/unbind");
  ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
  kernel = fork();
  if (kernel == 0) be_kernel(ready[1], loaded);
  (void)close(ready[1]);
  ck_assert_int_eq(read(ready[0], &byte, 1), 1);
  (void)close(ready[0]);
}

static void open_all(bool loaded) {
  monitor = geteuid() == 0 ? 65534 : geteuid();
  place_open(&place);
  (void)blx__str_format(root, sizeof root, "%s/root", place.dir);
  place_dir(&place, "root/dev/vfio");
  device(NET, "nic", "7");
  device(DISK, "nvme", "9");
  start_kernel(loaded);
}

static void close_all(void) {
  int status;
  (void)kill(kernel, SIGKILL);
  ck_assert_int_eq(waitpid(kernel, &status, 0), kernel);
  ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  place_close(&place);
}

/* What was written until now, once there are so many lines of it. */
static void written(const char *want) {
  char text[4096] = "";
  for (unsigned i = 0; i < 500; i++) {
    if (place_has(&place, "writes")) place_get(&place, "writes", text, sizeof text);
    if (strlen(text) >= strlen(want)) break;
    (void)poll(NULL, 0, 10);
  }
  ck_assert_str_eq(text, want);
  (void)unlinkat(place.fd, "writes", 0);
}

/* ---- asking */

static struct blx__host_pci of(const struct place *p) {
  return (struct blx__host_pci){.dir = p->fd, .name = strrchr(p->dir, '/') + 1, .root = root};
}

static void wants(const struct place *p, const char *text) {
  place_put(p, SHARE "/pci-devices", text);
}

static void made(const struct place *p) {
  struct blx__host_pci pci = of(p);
  blx_error err;
  ck_assert_msg(blx__host_pci_make(&pci, monitor, monitor, &err).code == 0, "%s", err.message);
}

static void refused(const struct place *p, int code, const char *told) {
  struct blx__host_pci pci = of(p);
  blx_error err = {0};
  int got = blx__host_pci_make(&pci, monitor, monitor, &err).code;
  ck_assert_msg(got == code && strstr(err.message, told), "%d: %s", got, err.message);
  ck_assert(!place_has(p, "pci"));
}

static void removed(const struct place *p) {
  struct blx__host_pci pci = of(p);
  blx_error err;
  ck_assert_msg(blx__host_pci_remove(&pci, &err).code == 0, "%s", err.message);
  ck_assert(!place_has(p, "pci"));
}

static uint32_t owner_of(const char *group) {
  char path[64];
  struct stat st;
  (void)blx__str_format(path, sizeof path, "root/dev/vfio/%s", group);
  ck_assert_int_eq(fstatat(place.fd, path, &st, 0), 0);
  return st.st_uid;
}

static const char *driver_of(const char *address) {
  static char target[128];
  char path[PATH_MAX];
  (void)blx__str_format(path, sizeof path, BUS "/devices/%s/driver", address);
  ssize_t n = readlinkat(place.fd, path, target, sizeof target - 1);
  target[n > 0 ? n : 0] = '\0';
  const char *slash = strrchr(target, '/');
  return slash ? slash + 1 : target;
}

/* ---- tests */

#define TAKEN(address, driver)                                                            \
  "devices/" address "/driver_override vfio-pci\ndrivers/" driver "/unbind " address "\n" \
  "drivers_probe " address "\n"
#define BACK(address) \
  "devices/" address "/driver_override -\ndrivers/vfio-pci/unbind " address "\ndrivers_probe " address "\n"

START_TEST(devices__that_a_runner_names__are_its_monitors_and_the_hosts_again) {
  open_all(true);
  wants(&place, NET "\n" DISK "\n");
  ck_assert(blx__host_pci_wanted(place.fd));
  made(&place);
  written(TAKEN(NET, "nic") TAKEN(DISK, "nvme"));
  ck_assert_str_eq(driver_of(NET), "vfio-pci");
  ck_assert_uint_eq(owner_of("7"), monitor);
  ck_assert_uint_eq(owner_of("9"), monitor);
  ck_assert(place_has(&place, "pci") && place_has(&place, "../../pci/" NET));
  removed(&place);
  written(BACK(NET) BACK(DISK));
  ck_assert_str_eq(driver_of(NET), "nic");
  ck_assert_str_eq(driver_of(DISK), "nvme");
  ck_assert_uint_eq(owner_of("7"), geteuid() == 0 ? 0 : geteuid());
  ck_assert(!place_has(&place, "../../pci/" NET) && !place_has(&place, "../../pci/" DISK));
  removed(&place); /* again: nothing is written */
  made(&place);
  written(TAKEN(NET, "nic") TAKEN(DISK, "nvme"));
  removed(&place);
  close_all();
}
END_TEST

START_TEST(devices__left_by_a_shim_that_died__are_given_back_first) {
  open_all(true);
  wants(&place, NET);
  made(&place);
  written(TAKEN(NET, "nic"));
  /* The next start wants another. */
  wants(&place, DISK);
  made(&place);
  written(BACK(NET) TAKEN(DISK, "nvme"));
  wants(&place, "\n");
  ck_assert(!blx__host_pci_wanted(place.fd));
  made(&place);
  written(BACK(DISK));
  ck_assert(!place_has(&place, "pci"));
  close_all();
}
END_TEST

START_TEST(device__of_another_instance__is_refused_by_name_until_it_is_given_back) {
  open_all(true);
  open_second();
  wants(&place, NET);
  wants(&second, DISK "\n" NET);
  made(&place);
  written(TAKEN(NET, "nic"));
  refused(&second, BLX_E_CONFLICT, "the PCI device " NET " is web-1-7's on this node: stop that one");
  written(TAKEN(DISK, "nvme") BACK(DISK));
  ck_assert_str_eq(driver_of(NET), "vfio-pci");
  ck_assert_uint_eq(owner_of("7"), monitor);
  removed(&place);
  written(BACK(NET));
  made(&second);
  written(TAKEN(DISK, "nvme") TAKEN(NET, "nic"));
  removed(&second);
  written(BACK(DISK) BACK(NET));
  (void)close(second.fd);
  close_all();
}
END_TEST

START_TEST(claim_and_record__of_an_earlier_boot__mean_nothing) {
  char text[512], target[256] = "";
  open_all(true);
  open_second();
  wants(&place, NET);
  wants(&second, NET);
  made(&place);
  written(TAKEN(NET, "nic"));
  ssize_t n = readlinkat(place.fd, "../../pci/" NET, target, sizeof target - 1);
  ck_assert_int_gt(n, 40);
  target[0] = target[0] == 'a' ? 'b' : 'a';
  ck_assert_int_eq(unlinkat(place.fd, "../../pci/" NET, 0), 0);
  ck_assert_int_eq(symlinkat(target, place.fd, "../../pci/" NET), 0);
  place_get(&place, "pci", text, sizeof text);
  text[0] = text[0] == 'a' ? 'b' : 'a';
  place_put(&place, "pci", text);
  made(&second); /* the same device, which vfio-pci still has in this test */
  written("devices/" NET "/driver_override vfio-pci\ndrivers/vfio-pci/unbind " NET "\ndrivers_probe " NET "\n");
  removed(&place);
  ck_assert(place_has(&place, "../../pci/" NET));
  removed(&second);
  written(BACK(NET));
  (void)close(second.fd);
  close_all();
}
END_TEST

START_TEST(device__that_cannot_be_given__is_refused_with_what_is_missing) {
  static const char *const bad[] = {"06:00.1",        "0000:06:00.8", "0000:06:00.1/..", "0000:06:00.A",
                                    "../../../etc/x", "0000:0g:00.1", "0000-06:00.1"};
  open_all(true);
  for (size_t i = 0; i < BLX__COUNT(bad); i++) {
    wants(&place, bad[i]);
    refused(&place, BLX_E_INVALID, "is no address of a PCI device: it is like 0000:06:00.1");
  }
  wants(&place, "0000:99:00.0");
  refused(&place, BLX_E_NOT_FOUND, "this host has no PCI device 0000:99:00.0: lspci -D");
  device("0000:08:00.0", "nic", NULL);
  wants(&place, "0000:08:00.0");
  refused(&place, BLX_E_UNSUPPORTED, "this host has no IOMMU, or it is off. Switch it on in the firmware");
  char many[512] = "";
  for (unsigned i = 0; i <= BLX__HOST_PCI_MAX; i++) strncat(many, NET "\n", sizeof many - strlen(many) - 1);
  wants(&place, many);
  refused(&place, BLX_E_INVALID, "more than 8 PCI devices");
  ck_assert_str_eq(driver_of(NET), "nic");
  close_all();
}
END_TEST

START_TEST(device__that_vfio_does_not_take__goes_back_to_its_driver) {
  open_all(false);
  wants(&place, NET);
  refused(&place, BLX_E_UNSUPPORTED, "vfio-pci did not take the PCI device " NET ": load that module");
  written(TAKEN(NET, "nic") "devices/" NET "/driver_override -\ndrivers_probe " NET "\n");
  ck_assert_str_eq(driver_of(NET), "nic");
  ck_assert(!place_has(&place, "../../pci/" NET));
  close_all();
  open_all(true);
  ck_assert_int_eq(unlinkat(place.fd, "root/dev/vfio/7", 0), 0);
  wants(&place, NET);
  refused(&place, BLX_E_UNSUPPORTED, "dev/vfio/7 did not come: load the module vfio_iommu_type1");
  written(TAKEN(NET, "nic") BACK(NET));
  close_all();
}
END_TEST

START_TEST(device__that_was_unplugged_meanwhile__is_given_back_all_the_same) {
  char path[PATH_MAX], gone[PATH_MAX];
  open_all(true);
  wants(&place, NET);
  made(&place);
  written(TAKEN(NET, "nic"));
  (void)blx__str_format(path, sizeof path, "%s/" BUS "/devices/" NET, place.dir);
  (void)blx__str_format(gone, sizeof gone, "%s/gone", place.dir);
  ck_assert_int_eq(rename(path, gone), 0);
  removed(&place);
  ck_assert(!place_has(&place, "../../pci/" NET));
  close_all();
}
END_TEST

/* On this host itself: whatever it has, this it has not. */
START_TEST(all_devices__are_left_as_they_were_when_one_cannot_be_had) {
  blx_error err = {0};
  place_open(&place);
  wants(&place, "ffff:ff:1f.7");
  blx__rc rc = blx__host_devices_make(place.fd, "web-1-7", 0, 0, &err);
  ck_assert_int_eq(rc.code, BLX_E_NOT_FOUND);
  ck_assert(!place_has(&place, "taps") && !place_has(&place, "pci"));
  ck_assert_int_eq(blx__host_devices_remove(place.fd, "web-1-7", &err).code, 0);
  place_close(&place);
}
END_TEST

BLX_TEST_MAIN("host/pci", devices__that_a_runner_names__are_its_monitors_and_the_hosts_again,
              devices__left_by_a_shim_that_died__are_given_back_first,
              device__of_another_instance__is_refused_by_name_until_it_is_given_back,
              claim_and_record__of_an_earlier_boot__mean_nothing,
              device__that_cannot_be_given__is_refused_with_what_is_missing,
              device__that_vfio_does_not_take__goes_back_to_its_driver,
              device__that_was_unplugged_meanwhile__is_given_back_all_the_same,
              all_devices__are_left_as_they_were_when_one_cannot_be_had)
