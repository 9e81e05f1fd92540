/* What disks do to a member: bytes that change, no room, no permission, a file system that is not known. */
#include "../harness.h"
#include "support_real.h"

#include "io/file.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t cluster_id[BLX__CONSENSUS_CLUSTER_ID_BYTES] = "a test cluster";

/* ---- one changed byte, anywhere */

/* The mark's two slots, see store.c: how far the log is known to reach. */
static bool mark_reaches(struct real *r, void *index) {
  char path[REAL_PATH + 16];
  struct blx__buf bytes;
  uint64_t a = 0, b = 0;
  blx__buf_init(&bytes, 16384);
  ck_assert(blx__str_format(path, sizeof path, "%s/mark", r->m[0].dir));
  if (blx__file_read(path, 16384, &bytes, NULL).code == 0) {
    if (bytes.len >= 48) memcpy(&a, bytes.data + 40, sizeof a);
    if (bytes.len >= 4096 + 48) memcpy(&b, bytes.data + 4096 + 40, sizeof b);
  }
  blx__buf_free(&bytes);
  return (a > b ? a : b) >= *(uint64_t *)index;
}

static void shell(const char *fmt, const char *a, const char *b) {
  char line[1024];
  ck_assert(blx__str_format(line, sizeof line, fmt, a, b));
  ck_assert_msg(system(line) == 0, "%s", line);
}

/* What a start made of the directory: refused with a sentence, or everything is there. */
static bool refuses_or_has_all(struct real *r, uint64_t last, const char *what) {
  blx_error err = {0};
  if (real_open(r, 0, &err) != 0) {
    ck_assert_msg(strlen(err.message) > 30, "%s: '%s' says too little", what, err.message);
    blx__loop_free(r->loop); /* the attempt tidies up on it */
    ck_assert_int_eq(blx__loop_new(&r->loop, NULL).code, 0);
    return true;
  }
  real_commit(r, 100000);
  for (uint64_t id = 1; id <= last; id++)
    ck_assert_msg(sim_fsm_log.has(r->m[0].fsm, id), "%s: operation %u is silently gone", what, (unsigned)id);
  real_close(r, 0);
  return false;
}

static void flip(const char *path, long at) {
  FILE *f = fopen(path, "r+");
  ck_assert_ptr_nonnull(f);
  ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
  int c = fgetc(f);
  ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
  ck_assert_int_ne(fputc(c ^ 0x40, f), EOF);
  ck_assert_int_eq(fclose(f), 0);
}

/* Flip a byte of each file in turn, at some places, on a fresh copy. How many starts were refused. */
static unsigned flip_everywhere(struct real *r, const char *whole, uint64_t last) {
  static const long places[] = {0, 9, 17, 33, 70, 150, 1000};
  unsigned refused = 0;
  DIR *d = opendir(whole);
  ck_assert_ptr_nonnull(d);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    char path[REAL_PATH + 300];
    struct stat st;
    ck_assert(blx__str_format(path, sizeof path, "%s/%s", whole, e->d_name));
    ck_assert_int_eq(stat(path, &st), 0);
    if (!S_ISREG(st.st_mode)) continue;
    for (size_t i = 0; i < BLX__COUNT(places) && places[i] < st.st_size; i++) {
      ck_assert_int_eq(blx__dir_remove_tree(r->m[0].dir, NULL).code, 0);
      shell("cp -a '%s' '%s'", whole, r->m[0].dir);
      ck_assert(blx__str_format(path, sizeof path, "%s/%s", r->m[0].dir, e->d_name));
      flip(path, places[i]);
      refused += refuses_or_has_all(r, last, path);
    }
  }
  ck_assert_int_eq(closedir(d), 0);
  return refused;
}

START_TEST(one_changed_byte_in_any_file__is_refused_or_does_no_harm) {
  struct real r;
  real_init(&r);
  r.snapshot_entries = 12;
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  for (uint64_t id = 1; id <= 30; id++) real_commit(&r, id);
  struct blx__consensus_status s;
  blx__consensus_status(r.m[0].c, &s);
  real_until(&r, mark_reaches, &s.applied_index);
  char whole[REAL_PATH + 16], live[REAL_PATH + 16];
  ck_assert(blx__str_format(whole, sizeof whole, "%s/whole", r.root));
  ck_assert(blx__str_format(live, sizeof live, "%s/live", r.root));
  shell("cp -a '%s' '%s'", r.m[0].dir, live); /* as after a power cut: with open segments */
  real_close(&r, 0);
  shell("cp -a '%s' '%s'", r.m[0].dir, whole);
  ck_assert_uint_gt(flip_everywhere(&r, whole, 30), 5);
  ck_assert_uint_gt(flip_everywhere(&r, live, 30), 5);
  real_free(&r);
}
END_TEST

