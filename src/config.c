#define _GNU_SOURCE /* memrchr, memmem */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

#define ENVIRONMENT_PREFIX "CARILLON_"
#define NAME_BYTES_MAX 64u /* of a setting, in either spelling */

const struct setting settings[SETTINGS] = {
#define SETTING(field, name, type, standard, min, max, unit, reloadable, help) \
    {name, standard, unit, help, min, max, offsetof(struct config, field), SETTING_##type, reloadable},
#include "config.def"
#undef SETTING
};

/* A file while it is read. inih tells its handler no line number, so the reader counts. */
struct file_load {
    FILE *file;
    struct config *config;
    struct config_error *err;
    const char *path;
    unsigned line;
    unsigned set_at[SETTINGS]; /* the line that set it, 0: none yet */
    bool failed;               /* err is written */
};

static void fail(struct config_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool assign(struct config *c, enum setting_id id, struct slice text, const char *where,
                   struct config_error *err);
static bool setting_find(struct slice name, enum setting_id *out);
static void setting_environment_name(char out[NAME_BYTES_MAX], enum setting_id id);
static void fail_unknown(struct config_error *err, const char *where, struct slice name, bool environment);
static struct slice trim(struct slice s);

/* --- lifetime ------------------------------------------------------------------------------------------------ */

static bool is_text(enum setting_id id)
{
    enum setting_type type = settings[id].type;
    return type == SETTING_STRING || type == SETTING_SECRET || type == SETTING_LIST;
}

static void *member(struct config *c, enum setting_id id)
{
    return (char *)c + settings[id].offset;
}

static const void *member_const(const struct config *c, enum setting_id id)
{
    return (const char *)c + settings[id].offset;
}

void config_defaults(struct config *c)
{
    *c = (struct config){0};
    struct config_error err;
    for (unsigned id = 0; id < SETTINGS; id++)
        ASSERT(assign(c, (enum setting_id)id, slice_str(settings[id].standard), "default", &err));
}

void config_free(struct config *c)
{
    for (unsigned id = 0; id < SETTINGS; id++)
        if (is_text((enum setting_id)id)) free(*(char **)member(c, (enum setting_id)id));
    *c = (struct config){0};
}

/* --- where settings come from -------------------------------------------------------------------------------- */

static char *file_line(char *out, int len, void *stream);
static int file_setting(void *user, const char *section, const char *key, const char *value);

enum status config_load_file(struct config *c, const char *path, struct config_error *err)
{
    struct file_load load = {.config = c, .err = err, .path = path};
    load.file = fopen(path, "re");
    if (!load.file) {
        fail(err, "%s: the configuration file cannot be read: %s", path, strerror(errno));
        return STATUS_IO;
    }
    /* inih's own defaults fold an indented line into the value above it and cut values at " ;": both lose text */
    ini_max_line = CONFIG_LINE_BYTES_MAX;
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_stop_on_first_error = true;
    int result = ini_parse_stream(file_line, &load, file_setting, &load);
    int read_error = ferror(load.file) ? errno : 0;
    fclose(load.file);
    if (read_error) {
        fail(err, "%s: the configuration file cannot be read: %s", path, strerror(read_error));
        return STATUS_IO;
    }
    if (load.failed) return STATUS_INVALID;
    if (result == 0) return STATUS_OK;
    fail(err, "%s:%d: the line is neither \"[section]\" nor \"key = value\" nor a comment", path, result);
    return STATUS_INVALID;
}

enum status config_load_environment(struct config *c, char *const *environment, struct config_error *err)
{
    for (; *environment; environment++) {
        struct slice entry = slice_str(*environment);
        if (!slice_starts(entry, SLICE(ENVIRONMENT_PREFIX))) continue;
        const char *equals = memchr(entry.data, '=', entry.len);
        if (!equals) continue;
        struct slice name = slice_of(entry.data, (size_t)(equals - entry.data));
        if (slice_is(name, ENVIRONMENT_PREFIX "CONFIG") || slice_is(name, ENVIRONMENT_PREFIX "API_KEY")) continue;
        char known[NAME_BYTES_MAX];
        unsigned id = 0;
        for (; id < SETTINGS; id++) {
            setting_environment_name(known, (enum setting_id)id);
            if (slice_is(name, known)) break;
        }
        if (id == SETTINGS) {
            /* The environment is shared with other programs: a name of theirs must not keep the gateway from
             * starting. */
            fail_unknown(err, "environment", name, true);
            LOG(LOG_WARN, "config", "unknown_variable", LOG_STR("why", err->text));
            continue;
        }
        if (!assign(c, (enum setting_id)id, slice_str(equals + 1), known, err)) return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status config_set(struct config *c, const char *assignment, struct config_error *err)
{
    const char *equals = strchr(assignment, '=');
    if (!equals) {
        fail(err, "--set: the form is section.key=value");
        return STATUS_INVALID;
    }
    struct slice name = trim(slice_of(assignment, (size_t)(equals - assignment)));
    enum setting_id id;
    if (!setting_find(name, &id)) {
        fail_unknown(err, "--set", name, false);
        return STATUS_INVALID;
    }
    return assign(c, id, slice_str(equals + 1), "--set", err) ? STATUS_OK : STATUS_INVALID;
}

static void file_fail(struct file_load *load, const char *what)
{
    if (!load->failed) fail(load->err, "%s:%u: %s", load->path, load->line, what);
    load->failed = true;
}

/* file_line is inih's reader: the next line with its newline, or NULL at the end and at the first error. */
static char *file_line(char *out, int len, void *stream)
{
    struct file_load *load = stream;
    if (load->failed) return NULL;
    load->line++;
    int n = 0;
    for (int c; (c = getc_unlocked(load->file)) != EOF;) {
        if (c == '\0')
            file_fail(load, "the line holds a NUL byte");
        else if (n == len - 1)
            file_fail(load, "the line is too long");
        if (load->failed) return NULL;
        out[n++] = (char)c;
        if (c == '\n') break;
    }
    out[n] = '\0';
    return n ? out : NULL;
}

/* file_setting is inih's handler: 1 goes on, 0 is an error. */
static int file_setting(void *user, const char *section, const char *key, const char *value)
{
    struct file_load *load = user;
    char name[2 * NAME_BYTES_MAX], where[256];
    int len = snprintf(name, sizeof name, "%s%s%s", section, section[0] ? "." : "", key);
    ASSERT(len >= 0); /* longer than any setting's name: cut, and unknown below */
    int shown = snprintf(where, sizeof where, "%.200s:%u", load->path, load->line);
    ASSERT(shown > 0);
    enum setting_id id;
    if (!setting_find(slice_str(name), &id)) {
        fail_unknown(load->err, where, slice_str(name), false);
        load->failed = true;
        return 0;
    }
    if (load->set_at[id]) {
        fail(load->err, "%s: %s is already set in line %u", where, settings[id].name, load->set_at[id]);
        load->failed = true;
        return 0;
    }
    load->set_at[id] = load->line;
    if (!assign(load->config, id, slice_str(value), where, load->err)) load->failed = true;
    load->config->file_line[id] = load->line;
    return !load->failed;
}

/* --- values from text ---------------------------------------------------------------------------------------- */

static void fail(struct config_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    ASSERT(n >= 0);
}

static struct slice trim(struct slice s)
{
    while (s.len && isspace((unsigned char)s.data[0])) s = slice_from(s, 1);
    while (s.len && isspace((unsigned char)s.data[s.len - 1])) s.len--;
    return s;
}

struct unit_suffix {
    const char *text;
    uint64_t factor;
};
/* the largest first: config_value shows a value in the first that divides it */
static const struct unit_suffix size_suffixes[] = {{"g", 1u << 30}, {"m", 1u << 20}, {"k", 1u << 10}, {"", 1}, {0}};
static const struct unit_suffix time_suffixes[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1}, {0}};
static const struct unit_suffix no_suffixes[] = {{"", 1}, {0}};

static const struct unit_suffix *suffixes_of(enum setting_type type)
{
    if (type == SETTING_SIZE) return size_suffixes;
    return type == SETTING_DURATION_MS ? time_suffixes : no_suffixes;
}

static bool number_parse(struct slice text, const struct unit_suffix *suffix, uint64_t *out)
{
    size_t digits = 0;
    while (digits < text.len && isdigit((unsigned char)text.data[digits])) digits++;
    if (!slice_u64(slice_of(text.data, digits), out)) return false;
    for (; suffix->text; suffix++)
        if (slice_eq_nocase(slice_from(text, digits), slice_str(suffix->text)))
            return !__builtin_mul_overflow(*out, suffix->factor, out);
    return false;
}

static void number_text(struct buf *out, const struct unit_suffix *suffix, uint64_t v)
{
    while (suffix->factor > 1 && (v == 0 || v % suffix->factor)) suffix++;
    buf_u64(out, v / suffix->factor);
    buf_append(out, suffix->text, strlen(suffix->text));
}

static bool bool_parse(struct slice text, bool *out)
{
    static const char *const words[] = {"false", "true", "off", "on", "no", "yes", "0", "1"};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        if (!slice_eq_nocase(text, slice_str(words[i]))) continue;
        *out = i % 2;
        return true;
    }
    return false;
}

/* enum_value takes the index-th of "a|b|c". */
static bool enum_value(const char *values, unsigned index, struct slice *out)
{
    while (index-- > 0) {
        values = strchr(values, '|');
        if (!values) return false;
        values++;
    }
    *out = slice_of(values, strcspn(values, "|"));
    return true;
}

static bool enum_parse(struct slice text, const char *values, unsigned *out)
{
    struct slice value;
    for (unsigned i = 0; enum_value(values, i, &value); i++) {
        if (!slice_eq(text, value)) continue;
        *out = i;
        return true;
    }
    return false;
}

/* text_fits refuses control characters: no value needs one, and a file could not hold it. */
static bool text_fits(struct slice text, uint64_t min, uint64_t max)
{
    for (size_t i = 0; i < text.len; i++)
        if (iscntrl((unsigned char)text.data[i])) return false;
    return text.len >= min && text.len <= max;
}

/* range_text writes what a value must be, for error sentences and for the commented defaults. */
static void range_text(struct buf *out, enum setting_id id)
{
    const struct setting *s = &settings[id];
    switch (s->type) {
    case SETTING_BOOL: buf_printf(out, "true or false"); return;
    case SETTING_ENUM:
        buf_printf(out, "one of ");
        for (const char *c = s->unit; *c; c++) {
            if (*c == '|')
                BUF_LIT(out, ", ");
            else
                buf_char(out, *c);
        }
        return;
    case SETTING_STRING:
    case SETTING_SECRET:
    case SETTING_LIST:
        buf_printf(out, s->type == SETTING_LIST ? "a comma separated list of %s" : "a %s", s->unit);
        buf_printf(out, ",%s at most %llu bytes", s->min ? " not empty," : "", (unsigned long long)s->max);
        return;
    case SETTING_U64: buf_printf(out, "a whole number of %s from ", s->unit); break;
    case SETTING_SIZE: buf_printf(out, "a size in bytes, or with k, m, g, from "); break;
    case SETTING_DURATION_MS: buf_printf(out, "a time with ms, s, m or h from "); break;
    }
    number_text(out, suffixes_of(s->type), s->min);
    BUF_LIT(out, " to ");
    number_text(out, suffixes_of(s->type), s->max);
}

static void fail_value(struct config_error *err, const char *where, enum setting_id id, struct slice text)
{
    struct buf range = {0};
    range_text(&range, id);
    buf_char(&range, '\0');
    if (settings[id].type == SETTING_SECRET)
        fail(err, "%s: %s must be %s, without control characters", where, settings[id].name, range.data);
    else
        fail(err, "%s: %s must be %s, not \"%.*s\"", where, settings[id].name, range.data,
             text.len > 80 ? 80 : (int)text.len, text.data);
    buf_free(&range);
}

static void assign_text(struct config *c, enum setting_id id, struct slice text)
{
    char **place = member(c, id);
    char *copy = strndup(text.data, text.len);
    ASSERT(copy != NULL);
    free(*place);
    *place = copy;
}

static bool assign(struct config *c, enum setting_id id, struct slice text, const char *where, struct config_error *err)
{
    const struct setting *s = &settings[id];
    text = trim(text);
    bool good = false;
    uint64_t number;
    switch (s->type) {
    case SETTING_STRING:
    case SETTING_SECRET:
    case SETTING_LIST:
        good = text_fits(text, s->min, s->max);
        if (good) assign_text(c, id, text);
        break;
    case SETTING_BOOL: good = bool_parse(text, member(c, id)); break;
    case SETTING_ENUM: good = enum_parse(text, s->unit, member(c, id)); break;
    case SETTING_U64:
    case SETTING_SIZE:
    case SETTING_DURATION_MS:
        good = number_parse(text, suffixes_of(s->type), &number) && number >= s->min && number <= s->max;
        if (good) *(uint64_t *)member(c, id) = number;
        break;
    }
    if (!good) fail_value(err, where, id, text);
    c->file_line[id] = 0;
    return good;
}

/* --- names --------------------------------------------------------------------------------------------------- */

static bool setting_find(struct slice name, enum setting_id *out)
{
    for (unsigned id = 0; id < SETTINGS; id++) {
        if (!slice_is(name, settings[id].name)) continue;
        *out = (enum setting_id)id;
        return true;
    }
    return false;
}

/* net.zero_copy is CARILLON_NET_ZERO_COPY. */
static void setting_environment_name(char out[NAME_BYTES_MAX], enum setting_id id)
{
    int len = snprintf(out, NAME_BYTES_MAX, ENVIRONMENT_PREFIX "%s", settings[id].name);
    ASSERT(len > 0 && (unsigned)len < NAME_BYTES_MAX);
    for (; *out; out++) *out = *out == '.' ? '_' : (char)toupper((unsigned char)*out);
}

/* edits counts the insertions, deletions and replacements of one character that turn `a` into `b` (Levenshtein). */
static unsigned edits(struct slice a, struct slice b)
{
    unsigned row[2 * NAME_BYTES_MAX + 1];
    ASSERT(b.len < sizeof row / sizeof *row);
    for (unsigned j = 0; j <= b.len; j++) row[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0]; /* the row above, one to the left */
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned above = row[j];
            unsigned replaced = diagonal + (a.data[i - 1] != b.data[j - 1]);
            unsigned shifted = 1 + (above < row[j - 1] ? above : row[j - 1]);
            row[j] = replaced < shifted ? replaced : shifted;
            diagonal = above;
        }
    }
    return row[b.len];
}

