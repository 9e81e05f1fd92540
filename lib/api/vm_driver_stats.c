/* Statistics as a driver of the embedder's tells them. */
#include "api/vm_driver_int.h"

#include <stdlib.h>
#include <time.h>

static const char origin[] = OWN_ORIGIN;

static uint64_t now_us(void) {
  struct timespec t = {0};
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void fill(struct blx__usage *u, const struct blx_instance_stats *s) {
  *u = (struct blx__usage){.at_us = s->at_us != 0 ? s->at_us : now_us(),
                           .has_cpu = s->has_cpu_us != 0,
                           .cpu_us = s->cpu_us,
                           .has_memory = s->has_memory_bytes != 0,
                           .memory_bytes = s->memory_bytes,
                           .has_balloon = s->has_balloon_bytes != 0,
                           .balloon_bytes = s->balloon_bytes,
                           .has_read = s->has_read_bytes != 0,
                           .read_bytes = s->read_bytes,
                           .has_written = s->has_written_bytes != 0,
                           .written_bytes = s->written_bytes,
                           .has_uptime = s->has_uptime_ms != 0,
                           .uptime_ms = s->uptime_ms,
                           .has_guest = s->has_guest_memory_bytes != 0,
                           .guest_memory_bytes = s->guest_memory_bytes,
                           .guest_available_bytes = s->guest_available_bytes,
                           .guest_uptime_ms = s->guest_uptime_ms,
                           .guest_load_milli = s->guest_load_milli,
                           .guest_processes = s->guest_processes};
}

static blx__rc take_row(const struct blx_instance_stats *given, struct blx__vm_stats *out, blx_error *err) {
  struct blx_instance_stats s;
  if (!given) return blx__fail(err, BLX_E_MISUSE, origin, "the statistics of an instance are NULL");
  BLX__TRY(blx__api_take_struct(&s, sizeof s, sizeof(size_t), given, origin, err));
  if (!s.instance || !*s.instance || !blx__str_copy(out->instance, sizeof out->instance, s.instance))
    return blx__fail(err, BLX_E_INVALID, origin, "instance: a name of 1 to 63 bytes is required");
  int guests = (s.has_guest_memory_bytes != 0) + (s.has_guest_available_bytes != 0) + (s.has_guest_uptime_ms != 0) +
               (s.has_guest_load_milli != 0) + (s.has_guest_processes != 0);
  if (guests != 0 && guests != 5)
    return blx__fail(err, BLX_E_INVALID, origin, "%s: what a guest says of itself is five numbers, or none; not %d",
                     out->instance, guests);
  if (guests == 5 && s.guest_available_bytes > s.guest_memory_bytes)
    return blx__fail(err, BLX_E_INVALID, origin, "%s: guest_available_bytes: %llu of %llu cannot be available",
                     out->instance, (unsigned long long)s.guest_available_bytes,
                     (unsigned long long)s.guest_memory_bytes);
  blx__utf8_mend(out->instance);
  out->uid = s.uid;
  fill(&out->usage, &s);
  return BLX__OK;
}

blx__rc own_stats_take(const struct blx_instance_stats *const *stats, size_t count, struct blx__vm_stats **out,
                       blx_error *err) {
  if (count > BLX__VM_INSTANCES_MAX)
    return blx__fail(err, BLX_E_INVALID, origin, "count: %zu instances, of which there may be %d", count,
                     BLX__VM_INSTANCES_MAX);
  if (!stats && count > 0) return blx__fail(err, BLX_E_MISUSE, origin, "the statistics are NULL");
  struct blx__vm_stats *rows = calloc(count + 1, sizeof *rows);
  if (!rows) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for statistics");
  blx__rc rc = BLX__OK;
  for (size_t i = 0; i < count && rc.code == 0; i++) rc = take_row(stats[i], &rows[i], err);
  if (rc.code == 0)
    *out = rows;
  else
    free(rows);
  return rc;
}
