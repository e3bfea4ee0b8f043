/* rest_rooms: rooms, members, users. */
#include <stdlib.h>

#include "../base/assert.h"
#include "../chat/ids.h"
#include "../chat/session.h"
#include "api.h"
#include "pages.h"

static bool room_fields(struct call *call, struct fields *f, struct slice key, struct op **out);
static bool members_read(struct call *call, struct fields *f, struct op *op, bool with_self);

/* --- creating ---------------------------------------------------------------------------------------------------- */

static void create_go(struct core *core, struct op *op);

void rest_room_create(struct call *call)
{
    struct slice key;
    if (!call_idempotency_key(call, &key) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    struct op *op = NULL;
    if (room_fields(call, &f, key, &op) && members_read(call, &f, op, true)) {
        op_resolve(call->core, op, create_go);
        return;
    }
    if (op) op_free(op);
    call_fail(call, f.error.code, f.error.detail, f.error.field);
}

static bool type_field(struct fields *f, uint8_t *type)
{
    struct slice text = {0};
    if (!field_text(f, "type", &text, 32, true)) return false;
    if (slice_is(text, "dm")) *type = ROOM_DM;
    else if (slice_is(text, "group")) *type = ROOM_GROUP;
    else if (slice_is(text, "channel")) *type = ROOM_CHANNEL;
    else return fields_fail(f, ERR_FIELD_INVALID, "type is dm, group or channel", "type");
    return true;
}

static bool settings_field(struct call *call, struct fields *f, struct slice *out)
{
    struct json_node n;
    if (!json_get(f->object, "settings", &n) || json_type_of(n) == JSON_NULL) return true;
    if (json_type_of(n) != JSON_OBJECT) return fields_fail(f, ERR_FIELD_INVALID, "Expected an object", "settings");
    *out = json_raw_member(call->request->body, "settings");
    return out->len <= SETTINGS_BYTES_MAX || fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "settings");
}

static uint8_t settings_flags(struct json_node object)
{
    struct json_node chosen, history;
    bool since = json_get(object, "settings", &chosen) && json_get(chosen, "history", &history) &&
                 json_type_of(history) == JSON_STRING && slice_is(json_string(history), "since_join");
    return since ? ROOM_HISTORY_SINCE_JOIN : 0;
}

/* room_fields checks what names and describes the room, and makes the op. */
static bool room_fields(struct call *call, struct fields *f, struct slice key, struct op **out)
{
    uint8_t type = 0;
    bool is_private = false;
    uint64_t members_max = 0;
    struct slice name = {0}, description = {0}, avatar = {0}, chosen = {0};
    if (!type_field(f, &type) || !field_text(f, "name", &name, NAME_CHARS_MAX, false) ||
        !field_text(f, "description", &description, DESCRIPTION_CHARS_MAX, false) ||
        !field_text(f, "avatar_url", &avatar, AVATAR_URL_BYTES_MAX, false) ||
        !field_bool(f, "is_private", &is_private) || !field_u64(f, "max_participants", &members_max, false) ||
        !settings_field(call, f, &chosen))
        return false;
    uint64_t bound = CONFIG_NOW(call->core->gateway->config, limits_members_per_room);
    if (members_max > bound)
        return fields_fail(f, ERR_FIELD_INVALID, "More than limits.members_per_room", "max_participants");
    size_t text =
        name.len + description.len + avatar.len + chosen.len + call->request->body.len + call_key_bytes(call, key);
    struct op *op = *out = call_op(call, OP_ROOM_CREATE, text);
    op->in.change.type = type;
    op->in.change.flags = (uint8_t)((is_private ? ROOM_PRIVATE : 0) | settings_flags(f->object));
    op->in.change.members_max = (uint32_t)members_max;
    op->in.change.name = op_keep(op, name);
    op->in.change.description = op_keep(op, description);
    op->in.change.avatar_url = op_keep(op, avatar);
    op->in.change.settings = op_keep(op, chosen);
    call_key_keep(call, op, key);
    return true;
}

