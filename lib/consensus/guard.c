#include "consensus/guard_int.h"
#include "consensus/consensus_int.h"

#include <stdlib.h>
#include <string.h>

enum { APPENDS_MAX = 64, ENCODED_KEEP = 1 << 20 }; /* bytes: messages with one entry fit */

struct append {
  struct blx__list link;
  struct blx__consensus *c;
  struct raft_io_append inner, *outer;
  uint64_t serial;
  raft_io_append_cb cb;
  const struct raft_entry *entries; /* libraft's until it is told */
  unsigned n;
  bool held;     /* the disk has not been asked yet */
  bool withheld; /* the disk has answered, libraft has not been told */
};

struct get {
  struct blx__consensus *c;
  struct raft_io_snapshot_get inner, *outer;
  raft_io_snapshot_get_cb cb;
};

static struct blx__consensus *of(struct raft_io *io) {
  const struct raft *r = io->data;
  return r->data;
}

/* R3. What failed is reported to libraft as done, or not at all until the close: it does not survive its own way back
 * from a failed write, and poisoned it does nothing more. With the rule off the failure goes on into libraft, as it
 * would without a guard. */
static bool disk_failed(struct blx__consensus *c, const char *what, int rv) {
  if (rv == 0 || c->closing || !consensus_rule(c, BLX__RULE_R3_FAIL_STOP)) return false;
  BLX_SOMETIMES(c, DISK_FAILED);
  char text[FATAL_TEXT_SIZE];
  (void)blx__str_format(text, sizeof text,
                        "%s failed (%s%s%s): this member stopped itself, because going on could "
                        "lose what was acknowledged; see to its disk and start it again",
                        what, raft_strerror(rv), c->io->errmsg[0] ? ": " : "", c->io->errmsg);
  blx__consensus_poison(c, rv == RAFT_NOSPACE ? BLX_E_NOSPACE : rv == RAFT_NOMEM ? BLX_E_NOMEM : BLX_E_IO, text);
  return true;
}

/* ---- libraft's log in memory: a ring */

static size_t ring_count(const struct raft_log *l) {
  return l->front <= l->back ? l->back - l->front : l->size - l->front + l->back;
}

const struct raft_entry *guard_entry(const struct raft *r, uint64_t index) {
  const struct raft_log *l = &r->log;
  if (index <= l->offset || index - l->offset > ring_count(l)) return NULL;
  return &l->entries[(l->front + (size_t)(index - l->offset - 1)) % l->size];
}

uint64_t guard_log_bytes(struct blx__consensus *c) {
  struct guard *g = &c->guard;
  if (g->log_counted) return g->log_bytes;
  const struct raft_log *l = &c->raft.log;
  g->log_bytes = 0;
  for (size_t n = ring_count(l), i = 0; i < n; i++)
    g->log_bytes += sizeof(struct raft_entry) + l->entries[(l->front + i) % l->size].buf.len;
  g->log_counted = true;
  return g->log_bytes;
}

/* ---- R1: what a follower may acknowledge */

static void match_raise(struct blx__consensus *c, uint64_t index) {
  struct guard *g = &c->guard;
  if (g->match_term != c->raft.current_term) {
    g->match_term = c->raft.current_term;
    g->match_index = 0;
  }
  if (index > g->match_index) g->match_index = index;
}

/* The AppendEntries being handled was accepted. One of an older leader never is, though libraft answers it with
 * rejected == 0 when it begins at the start of the log. */
static void match_received(struct blx__consensus *c) {
  const struct guard *g = &c->guard;
  if (g->receiving && g->receiving_term == c->raft.current_term) match_raise(c, g->receiving_hi);
}

static void clamp_result(struct blx__consensus *c, struct raft_append_entries_result *result) {
  if (result->rejected != 0 || !consensus_rule(c, BLX__RULE_R1_CLAMP)) return;
  match_received(c); /* a success while it is handled: it matched */
  uint64_t limit = c->guard.match_term == result->term ? c->guard.match_index : 0;
  if (limit < c->raft.commit_index) limit = c->raft.commit_index; /* every leader's log holds what is committed */
  if (result->last_log_index <= limit) return;
  result->last_log_index = limit;
  BLX_SOMETIMES(c, CLAMPED);
}

