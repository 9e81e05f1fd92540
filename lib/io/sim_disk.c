#include "io/sim.h"

#include <stdlib.h>
#include <string.h>

enum { SECTOR = BLX__SIM_SECTOR_BYTES };

/* A file, whatever its name is. Bytes of an array behind its length are zero. */
struct bytes {
  uint8_t *data;
  size_t len, cap;
};

struct inode {
  unsigned refs; /* names in either map, renames, syncs */
  struct bytes now, kept;
  struct blx__list changes; /* struct change, unsynced, in order */
};

/* What a write made of the sectors it touched. Applied again later, or to other bytes, it gives the same. */
struct change {
  struct blx__list link;
  uint64_t seq;
  size_t at, len, size; /* bytes from @at on, both whole sectors; the file is @size bytes long then */
  bool resizes, whole;  /* @whole: it happens wholly or not at all */
  uint8_t bytes[];
};

/* @from is taken out, or @inode is new if that is empty; then it is @to, or gone if that is empty. */
struct rename {
  struct blx__list link;
  uint64_t seq;
  struct inode *inode;
  char from[BLX__SIM_NAME_MAX + 1], to[BLX__SIM_NAME_MAX + 1];
};

struct sync {
  struct blx__list link;
  uint64_t id, seq;    /* it covers what came until seq */
  struct inode *inode; /* NULL: the names */
  int code;
  bool due; /* its time came while the disk was held */
  void (*done)(void *arg, blx__rc rc);
  void *arg;
  struct fetch *fetch; /* nothing is synced: it is read */
};

struct fetch {
  struct blx__sim_disk *d;
  char name[BLX__SIM_NAME_MAX + 1];
  blx__disk_bytes_fn *done;
  void *arg;
};

static void *must(void *p) {
  BLX__ASSERT(p != NULL);
  return p;
}

static blx__rc fails(int code) {
  return (blx__rc){.code = code};
}

static size_t down(size_t n) {
  return n / SECTOR * SECTOR;
}

static size_t up(size_t n) {
  return down(n + SECTOR - 1);
}

/* ---- bytes and inodes */

static void bytes_reserve(struct bytes *b, size_t cap) {
  if (cap <= b->cap) return;
  size_t more = 2 * b->cap > cap ? 2 * b->cap : up(cap);
  b->data = must(realloc(b->data, more));
  memset(b->data + b->cap, 0, more - b->cap);
  b->cap = more;
}

static void bytes_resize(struct bytes *b, size_t len) {
  bytes_reserve(b, len);
  if (len < b->len) memset(b->data + len, 0, b->len - len);
  b->len = len;
}

static struct inode *inode_new(void) {
  struct inode *i = must(calloc(1, sizeof *i));
  blx__list_init(&i->changes);
  return i;
}

static struct inode *ref(struct inode *i) {
  i->refs++;
  return i;
}

static void change_free(struct change *c) {
  blx__list_remove(&c->link);
  free(c);
}

static void unref(struct inode *i) {
  if (!i) return;
  BLX__ASSERT(i->refs > 0);
  if (--i->refs > 0) return;
  for (struct blx__list *it; (it = blx__list_first(&i->changes)) != NULL;)
    change_free(BLX__CONTAINER(it, struct change, link));
  free(i->now.data);
  free(i->kept.data);
  free(i);
}

static struct inode *find(const struct blx__sim_disk *d, const char *name) {
  return blx__map_get_str(&d->now, name);
}

/* Remember what the sectors of [@from, @to) are now. */
static void change_add(struct blx__sim_disk *d, struct inode *i, size_t from, size_t to, size_t old_len, bool whole) {
  size_t at = down(from), end = from < to ? up(to) : at;
  bytes_reserve(&i->now, end);
  struct change *c = must(malloc(sizeof *c + (end - at)));
  *c = (struct change){.seq = ++d->seq, .at = at, .len = end - at, .size = i->now.len, .whole = whole};
  c->resizes = i->now.len != old_len;
  if (c->len) memcpy(c->bytes, i->now.data + at, c->len);
  blx__list_push(&i->changes, &c->link);
}

static void change_apply(struct inode *i, const struct change *c) {
  bytes_reserve(&i->kept, c->at + c->len);
  if (c->len) memcpy(i->kept.data + c->at, c->bytes, c->len);
  bytes_resize(&i->kept, c->size);
}

