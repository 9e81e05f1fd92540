/* Idempotency: the same request under the same key gets the same answer. */
#include "state/state_int.h"

#include <string.h>

enum { AGE_KEY_MAX = 16 + 130 };

static size_t age_key(uint8_t out[AGE_KEY_MAX], const struct blx_idempotency *r) {
  size_t n = strnlen(r->key, AGE_KEY_MAX - 16);
  blx__state_pair_key(out, r->time_ms, r->result ? r->result->index : 0);
  memcpy(out + 16, r->key, n);
  return 16 + n;
}

static struct blx_idempotency *oldest(const struct blx__state *st) {
  struct blx__map_pos first = blx__map_seek(&st->data.keys_by_age, NULL, 0);
  return first.node ? blx__map_value(first) : NULL;
}

static void drop(struct blx__state *st, struct blx_idempotency *r) {
  uint8_t key[AGE_KEY_MAX];
  blx__map_remove(&st->data.keys_by_age, key, age_key(key, r));
  BLX__ASSERT(blx__map_remove_str(&st->data.keys, r->key) == r);
  blx__state_release(st, r);
}

static uint64_t age_ms(const struct blx__state *st, const struct blx_idempotency *r) {
  return st->data.time_ms > r->time_ms ? st->data.time_ms - r->time_ms : 0;
}

static bool same_bytes(const struct blx_bytes *a, const struct blx_bytes *b) {
  return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Room for one more, taken from the oldest if that is old enough. */
static blx__rc make_room(struct blx__state *st, blx_error *err) {
  for (unsigned i = 0; i < STATE_EXPIRE_PER_OP; i++) {
    struct blx_idempotency *r = oldest(st);
    if (!r || age_ms(st, r) < BLX__STATE_KEY_KEPT_MS) break;
    drop(st, r);
  }
  if (st->data.keys.count < st->options.keys_max) return BLX__OK;
  struct blx_idempotency *r = oldest(st);
  BLX__ASSERT(r != NULL);
  if (age_ms(st, r) < BLX__STATE_KEY_SAFE_MS)
    return blx__fail(err, BLX_E_BUSY, "state",
                     "all %u request ids that the cluster can keep are younger than ten minutes: try again later",
                     st->options.keys_max);
  drop(st, r);
  return BLX__OK;
}

blx__rc blx__state_key_find(struct blx__state *st, const struct state_request *r, const struct blx_op_result **out,
                            blx_error *err) {
  struct blx_idempotency *known = blx__map_get_str(&st->data.keys, r->key);
  if (!known) {
    *out = NULL;
    return make_room(st, err);
  }
  if (!same_bytes(&known->digest, &r->digest))
    return blx__fail(err, BLX_E_CONFLICT, "state",
                     "request id %s was used for a different request: choose a new one for this request",
                     strchr(r->key, '/') ? strchr(r->key, '/') + 1 : r->key);
  BLX__ASSERT(known->result != NULL);
  *out = known->result;
  return BLX__OK;
}

void blx__state_key_put(struct blx__state *st, const struct blx_idempotency *draft) {
  void *rec = NULL, *old = NULL;
  STATE_MUST(blx__msg_own(blx__desc_idempotency(), draft, &rec, NULL).code == 0);
  struct blx_idempotency *r = rec;
  uint8_t key[AGE_KEY_MAX];
  STATE_MUST(blx__map_set_str(&st->data.keys, r->key, r, &old));
  BLX__ASSERT(old == NULL);
  STATE_MUST(blx__map_set(&st->data.keys_by_age, key, age_key(key, r), r, NULL));
}
