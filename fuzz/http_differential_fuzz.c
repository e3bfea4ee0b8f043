/* Fuzzes the HTTP request parser against a second one, http-parser 2.9 (Debian's libhttp-parser-dev), which grew up in
 * other hands. Both read the same connection, message by message. When either takes a message, the other one must take
 * it too, end it at the same byte and read the same in it: that is what request smuggling lives on.
 *
 * Where the two differ on purpose there is a rule, with the section that it rests on. A rule looks at the bytes, or at
 * what the *other* parser made of them, never at our verdict: so it excuses the one difference and no further one. Any
 * other difference aborts, and so does a message that we take although a rule says that we refuse it. fuzz/rules.h
 * counts them. */
#define _GNU_SOURCE /* memmem */
#include <arpa/inet.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "../net/http.h"
#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "rules.h"
#include "second_http.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* framing: a chunked body taken apart by the loosest reading, for the rules to look at. */
struct framing {
    bool odd_line;    /* a size line that is more than digits and extensions without control bytes */
    bool tab;         /* white space before an extension begins with HTAB */
    bool long_size;   /* more than 16 digits */
    bool no_line_end; /* something else than CR LF behind a size line or a chunk's data */
    size_t extension_bytes, data_bytes;
    struct slice trailers; /* behind the last chunk's line, to the end of the message */
};

/* message: both readings of the same bytes, for the rules. */
struct message {
    struct slice bytes, head; /* head: by the other parser; without it up to the end */
    const struct reading *other;
    struct framing framing;
    const struct http_request *ours; /* when we took it */
};

static void check_message(struct slice bytes, size_t *consumed);
static enum http_result our_reading(struct http_request *request, enum http_error *error, struct buf *body,
                                    size_t *consumed, struct slice bytes);
static bool passes_over_a_coding(const struct reading *r);
static void compare(const struct message *m, struct slice body, size_t consumed);
static void compare_upgrade(const struct message *m);
static void compare_fields(const struct message *m);
static void take_framing_apart(struct framing *f, struct slice bytes);
_Noreturn static void differ(const struct message *m, const char *what);

static const struct http_limits limits = {HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX, HTTP_BODY_BYTES_MAX};

/* --- the differences that are on purpose ----------------------------------------------------------------------- */

/* Why we refuse what the other one takes. */
#define STRICTER(RULE) \
    RULE(method, "RFC 9110 section 9.1", "a method that the gateway does not have") \
    RULE(version, "RFC 9110 section 2.5", "a major version that is not 1, HTTP/0.9 among them") \
    RULE(version_name, "RFC 9112 section 2.3", "something else than HTTP/, a digit, a point and a digit") \
    RULE(line_end, "RFC 9112 section 2.2", "CR or LF alone in a line or at its end") \
    RULE(empty_lines, "RFC 9112 section 2.2", "more than one empty line before the request line") \
    RULE(spaces, "RFC 9112 section 3", "more than one space between the parts of the request line, or one at its end") \
    RULE(target_form, "RFC 9112 section 3.2", "neither a path nor http:// nor * with OPTIONS; a fragment") \
    RULE(target_byte, "RFC 3986 section 2", "a byte that must be escaped: not visible ASCII, or one of \" < > \\") \
    RULE(target_escape, "RFC 3986 section 2.1", "a path or query in which % is not followed by two digits") \
    RULE(target_authority, "RFC 9110 section 7.2", "no host, user information, or no port number in http://…") \
    RULE(field_name, "RFC 9112 section 5.1", "a space in a field's name, or between it and the colon") \
    RULE(field_value, "RFC 9110 section 5.5", "a control byte in a field's value") \
    RULE(obs_fold, "RFC 9112 section 5.2", "a field that goes on in the next line") \
    RULE(host, "RFC 9112 section 3.2", "Host missing, repeated or malformed") \
    RULE(expect, "RFC 9110 section 10.1.1", "an expectation other than 100-continue") \
    RULE(coding, "RFC 9112 section 6.1", "a transfer coding that is not one chunked, or any in HTTP/1.0") \
    RULE(length, "RFC 9110 section 8.6", "a Content-Length without or with more than 20 digits") \
    RULE(bounds, "RFC 9110 section 15.5", "larger than limits.h allows: head, target, fields, body, trailers") \
    RULE(chunk_size, "RFC 9112 section 7.1", "more than 16 digits") \
    RULE(chunk_end, "RFC 9112 section 7.1", "a size line or a chunk's data that does not end with CR LF") \
    RULE(chunk_extension, "RFC 9112 section 7.1.1", "control bytes, or a space that no semicolon follows")

