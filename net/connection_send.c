#include "connection.h"

#include <errno.h>

#include "../src/base/planted.h"
#include "../src/base/probe.h"

static void conn_replies(struct net *n, struct conn *c, size_t before);

/* --- the queue ---------------------------------------------------------------------------------------------- */

static size_t push_bytes(const struct conn *c)
{
    return send_queue_class_bytes(&c->queue, CONN_DURABLE) + send_queue_class_bytes(&c->queue, CONN_EPHEMERAL);
}

void conn_queue_drop(struct net *n, struct conn *c, enum conn_class class)
{
    unsigned pinned = c->sending ? c->queue.sending : 0;
    uint32_t before = send_queue_len(&c->queue);
    size_t replies = conn_reply_bytes(c);
    n->stats.queued_bytes -= send_queue_drop(&c->queue, &n->send_pool, n->core, class, pinned);
    if (class == CONN_EPHEMERAL) n->stats.ephemerals_dropped += before - send_queue_len(&c->queue);
    if (class == CONN_REPLAY) conn_replies(n, c, replies);
}

/* conn_admits answers whether the class has room for `len` more bytes. A class that is empty takes any length: a
 * frame longer than the bound could otherwise never be sent. So do answers while no more waits than lets the next
 * request in (conn_takes_input): what was taken up is answered, however large. */
bool conn_admits(struct net *n, struct conn *c, size_t len, enum conn_class class)
{
    size_t of_class = send_queue_class_bytes(&c->queue, class), cap = n->limits.send_queue_bytes_max;
    size_t replies = conn_reply_bytes(c);
    switch (class) {
    case CONN_REPLY:
    case CONN_REPLAY: return replies < REPLY_PAUSE_BYTES || replies + len <= REPLY_QUEUE_BYTES_MAX;
    case CONN_EPHEMERAL: return of_class + len <= EPHEMERAL_QUEUE_BYTES_MAX && push_bytes(c) + len <= cap;
    case CONN_DURABLE:
        if (LIKELY(push_bytes(c) + len <= cap) || of_class == 0 || PLANTED(queue_unbounded)) return true;
        conn_queue_drop(n, c, CONN_EPHEMERAL);
        if (push_bytes(c) + len <= cap) return true;
        c->above_half = true; /* whoever was refused is told when there is room */
        return false;
    }
    UNREACHABLE();
}

enum status net_send(struct net *n, struct conn *c, struct frame *f, enum conn_class class)
{
    if (UNLIKELY(c->state != CONN_WEBSOCKET)) return STATUS_NOT_FOUND;
    if (UNLIKELY(!conn_admits(n, c, f->len, class))) {
        n->stats.ephemerals_dropped += class == CONN_EPHEMERAL;
        return STATUS_FULL;
    }
    conn_push(n, c, f, class);
    return STATUS_OK;
}

/* conn_replies accounts for answers that were queued, or left the queue; `before` is what waited of them then. */
static void conn_replies(struct net *n, struct conn *c, size_t before)
{
    size_t now = conn_reply_bytes(c);
    n->reply_bytes += now - before;
    if (c->account) c->account->bytes += now - before;
}

void conn_queue_clear(struct net *n, struct conn *c)
{
    size_t replies = conn_reply_bytes(c);
    n->stats.queued_bytes -= send_queue_clear(&c->queue, &n->send_pool, n->core);
    if (replies) conn_replies(n, c, replies);
}

void conn_push(struct net *n, struct conn *c, struct frame *f, enum conn_class class)
{
    frame_ref(f, n->core);
    send_queue_push(&c->queue, &n->send_pool, f, class);
    n->stats.queued_bytes += f->len;
    bool reply = class == CONN_REPLY || class == CONN_REPLAY;
    if (reply) conn_replies(n, c, conn_reply_bytes(c) - f->len);
    if (!reply && push_bytes(c) > n->limits.send_queue_bytes_max / 2) c->above_half = true;
    net_dirty(n, c);
}

/* --- sending ------------------------------------------------------------------------------------------------ */

static void *scratch_take(struct net *n, size_t bytes)
{
    size_t at = (n->scratch_len + 15) & ~(size_t)15;
    if (at + bytes > SEND_SCRATCH_BYTES) return NULL;
    n->scratch_len = at + bytes;
    return n->scratch + at;
}

/* conn_ends_behind: `bytes` are the last that this connection sends, and its close follows at once. */
static bool conn_ends_behind(const struct net *n, const struct conn *c, size_t bytes)
{
    if (PLANTED(close_frame_held) && c->state == CONN_WS_CLOSING) return true;
    if (LIKELY(c->state != CONN_ENDING) || c->shut || bytes < send_queue_bytes(&c->queue)) return false;
    return c->peer_done || !conn_should_linger(n, c);
}

static void send_bytes(struct net *n, struct conn *c, const void *data, size_t bytes)
{
    uint64_t tag = conn_tag(c, RING_OP_SEND);
    if (UNLIKELY(conn_ends_behind(n, c, bytes))) ring_send_last(n->ring, c->ring_fd, data, bytes, tag);
    else ring_send(n->ring, c->ring_fd, data, bytes, tag);
}

