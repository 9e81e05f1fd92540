/* Calls of a member: the hop onto its thread and back. Each owes its caller one completion. */
#include "api/consensus_int.h"

#include <stdlib.h>
#include <string.h>

enum kind { PROPOSE, READ, ADD, REMOVE, TRANSFER, ADDRESS, STATUS, POISON };

/* A completion on its way to a dispatch. */
struct told {
  struct blx__api_item item;
  struct call *call;
  int code;
  blx_error err;
  uint64_t index;
  void *answer; /* owned */
  size_t len;
};

struct call {
  struct blx__api_consensus *c;
  enum kind kind;
  uint64_t uid; /* of another member; POISON: the code, negated */
  blx_consensus_fn done;
  void *user;
  bool at_once;      /* a thread waits for it: not through the queue */
  struct told *told; /* NULL: its completion is not dispatched */
  size_t len;
  uint8_t bytes[]; /* an operation, a path, a text; none: ADDRESS forgets */
};

static int misuse(blx_error *reterr, const char *sentence) {
  return blx__fail(reterr, BLX_E_MISUSE, "consensus", "%s", sentence).code;
}

static bool on_own_thread(const struct blx__api_consensus *c) {
  return pthread_equal(pthread_self(), c->thread);
}

/* Until blx__api_handle_put(@handle). NULL: MISUSE. */
static struct blx__api_consensus *take(const blx_consensus *handle, bool blocking, blx_error *reterr) {
  struct blx__api_consensus *c = blx__api_handle_take(handle, BLX__API_CONSENSUS, reterr);
  if (!c || !blocking || !blx__api_consensus_inside(c)) return c;
  (void)misuse(reterr, on_own_thread(c)
                           ? "a blocking call on the member's own thread would wait for itself: use the _async one"
                           : "a blocking call from a completion would keep the others waiting: use the _async one");
  blx__api_handle_put(handle);
  return NULL;
}

/* ---- on the member's thread */

static void call_free(struct call *call) {
  free(call->told);
  free(call);
}

/* It counts no more when its completion begins, so that this one may submit the next. */
static void tell(struct call *call, const blx_error *err, uint64_t index, struct blx__slice answer) {
  atomic_fetch_sub(&call->c->calls, 1);
  call->done(call->user, err, index, answer.data, answer.len);
}

static void tell_item(struct blx__api_item *item) {
  struct told *t = BLX__CONTAINER(item, struct told, item);
  struct blx__slice answer = {t->answer, t->len};
  tell(t->call, t->code != 0 ? &t->err : NULL, t->index, answer);
  free(t->answer);
  call_free(t->call);
}

static blx__rc keep(struct told *t, struct blx__slice answer, blx_error *err) {
  if (answer.len == 0) return BLX__OK;
  t->answer = malloc(answer.len);
  if (!t->answer) return blx__fail(err, BLX_E_NOMEM, "consensus", "it is done, but no memory was left for the answer");
  memcpy(t->answer, answer.data, answer.len);
  t->len = answer.len;
  return BLX__OK;
}

static void finish(struct call *call, const blx_error *err, uint64_t index, struct blx__slice answer) {
  struct told *t = call->told;
  if (!t) {
    tell(call, err, index, answer);
    call_free(call);
    return;
  }
  if (err) t->err = *err;
  t->code = err ? err->code : keep(t, answer, &t->err).code;
  t->index = t->code == 0 ? index : 0;
  blx__api_queue_push(call->c->queue, &t->item);
}

/* Whom to ask instead. */
static void add_hint(const struct blx__api_consensus *c, blx_error *err) {
  uint64_t leader = atomic_load(&c->leader);
  if (err->code == BLX_E_NO_LEADER && leader != 0)
    (void)blx__str_format(err->leader, sizeof err->leader, "%llu", (unsigned long long)leader);
}

static void on_done(void *user, const blx_error *err, uint64_t index, struct blx__slice answer) {
  struct call *call = user;
  bool told = call->kind == PROPOSE; /* the others have no answer, and no entry of the caller's */
  blx_error hint;
  if (err) {
    hint = *err;
    add_hint(call->c, &hint);
    err = &hint;
  }
  finish(call, err, told ? index : 0, told ? answer : (struct blx__slice){0});
}

