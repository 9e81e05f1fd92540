/* Snapshots between members (R11). libraft hands over a snapshot as one message; here it goes in parts, a few under way
 * at a time, so that heartbeats and entries pass between them and no queue grows by more than the window. What is lost
 * is sent again from where the receiver stands (go-back-N). libraft hears of the whole only: the sender's libraft when
 * every part was acknowledged, the receiver's when the whole is there and its checksum holds. */
#include "consensus/consensus_int.h"

#include <stdlib.h>
#include <string.h>

enum {
  WINDOW = 4,             /* parts under way */
  SILENT_ELECTIONS = 2,   /* a receiver that says nothing for so many election timeouts is given up, */
  INCOMING_ELECTIONS = 5, /* and so is a sender */
};

/* A snapshot read from the disk, shared by the transfers of it. */
struct loaded {
  unsigned refs;
  uint64_t index, term;
  struct raft_buffer data; /* of raft_malloc */
};

struct outgoing {
  struct blx__list link;
  uint64_t to;
  struct message_chunk head; /* without offset, conf and bytes */
  struct blx__buf conf;
  struct loaded *loaded;
  struct sent *sent_req; /* libraft's request, to be reported at the end */
  uint64_t acked, sent;  /* bytes */
  uint64_t heard_ms, acked_at_tick;
  bool asked_again; /* since `acked` rose: the receiver has a gap there */
};

void transfer_init(struct blx__consensus *c) {
  blx__list_init(&c->transfer.out);
}

static void loaded_unref(struct blx__consensus *c, struct loaded *l) {
  if (--l->refs > 0) return;
  consensus_free_large(c, l->data.base, l->data.len);
  free(l);
}

/* ---- the sender */

/* The same snapshot that is being sent to another member already is kept once. */
static struct loaded *find_loaded(struct blx__consensus *c, const struct raft_snapshot *s) {
  BLX__LIST_FOREACH (it, &c->transfer.out) {
    struct loaded *l = BLX__CONTAINER(it, struct outgoing, link)->loaded;
    if (l->index == s->index && l->term == s->term) return l;
  }
  return NULL;
}

int transfer_fetched(struct blx__consensus *c, struct raft_snapshot *s) {
  BLX__ASSERT(c->transfer.fetched == NULL && s->n_bufs == 1);
  void *stand_in = raft_calloc(1, sizeof(uint64_t));
  struct loaded *l = find_loaded(c, s), *fresh = l ? NULL : calloc(1, sizeof *fresh);
  if (!stand_in || (!l && !fresh)) {
    raft_free(stand_in);
    return RAFT_NOMEM;
  }
  if (l) {
    consensus_free_large(c, s->bufs[0].base, s->bufs[0].len);
  } else {
    l = fresh;
    *l = (struct loaded){.index = s->index, .term = s->term, .data = s->bufs[0]};
  }
  l->refs++;
  s->bufs[0] = (struct raft_buffer){.base = stand_in, .len = sizeof(uint64_t)};
  c->transfer.fetched = l;
  return 0;
}

void transfer_fetched_end(struct blx__consensus *c) {
  if (c->transfer.fetched) loaded_unref(c, c->transfer.fetched);
  c->transfer.fetched = NULL;
}

static struct outgoing *find_outgoing(const struct blx__consensus *c, uint64_t to) {
  BLX__LIST_FOREACH (it, &c->transfer.out) {
    struct outgoing *o = BLX__CONTAINER(it, struct outgoing, link);
    if (o->to == to) return o;
  }
  return NULL;
}

int transfer_send(struct blx__consensus *c, struct raft_io_send *req, const struct raft_message *m,
                  raft_io_send_cb cb) {
  const struct raft_install_snapshot *s = &m->install_snapshot;
  if (consensus_stopped(c) || !c->transfer.fetched || find_outgoing(c, m->server_id)) return RAFT_NOCONNECTION;
  struct outgoing *o = calloc(1, sizeof *o);
  struct sent *sent_req = calloc(1, sizeof *sent_req);
  if (o) blx__buf_init(&o->conf, 4 << 10);
  if (!o || !sent_req || !message_encode_conf(&o->conf, &s->conf)) {
    if (o) blx__buf_free(&o->conf);
    free(o);
    free(sent_req);
    return RAFT_NOMEM;
  }
  o->to = m->server_id;
  o->loaded = c->transfer.fetched;
  o->loaded->refs++;
  o->head = (struct message_chunk){.serial = ++c->transfer.serial,
                                   .term = s->term,
                                   .index = s->last_index,
                                   .last_term = s->last_term,
                                   .conf_index = s->conf_index,
                                   .total = o->loaded->data.len};
  o->heard_ms = c->io->time(c->io);
  sent_req->req = req;
  sent_req->cb = cb;
  req->cb = cb;
  o->sent_req = sent_req;
  blx__list_push(&c->transfer.out, &o->link);
  BLX_SOMETIMES(c, SNAPSHOT_SENT);
  return 0; /* transfer_advance begins, when libraft is off the stack */
}

