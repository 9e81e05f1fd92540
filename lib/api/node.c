#include "api/api_int.h"

#include "node/node.h"

#ifndef BLX__VERSION
#define BLX__VERSION "0.1.0"
#endif

/* The public handle is the node itself. */
static struct blx__node *inside(blx_node *node) {
  return (struct blx__node *)node;
}

int blx_node_open(const struct blx_node_options *options, blx_node **out, blx_error *reterr) {
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the node is NULL");
  if (options->struct_size < sizeof(size_t) + 2 * sizeof(char *) || options->struct_size > 4096)
    return blx__api_misuse(reterr, "struct_size of the options is not set: begin with BLX_NODE_OPTIONS_INIT");
  if (options->struct_size > sizeof *options)
    return blx__fail(reterr, BLX_E_UNSUPPORTED, "node", "the options are of a newer library: link version %s's headers",
                     BLX__VERSION)
        .code;
  struct blx_node_options whole = {0};
  __builtin_memcpy(&whole, options, options->struct_size);
  whole.struct_size = sizeof whole;
  struct blx__node *node = NULL;
  blx__rc rc = blx__node_open(&whole, &node, reterr);
  if (rc.code == 0) *out = (blx_node *)node;
  return rc.code;
}

void blx_node_close(blx_node *node) {
  if (!node || blx__node_on_own_thread(inside(node))) return;
  blx__node_close(inside(node));
}

const char *blx_node_address(const blx_node *node) {
  return node ? blx__node_address((const struct blx__node *)node) : "";
}

int blx_node_client(blx_node *node, blx_client **out, blx_error *reterr) {
  if (!node) return blx__api_misuse(reterr, "the node is NULL");
  const char *address = blx__node_address(inside(node));
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  options.addresses = &address;
  options.n_addresses = 1;
  return blx_client_open(&options, out, reterr);
}

const char *blx_version(void) {
  return BLX__VERSION;
}
