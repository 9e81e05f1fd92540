/* Inside lib/state: entries, indexes, and how operations change them. */
#ifndef BLX__STATE_STATE_INT_H
#define BLX__STATE_STATE_INT_H

#include "base/map.h"
#include "schema/codec.h"
#include "state/state.h"

enum {
  STATE_TENANT_MAX = 56,
  STATE_NAME_KEY_MAX = 2 * 128,  /* tenant, NUL, name */
  STATE_SCRATCH_BYTES = 4 << 20, /* one decoded operation; an encoded one has 64 KiB */
  STATE_REPLICAS_MAX = 1000,     /* of one VM */
  STATE_EXPIRE_PER_OP = 64,      /* old keys dropped by one operation, so that none takes long */
};

struct state_vm;
struct state_rule;

struct state_amount {
  char *name;
  uint64_t amount;
};

struct state_amounts {
  struct state_amount *list;
  size_t n, room;
};

/* Entries are stable while their object lives; the record inside is replaced. */
struct state_node {
  struct blx_node_info *rec;
  struct blx__map instances;  /* uid -> state_instance, dead ones too */
  struct blx__map tombstones; /* instance uid -> struct blx_tombstone */
  /* Of the instances not dead, and of tombstones whose instance may still run. */
  uint64_t vcpus, cpu_milli, memory_mib;
  struct state_amounts named;
  struct blx__placement_amount *offered; /* what its capacity names, with what of that is allocated */
  size_t n_offered;
  uint32_t live;  /* how many instances are not dead */
  uint32_t ha;    /* and how many of them are highly available */
  uint32_t autos; /* and how many have ha=auto */
  bool buried_aside;
  uint64_t share_revision;
  uint64_t share_index; /* of the entry, or the snapshot, that touched the share last */
};

struct state_instance {
  struct blx_instance *rec;
  struct state_vm *vm;
  bool waiting; /* in data.waiting under due_ms, and in data.ready under priority before it */
  uint64_t due_ms;
  uint32_t priority;
  bool aside; /* blx__state_set_aside */
};

struct state_vm {
  struct blx_vm *rec;
  struct blx__map instances;  /* ordinal -> state_instance */
  struct blx__map dependents; /* uid -> state_vm that names this one in depends_on */
  uint32_t placed;            /* instances that are on a node and not dead */
  /* around.c: of its affinity, the hard rules with a selector; and those of its tenant that select it */
  struct state_rule *rule[BLX__PLACEMENT_AFFINITY_MAX], **matched;
  size_t n_matched, matched_room;
};

/* What a tenant has, of all that is defined, and what it may have. */
struct state_tenant {
  char name[57];
  struct blx_quota *rec; /* NULL: it has no quota */
  uint32_t vms, instances;
  uint64_t vcpus, cpu_milli, memory_mib;
  struct state_amounts named;
  /* The view, made when it is asked for. */
  struct blx_quota view;
  struct blx_resources used;
  struct blx_amount *amounts, **amount_list;
};

struct state_config {
  struct blx_config *rec;
  uint32_t vms; /* how many VMs use it */
};

/* What a snapshot holds, and the indexes over it. */
struct state_data {
  char cluster_id[33], cluster_name[57];
  uint64_t index, time_ms, next_uid, next_node_uid;
  uint64_t audit_seq;
  uint8_t audit_head[BLX__SHA256_BYTES];
  struct blx__map nodes, vms, instances;                /* uid -> entry */
  struct blx__map node_names, vm_names, instance_names; /* name key -> entry */
  struct blx__map configs;                              /* digest -> entry */
  struct blx__map keys;                                 /* tenant/request_id -> struct blx_idempotency */
  struct blx__map keys_by_age;                          /* time, index, key -> the same */
  struct blx__map tombstones;                           /* instance uid -> struct blx_tombstone */
  struct blx__map tombstone_names;                      /* tenant, name, node, instance uid -> the same */
  struct blx__map waiting;                              /* due, uid -> state_instance */
  struct blx__map ready;                                /* highest priority, due, uid -> the same */
  struct blx__map unsettled;                            /* uid -> state_vm whose phase must be worked out again */
  struct blx__map tenants;                              /* name -> state_tenant */
  struct blx__map quotas;                               /* the same, of those that have one */
  struct blx__map rooms;                                /* node uid, uid -> state_instance that waits for room there */
  struct blx__map rules;                                /* around.c: tenant, digest of the rule -> state_rule */
  struct blx__map levels;                               /* around.c: level -> how many rules name it */
  struct blx__map auto_cpu, auto_memory;                /* of instances with ha=auto that are there, largest first */
  struct blx__map shapes, frequent;                     /* counts.c: (cpu_milli, memory_mib), and by count */
  struct blx_settings *settings;                        /* NULL: never changed */
  uint32_t running;
  uint64_t survivor_uid, gone_below, gone_index; /* of the last recovery; 0: there was none */
  uint64_t era, uids_from, nodes_from;           /* as in recover_mark */
  uint32_t unclear;                              /* nodes of which it is not known since what runs there */
  uint32_t ha;                                   /* instances that are highly available and not dead */
  uint32_t fencing;                              /* nodes whose fence is begun */
};

