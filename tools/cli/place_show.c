/* What was said about placement, for people: conditions read as they are typed. */
#include "output.h"

#include <string.h>

static const char *text_of(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : "";
}

static long long number_of(const json_t *object, const char *key) {
  return (long long)json_integer_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key) {
  return json_is_true(json_object_get(object, key));
}

/* Control characters would break the table, or command the terminal. */
static void put(FILE *to, const char *text) {
  for (; *text != '\0'; text++) fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, to);
}

static void gap(FILE *to, size_t i) {
  if (i > 0) fputs("; ", to);
}

static void put_thousandths(FILE *to, long long milli) {
  fprintf(to, "%lld", milli / 1000);
  if (milli % 1000 == 0) return;
  char part[8];
  size_t n = (size_t)snprintf(part, sizeof part, "%03d", (int)(milli % 1000));
  while (n > 0 && part[n - 1] == '0') part[--n] = '\0';
  fprintf(to, ".%s", part);
}

void cli_show_milli(FILE *to, const json_t *value) {
  if (json_integer_value(value) > 0) put_thousandths(to, (long long)json_integer_value(value));
}

/* Of resources: thousandths where they are given, else virtual CPUs. */
void cli_show_cpus(FILE *to, const json_t *resources) {
  long long milli = number_of(resources, "cpu_milli");
  put_thousandths(to, milli > 0 ? milli : number_of(resources, "vcpus") * 1000);
}

void cli_show_amounts(FILE *to, const json_t *amounts) {
  for (size_t i = 0; i < json_array_size(amounts); i++) {
    const json_t *row = json_array_get(amounts, i);
    if (i > 0) fputc(',', to);
    put(to, text_of(row, "name"));
    fprintf(to, "=%lld", number_of(row, "amount"));
  }
}

/* Of a node: "gpu 1/2". */
void cli_show_named(FILE *to, const json_t *node) {
  const json_t *has = cli_path(node, "capacity.named"), *gone = cli_path(node, "allocated.named");
  for (size_t i = 0; i < json_array_size(has); i++) {
    const json_t *row = json_array_get(has, i);
    long long used = 0;
    for (size_t k = 0; k < json_array_size(gone); k++)
      if (strcmp(text_of(json_array_get(gone, k), "name"), text_of(row, "name")) == 0)
        used = number_of(json_array_get(gone, k), "amount");
    if (i > 0) fputs(", ", to);
    put(to, text_of(row, "name"));
    fprintf(to, " %lld/%lld", used, number_of(row, "amount"));
  }
}

/* Of a node that says it. */
void cli_show_load(FILE *to, const json_t *node) {
  const json_t *cpu = json_object_get(node, "load_cpu_permille"), *memory = json_object_get(node, "load_memory_mib");
  if (json_is_integer(cpu)) fprintf(to, "%.1f%% CPU", (double)json_integer_value(cpu) / 10);
  if (json_is_integer(cpu) && json_is_integer(memory)) fputs(", ", to);
  if (json_is_integer(memory)) fprintf(to, "%lld MiB", (long long)json_integer_value(memory));
}

void cli_show_taints(FILE *to, const json_t *taints) {
  for (size_t i = 0; i < json_array_size(taints); i++) {
    const json_t *row = json_array_get(taints, i);
    if (i > 0) fputc(',', to);
    put(to, text_of(row, "key"));
    if (*text_of(row, "value") != '\0') fputc('=', to);
    put(to, text_of(row, "value"));
    fputc(':', to);
    put(to, text_of(row, "effect"));
  }
}

void cli_show_tolerations(FILE *to, const json_t *rows) {
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i), *value = json_object_get(row, "value");
    if (i > 0) fputc(',', to);
    put(to, *text_of(row, "key") != '\0' ? text_of(row, "key") : "*");
    if (json_is_string(value)) fputc('=', to);
    if (json_is_string(value)) put(to, json_string_value(value));
  }
}

static void put_values(FILE *to, const json_t *match) {
  const json_t *values = json_object_get(match, "values");
  for (size_t i = 0; i < json_array_size(values); i++) {
    const char *value = json_string_value(json_array_get(values, i));
    if (i > 0) fputc(',', to);
    put(to, value != NULL ? value : "");
  }
}

static const struct {
  const char *op, *before, *behind;
} operators[] = {{"In", "", " in "},     {"NotIn", "", " not in "}, {"Exists", "", ""},
                 {"NotExists", "!", ""}, {"Greater", "", ">"},      {"Less", "", "<"}};

/* "zone in a,b; !gpu"; preferences with ":WEIGHT". */
void cli_show_matches(FILE *to, const json_t *matches) {
  for (size_t i = 0; i < json_array_size(matches); i++) {
    const json_t *row = json_array_get(matches, i);
    gap(to, i);
    for (size_t k = 0; k < sizeof operators / sizeof operators[0]; k++) {
      if (strcmp(text_of(row, "op"), operators[k].op) != 0) continue;
      fputs(operators[k].before, to);
      put(to, text_of(row, "key"));
      fputs(operators[k].behind, to);
    }
    put_values(to, row);
    if (number_of(row, "weight") > 0) fprintf(to, ":%lld", number_of(row, "weight"));
  }
}