/* Why we take what the other one refuses. */
#define LOOSER(RULE) \
    RULE(tab_around, "RFC 9110 section 5.6.3", "HTAB around a field's value is white space like SP") \
    RULE(longer_name, "RFC 9110 section 5.1", "a field whose name only begins with Transfer-Encoding is another one") \
    RULE(chunk_tab, "RFC 9112 section 7.1.1", "HTAB before a chunk extension is white space like SP") \
    RULE(trailer_framing, "RFC 9110 section 6.5.1", "a trailer that is named like a framing field means nothing")

/* What both take and understand differently. */
#define OTHERWISE(RULE) \
    RULE(close_wins, "RFC 9112 section 9.3", "HTTP/1.0 with both close and keep-alive is closed") \
    RULE(odd_list, "RFC 9110 section 5.6.1", "an element of Connection that is empty or no token ends nothing") \
    RULE(begun_word, "RFC 9110 section 7.6.1", \
         "an element of Connection that begins like a known one hides none behind it") \
    RULE(higher_minor, "RFC 9110 section 2.5", "HTTP/1.2 and above are read as HTTP/1.1") \
    RULE(upgrade_in_1_0, "RFC 9110 section 7.8", "Upgrade in HTTP/1.0 is ignored") \
    RULE(upgrade_coding, "RFC 9112 section 6.1", "before an upgrade it passes over a coding that it does not know") \
    RULE(other_upgrade, "RFC 9110 section 7.8", "the only protocol to change to is websocket")

#define RULE_ID(name, section, what) RULE_##name,
#define RULE_TEXT(name, section, what) [RULE_##name] = {#name, section, what, 0},
enum rule_id { STRICTER(RULE_ID) LOOSER(RULE_ID) OTHERWISE(RULE_ID) RULES };
static struct rule rules[RULES] = {STRICTER(RULE_TEXT) LOOSER(RULE_TEXT) OTHERWISE(RULE_TEXT)};

#define RULE_DECLARED(name, section, what) static bool differs_by_##name(const struct message *m);
STRICTER(RULE_DECLARED)
LOOSER(RULE_DECLARED)

#define RULE_ROW(name, section, what) {RULE_##name, differs_by_##name},
struct excuse {
    enum rule_id rule;
    bool (*holds)(const struct message *m);
};
static const struct excuse stricter[] = {STRICTER(RULE_ROW)}, looser[] = {LOOSER(RULE_ROW)};
#define NUM_OF(table) (sizeof(table) / sizeof *(table))

static bool excused(const struct excuse *table, size_t num, const struct message *m)
{
    bool any = false;
    for (size_t i = 0; i < num; i++) {
        if (!table[i].holds(m)) continue;
        rules[table[i].rule].times_needed++;
        any = true;
    }
    return any;
}

/* What we take must not be what a rule says that we refuse, also where the other one takes it like us. */
static void refused_by_no_rule(const struct message *m)
{
    for (size_t i = 0; i < NUM_OF(stricter); i++)
        if (stricter[i].holds(m)) differ(m, rules[stricter[i].rule].what);
}

/* --- one connection -------------------------------------------------------------------------------------------- */

static regex_t tokens, version, authority, escaped, length, chunk_line;

