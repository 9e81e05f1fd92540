/* The table of handles, without a lock: a child of fork must find it usable whatever other threads were doing. */
#include "api/handle.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* A handle: bit 63, so that whoever follows it as a pointer traps at once; generation; index; four zeroes.
 * A slot's word: generation, alive, how many calls are inside. */
enum { INDEX_AT = 4, INDEX_BITS = 16, GENERATION_AT = 24, ALIVE_AT = 24, WORD_GENERATION_AT = 25, WAIT_NS = 100000 };
#define HANDLE_MARK (UINT64_C(1) << 63)
#define HANDLE_ZEROES UINT64_C(0xf0000f)
#define GENERATION_MASK ((UINT64_C(1) << 39) - 1)
#define ALIVE (UINT64_C(1) << ALIVE_AT)
#define CALLS_MASK (ALIVE - 1)

_Static_assert(sizeof(void *) == 8, "a handle needs 64 bits");
_Static_assert(BLX__API_HANDLES_MAX == 1 << INDEX_BITS, "an index fits its bits");

struct slot {
  atomic_uint_least64_t word;
  void *object; /* this and the next two are set before the slot comes alive */
  enum blx__api_kind kind;
  pid_t pid;
  atomic_uint_least32_t next_free; /* index + 1; 0: none */
};

static struct slot slots[BLX__API_HANDLES_MAX];
static atomic_uint_least32_t fresh;     /* slots that were ever used */
static atomic_uint_least64_t free_head; /* low half: index + 1; high half: counts, so that a stale head is noticed */

static const struct {
  const char *name, *origin;
} kinds[] = {
    [BLX__API_NODE] = {"node", "node"},
    [BLX__API_CLIENT] = {"client", "client"},
    [BLX__API_WATCH] = {"watch", "client"},
    [BLX__API_LOGS] = {"reader of consoles", "client"},
    [BLX__API_STATS] = {"reader of statistics", "client"},
    [BLX__API_CONSENSUS] = {"member", "consensus"},
    [BLX__API_PLACEMENT] = {"placement", "placement"},
    [BLX__API_VM_DRIVER] = {"node of this VM driver", "vm driver"},
    [BLX__API_VM_CALL] = {"call of a VM driver", "vm driver"},
    [BLX__API_VM_LOGS] = {"reader of a VM driver's console", "vm driver"},
    [BLX__API_EXEC] = {"session in a guest", "client"},
    [BLX__API_BACKUP] = {"backup", "client"},
};

/* ---- which process this is: a page that a child of fork finds empty keeps its id, for to ask the system each time
 * costs more than all the rest of a call */

enum { PAGE_BYTES = 4096 };
static _Atomic(atomic_int *) page;
static atomic_bool page_refused;

static atomic_int *page_make(void) {
  atomic_int *known = NULL;
  if (atomic_load(&page_refused)) return NULL;
  void *made = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bool good = made != MAP_FAILED && madvise(made, PAGE_BYTES, MADV_WIPEONFORK) == 0;
  if (good && atomic_compare_exchange_strong(&page, &known, made)) return made;
  if (made != MAP_FAILED) (void)munmap(made, PAGE_BYTES);
  if (!good) atomic_store(&page_refused, true);
  return known; /* another thread's, or NULL */
}

static pid_t own_pid(void) {
  atomic_int *at = atomic_load_explicit(&page, memory_order_acquire);
  if (!at) at = page_make();
  if (!at) return getpid();
  pid_t pid = atomic_load_explicit(at, memory_order_relaxed);
  if (pid != 0) return pid;
  pid = getpid();
  atomic_store(at, pid);
  return pid;
}

/* ---- free slots */

static struct slot *slot_pop(void) {
  uint64_t head = atomic_load(&free_head);
  while ((uint32_t)head != 0) {
    struct slot *s = &slots[(uint32_t)head - 1];
    uint64_t next = ((head >> 32) + 1) << 32 | atomic_load(&s->next_free);
    if (atomic_compare_exchange_weak(&free_head, &head, next)) return s;
  }
  uint32_t used = atomic_load(&fresh);
  while (used < BLX__API_HANDLES_MAX)
    if (atomic_compare_exchange_weak(&fresh, &used, used + 1)) return &slots[used];
  return NULL;
}

