/* What callers ask for. Proposals and group commit (R10): what arrives while one entry is on its way becomes the next
 * entry. Confirmed reads. And the calls themselves, each of which owes a completion. */
#include "consensus/consensus_int.h"
#include "io/loop.h"

#include <stdlib.h>
#include <string.h>

static const char lost_text[] = "leadership was lost while this was being committed: the outcome is unknown; the same "
                                "request may be sent again under its request id";
enum {
  NUDGE_MS = 1000,
  /* To wake a thread and its processor takes about as long as a round between members that are near, and a good part of
   * what a disk takes to sync: the loop looks for their end instead of sleeping, while that pays. */
  LOOK_ROUND_US = 80,
  LOOK_WRITE_US = 300,
};

static const char not_leader_text[] = "this member stopped leading before this was proposed: ask the new leader";

static bool log_is_full(struct blx__consensus *c) {
  return consensus_rule(c, BLX__RULE_R8_LOG_BYTES) && guard_log_bytes(c) >= c->o.log_bytes_max;
}

static void on_nudged(struct raft_barrier *req, int status) {
  struct blx__consensus *c = req->data;
  (void)status;
  c->nudging = false;
}

/* libraft asks for a snapshot only behind an entry. When the log is full none is let in, so one is made. */
void propose_nudge(struct blx__consensus *c) {
  uint64_t now = c->io->time(c->io);
  if (consensus_stopped(c) || c->raft.state != RAFT_LEADER || !c->ready || c->raft.transfer || c->nudging) return;
  if (!log_is_full(c) || (now >= c->nudged_at_ms && now - c->nudged_at_ms < NUDGE_MS)) return;
  c->nudge = (struct raft_barrier){.data = c};
  c->nudged_at_ms = now;
  c->nudging = raft_barrier(&c->raft, &c->nudge, on_nudged) == 0;
}

