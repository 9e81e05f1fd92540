/* This node as a member: consensus and its peers, registration, heartbeats, and what follows an apply. */
#include "node/node_int.h"

#include "io/file.h"
#include "node/identity.h"

#include <stdlib.h>
#include <string.h>

void blx__node_fatal(struct blx__node *n, int code, const char *text) {
  if (n->fatal_code != 0) return;
  n->fatal_code = code;
  (void)blx__str_copy(n->fatal_text, sizeof n->fatal_text, text);
  blx__log(&n->log, BLX_LOG_ERROR, "node", "this node has stopped itself: %s", text);
  blx__lead_end(n);
  if (n->on_fatal) n->on_fatal(n->fatal_user, code, n->fatal_text);
}

/* ---- the replicated state machine: state applies, and the rest of the node follows */

static void fsm_begin(void *user, uint64_t index, uint64_t time_ms) {
  struct blx__node *n = user;
  blx__state_begin(n->state, index, time_ms);
}

static void fsm_apply(void *user, struct blx__slice op, struct blx__buf *result) {
  struct blx__node *n = user;
  blx__state_apply(n->state, op, result);
}

blx__rc blx__node_peers(struct blx__node *n, struct blx__arena *arena, struct blx_node_info ***out, size_t *count,
                        blx_error *err) {
  uint32_t most = blx__state_counts(n->state).nodes;
  struct blx_node_info **nodes = blx__arena_alloc(arena, sizeof *nodes * (most + (size_t)1));
  if (!nodes) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of %u nodes", most);
  size_t at = 0;
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid)) {
    if (node->role == BLX_NODE_ROLE_WORKER) continue;
    BLX__ASSERT(at < most);
    struct blx_node_info *draft = blx__arena_alloc(arena, sizeof *draft);
    if (!draft) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a list of %u nodes", most);
    *draft = (struct blx_node_info){.struct_size = sizeof *draft, .uid = node->uid, .name = node->name};
    draft->address = node->address;
    draft->peer_address = node->peer_address;
    draft->voter = node->voter;
    nodes[at++] = draft;
  }
  *out = nodes;
  *count = at;
  return BLX__OK;
}

/* The addresses of the others, into the channel and into the identity, from where a restart takes them. The channel is
 * where the API is. */
static blx__rc set_peers(struct blx__node *n, struct blx_node_info *const *nodes, size_t count, blx_error *err) {
  for (size_t i = 0; i < count; i++) {
    const char *address = nodes[i]->address;
    if (nodes[i]->uid == n->uid || !address || !*address) continue;
    BLX__TRY(blx__channel_set_address(n->channel, nodes[i]->uid, address, err));
  }
  return BLX__OK;
}

static void take_over_peers(struct blx__node *n) {
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  struct blx_node_info **nodes = NULL;
  size_t count = 0;
  blx_error err;
  blx__rc rc = blx__node_peers(n, &arena, &nodes, &count, &err);
  if (rc.code == 0) rc = set_peers(n, nodes, count, &err);
  if (rc.code == 0) rc = blx__node_save(n, (enum blx_standing)n->identity->standing, nodes, count, &err);
  blx__arena_free(&arena);
  n->servers_revision++;
  blx__shares_due(n);
  if (rc.code != 0) blx__log(&n->log, BLX_LOG_ERROR, "node", "peer addresses could not be taken over: %s", err.message);
}

static void check_registered(struct blx__node *n) {
  if (n->registered) return;
  const struct blx_node_info *me = blx__state_node(n->state, n->uid);
  if (!me || me->incarnation != n->self->incarnation) return;
  n->registered = true;
  blx__log(&n->log, BLX_LOG_INFO, "node", "registered as %s (uid %llu)", me->name, (unsigned long long)n->uid);
  blx_error err;
  if (n->identity->standing != BLX_STANDING_MEMBER && blx__node_save(n, BLX_STANDING_MEMBER, NULL, 0, &err).code != 0)
    blx__log(&n->log, BLX_LOG_ERROR, "node", "the identity could not be written: %s", err.message);
}

