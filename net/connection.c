#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../src/base/planted.h"
#include "../src/base/probe.h"

/* Lent memory that the core keeps for the next who needs it; more is freed when it comes back. */
#define POOL_KEPT 64u
#define POOL_KEPT_BYTES (64u << 10)

/* WebSocket close codes (RFC 6455 section 7.4.1; the 4000s are this gateway's own). */
enum {
    CLOSE_GOING_AWAY = 1001,
    CLOSE_NO_STATUS = 1005,
    CLOSE_OVERLOADED = 4100,
    CLOSE_TOO_SLOW = 4200,
};

static void conn_set_state(struct conn *c, enum conn_state next);
static void conn_blame(struct conn *c, enum conn_cause cause);
static uint8_t conn_admit(struct net *n, struct conn *c);
static void conn_open_refused(struct net *n, struct conn *c);
static void conn_end(struct net *n, struct conn *c);
static void conn_join(struct net *n, struct conn *c);
static void conn_read_on(struct net *n, struct conn *c);
static void conn_end_receive(struct net *n, struct conn *c);
static bool conn_should_linger(const struct net *n, const struct conn *c);
static void conn_linger(struct net *n, struct conn *c);
static void conn_bound_unsent(struct net *n, struct conn *c);
static void conn_push(struct net *n, struct conn *c, struct frame *f, enum conn_class class);
static void conn_replies(struct net *n, struct conn *c, size_t before);
static void conn_set_deadline(struct net *n, struct conn *c, uint32_t ticks);
static void conn_arm_timer(struct net *n, struct conn *c);
static void ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued,
                     uint32_t ticks);

static uint64_t conn_tag(const struct conn *c, enum ring_op op)
{
    return tag_make(op, c->generation, c->slot);
}

static void op_begin(struct conn *c)
{
    ASSERT(c->ops < UINT8_MAX);
    c->ops++;
}

static void op_end(struct conn *c)
{
    ASSERT(c->ops > 0);
    c->ops--;
}

/* --- states ------------------------------------------------------------------------------------------------- */

static bool move_is_legal(enum conn_state from, enum conn_state to)
{
    switch (from) {
    case CONN_FREE: return to == CONN_HTTP;
    case CONN_HTTP: return to == CONN_REQUEST || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_REQUEST: return to == CONN_HTTP || to == CONN_WEBSOCKET || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_WEBSOCKET: return to == CONN_WS_CLOSING || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_WS_CLOSING: return to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_ENDING: return to == CONN_CLOSING;
    case CONN_CLOSING: return to == CONN_RELEASING;
    case CONN_RELEASING: return to == CONN_FREE;
    }
    return false;
}

static void conn_set_state(struct conn *c, enum conn_state next)
{
    ASSERT(move_is_legal((enum conn_state)c->state, next));
    c->state = (uint8_t)next;
}

