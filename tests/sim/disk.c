/* struct raft_io of a simulated member: what libraft wants written goes to the files of store.h, on the twin's disk.
 * The log's writes are done one after the other, each told when it is synced; a member's own snapshot is written
 * beside. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static struct sim_node *node_of(struct raft_io *io) {
  return io->impl;
}

static void *must(void *p) {
  BLX__ASSERT(p != NULL);
  return p;
}

static int status_of(blx__rc rc) {
  return rc.code == 0 ? 0 : rc.code == BLX_E_NOSPACE ? RAFT_NOSPACE : RAFT_IOERR;
}

/* The next write or sync of this disk fails as libraft's @status says. */
static void disk_fail(struct sim_node *n, enum blx__sim_disk_act act, int status) {
  blx__sim_disk_fail(&n->disk, act, status == RAFT_NOSPACE ? BLX_E_NOSPACE : BLX_E_IO);
}

/* ---- writes under way: each is a few steps, with syncs between them */

static void fifo_next(struct sim_node *n);
static void op_advance(struct sim_op *op);

static struct sim_op *op_new(struct sim_node *n, enum sim_op_kind kind) {
  struct sim_op *op = must(calloc(1, sizeof *op));
  op->n = n;
  op->kind = kind;
  blx__list_init(&op->link);
  blx__buf_init(&op->bytes, BLX__SIM_FILE_BYTES_MAX);
  return op;
}

static void op_free(struct sim_op *op) {
  blx__buf_free(&op->bytes);
  free(op);
}

static void op_tell(struct sim_op *op, int status) {
  if (op->append) op->append_cb(op->append, status);
  if (op->put) op->put_cb(op->put, status);
}

/* libraft may ask for more inside of op_tell. */
static void op_done(struct sim_op *op, int status) {
  struct sim_node *n = op->n;
  if (op == n->own_snapshot) {
    n->own_snapshot = NULL;
  } else {
    blx__list_remove(&op->link);
    n->fifo_count--;
    n->writing = false;
    if (status != 0) n->broken = status;
  }
  op_tell(op, status);
  op_free(op);
  fifo_next(n);
}

static void on_failed(void *arg, uint64_t a, uint64_t b) {
  struct sim_op *op = arg;
  (void)a;
  (void)b;
  op_done(op, op->status);
}

static void on_synced(void *arg, blx__rc rc) {
  struct sim_op *op = arg;
  if (rc.code != 0 && op->status == 0) op->status = status_of(rc);
  if (--op->syncs > 0) return;
  if (op->status != 0)
    op_done(op, op->status);
  else
    op_advance(op);
}

/* @name NULL: the names. */
static void op_sync(struct sim_op *op, const char *name) {
  op->syncs++;
  blx__sim_disk_sync(&op->n->disk, name, on_synced, op);
}

static blx__rc step_append(struct sim_op *op, bool *done) {
  struct store *st = &op->n->store;
  char name[BLX__SIM_NAME_MAX + 1];
  bool made = false;
  if (op->step++ == 0) {
    const struct blx__slice bytes = {.data = op->bytes.data, .len = op->bytes.len};
    BLX__TRY(store_append(st, bytes, op->index, op->count, name, &made));
    op_sync(op, name);
    if (made) op_sync(op, NULL);
    return BLX__OK;
  }
  *done = true;
  return store_mark(st, op->index + op->count - 1);
}

static blx__rc step_truncate(struct sim_op *op, bool *done) {
  struct store *st = &op->n->store;
  char name[BLX__SIM_NAME_MAX + 1] = "";
  bool any = false;
  switch (op->step++) {
  case 0:
    if (op->index <= st->marked_index) BLX__TRY(store_mark(st, op->index - 1));
    BLX__TRY(store_remove_from(st, op->index, &any));
    if (any) op_sync(op, NULL);
    break;
  case 1:
    BLX__TRY(store_cut(st, op->index, name));
    if (name[0]) op_sync(op, name);
    break;
  default: *done = true; break;
  }
  return BLX__OK;
}

