/* Sizes of the public structs, old and new, as programs are built with them. Made by schemagen from the
 * tables and schema.lock; run `make schema`. Included by desc.c. No guard is needed: it only asserts. */
/* clang-format off */
#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(struct blx_reason) == 40, "reason");
_Static_assert(sizeof(struct blx_label) == 32, "label");
_Static_assert(sizeof(struct blx_resources) == 32, "resources");
_Static_assert(sizeof(struct blx_vm_spec) == 136, "vm_spec");
_Static_assert(offsetof(struct blx_vm_spec, depends_on) >= 120, "vm_spec.depends_on");
_Static_assert(sizeof(struct blx_instance) == 168, "instance");
_Static_assert(offsetof(struct blx_instance, ending) >= 160, "instance.ending");
_Static_assert(sizeof(struct blx_vm) == 112, "vm");
_Static_assert(offsetof(struct blx_vm, paused) >= 104, "vm.paused");
_Static_assert(sizeof(struct blx_node_info) == 248, "node_info");
_Static_assert(offsetof(struct blx_node_info, cordoned_ms) >= 160, "node_info.cordoned_ms");
_Static_assert(offsetof(struct blx_node_info, role) >= 240, "node_info.role");
_Static_assert(sizeof(struct blx_event) == 104, "event");
_Static_assert(sizeof(struct blx_tombstone) == 96, "tombstone");
_Static_assert(sizeof(struct blx_audit_record) == 152, "audit_record");
_Static_assert(sizeof(struct blx_audit_cut) == 56, "audit_cut");
_Static_assert(sizeof(struct blx_cluster_init_request) == 24, "cluster_init_request");
_Static_assert(sizeof(struct blx_cluster_join_request) == 40, "cluster_join_request");
_Static_assert(offsetof(struct blx_cluster_join_request, role) >= 32, "cluster_join_request.role");
_Static_assert(sizeof(struct blx_cluster_status_request) == 24, "cluster_status_request");
_Static_assert(sizeof(struct blx_cluster_status) == 112, "cluster_status");
_Static_assert(sizeof(struct blx_node_list_request) == 24, "node_list_request");
_Static_assert(sizeof(struct blx_node_list) == 40, "node_list");
_Static_assert(sizeof(struct blx_vm_create_request) == 64, "vm_create_request");
_Static_assert(sizeof(struct blx_vm_name_request) == 64, "vm_name_request");
_Static_assert(offsetof(struct blx_vm_name_request, force) >= 56, "vm_name_request.force");
_Static_assert(sizeof(struct blx_vm_list_request) == 48, "vm_list_request");
_Static_assert(offsetof(struct blx_vm_list_request, after) >= 32, "vm_list_request.after");
_Static_assert(sizeof(struct blx_vm_list) == 48, "vm_list");
_Static_assert(offsetof(struct blx_vm_list, next) >= 40, "vm_list.next");
_Static_assert(sizeof(struct blx_vm_logs_request) == 64, "vm_logs_request");
_Static_assert(offsetof(struct blx_vm_logs_request, since_ms) >= 56, "vm_logs_request.since_ms");
_Static_assert(sizeof(struct blx_log_chunk) == 56, "log_chunk");
_Static_assert(offsetof(struct blx_log_chunk, at_ms) >= 48, "log_chunk.at_ms");
_Static_assert(sizeof(struct blx_vm_exec_request) == 72, "vm_exec_request");
_Static_assert(sizeof(struct blx_vm_exec_input) == 56, "vm_exec_input");
_Static_assert(sizeof(struct blx_vm_exec_output) == 72, "vm_exec_output");
_Static_assert(sizeof(struct blx_watch_request) == 56, "watch_request");
_Static_assert(offsetof(struct blx_watch_request, kept) >= 48, "watch_request.kept");
_Static_assert(sizeof(struct blx_node_name_request) == 48, "node_name_request");
_Static_assert(sizeof(struct blx_node_cordon_request) == 48, "node_cordon_request");
_Static_assert(sizeof(struct blx_node_label_request) == 72, "node_label_request");
_Static_assert(sizeof(struct blx_node_detail) == 72, "node_detail");
_Static_assert(sizeof(struct blx_stats_request) == 24, "stats_request");
_Static_assert(sizeof(struct blx_instance_stats) == 144, "instance_stats");
_Static_assert(sizeof(struct blx_node_stats) == 72, "node_stats");
_Static_assert(sizeof(struct blx_stats_list) == 32, "stats_list");
_Static_assert(sizeof(struct blx_audit_list_request) == 88, "audit_list_request");
_Static_assert(sizeof(struct blx_audit_list) == 48, "audit_list");
_Static_assert(sizeof(struct blx_audit_verify_request) == 24, "audit_verify_request");
_Static_assert(sizeof(struct blx_audit_verdict) == 88, "audit_verdict");
#endif
