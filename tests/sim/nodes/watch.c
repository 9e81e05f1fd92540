/* Somebody who watches all events for ever: at one node after another, each time from where it was (I12). What each
 * index brought is known from the replicas themselves (wraps.c). */
#include "nodes.h"

#include "rpc/conn.h"

#include <stdlib.h>
#include <string.h>

static struct {
  struct blx__rpc_conn *conn;
  struct blx__rpc_pending *call;
  struct blx__timer *timer;
  unsigned at;          /* the node */
  uint64_t index;       /* of the last event; all before are complete */
  struct events_at got; /* of that index, until now */
  bool anew;            /* the objects as they are come first, at an index that is not known yet */
  uint64_t anew_index;
  bool ended;
} w;

static uint64_t mix_text(uint64_t h, const char *s) {
  for (; s && *s; s++) h = blx__mix64(h ^ (uint8_t)*s);
  return h;
}

uint64_t event_hash(uint64_t h, const struct blx_event *e) {
  const uint64_t numbers[] = {e->index, e->time_ms,         (uint64_t)e->kind, (uint64_t)e->type,
                              e->uid,   (uint64_t)e->phase, e->epoch,          0};
  for (size_t i = 0; i < BLX__COUNT(numbers); i++) h = blx__mix64(h ^ numbers[i]);
  return mix_text(mix_text(h, e->name), e->node);
}

/* All of the last index has come: was it all, and was there none between it and @next? */
static void complete(uint64_t next) {
  const struct events_at *true_at = blx__map_get_u64(&cluster.events, w.index);
  if (w.got.count > 0 && (!true_at || true_at->count != w.got.count || true_at->hash != w.got.hash))
    cluster_fail("I12 the watch got %llu events of index %llu, which brought %llu", (unsigned long long)w.got.count,
                 (unsigned long long)w.index, (unsigned long long)(true_at ? true_at->count : 0));
  uint8_t key[8];
  for (int i = 0; i < 8; i++) key[i] = (uint8_t)((w.index + 1) >> (56 - 8 * i));
  struct blx__map_pos pos = blx__map_seek(&cluster.events, key, sizeof key);
  size_t len = 0;
  uint64_t after = 0;
  const uint8_t *found = pos.node ? blx__map_key(pos, &len) : NULL;
  for (size_t i = 0; found && i < len; i++) after = after << 8 | found[i];
  if (found && after < next)
    cluster_fail("I12 the watch went from index %llu to %llu, and missed %llu", (unsigned long long)w.index,
                 (unsigned long long)next, (unsigned long long)after);
}

static void take(const struct blx_event *e) {
  if (w.anew && w.anew_index == 0) w.anew_index = w.index = e->index;
  if (w.anew && e->index == w.anew_index) return;
  w.anew = false;
  if (e->index < w.index)
    cluster_fail("I12 the watch went back from index %llu to %llu", (unsigned long long)w.index,
                 (unsigned long long)e->index);
  if (e->index > w.index) {
    complete(e->index);
    w.index = e->index;
    w.got = (struct events_at){0};
  }
  w.got.count++;
  w.got.hash = event_hash(w.got.hash, e);
}

static bool on_message(void *user, struct blx__slice message) {
  (void)user;
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  void *decoded = NULL;
  blx_error err = {0};
  if (blx__msg_decode(blx__desc_event(), &arena, message, &decoded, &err).code != 0)
    cluster_fail("an event cannot be read: %s", err.message);
  else
    take(decoded);
  blx__arena_free(&arena);
  return true;
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  (void)user;
  w.call = NULL;
  if (w.ended) return;
  cluster_log("the watch at n%u ends: %s", w.at, result->err ? result->err->message : "well");
  if (result->err && result->err->code == BLX_E_STALE) {
    cluster_sometimes(SOME_WATCH_STALE);
    w.index = 0;
  }
  blx__timer_start(w.timer, cluster_rng(10, 500), 0);
}

/* Of the last index perhaps not all came: it is asked for again. */
static void begin(void *arg) {
  static const struct blx__rpc_stream_ops ops = {on_message, on_done};
  (void)arg;
  if (w.conn) blx__rpc_conn_close(w.conn, NULL, NULL);
  w.at = (unsigned)cluster_rng(1, cluster.count);
  blx__rc rc = blx__rpc_conn_new(users_loop(), cluster.nodes[w.at].address, &w.conn, NULL);
  BLX__ASSERT(rc.code == 0);
  struct blx_watch_request req = {.struct_size = sizeof req, .since_index = w.index > 0 ? w.index - 1 : 0};
  if (w.index > 0) cluster_sometimes(SOME_WATCH_RESUMED);
  w.anew = req.since_index == 0;
  w.anew_index = 0;
  if (!w.anew) w.index--;
  w.got = (struct events_at){0};
  struct blx__buf body;
  blx__buf_init(&body, 256);
  rc = blx__msg_encode(blx__desc_watch_request(), &req, &body, NULL);
  BLX__ASSERT(rc.code == 0);
  const struct blx__rpc_request request = {.path = blx__rpc_rows()[BLX__RPC_WATCH].path, .body = {body.data, body.len}};
  if (blx__rpc_stream(w.conn, &request, &ops, NULL, &w.call, NULL).code != 0) blx__timer_start(w.timer, 200, 0);
  blx__buf_free(&body);
}

/* Now and then it goes on elsewhere although nothing is wrong. */
static void on_timer(void *arg) {
  if (w.call) {
    blx__rpc_cancel(w.call);
    return;
  }
  begin(arg);
  if (!cluster.calm) blx__timer_start(w.timer, cluster_rng(500, 8000), 0);
}

void watch_begin(void) {
  memset(&w, 0, sizeof w);
  w.timer = blx__timer_new(users_loop(), on_timer, NULL);
  blx__timer_start(w.timer, 0, 0);
}

void watch_end(void) {
  w.ended = true;
  if (w.conn) blx__rpc_conn_close(w.conn, NULL, NULL);
  w.conn = NULL;
  blx__timer_free(w.timer);
  w.timer = NULL;
}

bool watch_has_all(void) {
  uint64_t last = 0;
  BLX__MAP_FOREACH(pos, &cluster.events) {
    size_t len = 0;
    const uint8_t *key = blx__map_key(pos, &len);
    last = 0;
    for (size_t i = 0; i < len; i++) last = last << 8 | key[i];
  }
  if (w.index < last) return false;
  if (!w.anew) complete(w.index + 1);
  return true;
}
