/* Sessions in simulated guests. No process: a few commands that behave as their names say, each a timer of the loop.
 *   echo WORD...        the words in a line              cat                  its input, until that ends
 *   warn WORD...        the same as standard error       exit N               ends with N
 *   yes                 "y" in lines, without an end     fail-with-signal N   ended by that signal
 *   size                ROWS COLUMNS of its terminal, in a line, now and whenever they change, until its input ends
 * The console says each line back that it is told. And what such guests are measured to use. */
#include "vm/sim_int.h"

#include <stdlib.h>
#include <string.h>

static const char origin[] = "vm/sim";

enum { OUT_MAX = 64 << 10, YES_BYTES = 16 << 10, YES_MS = 1, RETRY_MS = 10 };

struct command;

struct blx__vm_session {
  struct blx__list link;
  struct sim *sim;
  struct sim_instance *instance;
  const struct command *command; /* NULL: there is no such program */
  const struct blx__vm_session_events *events;
  void *user;
  struct blx__timer *timer;
  struct blx__buf out; /* what it says and was not taken yet */
  enum blx__vm_session_stream stream;
  bool tty, refused, done;
  bool stuck; /* what it said last was not taken */
  bool *gone; /* set when it is freed inside its own callback */
  uint16_t rows, columns;
  int32_t exit_status, signal;
};

struct command {
  const char *name;
  bool (*begin)(struct blx__vm_session *s, const struct blx__vm_session_spec *spec); /* false: no memory */
  bool (*input)(struct blx__vm_session *s, const uint8_t *bytes, size_t n);          /* false: no room */
  bool endless;
};

static void end_with(struct blx__vm_session *s, int32_t exit_status, int32_t signal) {
  s->done = true;
  s->exit_status = exit_status;
  s->signal = signal;
}

/* ---- the commands */

static bool ignore(struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  (void)s;
  (void)bytes;
  (void)n;
  return true;
}

static bool echo(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  end_with(s, 0, 0);
  for (size_t i = 1; i < spec->argc; i++)
    if ((i > 1 && !blx__buf_add_byte(&s->out, ' ')) || !blx__buf_add_str(&s->out, spec->argv[i])) return false;
  return blx__buf_add_byte(&s->out, '\n');
}

static bool warn(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  if (!s->tty) s->stream = BLX__VM_SESSION_ERR;
  return echo(s, spec);
}

static bool number_of(struct blx__vm_session *s, const struct blx__vm_session_spec *spec, uint64_t lo, uint64_t hi,
                      uint64_t *out) {
  if (spec->argc == 2 && blx__parse_u64(spec->argv[1], lo, hi, out)) return true;
  end_with(s, 2, 0);
  s->stream = s->tty ? BLX__VM_SESSION_OUT : BLX__VM_SESSION_ERR;
  return false;
}

static bool do_exit(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  uint64_t status = 0;
  if (!number_of(s, spec, 0, 255, &status)) return blx__buf_add_str(&s->out, "exit: it takes a number from 0 to 255\n");
  end_with(s, (int32_t)status, 0);
  return true;
}

static bool do_signal(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  uint64_t signal = 0;
  if (!number_of(s, spec, 1, 64, &signal))
    return blx__buf_add_str(&s->out, "fail-with-signal: it takes a number from 1 to 64\n");
  end_with(s, -1, (int32_t)signal);
  return true;
}

static bool wait_for_input(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  (void)s;
  (void)spec;
  return true;
}

static bool say_back(struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  if (n == 0) end_with(s, 0, 0);
  return n == 0 || (s->out.len == 0 && blx__buf_add(&s->out, bytes, n));
}

static bool say_size(struct blx__vm_session *s) {
  return blx__buf_addf(&s->out, "%u %u\n", s->rows, s->columns);
}

static bool size_begin(struct blx__vm_session *s, const struct blx__vm_session_spec *spec) {
  (void)spec;
  return say_size(s);
}

static bool size_input(struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  (void)bytes;
  if (n == 0) end_with(s, 0, 0);
  return true;
}

/* The end of what somebody types is no end of a console. */
static bool console_input(struct blx__vm_session *s, const uint8_t *bytes, size_t n) {
  return n == 0 || (s->out.len == 0 && blx__buf_add(&s->out, bytes, n));
}

static const struct command commands[] = {
    {"echo", echo, ignore, false},
    {"warn", warn, ignore, false},
    {"exit", do_exit, ignore, false},
    {"fail-with-signal", do_signal, ignore, false},
    {"cat", wait_for_input, say_back, false},
    {"yes", wait_for_input, ignore, true},
    {"size", size_begin, size_input, false},
};
static const struct command console = {"console", wait_for_input, console_input, false};

static const struct command *command_of(const struct blx__vm_session_spec *spec) {
  if (spec->argc == 0) return &console;
  for (size_t i = 0; i < BLX__COUNT(commands); i++)
    if (strcmp(commands[i].name, spec->argv[0]) == 0) return &commands[i];
  return NULL;
}

/* ---- a session */

