#define _GNU_SOURCE /* memmem, strerrordesc_np (glibc 2.32) */
#include "http_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum status fail(struct http_client *c, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum status send_all(struct http_client *c, struct slice bytes);
static enum status receive_more(struct http_client *c, struct buf *into, bool *ended);
static enum status read_head(struct http_client *c, struct http_answer *answer, size_t *head_len);
static enum status read_body(struct http_client *c, struct http_answer *answer, const char *method);

void http_client_init(struct http_client *c, const struct endpoint *endpoint, unsigned timeout_ms)
{
    *c = (struct http_client){.endpoint = *endpoint, .timeout_ms = timeout_ms, ._fd = -1};
}

void http_client_close(struct http_client *c)
{
    if (c->_fd >= 0) close(c->_fd);
    c->_fd = -1;
    buf_free(&c->_in);
    buf_free(&c->_body);
}

enum status http_client_request(struct http_client *c, struct http_answer *answer, const char *method,
                                const char *target, struct slice fields, struct slice body)
{
    const char *why;
    c->_in.len = c->_body.len = 0;
    if (c->_fd < 0) c->_fd = endpoint_connect(&c->endpoint, c->timeout_ms, &why);
    if (c->_fd < 0) return fail(c, STATUS_IO, "%s", why);

    char authority[ENDPOINT_HOST_BYTES_MAX + 16];
    endpoint_authority(&c->endpoint, authority, sizeof authority);
    struct buf request = {0};
    buf_printf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, authority);
    buf_slice_append(&request, fields);
    if (body.data) buf_printf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    BUF_LIT(&request, "\r\n");
    buf_slice_append(&request, body);
    enum status status = send_all(c, buf_slice(&request));
    buf_free(&request);

    size_t head_len = 0;
    do { /* interim answers (RFC 9110 15.2) precede the real one */
        if (status == STATUS_OK && head_len) buf_consume(&c->_in, head_len);
        if (status == STATUS_OK) status = read_head(c, answer, &head_len);
    } while (status == STATUS_OK && answer->status < 200);
    if (status == STATUS_OK) status = read_body(c, answer, method);
    return status;
}

bool http_status_line(struct slice head, unsigned *status)
{
    uint64_t code;
    if (head.len < 13 || !slice_starts(head, SLICE("HTTP/1.")) || (head.data[7] != '0' && head.data[7] != '1') ||
        head.data[8] != ' ' || !slice_u64(slice_of(head.data + 9, 3), &code))
        return false;
    *status = (unsigned)code;
    return code >= 100 && code <= 599 && (head.data[12] == ' ' || head.data[12] == '\r');
}