/* fail_unknown suggests the nearest name. Who forgot the section, or gave a wrong one, meant the same key. */
static void fail_unknown(struct config_error *err, const char *where, struct slice name, bool environment)
{
    if (name.len > NAME_BYTES_MAX) name.len = NAME_BYTES_MAX;
    const char *dot = memrchr(name.data, '.', name.len);
    struct slice key = dot ? slice_from(name, (size_t)(dot + 1 - name.data)) : name;
    unsigned best = UINT32_MAX;
    char nearest[NAME_BYTES_MAX] = "";
    for (unsigned id = 0; id < SETTINGS; id++) {
        char known[NAME_BYTES_MAX];
        if (environment)
            setting_environment_name(known, (enum setting_id)id);
        else
            snprintf(known, sizeof known, "%s", settings[id].name);
        unsigned distance = edits(name, slice_str(known));
        const char *known_dot = strchr(known, '.');
        if (known_dot && slice_is(key, known_dot + 1) && distance > 1) distance = 1;
        if (distance >= best) continue;
        best = distance;
        memcpy(nearest, known, sizeof nearest);
    }
    if (best <= name.len / 2)
        fail(err, "%s: there is no setting %.*s; did you mean %s?", where, SLICE_FMT(name), nearest);
    else
        fail(err, "%s: there is no setting %.*s; \"carillon config --defaults\" shows all", where, SLICE_FMT(name));
}

