/* Counters for whoever asks: of the monitor, two answers, and of the guest, one. Told when all have come, or cannot
 * come any more; a guest is not waited for longer than SHIM_STATS_WAIT_MS. */
#include "shim.h"

static bool asking(const struct shim *s) {
  return s->counters_due > 0 || s->stats_due_ms != 0;
}

static void tell(struct shim *s) {
  char text[BLX__COUNTERS_TEXT_MAX];
  if (!asking(s) && blx__counters_write(&s->counters, text)) shim_ctl_push_counters(s, text);
}

static void ask_monitor(struct shim *s) {
  if (s->qmp_fd < 0 || !s->qmp_ready) return;
  s->counters_due = 2;
  shim_qmp_send(s, BLX__QMP_QUERY_BALLOON);
  if (s->qmp_fd >= 0) shim_qmp_send(s, BLX__QMP_QUERY_BLOCKS);
  if (s->qmp_fd < 0) s->counters_due = 0;
}

/* Only while the port takes data: what must get through keeps its room, however often a guest that hangs is asked. */
static void ask_guest(struct shim *s) {
  if (s->guest_fd < 0 || !shim_guest_room() || s->state.flags & BLX__SHIM_PAUSED) return;
  if (s->guest_version == 0) (void)shim_guest_send(s, BLX__GUEST_HELLO, s->opt.instance); /* the next one is answered */
  if (s->guest_version < 2) return;
  struct blx__guest_msg msg = {.type = BLX__GUEST_STATS, .session = ++s->stats_tag};
  if (shim_guest_queue(s, &msg)) s->stats_due_ms = shim_now_ms() + SHIM_STATS_WAIT_MS;
}

void shim_stats_ask(struct shim *s) {
  if (asking(s)) return; /* who came meanwhile gets the same answer */
  s->counters = (struct blx__usage){0};
  ask_monitor(s);
  ask_guest(s);
  tell(s);
}

void shim_stats_monitor(struct shim *s, const struct blx__qmp_msg *msg) {
  const struct blx__usage *c = &msg->counters;
  bool balloon = blx__str_eq(msg->id, "balloon");
  if (s->counters_due == 0 || (!balloon && !blx__str_eq(msg->id, "blocks"))) return;
  if (balloon) {
    s->counters.has_balloon = c->has_balloon;
    s->counters.balloon_bytes = c->balloon_bytes;
  } else {
    s->counters.has_read = c->has_read;
    s->counters.read_bytes = c->read_bytes;
    s->counters.has_written = c->has_written;
    s->counters.written_bytes = c->written_bytes;
  }
  s->counters_due--;
  tell(s);
}

void shim_stats_monitor_gone(struct shim *s) {
  if (s->counters_due == 0) return;
  s->counters_due = 0;
  tell(s);
}

/* What cannot be is a guest's that lies, and is not told. */
void shim_stats_guest(struct shim *s, const struct blx__guest_msg *msg) {
  struct blx__guest_stats g;
  if (s->stats_due_ms == 0 || msg->session != s->stats_tag) return;
  s->stats_due_ms = 0;
  if (blx__guest_stats_read(msg, &g) && g.memory_kib > 0 && g.memory_kib <= UINT64_MAX >> 10 &&
      g.available_kib <= g.memory_kib) {
    s->counters.has_guest = true;
    s->counters.guest_memory_bytes = g.memory_kib << 10;
    s->counters.guest_available_bytes = g.available_kib << 10;
    s->counters.guest_uptime_ms = g.uptime_ms;
    s->counters.guest_load_milli = g.load_milli;
    s->counters.guest_processes = g.processes;
  }
  tell(s);
}

void shim_stats_step(struct shim *s, uint64_t now) {
  if (s->stats_due_ms == 0 || (s->guest_fd >= 0 && now < s->stats_due_ms)) return;
  s->stats_due_ms = 0;
  tell(s);
}
