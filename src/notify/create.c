/* create: POST /notify at its tenant's home. A reader does the work: it looks for a repeat, counts what waits already,
 * collects the users and makes all rows; they become durable in one entry, all or nothing. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../chat/ids.h"
#include "../chat/room.h"
#include "notify.h"
#include "rows.h"

struct target {
    uint64_t user;
    struct slice id;
    bool full; /* as many wait for this user as may: a dead letter at once */
};

struct creation {
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
    /* what the reader found */
    enum status status;     /* EXISTS: `found` is the answer of the first try; FULL: too many users; INVALID: too much */
    struct buf found;
    uint64_t counted;       /* rows in the tenant's outbox, when `counts` */
    bool counts;
    uint64_t made_before, on_the_way_before;
    struct rows rows;
};

static void create_run(struct read_job *job, struct kv *kv);
static void create_read(void *context, struct read_job *job);
static void unpark(struct core *core);
static void create_settled(struct core *core, struct durable_wait *w, bool durable);
static void create_commit(struct core *core, struct creation *c);
static void create_end(struct core *core, struct creation *c);

static bool creation_eq(const void *value, const void *key)
{
    const struct creation *c = value;
    const struct op *op = key;
    return c->op->tenant == op->tenant && c->op->user == op->user && slice_eq(c->op->client_id, op->client_id);
}

static bool tenant_eq(const void *value, const void *key)
{
    return ((const struct outbox_tenant *)value)->tenant == *(const uint32_t *)key;
}

static struct outbox_tenant *tenant_get(struct core *core, uint32_t number)
{
    struct outbox_tenant *t = map_find(&core->notify->tenants, hash_u64(number), tenant_eq, &number);
    if (t) return t;
    t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->tenant = number;
    map_insert(&core->notify->tenants, hash_u64(number), t);
    return t;
}

void creations_free(struct core *core)
{
    uint32_t at = 0;
    for (struct outbox_tenant *t; (t = map_next(&core->notify->tenants, &at));) free(t);
    map_free(&core->notify->tenants);
    map_free(&core->notify->creations);
    while (core->notify->parked.len) op_free(CONTAINER_OF(queue_pop(&core->notify->parked), struct op, mail.node));
}

static void target_add(struct creation *c, uint64_t user, struct slice id)
{
    if (c->num_targets == c->cap_targets) {
        c->cap_targets = c->cap_targets ? c->cap_targets * 2 : 8;
        c->targets = realloc(c->targets, c->cap_targets * sizeof *c->targets);
        ASSERT(c->targets != NULL);
    }
    c->targets[c->num_targets++] = (struct target){.user = user, .id = id};
}

