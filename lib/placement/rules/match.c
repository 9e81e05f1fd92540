/* Labels of nodes and VMs, and conditions on them. */
#include "placement/feasible.h"

const char *blx__placement_label(const struct blx__placement_node *node, const char *key) {
  for (size_t i = 0; i < node->n_labels; i++) {
    const struct blx_label *l = node->labels[i];
    if (blx__str_eq(l->key, key)) return l->value ? l->value : "";
  }
  return blx__str_eq(key, "host") || blx__str_eq(key, "node.name") ? node->name : NULL;
}

const char *blx__placement_domain(const struct blx__placement_node *node, const char *level) {
  const char *value = blx__placement_label(node, level && level[0] ? level : "host");
  return value ? value : "";
}

/* A whole number, with a sign or without one. False: it is none, or too large. */
static bool number_of(const char *text, int64_t *out) {
  bool below = text && text[0] == '-';
  uint64_t n = 0;
  if (!text || !blx__parse_u64(text + below, 0, INT64_MAX, &n)) return false;
  *out = below ? -(int64_t)n : (int64_t)n;
  return true;
}

static bool among(const char *value, const struct blx_node_match *m) {
  for (size_t i = 0; i < m->n_values; i++) {
    if (blx__str_eq(value, m->values[i] ? m->values[i] : "")) return true;
  }
  return false;
}

static bool compares(const char *value, const struct blx_node_match *m) {
  int64_t has = 0, wanted = 0;
  if (m->n_values == 0 || !number_of(value, &has) || !number_of(m->values[0], &wanted)) return false;
  return m->op == BLX_MATCH_OP_GREATER ? has > wanted : has < wanted;
}

bool blx__placement_matches(const struct blx__placement_node *node, const struct blx_node_match *m) {
  const char *value = blx__placement_label(node, m->key);
  switch ((enum blx_match_op)m->op) {
  case BLX_MATCH_OP_IN: return value && among(value, m);
  case BLX_MATCH_OP_NOT_IN: return !value || !among(value, m);
  case BLX_MATCH_OP_EXISTS: return value != NULL;
  case BLX_MATCH_OP_NOT_EXISTS: return value == NULL;
  case BLX_MATCH_OP_GREATER:
  case BLX_MATCH_OP_LESS: return value && compares(value, m);
  case BLX_MATCH_OP_WIDTH_: break;
  }
  return false;
}

bool blx__placement_selects(struct blx_label *const *selector, size_t n, struct blx_label *const *labels,
                            size_t n_labels) {
  for (size_t i = 0; i < n; i++) {
    size_t at = 0;
    while (at < n_labels &&
           !(blx__str_eq(labels[at]->key, selector[i]->key) &&
             blx__str_eq(labels[at]->value ? labels[at]->value : "", selector[i]->value ? selector[i]->value : "")))
      at++;
    if (at == n_labels) return false;
  }
  return true;
}
