/* QEMU's machine protocol (QMP, docs/interop/qmp-spec of QEMU): what its monitor says, line by line. Bytes in, messages
 * out; no I/O. What a monitor says is not trusted: lines are bounded, and only the few fields that matter are kept.
 * Thread: one at a time. Since 0.1. */
#ifndef BLX__VM_PROTO_QMP_H
#define BLX__VM_PROTO_QMP_H

#include "base/buf.h"
#include "measure/usage.h"

enum { BLX__QMP_LINE_MAX = 256 << 10 }; /* room for the counters of a hundred disks */

enum blx__qmp_kind {
  BLX__QMP_GREETING, /* answer it with BLX__QMP_CAPABILITIES */
  BLX__QMP_RETURN,   /* id: the command's, text: the result's "status", counters: if it has some */
  BLX__QMP_ERROR,    /* name: class, text: what it says, id: the command's */
  BLX__QMP_EVENT,    /* name: the event, text: its "reason" or "action", if any */
};

/* Commands without arguments, one line each. */
#define BLX__QMP_CAPABILITIES "{\"execute\":\"qmp_capabilities\"}\r\n"
#define BLX__QMP_QUERY_STATUS "{\"execute\":\"query-status\"}\r\n"
#define BLX__QMP_STOP "{\"execute\":\"stop\"}\r\n" /* the virtual CPUs, not the monitor */
#define BLX__QMP_CONT "{\"execute\":\"cont\"}\r\n"
#define BLX__QMP_QUERY_BALLOON "{\"execute\":\"query-balloon\",\"id\":\"balloon\"}\r\n"
#define BLX__QMP_QUERY_BLOCKS "{\"execute\":\"query-blockstats\",\"id\":\"blocks\"}\r\n"
#define BLX__QMP_POWERDOWN "{\"execute\":\"system_powerdown\"}\r\n"

struct blx__qmp_msg {
  enum blx__qmp_kind kind;
  char name[64];
  char text[256];
  char id[16];
  struct blx__usage counters; /* of a RETURN to QUERY_BALLOON or QUERY_BLOCKS */
};

/* Begin with blx__qmp_init, end with blx__qmp_free. */
struct blx__qmp_reader {
  struct blx__buf line;
  bool greeted;
};

void blx__qmp_init(struct blx__qmp_reader *r);
void blx__qmp_free(struct blx__qmp_reader *r);

/* Take bytes of @data until a message is complete (@got) or they are used up; @taken (0..@n): how many were.
 * Errors: VMM_PROTOCOL (a line over BLX__QMP_LINE_MAX, no JSON, not a message of QMP, or no greeting first), NOMEM. The
 *         connection is of no more use then. */
blx__rc blx__qmp_read(struct blx__qmp_reader *r, const uint8_t *data, size_t n, size_t *taken, bool *got,
                      struct blx__qmp_msg *msg, blx_error *err) BLX__MUST;

#endif
