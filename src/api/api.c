/* api: a request's way in: route, caller, handler; and out: the answer. */
#include "api.h"

#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/probe.h"
#include "../chat/ids.h"
#include "../chat/session.h"
#include "access.h"
#include "actions.h"
#include "admission.h"
#include "cors.h"
#include "pages.h"

const struct route routes[ROUTES] = {
#define ROUTE(id, method, pattern, who, handler) [ROUTE_##id] = {HTTP_##method, pattern, WHO_##who, handler},
#include "routes.def"
#undef ROUTE
};

unsigned api_num_routes(void) { return ROUTES + 1; /* the last one stands for "no route" */ }

static bool goes_on_in_a_drain(const struct call *call);
static bool route_find(struct call *call, enum error_code *wrong, unsigned *methods);
static bool caller_find(struct call *call);
static bool key_find(struct call *call);
static bool master_key_valid(struct call *call);
static bool is_echo(const struct call *call);
static bool echo_request(struct call *call);
static void options_reply(struct call *call, unsigned methods);
static void not_routed(struct call *call, enum error_code wrong, unsigned methods);

void api_on_request(void *context, struct conn *c, const struct http_request *request)
{
    struct core *core = context;
    struct call call = {
        .core = core, .conn = c, .request = request, .route = ROUTES, .request_id = core->next_request_id++};
    probe_parse(core->id, net_ref(c).slot, request->body.len);
    access_begin(&call);
    if (UNLIKELY(core->gateway->config->cors_origins[0])) cors_note(&call);
    if (UNLIKELY(core->gateway->config->debug_echo) && echo_request(&call)) return;
    enum error_code wrong;
    unsigned methods = 0;
    bool routed = route_find(&call, &wrong, &methods);
    if (UNLIKELY(core->guards || conn_refusal(c)) && !admission_request(&call)) return;
    if (!routed) {
        if (request->method == HTTP_OPTIONS && methods) options_reply(&call, methods);
        else not_routed(&call, wrong, methods);
        return;
    }
    if (UNLIKELY(core->drain_told) && !goes_on_in_a_drain(&call)) {
        call_fail(&call, ERR_SERVER_DRAINING, NULL, NULL);
        return;
    }
    if (!caller_find(&call) || !call_admitted(&call)) return;
    routes[call.route].handler(&call);
}

/* It refuses only what api_on_request refuses as well, whose answer tells why. */
bool api_on_head(void *context, struct conn *c, const struct http_request *request)
{
    struct core *core = context;
    struct call call = {.core = core, .conn = c, .request = request, .route = ROUTES};
    enum error_code wrong;
    unsigned methods = 0;
    if (is_echo(&call)) return true;
    if (!route_find(&call, &wrong, &methods)) return false;
    switch (routes[call.route].who) {
    case WHO_ANYONE: return true;
    case WHO_MEMBER: return key_find(&call);
    case WHO_OPERATOR: return master_key_valid(&call);
    }
    UNREACHABLE();
}

bool call_admitted(struct call *call)
{
    access_caller(call);
    return LIKELY(!call->core->guards) || admission_caller(call);
}

void api_on_closed(void *context, struct conn *c)
{
    access_websocket_closed(context, c, conn_user(c));
    session_on_closed(context, c);
}

/* goes_on_in_a_drain: reading, and whatever the operator still has to do. */
static bool goes_on_in_a_drain(const struct call *call)
{
    enum http_method method = call->request->method;
    bool reads = method == HTTP_GET || method == HTTP_HEAD || call->route == ROUTE_SYNC_POST;
    return reads || routes[call->route].who != WHO_MEMBER;
}

/* --- routes ------------------------------------------------------------------------------------------------------ */

/* next_segment takes "/segment" off the front. */
static bool next_segment(struct slice *path, struct slice *segment)
{
    if (path->len == 0 || path->data[0] != '/') return false;
    *path = slice_from(*path, 1);
    const char *end = path->len ? memchr(path->data, '/', path->len) : NULL;
    size_t len = end ? (size_t)(end - path->data) : path->len;
    *segment = (struct slice){path->data, len};
    *path = slice_from(*path, len);
    return true;
}

static bool pattern_matches(struct call *call, const char *pattern, struct slice path)
{
    struct slice rest = slice_str(pattern), expected, got;
    unsigned params = 0;
    while (next_segment(&rest, &expected)) {
        if (!next_segment(&path, &got)) return false;
        if (expected.len && expected.data[0] == '{') {
            size_t len;
            ASSERT(params < CALL_PARAMS_MAX);
            if (got.len == 0 || !http_percent_decode(got, call->param_bytes[params], sizeof call->param_bytes[0], &len))
                return false;
            call->params[params] = slice_of(call->param_bytes[params], len);
            params++;
        } else if (!slice_eq(expected, got)) {
            return false;
        }
    }
    return path.len == 0;
}