/* --- printing ------------------------------------------------------------------------------------------------ */

void config_value(struct buf *out, const struct config *c, enum setting_id id)
{
    const struct setting *s = &settings[id];
    const void *place = member_const(c, id);
    struct slice value = {0};
    switch (s->type) {
    case SETTING_SECRET:
        if (**(char *const *)place) BUF_LIT(out, "********");
        break;
    case SETTING_STRING:
    case SETTING_LIST: buf_slice_append(out, slice_str(*(char *const *)place)); break;
    case SETTING_BOOL: buf_slice_append(out, *(const bool *)place ? SLICE("true") : SLICE("false")); break;
    case SETTING_ENUM:
        ASSERT(enum_value(s->unit, *(const unsigned *)place, &value));
        buf_slice_append(out, value);
        break;
    case SETTING_U64:
    case SETTING_SIZE:
    case SETTING_DURATION_MS: number_text(out, suffixes_of(s->type), *(const uint64_t *)place); break;
    }
}

/* section_differs says whether a new section begins with this row. */
static bool section_differs(enum setting_id id)
{
    const char *name = settings[id].name, *dot = strchr(name, '.');
    if (!dot) return false;
    return id == 0 || strncmp(name, settings[id - 1].name, (size_t)(dot - name) + 1) != 0;
}

