/* Leases of nodes, renewed. Each agent asks every renew_ms, which is also how it is heard from. A server collects the
 * questions of its own agent and of the workers that use it, and sends them to the leader together; the leader collects
 * what servers and its own workers ask, and answers all of it after one confirmation that began later than the last of
 * them came. So thousands of nodes cost it a few rounds a second, and no entry of the log: leases go on when its disk
 * is full. An answer that does not come is asked for again; nothing is kept for those who went away. */
#include "node/node_int.h"

#include "io/file.h"
#include "lease/lease.h"

#include <stdlib.h>
#include <string.h>

enum {
  WINDOW_MAX_MS = 250,   /* that a question waits for company at most, ... */
  WINDOWS_A_RENEWAL = 4, /* and so many of these are in renew_ms at least */
  ASKS_MAX = 5000,       /* that wait at the same time; as the schema's renew_request */
  BATCHES_MAX = 32,      /* on their way at the same time */
  DEADLINE_MIN_MS = 500, /* of one; else renew_ms */
  UNREADY_MAX = 5,       /* looks in a row at which nobody watched, until the cluster is told */
  CATCH_MS = 100,        /* until a node that has no lease asks again */
  ASK_ARENA = 64 << 10,  /* for one question */
  STORED_ITEM_BYTES = 16,
  STORED_BYTES_MAX = 1 << 20, /* of what nodes have built, in one message */
};

/* Whoever waits for answers: a call, or this node's own agent. */
struct asker {
  struct blx__list link;
  struct blx__call *call;    /* NULL: our own */
  struct blx_lease_ask *own; /* without a call; owned */
};

struct batch {
  struct blx__node *node;
  struct blx__list askers;
  size_t count;
};

static const struct blx_lease_settings *settings_of(const struct blx__node *n) {
  return n->state ? blx__state_settings(n->state)->lease : &n->renew.settings;
}

static uint64_t window_ms(const struct blx__node *n) {
  uint64_t ms = settings_of(n)->renew_ms / WINDOWS_A_RENEWAL;
  return ms < WINDOW_MAX_MS ? ms : WINDOW_MAX_MS;
}

static uint64_t deadline_ms(const struct blx__node *n) {
  uint64_t ms = settings_of(n)->renew_ms;
  return ms > DEADLINE_MIN_MS ? ms : DEADLINE_MIN_MS;
}

/* ---- answers */

/* This incarnation is cut off for ever: nothing of it may go on, and the node comes back as another one. */
static void fenced(struct blx__node *n) {
  blx__log(&n->log, BLX_LOG_WARNING, "node",
           "the cluster has fenced %s: its highly available instances are ended here, and it registers anew",
           n->self->name);
  blx__agent_lease_end(n->agent);
  blx_error err;
  uint64_t next = 0;
  if (blx__random_bytes(&next, sizeof next, &err).code != 0) {
    blx__log(&n->log, BLX_LOG_ERROR, "node", "no new incarnation: %s; trying again", err.message);
    return;
  }
  n->self->incarnation = next >> 12;
  n->registered = false;
  n->share_revision = 0;
  if (n->worker)
    blx__worker_begin_anew(n);
  else
    blx__member_announce(n);
}

/* It was registered, and the cluster does not know it any more: that was in the part of a log that a recovery lost. It
 * is the same one still, and what it runs goes on. */
static void unknown(struct blx__node *n) {
  if (!n->registered) return; /* it is on its way */
  blx__log(&n->log, BLX_LOG_WARNING, "node", "the cluster does not know this start of %s any more: it registers anew",
           n->self->name);
  n->registered = false;
  n->share_revision = 0;
  if (n->worker)
    blx__worker_begin_anew(n);
  else
    blx__member_announce(n);
}

static void take(struct blx__node *n, const struct blx_lease_ask *ask, const struct blx_lease_grant *grant) {
  if (n->closing || n->fatal_code != 0 || !n->agent || ask->incarnation != n->self->incarnation) return;
  switch (grant ? grant->answer : BLX_LEASE_ANSWER_LATER) {
  case BLX_LEASE_ANSWER_GRANTED:
    if (!grant->settings || blx__lease_check(grant->settings, NULL).code != 0 ||
        grant->lease_ms < grant->settings->lease_ms)
      return;
    n->renew.settings = *grant->settings;
    blx__soft_said(n, ask);
    (void)blx__agent_lease_granted(n->agent, ask->seq, grant->lease_ms, grant->settings);
    return;
  case BLX_LEASE_ANSWER_FENCED: fenced(n); return;
  case BLX_LEASE_ANSWER_UNKNOWN: unknown(n); return;
  default: return; /* asked again */
  }
}

