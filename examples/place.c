/* place NODES.csv PODS.csv [--strategy best-fit] [--stop-at-refusal]
 * Decide without a cluster where requests go, by the code that decides in one. Both files have a head line and in
 * columns 1 to 3 a name, cpu_milli and memory_mib, as the trace OpenB. The pods come once, or with --stop-at-refusal
 * again and again until one is refused. Prints one line of JSON: first_refusal_at counts pods from 1, seconds are of
 * the processor. Exit status 2: bad input. Build it with: cc place.c $(pkg-config --cflags --libs blixard) -o place */
#include <blixard/blixard.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS_MAX = 1000000, AMOUNT_MAX = INT32_MAX, MEMORY_LEAST_MIB = 32, BAD_INPUT = 2 };

struct rows {
  const char *path;
  size_t n;
  unsigned long long cpu[ROWS_MAX], memory[ROWS_MAX]; /* i is on line i + 2 */
};

static _Noreturn void refuse(const char *path, size_t line, const char *sentence) {
  char at[32] = "";
  if (line > 0) snprintf(at, sizeof at, "line %zu: ", line);
  fprintf(stderr, "place: %s: %s%s\n", path, at, sentence);
  exit(BAD_INPUT);
}

static void read_rows(const char *path, struct rows *out) {
  char line[1024], after;
  FILE *f = fopen(path, "r");
  if (!f) refuse(path, 0, strerror(errno));
  if (!fgets(line, sizeof line, f) || sscanf(line, "%*[^,],cpu_milli,memory_mib%c", &after) != 1)
    refuse(path, 1, "columns 2 and 3 must be named cpu_milli and memory_mib");
  for (out->path = path; fgets(line, sizeof line, f); out->n++) {
    if (out->n == ROWS_MAX) refuse(path, out->n + 2, "there are more than 1000000 rows");
    unsigned long long *cpu = &out->cpu[out->n], *memory = &out->memory[out->n];
    int n = sscanf(line, "%*[^,],%llu,%llu%c", cpu, memory, &after);
    int whole = strchr(line, '\n') || feof(f);
    if (!whole || n < 2 || (n > 2 && !strchr(",\r\n", after)) || *cpu > AMOUNT_MAX || *memory > AMOUNT_MAX)
      refuse(path, out->n + 2, "it is not a name, then two whole numbers up to 2147483647, in at most 1022 bytes");
  }
  if (ferror(f) || out->n == 0) refuse(path, 0, ferror(f) ? strerror(errno) : "there is no line below the head");
  fclose(f);
}

static void tell(blx_placement *placement, const struct rows *nodes, size_t i) {
  int32_t qemu = BLX_HYPERVISOR_QEMU;
  struct blx_resources has = {sizeof has, .cpu_milli = (uint32_t)nodes->cpu[i], .memory_mib = nodes->memory[i]};
  struct blx_node_info node = {sizeof node, .name = "node", .uid = i + 1, .hypervisors = &qemu, .n_hypervisors = 1};
  blx_error err = {0};
  node.capacity = &has;
  if (blx_placement_set_node(placement, &node, &err) != 0) refuse(nodes->path, i + 2, err.message);
}

/* Each pod is a VM of its own, which has something at least. Returns the node's uid; 0: refused. */
static uint64_t place(blx_placement *placement, const struct rows *pods, uint64_t arrival, int32_t strategy) {
  size_t i = arrival % pods->n;
  struct blx_vm_spec spec = {sizeof spec, .strategy = strategy};
  struct blx_placement_vm vm = {sizeof vm, .uid = arrival + 1, .spec = &spec};
  struct blx_placement_request request = {sizeof request, .vm_uid = vm.uid, .instance_uid = vm.uid, .reserve = 1};
  blx_error err = {0};
  uint64_t node = 0;
  spec.cpu_milli = pods->cpu[i] > 0 ? (uint32_t)pods->cpu[i] : 1;
  spec.memory_mib = pods->memory[i] > MEMORY_LEAST_MIB ? (uint32_t)pods->memory[i] : MEMORY_LEAST_MIB;
  int rc = blx_placement_set_vm(placement, &vm, &err);
  if (rc == 0) rc = blx_placement_choose(placement, &request, &node, &err);
  if (rc != 0 && rc != BLX_E_NO_CAPACITY) refuse(pods->path, i + 2, err.message);
  return node;
}

static int32_t strategy_of(const char *option, const char *name) {
  static const char *const names[] = {"best-fit", "load-balanced", "data-locality", "network-proximity"};
  for (int32_t i = 0; strcmp(option, "--strategy") == 0 && name && i < 4; i++)
    if (strcmp(name, names[i]) == 0) return i;
  refuse(option, 0, "options are --stop-at-refusal, --strategy best-fit|load-balanced|data-locality|network-proximity");
}

int main(int argc, char **argv) {
  static struct rows nodes, pods;
  static uint32_t pods_on[BLX_PLACEMENT_NODES_MAX + 1];
  struct blx_placement_options options = {sizeof options, BLX_PLACEMENT_NODES_MAX, BLX_PLACEMENT_INSTANCES_MAX, 1};
  unsigned long long n = 0, refused = 0, first = 0, n_used = 0;
  double cpu = 0, memory = 0, all_cpu = 0, all_memory = 0;
  blx_placement *placement = NULL;
  blx_error err = {0};
  int32_t strategy = 0, stop = 0;
  if (argc < 3) refuse("usage", 0, "place NODES.csv PODS.csv [--strategy best-fit] [--stop-at-refusal]");
  for (int i = 3; i < argc; i++)
    if (strcmp(argv[i], "--stop-at-refusal") == 0)
      stop = 1;
    else
      strategy = strategy_of(argv[i], argv[i + 1]), i++;
  read_rows(argv[1], &nodes);
  read_rows(argv[2], &pods);
  if (blx_placement_open(&options, &placement, &err) != 0) refuse("placement", 0, err.message);
  for (size_t i = 0; i < nodes.n; i++) {
    tell(placement, &nodes, i);
    all_cpu += (double)nodes.cpu[i];
    all_memory += (double)nodes.memory[i];
  }
  clock_t begin = clock();
  for (; stop ? first == 0 : n < pods.n; n++) {
    uint64_t node = place(placement, &pods, n, strategy);
    if (node == 0 && refused++ == 0) first = n + 1;
    if (node == 0) continue;
    n_used += pods_on[node]++ == 0;
    cpu += (double)pods.cpu[n % pods.n];
    memory += (double)pods.memory[n % pods.n];
  }
  char at[32] = "null";
  if (first > 0) snprintf(at, sizeof at, "%llu", first);
  printf("{\"placed\": %llu, \"refused\": %llu, \"first_refusal_at\": %s, \"nodes_used\": %llu, "
         "\"cpu_allocated_pct\": %.3f, \"memory_allocated_pct\": %.3f, \"seconds\": %.3f}\n",
         n - refused, refused, at, n_used, 100 * cpu / (all_cpu > 0 ? all_cpu : 1),
         100 * memory / (all_memory > 0 ? all_memory : 1), (double)(clock() - begin) / CLOCKS_PER_SEC);
  blx_placement_close(placement);
  return 0;
}
