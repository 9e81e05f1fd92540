/* sim-nodes --seeds N --from K [--verbose] [--no-workers] [--broken PART | --prove]: run N seeds, say which failed and
 * how to see them again. --prove: break each part in turn and look whether its invariant notices; and run a few seeds
 * twice. */
#include "nodes.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SEEDS_FOR_ALL = 1000, PROVE_SEEDS_MAX = 600, REPEAT_SEEDS = 5 };

struct broken_part {
  const char *name, *expected;
};
#define ROW(id, name, expected) {name, expected},
static const struct broken_part parts[BROKEN_COUNT] = {NODES_BROKEN_MAP(ROW)};
#undef ROW

/* Seeds that once found something: they run first, always. 0 ends the list. */
static const uint64_t found[] = {774, 2800, 10367, 11245, 12241, 20084, 20734, 20232, 20462, 0};
static const uint64_t found_without_workers[] = {2, 37, 41, 97, 130, 143, 158, 178, 391, 537, 627, 1214, 0};

static uint64_t clock_ms(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int usage(const char *program) {
  (void)fprintf(
      stderr,
      "usage: %s [--seeds N] [--from K] [--verbose] [--no-workers] [--no-storm] [--broken PART] [--prove]\nparts:",
      program);
  for (unsigned i = 0; i < BROKEN_COUNT; i++) (void)fprintf(stderr, " %s", parts[i].name);
  (void)fprintf(stderr, "\n");
  return 2;
}

static bool find_part(const char *name, enum broken *out) {
  for (unsigned i = 0; i < BROKEN_COUNT; i++) {
    if (strcmp(parts[i].name, name) != 0) continue;
    *out = (enum broken)i;
    return true;
  }
  return false;
}

struct tally {
  const char *program;
  struct cluster_options o;
  uint64_t failed, reached;
};

static void run_one(struct tally *t, uint64_t seed) {
  char why[WHY_SIZE];
  t->o.seed = seed;
  if (nodes_run(&t->o, &t->reached, why)) return;
  t->failed++;
  (void)printf("seed %llu: %s\n  replay: %s --seeds 1 --from %llu --verbose --broken %s%s%s\n",
               (unsigned long long)seed, why, t->program, (unsigned long long)seed, parts[t->o.broken].name,
               t->o.no_workers ? " --no-workers" : "", t->o.no_storm ? " --no-storm" : "");
  (void)fflush(stdout);
}

/* A point that nobody came by means that something is no longer tried. */
static unsigned tell_unreached(uint64_t reached) {
#define TEXT(name, text) text,
  static const char *const texts[] = {NODES_SOMETIMES_MAP(TEXT)};
#undef TEXT
  unsigned count = 0;
  for (unsigned i = 0; i < SOME_COUNT; i++) {
    if (reached >> i & 1) continue;
    (void)printf("no seed came to: %s\n", texts[i]);
    count++;
  }
  return count;
}

/* A seed is a run: twice the same one ends at the same place of its random numbers, at the same time. */
static bool repeats(void) {
  for (uint64_t seed = 1; seed <= REPEAT_SEEDS; seed++) {
    char why[WHY_SIZE] = "";
    uint64_t reached = 0, state[2], end_us[2];
    for (unsigned i = 0; i < 2; i++) {
      (void)nodes_run(&(struct cluster_options){.seed = seed}, &reached, why);
      state[i] = twin.sim.rng.state;
      end_us[i] = twin.sim.now_us;
    }
    if (state[0] == state[1] && end_us[0] == end_us[1]) continue;
    (void)printf("seed %llu is another run each time\n", (unsigned long long)seed);
    return false;
  }
  return true;
}

/* Each broken part makes a seed fail, and for the reason it should. */
static int prove(void) {
  unsigned failed = repeats() ? 0 : 1;
  for (unsigned part = BROKEN_NONE + 1; part < BROKEN_COUNT; part++) {
    char why[WHY_SIZE] = "";
    uint64_t reached = 0, seed = 1;
    const char *expected = parts[part].expected;
    struct cluster_options o = {.broken = (enum broken)part};
    for (; seed <= PROVE_SEEDS_MAX; seed++) {
      o.seed = seed;
      if (!nodes_run(&o, &reached, why) && strncmp(why, expected, strlen(expected)) == 0) break;
    }
    if (seed <= PROVE_SEEDS_MAX) {
      (void)printf("%s broken: seed %llu: %s\n", parts[part].name, (unsigned long long)seed, why);
    } else {
      (void)printf("%s broken: %s did not notice in %d seeds; the last said: %s\n", parts[part].name, expected,
                   PROVE_SEEDS_MAX, why[0] ? why : "nothing");
      failed++;
    }
  }
  (void)printf("%d passed, %u failed, 0 skipped\n", BROKEN_COUNT - (int)failed, failed);
  return failed ? 1 : 0;
}

int main(int argc, char **argv) {
  uint64_t seeds = 200, from = 1;
  struct tally t = {.program = argv[0]};
  (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a crash must not swallow the trace */
  for (int i = 1; i < argc; i++) {
    bool has_value = i + 1 < argc;
    if (strcmp(argv[i], "--verbose") == 0)
      t.o.verbose = true;
    else if (strcmp(argv[i], "--no-workers") == 0)
      t.o.no_workers = true;
    else if (strcmp(argv[i], "--no-storm") == 0)
      t.o.no_storm = true;
    else if (strcmp(argv[i], "--prove") == 0)
      return prove();
    else if (strcmp(argv[i], "--seeds") == 0 && has_value && blx__parse_u64(argv[i + 1], 1, 100000000, &seeds))
      i++;
    else if (strcmp(argv[i], "--from") == 0 && has_value && blx__parse_u64(argv[i + 1], 0, UINT64_MAX / 2, &from))
      i++;
    else if (strcmp(argv[i], "--broken") == 0 && has_value && find_part(argv[i + 1], &t.o.broken))
      i++;
    else
      return usage(argv[0]);
  }
  uint64_t start = clock_ms();
  for (size_t i = 0; seeds > 1 && found[i] != 0; i++) run_one(&t, found[i]);
  struct tally servers = t;
  servers.o.no_workers = true;
  for (size_t i = 0; seeds > 1 && found_without_workers[i] != 0; i++) run_one(&servers, found_without_workers[i]);
  t.failed = servers.failed;
  t.reached = servers.reached;
  for (uint64_t seed = from; seed < from + seeds; seed++) run_one(&t, seed);
  if (seeds >= SEEDS_FOR_ALL && t.o.broken == BROKEN_NONE) t.failed += tell_unreached(t.reached);
  uint64_t took_ms = clock_ms() - start;
  (void)printf("seeds=%llu failed=%llu rate=%llu/min\n", (unsigned long long)seeds, (unsigned long long)t.failed,
               (unsigned long long)(seeds * 60000 / (took_ms ? took_ms : 1)));
  return t.failed ? 1 : 0;
}
