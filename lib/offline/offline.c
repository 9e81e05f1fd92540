#include "offline/offline.h"

#include "base/arena.h"
#include "consensus/recover.h"
#include "io/file.h"
#include "offline/backup_file.h"
#include "node/identity.h"
#include "schema/codec.h"
#include "schema/desc.h"
#include "schema/validate.h"
#include "state/state.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIR_BYTES = 256, INSPECT_ARENA = 32 << 20 };

static const char origin[] = "recover";

static blx__rc raft_dir(const char *data_dir, char out[DIR_BYTES], blx_error *err) {
  if (blx__str_format(out, DIR_BYTES, "%s/raft", data_dir)) return BLX__OK;
  return blx__fail(err, BLX_E_INVALID, origin, "the path of the data directory has more than %d bytes", DIR_BYTES - 8);
}

static void hex_of(const uint8_t id[BLX__CONSENSUS_CLUSTER_ID_BYTES], char out[33]) {
  for (size_t i = 0; i < BLX__CONSENSUS_CLUSTER_ID_BYTES; i++) (void)blx__str_format(out + 2 * i, 3, "%02x", id[i]);
}

/* ---- a state that only looks */

static blx__rc on_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  return blx__state_restore(user, snapshot, err);
}

static void on_begin(void *user, uint64_t index, uint64_t time_ms) {
  blx__state_begin(user, index, time_ms);
}

static void on_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  blx__state_apply(user, op, result);
}

static void on_end(void *user) {
  blx__state_end(user);
}

/* ---- inspect */

struct inspection {
  const char *data_dir;
  int lock;
  struct blx_identity *identity;
  struct blx__state *state;
  struct blx__consensus_found found;
  struct blx__arena arena;
};

static void inspection_end(struct inspection *in) {
  if (in->lock >= 0) (void)close(in->lock);
  blx__msg_free_owned(in->identity);
  blx__state_free(in->state);
  blx__arena_free(&in->arena);
}

/* Nothing is made where there is nothing. */
static blx__rc open_identity(struct inspection *in, blx_error *err) {
  BLX__TRY(blx__identity_read(in->data_dir, &in->identity, err));
  if (!in->identity)
    return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s is not the data directory of a node: give a server's",
                     in->data_dir);
  if (in->identity->role == BLX_NODE_ROLE_WORKER)
    return blx__fail(err, BLX_E_CONFLICT, origin,
                     "%s is the directory of the worker %s, which keeps no state: give a server's", in->data_dir,
                     in->identity->name);
  return blx__identity_lock(in->data_dir, &in->lock, err);
}

static blx__rc look(struct inspection *in, blx_error *err) {
  char dir[DIR_BYTES], id[33];
  BLX__TRY(open_identity(in, err));
  BLX__TRY(raft_dir(in->data_dir, dir, err));
  in->state = blx__state_new(NULL);
  if (!in->state) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for the state");
  const struct blx__fsm fsm = {
      .user = in->state, .begin = on_begin, .apply = on_apply, .end = on_end, .restore = on_restore};
  BLX__TRY(blx__consensus_look(dir, &fsm, &in->found, err));
  const char *why = blx__state_fatal(in->state);
  if (why) return blx__fail(err, BLX_E_CORRUPT, origin, "the log in %s cannot be followed: %s", dir, why);
  hex_of(in->found.cluster_id, id);
  if (!blx__str_eq(id, in->identity->cluster_id) || in->found.uid != in->identity->uid)
    return blx__fail(err, BLX_E_CORRUPT, origin,
                     "%s/identity and %s are not of the same node: were two directories swapped?", in->data_dir, dir);
  if (!*blx__state_cluster_id(in->state))
    return blx__fail(err, BLX_E_CONFLICT, origin,
                     "%s holds nothing of its cluster yet: empty it, and let it join as a new node", in->data_dir);
  return BLX__OK;
}

static bool votes(const struct blx__consensus_found *f, uint64_t uid) {
  for (uint32_t i = 0; i < f->members_count; i++)
    if (f->members[i].uid == uid) return f->members[i].membership == BLX__MEMBER_VOTER;
  return false;
}

static struct blx_recover_server *add_server(struct inspection *in, struct blx_recover_member *m, uint64_t uid) {
  struct blx_recover_server *s = blx__arena_alloc(&in->arena, sizeof *s);
  if (!s) return NULL;
  *s = (struct blx_recover_server)BLX_RECOVER_SERVER_INIT;
  s->uid = uid;
  s->voter = votes(&in->found, uid);
  m->servers[m->n_servers++] = s;
  return s;
}

