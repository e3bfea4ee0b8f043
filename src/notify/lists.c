/* lists: what is only read, or needs no order: a user's notifications and topics, the operator's dead letters. Each
 * runs where the request came in; what was read is shown when it is durable. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../chat/ids.h"
#include "../chat/room.h"
#include "notify.h"
#include "rows.h"

struct list_job {
    struct read_job job;
    struct durable_wait wait;
    struct commit_entry entry;
    struct rows rows;
    struct op *op;
    void (*settled)(struct core *core, struct list_job *l); /* when it was read, and all of it is durable */
    uint32_t tenant, limit, num;
    bool more, exists;
    uint64_t now_ms;
    enum status status;
    struct buf value;
};

static void list_settled(struct core *core, struct durable_wait *w, bool durable);

static void list_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct list_job, job)->wait, list_settled);
}

static struct list_job *list_start(struct core *core, struct op *op, void (*run)(struct read_job *job, struct kv *kv),
                                   void (*settled)(struct core *core, struct list_job *l))
{
    struct list_job *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = run, .done = list_done};
    l->op = op;
    l->settled = settled;
    l->now_ms = core->now_ms;
    read_submit(core->reader, &l->job);
    return l;
}

static void list_end(struct core *core, struct list_job *l)
{
    struct op *op = l->op;
    buf_free(&l->value);
    rows_free(&l->rows);
    free(l);
    op->then(core, op);
}

static void list_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct list_job *l = CONTAINER_OF(w, struct list_job, wait);
    if (!durable) op_fail(l->op, ERR_STORE_READ_ONLY, NULL, NULL);
    else if (l->status != STATUS_OK && l->status != STATUS_NOT_FOUND) op_fail(l->op, ERR_STORE_READ_FAILED, NULL, NULL);
    if (op_failed(l->op)) list_end(core, l);
    else l->settled(core, l);
}

static void show(struct core *core, struct list_job *l)
{
    l->op->http_status = 200;
    list_end(core, l);
}

static void put_time(struct buf *out, const char *name, uint64_t ms)
{
    char text[TIME_TEXT_LEN];
    time_text(text, ms);
    if (ms) buf_printf(out, ",\"%s\":\"%.*s\"", name, (int)TIME_TEXT_LEN, text);
    else buf_printf(out, ",\"%s\":null", name);
}

/* --- my notifications -------------------------------------------------------------------------------------------- */

/* state: of a notification in a list: waiting, or how it ended. */
struct state {
    const char *name;
    uint32_t attempts;
    uint64_t last_attempt_ms, delivered_ms;
    uint8_t reason;
};

static enum status outbox_state(struct list_job *l, struct kv *kv, uint64_t number, struct state *state)
{
    struct outbox_record r;
    struct key key;
    key_outbox(&key, l->op->tenant, l->op->user, number);
    *state = (struct state){.name = "pending"};
    enum status s = kv_get(kv, KV_OUTBOX, key_slice(&key), &l->value);
    if (s == STATUS_OK) s = outbox_record_decode(&r, buf_slice(&l->value));
    if (s != STATUS_OK) return s;
    state->attempts = r.attempts;
    state->last_attempt_ms = r.last_attempt_ms;
    return STATUS_OK;
}

static void ended_state(struct state *state, const struct notification_end_record *end)
{
    bool delivered = end->state == NOTIFICATION_DELIVERED;
    *state = (struct state){.name = delivered ? "delivered" : "dead",
                            .attempts = end->attempts,
                            .last_attempt_ms = end->last_attempt_ms,
                            .delivered_ms = delivered ? end->ended_ms : 0,
                            .reason = end->reason};
}

static void item_json(struct buf *out, const struct notification_record *r, const struct state *state)
{
    char id[ID_TEXT_LEN];
    notification_id_text(id, r->number);
    buf_printf(out, "{\"notification_id\":\"%.*s\",\"topic\":", (int)ID_TEXT_LEN, id);
    buf_json_string(out, r->topic);
    BUF_LIT(out, ",\"payload\":");
    buf_slice_append(out, r->payload);
    buf_printf(out, ",\"priority\":\"%s\",\"status\":\"%s\",\"attempts\":%u", priority_name(r->priority), state->name,
               state->attempts);
    put_time(out, "created_at", r->created_ms);
    put_time(out, "last_attempt_at", state->last_attempt_ms);
    put_time(out, "delivered_at", state->delivered_ms);
    if (state->reason) buf_printf(out, ",\"reason\":\"%s\"", dead_reason_name(state->reason));
    BUF_LIT(out, "}");
}

