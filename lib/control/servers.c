#include "control/servers.h"

#include <string.h>

enum { LIVING_MS = 9000 }; /* a stand-by that was heard from within it may be made a voter */

typedef struct blx__control_server_change change;
typedef const struct blx__control_server server;

struct group {
  server *all;
  const struct blx_node_info *node[BLX__CONTROL_SERVERS_MAX]; /* NULL: the state has no such server */
  size_t n;
  uint32_t wanted, good; /* voters that are to be, and that are there and stay */
};

uint32_t blx__control_voters_wanted(uint32_t servers) {
  return servers >= 7 ? 5 : servers < 3 ? servers : 3;
}

static bool is_good(const struct group *g, size_t i) {
  return g->node[i] && !g->all[i].leaves && g->all[i].silent_ms < BLX__CONTROL_VOTER_GONE_MS;
}

static bool may_vote(const struct group *g, size_t i) {
  return g->node[i] && !g->all[i].leaves && !g->all[i].votes && g->all[i].silent_ms < LIVING_MS;
}

/* ---- how a set of voters is spread */

static const char *label(const struct blx_node_info *node, const char *key) {
  for (size_t i = 0; i < node->n_labels; i++)
    if (blx__str_eq(node->labels[i]->key, key)) return node->labels[i]->value ? node->labels[i]->value : "";
  return "";
}

static bool same_domain(const struct blx_node_info *a, const struct blx_node_info *b, unsigned level) {
  static const char *const keys[] = {"zone", "rack", "host"};
  const char *host = label(a, "host");
  for (unsigned i = 0; i < level; i++)
    if (strcmp(label(a, keys[i]), label(b, keys[i])) != 0) return false;
  return level < BLX__COUNT(keys) || a == b || host[0] != '\0';
}

enum { LEVELS = 3 };

/* Pairs of voters in one zone, in one rack of one zone, on one host of that: fewer is better, the first counts most. */
struct spread {
  uint32_t pairs[LEVELS];
};

static struct spread spread_of(const struct group *g, const bool *votes) {
  struct spread s = {0};
  for (size_t i = 0; i < g->n; i++)
    for (size_t k = 0; k < i; k++)
      for (unsigned level = 0; level < LEVELS && votes[i] && votes[k]; level++)
        s.pairs[level] += same_domain(g->node[i], g->node[k], level + 1);
  return s;
}

static int compare(struct spread a, struct spread b) {
  for (unsigned level = 0; level < LEVELS; level++)
    if (a.pairs[level] != b.pairs[level]) return a.pairs[level] < b.pairs[level] ? -1 : 1;
  return 0;
}

static void voters_of(const struct group *g, bool *votes) {
  for (size_t i = 0; i < g->n; i++) votes[i] = g->all[i].votes && is_good(g, i);
}

/* Of those that may be: the one after whose change the voters are spread best; the earlier of two, for votes that come,
 * the later for those that go, and the leader's only if no other will do. SIZE_MAX: there is none. */
static size_t best(const struct group *g, const bool *votes, bool comes, struct spread *out) {
  size_t found = SIZE_MAX;
  bool draft[BLX__CONTROL_SERVERS_MAX];
  for (size_t at = 0; at < g->n; at++) {
    size_t i = comes ? at : g->n - 1 - at;
    if (comes ? !may_vote(g, i) : !votes[i]) continue;
    memcpy(draft, votes, g->n * sizeof *draft);
    draft[i] = comes;
    struct spread s = spread_of(g, draft);
    int order = found == SIZE_MAX ? -1 : compare(s, *out);
    if (order > 0 || (order == 0 && !g->all[found].leads)) continue;
    found = i;
    *out = s;
  }
  return found;
}

/* ---- the changes, the most urgent first */

static change none(void) {
  return (change){BLX__SERVER_NONE, 0};
}

static change promote_best(const struct group *g) {
  bool votes[BLX__CONTROL_SERVERS_MAX];
  struct spread s;
  voters_of(g, votes);
  size_t i = best(g, votes, true, &s);
  return i == SIZE_MAX ? none() : (change){BLX__SERVER_PROMOTE, g->all[i].uid};
}