static blx__rc run(struct call *call, blx_error *err) {
  struct blx__consensus *core = call->c->core;
  if (!core) return blx__fail(err, BLX_E_CANCELLED, "consensus", "this member is closed");
  struct blx__slice bytes = {.data = call->bytes, .len = call->len};
  switch (call->kind) {
  case PROPOSE: return blx__consensus_propose(core, bytes, on_done, call, err);
  case READ: return blx__consensus_confirm(core, on_done, call, err);
  case ADD: return blx__consensus_add_member(core, call->uid, on_done, call, err);
  case REMOVE: return blx__consensus_remove_member(core, call->uid, on_done, call, err);
  case TRANSFER: return blx__consensus_transfer(core, call->uid, on_done, call, err);
  case ADDRESS:
    BLX__TRY(blx__peers_set_address(call->c->peers, call->uid, call->len ? (const char *)call->bytes : NULL, err));
    break;
  case STATUS: break; /* the completion looks */
  case POISON: blx__consensus_poison(core, -(int)call->uid, (const char *)call->bytes); break;
  }
  finish(call, NULL, 0, (struct blx__slice){0});
  return BLX__OK;
}

static void start(void *arg) {
  struct call *call = arg;
  blx_error err = {0};
  if (run(call, &err).code != 0) on_done(call, &err, 0, (struct blx__slice){0});
}

/* From a completion: no hop, and what is refused at once is told by the call itself. */
static int run_here(struct call *call, blx_error *reterr) {
  struct blx__api_consensus *c = call->c;
  blx_error err = {0};
  if (run(call, &err).code == 0) return 0;
  add_hint(c, &err);
  atomic_fetch_sub(&c->calls, 1);
  call_free(call);
  return blx__fail_as(reterr, &err).code;
}

/* ---- on any thread */

static blx__rc post(struct blx__api_consensus *c, struct call *call, blx_error *err) {
  pthread_mutex_lock(&c->lock);
  blx__rc rc = c->loop ? blx__loop_post(c->loop, start, call, err)
                       : blx__fail(err, BLX_E_CANCELLED, "consensus", "this member is closed");
  pthread_mutex_unlock(&c->lock);
  return rc;
}

static blx__rc call_new(struct blx__api_consensus *c, const struct call *with, struct blx__slice bytes,
                        struct call **out, blx_error *err) {
  struct call *call = malloc(sizeof *call + bytes.len);
  struct told *told = call && c->queue && !with->at_once ? calloc(1, sizeof *told) : NULL;
  if (!call || (c->queue && !with->at_once && !told)) {
    free(call);
    return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for a call");
  }
  *call = *with;
  call->c = c;
  call->told = told;
  call->len = bytes.len;
  if (bytes.len) memcpy(call->bytes, bytes.data, bytes.len);
  if (told) *told = (struct told){.item = {.run = tell_item, .owner = c}, .call = call};
  *out = call;
  return BLX__OK;
}

static int submit(struct blx__api_consensus *c, const struct call *with, struct blx__slice bytes, blx_error *reterr) {
  if (atomic_fetch_add(&c->calls, 1) >= BLX_CONSENSUS_WAITING_MAX) {
    atomic_fetch_sub(&c->calls, 1);
    return blx__fail(reterr, BLX_E_BUSY, "consensus", "%d calls wait already: try again later%s",
                     BLX_CONSENSUS_WAITING_MAX, c->queue ? ", and dispatch" : "")
        .code;
  }
  struct call *call = NULL;
  blx__rc rc = call_new(c, with, bytes, &call, reterr);
  if (rc.code == 0 && on_own_thread(c)) return run_here(call, reterr);
  if (rc.code == 0) rc = post(c, call, reterr);
  if (rc.code == 0) return 0;
  atomic_fetch_sub(&c->calls, 1);
  if (call) call_free(call);
  return rc.code;
}

static int submit_to(blx_consensus *handle, const struct call *with, struct blx__slice bytes, blx_error *reterr) {
  if (!with->done) return misuse(reterr, "the completion is NULL");
  struct blx__api_consensus *c = take(handle, false, reterr);
  if (!c) return BLX_E_MISUSE;
  int rc = submit(c, with, bytes, reterr);
  blx__api_handle_put(handle);
  return rc;
}

static int check_op(const void *op, size_t op_len, blx_error *reterr) {
  if (!op) return misuse(reterr, "the operation is NULL");
  if (op_len >= 1 && op_len <= BLX_CONSENSUS_OP_MAX) return 0;
  return blx__fail(reterr, BLX_E_INVALID, "consensus", "an operation has 1 to %d bytes, this one has %zu",
                   BLX_CONSENSUS_OP_MAX, op_len)
      .code;
}

int blx_consensus_propose_async(blx_consensus *c, const void *op, size_t op_len, blx_consensus_fn done, void *user,
                                blx_error *reterr) {
  int bad = check_op(op, op_len, reterr);
  struct call call = {.kind = PROPOSE, .done = done, .user = user};
  return bad ? bad : submit_to(c, &call, (struct blx__slice){op, op_len}, reterr);
}

