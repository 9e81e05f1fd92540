/* How long the member's thread is kept from its work while a state machine of 100 MiB is snapshotted under load. The
 * state is blocks that are copied when written while they are frozen; a probe asks the leader's thread for its status
 * every millisecond: it answers between two pieces of work, so what it takes is what anybody waits. The system tells
 * how much of that the thread stood ready and had no processor: there are more busy threads here than processors. On a
 * virtual machine it also tells whether its host held processors back in that time. */
#include <blixard/consensus.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  BLOCK_BYTES = 16 << 10,
  BLOCKS = 6400, /* 100 MiB */
  OP_BYTES = 256,
  OUTSTANDING = 256,
  MEMBERS_MAX = 3,
  RUN_SECONDS = 20,
  SNAPSHOTS_MIN = 3,
  PATH_BYTES = 256,
};

struct block {
  unsigned refs; /* the member's thread only */
  struct block *next_unused;
  uint8_t bytes[BLOCK_BYTES];
};

struct machine {
  struct block *blocks[BLOCKS];
  struct block *unused; /* memory that was written once: the system does not have to find it again */
  atomic_bool freezing, writing;
  atomic_uint snapshots;
  uint64_t freeze_us_max;
};

struct frozen {
  struct machine *machine;
  struct block *blocks[BLOCKS];
};

static struct machine machines[MEMBERS_MAX];
static blx_consensus *members[MEMBERS_MAX];
static atomic_bool stopping;
static atomic_int leader_tid;
static atomic_uint active;
static atomic_ullong answered;

static uint64_t now_us(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void need(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "bench: %s\n", what);
  _exit(1);
}

/* ---- the state machine */

static struct block *block_new(struct machine *m, const struct block *from) {
  struct block *b = m->unused;
  if (b)
    m->unused = b->next_unused;
  else
    b = malloc(sizeof *b);
  need(b != NULL, "out of memory");
  if (from)
    memcpy(b->bytes, from->bytes, sizeof b->bytes);
  else
    memset(b->bytes, 1, sizeof b->bytes);
  b->refs = 1;
  return b;
}

static void block_unref(struct machine *m, struct block *b) {
  if (--b->refs > 0) return;
  b->next_unused = m->unused;
  m->unused = b;
}

static void machine_free(struct machine *m) {
  for (unsigned i = 0; i < BLOCKS; i++) block_unref(m, m->blocks[i]);
  for (struct block *b; (b = m->unused) != NULL;) {
    m->unused = b->next_unused;
    free(b);
  }
}

static int apply(void *user, const void *op, size_t op_len, blx_output *answer) {
  struct machine *m = user;
  uint64_t at;
  (void)answer;
  memcpy(&at, op, sizeof at);
  struct block **b = &m->blocks[at % BLOCKS];
  if ((*b)->refs > 1) {
    struct block *copy = block_new(m, *b);
    block_unref(m, *b);
    *b = copy;
  }
  memcpy((*b)->bytes + at / BLOCKS % (BLOCK_BYTES - OP_BYTES), op, op_len);
  return 0;
}

static int freeze(void *user, void **out) {
  struct machine *m = user;
  struct frozen *z = malloc(sizeof *z);
  uint64_t began = now_us();
  need(z != NULL, "out of memory");
  z->machine = m;
  memcpy(z->blocks, m->blocks, sizeof z->blocks);
  for (unsigned i = 0; i < BLOCKS; i++) z->blocks[i]->refs++;
  m->writing = true;
  uint64_t took = now_us() - began;
  if (took > m->freeze_us_max) m->freeze_us_max = took;
  *out = z;
  return 0;
}

static int write_frozen(void *frozen, blx_output *out) {
  const struct frozen *z = frozen;
  int rc = 0;
  for (unsigned i = 0; rc == 0 && i < BLOCKS; i++) rc = blx_output_add(out, z->blocks[i]->bytes, BLOCK_BYTES);
  return rc;
}

static void thaw(void *user, void *frozen) {
  struct machine *m = user;
  struct frozen *z = frozen;
  for (unsigned i = 0; i < BLOCKS; i++) block_unref(m, z->blocks[i]);
  free(z);
  m->writing = false;
  m->snapshots++;
}

