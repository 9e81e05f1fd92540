/* The leader's soft state (who was heard from) and its controllers. After an election nothing is known of the others:
 * they are Unknown, not dead, until they were heard from or the time for that ran out. */
#include "node/node_int.h"

#include "io/process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
  CLOCK_STEP_MS = 1000,
  STOOD_STILL_MS = 2500, /* without one of its ticks, which come each second: it heard nobody meanwhile */
};

enum { LEASE_MAX_MS = 86400000 /* of one that is longer because fencing is disarmed */ };

enum {
  FENCES_MAX = 16,            /* fence commands at the same time */
  FENCE_DEADLINE_MS = 60000,  /* of one */
  FENCE_RETRY_MIN_MS = 5000,  /* after one that failed ... */
  FENCE_RETRY_MAX_MS = 60000, /* ... doubling up to here */
  FENCE_TAIL = 400,           /* bytes of what it said last */
};

/* The command that powers a node off, for one fence. */
struct fence {
  struct blx__node *node;
  char name[64];
  uint64_t uid, incarnation;
  struct blx__process *process; /* NULL: it does not run */
  bool dropped;                 /* freed when that ends */
  uint64_t begun_ms, retry_ms;  /* loop time; not tried again before the latter */
  unsigned failures;
  bool off;                  /* the command proved it, */
  char said[FENCE_TAIL + 1]; /* and said this last */
  char why[512];             /* how it failed last */
};

struct seen {
  uint64_t at_ms;              /* loop time of the last word from it; 0: none */
  uint64_t ready_ms;           /* and of the first after a silence */
  uint64_t granted_ms, end_ms; /* CLOCK_BOOTTIME of the last lease given to it, and the latest end of any; 0: none */
  bool has_wall;
  int64_t wall_ms; /* what its wall said then, less the loop's time: our own wall may be set meanwhile */
};

static void run(void *arg);
static uint64_t cluster_now_ms(const struct blx__node *n);
static uint64_t suspect_ms(const struct blx__node *n);

void blx__lead_init(struct blx__node *n) {
  blx__defer_init(&n->lead.kick, run, n);
}

void blx__lead_begin(struct blx__node *n) {
  BLX__ASSERT(!n->lead.leading);
  n->lead.leading = true;
  n->lead.since_ms = blx__loop_now_ms(n->loop);
  n->lead.barrier_ms = blx__loop_boot_ms(n->loop);
  n->lead.outstanding = 0;
  n->lead.ticked_ms = n->lead.since_ms;
  blx__lead_tick(n);
  blx__lead_kick(n);
}

static void fences_drop(struct blx__node *n);

void blx__lead_end(struct blx__node *n) {
  fences_drop(n);
  n->lead.leading = false;
  blx__servers_end(n);
  n->lead.wall = (struct blx__lead_median){0};
  BLX__MAP_FOREACH(pos, &n->lead.seen) free(blx__map_value(pos));
  blx__map_clear(&n->lead.seen);
  blx__soft_end(n);
  blx__control_free(n->lead.control);
  n->lead.control = NULL;
  if (n->lead.due) blx__timer_stop(n->lead.due);
}

void blx__lead_close(struct blx__node *n) {
  blx__lead_end(n);
  n->close_waits += n->lead.fences_running; /* killed, and not gone yet */
  blx__loop_undefer(&n->lead.kick);
  blx__timer_free(n->lead.due);
  n->lead.due = NULL;
}

void blx__lead_kick(struct blx__node *n) {
  if (!n->lead.leading || n->closing) return;
  n->lead.dirty = true;
  blx__loop_defer(n->loop, &n->lead.kick);
}

