/* A snapshot: for each record four bytes of length, little-endian, and a snapshot_record; the head first, then what a
 * recovery left to know if there was one, nodes, configs, VMs, instances, keys, tombstones, quotas and the settings,
 * each in the order of its map; a length of zero ends it, so that one cut between two records is noticed. */
#include "state/state_int.h"
#include "lease/lease.h"
#include "schema/validate.h"

#include <stdlib.h>
#include <string.h>

enum {
  FORMAT = 1,
  AHEAD = 16,
  RECORD_SCRATCH_BYTES = 1 << 20,
};
#define DIGEST_BYTES_MAX ((size_t)1 << 30)

/* ---- write */

static bool add_length(struct blx__buf *out, uint32_t n) {
  uint8_t le[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
  return blx__buf_add(out, le, sizeof le);
}

static blx__rc no_room(const struct blx__buf *out, blx_error *err) {
  return blx__fail(err, BLX_E_BUSY, "state", "the state does not fit into a snapshot of %zu bytes", out->max);
}

blx__rc blx__state_add_record(struct blx__buf *out, const struct blx_snapshot_record *r, blx_error *err) {
  size_t at = out->len;
  if (!add_length(out, 0)) return no_room(out, err);
  blx_error why = {0};
  if (blx__msg_encode(blx__desc_snapshot_record(), r, out, &why).code != 0) {
    if (out->max - out->len < RECORD_SCRATCH_BYTES) return no_room(out, err);
    return blx__fail(err, BLX_E_INTERNAL, "state", "a record cannot be written: %s", why.message);
  }
  uint32_t n = (uint32_t)(out->len - at - 4);
  for (unsigned i = 0; i < 4; i++) out->data[at + i] = (uint8_t)(n >> (8 * i));
  return BLX__OK;
}

enum kind { NODES, CONFIGS, VMS, INSTANCES, KEYS, TOMBSTONES, QUOTAS, SETTINGS, KINDS };

struct blx__state_frozen {
  char cluster_id[33], cluster_name[57];
  uint8_t audit_head[BLX__SHA256_BYTES];
  struct blx_snapshot_head head;
  struct blx_recover_mark mark; /* below 0: none */
  size_t counts[KINDS];
  void *recs[]; /* in the order of the kinds, each in the order of its map; borrowed from the state */
};

void blx__state_release(struct blx__state *st, void *rec) {
  if (st->frozen == 0) {
    blx__msg_free_owned(rec);
    return;
  }
  if (st->released_count == st->released_room) {
    st->released_room = st->released_room ? 2 * st->released_room : 256;
    st->released = realloc(st->released, st->released_room * sizeof *st->released);
    STATE_MUST(st->released != NULL);
  }
  st->released[st->released_count++] = rec;
}

/* What @kind's map has as values holds the record, but for keys and tombstones, which are records. */
static void *record_of(enum kind kind, void *value) {
  switch (kind) {
  case NODES: return ((struct state_node *)value)->rec;
  case CONFIGS: return ((struct state_config *)value)->rec;
  case VMS: return ((struct state_vm *)value)->rec;
  case INSTANCES: return ((struct state_instance *)value)->rec;
  case QUOTAS: return ((struct state_tenant *)value)->rec;
  case KEYS:
  case TOMBSTONES:
  case SETTINGS:
  case KINDS: break;
  }
  return value;
}

struct blx__state_frozen *blx__state_freeze(struct blx__state *st, blx_error *err) {
  const struct state_data *d = &st->data;
  const struct blx__map *maps[SETTINGS] = {&d->nodes, &d->configs,    &d->vms,   &d->instances,
                                           &d->keys,  &d->tombstones, &d->quotas};
  size_t total = d->settings ? 1 : 0, at = 0;
  if (st->fatal[0]) {
    (void)blx__fail(err, BLX_E_FATAL, "state", "%s", st->fatal);
    return NULL;
  }
  for (int k = 0; k < SETTINGS; k++) total += maps[k]->count;
  struct blx__state_frozen *z = malloc(sizeof *z + total * sizeof z->recs[0]);
  if (!z) {
    (void)blx__fail(err, BLX_E_NOMEM, "state", "no memory for a list of %zu records", total);
    return NULL;
  }
  memcpy(z->cluster_id, d->cluster_id, sizeof z->cluster_id);
  memcpy(z->cluster_name, d->cluster_name, sizeof z->cluster_name);
  z->head = (struct blx_snapshot_head)BLX_SNAPSHOT_HEAD_INIT;
  z->head.format = FORMAT;
  z->head.cluster_id = z->cluster_id;
  z->head.cluster_name = z->cluster_name;
  z->head.index = d->index;
  z->head.time_ms = d->time_ms;
  z->head.next_uid = d->next_uid;
  z->head.next_node_uid = d->next_node_uid;
  z->mark = (struct blx_recover_mark)BLX_RECOVER_MARK_INIT;
  z->mark.survivor_uid = d->survivor_uid;
  z->mark.below = d->gone_below;
  z->mark.index = d->gone_index;
  z->head.audit_seq = d->audit_seq;
  memcpy(z->audit_head, d->audit_head, sizeof z->audit_head);
  if (d->audit_seq > 0) z->head.audit_head = (struct blx_bytes){z->audit_head, sizeof z->audit_head};
  z->counts[SETTINGS] = d->settings ? 1 : 0;
  for (int k = 0; k < SETTINGS; k++) {
    z->counts[k] = maps[k]->count;
    size_t from = at;
    BLX__MAP_FOREACH(pos, maps[k]) z->recs[at++] = blx__map_value(pos);
    /* Each entry is somewhere else in memory: asked for early, they come beside each other. */
    for (size_t i = from; i < at; i++) {
      if (i + AHEAD < at) __builtin_prefetch(z->recs[i + AHEAD]);
      z->recs[i] = record_of((enum kind)k, z->recs[i]);
    }
  }
  if (d->settings) z->recs[at++] = d->settings;
  BLX__ASSERT(at == total);
  st->frozen++;
  return z;
}

void blx__state_thaw(struct blx__state *st, struct blx__state_frozen *frozen) {
  BLX__ASSERT(st->frozen > 0);
  free(frozen);
  if (--st->frozen > 0) return;
  for (size_t i = 0; i < st->released_count; i++) blx__msg_free_owned(st->released[i]);
  st->released_count = 0;
}

static blx__rc write_one(enum kind kind, void *rec, struct blx__buf *out, blx_error *err) {
  struct blx_snapshot_record r = BLX_SNAPSHOT_RECORD_INIT;
  switch (kind) {
  case NODES: r.node = rec; break;
  case CONFIGS: r.config = rec; break;
  case VMS: r.vm = rec; break;
  case INSTANCES: r.instance = rec; break;
  case KEYS: r.idempotency = rec; break;
  case TOMBSTONES: r.tombstone = rec; break;
  case QUOTAS: r.quota = rec; break;
  case SETTINGS: r.settings = rec; break;
  case KINDS: break;
  }
  return blx__state_add_record(out, &r, err);
}

static blx__rc write_first(const struct blx__state_frozen *z, bool mark, struct blx__buf *out, blx_error *err) {
  struct blx_snapshot_head head = z->head;
  struct blx_recover_mark gone = z->mark;
  struct blx_snapshot_record first = BLX_SNAPSHOT_RECORD_INIT, second = BLX_SNAPSHOT_RECORD_INIT;
  first.head = &head;
  second.recover_mark = &gone;
  BLX__TRY(blx__state_add_record(out, &first, err));
  return mark && gone.below > 0 ? blx__state_add_record(out, &second, err) : BLX__OK;
}

/* @partly: as a backup, else as a snapshot. */
static blx__rc write_records(const struct blx__state_frozen *z, struct blx__state_cursor *c, size_t limit, bool partly,
                             struct blx__buf *out, blx_error *err) {
  if (!c->begun) BLX__TRY(write_first(z, !partly, out, err));
  c->begun = true;
  for (; c->kind < KINDS; c->kind++, c->done = 0) {
    bool left_out = partly && c->kind == KEYS;
    for (; c->done < z->counts[c->kind]; c->done++, c->at++) {
      if (left_out) continue;
      if (out->len >= limit) return BLX__OK;
      BLX__TRY(write_one((enum kind)c->kind, z->recs[c->at], out, err));
    }
  }
  return BLX__OK;
}

static blx__rc write_all(const struct blx__state_frozen *z, struct blx__buf *out, blx_error *err) {
  struct blx__state_cursor c = {0};
  BLX__TRY(write_records(z, &c, SIZE_MAX, false, out, err));
  return add_length(out, 0) ? BLX__OK : no_room(out, err);
}

blx__rc blx__state_write_part(const struct blx__state_frozen *frozen, struct blx__state_cursor *at, size_t limit,
                              struct blx__buf *out, bool *done, blx_error *err) {
  BLX__TRY(write_records(frozen, at, limit, true, out, err));
  *done = at->kind == KINDS;
  return BLX__OK;
}

struct blx__state_frozen_counts blx__state_frozen_counts(const struct blx__state_frozen *frozen) {
  return (struct blx__state_frozen_counts){.index = frozen->head.index,
                                           .time_ms = frozen->head.time_ms,
                                           .nodes = (uint32_t)frozen->counts[NODES],
                                           .vms = (uint32_t)frozen->counts[VMS],
                                           .instances = (uint32_t)frozen->counts[INSTANCES],
                                           .configs = (uint32_t)frozen->counts[CONFIGS]};
}

size_t blx__state_released(const struct blx__state *st) {
  return st->released_count;
}

blx__rc blx__state_write(const struct blx__state_frozen *frozen, struct blx__buf *out, blx_error *err) {
  size_t before = out->len;
  blx__rc rc = write_all(frozen, out, err);
  if (rc.code != 0) out->len = before;
  return rc;
}

blx__rc blx__state_snapshot(struct blx__state *st, struct blx__buf *out, blx_error *err) {
  blx_error why = {0};
  struct blx__state_frozen *z = blx__state_freeze(st, &why);
  if (!z) return blx__fail_as(err, &why);
  blx__rc rc = blx__state_write(z, out, err);
  blx__state_thaw(st, z);
  return rc;
}

blx__rc blx__state_digest(struct blx__state *st, uint8_t out[BLX__SHA256_BYTES], blx_error *err) {
  struct blx__buf b;
  blx__buf_init(&b, DIGEST_BYTES_MAX);
  blx__rc rc = blx__state_snapshot(st, &b, err);
  if (rc.code == 0) {
    struct blx__slice all = {b.data, b.len};
    blx__sha256(&all, 1, out);
  }
  blx__buf_free(&b);
  return rc;
}

/* ---- read */

static blx__rc damaged(blx_error *err, const char *what) {
  return blx__fail(err, BLX_E_CORRUPT, "state", "the snapshot is damaged: %s", what);
}

static blx__rc read_head(struct blx__state *st, const struct blx_snapshot_head *h, blx_error *err) {
  struct state_data *d = &st->data;
  if (h->format != FORMAT)
    return blx__fail(err, BLX_E_UNSUPPORTED, "state", "the snapshot has format %u, this version reads %d: upgrade it",
                     h->format, FORMAT);
  blx__str_copy(d->cluster_id, sizeof d->cluster_id, h->cluster_id ? h->cluster_id : "");
  blx__str_copy(d->cluster_name, sizeof d->cluster_name, h->cluster_name ? h->cluster_name : "");
  d->index = h->index;
  d->time_ms = h->time_ms;
  d->next_uid = h->next_uid;
  d->next_node_uid = h->next_node_uid;
  d->audit_seq = h->audit_seq;
  if (h->audit_head.len != (d->audit_seq > 0 ? sizeof d->audit_head : 0))
    return damaged(err, "the head of the audit log has another length than a hash");
  if (h->audit_head.len > 0) memcpy(d->audit_head, h->audit_head.data, sizeof d->audit_head);
  if (d->next_uid == 0 || d->next_node_uid == 0) return damaged(err, "a counter is zero");
  return BLX__OK;
}

static blx__rc read_node(struct blx__state *st, const struct blx_node_info *n, blx_error *err) {
  if (n->uid == 0 || n->uid >= st->data.next_node_uid || !blx__name_ok(n->name, 63))
    return damaged(err, "a node has no uid or name");
  if (blx__state_node_get(st, n->uid) || blx__state_node_by_name(st, n->name))
    return damaged(err, "a node comes twice");
  blx__state_put_node(st, n);
  return BLX__OK;
}

static blx__rc read_config(struct blx__state *st, const struct blx_config *c, blx_error *err) {
  if (!c->sha256 || !c->sha256[0] || blx__state_config(st, c->sha256))
    return damaged(err, "a config comes twice or has no digest");
  blx__state_put_config(st, c);
  return BLX__OK;
}

static blx__rc read_vm(struct blx__state *st, const struct blx_vm *vm, blx_error *err) {
  if (vm->uid == 0 || vm->uid >= st->data.next_uid || !vm->spec || !blx__name_ok(vm->spec->name, 56))
    return damaged(err, "a VM has no uid or name");
  if (!blx__name_ok(vm->tenant, STATE_TENANT_MAX)) return damaged(err, "a VM has no tenant");
  if (blx__placement_spec_check(vm->spec, NULL).code != 0) return damaged(err, "the spec of a VM contradicts itself");
  if (blx__state_vm_get(st, vm->uid) || blx__state_vm_named(st, vm->tenant, vm->spec->name))
    return damaged(err, "a VM comes twice");
  const char *sha256 = vm->spec->config_sha256;
  if (sha256 && sha256[0] && !blx__state_config(st, sha256)) return damaged(err, "the config of a VM is missing");
  blx__state_put_vm(st, vm);
  return BLX__OK;
}

static blx__rc read_instance(struct blx__state *st, const struct blx_instance *i, blx_error *err) {
  if (i->uid == 0 || i->uid >= st->data.next_uid || !blx__name_ok(i->name, 63) || i->ordinal == 0)
    return damaged(err, "an instance has no uid or name");
  struct state_vm *vm = blx__state_vm_get(st, i->vm_uid);
  if (!vm) return damaged(err, "the VM of an instance is missing");
  if (i->node_uid && !blx__state_node_get(st, i->node_uid)) return damaged(err, "the node of an instance is missing");
  if (i->node_uid && i->epoch == 0) return damaged(err, "an instance has a node and no epoch");
  if (blx__state_instance_get(st, i->uid) || blx__state_instance_named(st, vm->rec->tenant, i->name) ||
      blx__map_get_u64(&vm->instances, i->ordinal))
    return damaged(err, "an instance comes twice");
  if (!i->node_uid && blx__state_scaled_away(vm->rec, i))
    return damaged(err, "an instance that its VM is not to have is on no node");
  blx__state_put_instance(st, i);
  return BLX__OK;
}

static blx__rc read_key(struct blx__state *st, const struct blx_idempotency *k, blx_error *err) {
  if (!k->key || !k->key[0] || !k->result || blx__map_get_str(&st->data.keys, k->key))
    return damaged(err, "a request id comes twice or has no answer");
  blx__state_key_put(st, k);
  return BLX__OK;
}

static blx__rc read_tombstone(struct blx__state *st, const struct blx_tombstone *t, blx_error *err) {
  if (t->instance_uid == 0 || t->instance_uid >= st->data.next_uid || t->epoch == 0 || !t->spec ||
      !blx__name_ok(t->instance, 63))
    return damaged(err, "a tombstone has no uid, epoch, name or spec");
  if (!blx__state_node_get(st, t->node_uid)) return damaged(err, "the node of a tombstone is missing");
  if (blx__map_get_u64(&st->data.tombstones, t->instance_uid) || blx__state_instance_get(st, t->instance_uid))
    return damaged(err, "a tombstone comes twice, or its instance is there");
  if (blx__placement_spec_check(t->spec, NULL).code != 0)
    return damaged(err, "the spec of a tombstone contradicts itself");
  blx__state_put_tombstone(st, t);
  return BLX__OK;
}

static blx__rc read_settings(struct blx__state *st, const struct blx_settings *s, blx_error *err) {
  if (st->data.settings) return damaged(err, "it has settings twice");
  if (!s->lease || blx__lease_check(s->lease, NULL).code != 0 ||
      (s->lease_before && blx__lease_check(s->lease_before, NULL).code != 0))
    return damaged(err, "its lease settings contradict each other");
  if (s->placement && blx__placement_settings_check(s->placement, NULL).code != 0)
    return damaged(err, "its placement settings contradict each other");
  blx__state_put_settings(st, s);
  return BLX__OK;
}

static blx__rc read_quota(struct blx__state *st, const struct blx_quota *q, blx_error *err) {
  const struct state_tenant *e = blx__state_tenant_get(st, q->tenant);
  if (!blx__name_ok(q->tenant, STATE_TENANT_MAX) || (e && e->rec))
    return damaged(err, "a quota comes twice or has no tenant");
  blx__state_put_quota(st, q);
  return BLX__OK;
}

static blx__rc read_mark(struct blx__state *st, const struct blx_recover_mark *m, blx_error *err) {
  struct state_data *d = &st->data;
  if (d->gone_below != 0 || m->below == 0 || m->below > d->next_node_uid || m->survivor_uid >= m->below)
    return damaged(err, "its note of a recovery is not one");
  d->survivor_uid = m->survivor_uid;
  d->gone_below = m->below;
  d->gone_index = m->index;
  return BLX__OK;
}

static blx__rc read_record(struct blx__state *st, struct blx__slice bytes, bool first, blx_error *err) {
  void *msg = NULL;
  blx_error why = {0};
  blx__arena_reset(&st->scratch);
  if (blx__msg_decode(blx__desc_snapshot_record(), &st->scratch, bytes, &msg, &why).code != 0)
    return damaged(err, why.message);
  if (blx__msg_refuse_unknown(blx__desc_snapshot_record(), msg, &why).code != 0)
    return blx__fail(err, BLX_E_UNSUPPORTED, "state", "the snapshot is of a newer version, upgrade this node: %s",
                     why.message);
  const struct blx_snapshot_record *r = msg;
  int set = !!r->head + !!r->node + !!r->vm + !!r->instance + !!r->config + !!r->idempotency + !!r->tombstone +
            !!r->settings + !!r->recover_mark + !!r->quota;
  if (set != 1 || first != (r->head != NULL)) return damaged(err, "its records are not in order");
  if (r->head) return read_head(st, r->head, err);
  if (r->node) return read_node(st, r->node, err);
  if (r->config) return read_config(st, r->config, err);
  if (r->vm) return read_vm(st, r->vm, err);
  if (r->instance) return read_instance(st, r->instance, err);
  if (r->tombstone) return read_tombstone(st, r->tombstone, err);
  if (r->settings) return read_settings(st, r->settings, err);
  if (r->quota) return read_quota(st, r->quota, err);
  if (r->recover_mark) return read_mark(st, r->recover_mark, err);
  return read_key(st, r->idempotency, err);
}

/* What only shows when all records are there. A deleted VM goes with its last instance: alone it would stay for ever.
 */
static blx__rc check_whole(const struct blx__state *st, blx_error *err) {
  if (st->data.next_uid == 0) return damaged(err, "it has no head");
  BLX__MAP_FOREACH(pos, &st->data.vms) {
    const struct state_vm *vm = blx__map_value(pos);
    if (vm->rec->deleting && vm->instances.count == 0) return damaged(err, "a deleted VM has no instances");
  }
  return BLX__OK;
}

static blx__rc read_all(struct blx__state *st, struct blx__slice in, blx_error *err) {
  for (bool first = true;; first = false) {
    if (in.len < 4) return damaged(err, "it ends too early");
    uint32_t n =
        (uint32_t)in.data[0] | (uint32_t)in.data[1] << 8 | (uint32_t)in.data[2] << 16 | (uint32_t)in.data[3] << 24;
    in.data += 4;
    in.len -= 4;
    if (n == 0) break;
    if (n > in.len) return damaged(err, "a record is cut");
    BLX__TRY(read_record(st, (struct blx__slice){in.data, n}, first, err));
    in.data += n;
    in.len -= n;
  }
  if (in.len > 0) return damaged(err, "something follows its end");
  return check_whole(st, err);
}

blx__rc blx__state_restore(struct blx__state *st, struct blx__slice snapshot, blx_error *err) {
  BLX__ASSERT(st->frozen == 0);
  struct state_data before = st->data;
  st->data = (struct state_data){0};
  st->quiet = true;
  blx__rc rc = read_all(st, snapshot, err);
  st->quiet = false;
  blx__map_clear(&st->data.unsettled);
  if (rc.code != 0) {
    blx__state_data_free(&st->data);
    st->data = before;
    return rc;
  }
  blx__state_data_free(&before);
  blx__state_events_forget(st);
  return BLX__OK;
}
