/* room_append: what becomes an event of a room's log: messages, joins, leaves, changes.
 *
 * One shape for all: check; give the next seq; encode the record; push the commit entry. Nothing is answered or shown
 * before event_done. */
#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../base/probe.h"
#include "../core/notice.h"
#include "event.h"
#include "fanout.h"
#include "ids.h"
#include "room.h"
#include "typing.h"

static void append_message(struct core *core, struct room *r, struct op *op);
static void event_done(void *context, struct commit_entry *entry, enum status result);
static void event_failed(struct core *core, struct event *e, enum status result);
static void repeat_lookup(struct core *core, struct room *r, struct op *op, struct seq_range where);

/* --- may it be written at all ------------------------------------------------------------------------------------- */

bool room_may_shrink(struct core *core, struct op *op)
{
    if (commit_poisoned(core->gateway->commit)) return op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
    if (commit_full(core->commit)) return op_fail(op, ERR_STORE_OVERLOADED, NULL, NULL);
    return true;
}

bool room_may_write(struct core *core, struct op *op)
{
    if (!room_may_shrink(core, op)) return false;
    if (atomic_load_explicit(&core->gateway->disk, memory_order_relaxed) != DISK_OK)
        return op_fail(op, ERR_STORE_DISK_FULL, NULL, NULL);
    if (core->commit_late || core->pending_bytes > core->pending_bytes_max)
        return op_fail(op, ERR_STORE_OVERLOADED, NULL, NULL);
    if (atomic_load_explicit(&core->frames_bytes, memory_order_relaxed) > (int64_t)core->frames_bytes_max)
        return op_fail(op, ERR_SERVER_OVERLOADED, "Too many bytes wait for slow readers", NULL);
    return true;
}

/* refuse answers an op that failed a check. */
static void refuse(struct core *core, struct op *op)
{
    ASSERT(op_failed(op));
    op_return(core, op);
}

static bool room_hidden(const struct room *r) { return r->record.type == ROOM_DM || (r->record.flags & ROOM_PRIVATE); }

static struct member *acting_member(struct room *r, struct op *op)
{
    struct member *m = room_member(r, op->user);
    if (!m) op_fail(op, room_hidden(r) ? ERR_ROOM_NOT_FOUND : ERR_ROOM_NOT_MEMBER, NULL, NULL);
    return m;
}

