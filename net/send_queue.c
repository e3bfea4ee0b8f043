#include "send_queue.h"

#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/base/planted.h"

/* A frame is aligned to 64 bytes, so an entry has six bits to spare:
 *
 *   63                          6 5     2 1     0
 *   +----------------------------+-------+-------+
 *   | frame address              | 0     | class |
 *   +----------------------------+-------+-------+ */
#define ENTRY_CLASS_MASK ((uintptr_t)3)
_Static_assert(_Alignof(struct frame) > ENTRY_CLASS_MASK, "the class fits below the address");

struct send_chunk {
    struct send_chunk *next;
    uintptr_t entries[SEND_CHUNK_ENTRIES];
};
_Static_assert(sizeof(struct send_chunk) == 128, "two cache lines");

#define BLOCK_CHUNKS 511u /* 64 KiB a block, with its link */
struct send_block {
    struct send_block *next;
    struct send_chunk chunks[BLOCK_CHUNKS];
};

static struct frame *entry_frame(uintptr_t entry)
{
    return (struct frame *)(entry & ~ENTRY_CLASS_MASK);
}
static unsigned entry_class(uintptr_t entry)
{
    return (unsigned)(entry & ENTRY_CLASS_MASK);
}
static struct send_chunk *chunk_take(struct send_pool *pool);
static void chunk_give(struct send_pool *pool, struct send_chunk *chunk);
static void append(struct send_queue *q, struct send_pool *pool, uintptr_t entry);
static uintptr_t head(const struct send_queue *q);
static void pop(struct send_queue *q, struct send_pool *pool);

/* walk visits entries from the oldest on; a zeroed one starts. */
struct walk {
    const struct send_chunk *chunk;
    unsigned seen, at;
};
static uintptr_t walk_next(const struct send_queue *q, struct walk *w);

void send_pool_init(struct send_pool *pool)
{
    *pool = (struct send_pool){0};
}

void send_pool_close(struct send_pool *pool)
{
    ASSERT(pool->in_use == 0);
    while (pool->_blocks) {
        struct send_block *block = pool->_blocks;
        pool->_blocks = block->next;
        free(block);
    }
    pool->_free = NULL;
}

void send_queue_push(struct send_queue *q, struct send_pool *pool, struct frame *f, unsigned class)
{
    ASSERT(class < SEND_CLASSES && f->len > 0);
    append(q, pool, (uintptr_t)f | class);
    q->_bytes[class] += f->len;
}

/* append: the near entry is the oldest, so it takes a new one only while no chunk is in use. */
static void append(struct send_queue *q, struct send_pool *pool, uintptr_t entry)
{
    q->_len++;
    if (!q->_first && !q->_near) {
        q->_near = entry;
        return;
    }
    if (!q->_first) {
        q->_first = q->_last = chunk_take(pool);
        q->_first_at = q->_last_end = 0;
    } else if (q->_last_end == SEND_CHUNK_ENTRIES) {
        q->_last->next = chunk_take(pool);
        q->_last = q->_last->next;
        q->_last_end = 0;
    }
    q->_last->entries[q->_last_end++] = entry;
}

unsigned send_queue_peek(const struct send_queue *q, size_t *bytes, struct iovec *parts, unsigned parts_max,
                         size_t bytes_max)
{
    struct walk walk = {0};
    size_t total = 0, skip = q->_head_sent;
    unsigned num = 0;
    while (num < parts_max && num < q->_len) {
        struct frame *f = entry_frame(walk_next(q, &walk));
        if (num > 0 && total + f->len > bytes_max) break;
        parts[num++] = (struct iovec){frame_data(f) + skip, f->len - skip};
        total += f->len - skip;
        skip = 0;
    }
    *bytes = total;
    return num;
}

struct frame *send_queue_head(const struct send_queue *q) { return entry_frame(head(q)); }

