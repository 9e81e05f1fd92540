#include "consensus/logio_int.h"

#include "consensus/consensus_int.h"

#include <stdlib.h>
#include <string.h>

enum { LOADED_BATCH_BYTES = 1 << 20, KEPT_BYTES_MAX = 256 << 10 };

struct logio_op {
  struct blx__list link;
  struct logio *l;
  enum logio_kind kind;
  unsigned step, waits;  /* done, under way */
  int status;            /* of libraft; what failed */
  struct blx__buf bytes; /* records */
  uint64_t index, count; /* of the first record, or to truncate from; of records */
  unsigned trailing;
  struct store_snapshot snapshot;
  struct store_snapshot_head head;
  struct blx__slice *parts; /* of the snapshot, the head last */
  size_t n_parts;
  unsigned spared; /* segments that were dropped, see store_spare_keep() */
  struct raft_io_append *append;
  raft_io_append_cb append_cb;
  struct raft_io_snapshot_put *put;
  raft_io_snapshot_put_cb put_cb;
};

struct get {
  struct blx__list link;
  struct logio *l;
  struct raft_io_snapshot_get *req;
  raft_io_snapshot_get_cb cb;
};

static struct logio *of(struct raft_io *io) {
  return io->impl;
}

static int status_of(blx__rc rc) {
  return rc.code == 0                 ? 0
         : rc.code == BLX_E_NOSPACE   ? RAFT_NOSPACE
         : rc.code == BLX_E_NOMEM     ? RAFT_NOMEM
         : rc.code == BLX_E_NOT_FOUND ? RAFT_NOTFOUND
                                      : RAFT_IOERR;
}

/* ---- writes under way */

static void queue_next(struct logio *l);
static void op_advance(struct logio_op *op);

static struct logio_op *op_new(struct logio *l, enum logio_kind kind) {
  struct logio_op *op = calloc(1, sizeof *op);
  if (!op) return NULL;
  op->l = l;
  op->kind = kind;
  blx__list_init(&op->link);
  op->bytes = l->kept;
  blx__buf_init(&l->kept, LOGIO_BATCH_BYTES_MAX);
  return op;
}

static void op_free(struct logio_op *op) {
  struct logio *l = op->l;
  bool keeps = l->kept.cap == 0 && op->bytes.cap <= KEPT_BYTES_MAX;
  blx__buf_clear(&op->bytes);
  if (keeps)
    l->kept = op->bytes;
  else
    blx__buf_free(&op->bytes);
  free(op->parts);
  free(op);
}

static void op_tell(struct logio_op *op, int status) {
  if (op->append) op->append_cb(op->append, status);
  if (op->put) op->put_cb(op->put, status);
}

static void op_leave(struct logio_op *op) {
  struct logio *l = op->l;
  if (op == l->own_snapshot) {
    l->own_snapshot = NULL;
    return;
  }
  blx__list_remove(&op->link);
  l->queue_count--;
  l->appends_count -= op->kind == LOGIO_APPEND;
}

static void on_spare(void *arg, blx__rc rc) {
  struct logio *l = arg;
  const struct store *st = &l->store;
  if (rc.code != 0 && st->segments_count) l->no_spare_for = st->segments[st->segments_count - 1].first;
  l->store.spares[0] = rc.code == 0 ? STORE_SPARE_READY : STORE_SPARE_NONE; /* without one a segment takes longer */
}

