#include <string.h>

#include "ctl.h"

static void tenant_create_body(struct buf *out, const struct ctl *c);
static void disabled_body(struct buf *out, const struct ctl *c);
static void active_body(struct buf *out, const struct ctl *c);
static void key_create_body(struct buf *out, const struct ctl *c);
static void room_create_body(struct buf *out, const struct ctl *c);
static void send_body(struct buf *out, const struct ctl *c);
static void messages_query(struct buf *out, const struct ctl *c);
static void who_query(struct buf *out, const struct ctl *c);
static void first_argument_query(struct buf *out, const struct ctl *c);
static void kick_body(struct buf *out, const struct ctl *c);
static void empty_body(struct buf *out, const struct ctl *c);

#define TENANT "/v1/admin/tenants/{0}"
#define ROOM "/v1/rooms/{0}"
#define SEND(command_group, command_action, what) \
    {.group = command_group, .action = command_action, .usage = "ROOM TEXT", .summary = what, \
     .details = "example:\n" \
                "  carillonctl --key ck_… --as alice " command_group " " command_action \
                " r_3k9m2q0v7hx4c \"hello, all\"\n", \
     .num_arguments = 2, .who = CTL_MEMBER, .method = "POST", .target = ROOM "/messages", .shape = CTL_OBJECT, \
     .body = send_body}

