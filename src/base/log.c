#define _GNU_SOURCE /* strerrorname_np (glibc 2.32) */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "assert.h"
#include "buf.h"
#include "clock.h"

_Atomic int log_level_now = LOG_INFO;

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const scope_names[] = {LOG_SCOPES};
enum { SCOPES = sizeof scope_names / sizeof scope_names[0] };

static _Atomic int general_level = LOG_INFO;
static _Atomic int scope_level[SCOPES]; /* the level + 1; 0: the general one */
static _Atomic(const struct log_sink *) sink_now;
static _Atomic uint64_t suppressed;

/* A line while it is written. Nothing is written behind `end`; the bytes from there to the buffer's end are kept for
 * LINE_TAIL, so that a line that was cut is still JSON. */
struct line {
    char text[LOG_LINE_BYTES_MAX];
    char *at, *end;
    bool cut;
};

#define LINE_TAIL ",\"cut\":true}\n"

static bool site_admits(struct log_site *site);
static void line_string(struct line *l, const char *name, struct slice value);
static void line_number(struct line *l, const char *name, uint64_t v);
static void line_field(struct line *l, const struct log_field *f);
static void line_write(struct line *l);

void log_set_level(enum log_level level)
{
    log_set_levels(level, (struct slice){0});
}

/* level_next takes "scope=level" off the front of a list; false at its end. *good is false for what is neither, and
 * *scope is then the item as it stands. */
static bool level_next(struct slice *rest, struct slice *scope, unsigned *index, enum log_level *level, bool *good)
{
    while (rest->len && (rest->data[0] == ',' || rest->data[0] == ' ')) *rest = slice_from(*rest, 1);
    if (rest->len == 0) return false;
    const char *comma = memchr(rest->data, ',', rest->len);
    *scope = slice_of(rest->data, comma ? (size_t)(comma - rest->data) : rest->len);
    *rest = slice_from(*rest, scope->len);
    while (scope->len && scope->data[scope->len - 1] == ' ') scope->len--;
    const char *equals = memchr(scope->data, '=', scope->len);
    size_t name_len = equals ? (size_t)(equals - scope->data) : 0;
    for (*index = 0; *index < SCOPES; (*index)++)
        if (slice_is(slice_of(scope->data, name_len), scope_names[*index])) break;
    *good = *index < SCOPES && log_level_parse(slice_from(*scope, name_len + 1), level);
    return true;
}

/* Lines that are written meanwhile see some scopes' old levels and others' new ones. */
void log_set_levels(enum log_level level, struct slice scopes)
{
    int lowest = (int)level, of_scope[SCOPES] = {0};
    struct slice item;
    unsigned index;
    enum log_level own;
    bool good;
    while (level_next(&scopes, &item, &index, &own, &good)) {
        if (!good) continue;
        of_scope[index] = (int)own + 1;
        if ((int)own < lowest) lowest = (int)own;
    }
    atomic_store_explicit(&general_level, (int)level, memory_order_relaxed);
    for (unsigned i = 0; i < SCOPES; i++) atomic_store_explicit(&scope_level[i], of_scope[i], memory_order_relaxed);
    atomic_store_explicit(&log_level_now, lowest, memory_order_relaxed);
}

bool log_levels_valid(struct slice scopes, struct slice *bad)
{
    unsigned index;
    enum log_level level;
    bool good = true;
    while (good && level_next(&scopes, bad, &index, &level, &good)) {}
    return good;
}

static bool scope_admits(const char *scope, enum log_level level)
{
    int least = 0;
    for (unsigned i = 0; i < SCOPES && !least; i++)
        if (strcmp(scope, scope_names[i]) == 0) least = atomic_load_explicit(&scope_level[i], memory_order_relaxed);
    if (!least) least = atomic_load_explicit(&general_level, memory_order_relaxed) + 1;
    return (int)level + 1 >= least;
}

