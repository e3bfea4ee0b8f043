/* log: JSON lines: {"ts":…,"level":…,"scope":…,"event":…, fields}, on stderr unless a sink takes them (log_writer.h).
 *
 * A line is written whole, so lines of several threads never mix. Rate-limited per call site (LOG_SITE_PER_SECOND lines
 * a second; what was dropped is counted into the next line as "dropped"). A line longer than LOG_LINE_BYTES_MAX loses
 * the end of the text that reaches past it and all fields behind, and says "cut":true. Any thread may log. Never a
 * token, a key or a message body. */
#ifndef CARILLON_BASE_LOG_H
#define CARILLON_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* A field's value; a text whose data is NULL is left out. Build with the LOG_STR … macros, end with LOG_END. */
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

/* Parts of the program that may have a level of their own. Lines of any other scope follow the general level. */
#define LOG_SCOPES \
    "action", "backup", "config", "log", "net", "notify", "process", "room", "session", "store", "user"

/* log_set_level gives every scope the same level. log_set_levels gives those in a list like "net=debug,store=warn"
 * their own; log_levels_valid checks such a list and shows the first item that is none in *bad. */
void log_set_level(enum log_level level);
void log_set_levels(enum log_level level, struct slice scopes);
bool log_levels_valid(struct slice scopes, struct slice *bad);
/* log_level_parse knows debug, info, warn, error. */
bool log_level_parse(struct slice name, enum log_level *out);
extern _Atomic int log_level_now; /* the lowest of all scopes: below it no line is built */

/* log_sink: where lines go instead of stderr. `line` gets a whole line with its newline, from any thread, and must not
 * block; `flush`, which may be NULL, waits a moment for them to arrive. Borrowed until the next log_set_sink. */
struct log_sink {
    void (*line)(struct slice line);
    void (*flush)(void);
};
/* log_set_sink with NULL goes back to stderr: one write(2) a line, and one that stderr does not take is lost. */
void log_set_sink(const struct log_sink *sink);
void log_flush(void);

/* log_write writes one line; text that is not UTF-8 gets U+FFFD for each bad byte. errno is kept. Without a site the
 * line is one that a setting of its own asked for (log.access, log.actions): neither a level nor a rate keeps it
 * back. */
void log_write(struct log_site *site, enum log_level level, const char *scope, const char *event,
               const struct log_field *fields);
/* log_suppressed counts lines that the rate kept back, of all sites. */
uint64_t log_suppressed(void);
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

/* LOG_ALWAYS: the same without a site. */
#define LOG_ALWAYS(level, scope, event, ...) \
    log_write(NULL, (level), (scope), (event), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END})

#endif