/* When the segment is half full and there is no next one yet, it is begun, so that nobody waits for it. */
static void spare_begin(struct logio *l) {
  static const uint8_t zeros[SPARE_PART_BYTES];
  struct store *st = &l->store;
  const struct store_segment *s = st->segments_count ? &st->segments[st->segments_count - 1] : NULL;
  bool none = store_spare(st, STORE_SPARE_READY) + store_spare(st, STORE_SPARE_COMING) == 2 * STORE_SPARES_MAX;
  if (!none || l->close_cb || !s || s->first == l->no_spare_for || s->bytes < s->room / 2) return;
  size_t n = 0;
  for (uint32_t left = st->segment_bytes; left > 0 && n < SPARE_PARTS_MAX; n++) {
    size_t len = left < sizeof zeros ? left : sizeof zeros;
    l->spare_parts[n] = (struct blx__slice){.data = zeros, .len = len};
    left -= (uint32_t)len;
  }
  st->spares[0] = STORE_SPARE_COMING;
  l->disk.ops->put(l->disk.self, store_spare_names[0], l->spare_parts, n, on_spare, l);
}

/* libraft may ask for more inside of op_tell. */
static void op_done(struct logio_op *op, int status) {
  struct logio *l = op->l;
  if (op != l->own_snapshot) {
    l->writing = false;
    if (status != 0) l->broken = status;
    if (status == 0 && op->kind == LOGIO_APPEND) {
      l->acked_index = op->index + op->count - 1;
      spare_begin(l);
    }
  }
  op_leave(op);
  op_tell(op, status);
  op_free(op);
  queue_next(l);
}

static void on_waited(void *arg, blx__rc rc) {
  struct logio_op *op = arg;
  if (rc.code != 0 && op->status == 0) op->status = status_of(rc);
  if (--op->waits > 0) return;
  if (op->status != 0)
    op_done(op, op->status);
  else
    op_advance(op);
}

/* @name NULL: the names. */
static void op_sync(struct logio_op *op, const char *name) {
  op->waits++;
  op->l->disk.ops->sync(op->l->disk.self, name, on_waited, op);
}

static blx__rc step_append(struct logio_op *op, bool *done) {
  char name[BLX__DISK_NAME_MAX + 1];
  bool made = false;
  *done = op->step++ > 0;
  if (*done) return BLX__OK;
  const struct blx__slice bytes = {.data = op->bytes.data, .len = op->bytes.len};
  BLX__TRY(store_append(&op->l->store, bytes, op->index, op->count, name, &made));
  op_sync(op, name);
  if (made) op_sync(op, NULL);
  return BLX__OK;
}

static blx__rc step_truncate(struct logio_op *op, bool *done) {
  struct logio *l = op->l;
  char name[BLX__DISK_NAME_MAX + 1] = "";
  bool any = false;
  switch (op->step++) {
  case 0:
    if (l->acked_index >= op->index) l->acked_index = op->index - 1;
    if (op->index <= l->store.marked_index) BLX__TRY(store_mark(&l->store, op->index - 1));
    BLX__TRY(store_remove_from(&l->store, op->index, &any));
    if (any) op_sync(op, NULL);
    break;
  case 1:
    BLX__TRY(store_cut(&l->store, op->index, name));
    if (name[0]) op_sync(op, name);
    break;
  default: *done = true; break;
  }
  return BLX__OK;
}

static blx__rc step_snapshot(struct logio_op *op, bool *done) {
  struct logio *l = op->l;
  bool replaces = op->trailing == 0;
  uint64_t len = 0;
  switch (op->step++) {
  case 0:
    for (size_t i = 0; i + 1 < op->n_parts; i++) len += op->parts[i].len;
    store_snapshot_make(&l->store, &op->snapshot, len, replaces, &op->head);
    op->waits++;
    l->disk.ops->put(l->disk.self, store_snapshot_new, op->parts, op->n_parts, on_waited, op);
    break;
  case 1:
    BLX__TRY(store_snapshot_rename(&l->store));
    op_sync(op, NULL);
    break;
  case 2:
    if (replaces) l->acked_index = op->snapshot.index;
    BLX__TRY(store_snapshot_done(&l->store, &op->snapshot, replaces, op->trailing, &op->spared));
    if (op->spared) op_sync(op, NULL);
    break;
  default:
    *done = true;
    store_spares_ready(&l->store, op->spared);
    break;
  }
  return BLX__OK;
}

