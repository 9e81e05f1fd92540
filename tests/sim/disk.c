/* The simulated disk and clock: struct raft_io over an image in memory. Writes are done in order, each after a random
 * time; a crash loses those under way, except for a random prefix that had reached the disk unacknowledged. */
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

static void *copy_of(const void *data, size_t len) {
  return memcpy(must(malloc(len ? len : 1)), data, len);
}

static void entry_free(struct sim_entry *e) {
  free(e->data);
}

static void snapshot_free(struct sim_snapshot *s) {
  free(s->data);
  *s = (struct sim_snapshot){0};
}

static void op_free(struct sim_op *op) {
  for (size_t i = 0; i < op->count; i++) entry_free(&op->entries[i]);
  free(op->entries);
  snapshot_free(&op->snapshot);
  free(op);
}

/* ---- the image */

static void image_push(struct sim_image *d, struct sim_entry *e) {
  if (d->count == d->cap) {
    d->cap = d->cap ? d->cap * 2 : 64;
    d->entries = must(realloc(d->entries, d->cap * sizeof *d->entries));
  }
  d->entries[d->count++] = *e;
  e->data = NULL;
}

static void image_truncate(struct sim_image *d, uint64_t index) {
  while (d->count > 0 && d->start_index + d->count > index) entry_free(&d->entries[--d->count]);
}

static void image_drop_prefix(struct sim_image *d, uint64_t last) {
  size_t n = last >= d->start_index ? (size_t)(last - d->start_index + 1) : 0;
  if (n > d->count) n = d->count;
  for (size_t i = 0; i < n; i++) entry_free(&d->entries[i]);
  memmove(d->entries, d->entries + n, (d->count - n) * sizeof *d->entries);
  d->count -= n;
  d->start_index += n;
}

static void image_take_snapshot(struct sim_image *d, struct sim_op *op) {
  snapshot_free(&d->snapshot);
  d->snapshot = op->snapshot;
  op->snapshot = (struct sim_snapshot){0};
  uint64_t index = d->snapshot.index;
  if (op->trailing == 0) {
    image_truncate(d, 0);
    d->start_index = index + 1;
  } else if (index > op->trailing) {
    image_drop_prefix(d, index - op->trailing);
  }
}

/* @entries_max: how many of an append reach the disk. */
static void image_do(struct sim_image *d, struct sim_op *op, size_t entries_max) {
  switch (op->kind) {
  case SIM_OP_APPEND:
    for (size_t i = 0; i < op->count && i < entries_max; i++) image_push(d, &op->entries[i]);
    break;
  case SIM_OP_TRUNCATE: image_truncate(d, op->index); break;
  case SIM_OP_SNAPSHOT: image_take_snapshot(d, op); break;
  }
}

/* ---- writes under way */

static void op_tell(struct sim_op *op, int status) {
  if (op->append) op->append_cb(op->append, status);
  if (op->put) op->put_cb(op->put, status);
}

static void step_later(struct sim_node *n);

static void on_step(struct world *w, struct sim_event *e) {
  (void)w;
  struct sim_node *n = e->node;
  n->stepping = false;
  struct blx__list *first = blx__list_first(&n->fifo);
  if (!first || n->disk_held) return;
  struct sim_op *op = BLX__CONTAINER(first, struct sim_op, link);
  blx__list_remove(first);
  n->fifo_count--;
  if (op->kind == SIM_OP_APPEND && n->fail_next_append) {
    n->broken = n->fail_next_append;
    n->fail_next_append = 0;
  }
  int status = n->broken;
  if (status == 0) {
    image_do(&n->disk, op, SIZE_MAX);
  }
  op_tell(op, status);
  op_free(op);
  step_later(n);
}

static void step_later(struct sim_node *n) {
  if (n->stepping || n->disk_held || blx__list_empty(&n->fifo)) return;
  n->stepping = true;
  world_after(n->w, sim_rng_in(&n->w->rng, n->disk_min_us, n->disk_max_us), n, on_step, NULL, 0, 0);
}

static struct sim_op *op_new(struct sim_node *n, enum sim_op_kind kind) {
  struct sim_op *op = must(calloc(1, sizeof *op));
  op->kind = kind;
  blx__list_init(&op->link);
  BLX__ASSERT(n->fifo_count < SIM_FIFO_MAX);
  return op;
}

static void op_queue(struct sim_node *n, struct sim_op *op) {
  blx__list_push(&n->fifo, &op->link);
  n->fifo_count++;
  unsigned appends = 0;
  BLX__LIST_FOREACH (it, &n->fifo) {
    if (BLX__CONTAINER(it, struct sim_op, link)->kind == SIM_OP_APPEND) appends++;
  }
  if (appends > n->appends_max_seen) n->appends_max_seen = appends;
  step_later(n);
}

