/* Requests and answers. Made by schemagen; change the table and run `make schema` (lib/schema/api.def).
 * Included by blixard/types.h, which says what all these structs have in common. Since 0.1. */
/* clang-format off */
#ifndef BLIXARD_CALLS_H
#define BLIXARD_CALLS_H

#include <blixard/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct blx_cluster_init_request;
struct blx_cluster_join_request;
struct blx_cluster_status_request;
struct blx_cluster_status;
struct blx_node_list_request;
struct blx_node_list;
struct blx_vm_create_request;
struct blx_vm_name_request;
struct blx_vm_list_request;
struct blx_vm_list;
struct blx_vm_logs_request;
struct blx_log_chunk;
struct blx_vm_exec_request;
struct blx_vm_exec_input;
struct blx_vm_exec_output;
struct blx_watch_request;
struct blx_node_name_request;
struct blx_node_cordon_request;
struct blx_node_label_request;
struct blx_node_detail;
struct blx_stats_request;
struct blx_instance_stats;
struct blx_node_stats;
struct blx_stats_list;
struct blx_backup_request;
struct blx_backup_part;
struct blx_ha_status_request;
struct blx_ha_node;
struct blx_ha_status;
struct blx_ha_disarm_request;
struct blx_node_fence_request;
struct blx_node_fence_command_request;
struct blx_settings_request;
struct blx_settings_change;
struct blx_settings_set_request;
struct blx_settings_detail;
struct blx_cluster_transfer_request;
struct blx_cluster_leave_request;
struct blx_node_remove_request;
struct blx_audit_list_request;
struct blx_audit_list;
struct blx_audit_verify_request;
struct blx_audit_verdict;
struct blx_vm_scale_request;
struct blx_node_taint_request;
struct blx_quota_set_request;
struct blx_quota_get_request;
struct blx_quota_list;
struct blx_obstacle;
struct blx_score_part;
struct blx_node_verdict;
struct blx_obstacle_group;
struct blx_placement_report;
struct blx_vm_explain_request;
struct blx_vm_plan_request;
struct blx_planned_instance;
struct blx_vm_plan;
struct blx_capacity_request;
struct blx_node_capacity;
struct blx_capacity_report;

/* ClusterInitRequest: make a cluster of this one node. */
struct blx_cluster_init_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the cluster, for people; at most 56 bytes, default "blixard" */
};

/* ClusterJoinRequest: bring two daemons together: the one outside joins the other's cluster. */
struct blx_cluster_join_request {
  size_t struct_size;
  const void *unknown;
  const char *node_id; /* name the new node takes; empty: the name its daemon was started with; at most 63 bytes */
  const char *address; /* API address of the other daemon: unix:PATH; 1..256 bytes */
  int32_t role; /* what the new node becomes (enum blx_node_role) */
};

/* ClusterStatusRequest: how the cluster is. */
struct blx_cluster_status_request {
  size_t struct_size;
  const void *unknown;
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* ClusterStatus: how the cluster is. */
struct blx_cluster_status {
  size_t struct_size;
  const void *unknown;
  const char *id; /* its id; empty: this daemon is in no cluster yet; at most 32 bytes */
  const char *name; /* its name; at most 56 bytes */
  const char *leader; /* name of the leader; empty: none at the moment; at most 63 bytes */
  uint64_t term; /* the leader's term */
  uint64_t index; /* index of the last applied operation */
  uint64_t time_ms; /* cluster time */
  struct blx_node_info **nodes; /* its nodes by name; at most 5000 of them */
  size_t n_nodes;
  uint32_t vms; /* VMs */
  uint32_t instances; /* instances */
  uint32_t running; /* instances that run */
  const char *answered_by; /* name of the node that answered; at most 63 bytes */
  const char *chain; /* running digest of the log up to index, hexadecimal; at most 64 bytes */
};

/* NodeListRequest: the nodes. */
struct blx_node_list_request {
  size_t struct_size;
  const void *unknown;
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* NodeList: nodes by name. */
struct blx_node_list {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info **nodes; /* nodes; at most 5000 of them */
  size_t n_nodes;
  uint64_t index; /* index at which this was true */
};

/* VmCreateRequest: create a VM; placement chooses its nodes. */
struct blx_vm_create_request {
  size_t struct_size;
  const void *unknown;
  struct blx_vm_spec *spec; /* what is wanted */
  struct blx_bytes config; /* text of a microvm.nix module, instead of a flake; at most 49152 bytes */
  const char *request_id; /* idempotency key: the same request sent again gets the same answer; at most 64 bytes */
  uint32_t stopped; /* define it, do not start it */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
};

/* VmNameRequest: an operation on one VM. */
struct blx_vm_name_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the VM; where the call says so, of an instance; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the VM still has this revision; 0: whatever it has */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t stale; /* for reads: answer from this member's own state */
  uint32_t force; /* to restart: kill it instead of asking its guest */
};

/* VmListRequest: the VMs of a tenant, or of all. */
struct blx_vm_list_request {
  size_t struct_size;
  const void *unknown;
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t stale; /* answer from this member's own state, which may be behind */
  const char *after; /* only VMs whose names come after this one; at most 63 bytes */
  uint32_t limit; /* a part of the list: so many VMs at most, fewer if they do not fit; 0: all at once; 0..100000 */
  uint32_t before_all_tenants_; /* unused; zero */
  uint32_t all_tenants; /* the VMs of every tenant, whatever tenant says, by tenant and name */
  const char *after_tenant; /* with all_tenants and after: the tenant of that one; at most 56 bytes */
};

/* VmList: VMs by name, or by tenant and name. */
struct blx_vm_list {
  size_t struct_size;
  const void *unknown;
  struct blx_vm **vms; /* VMs with their instances; at most 100000 of them */
  size_t n_vms;
  uint64_t index; /* index at which this was true */
  const char *next; /* of a part: go on after this name; empty: there are no more; at most 63 bytes */
  const char *next_tenant; /* with all_tenants: and after its tenant; at most 56 bytes */
};

/* VmLogsRequest: the console of a VM's instances. */
struct blx_vm_logs_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM or instance; 1..63 bytes */
  uint32_t tail_lines; /* begin with so many lines from the end; absent: all that is kept; 0..100000 */
  uint32_t has_tail_lines;
  uint32_t follow; /* go on with what comes */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t node_local; /* only the instances on the member that is asked; members use it between them */
  /* only lines that began at this time or later, ms since 1970, and those whose time is not known; 0: all */
  uint64_t since_ms;
};

