/* create: POST /notify at its tenant's home.
 *
 *   its turn → the answer of a first try? → the targets → places reserved and rows made, a slice at a time → one entry
 *
 * Readers do what needs the store or takes long, a slice of bounded length at a time, so that what others read passes
 * between two of them. Whether there is room is known here (outbox.h), and asked before each step that costs more. All
 * rows become durable in one entry, all or nothing. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/planted.h"
#include "../chat/ids.h"
#include "../chat/room.h"
#include "outbox.h"
#include "rows.h"

struct target {
    uint64_t user;
    struct slice id;
    bool full; /* as many wait for this user as may: a dead letter at once */
};

struct creation {
    struct turn turn;
    struct read_job job;
    struct durable_wait wait;
    struct commit_entry entry;
    struct op *op;
    struct outbox_tenant *tenant;
    struct queue waiting;   /* ops with the same Idempotency-Key */
    uint64_t hash;          /* of that key */
    uint64_t number, expires_ms;
    struct target *targets;
    uint32_t num_targets, cap_targets;
    struct buf room_ids;    /* of a room's members: what room_targets left in op->out */
    struct buf topic_ids;   /* of the topic's subscribers, whom the reader found: user u64 · length u8 · id */
    bool working;           /* has its turn */
    uint32_t num_reserved;  /* of the targets, from the front: places taken, or found full */
    uint32_t num_made;      /* those whose rows are made */
    /* what the reader found */
    enum status status;
    struct buf found;       /* the answer of the first try */
    uint32_t num_found;     /* subscribers, all different */
    uint64_t next;          /* the one with whom the next slice begins */
    bool more;              /* there is one */
    struct rows rows;
};

static void create_begin(struct core *core, struct turn *turn, enum status status);
static void create_repeat(struct core *core, struct durable_wait *w, bool durable);
static void targets_find(struct core *core, struct creation *c);
static void targets_settled(struct core *core, struct creation *c);
static void rows_make(struct core *core, struct creation *c);
static void create_commit(struct core *core, struct creation *c);
static void create_end(struct core *core, struct creation *c);

static bool creation_eq(const void *value, const void *key)
{
    const struct creation *c = value;
    const struct op *op = key;
    return c->op->tenant == op->tenant && c->op->user == op->user && slice_eq(c->op->client_id, op->client_id);
}

void creations_free(struct core *core) { map_free(&core->notify->creations); }

static void target_add(struct creation *c, uint64_t user, struct slice id)
{
    if (c->num_targets == c->cap_targets) {
        c->cap_targets = c->cap_targets ? c->cap_targets * 2 : 8;
        c->targets = realloc(c->targets, c->cap_targets * sizeof *c->targets);
        ASSERT(c->targets != NULL);
    }
    c->targets[c->num_targets++] = (struct target){.user = user, .id = id};
}

static void creation_free(struct creation *c)
{
    free(c->targets);
    buf_free(&c->room_ids);
    buf_free(&c->topic_ids);
    buf_free(&c->found);
    rows_free(&c->rows);
    free(c);
}

static void submit(struct core *core, struct creation *c, void (*run)(struct read_job *job, struct kv *kv),
                   void (*done)(void *context, struct read_job *job))
{
    c->job = (struct read_job){.return_core = (uint16_t)core->id, .run = run, .done = done};
    read_submit(core->reader, &c->job);
}

static void create_fail(struct core *core, struct creation *c, enum error_code code, const char *detail,
                        const char *field)
{
    op_fail(c->op, code, detail, field);
    create_end(core, c);
}

void notify_on_create(struct core *core, struct op *op)
{
    if (!room_may_write(core, op)) {
        op_return(core, op);
        return;
    }
    uint64_t hash = hash_bytes(&core->gateway->hash_key, op->client_id) ^ op->user;
    struct creation *open = op->client_id.len ? map_find(&core->notify->creations, hash, creation_eq, op) : NULL;
    if (open) {
        queue_push(&open->waiting, &op->mail.node);
        return;
    }
    struct creation *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    *c = (struct creation){.turn = {.begin = create_begin}, .op = op, .hash = hash};
    c->tenant = outbox_tenant(core, op->tenant);
    c->number = gateway_number(core->gateway);
    c->expires_ms = op->now_ms + core->gateway->config->notify_expires;
    if (op->client_id.len) map_insert(&core->notify->creations, hash, c);
    if (outbox_turn(core, c->tenant, &c->turn) == STATUS_OK) return;
    if (op->client_id.len) ASSERT(map_remove(&core->notify->creations, hash, c));
    creation_free(c);
    op_fail(op, ERR_SERVER_OVERLOADED, "Too many notifications of this tenant are being made", NULL);
    op_return(core, op);
}

