/* tag: what a ring operation carries through the kernel and back (`user_data`): op:8 | generation:24 | slot:32.
 *
 * A slot is used again only after its last completion, under the next generation, so a late completion is
 * recognised and accounted for instead of being taken for another connection's. */
#ifndef CARILLON_NET_TAG_H
#define CARILLON_NET_TAG_H

#include <stdint.h>

enum ring_op {
    RING_OP_NONE = 0,
    RING_OP_ACCEPT,   /* slot: the accept's own, which holds the peer's address */
    RING_OP_RECV,     /* slot: connection */
    RING_OP_POLL_IN,  /* slot: connection */
    RING_OP_SEND,     /* slot: connection; silent: completes only when short or failed */
    RING_OP_SEND_ZC,  /* slot: a hold of zero_copy.h; generation: the connection's */
    RING_OP_POLL_OUT, /* slot: connection */
    RING_OP_CANCEL,   /* slot: connection; generation 0: of an accept */
    RING_OP_SHUTDOWN, /* slot: connection */
    RING_OP_BOUND,    /* slot: connection */
    RING_OP_CLOSE,    /* slot: connection */
    RING_OP_WAKE,     /* the core's eventfd */
};

#define TAG_GENERATION_MASK 0xffffffu

static inline uint64_t tag_make(enum ring_op op, uint32_t generation, uint32_t slot)
{
    return (uint64_t)op << 56 | (uint64_t)(generation & TAG_GENERATION_MASK) << 32 | slot;
}

static inline enum ring_op tag_op(uint64_t tag) { return (enum ring_op)(tag >> 56); }
static inline uint32_t tag_generation(uint64_t tag) { return (uint32_t)(tag >> 32) & TAG_GENERATION_MASK; }
static inline uint32_t tag_slot(uint64_t tag) { return (uint32_t)tag; }

#endif
