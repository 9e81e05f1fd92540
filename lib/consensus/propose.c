/* Proposals and group commit (R10): what arrives while one entry is on its way becomes the next entry. */
#include "consensus/consensus_int.h"

#include <stdlib.h>

static const char lost_text[] = "leadership was lost while this was being committed: the outcome is unknown; the same "
                                "request may be sent again under its request id";
static const char not_leader_text[] = "this member stopped leading before this was proposed: ask the new leader";

blx__rc blx__consensus_propose(struct blx__consensus *c, struct blx__slice op, blx__consensus_cb cb, void *user,
                               blx_error *err) {
  BLX__TRY(calls_refuse(c, err));
  if (op.len == 0 || op.len > BLX__CONSENSUS_OP_MAX)
    return blx__fail(err, BLX_E_INVALID, "consensus", "an operation has 1 to %d bytes, this one has %zu",
                     BLX__CONSENSUS_OP_MAX, op.len);
  if (c->proposals_count >= BLX__CONSENSUS_WAITING_MAX)
    return blx__fail(err, BLX_E_BUSY, "consensus", "%u operations wait to be committed already: try again later",
                     c->proposals_count);
  struct call *call = NULL;
  BLX__TRY(call_new(op, cb, user, &call, err));
  call->counter = &c->proposals_count;
  c->proposals_count++;
  blx__list_push(&c->waiting, &call->link);
  consensus_wake(c);
  return BLX__OK;
}

static void batch_free(struct batch *b) {
  BLX__ASSERT(blx__list_empty(&b->calls));
  blx__list_remove(&b->link);
  free(b);
}

/* libraft's last word on an entry: applied here, or leadership is gone. */
static void on_applied(struct raft_apply *req, int status, void *result) {
  struct batch *b = req->data;
  struct blx__consensus *c = b->c;
  (void)result;
  for (struct blx__list *n; (n = blx__list_first(&b->calls)) != NULL;) {
    struct call *call = BLX__CONTAINER(n, struct call, link);
    if (status == 0 && call->index != 0)
      call_finish(c, call, call->code, call->why);
    else
      call_finish(c, call, BLX_E_TIMEOUT, lost_text);
  }
  batch_free(b);
}

/* How many of the waiting calls go into the next entry. */
static uint32_t choose(const struct blx__consensus *c, size_t *size) {
  uint32_t n = 0;
  size_t bytes = 0;
  BLX__LIST_FOREACH (it, &c->waiting) {
    const struct call *call = BLX__CONTAINER(it, const struct call, link);
    if (n == BLX__CONSENSUS_BATCH_OPS_MAX || bytes + call->op_len > BLX__CONSENSUS_BATCH_BYTES_MAX) break;
    bytes += call->op_len;
    n++;
  }
  *size = entry_size(n, bytes);
  return n;
}

static void fill(struct blx__consensus *c, struct batch *b, uint32_t n, uint8_t *at, size_t size) {
  const struct entry_head head = {
      .time_ms = c->o.now_ms(c->o.user), .proposer = c->o.uid, .serial = b->serial, .ops_count = n};
  entry_begin(at, size, &head);
  uint8_t *p = at + ENTRY_HEAD_BYTES;
  for (uint32_t i = 0; i < n; i++) {
    struct call *call = BLX__CONTAINER(blx__list_first(&c->waiting), struct call, link);
    p = entry_put_op(p, call->op, call->op_len);
    blx__list_remove(&call->link);
    blx__list_push(&b->calls, &call->link);
  }
  BLX__ASSERT(p <= at + size);
}

/* Refused by libraft, so nothing of it is in any log: what the callers are told is certain. */
static void refused(struct blx__consensus *c, struct batch *b, int rv) {
  blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "libraft refused an entry: %s", raft_strerror(rv));
  if (rv == RAFT_NOTLEADER || rv == RAFT_LEADERSHIPLOST)
    calls_finish(c, &b->calls, BLX_E_NO_LEADER, not_leader_text);
  else
    calls_finish(c, &b->calls, BLX_E_BUSY, "the entry was refused by libraft and nothing was done: try again later");
  batch_free(b);
}

static bool flush_one(struct blx__consensus *c) {
  size_t size = 0;
  uint32_t n = choose(c, &size);
  BLX__ASSERT(n > 0);
  struct batch *b = calloc(1, sizeof *b);
  void *base = raft_malloc(size);
  if (!b || !base) {
    free(b);
    raft_free(base);
    return false; /* they wait on; the next tick tries again */
  }
  b->c = c;
  b->serial = ++c->serial;
  b->req.data = b;
  blx__list_init(&b->calls);
  blx__list_push(&c->batches, &b->link);
  fill(c, b, n, base, size);
  const struct raft_buffer buf = {.base = base, .len = size};
  consensus_enter(c);
  int rv = raft_apply(&c->raft, &b->req, &buf, 1, on_applied);
  consensus_leave(c);
  if (rv != 0) {
    raft_free(base);
    refused(c, b, rv);
  }
  return true;
}

void propose_flush(struct blx__consensus *c) {
  if (consensus_stopped(c)) return;
  if (c->raft.state != RAFT_LEADER) {
    calls_finish(c, &c->waiting, BLX_E_NO_LEADER, not_leader_text);
    return;
  }
  if (!c->ready || c->raft.transfer != NULL) return;
  bool one = consensus_rule(c, BLX__RULE_R10_ONE_OUTSTANDING);
  while (!blx__list_empty(&c->waiting) && (!one || blx__list_empty(&c->batches)))
    if (consensus_stopped(c) || !flush_one(c)) return;
}

struct batch *propose_find(struct blx__consensus *c, uint64_t index, uint64_t proposer, uint64_t serial) {
  if (proposer != c->o.uid) return NULL;
  BLX__LIST_FOREACH (n, &c->batches) {
    struct batch *b = BLX__CONTAINER(n, struct batch, link);
    if (b->req.index == index && b->serial == serial) return b;
  }
  return NULL;
}
