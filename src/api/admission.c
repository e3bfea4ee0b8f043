#include "admission.h"

#include "../base/assert.h"

#define REFUSED_RATE 1u /* why a connection is not let in; net's own reason is CONN_REFUSED_FULL */

/* Answers that wait for members; the others have a part of their own. */
static size_t members_bytes(const struct core *core)
{
    return net_reply_bytes(core->net) - core->anyone.bytes;
}

static size_t anyone_max(const struct core *core)
{
    return core->replies_bytes_max / REPLIES_ANYONE_PART;
}

void admission_update(struct core *core)
{
    const struct gateway *g = core->gateway;
    unsigned guards = core->rates ? GUARD_RATES : 0;
    if (atomic_load_explicit(&g->memory, memory_order_relaxed) != MEMORY_OK) guards |= GUARD_MEMORY;
    if (members_bytes(core) > core->replies_bytes_max / 2) guards |= GUARD_REPLIES;
    core->guards = (uint8_t)guards;
}

/* --- rates ------------------------------------------------------------------------------------------------------- */

static bool address_trusted(const struct gateway *g, const uint8_t address[16])
{
    for (unsigned i = 0; i < g->num_trusted; i++)
        if (config_network_has(&g->trusted[i], address)) return true;
    return false;
}

/* address_takes is true when there is no such limit, or it does not hold for this connection. */
static bool address_takes(struct core *core, const struct conn *c, struct rate_state *state)
{
    const struct gateway *g = core->gateway;
    uint8_t address[16];
    if (!g->ip_requests || conn_is_admin(c) || conn_exempt(c) || !conn_peer_bytes(c, address)) return true;
    return rate_table_take(state, g->ip_requests, address, (uint32_t)g->config->limits_ip_rate, core->now_ns);
}

static bool tenant_takes(struct core *core, const struct tenant *t, struct rate_state *state)
{
    return t->rate == 0 || rate_take(state, &t->requests->full_at_ns, t->rate, core->now_ns);
}

/* note_rate remembers the limit that is nearest, for the answer's fields. */
static void note_rate(struct core *core, struct conn *c, const struct rate_state *state)
{
    struct conn_note *note = conn_note(c);
    if (state->limit == 0 || (note->limit && note->remaining <= state->remaining)) return;
    uint64_t full_ms = core->now_ms + state->full_in_ns / 1000000;
    note->limit = state->limit;
    note->remaining = state->remaining;
    note->reset_s = (uint32_t)((full_ms + 999) / 1000);
}

void admission_headers(struct buf *out, struct conn *c)
{
    const struct conn_note *note = conn_note(c);
    if (note->limit == 0) return;
    buf_printf(out, "X-RateLimit-Limit: %u\r\nX-RateLimit-Remaining: %u\r\nX-RateLimit-Reset: %u\r\n", note->limit,
               note->remaining, note->reset_s);
}

/* --- connections ------------------------------------------------------------------------------------------------- */