struct state_events {
  struct blx_event **ring;  /* BLX__STATE_EVENTS_MAX places */
  uint64_t first, next;     /* running numbers; place = number % max */
  uint64_t dropped_index;   /* highest index of which events were dropped */
  struct blx_event **entry; /* of the log entry being applied: at most what one entry's operations can change */
  size_t entry_count, entry_room;
};

/* Of the operation being applied. */
struct state_audit {
  uint32_t position; /* in its entry */
  bool wanted;
  const char *verb;
  char object[97], detail[129];
  struct blx__buf bytes;
  struct blx__sha256 *digest; /* used for each record */
};

struct blx__state {
  struct state_data data;
  struct state_audit audit;
  struct state_events events;
  struct blx__state_options options;
  struct blx__arena scratch;
  bool quiet;                   /* restoring: no events */
  struct blx_settings defaults; /* what holds while nothing was changed */
  struct blx_lease_settings default_lease;
  uint64_t share_counter;
  unsigned frozen; /* handles of blx__state_freeze that are not thawed; while there are any, */
  void **released; /* records that were replaced stay, for the handles point to them */
  size_t released_count, released_room;
  char fatal[256];
};

/* Memory inside apply: there is no way on without it. */
#define STATE_MUST(cond) BLX__ASSERT(cond)

/* ---- keys of maps; each returns the length */
const char *blx__state_tenant(const char *tenant); /* "" and NULL: default */
size_t blx__state_name_key(uint8_t key[STATE_NAME_KEY_MAX], const char *tenant, const char *name);
size_t blx__state_pair_key(uint8_t key[16], uint64_t a, uint64_t b);

/* The first value with a key above @key, or NULL. */
void *blx__state_after(const struct blx__map *m, const uint8_t *key, size_t n);

/* ---- entries */
struct state_node *blx__state_node_get(const struct blx__state *st, uint64_t uid);
struct state_vm *blx__state_vm_get(const struct blx__state *st, uint64_t uid);
struct state_vm *blx__state_vm_named(const struct blx__state *st, const char *tenant, const char *name);
struct state_instance *blx__state_instance_get(const struct blx__state *st, uint64_t uid);
struct state_instance *blx__state_instance_named(const struct blx__state *st, const char *tenant, const char *name);

/* Put a record: @draft is deep-copied, new or in place of the one with its uid; its revision becomes the index, indexes
 * follow, an event goes out. What a draft points to may belong to the record it replaces. */
void blx__state_put_node(struct blx__state *st, const struct blx_node_info *draft);
void blx__state_put_vm(struct blx__state *st, const struct blx_vm *draft);
void blx__state_put_instance(struct blx__state *st, const struct blx_instance *draft);
/* Only report_seq changes: nobody outside sees it. */
void blx__state_put_instance_seq(struct blx__state *st, struct state_instance *e, uint64_t seq);
void blx__state_put_config(struct blx__state *st, const struct blx_config *draft);
void blx__state_drop_instance(struct blx__state *st, struct state_instance *e);
void blx__state_drop_vm(struct blx__state *st, struct state_vm *e);
/* It holds nothing any more. */
void blx__state_drop_node(struct blx__state *st, struct state_node *e);
bool blx__state_drop_unused_config(struct blx__state *st); /* the oldest one; false: none */
void blx__state_put_settings(struct blx__state *st, const struct blx_settings *draft);
void blx__state_put_tombstone(struct blx__state *st, const struct blx_tombstone *draft);
void blx__state_drop_tombstone(struct blx__state *st, struct blx_tombstone *t);
void blx__state_data_free(struct state_data *d);