/* --- an answer given before -------------------------------------------------------------------------------------- */

static void repeat_run(struct read_job *job, struct kv *kv)
{
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    struct key key;
    key_answer(&key, c->op->tenant, c->op->user, c->op->client_id);
    c->status = kv_get(kv, KV_IDEMPOTENCY, key_slice(&key), &c->found);
}

/* repeat_read: the first try's answer must be durable before it is given again. */
static void repeat_read(void *context, struct read_job *job)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    if (c->status == STATUS_OK) core_when_durable(core, &c->wait, create_repeat);
    else if (c->status == STATUS_NOT_FOUND) targets_find(core, c);
    else create_fail(core, c, ERR_STORE_READ_FAILED, NULL, NULL);
}

static void create_repeat(struct core *core, struct durable_wait *w, bool durable)
{
    struct creation *c = CONTAINER_OF(w, struct creation, wait);
    struct op *op = c->op;
    struct answer_record record;
    if (!durable) {
        op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
    } else if (answer_record_decode(&record, buf_slice(&c->found)) != STATUS_OK) {
        op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
    } else if (record.payload_hash != op->payload_hash) {
        op_fail(op, ERR_IDEMPOTENCY_MISMATCH, NULL, "Idempotency-Key");
    } else {
        op->http_status = record.http_status;
        buf_slice_append(&op->out, record.answer);
        core->idempotency.hits++;
    }
    create_end(core, c);
}

static void create_begin(struct core *core, struct turn *turn, enum status status)
{
    struct creation *c = CONTAINER_OF(turn, struct creation, turn);
    c->working = status == STATUS_OK;
    c->room_ids = c->op->out;
    c->op->out = (struct buf){0};
    if (!c->working) create_fail(core, c, ERR_STORE_READ_FAILED, NULL, NULL);
    else if (!room_may_write(core, c->op)) create_end(core, c);
    else if (c->op->client_id.len) submit(core, c, repeat_run, repeat_read);
    else targets_find(core, c);
}

/* --- to whom ----------------------------------------------------------------------------------------------------- */

static int target_order(const void *a, const void *b)
{
    uint64_t x = ((const struct target *)a)->user, y = ((const struct target *)b)->user;
    return (x > y) - (x < y);
}

/* targets_settle leaves each user once. */
static void targets_settle(struct creation *c)
{
    uint32_t kept = 0;
    if (c->num_targets) qsort(c->targets, c->num_targets, sizeof *c->targets, target_order);
    for (uint32_t i = 0; i < c->num_targets; i++)
        if (kept == 0 || c->targets[kept - 1].user != c->targets[i].user) c->targets[kept++] = c->targets[i];
    c->num_targets = kept;
}

/* subscribers_read copies a slice of the topic's users: the iterator's bytes go. */
static enum status subscribers_read(struct creation *c, struct kv *kv)
{
    struct key from, prefix, end;
    key_topic(&prefix, c->op->tenant, c->op->in.notify.topic);
    key_prefix_end(&end, key_slice(&prefix));
    key_subscriber(&from, c->op->tenant, c->op->in.notify.topic, c->next);
    struct kv_iter *i = kv_iter_open(kv, KV_SUBSCRIPTIONS, key_slice(&from), key_slice(&end));
    enum status s = STATUS_OK;
    uint32_t num = 0;
    c->more = false;
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i), num++) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix.len);
        struct subscription_record r;
        uint64_t user;
        s = key_parse_u64(&rest, &user) ? subscription_record_decode(&r, kv_iter_value(kv, i)) : STATUS_CORRUPT;
        c->more = s == STATUS_OK && num == CREATION_SLICE;
        if (c->more) c->next = user;
        if (c->more || s != STATUS_OK) break;
        uint8_t len = (uint8_t)r.user_id.len;
        buf_append(&c->topic_ids, &user, 8);
        buf_append(&c->topic_ids, &len, 1);
        buf_slice_append(&c->topic_ids, r.user_id);
        c->num_found++;
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

static void subscribers_add(struct creation *c)
{
    for (struct slice at = buf_slice(&c->topic_ids); at.len;) {
        uint64_t user;
        uint8_t len = (uint8_t)at.data[8];
        memcpy(&user, at.data, 8);
        target_add(c, user, slice_of(at.data + 9, len));
        at = slice_from(at, 9u + len);
    }
}

