/* websocket_api: requests that come as WebSocket messages: one flat JSON object each, `type` says which. */
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/probe.h"
#include "../chat/ids.h"
#include "../chat/presence.h"
#include "../chat/session.h"
#include "actions.h"
#include "admission.h"
#include "api.h"
#include "pages.h"

/* request: one message while it is looked at. */
struct request {
    struct core *core;
    struct conn *conn;
    struct session *session;
    struct slice text;
    struct fields fields;
    struct slice re; /* the id as JSON text, or empty */
};

struct operation {
    const char *type;
    bool before_hello; /* allowed on a socket that has yet to say hello */
    enum op_weight weight;
    void (*handler)(struct request *r);
};

static void on_hello(struct request *r);
static void on_send(struct request *r);
static void on_ack(struct request *r);
static void on_read(struct request *r);
static void on_subscribe(struct request *r);
static void on_unsubscribe(struct request *r);
static void on_typing_start(struct request *r);
static void on_typing_stop(struct request *r);
static void on_presence_subscribe(struct request *r);
static void on_presence_unsubscribe(struct request *r);
static void on_history(struct request *r);
static void on_sync(struct request *r);
static void on_ack_notification(struct request *r);
static void on_ping(struct request *r);

static const struct operation operations[] = {
    {"send_message", false, OP_PLAIN, on_send},
    {"ack", false, OP_LIGHT, on_ack},
    {"read", false, OP_LIGHT, on_read},
    {"hello", true, OP_HEAVY, on_hello},
    {"subscribe", false, OP_PLAIN, on_subscribe},
    {"unsubscribe", false, OP_LIGHT, on_unsubscribe},
    {"typing.start", false, OP_LIGHT, on_typing_start},
    {"typing.stop", false, OP_LIGHT, on_typing_stop},
    {"presence.subscribe", false, OP_PLAIN, on_presence_subscribe},
    {"presence.unsubscribe", false, OP_LIGHT, on_presence_unsubscribe},
    {"history", false, OP_HEAVY, on_history},
    {"sync", false, OP_HEAVY, on_sync},
    {"ack_notification", false, OP_LIGHT, on_ack_notification},
    {"ping", true, OP_LIGHT, on_ping},
};

static const struct operation *operation_find(struct request *r);
static bool request_parse(struct request *r);
static bool request_id(struct request *r);
static void refused(struct request *r);
static void misused(struct request *r);
static bool admitted(struct request *r, const struct operation *operation);

static void fail_for_now(struct request *r, const struct error *e, uint32_t wait_ms)
{
    struct buf out = {0};
    error_frame(&out, e, r->re);
    if (wait_ms) { /* one member more */
        out.len--;
        buf_printf(&out, ",\"retry_after_ms\":%u}", wait_ms);
    }
    error_counted(r->core, e->code);
    net_reply_text(r->core->net, r->conn, buf_slice(&out));
    buf_free(&out);
}

static void fail(struct request *r, enum error_code code, const char *detail, const char *field)
{
    struct error e = {code, detail, field};
    fail_for_now(r, &e, 0);
}

static void fail_fields(struct request *r)
{
    fail(r, r->fields.error.code, r->fields.error.detail, r->fields.error.field);
}

void api_on_message(void *context, struct conn *c, bool text, struct slice data)
{
    struct core *core = context;
    struct request r = {.core = core, .conn = c, .session = conn_user(c), .text = data};
    probe_parse(core->id, net_ref(c).slot, data.len);
    if (!r.session) { /* debug.echo */
        if (text) net_reply_text(core->net, c, data);
        else net_reply_binary(core->net, c, data);
        return;
    }
    if (!text) {
        fail(&r, ERR_BINARY_UNSUPPORTED, NULL, NULL);
        net_ws_close(core->net, c, 1003, "messages are text", false);
        return;
    }
    const struct operation *operation = operation_find(&r);
    if (!operation) {
        misused(&r);
    } else if (LIKELY(core->guards == 0) || admitted(&r, operation)) {
        r.session->misuses = 0;
        if (UNLIKELY(core->drain_told) && operation->handler != on_ping) fail(&r, ERR_SERVER_DRAINING, NULL, NULL);
        else operation->handler(&r);
    }
}

