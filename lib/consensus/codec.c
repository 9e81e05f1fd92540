/* What members say to each other: a version byte, a kind, fixed little-endian fields, then the variable part; and at
 * the end of the file one log entry. The bytes may come from anyone who reached the channel, or from a damaged disk, so
 * the decoders believe no length before it is checked. All integers are little-endian. */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"

enum {
  VERSION = 1,
  CONFIRM_BYTES = 18,
  ENTRIES_BYTES_CUT = 4 << 20, /* AppendEntries are cut behind the entry that reaches this */
  ENTRIES_MAX = 65536,
  ENTRY_BYTES_MAX = 1 << 20,
  ENTRY_HEAD = 13,
  CONF_MEMBER_BYTES = 9, /* uid, role */
  CHUNK_ACK_BYTES = 26,
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
  case RAFT_IO_TIMEOUT_NOW:
    w64(&w, m->timeout_now.term);
    w64(&w, m->timeout_now.last_log_index);
    w64(&w, m->timeout_now.last_log_term);
    break;
  default: return false; /* InstallSnapshot goes in chunks */
  }
  return w.ok;
}

void message_encode_confirm(uint8_t out[18], bool reply, uint64_t term, uint64_t seq) {
  out[0] = VERSION;
  out[1] = reply ? MESSAGE_CONFIRM_REPLY : MESSAGE_CONFIRM;
  put_u64(out + 2, term);
  put_u64(out + 10, seq);
}

void message_encode_lost(uint8_t out[LOST_BYTES], uint64_t term, uint64_t index) {
  message_encode_confirm(out, false, term, index);
  out[1] = MESSAGE_LOST;
}

bool message_encode_conf(struct blx__buf *out, const struct raft_configuration *conf) {
  struct writer w = {.out = out, .ok = conf->n <= BLX__CONSENSUS_MEMBERS_MAX};
  w32(&w, conf->n);
  for (unsigned i = 0; w.ok && i < conf->n; i++) {
    w64(&w, conf->servers[i].id);
    w8(&w, (uint8_t)conf->servers[i].role);
  }
  return w.ok;
}

bool message_encode_chunk(struct blx__buf *out, const struct message_chunk *chunk) {
  struct writer w = {.out = out, .ok = true};
  w8(&w, VERSION);
  w8(&w, MESSAGE_CHUNK);
  w64(&w, chunk->serial);
  w64(&w, chunk->term);
  w64(&w, chunk->index);
  w64(&w, chunk->last_term);
  w64(&w, chunk->conf_index);
  w64(&w, chunk->total);
  w64(&w, chunk->offset);
  wbytes(&w, chunk->conf.data, chunk->conf.len);
  wbytes(&w, chunk->bytes.data, chunk->bytes.len);
  return w.ok;
}

