/* Members that do not run. What a recovery writes is, in this order:
 *   recovered   which members are gone: what they say is dropped. It counts only if the log reaches its index
 *   meta        a term above all that were seen, so that no old entry looks like a new one, and its vote
 *   the log     one entry: a change of members, to this one alone
 *   mark        so that the end of the log cannot go missing without a word
 * Of old members that come back more than the log's word is needed: libraft listens to whoever has a higher term,
 * member or not, and must, for a member that was away may not know the newest leader. */
#include "consensus/recover.h"

#include "consensus/bytes_int.h"
#include "consensus/consensus_int.h"
#include "consensus/disk_int.h"
#include "consensus/store_int.h"

#include "io/file.h"

#include <stdlib.h>
#include <unistd.h>

typedef unsigned long long ull;

static const char way_out[] = "restore it from a backup, or empty the data directory and join as a new node";

static blx__rc damaged(const char *dir, const char *why, blx_error *err) {
  return blx__fail(err, BLX_E_CORRUPT, "consensus",
                   "what is stored in '%s' cannot be loaded (%s): nothing was changed; %s", dir, why, way_out);
}

/* ---- an entry that changes members, as libraft writes it: 1 | count u64 | each: uid u64, address, 0, role u8 | zeros
 */

static bool conf_decode(const struct store_record *r, struct blx__consensus_found *out) {
  const uint8_t *at = r->data, *end = r->data + r->len;
  if (r->len < 9 || *at != 1) return false;
  uint64_t count = get_u64(at + 1);
  if (count > BLX__CONSENSUS_MEMBERS_MAX) return false;
  at += 9;
  out->members_count = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (end - at < 10) return false;
    struct blx__consensus_member m = {.uid = get_u64(at)};
    const uint8_t *zero = memchr(at + 8, 0, (size_t)(end - at) - 8);
    if (!zero || end - zero < 2 || zero[1] > RAFT_SPARE) return false;
    m.membership = zero[1] == RAFT_VOTER     ? BLX__MEMBER_VOTER
                   : zero[1] == RAFT_STANDBY ? BLX__MEMBER_STANDBY
                                             : BLX__MEMBER_SPARE;
    out->members[out->members_count++] = m;
    at = zero + 2;
  }
  return true;
}

/* ---- looking */

struct looking {
  const struct blx__disk *files;
  const struct blx__fsm *fsm;
  struct blx__consensus_found *out;
  bool begun;      /* the snapshot was looked at */
  const char *why; /* what is wrong with it */
  blx__rc rc;      /* of fsm->restore */
  blx_error *err;
};

static void take_snapshot(struct looking *l, struct blx__slice file) {
  struct store_snapshot s;
  struct snapshot_head head;
  struct blx__slice payload;
  size_t len = 0;
  if (!store_snapshot_parse(file, &s, &len)) {
    l->why = "the snapshot's head is damaged";
    return;
  }
  l->why = snapshot_check((struct blx__slice){file.data, len}, &head, &payload);
  if (l->why) return;
  l->out->snapshot_index = l->out->last_index = s.index;
  l->out->snapshot_term = l->out->last_term = s.term;
  l->out->time_ms = head.time_ms;
  for (uint64_t i = 0; i < s.members_count; i++) {
    uint64_t role = s.members[i].role;
    l->out->members[i] = (struct blx__consensus_member){.uid = s.members[i].uid};
    l->out->members[i].membership = role == RAFT_VOTER     ? BLX__MEMBER_VOTER
                                    : role == RAFT_STANDBY ? BLX__MEMBER_STANDBY
                                                           : BLX__MEMBER_SPARE;
  }
  l->out->members_count = (uint32_t)s.members_count;
  if (l->fsm) l->rc = l->fsm->restore(l->fsm->user, payload, l->err);
}

/* The entries come behind it. */
static void begin_with_snapshot(struct looking *l) {
  struct blx__buf file;
  if (l->begun) return;
  l->begun = true;
  blx__buf_init(&file, SNAPSHOT_BYTES_MAX + sizeof(struct store_snapshot_head));
  int code = l->files->ops->read(l->files->self, store_snapshot_name, &file).code;
  if (code == 0)
    take_snapshot(l, (struct blx__slice){file.data, file.len});
  else if (code != BLX_E_NOT_FOUND)
    l->why = "the snapshot cannot be read";
  blx__buf_free(&file);
}