static int restore(void *user, const void *bytes, size_t len) {
  struct machine *m = user;
  if (len != (size_t)BLOCKS * BLOCK_BYTES) return BLX_E_CORRUPT;
  for (unsigned i = 0; i < BLOCKS; i++)
    memcpy(m->blocks[i]->bytes, (const uint8_t *)bytes + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
  return 0;
}

/* ---- load */

static void submit(uint64_t seed);

static void on_done(void *user, const blx_error *err, uint64_t index, const void *answer, size_t answer_len) {
  uint64_t seed = (uint64_t)(uintptr_t)user;
  (void)index;
  (void)answer;
  (void)answer_len;
  if (err) fprintf(stderr, "bench: %s\n", err->message);
  if (answered++ == 0) leader_tid = gettid();
  if (stopping || err)
    active--;
  else
    submit(seed * 6364136223846793005u + 1442695040888963407u);
}

static void submit(uint64_t seed) {
  uint64_t op[OP_BYTES / sizeof(uint64_t)] = {seed >> 8, seed};
  blx_error err = {0};
  int rc = blx_consensus_propose_async(members[0], op, sizeof op, on_done, (void *)(uintptr_t)seed, &err);
  need(rc == 0, err.message);
}

/* ---- the probe */

struct seen {
  const char *when;
  uint64_t longest_us, longest_ran_us, over_1ms, over_10ms, over_10ms_held, probes;
};

/* @ready_us: of @us the leader's thread or the probe's was ready and had no processor. @held: the host took one. */
static void note(struct seen *s, uint64_t us, uint64_t ready_us, bool held) {
  uint64_t ran_us = us > ready_us ? us - ready_us : 0;
  s->probes++;
  s->over_1ms += us > 1000;
  s->over_10ms += us > 10000;
  s->over_10ms_held += us > 10000 && held;
  if (us > s->longest_us) s->longest_us = us;
  if (ran_us > s->longest_ran_us) s->longest_ran_us = ran_us;
}

/* How long the thread was ready without a processor, in all. The second number of the file, in nanoseconds. */
static uint64_t ready_us(int schedstat) {
  char text[128];
  unsigned long long ran = 0, ready = 0;
  ssize_t n = pread(schedstat, text, sizeof text - 1, 0);
  need(n > 0, "the system does not tell how long a thread waits for a processor");
  text[n] = '\0';
  need(sscanf(text, "%llu %llu", &ran, &ready) == 2, "schedstat is not as expected");
  return ready / 1000;
}

/* In ticks of 10 ms, of all processors. The eighth number of the file's first line. */
static uint64_t held_back(int stat) {
  char text[256];
  unsigned long long ticks = 0;
  ssize_t n = pread(stat, text, sizeof text - 1, 0);
  need(n > 0, "the system does not tell what its host took");
  text[n] = '\0';
  need(sscanf(text, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks) == 1, "/proc/stat is not as expected");
  return ticks;
}

static int open_schedstat(int tid) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", tid);
  return open(path, O_RDONLY | O_CLOEXEC);
}

static bool any_writes(unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (machines[i].writing) return true;
  return false;
}

static uint64_t probe(uint64_t *snapshot_index) {
  struct blx_consensus_status *s = NULL;
  uint64_t began = now_us();
  need(blx_consensus_status_get(members[0], &s, NULL) == 0, "no status");
  uint64_t took = now_us() - began;
  *snapshot_index = s->snapshot_index;
  blx_consensus_status_free(s);
  return took;
}

static void watch(unsigned n, struct seen seen[2]) {
  uint64_t end = now_us() + (uint64_t)RUN_SECONDS * 1000000, index = 0;
  while (leader_tid == 0) (void)usleep(1000);
  int leader = open_schedstat(leader_tid), own = open_schedstat(gettid());
  int stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
  while (now_us() < end || machines[0].snapshots < SNAPSHOTS_MIN) {
    const struct timespec pause = {.tv_nsec = 1000000};
    bool before = any_writes(n);
    uint64_t held = held_back(stat), ready = ready_us(leader) + ready_us(own), took = probe(&index);
    ready = ready_us(leader) + ready_us(own) - ready;
    note(&seen[before || any_writes(n)], took, ready, held_back(stat) != held);
    (void)nanosleep(&pause, NULL);
  }
  (void)close(leader);
  (void)close(own);
  (void)close(stat);
}

/* ---- one row */

