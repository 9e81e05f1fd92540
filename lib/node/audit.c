/* The audit log on this member: state's records go to lib/history, what is asked of it goes there on a worker, what
 * this member lacks is fetched from others, and what it refuses itself is noted in a chain of its own. */
#include "node/node_int.h"

#include "io/work.h"

#include <stdlib.h>
#include <string.h>

enum {
  JOBS_MAX = BLX__AUDIT_JOBS_MAX,
  JOB_ARENA = 16 << 20,
  DENIED_BURST = 100,
  DENIED_EACH_S = 10,
  FETCH_RECORDS = 1000
};

/* ---- from state, and to consensus */

void blx__audit_record(struct blx__node *n, const struct blx__state_audit *a) {
  struct blx__history_record r = {.seq = a->seq, .index = a->index, .time_ms = a->time_ms, .record = a->record};
  r.prev = a->prev;
  r.hash = a->hash;
  r.message = a->message;
  if (n->audit.history) blx__history_add(n->audit.history, &r);
}

void blx__audit_restored(struct blx__node *n) {
  uint64_t seq = blx__state_audit_seq(n->state);
  if (!n->audit.history) return;
  if (seq > 0) blx__history_head(n->audit.history, seq, blx__state_audit_head(n->state));
  blx__history_begin_events(n->audit.history, blx__state_index(n->state), blx__state_time_ms(n->state));
}

bool blx__audit_may_truncate(void *user, uint64_t index) {
  struct blx__node *n = user;
  return !n->audit.history || blx__history_may_truncate(n->audit.history, index);
}

/* On the thread that writes; this one looks each second. */
static void on_fatal(void *user, int code, const char *text) {
  struct blx__node *n = user;
  (void)blx__str_copy(n->audit.fatal_text, sizeof n->audit.fatal_text, text);
  atomic_store(&n->audit.fatal_code, code);
}

blx__rc blx__audit_open(struct blx__node *n, blx_error *err) {
  char path[256];
  if (!blx__str_format(path, sizeof path, "%s/history.db", n->data_dir))
    return blx__fail(err, BLX_E_INVALID, "node", "the path of the data directory is too long");
  struct blx__history_options options = {.path = path, .log = &n->log, .user = n, .on_fatal = on_fatal};
  options.max_age_ms = n->audit.max_age_ms;
  options.max_bytes = n->audit.max_bytes;
  options.events_max_age_ms = n->audit.events_max_age_ms;
  options.events_max_bytes = n->audit.events_max_bytes;
  n->audit.denied_left = DENIED_BURST;
  return blx__history_open(&options, &n->audit.history, err);
}

/* ---- jobs: history blocks, so it is asked on a worker */

struct job {
  struct blx__node *n;
  struct blx__call *call; /* NULL: our own */
  void (*run)(struct job *job);
  void (*done)(struct job *job);
  struct blx__arena arena;
  blx__rc rc;
  blx_error err;
  struct blx__history_check check;
  struct blx_audit_list list;
  struct blx_audit_part part;
  struct blx_audit_cut **cuts;
  size_t n_cuts;
  const struct blx_audit_part *given; /* by another member, in the arena */
  struct blx__history_gap gap;
};

static void job_free(struct job *job) {
  blx__arena_free(&job->arena);
  free(job);
}

static void on_work(void *arg) {
  struct job *job = arg;
  job->run(job);
}

static void on_done(void *arg) {
  struct job *job = arg;
  struct blx__node *n = job->n;
  n->audit.jobs--;
  job->done(job);
  if (n->closing) blx__node_part_closed(n);
}

static blx__rc job_start(struct job *job, blx_error *err) {
  struct blx__node *n = job->n;
  if (n->closing) return blx__fail(err, BLX_E_CANCELLED, "node", "node %s is stopping", n->self->name);
  if (n->audit.jobs >= JOBS_MAX)
    return blx__fail(err, BLX_E_BUSY, "node", "%d questions about the audit log are being answered: try again later",
                     JOBS_MAX);
  BLX__TRY(blx__work(n->loop, on_work, on_done, job, err));
  n->audit.jobs++;
  return BLX__OK;
}

