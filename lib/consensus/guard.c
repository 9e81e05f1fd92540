#include "consensus/guard_int.h"
#include "consensus/consensus_int.h"

#include <stdlib.h>

struct append {
  struct blx__list link;
  struct blx__consensus *c;
  struct raft_io_append inner, *outer;
  raft_io_append_cb cb;
  bool withheld; /* the disk has answered, libraft has not been told */
};

struct sent {
  struct blx__list link;
  struct raft_io_send *req;
  raft_io_send_cb cb;
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

/* R3. With the rule off the failure goes on into libraft, as it would without a guard. */
static bool disk_failed(struct blx__consensus *c, const char *what, int rv) {
  if (rv == 0 || c->closing || !consensus_rule(c, BLX__RULE_R3_FAIL_STOP)) return false;
  char text[FATAL_TEXT_SIZE];
  (void)blx__str_format(text, sizeof text,
                        "%s failed (%s%s%s): this member stopped itself, because going on could "
                        "lose what was acknowledged; see to its disk and start it again",
                        what, raft_strerror(rv), c->io->errmsg[0] ? ": " : "", c->io->errmsg);
  blx__consensus_poison(c, rv == RAFT_NOSPACE ? BLX_E_NOSPACE : rv == RAFT_NOMEM ? BLX_E_NOMEM : BLX_E_IO, text);
  return true;
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
  if (result->last_log_index > limit) result->last_log_index = limit;
}

/* ---- functions that libraft calls */

static int guard_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb) {
  struct blx__consensus *c = of(io);
  /* libraft 0.15.0 frees the entries of a message twice when sending their answer fails: that one is lost instead. */
  bool answer = m->type == RAFT_IO_APPEND_ENTRIES_RESULT;
  if (consensus_stopped(c) && !answer) return RAFT_NOCONNECTION;
  struct raft_message copy = *m;
  if (answer) clamp_result(c, &copy.append_entries_result);
  struct sent *s = calloc(1, sizeof *s);
  if (!s) return answer ? 0 : RAFT_NOMEM; /* the answer's request is left behind */
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__CONSENSUS_SNAPSHOT_MAX + (1 << 20));
  bool sent = !consensus_stopped(c) && message_encode(&bytes, &copy) &&
              c->o.send(c->o.user, m->server_id, (struct blx__slice){.data = bytes.data, .len = bytes.len});
  blx__buf_free(&bytes);
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
    if (s->cb) s->cb(s->req, c->closing ? RAFT_CANCELED : 0); /* TimeoutNow is sent without one */
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

static void on_appended(struct raft_io_append *inner, int status) {
  struct append *a = inner->data;
  struct blx__consensus *c = a->c;
  /* Withheld until the close, which libraft then takes for a cancelled write. */
  if (!c->close_begun && (disk_failed(c, "writing the log", status) || c->fatal_code)) {
    a->withheld = true;
    return;
  }
  struct raft_io_append *outer = a->outer;
  raft_io_append_cb cb = a->cb;
  append_free(a);
  consensus_enter(c);
  cb(outer, status);
  consensus_leave(c);
}

static int guard_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n,
                        raft_io_append_cb cb) {
  struct blx__consensus *c = of(io);
  if (c->fatal_code) return RAFT_IOERR;
  struct append *a = calloc(1, sizeof *a);
  if (!a) {
    (void)disk_failed(c, "writing the log", RAFT_NOMEM);
    return RAFT_NOMEM;
  }
  a->c = c;
  a->outer = req;
  a->cb = cb;
  a->inner.data = a;
  req->cb = cb;
  blx__list_init(&a->link);
  blx__list_push(&c->guard.appends, &a->link);
  c->guard.appends_count++;
  int rv = c->guard.real.append(io, &a->inner, entries, n, on_appended);
  if (rv != 0) {
    append_free(a);
    (void)disk_failed(c, "writing the log", rv);
    return rv;
  }
  match_received(c);
  return 0;
}

static int guard_truncate(struct raft_io *io, raft_index index) {
  struct blx__consensus *c = of(io);
  if (c->fatal_code) return RAFT_IOERR;
  int rv = c->guard.real.truncate(io, index);
  (void)disk_failed(c, "cutting the log", rv);
  return rv;
}

static int guard_set_term(struct raft_io *io, raft_term term) {
  struct blx__consensus *c = of(io);
  if (c->fatal_code) return RAFT_IOERR;
  int rv = c->guard.real.set_term(io, term);
  (void)disk_failed(c, "writing the term", rv);
  return rv;
}

static int guard_set_vote(struct raft_io *io, raft_id id) {
  struct blx__consensus *c = of(io);
  if (c->fatal_code) return RAFT_IOERR;
  int rv = c->guard.real.set_vote(io, id);
  (void)disk_failed(c, "writing the vote", rv);
  return rv;
}

