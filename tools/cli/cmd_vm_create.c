#include "nix_scan.h"
#include "plan.h"
#include "vm_common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_MAX_BYTES = 49152, CONFIG_NAME_MAX = 128 };

/* A module's text. */
struct config {
  size_t len;
  char text[CONFIG_MAX_BYTES + 1];
};

static int read_config(const char *path, struct config *config) {
  char quoted[CLI_QUOTE_SIZE];
  ssize_t n = 0;
  config->len = 0;
  cli_quote(quoted, sizeof quoted, path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return cli_usage("--microvm-config: %s cannot be opened: %s", quoted, strerror(errno));
  do {
    n = read(fd, config->text + config->len, sizeof config->text - config->len);
    if (n > 0) config->len += (size_t)n;
  } while (n > 0 || (n < 0 && errno == EINTR));
  int errnum = errno;
  close(fd);
  if (n < 0) return cli_usage("--microvm-config: %s cannot be read: %s", quoted, strerror(errnum));
  if (config->len == 0) return cli_usage("--microvm-config: %s is empty", quoted);
  if (config->len > CONFIG_MAX_BYTES)
    return cli_usage("--microvm-config: %s is larger than %d bytes; put it into a flake and give --flake REF#NAME",
                     quoted, CONFIG_MAX_BYTES);
  return 0;
}

/* The flag wins; else the file's number; nothing said is left to the cluster's default. */
static int take_size(const char *flag, const char *option, const struct cli_nix_value *value, uint32_t lo, uint32_t hi,
                     uint32_t *out) {
  if (*out != 0 || value->found == CLI_NIX_ABSENT) return 0;
  if (value->found == CLI_NIX_UNCLEAR)
    return cli_usage("the file sets `%s` to something that is not one plain number: give --%s", option, flag);
  if (value->number < lo || value->number > hi)
    return cli_usage("the file's `%s = %llu` is not from %u to %u", option, (unsigned long long)value->number, lo, hi);
  *out = (uint32_t)value->number;
  return 0;
}

/* For people only: what would not fit, or would break a line, is left out. */
static const char *config_name(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash != NULL ? slash + 1 : path;
  if (strlen(name) > CONFIG_NAME_MAX) return NULL;
  for (const char *p = name; *p != '\0'; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return NULL;
  return name;
}

static int fill_spec(struct cli_args *args, struct config *config) {
  struct blx_vm_spec *spec = &args->spec;
  struct cli_nix_size size;
  spec->name = cli_vm_name(args->words[0], VM_NAME_MAX);
  if (spec->name == NULL) return CLI_EXIT_USAGE;
  if ((args->microvm_config != NULL) == (spec->flake != NULL))
    return cli_usage("give either --microvm-config FILE.nix or --flake REF#NAME");
  cli_place_fill(args);
  spec->depends_on = args->depends_on.list;
  spec->n_depends_on = args->depends_on.count;
  if (args->microvm_config == NULL) return 0;
  int status = read_config(args->microvm_config, config);
  if (status != 0) return status;
  spec->config_name = config_name(args->microvm_config);
  cli_nix_scan(config->text, config->len, &size);
  status = take_size("memory", "mem", &size.mem, 32, 1048576, &spec->memory_mib);
  return status != 0 ? status : take_size("vcpus", "vcpu", &size.vcpu, 1, 512, &spec->vcpus);
}

int cmd_vm_create(struct cli_args *args) {
  static struct config config; /* too large for a stack */
  struct blx_vm_create_request request = BLX_VM_CREATE_REQUEST_INIT;
  struct blx_vm_plan_request plan = BLX_VM_PLAN_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_client *client = NULL;
  blx_error err = {0};
  uint64_t started_ms = cli_now_ms();
  int status = fill_spec(args, &config);
  if (status != 0) return status;
  if (args->plan != 0 && args->wait != 0) return cli_usage("--plan changes nothing: there is nothing to --wait for");
  request.request_id = cli_request_id(args);
  if (request.request_id == NULL) return CLI_EXIT_INTERNAL;
  status = cli_connect(args, &client);
  if (status != 0) return status;
  request.spec = &args->spec;
  request.config = (struct blx_bytes){(const uint8_t *)config.text, config.len};
  request.stopped = args->stopped;
  plan.create = &request;
  if (args->plan != 0)
    status = cli_plan(args, client, &plan);
  else if (blx_vm_create(client, &request, &vm, &err) != 0)
    status = cli_fail_change(args, &err);
  else
    status = cli_vm_changed(args, client, vm, "created", args->stopped != 0 ? BLX_PHASE_STOPPED : BLX_PHASE_RUNNING,
                            started_ms);
  blx_vm_free(vm);
  blx_client_close(client);
  return status;
}
