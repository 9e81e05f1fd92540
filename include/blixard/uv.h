/* Completions on a libuv loop of your own: the only header that names libuv. It is code for your program, compiled
 * against your libuv, over blx_node_fd() and blx_node_dispatch(); the library itself has a loop of its own that you do
 * not see. Open the node, the client or the member of a consensus with completions = BLX_COMPLETIONS_DISPATCH, start
 * one struct blx_uv with it, and run the loop. libuv's own header needs POSIX types: with -std=c11 define
 * _POSIX_C_SOURCE as 200809L before the first header.
 *
 * A started blx_uv keeps uv_run() going, as any active handle does: stop it when you have had enough, or uv_unref() its
 * `poll`. All of it belongs to the thread that runs the loop. Since 0.1. */
#ifndef BLIXARD_UV_H
#define BLIXARD_UV_H

#include <blixard/client.h>
#include <blixard/consensus.h>
#include <blixard/node.h>

#include <string.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BLX_UV_TURN_MAX = 256 }; /* completions in one turn of the loop: its other handles get theirs */

/* Yours, zero or not; it must stay where it is from the start until `stopped` ran. */
struct blx_uv {
  uv_poll_t poll;
  blx_node *node;
  blx_client *client;
  blx_consensus *consensus;
  void (*stopped)(void *user);
  void *user;
};

static inline void blx_uv_on_poll_(uv_poll_t *poll, int status, int events) {
  struct blx_uv *uv = (struct blx_uv *)poll->data;
  (void)status; /* a dispatch of nothing is harmless */
  (void)events;
  if (uv->node)
    (void)blx_node_dispatch(uv->node, BLX_UV_TURN_MAX, NULL);
  else if (uv->consensus)
    (void)blx_consensus_dispatch(uv->consensus, BLX_UV_TURN_MAX, NULL);
  else
    (void)blx_client_dispatch(uv->client, BLX_UV_TURN_MAX, NULL);
}

static inline void blx_uv_on_close_(uv_handle_t *poll) {
  struct blx_uv *uv = (struct blx_uv *)poll->data;
  if (uv->stopped) uv->stopped(uv->user);
}

static inline int blx_uv_start_(struct blx_uv *uv, uv_loop_t *loop, int fd, blx_error *reterr) {
  int why = uv_poll_init(loop, &uv->poll, fd);
  uv->poll.data = uv;
  if (why == 0) why = uv_poll_start(&uv->poll, UV_READABLE, blx_uv_on_poll_);
  if (why == 0) return 0;
  if (reterr) {
    memset(reterr, 0, sizeof *reterr);
    reterr->code = BLX_E_IO;
    strncpy(reterr->message, uv_strerror(why), sizeof reterr->message - 1);
    strncpy(reterr->origin, "uv", sizeof reterr->origin - 1);
  }
  return BLX_E_IO;
}

/* Dispatch the completions of @node and of its clients on @loop, from its next turn on.
 * @uv    caller's; stop it with blx_uv_stop(), before the node is closed
 * @loop  borrowed until stopped
 * Errors: BLX_E_MISUSE (no open node, or not opened with BLX_COMPLETIONS_DISPATCH), BLX_E_IO (libuv refused; one node
 * or client is polled once in a loop). After an error there is nothing to stop. Thread: the loop's. Since 0.1. */
static inline int blx_uv_start_node(struct blx_uv *uv, uv_loop_t *loop, blx_node *node, blx_error *reterr) {
  int fd = blx_node_fd(node, reterr);
  if (fd < 0) return fd;
  memset(uv, 0, sizeof *uv);
  uv->node = node;
  return blx_uv_start_(uv, loop, fd, reterr);
}

/* The same for a client that blx_client_open() gave; one of a node's comes with the node. */
static inline int blx_uv_start_client(struct blx_uv *uv, uv_loop_t *loop, blx_client *client, blx_error *reterr) {
  int fd = blx_client_fd(client, reterr);
  if (fd < 0) return fd;
  memset(uv, 0, sizeof *uv);
  uv->client = client;
  return blx_uv_start_(uv, loop, fd, reterr);
}

/* The same for a member that blx_consensus_open() gave. */
static inline int blx_uv_start_consensus(struct blx_uv *uv, uv_loop_t *loop, blx_consensus *consensus,
                                         blx_error *reterr) {
  int fd = blx_consensus_fd(consensus, reterr);
  if (fd < 0) return fd;
  memset(uv, 0, sizeof *uv);
  uv->consensus = consensus;
  return blx_uv_start_(uv, loop, fd, reterr);
}

/* Dispatch no more. The node, client or member may be closed as soon as this returned, also from the same callback of
 * the loop; not from a completion.
 * @stopped  when @uv may be freed; on a later turn of the loop; NULL allowed
 * Thread: the loop's; once. A completion may call it. Since 0.1. */
static inline void blx_uv_stop(struct blx_uv *uv, void (*stopped)(void *user), void *user) {
  uv->stopped = stopped;
  uv->user = user;
  uv_close((uv_handle_t *)&uv->poll, blx_uv_on_close_);
}

#ifdef __cplusplus
}
#endif
#endif
