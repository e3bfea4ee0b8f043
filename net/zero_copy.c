#include "zero_copy.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../src/base/assert.h"
#include "../src/base/planted.h"
#include "connection.h"

#define NONE UINT32_MAX

static bool may_send(const struct net *n, const struct conn *c, const struct frame *f);
static uint32_t hold_take(struct zero_copy *z);
static void hold_end(struct net *n, uint32_t at);
static struct conn *hold_conn(const struct net *n, const struct zero_copy_hold *h);
static void send_told(struct net *n, struct conn *c, int32_t result);

void zero_copy_open(struct net *n)
{
    struct zero_copy *z = &n->zero_copy;
    *z = (struct zero_copy){.bytes_min = SIZE_MAX, ._free = NONE};
    list_init(&z->oldest);
    if (n->limits.zero_copy == NET_ZERO_COPY_OFF) return;
    z->always = n->limits.zero_copy == NET_ZERO_COPY_ON;
    z->account_max = n->limits.zero_copy_account_max;
    if (!z->account_max) z->account_max = FRAMES_BYTES_MAX / ZERO_COPY_ACCOUNT_PART;
    z->_holds = calloc(ZERO_COPY_SENDS_MAX, sizeof *z->_holds); /* pages that are not touched cost nothing */
    z->_ended_ticks = calloc(n->limits.connections_max, sizeof *z->_ended_ticks);
    ASSERT(z->_holds != NULL && z->_ended_ticks != NULL);
}

void zero_copy_start(struct net *n)
{
    struct zero_copy *z = &n->zero_copy;
    size_t bytes_min = n->limits.zero_copy_bytes_min;
    if (z->_holds && ring_knows_zero_copy(n->ring)) z->bytes_min = bytes_min ? bytes_min : ZERO_COPY_BYTES_MIN;
}

/* left_behind: what nets that are closed held, for whoever looks for memory that was lost. */
struct left_behind {
    struct left_behind *before;
    struct zero_copy_hold *holds;
};
static struct left_behind *_Atomic left_behind;

void zero_copy_close(struct net *n)
{
    struct zero_copy *z = &n->zero_copy;
    if (z->num_held == 0) {
        free(z->_holds);
    } else {
        struct left_behind *left = malloc(sizeof *left);
        ASSERT(left != NULL);
        left->holds = z->_holds;
        left->before = atomic_exchange(&left_behind, left);
    }
    z->_holds = NULL;
    free(z->_ended_ticks);
}

void zero_copy_accept(const struct net *n, struct conn *c)
{
    static const uint8_t v6[16] = {[15] = 1}, v4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    uint8_t peer[16];
    bool local = !conn_peer_bytes(c, peer) || memcmp(peer, v6, sizeof v6) == 0 || memcmp(peer, v4, sizeof v4) == 0;
    if (local && !n->zero_copy.always) c->zero_copy_way = ZERO_COPY_COPIES;
}

/* --- sending ------------------------------------------------------------------------------------------------ */

bool zero_copy_send(struct net *n, struct conn *c, const void *data, size_t bytes)
{
    struct zero_copy *z = &n->zero_copy;
    struct frame *f = send_queue_head(&c->queue);
    if (!may_send(n, c, f)) return false;
    uint32_t at = hold_take(z);
    struct zero_copy_hold *h = &z->_holds[at];
    *h = (struct zero_copy_hold){.frame = f,
                                 .slot = c->slot,
                                 .generation = c->generation,
                                 .bytes = (uint32_t)bytes,
                                 .alone = c->zero_copies == 0,
                                 .since_tick = n->now_tick};
    frame_ref(f, n->core);
    list_push(&z->oldest, &h->by_age);
    z->num_held++;
    z->held_bytes += f->len;
    c->zero_copies++;
    c->told = true;
    ring_send_zero_copy(n->ring, c->ring_fd, data, bytes, tag_make(RING_OP_SEND_ZC, c->generation, at));
    return true;
}

/* may_send: a connection that is on its way out sends its last bytes with the end of its stream (ring_send_last). */
static bool may_send(const struct net *n, const struct conn *c, const struct frame *f)
{
    const struct zero_copy *z = &n->zero_copy;
    if (c->state != CONN_WEBSOCKET || c->zero_copy_way == ZERO_COPY_COPIES || !f->account) return false;
    if (atomic_load_explicit(f->account, memory_order_relaxed) > z->account_max) return false;
    bool tries = c->zero_copy_way == ZERO_COPY_UNTRIED && !z->always;
    return c->zero_copies < (tries ? 1 : ZERO_COPY_CONN_SENDS_MAX) && z->num_held < ZERO_COPY_SENDS_MAX &&
           z->held_bytes + f->len <= ZERO_COPY_BYTES_MAX && n->now_tick >= z->rests_until_tick;
}

