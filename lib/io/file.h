/* Small files and directories. All of these block: keep them to small local files, or call them on a worker. Thread:
 * any.
 */
#ifndef BLX__IO_FILE_H
#define BLX__IO_FILE_H

#include "base/buf.h"

enum { BLX__DIR_DEPTH_MAX = 128 }; /* how deep blx__dir_remove_tree goes */

/* Append the whole file to @out. Errors: NOT_FOUND, DENIED, INVALID (longer than @max bytes or than @out takes, or not
 * a regular file), IO, NOMEM. */
blx__rc blx__file_read(const char *path, size_t max, struct blx__buf *out, blx_error *err) BLX__MUST;

/* Replace @path by these bytes, wholly or not at all, also across a power cut: a temporary file beside it, fsync,
 * rename, fsync of the directory. Two writers of one path at the same time: the last wins. Errors: NOSPACE, DENIED,
 * NOT_FOUND, IO.
 */
blx__rc blx__file_write_atomic(const char *path, const void *bytes, size_t size, unsigned mode,
                               blx_error *err) BLX__MUST;

/* Make @path and its missing parents with @mode (umask applies). Existing is success. Errors: EXISTS (something there
 * is no directory), DENIED, NOSPACE, INVALID (path of 4096 bytes or more), IO. */
blx__rc blx__dir_make(const char *path, unsigned mode, blx_error *err) BLX__MUST;

/* Remove @path and what is below. Links are removed, never followed; a mount point below is never entered and fails the
 * call. Absent is success. Errors: DENIED, INVALID (deeper than BLX__DIR_DEPTH_MAX, or a mount below), IO. */
blx__rc blx__dir_remove_tree(const char *path, blx_error *err) BLX__MUST;

/* @size bytes from the kernel's generator. Errors: IO. */
blx__rc blx__random_bytes(void *out, size_t size, blx_error *err) BLX__MUST;

#endif
