/* Printing an answer: as JSON, YAML, names, tables or fields. All of it works on the JSON document of blx_to_json(), so
 * that a new field of a message needs nothing here, and a new column is one row. */
#ifndef BLX_CLI_OUTPUT_H
#define BLX_CLI_OUTPUT_H

#include "cli.h"

#include <jansson.h>
#include <stdio.h>

/* A column of a table, or a line of fields. @text: a template; "{path}" becomes the value there, a path being field
 * names with dots, "instances[].node" the distinct values in an array. After the path may stand one of
 * :age ms of cluster time, as how long ago; :time the same, as a date; :span ms, as seconds; :line first line, cut;
 * :some nothing when it is None, 0 or false; :labels k=v,k=v; :text several lines; :count length of an array;
 * :names a,b,c; what cli_show_...() of place_show.c is called; ?word word if it is some; !word word if it is not.
 * A trailing comma or space goes. Nothing left: "-" in a table, the line is left out among fields. */
struct cli_column {
  const char *title, *text;
};

enum cli_layout {
  CLI_TABLE,  /* a line for each object */
  CLI_FIELDS, /* a line for each field */
};

/* Some columns over the object itself (@rows NULL) or over each object of its array @rows. */
struct cli_block {
  enum cli_layout layout;
  const char *rows;
  const struct cli_column *columns;
  size_t n_columns;
};

/* How an answer is shown to people, and where its names are. */
struct cli_view {
  const char *kind;      /* "vm": what stands before a name in -o name */
  const char *name_rows; /* NULL: the object itself */
  const char *name_path;
  const struct cli_block *blocks;
  size_t n_blocks;
};

/* @message of the type @type as a document, the caller's. NULL: @status is set, and it was said why. */
json_t *cli_document(const char *type, const void *message, int *status);

/* Print @document as the command line asks. 0, or a status after saying why not. */
int cli_document_print(const struct cli_args *args, const json_t *document, const struct cli_view *view);

/* Print @message of the type @type (as for blx_to_json) as the command line asks. 0, or a status after saying why not.
 */
int cli_show(const struct cli_args *args, const char *type, const void *message, const struct cli_view *view);

/* Print what a change did: "vm/web created" unless a format was asked for, then like cli_show(). */
int cli_show_change(const struct cli_args *args, const char *type, const void *message, const struct cli_view *view,
                    const char *what);

/* A table that grows: its columns are as wide as what was printed so far needs. */
enum { CLI_COLUMNS_MAX = 32 };
struct cli_table {
  const struct cli_column *columns;
  size_t n_columns;
  bool headed; /* its heading was printed, or none is wanted */
  int widths[CLI_COLUMNS_MAX];
};

/* Print each element of the array @rows. False: out of memory, or it could not be written. */
bool cli_table_add(FILE *to, struct cli_table *table, const json_t *rows);

/* A template over @object; the result is the caller's to free. NULL: out of memory. */
char *cli_template(const json_t *object, const char *text);

/* The same into a stream, and what is left to do when it is text: commas and spaces at its end go. */
void cli_template_put(FILE *to, const json_t *object, const char *text);
void cli_template_trim(char *text);

/* What is at @path in @object, borrowed; NULL if nothing is. In an array of labels "=KEY" is the value of KEY. */
const json_t *cli_path(const json_t *object, const char *path);

/* Print blocks of @document. */
bool cli_blocks_print(FILE *to, const json_t *document, const struct cli_block *blocks, size_t n_blocks);

/* Filters of templates about placement (place_show.c). */
void cli_show_milli(FILE *to, const json_t *value);
void cli_show_cpus(FILE *to, const json_t *value);
void cli_show_amounts(FILE *to, const json_t *value);
void cli_show_named(FILE *to, const json_t *value);
void cli_show_load(FILE *to, const json_t *value);
void cli_show_taints(FILE *to, const json_t *value);
void cli_show_tolerations(FILE *to, const json_t *value);
void cli_show_matches(FILE *to, const json_t *value);
void cli_show_affinity(FILE *to, const json_t *value);
void cli_show_spread(FILE *to, const json_t *value);
void cli_show_strategies(FILE *to, const json_t *value);
void cli_show_near(FILE *to, const json_t *value);
void cli_show_data(FILE *to, const json_t *value);
void cli_show_obstacles(FILE *to, const json_t *value);
void cli_show_parts(FILE *to, const json_t *value);
void cli_show_overcommit(FILE *to, const json_t *value);
void cli_show_distances(FILE *to, const json_t *value);

/* Print @document as one YAML document. False: it could not be written. */
bool cli_yaml_print(FILE *to, const json_t *document);

#endif