const struct ctl_command ctl_commands[] = {
    {.group = "status", .usage = "", .summary = "how the gateway is, and what to do about it",
     .details = "Figures count from the start of the process; top shows them by the second. Warnings say what to do\n"
                "next.\n"
                "\n"
                "examples:\n"
                "  carillonctl status\n"
                "  carillonctl --json status | jq -r '.warnings[]'\n",
     .who = CTL_OPERATOR, .run = status_run, .method = "GET", .target = "/v1/admin/status"},
    {.group = "top", .usage = "", .summary = "the same, live: rates by the second, until q or Ctrl-C",
     .details = "Without a terminal the figures are printed one below the other, a block each second.\n"
                "\n"
                "examples:\n"
                "  carillonctl top\n"
                "  carillonctl top --once\n"
                "  carillonctl --json top | jq --unbuffered .commit.pending\n",
     .options = CTL_TAKES(ONCE), .who = CTL_OPERATOR, .run = top_run, .method = "GET", .target = "/v1/admin/status"},
    {.group = "health", .usage = "", .summary = "whether it works; exit code 1 when not",
     .details = "example:\n"
                "  carillonctl --url http://127.0.0.1:8080 health > /dev/null || echo down\n",
     .who = CTL_ANYONE, .method = "GET", .target = "/health", .shape = CTL_OBJECT},
    {.group = "stats", .usage = "", .summary = "what the gateway counts",
     .details = "example:\n"
                "  carillonctl --json stats | jq .messages\n",
     .who = CTL_OPERATOR, .method = "GET", .target = "/v1/admin/stats", .shape = CTL_OBJECT},
    {.group = "connections", .usage = "", .summary = "who is connected",
     .details = "--limit shows the first so many; without it all are listed.\n"
                "\n"
                "examples:\n"
                "  carillonctl connections --limit 20\n"
                "  carillonctl connections --tenant t_9wdvsq7gqt1dc --user bob\n",
     .options = CTL_TAKES(TENANT) | CTL_TAKES(USER) | CTL_TAKES(LIMIT), .who = CTL_OPERATOR, .method = "GET",
     .target = "/v1/admin/connections", .shape = CTL_LIST,
     .columns = "connection_id,kind,tenant_id,user_id,device,peer,opened_at,idle_ms,rooms,queued_bytes,replaying",
     .query = who_query},
    {.group = "kick", .usage = "[CONNECTION]", .summary = "close a connection, or those of a user or a tenant",
     .details = "WebSockets are closed with code 4003, which tells clients not to come back by themselves; nothing\n"
                "else keeps them from it: revoke the key, or disable the tenant, to keep them out.\n"
                "\n"
                "examples:\n"
                "  carillonctl kick c_185443455bde0b06\n"
                "  carillonctl kick --tenant t_9wdvsq7gqt1dc --user bob --reason \"please log in again\"\n",
     .num_optional = 1, .options = CTL_TAKES(TENANT) | CTL_TAKES(USER) | CTL_TAKES(REASON), .who = CTL_OPERATOR,
     .method = "POST", .target = "/v1/admin/kick", .shape = CTL_OBJECT, .body = kick_body},
    {.group = "drain", .usage = "", .summary = "stop the gateway gracefully: clients are told, answered and closed",
     .details = "The same as SIGTERM: it ends when everybody has left, or after drain.timeout_s.\n"
                "\n"
                "example:\n"
                "  carillonctl drain --wait --yes\n",
     .options = CTL_TAKES(WAIT) | CTL_TAKES(YES), .who = CTL_OPERATOR, .run = drain_run, .method = "POST",
     .target = "/v1/admin/drain", .shape = CTL_OBJECT, .destroys = true, .body = empty_body},
    {.group = "reload", .usage = "", .summary = "read the settings again; says what needs a restart",
     .details = "The same as SIGHUP. Ends with 1 when a setting is wrong: then nothing was taken over.\n"
                "\n"
                "example:\n"
                "  carillonctl reload\n",
     .who = CTL_OPERATOR, .run = reload_run, .method = "POST", .target = "/v1/admin/reload", .shape = CTL_OBJECT,
     .body = empty_body},

    {.group = "tenant", .action = "list", .usage = "", .summary = "all tenants",
     .details = "example:\n"
                "  carillonctl --json tenant list | jq -r '.items[].tenant_id'\n",
     .who = CTL_OPERATOR, .method = "GET", .target = "/v1/admin/tenants", .shape = CTL_LIST,
     .columns = "tenant_id,name,state,durability,created_at"},
    {.group = "tenant", .action = "create", .usage = "NAME", .summary = "make a tenant; its first key is shown once",
     .details = "example:\n"
                "  carillonctl tenant create \"Example Ltd\"\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "POST", .target = "/v1/admin/tenants", .shape = CTL_OBJECT,
     .body = tenant_create_body},
    {.group = "tenant", .action = "show", .usage = "TENANT", .summary = "one tenant",
     .details = "example:\n"
                "  carillonctl tenant show t_9wdvsq7gqt1dc\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "GET", .target = TENANT, .shape = CTL_OBJECT},
    {.group = "tenant", .action = "disable", .usage = "TENANT", .summary = "refuse its keys and close its sockets",
     .details = "example:\n"
                "  carillonctl tenant disable t_9wdvsq7gqt1dc\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "PATCH", .target = TENANT, .shape = CTL_OBJECT,
     .body = disabled_body},
    {.group = "tenant", .action = "enable", .usage = "TENANT", .summary = "let it in again",
     .details = "example:\n"
                "  carillonctl tenant enable t_9wdvsq7gqt1dc\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "PATCH", .target = TENANT, .shape = CTL_OBJECT,
     .body = active_body},
    {.group = "tenant", .action = "delete", .usage = "TENANT", .summary = "remove a tenant for good",
     .details = "example:\n"
                "  carillonctl tenant delete t_9wdvsq7gqt1dc --yes\n",
     .num_arguments = 1, .options = CTL_TAKES(YES), .who = CTL_OPERATOR, .method = "DELETE", .target = TENANT,
     .shape = CTL_NOTHING, .done = "tenant {0} is deleted", .destroys = true},

    {.group = "key", .action = "list", .usage = "TENANT", .summary = "its keys, without their secrets",
     .details = "Keys that are revoked are left out of the table, and are in the JSON.\n"
                "\n"
                "examples:\n"
                "  carillonctl key list t_9wdvsq7gqt1dc\n"
                "  carillonctl key list t_9wdvsq7gqt1dc --all\n",
     .num_arguments = 1, .options = CTL_TAKES(ALL), .without_state = "revoked", .who = CTL_OPERATOR, .method = "GET",
     .target = TENANT "/keys", .shape = CTL_LIST,
     .columns = "key_id,role,state,created_at"},
    {.group = "key", .action = "create", .usage = "TENANT", .summary = "make a key; it is shown once",
     .details = "example:\n"
                "  carillonctl key create t_9wdvsq7gqt1dc --role read\n",
     .num_arguments = 1, .options = CTL_TAKES(ROLE), .who = CTL_OPERATOR, .method = "POST", .target = TENANT "/keys",
     .shape = CTL_OBJECT, .body = key_create_body},
    {.group = "key", .action = "revoke", .usage = "TENANT KEY_ID",
     .summary = "end a key and the sockets that it opened",
     .details = "example:\n"
                "  carillonctl key revoke t_9wdvsq7gqt1dc 3f9a0c1d2e4b --yes\n",
     .num_arguments = 2, .options = CTL_TAKES(YES), .who = CTL_OPERATOR, .method = "DELETE",
     .target = TENANT "/keys/{1}", .shape = CTL_NOTHING, .done = "key {1} is revoked", .destroys = true},

    {.group = "user", .action = "list", .usage = "TENANT", .summary = "the users of a tenant",
     .details = "example:\n"
                "  carillonctl user list t_9wdvsq7gqt1dc\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "GET", .target = "/v1/admin/users", .shape = CTL_LIST,
     .columns = "user_id,display_name,created_at", .query = first_argument_query},
    {.group = "user", .action = "show", .usage = "TENANT USER", .summary = "one user, with rooms and connections",
     .details = "What the rooms are called is told to their members: `carillonctl room list --as bob --tenant …`.\n"
                "\n"
                "example:\n"
                "  carillonctl user show t_9wdvsq7gqt1dc bob\n",
     .num_arguments = 2, .who = CTL_OPERATOR, .run = user_show_run, .method = "GET", .target = "/v1/admin/users/{1}",
     .shape = CTL_OBJECT, .part = "rooms", .query = first_argument_query},

    {.group = "room", .action = "list", .usage = "", .summary = "the user's rooms",
     .details = "examples:\n"
                "  carillonctl --key ck_… --as alice room list\n"
                "  carillonctl room list --as alice --tenant t_9wdvsq7gqt1dc\n",
     .who = CTL_MEMBER, .method = "GET", .target = "/v1/rooms", .shape = CTL_LIST,
     .columns = "room_id,type,name,last_seq,unread,created_at"},
    {.group = "room", .action = "show", .usage = "ROOM", .summary = "one room",
     .details = "example:\n"
                "  carillonctl --key ck_… --as alice room show r_3k9m2q0v7hx4c\n",
     .num_arguments = 1, .who = CTL_MEMBER, .method = "GET", .target = ROOM, .shape = CTL_OBJECT},
    {.group = "room", .action = "create", .usage = "NAME", .summary = "make a room; the user is its admin",
     .details = "example:\n"
                "  carillonctl --key ck_… --as alice room create lobby --members bob,carol\n",
     .num_arguments = 1, .options = CTL_TAKES(TYPE) | CTL_TAKES(MEMBERS) | CTL_TAKES(PRIVATE), .who = CTL_MEMBER,
     .method = "POST", .target = "/v1/rooms", .shape = CTL_OBJECT, .body = room_create_body},
    {.group = "room", .action = "members", .usage = "ROOM", .summary = "who is in it",
     .details = "example:\n"
                "  carillonctl --key ck_… --as alice room members r_3k9m2q0v7hx4c\n",
     .num_arguments = 1, .who = CTL_MEMBER, .method = "GET", .target = ROOM "/members", .shape = CTL_LIST,
     .columns = "user_id,role,joined_at"},
    {.group = "room", .action = "messages", .usage = "ROOM",
     .summary = "its last messages, or those after or before one",
     .details = "20 of them, unless --limit says how many.\n"
                "\n"
                "example:\n"
                "  carillonctl --key ck_… --as alice room messages r_3k9m2q0v7hx4c --limit 5\n",
     .num_arguments = 1, .options = CTL_TAKES(LIMIT) | CTL_TAKES(AFTER_SEQ) | CTL_TAKES(BEFORE_SEQ), .who = CTL_MEMBER,
     .method = "GET", .target = ROOM "/messages", .shape = CTL_LIST, .columns = "seq,created_at,sender_id,content",
     .one_page = true, .query = messages_query},
    SEND("room", "send", "the same as message send"),
    SEND("message", "send", "send a message"),
    {.group = "chat", .usage = "ROOM", .summary = "talk in a room: what is typed is sent, what is said is shown",
     .details = "With --key the chat acts as that tenant's backend. Without it the operator makes a key for --tenant,\n"
                "which lives as long as the chat. Cursors stay where they are: what the user's own devices have seen\n"
                "is not touched. When the gateway goes away the chat waits for it, shows what was missed, and sends\n"
                "again what was not acknowledged; in the room it stands once.\n"
                "\n"
                "lines that are no message:\n"
                "  /who           who is in the room\n"
                "  /history [N]   the last N messages, 20 unless it is said\n"
                "  /quit          leave; so do Ctrl-D and Ctrl-C\n"
                "  //…            a message that begins with /\n"
                "\n"
                "examples:\n"
                "  carillonctl chat r_3k9m2q0v7hx4c --as alice --tenant t_9wdvsq7gqt1dc\n"
                "  CARILLON_API_KEY=ck_… carillonctl --url http://127.0.0.1:8080 chat r_3k9m2q0v7hx4c --as bob\n"
                "  echo \"the build is green\" | carillonctl --key ck_… chat r_3k9m2q0v7hx4c --as robot --quiet\n",
     .num_arguments = 1, .options = CTL_TAKES(QUIET), .who = CTL_MEMBER, .run = chat_run},

    {.group = "dead-letter", .action = "list", .usage = "", .summary = "notifications that could not be delivered",
     .details = "example:\n"
                "  carillonctl dead-letter list --tenant t_9wdvsq7gqt1dc\n",
     .options = CTL_TAKES(TENANT) | CTL_TAKES(LIMIT), .who = CTL_OPERATOR, .method = "GET",
     .target = "/v1/admin/dead-letters", .shape = CTL_LIST,
     .columns = "id,tenant_id,user_id,topic,reason,attempts,dead_at,notification_id",
     .query = who_query},
    {.group = "dead-letter", .action = "retry", .usage = "DEAD_LETTER", .summary = "try to deliver one of them again",
     .details = "example:\n"
                "  carillonctl dead-letter retry d_9wdvsq7gqt1dc…\n",
     .num_arguments = 1, .who = CTL_OPERATOR, .method = "POST", .target = "/v1/admin/dead-letters/{0}/retry",
     .shape = CTL_OBJECT, .done = "dead letter {0} is tried again", .body = empty_body},
    {.group = "dead-letter", .action = "delete", .usage = "DEAD_LETTER", .summary = "give one of them up for good",
     .details = "example:\n"
                "  carillonctl dead-letter delete d_9wdvsq7gqt1dc… --yes\n",
     .num_arguments = 1, .options = CTL_TAKES(YES), .destroys = true, .who = CTL_OPERATOR, .method = "DELETE",
     .target = "/v1/admin/dead-letters/{0}", .shape = CTL_NOTHING, .done = "dead letter {0} is deleted"},
    {.group = "backup", .action = "create", .usage = "", .summary = "begin a backup of the store",
     .details = "example:\n"
                "  carillonctl backup create\n",
     .who = CTL_OPERATOR, .method = "POST", .target = "/v1/admin/backups", .shape = CTL_OBJECT, .body = empty_body},
    {.group = "backup", .action = "list", .usage = "",
     .summary = "the backups that are there, and why the last one failed",
     .details = "example:\n"
                "  carillonctl backup list\n",
     .who = CTL_OPERATOR, .method = "GET", .target = "/v1/admin/backups", .shape = CTL_LIST,
     .columns = "backup_id,created_at,state,bytes,files,error"},
};

const unsigned ctl_num_commands = sizeof ctl_commands / sizeof *ctl_commands;

const struct ctl_option ctl_options[CTL_NUM_OPTIONS] = {
#define OPTION(id, name, argument, help) {name, argument, help},
    CTL_OPTIONS(OPTION)
#undef OPTION
};

unsigned ctl_takes(const struct ctl_command *command)
{
    unsigned takes = command->options | CTL_TAKES_ALWAYS;
    if (command->who == CTL_OPERATOR || command->who == CTL_MEMBER) takes |= CTL_TAKES(MASTER_KEY);
    if (command->who == CTL_MEMBER) takes |= CTL_TAKES(KEY) | CTL_TAKES(AS) | CTL_TAKES(TENANT);
    return takes;
}

/* --- bodies and queries ----------------------------------------------------------------------------------------- */

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

static void empty_body(struct buf *out, const struct ctl *c) { BUF_LIT(out, "{}"); }

static void key_create_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "role", ctl_given(c, ROLE) ? ctl_given(c, ROLE) : "server");
    BUF_LIT(out, "}");
}