static void outgoing_end(struct blx__consensus *c, struct outgoing *o, int status) {
  blx__list_remove(&o->link);
  o->sent_req->status = status;
  blx__list_push(&c->guard.sends, &o->sent_req->link);
  loaded_unref(c, o->loaded);
  blx__buf_free(&o->conf);
  free(o);
}

static bool send_part(struct blx__consensus *c, struct outgoing *o) {
  struct message_chunk chunk = o->head;
  uint64_t left = chunk.total - o->sent;
  chunk.offset = o->sent;
  chunk.conf = (struct blx__slice){.data = o->conf.data, .len = o->conf.len};
  chunk.bytes.len = left < c->chunk_bytes ? (size_t)left : c->chunk_bytes;
  chunk.bytes.data = (const uint8_t *)o->loaded->data.base + o->sent;
  struct blx__buf bytes;
  blx__buf_init(&bytes, (size_t)c->chunk_bytes + (4 << 10));
  bool ok = message_encode_chunk(&bytes, &chunk) &&
            c->o.send(c->o.user, o->to, (struct blx__slice){.data = bytes.data, .len = bytes.len});
  blx__buf_free(&bytes);
  if (ok) o->sent += chunk.bytes.len;
  return ok;
}

static void outgoing_advance(struct blx__consensus *c, struct outgoing *o) {
  uint64_t now = c->io->time(c->io);
  bool leads = c->raft.state == RAFT_LEADER && c->raft.current_term == o->head.term && member_is_known(c, o->to);
  if (o->acked == o->head.total)
    outgoing_end(c, o, 0);
  else if (!leads || now - o->heard_ms > (uint64_t)SILENT_ELECTIONS * c->o.election_ms)
    outgoing_end(c, o, RAFT_NOCONNECTION);
  else
    while (o->sent < o->head.total && o->sent - o->acked < (uint64_t)WINDOW * c->chunk_bytes)
      if (!send_part(c, o)) break;
}

/* libraft must not take a long transfer for a failed one. */
static void keep_waiting(struct blx__consensus *c, uint64_t to) {
  for (unsigned i = 0; i < c->raft.configuration.n; i++)
    if (c->raft.state == RAFT_LEADER && c->raft.configuration.servers[i].id == to)
      c->raft.leader_state.progress[i].snapshot_last_send = c->io->time(c->io);
}

void transfer_acked(struct blx__consensus *c, uint64_t from, uint64_t serial, uint64_t term, uint64_t have) {
  struct outgoing *o = find_outgoing(c, from);
  if (!o || o->head.serial != serial || o->head.term != term) return;
  if (have > o->head.total && have != CHUNK_ANEW) return;
  o->heard_ms = c->io->time(c->io);
  if (have == CHUNK_ANEW) have = o->acked = 0;
  if (have < o->acked) return; /* late */
  bool gap = have == o->acked && !o->asked_again;
  o->asked_again = have == o->acked;
  o->acked = have;
  if (gap || o->sent < have) o->sent = have;
  keep_waiting(c, from);
}

/* ---- the receiver */

static void incoming_drop(struct blx__consensus *c) {
  struct incoming *in = &c->transfer.in;
  raft_free(in->bytes);
  blx__sha256_free(in->digest);
  *in = (struct incoming){.fed_ms = in->fed_ms};
}

static bool incoming_begin(struct blx__consensus *c, uint64_t from, const struct message_chunk *chunk) {
  struct incoming *in = &c->transfer.in;
  incoming_drop(c);
  in->bytes = raft_malloc(chunk->total);
  in->digest = blx__sha256_new();
  if (!in->bytes || !in->digest || chunk->conf.len > sizeof in->conf) {
    blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "no memory for a snapshot of %llu bytes",
             (unsigned long long)chunk->total);
    incoming_drop(c);
    return false;
  }
  in->from = from;
  in->head = *chunk;
  memcpy(in->conf, chunk->conf.data, chunk->conf.len);
  in->head.conf = (struct blx__slice){.data = in->conf, .len = chunk->conf.len};
  in->head.bytes = (struct blx__slice){0};
  return true;
}

static bool belongs(const struct incoming *in, uint64_t from, const struct message_chunk *chunk) {
  const struct message_chunk *h = &in->head;
  return in->from == from && h->serial == chunk->serial && h->term == chunk->term && h->total == chunk->total &&
         h->index == chunk->index;
}

static void answer(struct blx__consensus *c, uint64_t to, const struct message_chunk *chunk, uint64_t have) {
  uint8_t bytes[26];
  message_encode_chunk_ack(bytes, chunk->serial, chunk->term, have);
  (void)c->o.send(c->o.user, to, (struct blx__slice){.data = bytes, .len = sizeof bytes});
}

/* While parts arrive nothing else may come from the leader: they count as its heartbeats. libraft is given one that
 * claims nothing, and does with term, role and timer what it does with any. */
