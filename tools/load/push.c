#define _GNU_SOURCE /* memmem */
#include "push.h"

#include "../../src/base/assert.h"

static const char *find(struct slice frame, struct slice needle, uint32_t *hint)
{
    if (*hint + needle.len <= frame.len && memcmp(frame.data + *hint, needle.data, needle.len) == 0)
        return frame.data + *hint + needle.len;
    const char *at = frame.len ? memmem(frame.data, frame.len, needle.data, needle.len) : NULL;
    if (!at) return NULL;
    *hint = (uint32_t)(at - frame.data);
    return at + needle.len;
}

enum push_kind push_kind_of(struct slice frame)
{
    if (slice_starts(frame, SLICE("{\"type\":\"message\","))) return PUSH_MESSAGE;
    if (slice_starts(frame, SLICE("{\"type\":\"ok\","))) return PUSH_OK;
    return PUSH_OTHER;
}

bool push_number(uint64_t *out, struct slice frame, struct slice needle, uint32_t *hint)
{
    const char *at = find(frame, needle, hint), *end = frame.data + frame.len;
    if (!at || at == end || *at < '0' || *at > '9') return false;
    uint64_t v = 0;
    for (unsigned digits = 0; at < end && *at >= '0' && *at <= '9'; at++, digits++) {
        if (digits == 19) return false;
        v = v * 10 + (uint64_t)(*at - '0');
    }
    *out = v;
    return true;
}

bool push_has(struct slice frame, struct slice needle, uint32_t *hint)
{
    return find(frame, needle, hint) != NULL;
}

struct slice push_text(struct slice frame, struct slice needle)
{
    uint32_t hint = 0;
    const char *at = find(frame, needle, &hint);
    if (!at) return (struct slice){0};
    const char *end = memchr(at, '"', (size_t)(frame.data + frame.len - at));
    return end ? slice_of(at, (size_t)(end - at)) : (struct slice){0};
}

static char *hex_write(char *out, uint64_t v, unsigned digits)
{
    for (unsigned i = digits; i-- > 0;) *out++ = "0123456789abcdef"[(v >> (4 * i)) & 15];
    return out;
}

static bool hex_read(uint64_t *out, const char *text, unsigned digits)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < digits; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

void stamp_write(char out[STAMP_LEN], const struct stamp *stamp)
{
    ASSERT(stamp->publisher < 1u << 24 && stamp->number < 1ull << 40);
    char *at = hex_write(out, stamp->run, 8);
    at = hex_write(at, stamp->publisher, 6);
    at = hex_write(at, stamp->number, 10);
    hex_write(at, stamp->intended_ns, 16);
}

bool stamp_read(struct stamp *out, struct slice frame)
{
    uint64_t run, publisher;
    uint32_t hint = 0;
    const char *at = find(frame, SLICE("\"content\":\""), &hint);
    if (!at || (size_t)(frame.data + frame.len - at) < STAMP_LEN) return false;
    if (!hex_read(&run, at, 8) || !hex_read(&publisher, at + 8, 6) || !hex_read(&out->number, at + 14, 10) ||
        !hex_read(&out->intended_ns, at + 24, 16))
        return false;
    out->run = (uint32_t)run;
    out->publisher = (uint32_t)publisher;
    return true;
}
