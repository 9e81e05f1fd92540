#include "control/control_int.h"
#include "schema/codec.h"

enum { OP_BYTES_MAX = 4096 };

blx__rc blx__control_propose(struct blx__control_out *out, struct blx__arena *arena, const struct blx_op *op,
                             blx_error *err) {
  BLX__ASSERT(out->op_count < BLX__CONTROL_OPS_MAX);
  struct blx__buf b;
  blx__buf_init(&b, OP_BYTES_MAX);
  blx__rc rc = blx__msg_encode(blx__desc_op(), op, &b, err);
  if (rc.code == 0) {
    char *bytes = blx__arena_strndup(arena, (const char *)b.data, b.len);
    if (bytes)
      out->ops[out->op_count++] = (struct blx__slice){(const uint8_t *)bytes, b.len};
    else
      rc = blx__fail(err, BLX_E_NOMEM, "control", "the operations of a step do not fit into %zu bytes",
                     arena->limit_bytes);
  }
  blx__buf_free(&b);
  return rc;
}

void blx__control_due(struct blx__control_out *out, uint64_t at_ms) {
  if (out->next_due_ms == 0 || at_ms < out->next_due_ms) out->next_due_ms = at_ms;
}

/* What a fence sets free is placed by the step after it is applied. */
blx__rc blx__control_step(struct blx__control *c, const struct blx__control_input *in, struct blx__arena *arena,
                          struct blx__control_out *out, blx_error *err) {
  *out = (struct blx__control_out){0};
  BLX__TRY(blx__control_fence(in, arena, out, err));
  size_t fences = out->op_count;
  blx__rc rc = blx__control_schedule(c, in, arena, out, err);
  if (rc.code == 0 || fences == 0) return rc;
  /* Fencing never waits for what placement lacks: the next step, without these, says what that is. */
  out->op_count = fences;
  blx__control_due(out, in->now_ms + BLX__CONTROL_LOOK_AGAIN_MS);
  return BLX__OK;
}
