/* A state made into that of a new cluster. What comes out is a snapshot, made once and the same on every later member.
 * An instance keeps its uid, and its epoch goes on in an era of its own, so that whatever is left of it on some old
 * host is older than what starts now, although it was assigned there after the backup was made; new objects have uids
 * above all that were given since. It has no node, and is dead there. One that had ended, and that its restart policy
 * leaves, stays as it was. */
#include "state/state_int.h"

#include "schema/validate.h"

#include <string.h>

enum { RECORD_ARENA_BYTES = 4 << 20 };

static const char pending_text[] = "restored from a backup; waits for the scheduler to choose a node";
static const char stopped_text[] = "restored from a backup; was not to run";

enum comes_back { GONE, TO_RUN, TO_STAY_STOPPED };

/* With how many replicas its VM is to have; NULL means that there is no such VM. */
static void *comes_back_as(enum comes_back how, uint32_t replicas) {
  return (void *)((uintptr_t)replicas << 2 | ((uintptr_t)how + 1));
}

static blx__rc damaged(blx_error *err, const char *what) {
  return blx__fail(err, BLX_E_CORRUPT, "state", "the backup is damaged: %s", what);
}

void blx__state_reseed_free(struct blx__state_reseed *r) {
  blx__map_clear(&r->vms);
  blx__arena_free(&r->arena);
}

static blx__rc add_node(const struct blx__state_reseed *r, struct blx__buf *out, blx_error *err) {
  struct blx_node_info node = BLX_NODE_INFO_INIT;
  struct blx_snapshot_record record = BLX_SNAPSHOT_RECORD_INIT;
  node.uid = r->node_uid;
  node.name = r->node_name;
  node.role = BLX_NODE_ROLE_SERVER;
  node.voter = 1;
  node.revision = r->index;
  node.joined_ms = r->time_ms;
  record.node = &node;
  return blx__state_add_record(out, &record, err);
}

/* The restore counts as one entry behind all that were saved, so that no revision comes twice. */
static blx__rc take_head(struct blx__state_reseed *r, const struct blx_snapshot_head *from, struct blx__buf *out,
                         blx_error *err) {
  struct blx_snapshot_head head = *from;
  struct blx_snapshot_record record = BLX_SNAPSHOT_RECORD_INIT;
  if (r->index != 0) return damaged(err, "it has two heads");
  if (head.index == 0 || head.index > UINT64_MAX / 2 || head.next_uid > UINT64_MAX / 2 || head.next_node_uid == 0 ||
      head.next_node_uid > UINT64_MAX / 2)
    return damaged(err, "a counter is zero or too large");
  if (!blx__str_copy(r->old_cluster_id, sizeof r->old_cluster_id, head.cluster_id ? head.cluster_id : "") ||
      !blx__str_copy(r->name, sizeof r->name, head.cluster_name ? head.cluster_name : ""))
    return damaged(err, "the cluster's id or name is too long");
  if (r->cluster_name && !blx__str_copy(r->name, sizeof r->name, r->cluster_name))
    return blx__fail(err, BLX_E_INVALID, "state", "the cluster's name has more than %zu bytes", sizeof r->name - 1);
  head.cluster_id = r->cluster_id;
  head.cluster_name = r->name;
  r->index = ++head.index;
  r->time_ms = head.time_ms;
  r->node_uid = head.next_node_uid++;
  head.next_uid = blx__state_uids_after(head.next_uid);
  record.head = &head;
  BLX__TRY(blx__state_add_record(out, &record, err));
  return add_node(r, out, err);
}

static blx__rc take_vm(struct blx__state_reseed *r, const struct blx_vm *vm, struct blx__buf *out, blx_error *err) {
  struct blx_snapshot_record record = BLX_SNAPSHOT_RECORD_INIT;
  bool run = vm->desired == BLX_DESIRED_RUNNING;
  enum comes_back how = vm->deleting ? GONE : run ? TO_RUN : TO_STAY_STOPPED;
  if (!blx__map_set_u64(&r->vms, vm->uid, comes_back_as(how, vm->spec ? blx__state_replicas(vm->spec) : 1), NULL))
    return blx__fail(err, BLX_E_NOMEM, "state", "no memory for the VMs of the backup");
  if (vm->deleting) return BLX__OK;
  struct blx_vm draft = *vm; /* its phase is worked out when its instances are there */
  draft.revision = r->index;
  record.vm = &draft;
  return blx__state_add_record(out, &record, err);
}

static bool stays_ended(const struct blx_instance *i) {
  bool ended = i->phase == BLX_PHASE_STOPPED || (i->phase == BLX_PHASE_FAILED && i->not_before_ms == 0);
  return i->dead && ended && i->epoch > 0;
}

