/* api: from HTTP requests and WebSocket messages to ops, and from ops to answers.
 *
 * A REST request is a `struct call` for the length of its handler: route, parameters, who is calling. A handler either
 * answers at once (call_reply, call_fail) or makes an op (call_op) and sends it off (call_go); the op's `then` answers.
 * Slices of a call die when the handler returns: what an op needs is kept in the op. */
#ifndef CARILLON_API_API_H
#define CARILLON_API_API_H

#include "../auth/directory.h"
#include "../base/json.h"
#include "../core/core.h"

enum route_id {
#define ROUTE(id, method, pattern, who, handler) ROUTE_##id,
#include "routes.def"
#undef ROUTE
    ROUTES
};

enum route_who { WHO_ANYONE, WHO_MEMBER, WHO_OPERATOR };

struct call;

struct route {
    enum http_method method;
    const char *pattern;
    enum route_who who;
    void (*handler)(struct call *call);
};
extern const struct route routes[ROUTES];

#define CALL_PARAMS_MAX 2u

struct call {
    struct core *core;
    struct conn *conn;
    const struct http_request *request;
    uint16_t route; /* ROUTES: none matched */
    uint64_t request_id;
    struct slice params[CALL_PARAMS_MAX]; /* percent-decoded */
    struct api_key *key;    /* of a member call */
    struct slice user_id;   /* the acting user */
    struct json_node body;  /* after call_body */
    char param_bytes[CALL_PARAMS_MAX][256];
};

/* handlers of net */
void api_on_request(void *context, struct conn *c, const struct http_request *request);
/* api_on_head finds out who is calling before a body is taken: it is charged to them, and nobody's is not taken. */
bool api_on_head(void *context, struct conn *c, const struct http_request *request);
void api_on_message(void *context, struct conn *c, bool text, struct slice data);
/* api_on_ping counts the client's ping frames against its rates. */
void api_on_ping(void *context, struct conn *c);
void api_on_closed(void *context, struct conn *c);
void api_on_refused(void *context, struct conn *c, enum http_error error, unsigned status);
unsigned api_num_routes(void);

/* call_member finds the key and the acting user in the headers; false, and answered, when they let nobody in. */
bool call_member(struct call *call);
/* call_admitted comes next: notes who calls for the log; false, and answered, when a limit keeps the caller out for
 * now. */
bool call_admitted(struct call *call);

/* --- answering ------------------------------------------------------------------------------------------------- */

void call_reply(struct call *call, unsigned status, struct slice json);
void call_refuse(struct call *call, enum error_code code, const char *detail, const char *field);
/* call_fail answers with a problem; false, so that checks read as `return call_fail(…)`. Here, so that whoever reads
 * a check, a compiler too, sees that nothing goes on behind it. */
static inline bool call_fail(struct call *call, enum error_code code, const char *detail, const char *field)
{
    call_refuse(call, code, detail, field);
    return false;
}

/* rest_answer answers the connection of a REST op and frees the op: the problem if it failed, else `out`. */
void rest_answer(struct core *core, struct op *op);
/* rest_reply sends one answer and counts it; `headers` are extra complete lines. */
void rest_reply(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, unsigned status,
                const char *content_type, struct slice headers, struct slice body);
void rest_problem(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns, uint64_t request_id,
                  const struct error *e, struct slice more_headers);
/* rest_upgraded counts an upgrade that was accepted. */
void rest_upgraded(struct core *core, struct conn *conn, uint16_t route, uint64_t started_ns);
/* error_count counts an answered error. */
void error_counted(struct core *core, enum error_code code);

/* --- ops of calls ------------------------------------------------------------------------------------------------ */

/* call_op makes an op with the call's identity; `then` is rest_answer until the handler says otherwise. */
struct op *call_op(struct call *call, enum op_kind kind, size_t text_bytes);
/* call_go resolves the acting user (and op->members) to numbers, then dispatches. */
void call_go(struct call *call, struct op *op);
/* call_go_long does so once there is memory for an answer of up to `bytes` (pages.h). */
void call_go_long(struct call *call, struct op *op, size_t bytes);
/* op_resolve does the same for any op: acting user and members must have their ids set. The acting user comes into
 * being by it, and so do the members of a new room and, once the room has let them be added, those of OP_ROOM_ADD. Whom
 * OP_ROOM_REMOVE and OP_ROOM_ROLE name does not: the number of a user who does not exist is 0. */
