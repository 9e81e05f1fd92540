/* The configuration file: events of libyaml, checked against the table of the flags. */
#include "blixardd_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

enum { DEPTH_MAX = 8, TEXT_MAX = 4096 };

static const char usual_file[] = "/etc/blixard/blixardd.yaml";

struct reader {
  yaml_parser_t parser;
  yaml_event_t event;
  struct daemon_config *config;
  struct daemon_config *ignored; /* takes what a flag has set, so that it is checked all the same */
  size_t seen[DAEMON_ROWS_MAX];  /* line of each key; 0: not yet */
  const unsigned char *bytes;    /* the file */
  unsigned depth;
  bool stopped; /* nothing after this can be read */
};

static void tell(struct reader *r, yaml_mark_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void tell(struct reader *r, yaml_mark_t at, const char *fmt, ...) {
  char text[DAEMON_WHY_SIZE + 128];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (++r->config->findings > DAEMON_FINDINGS_MAX) return;
  fprintf(stderr, "%s:%zu:%zu: %s\n", r->config->file, at.line + 1, at.column + 1, text);
}

/* ---- events */

/* Bytes that are no text are found far ahead of what was read of them: libyaml says at which byte, not in which line.
 */
static yaml_mark_t place_of_byte(const unsigned char *bytes, size_t offset) {
  yaml_mark_t at = {.index = offset};
  for (size_t i = 0; i < offset; i++) {
    at.column++;
    if (bytes[i] != '\n') continue;
    at.line++;
    at.column = 0;
  }
  return at;
}

static void tell_syntax(struct reader *r) {
  const yaml_parser_t *p = &r->parser;
  const char *problem = p->problem != NULL ? p->problem : "out of memory";
  bool placed = p->error == YAML_SCANNER_ERROR || p->error == YAML_PARSER_ERROR;
  yaml_mark_t at = placed                          ? p->problem_mark
                   : p->error == YAML_READER_ERROR ? place_of_byte(r->bytes, p->problem_offset)
                                                   : p->mark;
  tell(r, at, "this is not YAML: %s%s%s", problem, placed && p->context != NULL ? ", " : "",
       placed && p->context != NULL ? p->context : "");
  r->stopped = true;
}

/* What the event has beside its value; the names of both lie at different places for each kind of node. */
static void refuse_extras(struct reader *r) {
  const yaml_event_t *e = &r->event;
  const yaml_char_t *anchor = NULL, *tag = NULL;
  if (e->type == YAML_SCALAR_EVENT) anchor = e->data.scalar.anchor, tag = e->data.scalar.tag;
  if (e->type == YAML_SEQUENCE_START_EVENT) anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag;
  if (e->type == YAML_MAPPING_START_EVENT) anchor = e->data.mapping_start.anchor, tag = e->data.mapping_start.tag;
  if (anchor != NULL || e->type == YAML_ALIAS_EVENT)
    tell(r, e->start_mark, "anchors and aliases are not taken: write the value out");
  if (tag != NULL) tell(r, e->start_mark, "tags are not taken: leave \"%.60s\" out", (const char *)tag);
}

/* The next event; false when there is none that could be read. */
static bool next(struct reader *r) {
  yaml_event_delete(&r->event);
  if (r->stopped) return false;
  if (yaml_parser_parse(&r->parser, &r->event) != 1) {
    tell_syntax(r);
    return false;
  }
  yaml_event_type_t type = r->event.type;
  if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT) r->depth++;
  if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT) r->depth--;
  refuse_extras(r);
  if (r->depth <= DEPTH_MAX) return true;
  tell(r, r->event.start_mark, "nested deeper than %d: nothing here is", DEPTH_MAX);
  r->stopped = true;
  return false;
}

/* Pass over the node that begins with the current event. */
static bool skip(struct reader *r) {
  bool inner = r->event.type == YAML_MAPPING_START_EVENT || r->event.type == YAML_SEQUENCE_START_EVENT;
  unsigned outside = inner ? r->depth - 1 : r->depth;
  while (r->depth > outside)
    if (!next(r)) return false;
  return true;
}