/* A record is no longer part of the state: free it, now or when nothing is frozen. */
void blx__state_release(struct blx__state *st, void *rec);

/* snapshot.c: append @r with its length. Errors: BUSY (it does not fit), INTERNAL. */
struct blx_snapshot_record;
blx__rc blx__state_add_record(struct blx__buf *out, const struct blx_snapshot_record *r, blx_error *err) BLX__MUST;

/* Out of all indexes and back in, while the record stays: to ask what would be without it. */
void blx__state_set_aside(struct blx__state *st, struct state_instance *e);
void blx__state_put_back(struct blx__state *st, struct state_instance *e);
/* The same for what is buried on a node and may still run. */
void blx__state_set_buried_aside(struct blx__state *st, struct state_node *n, bool aside);
/* A node is lost: nobody waits for room there any more. */
void blx__state_forget_rooms(struct blx__state *st, uint64_t node_uid);

/* An agent shall look at its share again. */
void blx__state_touch_share(struct blx__state *st, uint64_t node_uid);

/* How many replicas a spec asks for. */
static inline uint32_t blx__state_replicas(const struct blx_vm_spec *spec) {
  return spec->has_replicas ? spec->replicas : 1;
}

/* It is to be removed: with its VM, or because that is to have fewer replicas. */
static inline bool blx__state_leaving(const struct state_instance *e) {
  return e->vm->rec->deleting || blx__state_scaled_away(e->vm->rec, e->rec);
}

/* ---- counts.c: each of a list of named resources, added or taken away */
void blx__state_amounts_count(struct state_amounts *a, struct blx_amount *const *list, size_t n, bool in);
uint64_t blx__state_amount(const struct state_amounts *a, const char *name);
void blx__state_amounts_free(struct state_amounts *a);
/* Each has a name, and once. @what: the field. Errors: INVALID. */
blx__rc blx__state_amounts_check(struct blx_amount *const *list, size_t n, const char *what, blx_error *err) BLX__MUST;

/* A VM, or an instance of one, is there or not any more */
struct state_tenant *blx__state_tenant_get(const struct blx__state *st, const char *tenant);
void blx__state_tenant_free(struct state_tenant *e);
void blx__state_count_vm(struct blx__state *st, const struct blx_vm *vm, bool in);
void blx__state_count_instance(struct blx__state *st, const struct blx_vm *vm, bool in);
void blx__state_count_shape(struct blx__state *st, uint64_t cpu_milli, uint64_t memory_mib, bool in);
void blx__state_shapes_free(struct state_data *d);
void blx__state_put_quota(struct blx__state *st, const struct blx_quota *draft);
void blx__state_drop_quota(struct blx__state *st, struct state_tenant *e);
/* Whether the tenant may have so many more VMs, and instances of @spec. Errors: QUOTA, with the numbers. */
blx__rc blx__state_quota_allows(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                                uint32_t vms, uint32_t instances, blx_error *err) BLX__MUST;

/* ---- around.c: what there is for others to be near to, or away from */
void blx__state_around_vm(struct blx__state *st, struct state_vm *vm, bool in); /* it has no instances */
/* It is on @n, and not dead. */
void blx__state_around_instance(struct blx__state *st, struct state_instance *e, struct state_node *n, bool in);
/* While it is not among the tombstones; it is not dead. */
void blx__state_around_tombstone(struct blx__state *st, const struct blx_tombstone *t, const struct state_node *n,
                                 bool in);
/* What is buried there, and may still run. */
void blx__state_around_buried(struct blx__state *st, const struct state_node *n, bool in);
/* All that is on @n, around a change of its labels. */
void blx__state_around_node(struct blx__state *st, const struct state_node *n, bool in);
void blx__state_rules_free(struct state_data *d);
/* The levels that @spec names may be among those of the cluster. Errors: QUOTA, with the numbers. */
blx__rc blx__state_levels_allow(const struct blx__state *st, const struct blx_vm_spec *spec, blx_error *err) BLX__MUST;
/* Whether a node can take an instance that is on none, or dead there, and why not. */
struct state_judgement {
  struct blx__placement_node node;
  struct blx__placement_need need;
  struct blx__placement_around around;
  struct blx__placement_verdict verdict;
};
bool blx__state_judge(struct blx__state *st, const struct state_instance *e, uint64_t node_uid,
                      struct state_judgement *out);

