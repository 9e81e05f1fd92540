/* Figures of consensus: three members in three processes, and one alone, on the directory that is given, beside the
 * floor of the same work, in turns. Then the time from the loss of the leader to the next write that is answered. */
#include "consensus.h"

#include "base/rc.h"
#include <blixard/consensus.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 5, TURN_MS = 600, LOSSES = 30, PATIENCE_MS = 60000 };

static const unsigned outstanding[] = {1, 16, 256, 1024};

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_ms(unsigned ms) {
  const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  (void)nanosleep(&t, NULL);
}

static void need(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "bench: %s\n", what);
  _exit(1);
}

/* ---- load */

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void slot_end(struct load *load) {
  pthread_mutex_lock(&load->lock);
  if (--load->active == 0) pthread_cond_signal(&load->cond);
  pthread_mutex_unlock(&load->lock);
}

static void slot_submit(struct slot *slot) {
  struct load *load = slot->load;
  slot->began_ns = now_ns();
  if (load->submit(load->target, load->what, slot)) return;
  load->failed = true;
  slot_end(load);
}

/* Slots end on one thread, the target's; it alone touches the counts until the last has ended. */
void slot_done(struct slot *slot, bool ok) {
  struct load *load = slot->load;
  uint64_t now = now_ns();
  if (now >= load->measure_ns && now < load->end_ns && ok && load->count < SAMPLES_MAX)
    load->samples_us[load->count++] = (uint32_t)((now - slot->began_ns) / 1000);
  if (!ok) load->failed = true;
  if (now < load->end_ns && !load->failed) {
    slot_submit(slot);
    return;
  }
  slot_end(load);
}

struct result load_run(struct load *load, unsigned n, unsigned ms) {
  load->count = 0;
  load->failed = false;
  load->active = n;
  load->measure_ns = now_ns() + (uint64_t)WARM_MS * 1000000;
  load->end_ns = load->measure_ns + (uint64_t)ms * 1000000;
  for (unsigned i = 0; i < n; i++) {
    load->slots[i] = (struct slot){.load = load, .began_ns = now_ns()};
    need(load->submit(load->target, load->what, &load->slots[i]), "an operation was not taken");
  }
  pthread_mutex_lock(&load->lock);
  while (load->active > 0) pthread_cond_wait(&load->cond, &load->lock);
  pthread_mutex_unlock(&load->lock);
  struct result r = {.failed = load->failed || load->count == 0};
  if (r.failed) return r;
  qsort(load->samples_us, load->count, sizeof load->samples_us[0], by_value);
  r.per_second = (double)load->count * 1000 / ms;
  r.p50_us = load->samples_us[load->count / 2];
  r.p99_us = load->samples_us[load->count * 99 / 100];
  return r;
}

/* ---- a member: it keeps the number of bytes it was given */

static int apply(void *user, const void *op, size_t op_len, blx_output *answer) {
  uint64_t *sum = user;
  (void)op;
  *sum += op_len;
  return blx_output_add(answer, sum, sizeof *sum);
}

static int snapshot(void *user, blx_output *out) {
  return blx_output_add(out, user, sizeof(uint64_t));
}

static int restore(void *user, const void *bytes, size_t len) {
  if (len != sizeof(uint64_t)) return BLX_E_CORRUPT;
  memcpy(user, bytes, len);
  return 0;
}

static blx_consensus *member_open(const char *dir, uint64_t uid, unsigned members) {
  static uint64_t sum;
  static char paths[MEMBERS][PATH_BYTES + 32];
  char own[PATH_BYTES + 32];
  struct blx_consensus_address addresses[MEMBERS];
  const struct blx_consensus_address *all[MEMBERS];
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  for (unsigned i = 0; i < members; i++) {
    (void)blx__str_format(paths[i], sizeof paths[i], "%s/%u/peer.sock", dir, i + 1);
    addresses[i] = (struct blx_consensus_address){sizeof addresses[i], i + 1, paths[i]};
    all[i] = &addresses[i];
  }
  (void)blx__str_format(own, sizeof own, "%s/%llu", dir, (unsigned long long)uid);
  fsm.user = &sum;
  fsm.apply = apply;
  fsm.snapshot = snapshot;
  fsm.restore = restore;
  o.dir = own;
  o.uid = uid;
  o.fsm = &fsm;
  o.addresses = all;
  o.n_addresses = members;
  blx_consensus *c = NULL;
  blx_error err = {0};
  int rc = uid == 1 ? blx_consensus_bootstrap(&o, &err) : 0;
  if (rc == 0 || rc == BLX_E_EXISTS) rc = blx_consensus_open(&o, &c, &err);
  need(rc == 0, err.message);
  return c;
}

