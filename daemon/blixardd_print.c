#include "blixardd_config.h"

#include <stdio.h>
#include <string.h>

/* In double quotes, where only these two are anything else than themselves: a value has no control characters. */
static void put_text(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar(*text);
  }
  putchar('"');
}

static void put_source(const struct daemon_config *config, const struct daemon_source *source) {
  switch (source->from) {
  case DAEMON_FROM_PRESET: puts("  # default"); break;
  case DAEMON_FROM_FILE: printf("  # %s:%zu\n", config->file, source->line); break;
  case DAEMON_FROM_FLAG: puts("  # command line"); break;
  }
}

static void put_labels(const struct daemon_config *config, const struct daemon_source *source) {
  if (config->options.n_labels == 0)
    printf("label: {}");
  else
    printf("label:");
  put_source(config, source);
  for (size_t i = 0; i < config->options.n_labels; i++) {
    printf("  ");
    put_text(config->labels[i].key);
    printf(": ");
    put_text(config->labels[i].value);
    putchar('\n');
  }
}

static void put_capacity(const struct daemon_config *config, const struct daemon_source *source) {
  printf("capacity:");
  put_source(config, source);
  printf("  vcpus: %u\n  memory_mib: %llu\n", config->capacity.vcpus, (unsigned long long)config->capacity.memory_mib);
  for (size_t i = 0; i < config->capacity.n_named; i++) {
    printf("  ");
    put_text(config->named[i].name);
    printf(": %llu\n", (unsigned long long)config->named[i].amount);
  }
}

static void put_value(const struct daemon_config *config, const struct daemon_row *row, const char *key) {
  const void *at = (const char *)config + row->at;
  uint32_t number = 0;
  const char *text = NULL;
  printf("%s: ", key);
  if (daemon_row_is_text(row)) {
    memcpy(&text, at, sizeof text);
    put_text(text);
    return;
  }
  memcpy(&number, at, sizeof number);
  if (row->kind == DAEMON_SWITCH)
    printf("%s", number != 0 ? "true" : "false");
  else if (row->kind == DAEMON_LEVEL)
    printf("%s", daemon_level_name((int32_t)number));
  else
    printf("%u", number);
}

static bool has_value(const struct daemon_config *config, const struct daemon_row *row) {
  const char *text = NULL;
  if (row->kind == DAEMON_CAPACITY) return config->options.capacity != NULL;
  if (!daemon_row_is_text(row)) return true;
  memcpy(&text, (const char *)config + row->at, sizeof text);
  return text != NULL;
}

void daemon_print(const struct daemon_config *config) {
  char key[DAEMON_NAME_SIZE];
  for (size_t i = 0; i < daemon_rows_count; i++) {
    const struct daemon_row *row = &daemon_rows[i];
    if (row->kind == DAEMON_ORDER) continue;
    daemon_row_key(row, key);
    if (!has_value(config, row))
      printf("# %s: %s  # default\n", key, row->without);
    else if (row->kind == DAEMON_CAPACITY)
      put_capacity(config, &config->sources[i]);
    else if (row->kind == DAEMON_LABELS)
      put_labels(config, &config->sources[i]);
    else {
      put_value(config, row, key);
      put_source(config, &config->sources[i]);
    }
  }
}
