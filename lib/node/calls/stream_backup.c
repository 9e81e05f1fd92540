/* Backups: the leader's word for an index, then this server's own state as it is at that index or later, frozen and
 * sent in parts as the caller takes them. Entries go on meanwhile; what they replace is kept until the end, and a
 * caller that is too slow for that is told so. */
#include "node/node_int.h"

#include <stdlib.h>

enum { PART_BYTES = 96 << 10, TICK_MS = 1000 };

struct backup {
  struct blx__list link;
  struct blx__node *node; /* NULL: gone, and only the leader's answer is still to come */
  struct blx__rpc_call *rpc;
  struct blx__timer *timer;
  bool asking, asked, ended, told_info;
  uint64_t index; /* that the state must have reached */
  struct blx__state_frozen *frozen;
  struct blx__state_cursor at;
  struct blx__buf held; /* a message for which there was no room */
  bool last_held;
};

static void end(struct backup *b, const blx_error *err) {
  if (b->ended) return;
  b->ended = true;
  if (b->frozen) blx__state_thaw(b->node->state, b->frozen);
  b->frozen = NULL;
  blx__rpc_call_finish(b->rpc, err);
}

static void fail(struct backup *b, int code, const char *why) {
  blx_error err;
  (void)blx__fail(&err, code, b->node->self->name, "%s", why);
  end(b, &err);
}

static blx__rc fill_info(struct backup *b, struct blx_backup_info *info, struct blx__buf *out, blx_error *err) {
  const struct blx__state_frozen_counts n = blx__state_frozen_counts(b->frozen);
  info->format = 1;
  info->cluster_id = blx__state_cluster_id(b->node->state);
  info->cluster_name = blx__state_cluster_name(b->node->state);
  info->index = n.index;
  info->time_ms = n.time_ms;
  info->saved_by = b->node->self->name;
  info->version = b->node->self->version;
  info->nodes = n.nodes;
  info->vms = n.vms;
  info->instances = n.instances;
  info->configs = n.configs;
  struct blx_backup_part part = {.struct_size = sizeof part, .info = info};
  return blx__msg_encode(blx__desc_backup_part(), &part, out, err);
}

static blx__rc fill_records(struct backup *b, struct blx__buf *out, blx_error *err) {
  struct blx__buf records;
  blx__buf_init(&records, PART_BYTES + BLX__STATE_RECORD_MAX);
  bool done = false;
  blx__rc rc = blx__state_write_part(b->frozen, &b->at, PART_BYTES, &records, &done, err);
  struct blx_backup_part part = {.struct_size = sizeof part, .last = done};
  part.records = (struct blx_bytes){records.data, records.len};
  if (rc.code == 0) rc = blx__msg_encode(blx__desc_backup_part(), &part, out, err);
  b->last_held = done;
  blx__buf_free(&records);
  return rc;
}

/* The next message, into `held`. */
static blx__rc fill(struct backup *b, blx_error *err) {
  struct blx_backup_info info = BLX_BACKUP_INFO_INIT;
  if (b->told_info) return fill_records(b, &b->held, err);
  b->told_info = true;
  return fill_info(b, &info, &b->held, err);
}

static void pump(struct backup *b) {
  blx_error err;
  while (!b->ended && b->frozen) {
    if (b->held.len == 0 && fill(b, &err).code != 0) {
      end(b, &err);
      return;
    }
    if (!blx__rpc_call_send(b->rpc, b->held.data, b->held.len)) return;
    blx__buf_clear(&b->held);
    if (b->last_held) end(b, NULL);
  }
}

static void begin_if_reached(struct backup *b) {
  struct blx__node *n = b->node;
  blx_error err;
  if (b->ended || b->frozen || !b->asked || blx__state_index(n->state) < b->index) return;
  b->frozen = blx__state_freeze(n->state, &err);
  if (!b->frozen) {
    end(b, &err);
    return;
  }
  pump(b);
}

static void backup_free(struct backup *b) {
  blx__buf_free(&b->held);
  free(b);
}

/* The leader's index: everything that was acknowledged before the call is at it or below. */
static void on_asked(void *user, const blx_error *err, struct blx__slice answer) {
  struct backup *b = user;
  struct blx__arena arena = {.limit_bytes = BLX__NODE_ANSWER_MAX};
  void *decoded = NULL;
  blx_error why;
  b->asking = false;
  if (!b->node) {
    backup_free(b);
    return;
  }
  if (err) {
    end(b, err);
  } else if (blx__msg_decode(blx__desc_cluster_status(), &arena, answer, &decoded, &why).code != 0) {
    end(b, &why);
  } else {
    b->index = ((const struct blx_cluster_status *)decoded)->index;
    b->asked = true;
    begin_if_reached(b);
  }
  blx__arena_free(&arena);
}

static void on_tick(void *arg) {
  struct backup *b = arg;
  if (b->frozen && blx__state_released(b->node->state) > BLX__NODE_BACKUP_KEPT_MAX)
    fail(b, BLX_E_BUSY, "the backup is read more slowly than the cluster changes: write it to a faster place");
  else
    begin_if_reached(b);
}

static void on_writable(void *user) {
  pump(user);
}

static void on_gone(void *user, bool cancelled) {
  struct backup *b = user;
  struct blx__node *n = b->node;
  (void)cancelled;
  if (b->frozen) blx__state_thaw(n->state, b->frozen);
  b->frozen = NULL;
  blx__list_remove(&b->link);
  n->backups_count--;
  blx__timer_free(b->timer);
  blx__rpc_call_unref(b->rpc);
  b->node = NULL;
  if (!b->asking) backup_free(b);
}

static const struct blx__rpc_call_ops ops = {on_writable, on_gone};

void blx__backups_pump(struct blx__node *n) {
  BLX__LIST_FOREACH (it, &n->backups) begin_if_reached(BLX__CONTAINER(it, struct backup, link));
}

void blx__backups_end(struct blx__node *n) {
  BLX__LIST_FOREACH (it, &n->backups) {
    struct backup *b = BLX__CONTAINER(it, struct backup, link);
    if (b->frozen) fail(b, BLX_E_UNAVAILABLE, "this server was given the whole state anew by the leader: try again");
  }
}

void blx__handle_cluster_backup(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_cluster_status_request request = BLX_CLUSTER_STATUS_REQUEST_INIT;
  blx_error err;
  if (n->backups_count >= BLX__NODE_BACKUPS_MAX) {
    blx__call_failf(call, BLX_E_BUSY, "%u backups are being taken by node %s already: try again later",
                    n->backups_count, n->self->name);
    return;
  }
  struct backup *b = calloc(1, sizeof *b);
  struct blx__timer *timer = b ? blx__timer_new(n->loop, on_tick, b) : NULL;
  if (!timer) {
    free(b);
    blx__call_failf(call, BLX_E_NOMEM, "no memory for a backup");
    return;
  }
  b->node = n;
  b->timer = timer;
  blx__buf_init(&b->held, PART_BYTES + BLX__STATE_RECORD_MAX + 1024);
  blx__rc rc = blx__node_submit(n, BLX__RPC_CLUSTER_STATUS, &request, on_asked, b, &err);
  if (rc.code != 0) {
    blx__timer_free(timer);
    backup_free(b);
    blx__call_fail(call, &err);
    return;
  }
  b->asking = true;
  b->rpc = blx__rpc_call_ref(call->rpc);
  blx__list_push(&n->backups, &b->link);
  n->backups_count++;
  blx__rpc_call_watch(b->rpc, &ops, b);
  blx__call_release(call);
  blx__timer_start(timer, TICK_MS, TICK_MS);
}
