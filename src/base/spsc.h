/* spsc: a bounded lock-free ring of 64-byte cells between exactly one producer and one consumer thread.
 *
 * Call order: producer `spsc_push` (any number) then `spsc_publish` once a batch; consumer `spsc_peek`,
 * use the cell, `spsc_pop`, then `spsc_release` once a batch. "Full" is STATUS_FULL: the producer parks
 * the work on its own intrusive list. Indices stand on their own cache lines and each side caches the
 * other's, so an uncontended push or pop touches no shared line. Bound: `cells`, a power of two. */
#ifndef CARILLON_BASE_SPSC_H
#define CARILLON_BASE_SPSC_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "assert.h"
#include "status.h"

#define CACHE_LINE 64

struct spsc_cell {
    _Alignas(CACHE_LINE) uint64_t word[8];
};
_Static_assert(sizeof(struct spsc_cell) == CACHE_LINE, "one cell, one line");

struct spsc {
    /* shared, written by the producer */
    _Alignas(CACHE_LINE) _Atomic uint32_t published;
    /* shared, written by the consumer */
    _Alignas(CACHE_LINE) _Atomic uint32_t released;
    /* private to the producer */
    _Alignas(CACHE_LINE) uint32_t tail;
    uint32_t released_seen;
    /* private to the consumer */
    _Alignas(CACHE_LINE) uint32_t head;
    uint32_t published_seen;
    /* constant after init */
    _Alignas(CACHE_LINE) struct spsc_cell *cells;
    uint32_t mask;
};

/* spsc_init allocates `cells` (power of two, ≥ 2) zeroed cells. */
MUST_USE enum status spsc_init(struct spsc *q, uint32_t cells);
void spsc_free(struct spsc *q);

/* spsc_push copies a cell in; not visible before spsc_publish. */
MUST_USE static inline enum status spsc_push(struct spsc *q, const struct spsc_cell *cell)
{
    if (UNLIKELY(q->tail - q->released_seen > q->mask)) {
        q->released_seen = atomic_load_explicit(&q->released, memory_order_acquire);
        if (q->tail - q->released_seen > q->mask) return STATUS_FULL;
    }
    q->cells[q->tail & q->mask] = *cell;
    q->tail++;
    return STATUS_OK;
}

/* spsc_publish shows all pushed cells to the consumer; returns whether there was anything new. */
static inline int spsc_publish(struct spsc *q)
{
    if (atomic_load_explicit(&q->published, memory_order_relaxed) == q->tail) return 0;
    atomic_store_explicit(&q->published, q->tail, memory_order_release);
    return 1;
}

/* spsc_peek returns the next cell or NULL; valid until spsc_pop and spsc_release. */
static inline struct spsc_cell *spsc_peek(struct spsc *q)
{
    if (q->head == q->published_seen) {
        q->published_seen = atomic_load_explicit(&q->published, memory_order_acquire);
        if (q->head == q->published_seen) return NULL;
    }
    return &q->cells[q->head & q->mask];
}

static inline void spsc_pop(struct spsc *q)
{
    ASSERT(q->head != q->published_seen);
    q->head++;
}

/* spsc_release gives all popped cells back to the producer. */
static inline void spsc_release(struct spsc *q)
{
    if (atomic_load_explicit(&q->released, memory_order_relaxed) != q->head)
        atomic_store_explicit(&q->released, q->head, memory_order_release);
}

/* spsc_empty may be called by the consumer only. */
static inline int spsc_empty(struct spsc *q) { return spsc_peek(q) == NULL; }

/* spsc_depth is a snapshot for metrics, from any thread. */
static inline uint32_t spsc_depth(struct spsc *q)
{
    return atomic_load_explicit(&q->published, memory_order_relaxed) -
           atomic_load_explicit(&q->released, memory_order_relaxed);
}

#endif
