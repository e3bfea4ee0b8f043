#define _GNU_SOURCE /* strerrordesc_np (glibc 2.32) */
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/random.h"

static void on_connected(void *context, struct peer *p, uint64_t now_ns);
static void on_bytes(void *context, struct peer *p, const char *bytes, size_t len, uint64_t now_ns);
static void on_closed(void *context, struct peer *p, int error, uint64_t now_ns);
static size_t take(struct session_hub *h, struct session *s, const char *bytes, size_t len, uint64_t now_ns);
static size_t take_answer(struct session_hub *h, struct session *s, struct slice bytes, uint64_t now_ns);
static void take_control(struct session_hub *h, struct session *s, unsigned opcode, struct slice payload);
static uint32_t next_mask(struct session_hub *h);

enum status session_hub_open(struct session_hub *h, const struct session_handlers *handlers, const struct setup *setup,
                             const struct options *o)
{
    *h = (struct session_hub){.handlers = *handlers, .setup = setup, .dialect = o->dialect};
    h->subprotocol = o->dialect == DIALECT_CARILLON ? "carillon.v1.json" : NULL;
    struct sockaddr_storage address;
    socklen_t len;
    const char *why = endpoint_resolve(&setup->endpoint, &address, &len);
    if (why) {
        fprintf(stderr, "carillon-load: %s: %s\n", setup->endpoint.host, why);
        return STATUS_IO;
    }
    endpoint_authority(&setup->endpoint, h->authority, sizeof h->authority);
    ws_client_key(h->key, h->accept);
    h->mask_state = random_u64(random_real()) | 1;
    const struct engine_handlers below = {on_connected, on_bytes, on_closed, h};
    return engine_open(&h->engine, &below, &address, len, o->source_ipv4);
}

void session_hub_close(struct session_hub *h)
{
    engine_close(h->engine);
}

enum status session_open(struct session_hub *h, struct session *s, uint64_t room, struct slice user)
{
    s->state = SESSION_UPGRADING;
    s->gone = false;
    s->in.len = 0;
    enum status status = engine_connect(h->engine, &s->peer);
    if (status != STATUS_OK) return status;
    struct buf fields = {0};
    char target[96] = "/ws";
    switch (h->dialect) {
    case DIALECT_CARILLON:
        buf_printf(&fields, "X-API-Key: %s\r\nX-User-Id: %.*s\r\n", h->setup->key, SLICE_FMT(user));
        break;
    case DIALECT_WEBSOCKET: snprintf(target, sizeof target, "/room/%" PRIu64, room); break;
    case DIALECT_SOCKET_IO:
        snprintf(target, sizeof target, "/socket.io/?EIO=4&transport=websocket&room=%" PRIu64, room);
        break;
    }
    ws_client_request(&s->peer.out, h->authority, target, h->key, h->subprotocol, buf_slice(&fields));
    buf_free(&fields);
    return STATUS_OK;
}

void session_send(struct session_hub *h, struct session *s, struct slice text)
{
    ws_client_frame(&s->peer.out, WS_OP_TEXT, text, next_mask(h));
    engine_send(h->engine, &s->peer);
}

void session_leave(struct session_hub *h, struct session *s)
{
    static const char code_1000[2] = {0x03, (char)0xe8};
    if (s->state == SESSION_OPEN) {
        s->state = SESSION_LEAVING;
        ws_client_frame(&s->peer.out, WS_OP_CLOSE, slice_of(code_1000, sizeof code_1000), next_mask(h));
        engine_send(h->engine, &s->peer);
    } else if (s->state == SESSION_UPGRADING) {
        s->state = SESSION_LEAVING;
        engine_close_peer(h->engine, &s->peer);
    }
}

void session_fail(struct session_hub *h, struct session *s, const char *why)
{
    if (!s->gone) snprintf(s->why, sizeof s->why, "%s", why);
    s->gone = true;
    engine_close_peer(h->engine, &s->peer);
}

void session_free(struct session *s)
{
    buf_free(&s->in);
    peer_free(&s->peer);
}

static void on_connected(void *context, struct peer *p, uint64_t now_ns)
{
    struct session_hub *h = context;
    engine_send(h->engine, p);
}

