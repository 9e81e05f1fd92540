#include "output.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATH_SIZE = 128, LINE_MAX_CHARS = 60 };

/* "{path:filter}", "{path?word}" or "{path!word}", taken apart. */
struct slot {
  char path[PATH_SIZE];
  char kind; /* 0, ':', '?' or '!' */
  char word[32];
};

static const json_t *label_value(const json_t *labels, const char *key) {
  for (size_t i = 0; i < json_array_size(labels); i++) {
    const char *own = json_string_value(json_object_get(json_array_get(labels, i), "key"));
    if (own != NULL && strcmp(own, key) == 0) return json_object_get(json_array_get(labels, i), "value");
  }
  return NULL;
}

const json_t *cli_path(const json_t *object, const char *path) {
  char key[PATH_SIZE];
  while (object != NULL && *path != '\0') {
    if (*path == '=') return label_value(object, path + 1);
    size_t n = strcspn(path, ".");
    if (n >= sizeof key) return NULL;
    memcpy(key, path, n);
    key[n] = '\0';
    object = json_object_get(object, key);
    path += n;
    path += *path == '.';
  }
  return object;
}

/* Control characters would break the table, or command the terminal. */
static void put_clean(FILE *to, const char *text) {
  for (; *text != '\0'; text++) fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, to);
}

static void put_plain(FILE *to, const json_t *value) {
  switch (json_typeof(value)) {
  case JSON_STRING: put_clean(to, json_string_value(value)); break;
  case JSON_INTEGER: fprintf(to, "%lld", (long long)json_integer_value(value)); break;
  case JSON_REAL: fprintf(to, "%g", json_real_value(value)); break;
  case JSON_TRUE: fputs("yes", to); break;
  case JSON_FALSE: fputs("no", to); break;
  case JSON_NULL:
  case JSON_OBJECT:
  case JSON_ARRAY: break;
  }
}

static bool is_some(const json_t *value) {
  if (json_is_string(value)) return *json_string_value(value) != '\0' && strcmp(json_string_value(value), "None") != 0;
  if (json_is_integer(value)) return json_integer_value(value) != 0;
  return !json_is_false(value) && !json_is_null(value);
}

static void put_line(FILE *to, const json_t *value) {
  const char *text = json_string_value(value);
  unsigned chars = 0;
  if (text == NULL) return;
  for (; *text != '\0' && *text != '\n'; text++) {
    if (((unsigned char)*text & 0xc0) != 0x80 && chars++ == LINE_MAX_CHARS) break;
    fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, to);
  }
  if (*text != '\0') fputs("...", to);
}

static void put_time(FILE *to, const json_t *value) {
  time_t seconds = (time_t)(json_integer_value(value) / 1000);
  struct tm utc;
  char text[32];
  if (!json_is_integer(value) || seconds <= 0 || gmtime_r(&seconds, &utc) == NULL) return;
  if (strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) > 0) fputs(text, to);
}

/* Cluster time against this machine's clock: good enough for people, and never negative. */
static void put_age(FILE *to, const json_t *value) {
  long long then = (long long)json_integer_value(value) / 1000, now = (long long)time(NULL);
  if (then <= 0) return;
  long long age = now > then ? now - then : 0;
  if (age < 120)
    fprintf(to, "%llds", age);
  else if (age < 7200)
    fprintf(to, "%lldm", age / 60);
  else if (age < 172800)
    fprintf(to, "%lldh", age / 3600);
  else
    fprintf(to, "%lldd", age / 86400);
}

/* A duration in ms, rounded up. */
static void put_span(FILE *to, const json_t *value) {
  long long ms = (long long)json_integer_value(value);
  if (ms > 0) fprintf(to, "%llds", (ms + 999) / 1000);
}

static void put_labels(FILE *to, const json_t *labels) {
  for (size_t i = 0; i < json_array_size(labels); i++) {
    const char *key = json_string_value(json_object_get(json_array_get(labels, i), "key"));
    const char *value = json_string_value(json_object_get(json_array_get(labels, i), "value"));
    if (i > 0) fputc(',', to);
    put_clean(to, key != NULL ? key : "");
    fputc('=', to);
    put_clean(to, value != NULL ? value : "");
  }
}

static void put_some(FILE *to, const json_t *value) {
  if (is_some(value)) put_plain(to, value);
}

/* Several lines stay several lines; the printer of fields indents them. */
static void put_text(FILE *to, const json_t *value) {
  const char *text = json_string_value(value);
  for (; text != NULL && *text != '\0'; text++)
    fputc(((unsigned char)*text < 0x20 && *text != '\n') || *text == 0x7f ? ' ' : *text, to);
}