static void session_free(struct blx__vm_session *s) {
  if (s->gone) *s->gone = true;
  blx__list_remove(&s->link);
  s->sim->sessions_open--;
  blx__timer_free(s->timer);
  blx__buf_free(&s->out);
  free(s);
}

static void session_end(struct blx__vm_session *s, const blx_error *err) {
  const struct blx__vm_session_events *events = s->events;
  void *user = s->user;
  int32_t exit_status = s->exit_status, signal = s->signal;
  session_free(s);
  events->on_end(user, err, exit_status, signal);
}

static bool fill(struct blx__vm_session *s) {
  while (s->command->endless && s->out.len < YES_BYTES)
    if (!blx__buf_add_str(&s->out, "y\n")) return false;
  return true;
}

/* False: it is gone. */
static bool offer(void *arg) {
  struct blx__vm_session *s = arg;
  bool gone = false;
  s->gone = &gone;
  bool taken = s->events->on_output(s->user, s->stream, s->out.data, s->out.len);
  if (gone) return false;
  s->stuck = !taken;
  if (taken) blx__buf_clear(&s->out);
  if (taken && s->refused) {
    s->refused = false;
    s->events->on_room(s->user);
    if (gone) return false;
  }
  s->gone = NULL;
  return true;
}

static void pump(void *arg) {
  struct blx__vm_session *s = arg;
  blx_error err;
  if (!s->command) {
    (void)blx__fail(&err, BLX_E_NOT_FOUND, origin, "there is no such program in the simulated guest of %s",
                    s->instance->name);
    session_end(s, &err);
    return;
  }
  if (s->instance->status.paused) {
    blx__timer_start(s->timer, RETRY_MS, 0);
    return;
  }
  if (!fill(s)) {
    (void)blx__fail(&err, BLX_E_NOMEM, origin, "no memory for what a simulated command says");
    session_end(s, &err);
    return;
  }
  if (s->out.len > 0 && !offer(s)) return;
  bool left = s->out.len > 0;
  if (!left && s->done)
    session_end(s, NULL);
  else if (left || s->command->endless)
    blx__timer_start(s->timer, !left ? YES_MS : s->stuck ? RETRY_MS : 0, 0);
}

static blx__rc check(struct sim *s, const struct blx__vm_key *key, const struct blx__vm_session_spec *spec,
                     struct sim_instance *in, blx_error *err) {
  size_t bytes = 0;
  if (!in || !in->known) return blx__fail(err, BLX_E_NOT_FOUND, origin, "%s is not on this node", key->instance);
  if (!sim_runs(in)) return blx__fail(err, BLX_E_CONFLICT, origin, "%s does not run: start it first", key->instance);
  for (size_t i = 0; i < spec->argc && i < BLX__VM_SESSION_ARGS_MAX; i++) bytes += strlen(spec->argv[i]) + 1;
  if (spec->argc > BLX__VM_SESSION_ARGS_MAX || bytes > BLX__VM_SESSION_ARGS_BYTES)
    return blx__fail(err, BLX_E_INVALID, origin, "a command has at most %d words and %d bytes",
                     BLX__VM_SESSION_ARGS_MAX, BLX__VM_SESSION_ARGS_BYTES);
  if (s->sessions_open >= BLX__VM_SESSIONS_MAX)
    return blx__fail(err, BLX_E_BUSY, origin, "%d sessions are open on this node: end one first", BLX__VM_SESSIONS_MAX);
  return BLX__OK;
}

blx__rc sim_session_open(struct blx__vm_driver *d, const struct blx__vm_key *key,
                         const struct blx__vm_session_spec *spec, const struct blx__vm_session_events *events,
                         void *user, struct blx__vm_session **out, blx_error *err) {
  struct sim *sim = sim_of(d);
  struct sim_instance *in = sim_find(sim, key);
  BLX__TRY(check(sim, key, spec, in, err));
  struct blx__vm_session *s = calloc(1, sizeof *s);
  struct blx__timer *timer = s ? blx__timer_new(sim->loop, pump, s) : NULL;
  if (!timer) {
    free(s);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a session");
  }
  *s = (struct blx__vm_session){.sim = sim, .instance = in, .command = command_of(spec), .timer = timer};
  s->events = events;
  s->user = user;
  s->tty = spec->tty;
  s->stream = BLX__VM_SESSION_OUT;
  s->rows = spec->rows ? spec->rows : 24;
  s->columns = spec->columns ? spec->columns : 80;
  blx__buf_init(&s->out, OUT_MAX);
  blx__list_push(&sim->sessions, &s->link);
  sim->sessions_open++;
  if (s->command && !s->command->begin(s, spec)) {
    session_free(s);
    return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a session");
  }
  blx__timer_start(timer, 0, 0);
  *out = s;
  return BLX__OK;
}

bool sim_session_write(struct blx__vm_driver *d, struct blx__vm_session *session, const uint8_t *bytes, size_t n) {
  (void)d;
  BLX__ASSERT(n <= BLX__VM_SESSION_WRITE_MAX);
  if (session->done || !session->command) return true;
  session->refused = !session->command->input(session, bytes, n);
  if (!session->gone) blx__timer_start(session->timer, 0, 0);
  return !session->refused;
}

