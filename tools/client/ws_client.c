#define _GNU_SOURCE /* memmem, strerrordesc_np (glibc 2.32) */
#include "ws_client.h"

#include <errno.h>
#include <openssl/base64.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/clock.h"
#include "../../src/base/random.h"
#include "http_client.h"

static enum status fail(struct ws_client *w, enum status status, const char *text);
static enum status receive_more(struct ws_client *w, uint64_t until_ns);
static enum status control_frame(struct ws_client *w, unsigned opcode, struct slice payload);
static enum status send_frame(struct ws_client *w, enum ws_opcode opcode, struct slice payload);

void ws_client_key(char key[WS_CLIENT_KEY_LEN], char accept[WS_ACCEPT_LEN])
{
    uint8_t nonce[16], text[WS_CLIENT_KEY_LEN + 1], digest[SHA_DIGEST_LENGTH], answer[WS_ACCEPT_LEN + 1];
    random_fill(random_real(), nonce, sizeof nonce);
    EVP_EncodeBlock(text, nonce, sizeof nonce);
    memcpy(key, text, WS_CLIENT_KEY_LEN);

    SHA_CTX sha; /* RFC 6455 1.3: base64(SHA-1(key + this GUID)) */
    SHA1_Init(&sha);
    SHA1_Update(&sha, key, WS_CLIENT_KEY_LEN);
    SHA1_Update(&sha, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    SHA1_Final(digest, &sha);
    EVP_EncodeBlock(answer, digest, sizeof digest);
    memcpy(accept, answer, WS_ACCEPT_LEN);
}

void ws_client_request(struct buf *out, const char *authority, const char *target, const char *key,
                       const char *subprotocol, struct slice fields)
{
    buf_printf(out,
               "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %.*s\r\n",
               target, authority, (int)WS_CLIENT_KEY_LEN, key);
    if (subprotocol) buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", subprotocol);
    buf_slice_append(out, fields);
    BUF_LIT(out, "\r\n");
}

enum status ws_client_answer(size_t *head_len, unsigned *http_status, struct slice bytes, const char *accept,
                             const char *subprotocol)
{
    const char *end = bytes.len ? memmem(bytes.data, bytes.len, "\r\n\r\n", 4) : NULL;
    if (!end) return bytes.len > HTTP_CLIENT_HEAD_BYTES_MAX ? STATUS_INVALID : STATUS_FULL;
    *head_len = (size_t)(end - bytes.data) + 4;
    if (!slice_starts(bytes, SLICE("HTTP/1.1 ")) || !http_status_line(slice_of(bytes.data, *head_len), http_status))
        return STATUS_INVALID;
    if (*http_status != 101) return STATUS_DENIED;
    const char *line_end = memchr(bytes.data, '\r', *head_len);
    struct http_answer answer = {.status = 101, .fields = slice_of(line_end + 2, (size_t)(end - line_end))};
    struct slice protocol = http_answer_field(&answer, "Sec-WebSocket-Protocol");
    bool accepted = slice_eq(http_answer_field(&answer, "Sec-WebSocket-Accept"), slice_of(accept, WS_ACCEPT_LEN)) &&
                    slice_eq_nocase(http_answer_field(&answer, "Upgrade"), SLICE("websocket")) &&
                    (subprotocol ? slice_is(protocol, subprotocol) : protocol.data == NULL);
    return accepted ? STATUS_OK : STATUS_INVALID;
}

/* A client frame (RFC 6455 5.2); the payload is XORed with the four mask bytes in turn:
 *
 *    0                1                2 …             … 4 mask bytes   payload
 *   |FIN 0 0 0 opcode|MASK=1 length:7 |length 16 or 64 |m0 m1 m2 m3    |p[i] ^ m[i % 4] …
 */
void ws_client_frame(struct buf *out, enum ws_opcode opcode, struct slice payload, uint32_t mask)
{
    buf_reserve(out, payload.len + WS_HEADER_MAX + 4);
    uint8_t *at = (uint8_t *)out->data + out->len;
    *at++ = (uint8_t)(0x80u | (unsigned)opcode);
    if (payload.len < 126) {
        *at++ = (uint8_t)(0x80u | payload.len);
    } else {
        unsigned bytes = payload.len <= UINT16_MAX ? 2 : 8;
        *at++ = 0x80u | (bytes == 2 ? 126u : 127u);
        for (unsigned i = bytes; i-- > 0;) *at++ = (uint8_t)((uint64_t)payload.len >> (8 * i));
    }
    memcpy(at, &mask, 4);
    at += 4;
    const uint8_t *from = (const uint8_t *)payload.data;
    size_t i = 0;
    uint64_t wide_mask = (uint64_t)mask << 32 | mask;
    for (; i + 8 <= payload.len; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= wide_mask;
        memcpy(at + i, &word, 8);
    }
    for (; i < payload.len; i++) at[i] = from[i] ^ (uint8_t)(wide_mask >> (8 * (i % 4)));
    out->len = (size_t)((char *)at + payload.len - out->data);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the mask's first byte is its lowest");

int ws_client_header(const char *bytes, size_t len, unsigned *opcode, size_t *payload_len)
{
    const uint8_t *in = (const uint8_t *)bytes;
    if (len < 2) return 0;
    if ((in[0] & 0xf0) != 0x80 || (in[1] & 0x80)) return -1;
    *opcode = in[0] & 0x0f;
    unsigned short_len = in[1], extra = short_len == 126 ? 2 : short_len == 127 ? 8 : 0;
    if (len < 2 + extra) return 0;
    uint64_t long_len = extra ? 0 : short_len;
    for (unsigned i = 0; i < extra; i++) long_len = long_len << 8 | in[2 + i];
    if (long_len > WS_CLIENT_FRAME_BYTES_MAX) return -1;
    *payload_len = (size_t)long_len;
    return (int)(2 + extra);
}

/* --- blocking ------------------------------------------------------------------------------------------------ */

enum status ws_client_open(struct ws_client *w, const struct endpoint *endpoint, const char *target,
                           const char *subprotocol, struct slice fields, unsigned timeout_ms)
{
    *w = (struct ws_client){._fd = -1};
    const char *why;
    w->_fd = endpoint_connect(endpoint, timeout_ms, &why);
    if (w->_fd < 0) return fail(w, STATUS_IO, why);

    char authority[ENDPOINT_HOST_BYTES_MAX + 16], key[WS_CLIENT_KEY_LEN], accept[WS_ACCEPT_LEN];
    endpoint_authority(endpoint, authority, sizeof authority);
    ws_client_key(key, accept);
    struct buf request = {0};
    ws_client_request(&request, authority, target, key, subprotocol, fields);
    ssize_t sent = send(w->_fd, request.data, request.len, MSG_NOSIGNAL);
    bool whole = sent == (ssize_t)request.len;
    buf_free(&request);
    if (!whole) return fail(w, STATUS_IO, "sending the upgrade failed");

    uint64_t until = clock_mono_ns(clock_real()) + (uint64_t)timeout_ms * 1000000;
    size_t head_len = 0;
    unsigned http_status = 0;
    for (;;) {
        enum status status = ws_client_answer(&head_len, &http_status, buf_slice(&w->_in), accept, subprotocol);
        if (status == STATUS_OK) break;
        if (status == STATUS_DENIED) {
            fail(w, status, "");
            snprintf(w->why, sizeof w->why, "the server answered the upgrade with HTTP status %u", http_status);
            w->http_status = http_status;
            return status;
        }
        if (status != STATUS_FULL) return fail(w, status, "the answer to the upgrade breaks RFC 6455");
        status = receive_more(w, until);
        if (status != STATUS_OK)
            return fail(w, STATUS_IO, status == STATUS_FULL ? "no answer to the upgrade" : "the server closed");
    }
    buf_consume(&w->_in, head_len);
    return STATUS_OK;
}

enum status ws_client_send(struct ws_client *w, struct slice text)
{
    return send_frame(w, WS_OP_TEXT, text);
}

enum status ws_client_receive(struct ws_client *w, struct slice *text, unsigned timeout_ms)
{
    uint64_t until = clock_mono_ns(clock_real()) + (uint64_t)timeout_ms * 1000000;
    buf_consume(&w->_in, w->_taken);
    w->_taken = 0;
    for (;;) {
        unsigned opcode;
        size_t payload_len;
        int header = ws_client_header(w->_in.data, w->_in.len, &opcode, &payload_len);
        if (header < 0) return fail(w, STATUS_INVALID, "the server sent a frame that breaks RFC 6455");
        if (header == 0 || w->_in.len < (size_t)header + payload_len) {
            enum status status = receive_more(w, until);
            if (status != STATUS_OK) return status;
            continue;
        }
        struct slice payload = slice_of(w->_in.data + header, payload_len);
        if (opcode == WS_OP_TEXT) {
            *text = payload;
            w->_taken = (size_t)header + payload_len;
            return STATUS_OK;
        }
        enum status status = control_frame(w, opcode, payload);
        if (status != STATUS_OK) return status;
        buf_consume(&w->_in, (size_t)header + payload_len);
    }
}

int ws_client_fd(const struct ws_client *w)
{
    return w->_fd;
}

void ws_client_close(struct ws_client *w)
{
    static const char code_1000[2] = {0x03, (char)0xe8};
    if (w->_fd >= 0) {
        enum status ignored = send_frame(w, WS_OP_CLOSE, slice_of(code_1000, 2)); /* a courtesy */
        (void)ignored;
    }
    if (w->_fd >= 0) close(w->_fd);
    w->_fd = -1;
    buf_free(&w->_in);
}

static enum status fail(struct ws_client *w, enum status status, const char *text)
{
    snprintf(w->why, sizeof w->why, "%s", text);
    if (w->_fd >= 0) close(w->_fd);
    w->_fd = -1;
    return status;
}

static enum status receive_more(struct ws_client *w, uint64_t until_ns)
{
    if (w->_fd < 0) return STATUS_NOT_FOUND;
    for (;;) {
        uint64_t now = clock_mono_ns(clock_real());
        struct pollfd ready = {.fd = w->_fd, .events = POLLIN};
        int n = poll(&ready, 1, now < until_ns ? (int)((until_ns - now + 999999) / 1000000) : 0);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return STATUS_FULL;
        buf_reserve(&w->_in, 65536);
        ssize_t got = recv(w->_fd, w->_in.data + w->_in.len, 65536, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0) return fail(w, STATUS_IO, strerrordesc_np(errno));
        if (got == 0) {
            w->close_code = 1006;
            return fail(w, STATUS_NOT_FOUND, "the server closed the connection");
        }
        w->_in.len += (size_t)got;
        return STATUS_OK;
    }
}

static enum status control_frame(struct ws_client *w, unsigned opcode, struct slice payload)
{
    switch (opcode) {
    case WS_OP_PING: return send_frame(w, WS_OP_PONG, payload);
    case WS_OP_PONG: return STATUS_OK;
    case WS_OP_CLOSE: {
        char reason[124] = "";
        if (payload.len > 2) snprintf(reason, sizeof reason, "%.*s", (int)payload.len - 2, payload.data + 2);
        w->close_code = payload.len < 2 ? 1005 : (uint16_t)((uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1]);
        fail(w, STATUS_NOT_FOUND, "");
        snprintf(w->why, sizeof w->why, "the server closed with code %u%s%s", w->close_code, reason[0] ? ": " : "",
                 reason);
        return STATUS_NOT_FOUND;
    }
    default: return fail(w, STATUS_INVALID, "the server sent a frame of an unexpected kind");
    }
}

static enum status send_frame(struct ws_client *w, enum ws_opcode opcode, struct slice payload)
{
    if (w->_fd < 0) return STATUS_IO;
    struct buf frame = {0};
    uint32_t mask;
    random_fill(random_real(), &mask, sizeof mask);
    ws_client_frame(&frame, opcode, payload, mask);
    size_t at = 0;
    while (at < frame.len) {
        ssize_t n = send(w->_fd, frame.data + at, frame.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        at += (size_t)n;
    }
    bool whole = at == frame.len;
    buf_free(&frame);
    return whole ? STATUS_OK : fail(w, STATUS_IO, "sending failed");
}
