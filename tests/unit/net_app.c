#define _GNU_SOURCE /* memmem */
#include "net_app.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../net/listener.h"
#include "../../net/websocket.h"
#include "../../src/base/limits.h"

static uint64_t app_mono_ns(void *context)
{
    struct app *a = context;
    return clock_mono_ns(clock_real()) + a->skipped_ns;
}

static uint64_t app_wall_ms(void *context)
{
    return clock_wall_ms(clock_real());
}

void answer(struct app *a, struct conn *c, unsigned status, struct slice body)
{
    struct http_reply reply = {.status = status, .content_type = "text/plain", .body = body};
    net_http_reply(a->n, c, &reply);
}

static void app_upgrade(struct app *a, struct conn *c, const struct http_request *request)
{
    char key[WS_ACCEPT_LEN];
    assert_true(ws_accept_key(key, http_header_find(request, "Sec-WebSocket-Key")));
    net_ws_accept(a->n, c, slice_of(key, sizeof key), (struct slice){0}, (struct slice){0}, 0);
    a->last_ws = net_ref(c);
}

static void app_request(void *context, struct conn *c, const struct http_request *request)
{
    struct app *a = context;
    conn_peer(c, a->peer);
    if (conn_is_admin(c)) a->admins++;
    if (a->use_users && !conn_user(c)) {
        a->opened++;
        conn_set_user(c, a);
    }
    a->refusal = conn_refusal(c);
    a->body_len = request->body.len;
    char sum = 0; /* reads the promised padding, for the address sanitizer to see */
    for (unsigned i = 0; i < NET_PADDING && request->body.len; i++) sum ^= request->body.data[request->body.len + i];
    (void)sum;
    if (slice_is(request->path, "/ws"))
        app_upgrade(a, c, request);
    else if (slice_is(request->path, "/later"))
        a->waiting = net_ref(c);
    else if (slice_is(request->path, "/abort"))
        net_abort(a->n, c);
    else if (slice_is(request->path, "/close")) {
        struct http_reply reply = {.status = 200, .content_type = "text/plain", .body = SLICE("bye"), .close = true};
        net_http_reply(a->n, c, &reply);
    } else if (slice_is(request->path, "/echo"))
        answer(a, c, 200, request->body);
    else
        answer(a, c, 404, request->path);
}

static void app_message(void *context, struct conn *c, bool text, struct slice data)
{
    struct app *a = context;
    char sum = 0;
    for (unsigned i = 0; i < NET_PADDING; i++) sum ^= data.data[data.len + i];
    (void)sum;
    a->messages++;
    a->last_message.len = 0;
    buf_slice_append(&a->last_message, data);
    if (a->hold_requests) net_request_begin(a->n, c);
    if (slice_is(data, "abort"))
        net_abort(a->n, c);
    else if (slice_is(data, "close"))
        net_ws_close(a->n, c, 4001, "asked for", false);
    else if (a->stop_echo)
        return;
    else if (text)
        net_reply_text(a->n, c, data);
    else
        net_reply_binary(a->n, c, data);
}

static void app_drain(void *context, struct conn *c)
{
    struct app *a = context;
    a->drains++;
}

static void app_closed(void *context, struct conn *c)
{
    struct app *a = context;
    assert_ptr_equal(conn_user(c), a);
    a->closed++;
}

static uint8_t app_open_refused(void *context, struct conn *c)
{
    return 3;
}

static bool app_head(void *context, struct conn *c, const struct http_request *request)
{
    struct app *a = context;
    struct slice account = http_header_find(request, "X-Account");
    if (account.len) conn_charge(c, &a->accounts[account.data[0] - '0']);
    return !a->refuse_bodies;
}

struct net_handlers app_handlers(struct app *a)
{
    return (struct net_handlers){app_request, app_message, app_drain, app_closed, a, NULL,
                                 a->refuse_all ? app_open_refused : NULL, app_head, NULL};
}

static struct net_limits default_limits(void)
{
    return (struct net_limits){
        .connections_max = 4096,
        .http = {HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX, HTTP_BODY_BYTES_MAX},
        .ws_message_bytes_max = WS_MESSAGE_BYTES_MAX,
        .send_queue_bytes_max = 1u << 20,
        .requests_in_flight_max = 8,
        .header_timeout_ns = 10 * SECOND,
        .body_timeout_ns = 30 * SECOND,
        .idle_timeout_ns = 60 * SECOND,
        .ping_interval_ns = 30 * SECOND,
        .close_timeout_ns = 2 * SECOND,
        .stall_timeout_ns = 30 * SECOND,
    };
}

void app_open(struct app *a)
{
    char why[256], name[LISTENER_NAME_LEN];
    const struct net_handlers handlers = app_handlers(a);
    a->clock = (struct clock){a, app_mono_ns, app_wall_ms};
    assert_int_equal(park_init(&a->park, NULL, NULL), STATUS_OK);
    if (a->unix_path[0]) {
        assert_int_equal(listener_open_unix(&a->listen_fd, a->unix_path, why, sizeof why), STATUS_OK);
    } else {
        const struct listener_tcp tcp = {.address = "127.0.0.1:0",
                                         .reuse_port = true,
                                         .send_buffer_bytes = a->send_buffer_bytes ? a->send_buffer_bytes : 65536};
        assert_int_equal(listener_open_tcp(&a->listen_fd, name, &tcp, why, sizeof why), STATUS_OK);
        a->port = (uint16_t)atoi(strrchr(name, ':') + 1);
    }
    enum status s = net_open(&a->n, &handlers, &a->limits, &a->clock, &a->park, 0, why, sizeof why);
    if (s != STATUS_OK) print_error("%s\n", why);
    assert_int_equal(s, STATUS_OK);
    const struct net_listener at = {.fd = a->listen_fd};
    assert_int_equal(net_start(a->n, &at, 1), STATUS_OK);
}