/* Nothing is started before the cluster knows this incarnation: until then the share may be older than the boot. */
static void check_share(struct blx__node *n) {
  uint64_t revision = blx__state_share_revision(n->state, n->uid);
  if (!n->registered || revision == n->share_revision || blx__member_recovering(n)) return;
  uint64_t era = blx__state_era(n->state);
  bool unclear = blx__state_is_unclear(n->state, n->uid);
  struct blx__arena arena = {.limit_bytes = 256u << 20};
  struct blx_assignment **share = NULL;
  size_t count = 0;
  blx_error err;
  blx__rc rc = blx__state_share(n->state, n->uid, &arena, &share, &count, &err);
  if (rc.code == 0) {
    blx__agent_era(n->agent, era, unclear);
    rc = blx__agent_share(n->agent, (const struct blx_assignment *const *)share, count, &err);
  }
  if (rc.code == 0) {
    n->share_revision = revision;
    blx__member_era(n, era, unclear);
  } else {
    blx__log(&n->log, BLX_LOG_ERROR, "node", "this node's share could not be taken over: %s", err.message);
  }
  blx__arena_free(&arena);
}

static void follow_state(struct blx__node *n) {
  if (n->nodes_changed) {
    n->nodes_changed = false;
    take_over_peers(n);
  }
  check_registered(n);
  blx__init_done(n);
  check_share(n);
  blx__shares_pump(n);
  blx__watches_pump(n);
  blx__backups_pump(n);
  blx__lead_kick(n);
}

static void fsm_end(void *user) {
  struct blx__node *n = user;
  blx__state_end(n->state);
  blx__events_noted(n);
  blx__lead_clock_seen(&n->lead.clock, n->lead.leading, blx__state_time_ms(n->state), blx__loop_now_ms(n->loop),
                       n->lead.wall);
  const char *why = blx__state_fatal(n->state);
  if (why) {
    blx__consensus_poison(n->consensus, BLX_E_FATAL, why);
    return;
  }
  if (!n->closing) blx__loop_defer(n->loop, &n->follow);
}

static void follow_fn(void *arg) {
  struct blx__node *n = arg;
  if (!n->closing && n->fatal_code == 0) follow_state(n);
}

static void *fsm_freeze(void *user, blx_error *err) {
  struct blx__node *n = user;
  return blx__state_freeze(n->state, err);
}

static blx__rc fsm_write(void *frozen, struct blx__buf *out, blx_error *err) {
  return blx__state_write(frozen, out, err);
}

static void fsm_thaw(void *user, void *frozen) {
  struct blx__node *n = user;
  blx__state_thaw(n->state, frozen);
}

static blx__rc fsm_restore(void *user, struct blx__slice snapshot, blx_error *err) {
  struct blx__node *n = user;
  blx__backups_end(n); /* nothing is frozen then */
  blx__rc rc = blx__state_restore(n->state, snapshot, err);
  n->nodes_changed = true;
  if (rc.code == 0) blx__audit_restored(n);
  if (rc.code == 0)
    blx__lead_clock_seen(&n->lead.clock, false, blx__state_time_ms(n->state), blx__loop_now_ms(n->loop), n->lead.wall);
  if (rc.code == 0 && !n->closing) blx__loop_defer(n->loop, &n->follow);
  return rc;
}

/* ---- consensus */

static uint64_t now_ms(void *user) {
  return blx__lead_time_ms(user);
}

/* ---- after a recovery: servers of the old group may come back with what they had */

static bool is_gone(const struct blx__node *n, uint64_t uid) {
  if (uid == n->uid) return false;
  return (n->consensus && uid < blx__consensus_gone_below(n->consensus)) || blx__state_is_gone(n->state, uid);
}

static bool refuses(void *user, uint64_t from_uid, char why[BLX__CHANNEL_WHY_SIZE]) {
  struct blx__node *n = user;
  if (!is_gone(n, from_uid)) return false;
  return blx__str_format(why, BLX__CHANNEL_WHY_SIZE,
                         "the cluster was recovered without member %llu, whose data no longer count: empty its data "
                         "directory, and let it join as a new node under another name",
                         (unsigned long long)from_uid);
}