/* mine_run walks backwards: a notification's end comes before its body. A snapshot holds both or neither, but what
 * waits is looked up beside it and may have ended since: such a one is shown as the next request would. */
static enum status mine_rows(struct list_job *l, struct kv *kv, struct kv_iter *i)
{
    struct op *op = l->op;
    struct state state = {0};
    uint64_t ended = 0;
    for (bool on = kv_iter_last(kv, i); on; on = kv_iter_prev(kv, i)) {
        struct slice key = slice_from(kv_iter_key(kv, i), 12);
        struct notification_end_record end;
        struct notification_record body;
        uint64_t number;
        if (!key_parse_u64(&key, &number) || key.len != 1) return STATUS_CORRUPT;
        if (key.data[0] == NOTIFICATION_END) {
            enum status s = notification_end_record_decode(&end, kv_iter_value(kv, i));
            if (s != STATUS_OK) return s;
            ended_state(&state, &end);
            ended = number;
            continue;
        }
        l->more = l->num == l->limit || op->out.len > HISTORY_BYTES_MAX;
        if (l->more) return STATUS_OK;
        enum status s = notification_record_decode(&body, kv_iter_value(kv, i));
        if (s == STATUS_OK && ended != number) s = outbox_state(l, kv, number, &state);
        if (s == STATUS_NOT_FOUND) { /* ended since the walk began */
            struct key end_key;
            key_notification(&end_key, op->tenant, op->user, number, NOTIFICATION_END);
            s = kv_get(kv, KV_NOTIFICATIONS, key_slice(&end_key), &l->value);
            if (s == STATUS_NOT_FOUND) continue; /* and is gone */
            if (s == STATUS_OK) s = notification_end_record_decode(&end, buf_slice(&l->value));
            if (s == STATUS_OK) ended_state(&state, &end);
        }
        if (s != STATUS_OK) return s;
        if (l->num++) BUF_LIT(&op->out, ",");
        item_json(&op->out, &body, &state);
        op->seq = number; /* the last one shown */
    }
    return STATUS_OK;
}

static void mine_run(struct read_job *job, struct kv *kv)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    struct op *op = l->op;
    struct key lower, upper;
    key_user(&lower, op->tenant, op->user);
    if (op->in.notification.number) key_outbox(&upper, op->tenant, op->user, op->in.notification.number);
    else key_prefix_end(&upper, key_slice(&lower));
    BUF_LIT(&op->out, "{\"items\":[");
    struct kv_iter *i = kv_iter_open(kv, KV_NOTIFICATIONS, key_slice(&lower), key_slice(&upper));
    l->status = mine_rows(l, kv, i);
    enum status closed = kv_iter_close(kv, i);
    if (l->status == STATUS_OK) l->status = closed;
    char id[ID_TEXT_LEN];
    notification_id_text(id, op->seq);
    if (l->more) buf_printf(&op->out, "],\"next\":\"%.*s\"}", (int)ID_TEXT_LEN, id);
    else BUF_LIT(&op->out, "],\"next\":null}");
}

void notify_list(struct core *core, struct op *op, uint32_t limit)
{
    list_start(core, op, mine_run, show)->limit = limit;
}

/* --- dead letters ------------------------------------------------------------------------------------------------ */

static enum status letter_json(struct list_job *l, struct kv *kv, uint32_t tenant, uint64_t number, uint64_t user,
                               const struct dead_letter_record *r)
{
    struct buf *out = &l->op->out;
    struct notification_record body;
    struct key key;
    key_notification(&key, tenant, user, number, NOTIFICATION_BODY);
    enum status s = kv_get(kv, KV_NOTIFICATIONS, key_slice(&key), &l->value);
    if (s == STATUS_OK) s = notification_record_decode(&body, buf_slice(&l->value));
    if (s != STATUS_OK) return s;
    char id[DEAD_LETTER_ID_TEXT_LEN], tenant_id[ID_TEXT_LEN], notification_id[ID_TEXT_LEN];
    dead_letter_id_text(id, tenant, number, user);
    tenant_id_text(tenant_id, tenant);
    notification_id_text(notification_id, number);
    if (l->num++) BUF_LIT(out, ",");
    buf_printf(out, "{\"id\":\"%.*s\",\"tenant_id\":\"%.*s\",\"notification_id\":\"%.*s\",\"user_id\":",
               (int)DEAD_LETTER_ID_TEXT_LEN, id, (int)ID_TEXT_LEN, tenant_id, (int)ID_TEXT_LEN, notification_id);
    buf_json_string(out, r->user_id);
    BUF_LIT(out, ",\"topic\":");
    buf_json_string(out, body.topic);
    buf_printf(out, ",\"priority\":\"%s\",\"reason\":\"%s\",\"attempts\":%u", priority_name(r->priority),
               dead_reason_name(r->reason), r->attempts);
    put_time(out, "created_at", r->created_ms);
    put_time(out, "last_attempt_at", r->last_attempt_ms);
    put_time(out, "dead_at", r->ended_ms);
    BUF_LIT(out, "}");
    return STATUS_OK;
}