static void section_head(struct buf *out, enum setting_id id)
{
    if (section_differs(id)) buf_printf(out, "\n[%.*s]\n", (int)strcspn(settings[id].name, "."), settings[id].name);
}

static void setting_line(struct buf *out, const struct config *c, enum setting_id id)
{
    const char *dot = strchr(settings[id].name, '.');
    buf_printf(out, "%s = ", dot ? dot + 1 : settings[id].name);
    config_value(out, c, id);
    while (out->data[out->len - 1] == ' ') out->len--; /* of an empty value */
    buf_char(out, '\n');
}

void config_print(FILE *out, const struct config *c)
{
    struct buf text = {0};
    for (unsigned id = 0; id < SETTINGS; id++) {
        section_head(&text, (enum setting_id)id);
        setting_line(&text, c, (enum setting_id)id);
    }
    fwrite(text.data, 1, text.len, out);
    buf_free(&text);
}

void config_print_defaults(FILE *out)
{
    struct buf text = {0};
    struct config c;
    config_defaults(&c);
    BUF_LIT(&text, "# Carillon's settings with their defaults. Each can also be given as CARILLON_SECTION_KEY in the\n"
                   "# environment, or as --set section.key=value, which overrides both.\n\n");
    for (unsigned id = 0; id < SETTINGS; id++) {
        section_head(&text, (enum setting_id)id);
        buf_printf(&text, "# %s\n# Value: ", settings[id].help);
        range_text(&text, (enum setting_id)id);
        buf_printf(&text, "; %s.\n", settings[id].reloadable ? "SIGHUP takes a new one" : "a new one needs a restart");
        setting_line(&text, &c, (enum setting_id)id);
        if (id + 1 < SETTINGS && !section_differs((enum setting_id)(id + 1))) buf_char(&text, '\n');
    }
    fwrite(text.data, 1, text.len, out);
    buf_free(&text);
    config_free(&c);
}

