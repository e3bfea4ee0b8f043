/* sweep: walks through what nobody comes for: notifications that expired while their users were away, or have had their
 * last attempt and its wait, and what has been in the history for long enough. Core 0 does it, a page of
 * NOTIFY_SWEEP_ROWS rows at a time; the next page is read when all that the last one brought up is done. Whatever can
 * still change is left to its user's home. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "backoff.h"
#include "notify.h"
#include "rows.h"

enum sweep_phase {
    SWEEP_REST,    /* until due_ns */
    SWEEP_OUTBOX,  /* what has expired or is used up; counts what waits */
    SWEEP_HISTORY, /* delivered ones that are old enough */
    SWEEP_DEAD,    /* dead letters that nobody retried */
};

struct sweep {
    struct read_job job;
    struct commit_entry entry;
    enum sweep_phase phase;
    bool reading, writing;
    bool at_end;        /* the page was the phase's last one */
    uint32_t ops_open;
    uint64_t due_ns, history_due_ns;
    uint64_t now_ms, keep_ms, dead_keep_ms, retry_base_ms; /* as the page takes them */
    uint64_t attempts;
    uint32_t rows_max;
    uint64_t waiting;   /* rows of the outbox so far */
    enum status status;
    struct key next;    /* where the next page begins; len 0: at the front */
    struct buf found;   /* tenant u32 · user u64 · number u64 · id length u8 · id, repeated */
    struct rows rows;   /* of the history, to be deleted */
};

struct sweep *sweep_new(void)
{
    struct sweep *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    return s;
}

void sweep_free(struct sweep *s)
{
    if (!s) return;
    buf_free(&s->found);
    rows_free(&s->rows);
    free(s);
}

/* --- a page, on a reader ----------------------------------------------------------------------------------------- */

static void found(struct sweep *s, uint32_t tenant, uint64_t user, uint64_t number, struct slice id)
{
    uint8_t len = (uint8_t)id.len;
    buf_append(&s->found, &tenant, 4);
    buf_append(&s->found, &user, 8);
    buf_append(&s->found, &number, 8);
    buf_append(&s->found, &len, 1);
    buf_slice_append(&s->found, id);
}

/* used_up: its last attempt's wait is over, however long chance has made it. */
static bool used_up(const struct sweep *s, const struct outbox_record *r)
{
    return r->attempts && r->attempts >= s->attempts &&
           r->last_attempt_ms + backoff_longest_ms(s->retry_base_ms, r->attempts) <= s->now_ms;
}

static enum status outbox_row(struct sweep *s, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    struct outbox_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || !key_parse_u64(&key, &number))
        return STATUS_CORRUPT;
    enum status status = outbox_record_decode(&r, value);
    if (status != STATUS_OK) return status;
    s->waiting++;
    if (r.expires_ms <= s->now_ms || used_up(s, &r)) found(s, tenant, user, number, r.user_id);
    return STATUS_OK;
}

static enum status history_row(struct sweep *s, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    struct notification_end_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &user) || !key_parse_u64(&key, &number) || key.len != 1)
        return STATUS_CORRUPT;
    if (key.data[0] != NOTIFICATION_END) return STATUS_OK;
    enum status status = notification_end_record_decode(&r, value);
    if (status != STATUS_OK || r.state != NOTIFICATION_DELIVERED || r.ended_ms + s->keep_ms > s->now_ms) return status;
    struct key gone;
    key_notification(&gone, tenant, user, number, NOTIFICATION_BODY);
    rows_delete(&s->rows, KV_NOTIFICATIONS, &gone);
    key_notification(&gone, tenant, user, number, NOTIFICATION_END);
    rows_delete(&s->rows, KV_NOTIFICATIONS, &gone);
    return STATUS_OK;
}

static enum status dead_row(struct sweep *s, struct slice key, struct slice value)
{
    uint32_t tenant;
    uint64_t user, number;
    struct dead_letter_record r;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &number) || !key_parse_u64(&key, &user))
        return STATUS_CORRUPT;
    enum status status = dead_letter_record_decode(&r, value);
    if (status == STATUS_OK && r.ended_ms + s->dead_keep_ms <= s->now_ms) found(s, tenant, user, number, r.user_id);
    return status;
}

static enum status page_row(struct sweep *s, struct slice key, struct slice value)
{
    switch (s->phase) {
    case SWEEP_OUTBOX: return outbox_row(s, key, value);
    case SWEEP_HISTORY: return history_row(s, key, value);
    case SWEEP_DEAD: return dead_row(s, key, value);
    case SWEEP_REST: break;
    }
    UNREACHABLE();
}

static void page_run(struct read_job *job, struct kv *kv)
{
    struct sweep *s = CONTAINER_OF(job, struct sweep, job);
    static const enum kv_cf families[] = {
        [SWEEP_OUTBOX] = KV_OUTBOX, [SWEEP_HISTORY] = KV_NOTIFICATIONS, [SWEEP_DEAD] = KV_DEAD_LETTERS};
    struct kv_iter *i = kv_iter_open(kv, families[s->phase], key_slice(&s->next), (struct slice){0});
    uint32_t num = 0;
    bool on = kv_iter_first(kv, i);
    s->status = STATUS_OK;
    for (; on && num < s->rows_max && s->status == STATUS_OK; on = kv_iter_next(kv, i), num++)
        s->status = page_row(s, kv_iter_key(kv, i), kv_iter_value(kv, i));
    s->at_end = !on;
    if (on) {
        struct slice key = kv_iter_key(kv, i);
        ASSERT(key.len <= KEY_MAX);
        s->next.len = (uint16_t)key.len;
        memcpy(s->next.bytes, key.data, key.len);
    }
    enum status closed = kv_iter_close(kv, i);
    if (s->status == STATUS_OK) s->status = closed;
}

