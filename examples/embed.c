/* A node inside your own program: open it, create a VM, watch it run, delete it, close. Build it against an installed
 * copy: cc embed.c $(pkg-config --cflags --libs blixard) -o embed && ./embed /tmp/embed The VM is simulated, so no
 * hypervisor is needed; everything else is real. The events say what the cluster decided. */
#include <blixard/blixard.h>

#include <stdio.h>
#include <string.h>

static const char config[] = "{ microvm = { hypervisor = \"qemu\"; vcpu = 1; mem = 128; }; }";

static const char *const phases[] = {"Pending",  "Creating", "Starting", "Running",     "Migrating",
                                     "Stopping", "Stopped",  "Failed",   "Unreachable", "Deleting"};

static int fail(const char *what, const blx_error *err) {
  fprintf(stderr, "%s: %s [%s]\n", what, err->message, blx_error_name(err->code));
  return -1;
}

static int create_vm(blx_client *client, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  spec.name = "hello";
  spec.memory_mib = 128;
  request.spec = &spec;
  request.config.data = (const uint8_t *)config;
  request.config.len = sizeof config - 1;
  if (blx_vm_create(client, &request, &vm, err) != 0) return fail("create", err);
  printf("created %s with uid %llu\n", vm->spec->name, (unsigned long long)vm->uid);
  blx_vm_free(vm);
  return 0;
}

static int delete_vm(blx_client *client, blx_error *err) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  request.name = "hello";
  if (blx_vm_delete(client, &request, &vm, err) != 0) return fail("delete", err);
  blx_vm_free(vm);
  return 0;
}

/* Print events until the VM's instance runs (@until BLX_EVENT_TYPE_CHANGED) or is gone (BLX_EVENT_TYPE_DELETED). */
static int watch_until(blx_watch *watch, int until, blx_error *err) {
  for (;;) {
    struct blx_event *event = NULL;
    int got = blx_watch_next(watch, 30000, &event, err);
    if (got < 0) return fail("watch", err);
    if (got == 0) return -1;
    const char *why = event->reason != NULL && event->reason->text != NULL ? event->reason->text : "";
    size_t phase = (size_t)event->phase;
    printf("%6llu  %-8s  %-8s  %s\n", (unsigned long long)event->index, event->name,
           phase < sizeof phases / sizeof phases[0] ? phases[phase] : "?", why);
    int deleted = event->type == BLX_EVENT_TYPE_DELETED;
    int done = until == BLX_EVENT_TYPE_DELETED
                   ? deleted && event->kind == BLX_EVENT_KIND_VM
                   : event->kind == BLX_EVENT_KIND_INSTANCE && event->phase == BLX_PHASE_RUNNING;
    blx_event_free(event);
    if (done) return 0;
  }
}

static int use(blx_client *client, blx_error *err) {
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  blx_watch *watch = NULL;
  int rc;
  request.vm = "hello";
  if (create_vm(client, err) != 0) return -1;
  if (blx_watch_open(client, &request, &watch, err) != 0) return fail("watch", err);
  rc = watch_until(watch, BLX_EVENT_TYPE_CHANGED, err);
  if (rc == 0) rc = delete_vm(client, err);
  if (rc == 0) rc = watch_until(watch, BLX_EVENT_TYPE_DELETED, err);
  blx_watch_close(watch);
  return rc;
}

int main(int argc, char **argv) {
  struct blx_node_options options = BLX_NODE_OPTIONS_INIT;
  blx_error err = {0};
  blx_node *node = NULL;
  blx_client *client = NULL;
  int rc;
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIR\n", argv[0]);
    return 2;
  }
  options.data_dir = argv[1];
  options.name = "embedded";
  options.bootstrap = 1;
  options.simulate_vms = 1;
  if (blx_node_open(&options, &node, &err) != 0) {
    fail("open", &err);
    return blx_error_exit_status(err.code);
  }
  rc = blx_node_client(node, &client, &err);
  if (rc != 0)
    fail("client", &err);
  else
    rc = use(client, &err);
  blx_client_close(client);
  blx_node_close(node);
  return rc == 0 ? 0 : 1;
}