/* R21: libraft answers a pre-vote with the term that was asked for. A candidate with an older term and a longer log
 * than all others would never learn why it is refused, and they cannot be elected without it. */
static void tell_term(struct blx__consensus *c, struct raft_request_vote_result *result) {
  if (result->vote_granted || result->term >= c->raft.current_term) return;
  if (!consensus_rule(c, BLX__RULE_R21_TERM)) return;
  result->term = c->raft.current_term;
  BLX_SOMETIMES(c, TERM_TOLD);
}

/* ---- functions that libraft calls */

static int guard_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb) {
  struct blx__consensus *c = of(io);
  if (m->type == RAFT_IO_INSTALL_SNAPSHOT) return transfer_send(c, req, m, cb);
  /* libraft 0.15.0 frees the entries of a message twice when sending their answer fails: that one is lost instead. */
  bool answer = m->type == RAFT_IO_APPEND_ENTRIES_RESULT;
  if (consensus_stopped(c) && !answer) return RAFT_NOCONNECTION;
  struct raft_message copy = *m;
  if (answer) clamp_result(c, &copy.append_entries_result);
  if (m->type == RAFT_IO_REQUEST_VOTE_RESULT) tell_term(c, &copy.request_vote_result);
  struct sent *s = calloc(1, sizeof *s);
  if (!s) return answer ? 0 : RAFT_NOMEM; /* the answer's request is left behind */
  struct blx__buf *bytes = &c->guard.encoded;
  blx__buf_clear(bytes);
  /* With R19 a leader may be unknown whose write is answered now: member 0. */
  bool sent = !consensus_stopped(c) && m->server_id != 0 && message_encode(bytes, &copy) &&
              c->o.send(c->o.user, m->server_id, (struct blx__slice){.data = bytes->data, .len = bytes->len});
  if (bytes->cap > ENCODED_KEEP) blx__buf_free(bytes);
  if (!sent && !answer) {
    free(s);
    return RAFT_NOCONNECTION;
  }
  /* libraft frees the request in its callback but still reads it after this call. */
  s->req = req;
  s->cb = cb;
  req->cb = cb;
  blx__list_push(&c->guard.sends, &s->link);
  return 0;
}

bool guard_sends_report(struct blx__consensus *c) {
  bool any = false;
  for (struct blx__list *n; (n = blx__list_first(&c->guard.sends)) != NULL;) {
    struct sent *s = BLX__CONTAINER(n, struct sent, link);
    blx__list_remove(n);
    if (s->cb) s->cb(s->req, c->closing ? RAFT_CANCELED : s->status); /* TimeoutNow is sent without one */
    free(s);
    any = true;
  }
  return any;
}

static void append_free(struct append *a) {
  blx__list_remove(&a->link);
  a->c->guard.appends_count--;
  free(a);
}

static void append_tell(struct append *a, int status) {
  struct blx__consensus *c = a->c;
  struct raft_io_append *outer = a->outer;
  raft_io_append_cb cb = a->cb;
  append_free(a);
  consensus_enter(c);
  cb(outer, status);
  withhold_release(c);
  consensus_leave(c);
}

/* R17: for a write that failed libraft cuts its log there, with what is behind and still being written, and then looks
 * in vain for that. So the newest goes first, once all have been answered. */
static void appends_cancel(struct blx__consensus *c) {
  struct blx__list *appends = &c->guard.appends;
  BLX__LIST_FOREACH (it, appends) {
    if (!BLX__CONTAINER(it, const struct append, link)->withheld) return;
  }
  while (!blx__list_empty(appends)) append_tell(BLX__CONTAINER(appends->prev, struct append, link), RAFT_CANCELED);
}

static void on_appended(struct raft_io_append *inner, int status) {
  struct append *a = inner->data;
  struct blx__consensus *c = a->c;
  /* Withheld until the close, which libraft then takes for a cancelled write. */
  bool failed = !c->close_begun && (disk_failed(c, "writing the log", status) || c->fatal_code);
  if (!failed && (status == 0 || !c->close_begun)) {
    append_tell(a, status);
    return;
  }
  a->withheld = true;
  if (c->close_begun) appends_cancel(c);
}

uint64_t guard_oldest_append(const struct blx__consensus *c) {
  const struct blx__list *first = blx__list_first(&c->guard.appends);
  return first ? BLX__CONTAINER(first, const struct append, link)->serial : 0;
}