/* members_read reads `members` into the op; ids stand in its kept text. `with_self` puts the caller in front. */
static bool members_read(struct call *call, struct fields *f, struct op *op, bool with_self)
{
    struct json_node list, item;
    bool has = json_get(f->object, "members", &list) && json_type_of(list) != JSON_NULL;
    if (has && json_type_of(list) != JSON_ARRAY)
        return fields_fail(f, ERR_FIELD_INVALID, "Expected a list of user ids", "members");
    size_t num = has ? json_array_len(list) : 0;
    if (!with_self && num == 0) return fields_fail(f, ERR_FIELD_MISSING, "Name at least one user", "members");
    if (num > MEMBERS_PER_REQUEST_MAX)
        return fields_fail(f, ERR_TOO_MANY_ITEMS, "At most 1000 members a request", "members");
    op->members = calloc(num + 1, sizeof *op->members);
    ASSERT(op->members != NULL);
    if (with_self) op->members[op->num_members++].user_id = op->user_id;
    if (!has) return true;
    struct json_iter i = json_array(list);
    while (json_array_next(&i, &item)) {
        if (json_type_of(item) != JSON_STRING || !user_id_valid(json_string(item)))
            return fields_fail(f, ERR_FIELD_INVALID, "A user id is 1 to 128 bytes of UTF-8", "members");
        op->members[op->num_members++].user_id = op_keep(op, json_string(item));
    }
    return true;
}

/* create_members drops repeated users; a DM has exactly the two named, or the caller and the other. */
static bool create_members(struct op *op, uint64_t bound)
{
    uint32_t num = 0;
    bool dm = op->in.change.type == ROOM_DM, named_two = dm && op->num_members == 3;
    for (uint32_t i = named_two ? 1 : 0; i < op->num_members; i++) {
        bool again = false;
        for (uint32_t n = 0; n < num && !again; n++) again = op->members[n].user == op->members[i].user;
        if (!again) op->members[num++] = op->members[i];
    }
    op->num_members = num;
    if (dm && num != 2) return op_fail(op, ERR_FIELD_INVALID, "A direct room has exactly two members", "members");
    bool self = false;
    for (uint32_t n = 0; n < num && !self; n++) self = op->members[n].user == op->user;
    if (!self) return op_fail(op, ERR_FIELD_INVALID, "A direct room is made by one of its two members", "members");
    if (op->in.change.members_max && op->in.change.members_max < bound) bound = op->in.change.members_max;
    return num <= bound || op_fail(op, ERR_ROOM_FULL, NULL, "members");
}

static void create_go(struct core *core, struct op *op)
{
    if (create_members(op, CONFIG_NOW(core->gateway->config, limits_members_per_room))) op_dispatch(core, op);
    else op->then(core, op);
}

/* --- one room ---------------------------------------------------------------------------------------------------- */

static void room_call(struct call *call, enum op_kind kind)
{
    uint64_t room;
    struct slice key;
    if (!call_room(call, &room) || !call_idempotency_key(call, &key)) return;
    struct op *op = call_op(call, kind, call_key_bytes(call, key));
    op->room = room;
    call_key_keep(call, op, key);
    call_go(call, op);
}

void rest_room_get(struct call *call) { room_call(call, OP_ROOM_GET); }

void rest_room_join(struct call *call) { room_call(call, OP_ROOM_JOIN); }

void rest_room_leave(struct call *call) { room_call(call, OP_ROOM_LEAVE); }

