/* See shim_proto_guest.c: the driver cleans up with the same code. */
#include "vm/cgroup.c"
