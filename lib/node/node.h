/* One node, wired together: propose -> apply -> control -> agent, and the calls it answers.
 * A node owns one thread, which runs its loop; everything below happens on it unless said. */
#ifndef BLX__NODE_NODE_H
#define BLX__NODE_NODE_H

#include <blixard/node.h>
#include "base/rc.h"

struct blx__node;

/* Open and start the node's thread. @options are checked here and copied. Errors: blixard/node.h, blx_node_open().
 * Thread: any. */
blx__rc blx__node_open(const struct blx_node_options *options, struct blx__node **out, blx_error *err) BLX__MUST;

/* Stop its thread and free everything; VMs run on. Thread: any but the node's. */
void blx__node_close(struct blx__node *node);

/* "unix:PATH", constant while the node is open. Thread: any. */
const char *blx__node_address(const struct blx__node *node);

/* True on the node's own thread. Thread: any. */
bool blx__node_on_own_thread(const struct blx__node *node);

#endif
