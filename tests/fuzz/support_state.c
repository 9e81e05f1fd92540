#include "support_state.h"

#include "fuzz.h"

#include <stdio.h>

/* The tests' support asserts with libcheck, which wants a running suite. Here an assertion is FUZZ_SHALL. */
void _mark_point(const char *file, int line) {
  (void)file;
  (void)line;
}

void _ck_assert_failed(const char *file, int line, const char *expr, const char *msg, ...) {
  fprintf(stderr, "%s:%d: %s %s\n", file, line, expr, msg ? msg : "");
  __builtin_trap();
}

enum { SNAPSHOT_MAX_BYTES = 16 << 20 };

void fuzz_state_open(struct t *t) {
  char digest[65];
  t_open_cluster(t, 2);
  FUZZ_SHALL(t_config(t, "{ }", digest) == 0);
  struct blx_quota quota = BLX_QUOTA_INIT;
  quota.has_instances = 1;
  quota.instances = 6;
  FUZZ_SHALL(t_quota(t, &quota) == 0);
  FUZZ_SHALL(t_taint(t, "node2", "old", "yes", BLX_TAINT_EFFECT_AVOID) == 0);
  FUZZ_SHALL(t_create_named(t, "web", 2) == 0);
  FUZZ_SHALL(t_assign(t, "web-1", 1) == 0);
  FUZZ_SHALL(t_report(t, "web-1", (struct t_seen){.phase = BLX_PHASE_RUNNING}) == 0);
}

void fuzz_state_check(const struct t *t) {
  struct blx__buf one, two;
  struct t twin;
  blx__buf_init(&one, SNAPSHOT_MAX_BYTES);
  blx__buf_init(&two, SNAPSHOT_MAX_BYTES);
  t_open(&twin, 0);
  FUZZ_SHALL(blx__state_snapshot(t->st, &one, NULL).code == 0);
  FUZZ_SHALL(blx__state_restore(twin.st, (struct blx__slice){one.data, one.len}, NULL).code == 0);
  FUZZ_SHALL(blx__state_snapshot(twin.st, &two, NULL).code == 0);
  FUZZ_SHALL(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
  t_check_rebuilt(t);
  t_check_rebuilt(&twin);
  blx__buf_free(&one);
  blx__buf_free(&two);
  t_close(&twin);
}
