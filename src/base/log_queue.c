#include "log_queue.h"

#include <stdlib.h>

#include "assert.h"

#define WORD_BYTES sizeof(uint32_t)
#define SKIP (1u << 31)

static _Atomic uint32_t *word_at(const struct log_queue *q, uint64_t at)
{
    return (_Atomic uint32_t *)(void *)(q->_bytes + (at & (q->_size - 1)));
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + 7) & ~(uint64_t)7;
}

enum status log_queue_init(struct log_queue *q, uint32_t bytes)
{
    ASSERT(bytes >= 64 && (bytes & (bytes - 1)) == 0);
    *q = (struct log_queue){._bytes = calloc(1, bytes), ._size = bytes};
    return q->_bytes ? STATUS_OK : STATUS_NO_MEMORY;
}

void log_queue_free(struct log_queue *q)
{
    free(q->_bytes);
    *q = (struct log_queue){0};
}

bool log_queue_push(struct log_queue *q, struct slice line)
{
    uint64_t need = padded(WORD_BYTES + line.len), skip;
    ASSERT(line.len > 0 && need <= q->_size / 2);
    uint64_t at = atomic_load_explicit(&q->_reserved, memory_order_relaxed);
    do {
        uint64_t to_end = q->_size - (at & (q->_size - 1));
        skip = need > to_end ? to_end : 0;
        /* acquire: what the reader has left there are zeros, written before it gave the bytes back */
        uint64_t released = atomic_load_explicit(&q->_released, memory_order_acquire);
        /* The reader may have come past `at` since that was loaded: then the queue is not full but `at` is old, and the
         * exchange fails. */
        if (released <= at && at + skip + need - released > q->_size) return false;
    } while (!atomic_compare_exchange_weak_explicit(&q->_reserved, &at, at + skip + need, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (skip) atomic_store_explicit(word_at(q, at), SKIP | (uint32_t)skip, memory_order_release);
    at += skip;
    memcpy((char *)word_at(q, at) + WORD_BYTES, line.data, line.len);
    atomic_store_explicit(word_at(q, at), (uint32_t)line.len, memory_order_release);
    return true;
}

bool log_queue_peek(struct log_queue *q, struct slice *line)
{
    for (;;) {
        uint64_t at = atomic_load_explicit(&q->_released, memory_order_relaxed);
        uint32_t word = atomic_load_explicit(word_at(q, at), memory_order_acquire);
        if (word == 0) return false;
        if (!(word & SKIP)) {
            *line = slice_of((char *)word_at(q, at) + WORD_BYTES, word);
            return true;
        }
        atomic_store_explicit(word_at(q, at), 0, memory_order_relaxed);
        atomic_store_explicit(&q->_released, at + (word & ~SKIP), memory_order_release);
    }
}

void log_queue_pop(struct log_queue *q)
{
    uint64_t at = atomic_load_explicit(&q->_released, memory_order_relaxed);
    uint32_t len = atomic_load_explicit(word_at(q, at), memory_order_relaxed);
    ASSERT(len > 0 && !(len & SKIP));
    uint64_t bytes = padded(WORD_BYTES + len);
    /* any later word may begin anywhere in here */
    memset((char *)word_at(q, at), 0, bytes);
    atomic_store_explicit(&q->_released, at + bytes, memory_order_release);
}

uint64_t log_queue_bytes(const struct log_queue *q)
{
    uint64_t released = atomic_load_explicit(&q->_released, memory_order_acquire);
    return atomic_load_explicit(&q->_reserved, memory_order_relaxed) - released;
}