static bool acting_admin(struct room *r, struct op *op)
{
    struct member *m = acting_member(r, op);
    if (!m) return false;
    if (r->record.type == ROOM_DM) return op_fail(op, ERR_ROOM_DM_FIXED, NULL, NULL);
    return m->role == MEMBER_ADMIN || op_fail(op, ERR_ROOM_NOT_ADMIN, NULL, NULL);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static bool message_allowed(struct core *core, struct room *r, struct op *op)
{
    struct member *m = acting_member(r, op);
    if (!m) return false;
    if (r->record.type == ROOM_CHANNEL && m->role != MEMBER_ADMIN) return op_fail(op, ERR_ROOM_READ_ONLY, NULL, NULL);
    if (op->in.send.reply_to > r->head) return op_fail(op, ERR_REPLY_NOT_FOUND, NULL, "reply_to");
    return room_may_write(core, op);
}

/* first_send: what the first of several sends with one client id was answered. */
struct first_send {
    uint64_t seq, payload_hash, created_ms;
    bool fast;
};

/* answer_repeat answers a send that was appended before, with the first one's seq. In a store that has failed, what
 * lies behind the durable head was never acknowledged, and may not outlive a restart. */
static void answer_repeat(struct core *core, const struct room *r, struct op *op, const struct first_send *first)
{
    if (first->payload_hash != op->payload_hash) {
        op_fail(op, ERR_IDEMPOTENCY_MISMATCH, NULL, "client_id");
    } else if (first->seq > r->durable_head && !PLANTED(undurable_repeat)) {
        op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
    } else {
        op->seq = first->seq;
        op->created_ms = first->created_ms;
        op->fast = first->fast;
        op->http_status = 201;
        core->idempotency.hits++;
    }
    op_return(core, op);
}

static void append_allowed(struct core *core, struct room *r, struct op *op)
{
    if (message_allowed(core, r, op)) append_message(core, r, op);
    else refuse(core, op);
}

/* room_send looks for a repeat before it asks what is allowed now: who sent before gets that answer, even when it has
 * left meanwhile, or when the disk takes nothing new. */
void room_send(struct core *core, struct room *r, struct op *op)
{
    if (op->client_id.len == 0) {
        append_allowed(core, r, op);
        return;
    }
    op->payload_hash = payload_hash(&core->gateway->fingerprint_key, op->in.send.content, op->in.send.meta,
                                    op->in.send.message_type, op->in.send.reply_to);
    uint64_t print = fingerprint_of(&core->gateway->fingerprint_key, op->user, op->client_id);
    struct seq_range where;
    struct idempotency_entry *known =
        idempotency_find(&core->idempotency, r->tenant, r->number, op->user, op->client_id);
    if (known && known->event && known->payload_hash == op->payload_hash && !PLANTED(undurable_repeat)) {
        queue_push(&known->event->repeats, &op->mail.node); /* both get their answer once it is durable */
    } else if (known) {
        const struct first_send first = {known->seq, known->payload_hash, known->created_ms, known->fast};
        answer_repeat(core, r, op, &first);
    } else if (room_keys_maybe(&r->keys, print, &where)) {
        repeat_lookup(core, r, op, where);
    } else {
        append_allowed(core, r, op);
    }
}

/* --- events ------------------------------------------------------------------------------------------------------ */

bool room_fast(const struct core *core, const struct room *r)
{
    uint8_t durability = r->record.durability;
    if (durability == 0) {
        struct tenant *t = directory_tenant(&core->directory, r->tenant);
        durability = t ? t->durability : 0;
    }
    if (durability == 0) return core->gateway->config->durability == CONFIG_DURABILITY_FAST;
    return durability == 2;
}

static enum commit_class room_class(const struct core *core, const struct room *r)
{
    /* a fast event behind one that waits for its fsync would overtake it: it waits as well */
    return room_fast(core, r) && r->fsync_pending_seq <= r->durable_head ? COMMIT_FAST : COMMIT_FSYNC;
}

/* event_new gives the room's next seq to `record`, settles its class, and encodes it. */
static struct event *event_new(struct core *core, struct room *r, struct log_record *record, struct op *op)
{
    record->tenant = r->tenant;
    record->room = r->number;
    record->seq = r->head + 1;
    record->created_ms = op->now_ms > r->last_ms || PLANTED(time_goes_back) ? op->now_ms : r->last_ms;
    enum commit_class class = room_class(core, r);
    if (class == COMMIT_FAST) record->flags |= LOG_FAST;
    size_t len = log_record_len(record);
    struct event *e = malloc(sizeof *e + len);
    ASSERT(e != NULL);
    memset(e, 0, sizeof *e);
    e->entry.class = class;
    e->room = r;
    e->op = op;
    e->seq = record->seq;
    e->record_len = (uint32_t)len;
    ASSERT(log_record_encode_to(e->record, record) == e->record + len);
    key_log(&e->log_key, r->tenant, r->number, e->seq);
    e->rows[0] = (struct commit_row){COMMIT_PUT, KV_LOG, key_slice(&e->log_key), event_record(e)};
    op->seq = e->seq;
    op->created_ms = record->created_ms;
    r->head = e->seq;
    r->last_ms = record->created_ms;
    return e;
}

/* event_epoch adds the room's row when this is its first event in this epoch: (epoch, first seq). */
static uint16_t event_epoch(struct core *core, struct room *r, struct event *e)
{
    struct room_record *rec = &r->record;
    uint64_t epoch = core->gateway->epoch;
    if (rec->num_epochs && rec->epochs[rec->num_epochs - 1].epoch >= epoch) return 1;
    if (rec->num_epochs == ROOM_EPOCHS_MAX) {
        memmove(rec->epochs, rec->epochs + 1, (ROOM_EPOCHS_MAX - 1) * sizeof rec->epochs[0]);
        rec->num_epochs--;
    }
    rec->epochs[rec->num_epochs++] = (struct room_epoch){epoch, e->seq};
    room_record_encode(&e->room_row, rec);
    key_room(&e->room_key, r->tenant, r->number);
    e->rows[1] = (struct commit_row){COMMIT_PUT, KV_ROOMS, key_slice(&e->room_key), buf_slice(&e->room_row)};
    return 2;
}

static uint32_t asker(const struct op *op) { return op && op->conn.generation ? op->conn.slot : UINT32_MAX; }

static void event_push(struct core *core, struct room *r, struct event *e, const struct commit_row *rows,
                       uint16_t num_rows)
{
    e->entry = (struct commit_entry){.class = e->entry.class, .rows = rows, .num_rows = num_rows, .done = event_done};
    if (e->entry.class == COMMIT_FSYNC) r->fsync_pending_seq = e->seq;
    if (e->op) e->op->fast = e->entry.class == COMMIT_FAST;
    r->events_pending++;
    core->pending_bytes += e->record_len;
    core_count(core, METRIC_MESSAGES, e->op && e->op->kind == OP_ROOM_SEND);
    probe_commit(core->id, r->number, e->seq, e->record_len, e->op ? e->op->origin : core->id, asker(e->op));
    enum status s = commit_push(core->commit, &e->entry);
    ASSERT(s != STATUS_FULL); /* room_may_write looked at the bound in this turn */
    if (UNLIKELY(s != STATUS_OK)) event_failed(core, e, STATUS_IO); /* poisoned since that look */
}

static void run_push(struct core *core, struct room *r, uint64_t newest_ms);

static void append_message(struct core *core, struct room *r, struct op *op)
{
    struct log_record record = {.kind = LOG_MESSAGE,
                                .flags = op->in.send.reply_by_id ? LOG_REPLY_BY_ID : 0,
                                .sender = op->user,
                                .reply_to = op->in.send.reply_to,
                                .sender_id = op->user_id,
                                .client_id = op->client_id,
                                .message_type = op->in.send.message_type,
                                .content = op->in.send.content,
                                .meta = op->in.send.meta};
    struct event *e = event_new(core, r, &record, op);
    if (op->client_id.len) {
        e->window = idempotency_add(&core->idempotency, r->tenant, r->number, op->user, op->client_id, e->seq,
                                    op->payload_hash, record.created_ms);
        e->window->event = e;
        e->window->fast = e->entry.class == COMMIT_FAST;
        if (!PLANTED(window_lost_at_eviction))
            room_keys_add(&r->keys, fingerprint_of(&core->gateway->fingerprint_key, op->user, op->client_id), e->seq,
                      record.created_ms);
    }
    event_push(core, r, e, e->rows, event_epoch(core, r, e));
    if (UNLIKELY(r->num_typing)) typing_stop(core, r, record.sender);
    if (r->head - r->keys.run_from + 1 >= core->idempotency.run_events) run_push(core, r, record.created_ms);
}

/* --- done: durable, or failed ------------------------------------------------------------------------------------ */

static void event_free(struct event *e)
{
    buf_free(&e->room_row);
    buf_free(&e->extra_bytes);
    free(e->extra_rows);
    free(e->joined);
    free(e->left);
    free(e);
}

void event_release(struct event *e)
{
    e->room->events_pending--;
    event_free(e);
}

/* event_failed: the store is poisoned. The room keeps events_pending (and changes_pending) above zero for good, so it
 * is never evicted and loaded again from rows that may not be durable: its durable head stays frozen until a
 * restart. */
static void event_failed(struct core *core, struct event *e, enum status result)
{
    enum error_code code = store_error(result);
    core->pending_bytes -= e->record_len;
    if (e->op) {
        op_fail(e->op, code, NULL, NULL);
        op_return(core, e->op);
    }
    while (e->repeats.len && !PLANTED(failed_not_answered)) {
        struct op *op = CONTAINER_OF(queue_pop(&e->repeats), struct op, mail.node);
        op_fail(op, code, NULL, NULL);
        op_return(core, op);
    }
    /* the window keeps its entry without the event: the pipeline is poisoned, no send is taken any more */
    if (e->window) e->window->event = NULL;
    struct room *r = e->room;
    event_free(e);
    while (r->readers.len) {
        struct op *op = CONTAINER_OF(queue_pop(&r->readers), struct op, mail.node);
        op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
        op_return(core, op);
    }
}

/* told: whom a membership change concerns. */
struct told {
    struct op_member *joined, *left;
    uint32_t num_joined, num_left;
};

static void membership_done(struct core *core, struct room *r, uint64_t seq, struct told *t);

static void event_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct event *e = CONTAINER_OF(entry, struct event, entry);
    struct room *r = e->room;
    if (UNLIKELY(result != STATUS_OK)) {
        event_failed(core, e, result);
        return;
    }
    core->pending_bytes -= e->record_len;
    ASSERT(e->seq == r->durable_head + 1);
    r->durable_head = e->seq;
    probe_durable(core->id, r->number, e->seq);
    core_count(core, METRIC_EVENTS_DURABLE, 1);
    if (e->window) e->window->event = NULL;
    struct queue answers = e->repeats;
    struct op *op = e->op;
    uint64_t seq = e->seq;
    struct first_send first = {.seq = seq, .fast = entry->class == COMMIT_FAST};
    if (e->window) {
        first.payload_hash = e->window->payload_hash;
        first.created_ms = e->window->created_ms;
    }
    struct told told = {e->joined, e->left, e->num_joined, e->num_left};
    bool changed = e->extra_rows != NULL;
    e->joined = e->left = NULL;
    core->news_bytes += e->record_len;
    queue_push(&r->published, &e->node); /* from here on an answer may cause it to be published, and freed */
    if (!list_linked(&r->dirty)) list_push(&core->rooms_dirty, &r->dirty);
    if (op) {
        if (op->http_status == 0) op->http_status = 201;
        op_return(core, op);
    }
    while (answers.len) {
        op = CONTAINER_OF(queue_pop(&answers), struct op, mail.node);
        answer_repeat(core, r, op, &first);
    }
    if (UNLIKELY(changed)) membership_done(core, r, seq, &told);
}

