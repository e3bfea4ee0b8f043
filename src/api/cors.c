#include "cors.h"

#include "../base/assert.h"

#define ANY "*"

/* listed finds an origin's place in cors.origins, counted from 1; 0: it is not there. An exact one goes before "*". */
static uint16_t listed(const struct config *config, struct slice origin)
{
    struct slice rest = slice_str(config->cors_origins), item;
    uint16_t at = 0, any = 0;
    while (config_list_next(&rest, &item)) {
        at++;
        if (slice_eq(item, origin)) return at;
        if (slice_is(item, ANY)) any = at;
    }
    return any;
}

static struct slice item_at(const struct config *config, uint16_t place)
{
    struct slice rest = slice_str(config->cors_origins), item = {0};
    while (place-- && config_list_next(&rest, &item)) {}
    ASSERT(item.len != 0);
    return item;
}

void cors_note(struct call *call)
{
    struct slice origin = http_header_find(call->request, "Origin");
    conn_note(call->conn)->origin = origin.data ? listed(call->core->gateway->config, origin) : 0;
}

void cors_headers(struct buf *out, struct core *core, struct conn *conn)
{
    /* also for those who are not listed: a cache must not give them another's answer */
    BUF_LIT(out, "Vary: Origin\r\n");
    uint16_t place = conn_note(conn)->origin;
    if (!place) return;
    buf_printf(out, "Access-Control-Allow-Origin: %.*s\r\n", SLICE_FMT(item_at(core->gateway->config, place)));
    BUF_LIT(out, "Access-Control-Expose-Headers: Retry-After, X-Total-Count, X-Total-Rooms, X-RateLimit-Limit, "
                 "X-RateLimit-Remaining, X-RateLimit-Reset\r\n");
}

void cors_preflight(struct buf *out, struct conn *conn, unsigned methods)
{
    if (!conn_note(conn)->origin) return;
    BUF_LIT(out, "Access-Control-Allow-Methods: OPTIONS");
    for (unsigned m = 0; m < HTTP_METHODS; m++)
        if (methods & 1u << m) buf_printf(out, ", %s", http_method_name((enum http_method)m));
    /* not X-Master-Key: the operator's key has no business in a page */
    BUF_LIT(out,
            "\r\nAccess-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Device-Id, "
            "X-User-Id\r\nAccess-Control-Max-Age: 600\r\n");
}

bool cors_socket_allowed(const struct call *call)
{
    struct slice origin = http_header_find(call->request, "Origin"), authority = {0};
    if (!origin.data) return true;
    if (slice_starts(origin, SLICE("http://"))) authority = slice_from(origin, 7);
    if (slice_starts(origin, SLICE("https://"))) authority = slice_from(origin, 8);
    if (authority.len && slice_eq_nocase(authority, call->request->host)) return true;
    return listed(call->core->gateway->config, origin) != 0;
}
