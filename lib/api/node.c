#include "api/api_int.h"

#include "api/vm_driver.h"
#include "node/node.h"

#include <stdlib.h>

#ifndef BLX__VERSION
#define BLX__VERSION "0.1.0"
#endif

/* What is behind a blx_node: the node, and what is to be told on a thread of the embedder's. */
struct api_node {
  struct blx__node *node;
  struct blx__api_queue *queue; /* NULL: completions on the node's and its clients' threads */
  blx_fatal_fn on_fatal;
  void *fatal_user;
  struct blx__api_item fatal; /* told once */
  int fatal_code;
  char fatal_text[sizeof((blx_error *)0)->message];
  struct blx_vm_driver_ops driver; /* of the embedder's, if there is one */
};

static void tell_fatal(struct blx__api_item *item) {
  struct api_node *n = BLX__CONTAINER(item, struct api_node, fatal);
  n->on_fatal(n->fatal_user, n->fatal_code, n->fatal_text);
}

static void keep_fatal(void *user, int code, const char *text) {
  struct api_node *n = user;
  n->fatal_code = code;
  (void)blx__str_copy(n->fatal_text, sizeof n->fatal_text, text);
  blx__api_queue_push(n->queue, &n->fatal);
}

/* The embedder's function is told by a dispatch, the node's thread tells ours. */
static blx__rc open_queue(struct api_node *n, struct blx_node_options *o, blx_error *err) {
  if (o->completions == BLX_COMPLETIONS_THREAD) return BLX__OK;
  if (o->completions != BLX_COMPLETIONS_DISPATCH)
    return blx__fail(err, BLX_E_INVALID, "node", "completions: %d is none of BLX_COMPLETIONS_*", o->completions);
  BLX__TRY(blx__api_queue_new(&n->queue, err));
  if (!o->on_fatal) return BLX__OK;
  n->on_fatal = o->on_fatal;
  n->fatal_user = o->fatal_user;
  n->fatal = (struct blx__api_item){.run = tell_fatal, .owner = n};
  o->on_fatal = keep_fatal;
  o->fatal_user = n;
  return BLX__OK;
}

static blx__rc take_driver(struct blx_vm_driver_ops *out, const struct blx_node_options *o, blx_error *err) {
  if (o->simulate_vms != 0)
    return blx__fail(err, BLX_E_INVALID, "node", "vm_driver and simulate_vms exclude each other: give one of them");
  BLX__TRY(blx__api_take_struct(out, sizeof *out, sizeof(size_t), o->vm_driver, "node", err));
  if (!out->open || !out->prepare || !out->start || !out->stop || !out->kill || !out->destroy || !out->adopt)
    return blx__fail(err, BLX_E_MISUSE, "node",
                     "vm_driver: open, prepare, start, stop, kill, destroy and adopt are required");
  if (!out->logs != !out->logs_close)
    return blx__fail(err, BLX_E_MISUSE, "node", "vm_driver: logs and logs_close come together, or neither does");
  if (!out->session_open != !out->session_write || !out->session_open != !out->session_close)
    return blx__fail(err, BLX_E_MISUSE, "node",
                     "vm_driver: session_open, session_write and session_close come together, or none does");
  return BLX__OK;
}

static blx__rc open_node(struct api_node *n, const struct blx_node_options *o, blx_error *err) {
  if (!o->vm_driver) return blx__node_open(o, &n->node, err);
  BLX__TRY(take_driver(&n->driver, o, err));
  return blx__node_open_with(o, blx__api_vm_driver_open, &n->driver, &n->node, err);
}

static void node_free(struct api_node *n) {
  blx__api_queue_unref(n->queue);
  free(n);
}

int blx_node_open(const struct blx_node_options *options, blx_node **out, blx_error *reterr) {
  struct blx_node_options whole;
  if (!options || !out) return blx__api_misuse(reterr, "the options or the place for the node is NULL");
  size_t min = offsetof(struct blx_node_options, socket_path);
  blx__rc rc = blx__api_take_struct(&whole, sizeof whole, min, options, "node", reterr);
  if (rc.code != 0) return rc.code;
  struct api_node *n = calloc(1, sizeof *n);
  if (!n) return blx__fail(reterr, BLX_E_NOMEM, "node", "no memory for a node").code;
  rc = open_queue(n, &whole, reterr);
  if (rc.code == 0) rc = open_node(n, &whole, reterr);
  if (rc.code != 0) {
    node_free(n);
    return rc.code;
  }
  blx_node *handle = blx__api_handle_new(BLX__API_NODE, n, reterr);
  if (handle) {
    *out = handle;
    return 0;
  }
  blx__node_close(n->node);
  node_free(n);
  return BLX_E_BUSY;
}

void blx_node_close(blx_node *node) {
  struct api_node *n = node ? blx__api_handle_take(node, BLX__API_NODE, NULL) : NULL;
  if (!n) return;
  bool inside = blx__node_on_own_thread(n->node) || blx__api_queue_inside(n->queue);
  bool mine = !inside && blx__api_handle_kill(node);
  blx__api_handle_put(node);
  if (!mine) return;
  blx__api_handle_drop(node);
  blx__node_close(n->node);
  if (n->queue) blx__api_queue_drain(n->queue, n);
  node_free(n);
}

const char *blx_node_address(const blx_node *node) {
  struct api_node *n = blx__api_handle_take(node, BLX__API_NODE, NULL);
  if (!n) return "";
  const char *address = blx__node_address(n->node);
  blx__api_handle_put(node);
  return address;
}

int blx_node_client(blx_node *node, blx_client **out, blx_error *reterr) {
  if (!out) return blx__api_misuse(reterr, "the place for the client is NULL");
  struct api_node *n = blx__api_handle_take(node, BLX__API_NODE, reterr);
  if (!n) return BLX_E_MISUSE;
  const char *address = blx__node_address(n->node);
  struct blx_client_options options = BLX_CLIENT_OPTIONS_INIT;
  options.addresses = &address;
  options.n_addresses = 1;
  int rc = blx__api_client_open(&options, n->queue, out, reterr);
  blx__api_handle_put(node);
  return rc;
}

/* ---- completions on a thread of the embedder's */

static struct blx__api_queue *take_queue(const blx_node *node, blx_error *reterr) {
  struct api_node *n = blx__api_handle_take(node, BLX__API_NODE, reterr);
  if (!n) return NULL;
  struct blx__api_queue *queue = n->queue;
  if (queue)
    blx__api_queue_ref(queue);
  else
    (void)blx__api_misuse(reterr, "the node was not opened with completions = BLX_COMPLETIONS_DISPATCH");
  blx__api_handle_put(node);
  return queue;
}

int blx_node_fd(blx_node *node, blx_error *reterr) {
  struct blx__api_queue *queue = take_queue(node, reterr);
  int fd = queue ? blx__api_queue_fd(queue) : BLX_E_MISUSE;
  blx__api_queue_unref(queue);
  return fd;
}

int blx_node_dispatch(blx_node *node, uint32_t max, blx_error *reterr) {
  struct blx__api_queue *queue = take_queue(node, reterr);
  int done = queue ? blx__api_queue_run(queue, max, reterr) : BLX_E_MISUSE;
  blx__api_queue_unref(queue);
  return done;
}

const char *blx_version(void) {
  return BLX__VERSION;
}

int blx_flake_ref_is_pinned(const char *ref) {
  return ref && blx__vm_ref_is_pinned(ref);
}
