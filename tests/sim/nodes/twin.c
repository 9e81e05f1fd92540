/* The world: its machines, and the life of the process on each. */
#include "twin.h"

#include <string.h>

struct twin twin;

enum { DELAY_MIN_US = 100, DELAY_MAX_US = 1500 };

void twin_init(uint64_t seed) {
  memset(&twin, 0, sizeof twin);
  blx__sim_init(&twin.sim, seed);
  const struct blx__sim_link link = {.delay_min_us = DELAY_MIN_US, .delay_max_us = DELAY_MAX_US};
  blx__sim_net_set(&twin.sim, &link);
  for (unsigned i = 1; i <= MACHINES_MAX; i++) {
    struct machine *m = &twin.machines[i];
    m->number = i;
    m->boot_ppm = 1000000;
    m->free_bytes = m->size_bytes = UINT64_C(1) << 40;
    blx__list_init(&m->streams);
    for (unsigned d = 0; d < DIR_COUNT; d++) {
      blx__sim_disk_init(&m->disks[d], &twin.sim, i);
      m->disks[d].min_us = 100;
      m->disks[d].max_us = 3000;
    }
  }
}

void twin_free(void) {
  for (unsigned i = 1; i <= MACHINES_MAX; i++)
    for (unsigned d = 0; d < DIR_COUNT; d++) blx__sim_disk_free(&twin.machines[i].disks[d]);
  BLX__ASSERT(twin.listeners.count == 0);
  blx__map_clear(&twin.listeners);
  blx__sim_free(&twin.sim);
}

void twin_process_begin(struct machine *m) {
  BLX__ASSERT(!m->process);
  blx__sim_node_start(&twin.sim, m->number);
  for (unsigned d = 0; d < DIR_COUNT; d++) blx__sim_disk_start(&m->disks[d]);
  m->process = true;
  m->muted = false;
  m->thread = NULL;
  m->paused_until_us = 0;
  twin.current = m;
}

void twin_process_die(struct machine *m, bool power) {
  BLX__ASSERT(m->process && !m->muted);
  twin_streams_break(m, power);
  m->muted = true;
  for (unsigned d = 0; d < DIR_COUNT; d++) {
    struct blx__sim_disk *disk = &m->disks[d];
    disk->held = false;
    if (power) {
      blx__sim_disk_crash(disk);
    } else {
      blx__sim_disk_forget(disk);
      disk->off = true; /* until the next process */
    }
  }
}

void twin_process_gone(struct machine *m) {
  for (unsigned d = 0; d < DIR_COUNT; d++) blx__sim_disk_forget(&m->disks[d]);
  blx__sim_node_stop(&twin.sim, m->number);
  m->process = false;
}

static void on_resume(void *arg, uint64_t a, uint64_t b) {
  struct machine *m = arg;
  (void)a;
  (void)b;
  for (unsigned d = 0; d < DIR_COUNT; d++) blx__sim_disk_release(&m->disks[d]);
}

void twin_pause(struct machine *m, uint64_t for_us) {
  m->paused_until_us = twin.sim.now_us + for_us;
  for (unsigned d = 0; d < DIR_COUNT; d++) m->disks[d].held = true;
  blx__sim_after(&twin.sim, m->number, for_us, (struct blx__sim_call){.fn = on_resume, .arg = m});
}
