/* The moment between vfork and exec; for lib/io only. */
#ifndef BLX__IO_SPAWN_INT_H
#define BLX__IO_SPAWN_INT_H

#include "io/process.h"

#include <sys/types.h>

/* Start spec's program with stdout and stderr at @output_fd (-1: /dev/null). Errors: NOT_FOUND, DENIED, NOMEM, IO. */
blx__rc spawn(const struct blx__process_spec *spec, int output_fd, pid_t *pid, blx_error *err) BLX__MUST;

#endif