void blx__lead_seen(struct blx__node *n, uint64_t uid, uint64_t incarnation, uint64_t wall_ms) {
  if (!n->lead.leading) return;
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  if (!node || node->incarnation != incarnation) return; /* an older life of it */
  enum blx_node_status before = blx__lead_status(n, uid);
  struct seen *s = blx__map_get_u64(&n->lead.seen, uid);
  if (!s) {
    s = calloc(1, sizeof *s);
    if (!s || !blx__map_set_u64(&n->lead.seen, uid, s, NULL)) {
      free(s);
      blx__log(&n->log, BLX_LOG_WARNING, "node", "no memory to note that node %s lives", node->name);
      return;
    }
  }
  s->at_ms = blx__loop_now_ms(n->loop);
  if (wall_ms > 0 && wall_ms <= INT64_MAX) {
    s->has_wall = true;
    s->wall_ms = (int64_t)wall_ms - (int64_t)s->at_ms;
  }
  if (before != BLX_NODE_STATUS_READY || s->ready_ms == 0) s->ready_ms = s->at_ms;
  if (before != BLX_NODE_STATUS_READY) {
    blx__log(&n->log, BLX_LOG_INFO, "node", "node %s is ready", node->name);
    blx__lead_kick(n);
  }
}

static uint64_t suspect_ms(const struct blx__node *n) {
  return blx__state_settings(n->state)->lease->suspect_ms;
}

/* ---- leases */

/* Until the disarming is over no node is fenced, and its instances are to survive that without an answer. */
static uint64_t lease_ms(const struct blx__node *n, const struct blx_settings *settings) {
  uint64_t now = cluster_now_ms(n), until = settings->disarmed_until_ms;
  uint64_t ms = settings->lease->lease_ms + (until > now ? until - now : 0);
  return ms < LEASE_MAX_MS ? ms : LEASE_MAX_MS;
}

void blx__lead_grant(struct blx__node *n, const struct blx_lease_ask *ask, struct blx_lease_grant *out) {
  const struct blx_node_info *node = blx__state_node(n->state, ask->node_uid);
  const struct blx_settings *settings = blx__state_settings(n->state);
  struct seen *s = blx__map_get_u64(&n->lead.seen, ask->node_uid);
  out->node_uid = ask->node_uid;
  out->seq = ask->seq;
  out->settings = settings->lease;
  if (node && ask->incarnation != 0 && node->fence_incarnation == ask->incarnation)
    out->answer = BLX_LEASE_ANSWER_FENCED;
  else if (!node || node->incarnation != ask->incarnation)
    out->answer = BLX_LEASE_ANSWER_UNKNOWN;
  else if (node->fence != BLX_FENCE_NONE || !n->lead.leading || !s || blx__state_is_unclear(n->state, node->uid) ||
           blx__member_recovering(n))
    out->answer = BLX_LEASE_ANSWER_LATER; /* what is not noted is not given */
  else
    out->answer = BLX_LEASE_ANSWER_GRANTED;
  if (out->answer != BLX_LEASE_ANSWER_GRANTED) return;
  out->lease_ms = lease_ms(n, settings);
  s->granted_ms = blx__loop_boot_ms(n->loop);
  /* One before may have been longer, and the answer that shortens it may not arrive. */
  if (s->end_ms < s->granted_ms + out->lease_ms) s->end_ms = s->granted_ms + out->lease_ms;
}

enum blx_node_status blx__lead_status(const struct blx__node *n, uint64_t uid) {
  if (!n->lead.leading) return BLX_NODE_STATUS_UNKNOWN;
  if (uid == n->uid) return n->registered ? BLX_NODE_STATUS_READY : BLX_NODE_STATUS_UNKNOWN;
  uint64_t now = blx__loop_now_ms(n->loop);
  const struct seen *s = blx__map_get_u64(&n->lead.seen, uid);
  if (s) return now - s->at_ms < suspect_ms(n) ? BLX_NODE_STATUS_READY : BLX_NODE_STATUS_SUSPECT;
  return now - n->lead.since_ms < suspect_ms(n) ? BLX_NODE_STATUS_UNKNOWN : BLX_NODE_STATUS_SUSPECT;
}

