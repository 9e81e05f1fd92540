/* A node's life: its options, its thread, the order in which its parts open and close. */
#include "node/node_int.h"

#include "base/failpoint.h"
#include "io/file.h"
#include "node/identity.h"
#include "vm/cgroup.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef BLX__VERSION
#define BLX__VERSION "0.1.0"
#endif
#ifndef BLX__PREFIX
#define BLX__PREFIX "/usr/local" /* where `make install` put the programs and the runner flake */
#endif

enum { DATA_DIR_MAX = 80, SOCKET_MAX = 107, OPTIONS_ARENA = 1 << 20 };

/* ---- options */

static blx__rc no_memory(blx_error *err) {
  return blx__fail(err, BLX_E_NOMEM, "node", "no memory for a node");
}

static blx__rc copy_paths(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  char socket[DATA_DIR_MAX + 32], text[SOCKET_MAX + 32];
  (void)blx__str_format(socket, sizeof socket, "%s/blixard.sock", o->data_dir);
  const char *path = o->socket_path ? o->socket_path : socket;
  if (strlen(path) > SOCKET_MAX)
    return blx__fail(err, BLX_E_INVALID, "node",
                     "the socket's path has %zu bytes, a unix socket takes %d: give a shorter one", strlen(path),
                     SOCKET_MAX);
  n->data_dir = blx__arena_strdup(&n->mem, o->data_dir);
  n->socket_path = blx__arena_strdup(&n->mem, path);
  (void)blx__str_format(text, sizeof text, "unix:%s", path);
  n->address = blx__arena_strdup(&n->mem, text);
  if (!n->data_dir || !n->socket_path || !n->address) return no_memory(err);
  n->self->address = n->self->peer_address = n->address;
  return BLX__OK;
}

static blx__rc check_timing(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  n->heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : 200;
  n->election_ms = o->election_ms ? o->election_ms : 2000;
  if (n->heartbeat_ms < 10 || n->heartbeat_ms > 1000)
    return blx__fail(err, BLX_E_INVALID, "node", "heartbeat_ms: %u is outside of 10 to 1000", n->heartbeat_ms);
  if (n->election_ms < 5 * n->heartbeat_ms || n->election_ms > 10000)
    return blx__fail(err, BLX_E_INVALID, "node", "election_ms: %u is outside of 5 heartbeats (%u) to 10000",
                     n->election_ms, 5 * n->heartbeat_ms);
  return BLX__OK;
}

static blx__rc copy_self(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  static const int32_t runs[] = {BLX_HYPERVISOR_QEMU};
  struct blx_resources detected = BLX_RESOURCES_INIT;
  if (o->capacity && (o->reserve_vcpus > 0 || o->reserve_memory_mib > 0))
    return blx__fail(
        err, BLX_E_INVALID, "node",
        "reserve_vcpus, reserve_memory_mib: the capacity says already what instances may use: leave one out");
  if (!o->capacity) BLX__TRY(blx__identity_capacity(o->reserve_vcpus, o->reserve_memory_mib, &detected, err));
  struct blx_node_info self = BLX_NODE_INFO_INIT;
  self.name = o->name;
  self.version = BLX__VERSION;
  self.capacity = o->capacity ? o->capacity : &detected;
  self.labels = o->labels;
  self.n_labels = o->n_labels;
  const char *features[BLX__IDENTITY_FEATURES_MAX];
  self.cpu_features = features;
  self.n_cpu_features = blx__identity_features("/proc/cpuinfo", features);
  self.hypervisors = (int32_t *)(uintptr_t)runs;
  self.n_hypervisors = BLX__COUNT(runs);
  self.simulated = o->simulate_vms != 0;
  self.watchdog = self.simulated ? NULL : o->watchdog_device;
  self.no_watchdog = o->no_watchdog != 0;
  self.virtualized = blx__identity_virtualized("/proc/cpuinfo", "/sys/class/dmi/id");
  BLX__TRY(blx__random_bytes(&self.incarnation, sizeof self.incarnation, err));
  self.incarnation >>= 12; /* 52 bits: exact in every JSON reader */
  BLX__TRY(blx__msg_validate(blx__desc_node_info(), &self, err));
  void *copy = NULL;
  BLX__TRY(blx__msg_copy(blx__desc_node_info(), &n->mem, &self, &copy, err));
  n->self = copy;
  return BLX__OK;
}