static blx__rc op_step(struct logio_op *op, bool *done) {
  switch (op->kind) {
  case LOGIO_APPEND: return step_append(op, done);
  case LOGIO_TRUNCATE: return step_truncate(op, done);
  case LOGIO_SNAPSHOT: return step_snapshot(op, done);
  }
  return BLX__OK;
}

/* What fails at once is told later, as everything is: behind a sync that is for nothing else. */
static void op_advance(struct logio_op *op) {
  struct logio *l = op->l;
  bool done = false;
  op->status = op == l->own_snapshot ? 0 : l->broken;
  while (op->status == 0 && op->waits == 0 && !done) op->status = status_of(op_step(op, &done));
  if (op->status != 0 && op->waits == 0)
    op_sync(op, NULL);
  else if (done)
    op_done(op, 0);
}

static void op_begin(struct logio_op *op) {
  struct logio *l = op->l;
  if (l->before && !l->broken) l->before(l->user, op->kind);
  op_advance(op);
}

static void queue_next(struct logio *l) {
  struct blx__list *first = blx__list_first(&l->queue);
  if (!first || l->writing || l->close_cb) return;
  l->writing = true;
  op_begin(BLX__CONTAINER(first, struct logio_op, link));
}

static void op_queue(struct logio *l, struct logio_op *op) {
  blx__list_push(&l->queue, &op->link);
  l->queue_count++;
  l->appends_count += op->kind == LOGIO_APPEND;
  if (l->appends_count > l->appends_max_seen) l->appends_max_seen = l->appends_count;
  queue_next(l);
}

/* ---- the start */

/* libraft frees the memory of entries that were loaded by the batch, and looks through its log for others of the same.
 */
struct loading {
  struct raft_entry *entries;
  size_t count, cap;
  uint8_t *batch; /* of raft_malloc, LOADED_BATCH_BYTES or one larger entry */
  size_t used, room;
  bool failed;
};

static uint8_t *loading_room(struct loading *l, size_t len) {
  if (!l->batch || l->room - l->used < len) {
    l->room = len > LOADED_BATCH_BYTES ? len : LOADED_BATCH_BYTES;
    l->batch = raft_malloc(l->room);
    l->used = 0;
  }
  return l->batch ? l->batch + l->used : NULL;
}

static void load_entry(void *arg, const struct store_record *r) {
  struct loading *l = arg;
  if (l->failed) return;
  if (l->count == l->cap) {
    size_t cap = l->cap ? 2 * l->cap : 256;
    struct raft_entry *more = raft_realloc(l->entries, cap * sizeof *more);
    if (more) l->entries = more;
    if (more) l->cap = cap;
  }
  uint8_t *at = l->count < l->cap ? loading_room(l, r->len) : NULL;
  l->failed = !at;
  if (!at) return;
  if (r->len) memcpy(at, r->data, r->len);
  l->used += (r->len + 7) & ~(size_t)7;
  l->entries[l->count++] = (struct raft_entry){
      .term = r->term, .type = (unsigned short)r->type, .buf = {.base = at, .len = r->len}, .batch = l->batch};
}

static void loading_free(struct loading *l) {
  void *freed = NULL;
  for (size_t i = 0; i < l->count; i++) {
    if (l->entries[i].batch != freed) raft_free(l->entries[i].batch);
    freed = l->entries[i].batch;
  }
  raft_free(l->entries);
}

