/* Log operations, snapshot records, calls between members. Made by schemagen; change the table and run `make schema`
 * (lib/schema/internal.def). blixard/types.h says what all these structs have in common. */
/* clang-format off */
#ifndef BLX__SCHEMA_INTERNAL_H
#define BLX__SCHEMA_INTERNAL_H

#include <blixard/types.h>

struct blx_op_cluster_init;
struct blx_op_node_join;
struct blx_op_node_register;
struct blx_op_node_voter;
struct blx_op_config_put;
struct blx_op_vm_create;
struct blx_op_vm_desire;
struct blx_op_vm_delete;
struct blx_op_vm_restart;
struct blx_op_vm_pause;
struct blx_op_vm_kill;
struct blx_op_assign;
struct blx_op_explain;
struct blx_instance_report;
struct blx_op_report;
struct blx_op_node_cordon;
struct blx_op_vm_delete_force;
struct blx_op_node_label;
struct blx_op_settings_set;
struct blx_op_fence_begin;
struct blx_op_fence_done;
struct blx_op_node_return;
struct blx_op_ha_disarm;
struct blx_op_node_fence_command;
struct blx_op_node_remove;
struct blx_op_recover;
struct blx_op_vm_scale;
struct blx_op_node_taint;
struct blx_op_quota_set;
struct blx_preempt_victim;
struct blx_op_preempt;
struct blx_op_regroup;
struct blx_op_node_clear;
struct blx_op;
struct blx_op_result;
struct blx_config;
struct blx_idempotency;
struct blx_snapshot_head;
struct blx_recover_mark;
struct blx_snapshot_record;
struct blx_assignment;
struct blx_journal_entry;
struct blx_member_join_request;
struct blx_member_join_reply;
struct blx_member_invite_request;
struct blx_member_ready_request;
struct blx_report_request;
struct blx_lease_ask;
struct blx_lease_grant;
struct blx_renew_request;
struct blx_renew_reply;
struct blx_empty;
struct blx_channel_message;
struct blx_share_request;
struct blx_share_part;
struct blx_identity;
struct blx_audit_fetch_request;
struct blx_audit_link;
struct blx_audit_part;

/* OpClusterInit: the first operation of a cluster. */
struct blx_op_cluster_init {
  size_t struct_size;
  const void *unknown;
  const char *id; /* cluster id, 16 random bytes in hexadecimal; at most 32 bytes */
  const char *name; /* its name; at most 56 bytes */
};

/* OpNodeJoin: a new node; apply gives it the next uid. */
struct blx_op_node_join {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* name, role, address, peer_address, capacity, labels, hypervisors, version */
};

/* OpNodeRegister: a known node started: what it is now. */
struct blx_op_node_register {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* uid, incarnation, addresses, capacity, hypervisors, version */
  uint64_t replaces; /* incarnation that it comes after; if that is not the last one, it comes too late. 0: any */
};

/* OpNodeVoter: a node became a voter, or stopped being one. */
struct blx_op_node_voter {
  size_t struct_size;
  const void *unknown;
  uint64_t uid; /* node */
  uint32_t voter; /* votes now */
};

/* OpConfigPut: keep a microvm.nix module under its digest. */
struct blx_op_config_put {
  size_t struct_size;
  const void *unknown;
  const char *sha256; /* digest in hexadecimal; apply checks it; at most 64 bytes */
  struct blx_bytes text; /* the module; at most 49152 bytes */
};

/* OpVmCreate: a new VM with defaults filled in. */
struct blx_op_vm_create {
  size_t struct_size;
  const void *unknown;
  struct blx_vm_spec *spec; /* its spec */
  int32_t desired; /* running or stopped (enum blx_desired) */
};