static blx__rc copy_driver_options(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  n->simulate_vms = o->simulate_vms != 0;
  n->unsafe_fs = o->unsafe_fs != 0;
  n->shim_path = blx__arena_strdup(&n->mem, o->shim_path ? o->shim_path : BLX__PREFIX "/bin/blixard-shim");
  n->guest_path = blx__arena_strdup(&n->mem, o->guest_path ? o->guest_path : BLX__PREFIX "/bin/blixard-guest");
  n->runner_dir =
      blx__arena_strdup(&n->mem, o->runner_dir ? o->runner_dir : BLX__PREFIX "/share/blixard/debian-runner");
  char kernel[PATH_MAX];
  if (!n->runner_dir || !blx__str_format(kernel, sizeof kernel, "%s/kernel", n->runner_dir))
    return blx__fail(err, BLX_E_INVALID, "node", "runner_dir: the path is too long");
  n->kernel_dir = blx__arena_strdup(&n->mem, o->kernel_dir ? o->kernel_dir : kernel);
  n->nix_store_dir = o->nix_store_dir ? blx__arena_strdup(&n->mem, o->nix_store_dir) : NULL;
  n->nixpkgs_ref = o->nixpkgs_ref ? blx__arena_strdup(&n->mem, o->nixpkgs_ref) : NULL;
  n->watchdog_path =
      blx__arena_strdup(&n->mem, o->watchdog_path ? o->watchdog_path : BLX__PREFIX "/bin/blixard-watchdog");
  n->watchdog_device = o->watchdog_device ? blx__arena_strdup(&n->mem, o->watchdog_device) : NULL;
  n->microvm_ref = o->microvm_ref ? blx__arena_strdup(&n->mem, o->microvm_ref) : NULL;
  n->share_paths = o->share_paths ? blx__arena_strdup(&n->mem, o->share_paths) : NULL;
  n->virtiofsd_path = o->virtiofsd_path ? blx__arena_strdup(&n->mem, o->virtiofsd_path) : NULL;
  if (!n->shim_path || !n->guest_path || !n->kernel_dir || !n->watchdog_path ||
      (o->watchdog_device && !n->watchdog_device) || (o->nix_store_dir && !n->nix_store_dir) ||
      (o->nixpkgs_ref && !n->nixpkgs_ref) || (o->microvm_ref && !n->microvm_ref) ||
      (o->share_paths && !n->share_paths) || (o->virtiofsd_path && !n->virtiofsd_path))
    return no_memory(err);
  return BLX__OK;
}

static blx__rc take_audit_limits(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  enum { DAYS = 365, DAYS_MAX = 36500, MIB = 256, MIB_MAX = 65536, EVENTS_DAYS = 30, EVENTS_MIB = 128 };
  if (o->audit_max_age_days > DAYS_MAX)
    return blx__fail(err, BLX_E_INVALID, "node", "audit_max_age_days: %u is above %d", o->audit_max_age_days, DAYS_MAX);
  if (o->audit_max_size_mib > MIB_MAX)
    return blx__fail(err, BLX_E_INVALID, "node", "audit_max_size_mib: %u is above %d", o->audit_max_size_mib, MIB_MAX);
  if (o->events_max_age_days > DAYS_MAX)
    return blx__fail(err, BLX_E_INVALID, "node", "events_max_age_days: %u is above %d", o->events_max_age_days,
                     DAYS_MAX);
  if (o->events_max_size_mib > MIB_MAX)
    return blx__fail(err, BLX_E_INVALID, "node", "events_max_size_mib: %u is above %d", o->events_max_size_mib,
                     MIB_MAX);
  const uint64_t day_ms = 24 * 3600 * 1000;
  n->audit.events_max_age_ms = (o->events_max_age_days ? o->events_max_age_days : EVENTS_DAYS) * day_ms;
  n->audit.events_max_bytes = (uint64_t)(o->events_max_size_mib ? o->events_max_size_mib : EVENTS_MIB) << 20;
  n->audit.max_age_ms = (uint64_t)(o->audit_max_age_days ? o->audit_max_age_days : DAYS) * 24 * 3600 * 1000;
  n->audit.max_bytes = (uint64_t)(o->audit_max_size_mib ? o->audit_max_size_mib : MIB) << 20;
  return BLX__OK;
}

