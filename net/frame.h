/* frame: bytes on their way to many sockets, encoded once, immutable once published, counted once per core.
 *
 * A frame holds complete WebSocket frames (one, or a run of a room's newly durable events concatenated). The maker
 * publishes it to a set of cores; on each core, `struct frame_core` counts that core's queue references without
 * atomics. The last reference on a core gives up the core's hold by one atomic decrement, and the last core frees it:
 * one atomic operation a (frame, core), none a recipient. `next` links the frame into that core's parked list, so
 * parking it in front of a full mailbox allocates nothing; once it has arrived, the same node queues it up for a walk
 * over the room's subscribers there.
 *
 * Layout: header, then one frame_core a core on a cache line of its own, then the bytes. */
#ifndef CARILLON_NET_FRAME_H
#define CARILLON_NET_FRAME_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/list.h"

struct frame_core {
    _Alignas(64) struct queue_node parked; /* in the sender's list of frames that wait for a full mailbox, later in
                                            * the receiver's of runs that are being walked */
    uint32_t parked_kind;                  /* what the node is part of, for a list of several kinds */
    uint32_t refs;                         /* this core's references; touched by that core only */
    uint64_t walk_end;                     /* fanout: the node links a room's runs here; when this one is through */
    uint64_t weight;                       /* fanout: of the room's runs up to this one (src/chat/far_walk.h) */
};

struct frame {
    _Atomic uint32_t cores_left; /* cores that still hold it */
    uint16_t num_cores;          /* frame_core slots; 1: private to one core */
    uint16_t events;             /* durable events in it; 0 for replies and ephemerals */
    uint32_t len;                /* bytes */
    uint32_t charged;            /* bytes of memory charged to the account below */
    _Atomic int64_t *account;    /* of frames in flight, lowered when the last core lets go; may be NULL */
    uint64_t room;               /* for a room's run: its number, else 0 */
    uint32_t tenant;
    uint32_t _data_at;           /* offset of the bytes from the frame's start */
    uint64_t first_seq, last_seq;
    struct frame_core cores[];
};

/* frame_new allocates a frame for `num_cores` slots and `len` bytes with no reference yet, held by one core: a
 * private frame needs no frame_hold. Never NULL. The bytes are uninitialised. */
struct frame *frame_new(unsigned num_cores, uint32_t len);
/* frame_charge charges all the memory that a frame takes, the cores' counts too, to an account, until the last core
 * lets go: of a short event on many cores they are most. Once, by whoever holds it. */
void frame_charge(struct frame *f, _Atomic int64_t *account);
/* frame_hold makes `cores` the number of cores that hold it; before the first push. */
static inline void frame_hold(struct frame *f, uint32_t cores)
{
    atomic_store_explicit(&f->cores_left, cores, memory_order_relaxed);
}
static inline char *frame_data(struct frame *f) { return (char *)f + f->_data_at; }

/* frame_core_of returns the slot of core `core`; private frames have one slot for whoever owns them. */
static inline struct frame_core *frame_core_of(struct frame *f, unsigned core)
{
    return &f->cores[f->num_cores == 1 ? 0 : core];
}

static inline void frame_ref(struct frame *f, unsigned core) { frame_core_of(f, core)->refs++; }
/* frame_unref drops one of this core's references; at zero it gives up the core's hold. */
void frame_unref(struct frame *f, unsigned core);
/* frame_let_go gives up a core's hold that never had a reference (or keeps none). */
void frame_let_go(struct frame *f);

#endif