static void compile(regex_t *out, const char *pattern)
{
    int error = regcomp(out, pattern, REG_EXTENDED | REG_NOSUB);
    ASSERT(error == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    /* The same grammar as the parser's tables, in another notation. */
    compile(&authority, "^(([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f][0-9A-Fa-f])+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{0,5})?$");
    compile(&tokens, "^[!#$%&'*+.^_`|~[:alnum:]-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~[:alnum:]-]+)*$");
    compile(&version, "^ HTTP/[0-9]\\.[0-9]$");
    compile(&escaped, "^([^%]|%[0-9A-Fa-f][0-9A-Fa-f])*$");
    compile(&length, "^[0-9]{1,20}$");
    compile(&chunk_line, "^[0-9A-Fa-f]+([ \t]*;.*)?$");
    rules_begin(rules, RULES);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t consumed = 0;
        check_message(slice_of(data + at, size - at), &consumed);
        if (consumed == 0) break;
        at += consumed;
    }
    return 0;
}

/* check_message sets *consumed when both have taken a message. */
static void check_message(struct slice bytes, size_t *consumed)
{
    static struct reading other;
    static struct http_request request;
    struct buf body = {0};
    enum http_error error;
    size_t ours = 0;
    enum http_result result = our_reading(&request, &error, &body, &ours, bytes);
    reading_make(&other, bytes);

    struct message m = {.bytes = bytes, .other = &other, .ours = result == HTTP_DONE ? &request : NULL};
    m.head = other.head_len ? slice_of(bytes.data, other.head_len) : bytes;
    bool chunked = m.ours ? request.chunked : other.chunked;
    size_t head_len = m.ours ? request.head_len : other.head_len;
    if (chunked) take_framing_apart(&m.framing, slice_from(bytes, head_len));

    if (passes_over_a_coding(&other)) {
        rules[RULE_upgrade_coding].times_needed++;
    } else if (result == HTTP_DONE && other.result == READING_DONE) {
        refused_by_no_rule(&m);
        compare(&m, buf_slice(&body), ours);
        *consumed = ours;
    } else if (result == HTTP_DONE) {
        if (!excused(looser, NUM_OF(looser), &m)) differ(&m, "we take what the other one does not");
    } else if (other.result == READING_DONE) {
        bool known = result == HTTP_ERROR && excused(stricter, NUM_OF(stricter), &m);
        if (!known) differ(&m, result == HTTP_ERROR ? http_error_code(error) : "we want more");
    }
    buf_free(&body);
    reading_free(&other);
}

static enum http_result our_reading(struct http_request *request, enum http_error *error, struct buf *body,
                                    size_t *consumed, struct slice bytes)
{
    enum http_result result = http_parse_head(request, error, bytes, &limits);
    if (result != HTTP_DONE) return result;
    struct http_body reader;
    size_t taken = 0;
    http_body_init(&reader, request);
    result = http_body_feed(&reader, body, &taken, error, slice_from(bytes, request->head_len), &limits);
    *consumed = request->head_len + taken;
    return result;
}

static bool matches(const regex_t *pattern, struct slice text)
{
    char terminated[HTTP_HEAD_BYTES_MAX + 1];
    if (text.len >= sizeof terminated) return false;
    if (text.len) memcpy(terminated, text.data, text.len);
    terminated[text.len] = '\0';
    return strlen(terminated) == text.len && regexec(pattern, terminated, 0, NULL, 0) == 0;
}

/* num_values counts the head's fields of that name; *last is the last one's value. */
static unsigned num_values(const struct reading *r, const char *name, struct slice *last)
{
    unsigned num = 0;
    *last = (struct slice){0};
    for (unsigned i = 0; i < r->num_head_fields; i++) {
        if (!slice_eq_nocase(reading_name(r, i), slice_str(name))) continue;
        *last = reading_value(r, i);
        num++;
    }
    return num;
}