/* Each sector for itself. */
static void change_apply_some(struct blx__sim_disk *d, struct inode *i, const struct change *c) {
  struct blx__sim_rng *r = &d->s->rng;
  if (c->whole) {
    if (blx__sim_rng_chance(r, d->reach_percent)) change_apply(i, c);
    return;
  }
  size_t reached = 0;
  bytes_reserve(&i->kept, c->at + c->len);
  for (size_t k = 0; k < c->len; k += SECTOR) {
    if (!blx__sim_rng_chance(r, d->reach_percent)) continue;
    memcpy(i->kept.data + c->at + k, c->bytes + k, SECTOR);
    reached += SECTOR;
  }
  if (reached > 0 && reached < c->len) d->torn_count++;
  if (c->resizes && blx__sim_rng_chance(r, d->reach_percent)) bytes_resize(&i->kept, c->size);
}

/* Changes up to @seq reach the platter: all of them, or by chance. */
static void changes_settle(struct blx__sim_disk *d, struct inode *i, uint64_t seq, bool all) {
  for (struct blx__list *it; (it = blx__list_first(&i->changes)) != NULL;) {
    struct change *c = BLX__CONTAINER(it, struct change, link);
    if (c->seq > seq) break;
    if (all)
      change_apply(i, c);
    else
      change_apply_some(d, i, c);
    change_free(c);
  }
  /* Sectors that arrived without the length that would show them are lost. */
  if (i->kept.cap > i->kept.len) memset(i->kept.data + i->kept.len, 0, i->kept.cap - i->kept.len);
}

/* ---- names */

static void name_set(struct blx__map *m, const char *name, struct inode *i) {
  void *old = NULL;
  bool kept = blx__map_set_str(m, name, i, &old);
  BLX__ASSERT(kept);
  unref(old);
}

static void rename_apply(struct blx__map *m, const struct rename *r) {
  struct inode *i = r->from[0] ? blx__map_remove_str(m, r->from) : ref(r->inode);
  BLX__ASSERT(i != NULL);
  if (r->to[0])
    name_set(m, r->to, i);
  else
    unref(i);
}

static void rename_free(struct rename *r) {
  blx__list_remove(&r->link);
  unref(r->inode);
  free(r);
}

static void rename_add(struct blx__sim_disk *d, const char *from, const char *to, struct inode *inode) {
  struct rename *r = must(calloc(1, sizeof *r));
  r->seq = ++d->seq;
  r->inode = inode ? ref(inode) : NULL;
  bool fits = blx__str_copy(r->from, sizeof r->from, from) && blx__str_copy(r->to, sizeof r->to, to);
  BLX__ASSERT(fits);
  blx__list_push(&d->renames, &r->link);
  rename_apply(&d->now, r);
}

static void renames_settle(struct blx__sim_disk *d, uint64_t seq, bool all) {
  bool goes_on = true;
  for (struct blx__list *it; (it = blx__list_first(&d->renames)) != NULL;) {
    struct rename *r = BLX__CONTAINER(it, struct rename, link);
    if (r->seq > seq) break;
    goes_on = goes_on && (all || blx__sim_rng_chance(&d->s->rng, d->reach_percent));
    if (goes_on) rename_apply(&d->kept, r);
    rename_free(r);
  }
}

/* ---- what may go wrong */

static int why_not(struct blx__sim_disk *d, enum blx__sim_disk_act act) {
  int code = d->next[act];
  d->next[act] = 0;
  if (d->off) return BLX_E_IO;
  if (code == 0 && d->fail_percent && blx__sim_rng_chance(&d->s->rng, d->fail_percent)) code = BLX_E_IO;
  return code;
}

static bool has_room(const struct blx__sim_disk *d, size_t old_len, size_t len) {
  if (len > BLX__SIM_FILE_BYTES_MAX) return false;
  if (d->size_max == 0 || up(len) <= up(old_len)) return true;
  uint64_t used = up(len) - up(old_len);
  BLX__MAP_FOREACH(pos, &d->now) {
    used += up(((const struct inode *)blx__map_value(pos))->now.len);
  }
  return used <= d->size_max;
}

void blx__sim_disk_fail(struct blx__sim_disk *d, enum blx__sim_disk_act act, int code) {
  BLX__ASSERT(act < BLX__SIM_DISK_ACTS && code <= 0);
  d->next[act] = code;
}