/* LogChunk: some bytes of a console. */
struct blx_log_chunk {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* whose; at most 63 bytes */
  struct blx_bytes data; /* bytes as the guest wrote them; at most 65536 bytes */
  const char *note; /* instead of data: why there is none from this instance; at most 512 bytes */
  uint64_t at_ms; /* when data came from the guest, by its node's clock, ms since 1970; 0: not known */
};

/* VmExecRequest: a command in a guest, or its serial console. */
struct blx_vm_exec_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* instance, or a VM that has one; 1..63 bytes */
  /* the command, looked up in the guest's PATH, and its words; each counts a byte more, 2048 in all; at most 2047 bytes, at most 64 of them */
  const char **argv;
  size_t n_argv;
  uint32_t console; /* instead of a command: what the guest's serial console says, and what it is told */
  uint32_t tty; /* give the command a terminal: its standard error comes as standard output */
  uint32_t rows; /* of that terminal; 0: 24; 0..65535 */
  uint32_t columns; /* of that terminal; 0: 80; 0..65535 */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t node_local; /* only an instance on the member that is asked; members use it between them */
};

/* VmExecInput: what the caller of VmExec says: first the request alone, then any number of the others. */
struct blx_vm_exec_input {
  size_t struct_size;
  const void *unknown;
  struct blx_vm_exec_request *request; /* in the first message, and only there */
  struct blx_bytes data; /* for its standard input; at most 32768 bytes */
  uint32_t end; /* its standard input ends here; so does the end of the caller's messages */
  uint32_t rows; /* new size of its terminal, with columns; 0: as it was; 0..65535 */
  uint32_t columns; /* new size of its terminal, with rows; 0: as it was; 0..65535 */
};

/* VmExecOutput: what a session says: first whose it is, then bytes, at last how it ended. */
struct blx_vm_exec_output {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* in the first message, when the session is open: the instance; at most 63 bytes */
  struct blx_bytes out; /* of its standard output, its terminal or the console; at most 65536 bytes */
  struct blx_bytes err; /* of its standard error; at most 65536 bytes */
  uint32_t ended; /* the last message: the command ended, or the console with its instance */
  int32_t exit_status; /* of a command that ended, 0..255; -1: a signal ended it */
  int32_t signal; /* that ended it, 1..64; 0: none */
};

/* WatchRequest: events from an index on. */
struct blx_watch_request {
  size_t struct_size;
  const void *unknown;
  uint64_t since_index; /* events after this index; 0: from now on, after one event of each object as it is */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  const char *vm; /* only this VM and its instances; at most 63 bytes */
  int32_t kind; /* only events about this kind (enum blx_event_kind) */
  uint32_t has_kind;
  uint32_t kept; /* begin with the oldest event that is kept, whatever since_index says */
  uint32_t once; /* end after what there is, instead of going on with what comes */
  /* begin with the oldest event of this cluster time or later that is kept, whatever since_index says; 0: not by time */
  uint64_t since_ms;
  const char *node; /* only this node and the instances that are assigned to it; at most 63 bytes */
  /* with kept or since_ms: where older events were there once or elsewhere, begin with one of type cut that says where this member's begin */
  uint32_t tell_cut;
  uint32_t before_all_tenants_; /* unused; zero */
  uint32_t all_tenants; /* events of every tenant, whatever tenant says */
};