void rest_member_list(struct call *call)
{
    uint64_t room, after = 0;
    uint32_t limit;
    size_t len;
    char cursor_bytes[24], text[24];
    struct slice cursor;
    if (!call_room(call, &room) || !call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !slice_u64(cursor, &after)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    bool limited = http_query_find(call->request->query, "limit", text, sizeof text, &len) != 0;
    if (!limited) limit = PAGE_LIMIT_MAX; /* most rooms come whole */
    struct op *op = call_op(call, OP_ROOM_MEMBERS, 0);
    op->room = room;
    op->in.history.after_seq = after;
    op->in.history.limit = limit;
    call_go(call, op);
}

void rest_member_add(struct call *call)
{
    uint64_t room;
    struct slice key;
    if (!call_room(call, &room) || !call_idempotency_key(call, &key) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    struct op *op = call_op(call, OP_ROOM_ADD, call->request->body.len + call_key_bytes(call, key));
    op->room = room;
    call_key_keep(call, op, key);
    if (members_read(call, &f, op, false)) {
        call_go(call, op);
        return;
    }
    op_free(op);
    call_fail(call, f.error.code, f.error.detail, f.error.field);
}

/* member_op names the one user of the path. */
static struct op *member_op(struct call *call, enum op_kind kind)
{
    uint64_t room;
    if (!call_room(call, &room)) return NULL;
    if (!user_id_valid(call->params[1])) {
        call_fail(call, ERR_MEMBER_NOT_FOUND, NULL, NULL);
        return NULL;
    }
    struct op *op = call_op(call, kind, call->params[1].len);
    op->room = room;
    op->members = calloc(1, sizeof *op->members);
    ASSERT(op->members != NULL);
    op->num_members = 1;
    op->members[0].user_id = op_keep(op, call->params[1]);
    return op;
}

void rest_member_remove(struct call *call)
{
    struct op *op = member_op(call, OP_ROOM_REMOVE);
    if (op) call_go(call, op);
}

void rest_member_role(struct call *call)
{
    if (!call_body(call, false)) return;
    struct fields f = {.object = call->body};
    struct slice role = {0};
    if (!field_text(&f, "role", &role, 16, true) || (!slice_is(role, "admin") && !slice_is(role, "member"))) {
        fields_fail(&f, ERR_FIELD_INVALID, "role is admin or member", "role");
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    struct op *op = member_op(call, OP_ROOM_ROLE);
    if (!op) return;
    op->in.change.role = slice_is(role, "admin") ? MEMBER_ADMIN : MEMBER_MEMBER;
    call_go(call, op);
}

/* --- my rooms ---------------------------------------------------------------------------------------------------- */

/* listing: slice by slice, every room's home gives the object, then a reader its last message; items stand in the order
 * of numbers. The page ends at `limit` items, or when what is written is long enough. */
struct listing {
    struct op *op;
    uint32_t num; /* positions: the rooms behind the cursor, at most one more than `limit` */
    uint32_t limit, total;
    uint32_t at, slice, left; /* items[0] is positions[at]; how many are asked for, and how many answers are missing */
    uint32_t written;
    struct room_position *positions; /* in op->positions */
    struct listing_item {
        struct room_position cursors;
        struct buf object, last;
    } items[LIST_SLICE_ROOMS];
};

static void list_rooms(struct core *core, struct op *op);
static void list_slice(struct core *core, struct listing *l);
static void list_object(struct core *core, struct op *child);
static void list_last(struct core *core, struct op *child);
static void list_returned(struct core *core, struct listing *l, struct op *child);
static void list_done(struct core *core, struct listing *l);

void rest_room_list(struct call *call)
{
    char cursor_bytes[ID_TEXT_LEN];
    struct slice cursor;
    uint32_t limit;
    uint64_t after = 0;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !room_id_parse(cursor, &after)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct listing *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->op = call_op(call, OP_USER_ROOMS, 0);
    l->limit = limit;
    l->op->room = after;
    l->op->flow = l;
    l->op->then = list_rooms;
    size_t item = pages_item_bytes(call->core); /* a room's object and its last message are no longer */
    size_t slice = (limit < LIST_SLICE_ROOMS ? limit : LIST_SLICE_ROOMS) * item; /* beside what is written already */
    call_go_long(call, l->op, pages_bound(call->core, limit, HISTORY_BYTES_MAX) + slice);
}

static int position_order(const void *a, const void *b)
{
    uint64_t x = ((const struct room_position *)a)->room, y = ((const struct room_position *)b)->room;
    return (x > y) - (x < y);
}

static void list_rooms(struct core *core, struct op *op)
{
    struct listing *l = op->flow;
    if (op_failed(op)) {
        free(l);
        rest_answer(core, op);
        return;
    }
    qsort(op->positions, op->num_positions, sizeof *op->positions, position_order);
    l->total = op->num_positions;
    uint32_t first = 0;
    while (first < l->total && op->positions[first].room <= op->room) first++;
    l->positions = op->positions + first;
    l->num = l->total - first;
    if (l->num > l->limit) l->num = l->limit + 1;
    list_slice(core, l);
}

/* list_slice asks for as many rooms as are held in memory at once. */
static void list_slice(struct core *core, struct listing *l)
{
    uint32_t end = l->num < l->limit ? l->num : l->limit;
    l->slice = end - l->at < LIST_SLICE_ROOMS ? end - l->at : LIST_SLICE_ROOMS;
    l->left = l->slice + 1; /* one more until all are asked for */
    for (uint32_t i = 0; i < l->slice; i++) {
        l->items[i] = (struct listing_item){.cursors = l->positions[l->at + i]};
        struct op *child = op_new(core, OP_ROOM_GET, 0);
        child->tenant = l->op->tenant;
        child->user = l->op->user;
        child->room = l->items[i].cursors.room;
        child->child_index = i;
        child->flow = l;
        child->then = list_object;
        op_dispatch(core, child);
    }
    if (--l->left == 0) list_done(core, l);
}

static void list_object(struct core *core, struct op *child)
{
    struct listing *l = child->flow;
    struct listing_item *item = &l->items[child->child_index];
    if (op_failed(child)) {
        list_returned(core, l, child);
        return;
    }
    item->object = child->out;
    item->cursors.head = child->head;
    child->out = (struct buf){0};
    child->kind = OP_ROOM_HISTORY;
    child->in.history.limit = 1;
    child->in.history.messages_only = true;
    child->in.history.has_before = true;
    child->in.history.before_seq = UINT64_MAX;
    child->then = list_last;
    op_dispatch(core, child);
}

static void list_last(struct core *core, struct op *child)
{
    struct listing *l = child->flow;
    struct listing_item *item = &l->items[child->child_index];
    struct slice out = buf_slice(&child->out), head = SLICE("\"items\":[");
    if (op_failed(child)) {
        buf_free(&item->object);
    } else if (child->job_count == 1) {
        /* `"items":[{…}],"next":null`: the object between the brackets */
        size_t tail = sizeof("],\"next\":null") - 1;
        ASSERT(out.len > head.len + tail);
        buf_append(&item->last, out.data + head.len, out.len - head.len - tail);
    }
    list_returned(core, l, child);
}

/* list_returned: a room that was left meanwhile is left out; one that is merely not to be had fails the whole list. */
static void list_returned(struct core *core, struct listing *l, struct op *child)
{
    if (op_failed(child) && !op_not_in_room(child)) op_fail(l->op, child->error.code, child->error.detail, NULL);
    op_free(child);
    if (--l->left == 0) list_done(core, l);
}

static void list_item(struct buf *out, struct listing_item *item)
{
    const struct room_position *c = &item->cursors;
    buf_append(out, item->object.data, item->object.len - 1); /* without its brace: it goes on */
    buf_printf(out, ",\"head\":%llu,\"delivered\":%llu,\"read\":%llu,\"unread\":%llu,\"last_message\":",
               (unsigned long long)c->head, (unsigned long long)c->delivered, (unsigned long long)c->read,
               (unsigned long long)(c->head > c->read ? c->head - c->read : 0));
    if (item->last.len) buf_slice_append(out, buf_slice(&item->last));
    else BUF_LIT(out, "null");
    BUF_LIT(out, "}");
}

/* list_write takes over what the slice brought, up to where the page is full; `at` comes to stand behind it. */
static void list_write(struct listing *l)
{
    struct buf *out = &l->op->out;
    if (out->len == 0) BUF_LIT(out, "{\"items\":[");
    for (uint32_t i = 0; i < l->slice; i++) {
        struct listing_item *item = &l->items[i];
        if (out->len <= HISTORY_BYTES_MAX) {
            if (item->object.len && l->written++) BUF_LIT(out, ",");
            if (item->object.len) list_item(out, item);
            l->at++;
        }
        buf_free(&item->object);
        buf_free(&item->last);
    }
}

static void list_answer(struct core *core, struct listing *l)
{
    struct op *op = l->op;
    char room_id[ID_TEXT_LEN];
    if (l->at < l->num) {
        room_id_text(room_id, l->positions[l->at - 1].room);
        buf_printf(&op->out, "],\"next\":\"%.*s\"}", (int)ID_TEXT_LEN, room_id);
    } else {
        BUF_LIT(&op->out, "],\"next\":null}");
    }
    struct buf headers = {0};
    buf_printf(&headers, "X-Total-Rooms: %u\r\nX-Total-Count: %u\r\n", l->total, l->total);
    struct conn *conn = net_conn(core->net, op->conn);
    if (conn)
        rest_reply(core, conn, op->route, op->started_ns, 200, "application/json", buf_slice(&headers),
                   buf_slice(&op->out));
    buf_free(&headers);
    op_free(op);
}

static void list_done(struct core *core, struct listing *l)
{
    list_write(l);
    bool more = l->at < l->num && l->at < l->limit && l->op->out.len <= HISTORY_BYTES_MAX;
    if (more && !op_failed(l->op)) {
        list_slice(core, l);
        return;
    }
    if (op_failed(l->op)) rest_answer(core, l->op);
    else list_answer(core, l);
    free(l);
}

/* --- users ------------------------------------------------------------------------------------------------------- */

void rest_user_me(struct call *call)
{
    struct op *op = call_op(call, OP_USER_GET, 0);
    call_go(call, op); /* resolving makes a user who is new */
}

void rest_user_get(struct call *call)
{
    if (!user_id_valid(call->params[0])) {
        call_fail(call, ERR_USER_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_USER_GET, call->params[0].len);
    op->user_id = op_keep(op, call->params[0]); /* whom it is about, not who asks: nobody comes into being by this */
    op_dispatch(call->core, op);
}