/* @bytes becomes the snapshot's. NULL: it is damaged, or no memory. */
static struct raft_snapshot *make_snapshot(uint8_t *bytes, size_t len) {
  struct store_snapshot s;
  size_t data = 0;
  if (!store_snapshot_parse((struct blx__slice){bytes, len}, &s, &data)) return NULL;
  struct raft_snapshot *out = raft_calloc(1, sizeof *out);
  struct raft_buffer *one = raft_calloc(1, sizeof *one);
  bool ok = out && one;
  if (ok) {
    *out = (struct raft_snapshot){.index = s.index, .term = s.term, .configuration_index = s.conf_index, .bufs = one};
    out->n_bufs = 1;
    *one = (struct raft_buffer){.base = bytes, .len = data};
    raft_configuration_init(&out->configuration);
  }
  for (uint64_t i = 0; ok && i < s.members_count; i++) {
    char address[ADDRESS_SIZE];
    address_of(s.members[i].uid, address);
    ok = raft_configuration_add(&out->configuration, s.members[i].uid, address, (int)s.members[i].role) == 0;
  }
  if (ok) return out;
  if (out && one) raft_configuration_close(&out->configuration);
  raft_free(out);
  raft_free(one);
  return NULL;
}

static int load_snapshot(struct logio *l, struct raft_snapshot **out) {
  struct blx__buf file;
  *out = NULL;
  if (l->store.snapshot_index == 0) return 0;
  blx__buf_init(&file, SNAPSHOT_BYTES_MAX + sizeof(struct store_snapshot_head));
  blx__rc rc = l->disk.ops->read(l->disk.self, store_snapshot_name, &file);
  if (rc.code == 0) *out = make_snapshot(file.data, file.len);
  if (*out) return 0;
  blx__buf_free(&file);
  return rc.code == 0 ? RAFT_CORRUPT : status_of(rc);
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                   raft_index *start_index, struct raft_entry *entries[], size_t *n_entries) {
  struct logio *l = of(io);
  struct loading found = {0};
  l->store.unmarked = l->unmarked;
  const char *why = store_load(&l->store, load_entry, &found);
  /* A log that ended before its snapshot was given up. */
  bool none = l->store.segments_count == 0;
  int refused = l->store.cleaned.code != 0 ? status_of(l->store.cleaned) : RAFT_CORRUPT;
  int rv = why ? refused : found.failed ? RAFT_NOMEM : load_snapshot(l, snapshot);
  if (why) (void)blx__str_copy(io->errmsg, sizeof io->errmsg, why);
  if (rv != 0 || none) {
    loading_free(&found);
    found = (struct loading){0};
  }
  if (rv != 0) return rv;
  *term = l->store.term;
  *voted_for = l->store.vote;
  *start_index = l->store.start;
  *entries = found.entries;
  *n_entries = found.count;
  l->loaded = true;
  l->acked_index = store_last(&l->store);
  l->next_index = l->acked_index + 1;
  return 0;
}

static int io_init(struct raft_io *io, raft_id id, const char *address) {
  (void)io;
  (void)id;
  (void)address;
  return 0;
}

static int append_record(struct logio_op *op, const struct raft_entry *e, uint64_t index) {
  const struct store_record r = {
      .index = index, .term = e->term, .type = e->type, .batch = op->index, .len = e->buf.len, .data = e->buf.base};
  return store_encode(&op->bytes, &r) ? 0 : RAFT_NOMEM;
}

int logio_bootstrap(struct logio *l, const struct raft_configuration *conf) {
  struct raft_buffer buf;
  if (store_load(&l->store, NULL, NULL) != NULL || store_last(&l->store) != 0) return RAFT_CANTBOOTSTRAP;
  int rv = raft_configuration_encode(conf, &buf);
  struct logio_op *op = rv == 0 ? op_new(l, LOGIO_APPEND) : NULL;
  if (!op) return RAFT_NOMEM;
  char name[BLX__DISK_NAME_MAX + 1];
  bool made = false;
  op->index = 1;
  rv = append_record(op, &(struct raft_entry){.term = 1, .type = RAFT_CHANGE, .buf = buf}, 1);
  raft_free(buf.base);
  blx__rc rc = rv == 0 ? store_set_meta(&l->store, 1, 0) : (blx__rc){BLX_E_NOMEM};
  const struct blx__slice bytes = {.data = op->bytes.data, .len = op->bytes.len};
  if (rc.code == 0) rc = store_append(&l->store, bytes, 1, 1, name, &made);
  if (rc.code == 0) rc = l->disk.ops->sync_now(l->disk.self, name);
  if (rc.code == 0) rc = l->disk.ops->sync_now(l->disk.self, NULL);
  if (rc.code == 0) rc = store_mark(&l->store, 1);
  op_free(op);
  return status_of(rc);
}

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf) {
  return logio_bootstrap(of(io), conf);
}

