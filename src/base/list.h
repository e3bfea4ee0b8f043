/* list: intrusive lists. A node lives inside the object it links, so linking never allocates.
 *
 * `struct list` is circular and doubly linked: remove from the middle in O(1).
 * `struct queue` is singly linked, first in first out. Both are used by one core or thread at a time. */
#ifndef CARILLON_BASE_LIST_H
#define CARILLON_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline bool list_linked(const struct list *n) { return n->next != NULL && n->next != n; }

static inline void list_push(struct list *l, struct list *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}

/* list_remove unlinks n and leaves it self-linked, so removing twice is harmless. */
static inline void list_remove(struct list *n)
{
    if (n->next == NULL) return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

static inline struct list *list_pop(struct list *l)
{
    if (list_empty(l)) return NULL;
    struct list *n = l->next;
    list_remove(n);
    return n;
}

struct queue_node {
    struct queue_node *next;
};

struct queue {
    struct queue_node *head, *tail;
    size_t len;
};

static inline void queue_push(struct queue *q, struct queue_node *n)
{
    n->next = NULL;
    if (q->tail) q->tail->next = n;
    else q->head = n;
    q->tail = n;
    q->len++;
}

static inline struct queue_node *queue_pop(struct queue *q)
{
    struct queue_node *n = q->head;
    if (!n) return NULL;
    q->head = n->next;
    if (!q->head) q->tail = NULL;
    q->len--;
    n->next = NULL;
    return n;
}

#endif