/* The leader cannot take its own vote: another one does, that has the log. */
static change take_vote(const struct group *g, size_t i) {
  if (!g->all[i].leads) return (change){BLX__SERVER_DEMOTE, g->all[i].uid};
  size_t to = SIZE_MAX;
  for (size_t k = 0; k < g->n; k++) {
    bool fits = k != i && g->all[k].votes && is_good(g, k) && g->all[k].silent_ms < LIVING_MS;
    if (fits && (to == SIZE_MAX || g->all[k].behind < g->all[to].behind)) to = k;
  }
  return to == SIZE_MAX ? none() : (change){BLX__SERVER_TRANSFER, g->all[to].uid};
}

/* A voter that is gone or is to go, once there are enough others, or nobody is left to take its place. */
static change let_go(const struct group *g) {
  change waits = none();
  for (size_t i = 0; i < g->n; i++) {
    if (!g->all[i].votes || is_good(g, i)) continue;
    if (g->good < g->wanted) waits = promote_best(g);
    if (waits.step != BLX__SERVER_NONE) return waits;
    bool must = g->all[i].leaves || !g->node[i];
    if (must || g->good >= g->wanted) return take_vote(g, i);
  }
  return waits;
}

static change remove_stand_by(const struct group *g) {
  for (size_t i = 0; i < g->n; i++)
    if (!g->all[i].votes && (g->all[i].leaves || !g->node[i])) return (change){BLX__SERVER_REMOVE, g->all[i].uid};
  return none();
}

static change take_one_too_many(const struct group *g) {
  bool votes[BLX__CONTROL_SERVERS_MAX];
  struct spread s;
  voters_of(g, votes);
  size_t i = best(g, votes, false, &s);
  return i == SIZE_MAX ? none() : take_vote(g, i);
}

/* Another voter in place of one of these, if they are spread better then. */
static change spread_better(const struct group *g) {
  bool votes[BLX__CONTROL_SERVERS_MAX], more[BLX__CONTROL_SERVERS_MAX];
  struct spread least, s;
  size_t found = SIZE_MAX;
  voters_of(g, votes);
  least = spread_of(g, votes);
  for (size_t i = 0; i < g->n; i++) {
    if (!may_vote(g, i)) continue;
    memcpy(more, votes, g->n * sizeof *more);
    more[i] = true;
    if (best(g, more, false, &s) == SIZE_MAX || compare(s, least) >= 0) continue;
    least = s;
    found = i;
  }
  return found == SIZE_MAX ? none() : (change){BLX__SERVER_PROMOTE, g->all[found].uid};
}

/* Servers that joined, and of them those that are on their way out; from this many voters are wanted. */
static uint32_t count_servers(const struct blx__state *st, const struct group *g) {
  uint32_t count = 0;
  const struct blx_node_info *node = blx__state_node_after_uid(st, 0);
  for (; node; node = blx__state_node_after_uid(st, node->uid)) count += node->role == BLX_NODE_ROLE_SERVER;
  for (size_t i = 0; i < g->n; i++) count -= g->node[i] && g->all[i].leaves;
  return count;
}

static bool settled(const struct group *g) {
  for (size_t i = 0; i < g->n; i++)
    if (g->all[i].votes && is_good(g, i) && g->all[i].behind > BLX__CONTROL_BEHIND_MAX) return false;
  return true;
}

struct blx__control_server_change blx__control_servers(const struct blx__state *st, server *servers, size_t n) {
  struct group g = {.all = servers, .n = n};
  BLX__ASSERT(n <= BLX__CONTROL_SERVERS_MAX);
  for (size_t i = 0; i < n; i++) {
    const struct blx_node_info *node = blx__state_node(st, servers[i].uid);
    g.node[i] = node && node->role == BLX_NODE_ROLE_SERVER ? node : NULL;
    g.good += servers[i].votes && is_good(&g, i);
  }
  g.wanted = blx__control_voters_wanted(count_servers(st, &g));
  if (!settled(&g)) return none();
  change c = let_go(&g);
  if (c.step == BLX__SERVER_NONE) c = remove_stand_by(&g);
  if (c.step == BLX__SERVER_NONE && g.good < g.wanted) return promote_best(&g);
  if (c.step == BLX__SERVER_NONE && g.good > g.wanted) return take_one_too_many(&g);
  return c.step == BLX__SERVER_NONE ? spread_better(&g) : c;
}
