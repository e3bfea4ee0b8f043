#include "fake_ring_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../net/tag.h"
#include "../../src/base/park.h"
#include "counts.h"

struct network network;

void *grown(void *array, size_t len, size_t *cap, size_t item_bytes)
{
    if (len < *cap) return array;
    *cap = *cap ? *cap * 2 : 16;
    void *larger = realloc(array, *cap * item_bytes);
    CHECK(larger, "out of memory");
    return larger;
}

bool fault(unsigned of) { return of && world_chance(of); }

int32_t one_of(const int32_t *errors, size_t num) { return errors[world_below(num)]; }

/* --- opening and closing ------------------------------------------------------------------------------------- */

enum status ring_open(struct ring **out, const struct ring_config *config, char *why, size_t why_len)
{
    if (network.open_fails) {
        network.open_fails = false;
        count_happened(COUNT_RING_OPEN_FAILS);
        snprintf(why, why_len, "the ring does not open");
        *out = NULL;
        return STATUS_NO_MEMORY;
    }
    struct ring *r = calloc(1, sizeof *r);
    CHECK(r && network.num_rings < RINGS_MAX, "too many rings");
    r->config = *config;
    r->keeps_closed = world_chance(2);
    if (r->keeps_closed) count_happened(COUNT_RING_KEEPS_CLOSED);
    r->knows_zero_copy = !world_chance(8);
    unsigned buffers = network.faults.buffers;
    r->num_buffers = buffers && buffers < config->buffers ? buffers : config->buffers;
    r->descriptors = calloc(config->descriptors, sizeof *r->descriptors);
    r->buffers = calloc(r->num_buffers, sizeof *r->buffers);
    r->free_buffers = calloc(r->num_buffers, sizeof *r->free_buffers);
    r->buffer_lent = calloc(r->num_buffers, sizeof *r->buffer_lent);
    CHECK(r->descriptors && r->buffers && r->free_buffers && r->buffer_lent, "out of memory");
    for (unsigned i = 0; i < r->num_buffers; i++) {
        r->buffers[i] = calloc(1, config->buffer_bytes + RING_PADDING);
        CHECK(r->buffers[i], "out of memory");
        r->free_buffers[r->num_free++] = (uint16_t)i;
    }
    network.rings[network.num_rings++] = r;
    *out = r;
    return STATUS_OK;
}

enum status ring_enable_here(struct ring *ring)
{
    CHECK(!ring->enabled, "a ring is enabled twice");
    ring->enabled = true;
    return STATUS_OK;
}

static void ring_free(struct ring *ring)
{
    for (unsigned i = 0; i < ring->num_buffers; i++) free(ring->buffers[i]);
    free(ring->buffers);
    free(ring->free_buffers);
    free(ring->buffer_lent);
    free(ring->zero_copies);
    free(ring->descriptors);
    free(ring->prepared);
    free(ring->arrivals);
    free(ring->visible);
    free(ring->accepts);
    free(ring);
}

/* buffers_underway: received into, and the completion has not been shown. */
static unsigned buffers_underway(const struct ring *ring)
{
    unsigned num = 0;
    for (size_t i = 0; i < ring->num_arrivals; i++)
        num += (ring->arrivals[i].completion.flags & RING_BUFFER) != 0;
    return num;
}

void ring_close_all(struct ring *ring)
{
    if (!ring) return;
    unsigned lent = ring->num_buffers - ring->num_free, underway = buffers_underway(ring);
    CHECK(lent == underway, "a ring ends with %u receive buffers not given back", lent - underway);
    for (size_t i = ring->next_visible; i < ring->num_visible; i++)
        CHECK(tag_op(ring->visible[i].completion.tag) == RING_OP_WAKE,
              "a ring ends with a completion that was not taken");
    for (unsigned i = 0; i < network.num_links; i++)
        if (network.links[i]->ring == ring) link_lose(network.links[i]);
    for (unsigned i = 0; i < network.num_rings; i++)
        if (network.rings[i] == ring) network.rings[i--] = network.rings[--network.num_rings];
    ring_free(ring);
}

