#include "io/sim.h"

#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

enum { MILLION = 1000000, RATE_MAX_PPM = 100 * MILLION };

/* ---- randomness */

uint64_t blx__sim_rng_next(struct blx__sim_rng *r) {
  r->state += UINT64_C(0x9e3779b97f4a7c15);
  return blx__mix64(r->state);
}

uint64_t blx__sim_rng_in(struct blx__sim_rng *r, uint64_t lo, uint64_t hi) {
  BLX__ASSERT(lo <= hi);
  uint64_t span = hi - lo + 1;
  return span == 0 ? blx__sim_rng_next(r) : lo + blx__sim_rng_next(r) % span;
}

bool blx__sim_rng_chance(struct blx__sim_rng *r, unsigned percent) {
  return blx__sim_rng_in(r, 0, 99) < percent;
}

/* ---- events: a binary heap by (time, order of scheduling) */

static bool before(const struct blx__sim_event *a, const struct blx__sim_event *b) {
  return a->at_us < b->at_us || (a->at_us == b->at_us && a->seq < b->seq);
}

static void heap_push(struct blx__sim *s, const struct blx__sim_event *e) {
  if (s->heap_count == s->heap_cap) {
    BLX__ASSERT(s->heap_cap < BLX__SIM_EVENTS_MAX);
    s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 1024;
    s->heap = realloc(s->heap, s->heap_cap * sizeof *s->heap);
    BLX__ASSERT(s->heap != NULL);
  }
  size_t i = s->heap_count++;
  for (; i > 0 && before(e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
  s->heap[i] = *e;
}

static struct blx__sim_event heap_pop(struct blx__sim *s) {
  BLX__ASSERT(s->heap_count > 0);
  struct blx__sim_event top = s->heap[0], last = s->heap[--s->heap_count];
  size_t i = 0;
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= s->heap_count) break;
    if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child])) child++;
    if (!before(&s->heap[child], &last)) break;
    s->heap[i] = s->heap[child];
    i = child;
  }
  if (s->heap_count) s->heap[i] = last;
  return top;
}

void blx__sim_after(struct blx__sim *s, unsigned node, uint64_t after_us, struct blx__sim_call call) {
  BLX__ASSERT(node <= BLX__SIM_NODES_MAX && call.fn != NULL);
  const struct blx__sim_event e = {.at_us = s->now_us + after_us,
                                   .seq = s->seq++,
                                   .incarnation = s->nodes[node].incarnation,
                                   .node = node,
                                   .call = call};
  heap_push(s, &e);
}

uint64_t blx__sim_due_us(const struct blx__sim *s) {
  return s->heap_count ? s->heap[0].at_us : UINT64_MAX;
}

bool blx__sim_step(struct blx__sim *s, unsigned *node) {
  if (node) *node = 0;
  if (s->heap_count == 0) return false;
  const struct blx__sim_event e = heap_pop(s);
  BLX__ASSERT(e.at_us >= s->now_us);
  s->now_us = e.at_us;
  const struct blx__sim_node *n = &s->nodes[e.node];
  if (e.node != 0 && (!n->up || n->incarnation != e.incarnation)) return true;
  e.call.fn(e.call.arg, e.call.a, e.call.b);
  if (node) *node = e.node;
  return true;
}

void blx__sim_run(struct blx__sim *s, uint64_t for_us) {
  uint64_t end_us = s->now_us + for_us;
  while (blx__sim_due_us(s) <= end_us) (void)blx__sim_step(s, NULL);
  s->now_us = end_us;
}

/* ---- machines and clocks */

static struct blx__sim_node *node_at(struct blx__sim *s, unsigned node) {
  BLX__ASSERT(node >= 1 && node <= BLX__SIM_NODES_MAX);
  return &s->nodes[node];
}

void blx__sim_node_start(struct blx__sim *s, unsigned node) {
  struct blx__sim_node *n = node_at(s, node);
  if (!n->up) n->incarnation++;
  n->up = true;
}

void blx__sim_node_stop(struct blx__sim *s, unsigned node) {
  node_at(s, node)->up = false;
}

uint64_t blx__sim_clock_us(const struct blx__sim *s, unsigned node) {
  BLX__ASSERT(node >= 1 && node <= BLX__SIM_NODES_MAX);
  const struct blx__sim_node *n = &s->nodes[node];
  return n->clock_us + (s->now_us - n->since_us) * n->rate_ppm / MILLION;
}

int64_t blx__sim_wall_ms(const struct blx__sim *s, unsigned node) {
  return (int64_t)(blx__sim_clock_us(s, node) / 1000) + s->nodes[node].wall_ms;
}

