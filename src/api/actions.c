#include "actions.h"

#include <stdio.h>

#include "../base/log.h"
#include "../chat/ids.h"
#include "access.h"

#define MEMBERS_SHOWN_MAX 20u /* of the users that an act names; "num_users" counts all of them */

struct action {
    const char *event;
    enum config_log_actions from; /* the setting's value from which on it is logged */
};

static const struct action actions[ROUTES] = {
    [ROUTE_ROOM_CREATE] = {"room_create", CONFIG_ACTIONS_CHANGES},
    [ROUTE_ROOM_JOIN] = {"room_join", CONFIG_ACTIONS_CHANGES},
    [ROUTE_ROOM_LEAVE] = {"room_leave", CONFIG_ACTIONS_CHANGES},
    [ROUTE_MEMBER_ADD] = {"member_add", CONFIG_ACTIONS_CHANGES},
    [ROUTE_MEMBER_ROLE] = {"member_role", CONFIG_ACTIONS_CHANGES},
    [ROUTE_MEMBER_REMOVE] = {"member_remove", CONFIG_ACTIONS_CHANGES},
    [ROUTE_MESSAGE_POST] = {"message_send", CONFIG_ACTIONS_ALL},
    [ROUTE_TENANT_CREATE] = {"tenant_create", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_TENANT_UPDATE] = {"tenant_update", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_TENANT_DELETE] = {"tenant_delete", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_KEY_CREATE] = {"key_create", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_KEY_REVOKE] = {"key_revoke", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_BACKUP_CREATE] = {"backup_create", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_DEAD_LETTER_RETRY] = {"dead_letter_retry", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_DEAD_LETTER_DELETE] = {"dead_letter_delete", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_KICK] = {"kick", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_DRAIN] = {"drain", CONFIG_ACTIONS_OPERATOR},
    [ROUTE_RELOAD] = {"reload", CONFIG_ACTIONS_OPERATOR},
};

static bool is_operators(uint16_t route) { return routes[route].who == WHO_OPERATOR; }

/* action_of names what a route does; NULL for one that changes nothing, or that the setting leaves out. */
static const char *action_of(const struct core *core, uint16_t route)
{
    if (route >= ROUTES) return NULL;
    const struct action *a = &actions[route];
    if (!a->event) return is_operators(route) && routes[route].method != HTTP_GET ? "operator_act" : NULL;
    return a->from <= (enum config_log_actions)CONFIG_NOW(core->gateway->config, log_actions) ? a->event : NULL;
}

/* operator_refused: somebody tried the operator's door. As many as one likes may, so this one is limited. */
static void operator_refused(struct conn *conn, uint16_t route, enum error_code code)
{
    char peer[46], pattern[ROUTE_TEXT_MAX];
    conn_peer(conn, peer);
    LOG(LOG_WARN, "action", "operator_refused", LOG_STR("method", http_method_name(routes[route].method)),
        LOG_STR("route", access_route(route, pattern)), LOG_STR("code", error_rows[code].code), LOG_STR("peer", peer));
}

/* members_shown lists the users that an op names, but for the caller in front of a new room's. An operator is no user:
 * there the op's own is the one that it is about. */
static uint32_t members_shown(struct buf *out, const struct op *op, bool by_operator)
{
    uint32_t num = 0;
    if (by_operator && op->user_id.len) {
        buf_slice_append(out, op->user_id);
        return 1;
    }
    for (uint32_t i = 0; i < op->num_members; i++) {
        struct slice id = op->members[i].user_id;
        if (slice_eq(id, op->user_id)) continue;
        if (num++ >= MEMBERS_SHOWN_MAX) continue;
        if (out->len) BUF_LIT(out, ",");
        buf_slice_append(out, id);
    }
    return num;
}

struct shown {
    char tenant[ID_TEXT_LEN], room[ID_TEXT_LEN], request_id[17], peer[46], pattern[ROUTE_TEXT_MAX];
    struct slice tenant_text, room_text;
};

