#include "base/sm.h"

bool blx__sm_may(const struct blx__sm_table *t, unsigned from, unsigned to) {
  BLX__ASSERT(from < t->count && t->count <= 64);
  return to < t->count && (t->states[from].next & BLX__SM_TO(to)) != 0;
}

unsigned blx__sm_move(const struct blx__sm_table *t, unsigned from, unsigned to) {
  BLX__ASSERT(blx__sm_may(t, from, to));
  return to;
}

const char *blx__sm_name(const struct blx__sm_table *t, unsigned state) {
  return state < t->count ? t->states[state].name : "unknown";
}
