/* A node whose VMs are plain processes: a table of functions in place of the hypervisor, with the cluster's placement,
 * restarts and epochs. Build it against an installed copy:
 *   cc -D_POSIX_C_SOURCE=200809L own_driver.c $(pkg-config --cflags --libs blixard) -o own && ./own /tmp/own
 * It creates a "VM" that is `sleep` and deletes it again. What a real driver has more: it notices when one ends by
 * itself, asks before it kills, and finds in adopt what it started in an earlier life. */
#include <blixard/blixard.h>
#include <blixard/sys/vm_driver.h>

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

enum { VMS_MAX = 16, WAIT_MS = 30000 };

/* Only the node's thread comes here, so there is no lock. */
static struct vm {
  uint64_t uid; /* of what runs here; 0: nothing */
  pid_t pid;
} vms[VMS_MAX];
static blx_vm_driver *driver;

static struct vm *find(uint64_t uid) {
  for (struct vm *vm = vms; vm < vms + VMS_MAX; vm++)
    if (vm->uid == uid) return vm;
  return NULL;
}

static void prepare(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                    const struct blx_vm_driver_desc *desc) {
  (void)user, (void)key, (void)desc; /* nothing to build */
  blx_vm_driver_done(call, NULL, NULL);
}

static void start(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key,
                  const struct blx_vm_driver_desc *desc) {
  (void)user, (void)desc;
  static char *const argv[] = {"sleep", "1000", NULL};
  struct vm *vm = find(0);
  if (!vm || posix_spawnp(&vm->pid, argv[0], NULL, NULL, argv, NULL) != 0) {
    blx_error err = {.code = BLX_E_IO, .message = "the process cannot be started"};
    blx_vm_driver_done(call, &err, NULL);
    return;
  }
  vm->uid = key->uid;
  printf("%s runs as an own process\n", key->instance);
  blx_vm_driver_done(call, NULL, NULL);
  blx_vm_driver_event(driver, key, BLX_VM_DRIVER_EVENT_READY, NULL, NULL);
}

static void kill_it(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user;
  struct vm *vm = find(key->uid);
  if (vm) {
    kill(vm->pid, SIGKILL);
    waitpid(vm->pid, NULL, 0);
    vm->uid = 0;
    blx_vm_driver_event(driver, key, BLX_VM_DRIVER_EVENT_EXITED, NULL, NULL);
  }
  blx_vm_driver_done(call, NULL, NULL); /* it is dead, for certain */
}

static void stop(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key, uint32_t deadline_ms) {
  (void)deadline_ms;
  kill_it(user, call, key);
}

static void destroy(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user, (void)key; /* nothing is left */
  blx_vm_driver_done(call, NULL, NULL);
}

static void adopt(void *user, blx_vm_driver_call *call, const struct blx_vm_driver_key *key) {
  (void)user, (void)key;
  struct blx_vm_driver_status absent = BLX_VM_DRIVER_STATUS_INIT;
  blx_vm_driver_found(call, &absent, NULL);
}

static int on_open(void *user, blx_vm_driver *opened, blx_error *err) {
  (void)user, (void)err;
  driver = opened;
  return 0;
}

static int use(blx_client *client, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request create = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_name_request name = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  name.name = spec.name = "nap";
  spec.flake = "path:/nowhere#nap"; /* a driver takes from it what it likes */
  create.spec = &spec;
  if (blx_vm_create(client, &create, &vm, err) != 0) return -1;
  blx_vm_free(vm);
  if (blx_vm_wait(client, "nap", BLX_PHASE_RUNNING, WAIT_MS, NULL, NULL, err) != 0) return -1;
  if (blx_vm_delete(client, &name, &vm, err) != 0) return -1;
  blx_vm_free(vm);
  return blx_vm_wait(client, "nap", -1, WAIT_MS, NULL, NULL, err);
}

int main(int argc, char **argv) {
  struct blx_vm_driver_ops ops = BLX_VM_DRIVER_OPS_INIT;
  struct blx_node_options options = BLX_NODE_OPTIONS_INIT;
  blx_error err = {0};
  blx_node *node = NULL;
  blx_client *client = NULL;
  ops.open = on_open, ops.prepare = prepare, ops.start = start, ops.stop = stop, ops.kill = kill_it;
  ops.destroy = destroy, ops.adopt = adopt;
  options.data_dir = argc == 2 ? argv[1] : NULL;
  options.name = "own", options.bootstrap = 1, options.vm_driver = &ops;
  int rc = blx_node_open(&options, &node, &err);
  if (rc == 0) rc = blx_node_client(node, &client, &err);
  if (rc == 0) rc = use(client, &err);
  fprintf(rc == 0 ? stdout : stderr, "%s\n", rc == 0 ? "nap is gone" : err.message);
  blx_client_close(client);
  blx_node_close(node);
  return rc == 0 ? 0 : 1;
}
