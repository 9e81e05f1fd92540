/* blixard top: what instances use, from two answers of each node, a moment apart. */
#include "output.h"
#include "vm_common.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum {
  NODES_MAX = 5000,
  FIRST_MS = 1000, /* between the first two answers */
  REFRESH_MS = 2000,
  STEP_MS = 100, /* how soon q and Ctrl-C are seen */
  ANSWER_MS = 30000,
  ROWS_DEFAULT = 24,
};

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

struct answers {
  struct blx_node_stats *nodes[NODES_MAX]; /* by name */
  size_t n;
  struct blx_node_list *load; /* what the leader knows of their machines; NULL: not asked for, or no answer */
};

struct row {
  json_t *shown;
  const char *name;
  uint64_t cpu, memory; /* what it is sorted by; unknown: 0 */
};

static const struct cli_column vm_columns[] = {
    {"NAME", "{instance}"},   {"NODE", "{node}"},       {"CPU%", "{cpu}"},
    {"MEMORY", "{memory}"},   {"BALLOON", "{balloon}"}, {"READ", "{read}"},
    {"WRITTEN", "{written}"}, {"UPTIME", "{uptime}"},   {"GUEST-MEM", "{guest}"},
};
static const struct cli_column all_columns[] = {
    {"TENANT", "{tenant}"}, {"NAME", "{instance}"},   {"NODE", "{node}"}, {"CPU%", "{cpu}"},
    {"MEMORY", "{memory}"}, {"BALLOON", "{balloon}"}, {"READ", "{read}"}, {"WRITTEN", "{written}"},
    {"UPTIME", "{uptime}"}, {"GUEST-MEM", "{guest}"},
};
static const struct cli_column node_columns[] = {
    {"NAME", "{node}"},     {"INSTANCES", "{instances}"}, {"CPU%", "{cpu}"},           {"OF", "{vcpus}"},
    {"MEMORY", "{memory}"}, {"OF", "{capacity}"},         {"HOST CPU%", "{host_cpu}"}, {"HOST MEMORY", "{host_memory}"},
    {"DRIVER", "{driver}"}, {"HEARD", "{heard}"},
};
static const struct cli_block vm_blocks[] = {{CLI_TABLE, "rows", vm_columns, COUNT(vm_columns)}};
static const struct cli_block all_blocks[] = {{CLI_TABLE, "rows", all_columns, COUNT(all_columns)}};
static const struct cli_block node_blocks[] = {{CLI_TABLE, "rows", node_columns, COUNT(node_columns)}};
static const struct cli_view vm_top_view = {"instance", "rows", "instance", vm_blocks, COUNT(vm_blocks)};
static const struct cli_view all_top_view = {"instance", "rows", "instance", all_blocks, COUNT(all_blocks)};
static const struct cli_view node_top_view = {"node", "rows", "node", node_blocks, COUNT(node_blocks)};

/* ---- asking */

static void answers_free(struct answers *a) {
  for (size_t i = 0; a != NULL && i < a->n; i++) blx_node_stats_free(a->nodes[i]);
  if (a != NULL) blx_node_list_free(a->load);
  free(a);
}

static int by_node(const void *a, const void *b) {
  const struct blx_node_stats *x = *(struct blx_node_stats *const *)a, *y = *(struct blx_node_stats *const *)b;
  return strcmp(x->node, y->node);
}

static bool of_nodes(const struct cli_args *args) {
  return args->n_words > 0 && strncmp(args->words[0], "node", 4) == 0;
}

/* A cluster without a leader has no loads, and a table all the same. */
static void ask_load(const struct cli_args *args, blx_client *client, struct answers *a) {
  struct blx_node_list_request request = BLX_NODE_LIST_REQUEST_INIT;
  blx_error err = {0};
  if (of_nodes(args)) (void)blx_node_list_get(client, &request, &a->load, &err);
}