/* --- what is done about it --------------------------------------------------------------------------------------- */

static void page_next(struct core *core, struct sweep *s);

static void op_done(struct core *core, struct op *op)
{
    struct sweep *s = op->flow;
    op_free(op);
    s->ops_open--;
    page_next(core, s);
}

static void found_send(struct core *core, struct sweep *s)
{
    enum op_kind kind = s->phase == SWEEP_DEAD ? OP_DEAD_LETTER_DELETE : OP_NOTIFICATION_EXPIRE;
    for (struct slice at = buf_slice(&s->found); at.len;) {
        uint8_t len = (uint8_t)at.data[20];
        struct op *op = op_new(core, kind, len);
        memcpy(&op->tenant, at.data, 4);
        memcpy(&op->user, at.data + 4, 8);
        memcpy(&op->in.notification.number, at.data + 12, 8);
        if (kind == OP_DEAD_LETTER_DELETE) op->in.notification.dead_by_ms = s->now_ms - s->dead_keep_ms;
        op->user_id = op_keep(op, slice_of(at.data + 21, len));
        op->flow = s;
        op->then = op_done;
        s->ops_open++;
        at = slice_from(at, 21u + len);
        op_dispatch(core, op);
    }
    buf_free(&s->found);
}

static void rows_done(void *context, struct commit_entry *entry, enum status result)
{
    struct sweep *s = CONTAINER_OF(entry, struct sweep, entry);
    if (result != STATUS_OK) s->at_end = true; /* a store that has failed is swept after the restart */
    rows_free(&s->rows);
    s->writing = false;
    page_next(context, s);
}

static void rows_write(struct core *core, struct sweep *s)
{
    if (s->rows.num == 0) return;
    rows_finish(&s->rows);
    s->entry = (struct commit_entry){
        .class = COMMIT_FAST, .rows = s->rows.rows, .num_rows = (uint16_t)s->rows.num, .done = rows_done};
    s->writing = commit_push(core->commit, &s->entry) == STATUS_OK;
    if (s->writing) return;
    s->at_end = true; /* the next sweep comes by again */
    rows_free(&s->rows);
}

static void page_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct sweep *s = CONTAINER_OF(job, struct sweep, job);
    if (s->status != STATUS_OK) {
        LOG(LOG_ERROR, "notify", "sweep_failed", LOG_STR("status", status_name(s->status)));
        s->at_end = true;
    }
    s->ops_open = 1; /* one more until all are sent */
    rows_write(core, s);
    found_send(core, s);
    s->reading = false;
    s->ops_open--;
    page_next(core, s);
}

static void page_read(struct core *core, struct sweep *s)
{
    s->job = (struct read_job){.return_core = (uint16_t)core->id, .run = page_run, .done = page_done};
    s->now_ms = core->now_ms;
    s->keep_ms = core->gateway->config->notify_keep;
    s->retry_base_ms = core->gateway->config->notify_retry_base;
    s->attempts = core->gateway->config->notify_attempts;
    s->dead_keep_ms = core->notify->bounds.dead_keep_ms;
    s->rows_max = core->notify->bounds.sweep_rows;
    s->reading = true;
    read_submit(core->reader, &s->job);
}

static uint64_t interval_ns(uint64_t standard_ms, uint64_t lasts_ms)
{
    uint64_t ms = lasts_ms / 4 < standard_ms ? lasts_ms / 4 : standard_ms; /* what lasts shortly is looked for often */
    return (ms < 100 ? 100 : ms) * 1000000;
}

static void phase_next(struct core *core, struct sweep *s)
{
    const struct config *c = core->gateway->config;
    s->next.len = 0;
    if (s->phase == SWEEP_OUTBOX) {
        atomic_store_explicit(&core->notify->waiting, s->waiting, memory_order_relaxed);
        s->phase = core->now_ns >= s->history_due_ns ? SWEEP_HISTORY : SWEEP_REST;
    } else if (s->phase == SWEEP_HISTORY) {
        s->phase = SWEEP_DEAD;
    } else {
        s->history_due_ns = core->now_ns + interval_ns(NOTIFY_SWEEP_HISTORY_MS, c->notify_keep);
        s->phase = SWEEP_REST;
    }
    if (s->phase == SWEEP_REST) s->due_ns = core->now_ns + interval_ns(NOTIFY_SWEEP_MS, c->notify_expires);
}

/* page_next goes on when the page has been read and all of it is done. */
static void page_next(struct core *core, struct sweep *s)
{
    if (s->reading || s->writing || s->ops_open) return;
    if (s->at_end) phase_next(core, s);
    if (s->phase != SWEEP_REST) page_read(core, s);
}

void sweep_run(struct core *core)
{
    struct sweep *s = core->notify->sweep;
    if (s->phase != SWEEP_REST || core->now_ns < s->due_ns) return;
    s->phase = SWEEP_OUTBOX;
    s->waiting = 0;
    page_read(core, s);
}

uint64_t sweep_wake_ns(const struct core *core)
{
    const struct sweep *s = core->notify->sweep;
    return s->phase == SWEEP_REST ? s->due_ns : UINT64_MAX;
}
