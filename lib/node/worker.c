/* A worker: a node with an agent and without consensus, state or vote. One server at a time tells it its share, and
 * what changes in it; its reports and its callers' requests go the same way. While no server answers, its instances run
 * on as they are, and what there is to report is kept. */
#include "node/node_int.h"

#include <stdlib.h>
#include <string.h>

enum {
  RETRY_MIN_MS = 100,  /* until another server is asked, after one that did not answer ... */
  RETRY_MAX_MS = 5000, /* ... doubling up to here */
  UNHEARD_MAX = 3,     /* questions in a row that came to no leader: this server may be cut off from it */
};

struct blx__worker {
  struct blx__map share; /* instance uid -> struct blx_assignment, owned: what the server said so far */
  uint64_t index;        /* at which that is the whole share; 0: it is not */
  uint64_t newest;       /* the highest at which it ever was: one that is older is not acted on */
  uint64_t era;          /* of both: a recovery begins another one, whose log may have lost what this one had */
  struct blx__rpc_pending *stream;
  struct blx__timer *retry;
  size_t at;            /* the server that is asked: of identity->peers */
  unsigned failures;    /* servers in a row that said nothing */
  bool heard;           /* the stream that is open has said something */
  bool registering;     /* this incarnation is committed, if its server does not know it yet */
  uint64_t announced;   /* the incarnation of the registration that is on its way */
  uint64_t replaces;    /* the one before, as a server says; 0: none has said yet */
  uint64_t since_ms;    /* loop time at which the stream was opened */
  uint64_t told_ms;     /* at which a stream that had said something ended; at first the start */
  uint64_t announce_ms; /* of the last registration */
  unsigned unheard;     /* questions in a row that came to no leader */
  uint64_t leader;      /* as the server knows it */
  bool gone;            /* it leaves its cluster alone: nobody is asked any more */
};

static void drop_share(struct blx__worker *w) {
  BLX__MAP_FOREACH(pos, &w->share) blx__msg_free_owned(blx__map_value(pos));
  blx__map_clear(&w->share);
  w->index = 0;
}

/* ---- the servers */

const char *blx__worker_server(const struct blx__node *n) {
  const struct blx_identity *id = n->identity;
  BLX__ASSERT(id->n_peers > 0);
  return id->peers[n->worker->at % id->n_peers]->address;
}

static void retry_later(struct blx__node *n) {
  struct blx__worker *w = n->worker;
  uint64_t after = RETRY_MIN_MS;
  for (unsigned i = 1; i < w->failures && after < RETRY_MAX_MS; i++) after *= 2;
  if (after > RETRY_MAX_MS) after = RETRY_MAX_MS;
  blx__timer_start(w->retry, after + n->uid % RETRY_MIN_MS, 0);
}

/* The one that is asked from now on is the next. */
static void next_server(struct blx__node *n) {
  struct blx__worker *w = n->worker;
  w->at++;
  w->unheard = 0;
  if (w->stream) blx__rpc_cancel(w->stream); /* its end opens the next one */
}

void blx__worker_avoid(struct blx__node *n, const char *address) {
  if (!n->closing && address && strcmp(address, blx__worker_server(n)) == 0) next_server(n);
}

static bool same_servers(const struct blx_identity *id, struct blx_node_info *const *servers, size_t count) {
  if (id->n_peers != count) return false;
  for (size_t i = 0; i < count; i++)
    if (id->peers[i]->uid != servers[i]->uid || !blx__str_eq(id->peers[i]->address, servers[i]->address)) return false;
  return true;
}

/* Where the servers are, for the next start too. The one that is asked stays so. */
static blx__rc take_servers(struct blx__node *n, const struct blx_share_part *part, blx_error *err) {
  struct blx__worker *w = n->worker;
  if (part->n_servers == 0 || same_servers(n->identity, part->servers, part->n_servers)) return BLX__OK;
  uint64_t asked = n->identity->peers[w->at % n->identity->n_peers]->uid;
  for (size_t i = 0; i < part->n_servers; i++)
    if (!part->servers[i]->address || !*part->servers[i]->address)
      return blx__fail(err, BLX_E_INVALID, "node", "a server tells of one that has no address");
  BLX__TRY(blx__node_save(n, (enum blx_standing)n->identity->standing, part->servers, part->n_servers, err));
  for (size_t i = 0; i < part->n_servers; i++)
    if (part->servers[i]->uid == asked) w->at = i;
  return BLX__OK;
}

