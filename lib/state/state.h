/* The replicated model of a cluster: nodes, VMs, instances, configs, answers kept for repeated requests. It changes by
 * committed operations alone (lib/schema/internal.def: `op`), in the order of the log, and is the same on every member:
 * no clock, no randomness, no I/O. Time is cluster time, stamped by the leader.
 *
 * Records are immutable and replaced as a whole. A record that a query returns is borrowed: it is valid until the next
 * blx__state_apply or blx__state_restore. What goes into an arena is a deep copy and lives as long as the arena.
 * Out of memory inside apply traps: going on would make this member differ from the others.
 * Thread: one at a time. */
#ifndef BLX__STATE_STATE_H
#define BLX__STATE_STATE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/map.h"
#include "placement/feasible.h"
#include "schema/internal.h"

#include <blixard/calls.h>

enum {
  BLX__STATE_NODES_MAX = 5000,
  BLX__STATE_VMS_MAX = 100000,
  BLX__STATE_INSTANCES_MAX = 100000,
  BLX__STATE_CONFIGS_MAX = 256,
  BLX__STATE_TOMBSTONES_MAX = 4096, /* of all nodes together */
  BLX__STATE_KEYS_MAX = 1 << 18,    /* idempotency keys */
  BLX__STATE_EVENTS_MAX = 8192,     /* events kept for watchers */
  BLX__STATE_PRIORITY_MAX = 1000,
  BLX__STATE_TENANTS_MAX = 10000, /* that have a quota or a VM */
  BLX__STATE_KEY_KEPT_MS = 24 * 3600 * 1000,
  BLX__STATE_KEY_SAFE_MS = 10 * 60 * 1000, /* a key younger than this is never given up for another */
  BLX__STATE_BACK_OFF_FIRST_MS = 1000,
  BLX__STATE_BACK_OFF_MAX_MS = 300 * 1000,
  BLX__STATE_RECORD_MAX = 128 << 10, /* bytes of one record of a snapshot */
  BLX__STATE_DISARM_MAX_MS = 24 * 3600 * 1000,
  BLX__STATE_STEADY_MS = 600 * 1000, /* so long Running, and the failures before are forgotten */
};

struct blx__state;

/* A record of the audit log: an encoded audit_record without message, prev and hash. All borrowed. The message is
 * beside it and not hashed: a later version may say the same in other words, and its members have the same chain. */
struct blx__state_audit {
  uint64_t seq, index, time_ms;
  const uint8_t *prev, *hash; /* BLX__SHA256_BYTES; hash: SHA-256 of prev and record */
  struct blx__slice record;
  const char *message; /* why it was refused; NULL or empty: it was not */
};

struct blx__state_options {
  uint32_t keys_max; /* 0: BLX__STATE_KEYS_MAX; the same on every member, smaller in tests only */
  /* Each event, from blx__state_end, in order; the event is borrowed during the call. NULL allowed. */
  void (*on_event)(void *user, const struct blx_event *event);
  /* The share of that node changes, and its revision with it: from inside apply or restore; only to be noted down.
   * NULL allowed. */
  void (*on_share)(void *user, uint64_t node_uid);
  /* Each record of the audit log, from inside apply, in order. NULL allowed. */
  void (*on_audit)(void *user, const struct blx__state_audit *record);
  void *user;
};

/* An empty state, waiting for op_cluster_init. NULL when memory is out. @options NULL: all defaults. */
struct blx__state *blx__state_new(const struct blx__state_options *options);
void blx__state_free(struct blx__state *st); /* NULL allowed */

/* ---- the state machine, as consensus drives it */

/* A log entry begins. @index rises with each. Cluster time becomes the larger of @time_ms and what it was. */
void blx__state_begin(struct blx__state *st, uint64_t index, uint64_t time_ms);

/* Apply one operation. @result, unless NULL, receives the encoded op_result, a refusal too. An operation that cannot be
 * decoded, is unknown or carries unknown fields changes nothing and makes the state fatal. */
void blx__state_apply(struct blx__state *st, struct blx__slice op, struct blx__buf *result);

/* The entry is done; its events go out. */
void blx__state_end(struct blx__state *st);

/* NULL, or why this member must be poisoned: nothing was applied since. Ask after each blx__state_end. */
const char *blx__state_fatal(const struct blx__state *st);

