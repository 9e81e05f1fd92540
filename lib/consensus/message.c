/* What members say to each other: a version byte, a kind, fixed little-endian fields, then the variable part. The bytes
 * may come from anyone who reached the channel, so the decoder believes no length before it is checked. */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"

enum {
  VERSION = 1,
  KIND_CONFIRM = 16,
  KIND_CONFIRM_REPLY = 17,
  CONFIRM_BYTES = 18,
  ENTRIES_BYTES_CUT = 4 << 20, /* AppendEntries are cut behind the entry that reaches this */
  ENTRIES_MAX = 65536,
  ENTRY_BYTES_MAX = 1 << 20,
  ENTRY_HEAD = 13,
  FLAG_DISRUPT = 1,
  FLAG_PRE_VOTE = 2,
};

struct writer {
  struct blx__buf *out;
  bool ok;
};

struct reader {
  const uint8_t *at;
  size_t left;
  bool ok;
};

static void w8(struct writer *w, uint8_t v) {
  w->ok = w->ok && blx__buf_add_byte(w->out, v);
}

static void w32(struct writer *w, uint32_t v) {
  uint8_t b[4];
  put_u32(b, v);
  w->ok = w->ok && blx__buf_add(w->out, b, sizeof b);
}

static void w64(struct writer *w, uint64_t v) {
  uint8_t b[8];
  put_u64(b, v);
  w->ok = w->ok && blx__buf_add(w->out, b, sizeof b);
}

static void wbytes(struct writer *w, const void *p, size_t n) {
  w->ok = w->ok && blx__buf_add(w->out, p, n);
}

static const uint8_t *take(struct reader *r, size_t n) {
  if (!r->ok || n > r->left) {
    r->ok = false;
    return NULL;
  }
  const uint8_t *p = r->at;
  r->at += n;
  r->left -= n;
  return p;
}

static uint8_t r8(struct reader *r) {
  const uint8_t *p = take(r, 1);
  return p ? *p : 0;
}

static uint32_t r32(struct reader *r) {
  const uint8_t *p = take(r, 4);
  return p ? get_u32(p) : 0;
}

static uint64_t r64(struct reader *r) {
  const uint8_t *p = take(r, 8);
  return p ? get_u64(p) : 0;
}

static unsigned entries_that_fit(const struct raft_append_entries *a) {
  size_t bytes = 0;
  unsigned n = 0;
  while (n < a->n_entries && n < ENTRIES_MAX && bytes < ENTRIES_BYTES_CUT)
    bytes += ENTRY_HEAD + a->entries[n++].buf.len;
  return n;
}

static void encode_append_entries(struct writer *w, const struct raft_append_entries *a) {
  unsigned n = entries_that_fit(a);
  w64(w, a->term);
  w64(w, a->prev_log_index);
  w64(w, a->prev_log_term);
  w64(w, a->leader_commit);
  w32(w, n);
  for (unsigned i = 0; i < n; i++) {
    const struct raft_entry *e = &a->entries[i];
    w64(w, e->term);
    w8(w, (uint8_t)e->type);
    w32(w, (uint32_t)e->buf.len);
  }
  for (unsigned i = 0; i < n; i++) wbytes(w, a->entries[i].buf.base, a->entries[i].buf.len);
}

static void encode_install_snapshot(struct writer *w, const struct raft_install_snapshot *s) {
  w64(w, s->term);
  w64(w, s->last_index);
  w64(w, s->last_term);
  w64(w, s->conf_index);
  w32(w, s->conf.n);
  for (unsigned i = 0; i < s->conf.n; i++) {
    w64(w, s->conf.servers[i].id);
    w8(w, (uint8_t)s->conf.servers[i].role);
  }
  w64(w, s->data.len);
  wbytes(w, s->data.base, s->data.len);
}