/* ---- what libraft asks for */

static int io_set_term(struct raft_io *io, raft_term term) {
  return status_of(store_set_meta(&of(io)->store, term, 0));
}

static int io_set_vote(struct raft_io *io, raft_id id) {
  struct logio *l = of(io);
  return status_of(store_set_meta(&l->store, l->store.term, id));
}

static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned count,
                     raft_io_append_cb cb) {
  struct logio *l = of(io);
  struct logio_op *op = l->queue_count < LOGIO_QUEUE_MAX ? op_new(l, LOGIO_APPEND) : NULL;
  if (!op) return l->queue_count < LOGIO_QUEUE_MAX ? RAFT_NOMEM : RAFT_BUSY;
  op->index = l->next_index;
  op->count = count;
  for (unsigned i = 0; i < count; i++) {
    if (append_record(op, &entries[i], op->index + i) == 0) continue;
    op_free(op);
    return RAFT_NOMEM;
  }
  l->next_index += count;
  op->append = req;
  op->append_cb = cb;
  op_queue(l, op);
  return 0;
}

static int io_truncate(struct raft_io *io, raft_index index) {
  struct logio *l = of(io);
  struct logio_op *op = op_new(l, LOGIO_TRUNCATE);
  if (!op) return RAFT_NOMEM;
  op->index = index;
  l->next_index = index;
  op_queue(l, op);
  return 0;
}

static bool describe(struct logio_op *op, const struct raft_snapshot *s) {
  struct store_snapshot *out = &op->snapshot;
  *out = (struct store_snapshot){.index = s->index, .term = s->term, .conf_index = s->configuration_index};
  BLX__ASSERT(s->configuration.n <= STORE_MEMBERS_MAX);
  for (unsigned i = 0; i < s->configuration.n; i++) {
    out->members[i].uid = s->configuration.servers[i].id;
    out->members[i].role = (uint64_t)s->configuration.servers[i].role;
  }
  out->members_count = s->configuration.n;
  op->n_parts = s->n_bufs + 1;
  op->parts = calloc(op->n_parts, sizeof *op->parts);
  if (!op->parts) return false;
  for (unsigned i = 0; i < s->n_bufs; i++)
    op->parts[i] = (struct blx__slice){.data = s->bufs[i].base, .len = s->bufs[i].len};
  op->parts[s->n_bufs] = (struct blx__slice){.data = (const uint8_t *)&op->head, .len = sizeof op->head};
  return true;
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
  struct logio *l = of(io);
  struct logio_op *op = op_new(l, LOGIO_SNAPSHOT);
  BLX__ASSERT(l->own_snapshot == NULL);
  if (!op || !describe(op, snapshot)) {
    if (op) op_free(op);
    return RAFT_NOMEM;
  }
  op->trailing = trailing;
  op->put = req;
  op->put_cb = cb;
  if (trailing == 0) {
    l->next_index = snapshot->index + 1;
    op_queue(l, op);
    return 0;
  }
  l->own_snapshot = op;
  op_begin(op);
  return 0;
}

static void get_tell(struct get *g, int status, uint8_t *bytes, size_t len) {
  struct raft_snapshot *s = status == 0 ? make_snapshot(bytes, len) : NULL;
  if (!s) free(bytes);
  blx__list_remove(&g->link);
  g->cb(g->req, s, status == 0 && !s ? RAFT_CORRUPT : status);
  free(g);
}