bool call_strip_version(struct slice *path)
{
    static const struct slice prefixes[] = {{"/v1", 3}, {"/api/v1", 7}};
    for (unsigned i = 0; i < 2; i++) {
        if (!slice_starts(*path, prefixes[i])) continue;
        struct slice rest = slice_from(*path, prefixes[i].len);
        if (rest.len && rest.data[0] != '/') continue;
        *path = rest;
        return true;
    }
    return false;
}

static bool route_find(struct call *call, enum error_code *wrong, unsigned *methods)
{
    struct slice path = call->request->path;
    bool versioned = call_strip_version(&path);
    enum http_method method = call->request->method == HTTP_HEAD ? HTTP_GET : call->request->method;
    *wrong = ERR_ROUTE_NOT_FOUND;
    /* OPTIONS * asks for the server as a whole (RFC 9110 section 9.3.7) */
    bool all = method == HTTP_OPTIONS && !versioned && slice_is(path, "*");
    for (unsigned i = 0; i < ROUTES; i++) {
        if (all) *methods |= 1u << routes[i].method;
        if (!versioned && routes[i].who != WHO_ANYONE) continue;
        if (versioned && (i == ROUTE_INDEX || i == ROUTE_PAGE_FILE)) continue; /* the page is at the root alone */
        if (i == ROUTE_DEBUG_WS_ECHO && !call->core->gateway->config->debug_echo) continue;
        if (!pattern_matches(call, routes[i].pattern, path)) continue;
        *methods |= 1u << routes[i].method;
        if (routes[i].method == method) {
            call->route = (uint16_t)i;
            return true;
        }
        *wrong = ERR_METHOD_NOT_ALLOWED;
    }
    return false;
}

static void append_methods(struct buf *out, unsigned methods)
{
    BUF_LIT(out, "Allow: OPTIONS");
    if (methods & 1u << HTTP_GET) BUF_LIT(out, ", HEAD");
    for (unsigned m = 0; m < HTTP_METHODS; m++)
        if (methods & 1u << m) buf_printf(out, ", %s", http_method_name((enum http_method)m));
    BUF_LIT(out, "\r\n");
}

static void options_reply(struct call *call, unsigned methods)
{
    struct buf headers = {0};
    append_methods(&headers, methods);
    cors_preflight(&headers, call->conn, methods);
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 204, NULL, buf_slice(&headers),
               (struct slice){0});
    buf_free(&headers);
}

/* not_routed: 404, or 405 with what the resource knows (RFC 9110 section 15.5.6). */
static void not_routed(struct call *call, enum error_code wrong, unsigned methods)
{
    struct slice path = call->request->path;
    struct error e = {.code = wrong};
    struct buf headers = {0};
    if (wrong == ERR_ROUTE_NOT_FOUND && !call_strip_version(&path)) e.detail = "No such resource; the API is under /v1";
    if (methods) append_methods(&headers, methods);
    rest_problem(call->core, call->conn, call->route, call->core->now_ns, call->request_id, &e, buf_slice(&headers));
    buf_free(&headers);
}

/* debug.echo: ANY /debug/echo answers the body it was sent, for conformance suites. */
static bool is_echo(const struct call *call)
{
    struct slice path = call->request->path;
    call_strip_version(&path);
    return call->core->gateway->config->debug_echo && slice_is(path, "/debug/echo");
}

static bool echo_request(struct call *call)
{
    if (!is_echo(call)) return false;
    rest_reply(call->core, call->conn, ROUTES, call->core->now_ns, 200, "application/octet-stream", (struct slice){0},
               call->request->body);
    return true;
}

/* --- who is calling ---------------------------------------------------------------------------------------------- */

/* master_key_valid: the operator is charged to nobody, and so is always served. */
static bool master_key_valid(struct call *call)
{
    if (conn_is_admin(call->conn)) return true;
    struct slice presented = http_header_find(call->request, "X-Master-Key");
    struct slice master = slice_str(call->core->gateway->config->admin_master_key);
    uint8_t a[SHA256_DIGEST_LENGTH], b[SHA256_DIGEST_LENGTH]; /* digests, so that not even the length shows in time */
    SHA256((const uint8_t *)presented.data, presented.len, a);
    SHA256((const uint8_t *)master.data, master.len, b);
    if (!presented.data || master.len == 0 || CRYPTO_memcmp(a, b, sizeof a) != 0) return false;
    conn_charge(call->conn, NULL);
    return true;
}

