/* Numbers of the RPCs, for switches; they never leave the process.
 * Made by schemagen; change the table and run `make schema`
 * (lib/schema/api.def, lib/schema/internal.def). */
/* clang-format off */
#ifndef BLX__SCHEMA_RPC_IDS_H
#define BLX__SCHEMA_RPC_IDS_H

enum blx__rpc_id {
  BLX__RPC_CLUSTER_INIT,
  BLX__RPC_CLUSTER_JOIN,
  BLX__RPC_CLUSTER_STATUS,
  BLX__RPC_NODE_LIST,
  BLX__RPC_VM_CREATE,
  BLX__RPC_VM_GET,
  BLX__RPC_VM_LIST,
  BLX__RPC_VM_START,
  BLX__RPC_VM_STOP,
  BLX__RPC_VM_RESTART,
  BLX__RPC_VM_KILL,
  BLX__RPC_VM_PAUSE,
  BLX__RPC_VM_RESUME,
  BLX__RPC_VM_DELETE,
  BLX__RPC_VM_LOGS,
  BLX__RPC_WATCH,
  BLX__RPC_NODE_GET,
  BLX__RPC_NODE_CORDON,
  BLX__RPC_NODE_UNCORDON,
  BLX__RPC_NODE_LABEL,
  BLX__RPC_VM_DELETE_FORCE,
  BLX__RPC_VM_EXEC,
  BLX__RPC_STATS,
  BLX__RPC_AUDIT_LIST,
  BLX__RPC_AUDIT_VERIFY,
  BLX__RPC_MEMBER_JOIN,
  BLX__RPC_MEMBER_INVITE,
  BLX__RPC_MEMBER_READY,
  BLX__RPC_REPORT,
  BLX__RPC_CHANNEL,
  BLX__RPC_SHARE,
  BLX__RPC_MEMBER_STATS,
  BLX__RPC_AUDIT_FETCH,
  BLX__RPC_COUNT
};

#endif
