#include "user_state.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/planted.h"

/* raise moves a mark upwards only. */
static bool raise(uint64_t *mark, uint64_t seq)
{
    if (seq <= *mark && !PLANTED(cursor_moved_back)) return false;
    *mark = seq;
    return true;
}

void user_cursor(struct core *core, struct user *u, struct op *op)
{
    struct user_room *own = user_room(u, op->room);
    if (!own) { /* it left while the ack was on its way */
        op_fail(op, ERR_ROOM_NOT_MEMBER, NULL, NULL);
        op_return(core, op);
        return;
    }
    uint64_t seq = op->in.cursor.seq;
    bool read = op->in.cursor.read;
    bool moved = raise(&own->delivered, seq); /* what was read was delivered */
    if (read) moved |= raise(&own->read, seq);
    own->dirty |= moved;
    moved = own->dirty; /* a silent ack may have moved it that far and not be written yet: the answer says it is */
    if (op->in.cursor.device.len) {
        struct device_room *d = user_device(u, op->in.cursor.device, op->room);
        if (!d && u->num_devices < DEVICE_CURSORS_MAX) {
            d = user_device_add(u, op->in.cursor.device, op->room);
            d->dirty = true;
        }
        if (d) {
            bool device_moved = raise(&d->delivered, seq);
            if (read) device_moved |= raise(&d->read, seq);
            d->dirty |= device_moved;
            moved |= d->dirty;
        }
    }
    if (moved && !list_linked(&u->dirty)) {
        if (list_empty(&core->users_dirty)) core->cursor_flush_due_ns = core->now_ns + CURSOR_FLUSH_MS * 1000000ull;
        list_push(&core->users_dirty, &u->dirty);
    }
    if (op->answered && (moved || core->cursor_flush_open)) {
        core->cursor_flush_due_ns = core->now_ns; /* somebody waits: write now */
        queue_push(&core->cursor_ops, &op->mail.node);
        return;
    }
    /* where it stood that far already, the write that should have said so may be the one that failed */
    if (op->answered && commit_poisoned(core->gateway->commit)) op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
    op_return(core, op);
}

#define CURSOR_ROWS_MAX 1024u /* rows of one write; more wait for the next turn */

struct cursor_flush {
    struct commit_entry entry;
    struct queue ops; /* answered when it is in the WAL */
    uint32_t num;
    struct commit_row rows[CURSOR_ROWS_MAX];
    struct key keys[CURSOR_ROWS_MAX];
    char values[CURSOR_ROWS_MAX][32];
};

static void flush_row(struct cursor_flush *f, const struct user *u, struct slice device, uint64_t room,
                      uint64_t delivered, uint64_t read)
{
    struct buf value = {0};
    struct cursor_record record = {delivered, read};
    cursor_record_encode(&value, &record);
    ASSERT(f->num < CURSOR_ROWS_MAX && value.len <= sizeof f->values[0]);
    memcpy(f->values[f->num], value.data, value.len);
    key_cursor(&f->keys[f->num], u->tenant, u->number, device, room);
    f->rows[f->num] = (struct commit_row){COMMIT_PUT, KV_CURSORS, key_slice(&f->keys[f->num]),
                                          slice_of(f->values[f->num], value.len)};
    f->num += !PLANTED(cursor_not_written);
    buf_free(&value);
}

/* flush_user takes a user's moved cursors; false when the write is full and some are left. */
static bool flush_user(struct cursor_flush *f, struct user *u)
{
    for (uint32_t i = 0; i < u->num_rooms; i++) {
        struct user_room *r = &u->rooms[i];
        if (!r->dirty) continue;
        if (f->num == CURSOR_ROWS_MAX) return false;
        flush_row(f, u, (struct slice){0}, r->room, r->delivered, r->read);
        r->dirty = false;
    }
    for (uint32_t i = 0; i < u->num_devices; i++) {
        struct device_room *d = &u->devices[i];
        if (!d->dirty) continue;
        if (f->num == CURSOR_ROWS_MAX) return false;
        flush_row(f, u, slice_of(d->device, d->device_len), d->room, d->delivered, d->read);
        d->dirty = false;
    }
    return true;
}

static void flush_answer(struct core *core, struct queue *ops, enum status result)
{
    while (ops->len) {
        struct op *op = CONTAINER_OF(queue_pop(ops), struct op, mail.node);
        if (result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
        op_return(core, op);
    }
}

static void flush_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct cursor_flush *f = CONTAINER_OF(entry, struct cursor_flush, entry);
    core->cursor_flush_open = false;
    struct queue ops = f->ops;
    free(f);
    flush_answer(core, &ops, result);
}

void user_cursors_flush(struct core *core)
{
    if (core->cursor_flush_open || core->now_ns < core->cursor_flush_due_ns) return;
    if (list_empty(&core->users_dirty) && core->cursor_ops.len == 0) return;
    if (commit_full(core->commit)) return; /* the next turn tries again */
    struct cursor_flush *f = malloc(sizeof *f);
    ASSERT(f != NULL);
    f->num = 0;
    core->cursor_flush_number++;
    bool full = false;
    while (!full && !list_empty(&core->users_dirty)) {
        struct user *u = CONTAINER_OF(core->users_dirty.next, struct user, dirty);
        u->cursor_flush = core->cursor_flush_number;
        full = !flush_user(f, u);
        if (!full) list_remove(&u->dirty);
    }
    f->ops = (struct queue){0};
    if (!full) { /* with some left, their acks wait for the next write too */
        f->ops = core->cursor_ops;
        core->cursor_ops = (struct queue){0};
    }
    f->entry =
        (struct commit_entry){.class = COMMIT_FAST, .rows = f->rows, .num_rows = (uint16_t)f->num, .done = flush_done};
    core->cursor_flush_open = true;
    core->cursor_flush_due_ns = full ? core->now_ns : core->now_ns + CURSOR_FLUSH_MS * 1000000ull;
    if (f->num == 0 || commit_push(core->commit, &f->entry) != STATUS_OK)
        flush_done(core, &f->entry, f->num == 0 ? STATUS_OK : STATUS_IO);
}