static blx__rc step_snapshot(struct sim_op *op, bool *done) {
  struct store *st = &op->n->store;
  bool replaces = op->trailing == 0;
  op->snapshot.data = (struct blx__slice){.data = op->bytes.data, .len = op->bytes.len};
  switch (op->step++) {
  case 0:
    BLX__TRY(store_snapshot_write(st, &op->snapshot, replaces));
    op_sync(op, store_snapshot_new);
    break;
  case 1:
    BLX__TRY(store_snapshot_rename(st));
    op_sync(op, NULL);
    break;
  default: *done = true; return store_snapshot_done(st, &op->snapshot, replaces, op->trailing);
  }
  return BLX__OK;
}

static blx__rc op_step(struct sim_op *op, bool *done) {
  switch (op->kind) {
  case SIM_OP_APPEND: return step_append(op, done);
  case SIM_OP_TRUNCATE: return step_truncate(op, done);
  case SIM_OP_SNAPSHOT: return step_snapshot(op, done);
  }
  return BLX__OK;
}

/* What fails is told later, as everything is. */
static void op_advance(struct sim_op *op) {
  struct sim_node *n = op->n;
  bool done = false;
  op->status = op == n->own_snapshot ? 0 : n->broken;
  while (op->status == 0 && op->syncs == 0 && !done) op->status = status_of(op_step(op, &done));
  if (op->status != 0 && op->syncs == 0)
    node_after(n, blx__sim_rng_in(&n->w->sim.rng, n->disk.min_us, n->disk.max_us), on_failed, op);
  else if (done)
    op_done(op, 0);
}

/* The script's failures are of this write, at its first step: half of them when it is written, half when it is synced.
 */
static void op_begin(struct sim_op *op) {
  struct sim_node *n = op->n;
  int *next = op->kind == SIM_OP_APPEND ? &n->fail_next_append : op->kind == SIM_OP_SNAPSHOT ? &n->fail_next_put : NULL;
  if (next && *next && !n->broken) {
    bool writing = blx__sim_rng_chance(&n->w->sim.rng, 50);
    disk_fail(n, writing ? BLX__SIM_DISK_WRITE : BLX__SIM_DISK_SYNC, *next);
    *next = 0;
  }
  op_advance(op);
}

static void fifo_next(struct sim_node *n) {
  struct blx__list *first = blx__list_first(&n->fifo);
  if (!first || n->writing) return;
  n->writing = true;
  op_begin(BLX__CONTAINER(first, struct sim_op, link));
}

static void op_queue(struct sim_node *n, struct sim_op *op) {
  BLX__ASSERT(n->fifo_count < SIM_FIFO_MAX);
  blx__list_push(&n->fifo, &op->link);
  n->fifo_count++;
  unsigned appends = 0;
  BLX__LIST_FOREACH (it, &n->fifo) {
    if (BLX__CONTAINER(it, struct sim_op, link)->kind == SIM_OP_APPEND) appends++;
  }
  if (appends > n->appends_max_seen) n->appends_max_seen = appends;
  fifo_next(n);
}

void sim_disk_release(struct sim_node *n) {
  blx__sim_disk_release(&n->disk);
}

void sim_disk_crash(struct sim_node *n) {
  uint64_t torn = n->disk.torn_count;
  blx__sim_disk_crash(&n->disk);
  if (n->disk.torn_count > torn) world_sometimes(n->w, BLX__SOMETIMES_TORN);
}

/* ---- struct raft_io */

static int io_init(struct raft_io *io, raft_id id, const char *address) {
  (void)io;
  (void)id;
  (void)address;
  return 0;
}

/* NULL: there is none, or its head is damaged. */
static struct raft_snapshot *load_snapshot(const struct store *st) {
  struct store_snapshot s;
  if (!store_snapshot_read(st, &s)) return NULL;
  struct raft_snapshot *out = must(raft_calloc(1, sizeof *out));
  out->index = s.index;
  out->term = s.term;
  out->configuration_index = s.conf_index;
  raft_configuration_init(&out->configuration);
  for (uint64_t i = 0; i < s.members_count; i++) {
    char address[24];
    (void)blx__str_format(address, sizeof address, "n%llu", (unsigned long long)s.members[i].uid);
    int rv = raft_configuration_add(&out->configuration, s.members[i].uid, address, (int)s.members[i].role);
    BLX__ASSERT(rv == 0);
  }
  out->bufs = must(raft_calloc(1, sizeof *out->bufs));
  out->n_bufs = 1;
  out->bufs[0] = (struct raft_buffer){.base = must(raft_malloc(s.data.len)), .len = s.data.len};
  memcpy(out->bufs[0].base, s.data.data, s.data.len);
  return out;
}

