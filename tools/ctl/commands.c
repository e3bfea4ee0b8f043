#include <string.h>

#include "ctl.h"

static void tenant_create_body(struct buf *out, const struct ctl *c);
static void disabled_body(struct buf *out, const struct ctl *c);
static void active_body(struct buf *out, const struct ctl *c);
static void key_create_body(struct buf *out, const struct ctl *c);
static void room_create_body(struct buf *out, const struct ctl *c);
static void send_body(struct buf *out, const struct ctl *c);
static void messages_query(struct buf *out, const struct ctl *c);

#define TENANT "/v1/admin/tenants/{0}"
#define ROOM "/v1/rooms/{0}"
#define SEND(command_group, command_action) \
    {.group = command_group, .action = command_action, .usage = "ROOM TEXT", .summary = "send a message", \
     .num_arguments = 2, .who = CTL_MEMBER, .method = "POST", .target = ROOM "/messages", .shape = CTL_OBJECT, \
     .body = send_body}

const struct ctl_command ctl_commands[] = {
    {.group = "tenant", .action = "list", .usage = "", .summary = "all tenants", .who = CTL_OPERATOR, .method = "GET",
     .target = "/v1/admin/tenants", .shape = CTL_LIST, .columns = "tenant_id,name,state,durability,created_at"},
    {.group = "tenant", .action = "create", .usage = "NAME", .summary = "make a tenant; its first key is shown once",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "POST", .target = "/v1/admin/tenants", .shape = CTL_OBJECT,
     .body = tenant_create_body},
    {.group = "tenant", .action = "show", .usage = "TENANT", .summary = "one tenant", .num_arguments = 1,
     .who = CTL_OPERATOR, .method = "GET", .target = TENANT, .shape = CTL_OBJECT},
    {.group = "tenant", .action = "disable", .usage = "TENANT", .summary = "refuse its keys and close its sockets",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "PATCH", .target = TENANT, .shape = CTL_OBJECT,
     .body = disabled_body},
    {.group = "tenant", .action = "enable", .usage = "TENANT", .summary = "let it in again", .num_arguments = 1,
     .who = CTL_OPERATOR, .method = "PATCH", .target = TENANT, .shape = CTL_OBJECT, .body = active_body},
    {.group = "tenant", .action = "delete", .usage = "TENANT [--yes]", .summary = "remove a tenant for good",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "DELETE", .target = TENANT, .shape = CTL_NOTHING,
     .done = "tenant {0} is deleted", .destroys = true},

    {.group = "key", .action = "list", .usage = "TENANT", .summary = "its keys, without their secrets",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "GET", .target = TENANT "/keys", .shape = CTL_LIST,
     .columns = "key_id,role,state,created_at"},
    {.group = "key", .action = "create", .usage = "TENANT [--role server|admin|read]",
     .summary = "make a key; it is shown once", .num_arguments = 1, .who = CTL_OPERATOR, .method = "POST",
     .target = TENANT "/keys", .shape = CTL_OBJECT, .body = key_create_body},
    {.group = "key", .action = "revoke", .usage = "TENANT KEY_ID [--yes]",
     .summary = "end a key and the sockets that it opened", .num_arguments = 2, .who = CTL_OPERATOR, .method = "DELETE",
     .target = TENANT "/keys/{1}", .shape = CTL_NOTHING, .done = "key {1} is revoked", .destroys = true},

    {.group = "room", .action = "list", .usage = "", .summary = "the user's rooms", .who = CTL_MEMBER, .method = "GET",
     .target = "/v1/rooms", .shape = CTL_LIST, .columns = "room_id,type,name,last_seq,unread,created_at"},
    {.group = "room", .action = "show", .usage = "ROOM", .summary = "one room", .num_arguments = 1, .who = CTL_MEMBER,
     .method = "GET", .target = ROOM, .shape = CTL_OBJECT},
    {.group = "room", .action = "create", .usage = "NAME [--type group|channel] [--members a,b] [--private]",
     .summary = "make a room; the user is its admin", .num_arguments = 1, .who = CTL_MEMBER, .method = "POST",
     .target = "/v1/rooms", .shape = CTL_OBJECT, .body = room_create_body},
    {.group = "room", .action = "members", .usage = "ROOM", .summary = "who is in it", .num_arguments = 1,
     .who = CTL_MEMBER, .method = "GET", .target = ROOM "/members", .shape = CTL_LIST,
     .columns = "user_id,role,joined_at"},
    {.group = "room", .action = "messages", .usage = "ROOM [--limit N] [--after-seq S | --before-seq S]",
     .summary = "its last messages, or those after or before one", .num_arguments = 1, .who = CTL_MEMBER,
     .method = "GET", .target = ROOM "/messages", .shape = CTL_LIST, .columns = "seq,created_at,sender_id,content",
     .query = messages_query},
    SEND("room", "send"),
    SEND("message", "send"),

    {.group = "stats", .usage = "", .summary = "what the gateway counts", .who = CTL_OPERATOR, .method = "GET",
     .target = "/v1/admin/stats", .shape = CTL_OBJECT},
    {.group = "health", .usage = "", .summary = "whether it works; exit code 1 when not", .who = CTL_ANYONE,
     .method = "GET", .target = "/health", .shape = CTL_OBJECT},
};

const unsigned ctl_num_commands = sizeof ctl_commands / sizeof *ctl_commands;

/* member appends "name":"text" to an object that is being written. */
static void member(struct buf *out, const char *name, const char *text)
{
    if (!text) return;
    buf_printf(out, "%s\"%s\":", out->data[out->len - 1] == '{' ? "" : ",", name);
    buf_json_string(out, slice_str(text));
}

static void tenant_create_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "name", c->arguments[0]);
    BUF_LIT(out, "}");
}

static void disabled_body(struct buf *out, const struct ctl *c) { BUF_LIT(out, "{\"state\":\"disabled\"}"); }

static void active_body(struct buf *out, const struct ctl *c) { BUF_LIT(out, "{\"state\":\"active\"}"); }

static void key_create_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "role", c->role ? c->role : "server");
    BUF_LIT(out, "}");
}

static void room_create_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "type", c->type ? c->type : "group");
    member(out, "name", c->arguments[0]);
    buf_printf(out, ",\"is_private\":%s", c->is_private ? "true" : "false");
    if (c->members) BUF_LIT(out, ",\"members\":[");
    for (const char *at = c->members; at && *at;) {
        size_t len = strcspn(at, ",");
        if (at != c->members) buf_char(out, ',');
        buf_json_string(out, slice_of(at, len));
        at += len + (at[len] == ',');
    }
    if (c->members) BUF_LIT(out, "]");
    BUF_LIT(out, "}");
}

static void send_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "content", c->arguments[1]);
    BUF_LIT(out, "}");
}

/* Asked for nothing else, people want the newest: those before a seq that no room reaches. */
static void messages_query(struct buf *out, const struct ctl *c)
{
    buf_printf(out, "?limit=%s", c->limit ? c->limit : "20");
    if (c->after_seq) buf_printf(out, "&after_seq=%s", c->after_seq);
    else buf_printf(out, "&before_seq=%s", c->before_seq ? c->before_seq : "9007199254740991");
}
