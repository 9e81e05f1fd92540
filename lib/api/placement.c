/* Placement without a cluster: a fleet of copied node records, and lib/placement asked about it. */
#include "api/api_int.h"
#include "placement/place.h"
#include "schema/validate.h"

#include <blixard/placement.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOCATED_MAX = 1 << 30 };

_Static_assert((int)BLX_PLACEMENT_TEXT_BYTES == (int)BLX__PLACEMENT_EXPLAIN_BYTES, "as the header says");

/* What is behind a blx_placement. */
struct placement {
  pthread_mutex_t lock;
  size_t n, max;
  struct blx__place_node *nodes; /* by uid; what they point to is in the record of the same place */
  struct blx_node_info **records;
};

static const char origin[] = "placement";

static int misuse(blx_error *reterr, const char *sentence) {
  return blx__fail(reterr, BLX_E_MISUSE, origin, "%s", sentence).code;
}

/* ---- open and close */

static void placement_free(struct placement *p) {
  for (size_t i = 0; i < p->n; i++) blx__msg_free_owned(p->records[i]);
  pthread_mutex_destroy(&p->lock);
  free(p->records);
  free(p->nodes);
  free(p);
}

static struct placement *placement_new(size_t max) {
  struct placement *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  pthread_mutex_init(&p->lock, NULL);
  p->max = max;
  p->nodes = calloc(max, sizeof *p->nodes);
  p->records = calloc(max, sizeof *p->records);
  if (p->nodes && p->records) return p;
  placement_free(p);
  return NULL;
}

int blx_placement_open(const struct blx_placement_options *options, blx_placement **out, blx_error *reterr) {
  struct blx_placement_options o = BLX_PLACEMENT_OPTIONS_INIT;
  if (!out) return misuse(reterr, "the place for the placement is NULL");
  blx__rc rc = options ? blx__api_take_struct(&o, sizeof o, sizeof(size_t), options, origin, reterr) : BLX__OK;
  if (rc.code != 0) return rc.code;
  if (o.nodes_max > BLX_PLACEMENT_NODES_MAX)
    return blx__fail(reterr, BLX_E_INVALID, origin, "nodes_max: %u is above %d", o.nodes_max, BLX_PLACEMENT_NODES_MAX)
        .code;
  struct placement *p = placement_new(o.nodes_max ? o.nodes_max : BLX_PLACEMENT_NODES_MAX);
  if (!p) return blx__fail(reterr, BLX_E_NOMEM, origin, "no memory for a placement").code;
  blx_placement *handle = blx__api_handle_new(BLX__API_PLACEMENT, p, reterr);
  if (!handle) {
    placement_free(p);
    return BLX_E_BUSY;
  }
  *out = handle;
  return 0;
}

void blx_placement_close(blx_placement *placement) {
  struct placement *p = placement ? blx__api_handle_take(placement, BLX__API_PLACEMENT, NULL) : NULL;
  if (!p) return;
  bool mine = blx__api_handle_kill(placement);
  blx__api_handle_put(placement);
  if (!mine) return;
  blx__api_handle_drop(placement);
  placement_free(p);
}

static struct placement *enter(const blx_placement *handle, blx_error *reterr) {
  struct placement *p = blx__api_handle_take(handle, BLX__API_PLACEMENT, reterr);
  if (p) pthread_mutex_lock(&p->lock);
  return p;
}

static void leave(const blx_placement *handle, struct placement *p) {
  pthread_mutex_unlock(&p->lock);
  blx__api_handle_put(handle);
}

/* ---- nodes */

