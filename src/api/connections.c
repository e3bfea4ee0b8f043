#include "connections.h"

#include <stdio.h>

#include "../base/assert.h"
#include "../base/planted.h"
#include "../chat/ids.h"
#include "../chat/session.h"
#include "api.h"

#define CONNECTION_ID_LEN 18u /* "c_" and 16 hexadecimal digits */
#define REASON_BYTES_MAX 123u /* of a close frame (RFC 6455 section 5.5) */
#define CLOSE_NOT_ALLOWED 4003u

/* connection_name: what an id stands for. 64 bits: core, generation (24 bits, never 0 but in a cursor), slot. */
struct connection_name {
    uint8_t core;
    struct conn_ref ref;
};

static void list_look(struct core *core, struct op *op);
static void kick_look(struct core *core, struct op *op);
static void item_write(struct core *core, struct buf *out, const struct conn *c);

/* --- ids -------------------------------------------------------------------------------------------------------- */

static uint64_t id_mask(const struct core *core)
{
    return hash_bytes(&core->gateway->hash_key, SLICE("connection ids"));
}

static void connection_id_text(const struct core *core, char out[CONNECTION_ID_LEN + 1], struct connection_name name)
{
    uint64_t bits = (uint64_t)name.core << 56 | (uint64_t)name.ref.generation << 32 | name.ref.slot;
    snprintf(out, CONNECTION_ID_LEN + 1, "c_%016llx", (unsigned long long)(bits ^ id_mask(core)));
}