static blx__rc take_options(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  n->log = (struct blx__log){o->log, o->log_user, o->log_level};
  n->on_fatal = o->on_fatal;
  n->fatal_user = o->fatal_user;
  if (!o->data_dir || !*o->data_dir || strlen(o->data_dir) > DATA_DIR_MAX)
    return blx__fail(err, BLX_E_INVALID, "node", "data_dir: a path of 1 to %d bytes is required", DATA_DIR_MAX);
  if (!blx__name_ok(o->name, 63))
    return blx__fail(err, BLX_E_INVALID, "node",
                     "name: a node name matches " BLX__NAME_PATTERN ", at most 63 characters");
  BLX__TRY(check_timing(n, o, err));
  BLX__TRY(take_audit_limits(n, o, err));
  BLX__TRY(copy_self(n, o, err));
  BLX__TRY(copy_driver_options(n, o, err));
  return copy_paths(n, o, err);
}

/* ---- closing: first what serves and speaks, then the driver, which the agent needs to the end */

static void close_driver(struct blx__node *n);

void blx__node_part_closed(struct blx__node *n) {
  BLX__ASSERT(n->close_waits > 0);
  if (--n->close_waits > 0) return;
  if (n->driver)
    close_driver(n);
  else
    blx__loop_stop(n->loop);
}

static void part_closed(void *user) {
  blx__node_part_closed(user);
}

static void close_driver(struct blx__node *n) {
  struct blx__vm_driver *driver = n->driver;
  n->driver = NULL;
  n->close_waits = 1;
  driver->ops->close(driver, part_closed, n);
}

static void begin_close(void *arg) {
  struct blx__node *n = arg;
  BLX__ASSERT(!n->closing);
  if (n->init_call) blx__call_failf(n->init_call, BLX_E_CANCELLED, "node %s is stopping", n->self->name);
  n->closing = true;
  n->close_waits = 1 + n->audit.jobs; /* ours, until everything below was asked; and those that are on a worker */
  blx__lead_close(n);
  blx__lease_close(n);
  if (n->worker) blx__worker_close(n);
  blx__timer_free(n->announce);
  n->announce = NULL;
  blx__loop_undefer(&n->follow);
  if (n->server) {
    n->close_waits++;
    blx__rpc_server_close(n->server, part_closed, n);
  }
  if (n->consensus) {
    n->close_waits++;
    blx__consensus_close(n->consensus, part_closed, n);
  }
  if (n->agent) {
    struct blx__agent *agent = n->agent;
    n->agent = NULL;
    n->close_waits++;
    blx__agent_close(agent, part_closed, n);
  }
  if (n->channel) {
    struct blx__channel *channel = n->channel;
    n->channel = NULL;
    n->close_waits++;
    blx__channel_close(channel, part_closed, n);
  }
  blx__forward_close(n);
  blx__node_part_closed(n);
}

static void node_free(struct blx__node *n) {
  BLX__ASSERT(blx__list_empty(&n->calls) && n->shares.count == 0 && n->backups_count == 0);
  blx__serve_free(n);
  blx__worker_free(n->worker);
  blx__loop_free(n->loop);
  blx__history_close(n->audit.history);
  blx__events_free(n);
  blx__state_free(n->state);
  blx__msg_free_owned(n->identity);
  if (n->lock_fd >= 0) close(n->lock_fd);
  blx__arena_free(&n->mem);
  free(n);
}

/* ---- the thread */

static void *thread_main(void *arg) {
  struct blx__node *n = arg;
  blx__loop_run(n->loop);
  return NULL;
}

/* Signals are the embedder's: none is delivered to this thread. */
static int start_thread(struct blx__node *n) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(&n->thread, NULL, thread_main, n);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  n->thread_started = rc == 0;
  return rc;
}

bool blx__node_on_own_thread(const struct blx__node *n) {
  return n->thread_started && pthread_equal(pthread_self(), n->thread);
}

const char *blx__node_address(const struct blx__node *n) {
  return n->address;
}

void blx__node_close(struct blx__node *n) {
  if (!n || n->pid != getpid()) return;
  if (!n->loop) {
    if (n->lock_fd >= 0) close(n->lock_fd);
    blx__arena_free(&n->mem);
    free(n);
    return;
  }
  if (n->thread_started) {
    /* The queue is bounded; a node is closed even when it is full. */
    while (blx__loop_post(n->loop, begin_close, n, NULL).code != 0) usleep(1000);
    pthread_join(n->thread, NULL);
  } else {
    begin_close(n);
    blx__loop_run(n->loop);
  }
  node_free(n);
}

/* ---- the driver that the options ask for, and what it needs to know of this host */

enum { UNPRIVILEGED = 65534 }; /* nobody: owns nothing on a Debian host */

