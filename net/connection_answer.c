#include "connection.h"

/* --- HTTP --------------------------------------------------------------------------------------------------- */

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
void conn_refuse(struct net *n, struct conn *c, unsigned status, const char *code, const char *detail)
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

void conn_refuse_error(struct net *n, struct conn *c, enum http_error error, const struct http_request *request)
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

/* --- WebSocket ---------------------------------------------------------------------------------------------- */

/* conn_ws_push queues one private frame; a connection that does not read its answers has used up its credit. */
void conn_ws_push(struct net *n, struct conn *c, enum ws_opcode opcode, struct slice payload)
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
    if (c->state == CONN_WEBSOCKET) conn_ws_push(n, c, WS_OP_TEXT, text);
}

void net_reply_binary(struct net *n, struct conn *c, struct slice data)
{
    if (c->state == CONN_WEBSOCKET) conn_ws_push(n, c, WS_OP_BINARY, data);
}

/* conn_ws_push_close queues a close frame: two bytes of code in network order, then the reason (RFC 6455
 * section 5.5.1). */
void conn_ws_push_close(struct net *n, struct conn *c, uint16_t code, struct slice reason)
{
    char payload[125] = {(char)(code >> 8), (char)(code & 0xff)};
    ASSERT(reason.len <= sizeof payload - 2);
    if (!c->close_code) c->close_code = code;
    put(payload + 2, reason);
    conn_ws_push(n, c, WS_OP_CLOSE, slice_of(payload, code == CLOSE_NO_STATUS ? 0 : 2 + reason.len));
}

void net_ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued)
{
    if (c->state == CONN_WEBSOCKET) conn_blame(c, CONN_CAUSE_SERVER);
    conn_ws_close(n, c, code, reason, drop_queued, n->ticks.stall + n->ticks.close);
}

void net_ws_dismiss(struct net *n, struct conn *c, uint16_t code, const char *reason)
{
    if (c->state == CONN_WEBSOCKET) conn_blame(c, CONN_CAUSE_SERVER);
    conn_ws_close(n, c, code, reason, true, n->ticks.close);
}

/* conn_ws_close: `ticks` bounds the flushing of the queue; once it is empty the close timeout begins. */
void conn_ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued, uint32_t ticks)
{
    if (c->state != CONN_WEBSOCKET) return;
    if (drop_queued) {
        /* Pages go with the pushes: one that stayed behind pushes that are gone would show their client a hole. */
        conn_queue_drop(n, c, CONN_EPHEMERAL);
        conn_queue_drop(n, c, CONN_DURABLE);
        conn_queue_drop(n, c, CONN_REPLAY);
    }
    conn_ws_push_close(n, c, code, slice_str(reason));
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
