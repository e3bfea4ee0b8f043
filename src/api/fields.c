/* fields: reading requests: JSON bodies, fields with their bounds, ids. */
#include "../chat/ids.h"
#include "api.h"

bool call_body(struct call *call, bool optional)
{
    static const char empty[2 + JSON_PADDING] = "{}";
    struct slice text = call->request->body;
    if (text.len == 0 && optional) text = slice_of(empty, 2);
    switch (json_parse(call->core->json, &call->body, text)) {
    case JSON_OK: break;
    case JSON_MALFORMED: return call_fail(call, ERR_JSON_MALFORMED, NULL, NULL);
    case JSON_BAD_UTF8: return call_fail(call, ERR_JSON_MALFORMED, "The body is not valid UTF-8", NULL);
    case JSON_TOO_DEEP: return call_fail(call, ERR_JSON_TOO_DEEP, NULL, NULL);
    case JSON_TOO_LARGE: return call_fail(call, ERR_JSON_MALFORMED, "The body is too large", NULL);
    }
    if (json_type_of(call->body) != JSON_OBJECT) return call_fail(call, ERR_JSON_NOT_OBJECT, NULL, NULL);
    return true;
}

bool call_page(struct call *call, uint32_t *limit, char *cursor_bytes, size_t cursor_cap, struct slice *cursor)
{
    char text[24];
    size_t len;
    uint64_t wish = PAGE_LIMIT_DEFAULT;
    *cursor = (struct slice){0};
    int found = http_query_find(call->request->query, "limit", text, sizeof text, &len);
    if (found && (found < 0 || !slice_u64(slice_of(text, len), &wish) || !page_limit_valid(wish)))
        return call_fail(call, ERR_FIELD_INVALID, "limit is 1 to 1000", "limit");
    *limit = (uint32_t)wish;
    found = http_query_find(call->request->query, "cursor", cursor_bytes, cursor_cap, &len);
    if (found < 0 || (found && len == 0)) return call_fail(call, ERR_CURSOR_INVALID, NULL, "cursor");
    if (found) *cursor = slice_of(cursor_bytes, len);
    return true;
}

bool call_query(struct call *call, const char *name, char *bytes, size_t cap, struct slice *out)
{
    size_t len = 0;
    int found = http_query_find(call->request->query, name, bytes, cap, &len);
    *out = slice_of(bytes, found > 0 ? len : 0);
    return found >= 0 || call_fail(call, ERR_FIELD_INVALID, NULL, name);
}

bool call_tenant_id(struct call *call, struct slice id, uint32_t *number)
{
    *number = 0;
    if (id.len == 0) return true;
    struct tenant *t = tenant_id_parse(id, number) ? directory_tenant(&call->core->directory, *number) : NULL;
    return (t && t->state != TENANT_DELETED) || call_fail(call, ERR_TENANT_NOT_FOUND, NULL, "tenant_id");
}

bool call_idempotency_key(struct call *call, struct slice *out)
{
    *out = http_header_find(call->request, "Idempotency-Key");
    if (!out->data) return true;
    if (out->len == 0 || out->len > CLIENT_ID_BYTES_MAX || !json_utf8_valid(*out))
        return call_fail(call, ERR_IDEMPOTENCY_KEY_INVALID, NULL, "Idempotency-Key");
    return true;
}

size_t call_key_bytes(const struct call *call, struct slice key)
{
    return key.len ? call->request->path.len + 1 + key.len : 0;
}

void call_key_keep(struct call *call, struct op *op, struct slice key)
{
    if (key.len == 0) return;
    struct slice scope = call->request->path;
    call_strip_version(&scope); /* /v1 and /api/v1 are the same place */
    size_t scope_len = op_keep(op, scope).len;
    struct slice kept = op_keep(op, SLICE(" "));
    op_keep(op, key);
    op->client_id = (struct slice){kept.data - scope_len, scope_len + 1 + key.len};
    op->payload_hash = hash_bytes(&call->core->gateway->fingerprint_key, call->request->body);
}

bool call_room(struct call *call, uint64_t *room)
{
    return room_id_parse(call->params[0], room) || call_fail(call, ERR_ROOM_NOT_FOUND, NULL, NULL);
}

bool fields_fail(struct fields *f, enum error_code code, const char *detail, const char *field)
{
    if (f->error.code == ERR_NONE) f->error = (struct error){code, detail, field};
    return false;
}

/* field_node finds a field; absent and null are alike. */
static bool field_node(struct fields *f, const char *name, struct json_node *out, bool required, bool *present)
{
    *present = json_get(f->object, name, out) && json_type_of(*out) != JSON_NULL;
    return *present || !required || fields_fail(f, ERR_FIELD_MISSING, NULL, name);
}

