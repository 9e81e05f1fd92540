/* Points in time on the command line. */
#ifndef BLX_CLI_WHEN_H
#define BLX_CLI_WHEN_H

#include "cli.h"

/* ms since 1970 now. */
uint64_t cli_wall_ms(void);

/* @text is a time ago before @now_ms (10m, 1h30m, 2d) or an RFC 3339 time (2026-01-31T10:00:00Z). False: neither. */
bool cli_parse_when(const char *text, uint64_t now_ms, uint64_t *out_ms);

/* "2026-01-31T10:00:00.000Z" in UTC; "unknown" for 0. Returns @buf. */
enum { CLI_TIME_SIZE = 32 };
const char *cli_time_text(uint64_t ms, char buf[CLI_TIME_SIZE]);

#endif
