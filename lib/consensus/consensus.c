#include "consensus/consensus_int.h"

#include "io/loop.h"
#include "io/work.h"

#include <stdlib.h>
#include <string.h>

enum {
  HEARTBEAT_MS = 200,
  ELECTION_MS = 2000,
  SNAPSHOT_ENTRIES = 65536,
  SNAPSHOT_BYTES = 32 << 20,
  LOG_BYTES_MAX = 256 << 20,
  SNAPSHOT_ASK_ENTRIES = 64, /* how often libraft asks for a snapshot; fsm.c says when one is due */
  CATCH_UP_ROUND_MS = 10000,
  FREE_HERE_MAX = 1 << 20, /* bytes; giving back more takes a while */
};

static const char cancelled_text[] = "this member was closed: the outcome of what it had proposed is unknown";

void address_of(uint64_t uid, char out[ADDRESS_SIZE]) {
  bool fits = blx__str_format(out, ADDRESS_SIZE, "n%llu", (unsigned long long)uid);
  BLX__ASSERT(fits);
}

bool consensus_rule(const struct blx__consensus *c, unsigned rule) {
  return !(c->seam.rules_off & rule);
}

bool consensus_stopped(const struct blx__consensus *c) {
  return c->fatal_code != 0 || c->closing;
}

void consensus_wake(struct blx__consensus *c) {
  if (c->woken || c->close_begun) return;
  c->woken = true;
  c->seam.wake(c->seam.user);
}

bool consensus_work(struct blx__consensus *c, void (*fn)(void *arg), void (*done)(void *arg), void *arg) {
  if (c->seam.io) {
    c->seam.work(c->seam.user, fn, done, arg);
    return true;
  }
  blx_error err;
  if (blx__work(c->o.loop, fn, done, arg, &err).code == 0) return true;
  blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "%s", err.message);
  return false;
}

static void free_done(void *arg) {
  (void)arg;
}

void consensus_free_large(struct blx__consensus *c, void *p, size_t size) {
  if (size < FREE_HERE_MAX || c->seam.io || consensus_stopped(c) || !consensus_work(c, free, free_done, p))
    raft_free(p);
}

/* ---- what changed */

static enum blx__consensus_role role_of(const struct blx__consensus *c) {
  if (consensus_stopped(c)) return BLX__ROLE_NONE;
  switch (c->raft.state) {
  case RAFT_FOLLOWER: return BLX__ROLE_FOLLOWER;
  case RAFT_CANDIDATE: return BLX__ROLE_CANDIDATE;
  case RAFT_LEADER: return c->ready ? BLX__ROLE_LEADER : BLX__ROLE_ELECTED;
  default: return BLX__ROLE_NONE;
  }
}

uint64_t blx__consensus_leader(const struct blx__consensus *c) {
  if (consensus_stopped(c)) return 0;
  if (c->raft.state == RAFT_LEADER) return c->o.uid;
  return c->raft.state == RAFT_FOLLOWER ? c->raft.follower_state.current_leader.id : 0;
}

static void on_barrier(struct raft_barrier *req, int status) {
  struct blx__consensus *c = req->data;
  c->barrier_in_flight = false;
  if (status == 0 && c->raft.state == RAFT_LEADER && c->led_term == c->raft.current_term) c->ready = true;
}

/* R2: the first entry of a leader is its own; asked for until libraft takes it. */
static void ask_barrier(struct blx__consensus *c) {
  if (c->barrier_accepted || c->barrier_in_flight) return;
  if (!consensus_rule(c, BLX__RULE_R2_BARRIER)) {
    c->barrier_accepted = c->ready = true;
    return;
  }
  c->barrier = (struct raft_barrier){.data = c};
  c->barrier_in_flight = true;
  consensus_enter(c);
  int rv = raft_barrier(&c->raft, &c->barrier, on_barrier);
  consensus_leave(c);
  c->barrier_accepted = rv == 0;
  if (rv != 0) c->barrier_in_flight = false;
}

/* R18: libraft makes the only voter leader in whatever term is current. Others may hold entries of that term that a
 * crash took from this disk: what is written now must not look like them. */
static void take_own_term(struct blx__consensus *c) {
  struct raft *r = &c->raft;
  if (member_voters(c) != 1 || !consensus_rule(c, BLX__RULE_R18_OWN_TERM)) return;
  uint64_t term = r->current_term + 1;
  if (c->io->set_term(c->io, term) != 0) return; /* poisoned */
  r->current_term = term;
  r->voted_for = 0;
  if (c->io->set_vote(c->io, c->o.uid) == 0) r->voted_for = c->o.uid;
}

