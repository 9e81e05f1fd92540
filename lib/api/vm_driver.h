/* A table of the embedder's (blixard/sys/vm_driver.h) as a node's driver (vm/driver.h). */
#ifndef BLX__API_VM_DRIVER_H
#define BLX__API_VM_DRIVER_H

#include <blixard/sys/vm_driver.h>
#include "vm/driver.h"

/* A blx__node_driver_fn of node/node.h. @ops  the copy; stays until the driver is closed */
blx__rc blx__api_vm_driver_open(void *ops, struct blx__loop *loop, blx__vm_event_fn *on_event, void *event_user,
                                struct blx__vm_driver **out, blx_error *err) BLX__MUST;

#endif
