#include "history.h"

#include "../../storage/keys.h"
#include "../api/admission.h"
#include "../base/assert.h"
#include "../base/planted.h"

static void page_run(struct read_job *job, struct kv *kv);
static void page_done(void *context, struct read_job *job);

void history_page(struct core *core, struct op *op, uint64_t first, uint64_t head)
{
    op->job_from = first;
    op->job_to = head;
    op->job = (struct read_job){.return_core = op->origin, .run = page_run, .done = page_done};
    read_submit(core->reader, &op->job);
}

static void page_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct op *op = CONTAINER_OF(job, struct op, job);
    if (op->job_status == STATUS_NOT_FOUND) op_fail(op, ERR_MESSAGE_NOT_FOUND, NULL, NULL);
    else if (op->job_status != STATUS_OK) op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
    else (void)answer_taken(core, op);
    op->http_status = 200;
    op->then(core, op);
}

/* --- one row at a time -------------------------------------------------------------------------------------------- */

static struct kv_iter *log_iter(struct kv *kv, uint32_t tenant, uint64_t room, uint64_t from, uint64_t to)
{
    struct key lower, upper;
    key_log(&lower, tenant, room, from);
    key_log(&upper, tenant, room, to + 1);
    return kv_iter_open(kv, KV_LOG, key_slice(&lower), key_slice(&upper));
}

static enum status log_row(struct log_record *r, struct kv *kv, struct kv_iter *i, uint32_t tenant, uint64_t room)
{
    enum status s = log_record_decode(r, kv_iter_value(kv, i));
    if (s != STATUS_OK) return s;
    return r->tenant == tenant && r->room == room ? STATUS_OK : STATUS_CORRUPT;
}

static void append_json(struct buf *out, const struct log_record *r, enum event_shape shape)
{
    size_t len = event_json_len(r, shape);
    buf_reserve(out, len);
    char *end = event_json(out->data + out->len, r, shape);
    ASSERT((size_t)(end - out->data) == out->len + len);
    out->len += len;
}

static void append_frame(struct buf *out, const struct log_record *r)
{
    size_t len = event_frame_len(r);
    buf_reserve(out, len);
    char *end = event_frame(out->data + out->len, r);
    ASSERT((size_t)(end - out->data) == out->len + len);
    out->len += len;
}

enum status history_read(struct buf *out, uint32_t *num, struct kv *kv, enum history_format format, uint32_t tenant,
                         uint64_t room, uint64_t from, uint64_t to, uint32_t events_max, size_t bytes_max)
{
    enum status s = STATUS_OK;
    uint32_t count = 0;
    size_t start = out->len;
    struct kv_iter *i = log_iter(kv, tenant, room, from, to);
    for (bool on = kv_iter_first(kv, i); on && count < events_max; on = kv_iter_next(kv, i)) {
        struct log_record r;
        s = log_row(&r, kv, i, tenant, room);
        if (s == STATUS_OK && r.seq != from + count) s = STATUS_CORRUPT; /* a hole */
        if (s != STATUS_OK) break;
        if (format == HISTORY_FRAMES) {
            append_frame(out, &r);
        } else {
            if (count) buf_char(out, ',');
            append_json(out, &r, EVENT_PUSH);
        }
        count++;
        if (out->len - start >= bytes_max) break;
    }
    *num = count;
    enum status closed = kv_iter_close(kv, i);
    if (s == STATUS_OK) s = closed;
    return s == STATUS_OK && count == 0 && from <= to ? STATUS_CORRUPT : s;
}

/* --- pages ------------------------------------------------------------------------------------------------------- */

static bool wanted(const struct op *op, const struct log_record *r)
{
    return !op->in.history.messages_only || r->kind == LOG_MESSAGE;
}

static enum event_shape page_shape(const struct op *op)
{
    return op->in.history.messages_only ? EVENT_MESSAGE : EVENT_PUSH;
}

static size_t page_bytes_max(const struct op *op)
{
    return op->is_websocket ? WEBSOCKET_PAGE_BYTES_MAX : HISTORY_BYTES_MAX;
}

