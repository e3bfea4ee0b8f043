#include "connection.h"

#include <errno.h>
#include <stdlib.h>

#include "../src/base/planted.h"

/* Lent memory that the core keeps for the next who needs it; more is freed when it comes back. */
#define POOL_KEPT 64u
#define POOL_KEPT_BYTES (64u << 10)

/* --- lent memory -------------------------------------------------------------------------------------------- */

static struct conn_input *input_lend(struct net *n)
{
    struct conn_input *input = n->inputs;
    if (!input) {
        input = calloc(1, sizeof *input);
        ASSERT(input != NULL);
        return input;
    }
    n->inputs = input->next;
    n->num_inputs--;
    return input;
}

static void buf_empty(struct buf *b)
{
    if (b->cap > POOL_KEPT_BYTES) buf_free(b);
    b->len = 0;
}

static void input_return(struct net *n, struct conn *c)
{
    struct conn_input *input = c->input;
    if (!input) return;
    c->input = NULL;
    buf_empty(&input->bytes);
    input->at = 0;
    if (n->num_inputs < POOL_KEPT) {
        input->next = n->inputs;
        n->inputs = input;
        n->num_inputs++;
    } else {
        buf_free(&input->bytes);
        free(input);
    }
}

static struct conn_exchange *exchange_lend(struct net *n)
{
    struct conn_exchange *exchange = n->exchanges;
    if (!exchange) {
        exchange = calloc(1, sizeof *exchange);
        ASSERT(exchange != NULL);
        return exchange;
    }
    n->exchanges = exchange->next;
    n->num_exchanges--;
    return exchange;
}

static void exchange_return(struct net *n, struct conn_exchange *exchange)
{
    if (!exchange) return;
    buf_empty(&exchange->head);
    buf_empty(&exchange->body);
    if (n->num_exchanges < POOL_KEPT) {
        exchange->next = n->exchanges;
        n->exchanges = exchange;
        n->num_exchanges++;
    } else {
        buf_free(&exchange->head);
        buf_free(&exchange->body);
        free(exchange);
    }
}

/* conn_input_discard gives back all that was lent for input; nothing more is taken up. */
void conn_input_discard(struct net *n, struct conn *c)
{
    input_return(n, c);
    if (c->websocket) {
        ws_in_end(&c->ws, n->ws_pool);
        return;
    }
    exchange_return(n, c->exchange);
    c->exchange = NULL;
}

/* assembly_fits: may the connection hold `bytes`, which are counted already? Whoever needs much gets what is free, and
 * no more than the others have left; a little is had as long as there is any, and by an account that holds little
 * always. */
static bool assembly_fits(const struct net *n, const struct conn *c, size_t bytes)
{
    size_t all = n->assembly_bytes, max = n->limits.assembly_bytes_max;
    const struct net_account *account = c->account;
    if (!account) return all <= max;
    if (account->assembly_max && account->assembly > account->assembly_max) return false;
    if (bytes <= ASSEMBLY_SMALL_BYTES) return all <= max || account->assembly <= max / 8;
    return all <= max && account->assembly <= max - all;
}

/* conn_account brings the accounts of lent memory up to date; false when too much has been lent. */
static bool conn_account(struct net *n, struct conn *c)
{
    size_t bytes = c->websocket ? ws_in_bytes(&c->ws) : 0;
    if (c->input) bytes += c->input->bytes.cap;
    if (!c->websocket && c->exchange) bytes += c->exchange->head.cap + c->exchange->body.cap;
    if (bytes > UINT32_MAX) bytes = UINT32_MAX;
    n->assembly_bytes += bytes - c->assembly_bytes;
    if (c->account) c->account->assembly += bytes - c->assembly_bytes;
    c->assembly_bytes = (uint32_t)bytes;
    return bytes == 0 || assembly_fits(n, c, bytes);
}

/* --- receiving ---------------------------------------------------------------------------------------------- */

/* conn_takes_input answers whether received bytes may be looked at now. */
bool conn_takes_input(const struct net *n, const struct conn *c)
{
    size_t replies = conn_reply_bytes(c);
    switch ((enum conn_state)c->state) {
    case CONN_HTTP: return replies < HTTP_REPLY_PAUSE_BYTES;
    case CONN_WEBSOCKET: return replies < REPLY_PAUSE_BYTES && c->requests < n->limits.requests_in_flight_max;
    case CONN_WS_CLOSING: return true;
    case CONN_FREE:
    case CONN_REQUEST:
    case CONN_ENDING:
    case CONN_CLOSING:
    case CONN_RELEASING: return false;
    }
    return false;
}

