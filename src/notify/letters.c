/* letters: what happens to a notification that does not wait in the inbox: a late or repeated acknowledgement, and what
 * the operator does with dead letters. The store is looked at first, and nothing else of the user ends meanwhile. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/planted.h"
#include "../chat/ids.h"
#include "../chat/room.h"
#include "inbox.h"

struct look {
    struct read_job job;
    struct durable_wait wait;
    struct inbox *inbox;
    struct op *op;
    enum status status;
    bool exists, ended, dead; /* the notification's body; its end; its dead letter */
    struct notification_end_record end;
    struct dead_letter_record letter; /* without its text */
};

static void look_done(void *context, struct read_job *job);

static enum status look_at(struct kv *kv, enum kv_cf cf, const struct key *key, struct buf *value, bool *there)
{
    enum status s = kv_get(kv, cf, key_slice(key), value);
    *there = s == STATUS_OK;
    return s == STATUS_NOT_FOUND ? STATUS_OK : s;
}

static void look_run(struct read_job *job, struct kv *kv)
{
    struct look *l = CONTAINER_OF(job, struct look, job);
    uint32_t tenant = l->inbox->tenant;
    uint64_t user = l->inbox->user, number = l->op->in.notification.number;
    struct buf value = {0};
    struct key key;
    key_notification(&key, tenant, user, number, NOTIFICATION_BODY);
    l->status = look_at(kv, KV_NOTIFICATIONS, &key, &value, &l->exists);
    key_notification(&key, tenant, user, number, NOTIFICATION_END);
    if (l->status == STATUS_OK) l->status = look_at(kv, KV_NOTIFICATIONS, &key, &value, &l->ended);
    if (l->status == STATUS_OK && l->ended) l->status = notification_end_record_decode(&l->end, buf_slice(&value));
    key_dead_letter(&key, tenant, number, user);
    if (l->status == STATUS_OK) l->status = look_at(kv, KV_DEAD_LETTERS, &key, &value, &l->dead);
    if (l->status == STATUS_OK && l->dead) l->status = dead_letter_record_decode(&l->letter, buf_slice(&value));
    l->letter.user_id = (struct slice){0}; /* borrowed the value */
    buf_free(&value);
}

void letters_next(struct core *core, struct inbox *in)
{
    if (in->looking || in->ending || in->stale || !in->looks.len) return;
    struct look *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = look_run, .done = look_done};
    l->inbox = in;
    l->op = CONTAINER_OF(queue_pop(&in->looks), struct op, mail.node);
    in->looking = true;
    read_submit(core->reader, &l->job);
}

/* --- what is done about it --------------------------------------------------------------------------------------- */

static void answer(struct core *core, struct inbox *in, struct op *op, enum error_code failed)
{
    if (failed != ERR_NONE) op_fail(op, failed, NULL, NULL);
    inbox_answer(core, in, op);
}

static void write_or_fail(struct core *core, struct inbox *in, struct rows *rows, enum commit_class class,
                          struct op *op, const struct waiting *returned)
{
    enum status s = inbox_write(core, in, rows, class, op, NULL, 0, returned);
    if (s != STATUS_OK) answer(core, in, op, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY);
}

/* late_ack: a dead letter that its user has seen after all is delivered. */
static void late_ack(struct core *core, const struct look *l)
{
    struct inbox *in = l->inbox;
    struct op *op = l->op;
    op->http_status = 200;
    if (l->exists && !l->ended && !op->repeat_checked) { /* so new that the inbox has yet to hear of it */
        op->repeat_checked = true;
        past_heard(&core->notify->past, in->tenant, in->user, op->in.notification.number);
        in->stale = true;
        queue_push(&in->ops, &op->mail.node);
        return;
    }
    if (!l->exists || !l->ended) {
        answer(core, in, op, PLANTED(strangers_ack) ? ERR_NONE : ERR_NOTIFICATION_NOT_FOUND);
        return;
    }
    if (l->end.state == NOTIFICATION_DELIVERED) {
        answer(core, in, op, ERR_NONE);
        return;
    }
    struct rows rows = {0};
    struct key key;
    struct notification_end_record end = l->end;
    end.state = NOTIFICATION_DELIVERED;
    end.reason = DEAD_NOT;
    end.ended_ms = op->now_ms;
    inbox_end_rows(&rows, in, op->in.notification.number, &end);
    key_dead_letter(&key, in->tenant, op->in.notification.number, in->user);
    rows_delete(&rows, KV_DEAD_LETTERS, &key);
    notify_count(core, SENT_DELIVERED, 1);
    write_or_fail(core, in, &rows, COMMIT_FAST, op, NULL);
}

