/* The shim links base and schema only: of lib/vm it takes the protocols, which are pure. */
#include "vm/proto_qmp.c"
