#include "vm_common.h"
#include "when.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INSTANCES_MAX = 1000, LINE_MAX_BYTES = 4096, POLL_MS = 250, QUIET_MAX_MS = 30000 };

/* The line that an instance is writing. A longer one is printed in pieces. */
struct line {
  char instance[64];
  uint64_t at_ms; /* when its first byte came; 0: not known */
  size_t used;
  char text[LINE_MAX_BYTES];
};

/* Consoles of several instances, kept apart line by line. */
struct tail {
  bool prefixed, timed;
  size_t n_lines;
  struct line *lines[INSTANCES_MAX];
};

static struct line *line_of(struct tail *tail, const char *instance) {
  for (size_t i = 0; i < tail->n_lines; i++)
    if (strcmp(tail->lines[i]->instance, instance) == 0) return tail->lines[i];
  if (tail->n_lines == INSTANCES_MAX) return NULL;
  struct line *line = calloc(1, sizeof *line);
  if (line == NULL) return NULL;
  snprintf(line->instance, sizeof line->instance, "%s", instance);
  tail->lines[tail->n_lines++] = line;
  return line;
}

static void flush_line(const struct tail *tail, struct line *line) {
  char time[CLI_TIME_SIZE];
  while (line->used > 0 && line->text[line->used - 1] == '\r') line->used--;
  if (tail->prefixed) printf("%s | ", line->instance);
  if (tail->timed) printf("%s ", cli_time_text(line->at_ms, time));
  fwrite(line->text, 1, line->used, stdout);
  putchar('\n');
  line->used = 0;
}

static void put_data(struct tail *tail, const char *instance, const struct blx_log_chunk *chunk) {
  const struct blx_bytes *data = &chunk->data;
  if (!tail->prefixed && !tail->timed) {
    fwrite(data->data, 1, data->len, stdout);
    return;
  }
  struct line *line = line_of(tail, instance);
  for (size_t i = 0; line != NULL && i < data->len; i++) {
    char ch = (char)data->data[i];
    if (line->used == 0) line->at_ms = chunk->at_ms;
    if (ch != '\n') line->text[line->used++] = ch;
    if (ch == '\n' || line->used == sizeof line->text) flush_line(tail, line);
  }
}

static void put_chunk(struct tail *tail, const struct blx_log_chunk *chunk) {
  const char *instance = chunk->instance != NULL ? chunk->instance : "";
  if (chunk->data.len > 0) put_data(tail, instance, chunk);
  if (chunk->note != NULL && *chunk->note != '\0') {
    fflush(stdout);
    fprintf(stderr, "blixard: %s: %s\n", instance, chunk->note);
  }
  fflush(stdout);
}

/* Until the end, Ctrl-C, or nobody reads any more: all three are a good end. */
static int read_all(const struct cli_args *args, blx_vm_logs *logs, struct tail *tail, const volatile int *stop) {
  uint32_t quiet_ms = 0, quiet_max_ms = args->timeout_ms != 0 ? args->timeout_ms : QUIET_MAX_MS;
  while (*stop == 0 && !cli_output_closed() && ferror(stdout) == 0) {
    struct blx_log_chunk *chunk = NULL;
    blx_error err = {0};
    int rc = blx_vm_logs_next(logs, POLL_MS, &chunk, &err);
    if (rc == 0) return CLI_EXIT_OK;
    if (rc == 1) {
      put_chunk(tail, chunk);
      blx_log_chunk_free(chunk);
      quiet_ms = 0;
      continue;
    }
    if (rc != BLX_E_TIMEOUT) return cli_fail(&err);
    quiet_ms += POLL_MS;
    if (args->follow == 0 && quiet_ms >= quiet_max_ms) return cli_fail(&err);
  }
  return CLI_EXIT_OK;
}

static void free_tail(struct tail *tail) {
  for (size_t i = 0; i < tail->n_lines; i++) {
    if (tail->lines[i]->used > 0) flush_line(tail, tail->lines[i]);
    free(tail->lines[i]);
  }
}

/* Lines carry their instance's name when the VM has several and none of them was named. While nobody leads, a node
 * still shows what runs on it. */
static int look_up(blx_client *client, const char *name, bool *prefixed) {
  struct blx_vm_name_request request = BLX_VM_NAME_REQUEST_INIT;
  struct blx_vm *vm = NULL;
  blx_error err = {0};
  request.name = name;
  if (blx_vm_get(client, &request, &vm, &err) != 0) return err.code == BLX_E_NO_LEADER ? 0 : cli_fail(&err);
  *prefixed = vm->n_instances > 1 && vm->spec != NULL && vm->spec->name != NULL && strcmp(vm->spec->name, name) == 0;
  blx_vm_free(vm);
  return 0;
}

static int take_since(const char *text, struct blx_vm_logs_request *request) {
  char quoted[CLI_QUOTE_SIZE];
  if (text == NULL || cli_parse_when(text, cli_wall_ms(), &request->since_ms)) return 0;
  return cli_usage("--since: %s is neither a time ago, written 90s, 10m, 1h30m or 2d, nor a date, written "
                   "2026-01-31T10:00:00Z",
                   cli_quote(quoted, sizeof quoted, text));
}

int cmd_vm_logs(struct cli_args *args) {
  struct blx_vm_logs_request request = BLX_VM_LOGS_REQUEST_INIT;
  struct tail tail = {.timed = args->timestamps != 0};
  blx_client *client = NULL;
  blx_vm_logs *logs = NULL;
  blx_error err = {0};
  request.name = cli_vm_name(args->words[0], INSTANCE_NAME_MAX);
  if (request.name == NULL || take_since(args->since_time, &request) != 0) return CLI_EXIT_USAGE;
  request.follow = args->follow;
  request.tail_lines = args->tail;
  request.has_tail_lines = args->has_tail;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  status = look_up(client, request.name, &tail.prefixed);
  const volatile int *stop = cli_catch_interrupt();
  if (status == 0 && blx_vm_logs_open(client, &request, &logs, &err) != 0) status = cli_fail(&err);
  if (status == 0) status = read_all(args, logs, &tail, stop);
  free_tail(&tail);
  blx_vm_logs_close(logs);
  blx_client_close(client);
  return status;
}