/* OpVmDesire: want a VM running or stopped. */
struct blx_op_vm_desire {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 56 bytes */
  int32_t desired; /* running or stopped (enum blx_desired) */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpVmDelete: delete a VM. */
struct blx_op_vm_delete {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 56 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpVmRestart: end the instances of a VM, or one, and start them again at once. */
struct blx_op_vm_restart {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM or instance; at most 63 bytes */
  uint64_t if_revision; /* refuse unless the VM still has this revision; 0: whatever it has */
  int32_t ending; /* how they end; None is ShutDown (enum blx_ending) */
};

/* OpVmPause: want the instances of a VM standing still, or going on. */
struct blx_op_vm_pause {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 56 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
  uint32_t paused; /* true: stand still */
};

/* OpVmKill: want a VM stopped, without asking its guests. */
struct blx_op_vm_kill {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 56 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpAssign: give an instance to a node. */
struct blx_op_assign {
  size_t struct_size;
  const void *unknown;
  uint64_t instance_uid; /* instance */
  uint64_t node_uid; /* node; feasible.h is asked again by apply */
  uint64_t expected_epoch; /* epoch that the scheduler saw; another one is a conflict */
  /* a tombstone of the same name in another tenant does not bar the node; said only where there is one */
  uint32_t by_tenant;
};

/* OpExplain: why an instance waits, as the scheduler sees it. */
struct blx_op_explain {
  size_t struct_size;
  const void *unknown;
  uint64_t instance_uid; /* instance, without a node or dead on it */
  uint64_t expected_epoch; /* epoch that the scheduler saw */
  struct blx_reason *reason; /* reason */
};

/* InstanceReport: what an agent saw of one instance. */
struct blx_instance_report {
  size_t struct_size;
  const void *unknown;
  uint64_t instance_uid; /* instance */
  uint64_t epoch; /* epoch it ran under */
  uint64_t seq; /* rises within an epoch; a lower or equal one was seen before */
  int32_t phase; /* Creating, Starting, Running, Stopping, Stopped or Failed (enum blx_phase) */
  struct blx_reason *reason; /* why */
  uint32_t dead; /* confirmed: nothing runs under this epoch, and nothing will */
  uint32_t gone; /* also its directory and everything else on the host is removed */
  int32_t exit_status; /* how its monitor ended: a status, or minus a signal */
  uint32_t has_exit_status;
  uint32_t paused; /* its virtual CPUs stand still */
  uint32_t local_data; /* it has a disk on this node */
  uint64_t era; /* era of the share that its agent went by; 0: there was no recovery */
  uint32_t data_known; /* local_data is what was found in this epoch, and not only what is known so far */
};

/* OpReport: what a node's agent saw; idempotent by (instance, epoch, seq). */
struct blx_op_report {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  struct blx_instance_report **reports; /* reports; at most 64 of them */
  size_t n_reports;
};

/* OpNodeCordon: place nothing new on a node, or allow it again. */
struct blx_op_node_cordon {
  size_t struct_size;
  const void *unknown;
  const char *name; /* node; at most 63 bytes */
  uint32_t cordoned; /* true: nothing new */
  const char *reason; /* why, of a cordon; at most 256 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpVmDeleteForce: delete a VM; what is on silent nodes leaves a tombstone. */
struct blx_op_vm_delete_force {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 56 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
  uint64_t *silent_nodes; /* uids of nodes that the leader does not hear from; at most 1000 of them */
  size_t n_silent_nodes;
};

/* OpNodeLabel: change the labels that users set on a node. */
struct blx_op_node_label {
  size_t struct_size;
  const void *unknown;
  const char *name; /* node; at most 63 bytes */
  struct blx_label **set; /* to set; at most 64 of them */
  size_t n_set;
  struct blx_label **unset; /* to take away, by key; at most 64 of them */
  size_t n_unset;
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpSettingsSet: change what holds for the whole cluster. */
struct blx_op_settings_set {
  size_t struct_size;
  const void *unknown;
  struct blx_lease_settings *lease; /* leases; absent: as they are */
  const char *nixpkgs_ref; /* with set_nixpkgs; at most 512 bytes */
  const char *microvm_ref; /* with set_microvm; at most 512 bytes */
  uint32_t set_nixpkgs; /* take over nixpkgs_ref */
  uint32_t set_microvm; /* take over microvm_ref */
  uint64_t if_revision; /* refuse unless they still have this revision; 0: whatever they have */
  struct blx_placement_settings *placement; /* placement, all of it; absent: as it is */
};

/* OpFenceBegin: give an incarnation of a node no lease any more; epochs of what must not run there rise. */
struct blx_op_fence_begin {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t incarnation; /* the one that was silent; another one came meanwhile: a conflict */
  const char *reason; /* why; at most 256 bytes */
  uint32_t by_operator; /* an operator asked: instances with ha=manual too */
};

/* OpFenceDone: it is proved that nothing runs under that node's old epochs. */
struct blx_op_fence_done {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t incarnation; /* as in op_fence_begin */
  const char *proof; /* the proof; at most 512 bytes */
  uint32_t whole; /* it holds for all that may run there, known or not: the machine is off */
  uint32_t word; /* it is an operator's word, and void if the node came back meanwhile */
};

/* OpNodeReturn: a fenced node is there again, in a new incarnation, and runs nothing under epochs that are over. */
struct blx_op_node_return {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* as in op_node_register */
};

/* OpHaDisarm: fence no node for a while, or do so again. */
struct blx_op_ha_disarm {
  size_t struct_size;
  const void *unknown;
  uint64_t for_ms; /* how long; 0: arm again at once; 0..86400000 */
  const char *reason; /* why; at most 256 bytes */
};

/* OpNodeFenceCommand: how a node is powered off. */
struct blx_op_node_fence_command {
  size_t struct_size;
  const void *unknown;
  const char *name; /* node; at most 63 bytes */
  const char *command; /* program with arguments; empty: none; at most 1024 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpNodeRemove: forget a node that holds nothing and does not vote. */
struct blx_op_node_remove {
  size_t struct_size;
  const void *unknown;
  const char *name; /* node; at most 63 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpRecover: the cluster goes on with one server: all others that joined so far are gone. */
struct blx_op_recover {
  size_t struct_size;
  const void *unknown;
  uint64_t survivor_uid; /* it */
  uint64_t below; /* servers with lower uids are gone, but for it */
};

/* OpVmScale: want another number of replicas. */
struct blx_op_vm_scale {
  size_t struct_size;
  const void *unknown;
  const char *name; /* VM; at most 63 bytes */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
  uint32_t replicas; /* so many; 0..1000 */
};

/* OpNodeTaint: change the taints of a node. */
struct blx_op_node_taint {
  size_t struct_size;
  const void *unknown;
  const char *name; /* node; at most 63 bytes */
  struct blx_taint **set; /* to set, each in place of the one with its key and effect; at most 16 of them */
  size_t n_set;
  struct blx_taint **unset; /* to take away, by key, whatever their effect; at most 16 of them */
  size_t n_unset;
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* OpQuotaSet: say what a tenant may have. */
struct blx_op_quota_set {
  size_t struct_size;
  const void *unknown;
  struct blx_quota *quota; /* all of it */
  uint32_t remove; /* instead: no limits any more */
  uint64_t if_revision; /* refuse unless it still has this revision; 0: whatever it has */
};

/* PreemptVictim: an instance that ends for another one. */
struct blx_preempt_victim {
  size_t struct_size;
  const void *unknown;
  uint64_t uid; /* it */
  uint64_t epoch; /* in this epoch */
};

/* OpPreempt: end instances of lower priority on a node, to make room. */
struct blx_op_preempt {
  size_t struct_size;
  const void *unknown;
  uint64_t instance_uid; /* for this one, which waits */
  uint64_t expected_epoch; /* its epoch */
  uint64_t node_uid; /* there */
  struct blx_preempt_victim **victims; /* those, all of which must go; at most 64 of them */
  size_t n_victims;
  uint32_t by_tenant; /* as in op_assign */
};

/* OpRegroup: as op_recover, and a part of the log may be lost: a new era begins, above all that it can have given. */
struct blx_op_regroup {
  size_t struct_size;
  const void *unknown;
  uint64_t survivor_uid; /* the server that goes on */
  uint64_t below; /* servers with lower uids are gone, but for it; so are those that the lost part let join */
};

/* OpNodeClear: after a recovery: nothing runs on a node but what the present share of it says. */
struct blx_op_node_clear {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t incarnation; /* of its agent that says so */
  uint64_t era; /* of that share */
};

/* Op: one operation of the log: exactly one of the fields from 10 on is set. */
struct blx_op {
  size_t struct_size;
  const void *unknown;
  const char *request_id; /* idempotency key; empty: none; at most 64 bytes */
  struct blx_bytes request_digest; /* SHA-256 of the request under that key; at most 32 bytes */
  const char *principal; /* who asked; at most 128 bytes */
  const char *tenant; /* tenant; at most 56 bytes */
  const char *reason; /* why, in the words of who asked; kept in the audit log; at most 256 bytes */
  const char *source; /* from where it was asked; empty: it leaves no record in the audit log; at most 128 bytes */
  struct blx_op_cluster_init *cluster_init;
  struct blx_op_node_join *node_join;
  struct blx_op_node_register *node_register;
  struct blx_op_node_voter *node_voter;
  struct blx_op_config_put *config_put;
  struct blx_op_vm_create *vm_create;
  struct blx_op_vm_desire *vm_desire;
  struct blx_op_vm_delete *vm_delete;
  struct blx_op_assign *assign;
  struct blx_op_explain *explain;
  struct blx_op_report *report;
  struct blx_op_node_cordon *node_cordon;
  struct blx_op_vm_restart *vm_restart;
  struct blx_op_vm_pause *vm_pause;
  struct blx_op_vm_delete_force *vm_delete_force;
  struct blx_op_node_label *node_label;
  struct blx_op_vm_kill *vm_kill;
  struct blx_op_settings_set *settings_set;
  struct blx_op_fence_begin *fence_begin;
  struct blx_op_fence_done *fence_done;
  struct blx_op_node_return *node_return;
  struct blx_op_ha_disarm *ha_disarm;
  struct blx_op_node_fence_command *node_fence_command;
  struct blx_op_node_remove *node_remove;
  struct blx_op_recover *recover;
  struct blx_op_regroup *regroup;
  struct blx_op_node_clear *node_clear;
  struct blx_op_vm_scale *vm_scale;
  struct blx_op_node_taint *node_taint;
  struct blx_op_quota_set *quota_set;
  struct blx_op_preempt *preempt;
};

/* OpResult: what apply says of one operation. */
struct blx_op_result {
  size_t struct_size;
  const void *unknown;
  int32_t code; /* 0 or BLX_E_* */
  const char *message; /* one sentence when it was refused; at most 511 bytes */
  uint64_t uid; /* uid of the object it made or changed */
  uint64_t index; /* index it was applied at; of the first time, under a repeated key */
  uint64_t *stale_instances; /* of a report: instances whose epoch is over: kill them; at most 64 of them */
  size_t n_stale_instances;
};

/* Config: a microvm.nix module. */
struct blx_config {
  size_t struct_size;
  const void *unknown;
  const char *sha256; /* digest in hexadecimal; at most 64 bytes */
  struct blx_bytes text; /* the module; at most 49152 bytes */
  uint64_t revision; /* index at which it came */
};

/* Idempotency: an answer kept for a repeated request. */
struct blx_idempotency {
  size_t struct_size;
  const void *unknown;
  const char *key; /* tenant/request_id; at most 130 bytes */
  struct blx_bytes digest; /* of the request; at most 32 bytes */
  uint64_t time_ms; /* cluster time of the first */
  struct blx_op_result *result; /* what it was told */
};

/* SnapshotHead: first record of a snapshot. */
struct blx_snapshot_head {
  size_t struct_size;
  const void *unknown;
  uint32_t format; /* 1 */
  const char *cluster_id; /* cluster; at most 32 bytes */
  const char *cluster_name; /* its name; at most 56 bytes */
  uint64_t index; /* last index applied */
  uint64_t time_ms; /* cluster time */
  uint64_t next_uid; /* counter of VM and instance uids */
  uint64_t next_node_uid; /* counter of node uids */
  uint64_t audit_seq; /* records of the audit log so far */
  struct blx_bytes audit_head; /* hash of the last of them; at most 32 bytes */
};

/* RecoverMark: the cluster went on with one server, the last time that it did. */
struct blx_recover_mark {
  size_t struct_size;
  const void *unknown;
  uint64_t survivor_uid; /* it */
  uint64_t below; /* servers with lower uids are gone, but for it */
  uint64_t index; /* index at which this was noted */
  uint64_t era; /* since then, and the lowest epoch that is given; 0: of before there were eras */
  uint64_t uids_from; /* instances with lower uids may run unknown to the cluster */
  uint64_t nodes_from; /* on nodes with lower uids */
};

/* SnapshotRecord: one record of a snapshot. */
struct blx_snapshot_record {
  size_t struct_size;
  const void *unknown;
  struct blx_snapshot_head *head;
  struct blx_node_info *node;
  struct blx_vm *vm;
  struct blx_instance *instance;
  struct blx_config *config;
  struct blx_idempotency *idempotency;
  struct blx_tombstone *tombstone;
  struct blx_settings *settings;
  struct blx_quota *quota;
  struct blx_recover_mark *recover_mark;
};

/* Assignment: self-contained record for an agent: what this node shall do about one instance. */
struct blx_assignment {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* name; at most 63 bytes */
  uint64_t instance_uid; /* uid */
  uint64_t epoch; /* epoch */
  struct blx_vm_spec *spec; /* pinned spec */
  int32_t desired; /* run it or stop it (enum blx_desired) */
  uint32_t remove; /* stop it and remove everything */
  struct blx_bytes config; /* text of the module that the spec names by digest; at most 49152 bytes */
  uint32_t dead; /* the cluster knows it dead in this epoch: do not start it */
  int32_t ending; /* end it in this epoch, whatever is desired (enum blx_ending) */
  uint32_t paused; /* let it stand still once it runs */
  uint32_t tell; /* the cluster has no word of it in this epoch: report how it is */
  /* with config: flake of nixpkgs that it is built with; empty: the daemon's own; at most 512 bytes */
  const char *nixpkgs_ref;
  const char *microvm_ref; /* with config: flake of microvm.nix, likewise; at most 512 bytes */
  uint32_t held; /* it may run elsewhere, unknown to the cluster: what runs goes on, but do not start it */
  const char *tenant; /* tenant; empty: of a server that does not say it yet; at most 56 bytes */
};

/* JournalEntry: what an agent remembers of one instance across its own restarts. */
struct blx_journal_entry {
  size_t struct_size;
  const void *unknown;
  const char *instance; /* name; at most 63 bytes */
  uint64_t instance_uid; /* uid */
  uint64_t epoch; /* epoch */
  uint32_t state; /* the agent's state for it */
  uint64_t seq; /* last report sequence used */
  struct blx_vm_spec *spec; /* pinned spec */
  int32_t exit_status; /* how its monitor ended */
  uint32_t has_exit_status;
  struct blx_reason *reason; /* last reason */
  const char *tenant; /* its tenant; empty: not known; at most 56 bytes */
};

/* MemberJoinRequest: a daemon outside asks to be a node of this cluster. */
struct blx_member_join_request {
  size_t struct_size;
  const void *unknown;
  struct blx_node_info *node; /* as in op_node_join, with its role */
  const char *request_id; /* idempotency key; at most 64 bytes */
};

/* MemberJoinReply: what the new node must know to start. */
struct blx_member_join_reply {
  size_t struct_size;
  const void *unknown;
  const char *cluster_id; /* cluster; at most 32 bytes */
  uint64_t uid; /* its uid */
  struct blx_node_info **members; /* the servers with their addresses; at most 5000 of them */
  size_t n_members;
  const char *cluster_name; /* its name; at most 56 bytes */
};

/* MemberInviteRequest: a member asks a daemon outside to join. */
struct blx_member_invite_request {
  size_t struct_size;
  const void *unknown;
  const char *node_id; /* name it shall take; empty: its own; at most 63 bytes */
  const char *address; /* API address of the member; 1..256 bytes */
  int32_t role; /* what it becomes (enum blx_node_role) */
};

/* MemberReadyRequest: the new node's consensus runs: make it a voter. */
struct blx_member_ready_request {
  size_t struct_size;
  const void *unknown;
  uint64_t uid; /* node */
};

/* ReportRequest: an agent's report; an empty one says: I live. */
struct blx_report_request {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t incarnation; /* incarnation */
  struct blx_instance_report **reports; /* reports; at most 64 of them */
  size_t n_reports;
  struct blx_node_info *registration; /* at the start of an agent: what the node is now */
  uint64_t wall_ms; /* what the clock on its wall says, ms since 1970; 0: it does not say */
  uint64_t replaces; /* with a registration: as in op_node_register */
  uint64_t clear_era; /* unless 0: as in op_node_clear */
};

/* LeaseAsk: a node asks for its lease again, and says that it lives. */
struct blx_lease_ask {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t incarnation; /* of its agent */
  uint64_t seq; /* of this question; the answer repeats it */
  uint64_t wall_ms; /* what the clock on its wall says, ms since 1970; 0: it does not say */
  uint32_t load_cpu_permille; /* of its processors, in use; absent: not known; 0..1000 */
  uint32_t has_load_cpu_permille;
  uint64_t load_memory_mib; /* of its memory, likewise */
  uint32_t has_load_memory_mib;
  struct blx_data_item **stored; /* data that it has, with stored_now; at most 256 of them */
  size_t n_stored;
  uint32_t stored_now; /* stored is the whole of what it has; else it is as it last said */
};

/* LeaseAnswer: what becomes of a lease. */
enum blx_lease_answer {
  BLX_LEASE_ANSWER_GRANTED = 0, /* granted: it lasts for lease_ms from when its node asked */
  BLX_LEASE_ANSWER_FENCED = 1, /* fenced: this incarnation gets none any more: end what ran under it, and come back as a new one */
  BLX_LEASE_ANSWER_UNKNOWN = 2, /* unknown: the cluster does not know this incarnation: register */
  BLX_LEASE_ANSWER_LATER = 3, /* later: not now, without a reason of the node's: ask again */
  BLX_LEASE_ANSWER_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* LeaseGrant: the answer to one question. */
struct blx_lease_grant {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* node */
  uint64_t seq; /* of the question */
  int32_t answer; /* what becomes of it (enum blx_lease_answer) */
  uint64_t lease_ms; /* from when its node asked; longer than the setting while fencing is disarmed */
  struct blx_lease_settings *settings; /* what holds now */
};

/* RenewRequest: questions of one or many nodes, together; confirmed without a log entry. */
struct blx_renew_request {
  size_t struct_size;
  const void *unknown;
  struct blx_lease_ask **asks; /* at most one a node; at most 5000 of them */
  size_t n_asks;
};

/* RenewReply: their answers. */
struct blx_renew_reply {
  size_t struct_size;
  const void *unknown;
  struct blx_lease_grant **grants; /* in any order; one that is missing: as LATER; at most 5000 of them */
  size_t n_grants;
};

/* Empty: nothing. */
struct blx_empty {
  size_t struct_size;
  const void *unknown;
};

/* ChannelMessage: from one member to another: first who speaks, then what consensus has to say. */
struct blx_channel_message {
  size_t struct_size;
  const void *unknown;
  const char *cluster_id; /* in the first only: cluster of who speaks; at most 32 bytes */
  uint64_t from_uid; /* in the first only: who speaks */
  uint64_t to_uid; /* in the first only: to whom */
  struct blx_bytes data; /* a message of consensus, or a piece of one; at most 262144 bytes */
  uint32_t more; /* the next piece goes on with it */
  const char *address; /* in the first only: where who speaks answers: unix:PATH; at most 256 bytes */
};

/* ShareRequest: a worker asks for its share, and for what changes in it from then on. */
struct blx_share_request {
  size_t struct_size;
  const void *unknown;
  uint64_t node_uid; /* the worker */
  uint64_t incarnation; /* of its agent */
  uint64_t index; /* index of the share that it has; 0: none */
  uint64_t era; /* of that index; of another era than the server's it counts as none */
};

/* SharePart: what is new in a worker's share, or a part of that. */
struct blx_share_part {
  size_t struct_size;
  const void *unknown;
  uint64_t index; /* index at which the worker has it all, in a part without more */
  uint32_t whole; /* the first part of a whole share: what the worker has is void */
  uint32_t more; /* another part follows */
  uint32_t known; /* the cluster knows this incarnation; else the rest is empty: register */
  struct blx_assignment **assignments; /* new ones, each in place of the one of its instance; at most 64 of them */
  size_t n_assignments;
  uint64_t *left; /* uids of instances that are no longer in the share; at most 4096 of them */
  size_t n_left;
  /* if there are any: all servers that vote, with uid, name and address; at most 64 of them */
  struct blx_node_info **servers;
  size_t n_servers;
  uint64_t leader; /* uid of the leader as this server knows it; 0: none */
  uint64_t incarnation; /* unless known: the one that the cluster knows of this node; 0: none */
  uint64_t era; /* that begins with each recovery, of the index; 0: there was none */
  uint32_t unclear; /* say when nothing runs on this node but what its share says */
};

/* Standing: how far a data directory came into its cluster. */
enum blx_standing {
  BLX_STANDING_FOUNDING = 0, /* founding: it makes the cluster; its log may not exist yet */
  BLX_STANDING_JOINING = 1, /* joining: it was given a uid; its log may not exist yet */
  BLX_STANDING_MEMBER = 2, /* member: its log exists: one that is missing is a loss, never a fresh start */
  BLX_STANDING_LEFT = 3, /* left: it left its cluster, or was removed: it is no node of it any more */
  BLX_STANDING_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Identity: which node of which cluster a data directory is. */
struct blx_identity {
  size_t struct_size;
  const void *unknown;
  const char *cluster_id; /* cluster; at most 32 bytes */
  const char *cluster_name; /* its name; at most 56 bytes */
  uint64_t uid; /* node uid */
  const char *name; /* node name; at most 63 bytes */
  struct blx_node_info **peers; /* last known addresses of the servers; at most 5000 of them */
  size_t n_peers;
  int32_t standing; /* how far it came (enum blx_standing) */
  int32_t role; /* what it joined as (enum blx_node_role) */
};

/* AuditFetchRequest: records of the audit log that a member lacks, from the newest down. */
struct blx_audit_fetch_request {
  size_t struct_size;
  const void *unknown;
  uint64_t upto_seq; /* the newest of them */
  uint32_t limit; /* so many at most; 0..1000 */
};

/* AuditLink: a record of the audit log as it is hashed: hash is SHA-256 of prev and record. */
struct blx_audit_link {
  size_t struct_size;
  const void *unknown;
  struct blx_bytes prev; /* hash of the record before; at most 32 bytes */
  struct blx_bytes record; /* an audit_record without its message; at most 4096 bytes */
  const char *message; /* its message, which is not hashed; at most 511 bytes */
};

/* AuditPart: records of the audit log, each the one before the last. */
struct blx_audit_part {
  size_t struct_size;
  const void *unknown;
  /* from upto_seq down; none: this member does not have that one; at most 1000 of them */
  struct blx_audit_link **links;
  size_t n_links;
  uint64_t last_seq; /* the newest that it knows of */
};

#define BLX_OP_CLUSTER_INIT_INIT BLX_INIT_(struct blx_op_cluster_init)
#define BLX_OP_NODE_JOIN_INIT BLX_INIT_(struct blx_op_node_join)
#define BLX_OP_NODE_REGISTER_INIT BLX_INIT_(struct blx_op_node_register)
#define BLX_OP_NODE_VOTER_INIT BLX_INIT_(struct blx_op_node_voter)
#define BLX_OP_CONFIG_PUT_INIT BLX_INIT_(struct blx_op_config_put)
#define BLX_OP_VM_CREATE_INIT BLX_INIT_(struct blx_op_vm_create)
#define BLX_OP_VM_DESIRE_INIT BLX_INIT_(struct blx_op_vm_desire)
#define BLX_OP_VM_DELETE_INIT BLX_INIT_(struct blx_op_vm_delete)
#define BLX_OP_VM_RESTART_INIT BLX_INIT_(struct blx_op_vm_restart)
#define BLX_OP_VM_PAUSE_INIT BLX_INIT_(struct blx_op_vm_pause)
#define BLX_OP_VM_KILL_INIT BLX_INIT_(struct blx_op_vm_kill)
#define BLX_OP_ASSIGN_INIT BLX_INIT_(struct blx_op_assign)
#define BLX_OP_EXPLAIN_INIT BLX_INIT_(struct blx_op_explain)
#define BLX_INSTANCE_REPORT_INIT BLX_INIT_(struct blx_instance_report)
#define BLX_OP_REPORT_INIT BLX_INIT_(struct blx_op_report)
#define BLX_OP_NODE_CORDON_INIT BLX_INIT_(struct blx_op_node_cordon)
#define BLX_OP_VM_DELETE_FORCE_INIT BLX_INIT_(struct blx_op_vm_delete_force)
#define BLX_OP_NODE_LABEL_INIT BLX_INIT_(struct blx_op_node_label)
#define BLX_OP_SETTINGS_SET_INIT BLX_INIT_(struct blx_op_settings_set)
#define BLX_OP_FENCE_BEGIN_INIT BLX_INIT_(struct blx_op_fence_begin)
#define BLX_OP_FENCE_DONE_INIT BLX_INIT_(struct blx_op_fence_done)
#define BLX_OP_NODE_RETURN_INIT BLX_INIT_(struct blx_op_node_return)
#define BLX_OP_HA_DISARM_INIT BLX_INIT_(struct blx_op_ha_disarm)
#define BLX_OP_NODE_FENCE_COMMAND_INIT BLX_INIT_(struct blx_op_node_fence_command)
#define BLX_OP_NODE_REMOVE_INIT BLX_INIT_(struct blx_op_node_remove)
#define BLX_OP_RECOVER_INIT BLX_INIT_(struct blx_op_recover)
#define BLX_OP_VM_SCALE_INIT BLX_INIT_(struct blx_op_vm_scale)
#define BLX_OP_NODE_TAINT_INIT BLX_INIT_(struct blx_op_node_taint)
#define BLX_OP_QUOTA_SET_INIT BLX_INIT_(struct blx_op_quota_set)
#define BLX_PREEMPT_VICTIM_INIT BLX_INIT_(struct blx_preempt_victim)
#define BLX_OP_PREEMPT_INIT BLX_INIT_(struct blx_op_preempt)
#define BLX_OP_REGROUP_INIT BLX_INIT_(struct blx_op_regroup)
#define BLX_OP_NODE_CLEAR_INIT BLX_INIT_(struct blx_op_node_clear)
#define BLX_OP_INIT BLX_INIT_(struct blx_op)
#define BLX_OP_RESULT_INIT BLX_INIT_(struct blx_op_result)
#define BLX_CONFIG_INIT BLX_INIT_(struct blx_config)
#define BLX_IDEMPOTENCY_INIT BLX_INIT_(struct blx_idempotency)
#define BLX_SNAPSHOT_HEAD_INIT BLX_INIT_(struct blx_snapshot_head)
#define BLX_RECOVER_MARK_INIT BLX_INIT_(struct blx_recover_mark)
#define BLX_SNAPSHOT_RECORD_INIT BLX_INIT_(struct blx_snapshot_record)
#define BLX_ASSIGNMENT_INIT BLX_INIT_(struct blx_assignment)
#define BLX_JOURNAL_ENTRY_INIT BLX_INIT_(struct blx_journal_entry)
#define BLX_MEMBER_JOIN_REQUEST_INIT BLX_INIT_(struct blx_member_join_request)
#define BLX_MEMBER_JOIN_REPLY_INIT BLX_INIT_(struct blx_member_join_reply)
#define BLX_MEMBER_INVITE_REQUEST_INIT BLX_INIT_(struct blx_member_invite_request)
#define BLX_MEMBER_READY_REQUEST_INIT BLX_INIT_(struct blx_member_ready_request)
#define BLX_REPORT_REQUEST_INIT BLX_INIT_(struct blx_report_request)
#define BLX_LEASE_ASK_INIT BLX_INIT_(struct blx_lease_ask)
#define BLX_LEASE_GRANT_INIT BLX_INIT_(struct blx_lease_grant)
#define BLX_RENEW_REQUEST_INIT BLX_INIT_(struct blx_renew_request)
#define BLX_RENEW_REPLY_INIT BLX_INIT_(struct blx_renew_reply)
#define BLX_EMPTY_INIT BLX_INIT_(struct blx_empty)
#define BLX_CHANNEL_MESSAGE_INIT BLX_INIT_(struct blx_channel_message)
#define BLX_SHARE_REQUEST_INIT BLX_INIT_(struct blx_share_request)
#define BLX_SHARE_PART_INIT BLX_INIT_(struct blx_share_part)
#define BLX_IDENTITY_INIT BLX_INIT_(struct blx_identity)
#define BLX_AUDIT_FETCH_REQUEST_INIT BLX_INIT_(struct blx_audit_fetch_request)
#define BLX_AUDIT_LINK_INIT BLX_INIT_(struct blx_audit_link)
#define BLX_AUDIT_PART_INIT BLX_INIT_(struct blx_audit_part)

#endif
