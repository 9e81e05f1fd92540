/* Public handles are numbers in the clothes of pointers: an index into one table of the process and the generation of
 * its slot. A closed one is known as such for ever, whatever memory was reused since, and so is a pointer to anything
 * else; using them is MISUSE, not a crash. A call holds its object with take and put, and who closes waits for those.
 *
 * The table is the one thing the library keeps for the whole process. It holds which handles are alive, nothing that
 * one embedder could set and another would feel. Thread: any. */
#ifndef BLX__API_HANDLE_H
#define BLX__API_HANDLE_H

#include "base/rc.h"

enum { BLX__API_HANDLES_MAX = 65536 }; /* open at a time in one process */

enum blx__api_kind {
  BLX__API_NODE,
  BLX__API_CLIENT,
  BLX__API_WATCH,
  BLX__API_LOGS,
  BLX__API_STATS,
  BLX__API_CONSENSUS,
  BLX__API_PLACEMENT,
  BLX__API_VM_DRIVER,
  BLX__API_VM_CALL,
  BLX__API_VM_LOGS,
  BLX__API_EXEC,
  BLX__API_BACKUP,
};

/* A handle for @object, alive from now on. NULL: BLX__API_HANDLES_MAX are open (BUSY). */
void *blx__api_handle_new(enum blx__api_kind kind, void *object, blx_error *err) BLX__MUST;

/* The object behind @handle, which stays until the put. NULL: MISUSE, with the reason: it is NULL, closed, of another
 * kind, or of the process that this one was forked from. */
void *blx__api_handle_take(const void *handle, enum blx__api_kind kind, blx_error *err) BLX__MUST;
void blx__api_handle_put(const void *handle);

/* The handle is dead: no take succeeds any more. False: another thread was first. The caller holds a take. */
bool blx__api_handle_kill(const void *handle) BLX__MUST;

/* After a kill, without a take of the caller's own: wait until nobody is in a call. The slot may be used again. */
void blx__api_handle_drop(const void *handle);

#endif