/* ---- an older copy of a log */

static bool all_vote(struct real *r, void *arg) {
  (void)arg;
  struct real_member *l = real_leader(r);
  struct blx__consensus_status s = {0};
  if (l) blx__consensus_status(l->c, &s);
  return s.members_count == 3 && r->m[0].c && s.members[1].match_index == s.last_index &&
         s.members[2].match_index == s.last_index;
}

static bool stopped(struct real *r, void *arg) {
  return r->m[*(unsigned *)arg].fatal_code != 0;
}

static void add(struct real *r, unsigned i) {
  struct outcome o = {0};
  blx_error err;
  real_make(r, i, false);
  ck_assert_int_eq(real_open(r, i, NULL), 0);
  ck_assert_int_eq(blx__consensus_add_member(real_leader(r)->c, i + 1, outcome_cb, &o, &err).code, 0);
  real_until(r, real_fired, &o);
  ck_assert_int_eq(o.code, 0);
}

/* Member 2 comes back with what it had @after of 20 operations. Whether it stopped itself, or went on. */
static int bring_back(unsigned after, unsigned rules_off) {
  struct real r;
  char old[REAL_PATH + 16];
  unsigned victim = 1;
  real_init(&r);
  r.rules_off = rules_off;
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  real_until(&r, real_has_leader, NULL);
  add(&r, 1);
  add(&r, 2);
  for (uint64_t id = 1; id <= after; id++) real_commit(&r, id);
  real_until(&r, all_vote, NULL);
  ck_assert(blx__str_format(old, sizeof old, "%s/old", r.root));
  real_close(&r, victim);
  shell("cp -a '%s' '%s'", r.m[victim].dir, old);
  ck_assert_int_eq(real_open(&r, victim, NULL), 0);
  for (uint64_t id = after + 1; id <= 20; id++) real_commit(&r, id);
  real_until(&r, all_vote, NULL);
  real_close(&r, victim);
  ck_assert_int_eq(blx__dir_remove_tree(r.m[victim].dir, NULL).code, 0);
  shell("cp -a '%s' '%s'", old, r.m[victim].dir);
  ck_assert_int_eq(real_open(&r, victim, NULL), 0);
  real_commit(&r, 100);
  if (rules_off == 0 && after < 20) real_until(&r, stopped, &victim);
  for (uint64_t id = 101; id < 120; id++) real_commit(&r, id);
  if (after == 20) real_until(&r, all_vote, NULL);
  int code = r.m[victim].fatal_code;
  bool has = code == 0 && sim_fsm_log.has(r.m[victim].fsm, 100);
  for (unsigned i = 0; i < 3; i++) real_close(&r, i);
  real_free(&r);
  return code != 0 ? code : has ? 0 : 1;
}

START_TEST(r23__a_log_that_is_behind_what_it_acknowledged__stops_its_member) {
  ck_assert_int_eq(bring_back(20, 0), 0); /* the newest copy */
  ck_assert_int_eq(bring_back(5, 0), BLX_E_CORRUPT);
  /* It counts again as if nothing had been lost, or waits for ever; nobody is told. */
  ck_assert_int_ge(bring_back(5, BLX__RULE_R23_LOST), 0);
}
END_TEST

/* ---- file systems; what needs a mount is skipped where that is not possible */

static bool mounted(const char *command, const char *a, const char *b) {
  char line[1024];
  ck_assert(blx__str_format(line, sizeof line, command, a, b));
  if (geteuid() == 0 && system(line) == 0) return true;
  (void)printf("SKIP: no permission to mount a file system for this test\n");
  return false;
}

