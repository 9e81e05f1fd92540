/* A change that is asked about, not made. */
#ifndef BLX_CLI_PLAN_H
#define BLX_CLI_PLAN_H

#include "output.h"

/* Exit statuses of a plan beside 0, nothing would change: a change; an internal error, elsewhere 1. */
enum { CLI_EXIT_CHANGES = 1, CLI_EXIT_PLAN_INTERNAL = 8 };

/* Ask, and print it. Returns the exit status. */
int cli_plan(const struct cli_args *args, blx_client *client, struct blx_vm_plan_request *request);

#endif