void notify_on_create(struct core *core, struct op *op)
{
    if (!room_may_write(core, op)) {
        op_return(core, op);
        return;
    }
    if (core->notify->creations_read >= CREATIONS_READ_MAX) { /* each may come back with NOTIFY_BYTES_MAX of rows */
        queue_push(&core->notify->parked, &op->mail.node);
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
    c->op = op;
    c->hash = hash;
    c->tenant = tenant_get(core, op->tenant);
    c->number = gateway_number(core->gateway);
    c->expires_ms = op->now_ms + core->gateway->config->notify_expires;
    c->room_ids = op->out;
    op->out = (struct buf){0};
    for (uint32_t i = 0; i < op->num_members; i++) target_add(c, op->members[i].user, op->members[i].user_id);
    bool seems_full = c->tenant->waiting + c->num_targets > PENDING_TENANT_MAX &&
                      core->now_ns - c->tenant->counted_ns > PENDING_COUNT_MS * 1000000ull;
    c->counts = !c->tenant->counted || seems_full;
    c->made_before = c->tenant->made;
    c->on_the_way_before = c->tenant->on_the_way;
    if (op->client_id.len) map_insert(&core->notify->creations, hash, c);
    c->job = (struct read_job){.return_core = (uint16_t)core->id, .run = create_run, .done = create_read};
    core->notify->creations_read++;
    read_submit(core->reader, &c->job);
}

/* --- on a reader --------------------------------------------------------------------------------------------------------- */

/* count_rows counts the rows under a prefix, up to `max`. */
static enum status count_rows(struct kv *kv, enum kv_cf cf, const struct key *prefix, uint64_t max, uint64_t *num)
{
    struct key end;
    key_prefix_end(&end, key_slice(prefix));
    struct kv_iter *i = kv_iter_open(kv, cf, key_slice(prefix), key_slice(&end));
    *num = 0;
    for (bool on = kv_iter_first(kv, i); on && *num < max; on = kv_iter_next(kv, i)) ++*num;
    return kv_iter_close(kv, i);
}

/* read_subscribers adds the topic's users; they are copied, because the iterator's bytes go. */
static enum status read_subscribers(struct creation *c, struct kv *kv)
{
    struct key prefix, end;
    key_topic(&prefix, c->op->tenant, c->op->in.notify.topic);
    key_prefix_end(&end, key_slice(&prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_SUBSCRIPTIONS, key_slice(&prefix), key_slice(&end));
    enum status s = STATUS_OK;
    uint32_t num = 0;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK && num <= NOTIFY_TARGETS_MAX; on = kv_iter_next(kv, i), num++) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix.len);
        struct subscription_record r;
        uint64_t user;
        s = key_parse_u64(&rest, &user) ? subscription_record_decode(&r, kv_iter_value(kv, i)) : STATUS_CORRUPT;
        if (s != STATUS_OK) break;
        uint8_t len = (uint8_t)r.user_id.len;
        buf_append(&c->topic_ids, &user, 8);
        buf_append(&c->topic_ids, &len, 1);
        buf_slice_append(&c->topic_ids, r.user_id);
    }
    enum status closed = kv_iter_close(kv, i);
    for (struct slice at = buf_slice(&c->topic_ids); at.len;) {
        uint64_t user;
        uint8_t len = (uint8_t)at.data[8];
        memcpy(&user, at.data, 8);
        target_add(c, user, slice_of(at.data + 9, len));
        at = slice_from(at, 9u + len);
    }
    return s == STATUS_OK ? closed : s;
}

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

static enum status make_rows(struct creation *c, struct kv *kv)
{
    struct op *op = c->op;
    struct key key;
    enum status s = STATUS_OK;
    for (uint32_t i = 0; i < c->num_targets && s == STATUS_OK; i++) {
        uint64_t num;
        key_user(&key, op->tenant, c->targets[i].user);
        s = count_rows(kv, KV_OUTBOX, &key, PENDING_USER_MAX, &num);
        c->targets[i].full = num >= PENDING_USER_MAX;
        target_rows(c, &c->targets[i]);
        if (c->rows.bytes.len > NOTIFY_BYTES_MAX) return STATUS_INVALID;
    }
    return s;
}

static void create_run(struct read_job *job, struct kv *kv)
{
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    struct op *op = c->op;
    struct key key;
    c->status = STATUS_NOT_FOUND;
    if (op->client_id.len) {
        key_answer(&key, op->tenant, op->user, op->client_id);
        c->status = kv_get(kv, KV_IDEMPOTENCY, key_slice(&key), &c->found);
    }
    if (c->status != STATUS_NOT_FOUND) {
        if (c->status == STATUS_OK) c->status = STATUS_EXISTS;
        return;
    }
    c->status = op->in.notify.subscribers ? read_subscribers(c, kv) : STATUS_OK;
    targets_settle(c);
    if (c->status == STATUS_OK && c->num_targets > NOTIFY_TARGETS_MAX) c->status = STATUS_FULL;
    key_tenant(&key, op->tenant);
    if (c->status == STATUS_OK && c->counts) c->status = count_rows(kv, KV_OUTBOX, &key, PENDING_TENANT_MAX, &c->counted);
    if (c->status == STATUS_OK) c->status = make_rows(c, kv);
}

/* --- back at the home ------------------------------------------------------------------------------------------------------ */

