/* upgrade: from an HTTP request to a WebSocket with a session (RFC 6455 section 4.2). */
#include <stdlib.h>

#include "../../net/handshake.h"
#include "../../net/websocket.h"
#include "../auth/ticket.h"
#include "../base/assert.h"
#include "../chat/session.h"
#include "access.h"
#include "admission.h"
#include "api.h"
#include "cors.h"

#define SUBPROTOCOL "carillon.v1.json"

static bool handshake_valid(struct call *call, char accept[WS_ACCEPT_LEN])
{
    const struct http_request *r = call->request;
    if (r->method != HTTP_GET || !r->upgrade_websocket || r->body.len)
        return call_fail(call, ERR_UPGRADE_INVALID, "Expected a WebSocket upgrade (RFC 6455)", NULL);
    if (http_header_count(r, "Sec-WebSocket-Version") > 1)
        return call_fail(call, ERR_UPGRADE_INVALID, "Sec-WebSocket-Version is repeated", NULL);
    if (!slice_is(http_header_find(r, "Sec-WebSocket-Version"), "13"))
        return call_fail(call, ERR_UPGRADE_VERSION, NULL, NULL);
    if (http_header_count(r, "Sec-WebSocket-Key") != 1 ||
        !ws_accept_key(accept, http_header_find(r, "Sec-WebSocket-Key")))
        return call_fail(call, ERR_UPGRADE_INVALID, "Sec-WebSocket-Key is not the base64 of 16 bytes", NULL);
    if (!handshake_protocols_valid(r))
        return call_fail(call, ERR_UPGRADE_INVALID, "Sec-WebSocket-Protocol is not a list of tokens", NULL);
    if (!handshake_extensions_valid(r))
        return call_fail(call, ERR_UPGRADE_INVALID, "Sec-WebSocket-Extensions is malformed (RFC 6455 section 9.1)",
                         NULL);
    return true;
}

struct upgrade {
    char accept[WS_ACCEPT_LEN];
    bool subprotocol;
    struct slice device;
    struct api_key *key;
    bool has_ticket;
    uint64_t ticket_expires_ns;
    uint8_t ticket_nonce[TICKET_NONCE_BYTES];
};

/* key_admits looks again: the key may have been revoked, or its tenant switched off, while the user was resolved. Their
 * sockets have been closed by then, and this one would be left. */
static bool key_admits(const struct api_key *key, struct op *op)
{
    enum error_code refused = directory_key_refused(key);
    return refused == ERR_NONE || op_fail(op, refused, NULL, NULL);
}

static void upgrade_failed(struct core *core, struct op *op)
{
    free(op->flow);
    op->flow = NULL;
    rest_answer(core, op);
}

static void upgrade_go(struct core *core, struct op *op)
{
    struct upgrade *u = op->flow;
    struct conn *conn = net_conn(core->net, op->conn);
    if (op_failed(op) || !key_admits(u->key, op) || !conn) {
        upgrade_failed(core, op);
        return;
    }
    /* resolving has made the user known here; while a ticket was on its way it may have been forgotten again */
    struct known_user *user = known_user_add(core, op->tenant, op->user_id, op->user);
    struct buf headers = {0};
    if (UNLIKELY(core->guards & GUARD_RATES)) admission_headers(&headers, conn);
    net_ws_accept(core->net, conn, slice_of(u->accept, WS_ACCEPT_LEN),
                  u->subprotocol ? SLICE(SUBPROTOCOL) : (struct slice){0}, buf_slice(&headers), 0);
    buf_free(&headers);
    rest_upgraded(core, conn, op->route, op->started_ns);
    struct session *s = session_open(core, conn, user, u->key, u->subprotocol, u->device);
    if (!u->subprotocol) session_begin(core, s, NULL, NULL);
    free(u);
    op_free(op);
}

/* upgrade_ticket uses the ticket, last of all, so that a handshake that fails does not use it up. */
static void upgrade_ticket(struct core *core, struct op *op)
{
    struct upgrade *u = op->flow;
    if (!u->has_ticket || !key_admits(u->key, op) || !net_conn(core->net, op->conn)) {
        upgrade_go(core, op);
        return;
    }
    op->kind = OP_TICKET_USE;
    op->in.ticket.expires_ns = u->ticket_expires_ns;
    memcpy(op->in.ticket.nonce, u->ticket_nonce, sizeof u->ticket_nonce);
    op->then = upgrade_go;
    op_dispatch(core, op);
}