static void watch_state(struct blx__consensus *c) {
  if (c->raft.state == RAFT_UNAVAILABLE) {
    char text[FATAL_TEXT_SIZE];
    (void)blx__str_format(text, sizeof text, "libraft gave up (%s): this member stopped itself", raft_errmsg(&c->raft));
    blx__consensus_poison(c, BLX_E_INTERNAL, text);
    return;
  }
  if (c->raft.state == RAFT_LEADER) {
    if (!c->leading) take_own_term(c);
    c->leading = true;
    if (c->fatal_code) return;
    if (c->led_term != c->raft.current_term) {
      c->led_term = c->raft.current_term;
      c->ready = c->barrier_accepted = false;
    }
    ask_barrier(c);
    return;
  }
  c->leading = false;
  if (c->ready) {
    c->ready = false;
    confirm_lost(c);
  }
}

static void tell(struct blx__consensus *c) {
  if (c->fatal_code && !c->fatal_told) {
    c->fatal_told = true;
    blx__log(c->o.log, BLX_LOG_ERROR, "consensus", "%s", c->fatal_text);
    if (c->o.on_fatal) c->o.on_fatal(c->o.user, c->fatal_code, c->fatal_text);
  }
  enum blx__consensus_role role = role_of(c);
  uint64_t leader = blx__consensus_leader(c), term = c->raft.current_term;
  if (role != c->told_role) fsm_apply_settle(c);
  if (role != c->told_role || leader != c->told_leader || term != c->told_term) {
    c->told_role = role;
    c->told_leader = leader;
    c->told_term = term;
    blx__log(c->o.log, BLX_LOG_INFO, "consensus", "%s in term %llu, leader %llu", blx__consensus_role_name(role),
             (unsigned long long)term, (unsigned long long)leader);
    if (c->o.on_role) c->o.on_role(c->o.user, role, leader, term);
  }
  calls_run_done(c);
}

/* libraft is off the stack: look at what it did, feed it, then tell everyone. Each pass that goes round again has
 * reported a send, and feeding makes only finitely many. */
static void settle(struct blx__consensus *c) {
  if (c->settling || c->close_begun) return;
  c->settling = true;
  do {
    (void)guard_sends_report(c);
    if (consensus_stopped(c)) break;
    watch_state(c);
    propose_flush(c);
    fsm_apply_advance(c);
    confirm_advance(c);
    member_advance(c);
    transfer_advance(c);
  } while (!blx__list_empty(&c->guard.sends));
  tell(c);
  c->settling = false;
  if (!c->woken) fsm_chain_settle(c); /* else the next batch is about to go */
}

void consensus_enter(struct blx__consensus *c) {
  c->depth++;
}

void consensus_leave(struct blx__consensus *c) {
  BLX__ASSERT(c->depth > 0);
  if (c->depth == 1) guard_appends_submit(c);
  if (--c->depth == 0 && c->opened) settle(c);
}

void blx__consensus_poison(struct blx__consensus *c, int code, const char *text) {
  BLX__ASSERT(code < 0);
  if (consensus_stopped(c)) return;
  c->fatal_code = code;
  (void)blx__str_copy(c->fatal_text, sizeof c->fatal_text, text);
  c->ready = false;
  calls_finish_all(c, BLX_E_FATAL, c->fatal_text);
  if (c->opened) consensus_wake(c);
}

void blx__consensus_deliver(struct blx__consensus *c, uint64_t from_uid, struct blx__slice message) {
  if (consensus_stopped(c) || from_uid == 0 || from_uid == c->o.uid) return;
  if (from_uid < c->gone_below) return; /* libraft would follow a higher term, whosever it is */
  struct message m;
  const char *why = message_decode(message, &m);
  if (why) {
    blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "dropped %zu bytes of member %llu: %s", message.len,
             (unsigned long long)from_uid, why);
    return;
  }
  char address[ADDRESS_SIZE];
  address_of(from_uid, address);
  m.raft.server_id = from_uid;
  m.raft.server_address = address;
  consensus_enter(c); /* the leave finishes what this made possible */
  switch (m.kind) {
  case MESSAGE_RAFT: guard_receive(c, &m.raft); break;
  case MESSAGE_CONFIRM:
  case MESSAGE_CONFIRM_REPLY:
    confirm_receive(c, from_uid, m.kind == MESSAGE_CONFIRM_REPLY, m.confirm.term, m.confirm.seq);
    break;
  case MESSAGE_CHUNK: transfer_received(c, from_uid, &m.chunk); break;
  case MESSAGE_CHUNK_ACK: transfer_acked(c, from_uid, m.ack.serial, m.ack.term, m.ack.have); break;
  }
  consensus_leave(c);
}

/* ---- open and close */