static void put_finish(struct blx__consensus *c, int status) {
  struct guard *g = &c->guard;
  struct raft_io_snapshot_put *outer = g->put_outer;
  struct raft_buffer *bufs = status != 0 && g->put_install ? g->put_bufs : NULL;
  /* R1: only now is the leader's snapshot what this member has. */
  if (status == 0 && g->put_install && g->put_term == c->raft.current_term) match_raise(c, g->put_index);
  g->put_outer = NULL;
  g->put_install = false;
  consensus_enter(c);
  g->put_cb(outer, status);
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
  if (c->fatal_code) return RAFT_IOERR;
  BLX__ASSERT(g->put_outer == NULL);
  g->put = (struct raft_io_snapshot_put){.data = c};
  g->put_outer = req;
  g->put_withheld = false;
  g->put_cb = cb;
  g->put_bufs = snapshot->bufs;
  g->put_install = trailing == 0;
  g->put_index = snapshot->index;
  g->put_term = c->raft.current_term;
  req->cb = cb;
  int rv = g->real.snapshot_put(io, trailing, &g->put, snapshot, on_snapshot_put);
  if (rv != 0) {
    g->put_outer = NULL;
    g->put_install = false;
    (void)disk_failed(c, "writing a snapshot", rv);
  }
  return rv;
}

static void on_snapshot_get(struct raft_io_snapshot_get *inner, struct raft_snapshot *snapshot, int status) {
  struct get *get = inner->data;
  struct blx__consensus *c = get->c;
  consensus_enter(c);
  get->cb(get->outer, snapshot, status);
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

static void guard_tick(struct raft_io *io) {
  struct blx__consensus *c = of(io);
  if (consensus_stopped(c)) return;
  consensus_enter(c);
  if (!(follows(c) && must_sit_still(c))) c->guard.tick(io);
  if (!consensus_stopped(c)) confirm_tick(c);
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

/* R2: until its own barrier is on its disk, a leader must not count. */
static bool may_count(const struct blx__consensus *c) {
  if (!consensus_rule(c, BLX__RULE_R2_BARRIER)) return true;
  return c->led_term == c->raft.current_term && c->barrier_accepted && c->raft.last_stored >= c->barrier.index;
}

static bool drops(const struct blx__consensus *c, const struct raft_message *m) {
  switch (m->type) {
  case RAFT_IO_TIMEOUT_NOW: return must_sit_still(c);
  case RAFT_IO_REQUEST_VOTE:
    if (m->request_vote.candidate_id != m->server_id) return true; /* the channel says who speaks */
    return consensus_rule(c, BLX__RULE_R5_INSTALL) && c->guard.put_install;
  default: return false;
  }
}

void guard_receive(struct blx__consensus *c, struct raft_message *m) {
  if (consensus_stopped(c) || !c->guard.recv || drops(c, m)) {
    message_free(m);
    return;
  }
  struct guard *g = &c->guard;
  if (m->type == RAFT_IO_APPEND_ENTRIES) {
    struct raft_append_entries *a = &m->append_entries;
    uint64_t hi = a->prev_log_index + a->n_entries;
    if (consensus_rule(c, BLX__RULE_R16_COMMIT) && a->leader_commit > hi) a->leader_commit = hi;
    g->receiving = true;
    g->receiving_hi = hi;
    g->receiving_term = a->term;
  } else if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT && c->raft.state == RAFT_LEADER && !may_count(c) &&
             m->append_entries_result.rejected == 0) {
    m->append_entries_result.last_log_index = 0;
  }
  consensus_enter(c);
  g->recv(c->io, m);
  g->receiving = false;
  consensus_leave(c);
}

/* ---- the end (R17) */

static void on_closed(struct raft_io *io) {
  struct blx__consensus *c = of(io);
  raft_io_close_cb cb = c->guard.close_cb;
  c->guard.close_cb = NULL;
  if (cb) cb(io);
}

static void guard_close(struct raft_io *io, raft_io_close_cb cb) {
  struct blx__consensus *c = of(io);
  struct guard *g = &c->guard;
  (void)guard_sends_report(c);
  for (struct blx__list *n = g->appends.next, *next; n != &g->appends; n = next) {
    struct append *a = BLX__CONTAINER(n, struct append, link);
    next = n->next;
    if (a->withheld) on_appended(&a->inner, RAFT_CANCELED);
  }
  if (g->put_outer && g->put_withheld) put_finish(c, RAFT_CANCELED);
  g->close_cb = cb;
  g->real.close(io, on_closed);
}

void guard_install(struct blx__consensus *c) {
  struct guard *g = &c->guard;
  struct raft_io *io = c->io;
  g->real = *io;
  blx__list_init(&g->appends);
  blx__list_init(&g->sends);
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