/* 0, or an error of which the caller has to tell libraft. */
static int append_submit(struct append *a) {
  struct blx__consensus *c = a->c;
  int rv = c->fatal_code ? RAFT_IOERR : c->guard.real.append(c->io, &a->inner, a->entries, a->n, on_appended);
  a->held = false;
  fsm_chain_settle(c); /* now: the disk works, and nobody waits for this thread */
  if (rv == 0 || !(c->fatal_code || disk_failed(c, "writing the log", rv))) return rv;
  a->withheld = true;
  return 0;
}

void guard_appends_submit(struct blx__consensus *c) {
  while (c->guard.appends_held > 0) {
    struct append *a = NULL;
    BLX__LIST_FOREACH (it, &c->guard.appends) {
      a = BLX__CONTAINER(it, struct append, link);
      if (a->held) break;
    }
    BLX__ASSERT(a && a->held);
    c->guard.appends_held--;
    int rv = append_submit(a);
    if (rv != 0) append_tell(a, rv);
  }
}

static int guard_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n,
                        raft_io_append_cb cb) {
  struct blx__consensus *c = of(io);
  struct append *a = calloc(1, sizeof *a);
  if (!a) {
    (void)disk_failed(c, "writing the log", RAFT_NOMEM);
    return RAFT_NOMEM;
  }
  *a = (struct append){.c = c, .outer = req, .cb = cb, .inner = {.data = a}, .entries = entries, .n = n};
  req->cb = cb;
  blx__list_init(&a->link);
  blx__list_push(&c->guard.appends, &a->link);
  c->guard.appends_count++;
  a->serial = ++c->guard.appends_serial;
  for (unsigned i = 0; i < n; i++) {
    c->guard.log_bytes += sizeof entries[i] + entries[i].buf.len;
    c->space_taken += entries[i].buf.len;
  }
  /* A leader first sends, then encodes for its own disk, which is one of several. */
  if (c->raft.state == RAFT_LEADER && c->opened) {
    a->held = true;
    c->guard.appends_held++;
    return 0;
  }
  int rv = append_submit(a);
  if (rv != 0) {
    append_free(a);
    return rv;
  }
  match_received(c);
  return 0;
}

static int guard_truncate(struct raft_io *io, raft_index index) {
  struct blx__consensus *c = of(io);
  guard_appends_submit(c);
  if (c->fatal_code) return 0;
  c->guard.log_counted = false;
  int rv = c->guard.real.truncate(io, index);
  return disk_failed(c, "cutting the log", rv) ? 0 : rv;
}

static int guard_set_term(struct raft_io *io, raft_term term) {
  struct blx__consensus *c = of(io);
  guard_appends_submit(c);
  if (c->fatal_code) return 0;
  int rv = c->guard.real.set_term(io, term);
  return disk_failed(c, "writing the term", rv) ? 0 : rv;
}

static int guard_set_vote(struct raft_io *io, raft_id id) {
  struct blx__consensus *c = of(io);
  guard_appends_submit(c);
  if (c->fatal_code) return 0;
  int rv = c->guard.real.set_vote(io, id);
  return disk_failed(c, "writing the vote", rv) ? 0 : rv;
}

static void put_finish(struct blx__consensus *c, int status) {
  struct guard *g = &c->guard;
  struct raft_io_snapshot_put *outer = g->put_outer;
  struct raft_buffer *bufs = status != 0 && g->put_install ? g->put_bufs : NULL;
  /* R1: only now is the leader's snapshot what this member has. */
  if (status == 0 && g->put_install && g->put_term == c->raft.current_term) match_raise(c, g->put_index);
  if (status == 0 && g->put_install) BLX_SOMETIMES(c, SNAPSHOT_INSTALLED);
  if (status == 0 && g->put_conf.n > 0) {
    raft_configuration_close(&g->conf);
    g->conf = g->put_conf;
    g->conf_index = g->put_conf_index;
    raft_configuration_init(&g->put_conf);
  }
  g->put_outer = NULL;
  g->put_install = false;
  consensus_enter(c);
  g->put_cb(outer, status);
  g->log_counted = false;
  snapshot_job_end(c);
  raft_free(bufs); /* libraft frees what is in it, and forgets the array, when an install does not succeed */
  consensus_leave(c);
}

