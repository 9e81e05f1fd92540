#include "base/failpoint.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
#define NAME(id, name) [BLX__FAILPOINT_##id] = name,
    BLX__FAILPOINTS(NAME)
#undef NAME
};

/* Impossible, so that a place compares with it until this process has looked. */
atomic_int blx__failpoint_armed = -1;
static atomic_ullong left;

static blx__rc parse(const char *text, int *point, uint64_t *times, blx_error *err) {
  const char *colon = strchr(text, ':');
  size_t n = colon ? (size_t)(colon - text) : strlen(text);
  *times = 1;
  for (size_t i = 1; i < BLX__COUNT(names); i++)
    if (strlen(names[i]) == n && memcmp(names[i], text, n) == 0) *point = (int)i;
  if (*point == BLX__FAILPOINT_NONE || (colon && !blx__parse_u64(colon + 1, 1, UINT32_MAX, times)))
    return blx__fail(err, BLX_E_INVALID, "base",
                     "BLIXARD_FAILPOINT=%.80s names no failpoint: NAME or NAME:N, of lib/base/failpoint.h", text);
  return BLX__OK;
}

blx__rc blx__failpoint_arm(blx_error *err) {
  if (atomic_load(&blx__failpoint_armed) >= 0) return BLX__OK;
  /* lint: allow secure_getenv: a place to die is of the process, not of a node, and no setting of anybody's */
  const char *text = secure_getenv("BLIXARD_FAILPOINT");
  int point = BLX__FAILPOINT_NONE;
  uint64_t times = 0;
  if (text && *text) BLX__TRY(parse(text, &point, &times, err));
  int before = -1;
  atomic_store(&left, times);
  (void)atomic_compare_exchange_strong(&blx__failpoint_armed, &before, point);
  return BLX__OK;
}

void blx__failpoint_reached(void) {
  if (atomic_fetch_sub(&left, 1) == 1) (void)raise(SIGKILL);
}