/* ---- the share */

static blx__rc keep(struct blx__worker *w, const struct blx_assignment *now, blx_error *err) {
  void *copy = NULL, *old = NULL;
  if (now->instance_uid == 0) return blx__fail(err, BLX_E_INVALID, "node", "an assignment has no uid");
  BLX__TRY(blx__msg_own(blx__desc_assignment(), now, &copy, err));
  if (!blx__map_set_u64(&w->share, now->instance_uid, copy, &old)) {
    blx__msg_free_owned(copy);
    return blx__fail(err, BLX_E_NOMEM, "node", "no memory for an assignment");
  }
  blx__msg_free_owned(old);
  return BLX__OK;
}

static blx__rc take_changes(struct blx__worker *w, const struct blx_share_part *part, blx_error *err) {
  if (part->whole) drop_share(w);
  /* Broken off before the part without more, it is no share of any index, and is asked for anew. */
  if (part->more) w->index = 0;
  for (size_t i = 0; i < part->n_left; i++) blx__msg_free_owned(blx__map_remove_u64(&w->share, part->left[i]));
  for (size_t i = 0; i < part->n_assignments; i++) BLX__TRY(keep(w, part->assignments[i], err));
  return BLX__OK;
}

static blx__rc give_agent(struct blx__node *n, blx_error *err) {
  struct blx__worker *w = n->worker;
  const struct blx_assignment **all = calloc(w->share.count + 1, sizeof *all);
  if (!all) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a share of %zu instances", w->share.count);
  size_t count = 0;
  BLX__MAP_FOREACH(pos, &w->share) all[count++] = blx__map_value(pos);
  blx__rc rc = blx__agent_share(n->agent, all, count, err);
  free(all);
  if (rc.code != 0) return rc;
  /* To tell how it is was asked once: what is reported by then is resent until the cluster has it. */
  BLX__MAP_FOREACH(pos, &w->share)((struct blx_assignment *)blx__map_value(pos))->tell = 0;
  return rc;
}

/* Nothing is started before the cluster knows this incarnation: until then the share may be older than the boot. */
static void check_registered(struct blx__node *n) {
  if (n->registered) return;
  n->registered = true;
  blx__log(&n->log, BLX_LOG_INFO, "node", "registered as worker %s (uid %llu)", n->self->name,
           (unsigned long long)n->uid);
  blx_error err;
  if (n->identity->standing != BLX_STANDING_MEMBER && blx__node_save(n, BLX_STANDING_MEMBER, NULL, 0, &err).code != 0)
    blx__log(&n->log, BLX_LOG_ERROR, "node", "the identity could not be written: %s", err.message);
  blx__worker_init_done(n);
}

static blx__rc take_part(struct blx__node *n, const struct blx_share_part *part, blx_error *err) {
  struct blx__worker *w = n->worker;
  BLX__TRY(take_servers(n, part, err));
  bool new_leader = part->leader != 0 && part->leader != w->leader;
  w->leader = part->leader;
  if (!part->known) w->replaces = part->incarnation;
  /* Asked for as a whole, by a worker that has lost its own, a server that is behind would tell of instances that have
   * gone elsewhere since. */
  if (part->known && part->era < w->era)
    return blx__fail(err, BLX_E_STALE, "node",
                     "the server at %s has not heard of the last recovery of its cluster: nothing it says counts",
                     blx__worker_server(n));
  if (part->known && part->era > w->era) {
    if (!part->whole) return blx__fail(err, BLX_E_INVALID, "node", "a share of a new era does not begin whole");
    drop_share(w);
    w->era = part->era;
    w->newest = 0;
  }
  if (part->known && part->index < w->newest)
    return blx__fail(err, BLX_E_STALE, "node",
                     "the server at %s is behind: its share is of index %llu, this one's %llu", blx__worker_server(n),
                     (unsigned long long)part->index, (unsigned long long)w->newest);
  if (part->known) {
    BLX__TRY(take_changes(w, part, err));
    check_registered(n);
    if (!part->more) {
      w->index = w->newest = part->index;
      blx__agent_era(n->agent, part->era, part->unclear);
      BLX__TRY(give_agent(n, err));
      blx__member_era(n, part->era, part->unclear);
    }
  }
  if (new_leader) blx__lease_ask_now(n);
  if (!n->registered) {
    w->announce_ms = 0;
    blx__worker_announce(n);
  }
  return BLX__OK;
}

