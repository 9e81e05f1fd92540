/* Settings of placement, which are lists: their flags, and how they read. */
#ifndef BLX_CLI_CMD_SETTINGS_H
#define BLX_CLI_CMD_SETTINGS_H

#include "output.h"

/* Was one of their flags given? */
bool cli_settings_flags(const struct cli_args *args);

/* Put them into @change, a settings_change. 0, or CLI_EXIT_USAGE after saying what is wrong. */
int cli_settings_take(const struct cli_args *args, json_t *change);

/* Make @placement, of a change, whole by what @settings have. */
void cli_settings_complete(json_t *placement, const json_t *settings);

/* The list @key of @settings for people: a new string. */
json_t *cli_settings_list(const json_t *settings, const char *key);

#endif
