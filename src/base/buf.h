/* buf: a growable byte buffer for building text off the per-recipient path.
 *
 * A zeroed struct is an empty buffer and safe to free. Appending grows by doubling; an allocation that
 * fails aborts (jemalloc under a memory limit: the process restarts, nothing acknowledged is lost).
 * Borrowed views (`buf_slice`) are valid until the next append. */
#ifndef CARILLON_BASE_BUF_H
#define CARILLON_BASE_BUF_H

#include <stdarg.h>

#include "slice.h"

struct buf {
    char *data;
    size_t len, cap; /* bytes */
};

void buf_free(struct buf *b);
void buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* buf_consume drops the first n bytes by moving the rest down. */
void buf_consume(struct buf *b, size_t n);
/* buf_u64 appends v in decimal. */
void buf_u64(struct buf *b, uint64_t v);
/* buf_json_string appends a quoted JSON string (RFC 8259 section 7); `s` must be UTF-8. */
void buf_json_string(struct buf *b, struct slice s);

static inline void buf_slice_append(struct buf *b, struct slice s) { buf_append(b, s.data, s.len); }
static inline void buf_char(struct buf *b, char c) { buf_append(b, &c, 1); }
static inline struct slice buf_slice(const struct buf *b) { return (struct slice){b->data, b->len}; }
/* BUF_LIT appends a string literal. */
#define BUF_LIT(b, literal) buf_append((b), (literal), sizeof(literal) - 1)

/* json_escaped_len returns how many bytes json_escape writes for `s`, without the quotes. */
size_t json_escaped_len(struct slice s);
/* json_escape writes `s` escaped to `out`, which has room for json_escaped_len bytes; returns the end. */
char *json_escape(char *out, struct slice s);
/* u64_text writes v in decimal to `out` (room for 20 bytes) and returns the end. */
char *u64_text(char *out, uint64_t v);

#endif