void api_on_ping(void *context, struct conn *c)
{
    struct core *core = context;
    struct request r = {.core = core, .conn = c, .session = conn_user(c)};
    struct error e;
    uint32_t wait_ms;
    if (r.session && UNLIKELY(core->guards) && !admission_rate(core, r.session, &e, &wait_ms)) refused(&r);
}

/* operation_find reads what every request has; NULL, and answered, when it is none. */
static const struct operation *operation_find(struct request *r)
{
    struct slice type = {0};
    if (!request_parse(r) || !request_id(r)) return NULL;
    if (!field_text(&r->fields, "type", &type, 64, true)) {
        fail(r, ERR_TYPE_MISSING, NULL, "type");
        return NULL;
    }
    for (unsigned i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (!slice_is(type, operations[i].type)) continue;
        if (r->session->state == SESSION_HELLO && !operations[i].before_hello) fail(r, ERR_HELLO_REQUIRED, NULL, NULL);
        else return &operations[i];
        return NULL;
    }
    fail(r, ERR_TYPE_UNKNOWN, NULL, "type");
    return NULL;
}

/* --- those who go on regardless ---------------------------------------------------------------------------------- */

/* window_open begins to count anew when ABUSE_WINDOW_MS have passed. */
static void window_open(struct request *r)
{
    struct session *s = r->session;
    uint16_t now_s = (uint16_t)(r->core->now_ns / 1000000000u);
    if ((uint16_t)(now_s - s->window_s) < ABUSE_WINDOW_MS / 1000) return;
    s->window_s = now_s;
    s->refusals = s->misuses = 0;
}

/* refused: beyond a rate. Who goes on all the same is closed. */
static void refused(struct request *r)
{
    window_open(r);
    if (++r->session->refusals > RATE_REFUSALS_MAX)
        net_ws_close(r->core->net, r->conn, 4129, "too many requests", false);
}

/* misused: each message that is no operation costs an answer, and counts against the rates like an operation. A client
 * that sends nothing else is broken. */
static void misused(struct request *r)
{
    struct error e;
    uint32_t wait_ms;
    if (UNLIKELY(r->core->guards) && !admission_rate(r->core, r->session, &e, &wait_ms)) refused(r);
    window_open(r);
    if (++r->session->misuses >= MISUSES_MAX) net_ws_close(r->core->net, r->conn, 4008, "no operations", false);
}

static bool admitted(struct request *r, const struct operation *operation)
{
    struct error e;
    uint32_t wait_ms;
    if (admission_message(r->core, r->session, operation->weight, &e, &wait_ms)) return true;
    fail_for_now(r, &e, wait_ms);
    bool rate = e.code == ERR_RATE_LIMITED;
    if (rate) refused(r);
    /* Nobody is served without its hello, and only who begins anew sends another one: it is told to come again
     * later. */
    if (r->session->state == SESSION_HELLO && operation->handler == on_hello)
        net_ws_close(r->core->net, r->conn, rate ? 4129 : 4100, rate ? "too many requests" : "overloaded", false);
    return false;
}

static bool request_parse(struct request *r)
{
    enum json_error e = json_parse(r->core->json, &r->fields.object, r->text);
    if (e != JSON_OK) {
        fail(r, e == JSON_TOO_DEEP ? ERR_JSON_TOO_DEEP : ERR_JSON_MALFORMED, NULL, NULL);
        return false;
    }
    if (json_type_of(r->fields.object) == JSON_OBJECT) return true;
    fail(r, ERR_JSON_NOT_OBJECT, NULL, NULL);
    return false;
}