static bool connection_id_parse(const struct core *core, struct slice text, struct connection_name *name)
{
    uint64_t bits = 0;
    if (text.len != CONNECTION_ID_LEN || text.data[0] != 'c' || text.data[1] != '_') return false;
    for (size_t i = 2; i < text.len; i++) {
        char digit = text.data[i];
        if (digit >= '0' && digit <= '9') bits = bits << 4 | (uint64_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f') bits = bits << 4 | (uint64_t)(digit - 'a' + 10);
        else return false;
    }
    bits ^= id_mask(core);
    *name = (struct connection_name){.core = (uint8_t)(bits >> 56),
                                     .ref = {.slot = (uint32_t)bits, .generation = (uint32_t)(bits >> 32) & 0xffffffu}};
    return true;
}

/* --- the list --------------------------------------------------------------------------------------------------- */

static void list_next(struct core *core, struct op *op);

static bool user_wanted(struct call *call, uint32_t tenant, struct slice id)
{
    if (id.len && !tenant)
        return call_fail(call, ERR_FIELD_MISSING, "A user is named together with its tenant", "tenant_id");
    return id.len == 0 || user_id_valid(id) || call_fail(call, ERR_FIELD_INVALID, NULL, "user_id");
}

void rest_connection_list(struct call *call)
{
    char cursor_bytes[CONNECTION_ID_LEN], tenant_bytes[ID_TEXT_LEN], user_bytes[USER_ID_BYTES_MAX];
    struct slice cursor, tenant_id, user_id;
    struct connection_name from = {0};
    uint32_t limit, tenant;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (!call_query(call, "tenant_id", tenant_bytes, sizeof tenant_bytes, &tenant_id)) return;
    if (!call_query(call, "user_id", user_bytes, sizeof user_bytes, &user_id)) return;
    if (!call_tenant_id(call, tenant_id, &tenant) || !user_wanted(call, tenant, user_id)) return;
    if (cursor.len && (!connection_id_parse(call->core, cursor, &from) || from.core >= call->core->num_cores)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct op *op = call_op(call, OP_CONNECTION_LIST, user_id.len);
    op->tenant = tenant;
    op->user_id = op_keep(op, user_id);
    op->in.connections.left = limit;
    op->in.connections.core = from.core;
    op->in.connections.slot = from.ref.slot;
    op->then = list_next;
    BUF_LIT(&op->out, "{\"items\":[");
    op_send(call->core, op, from.core);
}

/* list_next goes on to the next core, or answers. */
static void list_next(struct core *core, struct op *op)
{
    if (!op->in.connections.more && op->in.connections.core + 1u < core->num_cores) {
        op->in.connections.core++;
        op->in.connections.slot = 0;
        op_send(core, op, op->in.connections.core);
        return;
    }
    if (op->in.connections.more) {
        char next[CONNECTION_ID_LEN + 1];
        const struct connection_name name = {(uint8_t)op->in.connections.core, {.slot = op->in.connections.slot}};
        connection_id_text(core, next, name);
        buf_printf(&op->out, "],\"next\":\"%s\"}", next);
    } else {
        BUF_LIT(&op->out, "],\"next\":null}");
    }
    op->http_status = 200;
    rest_answer(core, op);
}

/* --- the kick --------------------------------------------------------------------------------------------------- */

static void kick_next(struct core *core, struct op *op);
static void kicked(struct core *core, struct op *op);

struct kick {
    struct slice connection_id, tenant_id, user_id, reason;
    struct connection_name name;
    uint32_t tenant;
};

static bool kick_fields(struct call *call, struct kick *k)
{
    struct fields f = {.object = call->body};
    k->reason = SLICE("closed by the operator");
    bool good = field_text(&f, "connection_id", &k->connection_id, 64, false) &&
                field_text(&f, "tenant_id", &k->tenant_id, 64, false) &&
                field_text(&f, "user_id", &k->user_id, USER_ID_BYTES_MAX, false) &&
                field_text(&f, "reason", &k->reason, REASON_BYTES_MAX, false);
    if (!good) return call_fail(call, f.error.code, f.error.detail, f.error.field);
    if (k->reason.len > REASON_BYTES_MAX || memchr(k->reason.data, 0, k->reason.len))
        return call_fail(call, ERR_FIELD_TOO_LONG, "A reason is at most 123 bytes, without NUL", "reason");
    if (!k->connection_id.len && !k->tenant_id.len && !k->user_id.len)
        return call_fail(call, ERR_FIELD_MISSING, "Name a connection, or a tenant and perhaps a user", "connection_id");
    if (k->connection_id.len && (k->tenant_id.len || k->user_id.len))
        return call_fail(call, ERR_FIELD_INVALID, "Name a connection or a tenant, not both", "connection_id");
    if (k->connection_id.len && !connection_id_parse(call->core, k->connection_id, &k->name))
        return call_fail(call, ERR_FIELD_INVALID, "That is no connection's id", "connection_id");
    return call_tenant_id(call, k->tenant_id, &k->tenant) && user_wanted(call, k->tenant, k->user_id);
}

void rest_kick(struct call *call)
{
    struct kick k = {0};
    if (!call_body(call, false) || !kick_fields(call, &k)) return;
    size_t whose = k.connection_id.len ? USER_ID_BYTES_MAX : k.user_id.len;
    struct op *op = call_op(call, OP_CONNECTION_KICK, k.connection_id.len + whose + k.reason.len + 1);
    op->tenant = k.tenant;
    op->user_id = op_keep(op, k.user_id);
    op->in.connections.reason = op_keep(op, k.reason);
    op_keep(op, slice_of("", 1));
    op->in.connections.id = op_keep(op, k.connection_id);
    op->then = kick_next;
    if (!k.connection_id.len) {
        op_send(call->core, op, 0);
        return;
    }
    op->then = kicked;
    op->in.connections.core = k.name.core;
    op->in.connections.slot = k.name.ref.slot;
    op->in.connections.generation = k.name.ref.generation;
    if (k.name.core < call->core->num_cores && k.name.ref.generation) op_send(call->core, op, k.name.core);
    else kicked(call->core, op); /* of an earlier run */
}

static void kick_next(struct core *core, struct op *op)
{
    op->in.connections.core++;
    if (op->in.connections.core < core->num_cores) op_send(core, op, op->in.connections.core);
    else kicked(core, op);
}

static void kicked(struct core *core, struct op *op)
{
    buf_printf(&op->out, "{\"closed\":%u}", op->in.connections.closed);
    op->http_status = 200;
    rest_answer(core, op);
}

/* --- on each core ----------------------------------------------------------------------------------------------- */

void connections_on_op(struct core *core, struct op *op)
{
    if (op->kind == OP_CONNECTION_LIST) list_look(core, op);
    else kick_look(core, op);
    op_return(core, op);
}

/* user_is_elsewhere spares the look at a core that has no socket of the user. */
static bool user_is_elsewhere(const struct core *core, const struct op *op)
{
    if (op->user_id.len == 0) return false;
    const struct known_user *u = known_user_find(core, op->tenant, op->user_id);
    return !u || list_empty(&u->sessions);
}

static bool matches(const struct op *op, const struct conn *c)
{
    if (!op->tenant) return true;
    const struct session *s = conn_user(c);
    if (!s || s->user->tenant != op->tenant) return false;
    return op->user_id.len == 0 || slice_eq(known_user_id(s->user), op->user_id);
}

static void list_look(struct core *core, struct op *op)
{
    uint32_t at = op->in.connections.slot;
    if (user_is_elsewhere(core, op)) return;
    for (struct conn *c; (c = net_each(core->net, &at));) {
        if (!matches(op, c)) continue;
        if (op->in.connections.left == 0) {
            op->in.connections.slot = net_ref(c).slot;
            op->in.connections.more = true;
            return;
        }
        op->in.connections.left--;
        item_write(core, &op->out, c);
    }
}

static void dismiss(struct core *core, struct op *op, struct conn *c)
{
    if (PLANTED(kicked_socket_stays)) (void)c;
    else if (conn_is_websocket(c)) net_ws_dismiss(core->net, c, CLOSE_NOT_ALLOWED, op->in.connections.reason.data);
    else net_abort(core->net, c);
    op->in.connections.closed++;
}

/* whose: the log of acts tells who it was that lost the connection. */
static void whose(struct op *op, const struct conn *c)
{
    const struct session *s = conn_user(c);
    if (!s) return;
    op->tenant = s->user->tenant;
    op->user_id = op_keep(op, known_user_id(s->user));
}

static void kick_look(struct core *core, struct op *op)
{
    uint32_t at = 0;
    if (op->in.connections.generation) {
        struct conn_ref ref = {op->in.connections.slot, op->in.connections.generation};
        struct conn *c = net_conn(core->net, ref);
        if (c) whose(op, c);
        if (c) dismiss(core, op, c);
        return;
    }
    if (user_is_elsewhere(core, op)) return;
    for (struct conn *c; (c = net_each(core->net, &at));)
        if (matches(op, c)) dismiss(core, op, c);
}

static void id_or_null(struct buf *out, const char *name, struct slice text)
{
    buf_printf(out, ",\"%s\":", name);
    if (text.len) buf_json_string(out, text);
    else BUF_LIT(out, "null");
}

static void item_write(struct core *core, struct buf *out, const struct conn *c)
{
    const struct session *s = conn_user(c);
    char id[CONNECTION_ID_LEN + 1], peer[46], time[TIME_TEXT_LEN], tenant[ID_TEXT_LEN], session_id[24] = "";
    const struct connection_name name = {(uint8_t)core->id, net_ref(c)};
    connection_id_text(core, id, name);
    conn_peer(c, peer);
    time_text(time, core->now_ms - conn_open_ms(core->net, c));
    if (s) tenant_id_text(tenant, s->user->tenant);
    if (s) snprintf(session_id, sizeof session_id, "s_%016llx", (unsigned long long)s->id);
    if (out->data[out->len - 1] != '[') BUF_LIT(out, ",");
    buf_printf(out, "{\"connection_id\":\"%s\",\"kind\":\"%s\"", id, conn_is_websocket(c) ? "websocket" : "http");
    id_or_null(out, "tenant_id", slice_of(tenant, s ? ID_TEXT_LEN : 0));
    id_or_null(out, "user_id", s ? known_user_id(s->user) : (struct slice){0});
    id_or_null(out, "device", s ? slice_of(s->device, s->device_len) : (struct slice){0});
    id_or_null(out, "session_id", slice_str(session_id));
    id_or_null(out, "peer", slice_str(peer));
    buf_printf(
        out, ",\"opened_at\":\"%.*s\",\"idle_ms\":%llu,\"rooms\":%u,\"queued_bytes\":%zu,\"replaying\":%s,\"core\":%u}",
        (int)TIME_TEXT_LEN, time, (unsigned long long)conn_idle_ms(core->net, c), s ? s->num_subs : 0, net_queued(c),
        s && session_replays(s) ? "true" : "false", core->id);
}