void blx__sim_clock_rate(struct blx__sim *s, unsigned node, uint64_t ppm) {
  BLX__ASSERT(ppm >= 1 && ppm <= RATE_MAX_PPM);
  blx__sim_clock_jump(s, node, 0); /* what was shown until now stays shown */
  s->nodes[node].rate_ppm = ppm;
}

void blx__sim_clock_jump(struct blx__sim *s, unsigned node, uint64_t forward_us) {
  struct blx__sim_node *n = node_at(s, node);
  n->clock_us = blx__sim_clock_us(s, node) + forward_us;
  n->since_us = s->now_us;
}

void blx__sim_wall_set(struct blx__sim *s, unsigned node, int64_t ahead_ms) {
  node_at(s, node)->wall_ms = ahead_ms;
}

uint64_t blx__sim_true_us(const struct blx__sim *s, unsigned node, uint64_t clock_us) {
  BLX__ASSERT(node >= 1 && node <= BLX__SIM_NODES_MAX);
  return clock_us * MILLION / s->nodes[node].rate_ppm;
}

/* ---- network */

struct packet {
  struct blx__sim *s;
  size_t len;
  uint8_t bytes[];
};

static void on_packet(void *arg, uint64_t from, uint64_t to) {
  struct packet *p = arg;
  struct blx__sim *s = p->s;
  if (s->nodes[to].up && !s->links[from][to].cut)
    s->deliver(s->user, (unsigned)from, (unsigned)to, (struct blx__slice){.data = p->bytes, .len = p->len});
  free(p);
}

static void throw_packet(struct blx__sim *s, unsigned from, unsigned to, struct blx__slice message) {
  const struct blx__sim_link *link = &s->links[from][to];
  struct packet *p = malloc(sizeof *p + message.len);
  BLX__ASSERT(p != NULL);
  p->s = s;
  p->len = message.len;
  if (message.len) memcpy(p->bytes, message.data, message.len);
  uint64_t delay_us = blx__sim_rng_in(&s->rng, link->delay_min_us, link->delay_max_us);
  if (blx__sim_rng_chance(&s->rng, link->late_percent)) delay_us += blx__sim_rng_in(&s->rng, 0, link->late_max_us);
  blx__sim_after(s, 0, delay_us, (struct blx__sim_call){.fn = on_packet, .arg = p, .a = from, .b = to});
}

void blx__sim_send(struct blx__sim *s, unsigned from, unsigned to, struct blx__slice message) {
  BLX__ASSERT(s->deliver && message.len <= BLX__SIM_MESSAGE_MAX);
  BLX__ASSERT(from >= 1 && from <= BLX__SIM_NODES_MAX && to >= 1 && to <= BLX__SIM_NODES_MAX);
  const struct blx__sim_link *link = &s->links[from][to];
  if (link->cut || blx__sim_rng_chance(&s->rng, link->loss_percent)) return;
  throw_packet(s, from, to, message);
  if (blx__sim_rng_chance(&s->rng, link->double_percent)) throw_packet(s, from, to, message);
}

void blx__sim_net_set(struct blx__sim *s, const struct blx__sim_link *link) {
  BLX__ASSERT(link->delay_min_us <= link->delay_max_us);
  for (unsigned from = 0; from <= BLX__SIM_NODES_MAX; from++) {
    for (unsigned to = 0; to <= BLX__SIM_NODES_MAX; to++) {
      bool cut = s->links[from][to].cut;
      s->links[from][to] = *link;
      s->links[from][to].cut = cut;
    }
  }
}

void blx__sim_net_isolate(struct blx__sim *s, unsigned node, bool cut) {
  BLX__ASSERT(node >= 1 && node <= BLX__SIM_NODES_MAX);
  for (unsigned other = 1; other <= BLX__SIM_NODES_MAX; other++)
    if (other != node) s->links[node][other].cut = s->links[other][node].cut = cut;
}

void blx__sim_net_mend(struct blx__sim *s) {
  for (unsigned from = 0; from <= BLX__SIM_NODES_MAX; from++)
    for (unsigned to = 0; to <= BLX__SIM_NODES_MAX; to++) s->links[from][to].cut = false;
}

/* ---- the whole */

void blx__sim_init(struct blx__sim *s, uint64_t seed) {
  *s = (struct blx__sim){.rng = {.state = blx__mix64(seed + 1)}};
  for (unsigned i = 0; i <= BLX__SIM_NODES_MAX; i++) s->nodes[i].rate_ppm = MILLION;
}

void blx__sim_free(struct blx__sim *s) {
  for (size_t i = 0; i < s->heap_count; i++)
    if (s->heap[i].call.fn == on_packet) free(s->heap[i].call.arg);
  free(s->heap);
  s->heap = NULL;
  s->heap_count = s->heap_cap = 0;
}