void sim_disk_release(struct sim_node *n) {
  step_later(n);
}

void sim_disk_crash(struct sim_node *n) {
  struct sim_rng *r = &n->w->rng;
  if (n->broken) return;
  for (struct blx__list *it = n->fifo.next; it != &n->fifo && sim_rng_chance(r, 50); it = it->next) {
    struct sim_op *op = BLX__CONTAINER(it, struct sim_op, link);
    size_t part = (size_t)sim_rng_in(r, 0, op->count);
    bool whole = part == op->count;
    image_do(&n->disk, op, part);
    if (!whole && part > 0) world_sometimes(n->w, BLX__SOMETIMES_TORN);
    if (!whole) break;
  }
  if (n->own_snapshot && sim_rng_chance(r, 50)) image_do(&n->disk, n->own_snapshot, 0);
}

/* ---- struct raft_io */

static int io_init(struct raft_io *io, raft_id id, const char *address) {
  (void)io;
  (void)id;
  (void)address;
  return 0;
}

static struct raft_snapshot *load_snapshot(const struct sim_snapshot *s) {
  struct raft_snapshot *out = must(raft_calloc(1, sizeof *out));
  out->index = s->index;
  out->term = s->term;
  out->configuration_index = s->conf_index;
  raft_configuration_init(&out->configuration);
  for (uint32_t i = 0; i < s->members_count; i++) {
    char address[24];
    (void)blx__str_format(address, sizeof address, "n%llu", (unsigned long long)s->members[i].uid);
    int rv = raft_configuration_add(&out->configuration, s->members[i].uid, address, s->members[i].role);
    BLX__ASSERT(rv == 0);
  }
  out->bufs = must(raft_calloc(1, sizeof *out->bufs));
  out->n_bufs = 1;
  out->bufs[0] = (struct raft_buffer){.base = must(raft_malloc(s->len)), .len = s->len};
  memcpy(out->bufs[0].base, s->data, s->len);
  return out;
}

struct get {
  struct blx__list link;
  struct raft_io_snapshot_get *req;
  raft_io_snapshot_get_cb cb;
};

static void get_tell(struct sim_node *n, struct get *g, int status) {
  blx__list_remove(&g->link);
  if (status == 0 && !n->disk.snapshot.present) status = RAFT_NOTFOUND;
  g->cb(g->req, status == 0 ? load_snapshot(&n->disk.snapshot) : NULL, status);
  free(g);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb) {
  struct sim_node *n = node_of(io);
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
static struct raft_entry *load_entries(const struct sim_image *d) {
  struct raft_entry *out = must(raft_calloc(d->count, sizeof *out));
  size_t total = 0;
  for (size_t i = 0; i < d->count; i++) total += d->entries[i].len;
  uint8_t *batch = must(raft_malloc(total)), *at = batch;
  for (size_t i = 0; i < d->count; i++) {
    const struct sim_entry *e = &d->entries[i];
    out[i] = (struct raft_entry){.term = e->term, .type = e->type, .buf = {.base = at, .len = e->len}, .batch = batch};
    memcpy(at, e->data, e->len);
    at += e->len;
  }
  return out;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                   raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct sim_node *n = node_of(io);
  struct sim_image *d = &n->disk;
  int status = n->fail_next_load;
  n->fail_next_load = 0;
  if (status != 0) return status;
  /* As raft_uv: a log that ends before its snapshot is of no use. */
  if (d->snapshot.present && d->start_index + d->count <= d->snapshot.index) {
    image_truncate(d, 0);
    d->start_index = d->snapshot.index + 1;
  }
  *term = d->term;
  *voted_for = d->vote;
  *start_index = d->start_index;
  *snapshot = d->snapshot.present ? load_snapshot(&d->snapshot) : NULL;
  *n_entries = d->count;
  *entries = NULL;
  if (d->count == 0) return 0;
  *entries = load_entries(d);
  return 0;
}

static void on_tick(struct world *w, struct sim_event *e) {
  struct sim_node *n = e->node;
  uint64_t jitter_us = sim_rng_in(&w->rng, 0, n->tick_ms * 100);
  uint64_t rate = n->clock_rate_ppm ? n->clock_rate_ppm : 1000000;
  world_after(w, (n->tick_ms * 950 + jitter_us) * 1000000 / rate, n, on_tick, NULL, 0, 0);
  if (!n->ticks_held) n->tick(&n->io);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct sim_node *n = node_of(io);
  (void)recv;
  n->tick = tick;
  n->tick_ms = msecs;
  world_after(n->w, sim_rng_in(&n->w->rng, 0, n->tick_ms * 1000), n, on_tick, NULL, 0, 0);
  return 0;
}

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf) {
  (void)io;
  (void)conf;
  return RAFT_CANTBOOTSTRAP; /* sim_disk_bootstrap does it */
}