void turn(struct app *a)
{
    net_poll(a->n);
    net_timers(a->n);
    net_flush(a->n);
    net_wait(a->n, net_now_ns(a->n) + 1000000);
}

void turns(struct app *a, unsigned count)
{
    while (count--) turn(a);
}

void skip_time(struct app *a, uint64_t ns)
{
    a->skipped_ns += ns;
    turns(a, 3);
}

void app_close(struct app *a)
{
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(net_stats(a->n)->queued_bytes, 0);
    assert_int_equal(net_reply_bytes(a->n), 0);
    turn(a);
    assert_int_equal(net_stats(a->n)->queue_nodes, 0);
    assert_int_equal(net_stats(a->n)->websockets, 0);
    assert_int_equal(a->opened, a->closed);
    app_end(a);
}

void app_end(struct app *a)
{
    net_close(a->n);
    park_close(&a->park);
    close(a->listen_fd);
    buf_free(&a->last_message);
}

int app_setup(void **state)
{
    struct app *a = calloc(1, sizeof *a);
    a->limits = default_limits();
    a->use_users = true;
    *state = a;
    return 0;
}

int app_teardown(void **state)
{
    free(*state);
    return 0;
}

int app_descriptors(void **state)
{
    const struct rlimit descriptors = {4096, 4096};
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    if (now.rlim_cur < descriptors.rlim_cur) setrlimit(RLIMIT_NOFILE, &descriptors);
    return 0;
}

/* --- clients ------------------------------------------------------------------------------------------------- */

int connect_unix(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    assert_true(fd >= 0);
    memcpy(to.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int connect_tcp(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_true(fd >= 0);
    int n = connect(fd, (struct sockaddr *)&to, sizeof to);
    assert_true(n == 0 || errno == EINPROGRESS);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&p, 1, 5000), 1);
    return fd;
}

struct client client_open(struct app *a)
{
    return (struct client){.fd = a->unix_path[0] ? connect_unix(a->unix_path) : connect_tcp(a->port)};
}

void client_close(struct client *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    buf_free(&c->in);
}

void client_read(struct client *c)
{
    for (;;) {
        buf_reserve(&c->in, 65536);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, 65535, 0);
        if (n > 0)
            c->in.len += (size_t)n;
        else {
            if (n == 0 || errno != EAGAIN) c->ended = true;
            break;
        }
    }
    if (c->in.data) c->in.data[c->in.len] = '\0';
}

void client_send(struct app *a, struct client *c, struct slice bytes)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    while (bytes.len > 0) {
        ssize_t n = send(c->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n > 0)
            bytes = slice_from(bytes, (size_t)n);
        else {
            assert_true(n < 0 && errno == EAGAIN && clock_mono_ns(clock_real()) < until_ns);
            turn(a);
        }
    }
}

void client_say(struct app *a, struct client *c, const char *text)
{
    client_send(a, c, slice_str(text));
}

bool client_has(struct client *c, const char *text)
{
    client_read(c);
    return c->in.len >= strlen(text) && memmem(c->in.data, c->in.len, text, strlen(text)) != NULL;
}

bool client_ended(struct client *c)
{
    client_read(c);
    return c->ended;
}

bool client_got(struct client *c, size_t len)
{
    client_read(c);
    return c->in.len >= len;
}

void frame_masked(struct buf *out, unsigned first_byte, struct slice payload)
{
    static const unsigned char mask[4] = {0x11, 0x82, 0x5c, 0xf3};
    unsigned char head[14] = {(unsigned char)first_byte};
    size_t len = 2;
    if (payload.len < 126)
        head[1] = (unsigned char)(0x80 | payload.len);
    else if (payload.len < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (unsigned char)(payload.len >> 8);
        head[3] = (unsigned char)payload.len;
        len = 4;
    } else {
        head[1] = 0x80 | 127;
        for (unsigned i = 0; i < 8; i++) head[2 + i] = (unsigned char)((uint64_t)payload.len >> (56 - 8 * i));
        len = 10;
    }
    memcpy(head + len, mask, 4);
    buf_append(out, head, len + 4);
    buf_reserve(out, payload.len);
    for (size_t i = 0; i < payload.len; i++)
        out->data[out->len + i] = (char)((unsigned char)payload.data[i] ^ mask[i % 4]);
    out->len += payload.len;
}

void ws_say(struct app *a, struct client *c, unsigned first_byte, struct slice payload)
{
    struct buf frame = {0};
    frame_masked(&frame, first_byte, payload);
    client_send(a, c, buf_slice(&frame));
    buf_free(&frame);
}

struct client ws_connect(struct app *a)
{
    struct client c = client_open(a);
    client_say(a, &c, UPGRADE);
    UNTIL(a, client_has(&c, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    assert_true(slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 101 ")));
    turn(a); /* accounts for the answer */
    c.in.len = 0;
    return c;
}

struct frame *text_frame(size_t payload_len, char fill)
{
    uint8_t head[WS_HEADER_MAX];
    size_t head_len = ws_header(head, WS_OP_TEXT, payload_len);
    struct frame *f = frame_new(1, (uint32_t)(head_len + payload_len));
    memcpy(frame_data(f), head, head_len);
    memset(frame_data(f) + head_len, fill, payload_len);
    return f;
}
