/* log: JSON lines on stderr: {"ts":…,"level":…,"scope":…,"event":…, fields}.
 *
 * One write(2) a line, so lines of several threads never mix. Rate-limited per call site (LOG_SITE_PER_SECOND lines a
 * second; what was dropped is counted into the next line as "dropped"). A line longer than LOG_LINE_BYTES_MAX loses the
 * end of the text that reaches past it and all fields behind, and says "cut":true. Any thread may log. Never a token, a
 * key or a message body. */
#ifndef CARILLON_BASE_LOG_H
#define CARILLON_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* A field's value; build with the LOG_STR … macros, end with LOG_END. */
struct log_field {
    const char *name; /* NULL ends the list */
    enum { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_BOOL, LOG_FIELD_US } kind;
    struct slice str;
    uint64_t number;
};

#define LOG_STR(name, text) ((struct log_field){(name), LOG_FIELD_STR, slice_str(text), 0})
#define LOG_SLICE(name, s) ((struct log_field){(name), LOG_FIELD_STR, (s), 0})
#define LOG_U64(name, v) ((struct log_field){(name), LOG_FIELD_U64, {0}, (uint64_t)(v)})
#define LOG_I64(name, v) ((struct log_field){(name), LOG_FIELD_I64, {0}, (uint64_t)(int64_t)(v)})
#define LOG_FLAG(name, v) ((struct log_field){(name), LOG_FIELD_BOOL, {0}, (v) ? 1u : 0u})
/* LOG_US takes microseconds and writes milliseconds with three decimals; its name ends in _ms. */
#define LOG_US(name, us) ((struct log_field){(name), LOG_FIELD_US, {0}, (uint64_t)(us)})
#define LOG_ERRNO(error) LOG_STR("error", log_errno_text(error))
#define LOG_END ((struct log_field){0})

struct log_site {
    _Atomic uint64_t window; /* second << 16 | lines in it */
    _Atomic uint64_t dropped;
};

#define LOG_SITE_PER_SECOND 20u
#define LOG_LINE_BYTES_MAX 4096u /* with the newline: what a pipe takes without mixing writers (PIPE_BUF, pipe(7)) */

void log_set_level(enum log_level level);
/* log_level_parse knows debug, info, warn, error. */
bool log_level_parse(struct slice name, enum log_level *out);
extern _Atomic int log_level_now;

/* log_write writes one line at once; text that is not UTF-8 gets U+FFFD for each bad byte. errno is kept. A line that
 * stderr does not take is lost. */
void log_write(struct log_site *site, enum log_level level, const char *scope, const char *event,
               const struct log_field *fields);
/* log_errno_text names an errno value of either sign ("ENOENT"; the ring reports -ENOENT), never NULL; thread-safe. */
const char *log_errno_text(int error);

/* LOG(LOG_INFO, "net", "accept_failed", LOG_ERRNO(e), LOG_U64("fd", fd)); fields are not built when filtered out. */
#define LOG(level, scope, event, ...) \
    do { \
        if ((int)(level) >= atomic_load_explicit(&log_level_now, memory_order_relaxed)) { \
            static struct log_site log_site_here; \
            const struct log_field log_fields_here[] = {__VA_ARGS__ __VA_OPT__(, ) LOG_END}; \
            log_write(&log_site_here, (level), (scope), (event), log_fields_here); \
        } \
    } while (0)

#endif