struct get {
  struct blx__list link;
  struct raft_io_snapshot_get *req;
  raft_io_snapshot_get_cb cb;
};

static void get_tell(struct sim_node *n, struct get *g, int status) {
  blx__list_remove(&g->link);
  struct raft_snapshot *snapshot = status == 0 ? load_snapshot(&n->store) : NULL;
  if (status == 0 && !snapshot) status = RAFT_NOTFOUND;
  g->cb(g->req, snapshot, status);
  free(g);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb) {
  struct sim_node *n = node_of(io);
  blx__sim_disk_forget(&n->disk);
  for (struct blx__list *it; (it = blx__list_first(&n->fifo)) != NULL;) {
    struct sim_op *op = BLX__CONTAINER(it, struct sim_op, link);
    blx__list_remove(it);
    n->fifo_count--;
    op_tell(op, RAFT_CANCELED);
    op_free(op);
  }
  struct sim_op *own = n->own_snapshot;
  n->own_snapshot = NULL;
  if (own) {
    op_tell(own, RAFT_CANCELED);
    op_free(own);
  }
  for (struct blx__list *it; (it = blx__list_first(&n->gets)) != NULL;)
    get_tell(n, BLX__CONTAINER(it, struct get, link), RAFT_CANCELED);
  cb(io);
  cb(io); /* as raft_uv does */
}

/* One allocation under all of them, as raft_uv does it: libraft frees a batch, not entries. */
struct loading {
  struct raft_entry *entries;
  size_t count, bytes;
  uint8_t *batch, *at;
};

static void count_entry(void *arg, struct store_record *r) {
  struct loading *l = arg;
  l->count++;
  l->bytes += r->len;
}

static void load_entry(void *arg, struct store_record *r) {
  struct loading *l = arg;
  l->entries[l->count++] = (struct raft_entry){
      .term = r->term, .type = (unsigned short)r->type, .buf = {.base = l->at, .len = r->len}, .batch = l->batch};
  if (r->len) memcpy(l->at, r->data, r->len);
  l->at += r->len;
}

static struct raft_entry *load_entries(const struct store *st, size_t *count) {
  struct loading l = {0};
  store_each(st, count_entry, &l);
  *count = l.count;
  if (l.count == 0) return NULL;
  l.entries = must(raft_calloc(l.count, sizeof *l.entries));
  l.at = l.batch = must(raft_malloc(l.bytes));
  l.count = 0;
  store_each(st, load_entry, &l);
  return l.entries;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                   raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct sim_node *n = node_of(io);
  int status = n->fail_next_load;
  n->fail_next_load = 0;
  if (status != 0) return status;
  const char *why = store_load(&n->store);
  if (why) {
    (void)blx__str_copy(io->errmsg, sizeof io->errmsg, why);
    return RAFT_CORRUPT;
  }
  *term = n->store.term;
  *voted_for = n->store.vote;
  *start_index = n->store.start;
  *snapshot = load_snapshot(&n->store);
  *entries = load_entries(&n->store, n_entries);
  n->next_index = store_last(&n->store) + 1;
  return 0;
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

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf) {
  (void)io;
  (void)conf;
  return RAFT_CANTBOOTSTRAP; /* sim_disk_bootstrap does it */
}

static int io_set_term(struct raft_io *io, raft_term term) {
  return status_of(store_set_meta(&node_of(io)->store, term, 0));
}

static int io_set_vote(struct raft_io *io, raft_id id) {
  struct sim_node *n = node_of(io);
  if (n->fail_next_vote) disk_fail(n, BLX__SIM_DISK_WRITE, n->fail_next_vote);
  n->fail_next_vote = 0;
  return status_of(store_set_meta(&n->store, n->store.term, id));
}

static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned count,
                     raft_io_append_cb cb) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_APPEND);
  op->index = n->next_index;
  op->count = count;
  for (unsigned i = 0; i < count; i++) {
    const struct store_record r = {.index = n->next_index++,
                                   .term = entries[i].term,
                                   .type = entries[i].type,
                                   .len = entries[i].buf.len,
                                   .data = entries[i].buf.base};
    store_encode(&op->bytes, &r);
  }
  op->append = req;
  op->append_cb = cb;
  op_queue(n, op);
  return 0;
}

