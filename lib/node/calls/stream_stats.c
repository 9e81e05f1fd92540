/* Statistics: each node is asked for its own, one hop; soft, and kept nowhere. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

enum { STATS_WINDOW = 32, STATS_WAIT_MS = 1000, STATS_TICK_MS = 100 };

static const uint64_t held_answer = UINT64_MAX; /* since_ms of a question whose answer waits for room */

struct stats {
  struct blx__node *node;
  struct blx__rpc_call *rpc;
  struct blx__timer *timer;
  struct blx__list questions; /* struct question.link */
  unsigned count;             /* of them */
  uint64_t next_after;        /* nodes up to this uid were asked */
  char only[64];              /* empty: all */
  bool asked_all, ended, pumping;
};

/* To one node. It outlives its stream until its answer comes. */
struct question {
  struct blx__list link;
  struct stats *stats; /* NULL: nobody waits for the answer any more */
  struct blx__node *node;
  uint64_t uid, since_ms;
  struct blx__buf answer; /* for which the caller's queue had no room */
};

static void stats_pump(struct stats *s);

static void question_free(struct question *q) {
  if (q->stats) {
    blx__list_remove(&q->link);
    q->stats->count--;
  }
  blx__buf_free(&q->answer);
  free(q);
}

/* Nobody waits for it any more; its answer may still come. */
static void question_drop(struct question *q) {
  blx__list_remove(&q->link);
  q->stats->count--;
  q->stats = NULL;
}

/* False: there is no room, and it is held. */
static bool stats_send(struct question *q, const void *data, size_t len) {
  struct stats *s = q->stats;
  if (s->ended || blx__rpc_call_send(s->rpc, data, len)) return true;
  if (blx__buf_add(&q->answer, data, len)) return false;
  blx_error err;
  (void)blx__fail(&err, BLX_E_NOMEM, s->node->self->name, "no memory to hold statistics");
  s->ended = true;
  blx__rpc_call_finish(s->rpc, &err);
  return true;
}

/* What should run on a node that is not heard from. True: sent, or no more wanted. */
static bool send_unheard(struct question *q, const char *why) {
  struct blx__buf out;
  blx_error err;
  bool sent = true;
  blx__buf_init(&out, BLX__NODE_ANSWER_MAX);
  if (blx__stats_encode_unheard(q->node, q->uid, why, &out, &err).code != 0) {
    q->stats->ended = true;
    blx__rpc_call_finish(q->stats->rpc, &err);
  } else if (out.len > 0) {
    sent = stats_send(q, out.data, out.len);
  }
  blx__buf_free(&out);
  return sent;
}

static void question_answered(void *user, const blx_error *err, struct blx__slice answer) {
  struct question *q = user;
  struct stats *s = q->stats;
  bool over = !s || (err ? send_unheard(q, err->message) : stats_send(q, answer.data, answer.len));
  if (over)
    question_free(q);
  else
    q->since_ms = held_answer;
  if (s) stats_pump(s);
}

static void question_measured(void *user, const blx_error *err, const struct blx__vm_stats *list, size_t count) {
  struct question *q = user;
  struct blx__buf out;
  blx_error why;
  blx__buf_init(&out, BLX__NODE_ANSWER_MAX);
  if (blx__stats_encode(q->node, err ? err->message : NULL, list, count, &out, &why).code == 0)
    question_answered(q, NULL, (struct blx__slice){out.data, out.len});
  else
    question_answered(q, &why, (struct blx__slice){0});
  blx__buf_free(&out);
}

static void ask_node(struct stats *s, const struct blx_node_info *node) {
  static const struct blx_empty nothing = BLX_EMPTY_INIT;
  struct question *q = calloc(1, sizeof *q);
  blx_error err;
  if (!q) {
    (void)blx__fail(&err, BLX_E_NOMEM, s->node->self->name, "no memory for a question to node %s", node->name);
    s->ended = true;
    blx__rpc_call_finish(s->rpc, &err);
    return;
  }
  *q = (struct question){.stats = s, .node = s->node, .uid = node->uid, .since_ms = blx__loop_now_ms(s->node->loop)};
  blx__buf_init(&q->answer, BLX__NODE_ANSWER_MAX);
  blx__list_push(&s->questions, &q->link);
  s->count++;
  blx__rc rc = node->uid == s->node->uid
                   ? blx__stats_measure(s->node, question_measured, q, &err)
                   : blx__node_ask(s->node, node->address, BLX__RPC_MEMBER_STATS, &nothing, question_answered, q, &err);
  if (rc.code == 0) return;
  bool own = node->uid == s->node->uid;
  if (own)
    question_measured(q, &err, NULL, 0);
  else
    question_answered(q, &err, (struct blx__slice){0});
}