void rings_crash(void)
{
    for (unsigned i = 0; i < network.num_links; i++) link_lose(network.links[i]);
    while (network.num_rings) ring_free(network.rings[--network.num_rings]);
}

void rings_set_faults(const struct ring_faults *faults)
{
    network.faults = *faults;
    network.starved = 0;
    for (unsigned i = 0; i < network.num_rings && !faults->delay_of; i++) /* what was held back comes */
        for (size_t n = 0; n < network.rings[i]->num_arrivals; n++) network.rings[i]->arrivals[n].due_ns = 0;
}

void rings_fail_open(void) { network.open_fails = true; }

/* --- preparing ----------------------------------------------------------------------------------------------- */

/* prepare flushes a full queue into the kernel first, and that also brings what has completed meanwhile. */
static struct operation *prepare(struct ring *ring, enum operation_kind kind, uint32_t fd, uint64_t tag)
{
    CHECK(ring->enabled, "an operation on a ring that is not enabled");
    if (network.faults.sq_entries && ring->num_prepared >= network.faults.sq_entries) {
        count_happened(COUNT_SUBMISSIONS_FULL);
        submit_prepared(ring);
        show_arrivals(ring);
    }
    ring->prepared = grown(ring->prepared, ring->num_prepared, &ring->cap_prepared, sizeof *ring->prepared);
    struct operation *op = &ring->prepared[ring->num_prepared++];
    *op = (struct operation){.kind = kind, .fd = fd, .tag = tag};
    return op;
}

/* hash_of takes eight bytes at a time: every byte of every send is hashed twice. */
static uint64_t hash_of(uint64_t h, const void *data, size_t len)
{
    const unsigned char *at = data;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        h = (h ^ word) * 0x9fb21c651e98df25u;
        h ^= h >> 32;
    }
    for (size_t i = 0; i < len; i++) h = (h ^ at[i]) * 0x100000001b3u;
    return h;
}

uint64_t send_hash(const struct operation *op)
{
    uint64_t h = 0xcbf29ce484222325u;
    if (!op->message) return hash_of(h, op->data, op->len);
    for (size_t i = 0; i < op->message->msg_iovlen; i++)
        h = hash_of(h, op->message->msg_iov[i].iov_base, op->message->msg_iov[i].iov_len);
    return h;
}

void ring_accept(struct ring *ring, int listen_fd, struct sockaddr_storage *peer, socklen_t *peer_len, bool there,
                 uint64_t tag)
{
    struct operation *op = prepare(ring, OP_ACCEPT, NO_FD, tag);
    op->listen_fd = listen_fd;
    op->peer = peer;
    op->peer_len = peer_len;
}

/* Of those who wait some may have given up when they are accepted, and others may have come. */
unsigned ring_backlog(int listen_fd)
{
    unsigned num = 0;
    for (unsigned i = 0; i < network.num_links; i++) {
        const struct link *l = network.links[i];
        num += l->listen_fd == listen_fd && l->fd == NO_FD && !l->gateway_closed;
    }
    return world_chance(4) ? (unsigned)world_below(num + 3) : num;
}

void ring_recv(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_RECV, ring_fd, tag); }

void ring_recv_once(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_RECV_ONCE, ring_fd, tag); }

void ring_poll_in(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_POLL_IN, ring_fd, tag); }

void ring_send(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    CHECK(len > 0, "a send of nothing");
    struct operation *op = prepare(ring, OP_SEND, ring_fd, tag);
    op->data = data;
    op->len = len;
    op->bytes_hash = send_hash(op);
}

void ring_send_last(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    ring_send(ring, ring_fd, data, len, tag);
    ring->prepared[ring->num_prepared - 1].last = true;
}

void ring_sendv(struct ring *ring, uint32_t ring_fd, const struct msghdr *message, uint64_t tag)
{
    struct operation *op = prepare(ring, OP_SEND, ring_fd, tag);
    op->message = message;
    op->bytes_hash = send_hash(op);
}