static enum status letter_rows(struct list_job *l, struct kv *kv, struct kv_iter *i)
{
    struct op *op = l->op;
    for (bool on = kv_iter_last(kv, i); on; on = kv_iter_prev(kv, i)) {
        struct slice key = kv_iter_key(kv, i);
        struct dead_letter_record r;
        uint32_t tenant;
        uint64_t number, user;
        if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &number) || !key_parse_u64(&key, &user))
            return STATUS_CORRUPT;
        l->more = l->num == l->limit;
        if (l->more) return STATUS_OK;
        enum status s = dead_letter_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK) s = letter_json(l, kv, tenant, number, user, &r);
        if (s == STATUS_NOT_FOUND) continue; /* deleted since the walk began */
        if (s != STATUS_OK) return s;
        op->room = tenant; /* of the last one shown */
        op->seq = number;
        op->user = user;
    }
    return STATUS_OK;
}

static void letters_run(struct read_job *job, struct kv *kv)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    struct op *op = l->op;
    struct key lower = {0}, upper = {0};
    if (l->tenant) {
        key_tenant(&lower, l->tenant);
        key_prefix_end(&upper, key_slice(&lower));
    }
    if (op->in.notification.number) key_dead_letter(&upper, op->tenant, op->in.notification.number, op->user);
    BUF_LIT(&op->out, "{\"items\":[");
    struct kv_iter *i = kv_iter_open(kv, KV_DEAD_LETTERS, key_slice(&lower), key_slice(&upper));
    l->status = letter_rows(l, kv, i);
    enum status closed = kv_iter_close(kv, i);
    if (l->status == STATUS_OK) l->status = closed;
    char id[DEAD_LETTER_ID_TEXT_LEN];
    dead_letter_id_text(id, (uint32_t)op->room, op->seq, op->user);
    if (l->more) buf_printf(&op->out, "],\"next\":\"%.*s\"}", (int)DEAD_LETTER_ID_TEXT_LEN, id);
    else BUF_LIT(&op->out, "],\"next\":null}");
}

void notify_list_dead(struct core *core, struct op *op, uint32_t tenant, uint32_t limit)
{
    struct list_job *l = list_start(core, op, letters_run, show);
    l->tenant = tenant;
    l->limit = limit;
}

static void find_run(struct read_job *job, struct kv *kv)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    struct op *op = l->op;
    struct dead_letter_record r = {0};
    struct key key;
    key_dead_letter(&key, op->tenant, op->in.notification.number, op->user);
    l->status = kv_get(kv, KV_DEAD_LETTERS, key_slice(&key), &l->value);
    if (l->status == STATUS_OK) l->status = dead_letter_record_decode(&r, buf_slice(&l->value));
    l->exists = l->status == STATUS_OK;
    if (l->exists) op->user_id = op_keep(op, r.user_id);
}

static void find_settled(struct core *core, struct list_job *l)
{
    struct op *op = l->op;
    if (!l->exists) {
        op_fail(op, ERR_DEAD_LETTER_NOT_FOUND, NULL, NULL);
        list_end(core, l);
        return;
    }
    buf_free(&l->value);
    free(l);
    op_dispatch(core, op);
}

void notify_find_dead(struct core *core, struct op *op) { list_start(core, op, find_run, find_settled); }

/* --- topics ------------------------------------------------------------------------------------------------------ */

static void topic_run(struct read_job *job, struct kv *kv)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    struct op *op = l->op;
    struct subscription_record r = {0};
    struct key key, end;
    key_subscription(&key, op->tenant, op->user, op->in.notify.topic);
    l->status = kv_get(kv, KV_SUBSCRIPTIONS, key_slice(&key), &l->value);
    if (l->status == STATUS_OK) l->status = subscription_record_decode(&r, buf_slice(&l->value));
    l->exists = l->status == STATUS_OK;
    if (l->exists) op->created_ms = r.created_ms;
    if (l->status != STATUS_NOT_FOUND) return;
    key_user(&key, op->tenant, op->user);
    key_prefix_end(&end, key_slice(&key));
    struct kv_iter *i = kv_iter_open(kv, KV_SUBSCRIPTIONS, key_slice(&key), key_slice(&end));
    for (bool on = kv_iter_first(kv, i); on && l->num < SUBSCRIPTIONS_USER_MAX; on = kv_iter_next(kv, i)) l->num++;
    l->status = kv_iter_close(kv, i);
}

