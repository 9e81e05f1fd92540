#include "base/digest.h"
#include "placement/fleet_int.h"

#include <stdlib.h>

static size_t home_of(const struct fleet_ids *ids, uint64_t uid) {
  return blx__mix64(uid) & (ids->room - 1);
}

static void put(struct fleet_ids *ids, uint64_t uid, uint32_t slot) {
  size_t at = home_of(ids, uid);
  while (ids->at[at].uid != 0 && ids->at[at].uid != uid) at = (at + 1) & (ids->room - 1);
  ids->count += ids->at[at].uid == 0;
  ids->at[at] = (struct fleet_id){.uid = uid, .slot = slot};
}

static bool grow(struct fleet_ids *ids) {
  struct fleet_ids larger = {.room = ids->room ? ids->room * 2 : 64};
  larger.at = calloc(larger.room, sizeof *larger.at);
  if (!larger.at) return false;
  for (size_t i = 0; i < ids->room; i++)
    if (ids->at[i].uid != 0) put(&larger, ids->at[i].uid, ids->at[i].slot);
  BLX__ASSERT(larger.count == ids->count);
  free(ids->at);
  *ids = larger;
  return true;
}

bool fleet_ids_set(struct fleet_ids *ids, uint64_t uid, uint32_t slot) {
  BLX__ASSERT(uid != 0);
  if ((ids->count + 1) * 4 > ids->room * 3 && !grow(ids)) return false;
  put(ids, uid, slot);
  return true;
}

uint32_t fleet_ids_get(const struct fleet_ids *ids, uint64_t uid) {
  if (ids->room == 0 || uid == 0) return FLEET_NONE;
  for (size_t at = home_of(ids, uid); ids->at[at].uid != 0; at = (at + 1) & (ids->room - 1))
    if (ids->at[at].uid == uid) return ids->at[at].slot;
  return FLEET_NONE;
}

void fleet_ids_fetch(const struct fleet_ids *ids, uint64_t uid) {
  if (ids->room > 0) __builtin_prefetch(&ids->at[home_of(ids, uid)], 1);
}

/* What stood behind it moves up, so that no search ends early (Knuth 6.4, algorithm R). */
void fleet_ids_remove(struct fleet_ids *ids, uint64_t uid) {
  size_t mask = ids->room - 1, gap, at;
  if (fleet_ids_get(ids, uid) == FLEET_NONE) return;
  for (gap = home_of(ids, uid); ids->at[gap].uid != uid;) gap = (gap + 1) & mask;
  for (at = (gap + 1) & mask; ids->at[at].uid != 0; at = (at + 1) & mask) {
    size_t home = home_of(ids, ids->at[at].uid);
    if (((at - home) & mask) < ((at - gap) & mask)) continue;
    ids->at[gap] = ids->at[at];
    gap = at;
  }
  ids->at[gap] = (struct fleet_id){0};
  ids->count--;
}

void fleet_ids_free(struct fleet_ids *ids) {
  free(ids->at);
  *ids = (struct fleet_ids){0};
}
