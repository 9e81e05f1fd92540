/* The file of a backup: whatever happens to its bytes is noticed, and a write that does not end leaves nothing. */
#include "../harness.h"

#include "io/file.h"
#include "offline/backup_file.h"
#include "offline/offline.h"
#include "schema/codec.h"
#include "schema/desc.h"
#include "state/state.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20 };

static char dir[64], path[96];

static void setup(void) {
  ck_assert(blx__str_format(dir, sizeof dir, "/tmp/blx-backup-XXXXXX"));
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert(blx__str_format(path, sizeof path, "%s/backup", dir));
}

static void teardown(void) {
  ck_assert_int_eq(blx__dir_remove_tree(dir, NULL).code, 0);
}

static unsigned files(void) {
  DIR *d = opendir(dir);
  ck_assert_ptr_nonnull(d);
  unsigned n = 0;
  for (const struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
  ck_assert_int_eq(closedir(d), 0);
  return n;
}

static int apply(struct blx__state *st, uint64_t index, const struct blx_op *op) {
  struct blx__buf bytes, out;
  void *result = NULL;
  blx__buf_init(&bytes, FILE_MAX);
  blx__buf_init(&out, FILE_MAX);
  ck_assert_int_eq(blx__msg_encode(blx__desc_op(), op, &bytes, NULL).code, 0);
  blx__state_begin(st, index, 1000 * index);
  blx__state_apply(st, (struct blx__slice){bytes.data, bytes.len}, &out);
  blx__state_end(st);
  ck_assert_int_eq(
      blx__msg_decode_owned(blx__desc_op_result(), (struct blx__slice){out.data, out.len}, &result, NULL).code, 0);
  int code = ((struct blx_op_result *)result)->code;
  blx__msg_free_owned(result);
  blx__buf_free(&bytes);
  blx__buf_free(&out);
  return code;
}

static struct blx__state *small_state(void) {
  struct blx__state *st = blx__state_new(NULL);
  struct blx_op_cluster_init init = {
      .struct_size = sizeof init, .id = "00112233445566778899aabbccddeeff", .name = "old"};
  struct blx_node_info node = {.struct_size = sizeof node, .name = "n1"};
  struct blx_op_node_join join = {.struct_size = sizeof join, .node = &node};
  struct blx_vm_spec spec = {.struct_size = sizeof spec, .name = "web", .flake = "a#b", .vcpus = 1, .memory_mib = 64};
  spec.stop_timeout_ms = 1000;
  struct blx_op_vm_create create = {.struct_size = sizeof create, .spec = &spec};
  const struct blx_op ops[] = {{.struct_size = sizeof ops[0], .cluster_init = &init},
                               {.struct_size = sizeof ops[0], .node_join = &join},
                               {.struct_size = sizeof ops[0], .vm_create = &create}};
  for (size_t i = 0; i < BLX__COUNT(ops); i++) ck_assert_int_eq(apply(st, i + 1, &ops[i]), 0);
  return st;
}

/* Write a backup of a small cluster. The code of its end. */
static int save(bool replace, struct blx_backup_info **out, blx_error *err) {
  struct blx__state *st = small_state();
  struct blx__state_frozen *z = blx__state_freeze(st, NULL);
  struct blx__state_cursor at = {0};
  struct blx__backup_writer *w = NULL;
  struct blx_backup_info info = BLX_BACKUP_INFO_INIT;
  info.cluster_id = "00112233445566778899aabbccddeeff";
  info.cluster_name = "old";
  info.index = blx__state_frozen_counts(z).index;
  int code = blx__backup_create(path, replace, &info, &w, err).code;
  for (bool done = false; code == 0 && !done;) {
    struct blx__buf part;
    blx__buf_init(&part, FILE_MAX);
    ck_assert_int_eq(blx__state_write_part(z, &at, 64, &part, &done, err).code, 0);
    code = blx__backup_add(w, (struct blx__slice){part.data, part.len}, err).code;
    blx__buf_free(&part);
  }
  if (code == 0) code = blx__backup_commit(w, out, err).code;
  blx__state_thaw(st, z);
  blx__state_free(st);
  return code;
}

static void load(struct blx__buf *out) {
  blx__buf_init(out, FILE_MAX);
  ck_assert_int_eq(blx__file_read(path, FILE_MAX, out, NULL).code, 0);
}

/* Not synced: it is done thousands of times. */
static void put(const void *bytes, size_t len) {
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
  ck_assert_int_eq(fclose(f), 0);
}

static blx__rc count(void *user, struct blx__slice record, blx_error *err) {
  (void)err;
  ck_assert_uint_gt(record.len, 0);
  ++*(uint64_t *)user;
  return BLX__OK;
}

START_TEST(what_is_written__is_read_with_the_same_sums) {
  setup();
  struct blx_backup_info *saved = NULL, *read = NULL;
  struct stat st;
  uint64_t records = 0;
  blx_error err = {0};
  ck_assert_msg(save(false, &saved, &err) == 0, "%s", err.message);
  ck_assert_uint_eq(files(), 1);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0600);
  ck_assert_uint_eq((uint64_t)st.st_size, saved->bytes);
  ck_assert_msg(blx__backup_read(path, count, &records, &read, &err).code == 0, "%s", err.message);
  ck_assert_uint_eq(records, saved->records);
  ck_assert_uint_eq(read->records, records);
  ck_assert_uint_eq(read->bytes, saved->bytes);
  ck_assert_str_eq(read->sha256, saved->sha256);
  ck_assert_str_eq(read->cluster_name, "old");
  ck_assert_uint_eq(read->index, 3);
  blx__msg_free_owned(saved);
  blx__msg_free_owned(read);
  teardown();
}
END_TEST