unsigned send_queue_sent(struct send_queue *q, struct send_pool *pool, unsigned core, size_t bytes)
{
    unsigned through = 0;
    while (bytes > 0) {
        ASSERT(q->_len > 0);
        uintptr_t entry = head(q);
        struct frame *f = entry_frame(entry);
        size_t left = f->len - q->_head_sent;
        uint32_t *class_bytes = &q->_bytes[entry_class(entry)];
        if (bytes < left) {
            q->_head_sent += PLANTED(short_send_repeated) ? 0 : (uint32_t)bytes;
            *class_bytes -= (uint32_t)bytes;
            break;
        }
        bytes -= left;
        *class_bytes -= (uint32_t)left;
        q->_head_sent = 0;
        pop(q, pool);
        frame_unref(f, core);
        through++;
    }
    return through;
}

/* send_queue_drop takes every entry out once and appends the ones that stay: simple, and rare. */
size_t send_queue_drop(struct send_queue *q, struct send_pool *pool, unsigned core, unsigned class, unsigned pinned)
{
    size_t dropped = 0;
    uint32_t entries = q->_len;
    if (q->_bytes[class] == 0) return 0;
    if (q->_head_sent && pinned == 0) pinned = 1;
    for (uint32_t i = 0; i < entries; i++) {
        uintptr_t entry = head(q);
        struct frame *f = entry_frame(entry);
        pop(q, pool);
        if (i < pinned || entry_class(entry) != class) {
            append(q, pool, entry);
            continue;
        }
        q->_bytes[class] -= f->len;
        dropped += f->len;
        frame_unref(f, core);
    }
    return dropped;
}

size_t send_queue_clear(struct send_queue *q, struct send_pool *pool, unsigned core)
{
    size_t bytes = send_queue_bytes(q);
    if (bytes) send_queue_sent(q, pool, core, bytes);
    ASSERT(q->_len == 0 && !q->_first && send_queue_bytes(q) == 0);
    return bytes;
}

static uintptr_t head(const struct send_queue *q)
{
    ASSERT(q->_len > 0);
    return q->_near ? q->_near : q->_first->entries[q->_first_at];
}

static void pop(struct send_queue *q, struct send_pool *pool)
{
    q->_len--;
    if (q->_near) {
        q->_near = 0;
        return;
    }
    struct send_chunk *first = q->_first;
    q->_first_at++;
    unsigned end = first == q->_last ? q->_last_end : SEND_CHUNK_ENTRIES;
    if (q->_first_at < end) return;
    q->_first = first->next; /* NULL behind the last */
    if (!q->_first) q->_last = NULL;
    q->_first_at = 0;
    chunk_give(pool, first);
}

static uintptr_t walk_next(const struct send_queue *q, struct walk *w)
{
    ASSERT(w->seen < q->_len);
    if (w->seen++ == 0 && q->_near) return q->_near;
    if (!w->chunk) {
        w->chunk = q->_first;
        w->at = q->_first_at;
    } else if (w->at == SEND_CHUNK_ENTRIES) {
        w->chunk = w->chunk->next;
        w->at = 0;
    }
    return w->chunk->entries[w->at++];
}

static struct send_chunk *chunk_take(struct send_pool *pool)
{
    if (!pool->_free) {
        struct send_block *block = malloc(sizeof *block);
        ASSERT(block != NULL);
        block->next = pool->_blocks;
        pool->_blocks = block;
        for (unsigned i = 0; i < BLOCK_CHUNKS; i++) {
            block->chunks[i].next = pool->_free;
            pool->_free = &block->chunks[i];
        }
    }
    struct send_chunk *chunk = pool->_free;
    pool->_free = chunk->next;
    chunk->next = NULL;
    pool->in_use++;
    return chunk;
}

static void chunk_give(struct send_pool *pool, struct send_chunk *chunk)
{
    chunk->next = pool->_free;
    pool->_free = chunk;
    pool->in_use--;
}
