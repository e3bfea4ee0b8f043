#include "wire.h"

#include <string.h>

#include "world.h"

/* --- HTTP ---------------------------------------------------------------------------------------------------- */

static size_t find(struct slice in, const char *what)
{
    size_t len = strlen(what);
    for (size_t at = 0; at + len <= in.len; at++)
        if (memcmp(in.data + at, what, len) == 0) return at;
    return SIZE_MAX;
}

static bool header(struct slice head, const char *name, struct slice *value)
{
    while (head.len) {
        size_t end = find(head, "\r\n");
        struct slice line = {head.data, end == SIZE_MAX ? head.len : end};
        size_t colon = find(line, ": ");
        if (colon != SIZE_MAX && slice_eq_nocase(slice_of(line.data, colon), slice_str(name))) {
            *value = slice_from(line, colon + 2);
            return true;
        }
        head = end == SIZE_MAX ? SLICE_NONE : slice_from(head, end + 2);
    }
    return false;
}

size_t wire_answer(struct http_answer *out, struct slice bytes)
{
    size_t end = find(bytes, "\r\n\r\n");
    if (end == SIZE_MAX) {
        CHECK(bytes.len < 16384, "an answer's head does not end");
        return 0;
    }
    struct slice head = {bytes.data, end}, value;
    uint64_t status = 0, length = 0;
    CHECK(slice_starts(head, SLICE("HTTP/1.1 ")) && head.len > 13 && slice_u64(slice_of(head.data + 9, 3), &status),
          "an answer without a status line: %.*s", SLICE_FMT(head));
    *out = (struct http_answer){.status = (unsigned)status};
    out->close = header(head, "Connection", &value) && slice_is(value, "close");
    bool bodyless = status < 200 || status == 204 || status == 304;
    bool has_length = header(head, "Content-Length", &value);
    CHECK(has_length != bodyless, "an answer %u %s Content-Length", out->status, bodyless ? "with" : "without");
    if (has_length) CHECK(slice_u64(value, &length), "a Content-Length that is no number");
    if (bytes.len - end - 4 < length) return 0;
    out->body = slice_of(bytes.data + end + 4, length);
    return end + 4 + length;
}

/* --- WebSocket ----------------------------------------------------------------------------------------------- */

/* RFC 6455 section 5.2, from the server:
 *
 *   fin 1 | rsv 000 | opcode:4 || mask 0 | length:7 (126: u16 follows, 127: u64) || payload */
size_t wire_frame(enum wire_opcode *opcode, struct slice *payload, struct slice bytes)
{
    if (bytes.len < 2) return 0;
    const unsigned char *at = (const unsigned char *)bytes.data;
    CHECK((at[0] & 0xf0) == 0x80, "a frame that is not final, or with reserved bits: %02x", at[0]);
    CHECK((at[1] & 0x80) == 0, "a masked frame from the server");
    *opcode = (enum wire_opcode)(at[0] & 0x0f);
    CHECK(*opcode == WIRE_TEXT || *opcode == WIRE_CLOSE || *opcode == WIRE_PING || *opcode == WIRE_PONG,
          "a frame with opcode %u", (unsigned)*opcode);
    size_t head = 2, extra = at[1] == 126 ? 2 : at[1] == 127 ? 8 : 0;
    uint64_t len = extra ? 0 : at[1];
    if (bytes.len < head + extra) return 0;
    for (size_t i = 0; i < extra; i++) len = len << 8 | at[head + i];
    head += extra;
    CHECK(len < 8u << 20 && (extra == 0 || len > 125) && (extra < 8 || len > 65535), "a frame length badly encoded");
    if (bytes.len - head < len) return 0;
    *payload = slice_of(bytes.data + head, len);
    return head + len;
}

void wire_send(struct buf *out, enum wire_opcode opcode, bool final, struct slice payload, uint32_t mask)
{
    unsigned char head[14];
    size_t len = 0;
    head[len++] = (unsigned char)((final ? 0x80 : 0) | opcode);
    if (payload.len < 126) {
        head[len++] = (unsigned char)(0x80 | payload.len);
    } else {
        head[len++] = 0x80 | 126;
        head[len++] = (unsigned char)(payload.len >> 8);
        head[len++] = (unsigned char)payload.len;
    }
    CHECK(payload.len < 65536, "a message longer than the simulator sends");
    unsigned char key[4];
    memcpy(key, &mask, 4);
    memcpy(head + len, key, 4);
    buf_append(out, head, len + 4);
    for (size_t i = 0; i < payload.len; i++) buf_char(out, (char)((unsigned char)payload.data[i] ^ key[i % 4]));
}

/* --- JSON ---------------------------------------------------------------------------------------------------- */

/* value_len measures the value at the front of `s`: a string, or anything with balanced brackets up to a comma. */
static size_t value_len(struct slice s)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        else if (c == '{' || c == '[') depth++;
        else if (c == '}' || c == ']') {
            if (depth == 0) return i;
            depth--;
        } else if (c == ',' && depth == 0) {
            return i;
        }
    }
    CHECK(depth == 0 && !in_string, "JSON that does not end: %.*s", SLICE_FMT(s));
    return s.len;
}

static struct slice unquoted(struct slice s)
{
    return s.len >= 2 && s.data[0] == '"' ? slice_of(s.data + 1, s.len - 2) : s;
}

bool json_member(struct slice object, const char *name, struct slice *value)
{
    CHECK(object.len >= 2 && object.data[0] == '{' && object.data[object.len - 1] == '}', "no JSON object: %.*s",
          SLICE_FMT(object));
    struct slice rest = slice_of(object.data + 1, object.len - 2);
    while (rest.len) {
        CHECK(rest.data[0] == '"', "a JSON object without a name: %.*s", SLICE_FMT(rest));
        size_t end = find(slice_from(rest, 1), "\":");
        CHECK(end != SIZE_MAX, "a JSON name without a value: %.*s", SLICE_FMT(rest));
        struct slice found = slice_of(rest.data + 1, end);
        rest = slice_from(rest, end + 3);
        size_t len = value_len(rest);
        if (slice_is(found, name)) {
            *value = unquoted(slice_of(rest.data, len));
            return !slice_is(slice_of(rest.data, len), "null");
        }
        rest = slice_from(rest, len + (len < rest.len));
    }
    return false;
}

uint64_t json_number(struct slice object, const char *name)
{
    struct slice value;
    uint64_t number = 0;
    if (json_member(object, name, &value)) CHECK(slice_u64(value, &number), "%s is no number", name);
    return number;
}

bool json_element(struct slice *array, struct slice *element)
{
    if (array->len && array->data[0] == '[') {
        CHECK(array->data[array->len - 1] == ']', "a JSON array that does not end");
        *array = slice_of(array->data + 1, array->len - 2);
    }
    if (array->len == 0) return false;
    size_t len = value_len(*array);
    *element = slice_of(array->data, len);
    *array = slice_from(*array, len + (len < array->len));
    return true;
}