/* conn_reads answers whether input should be waited for. While input is held for later the socket is read on up to a
 * bound, so that its end is noticed and pipelined requests are at hand. */
static bool conn_reads(const struct conn *c)
{
    if (c->peer_done || c->state >= CONN_CLOSING) return false;
    /* Whoever said that nothing follows, and has kept to it, is closed once the queue is flushed
     * (conn_should_linger). */
    if (c->state == CONN_ENDING) return !c->said_last || c->readable || c->discarded_bytes > 0;
    return !c->input || c->input->bytes.len - c->input->at < INPUT_HELD_BYTES_MAX;
}

/* --- waiting for input -------------------------------------------------------------------------------------- */

/* next_wait: a poll looks at the socket as it is, so it misses nothing that came before it, and choosing it is always
 * right. What is known to be there is received without one: the first bytes of a connection that was accepted with
 * them, those that the last receive left, and those that found no buffer. */
static enum conn_wait next_wait(const struct conn *c)
{
    if (c->readings >= RECV_STREAM_AFTER) return WAIT_STREAM;
    return c->readable ? WAIT_ONCE : WAIT_POLL;
}

void conn_read_on(struct net *n, struct conn *c)
{
    if (c->wait != WAIT_NONE || c->resuming || !conn_reads(c)) return;
    enum conn_wait next = next_wait(c);
    c->wait = (uint8_t)next;
    c->readable = false;
    conn_op_begin(c);
    if (next == WAIT_POLL) ring_poll_in(n->ring, c->ring_fd, conn_wait_tag(c));
    else if (next == WAIT_ONCE) ring_recv_once(n->ring, c->ring_fd, conn_wait_tag(c));
    else ring_recv(n->ring, c->ring_fd, conn_wait_tag(c));
}

uint64_t conn_wait_tag(const struct conn *c)
{
    ASSERT(c->wait != WAIT_NONE);
    return conn_tag(c, c->wait == WAIT_POLL ? RING_OP_POLL_IN : RING_OP_RECV);
}

/* wait_over: it has completed, by itself or because it was cancelled. */
static void wait_over(struct conn *c)
{
    ASSERT(c->wait != WAIT_NONE);
    c->wait = WAIT_NONE;
    c->resting = false;
    conn_op_end(c);
}

void conn_end_wait(struct net *n, struct conn *c)
{
    if (c->wait == WAIT_NONE || c->resting) return;
    c->resting = true;
    conn_op_begin(c);
    ring_cancel_tag(n->ring, conn_wait_tag(c), conn_tag(c, RING_OP_CANCEL));
}

/* count_reading counts readings that come soon after one another. */
static void count_reading(struct conn *c, bool soon)
{
    if (!soon) c->readings = 0;
    else if (c->readings < RECV_STREAM_AFTER) c->readings++;
}

/* conn_cool: when the cancellation misses, the next timer finds it armed still. */
void conn_cool(struct net *n, struct conn *c)
{
    if (c->wait != WAIT_STREAM || c->state >= CONN_CLOSING) return;
    if (n->now_tick - c->heard_tick < RECV_QUIET_MS / TIMER_TICK_MS) return;
    c->readings = 0;
    conn_end_wait(n, c);
}

/* conn_on_poll_in: an error of the socket shows in the receive. */
void conn_on_poll_in(struct net *n, struct conn *c, int32_t result)
{
    wait_over(c);
    if (c->state >= CONN_CLOSING) {
        conn_join(n, c);
        return;
    }
    if (result != -ECANCELED) {
        count_reading(c, n->now_tick - c->heard_tick <= RECV_SOON_MS / TIMER_TICK_MS);
        c->heard_tick = n->now_tick; /* bytes or an end; the timers of this turn come before the receive */
        c->readable = true;
    }
    conn_read_on(n, c);
}