static blx__rc check_options(const struct blx__consensus_options *o, blx_error *err) {
  bool simulated = o->seam && o->seam->io;
  if (o->uid == 0 || !o->now_ms || !o->send || (!simulated && (!o->loop || !o->dir)))
    return blx__fail(err, BLX_E_INVALID, "consensus", "uid, now_ms, send, loop and directory must be given");
  const struct blx__fsm *f = &o->fsm;
  if (!f->begin || !f->apply || !f->end || !f->freeze || !f->write || !f->thaw || !f->restore)
    return blx__fail(err, BLX_E_INVALID, "consensus", "the state machine's table is not complete");
  if (o->heartbeat_ms && o->election_ms && o->election_ms < 3 * o->heartbeat_ms)
    return blx__fail(err, BLX_E_INVALID, "consensus", "election_ms is %u, and must be at least three heartbeats of %u",
                     o->election_ms, o->heartbeat_ms);
  return BLX__OK;
}

static void set_defaults(struct blx__consensus_options *o) {
  if (!o->heartbeat_ms) o->heartbeat_ms = HEARTBEAT_MS;
  if (!o->election_ms) o->election_ms = ELECTION_MS;
  if (!o->snapshot_entries) o->snapshot_entries = SNAPSHOT_ENTRIES;
  if (!o->snapshot_bytes) o->snapshot_bytes = SNAPSHOT_BYTES;
  if (!o->log_bytes_max) o->log_bytes_max = LOG_BYTES_MAX;
}

static void configure(struct blx__consensus *c) {
  struct raft *r = &c->raft;
  raft_set_heartbeat_timeout(r, c->o.heartbeat_ms);
  raft_set_election_timeout(r, c->o.election_ms);
  raft_set_pre_vote(r, true);
  uint32_t ask = c->o.snapshot_entries < SNAPSHOT_ASK_ENTRIES ? c->o.snapshot_entries : SNAPSHOT_ASK_ENTRIES;
  raft_set_snapshot_threshold(r, ask);
  /* R2 may swallow the answer to an installed snapshot: it is sent again after this. */
  raft_set_install_snapshot_timeout(r, 5 * c->o.election_ms);
  raft_set_max_catch_up_round_duration(r, CATCH_UP_ROUND_MS);
}

static struct blx__consensus *allocate(const struct blx__consensus_options *options) {
  struct blx__consensus *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->o = *options;
  set_defaults(&c->o);
  if (options->seam) c->seam = *options->seam;
  c->o.seam = NULL;
  address_of(c->o.uid, c->address);
  blx__list_init(&c->waiting);
  blx__list_init(&c->batches);
  blx__list_init(&c->done);
  c->chunk_bytes = c->seam.chunk_bytes ? c->seam.chunk_bytes : CHUNK_BYTES_MAX;
  if (!consensus_rule(c, BLX__RULE_R11_PARTS)) c->chunk_bytes = SNAPSHOT_BYTES_MAX;
  confirm_init(c);
  transfer_init(c);
  fsm_init(c);
  return c;
}

static blx__rc fail_start(struct blx__consensus *c, int rv, blx_error *err) {
  if (c->fatal_code) return blx__fail(err, c->fatal_code, "consensus", "%s", c->fatal_text);
  int code = rv == RAFT_NOMEM                             ? BLX_E_NOMEM
             : rv == RAFT_CORRUPT || rv == RAFT_MALFORMED ? BLX_E_CORRUPT
             : rv == RAFT_NOSPACE                         ? BLX_E_NOSPACE
             : rv == RAFT_UNAUTHORIZED                    ? BLX_E_DENIED
                                                          : BLX_E_IO;
  return blx__fail(err, code, "consensus", "what is stored in '%s' cannot be loaded (%s): nothing was changed%s",
                   c->o.dir ? c->o.dir : "the simulated disk", raft_errmsg(&c->raft),
                   code == BLX_E_CORRUPT ? "; restore it from a backup, or empty the data directory and join as a new "
                                           "node"
                                         : "");
}

static void begin_close(struct blx__consensus *c);

blx__rc blx__consensus_open(const struct blx__consensus_options *options, struct blx__consensus **out, blx_error *err) {
  BLX__TRY(check_options(options, err));
  struct blx__consensus *c = allocate(options);
  if (!c) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory to open a member");
  c->io = c->seam.io;
  if (!c->io) {
    blx__rc rc = disk_open(c, err);
    if (rc.code != 0) {
      free(c);
      return rc;
    }
  }
  blx__rc hosted = host_open(c, err);
  if (hosted.code != 0) {
    if (c->disk) disk_abandon(c);
    free(c);
    return hosted;
  }
  c->raft.data = c;
  int rv = raft_init(&c->raft, c->io, &c->fsm, c->o.uid, c->address);
  if (rv != 0) {
    blx__rc rc = fail_start(c, rv, err);
    host_close(c, NULL, NULL);
    if (c->disk) disk_abandon(c);
    free(c);
    return rc;
  }
  c->raft.data = c;
  guard_install(c);
  configure(c);
  consensus_enter(c);
  rv = raft_start(&c->raft);
  c->depth--;
  if (rv != 0 || c->fatal_code) {
    blx__rc rc = fail_start(c, rv, err);
    c->closing = true;
    begin_close(c); /* it frees itself */
    return rc;
  }
  guard_started(c);
  if (c->disk) disk_started(c);
  c->opened = true;
  *out = c;
  consensus_wake(c);
  return BLX__OK;
}

