/* libraft's state machine over the embedder's table: the order of entries, cluster time, the chain, and the snapshot.
 *   0 magic | 8 version u32, zeros | 16 index | 24 term | 32 time_ms | 40 payload bytes | 48 chain | 80 SHA-256 of all
 *   but itself | 112 payload, zeros to a multiple of 8 */
#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"

#include <stdlib.h>

static const uint8_t magic[8] = {'B', 'L', 'X', 'S', 'N', 'A', 'P', '\n'};
enum { STAGGER = 4, RETRY_ENTRIES = 64 };
enum { AT_VERSION = 8, AT_INDEX = 16, AT_TERM = 24, AT_TIME = 32, AT_LEN = 40, AT_CHAIN = 48, AT_DIGEST = 80 };

void fsm_chain(const struct blx__consensus *c, uint8_t out[BLX__SHA256_BYTES]) {
  uint8_t at[8];
  if (c->unchained.len == 0) {
    memcpy(out, c->chain, sizeof c->chain);
    return;
  }
  put_u64(at, c->unchained_index);
  const struct blx__slice parts[] = {{c->chain, sizeof c->chain}, {at, sizeof at}, c->unchained};
  blx__sha256(parts, BLX__COUNT(parts), out);
}

void fsm_chain_settle(struct blx__consensus *c) {
  if (c->unchained.len == 0) return;
  fsm_chain(c, c->chain);
  c->unchained = (struct blx__slice){0};
}

/* Keep the answer for its caller. What cannot be kept is said: the operation itself is done. */
static void keep_result(struct call *call, const struct blx__buf *result) {
  if (result->len == 0) return;
  call->result = result->len <= sizeof call->small ? call->small : malloc(result->len);
  if (!call->result) {
    call->code = BLX_E_NOMEM;
    call->why = "the operation is done, but no memory was left for its answer";
    return;
  }
  memcpy(call->result, result->data, result->len);
  call->result_len = result->len;
}

static void apply_ops(struct blx__consensus *c, struct entry_reader *r, struct batch *mine, uint64_t index) {
  struct blx__buf result;
  blx__buf_init(&result, BLX__CONSENSUS_RESULT_MAX);
  struct blx__list *at = mine ? blx__list_first(&mine->calls) : NULL;
  for (struct blx__slice op; entry_next(r, &op);) {
    struct call *call = at ? BLX__CONTAINER(at, struct call, link) : NULL;
    blx__buf_clear(&result);
    c->o.fsm.apply(c->o.fsm.user, op, call ? &result : NULL);
    if (!call || c->fatal_code) {
      at = NULL; /* a table that poisoned its member has had all calls taken off this list */
      continue;
    }
    call->index = index;
    keep_result(call, &result);
    at = at->next == &mine->calls ? NULL : at->next;
  }
  blx__buf_free(&result);
}

uint64_t fsm_applied(const struct blx__consensus *c) {
  return c->unapplied.entry.len > 0 ? c->unapplied.index - 1 : c->raft.last_applied;
}

void fsm_apply_settle(struct blx__consensus *c) {
  struct unapplied *u = &c->unapplied;
  if (u->entry.len == 0) return;
  if (!c->fatal_code) {
    if (u->time_ms > c->time_ms) c->time_ms = u->time_ms;
    c->o.fsm.begin(c->o.fsm.user, u->index, c->time_ms);
    apply_ops(c, &u->ops, u->mine, u->index);
    c->o.fsm.end(c->o.fsm.user);
    c->unchained = u->entry;
    c->unchained_index = u->index;
    c->bytes_since_snapshot += u->entry.len;
  }
  u->entry = (struct blx__slice){0};
  if (u->answered) propose_applied(u->mine);
  u->mine = NULL;
}

/* While the next entry is on its way to other members, their disks and ours work, and this thread may as well apply the
 * last one. What it sends leaves at the end of a turn: not before the second one is it certain to be gone. */
void fsm_apply_advance(struct blx__consensus *c) {
  bool goes = !blx__list_empty(&c->batches) && member_voters(c) > 1;
  if (!goes || c->unapplied.turns >= 2) fsm_apply_settle(c);
  if (c->unapplied.entry.len > 0) consensus_wake(c);
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result) {
  struct blx__consensus *c = fsm->data;
  struct unapplied *u = &c->unapplied;
  *result = NULL;
  fsm_apply_settle(c);
  if (c->fatal_code) return 0;
  fsm_chain_settle(c);
  uint64_t index = c->raft.last_applied + 1; /* libraft 0.15 counts after the call */
  struct entry_head head;
  blx__buf_clear(&u->bytes);
  bool kept = blx__buf_add(&u->bytes, buf->base, buf->len);
  const struct blx__slice entry = {.data = kept ? u->bytes.data : buf->base, .len = buf->len};
  if (!entry_open(&u->ops, &head, entry.data, entry.len)) {
    char text[FATAL_TEXT_SIZE];
    (void)blx__str_format(text, sizeof text,
                          "log entry %llu of %zu bytes cannot be read by this version: it is damaged or was written by "
                          "a newer one; nothing after it was applied",
                          (unsigned long long)index, buf->len);
    blx__consensus_poison(c, BLX_E_CORRUPT, text);
    return 0;
  }
  u->entry = entry;
  u->index = index;
  u->time_ms = head.time_ms;
  u->mine = propose_find(c, index, head.proposer, head.serial);
  u->answered = false;
  u->turns = 0;
  if (kept && c->opened) return 0;
  fsm_apply_settle(c);
  fsm_chain_settle(c);
  return 0;
}