static bool look_at_ops(struct looking *l, const struct store_record *r) {
  struct entry_reader ops;
  struct entry_head head;
  if (!entry_open(&ops, &head, r->data, r->len)) return false;
  if (head.time_ms > l->out->time_ms) l->out->time_ms = head.time_ms;
  if (!l->fsm) return true;
  l->fsm->begin(l->fsm->user, r->index, l->out->time_ms);
  for (struct blx__slice op; entry_next(&ops, &op);) l->fsm->apply(l->fsm->user, op, NULL);
  l->fsm->end(l->fsm->user);
  return true;
}

static void look_at(void *arg, const struct store_record *r) {
  struct looking *l = arg;
  begin_with_snapshot(l);
  if (l->why || l->rc.code != 0 || r->index <= l->out->snapshot_index) return;
  l->out->last_index = r->index;
  l->out->last_term = r->term;
  if (r->type == RAFT_CHANGE && !conf_decode(r, l->out)) l->why = "an entry that changes members cannot be read";
  if (r->type == RAFT_COMMAND && !look_at_ops(l, r))
    l->why = "an entry cannot be read by this version: it is damaged or was written by a newer one";
}

static blx__rc look_in(const char *dir, int dir_fd, const struct blx__fsm *fsm, struct blx__consensus_found *out,
                       blx_error *err) {
  struct blx__disk files = {0};
  struct store st;
  *out = (struct blx__consensus_found){0};
  BLX__TRY(disk_read_member(dir, dir_fd, &out->uid, out->cluster_id, err));
  BLX__TRY(blx__disk_open(NULL, dir_fd, &files, err));
  struct looking l = {.files = &files, .fsm = fsm, .out = out, .rc = BLX__OK, .err = err};
  store_init(&st, &files, 0);
  const char *why = store_look(&st, look_at, &l);
  if (!why) begin_with_snapshot(&l);
  out->term = st.term;
  store_free(&st);
  blx__disk_free(&files);
  if (why || l.why) return damaged(dir, why ? why : l.why, err);
  return l.rc;
}

blx__rc blx__consensus_look(const char *dir, const struct blx__fsm *fsm, struct blx__consensus_found *out,
                            blx_error *err) {
  int fd = -1;
  BLX__TRY(disk_lock_dir(dir, &fd, err));
  blx__rc rc = look_in(dir, fd, fsm, out, err);
  (void)close(fd);
  return rc;
}

/* ---- recovery */

static bool encode_change(struct blx__buf *out, uint64_t uid, uint64_t index, uint64_t term) {
  struct raft_configuration conf;
  struct raft_buffer buf = {0};
  char address[ADDRESS_SIZE];
  address_of(uid, address);
  raft_configuration_init(&conf);
  bool ok = raft_configuration_add(&conf, uid, address, RAFT_VOTER) == 0 && raft_configuration_encode(&conf, &buf) == 0;
  const struct store_record r = {
      .index = index, .term = term, .type = RAFT_CHANGE, .batch = index, .len = buf.len, .data = buf.base};
  ok = ok && store_encode(out, &r);
  raft_free(buf.base);
  raft_configuration_close(&conf);
  return ok;
}

static blx__rc append(struct store *st, struct blx__slice record, uint64_t index) {
  char name[BLX__DISK_NAME_MAX + 1];
  bool made = false;
  const struct blx__disk *d = st->d;
  BLX__TRY(store_append(st, record, index, 1, name, &made));
  BLX__TRY(d->ops->sync_now(d->self, name));
  BLX__TRY(d->ops->sync_now(d->self, NULL));
  return store_mark(st, index);
}

static blx__rc write_recovery(struct store *st, const struct blx__consensus_found *found, uint64_t term) {
  struct blx__buf record;
  const uint64_t index = found->last_index + 1;
  blx__buf_init(&record, 64 << 10);
  blx__rc rc = encode_change(&record, found->uid, index, term) ? BLX__OK : (blx__rc){BLX_E_NOMEM};
  if (rc.code == 0) rc = store_set_meta(st, term, found->uid);
  if (rc.code == 0) rc = append(st, (struct blx__slice){record.data, record.len}, index);
  blx__buf_free(&record);
  return rc;
}

static blx__rc fail_write(const char *dir, blx__rc rc, blx_error *err) {
  if (rc.code == 0) return rc;
  const char *why = rc.code == BLX_E_NOSPACE ? "the disk is full"
                    : rc.code == BLX_E_NOMEM ? "no memory"
                                             : "see its disk";
  return blx__fail(err, rc.code, "consensus", "'%s' could not be written (%s): look at it again before you go on", dir,
                   why);
}