/* Those of the state, and members of the group that it does not know (yet). */
static blx__rc list_servers(struct inspection *in, struct blx_recover_member *m, blx_error *err) {
  size_t most = blx__state_counts(in->state).nodes + in->found.members_count;
  m->servers = blx__arena_alloc(&in->arena, (most + 1) * sizeof *m->servers);
  bool ok = m->servers != NULL;
  const struct blx_node_info *n = blx__state_node_after_uid(in->state, 0);
  for (; ok && n; n = blx__state_node_after_uid(in->state, n->uid)) {
    if (n->role == BLX_NODE_ROLE_WORKER || (blx__state_is_gone(in->state, n->uid) && !votes(&in->found, n->uid)))
      continue;
    struct blx_recover_server *s = add_server(in, m, n->uid);
    ok = s != NULL;
    if (ok) s->name = n->name;
    if (ok) s->address = n->address;
  }
  for (uint32_t i = 0; ok && i < in->found.members_count; i++) {
    uint64_t uid = in->found.members[i].uid;
    if (!blx__state_node(in->state, uid)) ok = add_server(in, m, uid) != NULL;
  }
  return ok ? BLX__OK : blx__fail(err, BLX_E_NOMEM, origin, "no memory for a list of servers");
}

static blx__rc describe(struct inspection *in, struct blx_recover_member **out, blx_error *err) {
  const struct blx__consensus_found *f = &in->found;
  struct blx__state_counts counts = blx__state_counts(in->state);
  struct blx_recover_member m = BLX_RECOVER_MEMBER_INIT;
  void *owned = NULL;
  m.data_dir = in->data_dir;
  m.cluster_id = in->identity->cluster_id;
  m.cluster_name = blx__state_cluster_name(in->state);
  m.uid = f->uid;
  m.name = in->identity->name;
  m.term = f->term;
  m.last_index = f->last_index;
  m.last_term = f->last_term;
  m.snapshot_index = m.commit_index = f->snapshot_index;
  m.time_ms = f->time_ms;
  m.voter = votes(f, f->uid);
  m.next_node_uid = blx__state_next_node_uid(in->state);
  m.vms = counts.vms;
  m.instances = counts.instances;
  m.gone_below = blx__state_gone_below(in->state);
  BLX__TRY(list_servers(in, &m, err));
  BLX__TRY(blx__msg_own(blx__desc_recover_member(), &m, &owned, err));
  *out = owned;
  return BLX__OK;
}

blx__rc blx__offline_inspect(const char *data_dir, struct blx_recover_member **out, blx_error *err) {
  struct inspection in = {.data_dir = data_dir, .lock = -1, .arena = {.limit_bytes = INSPECT_ARENA}};
  blx__rc rc = look(&in, err);
  if (rc.code == 0) rc = describe(&in, out, err);
  inspection_end(&in);
  return rc;
}

/* ---- recover */

blx__rc blx__offline_recover(const struct blx_recover_member *seen, uint64_t term_above, uint64_t *term,
                             blx_error *err) {
  struct inspection in = {.data_dir = seen->data_dir, .lock = -1, .arena = {.limit_bytes = INSPECT_ARENA}};
  char dir[DIR_BYTES];
  blx__rc rc = look(&in, err);
  if (in.lock >= 0 && rc.code == 0) rc = raft_dir(seen->data_dir, dir, err);
  if (rc.code == 0 && !blx__state_node(in.state, in.found.uid))
    rc = blx__fail(err, BLX_E_CONFLICT, origin,
                   "the log in %s does not hold that this node joined: empty it, and let it join as a new node", dir);
  if (rc.code == 0) {
    const struct blx__consensus_recovery how = {.term = term_above,
                                                .below = blx__state_next_node_uid(in.state),
                                                .last_index = seen->last_index,
                                                .last_term = seen->last_term};
    rc = blx__consensus_recover(dir, &how, term, err);
  }
  inspection_end(&in);
  return rc;
}

/* ---- restore */

struct restoring {
  struct blx__state_reseed seed;
  struct blx__buf snapshot;
  struct blx_backup_info *info;
  char id[33];
};

static blx__rc on_record(void *user, struct blx__slice record, blx_error *err) {
  struct restoring *r = user;
  return blx__state_reseed_take(&r->seed, record, &r->snapshot, err);
}