blx__rc blx__consensus_propose(struct blx__consensus *c, struct blx__slice op, blx__consensus_cb cb, void *user,
                               blx_error *err) {
  BLX__TRY(calls_refuse(c, err));
  if (op.len == 0 || op.len > BLX__CONSENSUS_OP_MAX)
    return blx__fail(err, BLX_E_INVALID, "consensus", "an operation has 1 to %d bytes, this one has %zu",
                     BLX__CONSENSUS_OP_MAX, op.len);
  if (c->proposals_count >= BLX__CONSENSUS_WAITING_MAX)
    return blx__fail(err, BLX_E_BUSY, "consensus", "%u operations wait to be committed already: try again later",
                     c->proposals_count);
  BLX__TRY(host_refuse_when_full(c, err));
  if (log_is_full(c))
    return blx__fail(err, BLX_E_BUSY, "consensus",
                     "the log in memory has %llu bytes, its limit is %llu, and no snapshot could be taken yet: try "
                     "again later",
                     (unsigned long long)guard_log_bytes(c), (unsigned long long)c->o.log_bytes_max);
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

static void batch_end(struct batch *b, bool committed) {
  struct blx__consensus *c = b->c;
  for (struct blx__list *n; (n = blx__list_first(&b->calls)) != NULL;) {
    struct call *call = BLX__CONTAINER(n, struct call, link);
    if (committed && call->index != 0)
      call_finish(c, call, call->code, call->why);
    else
      call_finish(c, call, BLX_E_TIMEOUT, lost_text);
  }
  batch_free(b);
}

void propose_applied(struct batch *b) {
  batch_end(b, true);
}

/* libraft's last word on an entry: committed, or leadership is gone. */
static void on_answered(struct raft_apply *req, int status, void *result) {
  struct batch *b = req->data;
  struct blx__consensus *c = b->c;
  (void)result;
  blx__list_remove(&b->link);
  if (c->o.loop && blx__list_empty(&c->batches)) blx__loop_look_end(c->o.loop);
  if (status == 0 && c->unapplied.mine == b)
    c->unapplied.answered = true;
  else
    batch_end(b, status == 0);
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
  int rv = raft_apply(&c->raft, &b->req, &buf, 1, on_answered);
  consensus_leave(c);
  if (rv != 0) {
    raft_free(base);
    refused(c, b, rv);
    return true;
  }
  if (c->o.loop) blx__loop_look(c->o.loop, LOOK_WRITE_US);
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

/* ---- confirmed reads (Ongaro 2014, 6.4): a round asks every voter for its term. A majority that is still in ours
 * shows that nobody else could have been elected before the round began, so our commit index of then was the newest. */

static const char unconfirmed_text[] = "leadership was lost before the read was confirmed: ask the new leader";

void confirm_init(struct blx__consensus *c) {
  blx__list_init(&c->confirm.next);
  blx__list_init(&c->confirm.round);
  blx__list_init(&c->confirm.applied);
}

blx__rc blx__consensus_confirm(struct blx__consensus *c, blx__consensus_cb cb, void *user, blx_error *err) {
  BLX__TRY(calls_refuse(c, err));
  if (c->reads_count >= BLX__CONSENSUS_WAITING_MAX)
    return blx__fail(err, BLX_E_BUSY, "consensus", "%u reads wait to be confirmed already: try again later",
                     c->reads_count);
  struct call *call = NULL;
  BLX__TRY(call_new((struct blx__slice){0}, cb, user, &call, err));
  call->counter = &c->reads_count;
  c->reads_count++;
  blx__list_push(&c->confirm.next, &call->link);
  consensus_wake(c);
  return BLX__OK;
}

static bool answered(const struct confirm *f, uint64_t uid) {
  for (uint32_t i = 0; i < f->acks_count; i++)
    if (f->acks[i] == uid) return true;
  return false;
}

static void ask(struct blx__consensus *c) {
  uint8_t bytes[18];
  message_encode_confirm(bytes, false, c->confirm.term, c->confirm.seq);
  for (unsigned i = 0; i < c->raft.configuration.n; i++) {
    const struct raft_server *s = &c->raft.configuration.servers[i];
    if (s->role != RAFT_VOTER || s->id == c->o.uid || answered(&c->confirm, s->id)) continue;
    (void)c->o.send(c->o.user, s->id, (struct blx__slice){.data = bytes, .len = sizeof bytes});
  }
}

/* Voters of today's configuration that answered, and this member if it is one. */
static bool has_majority(const struct blx__consensus *c) {
  uint32_t votes = 0;
  for (unsigned i = 0; i < c->raft.configuration.n; i++) {
    const struct raft_server *s = &c->raft.configuration.servers[i];
    if (s->role == RAFT_VOTER && (s->id == c->o.uid || answered(&c->confirm, s->id))) votes++;
  }
  return votes > member_voters(c) / 2;
}

static void end_round(struct blx__consensus *c) {
  if (c->o.loop) blx__loop_look_end(c->o.loop);
  for (struct blx__list *n; (n = blx__list_first(&c->confirm.round)) != NULL;) {
    blx__list_remove(n);
    BLX__CONTAINER(n, struct call, link)->index = c->confirm.index;
    blx__list_push(&c->confirm.applied, n);
  }
}

static void begin_round(struct blx__consensus *c) {
  struct confirm *f = &c->confirm;
  blx__list_take(&f->round, &f->next);
  f->seq++;
  f->term = c->raft.current_term;
  f->index = c->raft.commit_index;
  f->acks_count = 0;
  ask(c);
  if (c->o.loop && member_voters(c) > 1) blx__loop_look(c->o.loop, LOOK_ROUND_US);
}

void confirm_advance(struct blx__consensus *c) {
  struct confirm *f = &c->confirm;
  if (consensus_stopped(c)) return;
  if (c->raft.state != RAFT_LEADER || !c->ready) {
    confirm_lost(c);
    return;
  }
  if (blx__list_empty(&f->round) && !blx__list_empty(&f->next)) begin_round(c);
  if (!blx__list_empty(&f->round) && f->term == c->raft.current_term && has_majority(c)) end_round(c);
  for (struct blx__list *n; (n = blx__list_first(&f->applied)) != NULL;) {
    struct call *call = BLX__CONTAINER(n, struct call, link);
    if (call->index > fsm_applied(c)) break; /* in order: later ones wait for no less */
    call_finish(c, call, 0, NULL);
  }
  if (blx__list_empty(&f->round) && !blx__list_empty(&f->next)) consensus_wake(c);
}

void confirm_tick(struct blx__consensus *c) {
  if (c->raft.state == RAFT_LEADER && !blx__list_empty(&c->confirm.round)) ask(c);
}

void confirm_lost(struct blx__consensus *c) {
  calls_finish(c, &c->confirm.next, BLX_E_NO_LEADER, unconfirmed_text);
  calls_finish(c, &c->confirm.round, BLX_E_NO_LEADER, unconfirmed_text);
  calls_finish(c, &c->confirm.applied, BLX_E_NO_LEADER, unconfirmed_text);
}

void confirm_receive(struct blx__consensus *c, uint64_t from, bool reply, uint64_t term, uint64_t seq) {
  if (!reply) {
    uint8_t bytes[18];
    message_encode_confirm(bytes, true, c->raft.current_term, seq); /* libraft stores a term before it believes it */
    (void)c->o.send(c->o.user, from, (struct blx__slice){.data = bytes, .len = sizeof bytes});
    return;
  }
  struct confirm *f = &c->confirm;
  bool ours = c->raft.state == RAFT_LEADER && !blx__list_empty(&f->round) && f->seq == seq && f->term == term &&
              c->raft.current_term == term;
  if (!ours || !member_is_voter(c, from) || answered(f, from) || f->acks_count == BLX__CONSENSUS_MEMBERS_MAX) return;
  f->acks[f->acks_count++] = from;
}

/* ---- calls that owe a completion: they move between lists and end on c->done, which runs with libraft off the stack
 */

blx__rc call_new(struct blx__slice op, blx__consensus_cb cb, void *user, struct call **out, blx_error *err) {
  BLX__ASSERT(cb != NULL);
  BLX__ASSERT(op.len <= BLX__CONSENSUS_OP_MAX);
  struct call *call = malloc(sizeof *call + op.len);
  if (!call) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for a call of %zu bytes", op.len);
  *call = (struct call){.cb = cb, .user = user, .op_len = op.len};
  blx__list_init(&call->link);
  if (op.len) memcpy(call->op, op.data, op.len);
  *out = call;
  return BLX__OK;
}

void call_finish(struct blx__consensus *c, struct call *call, int code, const char *why) {
  BLX__ASSERT(code == 0 || why != NULL);
  blx__list_remove(&call->link);
  call->code = code;
  call->why = why;
  blx__list_push(&c->done, &call->link);
}

void calls_finish(struct blx__consensus *c, struct blx__list *calls, int code, const char *why) {
  for (struct blx__list *n; (n = blx__list_first(calls)) != NULL;)
    call_finish(c, BLX__CONTAINER(n, struct call, link), code, why);
}

void calls_finish_all(struct blx__consensus *c, int code, const char *why) {
  calls_finish(c, &c->waiting, code, why);
  BLX__LIST_FOREACH (n, &c->batches) {
    calls_finish(c, &BLX__CONTAINER(n, struct batch, link)->calls, code, why);
  }
  if (c->unapplied.mine) calls_finish(c, &c->unapplied.mine->calls, code, why);
  calls_finish(c, &c->confirm.next, code, why);
  calls_finish(c, &c->confirm.round, code, why);
  calls_finish(c, &c->confirm.applied, code, why);
  if (c->member.call) call_finish(c, c->member.call, code, why);
  c->member.call = NULL;
}

void calls_run_done(struct blx__consensus *c) {
  for (struct blx__list *n; (n = blx__list_first(&c->done)) != NULL;) {
    struct call *call = BLX__CONTAINER(n, struct call, link);
    blx__list_remove(n);
    blx_error err;
    const blx_error *told = NULL;
    if (call->code != 0) {
      (void)blx__fail(&err, call->code, "consensus", "%s", call->why);
      told = &err;
    }
    if (call->counter) --*call->counter;
    call->cb(call->user, told, call->index, (struct blx__slice){.data = call->result, .len = call->result_len});
    if (call->result != call->small) free(call->result);
    free(call);
  }
}

blx__rc calls_refuse(const struct blx__consensus *c, blx_error *err) {
  if (c->fatal_code) return blx__fail(err, BLX_E_FATAL, "consensus", "%s", c->fatal_text);
  if (c->closing) return blx__fail(err, BLX_E_CANCELLED, "consensus", "this member is closing");
  if (c->raft.state != RAFT_LEADER)
    return blx__fail(err, BLX_E_NO_LEADER, "consensus", "this member does not lead: ask the leader");
  if (!c->ready)
    return blx__fail(err, BLX_E_NO_LEADER, "consensus", "this member was elected just now and is not ready: try again");
  return BLX__OK;
}