/* device_read takes X-Device-Id, or ?device= for clients that cannot set headers: with a ticket that alone. */
static bool device_read(struct call *call, bool has_ticket, char *bytes, struct slice *device)
{
    *device = has_ticket ? SLICE_NONE : http_header_find(call->request, "X-Device-Id");
    if (!device->data) {
        size_t len = 0;
        int found = http_query_find(call->request->query, "device", bytes, DEVICE_BYTES_MAX, &len);
        if (found < 0) return false;
        *device = slice_of(bytes, found ? len : 0);
    }
    return device->len <= DEVICE_BYTES_MAX && json_utf8_valid(*device);
}

/* ticket_caller: who calls is in the ticket of the query, which has the key's rights as long as the key has them. */
static bool ticket_caller(struct call *call, struct ticket *t, uint8_t bytes[TICKET_BYTES_MAX], struct slice text)
{
    if (!ticket_read(t, bytes, call->core->gateway->ticket_secret, text) || t->expires_ns <= call->core->now_ns)
        return call_fail(call, ERR_AUTH_INVALID_TICKET, NULL, NULL); /* an old one makes no user, either */
    call->key = directory_key(call->core, t->key_id);
    call->user_id = t->user_id;
    ASSERT(call->key != NULL); /* it signed this ticket for a key that was there, and keys are never forgotten */
    conn_charge(call->conn, &call->key->tenant->answers);
    enum error_code refused = directory_key_refused(call->key);
    if (refused != ERR_NONE) return call_fail(call, refused, NULL, NULL);
    return cors_socket_allowed(call) || call_fail(call, ERR_AUTH_ORIGIN_FORBIDDEN, NULL, NULL);
}

void rest_upgrade(struct call *call)
{
    char bytes[DEVICE_BYTES_MAX], ticket_text[TICKET_TEXT_MAX];
    uint8_t ticket_bytes[TICKET_BYTES_MAX];
    struct ticket ticket;
    struct slice device;
    size_t ticket_len = 0;
    int has_ticket = http_query_find(call->request->query, "ticket", ticket_text, sizeof ticket_text, &ticket_len);
    struct slice text = slice_of(ticket_text, has_ticket > 0 ? ticket_len : 0); /* malformed: empty, and no ticket */
    if (!(has_ticket ? ticket_caller(call, &ticket, ticket_bytes, text) : call_member(call))) return;
    if (!call_admitted(call)) return;
    struct upgrade u = {
        .subprotocol = handshake_offers(call->request, SUBPROTOCOL), .key = call->key, .has_ticket = has_ticket != 0};
    if (has_ticket) {
        u.ticket_expires_ns = ticket.expires_ns;
        memcpy(u.ticket_nonce, ticket.nonce, sizeof u.ticket_nonce);
    }
    if (!handshake_valid(call, u.accept)) return;
    if (!device_read(call, u.has_ticket, bytes, &device)) {
        call_fail(call, ERR_FIELD_TOO_LONG, "A device name is at most 64 bytes of UTF-8", "device");
        return;
    }
    if (atomic_load_explicit(&call->core->gateway->draining, memory_order_relaxed)) {
        call_fail(call, ERR_SERVER_DRAINING, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_USER_RESOLVE, device.len);
    u.device = op_keep(op, device);
    op->flow = malloc(sizeof u);
    ASSERT(op->flow != NULL);
    memcpy(op->flow, &u, sizeof u);
    op->then = upgrade_failed;
    op_resolve(call->core, op, upgrade_ticket);
}

/* rest_ws_echo: a WebSocket without a session echoes what it is sent (api_on_message); for conformance suites. */
void rest_ws_echo(struct call *call)
{
    char accept[WS_ACCEPT_LEN];
    if (!handshake_valid(call, accept)) return;
    net_ws_accept(call->core->net, call->conn, slice_of(accept, WS_ACCEPT_LEN), (struct slice){0}, (struct slice){0},
                  ECHO_MESSAGE_BYTES_MAX);
    rest_upgraded(call->core, call->conn, call->route, call->core->now_ns);
}