/* A handle on all records as they are now, in time that grows with their number and not their size; they may change
 * while it exists. blx__state_write may run on any thread, also while entries are applied; the rest on the state's.
 * Every handle is thawed before the next blx__state_restore, and before blx__state_free. */
struct blx__state_frozen;
/* NULL: FATAL or NOMEM. */
struct blx__state_frozen *blx__state_freeze(struct blx__state *st, blx_error *err);
/* As blx__state_snapshot. */
blx__rc blx__state_write(const struct blx__state_frozen *frozen, struct blx__buf *out, blx_error *err) BLX__MUST;
void blx__state_thaw(struct blx__state *st, struct blx__state_frozen *frozen);

/* The same in parts, and without the answers kept for repeated requests: append whole records, each with its length in
 * front, until @out has @limit bytes or more. @at: zeros at first. True: that was all of them. A part exceeds @limit by
 * one record at most, BLX__STATE_RECORD_MAX. Thread: any. */
struct blx__state_cursor {
  size_t kind, done, at;
  bool begun;
};
blx__rc blx__state_write_part(const struct blx__state_frozen *frozen, struct blx__state_cursor *at, size_t limit,
                              struct blx__buf *out, bool *done, blx_error *err) BLX__MUST;
/* How many records of a kind there are in it. */
struct blx__state_frozen_counts {
  uint64_t index, time_ms;
  uint32_t nodes, vms, instances, configs;
};
struct blx__state_frozen_counts blx__state_frozen_counts(const struct blx__state_frozen *frozen);
/* Records that were replaced and are kept because something is frozen. */
size_t blx__state_released(const struct blx__state *st);

/* The three in one. Append everything to @out: records with a length before each, in one order. @out is unchanged on
 * failure. Errors: BUSY (it does not fit @out->max), FATAL, INTERNAL. */
blx__rc blx__state_snapshot(struct blx__state *st, struct blx__buf *out, blx_error *err) BLX__MUST;

/* Replace everything by a snapshot; events before it are forgotten. Errors: CORRUPT, UNSUPPORTED (written by a newer
 * version); the state is then untouched. */
blx__rc blx__state_restore(struct blx__state *st, struct blx__slice snapshot, blx_error *err) BLX__MUST;

/* ---- backup.c: the state of a cluster made into that of a new one, record by record. VMs, configs and instances stay,
 * with their uids; instances wait for a node, their epochs above all that the old cluster may have given since. Nodes,
 * answers kept for repeated requests, VMs that were being deleted, and what was buried with a node are left out. @node
 * is the only node, a server that votes.
 */
struct blx__state_reseed {
  const char *cluster_id, *cluster_name; /* of the new one; name NULL: the old one's */
  const char *node_name;
  /* What is made known: */
  uint64_t node_uid, index, time_ms;
  char old_cluster_id[33], name[57];
  /* Inside: */
  struct blx__arena arena;
  struct blx__map vms; /* uid -> how its instances come back */
  uint64_t era;        /* of the old cluster */
};
void blx__state_reseed_free(struct blx__state_reseed *r);
/* Take the next record, without its length, and append what becomes of it to @out: with lengths, and nothing where it
 * is left out. Errors: CORRUPT, UNSUPPORTED (of a newer version), NOMEM. */
blx__rc blx__state_reseed_take(struct blx__state_reseed *r, struct blx__slice record, struct blx__buf *out,
                               blx_error *err) BLX__MUST;
/* After the last: what was appended is put in order, and is a snapshot that can be restored. Errors: CORRUPT (it is no
 * state), NOMEM. */
blx__rc blx__state_reseed_end(struct blx__state_reseed *r, struct blx__buf *out, blx_error *err) BLX__MUST;

/* SHA-256 over the snapshot's bytes: equal on members that applied the same. Errors: as snapshot. */
blx__rc blx__state_digest(struct blx__state *st, uint8_t out[BLX__SHA256_BYTES], blx_error *err) BLX__MUST;

/* ---- queries */

uint64_t blx__state_index(const struct blx__state *st);         /* of the last entry begun; 0: none */
uint64_t blx__state_time_ms(const struct blx__state *st);       /* cluster time */
const char *blx__state_cluster_id(const struct blx__state *st); /* "" before op_cluster_init */
const char *blx__state_cluster_name(const struct blx__state *st);

