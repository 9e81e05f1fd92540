/* Where VMs go and why, what a change would do, how many more would fit, and what tenants may have. See client.h for
 * blocking and _async calls. */
#ifndef BLIXARD_PLAN_H
#define BLIXARD_PLAN_H

#include <blixard/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*blx_placement_report_fn)(void *user, const blx_error *err, struct blx_placement_report *result);
typedef void (*blx_vm_plan_fn)(void *user, const blx_error *err, struct blx_vm_plan *result);
typedef void (*blx_capacity_report_fn)(void *user, const blx_error *err, struct blx_capacity_report *result);
typedef void (*blx_quota_fn)(void *user, const blx_error *err, struct blx_quota *result);
typedef void (*blx_quota_list_fn)(void *user, const blx_error *err, struct blx_quota_list *result);

/* Want another number of replicas. More are placed like those of a new VM; of fewer the highest ordinals end first.
 * @request  name required; replicas 0..1000 (with has_replicas); if_revision
 * @out      the VM; free with blx_vm_free(); untouched on error
 * Errors: BLX_E_NOT_FOUND, BLX_E_QUOTA (the tenant may not have so many; with the numbers), BLX_E_STALE (if_revision),
 * BLX_E_CONFLICT (it is being deleted, an instance that was scaled away is not gone yet, or the request_id was used for
 * another request), BLX_E_INVALID, BLX_E_NO_LEADER (retry), BLX_E_TIMEOUT (outcome unknown: send the same request_id
 * again). Thread: any. Since 0.1. */
BLX_API int blx_vm_scale(blx_client *client, const struct blx_vm_scale_request *request, struct blx_vm **out,
                         blx_error *reterr);
BLX_API int blx_vm_scale_async(blx_client *client, const struct blx_vm_scale_request *request, blx_vm_fn done,
                               void *user, blx_error *reterr);

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

/* Set taints on a node, each in place of the one with its key and effect, and take such away, by key. What runs there
 * runs on.
 * @request  name required; set and unset: at most 16 each; if_revision
 * @out      the node; free with blx_node_info_free(); untouched on error
 * Errors: as blx_node_cordon(); BLX_E_QUOTA (more than 16 would be set). Thread: any. Since 0.1. */
BLX_API int blx_node_taint(blx_client *client, const struct blx_node_taint_request *request, struct blx_node_info **out,
                           blx_error *reterr);
BLX_API int blx_node_taint_async(blx_client *client, const struct blx_node_taint_request *request,
                                 blx_node_info_fn done, void *user, blx_error *reterr);

/* Say what a tenant may have: all of it at once, what is absent has no limit. What it has beyond that already stays.
 * @request  quota; remove: instead, no limits any more for quota->tenant, if it had any; if_revision
 * @out      the quota as it is then, or was; free with blx_quota_free(); untouched on error
 * Errors: BLX_E_INVALID, BLX_E_QUOTA (the cluster keeps as many as it can), and
 * as blx_node_cordon(). Thread: any. Since 0.1. */
BLX_API int blx_quota_set(blx_client *client, const struct blx_quota_set_request *request, struct blx_quota **out,
                          blx_error *reterr);
BLX_API int blx_quota_set_async(blx_client *client, const struct blx_quota_set_request *request, blx_quota_fn done,
                                void *user, blx_error *reterr);
BLX_API void blx_quota_free(struct blx_quota *quota);

/* What tenants may have, and what they have: of one, or of all that have a quota or a VM.
 * @out  free with blx_quota_list_free(); untouched on error
 * Errors: BLX_E_NO_LEADER, BLX_E_UNAVAILABLE, BLX_E_TIMEOUT. Thread: any. Since 0.1. */
BLX_API int blx_quota_get(blx_client *client, const struct blx_quota_get_request *request, struct blx_quota_list **out,
                          blx_error *reterr);
BLX_API int blx_quota_get_async(blx_client *client, const struct blx_quota_get_request *request, blx_quota_list_fn done,
                                void *user, blx_error *reterr);
BLX_API void blx_quota_list_free(struct blx_quota_list *list);

#ifdef __cplusplus
}
#endif
#endif