/* NodeNameRequest: an operation on one node. */
struct blx_node_name_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  uint32_t stale; /* for reads: answer from this member's own state */
};

/* NodeCordonRequest: place nothing new on a node. */
struct blx_node_cordon_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  const char *reason; /* why, for people; kept with the node; at most 256 bytes */
};

/* NodeLabelRequest: change the labels that users set on a node. */
struct blx_node_label_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  struct blx_label **set; /* labels to set, each in place of the one with its key; at most 64 of them */
  size_t n_set;
  /* keys whose set label goes; where the daemon gives that key, its label shows again; at most 64 of them */
  struct blx_label **unset;
  size_t n_unset;
};

/* NodeDetail: a node with what is on it. */
struct blx_node_detail {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* the node */
  struct blx_resources *free; /* what of its capacity is not allocated */
  /* instances assigned to it, by uid, dead ones too; long reasons are cut; at most 4096 of them */
  struct blx_instance **instances;
  size_t n_instances;
  /* what was deleted by force and it must still remove, by uid; at most 4096 of them */
  struct blx_tombstone **tombstones;
  size_t n_tombstones;
  uint64_t index; /* index at which this was true */
};

/* StatsRequest: what instances use at present. */
struct blx_stats_request {
  size_t struct_size;
  const void *unknown;
  const char *node; /* only those on this node; empty: on all; at most 63 bytes */
};

/* InstanceStats: what an instance that runs uses; what is not known is absent. */
struct blx_instance_stats {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* whose; at most 63 bytes */
  uint64_t uid; /* its uid */
  uint64_t at_us; /* when this was so: microseconds since its host came up */
  uint64_t cpu_us; /* processor time since its start, of all processors together, in microseconds */
  uint32_t has_cpu_us;
  uint32_t cpu_permille; /* of one processor, between two answers; whoever has two fills it in */
  uint32_t has_cpu_permille;
  uint64_t memory_bytes; /* the host's memory that its monitor uses, page cache apart */
  uint32_t has_memory_bytes;
  uint64_t balloon_bytes; /* what its balloon leaves the guest */
  uint32_t has_balloon_bytes;
  uint64_t read_bytes; /* read from its block devices since its start */
  uint32_t has_read_bytes;
  uint64_t written_bytes; /* written to them */
  uint32_t has_written_bytes;
  uint64_t uptime_ms; /* since its start */
  uint32_t has_uptime_ms;
  uint64_t guest_memory_bytes; /* memory that its guest says it has; this and what follows is as true as its guest */
  uint32_t has_guest_memory_bytes;
  uint64_t guest_available_bytes; /* of that, what its programs could still get */
  uint32_t has_guest_available_bytes;
  uint64_t guest_uptime_ms; /* since its guest's kernel began */
  uint32_t has_guest_uptime_ms;
  uint32_t guest_load_milli; /* its guest's load of the last minute, in thousandths */
  uint32_t has_guest_load_milli;
  uint32_t guest_processes; /* processes in its guest */
  uint32_t has_guest_processes;
  const char *tenant; /* its tenant; at most 56 bytes */
};

/* NodeStats: what a node's instances use. */
struct blx_node_stats {
  size_t struct_size;
  const void *unknown;
  const char *node; /* its name; at most 63 bytes */
  uint32_t heard; /* it answered within a second; else the instances are those that should run there, without numbers */
  const char *note; /* why there are no numbers; at most 512 bytes */
  const char *driver; /* what measured; of `simulated` the numbers are made up; at most 64 bytes */
  struct blx_resources *capacity; /* what its instances may use together */
  struct blx_instance_stats **instances; /* those that run, by name; at most 4096 of them */
  size_t n_instances;
};

/* StatsList: what instances use, node by node. */
struct blx_stats_list {
  size_t struct_size;
  const void *unknown;
  struct blx_node_stats **nodes; /* nodes by name; at most 5000 of them */
  size_t n_nodes;
};

/* BackupRequest: the state of the cluster, to be kept. */
struct blx_backup_request {
  size_t struct_size;
  const void *unknown;
};

/* BackupPart: a part of a backup: first what it is, then records, at last that these were all. */
struct blx_backup_part {
  size_t struct_size;
  const void *unknown;
  struct blx_backup_info *info; /* in the first alone */
  struct blx_bytes records; /* whole records, each with its length in front; at most 262144 bytes */
  uint32_t last; /* nothing follows */
};

