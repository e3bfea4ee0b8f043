/* rest_messages: sending, history, acks. */
#include <stdlib.h>

#include "../chat/ids.h"
#include "api.h"
#include "pages.h"

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void sent(struct core *core, struct op *op)
{
    if (!op_failed(op)) {
        BUF_LIT(&op->out, "{");
        sent_json(&op->out, op);
        BUF_LIT(&op->out, "}");
    }
    rest_answer(core, op);
}

void rest_message_post(struct call *call)
{
    uint64_t room;
    struct slice key;
    struct message_fields m;
    if (!call_room(call, &room) || !call_idempotency_key(call, &key) || !call_body(call, false)) return;
    struct fields f = {.object = call->body};
    if (!message_fields_read(call->core, &f, call->request->body, room, &m)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    if (m.client_id.len == 0) m.client_id = key; /* the header is the same thing as the field */
    struct op *op = call_op(call, OP_ROOM_SEND, message_fields_bytes(&m));
    op->room = room;
    message_op(op, &m);
    op->then = sent;
    call_go(call, op);
}

/* --- history ----------------------------------------------------------------------------------------------------- */

static void listed(struct core *core, struct op *op)
{
    if (!op_failed(op)) {
        struct buf body = {0};
        buf_reserve(&body, op->out.len + 2);
        BUF_LIT(&body, "{");
        buf_slice_append(&body, buf_slice(&op->out));
        BUF_LIT(&body, "}");
        buf_free(&op->out);
        op->out = body;
    }
    rest_answer(core, op);
}

/* query_number reads a number of the query; absent leaves *out alone. */
static bool query_number(struct call *call, const char *name, uint64_t *out, bool *present)
{
    char text[24];
    size_t len;
    int found = http_query_find(call->request->query, name, text, sizeof text, &len);
    *present = found != 0;
    if (found == 0) return true;
    if (found < 0 || !slice_u64(slice_of(text, len), out))
        return call_fail(call, ERR_FIELD_INVALID, "Expected a number", name);
    return true;
}

static bool page_query(struct call *call, struct op *op)
{
    uint64_t limit = PAGE_LIMIT_DEFAULT, cursor;
    bool has_limit, has_cursor;
    if (!query_number(call, "after_seq", &op->in.history.after_seq, &op->in.history.has_after) ||
        !query_number(call, "before_seq", &op->in.history.before_seq, &op->in.history.has_before) ||
        !query_number(call, "cursor", &cursor, &has_cursor) || !query_number(call, "limit", &limit, &has_limit))
        return false;
    if (!page_limit_valid(limit)) return call_fail(call, ERR_FIELD_INVALID, "limit is 1 to 1000", "limit");
    if (has_cursor) {
        op->in.history.after_seq = cursor;
        op->in.history.has_after = true;
    }
    op->in.history.limit = (uint32_t)limit;
    return true;
}

static void list(struct call *call, bool messages_only)
{
    uint64_t room;
    if (!call_room(call, &room)) return;
    struct op *op = call_op(call, OP_ROOM_HISTORY, 0);
    if (!page_query(call, op)) {
        op_free(op);
        return;
    }
    op->room = room;
    op->in.history.messages_only = messages_only;
    op->then = listed;
    call_go_long(call, op, pages_bound(call->core, op->in.history.limit, HISTORY_BYTES_MAX));
}

void rest_message_list(struct call *call) { list(call, true); }

void rest_event_list(struct call *call) { list(call, false); }

void rest_message_get(struct call *call)
{
    uint64_t room, in_room, seq;
    if (!call_room(call, &room)) return;
    bool by_id = message_id_parse(call->params[1], &in_room, &seq);
    if ((!by_id && !slice_u64(call->params[1], &seq)) || (by_id && in_room != room) || seq == 0) {
        call_fail(call, ERR_MESSAGE_NOT_FOUND, NULL, NULL);
        return;
    }
    struct op *op = call_op(call, OP_ROOM_HISTORY, 0);
    op->room = room;
    op->in.history.single = seq;
    call_go(call, op);
}

/* --- acks -------------------------------------------------------------------------------------------------------- */

static void acked(struct core *core, struct op *op)
{
    op->http_status = 200;
    if (!op_failed(op)) BUF_LIT(&op->out, "{\"success\":true}");
    rest_answer(core, op);
}

static bool device_header(struct call *call, struct slice *device)
{
    *device = http_header_find(call->request, "X-Device-Id");
    if (device->len <= DEVICE_BYTES_MAX && json_utf8_valid(*device)) return true;
    return call_fail(call, ERR_FIELD_TOO_LONG, "A device name is at most 64 bytes of UTF-8", "X-Device-Id");
}

static void mark(struct call *call, bool read)
{
    uint64_t room, seq = 0;
    if (!call_body(call, false)) return;
    struct fields f = {.object = call->body};
    if (!field_room(&f, "room_id", &room) || !field_u64(&f, "seq", &seq, true)) {
        call_fail(call, f.error.code, f.error.detail, f.error.field);
        return;
    }
    struct slice device;
    if (!device_header(call, &device)) return;
    struct op *op = call_op(call, OP_ROOM_ACK, device.len);
    op->room = room;
    op->in.cursor.seq = seq;
    op->in.cursor.read = read;
    op->in.cursor.device = op_keep(op, device);
    op->then = acked;
    core_count(call->core, METRIC_ACKS, 1);
    call_go(call, op);
}

void rest_ack(struct call *call) { mark(call, false); }

void rest_read(struct call *call) { mark(call, true); }

/* --- sync -------------------------------------------------------------------------------------------------------- */


void rest_sync(struct call *call)
{
    struct slice device;
    if (!device_header(call, &device) || !call_body(call, true)) return;
    struct op *op = call_op(call, OP_USER_ROOMS, device.len);
    op->in.rooms.device = op_keep(op, device);
    op->then = listed;
    op->http_status = 200;
    if (sync_begin(call->core, op, call->body)) call_go_long(call, op, sync_bound(call->core, op));
    else rest_answer(call->core, op);
}