static void show(struct shown *s, struct conn *conn, uint64_t request_id, const struct op *op)
{
    *s = (struct shown){.peer = ""};
    snprintf(s->request_id, sizeof s->request_id, "%016llx", (unsigned long long)request_id);
    if (conn) conn_peer(conn, s->peer);
    if (op && op->tenant)
        s->tenant_text = slice_of(s->tenant, (size_t)(tenant_id_text(s->tenant, op->tenant) - s->tenant));
    if (op && op->room) s->room_text = slice_of(s->room, (size_t)(room_id_text(s->room, op->room) - s->room));
}

/* told: a log line leaves out a field that has no text at all, but not one that has an empty one. */
static struct slice told(struct slice text) { return text.len ? text : (struct slice){0}; }

/* kicked: whom it was about is `users`, as in the other acts; `closed` counts the connections. */
static void kicked(struct shown *s, uint16_t route, unsigned status, enum error_code code, const struct op *op)
{
    LOG_ALWAYS(LOG_INFO, "action", "kick", LOG_STR("by", "operator"), LOG_SLICE("tenant", s->tenant_text),
               LOG_SLICE("users", told(op->user_id)), LOG_SLICE("connection", told(op->in.connections.id)),
               LOG_SLICE("reason", op->in.connections.reason), LOG_U64("closed", op->in.connections.closed),
               LOG_STR("route", access_route(route, s->pattern)), LOG_U64("status", status),
               LOG_STR("outcome", code == ERR_NONE ? "ok" : error_rows[code].code),
               LOG_STR("request_id", s->request_id), LOG_STR("peer", s->peer));
}

void action_answered(struct core *core, struct conn *conn, uint16_t route, uint64_t request_id, unsigned status,
                     enum error_code code, const struct op *op)
{
    if (code == ERR_AUTH_OPERATOR_MISSING || code == ERR_AUTH_INVALID_MASTER_KEY) {
        if (route < ROUTES) operator_refused(conn, route, code);
        return;
    }
    const char *event = action_of(core, route);
    if (LIKELY(!event)) return;
    struct shown s;
    struct buf members = {0};
    show(&s, conn, request_id, op);
    if (op && op->kind == OP_CONNECTION_KICK) {
        kicked(&s, route, status, code, op);
        return;
    }
    bool by_operator = is_operators(route), is_key = route == ROUTE_KEY_CREATE || route == ROUTE_KEY_REVOKE;
    uint32_t num_members = op ? members_shown(&members, op, by_operator) : 0;
    struct slice none = {0}, key = op && is_key ? op->in.directory.prefix : none;
    struct slice change = op && op->kind == OP_TENANT_UPDATE ? op->in.directory.change : none;
    LOG_ALWAYS(LOG_INFO, "action", event, LOG_STR("by", by_operator ? "operator" : "user"),
               LOG_SLICE("user", op && !by_operator ? told(op->user_id) : none), LOG_SLICE("tenant", s.tenant_text),
               LOG_SLICE("room", s.room_text), LOG_SLICE("key", key), LOG_SLICE("change", told(change)),
               LOG_SLICE("users", told(buf_slice(&members))),
               LOG_STR("route", access_route(route, s.pattern)), LOG_U64("status", status),
               LOG_STR("outcome", code == ERR_NONE ? "ok" : error_rows[code].code), LOG_STR("request_id", s.request_id),
               LOG_STR("peer", s.peer), num_members ? LOG_U64("num_users", num_members) : LOG_END);
    buf_free(&members);
}

void action_sent(struct core *core, const struct op *op)
{
    if (LIKELY(CONFIG_NOW(core->gateway->config, log_actions) < CONFIG_ACTIONS_ALL)) return;
    struct shown s;
    show(&s, net_conn(core->net, op->conn), op->request_id, op);
    LOG_ALWAYS(LOG_INFO, "action", "message_send", LOG_STR("by", "socket"), LOG_SLICE("user", op->user_id),
               LOG_SLICE("tenant", s.tenant_text), LOG_SLICE("room", s.room_text), LOG_U64("seq", op->seq),
               LOG_STR("outcome", op_failed(op) ? error_rows[op->error.code].code : "ok"),
               LOG_STR("request_id", s.request_id), LOG_STR("peer", s.peer));
}
