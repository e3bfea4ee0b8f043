#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../net/http.h"
#include "../../src/base/limits.h"

static const struct http_limits limits = {
    .head_bytes_max = HTTP_HEAD_BYTES_MAX,
    .target_bytes_max = HTTP_TARGET_BYTES_MAX,
    .body_bytes_max = HTTP_BODY_BYTES_MAX,
};

struct verdict {
    enum http_result result;
    enum http_error error;
};

/* parse_exact parses a heap copy of exactly those bytes, so that the address sanitizer sees a read past their end. The
 * copy is given back: the request borrows it. */
static char *parse_exact(struct http_request *request, struct verdict *verdict, struct slice bytes,
                         const struct http_limits *with)
{
    char *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(copy);
    if (bytes.len) memcpy(copy, bytes.data, bytes.len);
    memset(request, 0xa5, sizeof *request); /* what an earlier request may have left */
    verdict->result = http_parse_head(request, &verdict->error, slice_of(copy, bytes.len), with);
    return copy;
}

static struct verdict judge(struct slice bytes, const struct http_limits *with)
{
    struct http_request request;
    struct verdict verdict;
    free(parse_exact(&request, &verdict, bytes, with));
    return verdict;
}

/* parse_whole parses a head that must be accepted; the slices borrow `text`. */
static struct http_request parse_whole(const char *text)
{
    struct http_request request;
    enum http_error error = HTTP_ERRORS;
    enum http_result result = http_parse_head(&request, &error, slice_str(text), &limits);
    if (result != HTTP_DONE) print_error("not accepted (%s): %s\n", http_error_code(error), text);
    assert_int_equal(result, HTTP_DONE);
    assert_int_equal(error, HTTP_OK);
    assert_int_equal(request.head_len, strlen(text));
    return request;
}

static void assert_slice(struct slice slice, const char *expected)
{
    assert_int_equal(slice.len, strlen(expected));
    if (slice.len) assert_memory_equal(slice.data, expected, slice.len);
}

/* --- accepted and refused heads ---------------------------------------------------------------------------------- */

#define HOST "Host: chat.example\r\n"
#define END "\r\n"

static const char *const accepted[] = {
    "GET / HTTP/1.1\r\n" HOST END,
    "GET / HTTP/1.0\r\n" END,
    "GET / HTTP/1.7\r\n" HOST END,
    "\r\nGET / HTTP/1.1\r\n" HOST END,
    "HEAD /a HTTP/1.1\r\n" HOST END,
    "POST /a HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END,
    "PUT /a HTTP/1.1\r\n" HOST "content-length:5\r\n" END,
    "PATCH /a HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n" END,
    "DELETE /a HTTP/1.1\r\n" HOST END,
    "OPTIONS * HTTP/1.1\r\n" HOST END,
    "OPTIONS /a HTTP/1.1\r\n" HOST END,
    "GET /a%20b%2Fc HTTP/1.1\r\n" HOST END,
    "GET /a:b@c!$&'()*+,;=-._~%7f?/?a:b@c!$&'()*+,;=-._~%00 HTTP/1.1\r\n" HOST END,
    "GET /a[]^`{|}b?a[]^`{|}b HTTP/1.1\r\n" HOST END, /* as browsers send them */
    "GET http://other.example/[1]?[2] HTTP/1.1\r\n" HOST END,
    "GET //a HTTP/1.1\r\n" HOST END,
    "GET /? HTTP/1.1\r\n" HOST END,
    "GET http://other.example/a HTTP/1.1\r\n" HOST END,
    "GET HTTPS://other.example:8443/a HTTP/1.1\r\n" HOST END,
    "GET / HTTP/1.1\r\nHost:\r\n" END,
    "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n" END,
    "GET / HTTP/1.1\r\nHost: [2001:db8::192.0.2.1]\r\n" END,
    "GET / HTTP/1.1\r\nHost: 192.0.2.1:65535\r\n" END,
    "GET / HTTP/1.1\r\nHost: a_b~c%41!$&'()*+,;=\r\n" END,
    "GET / HTTP/1.1\r\nHost: a:\r\n" END,
    "GET / HTTP/1.1\r\nhOST:\t a \t\r\n" END,
    "GET / HTTP/1.1\r\n" HOST "X-Empty:\r\nX-Space: \t \r\n" END,
    "GET / HTTP/1.1\r\n" HOST "X: a\tb \x80\xff ~\r\n" END,
    "GET / HTTP/1.1\r\n" HOST "!#$%&'*+-.^_`|~09AZaz: v\r\n" END,
    "GET / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n" END,
    "GET / HTTP/1.0\r\nExpect: something\r\n" END,
    "POST / HTTP/1.1\r\n" HOST "Content-Length: 00000000000000000005\r\n" END,
    "GET / HTTP/1.1\r\n" HOST "Connection: , ,close,, \r\n" END,
};

static void parser_accepts_what_the_grammar_allows(void **state)
{
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) parse_whole(accepted[i]);
}

#define GET_LINE "GET / HTTP/1.1\r\n"
#define POST_LINE "POST / HTTP/1.1\r\n" HOST