static void on_snapshot_put(struct raft_io_snapshot_put *inner, int status) {
  struct blx__consensus *c = inner->data;
  if (!c->close_begun && (disk_failed(c, "writing a snapshot", status) || c->fatal_code)) {
    c->guard.put_withheld = true;
    return;
  }
  put_finish(c, status);
}

static int guard_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                              const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
  struct blx__consensus *c = of(io);
  struct guard *g = &c->guard;
  guard_appends_submit(c);
  BLX__ASSERT(g->put_outer == NULL);
  g->put = (struct raft_io_snapshot_put){.data = c};
  g->put_outer = req;
  g->put_withheld = false;
  g->put_cb = cb;
  g->put_bufs = snapshot->bufs;
  g->put_install = trailing == 0;
  g->put_index = snapshot->index;
  g->put_term = c->raft.current_term;
  (void)guard_conf_copy(&g->put_conf, &snapshot->configuration); /* without it a change cannot be taken back: R9 */
  g->put_conf_index = snapshot->configuration_index;
  req->cb = cb;
  int rv = RAFT_IOERR;
  if (!c->fatal_code)
    rv = g->put_install ? g->real.snapshot_put(io, trailing, &g->put, snapshot, on_snapshot_put)
                        : snapshot_write(c, trailing, snapshot);
  g->put_waiting = rv == 0 && !g->put_install;
  if (rv != 0 && (c->fatal_code || (g->put_install && disk_failed(c, "writing a snapshot", rv)))) {
    g->put_withheld = true;
    return 0;
  }
  if (rv != 0) {
    g->put_outer = NULL;
    g->put_install = false;
  }
  return rv;
}

void guard_snapshot_written(struct blx__consensus *c, int status, unsigned trailing, const struct raft_snapshot *s) {
  struct guard *g = &c->guard;
  BLX__ASSERT(g->put_waiting && g->put_outer);
  g->put_waiting = false;
  if (status == 0 && !c->fatal_code) {
    status = g->real.snapshot_put(c->io, trailing, &g->put, s, on_snapshot_put);
    if (status == 0) return;
    (void)disk_failed(c, "writing a snapshot", status);
  }
  if (c->fatal_code)
    g->put_withheld = true;
  else
    put_finish(c, status);
}

static void on_snapshot_get(struct raft_io_snapshot_get *inner, struct raft_snapshot *snapshot, int status) {
  struct get *get = inner->data;
  struct blx__consensus *c = get->c;
  consensus_enter(c);
  if (status == 0 && (status = transfer_fetched(c, snapshot)) != 0) {
    raft_configuration_close(&snapshot->configuration);
    raft_free(snapshot->bufs[0].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
    snapshot = NULL;
  }
  get->cb(get->outer, snapshot, status);
  transfer_fetched_end(c);
  free(get);
  consensus_leave(c);
}

static int guard_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb) {
  struct blx__consensus *c = of(io);
  struct get *get = calloc(1, sizeof *get);
  if (!get) return RAFT_NOMEM;
  *get = (struct get){.c = c, .inner = {.data = get}, .outer = req, .cb = cb};
  req->cb = cb;
  int rv = c->guard.real.snapshot_get(io, &get->inner, on_snapshot_get);
  if (rv != 0) free(get);
  return rv;
}

/* ---- functions that call libraft */

static bool follows(const struct blx__consensus *c) {
  return c->raft.state == RAFT_FOLLOWER;
}

static bool must_sit_still(const struct blx__consensus *c) {
  if (consensus_rule(c, BLX__RULE_R4_STORED_ONLY) && c->guard.appends_count > 0) return true;
  return consensus_rule(c, BLX__RULE_R5_INSTALL) && c->guard.put_install;
}

/* Leadership may come before the last entries are on disk: it waits for them, as long as the leader waits for it. */
static void take_over(struct blx__consensus *c) {
  struct guard *g = &c->guard;
  if (g->handed.type == 0 || must_sit_still(c)) return;
  struct raft_message m = g->handed;
  g->handed.type = 0;
  if (c->io->time(c->io) - g->handed_ms >= c->raft.election_timeout) return;
  BLX_SOMETIMES(c, TOOK_OVER_LATE);
  g->recv(c->io, &m);
}