static blx__rc recover_in(const char *dir, int dir_fd, const struct blx__consensus_recovery *r, uint64_t *term,
                          blx_error *err) {
  struct blx__consensus_found found;
  struct blx__disk files = {0};
  struct store st;
  BLX__TRY(look_in(dir, dir_fd, NULL, &found, err));
  if (found.last_index != r->last_index || found.last_term != r->last_term)
    return blx__fail(err, BLX_E_CONFLICT, "consensus", "the log in '%s' is not the one that was looked at: look again",
                     dir);
  *term = found.term > r->term ? found.term : r->term;
  if (found.last_term > *term) *term = found.last_term;
  *term += 1;
  BLX__TRY(disk_write_recovered(dir, r->below, found.last_index + 1, err));
  BLX__TRY(blx__disk_open(NULL, dir_fd, &files, err));
  store_init(&st, &files, 0);
  const char *why = store_load(&st, NULL, NULL);
  blx__rc rc = why ? damaged(dir, why, err) : fail_write(dir, write_recovery(&st, &found, *term), err);
  store_free(&st);
  blx__disk_free(&files);
  return rc;
}

blx__rc blx__consensus_recover(const char *dir, const struct blx__consensus_recovery *r, uint64_t *term,
                               blx_error *err) {
  int fd = -1;
  BLX__TRY(disk_lock_dir(dir, &fd, err));
  blx__rc rc = recover_in(dir, fd, r, term, err);
  (void)close(fd);
  return rc;
}

/* ---- a new group that begins with a snapshot */

enum { WRITE_BYTES = 4 << 20 };

static blx__rc write_parts(const struct blx__disk *d, const struct blx__slice *parts, size_t n) {
  uint64_t at = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t from = 0; from < parts[i].len; from += WRITE_BYTES) {
      size_t left = parts[i].len - from, len = left < WRITE_BYTES ? left : WRITE_BYTES;
      BLX__TRY(d->ops->write(d->self, store_snapshot_new, at, (struct blx__slice){parts[i].data + from, len}));
      at += len;
    }
  }
  return d->ops->sync_now(d->self, store_snapshot_new);
}

static blx__rc write_seed(const struct blx__disk *d, const struct blx__consensus_seed *seed, struct blx__slice file) {
  const struct store_snapshot s = {.index = seed->index,
                                   .term = 1,
                                   .conf_index = seed->index,
                                   .members_count = 1,
                                   .members = {{.uid = seed->uid, .role = RAFT_VOTER}}};
  struct store_snapshot_head head;
  struct store st;
  unsigned spared = 0;
  store_init(&st, d, 0);
  if (store_load(&st, NULL, NULL) != NULL || store_last(&st) != 0) {
    store_free(&st);
    return (blx__rc){BLX_E_CONFLICT};
  }
  store_snapshot_make(&st, &s, file.len, true, &head);
  const struct blx__slice parts[] = {file, {(const uint8_t *)&head, sizeof head}};
  blx__rc rc = store_set_meta(&st, 1, 0);
  if (rc.code == 0) rc = write_parts(d, parts, BLX__COUNT(parts));
  if (rc.code == 0) rc = store_snapshot_rename(&st);
  if (rc.code == 0) rc = d->ops->sync_now(d->self, NULL);
  if (rc.code == 0) rc = store_snapshot_done(&st, &s, true, 0, &spared);
  store_free(&st);
  return rc;
}

static blx__rc seed_in(const char *dir, int dir_fd, const struct blx__consensus_seed *seed, blx_error *err) {
  struct blx__disk files = {0};
  struct blx__buf file;
  BLX__TRY(blx__disk_open(NULL, dir_fd, &files, err));
  blx__buf_init(&file, SNAPSHOT_BYTES_MAX);
  const struct snapshot_head head = {.index = seed->index, .term = 1, .time_ms = seed->time_ms};
  blx__rc rc = snapshot_make(&file, &head, seed->payload) ? BLX__OK : (blx__rc){BLX_E_NOMEM};
  if (rc.code == 0) rc = write_seed(&files, seed, (struct blx__slice){file.data, file.len});
  blx__buf_free(&file);
  blx__disk_free(&files);
  return fail_write(dir, rc, err);
}

blx__rc blx__consensus_bootstrap_from(const char *dir, const struct blx__consensus_seed *seed, blx_error *err) {
  BLX__ASSERT(seed->uid > 0 && seed->index > 0);
  int fd = -1;
  BLX__TRY(disk_lock_dir(dir, &fd, err));
  blx__rc rc = disk_make_ready(dir, fd, err);
  if (rc.code == 0) rc = seed_in(dir, fd, seed, err);
  if (rc.code == 0) rc = disk_write_member(dir, seed->uid, seed->cluster_id, err);
  (void)close(fd);
  return rc;
}
