/* rest_notifications: making notifications, a user's own and their topics, the operator's dead letters. */
#include <stdlib.h>

#include "../base/assert.h"
#include "../chat/ids.h"
#include "../notify/notify.h"
#include "api.h"
#include "pages.h"

/* --- making one -------------------------------------------------------------------------------------------------- */

static bool topic_field(struct fields *f, struct slice *topic)
{
    if (!field_text(f, "topic", topic, TOPIC_BYTES_MAX, true)) return false;
    return topic->len <= TOPIC_BYTES_MAX || fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "topic");
}

static bool payload_field(struct call *call, struct fields *f, struct slice *payload)
{
    struct json_node n;
    if (!json_get(f->object, "payload", &n) || json_type_of(n) == JSON_NULL)
        return fields_fail(f, ERR_FIELD_MISSING, NULL, "payload");
    *payload = json_raw_member(call->request->body, "payload");
    return payload->len <= PAYLOAD_BYTES_MAX ||
           fields_fail(f, ERR_FIELD_TOO_LONG, "A payload has 16 KiB at most", "payload");
}

static bool priority_field(struct fields *f, uint8_t *priority)
{
    struct slice name = SLICE("normal");
    if (!field_text(f, "priority", &name, 16, false)) return false;
    return priority_parse(name, priority) ||
           fields_fail(f, ERR_FIELD_INVALID, "priority is low, normal, high or urgent", "priority");
}

static bool users_field(struct fields *f, struct op *op, struct json_node list)
{
    struct json_node item;
    if (json_type_of(list) != JSON_ARRAY || json_array_len(list) == 0)
        return fields_fail(f, ERR_FIELD_INVALID, "Expected a list of user ids", "targets.user_ids");
    if (json_array_len(list) > NOTIFY_USERS_MAX)
        return fields_fail(f, ERR_TOO_MANY_ITEMS, "At most 1000 users a request", "targets.user_ids");
    op->members = calloc(json_array_len(list), sizeof *op->members);
    ASSERT(op->members != NULL);
    struct json_iter i = json_array(list);
    while (json_array_next(&i, &item)) {
        if (json_type_of(item) != JSON_STRING || !user_id_valid(json_string(item)))
            return fields_fail(f, ERR_FIELD_INVALID, "A user id is 1 to 128 bytes of UTF-8", "targets.user_ids");
        op->members[op->num_members++].user_id = op_keep(op, json_string(item));
    }
    return true;
}

static bool present(struct json_node object, const char *name, struct json_node *out)
{
    return json_get(object, name, out) && json_type_of(*out) != JSON_NULL;
}

static bool targets_field(struct fields *f, struct op *op)
{
    struct json_node targets, n;
    if (!present(f->object, "targets", &targets)) return fields_fail(f, ERR_FIELD_MISSING, NULL, "targets");
    if (json_type_of(targets) != JSON_OBJECT) return fields_fail(f, ERR_FIELD_INVALID, "Expected an object", "targets");
    if (present(targets, "user_ids", &n) && !users_field(f, op, n)) return false;
    if (present(targets, "room_id", &n)) {
        if (json_type_of(n) != JSON_STRING)
            return fields_fail(f, ERR_FIELD_INVALID, "Expected a string", "targets.room_id");
        if (!room_id_parse(json_string(n), &op->in.notify.room))
            return fields_fail(f, ERR_ROOM_NOT_FOUND, NULL, "targets.room_id");
    }
    if (present(targets, "topic_subscribers", &n) && !json_bool(n, &op->in.notify.subscribers))
        return fields_fail(f, ERR_FIELD_INVALID, "Expected true or false", "targets.topic_subscribers");
    if (op->num_members || op->in.notify.room || op->in.notify.subscribers) return true;
    return fields_fail(f, ERR_FIELD_MISSING, "Name user_ids, room_id or topic_subscribers", "targets");
}

static void targets_known(struct core *core, struct op *op)
{
    op->then = rest_answer;
    if (op_failed(op)) {
        rest_answer(core, op);
        return;
    }
    op->kind = OP_NOTIFY;
    op_dispatch(core, op);
}

/* notify_go asks the room's home for its members first, when a room is a target. */
static void notify_go(struct core *core, struct op *op)
{
    if (op->in.notify.room) {
        op->kind = OP_ROOM_TARGETS;
        op->room = op->in.notify.room;
        op->then = targets_known;
    }
    op_dispatch(core, op);
}