static void guard_tick(struct raft_io *io) {
  struct blx__consensus *c = of(io);
  if (consensus_stopped(c)) return;
  consensus_enter(c);
  if (!(follows(c) && must_sit_still(c)))
    c->guard.tick(io);
  else
    BLX_SOMETIMES(c, SAT_STILL);
  if (!consensus_stopped(c)) take_over(c);
  if (!consensus_stopped(c)) confirm_tick(c);
  if (!consensus_stopped(c)) transfer_tick(c);
  propose_nudge(c);
  host_tick(c);
  consensus_leave(c);
}

/* Nobody but guard_receive may feed libraft: what a transport below delivers is a bug there. */
static void guard_recv_nothing(struct raft_io *io, struct raft_message *m) {
  (void)io;
  message_free(m);
}

static int guard_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct blx__consensus *c = of(io);
  c->guard.tick = tick;
  c->guard.recv = recv;
  return c->guard.real.start(io, msecs, guard_tick, guard_recv_nothing);
}

/* R7: what the snapshot says of its configuration, libraft does not keep. */
static int guard_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                      raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct blx__consensus *c = of(io);
  int rv = c->guard.real.load(io, term, voted_for, snapshot, start_index, entries, n_entries);
  if (rv != 0) return rv;
  if (!*snapshot) return 0;
  c->guard.loaded_conf_index = c->guard.conf_index = (*snapshot)->configuration_index;
  if (!guard_conf_copy(&c->guard.conf, &(*snapshot)->configuration)) c->guard.conf_index = 0;
  return 0;
}

static bool drops(struct blx__consensus *c, const struct raft_message *m) {
  switch (m->type) {
  /* A disk that is slower than the leader's: it sends them again, and more of them at a time. */
  case RAFT_IO_APPEND_ENTRIES:
    if (m->append_entries.n_entries > 0 && c->guard.appends_count >= APPENDS_MAX) return true;
    return guard_loses_configuration(c, &m->append_entries);
  case RAFT_IO_REQUEST_VOTE:
    if (m->request_vote.candidate_id != m->server_id) return true; /* the channel says who speaks */
    return consensus_rule(c, BLX__RULE_R5_INSTALL) && c->guard.put_install;
  default: return false;
  }
}

/* R22: libraft takes a leader for gone only when its own randomised time is over, and gives no vote before: a candidate
 * would wait for the slowest of the others. An election timeout of silence is enough (Ongaro 2014, 4.2.3). */
static void forget_silent_leader(struct blx__consensus *c) {
  bool silent = c->io->time(c->io) - c->raft.election_timer_start >= c->raft.election_timeout;
  if (!silent || !follows(c) || !consensus_rule(c, BLX__RULE_R22_SILENT_LEADER)) return;
  c->raft.follower_state.current_leader.id = 0;
}

/* R19: libraft gives no vote unless it knows itself as a voter. One that was made a voter and has not heard of it may
 * be the very one that is needed: the candidate says whose votes count. */
static void receive_vote_request(struct blx__consensus *c, struct raft_message *m) {
  struct raft_server *self = NULL;
  for (unsigned i = 0; i < c->raft.configuration.n; i++)
    if (c->raft.configuration.servers[i].id == c->o.uid) self = &c->raft.configuration.servers[i];
  int role = self ? self->role : RAFT_VOTER;
  if (role != RAFT_VOTER && consensus_rule(c, BLX__RULE_R19_VOTE)) self->role = RAFT_VOTER;
  forget_silent_leader(c);
  c->guard.recv(c->io, m);
  if (self) self->role = role; /* a request for a vote changes no configuration */
}

/* R20: libraft takes an entry that it has compacted for one that it does not have, and appends it behind its log. What
 * it compacted was committed, so the leader's log holds the same: the message begins behind that instead. */