/* request_id keeps the id's own text, so that it goes back with the type it came with: an integer or a short string. */
static bool request_id(struct request *r)
{
    struct json_node id;
    if (!json_get(r->fields.object, "id", &id) || json_type_of(id) == JSON_NULL) return true;
    struct slice raw = json_raw_member(r->text, "id");
    bool good = false;
    if (json_type_of(id) == JSON_STRING) {
        good = json_string(id).len <= REQUEST_ID_BYTES_MAX && raw.len <= REQUEST_ID_BYTES_MAX * 6 + 2;
    } else if (json_type_of(id) == JSON_NUMBER) {
        good = raw.len <= 20;
        for (size_t i = 0; i < raw.len && good; i++)
            good = (raw.data[i] >= '0' && raw.data[i] <= '9') || (i == 0 && raw.data[i] == '-');
    }
    if (good) r->re = raw;
    else fail(r, ERR_ID_INVALID, NULL, "id");
    return good;
}

/* --- ops --------------------------------------------------------------------------------------------------------- */

static struct op *request_op(struct request *r, enum op_kind kind, size_t text_bytes)
{
    const struct known_user *u = r->session->user;
    struct op *op = op_new(r->core, kind, text_bytes + r->re.len + u->id_len);
    op->is_websocket = true;
    op->answered = r->re.len > 0;
    op->conn = net_ref(r->conn);
    op->tenant = u->tenant;
    op->user = u->number;
    op->user_id = op_keep(op, known_user_id(u));
    op->re = op_keep(op, r->re);
    op->request_id = r->core->next_request_id++;
    net_request_begin(r->core->net, r->conn);
    return op;
}

/* answer_head begins an ok; false when nobody is there, or the op failed and the error has been sent. */
static bool answer_head(struct core *core, struct op *op, struct buf *out, struct conn **conn)
{
    *conn = net_conn(core->net, op->conn);
    if (!*conn) return false;
    net_request_end(core->net, *conn);
    if (op_failed(op)) {
        error_frame(out, &op->error, op->re);
        error_counted(core, op->error.code);
        net_reply_text(core->net, *conn, buf_slice(out));
        return false;
    }
    if (!op->answered) return false;
    BUF_LIT(out, "{\"type\":\"ok\",\"re\":");
    buf_slice_append(out, op->re);
    return true;
}

static void answer_tail(struct core *core, struct op *op, struct buf *out, struct conn *conn)
{
    BUF_LIT(out, "}");
    net_reply_text(core->net, conn, buf_slice(out));
    buf_free(out);
    op_free(op);
}

/* --- hello ------------------------------------------------------------------------------------------------------- */

static bool wish_read(struct request *r, struct session_wish **out);

static void on_hello(struct request *r)
{
    struct session *s = r->session;
    struct json_node n;
    struct slice device = {0};
    if (!s->subprotocol) {
        bool late = (json_get(r->fields.object, "resume", &n) && json_type_of(n) != JSON_NULL) ||
                    (json_get(r->fields.object, "rooms", &n) && json_type_of(n) != JSON_NULL);
        if (late) fail(r, ERR_HELLO_LATE, NULL, NULL);
        session_welcome_again(r->core, s, request_op(r, OP_USER_ROOMS, s->device_len));
        return;
    }
    if (s->state != SESSION_HELLO) {
        fail(r, ERR_HELLO_REPEATED, NULL, NULL);
        return;
    }
    if (json_get(r->fields.object, "token", &n) && json_type_of(n) != JSON_NULL) {
        fail(r, ERR_AUTH_INVALID_TOKEN, NULL, "token");
        net_ws_close(r->core->net, r->conn, 4001, "the token is not valid", false);
        return;
    }
    struct session_wish *wish = NULL;
    if (!field_text(&r->fields, "device", &device, DEVICE_BYTES_MAX, false) || device.len > DEVICE_BYTES_MAX ||
        !wish_read(r, &wish)) {
        if (r->fields.error.code == ERR_NONE) fields_fail(&r->fields, ERR_FIELD_TOO_LONG, NULL, "device");
        fail_fields(r);
        return;
    }
    session_set_device(s, device);
    session_begin(r->core, s, request_op(r, OP_USER_ROOMS, 0), wish);
}

static struct wish_room *wish_room_add(struct session_wish *w, uint64_t room)
{
    w->rooms[w->num_rooms] = (struct wish_room){.room = room};
    return &w->rooms[w->num_rooms++];
}