/* conn_hold keeps a copy of bytes for later, and stops receiving when they are enough. */
static void conn_hold(struct net *n, struct conn *c, struct slice bytes)
{
    if (!c->input) c->input = input_lend(n);
    struct conn_input *input = c->input;
    /* Half is used up: moving the rest costs no more than it brought. */
    if (input->at > 0 && input->at >= input->bytes.len / 2) {
        buf_consume(&input->bytes, input->at);
        input->at = 0;
    }
    buf_reserve(&input->bytes, bytes.len + NET_PADDING);
    buf_append(&input->bytes, bytes.data, bytes.len);
    if (!conn_reads(c)) conn_end_wait(n, c);
}

/* http_deliver hands a whole request up; from here on it is the core's to answer. */
static void http_deliver(struct net *n, struct conn *c, const struct http_request *request)
{
    n->stats.http_requests++;
    c->head_only = request->method == HTTP_HEAD;
    c->keep_alive = request->keep_alive;
    c->minor_version = request->minor_version & 1;
    c->partial = false;
    c->note = (struct conn_note){0};
    c->deadline_tick = TIMER_NEVER;
    conn_set_state(c, CONN_REQUEST);
    n->handlers.on_request(n->handlers.context, c, request);
}

/* body_is_wanted: of one that is not, a little is taken all the same, so that who is refused keeps the connection. */
static bool body_is_wanted(struct net *n, struct conn *c, const struct http_request *request)
{
    return !n->handlers.on_head || n->handlers.on_head(n->handlers.context, c, request);
}

/* http_deliver_unread hands a request up without its body, which is discarded behind the answer. */
static void http_deliver_unread(struct net *n, struct conn *c, struct http_request *request)
{
    c->unread = true;
    request->body = (struct slice){0};
    http_deliver(n, c, request);
}

/* http_begin_body lends an exchange for a body that is not here yet. The head is copied, because the receive buffer
 * goes back, and parsed again, because the request borrows the head's bytes. */
static size_t http_begin_body(struct net *n, struct conn *c, struct slice bytes, bool wanted)
{
    struct conn_exchange *exchange = exchange_lend(n);
    enum http_error error;
    buf_append(&exchange->head, bytes.data, n->request.head_len);
    enum http_result again = http_parse_head(&exchange->request, &error, buf_slice(&exchange->head), &n->limits.http);
    ASSERT(again == HTTP_DONE);
    http_body_init(&exchange->reader, &exchange->request);
    exchange->unwanted = !wanted;
    c->exchange = exchange;
    c->partial = true;
    conn_set_deadline(n, c, n->ticks.body);
    /* Who already sends its body does not wait for this (RFC 9110 section 10.1.1). */
    if (exchange->request.expect_continue && bytes.len == exchange->request.head_len) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct frame *f = frame_new(1, sizeof go_on - 1);
        memcpy(frame_data(f), go_on, sizeof go_on - 1);
        conn_push(n, c, f, CONN_REPLY);
    }
    return exchange->request.head_len;
}

static size_t http_take_body(struct net *n, struct conn *c, struct slice bytes)
{
    struct conn_exchange *exchange = c->exchange;
    enum http_error error = HTTP_OK;
    size_t used = 0;
    switch (http_body_feed(&exchange->reader, &exchange->body, &used, &error, bytes, &n->limits.http)) {
    case HTTP_NEED_MORE:
        if (!exchange->unwanted || exchange->body.len <= ASSEMBLY_SMALL_BYTES) return used;
        c->exchange = NULL;
        http_deliver_unread(n, c, &exchange->request);
        exchange_return(n, exchange);
        return bytes.len;
    case HTTP_ERROR: conn_refuse_error(n, c, error, &exchange->request); return bytes.len;
    case HTTP_DONE: break;
    }
    buf_reserve(&exchange->body, NET_PADDING);
    exchange->request.body = buf_slice(&exchange->body);
    c->exchange = NULL;
    http_deliver(n, c, &exchange->request);
    exchange_return(n, exchange);
    return used;
}

/* http_take_head returns 0 while the head is incomplete. A body that came whole with its head is handed up where it
 * stands, without a copy. */