/* --- a repeated client id that may lie behind the window --------------------------------------------------------- */

struct repeat_search {
    struct read_job job;
    struct room *room;
    struct op *op;
    struct seq_range where; /* the seqs that may hold it */
    const struct hash_key *key;
    enum status status;
    struct log_record row;
    struct buf bytes;
};

static void repeat_run(struct read_job *job, struct kv *kv)
{
    struct repeat_search *s = CONTAINER_OF(job, struct repeat_search, job);
    s->status = idempotency_search(&s->row, &s->bytes, kv, s->key, s->op->tenant, s->op->room, s->op->user,
                                   s->op->client_id, s->where);
}

static void repeat_found(struct core *core, struct repeat_search *s)
{
    struct op *op = s->op;
    if (s->status == STATUS_OK) {
        const struct log_record *row = &s->row;
        const struct first_send first = {
            row->seq, payload_hash(s->key, row->content, row->meta, row->message_type, row->reply_to), row->created_ms,
            (row->flags & LOG_FAST) != 0};
        answer_repeat(core, s->room, op, &first);
    } else if (s->status == STATUS_NOT_FOUND) {
        append_allowed(core, s->room, op);
    } else {
        op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
        op_return(core, op);
    }
}

static void repeat_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct repeat_search *s = CONTAINER_OF(job, struct repeat_search, job);
    struct room *r = s->room;
    ASSERT(r->state == ROOM_BLOCKED);
    repeat_found(core, s);
    buf_free(&s->bytes);
    free(s);
    room_unblock(core, r);
}