/* What this member has may differ from what was acknowledged since: it does nothing more with it, however often it is
 * started. */
static void on_refused(void *user, uint64_t by_uid, const char *why) {
  struct blx__node *n = user;
  (void)by_uid; /* it says so itself */
  if (n->consensus && !n->closing) blx__consensus_poison(n->consensus, BLX_E_CORRUPT, why);
}

bool blx__member_recovering(const struct blx__node *n) {
  return n->consensus && blx__consensus_gone_below(n->consensus) > blx__state_gone_below(n->state);
}

/* So that every later member knows it too, whichever of them leads. It is the first operation after the recovery: until
 * it is applied no other is proposed, no share told and no lease given. */
static void note_recovery(struct blx__node *n) {
  if (!blx__member_recovering(n)) return;
  uint64_t below = blx__consensus_gone_below(n->consensus);
  struct blx_op_regroup regroup = {.struct_size = sizeof regroup, .survivor_uid = n->uid, .below = below};
  struct blx_op op = {.struct_size = sizeof op, .regroup = &regroup, .principal = "recover", .source = "recovery"};
  blx_error err;
  if (blx__node_propose(n, &op, NULL, NULL, &err).code != 0)
    blx__log(&n->log, BLX_LOG_WARNING, "node", "the recovery is not noted in the state yet: %s", err.message);
}

static bool send_peer(void *user, uint64_t to_uid, struct blx__slice message) {
  struct blx__node *n = user;
  return n->channel && blx__channel_send(n->channel, to_uid, message);
}

static void deliver(void *user, uint64_t from_uid, struct blx__slice message) {
  struct blx__node *n = user;
  if (n->consensus && !n->closing) blx__consensus_deliver(n->consensus, from_uid, message);
}

/* The first leader of a new cluster names it and enters itself. */
static void found_cluster(struct blx__node *n) {
  struct blx_op_cluster_init init = {.struct_size = sizeof init, .id = n->identity->cluster_id};
  init.name = n->identity->cluster_name;
  struct blx_op op_init = {.struct_size = sizeof op_init, .cluster_init = &init};
  struct blx_op_node_join join = {.struct_size = sizeof join, .node = n->self};
  struct blx_op op_join = {.struct_size = sizeof op_join, .node_join = &join};
  struct blx_op_node_voter voter = {.struct_size = sizeof voter, .uid = 1, .voter = 1};
  struct blx_op op_voter = {.struct_size = sizeof op_voter, .node_voter = &voter};
  struct blx_op *const ops[] = {&op_init, &op_join, &op_voter};
  for (size_t i = 0; i < BLX__COUNT(ops); i++) {
    blx_error err;
    ops[i]->principal = n->founder.principal;
    ops[i]->source = n->founder.source;
    ops[i]->reason = n->founder.reason;
    if (blx__node_propose(n, ops[i], NULL, NULL, &err).code != 0)
      blx__log(&n->log, BLX_LOG_WARNING, "node", "the cluster is not made yet: %s", err.message);
  }
}

static void on_role(void *user, enum blx__consensus_role role, uint64_t leader_uid, uint64_t term) {
  struct blx__node *n = user;
  if (n->closing) return;
  n->role = role;
  (void)term; /* consensus logs it */
  bool leading = role == BLX__ROLE_LEADER;
  if (leading != n->lead.leading) {
    if (leading)
      blx__lead_begin(n);
    else
      blx__lead_end(n);
  }
  if (leading && n->uid == 1 && !*blx__state_cluster_id(n->state)) found_cluster(n);
  if (leading) note_recovery(n);
  if (leader_uid != 0) blx__member_announce(n);
  if (leader_uid != 0) blx__lease_ask_now(n);
  /* Workers are told who leads now, and are heard by it at once. */
  blx__shares_due(n);
  blx__loop_defer(n->loop, &n->follow);
}

static void on_fatal(void *user, int code, const char *text) {
  blx__node_fatal(user, code, text);
}