START_TEST(r15__a_file_system_that_is_not_known_is_refused) {
  struct real r;
  blx_error err = {0};
  real_init(&r);
  real_make(&r, 0, false);
  if (mounted("mount -t ramfs none '%s' 2>/dev/null", r.m[0].dir, "")) {
    ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_UNSUPPORTED);
    ck_assert_msg(strstr(err.message, "ramfs") && strstr(err.message, r.m[0].dir), "%s", err.message);
    ck_assert_int_eq(blx__consensus_bootstrap(r.m[0].dir, cluster_id, 1, &err).code, BLX_E_UNSUPPORTED);
    r.rules_off = BLX__RULE_R15_FILE_SYSTEM;
    ck_assert_int_eq(real_open(&r, 0, &err), 0);
    real_close(&r, 0);
    r.rules_off = 0;
    ck_assert_int_eq(real_open(&r, 0, &err), BLX_E_UNSUPPORTED);
    r.unsafe_fs = true;
    ck_assert_int_eq(real_open(&r, 0, &err), 0);
    real_close(&r, 0);
    shell("umount '%s'%s", r.m[0].dir, "");
  }
  real_free(&r);
}
END_TEST

START_TEST(a_read_only_directory__is_refused_with_a_sentence) {
  struct real r;
  blx_error err = {0};
  real_init(&r);
  real_make(&r, 0, true);
  ck_assert_int_eq(real_open(&r, 0, NULL), 0);
  for (uint64_t id = 1; id <= 5; id++) real_commit(&r, id);
  real_close(&r, 0);
  if (mounted("mount --bind '%s' '%s' 2>/dev/null", r.m[0].dir, r.m[0].dir)) {
    shell("mount -o remount,ro,bind '%s'%s", r.m[0].dir, "");
    ck_assert_int_ne(real_open(&r, 0, &err), 0);
    ck_assert_msg(strstr(err.message, r.m[0].dir) != NULL && strstr(err.message, "ead-only") != NULL, "%s",
                  err.message);
    blx__loop_free(r.loop);
    ck_assert_int_eq(blx__loop_new(&r.loop, NULL).code, 0);
    shell("umount '%s'%s", r.m[0].dir, "");
  }
  ck_assert(!refuses_or_has_all(&r, 5, r.m[0].dir));
  real_free(&r);
}
END_TEST

/* Propose @n blocks of 60 KiB, until one does not go through. Its code; @acked counts the others. */
static int fill_the_log(struct real *r, unsigned n, uint64_t *acked) {
  static uint8_t op[60 << 10];
  for (unsigned i = 0; i < n; i++) {
    struct outcome x = {0};
    uint64_t id = *acked + 1;
    memcpy(op, &id, sizeof id);
    blx_error err = {0};
    int code = blx__consensus_propose(r->m[0].c, (struct blx__slice){op, sizeof op}, outcome_cb, &x, &err).code;
    if (code != 0) return code;
    real_until(r, real_fired, &x);
    if (x.code != 0) return x.code;
    ++*acked;
  }
  return 0;
}

/* A directory is moved to a larger or a smaller file system, after a power cut or a clean end. */
START_TEST(segments_of_another_size__are_read) {
  static const uint32_t sizes[] = {8 << 20, 32 << 20, 8 << 20, 16 << 20};
  struct real r;
  uint64_t acked = 0;
  char live[REAL_PATH + 16];
  real_init(&r);
  r.snapshot_entries = 100000;
  r.snapshot_bytes = 1 << 30;
  ck_assert(blx__str_format(live, sizeof live, "%s/live", r.root));
  real_make(&r, 0, true);
  for (size_t i = 0; i < BLX__COUNT(sizes); i++) {
    r.segment_bytes = sizes[i];
    ck_assert_int_eq(real_open(&r, 0, NULL), 0);
    real_until(&r, real_has_leader, NULL);
    for (uint64_t id = 1; id <= acked; id++)
      ck_assert_msg(sim_fsm_log.has(r.m[0].fsm, id), "%u bytes: operation %u is gone", sizes[i], (unsigned)id);
    ck_assert_int_eq(fill_the_log(&r, 200, &acked), 0); /* 12 MiB: more than a small one, less than a large one */
    bool cut = i % 2 == 0;
    if (cut) shell("cp -a '%s' '%s'", r.m[0].dir, live);
    real_close(&r, 0);
    if (!cut) continue;
    ck_assert_int_eq(blx__dir_remove_tree(r.m[0].dir, NULL).code, 0);
    shell("mv '%s' '%s'", live, r.m[0].dir);
  }
  ck_assert(!refuses_or_has_all(&r, acked, r.m[0].dir));
  real_free(&r);
}
END_TEST

