/* sim --seeds N --from K [--verbose] [--fsm state|log]: run N seeds, say which failed and how to see them again. */
#include "run.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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
    else if (strcmp(argv[i], "--rules-off") == 0 && has_value && blx__parse_u64(argv[i + 1], 0, 1 << 20, &rules_off))
      i++;
    else if (strcmp(argv[i], "--fsm") == 0 && has_value && (fsm = find_fsm(argv[i + 1])) != NULL)
      i++;
    else
      return usage(argv[0]);
  }
  uint64_t failed = 0, start = clock_ms();
  for (uint64_t seed = from; seed < from + seeds; seed++) {
    char why[SIM_WHY_SIZE];
    if (sim_run(seed, fsm, (unsigned)rules_off, verbose, why)) continue;
    failed++;
    (void)printf("seed %llu: %s\n  replay: %s --fsm %s --seeds 1 --from %llu --verbose\n", (unsigned long long)seed,
                 why, argv[0], fsm->name, (unsigned long long)seed);
    (void)fflush(stdout);
  }
  uint64_t ms = clock_ms() - start;
  (void)printf("seeds=%llu failed=%llu rate=%llu/min\n", (unsigned long long)seeds, (unsigned long long)failed,
               (unsigned long long)(seeds * 60000 / (ms ? ms : 1)));
  return failed ? 1 : 0;
}
