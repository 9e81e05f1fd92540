/* What blixardd(8) can be told, by flags and by its file: one table for both, so that they cannot differ. */
#ifndef BLXD_CONFIG_H
#define BLXD_CONFIG_H

#include <blixard/blixard.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  DAEMON_LABELS_MAX = 64,
  DAEMON_NAMED_MAX = 32, /* named resources of a capacity */
  DAEMON_ROWS_MAX = 40,
  DAEMON_NAME_SIZE = 65,
  DAEMON_WHY_SIZE = 512,       /* room for a sentence on what is wrong */
  DAEMON_FINDINGS_MAX = 20,    /* told one by one; what is above is counted */
  DAEMON_FILE_MAX = 1 << 20,   /* bytes of a configuration file */
  DAEMON_DATA_DIR_MAX = 80,    /* bytes; as blixard/node.h says */
  DAEMON_PATHS_MAX = 1024,     /* bytes of a list of paths */
  DAEMON_PIN_MAX = 1024,       /* bytes of a flake reference */
  DAEMON_SOCKET_PATH_MAX = 107 /* bytes of a unix socket's path */
};

#define DAEMON_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

enum daemon_kind {
  DAEMON_PATH,     /* lo..hi bytes */
  DAEMON_PATHS,    /* absolute ones with ':' between, lo..hi bytes in all */
  DAEMON_NAME,     /* of a node */
  DAEMON_PIN,      /* a flake reference that says which revision */
  DAEMON_SWITCH,   /* a flag without a value; true or false */
  DAEMON_NUMBER,   /* lo..hi, of a unit */
  DAEMON_LEVEL,    /* of the log */
  DAEMON_CAPACITY, /* a record of two numbers, and amounts of named resources */
  DAEMON_LABELS,   /* a map of text to text */
  DAEMON_ORDER     /* of the command line only: what to do */
};

/* A setting. As a flag it is --name, as a key of the file name with '_' for '-'. */
struct daemon_row {
  const char *name;
  enum daemon_kind kind;
  size_t at; /* where in struct daemon_config its value lies; labels and capacity know theirs */
  uint64_t lo, hi;
  const char *unit;
  const char *value;  /* how help calls its value; NULL: none */
  const char *preset; /* value without any; NULL: what @without says */
  const char *without;
  const char *doc;
};

/* Where a value came from. */
struct daemon_source {
  enum { DAEMON_FROM_PRESET, DAEMON_FROM_FILE, DAEMON_FROM_FLAG } from;
  size_t line, column; /* in the file, from 1 */
};

/* What flags and file fill. Strings are argv's, or live as long as the process; @options points into the rest. */
struct daemon_config {
  struct blx_node_options options;
  struct blx_resources capacity;
  struct blx_amount named[DAEMON_NAMED_MAX];
  struct blx_amount *named_list[DAEMON_NAMED_MAX];
  char named_names[DAEMON_NAMED_MAX][DAEMON_NAME_SIZE];
  struct blx_label labels[DAEMON_LABELS_MAX];
  struct blx_label *label_list[DAEMON_LABELS_MAX];
  char hostname[DAEMON_NAME_SIZE];
  char socket[DAEMON_SOCKET_PATH_MAX + 1]; /* the one in the data directory */
  struct daemon_source sources[DAEMON_ROWS_MAX];
  const char *file;        /* the file that was read; NULL: none */
  const char *file_wanted; /* --config; NULL: the usual one, if it is there */
  bool check, print;       /* --check-config, --print-config */
  unsigned findings;       /* how much is wrong */
};

enum daemon_parsed {
  DAEMON_RUN,  /* go on */
  DAEMON_DONE, /* --help or --version was printed */
  DAEMON_BAD   /* standard error says why */
};

/* ---- blixardd_table.c */

extern const struct daemon_row daemon_rows[];
extern const size_t daemon_rows_count;

/* Each value as it is when nothing is told. */
void daemon_config_init(struct daemon_config *config);
/* What depends on other values: called when flags and file were read. */
void daemon_config_finish(struct daemon_config *config);
/* The row of a flag's name or, with @key, of a key; -1: none. */
int daemon_row_find(const char *name, bool key);
/* The flag or key that looks most like @name; NULL: none does. @out takes it. */
const char *daemon_row_nearest(const char *name, bool key, char out[DAEMON_NAME_SIZE]);
/* Whether its value is text, borrowed, that there may be none of. */
bool daemon_row_is_text(const struct daemon_row *row);
/* The name of a row as a key. */
const char *daemon_row_key(const struct daemon_row *row, char out[DAEMON_NAME_SIZE]);
/* What the row takes, for a sentence: "a whole number from 10 to 1000 (ms)". */
const char *daemon_row_allowed(const struct daemon_row *row, char out[DAEMON_WHY_SIZE]);

/* ---- blixardd_value.c */

/* Give a row of one value its value; text is borrowed. False: @why says what is wrong with it, and nothing is kept. */
bool daemon_set(struct daemon_config *config, const struct daemon_row *row, const char *text,
                char why[DAEMON_WHY_SIZE]);
/* The same for a part of a record or map: a number of the capacity, a label. */
bool daemon_set_part(struct daemon_config *config, const struct daemon_row *row, const char *part, const char *text,
                     char why[DAEMON_WHY_SIZE]);
/* Begin a record or map anew, and end it: false with @why when a part is missing. */
void daemon_set_begin(struct daemon_config *config, const struct daemon_row *row);
bool daemon_set_end(const struct daemon_config *config, const struct daemon_row *row, char why[DAEMON_WHY_SIZE]);

const char *daemon_level_name(int32_t level);

/* ---- the others, each in the file of its name */

/* Fill @config from the command line; what it does not say stays. */
enum daemon_parsed daemon_flags_parse(int argc, char **argv, struct daemon_config *config);
/* Fill what no flag said from the file; false when anything in it is wrong. Every fault is told on standard error. */
bool daemon_file_read(struct daemon_config *config);
/* What can be told of the whole without starting: a line on standard error for each finding. False: there are some. */
bool daemon_check(struct daemon_config *config);
/* What is looked at before a node is opened: what the library would find only when the node joins, and what it could
 * not trace to a line of the file. 0, or the exit status after a line on standard error. */
int daemon_check_start(struct daemon_config *config);
/* The configuration as a file, with where each value came from. */
void daemon_print(const struct daemon_config *config);

/* A line of what is wrong with the value of @row, where it was given: "FILE:3:1: key: " or "--flag: " in front. */
void daemon_find(struct daemon_config *config, const char *row, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
