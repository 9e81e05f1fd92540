/* blixard-watchdog: ends a node's highly available instances when their lease is over, whether or not the daemon lives,
 * and resets the machine where it cannot. It holds all its memory, allocates nothing once it runs, and needs nothing
 * but the page that the agent writes (lib/lease/page.h) and the control groups. One thread. */
#ifndef BLX_WATCHDOG_H
#define BLX_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

enum { WATCHDOG_GROUPS_MAX = 4 };

/* ---- watchdog_kill.c */

/* Send SIGKILL to every process in the control group @dir and in those below it, version 1 or 2; frozen ones are
 * thawed. True: none was left when it looked last; a group that is not there has none. */
bool watchdog_kill(const char *dir);
/* True: no process is in @dir or below. */
bool watchdog_is_empty(const char *dir);

/* ---- watchdog_device.c: Linux's watchdog interface (Documentation/watchdog/watchdog-api.rst) */

/* Open @path and let it reset the machine unless petted within @timeout_s seconds. Negative: not possible, said on
 * standard error. */
int watchdog_device_open(const char *path, unsigned timeout_s);
void watchdog_device_pet(int fd);
/* The machine is not reset any more, where the driver allows that. */
void watchdog_device_release(int fd);

#endif
