#include "base/digest.h"
#include "placement/fleet_int.h"

#include <stdlib.h>
#include <string.h>

/* At most four fifths full. */
static bool full(const struct fleet_ids *ids, size_t n) {
  return n * 5 > ids->room * 4;
}

static uint32_t hash_of(uint64_t uid) {
  return (uint32_t)blx__mix64(uid);
}

static bool is(const struct fleet_ids *ids, const struct fleet_id *id, uint32_t hash, uint64_t uid) {
  const char *record = ids->records;
  return id->hash == hash && *(const uint64_t *)(const void *)(record + (id->plus_one - 1) * ids->record_bytes) == uid;
}

static void put(struct fleet_ids *ids, struct fleet_id id) {
  size_t at = id.hash & (ids->room - 1);
  while (ids->at[at].plus_one != 0) at = (at + 1) & (ids->room - 1);
  ids->at[at] = id;
  ids->count++;
}

static bool grow(struct fleet_ids *ids) {
  struct fleet_ids larger = *ids;
  larger.room = ids->room ? ids->room * 2 : 64;
  larger.count = 0;
  larger.at = calloc(larger.room, sizeof *larger.at);
  if (!larger.at) return false;
  for (size_t i = 0; i < ids->room; i++)
    if (ids->at[i].plus_one != 0) put(&larger, ids->at[i]);
  BLX__ASSERT(larger.count == ids->count);
  free(ids->at);
  *ids = larger;
  return true;
}

void fleet_ids_of(struct fleet_ids *ids, const void *records, size_t record_bytes) {
  ids->records = records;
  ids->record_bytes = record_bytes;
}

bool fleet_ids_reserve(struct fleet_ids *ids, size_t n) {
  while (full(ids, n))
    if (!grow(ids)) return false;
  return true;
}

bool fleet_ids_set(struct fleet_ids *ids, uint64_t uid, uint32_t slot) {
  BLX__ASSERT(uid != 0 && slot != FLEET_NONE);
  if (!fleet_ids_reserve(ids, ids->count + 1)) return false;
  put(ids, (struct fleet_id){.hash = hash_of(uid), .plus_one = slot + 1});
  return true;
}

uint32_t fleet_ids_get(const struct fleet_ids *ids, uint64_t uid) {
  if (ids->room == 0 || uid == 0) return FLEET_NONE;
  uint32_t hash = hash_of(uid);
  for (size_t at = hash & (ids->room - 1); ids->at[at].plus_one != 0; at = (at + 1) & (ids->room - 1))
    if (is(ids, &ids->at[at], hash, uid)) return ids->at[at].plus_one - 1;
  return FLEET_NONE;
}

void fleet_ids_fetch(const struct fleet_ids *ids, uint64_t uid) {
  if (ids->room > 0) __builtin_prefetch(&ids->at[hash_of(uid) & (ids->room - 1)], 1);
}

/* What stood behind it moves up, so that no search ends early (Knuth 6.4, algorithm R). */
void fleet_ids_remove(struct fleet_ids *ids, uint64_t uid) {
  size_t mask = ids->room - 1, gap, at;
  uint32_t hash = hash_of(uid);
  if (fleet_ids_get(ids, uid) == FLEET_NONE) return;
  for (gap = hash & mask; !is(ids, &ids->at[gap], hash, uid);) gap = (gap + 1) & mask;
  for (at = (gap + 1) & mask; ids->at[at].plus_one != 0; at = (at + 1) & mask) {
    size_t home = ids->at[at].hash & mask;
    if (((at - home) & mask) < ((at - gap) & mask)) continue;
    ids->at[gap] = ids->at[at];
    gap = at;
  }
  ids->at[gap] = (struct fleet_id){0};
  ids->count--;
}

void fleet_ids_clear(struct fleet_ids *ids) {
  if (ids->room > 0) memset(ids->at, 0, ids->room * sizeof *ids->at);
  ids->count = 0;
}

void fleet_ids_free(struct fleet_ids *ids) {
  free(ids->at);
  *ids = (struct fleet_ids){0};
}
