#include "tail.h"

#include <stdlib.h>
#include <string.h>

#include "../api/admission.h"
#include "../base/assert.h"
#include "../base/planted.h"

/* tail: the blocks of one room, in no order of seqs: pages may lie before the runs, overlap, or leave gaps. */
struct tail {
    uint32_t tenant;
    uint64_t number;
    struct list blocks; /* struct block.of_tail, the newest last */
    struct block *open; /* that takes further runs; NULL: none */
};

struct block {
    struct list of_tail, by_age;
    struct tail *tail;
    struct frame *frame; /* one reference is the block's own */
    uint64_t first, last;
    uint32_t len, bytes; /* used; allocated */
    uint8_t kind;        /* enum tail_kind */
};

struct tails {
    struct map rooms;               /* struct tail */
    struct list by_age[TAIL_KINDS]; /* struct block, the oldest first */
    size_t bytes[TAIL_KINDS];
    struct frame *part; /* copied from `part_of` in this turn; NULL: none */
    const struct block *part_of;
    uint64_t part_first, part_last;
};

static struct tail *tail_of(const struct core *core, uint32_t tenant, uint64_t number);
static void block_drop(struct core *core, struct block *b);
static void part_drop(struct core *core);

/* --- bounds ------------------------------------------------------------------------------------------------------ */

size_t tail_bytes_max(const struct gateway *g)
{
    size_t share = core_bytes_max(g, FRAMES_BYTES_MAX) / TAIL_PART;
    return share < TAIL_BYTES_MAX ? share : TAIL_BYTES_MAX;
}

struct tails *tails_new(void)
{
    struct tails *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    for (unsigned kind = 0; kind < TAIL_KINDS; kind++) list_init(&t->by_age[kind]);
    return t;
}

static void kind_fit(struct core *core, enum tail_kind kind, size_t most)
{
    struct tails *t = core->tails;
    while (t->bytes[kind] > most) block_drop(core, CONTAINER_OF(t->by_age[kind].next, struct block, by_age));
}

void tails_fit(struct core *core)
{
    part_drop(core);
    size_t most = UNLIKELY(core->guards & GUARD_MEMORY) ? 0 : core->tail_bytes_max;
    kind_fit(core, TAIL_RUNS, most / TAIL_KINDS);
    kind_fit(core, TAIL_PAGES, most / TAIL_KINDS);
}

void tails_free(struct core *core)
{
    if (!core->tails) return;
    part_drop(core);
    kind_fit(core, TAIL_RUNS, 0);
    kind_fit(core, TAIL_PAGES, 0);
    ASSERT(core->tails->rooms.len == 0);
    map_free(&core->tails->rooms);
    free(core->tails);
    core->tails = NULL;
}

size_t tails_bytes(const struct core *core)
{
    return core->tails->bytes[TAIL_RUNS] + core->tails->bytes[TAIL_PAGES];
}

/* --- rooms ------------------------------------------------------------------------------------------------------- */

struct tail_key {
    uint32_t tenant;
    uint64_t number;
};

static bool tail_eq(const void *value, const void *key)
{
    const struct tail *t = value;
    const struct tail_key *k = key;
    return t->number == k->number && t->tenant == k->tenant;
}

static struct tail *tail_of(const struct core *core, uint32_t tenant, uint64_t number)
{
    const struct tail_key key = {tenant, number};
    return map_find(&core->tails->rooms, hash_u64(number), tail_eq, &key);
}

