/* rest_presence: who is online, asked by REST. */
#include <stdlib.h>

#include "../base/assert.h"
#include "../chat/presence.h"
#include "api.h"

/* --- a user ------------------------------------------------------------------------------------------------------- */

/* user_rooms_known goes on to the other user's home, with the rooms of who asks: they must have one in common. */
static void user_rooms_known(struct core *core, struct op *op)
{
    if (op_failed(op)) {
        rest_answer(core, op);
        return;
    }
    op->kind = OP_USER_PRESENCE;
    op->user_id = op->in.rooms.other;
    op->then = rest_answer;
    op_dispatch(core, op);
}

void rest_user_presence(struct call *call)
{
    if (!user_id_valid(call->params[0])) {
        call_fail(call, ERR_USER_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_USER_ROOMS, call->params[0].len);
    op->in.rooms.other = op_keep(op, call->params[0]);
    op->then = user_rooms_known;
    call_go(call, op);
}

/* --- a room ------------------------------------------------------------------------------------------------------- */

static void room_members_known(struct core *core, struct op *op)
{
    if (!op_failed(op)) {
        struct buf out = {0};
        BUF_LIT(&out, "{");
        presence_page(&out, core, op, false, HISTORY_BYTES_MAX);
        BUF_LIT(&out, "}");
        buf_free(&op->out);
        op->out = out;
        op->http_status = 200;
    }
    rest_answer(core, op);
}

void rest_room_presence(struct call *call)
{
    uint64_t room, after = 0;
    uint32_t limit;
    char cursor_bytes[24];
    struct slice cursor;
    if (!call_room(call, &room) || !call_page(call, &limit, cursor_bytes, sizeof cursor_bytes, &cursor)) return;
    if (cursor.len && !slice_u64(cursor, &after)) {
        call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
        return;
    }
    struct op *op = call_op(call, OP_ROOM_PRESENCE, 0);
    op->room = room;
    op->in.presence.after = after;
    op->in.presence.limit = limit;
    op->then = room_members_known;
    call_go(call, op);
}