/* --- other values while others read -------------------------------------------------------------------------- */

bool config_same(const struct config *a, const struct config *b, enum setting_id id)
{
    const void *x = member_const(a, id), *y = member_const(b, id);
    switch (settings[id].type) {
    case SETTING_STRING:
    case SETTING_SECRET:
    case SETTING_LIST: return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case SETTING_BOOL: return *(const bool *)x == *(const bool *)y;
    case SETTING_ENUM: return *(const unsigned *)x == *(const unsigned *)y;
    case SETTING_U64:
    case SETTING_SIZE:
    case SETTING_DURATION_MS: return *(const uint64_t *)x == *(const uint64_t *)y;
    }
    UNREACHABLE();
}

void config_take(struct config *c, struct config *from, enum setting_id id)
{
    char *text = is_text(id) ? *(char **)member(c, id) : NULL;
    config_borrow(c, from, id);
    if (is_text(id)) *(char **)member(from, id) = text;
}

void config_borrow(struct config *c, const struct config *from, enum setting_id id)
{
    void *place = member(c, id);
    const void *source = member_const(from, id);
    switch (settings[id].type) {
    case SETTING_STRING:
    case SETTING_SECRET:
    case SETTING_LIST: *(char **)place = *(char *const *)source; return;
    case SETTING_BOOL: __atomic_store_n((bool *)place, *(const bool *)source, __ATOMIC_RELAXED); return;
    case SETTING_ENUM: __atomic_store_n((unsigned *)place, *(const unsigned *)source, __ATOMIC_RELAXED); return;
    case SETTING_U64:
    case SETTING_SIZE:
    case SETTING_DURATION_MS: __atomic_store_n((uint64_t *)place, *(const uint64_t *)source, __ATOMIC_RELAXED); return;
    }
    UNREACHABLE();
}