/* A node of an earlier version does not say it, and has no other. */
static const char *tenant_of(const struct blx_instance_stats *in) {
  return in->tenant != NULL && *in->tenant != '\0' ? in->tenant : "default";
}

/* Leave those of one tenant; the sums of a node are of all. */
static void keep_own(const struct cli_args *args, struct blx_node_stats *node) {
  const char *given = cli_tenant(args), *tenant = given != NULL ? given : "default";
  size_t kept = 0;
  if (of_nodes(args) || args->all_tenants != 0) return;
  for (size_t i = 0; i < node->n_instances; i++)
    if (strcmp(tenant_of(node->instances[i]), tenant) == 0) node->instances[kept++] = node->instances[i];
  node->n_instances = kept;
}

/* NULL: *status is set, and it was said why. */
static struct answers *ask(const struct cli_args *args, blx_client *client, int *status) {
  const struct blx_stats_request request = BLX_STATS_REQUEST_INIT;
  struct answers *a = calloc(1, sizeof *a);
  blx_stats *stats = NULL;
  blx_error err = {.code = BLX_E_NOMEM, .message = "no memory for statistics"};
  int rc = a != NULL ? blx_stats_open(client, &request, &stats, &err) : BLX_E_NOMEM;
  uint32_t timeout_ms = args->timeout_ms != 0 ? args->timeout_ms : ANSWER_MS;
  if (rc == 0) do {
      struct blx_node_stats *node = NULL;
      rc = blx_stats_next(stats, timeout_ms, &node, &err);
      if (rc == 1) keep_own(args, node);
      if (rc == 1) a->nodes[a->n++] = node;
    } while (rc == 1 && a->n < NODES_MAX);
  blx_stats_close(stats);
  if (rc >= 0) {
    ask_load(args, client, a);
    qsort(a->nodes, a->n, sizeof a->nodes[0], by_node);
    return a;
  }
  *status = cli_fail(&err);
  answers_free(a);
  return NULL;
}

