/* Fuzzes the HTTP request parser and body reader with one connection's bytes: pipelined heads and bodies. Beside memory
 * errors it holds what the headers promise:
 * - a prefix of a head needs more or has the verdict of the whole;
 * - what is accepted keeps to the grammar's outlines: its slices lie in the head, one Host, one length;
 * - a body read in one piece and byte by byte gives the same verdict, consumes the same and yields the same. */
#include <stdlib.h>

#include "../net/http.h"
#include "../src/base/assert.h"
#include "../src/base/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_connection(struct slice bytes, const struct http_limits *limits);
static void check_prefixes(struct slice bytes, const struct http_limits *limits, enum http_result result,
                           enum http_error error, size_t head_len);
static void check_request(const struct http_request *request, struct slice bytes, const struct http_limits *limits);
static size_t check_body(const struct http_request *request, struct slice bytes, const struct http_limits *limits);
static void check_escapes(struct slice text);

static const struct http_limits all_limits[] = {
    {HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX, HTTP_BODY_BYTES_MAX},
    {160, 24, 12}, /* tight enough for the fuzzer to reach each bound */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = slice_of(data, size);
    for (size_t i = 0; i < sizeof all_limits / sizeof all_limits[0]; i++) {
        check_connection(bytes, &all_limits[i]);
        check_body(&(struct http_request){.chunked = true}, bytes, &all_limits[i]);
    }
    check_escapes(bytes);
    return 0;
}

/* exact_copy returns a heap copy without a byte to spare, so that the address sanitizer sees a read past the end. */
static struct slice exact_copy(struct slice bytes)
{
    char *copy = malloc(bytes.len ? bytes.len : 1);
    ASSERT(copy != NULL);
    if (bytes.len) memcpy(copy, bytes.data, bytes.len);
    return slice_of(copy, bytes.len);
}

static void check_connection(struct slice bytes, const struct http_limits *limits)
{
    for (size_t at = 0; at < bytes.len;) {
        struct slice rest = exact_copy(slice_from(bytes, at));
        struct http_request request;
        enum http_error error = HTTP_ERRORS;
        enum http_result result = http_parse_head(&request, &error, rest, limits);
        check_prefixes(rest, limits, result, error, request.head_len);
        size_t taken = 0;
        if (result == HTTP_DONE) {
            check_request(&request, rest, limits);
            taken = check_body(&request, slice_from(rest, request.head_len), limits);
            at += request.head_len + taken;
        }
        free((char *)rest.data);
        if (taken == SIZE_MAX || result != HTTP_DONE) return;
    }
}

static void check_prefixes(struct slice bytes, const struct http_limits *limits, enum http_result result,
                           enum http_error error, size_t head_len)
{
    ASSERT((result == HTTP_ERROR) == (error != HTTP_OK) && error < HTTP_ERRORS);
    size_t step = 1 + bytes.len / 128; /* every prefix of a short input, a sample of a long one's */
    bool decided = false;
    for (size_t len = 0; len < bytes.len; len += step) {
        struct slice prefix = exact_copy(slice_of(bytes.data, len));
        struct http_request request;
        enum http_error prefix_error = HTTP_ERRORS;
        enum http_result prefix_result = http_parse_head(&request, &prefix_error, prefix, limits);
        free((char *)prefix.data);
        if (prefix_result == HTTP_NEED_MORE) {
            ASSERT(!decided && prefix_error == HTTP_OK);
            ASSERT(result != HTTP_DONE || len < head_len);
            continue;
        }
        decided = true;
        ASSERT(prefix_result == result && prefix_error == error && request.head_len == head_len);
    }
}

