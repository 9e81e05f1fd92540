/* sim --seeds N --from K [--verbose] [--fsm state|log]: run N seeds, say which failed and how to see them again. */
#include "run.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SEEDS_FOR_ALL = 1000 };

static uint64_t clock_ms(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int usage(const char *program) {
  (void)fprintf(stderr, "usage: %s [--seeds N] [--from K] [--verbose] [--rules-off MASK] [--fsm state|log]\n", program);
  return 2;
}

static const struct sim_fsm *find_fsm(const char *name) {
  static const struct sim_fsm *const all[] = {&sim_fsm_state, &sim_fsm_log};
  for (size_t i = 0; i < BLX__COUNT(all); i++)
    if (strcmp(all[i]->name, name) == 0) return all[i];
  return NULL;
}

/* Seeds that once found something: they run first, always. 0 ends the list. */
static const uint64_t found[] = {9, 12, 300, 1537, 1627, 1846, 2083, 7308, 10215, 35307, 0};

struct tally {
  const char *program;
  const struct sim_fsm *fsm;
  unsigned rules_off;
  bool verbose;
  uint64_t failed, reached;
};

static void run_one(struct tally *t, uint64_t seed) {
  char why[SIM_WHY_SIZE];
  if (sim_run(seed, t->fsm, t->rules_off, t->verbose, &t->reached, why)) return;
  t->failed++;
  (void)printf("seed %llu: %s\n  replay: %s --fsm %s --seeds 1 --from %llu --verbose\n", (unsigned long long)seed, why,
               t->program, t->fsm->name, (unsigned long long)seed);
  (void)fflush(stdout);
}

/* A point that nobody came by means that something is no longer tried. */
static unsigned tell_unreached(uint64_t reached) {
#define TEXT(name, text) text,
  static const char *const texts[] = {BLX__SOMETIMES_MAP(TEXT)};
#undef TEXT
  unsigned count = 0;
  for (unsigned i = 0; i < BLX__SOMETIMES_COUNT; i++) {
    if (reached >> i & 1) continue;
    (void)printf("no seed came to: %s\n", texts[i]);
    count++;
  }
  return count;
}

int main(int argc, char **argv) {
  uint64_t seeds = 200, from = 1, rules_off = 0;
  bool verbose = false;
  const struct sim_fsm *fsm = &sim_fsm_state;
  for (int i = 1; i < argc; i++) {
    bool has_value = i + 1 < argc;
    if (strcmp(argv[i], "--verbose") == 0)
      verbose = true;
    else if (strcmp(argv[i], "--seeds") == 0 && has_value && blx__parse_u64(argv[i + 1], 1, 100000000, &seeds))
      i++;
    else if (strcmp(argv[i], "--from") == 0 && has_value && blx__parse_u64(argv[i + 1], 0, UINT64_MAX / 2, &from))
      i++;
    else if (strcmp(argv[i], "--rules-off") == 0 && has_value && blx__parse_u64(argv[i + 1], 0, UINT32_MAX, &rules_off))
      i++;
    else if (strcmp(argv[i], "--fsm") == 0 && has_value && (fsm = find_fsm(argv[i + 1])) != NULL)
      i++;
    else
      return usage(argv[0]);
  }
  struct tally t = {.program = argv[0], .fsm = fsm, .rules_off = (unsigned)rules_off, .verbose = verbose};
  (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a crash must not swallow the trace */
  uint64_t start = clock_ms();
  for (size_t i = 0; seeds > 1 && i < BLX__COUNT(found) && found[i] != 0; i++) run_one(&t, found[i]);
  for (uint64_t seed = from; seed < from + seeds; seed++) run_one(&t, seed);
  if (seeds >= SEEDS_FOR_ALL && rules_off == 0) t.failed += tell_unreached(t.reached);
  uint64_t failed = t.failed;
  uint64_t ms = clock_ms() - start;
  (void)printf("seeds=%llu failed=%llu rate=%llu/min\n", (unsigned long long)seeds, (unsigned long long)failed,
               (unsigned long long)(seeds * 60000 / (ms ? ms : 1)));
  return failed ? 1 : 0;
}