void ring_send_zero_copy(struct ring *ring, uint32_t ring_fd, const void *data, size_t len, uint64_t tag)
{
    CHECK(ring->knows_zero_copy, "a send without a copy on a ring that does not know it");
    CHECK(len > 0, "a send of nothing");
    struct operation *op = prepare(ring, OP_SEND_ZC, ring_fd, tag);
    op->data = data;
    op->len = len;
    op->bytes_hash = send_hash(op);
    ring->zero_copies =
        grown(ring->zero_copies, ring->num_zero_copies, &ring->cap_zero_copies, sizeof *ring->zero_copies);
    ring->zero_copies[ring->num_zero_copies++] =
        (struct zero_copy){.tag = tag, .data = data, .len = len, .bytes_hash = op->bytes_hash};
}

bool ring_knows_zero_copy(const struct ring *ring) { return ring->knows_zero_copy; }

void ring_poll_out(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_POLL_OUT, ring_fd, tag); }

void ring_cancel(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_CANCEL_FD, ring_fd, tag); }

void ring_cancel_tag(struct ring *ring, uint64_t target, uint64_t tag)
{
    prepare(ring, OP_CANCEL_TAG, NO_FD, tag)->target = target;
}

void ring_shutdown_out(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_SHUTDOWN, ring_fd, tag); }

void ring_bound_unsent(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_BOUND, ring_fd, tag); }

void ring_close(struct ring *ring, uint32_t ring_fd, uint64_t tag) { prepare(ring, OP_CLOSE, ring_fd, tag); }

bool ring_keeps_closed(const struct ring *ring) { return ring->keeps_closed; }

void ring_watch(struct ring *ring, struct park *park, uint64_t tag)
{
    prepare(ring, OP_WATCH, NO_FD, tag)->park = park;
}

/* --- completions --------------------------------------------------------------------------------------------- */

bool ring_next(struct ring *ring, struct ring_completion *out)
{
    if (ring->next_visible == ring->num_visible && ring->overflowed) {
        count_happened(COUNT_COMPLETIONS_OVERFLOW);
        ring->stats.cq_overflows++;
        show_arrivals(ring);
    }
    if (ring->next_visible == ring->num_visible) return false;
    *out = ring->visible[ring->next_visible++].completion;
    ring->stats.completed++;
    if (out->result == -ENOBUFS && tag_op(out->tag) == RING_OP_RECV) ring->stats.buffers_empty++;
    if (tag_op(out->tag) == RING_OP_SEND_ZC && !(out->flags & RING_MORE)) zero_copy_taken(ring, out->tag);
    return true;
}

bool ring_pending(const struct ring *ring) { return ring->num_prepared > 0; }

bool ring_ready(const struct ring *ring) { return ring->next_visible < ring->num_visible || ring->overflowed; }

bool ring_has_arrivals(const struct ring *ring) { return ring_ready(ring) || ring_due_ns(ring) <= world_now_ns(); }

bool rings_have_arrivals(void)
{
    bool any = false;
    for (unsigned i = 0; i < network.num_rings; i++) any |= ring_has_arrivals(network.rings[i]);
    return any;
}

uint64_t ring_due_ns(const struct ring *ring)
{
    uint64_t due_ns = WORLD_NEVER;
    for (size_t i = 0; i < ring->num_arrivals; i++)
        if (ring->arrivals[i].due_ns < due_ns && is_first(ring, i)) due_ns = ring->arrivals[i].due_ns;
    return due_ns;
}

static struct arrival *wake_arrival(const struct ring *ring)
{
    for (size_t i = 0; i < ring->num_arrivals; i++)
        if (tag_op(ring->arrivals[i].completion.tag) == RING_OP_WAKE) return &ring->arrivals[i];
    return NULL;
}

bool ring_wake_coming(const struct ring *ring) { return ring_ready(ring) || wake_arrival(ring); }

