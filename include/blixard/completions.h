/* Where completions run: chosen when a node, a client or a member of a consensus is opened, by `completions` of its
 * options.
 *
 * BLX_COMPLETIONS_THREAD: on the thread of the client, as soon as they are there. They must not block.
 *
 * BLX_COMPLETIONS_DISPATCH: on a thread of the embedder's, inside blx_node_dispatch() or blx_client_dispatch(), and
 * nowhere else. A descriptor (blx_node_fd(), blx_client_fd()) is readable while something waits: put it into poll,
 * epoll or the loop of your language; blixard/uv.h does so for libuv. The clients that blx_node_client() gives share
 * the queue and the descriptor of their node; so any of them may be asked for it and dispatched. Log lines come on the
 * library's threads in either case.
 *
 * In both:
 *  - A call that was accepted (it returned 0) completes exactly once, never inside the call that asked for it; what a
 *    client has to tell comes in the order in which it happened.
 *  - Inside a completion, _async calls are welcome. A blocking call of the same client is BLX_E_MISUSE, its close does
 *    nothing; with DISPATCH that holds for every client of the queue and for the node, and a dispatch is BLX_E_MISUSE.
 *  - Nothing grows: a client has at most BLX_CLIENT_CALLS_MAX calls whose completion has not begun, one more is
 *    BLX_E_BUSY. What is queued was allocated when it was submitted. A watch or log reader that is told its messages
 * has at most 1024 of them undelivered, a session in a guest 64; the server then waits, and a watch that is too slow
 * for what the server keeps of the past ends with BLX_E_STALE.
 *  - The close of a client completes everything before it returns: what was done with its result, the rest with
 *    BLX_E_CANCELLED. With DISPATCH it runs these completions itself, on the thread that closes: nobody needs to
 *    dispatch any more, and nobody is called after it. A dispatch that is under way on another thread is waited for.
 *
 * Since 0.1. */
#ifndef BLIXARD_COMPLETIONS_H
#define BLIXARD_COMPLETIONS_H

enum {
  BLX_COMPLETIONS_THREAD = 0,
  BLX_COMPLETIONS_DISPATCH = 1,
};

enum { BLX_CLIENT_CALLS_MAX = 1024 };

#endif
