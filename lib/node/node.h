/* One node, wired together: propose -> apply -> control -> agent, and the calls it answers.
 * A node owns one thread, which runs its loop; everything below happens on it unless said. */
#ifndef BLX__NODE_NODE_H
#define BLX__NODE_NODE_H

#include <blixard/node.h>
#include "vm/driver.h"

struct blx__node;

/* Opens a VM driver of the embedder's: on the thread that opens the node, or on the node's when it joins later. */
typedef blx__rc blx__node_driver_fn(void *user, struct blx__loop *loop, blx__vm_event_fn *on_event, void *event_user,
                                    struct blx__vm_driver **out, blx_error *err);

/* Open and start the node's thread. @options are checked here and copied. Errors: blixard/node.h, blx_node_open().
 * Thread: any. */
blx__rc blx__node_open(const struct blx_node_options *options, struct blx__node **out, blx_error *err) BLX__MUST;

/* The same with the driver that @driver opens, instead of the one that @options ask for. */
blx__rc blx__node_open_with(const struct blx_node_options *options, blx__node_driver_fn *driver, void *driver_user,
                            struct blx__node **out, blx_error *err) BLX__MUST;

/* Stop its thread and free everything; VMs run on. Thread: any but the node's. */
void blx__node_close(struct blx__node *node);

/* "unix:PATH", constant while the node is open. Thread: any. */
const char *blx__node_address(const struct blx__node *node);

/* True on the node's own thread. Thread: any. */
bool blx__node_on_own_thread(const struct blx__node *node);

#endif