static void watch_fires(struct ring *ring, uint64_t due_ns)
{
    struct arrival *there = wake_arrival(ring); /* an eventfd that is readable already says nothing new */
    if (there) {
        if (due_ns < there->due_ns) there->due_ns = due_ns;
        return;
    }
    if (!ring->watching) {
        ring->signalled = true;
        return;
    }
    struct ring_completion fired = {.tag = ring->watch_tag, .result = 1, .flags = RING_MORE};
    if (fault(network.faults.odd_of)) {
        count_happened(COUNT_WATCH_ENDS);
        fired.flags = 0;
        ring->watching = false;
    }
    arrive(ring, NO_FD, fired)->due_ns = due_ns;
}

bool ring_signal_watch(const struct park *park, uint64_t due_ns)
{
    for (unsigned i = 0; i < network.num_rings; i++) {
        if (network.rings[i]->watched != park) continue;
        watch_fires(network.rings[i], due_ns);
        return true;
    }
    return false;
}

const void *ring_buffer(struct ring *ring, uint16_t buffer)
{
    CHECK(buffer < ring->num_buffers && ring->buffer_lent[buffer], "receive buffer %u is read but not lent", buffer);
    return ring->buffers[buffer];
}

void ring_buffer_return(struct ring *ring, uint16_t buffer)
{
    CHECK(buffer < ring->num_buffers && ring->buffer_lent[buffer], "receive buffer %u is given back twice", buffer);
    ring->buffer_lent[buffer] = false;
    memset(ring->buffers[buffer], 0xdd, 64); /* whoever still reads it sees nonsense */
    ring->free_buffers[ring->num_free++] = buffer;
}

const struct ring_stats *ring_stats(const struct ring *ring) { return &ring->stats; }

static bool is_of(uint64_t tag, uint32_t slot, uint32_t generation)
{
    return tag_slot(tag) == slot && tag_generation(tag) == generation && tag_op(tag) != RING_OP_ACCEPT &&
           tag_op(tag) != RING_OP_WAKE && tag_op(tag) != RING_OP_SEND_ZC;
}

/* completions_of counts those that are the last of their operation, sends apart. */
static unsigned completions_of(const struct arrival *arrivals, size_t len, uint32_t slot, uint32_t generation,
                               bool *send_told)
{
    unsigned num = 0;
    for (size_t i = 0; i < len; i++) {
        const struct ring_completion *c = &arrivals[i].completion;
        if (!is_of(c->tag, slot, generation)) continue;
        bool send = tag_op(c->tag) == RING_OP_SEND;
        *send_told |= send;
        num += !send && !(c->flags & RING_MORE);
    }
    return num;
}

unsigned ring_zero_copies(const struct ring *ring, unsigned at, uint64_t *tag, struct slice *bytes)
{
    if (at < ring->num_zero_copies) {
        const struct zero_copy *z = &ring->zero_copies[at];
        *tag = z->tag;
        *bytes = slice_of(z->data, z->len);
    }
    return (unsigned)ring->num_zero_copies;
}

bool rings_reading(void)
{
    for (unsigned r = 0; r < network.num_rings; r++)
        for (size_t i = 0; i < network.rings[r]->num_zero_copies; i++)
            if (network.rings[r]->zero_copies[i].link) return true;
    return false;
}

unsigned ring_outstanding(const struct ring *ring, uint32_t slot, uint32_t generation, bool *send_told)
{
    unsigned num = 0;
    *send_told = false;
    for (size_t i = 0; i < ring->num_prepared; i++)
        num += is_of(ring->prepared[i].tag, slot, generation) && ring->prepared[i].kind != OP_SEND;
    num += completions_of(ring->arrivals, ring->num_arrivals, slot, generation, send_told);
    num += completions_of(ring->visible + ring->next_visible, ring->num_visible - ring->next_visible, slot, generation,
                          send_told);
    for (unsigned i = 0; i < network.num_links; i++) {
        const struct link *l = network.links[i];
        if (l->ring != ring) continue;
        num += l->receiving && is_of(l->receive_tag, slot, generation);
        num += l->polling_in && is_of(l->poll_in_tag, slot, generation);
        num += l->polling && is_of(l->poll_tag, slot, generation);
        num += l->shutting && is_of(l->shutdown_tag, slot, generation);
    }
    return num;
}
