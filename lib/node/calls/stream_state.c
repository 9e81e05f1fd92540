/* The share of a worker: what it was told of each instance; what differs from the state is sent whenever it takes more.
 * No queue is held, and nothing is done while nothing in that share changes. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

enum {
  PART_ASSIGNMENTS_MAX = 32,         /* in one part; a spec is smaller than an operation, so that they fit a message */
  PART_CONFIG_MAX_BYTES = 128 << 10, /* of their modules together, before the last one */
  PART_LEFT_MAX = 4096,
  SHARE_ARENA = 256 << 20, /* bytes to look at a share once */
};

/* What the worker has of one instance. Its spec does not change. */
struct told {
  uint64_t uid, epoch;
  uint64_t asked; /* revision of the instance by which it was asked how that is; 0: it was not */
  uint32_t what;
};

struct share {
  struct blx__list due; /* in node->shares_due */
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  uint64_t uid, incarnation;
  uint64_t has_index, has_era;               /* what the worker came with: it is told nothing older */
  bool begun;                                /* the worker was told that it is known, and what follows is its share */
  uint64_t era;                              /* of what it is told since */
  bool whole;                                /* the next part is the first of a whole one */
  bool greeted;                              /* it was told something */
  bool full;                                 /* it takes no more for now */
  uint64_t revision, servers, leader, other; /* that it was told last; other: an incarnation that is not the asker's */
  struct told *told;                         /* by uid */
  size_t told_count;
};

/* From `told` and the share as it is, both by uid, to the next `told`. */
struct round {
  struct blx_assignment **list;
  size_t count, at, told_at;
  struct told *next;
  size_t next_count;
};

static struct told tell(const struct blx__state *st, const struct blx_assignment *a) {
  uint32_t what = (uint32_t)a->desired | (uint32_t)a->ending << 8 | (a->remove ? 1u << 16 : 0) |
                  (a->dead ? 1u << 17 : 0) | (a->paused ? 1u << 18 : 0) | (a->held ? 1u << 19 : 0);
  const struct blx_instance *i = a->tell ? blx__state_instance(st, a->instance_uid) : NULL;
  return (struct told){.uid = a->instance_uid, .epoch = a->epoch, .asked = i ? i->revision : 0, .what = what};
}

/* What it was asked and has not answered yet is no news, nor is that it need not answer any more. */
static bool is_news(const struct told *old, const struct told *next) {
  return old->uid != next->uid || old->epoch != next->epoch || old->what != next->what ||
         (next->asked != 0 && next->asked != old->asked);
}

static int by_uid(const void *a, const void *b) {
  const struct blx_assignment *const *x = a, *const *y = b;
  return ((*x)->instance_uid > (*y)->instance_uid) - ((*x)->instance_uid < (*y)->instance_uid);
}

static blx__rc round_begin(const struct share *s, struct blx__arena *arena, struct round *r, blx_error *err) {
  BLX__TRY(blx__state_share(s->node->state, s->uid, arena, &r->list, &r->count, err));
  qsort(r->list, r->count, sizeof *r->list, by_uid);
  size_t most = r->count + s->told_count;
  r->next = most < SIZE_MAX / sizeof *r->next ? calloc(most + 1, sizeof *r->next) : NULL;
  return r->next ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "node", "no memory for a share of %zu instances", r->count);
}

/* Fill @part with what comes next, until it is full or nothing is left. */
static void round_fill(const struct share *s, struct round *r, struct blx_share_part *part) {
  size_t bytes = 0;
  while (r->at < r->count || r->told_at < s->told_count) {
    const struct told *old = r->told_at < s->told_count ? &s->told[r->told_at] : NULL;
    struct blx_assignment *now = r->at < r->count ? r->list[r->at] : NULL;
    if (old && (!now || old->uid < now->instance_uid)) {
      if (part->n_left == PART_LEFT_MAX) break;
      part->left[part->n_left++] = old->uid;
      r->told_at++;
      continue;
    }
    const struct told next = tell(s->node->state, now);
    if (!old || is_news(old, &next)) {
      if (part->n_assignments == PART_ASSIGNMENTS_MAX || bytes > PART_CONFIG_MAX_BYTES) break;
      bytes += now->config.len;
      part->assignments[part->n_assignments++] = now;
    }
    r->told_at += old && old->uid == next.uid;
    r->next[r->next_count++] = next;
    r->at++;
  }
  part->more = r->at < r->count || r->told_at < s->told_count;
}