void rest_notify(struct call *call)
{
    struct slice key;
    if (!call_idempotency_key(call, &key) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    struct slice topic = {0}, payload = {0};
    uint8_t priority = 0;
    if (!topic_field(&f, &topic) || !payload_field(call, &f, &payload) || !priority_field(&f, &priority)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    struct op *op = call_op(call, OP_NOTIFY, 2 * call->request->body.len + call_key_bytes(call, key));
    op->in.notify.topic = op_keep(op, topic);
    op->in.notify.payload = op_keep(op, payload);
    op->in.notify.priority = priority;
    call_key_keep(call, op, key);
    if (targets_field(&f, op)) {
        op_resolve(call->core, op, notify_go);
        return;
    }
    op_free(op);
    call_fail(call, f.error.code, f.error.detail, f.error.field);
}

/* --- a user's own ------------------------------------------------------------------------------------------------ */

static void list_go(struct core *core, struct op *op) { notify_list(core, op, (uint32_t)op->job_count); }

static void list_resolve(struct core *core, struct op *op) { op_resolve(core, op, list_go); }

void rest_notification_list(struct call *call)
{
    char cursor_bytes[ID_TEXT_LEN];
    struct slice cursor;
    uint32_t limit;
    uint64_t below = 0;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !notification_id_parse(cursor, &below)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct op *op = call_op(call, OP_NOTIFICATION_ACK, 0); /* of the kind is only that it is one user's */
    op->in.notification.number = below;
    op->job_count = limit;
    pages_go(call->core, op, pages_bound(call->core, limit, HISTORY_BYTES_MAX), list_resolve);
}

static void acknowledged(struct core *core, struct op *op)
{
    if (!op_failed(op)) BUF_LIT(&op->out, "{\"success\":true}");
    rest_answer(core, op);
}

void rest_notification_ack(struct call *call)
{
    uint64_t number;
    if (!notification_id_parse(call->params[0], &number)) {
        call_fail(call, ERR_NOTIFICATION_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_NOTIFICATION_ACK, 0);
    op->in.notification.number = number;
    op->then = acknowledged;
    call_go(call, op);
}

static struct op *topic_op(struct call *call, struct slice topic)
{
    struct op *op = call_op(call, OP_NOTIFY, topic.len);
    op->in.notify.topic = op_keep(op, topic);
    return op;
}

void rest_subscription_create(struct call *call)
{
    struct slice topic = {0};
    if (!call_body(call, false)) return;
    struct fields f = {.object = call->body};
    if (!topic_field(&f, &topic)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    op_resolve(call->core, topic_op(call, topic), notify_subscribe);
}

void rest_subscription_list(struct call *call)
{
    op_resolve(call->core, topic_op(call, (struct slice){0}), notify_subscriptions);
}

void rest_subscription_delete(struct call *call)
{
    if (call->params[0].len > TOPIC_BYTES_MAX) {
        call_fail(call, ERR_TOPIC_NOT_FOUND, NULL, NULL);
        return;
    }
    op_resolve(call->core, topic_op(call, call->params[0]), notify_unsubscribe);
}

/* --- the operator ------------------------------------------------------------------------------------------------ */

void rest_dead_letter_list(struct call *call)
{
    char cursor_bytes[DEAD_LETTER_ID_TEXT_LEN + 1], tenant_bytes[ID_TEXT_LEN + 1];
    struct slice cursor;
    size_t len = 0;
    uint32_t limit, tenant = 0, below_tenant = 0;
    uint64_t number = 0, user = 0;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    int found = http_query_find(call->request->query, "tenant_id", tenant_bytes, sizeof tenant_bytes, &len);
    if (found && (found < 0 || !tenant_id_parse(slice_of(tenant_bytes, len), &tenant) ||
                  !directory_tenant(&call->core->directory, tenant))) {
        call_fail(call, ERR_TENANT_NOT_FOUND, NULL, "tenant_id");
        return;
    }
    bool good = cursor.len == 0 || (dead_letter_id_parse(cursor, &below_tenant, &number, &user) &&
                                    (tenant == 0 || tenant == below_tenant));
    if (!good) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct op *op = call_op(call, OP_DEAD_LETTER_RETRY, 0);
    op->tenant = below_tenant;
    op->user = user;
    op->in.notification.number = number;
    notify_list_dead(call->core, op, tenant, limit);
}

static void letter_call(struct call *call, enum op_kind kind)
{
    uint32_t tenant;
    uint64_t number, user;
    if (!dead_letter_id_parse(call->params[0], &tenant, &number, &user)) {
        call_fail(call, ERR_DEAD_LETTER_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, kind, USER_ID_BYTES_MAX);
    op->tenant = tenant;
    op->user = user;
    op->in.notification.number = number;
    notify_find_dead(call->core, op);
}

void rest_dead_letter_retry(struct call *call) { letter_call(call, OP_DEAD_LETTER_RETRY); }

void rest_dead_letter_delete(struct call *call) { letter_call(call, OP_DEAD_LETTER_DELETE); }
