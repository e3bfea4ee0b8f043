#include "http.h"

#include <arpa/inet.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"

/* head_parser: one pass over the head. Every parse_ function leaves `at` behind what it has taken when it answers
 * HTTP_DONE; none looks at `end` or beyond. */
struct head_parser {
    struct http_request *request;
    const struct http_limits *limits;
    const char *at, *end;
    enum http_error error;
    struct slice target_host; /* of an absolute-form target */
    bool has_host;
    bool connection_close, connection_keep_alive, connection_upgrade;
    bool upgrade_websocket; /* Upgrade names it */
};

static enum http_result parse_empty_line(struct head_parser *p);
static enum http_result parse_method(struct head_parser *p);
static enum http_result parse_target(struct head_parser *p);
static enum http_result parse_version(struct head_parser *p);
static enum http_result parse_line_end(struct head_parser *p, enum http_error error);
static enum http_result parse_fields(struct head_parser *p);
static enum http_result parse_field(struct head_parser *p);
static enum http_result finish_head(struct head_parser *p);
static enum http_result fail(struct head_parser *p, enum http_error error);

static bool split_target(struct head_parser *p, struct slice target);
static enum http_error note_field(struct head_parser *p, struct slice name, struct slice value);
static enum http_error note_host(struct head_parser *p, struct slice value);
static enum http_error note_length(struct http_request *request, struct slice value);
static enum http_error note_transfer_coding(struct http_request *request, struct slice value);
static enum http_error note_expect(struct http_request *request, struct slice value);
static void note_connection(struct head_parser *p, struct slice value);
static void note_upgrade(struct head_parser *p, struct slice value);

static bool authority_valid(struct slice authority);
static bool ipv6_valid(struct slice text);
static bool port_valid(struct slice text);
static bool escapes_valid(struct slice text);
static const char *value_end(const char *at, const char *end);
static struct slice trim(struct slice text);
static bool list_next(struct slice *list, struct slice *element);

/* What a byte may be part of. */
enum {
    TOKEN = 1,  /* tchar, RFC 9110 section 5.6.2 */
    TARGET = 2, /* RFC 3986: unreserved, sub-delims, ':' '@' '/' '?' '%', and what browsers leave as it is: [ ] ^ ` { |
                   } (http.h). Never '#': a fragment is not sent (RFC 9110 section 7.1) */
    VALUE = 4,  /* VCHAR, obs-text, SP, HTAB, RFC 9110 section 5.5 */
    NAME = 8,   /* reg-name without escapes, RFC 3986 section 3.2.2 */
};
static const uint8_t byte_class[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = VALUE | TARGET | TOKEN | NAME,
    ['"'] = VALUE,
    ['#'] = VALUE | TOKEN,
    ['$'] = VALUE | TARGET | TOKEN | NAME,
    ['%'] = VALUE | TARGET | TOKEN,
    ['&' ... '\''] = VALUE | TARGET | TOKEN | NAME,
    ['(' ... ')'] = VALUE | TARGET | NAME,
    ['*' ... '+'] = VALUE | TARGET | TOKEN | NAME,
    [','] = VALUE | TARGET | NAME,
    ['-' ... '.'] = VALUE | TARGET | TOKEN | NAME,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = VALUE | TARGET | TOKEN | NAME,
    [':'] = VALUE | TARGET,
    [';'] = VALUE | TARGET | NAME,
    ['<'] = VALUE,
    ['='] = VALUE | TARGET | NAME,
    ['>'] = VALUE,
    ['?' ... '@'] = VALUE | TARGET,
    ['A' ... 'Z'] = VALUE | TARGET | TOKEN | NAME,
    ['['] = VALUE | TARGET,
    ['\\'] = VALUE,
    [']'] = VALUE | TARGET,
    ['^'] = VALUE | TARGET | TOKEN,
    ['_'] = VALUE | TARGET | TOKEN | NAME,
    ['`'] = VALUE | TARGET | TOKEN,
    ['a' ... 'z'] = VALUE | TARGET | TOKEN | NAME,
    ['{'] = VALUE | TARGET,
    ['|'] = VALUE | TARGET | TOKEN,
    ['}'] = VALUE | TARGET,
    ['~'] = VALUE | TARGET | TOKEN | NAME,
    [0x80 ... 0xff] = VALUE,
};