/* create_read: only the first try's answer must be durable before it is given again; all else that was read here decides
 * nothing that anybody is told. */
static void create_read(void *context, struct read_job *job)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    core->notify->creations_read--;
    if (c->status == STATUS_EXISTS) core_when_durable(core, &c->wait, create_settled);
    else create_settled(core, &c->wait, true);
    unpark(core);
}

/* unpark lets those in front of the readers try, in order: one that joins the first try of its key needs no reader. */
static void unpark(struct core *core)
{
    struct notify *n = core->notify;
    while (n->parked.len && n->creations_read < CREATIONS_READ_MAX)
        notify_on_create(core, CONTAINER_OF(queue_pop(&n->parked), struct op, mail.node));
}

static void create_repeat(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct answer_record record;
    if (answer_record_decode(&record, buf_slice(&c->found)) != STATUS_OK) {
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

static void tenant_counted(struct core *core, struct creation *c)
{
    struct outbox_tenant *t = c->tenant;
    if (!c->counts) return;
    t->counted = true;
    t->counted_ns = core->now_ns;
    t->waiting = c->counted + c->on_the_way_before + (t->made - c->made_before);
}

static void create_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct creation *c = CONTAINER_OF(w, struct creation, wait);
    struct op *op = c->op;
    if (!durable) c->status = STATUS_READ_ONLY;
    switch (c->status) {
    case STATUS_OK:
        tenant_counted(core, c);
        if (c->tenant->waiting + c->num_targets > PENDING_TENANT_MAX) {
            op_fail(op, ERR_OUTBOX_FULL, NULL, NULL);
        } else if (room_may_write(core, op)) { /* others may have filled the pipeline meanwhile */
            create_commit(core, c);
            return;
        }
        break;
    case STATUS_EXISTS: create_repeat(core, c); return;
    case STATUS_FULL: op_fail(op, ERR_TOO_MANY_ITEMS, "A notification goes to 10000 users at most", "targets"); break;
    case STATUS_INVALID: op_fail(op, ERR_NOTIFICATION_TOO_LARGE, NULL, "payload"); break;
    case STATUS_READ_ONLY: op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL); break;
    default: op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL); break;
    }
    create_end(core, c);
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
    c->entry = (struct commit_entry){
        .class = COMMIT_FSYNC, .rows = c->rows.rows, .num_rows = (uint16_t)c->rows.num, .done = create_done};
    enum status s = commit_push(core->commit, &c->entry);
    if (s != STATUS_OK) {
        op_fail(op, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY, NULL, NULL);
        create_end(core, c);
        return;
    }
    core->pending_bytes += c->rows.bytes.len;
    c->tenant->made += c->num_targets;
    c->tenant->waiting += c->num_targets;
    c->tenant->on_the_way += c->num_targets;
    atomic_store_explicit(&core->gateway->notifications, true, memory_order_relaxed);
}

static void create_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(entry, struct creation, entry);
    struct op *op = c->op;
    uint64_t num_full = 0;
    core->pending_bytes -= c->rows.bytes.len;
    c->tenant->on_the_way -= c->num_targets;
    if (result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
    for (uint32_t i = 0; i < c->num_targets && result == STATUS_OK; i++) {
        const struct target *t = &c->targets[i];
        num_full += t->full;
        if (!t->full)
            notice_post(core, gateway_user_home(core->gateway, op->tenant, t->id),
                        notice_new(core, NOTICE_NOTIFIED, op->tenant, t->user, t->id, 0, 0, (struct slice){0}));
    }
    notify_count(core, SENT_DEAD, num_full);
    create_end(core, c);
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

/* create_end answers; those who waited for the same key find what was kept, or try for themselves. */
static void create_end(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct queue waiting = c->waiting;
    if (op->client_id.len) ASSERT(map_remove(&core->notify->creations, c->hash, c));
    creation_free(c);
    op_return(core, op);
    while (waiting.len) notify_on_create(core, CONTAINER_OF(queue_pop(&waiting), struct op, mail.node));
}