void fsm_free(struct blx__consensus *c) {
  BLX__ASSERT(c->unapplied.entry.len == 0);
  blx__buf_free(&c->unapplied.bytes);
}

void snapshot_digest_part(struct blx__sha256 *d, const uint8_t *snapshot, uint64_t from, uint64_t to) {
  if (from < AT_DIGEST) {
    uint64_t end = to < AT_DIGEST ? to : AT_DIGEST;
    blx__sha256_add(d, (struct blx__slice){snapshot + from, end - from});
  }
  if (from < SNAPSHOT_HEAD_BYTES) from = SNAPSHOT_HEAD_BYTES;
  if (from < to) blx__sha256_add(d, (struct blx__slice){snapshot + from, to - from});
}

static bool digest_of(const uint8_t *bytes, size_t size, uint8_t out[BLX__SHA256_BYTES]) {
  struct blx__sha256 *d = blx__sha256_new();
  if (!d) return false;
  snapshot_digest_part(d, bytes, 0, size);
  blx__sha256_end(d, out);
  return true;
}

/* R8. A larger state is written more rarely; and not by all members in the same moment. */
static bool snapshot_is_due(struct blx__consensus *c) {
  if (c->snapshot_job || c->raft.last_applied < c->snapshot_retry_at) return false;
  uint64_t entries = c->raft.last_applied - c->raft.log.snapshot.last_index;
  uint64_t entries_max = c->o.snapshot_entries, bytes_max = c->o.snapshot_bytes;
  if (consensus_rule(c, BLX__RULE_R8_LOG_BYTES)) {
    if (bytes_max < c->snapshot_len) bytes_max = c->snapshot_len;
    if (bytes_max > c->o.log_bytes_max / 4) bytes_max = c->o.log_bytes_max / 4;
    uint64_t late = c->o.uid % STAGGER;
    entries_max += late * entries_max / (2 * STAGGER);
    bytes_max += late * bytes_max / (2 * STAGGER);
  }
  return entries >= entries_max || c->bytes_since_snapshot >= bytes_max;
}

/* R8: how many entries stay in the log behind the snapshot at @index: those since the previous one, so that a member
 * that was away for less gets entries, not a snapshot; unless they are too many bytes. Never 0, which means "install".
 */
static unsigned trailing_of(struct blx__consensus *c, uint64_t index) {
  if (c->o.snapshot_trailing) return c->o.snapshot_trailing;
  if (!consensus_rule(c, BLX__RULE_R8_LOG_BYTES)) return 1;
  uint64_t n = 0, bytes = 0, most = index - c->raft.log.snapshot.last_index;
  for (const struct raft_entry *e; n < most && (e = guard_entry(&c->raft, index - n)) != NULL; n++) {
    bytes += e->buf.len + sizeof *e;
    if (bytes > c->o.log_bytes_max / 2) break;
  }
  return n > 0 ? (unsigned)n : 1;
}

/* ---- our own snapshots: frozen on the loop, written into memory on a worker, then put on the disk */

struct snapshot_job {
  struct blx__consensus *c;
  void *frozen;  /* NULL once thawed */
  bool given_up; /* while the worker has it */
  unsigned trailing;
  struct raft_snapshot snapshot; /* libraft's, with our bytes */
  struct raft_buffer buf;
  uint64_t time_ms, log_bytes; /* at the freeze */
  uint8_t chain[BLX__SHA256_BYTES];
  struct blx__buf out;
  int code;
  blx_error err;
};

static void job_thaw(struct snapshot_job *job) {
  struct blx__consensus *c = job->c;
  if (job->frozen) c->o.fsm.thaw(c->o.fsm.user, job->frozen);
  job->frozen = NULL;
}

static void job_free(struct snapshot_job *job) {
  struct blx__consensus *c = job->c;
  job_thaw(job);
  c->snapshot_job = NULL;
  consensus_free_large(c, job->out.data, job->out.len);
  free(job);
}

