#include "../harness.h"

#include "io/file.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *in_dir(char *out, size_t n, const char *name) {
  ck_assert(blx__str_format(out, n, "%s/%s", dir, name));
  return out;
}

static void setup(void) {
  memcpy(dir, "/tmp/blx-file-XXXXXX", 21);
  ck_assert_ptr_nonnull(mkdtemp(dir));
}

START_TEST(write__replaces_whole_and_leaves_nothing_beside) {
  setup();
  char a[128], sub[128];
  in_dir(sub, sizeof sub, "x/y/z");
  ck_assert_int_eq(blx__dir_make(sub, 0750, NULL).code, 0);
  ck_assert_int_eq(blx__dir_make(sub, 0750, NULL).code, 0);
  in_dir(a, sizeof a, "x/y/z/a");
  ck_assert_int_eq(blx__file_write_atomic(a, "first", 5, 0600, NULL).code, 0);
  ck_assert_int_eq(blx__file_write_atomic(a, "second!", 7, 0640, NULL).code, 0);
  struct stat st;
  ck_assert_int_eq(stat(a, &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0640);
  struct blx__buf b;
  blx__buf_init(&b, 100);
  ck_assert_int_eq(blx__file_read(a, 7, &b, NULL).code, 0);
  ck_assert_str_eq(blx__buf_cstr(&b), "second!");
  blx_error err;
  ck_assert_int_eq(blx__file_read(a, 6, &b, &err).code, BLX_E_INVALID);
  ck_assert_uint_eq(b.len, 7);
  blx__buf_free(&b);
  ck_assert_int_eq(unlink(a), 0);
  ck_assert_int_eq(rmdir(sub), 0); /* only when empty: no temporary file is left */
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}
END_TEST

START_TEST(read__of_nothing_or_a_directory_says_so) {
  setup();
  struct blx__buf b;
  blx__buf_init(&b, 100);
  char a[128];
  ck_assert_int_eq(blx__file_read(in_dir(a, sizeof a, "none"), 10, &b, NULL).code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx__file_read(dir, 10, &b, NULL).code, BLX_E_INVALID);
  ck_assert_int_eq(blx__file_write_atomic(in_dir(a, sizeof a, "no/such"), "", 0, 0600, NULL).code, BLX_E_NOT_FOUND);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}
END_TEST

START_TEST(remove_tree__does_not_follow_links) {
  setup();
  char a[128], b[128];
  ck_assert_int_eq(blx__dir_make(in_dir(a, sizeof a, "keep"), 0700, NULL).code, 0);
  ck_assert_int_eq(blx__file_write_atomic(in_dir(b, sizeof b, "keep/file"), "x", 1, 0600, NULL).code, 0);
  ck_assert_int_eq(blx__dir_make(in_dir(a, sizeof a, "gone/deep/er"), 0700, NULL).code, 0);
  ck_assert_int_eq(symlink("../../keep", in_dir(a, sizeof a, "gone/deep/link")), 0);
  ck_assert_int_eq(symlink("keep", in_dir(a, sizeof a, "top")), 0);
  ck_assert_int_eq(blx__dir_remove_tree(in_dir(a, sizeof a, "gone"), NULL).code, 0);
  ck_assert_int_ne(access(a, F_OK), 0);
  ck_assert_int_eq(blx__dir_remove_tree(in_dir(a, sizeof a, "top"), NULL).code, 0);
  ck_assert_int_eq(access(b, F_OK), 0);
  ck_assert_int_eq(blx__dir_remove_tree(in_dir(a, sizeof a, "absent"), NULL).code, 0);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}
END_TEST

START_TEST(remove_tree__stops_at_a_mount) {
  if (geteuid() != 0) return;
  setup();
  char m[128], f[128];
  ck_assert_int_eq(blx__dir_make(in_dir(m, sizeof m, "a/mount"), 0700, NULL).code, 0);
  if (mount("none", m, "tmpfs", 0, "size=64k") != 0) return;
  ck_assert_int_eq(blx__file_write_atomic(in_dir(f, sizeof f, "a/mount/file"), "x", 1, 0600, NULL).code, 0);
  blx_error err = {0};
  int code = blx__dir_remove_tree(dir, &err).code;
  int kept = access(f, F_OK);
  ck_assert_int_eq(umount(m), 0);
  ck_assert_int_ne(code, 0);
  ck_assert_int_eq(kept, 0);
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}
END_TEST

BLX_TEST_MAIN("io/file", write__replaces_whole_and_leaves_nothing_beside, read__of_nothing_or_a_directory_says_so,
              remove_tree__does_not_follow_links, remove_tree__stops_at_a_mount)