/* Where @uid is, or would be. */
static size_t place_of(const struct placement *p, uint64_t uid) {
  size_t lo = 0, hi = p->n;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (p->nodes[mid].node.uid < uid)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static bool is_at(const struct placement *p, size_t at, uint64_t uid) {
  return at < p->n && p->nodes[at].node.uid == uid;
}

static int not_found(uint64_t uid, blx_error *reterr) {
  return blx__fail(reterr, BLX_E_NOT_FOUND, origin, "there is no node with uid %llu", (unsigned long long)uid).code;
}

static struct blx__place_node view_of(const struct blx_node_info *n) {
  bool heard = n->status != BLX_NODE_STATUS_SUSPECT;
  return (struct blx__place_node){
      .node = blx__placement_node_of(n),
      .usable = heard,
      .why_not = heard ? NULL : "has not been heard from",
  };
}

static blx__rc insert(struct placement *p, struct blx_node_info *record, blx_error *err) {
  size_t at = place_of(p, record->uid);
  if (is_at(p, at, record->uid)) {
    blx__msg_free_owned(p->records[at]);
  } else {
    if (p->n == p->max)
      return blx__fail(err, BLX_E_BUSY, origin, "%zu nodes are known, which is nodes_max: remove one first", p->max);
    memmove(&p->nodes[at + 1], &p->nodes[at], (p->n - at) * sizeof *p->nodes);
    memmove(&p->records[at + 1], &p->records[at], (p->n - at) * sizeof *p->records);
    p->n++;
  }
  p->records[at] = record;
  p->nodes[at] = view_of(record);
  return BLX__OK;
}

int blx_placement_set_node(blx_placement *placement, const struct blx_node_info *node, blx_error *reterr) {
  if (!node) return misuse(reterr, "the node is NULL");
  void *record = NULL;
  blx__rc rc = blx__msg_own(blx__desc_node_info(), node, &record, reterr);
  if (rc.code == 0) rc = blx__msg_validate(blx__desc_node_info(), record, reterr);
  if (rc.code == 0 && ((struct blx_node_info *)record)->uid == 0)
    rc = blx__fail(reterr, BLX_E_INVALID, origin, "uid: 0 is below 1");
  struct placement *p = rc.code == 0 ? enter(placement, reterr) : NULL;
  if (p) {
    rc = insert(p, record, reterr);
    leave(placement, p);
  } else if (rc.code == 0) {
    rc.code = BLX_E_MISUSE;
  }
  if (rc.code != 0) blx__msg_free_owned(record);
  return rc.code;
}

int blx_placement_set_allocated(blx_placement *placement, uint64_t uid, uint64_t vcpus, uint64_t memory_mib,
                                blx_error *reterr) {
  if (vcpus > ALLOCATED_MAX || memory_mib > ALLOCATED_MAX)
    return blx__fail(reterr, BLX_E_INVALID, origin, "allocated: %llu vCPUs and %llu MiB; neither may be above %d",
                     (unsigned long long)vcpus, (unsigned long long)memory_mib, ALLOCATED_MAX)
        .code;
  struct placement *p = enter(placement, reterr);
  if (!p) return BLX_E_MISUSE;
  size_t at = place_of(p, uid);
  int rc = is_at(p, at, uid) ? 0 : not_found(uid, reterr);
  if (rc == 0) {
    p->nodes[at].node.allocated_cpu_milli = vcpus * 1000;
    p->nodes[at].node.allocated_memory_mib = memory_mib;
  }
  leave(placement, p);
  return rc;
}

int blx_placement_remove_node(blx_placement *placement, uint64_t uid, blx_error *reterr) {
  struct placement *p = enter(placement, reterr);
  if (!p) return BLX_E_MISUSE;
  size_t at = place_of(p, uid);
  int rc = is_at(p, at, uid) ? 0 : not_found(uid, reterr);
  if (rc == 0) {
    blx__msg_free_owned(p->records[at]);
    p->n--;
    memmove(&p->nodes[at], &p->nodes[at + 1], (p->n - at) * sizeof *p->nodes);
    memmove(&p->records[at], &p->records[at + 1], (p->n - at) * sizeof *p->records);
  }
  leave(placement, p);
  return rc;
}

/* ---- requests */

/* A request as lib/placement takes it. Its selector is the embedder's. */
struct asked {
  struct blx__place_request place;
  const uint64_t *replica_uids;
  size_t n_replica_uids;
  bool reserve;
};

/* No memory: the copy is flat, and what it points to is looked at only. */
static blx__rc take_spec(const struct blx_vm_spec *given, struct blx__placement_need *need, int32_t *strategy,
                         blx_error *err) {
  struct blx_vm_spec spec;
  BLX__TRY(blx__api_take_struct(&spec, sizeof spec, sizeof(size_t), given, origin, err));
  BLX__TRY(blx__msg_defaults(blx__desc_vm_spec(), NULL, &spec, err));
  if (!spec.name || !*spec.name) spec.name = "unnamed"; /* a decision needs none */
  BLX__TRY(blx__msg_validate(blx__desc_vm_spec(), &spec, err));
  for (size_t i = 0; i < spec.n_node_selector; i++)
    if (spec.node_selector[i]->struct_size < sizeof(struct blx_label))
      return blx__fail(err, BLX_E_UNSUPPORTED, origin, "node_selector[%zu]: struct_size is not set", i);
  *strategy = spec.strategy;
  *need = blx__placement_need_of(&spec, NULL);
  return blx__placement_spec_check(&spec, err);
}

static blx__rc take_request(const struct blx_placement_request *given, struct asked *out, blx_error *err) {
  struct blx_placement_request r;
  if (!given) return blx__fail(err, BLX_E_MISUSE, origin, "the request is NULL");
  BLX__TRY(blx__api_take_struct(&r, sizeof r, sizeof(size_t), given, origin, err));
  if (!r.spec) return blx__fail(err, BLX_E_INVALID, origin, "spec: is required");
  if (r.n_replica_uids > BLX_PLACEMENT_REPLICAS_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "replica_uids: %zu are more than %d", r.n_replica_uids,
                     BLX_PLACEMENT_REPLICAS_MAX);
  if (r.n_replica_uids > 0 && !r.replica_uids)
    return blx__fail(err, BLX_E_INVALID, origin, "replica_uids: is NULL and has %zu elements", r.n_replica_uids);
  if (r.reserve > 1) return blx__fail(err, BLX_E_INVALID, origin, "reserve: %u is neither 0 nor 1", r.reserve);
  *out = (struct asked){.replica_uids = r.replica_uids, .n_replica_uids = r.n_replica_uids, .reserve = r.reserve != 0};
  out->place.sticky_uid = r.sticky_uid;
  out->place.seed = r.seed;
  return take_spec(r.spec, &out->place.need, &out->place.strategy, err);
}

/* Note the replicas on their nodes, or take the notes back: each request leaves the fleet as it was. */
static void count_replicas(struct placement *p, const struct asked *asked, bool there) {
  for (size_t i = 0; i < asked->n_replica_uids; i++) {
    size_t at = place_of(p, asked->replica_uids[i]);
    if (!is_at(p, at, asked->replica_uids[i])) continue;
    if (there)
      p->nodes[at].same_vm_count++;
    else
      p->nodes[at].same_vm_count--;
  }
}

/* The placement, its replicas counted, and the request; leave_with() undoes it. NULL: *@rc says why. */
static struct placement *enter_with(const blx_placement *handle, const struct blx_placement_request *request,
                                    struct asked *asked, int *rc, blx_error *reterr) {
  *rc = take_request(request, asked, reterr).code;
  if (*rc != 0) return NULL;
  struct placement *p = enter(handle, reterr);
  if (!p) *rc = BLX_E_MISUSE;
  if (p) count_replicas(p, asked, true);
  return p;
}

static void leave_with(const blx_placement *handle, struct placement *p, const struct asked *asked) {
  count_replicas(p, asked, false);
  leave(handle, p);
}

int blx_placement_choose(blx_placement *placement, const struct blx_placement_request *request, uint64_t *out_uid,
                         blx_error *reterr) {
  struct asked asked;
  int rc;
  if (!out_uid) return misuse(reterr, "the place for the uid is NULL");
  struct placement *p = enter_with(placement, request, &asked, &rc, reterr);
  if (!p) return rc;
  int32_t at = blx__place_choose(p->nodes, p->n, &asked.place);
  if (at == BLX__PLACEMENT_NONE) {
    rc = blx__fail(reterr, BLX_E_NO_CAPACITY, origin, "none of %zu nodes can take it: blx_placement_explain() says why",
                   p->n)
             .code;
  } else {
    struct blx__placement_node *node = &p->nodes[at].node;
    *out_uid = node->uid;
    if (asked.reserve) {
      node->allocated_cpu_milli += asked.place.need.cpu_milli;
      node->allocated_memory_mib += asked.place.need.memory_mib;
    }
  }
  leave_with(placement, p, &asked);
  return rc;
}

/* ---- reasons */

int blx_placement_explain(blx_placement *placement, const struct blx_placement_request *request, char *out, size_t size,
                          blx_error *reterr) {
  struct asked asked;
  int rc;
  if (!out || size == 0) return misuse(reterr, "there is no place for the explanation");
  struct placement *p = enter_with(placement, request, &asked, &rc, reterr);
  if (!p) return rc;
  blx__place_explain(p->nodes, p->n, &asked.place, out, size);
  leave_with(placement, p, &asked);
  return 0;
}

static int32_t obstacle_of(int32_t obstacle) {
  switch (obstacle) {
  case BLX_OBSTACLE_CODE_HYPERVISOR: return BLX_PLACEMENT_HYPERVISOR;
  case BLX_OBSTACLE_CODE_LABEL: return BLX_PLACEMENT_LABEL;
  case BLX_OBSTACLE_CODE_HA: return BLX_PLACEMENT_HA;
  case BLX_OBSTACLE_CODE_FENCED: return BLX_PLACEMENT_FENCED;
  case BLX_OBSTACLE_CODE_CORDONED: return BLX_PLACEMENT_CORDONED;
  case BLX_OBSTACLE_CODE_SILENT: return BLX_PLACEMENT_SILENT;
  case -1: return BLX_PLACEMENT_FITS;
  }
  return BLX_PLACEMENT_ROOM;
}

static struct blx_placement_reason reason_of(const struct blx__place_node *n, const struct blx__place_request *r) {
  struct blx_placement_reason out = {.struct_size = sizeof out, .uid = n->node.uid, .replicas = n->same_vm_count};
  struct blx__placement_verdict v;
  (void)blx__placement_feasible(&n->node, &r->need, NULL, &v);
  if (!n->usable) v.obstacles |= 1u << BLX_OBSTACLE_CODE_SILENT;
  out.obstacle = obstacle_of(blx__placement_worst(v.obstacles));
  out.fullness = blx__place_fullness(&n->node, &r->need);
  out.free_vcpus = v.free_cpu_milli / 1000;
  out.free_memory_mib = v.free_memory_mib;
  out.short_vcpus = (v.short_cpu_milli + 999) / 1000;
  out.short_memory_mib = v.short_memory_mib;
  if (out.obstacle == BLX_PLACEMENT_SILENT)
    (void)blx__str_format(out.text, sizeof out.text, "%s %s", n->node.name, n->why_not);
  else
    blx__placement_sentence(&(struct blx__placement_case){.node = &n->node, .need = &r->need, .verdict = &v},
                            blx__placement_worst(v.obstacles), out.text, sizeof out.text);
  return out;
}

int blx_placement_reason_after(blx_placement *placement, const struct blx_placement_request *request,
                               uint64_t after_uid, struct blx_placement_reason *out, blx_error *reterr) {
  struct asked asked;
  int rc;
  if (!out) return misuse(reterr, "the place for the reason is NULL");
  if (out->struct_size != sizeof *out)
    return misuse(reterr, "struct_size of the reason is not set: begin with BLX_PLACEMENT_REASON_INIT");
  struct placement *p = enter_with(placement, request, &asked, &rc, reterr);
  if (!p) return rc;
  size_t at = after_uid == UINT64_MAX ? p->n : place_of(p, after_uid + 1);
  if (at < p->n) {
    *out = reason_of(&p->nodes[at], &asked.place);
    rc = 1;
  }
  leave_with(placement, p, &asked);
  return rc;
}