void snapshot_job_end(struct blx__consensus *c) {
  struct snapshot_job *job = c->snapshot_job;
  if (!job) return;
  if (job->frozen)
    job->given_up = true;
  else
    job_free(job);
}

void snapshot_job_abandon(struct blx__consensus *c) {
  if (c->snapshot_job) job_free(c->snapshot_job);
}

/* RAFT_BUSY means "not now": libraft asks again after the next entry. It gets a stand-in for the bytes. */
static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs) {
  struct blx__consensus *c = fsm->data;
  if (c->fatal_code || !snapshot_is_due(c)) return RAFT_BUSY;
  if (consensus_rule(c, BLX__RULE_R6_COMMITTED_CONFIGURATION) && c->raft.configuration_uncommitted_index != 0) {
    BLX_SOMETIMES(c, CONFIGURATION_BUSY);
    return RAFT_BUSY;
  }
  fsm_apply_settle(c);
  if (c->fatal_code) return RAFT_BUSY;
  struct snapshot_job *job = calloc(1, sizeof *job);
  struct raft_buffer *one = raft_calloc(1, sizeof *one);
  void *stand_in = raft_calloc(1, sizeof(uint64_t));
  blx_error err = {.message = "no memory"};
  if (job && one && stand_in) job->frozen = c->o.fsm.freeze(c->o.fsm.user, &err);
  if (!job || !job->frozen) {
    free(job);
    raft_free(one);
    raft_free(stand_in);
    blx__log(c->o.log, BLX_LOG_ERROR, "consensus", "no snapshot could be taken at index %llu, the log grows: %s",
             (unsigned long long)c->raft.last_applied, err.message);
    return RAFT_BUSY;
  }
  job->c = c;
  job->time_ms = c->time_ms;
  job->log_bytes = c->bytes_since_snapshot;
  fsm_chain(c, job->chain);
  c->snapshot_job = job;
  *one = (struct raft_buffer){.base = stand_in, .len = sizeof(uint64_t)};
  *bufs = one;
  *n_bufs = 1;
  raft_set_snapshot_trailing(&c->raft, trailing_of(c, c->raft.snapshot.pending.index));
  return 0;
}

/* @out holds room for the head, and the payload. */
static bool write_head(struct blx__buf *out, const struct snapshot_head *head) {
  static const uint8_t zeros[8];
  size_t payload = out->len - SNAPSHOT_HEAD_BYTES;
  if (!blx__buf_add(out, zeros, (8 - out->len % 8) % 8)) return false;
  uint8_t *p = out->data;
  memcpy(p, magic, sizeof magic);
  put_u32(p + AT_VERSION, SNAPSHOT_VERSION);
  put_u64(p + AT_INDEX, head->index);
  put_u64(p + AT_TERM, head->term);
  put_u64(p + AT_TIME, head->time_ms);
  put_u64(p + AT_LEN, payload);
  memcpy(p + AT_CHAIN, head->chain, sizeof head->chain);
  return digest_of(p, out->len, p + AT_DIGEST);
}

bool snapshot_make(struct blx__buf *out, const struct snapshot_head *head, struct blx__slice payload) {
  static const uint8_t room[SNAPSHOT_HEAD_BYTES];
  BLX__ASSERT(out->len == 0);
  return blx__buf_add(out, room, sizeof room) && blx__buf_add(out, payload.data, payload.len) && write_head(out, head);
}

/* On a worker. */
static void job_write(void *arg) {
  struct snapshot_job *job = arg;
  static const uint8_t head[SNAPSHOT_HEAD_BYTES];
  blx__buf_init(&job->out, SNAPSHOT_BYTES_MAX);
  (void)blx__str_copy(job->err.message, sizeof job->err.message, "no memory");
  job->code = BLX_E_NOMEM;
  if (!blx__buf_add(&job->out, head, sizeof head)) return;
  blx__rc rc = job->c->o.fsm.write(job->frozen, &job->out, &job->err);
  struct snapshot_head whole = {.index = job->snapshot.index, .term = job->snapshot.term, .time_ms = job->time_ms};
  memcpy(whole.chain, job->chain, sizeof whole.chain);
  if (rc.code == 0 && !write_head(&job->out, &whole)) return;
  job->code = rc.code;
  job->buf = (struct raft_buffer){.base = job->out.data, .len = job->out.len};
}

static void job_written(void *arg) {
  struct snapshot_job *job = arg;
  struct blx__consensus *c = job->c;
  job_thaw(job);
  if (job->given_up) {
    job_free(job);
    return;
  }
  consensus_enter(c);
  if (job->code != 0) {
    c->snapshot_retry_at = c->raft.last_applied + RETRY_ENTRIES;
    blx__log(c->o.log, BLX_LOG_ERROR, "consensus", "no snapshot could be written at index %llu, the log grows: %s",
             (unsigned long long)job->snapshot.index, job->err.message);
  } else {
    c->bytes_since_snapshot -= job->log_bytes;
    c->snapshot_len = job->out.len;
    BLX_SOMETIMES(c, SNAPSHOT_TAKEN);
    blx__log(c->o.log, BLX_LOG_DEBUG, "consensus", "snapshot of %zu bytes at index %llu", job->out.len,
             (unsigned long long)job->snapshot.index);
  }
  guard_snapshot_written(c, job->code == 0 ? 0 : RAFT_BUSY, job->trailing, &job->snapshot);
  consensus_leave(c);
}

