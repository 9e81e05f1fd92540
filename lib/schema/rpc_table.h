/* One row for each RPC of api.def and internal.def. Const and static. Thread: any. */
#ifndef BLX__SCHEMA_RPC_TABLE_H
#define BLX__SCHEMA_RPC_TABLE_H

#include "schema/desc.h"
#include "schema/rpc_ids.h"

/* LOCAL: the member that is asked answers. READ: the leader, after a confirmation round. WRITE: the leader commits it.
 */
enum blx__rpc_route { BLX__ROUTE_LOCAL, BLX__ROUTE_READ, BLX__ROUTE_WRITE };

struct blx__rpc_row {
  enum blx__rpc_id id;
  const char *name; /* "vm_create" */
  const char *path; /* "/blixard.v1.Blixard/VmCreate" */
  const struct blx__msg_desc *(*request)(void), *(*response)(void);
  bool stream; /* the server streams answers */
  bool bidi;   /* and the caller streams requests */
  enum blx__rpc_route route;
  bool member_only;
  const char *doc;
};

/* BLX__RPC_COUNT rows; the row of an id is at that index. */
const struct blx__rpc_row *blx__rpc_rows(void);

/* NULL if there is no RPC of that path. */
const struct blx__rpc_row *blx__rpc_find_path(const char *path);

#endif