/* --- lists, addresses, networks ------------------------------------------------------------------------------ */

bool config_list_next(struct slice *rest, struct slice *item)
{
    while (rest->len) {
        const char *comma = memchr(rest->data, ',', rest->len);
        size_t len = comma ? (size_t)(comma - rest->data) : rest->len;
        *item = trim(slice_of(rest->data, len));
        *rest = slice_from(*rest, comma ? len + 1 : len);
        if (item->len) return true;
    }
    return false;
}

/* text_copy makes a C string for inet_pton; false when it does not fit. */
static bool text_copy(char *out, size_t out_len, struct slice s)
{
    if (s.len >= out_len) return false;
    if (s.len) memcpy(out, s.data, s.len);
    out[s.len] = '\0';
    return strlen(out) == s.len;
}

bool config_address(struct slice text, struct sockaddr_storage *out, socklen_t *out_len)
{
    const char *colon = text.len ? memrchr(text.data, ':', text.len) : NULL;
    uint64_t port;
    if (!colon || !slice_u64(slice_from(text, (size_t)(colon + 1 - text.data)), &port) || port > 65535) return false;
    struct slice host = slice_of(text.data, (size_t)(colon - text.data));
    bool bracketed = host.len >= 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    if (bracketed) host = slice_of(host.data + 1, host.len - 2);
    char address[INET6_ADDRSTRLEN];
    if (!text_copy(address, sizeof address, host)) return false;
    memset(out, 0, sizeof *out);
    if (bracketed) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *out_len = sizeof *v6;
        return inet_pton(AF_INET6, address, &v6->sin6_addr) == 1;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *out_len = sizeof *v4;
    return inet_pton(AF_INET, address, &v4->sin_addr) == 1;
}

bool config_time_of_day(const char *text, unsigned *minutes)
{
    uint64_t hour, minute;
    if (strlen(text) != 5 || text[2] != ':' || !slice_u64(slice_of(text, 2), &hour) ||
        !slice_u64(slice_of(text + 3, 2), &minute) || hour > 23 || minute > 59)
        return false;
    *minutes = (unsigned)(hour * 60 + minute);
    return true;
}

static void map_v4(uint8_t out[16], const void *v4)
{
    memset(out, 0, 10);
    memset(out + 10, 0xFF, 2);
    memcpy(out + 12, v4, 4);
}

bool config_network(struct slice text, struct config_network *out)
{
    const char *slash = text.len ? memchr(text.data, '/', text.len) : NULL;
    struct slice host = slash ? slice_of(text.data, (size_t)(slash - text.data)) : text;
    char address[INET6_ADDRSTRLEN];
    uint8_t v4[4];
    if (!text_copy(address, sizeof address, host)) return false;
    unsigned bits_max = 128;
    if (inet_pton(AF_INET, address, v4) == 1) {
        bits_max = 32;
        map_v4(out->address, v4);
    } else if (inet_pton(AF_INET6, address, out->address) != 1) {
        return false;
    }
    uint64_t bits = bits_max;
    if (slash && !slice_u64(slice_from(text, host.len + 1), &bits)) return false;
    out->bits = (unsigned)bits + (128 - bits_max);
    return bits <= bits_max;
}

