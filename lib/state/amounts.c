/* Sums of named resources: few names each, kept by name and without zeros, so that equal sums look alike. */
#include "state/state_int.h"

#include <stdlib.h>
#include <string.h>

/* Where @name is, or would be. */
static size_t place_of(const struct state_amounts *a, const char *name, bool *found) {
  size_t at = 0;
  while (at < a->n && strcmp(a->list[at].name, name) < 0) at++;
  *found = at < a->n && strcmp(a->list[at].name, name) == 0;
  return at;
}

uint64_t blx__state_amount(const struct state_amounts *a, const char *name) {
  bool found;
  size_t at = place_of(a, name ? name : "", &found);
  return found ? a->list[at].amount : 0;
}

static void add(struct state_amounts *a, const char *name, uint64_t amount) {
  bool found;
  size_t at = place_of(a, name, &found);
  if (found) {
    a->list[at].amount += amount;
    return;
  }
  if (a->n == a->room) {
    a->room = a->room ? 2 * a->room : 4;
    a->list = reallocarray(a->list, a->room, sizeof *a->list);
    STATE_MUST(a->list != NULL);
  }
  memmove(&a->list[at + 1], &a->list[at], (a->n - at) * sizeof *a->list);
  a->n++;
  a->list[at] = (struct state_amount){strdup(name), amount};
  STATE_MUST(a->list[at].name != NULL);
}

static void take(struct state_amounts *a, const char *name, uint64_t amount) {
  bool found;
  size_t at = place_of(a, name, &found);
  BLX__ASSERT(found);
  a->list[at].amount -= amount;
  if (a->list[at].amount != 0) return;
  free(a->list[at].name);
  a->n--;
  memmove(&a->list[at], &a->list[at + 1], (a->n - at) * sizeof *a->list);
}

void blx__state_amounts_count(struct state_amounts *a, struct blx_amount *const *list, size_t n, bool in) {
  for (size_t i = 0; i < n; i++) {
    const char *name = list[i]->name ? list[i]->name : "";
    if (list[i]->amount == 0) continue;
    if (in)
      add(a, name, list[i]->amount);
    else
      take(a, name, list[i]->amount);
  }
}

void blx__state_amounts_free(struct state_amounts *a) {
  for (size_t i = 0; i < a->n; i++) free(a->list[i].name);
  free(a->list);
  *a = (struct state_amounts){0};
}

blx__rc blx__state_amounts_check(struct blx_amount *const *list, size_t n, const char *what, blx_error *err) {
  for (size_t i = 0; i < n; i++) {
    const char *name = list[i]->name;
    if (!name || !name[0]) return blx__fail(err, BLX_E_INVALID, "state", "%s: a resource has no name", what);
    for (size_t k = 0; k < i; k++)
      if (blx__str_eq(list[k]->name, name))
        return blx__fail(err, BLX_E_INVALID, "state", "%s: %.64s is named twice", what, name);
  }
  return BLX__OK;
}