static void op_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t answer_len) {
  (void)index;
  (void)answer;
  (void)answer_len;
  if (err) fprintf(stderr, "bench: %s\n", err->message);
  slot_done(user, err == NULL);
}

static bool member_submit(void *target, enum what what, struct slot *slot) {
  static const uint8_t op[OP_BYTES] = {1};
  blx_error err = {0};
  int rc = what == READ ? blx_consensus_read_async(target, op_done, slot, &err)
                        : blx_consensus_propose_async(target, op, sizeof op, op_done, slot, &err);
  if (rc != 0) fprintf(stderr, "bench: not taken: %s\n", err.message);
  return rc == 0;
}

/* No child outlives the benchmark, however that ends. */
static pid_t fork_child(void) {
  pid_t pid = fork();
  need(pid >= 0, "no process");
  if (pid == 0) need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "no signal at the parent's death");
  return pid;
}

/* ---- processes: one for each member and its twin of the floor; the first is told what to do */

enum target { FLOOR, RAW, BLIXARD, TARGETS };

struct command {
  enum what what;
  enum target target;
  unsigned outstanding, ms;
};

static void join_others(blx_consensus *c, unsigned members) {
  for (uint64_t uid = 2; uid <= members; uid++) {
    blx_error err = {0};
    uint64_t end = now_ns() + PATIENCE_MS * (uint64_t)1000000;
    while (blx_consensus_add_member(c, uid, &err) != 0) {
      need(now_ns() < end, err.message);
      sleep_ms(20);
    }
  }
}

static void serve(const char *dir, uint64_t uid, unsigned members, int fd) {
  static struct load load = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
  struct floor_member *floor = floor_open(dir, uid, members);
  struct raw_member *raw = raw_open(dir, uid, members);
  blx_consensus *c = member_open(dir, uid, members);
  void *const targets[TARGETS] = {floor, raw, c};
  bool (*const submits[TARGETS])(void *, enum what, struct slot *) = {floor_submit, raw_submit, member_submit};
  struct command command;
  struct result r = {0};
  load.samples_us = malloc(SAMPLES_MAX * sizeof load.samples_us[0]);
  need(load.samples_us != NULL, "out of memory");
  if (uid == 1) {
    while (blx_consensus_read(c, NULL, NULL, NULL) != 0) sleep_ms(10);
    join_others(c, members);
    while (!raw_leads(raw)) sleep_ms(10);
    need(write(fd, &r, sizeof r) == sizeof r, "the parent is gone");
  }
  while (read(fd, &command, sizeof command) == sizeof command) {
    load.what = command.what;
    load.submit = submits[command.target];
    load.target = targets[command.target];
    r = load_run(&load, command.outstanding, command.ms);
    need(write(fd, &r, sizeof r) == sizeof r, "the parent is gone");
  }
  blx_consensus_close(c);
  _exit(0); /* the other two's threads end with it */
}

struct group {
  pid_t pids[MEMBERS];
  int fds[MEMBERS];
  unsigned members;
};

static struct group group_start(const char *dir, unsigned members) {
  struct group g = {.members = members};
  for (unsigned i = 0; i < members; i++) {
    int pair[2];
    need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "no socket pair");
    g.pids[i] = fork_child();
    if (g.pids[i] == 0) {
      for (unsigned k = 0; k < i; k++) close(g.fds[k]); /* else a sibling would hold them open */
      close(pair[0]);
      serve(dir, i + 1, members, pair[1]);
    }
    close(pair[1]);
    g.fds[i] = pair[0];
  }
  struct result r;
  need(read(g.fds[0], &r, sizeof r) == sizeof r, "the first member did not come up");
  return g;
}