/* ---- files */

blx__rc blx__sim_disk_write(struct blx__sim_disk *d, const char *name, size_t offset, struct blx__slice bytes) {
  BLX__ASSERT(name[0] && offset <= BLX__SIM_FILE_BYTES_MAX && bytes.len <= BLX__SIM_FILE_BYTES_MAX);
  int code = why_not(d, BLX__SIM_DISK_WRITE);
  if (code != 0) return fails(code);
  struct inode *i = find(d, name);
  size_t old_len = i ? i->now.len : 0, end = offset + bytes.len;
  size_t len = end > old_len && bytes.len ? end : old_len;
  if (!has_room(d, old_len, len) || (!i && d->now.count >= BLX__SIM_FILES_MAX)) return fails(BLX_E_NOSPACE);
  if (!i) {
    i = inode_new();
    rename_add(d, "", name, i);
  }
  if (bytes.len == 0) return BLX__OK;
  bytes_resize(&i->now, len);
  memcpy(i->now.data + offset, bytes.data, bytes.len);
  change_add(d, i, offset, end, old_len, false);
  return BLX__OK;
}

blx__rc blx__sim_disk_truncate(struct blx__sim_disk *d, const char *name, size_t size) {
  int code = why_not(d, BLX__SIM_DISK_WRITE);
  if (code != 0) return fails(code);
  struct inode *i = find(d, name);
  if (!i) return fails(BLX_E_NOT_FOUND);
  size_t old_len = i->now.len;
  if (!has_room(d, old_len, size)) return fails(BLX_E_NOSPACE);
  bytes_resize(&i->now, size);
  if (size != old_len) change_add(d, i, size, old_len, old_len, true);
  return BLX__OK;
}

blx__rc blx__sim_disk_rename(struct blx__sim_disk *d, const char *from, const char *to) {
  BLX__ASSERT(to[0]);
  int code = why_not(d, BLX__SIM_DISK_WRITE);
  if (code != 0) return fails(code);
  if (!find(d, from)) return fails(BLX_E_NOT_FOUND);
  if (strcmp(from, to) != 0) rename_add(d, from, to, NULL);
  return BLX__OK;
}

blx__rc blx__sim_disk_remove(struct blx__sim_disk *d, const char *name) {
  int code = why_not(d, BLX__SIM_DISK_WRITE);
  if (code != 0) return fails(code);
  if (!find(d, name)) return fails(BLX_E_NOT_FOUND);
  rename_add(d, name, "", NULL);
  return BLX__OK;
}

blx__rc blx__sim_disk_read(const struct blx__sim_disk *d, const char *name, struct blx__slice *out) {
  const struct inode *i = find(d, name);
  if (!i) return fails(BLX_E_NOT_FOUND);
  *out = (struct blx__slice){.data = i->now.data, .len = i->now.len};
  return BLX__OK;
}

bool blx__sim_disk_next(const struct blx__sim_disk *d, char name[BLX__SIM_NAME_MAX + 1]) {
  size_t len = strlen(name);
  /* With its NUL it is the shortest key behind itself. */
  struct blx__map_pos pos = blx__map_seek(&d->now, name, len ? len + 1 : 0);
  if (!pos.node) return false;
  const void *key = blx__map_key(pos, &len);
  BLX__ASSERT(len <= BLX__SIM_NAME_MAX);
  memcpy(name, key, len);
  name[len] = '\0';
  return true;
}

/* ---- syncs */

static void settle(struct blx__sim_disk *d, struct inode *i, uint64_t seq, int code) {
  if (i)
    changes_settle(d, i, seq, code == 0);
  else if (code == 0)
    renames_settle(d, seq, true);
}

static void sync_free(struct sync *y) {
  blx__list_remove(&y->link);
  unref(y->inode);
  free(y->fetch);
  free(y);
}

static void fetched(struct sync *y) {
  struct fetch f = *y->fetch;
  struct blx__slice file = {0};
  blx__rc rc = blx__sim_disk_read(f.d, f.name, &file);
  uint8_t *copy = rc.code == 0 ? must(malloc(file.len ? file.len : 1)) : NULL;
  if (file.len) memcpy(copy, file.data, file.len);
  sync_free(y);
  f.done(f.arg, rc, copy, file.len);
}

