/* What nodes say of themselves with each question for a lease: how busy they are, and what they have built. The leader
 * keeps it, for placement and for whoever looks; it is never replicated, and a new leader asks anew by being new. */
#include "node/node_int.h"

#include "schema/closure.h"

#include <stdlib.h>
#include <string.h>

enum {
  STORED_MAX = 64, /* said of one node */
  SAY_EVERY = 64,  /* questions, all of it again: what was said may have been lost */
  /* Placement is told of no smaller changes, so that a node is not another one with each breath. */
  LOAD_STEP_PERMILLE = 50,
  LOAD_STEP_MIB = 256,
};

/* Of one node, as it said last. */
struct said {
  uint64_t incarnation;
  bool has_cpu, has_memory;
  uint32_t cpu_permille;
  uint64_t memory_mib;
  struct blx_lease_ask *stored; /* owned; NULL: it did not say */
  uint64_t stored_seq;
};

/* ---- the leader */

static void said_free(struct said *s) {
  blx__msg_free_owned(s->stored);
  free(s);
}

static struct said *said_of(struct blx__node *n, uint64_t uid) {
  struct said *s = blx__map_get_u64(&n->soft.said, uid);
  if (s) return s;
  s = calloc(1, sizeof *s);
  if (s && blx__map_set_u64(&n->soft.said, uid, s, NULL)) return s;
  free(s);
  return NULL;
}

/* False: no memory; what it said before stays. */
static bool keep_stored(struct blx__node *n, struct said *s, const struct blx_lease_ask *ask) {
  struct blx_lease_ask only = BLX_LEASE_ASK_INIT;
  void *copy = NULL;
  only.stored = ask->stored;
  only.n_stored = ask->n_stored;
  if (blx__msg_own(blx__desc_lease_ask(), &only, &copy, NULL).code != 0) return false;
  blx__msg_free_owned(s->stored);
  s->stored = copy;
  s->stored_seq = ++n->soft.seq;
  return true;
}

void blx__soft_take(struct blx__node *n, const struct blx_lease_ask *ask) {
  const struct blx_node_info *node = blx__state_node(n->state, ask->node_uid);
  if (!n->lead.leading || !node || node->incarnation != ask->incarnation) return;
  struct said *s = said_of(n, ask->node_uid);
  if (!s) return; /* no memory: it is not known, and said again in seconds */
  s->incarnation = ask->incarnation;
  s->has_cpu = ask->has_load_cpu_permille;
  s->cpu_permille = ask->load_cpu_permille;
  s->has_memory = ask->has_load_memory_mib;
  s->memory_mib = ask->load_memory_mib;
  if (ask->stored_now && !keep_stored(n, s, ask))
    blx__log(&n->log, BLX_LOG_WARNING, "node", "no memory for what node %s has built", node->name);
}

void blx__soft_of(const struct blx__node *n, uint64_t uid, struct blx__control_soft *out) {
  const struct said *s = blx__map_get_u64(&n->soft.said, uid);
  if (!s) return;
  out->has_load = s->has_cpu && s->has_memory;
  if (out->has_load) {
    out->load_cpu_permille = s->cpu_permille / LOAD_STEP_PERMILLE * LOAD_STEP_PERMILLE;
    out->load_memory_mib = s->memory_mib / LOAD_STEP_MIB * LOAD_STEP_MIB;
  }
  if (!s->stored) return;
  out->stored = s->stored->stored;
  out->n_stored = s->stored->n_stored;
  out->stored_seq = s->stored_seq;
}

void blx__soft_view(const struct blx__node *n, struct blx_node_info *view, bool whole) {
  const struct said *s = blx__map_get_u64(&n->soft.said, view->uid);
  if (!s || !n->lead.leading || s->incarnation != view->incarnation) return;
  view->has_load_cpu_permille = s->has_cpu;
  view->load_cpu_permille = s->cpu_permille;
  view->has_load_memory_mib = s->has_memory;
  view->load_memory_mib = s->memory_mib;
  if (!whole || !s->stored) return;
  view->stored = s->stored->stored;
  view->n_stored = s->stored->n_stored;
}

void blx__soft_end(struct blx__node *n) {
  BLX__MAP_FOREACH(pos, &n->soft.said) said_free(blx__map_value(pos));
  blx__map_clear(&n->soft.said);
}

/* ---- this node's own */

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static uint64_t hash_of(const char *const *keys, size_t n) {
  uint64_t h = 1;
  for (size_t i = 0; i < n; i++)
    for (const char *c = keys[i]; *c || c == keys[i]; c++) h = blx__mix64(h ^ (uint8_t)*c);
  return h;
}

blx__rc blx__soft_say(struct blx__node *n, struct blx_lease_ask *ask, struct blx__arena *arena, blx_error *err) {
  blx__load_read(&n->soft.load);
  ask->has_load_cpu_permille = n->soft.load.has_cpu;
  ask->load_cpu_permille = n->soft.load.cpu_permille;
  ask->has_load_memory_mib = n->soft.load.has_memory;
  ask->load_memory_mib = n->soft.load.memory_mib;
  const char *keys[STORED_MAX];
  size_t count = blx__agent_stored(n->agent, arena, keys, STORED_MAX);
  qsort(keys, count, sizeof *keys, by_text);
  n->soft.saying = hash_of(keys, count);
  n->soft.saying_seq = ask->seq;
  bool again = (n->uid + n->soft.asks++) % SAY_EVERY == 0;
  if (n->soft.saying == n->soft.told && !again) return BLX__OK;
  struct blx_data_item *items = blx__arena_alloc(arena, (count + 1) * sizeof *items);
  ask->stored = blx__arena_alloc(arena, (count + 1) * sizeof *ask->stored);
  if (!items || !ask->stored) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a question");
  for (size_t i = 0; i < count; i++) {
    items[i] = (struct blx_data_item)BLX_DATA_ITEM_INIT;
    items[i].key = keys[i];
    ask->stored[i] = &items[i];
  }
  ask->n_stored = count;
  ask->stored_now = 1;
  return BLX__OK;
}

void blx__soft_said(struct blx__node *n, const struct blx_lease_ask *ask) {
  if (ask->stored_now && ask->seq == n->soft.saying_seq) n->soft.told = n->soft.saying;
}

void blx__soft_forget(struct blx__node *n) {
  n->soft.told = 0;
}