static void answer_asker(struct blx__node *n, struct asker *a, const struct blx__map *grants, const blx_error *err) {
  if (!a->call) {
    const struct blx_lease_grant *grant = err ? NULL : blx__map_get_u64(grants, a->own->node_uid);
    if (grant && grant->seq != a->own->seq) grant = NULL;
    if (!err) take(n, a->own, grant);
    blx__msg_free_owned(a->own);
    free(a);
    return;
  }
  struct blx__call *call = a->call;
  const struct blx_renew_request *req = call->request;
  struct blx_renew_reply reply = BLX_RENEW_REPLY_INIT;
  if (err) {
    blx__call_fail(call, err);
    return;
  }
  reply.grants = blx__arena_alloc(&call->arena, sizeof *reply.grants * (req->n_asks + 1));
  for (size_t i = 0; reply.grants && i < req->n_asks; i++) {
    struct blx_lease_grant *grant = blx__map_get_u64(grants, req->asks[i]->node_uid);
    if (grant && grant->seq == req->asks[i]->seq) reply.grants[reply.n_grants++] = grant;
  }
  blx__call_answer(call, &reply);
}

/* @grants by node; or @err, for all. */
static void answer_all(struct blx__node *n, struct blx__list *askers, const struct blx__map *grants,
                       const blx_error *err) {
  for (struct blx__list *it; (it = blx__list_first(askers)) != NULL;) {
    struct asker *a = BLX__CONTAINER(it, struct asker, link);
    blx__list_remove(it);
    answer_asker(n, a, grants, err);
  }
}

static void batch_end(struct batch *b, const struct blx__map *grants, const blx_error *err) {
  b->node->renew.batches--;
  answer_all(b->node, &b->askers, grants, err);
  free(b);
}

/* ---- by the leader */

typedef bool each_fn(struct batch *b, const struct blx_lease_ask *ask, void *user);

static bool each(struct batch *b, each_fn *fn, void *user) {
  BLX__LIST_FOREACH (link, &b->askers) {
    const struct asker *a = BLX__CONTAINER(link, const struct asker, link);
    const struct blx_renew_request *req = a->call ? a->call->request : NULL;
    for (size_t i = 0; req && i < req->n_asks; i++)
      if (!fn(b, req->asks[i], user)) return false;
    if (!req && !fn(b, a->own, user)) return false;
  }
  return true;
}

static bool hear(struct batch *b, const struct blx_lease_ask *ask, void *user) {
  (void)user;
  blx__lead_seen(b->node, ask->node_uid, ask->incarnation, ask->wall_ms);
  blx__soft_take(b->node, ask);
  return true;
}

struct grants {
  struct blx__arena arena;
  struct blx__map by_node;
};

static bool grant_one(struct batch *b, const struct blx_lease_ask *ask, void *user) {
  struct grants *g = user;
  struct blx_lease_grant *grant = blx__arena_alloc(&g->arena, sizeof *grant);
  if (!grant) return false;
  *grant = (struct blx_lease_grant)BLX_LEASE_GRANT_INIT;
  blx__lead_grant(b->node, ask, grant);
  return blx__map_set_u64(&g->by_node, ask->node_uid, grant, NULL);
}

static void confirmed(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  struct batch *b = user;
  struct grants g = {.arena = {.limit_bytes = BLX__NODE_CALL_ARENA}};
  blx_error why;
  (void)index;
  (void)result;
  if (!err && !each(b, grant_one, &g)) {
    (void)blx__fail(&why, BLX_E_NOMEM, "node", "no memory for leases");
    err = &why;
  }
  batch_end(b, &g.by_node, err);
  blx__map_clear(&g.by_node);
  blx__arena_free(&g.arena);
}

/* ---- by another server */

static void leader_answered(void *user, const blx_error *err, struct blx__slice answer) {
  struct batch *b = user;
  struct grants g = {.arena = {.limit_bytes = BLX__NODE_CALL_ARENA}};
  void *decoded = NULL;
  blx_error why;
  if (!err && blx__msg_decode(blx__desc_renew_reply(), &g.arena, answer, &decoded, &why).code != 0) err = &why;
  const struct blx_renew_reply *reply = decoded;
  for (size_t i = 0; !err && i < reply->n_grants; i++) {
    bool kept = blx__map_set_u64(&g.by_node, reply->grants[i]->node_uid, reply->grants[i], NULL);
    if (!kept) break; /* no memory: those that are missing are asked for again */
  }
  batch_end(b, &g.by_node, err);
  blx__map_clear(&g.by_node);
  blx__arena_free(&g.arena);
}

struct collected {
  struct blx_renew_request req;
  struct blx__arena arena;
  size_t stored_bytes;
};

