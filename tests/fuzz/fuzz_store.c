/* A member's directory as a start finds it. What is accepted is found again as it was, whatever happens to the power,
 * and goes on from there.
 *
 * An input is a byte of enum flag, one that says how long the records are that come later, and pieces of files: a head
 * (struct piece), then its bytes. No mutation guesses a checksum, so one flag seals every head and every record again
 * with the sum that belongs to it. */
#include "consensus/store_int.h"
#include "fuzz.h"
#include "io/sim.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SEGMENT_BYTES = 1024, LATER_MAX = 200, PIECE_HEAD_BYTES = 7, SEGMENT_HEAD_BYTES = 32, RECORD_LEN_AT = 40 };
enum flag { SEALED = 1, UNMARKED = 2, CUT = 4, SNAPSHOT = 8, TWICE = 16 };
enum kind { MARK, META_1, META_2, SNAPSHOT_FILE, SNAPSHOT_NEW, SPARE, SEGMENT, KINDS };
static const char *const names[KINDS] = {"mark", "meta-1", "meta-2", "snapshot", "snapshot.new", "log.spare-1", NULL};

struct piece {
  uint8_t kind, generation, first;
  uint8_t at[2], len[2]; /* little-endian; @len 0: the file ends at @at */
};
_Static_assert(sizeof(struct piece) == PIECE_HEAD_BYTES, "it has no holes");

struct box {
  struct blx__sim s;
  struct blx__sim_disk d;
  struct blx__disk table;
  struct store st;
};

/* What a load showed. */
struct seen {
  uint64_t first, count, sum;
  uint64_t until, sum_until; /* the sum of the first @until */
};

static void must(blx__rc rc) {
  FUZZ_SHALL(rc.code == 0);
}

static struct blx__slice file_of(const struct box *b, const char *name) {
  struct blx__slice file = {0};
  (void)blx__sim_disk_read(&b->d, name, &file).code;
  return file;
}

static void sync_all(struct box *b) {
  for (char name[BLX__DISK_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);)
    must(blx__sim_disk_sync_now(&b->d, name));
  must(blx__sim_disk_sync_now(&b->d, NULL));
}

static void box_init(struct box *b, uint64_t seed) {
  blx__sim_init(&b->s, seed);
  blx__sim_disk_init(&b->d, &b->s, 0);
  b->table = blx__sim_disk_table(&b->d);
  store_init(&b->st, &b->table, SEGMENT_BYTES);
}

static void box_free(struct box *b) {
  store_free(&b->st);
  blx__sim_disk_free(&b->d);
  blx__sim_free(&b->s);
}

/* ---- the files of an input */

/* As store.c does it; fuzz_seeds looks whether it still does. */
static void seal_head(uint8_t *head, size_t len) {
  uint64_t sum = XXH3_64bits_withSeed(head + sizeof sum, len - sizeof sum, len);
  memcpy(head, &sum, sizeof sum);
}

static void seal_segment(uint8_t *bytes, size_t len) {
  if (len < SEGMENT_HEAD_BYTES) return;
  seal_head(bytes, SEGMENT_HEAD_BYTES);
  for (size_t at = SEGMENT_HEAD_BYTES; len - at >= STORE_RECORD_HEAD_BYTES;) {
    uint64_t index = 0, data = 0;
    const size_t room = len - at - STORE_RECORD_HEAD_BYTES;
    memcpy(&index, bytes + at + sizeof index, sizeof index);
    memcpy(&data, bytes + at + RECORD_LEN_AT, sizeof data);
    if (index == 0 || data > room || ((data + 7) & ~UINT64_C(7)) > room) return;
    store_seal(bytes + at);
    at += STORE_RECORD_HEAD_BYTES + ((size_t)(data + 7) & ~(size_t)7);
  }
}

static void seal_file(const char *name, uint8_t *bytes, size_t len) {
  enum { MARK_HEAD_BYTES = 48, META_BYTES = 40 };
  const size_t head = sizeof(struct store_snapshot_head);
  if (strncmp(name, "log", 3) == 0) seal_segment(bytes, len);
  if (strncmp(name, "meta", 4) == 0 && len >= META_BYTES) seal_head(bytes, META_BYTES);
  if (strncmp(name, "snapshot", 8) == 0 && len >= head) seal_head(bytes + len - head, head);
  for (size_t at = 0; strcmp(name, "mark") == 0 && at + MARK_HEAD_BYTES <= len; at += STORE_MARK_BYTES)
    seal_head(bytes + at, MARK_HEAD_BYTES);
}

static void seal_all(struct box *b) {
  for (char name[BLX__DISK_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);) {
    struct blx__slice file = file_of(b, name);
    uint8_t *copy = malloc(file.len ? file.len : 1);
    FUZZ_SHALL(copy);
    if (file.len) memcpy(copy, file.data, file.len);
    seal_file(name, copy, file.len);
    must(blx__sim_disk_write(&b->d, name, 0, (struct blx__slice){copy, file.len}));
    free(copy);
  }
}