void blx__lead_soft(const struct blx__node *n, uint64_t uid, struct blx__control_soft *out) {
  const struct seen *s = blx__map_get_u64(&n->lead.seen, uid);
  const struct fence *f = blx__map_get_u64(&n->lead.fences, uid);
  const struct blx_node_info *node = blx__state_node(n->state, uid);
  uint64_t from = s && s->granted_ms != 0 ? s->granted_ms : n->lead.barrier_ms;
  *out = (struct blx__control_soft){.status = blx__lead_status(n, uid)};
  out->unanswered_ms = blx__loop_boot_ms(n->loop) - from;
  if (s && s->granted_ms != 0) out->lease_ms = s->end_ms - s->granted_ms;
  bool off = f && f->off && node && node->fence_incarnation == f->incarnation;
  if (off) out->powered_off = f->said;
  blx__soft_of(n, uid, out);
}

static void soft_of(void *user, uint64_t uid, struct blx__control_soft *out) {
  blx__lead_soft(user, uid, out);
}

struct blx__control_input blx__lead_input(struct blx__node *n) {
  return (struct blx__control_input){.st = n->state, .soft = soft_of, .user = n, .now_ms = cluster_now_ms(n)};
}

static void answered(void *user, const blx_error *err, uint64_t index, struct blx__slice result) {
  (void)index;
  (void)result; /* a conflict is no surprise: the next step sees what is true now */
  struct blx__node *n = user;
  BLX__ASSERT(n->lead.outstanding > 0);
  n->lead.outstanding--;
  if (err && n->lead.leading)
    blx__log(&n->log, BLX_LOG_DEBUG, "control", "an operation of control was not committed: %s", err->message);
  if (n->lead.outstanding == 0) blx__lead_kick(n);
}

static void propose_all(struct blx__node *n, const struct blx__control_out *out) {
  for (size_t i = 0; i < out->op_count; i++) {
    blx_error err;
    blx__rc rc = blx__consensus_propose(n->consensus, out->ops[i], answered, n, &err);
    if (rc.code != 0) {
      blx__log(&n->log, BLX_LOG_DEBUG, "control", "control waits: %s", err.message);
      blx__timer_start(n->lead.due, 200, 0);
      return;
    }
    n->lead.outstanding++;
  }
}

/* ---- cluster time */

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

struct blx__lead_median blx__lead_median(int64_t *walls, size_t count, size_t voters) {
  if (count == 0 || 2 * count <= voters) return (struct blx__lead_median){0};
  qsort(walls, count, sizeof *walls, by_value);
  return (struct blx__lead_median){true, walls[(count - 1) / 2], walls[count / 2]};
}

static int64_t own_wall_ms(const struct blx__node *n) {
  return (int64_t)blx__loop_wall_ms(n->loop) - (int64_t)blx__loop_now_ms(n->loop);
}

/* Of the voters that are heard from, this one among them. */
static struct blx__lead_median median(const struct blx__node *n) {
  int64_t walls[BLX__CONSENSUS_MEMBERS_MAX];
  size_t count = 0, voters = 1;
  walls[count++] = own_wall_ms(n);
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid)) {
    if (!node->voter || node->uid == n->uid) continue;
    voters++;
    const struct seen *s = blx__map_get_u64(&n->lead.seen, node->uid);
    bool heard = s && s->has_wall && blx__lead_status(n, node->uid) == BLX_NODE_STATUS_READY;
    if (heard && count < BLX__COUNT(walls)) walls[count++] = s->wall_ms;
  }
  return blx__lead_median(walls, count, voters);
}

uint64_t blx__lead_heard_ms(uint64_t at_ms, uint64_t ticked_ms, uint64_t now_ms) {
  uint64_t still_ms = now_ms - ticked_ms;
  if (still_ms < STOOD_STILL_MS) return at_ms;
  return at_ms + still_ms < now_ms ? at_ms + still_ms : now_ms;
}

/* A leader that was stopped for a while and still leads, as the only server does, finds everybody silent for as long;
 * what they said waits to be read. That time is not counted as theirs, or it would fence all of them. When they were
 * answered last is not touched: proofs are as late as before, or later. */