static bool inside(struct slice part, struct slice whole)
{
    return part.len == 0 || (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static void check_request(const struct http_request *request, struct slice bytes, const struct http_limits *limits)
{
    struct slice head = slice_of(bytes.data, request->head_len);
    ASSERT(head.len <= bytes.len && head.len <= limits->head_bytes_max && head.len >= 4);
    ASSERT(memcmp(head.data + head.len - 4, "\r\n\r\n", 4) == 0);
    ASSERT(memchr(head.data, '\0', head.len) == NULL);
    ASSERT(request->method < HTTP_METHODS && request->minor_version <= 1);
    ASSERT(request->target.len > 0 && request->target.len <= limits->target_bytes_max);
    ASSERT(inside(request->target, head) && inside(request->query, request->target) && inside(request->host, head));
    ASSERT(request->path.data[0] == '/' || slice_is(request->path, "*"));
    ASSERT(inside(request->path, request->target) || request->path.len == 1);
    ASSERT(memchr(request->path.data, '?', request->path.len) == NULL);
    ASSERT(request->num_headers <= HTTP_HEADERS_MAX);
    for (unsigned i = 0; i < request->num_headers; i++) {
        const struct http_header *header = &request->headers[i];
        ASSERT(header->name.len > 0 && inside(header->name, head) && inside(header->value, head));
        ASSERT(header->value.len == 0 || memchr(" \t", header->value.data[0], 2) == NULL);
        ASSERT(header->value.len == 0 || memchr(" \t", header->value.data[header->value.len - 1], 2) == NULL);
    }
    unsigned num_hosts = http_header_count(request, "host");
    ASSERT(num_hosts <= 1 && num_hosts >= request->minor_version);
    unsigned num_lengths = http_header_count(request, "content-length");
    unsigned num_codings = http_header_count(request, "transfer-encoding");
    ASSERT(num_lengths + num_codings <= 1);
    ASSERT(request->has_length == (num_lengths == 1) && request->chunked == (num_codings == 1));
    ASSERT(request->content_length <= limits->body_bytes_max && (request->has_length || !request->content_length));
    ASSERT(!request->upgrade_websocket || (request->minor_version == 1 && http_header_count(request, "upgrade")));
    check_escapes(request->path);
}

struct outcome {
    enum http_result result;
    enum http_error error;
    size_t consumed;
    struct buf out;
};

static struct outcome read_body(const struct http_request *request, struct slice bytes, size_t step,
                                const struct http_limits *limits)
{
    struct outcome outcome = {0};
    struct http_body body;
    http_body_init(&body, request);
    do {
        size_t left = bytes.len - outcome.consumed, consumed = SIZE_MAX;
        struct slice piece = exact_copy(slice_of(bytes.data + outcome.consumed, left < step ? left : step));
        outcome.result = http_body_feed(&body, &outcome.out, &consumed, &outcome.error, piece, limits);
        ASSERT(consumed <= piece.len && (outcome.result != HTTP_NEED_MORE || consumed == piece.len));
        outcome.consumed += consumed;
        free((char *)piece.data);
    } while (outcome.result == HTTP_NEED_MORE && outcome.consumed < bytes.len);
    ASSERT((outcome.result == HTTP_ERROR) == (outcome.error != HTTP_OK));
    ASSERT(outcome.out.len <= limits->body_bytes_max && outcome.out.len <= outcome.consumed);
    return outcome;
}

/* check_body returns the bytes of a whole body, SIZE_MAX when it is not whole. */
static size_t check_body(const struct http_request *request, struct slice bytes, const struct http_limits *limits)
{
    struct outcome whole = read_body(request, bytes, SIZE_MAX, limits), bytewise = read_body(request, bytes, 1, limits);
    ASSERT(whole.result == bytewise.result && whole.error == bytewise.error && whole.consumed == bytewise.consumed);
    ASSERT(slice_eq(buf_slice(&whole.out), buf_slice(&bytewise.out)));
    if (whole.result == HTTP_DONE && !request->chunked) ASSERT(whole.consumed == request->content_length);
    buf_free(&whole.out);
    buf_free(&bytewise.out);
    return whole.result == HTTP_DONE ? whole.consumed : SIZE_MAX;
}

/* Decoding never makes text longer, never yields a NUL, and fills a buffer of just the right size. */
static void check_escapes(struct slice text)
{
    size_t len = 0, exact_len = 0;
    struct slice in = exact_copy(text);
    char *out = malloc(text.len + 1);
    ASSERT(out != NULL);
    if (http_percent_decode(in, out, text.len, &len)) {
        ASSERT(len <= text.len && memchr(out, '\0', len) == NULL);
        ASSERT(http_percent_decode(in, out, len, &exact_len) && exact_len == len);
        ASSERT(len == 0 || !http_percent_decode(in, out, len - 1, &exact_len));
    }
    if (http_query_find(in, "a", out, text.len, &len) == 1) ASSERT(len <= text.len);
    free(out);
    free((char *)in.data);
}