/* What was not sent stays as it was told. */
static void round_end(struct share *s, struct round *r) {
  if (!r->next) return;
  size_t rest = s->told_count - r->told_at;
  if (rest > 0) memcpy(r->next + r->next_count, s->told + r->told_at, rest * sizeof *r->next);
  free(s->told);
  s->told = r->next;
  s->told_count = r->next_count + rest;
}

/* The servers that vote, of which there are few: one that never came so far is not to be asked. */
static blx__rc add_servers(const struct share *s, struct blx__arena *arena, struct blx_share_part *part,
                           blx_error *err) {
  size_t count = 0;
  BLX__TRY(blx__node_peers(s->node, arena, &part->servers, &count, err));
  for (size_t i = 0; i < count && part->n_servers < BLX__CONSENSUS_MEMBERS_MAX; i++)
    if (part->servers[i]->voter) part->servers[part->n_servers++] = part->servers[i];
  return BLX__OK;
}

/* With who leads and, where it is news, who the servers are. False: there was no room for it. */
static bool send_part(struct share *s, struct blx_share_part *part) {
  struct blx__node *n = s->node;
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  struct blx__buf out;
  blx__buf_init(&out, BLX__NODE_ANSWER_MAX);
  blx_error err;
  bool sent = true;
  part->struct_size = sizeof *part;
  part->leader = blx__consensus_leader(n->consensus);
  blx__rc rc = BLX__OK;
  if (!s->greeted || s->servers != n->servers_revision) rc = add_servers(s, &arena, part, &err);
  if (rc.code == 0) rc = blx__msg_encode(blx__desc_share_part(), part, &out, &err);
  if (rc.code != 0)
    blx__rpc_call_finish(s->rpc, &err);
  else
    sent = blx__rpc_call_send(s->rpc, out.data, out.len);
  if (sent) {
    s->greeted = true;
    s->servers = n->servers_revision;
    s->leader = part->leader;
  }
  blx__buf_free(&out);
  blx__arena_free(&arena);
  return sent;
}

static void send_round(struct share *s) {
  struct blx__arena arena = {.limit_bytes = SHARE_ARENA};
  struct round r = {0};
  blx_error err;
  uint64_t revision = blx__state_share_revision(s->node->state, s->uid);
  if (round_begin(s, &arena, &r, &err).code != 0) {
    blx__rpc_call_finish(s->rpc, &err);
    blx__arena_free(&arena);
    return;
  }
  struct blx_assignment *assignments[PART_ASSIGNMENTS_MAX];
  uint64_t left[PART_LEFT_MAX];
  for (bool more = true; more && !s->full;) {
    struct round before = r;
    struct blx_share_part part = {.index = blx__state_index(s->node->state), .whole = s->whole, .known = 1};
    part.era = blx__state_era(s->node->state);
    part.unclear = blx__state_is_unclear(s->node->state, s->uid);
    part.assignments = assignments;
    part.left = left;
    round_fill(s, &r, &part);
    more = part.more;
    if (send_part(s, &part)) {
      s->whole = false;
      if (!more) s->revision = revision;
    } else {
      s->full = true;
      r = before;
    }
  }
  round_end(s, &r);
  blx__arena_free(&arena);
}

/* The worker has the share of @has_index, and it is the same still: from then on it is told what changes. */
static void resume(struct share *s) {
  struct blx__arena arena = {.limit_bytes = SHARE_ARENA};
  struct round r = {0};
  blx_error err;
  if (round_begin(s, &arena, &r, &err).code != 0) {
    blx__rpc_call_finish(s->rpc, &err);
  } else {
    while (r.at < r.count) r.next[r.next_count++] = tell(s->node->state, r.list[r.at++]);
    round_end(s, &r);
    s->revision = blx__state_share_revision(s->node->state, s->uid);
  }
  blx__arena_free(&arena);
}

/* May the worker have its share from here? False: not yet, or no more. */
static bool share_begin(struct share *s) {
  const struct blx__node *n = s->node;
  const struct blx_node_info *node = blx__state_node(n->state, s->uid);
  /* An index of another era is one of another log. What was said in that is void, and nothing is told of an older. */
  uint64_t era = blx__state_era(n->state);
  if (era > s->has_era) s->has_index = 0;
  bool known = node && node->incarnation == s->incarnation && blx__state_index(n->state) >= s->has_index &&
               era >= s->has_era && !blx__member_recovering(n);
  if (known && !s->begun) {
    s->begun = true;
    s->era = era;
    s->whole = s->has_index == 0 || blx__state_share_index(n->state, s->uid) > s->has_index;
    s->greeted = false;
    s->other = 0;
    if (!s->whole) resume(s);
  }
  if (s->begun && (!known || s->era != era)) {
    blx_error err;
    (void)blx__fail(&err, BLX_E_CONFLICT, n->self->name,
                    known ? "the cluster was recovered since" : "this worker was started anew since");
    blx__rpc_call_finish(s->rpc, &err);
    return false;
  }
  return known;
}

