#include "output.h"

#include <string.h>
#include <strings.h>
#include <yaml.h>

static bool put_node(yaml_emitter_t *emitter, const json_t *value);

/* Words that YAML 1.1 or 1.2 reads as something else than text. */
static bool is_word_of_yaml(const char *text) {
  static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcasecmp(words[i], text) == 0) return true;
  return false;
}

/* Only what begins with a letter cannot be taken for a number, a date or a null; the emitter itself sees to the rest.
 */
static yaml_scalar_style_t style_of(const char *text) {
  bool letter = (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z');
  if (strchr(text, '\n') != NULL) return YAML_LITERAL_SCALAR_STYLE;
  return letter && !is_word_of_yaml(text) ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE;
}

static bool put_scalar(yaml_emitter_t *emitter, const char *text, yaml_scalar_style_t style) {
  yaml_event_t event;
  return yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)(uintptr_t)text, (int)strlen(text), 1, 1,
                                      style) == 1 &&
         yaml_emitter_emit(emitter, &event) == 1;
}

static bool put_array(yaml_emitter_t *emitter, const json_t *array) {
  yaml_event_t event;
  yaml_sequence_style_t style = json_array_size(array) == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE;
  if (yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style) != 1) return false;
  if (yaml_emitter_emit(emitter, &event) != 1) return false;
  for (size_t i = 0; i < json_array_size(array); i++)
    if (!put_node(emitter, json_array_get(array, i))) return false;
  return yaml_sequence_end_event_initialize(&event) == 1 && yaml_emitter_emit(emitter, &event) == 1;
}

static bool put_object(yaml_emitter_t *emitter, const json_t *object) {
  yaml_event_t event;
  const char *key;
  json_t *value, *walked = (json_t *)(uintptr_t)object; /* jansson iterates over what it could change */
  yaml_mapping_style_t style = json_object_size(object) == 0 ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE;
  if (yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style) != 1) return false;
  if (yaml_emitter_emit(emitter, &event) != 1) return false;
  json_object_foreach(walked, key, value) {
    if (!put_scalar(emitter, key, style_of(key)) || !put_node(emitter, value)) return false;
  }
  return yaml_mapping_end_event_initialize(&event) == 1 && yaml_emitter_emit(emitter, &event) == 1;
}

static bool put_node(yaml_emitter_t *emitter, const json_t *value) {
  char number[64];
  switch (json_typeof(value)) {
  case JSON_OBJECT: return put_object(emitter, value);
  case JSON_ARRAY: return put_array(emitter, value);
  case JSON_STRING: return put_scalar(emitter, json_string_value(value), style_of(json_string_value(value)));
  case JSON_INTEGER:
    snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    return put_scalar(emitter, number, YAML_PLAIN_SCALAR_STYLE);
  case JSON_REAL:
    snprintf(number, sizeof number, "%.17g", json_real_value(value));
    return put_scalar(emitter, number, YAML_PLAIN_SCALAR_STYLE);
  case JSON_TRUE: return put_scalar(emitter, "true", YAML_PLAIN_SCALAR_STYLE);
  case JSON_FALSE: return put_scalar(emitter, "false", YAML_PLAIN_SCALAR_STYLE);
  case JSON_NULL: return put_scalar(emitter, "null", YAML_PLAIN_SCALAR_STYLE);
  }
  return false;
}

static bool put_stream(yaml_emitter_t *emitter, const json_t *document) {
  yaml_event_t event;
  if (yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) != 1) return false;
  if (yaml_emitter_emit(emitter, &event) != 1) return false;
  if (yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) != 1) return false;
  if (yaml_emitter_emit(emitter, &event) != 1) return false;
  if (!put_node(emitter, document)) return false;
  if (yaml_document_end_event_initialize(&event, 1) != 1 || yaml_emitter_emit(emitter, &event) != 1) return false;
  return yaml_stream_end_event_initialize(&event) == 1 && yaml_emitter_emit(emitter, &event) == 1;
}

bool cli_yaml_print(FILE *to, const json_t *document) {
  yaml_emitter_t emitter;
  if (yaml_emitter_initialize(&emitter) != 1) return false;
  yaml_emitter_set_output_file(&emitter, to);
  yaml_emitter_set_unicode(&emitter, 1);
  yaml_emitter_set_width(&emitter, -1);
  bool ok = put_stream(&emitter, document);
  yaml_emitter_delete(&emitter);
  return ok;
}
