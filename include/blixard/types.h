/* The objects of a cluster. Made by schemagen; change the table and run `make schema` (lib/schema/types.def).
 *
 * Every struct begins with struct_size: start from its BLX_X_INIT or blx_X_init(), or from zeroes with struct_size set
 * to its size.
 * What lies beyond struct_size counts as zero, so a program built with an older header goes on working; a larger
 * struct whose tail is not zero is refused with BLX_E_UNSUPPORTED. `unknown` belongs to the library: fields that a
 * newer version sent; leave it NULL. Text is UTF-8, terminated, NULL meaning empty. A NULL pointer to a struct means
 * absent. has_x tells whether x is given; n_x is the number of elements of x; arrays of structs are arrays of
 * pointers. An enum is kept in an int32_t. Structs you fill stay yours; structs you are given you free. Since 0.1. */
/* clang-format off */
#ifndef BLIXARD_TYPES_H
#define BLIXARD_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
#define BLX_INIT_(type) {sizeof(type)}
#else
#define BLX_INIT_(type) {.struct_size = sizeof(type)}
#endif

/* In the header, since it must fill the struct that the program was built with. */
#define BLX_INIT_FN_(name) \
  static inline void blx_##name##_init(struct blx_##name *object) { \
    memset(object, 0, sizeof *object); \
    object->struct_size = sizeof *object; \
  }

/* A run of bytes; data may be NULL when len is 0. */
struct blx_bytes {
  const uint8_t *data;
  size_t len;
};

struct blx_reason;
struct blx_label;
struct blx_amount;
struct blx_resources;
struct blx_node_match;
struct blx_taint;
struct blx_toleration;
struct blx_vm_affinity;
struct blx_vm_spread;
struct blx_strategy_weight;
struct blx_near;
struct blx_data_item;
struct blx_vm_spec;
struct blx_instance;
struct blx_vm;
struct blx_node_info;
struct blx_quota;
struct blx_lease_settings;
struct blx_overcommit;
struct blx_distance;
struct blx_placement_settings;
struct blx_settings;
struct blx_event;
struct blx_tombstone;
struct blx_recover_server;
struct blx_recover_member;
struct blx_recover_plan;
struct blx_backup_info;
struct blx_audit_record;
struct blx_audit_cut;

