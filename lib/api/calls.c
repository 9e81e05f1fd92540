/* The unary calls: one row each. The headers say what they do; the compiler checks that the prototypes agree. */
#include "api/api_int.h"

#include <stdlib.h>

/* A completion of the public type, carried through the untyped one. */
#define UNARY(NAME, ID, REQUEST, RESULT, FN)                                                                    \
  int NAME(blx_client *client, const struct REQUEST *request, struct RESULT **out, blx_error *reterr) {         \
    void *result = NULL;                                                                                        \
    if (!out) return blx__api_misuse(reterr, "the place for the result is NULL");                               \
    int rc = blx__api_call(client, ID, request, &result, reterr);                                               \
    if (rc == 0) *out = result;                                                                                 \
    return rc;                                                                                                  \
  }                                                                                                             \
  struct NAME##_async_call {                                                                                    \
    FN done;                                                                                                    \
    void *user;                                                                                                 \
  };                                                                                                            \
  static void NAME##_async_done(void *user, const blx_error *err, void *result) {                               \
    struct NAME##_async_call call = *(struct NAME##_async_call *)user;                                          \
    free(user);                                                                                                 \
    call.done(call.user, err, result);                                                                          \
  }                                                                                                             \
  int NAME##_async(blx_client *client, const struct REQUEST *request, FN done, void *user, blx_error *reterr) { \
    if (!done) return blx__api_misuse(reterr, "the completion is NULL");                                        \
    struct NAME##_async_call *call = malloc(sizeof *call);                                                      \
    if (!call) return blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for the call").code;                  \
    *call = (struct NAME##_async_call){done, user};                                                             \
    int rc = blx__api_submit(client, ID, request, NAME##_async_done, call, reterr);                             \
    if (rc != 0) free(call);                                                                                    \
    return rc;                                                                                                  \
  }

UNARY(blx_cluster_init, BLX__RPC_CLUSTER_INIT, blx_cluster_init_request, blx_cluster_status, blx_cluster_status_fn)
UNARY(blx_cluster_join, BLX__RPC_CLUSTER_JOIN, blx_cluster_join_request, blx_cluster_status, blx_cluster_status_fn)
UNARY(blx_cluster_status_get, BLX__RPC_CLUSTER_STATUS, blx_cluster_status_request, blx_cluster_status,
      blx_cluster_status_fn)
UNARY(blx_node_list_get, BLX__RPC_NODE_LIST, blx_node_list_request, blx_node_list, blx_node_list_fn)
UNARY(blx_vm_create, BLX__RPC_VM_CREATE, blx_vm_create_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_get, BLX__RPC_VM_GET, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_list_get, BLX__RPC_VM_LIST, blx_vm_list_request, blx_vm_list, blx_vm_list_fn)
UNARY(blx_vm_start, BLX__RPC_VM_START, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_stop, BLX__RPC_VM_STOP, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_restart, BLX__RPC_VM_RESTART, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_kill, BLX__RPC_VM_KILL, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_pause, BLX__RPC_VM_PAUSE, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_resume, BLX__RPC_VM_RESUME, blx_vm_name_request, blx_vm, blx_vm_fn)
UNARY(blx_vm_delete, BLX__RPC_VM_DELETE, blx_vm_name_request, blx_vm, blx_vm_fn)

UNARY(blx_node_get, BLX__RPC_NODE_GET, blx_node_name_request, blx_node_detail, blx_node_detail_fn)
UNARY(blx_node_cordon, BLX__RPC_NODE_CORDON, blx_node_cordon_request, blx_node_info, blx_node_info_fn)
UNARY(blx_node_uncordon, BLX__RPC_NODE_UNCORDON, blx_node_name_request, blx_node_info, blx_node_info_fn)
UNARY(blx_node_label, BLX__RPC_NODE_LABEL, blx_node_label_request, blx_node_info, blx_node_info_fn)
UNARY(blx_vm_delete_force, BLX__RPC_VM_DELETE_FORCE, blx_vm_name_request, blx_vm, blx_vm_fn)

UNARY(blx_ha_status_get, BLX__RPC_HA_STATUS, blx_ha_status_request, blx_ha_status, blx_ha_status_fn)
UNARY(blx_ha_disarm, BLX__RPC_HA_DISARM, blx_ha_disarm_request, blx_ha_status, blx_ha_status_fn)
UNARY(blx_node_fence, BLX__RPC_NODE_FENCE, blx_node_fence_request, blx_node_info, blx_node_info_fn)
UNARY(blx_node_fence_command, BLX__RPC_NODE_FENCE_COMMAND, blx_node_fence_command_request, blx_node_info,
      blx_node_info_fn)
UNARY(blx_settings_get, BLX__RPC_SETTINGS_GET, blx_settings_request, blx_settings_detail, blx_settings_detail_fn)
UNARY(blx_settings_set, BLX__RPC_SETTINGS_SET, blx_settings_set_request, blx_settings_detail, blx_settings_detail_fn)

UNARY(blx_vm_scale, BLX__RPC_VM_SCALE, blx_vm_scale_request, blx_vm, blx_vm_fn)
UNARY(blx_node_taint, BLX__RPC_NODE_TAINT, blx_node_taint_request, blx_node_info, blx_node_info_fn)
UNARY(blx_quota_set, BLX__RPC_QUOTA_SET, blx_quota_set_request, blx_quota, blx_quota_fn)
UNARY(blx_quota_get, BLX__RPC_QUOTA_GET, blx_quota_get_request, blx_quota_list, blx_quota_list_fn)

UNARY(blx_cluster_transfer, BLX__RPC_CLUSTER_TRANSFER, blx_cluster_transfer_request, blx_cluster_status,
      blx_cluster_status_fn)
UNARY(blx_cluster_leave, BLX__RPC_CLUSTER_LEAVE, blx_cluster_leave_request, blx_cluster_status, blx_cluster_status_fn)
UNARY(blx_node_remove, BLX__RPC_NODE_REMOVE, blx_node_remove_request, blx_node_info, blx_node_info_fn)
UNARY(blx_audit_list_get, BLX__RPC_AUDIT_LIST, blx_audit_list_request, blx_audit_list, blx_audit_list_fn)
UNARY(blx_audit_verify, BLX__RPC_AUDIT_VERIFY, blx_audit_verify_request, blx_audit_verdict, blx_audit_verdict_fn)

UNARY(blx_vm_explain, BLX__RPC_VM_EXPLAIN, blx_vm_explain_request, blx_placement_report, blx_placement_report_fn)
UNARY(blx_vm_plan, BLX__RPC_VM_PLAN, blx_vm_plan_request, blx_vm_plan, blx_vm_plan_fn)
UNARY(blx_capacity_get, BLX__RPC_CAPACITY, blx_capacity_request, blx_capacity_report, blx_capacity_report_fn)

#define FREE(TYPE)                        \
  void TYPE##_free(struct TYPE *result) { \
    blx__msg_free_owned(result);          \
  }

FREE(blx_cluster_status)
FREE(blx_node_list)
FREE(blx_node_detail)
FREE(blx_node_info)
FREE(blx_vm)
FREE(blx_ha_status)
FREE(blx_vm_list)
FREE(blx_event)
FREE(blx_log_chunk)
FREE(blx_vm_exec_output)
FREE(blx_node_stats)
FREE(blx_settings_detail)
FREE(blx_quota)
FREE(blx_quota_list)
FREE(blx_audit_list)
FREE(blx_audit_verdict)
FREE(blx_placement_report)
FREE(blx_vm_plan)
FREE(blx_capacity_report)