/* "together app=db@rack; apart self@host:30". */
void cli_show_affinity(FILE *to, const json_t *rules) {
  for (size_t i = 0; i < json_array_size(rules); i++) {
    const json_t *row = json_array_get(rules, i), *labels = json_object_get(row, "selector");
    gap(to, i);
    fputs(is_true(row, "apart") ? "apart " : "together ", to);
    if (json_array_size(labels) == 0) fputs("self", to);
    for (size_t k = 0; k < json_array_size(labels); k++) {
      if (k > 0) fputc(',', to);
      put(to, text_of(json_array_get(labels, k), "key"));
      fputc('=', to);
      put(to, text_of(json_array_get(labels, k), "value"));
    }
    fputc('@', to);
    put(to, *text_of(row, "level") != '\0' ? text_of(row, "level") : "host");
    if (number_of(row, "weight") > 0) fprintf(to, ":%lld", number_of(row, "weight"));
  }
}

void cli_show_spread(FILE *to, const json_t *rules) {
  for (size_t i = 0; i < json_array_size(rules); i++) {
    const json_t *row = json_array_get(rules, i);
    gap(to, i);
    put(to, text_of(row, "level"));
    if (number_of(row, "max_per_domain") > 0) fprintf(to, ":max=%lld", number_of(row, "max_per_domain"));
    if (number_of(row, "max_skew") > 0)
      fprintf(to, ":skew=%lld:weight=%lld", number_of(row, "max_skew"), number_of(row, "weight"));
  }
}

/* "=70" of each part of a combined strategy. */
void cli_show_strategies(FILE *to, const json_t *parts) {
  for (size_t i = 0; i < json_array_size(parts); i++) {
    fputs(i > 0 ? "," : " ", to);
    put(to, text_of(json_array_get(parts, i), "strategy"));
    fprintf(to, "=%lld", number_of(json_array_get(parts, i), "weight"));
  }
}

void cli_show_near(FILE *to, const json_t *rows) {
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i), *domain = json_object_get(row, "domain");
    const char *vm = text_of(row, "vm"), *node = text_of(row, "node");
    if (i > 0) fputs(", ", to);
    fputs(*vm != '\0' ? "vm/" : *node != '\0' ? "node/" : "", to);
    put(to, *vm != '\0' ? vm : *node != '\0' ? node : text_of(domain, "key"));
    if (*vm != '\0' || *node != '\0') continue;
    fputc('=', to);
    put(to, text_of(domain, "value"));
  }
}

void cli_show_data(FILE *to, const json_t *items) {
  for (size_t i = 0; i < json_array_size(items); i++) {
    long long bytes = number_of(json_array_get(items, i), "bytes");
    if (i > 0) fputs(", ", to);
    put(to, text_of(json_array_get(items, i), "key"));
    if (bytes > 0) fprintf(to, " (%lld MiB)", (bytes + 1048575) / 1048576);
  }
}

void cli_show_obstacles(FILE *to, const json_t *obstacles) {
  for (size_t i = 0; i < json_array_size(obstacles); i++) {
    gap(to, i);
    put(to, text_of(json_array_get(obstacles, i), "text"));
  }
}

/* "BestFit 4711, preference zone 10000"; of a combined one each part's share: "Combined BestFit 70/100 of 4711 = 3297".
 */
void cli_show_parts(FILE *to, const json_t *parts) {
  for (size_t i = 0; i < json_array_size(parts); i++) {
    const char *name = text_of(json_array_get(parts, i), "name");
    if (i > 0) fputs(", ", to);
    put(to, name);
    bool shared = strncmp(name, "Combined ", strlen("Combined ")) == 0;
    fprintf(to, "%s %lld", shared ? " =" : "", number_of(json_array_get(parts, i), "cost"));
  }
}

/* "class=burst:cpu=400,memory=150". */
void cli_show_overcommit(FILE *to, const json_t *rows) {
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i), *nodes = json_object_get(row, "nodes");
    gap(to, i);
    if (*text_of(nodes, "key") != '\0') {
      put(to, text_of(nodes, "key"));
      fputc('=', to);
      put(to, text_of(nodes, "value"));
      fputc(':', to);
    }
    fprintf(to, "cpu=%lld,memory=%lld", number_of(row, "cpu_percent"), number_of(row, "memory_percent"));
  }
}

void cli_show_distances(FILE *to, const json_t *rows) {
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i);
    gap(to, i);
    put(to, text_of(row, "a"));
    fputc(':', to);
    put(to, text_of(row, "b"));
    fprintf(to, "=%lldus", number_of(row, "us"));
  }
}