void sim_session_resize(struct blx__vm_driver *d, struct blx__vm_session *session, uint16_t rows, uint16_t columns) {
  (void)d;
  session->rows = rows ? rows : session->rows;
  session->columns = columns ? columns : session->columns;
  if (session->done || !session->command || session->command->begin != size_begin) return;
  if (!say_size(session)) end_with(session, 1, 0);
  blx__timer_start(session->timer, 0, 0);
}

void sim_session_close(struct blx__vm_driver *d, struct blx__vm_session *session) {
  (void)d;
  session_free(session);
}

/* A console ends with its guest; a command is cut off. */
void sim_sessions_end(struct sim *s, const struct sim_instance *in) {
  for (struct blx__list *it = s->sessions.next, *next; it != &s->sessions; it = next) {
    next = it->next;
    struct blx__vm_session *session = BLX__CONTAINER(it, struct blx__vm_session, link);
    blx_error err;
    if (in && session->instance != in) continue;
    (void)blx__fail(&err, BLX_E_UNAVAILABLE, origin, in ? "the guest of %s is gone" : "the driver of %s was closed",
                    session->instance->name);
    session_end(session, in && session->command == &console ? NULL : &err);
  }
}

/* ---- statistics */

/* What it would use: made up by a rule of uid and uptime. */
static struct blx__usage sim_usage(const struct sim_instance *in) {
  uint64_t now_ms = blx__loop_now_ms(in->sim->loop), up_ms = now_ms > in->started_ms ? now_ms - in->started_ms : 0;
  struct blx__usage u = {true, true, true, true, true, true, true, .at_us = now_ms * 1000, .uptime_ms = up_ms};
  u.cpu_us = up_ms * 10 * (5 + in->uid * 7 % 90); /* 5 to 94 % of a processor */
  u.memory_bytes = (32 + in->uid % 64) << 20;
  u.balloon_bytes = u.guest_memory_bytes = 128 << 20;
  u.guest_available_bytes = (128 - in->uid % 64) << 20;
  u.guest_uptime_ms = up_ms;
  u.guest_load_milli = 50 + in->uid * 70 % 900;
  u.guest_processes = 20 + in->uid % 30;
  u.read_bytes = up_ms * (in->uid % 8);
  u.written_bytes = up_ms * (in->uid % 4);
  return u;
}

struct snapshot {
  struct blx__defer defer;
  struct sim *sim;
  blx__vm_stats_fn *done;
  void *user;
};

static void on_snapshot(void *arg) {
  struct snapshot *p = arg;
  struct sim *s = p->sim;
  blx_error err;
  size_t count = 0;
  struct blx__vm_stats *list = calloc(s->instances.count + 1, sizeof *list);
  BLX__MAP_FOREACH(pos, &s->instances) {
    const struct sim_instance *in = blx__map_value(pos);
    if (!list || !sim_runs(in)) continue;
    (void)blx__str_copy(list[count].instance, sizeof list[count].instance, in->name);
    list[count].uid = in->uid;
    list[count++].usage = sim_usage(in);
  }
  bool ok = list && !s->closing;
  if (!ok) (void)blx__fail(&err, list ? BLX_E_CANCELLED : BLX_E_NOMEM, origin, "no statistics any more");
  p->done(p->user, ok ? NULL : &err, list, ok ? count : 0);
  free(list);
  free(p);
}

blx__rc sim_stats(struct blx__vm_driver *d, blx__vm_stats_fn *done, void *user, blx_error *err) {
  struct snapshot *p = calloc(1, sizeof *p);
  if (!p) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for statistics");
  *p = (struct snapshot){.sim = sim_of(d), .done = done, .user = user};
  blx__defer_init(&p->defer, on_snapshot, p);
  blx__loop_defer(sim_of(d)->loop, &p->defer);
  return BLX__OK;
}

/* ---- highly available instances */

void blx__vm_sim_set_kill_at(struct blx__vm_driver *sim, uint64_t boot_ms) {
  struct sim *s = sim_of(sim);
  if (s->host)
    s->host->kill_at_ms = boot_ms;
  else
    s->kill_at_ms = boot_ms;
}

uint64_t blx__vm_sim_kill_at(const struct blx__vm_driver *sim) {
  const struct sim *s = BLX__CONTAINER(sim, const struct sim, base);
  return s->host ? s->host->kill_at_ms : s->kill_at_ms;
}

unsigned blx__vm_sim_kill_ha(struct blx__vm_driver *sim) {
  unsigned n = 0;
  BLX__MAP_FOREACH(pos, &sim_of(sim)->instances) {
    struct sim_instance *in = blx__map_value(pos);
    if (!in->ha || !sim_runs(in)) continue;
    sim_ended(in, -1, 9, "the simulated monitor was killed: its node has no lease");
    in->untold = true;
    blx__timer_start(in->life_timer, 0, 0);
    n++;
  }
  return n;
}