/* HaStatusRequest: how fencing is. */
struct blx_ha_status_request {
  size_t struct_size;
  const void *unknown;
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* HaNode: a node as fencing sees it. */
struct blx_ha_node {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* the node */
  uint32_t instances; /* highly available ones of it that are not confirmed dead */
  const char *manual_missing; /* why it takes none with ha=manual, nor with auto; empty: it does; at most 256 bytes */
  const char *auto_missing; /* why it takes none with ha=auto; empty: it does; at most 256 bytes */
};

/* HaStatus: how fencing is. */
struct blx_ha_status {
  size_t struct_size;
  const void *unknown;
  uint32_t armed; /* a silent node with highly available instances is fenced by itself */
  uint64_t disarmed_until_ms; /* if it is not: cluster time at which it is armed again */
  const char *disarmed_by; /* who disarmed it; at most 128 bytes */
  const char *disarm_reason; /* why; at most 256 bytes */
  uint64_t extended_until_ms; /* cluster time until which a lease given while disarmed may last; 0, or past: none */
  uint64_t t_safe_ms; /* after its last lease a node is proved dead when it was not answered for so long */
  struct blx_lease_settings *lease; /* leases */
  uint32_t instances; /* highly available ones that are not confirmed dead */
  struct blx_ha_node **nodes; /* nodes by name; at most 5000 of them */
  size_t n_nodes;
  uint64_t time_ms; /* cluster time */
  uint64_t index; /* index at which this was true */
};

/* HaDisarmRequest: fence no node by itself for a while, or do so again. */
struct blx_ha_disarm_request {
  size_t struct_size;
  const void *unknown;
  uint64_t for_ms; /* how long; 0: arm again at once; 0..86400000 */
  const char *reason; /* why, for people; at most 256 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
};

/* NodeFenceRequest: cut a node off, and start what is highly available there elsewhere when that is proved. */
struct blx_node_fence_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  const char *reason; /* why, for people; at most 128 bytes */
  /* says that its machine is off, and how that is known: nothing else is waited for; empty: it is proved as usual; at most 256 bytes */
  const char *proved;
};

/* NodeFenceCommandRequest: how a node is powered off. */
struct blx_node_fence_command_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  /* program with arguments, run by the leader; status 0 proves that the node is off; empty: none; at most 1024 bytes */
  const char *command;
};

/* SettingsRequest: what holds for the whole cluster. */
struct blx_settings_request {
  size_t struct_size;
  const void *unknown;
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* SettingsChange: what of the settings is to change; what is absent stays. */
struct blx_settings_change {
  size_t struct_size;
  const void *unknown;
  struct blx_lease_settings *lease; /* leases; what is 0 stays */
  /* pinned flake of nixpkgs that modules are built with; empty: what each daemon was started with; at most 512 bytes */
  const char *nixpkgs_ref;
  uint32_t has_nixpkgs_ref;
  const char *microvm_ref; /* pinned flake of microvm.nix, likewise; at most 512 bytes */
  uint32_t has_microvm_ref;
  struct blx_placement_settings *placement; /* placement, all of it */
};

/* SettingsSetRequest: change what holds for the whole cluster. */
struct blx_settings_set_request {
  size_t struct_size;
  const void *unknown;
  struct blx_settings_change *change; /* what changes */
  /* instead of change.lease: leases of this length, all else about them in the defaults' proportions; 2000..400000 */
  uint32_t leases_of_ms;
  uint32_t has_leases_of_ms;
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless they still have this revision; 0: whatever they have */
};

/* SettingsDetail: what holds for the whole cluster, and what follows from it. */
struct blx_settings_detail {
  size_t struct_size;
  const void *unknown;
  struct blx_settings *settings; /* the settings */
  uint64_t t_safe_ms; /* a node that nobody answered for so long runs no highly available instance any more */
  uint64_t index; /* index at which this was true */
};

/* ClusterTransferRequest: let another server lead. */
struct blx_cluster_transfer_request {
  size_t struct_size;
  const void *unknown;
  const char *node; /* a server that votes; empty: any; at most 63 bytes */
  const char *request_id; /* of no meaning yet: to lead already is success; at most 64 bytes */
};

/* ClusterLeaveRequest: the daemon that is asked leaves its cluster. */
struct blx_cluster_leave_request {
  size_t struct_size;
  const void *unknown;
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint32_t force; /* what runs there ends first; a worker that no server answers leaves alone */
};

/* NodeRemoveRequest: take a node out of the cluster. */
struct blx_node_remove_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  uint32_t leaves; /* it lives, and asks for it itself; without this one that is heard from is refused */
  uint32_t force; /* with leaves: what runs there ends first, to start elsewhere */
};

