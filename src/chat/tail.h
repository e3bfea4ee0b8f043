/* tail: what of the rooms' logs this core has sent or read lately, as complete WebSocket frames, so that whoever is a
 * little behind is fed from memory, and many who are behind alike from one read of the store.
 *
 * A block is one frame with consecutive events of a room. Runs are copied into it as they pass (a copy for a core and
 * run, none for a recipient), so that a reader who missed a hundred runs gets one or two references; pages that a
 * reader thread has read from the store are blocks as they are. What is whole is handed out as a reference. A part of a
 * block is copied once, and shared by those who want the same part in the same turn: they join the others at the
 * block's end.
 *
 * Whatever is here was durable when it came: runs are made of durable events, and pages end at the durable head that
 * this core had been told. Who may have it, and up to where, is the caller's to know, as with a read of the store.
 *
 * Owner: one core. Bounds: core->tail_bytes_max, one half for runs and one for pages, so that readers who are far
 * behind do not push out what those need who are nearly there; the oldest block goes first. A block that has gone and
 * still waits in queues counts as a frame in flight (core->frames_bytes), as does a copied part. While the process is
 * short of memory nothing is kept. */
#ifndef CARILLON_CHAT_TAIL_H
#define CARILLON_CHAT_TAIL_H

#include "../core/core.h"

enum tail_kind {
    TAIL_RUNS,  /* what went out live */
    TAIL_PAGES, /* what was read from the store for somebody who is behind */
    TAIL_KINDS
};

struct tails;

/* tail_bytes_max: what the tails of one core may hold. */
size_t tail_bytes_max(const struct gateway *g);
struct tails *tails_new(void);
/* tails_free gives up all blocks; queues may still hold them. */
void tails_free(struct core *core);
/* tails_fit is called once a turn: what is too much goes. */
void tails_fit(struct core *core);
size_t tails_bytes(const struct core *core);

/* tail_append adds a run that has just come, whose first seq is above all that came before of its room. */
void tail_append(struct core *core, struct frame *run);
/* tail_add_page adds events `first` to `last` of a room, one frame of a core's own; takes over the caller's reference.
 */
void tail_add_page(struct core *core, uint32_t tenant, uint64_t room, uint64_t first, uint64_t last,
                   struct frame *page);

struct block;

/* tail_part: events first … last of a room, that lie together in memory; good until the next call of this module. */
struct tail_part {
    struct block *block;
    uint64_t first, last;
    enum tail_kind kind;
};
/* tail_find gives the events from `seq` on that lie together, none above `most`; false: `seq` is not here. */
bool tail_find(struct tail_part *part, const struct core *core, uint32_t tenant, uint64_t room, uint64_t seq,
               uint64_t most);
/* tail_frame is the part as one frame, which the tail holds until the next call of this module. */
struct frame *tail_frame(struct core *core, const struct tail_part *part);
/* tail_next: the lowest seq above `seq` that is here, or UINT64_MAX: a read need not go further. */
uint64_t tail_next(const struct core *core, uint32_t tenant, uint64_t room, uint64_t seq);

#endif
