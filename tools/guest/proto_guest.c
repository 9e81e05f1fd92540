/* The guest agent is built alone and static, from this folder: the protocol's one source is the library's. */
#include "vm/proto_guest.c"
