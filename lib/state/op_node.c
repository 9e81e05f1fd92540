#include "state/state_int.h"

blx__rc blx__state_op_cluster_init(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                   blx_error *err) {
  (void)out;
  const struct blx_op_cluster_init *o = op->cluster_init;
  if (st->data.cluster_id[0])
    return blx__fail(err, BLX_E_CONFLICT, "state", "the cluster %s was initialised before", st->data.cluster_name);
  if (!o->id || !o->id[0]) return blx__fail(err, BLX_E_INVALID, "state", "id: the cluster needs one");
  blx__str_copy(st->data.cluster_id, sizeof st->data.cluster_id, o->id);
  blx__str_copy(st->data.cluster_name, sizeof st->data.cluster_name, o->name ? o->name : "");
  return BLX__OK;
}

/* Taken from a message: what a node says of itself. What others know of it is not its to say. */
static void take_description(struct blx_node_info *to, const struct blx_node_info *from) {
  to->incarnation = from->incarnation;
  to->address = from->address;
  to->peer_address = from->peer_address;
  to->capacity = from->capacity;
  to->hypervisors = from->hypervisors;
  to->n_hypervisors = from->n_hypervisors;
  to->version = from->version;
  to->simulated = from->simulated;
  if (from->n_labels > 0) {
    to->labels = from->labels;
    to->n_labels = from->n_labels;
  }
}

blx__rc blx__state_op_node_join(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                blx_error *err) {
  const struct blx_node_info *o = op->node_join->node;
  if (!o || !blx__name_ok(o->name, 63))
    return blx__fail(err, BLX_E_INVALID, "state", "name: a node's name must match " BLX__NAME_PATTERN);
  if (blx__state_node_by_name(st, o->name))
    return blx__fail(err, BLX_E_EXISTS, "state", "the cluster has a node named %s already: choose another name",
                     o->name);
  if (st->data.nodes.count >= BLX__STATE_NODES_MAX)
    return blx__fail(err, BLX_E_QUOTA, "state", "the cluster has %d nodes, the most it can have",
                     (int)BLX__STATE_NODES_MAX);
  struct blx_node_info draft = BLX_NODE_INFO_INIT;
  take_description(&draft, o);
  draft.name = o->name;
  draft.uid = st->data.next_node_uid++;
  draft.joined_ms = st->data.time_ms;
  blx__state_put_node(st, &draft);
  out->uid = draft.uid;
  return BLX__OK;
}

static blx__rc known(const struct blx__state *st, uint64_t uid, struct state_node **out, blx_error *err) {
  struct state_node *e = blx__state_node_get(st, uid);
  if (!e)
    return blx__fail(err, BLX_E_NOT_FOUND, "state", "the cluster has no node with uid %llu: it must join first",
                     (unsigned long long)uid);
  *out = e;
  return BLX__OK;
}

blx__rc blx__state_op_node_register(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                    blx_error *err) {
  const struct blx_node_info *o = op->node_register->node;
  if (!o) return blx__fail(err, BLX_E_INVALID, "state", "node: the registration is empty");
  struct state_node *e = NULL;
  BLX__TRY(known(st, o->uid, &e, err));
  struct blx_node_info draft = *e->rec;
  take_description(&draft, o);
  blx__state_put_node(st, &draft);
  out->uid = o->uid;
  return BLX__OK;
}

blx__rc blx__state_op_node_voter(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                 blx_error *err) {
  const struct blx_op_node_voter *o = op->node_voter;
  struct state_node *e = NULL;
  BLX__TRY(known(st, o->uid, &e, err));
  out->uid = o->uid;
  if (!e->rec->voter == !o->voter) return BLX__OK;
  struct blx_node_info draft = *e->rec;
  draft.voter = o->voter ? 1 : 0;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}

blx__rc blx__state_op_node_cordon(struct blx__state *st, const struct blx_op *op, struct state_answer *out,
                                  blx_error *err) {
  const struct blx_op_node_cordon *o = op->node_cordon;
  const struct blx_node_info *n = blx__state_node_by_name(st, o->name);
  if (!n) return blx__fail(err, BLX_E_NOT_FOUND, "state", "there is no node named %s", o->name ? o->name : "''");
  out->uid = n->uid;
  if (!n->cordoned == !o->cordoned) return BLX__OK;
  struct blx_node_info draft = *n;
  draft.cordoned = o->cordoned ? 1 : 0;
  blx__state_put_node(st, &draft);
  return BLX__OK;
}
