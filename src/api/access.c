#include "access.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/log.h"
#include "../chat/ids.h"
#include "../chat/session.h"

#define PATH_SHOWN_MAX 512u /* bytes of a path that a line shows */

#define RECORDS_OF_A_SLOT_MAX 8u /* beyond, the oldest caller who has gone is forgotten */

struct access_record {
    struct access_record *next; /* of a connection that had the slot before, and has gone without its answer */
    uint32_t generation;
    uint32_t tenant; /* 0: not known */
    uint64_t request_id, started_ns;
    uint8_t method;
    uint8_t user_len;
    uint16_t path_len;
    char peer[46];
    char user[USER_ID_BYTES_MAX];
    char path[PATH_SHOWN_MAX];
};

/* access: records by the slot of their connection. */
struct access {
    uint32_t num_slots;
    struct access_record **slots;
};

static enum config_log_access wanted(const struct core *core)
{
    return (enum config_log_access)CONFIG_NOW(core->gateway->config, log_access);
}

static struct access_record **slot_of(struct core *core, uint32_t slot)
{
    struct access *a = core->access;
    if (!a) {
        a = core->access = calloc(1, sizeof *a);
        ASSERT(a != NULL);
    }
    if (slot >= a->num_slots) {
        uint32_t num = slot * 2 + 64;
        a->slots = realloc(a->slots, num * sizeof *a->slots);
        ASSERT(a->slots != NULL);
        memset(a->slots + a->num_slots, 0, (num - a->num_slots) * sizeof *a->slots);
        a->num_slots = num;
    }
    return &a->slots[slot];
}

static struct access_record *record_find(const struct core *core, struct conn_ref conn)
{
    const struct access *a = core->access;
    if (!a || conn.slot >= a->num_slots) return NULL;
    struct access_record *r = a->slots[conn.slot];
    while (r && r->generation != conn.generation) r = r->next;
    return r;
}

static void record_remove(struct access_record **first, struct access_record *r)
{
    while (*first != r) first = &(*first)->next;
    *first = r->next;
}

/* record_new puts one in front of those of the slot's earlier connections. */
static struct access_record *record_new(struct access_record **first)
{
    struct access_record *r = malloc(sizeof *r), *last = r;
    ASSERT(r != NULL);
    r->next = *first;
    *first = r;
    for (unsigned i = 1; i < RECORDS_OF_A_SLOT_MAX && last; i++) last = last->next;
    if (last && last->next) {
        free(last->next);
        last->next = NULL;
    }
    return r;
}

void access_begin(struct call *call)
{
    if (LIKELY(wanted(call->core) == CONFIG_ACCESS_OFF)) return;
    struct conn_ref conn = net_ref(call->conn);
    struct access_record **slot = slot_of(call->core, conn.slot), *r = record_find(call->core, conn);
    if (!r) r = record_new(slot);
    struct slice path = call->request->path;
    r->generation = conn.generation;
    r->tenant = 0;
    r->request_id = call->request_id;
    r->started_ns = call->core->now_ns;
    r->method = (uint8_t)call->request->method;
    r->user_len = 0;
    r->path_len = (uint16_t)(path.len < PATH_SHOWN_MAX ? path.len : PATH_SHOWN_MAX);
    memcpy(r->path, path.data, r->path_len);
    conn_peer(call->conn, r->peer);
}

void access_caller(const struct call *call)
{
    struct access_record *r = call->core->access ? record_find(call->core, net_ref(call->conn)) : NULL;
    if (!r) return;
    if (call->key) r->tenant = call->key->tenant->number;
    r->user_len = (uint8_t)call->user_id.len;
    if (r->user_len) memcpy(r->user, call->user_id.data, r->user_len);
}

/* A text that is not there is a slice without data, which the log leaves out. */
static struct slice shown(const char *text, size_t len) { return len ? slice_of(text, len) : (struct slice){0}; }

static struct slice tenant_shown(char out[ID_TEXT_LEN], uint32_t tenant)
{
    return tenant ? slice_of(out, (size_t)(tenant_id_text(out, tenant) - out)) : (struct slice){0};
}