/* True if the scheduler shall find a node for it, now or when it is due. */
bool blx__state_wants_node(const struct blx_instance *i, const struct blx_vm *vm);

/* ---- query.c: into the indexes of those that wait, and out of them if it is there */
void blx__state_waiting_put(struct blx__state *st, struct state_instance *e);
void blx__state_waiting_drop(struct blx__state *st, struct state_instance *e);

/* The dependent of @vm that is on its way out and has to be dead before @vm is stopped; NULL: none. */
const struct blx_vm *blx__state_stops_first(const struct state_vm *vm);
/* Tell an instance that waited for such a one to shut down now. */
void blx__state_stop_now(struct blx__state *st, const struct state_instance *e);
/* ---- op_node.c: nodes */
enum { STATE_LABELS_MAX = 64 };
/* By what users call it. Errors: NOT_FOUND, STALE. */
blx__rc blx__state_node_find(const struct blx__state *st, const char *name, uint64_t if_revision,
                             const struct blx_node_info **out, blx_error *err) BLX__MUST;
/* NOT_FOUND: it never joined, or was removed. */
blx__rc blx__state_node_known(const struct blx__state *st, uint64_t uid, struct state_node **out,
                              blx_error *err) BLX__MUST;
/* Taken from a message: what a node says of itself. What others know of it is not its to say. @labels: room for the
 * labels of @to, which point into both. */
void blx__state_take_description(struct blx_node_info *to, const struct blx_node_info *from,
                                 struct blx_label *labels[STATE_LABELS_MAX]);
/* ---- op_fence.c */
/* The node's fence is lifted if it came back as a new incarnation and none of its fenced instances may run any more. */
void blx__state_fence_lift(struct blx__state *st, uint64_t node_uid);
/* ---- op_regroup.c */
bool blx__state_unclear_rec(const struct blx__state *st, const struct blx_node_info *n);
/* A node was: what was held goes on. */
void blx__state_cleared(struct blx__state *st, uint64_t node_uid);
/* What an assignment raises the instance's epoch to. */
uint64_t blx__state_next_epoch(const struct blx__state *st, const struct blx_instance *i);
/* The first epoch of an era above @epoch, and uids above all that may have been given after @uid. */
uint64_t blx__state_era_after(uint64_t epoch);
uint64_t blx__state_uids_after(uint64_t uid);
/* ---- op_node.c: recoveries */
blx__rc blx__state_may_recover(const struct blx__state *st, uint64_t survivor_uid, uint64_t below,
                               blx_error *err) BLX__MUST;
void blx__state_go_on_with(struct blx__state *st, uint64_t survivor_uid, uint64_t gone_below);
/* ---- op_report.c */
/* It is proved that a fenced instance does not run: as if its agent had reported it dead. */
void blx__state_confirm_dead(struct blx__state *st, struct state_instance *e);
/* ---- op_node.c: instances deleted by force */
/* Drop an instance whose node is silent, and leave a tombstone in its place. */
void blx__state_bury(struct blx__state *st, struct state_instance *e, const char *principal);
/* A report about an instance that has a tombstone on that node: death and removal are noted. False: it is none of
 * these, and what is seen there runs without leave. */
bool blx__state_tombstone_report(struct blx__state *st, uint64_t node_uid, const struct blx_instance_report *r);

/* ---- op_vm.c: the VM that an operation names. Errors: NOT_FOUND, STALE. */
blx__rc blx__state_vm_find(const struct blx__state *st, const struct blx_op *op, const char *name, uint64_t if_revision,
                           struct state_vm **out, blx_error *err) BLX__MUST;
/* It is not being deleted. Errors: CONFLICT. */
blx__rc blx__state_vm_stays(const struct state_vm *e, blx_error *err) BLX__MUST;
/* No VM has the name that a replica of a VM of that name would get. Errors: EXISTS. */
blx__rc blx__state_replica_names_free(const struct blx__state *st, const char *tenant, const char *vm, uint32_t from,
                                      uint32_t to, blx_error *err) BLX__MUST;