static inline bool byte_is(char byte, unsigned what)
{
    return byte_class[(unsigned char)byte] & what;
}
static inline int hex_value(char digit);

static const struct slice method_names[HTTP_METHODS] = {
    [HTTP_GET] = {"GET", 3},         [HTTP_HEAD] = {"HEAD", 4},   [HTTP_POST] = {"POST", 4},
    [HTTP_PUT] = {"PUT", 3},         [HTTP_PATCH] = {"PATCH", 5}, [HTTP_DELETE] = {"DELETE", 6},
    [HTTP_OPTIONS] = {"OPTIONS", 7},
};
#define METHOD_BYTES_MAX 7 /* the longest of them */

/* --- the head -------------------------------------------------------------------------------------------------- */

enum http_result http_parse_head(struct http_request *request, enum http_error *error, struct slice bytes,
                                 const struct http_limits *limits)
{
    /* the fields are not cleared: num_headers says which count, and 2 KiB of zeroes would cost more than the parse */
    memset(request, 0, offsetof(struct http_request, headers));
    request->body = (struct slice){0};
    *error = HTTP_OK;
    if (bytes.len == 0) return HTTP_NEED_MORE;

    size_t window = bytes.len < limits->head_bytes_max ? bytes.len : limits->head_bytes_max;
    struct head_parser p = {.request = request, .limits = limits, .at = bytes.data, .end = bytes.data + window};
    enum http_result result = parse_empty_line(&p);
    if (result == HTTP_DONE) result = parse_method(&p);
    if (result == HTTP_DONE) result = parse_target(&p);
    if (result == HTTP_DONE) result = parse_version(&p);
    if (result == HTTP_DONE) result = parse_line_end(&p, HTTP_BAD_REQUEST_LINE);
    if (result == HTTP_DONE) result = parse_fields(&p);
    if (result == HTTP_DONE) result = finish_head(&p);
    if (result == HTTP_NEED_MORE && window == limits->head_bytes_max) result = fail(&p, HTTP_HEADERS_TOO_LARGE);
    request->head_len = (size_t)(p.at - bytes.data);
    *error = p.error;
    return result;
}

/* A client that ended its last body with one line end too many is forgiven once (RFC 9112 section 2.2). */
static enum http_result parse_empty_line(struct head_parser *p)
{
    if (p->at == p->end || *p->at != '\r') return HTTP_DONE;
    return parse_line_end(p, HTTP_BAD_REQUEST_LINE);
}

static enum http_result parse_method(struct head_parser *p)
{
    const char *start = p->at;
    while (p->at < p->end && byte_is(*p->at, TOKEN)) {
        /* longer than any the gateway knows: not worth reading on (RFC 9112 section 3) */
        if (++p->at - start > METHOD_BYTES_MAX) return fail(p, HTTP_BAD_METHOD);
    }
    if (p->at == p->end) return HTTP_NEED_MORE;
    if (*p->at != ' ' || p->at == start) return fail(p, HTTP_BAD_REQUEST_LINE);
    struct slice name = {start, (size_t)(p->at++ - start)};
    for (unsigned i = 0; i < HTTP_METHODS; i++) {
        if (!slice_eq(name, method_names[i])) continue;
        p->request->method = (enum http_method)i;
        return HTTP_DONE;
    }
    return fail(p, HTTP_BAD_METHOD);
}

static enum http_result parse_target(struct head_parser *p)
{
    const char *start = p->at;
    size_t max = p->limits->target_bytes_max, room = (size_t)(p->end - start);
    const char *stop = room > max ? start + max + 1 : p->end;
    while (p->at < stop && byte_is(*p->at, TARGET)) p->at++;
    if ((size_t)(p->at - start) > max) return fail(p, HTTP_TARGET_TOO_LONG);
    if (p->at == p->end) return HTTP_NEED_MORE;
    if (*p->at == '\r' || *p->at == '\n' || p->at == start) return fail(p, HTTP_BAD_REQUEST_LINE);
    if (*p->at != ' ') return fail(p, HTTP_BAD_TARGET);
    struct slice target = {start, (size_t)(p->at++ - start)};
    return split_target(p, target) ? HTTP_DONE : fail(p, HTTP_BAD_TARGET);
}