/* letter_retry puts a dead letter back into the outbox, as if it had been made now. */
static void letter_retry(struct core *core, const struct look *l)
{
    struct inbox *in = l->inbox;
    struct op *op = l->op;
    uint64_t number = op->in.notification.number;
    if (in->num >= core->notify->bounds.pending_user)
        op_fail(op, ERR_OUTBOX_FULL, "As many wait for this user as may", NULL);
    if (op_failed(op) || !room_may_write(core, op)) {
        inbox_answer(core, in, op);
        return;
    }
    struct waiting back = {.number = number,
                           .created_ms = l->letter.created_ms,
                           .expires_ms = op->now_ms + core->gateway->config->notify_expires,
                           .due_ns = core->now_ns,
                           .priority = l->letter.priority};
    struct outbox_record record = {.priority = back.priority,
                                   .created_ms = back.created_ms,
                                   .expires_ms = back.expires_ms,
                                   .user_id = inbox_user_id(in)};
    struct rows rows = {0};
    struct key key;
    key_outbox(&key, in->tenant, in->user, number);
    outbox_record_encode(rows_put(&rows, KV_OUTBOX, &key), &record);
    key_notification(&key, in->tenant, in->user, number, NOTIFICATION_END);
    rows_delete(&rows, KV_NOTIFICATIONS, &key);
    key_dead_letter(&key, in->tenant, number, in->user);
    rows_delete(&rows, KV_DEAD_LETTERS, &key);
    char id[ID_TEXT_LEN];
    notification_id_text(id, number);
    buf_printf(&op->out, "{\"success\":true,\"notification_id\":\"%.*s\"}", (int)ID_TEXT_LEN, id);
    op->http_status = 200;
    past_heard(&core->notify->past, in->tenant, in->user, number);
    write_or_fail(core, in, &rows, COMMIT_FSYNC, op, &back);
}

/* dead_since_then: what was found to be old may have been tried again, and be dead for a new reason. */
static bool dead_since_then(const struct look *l)
{
    uint64_t by_ms = l->op->in.notification.dead_by_ms;
    return l->dead && l->op->kind == OP_DEAD_LETTER_DELETE && by_ms && l->letter.ended_ms > by_ms;
}

static void letter_delete(struct core *core, const struct look *l)
{
    struct inbox *in = l->inbox;
    uint64_t number = l->op->in.notification.number;
    if (!room_may_shrink(core, l->op)) {
        inbox_answer(core, in, l->op);
        return;
    }
    struct rows rows = {0};
    struct key key;
    key_dead_letter(&key, in->tenant, number, in->user);
    rows_delete(&rows, KV_DEAD_LETTERS, &key);
    key_notification(&key, in->tenant, in->user, number, NOTIFICATION_BODY);
    rows_delete(&rows, KV_NOTIFICATIONS, &key);
    key_notification(&key, in->tenant, in->user, number, NOTIFICATION_END);
    rows_delete(&rows, KV_NOTIFICATIONS, &key);
    l->op->http_status = 204;
    write_or_fail(core, in, &rows, COMMIT_FSYNC, l->op, NULL);
}

static void look_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct look *l = CONTAINER_OF(w, struct look, wait);
    struct inbox *in = l->inbox;
    if (!durable) l->status = STATUS_READ_ONLY;
    in->looking = false;
    if (l->status == STATUS_READ_ONLY) answer(core, in, l->op, ERR_STORE_READ_ONLY);
    else if (l->status != STATUS_OK) answer(core, in, l->op, ERR_STORE_READ_FAILED);
    else if (l->op->kind == OP_NOTIFICATION_ACK) late_ack(core, l);
    else if (!l->dead || dead_since_then(l)) answer(core, in, l->op, ERR_DEAD_LETTER_NOT_FOUND);
    else if (l->op->kind == OP_DEAD_LETTER_RETRY) letter_retry(core, l);
    else letter_delete(core, l);
    free(l);
    inbox_next(core, in);
}

static void look_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct look, job)->wait, look_settled);
}