static int io_truncate(struct raft_io *io, raft_index index) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_TRUNCATE);
  op->index = index;
  n->next_index = index;
  op_queue(n, op);
  return 0;
}

static void copy_snapshot(struct sim_op *op, const struct raft_snapshot *s) {
  struct store_snapshot *out = &op->snapshot;
  *out = (struct store_snapshot){.index = s->index, .term = s->term, .conf_index = s->configuration_index};
  BLX__ASSERT(s->configuration.n <= STORE_MEMBERS_MAX);
  for (unsigned i = 0; i < s->configuration.n; i++) {
    out->members[i].uid = s->configuration.servers[i].id;
    out->members[i].role = (uint64_t)s->configuration.servers[i].role;
  }
  out->members_count = s->configuration.n;
  bool fits = true;
  for (unsigned i = 0; i < s->n_bufs; i++) fits = fits && blx__buf_add(&op->bytes, s->bufs[i].base, s->bufs[i].len);
  BLX__ASSERT(fits);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_SNAPSHOT);
  op->trailing = trailing;
  op->put = req;
  op->put_cb = cb;
  copy_snapshot(op, snapshot);
  BLX__ASSERT(n->own_snapshot == NULL);
  if (trailing == 0) {
    n->next_index = snapshot->index + 1;
    op_queue(n, op);
    return 0;
  }
  n->own_snapshot = op;
  op_begin(op);
  return 0;
}

static void on_get(void *arg, uint64_t a, uint64_t b) {
  struct sim_node *n = arg;
  (void)a;
  (void)b;
  struct blx__list *first = blx__list_first(&n->gets);
  if (first) get_tell(n, BLX__CONTAINER(first, struct get, link), 0);
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb) {
  struct sim_node *n = node_of(io);
  struct get *g = must(calloc(1, sizeof *g));
  g->req = req;
  g->cb = cb;
  blx__list_push(&n->gets, &g->link);
  node_after(n, blx__sim_rng_in(&n->w->sim.rng, n->disk.min_us, n->disk.max_us), on_get, n);
  return 0;
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
  blx__list_init(&n->fifo);
  blx__list_init(&n->gets);
  blx__sim_disk_start(&n->disk);
  n->fifo_count = 0;
  n->writing = false;
  n->broken = 0;
  n->own_snapshot = NULL;
  n->io = (struct raft_io){.version = 1,
                           .impl = n,
                           .init = io_init,
                           .close = io_close,
                           .load = io_load,
                           .start = io_start,
                           .bootstrap = io_bootstrap,
                           .set_term = io_set_term,
                           .set_vote = io_set_vote,
                           .append = io_append,
                           .truncate = io_truncate,
                           .snapshot_put = io_snapshot_put,
                           .snapshot_get = io_snapshot_get,
                           .time = io_time,
                           .random = io_random};
}

static void succeeds(blx__rc rc) {
  BLX__ASSERT(rc.code == 0);
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
  struct raft_buffer buf;
  int rv = raft_configuration_encode(&conf, &buf);
  BLX__ASSERT(rv == 0);
  struct blx__buf bytes;
  blx__buf_init(&bytes, BLX__SIM_FILE_BYTES_MAX);
  store_encode(&bytes,
               &(struct store_record){.index = 1, .term = 1, .type = RAFT_CHANGE, .len = buf.len, .data = buf.base});
  raft_free(buf.base);
  raft_configuration_close(&conf);
  const char *why = store_load(&n->store);
  BLX__ASSERT(!why);
  char name[BLX__SIM_NAME_MAX + 1];
  bool made = false;
  succeeds(store_set_meta(&n->store, 1, 0));
  succeeds(store_append(&n->store, (struct blx__slice){bytes.data, bytes.len}, 1, 1, name, &made));
  succeeds(blx__sim_disk_sync_now(&n->disk, name));
  succeeds(blx__sim_disk_sync_now(&n->disk, NULL));
  succeeds(store_mark(&n->store, 1));
  blx__buf_free(&bytes);
}

uint64_t sim_disk_snapshot_index(const struct sim_node *n) {
  return n->store.snapshot_index;
}

void sim_disk_free(struct sim_node *n) {
  store_free(&n->store);
  blx__sim_disk_free(&n->disk);
}
