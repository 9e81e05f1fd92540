/* A temporary directory with the real table of files on it, for the tests of io/disk. */
#ifndef BLX_TESTS_UNIT_IO_SUPPORT_DISK_H
#define BLX_TESTS_UNIT_IO_SUPPORT_DISK_H

#include "io/disk.h"
#include "io/loop.h"

enum { SMALL = 4096, MIB = 1 << 20, FILE_MAX = 64 << 20 };

struct box {
  char dir[64];
  int fd;
  struct blx__loop *loop;
  struct blx__disk d;
  unsigned told, until; /* callbacks that came, and at how many the loop stops */
  struct blx__defer defer;
};

/* What one callback said. */
struct answer {
  struct box *b;
  unsigned calls, place; /* @place: the how manieth of all it was */
  int code;
  uint8_t *bytes; /* fetch */
  size_t len;
};

void box_open(struct box *b, bool with_loop);
/* The table is quit: turn the loop until nothing looks at it any more, then free it. */
void box_close(struct box *b);
/* Quit, close, and remove the directory; after box_close only the last. */
void box_free(struct box *b);

/* Callbacks, with a struct answer. */
void on_done(void *arg, blx__rc rc);
void on_bytes(void *arg, blx__rc rc, uint8_t *bytes, size_t len);

/* Until @n more callbacks came. */
void await(struct box *b, unsigned n);

/* Ask, and wait for the one answer. */
int sync_code(struct box *b, const char *name);
int fetch_code(struct box *b, const char *name, uint8_t **bytes, size_t *len);
int put_code(struct box *b, const char *name, const struct blx__slice *parts, size_t n);

/* From then on everything is done on the thread. */
void start_thread(struct box *b);

int write_code(struct box *b, const char *name, uint64_t at, const char *text);
void write_text(struct box *b, const char *name, const char *text);

/* Bytes that differ from one place to the next; of malloc. */
uint8_t *pattern(size_t len, unsigned salt);

/* The file is this, through the file system and through the table. */
void check_file(struct box *b, const char *name, const void *bytes, size_t len);
void check_text(struct box *b, const char *name, const char *text);
bool is_there(const struct box *b, const char *name);

const char *path_of(const struct box *b, char out[128], const char *name);
size_t count_in(const char *dir);

#endif