static struct job *job_new(struct blx__node *n, struct blx__call *call, void (*run)(struct job *),
                           void (*done)(struct job *)) {
  struct job *job = calloc(1, sizeof *job);
  if (!job) return NULL;
  *job = (struct job){.n = n, .call = call, .run = run, .done = done, .arena = {.limit_bytes = JOB_ARENA}};
  return job;
}

static void start_for(struct blx__call *call, struct job *job) {
  blx_error err;
  blx__rc rc = job ? job_start(job, &err) : blx__fail(&err, BLX_E_NOMEM, "node", "no memory for a call");
  if (rc.code == 0) return;
  if (job) job_free(job);
  blx__call_fail(call, &err);
}

static void answer(struct job *job, const void *answer) {
  if (job->rc.code != 0)
    blx__call_fail(job->call, &job->err);
  else
    blx__call_answer(job->call, answer);
  job_free(job);
}

/* ---- what is asked */

static void run_list(struct job *job) {
  job->rc = blx__history_list(job->n->audit.history, job->call->request, &job->arena, &job->list, &job->err);
}

static void done_list(struct job *job) {
  job->list.answered_by = job->n->self->name;
  answer(job, &job->list);
}

void blx__handle_audit_list(struct blx__call *call) {
  struct job *job = job_new(call->node, call, run_list, done_list);
  if (job) job->list = (struct blx_audit_list)BLX_AUDIT_LIST_INIT;
  start_for(call, job);
}

static void run_check(struct job *job) {
  job->rc = blx__history_check(job->n->audit.history, &job->check, &job->err);
  if (job->rc.code == 0 && job->check.done && !job->check.denied)
    job->rc = blx__history_cuts(job->n->audit.history, &job->arena, &job->cuts, &job->n_cuts, &job->err);
}

static void done_check(struct job *job) {
  const struct blx__history_check *c = &job->check;
  if (job->rc.code == 0 && !c->done) {
    job->rc = job_start(job, &job->err);
    if (job->rc.code == 0) return;
  }
  char hex[BLX__SHA256_HEX];
  blx__sha256_hex(c->hash, hex);
  struct blx_audit_verdict v = {.struct_size = sizeof v, .ok = c->ok, .records = c->records, .last_seq = c->seq};
  v.head = c->seq > 0 ? hex : NULL;
  v.bad_seq = c->bad_seq;
  v.text = c->text;
  v.cuts = job->cuts;
  v.n_cuts = job->n_cuts;
  v.answered_by = job->n->self->name;
  answer(job, &v);
}

void blx__handle_audit_verify(struct blx__call *call) {
  struct blx__node *n = call->node;
  struct job *job = job_new(n, call, run_check, done_check);
  if (job) {
    job->check.denied = ((const struct blx_audit_verify_request *)call->request)->denied != 0;
    job->check.state_seq = blx__state_audit_seq(n->state);
    memcpy(job->check.state_head, blx__state_audit_head(n->state), sizeof job->check.state_head);
  }
  start_for(call, job);
}

static void run_part(struct job *job) {
  job->rc = blx__history_part(job->n->audit.history, job->call->request, &job->arena, &job->part, &job->err);
}

static void done_part(struct job *job) {
  answer(job, &job->part);
}

void blx__handle_audit_fetch(struct blx__call *call) {
  struct job *job = job_new(call->node, call, run_part, done_part);
  if (job) job->part = (struct blx_audit_part)BLX_AUDIT_PART_INIT;
  start_for(call, job);
}

/* ---- what this member lacks: from another server, the newest first */

static void fetch(struct blx__node *n);

static void fatal(struct blx__node *n, int code, const char *text) {
  if (n->consensus && !n->closing) blx__consensus_poison(n->consensus, code, text);
}