static void put_names(FILE *to, const json_t *names) {
  for (size_t i = 0; i < json_array_size(names); i++) {
    if (i > 0) fputs(", ", to);
    put_plain(to, json_array_get(names, i));
  }
}

/* A limit: none is "-". Also where the field is absent; see put_value(). */
static void put_limit(FILE *to, const json_t *value) {
  if (json_is_integer(value))
    put_plain(to, value);
  else
    fputc('-', to);
}

static void put_count(FILE *to, const json_t *value) {
  fprintf(to, "%zu", json_array_size(value));
}

static const struct {
  const char *name;
  void (*put)(FILE *to, const json_t *value);
} filters[] = {
    {"", put_plain},
    {"age", put_age},
    {"time", put_time},
    {"line", put_line},
    {"some", put_some},
    {"labels", put_labels},
    {"text", put_text},
    {"count", put_count},
    {"names", put_names},
    {"span", put_span},
    {"limit", put_limit},
    {"milli", cli_show_milli},
    {"cpus", cli_show_cpus},
    {"amounts", cli_show_amounts},
    {"named", cli_show_named},
    {"load", cli_show_load},
    {"taints", cli_show_taints},
    {"tolerations", cli_show_tolerations},
    {"matches", cli_show_matches},
    {"affinity", cli_show_affinity},
    {"spread", cli_show_spread},
    {"strategies", cli_show_strategies},
    {"near", cli_show_near},
    {"data", cli_show_data},
    {"obstacles", cli_show_obstacles},
    {"parts", cli_show_parts},
    {"overcommit", cli_show_overcommit},
    {"distances", cli_show_distances},
};

static void put_value(FILE *to, const json_t *value, const struct slot *slot) {
  if (slot->kind == '?' || slot->kind == '!') {
    bool some = value != NULL && is_some(value);
    if (some == (slot->kind == '?')) fputs(slot->word, to);
    return;
  }
  if (value == NULL && strcmp(slot->word, "limit") == 0) put_limit(to, NULL);
  for (size_t i = 0; value != NULL && i < sizeof filters / sizeof filters[0]; i++)
    if (strcmp(filters[i].name, slot->word) == 0) filters[i].put(to, value);
}

static bool seen_before(const json_t *rows, size_t at, const char *path, const json_t *value) {
  for (size_t i = 0; i < at; i++)
    if (json_equal(cli_path(json_array_get(rows, i), path), value)) return true;
  return false;
}

/* "instances[].node": the distinct values, at most 8 of them. */
static void put_each(FILE *to, const json_t *object, struct slot *slot, char *brackets) {
  enum { SHOWN_MAX = 8 };
  unsigned shown = 0;
  *brackets = '\0';
  const char *path = brackets + 2 + (brackets[2] == '.');
  const json_t *rows = cli_path(object, slot->path);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *value = cli_path(json_array_get(rows, i), path);
    if (value == NULL || !is_some(value) || seen_before(rows, i, path, value)) continue;
    if (shown++ > 0) fputc(',', to);
    if (shown > SHOWN_MAX) {
      fputs("...", to);
      return;
    }
    put_value(to, value, slot);
  }
}

/* @text: after the '{'. Returns what follows the '}', or NULL if there is none. */
static const char *put_slot(FILE *to, const json_t *object, const char *text) {
  struct slot slot = {0};
  const char *end = strchr(text, '}');
  size_t n = strcspn(text, ":?!}");
  if (end == NULL || n >= sizeof slot.path) return NULL;
  memcpy(slot.path, text, n);
  size_t rest = (size_t)(end - text) - n;
  if (rest > 0 && rest <= sizeof slot.word) {
    slot.kind = text[n];
    memcpy(slot.word, text + n + 1, rest - 1);
  }
  char *brackets = strstr(slot.path, "[]");
  if (brackets != NULL)
    put_each(to, object, &slot, brackets);
  else
    put_value(to, cli_path(object, slot.path), &slot);
  return end + 1;
}

void cli_template_put(FILE *to, const json_t *object, const char *text) {
  while (text != NULL && *text != '\0') {
    if (*text == '{')
      text = put_slot(to, object, text + 1);
    else
      fputc(*text++, to);
  }
}

void cli_template_trim(char *text) {
  size_t n = strlen(text);
  while (n > 0 && (text[n - 1] == ',' || text[n - 1] == ' ')) text[--n] = '\0';
}

char *cli_template(const json_t *object, const char *text) {
  char *out = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&out, &size);
  if (to == NULL) return NULL;
  cli_template_put(to, object, text);
  if (fclose(to) != 0) {
    free(out);
    return NULL;
  }
  cli_template_trim(out);
  return out;
}