static const struct refusal {
    const char *head;
    enum http_error error;
    unsigned status;
} refused[] = {
    /* the request line */
    {"\n", HTTP_BAD_REQUEST_LINE, 400},
    {" ", HTTP_BAD_REQUEST_LINE, 400},
    {"\r\n\r", HTTP_BAD_REQUEST_LINE, 400},
    {"\rG", HTTP_BAD_REQUEST_LINE, 400},
    {"\x16", HTTP_BAD_REQUEST_LINE, 400}, /* a TLS hello */
    {"G\x01", HTTP_BAD_REQUEST_LINE, 400},
    {"G\xc3", HTTP_BAD_REQUEST_LINE, 400},
    {"GET\t", HTTP_BAD_REQUEST_LINE, 400},
    {"GET\r", HTTP_BAD_REQUEST_LINE, 400},
    {"GET  ", HTTP_BAD_REQUEST_LINE, 400},
    {"GET /\r", HTTP_BAD_REQUEST_LINE, 400}, /* HTTP/0.9 */
    {"GET /\n", HTTP_BAD_REQUEST_LINE, 400},
    {"GET /  ", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/1.1 ", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/1.1\n", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/1.1\rX", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / h", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/1\r", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/11", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/1.12", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/a", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTQ", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / a", HTTP_BAD_REQUEST_LINE, 400},
    {"GET / HTTP/0.9", HTTP_BAD_VERSION, 505},
    {"GET / HTTP/2.0", HTTP_BAD_VERSION, 505},
    {"get ", HTTP_BAD_METHOD, 501},
    {"GETS ", HTTP_BAD_METHOD, 501},
    {"GE ", HTTP_BAD_METHOD, 501},
    {"CONNECT ", HTTP_BAD_METHOD, 501},
    {"TRACE ", HTTP_BAD_METHOD, 501},
    {"PRI ", HTTP_BAD_METHOD, 501},
    {"PROPFIND", HTTP_BAD_METHOD, 501}, /* longer than any that is known: no need to see its end */
    /* the target */
    {"GET a ", HTTP_BAD_TARGET, 400},
    {"GET * ", HTTP_BAD_TARGET, 400},
    {"OPTIONS ** ", HTTP_BAD_TARGET, 400},
    {"GET ?a ", HTTP_BAD_TARGET, 400},
    {"GET chat.example:443 ", HTTP_BAD_TARGET, 400},
    {"GET /a\t", HTTP_BAD_TARGET, 400},
    {"GET /a\x7f", HTTP_BAD_TARGET, 400},
    {"GET /\xc3", HTTP_BAD_TARGET, 400},
    {"GET /a#", HTTP_BAD_TARGET, 400},
    {"GET /% ", HTTP_BAD_TARGET, 400},
    {"GET /%4 ", HTTP_BAD_TARGET, 400},
    {"GET /%4g ", HTTP_BAD_TARGET, 400},
    {"GET /%41%G1?a ", HTTP_BAD_TARGET, 400},
    {"GET /?%zz ", HTTP_BAD_TARGET, 400},
    {"GET /?a%4 ", HTTP_BAD_TARGET, 400},
    {"GET /a\"", HTTP_BAD_TARGET, 400},
    {"GET /<", HTTP_BAD_TARGET, 400},
    {"GET /?>", HTTP_BAD_TARGET, 400},
    {"GET /\\", HTTP_BAD_TARGET, 400},
    {"GET /%4?1 ", HTTP_BAD_TARGET, 400}, /* an escape does not reach into the query */
    {"GET ftp://a/ ", HTTP_BAD_TARGET, 400},
    {"GET http:///a ", HTTP_BAD_TARGET, 400},
    {"GET http:/a ", HTTP_BAD_TARGET, 400},
    {"GET http://user@a/ ", HTTP_BAD_TARGET, 400},
    {"GET http://a:b/ ", HTTP_BAD_TARGET, 400},
    {"GET http://[::1/ ", HTTP_BAD_TARGET, 400},
    /* fields */
    {GET_LINE " ", HTTP_BAD_HEADER, 400},
    {GET_LINE "\t", HTTP_BAD_HEADER, 400},
    {GET_LINE "Host ", HTTP_BAD_HEADER, 400},
    {GET_LINE "Host\r", HTTP_BAD_HEADER, 400},
    {GET_LINE ":", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A(", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A\x80", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: b\r\n ", HTTP_BAD_HEADER, 400}, /* obs-fold */
    {GET_LINE HOST "A: b\r\n\t", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: b\n", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: b\rC", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: b\r\r", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: \x01", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: 0123456789abcdef\x1f", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "A: 0123456789abcde\x7f", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "\n", HTTP_BAD_HEADER, 400},
    {GET_LINE HOST "\rX", HTTP_BAD_HEADER, 400},
    /* Host */
    {GET_LINE END, HTTP_BAD_HOST, 400},
    {GET_LINE "Hosts: a\r\n" END, HTTP_BAD_HOST, 400},
    {GET_LINE HOST HOST, HTTP_BAD_HOST, 400},
    {"GET http://a/ HTTP/1.1\r\n" END, HTTP_BAD_HOST, 400},
    {"GET / HTTP/1.0\r\n" HOST HOST, HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a b\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a/b\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: u@a\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: :80\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a:65536\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a:000080\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a:8x\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: a%4\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: \xc3\xa4\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: ::1\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: []\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: [::1\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: [::1]a\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: [1.2.3.4]\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: [fe80::1%eth0]\r\n", HTTP_BAD_HOST, 400},
    {GET_LINE "Host: [0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]\r\n", HTTP_BAD_HOST, 400},
    /* lengths */
    {POST_LINE "Content-Length: 1\r\nContent-Length: 1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 1\r\nContent-Length: 2\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 1, 1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: +1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: -1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 0x1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 1 1\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length:\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 18446744073709551616\r\n", HTTP_BAD_LENGTH, 400},
    {POST_LINE "Content-Length: 18446744073709551615\r\n" END, HTTP_BODY_TOO_LARGE, 413},
    {POST_LINE "Content-Length: 1048577\r\n" END, HTTP_BODY_TOO_LARGE, 413},
    {POST_LINE "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", HTTP_AMBIGUOUS_LENGTH, 400},
    {POST_LINE "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", HTTP_AMBIGUOUS_LENGTH, 400},
    {POST_LINE "Transfer-Encoding: gzip, chunked\r\n", HTTP_BAD_TRANSFER_CODING, 501},
    {POST_LINE "Transfer-Encoding: chunked, gzip\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: gzip\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: identity\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: xchunked\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: chunked;q=1\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: \"chunked\"\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: chunked, chunked\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Transfer-Encoding: \x0b", HTTP_BAD_HEADER, 400},
    {POST_LINE "Transfer-Encoding:\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", HTTP_BAD_TRANSFER_CODING, 400},
    {POST_LINE "Expect: 200-ok\r\n", HTTP_BAD_EXPECT, 417},
    {POST_LINE "Expect: 100-continue, x\r\n", HTTP_BAD_EXPECT, 417},
    {POST_LINE "Expect:\r\n", HTTP_BAD_EXPECT, 417},
};

/* Each head of the table ends with the byte that makes its fault certain: up to there it is refused, without that byte
 * it is not yet. */
static void parser_refuses_each_fault_as_soon_as_it_is_certain(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refusal *r = &refused[i];
        struct http_request request;
        struct verdict verdict;
        free(parse_exact(&request, &verdict, slice_str(r->head), &limits));
        if (verdict.result != HTTP_ERROR || verdict.error != r->error)
            print_error("%zu: result %d, %s: %s\n", i, verdict.result, http_error_code(verdict.error), r->head);
        assert_int_equal(verdict.result, HTTP_ERROR);
        assert_int_equal(verdict.error, r->error);
        if (http_error_status(verdict.error, &request) != r->status) print_error("%zu: %s\n", i, r->head);
        assert_int_equal(http_error_status(verdict.error, &request), r->status);
        verdict = judge(slice_of(r->head, strlen(r->head) - 1), &limits);
        if (verdict.result != HTTP_NEED_MORE) print_error("%zu, without its last byte: %s\n", i, r->head);
        assert_int_equal(verdict.result, HTTP_NEED_MORE);
    }
}

/* A verdict, once there, is the same for every longer run of the same bytes; before it there is only need for more. */
static void assert_steady(struct slice bytes, const struct http_limits *with)
{
    struct verdict whole = judge(bytes, with), earlier = {HTTP_NEED_MORE, HTTP_OK};
    for (size_t len = 0; len <= bytes.len; len++) {
        struct verdict now = judge(slice_of(bytes.data, len), with);
        if (now.result == HTTP_NEED_MORE) {
            assert_int_equal(earlier.result, HTTP_NEED_MORE);
            assert_int_equal(now.error, HTTP_OK);
            continue;
        }
        assert_int_equal(now.result, whole.result);
        assert_int_equal(now.error, whole.error);
        earlier = now;
    }
}

static void every_prefix_needs_more_or_has_the_verdict_of_the_whole(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char text[512];
        int len = snprintf(text, sizeof text, "%s" HOST END, refused[i].head);
        assert_steady(slice_of(text, (size_t)len), &limits);
    }
    static const struct http_limits tight = {.head_bytes_max = 40, .target_bytes_max = 8, .body_bytes_max = 3};
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        struct slice text = slice_str(accepted[i]);
        assert_steady(text, &limits);
        assert_steady(text, &tight);
        for (size_t len = 0; len < text.len; len++)
            assert_int_equal(judge(slice_of(text.data, len), &limits).result, HTTP_NEED_MORE);
    }
}

/* --- single bytes, against the RFC's own lists ------------------------------------------------------------------ */

static bool alphanumeric(int byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static void every_byte_is_judged_where_it_stands(void **state)
{
    for (int byte = 0; byte < 256; byte++) {
        bool token = alphanumeric(byte) || (byte && strchr("!#$%&'*+-.^_`|~", byte));
        bool value = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
        bool target = alphanumeric(byte) || (byte && strchr("-._~!$&'()*+,;=:@/?[]^`{|}", byte));
        char name[] = "GET / HTTP/1.1\r\nHost: a\r\nX?: v\r\n\r\n";
        *strrchr(name, '?') = (char)byte;
        assert_int_equal(judge(slice_of(name, sizeof name - 1), &limits).result,
                         token || byte == ':' ? HTTP_DONE : HTTP_ERROR);
        /* at every offset of a word of eight bytes, and behind bytes that look like a control byte's neighbours */
        for (size_t at = 0; at < 20; at++) {
            char text[] = "GET / HTTP/1.1\r\nHost: a\r\nX:abc \x80\xff~!\tefghijklmnop\r\n\r\n";
            text[27 + at] = (char)byte;
            assert_int_equal(judge(slice_of(text, sizeof text - 1), &limits).result, value ? HTTP_DONE : HTTP_ERROR);
        }
        char path[] = "GET /?? HTTP/1.1\r\nHost: a\r\n\r\n";
        path[6] = (char)byte;
        assert_int_equal(judge(slice_of(path, sizeof path - 1), &limits).result, target ? HTTP_DONE : HTTP_ERROR);
        char host[] = "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n";
        *strrchr(host, '?') = (char)byte;
        bool reg_name = alphanumeric(byte) || (byte && strchr("-._~!$&'()*+,;=", byte));
        assert_int_equal(judge(slice_of(host, sizeof host - 1), &limits).result, reg_name ? HTTP_DONE : HTTP_ERROR);
    }
}

static void a_nul_is_refused_everywhere(void **state)
{
    static const char text[] = "POST /a HTTP/1.1\r\nHost: a\r\nX-Y: z\r\nContent-Length: 1\r\n\r\n";
    for (size_t at = 0; at < sizeof text - 1; at++) {
        char broken[sizeof text];
        memcpy(broken, text, sizeof text);
        broken[at] = '\0';
        assert_int_equal(judge(slice_of(broken, at + 1), &limits).result, HTTP_ERROR);
    }
}

/* --- what the request says -------------------------------------------------------------------------------------- */

static void the_parts_of_a_request_are_found(void **state)
{
    struct http_request r = parse_whole("PATCH /v1/rooms/a%2Fb?after_seq=7&limit=2 HTTP/1.1\r\n"
                                        "Host: chat.example:8443\r\n"
                                        "X-API-Key:  secret \t\r\n"
                                        "X-Two: 1\r\n"
                                        "x-two:\r\n"
                                        "Content-Length: 12\r\n\r\n");
    assert_int_equal(r.method, HTTP_PATCH);
    assert_int_equal(r.minor_version, 1);
    assert_slice(r.target, "/v1/rooms/a%2Fb?after_seq=7&limit=2");
    assert_slice(r.path, "/v1/rooms/a%2Fb");
    assert_slice(r.query, "after_seq=7&limit=2");
    assert_slice(r.host, "chat.example:8443");
    assert_true(r.has_length);
    assert_int_equal(r.content_length, 12);
    assert_false(r.chunked || r.expect_continue || r.upgrade_websocket);
    assert_true(r.keep_alive);
    assert_int_equal(r.body.len, 0);
    assert_int_equal(r.num_headers, 5);
    assert_slice(r.headers[1].name, "X-API-Key");
    assert_slice(r.headers[1].value, "secret");
    assert_slice(http_header_find(&r, "x-api-KEY"), "secret");
    assert_slice(http_header_find(&r, "X-Two"), "1");
    assert_int_equal(http_header_count(&r, "X-TWO"), 2);
    assert_non_null(http_header_find(&r, "X-Two").data);
    assert_null(http_header_find(&r, "X-Tw").data);
    assert_int_equal(http_header_count(&r, "X-Three"), 0);
}

static void every_method_is_known_by_its_name(void **state)
{
    for (unsigned method = 0; method < HTTP_METHODS; method++) {
        char text[64];
        snprintf(text, sizeof text, "%s / HTTP/1.1\r\n" HOST END, http_method_name(method));
        assert_int_equal(parse_whole(text).method, method);
    }
}

static void a_higher_minor_version_is_read_as_one(void **state)
{
    assert_int_equal(parse_whole("GET / HTTP/1.0\r\n" END).minor_version, 0);
    assert_int_equal(parse_whole("GET / HTTP/1.9\r\n" HOST END).minor_version, 1);
}

static void an_absolute_target_is_reduced_and_its_host_wins(void **state)
{
    struct http_request r = parse_whole("GET http://other.example:81/a/b?c HTTP/1.1\r\n" HOST END);
    assert_slice(r.target, "http://other.example:81/a/b?c");
    assert_slice(r.path, "/a/b");
    assert_slice(r.query, "c");
    assert_slice(r.host, "other.example:81");

    r = parse_whole("GET http://other.example HTTP/1.1\r\n" HOST END);
    assert_slice(r.path, "/");
    assert_slice(r.query, "");
    r = parse_whole("OPTIONS http://other.example HTTP/1.1\r\n" HOST END);
    assert_slice(r.path, "*");
    r = parse_whole("OPTIONS http://other.example?a/b HTTP/1.1\r\n" HOST END);
    assert_slice(r.path, "/");
    assert_slice(r.query, "a/b");
    assert_slice(r.host, "other.example");
}

static void the_asterisk_is_its_own_path(void **state)
{
    assert_slice(parse_whole("OPTIONS * HTTP/1.1\r\n" HOST END).path, "*");
}

static void keep_alive_follows_version_and_all_connection_fields(void **state)
{
    static const struct {
        const char *head;
        bool keep_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST END, true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive, Close\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\nConnection: keep-alive\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nConnection: x ,\tCLOSE\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n" END, true},
        {"GET / HTTP/1.0\r\n" END, false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" END, true},
        {"GET / HTTP/1.0\r\nConnection: x\r\nConnection: y,keep-alive\r\n" END, true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n" END, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (parse_whole(cases[i].head).keep_alive != cases[i].keep_alive) fail_msg("%s", cases[i].head);
}

static void a_websocket_upgrade_needs_both_fields_and_http_1_1(void **state)
{
    static const struct {
        const char *head;
        bool upgrade;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n" END, true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n" END, true},
        {"GET / HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: x\r\nConnection: upgrade\r\n" END,
         true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nUpgrade: websocket\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websockets\r\n" END, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n" END, false},
        {"GET / HTTP/1.0\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n" END, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (parse_whole(cases[i].head).upgrade_websocket != cases[i].upgrade) fail_msg("%s", cases[i].head);
}

static void expect_continue_is_for_http_1_1_only(void **state)
{
    assert_true(
        parse_whole("POST / HTTP/1.1\r\n" HOST "Expect: 100-CONTINUE\r\nContent-Length: 1\r\n" END).expect_continue);
    assert_false(parse_whole("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n" END).expect_continue);
}

static void pipelined_heads_are_parsed_one_after_another(void **state)
{
    struct slice bytes = SLICE("GET /1 HTTP/1.1\r\n" HOST END "\r\nHEAD /2 HTTP/1.1\r\n" HOST END "GET /3 HT");
    struct http_request request;
    struct verdict verdict;
    static const char *const paths[] = {"/1", "/2"};
    for (size_t i = 0; i < 2; i++) {
        char *copy = parse_exact(&request, &verdict, bytes, &limits);
        assert_int_equal(verdict.result, HTTP_DONE);
        assert_slice(request.path, paths[i]);
        free(copy);
        bytes = slice_from(bytes, request.head_len);
    }
    assert_int_equal(judge(bytes, &limits).result, HTTP_NEED_MORE);
    assert_slice(bytes, "GET /3 HT");
}

/* --- bounds ----------------------------------------------------------------------------------------------------- */

static void a_head_may_be_as_long_as_its_bound_and_no_longer(void **state)
{
    struct slice head = SLICE("GET / HTTP/1.1\r\n" HOST END);
    struct http_limits exact = limits;
    exact.head_bytes_max = head.len;
    assert_int_equal(judge(head, &exact).result, HTTP_DONE);
    exact.head_bytes_max = head.len - 1;
    struct verdict verdict = judge(head, &exact);
    assert_int_equal(verdict.result, HTTP_ERROR);
    assert_int_equal(verdict.error, HTTP_HEADERS_TOO_LARGE);
    /* at the bound without an end it is certain; one byte earlier the end may still come */
    assert_int_equal(judge(slice_of(head.data, head.len - 1), &exact).error, HTTP_HEADERS_TOO_LARGE);
    assert_int_equal(judge(slice_of(head.data, head.len - 2), &exact).result, HTTP_NEED_MORE);
    assert_int_equal(http_error_status(HTTP_HEADERS_TOO_LARGE, NULL), 431);
}

static void a_target_may_be_as_long_as_its_bound_and_no_longer(void **state)
{
    struct http_limits exact = limits;
    exact.target_bytes_max = 5;
    assert_int_equal(judge(SLICE("GET /abcd HTTP/1.1\r\n" HOST END), &exact).result, HTTP_DONE);
    assert_int_equal(judge(SLICE("GET /abcd"), &exact).result, HTTP_NEED_MORE);
    struct verdict verdict = judge(SLICE("GET /abcde"), &exact);
    assert_int_equal(verdict.result, HTTP_ERROR);
    assert_int_equal(verdict.error, HTTP_TARGET_TOO_LONG);
}

static void fields_may_be_as_many_as_their_bound_and_no_more(void **state)
{
    for (unsigned extra = 0; extra < 2; extra++) {
        struct buf text = {0};
        BUF_LIT(&text, "GET / HTTP/1.1\r\n" HOST);
        for (unsigned i = 1; i < HTTP_HEADERS_MAX + extra; i++) buf_printf(&text, "X-%u: %u\r\n", i, i);
        BUF_LIT(&text, "\r\n");
        struct http_request request;
        struct verdict verdict;
        free(parse_exact(&request, &verdict, buf_slice(&text), &limits));
        assert_int_equal(verdict.result, extra ? HTTP_ERROR : HTTP_DONE);
        assert_int_equal(verdict.error, extra ? HTTP_HEADERS_TOO_LARGE : HTTP_OK);
        assert_int_equal(request.num_headers, HTTP_HEADERS_MAX);
        buf_free(&text);
    }
}

/* --- bodies ------------------------------------------------------------------------------------------------------ */

struct body_outcome {
    struct verdict verdict;
    size_t consumed;
    struct buf out;
};

/* read_body feeds `bytes` in pieces of at most `step` bytes, each an exact heap copy, until a verdict or their end. */
static struct body_outcome read_body(const struct http_request *request, struct slice bytes, size_t step,
                                     const struct http_limits *with)
{
    struct body_outcome outcome = {.verdict = {HTTP_NEED_MORE, HTTP_OK}};
    struct http_body body;
    memset(&body, 0xa5, sizeof body);
    http_body_init(&body, request);
    do {
        size_t len = bytes.len - outcome.consumed < step ? bytes.len - outcome.consumed : step;
        char *piece = malloc(len ? len : 1);
        assert_non_null(piece);
        if (len) memcpy(piece, bytes.data + outcome.consumed, len);
        size_t consumed = SIZE_MAX;
        outcome.verdict.result =
            http_body_feed(&body, &outcome.out, &consumed, &outcome.verdict.error, slice_of(piece, len), with);
        free(piece);
        assert_true(consumed <= len);
        if (outcome.verdict.result == HTTP_NEED_MORE) assert_int_equal(consumed, len);
        outcome.consumed += consumed;
    } while (outcome.verdict.result == HTTP_NEED_MORE && outcome.consumed < bytes.len);
    return outcome;
}

static const struct http_request chunked_request = {.chunked = true};

/* assert_body reads a chunked body in one piece and in pieces of every other size. */
static void assert_body(struct slice bytes, enum http_error error, size_t consumed, const char *content)
{
    for (size_t step = 1; step <= bytes.len; step++) {
        struct body_outcome outcome = read_body(&chunked_request, bytes, step, &limits);
        bool as_expected = outcome.verdict.error == error && outcome.consumed == consumed &&
                           outcome.verdict.result == (error ? HTTP_ERROR : HTTP_DONE) &&
                           slice_is(buf_slice(&outcome.out), content);
        if (!as_expected)
            fail_msg("in steps of %zu: result %d %s after %zu bytes, content \"%.*s\": %.*s", step,
                     outcome.verdict.result, http_error_code(outcome.verdict.error), outcome.consumed,
                     SLICE_FMT(buf_slice(&outcome.out)), SLICE_FMT(bytes));
        buf_free(&outcome.out);
    }
}

static void a_body_of_known_length_ends_with_its_last_byte(void **state)
{
    struct http_request request = {.has_length = true, .content_length = 5};
    for (size_t step = 1; step <= 8; step++) {
        struct body_outcome outcome = read_body(&request, SLICE("helloGET"), step, &limits);
        assert_int_equal(outcome.verdict.result, HTTP_DONE);
        assert_int_equal(outcome.consumed, 5);
        assert_slice(buf_slice(&outcome.out), "hello");
        buf_free(&outcome.out);
        outcome = read_body(&request, SLICE("hell"), step, &limits);
        assert_int_equal(outcome.verdict.result, HTTP_NEED_MORE);
        buf_free(&outcome.out);
    }
}

static void an_absent_or_empty_body_is_done_at_once(void **state)
{
    struct http_request none = {0}, empty = {.has_length = true};
    for (int i = 0; i < 2; i++) {
        struct body_outcome outcome = read_body(i ? &none : &empty, SLICE("GET"), 3, &limits);
        assert_int_equal(outcome.verdict.result, HTTP_DONE);
        assert_int_equal(outcome.consumed, 0);
        assert_int_equal(outcome.out.len, 0);
        outcome = read_body(i ? &none : &empty, (struct slice){0}, 1, &limits);
        assert_int_equal(outcome.verdict.result, HTTP_DONE);
    }
}

static void a_finished_body_stays_finished(void **state)
{
    struct http_body body;
    struct buf out = {0};
    size_t consumed = 0;
    enum http_error error;
    http_body_init(&body, &chunked_request);
    assert_int_equal(http_body_feed(&body, &out, &consumed, &error, SLICE("0\r\n\r\n"), &limits), HTTP_DONE);
    assert_int_equal(http_body_feed(&body, &out, &consumed, &error, SLICE("1\r\nx"), &limits), HTTP_DONE);
    assert_int_equal(consumed, 0);
    assert_int_equal(out.len, 0);
}

/* BYTES initializes a slice with a literal, which may have NULs inside. */
#define BYTES(literal) \
    { \
        literal, sizeof(literal) - 1 \
    }

static void chunked_bodies_are_read_whatever_their_split(void **state)
{
    static const struct {
        struct slice bytes;
        size_t consumed;
        const char *content;
    } cases[] = {
        {BYTES("0\r\n\r\n"), 5, ""},
        {BYTES("5\r\nhello\r\n0\r\n\r\nGET"), 15, "hello"},
        {BYTES("1\r\nh\r\n004\r\nello\r\n000\r\n\r\n"), 24, "hello"},
        {BYTES("A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n"), 35, "0123456789abcdefghij"},
        {BYTES("2\r\n\r\n\r\n0\r\n\r\n"), 12, "\r\n"},
        {BYTES("0000000000000001\r\nx\r\n0\r\n\r\n"), 26, "x"},
        {BYTES("1;a\r\nx\r\n0;b=\"c;d\"\t ;e\r\n\r\n"), 25, "x"},
        {BYTES("1 \t;a = b\r\nx\r\n0\r\n\r\n"), 19, "x"},
        {BYTES("0\r\nA: b\r\nC:\t\x80\r\n\r\n0"), 17, ""},
        {BYTES("1\r\nx\r\n0\r\nContent-Length: 5\r\nE:\r\n\r\n"), 34, "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_body(cases[i].bytes, HTTP_OK, cases[i].consumed, cases[i].content);
        for (size_t len = 0; len < cases[i].consumed; len++) { /* and nothing shorter is whole */
            struct body_outcome outcome = read_body(&chunked_request, slice_of(cases[i].bytes.data, len), 3, &limits);
            assert_int_equal(outcome.verdict.result, HTTP_NEED_MORE);
            buf_free(&outcome.out);
        }
    }
}

/* Each body ends with the byte that makes its fault certain. */
static void broken_chunks_are_refused_at_the_byte_that_breaks_them(void **state)
{
    static const struct {
        struct slice bytes;
        enum http_error error;
        const char *content;
    } cases[] = {
        {BYTES("\r"), HTTP_BAD_CHUNK, ""},
        {BYTES(";"), HTTP_BAD_CHUNK, ""},
        {BYTES(" "), HTTP_BAD_CHUNK, ""},
        {BYTES("g"), HTTP_BAD_CHUNK, ""},
        {BYTES("-"), HTTP_BAD_CHUNK, ""},
        {BYTES("\0"), HTTP_BAD_CHUNK, ""},
        {BYTES("0x"), HTTP_BAD_CHUNK, ""},
        {BYTES("1\n"), HTTP_BAD_CHUNK, ""},
        {BYTES("1\rx"), HTTP_BAD_CHUNK, ""},
        {BYTES("1\r\r"), HTTP_BAD_CHUNK, ""},
        {BYTES("1 \r"), HTTP_BAD_CHUNK, ""},
        {BYTES("1 1"), HTTP_BAD_CHUNK, ""},
        {BYTES("1\t\n"), HTTP_BAD_CHUNK, ""},
        {BYTES("1;a\n"), HTTP_BAD_CHUNK, ""},
        {BYTES("1;a\rb"), HTTP_BAD_CHUNK, ""},
        {BYTES("1;\0"), HTTP_BAD_CHUNK, ""},
        {BYTES("1;\x7f"), HTTP_BAD_CHUNK, ""},
        {BYTES("1\r\nxy"), HTTP_BAD_CHUNK, "x"},
        {BYTES("1\r\nx\n"), HTTP_BAD_CHUNK, "x"},
        {BYTES("1\r\nx\r0"), HTTP_BAD_CHUNK, "x"},
        {BYTES("1\r\nx\r\n\r"), HTTP_BAD_CHUNK, "x"},
        {BYTES("00000000000000000"), HTTP_BAD_CHUNK, ""},
        {BYTES("0\r\n\n"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\n "), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\n:"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\n\r\r"), HTTP_BAD_CHUNK, ""},
        {BYTES("0\r\nA "), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\nA\r"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\nA:b\n"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\nA:\0"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\nA:b\rc"), HTTP_BAD_HEADER, ""},
        {BYTES("0\r\nA:b\r\n "), HTTP_BAD_HEADER, ""},
        {BYTES("ffffff"), HTTP_BODY_TOO_LARGE, ""},
        {BYTES("100001"), HTTP_BODY_TOO_LARGE, ""},
        {BYTES("1\r\nx\r\n100000"), HTTP_BODY_TOO_LARGE, "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_body(cases[i].bytes, cases[i].error, cases[i].bytes.len, cases[i].content);
}

static void a_body_may_be_as_large_as_its_bound_and_no_larger(void **state)
{
    struct http_limits exact = limits;
    exact.body_bytes_max = 4;
    struct body_outcome outcome = read_body(&chunked_request, SLICE("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), 99, &exact);
    assert_int_equal(outcome.verdict.result, HTTP_DONE);
    assert_slice(buf_slice(&outcome.out), "abcd");
    buf_free(&outcome.out);
    outcome = read_body(&chunked_request, SLICE("3\r\nabc\r\n2"), 99, &exact);
    assert_int_equal(outcome.verdict.error, HTTP_BODY_TOO_LARGE);
    buf_free(&outcome.out);

    struct http_request four = {.has_length = true, .content_length = 4};
    assert_int_equal(read_body(&four, (struct slice){0}, 1, &exact).verdict.result, HTTP_NEED_MORE);
    struct http_request five = {.has_length = true, .content_length = 5};
    assert_int_equal(read_body(&five, (struct slice){0}, 1, &exact).verdict.error, HTTP_BODY_TOO_LARGE);
    assert_int_equal(judge(SLICE("POST / HTTP/1.1\r\n" HOST "Content-Length: 4\r\n" END), &exact).result, HTTP_DONE);
    assert_int_equal(judge(SLICE("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END), &exact).error,
                     HTTP_BODY_TOO_LARGE);
}

static void extensions_of_all_chunks_together_are_bounded(void **state)
{
    for (unsigned extra = 0; extra < 2; extra++) {
        struct buf text = {0};
        for (unsigned i = 0; i < HTTP_CHUNK_EXTENSION_BYTES_MAX / 4; i++) BUF_LIT(&text, "1;a=b\r\nx\r\n");
        BUF_LIT(&text, "0");
        if (extra) BUF_LIT(&text, ";");
        BUF_LIT(&text, "\r\n\r\n");
        struct body_outcome outcome = read_body(&chunked_request, buf_slice(&text), 100, &limits);
        assert_int_equal(outcome.verdict.result, extra ? HTTP_ERROR : HTTP_DONE);
        assert_int_equal(outcome.verdict.error, extra ? HTTP_BAD_CHUNK : HTTP_OK);
        assert_int_equal(outcome.out.len, HTTP_CHUNK_EXTENSION_BYTES_MAX / 4);
        buf_free(&outcome.out);
        buf_free(&text);
    }
}

static void the_trailer_section_is_bounded(void **state)
{
    for (unsigned extra = 0; extra < 2; extra++) {
        struct buf text = {0};
        BUF_LIT(&text, "0\r\n");
        for (unsigned i = 0; i < HTTP_TRAILER_BYTES_MAX / 8 - 1; i++) BUF_LIT(&text, "ABCD:e\r\n");
        BUF_LIT(&text, "ABCD:");
        if (extra) BUF_LIT(&text, "e");
        BUF_LIT(&text, "\r\n\r\n");
        struct body_outcome outcome = read_body(&chunked_request, buf_slice(&text), 100, &limits);
        assert_int_equal(outcome.verdict.result, extra ? HTTP_ERROR : HTTP_DONE);
        assert_int_equal(outcome.verdict.error, extra ? HTTP_HEADERS_TOO_LARGE : HTTP_OK);
        buf_free(&text);
    }
}

/* --- queries, escapes, names ------------------------------------------------------------------------------------- */

static void query_values_are_found_and_decoded(void **state)
{
    static const struct {
        const char *query, *name;
        int found;
        const char *value;
    } cases[] = {
        {"a=b&c=d", "a", 1, "b"},
        {"a=b&c=d", "c", 1, "d"},
        {"a=b&c=d", "b", 0, ""},
        {"ab=1&a=2", "a", 1, "2"},
        {"ba=1", "a", 0, ""},
        {"a=1&a=2", "a", 1, "1"},
        {"a", "a", 1, ""},
        {"a=", "a", 1, ""},
        {"b&a&c", "a", 1, ""},
        {"&&a=1&", "a", 1, "1"},
        {"", "a", 0, ""},
        {"a=b=c", "a", 1, "b=c"},
        {"a=x%20y+z%2B", "a", 1, "x y z+"},
        {"a=%e2%82%AC", "a", 1, "\xe2\x82\xac"},
        {"a=%", "a", -1, ""},
        {"a=%4&b", "a", -1, ""},
        {"a=%4g", "a", -1, ""},
        {"a=x%00", "a", -1, ""},
        {"a=%zz&b=1", "b", 1, "1"},
        {"a=12345678", "a", 1, "12345678"},
        {"a=123456789", "a", -1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[8];
        size_t out_len = 0;
        struct slice query = slice_str(cases[i].query);
        int found = http_query_find(query, cases[i].name, out, sizeof out, &out_len);
        if (found != cases[i].found) fail_msg("%s in %s: %d", cases[i].name, cases[i].query, found);
        if (found == 1) assert_slice(slice_of(out, out_len), cases[i].value);
    }
    size_t out_len;
    assert_int_equal(http_query_find((struct slice){0}, "a", NULL, 0, &out_len), 0);
}

static void path_segments_are_decoded_without_plus_signs(void **state)
{
    char out[8];
    size_t out_len = 0;
    assert_true(http_percent_decode(SLICE("a+%2F%7e"), out, sizeof out, &out_len));
    assert_slice(slice_of(out, out_len), "a+/~");
    assert_true(http_percent_decode((struct slice){0}, out, sizeof out, &out_len));
    assert_int_equal(out_len, 0);
    assert_true(http_percent_decode(SLICE("12345678"), out, sizeof out, &out_len));
    assert_false(http_percent_decode(SLICE("123456789"), out, sizeof out, &out_len));
    assert_false(http_percent_decode(SLICE("%00"), out, sizeof out, &out_len));
    assert_false(http_percent_decode(slice_of("a\0", 2), out, sizeof out, &out_len));
    assert_false(http_percent_decode(SLICE("%"), out, sizeof out, &out_len));
    assert_false(http_percent_decode(SLICE("%a"), out, sizeof out, &out_len));
    assert_false(http_percent_decode(SLICE("%:0"), out, sizeof out, &out_len));
    char in_place[] = "%41b%43";
    assert_true(http_percent_decode(slice_str(in_place), in_place, sizeof in_place, &out_len));
    assert_slice(slice_of(in_place, out_len), "AbC");
}

static void every_error_has_a_status_a_code_and_a_sentence(void **state)
{
    for (unsigned error = HTTP_OK + 1; error < HTTP_ERRORS; error++) {
        unsigned status = http_error_status(error, NULL);
        assert_true(status >= 400 && status <= 505);
        assert_string_not_equal(http_reason(status), "");
        assert_memory_equal(http_error_code(error), "http.", 5);
        assert_string_not_equal(http_error_detail(error), "");
        for (unsigned other = HTTP_OK + 1; other < error; other++)
            assert_string_not_equal(http_error_code(error), http_error_code(other));
    }
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(507), "Insufficient Storage");
    assert_string_equal(http_reason(418), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parser_accepts_what_the_grammar_allows),
        cmocka_unit_test(parser_refuses_each_fault_as_soon_as_it_is_certain),
        cmocka_unit_test(every_prefix_needs_more_or_has_the_verdict_of_the_whole),
        cmocka_unit_test(every_byte_is_judged_where_it_stands),
        cmocka_unit_test(a_nul_is_refused_everywhere),
        cmocka_unit_test(the_parts_of_a_request_are_found),
        cmocka_unit_test(every_method_is_known_by_its_name),
        cmocka_unit_test(a_higher_minor_version_is_read_as_one),
        cmocka_unit_test(an_absolute_target_is_reduced_and_its_host_wins),
        cmocka_unit_test(the_asterisk_is_its_own_path),
        cmocka_unit_test(keep_alive_follows_version_and_all_connection_fields),
        cmocka_unit_test(a_websocket_upgrade_needs_both_fields_and_http_1_1),
        cmocka_unit_test(expect_continue_is_for_http_1_1_only),
        cmocka_unit_test(pipelined_heads_are_parsed_one_after_another),
        cmocka_unit_test(a_head_may_be_as_long_as_its_bound_and_no_longer),
        cmocka_unit_test(a_target_may_be_as_long_as_its_bound_and_no_longer),
        cmocka_unit_test(fields_may_be_as_many_as_their_bound_and_no_more),
        cmocka_unit_test(a_body_of_known_length_ends_with_its_last_byte),
        cmocka_unit_test(an_absent_or_empty_body_is_done_at_once),
        cmocka_unit_test(a_finished_body_stays_finished),
        cmocka_unit_test(chunked_bodies_are_read_whatever_their_split),
        cmocka_unit_test(broken_chunks_are_refused_at_the_byte_that_breaks_them),
        cmocka_unit_test(a_body_may_be_as_large_as_its_bound_and_no_larger),
        cmocka_unit_test(extensions_of_all_chunks_together_are_bounded),
        cmocka_unit_test(the_trailer_section_is_bounded),
        cmocka_unit_test(query_values_are_found_and_decoded),
        cmocka_unit_test(path_segments_are_decoded_without_plus_signs),
        cmocka_unit_test(every_error_has_a_status_a_code_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
