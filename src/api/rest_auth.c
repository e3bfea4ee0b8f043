/* rest_auth: tickets, with which a browser opens its WebSocket. */
#include "../auth/ticket.h"
#include "../chat/ids.h"
#include "api.h"

void rest_ticket_create(struct call *call)
{
    struct core *core = call->core;
    struct ticket t = {.key_id = slice_of(call->key->prefix, call->key->prefix_len),
                       .user_id = call->user_id,
                       .expires_ns = core->now_ns + TICKET_LIFE_MS * 1000000ull};
    char text[TICKET_TEXT_MAX], time[TIME_TEXT_LEN];
    random_fill(core->gateway->random, t.nonce, sizeof t.nonce);
    size_t len = ticket_write(text, core->gateway->ticket_secret, &t);
    time_text(time, core->now_ms + TICKET_LIFE_MS);
    struct buf body = {0};
    buf_printf(&body, "{\"ticket\":\"%.*s\",\"expires_at\":\"%.*s\"}", (int)len, text, (int)TIME_TEXT_LEN, time);
    rest_reply(core, call->conn, call->route, core->now_ns, 201, "application/json",
               SLICE("Cache-Control: no-store\r\n"), buf_slice(&body));
    buf_free(&body);
}