static void place(struct box *b, const struct piece *p, struct blx__slice bytes) {
  const struct store named = {.generation = p->generation};
  char name[BLX__DISK_NAME_MAX + 1];
  const unsigned kind = p->kind % KINDS;
  const size_t at = p->at[0] | (size_t)p->at[1] << 8;
  if (kind == SEGMENT)
    store_segment_name(&named, p->first, name);
  else
    (void)blx__str_copy(name, sizeof name, names[kind]);
  must(blx__sim_disk_write(&b->d, name, at, bytes));
  if (bytes.len == 0) must(blx__sim_disk_truncate(&b->d, name, at));
}

static void place_all(struct box *b, const uint8_t *data, size_t size) {
  while (size >= PIECE_HEAD_BYTES) {
    struct piece p;
    memcpy(&p, data, sizeof p);
    data += sizeof p;
    size -= sizeof p;
    size_t len = p.len[0] | (size_t)p.len[1] << 8;
    if (len > size) len = size;
    place(b, &p, (struct blx__slice){data, len});
    data += len;
    size -= len;
  }
}

/* ---- what is found */

static void look(void *arg, const struct store_record *r) {
  struct seen *s = arg;
  if (s->count == 0) s->first = r->index;
  FUZZ_SHALL(r->index == s->first + s->count);
  const uint64_t head[] = {r->index, r->term, r->type, r->batch};
  s->sum = XXH3_64bits_withSeed(head, sizeof head, s->sum);
  s->sum = XXH3_64bits_withSeed(r->data, r->len, s->sum);
  if (++s->count == s->until) s->sum_until = s->sum;
}

static uint64_t sum_of_disk(const struct box *b) {
  uint64_t sum = 0;
  for (char name[BLX__DISK_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);) {
    struct blx__slice file = file_of(b, name);
    sum = XXH3_64bits_withSeed(name, strlen(name), sum);
    sum = XXH3_64bits_withSeed(file.data, file.len, sum);
  }
  return sum;
}

static void check_snapshot(const struct box *b) {
  struct store_snapshot snap;
  struct blx__slice file = file_of(b, store_snapshot_name);
  size_t len = 0;
  FUZZ_SHALL(store_snapshot_parse(file, &snap, &len));
  FUZZ_SHALL(len + sizeof(struct store_snapshot_head) == file.len && snap.members_count <= STORE_MEMBERS_MAX);
  FUZZ_SHALL(snap.index == b->st.snapshot_index && snap.term == b->st.snapshot_term);
}

/* What is refused stays as it is; what a look accepts is loaded. */
static bool load_first(struct box *b, struct seen *s) {
  struct store looked;
  store_init(&looked, &b->table, SEGMENT_BYTES);
  looked.unmarked = b->st.unmarked;
  const char *why = store_look(&looked, NULL, NULL);
  store_free(&looked);
  uint64_t before = sum_of_disk(b);
  const char *refused = store_load(&b->st, look, s);
  FUZZ_SHALL(!why == !refused);
  FUZZ_SHALL(!refused || (strcmp(why, refused) == 0 && sum_of_disk(b) == before));
  if (!refused && b->st.has_snapshot) check_snapshot(b);
  if (!refused && b->st.segments_count == 0) *s = (struct seen){0}; /* it ended before its snapshot */
  return !refused;
}

/* The power fails, and all but @unsynced records of the end are there; of those, a beginning. */
static struct seen load_again(struct box *b, const struct seen *before, uint64_t unsynced) {
  const struct store was = b->st;
  struct seen s = {.until = before->count};
  blx__sim_disk_crash(&b->d);
  blx__sim_disk_start(&b->d);
  FUZZ_SHALL(store_load(&b->st, look, &s) == NULL);
  FUZZ_SHALL(s.count >= before->count && s.count <= before->count + unsynced);
  FUZZ_SHALL(s.sum_until == before->sum && (before->count == 0 || s.first == before->first));
  FUZZ_SHALL(b->st.term == was.term && b->st.vote == was.vote && b->st.generation == was.generation);
  FUZZ_SHALL(b->st.snapshot_index == was.snapshot_index && b->st.snapshot_term == was.snapshot_term);
  FUZZ_SHALL(b->st.start == was.start && store_last(&b->st) == was.start + s.count - 1);
  return s;
}

