/* What a virtual machine's monitor uses: read off its cgroup, else off /proc; and the counters that its shim asks of
 * the monitor itself and of the guest. What cannot be read, or is no number, is absent; nothing here fails. Thread:
 * any. */
#ifndef BLX__MEASURE_USAGE_H
#define BLX__MEASURE_USAGE_H

#include "base/rc.h"

enum { BLX__COUNTERS_TEXT_MAX = 320 };

struct blx__usage {
  bool has_cpu, has_memory, has_uptime, has_balloon, has_read, has_written, has_guest;
  uint64_t at_us;                     /* the host's time since its boot, at which this was so */
  uint64_t cpu_us;                    /* since its start, of all its processors together */
  uint64_t memory_bytes;              /* of the host's memory, without its page cache */
  uint64_t uptime_ms;                 /* since its start */
  uint64_t balloon_bytes;             /* what the balloon leaves the guest */
  uint64_t read_bytes, written_bytes; /* of its block devices, since its start */
  /* What the guest says of itself, which need not be true: all of it, or none. */
  uint64_t guest_memory_bytes, guest_available_bytes, guest_uptime_ms;
  uint64_t guest_load_milli, guest_processes; /* 32 bits; the load of the last minute, in thousandths */
};

/* Measure the monitor @pid; @cgroups: directories of its cgroup, of any hierarchies. Blocks for a few file reads.
 * Leaves what only the monitor and the guest know as it was. */
void blx__usage_read(struct blx__usage *u, const char *const *cgroups, unsigned count, int32_t pid);

/* The counters as a shim tells them: "balloon=N read=N written=N guest_memory=N ...", those that are known; a reader
 * passes over what it does not know. False: it does not fit. */
bool blx__counters_write(const struct blx__usage *u, char out[BLX__COUNTERS_TEXT_MAX]) BLX__MUST;
void blx__counters_take(struct blx__usage *u, const char *text);
void blx__counters_copy(struct blx__usage *to, const struct blx__usage *from);

/* The parts, for tests. A number of its own; the number after "KEY " at the beginning of a line; of /proc/PID/stat the
 * clock ticks of processor time, and since boot at its start; of /proc/PID/statm the pages that are resident. */
bool blx__usage_number(const char *text, uint64_t *out) BLX__MUST;
bool blx__usage_line(const char *text, const char *key, uint64_t *out);
bool blx__usage_stat(const char *text, uint64_t *cpu_ticks, uint64_t *start_ticks) BLX__MUST;
bool blx__usage_statm(const char *text, uint64_t *pages) BLX__MUST;

#endif