static void room_create_body(struct buf *out, const struct ctl *c)
{
    const char *members = ctl_given(c, MEMBERS);
    BUF_LIT(out, "{");
    member(out, "type", ctl_given(c, TYPE) ? ctl_given(c, TYPE) : "group");
    member(out, "name", c->arguments[0]);
    buf_printf(out, ",\"is_private\":%s", ctl_given(c, PRIVATE) ? "true" : "false");
    if (members) BUF_LIT(out, ",\"members\":[");
    for (const char *at = members; at && *at;) {
        size_t len = strcspn(at, ",");
        if (at != members) buf_char(out, ',');
        buf_json_string(out, slice_of(at, len));
        at += len + (at[len] == ',');
    }
    if (members) BUF_LIT(out, "]");
    BUF_LIT(out, "}");
}

static void send_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    member(out, "content", c->arguments[1]);
    BUF_LIT(out, "}");
}

static void kick_body(struct buf *out, const struct ctl *c)
{
    BUF_LIT(out, "{");
    if (c->num_arguments) member(out, "connection_id", c->arguments[0]);
    member(out, "tenant_id", ctl_given(c, TENANT));
    member(out, "user_id", ctl_given(c, USER));
    member(out, "reason", ctl_given(c, REASON));
    BUF_LIT(out, "}");
}