/* What holds for the whole cluster, the defaults where nothing was changed; lease is never NULL. Borrowed. */
const struct blx_settings *blx__state_settings(const struct blx__state *st);
/* The audit log so far: how many records, and the hash of the last (BLX__SHA256_BYTES, borrowed; zeros: none yet). */
uint64_t blx__state_audit_seq(const struct blx__state *st);
const uint8_t *blx__state_audit_head(const struct blx__state *st);

struct blx__state_counts {
  uint32_t nodes, vms, instances;
  uint32_t running; /* instances whose phase is Running */
  uint32_t waiting; /* instances that wait for the scheduler, due or not */
  uint32_t ha;      /* instances that are highly available and not confirmed dead */
  uint32_t fencing; /* nodes that are being fenced, without a proof so far */
};
struct blx__state_counts blx__state_counts(const struct blx__state *st);

/* After a recovery (op_recover): @uid is a server's, or nobody's that is known, that was given up with the old group.
 */
bool blx__state_is_gone(const struct blx__state *st, uint64_t uid);
uint64_t blx__state_gone_below(const struct blx__state *st); /* 0: there was none */
uint64_t blx__state_next_node_uid(const struct blx__state *st);

/* The era that the last recovery began (op_regroup); 0: there was none. */
uint64_t blx__state_era(const struct blx__state *st);
/* It is not known since what runs on that node: nothing is placed there, and it is given no lease. */
bool blx__state_is_unclear(const struct blx__state *st, uint64_t uid);
uint32_t blx__state_unclear(const struct blx__state *st); /* how many nodes are */
/* While there are any: it may run unknown to the state, and is started nowhere. */
bool blx__state_is_held(const struct blx__state *st, const struct blx_instance *i);

/* One record, or NULL. @tenant NULL or "": default. */
const struct blx_node_info *blx__state_node(const struct blx__state *st, uint64_t uid);
/* A node had that uid, and was removed: no node will ever have it again. */
bool blx__state_node_was_removed(const struct blx__state *st, uint64_t uid);
/* Whether op_node_remove would be accepted once the node does not vote any more. Errors: NOT_FOUND, CONFLICT (says what
 * ties it to the cluster, and the way out). */
blx__rc blx__state_may_remove(const struct blx__state *st, uint64_t uid, blx_error *err) BLX__MUST;
const struct blx_node_info *blx__state_node_by_name(const struct blx__state *st, const char *name);
const struct blx_vm *blx__state_vm(const struct blx__state *st, uint64_t uid);
const struct blx_vm *blx__state_vm_by_name(const struct blx__state *st, const char *tenant, const char *name);
const struct blx_instance *blx__state_instance(const struct blx__state *st, uint64_t uid);
const struct blx_instance *blx__state_instance_by_name(const struct blx__state *st, const char *tenant,
                                                       const char *name);
const struct blx_config *blx__state_config(const struct blx__state *st, const char *sha256);

/* The VM of that name, else the one whose instance has it; NULL: neither. */
const struct blx_vm *blx__state_vm_lookup(const struct blx__state *st, const char *tenant, const char *name);

/* The first VM that @vm depends on and that does not run, or shall not; NULL: @vm may start. */
const struct blx_vm *blx__state_awaits(const struct blx__state *st, const struct blx_vm *vm);

/* Iteration without an iterator: the record after the given key, or NULL past the end. Begin with NULL or 0. */
const struct blx_node_info *blx__state_node_after(const struct blx__state *st, const char *name);
const struct blx_node_info *blx__state_node_after_uid(const struct blx__state *st, uint64_t uid);
const struct blx_vm *blx__state_vm_after(const struct blx__state *st, const char *tenant, const char *name);
/* The same over all tenants, by tenant and name. @tenant NULL: the first. */
const struct blx_vm *blx__state_vm_of_any_after(const struct blx__state *st, const char *tenant, const char *name);
const struct blx_vm *blx__state_vm_after_uid(const struct blx__state *st, uint64_t uid);
const struct blx_instance *blx__state_instance_after(const struct blx__state *st, uint64_t vm_uid, uint32_t ordinal);
const struct blx_instance *blx__state_instance_on_node_after(const struct blx__state *st, uint64_t node_uid,
                                                             uint64_t instance_uid);

