/* Calls that owe a completion. They move between lists and end on c->done, which runs with libraft off the stack. */
#include "consensus/consensus_int.h"

#include <stdlib.h>
#include <string.h>

blx__rc call_new(struct blx__slice op, blx__consensus_cb cb, void *user, struct call **out, blx_error *err) {
  BLX__ASSERT(cb != NULL);
  BLX__ASSERT(op.len <= BLX__CONSENSUS_OP_MAX);
  struct call *call = calloc(1, sizeof *call + op.len);
  if (!call) return blx__fail(err, BLX_E_NOMEM, "consensus", "no memory for a call of %zu bytes", op.len);
  blx__list_init(&call->link);
  call->cb = cb;
  call->user = user;
  call->op_len = op.len;
  if (op.len) memcpy(call->op, op.data, op.len);
  *out = call;
  return BLX__OK;
}

void call_finish(struct blx__consensus *c, struct call *call, int code, const char *why) {
  BLX__ASSERT(code == 0 || why != NULL);
  blx__list_remove(&call->link);
  call->code = code;
  call->why = why;
  blx__list_push(&c->done, &call->link);
}

void calls_finish(struct blx__consensus *c, struct blx__list *calls, int code, const char *why) {
  for (struct blx__list *n; (n = blx__list_first(calls)) != NULL;)
    call_finish(c, BLX__CONTAINER(n, struct call, link), code, why);
}

void calls_finish_all(struct blx__consensus *c, int code, const char *why) {
  calls_finish(c, &c->waiting, code, why);
  BLX__LIST_FOREACH (n, &c->batches) {
    calls_finish(c, &BLX__CONTAINER(n, struct batch, link)->calls, code, why);
  }
  calls_finish(c, &c->confirm.next, code, why);
  calls_finish(c, &c->confirm.round, code, why);
  calls_finish(c, &c->confirm.applied, code, why);
  if (c->member.call) call_finish(c, c->member.call, code, why);
  c->member.call = NULL;
}

void calls_run_done(struct blx__consensus *c) {
  for (struct blx__list *n; (n = blx__list_first(&c->done)) != NULL;) {
    struct call *call = BLX__CONTAINER(n, struct call, link);
    blx__list_remove(n);
    blx_error err;
    const blx_error *told = NULL;
    if (call->code != 0) {
      (void)blx__fail(&err, call->code, "consensus", "%s", call->why);
      told = &err;
    }
    if (call->counter) --*call->counter;
    call->cb(call->user, told, call->index, (struct blx__slice){.data = call->result, .len = call->result_len});
    free(call->result);
    free(call);
  }
}

blx__rc calls_refuse(const struct blx__consensus *c, blx_error *err) {
  if (c->fatal_code) return blx__fail(err, BLX_E_FATAL, "consensus", "%s", c->fatal_text);
  if (c->closing) return blx__fail(err, BLX_E_CANCELLED, "consensus", "this member is closing");
  if (c->raft.state != RAFT_LEADER)
    return blx__fail(err, BLX_E_NO_LEADER, "consensus", "this member does not lead: ask the leader");
  if (!c->ready)
    return blx__fail(err, BLX_E_NO_LEADER, "consensus", "this member was elected just now and is not ready: try again");
  return BLX__OK;
}