void log_set_sink(const struct log_sink *sink)
{
    atomic_store_explicit(&sink_now, sink, memory_order_release);
}

void log_flush(void)
{
    const struct log_sink *sink = atomic_load_explicit(&sink_now, memory_order_acquire);
    if (sink && sink->flush) sink->flush();
}

uint64_t log_suppressed(void)
{
    return atomic_load_explicit(&suppressed, memory_order_relaxed);
}

bool log_level_parse(struct slice name, enum log_level *out)
{
    for (unsigned level = LOG_DEBUG; level <= LOG_ERROR; level++) {
        if (!slice_is(name, level_names[level])) continue;
        *out = (enum log_level)level;
        return true;
    }
    return false;
}

void log_write(struct log_site *site, enum log_level level, const char *scope, const char *event,
               const struct log_field *fields)
{
    ASSERT(level >= LOG_DEBUG && level <= LOG_ERROR);
    if (site && !(scope_admits(scope, level) && site_admits(site))) return;
    struct line l;
    l.at = l.text;
    l.end = l.text + sizeof l.text - (sizeof LINE_TAIL - 1);
    l.cut = false;
    char now[TIME_TEXT_LEN];
    time_text(now, clock_wall_ms(clock_real()));
    *l.at++ = '{';
    line_string(&l, "ts", slice_of(now, sizeof now));
    line_string(&l, "level", slice_str(level_names[level]));
    line_string(&l, "scope", slice_str(scope));
    line_string(&l, "event", slice_str(event));
    uint64_t dropped = site ? atomic_exchange_explicit(&site->dropped, 0, memory_order_relaxed) : 0;
    if (dropped) line_number(&l, "dropped", dropped);
    for (; fields->name; fields++) line_field(&l, fields);
    line_write(&l);
}

const char *log_errno_text(int error)
{
    const char *name = strerrorname_np(error < 0 ? -error : error);
    return name ? name : "unknown";
}

