/* Placement without a cluster: lib/placement's fleet behind a handle. */
#include "api/api_int.h"
#include "base/digest.h"
#include "placement/fleet.h"
#include "schema/validate.h"

#include <blixard/placement.h>
#include <stdlib.h>
#include <string.h>

enum {
  ALLOCATED_MAX = 1 << 30,
  NODES_DEFAULT = 5000,
  INSTANCES_DEFAULT = 100000,
  PASSING = 64, /* VMs of requests that told none, so that those asked about in turn find what was prepared */
  REPORT_BYTES_MAX = 256 << 20,
};

_Static_assert((int)BLX_PLACEMENT_TEXT_BYTES == (int)BLX__FLEET_NEAREST_BYTES, "as the header says");
_Static_assert((int)BLX_PLACEMENT_NODES_MAX == (int)BLX__FLEET_NODES_MAX, "as the header says");
_Static_assert((int)BLX_PLACEMENT_VICTIMS_MAX == (int)BLX__FLEET_VICTIMS_MAX, "as the header says");
_Static_assert((int)BLX_PLACEMENT_STRATEGIES_MAX == (int)BLX__FLEET_STRATEGIES_MAX, "as the header says");

struct own_strategy {
  blx_placement_cost_fn cost;
  void *user;
};

/* What is behind a blx_placement. */
struct placement {
  pthread_mutex_t lock;
  struct blx__fleet_options options;
  struct blx__fleet *fleet; /* NULL until it is told or asked something: one that is only open costs next to nothing */
  struct own_strategy own[BLX_PLACEMENT_STRATEGIES_MAX];
  size_t n_own;
};

static const char origin[] = "placement";

static int misuse(blx_error *reterr, const char *sentence) {
  return blx__fail(reterr, BLX_E_MISUSE, origin, "%s", sentence).code;
}

/* ---- open and close */

static void placement_free(struct placement *p) {
  pthread_mutex_destroy(&p->lock);
  blx__fleet_free(p->fleet);
  free(p);
}

static struct placement *placement_new(const struct blx_placement_options *o) {
  struct placement *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  pthread_mutex_init(&p->lock, NULL);
  p->options = (struct blx__fleet_options){.nodes_max = o->nodes_max ? o->nodes_max : NODES_DEFAULT,
                                           .instances_max = o->instances_max ? o->instances_max : INSTANCES_DEFAULT,
                                           .seed = o->seed,
                                           .learns = true};
  return p;
}

