/* An instance's directory, as vms/web-1-7 in a directory of the test's own. */
#ifndef BLX_TESTS_HOST_SUPPORT_H
#define BLX_TESTS_HOST_SUPPORT_H

#include <stdbool.h>
#include <sys/types.h>

#define SHARE "booted/share/microvm"

struct place {
  char top[64];  /* the node's directory */
  char dir[128]; /* the instance's */
  int fd;        /* of it */
};

void place_open(struct place *p);
void place_close(struct place *p); /* with all that is below it */
/* Namespaces of networks and mounts of our own, with what udev makes of /dev/net/tun, and with their own /sys. */
void place_apart(const struct place *p);
void place_apart_end(void);

/* Paths below the instance's directory; directories above are made. */
void place_put(const struct place *p, const char *name, const char *text);
void place_dir(const struct place *p, const char *name);
/* The text of a file, at most @size - 1 bytes. */
void place_get(const struct place *p, const char *name, char *text, size_t size);
bool place_has(const struct place *p, const char *name);

#endif