static bool operator_find(struct call *call)
{
    if (master_key_valid(call)) return true;
    bool presented = http_header_find(call->request, "X-Master-Key").data != NULL;
    return call_fail(call, presented ? ERR_AUTH_INVALID_MASTER_KEY : ERR_AUTH_OPERATOR_MISSING, NULL, NULL);
}

/* key_find authenticates the key that was presented; from here on the connection is its tenant's. */
static bool key_find(struct call *call)
{
    struct slice presented = http_header_find(call->request, "X-API-Key");
    call->key = presented.data ? directory_authenticate(call->core, presented) : NULL;
    if (call->key) conn_charge(call->conn, &call->key->tenant->answers);
    return call->key != NULL;
}

bool user_id_valid(struct slice id)
{
    if (id.len == 0 || id.len > USER_ID_BYTES_MAX || !json_utf8_valid(id)) return false;
    for (size_t i = 0; i < id.len; i++)
        if ((unsigned char)id.data[i] < 0x20 || id.data[i] == 0x7f) return false;
    return true;
}

bool call_member(struct call *call)
{
    if (!key_find(call)) {
        bool presented = http_header_find(call->request, "X-API-Key").data != NULL;
        return call_fail(call, presented ? ERR_AUTH_INVALID_KEY : ERR_AUTH_MISSING, NULL, NULL);
    }
    if (call->key->tenant->state != TENANT_ACTIVE) return call_fail(call, ERR_TENANT_DISABLED, NULL, NULL);
    bool reads = call->request->method == HTTP_GET || call->request->method == HTTP_HEAD ||
                 call->route == ROUTE_SYNC_POST || call->route == ROUTE_TICKET_CREATE;
    if (call->key->role == KEY_ROLE_READ && !reads)
        return call_fail(call, ERR_AUTH_FORBIDDEN, "A read key only reads", NULL);
    call->user_id = http_header_find(call->request, "X-User-Id");
    if (!call->user_id.data) return call_fail(call, ERR_AUTH_USER_REQUIRED, NULL, NULL);
    if (!user_id_valid(call->user_id)) return call_fail(call, ERR_AUTH_INVALID_USER_ID, NULL, NULL);
    return true;
}

static bool caller_find(struct call *call)
{
    switch (routes[call->route].who) {
    case WHO_ANYONE: return admission_anyone(call);
    case WHO_MEMBER: return call_member(call);
    case WHO_OPERATOR: return operator_find(call);
    }
    UNREACHABLE();
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

void error_counted(struct core *core, enum error_code code)
{
    uint64_t now = atomic_load_explicit(&core->error_count[code], memory_order_relaxed);
    atomic_store_explicit(&core->error_count[code], now + 1, memory_order_relaxed);
}

static void count_one(_Atomic uint64_t *count)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}

void api_on_refused(void *context, struct conn *c, enum http_error error, unsigned status)
{
    struct core *core = context;
    if (error == HTTP_OK) error_counted(core, ERR_SERVER_OVERLOADED);
    else count_one(&core->refused_count[error]);
    access_refused(core, c, status, error == HTTP_OK ? error_rows[ERR_SERVER_OVERLOADED].code : http_error_code(error));
}

/* answered counts an answer and logs it. */
static void answered(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, unsigned status,
                     enum error_code code, size_t bytes)
{
    histogram_record(&core->route_seconds[route], clock_mono_ns(core->gateway->clock) - started_ns);
    count_one(&core->route_status[route * 6 + status / 100]);
    access_end(core, net_ref(conn), route, status, code, bytes);
}

void rest_upgraded(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns)
{
    answered(core, conn, route, started_ns, 101, ERR_NONE, 0);
}

static void reply(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, unsigned status,
                  enum error_code code, const char *content_type, struct slice headers, struct slice body)
{
    bool draining = atomic_load_explicit(&core->gateway->draining, memory_order_relaxed);
    struct http_reply answer = {.status = status,
                                .content_type = content_type,
                                .headers = headers,
                                .body = body,
                                .close = draining || UNLIKELY(anyone_full(core, conn))};
    bool rates = core->guards & GUARD_RATES, origins = core->gateway->config->cors_origins[0];
    struct buf more = {0};
    if (UNLIKELY(rates || origins)) {
        buf_slice_append(&more, headers);
        if (rates) admission_headers(&more, conn);
        if (origins) cors_headers(&more, core, conn);
        answer.headers = buf_slice(&more);
    }
    net_http_reply(core->net, conn, &answer);
    buf_free(&more);
    answered(core, conn, route, started_ns, status, code, body.len);
}

