#include "blixardd_config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_KEY_MAX = 63, LABEL_VALUE_MAX = 253, RESOURCE_NAME_MAX = 63, SHOWN_MAX = 90 };
#define AMOUNT_MAX ((uint64_t)1 << 40) /* as in the schema: what has no measure */

static const char *const levels[] = {"error", "warning", "info", "debug"};

/* The numbers of the capacity; 0 is what is not given yet. What has another name is a named resource. */
static const struct {
  const char *name;
  uint64_t lo, hi;
} parts[] = {{"vcpus", 1, 65536}, {"memory_mib", 32, 1073741824}};

const char *daemon_level_name(int32_t level) {
  return level >= 0 && level <= BLX_LOG_DEBUG ? levels[level] : levels[BLX_LOG_DEBUG];
}

static bool parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out) {
  char *end = NULL;
  if (!isdigit((unsigned char)*text)) return false;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || value < lo || value > hi) return false;
  *out = value;
  return true;
}

/* Text of one line: nothing in it may move a terminal's or a log's line. */
static bool is_line(const char *text, size_t lo, size_t hi) {
  size_t n = strlen(text);
  for (size_t i = 0; i < n; i++)
    if (iscntrl((unsigned char)text[i])) return false;
  return n >= lo && n <= hi;
}

