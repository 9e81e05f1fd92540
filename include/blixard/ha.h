/* High availability: instances that start on another node when theirs is gone, and never run twice.
 *
 * A VM with ha=auto or manual (blx_vm_spec.ha) runs under its node's lease. A node that the cluster does not hear from
 * ends such instances before its lease ends; the cluster fences it: gives it no lease any more, waits for a proof that
 * nothing of it runs, then starts them elsewhere. The proof is its fence command, or the time (T_safe), or an
 * operator's word. With ha=manual an operator has to ask for it (blx_node_fence()); with ha=off, the default, and with
 * a disk on the node an instance stays where it is and waits for its node. */
#ifndef BLIXARD_HA_H
#define BLIXARD_HA_H

#include <blixard/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*blx_ha_status_fn)(void *user, const blx_error *err, struct blx_ha_status *result);

/* How fencing is: armed or not, its times, and for each node its lease, its highly available instances, and what it
 * lacks to take such.
 * @request  stale
 * @out      free with blx_ha_status_free(); untouched on error
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_ha_status_get(blx_client *client, const struct blx_ha_status_request *request,
                              struct blx_ha_status **out, blx_error *reterr);
BLX_API int blx_ha_status_get_async(blx_client *client, const struct blx_ha_status_request *request,
                                    blx_ha_status_fn done, void *user, blx_error *reterr);

/* Free a result. NULL is allowed. Thread: any. Since 0.1. */
BLX_API void blx_ha_status_free(struct blx_ha_status *status);

/* Fence no node by itself for a while: for work on the network, say. Leases given meanwhile last as long, so that
 * instances run on without word from the cluster; until the last of those has ended a node is proved dead by its fence
 * command or an operator's word alone. It is armed again by itself, or by a call with for_ms 0.
 * @request  for_ms: 0..86,400,000; reason: for people, 0..256 bytes
 * @out      how fencing is then; free with blx_ha_status_free(); untouched on error
 * Errors: BLX_E_INVALID, BLX_E_CONFLICT (the request_id was used for another request), BLX_E_NO_LEADER (retry),
 * BLX_E_TIMEOUT (outcome unknown: send the same request_id again). Thread: any. Since 0.1. */
BLX_API int blx_ha_disarm(blx_client *client, const struct blx_ha_disarm_request *request, struct blx_ha_status **out,
                          blx_error *reterr);
BLX_API int blx_ha_disarm_async(blx_client *client, const struct blx_ha_disarm_request *request, blx_ha_status_fn done,
                                void *user, blx_error *reterr);

/* Have a node fenced: its instances with ha=auto and ha=manual, those with a disk on it apart, end there and start
 * elsewhere when that is proved. Disarming does not stop it. A node that is alive ends them, comes back by itself and
 * goes on with the others. Where the fence was begun before, the instances with ha=manual join it.
 * @request  name required; reason: for people, 0..128 bytes; proved: says that its machine is off, and how that is
 *           known (1..256 bytes): then nothing is waited for. A lie makes instances run twice.
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND; BLX_E_CONFLICT (proved, and the node is heard from; it was started anew meanwhile; the
 * request_id was used for another request); BLX_E_BUSY (proved, and the leader is too new to know that it is silent:
 * retry); BLX_E_INVALID, BLX_E_NO_LEADER (retry), BLX_E_TIMEOUT (outcome unknown: send the same request_id again).
 * Thread: any. Since 0.1. */
BLX_API int blx_node_fence(blx_client *client, const struct blx_node_fence_request *request, struct blx_node_info **out,
                           blx_error *reterr);
BLX_API int blx_node_fence_async(blx_client *client, const struct blx_node_fence_request *request,
                                 blx_node_info_fn done, void *user, blx_error *reterr);

/* Say how a node is powered off when it is fenced. The leader runs it; that it ends with status 0 within 60 s proves
 * that the node is off. A command that says so of a machine that runs makes instances run twice.
 * @request  name required; command: program with arguments, 0..1,024 bytes, empty: none; if_revision
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: as blx_node_cordon(). Thread: any. Since 0.1. */
BLX_API int blx_node_fence_command(blx_client *client, const struct blx_node_fence_command_request *request,
                                   struct blx_node_info **out, blx_error *reterr);
BLX_API int blx_node_fence_command_async(blx_client *client, const struct blx_node_fence_command_request *request,
                                         blx_node_info_fn done, void *user, blx_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
