#include "../harness.h"

#include "node/identity.h"
#include "schema/codec.h"
#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void) {
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-identity-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void) {
  blx_error err;
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}

static const struct blx_identity sample = {.struct_size = sizeof sample,
                                           .cluster_id = "00112233445566778899aabbccddeeff",
                                           .cluster_name = "lab",
                                           .uid = 7,
                                           .name = "node7",
                                           .standing = BLX_STANDING_MEMBER};

START_TEST(capacity__is_what_the_machine_has_less_the_hosts_reserve) {
  struct blx_resources all, less;
  blx_error err;
  ck_assert_int_eq(blx__identity_capacity(0, 1, &all, &err).code, 0);
  ck_assert_int_eq(blx__identity_capacity(0, 101, &less, &err).code, 0);
  ck_assert_uint_eq(all.memory_mib - less.memory_mib, 100);
  ck_assert_uint_eq(all.vcpus, less.vcpus);
  ck_assert_int_eq(blx__identity_capacity(0, 0, &less, &err).code, 0);
  ck_assert_uint_ge(all.memory_mib + 1 - less.memory_mib, 512);
  ck_assert_int_eq(blx__identity_capacity(all.vcpus - 1, 1, &less, &err).code, 0);
  ck_assert_uint_eq(less.vcpus, 1);
  ck_assert_int_eq(blx__identity_capacity(all.vcpus, 1, &less, &err).code, BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "reserve_vcpus"));
  ck_assert_int_eq(blx__identity_capacity(0, (uint32_t)all.memory_mib + 1, &less, &err).code, BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "reserve_memory_mib"));
}
END_TEST

START_TEST(identity__comes_back_as_it_was_written) {
  make_dir();
  blx_error err;
  struct blx_identity *back = NULL;
  ck_assert_int_eq(blx__identity_read(dir, &back, &err).code, 0);
  ck_assert_ptr_null(back);
  ck_assert_int_eq(blx__identity_write(dir, &sample, &err).code, 0);
  ck_assert_int_eq(blx__identity_read(dir, &back, &err).code, 0);
  ck_assert_str_eq(back->name, "node7");
  ck_assert_uint_eq(back->uid, 7);
  ck_assert_int_eq(back->standing, BLX_STANDING_MEMBER);
  blx__msg_free_owned(back);
  remove_dir();
}
END_TEST

START_TEST(identity__with_any_byte_flipped_is_refused_by_name) {
  make_dir();
  blx_error err;
  ck_assert_int_eq(blx__identity_write(dir, &sample, &err).code, 0);
  char path[128];
  (void)blx__str_format(path, sizeof path, "%s/identity", dir);
  struct blx__buf file;
  blx__buf_init(&file, 1 << 16);
  ck_assert_int_eq(blx__file_read(path, 1 << 16, &file, &err).code, 0);
  for (size_t i = 0; i < file.len; i++) {
    file.data[i] ^= 1;
    FILE *f = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(file.data, 1, file.len, f), file.len);
    fclose(f);
    struct blx_identity *back = NULL;
    ck_assert_int_eq(blx__identity_read(dir, &back, &err).code, BLX_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    file.data[i] ^= 1;
  }
  blx__buf_free(&file);
  remove_dir();
}
END_TEST

START_TEST(lock__is_refused_to_a_second_holder_and_on_a_directory_open_to_all) {
  make_dir();
  blx_error err;
  int first = -1, second = -1;
  ck_assert_int_eq(blx__identity_lock(dir, &first, &err).code, 0);
  ck_assert_int_eq(blx__identity_lock(dir, &second, &err).code, BLX_E_BUSY);
  close(first);
  ck_assert_int_eq(blx__identity_lock(dir, &second, &err).code, 0);
  close(second);
  ck_assert_int_eq(chmod(dir, 0777), 0);
  ck_assert_int_eq(blx__identity_lock(dir, &second, &err).code, BLX_E_DENIED);
  ck_assert_int_eq(chmod(dir, 0770), 0);
  ck_assert_int_eq(blx__identity_lock(dir, &second, &err).code, BLX_E_DENIED);
  ck_assert_ptr_nonnull(strstr(err.message, "its group"));
  remove_dir();
}
END_TEST

START_TEST(lock__is_refused_on_a_directory_of_somebody_else) {
  if (geteuid() != 0) return;
  make_dir();
  blx_error err;
  int fd = -1;
  ck_assert_int_eq(chown(dir, 65534, 65534), 0);
  ck_assert_int_eq(blx__identity_lock(dir, &fd, &err).code, BLX_E_DENIED);
  ck_assert_ptr_nonnull(strstr(err.message, "belongs to user 65534"));
  ck_assert_int_eq(fd, -1);
  remove_dir();
}
END_TEST

static void put(const char *name, const char *text) {
  char path[128];
  ck_assert(blx__str_format(path, sizeof path, "%s/%s", dir, name));
  ck_assert_int_eq(blx__file_write_atomic(path, text, strlen(text), 0600, NULL).code, 0);
}

START_TEST(virtualized__is_told_by_the_processor_or_by_its_maker_and_else_not) {
  char cpuinfo[128];
  make_dir();
  ck_assert(blx__str_format(cpuinfo, sizeof cpuinfo, "%s/cpuinfo", dir));
  ck_assert(!blx__identity_virtualized(cpuinfo, dir));
  put("cpuinfo", "flags\t\t: fpu vme hypervisors de\n");
  put("sys_vendor", "Supermicro\n");
  put("product_name", "X11\n");
  ck_assert(!blx__identity_virtualized(cpuinfo, dir));
  put("product_name", "Standard PC (Q35), by QEMU\n");
  ck_assert(blx__identity_virtualized(cpuinfo, dir));
  put("product_name", "X11\n");
  put("cpuinfo", "flags\t\t: fpu vme hypervisor de\n");
  ck_assert(blx__identity_virtualized(cpuinfo, dir));
  remove_dir();
}
END_TEST

START_TEST(features__are_those_of_the_list_that_the_first_processor_has) {
  const char *found[BLX__IDENTITY_FEATURES_MAX];
  char cpuinfo[128];
  make_dir();
  ck_assert(blx__str_format(cpuinfo, sizeof cpuinfo, "%s/cpuinfo", dir));
  ck_assert_uint_eq(blx__identity_features(cpuinfo, found), 0);
  put("cpuinfo", "model name\t: avx512f\nflags\t\t: fpu avx2 avx aes\nbugs\t\t: svm\nflags\t\t: fpu vmx\n");
  ck_assert_uint_eq(blx__identity_features(cpuinfo, found), 3);
  ck_assert_str_eq(found[0], "avx");
  ck_assert_str_eq(found[1], "avx2");
  ck_assert_str_eq(found[2], "aes");
  put("cpuinfo", "Features\t: fp asimd aes");
  ck_assert_uint_eq(blx__identity_features(cpuinfo, found), 2);
  remove_dir();
}
END_TEST

BLX_TEST_MAIN("node/identity", capacity__is_what_the_machine_has_less_the_hosts_reserve,
              features__are_those_of_the_list_that_the_first_processor_has, identity__comes_back_as_it_was_written,
              identity__with_any_byte_flipped_is_refused_by_name,
              lock__is_refused_to_a_second_holder_and_on_a_directory_open_to_all,
              lock__is_refused_on_a_directory_of_somebody_else,
              virtualized__is_told_by_the_processor_or_by_its_maker_and_else_not)