static struct slice trim(struct slice text)
{
    while (text.len && (text.data[0] == ' ' || text.data[0] == '\t')) text = slice_from(text, 1);
    while (text.len && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t')) text.len--;
    return text;
}

/* lists says whether a field that is a comma-separated list has the word in it. */
static bool lists(const struct reading *r, const char *name, const char *word)
{
    for (unsigned i = 0; i < r->num_head_fields; i++) {
        if (!slice_eq_nocase(reading_name(r, i), slice_str(name))) continue;
        struct slice rest = reading_value(r, i);
        while (rest.len) {
            const char *comma = memchr(rest.data, ',', rest.len);
            size_t len = comma ? (size_t)(comma - rest.data) : rest.len;
            if (slice_eq_nocase(trim(slice_of(rest.data, len)), slice_str(word))) return true;
            rest = slice_from(rest, comma ? len + 1 : len);
        }
    }
    return false;
}

/* Who wants to change protocols has no body for the other one, unless it has understood that there is one. */
static bool passes_over_a_coding(const struct reading *r)
{
    struct slice ignored;
    return r->result == READING_DONE && r->upgrade && !r->chunked && num_values(r, "Transfer-Encoding", &ignored) > 0;
}

/* odd_list says whether one of the fields is not a list of tokens without empty ones. */
static bool odd_list(const struct reading *r, const char *name)
{
    for (unsigned i = 0; i < r->num_head_fields; i++)
        if (slice_eq_nocase(reading_name(r, i), slice_str(name)) && !matches(&tokens, reading_value(r, i))) return true;
    return false;
}

/* begun_word: an element that is the beginning of a word that the other one looks for, which then takes the comma
 * behind it for more of it. */
static bool begun_word(const struct reading *r, const char *name)
{
    static const char *const words[] = {"close", "keep-alive", "upgrade"};
    for (size_t word = 0; word < NUM_OF(words); word++) {
        for (size_t len = 1; len < strlen(words[word]); len++) {
            char begun[16];
            snprintf(begun, sizeof begun, "%.*s", (int)len, words[word]);
            if (lists(r, name, begun)) return true;
        }
    }
    return false;
}

/* --- both took it ---------------------------------------------------------------------------------------------- */

static void compare(const struct message *m, struct slice body, size_t consumed)
{
    const struct reading *other = m->other;
    const struct http_request *ours = m->ours;
    if (consumed != other->consumed) differ(m, "the message ends elsewhere");
    if (ours->head_len != other->head_len) differ(m, "the head ends elsewhere");
    if (!slice_eq(body, buf_slice(&other->body))) differ(m, "the body is another");
    if (ours->chunked != other->chunked) differ(m, "chunked");
    if (strcmp(http_method_name(ours->method), other->method) != 0) differ(m, "method");
    if (!slice_eq(ours->target, buf_slice(&other->target))) differ(m, "target");
    if (other->major != 1) differ(m, "major version");
    if (other->minor > 1) rules[RULE_higher_minor].times_needed++;
    if (ours->minor_version != (other->minor ? 1 : 0)) differ(m, "minor version");
    compare_fields(m);

    if (ours->keep_alive != other->keep_alive) {
        bool close = lists(other, "Connection", "close"), keep_alive = lists(other, "Connection", "keep-alive");
        if (ours->keep_alive != (!close && (other->minor > 0 || keep_alive)))
            differ(m, "whether the connection goes on");
        if (other->minor == 0 && close && keep_alive)
            rules[RULE_close_wins].times_needed++;
        else if (odd_list(other, "Connection"))
            rules[RULE_odd_list].times_needed++;
        else if (begun_word(other, "Connection"))
            rules[RULE_begun_word].times_needed++;
        else
            differ(m, "that the connection goes on, says the other");
    }
    compare_upgrade(m);
}

static void compare_upgrade(const struct message *m)
{
    const struct reading *other = m->other;
    if (m->ours->upgrade_websocket == other->upgrade) return;
    bool asked = lists(other, "Connection", "upgrade"), websocket = lists(other, "Upgrade", "websocket");
    if (m->ours->upgrade_websocket != (asked && websocket && other->minor > 0)) differ(m, "upgrade");
    if (other->minor == 0)
        rules[RULE_upgrade_in_1_0].times_needed++;
    else if (other->upgrade && !websocket)
        rules[RULE_other_upgrade].times_needed++;
    else if (odd_list(other, "Connection"))
        rules[RULE_odd_list].times_needed++;
    else if (begun_word(other, "Connection"))
        rules[RULE_begun_word].times_needed++;
    else
        differ(m, "upgrade, says the other");
}

static void compare_fields(const struct message *m)
{
    if (m->ours->num_headers != m->other->num_head_fields) differ(m, "number of fields");
    for (unsigned i = 0; i < m->ours->num_headers; i++) {
        if (!slice_eq(m->ours->headers[i].name, reading_name(m->other, i))) differ(m, "a field's name");
        if (!slice_eq(m->ours->headers[i].value, reading_value(m->other, i))) differ(m, "a field's value");
    }
    struct slice text = {0};
    uint64_t number = 0;
    unsigned num = num_values(m->other, "Content-Length", &text);
    if (m->ours->has_length != (num == 1) || num > 1) differ(m, "whether it has a length");
    if (num && (!slice_u64(text, &number) || number != m->ours->content_length)) differ(m, "length");
}

_Noreturn static void differ(const struct message *m, const char *what)
{
    fprintf(stderr, "http_differential_fuzz: %s; the other parser: %s, %zu bytes, head %zu%s%s\n", what,
            m->other->result == READING_DONE   ? "done"
            : m->other->result == READING_MORE ? "more"
                                               : "refused",
            m->other->consumed, m->other->head_len, m->other->why ? ", " : "", m->other->why ? m->other->why : "");
    for (size_t i = 0; i < m->bytes.len && i < 4096; i++) {
        unsigned char c = (unsigned char)m->bytes.data[i];
        fprintf(stderr, c >= ' ' && c < 0x7f ? "%c" : "\\x%02x", c);
    }
    fputc('\n', stderr);
    abort();
}

/* --- the rules ------------------------------------------------------------------------------------------------- */

static bool authority_good(struct slice text)
{
    if (!matches(&authority, text)) return false;
    char address[INET6_ADDRSTRLEN + 1] = "";
    struct in6_addr ignored;
    const char *end = text.data[0] == '[' ? memchr(text.data, ']', text.len) : NULL;
    if (end) {
        size_t len = (size_t)(end - text.data) - 1;
        if (len >= sizeof address) return false;
        memcpy(address, text.data + 1, len);
        if (inet_pton(AF_INET6, address, &ignored) != 1) return false;
    }
    const char *colon = memchr(end ? end : text.data, ':', text.len - (end ? (size_t)(end - text.data) : 0));
    uint64_t port = 0;
    if (colon) slice_u64(slice_from(text, (size_t)(colon + 1 - text.data)), &port); /* none: it stays 0 */
    return port <= 65535;
}

static struct slice request_line(const struct message *m)
{
    struct slice line = m->head;
    while (line.len && (line.data[0] == '\r' || line.data[0] == '\n')) line = slice_from(line, 1);
    const char *end = line.len ? memchr(line.data, '\n', line.len) : NULL;
    if (end) line.len = (size_t)(end - line.data);
    if (line.len && line.data[line.len - 1] == '\r') line.len--;
    return line;
}

static bool half_line_end(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\n' && (i == 0 || text.data[i - 1] != '\r')) return true;
        if (text.data[i] == '\r' && (i + 1 == text.len || text.data[i + 1] != '\n')) return true;
    }
    return false;
}

