/* From argv to struct cli_args, by the tables. */
#ifndef BLX_CLI_FLAGS_H
#define BLX_CLI_FLAGS_H

#include "cli.h"

/* Parse what follows group and verb: the verb's own flags, the global ones, words. Flags and words mix; "--" ends
 * flags. Returns 0, or CLI_EXIT_USAGE after saying what is wrong. With --help the number of words is not checked. */
int cli_flags_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_args *args);

/* A whole decimal number without sign, unit or space. False if it is none or outside lo..hi; @out then untouched. */
bool cli_parse_number(const char *text, uint64_t lo, uint64_t hi, uint64_t *out);

/* A duration: digits and one of ms, s, m, h. False if it is none or outside lo..hi ms; @out then untouched. */
bool cli_parse_duration(const char *text, uint64_t lo_ms, uint64_t hi_ms, uint64_t *out_ms);

#endif