/* wish_sort sorts the wishes and makes one of those for the same room. */
static void wish_sort(struct session_wish *w)
{
    qsort(w->rooms, w->num_rooms, sizeof w->rooms[0], wish_order);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->num_rooms; i++) {
        struct wish_room *last = kept ? &w->rooms[kept - 1] : NULL;
        if (!last || last->room != w->rooms[i].room) w->rooms[kept++] = w->rooms[i];
        else if (w->rooms[i].resume) *last = w->rooms[i];
    }
    w->num_rooms = kept;
}

static bool resume_read(struct fields *f, struct session_wish *w, struct json_node resume)
{
    struct slice name;
    struct json_node position, part;
    struct json_iter i = json_object(resume);
    while (json_object_next(&i, &name, &position)) {
        uint64_t room, v[2];
        unsigned num = 0;
        if (!room_id_parse(name, &room) || json_type_of(position) != JSON_ARRAY)
            return fields_fail(f, ERR_FIELD_INVALID, "resume is {room_id: [epoch, seq]}", "resume");
        struct json_iter parts = json_array(position);
        while (num < 3 && json_array_next(&parts, &part)) {
            if (num == 2 || !json_u64(part, &v[num]))
                return fields_fail(f, ERR_FIELD_INVALID, "A position is [epoch, seq]", "resume");
            num++;
        }
        if (num != 2) return fields_fail(f, ERR_FIELD_INVALID, "A position is [epoch, seq]", "resume");
        struct wish_room *wish = wish_room_add(w, room);
        wish->epoch = v[0];
        wish->seq = v[1];
        wish->resume = true;
    }
    return true;
}

static bool rooms_read(struct fields *f, struct session_wish *w, struct json_node rooms)
{
    struct json_node item;
    if (json_type_of(rooms) == JSON_STRING) {
        struct slice mode = json_string(rooms);
        w->mode = slice_is(mode, "none") ? WISH_NONE : WISH_ALL;
        return slice_is(mode, "none") || slice_is(mode, "all") ||
               fields_fail(f, ERR_FIELD_INVALID, "rooms is \"all\", \"none\" or a list", "rooms");
    }
    w->mode = WISH_LIST;
    struct json_iter i = json_array(rooms);
    while (json_array_next(&i, &item)) {
        uint64_t room;
        if (json_type_of(item) != JSON_STRING || !room_id_parse(json_string(item), &room))
            return fields_fail(f, ERR_FIELD_INVALID, "rooms holds a name that is no room id", "rooms");
        wish_room_add(w, room);
    }
    return true;
}

static size_t count_members(struct json_node object)
{
    struct slice name;
    struct json_node value;
    size_t num = 0;
    struct json_iter i = json_object(object);
    while (json_object_next(&i, &name, &value)) num++;
    return num;
}

static bool wish_read(struct request *r, struct session_wish **out)
{
    struct fields *f = &r->fields;
    struct json_node rooms, resume;
    bool has_rooms = json_get(f->object, "rooms", &rooms) && json_type_of(rooms) != JSON_NULL;
    bool has_resume = json_get(f->object, "resume", &resume) && json_type_of(resume) != JSON_NULL;
    if (has_resume && json_type_of(resume) != JSON_OBJECT)
        return fields_fail(f, ERR_FIELD_INVALID, "resume is {room_id: [epoch, seq]}", "resume");
    if (has_rooms && json_type_of(rooms) != JSON_STRING && json_type_of(rooms) != JSON_ARRAY)
        return fields_fail(f, ERR_FIELD_INVALID, "rooms is \"all\", \"none\" or a list", "rooms");
    size_t num = (has_rooms && json_type_of(rooms) == JSON_ARRAY ? json_array_len(rooms) : 0) +
                 (has_resume ? count_members(resume) : 0);
    if (num > SUBSCRIPTIONS_MAX) return fields_fail(f, ERR_TOO_MANY_ITEMS, NULL, has_rooms ? "rooms" : "resume");
    struct session_wish *w = calloc(1, sizeof *w + num * sizeof w->rooms[0]);
    ASSERT(w != NULL);
    if ((!has_rooms || rooms_read(f, w, rooms)) && (!has_resume || resume_read(f, w, resume))) {
        wish_sort(w);
        *out = w;
        return true;
    }
    free(w);
    return false;
}

