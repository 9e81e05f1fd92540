/* Who is in the group (R7): one change at a time, only by a leader whose own barrier is committed, none during a
 * transfer. libraft cannot change an address, so it gets a name that never needs to. */
#include "consensus/consensus_int.h"

enum { TRIES_MAX = 50 }; /* times that libraft may put a step off: ticks, and catch-up rounds */

static const char lost_text[] = "leadership was lost during the change: whether it was made is unknown; the same call "
                                "goes on where this one stopped";
static const char slow_text[] = "the member does not catch up with the log, or another change is in the way: the same "
                                "call goes on where this one stopped";

static const struct raft_server *find(const struct blx__consensus *c, uint64_t uid) {
  for (unsigned i = 0; i < c->raft.configuration.n; i++)
    if (c->raft.configuration.servers[i].id == uid) return &c->raft.configuration.servers[i];
  return NULL;
}

uint32_t member_voters(const struct blx__consensus *c) {
  uint32_t n = 0;
  for (unsigned i = 0; i < c->raft.configuration.n; i++)
    if (c->raft.configuration.servers[i].role == RAFT_VOTER) n++;
  return n;
}

bool member_is_voter(const struct blx__consensus *c, uint64_t uid) {
  const struct raft_server *s = find(c, uid);
  return s && s->role == RAFT_VOTER;
}

bool member_is_known(const struct blx__consensus *c, uint64_t uid) {
  return find(c, uid) != NULL;
}

static void finish(struct blx__consensus *c, int code, const char *why) {
  struct call *call = c->member.call;
  c->member.call = NULL;
  c->member.step = MEMBER_IDLE;
  if (!call) return; /* completed already, by a poison or a close */
  call->index = c->raft.configuration_index;
  call_finish(c, call, code, why);
}

/* R7: not before our own barrier is committed. */
static bool may_change(const struct blx__consensus *c) {
  return c->ready || !consensus_rule(c, BLX__RULE_R7_OWN_BARRIER);
}

static blx__rc refuse_change(const struct blx__consensus *c, blx_error *err) {
  return consensus_stopped(c) || c->raft.state != RAFT_LEADER || !may_change(c) ? calls_refuse(c, err) : BLX__OK;
}

static blx__rc begin(struct blx__consensus *c, enum member_step step, uint64_t uid, blx__consensus_cb cb, void *user,
                     blx_error *err) {
  if (c->member.step != MEMBER_IDLE || c->member.in_flight || c->raft.configuration_uncommitted_index != 0 ||
      c->raft.transfer != NULL)
    return blx__fail(err, BLX_E_BUSY, "consensus", "another change of members is under way: try again later");
  struct call *call = NULL;
  BLX__TRY(call_new((struct blx__slice){0}, cb, user, &call, err));
  c->member = (struct member){.step = step, .uid = uid, .call = call};
  consensus_wake(c);
  return BLX__OK;
}

static blx__rc check_member(const struct blx__consensus *c, uint64_t uid, blx_error *err) {
  if (uid == 0) return blx__fail(err, BLX_E_INVALID, "consensus", "a member's uid is at least 1");
  if (!find(c, uid) && c->raft.configuration.n >= BLX__CONSENSUS_MEMBERS_MAX)
    return blx__fail(err, BLX_E_INVALID, "consensus", "a group has at most %d members", BLX__CONSENSUS_MEMBERS_MAX);
  return BLX__OK;
}

blx__rc blx__consensus_add_member(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                  blx_error *err) {
  BLX__TRY(refuse_change(c, err));
  BLX__TRY(check_member(c, uid, err));
  return begin(c, MEMBER_ADD, uid, cb, user, err);
}

blx__rc blx__consensus_stand_by(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                blx_error *err) {
  BLX__TRY(refuse_change(c, err));
  BLX__TRY(check_member(c, uid, err));
  if (uid == c->o.uid)
    return blx__fail(err, BLX_E_CONFLICT, "consensus",
                     "member %llu leads and cannot stand by: transfer leadership first", (unsigned long long)uid);
  return begin(c, MEMBER_STAND_BY, uid, cb, user, err);
}