/* AuditListRequest: records of the audit log. */
struct blx_audit_list_request {
  size_t struct_size;
  const void *unknown;
  uint64_t since_ms; /* only those of this cluster time or later, ms since 1970; 0: all */
  uint64_t until_ms; /* only those before this time; 0: all */
  const char *principal; /* only this principal's; at most 128 bytes */
  /* only this verb: vm.create; of a part, as vm, all that begin with it and a dot; at most 32 bytes */
  const char *verb;
  const char *object; /* only about this object: vm/web, or web alone; at most 96 bytes */
  const char *result; /* ok, refused, or the name of a code: CONFLICT; at most 32 bytes */
  uint64_t from_seq; /* begin with this record; 0: at the end where the list begins */
  uint32_t backward; /* from the newest down */
  uint32_t limit; /* so many at most; 0: 100; 0..1000 */
  uint32_t denied; /* of the chain of denied requests that the member which answers keeps */
  uint32_t stale; /* answer from this member's own records, which may be behind */
  const char *tenant; /* only about this tenant's objects; empty: about all; at most 56 bytes */
};

/* AuditList: records of the audit log. */
struct blx_audit_list {
  size_t struct_size;
  const void *unknown;
  struct blx_audit_record **records; /* in the order that was asked for; at most 1000 of them */
  size_t n_records;
  uint64_t next_seq; /* go on from this record; 0: there are no more */
  const char *answered_by; /* name of the member that answered; at most 63 bytes */
};

/* AuditVerifyRequest: recompute the chains of the member that is asked. */
struct blx_audit_verify_request {
  size_t struct_size;
  const void *unknown;
  uint32_t denied; /* that of its denied requests instead of the cluster's */
};

/* AuditVerdict: what came of recomputing a chain. */
struct blx_audit_verdict {
  size_t struct_size;
  const void *unknown;
  uint32_t ok; /* every record is as it was written, and they lead to the head that the state has */
  uint64_t records; /* records that were looked at */
  uint64_t last_seq; /* the newest of them that is good */
  const char *head; /* its hash, hexadecimal; at most 64 bytes */
  uint64_t bad_seq; /* the first bad record; 0: none */
  const char *text; /* what is wrong; at most 256 bytes */
  struct blx_audit_cut **cuts; /* what this member does not have; at most 1000 of them */
  size_t n_cuts;
  const char *answered_by; /* name of the member; at most 63 bytes */
};

/* VmScaleRequest: want another number of replicas. */
struct blx_vm_scale_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the VM; 1..56 bytes */
  uint32_t replicas; /* so many; the highest ordinals go first; 0..1000, default 1 */
  uint32_t has_replicas;
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the VM still has this revision; 0: whatever it has */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
};

/* NodeTaintRequest: change the taints of a node. */
struct blx_node_taint_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* name of the node; 1..63 bytes */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless the node still has this revision; 0: whatever it has */
  struct blx_taint **set; /* to set, each in place of the one with its key and effect; at most 16 of them */
  size_t n_set;
  struct blx_taint **unset; /* to take away, by key, whatever their effect; at most 16 of them */
  size_t n_unset;
};