/* percent-encoding of everything but RFC 3986's unreserved characters: an id with a slash stays one segment. */
void ctl_encode(struct buf *out, const char *text)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text; text++) {
        if (strchr(unreserved, *text)) buf_char(out, *text);
        else buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

static void parameter(struct buf *out, const char *name, const char *text)
{
    if (!text) return;
    buf_printf(out, "%c%s=", out->len && memchr(out->data, '?', out->len) ? '&' : '?', name);
    ctl_encode(out, text);
}

static void who_query(struct buf *out, const struct ctl *c)
{
    parameter(out, "tenant_id", ctl_given(c, TENANT));
    parameter(out, "user_id", ctl_given(c, USER));
    parameter(out, "limit", ctl_given(c, LIMIT));
}

static void first_argument_query(struct buf *out, const struct ctl *c) { parameter(out, "tenant_id", c->arguments[0]); }

/* Asked for nothing else, people want the newest: those before a seq that no room reaches. */
static void messages_query(struct buf *out, const struct ctl *c)
{
    parameter(out, "limit", ctl_given(c, LIMIT) ? ctl_given(c, LIMIT) : "20");
    parameter(out, "after_seq", ctl_given(c, AFTER_SEQ));
    if (!ctl_given(c, AFTER_SEQ))
        parameter(out, "before_seq", ctl_given(c, BEFORE_SEQ) ? ctl_given(c, BEFORE_SEQ) : "9007199254740991");
}