START_TEST(r12__names_the_directory_though_its_name_was_borrowed_for_the_open) {
  struct real r;
  real_init(&r);
  r.reserve_bytes = UINT64_C(1) << 62;
  real_make(&r, 0, true);
  blx_error err = {0};
  ck_assert_int_eq(real_open(&r, 0, &err), 0);
  real_until(&r, real_has_leader, NULL);
  const uint64_t id = 1;
  struct outcome x = {0};
  const struct blx__slice op = {(const uint8_t *)&id, sizeof id};
  ck_assert_int_eq(blx__consensus_propose(r.m[0].c, op, outcome_cb, &x, &err).code, BLX_E_NOSPACE);
  ck_assert_msg(strstr(err.message, r.m[0].dir) != NULL, "%s", err.message);
  real_free(&r);
}
END_TEST

static void on_a_small_disk(struct real *r) {
  char filler[REAL_PATH + 16];
  uint64_t acked = 0;
  blx_error err = {0};
  char dir[REAL_PATH];
  ck_assert(blx__str_copy(dir, sizeof dir, r->m[0].dir));
  ck_assert(blx__str_format(r->m[0].dir, sizeof r->m[0].dir, "%s/raft", dir));
  ck_assert_int_eq(blx__dir_make(r->m[0].dir, 0700, NULL).code, 0);
  ck_assert_int_eq(blx__consensus_bootstrap(r->m[0].dir, cluster_id, 1, &err).code, 0);
  ck_assert(blx__str_format(filler, sizeof filler, "%s/filler", dir));
  ck_assert_int_eq(real_open(r, 0, &err), 0);
  real_until(r, real_has_leader, NULL);
  ck_assert_int_eq(fill_the_log(r, 2000, &acked), BLX_E_NOSPACE); /* refused while there is room: nothing has stopped */
  ck_assert_int_eq(r->m[0].fatal_code, 0);
  struct outcome read = {0};
  ck_assert_int_eq(blx__consensus_confirm(r->m[0].c, outcome_cb, &read, NULL).code, 0);
  real_until(r, real_fired, &read);
  ck_assert_int_eq(read.code, 0);
  real_close(r, 0);
  r->rules_off = BLX__RULE_R12_SPACE; /* as if the rule were not there: now it fails in a write */
  ck_assert_int_eq(real_open(r, 0, &err), 0);
  real_until(r, real_has_leader, NULL);
  shell("dd if=/dev/zero of='%s' bs=64k 2>/dev/null%s; true", filler, "");
  ck_assert_int_eq(fill_the_log(r, 2000, &acked), BLX_E_FATAL);
  ck_assert_int_eq(r->m[0].fatal_code, BLX_E_NOSPACE);
  real_close(r, 0);
  ck_assert_int_eq(unlink(filler), 0);
  ck_assert_msg(!refuses_or_has_all(r, acked, dir), "it does not start again when there is room");
}

START_TEST(a_full_disk__refuses_then_stops_and_loses_nothing) {
  struct real r;
  real_init(&r);
  r.snapshot_entries = 100000;
  r.snapshot_bytes = 1 << 30;
  real_make(&r, 0, false);
  char image[REAL_PATH + 16];
  ck_assert(blx__str_format(image, sizeof image, "%s/image", r.root));
  shell("truncate -s 96M '%s' && mkfs.ext4 -q -F '%s' >/dev/null 2>&1", image, image);
  char dir[REAL_PATH];
  ck_assert(blx__str_copy(dir, sizeof dir, r.m[0].dir));
  if (mounted("mount -o loop '%s' '%s' 2>/dev/null", image, dir)) {
    on_a_small_disk(&r);
    shell("umount '%s'%s", dir, "");
  }
  real_free(&r);
}
END_TEST

BLX_TEST_MAIN("consensus/damage", one_changed_byte_in_any_file__is_refused_or_does_no_harm,
              r23__a_log_that_is_behind_what_it_acknowledged__stops_its_member,
              r15__a_file_system_that_is_not_known_is_refused, a_read_only_directory__is_refused_with_a_sentence,
              segments_of_another_size__are_read, r12__names_the_directory_though_its_name_was_borrowed_for_the_open,
              a_full_disk__refuses_then_stops_and_loses_nothing)
