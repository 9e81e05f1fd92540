/* Confirmed reads (Ongaro 2014, 6.4): a round asks every voter for its term. A majority that is still in ours shows
 * that nobody else could have been elected before the round began, so our commit index of then was the newest. */
#include "consensus/consensus_int.h"

static const char lost_text[] = "leadership was lost before the read was confirmed: ask the new leader";

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
  for (struct blx__list *n; (n = blx__list_first(&c->confirm.round)) != NULL;) {
    blx__list_remove(n);
    BLX__CONTAINER(n, struct call, link)->index = c->confirm.index;
    blx__list_push(&c->confirm.applied, n);
  }
}

static void begin_round(struct blx__consensus *c) {
  struct confirm *f = &c->confirm;
  for (struct blx__list *n; (n = blx__list_first(&f->next)) != NULL;) {
    blx__list_remove(n);
    blx__list_push(&f->round, n);
  }
  f->seq++;
  f->term = c->raft.current_term;
  f->index = c->raft.commit_index;
  f->acks_count = 0;
  ask(c);
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
    if (call->index > c->raft.last_applied) break; /* in order: later ones wait for no less */
    call_finish(c, call, 0, NULL);
  }
  if (blx__list_empty(&f->round) && !blx__list_empty(&f->next)) consensus_wake(c);
}

void confirm_tick(struct blx__consensus *c) {
  if (c->raft.state == RAFT_LEADER && !blx__list_empty(&c->confirm.round)) ask(c);
}

void confirm_lost(struct blx__consensus *c) {
  calls_finish(c, &c->confirm.next, BLX_E_NO_LEADER, lost_text);
  calls_finish(c, &c->confirm.round, BLX_E_NO_LEADER, lost_text);
  calls_finish(c, &c->confirm.applied, BLX_E_NO_LEADER, lost_text);
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