/* HTTP-version = "HTTP/" DIGIT "." DIGIT (RFC 9112 section 2.3); a higher minor version is read as 1. */
static enum http_result parse_version(struct head_parser *p)
{
    static const char pattern[] = "HTTP/0.0";
    const char *start = p->at;
    for (const char *expected = pattern; *expected; expected++, p->at++) {
        if (p->at == p->end) return HTTP_NEED_MORE;
        bool fits = *expected == '0' ? *p->at >= '0' && *p->at <= '9' : *p->at == *expected;
        if (!fits) return fail(p, HTTP_BAD_REQUEST_LINE);
    }
    if (start[5] != '1') return fail(p, HTTP_BAD_VERSION);
    p->request->minor_version = start[7] != '0';
    return HTTP_DONE;
}

static enum http_result parse_line_end(struct head_parser *p, enum http_error error)
{
    if (p->at == p->end) return HTTP_NEED_MORE;
    if (p->at[0] != '\r') return fail(p, error);
    if (p->at + 1 == p->end) return HTTP_NEED_MORE;
    if (p->at[1] != '\n') return fail(p, error);
    p->at += 2;
    return HTTP_DONE;
}

static enum http_result parse_fields(struct head_parser *p)
{
    while (p->at < p->end && *p->at != '\r') {
        enum http_result result = parse_field(p);
        if (result != HTTP_DONE) return result;
    }
    return parse_line_end(p, HTTP_BAD_HEADER);
}

/* field-line = field-name ":" OWS field-value OWS CRLF (RFC 9112 section 5). A line that begins with white space, which
 * obs-fold would continue, has no name and falls with the rest. */
static enum http_result parse_field(struct head_parser *p)
{
    struct http_request *request = p->request;
    if (request->num_headers == HTTP_HEADERS_MAX) return fail(p, HTTP_HEADERS_TOO_LARGE);
    const char *start = p->at;
    while (p->at < p->end && byte_is(*p->at, TOKEN)) p->at++;
    if (p->at == p->end) return HTTP_NEED_MORE;
    if (*p->at != ':' || p->at == start) return fail(p, HTTP_BAD_HEADER);
    struct slice name = {start, (size_t)(p->at++ - start)};

    start = p->at;
    p->at = value_end(start, p->end);
    struct slice value = trim(slice_of(start, (size_t)(p->at - start)));
    enum http_result result = parse_line_end(p, HTTP_BAD_HEADER);
    if (result != HTTP_DONE) return result;

    request->headers[request->num_headers++] = (struct http_header){name, value};
    enum http_error error = note_field(p, name, value);
    return error == HTTP_OK ? HTTP_DONE : fail(p, error);
}

/* What only the whole head can tell. */
static enum http_result finish_head(struct head_parser *p)
{
    struct http_request *request = p->request;
    bool http11 = request->minor_version >= 1;
    if (http11 && !p->has_host) return fail(p, HTTP_BAD_HOST);
    if (request->content_length > p->limits->body_bytes_max) return fail(p, HTTP_BODY_TOO_LARGE);
    /* the target's host stands above the field's (RFC 9112 section 3.2.2) */
    if (p->target_host.len) request->host = p->target_host;
    request->keep_alive = !p->connection_close && (http11 || p->connection_keep_alive); /* RFC 9112 section 9.3 */
    request->upgrade_websocket = http11 && p->connection_upgrade && p->upgrade_websocket;
    return HTTP_DONE;
}

static enum http_result fail(struct head_parser *p, enum http_error error)
{
    p->error = error;
    return HTTP_ERROR;
}

/* --- the target ------------------------------------------------------------------------------------------------ */

/* split_target reduces the three forms of RFC 9112 section 3.2 to path and query; false when it is none of them. */
static bool split_target(struct head_parser *p, struct slice target)
{
    struct http_request *request = p->request;
    request->target = target;
    struct slice rest = target;
    if (target.data[0] != '/') {
        if (slice_is(target, "*")) {
            request->path = target;
            return request->method == HTTP_OPTIONS;
        }
        size_t scheme_len = 0;
        if (target.len >= 7 && slice_eq_nocase(slice_of(target.data, 7), SLICE("http://"))) scheme_len = 7;
        if (target.len >= 8 && slice_eq_nocase(slice_of(target.data, 8), SLICE("https://"))) scheme_len = 8;
        if (scheme_len == 0) return false;
        rest = slice_from(target, scheme_len);
        size_t host_len = 0;
        while (host_len < rest.len && rest.data[host_len] != '/' && rest.data[host_len] != '?') host_len++;
        p->target_host = slice_of(rest.data, host_len);
        if (!authority_valid(p->target_host)) return false;
        rest = slice_from(rest, host_len);
    }
    const char *mark = memchr(rest.data, '?', rest.len);
    request->path = slice_of(rest.data, mark ? (size_t)(mark - rest.data) : rest.len);
    if (mark) request->query = slice_from(rest, request->path.len + 1);
    if (request->path.len == 0) request->path = request->method == HTTP_OPTIONS && !mark ? SLICE("*") : SLICE("/");
    return escapes_valid(request->path) && escapes_valid(request->query);
}