static void feed_heartbeat(struct blx__consensus *c, uint64_t from, uint64_t term) {
  struct incoming *in = &c->transfer.in;
  uint64_t now = c->io->time(c->io);
  if (term == c->raft.current_term && now - in->fed_ms < c->o.heartbeat_ms) return;
  in->fed_ms = now;
  char address[ADDRESS_SIZE];
  address_of(from, address);
  struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = from, .server_address = address};
  m.append_entries.term = term;
  guard_receive(c, &m);
}

/* Nothing but what its digest says; a leader whose copy is damaged hears nothing and gives up. */
static bool is_whole(struct blx__consensus *c) {
  struct incoming *in = &c->transfer.in;
  if (in->have != in->head.total) return false;
  uint8_t digest[BLX__SHA256_BYTES];
  blx__sha256_end(in->digest, digest);
  in->digest = NULL;
  const char *why =
      snapshot_check_head((struct blx__slice){in->bytes, in->have}, digest, in->head.index, in->head.last_term);
  if (!why) return true;
  blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "a snapshot of member %llu is dropped: %s",
           (unsigned long long)in->from, why);
  raft_free(in->bytes);
  in->bytes = NULL;
  in->refused = true;
  return false;
}

void transfer_received(struct blx__consensus *c, uint64_t from, const struct message_chunk *chunk) {
  struct incoming *in = &c->transfer.in;
  if (chunk->term < c->raft.current_term) return;
  feed_heartbeat(c, from, chunk->term);
  if (consensus_stopped(c) || chunk->term != c->raft.current_term) return;
  if (!belongs(in, from, chunk)) {
    if (chunk->offset != 0) {
      answer(c, from, chunk, CHUNK_ANEW);
      return;
    }
    if (!incoming_begin(c, from, chunk)) return;
  }
  if (in->refused) return; /* silence makes its leader give up, and read its disk again */
  in->heard_ms = c->io->time(c->io);
  if (!in->whole && chunk->offset == in->have) {
    memcpy(in->bytes + in->have, chunk->bytes.data, chunk->bytes.len);
    snapshot_digest_part(in->digest, in->bytes, in->have, in->have + chunk->bytes.len);
    in->have += chunk->bytes.len;
    if (in->have == in->head.total) {
      in->whole = is_whole(c);
      if (!in->whole) return;
    }
    if (chunk->offset > 0) BLX_SOMETIMES(c, SNAPSHOT_IN_PARTS);
  }
  answer(c, from, chunk, in->have);
}

/* libraft drops an install without a word while it is busy with a snapshot: so it waits here. */
static void deliver_whole(struct blx__consensus *c) {
  struct incoming *in = &c->transfer.in;
  if (!in->whole || !in->bytes) return;
  if (c->raft.snapshot.pending.term != 0 || c->raft.snapshot.put.data != NULL) return;
  char address[ADDRESS_SIZE];
  address_of(in->from, address);
  struct raft_message m = {.type = RAFT_IO_INSTALL_SNAPSHOT, .server_id = in->from, .server_address = address};
  struct raft_install_snapshot *s = &m.install_snapshot;
  *s = (struct raft_install_snapshot){.term = in->head.term,
                                      .last_index = in->head.index,
                                      .last_term = in->head.last_term,
                                      .conf_index = in->head.conf_index};
  const char *why = message_decode_conf(in->head.conf, &s->conf);
  if (why) {
    blx__log(c->o.log, BLX_LOG_WARNING, "consensus", "a snapshot of member %llu is dropped: %s",
             (unsigned long long)in->from, why);
    incoming_drop(c);
    return;
  }
  s->data = (struct raft_buffer){.base = in->bytes, .len = in->have};
  in->bytes = NULL; /* the rest stays: parts that are sent again are acknowledged and dropped */
  guard_receive(c, &m);
}

/* ---- both */

void transfer_advance(struct blx__consensus *c) {
  for (struct blx__list *it = c->transfer.out.next, *next; it != &c->transfer.out; it = next) {
    next = it->next;
    outgoing_advance(c, BLX__CONTAINER(it, struct outgoing, link));
  }
  deliver_whole(c);
}

void transfer_tick(struct blx__consensus *c) {
  BLX__LIST_FOREACH (it, &c->transfer.out) {
    struct outgoing *o = BLX__CONTAINER(it, struct outgoing, link);
    if (o->acked == o->acked_at_tick) o->sent = o->acked; /* nothing was heard for a tick: again */
    o->acked_at_tick = o->acked;
  }
  const struct incoming *in = &c->transfer.in;
  uint64_t silent_ms = c->io->time(c->io) - in->heard_ms;
  if (in->from != 0 && (in->head.term != c->raft.current_term ||
                        (!in->whole && silent_ms > (uint64_t)INCOMING_ELECTIONS * c->o.election_ms)))
    incoming_drop(c);
}

void transfer_end(struct blx__consensus *c) {
  for (struct blx__list *n; (n = blx__list_first(&c->transfer.out)) != NULL;)
    outgoing_end(c, BLX__CONTAINER(n, struct outgoing, link), RAFT_CANCELED);
  incoming_drop(c);
}