void rest_reply(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, unsigned status,
                const char *content_type, struct slice headers, struct slice body)
{
    reply(core, conn, route, started_ns, status, ERR_NONE, content_type, headers, body);
}

void rest_problem(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, uint64_t request_id,
                  const struct error *e, struct slice more_headers)
{
    struct buf body = {0}, headers = {0};
    buf_slice_append(&headers, more_headers);
    unsigned status = error_rows[e->code].http_status;
    error_problem(&body, e, request_id);
    error_counted(core, e->code);
    if (status == 503 || status == 507) BUF_LIT(&headers, "Retry-After: 1\r\n");
    if (status == 426) BUF_LIT(&headers, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: upgrade\r\n");
    if (status == 401) BUF_LIT(&headers, "WWW-Authenticate: ApiKey\r\n");
    reply(core, conn, route, started_ns, status, e->code, "application/problem+json", buf_slice(&headers),
          buf_slice(&body));
    buf_free(&body);
    buf_free(&headers);
}

void call_reply(struct call *call, unsigned status, struct slice json)
{
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, status, json.len ? "application/json" : NULL,
               (struct slice){0}, json);
    action_answered(call->core, call->conn, call->route, call->request_id, status, ERR_NONE, NULL);
}

void call_refuse(struct call *call, enum error_code code, const char *detail, const char *field)
{
    struct error e = {code, detail, field};
    rest_problem(call->core, call->conn, call->route, call->core->now_ns, call->request_id, &e, (struct slice){0});
    action_answered(call->core, call->conn, call->route, call->request_id, error_rows[code].http_status, code, NULL);
}

void rest_answer(struct core *core, struct op *op)
{
    struct conn *conn = net_conn(core->net, op->conn);
    if (!conn) {
        /* the caller has gone; what was done stays done */
        access_end(core, op->conn, op->route, 499, op->error.code, 0);
    } else if (op_failed(op)) {
        rest_problem(core, conn, op->route, op->started_ns, op->request_id, &op->error, (struct slice){0});
    } else {
        ASSERT(op->http_status != 0);
        rest_reply(core, conn, op->route, op->started_ns, op->http_status, op->out.len ? "application/json" : NULL,
                   (struct slice){0}, buf_slice(&op->out));
    }
    unsigned status = op_failed(op) ? error_rows[op->error.code].http_status : op->http_status;
    action_answered(core, conn, op->route, op->request_id, status, op->error.code, op);
    op_free(op);
}

void sent_json(struct buf *out, const struct op *op)
{
    char room_id[ID_TEXT_LEN], message_id[MESSAGE_ID_TEXT_MAX], time[TIME_TEXT_LEN];
    room_id_text(room_id, op->room);
    int message_id_len = (int)(message_id_text(message_id, op->room, op->seq) - message_id);
    time_text(time, op->created_ms);
    buf_printf(out, "\"room_id\":\"%.*s\",\"message_id\":\"%.*s\",\"seq\":%llu,\"created_at\":\"%.*s\"",
               (int)ID_TEXT_LEN, room_id, message_id_len, message_id, (unsigned long long)op->seq, (int)TIME_TEXT_LEN,
               time);
    if (op->fast) BUF_LIT(out, ",\"durability\":\"fast\"");
}

/* --- ops --------------------------------------------------------------------------------------------------------- */

struct op *call_op(struct call *call, enum op_kind kind, size_t text_bytes)
{
    struct op *op = op_new(call->core, kind, text_bytes + call->user_id.len);
    op->conn = net_ref(call->conn);
    op->request_id = call->request_id;
    op->route = call->route;
    op->then = rest_answer;
    if (call->key) {
        op->tenant = call->key->tenant->number;
        op->user_id = op_keep(op, call->user_id);
    }
    return op;
}

static void resolve_and_dispatch(struct core *core, struct op *op) { op_resolve(core, op, op_dispatch); }

void call_go(struct call *call, struct op *op) { resolve_and_dispatch(call->core, op); }

void call_go_long(struct call *call, struct op *op, size_t bytes)
{
    pages_go(call->core, op, bytes, resolve_and_dispatch);
}