int snapshot_write(struct blx__consensus *c, unsigned trailing, const struct raft_snapshot *s) {
  struct snapshot_job *job = c->snapshot_job;
  BLX__ASSERT(job && job->frozen);
  job->trailing = trailing;
  job->snapshot = *s;
  job->snapshot.bufs = &job->buf;
  job->snapshot.n_bufs = 1;
  if (consensus_work(c, job_write, job_written, job)) return 0;
  job_free(job);
  return RAFT_BUSY;
}

/* ---- the container */

static const char *check_shape(struct blx__slice bytes) {
  if (bytes.len < SNAPSHOT_HEAD_BYTES || bytes.len % 8 != 0) return "the snapshot is cut short";
  if (memcmp(bytes.data, magic, sizeof magic) != 0) return "this is no snapshot of Blixard";
  if (get_u32(bytes.data + AT_VERSION) != SNAPSHOT_VERSION) return "the snapshot is of another format version";
  size_t room = bytes.len - SNAPSHOT_HEAD_BYTES;
  uint64_t len = get_u64(bytes.data + AT_LEN);
  if (len > room || room - len >= 8) return "the snapshot's length does not match its head";
  return NULL;
}

static const char damaged_text[] = "the snapshot's checksum does not match: it is damaged";

const char *snapshot_check_head(struct blx__slice bytes, const uint8_t digest[BLX__SHA256_BYTES], uint64_t index,
                                uint64_t term) {
  const char *why = check_shape(bytes);
  if (why) return why;
  if (memcmp(digest, bytes.data + AT_DIGEST, BLX__SHA256_BYTES) != 0) return damaged_text;
  if (get_u64(bytes.data + AT_INDEX) != index || get_u64(bytes.data + AT_TERM) != term)
    return "it is a snapshot of another index";
  return NULL;
}

const char *snapshot_check(struct blx__slice bytes, struct snapshot_head *head, struct blx__slice *payload) {
  const uint8_t *p = bytes.data;
  uint8_t digest[BLX__SHA256_BYTES];
  const char *why = check_shape(bytes);
  if (why) return why;
  if (!digest_of(p, bytes.len, digest)) return "no memory to check the snapshot";
  if (memcmp(digest, p + AT_DIGEST, sizeof digest) != 0) return damaged_text;
  *head = (struct snapshot_head){.index = get_u64(p + AT_INDEX),
                                 .term = get_u64(p + AT_TERM),
                                 .time_ms = get_u64(p + AT_TIME),
                                 .payload_len = get_u64(p + AT_LEN)};
  memcpy(head->chain, p + AT_CHAIN, sizeof head->chain);
  *payload = (struct blx__slice){.data = p + SNAPSHOT_HEAD_BYTES, .len = head->payload_len};
  return NULL;
}

/* libraft swallows a failure when a leader's snapshot is installed, hence the poison; at start it fails the open. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf) {
  struct blx__consensus *c = fsm->data;
  struct snapshot_head head;
  struct blx__slice payload;
  blx_error err = {0};
  fsm_apply_settle(c);
  const char *why = snapshot_check((struct blx__slice){.data = buf->base, .len = buf->len}, &head, &payload);
  if (!why && c->o.fsm.restore(c->o.fsm.user, payload, &err).code != 0) why = err.message;
  if (why) {
    char text[FATAL_TEXT_SIZE];
    (void)blx__str_format(text, sizeof text,
                          "a snapshot on disk cannot be used: %s; restore this member's directory "
                          "from a copy, or remove the member and let it join anew",
                          why);
    blx__consensus_poison(c, BLX_E_CORRUPT, text);
    return RAFT_CORRUPT;
  }
  c->unchained = (struct blx__slice){0};
  memcpy(c->chain, head.chain, sizeof c->chain);
  c->time_ms = head.time_ms;
  c->bytes_since_snapshot = 0;
  c->snapshot_len = buf->len;
  raft_free(buf->base);
  return 0;
}

void fsm_init(struct blx__consensus *c) {
  blx__buf_init(&c->unapplied.bytes, entry_size(BLX__CONSENSUS_BATCH_OPS_MAX, BLX__CONSENSUS_BATCH_BYTES_MAX));
  c->fsm =
      (struct raft_fsm){.version = 1, .data = c, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
}
