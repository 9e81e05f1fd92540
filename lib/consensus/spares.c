#include "consensus/store_int.h"

#include <string.h>

const char store_spare_names[STORE_SPARES_MAX][BLX__DISK_NAME_MAX + 1] = {"log.spare-1", "log.spare-2", "log.spare-3",
                                                                          "log.spare-4", "log.spare-5", "log.spare-6",
                                                                          "log.spare-7", "log.spare-8"};

static unsigned find(const struct store *st, enum store_spare state) {
  unsigned i = 0;
  while (i < STORE_SPARES_MAX && st->spares[i] != state) i++;
  return i;
}

bool store_spare_is(const char *name) {
  static const char prefix[] = "log.spare";
  return strncmp(name, prefix, sizeof prefix - 1) == 0;
}

bool store_spare_any(const struct store *st, enum store_spare state) {
  return find(st, state) < STORE_SPARES_MAX;
}

blx__rc store_spare_take(struct store *st, const char *to) {
  unsigned i = find(st, STORE_SPARE_READY);
  BLX__ASSERT(i < STORE_SPARES_MAX);
  st->spares[i] = STORE_SPARE_NONE;
  return st->d->ops->rename(st->d->self, store_spare_names[i], to);
}

blx__rc store_spare_keep(struct store *st, const char *from, unsigned *spared) {
  unsigned i = find(st, STORE_SPARE_NONE);
  BLX__ASSERT(i < STORE_SPARES_MAX);
  BLX__TRY(st->d->ops->rename(st->d->self, from, store_spare_names[i]));
  st->spares[i] = STORE_SPARE_COMING;
  *spared |= 1u << i;
  return BLX__OK;
}

void store_spares_ready(struct store *st, unsigned spared) {
  for (unsigned i = 0; i < STORE_SPARES_MAX; i++)
    if (spared & 1u << i) st->spares[i] = STORE_SPARE_READY;
}