/* What nodes have built is left out where the message would become too long: leases do not wait for that. */
static bool collect(struct batch *b, const struct blx_lease_ask *ask, void *user) {
  (void)b;
  struct collected *c = user;
  struct blx_lease_ask *to = (struct blx_lease_ask *)(uintptr_t)ask;
  for (size_t i = 0; i < ask->n_stored; i++) c->stored_bytes += strlen(ask->stored[i]->key) + STORED_ITEM_BYTES;
  if (ask->n_stored > 0 && c->stored_bytes > STORED_BYTES_MAX) {
    to = blx__arena_alloc(&c->arena, sizeof *to);
    if (!to) return false;
    *to = *ask;
    to->n_stored = 0;
    to->stored_now = 0;
  }
  c->req.asks[c->req.n_asks++] = to;
  return true;
}

static blx__rc send_to_leader(struct batch *b, blx_error *err) {
  struct blx__node *n = b->node;
  uint64_t leader = blx__consensus_leader(n->consensus);
  const struct blx_node_info *node = leader != 0 && leader != n->uid ? blx__state_node(n->state, leader) : NULL;
  if (!node || !node->address)
    return blx__fail(err, BLX_E_NO_LEADER, n->self->name, "the cluster has no leader that answers at the moment");
  struct collected c = {.req = BLX_RENEW_REQUEST_INIT, .arena = {.limit_bytes = BLX__NODE_CALL_ARENA}};
  c.req.asks = calloc(b->count + 1, sizeof *c.req.asks);
  blx__rc rc = BLX__OK;
  const struct blx__node_asking how = {.deadline_ms = deadline_ms(n), .forwarded = true};
  if (!c.req.asks || !each(b, collect, &c))
    rc = blx__fail(err, BLX_E_NOMEM, n->self->name, "no memory for questions");
  else
    rc = blx__node_ask_with(n, node->address, BLX__RPC_RENEW, &c.req, &how, leader_answered, b, err);
  free(c.req.asks);
  blx__arena_free(&c.arena);
  return rc;
}

/* ---- together */

static void flush(void *arg) {
  struct blx__node *n = arg;
  blx_error err;
  if (blx__list_empty(&n->renew.waiting) || n->closing) return;
  struct batch *b = n->renew.batches < BATCHES_MAX ? calloc(1, sizeof *b) : NULL;
  n->renew.sent_ms = blx__loop_now_ms(n->loop);
  if (!b) {
    blx__timer_start(n->renew.send, WINDOW_MAX_MS, 0);
    return;
  }
  b->node = n;
  b->count = n->renew.asks;
  blx__list_init(&b->askers);
  blx__list_take(&b->askers, &n->renew.waiting);
  n->renew.asks = 0;
  n->renew.batches++;
  blx__rc rc = {0};
  if (n->role == BLX__ROLE_LEADER) {
    (void)each(b, hear, NULL);
    rc = blx__consensus_confirm(n->consensus, confirmed, b, &err);
  } else {
    rc = send_to_leader(b, &err);
  }
  if (rc.code != 0) batch_end(b, NULL, &err);
}

static void add(struct blx__node *n, struct asker *a, size_t count) {
  blx__list_push(&n->renew.waiting, &a->link);
  n->renew.asks += count;
  uint64_t since = blx__loop_now_ms(n->loop) - n->renew.sent_ms, window = window_ms(n);
  if (n->renew.sent_ms == 0 || since >= window)
    blx__loop_defer(n->loop, &n->renew.flush);
  else
    blx__timer_start(n->renew.send, window - since, 0);
}

void blx__handle_renew(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_renew_request *req = call->request;
  if (call->forwarded && n->role != BLX__ROLE_LEADER) {
    blx__call_failf(call, BLX_E_NO_LEADER, "node %s does not lead: ask again", n->self->name);
    return;
  }
  struct asker *a = n->renew.asks + req->n_asks <= ASKS_MAX ? blx__arena_alloc(&call->arena, sizeof *a) : NULL;
  if (!a) {
    blx__call_failf(call, BLX_E_BUSY, "%zu questions for leases wait already: ask again", n->renew.asks);
    return;
  }
  *a = (struct asker){.call = call};
  add(n, a, req->n_asks);
}

/* ---- this node's own */

struct question {
  struct blx__node *node;
  struct blx_lease_ask ask;
};