blx__rc blx__consensus_remove_member(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                     blx_error *err) {
  BLX__TRY(refuse_change(c, err));
  if (uid == c->o.uid)
    return blx__fail(err, BLX_E_CONFLICT, "consensus",
                     "member %llu leads and cannot remove itself: transfer leadership first", (unsigned long long)uid);
  return begin(c, MEMBER_REMOVE, uid, cb, user, err);
}

blx__rc blx__consensus_transfer(struct blx__consensus *c, uint64_t uid, blx__consensus_cb cb, void *user,
                                blx_error *err) {
  BLX__TRY(refuse_change(c, err));
  if (uid == c->o.uid || (uid == 0 && member_voters(c) < 2) || (uid != 0 && !member_is_voter(c, uid)))
    return blx__fail(err, BLX_E_NOT_FOUND, "consensus", "there is no other voter %llu to hand leadership to",
                     (unsigned long long)uid);
  return begin(c, MEMBER_TRANSFER, uid, cb, user, err);
}

static void on_change(struct raft_change *req, int status) {
  struct blx__consensus *c = req->data;
  c->member.in_flight = false;
  if (status == 0) return; /* member_advance takes the next step */
  if (status != RAFT_NOCONNECTION || ++c->member.tries >= TRIES_MAX) {
    bool slow = status == RAFT_NOCONNECTION;
    finish(c, BLX_E_TIMEOUT, slow ? slow_text : lost_text);
  }
}

static void on_transferred(struct raft_transfer *req) {
  struct blx__consensus *c = req->data;
  struct member *m = &c->member;
  m->in_flight = false;
  uint64_t leader = blx__consensus_leader(c);
  bool moved = m->uid != 0 ? leader == m->uid : leader != 0 && leader != c->o.uid;
  if (moved)
    finish(c, 0, NULL);
  else
    finish(c, BLX_E_TIMEOUT, "the other member did not take over within an election timeout");
}

/* One step towards what was asked; libraft's answer, 0 when it took the step. */
static int step_towards(struct blx__consensus *c, const struct raft_server *s) {
  struct member *m = &c->member;
  char address[ADDRESS_SIZE];
  m->change = (struct raft_change){.data = c};
  if (m->step == MEMBER_REMOVE) return raft_remove(&c->raft, &m->change, m->uid, on_change);
  if (m->step == MEMBER_TRANSFER) {
    m->transfer = (struct raft_transfer){.data = c};
    return raft_transfer(&c->raft, &m->transfer, m->uid, on_transferred);
  }
  bool to_voter = m->step == MEMBER_ADD && s && s->role == RAFT_STANDBY;
  if (s) return raft_assign(&c->raft, &m->change, m->uid, to_voter ? RAFT_VOTER : RAFT_STANDBY, on_change);
  address_of(m->uid, address);
  return raft_add(&c->raft, &m->change, m->uid, address, on_change);
}

static bool is_reached(const struct member *m, const struct raft_server *s) {
  switch (m->step) {
  case MEMBER_ADD: return s && s->role == RAFT_VOTER;
  case MEMBER_STAND_BY: return s && s->role == RAFT_STANDBY;
  case MEMBER_REMOVE: return !s;
  case MEMBER_IDLE:
  case MEMBER_TRANSFER: return false;
  }
  return false;
}

void member_advance(struct blx__consensus *c) {
  struct member *m = &c->member;
  if (m->step == MEMBER_IDLE || m->in_flight || consensus_stopped(c)) return;
  if (c->raft.state != RAFT_LEADER || !may_change(c)) {
    finish(c, BLX_E_TIMEOUT, lost_text);
    return;
  }
  const struct raft_server *s = find(c, m->uid);
  if (is_reached(m, s)) {
    finish(c, 0, NULL);
    return;
  }
  m->in_flight = true;
  consensus_enter(c);
  int rv = step_towards(c, s);
  consensus_leave(c);
  if (rv == 0) return;
  m->in_flight = false;
  if (rv != RAFT_CANTCHANGE)
    finish(c, BLX_E_TIMEOUT, lost_text);
  else if (++m->tries >= TRIES_MAX)
    finish(c, BLX_E_TIMEOUT, slow_text);
}

