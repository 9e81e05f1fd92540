/* Random messages of any type, for round trips. */
#ifndef BLX_TESTS_SCHEMA_RANDOM_H
#define BLX_TESTS_SCHEMA_RANDOM_H

#include "schema/codec.h"

struct random_source {
  uint64_t state; /* the seed */
};

uint64_t random_next(struct random_source *r);

/* In [0, below), below > 0. */
uint64_t random_below(struct random_source *r, uint64_t below);

/* A message whose lengths, caps and text a codec takes; numbers and enums are anything their types hold. Traps when the
 * arena is full. */
void *random_message(const struct blx__msg_desc *desc, struct blx__arena *arena, struct random_source *r);

#endif