/* @count records of one batch; not synced. */
static void write_some(struct box *b, uint64_t count, uint8_t len, char name[BLX__DISK_NAME_MAX + 1]) {
  static const uint8_t data[LATER_MAX] = {0xda, 0x7a};
  struct blx__buf bytes;
  const uint64_t first = store_last(&b->st) + 1;
  bool made = false;
  blx__buf_init(&bytes, 1 << 20);
  for (uint64_t i = first; i < first + count; i++) {
    const struct store_record r = {
        .index = i, .term = 9, .type = 1, .batch = first, .len = len % LATER_MAX, .data = data};
    FUZZ_SHALL(store_encode(&bytes, &r));
  }
  must(store_append(&b->st, (struct blx__slice){bytes.data, bytes.len}, first, count, name, &made));
  blx__buf_free(&bytes);
}

static struct seen append_one(struct box *b, const struct seen *before, uint8_t len) {
  char name[BLX__DISK_NAME_MAX + 1];
  write_some(b, 1, len, name);
  must(blx__sim_disk_sync_now(&b->d, name));
  must(blx__sim_disk_sync_now(&b->d, NULL));
  must(store_mark(&b->st, store_last(&b->st)));
  struct seen s = load_again(b, before, 1);
  FUZZ_SHALL(s.count == before->count + 1);
  return s;
}

/* The last half of the log goes, of what is not in the snapshot. */
static void cut(struct box *b, struct seen *s) {
  char name[BLX__DISK_NAME_MAX + 1];
  bool any = false;
  uint64_t index = s->first + s->count / 2;
  if (index <= b->st.snapshot_index) return;
  must(store_mark(&b->st, index - 1));
  must(store_remove_from(&b->st, index, &any));
  must(blx__sim_disk_sync_now(&b->d, NULL));
  must(store_cut(&b->st, index, name));
  if (name[0]) must(blx__sim_disk_sync_now(&b->d, name));
  struct seen left = {0};
  FUZZ_SHALL(store_load(&b->st, look, &left) == NULL);
  FUZZ_SHALL(left.count == index - s->first && store_last(&b->st) == index - 1);
  *s = left;
}