struct slice http_answer_field(const struct http_answer *answer, const char *name)
{
    struct slice rest = answer->fields;
    while (rest.len) {
        const char *end = memchr(rest.data, '\r', rest.len);
        size_t line_len = end ? (size_t)(end - rest.data) : rest.len;
        const char *colon = memchr(rest.data, ':', line_len);
        if (colon && slice_eq_nocase(slice_of(rest.data, (size_t)(colon - rest.data)), slice_str(name))) {
            struct slice value = slice_of(colon + 1, line_len - (size_t)(colon + 1 - rest.data));
            while (value.len && (*value.data == ' ' || *value.data == '\t')) value = slice_from(value, 1);
            while (value.len && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t')) value.len--;
            return value;
        }
        rest = slice_from(rest, line_len + 2);
    }
    return (struct slice){0};
}

/* fail notes why and drops the connection: after a failure nobody knows where in the stream it stands. */
static enum status fail(struct http_client *c, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    if (c->_fd >= 0) close(c->_fd);
    c->_fd = -1;
    return status;
}

static enum status send_all(struct http_client *c, struct slice bytes)
{
    while (bytes.len) {
        ssize_t n = send(c->_fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(c, STATUS_IO, "sending failed: %s", strerrordesc_np(errno));
        bytes = slice_from(bytes, (size_t)n);
    }
    return STATUS_OK;
}

/* receive_more appends what the socket has; *ended is set at the end of the stream. */
static enum status receive_more(struct http_client *c, struct buf *into, bool *ended)
{
    buf_reserve(into, 16384);
    ssize_t n;
    do n = recv(c->_fd, into->data + into->len, 16384, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return fail(c, STATUS_IO, "no answer within %u ms", c->timeout_ms);
    if (n < 0) return fail(c, STATUS_IO, "receiving failed: %s", strerrordesc_np(errno));
    *ended = n == 0;
    into->len += (size_t)n;
    return STATUS_OK;
}

static enum status read_head(struct http_client *c, struct http_answer *answer, size_t *head_len)
{
    const char *end = NULL;
    while (!(end = c->_in.len ? memmem(c->_in.data, c->_in.len, "\r\n\r\n", 4) : NULL)) {
        bool ended = false;
        if (c->_in.len > HTTP_CLIENT_HEAD_BYTES_MAX) return fail(c, STATUS_INVALID, "the answer's head is too long");
        enum status status = receive_more(c, &c->_in, &ended);
        if (status != STATUS_OK) return status;
        if (ended) return fail(c, STATUS_IO, "the server closed the connection before it answered");
    }
    *head_len = (size_t)(end - c->_in.data) + 4;
    const char *line_end = memchr(c->_in.data, '\r', *head_len);
    if (!http_status_line(slice_of(c->_in.data, *head_len), &answer->status))
        return fail(c, STATUS_INVALID, "the answer is not HTTP/1.1");
    answer->fields = slice_of(line_end + 2, *head_len - 2 - (size_t)(line_end + 2 - c->_in.data));
    return STATUS_OK;
}

/* chunked_take moves whole chunks from `in` to `body` (RFC 9112 7.1); *done after the trailer section. */
static bool chunked_take(struct buf *in, size_t *at, struct buf *body, bool *done)
{
    for (;;) {
        struct slice rest = slice_of(in->data + *at, in->len - *at);
        const char *line_end = rest.len ? memmem(rest.data, rest.len, "\r\n", 2) : NULL;
        if (!line_end) return rest.len < 1024;
        uint64_t size = 0;
        size_t digits = 0;
        for (; rest.data + digits < line_end && rest.data[digits] != ';'; digits++) {
            char digit = rest.data[digits];
            if (digits >= 8) return false;
            if (digit >= '0' && digit <= '9')
                size = size * 16 + (uint64_t)(digit - '0');
            else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
                size = size * 16 + (uint64_t)((digit | 0x20) - 'a' + 10);
            else
                return false;
        }
        if (digits == 0 || body->len + size > HTTP_CLIENT_BODY_BYTES_MAX) return false;
        size_t line_len = (size_t)(line_end - rest.data) + 2;
        if (size == 0) { /* the gateway sends no trailer fields */
            *done = rest.len >= line_len + 2;
            return !*done || memcmp(rest.data + line_len, "\r\n", 2) == 0;
        }
        if (rest.len < line_len + size + 2) return true;
        if (memcmp(rest.data + line_len + size, "\r\n", 2) != 0) return false;
        buf_append(body, rest.data + line_len, size);
        *at += line_len + size + 2;
    }
}

static enum status read_body(struct http_client *c, struct http_answer *answer, const char *method)
{
    /* what the head gives must outlive growth of the buffer that holds it: keep offsets, not pointers */
    size_t fields_at = (size_t)(answer->fields.data - c->_in.data), fields_len = answer->fields.len;
    size_t body_at = fields_at + fields_len + 2, at = body_at;
    struct slice length_text = http_answer_field(answer, "Content-Length");
    bool chunked = slice_eq_nocase(http_answer_field(answer, "Transfer-Encoding"), SLICE("chunked"));
    bool closes = slice_eq_nocase(http_answer_field(answer, "Connection"), SLICE("close"));
    bool none = answer->status == 204 || answer->status == 304 || strcmp(method, "HEAD") == 0;
    uint64_t length = 0;
    if (length_text.data && (!slice_u64(length_text, &length) || length > HTTP_CLIENT_BODY_BYTES_MAX))
        return fail(c, STATUS_INVALID, "the answer's length is malformed or above %u bytes",
                    HTTP_CLIENT_BODY_BYTES_MAX);
    bool until_end = !chunked && !length_text.data, ended = false, done = none;

    for (;;) {
        if (!done && chunked && !chunked_take(&c->_in, &at, &c->_body, &done))
            return fail(c, STATUS_INVALID, "the answer's chunks are malformed or too many");
        if (!done && length_text.data && !chunked) done = c->_in.len - body_at >= length;
        if (!done && until_end) done = ended;
        if (done) break;
        if (ended) return fail(c, STATUS_IO, "the server closed the connection in the middle of its answer");
        if (c->_in.len > 2ull * HTTP_CLIENT_BODY_BYTES_MAX) return fail(c, STATUS_INVALID, "the answer is too long");
        enum status status = receive_more(c, &c->_in, &ended);
        if (status != STATUS_OK) return status;
    }
    answer->fields = slice_of(c->_in.data + fields_at, fields_len);
    if (chunked)
        answer->body = buf_slice(&c->_body);
    else
        answer->body = slice_of(c->_in.data + body_at, none ? 0 : until_end ? c->_in.len - body_at : length);
    if (closes || (until_end && !none)) {
        close(c->_fd);
        c->_fd = -1;
    }
    return STATUS_OK;
}
