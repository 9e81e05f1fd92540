/* Events as they are committed, in order, without gaps; resume by index. */
#ifndef BLIXARD_WATCH_H
#define BLIXARD_WATCH_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blx_watch blx_watch;

/* Watch events after request->since_index; with request->since_ms those of that cluster time and later, with
 * request->kept all that the member still has: in memory, and in its data directory within its limits of age and size
 * (blx_node_options.events_max_age_days, events_max_size_mib). With tell_cut the last two begin with an event of type
 * cut where older ones than the member has were asked for. It goes on with what comes, or with request->once ends by
 * itself after what there is. With since_index 0 and without kept it begins with one `created` event for each object as
 * it is, all with the index at which this was true. To resume after a break, pass the index of the last event whose
 * successor had a higher index.
 * @request  borrowed for the call
 * @out      close with blx_watch_close(); untouched on error.
 * Errors: BLX_E_STALE (index too old; the message names the oldest kept: list again, then watch), BLX_E_CORRUPT (what
 * is kept of that index cannot be read: begin after it, or ask another member), BLX_E_INVALID,
 * BLX_E_UNAVAILABLE, BLX_E_BUSY (65536 handles), BLX_E_NOMEM, BLX_E_MISUSE. STALE and UNAVAILABLE are told by
 * blx_watch_next(). Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_watch_open(blx_client *client, const struct blx_watch_request *request, blx_watch **out,
                           blx_error *reterr);

/* An event, in the order of index: @err is NULL, @event is to be freed by blx_event_free(). And at last, exactly once,
 * that none will follow: @event is NULL, @err says why, or is NULL when the server ended the watch. After a close of
 * the watch that is all that comes (BLX_E_CANCELLED): @user is needed until then. Thread: where the client's
 * completions run (blixard/completions.h). Since 0.1. */
typedef void (*blx_event_fn)(void *user, const blx_error *err, struct blx_event *event);

/* The same watch, its events told to @on. No event is read before @on returned, or, with BLX_COMPLETIONS_DISPATCH, at
 * most 1024 wait for a dispatch: who is slow makes the server wait, and may hear BLX_E_STALE.
 * @on   runs after @out was set; it may close the watch
 * @out  close with blx_watch_close(), also after its end; untouched on error
 * Errors: as above; STALE, UNAVAILABLE and CANCELLED are told to @on. Thread: any. Since 0.1. */
BLX_API int blx_watch_open_async(blx_client *client, const struct blx_watch_request *request, blx_event_fn on,
                                 void *user, blx_watch **out, blx_error *reterr);

/* The next event of a watch that was opened without a function.
 * @timeout_ms  how long to wait for one, 0..3600000
 * @out         free with blx_event_free(); untouched unless 1 is returned
 * Returns 1 with an event, 0 when the server ended the watch, or an error: BLX_E_TIMEOUT (none came in time: call
 * again), BLX_E_STALE, BLX_E_UNAVAILABLE (resume by index), BLX_E_CANCELLED (another thread closed it), BLX_E_MISUSE.
 * Thread: any but where the client's completions run. Since 0.1. */
BLX_API int blx_watch_next(blx_watch *watch, uint32_t timeout_ms, struct blx_event **out, blx_error *reterr);

/* Close a watch. A thread that waits in blx_watch_next() comes back with BLX_E_CANCELLED. NULL is allowed, and so is a
 * second time; before or after its client. Thread: any. Since 0.1. */
BLX_API void blx_watch_close(blx_watch *watch);

/* Free an event. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_event_free(struct blx_event *event);

#ifdef __cplusplus
}
#endif
#endif