static void group_stop(struct group *g) {
  for (unsigned i = 0; i < g->members; i++) close(g->fds[i]);
  for (unsigned i = 0; i < g->members; i++) (void)waitpid(g->pids[i], NULL, 0);
}

/* ---- the table */

static int by_rate(const void *a, const void *b) {
  double x = ((const struct result *)a)->per_second, y = ((const struct result *)b)->per_second;
  return (x > y) - (x < y);
}

static void turn(struct group *g, struct result *r, enum target target, enum what what, unsigned n) {
  struct command command = {.what = what, .target = target, .outstanding = n, .ms = TURN_MS};
  need(write(g->fds[0], &command, sizeof command) == sizeof command, "the first member is gone");
  need(read(g->fds[0], r, sizeof *r) == sizeof *r, "the first member is gone");
  need(!r->failed, "operations failed: was leadership lost?");
}

/* In turns, so that whatever else the machine does meets all of them. */
static void measure(struct group *g, unsigned n) {
  struct result floor[TURNS], raw[TURNS], writes[TURNS], reads[TURNS];
  for (unsigned i = 0; i < TURNS; i++) {
    turn(g, &floor[i], FLOOR, WRITE, n);
    turn(g, &raw[i], RAW, WRITE, n);
    turn(g, &writes[i], BLIXARD, WRITE, n);
    turn(g, &reads[i], BLIXARD, READ, n);
  }
  qsort(floor, TURNS, sizeof floor[0], by_rate);
  qsort(raw, TURNS, sizeof raw[0], by_rate);
  qsort(writes, TURNS, sizeof writes[0], by_rate);
  qsort(reads, TURNS, sizeof reads[0], by_rate);
  const struct result *f = &floor[TURNS / 2], *l = &raw[TURNS / 2], *w = &writes[TURNS / 2], *r = &reads[TURNS / 2];
  printf("%7u %11u %9.0f %7u %7u %9.0f %7u %7u %9.0f %7u %7u %6.0f %% %6.2f %6.0f %% %6.2f %9.0f %6.1f\n", g->members,
         n, f->per_second, f->p50_us, f->p99_us, l->per_second, l->p50_us, l->p99_us, w->per_second, w->p50_us,
         w->p99_us, 100 * w->per_second / f->per_second, (double)w->p50_us / f->p50_us,
         100 * w->per_second / l->per_second, (double)w->p50_us / l->p50_us, r->per_second,
         r->per_second / w->per_second);
  (void)fflush(stdout);
}

/* ---- loss of the leader */

struct told {
  uint64_t uid, ns;
  bool written; /* else: it is up and knows the leader */
};

static void write_for_ever(const char *dir, uint64_t uid, int fd) {
  static const uint8_t op[OP_BYTES] = {1};
  blx_consensus *c = member_open(dir, uid, MEMBERS);
  struct told told = {.uid = uid};
  while (blx_consensus_leader(c) == 0) sleep_ms(5);
  need(write(fd, &told, sizeof told) == sizeof told, "the parent is gone");
  for (;;) {
    told.written = blx_consensus_propose(c, op, sizeof op, NULL, NULL) == 0;
    told.ns = now_ns();
    if (told.written && write(fd, &told, sizeof told) != sizeof told) _exit(0);
    sleep_ms(1);
  }
}

static pid_t writer_start(const char *dir, uint64_t uid, const int pipe_fds[2]) {
  pid_t pid = fork_child();
  if (pid == 0) {
    close(pipe_fds[0]);
    write_for_ever(dir, uid, pipe_fds[1]);
  }
  return pid;
}

static struct told hear(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  struct told told = {0};
  need(poll(&p, 1, PATIENCE_MS) == 1 && read(fd, &told, sizeof told) == sizeof told, "no member writes");
  return told;
}