static void on_vm_event(void *user, const struct blx__vm_key *key, enum blx__vm_event event,
                        const struct blx__vm_status *status) {
  struct blx__node *n = user;
  if (n->agent) blx__agent_event(n->agent, key, event, status);
}

static blx__rc open_simulated(struct blx__node *n, blx_error *err) {
  const struct blx__vm_sim_options options = {
      .prepare_ms = 20, .start_ms = 20, .ready_ms = 50, .stop_ms = 20, .on_event = on_vm_event, .user = n};
  return blx__vm_sim_open(n->loop, &options, &n->driver, err);
}

static blx__rc absolute(struct blx__node *n, const char *path, const char **out, blx_error *err) {
  char buf[PATH_MAX];
  if (!path) return BLX__OK;
  const char *real = realpath(path, buf);
  *out = blx__arena_strdup(&n->mem, real ? real : path);
  return *out ? BLX__OK : blx__fail(err, BLX_E_NOMEM, "node", "no memory for a path");
}

/* Begins the host-wide names of this node's. */
static const char *host_tag(const struct blx__node *n, char tag[48]) {
  (void)blx__str_format(tag, 48, "blixard-%.8s-%llu", n->identity->cluster_id, (unsigned long long)n->uid);
  return tag;
}

static blx__rc open_microvm(struct blx__node *n, blx_error *err) {
  char tag[48];
  (void)host_tag(n, tag);
  struct blx__vm_options options = {.host_tag = tag, .on_event = on_vm_event, .user = n};
  options.vmm_uid = options.vmm_gid = UNPRIVILEGED;
  options.vmm_user_optional = true;
  options.nixpkgs_ref = n->nixpkgs_ref;
  options.microvm_ref = n->microvm_ref;
  options.share_paths = n->share_paths;
  BLX__TRY(absolute(n, n->data_dir, &options.state_dir, err));
  BLX__TRY(absolute(n, n->shim_path, &options.shim_path, err));
  BLX__TRY(absolute(n, n->runner_dir, &options.runner_dir, err));
  BLX__TRY(absolute(n, n->kernel_dir, &options.kernel_dir, err));
  BLX__TRY(absolute(n, n->guest_path, &options.guest_path, err));
  BLX__TRY(absolute(n, n->virtiofsd_path, &options.virtiofsd_path, err));
  BLX__TRY(absolute(n, n->nix_store_dir, &options.nix_store_dir, err));
  return blx__vm_microvm_open(n->loop, &options, &n->driver, err);
}

static blx__rc open_driver(struct blx__node *n, blx_error *err) {
  BLX__ASSERT(n->uid != 0 && !n->driver);
  n->self->tells_disks = !n->own_driver && !n->simulate_vms; /* the only one that makes some, and looks */
  if (n->own_driver) return n->own_driver(n->own_driver_user, n->loop, on_vm_event, n, &n->driver, err);
  return n->simulate_vms ? open_simulated(n, err) : open_microvm(n, err);
}

static void sim_set_kill_at(void *user, uint64_t boot_ms) {
  blx__vm_sim_set_kill_at(((struct blx__node *)user)->driver, boot_ms);
}
static uint64_t sim_get_kill_at(void *user) {
  return blx__vm_sim_kill_at(((struct blx__node *)user)->driver);
}
static bool sim_watched(void *user) {
  (void)user;
  return true;
}

/* Who ends highly available instances here, if anybody can: else there are none. */
static void add_killer(struct blx__node *n, struct blx__agent_options *o, char page[DATA_DIR_MAX + 32],
                       char group[PATH_MAX]) {
  char tag[64];
  blx_error err;
  if (n->own_driver) return;
  if (n->simulate_vms) {
    o->killer = (struct blx__agent_killer){sim_set_kill_at, sim_get_kill_at, sim_watched, n};
    return;
  }
  (void)host_tag(n, tag);
  (void)blx__str_format(tag + strlen(tag), 8, "-ha");
  if (blx__vm_cgroup_parent(tag, group, &err).code != 0) {
    blx__log(&n->log, BLX_LOG_INFO, "node", "no highly available instances on %s: %s", n->self->name, err.message);
    return;
  }
  (void)blx__str_format(page, DATA_DIR_MAX + 32, "%s/lease", n->data_dir);
  o->watchdog = (struct blx__agent_watchdog){n->watchdog_path, page, group, n->watchdog_device, BLX__NODE_WATCHDOG_S};
}