/* site_admits counts a line against its site's second; a site is shared by all threads. */
static bool site_admits(struct log_site *site)
{
    uint64_t second = clock_mono_ns(clock_real()) / 1000000000u;
    uint64_t was = atomic_load_explicit(&site->window, memory_order_relaxed), next;
    do {
        bool same = was >> 16 == second;
        if (same && (was & 0xFFFF) >= LOG_SITE_PER_SECOND) {
            atomic_fetch_add_explicit(&site->dropped, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&suppressed, 1, memory_order_relaxed);
            return false;
        }
        next = same ? was + 1 : second << 16 | 1;
    } while (
        !atomic_compare_exchange_weak_explicit(&site->window, &was, next, memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* line_append writes all of it or nothing, and then nothing more follows. */
static bool line_append(struct line *l, struct slice s)
{
    if (l->cut || s.len > (size_t)(l->end - l->at)) {
        l->cut = true;
        return false;
    }
    if (s.len) memcpy(l->at, s.data, s.len);
    l->at += s.len;
    return true;
}

/* character_len is how many bytes the UTF-8 character at `c` has (RFC 3629 section 4), 0 when it is none. */
static size_t character_len(const unsigned char *c, size_t left)
{
    if (c[0] < 0x80) return 1;
    size_t len = c[0] >= 0xF0 ? 4 : c[0] >= 0xE0 ? 3 : 2;
    if (c[0] < 0xC2 || c[0] > 0xF4 || len > left) return 0;
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte: no overlong form, no surrogate */
    if (c[0] == 0xE0) low = 0xA0;
    if (c[0] == 0xED) high = 0x9F;
    if (c[0] == 0xF0) low = 0x90;
    if (c[0] == 0xF4) high = 0x8F;
    if (c[1] < low || c[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((c[i] & 0xC0) != 0x80) return 0;
    return len;
}

/* control_escaped writes what JSON lets through as it is, DEL and the C1 controls (U+0080 to U+009F), as an escape:
 * whoever looks at the log in a terminal is not to obey it. Returns the end, `out` when the character is none of
 * these. */
static char *control_escaped(char out[8], struct slice character)
{
    const unsigned char *c = (const unsigned char *)character.data;
    bool del = character.len == 1 && c[0] == 0x7F, c1 = character.len == 2 && c[0] == 0xC2 && c[1] < 0xA0;
    if (!del && !c1) return out;
    snprintf(out, 8, "\\u%04x", c[character.len - 1]);
    return out + 6;
}

/* line_quoted writes `"text"`; a text that reaches past the line is closed early, at a whole character. */
static void line_quoted(struct line *l, struct slice s)
{
    char *keep = l->end;
    if (!line_append(l, SLICE("\""))) return;
    l->end--; /* for the closing quote */
    for (size_t i = 0; i < s.len && !l->cut;) {
        size_t len = character_len((const unsigned char *)s.data + i, s.len - i);
        struct slice character = len ? slice_of(s.data + i, len) : SLICE("\xEF\xBF\xBD");
        char escaped[8];
        char *end = control_escaped(escaped, character);
        if (end == escaped) end = json_escape(escaped, character);
        line_append(l, slice_of(escaped, (size_t)(end - escaped)));
        i += len ? len : 1;
    }
    l->end = keep;
    *l->at++ = '"';
}

/* line_name writes `,"name":` if `room` bytes of value fit behind it. */
static bool line_name(struct line *l, const char *name, size_t room)
{
    size_t need = 1 + 2 + json_escaped_len(slice_str(name)) + 1 + room;
    if (l->cut || need > (size_t)(l->end - l->at)) {
        l->cut = true;
        return false;
    }
    if (l->at[-1] != '{') *l->at++ = ',';
    line_quoted(l, slice_str(name));
    *l->at++ = ':';
    return true;
}

static void line_string(struct line *l, const char *name, struct slice value)
{
    if (line_name(l, name, 2)) line_quoted(l, value);
}

static void line_number(struct line *l, const char *name, uint64_t v)
{
    if (line_name(l, name, 20)) l->at = u64_text(l->at, v);
}

static void line_signed(struct line *l, const char *name, int64_t v)
{
    if (!line_name(l, name, 20)) return;
    if (v < 0) *l->at++ = '-';
    l->at = u64_text(l->at, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void line_milliseconds(struct line *l, const char *name, uint64_t us)
{
    if (!line_name(l, name, 24)) return;
    l->at = u64_text(l->at, us / 1000);
    char decimals[4] = {'.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10), (char)('0' + us % 10)};
    memcpy(l->at, decimals, sizeof decimals);
    l->at += sizeof decimals;
}

static void line_field(struct line *l, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_FIELD_STR:
        if (f->str.data) line_string(l, f->name, f->str);
        break;
    case LOG_FIELD_U64: line_number(l, f->name, f->number); break;
    case LOG_FIELD_I64: line_signed(l, f->name, (int64_t)f->number); break;
    case LOG_FIELD_US: line_milliseconds(l, f->name, f->number); break;
    case LOG_FIELD_BOOL:
        if (line_name(l, f->name, 5)) line_append(l, f->number ? SLICE("true") : SLICE("false"));
        break;
    }
}

static void line_write(struct line *l)
{
    struct slice tail = l->cut ? SLICE(LINE_TAIL) : SLICE("}\n");
    memcpy(l->at, tail.data, tail.len);
    l->at += tail.len;
    ASSERT((size_t)(l->at - l->text) <= sizeof l->text);
    int error = errno;
    const struct log_sink *sink = atomic_load_explicit(&sink_now, memory_order_acquire);
    if (sink) sink->line(slice_of(l->text, (size_t)(l->at - l->text)));
    else while (write(STDERR_FILENO, l->text, (size_t)(l->at - l->text)) < 0 && errno == EINTR) {}
    errno = error;
}
