/* Lists of objects: printed once, or with --watch for as long as somebody looks. */
#ifndef BLX_CLI_LIST_H
#define BLX_CLI_LIST_H

#include "kinds.h"

/* All objects of @kind, or the @n_names named ones. Returns the exit status. */
int cli_list(const struct cli_args *args, const struct cli_object_kind *kind, const char *const *names, size_t n_names);

#endif