void blx__worker_take(struct blx__node *n, struct blx__slice message) {
  struct blx__worker *w = n->worker;
  if (n->closing || w->gone) return;
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  void *part = NULL;
  blx_error err;
  blx__rc rc = blx__msg_decode(blx__desc_share_part(), &arena, message, &part, &err);
  if (rc.code == 0) rc = take_part(n, part, &err);
  blx__arena_free(&arena);
  w->heard = true;
  if (rc.code != 0) {
    blx__log(&n->log, BLX_LOG_ERROR, "node", "this worker's share could not be taken over: %s", err.message);
    drop_share(w);
    next_server(n);
    return;
  }
  w->failures = 0;
}

static bool on_message(void *user, struct blx__slice message) {
  blx__worker_take(user, message);
  return true;
}

static void on_done(void *user, const struct blx__rpc_result *result) {
  struct blx__node *n = user;
  struct blx__worker *w = n->worker;
  w->stream = NULL;
  if (n->closing) return;
  if (result->err && result->err->code == BLX_E_DENIED) {
    blx__node_removed(n, result->err->message);
    return;
  }
  const char *why = result->err ? result->err->message : "it was ended there";
  blx__log(&n->log, BLX_LOG_DEBUG, "node", "the server at %s tells no more: %s", blx__worker_server(n), why);
  /* Who ends it by itself is not asked again at once; one that was cancelled is not asked any more already. */
  if (!result->err || result->err->code != BLX_E_CANCELLED) w->at++;
  w->failures++;
  if (w->heard) w->told_ms = blx__loop_now_ms(n->loop);
  w->heard = false;
  retry_later(n);
}

static const struct blx__rpc_stream_ops stream_ops = {on_message, on_done};

static blx__rc open_stream(struct blx__node *n, blx_error *err) {
  struct blx__worker *w = n->worker;
  struct blx__rpc_conn *conn = blx__node_conn(n, blx__worker_server(n), err);
  if (!conn) return (blx__rc){err->code};
  struct blx_share_request req = {.struct_size = sizeof req, .node_uid = n->uid, .index = w->index};
  req.incarnation = n->self->incarnation;
  req.era = w->era;
  struct blx__buf body;
  blx__buf_init(&body, 1024);
  blx__rc rc = blx__msg_encode(blx__desc_share_request(), &req, &body, err);
  struct blx__rpc_request request = {.path = blx__rpc_rows()[BLX__RPC_SHARE].path, .body = {body.data, body.len}};
  if (rc.code == 0) rc = blx__rpc_stream(conn, &request, &stream_ops, n, &w->stream, err);
  blx__buf_free(&body);
  return rc;
}

static void retry_fn(void *arg) {
  struct blx__node *n = arg;
  struct blx__worker *w = n->worker;
  if (n->closing || n->fatal_code != 0 || w->stream || w->gone) return;
  blx_error err;
  w->heard = false;
  w->since_ms = blx__loop_now_ms(n->loop);
  if (open_stream(n, &err).code == 0) return;
  blx__log(&n->log, BLX_LOG_WARNING, "node", "the server at %s cannot be asked: %s", blx__worker_server(n),
           err.message);
  w->at++;
  w->failures++;
  retry_later(n);
}

/* ---- the registration: a report without reports, until the cluster knows this incarnation as it is */

static void announced(void *user, const blx_error *err, struct blx__slice answer) {
  (void)answer;
  struct blx__node *n = user;
  struct blx__worker *w = n->worker;
  n->announcing = false;
  if (!err) {
    /* Fenced meanwhile, it is another one that has to register. */
    w->registering = w->announced == n->self->incarnation;
    blx__lease_ask_now(n); /* a registration is no sign of life yet */
  } else {
    w->announce_ms = 0;
    n->self_changed = true;
  }
  if (!err || err->code != BLX_E_STALE)
    blx__worker_heard(n, err); /* else another one came between: the server says which */
}

