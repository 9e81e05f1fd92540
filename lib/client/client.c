#include "client/client_int.h"

#include <stdlib.h>
#include <string.h>

static const char component[] = "client";

static void client_free(struct blx__client *c) {
  for (size_t i = 0; i < c->target_count; i++) free(c->targets[i].address);
  free(c);
}

static void client_gone(void *arg) {
  struct blx__client *c = arg;
  void (*closed)(void *) = c->closed;
  void *user = c->closed_user;
  client_free(c);
  if (closed) closed(user);
}

static void maybe_gone(struct blx__client *c) {
  if (c->closing && c->call_count == 0 && c->conns_open == 0) blx__loop_defer(c->loop, &c->closed_defer);
}

static void on_conn_closed(void *user) {
  struct blx__client *c = user;
  c->conns_open--;
  maybe_gone(c);
}

static blx__rc target_add(struct blx__client *c, const char *address, blx_error *err) {
  BLX__ASSERT(c->target_count < BLX__CLIENT_ADDRESSES_MAX);
  struct target t = {.address = strdup(address)};
  if (!t.address) return blx__fail(err, BLX_E_NOMEM, component, "no memory for an address");
  blx__rc rc = blx__rpc_conn_new(c->loop, address, &t.conn, err);
  if (rc.code != 0) {
    free(t.address);
    return rc;
  }
  c->targets[c->target_count++] = t;
  c->conns_open++;
  return BLX__OK;
}

static void targets_close(struct blx__client *c) {
  for (size_t i = 0; i < c->target_count; i++) blx__rpc_conn_close(c->targets[i].conn, on_conn_closed, c);
}

blx__rc blx__client_new(struct blx__loop *loop, const char *const *addresses, size_t count, const struct blx__log *log,
                        struct blx__client **out, blx_error *err) {
  if (count == 0 || count > BLX__CLIENT_ADDRESSES_MAX)
    return blx__fail(err, BLX_E_INVALID, component, "a client takes 1 to %d addresses, not %zu",
                     BLX__CLIENT_ADDRESSES_MAX, count);
  struct blx__client *c = calloc(1, sizeof *c);
  if (!c) return blx__fail(err, BLX_E_NOMEM, component, "no memory for a client");
  c->loop = loop;
  c->log = log;
  c->salt = blx__loop_now_ms(loop) ^ (uint64_t)(uintptr_t)c;
  blx__list_init(&c->calls);
  blx__defer_init(&c->closed_defer, client_gone, c);
  for (size_t i = 0; i < count; i++) {
    blx__rc rc = target_add(c, addresses[i], err);
    if (rc.code == 0) continue;
    blx__client_close(c, NULL, NULL);
    return rc;
  }
  *out = c;
  return BLX__OK;
}

static const char *bare(const char *address) {
  return strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
}

/* A hint that is an address becomes a target; anything else (a node's name) cannot be asked. */
static bool follow(struct blx__client *c, const char *hint) {
  for (size_t i = 0; i < c->target_count; i++) {
    if (strcmp(bare(c->targets[i].address), bare(hint)) != 0) continue;
    c->current = i;
    return true;
  }
  if (bare(hint)[0] != '/' || c->target_count == BLX__CLIENT_ADDRESSES_MAX || c->closing) return false;
  if (target_add(c, hint, NULL).code != 0) return false;
  c->current = c->target_count - 1;
  blx__log(c->log, BLX_LOG_DEBUG, component, "the leader is said to be at %s", hint);
  return true;
}

void client_move(struct blx__client *c, size_t failed, const char *hint) {
  if (hint[0] && follow(c, hint)) return;
  /* Another call may have moved on already: its choice stands. */
  if (c->current == failed) c->current = (failed + 1) % c->target_count;
}

void client_call_gone(struct blx__client_call *call) {
  struct blx__client *c = call->client;
  blx__list_remove(&call->link);
  c->call_count--;
  c->call_bytes -= call->body_len;
  maybe_gone(c);
}

void blx__client_close(struct blx__client *c, void (*closed)(void *user), void *user) {
  BLX__ASSERT(!c->closing);
  c->closing = true;
  c->closed = closed;
  c->closed_user = user;
  BLX__LIST_FOREACH (n, &c->calls) call_cancel(BLX__CONTAINER(n, struct blx__client_call, link));
  targets_close(c);
  maybe_gone(c);
}
