#include "api/api_int.h"

#include <stdlib.h>
#include <string.h>

enum { JSON_OUT_MAX = 1 << 30, JSON_ARENA = 64 << 20 };

static const struct blx__msg_desc *find(const char *type, blx_error *reterr) {
  const struct blx__msg_desc *desc = type ? blx__desc_find(type) : NULL;
  if (!desc)
    (void)blx__fail(reterr, BLX_E_INVALID, "client", "there is no message type \"%.64s\": see blixard/types.h",
                    type ? type : "");
  return desc;
}

static int to_json(const char *type, const void *message, unsigned flags, char **out, blx_error *reterr) {
  if (!message || !out) return blx__api_misuse(reterr, "the message or the place for the text is NULL");
  const struct blx__msg_desc *desc = find(type, reterr);
  if (!desc) return BLX_E_INVALID;
  struct blx__buf text;
  blx__buf_init(&text, JSON_OUT_MAX);
  blx__rc rc = blx__json_write(desc, message, BLX__JSON_DEFAULTS | flags, &text, reterr);
  if (rc.code == 0 && !blx__buf_cstr(&text)) rc = blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for the text");
  if (rc.code != 0) {
    blx__buf_free(&text);
    return rc.code;
  }
  *out = (char *)text.data; /* malloc'ed by the buffer; blx_string_free() gives it back */
  return 0;
}

int blx_to_json(const char *type, const void *message, char **out, blx_error *reterr) {
  return to_json(type, message, 0, out, reterr);
}

int blx_to_json_pretty(const char *type, const void *message, char **out, blx_error *reterr) {
  return to_json(type, message, BLX__JSON_PRETTY, out, reterr);
}

int blx_describe(const char *type, char **out, blx_error *reterr) {
  enum { DESCRIPTION_MAX = 1 << 20 };
  if (!out) return blx__api_misuse(reterr, "the place for the text is NULL");
  struct blx__buf text;
  blx__buf_init(&text, DESCRIPTION_MAX);
  blx__rc rc = blx__json_describe(type, &text, reterr);
  if (rc.code == 0 && !blx__buf_cstr(&text)) rc = blx__fail(reterr, BLX_E_NOMEM, "client", "no memory for the text");
  if (rc.code == 0)
    *out = (char *)text.data;
  else
    blx__buf_free(&text);
  return rc.code;
}

int blx_from_json(const char *type, const char *json, size_t json_len, void **out, blx_error *reterr) {
  if (!json || !out) return blx__api_misuse(reterr, "the text or the place for the message is NULL");
  const struct blx__msg_desc *desc = find(type, reterr);
  if (!desc) return BLX_E_INVALID;
  struct blx__arena arena = {.limit_bytes = JSON_ARENA};
  void *message = NULL, *owned = NULL;
  blx__rc rc = blx__json_read(desc, &arena, (struct blx__slice){(const uint8_t *)json, json_len}, &message, reterr);
  if (rc.code == 0) rc = blx__msg_own(desc, message, &owned, reterr);
  blx__arena_free(&arena);
  if (rc.code == 0) *out = owned;
  return rc.code;
}

void blx_message_free(void *message) {
  blx__msg_free_owned(message);
}

void blx_string_free(char *string) {
  free(string);
}
