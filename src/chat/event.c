#include "event.h"

#include "../../net/websocket.h"
#include "../base/assert.h"
#include "../base/clock.h"
#include "ids.h"

/* One walk serves both for measuring and for writing: a sink without a destination only counts. */
struct sink {
    char *out; /* NULL: count */
    size_t len;
};

static void event_walk(struct sink *s, const struct log_record *r, enum event_shape shape);

size_t event_json_len(const struct log_record *r, enum event_shape shape)
{
    struct sink s = {NULL, 0};
    event_walk(&s, r, shape);
    return s.len;
}

char *event_json(char *out, const struct log_record *r, enum event_shape shape)
{
    struct sink s = {out, 0};
    event_walk(&s, r, shape);
    return out + s.len;
}

size_t event_frame_len(const struct log_record *r)
{
    size_t payload = event_json_len(r, EVENT_PUSH);
    return ws_header_len(payload) + payload;
}

char *event_frame(char *out, const struct log_record *r)
{
    size_t payload = event_json_len(r, EVENT_PUSH);
    uint8_t header[WS_HEADER_MAX];
    size_t header_len = ws_header(header, WS_OP_TEXT, payload);
    memcpy(out, header, header_len);
    char *end = event_json(out + header_len, r, EVENT_PUSH);
    ASSERT((size_t)(end - out) == header_len + payload);
    return end;
}

static void put(struct sink *s, const char *data, size_t len)
{
    if (s->out && len) memcpy(s->out + s->len, data, len);
    s->len += len;
}

#define PUT(s, literal) put((s), (literal), sizeof(literal) - 1)

static void put_string(struct sink *s, struct slice text)
{
    PUT(s, "\"");
    if (s->out) s->len = (size_t)(json_escape(s->out + s->len, text) - s->out);
    else s->len += json_escaped_len(text);
    PUT(s, "\"");
}

static void put_string_or_null(struct sink *s, struct slice text)
{
    if (text.len) put_string(s, text);
    else PUT(s, "null");
}

static void put_u64(struct sink *s, uint64_t v)
{
    char digits[20];
    put(s, digits, (size_t)(u64_text(digits, v) - digits));
}

static void put_ids(struct sink *s, const struct log_record *r, bool message)
{
    char text[MESSAGE_ID_TEXT_MAX];
    PUT(s, "\"room_id\":\"");
    put(s, text, (size_t)(room_id_text(text, r->room) - text));
    if (message) {
        PUT(s, "\",\"message_id\":\"");
        put(s, text, (size_t)(message_id_text(text, r->room, r->seq) - text));
    }
    PUT(s, "\",\"seq\":");
    put_u64(s, r->seq);
}

static void put_created(struct sink *s, const struct log_record *r)
{
    char text[TIME_TEXT_LEN];
    time_text(text, r->created_ms);
    PUT(s, ",\"created_at\":\"");
    put(s, text, TIME_TEXT_LEN);
    PUT(s, "\"");
}

static void put_reply_to(struct sink *s, const struct log_record *r)
{
    if (r->reply_to == 0) {
        PUT(s, "null");
    } else if (r->flags & LOG_REPLY_BY_ID) {
        char text[MESSAGE_ID_TEXT_MAX];
        put_string(s, slice_of(text, (size_t)(message_id_text(text, r->room, r->reply_to) - text)));
    } else {
        put_u64(s, r->reply_to);
    }
}

static void put_message(struct sink *s, const struct log_record *r, enum event_shape shape)
{
    if (shape == EVENT_PUSH) PUT(s, "{\"type\":\"message\",");
    else PUT(s, "{");
    put_ids(s, r, true);
    PUT(s, ",\"sender_id\":");
    put_string(s, r->sender_id);
    PUT(s, ",\"content\":");
    put_string(s, r->content);
    PUT(s, ",\"meta\":");
    if (r->meta.len) put(s, r->meta.data, r->meta.len);
    else PUT(s, "null");
    PUT(s, ",\"message_type\":");
    put_string(s, r->message_type.len ? r->message_type : SLICE("text"));
    PUT(s, ",\"client_id\":");
    put_string_or_null(s, r->client_id);
    if (shape == EVENT_MESSAGE || r->reply_to) {
        PUT(s, ",\"reply_to\":");
        put_reply_to(s, r);
    }
    put_created(s, r);
    if (shape == EVENT_MESSAGE) PUT(s, ",\"edited_at\":null,\"deleted_at\":null");
    PUT(s, "}");
}

/* put_room_event: joins, leaves and changes; the record's content holds the members of the object that are its own,
 * as JSON text without braces (`"user_ids":["a","b"]`). */
static void put_room_event(struct sink *s, const struct log_record *r, const char *type, size_t type_len)
{
    PUT(s, "{\"type\":\"");
    put(s, type, type_len);
    PUT(s, "\",");
    put_ids(s, r, false);
    if (r->content.len) {
        PUT(s, ",");
        put(s, r->content.data, r->content.len);
    }
    PUT(s, ",\"actor_id\":");
    put_string_or_null(s, r->sender_id);
    put_created(s, r);
    PUT(s, "}");
}

#define PUT_ROOM_EVENT(s, r, type) put_room_event((s), (r), (type), sizeof(type) - 1)

static void event_walk(struct sink *s, const struct log_record *r, enum event_shape shape)
{
    switch ((enum log_kind)r->kind) {
    case LOG_MESSAGE: put_message(s, r, shape); return;
    case LOG_JOINED: PUT_ROOM_EVENT(s, r, "user_joined"); return;
    case LOG_LEFT: PUT_ROOM_EVENT(s, r, "user_left"); return;
    case LOG_ROOM_UPDATED: PUT_ROOM_EVENT(s, r, "room.updated"); return;
    case LOG_EDITED: PUT_ROOM_EVENT(s, r, "message.edited"); return;
    case LOG_DELETED: PUT_ROOM_EVENT(s, r, "message.deleted"); return;
    case LOG_REACTION: PUT_ROOM_EVENT(s, r, "reaction"); return;
    }
    UNREACHABLE();
}