static void look_up(struct blx__node *n) {
  struct blx__lead *l = &n->lead;
  uint64_t last_ms = l->ticked_ms, now_ms = blx__loop_now_ms(n->loop);
  l->ticked_ms = now_ms;
  if (now_ms - last_ms < STOOD_STILL_MS) return;
  blx__log(&n->log, BLX_LOG_WARNING, "node",
           "this leader stood still for %llu ms, in which it heard nobody: nobody is silent for that",
           (unsigned long long)(now_ms - last_ms));
  l->since_ms = blx__lead_heard_ms(l->since_ms, last_ms, now_ms);
  BLX__MAP_FOREACH(pos, &l->seen) {
    struct seen *s = blx__map_value(pos);
    s->at_ms = blx__lead_heard_ms(s->at_ms, last_ms, now_ms);
  }
}

void blx__lead_tick(struct blx__node *n) {
  if (!n->lead.leading) return;
  look_up(n);
  struct blx__lead_clock *c = &n->lead.clock;
  if (c->ms > 0) {
    c->ms = blx__lead_time_ms(n);
    c->at_ms = blx__loop_now_ms(n->loop);
  }
  n->lead.wall = median(n);
}

uint64_t blx__lead_clock_read(const struct blx__lead_clock *c, uint64_t now_ms, struct blx__lead_median wall) {
  BLX__ASSERT(c->ms > 0 && now_ms >= c->at_ms);
  uint64_t elapsed = now_ms - c->at_ms, most = elapsed / 10, time_ms = c->ms + elapsed;
  if (!wall.known) return time_ms;
  int64_t off = (int64_t)time_ms - (int64_t)now_ms, want = off;
  if (want < wall.low_ms) want = wall.low_ms;
  if (want > wall.high_ms) want = wall.high_ms;
  uint64_t by = want > off ? (uint64_t)(want - off) : (uint64_t)(off - want);
  if (by > most) by = most;
  return want > off ? time_ms + by : time_ms - by;
}

void blx__lead_clock_seen(struct blx__lead_clock *c, bool leading, uint64_t committed_ms, uint64_t now_ms,
                          struct blx__lead_median wall) {
  uint64_t time_ms = c->ms > 0 ? blx__lead_clock_read(c, now_ms, wall) : 0;
  /* What a leader commits is as old as the commit took: its own clock goes on, or it would lose that each time. */
  if (leading && time_ms >= committed_ms && now_ms - c->at_ms < CLOCK_STEP_MS) return;
  c->ms = leading && time_ms >= committed_ms ? time_ms : committed_ms;
  c->at_ms = now_ms;
}

/* Before anything was committed it is what the wall says. */
uint64_t blx__lead_time_ms(const struct blx__node *n) {
  if (n->lead.clock.ms == 0) return blx__loop_wall_ms(n->loop);
  return blx__lead_clock_read(&n->lead.clock, blx__loop_now_ms(n->loop), n->lead.wall);
}

static uint64_t cluster_now_ms(const struct blx__node *n) {
  uint64_t now = blx__lead_time_ms(n), last = blx__state_time_ms(n->state);
  return now > last ? now : last;
}

uint64_t blx__lead_silent_ms(const struct blx__node *n, uint64_t uid) {
  const struct seen *s = blx__map_get_u64(&n->lead.seen, uid);
  if (uid == n->uid) return 0;
  uint64_t silent_ms = blx__loop_now_ms(n->loop) - (s ? s->at_ms : n->lead.since_ms);
  return !s && silent_ms < suspect_ms(n) ? suspect_ms(n) : silent_ms;
}

uint64_t blx__lead_status_since(const struct blx__node *n, uint64_t uid) {
  if (!n->lead.leading) return 0;
  const struct seen *s = blx__map_get_u64(&n->lead.seen, uid);
  uint64_t since = s ? s->ready_ms : n->lead.since_ms, now = blx__loop_now_ms(n->loop), wall = cluster_now_ms(n);
  if (uid != n->uid && blx__lead_status(n, uid) == BLX_NODE_STATUS_SUSPECT)
    since = (s ? s->at_ms : n->lead.since_ms) + suspect_ms(n);
  BLX__ASSERT(since <= now);
  return wall > now - since ? wall - (now - since) : 0;
}

static void due_fn(void *arg) {
  blx__lead_kick(arg);
}

