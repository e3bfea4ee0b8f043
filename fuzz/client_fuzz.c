/* Fuzzes what the tools make of bytes that a server sends, or a person types. The first byte chooses:
 * - an answer to a REST request, read off a socket: what is taken lies within the answer and keeps to its outlines;
 * - an answer to an upgrade: a prefix needs more or has the verdict of the whole;
 * - a server's frames: their headers are read as net/websocket.h writes them;
 * - a message of the client's: what the server reads out of the frame is what the client put in;
 * - an address: what is taken is written and read back the same;
 * - a pushed message, as the load generator reads it. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../net/http.h"
#include "../src/base/assert.h"
#include "../tools/client/http_client.h"
#include "../tools/client/ws_client.h"
#include "../tools/load/push.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char accept_text[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 section 1.3 */

static void http_answer(struct slice input);
static void upgrade_answer(struct slice input);
static void server_frames(struct slice input);
static void client_message(struct slice input);
static void address(struct slice input);
static void pushed_message(struct slice input);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const readers[])(struct slice input) = {http_answer,    upgrade_answer, server_frames,
                                                          client_message, address,        pushed_message};
    if (len == 0) return 0;
    char *exact = malloc(len); /* not a byte to spare */
    ASSERT(exact != NULL);
    memcpy(exact, data + 1, len - 1);
    readers[data[0] % (sizeof readers / sizeof *readers)](slice_of(exact, len - 1));
    free(exact);
    return 0;
}

static bool inside(struct slice part, const struct buf *whole)
{
    return part.len == 0 ||
           (whole->data && part.data >= whole->data && part.data + part.len <= whole->data + whole->len);
}

/* A chunked body is the one that the server's reader finds; chunk extensions apart, which that one looks at closely. */
static void chunked_alike(const struct http_answer *answer, const struct buf *received)
{
    static const struct http_limits limits = {0, 0, 1u << 20};
    struct slice coding = http_answer_field(answer, "Transfer-Encoding");
    if (!slice_eq_nocase(coding, SLICE("chunked")) || answer->status == 204 || answer->status == 304) return;
    size_t head_len = (size_t)(answer->fields.data - received->data) + answer->fields.len + 2;
    struct slice framing = slice_from(buf_slice(received), head_len);
    if (framing.len && memchr(framing.data, ';', framing.len)) return;
    struct http_body reader;
    struct buf body = {0};
    size_t consumed;
    enum http_error error;
    http_body_init(&reader, &(struct http_request){.chunked = true});
    ASSERT(http_body_feed(&reader, &body, &consumed, &error, framing, &limits) == HTTP_DONE);
    ASSERT(slice_eq(buf_slice(&body), answer->body));
    buf_free(&body);
}

static void http_answer(struct slice input)
{
    static const struct endpoint nowhere = {.host = "/nowhere", .local = true};
    int ends[2];
    if (input.len > 65536) return; /* what a socket holds without a reader */
    ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    if (input.len) ASSERT(send(ends[1], input.data, input.len, 0) == (ssize_t)input.len);
    ASSERT(shutdown(ends[1], SHUT_WR) == 0);
    struct http_client c;
    struct http_answer answer;
    http_client_init(&c, &nowhere, 1000);
    c._fd = ends[0];
    enum status s = http_client_request(&c, &answer, "GET", "/", (struct slice){0}, (struct slice){0});
    ASSERT(s == STATUS_OK || s == STATUS_IO || s == STATUS_INVALID);
    if (s == STATUS_OK) {
        ASSERT(answer.status >= 200 && answer.status <= 599);
        ASSERT(answer.fields.len == 0 || memcmp(answer.fields.data + answer.fields.len - 2, "\r\n", 2) == 0);
        ASSERT(inside(answer.fields, &c._in) && (inside(answer.body, &c._body) || inside(answer.body, &c._in)));
        struct slice value = http_answer_field(&answer, "Content-Length");
        ASSERT(inside(value, &c._in));
        chunked_alike(&answer, &c._in);
    } else {
        ASSERT(c.why[0] != '\0');
    }
    http_client_close(&c);
    close(ends[1]);
}