static void skip_compacted(struct blx__consensus *c, struct raft_append_entries *a) {
  const struct raft_log *log = &c->raft.log;
  uint64_t known = log->snapshot.last_index;
  if (a->prev_log_index >= log->offset || !consensus_rule(c, BLX__RULE_R20_COMPACTED_ENTRIES)) return;
  if (c->guard.put_install) return; /* libraft ignores entries meanwhile, and nothing up to `known` is here yet */
  uint64_t skip = known - a->prev_log_index;
  unsigned n = skip < a->n_entries ? (unsigned)skip : a->n_entries;
  if (n == a->n_entries && n > 0) {
    raft_free(a->entries[0].batch);
    raft_free(a->entries);
    a->entries = NULL;
  } else if (n > 0) {
    memmove(a->entries, a->entries + n, (a->n_entries - n) * sizeof *a->entries);
  }
  a->n_entries -= n;
  a->prev_log_index = known;
  a->prev_log_term = log->snapshot.last_term;
  BLX_SOMETIMES(c, COMPACTED_SKIPPED);
}

/* R1: a leader's snapshot that libraft answers with success, for it has all of it already, is compared thereby. Else
 * the answer would be cut to nothing new, and the leader would send it again for ever. */
static void match_known_snapshot(struct blx__consensus *c, const struct raft_install_snapshot *s) {
  const struct raft_entry *mine = guard_entry(&c->raft, s->last_index);
  bool known = c->raft.log.snapshot.last_index >= s->last_index || (mine && mine->term == s->last_term);
  if (known && s->term == c->raft.current_term && !c->guard.put_install) match_raise(c, s->last_index);
}

void guard_receive(struct blx__consensus *c, struct raft_message *m) {
  if (consensus_stopped(c) || !c->guard.recv || drops(c, m)) {
    message_free(m);
    return;
  }
  struct guard *g = &c->guard;
  if (m->type == RAFT_IO_TIMEOUT_NOW && must_sit_still(c)) {
    g->handed = *m;
    g->handed.server_address = ""; /* not looked at, and the caller's */
    g->handed_ms = c->io->time(c->io);
    return;
  }
  if (m->type == RAFT_IO_APPEND_ENTRIES) {
    struct raft_append_entries *a = &m->append_entries;
    skip_compacted(c, a);
    uint64_t hi = a->prev_log_index + a->n_entries;
    if (consensus_rule(c, BLX__RULE_R16_COMMIT) && a->leader_commit > hi) a->leader_commit = hi;
    g->receiving = true;
    g->receiving_hi = hi;
    g->receiving_term = a->term;
  } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
    match_known_snapshot(c, &m->install_snapshot);
  } else if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
    withhold_result(c, m);
  }
  consensus_enter(c);
  if (m->type == RAFT_IO_REQUEST_VOTE)
    receive_vote_request(c, m);
  else
    g->recv(c->io, m);
  g->receiving = false;
  consensus_leave(c);
}

/* ---- the end (R17) */

static void on_closed(struct raft_io *io) {
  struct blx__consensus *c = of(io);
  raft_io_close_cb cb = c->guard.close_cb;
  if (consensus_rule(c, BLX__RULE_R17_CLOSED_ONCE)) c->guard.close_cb = NULL;
  if (cb) cb(io);
}

static void guard_close(struct raft_io *io, raft_io_close_cb cb) {
  struct blx__consensus *c = of(io);
  struct guard *g = &c->guard;
  guard_appends_submit(c);
  transfer_end(c);
  (void)guard_sends_report(c);
  appends_cancel(c);
  if (g->put_outer && (g->put_withheld || g->put_waiting)) put_finish(c, RAFT_CANCELED);
  g->close_cb = cb;
  g->real.close(io, on_closed);
}

void guard_free(struct blx__consensus *c) {
  raft_configuration_close(&c->guard.conf);
  raft_configuration_close(&c->guard.put_conf);
  blx__buf_free(&c->guard.encoded);
}

void guard_install(struct blx__consensus *c) {
  struct guard *g = &c->guard;
  struct raft_io *io = c->io;
  g->real = *io;
  blx__buf_init(&g->encoded, BLX__CONSENSUS_MESSAGE_MAX);
  blx__list_init(&g->appends);
  blx__list_init(&g->sends);
  raft_configuration_init(&g->conf);
  raft_configuration_init(&g->put_conf);
  io->load = guard_load;
  io->start = guard_start;
  io->send = guard_send;
  io->append = guard_append;
  io->truncate = guard_truncate;
  io->set_term = guard_set_term;
  io->set_vote = guard_set_vote;
  io->snapshot_put = guard_snapshot_put;
  io->snapshot_get = guard_snapshot_get;
  io->close = guard_close;
}
