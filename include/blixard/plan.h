/* Where VMs go and why, what a change would do, and how many more would fit. See client.h for blocking and _async
 * calls. */
#ifndef BLIXARD_PLAN_H
#define BLIXARD_PLAN_H

#include <blixard/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*blx_placement_report_fn)(void *user, const blx_error *err, struct blx_placement_report *result);
typedef void (*blx_vm_plan_fn)(void *user, const blx_error *err, struct blx_vm_plan *result);
typedef void (*blx_capacity_report_fn)(void *user, const blx_error *err, struct blx_capacity_report *result);

/* How every node stands to an instance: it can take it, and at which cost, or each reason why it cannot, with what is
 * missing.
 * @request  name required, of an instance or a VM; all: every node, else the 20 that are nearest
 * @out      free with blx_placement_report_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND, BLX_E_INVALID, BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_vm_explain(blx_client *client, const struct blx_vm_explain_request *request,
                           struct blx_placement_report **out, blx_error *reterr);
BLX_API int blx_vm_explain_async(blx_client *client, const struct blx_vm_explain_request *request,
                                 blx_placement_report_fn done, void *user, blx_error *reterr);
BLX_API void blx_placement_report_free(struct blx_placement_report *report);

/* What a creation, or a change of scale, would do now. Nothing is changed.
 * @request  create or scale, as they would be sent; all: every node in the report
 * @out      free with blx_vm_plan_free(); untouched on error
 * Errors: those that blx_vm_create() or blx_vm_scale() would give. Thread: any. Since 0.1. */
BLX_API int blx_vm_plan(blx_client *client, const struct blx_vm_plan_request *request, struct blx_vm_plan **out,
                        blx_error *reterr);
BLX_API int blx_vm_plan_async(blx_client *client, const struct blx_vm_plan_request *request, blx_vm_plan_fn done,
                              void *user, blx_error *reterr);
BLX_API void blx_vm_plan_free(struct blx_vm_plan *plan);

/* How many more instances of a shape would fit now, node by node, and what stops the next one.
 * @request  spec: its size and what it demands of its node; survive (with has_survive): instead of the settings'
 *           survive_nodes; stale
 * @out      free with blx_capacity_report_free(); untouched on error
 * Errors: BLX_E_INVALID, BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_capacity_get(blx_client *client, const struct blx_capacity_request *request,
                             struct blx_capacity_report **out, blx_error *reterr);
BLX_API int blx_capacity_get_async(blx_client *client, const struct blx_capacity_request *request,
                                   blx_capacity_report_fn done, void *user, blx_error *reterr);
BLX_API void blx_capacity_report_free(struct blx_capacity_report *report);

#ifdef __cplusplus
}
#endif
#endif