/* Another one, in the phase and with the reason of @like: its VM's, or one worked out for it. */
void blx__state_create_instance(struct blx__state *st, const struct blx_vm *like, uint32_t ordinal);
/* Drop an instance that is nowhere; else have its node remove it. */
void blx__state_want_removed(struct blx__state *st, struct state_instance *e);
/* What a new instance, or VM, says of itself. */
struct blx_reason blx__state_unplaced(void);
struct blx_reason blx__state_not_started(void);
/* "node2", "node1 and node2", ...: where instances of a VM still are. 0: nowhere. */
enum { STATE_NODES_TEXT_BYTES = 160 };
unsigned blx__state_unconfirmed_nodes(const struct blx__state *st, const struct state_vm *vm,
                                      char out[STATE_NODES_TEXT_BYTES]);
/* None of the VM's instances with an ordinal above @above is held after a recovery: its name must not be free before
 * every node has said what runs there. Errors: CONFLICT. */
blx__rc blx__state_none_held(const struct blx__state *st, const struct state_vm *e, uint32_t above,
                             blx_error *err) BLX__MUST;

/* ---- op_scale.c
 * As a VM by force, but one instance that its VM is not to have any more, and whose node is silent. Errors: CONFLICT,
 * QUOTA. */
blx__rc blx__state_give_up(struct blx__state *st, const struct blx_op *op, struct state_instance *e, bool silent,
                           blx_error *err) BLX__MUST;

/* ---- phases and reasons */
struct blx_reason blx__state_reason(int32_t code, const char *text, const char *unblock);
bool blx__state_reason_eq(const struct blx_reason *a, const struct blx_reason *b);
int32_t blx__state_reason_code(const struct blx_reason *r);
/* Highly available: it runs under its node's lease. */
bool blx__state_is_ha(const struct blx_vm *vm);
/* Work out the phase of each VM whose instances changed; a deleted one without instances goes. */
void blx__state_settle(struct blx__state *st);

/* ---- events */
void blx__state_event_node(struct blx__state *st, int32_t type, const struct blx_node_info *n);
void blx__state_event_vm(struct blx__state *st, int32_t type, const struct blx_vm *vm);
void blx__state_event_settings(struct blx__state *st);
void blx__state_event_quota(struct blx__state *st, int32_t type, const char *tenant);
void blx__state_event_instance(struct blx__state *st, int32_t type, const struct state_instance *e);
bool blx__state_events_init(struct state_events *ev);
void blx__state_events_free(struct state_events *ev);
void blx__state_events_flush(struct blx__state *st);
void blx__state_events_forget(struct blx__state *st);

/* ---- idempotency keys */
struct state_request {
  const char *key; /* "": the operation has none */
  struct blx_bytes digest;
};
/* The stored answer of the same request, or NULL. Errors: CONFLICT (another request under that key), BUSY (no room). */
blx__rc blx__state_key_find(struct blx__state *st, const struct state_request *r, const struct blx_op_result **out,
                            blx_error *err) BLX__MUST;
void blx__state_key_put(struct blx__state *st, const struct blx_idempotency *draft);

/* ---- audit.c: around an operation that changes something or is refused; not around the answer to a repeated one */
bool blx__state_audit_init(struct blx__state *st); /* false: no memory */
void blx__state_audit_free(struct blx__state *st);
void blx__state_audit_begin(struct blx__state *st, const struct blx_op *op);
void blx__state_audit_end(struct blx__state *st, const struct blx_op *op, const struct blx_op_result *r);

/* ---- operations: each checks everything before it changes anything */
struct state_answer {
  uint64_t uid;
  uint64_t stale[64];
  size_t n_stale;
};
typedef blx__rc state_op_fn(struct blx__state *st, const struct blx_op *op, struct state_answer *out, blx_error *err);
state_op_fn blx__state_op_cluster_init, blx__state_op_node_join, blx__state_op_node_register, blx__state_op_node_voter,
    blx__state_op_node_cordon, blx__state_op_config_put, blx__state_op_vm_create, blx__state_op_vm_desire,
    blx__state_op_vm_delete, blx__state_op_vm_restart, blx__state_op_vm_pause, blx__state_op_vm_kill,
    blx__state_op_assign, blx__state_op_explain, blx__state_op_report, blx__state_op_vm_delete_force,
    blx__state_op_node_label, blx__state_op_settings_set, blx__state_op_fence_begin, blx__state_op_fence_done,
    blx__state_op_node_return, blx__state_op_ha_disarm, blx__state_op_node_fence_command, blx__state_op_node_remove,
    blx__state_op_recover, blx__state_op_regroup, blx__state_op_node_clear, blx__state_op_vm_scale,
    blx__state_op_node_taint, blx__state_op_quota_set, blx__state_op_preempt;

#endif