void conn_open(struct net *n, struct conn *c, uint32_t ring_fd, const struct sockaddr_storage *peer, bool admin)
{
    conn_set_state(c, CONN_HTTP);
    c->ring_fd = ring_fd;
    c->admin = admin;
    c->opened_tick = c->heard_tick = n->now_tick;
    c->deadline_tick = TIMER_NEVER;
    c->peer_family = (uint8_t)peer->ss_family;
    if (peer->ss_family == AF_INET) memcpy(c->peer, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    if (peer->ss_family == AF_INET6) memcpy(c->peer, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
    n->stats.accepted++;
    probe_accept(n->core, c->slot);
    c->refusal = admin ? 0 : conn_admit(n, c);
    if (UNLIKELY(c->refusal)) {
        conn_open_refused(n, c);
        return;
    }
    conn_set_deadline(n, c, n->ticks.header);
    conn_read_on(n, c);
}

/* conn_blame notes why the connection ends; what follows from that is no reason of its own. */
static void conn_blame(struct conn *c, enum conn_cause cause)
{
    if (!c->cause) c->cause = (uint8_t)(cause + 1);
}

/* conn_admit counts the connection among those that are let in, or says why it is not. */
static uint8_t conn_admit(struct net *n, struct conn *c)
{
    const struct net_limits *l = &n->limits;
    uint32_t places = l->connections_max - l->refused_max - l->lingering_max;
    if (l->refused_max && n->open - n->refusing - n->lingering > places) return CONN_REFUSED_FULL;
    if (l->open_shared) {
        uint32_t before = atomic_fetch_add_explicit(l->open_shared, 1, memory_order_relaxed);
        c->counted = true;
        if (before >= l->open_shared_max) return CONN_REFUSED_FULL;
    }
    return n->handlers.on_open ? n->handlers.on_open(n->handlers.context, c) : 0;
}

static void conn_uncount(struct net *n, struct conn *c)
{
    if (c->counted) atomic_fetch_sub_explicit(n->limits.open_shared, 1, memory_order_relaxed);
    c->counted = false;
}

/* conn_open_refused reads one request, so that its answer can say why, but for a short time only, and not for everybody:
 * half of the places are for those who are already on their way out. */
static void conn_open_refused(struct net *n, struct conn *c)
{
    conn_uncount(n, c);
    n->refusing++;
    n->stats.refused++;
    conn_set_deadline(n, c, n->ticks.close);
    if (n->refusing > n->limits.refused_max / 2) conn_terminate(n, c);
    else conn_read_on(n, c);
}

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

/* input_discard gives back all that was lent for input; nothing more is taken up. */
static void input_discard(struct net *n, struct conn *c)
{
    input_return(n, c);
    if (c->websocket) {
        ws_in_end(&c->ws, n->ws_pool);
        return;
    }
    exchange_return(n, c->exchange);
    c->exchange = NULL;
}

/* assembly_fits: may the connection hold `bytes`, which are counted already? Whoever needs much gets what is free, and no
 * more than the others have left; a little is had as long as there is any, and by an account that holds little always. */
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

/* --- answers ------------------------------------------------------------------------------------------------ */

static char *put(char *at, struct slice s)
{
    if (s.len) memcpy(at, s.data, s.len);
    return at + s.len;
}

#define PUT(at, literal) put((at), SLICE(literal))

/* reply_head writes everything up to the empty line and returns its end. `connection` is a complete field or empty. */
static char *reply_head(struct net *n, char *at, const struct http_reply *reply, bool has_body, struct slice connection)
{
    at = PUT(at, "HTTP/1.1 ");
    at = u64_text(at, reply->status);
    at = PUT(at, " ");
    at = put(at, slice_str(http_reason(reply->status)));
    at = PUT(at, "\r\nDate: ");
    at = put(at, slice_str(net_date(n)));
    at = PUT(at, "\r\n");
    if (has_body && reply->content_type) {
        at = PUT(at, "Content-Type: ");
        at = put(at, slice_str(reply->content_type));
        at = PUT(at, "\r\n");
    }
    if (has_body) {
        at = PUT(at, "Content-Length: ");
        at = u64_text(at, reply->body.len);
        at = PUT(at, "\r\n");
    }
    at = put(at, reply->headers);
    at = put(at, connection);
    return PUT(at, "\r\n");
}

#define REPLY_HEAD_FIXED 256u /* status line with the longest reason, Date, Content-Length, Connection */

static struct frame *reply_frame(struct net *n, const struct conn *c, const struct http_reply *reply, bool closing)
{
    /* 1xx, 204 and 304 end with their head (RFC 9112 section 6.3). */
    bool has_body = reply->status >= 200 && reply->status != 204 && reply->status != 304;
    struct slice connection = {0};
    if (closing)
        connection = SLICE("Connection: close\r\n");
    else if (c->minor_version == 0)
        connection = SLICE("Connection: keep-alive\r\n");
    size_t type_len = reply->content_type ? strlen(reply->content_type) : 0;
    size_t len_max = REPLY_HEAD_FIXED + type_len + reply->headers.len + reply->body.len;
    ASSERT(len_max <= UINT32_MAX);

    struct frame *f = frame_new(1, (uint32_t)len_max);
    char *end = reply_head(n, frame_data(f), reply, has_body, connection);
    if (has_body && !c->head_only) end = put(end, reply->body);
    ASSERT((size_t)(end - frame_data(f)) <= len_max);
    f->len = (uint32_t)(end - frame_data(f));
    return f;
}

void net_http_reply(struct net *n, struct conn *c, const struct http_reply *reply)
{
    if (c->state >= CONN_ENDING) return;
    ASSERT(c->state == CONN_REQUEST);
    bool closing = reply->close || !c->keep_alive || c->refusal || c->unread;
    c->said_last = !c->keep_alive && !c->refusal && !c->unread;
    conn_push(n, c, reply_frame(n, c, reply, closing), CONN_REPLY);
    if (closing) {
        conn_blame(c, CONN_CAUSE_DONE);
        conn_end(n, c);
        return;
    }
    conn_set_state(c, CONN_HTTP); /* what is held is looked at when the reply has gone out: conn_progress */
    conn_set_deadline(n, c, n->ticks.idle);
}

/* conn_refuse answers what could not be read as a request, and ends the connection once the client had the chance to
 * read the answer: closing with unread bytes would reset the connection under it (RFC 9112 section 9.6). */
static void conn_refuse(struct net *n, struct conn *c, unsigned status, const char *code, const char *detail)
{
    struct buf body = {0};
    BUF_LIT(&body, "{\"type\":\"about:blank\",\"title\":");
    buf_json_string(&body, slice_str(http_reason(status)));
    BUF_LIT(&body, ",\"status\":");
    buf_u64(&body, status);
    BUF_LIT(&body, ",\"detail\":");
    buf_json_string(&body, slice_str(detail));
    BUF_LIT(&body, ",\"code\":");
    buf_json_string(&body, slice_str(code));
    BUF_LIT(&body, ",\"status_code\":");
    buf_u64(&body, status);
    /* what never became a request is named by its connection */
    buf_printf(&body, ",\"request_id\":\"%04x%08x%06x\"}", n->core, c->slot, c->generation);
    struct http_reply reply = {
        .status = status, .content_type = "application/problem+json", .body = buf_slice(&body), .close = true};
    if (status == 503) reply.headers = SLICE("Retry-After: 1\r\n");
    conn_push(n, c, reply_frame(n, c, &reply, true), CONN_REPLY);
    buf_free(&body);
    conn_end(n, c);
}

static void conn_refuse_error(struct net *n, struct conn *c, enum http_error error, const struct http_request *request)
{
    unsigned status = http_error_status(error, request);
    n->stats.protocol_errors++;
    conn_blame(c, CONN_CAUSE_REFUSED);
    c->head_only = request->method == HTTP_HEAD; /* known or not, its answer has no content (RFC 9110 section 9.3.2) */
    if (n->handlers.on_refused) n->handlers.on_refused(n->handlers.context, c, error, status);
    conn_refuse(n, c, status, http_error_code(error), http_error_detail(error));
}

void net_ws_accept(struct net *n, struct conn *c, struct slice accept_key, struct slice subprotocol,
                   struct slice headers, size_t message_bytes_max)
{
    if (c->state >= CONN_ENDING) return;
    ASSERT(c->state == CONN_REQUEST && accept_key.len == WS_ACCEPT_LEN);
    struct frame *f = frame_new(1, (uint32_t)(192 + accept_key.len + subprotocol.len + headers.len));
    char *at = PUT(frame_data(f), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: ");
    at = put(at, accept_key);
    if (subprotocol.len) {
        at = PUT(at, "\r\nSec-WebSocket-Protocol: ");
        at = put(at, subprotocol);
    }
    at = PUT(at, "\r\n");
    at = put(at, headers);
    at = PUT(at, "\r\n");
    f->len = (uint32_t)(at - frame_data(f));
    conn_push(n, c, f, CONN_REPLY);

    ASSERT(c->exchange == NULL);
    conn_set_state(c, CONN_WEBSOCKET);
    c->websocket = true;
    c->ws = (struct ws_in){0};
    size_t bytes_max = message_bytes_max ? message_bytes_max : n->limits.ws_message_bytes_max;
    ASSERT(bytes_max <= UINT32_MAX);
    c->ws_message_bytes_max = (uint32_t)bytes_max;
    c->heard_tick = c->pinged_tick = n->now_tick;
    n->stats.websockets++;
    n->stats.websockets_opened++;
    conn_arm_timer(n, c);
}

/* --- WebSocket down ----------------------------------------------------------------------------------------- */

static size_t push_bytes(const struct conn *c)
{
    return send_queue_class_bytes(&c->queue, CONN_DURABLE) + send_queue_class_bytes(&c->queue, CONN_EPHEMERAL);
}

/* conn_reply_bytes: what waits of answers, pages of a replay among them. */
static size_t conn_reply_bytes(const struct conn *c)
{
    return send_queue_class_bytes(&c->queue, CONN_REPLY) + send_queue_class_bytes(&c->queue, CONN_REPLAY);
}

static void drop_class(struct net *n, struct conn *c, enum conn_class class)
{
    unsigned pinned = c->sending ? c->sending_entries : 0;
    uint32_t before = send_queue_len(&c->queue);
    size_t replies = conn_reply_bytes(c);
    n->stats.queued_bytes -= send_queue_drop(&c->queue, &n->send_pool, n->core, class, pinned);
    if (class == CONN_EPHEMERAL) n->stats.ephemerals_dropped += before - send_queue_len(&c->queue);
    if (class == CONN_REPLAY) conn_replies(n, c, replies);
}

/* conn_admits answers whether the class has room for `len` more bytes. A class that is empty takes any length: a
 * frame longer than the bound could otherwise never be sent. So do answers while no more waits than lets the next
 * request in (conn_takes_input): what was taken up is answered, however large. */
static bool conn_admits(struct net *n, struct conn *c, size_t len, enum conn_class class)
{
    size_t of_class = send_queue_class_bytes(&c->queue, class), cap = n->limits.send_queue_bytes_max;
    size_t replies = conn_reply_bytes(c);
    switch (class) {
    case CONN_REPLY:
    case CONN_REPLAY: return replies < REPLY_PAUSE_BYTES || replies + len <= REPLY_QUEUE_BYTES_MAX;
    case CONN_EPHEMERAL: return of_class + len <= EPHEMERAL_QUEUE_BYTES_MAX && push_bytes(c) + len <= cap;
    case CONN_DURABLE:
        if (LIKELY(push_bytes(c) + len <= cap) || of_class == 0 || PLANTED(queue_unbounded)) return true;
        drop_class(n, c, CONN_EPHEMERAL);
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

static void queue_clear(struct net *n, struct conn *c)
{
    size_t replies = conn_reply_bytes(c);
    n->stats.queued_bytes -= send_queue_clear(&c->queue, &n->send_pool, n->core);
    if (replies) conn_replies(n, c, replies);
}

static void conn_push(struct net *n, struct conn *c, struct frame *f, enum conn_class class)
{
    frame_ref(f, n->core);
    send_queue_push(&c->queue, &n->send_pool, f, class);
    n->stats.queued_bytes += f->len;
    bool reply = class == CONN_REPLY || class == CONN_REPLAY;
    if (reply) conn_replies(n, c, conn_reply_bytes(c) - f->len);
    if (!reply && push_bytes(c) > n->limits.send_queue_bytes_max / 2) c->above_half = true;
    net_dirty(n, c);
}

/* ws_push queues one private frame; a connection that does not read its answers has used up its credit. */
static void ws_push(struct net *n, struct conn *c, enum ws_opcode opcode, struct slice payload)
{
    size_t len = ws_header_len(payload.len) + payload.len;
    ASSERT(len <= UINT32_MAX);
    if (!conn_admits(n, c, len, CONN_REPLY)) {
        n->stats.slow_closed++;
        conn_blame(c, CONN_CAUSE_SLOW);
        conn_terminate(n, c);
        return;
    }
    struct frame *f = frame_new(1, (uint32_t)len);
    size_t header_len = ws_header((uint8_t *)frame_data(f), opcode, payload.len);
    put(frame_data(f) + header_len, payload);
    conn_push(n, c, f, CONN_REPLY);
}

void net_reply_text(struct net *n, struct conn *c, struct slice text)
{
    if (c->state == CONN_WEBSOCKET) ws_push(n, c, WS_OP_TEXT, text);
}

void net_reply_binary(struct net *n, struct conn *c, struct slice data)
{
    if (c->state == CONN_WEBSOCKET) ws_push(n, c, WS_OP_BINARY, data);
}

/* ws_push_close queues a close frame: two bytes of code in network order, then the reason (RFC 6455 section 5.5.1). */
static void ws_push_close(struct net *n, struct conn *c, uint16_t code, struct slice reason)
{
    char payload[125] = {(char)(code >> 8), (char)(code & 0xff)};
    ASSERT(reason.len <= sizeof payload - 2);
    if (!c->close_code) c->close_code = code;
    put(payload + 2, reason);
    ws_push(n, c, WS_OP_CLOSE, slice_of(payload, code == CLOSE_NO_STATUS ? 0 : 2 + reason.len));
}

void net_ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued)
{
    if (c->state == CONN_WEBSOCKET) conn_blame(c, CONN_CAUSE_SERVER);
    ws_close(n, c, code, reason, drop_queued, n->ticks.stall + n->ticks.close);
}

void net_ws_dismiss(struct net *n, struct conn *c, uint16_t code, const char *reason)
{
    if (c->state == CONN_WEBSOCKET) conn_blame(c, CONN_CAUSE_SERVER);
    ws_close(n, c, code, reason, true, n->ticks.close);
}

/* ws_close: `ticks` bounds the flushing of the queue; once it is empty the close timeout begins. */
static void ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued, uint32_t ticks)
{
    if (c->state != CONN_WEBSOCKET) return;
    if (drop_queued) {
        /* Pages go with the pushes: one that stayed behind pushes that are gone would show their client a hole. */
        drop_class(n, c, CONN_EPHEMERAL);
        drop_class(n, c, CONN_DURABLE);
        drop_class(n, c, CONN_REPLAY);
    }
    ws_push_close(n, c, code, slice_str(reason));
    if (c->state != CONN_WEBSOCKET) return; /* no room even for the close frame: terminated */
    conn_set_state(c, CONN_WS_CLOSING);
    conn_set_deadline(n, c, ticks);
    if (!c->consuming) net_resume(n, c); /* what was held back while too many requests ran may hold the peer's close */
}

void net_abort(struct net *n, struct conn *c)
{
    conn_blame(c, CONN_CAUSE_SERVER);
    conn_terminate(n, c);
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
    for (unsigned i = 0; i < num; i++) at = put(at, slice_of(parts[i].iov_base, parts[i].iov_len));
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
        send_bytes(n, c, parts[0].iov_base, bytes);
    } else {
        bool small = bytes <= SEND_COPY_BYTES_MAX;
        if (!(small ? send_copied(n, c, parts, num, bytes) : send_vector(n, c, parts, num))) return false;
    }
    op_begin(c);
    c->sending = true;
    c->sending_bytes = (uint32_t)bytes;
    c->sending_entries = num;
    n->stats.sends++;
    probe_send(n->core, c->slot, bytes, num);
    return true;
}

bool conn_has_follow_up(const struct net *n, const struct conn *c)
{
    return send_queue_len(&c->queue) > c->sending_entries || c->sending_bytes < send_queue_bytes(&c->queue) ||
           c->state >= CONN_WS_CLOSING || c->input || !c->receiving || c->want_drain || c->above_half;
}

/* conn_flushed: the queue has run empty, or a state in which that matters has begun with an empty one. */
static void conn_flushed(struct net *n, struct conn *c)
{
    if (c->state == CONN_WS_CLOSING) conn_set_deadline(n, c, n->ticks.close);
    if (c->state != CONN_ENDING) return;
    if (c->peer_done || (!c->shut && !conn_should_linger(n, c))) conn_terminate(n, c);
    else if (!c->shut) conn_linger(n, c);
}

/* conn_should_linger: closing resets the connection under its last answer when anything is there, or comes, that was
 * not read. Nothing does from a peer that said so, by HTTP or by its close frame, and has kept to it. Beyond the bound of
 * those who linger it is risked. */
static bool conn_should_linger(const struct net *n, const struct conn *c)
{
    bool something_came = c->discarded_bytes > 0 || (c->input && c->input->bytes.len > c->input->at);
    if (c->said_last && !something_came) return false;
    return c->refusal || !n->limits.lingering_max || n->lingering < n->limits.lingering_max;
}

/* conn_linger ends this direction and waits for the peer's end. Nobody is served any more: the place is another's. */
static void conn_linger(struct net *n, struct conn *c)
{
    c->shut = true;
    if (conn_lingers(n, c)) {
        conn_uncount(n, c);
        n->lingering++;
    }
    op_begin(c);
    ring_shutdown_out(n->ring, c->ring_fd, conn_tag(c, RING_OP_SHUTDOWN));
    conn_set_deadline(n, c, n->ticks.close);
}

bool conn_lingers(const struct net *n, const struct conn *c)
{
    return c->shut && !c->refusal && n->limits.lingering_max;
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
    if (UNLIKELY(c->input || !c->receiving)) net_resume(n, c);
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
    op_end(c);
    if (c->state < CONN_CLOSING) {
        c->stalled_tick = 0;
        conn_progress(n, c, c->sending_bytes);
        return;
    }
    queue_clear(n, c);
    conn_join(n, c);
}

static void conn_on_send(struct net *n, struct conn *c, int32_t result)
{
    if (c->state >= CONN_CLOSING || result == (int32_t)c->sending_bytes) {
        conn_sent_whole(n, c);
        return;
    }
    c->sending = false;
    op_end(c);
    if (result < 0 && result != -EAGAIN) {
        conn_terminate(n, c);
        return;
    }
    size_t sent = result > 0 ? (size_t)result : 0;
    ASSERT(sent < c->sending_bytes);
    n->stats.short_sends++;
    if (sent || !c->stalled_tick) c->stalled_tick = n->now_tick;
    c->blocked = true;
    op_begin(c);
    ring_poll_out(n->ring, c->ring_fd, conn_tag(c, RING_OP_POLL_OUT));
    conn_arm_timer(n, c);
    if (sent) conn_progress(n, c, sent);
}

static void conn_on_poll_out(struct net *n, struct conn *c)
{
    c->blocked = false;
    if (c->state >= CONN_CLOSING)
        conn_join(n, c);
    else
        net_dirty(n, c); /* an error on the socket shows in the send */
}

/* --- receiving ---------------------------------------------------------------------------------------------- */

/* conn_takes_input answers whether received bytes may be looked at now. */
static bool conn_takes_input(const struct net *n, const struct conn *c)
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

/* conn_reads answers whether a receive should be armed. While input is held for later the socket is read on up to a
 * bound, so that its end is noticed and pipelined requests are at hand. */
static bool conn_reads(const struct conn *c)
{
    if (c->peer_done || c->state >= CONN_CLOSING) return false;
    if (c->state == CONN_ENDING) return true;
    return !c->input || c->input->bytes.len - c->input->at < INPUT_HELD_BYTES_MAX;
}

static void conn_read_on(struct net *n, struct conn *c)
{
    if (c->receiving || c->resuming || !conn_reads(c)) return;
    c->receiving = true;
    op_begin(c);
    ring_recv(n->ring, c->ring_fd, conn_tag(c, RING_OP_RECV));
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
    if (!conn_reads(c)) conn_end_receive(n, c);
}

/* conn_end_receive has the receive complete, once; it is armed again then if the connection reads (conn_on_recv). */
static void conn_end_receive(struct net *n, struct conn *c)
{
    if (!c->receiving || c->resting) return;
    c->resting = true;
    op_begin(c);
    ring_cancel_tag(n->ring, conn_tag(c, RING_OP_RECV), conn_tag(c, RING_OP_CANCEL));
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
        if (c->state == CONN_WEBSOCKET) ws_push(n, c, WS_OP_PONG, data);
        break;
    case WS_CLOSE:
        conn_blame(c, CONN_CAUSE_PEER);
        c->said_last = true; /* nothing follows a close frame (RFC 6455 section 5.5.1) */
        if (c->state == CONN_WEBSOCKET) ws_push_close(n, c, close_code, (struct slice){0});
        conn_end(n, c);
        break;
    case WS_ERROR:
        n->stats.protocol_errors++;
        conn_blame(c, CONN_CAUSE_REFUSED);
        if (c->state == CONN_WEBSOCKET) ws_push_close(n, c, close_code, (struct slice){0});
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
        ws_push_close(n, c, CLOSE_OVERLOADED, SLICE("overloaded"));
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
        input_discard(n, c);
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

/* The buffer's life: the kernel fills it; conn_take consumes or copies it; it goes back; the receive is armed again. */
static void conn_on_recv(struct net *n, struct conn *c, const struct ring_completion *done)
{
    if (!(done->flags & RING_MORE)) {
        c->receiving = c->resting = false;
        op_end(c);
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
        n->stats.recv_enobufs++; /* armed again below: when that is submitted, this turn's buffers are back */
    } else if (done->result != -ECANCELED && done->result != -EINTR) {
        conn_terminate(n, c);
    }
    if (done->flags & RING_BUFFER) ring_buffer_return(n->ring, done->buffer);
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

/* --- deadlines ---------------------------------------------------------------------------------------------- */

static uint32_t earlier(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static uint32_t later(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* One tick more than asked for: the current one has partly passed, and a deadline is never early. */
static uint32_t tick_after(uint32_t tick, uint32_t ticks)
{
    return tick + ticks + 1;
}

static uint32_t ping_due(const struct net *n, const struct conn *c)
{
    return tick_after(later(c->heard_tick, c->pinged_tick), n->ticks.ping);
}

static uint32_t conn_deadline(const struct conn *c)
{
    return c->state == CONN_WEBSOCKET ? TIMER_NEVER : c->deadline_tick;
}

static uint32_t conn_due(const struct net *n, const struct conn *c)
{
    uint32_t due = conn_deadline(c);
    if (c->stalled_tick) due = earlier(due, tick_after(c->stalled_tick, n->ticks.stall));
    if (c->state != CONN_WEBSOCKET) return due;
    return earlier(due, earlier(ping_due(n, c), tick_after(c->heard_tick, n->ticks.idle)));
}

/* conn_arm_timer moves the timer only when it would fire too late: one that fires early finds nothing due and is set
 * anew, so hearing from a peer costs no timer operation. */
static void conn_arm_timer(struct net *n, struct conn *c)
{
    uint32_t due = conn_due(n, c);
    if (due == TIMER_NEVER || (timer_armed(&c->timer) && timer_due(&c->timer) <= due)) return;
    timer_arm(&n->timers, &c->timer, due);
}

static void conn_set_deadline(struct net *n, struct conn *c, uint32_t ticks)
{
    ASSERT(c->state != CONN_WEBSOCKET);
    c->deadline_tick = tick_after(n->now_tick, ticks);
    conn_arm_timer(n, c);
}

/* conn_stalled: the peer has not taken one byte for the stall timeout. */
static void conn_stalled(struct net *n, struct conn *c)
{
    n->stats.slow_closed++;
    conn_blame(c, CONN_CAUSE_SLOW);
    if (c->state == CONN_WEBSOCKET) {
        c->stalled_tick = 0; /* the close frame gets its own, short time */
        ws_close(n, c, CLOSE_TOO_SLOW, "too slow", true, n->ticks.close);
    } else {
        conn_terminate(n, c);
    }
}

static void websocket_expire(struct net *n, struct conn *c)
{
    /* A peer that is not read from cannot show that it lives. */
    if (!conn_takes_input(n, c)) c->heard_tick = n->now_tick;
    if (n->now_tick >= tick_after(c->heard_tick, n->ticks.idle)) {
        n->stats.timeouts++;
        conn_blame(c, CONN_CAUSE_TIMEOUT);
        ws_close(n, c, CLOSE_GOING_AWAY, "idle", true, n->ticks.close);
    } else if (n->now_tick >= ping_due(n, c)) {
        c->pinged_tick = n->now_tick;
        ws_push(n, c, WS_OP_PING, (struct slice){0});
    }
}

/* conn_cancel cancels what is armed; each still completes on its own. */
static void conn_cancel(struct net *n, struct conn *c)
{
    if (c->receiving) {
        op_begin(c);
        ring_cancel_tag(n->ring, conn_tag(c, RING_OP_RECV), conn_tag(c, RING_OP_CANCEL));
    }
    if (c->blocked) {
        op_begin(c);
        ring_cancel_tag(n->ring, conn_tag(c, RING_OP_POLL_OUT), conn_tag(c, RING_OP_CANCEL));
    }
}

void net_limit_queues(struct net *n, size_t bytes) { n->limits.send_queue_bytes_max = bytes; }

/* conn_is_read: an HTTP answer is still being taken by the peer, however slowly; stalled_tick watches that it is. */
static bool conn_is_read(const struct conn *c)
{
    return !send_queue_empty(&c->queue) && (c->state == CONN_ENDING || (c->state == CONN_HTTP && !c->partial));
}

void conn_expire(struct net *n, struct conn *c)
{
    if (c->state == CONN_CLOSING) {
        conn_cancel(n, c); /* in case the first attempt came while the operation was between two of its turns */
        conn_set_deadline(n, c, n->ticks.close);
        return;
    }
    ASSERT(c->state != CONN_FREE && c->state != CONN_RELEASING);
    if (c->stalled_tick && n->now_tick >= tick_after(c->stalled_tick, n->ticks.stall)) {
        conn_stalled(n, c);
    } else if (n->now_tick >= conn_deadline(c) && conn_is_read(c)) {
        conn_set_deadline(n, c, n->ticks.idle); /* an answer on its way: whether it makes progress is what counts */
    } else if (n->now_tick >= conn_deadline(c)) {
        if (c->state != CONN_HTTP || c->partial) n->stats.timeouts++;
        conn_blame(c, CONN_CAUSE_TIMEOUT);
        conn_terminate(n, c);
    } else if (c->state == CONN_WEBSOCKET) {
        websocket_expire(n, c);
    }
    if (c->state < CONN_RELEASING) conn_arm_timer(n, c);
    /* Silent or not, each comes by here once a ping interval, or idle timeout for HTTP (conn_arm_timer). */
    if (UNLIKELY(ring_keeps_closed(n->ring)) && c->state < CONN_ENDING) conn_end_receive(n, c);
}

/* --- the end ------------------------------------------------------------------------------------------------ */

/* conn_end takes nothing up any more, flushes, ends this direction, and closes once the peer is done as well: closing with
 * bytes unread makes the kernel reset the connection, which may take the last answer or close frame from a peer that was
 * still sending (RFC 9112 section 9.6, RFC 6455 section 7.1.1). */
static void conn_end(struct net *n, struct conn *c)
{
    if (c->state >= CONN_ENDING) return;
    conn_set_state(c, CONN_ENDING);
    c->discarded_bytes = 0;
    conn_set_deadline(n, c, n->ticks.stall + n->ticks.close);
    if (send_queue_empty(&c->queue) && !c->sending)
        conn_flushed(n, c);
    else if (!c->consuming)
        net_resume(n, c); /* gives back what is held */
}

void conn_terminate(struct net *n, struct conn *c)
{
    if (c->state >= CONN_CLOSING) return;
    conn_set_state(c, CONN_CLOSING);
    c->stalled_tick = 0;
    conn_set_deadline(n, c, n->ticks.close);
    if (!c->sending) queue_clear(n, c);
    conn_cancel(n, c);
    conn_bound_unsent(n, c);
    conn_join(n, c);
}

/* conn_bound_unsent: what was sent stays in the kernel behind the close until the peer has taken it. One who asks for
 * much, takes nothing and answers probes would pin it there for ever (tcp(7)). Not while the connection is open: who
 * takes nothing is told so then (conn_stalled), and who is silent has the idle timeout. */
static void conn_bound_unsent(struct net *n, struct conn *c)
{
    if (c->peer_family == AF_UNIX) return;
    op_begin(c);
    ring_bound_unsent(n->ring, c->ring_fd, conn_tag(c, RING_OP_BOUND));
}

static void conn_join(struct net *n, struct conn *c)
{
    if (c->state != CONN_CLOSING || (c->ops > 0 && !PLANTED(closed_early))) return;
    conn_set_state(c, CONN_RELEASING);
    timer_cancel(&n->timers, &c->timer);
    op_begin(c);
    ring_close(n->ring, c->ring_fd, conn_tag(c, RING_OP_CLOSE));
}

/* The codes that are counted one by one: those of RFC 6455 section 7.4.1 and of IANA's registry, then the gateway's own
 * (docs/PROTOCOL.md). A client may send any number, and each would be another series. */
static const uint16_t own_codes[NET_CLOSE_CODES - 17] = {4001, 4003, 4004, 4008, CLOSE_OVERLOADED, 4129,
                                                                CLOSE_TOO_SLOW};

static unsigned close_code_place(uint16_t code)
{
    if (code >= 1000 && code <= 1015) return code - 1000u;
    for (unsigned i = 0; i < NET_CLOSE_CODES - 17; i++)
        if (code == own_codes[i]) return 16 + i;
    return NET_CLOSE_CODES - 1;
}

const char *net_close_code_name(unsigned place)
{
    static const char *const names[NET_CLOSE_CODES] = {
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010",
        "1011", "1012", "1013", "1014", "1015", "4001", "4003", "4004", "4008", "4100", "4129", "4200", "other"};
    ASSERT(place < NET_CLOSE_CODES);
    return names[place];
}

static void conn_on_close(struct net *n, struct conn *c)
{
    ASSERT(c->state == CONN_RELEASING && c->ops == 0);
    if (c->user) n->handlers.on_closed(n->handlers.context, c);
    conn_uncount(n, c);
    if (c->refusal) n->refusing--;
    if (conn_lingers(n, c)) n->lingering--;
    conn_discard(n, c);
    n->stats.closed++;
    struct conn_end end;
    conn_ended(c, &end);
    n->stats.closed_by[end.cause]++;
    if (c->websocket) n->stats.ws_closed_by[close_code_place(end.close_code)]++;
    conn_set_state(c, CONN_FREE);
    net_slot_free(n, c);
}

void conn_discard(struct net *n, struct conn *c)
{
    queue_clear(n, c);
    input_discard(n, c);
    if (c->websocket) n->stats.websockets--;
    n->assembly_bytes -= c->assembly_bytes;
    if (c->account) c->account->assembly -= c->assembly_bytes;
    timer_cancel(&n->timers, &c->timer);
}

void conn_complete(struct net *n, struct conn *c, const struct ring_completion *done)
{
    ASSERT(tag_generation(done->tag) == c->generation && c->state != CONN_FREE);
    switch (tag_op(done->tag)) {
    case RING_OP_RECV: conn_on_recv(n, c, done); return;
    case RING_OP_SEND: conn_on_send(n, c, done->result); return;
    case RING_OP_POLL_OUT:
        op_end(c);
        conn_on_poll_out(n, c);
        return;
    case RING_OP_CANCEL:
        if (done->result < 0) c->resting = false; /* it met the receive between two turns: the next occasion tries again */
        op_end(c);
        conn_join(n, c);
        return;
    case RING_OP_BOUND:
    case RING_OP_SHUTDOWN: /* a socket that the peer has reset cannot be shut down; its receive tells so too */
        op_end(c);
        conn_join(n, c);
        return;
    case RING_OP_CLOSE:
        op_end(c);
        conn_on_close(n, c);
        return;
    case RING_OP_NONE:
    case RING_OP_ACCEPT:
    case RING_OP_WAKE: break;
    }
    UNREACHABLE();
}

/* --- what callers may know ---------------------------------------------------------------------------------- */

struct conn_ref net_ref(const struct conn *c)
{
    return (struct conn_ref){c->slot, c->generation};
}
void conn_set_user(struct conn *c, void *user)
{
    c->user = user;
}
void *conn_user(const struct conn *c)
{
    return c->user;
}
bool conn_is_admin(const struct conn *c)
{
    return c->admin;
}
bool conn_is_websocket(const struct conn *c)
{
    return c->websocket;
}
void conn_ended(const struct conn *c, struct conn_end *out)
{
    out->cause = c->cause ? (enum conn_cause)(c->cause - 1) : CONN_CAUSE_PEER;
    out->close_code = c->close_code ? c->close_code : 1006;
    out->messages_in = c->messages_in;
    out->frames_out = c->frames_out;
}
const char *conn_cause_name(enum conn_cause cause)
{
    static const char *const names[CONN_CAUSES] = {"peer", "done", "refused", "timeout", "slow", "overloaded", "server"};
    ASSERT(cause < CONN_CAUSES);
    return names[cause];
}
void conn_charge(struct conn *c, struct net_account *account)
{
    if (c->account == account) return;
    size_t replies = conn_reply_bytes(c);
    if (c->account) {
        c->account->bytes -= replies;
        c->account->assembly -= c->assembly_bytes;
    }
    if (account) {
        account->bytes += replies;
        account->assembly += c->assembly_bytes;
    }
    c->account = account;
}
const struct net_account *conn_charged(const struct conn *c)
{
    return c->account;
}
size_t net_reply_bytes(const struct net *n)
{
    return n->reply_bytes;
}
uint8_t conn_refusal(const struct conn *c)
{
    return c->refusal;
}
void conn_set_exempt(struct conn *c)
{
    c->exempt = true;
}
bool conn_exempt(const struct conn *c)
{
    return c->exempt;
}
struct conn_note *conn_note(struct conn *c)
{
    ASSERT(!c->websocket);
    return &c->note;
}

uint64_t conn_open_ms(const struct net *n, const struct conn *c)
{
    return (uint64_t)(n->now_tick - c->opened_tick) * TIMER_TICK_MS;
}

uint64_t conn_idle_ms(const struct net *n, const struct conn *c)
{
    return (uint64_t)(n->now_tick - c->heard_tick) * TIMER_TICK_MS;
}

bool conn_answering(const struct conn *c)
{
    if (c->websocket) return false;
    return c->state == CONN_REQUEST || c->state == CONN_ENDING || (c->state == CONN_HTTP && !send_queue_empty(&c->queue));
}

bool conn_in_request(const struct conn *c) { return c->state == CONN_REQUEST || c->requests > 0; }

size_t net_queued(const struct conn *c)
{
    return send_queue_bytes(&c->queue);
}

/* A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); they are named as what they are,
 * so that one address has one name. */
static const uint8_t mapped_ipv4[12] = {[10] = 0xff, [11] = 0xff};

void conn_peer(const struct conn *c, char out[46])
{
    uint8_t address[16];
    const char *text = NULL;
    if (!conn_peer_bytes(c, address)) text = memcpy(out, "unix", 5);
    else if (memcmp(address, mapped_ipv4, sizeof mapped_ipv4) == 0) text = inet_ntop(AF_INET, address + 12, out, 46);
    else text = inet_ntop(AF_INET6, address, out, 46);
    ASSERT(text);
}

bool conn_peer_bytes(const struct conn *c, uint8_t out[16])
{
    bool v4 = c->peer_family == AF_INET;
    memcpy(out, mapped_ipv4, sizeof mapped_ipv4);
    memcpy(out + (v4 ? 12 : 0), c->peer, v4 ? 4 : 16);
    return v4 || c->peer_family == AF_INET6;
}