void access_end(struct core *core, struct conn_ref conn, uint16_t route, unsigned status, enum error_code code,
                size_t bytes)
{
    if (LIKELY(!core->access)) return;
    struct access_record *r = record_find(core, conn);
    if (!r) return;
    record_remove(&core->access->slots[conn.slot], r);
    enum config_log_access level = wanted(core);
    if (level == CONFIG_ACCESS_ALL || (level == CONFIG_ACCESS_ERRORS && status >= 400)) {
        char pattern[ROUTE_TEXT_MAX], request_id[17], tenant[ID_TEXT_LEN];
        snprintf(request_id, sizeof request_id, "%016llx", (unsigned long long)r->request_id);
        uint64_t took_us = (clock_mono_ns(core->gateway->clock) - r->started_ns) / 1000;
        LOG_ALWAYS(status >= 500 && status != 507 ? LOG_WARN : LOG_INFO, "access",
                   status == 101 ? "websocket_open" : "request",
                   LOG_STR("method", http_method_name((enum http_method)r->method)),
                   LOG_STR("route", access_route(route, pattern)), LOG_SLICE("path", slice_of(r->path, r->path_len)),
                   LOG_U64("status", status),
                   LOG_SLICE("code", code == ERR_NONE ? SLICE_NONE : slice_str(error_rows[code].code)),
                   LOG_U64("bytes", bytes), LOG_U64("duration_us", took_us),
                   LOG_SLICE("tenant", tenant_shown(tenant, r->tenant)), LOG_SLICE("user", shown(r->user, r->user_len)),
                   LOG_STR("request_id", request_id), LOG_STR("peer", r->peer));
    }
    free(r);
}

void access_refused(struct core *core, struct conn *conn, unsigned status, const char *code)
{
    if (wanted(core) == CONFIG_ACCESS_OFF) return;
    char peer[46];
    conn_peer(conn, peer);
    LOG_ALWAYS(LOG_INFO, "access", "refused", LOG_U64("status", status), LOG_STR("code", code), LOG_STR("peer", peer));
}

/* An end that nobody need look at: a clean close, or a server that stops. */
static bool close_is_ordinary(uint16_t code)
{
    return code == 1000 || code == 1001 || code == 1005;
}

void access_websocket_closed(struct core *core, const struct conn *conn, const struct session *s)
{
    enum config_log_access level = wanted(core);
    struct conn_end end;
    if (LIKELY(level == CONFIG_ACCESS_OFF)) return;
    conn_ended(conn, &end);
    if (level == CONFIG_ACCESS_ERRORS && close_is_ordinary(end.close_code)) return;
    char peer[46], tenant[ID_TEXT_LEN];
    conn_peer(conn, peer);
    LOG_ALWAYS(LOG_INFO, "access", "websocket_close", LOG_U64("code", end.close_code),
               LOG_STR("reason", conn_cause_name(end.cause)), LOG_U64("duration_ms", conn_open_ms(core->net, conn)),
               LOG_U64("messages_in", end.messages_in), LOG_U64("frames_out", end.frames_out),
               LOG_U64("subscriptions", s->num_subs), LOG_SLICE("tenant", tenant_shown(tenant, s->user->tenant)),
               LOG_SLICE("user", known_user_id(s->user)), LOG_SLICE("device", shown(s->device, s->device_len)),
               LOG_STR("peer", peer));
}

void access_free(struct core *core)
{
    struct access *a = core->access;
    if (!a) return;
    for (uint32_t i = 0; i < a->num_slots; i++)
        for (struct access_record *r; (r = a->slots[i]);) {
            a->slots[i] = r->next;
            free(r);
        }
    free(a->slots);
    free(a);
    core->access = NULL;
}

const char *access_route(unsigned route, char out[ROUTE_TEXT_MAX])
{
    const char *from = route < ROUTES ? routes[route].pattern : "none";
    size_t len = 0;
    for (; *from; from++) {
        ASSERT(len < ROUTE_TEXT_MAX - 1);
        if (*from != '}') out[len++] = *from == '{' ? ':' : *from;
    }
    out[len] = 0;
    return out;
}