/* A new leader that placed at once would place everything on itself, the only node it has heard from. */
static bool settling(const struct blx__node *n) {
  if (blx__loop_now_ms(n->loop) - n->lead.since_ms >= BLX__NODE_SETTLE_MS) return false;
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid))
    if (blx__lead_status(n, node->uid) == BLX_NODE_STATUS_UNKNOWN) return true;
  return false;
}

/* ---- fence commands */

/* One line, whatever it printed. */
static void take_tail(char text[FENCE_TAIL + 1], struct blx__slice tail) {
  size_t n = tail.len < FENCE_TAIL ? tail.len : FENCE_TAIL;
  if (n > 0) memcpy(text, tail.data + (tail.len - n), n);
  while (n > 0 && (unsigned char)text[n - 1] <= ' ') n--;
  text[n] = '\0';
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) text[i] = ' ';
  blx__utf8_mend(text);
}

static void fence_ended(void *user, int exit_status, int signal, bool timed_out, struct blx__slice tail) {
  struct fence *f = user;
  struct blx__node *n = f->node;
  char text[FENCE_TAIL + 1];
  f->process = NULL;
  if (f->dropped) {
    free(f);
    n->lead.fences_running--;
    if (n->closing) blx__node_part_closed(n);
    return;
  }
  n->lead.fences_running--;
  take_tail(text, tail);
  unsigned long long took_ms = blx__loop_now_ms(n->loop) - f->begun_ms;
  if (exit_status == 0) {
    f->off = true;
    (void)blx__str_copy(f->said, sizeof f->said, text);
    blx__log(&n->log, BLX_LOG_WARNING, "node", "node %s is powered off, says its fence command after %llu.%llu s: %s",
             f->name, took_ms / 1000, took_ms / 100 % 10, text);
  } else {
    uint64_t wait = FENCE_RETRY_MIN_MS;
    for (unsigned i = 0; i < f->failures && wait < FENCE_RETRY_MAX_MS; i++) wait *= 2;
    f->failures++;
    f->retry_ms = blx__loop_now_ms(n->loop) + (wait < FENCE_RETRY_MAX_MS ? wait : FENCE_RETRY_MAX_MS);
    (void)blx__str_format(f->why, sizeof f->why, "the fence command of %s %s%d%s%s", f->name,
                          timed_out ? "took too long, and ended with signal "
                          : signal  ? "ended with signal "
                                    : "ended with status ",
                          signal ? signal : exit_status, text[0] ? ": " : "", text);
    blx__log(&n->log, BLX_LOG_ERROR, "node", "%s", f->why);
  }
  blx__lead_kick(n);
}

static void fence_start(struct blx__node *n, struct fence *f, const struct blx_node_info *node) {
  char name[96], uid[48], incarnation[56];
  blx_error err;
  (void)blx__str_format(name, sizeof name, "BLIXARD_NODE=%s", node->name);
  (void)blx__str_format(uid, sizeof uid, "BLIXARD_NODE_UID=%llu", (unsigned long long)node->uid);
  (void)blx__str_format(incarnation, sizeof incarnation, "BLIXARD_INCARNATION=%llu",
                        (unsigned long long)node->fence_incarnation);
  const char *const argv[] = {"/bin/sh", "-c", node->fence_command, NULL};
  const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", name, uid,
                             incarnation, NULL};
  const struct blx__process_spec spec = {
      .argv = argv, .env = env, .with_us = true, .output_max = FENCE_TAIL, .deadline_ms = FENCE_DEADLINE_MS};
  f->begun_ms = blx__loop_now_ms(n->loop);
  blx__log(&n->log, BLX_LOG_WARNING, "node", "node %s is being powered off: %s", node->name, node->fence_command);
  n->lead.fences_running++;
  if (blx__process_spawn(n->loop, &spec, fence_ended, f, &f->process, &err).code == 0) return;
  n->lead.fences_running--;
  f->process = NULL;
  f->failures++;
  f->retry_ms = f->begun_ms + FENCE_RETRY_MIN_MS;
  (void)blx__str_format(f->why, sizeof f->why, "the fence command of %s cannot be run: %.300s", node->name,
                        err.message);
  blx__log(&n->log, BLX_LOG_ERROR, "node", "%s", f->why);
}

