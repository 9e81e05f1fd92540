#include "nix_scan.h"

#include <stdbool.h>
#include <string.h>

enum { DEPTH_MAX = 16 };

/* The text, and where the scan is. */
struct scan {
  const char *text;
  size_t len, at;
};

/* A word (with its dots), a number, or one character; len 0 at the end. */
struct token {
  const char *text;
  size_t len;
};

static bool looking_at(const struct scan *s, const char *word) {
  size_t n = strlen(word);
  return s->len - s->at >= n && memcmp(s->text + s->at, word, n) == 0;
}

static bool word_start(char ch) {
  return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_';
}

static bool digit(char ch) {
  return ch >= '0' && ch <= '9';
}

static void skip_string(struct scan *s, unsigned depth);

/* True when a comment or space was passed. */
static bool skip_blank(struct scan *s) {
  if (s->at >= s->len) return false;
  char ch = s->text[s->at];
  if (ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r') {
    s->at++;
    return true;
  }
  if (ch == '#') {
    while (s->at < s->len && s->text[s->at] != '\n') s->at++;
    return true;
  }
  if (!looking_at(s, "/*")) return false;
  s->at += 2;
  while (s->at < s->len && !looking_at(s, "*/")) s->at++;
  s->at = s->at < s->len ? s->at + 2 : s->len;
  return true;
}

/* After "${" of a string: to behind its '}'. What is nested too deep ends the scan: nothing is found then. */
static void skip_interpolation(struct scan *s, unsigned depth) {
  unsigned braces = 1;
  if (depth >= DEPTH_MAX) s->at = s->len;
  while (s->at < s->len && braces > 0) {
    if (skip_blank(s)) continue;
    if (s->text[s->at] == '"' || looking_at(s, "''")) {
      skip_string(s, depth + 1);
      continue;
    }
    if (s->text[s->at] == '{') braces++;
    if (s->text[s->at] == '}') braces--;
    s->at++;
  }
}

/* At a quote: to behind the string. */
static void skip_string(struct scan *s, unsigned depth) {
  bool indented = s->text[s->at] != '"';
  s->at += indented ? 2 : 1;
  while (s->at < s->len) {
    if (looking_at(s, "${")) {
      s->at += 2;
      skip_interpolation(s, depth);
    } else if (looking_at(s, "$$") || (!indented && s->text[s->at] == '\\')) {
      s->at += 2;
    } else if (indented && (looking_at(s, "'''") || looking_at(s, "''$") || looking_at(s, "''\\"))) {
      s->at += s->text[s->at + 2] == '\\' ? 4 : 3;
    } else if (indented ? looking_at(s, "''") : s->text[s->at] == '"') {
      s->at += indented ? 2 : 1;
      return;
    } else {
      s->at++;
    }
  }
  if (s->at > s->len) s->at = s->len;
}

static struct token next(struct scan *s) {
  for (;;) {
    if (skip_blank(s)) continue;
    if (s->at >= s->len) return (struct token){0};
    if (s->text[s->at] != '"' && !looking_at(s, "''")) break;
    size_t from = s->at;
    skip_string(s, 0);
    return (struct token){s->text + from, 1}; /* its quote: a string is never what is looked for */
  }
  size_t from = s->at++;
  bool word = word_start(s->text[from]);
  if (word || digit(s->text[from])) {
    while (s->at < s->len) {
      char ch = s->text[s->at];
      bool more = word ? word_start(ch) || digit(ch) || ch == '-' || ch == '\'' || ch == '.' : digit(ch) || ch == '.';
      if (!more) break;
      s->at++;
    }
  }
  return (struct token){s->text + from, s->at - from};
}

static bool is(struct token token, const char *word) {
  return token.len == strlen(word) && memcmp(token.text, word, token.len) == 0;
}

static bool is_any(struct token token, const char *const *words) {
  for (; *words != NULL; words++)
    if (is(token, *words)) return true;
  return false;
}

static bool number_of(struct token token, uint64_t *out) {
  uint64_t value = 0;
  for (size_t i = 0; i < token.len; i++) {
    if (!digit(token.text[i])) return false;
    value = value * 10 + (uint64_t)(token.text[i] - '0');
    if (value > UINT32_MAX) value = UINT32_MAX;
  }
  *out = value;
  return token.len > 0;
}

/* Behind "mem =": a number and its semicolon, or something else. */
static void take_value(struct scan *s, struct cli_nix_value *value) {
  static const char *const wrappers[] = {"lib.mkDefault", "lib.mkForce", "mkDefault", "mkForce", NULL};
  uint64_t number = 0;
  struct scan ahead = *s;
  struct token token = next(&ahead);
  if (is(token, "=")) { /* a comparison */
    return;
  }
  if (is_any(token, wrappers)) token = next(&ahead);
  bool plain = number_of(token, &number) && is(next(&ahead), ";");
  bool differs = value->found == CLI_NIX_NUMBER && value->number != number;
  if (plain && value->found != CLI_NIX_UNCLEAR && !differs)
    *value = (struct cli_nix_value){CLI_NIX_NUMBER, number};
  else
    value->found = CLI_NIX_UNCLEAR;
}

void cli_nix_scan(const char *text, size_t len, struct cli_nix_size *out) {
  static const char *const mem[] = {"mem", "microvm.mem", NULL};
  static const char *const vcpu[] = {"vcpu", "microvm.vcpu", NULL};
  struct scan s = {.text = text, .len = len};
  *out = (struct cli_nix_size){0};
  for (struct token token = next(&s); token.len > 0; token = next(&s)) {
    struct cli_nix_value *value = is_any(token, mem) ? &out->mem : is_any(token, vcpu) ? &out->vcpu : NULL;
    if (value == NULL) continue;
    struct scan ahead = s;
    if (!is(next(&ahead), "=")) continue;
    s = ahead;
    take_value(&s, value);
  }
}
