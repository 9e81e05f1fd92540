/* What the instances that run use at present. Each node measures its own when it is asked; nothing of it is kept, or
 * agreed on. */
#ifndef BLIXARD_STATS_H
#define BLIXARD_STATS_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A reader of statistics. */
typedef struct blx_stats blx_stats;

/* Ask each node, or one, what its instances use. A message for each node comes as that answers, in no order, and then
 * the end, after little more than a second. A node that does not answer within a second is not `heard`; its message
 * lists what should run there, without numbers. Processor time is counted from an instance's start: two answers are
 * needed for what it uses at present, cpu_us over at_us.
 * @request  node: only this one; NULL: all. Borrowed for the call
 * @out      close with blx_stats_close(); untouched on error
 * Errors: BLX_E_NOT_FOUND (there is no such node), BLX_E_INVALID, BLX_E_UNAVAILABLE, BLX_E_BUSY (too many ask at the
 * same time), BLX_E_NOMEM, BLX_E_MISUSE; the first, the third and the fourth are told by blx_stats_next(). Thread: any
 * but where the client's completions run. Since 0.1. */
BLX_API int blx_stats_open(blx_client *client, const struct blx_stats_request *request, blx_stats **out,
                           blx_error *reterr);

/* The same, its messages told to a function, which frees them with blx_node_stats_free(); at last, exactly once, with a
 * NULL @stats. All that blx_watch_open_async() says of events holds. Thread: any; @on: where the client's completions
 * run. Since 0.1. */
typedef void (*blx_node_stats_fn)(void *user, const blx_error *err, struct blx_node_stats *stats);
BLX_API int blx_stats_open_async(blx_client *client, const struct blx_stats_request *request, blx_node_stats_fn on,
                                 void *user, blx_stats **out, blx_error *reterr);

/* The next node's.
 * @timeout_ms  how long to wait for one, 0..3600000
 * @out         free with blx_node_stats_free(); untouched unless 1 is returned
 * Returns 1 with a message, 0 at the end, or an error: BLX_E_TIMEOUT (none came in time: call again),
 * BLX_E_UNAVAILABLE, BLX_E_CANCELLED (another thread closed it), BLX_E_MISUSE. Thread: any but where the client's
 * completions run. Since 0.1. */
BLX_API int blx_stats_next(blx_stats *stats, uint32_t timeout_ms, struct blx_node_stats **out, blx_error *reterr);

/* Close a reader: as blx_watch_close(). Thread: any. Since 0.1. */
BLX_API void blx_stats_close(blx_stats *stats);

/* Free a message. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_node_stats_free(struct blx_node_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