static void on_bytes(void *context, struct peer *p, const char *bytes, size_t len, uint64_t now_ns)
{
    struct session_hub *h = context;
    struct session *s = (struct session *)p;
    if (s->in.len == 0) { /* the usual case: whole frames, read where they arrived */
        size_t used = take(h, s, bytes, len, now_ns);
        if (used < len && p->state == PEER_OPEN) buf_append(&s->in, bytes + used, len - used);
        return;
    }
    buf_append(&s->in, bytes, len);
    size_t used = take(h, s, s->in.data, s->in.len, now_ns);
    if (p->state == PEER_OPEN) buf_consume(&s->in, used);
}

static void on_closed(void *context, struct peer *p, int error, uint64_t now_ns)
{
    struct session_hub *h = context;
    struct session *s = (struct session *)p;
    if (s->state != SESSION_LEAVING && !s->gone) {
        s->gone = true;
        snprintf(s->why, sizeof s->why, "%s", error ? strerrordesc_np(error) : "the gateway ended the connection");
    }
    s->state = SESSION_NEW;
    h->handlers.on_lost(h->handlers.context, s, now_ns);
}

/* take handles everything complete in `bytes` and returns how many bytes that was. */
static size_t take(struct session_hub *h, struct session *s, const char *bytes, size_t len, uint64_t now_ns)
{
    size_t at = 0;
    if (s->state == SESSION_UPGRADING) {
        at = take_answer(h, s, slice_of(bytes, len), now_ns);
        if (at == 0) return 0;
    }
    while (at < len && s->peer.state == PEER_OPEN) {
        unsigned opcode;
        size_t payload_len;
        int header = ws_client_header(bytes + at, len - at, &opcode, &payload_len);
        if (header < 0) session_fail(h, s, "the gateway sent a frame that breaks RFC 6455");
        if (header <= 0 || len - at < (size_t)header + payload_len) break;
        struct slice payload = slice_of(bytes + at + header, payload_len);
        at += (size_t)header + payload_len;
        if (LIKELY(opcode == WS_OP_TEXT))
            h->handlers.on_text(h->handlers.context, s, payload, now_ns);
        else
            take_control(h, s, opcode, payload);
    }
    return at;
}

static size_t take_answer(struct session_hub *h, struct session *s, struct slice bytes, uint64_t now_ns)
{
    size_t head_len = 0;
    unsigned http_status = 0;
    char why[96];
    switch (ws_client_answer(&head_len, &http_status, bytes, h->accept, h->subprotocol)) {
    case STATUS_OK:
        s->state = SESSION_OPEN;
        h->handlers.on_upgraded(h->handlers.context, s, now_ns);
        return head_len;
    case STATUS_FULL: return 0;
    case STATUS_DENIED:
        snprintf(why, sizeof why, "the upgrade was answered with HTTP status %u", http_status);
        session_fail(h, s, why);
        return 0;
    default: session_fail(h, s, "the answer to the upgrade breaks RFC 6455"); return 0;
    }
}

static void take_control(struct session_hub *h, struct session *s, unsigned opcode, struct slice payload)
{
    char why[96];
    switch (opcode) {
    case WS_OP_PING:
        ws_client_frame(&s->peer.out, WS_OP_PONG, payload, next_mask(h));
        engine_send(h->engine, &s->peer);
        break;
    case WS_OP_PONG: break;
    case WS_OP_CLOSE:
        if (s->state == SESSION_LEAVING)
            break; /* the answer to ours: the server ends the stream next (RFC 6455 7.1.1) */
        if (payload.len < 2)
            snprintf(why, sizeof why, "the gateway closed without a code");
        else
            snprintf(why, sizeof why, "the gateway closed with code %u: %.*s",
                     (unsigned)((uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1]), (int)payload.len - 2,
                     payload.data + 2);
        session_fail(h, s, why);
        break;
    default: session_fail(h, s, "the gateway sent a frame of an unexpected kind"); break;
    }
}

/* next_mask: xorshift64*, quick and never constant; masks guard against proxies, and there is none here. */
static uint32_t next_mask(struct session_hub *h)
{
    h->mask_state ^= h->mask_state >> 12;
    h->mask_state ^= h->mask_state << 25;
    h->mask_state ^= h->mask_state >> 27;
    return (uint32_t)((h->mask_state * 0x2545f4914f6cdd1dULL) >> 32);
}
