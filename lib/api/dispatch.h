/* What is to be told on a thread of the embedder's: a queue that it is called to empty, with an eventfd that is
 * readable while there is something in it. A node and its clients share one; another client has its own. */
#ifndef BLX__API_DISPATCH_H
#define BLX__API_DISPATCH_H

#include "base/list.h"

/* Embedded in what was allocated when the call was submitted, so that queueing takes no memory and cannot fail. */
struct blx__api_item {
  struct blx__list link;
  void (*run)(struct blx__api_item *item); /* may free it */
  const void *owner;                       /* whose close runs it if nobody else does */
};

struct blx__api_queue;

/* One reference. Errors: NOMEM, IO (no descriptor). */
blx__rc blx__api_queue_new(struct blx__api_queue **out, blx_error *err) BLX__MUST;
void blx__api_queue_ref(struct blx__api_queue *q);
void blx__api_queue_unref(struct blx__api_queue *q); /* NULL allowed */

int blx__api_queue_fd(const struct blx__api_queue *q);

/* Append. Thread: any. */
void blx__api_queue_push(struct blx__api_queue *q, struct blx__api_item *item);

/* Run at most @max (0: all) of the items that are there now, in order; what they add waits for the next time. Returns
 * how many. Errors: MISUSE: from an item, or while another thread is in here. */
int blx__api_queue_run(struct blx__api_queue *q, uint32_t max, blx_error *reterr);

/* Run every item of @owner that is there, after waiting for a thread that is running some. Not from an item. */
void blx__api_queue_drain(struct blx__api_queue *q, const void *owner);

/* This thread is inside an item. @q NULL: no. */
bool blx__api_queue_inside(struct blx__api_queue *q);

#endif
