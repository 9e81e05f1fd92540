/* Events as they are committed, in order, without gaps; resume by index. */
#ifndef BLIXARD_WATCH_H
#define BLIXARD_WATCH_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blx_watch blx_watch;

/* Watch events after request->since_index; with request->kept all that the member still has. It goes on with what
 * comes, or with request->once ends by itself after what there is. With since_index 0 and without kept it begins with
 * one `created` event for each object as it is, all with the index at which this was true. To resume after a break,
 * pass the index of the last event whose successor had a higher index.
 * @out  close with blx_watch_close(); untouched on error.
 * Errors: BLX_E_STALE (index too old; the message names the oldest kept: list again, then watch), BLX_E_UNAVAILABLE.
 * Thread: any but the client's. Since 0.1. */
BLX_API int blx_watch_open(blx_client *client, const struct blx_watch_request *request, blx_watch **out,
                           blx_error *reterr);

/* The next event.
 * @timeout_ms  how long to wait for one, 0..3600000
 * @out         free with blx_event_free(); untouched unless 1 is returned
 * Returns 1 with an event, 0 when the server ended the watch, or an error: BLX_E_TIMEOUT (none came in time: call
 * again), BLX_E_STALE, BLX_E_UNAVAILABLE (resume by index). Thread: any but the client's. Since 0.1. */
BLX_API int blx_watch_next(blx_watch *watch, uint32_t timeout_ms, struct blx_event **out, blx_error *reterr);
BLX_API void blx_watch_close(blx_watch *watch);
BLX_API void blx_event_free(struct blx_event *event);

#ifdef __cplusplus
}
#endif
#endif