int blx_placement_open(const struct blx_placement_options *options, blx_placement **out, blx_error *reterr) {
  struct blx_placement_options o = BLX_PLACEMENT_OPTIONS_INIT;
  if (!out) return misuse(reterr, "the place for the placement is NULL");
  blx__rc rc = options ? blx__api_take_struct(&o, sizeof o, sizeof(size_t), options, origin, reterr) : BLX__OK;
  if (rc.code == 0 && o.nodes_max > BLX_PLACEMENT_NODES_MAX)
    rc = blx__fail(reterr, BLX_E_INVALID, origin, "nodes_max: %u is above %d", o.nodes_max, BLX_PLACEMENT_NODES_MAX);
  if (rc.code == 0 && o.instances_max > BLX_PLACEMENT_INSTANCES_MAX)
    rc = blx__fail(reterr, BLX_E_INVALID, origin, "instances_max: %u is above %d", o.instances_max,
                   BLX_PLACEMENT_INSTANCES_MAX);
  if (rc.code != 0) return rc.code;
  struct placement *p = placement_new(&o);
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

/* NULL: *@rc and @reterr say why. */
static struct placement *enter(const blx_placement *handle, int *rc, blx_error *reterr) {
  struct placement *p = blx__api_handle_take(handle, BLX__API_PLACEMENT, reterr);
  *rc = BLX_E_MISUSE;
  if (!p) return NULL;
  pthread_mutex_lock(&p->lock);
  *rc = p->fleet ? 0 : blx__fleet_new(&p->options, &p->fleet, reterr).code;
  if (*rc == 0) return p;
  pthread_mutex_unlock(&p->lock);
  blx__api_handle_put(handle);
  return NULL;
}

static void leave(const blx_placement *handle, struct placement *p) {
  pthread_mutex_unlock(&p->lock);
  blx__api_handle_put(handle);
}

/* A message of the embedder's, whole, with defaults, within its limits. */
static blx__rc take_message(const struct blx__msg_desc *desc, const void *given, void **out, blx_error *err) {
  void *copy = NULL;
  BLX__TRY(blx__msg_own(desc, given, &copy, err));
  blx__rc rc = blx__msg_defaults(desc, NULL, copy, err);
  if (rc.code == 0) rc = blx__msg_validate(desc, copy, err);
  if (rc.code == 0)
    *out = copy;
  else
    blx__msg_free_owned(copy);
  return rc;
}

static int not_found(const char *what, uint64_t uid, blx_error *reterr) {
  return blx__fail(reterr, BLX_E_NOT_FOUND, origin, "there is no %s with uid %llu", what, (unsigned long long)uid).code;
}

/* ---- telling */

int blx_placement_set_settings(blx_placement *placement, const struct blx_placement_settings *settings,
                               blx_error *reterr) {
  void *copy = NULL;
  blx__rc rc = settings ? take_message(blx__desc_placement_settings(), settings, &copy, reterr) : BLX__OK;
  if (rc.code != 0) return rc.code;
  struct placement *p = enter(placement, &rc.code, reterr);
  if (p) {
    rc = blx__fleet_settings(p->fleet, copy, reterr);
    leave(placement, p);
  }
  blx__msg_free_owned(copy);
  return rc.code;
}

static blx__rc tell_node(struct placement *p, const struct blx_node_info *n, blx_error *err) {
  bool heard = n->status != BLX_NODE_STATUS_SUSPECT;
  struct blx__fleet_soft soft = {.usable = heard,
                                 .why_not = heard ? NULL : "has not been heard from",
                                 .has_load = n->has_load_cpu_permille && n->has_load_memory_mib,
                                 .load_cpu_permille = n->load_cpu_permille,
                                 .load_memory_mib = n->load_memory_mib,
                                 .stored = n->stored,
                                 .n_stored = n->n_stored};
  return blx__fleet_set_node(p->fleet, n, n->allocated, &soft, err);
}

int blx_placement_set_node(blx_placement *placement, const struct blx_node_info *node, blx_error *reterr) {
  void *record = NULL;
  if (!node) return misuse(reterr, "the node is NULL");
  blx__rc rc = blx__msg_own(blx__desc_node_info(), node, &record, reterr);
  if (rc.code == 0) rc = blx__msg_validate(blx__desc_node_info(), record, reterr);
  if (rc.code == 0 && ((struct blx_node_info *)record)->uid == 0)
    rc = blx__fail(reterr, BLX_E_INVALID, origin, "uid: 0 is below 1");
  struct placement *p = rc.code == 0 ? enter(placement, &rc.code, reterr) : NULL;
  if (p) {
    rc = tell_node(p, record, reterr);
    leave(placement, p);
  }
  blx__msg_free_owned(record);
  return rc.code;
}

int blx_placement_set_allocated(blx_placement *placement, uint64_t uid, uint64_t vcpus, uint64_t memory_mib,
                                blx_error *reterr) {
  if (vcpus > ALLOCATED_MAX || memory_mib > ALLOCATED_MAX)
    return blx__fail(reterr, BLX_E_INVALID, origin, "allocated: %llu vCPUs and %llu MiB; neither may be above %d",
                     (unsigned long long)vcpus, (unsigned long long)memory_mib, ALLOCATED_MAX)
        .code;
  struct blx_resources extra = BLX_RESOURCES_INIT;
  extra.vcpus = (uint32_t)vcpus;
  extra.memory_mib = memory_mib;
  int rc;
  struct placement *p = enter(placement, &rc, reterr);
  if (!p) return rc;
  rc = blx__fleet_set_extra(p->fleet, uid, &extra) ? 0 : not_found("node", uid, reterr);
  leave(placement, p);
  return rc;
}

int blx_placement_remove_node(blx_placement *placement, uint64_t uid, blx_error *reterr) {
  int rc;
  struct placement *p = enter(placement, &rc, reterr);
  if (!p) return rc;
  rc = blx__fleet_drop_node(p->fleet, uid) ? 0 : not_found("node", uid, reterr);
  leave(placement, p);
  return rc;
}

static blx__rc take_spec(const struct blx_vm_spec *given, struct blx_vm_spec **out, blx_error *err) {
  struct blx_vm_spec named;
  void *copy = NULL;
  if (!given) return blx__fail(err, BLX_E_INVALID, origin, "spec: is required");
  BLX__TRY(blx__api_take_struct(&named, sizeof named, sizeof(size_t), given, origin, err));
  if (!named.name || !*named.name) named.name = "unnamed"; /* a decision needs none */
  BLX__TRY(take_message(blx__desc_vm_spec(), &named, &copy, err));
  *out = copy;
  return BLX__OK;
}

int blx_placement_set_vm(blx_placement *placement, const struct blx_placement_vm *given, blx_error *reterr) {
  struct blx_placement_vm vm;
  struct blx_vm_spec *spec = NULL;
  void *quota = NULL;
  if (!given) return misuse(reterr, "the VM is NULL");
  blx__rc rc = blx__api_take_struct(&vm, sizeof vm, sizeof(size_t), given, origin, reterr);
  if (rc.code != 0) return rc.code;
  if (vm.uid == 0 || vm.uid > UINT64_C(1) << 63)
    return blx__fail(reterr, BLX_E_INVALID, origin, "uid: %llu is not from 1 to 2^63", (unsigned long long)vm.uid).code;
  rc = take_spec(vm.spec, &spec, reterr);
  if (rc.code == 0 && vm.quota) rc = take_message(blx__desc_quota(), vm.quota, &quota, reterr);
  if (rc.code == 0 && vm.strategy != 0) spec->strategy = vm.strategy;
  struct placement *p = rc.code == 0 ? enter(placement, &rc.code, reterr) : NULL;
  if (p) {
    rc = blx__fleet_set_vm(p->fleet, vm.uid, vm.tenant, spec, quota, reterr);
    leave(placement, p);
  }
  blx__msg_free_owned(spec);
  blx__msg_free_owned(quota);
  return rc.code;
}

int blx_placement_remove_vm(blx_placement *placement, uint64_t uid, blx_error *reterr) {
  int rc;
  struct placement *p = enter(placement, &rc, reterr);
  if (!p) return rc;
  bool known = uid <= UINT64_C(1) << 63 && blx__fleet_drop_vm(p->fleet, uid);
  leave(placement, p);
  return known ? 0 : not_found("VM", uid, reterr);
}

int blx_placement_place(blx_placement *placement, const struct blx_placement_instance *given, blx_error *reterr) {
  struct blx_placement_instance i;
  if (!given) return misuse(reterr, "the instance is NULL");
  blx__rc rc = blx__api_take_struct(&i, sizeof i, sizeof(size_t), given, origin, reterr);
  if (rc.code != 0) return rc.code;
  if (i.vm_uid > UINT64_C(1) << 63) return not_found("VM", i.vm_uid, reterr);
  struct placement *p = enter(placement, &rc.code, reterr);
  if (!p) return rc.code;
  struct blx__fleet_instance told = {i.uid, i.vm_uid, i.node_uid, i.epoch, i.ending != 0};
  rc = blx__fleet_place(p->fleet, &told, reterr);
  leave(placement, p);
  return rc.code;
}

int blx_placement_unplace(blx_placement *placement, uint64_t uid, blx_error *reterr) {
  int rc;
  struct placement *p = enter(placement, &rc, reterr);
  if (!p) return rc;
  rc = blx__fleet_unplace(p->fleet, uid) ? 0 : not_found("instance", uid, reterr);
  leave(placement, p);
  return rc;
}

static uint64_t own_cost(void *user, const struct blx__placement_node *node, const struct blx__placement_need *need) {
  const struct own_strategy *own = user;
  struct blx_placement_candidate c = {.struct_size = sizeof c,
                                      .uid = node->uid,
                                      .name = node->name,
                                      .labels = node->labels,
                                      .n_labels = node->n_labels,
                                      .cpu_milli = node->cpu_milli,
                                      .memory_mib = node->memory_mib,
                                      .allocated_cpu_milli = node->allocated_cpu_milli,
                                      .allocated_memory_mib = node->allocated_memory_mib,
                                      .need_cpu_milli = need->cpu_milli,
                                      .need_memory_mib = need->memory_mib};
  return own->cost(own->user, &c);
}

int blx_placement_add_strategy(blx_placement *placement, const char *name, blx_placement_cost_fn cost, void *user,
                               int32_t *number, blx_error *reterr) {
  if (!name || !cost || !number) return misuse(reterr, "a strategy has a name, a function and a place for its number");
  blx__rc rc;
  struct placement *p = enter(placement, &rc.code, reterr);
  if (!p) return rc.code;
  struct own_strategy *own = p->n_own < BLX_PLACEMENT_STRATEGIES_MAX ? &p->own[p->n_own] : NULL;
  if (own) *own = (struct own_strategy){cost, user};
  rc = blx__fleet_add_strategy(p->fleet, name, own_cost, own, number, reterr);
  p->n_own += rc.code == 0;
  leave(placement, p);
  return rc.code;
}

/* ---- asking */

/* A request as the fleet takes it, with what of it is to be freed. */
struct asked {
  struct blx__fleet_request fleet;
  struct blx_vm_spec *spec; /* owned; NULL: of a VM that was told */
  bool reserve;
  struct placement *p;
};

static blx__rc check_uids(const char *field, const uint64_t *uids, size_t n, size_t most, blx_error *err) {
  if (n > most) return blx__fail(err, BLX_E_INVALID, origin, "%s: %zu are more than %zu", field, n, most);
  if (n > 0 && !uids) return blx__fail(err, BLX_E_INVALID, origin, "%s: is NULL and has %zu elements", field, n);
  return BLX__OK;
}

static blx__rc check_request(const struct blx_placement_request *r, blx_error *err) {
  BLX__TRY(check_uids("replica_uids", r->replica_uids, r->n_replica_uids, BLX_PLACEMENT_REPLICAS_MAX, err));
  BLX__TRY(check_uids("barred_uids", r->barred_uids, r->n_barred_uids, BLX_PLACEMENT_BARRED_MAX, err));
  if (!r->spec == !r->vm_uid)
    return blx__fail(err, BLX_E_INVALID, origin, "spec, vm_uid: one of them says what is to be placed");
  if (r->reserve > 1) return blx__fail(err, BLX_E_INVALID, origin, "reserve: %u is neither 0 nor 1", r->reserve);
  if (r->reserve && r->vm_uid && !r->instance_uid)
    return blx__fail(err, BLX_E_INVALID, origin, "instance_uid: is needed to reserve for a VM that was told");
  return BLX__OK;
}

static blx__rc take_request(const struct blx_placement_request *given, struct asked *out, blx_error *err) {
  struct blx_placement_request r;
  if (!given) return blx__fail(err, BLX_E_MISUSE, origin, "the request is NULL");
  BLX__TRY(blx__api_take_struct(&r, sizeof r, sizeof(size_t), given, origin, err));
  BLX__TRY(check_request(&r, err));
  *out = (struct asked){.reserve = r.reserve != 0};
  out->fleet = (struct blx__fleet_request){.vm_uid = r.vm_uid,
                                           .instance_uid = r.instance_uid,
                                           .sticky_uid = r.sticky_uid,
                                           .avoid_uid = r.avoid_uid,
                                           .barred = r.barred_uids,
                                           .n_barred = r.n_barred_uids,
                                           .replicas = r.replica_uids,
                                           .n_replicas = r.n_replica_uids,
                                           .keep_survive = r.keep_survive != 0};
  if (!r.spec) return BLX__OK;
  BLX__TRY(take_spec(r.spec, &out->spec, err));
  if (r.strategy != 0) out->spec->strategy = r.strategy;
  return BLX__OK;
}

/* A VM that is there for this request and, until its place is needed, for the next with the same spec. */
static blx__rc pass_by(struct placement *p, struct asked *asked, blx_error *err) {
  const struct blx_vm_spec *s = asked->spec;
  uint64_t hash = blx__mix64(blx__placement_cpu_milli(s) << 32 ^ s->memory_mib ^ (uint64_t)s->strategy << 24);
  char name[16];
  struct blx_vm_spec passing = *s;
  (void)blx__str_format(name, sizeof name, "?%u", (unsigned)(hash % PASSING)); /* no VM can have that name */
  passing.name = name;
  asked->fleet.vm_uid = UINT64_MAX - hash % PASSING;
  return blx__fleet_set_vm(p->fleet, asked->fleet.vm_uid, NULL, &passing, NULL, err);
}

/* leave_with() undoes it, unless it fails. */
static int enter_with(const blx_placement *handle, const struct blx_placement_request *request, struct asked *asked,
                      blx_error *reterr) {
  blx__rc rc = take_request(request, asked, reterr);
  if (rc.code != 0) return rc.code;
  asked->p = enter(handle, &rc.code, reterr);
  if (asked->p && asked->spec) rc = pass_by(asked->p, asked, reterr);
  if (asked->p && !asked->spec && !blx__fleet_has_vm(asked->p->fleet, asked->fleet.vm_uid))
    rc.code = not_found("VM", asked->fleet.vm_uid, reterr);
  if (rc.code == 0) return 0;
  if (asked->p) leave(handle, asked->p);
  blx__msg_free_owned(asked->spec);
  return rc.code;
}

static void leave_with(const blx_placement *handle, struct asked *asked) {
  leave(handle, asked->p);
  blx__msg_free_owned(asked->spec);
}

static blx__rc reserve(const struct asked *asked, uint64_t node_uid, blx_error *err) {
  struct blx__fleet *f = asked->p->fleet;
  struct blx__fleet_instance i = {
      .uid = asked->fleet.instance_uid, .vm_uid = asked->fleet.vm_uid, .node_uid = node_uid};
  if (!asked->spec) return blx__fleet_place(f, &i, err);
  BLX__ASSERT(blx__fleet_add_extra(f, node_uid, asked->spec));
  return BLX__OK;
}

int blx_placement_choose(blx_placement *placement, const struct blx_placement_request *request, uint64_t *out_uid,
                         blx_error *reterr) {
  struct asked asked;
  struct blx__fleet_choice choice;
  if (!out_uid) return misuse(reterr, "the place for the uid is NULL");
  int rc = enter_with(placement, request, &asked, reterr);
  if (rc != 0) return rc;
  if (asked.reserve && asked.spec) blx__fleet_arrived(asked.p->fleet, asked.fleet.vm_uid);
  if (!blx__fleet_choose(asked.p->fleet, &asked.fleet, &choice))
    rc = blx__fail(reterr, BLX_E_NO_CAPACITY, origin, "none of the nodes can take it: blx_placement_explain() says why")
             .code;
  if (rc == 0 && asked.reserve) rc = reserve(&asked, choice.node_uid, reterr).code;
  if (rc == 0) *out_uid = choice.node_uid;
  leave_with(placement, &asked);
  return rc;
}

int blx_placement_explain(blx_placement *placement, const struct blx_placement_request *request, char *out, size_t size,
                          blx_error *reterr) {
  struct asked asked;
  if (!out || size == 0) return misuse(reterr, "there is no place for the explanation");
  int rc = enter_with(placement, request, &asked, reterr);
  if (rc != 0) return rc;
  blx__fleet_nearest(asked.p->fleet, &asked.fleet, out, size);
  leave_with(placement, &asked);
  return 0;
}

int blx_placement_report_get(blx_placement *placement, const struct blx_placement_request *request, size_t most,
                             struct blx_placement_report **out, blx_error *reterr) {
  struct asked asked;
  struct blx__arena arena = {.limit_bytes = REPORT_BYTES_MAX};
  struct blx_placement_report report;
  void *own = NULL;
  if (!out) return misuse(reterr, "the place for the report is NULL");
  int rc = enter_with(placement, request, &asked, reterr);
  if (rc != 0) return rc;
  rc = blx__fleet_explain(asked.p->fleet, &asked.fleet, most, &arena, &report, reterr).code;
  leave_with(placement, &asked);
  if (rc == 0) rc = blx__msg_own(blx__desc_placement_report(), &report, &own, reterr).code;
  if (rc == 0) *out = own;
  blx__arena_free(&arena);
  return rc;
}

int blx_placement_judge(blx_placement *placement, const struct blx_placement_request *request, uint64_t node_uid,
                        struct blx_node_verdict **out, blx_error *reterr) {
  struct asked asked;
  struct blx__arena arena = {.limit_bytes = REPORT_BYTES_MAX};
  struct blx_node_verdict *verdict = NULL;
  void *own = NULL;
  if (!out) return misuse(reterr, "the place for the verdict is NULL");
  int rc = enter_with(placement, request, &asked, reterr);
  if (rc != 0) return rc;
  rc = blx__fleet_node_verdict(asked.p->fleet, &asked.fleet, node_uid, &arena, &verdict, reterr).code;
  leave_with(placement, &asked);
  if (rc == 0) rc = blx__msg_own(blx__desc_node_verdict(), verdict, &own, reterr).code;
  if (rc == 0) *out = own;
  blx__arena_free(&arena);
  return rc;
}

int blx_placement_preempt(blx_placement *placement, const struct blx_placement_request *request,
                          struct blx_placement_preemption *out, blx_error *reterr) {
  struct asked asked;
  struct blx__fleet_preemption found;
  if (!out) return misuse(reterr, "the place for the preemption is NULL");
  if (out->struct_size != sizeof *out)
    return misuse(reterr, "struct_size of the preemption is not set: begin with BLX_PLACEMENT_PREEMPTION_INIT");
  int rc = enter_with(placement, request, &asked, reterr);
  if (rc != 0) return rc;
  bool any = blx__fleet_preempt(asked.p->fleet, &asked.fleet, &found);
  leave_with(placement, &asked);
  if (!any)
    return blx__fail(reterr, BLX_E_NO_CAPACITY, origin, "no node has room that ending instances would free").code;
  out->node_uid = found.node_uid;
  out->n = found.n;
  memcpy(out->victim_uids, found.victims, sizeof found.victims);
  memcpy(out->victim_epochs, found.epochs, sizeof found.epochs);
  return 0;
}