static void losses(const char *dir) {
  pid_t pids[MEMBERS];
  uint32_t took_ms[LOSSES];
  int fds[2];
  need(pipe(fds) == 0, "no pipe");
  for (unsigned i = 0; i < MEMBERS; i++) pids[i] = writer_start(dir, i + 1, fds);
  for (unsigned up = 0; up < MEMBERS;) up += !hear(fds[0]).written;
  for (unsigned i = 0; i < LOSSES; i++) {
    uint64_t settled = now_ns() + 1000000000u;
    struct told told = hear(fds[0]);
    while (!told.written || told.ns < settled) told = hear(fds[0]);
    uint64_t leader = told.uid, killed = now_ns();
    kill(pids[leader - 1], SIGKILL);
    while (!told.written || told.uid == leader) told = hear(fds[0]);
    took_ms[i] = (uint32_t)((told.ns - killed) / 1000000);
    (void)waitpid(pids[leader - 1], NULL, 0);
    pids[leader - 1] = writer_start(dir, leader, fds);
    while (told.written) told = hear(fds[0]);
  }
  for (unsigned i = 0; i < MEMBERS; i++) {
    kill(pids[i], SIGKILL);
    (void)waitpid(pids[i], NULL, 0);
  }
  qsort(took_ms, LOSSES, sizeof took_ms[0], by_value);
  printf("\nloss of the leader (kill -9) to the next write answered, %d times, heartbeat 200 ms, election 2000 ms:\n"
         "p50 %u ms, p99 %u ms, shortest %u ms\n",
         LOSSES, took_ms[LOSSES / 2], took_ms[LOSSES - 1], took_ms[0]);
}

static void print_load(void) {
  double load[3] = {0};
  if (getloadavg(load, 3) == 3)
    printf("load of the machine: %.1f %.1f %.1f, %ld processors\n", load[0], load[1], load[2],
           sysconf(_SC_NPROCESSORS_ONLN));
}

static void print_head(void) {
  printf("operations of %d bytes; times in us; the median of %d turns of %d ms\n", OP_BYTES, TURNS, TURN_MS);
  printf("%7s %11s %25s %25s %25s %8s %6s %8s %6s %9s %6s\n", "", "", "floor ---------------", "raw libraft ---------",
         "writes --------------", "of the", "p50 /", "of", "p50 /", "reads", "reads/");
  printf("%7s %11s %9s %7s %7s %9s %7s %7s %9s %7s %7s %8s %6s %8s %6s %9s %6s\n", "members", "outstanding", "/s",
         "p50", "p99", "/s", "p50", "p99", "/s", "p50", "p99", "floor", "floor", "raw", "raw", "/s", "writes");
}

/* @only: one number of outstanding operations, for a profiler; 0: all, and the losses. */
static void run(const char *base, unsigned members, unsigned only) {
  char dir[PATH_BYTES];
  (void)blx__str_format(dir, sizeof dir, "%s/%u", base, members);
  need(mkdir(dir, 0700) == 0, "the directory is not empty");
  struct group g = group_start(dir, members);
  for (size_t i = 0; i < BLX__COUNT(outstanding); i++)
    if (only == 0 || only == outstanding[i]) measure(&g, outstanding[i]);
  group_stop(&g);
  if (members == MEMBERS && only == 0) losses(dir);
}

int main(int argc, char **argv) {
  uint64_t only = 0, members = MEMBERS;
  bool ok = argc >= 2 && argc <= 4 && (argc < 3 || blx__parse_u64(argv[2], 1, OUTSTANDING_MAX, &only)) &&
            (argc < 4 || blx__parse_u64(argv[3], 1, MEMBERS, &members));
  if (!ok || strlen(argv[1]) >= PATH_BYTES - 16) {
    fprintf(stderr, "usage: consensus EMPTY_DIR [1|16|256|1024 [1|3]]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  print_load();
  print_head();
  if (only == 0) run(argv[1], 1, 0);
  run(argv[1], (unsigned)members, (unsigned)only);
  print_load();
  return 0;
}
