/* slice: a borrowed run of bytes. Never owns, never NUL-terminated; the owner's lifetime is the slice's. */
#ifndef CARILLON_BASE_SLICE_H
#define CARILLON_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *data; /* may be NULL when len is 0 */
    size_t len;       /* bytes */
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_NONE ((struct slice){0})
#define SLICE_FMT(s) (int)(s).len, (s).data /* for "%.*s" */

static inline struct slice slice_of(const void *data, size_t len) { return (struct slice){data, len}; }
static inline struct slice slice_str(const char *text) { return (struct slice){text, text ? strlen(text) : 0}; }

static inline bool slice_eq(struct slice a, struct slice b)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a slice without bytes has no length */
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_is(struct slice a, const char *text) { return slice_eq(a, slice_str(text)); }

/* slice_eq_nocase compares ASCII letters without case; other bytes exactly (RFC 9110 5.1 field names). */
static inline bool slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++) {
        unsigned char x = (unsigned char)a.data[i], y = (unsigned char)b.data[i];
        if (x >= 'A' && x <= 'Z') x |= 0x20;
        if (y >= 'A' && y <= 'Z') y |= 0x20;
        if (x != y) return false;
    }
    return true;
}

static inline bool slice_starts(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && memcmp(a.data, prefix.data, prefix.len) == 0;
}

static inline struct slice slice_from(struct slice a, size_t at)
{
    return at >= a.len ? (struct slice){a.data + a.len, 0} : (struct slice){a.data + at, a.len - at};
}

/* slice_u64 parses a whole slice of decimal digits; false when empty, not digits, or above UINT64_MAX. */
static inline bool slice_u64(struct slice a, uint64_t *out)
{
    if (a.len == 0 || a.len > 20) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < a.len; i++) {
        unsigned d = (unsigned)(unsigned char)a.data[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v)) return false;
    }
    *out = v;
    return true;
}

#endif