static const struct blx_instance_stats *find(const struct blx_node_stats *node, const struct blx_instance_stats *of) {
  for (size_t lo = 0, hi = node->n_instances; lo < hi;) {
    size_t mid = lo + (hi - lo) / 2;
    const struct blx_instance_stats *at = node->instances[mid];
    int order = strcmp(at->instance, of->instance);
    if (order == 0) order = (at->uid > of->uid) - (at->uid < of->uid);
    if (order == 0) return at;
    if (order < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return NULL;
}

/* What was used between the two. An instance that was started again meanwhile begins anew. */
static void fill_in(const struct answers *before, struct answers *now) {
  for (size_t i = 0; i < now->n; i++) {
    struct blx_node_stats *const *old = bsearch(&now->nodes[i], before->nodes, before->n, sizeof *old, by_node);
    for (size_t k = 0; old != NULL && k < now->nodes[i]->n_instances; k++) {
      struct blx_instance_stats *in = now->nodes[i]->instances[k];
      const struct blx_instance_stats *was = find(*old, in);
      if (was == NULL || !was->has_cpu_us || !in->has_cpu_us || in->at_us <= was->at_us || in->cpu_us < was->cpu_us)
        continue;
      double used = (double)(in->cpu_us - was->cpu_us) * 1000 / (double)(in->at_us - was->at_us);
      in->cpu_permille = used < (double)UINT32_MAX ? (uint32_t)(used + 0.5) : UINT32_MAX;
      in->has_cpu_permille = 1;
    }
  }
}

/* ---- showing */

static void put_text(json_t *row, const char *key, const char *text) {
  if (text != NULL && *text != '\0') json_object_set_new(row, key, json_string(text));
}

enum { BYTES_SIZE = 32 };

static const char *bytes_text(char text[BYTES_SIZE], uint64_t bytes) {
  static const char units[] = "BKMGTPE";
  size_t unit = 0;
  double value = (double)bytes;
  for (; value >= 1024 && unit + 2 < sizeof units; unit++) value /= 1024;
  snprintf(text, BYTES_SIZE, value < 10 && unit > 0 ? "%.1f%c" : "%.0f%c", value, units[unit]);
  return text;
}

static void put_bytes(json_t *row, const char *key, uint32_t has, uint64_t bytes) {
  char text[BYTES_SIZE];
  if (has) put_text(row, key, bytes_text(text, bytes));
}

static void put_guest(json_t *row, const struct blx_instance_stats *in) {
  char used[BYTES_SIZE], total[BYTES_SIZE], text[2 * BYTES_SIZE];
  if (!in->has_guest_memory_bytes || !in->has_guest_available_bytes) return;
  bool sane = in->guest_available_bytes <= in->guest_memory_bytes;
  (void)bytes_text(used, sane ? in->guest_memory_bytes - in->guest_available_bytes : 0);
  snprintf(text, sizeof text, "%s/%s", used, bytes_text(total, in->guest_memory_bytes));
  put_text(row, "guest", text);
}

static void put_percent(json_t *row, const char *key, uint32_t has, uint64_t permille) {
  char text[32];
  snprintf(text, sizeof text, "%.1f", (double)permille / 10);
  if (has) put_text(row, key, text);
}

static void put_uptime(json_t *row, const char *key, uint32_t has, uint64_t ms) {
  char text[48];
  unsigned long long s = ms / 1000;
  if (s >= 86400)
    snprintf(text, sizeof text, "%llud%lluh", s / 86400, s / 3600 % 24);
  else if (s >= 3600)
    snprintf(text, sizeof text, "%lluh%llum", s / 3600, s / 60 % 60);
  else if (s >= 60)
    snprintf(text, sizeof text, "%llum%llus", s / 60, s % 60);
  else
    snprintf(text, sizeof text, "%llus", s);
  if (has) put_text(row, key, text);
}

static struct row instance_row(const struct blx_node_stats *node, const struct blx_instance_stats *in) {
  json_t *o = json_object();
  put_text(o, "tenant", tenant_of(in));
  put_text(o, "instance", in->instance);
  put_text(o, "node", node->node);
  put_percent(o, "cpu", in->has_cpu_permille, in->cpu_permille);
  put_bytes(o, "memory", in->has_memory_bytes, in->memory_bytes);
  put_bytes(o, "balloon", in->has_balloon_bytes, in->balloon_bytes);
  put_bytes(o, "read", in->has_read_bytes, in->read_bytes);
  put_bytes(o, "written", in->has_written_bytes, in->written_bytes);
  put_uptime(o, "uptime", in->has_uptime_ms, in->uptime_ms);
  put_guest(o, in);
  return (struct row){o, in->instance, in->cpu_permille, in->memory_bytes};
}

static void put_load(json_t *row, const struct blx_node_list *load, const char *name) {
  for (size_t i = 0; load != NULL && i < load->n_nodes; i++) {
    const struct blx_node_info *node = load->nodes[i];
    if (strcmp(node->name, name) != 0) continue;
    put_percent(row, "host_cpu", node->has_load_cpu_permille, node->load_cpu_permille);
    put_bytes(row, "host_memory", node->has_load_memory_mib, node->load_memory_mib << 20);
  }
}

static struct row node_row(const struct blx_node_stats *node, const struct blx_node_list *load) {
  struct row row = {.shown = json_object(), .name = node->node};
  uint32_t any_cpu = 0, any_memory = 0, capacity = node->capacity != NULL;
  for (size_t i = 0; i < node->n_instances; i++) {
    row.cpu += node->instances[i]->cpu_permille;
    row.memory += node->instances[i]->memory_bytes;
    any_cpu |= node->instances[i]->has_cpu_permille;
    any_memory |= node->instances[i]->has_memory_bytes;
  }
  uint32_t idle = node->heard && node->n_instances == 0 && (node->note == NULL || *node->note == '\0');
  json_object_set_new(row.shown, "instances", json_integer((json_int_t)node->n_instances));
  put_text(row.shown, "node", node->node);
  put_percent(row.shown, "cpu", any_cpu | idle, row.cpu);
  put_percent(row.shown, "vcpus", capacity, capacity ? node->capacity->vcpus * 1000ULL : 0);
  put_bytes(row.shown, "memory", any_memory | idle, row.memory);
  put_bytes(row.shown, "capacity", capacity, capacity ? node->capacity->memory_mib << 20 : 0);
  put_load(row.shown, load, node->node);
  put_text(row.shown, "driver", node->driver);
  put_text(row.shown, "heard", node->heard ? "yes" : "no");
  return row;
}

static int by_cpu(const void *a, const void *b) {
  const struct row *x = a, *y = b;
  if (x->cpu != y->cpu) return x->cpu < y->cpu ? 1 : -1;
  return strcmp(x->name, y->name);
}

static int by_memory(const void *a, const void *b) {
  const struct row *x = a, *y = b;
  if (x->memory != y->memory) return x->memory < y->memory ? 1 : -1;
  return strcmp(x->name, y->name);
}

/* NULL: out of memory. */
static json_t *rows_of(const struct cli_args *args, const struct answers *a) {
  bool nodes = of_nodes(args);
  size_t most = a->n, n = 0;
  for (size_t i = 0; i < a->n; i++) most += a->nodes[i]->n_instances;
  struct row *rows = calloc(most + 1, sizeof *rows);
  json_t *list = json_array();
  for (size_t i = 0; rows != NULL && i < a->n; i++) {
    if (nodes) rows[n++] = node_row(a->nodes[i], a->load);
    for (size_t k = 0; !nodes && k < a->nodes[i]->n_instances; k++)
      rows[n++] = instance_row(a->nodes[i], a->nodes[i]->instances[k]);
  }
  if (n > 0) qsort(rows, n, sizeof *rows, args->sort == CLI_SORT_MEMORY ? by_memory : by_cpu);
  for (size_t i = 0; i < n; i++) json_array_append_new(list, rows[i].shown);
  free(rows);
  return rows != NULL ? json_pack("{s:o}", "rows", list) : NULL;
}

/* What the table cannot say. */
static void put_notes(FILE *to, const struct answers *a) {
  size_t made_up = 0;
  for (size_t i = 0; i < a->n; i++) {
    const struct blx_node_stats *node = a->nodes[i];
    const char *note = node->note != NULL ? node->note : "";
    made_up += node->driver != NULL && strcmp(node->driver, "simulated") == 0;
    if (!node->heard)
      fprintf(to, "%s is not heard from: %s\n", node->node, note);
    else if (*note != '\0')
      fprintf(to, "%s: %s\n", node->node, note);
  }
  if (made_up > 0) fprintf(to, "numbers of simulated instances are made up (%zu of %zu nodes)\n", made_up, a->n);
}

static int show(const struct cli_args *args, const struct answers *a, FILE *to) {
  const struct cli_view *view = of_nodes(args) ? &node_top_view : args->all_tenants ? &all_top_view : &vm_top_view;
  if (args->output == CLI_OUT_JSON || args->output == CLI_OUT_YAML) {
    struct blx_stats_list list = BLX_STATS_LIST_INIT;
    list.nodes = (struct blx_node_stats **)a->nodes;
    list.n_nodes = a->n;
    return cli_show(args, "stats_list", &list, view);
  }
  json_t *document = rows_of(args, a);
  int status = CLI_EXIT_OK;
  if (document != NULL && to == NULL) {
    status = cli_document_print(args, document, view);
    if (args->output != CLI_OUT_NAME) put_notes(stdout, a);
  } else if (document != NULL && cli_blocks_print(to, document, view->blocks, view->n_blocks)) {
    put_notes(to, a);
  } else {
    fputs("blixard: no memory for the table [NOMEM]\n", stderr);
    status = CLI_EXIT_INTERNAL;
  }
  json_decref(document);
  return status;
}

/* ---- on a terminal */

/* As many lines and columns of @text as there is room for. */
static void put_screen(const char *text) {
  struct winsize size = {0};
  bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 && size.ws_col > 0;
  unsigned lines = known ? size.ws_row - 1U : ROWS_DEFAULT, columns = known ? size.ws_col : 80;
  fputs("\x1b[H\x1b[J", stdout);
  while (*text != '\0' && lines-- > 0) {
    size_t n = strcspn(text, "\n");
    printf("%.*s\n", (int)(n < columns ? n : columns), text);
    text += n + (text[n] == '\n');
  }
  fflush(stdout);
}

/* False: q, Ctrl-C, or nobody reads any more. */
static bool pause_ms(unsigned ms, const volatile int *stop, bool keys) {
  for (unsigned left = ms; left > 0 && *stop == 0 && !cli_output_closed(); left -= left < STEP_MS ? left : STEP_MS) {
    struct pollfd in = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
    char key = 0;
    if (poll(&in, 1, STEP_MS) == 1 && read(STDIN_FILENO, &key, 1) == 1 && (key == 'q' || key == 'Q')) return false;
  }
  return *stop == 0 && !cli_output_closed();
}

static int refresh(const struct cli_args *args, blx_client *client, const volatile int *stop) {
  struct termios before;
  bool keys = tcgetattr(STDIN_FILENO, &before) == 0;
  if (keys) {
    struct termios quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    keys = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
  }
  int status = CLI_EXIT_OK;
  struct answers *last = ask(args, client, &status);
  for (unsigned wait = FIRST_MS; last != NULL && pause_ms(wait, stop, keys); wait = REFRESH_MS) {
    struct answers *now = ask(args, client, &status);
    char *text = NULL;
    size_t size = 0;
    if (now != NULL) fill_in(last, now);
    answers_free(last);
    last = now;
    FILE *to = now != NULL ? open_memstream(&text, &size) : NULL;
    if (to == NULL) break;
    status = show(args, now, to);
    if (fclose(to) == 0 && status == 0) put_screen(text);
    free(text);
    if (status != 0) break;
  }
  answers_free(last);
  if (keys) (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
  return status;
}

static int show_once(const struct cli_args *args, blx_client *client, const volatile int *stop) {
  int status = CLI_EXIT_OK;
  struct answers *first = ask(args, client, &status), *second = NULL;
  if (first != NULL && pause_ms(FIRST_MS, stop, false)) second = ask(args, client, &status);
  if (second != NULL) {
    fill_in(first, second);
    status = show(args, second, NULL);
  }
  answers_free(first);
  answers_free(second);
  return status;
}

int cmd_top(struct cli_args *args) {
  char quoted[CLI_QUOTE_SIZE];
  const char *what = args->n_words > 0 ? args->words[0] : "vms";
  if (strcmp(what, "nodes") != 0 && strcmp(what, "node") != 0 && strcmp(what, "vms") != 0 && strcmp(what, "vm") != 0)
    return cli_usage("%s is neither vms nor nodes; see `blixard top --help`", cli_quote(quoted, sizeof quoted, what));
  blx_client *client = NULL;
  int status = cli_connect(args, &client);
  if (status != 0) return status;
  bool people = args->output == CLI_OUT_PLAIN || args->output == CLI_OUT_TABLE || args->output == CLI_OUT_WIDE;
  const volatile int *stop = cli_catch_interrupt();
  status = people && args->once == 0 && isatty(STDOUT_FILENO) == 1 ? refresh(args, client, stop)
                                                                   : show_once(args, client, stop);
  blx_client_close(client);
  return status;
}