/* Ask on while there is room, and end when all is told. */
static void stats_pump(struct stats *s) {
  if (s->pumping) return;
  s->pumping = true;
  while (!s->ended && !s->asked_all && s->count < STATS_WINDOW) {
    const struct blx_node_info *node = s->only[0] ? blx__state_node_by_name(s->node->state, s->only)
                                                  : blx__state_node_after_uid(s->node->state, s->next_after);
    s->asked_all = !node || s->only[0];
    if (!node) break;
    s->next_after = node->uid;
    ask_node(s, node);
  }
  s->pumping = false;
  if (s->ended || !s->asked_all || s->count > 0) return;
  s->ended = true;
  blx__rpc_call_finish(s->rpc, NULL);
}

static void stats_tick(void *arg) {
  struct stats *s = arg;
  uint64_t now = blx__loop_now_ms(s->node->loop);
  for (struct blx__list *it = s->questions.next, *next; it != &s->questions; it = next) {
    next = it->next;
    struct question *q = BLX__CONTAINER(it, struct question, link);
    if (q->since_ms == held_answer || now - q->since_ms < STATS_WAIT_MS) continue;
    if (!send_unheard(q, "it did not answer within a second")) {
      /* The caller is slow: ask again for room at the next tick, for the answer may come yet. */
      blx__buf_clear(&q->answer);
      continue;
    }
    question_drop(q);
  }
  stats_pump(s);
}

static void stats_writable(void *user) {
  struct stats *s = user;
  for (struct blx__list *it = s->questions.next, *next; it != &s->questions; it = next) {
    next = it->next;
    struct question *q = BLX__CONTAINER(it, struct question, link);
    if (q->since_ms != held_answer) continue;
    if (!blx__rpc_call_send(s->rpc, q->answer.data, q->answer.len)) return;
    question_free(q);
  }
  stats_pump(s);
}

static void stats_gone(void *user, bool cancelled) {
  (void)cancelled;
  struct stats *s = user;
  s->ended = true;
  for (struct blx__list *it; (it = blx__list_first(&s->questions)) != NULL;) {
    struct question *q = BLX__CONTAINER(it, struct question, link);
    if (q->since_ms == held_answer)
      question_free(q);
    else
      question_drop(q);
  }
  s->node->stats_count--;
  blx__timer_free(s->timer);
  blx__rpc_call_unref(s->rpc);
  free(s);
}

static const struct blx__rpc_call_ops stats_ops = {stats_writable, stats_gone};

void blx__handle_stats(struct blx__call *call) {
  struct blx__node *n = call->node;
  const struct blx_stats_request *req = call->request;
  blx_error err;
  if (blx__msg_validate(blx__desc_stats_request(), req, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  if (req->node && *req->node && !blx__state_node_by_name(n->state, req->node)) {
    blx__call_failf(call, BLX_E_NOT_FOUND, "there is no node \"%.64s\": `blixard node list` shows those there are",
                    req->node);
    return;
  }
  if (n->stats_count >= BLX__NODE_STATS_MAX) {
    blx__call_failf(call, BLX_E_BUSY, "%u callers read statistics already: try again later", n->stats_count);
    return;
  }
  struct stats *s = calloc(1, sizeof *s);
  struct blx__timer *timer = s ? blx__timer_new(n->loop, stats_tick, s) : NULL;
  if (!timer) {
    free(s);
    blx__call_failf(call, BLX_E_NOMEM, "no memory for statistics");
    return;
  }
  s->node = n;
  s->timer = timer;
  s->rpc = blx__rpc_call_ref(call->rpc);
  (void)blx__str_copy(s->only, sizeof s->only, req->node ? req->node : "");
  blx__list_init(&s->questions);
  n->stats_count++;
  blx__rpc_call_watch(s->rpc, &stats_ops, s);
  blx__call_release(call);
  blx__timer_start(timer, STATS_TICK_MS, STATS_TICK_MS);
  stats_pump(s);
}
