/* The driver that the options ask for, and what it needs to know of this host. */
#include "node/node_int.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { UNPRIVILEGED = 65534 }; /* nobody: owns nothing on a Debian host */

static void on_event(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                     const struct blx__vm_status *status) {
  struct blx__node *n = user;
  if (n->agent) blx__agent_event(n->agent, key, event, status);
}

static blx__rc open_simulated(struct blx__node *n, blx_error *err) {
  const struct blx__vm_sim_options options = {
      .prepare_ms = 20, .start_ms = 20, .ready_ms = 50, .stop_ms = 20, .on_event = on_event, .user = n};
  return blx__vm_sim_open(n->loop, &options, &n->driver, err);
}

static blx__rc absolute(struct blx__node *n, const char *path, const char **out, blx_error *err) {
  char buf[PATH_MAX];
  if (!path) return BLX__OK;
  const char *real = realpath(path, buf);
  *out = blx__arena_strdup(&n->mem, real ? real : path);
  return *out ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "node", "no memory for a path");
}

static blx__rc open_microvm(struct blx__node *n, blx_error *err) {
  char tag[48];
  (void)blx__str_format(tag, sizeof tag, "blixard-%.8s-%llu", n->identity->cluster_id, (unsigned long long)n->uid);
  struct blx__vm_options options = {.host_tag = tag, .on_event = on_event, .user = n};
  options.vmm_uid = options.vmm_gid = UNPRIVILEGED;
  options.vmm_user_optional = true;
  BLX__TRY(absolute(n, n->data_dir, &options.state_dir, err));
  BLX__TRY(absolute(n, n->shim_path, &options.shim_path, err));
  BLX__TRY(absolute(n, n->runner_dir, &options.runner_dir, err));
  BLX__TRY(absolute(n, n->kernel_dir, &options.kernel_dir, err));
  BLX__TRY(absolute(n, n->guest_path, &options.guest_path, err));
  BLX__TRY(absolute(n, n->nix_store_dir, &options.nix_store_dir, err));
  return blx__vm_microvm_open(n->loop, &options, &n->driver, err);
}

blx__rc blx__node_open_driver(struct blx__node *n, blx_error *err) {
  BLX__ASSERT(n->uid != 0 && !n->driver);
  return n->simulate_vms ? open_simulated(n, err) : open_microvm(n, err);
}