/* page_start finds where the last `limit` wanted events before `before` begin, or as many of them as a page may hold:
 * the ones next to `before` are what was asked for. */
static enum status page_start(struct op *op, struct kv *kv, uint64_t before, uint64_t *from)
{
    enum status s = STATUS_OK;
    uint32_t num = 0;
    size_t bytes = 0;
    *from = before;
    if (before <= op->job_from) return STATUS_OK;
    struct kv_iter *i = log_iter(kv, op->tenant, op->room, op->job_from, before - 1);
    for (bool on = kv_iter_last(kv, i); on && num < op->in.history.limit; on = kv_iter_prev(kv, i)) {
        struct log_record r;
        s = log_row(&r, kv, i, op->tenant, op->room);
        if (s != STATUS_OK) break;
        if (wanted(op, &r)) {
            bytes += event_json_len(&r, page_shape(op)) + 1;
            if (num && bytes > page_bytes_max(op)) break;
            num++;
        }
        *from = r.seq;
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

static enum status page_items(struct op *op, struct kv *kv, uint64_t from, uint64_t to)
{
    enum status s = STATUS_OK;
    uint64_t num = 0, last = 0;
    bool more = false;
    BUF_LIT(&op->out, "\"items\":[");
    struct kv_iter *i = log_iter(kv, op->tenant, op->room, from, to);
    for (bool on = from <= to && kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
        struct log_record r;
        s = log_row(&r, kv, i, op->tenant, op->room);
        if (s != STATUS_OK) break;
        if (!wanted(op, &r)) continue;
        if (num == op->in.history.limit || op->out.len > page_bytes_max(op)) {
            more = true;
            break;
        }
        if (num++) buf_char(&op->out, ',');
        append_json(&op->out, &r, page_shape(op));
        last = r.seq;
    }
    enum status closed = kv_iter_close(kv, i);
    if (more) buf_printf(&op->out, "],\"next\":\"%llu\"", (unsigned long long)last);
    else BUF_LIT(&op->out, "],\"next\":null");
    op->job_count = num;
    return s == STATUS_OK ? closed : s;
}

static enum status page_single(struct op *op, struct kv *kv, uint64_t seq)
{
    if (seq < op->job_from || seq > op->job_to) return STATUS_NOT_FOUND;
    struct key key;
    struct buf value = {0};
    struct log_record r = {0};
    key_log(&key, op->tenant, op->room, seq);
    enum status s = kv_get(kv, KV_LOG, key_slice(&key), &value);
    if (s == STATUS_OK) s = log_record_decode(&r, buf_slice(&value));
    if (s == STATUS_OK && (r.tenant != op->tenant || r.room != op->room)) s = STATUS_CORRUPT;
    if (s == STATUS_OK && r.kind != LOG_MESSAGE) s = STATUS_NOT_FOUND;
    if (s == STATUS_OK) append_json(&op->out, &r, EVENT_MESSAGE);
    buf_free(&value);
    return s;
}

static void page_run(struct read_job *job, struct kv *kv)
{
    struct op *op = CONTAINER_OF(job, struct op, job);
    uint64_t from = op->job_from, to = op->job_to;
    if (op->in.history.single) {
        op->job_status = page_single(op, kv, op->in.history.single);
        return;
    }
    op->job_status = STATUS_OK;
    if (op->in.history.has_after) {
        if (op->in.history.after_seq >= to) from = to + 1;
        else if (op->in.history.after_seq + 1 > from) from = op->in.history.after_seq + 1 + PLANTED(page_skips_one);
    }
    if (op->in.history.has_before) {
        uint64_t before = op->in.history.before_seq <= to ? op->in.history.before_seq : to + 1;
        if (before == 0) before = 1;
        to = before - 1;
        if (!op->in.history.has_after) op->job_status = page_start(op, kv, before, &from);
    }
    if (op->job_status == STATUS_OK) op->job_status = page_items(op, kv, from, to);
}