/* --- messages and marks ------------------------------------------------------------------------------------------ */

static void sent(struct core *core, struct op *op)
{
    action_sent(core, op);
    struct buf out = {0};
    struct conn *conn;
    if (answer_head(core, op, &out, &conn)) {
        BUF_LIT(&out, ",");
        sent_json(&out, op);
        answer_tail(core, op, &out, conn);
        return;
    }
    buf_free(&out);
    op_free(op);
}

static bool writes_allowed(struct request *r)
{
    if (r->session->key->role != KEY_ROLE_READ) return true;
    fail(r, ERR_AUTH_FORBIDDEN, "A read key only reads", NULL);
    return false;
}

static void on_send(struct request *r)
{
    uint64_t room = 0;
    struct message_fields m;
    if (!writes_allowed(r)) return;
    if (!field_room(&r->fields, "room_id", &room) || !message_fields_read(r->core, &r->fields, r->text, room, &m)) {
        fail_fields(r);
        return;
    }
    struct op *op = request_op(r, OP_ROOM_SEND, message_fields_bytes(&m));
    op->room = room;
    message_op(op, &m);
    op->then = sent;
    op_dispatch(r->core, op);
}

static void plain_ok(struct core *core, struct op *op)
{
    struct buf out = {0};
    struct conn *conn;
    if (answer_head(core, op, &out, &conn)) {
        answer_tail(core, op, &out, conn);
        return;
    }
    buf_free(&out);
    op_free(op);
}

static void mark(struct request *r, bool read)
{
    uint64_t room = 0, seq = 0;
    if (!writes_allowed(r)) return;
    if (!field_room(&r->fields, "room_id", &room) || !field_u64(&r->fields, "seq", &seq, true)) {
        fail_fields(r);
        return;
    }
    struct session *s = r->session;
    struct op *op = request_op(r, OP_ROOM_ACK, s->device_len);
    op->room = room;
    op->in.cursor.seq = seq;
    op->in.cursor.read = read;
    op->in.cursor.device = op_keep(op, slice_of(s->device, s->device_len));
    op->then = plain_ok;
    core_count(r->core, METRIC_ACKS, 1);
    op_dispatch(r->core, op);
}

static void on_ack(struct request *r) { mark(r, false); }

static void on_read(struct request *r) { mark(r, true); }

static void on_ack_notification(struct request *r)
{
    uint64_t number = 0;
    struct slice id = {0};
    if (!writes_allowed(r)) return;
    if (!field_text(&r->fields, "notification_id", &id, 64, true)) {
        fail_fields(r);
        return;
    }
    if (!notification_id_parse(id, &number)) {
        fail(r, ERR_NOTIFICATION_NOT_FOUND, NULL, "notification_id");
        return;
    }
    struct op *op = request_op(r, OP_NOTIFICATION_ACK, 0);
    op->in.notification.number = number;
    op->then = plain_ok;
    op_dispatch(r->core, op);
}

/* number_given reads a number that may be absent: every value of it is one that may be sent. */
static bool number_given(struct fields *f, const char *name, uint64_t *out, bool *given)
{
    struct json_node n;
    *given = json_get(f->object, name, &n) && json_type_of(n) != JSON_NULL;
    return field_u64(f, name, out, false);
}

/* --- subscriptions ----------------------------------------------------------------------------------------------- */

static void subscribed(struct core *core, struct op *op)
{
    bool replay = op->in.position.mode == POSITION_AFTER;
    struct session *s = session_on(core, op->conn);
    bool again = s && session_sub(s, op->room);
    struct sub *sub = session_subscribed(core, op);
    if (sub && again && replay)
        op->position.from = session_rewind(sub, op->position.from); /* it starts again from there */
    struct buf out = {0};
    struct conn *conn;
    struct room_position p = op->position;
    bool answered = answer_head(core, op, &out, &conn);
    if (answered) {
        char room_id[ID_TEXT_LEN];
        room_id_text(room_id, op->room);
        buf_printf(&out, ",\"room_id\":\"%.*s\",\"epoch\":%llu,\"head\":%llu", (int)ID_TEXT_LEN, room_id,
                   (unsigned long long)p.epoch, (unsigned long long)p.head);
        answer_tail(core, op, &out, conn);
    } else {
        buf_free(&out);
        op_free(op);
    }
    if (!sub || (again && !replay)) return; /* there already: whoever asked for it starts it */
    if (replay) session_resumed(core, sub->session, &p);
    session_start(core, sub);
}