void consensus_finalize(struct blx__consensus *c) {
  BLX__ASSERT(blx__list_empty(&c->batches) && blx__list_empty(&c->done) && blx__list_empty(&c->waiting));
  BLX__ASSERT(c->guard.appends_count == 0 && !c->snapshot_job);
  void (*done)(void *) = c->close_done;
  void *user = c->close_user;
  guard_free(c);
  fsm_free(c);
  free(c);
  if (done) done(user);
}

static void on_raft_closed(struct raft *r) {
  struct blx__consensus *c = r->data;
  c->raft_closed = true;
}

/* R17: never from inside a callback of libraft, which frees what it still uses. */
static void begin_close(struct blx__consensus *c) {
  BLX__ASSERT(c->depth == 0 && !c->close_begun);
  fsm_apply_settle(c);
  c->close_begun = true;
  consensus_enter(c);
  raft_close(&c->raft, on_raft_closed);
  c->depth--;
  calls_finish_all(c, BLX_E_CANCELLED, cancelled_text);
  calls_run_done(c);
  if (c->seam.io) snapshot_job_abandon(c);
  if (c->disk)
    disk_close(c);
  else if (c->raft_closed)
    consensus_finalize(c);
}

void blx__consensus_turn(struct blx__consensus *c) {
  BLX__ASSERT(c->depth == 0 && !c->settling && !c->close_begun);
  c->woken = false;
  c->unapplied.turns++;
  settle(c);
  if (c->closing) begin_close(c);
}

void blx__consensus_close(struct blx__consensus *c, void (*done)(void *user), void *user) {
  BLX__ASSERT(!c->closing);
  c->closing = true;
  c->ready = false;
  c->close_done = done;
  c->close_user = user;
  calls_finish_all(c, c->fatal_code ? BLX_E_FATAL : BLX_E_CANCELLED, c->fatal_code ? c->fatal_text : cancelled_text);
  consensus_wake(c);
}

/* ---- looking */

const struct raft *blx__consensus_raft(const struct blx__consensus *c) {
  return &c->raft;
}

static enum blx__consensus_membership membership_of(int role) {
  return role == RAFT_VOTER ? BLX__MEMBER_VOTER : role == RAFT_STANDBY ? BLX__MEMBER_STANDBY : BLX__MEMBER_SPARE;
}

void blx__consensus_status(const struct blx__consensus *c, struct blx__consensus_status *out) {
  const struct raft *r = &c->raft;
  *out = (struct blx__consensus_status){
      .role = role_of(c),
      .uid = c->o.uid,
      .term = r->current_term,
      .leader_uid = blx__consensus_leader(c),
      .commit_index = r->commit_index,
      .applied_index = fsm_applied(c),
      .last_index = c->close_begun ? 0 : raft_last_index((struct raft *)(uintptr_t)r),
      .snapshot_index = r->log.snapshot.last_index,
      .time_ms = c->time_ms,
      .waiting = c->proposals_count,
      .fatal_code = c->fatal_code,
  };
  fsm_chain(c, out->chain);
  if (c->close_begun) return;
  for (unsigned i = 0; i < r->configuration.n && i < BLX__CONSENSUS_MEMBERS_MAX; i++) {
    const struct raft_server *s = &r->configuration.servers[i];
    uint64_t match = r->state == RAFT_LEADER ? r->leader_state.progress[i].match_index : 0;
    out->members[out->members_count++] =
        (struct blx__consensus_member){.uid = s->id, .membership = membership_of(s->role), .match_index = match};
  }
}

uint64_t blx__consensus_gone_below(const struct blx__consensus *c) {
  return c->gone_below;
}

const char *blx__consensus_role_name(enum blx__consensus_role role) {
  switch (role) {
  case BLX__ROLE_NONE: return "stopped";
  case BLX__ROLE_FOLLOWER: return "follower";
  case BLX__ROLE_CANDIDATE: return "candidate";
  case BLX__ROLE_ELECTED: return "elected";
  case BLX__ROLE_LEADER: return "leader";
  }
  return "unknown";
}