static struct tail *tail_get(struct core *core, uint32_t tenant, uint64_t number)
{
    struct tail *t = tail_of(core, tenant, number);
    if (t) return t;
    t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->tenant = tenant;
    t->number = number;
    list_init(&t->blocks);
    map_insert(&core->tails->rooms, hash_u64(number), t);
    return t;
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

static struct block *block_add(struct core *core, struct tail *t, enum tail_kind kind, struct frame *f, uint32_t bytes)
{
    struct block *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    /* a short page counts as a short block, so that there are never so many that looking through them takes long */
    if (bytes < TAIL_BLOCK_BYTES_MIN) bytes = TAIL_BLOCK_BYTES_MIN;
    *b = (struct block){.tail = t, .frame = f, .bytes = bytes, .kind = (uint8_t)kind};
    list_push(&t->blocks, &b->of_tail);
    list_push(&core->tails->by_age[kind], &b->by_age);
    core->tails->bytes[kind] += bytes;
    return b;
}

static void block_drop(struct core *core, struct block *b)
{
    struct tail *t = b->tail;
    if (core->tails->part_of == b) part_drop(core);
    if (t->open == b) t->open = NULL;
    core->tails->bytes[b->kind] -= b->bytes;
    list_remove(&b->of_tail);
    list_remove(&b->by_age);
    if (frame_core_of(b->frame, core->id)->refs > 1) frame_charge(b->frame, &core->frames_bytes); /* queues have it */
    frame_unref(b->frame, core->id);
    free(b);
    if (!list_empty(&t->blocks)) return;
    ASSERT(map_remove(&core->tails->rooms, hash_u64(t->number), t));
    free(t);
}

/* block_open makes the block that this run and those behind it go into. It is as long as what the room has sent lately
 * lets expect: a quiet room has a small one, a busy one few. */
static struct block *block_open(struct core *core, struct tail *t, const struct frame *run)
{
    uint32_t bytes = t->open ? 2 * t->open->len : TAIL_BLOCK_BYTES_MIN;
    if (bytes < TAIL_BLOCK_BYTES_MIN) bytes = TAIL_BLOCK_BYTES_MIN;
    if (bytes > TAIL_BLOCK_BYTES_MAX) bytes = TAIL_BLOCK_BYTES_MAX;
    if (bytes < run->len) bytes = run->len;
    struct frame *f = frame_new(1, bytes);
    frame_ref(f, core->id);
    f->len = 0;
    f->tenant = t->tenant;
    f->room = t->number;
    struct block *b = block_add(core, t, TAIL_RUNS, f, bytes);
    b->first = run->first_seq;
    t->open = b;
    return b;
}

void tail_append(struct core *core, struct frame *run)
{
    if (run->len > core->tail_bytes_max / TAIL_KINDS || UNLIKELY(core->guards & GUARD_MEMORY)) return;
    struct tail *t = tail_get(core, run->tenant, run->room);
    struct block *b = t->open;
    if (!b || b->last + 1 != run->first_seq || b->frame->len || b->bytes - b->len < run->len)
        b = block_open(core, t, run);
    memcpy(frame_data(b->frame) + b->len, frame_data(run), run->len);
    b->len += run->len;
    b->last = run->last_seq;
    kind_fit(core, TAIL_RUNS, core->tail_bytes_max / TAIL_KINDS);
}

void tail_add_page(struct core *core, uint32_t tenant, uint64_t room, uint64_t first, uint64_t last, struct frame *page)
{
    ASSERT(page->num_cores == 1 && first <= last);
    struct block *b = block_add(core, tail_get(core, tenant, room), TAIL_PAGES, page, page->len);
    b->first = first;
    b->last = last;
    b->len = page->len;
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* block_with looks at the newest first: most who are behind are so by little. */
static struct block *block_with(const struct tail *t, uint64_t seq)
{
    for (struct list *at = t->blocks.prev; at != &t->blocks; at = at->prev) {
        struct block *b = CONTAINER_OF(at, struct block, of_tail);
        if ((b->first <= seq || PLANTED(tail_gap_jumped)) && seq <= b->last) return b;
    }
    return NULL;
}

uint64_t tail_next(const struct core *core, uint32_t tenant, uint64_t room, uint64_t seq)
{
    const struct tail *t = tail_of(core, tenant, room);
    uint64_t next = UINT64_MAX;
    if (!t) return next;
    for (struct list *at = t->blocks.next; at != &t->blocks; at = at->next) {
        const struct block *b = CONTAINER_OF(at, struct block, of_tail);
        if (b->first > seq && b->first < next) next = b->first;
    }
    return next;
}

/* event_bytes is the length of the frame that begins here: the gateway's own, unmasked (RFC 6455 section 5.2). */
static size_t event_bytes(const char *at)
{
    const uint8_t *head = (const uint8_t *)at;
    size_t len = head[1], header = 2;
    ASSERT(len <= 127);
    unsigned more = len == 127 ? 8 : len == 126 ? 2 : 0;
    if (more) len = 0;
    for (unsigned i = 0; i < more; i++) len = len << 8 | head[2 + i];
    header += more;
    return header + len;
}

static const char *events_skip(const char *at, const char *end, uint64_t num)
{
    while (num--) {
        ASSERT(at < end);
        at += event_bytes(at);
    }
    ASSERT(at <= end);
    return at;
}

static void part_drop(struct core *core)
{
    struct tails *t = core->tails;
    if (!t->part) return;
    frame_unref(t->part, core->id);
    t->part = NULL;
    t->part_of = NULL;
}

/* part_copy copies events first … last of a block, unless the last copy was of the same. */
static struct frame *part_copy(struct core *core, const struct block *b, uint64_t first, uint64_t last)
{
    struct tails *t = core->tails;
    if (t->part_of == b && t->part_first == first && t->part_last == last) return t->part;
    part_drop(core);
    const char *data = frame_data(b->frame), *end = data + b->len;
    const char *from = events_skip(data, end, first - b->first), *to = events_skip(from, end, last - first + 1);
    struct frame *f = frame_new(1, (uint32_t)(to - from));
    frame_ref(f, core->id);
    memcpy(frame_data(f), from, (size_t)(to - from));
    frame_charge(f, &core->frames_bytes);
    t->part = f;
    t->part_of = b;
    t->part_first = first;
    t->part_last = last;
    return f;
}

/* block_whole hands out all of a block, to which nothing is added from then on. */
static struct frame *block_whole(struct block *b)
{
    b->frame->len = b->len;
    return b->frame;
}

bool tail_find(struct tail_part *part, const struct core *core, uint32_t tenant, uint64_t room, uint64_t seq,
               uint64_t most)
{
    const struct tail *t = tail_of(core, tenant, room);
    struct block *b = t ? block_with(t, seq) : NULL;
    if (!b) return false;
    uint64_t last = b->last < most || PLANTED(caught_up_beyond_leave) ? b->last : most;
    *part = (struct tail_part){b, PLANTED(tail_given_twice) ? b->first : seq, last, b->kind};
    return true;
}

struct frame *tail_frame(struct core *core, const struct tail_part *part)
{
    struct block *b = part->block;
    bool whole = part->first <= b->first && part->last == b->last;
    return whole ? block_whole(b) : part_copy(core, b, part->first, part->last);
}
