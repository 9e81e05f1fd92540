/* One node with simulated VMs in a directory of its own, for the tests of the public functions. */
#ifndef BLX_TESTS_API_SUPPORT_H
#define BLX_TESTS_API_SUPPORT_H

#include "../harness.h"

#include <blixard/blixard.h>
#include <string.h>

/* A leader of one node, room for thousands of VMs. One at a time. */
blx_node *api_open_node(int32_t completions);
blx_node *api_open_node_told(int32_t completions, blx_fatal_fn on_fatal);
/* After the close of the node alone: the same one again. */
blx_node *api_reopen_node(int32_t completions);
blx_client *api_client_of(blx_node *node);

/* Close both, NULL and closed ones allowed, and remove the directory. */
void api_close(blx_node *node, blx_client *client);

/* The code, and that there is a sentence. */
#define REFUSED(code_wanted, expr)                                             \
  do {                                                                         \
    blx_error err = {0};                                                       \
    int got = (expr);                                                          \
    ck_assert_msg(got == (code_wanted), "%s: %d %s", #expr, got, err.message); \
    ck_assert_int_eq(err.code, got);                                           \
    ck_assert_msg(strlen(err.message) > 10, "%s", #expr);                      \
  } while (0)

#endif