static void repeat_lookup(struct core *core, struct room *r, struct op *op, struct seq_range where)
{
    struct repeat_search *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    s->job = (struct read_job){.return_core = (uint16_t)core->id, .run = repeat_run, .done = repeat_done};
    s->room = r;
    s->op = op;
    s->where = where;
    s->key = &core->gateway->fingerprint_key;
    core->idempotency.lookups++;
    r->state = ROOM_BLOCKED;
    read_submit(core->reader, &s->job);
}

/* --- runs of idempotency keys ------------------------------------------------------------------------------------ */

struct key_run {
    struct commit_entry entry;
    struct commit_row row;
    struct key key;
    struct buf value;
};

static void run_done(void *context, struct commit_entry *entry, enum status result)
{
    struct key_run *run = CONTAINER_OF(entry, struct key_run, entry);
    buf_free(&run->value);
    free(run);
}

static void run_push(struct core *core, struct room *r, uint64_t newest_ms)
{
    struct room_keys *k = &r->keys;
    room_keys_drop_old(k, newest_ms);
    if (commit_full(core->commit)) return; /* the next message tries again */
    struct key_run *run = calloc(1, sizeof *run);
    ASSERT(run != NULL);
    key_idempotency_run(&run->key, r->tenant, r->number, k->run_from);
    k->num_open -= PLANTED(run_loses_last) && k->num_open;
    room_keys_encode(&run->value, k, r->head, newest_ms);
    run->row = (struct commit_row){COMMIT_PUT, KV_IDEMPOTENCY, key_slice(&run->key), buf_slice(&run->value)};
    run->entry = (struct commit_entry){.class = COMMIT_FSYNC, .rows = &run->row, .num_rows = 1, .done = run_done};
    if (commit_push(core->commit, &run->entry) != STATUS_OK) {
        run_done(core, &run->entry, STATUS_IO); /* poisoned: nothing is written any more */
        return;
    }
    room_keys_close(k, r->head);
}