bool field_text(struct fields *f, const char *name, struct slice *out, size_t chars_max, bool required)
{
    struct json_node n;
    bool present;
    if (!field_node(f, name, &n, required, &present)) return false;
    if (!present) return true;
    if (json_type_of(n) != JSON_STRING) return fields_fail(f, ERR_FIELD_INVALID, "Expected a string", name);
    *out = json_string(n);
    if (out->len > chars_max && json_utf8_chars(*out) > chars_max)
        return fields_fail(f, ERR_FIELD_TOO_LONG, NULL, name);
    if (required && out->len == 0) return fields_fail(f, ERR_FIELD_INVALID, "Must not be empty", name);
    return true;
}

bool field_u64(struct fields *f, const char *name, uint64_t *out, bool required)
{
    struct json_node n;
    bool present;
    if (!field_node(f, name, &n, required, &present)) return false;
    if (!present) return true;
    return json_u64(n, out) || fields_fail(f, ERR_FIELD_INVALID, "Expected an integer that is not negative", name);
}

bool field_bool(struct fields *f, const char *name, bool *out)
{
    struct json_node n;
    bool present;
    if (!field_node(f, name, &n, false, &present)) return false;
    if (!present) return true;
    return json_bool(n, out) || fields_fail(f, ERR_FIELD_INVALID, "Expected true or false", name);
}

bool field_room(struct fields *f, const char *name, uint64_t *room)
{
    struct slice text = {0};
    if (!field_text(f, name, &text, 256, true)) return false;
    return room_id_parse(text, room) || fields_fail(f, ERR_ROOM_NOT_FOUND, NULL, name);
}

static bool reply_field(struct fields *f, uint64_t room, struct message_fields *m)
{
    struct json_node n;
    bool present;
    field_node(f, "reply_to", &n, false, &present);
    if (!present) return true;
    if (json_type_of(n) == JSON_STRING) {
        uint64_t in_room;
        m->reply_by_id = true;
        if (!message_id_parse(json_string(n), &in_room, &m->reply_to) || in_room != room)
            return fields_fail(f, ERR_REPLY_NOT_FOUND, NULL, "reply_to");
        return true;
    }
    if (!json_u64(n, &m->reply_to))
        return fields_fail(f, ERR_FIELD_INVALID, "Expected a seq or a message id", "reply_to");
    return m->reply_to > 0 || fields_fail(f, ERR_REPLY_NOT_FOUND, NULL, "reply_to");
}

bool message_fields_read(struct core *core, struct fields *f, struct slice text, uint64_t room,
                         struct message_fields *m)
{
    struct json_node n;
    bool present;
    size_t chars_max = core->gateway->config->limits_content_chars;
    *m = (struct message_fields){0};
    if (!field_node(f, "content", &n, true, &present)) return false;
    if (json_type_of(n) != JSON_STRING) return fields_fail(f, ERR_FIELD_INVALID, "Expected a string", "content");
    m->content = json_string(n);
    if (m->content.len == 0) return fields_fail(f, ERR_FIELD_INVALID, "Must not be empty", "content");
    if (m->content.len > chars_max && json_utf8_chars(m->content) > chars_max)
        return fields_fail(f, ERR_CONTENT_TOO_LONG, NULL, "content");
    if (!field_text(f, "message_type", &m->message_type, MESSAGE_TYPE_BYTES_MAX, false)) return false;
    if (m->message_type.len > MESSAGE_TYPE_BYTES_MAX) return fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "message_type");
    if (!field_text(f, "client_id", &m->client_id, CLIENT_ID_BYTES_MAX, false)) return false;
    if (m->client_id.len > CLIENT_ID_BYTES_MAX) return fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "client_id");
    if (!field_node(f, "meta", &n, false, &present)) return false;
    if (present) m->meta = json_raw_member(text, "meta");
    if (m->meta.len > META_BYTES_MAX) return fields_fail(f, ERR_FIELD_TOO_LONG, NULL, "meta");
    return reply_field(f, room, m);
}

size_t message_fields_bytes(const struct message_fields *m)
{
    return m->content.len + m->meta.len + m->message_type.len + m->client_id.len;
}

void message_op(struct op *op, const struct message_fields *m)
{
    op->in.send.content = op_keep(op, m->content);
    op->in.send.meta = op_keep(op, m->meta);
    op->in.send.message_type = op_keep(op, m->message_type);
    op->in.send.reply_to = m->reply_to;
    op->in.send.reply_by_id = m->reply_by_id;
    op->client_id = op_keep(op, m->client_id);
}

bool page_limit_valid(uint64_t limit) { return limit >= 1 && limit <= PAGE_LIMIT_MAX; }
