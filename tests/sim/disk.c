/* A simulated member's disk and clock: the library's own log (lib/consensus/logio.c) over the twin's files. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT_BYTES = 8192 };

static struct sim_node *node_of(struct raft_io *io) {
  return BLX__CONTAINER(io, struct sim_node, io);
}

static void succeeds(blx__rc rc) {
  BLX__ASSERT(rc.code == 0);
}

/* The next write or sync of this disk fails as libraft's @status says. */
static void disk_fail(struct sim_node *n, enum blx__sim_disk_act act, int status) {
  blx__sim_disk_fail(&n->disk, act, status == RAFT_NOSPACE ? BLX_E_NOSPACE : BLX_E_IO);
}

/* The script's failures are of this write, at its first step: half of them when it is written, half when it is synced.
 */
static void on_begin(void *user, enum logio_kind kind) {
  struct sim_node *n = user;
  int *next = kind == LOGIO_APPEND ? &n->fail_next_append : kind == LOGIO_SNAPSHOT ? &n->fail_next_put : NULL;
  if (!next || !*next) return;
  bool writing = blx__sim_rng_chance(&n->w->sim.rng, 50);
  disk_fail(n, writing ? BLX__SIM_DISK_WRITE : BLX__SIM_DISK_SYNC, *next);
  *next = 0;
}

void sim_disk_release(struct sim_node *n) {
  blx__sim_disk_release(&n->disk);
}

void sim_disk_crash(struct sim_node *n) {
  uint64_t torn = n->disk.torn_count;
  blx__sim_disk_crash(&n->disk);
  if (n->disk.torn_count > torn) world_sometimes(n->w, BLX__SOMETIMES_TORN);
}

/* ---- struct raft_io, where a script may interfere */

static void on_closed(struct raft_io *io) {
  struct sim_node *n = node_of(io);
  n->close_cb(io);
  n->close_cb(io); /* as libraft's own disk does it: R17 */
}

static void io_close(struct raft_io *io, raft_io_close_cb cb) {
  struct sim_node *n = node_of(io);
  n->close_cb = cb;
  n->real.close(io, on_closed);
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                   raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct sim_node *n = node_of(io);
  int status = n->fail_next_load;
  n->fail_next_load = 0;
  return status ? status : n->real.load(io, term, voted_for, snapshot, start_index, entries, n_entries);
}

static void on_tick(void *arg, uint64_t a, uint64_t b) {
  struct sim_node *n = arg;
  (void)a;
  (void)b;
  struct blx__sim *s = &n->w->sim;
  uint64_t jitter_us = blx__sim_rng_in(&s->rng, 0, n->tick_ms * 100);
  node_after(n, blx__sim_true_us(s, (unsigned)n->uid, n->tick_ms * 950 + jitter_us), on_tick, n);
  if (!n->ticks_held) n->tick(&n->io);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct sim_node *n = node_of(io);
  (void)recv;
  n->tick = tick;
  n->tick_ms = msecs;
  node_after(n, blx__sim_rng_in(&n->w->sim.rng, 0, n->tick_ms * 1000), on_tick, n);
  return 0;
}

static int io_set_vote(struct raft_io *io, raft_id id) {
  struct sim_node *n = node_of(io);
  if (n->fail_next_vote) disk_fail(n, BLX__SIM_DISK_WRITE, n->fail_next_vote);
  n->fail_next_vote = 0;
  return n->real.set_vote(io, id);
}

static raft_time io_time(struct raft_io *io) {
  struct sim_node *n = node_of(io);
  return blx__sim_clock_us(&n->w->sim, (unsigned)n->uid) / 1000;
}

static int io_random(struct raft_io *io, int min, int max) {
  return (int)blx__sim_rng_in(&node_of(io)->w->sim.rng, (uint64_t)min, (uint64_t)max - 1);
}

/* ---- a member's disk as the world sees it */

void sim_disk_init(struct sim_node *n) {
  blx__sim_disk_start(&n->disk);
  logio_free(&n->logio);
  logio_init(&n->logio, &n->io, blx__sim_disk_table(&n->disk), SEGMENT_BYTES);
  n->logio.before = on_begin;
  n->logio.user = n;
  n->logio.unmarked = n->w->o.rules_off & BLX__RULE_R13_MARK;
  n->real = n->io;
  n->io.close = io_close;
  n->io.load = io_load;
  n->io.start = io_start;
  n->io.set_vote = io_set_vote;
  n->io.time = io_time;
  n->io.random = io_random;
}