static void targets_run(struct read_job *job, struct kv *kv)
{
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    c->status = STATUS_OK;
    if (c->op->in.notify.subscribers) c->status = subscribers_read(c, kv);
    if (c->status != STATUS_OK || c->more) return;
    subscribers_add(c);
    targets_settle(c);
}

static void targets_read(void *context, struct read_job *job)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    if (c->status != STATUS_OK) create_fail(core, c, ERR_STORE_READ_FAILED, NULL, NULL);
    else if (c->more && !outbox_has_room(core, c->tenant, c->num_found))
        create_fail(core, c, ERR_OUTBOX_FULL, NULL, NULL);
    else if (c->more && c->num_found <= NOTIFY_TARGETS_MAX) submit(core, c, targets_run, targets_read);
    else if (c->more) create_fail(core, c, ERR_TOO_MANY_ITEMS, "A notification goes to 10000 users at most", "targets");
    else targets_settled(core, c);
}

/* targets_find: a room's members are all different, and so many must find room at least. Few are put in order here,
 * many by a reader. */
static void targets_find(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    uint64_t least = op->num_members > NOTIFY_USERS_MAX ? op->num_members - NOTIFY_USERS_MAX : op->num_members > 0;
    if (!outbox_has_room(core, c->tenant, least)) {
        create_fail(core, c, ERR_OUTBOX_FULL, NULL, NULL);
        return;
    }
    for (uint32_t i = 0; i < op->num_members; i++) target_add(c, op->members[i].user, op->members[i].user_id);
    if (op->in.notify.subscribers || c->num_targets > CREATION_SLICE) {
        submit(core, c, targets_run, targets_read);
        return;
    }
    targets_settle(c);
    targets_settled(core, c);
}

static void targets_settled(struct core *core, struct creation *c)
{
    if (c->num_targets > NOTIFY_TARGETS_MAX) {
        create_fail(core, c, ERR_TOO_MANY_ITEMS, "A notification goes to 10000 users at most", "targets");
    } else if (!outbox_has_room(core, c->tenant, c->num_targets)) {
        create_fail(core, c, ERR_OUTBOX_FULL, NULL, NULL);
    } else {
        c->tenant->waiting += c->num_targets;
        rows_make(core, c);
    }
}

/* --- the rows ---------------------------------------------------------------------------------------------------- */

static void target_rows(struct creation *c, const struct target *t)
{
    const struct op *op = c->op;
    struct key key;
    struct notification_record body = {.tenant = op->tenant,
                                       .user = t->user,
                                       .number = c->number,
                                       .priority = op->in.notify.priority,
                                       .created_ms = op->now_ms,
                                       .user_id = t->id,
                                       .topic = op->in.notify.topic,
                                       .payload = op->in.notify.payload};
    key_notification(&key, op->tenant, t->user, c->number, NOTIFICATION_BODY);
    notification_record_encode(rows_put(&c->rows, KV_NOTIFICATIONS, &key), &body);
    if (!t->full) {
        struct outbox_record r = {.priority = body.priority,
                                  .created_ms = op->now_ms,
                                  .expires_ms = c->expires_ms,
                                  .user_id = t->id};
        key_outbox(&key, op->tenant, t->user, c->number);
        outbox_record_encode(rows_put(&c->rows, KV_OUTBOX, &key), &r);
        return;
    }
    struct notification_end_record end = {.state = NOTIFICATION_DEAD, .reason = DEAD_FULL, .ended_ms = op->now_ms};
    struct dead_letter_record letter = {.priority = body.priority,
                                        .reason = DEAD_FULL,
                                        .created_ms = op->now_ms,
                                        .ended_ms = op->now_ms,
                                        .user_id = t->id};
    key_notification(&key, op->tenant, t->user, c->number, NOTIFICATION_END);
    notification_end_record_encode(rows_put(&c->rows, KV_NOTIFICATIONS, &key), &end);
    key_dead_letter(&key, op->tenant, c->number, t->user);
    dead_letter_record_encode(rows_put(&c->rows, KV_DEAD_LETTERS, &key), &letter);
}

static void answer_json(struct creation *c)
{
    struct op *op = c->op;
    char id[ID_TEXT_LEN], time[TIME_TEXT_LEN];
    notification_id_text(id, c->number);
    time_text(time, op->now_ms);
    op->http_status = 202;
    buf_printf(&op->out, "{\"notification_id\":\"%.*s\",\"created_at\":\"%.*s\",\"users\":%u}", (int)ID_TEXT_LEN, id,
               (int)TIME_TEXT_LEN, time, c->num_targets);
}