static uint32_t hold_take(struct zero_copy *z)
{
    if (z->_free == NONE) {
        ASSERT(z->num_used < ZERO_COPY_SENDS_MAX);
        return z->num_used++;
    }
    uint32_t at = z->_free;
    z->_free = z->_holds[at].next_free;
    return at;
}

/* --- completions -------------------------------------------------------------------------------------------- */

void zero_copy_complete(struct net *n, const struct ring_completion *done)
{
    struct zero_copy *z = &n->zero_copy;
    uint32_t at = tag_slot(done->tag);
    ASSERT(at < z->num_used && z->_holds[at].frame);
    struct zero_copy_hold *h = &z->_holds[at];
    struct conn *c = hold_conn(n, h);
    ASSERT(tag_generation(done->tag) == h->generation && (c || h->told));
    bool notification = done->flags & RING_NOTIFICATION;
    if (notification) {
        h->copied = done->flags & RING_COPIED;
    } else {
        ASSERT(!h->told);
        h->told = true;
        h->result = done->result;
    }
    h->let_go |= !(done->flags & RING_MORE);
    bool through = h->told && (h->let_go || PLANTED(zero_copy_let_go_early));
    if (through && !(PLANTED(zero_copy_kept) && !c)) hold_end(n, at);
    if (!notification) send_told(n, c, done->result);
}

/* send_told handles the first completion as an ordinary send's, unless the kernel refused to do it without a copy. */
static void send_told(struct net *n, struct conn *c, int32_t result)
{
    bool no_memory = result == -ENOMEM || result == -ENOBUFS; /* of what may be locked, or at all */
    c->told = false;
    if (no_memory) n->zero_copy.rests_until_tick = n->now_tick + ZERO_COPY_REST_MS / TIMER_TICK_MS;
    if (result == -EOPNOTSUPP) c->zero_copy_way = ZERO_COPY_COPIES; /* a socket of another kind than TCP */
    if (PLANTED(zero_copy_short_is_whole) && result > 0) result = (int32_t)c->sending_bytes;
    if (no_memory || result == -EOPNOTSUPP) conn_send_again(n, c);
    else conn_on_send(n, c, result);
}

static enum net_zero_copy_result result_of(const struct zero_copy_hold *h)
{
    if (h->result < 0 && h->result != -EAGAIN) return NET_ZERO_COPY_FAILED;
    if (h->result > 0 && h->copied) return NET_ZERO_COPY_COPIED; /* of what was not sent nothing is said */
    return h->result == (int32_t)h->bytes ? NET_ZERO_COPY_SENT : NET_ZERO_COPY_SHORT;
}

/* hold_end: both completions have come. */
static void hold_end(struct net *n, uint32_t at)
{
    struct zero_copy *z = &n->zero_copy;
    struct zero_copy_hold *h = &z->_holds[at];
    struct conn *c = hold_conn(n, h);
    enum net_zero_copy_result result = result_of(h);
    n->stats.zero_copy[result]++;
    if (c) {
        ASSERT(c->zero_copies > 0);
        c->zero_copies--;
        if (h->result > 0) z->_ended_ticks[c->slot] = n->now_tick;
        if (result == NET_ZERO_COPY_COPIED && h->alone && !z->always) c->zero_copy_way = ZERO_COPY_COPIES;
        if (h->result > 0 && !h->copied && c->zero_copy_way == ZERO_COPY_UNTRIED) c->zero_copy_way = ZERO_COPY_PAYS;
    }
    list_remove(&h->by_age);
    z->num_held--;
    z->held_bytes -= h->frame->len;
    frame_unref(h->frame, n->core);
    h->frame = NULL;
    h->next_free = z->_free;
    z->_free = at;
}

/* hold_conn is the connection of a send; NULL when it is gone. */
static struct conn *hold_conn(const struct net *n, const struct zero_copy_hold *h)
{
    struct conn *c = net_slot(n, h->slot);
    return c->generation == h->generation && c->state != CONN_FREE ? c : NULL;
}

/* --- what is held ------------------------------------------------------------------------------------------- */

void zero_copy_expire(struct net *n)
{
    struct zero_copy *z = &n->zero_copy;
    while (!list_empty(&z->oldest)) {
        struct zero_copy_hold *h = CONTAINER_OF(z->oldest.next, struct zero_copy_hold, by_age);
        if (n->now_tick - h->since_tick <= ZERO_COPY_HELD_MS_MAX / TIMER_TICK_MS) return;
        list_remove(&h->by_age);
        struct conn *c = hold_conn(n, h);
        if (!c || c->state != CONN_WEBSOCKET) continue; /* others have deadlines of their own */
        if (z->_ended_ticks[c->slot] > h->since_tick) {
            h->since_tick = n->now_tick;
            list_push(&z->oldest, &h->by_age);
        } else {
            conn_stalled(n, c);
        }
    }
}

const struct zero_copy_hold *zero_copy_held(const struct zero_copy *z, uint32_t at)
{
    return at < z->num_used && z->_holds[at].frame ? &z->_holds[at] : NULL;
}