static void on_fetched(void *arg, blx__rc rc, uint8_t *bytes, size_t len) {
  get_tell(arg, status_of(rc), bytes, len);
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb) {
  struct logio *l = of(io);
  struct get *g = calloc(1, sizeof *g);
  if (!g) return RAFT_NOMEM;
  *g = (struct get){.l = l, .req = req, .cb = cb};
  blx__list_init(&g->link);
  blx__list_push(&l->gets, &g->link);
  l->disk.ops->fetch(l->disk.self, store_snapshot_name, on_fetched, g);
  return 0;
}

/* ---- the mark */

static void on_marked(void *arg, blx__rc rc) {
  struct logio *l = arg;
  l->marking = false;
  if (rc.code != 0) l->broken = l->broken ? l->broken : status_of(rc);
}

void logio_mark(struct logio *l) {
  struct store *st = &l->store;
  bool same = st->marked_index == l->acked_index && st->marked_generation == st->generation;
  if (l->marking || l->broken || l->close_cb || same) return;
  for (const struct blx__list *it = l->queue.next; it != &l->queue; it = it->next)
    if (BLX__CONTAINER(it, const struct logio_op, link)->kind != LOGIO_APPEND) return; /* they do it themselves */
  if (store_mark_write(st, l->acked_index).code != 0) return;                          /* it is tried again */
  l->marking = true;
  l->disk.ops->sync(l->disk.self, store_mark_name, on_marked, l);
}

/* ---- the end */

static void cancel_all(struct logio *l) {
  for (struct blx__list *it; (it = blx__list_first(&l->queue)) != NULL;) {
    struct logio_op *op = BLX__CONTAINER(it, struct logio_op, link);
    op_leave(op);
    op_tell(op, RAFT_CANCELED);
    op_free(op);
  }
  struct logio_op *own = l->own_snapshot;
  l->own_snapshot = NULL;
  if (own) op_tell(own, RAFT_CANCELED);
  if (own) op_free(own);
  for (struct blx__list *it; (it = blx__list_first(&l->gets)) != NULL;)
    get_tell(BLX__CONTAINER(it, struct get, link), RAFT_CANCELED, NULL, 0);
}

bool logio_closed(struct logio *l) {
  raft_io_close_cb cb = l->close_cb;
  if (!cb || l->disk.ops->busy(l->disk.self)) return !cb;
  cancel_all(l);
  l->close_cb = NULL;
  cb(l->io);
  return true;
}

/* The last mark, when nothing is under way: a disk that hangs must not hold up the close. */
static void settle(struct logio *l) {
  struct store *st = &l->store;
  bool quiet = blx__list_empty(&l->queue) && !l->own_snapshot && !l->marking;
  if (!quiet || l->broken || !l->loaded || st->marked_index == l->acked_index) return;
  blx__rc rc = store_mark(st, l->acked_index);
  (void)rc; /* the older mark is as true */
}

static void io_close(struct raft_io *io, raft_io_close_cb cb) {
  struct logio *l = of(io);
  settle(l);
  l->close_cb = cb;
  l->disk.ops->quit(l->disk.self);
  (void)logio_closed(l);
}

void logio_init(struct logio *l, struct raft_io *io, struct blx__disk disk, uint32_t segment_bytes) {
  *l = (struct logio){.io = io, .disk = disk};
  store_init(&l->store, &l->disk, segment_bytes);
  blx__list_init(&l->queue);
  blx__list_init(&l->gets);
  blx__buf_init(&l->kept, LOGIO_BATCH_BYTES_MAX);
  *io = (struct raft_io){.version = 1,
                         .impl = l,
                         .init = io_init,
                         .close = io_close,
                         .load = io_load,
                         .bootstrap = io_bootstrap,
                         .set_term = io_set_term,
                         .set_vote = io_set_vote,
                         .append = io_append,
                         .truncate = io_truncate,
                         .snapshot_put = io_snapshot_put,
                         .snapshot_get = io_snapshot_get};
}

void logio_free(struct logio *l) {
  blx__buf_free(&l->kept);
  store_free(&l->store);
}