/* The checksum of all of it first: what is made of it would be made of anything else too. */
static blx__rc read_backup(struct restoring *r, const struct blx__offline_restore *o, blx_error *err) {
  struct blx_backup_info *again = NULL;
  BLX__TRY(blx__backup_read(o->path, NULL, NULL, &r->info, err));
  r->seed.cluster_id = r->id;
  r->seed.cluster_name = o->cluster_name;
  r->seed.node_name = o->name;
  BLX__TRY(blx__backup_read(o->path, on_record, r, &again, err));
  bool same = blx__str_eq(again->sha256, r->info->sha256);
  blx__msg_free_owned(again);
  if (!same) return blx__fail(err, BLX_E_CONFLICT, origin, "%s was changed while it was read: try again", o->path);
  return blx__state_reseed_end(&r->seed, &r->snapshot, err);
}

/* A restore that was cut leaves no identity: that is written last. What it left is not taken for anything. */
static blx__rc check_empty(const char *data_dir, blx_error *err) {
  DIR *d = opendir(data_dir);
  if (!d) return blx__fail(err, BLX_E_IO, origin, "cannot list %s", data_dir);
  char found[64] = "";
  for (const struct dirent *e; !found[0] && (e = readdir(d)) != NULL;) {
    bool ours = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "lock") == 0;
    if (!ours) (void)blx__str_format(found, sizeof found, "%.60s", e->d_name);
  }
  (void)closedir(d);
  if (!found[0]) return BLX__OK;
  return blx__fail(err, BLX_E_EXISTS, origin,
                   "%s is not empty, it holds '%s': a restore makes a new node, give it an "
                   "empty directory",
                   data_dir, found);
}

static blx__rc write_node(struct restoring *r, const struct blx__offline_restore *o, const uint8_t *id,
                          blx_error *err) {
  char dir[DIR_BYTES];
  BLX__TRY(raft_dir(o->data_dir, dir, err));
  BLX__TRY(blx__dir_make(dir, 0700, err));
  struct blx__consensus_seed seed = {.uid = r->seed.node_uid,
                                     .index = r->seed.index,
                                     .time_ms = r->seed.time_ms,
                                     .payload = {r->snapshot.data, r->snapshot.len}};
  memcpy(seed.cluster_id, id, sizeof seed.cluster_id);
  struct blx_identity identity = {.struct_size = sizeof identity, .cluster_id = r->id, .uid = seed.uid};
  identity.cluster_name = r->seed.name;
  identity.name = o->name;
  identity.standing = BLX_STANDING_MEMBER;
  blx__rc rc = blx__consensus_bootstrap_from(dir, &seed, err);
  if (rc.code == 0) rc = blx__identity_write(o->data_dir, &identity, err);
  if (rc.code != 0) (void)blx__dir_remove_tree(dir, NULL).code;
  return rc;
}

static blx__rc restore(struct restoring *r, const struct blx__offline_restore *o, blx_error *err) {
  uint8_t id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  int lock = -1;
  if (!blx__name_ok(o->name, 63))
    return blx__fail(err, BLX_E_INVALID, origin, "name: a node's name must match " BLX__NAME_PATTERN);
  if (o->cluster_name && !blx__name_ok(o->cluster_name, 56))
    return blx__fail(err, BLX_E_INVALID, origin, "cluster_name: the name does not match " BLX__NAME_PATTERN);
  BLX__TRY(blx__random_bytes(id, sizeof id, err));
  hex_of(id, r->id);
  BLX__TRY(read_backup(r, o, err));
  BLX__TRY(blx__identity_lock(o->data_dir, &lock, err));
  blx__rc rc = check_empty(o->data_dir, err);
  if (rc.code == 0) rc = write_node(r, o, id, err);
  (void)close(lock);
  return rc;
}

blx__rc blx__offline_restore(const struct blx__offline_restore *o, char cluster_id[33], struct blx_backup_info **out,
                             blx_error *err) {
  struct restoring *r = calloc(1, sizeof *r);
  if (!r) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a restore");
  blx__buf_init(&r->snapshot, BLX__CONSENSUS_SNAPSHOT_MAX);
  blx__rc rc = restore(r, o, err);
  if (rc.code == 0) {
    memcpy(cluster_id, r->id, sizeof r->id);
    *out = r->info;
    r->info = NULL;
  }
  blx__msg_free_owned(r->info);
  blx__state_reseed_free(&r->seed);
  blx__buf_free(&r->snapshot);
  free(r);
  return rc;
}