/* ---- what the guard knows of configurations (R7, R9) */

void guard_started(struct blx__consensus *c) {
  struct raft *r = &c->raft;
  uint64_t index = r->configuration_index;
  if (!consensus_rule(c, BLX__RULE_R7_LOADED_CHANGE)) return;
  if (index <= r->commit_index || index <= r->log.snapshot.last_index) return;
  uint64_t before = index - 1;
  for (const struct raft_entry *e; (e = guard_entry(r, before)) != NULL; before--)
    if (e->type == RAFT_CHANGE) break;
  if (!guard_entry(r, before)) before = c->guard.loaded_conf_index;
  if (before == 0) return;
  BLX_SOMETIMES(c, CONFIGURATION_DOUBTED);
  r->configuration_index = before;
  r->configuration_uncommitted_index = index;
}

/* Where this message would cut the log, 0: nowhere. */
static uint64_t cuts_at(const struct raft *r, const struct raft_append_entries *a) {
  const struct raft_entry *prev = guard_entry(r, a->prev_log_index);
  bool snapshot = a->prev_log_index == r->log.snapshot.last_index && a->prev_log_term == r->log.snapshot.last_term;
  if (a->term < r->current_term) return 0;
  if (a->prev_log_index != 0 && !snapshot && !(prev && prev->term == a->prev_log_term)) return 0;
  for (unsigned i = 0; i < a->n_entries; i++) {
    const struct raft_entry *mine = guard_entry(r, a->prev_log_index + 1 + i);
    if (mine && mine->term != a->entries[i].term) return a->prev_log_index + 1 + i;
  }
  return 0;
}

static void conf_close(struct raft_configuration *conf) {
  raft_configuration_close(conf);
  raft_configuration_init(conf);
}

bool guard_conf_copy(struct raft_configuration *to, const struct raft_configuration *from) {
  conf_close(to);
  for (unsigned i = 0; i < from->n; i++) {
    const struct raft_server *s = &from->servers[i];
    if (raft_configuration_add(to, s->id, s->address, s->role) == 0) continue;
    conf_close(to);
    return false;
  }
  return true;
}

/* R9: back to the members of the last snapshot, which are the committed ones when the log holds none. */
static bool take_back_change(struct blx__consensus *c) {
  struct raft *r = &c->raft;
  struct raft_configuration conf;
  raft_configuration_init(&conf);
  if (c->guard.conf_index != r->configuration_index || !guard_conf_copy(&conf, &c->guard.conf)) return false;
  raft_configuration_close(&r->configuration);
  r->configuration = conf;
  r->configuration_uncommitted_index = 0;
  BLX_SOMETIMES(c, CHANGE_TAKEN_BACK);
  return true;
}

/* libraft would go back to a configuration that its log no longer holds (a NULL it does not look at), or would keep one
 * that is being cut off. */
bool guard_loses_configuration(struct blx__consensus *c, const struct raft_append_entries *a) {
  const struct raft *r = &c->raft;
  if (!consensus_rule(c, BLX__RULE_R9_COMPACTED_CONFIGURATION)) return false;
  uint64_t at = cuts_at(r, a);
  if (at == 0) return false;
  uint64_t changed = r->configuration_uncommitted_index;
  bool lost = changed != 0 ? at <= changed && !guard_entry(r, r->configuration_index) : at <= r->configuration_index;
  if (!lost || (changed != 0 && take_back_change(c))) return false;
  char text[FATAL_TEXT_SIZE];
  (void)blx__str_format(text, sizeof text,
                        "the leader takes back a change of members at index %llu, and this member's log no longer "
                        "holds what was before it: remove it, empty its directory and let it join anew",
                        (unsigned long long)at);
  blx__consensus_poison(c, BLX_E_CORRUPT, text);
  return true;
}