static bool line_goes_on(struct slice text)
{
    for (size_t i = 1; i < text.len; i++)
        if (text.data[i - 1] == '\n' && (text.data[i] == ' ' || text.data[i] == '\t')) return true;
    return false;
}

static bool differs_by_method(const struct message *m)
{
    for (unsigned i = 0; i < HTTP_METHODS; i++)
        if (strcmp(http_method_name((enum http_method)i), m->other->method) == 0) return false;
    return true;
}

static bool differs_by_version(const struct message *m)
{
    return m->other->major != 1;
}

static bool differs_by_version_name(const struct message *m)
{
    struct slice line = request_line(m);
    return line.len < 9 || !matches(&version, slice_from(line, line.len - 9));
}

static bool differs_by_line_end(const struct message *m)
{
    return half_line_end(m->head) || half_line_end(m->framing.trailers);
}

static bool differs_by_empty_lines(const struct message *m)
{
    size_t len = 0;
    while (len < m->head.len && (m->head.data[len] == '\r' || m->head.data[len] == '\n')) len++;
    return len != 0 && !(len == 2 && m->head.data[0] == '\r');
}

static bool differs_by_spaces(const struct message *m)
{
    struct slice line = request_line(m);
    unsigned spaces = 0;
    for (size_t i = 0; i < line.len; i++) spaces += line.data[i] == ' ';
    return spaces != 2 || line.data[line.len - 1] == ' ';
}

