/* A node inside a program that has a libuv loop of its own: every completion and event runs on that loop, beside the
 * program's other handles, here a timer. It creates a VM, sees it run, deletes it, and ends when it is gone. The VM is
 * simulated. Build it against an installed copy:
 * cc uv_loop.c $(pkg-config --cflags --libs blixard libuv) -o uv_loop && ./uv_loop /tmp/uv_loop */
#include <blixard/blixard.h>
#include <blixard/uv.h>

#include <stdio.h>

struct program {
  uv_loop_t loop;
  uv_timer_t timer;
  struct blx_uv uv;
  blx_client *client;
  blx_watch *watch;
  int ticks, deleting, ended, rc;
};

static void end(struct program *p, int rc) {
  if (p->ended) return;
  p->ended = 1;
  p->rc = rc;
  blx_watch_close(p->watch); /* its last call comes from the close of the client */
  blx_uv_stop(&p->uv, NULL, NULL);
  uv_close((uv_handle_t *)&p->timer, NULL);
}

static void fail(struct program *p, const char *what, const blx_error *err) {
  fprintf(stderr, "%s: %s [%s]\n", what, err->message, blx_error_name(err->code));
  end(p, 1);
}

static void on_deleted(void *user, const blx_error *err, struct blx_vm *vm) {
  if (err != NULL) fail(user, "delete", err);
  blx_vm_free(vm);
}

static void on_event(void *user, const blx_error *err, struct blx_event *event) {
  struct program *p = user;
  blx_error why = {0};
  if (event == NULL) {
    if (err != NULL && err->code != BLX_E_CANCELLED) fail(p, "watch", err);
    return;
  }
  if (!p->deleting && event->kind == BLX_EVENT_KIND_INSTANCE && event->phase == BLX_PHASE_RUNNING) {
    struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
    request.name = "hello";
    printf("%s runs\n", event->name);
    p->deleting = 1;
    if (blx_vm_delete_async(p->client, &request, on_deleted, p, &why) != 0) fail(p, "delete", &why);
  } else if (event->kind == BLX_EVENT_KIND_VM && event->type == BLX_EVENT_TYPE_DELETED) {
    printf("%s is gone\n", event->name);
    end(p, 0);
  }
  blx_event_free(event);
}

static void on_created(void *user, const blx_error *err, struct blx_vm *vm) {
  struct program *p = user;
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  blx_error why = {0};
  if (err != NULL) {
    fail(p, "create", err);
    return;
  }
  printf("created %s\n", vm->spec->name);
  request.vm = "hello";
  if (blx_watch_open_async(p->client, &request, on_event, p, &p->watch, &why) != 0) fail(p, "watch", &why);
  blx_vm_free(vm);
}

static void on_timer(uv_timer_t *timer) {
  ((struct program *)timer->data)->ticks++;
}

static int start(struct program *p, blx_node *node, blx_error *err) {
  struct blx_vm_spec spec = BLX_VM_SPEC_INIT;
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  int rc = blx_node_client(node, &p->client, err);
  if (rc == 0) rc = blx_uv_start_node(&p->uv, &p->loop, node, err);
  if (rc != 0) return rc;
  spec.name = "hello";
  spec.flake = "path:/nowhere#hello";
  request.spec = &spec;
  uv_timer_init(&p->loop, &p->timer);
  p->timer.data = p;
  uv_timer_start(&p->timer, on_timer, 0, 10);
  return blx_vm_create_async(p->client, &request, on_created, p, err);
}

int main(int argc, char **argv) {
  struct blx_node_options options = BLX_NODE_OPTIONS_INIT;
  struct program p = {.rc = 1};
  blx_node *node = NULL;
  blx_error err = {0};
  options.data_dir = argc == 2 ? argv[1] : "";
  options.name = "embedded";
  options.bootstrap = 1;
  options.simulate_vms = 1;
  options.completions = BLX_COMPLETIONS_DISPATCH;
  uv_loop_init(&p.loop);
  if (blx_node_open(&options, &node, &err) != 0 || start(&p, node, &err) != 0)
    fprintf(stderr, "uv_loop: %s [%s]\n", err.message, blx_error_name(err.code));
  else
    uv_run(&p.loop, UV_RUN_DEFAULT);
  blx_client_close(p.client);
  blx_node_close(node);
  if (p.rc == 0) printf("the timer ticked %s\n", p.ticks > 0 ? "meanwhile" : "never");
  return p.rc;
}