static void upgrade_answer(struct slice input)
{
    size_t head_len = 0;
    unsigned status = 0;
    enum status whole = ws_client_answer(&head_len, &status, input, accept_text, "carillon.v1.json");
    if (whole == STATUS_OK) ASSERT(head_len <= input.len && memcmp(input.data + head_len - 4, "\r\n\r\n", 4) == 0);
    for (size_t len = 0; len < input.len && len < 512; len++) {
        size_t prefix_head_len = 0;
        char *exact = malloc(len ? len : 1);
        ASSERT(exact != NULL);
        memcpy(exact, input.data, len);
        enum status s =
            ws_client_answer(&prefix_head_len, &status, slice_of(exact, len), accept_text, "carillon.v1.json");
        free(exact);
        ASSERT(s == STATUS_FULL || (s == whole && prefix_head_len == head_len));
    }
}

static void server_frames(struct slice input)
{
    while (input.len) {
        unsigned opcode = 0;
        size_t payload_len = 0;
        int head_len = ws_client_header(input.data, input.len, &opcode, &payload_len);
        if (head_len <= 0) return;
        ASSERT((size_t)head_len <= input.len && opcode <= 15 && payload_len <= WS_CLIENT_FRAME_BYTES_MAX);
        uint8_t head[WS_HEADER_MAX];
        bool shortest = ws_header_len(payload_len) == (size_t)head_len;
        bool known = opcode == WS_OP_TEXT || opcode == WS_OP_BINARY;
        if (shortest && known)
            ASSERT(ws_header(head, (enum ws_opcode)opcode, payload_len) == (size_t)head_len &&
                   memcmp(head, input.data, (size_t)head_len) == 0);
        input = slice_from(input, (size_t)head_len + payload_len);
    }
}

static void client_message(struct slice input)
{
    static struct ws_pool *pool;
    if (pool == NULL) ASSERT(ws_pool_open(&pool, 1) == STATUS_OK);
    if (input.len < 4) return;
    uint32_t mask;
    memcpy(&mask, input.data, 4);
    struct slice payload = slice_from(input, 4), data;
    struct buf frame = {0};
    ws_client_frame(&frame, WS_OP_BINARY, payload, mask);
    struct ws_in in = {0};
    uint16_t close_code = 0;
    size_t consumed = 0;
    enum ws_event event = ws_feed(&in, pool, &data, &close_code, &consumed, buf_slice(&frame), payload.len);
    ASSERT(event == WS_BINARY && consumed == frame.len && slice_eq(data, payload));
    ws_in_end(&in, pool);
    buf_free(&frame);
}

static void address(struct slice input)
{
    struct endpoint e, again;
    char *text = strndup(input.data, input.len), url[ENDPOINT_HOST_BYTES_MAX + 32] = "http://";
    ASSERT(text != NULL);
    if (endpoint_parse(&e, text) && !e.local) {
        ASSERT(e.host[0] != '\0' && e.port[0] != '\0');
        endpoint_authority(&e, url + 7, sizeof url - 7);
        ASSERT(endpoint_parse(&again, url));
        ASSERT(strcmp(e.host, again.host) == 0 && strcmp(e.port, again.port) == 0);
    }
    free(text);
}

static void pushed_message(struct slice input)
{
    struct stamp stamp;
    char text[STAMP_LEN];
    uint64_t seq;
    uint32_t hint = 0;
    if (stamp_read(&stamp, input)) {
        stamp_write(text, &stamp);
        ASSERT(memmem(input.data, input.len, text, STAMP_LEN) != NULL);
    }
    bool found = push_number(&seq, input, SLICE("\"seq\":"), &hint);
    uint64_t same;
    if (found) ASSERT(push_number(&same, input, SLICE("\"seq\":"), &hint) && same == seq);
    struct slice id = push_text(input, SLICE("\"room_id\":\""));
    ASSERT(id.data == NULL || (id.data >= input.data && id.data + id.len < input.data + input.len));
    push_kind_of(input);
}