/* split gives the authority of an absolute form, and what is behind it; without one the whole. */
static bool split(struct slice target, struct slice *host, struct slice *rest)
{
    *rest = target;
    *host = (struct slice){0};
    size_t scheme = 0;
    if (target.len >= 7 && strncasecmp(target.data, "http://", 7) == 0) scheme = 7;
    if (target.len >= 8 && strncasecmp(target.data, "https://", 8) == 0) scheme = 8;
    if (!scheme) return false;
    size_t end = scheme;
    while (end < target.len && target.data[end] != '/' && target.data[end] != '?') end++;
    *host = slice_of(target.data + scheme, end - scheme);
    *rest = slice_from(target, end);
    return true;
}

static bool differs_by_target_form(const struct message *m)
{
    struct slice target = buf_slice(&m->other->target), host, rest;
    if (memchr(target.data, '#', target.len)) return true;
    if (target.data[0] == '/' || split(target, &host, &rest)) return false;
    return !(slice_is(target, "*") && strcmp(m->other->method, "OPTIONS") == 0);
}

static bool differs_by_target_byte(const struct message *m)
{
    for (size_t i = 0; i < m->other->target.len; i++) {
        char c = m->other->target.data[i];
        if (c <= ' ' || c == 0x7f || strchr("\"<>\\", c)) return true; /* char is signed */
    }
    return false;
}

static bool differs_by_target_escape(const struct message *m)
{
    struct slice host, path;
    split(buf_slice(&m->other->target), &host, &path);
    return !matches(&escaped, path);
}

static bool differs_by_target_authority(const struct message *m)
{
    struct slice host, rest;
    return split(buf_slice(&m->other->target), &host, &rest) && !authority_good(host);
}

static bool differs_by_field_name(const struct message *m)
{
    for (unsigned i = 0; i < m->other->num_fields; i++) {
        struct slice name = reading_name(m->other, i);
        if (name.len && memchr(name.data, ' ', name.len)) return true;
    }
    return false;
}

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (((unsigned char)text.data[i] < ' ' && text.data[i] != '\t') || text.data[i] == 0x7f) return true;
    return false;
}

static bool differs_by_field_value(const struct message *m)
{
    for (unsigned i = 0; i < m->other->num_fields; i++)
        if (has_control(reading_value(m->other, i))) return true;
    return false;
}

static bool differs_by_obs_fold(const struct message *m)
{
    return line_goes_on(m->head) || line_goes_on(m->framing.trailers);
}

static bool differs_by_host(const struct message *m)
{
    struct slice host;
    unsigned num = num_values(m->other, "Host", &host);
    if (num == 0) return m->other->minor > 0;
    return num > 1 || (host.len && !authority_good(host));
}

static bool differs_by_expect(const struct message *m)
{
    for (unsigned i = 0; i < m->other->num_head_fields; i++) {
        if (!slice_eq_nocase(reading_name(m->other, i), SLICE("Expect"))) continue;
        if (m->other->minor > 0 && !slice_eq_nocase(reading_value(m->other, i), SLICE("100-continue"))) return true;
    }
    return false;
}

static bool differs_by_coding(const struct message *m)
{
    struct slice coding;
    unsigned num = num_values(m->other, "Transfer-Encoding", &coding);
    return num > 0 && (num > 1 || m->other->minor == 0 || !slice_eq_nocase(coding, SLICE("chunked")));
}

static bool differs_by_length(const struct message *m)
{
    struct slice text;
    return num_values(m->other, "Content-Length", &text) > 0 && !matches(&length, text);
}

static bool differs_by_bounds(const struct message *m)
{
    return m->other->head_len > limits.head_bytes_max || m->other->target.len > limits.target_bytes_max ||
           m->other->num_head_fields > HTTP_HEADERS_MAX || m->other->body.len > limits.body_bytes_max ||
           m->framing.data_bytes > limits.body_bytes_max || m->framing.trailers.len > HTTP_TRAILER_BYTES_MAX ||
           m->framing.extension_bytes > HTTP_CHUNK_EXTENSION_BYTES_MAX;
}