static void share_pump(struct share *s) {
  struct blx__node *n = s->node;
  if (s->full || blx__rpc_call_is_over(s->rpc)) return;
  bool known = share_begin(s);
  const struct blx_node_info *node = blx__state_node(n->state, s->uid);
  uint64_t other = known || !node ? 0 : node->incarnation;
  bool news = !s->greeted || s->other != other || s->servers != n->servers_revision ||
              s->leader != blx__consensus_leader(n->consensus);
  if (known && (news || s->revision != blx__state_share_revision(n->state, s->uid))) {
    send_round(s);
  } else if (!known && !s->begun && news) {
    struct blx_share_part part = {.incarnation = other};
    s->full = !send_part(s, &part);
    if (!s->full) s->other = other;
  }
  if (!known && blx__state_index(n->state) < s->has_index) n->shares_behind = true;
}

void blx__share_due(struct blx__node *n, uint64_t uid) {
  struct share *s = blx__map_get_u64(&n->shares, uid);
  if (s && blx__list_empty(&s->due)) blx__list_push(&n->shares_due, &s->due);
}

void blx__shares_due(struct blx__node *n) {
  BLX__MAP_FOREACH(pos, &n->shares) {
    struct share *s = blx__map_value(pos);
    if (blx__list_empty(&s->due)) blx__list_push(&n->shares_due, &s->due);
  }
}

void blx__shares_pump(struct blx__node *n) {
  if (n->shares_behind) blx__shares_due(n);
  n->shares_behind = false;
  for (struct blx__list *it; (it = blx__list_first(&n->shares_due));) {
    blx__list_remove(it);
    share_pump(BLX__CONTAINER(it, struct share, due));
  }
}

static void share_writable(void *user) {
  struct share *s = user;
  s->full = false;
  if (!s->node->closing && s->node->fatal_code == 0) share_pump(s);
}

static void share_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct share *s = user;
  if (blx__map_get_u64(&s->node->shares, s->uid) == s) blx__map_remove_u64(&s->node->shares, s->uid);
  blx__list_remove(&s->due);
  blx__rpc_call_unref(s->rpc);
  free(s->told);
  free(s);
}

static const struct blx__rpc_call_ops share_ops = {share_writable, share_gone};

/* A worker has one stream: when it asks anew, the one before is of a connection that it gave up. */
static bool share_put(struct blx__node *n, struct share *s) {
  void *old = NULL;
  if (n->shares.count >= BLX__STATE_NODES_MAX || !blx__map_set_u64(&n->shares, s->uid, s, &old)) return false;
  if (!old) return true;
  blx_error err;
  (void)blx__fail(&err, BLX_E_CONFLICT, n->self->name, "this worker asks for its share on another call");
  blx__list_remove(&((struct share *)old)->due);
  blx__rpc_call_finish(((struct share *)old)->rpc, &err);
  return true;
}

void blx__handle_share(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_share_request *req = call->request;
  if (req->node_uid == 0) {
    blx__call_failf(call, BLX_E_INVALID, "node_uid: is required");
    return;
  }
  if (n->consensus && blx__state_node_was_removed(n->state, req->node_uid)) {
    blx__call_failf(call, BLX_E_DENIED, "node %llu was removed from the cluster \"%s\"",
                    (unsigned long long)req->node_uid, n->identity->cluster_name);
    return;
  }
  if (!n->consensus) {
    blx__call_failf(call, BLX_E_CONFLICT, "node %s is a worker, and tells no share: ask a server", n->self->name);
    return;
  }
  struct share *s = call->rpc ? calloc(1, sizeof *s) : NULL;
  if (!s) {
    blx__call_failf(call, BLX_E_NOMEM, "no memory for a stream");
    return;
  }
  blx__list_init(&s->due);
  s->node = n;
  s->uid = req->node_uid;
  s->incarnation = req->incarnation;
  s->has_index = req->index;
  s->has_era = req->era;
  if (!share_put(n, s)) {
    free(s);
    blx__call_failf(call, BLX_E_BUSY, "%d workers ask for their share here: try another server", BLX__STATE_NODES_MAX);
    return;
  }
  s->rpc = blx__rpc_call_ref(call->rpc);
  blx__rpc_call_watch(s->rpc, &share_ops, s);
  blx__call_release(call);
  share_pump(s);
}