static void rows_run(struct read_job *job, struct kv *kv)
{
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    (void)kv; /* a reader only because copying takes its time */
    c->status = STATUS_OK;
    for (; c->num_made < c->num_reserved && c->status == STATUS_OK; c->num_made++) {
        target_rows(c, &c->targets[c->num_made]);
        if (c->rows.bytes.len > NOTIFY_BYTES_MAX) c->status = STATUS_FULL;
    }
}

static void rows_made(void *context, struct read_job *job)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    if (c->status != STATUS_OK) create_fail(core, c, ERR_NOTIFICATION_TOO_LARGE, NULL, "payload");
    else if (c->num_made < c->num_targets) rows_make(core, c);
    else create_commit(core, c);
}

/* rows_make takes the next slice: places for its users, then their rows. */
static void rows_make(struct core *core, struct creation *c)
{
    uint32_t bytes = (uint32_t)c->op->in.notify.payload.len + TOPIC_BYTES_MAX;
    uint32_t num = CREATION_SLICE_BYTES / bytes < CREATION_SLICE ? CREATION_SLICE_BYTES / bytes : CREATION_SLICE;
    for (uint32_t i = 0; i < num && c->num_reserved < c->num_targets; i++) {
        struct target *t = &c->targets[c->num_reserved++];
        t->full = !outbox_reserve(core, c->tenant, t->user, c->number);
        c->tenant->waiting -= t->full;
    }
    submit(core, c, rows_run, rows_made);
}

/* places_return: nothing was made. */
static void places_return(struct core *core, struct creation *c)
{
    c->tenant->waiting -= c->num_targets;
    for (uint32_t i = 0; i < c->num_reserved; i++) {
        c->tenant->waiting += c->targets[i].full;
        if (!c->targets[i].full) ASSERT(outbox_release(core, c->tenant, c->targets[i].user, c->number));
    }
}

static void create_done(void *context, struct commit_entry *entry, enum status result);

static void create_commit(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct key key;
    struct buf number = {0};
    answer_json(c);
    if (op->client_id.len) {
        struct answer_record answer = {.payload_hash = op->payload_hash,
                                       .created_ms = op->now_ms,
                                       .http_status = op->http_status,
                                       .answer = buf_slice(&op->out)};
        key_answer(&key, op->tenant, op->user, op->client_id);
        answer_record_encode(rows_put(&c->rows, KV_IDEMPOTENCY, &key), &answer);
    }
    number_row(core, &key, &number, c->number);
    buf_slice_append(rows_put(&c->rows, KV_META, &key), buf_slice(&number));
    buf_free(&number);
    rows_finish(&c->rows);
    c->entry = (struct commit_entry){.class = PLANTED(notified_before_sync) ? COMMIT_FAST : COMMIT_FSYNC,
                                     .rows = c->rows.rows,
                                     .num_rows = (uint16_t)c->rows.num,
                                     .done = create_done};
    enum status s = commit_push(core->commit, &c->entry);
    if (s != STATUS_OK) {
        create_fail(core, c, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY, NULL, NULL);
        return;
    }
    core->pending_bytes += c->rows.bytes.len;
    atomic_store_explicit(&core->gateway->notifications, true, memory_order_relaxed);
    c->working = false;
    outbox_worked(core, c->tenant);
}

static void create_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(entry, struct creation, entry);
    struct op *op = c->op;
    struct notified new = {.created_ms = op->now_ms, .expires_ms = c->expires_ms, .priority = op->in.notify.priority};
    uint64_t num_full = 0;
    core->pending_bytes -= c->rows.bytes.len;
    if (result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
    for (uint32_t i = 0; i < c->num_targets && result == STATUS_OK; i++) {
        const struct target *t = &c->targets[i];
        num_full += t->full;
        if (!t->full)
            notice_post(core, gateway_user_home(core->gateway, op->tenant, t->id),
                        notice_new(core, NOTICE_NOTIFIED, op->tenant, t->user, t->id, 0, c->number,
                                   slice_of((const char *)&new, sizeof new)));
    }
    notify_count(core, SENT_DEAD, num_full);
    create_end(core, c);
}

/* create_end answers; those who waited for the same key find what was kept, or try for themselves. */
static void create_end(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct queue waiting = c->waiting;
    struct outbox_tenant *tenant = c->tenant;
    bool working = c->working;
    if (op_failed(op) && c->num_reserved) places_return(core, c);
    if (op->client_id.len) ASSERT(map_remove(&core->notify->creations, c->hash, c));
    creation_free(c);
    op_return(core, op);
    outbox_end(tenant);
    while (waiting.len) notify_on_create(core, CONTAINER_OF(queue_pop(&waiting), struct op, mail.node));
    if (working) outbox_worked(core, tenant);
}