#define ASYNC(NAME, KIND)                                                                             \
  int blx_consensus_##NAME##_async(blx_consensus *c, uint64_t uid, blx_consensus_fn done, void *user, \
                                   blx_error *reterr) {                                               \
    struct call call = {.kind = KIND, .uid = uid, .done = done, .user = user};                        \
    return submit_to(c, &call, (struct blx__slice){0}, reterr);                                       \
  }                                                                                                   \
  int blx_consensus_##NAME(blx_consensus *c, uint64_t uid, blx_error *reterr) {                       \
    struct waiter w = {0};                                                                            \
    return wait_for(c, KIND, uid, (struct blx__slice){0}, &w, reterr);                                \
  }

int blx_consensus_read_async(blx_consensus *c, blx_consensus_fn done, void *user, blx_error *reterr) {
  struct call call = {.kind = READ, .done = done, .user = user};
  return submit_to(c, &call, (struct blx__slice){0}, reterr);
}

/* ---- and wait for it */

struct waiter {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  int code;
  blx_error err;
  void (*look)(void *user); /* on success, on the member's thread */
  void *user;
  bool want_answer;
  struct blx_consensus_answer *answer;
};

/* One block: the bytes lie behind the struct. NULL when memory is out. */
static struct blx_consensus_answer *answer_new(uint64_t index, const void *bytes, size_t len) {
  struct blx_consensus_answer *a = malloc(sizeof *a + len);
  if (!a) return NULL;
  if (len) memcpy(a + 1, bytes, len);
  *a = (struct blx_consensus_answer){.struct_size = sizeof *a, .index = index};
  a->bytes = (struct blx_bytes){.data = (const uint8_t *)(a + 1), .len = len};
  return a;
}

static void waiter_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t answer_len) {
  struct waiter *w = user;
  blx_error why;
  if (!err && w->look) w->look(w->user);
  struct blx_consensus_answer *copy = NULL;
  if (!err && w->want_answer) {
    copy = answer_new(index, answer, answer_len);
    if (!copy) (void)blx__fail(&why, BLX_E_NOMEM, "consensus", "it is done, but no memory was left for the answer");
    if (!copy) err = &why;
  }
  pthread_mutex_lock(&w->lock);
  if (err) w->err = *err;
  w->code = err ? err->code : 0;
  w->answer = copy;
  w->done = true;
  pthread_cond_signal(&w->cond);
  pthread_mutex_unlock(&w->lock);
}

static int wait_in(struct blx__api_consensus *c, enum kind kind, uint64_t uid, struct blx__slice bytes,
                   struct waiter *w, blx_error *reterr) {
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->cond, NULL);
  struct call call = {.kind = kind, .uid = uid, .done = waiter_done, .user = w, .at_once = true};
  int rc = submit(c, &call, bytes, reterr);
  if (rc == 0) {
    pthread_mutex_lock(&w->lock);
    while (!w->done) pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    if (w->code != 0) rc = blx__fail_as(reterr, &w->err).code;
  }
  pthread_mutex_destroy(&w->lock);
  pthread_cond_destroy(&w->cond);
  return rc;
}

static int wait_for(blx_consensus *handle, enum kind kind, uint64_t uid, struct blx__slice bytes, struct waiter *w,
                    blx_error *reterr) {
  struct blx__api_consensus *c = take(handle, true, reterr);
  if (!c) return BLX_E_MISUSE;
  int rc = wait_in(c, kind, uid, bytes, w, reterr);
  blx__api_handle_put(handle);
  return rc;
}

int blx_consensus_propose(blx_consensus *c, const void *op, size_t op_len, struct blx_consensus_answer **out,
                          blx_error *reterr) {
  int bad = check_op(op, op_len, reterr);
  if (bad != 0) return bad;
  struct waiter w = {.want_answer = out != NULL};
  int rc = wait_for(c, PROPOSE, 0, (struct blx__slice){op, op_len}, &w, reterr);
  if (rc == 0 && out) *out = w.answer;
  return rc;
}

void blx_consensus_answer_free(struct blx_consensus_answer *answer) {
  free(answer);
}

int blx_consensus_read(blx_consensus *c, void (*look)(void *user), void *user, blx_error *reterr) {
  struct waiter w = {.look = look, .user = user};
  return wait_for(c, READ, 0, (struct blx__slice){0}, &w, reterr);
}

ASYNC(add_member, ADD)
ASYNC(remove_member, REMOVE)
ASYNC(transfer, TRANSFER)