/* Instances that wait for the scheduler, by the time they are due (not_before_ms), then uid; from the first after
 * (@due_ms, @uid) on. (0, 0) gives the first. NULL past the end. */
const struct blx_instance *blx__state_waiting_after(const struct blx__state *st, uint64_t due_ms, uint64_t uid);

/* The same, but of those only that are due at @now_ms: the highest priority first (spec.priority), then by the time
 * they became due, then uid. @at: zeros at first, then where the last one was; operations may be applied in between.
 * NULL past the end. A step costs O(log n), and once more for each priority that has none due. */
struct blx__state_ready {
  bool begun;
  uint32_t priority;
  uint64_t due_ms, uid;
};
const struct blx_instance *blx__state_ready_next(const struct blx__state *st, uint64_t now_ms,
                                                 struct blx__state_ready *at);
/* When the first of those that are not due at @now_ms will be. 0: there are none. */
uint64_t blx__state_next_due_ms(const struct blx__state *st, uint64_t now_ms);

/* Tombstones: instances deleted by force whose node has not confirmed yet that they are gone there. */
const struct blx_tombstone *blx__state_tombstone_on_node_after(const struct blx__state *st, uint64_t node_uid,
                                                               uint64_t instance_uid);
/* The first node above @node_uid that must still remove an instance of this name, so that no other one of the name and
 * tenant may start there; 0: none. */
uint64_t blx__state_tombstone_node_after(const struct blx__state *st, const char *tenant, const char *instance,
                                         uint64_t node_uid);
/* That node must still remove one of this name, of any tenant. */
bool blx__state_tombstone_named(const struct blx__state *st, const char *instance, uint64_t node_uid);

/* The node as placement sees it, allocations counted: those of instances not confirmed dead, deleted by force or not.
 * Borrowed like a record. False: no such node. */
bool blx__state_placement_node(const struct blx__state *st, uint64_t uid, struct blx__placement_node *out);

/* How many highly available instances of that node are not confirmed dead. 0: no such node, too. */
uint32_t blx__state_ha_on_node(const struct blx__state *st, uint64_t uid);

/* ms after the last answer to a node at which nothing runs there under a lease of the present settings or of those
 * before them; of a lease that was given for @lease_ms (0: as the settings say). */
uint64_t blx__state_t_safe_ms(const struct blx__state *st, uint64_t lease_ms);

/* Whether that time proves that nothing runs on a node that is being fenced. Not where one of its fenced instances may
 * be on a machine that nothing ends or resets in time: it was placed there for the fence command's sake. */
bool blx__state_time_proves(const struct blx__state *st, uint64_t node_uid);

/* ---- what placement counts. Declared here for the scheduler.
 *
 * Whether @i is to go while its VM stays: its ordinal is above spec.replicas (see op_vm_scale). It is removed as an
 * instance of a deleted VM is, never wants a node again, and its name is free when its record is gone.
 *
 * A tombstone that is not dead counts wherever instances do: with its room, and for affinity with the labels and hard
 * `apart` rules of its spec, as an instance of a VM of its own whose uid is the tombstone's instance_uid. It is no
 * replica of the VM it was of. For preemption it is one that ends. */
bool blx__state_scaled_away(const struct blx_vm *vm, const struct blx_instance *i);

/* Whether @i is on its way to an end, so that its room is about to be free: it was told to end, or is to be removed, or
 * its VM stopped. What preemption counts as gone. */
bool blx__state_is_ending(const struct blx_vm *vm, const struct blx_instance *i);

/* Of @victims, which are uids of instances, the first of a VM that one of @spec depends on, by way of others too; NULL:
 * none. What ended for one that waits for it to run would be started again, and ended again. Looks at the 256 VMs that
 * it depends on most directly. */
const struct blx_instance *blx__state_needed_victim(const struct blx__state *st, const char *tenant,
                                                    const struct blx_vm_spec *spec, const uint64_t *victims, size_t n);

/* Instances that wait for room on a node, where others end for them (room_on_uid), by uid. NULL past the end. */
const struct blx_instance *blx__state_room_after(const struct blx__state *st, uint64_t node_uid, uint64_t uid);

/* What a tenant may have, and what it has: used_* and `used` filled in. NULL: no quota and no VM. Borrowed as a record
 * is. @tenant NULL or "": default. Of one without a quota, revision is 0 and there are no limits. */