bool message_encode(struct blx__buf *out, const struct raft_message *m) {
  struct writer w = {.out = out, .ok = true};
  w8(&w, VERSION);
  w8(&w, (uint8_t)m->type);
  switch (m->type) {
  case RAFT_IO_APPEND_ENTRIES: encode_append_entries(&w, &m->append_entries); break;
  case RAFT_IO_APPEND_ENTRIES_RESULT:
    w64(&w, m->append_entries_result.term);
    w64(&w, m->append_entries_result.rejected);
    w64(&w, m->append_entries_result.last_log_index);
    break;
  case RAFT_IO_REQUEST_VOTE:
    w64(&w, m->request_vote.term);
    w64(&w, m->request_vote.candidate_id);
    w64(&w, m->request_vote.last_log_index);
    w64(&w, m->request_vote.last_log_term);
    w8(&w,
       (uint8_t)((m->request_vote.disrupt_leader ? FLAG_DISRUPT : 0) | (m->request_vote.pre_vote ? FLAG_PRE_VOTE : 0)));
    break;
  case RAFT_IO_REQUEST_VOTE_RESULT:
    w64(&w, m->request_vote_result.term);
    w8(&w, m->request_vote_result.vote_granted);
    w8(&w, (uint8_t)m->request_vote_result.pre_vote);
    break;
  case RAFT_IO_INSTALL_SNAPSHOT: encode_install_snapshot(&w, &m->install_snapshot); break;
  case RAFT_IO_TIMEOUT_NOW:
    w64(&w, m->timeout_now.term);
    w64(&w, m->timeout_now.last_log_index);
    w64(&w, m->timeout_now.last_log_term);
    break;
  default: return false;
  }
  return w.ok;
}

void message_encode_confirm(uint8_t out[18], bool reply, uint64_t term, uint64_t seq) {
  out[0] = VERSION;
  out[1] = reply ? KIND_CONFIRM_REPLY : KIND_CONFIRM;
  put_u64(out + 2, term);
  put_u64(out + 10, seq);
}

/* The heads were read to `heads`; the payloads follow at @r. One allocation carries all payloads: libraft frees it with
 * the last entry that points into it. */
static const char *decode_payloads(struct reader *r, const uint8_t *heads, unsigned n, struct raft_append_entries *a) {
  size_t total = 0;
  for (unsigned i = 0; i < n; i++) {
    uint32_t len = get_u32(heads + (size_t)i * ENTRY_HEAD + 9);
    uint8_t type = heads[(size_t)i * ENTRY_HEAD + 8];
    if (type < RAFT_COMMAND || type > RAFT_CHANGE) return "an entry of an unknown type";
    if (len == 0 || len % 8 != 0 || len > ENTRY_BYTES_MAX) return "an entry of a length that is not allowed";
    total += len;
  }
  if (total != r->left) return "entries that do not fill the message";
  uint8_t *batch = raft_malloc(total);
  a->entries = raft_calloc(n, sizeof *a->entries);
  if (!batch || !a->entries) {
    raft_free(batch);
    raft_free(a->entries);
    a->entries = NULL;
    return "no memory for the entries";
  }
  memcpy(batch, take(r, total), total);
  uint8_t *at = batch;
  for (unsigned i = 0; i < n; i++) {
    const uint8_t *head = heads + (size_t)i * ENTRY_HEAD;
    size_t len = get_u32(head + 9);
    a->entries[i] =
        (struct raft_entry){.term = get_u64(head), .type = head[8], .buf = {.base = at, .len = len}, .batch = batch};
    at += len;
  }
  a->n_entries = n;
  return NULL;
}

static const char *decode_append_entries(struct reader *r, struct raft_append_entries *a) {
  a->term = r64(r);
  a->prev_log_index = r64(r);
  a->prev_log_term = r64(r);
  a->leader_commit = r64(r);
  uint32_t n = r32(r);
  if (!r->ok || n > ENTRIES_MAX) return "AppendEntries cut short";
  const uint8_t *heads = take(r, (size_t)n * ENTRY_HEAD);
  if (!heads) return "AppendEntries cut short";
  return n == 0 ? NULL : decode_payloads(r, heads, n, a);
}

static const char *decode_configuration(struct reader *r, struct raft_configuration *conf) {
  uint32_t n = r32(r);
  if (!r->ok || n == 0 || n > BLX__CONSENSUS_MEMBERS_MAX) return "a snapshot with a strange number of members";
  for (uint32_t i = 0; i < n; i++) {
    char address[ADDRESS_SIZE];
    uint64_t id = r64(r);
    uint8_t role = r8(r);
    if (!r->ok || id == 0 || role > RAFT_SPARE) return "a snapshot with a strange member";
    address_of(id, address);
    if (raft_configuration_add(conf, id, address, role) != 0) return "a snapshot with a member twice";
  }
  return NULL;
}