static void server_answered(void *user, const blx_error *err, struct blx__slice answer) {
  struct question *q = user;
  struct blx__node *n = q->node;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  void *decoded = NULL;
  blx_error why;
  if (!err && blx__msg_decode(blx__desc_renew_reply(), &arena, answer, &decoded, &why).code != 0) err = &why;
  const struct blx_renew_reply *reply = decoded;
  n->renew.batches--;
  blx__worker_heard(n, err);
  for (size_t i = 0; !err && i < reply->n_grants; i++)
    if (reply->grants[i]->node_uid == q->ask.node_uid && reply->grants[i]->seq == q->ask.seq)
      take(n, &q->ask, reply->grants[i]);
  blx__arena_free(&arena);
  free(q);
}

static void ask_server(struct blx__node *n, const struct blx_lease_ask *ask) {
  struct question *q = n->renew.batches < BATCHES_MAX ? malloc(sizeof *q) : NULL;
  blx_error err;
  if (!q) return;
  *q = (struct question){n, *ask};
  struct blx_lease_ask *asks[] = {&q->ask};
  struct blx_renew_request req = BLX_RENEW_REQUEST_INIT;
  req.asks = asks;
  req.n_asks = 1;
  const struct blx__node_asking how = {.deadline_ms = deadline_ms(n)};
  n->renew.batches++;
  if (blx__node_ask_with(n, blx__worker_server(n), BLX__RPC_RENEW, &req, &how, server_answered, q, &err).code != 0)
    server_answered(q, &err, (struct blx__slice){0});
}

static void ask_leader(struct blx__node *n, const struct blx_lease_ask *question) {
  struct asker *a = n->renew.asks < ASKS_MAX ? malloc(sizeof *a) : NULL;
  void *own = NULL;
  if (!a || blx__msg_own(blx__desc_lease_ask(), question, &own, NULL).code != 0) {
    free(a);
    return;
  }
  *a = (struct asker){.own = own};
  add(n, a, 1);
}

static void ask(struct blx__node *n) {
  struct blx__arena arena = {.limit_bytes = ASK_ARENA};
  struct blx_lease_ask question = BLX_LEASE_ASK_INIT;
  blx_error err;
  question.node_uid = n->uid;
  question.incarnation = n->self->incarnation;
  question.wall_ms = blx__loop_wall_ms(n->loop);
  question.seq = blx__agent_lease_ask(n->agent);
  if (blx__soft_say(n, &question, &arena, &err).code != 0)
    blx__log(&n->log, BLX_LOG_DEBUG, "node", "a question for a lease says less: %s", err.message);
  if (n->worker)
    ask_server(n, &question);
  else
    ask_leader(n, &question);
  blx__arena_free(&arena);
}

static void ask_fn(void *arg) {
  struct blx__node *n = arg;
  if (n->closing || n->fatal_code != 0) return;
  uint64_t next = settings_of(n)->renew_ms;
  if (n->agent && (n->worker || n->consensus)) ask(n);
  blx__timer_start(n->renew.ask, next, 0);
}

void blx__lease_describe(struct blx__node *n) {
  bool ready = n->agent && blx__agent_ha_ready(n->agent);
  /* The device was opened with a time of its own; T_safe counts on that of the settings. */
  if (n->watchdog_device && settings_of(n)->watchdog_ms < BLX__NODE_WATCHDOG_S * 1000) ready = false;
  n->renew.unready = ready ? 0 : n->renew.unready + 1;
  if (!ready == !n->self->ha_ready || (!ready && n->renew.unready < UNREADY_MAX)) return;
  n->self->ha_ready = ready;
  n->self_changed = true;
}

void blx__lease_ask_now(struct blx__node *n) {
  blx__soft_forget(n);
  if (n->renew.ask && !n->closing) blx__timer_start(n->renew.ask, 0, 0);
}

void blx__lease_init(struct blx__node *n) {
  n->renew.settings = blx__lease_defaults();
  blx__list_init(&n->renew.waiting);
  blx__defer_init(&n->renew.flush, flush, n);
}

blx__rc blx__lease_start(struct blx__node *n, blx_error *err) {
  n->renew.ask = blx__timer_new(n->loop, ask_fn, n);
  n->renew.send = blx__timer_new(n->loop, flush, n);
  if (!n->renew.ask || !n->renew.send) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a timer");
  blx__timer_start(n->renew.ask, CATCH_MS, 0);
  return BLX__OK;
}

void blx__lease_close(struct blx__node *n) {
  blx_error err;
  blx__timer_free(n->renew.ask);
  blx__timer_free(n->renew.send);
  n->renew.ask = n->renew.send = NULL;
  blx__loop_undefer(&n->renew.flush);
  (void)blx__fail(&err, BLX_E_CANCELLED, n->self->name, "node %s is stopping", n->self->name);
  answer_all(n, &n->renew.waiting, NULL, &err);
  n->renew.asks = 0;
}
