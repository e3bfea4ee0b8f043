/* rest_operator_users: the users of a tenant, for the operator, who acts as none of them. */
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../chat/ids.h"
#include "api.h"

/* query_tenant reads the tenant that the query must name. */
static bool query_tenant(struct call *call, uint32_t *tenant)
{
    char bytes[ID_TEXT_LEN];
    struct slice id;
    if (!call_query(call, "tenant_id", bytes, sizeof bytes, &id)) return false;
    if (id.len == 0) return call_fail(call, ERR_FIELD_MISSING, "Name the tenant: ?tenant_id=t_…", "tenant_id");
    return call_tenant_id(call, id, tenant);
}

/* --- all of a tenant's: one read on a reader thread ------------------------------------------------------------- */

/* listing: rows of the tenant's users behind the cursor, oldest first. */
struct listing {
    struct durable_wait wait;
    struct op *op;
};

static void list_run(struct read_job *job, struct kv *kv);
static void list_done(void *context, struct read_job *job);
static void list_settled(struct core *core, struct durable_wait *w, bool durable);

void rest_operator_user_list(struct call *call)
{
    char cursor_bytes[24];
    struct slice cursor;
    uint32_t limit, tenant;
    uint64_t after = 0;
    if (!call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor) || !query_tenant(call, &tenant)) return;
    if (cursor.len && (!slice_u64(cursor, &after) || after == UINT64_MAX)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct op *op = call_op(call, OP_USER_GET, 0);
    op->tenant = tenant;
    op->in.history.after_seq = after;
    op->in.history.limit = limit;
    op->job = (struct read_job){.return_core = op->origin, .run = list_run, .done = list_done};
    read_submit(call->core->reader, &op->job);
}

static void user_write(struct buf *out, const struct user_record *u)
{
    char time[TIME_TEXT_LEN];
    time_text(time, u->created_ms);
    if (out->data[out->len - 1] != '[') BUF_LIT(out, ",");
    BUF_LIT(out, "{\"user_id\":");
    buf_json_string(out, u->user_id);
    BUF_LIT(out, ",\"display_name\":");
    if (u->display_name.len) buf_json_string(out, u->display_name);
    else BUF_LIT(out, "null");
    buf_printf(out, ",\"created_at\":\"%.*s\"}", (int)TIME_TEXT_LEN, time);
}

static void list_run(struct read_job *job, struct kv *kv)
{
    struct op *op = CONTAINER_OF(job, struct op, job);
    struct key lower, prefix, end;
    uint32_t num = 0;
    uint64_t last = 0;
    bool more = false;
    key_user(&lower, op->tenant, op->in.history.after_seq + 1);
    key_tenant(&prefix, op->tenant);
    key_prefix_end(&end, key_slice(&prefix));
    BUF_LIT(&op->out, "{\"items\":[");
    struct kv_iter *i = kv_iter_open(kv, KV_USERS, key_slice(&lower), key_slice(&end));
    op->job_status = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on && op->job_status == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct user_record u;
        more = num == op->in.history.limit;
        if (more) break;
        op->job_status = user_record_decode(&u, kv_iter_value(kv, i));
        if (op->job_status == STATUS_OK && u.tenant != op->tenant) op->job_status = STATUS_CORRUPT;
        if (op->job_status != STATUS_OK) break;
        user_write(&op->out, &u);
        last = u.user;
        num++;
    }
    enum status closed = kv_iter_close(kv, i);
    if (op->job_status == STATUS_OK) op->job_status = closed;
    if (more) buf_printf(&op->out, "],\"next\":\"%llu\"}", (unsigned long long)last);
    else BUF_LIT(&op->out, "],\"next\":null}");
}

/* list_done: a user whose row is not on disk yet is shown when it is. */
static void list_done(void *context, struct read_job *job)
{
    struct listing *l = malloc(sizeof *l);
    ASSERT(l != NULL);
    l->op = CONTAINER_OF(job, struct op, job);
    core_when_durable(context, &l->wait, list_settled);
}

static void list_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct listing *l = CONTAINER_OF(w, struct listing, wait);
    struct op *op = l->op;
    free(l);
    if (!durable || op->job_status != STATUS_OK) op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
    op->http_status = 200;
    rest_answer(core, op);
}

/* --- one of them, with the rooms -------------------------------------------------------------------------------- */

static void user_found(struct core *core, struct op *op);
static void user_rooms(struct core *core, struct op *op);

void rest_operator_user_get(struct call *call)
{
    uint32_t tenant;
    if (!query_tenant(call, &tenant)) return;
    if (!user_id_valid(call->params[0])) {
        call_fail(call, ERR_USER_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_USER_GET, call->params[0].len);
    op->tenant = tenant;
    op->user_id = op_keep(op, call->params[0]);
    op->then = user_found;
    op_dispatch(call->core, op);
}

/* user_found: the user exists, so asking for its rooms makes nobody. */
static void user_found(struct core *core, struct op *op)
{
    if (op_failed(op)) {
        rest_answer(core, op);
        return;
    }
    op->kind = OP_USER_ROOMS;
    op->then = user_rooms;
    op_dispatch(core, op);
}

static void user_rooms(struct core *core, struct op *op)
{
    if (!op_failed(op)) {
        op->out.len--; /* the object's brace: it goes on */
        buf_printf(&op->out, ",\"num_rooms\":%u,\"rooms\":[", op->num_positions);
        for (uint32_t i = 0; i < op->num_positions; i++) {
            char room_id[ID_TEXT_LEN];
            const struct room_position *p = &op->positions[i];
            room_id_text(room_id, p->room);
            buf_printf(&op->out, "%s{\"room_id\":\"%.*s\",\"delivered\":%llu,\"read\":%llu}", i ? "," : "",
                       (int)ID_TEXT_LEN, room_id, (unsigned long long)p->delivered, (unsigned long long)p->read);
        }
        BUF_LIT(&op->out, "]}");
        op->http_status = 200;
    }
    rest_answer(core, op);
}
