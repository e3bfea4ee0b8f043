#define _GNU_SOURCE /* memmem */
#include "admin_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../base/limits.h"

#define ANSWER_BYTES_MAX (8u << 20) /* the longest page is HISTORY_BYTES_MAX */

static int connect_to(const char *socket_path);
static bool send_request(int fd, const struct admin_request *request);
static enum status read_answer(int fd, unsigned *http_status, struct buf *in);
static bool head_parse(struct slice head, unsigned *http_status, uint64_t *body_len);

enum status admin_client_call(unsigned *http_status, struct buf *body, const char *socket_path,
                              const struct admin_request *request)
{
    int fd = connect_to(socket_path);
    if (fd < 0) return STATUS_IO;
    body->len = 0;
    enum status status = send_request(fd, request) ? read_answer(fd, http_status, body) : STATUS_IO;
    close(fd);
    return status;
}

static int connect_to(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path) return -1;
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    const struct timeval timeout = {.tv_sec = ADMIN_TIMEOUT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static bool send_request(int fd, const struct admin_request *request)
{
    struct buf text = {0};
    buf_printf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", request->method, request->target);
    if (request->api_key) buf_printf(&text, "X-API-Key: %s\r\n", request->api_key);
    if (request->user_id) buf_printf(&text, "X-User-Id: %s\r\n", request->user_id);
    if (request->body.len)
        buf_printf(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body.len);
    BUF_LIT(&text, "\r\n");
    buf_slice_append(&text, request->body);
    size_t at = 0;
    while (at < text.len) {
        ssize_t n = send(fd, text.data + at, text.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += (size_t)n;
    }
    bool whole = at == text.len;
    buf_free(&text);
    return whole;
}

/* read_answer leaves the body alone in `in`. */
static enum status read_answer(int fd, unsigned *http_status, struct buf *in)
{
    size_t head_len = 0;
    uint64_t body_len = 0;
    while (head_len == 0 || in->len - head_len < body_len) {
        buf_reserve(in, 16384);
        ssize_t n = recv(fd, in->data + in->len, 16384, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return STATUS_IO;
        in->len += (size_t)n;
        const char *end = head_len ? NULL : memmem(in->data, in->len, "\r\n\r\n", 4);
        if (end) {
            head_len = (size_t)(end - in->data) + 4;
            if (!head_parse(slice_of(in->data, head_len), http_status, &body_len)) return STATUS_INVALID;
        }
        if (in->len > ANSWER_BYTES_MAX) return STATUS_INVALID;
    }
    buf_consume(in, head_len);
    in->len = body_len;
    return STATUS_OK;
}

/* "HTTP/1.1 201 Created", then fields in any case and order; without a length there is no body (204). */
static bool head_parse(struct slice head, unsigned *http_status, uint64_t *body_len)
{
    uint64_t code;
    if (head.len < 16 || memcmp(head.data, "HTTP/1.1 ", 9) != 0 || !slice_u64(slice_of(head.data + 9, 3), &code))
        return false;
    *http_status = (unsigned)code;
    *body_len = 0;
    while (head.len > 2) {
        const char *end = memmem(head.data, head.len, "\r\n", 2);
        struct slice line = slice_of(head.data, (size_t)(end - head.data)), name = SLICE("Content-Length:");
        if (line.len > name.len && slice_eq_nocase(slice_of(line.data, name.len), name)) {
            line = slice_from(line, name.len + strspn(line.data + name.len, " \t"));
            return slice_u64(line, body_len) && *body_len <= ANSWER_BYTES_MAX;
        }
        head = slice_from(head, line.len + 2);
    }
    return true;
}