/* --- membership -------------------------------------------------------------------------------------------------- */

/* change: an event that also writes membership rows, collected before it is pushed. */
struct change {
    struct buf bytes; /* keys and values, by offset until all are in */
    struct {
        uint8_t op, cf;
        size_t key_at, key_len, value_at, value_len;
    } *rows;
    uint16_t num_rows, cap_rows;
};

static void change_row(struct change *c, enum commit_row_op op, enum kv_cf cf, const struct key *key,
                       struct slice value)
{
    if (c->num_rows == c->cap_rows) {
        c->cap_rows = c->cap_rows ? (uint16_t)(c->cap_rows * 2) : 8;
        c->rows = realloc(c->rows, c->cap_rows * sizeof *c->rows);
        ASSERT(c->rows != NULL);
    }
    c->rows[c->num_rows].op = (uint8_t)op;
    c->rows[c->num_rows].cf = (uint8_t)cf;
    c->rows[c->num_rows].key_at = c->bytes.len;
    c->rows[c->num_rows].key_len = key->len;
    buf_append(&c->bytes, key->bytes, key->len);
    c->rows[c->num_rows].value_at = c->bytes.len;
    c->rows[c->num_rows].value_len = value.len;
    buf_slice_append(&c->bytes, value);
    c->num_rows++;
}

static void change_member_put(struct change *c, const struct room *r, uint64_t user, struct slice id, uint8_t role,
                              uint64_t seq, uint64_t ms)
{
    struct key key;
    struct buf value = {0};
    struct member_record m = {.role = role, .joined_seq = seq, .joined_ms = ms, .user_id = id};
    member_record_encode(&value, &m);
    key_member(&key, r->tenant, r->number, user);
    change_row(c, COMMIT_PUT, KV_MEMBERS, &key, buf_slice(&value));
    key_user_room(&key, r->tenant, user, r->number);
    change_row(c, COMMIT_PUT, KV_USER_ROOMS, &key, buf_slice(&value));
    buf_free(&value);
}

static void change_member_delete(struct change *c, const struct room *r, uint64_t user)
{
    struct key key;
    key_member(&key, r->tenant, r->number, user);
    change_row(c, COMMIT_DELETE, KV_MEMBERS, &key, (struct slice){0});
    key_user_room(&key, r->tenant, user, r->number);
    change_row(c, COMMIT_DELETE, KV_USER_ROOMS, &key, (struct slice){0});
}