/* ---- values */

static const char *kind_of(const yaml_event_t *e) {
  return e->type == YAML_MAPPING_START_EVENT ? "a mapping" : e->type == YAML_SEQUENCE_START_EVENT ? "a list" : "text";
}

static bool is_null(const yaml_event_t *e) {
  const char *text = (const char *)e->data.scalar.value;
  if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
  return *text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* The text of a scalar, copied to @out; NULL after telling why it is none. */
static const char *scalar_text(struct reader *r, const char *key, const char *allowed, char out[TEXT_MAX + 1]) {
  const yaml_event_t *e = &r->event;
  if (e->type == YAML_ALIAS_EVENT) return NULL; /* was told */
  if (e->type != YAML_SCALAR_EVENT) {
    tell(r, e->start_mark, "%s: this is %s, not %s", key, kind_of(e), allowed);
    return NULL;
  }
  if (is_null(e)) {
    tell(r, e->start_mark, "%s: has no value; give %s, or leave the key out", key, allowed);
    return NULL;
  }
  size_t n = e->data.scalar.length;
  if (n > TEXT_MAX || memchr(e->data.scalar.value, '\0', n) != NULL) {
    tell(r, e->start_mark, "%s: %s", key, n > TEXT_MAX ? "is longer than 4096 bytes" : "holds a byte of value 0");
    return NULL;
  }
  memcpy(out, e->data.scalar.value, n);
  out[n] = '\0';
  return out;
}

/* A number in quotes is text, for every other reader of the file as well. */
static bool is_typed(enum daemon_kind kind, const yaml_event_t *e) {
  bool typed = kind == DAEMON_NUMBER || kind == DAEMON_SWITCH || kind == DAEMON_CAPACITY;
  return !typed || e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* A value that was taken lives on: the table borrows it. Numbers are not borrowed. */
static bool take(struct daemon_config *into, const struct daemon_row *row, const char *text,
                 char why[DAEMON_WHY_SIZE]) {
  bool borrowed = daemon_row_is_text(row);
  char *copy = strdup(text);
  snprintf(why, DAEMON_WHY_SIZE, "out of memory");
  bool ok = copy != NULL && daemon_set(into, row, copy, why);
  if (!ok || !borrowed) free(copy);
  return ok;
}

static bool take_part(struct daemon_config *into, const struct daemon_row *row, const char *part, const char *text,
                      char why[DAEMON_WHY_SIZE]) {
  char *key = strdup(part), *value = strdup(text);
  snprintf(why, DAEMON_WHY_SIZE, "out of memory");
  bool ok = key != NULL && value != NULL && daemon_set_part(into, row, key, value, why);
  if (!ok || row->kind != DAEMON_LABELS) {
    free(key);
    free(value);
  }
  return ok;
}

static bool read_single(struct reader *r, const struct daemon_row *row, struct daemon_config *into, const char *key) {
  char text[TEXT_MAX + 1], why[DAEMON_WHY_SIZE], allowed[DAEMON_WHY_SIZE];
  yaml_mark_t at = r->event.start_mark;
  daemon_row_allowed(row, allowed);
  if (scalar_text(r, key, allowed, text) == NULL) return skip(r);
  if (!is_typed(row->kind, &r->event))
    tell(r, at, "%s: \"%.60s\" in quotes is text, not %s", key, text, allowed);
  else if (!take(into, row, text, why))
    tell(r, at, "%s: %s", key, why);
  else if (row->kind == DAEMON_PATH && text[0] != '/' && strncmp(text, "unix:/", 6) != 0)
    tell(r, at, "%s: \"%.60s\" is relative, which in a file says nothing: begin with /", key, text);
  return true;
}

/* One pair of a record or map; a mapping's end has been looked for. */
static bool read_pair(struct reader *r, const struct daemon_row *row, struct daemon_config *into, const char *key) {
  char part[TEXT_MAX + 1], text[TEXT_MAX + 1], why[DAEMON_WHY_SIZE], path[DAEMON_WHY_SIZE];
  yaml_mark_t at = r->event.start_mark;
  const char *allowed = row->kind == DAEMON_LABELS ? "text" : "a whole number";
  bool ok = scalar_text(r, key, "a word", part) != NULL;
  if (!skip(r) || !next(r)) return false;
  if (!ok) return skip(r);
  snprintf(path, sizeof path, "%.64s.%.100s", key, part);
  if (scalar_text(r, path, allowed, text) == NULL) return skip(r);
  if (row->kind == DAEMON_CAPACITY && strcmp(part, "vcpus") == 0 && into->capacity.vcpus != 0)
    tell(r, at, "%s is given twice", path);
  else if (row->kind == DAEMON_CAPACITY && strcmp(part, "memory_mib") == 0 && into->capacity.memory_mib != 0)
    tell(r, at, "%s is given twice", path);
  else if (!is_typed(row->kind, &r->event))
    tell(r, r->event.start_mark, "%s: \"%.60s\" in quotes is text, not %s", path, text, allowed);
  else if (!take_part(into, row, part, text, why))
    tell(r, at, "%s: %s", key, why);
  return true;
}

static bool read_pairs(struct reader *r, const struct daemon_row *row, struct daemon_config *into, const char *key) {
  char why[DAEMON_WHY_SIZE];
  yaml_mark_t at = r->event.start_mark;
  const char *written = row->kind == DAEMON_LABELS ? "{KEY: VALUE}" : "{vcpus: N, memory_mib: N}";
  unsigned before = r->config->findings;
  if (r->event.type != YAML_MAPPING_START_EVENT) {
    if (r->event.type != YAML_ALIAS_EVENT) tell(r, at, "%s: this is %s; write %s", key, kind_of(&r->event), written);
    return skip(r);
  }
  daemon_set_begin(into, row);
  while (next(r) && r->event.type != YAML_MAPPING_END_EVENT)
    if (!read_pair(r, row, into, key)) return false;
  if (r->stopped) return false;
  if (r->config->findings == before && !daemon_set_end(into, row, why)) tell(r, at, "%s: %s", key, why);
  return true;
}

/* ---- the file */

static void tell_unknown(struct reader *r, yaml_mark_t at, const char *key) {
  char near[DAEMON_NAME_SIZE];
  int order = daemon_row_find(key, false);
  if (daemon_row_nearest(key, true, near) != NULL)
    tell(r, at, "there is no key \"%.60s\"; the nearest is %s", key, near);
  else if (order >= 0 && daemon_rows[order].kind == DAEMON_ORDER)
    tell(r, at, "\"%.60s\" is for the command line only", key);
  else
    tell(r, at, "there is no key \"%.60s\"; `blixardd --help` has them all, as flags", key);
}

/* A key and its value. */
static bool read_entry(struct reader *r) {
  char key[TEXT_MAX + 1];
  yaml_mark_t at = r->event.start_mark;
  bool ok = scalar_text(r, "a key", "a word", key) != NULL;
  if (!skip(r) || !next(r)) return false;
  if (!ok) return skip(r);
  int index = daemon_row_find(key, true);
  if (index < 0) {
    tell_unknown(r, at, key);
    return skip(r);
  }
  if (r->seen[index] != 0) {
    tell(r, at, "%s is given twice, in line %zu first: keep one", key, r->seen[index]);
    return skip(r);
  }
  r->seen[index] = at.line + 1;
  const struct daemon_row *row = &daemon_rows[index];
  struct daemon_source *source = &r->config->sources[index];
  bool flagged = source->from == DAEMON_FROM_FLAG;
  struct daemon_config *into = flagged ? r->ignored : r->config;
  if (!flagged) *source = (struct daemon_source){DAEMON_FROM_FILE, at.line + 1, at.column + 1};
  if (row->kind == DAEMON_CAPACITY || row->kind == DAEMON_LABELS) return read_pairs(r, row, into, key);
  return read_single(r, row, into, key);
}

static void read_document(struct reader *r) {
  if (!next(r)) return;
  yaml_event_type_t type = r->event.type;
  if (type == YAML_MAPPING_START_EVENT) {
    while (next(r) && r->event.type != YAML_MAPPING_END_EVENT)
      if (!read_entry(r)) return;
  } else if (type != YAML_SCALAR_EVENT || !is_null(&r->event)) {
    tell(r, r->event.start_mark, "this is %s; the file is a mapping, KEY: VALUE in each line", kind_of(&r->event));
    if (!skip(r)) return;
  }
  if (r->stopped || !next(r) || !next(r)) return; /* its end, and what follows */
  if (r->event.type != YAML_STREAM_END_EVENT)
    tell(r, r->event.start_mark, "a second document begins here; one is all there may be");
}

static bool parse(struct daemon_config *config, const unsigned char *bytes, size_t size) {
  static struct daemon_config ignored; /* large for a stack */
  struct reader r = {.config = config, .ignored = &ignored, .bytes = bytes};
  ignored = (struct daemon_config){.options = BLX_NODE_OPTIONS_INIT};
  if (yaml_parser_initialize(&r.parser) != 1) {
    fputs("blixardd: out of memory [NOMEM]\n", stderr);
    return false;
  }
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.parser, bytes, size);
  if (next(&r) && next(&r) && r.event.type == YAML_DOCUMENT_START_EVENT) read_document(&r);
  yaml_event_delete(&r.event);
  yaml_parser_delete(&r.parser);
  return config->findings == 0;
}

static bool refuse_file(struct daemon_config *config, const char *why) {
  config->findings++;
  fprintf(stderr, "blixardd: --config: %s %s [INVALID]\n", config->file, why);
  return false;
}

static bool refuse_unread(struct daemon_config *config, int why) {
  char text[128];
  snprintf(text, sizeof text, "cannot be read: %s", strerror(why));
  return refuse_file(config, text);
}

/* Who may write the file decides which programs root runs. */
static bool may_be_trusted(const struct stat *st) {
  return (st->st_mode & (S_IWGRP | S_IWOTH)) == 0 && (st->st_uid == 0 || st->st_uid == geteuid());
}

static bool read_open(struct daemon_config *config, int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return refuse_unread(config, errno);
  if (!S_ISREG(st.st_mode)) return refuse_file(config, "is not a regular file");
  if (!may_be_trusted(&st))
    return refuse_file(config,
                       "may be written by others than its owner, or is another user's: run chown and chmod 0644");
  if (st.st_size > DAEMON_FILE_MAX) return refuse_file(config, "is longer than 1 MiB");
  unsigned char *bytes = malloc(DAEMON_FILE_MAX + 1);
  if (bytes == NULL) return refuse_file(config, "cannot be read: out of memory");
  size_t size = 0;
  ssize_t n = 1;
  while (n > 0 && size <= DAEMON_FILE_MAX) {
    n = read(fd, bytes + size, DAEMON_FILE_MAX + 1 - size);
    if (n < 0 && errno == EINTR)
      n = 1;
    else if (n > 0)
      size += (size_t)n;
  }
  bool ok = n < 0                    ? refuse_unread(config, errno)
            : size > DAEMON_FILE_MAX ? refuse_file(config, "is longer than 1 MiB")
                                     : parse(config, bytes, size);
  free(bytes);
  return ok;
}

bool daemon_file_read(struct daemon_config *config) {
  config->file = config->file_wanted != NULL ? config->file_wanted : usual_file;
  int fd = open(config->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && errno == ENOENT && config->file_wanted == NULL) {
    config->file = NULL;
    return true;
  }
  if (fd < 0) return refuse_unread(config, errno);
  bool ok = read_open(config, fd);
  close(fd);
  return ok;
}