static void on_sync(void *arg, uint64_t id, uint64_t unused) {
  struct blx__sim_disk *d = arg;
  (void)unused;
  BLX__LIST_FOREACH (it, &d->syncs) {
    struct sync *y = BLX__CONTAINER(it, struct sync, link);
    if (y->id != id) continue;
    y->due = d->held;
    if (y->due) return;
    void (*done)(void *, blx__rc) = y->done;
    void *done_arg = y->arg;
    int code = y->code;
    if (y->fetch) {
      fetched(y);
      return;
    }
    if (code != BLX_E_NOT_FOUND) settle(d, y->inode, y->seq, code);
    sync_free(y);
    done(done_arg, fails(code));
    return;
  }
}

static void sync_later(struct blx__sim_disk *d, const struct sync *y) {
  uint64_t after_us = blx__sim_rng_in(&d->s->rng, d->min_us, d->max_us);
  blx__sim_after(d->s, d->node, after_us, (struct blx__sim_call){.fn = on_sync, .arg = d, .a = y->id});
}

void blx__sim_disk_sync(struct blx__sim_disk *d, const char *name, void (*done)(void *arg, blx__rc rc), void *arg) {
  BLX__ASSERT(done != NULL);
  struct inode *i = name ? find(d, name) : NULL;
  struct sync *y = must(calloc(1, sizeof *y));
  *y = (struct sync){.id = ++d->seq, .seq = d->seq, .done = done, .arg = arg};
  y->code = why_not(d, BLX__SIM_DISK_SYNC);
  if (name && !i) y->code = BLX_E_NOT_FOUND;
  if (i) y->inode = ref(i);
  blx__list_push(&d->syncs, &y->link);
  sync_later(d, y);
}

blx__rc blx__sim_disk_sync_now(struct blx__sim_disk *d, const char *name) {
  struct inode *i = name ? find(d, name) : NULL;
  int code = why_not(d, BLX__SIM_DISK_SYNC);
  if (name && !i) return fails(BLX_E_NOT_FOUND);
  if (!d->off) settle(d, i, d->seq, code);
  return fails(code);
}

void blx__sim_disk_release(struct blx__sim_disk *d) {
  d->held = false;
  BLX__LIST_FOREACH (it, &d->syncs) {
    struct sync *y = BLX__CONTAINER(it, struct sync, link);
    if (!y->due) continue;
    y->due = false;
    sync_later(d, y);
  }
}

void blx__sim_disk_forget(struct blx__sim_disk *d) {
  for (struct blx__list *it; (it = blx__list_first(&d->syncs)) != NULL;)
    sync_free(BLX__CONTAINER(it, struct sync, link));
}

/* ---- the power fails */

static void names_clear(struct blx__map *m) {
  BLX__MAP_FOREACH(pos, m) {
    unref(blx__map_value(pos));
  }
  blx__map_clear(m);
}

void blx__sim_disk_crash(struct blx__sim_disk *d) {
  if (d->off) return;
  d->off = true;
  blx__sim_disk_forget(d);
  renames_settle(d, UINT64_MAX, false);
  names_clear(&d->now);
  BLX__MAP_FOREACH(pos, &d->kept) {
    struct inode *i = blx__map_value(pos);
    changes_settle(d, i, UINT64_MAX, false);
    bytes_resize(&i->now, 0);
    bytes_resize(&i->now, i->kept.len);
    if (i->kept.len) memcpy(i->now.data, i->kept.data, i->kept.len);
    size_t len = 0;
    const void *name = blx__map_key(pos, &len);
    bool kept = blx__map_set(&d->now, name, len, ref(i), NULL);
    BLX__ASSERT(kept);
  }
}

void blx__sim_disk_start(struct blx__sim_disk *d) {
  d->off = false;
}

bool blx__sim_disk_flip(struct blx__sim_disk *d, const char *name, size_t offset, unsigned bit) {
  BLX__ASSERT(bit < 8);
  struct inode *i = find(d, name);
  if (!i || offset >= i->now.len) return false;
  i->now.data[offset] ^= (uint8_t)(1U << bit);
  if (offset < i->kept.len) i->kept.data[offset] ^= (uint8_t)(1U << bit);
  return true;
}

/* ---- the whole */