/* resolving: who is not known on this core is asked for at the user's home; the last answer sends the op on */
struct resolving {
    void (*go)(struct core *core, struct op *op);
    struct op *op;
    uint32_t left;
};

/* asks_only: these name a member, whom they never make. */
static bool asks_only(const struct op *op) { return op->kind == OP_ROOM_REMOVE || op->kind == OP_ROOM_ROLE; }

/* joins: is that one (0: the acting user, else a member) to be in one room more? Then the user's home is asked in any
 * case: it alone knows how many rooms that would make. The room decides, for it knows who is in it already. Joins that
 * are under way at once do not see each other, so a user may pass the bound by as many as these. */
static bool joins(const struct op *op, uint32_t index)
{
    if (op->kind == OP_ROOM_JOIN) return index == 0;
    return index > 0 && (op->kind == OP_ROOM_CREATE || op->kind == OP_ROOM_ADD);
}

static void resolved_one(struct core *core, struct op *child)
{
    struct resolving *r = child->flow;
    struct op *op = r->op;
    if (child->asks && child->error.code == ERR_USER_NOT_FOUND) {
        op->members[child->child_index - 1].user = 0; /* nobody's number: the room knows what may be answered to that */
    } else if (op_failed(child)) {
        op_fail(op, child->error.code, child->error.detail, child->error.field);
    } else {
        struct known_user *u = known_user_add(core, child->tenant, child->user_id, child->user);
        if (child->child_index == 0) {
            op->user = u->number;
            op->rooms_full = child->rooms_full;
        } else {
            op->members[child->child_index - 1].user = u->number;
            op->members[child->child_index - 1].rooms_full = child->rooms_full;
        }
    }
    op_free(child);
    if (--r->left) return;
    void (*go)(struct core *, struct op *) = r->go;
    free(r);
    if (op_failed(op)) op->then(core, op);
    else go(core, op);
}

static void resolve_one(struct core *core, struct resolving *r, uint32_t index, struct slice id, uint64_t *number)
{
    struct known_user *known = known_user_find(core, r->op->tenant, id);
    bool more = joins(r->op, index);
    if (known && !more) {
        *number = known->number;
        return;
    }
    struct op *child = op_new(core, OP_USER_RESOLVE, id.len);
    child->tenant = r->op->tenant;
    child->user_id = op_keep(child, id);
    child->child_index = index;
    child->asks = index > 0 && asks_only(r->op);
    child->joins = more;
    child->flow = r;
    child->then = resolved_one;
    r->left++;
    op_dispatch(core, child);
}

static void resolve_users(struct core *core, struct op *op, uint32_t num_members,
                          void (*go)(struct core *core, struct op *op))
{
    struct known_user *known = known_user_find(core, op->tenant, op->user_id);
    if (known && num_members == 0 && !joins(op, 0)) {
        op->user = known->number;
        go(core, op);
        return;
    }
    struct resolving *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    *r = (struct resolving){.go = go, .op = op, .left = 1}; /* one more, until all are asked for */
    resolve_one(core, r, 0, op->user_id, &op->user);
    for (uint32_t i = 0; i < num_members; i++)
        resolve_one(core, r, i + 1, op->members[i].user_id, &op->members[i].user);
    if (--r->left) return;
    free(r);
    if (op_failed(op)) op->then(core, op);
    else go(core, op);
}

/* admission: an OP_ROOM_ADD that asks first. Whom it names comes into being only once the room has said that its user
 * may add them. */
struct admission {
    void (*go)(struct core *core, struct op *op);
    void (*then)(struct core *core, struct op *op);
    void *flow;
};

static void admission_answered(struct core *core, struct op *op)
{
    struct admission a = *(struct admission *)op->flow;
    free(op->flow);
    op->flow = a.flow;
    op->then = a.then;
    op->asks = false;
    if (op_failed(op) || op->http_status) { /* a repeat has its first answer already */
        op->then(core, op);
        return;
    }
    op->repeat_checked = false; /* another one may have been first meanwhile */
    resolve_users(core, op, op->num_members, a.go);
}

void op_resolve(struct core *core, struct op *op, void (*go)(struct core *core, struct op *op))
{
    if (op->kind != OP_ROOM_ADD) {
        resolve_users(core, op, op->num_members, go);
        return;
    }
    struct admission *a = malloc(sizeof *a);
    ASSERT(a != NULL);
    *a = (struct admission){.go = go, .then = op->then, .flow = op->flow};
    op->flow = a;
    op->then = admission_answered;
    op->asks = true;
    resolve_users(core, op, 0, op_dispatch);
}