int blx_consensus_set_address(blx_consensus *c, uint64_t uid, const char *socket_path, blx_error *reterr) {
  size_t len = socket_path ? strlen(socket_path) : 0;
  if (socket_path && (len < 1 || len > BLX_CONSENSUS_PATH_MAX))
    return blx__fail(reterr, BLX_E_INVALID, "consensus", "socket_path: a path of 1 to %d bytes is required",
                     BLX_CONSENSUS_PATH_MAX)
        .code;
  struct waiter w = {0};
  struct blx__slice path = {(const uint8_t *)socket_path, socket_path ? len + 1 : 0};
  return wait_for(c, ADDRESS, uid, path, &w, reterr);
}

static void no_completion(void *user, const blx_error *err, uint64_t index, const void *answer, size_t answer_len) {
  (void)user;
  (void)err; /* closed meanwhile: nothing is left to stop */
  (void)index;
  (void)answer;
  (void)answer_len;
}

int blx_consensus_poison(blx_consensus *c, int code, const char *text, blx_error *reterr) {
  char cut[sizeof((blx_error *)0)->message];
  if (code >= 0 || !text) return misuse(reterr, "a member is stopped by a BLX_E_* code and a text");
  (void)blx__str_copy(cut, sizeof cut, text);
  struct call call = {.kind = POISON, .uid = (uint64_t) - (int64_t)code, .done = no_completion, .at_once = true};
  return submit_to(c, &call, (struct blx__slice){(const uint8_t *)cut, strlen(cut) + 1}, reterr);
}

/* ---- status */

struct looking {
  const struct blx__api_consensus *c;
  struct blx_consensus_status *status; /* NULL: no memory */
};

static int32_t membership(enum blx__consensus_membership m) {
  switch (m) {
  case BLX__MEMBER_SPARE: return BLX_CONSENSUS_SPARE;
  case BLX__MEMBER_STANDBY: return BLX_CONSENSUS_STANDBY;
  case BLX__MEMBER_VOTER: return BLX_CONSENSUS_VOTER;
  }
  return BLX_CONSENSUS_SPARE;
}

/* One block: the struct, the pointers, the members. */
static struct blx_consensus_status *status_new(const struct blx__consensus_status *s) {
  size_t n = s->members_count;
  struct blx_consensus_status *out =
      calloc(1, sizeof *out + n * (sizeof(struct blx_consensus_member *) + sizeof(struct blx_consensus_member)));
  if (!out) return NULL;
  out->struct_size = sizeof *out;
  out->role = blx__api_role(s->role);
  out->fatal_code = s->fatal_code;
  out->uid = s->uid;
  out->leader_uid = s->leader_uid;
  out->term = s->term;
  out->commit_index = s->commit_index;
  out->applied_index = s->applied_index;
  out->last_index = s->last_index;
  out->snapshot_index = s->snapshot_index;
  out->time_ms = s->time_ms;
  memcpy(out->chain, s->chain, sizeof out->chain);
  out->waiting = s->waiting;
  out->members = (struct blx_consensus_member **)(void *)(out + 1);
  struct blx_consensus_member *members = (struct blx_consensus_member *)(void *)(out->members + n);
  for (; out->n_members < n; out->n_members++) {
    const struct blx__consensus_member *m = &s->members[out->n_members];
    members[out->n_members] = (struct blx_consensus_member){.struct_size = sizeof *members, .uid = m->uid};
    members[out->n_members].membership = membership(m->membership);
    members[out->n_members].match_index = m->match_index;
    out->members[out->n_members] = &members[out->n_members];
  }
  return out;
}

static void look_status(void *user) {
  struct looking *l = user;
  struct blx__consensus_status s;
  blx__consensus_status(l->c->core, &s);
  l->status = status_new(&s);
}

int blx_consensus_status_get(blx_consensus *consensus, struct blx_consensus_status **out, blx_error *reterr) {
  if (!out) return misuse(reterr, "the place for the result is NULL");
  struct blx__api_consensus *c = take(consensus, false, reterr);
  if (!c) return BLX_E_MISUSE;
  struct looking l = {.c = c};
  struct waiter w = {.look = look_status, .user = &l};
  int rc = 0;
  if (!on_own_thread(c))
    rc = wait_in(c, STATUS, 0, (struct blx__slice){0}, &w, reterr);
  else if (c->core)
    look_status(&l);
  else
    rc = misuse(reterr, "the member is being opened");
  blx__api_handle_put(consensus);
  if (rc == 0 && !l.status) rc = blx__fail(reterr, BLX_E_NOMEM, "consensus", "no memory for a status").code;
  if (rc == 0) *out = l.status;
  return rc;
}

void blx_consensus_status_free(struct blx_consensus_status *status) {
  free(status);
}
