#include "bounds.h"

#include <inttypes.h>

#include "../../net/connection.h"
#include "fake_ring.h"
#include "world.h"

/* sums: what the connections hold, to be compared with what net believes. */
struct sums {
    uint64_t open, websockets, queued, replies, assembly, refusing, lingering;
};

/* check_operations: what a connection counts as in flight is what the ring knows of it; a silent send that the ring has
 * nothing to say of counts until the next turn. */
static void check_operations(const struct net *n, const struct conn *c)
{
    bool send_told;
    unsigned known = ring_outstanding(n->ring, c->slot, c->generation, &send_told);
    CHECK(!c->told || c->sending, "connection %u: told of a send that is not in flight", c->slot);
    CHECK(!send_told || c->sending, "connection %u: a send completes that it does not wait for", c->slot);
    CHECK(c->ops == known + c->sending, "connection %u counts %u operations in flight, and the ring has %u", c->slot,
          c->ops, known + c->sending);
}

/* check_zero_copies: each frame that the kernel may still read is held, and nothing else is. */
static void check_zero_copies(const struct net *n)
{
    const struct zero_copy *z = &n->zero_copy;
    uint64_t tag = 0;
    struct slice bytes = {0};
    unsigned num = ring_zero_copies(n->ring, UINT32_MAX, &tag, &bytes);
    size_t held_bytes = 0;
    CHECK(num == z->num_held, "%u frames are held, and the ring may read %u", z->num_held, num);
    for (unsigned i = 0; i < num; i++) {
        ring_zero_copies(n->ring, i, &tag, &bytes);
        const struct zero_copy_hold *h = zero_copy_held(z, tag_slot(tag));
        CHECK(h && h->generation == tag_generation(tag), "what the ring may read is not held");
        struct frame *f = h->frame;
        bool within = bytes.data >= frame_data(f) && bytes.data + bytes.len <= frame_data(f) + f->len;
        CHECK(within && frame_core_of(f, n->core)->refs > 0, "another frame is held than the ring may read");
        held_bytes += f->len;
    }
    CHECK(held_bytes == z->held_bytes, "%zu bytes are held and %zu counted", held_bytes, z->held_bytes);
}

/* answer_bytes: the pages of a replay count as answers. */
static size_t answer_bytes(const struct conn *c)
{
    return send_queue_class_bytes(&c->queue, CONN_REPLY) + send_queue_class_bytes(&c->queue, CONN_REPLAY);
}

static void check_queue(const struct net *n, const struct conn *c)
{
    const struct send_queue *q = &c->queue;
    size_t ephemeral = send_queue_class_bytes(q, CONN_EPHEMERAL), replies = answer_bytes(c);
    CHECK(ephemeral <= EPHEMERAL_QUEUE_BYTES_MAX, "connection %u: %zu bytes of ephemerals wait", c->slot, ephemeral);
    CHECK(replies <= REPLY_QUEUE_BYTES_MAX || send_queue_len(q) == 1, "connection %u: %zu bytes of answers wait",
          c->slot, replies);
    CHECK(c->requests <= n->limits.requests_in_flight_max, "connection %u: %u requests in flight", c->slot,
          c->requests);
    CHECK((send_queue_len(q) == 0) == (send_queue_bytes(q) == 0), "connection %u: entries without bytes", c->slot);
    bool waits = c->state < CONN_CLOSING && !send_queue_empty(q);
    CHECK(!waits || c->dirty || c->sending || c->blocked, "connection %u: what is queued is sent by nobody", c->slot);
}

static void add(struct sums *s, const struct net *n, const struct conn *c)
{
    s->open++;
    s->websockets += c->websocket;
    s->queued += send_queue_bytes(&c->queue);
    s->replies += answer_bytes(c);
    s->assembly += c->assembly_bytes;
    s->refusing += c->refusal != 0;
    s->lingering += conn_lingers(n, c);
}

void bounds_check_net(const struct net *n)
{
    struct sums s = {0};
    for (uint32_t slot = 0; slot < n->num_slots; slot++) {
        const struct conn *c = net_slot(n, slot);
        if (c->state == CONN_FREE) continue;
        add(&s, n, c);
        check_operations(n, c);
        check_queue(n, c);
    }
    check_zero_copies(n);
    CHECK(s.open == n->open && s.open + n->accepts_armed <= n->limits.connections_max,
          "%" PRIu64 " connections are open and %u counted, with %u accepts armed", s.open, n->open, n->accepts_armed);
    CHECK(s.websockets == n->stats.websockets, "%" PRIu64 " WebSockets are open and %" PRIu64 " counted", s.websockets,
          n->stats.websockets);
    CHECK(s.queued == n->stats.queued_bytes, "%" PRIu64 " bytes are queued and %" PRIu64 " counted", s.queued,
          n->stats.queued_bytes);
    CHECK(s.replies == n->reply_bytes, "%" PRIu64 " bytes of answers are queued and %zu counted", s.replies,
          n->reply_bytes);
    CHECK(s.assembly == n->assembly_bytes, "%" PRIu64 " bytes are lent and %zu counted", s.assembly, n->assembly_bytes);
    CHECK(s.refusing == n->refusing, "%" PRIu64 " connections are refused and %u counted", s.refusing, n->refusing);
    CHECK(s.lingering == n->lingering && n->lingering <= n->limits.lingering_max,
          "%" PRIu64 " connections linger and %u counted, of %u", s.lingering, n->lingering, n->limits.lingering_max);
}