void op_resolve(struct core *core, struct op *op, void (*go)(struct core *core, struct op *op));

/* --- reading what was sent ---------------------------------------------------------------------------------------- */

/* call_body parses the body as a JSON object; an empty body is an empty object when `optional`. */
bool call_body(struct call *call, bool optional);
/* call_page reads `limit` (1 to PAGE_LIMIT_MAX, default PAGE_LIMIT_DEFAULT) and `cursor` of a list; an absent cursor is
 * empty. */
bool call_page(struct call *call, uint32_t *limit, char *cursor_bytes, size_t cursor_cap, struct slice *cursor);
/* call_query reads a parameter of the query; absent is empty. False, and answered, when it is malformed or longer than
 * `cap`. */
bool call_query(struct call *call, const char *name, char *bytes, size_t cap, struct slice *out);
/* call_tenant_id finds the tenant that an operator's request names by `id`; *number is 0 when id is empty. */
bool call_tenant_id(struct call *call, struct slice id, uint32_t *number);
/* call_idempotency_key reads the header into *out (empty when absent); false, and answered, when it is unusable. */
bool call_idempotency_key(struct call *call, struct slice *out);
/* call_key_keep gives an op its idempotency key, with the path in front as its scope, and the body's hash. */
size_t call_key_bytes(const struct call *call, struct slice key);
void call_key_keep(struct call *call, struct op *op, struct slice key);
/* call_room parses the room parameter. */
bool call_room(struct call *call, uint64_t *room);

/* Fields of a JSON object, for REST and WebSocket alike. An absent or null field leaves *out alone and is fine unless
 * `required`. On a fault the error is set and false returned. */
struct fields {
    struct json_node object;
    struct error error;
};
bool field_text(struct fields *f, const char *name, struct slice *out, size_t chars_max, bool required);
bool field_u64(struct fields *f, const char *name, uint64_t *out, bool required);
bool field_bool(struct fields *f, const char *name, bool *out);
bool fields_fail(struct fields *f, enum error_code code, const char *detail, const char *field);
/* field_room reads a room id. */
bool field_room(struct fields *f, const char *name, uint64_t *room);
/* user_id_valid: 1 to 128 bytes of UTF-8 without control characters. */
bool user_id_valid(struct slice id);

/* message_fields reads what both ways of sending share; slices borrow the parser and `text`. */
struct message_fields {
    struct slice content, meta, message_type, client_id;
    uint64_t reply_to;
    bool reply_by_id;
};
bool message_fields_read(struct core *core, struct fields *f, struct slice text, uint64_t room,
                         struct message_fields *m);
/* message_op fills a send op from the fields; the op was made with message_fields_bytes of kept text. */
size_t message_fields_bytes(const struct message_fields *m);
void message_op(struct op *op, const struct message_fields *m);
/* history_fields checks a page's limits. */
bool page_limit_valid(uint64_t limit);

/* sent_json appends the members that answer a send: "room_id", "message_id", "seq", "created_at". */
void sent_json(struct buf *out, const struct op *op);

/* call_strip_version takes /v1 or /api/v1 off the front of a path; false when neither is there. */
bool call_strip_version(struct slice *path);

/* --- what the process is doing: for health, metrics and status; from any core ------------------------------------ */

bool db_writable(const struct core *core);
uint64_t uptime_s(const struct core *core);
/* vital reads what the main thread saw of the process and the store at its last look (src/core/vitals.h). */
uint64_t vital(const struct gateway *g, enum metric_id id);
/* metric_sum adds up what the cores have counted. */
uint64_t metric_sum(const struct gateway *g, enum metric_id id);

/* --- flows that both REST and WebSocket start -------------------------------------------------------------------- */

/* sync_begin reads `rooms`, `limit` and `cursor` and starts; on a fault the op is failed and false returned. The op
 * ends in its `then` with `"rooms":[…],"next":…` in out. */
bool sync_begin(struct core *core, struct op *op, struct json_node object);
/* sync_bound is what a sync that has begun holds at most, its answer included. */
size_t sync_bound(const struct core *core, const struct op *op);

/* --- handlers ---------------------------------------------------------------------------------------------------- */
#define ROUTE(id, method, pattern, who, handler) void handler(struct call *call);
#include "routes.def"
#undef ROUTE

#endif