/* QuotaSetRequest: say what a tenant may have. */
struct blx_quota_set_request {
  size_t struct_size;
  const void *unknown;
  struct blx_quota *quota; /* all of it; what is absent has no limit */
  uint32_t remove; /* instead: no limits any more for quota.tenant */
  const char *request_id; /* idempotency key; at most 64 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* QuotaGetRequest: what tenants may have, and what they have. */
struct blx_quota_get_request {
  size_t struct_size;
  const void *unknown;
  const char *tenant; /* only this one's; empty: all that have a quota or a VM; at most 56 bytes */
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* QuotaList: what tenants may have, and what they have. */
struct blx_quota_list {
  size_t struct_size;
  const void *unknown;
  struct blx_quota **quotas; /* by tenant; revision 0: it has no quota; at most 10000 of them */
  size_t n_quotas;
  uint64_t index; /* index at which this was true */
};

/* Obstacle: why a node cannot take an instance. */
struct blx_obstacle {
  size_t struct_size;
  const void *unknown;
  int32_t code; /* for programs (enum blx_obstacle_code) */
  const char *text; /* for people, with the numbers; at most 400 bytes */
  uint32_t short_cpu_milli; /* processors missing, in thousandths */
  uint64_t short_memory_mib; /* memory missing */
  const char *what; /* the named resource, label, feature, taint or level that it is about; at most 63 bytes */
  uint64_t short_amount; /* what is missing of a named resource, a quota, or places elsewhere */
};

/* ScorePart: a component of a node's cost. */
struct blx_score_part {
  size_t struct_size;
  const void *unknown;
  /* strategy or preference; of Combined each part: "Combined BestFit 70/100 of 4711", weight and own cost; at most 63 bytes */
  const char *name;
  uint64_t cost; /* what it adds: the lower, the better */
};

/* NodeVerdict: how a node stands to an instance. */
struct blx_node_verdict {
  size_t struct_size;
  const void *unknown;
  const char *node; /* its name; at most 63 bytes */
  uint64_t uid; /* its uid */
  uint32_t fits; /* it can take it */
  struct blx_obstacle **obstacles; /* else each reason; at most 32 of them */
  size_t n_obstacles;
  struct blx_score_part **parts; /* its cost by component; at most 64 of them */
  size_t n_parts;
  uint64_t cost; /* their sum */
  uint32_t rank; /* 1: the one that is chosen; 0: it cannot take it */
  uint32_t replicas; /* other replicas of the VM there */
};

/* ObstacleGroup: nodes with the same obstacle. */
struct blx_obstacle_group {
  size_t struct_size;
  const void *unknown;
  int32_t code; /* which (enum blx_obstacle_code) */
  uint32_t nodes; /* how many have it, and perhaps others */
  const char **examples; /* some of them, the nearest to fitting first; at most 63 bytes, at most 64 of them */
  size_t n_examples;
};

/* PlacementReport: how every node stands to an instance. */
struct blx_placement_report {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* which; of a VM that is not there yet: its name; at most 63 bytes */
  const char *node; /* where it is, or was last; empty: nowhere yet; at most 63 bytes */
  const char *chosen; /* the node that it would go to now; empty: none can take it; at most 63 bytes */
  const char *text; /* in one sentence: the nearest misses, or why that node; at most 511 bytes */
  uint32_t nodes_total; /* nodes that there are */
  uint32_t nodes_fit; /* that can take it */
  struct blx_obstacle_group **groups; /* the others by obstacle, the most frequent first; at most 32 of them */
  size_t n_groups;
  /* by rank, then the nearest misses; without all: the first 20; at most 5000 of them */
  struct blx_node_verdict **nodes;
  size_t n_nodes;
  struct blx_resources *need; /* what it needs */
  struct blx_reason *reason; /* what the instance itself says at present */
  uint64_t index; /* index at which this was true */
};

/* VmExplainRequest: why an instance is where it is, or nowhere. */
struct blx_vm_explain_request {
  size_t struct_size;
  const void *unknown;
  const char *name; /* instance; of a VM: its first that waits, else its first; 1..63 bytes */
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t all; /* every node, on a large fleet too */
};

/* VmPlanRequest: what a creation or a change of scale would do, without doing it. */
struct blx_vm_plan_request {
  size_t struct_size;
  const void *unknown;
  struct blx_vm_create_request *create; /* of this VM */
  struct blx_vm_scale_request *scale; /* or of this */
  uint32_t all; /* every node in the reports */
};

/* PlannedInstance: what would become of an instance. */
struct blx_planned_instance {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* its name; at most 63 bytes */
  const char *node; /* node that it would go to; empty: none, or it would end; at most 63 bytes */
  const char *action; /* place, wait, preempt, remove; at most 32 bytes */
  const char *text; /* why; at most 511 bytes */
  const char **victims; /* instances that would end for it; at most 63 bytes, at most 64 of them */
  size_t n_victims;
};

/* VmPlan: what would happen. */
struct blx_vm_plan {
  size_t struct_size;
  const void *unknown;
  struct blx_planned_instance **instances; /* by ordinal; at most 1000 of them */
  size_t n_instances;
  uint32_t changes; /* how many things would change; 0: it is as it is to be */
  uint32_t waiting; /* instances that would find no node now */
  struct blx_placement_report *report; /* of the first that finds none, or else the first */
  uint64_t index; /* index at which this was true */
};

/* CapacityRequest: how many more instances of a shape fit. */
struct blx_capacity_request {
  size_t struct_size;
  const void *unknown;
  struct blx_vm_spec *spec; /* the shape, with its constraints */
  /* so that the ha=auto instances and these of any so many nodes fit elsewhere; absent: as the settings say; 0..16 */
  uint32_t survive;
  uint32_t has_survive;
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t stale; /* answer from this member's own state, which may be behind */
};

/* NodeCapacity: how many more fit on a node. */
struct blx_node_capacity {
  size_t struct_size;
  const void *unknown;
  const char *node; /* its name; at most 63 bytes */
  uint32_t fits; /* so many */
  const char *limit; /* what stops the next one; at most 400 bytes */
  struct blx_resources *free; /* what is free on it now */
};

/* CapacityReport: how many more instances of a shape fit. */
struct blx_capacity_report {
  size_t struct_size;
  const void *unknown;
  uint32_t fits; /* so many, at most 100000, and no more than the tenant's quota lets in */
  /* what stops the next one: "quota memory"; or on most nodes cpu, memory, a named resource, another obstacle's name; at most 63 bytes */
  const char *limit;
  const char *text; /* in one sentence; at most 511 bytes */
  /* by how many fit, the most first; a tenant's whole quota has no say there; at most 5000 of them */
  struct blx_node_capacity **nodes;
  size_t n_nodes;
  struct blx_obstacle_group **groups; /* what stops the next one, by nodes; at most 32 of them */
  size_t n_groups;
  uint64_t index; /* index at which this was true */
};

#define BLX_CLUSTER_INIT_REQUEST_INIT BLX_INIT_(struct blx_cluster_init_request)
#define BLX_CLUSTER_JOIN_REQUEST_INIT BLX_INIT_(struct blx_cluster_join_request)
#define BLX_CLUSTER_STATUS_REQUEST_INIT BLX_INIT_(struct blx_cluster_status_request)
#define BLX_CLUSTER_STATUS_INIT BLX_INIT_(struct blx_cluster_status)
#define BLX_NODE_LIST_REQUEST_INIT BLX_INIT_(struct blx_node_list_request)
#define BLX_NODE_LIST_INIT BLX_INIT_(struct blx_node_list)
#define BLX_VM_CREATE_REQUEST_INIT BLX_INIT_(struct blx_vm_create_request)
#define BLX_VM_NAME_REQUEST_INIT BLX_INIT_(struct blx_vm_name_request)
#define BLX_VM_LIST_REQUEST_INIT BLX_INIT_(struct blx_vm_list_request)
#define BLX_VM_LIST_INIT BLX_INIT_(struct blx_vm_list)
#define BLX_VM_LOGS_REQUEST_INIT BLX_INIT_(struct blx_vm_logs_request)
#define BLX_LOG_CHUNK_INIT BLX_INIT_(struct blx_log_chunk)
#define BLX_VM_EXEC_REQUEST_INIT BLX_INIT_(struct blx_vm_exec_request)
#define BLX_VM_EXEC_INPUT_INIT BLX_INIT_(struct blx_vm_exec_input)
#define BLX_VM_EXEC_OUTPUT_INIT BLX_INIT_(struct blx_vm_exec_output)
#define BLX_WATCH_REQUEST_INIT BLX_INIT_(struct blx_watch_request)
#define BLX_NODE_NAME_REQUEST_INIT BLX_INIT_(struct blx_node_name_request)
#define BLX_NODE_CORDON_REQUEST_INIT BLX_INIT_(struct blx_node_cordon_request)
#define BLX_NODE_LABEL_REQUEST_INIT BLX_INIT_(struct blx_node_label_request)
#define BLX_NODE_DETAIL_INIT BLX_INIT_(struct blx_node_detail)
#define BLX_STATS_REQUEST_INIT BLX_INIT_(struct blx_stats_request)
#define BLX_INSTANCE_STATS_INIT BLX_INIT_(struct blx_instance_stats)
#define BLX_NODE_STATS_INIT BLX_INIT_(struct blx_node_stats)
#define BLX_STATS_LIST_INIT BLX_INIT_(struct blx_stats_list)
#define BLX_BACKUP_REQUEST_INIT BLX_INIT_(struct blx_backup_request)
#define BLX_BACKUP_PART_INIT BLX_INIT_(struct blx_backup_part)
#define BLX_HA_STATUS_REQUEST_INIT BLX_INIT_(struct blx_ha_status_request)
#define BLX_HA_NODE_INIT BLX_INIT_(struct blx_ha_node)
#define BLX_HA_STATUS_INIT BLX_INIT_(struct blx_ha_status)
#define BLX_HA_DISARM_REQUEST_INIT BLX_INIT_(struct blx_ha_disarm_request)
#define BLX_NODE_FENCE_REQUEST_INIT BLX_INIT_(struct blx_node_fence_request)
#define BLX_NODE_FENCE_COMMAND_REQUEST_INIT BLX_INIT_(struct blx_node_fence_command_request)
#define BLX_SETTINGS_REQUEST_INIT BLX_INIT_(struct blx_settings_request)
#define BLX_SETTINGS_CHANGE_INIT BLX_INIT_(struct blx_settings_change)
#define BLX_SETTINGS_SET_REQUEST_INIT BLX_INIT_(struct blx_settings_set_request)
#define BLX_SETTINGS_DETAIL_INIT BLX_INIT_(struct blx_settings_detail)
#define BLX_CLUSTER_TRANSFER_REQUEST_INIT BLX_INIT_(struct blx_cluster_transfer_request)
#define BLX_CLUSTER_LEAVE_REQUEST_INIT BLX_INIT_(struct blx_cluster_leave_request)
#define BLX_NODE_REMOVE_REQUEST_INIT BLX_INIT_(struct blx_node_remove_request)
#define BLX_AUDIT_LIST_REQUEST_INIT BLX_INIT_(struct blx_audit_list_request)
#define BLX_AUDIT_LIST_INIT BLX_INIT_(struct blx_audit_list)
#define BLX_AUDIT_VERIFY_REQUEST_INIT BLX_INIT_(struct blx_audit_verify_request)
#define BLX_AUDIT_VERDICT_INIT BLX_INIT_(struct blx_audit_verdict)
#define BLX_VM_SCALE_REQUEST_INIT BLX_INIT_(struct blx_vm_scale_request)
#define BLX_NODE_TAINT_REQUEST_INIT BLX_INIT_(struct blx_node_taint_request)
#define BLX_QUOTA_SET_REQUEST_INIT BLX_INIT_(struct blx_quota_set_request)
#define BLX_QUOTA_GET_REQUEST_INIT BLX_INIT_(struct blx_quota_get_request)
#define BLX_QUOTA_LIST_INIT BLX_INIT_(struct blx_quota_list)
#define BLX_OBSTACLE_INIT BLX_INIT_(struct blx_obstacle)
#define BLX_SCORE_PART_INIT BLX_INIT_(struct blx_score_part)
#define BLX_NODE_VERDICT_INIT BLX_INIT_(struct blx_node_verdict)
#define BLX_OBSTACLE_GROUP_INIT BLX_INIT_(struct blx_obstacle_group)
#define BLX_PLACEMENT_REPORT_INIT BLX_INIT_(struct blx_placement_report)
#define BLX_VM_EXPLAIN_REQUEST_INIT BLX_INIT_(struct blx_vm_explain_request)
#define BLX_VM_PLAN_REQUEST_INIT BLX_INIT_(struct blx_vm_plan_request)
#define BLX_PLANNED_INSTANCE_INIT BLX_INIT_(struct blx_planned_instance)
#define BLX_VM_PLAN_INIT BLX_INIT_(struct blx_vm_plan)
#define BLX_CAPACITY_REQUEST_INIT BLX_INIT_(struct blx_capacity_request)
#define BLX_NODE_CAPACITY_INIT BLX_INIT_(struct blx_node_capacity)
#define BLX_CAPACITY_REPORT_INIT BLX_INIT_(struct blx_capacity_report)

/* blx_X_init(&x): the same for a struct that is there already, its padding too. */
BLX_INIT_FN_(cluster_init_request)
BLX_INIT_FN_(cluster_join_request)
BLX_INIT_FN_(cluster_status_request)
BLX_INIT_FN_(cluster_status)
BLX_INIT_FN_(node_list_request)
BLX_INIT_FN_(node_list)
BLX_INIT_FN_(vm_create_request)
BLX_INIT_FN_(vm_name_request)
BLX_INIT_FN_(vm_list_request)
BLX_INIT_FN_(vm_list)
BLX_INIT_FN_(vm_logs_request)
BLX_INIT_FN_(log_chunk)
BLX_INIT_FN_(vm_exec_request)
BLX_INIT_FN_(vm_exec_input)
BLX_INIT_FN_(vm_exec_output)
BLX_INIT_FN_(watch_request)
BLX_INIT_FN_(node_name_request)
BLX_INIT_FN_(node_cordon_request)
BLX_INIT_FN_(node_label_request)
BLX_INIT_FN_(node_detail)
BLX_INIT_FN_(stats_request)
BLX_INIT_FN_(instance_stats)
BLX_INIT_FN_(node_stats)
BLX_INIT_FN_(stats_list)
BLX_INIT_FN_(backup_request)
BLX_INIT_FN_(backup_part)
BLX_INIT_FN_(ha_status_request)
BLX_INIT_FN_(ha_node)
BLX_INIT_FN_(ha_status)
BLX_INIT_FN_(ha_disarm_request)
BLX_INIT_FN_(node_fence_request)
BLX_INIT_FN_(node_fence_command_request)
BLX_INIT_FN_(settings_request)
BLX_INIT_FN_(settings_change)
BLX_INIT_FN_(settings_set_request)
BLX_INIT_FN_(settings_detail)
BLX_INIT_FN_(cluster_transfer_request)
BLX_INIT_FN_(cluster_leave_request)
BLX_INIT_FN_(node_remove_request)
BLX_INIT_FN_(audit_list_request)
BLX_INIT_FN_(audit_list)
BLX_INIT_FN_(audit_verify_request)
BLX_INIT_FN_(audit_verdict)
BLX_INIT_FN_(vm_scale_request)
BLX_INIT_FN_(node_taint_request)
BLX_INIT_FN_(quota_set_request)
BLX_INIT_FN_(quota_get_request)
BLX_INIT_FN_(quota_list)
BLX_INIT_FN_(obstacle)
BLX_INIT_FN_(score_part)
BLX_INIT_FN_(node_verdict)
BLX_INIT_FN_(obstacle_group)
BLX_INIT_FN_(placement_report)
BLX_INIT_FN_(vm_explain_request)
BLX_INIT_FN_(vm_plan_request)
BLX_INIT_FN_(planned_instance)
BLX_INIT_FN_(vm_plan)
BLX_INIT_FN_(capacity_request)
BLX_INIT_FN_(node_capacity)
BLX_INIT_FN_(capacity_report)

#ifdef __cplusplus
}
#endif
#endif
