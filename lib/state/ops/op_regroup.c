/* After a recovery: the cluster goes on with one server, whose log may lack what others had acknowledged. By that part
 * an instance may run on another node, or under a later epoch, than this state says. So a new era begins: epochs and
 * uids go on above all that the lost part can have given, and an instance that may run unknown to this state is held,
 * given to no node, until each node that was there has said what runs on it or is proved off. ARCHITECTURE.md has the
 * argument. */
#include "state/state_int.h"

typedef unsigned long long ull;

/* The lost part is finite: it assigned no instance 2^32 times, made no 2^24 objects and let no 2^16 nodes join. */
enum { EPOCH_BITS = 32, UID_BITS = 24, NODE_UID_BITS = 16 };

static uint64_t next_multiple(uint64_t above, unsigned bits) {
  BLX__ASSERT(above <= UINT64_MAX - ((uint64_t)2 << bits));
  return ((above >> bits) + 1) << bits;
}

uint64_t blx__state_era_after(uint64_t epoch) {
  return next_multiple(epoch, EPOCH_BITS);
}

uint64_t blx__state_uids_after(uint64_t uid) {
  return next_multiple(uid, UID_BITS);
}

/* ---- what is held */

uint64_t blx__state_era(const struct blx__state *st) {
  return st->data.era;
}

bool blx__state_unclear_rec(const struct blx__state *st, const struct blx_node_info *n) {
  return st->data.era != 0 && n->uid < st->data.nodes_from && n->clear_era != st->data.era;
}

bool blx__state_is_unclear(const struct blx__state *st, uint64_t uid) {
  const struct blx_node_info *n = blx__state_node(st, uid);
  return n && blx__state_unclear_rec(st, n);
}

uint32_t blx__state_unclear(const struct blx__state *st) {
  return st->data.unclear;
}

bool blx__state_is_held(const struct blx__state *st, const struct blx_instance *i) {
  if (st->data.unclear == 0 || i->uid >= st->data.uids_from) return false;
  return i->seen_era != st->data.era;
}

uint64_t blx__state_next_epoch(const struct blx__state *st, const struct blx_instance *i) {
  uint64_t next = i->epoch + 1;
  return i->uid < st->data.uids_from && next < st->data.era ? st->data.era : next;
}

/* ---- a new era */

static uint64_t highest_epoch(const struct blx__state *st) {
  uint64_t highest = st->data.era;
  BLX__MAP_FOREACH(pos, &st->data.instances) {
    const struct state_instance *e = blx__map_value(pos);
    if (e->rec->epoch > highest) highest = e->rec->epoch;
  }
  BLX__MAP_FOREACH(pos, &st->data.tombstones) {
    const struct blx_tombstone *t = blx__map_value(pos);
    if (t->epoch > highest) highest = t->epoch;
  }
  return highest;
}

static void touch_all(struct blx__state *st) {
  BLX__MAP_FOREACH(pos, &st->data.nodes) {
    const struct state_node *n = blx__map_value(pos);
    blx__state_touch_share(st, n->rec->uid);
  }
}

blx__rc blx__state_op_regroup(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                              blx_error *err) {
  const struct blx_op_regroup *o = op->regroup;
  struct state_data *d = &st->data;
  BLX__TRY(blx__state_may_recover(st, o->survivor_uid, o->below, err));
  out->uid = o->survivor_uid;
  if (o->below <= d->gone_below && o->survivor_uid == d->survivor_uid) return BLX__OK;
  d->era = blx__state_era_after(highest_epoch(st));
  d->uids_from = d->next_uid = blx__state_uids_after(d->next_uid);
  d->nodes_from = d->next_node_uid = next_multiple(d->next_node_uid, NODE_UID_BITS);
  blx__state_go_on_with(st, o->survivor_uid, d->nodes_from);
  d->unclear = 0;
  BLX__MAP_FOREACH(pos, &d->nodes) {
    const struct state_node *n = blx__map_value(pos);
    d->unclear += blx__state_unclear_rec(st, n->rec);
  }
  BLX__ASSERT(d->unclear == d->nodes.count);
  touch_all(st);
  return BLX__OK;
}

/* ---- a node is clear */

void blx__state_cleared(struct blx__state *st, uint64_t node_uid) {
  if (st->data.unclear == 0)
    touch_all(st); /* nothing is held any more */
  else
    blx__state_touch_share(st, node_uid);
}

blx__rc blx__state_op_node_clear(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_clear *o = op->node_clear;
  struct state_node *e = NULL;
  BLX__TRY(blx__state_node_known(st, o->node_uid, &e, err));
  if (o->era == 0 || o->era != st->data.era)
    return blx__fail(err, BLX_E_STALE, "state", "%s speaks of era %llu, it is %llu", e->rec->name, (ull)o->era,
                     (ull)st->data.era);
  if (o->incarnation == 0 || o->incarnation != e->rec->incarnation)
    return blx__fail(err, BLX_E_STALE, "state", "another incarnation of %s has registered: that one says what runs",
                     e->rec->name);
  out->uid = o->node_uid;
  if (!blx__state_unclear_rec(st, e->rec)) return BLX__OK;
  struct blx_node_info draft = *e->rec;
  draft.clear_era = o->era;
  blx__state_put_node(st, &draft);
  blx__state_cleared(st, o->node_uid);
  return BLX__OK;
}