static void run_fill(struct job *job) {
  job->rc = blx__history_fill(job->n->audit.history, job->gap, job->given, &job->err);
}

static void done_fill(struct job *job) {
  struct blx__node *n = job->n;
  n->audit.fetching = false;
  if (job->rc.code == BLX_E_CORRUPT)
    fatal(n, job->rc.code, job->err.message);
  else if (job->rc.code != 0)
    blx__log(&n->log, BLX_LOG_WARNING, "node", "records of the audit log that a member gave were not taken: %s",
             job->err.message);
  bool on = job->rc.code == 0;
  if (job->rc.code == BLX_E_CONFLICT) n->audit.refused++;
  job_free(job);
  if (on) fetch(n);
}

static void run_give_up(struct job *job) {
  job->rc = blx__history_give_up(job->n->audit.history, job->gap, &job->err);
}

static void done_give_up(struct job *job) {
  struct blx__node *n = job->n;
  n->audit.fetching = false;
  if (job->rc.code == 0)
    blx__log(&n->log, BLX_LOG_WARNING, "node",
             "records %llu to %llu of the audit log are not here, and no server has them: a cut is noted",
             (unsigned long long)job->gap.first, (unsigned long long)job->gap.last);
  else
    blx__log(&n->log, BLX_LOG_WARNING, "node", "a cut in the audit log could not be noted: %s", job->err.message);
  job_free(job);
}

static void start_own(struct blx__node *n, struct job *job) {
  blx_error err;
  if (job && job_start(job, &err).code == 0) return;
  n->audit.fetching = false; /* the next tick tries again */
  if (job) job_free(job);
}

static void fetched(void *user, const blx_error *err, struct blx__slice bytes) {
  struct blx__node *n = user;
  struct job *job = err || n->closing ? NULL : job_new(n, NULL, run_fill, done_fill);
  void *msg = NULL;
  if (!job || blx__msg_decode(blx__desc_audit_part(), &job->arena, bytes, &msg, NULL).code != 0) {
    n->audit.fetching = false;
    if (job) job_free(job);
    return;
  }
  job->given = msg;
  job->gap = n->audit.asked;
  if (job->given->n_links > 0) {
    n->audit.refused = 0;
    start_own(n, job);
    return;
  }
  /* One that has not come so far yet may have it later. */
  if (job->given->last_seq >= job->gap.last) n->audit.refused++;
  n->audit.fetching = false;
  job_free(job);
}

/* The next of the other servers in turn; their number in @count. */
static const struct blx_node_info *next_server(struct blx__node *n, size_t *count) {
  const struct blx_node_info *first = NULL, *next = NULL;
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid)) {
    if (node->uid == n->uid || node->role == BLX_NODE_ROLE_WORKER || !node->address || !*node->address) continue;
    (*count)++;
    if (!first) first = node;
    if (!next && node->uid > n->audit.ask_uid) next = node;
  }
  return next ? next : first;
}

/* From the same server as long as it gives, else from the next one. */
static void fetch(struct blx__node *n) {
  struct blx__history_gap gap;
  size_t servers = 0;
  if (n->closing || n->fatal_code != 0 || n->audit.fetching || !blx__history_gap(n->audit.history, &gap)) return;
  if (gap.last != n->audit.asked.last) n->audit.refused = 0;
  n->audit.asked = gap;
  const struct blx_node_info *node = next_server(n, &servers);
  n->audit.fetching = true;
  if (n->audit.refused >= servers) {
    struct job *job = job_new(n, NULL, run_give_up, done_give_up);
    if (job) job->gap = gap;
    start_own(n, job);
    return;
  }
  struct blx_audit_fetch_request req = {.struct_size = sizeof req, .upto_seq = gap.last, .limit = FETCH_RECORDS};
  blx_error err;
  n->audit.ask_uid = node->uid;
  if (blx__node_ask(n, node->address, BLX__RPC_AUDIT_FETCH, &req, fetched, n, &err).code != 0)
    n->audit.fetching = false;
}

