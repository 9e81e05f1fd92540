/* Doubly linked intrusive list. A head is a node linked to itself. */
#ifndef BLX__BASE_LIST_H
#define BLX__BASE_LIST_H

#include "base/rc.h"

struct blx__list {
  struct blx__list *next, *prev;
};

static inline void blx__list_init(struct blx__list *l) {
  l->next = l->prev = l;
}

static inline bool blx__list_empty(const struct blx__list *l) {
  return l->next == l;
}

/* Append @n before @head, that is at the tail. */
static inline void blx__list_push(struct blx__list *head, struct blx__list *n) {
  n->prev = head->prev;
  n->next = head;
  head->prev->next = n;
  head->prev = n;
}

/* Take @n out; it is then linked to itself, so removing twice is harmless. */
static inline void blx__list_remove(struct blx__list *n) {
  n->prev->next = n->next;
  n->next->prev = n->prev;
  n->next = n->prev = n;
}

static inline struct blx__list *blx__list_first(const struct blx__list *head) {
  return head->next == head ? NULL : head->next;
}

/* Move all of @from to the tail of @to, in their order. */
static inline void blx__list_take(struct blx__list *to, struct blx__list *from) {
  if (blx__list_empty(from)) return;
  from->next->prev = to->prev;
  from->prev->next = to;
  to->prev->next = from->next;
  to->prev = from->prev;
  blx__list_init(from);
}

/* Not safe against removal of @it inside the body. */
#define BLX__LIST_FOREACH(it, head) for (struct blx__list *it = (head)->next; it != (head); it = it->next)

#endif
