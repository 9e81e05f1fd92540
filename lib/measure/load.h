/* How busy a machine is, off /proc: of its processors since the look before, of its memory now. What cannot be read, or
 * is no number, is absent; nothing here fails. Thread: one at a time. */
#ifndef BLX__MEASURE_LOAD_H
#define BLX__MEASURE_LOAD_H

#include "base/rc.h"

/* Zeroed at first. */
struct blx__load {
  uint64_t busy, total; /* clock ticks of all processors since boot, at the last look; total 0: there was none */
  bool has_cpu, has_memory;
  uint32_t cpu_permille; /* of all processors */
  uint64_t memory_mib;   /* in use: what is not available to new work */
};

/* Look. Blocks for two reads of files that are in memory. */
void blx__load_read(struct blx__load *load);

/* The parts, for tests: take /proc/stat, and /proc/meminfo, as texts. */
void blx__load_take_stat(struct blx__load *load, const char *text);
void blx__load_take_meminfo(struct blx__load *load, const char *text);

#endif