void blx__audit_tick(struct blx__node *n) {
  struct node_audit *a = &n->audit;
  if (!a->history || n->closing) return;
  a->denied_left = a->denied_left + DENIED_EACH_S > DENIED_BURST ? DENIED_BURST : a->denied_left + DENIED_EACH_S;
  int code = atomic_load(&a->fatal_code);
  if (code != 0)
    fatal(n, code, a->fatal_text);
  else if (n->registered)
    fetch(n);
}

/* ---- requests that this member refused before they came to the log */

static bool is_refusal(int code) {
  switch (code) {
  case BLX_E_INVALID:
  case BLX_E_UNSUPPORTED:
  case BLX_E_NOT_FOUND:
  case BLX_E_DENIED:
  case BLX_E_EXISTS:
  case BLX_E_CONFLICT:
  case BLX_E_STALE:
  case BLX_E_NO_CAPACITY:
  case BLX_E_QUOTA: return true;
  default: return false;
  }
}

static void name_request(const struct blx__call *call, char verb[33], char object[97]) {
  const struct blx__field *field = call->request ? blx__desc_field(call->row->request(), "name") : NULL;
  const char *name = NULL;
  (void)blx__str_copy(verb, 33, call->row->name);
  char *first = strchr(verb, '_');
  if (first) *first = '.';
  if (field) memcpy(&name, (const char *)call->request + field->offset, sizeof name);
  if (!name && call->request && call->row->id == BLX__RPC_VM_CREATE) {
    const struct blx_vm_create_request *req = call->request;
    name = req->spec ? req->spec->name : NULL;
  }
  (void)blx__str_format(object, 97, "%.*s/%.80s", (int)(first ? first - verb : 0), verb, name ? name : "");
}

/* Whatever is no name is not kept. */
static const char *tenant_of(const struct blx__call *call) {
  const struct blx__field *field = call->request ? blx__desc_field(call->row->request(), "tenant") : NULL;
  const char *tenant = NULL;
  if (field) memcpy(&tenant, (const char *)call->request + field->offset, sizeof tenant);
  return tenant && blx__name_ok(tenant, 56) ? tenant : NULL;
}

/* What a caller wrote may hold anything; a line of the log must not. */
static void mend(char *text) {
  for (char *p = text; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
}

void blx__audit_deny(const struct blx__call *call, const blx_error *why) {
  struct blx__node *n = call->node;
  struct node_audit *a = &n->audit;
  bool mine = call->rpc && call->row->route == BLX__ROUTE_WRITE && call->row->id != BLX__RPC_REPORT;
  if (!a->history || !mine || call->proposed || call->forwarded_to || !is_refusal(why->code)) return;
  if (a->denied_left == 0) {
    a->denied_dropped++;
    return;
  }
  a->denied_left--;
  char verb[33], object[97], message[256], detail[64] = "";
  struct blx_audit_record r = BLX_AUDIT_RECORD_INIT;
  name_request(call, verb, object);
  mend(object);
  (void)blx__str_copy(message, sizeof message, why->message);
  if (a->denied_dropped > 0)
    (void)blx__str_format(detail, sizeof detail, "%llu before it were left out", (unsigned long long)a->denied_dropped);
  a->denied_dropped = 0;
  r.time_ms = blx__loop_wall_ms(n->loop);
  r.kind = BLX_AUDIT_KIND_DENIED;
  r.principal = call->principal;
  r.source = call->source;
  r.reason = call->reason;
  r.verb = verb;
  r.object = object;
  r.tenant = tenant_of(call);
  r.detail = detail;
  r.code = why->code;
  r.message = message;
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__HISTORY_RECORD_MAX);
  if (blx__msg_encode(blx__desc_audit_record(), &r, &bytes, NULL).code == 0)
    blx__history_deny(a->history, r.time_ms, (struct blx__slice){bytes.data, bytes.len});
  blx__buf_free(&bytes);
}
