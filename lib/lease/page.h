/* One page that a node's agent and its watchdog process (daemon/watchdog.c) have in common: a mapped file, so that the
 * process goes on by it when the daemon is gone, and a daemon that is started anew goes on with it. The agent says when
 * its highly available instances are to be dead; the process says that it looks.
 * Times are CLOCK_BOOTTIME, ms. Thread: any; each value is read and written whole. */
#ifndef BLX__LEASE_PAGE_H
#define BLX__LEASE_PAGE_H

#include "base/rc.h"

struct blx__lease_page;

enum {
  BLX__LEASE_TURN_MS = 50,     /* the process looks so often */
  BLX__LEASE_LOOKS_MS = 1000,  /* and is taken for standing still when it did not look for so long */
  BLX__LEASE_OWNER_MS = 30000, /* without a word of an agent for so long, and with nothing to watch, it ends */
};

/* Map @path, made with mode 0600 if it is missing; of a boot that is over it begins anew: nothing is to be alive.
 * Errors: IO, NOSPACE, DENIED, CORRUPT (something else is there: not touched), NOMEM. */
blx__rc blx__lease_page_open(const char *path, struct blx__lease_page **out, blx_error *err) BLX__MUST;
void blx__lease_page_close(struct blx__lease_page *page); /* NULL allowed; the file stays */

/* From this time on every process of the instances' control groups is killed. 0: at once, which is also what a new page
 * says. */
void blx__lease_page_set_kill_at(struct blx__lease_page *page, uint64_t boot_ms);
uint64_t blx__lease_page_kill_at(const struct blx__lease_page *page);

/* An agent has the page, and wants its process to stay; said once a second or so. */
void blx__lease_page_owned(struct blx__lease_page *page, uint64_t boot_ms);
uint64_t blx__lease_page_owned_at(const struct blx__lease_page *page);

/* Keep it in memory, so that looking at it never waits for a disk. False: not allowed. */
bool blx__lease_page_pin(struct blx__lease_page *page);

/* Take the process's place. Held until close. False: another process has it. */
bool blx__lease_page_take_watch(struct blx__lease_page *page);

/* The process's word: it has a device that resets the machine when it was not petted for so many seconds; 0: none. */
void blx__lease_page_set_device(struct blx__lease_page *page, uint64_t seconds);
uint64_t blx__lease_page_device_s(const struct blx__lease_page *page);

/* The process's word: it looked at this time; it found processes that it could not kill so far. */
void blx__lease_page_looked(struct blx__lease_page *page, uint64_t boot_ms, bool stuck);
/* Whether it has looked within BLX__LEASE_LOOKS_MS before @boot_ms, and nothing is stuck. */
bool blx__lease_page_watched(const struct blx__lease_page *page, uint64_t boot_ms);

/* CLOCK_BOOTTIME now. */
uint64_t blx__lease_boot_ms(void);

#endif