START_TEST(a_file_that_is_there__is_replaced_only_when_that_was_said) {
  setup();
  struct blx_backup_info *info = NULL;
  blx_error err = {0};
  put("mine", 4);
  ck_assert_int_eq(save(false, &info, &err), BLX_E_EXISTS);
  struct blx__buf was;
  load(&was);
  ck_assert_uint_eq(was.len, 4);
  blx__buf_free(&was);
  ck_assert_msg(save(true, &info, &err) == 0, "%s", err.message);
  ck_assert_uint_eq(files(), 1);
  blx__msg_free_owned(info);
  ck_assert_int_eq(blx__backup_read(path, NULL, NULL, &info, &err).code, 0);
  blx__msg_free_owned(info);
  teardown();
}
END_TEST

START_TEST(a_write_that_is_given_up__leaves_nothing) {
  setup();
  struct blx__backup_writer *w = NULL;
  struct blx_backup_info info = BLX_BACKUP_INFO_INIT;
  blx_error err = {0};
  ck_assert_int_eq(blx__backup_create(path, false, &info, &w, &err).code, 0);
  static const uint8_t no_record[] = {200, 0, 0, 0, 1}, end[] = {0, 0, 0, 0};
  ck_assert_int_eq(blx__backup_add(w, (struct blx__slice){no_record, sizeof no_record}, &err).code, BLX_E_CORRUPT);
  ck_assert_int_eq(blx__backup_add(w, (struct blx__slice){end, sizeof end}, &err).code, BLX_E_CORRUPT);
  ck_assert_uint_eq(files(), 0); /* it has no name before its end */
  blx__backup_abandon(w);
  ck_assert_uint_eq(files(), 0);
  char nowhere[128];
  ck_assert(blx__str_format(nowhere, sizeof nowhere, "%s/no/backup", dir));
  ck_assert_int_eq(blx__backup_create(nowhere, false, &info, &w, &err).code, BLX_E_NOT_FOUND);
  teardown();
}
END_TEST

/* A file that was made meanwhile is not replaced either. */
START_TEST(a_file_that_came_while_it_was_written__stays) {
  setup();
  struct blx__backup_writer *w = NULL;
  struct blx_backup_info info = BLX_BACKUP_INFO_INIT, *out = NULL;
  blx_error err = {0};
  ck_assert_int_eq(blx__backup_create(path, false, &info, &w, &err).code, 0);
  put("mine", 4);
  ck_assert_int_eq(blx__backup_commit(w, &out, &err).code, BLX_E_EXISTS);
  ck_assert_uint_eq(files(), 1);
  teardown();
}
END_TEST

static int reads(blx_error *err) {
  struct blx_backup_info *info = NULL;
  int code = blx__backup_read(path, NULL, NULL, &info, err).code;
  if (code == 0) blx__msg_free_owned(info);
  return code;
}