/* send_copied sends small parts as one run of bytes: copying them is cheaper than an iovec each. */
static bool send_copied(struct net *n, struct conn *c, const struct iovec *parts, unsigned num, size_t bytes)
{
    char *copy = scratch_take(n, bytes);
    if (!copy) return false;
    char *at = copy;
    for (unsigned i = 0; i < num; at += parts[i].iov_len, i++) memcpy(at, parts[i].iov_base, parts[i].iov_len);
    send_bytes(n, c, copy, bytes);
    return true;
}

static bool send_vector(struct net *n, struct conn *c, const struct iovec *parts, unsigned num)
{
    struct {
        struct msghdr message;
        struct iovec parts[SEND_VECTOR_MAX];
    } *vector = scratch_take(n, sizeof *vector);
    if (!vector) return false;
    memcpy(vector->parts, parts, num * sizeof *parts);
    vector->message = (struct msghdr){.msg_iov = vector->parts, .msg_iovlen = num};
    ring_sendv(n->ring, c->ring_fd, &vector->message, conn_tag(c, RING_OP_SEND));
    return true;
}

bool conn_flush(struct net *n, struct conn *c)
{
    if (c->sending || c->blocked || c->state >= CONN_CLOSING || send_queue_empty(&c->queue)) return true;
    struct iovec parts[SEND_VECTOR_MAX];
    size_t bytes;
    unsigned num = send_queue_peek(&c->queue, &bytes, parts, SEND_VECTOR_MAX, SEND_BYTES_MAX);
    if (num == 1) {
        bool large = UNLIKELY(bytes >= n->zero_copy.bytes_min);
        if (!large || !zero_copy_send(n, c, parts[0].iov_base, bytes)) send_bytes(n, c, parts[0].iov_base, bytes);
    } else {
        bool small = bytes <= SEND_COPY_BYTES_MAX;
        if (!(small ? send_copied(n, c, parts, num, bytes) : send_vector(n, c, parts, num))) return false;
    }
    conn_op_begin(c);
    c->sending = true;
    c->sending_bytes = (uint32_t)bytes;
    c->queue.sending = (uint8_t)num;
    n->stats.sends++;
    probe_send(n->core, c->slot, bytes, num);
    return true;
}

bool conn_has_follow_up(const struct net *n, const struct conn *c)
{
    return send_queue_len(&c->queue) > c->queue.sending || c->sending_bytes < send_queue_bytes(&c->queue) ||
           c->state >= CONN_WS_CLOSING || c->input || c->wait == WAIT_NONE || c->want_drain || c->above_half;
}

/* conn_progress takes sent bytes off the queue and tells whoever waited for that. */
static void conn_progress(struct net *n, struct conn *c, size_t bytes)
{
    size_t replies = conn_reply_bytes(c);
    unsigned frames = send_queue_sent(&c->queue, &n->send_pool, n->core, bytes);
    if (replies) conn_replies(n, c, replies);
    c->frames_out += frames;
    n->stats.frames_out += frames;
    n->stats.bytes_out += bytes;
    n->stats.queued_bytes -= bytes;
    bool empty = send_queue_empty(&c->queue);
    if (!empty)
        net_dirty(n, c);
    else if (UNLIKELY(c->state == CONN_WS_CLOSING || c->state == CONN_ENDING))
        conn_flushed(n, c);
    /* What was held back for want of room for its answers. */
    if (UNLIKELY((c->input || c->wait == WAIT_NONE) && c->state < CONN_CLOSING)) net_resume(n, c);
    bool room = c->above_half && push_bytes(c) <= n->limits.send_queue_bytes_max / 2;
    if (LIKELY(!room && !(empty && c->want_drain))) return;
    c->above_half = false;
    if (empty) c->want_drain = false;
    if (c->state == CONN_WEBSOCKET) n->handlers.on_drain(n->handlers.context, c);
}

void conn_sent_whole(struct net *n, struct conn *c)
{
    ASSERT(c->sending);
    c->sending = false;
    conn_op_end(c);
    if (c->state < CONN_CLOSING) {
        c->stalled_tick = 0;
        conn_progress(n, c, c->sending_bytes);
        return;
    }
    conn_queue_clear(n, c);
    conn_join(n, c);
}

void conn_on_send(struct net *n, struct conn *c, int32_t result)
{
    if (c->state >= CONN_CLOSING || result == (int32_t)c->sending_bytes) {
        conn_sent_whole(n, c);
        return;
    }
    c->sending = false;
    conn_op_end(c);
    if (result < 0 && result != -EAGAIN) {
        conn_terminate(n, c);
        return;
    }
    size_t sent = result > 0 ? (size_t)result : 0;
    ASSERT(sent < c->sending_bytes);
    n->stats.short_sends++;
    if (sent || !c->stalled_tick) c->stalled_tick = n->now_tick;
    c->blocked = true;
    conn_op_begin(c);
    ring_poll_out(n->ring, c->ring_fd, conn_tag(c, RING_OP_POLL_OUT));
    conn_arm_timer(n, c);
    if (sent) conn_progress(n, c, sent);
}

void conn_send_again(struct net *n, struct conn *c)
{
    if (c->state >= CONN_CLOSING) {
        conn_sent_whole(n, c);
        return;
    }
    c->sending = false;
    conn_op_end(c);
    net_dirty(n, c);
}

void conn_on_poll_out(struct net *n, struct conn *c)
{
    c->blocked = false;
    if (c->state >= CONN_CLOSING)
        conn_join(n, c);
    else
        net_dirty(n, c); /* an error on the socket shows in the send */
}