static void open_member(const char *dir, unsigned i, unsigned n) {
  static char paths[MEMBERS_MAX][PATH_BYTES];
  struct blx_consensus_address addresses[MEMBERS_MAX];
  const struct blx_consensus_address *all[MEMBERS_MAX];
  struct blx_consensus_fsm fsm = BLX_CONSENSUS_FSM_INIT;
  struct blx_consensus_options o = BLX_CONSENSUS_OPTIONS_INIT;
  char own[PATH_BYTES];
  blx_error err = {0};
  for (unsigned k = 0; k < n; k++) {
    (void)snprintf(paths[k], sizeof paths[k], "%s/%u/peer.sock", dir, k + 1);
    addresses[k] = (struct blx_consensus_address){sizeof addresses[k], k + 1, paths[k]};
    all[k] = &addresses[k];
  }
  (void)snprintf(own, sizeof own, "%s/%u", dir, i + 1);
  for (unsigned b = 0; b < BLOCKS; b++) machines[i].blocks[b] = block_new(&machines[i], NULL);
  fsm.user = &machines[i];
  fsm.apply = apply;
  fsm.restore = restore;
  fsm.freeze = freeze;
  fsm.write = write_frozen;
  fsm.thaw = thaw;
  o.dir = own;
  o.uid = i + 1;
  o.fsm = &fsm;
  o.addresses = all;
  o.n_addresses = n;
  int rc = i == 0 ? blx_consensus_bootstrap(&o, &err) : 0;
  if (rc == 0) rc = blx_consensus_open(&o, &members[i], &err);
  need(rc == 0, err.message);
}

static void row(const char *base, unsigned n) {
  struct seen seen[2] = {{.when = "no snapshot"}, {.when = "while one is written"}};
  char dir[PATH_BYTES / 2];
  (void)snprintf(dir, sizeof dir, "%s/snapshot%u", base, n);
  need(mkdir(dir, 0700) == 0, "the directory is not empty");
  for (unsigned i = 0; i < n; i++) open_member(dir, i, n);
  while (blx_consensus_read(members[0], NULL, NULL, NULL) != 0) (void)usleep(10000);
  for (unsigned i = 1; i < n; i++)
    while (blx_consensus_add_member(members[0], i + 1, NULL) != 0) (void)usleep(10000);
  stopping = false;
  answered = 0;
  leader_tid = 0;
  active = OUTSTANDING;
  uint64_t began = now_us();
  for (unsigned i = 0; i < OUTSTANDING; i++) submit(i + 1);
  watch(n, seen);
  stopping = true;
  while (active > 0) (void)usleep(1000);
  double seconds = (double)(now_us() - began) / 1e6;
  for (unsigned i = 0; i < 2; i++)
    printf("%7u %9u %9.0f  %-21s %8llu %9llu %10llu %10llu %10.1f %10.1f\n", n, machines[0].snapshots,
           (double)answered / seconds, seen[i].when, (unsigned long long)seen[i].probes,
           (unsigned long long)seen[i].over_1ms, (unsigned long long)seen[i].over_10ms,
           (unsigned long long)seen[i].over_10ms_held, (double)seen[i].longest_us / 1000,
           (double)seen[i].longest_ran_us / 1000);
  printf("%7s the freeze itself took at most %.2f ms\n", "", (double)machines[0].freeze_us_max / 1000);
  (void)fflush(stdout);
  for (unsigned i = 0; i < n; i++) blx_consensus_close(members[i]);
  for (unsigned i = 0; i < n; i++) machine_free(&machines[i]);
  memset(machines, 0, sizeof machines);
}

int main(int argc, char **argv) {
  if (argc != 2 || strlen(argv[1]) > PATH_BYTES / 4) {
    fprintf(stderr, "usage: snapshot EMPTY_DIR\n");
    return 2;
  }
  printf("a state of %d MiB, snapshotted under %d outstanding operations of %d bytes; how long the leader's thread is "
         "busy at a stretch,\nand how long without the time in which it, or who asks it, was ready and had no "
         "processor;\nby host: of those over 10 ms, in which the host of this machine held processors back\n",
         BLOCKS * (BLOCK_BYTES >> 10) >> 10, OUTSTANDING, OP_BYTES);
  printf("%7s %9s %9s  %-21s %8s %9s %10s %10s %10s %10s\n", "members", "snapshots", "ops/s", "", "probes", "over 1 ms",
         "over 10 ms", "by host", "longest ms", "without");
  row(argv[1], 1);
  row(argv[1], MEMBERS_MAX);
  return 0;
}