static size_t http_take_head(struct net *n, struct conn *c, struct slice bytes)
{
    struct http_request *request = &n->request;
    enum http_error error = HTTP_OK;
    switch (http_parse_head(request, &error, bytes, &n->limits.http)) {
    case HTTP_NEED_MORE:
        if (!c->partial && !c->refusal) conn_set_deadline(n, c, n->ticks.header);
        c->partial = true;
        return 0;
    case HTTP_ERROR: conn_refuse_error(n, c, error, request); return bytes.len;
    case HTTP_DONE: break;
    }
    if (UNLIKELY(c->refusal)) { /* nothing is kept for it */
        http_deliver_unread(n, c, request);
        return bytes.len;
    }
    size_t behind = bytes.len - request->head_len;
    if (request->chunked || request->content_length > behind) {
        bool wanted = body_is_wanted(n, c, request), little = request->content_length <= ASSEMBLY_SMALL_BYTES;
        if (wanted || request->chunked || little) return http_begin_body(n, c, bytes, wanted);
        http_deliver_unread(n, c, request);
        return bytes.len;
    }
    size_t whole = request->head_len + (size_t)request->content_length;
    request->body = slice_of(bytes.data + request->head_len, (size_t)request->content_length);
    http_deliver(n, c, request);
    return whole;
}

/* ws_take handles one event. */
static size_t ws_take(struct net *n, struct conn *c, struct slice bytes)
{
    struct slice data;
    uint16_t close_code;
    size_t used = 0;
    switch (ws_feed(&c->ws, n->ws_pool, &data, &close_code, &used, bytes, c->ws_message_bytes_max)) {
    case WS_NEED_MORE:
    case WS_PONG: break;
    case WS_TEXT:
        n->stats.ws_messages_in++;
        c->messages_in++;
        if (c->state == CONN_WEBSOCKET) n->handlers.on_message(n->handlers.context, c, true, data);
        break;
    case WS_BINARY:
        n->stats.ws_messages_in++;
        c->messages_in++;
        if (c->state == CONN_WEBSOCKET) n->handlers.on_message(n->handlers.context, c, false, data);
        break;
    case WS_PING:
        if (c->state == CONN_WEBSOCKET && n->handlers.on_ping) n->handlers.on_ping(n->handlers.context, c);
        if (c->state == CONN_WEBSOCKET) conn_ws_push(n, c, WS_OP_PONG, data);
        break;
    case WS_CLOSE:
        conn_blame(c, CONN_CAUSE_PEER);
        c->said_last = true; /* nothing follows a close frame (RFC 6455 section 5.5.1) */
        if (c->state == CONN_WEBSOCKET) conn_ws_push_close(n, c, close_code, (struct slice){0});
        conn_end(n, c);
        break;
    case WS_ERROR:
        n->stats.protocol_errors++;
        conn_blame(c, CONN_CAUSE_REFUSED);
        if (c->state == CONN_WEBSOCKET) conn_ws_push_close(n, c, close_code, (struct slice){0});
        conn_end(n, c);
        break;
    }
    return used;
}

/* conn_consume handles as much of `bytes` as the connection's state allows and returns how many are done with. */
static size_t conn_consume(struct net *n, struct conn *c, struct slice bytes)
{
    size_t at = 0;
    c->consuming = true;
    while (at < bytes.len && conn_takes_input(n, c)) {
        struct slice rest = slice_from(bytes, at);
        size_t used;
        if (c->websocket)
            used = ws_take(n, c, rest);
        else
            used = c->exchange ? http_take_body(n, c, rest) : http_take_head(n, c, rest);
        if (used == 0) break;
        at += used;
    }
    c->consuming = false;
    if (c->state < CONN_ENDING) return at;
    c->discarded_bytes += (uint32_t)(bytes.len - at);
    return bytes.len;
}

static void conn_consume_held(struct net *n, struct conn *c)
{
    struct conn_input *input = c->input;
    if (!input || !conn_takes_input(n, c)) return;
    input->at += conn_consume(n, c, slice_from(buf_slice(&input->bytes), input->at));
    ASSERT(input->at <= input->bytes.len);
    if (input->at == input->bytes.len) input_return(n, c);
}

/* conn_shed ends a connection for which the core has no memory left. */
static void conn_shed(struct net *n, struct conn *c)
{
    conn_blame(c, CONN_CAUSE_OVERLOADED);
    if (c->state == CONN_HTTP) {
        c->head_only = c->exchange && c->exchange->request.method == HTTP_HEAD;
        if (n->handlers.on_refused) n->handlers.on_refused(n->handlers.context, c, HTTP_OK, 503);
        conn_refuse(n, c, 503, "server.overloaded", "The server is short of memory.");
    } else if (c->state == CONN_WEBSOCKET) {
        conn_ws_push_close(n, c, CLOSE_OVERLOADED, SLICE("overloaded"));
        conn_end(n, c);
    } else {
        conn_terminate(n, c);
    }
}

