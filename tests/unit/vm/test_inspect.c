/* What the driver finds in an instance's directory when no shim is there any more. */
#include "../harness.h"
#include "support.h"

#include "io/file.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static const struct blx__vm_key key = {.instance = "web-1", .uid = 7, .epoch = 3};

static void path_of(const char *name, char out[PATH_MAX]) {
  (void)blx__str_format(out, PATH_MAX, "%s/vms/web-1-7/%s", dir, name);
}

static void put(const char *name, const char *text) {
  char path[PATH_MAX];
  path_of(name, path);
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
  ck_assert_int_eq(fclose(f), 0);
}

/* A directory of an instance that was started in epoch 3. */
static void open_started(struct bench *b) {
  char path[PATH_MAX];
  blx_error err;
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-inspect-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  path_of("", path);
  ck_assert_int_eq(blx__dir_make(path, 0755, &err).code, 0);
  path_of("current", path);
  ck_assert_int_eq(symlink("/nowhere", path), 0);
  path_of("booted", path);
  ck_assert_int_eq(symlink("/nowhere", path), 0);
  put("lock", "3");
  bench_open(b);
  struct blx__vm_options o = {.state_dir = dir,
                              .host_tag = "blixard-unit-test-2",
                              .shim_path = "/bin/false",
                              .nix_store_dir = dir,
                              .on_event = bench_event,
                              .user = b};
  ck_assert_msg(blx__vm_microvm_open(b->loop, &o, &b->driver, &err).code == 0, "%s", err.message);
}

static void close_all(struct bench *b) {
  bench_close(b);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

START_TEST(exit_record__that_is_damaged__is_an_end_that_nobody_knows_of) {
  static const char *const damaged[] = {"", "garbage", "uid 7\nepoch 99999999999999999999\n", "\xff\xfe"};
  for (size_t i = 0; i < BLX__COUNT(damaged); i++) {
    struct bench b;
    open_started(&b);
    put("exit", damaged[i]);
    struct waited w = bench_adopt(&b, &key);
    ck_assert_msg(!w.failed, "%s", w.err.message);
    ck_assert_int_eq(w.status.state, BLX__VM_EXITED);
    ck_assert_uint_eq(w.status.epoch, 3);
    ck_assert_int_eq(w.status.exit_status, -1);
    ck_assert_ptr_nonnull(strstr(w.status.text, "damaged"));
    ck_assert(!bench_stop(&b, &key, 1000).failed);
    ck_assert(!bench_destroy(&b, &key).failed);
    close_all(&b);
  }
}
END_TEST

START_TEST(exit_record__that_is_missing__says_that_the_shim_is_gone) {
  struct bench b;
  open_started(&b);
  struct waited w = bench_adopt(&b, &key);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  ck_assert_int_eq(w.status.state, BLX__VM_EXITED);
  ck_assert_ptr_nonnull(strstr(w.status.text, "its shim is gone"));
  close_all(&b);
}
END_TEST

START_TEST(links_in_the_directory__are_not_followed_when_it_is_removed) {
  struct bench b;
  char path[PATH_MAX], kept[96];
  open_started(&b);
  (void)blx__str_format(kept, sizeof kept, "%s/kept", dir);
  ck_assert_int_eq(mkdir(kept, 0700), 0);
  (void)blx__str_format(path, sizeof path, "%s/kept/file", dir);
  ck_assert_int_eq(symlink("/etc", path), 0);
  path_of("work", path);
  ck_assert_int_eq(symlink(kept, path), 0);
  ck_assert(!bench_destroy(&b, &key).failed);
  (void)blx__str_format(path, sizeof path, "%s/kept/file", dir);
  struct stat st;
  ck_assert_int_eq(lstat(path, &st), 0);
  close_all(&b);
}
END_TEST

static void adopt_many(struct bench *b, struct waited *w, unsigned count) {
  memset(w, 0, count * sizeof *w);
  for (unsigned i = 0; i < count; i++) {
    struct blx__vm_key k = {.instance = "many-1", .uid = 100 + i, .epoch = 1};
    w[i].bench = b;
    b->driver->ops->adopt(b->driver, &k, bench_adopted, &w[i]);
  }
}

START_TEST(adoption__of_more_instances_than_the_workers_queue_holds__looks_at_each) {
  enum { COUNT = 1500 };
  struct bench b;
  static struct waited w[COUNT];
  open_started(&b);
  adopt_many(&b, w, COUNT);
  for (unsigned i = 0; i < COUNT; i++) {
    bench_wait_done(&b, &w[i]);
    ck_assert_msg(!w[i].failed, "%u: %s", i, w[i].err.message);
    ck_assert_int_eq(w[i].status.state, BLX__VM_ABSENT);
  }
  close_all(&b);
}
END_TEST

START_TEST(adoption__of_many_instances__is_cancelled_when_the_driver_closes) {
  enum { COUNT = 600 };
  struct bench b;
  static struct waited w[COUNT];
  open_started(&b);
  adopt_many(&b, w, COUNT);
  close_all(&b);
  for (unsigned i = 0; i < COUNT; i++) {
    ck_assert_uint_eq(w[i].times, 1);
    ck_assert(!w[i].failed || w[i].err.code == BLX_E_CANCELLED);
  }
}
END_TEST

static bool has_disk(struct bench *b) {
  struct waited w = bench_adopt(b, &key);
  ck_assert_msg(!w.failed, "%s", w.err.message);
  return w.status.local_data;
}

START_TEST(a_volume_in_its_working_directory__is_a_disk_on_this_node) {
  static const char *const disks[] = {"work/tiny.img", "work/tiny.qcow2", "work/deep/er/large"};
  struct bench b;
  char path[PATH_MAX];
  open_started(&b);
  put("console.img", "not in its working directory");
  ck_assert(!has_disk(&b));
  path_of("work/deep/er", path);
  ck_assert_int_eq(blx__dir_make(path, 0755, NULL).code, 0);
  put("work/pid", "17");
  put("work/image.txt", "small, and named otherwise");
  path_of("work/link.img", path);
  ck_assert_int_eq(symlink("/dev/zero", path), 0);
  ck_assert(!has_disk(&b));
  for (size_t i = 0; i < BLX__COUNT(disks); i++) {
    put(disks[i], "x");
    path_of(disks[i], path);
    if (!strstr(disks[i], "tiny")) {
      ck_assert(!has_disk(&b));
      ck_assert_int_eq(truncate(path, 1 << 20), 0);
    }
    ck_assert_msg(has_disk(&b), "%s", disks[i]);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!has_disk(&b));
  }
  close_all(&b);
}
END_TEST

BLX_TEST_MAIN("vm/inspect", exit_record__that_is_damaged__is_an_end_that_nobody_knows_of,
              exit_record__that_is_missing__says_that_the_shim_is_gone,
              links_in_the_directory__are_not_followed_when_it_is_removed,
              adoption__of_more_instances_than_the_workers_queue_holds__looks_at_each,
              adoption__of_many_instances__is_cancelled_when_the_driver_closes,
              a_volume_in_its_working_directory__is_a_disk_on_this_node)