static void on_subscribe(struct request *r)
{
    uint64_t room = 0, after = 0;
    bool has_after;
    if (!field_room(&r->fields, "room_id", &room) || !number_given(&r->fields, "after_seq", &after, &has_after)) {
        fail_fields(r);
        return;
    }
    struct op *op = request_op(r, OP_ROOM_POSITION, 0);
    op->room = room;
    op->in.position.mode = has_after ? POSITION_AFTER : POSITION_LIVE;
    op->in.position.seq = after;
    op->then = subscribed;
    session_subscribe(r->core, r->session, op);
}

/* follow: while something is on its way that the op may have to end, it goes the same way behind it. And it counts as
 * on its way itself, or the next one would overtake it. */
static void follow(struct core *core, struct op *op)
{
    struct local_room *l = local_room_find(core, op->tenant, op->room);
    if (!l || l->pending == 0) {
        op->then(core, op);
        return;
    }
    l->pending++;
    op->pends = true;
    op_dispatch(core, op);
}

static void followed(struct core *core, struct op *op)
{
    if (!op->pends) return;
    struct local_room *l = local_room_find(core, op->tenant, op->room);
    ASSERT(l != NULL && l->pending > 0);
    l->pending--;
    op->pends = false;
    local_room_release(core, l);
}

static void unsubscribed(struct core *core, struct op *op)
{
    followed(core, op);
    struct session *s = session_on(core, op->conn);
    struct sub *sub = s ? session_sub(s, op->room) : NULL;
    op->error = (struct error){0}; /* that the user has left the room meanwhile, say, is no matter here */
    if (sub) session_unsubscribe(core, sub);
    else op_fail(op, ERR_SUBSCRIPTION_NONE, NULL, "room_id");
    plain_ok(core, op);
}

static void on_unsubscribe(struct request *r)
{
    uint64_t room = 0;
    struct slice text = {0};
    if (!field_text(&r->fields, "room_id", &text, 256, true)) {
        fail_fields(r);
        return;
    }
    /* what is no room id, a foreign room and a room one has not subscribed to are all the same here */
    struct op *op = request_op(r, OP_ROOM_POSITION, 0);
    op->room = room_id_parse(text, &room) ? room : 0;
    op->in.position.mode = POSITION_LIVE;
    op->then = unsubscribed;
    follow(r->core, op);
}

/* --- presence and typing ------------------------------------------------------------------------------------------ */

static void typing(struct request *r, bool stop)
{
    uint64_t room = 0;
    if (!writes_allowed(r)) return;
    if (!field_room(&r->fields, "room_id", &room)) {
        fail_fields(r);
        return;
    }
    r->session->typed |= !stop;
    struct op *op = request_op(r, OP_ROOM_TYPING, 0);
    op->room = room;
    op->in.typing.stop = stop;
    op->then = plain_ok;
    op_dispatch(r->core, op);
}

static void on_typing_start(struct request *r) { typing(r, false); }

static void on_typing_stop(struct request *r) { typing(r, true); }

static void presence_subscribed(struct core *core, struct op *op)
{
    struct local_room *l = local_room_find(core, op->tenant, op->room);
    ASSERT(l != NULL && l->pending > 0);
    l->pending--;
    struct session *s = session_on(core, op->conn);
    if (s && !op_failed(op)) {
        l->large = op->position.large;
        if (!presence_watch(core, s, l)) op_fail(op, ERR_SUBSCRIPTIONS_FULL, NULL, NULL);
    }
    local_room_release(core, l);
    struct buf out = {0};
    struct conn *conn;
    if (answer_head(core, op, &out, &conn)) {
        char room_id[ID_TEXT_LEN];
        room_id_text(room_id, op->room);
        buf_printf(&out, ",\"room_id\":\"%.*s\",", (int)ID_TEXT_LEN, room_id);
        presence_page(&out, core, op, true, WEBSOCKET_PAGE_BYTES_MAX);
        answer_tail(core, op, &out, conn);
        return;
    }
    buf_free(&out);
    op_free(op);
}

