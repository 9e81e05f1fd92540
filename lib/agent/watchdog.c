/* The watchdog process of this node: started when it is not there, which is also when a daemon that was started anew
 * does not find it at its work; told each second that it is wanted. It goes on without us, as what it ends does. */
#include "agent/agent_int.h"
#include "lease/page.h"

#include <stdlib.h>
#include <string.h>

enum {
  TURN_MS = 500,
  START_MS = 5000,
  RETRY_MS = 5000,
  OUTPUT_MAX = 512,
  TAKEN = 5 /* its exit status: another one is at work */
};

static struct watchdog *dog(void *agent) {
  return &((struct blx__agent *)agent)->watchdog;
}

static void set_kill_at(void *user, uint64_t boot_ms) {
  blx__lease_page_set_kill_at(dog(user)->page, boot_ms);
}

static uint64_t get_kill_at(void *user) {
  return blx__lease_page_kill_at(dog(user)->page);
}

static bool at_work(const struct blx__agent *agent) {
  return blx__lease_page_watched(agent->watchdog.page, blx__loop_boot_ms(agent->loop));
}

/* One that a daemon before started without the device resets nothing, whatever this node says of itself. */
static bool lacks_device(const struct watchdog *w) {
  uint64_t has_s = blx__lease_page_device_s(w->page);
  return w->device && (has_s == 0 || has_s > w->device_s);
}

static bool is_watched(void *user) {
  const struct blx__agent *agent = user;
  return at_work(agent) && !lacks_device(&agent->watchdog);
}

static void failed(struct blx__agent *agent, const char *why) {
  struct watchdog *w = &agent->watchdog;
  if (!blx__str_eq(why, w->why))
    blx__log(agent->log, BLX_LOG_WARNING, "agent", "%s: no watchdog process, so no highly available instances: %s",
             agent->node_name, why);
  (void)blx__str_copy(w->why, sizeof w->why, why);
  w->retry_ms = blx__loop_now_ms(agent->loop) + RETRY_MS;
}

static void on_exit_of_starter(void *user, int exit_status, int signal, bool timed_out, struct blx__slice tail) {
  struct blx__agent *agent = user;
  struct watchdog *w = &agent->watchdog;
  w->starting = NULL;
  bool good = exit_status == 0 || exit_status == TAKEN;
  if (!good && !agent->closing) {
    size_t n = tail.len;
    while (n > 0 && tail.data[n - 1] == '\n') n--;
    char text[OUTPUT_MAX + 1];
    (void)blx__str_format(text, sizeof text, "%.*s", (int)n, n > 0 ? (const char *)tail.data : "");
    if (n == 0)
      (void)blx__str_format(text, sizeof text, "status %d, signal %d%s", exit_status, signal,
                            timed_out ? ", since it took too long" : "");
    failed(agent, text);
  }
  if (good) w->why[0] = '\0';
  agent_finish_if_idle(agent);
}

static void start(struct blx__agent *agent) {
  struct watchdog *w = &agent->watchdog;
  const char *argv[] = {w->program, "--page", w->path, "--group", w->group, NULL, NULL, NULL, NULL, NULL};
  char seconds[16];
  blx_error err;
  if (w->device) {
    (void)blx__str_format(seconds, sizeof seconds, "%u", w->device_s);
    argv[5] = "--device";
    argv[6] = w->device;
    argv[7] = "--device-s";
    argv[8] = seconds;
  }
  struct blx__process_spec spec = {
      .argv = argv, .new_session = true, .output_max = OUTPUT_MAX, .deadline_ms = START_MS};
  if (blx__process_spawn(agent->loop, &spec, on_exit_of_starter, agent, &w->starting, &err).code == 0) return;
  w->starting = NULL;
  failed(agent, err.message);
}

static void on_timer(void *arg) {
  struct blx__agent *agent = arg;
  struct watchdog *w = &agent->watchdog;
  if (agent->closing) return;
  blx__lease_page_owned(w->page, blx__loop_boot_ms(agent->loop));
  if (w->starting || is_watched(agent) || blx__loop_now_ms(agent->loop) < w->retry_ms) return;
  if (at_work(agent))
    failed(agent,
           "the one at work was started without the watchdog device: end it by SIGKILL, and another one is started");
  else
    start(agent);
}

/* False: no memory. */
static bool keep(const char *from, char **to) {
  *to = from ? strdup(from) : NULL;
  return !from || *to;
}

blx__rc watchdog_open(struct blx__agent *agent, const struct blx__agent_watchdog *o, blx_error *err) {
  struct watchdog *w = &agent->watchdog;
  if (!o->program) return BLX__OK;
  w->device_s = o->device_s;
  w->timer = blx__timer_new(agent->loop, on_timer, agent);
  bool kept = keep(o->program, &w->program) && keep(o->page, &w->path) && keep(o->group, &w->group) &&
              keep(o->device, &w->device);
  if (!kept || !w->timer) return blx__fail(err, BLX_E_NOMEM, "agent", "no memory for the watchdog process");
  BLX__TRY(blx__lease_page_open(w->path, &w->page, err));
  agent->killer = (struct blx__agent_killer){set_kill_at, get_kill_at, is_watched, agent};
  on_timer(agent);
  blx__timer_start(w->timer, TURN_MS, TURN_MS);
  return BLX__OK;
}

bool watchdog_is_idle(const struct blx__agent *agent) {
  return !agent->watchdog.starting;
}

/* With nothing to watch it need not wait for the next daemon. */
void watchdog_leave(struct blx__agent *agent) {
  struct watchdog *w = &agent->watchdog;
  if (!w->page) return;
  blx__timer_stop(w->timer);
  BLX__MAP_FOREACH(pos, &agent->instances) {
    const struct instance *i = blx__map_value(pos);
    if (instance_ha(i) && i->state != NEW && i->state != DEAD && i->state != GONE) return;
  }
  blx__lease_page_set_kill_at(w->page, 0);
  blx__lease_page_owned(w->page, 0);
}

void watchdog_free(struct blx__agent *agent) {
  struct watchdog *w = &agent->watchdog;
  blx__timer_free(w->timer);
  blx__lease_page_close(w->page);
  free(w->program);
  free(w->path);
  free(w->group);
  free(w->device);
  *w = (struct watchdog){0};
}