/* uri-host [ ":" port ] (RFC 9110 section 7.2), the host not empty and without user information. */
static bool authority_valid(struct slice authority)
{
    if (authority.len == 0) return false;
    size_t host_len = 0;
    if (authority.data[0] == '[') {
        const char *bracket = memchr(authority.data, ']', authority.len);
        if (!bracket) return false;
        host_len = (size_t)(bracket - authority.data) + 1;
        if (!ipv6_valid(slice_of(authority.data + 1, host_len - 2))) return false;
    } else {
        while (host_len < authority.len && (byte_is(authority.data[host_len], NAME) || authority.data[host_len] == '%'))
            host_len++;
        if (host_len == 0 || !escapes_valid(slice_of(authority.data, host_len))) return false;
    }
    if (host_len == authority.len) return true;
    return authority.data[host_len] == ':' && port_valid(slice_from(authority, host_len + 1));
}

static bool ipv6_valid(struct slice text)
{
    char terminated[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    if (text.len >= sizeof terminated) return false;
    memcpy(terminated, text.data, text.len);
    terminated[text.len] = '\0';
    return inet_pton(AF_INET6, terminated, &ignored) == 1;
}

/* port = *DIGIT (RFC 3986 section 3.2.3), and a number that a port can be. */
static bool port_valid(struct slice text)
{
    uint64_t port = 0;
    return text.len == 0 || (text.len <= 5 && slice_u64(text, &port) && port <= 65535);
}

/* escapes_valid says whether every '%' is followed by two hex digits. */
static bool escapes_valid(struct slice text)
{
    if (text.len == 0) return true; /* data may be NULL */
    const char *at = text.data, *end = text.data + text.len;
    while ((at = memchr(at, '%', (size_t)(end - at)))) {
        if (end - at < 3 || hex_value(at[1]) < 0 || hex_value(at[2]) < 0) return false;
        at += 3;
    }
    return true;
}

/* --- the fields that the parser itself understands ------------------------------------------------------------- */

static enum http_error note_field(struct head_parser *p, struct slice name, struct slice value)
{
    switch (name.len) { /* the length tells most fields apart without looking at them */
    case 4:
        if (slice_eq_nocase(name, SLICE("Host"))) return note_host(p, value);
        break;
    case 6:
        if (slice_eq_nocase(name, SLICE("Expect"))) return note_expect(p->request, value);
        break;
    case 7:
        if (slice_eq_nocase(name, SLICE("Upgrade"))) note_upgrade(p, value);
        break;
    case 10:
        if (slice_eq_nocase(name, SLICE("Connection"))) note_connection(p, value);
        break;
    case 14:
        if (slice_eq_nocase(name, SLICE("Content-Length"))) return note_length(p->request, value);
        break;
    case 17:
        if (slice_eq_nocase(name, SLICE("Transfer-Encoding"))) return note_transfer_coding(p->request, value);
        break;
    }
    return HTTP_OK;
}

/* A client whose URI has no authority sends an empty Host (RFC 9112 section 3.2). */
static enum http_error note_host(struct head_parser *p, struct slice value)
{
    if (p->has_host || (value.len && !authority_valid(value))) return HTTP_BAD_HOST;
    p->has_host = true;
    p->request->host = value;
    return HTTP_OK;
}

static enum http_error note_length(struct http_request *request, struct slice value)
{
    if (request->chunked) return HTTP_AMBIGUOUS_LENGTH;
    if (request->has_length || !slice_u64(value, &request->content_length)) return HTTP_BAD_LENGTH;
    request->has_length = true;
    return HTTP_OK;
}

/* Anything but one `chunked` is refused; how decides between 400 and 501 (RFC 9112 sections 6.1 and 6.3), so `chunked`
 * then says whether it was at least last and alone of its kind. */
static enum http_error note_transfer_coding(struct http_request *request, struct slice value)
{
    static const struct slice chunked = {"chunked", 7};
    if (request->has_length) return HTTP_AMBIGUOUS_LENGTH;
    if (request->minor_version == 0) return HTTP_BAD_TRANSFER_CODING;
    bool repeated = request->chunked, last = false;
    unsigned num_chunked = repeated;
    struct slice list = value, coding;
    while (list_next(&list, &coding)) {
        last = slice_eq_nocase(coding, chunked);
        num_chunked += last;
    }
    request->chunked = last && num_chunked == 1;
    return !repeated && slice_eq_nocase(value, chunked) ? HTTP_OK : HTTP_BAD_TRANSFER_CODING;
}

/* HTTP/1.0 knows no expectations (RFC 9110 section 10.1.1). */
static enum http_error note_expect(struct http_request *request, struct slice value)
{
    if (request->minor_version == 0) return HTTP_OK;
    request->expect_continue = slice_eq_nocase(value, SLICE("100-continue"));
    return request->expect_continue ? HTTP_OK : HTTP_BAD_EXPECT;
}

static void note_connection(struct head_parser *p, struct slice value)
{
    struct slice option;
    while (list_next(&value, &option)) {
        p->connection_close |= slice_eq_nocase(option, SLICE("close"));
        p->connection_keep_alive |= slice_eq_nocase(option, SLICE("keep-alive"));
        p->connection_upgrade |= slice_eq_nocase(option, SLICE("upgrade"));
    }
}

static void note_upgrade(struct head_parser *p, struct slice value)
{
    struct slice protocol;
    while (list_next(&value, &protocol)) p->upgrade_websocket |= slice_eq_nocase(protocol, SLICE("websocket"));
}

/* --- scanning -------------------------------------------------------------------------------------------------- */

/* value_end returns the first byte that may not be in a field value, or `end`. Words without control bytes, which is
 * nearly all of them, are passed eight bytes a step; only a word with one is looked at byte by byte, so that HTAB
 * passes and the order of the bytes in memory does not matter. */
static const char *value_end(const char *at, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    for (;;) {
        uint64_t word;
        while ((size_t)(end - at) >= sizeof word) {
            memcpy(&word, at, sizeof word);
            uint64_t deleted = word ^ ones * 0x7f; /* a zero byte where DEL stood */
            uint64_t controls = ((word - ones * 0x20) & ~word) | ((deleted - ones) & ~deleted);
            if (controls & tops) break;
            at += sizeof word;
        }
        const char *stop = (size_t)(end - at) > sizeof word ? at + sizeof word : end;
        while (at < stop && byte_is(*at, VALUE)) at++;
        if (at < stop || at == end) return at;
    }
}

/* trim drops the optional white space around a value. */
static struct slice trim(struct slice text)
{
    while (text.len && (text.data[0] == ' ' || text.data[0] == '\t')) text = slice_from(text, 1);
    while (text.len && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t')) text.len--;
    return text;
}

/* list_next takes the next element of a comma-separated list (RFC 9110 section 5.6.1), which may be empty; false at
 * the end. */
static bool list_next(struct slice *list, struct slice *element)
{
    if (list->len == 0) return false;
    const char *comma = memchr(list->data, ',', list->len);
    size_t len = comma ? (size_t)(comma - list->data) : list->len;
    *element = trim(slice_of(list->data, len));
    *list = slice_from(*list, comma ? len + 1 : len);
    return true;
}

static inline int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

struct slice http_header_find(const struct http_request *request, const char *name)
{
    struct slice wanted = slice_str(name);
    for (unsigned i = 0; i < request->num_headers; i++)
        if (slice_eq_nocase(request->headers[i].name, wanted)) return request->headers[i].value;
    return (struct slice){0};
}

unsigned http_header_count(const struct http_request *request, const char *name)
{
    struct slice wanted = slice_str(name);
    unsigned count = 0;
    for (unsigned i = 0; i < request->num_headers; i++) count += slice_eq_nocase(request->headers[i].name, wanted);
    return count;
}

size_t http_token_len(struct slice text)
{
    size_t len = 0;
    while (len < text.len && byte_is(text.data[len], TOKEN)) len++;
    return len;
}

/* --- escapes --------------------------------------------------------------------------------------------------- */

static bool decode(struct slice in, bool plus_is_space, char *out, size_t out_cap, size_t *out_len);

int http_query_find(struct slice query, const char *name, char *out, size_t out_cap, size_t *out_len)
{
    struct slice wanted = slice_str(name);
    for (size_t at = 0; at < query.len;) {
        struct slice rest = slice_from(query, at);
        const char *ampersand = memchr(rest.data, '&', rest.len);
        struct slice pair = {rest.data, ampersand ? (size_t)(ampersand - rest.data) : rest.len};
        at += pair.len + 1;
        if (!slice_starts(pair, wanted)) continue;
        if (pair.len > wanted.len && pair.data[wanted.len] != '=') continue;
        return decode(slice_from(pair, wanted.len + 1), true, out, out_cap, out_len) ? 1 : -1;
    }
    return 0;
}

bool http_percent_decode(struct slice in, char *out, size_t out_cap, size_t *out_len)
{
    return decode(in, false, out, out_cap, out_len);
}

/* A NUL is refused because what is decoded may become a C string somewhere below. */
static bool decode(struct slice in, bool plus_is_space, char *out, size_t out_cap, size_t *out_len)
{
    size_t len = 0;
    for (size_t at = 0; at < in.len; at++) {
        char byte = in.data[at];
        if (byte == '%') {
            if (in.len - at < 3) return false;
            int high = hex_value(in.data[at + 1]), low = hex_value(in.data[at + 2]);
            if (high < 0 || low < 0) return false;
            byte = (char)(high << 4 | low);
            at += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        if (byte == '\0' || len == out_cap) return false;
        out[len++] = byte;
    }
    *out_len = len;
    return true;
}

/* --- the body -------------------------------------------------------------------------------------------------- */

/* The chunked framing (RFC 9112 section 7.1): chunks, a chunk of size 0 without data, trailer fields, an empty line.
 * The state is what the next byte is to be:
 *
 *     1           a     ;x=y       CR    LF       data…  CR       LF
 *     SIZE_START  SIZE  EXTENSION  (it)  SIZE_LF  DATA   DATA_CR  DATA_LF
 *
 *     0           CR    LF         N              ame:   value    CR    LF          CR             LF
 *     SIZE_START  SIZE  SIZE_LF    TRAILER_START  _NAME  _VALUE   (it)  TRAILER_LF  TRAILER_START  END_LF
 *
 * (it): a CR that ends what may also go on is taken by the state before it. */
enum body_state {
    BODY_DATA,            /* _left bytes of content follow, at least one */
    BODY_SIZE_START,      /* the first digit of a chunk's size */
    BODY_SIZE,            /* more digits: _left is the size so far, _line_bytes the digits */
    BODY_EXTENSION_SPACE, /* white space behind the size: only ';' makes it legal */
    BODY_EXTENSION,
    BODY_SIZE_LF,
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER_START, /* a trailer's name, or the CR of the empty line; from here _line_bytes counts the section */
    BODY_TRAILER_NAME,
    BODY_TRAILER_VALUE,
    BODY_TRAILER_LF,
    BODY_END_LF,
    BODY_DONE,
    BODY_FAILED,
};
#define CHUNK_SIZE_DIGITS_MAX 16 /* of 64 bits: the size cannot overflow, and leading zeroes end */

static bool body_too_large(const struct http_body *body, const struct http_limits *limits);
static size_t take_data(struct http_body *body, struct buf *out, struct slice bytes);
static enum http_error take_framing(struct http_body *body, char byte, const struct http_limits *limits);
static enum http_error take_size_digit(struct http_body *body, char byte, const struct http_limits *limits);
static enum http_error take_size_end(struct http_body *body, char byte);
static enum http_error take_extension(struct http_body *body, char byte);
static enum http_error take_trailer(struct http_body *body, char byte);
static enum http_error take_exactly(struct http_body *body, char byte, char expected, enum body_state next);

void http_body_init(struct http_body *body, const struct http_request *request)
{
    ASSERT(!(request->chunked && request->has_length));
    *body = (struct http_body){._chunked = request->chunked, ._left = request->content_length};
    if (request->chunked)
        body->_state = BODY_SIZE_START;
    else
        body->_state = request->content_length ? BODY_DATA : BODY_DONE;
}

enum http_result http_body_feed(struct http_body *body, struct buf *out, size_t *consumed, enum http_error *error,
                                struct slice bytes, const struct http_limits *limits)
{
    ASSERT(body->_state != BODY_FAILED);
    size_t at = 0;
    *error = body_too_large(body, limits) ? HTTP_BODY_TOO_LARGE : HTTP_OK;
    while (*error == HTTP_OK && body->_state != BODY_DONE && at < bytes.len) {
        if (body->_state == BODY_DATA)
            at += take_data(body, out, slice_from(bytes, at));
        else
            *error = take_framing(body, bytes.data[at++], limits);
    }
    *consumed = at;
    if (*error != HTTP_OK) {
        body->_state = BODY_FAILED;
        return HTTP_ERROR;
    }
    return body->_state == BODY_DONE ? HTTP_DONE : HTTP_NEED_MORE;
}

static bool body_too_large(const struct http_body *body, const struct http_limits *limits)
{
    return body->_left > limits->body_bytes_max || body->_total > limits->body_bytes_max - body->_left;
}

static size_t take_data(struct http_body *body, struct buf *out, struct slice bytes)
{
    ASSERT(body->_left > 0);
    size_t len = bytes.len < body->_left ? bytes.len : (size_t)body->_left;
    buf_append(out, bytes.data, len);
    body->_left -= len;
    body->_total += len;
    if (body->_left == 0) body->_state = body->_chunked ? BODY_DATA_CR : BODY_DONE;
    return len;
}

static enum http_error take_framing(struct http_body *body, char byte, const struct http_limits *limits)
{
    switch ((enum body_state)body->_state) {
    case BODY_SIZE_START: return take_size_digit(body, byte, limits);
    case BODY_SIZE: return hex_value(byte) >= 0 ? take_size_digit(body, byte, limits) : take_size_end(body, byte);
    case BODY_EXTENSION_SPACE: return byte == '\r' ? HTTP_BAD_CHUNK : take_size_end(body, byte);
    case BODY_EXTENSION: return byte == '\r' ? take_size_end(body, byte) : take_extension(body, byte);
    case BODY_SIZE_LF:
        body->_line_bytes = 0;
        return take_exactly(body, byte, '\n', body->_left ? BODY_DATA : BODY_TRAILER_START);
    case BODY_DATA_CR: return take_exactly(body, byte, '\r', BODY_DATA_LF);
    case BODY_DATA_LF: return take_exactly(body, byte, '\n', BODY_SIZE_START);
    case BODY_TRAILER_START:
    case BODY_TRAILER_NAME:
    case BODY_TRAILER_VALUE:
    case BODY_TRAILER_LF: return take_trailer(body, byte);
    case BODY_END_LF: return take_exactly(body, byte, '\n', BODY_DONE);
    case BODY_DATA:
    case BODY_DONE:
    case BODY_FAILED: break;
    }
    UNREACHABLE();
}

static enum http_error take_size_digit(struct http_body *body, char byte, const struct http_limits *limits)
{
    int digit = hex_value(byte);
    if (digit < 0 || body->_line_bytes == CHUNK_SIZE_DIGITS_MAX) return HTTP_BAD_CHUNK;
    body->_line_bytes++;
    body->_left = body->_left << 4 | (unsigned)digit;
    body->_state = BODY_SIZE;
    return body_too_large(body, limits) ? HTTP_BODY_TOO_LARGE : HTTP_OK;
}

/* chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] ): white space is for the ';' behind it only. */
static enum http_error take_size_end(struct http_body *body, char byte)
{
    if (byte == '\r') {
        body->_state = BODY_SIZE_LF;
        return HTTP_OK;
    }
    if (byte == ';')
        body->_state = BODY_EXTENSION;
    else if (byte == ' ' || byte == '\t')
        body->_state = BODY_EXTENSION_SPACE;
    else
        return HTTP_BAD_CHUNK;
    return take_extension(body, byte);
}

/* The bound is on all extensions of the body together: many small chunks with one each cost as much as a long one. */
static enum http_error take_extension(struct http_body *body, char byte)
{
    if (!byte_is(byte, VALUE)) return HTTP_BAD_CHUNK;
    return ++body->_extension_bytes > HTTP_CHUNK_EXTENSION_BYTES_MAX ? HTTP_BAD_CHUNK : HTTP_OK;
}

/* The rules of parse_field and parse_fields, a byte at a time. */
static enum http_error take_trailer(struct http_body *body, char byte)
{
    if (++body->_line_bytes > HTTP_TRAILER_BYTES_MAX) return HTTP_HEADERS_TOO_LARGE;
    enum body_state next = BODY_FAILED;
    switch (body->_state) {
    case BODY_TRAILER_START:
        next = byte == '\r' ? BODY_END_LF : byte_is(byte, TOKEN) ? BODY_TRAILER_NAME : BODY_FAILED;
        break;
    case BODY_TRAILER_NAME:
        next = byte == ':' ? BODY_TRAILER_VALUE : byte_is(byte, TOKEN) ? BODY_TRAILER_NAME : BODY_FAILED;
        break;
    case BODY_TRAILER_VALUE:
        next = byte == '\r' ? BODY_TRAILER_LF : byte_is(byte, VALUE) ? BODY_TRAILER_VALUE : BODY_FAILED;
        break;
    case BODY_TRAILER_LF: next = byte == '\n' ? BODY_TRAILER_START : BODY_FAILED; break;
    }
    body->_state = (uint8_t)next;
    return next == BODY_FAILED ? HTTP_BAD_HEADER : HTTP_OK;
}

static enum http_error take_exactly(struct http_body *body, char byte, char expected, enum body_state next)
{
    if (byte != expected) return HTTP_BAD_CHUNK;
    body->_state = (uint8_t)next;
    return HTTP_OK;
}

/* --- names ----------------------------------------------------------------------------------------------------- */

static const struct {
    unsigned status;
    const char *code, *detail;
} errors[HTTP_ERRORS] = {
    [HTTP_OK] = {200, "", ""},
    [HTTP_BAD_REQUEST_LINE] = {400, "http.request_line", "The request line is malformed."},
    [HTTP_BAD_TARGET] = {400, "http.target", "The request target is malformed."},
    [HTTP_BAD_VERSION] = {505, "http.version", "Only HTTP/1.1 and HTTP/1.0 are spoken here."},
    [HTTP_BAD_HEADER] = {400, "http.header", "A header or trailer field is malformed."},
    [HTTP_BAD_HOST] = {400, "http.host", "The Host field is missing, repeated or malformed."},
    [HTTP_BAD_LENGTH] = {400, "http.content_length", "Content-Length is repeated or not a number."},
    [HTTP_AMBIGUOUS_LENGTH] = {400, "http.ambiguous_length", "Both Content-Length and Transfer-Encoding are given."},
    [HTTP_BAD_TRANSFER_CODING] = {501, "http.transfer_coding", "The only transfer coding accepted is one chunked."},
    [HTTP_BAD_CHUNK] = {400, "http.chunk", "The chunked body is malformed."},
    [HTTP_TARGET_TOO_LONG] = {414, "http.target_too_long", "The request target is too long."},
    [HTTP_HEADERS_TOO_LARGE] = {431, "http.headers_too_large", "The header or trailer fields are too large."},
    [HTTP_BODY_TOO_LARGE] = {413, "http.body_too_large", "The request body is too large."},
    [HTTP_BAD_EXPECT] = {417, "http.expect", "The only expectation met is 100-continue."},
    [HTTP_BAD_METHOD] = {501, "http.method", "The request method is not known."},
};

unsigned http_error_status(enum http_error error, const struct http_request *request)
{
    ASSERT((unsigned)error < HTTP_ERRORS);
    if (error == HTTP_BAD_TRANSFER_CODING && !(request && request->chunked)) return 400;
    return errors[error].status;
}

const char *http_error_code(enum http_error error)
{
    ASSERT((unsigned)error < HTTP_ERRORS);
    return errors[error].code;
}

const char *http_error_detail(enum http_error error)
{
    ASSERT((unsigned)error < HTTP_ERRORS);
    return errors[error].detail;
}

const char *http_method_name(enum http_method method)
{
    ASSERT((unsigned)method < HTTP_METHODS);
    return method_names[method].data;
}

const char *http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {305, "Use Proxy"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status) return reasons[i].reason;
    return "";
}