void blx__worker_heard(struct blx__node *n, const blx_error *err) {
  struct blx__worker *w = n->worker;
  if (!err) {
    w->unheard = 0;
    return;
  }
  if (n->closing) return;
  blx__log(&n->log, BLX_LOG_DEBUG, "node", "not heard by the leader: %s", err->message);
  if (++w->unheard >= UNHEARD_MAX || err->code == BLX_E_TIMEOUT) next_server(n);
}

void blx__worker_begin_anew(struct blx__node *n) {
  struct blx__worker *w = n->worker;
  w->registering = false;
  w->replaces = 0;
  w->announce_ms = 0;
  drop_share(w);
  if (w->stream) blx__rpc_cancel(w->stream); /* its end opens the next one, which says who it is now */
}

void blx__worker_announce(struct blx__node *n) {
  struct blx__worker *w = n->worker;
  if (n->closing || n->fatal_code != 0) return;
  uint64_t now = blx__loop_now_ms(n->loop);
  if (w->stream && !w->heard && now - w->since_ms >= BLX__NODE_SHARE_MS) next_server(n);
  blx__lease_describe(n);
  bool first = !n->registered && !w->registering && w->replaces != 0, again = n->registered && n->self_changed;
  bool due = w->announce_ms == 0 || now - w->announce_ms >= BLX__NODE_REGISTER_MS;
  if (n->announcing || !due || !(first || again)) return;
  struct blx_report_request req = {.struct_size = sizeof req, .node_uid = n->uid};
  req.incarnation = n->self->incarnation;
  req.registration = n->self;
  req.replaces = first ? w->replaces : n->self->incarnation;
  blx_error err;
  if (blx__node_submit(n, BLX__RPC_REPORT, &req, announced, n, &err).code != 0) return;
  n->announcing = true;
  w->announced = req.incarnation;
  n->self_changed = false;
  w->announce_ms = now;
}

bool blx__worker_is_told(const struct blx__node *n) {
  return n->worker->stream && n->worker->heard;
}

blx__rc blx__worker_let_go(struct blx__node *n, blx_error *err) {
  struct blx__worker *w = n->worker;
  w->gone = true;
  n->registered = false;
  if (w->stream) blx__rpc_cancel(w->stream);
  drop_share(w);
  return give_agent(n, err);
}

static void announce_fn(void *arg) {
  if (((struct blx__node *)arg)->worker->gone) {
    blx__leave_look(arg);
    return;
  }
  blx__worker_announce(arg);
  blx__member_say_clear(arg);
}

/* ---- what it says of itself */

static const char *server_name(const struct blx__node *n, uint64_t uid) {
  for (size_t i = 0; i < n->identity->n_peers; i++)
    if (n->identity->peers[i]->uid == uid) return n->identity->peers[i]->name;
  return NULL;
}

/* What its status means, and what would tell more. */
static void word_self(const struct blx__node *n, struct blx_reason *out, char text[200]) {
  const struct blx__worker *w = n->worker;
  const char *server = n->identity->peers[w->at % n->identity->n_peers]->name;
  if (w->stream && w->heard) {
    (void)blx__str_format(text, 200, "a worker keeps no state: this is what it knows of itself, by the server %s",
                          server ? server : "");
    out->unblock = "ask without --stale";
  } else {
    (void)blx__str_format(text, 200,
                          "no server has told this worker anything for %llu s: what runs here runs on, and nothing new "
                          "is begun",
                          (unsigned long long)(blx__loop_now_ms(n->loop) - w->told_ms) / 1000);
    out->unblock = "start the servers, or see why this host does not reach them";
  }
  out->text = text;
}

/* What of the share is not known dead, and of how many VMs it is. */
static blx__rc count_share(const struct blx__worker *w, struct blx_node_info *me, struct blx_resources *used,
                           uint32_t *vms, blx_error *err) {
  struct blx__map names = {0};
  bool ok = true;
  BLX__MAP_FOREACH(pos, &w->share) {
    struct blx_assignment *a = blx__map_value(pos);
    if (!a->spec || !a->spec->name || a->remove) continue;
    char name[160];
    (void)blx__str_format(name, sizeof name, "%s/%s", blx__call_tenant(a->tenant), a->spec->name);
    ok = ok && blx__map_set_str(&names, name, a, NULL);
    if (a->dead) continue;
    me->instances++;
    used->vcpus += a->spec->vcpus;
    used->memory_mib += a->spec->memory_mib;
  }
  *vms = (uint32_t)names.count;
  blx__map_clear(&names);
  return ok ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "node", "no memory for the status");
}