/* Of everything; old segments go, or are kept to be used again. */
static void snapshot(struct box *b, struct seen *s) {
  struct store_snapshot_head head;
  char name[BLX__DISK_NAME_MAX + 1];
  unsigned spared = 0;
  write_some(b, 1, 0, name);
  must(blx__sim_disk_sync_now(&b->d, name));
  const struct store_snapshot snap = {.index = store_last(&b->st), .term = 9, .members_count = 1};
  store_snapshot_make(&b->st, &snap, 0, false, &head);
  if (blx__sim_disk_remove(&b->d, store_snapshot_new).code == 0) must(blx__sim_disk_sync_now(&b->d, NULL));
  must(blx__sim_disk_write(&b->d, store_snapshot_new, 0, (struct blx__slice){(const uint8_t *)&head, sizeof head}));
  must(blx__sim_disk_sync_now(&b->d, store_snapshot_new));
  must(store_snapshot_rename(&b->st));
  must(blx__sim_disk_sync_now(&b->d, NULL));
  must(store_snapshot_done(&b->st, &snap, false, 0, &spared));
  must(blx__sim_disk_sync_now(&b->d, NULL));
  store_spares_ready(&b->st, spared);
  *s = (struct seen){0};
  uint64_t last = store_last(&b->st);
  for (uint64_t i = 0; i < 3; i++) { /* until the spare one is used */
    write_some(b, 1, LATER_MAX - 1, name);
    must(blx__sim_disk_sync_now(&b->d, name));
  }
  must(blx__sim_disk_sync_now(&b->d, NULL));
  FUZZ_SHALL(store_load(&b->st, look, s) == NULL);
  FUZZ_SHALL(store_last(&b->st) == last + 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct box b;
  struct seen s = {0};
  char name[BLX__DISK_NAME_MAX + 1];
  if (size < 2) return 0;
  box_init(&b, size);
  place_all(&b, data + 2, size - 2);
  if (data[0] & SEALED) seal_all(&b);
  sync_all(&b);
  b.st.unmarked = data[0] & UNMARKED;
  /* Nobody counts so far. */
  if (load_first(&b, &s) && store_last(&b.st) < UINT64_MAX / 2 && b.st.generation < UINT32_MAX) {
    if (data[0] & TWICE) s = load_again(&b, &s, 0);
    if (data[0] & CUT) cut(&b, &s);
    if (data[0] & SNAPSHOT) snapshot(&b, &s);
    s = append_one(&b, &s, data[1]);
    write_some(&b, 3, data[1], name);
    s = load_again(&b, &s, 3);
    s = append_one(&b, &s, data[1]);
  }
  box_free(&b);
  return 0;
}

/* ---- seeds: directories of members, and some of what may happen to them */

static void add_piece(struct blx__buf *out, struct piece p, size_t at, struct blx__slice bytes) {
  p.at[0] = (uint8_t)at;
  p.at[1] = (uint8_t)(at >> 8);
  p.len[0] = (uint8_t)bytes.len;
  p.len[1] = (uint8_t)(bytes.len >> 8);
  FUZZ_SHALL(at <= UINT16_MAX && bytes.len <= UINT16_MAX);
  FUZZ_SHALL(blx__buf_add(out, &p, sizeof p) && blx__buf_add(out, bytes.data, bytes.len));
}

static bool is_zero(struct blx__slice bytes) {
  for (size_t i = 0; i < bytes.len; i++)
    if (bytes.data[i]) return false;
  return true;
}

/* Runs of anything but zeros, as long as they go, then where it ends. */
static void add_file(struct blx__buf *out, struct piece p, struct blx__slice file) {
  enum { GAP = 64 };
  for (size_t from = 0, to; from < file.len; from = to) {
    for (to = from; to < file.len; to += GAP) {
      size_t len = file.len - to < GAP ? file.len - to : GAP;
      if (is_zero((struct blx__slice){file.data + to, len})) break;
    }
    if (to > file.len) to = file.len;
    if (to > from) add_piece(out, p, from, (struct blx__slice){file.data + from, to - from});
    if (to == from) to = from + GAP;
  }
  add_piece(out, p, file.len, (struct blx__slice){0});
}

static struct piece piece_of(const char *name) {
  struct piece p = {.kind = SEGMENT};
  for (uint8_t kind = 0; kind < SEGMENT; kind++)
    if (strcmp(name, names[kind]) == 0) p.kind = kind;
  for (unsigned id = 0; p.kind == SEGMENT && id < 1 << 16; id++) {
    const struct store named = {.generation = id >> 8};
    char segment[BLX__DISK_NAME_MAX + 1];
    store_segment_name(&named, id & 255, segment);
    if (strcmp(name, segment) != 0) continue;
    p.generation = (uint8_t)(id >> 8);
    p.first = (uint8_t)id;
    return p;
  }
  FUZZ_SHALL(p.kind != SEGMENT);
  return p;
}

static void seed_from(struct box *b) {
  struct blx__buf files;
  blx__buf_init(&files, 1 << 16);
  sync_all(b);
  for (uint8_t flags = 0; flags < 2 * TWICE; flags++) {
    const uint8_t how[] = {flags, 20};
    blx__buf_clear(&files);
    FUZZ_SHALL(blx__buf_add(&files, how, sizeof how));
    for (char name[BLX__DISK_NAME_MAX + 1] = ""; blx__sim_disk_next(&b->d, name);)
      add_file(&files, piece_of(name), file_of(b, name));
    fuzz_seed(files.data, files.len);
  }
  blx__buf_free(&files);
}

static void fill(struct box *b, uint64_t count, uint8_t len) {
  for (uint64_t i = 0; i < count; i++) {
    char name[BLX__DISK_NAME_MAX + 1];
    write_some(b, 1, len, name);
  }
  sync_all(b);
  must(store_mark(&b->st, store_last(&b->st)));
}

static void take(struct box *b, uint64_t index, bool replaces, uint64_t trailing) {
  struct store_snapshot_head head;
  unsigned spared = 0;
  const struct store_snapshot snap = {.index = index, .term = 9, .members_count = 1, .members = {{1, 1}}};
  store_snapshot_make(&b->st, &snap, 0, replaces, &head);
  must(blx__sim_disk_write(&b->d, store_snapshot_new, 0, (struct blx__slice){(const uint8_t *)&head, sizeof head}));
  must(store_snapshot_rename(&b->st));
  must(store_snapshot_done(&b->st, &snap, replaces, trailing, &spared));
  store_spares_ready(&b->st, spared);
}

void fuzz_seeds(void) {
  struct box b;
  char name[BLX__DISK_NAME_MAX + 1];
  box_init(&b, 1);
  must(store_set_meta(&b.st, 1, 1));
  fill(&b, 3, 20);
  seed_from(&b);
  write_some(&b, 3, 20, name); /* not marked */
  seed_from(&b);
  FUZZ_SHALL(blx__sim_disk_flip(&b.d, name, (size_t)b.st.segments[0].ends[3] - 1, 1)); /* a torn batch */
  seed_from(&b);
  FUZZ_SHALL(blx__sim_disk_flip(&b.d, name, (size_t)b.st.segments[0].ends[3] - 1, 1));
  fill(&b, 8, 150); /* three segments */
  must(store_set_meta(&b.st, 2, 0));
  seed_from(&b);
  take(&b, 10, false, 2);
  seed_from(&b); /* with a spare one */
  fill(&b, 5, 150);
  seed_from(&b); /* that is used again */
  take(&b, 40, true, 0);
  seed_from(&b);
  fill(&b, 2, 50);
  uint64_t before = sum_of_disk(&b);
  seal_all(&b);
  FUZZ_SHALL(sum_of_disk(&b) == before);
  seed_from(&b);
  box_free(&b);
}