static void fence_drop(struct fence *f) {
  if (f->process) {
    f->dropped = true;
    blx__process_kill(f->process, SIGKILL);
  } else {
    free(f);
  }
}

static void fences_drop(struct blx__node *n) {
  BLX__MAP_FOREACH(pos, &n->lead.fences) fence_drop(blx__map_value(pos));
  blx__map_clear(&n->lead.fences);
}

/* Once for a fence, and again after one that failed. */
static void fence_step(struct blx__node *n, const struct blx_node_info *node) {
  struct fence *f = blx__map_get_u64(&n->lead.fences, node->uid);
  /* One that came back settles it by itself, and is not to be powered off. */
  bool wanted = node->fence == BLX_FENCE_BEGUN && node->fence_command && node->fence_command[0] &&
                node->incarnation == node->fence_incarnation;
  if (f && (!wanted || f->incarnation != node->fence_incarnation)) {
    (void)blx__map_remove_u64(&n->lead.fences, node->uid);
    fence_drop(f);
    f = NULL;
  }
  if (!wanted || n->lead.fences_running >= FENCES_MAX) return;
  if (!f) {
    f = calloc(1, sizeof *f);
    if (!f || !blx__map_set_u64(&n->lead.fences, node->uid, f, NULL)) {
      free(f);
      return; /* no memory now: with the next look */
    }
    f->node = n;
    f->uid = node->uid;
    f->incarnation = node->fence_incarnation;
    (void)blx__str_copy(f->name, sizeof f->name, node->name);
  }
  if (!f->process && !f->off && blx__loop_now_ms(n->loop) >= f->retry_ms) fence_start(n, f, node);
}

static void fences_step(struct blx__node *n) {
  const struct blx_node_info *node = blx__state_node_after_uid(n->state, 0);
  for (; node; node = blx__state_node_after_uid(n->state, node->uid))
    if (node->fence == BLX_FENCE_BEGUN || n->lead.fences.count > 0) fence_step(n, node);
}

const char *blx__lead_fence_failure(const struct blx__node *n, uint64_t uid) {
  const struct fence *f = blx__map_get_u64(&n->lead.fences, uid);
  return f && !f->off && f->why[0] ? f->why : NULL;
}

/* At most one batch of control's operations is outstanding. */
static void run(void *arg) {
  struct blx__node *n = arg;
  if (!n->lead.leading || !n->lead.dirty || n->lead.outstanding > 0 || n->closing) return;
  if (blx__member_recovering(n)) return; /* the next apply kicks again */
  if (!n->lead.due) n->lead.due = blx__timer_new(n->loop, due_fn, n);
  if (!n->lead.control) n->lead.control = blx__control_new();
  if (!n->lead.due || !n->lead.control) return; /* no memory now: the next apply kicks again */
  look_up(n);
  if (settling(n)) {
    blx__timer_start(n->lead.due, BLX__NODE_SETTLE_MS / 10, 0);
    return;
  }
  n->lead.dirty = false;
  fences_step(n);
  struct blx__arena arena = {.limit_bytes = BLX__NODE_CALL_ARENA};
  struct blx__control_out out = {0};
  blx_error err;
  const struct blx__control_input in = blx__lead_input(n);
  blx__rc rc = blx__control_step(n->lead.control, &in, &arena, &out, &err);
  if (rc.code != 0) {
    blx__log(&n->log, BLX_LOG_ERROR, "control", "a step of control failed: %s", err.message);
    blx__timer_start(n->lead.due, 1000, 0);
  } else {
    /* A node may fall silent or speak up without an apply: look again soon while something waits. */
    uint64_t wait = out.next_due_ms == 0 ? 0 : out.next_due_ms > in.now_ms ? out.next_due_ms - in.now_ms : 1;
    if (wait > 0) blx__timer_start(n->lead.due, wait, 0);
    propose_all(n, &out);
  }
  blx__arena_free(&arena);
}
