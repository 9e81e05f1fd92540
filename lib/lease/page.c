#include "lease/page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char origin[] = "lease/page";

enum { PAGE_BYTES = 4096, BOOT_ID_BYTES = 37 };
#define MAGIC UINT64_C(0x3165676170786c62) /* "blxpage1" */

struct shared {
  uint64_t magic;
  char boot_id[BOOT_ID_BYTES]; /* times of another boot mean nothing */
  _Atomic uint64_t kill_at, owned_at, looked_at, stuck, device_s;
};

struct blx__lease_page {
  struct shared *shared;
  int fd;
};

uint64_t blx__lease_boot_ms(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_BOOTTIME, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static blx__rc read_boot_id(char out[BOOT_ID_BYTES], blx_error *err) {
  static const char path[] = "/proc/sys/kernel/random/boot_id";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID_BYTES - 1);
  if (fd >= 0) (void)close(fd);
  if (n != BOOT_ID_BYTES - 1) return blx__fail(err, BLX_E_IO, origin, "%s: cannot be read: %m", path);
  out[BOOT_ID_BYTES - 1] = '\0';
  return BLX__OK;
}

static int code_of(int number) {
  if (number == ENOSPC || number == EDQUOT) return BLX_E_NOSPACE;
  return number == EACCES || number == EPERM ? BLX_E_DENIED : BLX_E_IO;
}

/* Empty: made now, or the maker was killed before it wrote. Its room is taken at once: writing into a hole of a full
 * disk would end the process. */
static blx__rc prepare(int fd, const char *path, blx_error *err) {
  struct stat st;
  if (fstat(fd, &st) != 0) return blx__fail(err, BLX_E_IO, origin, "%s: %m", path);
  if (!S_ISREG(st.st_mode) || (st.st_size != 0 && st.st_size != PAGE_BYTES))
    return blx__fail(err, BLX_E_CORRUPT, origin, "%s is not a lease page: move it away", path);
  int failed = posix_fallocate(fd, 0, PAGE_BYTES);
  if (failed == 0) return BLX__OK;
  return blx__fail(err, code_of(failed), origin, "%s: no room for %d bytes: %s", path, (int)PAGE_BYTES,
                   strerror(failed));
}

static blx__rc begin(struct shared *s, const char *path, blx_error *err) {
  char boot_id[BOOT_ID_BYTES];
  BLX__TRY(read_boot_id(boot_id, err));
  if (s->magic != 0 && s->magic != MAGIC)
    return blx__fail(err, BLX_E_CORRUPT, origin, "%s is not a lease page: move it away", path);
  if (s->magic == MAGIC && memcmp(s->boot_id, boot_id, sizeof boot_id) == 0) return BLX__OK;
  atomic_store(&s->kill_at, 0);
  atomic_store(&s->owned_at, 0);
  atomic_store(&s->looked_at, 0);
  atomic_store(&s->stuck, 0);
  atomic_store(&s->device_s, 0);
  memcpy(s->boot_id, boot_id, sizeof boot_id);
  s->magic = MAGIC;
  return BLX__OK;
}

blx__rc blx__lease_page_open(const char *path, struct blx__lease_page **out, blx_error *err) {
  struct blx__lease_page *page = calloc(1, sizeof *page);
  if (!page) return blx__fail(err, BLX_E_NOMEM, origin, "no memory for a lease page");
  page->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  blx__rc rc = {0};
  if (page->fd < 0)
    rc = blx__fail(err, code_of(errno), origin, "%s: %m", path);
  else
    rc = prepare(page->fd, path, err);
  if (rc.code == 0) {
    void *at = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page->fd, 0);
    if (at == MAP_FAILED)
      rc = blx__fail(err, BLX_E_IO, origin, "%s: cannot be mapped: %m", path);
    else
      page->shared = at;
  }
  if (rc.code == 0) rc = begin(page->shared, path, err);
  if (rc.code == 0)
    *out = page;
  else
    blx__lease_page_close(page);
  return rc;
}

void blx__lease_page_close(struct blx__lease_page *page) {
  if (!page) return;
  if (page->shared) (void)munmap(page->shared, PAGE_BYTES);
  if (page->fd >= 0) (void)close(page->fd);
  free(page);
}

void blx__lease_page_set_kill_at(struct blx__lease_page *page, uint64_t boot_ms) {
  atomic_store(&page->shared->kill_at, boot_ms);
}

uint64_t blx__lease_page_kill_at(const struct blx__lease_page *page) {
  return atomic_load(&page->shared->kill_at);
}

void blx__lease_page_owned(struct blx__lease_page *page, uint64_t boot_ms) {
  atomic_store(&page->shared->owned_at, boot_ms);
}

uint64_t blx__lease_page_owned_at(const struct blx__lease_page *page) {
  return atomic_load(&page->shared->owned_at);
}

bool blx__lease_page_pin(struct blx__lease_page *page) {
  return mlock(page->shared, PAGE_BYTES) == 0;
}

bool blx__lease_page_take_watch(struct blx__lease_page *page) {
  return flock(page->fd, LOCK_EX | LOCK_NB) == 0;
}

void blx__lease_page_set_device(struct blx__lease_page *page, uint64_t seconds) {
  atomic_store(&page->shared->device_s, seconds);
}

uint64_t blx__lease_page_device_s(const struct blx__lease_page *page) {
  return atomic_load(&page->shared->device_s);
}

void blx__lease_page_looked(struct blx__lease_page *page, uint64_t boot_ms, bool stuck) {
  atomic_store(&page->shared->stuck, stuck);
  atomic_store(&page->shared->looked_at, boot_ms);
}

bool blx__lease_page_watched(const struct blx__lease_page *page, uint64_t boot_ms) {
  uint64_t looked = atomic_load(&page->shared->looked_at);
  return looked != 0 && boot_ms < looked + BLX__LEASE_LOOKS_MS && atomic_load(&page->shared->stuck) == 0;
}
