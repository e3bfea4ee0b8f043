/* log_queue: log lines on their way from any thread to the one that writes them, in a ring of bytes without a lock.
 *
 * Call order: log_queue_init; log_queue_push by any number of threads; log_queue_peek, use the line, log_queue_pop by
 * one; log_queue_free when nobody pushes any more. Bound: the bytes given to init. "Full" is false, and the line is
 * its caller's to count: who logs never waits.
 *
 * A line stands behind a word of its own and is padded to 8 bytes; it never wraps, so a piece too short for it at the
 * ring's end is skipped:
 *
 *   ┌──────────┬──────────────┬─────────┬──────────┬─────── … ─┐
 *   │ u32 word │ text         │ 0 … 7   │ u32 word │ skipped   │
 *   │ len      │ len bytes    │ padding │ SKIP|len │           │
 *   └──────────┴──────────────┴─────────┴──────────┴─────── … ─┘
 *
 * A word of 0 is a place that was reserved and is not written yet: the reader waits for it, and pop leaves zeros. */
#ifndef CARILLON_BASE_LOG_QUEUE_H
#define CARILLON_BASE_LOG_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slice.h"
#include "status.h"

struct log_queue {
    _Alignas(64) _Atomic uint64_t _reserved; /* bytes ever given out to writers */
    _Alignas(64) _Atomic uint64_t _released; /* bytes ever given back by the reader */
    char *_bytes;
    uint64_t _size; /* a power of two */
};

/* log_queue_init makes room for `bytes`, a power of two. */
MUST_USE enum status log_queue_init(struct log_queue *q, uint32_t bytes);
void log_queue_free(struct log_queue *q);
/* log_queue_push copies a line in, of at most half the ring; false when there is no room. */
bool log_queue_push(struct log_queue *q, struct slice line);
/* log_queue_peek shows the oldest line; false when there is none that is whole. It stays until log_queue_pop. */
bool log_queue_peek(struct log_queue *q, struct slice *line);
void log_queue_pop(struct log_queue *q);
/* log_queue_bytes is a snapshot of the bytes in use, padding included; from any thread. */
uint64_t log_queue_bytes(const struct log_queue *q);

#endif
