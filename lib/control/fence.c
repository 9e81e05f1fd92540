/* When a node is cut off, and when that is proved. Durations come from the leader's boot clock alone; cluster time only
 * says how long fencing is disarmed, and makes the wait longer, never shorter. */
#include "control/control_int.h"
#include "lease/lease.h"

typedef unsigned long long ull;

struct fencing {
  const struct blx__state *st;
  const struct blx_settings *settings;
  struct blx__arena *arena;
  struct blx__control_out *out;
  uint64_t now_ms;
  size_t proposed;
};

static void look_in(struct fencing *f, uint64_t ms) {
  blx__control_due(f->out, f->now_ms + (ms > 0 ? ms : 1));
}

/* Of a node in doubt: what is left is by another clock than cluster time, so it is looked at often. */
static void look_soon(struct fencing *f, uint64_t left_ms) {
  look_in(f, left_ms > 0 && left_ms < BLX__CONTROL_LOOK_AGAIN_MS ? left_ms : BLX__CONTROL_LOOK_AGAIN_MS);
}

static uint64_t left(uint64_t wanted, uint64_t is) {
  return wanted > is ? wanted - is : 0;
}

/* False: enough for this step. */
static bool room(struct fencing *f) {
  look_soon(f, 0);
  return f->proposed < BLX__CONTROL_FENCE_MAX;
}

static blx__rc begin(struct fencing *f, const struct blx_node_info *n, uint64_t unanswered_ms, blx_error *err) {
  struct blx_op_fence_begin o = BLX_OP_FENCE_BEGIN_INIT;
  struct blx_op op = BLX_OP_INIT;
  char reason[128];
  if (!room(f)) return BLX__OK;
  (void)blx__str_format(reason, sizeof reason, "not heard from, and not answered for %llu s: its lease of %u s is over",
                        (ull)(unanswered_ms / 1000), (f->settings->lease->lease_ms + 999) / 1000);
  op.source = "fencing"; /* it leaves a record in the audit log */
  o.node_uid = n->uid;
  o.incarnation = n->incarnation;
  o.reason = reason;
  op.fence_begin = &o;
  f->proposed++;
  return blx__control_propose(f->out, f->arena, &op, err);
}

/* @whole: the machine is off. The end of a lease proves nothing of what has none. */
static blx__rc done(struct fencing *f, const struct blx_node_info *n, const char *proof, bool whole, blx_error *err) {
  struct blx_op_fence_done o = BLX_OP_FENCE_DONE_INIT;
  struct blx_op op = BLX_OP_INIT;
  if (!room(f)) return BLX__OK;
  op.source = "fencing";
  o.node_uid = n->uid;
  o.incarnation = n->fence_incarnation;
  o.proof = proof;
  o.whole = whole && blx__state_is_unclear(f->st, n->uid);
  op.fence_done = &o;
  f->proposed++;
  return blx__control_propose(f->out, f->arena, &op, err);
}

static blx__rc look_at_living(struct fencing *f, const struct blx_node_info *n, const struct blx__control_soft *s,
                              blx_error *err) {
  uint64_t armed_in = left(f->settings->disarmed_until_ms, f->now_ms);
  uint64_t wait_ms = left(blx__lease_fence_ms(f->settings->lease), s->unanswered_ms);
  if (armed_in > 0) {
    look_in(f, armed_in);
    return BLX__OK;
  }
  if (s->status == BLX_NODE_STATUS_SUSPECT && wait_ms == 0) return begin(f, n, s->unanswered_ms, err);
  if (s->status == BLX_NODE_STATUS_SUSPECT || wait_ms == 0)
    look_soon(f, wait_ms);
  else
    look_in(f, wait_ms);
  return BLX__OK;
}

/* As a line of text: what a command says may be anything, and an operation that cannot be read stops the cluster. */
static void quote(const char *said, char *out, size_t size) {
  (void)blx__str_format(out, size, "command: %s", said[0] ? said : "it ended with status 0 and said nothing");
  for (char *c = out; *c; c++)
    if (*c < 0x20 || *c > 0x7e) *c = *c == '\n' || *c == '\t' ? ' ' : '?';
}

static blx__rc look_at_fenced(struct fencing *f, const struct blx_node_info *n, const struct blx__control_soft *s,
                              blx_error *err) {
  char proof[512];
  if (s->powered_off) {
    quote(s->powered_off, proof, sizeof proof);
    return done(f, n, proof, true, err);
  }
  if (!blx__state_time_proves(f->st, n->uid)) {
    look_soon(f, 0);
    return BLX__OK;
  }
  uint64_t safe_ms = blx__state_t_safe_ms(f->st, s->lease_ms);
  uint64_t wait_ms = left(safe_ms, s->unanswered_ms), extended = left(f->settings->extended_until_ms, f->now_ms);
  if (wait_ms > 0 || extended > 0) {
    look_soon(f, wait_ms > extended ? wait_ms : extended);
    return BLX__OK;
  }
  (void)blx__str_format(proof, sizeof proof, "lease: not answered for %llu s, T_safe is %llu s",
                        (ull)(s->unanswered_ms / 1000), (ull)((safe_ms + 999) / 1000));
  return done(f, n, proof, false, err);
}

blx__rc blx__control_fence(const struct blx__control_input *in, struct blx__arena *arena, struct blx__control_out *out,
                           blx_error *err) {
  const struct blx__state *st = in->st;
  struct blx__state_counts counts = blx__state_counts(st);
  if (counts.ha == 0 && counts.fencing == 0) return BLX__OK;
  struct fencing f = {.st = st, .settings = blx__state_settings(st), .arena = arena, .out = out, .now_ms = in->now_ms};
  const struct blx_node_info *n = blx__state_node_after_uid(st, 0);
  for (; n; n = blx__state_node_after_uid(st, n->uid)) {
    bool lives = n->fence == BLX_FENCE_NONE && blx__state_ha_on_node(st, n->uid) > 0;
    if (!lives && n->fence != BLX_FENCE_BEGUN) continue;
    struct blx__control_soft s = {0};
    in->soft(in->user, n->uid, &s);
    BLX__TRY(lives ? look_at_living(&f, n, &s, err) : look_at_fenced(&f, n, &s, err));
  }
  return BLX__OK;
}