static const char *decode_install_snapshot(struct reader *r, struct raft_install_snapshot *s) {
  s->term = r64(r);
  s->last_index = r64(r);
  s->last_term = r64(r);
  s->conf_index = r64(r);
  raft_configuration_init(&s->conf);
  const char *why = decode_configuration(r, &s->conf);
  uint64_t len = why ? 0 : r64(r);
  if (!why && (!r->ok || len == 0 || len != r->left || len % 8 != 0)) why = "a snapshot cut short";
  if (!why) {
    struct snapshot_head head;
    struct blx__slice payload;
    why = snapshot_check((struct blx__slice){.data = r->at, .len = r->left}, &head, &payload);
    if (!why && (head.index != s->last_index || head.term != s->last_term)) why = "a snapshot of another index";
  }
  if (!why && !(s->data.base = raft_malloc(len))) why = "no memory for a snapshot";
  if (why) {
    raft_configuration_close(&s->conf);
    return why;
  }
  memcpy(s->data.base, take(r, len), len);
  s->data.len = len;
  return NULL;
}

static const char *decode_vote(struct reader *r, struct raft_message *m) {
  if (m->type == RAFT_IO_REQUEST_VOTE) {
    struct raft_request_vote *v = &m->request_vote;
    v->term = r64(r);
    v->candidate_id = r64(r);
    v->last_log_index = r64(r);
    v->last_log_term = r64(r);
    uint8_t flags = r8(r);
    v->disrupt_leader = flags & FLAG_DISRUPT;
    v->pre_vote = flags & FLAG_PRE_VOTE;
    return flags > (FLAG_DISRUPT | FLAG_PRE_VOTE) ? "a vote request with unknown flags" : NULL;
  }
  struct raft_request_vote_result *v = &m->request_vote_result;
  v->term = r64(r);
  uint8_t granted = r8(r), pre_vote = r8(r);
  if (granted > 1 || pre_vote > raft_tribool_false) return "a vote of an unknown kind";
  v->vote_granted = granted;
  v->pre_vote = (raft_tribool)pre_vote;
  return NULL;
}

static const char *decode_raft(struct reader *r, struct raft_message *m) {
  const char *why = NULL;
  switch (m->type) {
  case RAFT_IO_APPEND_ENTRIES: why = decode_append_entries(r, &m->append_entries); break;
  case RAFT_IO_APPEND_ENTRIES_RESULT:
    m->append_entries_result.term = r64(r);
    m->append_entries_result.rejected = r64(r);
    m->append_entries_result.last_log_index = r64(r);
    break;
  case RAFT_IO_REQUEST_VOTE:
  case RAFT_IO_REQUEST_VOTE_RESULT: why = decode_vote(r, m); break;
  case RAFT_IO_INSTALL_SNAPSHOT: why = decode_install_snapshot(r, &m->install_snapshot); break;
  case RAFT_IO_TIMEOUT_NOW:
    m->timeout_now.term = r64(r);
    m->timeout_now.last_log_index = r64(r);
    m->timeout_now.last_log_term = r64(r);
    break;
  default: return "a message of an unknown kind";
  }
  if (why) return why;
  if (!r->ok || r->left != 0) {
    message_free(m);
    return "a message of the wrong length";
  }
  return NULL;
}

const char *message_decode(struct blx__slice bytes, enum message_kind *kind, struct raft_message *m,
                           struct message_confirm *confirm) {
  memset(m, 0, sizeof *m);
  if (bytes.len < 2) return "an empty message";
  if (bytes.data[0] != VERSION) return "a message of another version";
  uint8_t type = bytes.data[1];
  struct reader r = {.at = bytes.data + 2, .left = bytes.len - 2, .ok = true};
  if (type == KIND_CONFIRM || type == KIND_CONFIRM_REPLY) {
    if (bytes.len != CONFIRM_BYTES) return "a Confirm of the wrong length";
    *kind = type == KIND_CONFIRM ? MESSAGE_CONFIRM : MESSAGE_CONFIRM_REPLY;
    confirm->term = r64(&r);
    confirm->seq = r64(&r);
    return NULL;
  }
  *kind = MESSAGE_RAFT;
  m->type = type;
  return decode_raft(&r, m);
}

void message_free(struct raft_message *m) {
  if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
    raft_free(m->append_entries.entries[0].batch);
    raft_free(m->append_entries.entries);
    m->append_entries.entries = NULL;
    m->append_entries.n_entries = 0;
  } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
    raft_configuration_close(&m->install_snapshot.conf);
    raft_free(m->install_snapshot.data.base);
    m->install_snapshot.data.base = NULL;
  }
}
