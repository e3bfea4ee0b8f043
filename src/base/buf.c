#include "buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "assert.h"

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_reserve(struct buf *b, size_t more)
{
    size_t need = b->len + more;
    ASSERT(need >= b->len);
    if (need <= b->cap) return;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < need) cap *= 2;
    char *grown = realloc(b->data, cap);
    ASSERT(grown != NULL);
    b->data = grown;
    b->cap = cap;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0) return;
    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    for (;;) {
        va_list again;
        buf_reserve(b, 64);
        size_t room = b->cap - b->len;
        va_copy(again, args);
        int n = vsnprintf(b->data + b->len, room, format, again);
        va_end(again);
        ASSERT(n >= 0);
        if ((size_t)n < room) {
            b->len += (size_t)n;
            return;
        }
        buf_reserve(b, (size_t)n + 1);
    }
}

void buf_consume(struct buf *b, size_t n)
{
    ASSERT(n <= b->len);
    b->len -= n;
    if (b->len) memmove(b->data, b->data + n, b->len);
}

char *u64_text(char *out, uint64_t v)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n) *out++ = digits[--n];
    return out;
}

void buf_u64(struct buf *b, uint64_t v)
{
    buf_reserve(b, 20);
    b->len = (size_t)(u64_text(b->data + b->len, v) - b->data);
}

/* escape_kind: 0 copies the byte, 1 needs a two-byte escape, 2 needs \u00XX. */
static unsigned escape_kind(unsigned char c)
{
    if (c >= 0x20) return c == '"' || c == '\\';
    return (c >= 8 && c <= 13 && c != 11) ? 1 : 2;
}

#define EACH_BYTE 0x0101010101010101u

/* plain_run counts the bytes that `text` begins with and that need no escape, eight at a time: x - n in each byte of a
 * word sets the top bit of those below n, and of a byte that is 0 for n = 1; a borrow passes on only above one that is
 * found. */
static size_t plain_run(const char *text, size_t len)
{
    size_t at = 0;
    for (; len - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, sizeof word);
        uint64_t quote = word ^ EACH_BYTE * '"', backslash = word ^ EACH_BYTE * '\\';
        uint64_t found = ((word - EACH_BYTE * 0x20) & ~word) | ((quote - EACH_BYTE) & ~quote) |
                         ((backslash - EACH_BYTE) & ~backslash);
        if (found & EACH_BYTE * 0x80) break;
    }
    while (at < len && (unsigned char)text[at] >= 0x20 && text[at] != '"' && text[at] != '\\') at++;
    return at;
}

size_t json_escaped_len(struct slice s)
{
    size_t len = s.len;
    for (size_t at = plain_run(s.data, s.len); at < s.len; at += 1 + plain_run(s.data + at + 1, s.len - at - 1))
        len += escape_kind((unsigned char)s.data[at]) == 1 ? 1 : 5;
    return len;
}

static char *escape_one(char *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    *out++ = '\\';
    if (c == '"' || c == '\\') {
        *out++ = (char)c;
    } else if (escape_kind(c) == 1) {
        *out++ = "btn?fr"[c - 8];
    } else {
        memcpy(out, "u00", 3);
        out[3] = hex[c >> 4];
        out[4] = hex[c & 15];
        out += 5;
    }
    return out;
}

char *json_escape(char *out, struct slice s)
{
    for (size_t at = 0; at < s.len;) {
        size_t run = plain_run(s.data + at, s.len - at);
        memcpy(out, s.data + at, run);
        out += run;
        at += run;
        if (at < s.len) out = escape_one(out, (unsigned char)s.data[at++]);
    }
    return out;
}

void buf_json_string(struct buf *b, struct slice s)
{
    size_t len = json_escaped_len(s);
    buf_reserve(b, len + 2);
    char *out = b->data + b->len;
    *out++ = '"';
    out = json_escape(out, s);
    *out++ = '"';
    b->len += len + 2;
    ASSERT((size_t)(out - b->data) == b->len);
}