static bool differs_by_chunk_size(const struct message *m)
{
    return m->framing.long_size;
}
static bool differs_by_chunk_end(const struct message *m)
{
    return m->framing.no_line_end;
}
static bool differs_by_chunk_extension(const struct message *m)
{
    return m->framing.odd_line;
}
static bool differs_by_chunk_tab(const struct message *m)
{
    return m->framing.tab;
}

static bool differs_by_tab_around(const struct message *m)
{
    /* it stopped at one inside a field that it has not told of yet */
    size_t at = m->other->consumed;
    if (m->other->result == READING_REFUSED && !m->other->head_done && at < m->bytes.len && m->bytes.data[at] == '\t')
        return true;
    for (unsigned i = 0; i < m->other->num_fields; i++) {
        struct slice value = reading_value(m->other, i); /* white space stands around it in `text` */
        const char *end = m->other->text.data + m->other->fields[i].value_at + m->other->fields[i].value_len;
        if (value.data + value.len < end &&
            memchr(value.data + value.len, '\t', (size_t)(end - value.data) - value.len))
            return true;
    }
    return false;
}

static bool differs_by_longer_name(const struct message *m)
{
    static const struct slice coding = {"Transfer-Encoding", 17};
    for (unsigned i = 0; i < m->other->num_fields; i++) {
        struct slice name = reading_name(m->other, i);
        if (name.len > coding.len && slice_eq_nocase(slice_of(name.data, coding.len), coding)) return true;
    }
    return false;
}

static bool differs_by_trailer_framing(const struct message *m)
{
    if (!m->other->head_done) return false; /* it does not know yet which fields are trailers */
    for (unsigned i = m->other->num_head_fields; i < m->other->num_fields; i++) {
        struct slice name = reading_name(m->other, i);
        if (slice_eq_nocase(name, SLICE("Content-Length")) || slice_eq_nocase(name, SLICE("Transfer-Encoding")))
            return true;
    }
    return false;
}

static void note_size_line(struct framing *f, struct slice line, size_t digits)
{
    f->long_size |= digits > 16;
    f->extension_bytes += line.len - digits;
    f->tab |= digits < line.len && line.data[digits] == '\t';
    f->odd_line |= has_control(slice_from(line, digits)) || !matches(&chunk_line, line);
}

/* take_line_end passes the two bytes that end a line or a chunk's data, whatever they are. */
static void take_line_end(struct framing *f, struct slice *bytes)
{
    f->no_line_end |= bytes->len >= 2 && memcmp(bytes->data, "\r\n", 2) != 0;
    *bytes = slice_from(*bytes, 2);
}

/* A size line goes to the next CR, as the other parser has it. */
static void take_framing_apart(struct framing *f, struct slice bytes)
{
    for (;;) {
        const char *end = bytes.len ? memchr(bytes.data, '\r', bytes.len) : NULL;
        if (!end) return;
        struct slice line = slice_of(bytes.data, (size_t)(end - bytes.data));
        size_t digits = 0, size = 0;
        for (; digits < line.len && strchr("0123456789abcdefABCDEF", line.data[digits]) && line.data[digits];
             digits++) {
            char digit[2] = {line.data[digits], 0};
            if (__builtin_mul_overflow(size, 16, &size)) return;
            size += strtoul(digit, NULL, 16);
        }
        note_size_line(f, line, digits);
        bytes = slice_from(bytes, line.len);
        take_line_end(f, &bytes);
        if (digits == 0 || size > bytes.len) return;
        f->data_bytes += size;
        if (size == 0) break;
        bytes = slice_from(bytes, size);
        take_line_end(f, &bytes);
    }
    bool none = bytes.len >= 2 && memcmp(bytes.data, "\r\n", 2) == 0;
    const char *end = bytes.len ? memmem(bytes.data, bytes.len, "\r\n\r\n", 4) : NULL;
    f->trailers = none ? slice_of(bytes.data, 2) : end ? slice_of(bytes.data, (size_t)(end - bytes.data) + 4) : bytes;
}