static void on_presence_subscribe(struct request *r)
{
    uint64_t room = 0;
    if (!field_room(&r->fields, "room_id", &room)) {
        fail_fields(r);
        return;
    }
    struct op *op = request_op(r, OP_ROOM_PRESENCE, 0);
    op->room = room;
    op->in.presence.limit = PAGE_LIMIT_MAX;
    op->in.presence.watch = true;
    op->then = presence_subscribed;
    local_room_get(r->core, op->tenant, room)->pending++;
    op_dispatch(r->core, op);
}

static void presence_unsubscribed(struct core *core, struct op *op)
{
    followed(core, op);
    struct session *s = session_on(core, op->conn);
    op->error = (struct error){0};
    if (!s || !presence_unwatch(core, s, op->room)) op_fail(op, ERR_SUBSCRIPTION_NONE, NULL, "room_id");
    plain_ok(core, op);
}

static void on_presence_unsubscribe(struct request *r)
{
    uint64_t room = 0;
    struct slice text = {0};
    if (!field_text(&r->fields, "room_id", &text, 256, true)) {
        fail_fields(r);
        return;
    }
    struct op *op = request_op(r, OP_ROOM_PRESENCE, 0);
    op->room = room_id_parse(text, &room) ? room : 0;
    op->in.presence.limit = 1;
    op->then = presence_unsubscribed;
    follow(r->core, op);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static void paged(struct core *core, struct op *op)
{
    struct buf out = {0};
    struct conn *conn;
    if (answer_head(core, op, &out, &conn)) {
        BUF_LIT(&out, ",");
        buf_slice_append(&out, buf_slice(&op->out));
        answer_tail(core, op, &out, conn);
        return;
    }
    buf_free(&out);
    op_free(op);
}

static void on_history(struct request *r)
{
    uint64_t room = 0, after = 0, before = 0, limit = PAGE_LIMIT_DEFAULT;
    bool has_after, has_before;
    struct fields *f = &r->fields;
    bool good = field_room(f, "room_id", &room) && number_given(f, "after_seq", &after, &has_after) &&
                number_given(f, "before_seq", &before, &has_before) && field_u64(f, "limit", &limit, false);
    if (good && !page_limit_valid(limit)) good = fields_fail(f, ERR_FIELD_INVALID, "limit is 1 to 1000", "limit");
    if (!good) {
        fail_fields(r);
        return;
    }
    struct op *op = request_op(r, OP_ROOM_HISTORY, 0);
    op->room = room;
    op->in.history.has_after = has_after;
    op->in.history.after_seq = after;
    op->in.history.has_before = has_before;
    op->in.history.before_seq = before;
    op->in.history.limit = (uint32_t)limit;
    op->in.history.messages_only = true;
    op->then = paged;
    pages_go(r->core, op, pages_bound(r->core, limit, WEBSOCKET_PAGE_BYTES_MAX), op_dispatch);
}

static void on_sync(struct request *r)
{
    struct session *s = r->session;
    struct op *op = request_op(r, OP_USER_ROOMS, s->device_len);
    op->in.rooms.device = op_keep(op, slice_of(s->device, s->device_len));
    op->then = paged;
    if (sync_begin(r->core, op, r->fields.object)) pages_go(r->core, op, sync_bound(r->core, op), op_dispatch);
    else paged(r->core, op);
}

static void on_ping(struct request *r)
{
    struct buf out = {0};
    BUF_LIT(&out, "{\"type\":\"pong\"");
    if (r->re.len) {
        BUF_LIT(&out, ",\"re\":");
        buf_slice_append(&out, r->re);
    }
    BUF_LIT(&out, "}");
    net_reply_text(r->core->net, r->conn, buf_slice(&out));
    buf_free(&out);
}