static void topic_written(void *context, struct commit_entry *entry, enum status result)
{
    struct list_job *l = CONTAINER_OF(entry, struct list_job, entry);
    if (result != STATUS_OK) op_fail(l->op, store_error(result), NULL, NULL);
    list_end(context, l);
}

static void topic_write(struct core *core, struct list_job *l)
{
    rows_finish(&l->rows);
    l->entry = (struct commit_entry){
        .class = COMMIT_FSYNC, .rows = l->rows.rows, .num_rows = (uint16_t)l->rows.num, .done = topic_written};
    enum status s = commit_push(core->commit, &l->entry);
    if (s == STATUS_OK) return;
    op_fail(l->op, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY, NULL, NULL);
    list_end(core, l);
}

static void topic_json(struct buf *out, struct slice topic, uint64_t created_ms)
{
    BUF_LIT(out, "{\"topic\":");
    buf_json_string(out, topic);
    put_time(out, "created_at", created_ms);
    BUF_LIT(out, "}");
}

static void subscribe_settled(struct core *core, struct list_job *l)
{
    struct op *op = l->op;
    struct slice topic = op->in.notify.topic;
    if (!l->exists) op->created_ms = op->now_ms;
    op->http_status = l->exists ? 200 : 201;
    topic_json(&op->out, topic, op->created_ms);
    if (!l->exists && l->num >= SUBSCRIPTIONS_USER_MAX) op_fail(op, ERR_TOPICS_FULL, NULL, NULL);
    if (l->exists || op_failed(op) || !room_may_write(core, op)) {
        list_end(core, l);
        return;
    }
    struct subscription_record r = {.created_ms = op->created_ms, .user_id = op->user_id};
    struct key key;
    key_subscription(&key, op->tenant, op->user, topic);
    subscription_record_encode(rows_put(&l->rows, KV_SUBSCRIPTIONS, &key), &r);
    key_subscriber(&key, op->tenant, topic, op->user);
    subscription_record_encode(rows_put(&l->rows, KV_SUBSCRIPTIONS, &key), &r);
    topic_write(core, l);
}

void notify_subscribe(struct core *core, struct op *op) { list_start(core, op, topic_run, subscribe_settled); }

static void unsubscribe_settled(struct core *core, struct list_job *l)
{
    struct op *op = l->op;
    op->http_status = 204;
    if (!l->exists) op_fail(op, ERR_TOPIC_NOT_FOUND, NULL, NULL);
    if (op_failed(op) || !room_may_shrink(core, op)) {
        list_end(core, l);
        return;
    }
    struct key key;
    key_subscription(&key, op->tenant, op->user, op->in.notify.topic);
    rows_delete(&l->rows, KV_SUBSCRIPTIONS, &key);
    key_subscriber(&key, op->tenant, op->in.notify.topic, op->user);
    rows_delete(&l->rows, KV_SUBSCRIPTIONS, &key);
    topic_write(core, l);
}

void notify_unsubscribe(struct core *core, struct op *op) { list_start(core, op, topic_run, unsubscribe_settled); }

static void topics_run(struct read_job *job, struct kv *kv)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    struct op *op = l->op;
    struct key prefix, end;
    key_user(&prefix, op->tenant, op->user);
    key_prefix_end(&end, key_slice(&prefix));
    BUF_LIT(&op->out, "{\"items\":[");
    struct kv_iter *i = kv_iter_open(kv, KV_SUBSCRIPTIONS, key_slice(&prefix), key_slice(&end));
    for (bool on = kv_iter_first(kv, i); on && l->status == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct subscription_record r;
        l->status = subscription_record_decode(&r, kv_iter_value(kv, i));
        if (l->status != STATUS_OK) break;
        if (l->num++) BUF_LIT(&op->out, ",");
        topic_json(&op->out, slice_from(kv_iter_key(kv, i), prefix.len), r.created_ms);
    }
    BUF_LIT(&op->out, "],\"next\":null}");
    enum status closed = kv_iter_close(kv, i);
    if (l->status == STATUS_OK) l->status = closed;
}

void notify_subscriptions(struct core *core, struct op *op) { list_start(core, op, topics_run, show); }