/* change_push turns the collected rows, with the event's own, into one entry: all or nothing. */
static void change_push(struct core *core, struct room *r, struct event *e, struct change *c)
{
    if (e->op->client_id.len && !PLANTED(kept_answer_not_written)) { /* the answer goes to the disk with the change */
        struct key key;
        struct buf value = {0};
        room_repeat_row(e->op, &key, &value);
        change_row(c, COMMIT_PUT, KV_IDEMPOTENCY, &key, buf_slice(&value));
        buf_free(&value);
    }
    uint16_t own = event_epoch(core, r, e);
    e->extra_rows = malloc((size_t)(c->num_rows + own) * sizeof *e->extra_rows);
    ASSERT(e->extra_rows != NULL);
    memcpy(e->extra_rows, e->rows, own * sizeof e->rows[0]);
    e->extra_bytes = c->bytes;
    for (uint16_t i = 0; i < c->num_rows; i++)
        e->extra_rows[own + i] = (struct commit_row){
            c->rows[i].op, c->rows[i].cf, slice_of(e->extra_bytes.data + c->rows[i].key_at, c->rows[i].key_len),
            slice_of(e->extra_bytes.data + c->rows[i].value_at, c->rows[i].value_len)};
    free(c->rows);
    r->changes_pending++;
    event_push(core, r, e, e->extra_rows, (uint16_t)(own + c->num_rows));
}

static uint32_t members_bound(const struct core *core, const struct room *r)
{
    uint32_t bound = (uint32_t)CONFIG_NOW(core->gateway->config, limits_members_per_room);
    return r->record.members_max && r->record.members_max < bound ? r->record.members_max : bound;
}

/* users_body writes the event's own members: the ids, or, of those who join a large room, a count (its members would be
 * told of thousands otherwise). */
static void users_body(const struct core *core, const struct room *r, struct buf *body, const struct op_member *users,
                       uint32_t num, enum log_kind kind)
{
    if (kind == LOG_JOINED && room_large(core, r)) {
        buf_printf(body, "\"count\":%u", num);
        return;
    }
    BUF_LIT(body, "\"user_ids\":[");
    for (uint32_t i = 0; i < num; i++) {
        if (i) BUF_LIT(body, ",");
        buf_json_string(body, users[i].user_id);
    }
    BUF_LIT(body, "]");
}

static struct op_member *keep_members(const struct op_member *users, uint32_t num)
{
    size_t text = 0;
    for (uint32_t i = 0; i < num; i++) text += users[i].user_id.len;
    struct op_member *kept = malloc(num * sizeof *kept + text);
    ASSERT(kept != NULL);
    char *at = (char *)(kept + num);
    for (uint32_t i = 0; i < num; i++) {
        kept[i] = users[i];
        memcpy(at, users[i].user_id.data, users[i].user_id.len);
        kept[i].user_id.data = at;
        at += users[i].user_id.len;
    }
    return kept;
}

static struct event *membership_event(struct core *core, struct room *r, struct op *op, enum log_kind kind,
                                      const struct op_member *users, uint32_t num)
{
    struct buf body = {0};
    users_body(core, r, &body, users, num, kind);
    struct log_record record = {
        .kind = (uint8_t)kind, .sender = op->user, .sender_id = op->user_id, .content = buf_slice(&body)};
    struct event *e = event_new(core, r, &record, op);
    buf_free(&body);
    return e;
}

static void change_answer(struct op *op, uint64_t seq, uint32_t changed)
{
    op->http_status = 200;
    buf_printf(&op->out, "{\"success\":true,\"changed\":%u,\"seq\":", changed);
    if (seq) buf_u64(&op->out, seq);
    else BUF_LIT(&op->out, "null");
    BUF_LIT(&op->out, "}");
}

static void join_users(struct core *core, struct room *r, struct op *op, struct op_member *users, uint32_t num)
{
    if (r->members.len + num > members_bound(core, r)) {
        op_fail(op, ERR_ROOM_FULL, NULL, NULL);
        refuse(core, op);
        return;
    }
    if (op_members_full(users, num)) { /* nobody is passed over: all join, or none */
        op_fail(op, ERR_USER_ROOMS_FULL, NULL, op->kind == OP_ROOM_ADD ? "members" : NULL);
        refuse(core, op);
        return;
    }
    struct event *e = membership_event(core, r, op, LOG_JOINED, users, num);
    struct change c = {0};
    for (uint32_t i = 0; i < num; i++) {
        room_members_put(core, r, users[i].user, users[i].user_id, MEMBER_MEMBER, e->seq, op->created_ms);
        change_member_put(&c, r, users[i].user, users[i].user_id, MEMBER_MEMBER, e->seq, op->created_ms);
    }
    e->joined = keep_members(users, num);
    e->num_joined = num;
    change_answer(op, e->seq, num);
    change_push(core, r, e, &c);
}