static void slot_push(struct slot *s) {
  uint64_t head = atomic_load(&free_head), next;
  do {
    atomic_store(&s->next_free, (uint32_t)head);
    next = ((head >> 32) + 1) << 32 | (uint32_t)(s - slots + 1);
  } while (!atomic_compare_exchange_weak(&free_head, &head, next));
}

/* ---- handles */

static uint64_t generation_of(const void *handle) {
  return ((uint64_t)(uintptr_t)handle >> GENERATION_AT) & GENERATION_MASK;
}

static struct slot *slot_of(const void *handle) {
  return &slots[((uint64_t)(uintptr_t)handle >> INDEX_AT) & (BLX__API_HANDLES_MAX - 1)];
}

static bool is_marked(const void *handle) {
  uint64_t bits = (uint64_t)(uintptr_t)handle;
  return (bits & HANDLE_MARK) != 0 && (bits & HANDLE_ZEROES) == 0;
}

void *blx__api_handle_new(enum blx__api_kind kind, void *object, blx_error *err) {
  BLX__ASSERT(object != NULL);
  struct slot *s = slot_pop();
  if (!s) {
    (void)blx__fail(err, BLX_E_BUSY, kinds[kind].origin, "%d handles are open in this process: close some first",
                    BLX__API_HANDLES_MAX);
    return NULL;
  }
  uint64_t generation = atomic_load(&s->word) >> WORD_GENERATION_AT;
  s->object = object;
  s->kind = kind;
  s->pid = own_pid();
  atomic_store(&s->word, generation << WORD_GENERATION_AT | ALIVE);
  uint64_t bits = HANDLE_MARK | generation << GENERATION_AT | (uint64_t)(s - slots) << INDEX_AT;
  return (void *)(uintptr_t)bits;
}

static void *refuse(const char *sentence, enum blx__api_kind kind, blx_error *err) {
  (void)blx__fail(err, BLX_E_MISUSE, kinds[kind].origin, "the %s %s", kinds[kind].name, sentence);
  return NULL;
}

void *blx__api_handle_take(const void *handle, enum blx__api_kind kind, blx_error *err) {
  if (!handle) return refuse("is NULL: open one first", kind, err);
  if (!is_marked(handle)) return refuse("is no handle that this library gave", kind, err);
  struct slot *s = slot_of(handle);
  uint64_t word = atomic_load(&s->word);
  do {
    if (word >> WORD_GENERATION_AT != generation_of(handle) || (word & ALIVE) == 0)
      return refuse("was closed: open one anew", kind, err);
  } while (!atomic_compare_exchange_weak(&s->word, &word, word + 1));
  BLX__ASSERT((word & CALLS_MASK) < CALLS_MASK);
  const char *bad = s->kind != kind       ? "is a handle of another kind"
                    : s->pid != own_pid() ? "was opened before a fork and works in its parent only: open one here"
                                          : NULL;
  if (!bad) return s->object;
  blx__api_handle_put(handle);
  return refuse(bad, kind, err);
}

void blx__api_handle_put(const void *handle) {
  uint64_t before = atomic_fetch_sub(&slot_of(handle)->word, 1);
  BLX__ASSERT((before & CALLS_MASK) > 0);
}

bool blx__api_handle_kill(const void *handle) {
  uint64_t before = atomic_fetch_and(&slot_of(handle)->word, ~ALIVE);
  BLX__ASSERT(before >> WORD_GENERATION_AT == generation_of(handle) && (before & CALLS_MASK) > 0);
  return (before & ALIVE) != 0;
}

void blx__api_handle_drop(const void *handle) {
  struct slot *s = slot_of(handle);
  uint64_t word;
  while (((word = atomic_load(&s->word)) & CALLS_MASK) != 0) {
    struct timespec t = {.tv_nsec = WAIT_NS};
    nanosleep(&t, NULL);
  }
  BLX__ASSERT((word & ALIVE) == 0 && word >> WORD_GENERATION_AT == generation_of(handle));
  uint64_t next = (generation_of(handle) + 1) & GENERATION_MASK;
  atomic_store(&s->word, next << WORD_GENERATION_AT);
  slot_push(s);
}