static blx__rc check_log(struct blx__node *n, const char *dir, const uint8_t *id, blx_error *err) {
  if (n->identity->standing == BLX_STANDING_FOUNDING) {
    /* A founding that was cut begins anew; one that came to its log goes on. */
    blx_error why;
    blx__rc rc = blx__consensus_bootstrap(dir, id, n->uid, &why);
    return rc.code == BLX_E_EXISTS || rc.code == 0 ? BLX__OK : blx__fail_as(err, &why);
  }
  bool exists = false;
  BLX__TRY(blx__consensus_probe(dir, &exists, err));
  if (exists || n->identity->standing != BLX_STANDING_MEMBER) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, "node",
                   "%s holds no log, but this node had one: restore it from a backup, or empty the data directory and "
                   "join as a new node",
                   dir);
}

static blx__rc open_consensus(struct blx__node *n, const uint8_t *id, blx_error *err) {
  char dir[256];
  if (!blx__str_format(dir, sizeof dir, "%s/raft", n->data_dir))
    return blx__fail(err, BLX_E_INVALID, "node", "the path of the data directory is too long");
  BLX__TRY(blx__dir_make(dir, 0700, err));
  BLX__TRY(check_log(n, dir, id, err));
  struct blx__consensus_options options = {
      .loop = n->loop,
      .dir = dir,
      .uid = n->uid,
      .fsm = {n, fsm_begin, fsm_apply, fsm_end, fsm_freeze, fsm_write, fsm_thaw, fsm_restore},
      .log = &n->log,
      .user = n,
      .now_ms = now_ms,
      .send = send_peer,
      .on_role = on_role,
      .on_fatal = on_fatal,
      .may_truncate = blx__audit_may_truncate,
      .unsafe_fs = n->unsafe_fs,
      .heartbeat_ms = n->heartbeat_ms,
      .election_ms = n->election_ms,
  };
  memcpy(options.cluster_id, id, sizeof options.cluster_id);
  return blx__consensus_open(&options, &n->consensus, err);
}

_Static_assert((int)BLX__CHANNEL_MESSAGE_MAX >= (int)BLX__CONSENSUS_MESSAGE_MAX, "a message must fit");
_Static_assert((int)BLX__CHANNEL_PEERS_MAX >= (int)BLX__CONSENSUS_MEMBERS_MAX, "each member must fit");

static blx__rc open_channel(struct blx__node *n, blx_error *err) {
  struct blx__channel_options options = {.loop = n->loop, .uid = n->uid, .log = &n->log, .user = n};
  options.path = blx__rpc_rows()[BLX__RPC_CHANNEL].path;
  options.cluster_id = n->identity->cluster_id;
  options.address = n->address;
  options.deliver = deliver;
  options.refuses = refuses;
  options.on_refused = on_refused;
  BLX__TRY(blx__channel_open(&options, &n->channel, err));
  return set_peers(n, n->identity->peers, n->identity->n_peers, err);
}

static blx__rc parse_id(const char *hex, uint8_t id[BLX__CONSENSUS_CLUSTER_ID_BYTES], blx_error *err) {
  bool ok = hex && strlen(hex) == 2 * BLX__CONSENSUS_CLUSTER_ID_BYTES;
  for (size_t i = 0; ok && i < BLX__CONSENSUS_CLUSTER_ID_BYTES; i++) {
    char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'}, *end = NULL;
    id[i] = (uint8_t)strtoul(two, &end, 16);
    ok = *end == '\0';
  }
  if (ok) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, "node", "the cluster id in the data directory is not 32 hexadecimal digits");
}

static void announce_fn(void *arg) {
  struct blx__node *n = arg;
  if (n->role == BLX__ROLE_LEADER && !n->closing) note_recovery(n);
  blx__member_say_clear(n);
  blx__lead_tick(arg);
  blx__forward_look(arg);
  blx__servers_tick(arg);
  blx__audit_tick(arg);
  blx__watches_tick(arg);
  blx__member_announce(arg);
}

void blx__member_init(struct blx__node *n) {
  blx__defer_init(&n->follow, follow_fn, n);
}