static blx__rc take_instance(struct blx__state_reseed *r, const struct blx_instance *i, struct blx__buf *out,
                             blx_error *err) {
  struct blx_snapshot_record record = BLX_SNAPSHOT_RECORD_INIT;
  uintptr_t vm = (uintptr_t)blx__map_get_u64(&r->vms, i->vm_uid);
  if (i->epoch > UINT64_MAX / 2) return damaged(err, "a counter is zero or too large");
  if (!vm) return damaged(err, "the VM of an instance is missing");
  enum comes_back how = (enum comes_back)((vm & 3) - 1);
  if (how == GONE || i->ordinal > vm >> 2) return BLX__OK;
  bool run = how == TO_RUN;
  struct blx_reason reason = blx__state_reason(run ? BLX_REASON_CODE_UNPLACED : BLX_REASON_CODE_STOPPED_BY_USER,
                                               run ? pending_text : stopped_text, run ? NULL : "start the VM");
  struct blx_instance draft = *i;
  if (!run || !stays_ended(i)) {
    draft.phase = run ? BLX_PHASE_PENDING : BLX_PHASE_STOPPED;
    draft.reason = &reason;
    draft.phase_since_ms = r->time_ms;
  }
  draft.node_uid = 0;
  draft.epoch = blx__state_era_after(i->epoch > r->era ? i->epoch : r->era);
  draft.seen_era = 0;
  draft.fenced = 0;
  if (i->local_data) draft.local_data = draft.data_known = 0;
  draft.node = NULL;
  draft.dead = 1;
  draft.ending = BLX_ENDING_NONE;
  draft.paused = 0;
  draft.failures = 0;
  draft.not_before_ms = 0;
  draft.room_on_uid = draft.preempted_for_uid = 0;
  draft.revision = r->index;
  record.instance = &draft;
  return blx__state_add_record(out, &record, err);
}

blx__rc blx__state_reseed_take(struct blx__state_reseed *r, struct blx__slice record, struct blx__buf *out,
                               blx_error *err) {
  void *msg = NULL;
  blx_error why = {0};
  r->arena.limit_bytes = RECORD_ARENA_BYTES;
  blx__arena_reset(&r->arena);
  if (record.len > BLX__STATE_RECORD_MAX) return damaged(err, "a record is too long");
  if (blx__msg_decode(blx__desc_snapshot_record(), &r->arena, record, &msg, &why).code != 0)
    return damaged(err, why.message);
  if (blx__msg_refuse_unknown(blx__desc_snapshot_record(), msg, &why).code != 0)
    return blx__fail(err, BLX_E_UNSUPPORTED, "state", "the backup is of a newer version, use that one's programs: %s",
                     why.message);
  const struct blx_snapshot_record *rec = msg;
  if (rec->head) return take_head(r, rec->head, out, err);
  if (r->index == 0) return damaged(err, "it does not begin with a head");
  if (rec->recover_mark) r->era = rec->recover_mark->era;
  if (r->era > UINT64_MAX / 2) return damaged(err, "a counter is zero or too large");
  if (rec->vm) return take_vm(r, rec->vm, out, err);
  if (rec->instance) return take_instance(r, rec->instance, out, err);
  if (rec->node || rec->tombstone || rec->idempotency || rec->recover_mark) return BLX__OK;
  return blx__state_add_record(out, rec, err);
}

/* What a VM shows follows from its instances: each is looked at once more. */
static void settle_all(struct blx__state *st) {
  BLX__MAP_FOREACH(pos, &st->data.vms) {
    struct state_vm *vm = blx__map_value(pos);
    STATE_MUST(blx__map_set_u64(&st->data.unsettled, vm->rec->uid, vm, NULL));
  }
  blx__state_settle(st);
  blx__state_end(st);
}

blx__rc blx__state_reseed_end(struct blx__state_reseed *r, struct blx__buf *out, blx_error *err) {
  static const uint8_t end[4];
  if (r->index == 0) return damaged(err, "it is empty");
  struct blx__state *st = blx__state_new(NULL);
  if (!st || !blx__buf_add(out, end, sizeof end)) {
    blx__state_free(st);
    return blx__fail(err, BLX_E_NOMEM, "state", "no memory for the state of the backup");
  }
  blx__rc rc = blx__state_restore(st, (struct blx__slice){out->data, out->len}, err);
  if (rc.code == 0) {
    settle_all(st);
    blx__buf_clear(out);
    rc = blx__state_snapshot(st, out, err);
  }
  blx__state_free(st);
  return rc;
}
