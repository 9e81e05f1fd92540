#include "blixardd_config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_KEY_MAX = 63, LABEL_VALUE_MAX = 253, SHOWN_MAX = 90 };

static const char *const levels[] = {"error", "warning", "info", "debug"};

/* The numbers of the capacity; 0 is what is not given yet. */
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

static size_t hex_len(const char *text) {
  return strspn(text, "0123456789abcdef");
}

/* Whether a part of the reference's query begins with @key and has @len characters of @set as its value. */
static bool has_pin(const char *query, const char *key, const char *set, size_t len) {
  for (const char *at = query; at != NULL && *at != '\0'; at = strchr(at + 1, '&')) {
    const char *value = at + 1 + strlen(key);
    if (strncmp(at + 1, key, strlen(key)) != 0) continue;
    size_t n = strspn(value, set);
    if (n >= len && (value[n] == '\0' || value[n] == '&')) return true;
  }
  return false;
}

/* A reference that moves would give each node, and each day, another guest. As nix/vm-template/wrap sees it. */
static bool is_pin(const char *text) {
  static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/%=";
  const char *query = strchr(text, '?'), *colon = strchr(text, ':');
  if (query != NULL && has_pin(query, "rev=", "0123456789abcdef", 40)) return true;
  if (query != NULL && has_pin(query, "narHash=sha256-", base64, 44)) return true;
  if (strncmp(text, "github:", 7) != 0 && strncmp(text, "gitlab:", 7) != 0 && strncmp(text, "sourcehut:", 10) != 0)
    return false;
  const char *owner_end = strchr(colon, '/'), *rev = owner_end != NULL ? strchr(owner_end + 1, '/') : NULL;
  return rev != NULL && hex_len(rev + 1) == 40 && (rev[41] == '\0' || rev[41] == '?');
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
  if (row->kind == DAEMON_PIN) ok = ok && is_pin(text);
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
  config->options.capacity = &config->capacity;
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
  snprintf(why, DAEMON_WHY_SIZE, "there is no \"%s\" in a capacity; it is made of vcpus and memory_mib",
           shown(part, cut));
  return false;
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