static blx__rc member_start(struct blx__node *n, blx_error *err) {
  BLX__ASSERT(n->identity && !n->consensus);
  uint8_t id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  BLX__TRY(parse_id(n->identity->cluster_id, id, err));
  n->uid = n->identity->uid;
  n->self->uid = n->uid;
  n->announce = blx__timer_new(n->loop, announce_fn, n);
  if (!n->announce) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a timer");
  BLX__TRY(blx__node_open_agent(n, err));
  BLX__TRY(open_channel(n, err));
  BLX__TRY(blx__audit_open(n, err));
  BLX__TRY(open_consensus(n, id, err));
  blx__timer_start(n->announce, 100, 1000);
  return blx__lease_start(n, err);
}

blx__rc blx__node_start(struct blx__node *n, blx_error *err) {
  return n->identity->role == BLX_NODE_ROLE_WORKER ? blx__worker_start(n, err) : member_start(n, err);
}

blx__rc blx__member_found(struct blx__node *n, const char *cluster_name, blx_error *err) {
  uint8_t id[BLX__CONSENSUS_CLUSTER_ID_BYTES];
  BLX__TRY(blx__random_bytes(id, sizeof id, err));
  char hex[2 * sizeof id + 1];
  for (size_t i = 0; i < sizeof id; i++) (void)blx__str_format(hex + 2 * i, 3, "%02x", id[i]);
  struct blx_identity identity = {.struct_size = sizeof identity, .cluster_id = hex, .uid = 1, .name = n->self->name};
  identity.cluster_name = (cluster_name && *cluster_name ? cluster_name : "blixard");
  identity.standing = BLX_STANDING_FOUNDING;
  void *owned = NULL;
  BLX__TRY(blx__msg_own(blx__desc_identity(), &identity, &owned, err));
  blx__rc rc = blx__identity_write(n->data_dir, owned, err);
  if (rc.code != 0) {
    blx__msg_free_owned(owned);
    return rc;
  }
  n->identity = owned;
  return member_start(n, err);
}

blx__rc blx__node_save(struct blx__node *n, enum blx_standing standing, struct blx_node_info *const *peers,
                       size_t count, blx_error *err) {
  struct blx_identity next = *n->identity;
  next.standing = (int32_t)standing;
  next.name = n->self->name;
  if (count > 0) {
    next.peers = (struct blx_node_info **)(uintptr_t)peers;
    next.n_peers = count;
  }
  void *owned = NULL;
  BLX__TRY(blx__msg_own(blx__desc_identity(), &next, &owned, err));
  blx__rc rc = blx__identity_write(n->data_dir, owned, err);
  if (rc.code != 0) {
    blx__msg_free_owned(owned);
    return rc;
  }
  blx__msg_free_owned(n->identity);
  n->identity = owned;
  return BLX__OK;
}

/* ---- the registration: a report without reports, until the cluster knows this incarnation as it is */

static void announced(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__node *n = user;
  n->announcing = false;
  if (err) n->self_changed = true;
  if (err) blx__log(&n->log, BLX_LOG_DEBUG, "node", "not heard by the leader: %s", err->message);
}

/* ---- its place: whoever has a uid asks until the group has it, whatever was cut on the way; and one that hears of no
 * leader for long asks whether it was removed meanwhile */

enum { LEADERLESS_MS = 10000 };

static void readied(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__node *n = user;
  n->asking_place = false;
  if (!err || n->closing) return;
  if (err->code == BLX_E_DENIED)
    blx__node_removed(n, err->message);
  else
    blx__log(&n->log, BLX_LOG_DEBUG, "node", "the place in the group is still to come: %s", err->message);
}

static bool wants_place(struct blx__node *n) {
  bool votes = false;
  uint64_t now = blx__loop_now_ms(n->loop);
  if (n->led_ms == 0 || blx__consensus_leader(n->consensus) != 0) n->led_ms = now;
  if (n->identity->standing == BLX_STANDING_FOUNDING) return false;
  return !blx__servers_has(n, n->uid, &votes) || now - n->led_ms > LEADERLESS_MS;
}