static bool is_name(const char *text, size_t most) {
  size_t n = strlen(text);
  if (n == 0 || n > most || text[0] == '-' || text[n - 1] == '-') return false;
  return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* The text as an error shows it: cut, and of one line. */
static const char *shown(const char *text, char out[SHOWN_MAX + 4]) {
  size_t n = strlen(text), kept = n <= SHOWN_MAX ? n : SHOWN_MAX;
  while (kept < n && kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80) kept--;
  for (size_t i = 0; i < kept; i++) out[i] = iscntrl((unsigned char)text[i]) ? '?' : text[i];
  snprintf(out + kept, 4, "%s", kept < n ? "..." : "");
  return out;
}

static bool refuse(const struct daemon_row *row, const char *text, char why[DAEMON_WHY_SIZE]) {
  char allowed[DAEMON_WHY_SIZE], cut[SHOWN_MAX + 4];
  snprintf(why, DAEMON_WHY_SIZE, "\"%s\" is not %.380s", shown(text, cut), daemon_row_allowed(row, allowed));
  return false;
}

/* Each begins with /; none is empty. */
static bool is_paths(const char *text) {
  if (text[0] != '/') return false;
  for (const char *at = strchr(text, ':'); at != NULL; at = strchr(at + 1, ':'))
    if (at[1] != '/') return false;
  return true;
}

static bool set_text(struct daemon_config *config, const struct daemon_row *row, const char *text,
                     char why[DAEMON_WHY_SIZE]) {
  const char **to = (const char **)(void *)((char *)config + row->at);
  /* An address as `blixard` prints it is a path, too. */
  if (row->at == offsetof(struct daemon_config, options.socket_path) && strncmp(text, "unix:", 5) == 0) text += 5;
  bool ok = row->kind == DAEMON_NAME ? is_name(text, row->hi) : is_line(text, row->lo, row->hi);
  if (row->kind == DAEMON_PIN) ok = ok && blx_flake_ref_is_pinned(text) != 0;
  if (row->kind == DAEMON_PATHS) ok = ok && is_paths(text);
  if (!ok) return refuse(row, text, why);
  *to = text;
  return true;
}

bool daemon_set(struct daemon_config *config, const struct daemon_row *row, const char *text,
                char why[DAEMON_WHY_SIZE]) {
  uint32_t *to = (uint32_t *)(void *)((char *)config + row->at);
  uint64_t number = 0;
  switch (row->kind) {
  case DAEMON_PATH:
  case DAEMON_PATHS:
  case DAEMON_NAME:
  case DAEMON_PIN: return set_text(config, row, text, why);
  case DAEMON_NUMBER:
    if (!parse_u64(text, row->lo, row->hi, &number)) return refuse(row, text, why);
    break;
  case DAEMON_SWITCH:
    number = strcmp(text, "true") == 0;
    if (number == 0 && strcmp(text, "false") != 0) return refuse(row, text, why);
    break;
  case DAEMON_LEVEL:
    while (number < DAEMON_COUNT(levels) && strcmp(levels[number], text) != 0) number++;
    if (number == DAEMON_COUNT(levels)) return refuse(row, text, why);
    break;
  case DAEMON_CAPACITY:
  case DAEMON_LABELS:
  case DAEMON_ORDER: return refuse(row, text, why);
  }
  *to = (uint32_t)number;
  return true;
}

void daemon_set_begin(struct daemon_config *config, const struct daemon_row *row) {
  if (row->kind == DAEMON_LABELS) {
    config->options.n_labels = 0;
    return;
  }
  config->capacity = (struct blx_resources)BLX_RESOURCES_INIT;
  config->capacity.named = config->named_list;
  config->options.capacity = &config->capacity;
}

/* A whole number; of a disk, or whatever is measured so, with MiB, GiB or TiB behind it; or that it has no measure. */
static bool parse_amount(const char *text, uint64_t *out) {
  static const struct {
    const char *unit;
    uint64_t times;
  } units[] = {{"", 1}, {"MiB", 1}, {"GiB", 1024}, {"TiB", 1024 * 1024}};
  size_t digits = strspn(text, "0123456789");
  char number[32];
  if (strcmp(text, "shared") == 0) {
    *out = AMOUNT_MAX;
    return true;
  }
  if (digits == 0 || digits >= sizeof number) return false;
  memcpy(number, text, digits);
  number[digits] = '\0';
  for (size_t i = 0; i < DAEMON_COUNT(units); i++) {
    if (strcmp(text + digits, units[i].unit) != 0) continue;
    if (!parse_u64(number, 0, AMOUNT_MAX / units[i].times, out)) return false;
    *out *= units[i].times;
    return true;
  }
  return false;
}

static bool set_named(struct daemon_config *config, const char *name, const char *text, char why[DAEMON_WHY_SIZE]) {
  char cut[SHOWN_MAX + 4];
  size_t n = config->capacity.n_named;
  uint64_t amount = 0;
  for (size_t i = 0; i < n; i++) {
    if (strcmp(config->named_names[i], name) != 0) continue;
    snprintf(why, DAEMON_WHY_SIZE, "\"%s\" is given twice", shown(name, cut));
    return false;
  }
  if (n == DAEMON_NAMED_MAX || !is_line(name, 1, RESOURCE_NAME_MAX) || strpbrk(name, " ,=") != NULL) {
    snprintf(why, DAEMON_WHY_SIZE, "\"%s\" is not a named resource: at most %d, of 1 to %d bytes without blanks",
             shown(name, cut), DAEMON_NAMED_MAX, RESOURCE_NAME_MAX);
    return false;
  }
  if (!parse_amount(text, &amount)) {
    snprintf(why, DAEMON_WHY_SIZE,
             "%s: \"%s\" is not an amount: a whole number, which MiB, GiB or TiB may follow, or "
             "shared",
             name, shown(text, cut));
    return false;
  }
  snprintf(config->named_names[n], sizeof config->named_names[n], "%s", name);
  config->named[n] = (struct blx_amount)BLX_AMOUNT_INIT;
  config->named[n].name = config->named_names[n];
  config->named[n].amount = amount;
  config->named_list[n] = &config->named[n];
  config->capacity.n_named = n + 1;
  return true;
}

static bool set_capacity(struct daemon_config *config, const char *part, const char *text, char why[DAEMON_WHY_SIZE]) {
  char cut[SHOWN_MAX + 4];
  for (size_t i = 0; i < DAEMON_COUNT(parts); i++) {
    uint64_t number = 0;
    if (strcmp(parts[i].name, part) != 0) continue;
    if (!parse_u64(text, parts[i].lo, parts[i].hi, &number)) {
      snprintf(why, DAEMON_WHY_SIZE, "%s: \"%s\" is not a whole number from %llu to %llu", part, shown(text, cut),
               (unsigned long long)parts[i].lo, (unsigned long long)parts[i].hi);
      return false;
    }
    if (i == 0)
      config->capacity.vcpus = (uint32_t)number;
    else
      config->capacity.memory_mib = number;
    return true;
  }
  return set_named(config, part, text, why);
}

static bool set_label(struct daemon_config *config, const char *key, const char *text, char why[DAEMON_WHY_SIZE]) {
  char cut[SHOWN_MAX + 4];
  size_t n = config->options.n_labels;
  for (size_t i = 0; i < n; i++) {
    if (strcmp(config->labels[i].key, key) != 0) continue;
    snprintf(why, DAEMON_WHY_SIZE, "the label \"%s\" is given twice", shown(key, cut));
    return false;
  }
  if (n == DAEMON_LABELS_MAX || !is_line(key, 1, LABEL_KEY_MAX) || !is_line(text, 0, LABEL_VALUE_MAX)) {
    snprintf(why, DAEMON_WHY_SIZE, "\"%s\" is not a label: at most %d, a key of 1 to %d bytes, a value of at most %d",
             shown(key, cut), DAEMON_LABELS_MAX, LABEL_KEY_MAX, LABEL_VALUE_MAX);
    return false;
  }
  config->labels[n] = (struct blx_label)BLX_LABEL_INIT;
  config->labels[n].key = key;
  config->labels[n].value = text;
  config->label_list[n] = &config->labels[n];
  config->options.n_labels = n + 1;
  return true;
}

bool daemon_set_part(struct daemon_config *config, const struct daemon_row *row, const char *part, const char *text,
                     char why[DAEMON_WHY_SIZE]) {
  return row->kind == DAEMON_LABELS ? set_label(config, part, text, why) : set_capacity(config, part, text, why);
}

bool daemon_set_end(const struct daemon_config *config, const struct daemon_row *row, char why[DAEMON_WHY_SIZE]) {
  if (row->kind == DAEMON_LABELS || (config->capacity.vcpus != 0 && config->capacity.memory_mib != 0)) return true;
  snprintf(why, DAEMON_WHY_SIZE, "%s is missing: a capacity is made of vcpus and memory_mib",
           config->capacity.vcpus == 0 ? "vcpus" : "memory_mib");
  return false;
}