/* conn_settle draws the conclusions once everything that can be consumed has been: the peer's end of stream, and a core
 * that has lent more memory than it has. */
static void conn_settle(struct net *n, struct conn *c)
{
    if (c->state >= CONN_ENDING) {
        if (c->input) c->discarded_bytes += (uint32_t)(c->input->bytes.len - c->input->at);
        conn_input_discard(n, c);
    }
    if (UNLIKELY(c->input || c->websocket || c->exchange || c->assembly_bytes) && !conn_account(n, c)) conn_shed(n, c);
    if (!c->peer_done) return;
    bool flushed = send_queue_empty(&c->queue) && !c->sending;
    if (c->state == CONN_ENDING && flushed) conn_flushed(n, c);
    if (c->state <= CONN_WS_CLOSING && conn_takes_input(n, c)) conn_end(n, c);
}

static void conn_take(struct net *n, struct conn *c, struct slice bytes)
{
    n->stats.bytes_in += bytes.len;
    c->heard_tick = n->now_tick;
    if (c->state == CONN_ENDING) {
        c->discarded_bytes += (uint32_t)bytes.len;
        if (c->discarded_bytes > LINGER_BYTES_MAX) conn_terminate(n, c);
        return;
    }
    if (c->input || !conn_takes_input(n, c)) {
        conn_hold(n, c, bytes);
        conn_consume_held(n, c);
    } else {
        size_t used = conn_consume(n, c, bytes);
        if (used < bytes.len) conn_hold(n, c, slice_from(bytes, used));
    }
    conn_settle(n, c);
}

/* The buffer's life: the kernel fills it; conn_take consumes or copies it; it goes back; what comes next is waited
 * for. */
void conn_on_recv(struct net *n, struct conn *c, const struct ring_completion *done)
{
    if (!(done->flags & RING_MORE)) {
        if (done->flags & RING_NONEMPTY) count_reading(c, true);
        wait_over(c);
        c->readable = done->flags & RING_NONEMPTY || done->result == -ENOBUFS;
    }
    if (c->state >= CONN_CLOSING) {
        if (PLANTED(buffer_given_back_twice) && done->flags & RING_BUFFER) ring_buffer_return(n->ring, done->buffer);
        conn_join(n, c);
        if (PLANTED(buffer_kept)) return;
    } else if (done->result > 0) {
        conn_take(n, c, slice_of(ring_buffer(n->ring, done->buffer), (size_t)done->result));
    } else if (done->result == 0) {
        c->peer_done = true;
        conn_settle(n, c);
    } else if (done->result == -ENOBUFS) {
        n->stats.recv_enobufs++; /* begun anew below: when that is submitted, this turn's buffers are back */
    } else if (done->result != -ECANCELED && done->result != -EINTR) {
        conn_terminate(n, c);
    }
    if (done->flags & RING_BUFFER) ring_buffer_return(n->ring, done->buffer);
    if (PLANTED(silent_not_heard) && done->result == -ECANCELED) return;
    if (PLANTED(starved_not_read) && done->result == -ENOBUFS) return;
    conn_read_on(n, c);
}

void conn_resume(struct net *n, struct conn *c)
{
    if (c->state >= CONN_CLOSING || c->state == CONN_FREE) return;
    if (c->state < CONN_ENDING) conn_consume_held(n, c);
    conn_settle(n, c);
    conn_read_on(n, c);
    if (c->want_drain && send_queue_empty(&c->queue) && c->state == CONN_WEBSOCKET) {
        c->want_drain = false;
        n->handlers.on_drain(n->handlers.context, c);
    }
}

void net_want_drain(struct net *n, struct conn *c)
{
    c->want_drain = true;
    if (send_queue_empty(&c->queue)) net_resume(n, c);
}

void net_request_begin(struct net *n, struct conn *c)
{
    ASSERT(c->requests < UINT16_MAX);
    c->requests++;
}

void net_request_end(struct net *n, struct conn *c)
{
    ASSERT(c->requests > 0);
    if (c->requests-- == n->limits.requests_in_flight_max && !c->consuming) net_resume(n, c);
}