void room_join(struct core *core, struct room *r, struct op *op)
{
    if (room_member(r, op->user)) {
        if (!room_settled(core, r, op)) return; /* "already in it" may rest on a join that is not durable yet */
        change_answer(op, 0, 0);
        room_answer_kept(core, op);
    } else if (room_hidden(r)) {
        op_fail(op, ERR_ROOM_NOT_FOUND, NULL, NULL);
        refuse(core, op);
    } else if (!room_may_write(core, op)) {
        refuse(core, op);
    } else {
        struct op_member self = {.user = op->user, .user_id = op->user_id, .rooms_full = op->rooms_full};
        join_users(core, r, op, &self, 1);
    }
}

static bool named_before(const struct op_member *users, uint32_t num, uint64_t user)
{
    for (uint32_t i = 0; i < num; i++)
        if (users[i].user == user) return true;
    return false;
}

void room_add(struct core *core, struct room *r, struct op *op)
{
    if (!acting_admin(r, op) || !room_may_write(core, op)) {
        refuse(core, op);
        return;
    }
    if (op->asks) {
        op_return(core, op);
        return;
    }
    uint32_t num = 0; /* those who are new move to the front */
    for (uint32_t i = 0; i < op->num_members; i++)
        if (!room_member(r, op->members[i].user) && !named_before(op->members, num, op->members[i].user))
            op->members[num++] = op->members[i];
    if (num == 0) {
        if (!room_settled(core, r, op)) return; /* like room_join */
        change_answer(op, 0, 0);
        room_answer_kept(core, op);
        return;
    }
    join_users(core, r, op, op->members, num);
}

/* heir: who becomes admin when the last one leaves: the member who has been there longest. */
static struct member *heir(const struct room *r)
{
    struct member *best = NULL;
    uint32_t at = 0;
    for (struct member *m; (m = map_next(&r->members, &at));)
        if (!best || m->joined_seq < best->joined_seq || (m->joined_seq == best->joined_seq && m->user < best->user))
            best = m;
    return best;
}

static void take_user(struct core *core, struct room *r, struct op *op, struct member *m)
{
    struct op_member gone = {.user = m->user, .user_id = slice_of(m->id, m->id_len), .home = m->home};
    struct event *e = membership_event(core, r, op, LOG_LEFT, &gone, 1);
    struct change c = {0};
    e->left = keep_members(&gone, 1);
    e->num_left = 1;
    change_member_delete(&c, r, m->user);
    room_members_take(r, m);
    struct member *next = r->num_admins == 0 ? heir(r) : NULL;
    if (next) {
        next->role = MEMBER_ADMIN;
        r->num_admins++;
        change_member_put(&c, r, next->user, slice_of(next->id, next->id_len), MEMBER_ADMIN, next->joined_seq,
                          next->joined_ms);
    }
    change_answer(op, e->seq, 1);
    change_push(core, r, e, &c);
}

void room_leave(struct core *core, struct room *r, struct op *op)
{
    struct member *m = acting_member(r, op);
    if (m && r->record.type == ROOM_DM) op_fail(op, ERR_ROOM_DM_FIXED, NULL, NULL);
    if (op_failed(op) || !room_may_shrink(core, op)) refuse(core, op);
    else take_user(core, r, op, m);
}

/* other_member finds whom op->members[0] names; oneself may always be named. */
static struct member *other_member(struct core *core, struct room *r, struct op *op)
{
    ASSERT(op->num_members == 1);
    bool self = op->members[0].user == op->user;
    if (self && op->kind == OP_ROOM_REMOVE) {
        if (!acting_member(r, op)) return NULL;
        if (r->record.type == ROOM_DM) {
            op_fail(op, ERR_ROOM_DM_FIXED, NULL, NULL);
            return NULL;
        }
    } else if (!acting_admin(r, op)) {
        return NULL;
    }
    struct member *m = room_member(r, op->members[0].user);
    if (!m) op_fail(op, ERR_MEMBER_NOT_FOUND, NULL, NULL);
    return m && room_may_shrink(core, op) ? m : NULL;
}

