/* send_queue: what waits to be sent to one connection: references to frames, the first of them perhaps partly sent.
 *
 * Owner: one core; queue and pool belong together. Memory: an entry is one word. One lives in the connection itself;
 * more go into chunks of SEND_CHUNK_ENTRIES from the core's pool, so that nothing is allocated for a recipient and
 * an idle queue holds none. A zeroed queue is empty.
 *
 * Bounds are the caller's to keep (conn_admits) before it pushes. Bytes are counted a class, as what is not
 * sent yet. Entries at the head that are being sent are pinned: send_queue_drop leaves them. */
#ifndef CARILLON_NET_SEND_QUEUE_H
#define CARILLON_NET_SEND_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frame.h"

#define SEND_CLASSES 4u        /* enum conn_class of net.h */
#define SEND_CHUNK_ENTRIES 15u /* with the link: 128 bytes */

struct send_chunk;

struct send_pool {
    struct send_chunk *_free;
    struct send_block *_blocks; /* what the chunks are cut from; given back at the end only */
    uint64_t in_use;            /* chunks that queues hold now */
};

struct send_queue {
    uintptr_t _near; /* frame address | class in the low bits, or 0; older than anything in chunks */
    struct send_chunk *_first, *_last;
    uint32_t _bytes[SEND_CLASSES]; /* not sent yet */
    uint32_t _head_sent;           /* bytes of the first entry that are sent */
    uint32_t _len;                 /* entries */
    uint8_t _first_at;             /* index of the oldest entry of _first */
    uint8_t _last_end;             /* index behind the youngest entry of _last */
    uint8_t sending;               /* the owner's: entries at the head that are being sent */
};

void send_pool_init(struct send_pool *pool);
/* send_pool_close frees the chunks; every queue must be empty. */
void send_pool_close(struct send_pool *pool);

/* send_queue_push appends a reference; it takes over one that the caller holds on core `core` (frame_ref). */
void send_queue_push(struct send_queue *q, struct send_pool *pool, struct frame *f, unsigned class);
/* send_queue_peek describes unsent bytes from the head on: whole entries until `parts_max` or `bytes_max` is reached,
 * but at least one. Returns the number of parts; they stay valid while the entries are queued. */
unsigned send_queue_peek(const struct send_queue *q, size_t *bytes, struct iovec *parts, unsigned parts_max,
                         size_t bytes_max);
/* send_queue_head is the oldest frame of a queue that is not empty. */
struct frame *send_queue_head(const struct send_queue *q);
/* send_queue_sent takes `bytes` sent bytes off the head, gives up the references of entries that are through, and
 * returns how many those were. */
unsigned send_queue_sent(struct send_queue *q, struct send_pool *pool, unsigned core, size_t bytes);
/* send_queue_drop drops the entries of a class behind the first `pinned` ones and a partly sent head. Returns bytes. */
size_t send_queue_drop(struct send_queue *q, struct send_pool *pool, unsigned core, unsigned class, unsigned pinned);
/* send_queue_clear drops everything. Returns bytes. */
size_t send_queue_clear(struct send_queue *q, struct send_pool *pool, unsigned core);

static inline bool send_queue_empty(const struct send_queue *q) { return q->_len == 0; }
static inline uint32_t send_queue_len(const struct send_queue *q) { return q->_len; }
static inline size_t send_queue_class_bytes(const struct send_queue *q, unsigned class) { return q->_bytes[class]; }
static inline size_t send_queue_bytes(const struct send_queue *q)
{
    return (size_t)q->_bytes[0] + q->_bytes[1] + q->_bytes[2] + q->_bytes[3];
}

#endif