uint8_t admission_on_open(void *context, struct conn *c)
{
    struct core *core = context;
    const struct gateway *g = core->gateway;
    uint8_t address[16];
    struct rate_state state;
    conn_charge(c, &core->anyone); /* until it shows who it is */
    if (!g->trusted || !conn_peer_bytes(c, address)) return 0; /* no address has a limit */
    if (address_trusted(g, address)) {
        conn_set_exempt(c);
        return 0;
    }
    uint32_t limit = (uint32_t)g->config->limits_ip_handshakes;
    return limit && !rate_table_take(&state, g->ip_handshakes, address, limit, core->now_ns) ? REFUSED_RATE : 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static bool too_fast(struct call *call, const char *detail, const struct rate_state *state)
{
    struct error e = {ERR_RATE_LIMITED, detail, NULL};
    struct buf headers = {0};
    note_rate(call->core, call->conn, state);
    buf_printf(&headers, "Retry-After: %llu\r\n", (unsigned long long)((state->wait_ns + 999999999u) / 1000000000u));
    rest_problem(call->core, call->conn, call->route, call->core->now_ns, call->request_id, &e, buf_slice(&headers));
    buf_free(&headers);
    return false;
}

/* connection_admitted tells a connection that was not let in why, by the answer to its first request. Whoever watches
 * the server's health gets it: a full server is not a broken one. */
static bool connection_admitted(struct call *call)
{
    uint32_t limit = (uint32_t)call->core->gateway->config->limits_ip_handshakes;
    const struct rate_state state = {.limit = limit, .wait_ns = 1000000000u, .full_in_ns = 1000000000u};
    bool watches = call->route == ROUTE_HEALTH || call->route == ROUTE_READY || call->route == ROUTE_METRICS;
    uint8_t refusal = conn_refusal(call->conn);
    if (refusal == REFUSED_RATE) return too_fast(call, "Too many new connections from this address", &state);
    return refusal != CONN_REFUSED_FULL || watches || call_fail(call, ERR_SERVER_FULL, NULL, NULL);
}

bool admission_request(struct call *call)
{
    struct rate_state state = {0};
    if (!connection_admitted(call)) return false;
    if (!(call->core->guards & GUARD_RATES)) return true;
    if (!address_takes(call->core, call->conn, &state))
        return too_fast(call, "Too many requests from this address", &state);
    note_rate(call->core, call->conn, &state);
    return true;
}

bool anyone_full(const struct core *core, const struct conn *c)
{
    return conn_charged(c) == &core->anyone && core->anyone.bytes > anyone_max(core);
}

bool admission_anyone(struct call *call)
{
    bool short_answer = call->route == ROUTE_HEALTH || call->route == ROUTE_READY || call->route == ROUTE_WS;
    if (LIKELY(!anyone_full(call->core, call->conn)) || short_answer) return true;
    return call_fail(call, ERR_SERVER_OVERLOADED, "Too many answers wait for clients that do not read them", NULL);
}

bool answers_fit(const struct core *core, const struct tenant *t)
{
    size_t all = members_bytes(core), max = core->replies_bytes_max - anyone_max(core),
           free_bytes = max > all ? max - all : 0;
    return t->answers.bytes < free_bytes;
}

bool answer_taken(const struct core *core, struct op *op)
{
    const struct tenant *t = directory_tenant(&core->directory, op->tenant);
    if (LIKELY(op->out.len <= ASSEMBLY_SMALL_BYTES) || !t || answers_fit(core, t)) return true;
    buf_free(&op->out);
    return op_fail(op, ERR_SERVER_OVERLOADED, "Too many answers wait for clients that do not read them", NULL);
}

static bool is_heavy(const struct call *call)
{
    enum http_method method = call->request->method;
    return method == HTTP_GET || method == HTTP_HEAD || call->route == ROUTE_SYNC_POST;
}

bool admission_caller(struct call *call)
{
    struct core *core = call->core;
    struct rate_state state = {0};
    if (!call->key) return true; /* the operator, and routes for anybody: health must be seen when memory is short */
    if (core->guards & GUARD_RATES) {
        if (!tenant_takes(core, call->key->tenant, &state))
            return too_fast(call, "Too many requests of this tenant", &state);
        note_rate(core, call->conn, &state);
    }
    if (core->guards & GUARD_MEMORY)
        return call_fail(call, ERR_SERVER_OVERLOADED, "The server is short of memory", NULL);
    if (core->guards & GUARD_REPLIES && is_heavy(call) && !answers_fit(core, call->key->tenant))
        return call_fail(call, ERR_SERVER_OVERLOADED, "Too many answers wait for clients that do not read them", NULL);
    return true;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

bool admission_rate(struct core *core, struct session *s, struct error *e, uint32_t *wait_ms)
{
    struct rate_state state = {0};
    const char *why = NULL;
    *wait_ms = 0;
    if (!(core->guards & GUARD_RATES)) return true;
    if (!address_takes(core, s->conn, &state)) why = "Too many requests from this address";
    else if (!tenant_takes(core, s->key->tenant, &state)) why = "Too many requests of this tenant";
    if (!why) return true;
    *e = (struct error){ERR_RATE_LIMITED, why, NULL};
    *wait_ms = (uint32_t)((state.wait_ns + 999999) / 1000000);
    return false;
}

bool admission_message(struct core *core, struct session *s, enum op_weight weight, struct error *e, uint32_t *wait_ms)
{
    const char *why = NULL;
    if (!admission_rate(core, s, e, wait_ms)) return false;
    if (weight == OP_LIGHT) return true;
    if (core->guards & GUARD_MEMORY) why = "The server is short of memory";
    else if (core->guards & GUARD_REPLIES && weight == OP_HEAVY && !answers_fit(core, s->key->tenant))
        why = "Too many answers wait for clients that do not read them";
    if (why) *e = (struct error){ERR_SERVER_OVERLOADED, why, NULL};
    return why == NULL;
}