void blx__worker_answer_status(struct blx__call *call) {
  struct blx__node *n = call->node;
  struct blx__worker *w = n->worker;
  char text[200];
  blx_error err;
  struct blx_reason reason = BLX_REASON_INIT;
  struct blx_resources used = BLX_RESOURCES_INIT;
  struct blx_node_info me = *n->self, *nodes[] = {&me};
  struct blx_cluster_status st = {.struct_size = sizeof st, .id = n->identity->cluster_id, .index = w->index};
  if (count_share(w, &me, &used, &st.vms, &err).code != 0) {
    blx__call_fail(call, &err);
    return;
  }
  word_self(n, &reason, text);
  me.role = BLX_NODE_ROLE_WORKER;
  me.allocated = &used;
  me.reason = &reason;
  st.name = n->identity->cluster_name;
  st.answered_by = n->self->name;
  st.leader = server_name(n, w->leader);
  st.nodes = nodes;
  st.n_nodes = 1;
  st.instances = (uint32_t)w->share.count;
  st.running = (uint32_t)blx__agent_running(n->agent);
  blx__call_answer(call, &st);
}

static void joined(void *user, const blx_error *err, struct blx__slice answer) {
  struct blx__node *n = user;
  struct blx__call *call = n->init_call;
  if (!call) return; /* it gave up, or another one came */
  n->init_call = NULL;
  if (err)
    blx__worker_answer_status(call);
  else
    blx__call_answer_bytes(call, answer);
}

void blx__worker_init_done(struct blx__node *n) {
  if (!n->init_call || !n->registered) return;
  struct blx_cluster_status_request req = {.struct_size = sizeof req};
  blx_error err;
  if (blx__node_submit(n, BLX__RPC_CLUSTER_STATUS, &req, joined, n, &err).code != 0)
    joined(n, &err, (struct blx__slice){0});
}

/* ---- its life */

blx__rc blx__worker_new(struct blx__node *n, blx_error *err) {
  n->worker = calloc(1, sizeof *n->worker);
  if (n->worker) n->worker->retry = blx__timer_new(n->loop, retry_fn, n);
  if (n->worker && n->worker->retry) return BLX__OK;
  return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a worker");
}

blx__rc blx__worker_start(struct blx__node *n, blx_error *err) {
  BLX__ASSERT(n->identity && !n->worker && !n->consensus);
  const struct blx_identity *id = n->identity;
  bool named = id->n_peers > 0;
  for (size_t i = 0; i < id->n_peers; i++) named = named && id->peers[i]->address && *id->peers[i]->address;
  if (!named)
    return blx__fail(err, BLX_E_CORRUPT, "node",
                     "%s/identity names no server: empty the data directory and join as a new node", n->data_dir);
  n->uid = n->identity->uid;
  n->self->uid = n->uid;
  n->announce = blx__timer_new(n->loop, announce_fn, n);
  BLX__TRY(blx__worker_new(n, err));
  if (!n->announce) return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a timer");
  blx__state_free(n->state);
  n->state = NULL;
  BLX__TRY(blx__node_open_agent(n, err));
  n->worker->at = (size_t)n->uid;
  n->worker->told_ms = blx__loop_now_ms(n->loop);
  blx__timer_start(n->announce, 100, 1000);
  blx__timer_start(n->worker->retry, 0, 0);
  return blx__lease_start(n, err);
}

void blx__worker_close(struct blx__node *n) {
  struct blx__worker *w = n->worker;
  blx__timer_free(w->retry);
  w->retry = NULL;
  if (w->stream) blx__rpc_cancel(w->stream);
}

void blx__worker_free(struct blx__worker *w) {
  if (!w) return;
  BLX__ASSERT(!w->stream);
  blx__timer_free(w->retry);
  drop_share(w);
  free(w);
}