static int io_set_term(struct raft_io *io, raft_term term) {
  struct sim_node *n = node_of(io);
  n->disk.term = term;
  n->disk.vote = 0;
  return 0;
}

static int io_set_vote(struct raft_io *io, raft_id id) {
  struct sim_node *n = node_of(io);
  int status = n->fail_next_vote;
  n->fail_next_vote = 0;
  if (status == 0) n->disk.vote = id;
  return status;
}

static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned count,
                     raft_io_append_cb cb) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_APPEND);
  op->entries = must(calloc(count, sizeof *op->entries));
  op->count = count;
  for (unsigned i = 0; i < count; i++)
    op->entries[i] = (struct sim_entry){.term = entries[i].term,
                                        .type = entries[i].type,
                                        .len = entries[i].buf.len,
                                        .data = copy_of(entries[i].buf.base, entries[i].buf.len)};
  op->append = req;
  op->append_cb = cb;
  op_queue(n, op);
  return 0;
}

static int io_truncate(struct raft_io *io, raft_index index) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_TRUNCATE);
  op->index = index;
  op_queue(n, op);
  return 0;
}

static void copy_snapshot(struct sim_snapshot *out, const struct raft_snapshot *s) {
  *out =
      (struct sim_snapshot){.present = true, .index = s->index, .term = s->term, .conf_index = s->configuration_index};
  BLX__ASSERT(s->configuration.n <= SIM_NODES_MAX);
  for (unsigned i = 0; i < s->configuration.n; i++) {
    out->members[i].uid = s->configuration.servers[i].id;
    out->members[i].role = s->configuration.servers[i].role;
  }
  out->members_count = s->configuration.n;
  for (unsigned i = 0; i < s->n_bufs; i++) out->len += s->bufs[i].len;
  out->data = must(malloc(out->len));
  size_t at = 0;
  for (unsigned i = 0; i < s->n_bufs; i++) {
    memcpy(out->data + at, s->bufs[i].base, s->bufs[i].len);
    at += s->bufs[i].len;
  }
}

static void on_own_snapshot(struct world *w, struct sim_event *e) {
  (void)w;
  struct sim_node *n = e->node;
  struct sim_op *op = n->own_snapshot;
  if (!op) return;
  n->own_snapshot = NULL;
  int status = n->fail_next_put;
  n->fail_next_put = 0;
  if (status == 0) image_do(&n->disk, op, 0);
  op_tell(op, status);
  op_free(op);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
  struct sim_node *n = node_of(io);
  struct sim_op *op = op_new(n, SIM_OP_SNAPSHOT);
  op->trailing = trailing;
  op->put = req;
  op->put_cb = cb;
  copy_snapshot(&op->snapshot, snapshot);
  if (trailing == 0) {
    op_queue(n, op);
    return 0;
  }
  BLX__ASSERT(n->own_snapshot == NULL);
  n->own_snapshot = op;
  world_after(n->w, 5 * sim_rng_in(&n->w->rng, n->disk_min_us, n->disk_max_us), n, on_own_snapshot, NULL, 0, 0);
  return 0;
}

static void on_get(struct world *w, struct sim_event *e) {
  (void)w;
  struct blx__list *first = blx__list_first(&e->node->gets);
  if (first) get_tell(e->node, BLX__CONTAINER(first, struct get, link), 0);
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb) {
  struct sim_node *n = node_of(io);
  struct get *g = must(calloc(1, sizeof *g));
  g->req = req;
  g->cb = cb;
  blx__list_push(&n->gets, &g->link);
  world_after(n->w, sim_rng_in(&n->w->rng, n->disk_min_us, n->disk_max_us), n, on_get, NULL, 0, 0);
  return 0;
}

static raft_time io_time(struct raft_io *io) {
  return node_clock_us(node_of(io)) / 1000;
}

static int io_random(struct raft_io *io, int min, int max) {
  return (int)sim_rng_in(&node_of(io)->w->rng, (uint64_t)min, (uint64_t)max - 1);
}

void sim_disk_init(struct sim_node *n) {
  blx__list_init(&n->fifo);
  blx__list_init(&n->gets);
  if (n->disk.start_index == 0) n->disk.start_index = 1;
  n->fifo_count = 0;
  n->stepping = false;
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
  struct sim_entry e = {.term = 1, .type = RAFT_CHANGE, .len = buf.len, .data = copy_of(buf.base, buf.len)};
  raft_free(buf.base);
  raft_configuration_close(&conf);
  n->disk.term = 1;
  n->disk.start_index = 1;
  image_push(&n->disk, &e);
}

void sim_disk_free(struct sim_node *n) {
  image_truncate(&n->disk, 0);
  free(n->disk.entries);
  snapshot_free(&n->disk.snapshot);
  n->disk = (struct sim_image){0};
}