const struct blx_quota *blx__state_quota(const struct blx__state *st, const char *tenant);
/* What was set for it, and nothing of what it has: the same until it is set anew. NULL: nothing was. */
const struct blx_quota *blx__state_limits(const struct blx__state *st, const char *tenant);
/* As blx__state_quota, of the tenant after @tenant, by name; NULL or "": the first. NULL past the end. */
const struct blx_quota *blx__state_quota_after(const struct blx__state *st, const char *tenant);

/* How many more instances of @spec the tenant's quota lets in, as replicas of VMs yet to be created, of which each may
 * have as many as any; and what of it stops the next one. */
struct blx__state_quota_room {
  const char *tenant;
  uint64_t instances;        /* UINT64_MAX: as many as one likes, and nothing below is filled in */
  const char *name, *of;     /* "memory", "MiB of memory"; a named resource's twice. Borrowed as a record is */
  uint64_t has, limit, each; /* each: what one more VM, or instance, needs */
};
struct blx__state_quota_room blx__state_quota_room(const struct blx__state *st, const char *tenant,
                                                   const struct blx_vm_spec *spec);

/* Whether that operation would be accepted now. Errors: its own. */
blx__rc blx__state_may_create(const struct blx__state *st, const char *tenant, const struct blx_vm_spec *spec,
                              blx_error *err) BLX__MUST;
blx__rc blx__state_may_scale(const struct blx__state *st, const struct blx_vm_scale_request *req,
                             blx_error *err) BLX__MUST;

/* What kinds of instances there are: (cpu_milli, memory_mib) of all that are defined, with how many of each; the most
 * frequent first, then the larger memory, then the larger cpu_milli. Returns how many were written, at most @max. */
struct blx__state_shape {
  uint64_t cpu_milli, memory_mib, count;
};
size_t blx__state_shapes(const struct blx__state *st, struct blx__state_shape *out, size_t max);

/* What an instance of @vm needs of a node. Borrowed from @vm. */
struct blx__placement_need blx__state_need(const struct blx_vm *vm);

/* ---- views: records as callers see them, in @arena. Errors: INVALID (arena's limit), NOMEM, NOT_FOUND. */

/* What would help against @reason, which may be NULL, in @phase: its own words, or those for all of its code when it
 * waits and has none. Static or the reason's; NULL: nothing. */
const char *blx__state_unblock(const struct blx_reason *reason, int32_t phase);

/* The VM with its instances by ordinal, their node names, and how many run. It points into the records, as they do: it
 * is gone with the next operation. The VM and its instances are the arena's; what they point to is not to be written.
 */
blx__rc blx__state_view_vm(const struct blx__state *st, uint64_t uid, struct blx__arena *arena, struct blx_vm **out,
                           blx_error *err) BLX__MUST;

/* The node with what is allocated on it; status and leader stay for the caller to fill. */
blx__rc blx__state_view_node(const struct blx__state *st, uint64_t uid, struct blx__arena *arena,
                             struct blx_node_info **out, blx_error *err) BLX__MUST;

/* The share of a node: one assignment for each instance that is its, by uid, then one for each tombstone, by instance
 * uid: to remove. @out: array in @arena of assignments in @arena, which point into the records, as in a view of a VM.
 */
blx__rc blx__state_share(const struct blx__state *st, uint64_t node_uid, struct blx__arena *arena,
                         struct blx_assignment ***out, size_t *n, blx_error *err) BLX__MUST;

/* Rises whenever the share of that node changes, by a restore too. This member's own count, 0: no such node. */
uint64_t blx__state_share_revision(const struct blx__state *st, uint64_t node_uid);

/* The share of that node is the same at every index from this one to the state's own, on any member. 0: no such node.
 */
uint64_t blx__state_share_index(const struct blx__state *st, uint64_t node_uid);

/* ---- events */

/* Call @fn with each event after @since_index, oldest first.
 * Errors: STALE (older ones were dropped: read everything again, then watch from the index of that reading). */
blx__rc blx__state_events_since(const struct blx__state *st, uint64_t since_index,
                                void (*fn)(void *user, const struct blx_event *event), void *user,
                                blx_error *err) BLX__MUST;

/* The index after which every event is still kept. */
uint64_t blx__state_events_dropped(const struct blx__state *st);

#endif