void message_encode_chunk_ack(uint8_t out[26], uint64_t serial, uint64_t term, uint64_t have) {
  out[0] = VERSION;
  out[1] = MESSAGE_CHUNK_ACK;
  put_u64(out + 2, serial);
  put_u64(out + 10, term);
  put_u64(out + 18, have);
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

const char *message_decode_conf(struct blx__slice bytes, struct raft_configuration *conf) {
  struct reader r = {.at = bytes.data, .left = bytes.len, .ok = true};
  uint32_t n = r32(&r);
  raft_configuration_init(conf);
  const char *why = r.ok && n > 0 && r.left == (size_t)n * CONF_MEMBER_BYTES ? NULL : "a strange number of members";
  for (uint32_t i = 0; !why && i < n; i++) {
    char address[ADDRESS_SIZE];
    uint64_t id = r64(&r);
    uint8_t role = r8(&r);
    if (id == 0 || role > RAFT_SPARE) why = "a strange member";
    address_of(id, address);
    if (!why && raft_configuration_add(conf, id, address, role) != 0) why = "a member twice";
  }
  if (why) raft_configuration_close(conf);
  return why;
}

static const char *decode_chunk(struct reader *r, struct message_chunk *chunk) {
  chunk->serial = r64(r);
  chunk->term = r64(r);
  chunk->index = r64(r);
  chunk->last_term = r64(r);
  chunk->conf_index = r64(r);
  chunk->total = r64(r);
  chunk->offset = r64(r);
  chunk->conf.data = r->at;
  uint32_t n = r32(r);
  if (!r->ok || n == 0 || n > BLX__CONSENSUS_MEMBERS_MAX) return "a snapshot with a strange number of members";
  if (!take(r, (size_t)n * CONF_MEMBER_BYTES)) return "a part of a snapshot cut short";
  chunk->conf.len = (size_t)(r->at - chunk->conf.data);
  chunk->bytes = (struct blx__slice){.data = r->at, .len = r->left};
  if (chunk->total < SNAPSHOT_HEAD_BYTES || chunk->total > SNAPSHOT_BYTES_MAX || chunk->total % 8 != 0)
    return "a snapshot of a size that is not allowed";
  bool fits = chunk->offset < chunk->total && chunk->bytes.len <= chunk->total - chunk->offset;
  if (!fits || chunk->bytes.len == 0 || chunk->bytes.len > CHUNK_BYTES_MAX) return "a part that a snapshot cannot have";
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

static const char *decode_pair(struct reader *r, size_t size, size_t expected, uint64_t *a, uint64_t *b) {
  if (size != expected) return "a message of the wrong length";
  *a = r64(r);
  *b = r64(r);
  return NULL;
}

const char *message_decode(struct blx__slice bytes, struct message *out) {
  memset(out, 0, sizeof *out);
  if (bytes.len < 2) return "an empty message";
  if (bytes.data[0] != VERSION) return "a message of another version";
  uint8_t kind = bytes.data[1];
  struct reader r = {.at = bytes.data + 2, .left = bytes.len - 2, .ok = true};
  const char *why = NULL;
  switch (kind) {
  case MESSAGE_CONFIRM:
  case MESSAGE_CONFIRM_REPLY:
    why = decode_pair(&r, bytes.len, CONFIRM_BYTES, &out->confirm.term, &out->confirm.seq);
    break;
  case MESSAGE_LOST: why = decode_pair(&r, bytes.len, LOST_BYTES, &out->lost.term, &out->lost.index); break;
  case MESSAGE_CHUNK: why = decode_chunk(&r, &out->chunk); break;
  case MESSAGE_CHUNK_ACK:
    why = decode_pair(&r, bytes.len, CHUNK_ACK_BYTES, &out->ack.serial, &out->ack.term);
    out->ack.have = r64(&r);
    break;
  default:
    out->kind = MESSAGE_RAFT;
    out->raft.type = kind;
    return decode_raft(&r, &out->raft);
  }
  out->kind = (enum message_kind)kind;
  return why;
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

/* ---- one log entry: a head, then operations as length and bytes, zeros to a multiple of 8 (libraft 0.15 corrupts its
 * log with any other length).
 *   0 version u8, 3 zeros | 4 operations u32 | 8 time_ms u64 | 16 proposer u64 | 24 serial u64 | 32 bytes u32, 4 zeros
 */
size_t entry_size(size_t ops_count, size_t ops_bytes) {
  size_t n = ENTRY_HEAD_BYTES + ops_count * ENTRY_OP_HEAD_BYTES + ops_bytes;
  return (n + 7) & ~(size_t)7;
}

void entry_begin(uint8_t *at, size_t size, const struct entry_head *head) {
  BLX__ASSERT(size % 8 == 0 && size >= ENTRY_HEAD_BYTES);
  memset(at, 0, ENTRY_HEAD_BYTES);
  memset(at + size - 8, 0, 8); /* what the operations leave of it stays */
  at[0] = ENTRY_VERSION;
  put_u32(at + 4, head->ops_count);
  put_u64(at + 8, head->time_ms);
  put_u64(at + 16, head->proposer);
  put_u64(at + 24, head->serial);
  put_u32(at + 32, (uint32_t)(size - ENTRY_HEAD_BYTES));
}

uint8_t *entry_put_op(uint8_t *at, const uint8_t *op, size_t size) {
  put_u32(at, (uint32_t)size);
  memcpy(at + ENTRY_OP_HEAD_BYTES, op, size);
  return at + ENTRY_OP_HEAD_BYTES + size;
}

/* Walk the operations once, so that taking them later cannot fail half-way through an entry. */
static bool ops_are_sound(const uint8_t *at, const uint8_t *end, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (end - at < ENTRY_OP_HEAD_BYTES) return false;
    uint32_t n = get_u32(at);
    at += ENTRY_OP_HEAD_BYTES;
    if (n == 0 || n > BLX__CONSENSUS_OP_MAX || n > (size_t)(end - at)) return false;
    at += n;
  }
  if (end - at >= 8) return false;
  for (; at < end; at++)
    if (*at) return false;
  return true;
}

bool entry_open(struct entry_reader *r, struct entry_head *head, const void *bytes, size_t size) {
  const uint8_t *p = bytes;
  if (size < ENTRY_HEAD_BYTES || size % 8 != 0 ||
      size > entry_size(BLX__CONSENSUS_BATCH_OPS_MAX, BLX__CONSENSUS_BATCH_BYTES_MAX))
    return false;
  if (p[0] != ENTRY_VERSION || p[1] || p[2] || p[3] || get_u32(p + 36) != 0) return false;
  if (get_u32(p + 32) != size - ENTRY_HEAD_BYTES) return false;
  *head = (struct entry_head){
      .time_ms = get_u64(p + 8), .proposer = get_u64(p + 16), .serial = get_u64(p + 24), .ops_count = get_u32(p + 4)};
  if (head->ops_count == 0 || head->ops_count > BLX__CONSENSUS_BATCH_OPS_MAX) return false;
  *r = (struct entry_reader){.at = p + ENTRY_HEAD_BYTES, .end = p + size, .left = head->ops_count};
  return ops_are_sound(r->at, r->end, head->ops_count);
}

bool entry_next(struct entry_reader *r, struct blx__slice *op) {
  if (r->left == 0) return false;
  uint32_t n = get_u32(r->at);
  BLX__ASSERT(n <= (size_t)(r->end - r->at) - ENTRY_OP_HEAD_BYTES);
  *op = (struct blx__slice){.data = r->at + ENTRY_OP_HEAD_BYTES, .len = n};
  r->at += ENTRY_OP_HEAD_BYTES + n;
  r->left--;
  return true;
}
