/* room_repeat: Idempotency-Key on joins, leaves and added members. The answer is kept as a row of its own, written with
 * the change, and looked up first: these requests are rare, so a read each is cheap. (Messages: idempotency.h.)
 *
 * A request with a key waits until no membership change of the room is on its way, since one of them may be its own
 * first try; then its row, if there is one, is in the store. */
#include <stdlib.h>

#include "../base/assert.h"
#include "room.h"

struct repeat_answer {
    struct read_job job;
    struct durable_wait wait;
    struct room *room;
    struct op *op;
    enum status status;
    struct buf bytes;
};

static void answer_run(struct read_job *job, struct kv *kv)
{
    struct repeat_answer *a = CONTAINER_OF(job, struct repeat_answer, job);
    struct key key;
    key_answer(&key, a->op->tenant, a->op->user, a->op->client_id);
    a->status = kv_get(kv, KV_IDEMPOTENCY, key_slice(&key), &a->bytes);
}

static void answer_found(struct core *core, struct op *op, const struct answer_record *r)
{
    if (r->payload_hash != op->payload_hash) {
        op_fail(op, ERR_IDEMPOTENCY_MISMATCH, NULL, "Idempotency-Key");
    } else {
        op->http_status = r->http_status;
        buf_slice_append(&op->out, r->answer);
        core->idempotency.hits++;
    }
    op_return(core, op);
}

static void answer_settled(struct core *core, struct durable_wait *w, bool durable);

static void answer_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct repeat_answer, job)->wait, answer_settled);
}

static void answer_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct repeat_answer *a = CONTAINER_OF(w, struct repeat_answer, wait);
    if (!durable) a->status = STATUS_READ_ONLY;
    struct room *r = a->room;
    struct op *op = a->op;
    struct answer_record record;
    enum status s = a->status;
    ASSERT(r->state == ROOM_BLOCKED);
    r->state = ROOM_READY;
    if (s == STATUS_OK) s = answer_record_decode(&record, buf_slice(&a->bytes));
    if (s == STATUS_OK) {
        answer_found(core, op, &record);
    } else if (s == STATUS_NOT_FOUND) {
        op->repeat_checked = true;
        room_apply(core, r, op);
    } else {
        op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
        op_return(core, op);
    }
    buf_free(&a->bytes);
    free(a);
    if (r->state == ROOM_READY) room_unblock(core, r);
}

void room_repeat_lookup(struct core *core, struct room *r, struct op *op)
{
    struct repeat_answer *a = calloc(1, sizeof *a);
    ASSERT(a != NULL);
    a->job = (struct read_job){.return_core = (uint16_t)core->id, .run = answer_run, .done = answer_done};
    a->room = r;
    a->op = op;
    core->idempotency.lookups++;
    r->state = ROOM_BLOCKED;
    read_submit(core->reader, &a->job);
}

void room_repeat_row(const struct op *op, struct key *key, struct buf *value)
{
    struct answer_record record = {.payload_hash = op->payload_hash,
                                   .created_ms = op->now_ms,
                                   .http_status = op->http_status,
                                   .answer = buf_slice(&op->out)};
    key_answer(key, op->tenant, op->user, op->client_id);
    answer_record_encode(value, &record);
}

/* --- an answer without a change ---------------------------------------------------------------------------------- */

struct kept_answer {
    struct commit_entry entry;
    struct commit_row row;
    struct key key;
    struct buf value;
    struct op *op;
};

static void kept_done(void *context, struct commit_entry *entry, enum status result)
{
    struct kept_answer *k = CONTAINER_OF(entry, struct kept_answer, entry);
    struct op *op = k->op;
    if (result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
    buf_free(&k->value);
    free(k);
    op_return(context, op);
}

void room_answer_kept(struct core *core, struct op *op)
{
    if (op->client_id.len == 0 || !room_may_write(core, op)) {
        op_return(core, op);
        return;
    }
    struct kept_answer *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    k->op = op;
    room_repeat_row(op, &k->key, &k->value);
    k->row = (struct commit_row){COMMIT_PUT, KV_IDEMPOTENCY, key_slice(&k->key), buf_slice(&k->value)};
    k->entry = (struct commit_entry){.class = COMMIT_FSYNC, .rows = &k->row, .num_rows = 1, .done = kept_done};
    if (commit_push(core->commit, &k->entry) != STATUS_OK) kept_done(core, &k->entry, STATUS_IO);
}
