/* What is placed where: the trace OpenB, orders drawn from it, and planted instances. */
#include "quality.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 1024, TRIES = 64, PIECES_MAX = 10, MEMORY_LEAST_MIB = 32 };

const char *const cut_names[CUTS] = {"in parts", "by the trace", "at random"};

void fail(const char *what, const char *which) {
  fprintf(stderr, "bench: %s: %s\n", what, which);
  exit(2);
}

/* ---- the trace */

/* The second and the third field of each line but the first. */
static size_t load_file(const char *folder, const char *name, struct amount *out, size_t most) {
  char path[4096], line[LINE_BYTES];
  size_t n = 0;
  (void)snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "r");
  if (!f) fail(path, strerror(errno));
  if (!fgets(line, sizeof line, f)) fail(path, "it is empty");
  while (fgets(line, sizeof line, f)) {
    unsigned long long cpu, memory;
    if (sscanf(line, "%*[^,],%llu,%llu", &cpu, &memory) != 2) fail(path, line);
    if (n == most) fail(path, "it has too many lines");
    out[n++] = (struct amount){cpu, memory};
  }
  (void)fclose(f);
  return n;
}

/* A VM has 32 MiB at least: what asks for less counts as that, whoever places it. */
void load(const char *folder, struct trial *t) {
  memset(t, 0, sizeof *t);
  t->n_nodes = load_file(folder, "nodes.csv", t->nodes, NODES_MAX);
  t->n_requests = load_file(folder, "pods.csv", t->requests, REQUESTS_MAX);
  for (size_t i = 0; i < t->n_requests; i++)
    if (t->requests[i].memory_mib < MEMORY_LEAST_MIB) t->requests[i].memory_mib = MEMORY_LEAST_MIB;
}

/* ---- orders */

uint64_t draw(uint64_t *seed, uint64_t below) {
  uint64_t z = (*seed += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return (uint64_t)(((unsigned __int128)(z ^ (z >> 31)) * below) >> 64);
}

void resample(const struct trial *from, uint64_t seed, struct trial *to) {
  *to = *from;
  for (size_t i = 0; i < to->n_requests; i++) to->requests[i] = from->requests[draw(&seed, from->n_requests)];
}

static void mix(struct trial *t, uint64_t *seed) {
  for (size_t i = t->n_requests; i > 1; i--) {
    size_t j = draw(seed, i);
    struct amount other = t->requests[j];
    t->requests[j] = t->requests[i - 1];
    t->requests[i - 1] = other;
  }
}

void shuffle(const struct trial *from, uint64_t seed, struct trial *to) {
  *to = *from;
  mix(to, &seed);
}

/* ---- planted */

static void put(struct trial *t, uint64_t cpu, uint64_t memory) {
  if (t->n_requests == REQUESTS_MAX) fail("planted", "too many requests");
  t->requests[t->n_requests++] = (struct amount){cpu, memory};
}

/* In two at a quarter, a half or three quarters of either dimension, again and again. */
static void cut_in_parts(struct trial *t, uint64_t *seed, uint64_t cpu, uint64_t memory) {
  bool small = cpu < 8000 || memory <= 2048, enough = cpu <= 32000 && draw(seed, 2) == 0;
  if (small || enough) {
    put(t, cpu, memory);
    return;
  }
  uint64_t c = cpu * (1 + draw(seed, 3)) / 4, m = memory * (1 + draw(seed, 3)) / 4;
  cut_in_parts(t, seed, c, m);
  cut_in_parts(t, seed, cpu - c, memory - m);
}

/* Requests of the trace while one that is drawn fits; what is left is one more, or belongs to the last. */
static void cut_by_trace(struct trial *t, uint64_t *seed, uint64_t cpu, uint64_t memory, const struct trial *trace) {
  size_t first = t->n_requests;
  for (int tries = 0; tries < TRIES; tries++) {
    struct amount r = trace->requests[draw(seed, trace->n_requests)];
    if (r.cpu_milli > cpu || r.memory_mib > memory || r.cpu_milli == 0) continue;
    put(t, r.cpu_milli, r.memory_mib);
    cpu -= r.cpu_milli;
    memory -= r.memory_mib;
    tries = 0;
  }
  if (t->n_requests == first || (cpu > 0 && memory >= MEMORY_LEAST_MIB)) {
    put(t, cpu, memory);
    return;
  }
  t->requests[t->n_requests - 1].cpu_milli += cpu;
  t->requests[t->n_requests - 1].memory_mib += memory;
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* @total in @n pieces, each of at least one @unit: the places of the cuts are drawn until all differ. */
static void pieces(uint64_t *seed, uint64_t total, uint64_t unit, size_t n, uint64_t *out) {
  uint64_t at[PIECES_MAX + 1];
  for (bool differ = false; !differ;) {
    at[0] = 0;
    for (size_t i = 1; i < n; i++) at[i] = (1 + draw(seed, total / unit - 1)) * unit;
    qsort(at + 1, n - 1, sizeof at[0], by_value);
    at[n] = total;
    differ = true;
    for (size_t i = 0; i < n; i++) differ = differ && at[i] < at[i + 1];
  }
  for (size_t i = 0; i < n; i++) out[i] = at[i + 1] - at[i];
}

static void cut_at_random(struct trial *t, uint64_t *seed, uint64_t cpu, uint64_t memory) {
  uint64_t cpus[PIECES_MAX], memories[PIECES_MAX];
  size_t n = 3 + draw(seed, PIECES_MAX - 2);
  if (n > cpu / 1000) n = cpu / 1000;
  pieces(seed, cpu, 1000, n, cpus);
  pieces(seed, memory, 1024, n, memories);
  for (size_t i = 0; i < n; i++) put(t, cpus[i], memories[i]);
}

void plant(const struct trial *from, int cut, uint64_t seed, size_t machines, struct trial *to) {
  memset(to, 0, sizeof *to);
  to->n_nodes = machines;
  to->stop = true;
  for (size_t i = 0; i < machines; i++) {
    struct amount n = to->nodes[i] = from->nodes[draw(&seed, from->n_nodes)];
    if (cut == CUT_IN_PARTS) cut_in_parts(to, &seed, n.cpu_milli, n.memory_mib);
    if (cut == CUT_BY_TRACE) cut_by_trace(to, &seed, n.cpu_milli, n.memory_mib, from);
    if (cut == CUT_AT_RANDOM) cut_at_random(to, &seed, n.cpu_milli, n.memory_mib);
  }
  mix(to, &seed);
}