/* Phase: where an instance is in its life. */
enum blx_phase {
  BLX_PHASE_PENDING = 0, /* Pending: waits for a node, or for its next start */
  BLX_PHASE_CREATING = 1, /* Creating: its node builds the runner and makes its directories */
  BLX_PHASE_STARTING = 2, /* Starting: the virtual machine monitor runs, the guest has not said ready */
  BLX_PHASE_RUNNING = 3, /* Running: the guest said ready */
  BLX_PHASE_MIGRATING = 4, /* Migrating: moves between nodes */
  BLX_PHASE_STOPPING = 5, /* Stopping: was asked to shut down */
  BLX_PHASE_STOPPED = 6, /* Stopped: does not run, and should not */
  BLX_PHASE_FAILED = 7, /* Failed: does not run though it should; the reason says what happens next */
  BLX_PHASE_UNREACHABLE = 8, /* Unreachable: its node has not been heard from */
  BLX_PHASE_DELETING = 9, /* Deleting: is being removed; the name is free when the node confirmed */
  BLX_PHASE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Desired: what the user wants of a VM. */
enum blx_desired {
  BLX_DESIRED_RUNNING = 0, /* Running: all its instances run */
  BLX_DESIRED_STOPPED = 1, /* Stopped: none runs; definitions and disks stay */
  BLX_DESIRED_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* RestartPolicy: what happens when a guest ends by itself. */
enum blx_restart_policy {
  BLX_RESTART_POLICY_ALWAYS = 0, /* always: start it again, whatever the exit */
  BLX_RESTART_POLICY_ON_FAILURE = 1, /* on_failure: start it again unless it powered itself off */
  BLX_RESTART_POLICY_NEVER = 2, /* never: leave it */
  BLX_RESTART_POLICY_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Ending: whether an instance shall end in its epoch, though its VM may be wanted. */
enum blx_ending {
  BLX_ENDING_NONE = 0, /* None: it need not */
  BLX_ENDING_SHUT_DOWN = 1, /* ShutDown: its guest is asked to shut down, and killed at the deadline */
  BLX_ENDING_KILL = 2, /* Kill: it is killed at once */
  BLX_ENDING_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Hypervisor: virtual machine monitors that microvm.nix knows. */
enum blx_hypervisor {
  BLX_HYPERVISOR_QEMU = 0, /* qemu: QEMU */
  BLX_HYPERVISOR_CLOUD_HYPERVISOR = 1, /* cloud_hypervisor: Cloud Hypervisor */
  BLX_HYPERVISOR_FIRECRACKER = 2, /* firecracker: Firecracker */
  BLX_HYPERVISOR_CROSVM = 3, /* crosvm: crosvm */
  BLX_HYPERVISOR_KVMTOOL = 4, /* kvmtool: kvmtool */
  BLX_HYPERVISOR_STRATOVIRT = 5, /* stratovirt: StratoVirt */
  BLX_HYPERVISOR_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* HaPolicy: whether an instance starts elsewhere when its node is gone. */
enum blx_ha_policy {
  BLX_HA_POLICY_OFF = 0, /* off: no: it stays with its node, and runs on while that is cut off */
  BLX_HA_POLICY_MANUAL = 1, /* manual: once an operator has the node fenced; it runs under its node's lease */
  BLX_HA_POLICY_AUTO = 2, /* auto: as soon as the node is proved dead; it runs under its node's lease, on nodes that can end it in time */
  BLX_HA_POLICY_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Fence: whether a node was cut off, as the log says. */
enum blx_fence {
  BLX_FENCE_NONE = 0, /* none: it was not */
  BLX_FENCE_BEGUN = 1, /* begun: its incarnation gets no lease any more */
  BLX_FENCE_DONE = 2, /* done: it is proved to run no highly available instance */
  BLX_FENCE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Strategy: how a node is chosen among those that can take an instance. */
enum blx_strategy {
  BLX_STRATEGY_BEST_FIT = 0, /* BestFit: fill the fullest node that still has room */
  BLX_STRATEGY_LOAD_BALANCED = 1, /* LoadBalanced: take the emptiest node */
  BLX_STRATEGY_DATA_LOCALITY = 2, /* DataLocality: take the node that has to fetch the fewest bytes of spec.data */
  BLX_STRATEGY_NETWORK_PROXIMITY = 3, /* NetworkProximity: take the node nearest to what spec.near names */
  BLX_STRATEGY_COMBINED = 4, /* Combined: several of them, weighted by spec.strategies */
  BLX_STRATEGY_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* MatchOp: how a label is compared. */
enum blx_match_op {
  BLX_MATCH_OP_IN = 0, /* In: it is there, with one of the values */
  BLX_MATCH_OP_NOT_IN = 1, /* NotIn: it is not there, or has none of the values */
  BLX_MATCH_OP_EXISTS = 2, /* Exists: it is there */
  BLX_MATCH_OP_NOT_EXISTS = 3, /* NotExists: it is not there */
  BLX_MATCH_OP_GREATER = 4, /* Greater: it is a whole number above the first value */
  BLX_MATCH_OP_LESS = 5, /* Less: it is a whole number below the first value */
  BLX_MATCH_OP_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* TaintEffect: what a taint keeps away. */
enum blx_taint_effect {
  BLX_TAINT_EFFECT_NO_PLACE = 0, /* NoPlace: nothing that does not tolerate it is placed there */
  BLX_TAINT_EFFECT_AVOID = 1, /* Avoid: such instances are placed there only if no other node can take them */
  BLX_TAINT_EFFECT_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* ObstacleCode: why a node cannot take an instance. */
enum blx_obstacle_code {
  BLX_OBSTACLE_CODE_HYPERVISOR = 0, /* Hypervisor: it cannot run its monitor */
  BLX_OBSTACLE_CODE_CPU_FEATURE = 1, /* CpuFeature: its processors lack a feature */
  BLX_OBSTACLE_CODE_LABEL = 2, /* Label: a label or condition that is demanded of it does not hold */
  BLX_OBSTACLE_CODE_TENANT = 3, /* Tenant: it is not one of the tenant's nodes */
  BLX_OBSTACLE_CODE_TAINT = 4, /* Taint: it has a taint that is not tolerated */
  BLX_OBSTACLE_CODE_HA = 5, /* Ha: nothing would end or reset the instance there in time */
  BLX_OBSTACLE_CODE_FENCED = 6, /* Fenced: it is cut off */
  BLX_OBSTACLE_CODE_CORDONED = 7, /* Cordoned: it is cordoned */
  BLX_OBSTACLE_CODE_SILENT = 8, /* Silent: it has not been heard from */
  BLX_OBSTACLE_CODE_BARRED = 9, /* Barred: it has not confirmed that an earlier instance of that name is gone */
  BLX_OBSTACLE_CODE_AFFINITY = 10, /* Affinity: no VM is in its domain that the instance must be near */
  BLX_OBSTACLE_CODE_ANTI_AFFINITY = 11, /* AntiAffinity: a VM is in its domain that the instance must not be near, or that wants no such instance near */
  BLX_OBSTACLE_CODE_DOMAIN_FULL = 12, /* DomainFull: its domain has as many replicas of the VM as it may */
  BLX_OBSTACLE_CODE_NODE_QUOTA = 13, /* NodeQuota: the tenant has as much on it as it may have on one node */
  BLX_OBSTACLE_CODE_SURVIVE = 14, /* Survive: what is kept free for the loss of nodes would not be free any more */
  BLX_OBSTACLE_CODE_RESOURCE = 15, /* Resource: it lacks, or does not reach, a named resource */
  BLX_OBSTACLE_CODE_ROOM = 16, /* Room: processors or memory are short */
  BLX_OBSTACLE_CODE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* NodeStatus: what the leader knows of a node; soft, never replicated. */
enum blx_node_status {
  BLX_NODE_STATUS_UNKNOWN = 0, /* Unknown: the leader is new and has not heard from it yet */
  BLX_NODE_STATUS_READY = 1, /* Ready: heard from within the settings' lease.suspect_ms */
  BLX_NODE_STATUS_SUSPECT = 2, /* Suspect: not heard from for the settings' lease.suspect_ms or longer: nothing is placed there */
  BLX_NODE_STATUS_FENCING = 3, /* Fencing: cut off: its leases have ended or end, and nothing of it starts elsewhere before that is proved */
  BLX_NODE_STATUS_FENCED = 4, /* Fenced: proved to run no highly available instance; they start elsewhere */
  BLX_NODE_STATUS_CLEAN = 5, /* Clean: fenced, and no instance is its any more: it may come back or be removed */
  BLX_NODE_STATUS_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* ReasonCode: why something is where it is. */
enum blx_reason_code {
  BLX_REASON_CODE_NONE = 0, /* None: nothing to say */
  BLX_REASON_CODE_UNPLACED = 1, /* Unplaced: waits for the scheduler */
  BLX_REASON_CODE_NO_ROOM = 2, /* NoRoom: no node can take it; the text says what is missing */
  BLX_REASON_CODE_BUILDING = 3, /* Building: its runner is being built */
  BLX_REASON_CODE_BUILD_FAILED = 4, /* BuildFailed: its runner could not be built; the text has the end of the log */
  BLX_REASON_CODE_BOOTING = 5, /* Booting: the guest has not said ready */
  BLX_REASON_CODE_START_FAILED = 6, /* StartFailed: the virtual machine monitor could not be started */
  BLX_REASON_CODE_EXITED = 7, /* Exited: the guest powered itself off */
  BLX_REASON_CODE_CRASHED = 8, /* Crashed: the virtual machine monitor ended with an error or a signal */
  BLX_REASON_CODE_BACK_OFF = 9, /* BackOff: waits before it is started again */
  BLX_REASON_CODE_NODE_SILENT = 10, /* NodeSilent: its node has not been heard from */
  BLX_REASON_CODE_STOPPED_BY_USER = 11, /* StoppedByUser: was stopped on request */
  BLX_REASON_CODE_POLICY_NEVER = 12, /* PolicyNever: its restart policy leaves it where it is */
  BLX_REASON_CODE_DELETE_REQUESTED = 13, /* DeleteRequested: was deleted; its node has not confirmed yet */
  BLX_REASON_CODE_VMM_PROTOCOL = 14, /* VmmProtocol: the virtual machine monitor answered something it should not */
  BLX_REASON_CODE_NODE_RESTARTED = 15, /* NodeRestarted: its node came back and it was not running there any more */
  BLX_REASON_CODE_PAUSED = 16, /* Paused: stands still on request, in memory */
  BLX_REASON_CODE_PAUSE_FAILED = 17, /* PauseFailed: its monitor could not be paused or resumed */
  BLX_REASON_CODE_RESTART_REQUESTED = 18, /* RestartRequested: ends, to be started again as was asked */
  BLX_REASON_CODE_WAITS_FOR_START = 19, /* WaitsForStart: a VM that it depends on does not run yet */
  BLX_REASON_CODE_WAITS_FOR_STOP = 20, /* WaitsForStop: a VM that depends on it stops first */
  BLX_REASON_CODE_NODE_FENCING = 21, /* NodeFencing: its node is being fenced: it starts elsewhere when that is proved */
  BLX_REASON_CODE_NODE_FENCED = 22, /* NodeFenced: its node was fenced: it starts elsewhere */
  BLX_REASON_CODE_LEASE_LOST = 23, /* LeaseLost: its node was cut off from the cluster, and ended it before its lease ended */
  BLX_REASON_CODE_LOCAL_DISK = 24, /* LocalDisk: its node is gone, and its disk is there */
  BLX_REASON_CODE_HA_MANUAL = 25, /* HaManual: its node is gone, and it starts elsewhere only when an operator has the node fenced */
  BLX_REASON_CODE_HA_OFF = 26, /* HaOff: its node is gone, and it is not to start elsewhere */
  BLX_REASON_CODE_PREEMPTED = 27, /* Preempted: ended to make room for an instance of higher priority */
  BLX_REASON_CODE_WAITS_FOR_ROOM = 28, /* WaitsForRoom: instances of lower priority end to make room for it */
  BLX_REASON_CODE_RECOVERED = 29, /* Recovered: a part of the log was lost in a recovery, and by that it may run on a node that has not said what runs there */
  BLX_REASON_CODE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Reason: why something is where it is, and what would change that. */
struct blx_reason {
  size_t struct_size;
  const void *unknown;
  int32_t code; /* for programs (enum blx_reason_code) */
  const char *text; /* one sentence for people; for a failed build the end of its log; at most 4096 bytes */
  const char *unblock; /* what would unblock it; at most 512 bytes */
};

/* Label: a key and a value given by the user. */
struct blx_label {
  size_t struct_size;
  const void *unknown;
  const char *key; /* key; 1..63 bytes */
  const char *value; /* value; at most 253 bytes */
};

/* Amount: of a resource that has a name: gpu; or disk/POOL, in MiB, which also says that the pool is reached. */
struct blx_amount {
  size_t struct_size;
  const void *unknown;
  const char *name; /* its name; 1..63 bytes */
  uint64_t amount; /* whole units; of a node without a measure (a shared pool): the maximum; 0..1099511627776 */
};

/* Resources: an amount of what instances consume. */
struct blx_resources {
  size_t struct_size;
  const void *unknown;
  uint32_t vcpus; /* virtual CPUs; 0..65536 */
  uint64_t memory_mib; /* memory in MiB; 0..1073741824 */
  /* of a node: thousandths of its processors, 0: 1000 for each of vcpus; of what is allocated: those that are reserved; 0..65536000 */
  uint32_t cpu_milli;
  struct blx_amount **named; /* named resources, each once; at most 32 of them */
  size_t n_named;
};

/* NodeMatch: a condition on a node's labels; the label node.name is its name. */
struct blx_node_match {
  size_t struct_size;
  const void *unknown;
  const char *key; /* label; 1..63 bytes */
  int32_t op; /* how it is compared (enum blx_match_op) */
  /* with what: In, NotIn one or more; Greater, Less one whole number; else none; at most 253 bytes, at most 16 of them */
  const char **values;
  size_t n_values;
  uint32_t weight; /* as a preference: what it is worth; as a constraint: of no meaning; 0..100 */
};

/* Taint: keeps instances that do not tolerate it away from a node. */
struct blx_taint {
  size_t struct_size;
  const void *unknown;
  const char *key; /* key; 1..63 bytes */
  const char *value; /* value; at most 253 bytes */
  int32_t effect; /* what it keeps away (enum blx_taint_effect) */
};

/* Toleration: a taint that an instance may live with. */
struct blx_toleration {
  size_t struct_size;
  const void *unknown;
  const char *key; /* of this key; empty: any; at most 63 bytes */
  const char *value; /* with this value; absent: any; at most 253 bytes */
  uint32_t has_value;
};

/* VmAffinity: to be near other VMs of the tenant, or away from them. */
struct blx_vm_affinity {
  size_t struct_size;
  const void *unknown;
  struct blx_label **selector; /* labels that those VMs carry, all of them; none: the VM itself; at most 16 of them */
  size_t n_selector;
  /* the label of nodes whose value is the domain: rack, zone; host, where a node has no such label: the node alone; at most 63 bytes, default "host" */
  const char *level;
  uint32_t apart; /* not in one domain with them */
  uint32_t weight; /* 0: it must be so; else it is preferred, and this is what it is worth; 0..100 */
};

/* VmSpread: how the replicas of a VM spread over domains. */
struct blx_vm_spread {
  size_t struct_size;
  const void *unknown;
  const char *level; /* as in vm_affinity; nodes without that label are one domain; at most 63 bytes, default "host" */
  uint32_t max_per_domain; /* at most so many replicas in one domain; 0: any number; 0..1000 */
  uint32_t max_skew; /* preferred: no domain has more than so many above the emptiest; 0: no matter; 0..1000 */
  uint32_t weight; /* what each replica above that costs; 0..100, default 50 */
};

/* StrategyWeight: a part of a combined strategy. */
struct blx_strategy_weight {
  size_t struct_size;
  const void *unknown;
  int32_t strategy; /* which; not Combined (enum blx_strategy) */
  uint32_t weight; /* how much of the whole; 0..100, default 50 */
};

/* Near: what a VM is to be close to: one of the three. */
struct blx_near {
  size_t struct_size;
  const void *unknown;
  const char *vm; /* another VM of the tenant: the nearest of its instances; at most 56 bytes */
  const char *node; /* a node: where its caller is, or a volume; at most 63 bytes */
  struct blx_label *domain; /* the nodes with that label: zone=b */
};

/* DataItem: data that an instance reads, or that a node has. */
struct blx_data_item {
  size_t struct_size;
  const void *unknown;
  const char *key; /* which: volume/NAME, template/NAME, closure/FLAKE; 1..128 bytes */
  uint64_t bytes; /* how much; of what a node has: 0 */
};

/* VmSpec: what the user wants of a VM. */
struct blx_vm_spec {
  size_t struct_size;
  const void *unknown;
  const char *name; /* its name, unique in the tenant; 1..56 bytes */
  const char *flake; /* a flake with a microvm.nix runner: REF#NAME; at most 512 bytes */
  const char *config_sha256; /* or the digest of a microvm.nix module in the cluster's configs; at most 64 bytes */
  const char *config_name; /* the file name that module had, for people; at most 128 bytes */
  int32_t hypervisor; /* virtual machine monitor (enum blx_hypervisor) */
  uint32_t vcpus; /* virtual CPUs; 1..512, default 1 */
  uint32_t memory_mib; /* memory in MiB; 32..1048576, default 128 */
  uint32_t replicas; /* how many instances run; 0..1000, default 1 */
  uint32_t has_replicas;
  int32_t restart_policy; /* what happens when the guest ends by itself (enum blx_restart_policy) */
  struct blx_label **labels; /* labels; at most 64 of them */
  size_t n_labels;
  int32_t strategy; /* how its nodes are chosen (enum blx_strategy) */
  struct blx_label **node_selector; /* labels that a node must carry, all of them; at most 16 of them */
  size_t n_node_selector;
  /* how long a guest may take to shut down before it is killed; 1000..600000, default 30000 */
  uint32_t stop_timeout_ms;
  uint32_t ready_none; /* the guest has no agent: running means that its monitor runs */
  /* VMs that must run before it starts, and that stop after it; 1..56 bytes, at most 16 of them */
  const char **depends_on;
  size_t n_depends_on;
  int32_t ha; /* whether it starts elsewhere when its node is gone (enum blx_ha_policy) */
  /* if highly available: failures in a row on one node before another one is tried; 0..100, default 3 */
  uint32_t ha_max_restart;
  uint32_t cpu_milli; /* thousandths of a processor that it reserves; 0: 1000 for each of its vcpus; 0..512000 */
  struct blx_amount **resources; /* named resources that it takes of its node; at most 16 of them */
  size_t n_resources;
  struct blx_node_match **constraints; /* what must hold for its node, all of them; at most 16 of them */
  size_t n_constraints;
  struct blx_node_match **preferences; /* what should; at most 16 of them */
  size_t n_preferences;
  struct blx_toleration **tolerations; /* taints that it may live with; at most 16 of them */
  size_t n_tolerations;
  struct blx_vm_affinity **affinity; /* which VMs it is to be near, or away from; at most 8 of them */
  size_t n_affinity;
  struct blx_vm_spread **spread; /* how its replicas spread; at most 4 of them */
  size_t n_spread;
  /* features that its node's processors must have, as /proc/cpuinfo names them; 1..32 bytes, at most 32 of them */
  const char **cpu_features;
  size_t n_cpu_features;
  /* who waits is placed in this order, the highest first, and may end preemptible instances of lower ones; 0..1000 */
  uint32_t priority;
  uint32_t preemptible; /* it may be ended for one of higher priority, and waits then; default 1 */
  uint32_t has_preemptible;
  struct blx_strategy_weight **strategies; /* with the strategy Combined: which, and how much; at most 4 of them */
  size_t n_strategies;
  struct blx_near **near; /* for NetworkProximity; at most 4 of them */
  size_t n_near;
  struct blx_data_item **data; /* for DataLocality; at most 16 of them */
  size_t n_data;
};

/* Instance: one replica of a VM. */
struct blx_instance {
  size_t struct_size;
  const void *unknown;
  const char *name; /* web-1 is the first replica of web; 1..63 bytes */
  uint64_t uid; /* never reused */
  const char *vm; /* name of its VM; 1..56 bytes */
  uint64_t vm_uid; /* uid of its VM */
  uint32_t ordinal; /* 1 is the first */
  const char *node; /* name of the node it was assigned to, filled in when read; at most 63 bytes */
  uint64_t node_uid; /* uid of that node; 0: none yet */
  uint64_t epoch; /* rises with each assignment; an agent never acts on a lower one */
  int32_t phase; /* where it is (enum blx_phase) */
  struct blx_reason *reason; /* why */
  uint64_t spec_revision; /* revision of the spec that it was assigned with */
  uint32_t restarts; /* how often it was started again after its first start */
  uint64_t not_before_ms; /* cluster time before which it is not started again */
  uint64_t phase_since_ms; /* cluster time of its last change of phase */
  uint64_t report_seq; /* last report applied in this epoch */
  int32_t exit_status; /* how its monitor last ended: a status, or minus a signal */
  uint32_t has_exit_status;
  uint64_t revision; /* index of its last change */
  uint32_t dead; /* its agent confirmed that it does not run in this epoch */
  uint32_t failures; /* ends in a row without ten minutes of running between; sets the back-off */
  int32_t ending; /* shall end in this epoch (enum blx_ending) */
  uint32_t paused; /* its virtual CPUs stand still */
  uint32_t local_data; /* it has a disk on its node */
  uint32_t fenced; /* its epoch rose because its node is being fenced: nothing runs under it */
  uint64_t room_on_uid; /* while it waits: the node on which instances of lower priority end for it; 0: none */
  uint64_t preempted_for_uid; /* while it ends: the instance that it makes room for; 0: none */
  uint64_t seen_era; /* era since whose beginning, a recovery, it was seen running where it is */
  uint32_t data_known; /* its agent has looked whether it has a disk on its node; before that it is taken to have one */
  const char *tenant; /* its VM's tenant, filled in when read; at most 56 bytes */
};

/* Vm: a VM: what is wanted, and how far it is. */
struct blx_vm {
  size_t struct_size;
  const void *unknown;
  uint64_t uid; /* never reused */
  const char *tenant; /* its tenant; at most 56 bytes */
  struct blx_vm_spec *spec; /* what the user wants */
  int32_t desired; /* running or stopped (enum blx_desired) */
  int32_t phase; /* of its instances the one that is furthest from done (enum blx_phase) */
  struct blx_reason *reason; /* that instance's reason */
  struct blx_instance **instances; /* its instances by ordinal, filled in when read; at most 1000 of them */
  size_t n_instances;
  uint64_t revision; /* index of its last change */
  uint64_t spec_revision; /* index of the last change of its spec */
  uint64_t created_ms; /* cluster time of its creation */
  uint32_t deleting; /* was deleted and waits for its nodes */
  uint32_t running; /* instances that run, filled in when read */
  uint32_t paused; /* its instances shall stand still as soon as they run */
};

/* NodeRole: what a node does in its cluster. */
enum blx_node_role {
  BLX_NODE_ROLE_SERVER = 0, /* server: keeps the cluster's state and votes, and runs instances */
  BLX_NODE_ROLE_WORKER = 1, /* worker: runs instances alone: no state, no vote; as many as are wanted */
  BLX_NODE_ROLE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Node: a machine of the cluster. */
struct blx_node_info {
  size_t struct_size;
  const void *unknown;
  const char *name; /* its name; 1..63 bytes */
  uint64_t uid; /* never reused; also its raft id */
  uint64_t incarnation; /* drawn anew at each start of its agent */
  const char *address; /* where its API answers: unix:PATH; at most 256 bytes */
  const char *peer_address; /* where its consensus channel answers: unix:PATH; at most 256 bytes */
  struct blx_resources *capacity; /* what instances may use, the host's reserve taken off */
  struct blx_resources *allocated; /* what assigned instances use, filled in when read */
  struct blx_label **labels; /* labels; at most 64 of them */
  size_t n_labels;
  int32_t *hypervisors; /* monitors that it can run (enum blx_hypervisor); at most 16 of them */
  size_t n_hypervisors;
  uint32_t cordoned; /* nothing new is placed there */
  int32_t status; /* what the leader knows of it, filled in when read (enum blx_node_status) */
  uint32_t leader; /* leads the cluster, filled in when read */
  uint32_t voter; /* votes in the cluster */
  uint32_t instances; /* instances assigned to it, filled in when read */
  const char *version; /* version of its library; at most 64 bytes */
  uint32_t simulated; /* its virtual machines are simulated */
  uint64_t revision; /* index of its last change */
  uint64_t joined_ms; /* cluster time at which it joined */
  uint64_t cordoned_ms; /* cluster time at which it was cordoned; 0: it is not */
  const char *cordoned_by; /* who cordoned it; at most 128 bytes */
  const char *cordon_reason; /* why, in that user's words; at most 256 bytes */
  /* what its daemon was started with; labels has those that no set label replaces; at most 64 of them */
  struct blx_label **daemon_labels;
  size_t n_daemon_labels;
  /* what users set; they win over the daemon's of the same key, and stay when it restarts; at most 64 of them */
  struct blx_label **set_labels;
  size_t n_set_labels;
  uint64_t status_since_ms; /* cluster time since which its status holds, filled in when read; 0: not known */
  struct blx_reason *reason; /* what its status means and what would change it, filled in when read */
  uint32_t tombstones; /* instances deleted by force that it must still remove, filled in when read */
  int32_t role; /* server or worker, as it joined (enum blx_node_role) */
  int32_t fence; /* whether it was cut off (enum blx_fence) */
  uint64_t fence_since_ms; /* cluster time of that */
  const char *fence_reason; /* why it was cut off, and by whom; at most 256 bytes */
  /* what proves it dead: lease, command or operator, with the end of that command's output; at most 512 bytes */
  const char *fence_proof;
  /* program with arguments that the leader runs to have it powered off; at most 1024 bytes */
  const char *fence_command;
  /* its agent can end its instances before a lease ends: it has the watchdog process, and control groups */
  uint32_t ha_ready;
  /* device that resets it when its watchdog process stands still; empty: none; at most 128 bytes */
  const char *watchdog;
  uint32_t no_watchdog; /* its operator said that it needs neither that device nor a fence command */
  uint32_t virtualized; /* it is itself a virtual machine, and can be paused unawares */
  uint64_t lease_left_ms; /* of its lease at most, filled in when read */
  uint64_t status_left_ms; /* until its status changes if nothing is heard, filled in when read; 0: not known */
  uint64_t fence_incarnation; /* the incarnation that was cut off */
  uint32_t fence_ready; /* that one had what ends its instances before a lease ends */
  uint32_t fence_timed; /* and had ha=auto without a fence command: the end of its lease proves it dead */
  struct blx_taint **taints; /* what keeps instances away; at most 16 of them */
  size_t n_taints;
  /* features of its processors that instances may ask for; 1..32 bytes, at most 64 of them */
  const char **cpu_features;
  size_t n_cpu_features;
  uint32_t load_cpu_permille; /* of its processors, in use as it says itself, filled in when read; 0..1000 */
  uint32_t has_load_cpu_permille;
  uint64_t load_memory_mib; /* of its memory, likewise */
  uint32_t has_load_memory_mib;
  struct blx_data_item **stored; /* data that it has, filled in when read; at most 256 of them */
  size_t n_stored;
  uint64_t clear_era; /* era since whose beginning, a recovery, it is known what runs there; 0: there was none */
  uint32_t unclear; /* after a recovery it is not known yet what runs there, filled in when read */
  uint32_t tells_disks; /* its agent looks whether an instance has a disk there, and says so */
};

/* Quota: what a tenant may have; what is absent has no limit. */
struct blx_quota {
  size_t struct_size;
  const void *unknown;
  const char *tenant; /* tenant; at most 56 bytes, default "default" */
  uint32_t vms; /* VMs */
  uint32_t has_vms;
  uint32_t instances; /* instances of them, running or not */
  uint32_t has_instances;
  uint32_t vcpus; /* virtual CPUs of those */
  uint32_t has_vcpus;
  uint64_t memory_mib; /* memory in MiB of those */
  uint32_t has_memory_mib;
  struct blx_amount **named; /* named resources of those, disk/POOL among them; at most 32 of them */
  size_t n_named;
  uint32_t node_instances; /* instances on one node */
  uint32_t has_node_instances;
  uint32_t node_vcpus; /* virtual CPUs on one node */
  uint32_t has_node_vcpus;
  uint64_t node_memory_mib; /* memory in MiB on one node */
  uint32_t has_node_memory_mib;
  struct blx_node_match **nodes; /* its instances run only on nodes for which these hold; at most 16 of them */
  size_t n_nodes;
  uint64_t revision; /* index of its last change */
  uint32_t used_vms; /* VMs that it has, filled in when read */
  uint32_t used_instances; /* instances of them, likewise */
  struct blx_resources *used; /* what they use together, likewise */
};

/* LeaseSettings: how long a node may run highly available instances without word from the cluster. */
struct blx_lease_settings {
  size_t struct_size;
  const void *unknown;
  uint32_t renew_ms; /* how often a node asks for its lease again; 100..60000, default 3000 */
  uint32_t lease_ms; /* how long one lasts; 1000..600000, default 20000 */
  /* so long before its end the instances are paused; they are killed when 2/5 of it are left; 300..300000, default 5000 */
  uint32_t kill_ms;
  /* a watchdog device that is not told so long that all is well resets the machine; 1000..300000, default 10000 */
  uint32_t watchdog_ms;
  uint32_t margin_ms; /* added, for what nobody thought of; 100..60000, default 3000 */
  /* most that the rates of two machines' clocks may differ, in millionths; 100..100000, default 5000 */
  uint32_t rate_ppm;
  /* a node not heard from so long is suspect: nothing is placed there; 300..300000, default 9000 */
  uint32_t suspect_ms;
};

/* Overcommit: how much more than they have nodes of a class give out. */
struct blx_overcommit {
  size_t struct_size;
  const void *unknown;
  struct blx_label *nodes; /* nodes with this label; absent: all */
  uint32_t cpu_percent; /* of their processors; 100: what they have; 100..2000, default 100 */
  uint32_t memory_percent; /* of their memory; 100..400, default 100 */
};

/* Distance: how far two domains are from each other. */
struct blx_distance {
  size_t struct_size;
  const void *unknown;
  const char *a; /* value of the label zone; at most 253 bytes */
  const char *b; /* and of another; the order is of no meaning; at most 253 bytes */
  uint32_t us; /* microseconds there and back; 0..10000000 */
};

/* PlacementSettings: what holds for placement in a whole cluster. */
struct blx_placement_settings {
  size_t struct_size;
  const void *unknown;
  /* the first whose label a node has holds for it; none: nothing is given out twice; at most 16 of them */
  struct blx_overcommit **overcommit;
  size_t n_overcommit;
  uint32_t survive_nodes; /* room is kept so that ha=auto instances of any so many nodes fit elsewhere; 0..16 */
  const char *survive_level; /* and of any one domain of this label: rack; empty: no domain; at most 63 bytes */
  /* measured distances of zones; else all of them are equally far; at most 64 of them */
  struct blx_distance **distances;
  size_t n_distances;
};

/* Settings: what holds for a whole cluster. */
struct blx_settings {
  size_t struct_size;
  const void *unknown;
  struct blx_lease_settings *lease; /* leases */
  /* pinned flake of nixpkgs that modules are built with; empty: what each daemon was started with; at most 512 bytes */
  const char *nixpkgs_ref;
  const char *microvm_ref; /* pinned flake of microvm.nix, likewise; at most 512 bytes */
  uint64_t revision; /* index of its last change; 0: never changed */
  struct blx_lease_settings *lease_before; /* the one before: leases of it may be out */
  uint64_t lease_changed_ms; /* cluster time at which lease replaced lease_before */
  uint64_t disarmed_until_ms; /* cluster time until which no node is fenced; 0, or past: armed */
  const char *disarmed_by; /* who said so; at most 128 bytes */
  const char *disarm_reason; /* why; at most 256 bytes */
  uint64_t extended_until_ms; /* cluster time until which a lease given while disarmed may last, armed again or not */
  struct blx_placement_settings *placement; /* placement */
};

/* EventKind: what an event is about. */
enum blx_event_kind {
  BLX_EVENT_KIND_NODE = 0, /* node: a node */
  BLX_EVENT_KIND_VM = 1, /* vm: a VM */
  BLX_EVENT_KIND_INSTANCE = 2, /* instance: an instance */
  BLX_EVENT_KIND_SETTINGS = 3, /* settings: the cluster's settings */
  BLX_EVENT_KIND_QUOTA = 4, /* quota: a tenant's quota */
  BLX_EVENT_KIND_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* EventType: what happened to it. */
enum blx_event_type {
  BLX_EVENT_TYPE_CREATED = 0, /* created: it is new */
  BLX_EVENT_TYPE_CHANGED = 1, /* changed: a field changed */
  BLX_EVENT_TYPE_DELETED = 2, /* deleted: it is gone */
  BLX_EVENT_TYPE_CUT = 3, /* cut: the member of this name has no events up to this index, of this time; only for who asked with tell_cut */
  BLX_EVENT_TYPE_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* Event: what changed, with its index. */
struct blx_event {
  size_t struct_size;
  const void *unknown;
  uint64_t index; /* index of the operation; several events may share one */
  uint64_t time_ms; /* cluster time */
  int32_t kind; /* what it is about (enum blx_event_kind) */
  int32_t type; /* what happened (enum blx_event_type) */
  const char *tenant; /* tenant, empty for nodes; at most 56 bytes */
  const char *name; /* name of the object; at most 63 bytes */
  uint64_t uid; /* uid of the object */
  int32_t phase; /* of an instance or VM: its phase (enum blx_phase) */
  struct blx_reason *reason; /* of an instance or VM: why */
  const char *node; /* of an instance: the node it is assigned to; at most 63 bytes */
  const char *vm; /* of an instance: its VM; at most 56 bytes */
  uint64_t epoch; /* of an instance: its epoch */
};

/* Tombstone: an instance that was deleted by force while its node was silent: the node removes it when it comes back. */
struct blx_tombstone {
  size_t struct_size;
  const void *unknown;
  /* its name; no other of that name and tenant starts on the node before it is gone there; 1..63 bytes */
  const char *instance;
  uint64_t instance_uid; /* its uid; never reused */
  uint64_t epoch; /* the epoch it had */
  uint64_t node_uid; /* the node that must remove it */
  const char *tenant; /* tenant; at most 56 bytes */
  uint64_t since_ms; /* cluster time at which it was deleted */
  const char *deleted_by; /* who deleted it; at most 128 bytes */
  uint32_t dead; /* the node confirmed that it does not run; its files may be there */
  struct blx_vm_spec *spec; /* what of its spec is needed to remove it: name, size, hypervisor, stop timeout */
  uint64_t revision; /* index of its last change */
};

/* RecoverServer: a server of a cluster, as a data directory knows it. */
struct blx_recover_server {
  size_t struct_size;
  const void *unknown;
  uint64_t uid; /* its uid */
  const char *name; /* its name; empty: not known there; at most 63 bytes */
  const char *address; /* where its API answers; at most 256 bytes */
  uint32_t voter; /* votes, as the log of that directory says */
  uint32_t answers; /* something answered at its address as a member of this cluster, or did not say that it is none */
};

/* RecoverMember: what the data directory of a server that does not run holds. */
struct blx_recover_member {
  size_t struct_size;
  const void *unknown;
  const char *data_dir; /* the directory; at most 256 bytes */
  const char *cluster_id; /* cluster; 1..32 bytes */
  const char *cluster_name; /* its name; at most 56 bytes */
  uint64_t uid; /* uid of the server */
  const char *name; /* its name; at most 63 bytes */
  uint64_t term; /* highest term that it has seen */
  uint64_t last_index; /* of its log; whose (last_term, last_index) is higher has the longer log */
  uint64_t last_term; /* term of that entry */
  uint64_t snapshot_index; /* last index of its snapshot; 0: it has none */
  uint64_t commit_index; /* so far it is known to be committed; what is behind may be, too: a log does not say it */
  uint64_t time_ms; /* cluster time of its last operations */
  uint32_t voter; /* it votes, as its own log says; if not it may lack what was acknowledged */
  struct blx_recover_server **servers; /* servers of the cluster, by uid; at most 5000 of them */
  size_t n_servers;
  uint64_t next_node_uid; /* uid of the next node that joins */
  uint32_t vms; /* VMs in its state, its whole log applied */
  uint32_t instances; /* instances in it */
  uint64_t gone_below; /* it was recovered before: other servers with lower uids are gone; 0: it was not */
};

/* RecoverPlan: how a cluster that lost most of its servers goes on with one of them. */
struct blx_recover_plan {
  size_t struct_size;
  const void *unknown;
  struct blx_recover_member *survivor; /* the directory that goes on */
  struct blx_recover_member **others; /* those it was compared with; at most 64 of them */
  size_t n_others;
  uint64_t longest_uid; /* which of all has the longest log; the survivor, if several have */
  /* servers that are no longer any: to be emptied, and to join as new nodes; at most 5000 of them */
  struct blx_recover_server **gone;
  size_t n_gone;
  int32_t obstacle_code; /* 0, or the BLX_E_* code of what forbids it */
  const char *obstacle; /* that in a sentence; at most 511 bytes */
  uint32_t done; /* it was done */
  uint64_t term; /* then: the term in which it was */
};

/* BackupInfo: what a backup of a cluster holds. */
struct blx_backup_info {
  size_t struct_size;
  const void *unknown;
  uint32_t format; /* of the file: 1 */
  const char *cluster_id; /* cluster it was taken of; at most 32 bytes */
  const char *cluster_name; /* its name; at most 56 bytes */
  uint64_t index; /* everything up to this index, and nothing after it */
  uint64_t time_ms; /* cluster time at that index */
  const char *saved_by; /* node that wrote it; at most 63 bytes */
  const char *version; /* of that node's library; at most 64 bytes */
  uint32_t nodes; /* nodes; they are not part of what a restore makes */
  uint32_t vms; /* VMs */
  uint32_t instances; /* instances */
  uint32_t configs; /* microvm.nix modules */
  uint64_t records; /* records in the file, when it was read or written to its end */
  uint64_t bytes; /* length of the file, then */
  const char *sha256; /* SHA-256 of all before the trailer, in hexadecimal, then; at most 64 bytes */
};

/* AuditKind: what an audit record tells of. */
enum blx_audit_kind {
  BLX_AUDIT_KIND_REQUEST = 0, /* request: somebody asked for it */
  BLX_AUDIT_KIND_CLUSTER = 1, /* cluster: the cluster did it by itself */
  BLX_AUDIT_KIND_DENIED = 2, /* denied: it was refused before it came to the log; kept by the member that refused it alone */
  BLX_AUDIT_KIND_WIDTH_ = 0x7fffffff /* values of later versions fit */
};

/* AuditRecord: one operation as the audit log has it. */
struct blx_audit_record {
  size_t struct_size;
  const void *unknown;
  uint64_t seq; /* place in the chain, from 1 on without a gap */
  uint64_t index; /* index of its log entry; 0: it never came to the log */
  uint32_t position; /* place in that entry, from 0 */
  uint64_t time_ms; /* cluster time; of a denied one the time of the member's clock */
  int32_t kind; /* what it tells of (enum blx_audit_kind) */
  const char *principal; /* who asked; `cluster`: nobody; at most 128 bytes */
  const char *tenant; /* tenant; at most 56 bytes */
  const char *source; /* member that was asked, and the process that asked it; at most 128 bytes */
  const char *verb; /* what was asked: vm.create; at most 32 bytes */
  const char *object; /* of what: vm/web; at most 96 bytes */
  const char *detail; /* what else tells it from others of its verb; at most 128 bytes */
  const char *reason; /* why, in the words of who asked; at most 256 bytes */
  int32_t code; /* 0: done; else why it was refused, BLX_E_* */
  /* the same in a sentence, as this member's version says it; kept beside the record and not hashed, so that members of two versions have one chain; at most 511 bytes */
  const char *message;
  const char *request_id; /* idempotency key; at most 64 bytes */
  const char *prev; /* in answers: hash of the record before, hexadecimal; at most 64 bytes */
  /* in answers: SHA-256 of the hash before and of the fields 1 to 13 and 15 as bytes, hexadecimal; of a denied record of all 15; at most 64 bytes */
  const char *hash;
};

/* AuditCut: records that a member does not have. */
struct blx_audit_cut {
  size_t struct_size;
  const void *unknown;
  uint64_t first_seq; /* the first of them */
  uint64_t last_seq; /* the last of them */
  const char *hash; /* hash of the last of them, hexadecimal; at most 64 bytes */
  const char *why; /* why; at most 256 bytes */
  uint32_t fetching; /* they are being fetched from other members */
};

#define BLX_REASON_INIT BLX_INIT_(struct blx_reason)
#define BLX_LABEL_INIT BLX_INIT_(struct blx_label)
#define BLX_AMOUNT_INIT BLX_INIT_(struct blx_amount)
#define BLX_RESOURCES_INIT BLX_INIT_(struct blx_resources)
#define BLX_NODE_MATCH_INIT BLX_INIT_(struct blx_node_match)
#define BLX_TAINT_INIT BLX_INIT_(struct blx_taint)
#define BLX_TOLERATION_INIT BLX_INIT_(struct blx_toleration)
#define BLX_VM_AFFINITY_INIT BLX_INIT_(struct blx_vm_affinity)
#define BLX_VM_SPREAD_INIT BLX_INIT_(struct blx_vm_spread)
#define BLX_STRATEGY_WEIGHT_INIT BLX_INIT_(struct blx_strategy_weight)
#define BLX_NEAR_INIT BLX_INIT_(struct blx_near)
#define BLX_DATA_ITEM_INIT BLX_INIT_(struct blx_data_item)
#define BLX_VM_SPEC_INIT BLX_INIT_(struct blx_vm_spec)
#define BLX_INSTANCE_INIT BLX_INIT_(struct blx_instance)
#define BLX_VM_INIT BLX_INIT_(struct blx_vm)
#define BLX_NODE_INFO_INIT BLX_INIT_(struct blx_node_info)
#define BLX_QUOTA_INIT BLX_INIT_(struct blx_quota)
#define BLX_LEASE_SETTINGS_INIT BLX_INIT_(struct blx_lease_settings)
#define BLX_OVERCOMMIT_INIT BLX_INIT_(struct blx_overcommit)
#define BLX_DISTANCE_INIT BLX_INIT_(struct blx_distance)
#define BLX_PLACEMENT_SETTINGS_INIT BLX_INIT_(struct blx_placement_settings)
#define BLX_SETTINGS_INIT BLX_INIT_(struct blx_settings)
#define BLX_EVENT_INIT BLX_INIT_(struct blx_event)
#define BLX_TOMBSTONE_INIT BLX_INIT_(struct blx_tombstone)
#define BLX_RECOVER_SERVER_INIT BLX_INIT_(struct blx_recover_server)
#define BLX_RECOVER_MEMBER_INIT BLX_INIT_(struct blx_recover_member)
#define BLX_RECOVER_PLAN_INIT BLX_INIT_(struct blx_recover_plan)
#define BLX_BACKUP_INFO_INIT BLX_INIT_(struct blx_backup_info)
#define BLX_AUDIT_RECORD_INIT BLX_INIT_(struct blx_audit_record)
#define BLX_AUDIT_CUT_INIT BLX_INIT_(struct blx_audit_cut)

/* blx_X_init(&x): the same for a struct that is there already, its padding too. */
BLX_INIT_FN_(reason)
BLX_INIT_FN_(label)
BLX_INIT_FN_(amount)
BLX_INIT_FN_(resources)
BLX_INIT_FN_(node_match)
BLX_INIT_FN_(taint)
BLX_INIT_FN_(toleration)
BLX_INIT_FN_(vm_affinity)
BLX_INIT_FN_(vm_spread)
BLX_INIT_FN_(strategy_weight)
BLX_INIT_FN_(near)
BLX_INIT_FN_(data_item)
BLX_INIT_FN_(vm_spec)
BLX_INIT_FN_(instance)
BLX_INIT_FN_(vm)
BLX_INIT_FN_(node_info)
BLX_INIT_FN_(quota)
BLX_INIT_FN_(lease_settings)
BLX_INIT_FN_(overcommit)
BLX_INIT_FN_(distance)
BLX_INIT_FN_(placement_settings)
BLX_INIT_FN_(settings)
BLX_INIT_FN_(event)
BLX_INIT_FN_(tombstone)
BLX_INIT_FN_(recover_server)
BLX_INIT_FN_(recover_member)
BLX_INIT_FN_(recover_plan)
BLX_INIT_FN_(backup_info)
BLX_INIT_FN_(audit_record)
BLX_INIT_FN_(audit_cut)

#ifdef __cplusplus
}
#endif

#include <blixard/calls.h>
#endif