static void ask_for_place(struct blx__node *n) {
  if (!wants_place(n) || n->asking_place) return;
  struct blx_member_ready_request req = {.struct_size = sizeof req, .uid = n->uid};
  for (size_t i = 0; i < n->identity->n_peers; i++) {
    size_t at = (i + n->ask_next) % n->identity->n_peers;
    const struct blx_node_info *peer = n->identity->peers[at];
    if (peer->uid == n->uid || !peer->address) continue;
    n->ask_next = at + 1;
    blx_error err;
    n->asking_place = blx__node_ask(n, peer->address, BLX__RPC_MEMBER_READY, &req, readied, n, &err).code == 0;
    return;
  }
}

void blx__member_announce(struct blx__node *n) {
  if (!n->consensus || n->closing || n->fatal_code != 0) return;
  ask_for_place(n);
  if (n->announcing) return;
  blx__lease_describe(n);
  const struct blx_node_info *me = blx__state_node(n->state, n->uid);
  bool due = !n->registered || n->self_changed;
  if (blx__consensus_leader(n->consensus) == 0 || !due || !me) return;
  struct blx_report_request req = {.struct_size = sizeof req, .node_uid = n->uid};
  req.incarnation = n->self->incarnation;
  req.wall_ms = blx__loop_wall_ms(n->loop);
  req.registration = n->self;
  req.replaces = me->incarnation;
  blx_error err;
  if (blx__node_submit(n, BLX__RPC_REPORT, &req, announced, n, &err).code != 0) return;
  n->announcing = true;
  n->self_changed = false;
}

/* ---- after a recovery: what runs here is told */

static void said_clear(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__node *n = user;
  n->saying_clear = false;
  if (err) blx__log(&n->log, BLX_LOG_DEBUG, "node", "the leader has not taken over what runs here: %s", err->message);
}

void blx__member_era(struct blx__node *n, uint64_t era, bool unclear) {
  n->unclear_era = unclear ? era : 0;
  blx__member_say_clear(n);
}

void blx__member_say_clear(struct blx__node *n) {
  if (n->unclear_era == 0 || !n->registered || n->saying_clear || n->closing || n->fatal_code != 0) return;
  if (!blx__agent_is_clear(n->agent)) return;
  struct blx_report_request req = {.struct_size = sizeof req, .node_uid = n->uid, .clear_era = n->unclear_era};
  req.incarnation = n->self->incarnation;
  blx_error err;
  n->saying_clear = blx__node_submit(n, BLX__RPC_REPORT, &req, said_clear, n, &err).code == 0;
}

/* ---- the agent's reports: one batch at a time */

static void reported(void *user, const blx_error *err, struct blx__slice answer) {
  struct blx__node *n = user;
  blx__agent_sent_fn *done = n->report_done;
  void *arg = n->report_arg;
  n->report_done = NULL;
  if (err) {
    done(arg, err, NULL, 0);
    return;
  }
  struct blx__arena arena = {.limit_bytes = 1 << 20};
  void *decoded = NULL;
  blx_error why;
  if (blx__msg_decode(blx__desc_op_result(), &arena, answer, &decoded, &why).code != 0) {
    done(arg, &why, NULL, 0);
  } else {
    const struct blx_op_result *result = decoded;
    done(arg, NULL, result->stale_instances, result->n_stale_instances);
  }
  blx__arena_free(&arena);
}

void blx__member_report(void *user, const struct blx_instance_report *const *reports, size_t count,
                        blx__agent_sent_fn *done, void *arg) {
  struct blx__node *n = user;
  BLX__ASSERT(!n->report_done);
  struct blx_report_request req = {.struct_size = sizeof req, .node_uid = n->uid, .incarnation = n->self->incarnation};
  req.reports = (struct blx_instance_report **)(uintptr_t)reports;
  req.n_reports = count;
  req.wall_ms = blx__loop_wall_ms(n->loop);
  blx_error err;
  n->report_done = done;
  n->report_arg = arg;
  if (blx__node_submit(n, BLX__RPC_REPORT, &req, reported, n, &err).code == 0) return;
  n->report_done = NULL;
  done(arg, &err, NULL, 0);
}