void room_remove(struct core *core, struct room *r, struct op *op)
{
    struct member *m = other_member(core, r, op);
    if (m) take_user(core, r, op, m);
    else refuse(core, op);
}

void room_role(struct core *core, struct room *r, struct op *op)
{
    struct member *m = other_member(core, r, op);
    if (m && m->role == MEMBER_ADMIN && op->in.change.role != MEMBER_ADMIN && r->num_admins == 1 &&
        r->members.len > 1) {
        op_fail(op, ERR_ROOM_LAST_ADMIN, NULL, NULL);
        m = NULL;
    }
    if (!m) {
        refuse(core, op);
        return;
    }
    if (m->role == MEMBER_ADMIN) r->num_admins--;
    m->role = op->in.change.role;
    if (m->role == MEMBER_ADMIN) r->num_admins++;
    struct buf body = {0};
    BUF_LIT(&body, "\"user_id\":");
    buf_json_string(&body, slice_of(m->id, m->id_len));
    buf_printf(&body, ",\"role\":\"%s\"", m->role == MEMBER_ADMIN ? "admin" : "member");
    struct log_record record = {
        .kind = LOG_ROOM_UPDATED, .sender = op->user, .sender_id = op->user_id, .content = buf_slice(&body)};
    struct event *e = event_new(core, r, &record, op);
    buf_free(&body);
    struct change c = {0};
    change_member_put(&c, r, m->user, slice_of(m->id, m->id_len), m->role, m->joined_seq, m->joined_ms);
    change_answer(op, e->seq, 1);
    change_push(core, r, e, &c);
}

/* size_tell: the cores with subscribers know whether the room is large, and not how many members it has. */
static void size_tell(struct core *core, struct room *r)
{
    if (LIKELY(r->large == room_large(core, r))) return;
    r->large = !r->large;
    static const struct slice none;
    for (uint64_t cores = r->core_mask; cores; cores &= cores - 1)
        notice_post(core, (unsigned)__builtin_ctzll(cores),
                    notice_new(core, NOTICE_ROOM_SIZE, r->tenant, 0, none, r->number, r->large, none));
}

void rooms_fit(struct core *core)
{
    uint64_t members = CONFIG_NOW(core->gateway->config, limits_presence_room_members);
    if (LIKELY(core->presence_room_members == members)) return;
    core->presence_room_members = members;
    uint32_t at = 0;
    for (struct room *r; (r = map_next(&core->rooms, &at));)
        if (r->state != ROOM_LOADING) size_tell(core, r);
}

/* membership_done tells whom it concerns. Those who left get everything up to their leaving, then nothing more: the
 * run with the leave goes out first, the end of their subscriptions follows it through the same rings. */
static void membership_done(struct core *core, struct room *r, uint64_t seq, struct told *t)
{
    static const struct slice none;
    uint64_t mask = r->core_mask;
    fanout_publish(core, r);
    size_tell(core, r);
    for (uint32_t i = 0; i < t->num_joined; i++) {
        const struct op_member *m = &t->joined[i];
        notice_post(core, gateway_user_home(core->gateway, r->tenant, m->user_id),
                    notice_new(core, NOTICE_JOINED, r->tenant, m->user, m->user_id, r->number, seq, none));
    }
    for (uint32_t i = 0; i < t->num_left; i++) {
        const struct op_member *m = &t->left[i];
        for (uint64_t cores = mask; cores; cores &= cores - 1)
            notice_post(core, (unsigned)__builtin_ctzll(cores),
                        notice_new(core, NOTICE_REMOVED, r->tenant, m->user, m->user_id, r->number, seq, none));
        notice_post(core, m->home, notice_new(core, NOTICE_LEFT, r->tenant, m->user, m->user_id, r->number, seq, none));
        if (r->num_typing) typing_stop(core, r, m->user);
    }
    free(t->joined);
    free(t->left);
    r->changes_pending--;
    while (r->changes_pending == 0 && r->readers.len && !PLANTED(waiting_forgotten)) {
        struct op *op = CONTAINER_OF(queue_pop(&r->readers), struct op, mail.node);
        room_on_op(core, op);
    }
}