void blx__sim_disk_init(struct blx__sim_disk *d, struct blx__sim *s, unsigned node) {
  BLX__ASSERT(node <= BLX__SIM_NODES_MAX);
  *d = (struct blx__sim_disk){.s = s, .node = node, .reach_percent = 50};
  blx__list_init(&d->renames);
  blx__list_init(&d->syncs);
}

void blx__sim_disk_free(struct blx__sim_disk *d) {
  blx__sim_disk_forget(d);
  for (struct blx__list *it; (it = blx__list_first(&d->renames)) != NULL;)
    rename_free(BLX__CONTAINER(it, struct rename, link));
  names_clear(&d->now);
  names_clear(&d->kept);
}

/* ---- as a table */

static blx__rc table_write(void *self, const char *name, uint64_t offset, struct blx__slice bytes) {
  return blx__sim_disk_write(self, name, (size_t)offset, bytes);
}

static blx__rc table_reserve(void *self, const char *name, uint64_t size) {
  struct blx__slice file = {0};
  blx__rc rc = blx__sim_disk_read(self, name, &file);
  if (rc.code == BLX_E_NOT_FOUND) rc = blx__sim_disk_write(self, name, 0, file);
  return rc.code == 0 && file.len < size ? blx__sim_disk_truncate(self, name, (size_t)size) : rc;
}

static blx__rc table_truncate(void *self, const char *name, uint64_t size) {
  return blx__sim_disk_truncate(self, name, (size_t)size);
}

static blx__rc table_rename(void *self, const char *from, const char *to) {
  return blx__sim_disk_rename(self, from, to);
}

static blx__rc table_remove(void *self, const char *name) {
  return blx__sim_disk_remove(self, name);
}

static blx__rc table_read(void *self, const char *name, struct blx__buf *out) {
  struct blx__slice file = {0};
  BLX__TRY(blx__sim_disk_read(self, name, &file));
  return blx__buf_add(out, file.data, file.len) ? BLX__OK : fails(BLX_E_NOMEM);
}

static blx__rc table_next(void *self, char name[BLX__DISK_NAME_MAX + 1]) {
  return blx__sim_disk_next(self, name) ? BLX__OK : fails(BLX_E_NOT_FOUND);
}

static void table_sync(void *self, const char *name, blx__disk_fn *done, void *arg) {
  blx__sim_disk_sync(self, name, done, arg);
}

static blx__rc table_sync_now(void *self, const char *name) {
  return blx__sim_disk_sync_now(self, name);
}

static void table_put(void *self, const char *name, const struct blx__slice *parts, size_t n, blx__disk_fn *done,
                      void *arg) {
  struct blx__sim_disk *d = self;
  size_t at = 0;
  blx__rc rc = find(d, name) ? blx__sim_disk_remove(d, name) : BLX__OK;
  for (size_t i = 0; rc.code == 0 && i < n; i++) {
    rc = blx__sim_disk_write(d, name, at, parts[i]);
    at += parts[i].len;
  }
  if (rc.code != 0) blx__sim_disk_fail(d, BLX__SIM_DISK_SYNC, rc.code); /* told when it would have been done */
  blx__sim_disk_sync(d, rc.code == 0 ? name : NULL, done, arg);
}

static void table_fetch(void *self, const char *name, blx__disk_bytes_fn *done, void *arg) {
  struct blx__sim_disk *d = self;
  struct sync *y = must(calloc(1, sizeof *y));
  y->fetch = must(calloc(1, sizeof *y->fetch));
  *y->fetch = (struct fetch){.d = d, .done = done, .arg = arg};
  (void)blx__str_copy(y->fetch->name, sizeof y->fetch->name, name);
  y->id = y->seq = ++d->seq;
  blx__list_push(&d->syncs, &y->link);
  sync_later(d, y);
}

static void table_quit(void *self) {
  blx__sim_disk_forget(self);
}

static bool table_busy(void *self) {
  (void)self;
  return false;
}

struct blx__disk blx__sim_disk_table(struct blx__sim_disk *d) {
  static const struct blx__disk_ops ops = {
      .write = table_write,
      .reserve = table_reserve,
      .truncate = table_truncate,
      .rename = table_rename,
      .remove = table_remove,
      .read = table_read,
      .next = table_next,
      .sync = table_sync,
      .sync_now = table_sync_now,
      .put = table_put,
      .fetch = table_fetch,
      .quit = table_quit,
      .busy = table_busy,
  };
  return (struct blx__disk){.ops = &ops, .self = d};
}
