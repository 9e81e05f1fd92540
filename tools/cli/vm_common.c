#include "vm_common.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

enum { WAIT_MS = 120000 };

static const struct cli_column vm_columns[] = {
    {"NAME", "{spec.name}"},
    {"WANTED", "{desired}{deleting?, deleted}"},
    {"PHASE", "{phase}"},
    {"RUNNING", "{running}/{spec.replicas}"},
    {"VCPUS", "{spec.vcpus}"},
    {"MEMORY MIB", "{spec.memory_mib}"},
    {"NODES", "{instances[].node}"},
    {"AGE", "{created_ms:age}"},
    {"REASON", "{reason.code:some}"},
};

static const struct cli_column instance_columns[] = {
    {"INSTANCE", "{name}"},        {"NODE", "{node}"},
    {"PHASE", "{phase}"},          {"SINCE", "{phase_since_ms:age}"},
    {"RESTARTS", "{restarts}"},    {"REASON", "{reason.code:some}"},
    {"WHY", "{reason.text:line}"},
};

static const struct cli_block blocks[] = {
    {CLI_TABLE, NULL, vm_columns, COUNT(vm_columns)},
    {CLI_TABLE, "instances", instance_columns, COUNT(instance_columns)},
};
const struct cli_view vm_view = {"vm", NULL, "spec.name", blocks, COUNT(blocks)};

static const struct cli_block list_blocks[] = {{CLI_TABLE, "vms", vm_columns, COUNT(vm_columns)}};
const struct cli_view vm_list_view = {"vm", "vms", "spec.name", list_blocks, COUNT(list_blocks)};

uint64_t cli_now_ms(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* What is left of --timeout, at least 1. */
static uint32_t time_left(const struct cli_args *args, uint64_t started_ms) {
  if (args->timeout_ms == 0) return WAIT_MS;
  uint64_t spent = cli_now_ms() - started_ms;
  return spent < args->timeout_ms ? args->timeout_ms - (uint32_t)spent : 1;
}

const struct cli_choice cli_phases[] = {{"Pending", BLX_PHASE_PENDING},   {"Creating", BLX_PHASE_CREATING},
                                        {"Starting", BLX_PHASE_STARTING}, {"Running", BLX_PHASE_RUNNING},
                                        {"Stopping", BLX_PHASE_STOPPING}, {"Stopped", BLX_PHASE_STOPPED},
                                        {"Failed", BLX_PHASE_FAILED},     {"Unreachable", BLX_PHASE_UNREACHABLE}};
const size_t cli_n_phases = COUNT(cli_phases);

const char *cli_phase_label(int phase) {
  for (size_t i = 0; i < COUNT(cli_phases); i++)
    if (cli_phases[i].value == phase) return cli_phases[i].label;
  return phase == BLX_VM_WAIT_PAUSED ? "paused" : phase == BLX_VM_WAIT_RESUMED ? "resumed" : "gone";
}

/* ---- how far it is, for who sits at a terminal */

/* One line; what a guest wrote cannot steer the terminal. */
static void put_progress(const struct blx_event *event) {
  enum { SHOWN_MAX = 160 };
  const char *text = event->reason != NULL && event->reason->text != NULL ? event->reason->text : "";
  const char *phase = event->phase == BLX_PHASE_DELETING ? "Deleting" : cli_phase_label(event->phase);
  unsigned chars = 0;
  fprintf(stderr, "  %s: %s%s", event->name, phase, *text != '\0' ? ", " : "");
  for (; *text != '\0' && *text != '\n'; text++) {
    if (((unsigned char)*text & 0xc0) != 0x80 && chars++ == SHOWN_MAX) break;
    fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, stderr);
  }
  fputs(*text != '\0' ? "...\n" : "\n", stderr);
}

static void on_event(void *user, const blx_error *err, struct blx_event *event) {
  (void)user;
  (void)err; /* the wait says what is wrong */
  if (event != NULL && event->kind == BLX_EVENT_KIND_INSTANCE && event->type != BLX_EVENT_TYPE_DELETED)
    put_progress(event);
  blx_event_free(event);
}

/* NULL where nobody looks. */
static blx_watch *watch_progress(blx_client *client, const char *name) {
  struct blx_watch_request request = BLX_WATCH_REQUEST_INIT;
  blx_watch *watch = NULL;
  request.vm = name;
  if (isatty(STDERR_FILENO) == 0 || blx_watch_open_async(client, &request, on_event, NULL, &watch, NULL) != 0)
    return NULL;
  return watch;
}

int cli_vm_wait(const struct cli_args *args, blx_client *client, const char *name, int phase, uint64_t started_ms,
                struct blx_vm **out) {
  blx_error err = {0};
  const volatile int *cancel = cli_catch_interrupt();
  cli_hint("waiting for %s to be %s", name, cli_phase_label(phase));
  fflush(stdout);
  blx_watch *progress = watch_progress(client, name);
  int rc = blx_vm_wait(client, name, phase, time_left(args, started_ms), cancel, out, &err);
  blx_watch_close(progress);
  if (rc == 0) return 0;
  if (*cancel == 0) return cli_fail(&err);
  fprintf(stderr, "blixard: stopped waiting for %s to be %s; it goes on%s%s, see `blixard vm status %s` [CANCELLED]\n",
          name, cli_phase_label(phase), args->request_id != NULL ? " as request " : "",
          args->request_id != NULL ? args->request_id : "", name);
  return CLI_EXIT_RETRY;
}

int cli_vm_changed(const struct cli_args *args, blx_client *client, const struct blx_vm *vm, const char *done,
                   int phase, uint64_t started_ms) {
  struct blx_vm *now = NULL;
  if (args->wait == 0) return cli_show_change(args, "vm", vm, &vm_view, done);
  int status = CLI_EXIT_OK;
  if (args->output == CLI_OUT_PLAIN) status = cli_show_change(args, "vm", vm, &vm_view, done);
  if (status == 0) status = cli_vm_wait(args, client, vm->spec->name, phase, started_ms, &now);
  if (status != 0) return status;
  char what[32];
  snprintf(what, sizeof what, "is %s", cli_phase_label(phase));
  status = cli_show_change(args, "vm", now != NULL ? now : vm, &vm_view, what);
  blx_vm_free(now);
  return status;
}