blx__rc blx__node_open_agent(struct blx__node *n, blx_error *err) {
  if (!n->driver) BLX__TRY(open_driver(n, err));
  char dir[DATA_DIR_MAX + 32], relative[DATA_DIR_MAX + 32], group[PATH_MAX];
  const char *page = NULL;
  (void)blx__str_format(dir, sizeof dir, "%s/agent", n->data_dir);
  struct blx__agent_options options = {.loop = n->loop, .driver = n->driver, .journal_dir = dir, .log = &n->log};
  options.node_name = n->self->name;
  options.node_uid = n->uid;
  options.sink.send = blx__member_report;
  options.sink.user = n;
  add_killer(n, &options, relative, group);
  BLX__TRY(absolute(n, options.watchdog.page, &page, err));
  options.watchdog.page = page;
  return blx__agent_open(&options, &n->agent, err);
}

/* ---- opening */

static void on_event(void *user, const struct blx_event *event) {
  struct blx__node *n = user;
  blx__events_note(n, event);
  if (event->kind != BLX_EVENT_KIND_NODE) return;
  const struct blx_node_info *node = blx__state_node(n->state, event->uid);
  if (node && node->role == BLX_NODE_ROLE_WORKER)
    blx__share_due(n, event->uid);
  else
    n->nodes_changed = true;
}

static void on_audit(void *user, const struct blx__state_audit *record) {
  blx__audit_record(user, record);
}

static void on_share(void *user, uint64_t node_uid) {
  blx__share_due(user, node_uid);
}

/* Without an identity there is nothing that it could belong to. */
static blx__rc check_no_log(const struct blx__node *n, blx_error *err) {
  char dir[DATA_DIR_MAX + 32];
  bool exists = false;
  (void)blx__str_format(dir, sizeof dir, "%s/raft", n->data_dir);
  BLX__TRY(blx__consensus_probe(dir, &exists, err));
  if (!exists) return BLX__OK;
  return blx__fail(err, BLX_E_CORRUPT, "node",
                   "%s/identity is missing, but %s holds a log: restore it from a backup, or empty the data directory "
                   "and join as a new node",
                   n->data_dir, dir);
}

static blx__rc open_parts(struct blx__node *n, const struct blx_node_options *o, blx_error *err) {
  BLX__TRY(blx__loop_new(&n->loop, err));
  const struct blx__state_options state_options = {
      .on_event = on_event, .on_share = on_share, .on_audit = on_audit, .user = n};
  n->state = blx__state_new(&state_options);
  if (!n->state) return no_memory(err);
  BLX__TRY(blx__identity_read(n->data_dir, &n->identity, err));
  if (n->identity) {
    BLX__TRY(blx__node_check_left(n, err));
    n->self->name = blx__arena_strdup(&n->mem, n->identity->name);
    if (!n->self->name) return no_memory(err);
    BLX__TRY(blx__node_start(n, err));
  } else {
    BLX__TRY(check_no_log(n, err));
    if (o->bootstrap) BLX__TRY(blx__member_found(n, NULL, err));
  }
  return blx__serve_open(n, err);
}

blx__rc blx__node_open(const struct blx_node_options *options, struct blx__node **out, blx_error *err) {
  return blx__node_open_with(options, NULL, NULL, out, err);
}

blx__rc blx__node_open_with(const struct blx_node_options *options, blx__node_driver_fn *driver, void *driver_user,
                            struct blx__node **out, blx_error *err) {
  struct blx__node *n = calloc(1, sizeof *n);
  if (!n) return no_memory(err);
  n->pid = getpid();
  n->own_driver = driver;
  n->own_driver_user = driver_user;
  n->mem.limit_bytes = OPTIONS_ARENA;
  n->lock_fd = -1;
  blx__list_init(&n->calls);
  blx__list_init(&n->spare_calls);
  blx__list_init(&n->watches);
  blx__list_init(&n->shares_due);
  blx__list_init(&n->backups);
  blx__events_init(n);
  blx__lead_init(n);
  blx__lease_init(n);
  blx__member_init(n);
  blx__rc rc = blx__failpoint_arm(err);
  if (rc.code == 0) rc = take_options(n, options, err);
  if (rc.code == 0) rc = blx__identity_lock(n->data_dir, &n->lock_fd, err);
  if (rc.code == 0) rc = open_parts(n, options, err);
  int why = rc.code == 0 ? start_thread(n) : 0;
  if (why != 0) rc = blx__fail_errno(err, why, "node", "cannot start the node's thread");
  if (rc.code != 0) {
    blx__node_close(n);
    return rc;
  }
  *out = n;
  return BLX__OK;
}
