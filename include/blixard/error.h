/* Error codes and the caller-owned error record.
 * Every function of the library returns 0 (or a non-negative count where it says so) or one of BLX_E_*.
 * Copyright the Blixard authors; Apache-2.0. */
#ifndef BLIXARD_ERROR_H
#define BLIXARD_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef BLX_API
#define BLX_API __attribute__((visibility("default")))
#endif

/* X(name, number, retryable, exit status of the CLI, gRPC status, text)
 * retryable: the same request may be sent again; with its request_id where the outcome is unknown (TIMEOUT).
 * Exit statuses: 1 internal, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unavailable or retry, 7 corrupt. */
#define BLX_ERR_MAP(X)                                                                           \
  X(INVALID, -1, 0, 2, 3, "a value is not allowed")                                              \
  X(UNSUPPORTED, -2, 0, 2, 12, "this is not supported")                                          \
  X(MISUSE, -3, 0, 2, 9, "the library was called in a way it does not allow")                    \
  X(NOT_FOUND, -4, 0, 3, 5, "there is no such object")                                           \
  X(DENIED, -5, 0, 4, 7, "the caller may not do this")                                           \
  X(EXISTS, -6, 0, 5, 6, "the name is taken")                                                    \
  X(CONFLICT, -7, 0, 5, 10, "the object is not in the state that this needs")                    \
  X(STALE, -8, 0, 5, 11, "the index, revision or epoch is too old")                              \
  X(NO_CAPACITY, -9, 1, 6, 8, "no node has room")                                                \
  X(QUOTA, -10, 0, 5, 8, "the quota does not allow it")                                          \
  X(BUSY, -11, 1, 6, 8, "a queue or limit is full: try again later")                             \
  X(NO_LEADER, -12, 1, 6, 14, "the cluster has no leader at the moment")                         \
  X(UNAVAILABLE, -13, 1, 6, 14, "the other side cannot be reached")                              \
  X(TIMEOUT, -14, 1, 6, 4, "the time allowed ran out; the outcome is unknown")                   \
  X(CANCELLED, -15, 0, 6, 1, "the call was cancelled")                                           \
  X(NOSPACE, -16, 1, 6, 8, "the disk is full")                                                   \
  X(CORRUPT, -17, 0, 7, 15, "stored data is damaged: an operator must act")                      \
  X(FATAL, -18, 0, 1, 14, "the node has stopped itself; its log says why")                       \
  X(VMM_PROTOCOL, -19, 0, 1, 13, "the virtual machine monitor answered something it should not") \
  X(IO, -20, 0, 1, 13, "the operating system refused")                                           \
  X(NOMEM, -21, 1, 1, 8, "out of memory")                                                        \
  X(INTERNAL, -22, 0, 1, 13, "an internal error")

enum {
  BLX_OK = 0,
#define BLX_ERR_ROW(name, number, retryable, exit_status, grpc, text) BLX_E_##name = number,
  BLX_ERR_MAP(BLX_ERR_ROW)
#undef BLX_ERR_ROW
};

/* What went wrong. Owned by the caller, who may pass NULL instead; written only on failure, and by the thread that made
 * the call: nothing of it is kept by the library. No allocation. Since 0.1. */
typedef struct blx_error {
  int code;          /* BLX_E_* */
  char message[512]; /* one sentence, and the next step; UTF-8, NUL-terminated, cut at a character */
  char origin[64];   /* the part or node it comes from */
  char leader[160];  /* where to ask instead, when known; else empty */
} blx_error;

/* Name of a code, "EXISTS" for BLX_E_EXISTS; "OK" for 0; "UNKNOWN" for anything else. Static. Thread: any. Since 0.1.
 */
BLX_API const char *blx_error_name(int code);

/* General text of a code. Static. Thread: any. Since 0.1. */
BLX_API const char *blx_error_text(int code);

/* 1 if the same request may be sent again, 0 if not. Thread: any. Since 0.1. */
BLX_API int blx_error_retryable(int code);

/* Exit status (0..7) that a command-line tool gives for a code. Thread: any. Since 0.1. */
BLX_API int blx_error_exit_status(int code);

#ifdef __cplusplus
}
#endif
#endif