/* peer_address brings a peer's address into the form of struct config_network. */
static bool peer_address(uint8_t out[16], const struct sockaddr_storage *peer)
{
    if (peer->ss_family == AF_INET)
        map_v4(out, &((const struct sockaddr_in *)peer)->sin_addr);
    else if (peer->ss_family == AF_INET6)
        memcpy(out, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
    else
        return false;
    return true;
}

bool config_network_contains(const struct config_network *n, const struct sockaddr_storage *peer)
{
    uint8_t address[16];
    return peer_address(address, peer) && config_network_has(n, address);
}

bool config_network_has(const struct config_network *n, const uint8_t address[16])
{
    unsigned bytes = n->bits / 8, rest = n->bits % 8;
    if (memcmp(address, n->address, bytes) != 0) return false;
    return rest == 0 || ((address[bytes] ^ n->address[bytes]) >> (8 - rest)) == 0;
}

/* --- settings against each other ----------------------------------------------------------------------------- */

static bool listeners_valid(const struct config *c, struct config_error *err);
static bool all_served(const struct config *c, struct config_error *err);
static bool address_list_valid(const char *name, const char *list, bool *all_loopback, unsigned *num,
                               struct config_error *err);
static bool lists_valid(const struct config *c, struct config_error *err);
static bool backup_valid(const struct config *c, struct config_error *err);
static bool lies_in(const char *path, const char *dir);
static bool origin_valid(struct slice origin);

enum status config_validate(const struct config *c, struct config_error *err)
{
    if (!listeners_valid(c, err) || !lists_valid(c, err) || !all_served(c, err) ||
        !backup_valid(c, err))
        return STATUS_INVALID;
    if (c->net_ping_interval >= c->net_idle_timeout) {
        fail(err, "net.ping_interval must be shorter than net.idle_timeout, or a quiet socket is closed unasked");
        return STATUS_INVALID;
    }
    if (c->limits_memory && c->limits_memory / 2 < c->store_cache + c->store_write_buffer) {
        fail(err, "limits.memory must be at least twice store.cache and store.write_buffer together: both count");
        return STATUS_INVALID;
    }
    if (c->store_reserve && c->store_reserve / 2 < c->store_write_buffer) {
        fail(err, "store.reserve must be at least twice store.write_buffer: what is in memory must still fit on disk");
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

void config_blame_file(struct config_error *err, const struct config *c, const char *path)
{
    for (unsigned id = 0; id < SETTINGS; id++) {
        size_t len = strlen(settings[id].name);
        if (!c->file_line[id] || strncmp(err->text, settings[id].name, len) != 0) continue;
        if (err->text[len] == '_' || isalnum((unsigned char)err->text[len])) continue; /* of a longer name */
        struct config_error said = *err;
        fail(err, "%.200s:%u: %.280s", path, c->file_line[id], said.text);
        return;
    }
}

static bool listeners_valid(const struct config *c, struct config_error *err)
{
    bool all_loopback = true;
    unsigned num = 0;
    if (!address_list_valid("net.listen", c->net_listen, &all_loopback, &num, err)) return false;
    if (!address_list_valid("tls.listen", c->tls_listen, &all_loopback, &num, err)) return false;
    if (num == 0) {
        fail(err, "net.listen and tls.listen are both empty: there is nothing to serve");
        return false;
    }
    if (c->debug_echo && !all_loopback) {
        fail(err, "debug.echo is for tests: it needs every address of net.listen and tls.listen to be loopback");
        return false;
    }
    return true;
}

/* all_served refuses values that ask for what this version does not do: a limit that is set and not kept, or a listener
 * that never opens, would be worse than none. */
static bool all_served(const struct config *c, struct config_error *err)
{
    const char *name = NULL;
    if (c->auth_query_token) name = "auth.query_token";
    if (c->tls_cert[0]) name = "tls.cert";
    if (c->tls_key[0]) name = "tls.key";
    if (c->tls_min_version != CONFIG_TLS_1_3) name = "tls.min_version";
    if (c->tls_listen[0]) name = "tls.listen";
    if (!name) return true;
    fail(err, "%s is not served by this version: leave it at its default", name);
    return false;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    static const struct config_network v4 = {{[10] = 0xFF, [11] = 0xFF, [12] = 127}, 96 + 8};
    static const struct config_network v6 = {{[15] = 1}, 128};
    return config_network_contains(&v4, address) || config_network_contains(&v6, address);
}

static bool address_list_valid(const char *name, const char *list, bool *all_loopback, unsigned *num,
                               struct config_error *err)
{
    struct slice rest = slice_str(list), item;
    while (config_list_next(&rest, &item)) {
        struct sockaddr_storage address;
        socklen_t len;
        if (!config_address(item, &address, &len)) {
            fail(err, "%s: \"%.*s\" is not a numeric ADDR:PORT or [V6]:PORT; for example 127.0.0.1:8081", name,
                 SLICE_FMT(item));
            return false;
        }
        if (!is_loopback(&address)) *all_loopback = false;
        ++*num;
    }
    return true;
}

static bool lists_valid(const struct config *c, struct config_error *err)
{
    struct slice rest = slice_str(c->limits_trusted_networks), item;
    static const char *const scopes[] = {LOG_SCOPES};
    if (!log_levels_valid(slice_str(c->log_scopes), &item)) {
        struct buf all = {0};
        for (unsigned i = 0; i < sizeof scopes / sizeof *scopes; i++)
            buf_printf(&all, "%s%s", i ? ", " : "", scopes[i]);
        buf_char(&all, '\0');
        fail(err, "log.scopes: \"%.*s\" is not SCOPE=LEVEL with a scope of %s and a level of debug, info, warn, error",
             SLICE_FMT(item), all.data);
        buf_free(&all);
        return false;
    }
    struct config_network network;
    while (config_list_next(&rest, &item)) {
        if (config_network(item, &network)) continue;
        fail(err, "limits.trusted_networks: \"%.*s\" is not ADDR or ADDR/BITS", SLICE_FMT(item));
        return false;
    }
    rest = slice_str(c->cors_origins);
    while (config_list_next(&rest, &item)) {
        if (origin_valid(item)) continue;
        fail(err, "cors.origins: \"%.*s\" is not SCHEME://HOST[:PORT] without a path, nor *", SLICE_FMT(item));
        return false;
    }
    return true;
}

static bool backup_valid(const struct config *c, struct config_error *err)
{
    unsigned minutes;
    if (c->backup_at[0] && !config_time_of_day(c->backup_at, &minutes)) {
        fail(err, "backup.at: \"%s\" is no time of day from 00:00 to 23:59", c->backup_at);
        return false;
    }
    if (c->backup_at[0] && c->backup_interval) {
        fail(err, "backup.at and backup.interval are two ways to say when a backup is made: set one of them");
        return false;
    }
    if ((c->backup_at[0] || c->backup_interval) && !c->backup_dir[0]) {
        fail(err, "%s needs backup.dir, where the backups go", c->backup_at[0] ? "backup.at" : "backup.interval");
        return false;
    }
    if (c->backup_dir[0] && lies_in(c->backup_dir, c->store_dir)) {
        fail(err,
             "backup.dir lies in store.dir: backups need a directory of their own, which a restore does not replace");
        return false;
    }
    return true;
}

/* lies_in compares names alone, as written but for repeated slashes; a restore looks at the directories. */
static bool lies_in(const char *path, const char *dir)
{
    for (;;) {
        while (*dir == '/' && dir[1] == '/') dir++;
        while (*path == '/' && path[1] == '/') path++;
        if (!*dir || (*dir == '/' && !dir[1])) return !*path || *path == '/';
        if (*path != *dir) return false;
        path++;
        dir++;
    }
}

/* An origin is what a browser sends (RFC 6454 section 6.2): compared byte by byte, so a path would never match. */
static bool origin_valid(struct slice origin)
{
    if (slice_is(origin, "*")) return true;
    const char *host = memmem(origin.data, origin.len, "://", 3);
    if (!host || host == origin.data) return false;
    struct slice authority = slice_from(origin, (size_t)(host + 3 - origin.data));
    if (authority.len == 0) return false;
    for (size_t i = 0; i < authority.len; i++) {
        unsigned char c = (unsigned char)authority.data[i];
        if (!isalnum(c) && !strchr(".-_:[]", c)) return false;
        if (isupper(c)) return false; /* browsers send hosts in lower case */
    }
    return true;
}
