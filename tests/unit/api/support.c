#include "support.h"

#include "io/file.h"

#include <stdlib.h>

static char dir[64];

static blx_node *open_in_dir(int32_t completions, blx_fatal_fn on_fatal) {
  static struct blx_resources capacity = {.struct_size = sizeof capacity, .vcpus = 4096, .memory_mib = 1 << 20};
  char data[96];
  blx_node *node = NULL;
  blx_error err = {0};
  (void)blx__str_format(data, sizeof data, "%s/a", dir);
  struct blx_node_options o = BLX_NODE_OPTIONS_INIT;
  o.data_dir = data;
  o.name = "a";
  o.bootstrap = 1;
  o.simulate_vms = 1;
  o.capacity = &capacity;
  o.heartbeat_ms = 50;
  o.election_ms = 500;
  o.completions = completions;
  o.on_fatal = on_fatal;
  ck_assert_msg(blx_node_open(&o, &node, &err) == 0, "%s", err.message);
  return node;
}

blx_node *api_open_node_told(int32_t completions, blx_fatal_fn on_fatal) {
  (void)blx__str_copy(dir, sizeof dir, "/tmp/blx-api-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  return open_in_dir(completions, on_fatal);
}

blx_node *api_reopen_node(int32_t completions) {
  return open_in_dir(completions, NULL);
}

blx_node *api_open_node(int32_t completions) {
  return api_open_node_told(completions, NULL);
}

blx_client *api_client_of(blx_node *node) {
  blx_client *c = NULL;
  blx_error err = {0};
  ck_assert_msg(blx_node_client(node, &c, &err) == 0, "%s", err.message);
  return c;
}

void api_close(blx_node *node, blx_client *client) {
  blx_error err;
  blx_client_close(client);
  blx_node_close(node);
  ck_assert_int_eq(blx__dir_remove_tree(dir, &err).code, 0);
}