void sim_disk_bootstrap(struct sim_node *n, unsigned members) {
  struct raft_configuration conf;
  raft_configuration_init(&conf);
  for (unsigned i = 0; i < members; i++) {
    char address[24];
    (void)blx__str_format(address, sizeof address, "n%u", i + 1);
    int rv = raft_configuration_add(&conf, i + 1, address, RAFT_VOTER);
    BLX__ASSERT(rv == 0);
  }
  sim_disk_init(n);
  int rv = logio_bootstrap(&n->logio, &conf);
  BLX__ASSERT(rv == 0);
  raft_configuration_close(&conf);
}

uint64_t sim_disk_snapshot_index(const struct sim_node *n) {
  return n->logio.store.snapshot_index;
}

void sim_disk_free(struct sim_node *n) {
  logio_free(&n->logio);
  blx__sim_disk_free(&n->disk);
}

/* ---- what is on it, looked at or damaged from outside while the member is down */

static struct blx__slice file_of(const struct blx__sim_disk *d, const char *name) {
  struct blx__slice s = {0};
  return blx__sim_disk_read(d, name, &s).code == 0 ? s : (struct blx__slice){0};
}

bool sim_disk_snapshot(const struct blx__sim_disk *d, struct store_snapshot *out, size_t *len) {
  return store_snapshot_parse(file_of(d, store_snapshot_name), out, len);
}

/* On a copy: a disk does not notice what is changed behind its back. */
static void edit_segment(struct blx__sim_disk *d, const char *name, uint64_t first, sim_edit_fn *edit, void *arg) {
  struct blx__slice file = file_of(d, name);
  uint8_t *copy = malloc(file.len);
  BLX__ASSERT(copy != NULL);
  memcpy(copy, file.data, file.len);
  struct store_record r;
  size_t at = 0, end = 0;
  const struct blx__slice whole = {.data = copy, .len = file.len};
  for (uint64_t index = first; store_record_at(whole, at, index, &r, &end); index++, at = end) {
    uint8_t *data = copy + (r.data - copy);
    edit(arg, &r, data);
    store_seal(data - STORE_RECORD_HEAD_BYTES);
  }
  succeeds(blx__sim_disk_write(d, name, 0, whole));
  succeeds(blx__sim_disk_sync_now(d, name));
  free(copy);
}

void sim_disk_edit(struct blx__sim_disk *d, sim_edit_fn *edit, void *arg) {
  const struct blx__disk table = blx__sim_disk_table(d);
  struct store st;
  store_init(&st, &table, SEGMENT_BYTES);
  blx__sim_disk_start(d);
  const char *why = store_load(&st, NULL, NULL);
  BLX__ASSERT(!why);
  for (size_t i = 0; i < st.segments_count; i++) {
    char name[BLX__DISK_NAME_MAX + 1];
    store_segment_name(&st, st.segments[i].first, name);
    edit_segment(d, name, st.segments[i].first, edit, arg);
  }
  store_free(&st);
}

/* How many bytes of a segment are below the mark. */
static size_t marked_bytes(const struct store *st, const struct store_segment *s) {
  if (st->marked_generation != st->generation || s->first > st->marked_index) return 0;
  return s->next <= st->marked_index + 1 ? s->bytes : s->ends[st->marked_index - s->first];
}

/* @d is not touched: what a start would find there is looked for on a copy of it. */
bool sim_disk_spot(struct blx__sim_disk *d, struct blx__sim_rng *r, char name[BLX__DISK_NAME_MAX + 1], size_t *offset) {
  const struct blx__disk table = blx__sim_disk_table(d);
  struct store st;
  size_t len = 0;
  store_init(&st, &table, SEGMENT_BYTES);
  if (store_look(&st, NULL, NULL) == NULL) {
    uint64_t kind = blx__sim_rng_in(r, 0, 5);
    if (kind == 0 && st.meta_version > 0 && st.meta_version == st.marked_meta) {
      (void)blx__str_format(name, BLX__DISK_NAME_MAX + 1, "meta-%u", st.meta_version % 2 ? 2 : 1);
      len = file_of(d, name).len;
    } else if (kind <= 2 && st.snapshot_index > 0) {
      (void)blx__str_copy(name, BLX__DISK_NAME_MAX + 1, store_snapshot_name);
      len = file_of(d, name).len;
    } else if (st.segments_count > 0) {
      const struct store_segment *s = &st.segments[blx__sim_rng_in(r, 0, st.segments_count - 1)];
      store_segment_name(&st, s->first, name);
      len = marked_bytes(&st, s);
    }
  }
  store_free(&st);
  if (len > 0) *offset = (size_t)blx__sim_rng_in(r, 0, len - 1);
  return len > 0;
}
