/* The linear program below which no placement gets. Of each class of equal machines k, y_k are used; of each shape s,
 * x_s_k requests are on them. All of a shape are somewhere; a class's machines hold what is on them, in both
 * dimensions; no machine takes more of one shape than fits, nor two requests that are each above half of its
 * processors. Minimised is the sum of y. */
#include "quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KINDS_MAX = 1024 };

struct kinds {
  struct amount of[KINDS_MAX];
  size_t count[KINDS_MAX], n;
};

static void kinds_of(const struct amount *all, size_t n, struct kinds *out) {
  memset(out, 0, sizeof *out);
  for (size_t i = 0; i < n; i++) {
    size_t k = 0;
    while (k < out->n && memcmp(&out->of[k], &all[i], sizeof all[i]) != 0) k++;
    if (k == KINDS_MAX) fail("bound", "too many shapes");
    if (k == out->n) out->of[out->n++] = all[i];
    out->count[k]++;
  }
}

static uint64_t how_many(const struct amount *need, const struct amount *has) {
  uint64_t cpu = need->cpu_milli ? has->cpu_milli / need->cpu_milli : UINT32_MAX;
  uint64_t memory = need->memory_mib ? has->memory_mib / need->memory_mib : UINT32_MAX;
  return cpu < memory ? cpu : memory;
}

static void write_machine(FILE *f, const struct kinds *shapes, const struct amount *has, size_t k) {
  fprintf(f, " c%zu: ", k);
  for (size_t s = 0; s < shapes->n; s++)
    if (how_many(&shapes->of[s], has))
      fprintf(f, "+ %llu x%zu_%zu\n", (unsigned long long)shapes->of[s].cpu_milli, s, k);
  fprintf(f, " - %llu y%zu <= 0\n m%zu: ", (unsigned long long)has->cpu_milli, k, k);
  for (size_t s = 0; s < shapes->n; s++)
    if (how_many(&shapes->of[s], has))
      fprintf(f, "+ %llu x%zu_%zu\n", (unsigned long long)shapes->of[s].memory_mib, s, k);
  fprintf(f, " - %llu y%zu <= 0\n h%zu: ", (unsigned long long)has->memory_mib, k, k);
  for (size_t s = 0; s < shapes->n; s++)
    if (how_many(&shapes->of[s], has) && 2 * shapes->of[s].cpu_milli > has->cpu_milli) fprintf(f, "+ x%zu_%zu\n", s, k);
  fprintf(f, " - y%zu <= 0\n", k);
  for (size_t s = 0; s < shapes->n; s++) {
    uint64_t most = how_many(&shapes->of[s], has);
    if (most) fprintf(f, " f%zu_%zu: x%zu_%zu - %llu y%zu <= 0\n", s, k, s, k, (unsigned long long)most, k);
  }
}

static void write_program(FILE *f, const struct kinds *shapes, const struct kinds *machines) {
  fprintf(f, "Minimize\n machines:");
  for (size_t k = 0; k < machines->n; k++) fprintf(f, " + y%zu", k);
  fprintf(f, "\nSubject To\n");
  for (size_t s = 0; s < shapes->n; s++) {
    fprintf(f, " d%zu:", s);
    for (size_t k = 0; k < machines->n; k++)
      if (how_many(&shapes->of[s], &machines->of[k])) fprintf(f, " + x%zu_%zu", s, k);
    fprintf(f, " = %zu\n", shapes->count[s]);
  }
  for (size_t k = 0; k < machines->n; k++) write_machine(f, shapes, &machines->of[k], k);
  fprintf(f, "Bounds\n");
  for (size_t k = 0; k < machines->n; k++) fprintf(f, " 0 <= y%zu <= %zu\n", k, machines->count[k]);
  fprintf(f, "End\n");
}

/* A whole number of machines is needed: up, but for the solver's last digits. */
static uint64_t read_answer(FILE *f) {
  char line[256];
  double value = 0;
  bool optimal = false;
  while (fgets(line, sizeof line, f)) {
    if (strncmp(line, "Status:", 7) == 0) optimal = strstr(line, "OPTIMAL") != NULL;
    (void)sscanf(line, "Objective: machines = %lf", &value);
  }
  if (!optimal || value <= 0) fail("bound", "glpsol found no optimum");
  return (uint64_t)ceil(value - 1e-6);
}

uint64_t bound(const struct trial *t) {
  static struct kinds shapes, machines;
  char program[] = "/tmp/blixard-bound-XXXXXX", answer[sizeof program + 8], command[256];
  if (system("command -v glpsol >/dev/null 2>&1") != 0) return 0;
  kinds_of(t->requests, t->n_requests, &shapes);
  kinds_of(t->nodes, t->n_nodes, &machines);
  int fd = mkstemp(program);
  FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
  if (!f) fail("bound", "no file for the program");
  write_program(f, &shapes, &machines);
  if (fclose(f) != 0) fail("bound", program);
  (void)snprintf(answer, sizeof answer, "%s.out", program);
  (void)snprintf(command, sizeof command, "glpsol --lp %s -o %s >/dev/null", program, answer);
  int status = system(command);
  f = status == 0 ? fopen(answer, "r") : NULL;
  uint64_t out = f ? read_answer(f) : 0;
  if (f) (void)fclose(f);
  (void)unlink(program);
  (void)unlink(answer);
  if (!f) fail("bound", "glpsol failed");
  return out;
}