START_TEST(cut_at_any_byte__it_is_damaged_there) {
  setup();
  struct blx_backup_info *info = NULL;
  struct blx__buf whole;
  blx_error err = {0};
  ck_assert_int_eq(save(false, &info, &err), 0);
  load(&whole);
  for (size_t len = 0; len < whole.len; len++) {
    char at[48];
    put(whole.data, len);
    ck_assert_int_eq(reads(&err), BLX_E_CORRUPT);
    ck_assert(blx__str_format(at, sizeof at, "damaged at byte %zu:", len));
    ck_assert_msg(strstr(err.message, at) != NULL, "%s", err.message);
  }
  ck_assert(blx__buf_add(&whole, "x", 1));
  put(whole.data, whole.len);
  ck_assert_int_eq(reads(&err), BLX_E_CORRUPT);
  blx__buf_free(&whole);
  blx__msg_free_owned(info);
  teardown();
}
END_TEST

START_TEST(any_flipped_bit__is_found) {
  setup();
  struct blx_backup_info *info = NULL;
  struct blx__buf whole;
  blx_error err = {0};
  ck_assert_int_eq(save(false, &info, &err), 0);
  load(&whole);
  for (size_t bit = 0; bit < 8 * whole.len; bit++) {
    whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    put(whole.data, whole.len);
    int code = reads(&err);
    ck_assert_msg(code == BLX_E_CORRUPT || (code == BLX_E_UNSUPPORTED && bit / 8 == 7), "bit %zu: %d", bit, code);
    whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  put(whole.data, whole.len);
  ck_assert_int_eq(reads(&err), 0);
  blx__buf_free(&whole);
  blx__msg_free_owned(info);
  teardown();
}
END_TEST

START_TEST(a_restore__makes_a_directory_once_and_nothing_of_a_damaged_file) {
  setup();
  struct blx_backup_info *info = NULL, *restored = NULL;
  struct blx__buf whole;
  blx_error err = {0};
  char data[96], id[33];
  ck_assert(blx__str_format(data, sizeof data, "%s/data", dir));
  ck_assert_int_eq(save(false, &info, &err), 0);
  load(&whole);
  struct blx__offline_restore o = {path, data, "Bad Name", NULL};
  ck_assert_int_eq(blx__offline_restore(&o, id, &restored, &err).code, BLX_E_INVALID);
  o.name = "m1";
  whole.data[whole.len / 2] ^= 1;
  put(whole.data, whole.len);
  ck_assert_int_eq(blx__offline_restore(&o, id, &restored, &err).code, BLX_E_CORRUPT);
  ck_assert_int_ne(access(data, F_OK), 0);
  whole.data[whole.len / 2] ^= 1;
  put(whole.data, whole.len);
  ck_assert_msg(blx__offline_restore(&o, id, &restored, &err).code == 0, "%s", err.message);
  ck_assert_uint_eq(strlen(id), 32);
  ck_assert_str_ne(id, "00112233445566778899aabbccddeeff");
  ck_assert_str_eq(restored->sha256, info->sha256);
  struct blx_recover_member *m = NULL;
  ck_assert_msg(blx__offline_inspect(data, &m, &err).code == 0, "%s", err.message);
  ck_assert_str_eq(m->cluster_id, id);
  ck_assert_str_eq(m->cluster_name, "old");
  ck_assert_uint_eq(m->uid, 2);
  ck_assert_uint_eq(m->vms, 1);
  ck_assert_uint_eq(m->n_servers, 1);
  ck_assert(m->voter && m->snapshot_index == 4 && m->last_index == 4);
  blx__msg_free_owned(m);
  blx__msg_free_owned(restored);
  ck_assert_int_eq(blx__offline_restore(&o, id, &restored, &err).code, BLX_E_EXISTS);
  blx__buf_free(&whole);
  blx__msg_free_owned(info);
  teardown();
}
END_TEST

BLX_TEST_MAIN("offline/backup_file", what_is_written__is_read_with_the_same_sums,
              a_file_that_is_there__is_replaced_only_when_that_was_said, a_write_that_is_given_up__leaves_nothing,
              a_file_that_came_while_it_was_written__stays, cut_at_any_byte__it_is_damaged_there,
              any_flipped_bit__is_found, a_restore__makes_a_directory_once_and_nothing_of_a_damaged_file)
