#define _GNU_SOURCE /* memmem */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../../net/connection.h"
#include "../../net/listener.h"
#include "../../net/net.h"
#include "../../net/ring.h"
#include "../../net/websocket.h"
#include "../../src/base/limits.h"
#include "../../src/base/park.h"

/* A real net over loopback, driven by the thread that also plays the clients: both take turns, so that a test decides
 * what happens between two turns. Time is the real one plus what a test has skipped. */

#define SECOND 1000000000ull
#define PATIENCE_NS (10 * SECOND) /* a wait that fails has waited this long */

struct app {
    struct net *n;
    struct park park;
    struct clock clock;
    uint64_t skipped_ns;
    struct net_limits limits;
    int listen_fd;
    uint16_t port;
    bool stop_echo;     /* messages are counted, not answered */
    bool hold_requests; /* each message begins a request that the test ends */
    bool use_users;     /* connections get a user */
    bool refuse_all;    /* connections are let in by nobody */
    bool refuse_bodies; /* no head has its body taken */
    struct net_account accounts[2]; /* a request that names one in X-Account is charged to it */
    char unix_path[64]; /* listen here instead of on TCP, when set */
    unsigned messages, drains, closed, opened, admins;
    struct conn_ref waiting; /* of the last /later request */
    struct conn_ref last_ws;
    struct buf last_message;
    uint8_t refusal;  /* of the last request's connection */
    size_t body_len;  /* of the last request */
    char peer[46];
};

static uint64_t app_mono_ns(void *context)
{
    struct app *a = context;
    return clock_mono_ns(clock_real()) + a->skipped_ns;
}

static uint64_t app_wall_ms(void *context)
{
    return clock_wall_ms(clock_real());
}

static void answer(struct app *a, struct conn *c, unsigned status, struct slice body)
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

static void app_open(struct app *a)
{
    char why[256], name[LISTENER_NAME_LEN];
    const struct net_handlers handlers = {app_request, app_message, app_drain, app_closed, a, NULL,
                                         a->refuse_all ? app_open_refused : NULL, app_head, NULL};
    a->clock = (struct clock){a, app_mono_ns, app_wall_ms};
    assert_int_equal(park_init(&a->park, NULL, NULL), STATUS_OK);
    if (a->unix_path[0]) {
        assert_int_equal(listener_open_unix(&a->listen_fd, a->unix_path, why, sizeof why), STATUS_OK);
    } else {
        const struct listener_tcp tcp = {.address = "127.0.0.1:0", .reuse_port = true, .send_buffer_bytes = 65536};
        assert_int_equal(listener_open_tcp(&a->listen_fd, name, &tcp, why, sizeof why), STATUS_OK);
        a->port = (uint16_t)atoi(strrchr(name, ':') + 1);
    }
    enum status s = net_open(&a->n, &handlers, &a->limits, &a->clock, &a->park, 0, why, sizeof why);
    if (s != STATUS_OK) print_error("%s\n", why);
    assert_int_equal(s, STATUS_OK);
    const struct net_listener at = {.fd = a->listen_fd};
    assert_int_equal(net_start(a->n, &at, 1), STATUS_OK);
}

static void turn(struct app *a)
{
    net_poll(a->n);
    net_timers(a->n);
    net_flush(a->n);
    net_wait(a->n, net_now_ns(a->n) + 1000000);
}

static void turns(struct app *a, unsigned count)
{
    while (count--) turn(a);
}

static void skip_time(struct app *a, uint64_t ns)
{
    a->skipped_ns += ns;
    turns(a, 3);
}

#define UNTIL(a, condition) \
    do { \
        uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS; \
        while (!(condition) && clock_mono_ns(clock_real()) < until_ns) turn(a); \
        assert_true(condition); \
    } while (0)

static void app_close(struct app *a)
{
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(net_stats(a->n)->queued_bytes, 0);
    assert_int_equal(net_reply_bytes(a->n), 0);
    turn(a);
    assert_int_equal(net_stats(a->n)->queue_nodes, 0);
    assert_int_equal(net_stats(a->n)->websockets, 0);
    assert_int_equal(a->opened, a->closed);
    net_close(a->n);
    park_close(&a->park);
    close(a->listen_fd);
    buf_free(&a->last_message);
}

static int setup(void **state)
{
    struct app *a = calloc(1, sizeof *a);
    a->limits = default_limits();
    a->use_users = true;
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* --- clients ------------------------------------------------------------------------------------------------ */

struct client {
    int fd;
    struct buf in;
    bool ended; /* end of stream or reset */
};

static int connect_unix(const char *path)
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

static struct client client_open(struct app *a)
{
    return (struct client){.fd = a->unix_path[0] ? connect_unix(a->unix_path) : connect_tcp(a->port)};
}

static void client_close(struct client *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    buf_free(&c->in);
}

static void client_read(struct client *c)
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

static void client_send(struct app *a, struct client *c, struct slice bytes)
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

static void client_say(struct app *a, struct client *c, const char *text)
{
    client_send(a, c, slice_str(text));
}

static bool client_has(struct client *c, const char *text)
{
    client_read(c);
    return c->in.len >= strlen(text) && memmem(c->in.data, c->in.len, text, strlen(text)) != NULL;
}

static bool client_ended(struct client *c)
{
    client_read(c);
    return c->ended;
}

static unsigned count_of(struct client *c, const char *text)
{
    unsigned count = 0;
    client_read(c);
    for (char *at = c->in.data; at && (at = strstr(at, text)); at++) count++;
    return count;
}

static bool client_got(struct client *c, size_t len)
{
    client_read(c);
    return c->in.len >= len;
}

/* frame_masked appends a client frame to `out`. */
static void frame_masked(struct buf *out, unsigned first_byte, struct slice payload)
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

static void ws_say(struct app *a, struct client *c, unsigned first_byte, struct slice payload)
{
    struct buf frame = {0};
    frame_masked(&frame, first_byte, payload);
    client_send(a, c, buf_slice(&frame));
    buf_free(&frame);
}

static const char upgrade[] = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/* ws_connect upgrades and drops the answer. */
static struct client ws_connect(struct app *a)
{
    struct client c = client_open(a);
    client_say(a, &c, upgrade);
    UNTIL(a, client_has(&c, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    assert_true(slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 101 ")));
    turn(a); /* accounts for the answer */
    c.in.len = 0;
    return c;
}

static struct frame *text_frame(size_t payload_len, char fill)
{
    uint8_t head[WS_HEADER_MAX];
    size_t head_len = ws_header(head, WS_OP_TEXT, payload_len);
    struct frame *f = frame_new(1, (uint32_t)(head_len + payload_len));
    memcpy(frame_data(f), head, head_len);
    memset(frame_data(f) + head_len, fill, payload_len);
    return f;
}

/* --- HTTP --------------------------------------------------------------------------------------------------- */

static void a_request_is_answered_and_the_connection_kept(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    for (unsigned i = 0; i < 3; i++) {
        client_say(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        UNTIL(a, client_has(&c, "\r\n\r\nhello"));
        assert_true(slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 200 OK\r\nDate: ")));
        assert_true(client_has(&c, "Content-Length: 5\r\n") && client_has(&c, "Content-Type: text/plain\r\n"));
        assert_false(client_has(&c, "Connection:"));
        c.in.len = 0;
    }
    assert_string_equal(a->peer, "127.0.0.1");
    assert_int_equal(net_stats(a->n)->http_requests, 3);
    assert_int_equal(net_stats(a->n)->accepted, 1);
    client_close(&c);
    UNTIL(a, net_connections(a->n) == 0);
    app_close(a);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c,
               "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
               "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n/3GET /4 HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&c, "/4"));
    const char *one = strstr(c.in.data, "\r\n\r\n/1"), *two = strstr(c.in.data, "\r\n\r\n/2"),
               *three = strstr(c.in.data, "\r\n\r\n/3"), *four = strstr(c.in.data, "\r\n\r\n/4");
    assert_true(one && two && three && four && one < two && two < three && three < four);
    client_close(&c);
    app_close(a);
}

static void a_pipelined_request_waits_for_the_late_answer_before_it(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, a->waiting.generation != 0);
    turns(a, 5);
    assert_int_equal(net_stats(a->n)->http_requests, 1);
    answer(a, net_conn(a->n, a->waiting), 200, SLICE("first"));
    UNTIL(a, client_has(&c, "\r\n\r\n/2"));
    assert_true(strstr(c.in.data, "first") < strstr(c.in.data, "\r\n\r\n/2"));
    client_close(&c);
    app_close(a);
}

static void pipelining_beyond_what_is_held_loses_nothing(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    struct buf many = {0};
    BUF_LIT(&many, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    unsigned requests = 0;
    while (many.len < 64 * INPUT_HELD_BYTES_MAX) {
        buf_printf(&many, "GET /n%u HTTP/1.1\r\nHost: x\r\nX-Fill: %0500u\r\n\r\n", requests, requests);
        requests++;
    }
    size_t sent = 0;
    for (unsigned i = 0; i < 50; i++) { /* as much as goes in while the first request is open */
        ssize_t n = send(c.fd, many.data + sent, many.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        turn(a);
    }
    assert_int_equal(net_stats(a->n)->http_requests, 1);
    /* The socket was not read to its end: the bound, and what the kernel had received when the cancel came. */
    assert_true(net_stats(a->n)->bytes_in < 16 * INPUT_HELD_BYTES_MAX && sent > 16 * INPUT_HELD_BYTES_MAX);
    answer(a, net_conn(a->n, a->waiting), 200, SLICE("first"));
    while (sent < many.len) {
        ssize_t n = send(c.fd, many.data + sent, many.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        turn(a);
        client_read(&c);
    }
    char last[32];
    snprintf(last, sizeof last, "\r\n\r\n/n%u", requests - 1);
    UNTIL(a, client_has(&c, last));
    const char *at = c.in.data;
    for (unsigned i = 0; i < requests; i++) {
        snprintf(last, sizeof last, "\r\n\r\n/n%u", i);
        at = strstr(at, last);
        assert_non_null(at);
    }
    buf_free(&many);
    client_close(&c);
    app_close(a);
}

static void a_head_may_come_in_any_pieces(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    for (const char *at = text; *at; at++) {
        client_send(a, &c, slice_of(at, 1));
        turns(a, 2);
    }
    UNTIL(a, client_has(&c, "\r\n\r\nabc"));
    client_close(&c);
    app_close(a);
}

static void a_chunked_body_is_handed_up_whole(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    turns(a, 3);
    client_say(a, &c, "6\r\n world\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&c, "\r\n\r\n/next"));
    assert_true(client_has(&c, "\r\n\r\nhello world"));
    client_close(&c);
    app_close(a);
}

static void a_body_of_the_largest_length_is_echoed(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    char *body = malloc(HTTP_BODY_BYTES_MAX);
    for (size_t i = 0; i < HTTP_BODY_BYTES_MAX; i++) body[i] = (char)('a' + i * 7 % 26);
    struct buf head = {0};
    buf_printf(&head, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n", HTTP_BODY_BYTES_MAX);
    client_send(a, &c, buf_slice(&head));
    client_send(a, &c, slice_of(body, HTTP_BODY_BYTES_MAX));
    UNTIL(a, client_got(&c, HTTP_BODY_BYTES_MAX));
    UNTIL(a, memcmp(c.in.data + c.in.len - 26, body + HTTP_BODY_BYTES_MAX - 26, 26) == 0);
    const char *echoed = strstr(c.in.data, "\r\n\r\n") + 4;
    assert_int_equal(c.in.data + c.in.len - echoed, HTTP_BODY_BYTES_MAX);
    assert_memory_equal(echoed, body, HTTP_BODY_BYTES_MAX);
    free(body);
    buf_free(&head);
    client_close(&c);
    app_close(a);
}

static void a_body_too_large_is_refused_and_the_answer_is_readable(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    char fill[65536];
    memset(fill, 'x', sizeof fill);
    for (unsigned i = 0; i < 8; i++) client_send(a, &c, slice_of(fill, sizeof fill)); /* it sends on regardless */
    UNTIL(a, client_ended(&c));
    assert_true(slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 413 ")));
    assert_true(client_has(&c, "Connection: close\r\n"));
    assert_true(client_has(&c, "Content-Type: application/problem+json\r\n"));
    assert_true(client_has(&c, "\"code\":\"http.body_too_large\",\"status_code\":413,\"request_id\":\""));
    assert_int_equal(net_stats(a->n)->timeouts, 0); /* its end came with the answer, not after a wait */
    client_close(&c);
    app_close(a);
}

static void a_waiting_client_is_told_to_continue(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    UNTIL(a, client_has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
    client_say(a, &c, "body");
    UNTIL(a, client_has(&c, "\r\n\r\nbody"));
    c.in.len = 0;
    client_say(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n");
    UNTIL(a, client_has(&c, "HTTP/1.1 413 "));
    assert_false(client_has(&c, "100 Continue"));
    client_close(&c);
    app_close(a);
}

static void head_gets_the_head_alone(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /there HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&c, "\r\n\r\n/there"));
    assert_true(client_has(&c, "Content-Length: 8\r\n"));
    assert_false(client_has(&c, "\r\n\r\n/nothing"));
    assert_int_equal(count_of(&c, "HTTP/1.1 404 Not Found"), 2);
    client_close(&c);
    app_close(a);
}

static void what_is_not_http_is_refused_as_a_problem(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "complete nonsense\r\n\r\n");
    UNTIL(a, client_ended(&c));
    assert_true(slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 4")) ||
                slice_starts(buf_slice(&c.in), SLICE("HTTP/1.1 5")));
    assert_true(client_has(&c, "{\"type\":\"about:blank\",\"title\":"));
    assert_int_equal(net_stats(a->n)->protocol_errors, 1);
    client_close(&c);
    app_close(a);
}

static void http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    UNTIL(a, client_has(&c, "\r\n\r\n/kept"));
    assert_true(client_has(&c, "Connection: keep-alive\r\n"));
    client_say(a, &c, "GET /last HTTP/1.0\r\n\r\n");
    UNTIL(a, client_ended(&c));
    assert_true(client_has(&c, "Connection: close\r\n\r\n/last"));
    client_close(&c);
    app_close(a);
}

static void a_reply_that_closes_lets_the_client_read_it(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /close HTTP/1.1\r\nHost: x\r\n\r\nGET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_ended(&c));
    assert_true(client_has(&c, "Connection: close\r\n\r\nbye"));
    assert_int_equal(net_stats(a->n)->http_requests, 1);
    client_close(&c);
    app_close(a);
}

static void a_half_closed_client_gets_all_its_answers(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    UNTIL(a, a->waiting.generation != 0);
    turns(a, 5);
    answer(a, net_conn(a->n, a->waiting), 200, SLICE("first"));
    UNTIL(a, client_ended(&c));
    assert_true(client_has(&c, "first") && client_has(&c, "\r\n\r\n/2"));
    client_close(&c);
    app_close(a);
}

static void an_answer_to_a_client_that_has_gone_goes_nowhere(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, a->waiting.generation != 0);
    assert_non_null(net_conn(a->n, a->waiting));
    struct linger reset = {.l_onoff = 1};
    setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(&c);
    UNTIL(a, net_connections(a->n) == 0);
    assert_null(net_conn(a->n, a->waiting));
    assert_int_equal(a->closed, 1);
    c = client_open(a); /* the slot again, under another generation */
    client_say(a, &c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&c, "/x"));
    assert_null(net_conn(a->n, a->waiting));
    client_close(&c);
    app_close(a);
}

/* --- WebSocket ---------------------------------------------------------------------------------------------- */

static void a_websocket_echoes_text_and_fragments(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    ws_say(a, &c, 0x81, SLICE("hello"));
    UNTIL(a, client_got(&c, 7));
    assert_memory_equal(c.in.data, "\x81\x05hello", 7);
    c.in.len = 0;
    ws_say(a, &c, 0x02, SLICE("frag"));
    turns(a, 2);
    ws_say(a, &c, 0x89, SLICE("ping"));
    UNTIL(a, client_got(&c, 6));
    assert_memory_equal(c.in.data, "\x8a\x04ping", 6);
    ws_say(a, &c, 0x80, SLICE("ment"));
    UNTIL(a, client_got(&c, 16));
    assert_memory_equal(c.in.data + 6,
                        "\x82\x08"
                        "fragment",
                        10);
    client_close(&c);
    app_close(a);
}

static void frames_right_behind_the_upgrade_are_not_lost(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    struct buf both = {0};
    buf_append(&both, upgrade, sizeof upgrade - 1);
    frame_masked(&both, 0x81, SLICE("early"));
    client_send(a, &c, buf_slice(&both));
    UNTIL(a, client_has(&c, "\r\n\r\n\x81\x05"
                            "early"));
    buf_free(&both);
    client_close(&c);
    app_close(a);
}

static void the_largest_message_is_echoed_and_a_longer_one_refused(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    char *payload = malloc(WS_MESSAGE_BYTES_MAX + 1);
    for (size_t i = 0; i < WS_MESSAGE_BYTES_MAX + 1; i++) payload[i] = (char)('a' + i % 23);
    ws_say(a, &c, 0x81, slice_of(payload, WS_MESSAGE_BYTES_MAX));
    UNTIL(a, client_got(&c, WS_MESSAGE_BYTES_MAX + 10));
    assert_memory_equal(c.in.data + 10, payload, WS_MESSAGE_BYTES_MAX);
    c.in.len = 0;
    ws_say(a, &c, 0x81, slice_of(payload, WS_MESSAGE_BYTES_MAX + 1));
    UNTIL(a, client_ended(&c));
    assert_int_equal(c.in.len, 4);
    assert_memory_equal(c.in.data, "\x88\x02\x03\xf1", 4); /* 1009 */
    free(payload);
    client_close(&c);
    app_close(a);
}

static void the_peers_close_is_echoed(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    ws_say(a, &c, 0x88,
           SLICE("\x03\xe8"
                 "bye"));
    UNTIL(a, client_ended(&c));
    assert_int_equal(c.in.len, 4);
    assert_memory_equal(c.in.data, "\x88\x02\x03\xe8", 4);
    client_close(&c);
    c = ws_connect(a);
    ws_say(a, &c, 0x88, SLICE(""));
    UNTIL(a, client_ended(&c));
    assert_int_equal(c.in.len, 2);
    assert_memory_equal(c.in.data, "\x88\x00", 2);
    client_close(&c);
    app_close(a);
}

static void behind_both_close_frames_the_connection_is_closed_at_once(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    ws_say(a, &c, 0x88, SLICE("\x03\xe8"));
    UNTIL(a, client_ended(&c) && net_connections(a->n) == 0); /* the client has not closed its end */
    client_close(&c);

    c = ws_connect(a);
    ws_say(a, &c, 0x81, SLICE("close"));
    UNTIL(a, client_got(&c, 13));
    ws_say(a, &c, 0x88, SLICE("\x0f\xa1"));
    UNTIL(a, client_ended(&c) && net_connections(a->n) == 0);
    client_close(&c);

    c = ws_connect(a); /* unless something comes behind the peer's, which a close would answer with a reset */
    client_say(a, &c, "\x88\x80\x01\x02\x03\x04\x81\x80\x01\x02\x03\x04");
    UNTIL(a, client_ended(&c));
    turns(a, 5);
    assert_int_equal(net_connections(a->n), 1);
    client_close(&c);
    assert_int_equal(net_stats(a->n)->timeouts, 0);
    app_close(a);
}

static void our_close_waits_for_the_peers(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    ws_say(a, &c, 0x81, SLICE("close"));
    UNTIL(a, client_got(&c, 13));
    assert_memory_equal(c.in.data,
                        "\x88\x0b\x0f\xa1"
                        "asked for",
                        13);
    assert_null(net_conn(a->n, a->last_ws)); /* closing: nobody finds it any more */
    ws_say(a, &c, 0x81, SLICE("too late"));
    turns(a, 5);
    assert_int_equal(a->messages, 1);
    assert_int_equal(net_connections(a->n), 1);
    assert_false(client_ended(&c));
    ws_say(a, &c, 0x88, SLICE("\x0f\xa1"));
    UNTIL(a, client_ended(&c));
    client_close(&c);

    c = ws_connect(a); /* and does not wait for ever */
    ws_say(a, &c, 0x81, SLICE("close"));
    UNTIL(a, client_got(&c, 13));
    skip_time(a, a->limits.close_timeout_ns + SECOND);
    UNTIL(a, client_ended(&c));
    assert_int_equal(net_stats(a->n)->timeouts, 1);
    client_close(&c);
    app_close(a);
}

static void a_protocol_error_closes_with_its_code(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    client_send(a, &c, SLICE("\x81\x05hello")); /* not masked */
    UNTIL(a, client_ended(&c));
    assert_int_equal(c.in.len, 4);
    assert_memory_equal(c.in.data, "\x88\x02\x03\xea", 4); /* 1002 */
    client_close(&c);
    app_close(a);
}

static void a_connection_aborted_in_its_handler_is_closed_once(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct buf three = {0};
    frame_masked(&three, 0x81, SLICE("first"));
    frame_masked(&three, 0x81, SLICE("abort"));
    frame_masked(&three, 0x81, SLICE("never"));
    client_send(a, &c, buf_slice(&three));
    UNTIL(a, client_ended(&c));
    assert_int_equal(a->messages, 2);
    UNTIL(a, a->closed == 1);
    client_close(&c);
    c = client_open(a);
    client_say(a, &c, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_ended(&c));
    assert_int_equal(c.in.len, 0);
    buf_free(&three);
    client_close(&c);
    app_close(a);
}

static void too_many_requests_in_flight_pause_reading(void **state)
{
    struct app *a = *state;
    a->hold_requests = true;
    app_open(a);
    struct client c = ws_connect(a);
    struct buf many = {0};
    for (unsigned i = 0; i < 40; i++) frame_masked(&many, 0x81, slice_of("0123456789abcdef", i % 16));
    client_send(a, &c, buf_slice(&many));
    turns(a, 10);
    assert_int_equal(a->messages, a->limits.requests_in_flight_max);
    for (unsigned i = 0; i < 40 - a->limits.requests_in_flight_max; i++) {
        net_request_end(a->n, net_conn(a->n, a->last_ws));
        turns(a, 2);
        assert_int_equal(a->messages, a->limits.requests_in_flight_max + i + 1);
    }
    buf_free(&many);
    client_close(&c);
    app_close(a);
}

static void a_flood_into_a_paused_connection_is_left_in_the_socket(void **state)
{
    struct app *a = *state;
    a->hold_requests = a->stop_echo = true;
    app_open(a);
    struct client c = ws_connect(a);
    char fill[1000];
    memset(fill, 'f', sizeof fill);
    struct buf many = {0};
    unsigned messages = 3000;
    for (unsigned i = 0; i < messages; i++) frame_masked(&many, 0x81, slice_of(fill, sizeof fill));
    size_t sent = 0;
    for (unsigned i = 0; i < 100; i++) {
        ssize_t n = send(c.fd, many.data + sent, many.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        turn(a);
    }
    assert_int_equal(a->messages, a->limits.requests_in_flight_max);
    assert_true(net_stats(a->n)->bytes_in < 16 * INPUT_HELD_BYTES_MAX && sent > 16 * INPUT_HELD_BYTES_MAX);
    unsigned ended = 0;
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    while (ended < messages && clock_mono_ns(clock_real()) < until_ns) {
        ssize_t n = sent < many.len ? send(c.fd, many.data + sent, many.len - sent, MSG_NOSIGNAL) : 0;
        if (n > 0) sent += (size_t)n;
        while (ended < a->messages) {
            net_request_end(a->n, net_conn(a->n, a->last_ws));
            ended++;
        }
        turn(a);
    }
    assert_int_equal(a->messages, messages);
    buf_free(&many);
    client_close(&c);
    app_close(a);
}

static void a_client_that_does_not_read_its_answers_is_not_read_from(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    char *payload = malloc(50000);
    memset(payload, 'z', 50000);
    struct buf frame = {0};
    frame_masked(&frame, 0x81, slice_of(payload, 50000));
    size_t sent = 0, whole = 0;
    for (unsigned i = 0; i < 3000; i++) {
        ssize_t n = send(c.fd, frame.data + sent, frame.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        if (sent == frame.len) {
            whole++;
            sent = 0;
        }
        if (i % 16 == 0) turn(a);
    }
    struct conn *conn = net_conn(a->n, a->last_ws);
    assert_non_null(conn);
    assert_true(net_queued(conn) > 0 && net_queued(conn) < REPLY_PAUSE_BYTES + 2 * 50000);
    assert_true(a->messages < whole);
    while (sent != 0) { /* the frame that is under way */
        ssize_t n = send(c.fd, frame.data + sent, frame.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        if (sent == frame.len) {
            whole++;
            sent = 0;
        }
        client_read(&c);
        turn(a);
    }
    UNTIL(a, client_got(&c, whole * 50004));
    assert_int_equal(c.in.len, whole * 50004);
    free(payload);
    buf_free(&frame);
    client_close(&c);
    app_close(a);
}

/* --- sending ------------------------------------------------------------------------------------------------ */

static void a_slow_reader_fills_its_queue_and_then_gets_every_byte_in_order(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    unsigned accepted = 0, rounds = 0;
    enum status s = STATUS_OK;
    while (s == STATUS_OK) { /* frames of many lengths, several a turn: single, copied and vectored sends */
        for (unsigned i = 0; s == STATUS_OK && i < 1 + rounds % 7; i++) {
            struct frame *f =
                text_frame(1 + accepted * 997 % (rounds % 3 == 0 ? 120 : 30000), (char)('a' + accepted % 26));
            frame_ref(f, 0);
            s = net_send(a->n, conn, f, CONN_DURABLE);
            frame_unref(f, 0);
            if (s == STATUS_OK) accepted++;
        }
        rounds++;
        turn(a);
        assert_true(rounds < 100000);
    }
    assert_int_equal(s, STATUS_FULL);
    assert_true(net_queued(conn) <= a->limits.send_queue_bytes_max);
    assert_true(net_queued(conn) > a->limits.send_queue_bytes_max - 40000);
    assert_true(net_stats(a->n)->short_sends > 0);
    assert_int_equal(a->drains, 0);
    UNTIL(a, (client_read(&c), net_queued(conn) == 0));
    assert_int_equal(a->drains, 1);
    turns(a, 3);
    client_read(&c);
    size_t at = 0;
    for (unsigned i = 0; i < accepted; i++) {
        const unsigned char *head = (const unsigned char *)c.in.data + at;
        size_t len = head[1] < 126 ? head[1] : (size_t)(head[2] << 8 | head[3]);
        at += head[1] < 126 ? 2 : 4;
        assert_true(at + len <= c.in.len);
        for (size_t k = 0; k < len; k++) assert_int_equal(c.in.data[at + k], 'a' + i % 26);
        at += len;
    }
    assert_int_equal(at, c.in.len);
    client_close(&c);
    app_close(a);
}

/* A Unix socket takes a small frame whole or not at all, so that a send meets a socket without any room. */
static void a_send_into_a_full_socket_waits_for_room(void **state)
{
    struct app *a = *state;
    snprintf(a->unix_path, sizeof a->unix_path, "/tmp/net_test.%d.sock", (int)getpid());
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *f = text_frame(996, 'e');
    frame_ref(f, 0);
    size_t sent = 0;
    while (net_queued(conn) < 20 * 1000) {
        assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_OK);
        sent += 1000;
        turn(a);
        assert_ptr_equal(net_conn(a->n, a->last_ws), conn);
    }
    frame_unref(f, 0);
    assert_int_equal(net_stats(a->n)->short_sends, 1);
    assert_int_equal(net_queued(conn) % 1000, 0);
    UNTIL(a, client_got(&c, sent));
    assert_int_equal(c.in.len, sent);
    client_close(&c);
    app_close(a);
    unlink(a->unix_path);
}

static void ephemerals_are_bounded_and_dropped_for_durable_pushes(void **state)
{
    struct app *a = *state;
    a->limits.send_queue_bytes_max = 100000;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *typing = text_frame(996, 't'), *durable = text_frame(9996, 'd');
    frame_ref(typing, 0);
    frame_ref(durable, 0);
    unsigned num_typing = 0, num_durable = 0;
    while (net_send(a->n, conn, typing, CONN_EPHEMERAL) == STATUS_OK) num_typing++;
    assert_int_equal(num_typing, EPHEMERAL_QUEUE_BYTES_MAX / 1000);
    assert_int_equal(net_stats(a->n)->ephemerals_dropped, 1);
    while (net_send(a->n, conn, durable, CONN_DURABLE) == STATUS_OK) num_durable++;
    assert_int_equal(num_durable, 10); /* as many as without ephemerals: those went */
    assert_int_equal(net_queued(conn), 100000);
    assert_int_equal(net_send(a->n, conn, typing, CONN_EPHEMERAL), STATUS_FULL);
    UNTIL(a, client_got(&c, 100000));
    assert_int_equal(c.in.len, 100000);
    assert_null(memchr(c.in.data, 't', c.in.len));
    frame_unref(typing, 0);
    frame_unref(durable, 0);
    client_close(&c);
    app_close(a);
}

/* A page of history stands behind the pushes that it goes on from: without them it would show a hole. */
static void a_close_that_drops_pushes_drops_the_pages_behind_them(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *push = text_frame(996, 'd'), *page = text_frame(996, 'p');
    frame_ref(push, 0);
    frame_ref(page, 0);
    assert_int_equal(net_send(a->n, conn, push, CONN_DURABLE), STATUS_OK);
    assert_int_equal(net_send(a->n, conn, page, CONN_REPLAY), STATUS_OK);
    net_reply_text(a->n, conn, SLICE("kept"));
    size_t answer = 2 + 4;
    assert_int_equal(net_reply_bytes(a->n), 1000 + answer);
    net_ws_close(a->n, conn, 4200, "too slow", true);
    assert_int_equal(net_reply_bytes(a->n), answer + 12);
    UNTIL(a, client_has(&c, "\x81\x04kept\x88\x0a\x10\x68too slow"));
    assert_int_equal(c.in.len, answer + 12); /* and nothing else */
    frame_unref(push, 0);
    frame_unref(page, 0);
    client_close(&c);
    app_close(a);
}

static void a_frame_longer_than_the_cap_passes_an_empty_queue(void **state)
{
    struct app *a = *state;
    a->limits.send_queue_bytes_max = 1000;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *f = text_frame(5000, 'l');
    frame_ref(f, 0);
    assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_OK);
    assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_FULL);
    UNTIL(a, client_got(&c, 5004));
    turns(a, 3);
    assert_int_equal(a->drains, 1);
    struct frame *third = text_frame(400, 't');
    frame_ref(third, 0);
    assert_int_equal(net_send(a->n, conn, third, CONN_DURABLE), STATUS_OK);
    assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_FULL);
    turns(a, 3);
    assert_int_equal(a->drains, 2); /* whoever was refused is told, though the queue was not half full */
    frame_unref(third, 0);
    frame_unref(f, 0);
    client_close(&c);
    app_close(a);
}

static void a_wanted_drain_comes_once_when_the_queue_is_empty(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    net_reply_text(a->n, conn, SLICE("x"));
    net_want_drain(a->n, conn);
    assert_int_equal(a->drains, 0);
    turns(a, 5);
    assert_int_equal(a->drains, 1);
    net_want_drain(a->n, conn); /* nothing queued: with the next turn */
    turns(a, 5);
    assert_int_equal(a->drains, 2);
    client_close(&c);
    app_close(a);
}

#define FAN 1000u

static void one_frame_reaches_a_thousand_and_is_freed_once(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client *clients = calloc(FAN, sizeof *clients);
    for (unsigned i = 0; i < FAN; i++) clients[i] = ws_connect(a);
    _Atomic int64_t account = 5000;
    struct frame *f = text_frame(100, 'f');
    f->account = &account;
    f->charged = 5000;
    frame_ref(f, 0);
    uint32_t at = 0;
    unsigned sent = 0;
    for (struct conn *conn; (conn = net_each(a->n, &at)); sent++)
        assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_OK);
    assert_int_equal(sent, FAN);
    assert_int_equal(net_stats(a->n)->queue_nodes, 0); /* one entry fits the connection itself */
    frame_unref(f, 0);
    assert_int_equal(account, 5000);
    for (unsigned i = 0; i < FAN; i++) UNTIL(a, client_got(&clients[i], 102));
    turn(a);
    assert_int_equal(account, 0);
    for (unsigned i = 0; i < FAN; i++) {
        assert_int_equal(clients[i].in.len, 102);
        client_close(&clients[i]);
    }
    free(clients);
    app_close(a);
}

/* More connections with several small frames each than the scratch holds in a turn. */
static void sends_beyond_the_scratch_wait_for_the_next_turn(void **state)
{
    struct app *a = *state;
    app_open(a);
    unsigned num = 2 * SEND_SCRATCH_BYTES / (SEND_COPY_BYTES_MAX - 100);
    struct client *clients = calloc(num, sizeof *clients);
    for (unsigned i = 0; i < num; i++) clients[i] = ws_connect(a);
    struct frame *f = text_frame(1000, 's');
    frame_ref(f, 0);
    uint32_t at = 0;
    for (struct conn *conn; (conn = net_each(a->n, &at));)
        for (unsigned i = 0; i < 16; i++) assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_OK);
    frame_unref(f, 0);
    for (unsigned i = 0; i < num; i++) UNTIL(a, client_got(&clients[i], 16 * 1004));
    turns(a, 2);
    assert_int_equal(net_stats(a->n)->frames_out, num * 17); /* with the answer to its upgrade */
    for (unsigned i = 0; i < num; i++) client_close(&clients[i]);
    free(clients);
    app_close(a);
}

/* sends_of queues frames of one length before a turn and returns in how many sends they left. */
static uint64_t sends_of(struct app *a, struct client *c, size_t len, unsigned num)
{
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *f = text_frame(len, 'v');
    frame_ref(f, 0);
    uint64_t before = net_stats(a->n)->sends;
    size_t had = c->in.len, framed = len + (len < 126 ? 2 : len < 65536 ? 4 : 10);
    for (unsigned i = 0; i < num; i++) assert_int_equal(net_send(a->n, conn, f, CONN_DURABLE), STATUS_OK);
    frame_unref(f, 0);
    UNTIL(a, client_got(c, had + num * framed));
    return net_stats(a->n)->sends - before;
}

static void one_send_is_bounded_in_frames_and_bytes(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    /* frames that are too many for one copy and few bytes: their number bounds a send */
    size_t short_len = 2 * SEND_COPY_BYTES_MAX / SEND_VECTOR_MAX;
    assert_int_equal(sends_of(a, &c, short_len, SEND_VECTOR_MAX), 1);
    assert_in_range(sends_of(a, &c, short_len, 3 * SEND_VECTOR_MAX), 3, 6);
    /* few long ones: their bytes do */
    assert_int_equal(sends_of(a, &c, SEND_BYTES_MAX / 8, 4), 1);
    assert_in_range(sends_of(a, &c, SEND_BYTES_MAX / 8, 24), 3, 24);
    client_close(&c);
    app_close(a);
}

/* --- bounds, deadlines, ends -------------------------------------------------------------------------------- */

static void clients_beyond_the_bound_wait_in_the_backlog(void **state)
{
    struct app *a = *state;
    a->limits.connections_max = 2;
    app_open(a);
    struct client c[3];
    for (unsigned i = 0; i < 3; i++) {
        c[i] = client_open(a);
        client_say(a, &c[i], "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    UNTIL(a, client_has(&c[0], "/x") && client_has(&c[1], "/x"));
    turns(a, 20);
    assert_false(client_has(&c[2], "/x"));
    assert_false(client_ended(&c[2]));
    assert_int_equal(net_stats(a->n)->accept_errors, 0);
    client_close(&c[0]);
    UNTIL(a, client_has(&c[2], "/x"));
    client_close(&c[1]);
    client_close(&c[2]);
    app_close(a);
}

/* says_and_ends sends a request whose answer the gateway closes the connection behind. */
static void says_and_ends(struct app *a, struct client *c, const char *request, const char *answer)
{
    client_say(a, c, request);
    UNTIL(a, client_has(c, answer) && client_has(c, "Connection: close\r\n"));
    UNTIL(a, client_ended(c));
}

static void with_places_for_refusals_who_is_too_many_is_told_so(void **state)
{
    struct app *a = *state;
    a->limits.connections_max = 2 + 8;
    a->limits.refused_max = 8;
    app_open(a);
    struct client in[2] = {client_open(a), client_open(a)};
    for (unsigned i = 0; i < 2; i++) {
        client_say(a, &in[i], "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        UNTIL(a, client_has(&in[i], "/x"));
        assert_int_equal(a->refusal, 0);
    }
    struct client out = client_open(a);
    says_and_ends(a, &out, "GET /y HTTP/1.1\r\nHost: x\r\n\r\n", "/y");
    assert_int_equal(a->refusal, CONN_REFUSED_FULL);
    client_close(&out);
    UNTIL(a, net_connections(a->n) == 2);
    client_close(&in[0]);
    UNTIL(a, net_connections(a->n) == 1);
    out = client_open(a);
    client_say(a, &out, "GET /z HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&out, "/z"));
    assert_int_equal(a->refusal, 0);
    client_close(&out);
    client_close(&in[1]);
    app_close(a);
}

static void a_bound_may_be_shared_and_what_is_let_in_is_counted_back(void **state)
{
    struct app *a = *state;
    _Atomic uint32_t all = 3; /* other cores have these */
    a->limits.refused_max = 8;
    a->limits.open_shared = &all;
    a->limits.open_shared_max = 4;
    app_open(a);
    struct client in = client_open(a), out;
    client_say(a, &in, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&in, "/x"));
    assert_int_equal(atomic_load(&all), 4);
    out = client_open(a);
    says_and_ends(a, &out, "GET /y HTTP/1.1\r\nHost: x\r\n\r\n", "/y");
    assert_int_equal(a->refusal, CONN_REFUSED_FULL);
    assert_int_equal(atomic_load(&all), 4);
    client_close(&out);
    client_close(&in);
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(atomic_load(&all), 3);
    app_close(a);
}

static void a_refused_request_comes_without_its_body_and_waits_for_nobody(void **state)
{
    struct app *a = *state;
    a->refuse_all = true;
    a->limits.refused_max = 8;
    app_open(a);
    struct client c = client_open(a), silent = client_open(a), half = client_open(a);
    client_say(a, &half, "GET /x HTT");
    says_and_ends(a, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nab", "Content-Length: 0\r\n");
    assert_int_equal(a->refusal, 3);
    assert_int_equal(a->body_len, 0);
    skip_time(a, 3 * SECOND); /* the close timeout, not the one of a head */
    UNTIL(a, client_ended(&silent) && client_ended(&half));
    client_close(&c);
    client_close(&silent);
    client_close(&half);
    app_close(a);
}

static void more_refusals_than_there_are_places_for_end_without_a_word(void **state)
{
    struct app *a = *state;
    a->refuse_all = true;
    a->limits.refused_max = 8;
    app_open(a);
    struct client c[20];
    for (unsigned i = 0; i < 20; i++) c[i] = client_open(a);
    UNTIL(a, net_stats(a->n)->refused == 20);
    UNTIL(a, net_connections(a->n) <= 4);
    unsigned ended = 0;
    for (unsigned i = 0; i < 20; i++) ended += client_ended(&c[i]);
    assert_int_equal(ended, 16);
    for (unsigned i = 0; i < 20; i++) client_close(&c[i]);
    app_close(a);
}

/* --- who has ended, and whose peer has not ---------------------------------------------------------------------- */

/* client_refused sends what is no request and reads the answer and the end of the stream, but does not close. */
static struct client client_refused(struct app *a)
{
    struct client c = client_open(a);
    client_say(a, &c, "nonsense\r\n\r\n");
    UNTIL(a, client_ended(&c));
    assert_true(client_has(&c, "HTTP/1.1 ") && client_has(&c, "Connection: close\r\n"));
    return c;
}

static void a_peer_that_does_not_end_is_waited_for_so_long_and_no_longer(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_refused(a);
    skip_time(a, 2 * SECOND - 3 * TIMER_TICK_MS * 1000000ull);
    assert_int_equal(net_connections(a->n), 1);
    client_say(a, &c, "is read, and discarded");
    turns(a, 3);
    skip_time(a, 5 * TIMER_TICK_MS * 1000000ull); /* which is no reason to wait longer */
    UNTIL(a, net_connections(a->n) == 0);
    client_close(&c);
    app_close(a);
}

static void who_has_ended_gives_its_place_to_another(void **state)
{
    struct app *a = *state;
    _Atomic uint32_t all = 0;
    a->limits.open_shared = &all;
    a->limits.open_shared_max = 1;
    a->limits.connections_max = 1 + 8 + 4;
    a->limits.refused_max = 8;
    a->limits.lingering_max = 4;
    app_open(a);
    struct client ended[4];
    for (unsigned i = 0; i < 4; i++) {
        ended[i] = client_refused(a);
        assert_int_equal(atomic_load(&all), 0);
    }
    assert_int_equal(net_connections(a->n), 4); /* all of them are waited for */
    struct client in = client_open(a);
    client_say(a, &in, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&in, "/x"));
    assert_int_equal(a->refusal, 0);
    assert_int_equal(atomic_load(&all), 1);
    client_close(&in);
    UNTIL(a, net_connections(a->n) == 4);
    struct client more = client_refused(a); /* there is no place to wait for it */
    UNTIL(a, net_connections(a->n) == 4);
    client_close(&more);
    for (unsigned i = 0; i < 4; i++) client_close(&ended[i]);
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(atomic_load(&all), 0);
    app_close(a);
}

static void who_said_that_nothing_follows_is_not_waited_for(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    UNTIL(a, client_ended(&c) && net_connections(a->n) == 0);
    assert_int_equal(net_stats(a->n)->timeouts, 0);
    assert_true(client_has(&c, "/x"));
    client_close(&c);

    c = client_open(a); /* unless something did */
    client_say(a, &c, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nmore");
    UNTIL(a, client_ended(&c));
    turns(a, 5);
    assert_int_equal(net_connections(a->n), 1);
    client_close(&c);

    c = client_open(a); /* while the answer was waited for */
    client_say(a, &c, "GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    UNTIL(a, a->waiting.generation != 0);
    uint64_t before = net_stats(a->n)->bytes_in;
    client_say(a, &c, "more");
    UNTIL(a, net_stats(a->n)->bytes_in == before + 4);
    answer(a, net_conn(a->n, a->waiting), 200, SLICE("x"));
    net_flush(a->n); /* it leaves before what came is dropped */
    UNTIL(a, client_ended(&c));
    turns(a, 5);
    assert_int_equal(net_connections(a->n), 1);
    client_close(&c);
    app_close(a);
}

static void answers_are_charged_to_whoever_asked(void **state)
{
    struct app *a = *state;
    struct net_account first = {0}, second = {0};
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    conn_charge(conn, &first);
    net_reply_text(a->n, conn, SLICE("hello"));
    assert_int_equal(first.bytes, 7);
    assert_int_equal(net_reply_bytes(a->n), 7);
    conn_charge(conn, &second);
    assert_int_equal(first.bytes, 0);
    assert_int_equal(second.bytes, 7);
    UNTIL(a, client_has(&c, "hello"));
    turns(a, 2);
    assert_int_equal(second.bytes, 0);
    net_reply_text(a->n, conn, SLICE("never read"));
    client_close(&c);
    UNTIL(a, net_connections(a->n) == 0);
    assert_int_equal(second.bytes, 0);
    app_close(a);
}

static void deadlines_of_http_close_slow_and_silent_clients(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client silent = client_open(a), slow = client_open(a), body = client_open(a), kept = client_open(a);
    client_say(a, &slow, "GET /x HTTP/1.1\r\nHo");
    client_say(a, &body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab");
    client_say(a, &kept, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&kept, "/x"));
    turns(a, 3);
    skip_time(a, 9 * SECOND);
    client_say(a, &slow, "st");
    turns(a, 3);
    assert_int_equal(net_connections(a->n), 4);
    skip_time(a, 2 * SECOND); /* absolute: the trickle did not help */
    UNTIL(a, client_ended(&slow) && client_ended(&silent));
    assert_false(client_ended(&body));
    skip_time(a, 20 * SECOND);
    UNTIL(a, client_ended(&body));
    assert_false(client_ended(&kept));
    skip_time(a, 30 * SECOND);
    UNTIL(a, client_ended(&kept));
    assert_int_equal(net_stats(a->n)->timeouts, 2);
    client_close(&silent);
    client_close(&slow);
    client_close(&body);
    client_close(&kept);
    app_close(a);
}

static void a_silent_websocket_is_pinged_and_then_closed(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client silent = ws_connect(a), alive = ws_connect(a);
    skip_time(a, 29 * SECOND);
    assert_false(client_got(&silent, 1));
    skip_time(a, 2 * SECOND);
    UNTIL(a, client_got(&silent, 2) && client_got(&alive, 2));
    assert_memory_equal(silent.in.data, "\x89\x00", 2);
    ws_say(a, &alive, 0x8a, SLICE(""));
    turns(a, 3);
    skip_time(a, 30 * SECOND);
    UNTIL(a, client_got(&silent, 2 + 8));
    assert_memory_equal(silent.in.data + 2, "\x88\x06\x03\xe9idle", 8); /* 1001 */
    assert_false(client_ended(&alive));
    assert_int_equal(net_stats(a->n)->timeouts, 1);
    skip_time(a, 3 * SECOND);
    UNTIL(a, client_ended(&silent));
    assert_int_equal(net_connections(a->n), 1);
    client_close(&silent);
    client_close(&alive);
    app_close(a);
}

static void a_reader_that_makes_no_progress_is_closed_as_too_slow(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *f = text_frame(60000, 'q');
    frame_ref(f, 0);
    while (net_send(a->n, conn, f, CONN_DURABLE) == STATUS_OK) turn(a);
    frame_unref(f, 0);
    turns(a, 3);
    for (unsigned i = 0; i < 4; i++) { /* it lives, it only does not read */
        skip_time(a, 8 * SECOND);
        ws_say(a, &c, 0x8a, SLICE(""));
        turns(a, 2);
    }
    assert_int_equal(net_stats(a->n)->slow_closed, 1);
    assert_null(net_conn(a->n, a->last_ws));
    skip_time(a, SECOND); /* within the close timeout */
    assert_int_equal(net_stats(a->n)->slow_closed, 1);
    assert_int_equal(net_connections(a->n), 1);
    UNTIL(a, client_has(&c, "\x88\x0a\x10\x68too slow")); /* 4200, behind the frame that was under way */
    ws_say(a, &c, 0x88, SLICE("\x10\x68"));
    UNTIL(a, client_ended(&c));
    client_close(&c);
    app_close(a);
}

/* --- what a connection waits for input with ------------------------------------------------------------------- */

static enum conn_wait waits_with(struct app *a)
{
    return (enum conn_wait)net_conn(a->n, a->last_ws)->wait;
}

/* says sends one text and waits until it is handed up. */
static void says(struct app *a, struct client *c, struct slice text)
{
    unsigned before = a->messages;
    ws_say(a, c, 0x81, text);
    UNTIL(a, a->messages == before + 1);
    turn(a);
}

static void who_says_little_is_polled_and_who_says_much_has_a_receive_armed(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    struct client c = ws_connect(a);
    assert_int_equal(waits_with(a), WAIT_POLL);
    for (unsigned i = 0; i < 2 * RECV_STREAM_AFTER; i++) { /* now and then, for long */
        skip_time(a, 2 * RECV_SOON_MS * 1000000ull);
        says(a, &c, SLICE("now and then"));
        assert_int_equal(waits_with(a), WAIT_POLL);
    }
    for (unsigned i = 0; i < 2 * RECV_STREAM_AFTER; i++) says(a, &c, SLICE("again and again"));
    assert_int_equal(waits_with(a), WAIT_STREAM);
    client_close(&c);
    app_close(a);
}

static void who_falls_silent_is_polled_again_and_heard_when_it_speaks(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    struct client c = ws_connect(a);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 2 * RECV_STREAM_AFTER; i++) says(a, &c, SLICE("much"));
        assert_int_equal(waits_with(a), WAIT_STREAM);
        skip_time(a, 31 * SECOND); /* the ping is due */
        UNTIL(a, waits_with(a) == WAIT_POLL);
        ws_say(a, &c, 0x8a, SLICE("")); /* the pong is no reason to expect more */
        turns(a, 5);
        assert_int_equal(waits_with(a), WAIT_POLL);
    }
    says(a, &c, SLICE("heard"));
    client_close(&c);
    app_close(a);
}

/* Texts of any length are sent at any time between two turns, while the wait goes to and fro. */
static void what_comes_while_the_wait_changes_is_read(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    struct client c = ws_connect(a);
    unsigned said = 0, changes = 0;
    enum conn_wait before = WAIT_POLL;
    for (unsigned i = 0; i < 600; i++) {
        if (i % 40 == 20) a->skipped_ns += 31 * SECOND;
        if (i % 40 < 12 || i % 3 == 0) {
            ws_say(a, &c, 0x81, SLICE("in between"));
            said++;
        }
        if (i % 7 != 0) turn(a);
        changes += waits_with(a) != before;
        before = waits_with(a);
    }
    UNTIL(a, a->messages == said);
    assert_true(changes > 20);
    client_close(&c);
    app_close(a);
}

static void a_half_closed_client_is_noticed_whatever_it_waits_with(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    struct client quiet = ws_connect(a), loud = ws_connect(a);
    for (unsigned i = 0; i < 2 * RECV_STREAM_AFTER; i++) says(a, &loud, SLICE("much"));
    assert_int_equal(waits_with(a), WAIT_STREAM);
    shutdown(quiet.fd, SHUT_WR);
    shutdown(loud.fd, SHUT_WR);
    UNTIL(a, client_ended(&quiet) && client_ended(&loud));
    client_close(&quiet);
    client_close(&loud);
    app_close(a);
}

/* Aborts, resets and half-closed clients with full queues and running sends, in every order. */
static void teardown_under_load_leaks_nothing(void **state)
{
    struct app *a = *state;
    app_open(a);
    enum { NUM = 64, ROUNDS = 400 };
    struct client clients[NUM];
    for (unsigned i = 0; i < NUM; i++) clients[i] = ws_connect(a);
    unsigned dice = 12345;
    char payload[5000];
    memset(payload, 'p', sizeof payload);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct frame *f = text_frame(20000, 'x');
        frame_ref(f, 0);
        uint32_t at = 0;
        for (struct conn *conn; (conn = net_each(a->n, &at));) {
            dice = dice * 1103515245 + 12345;
            if (conn_is_websocket(conn) && net_send(a->n, conn, f, CONN_DURABLE) == STATUS_FULL)
                net_ws_close(a->n, conn, 4200, "too slow", dice & 0x10000);
            if ((dice >> 16) % 97 == 0) net_abort(a->n, conn);
        }
        frame_unref(f, 0);
        for (unsigned i = 0; i < NUM; i++) {
            dice = dice * 1103515245 + 12345;
            struct client *c = &clients[i];
            switch (dice >> 16 & 31) {
            case 0:
                client_close(c);
                *c = client_open(a);
                client_say(a, c, upgrade);
                break;
            case 1: shutdown(c->fd, SHUT_WR); break;
            case 2:
                client_close(c);
                *c = client_open(a);
                client_say(a, c, "POST /echo HTTP/1.1\r\nHo");
                break;
            case 3:
            case 4:
                client_read(c);
                c->in.len = 0;
                break;
            case 5: send(c->fd, payload, sizeof payload, MSG_NOSIGNAL); break;
            default: break;
            }
        }
        if (round % 50 == 0) a->skipped_ns += 5 * SECOND;
        turn(a);
    }
    for (unsigned i = 0; i < NUM; i++) client_close(&clients[i]);
    app_close(a);
}

/* Connections that are still open when the process ends are freed with the net. */
static void closing_the_net_frees_open_connections(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client ws = ws_connect(a), partial = client_open(a), body = client_open(a);
    ws_say(a, &ws, 0x01, SLICE("half a message"));
    client_say(a, &partial, "GET /x HT");
    client_say(a, &body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab");
    turns(a, 5);
    struct frame *f = text_frame(100, 'x');
    frame_ref(f, 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(net_send(a->n, net_conn(a->n, a->last_ws), f, CONN_DURABLE), STATUS_OK);
    frame_unref(f, 0);
    net_flush(a->n);
    net_close(a->n);
    park_close(&a->park);
    close(a->listen_fd);
    buf_free(&a->last_message);
    client_close(&ws);
    client_close(&partial);
    client_close(&body);
}

/* All speak before a turn, so that it begins a receive for each of them at once. */
static void more_input_than_receive_buffers_is_read_in_the_end(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    enum { NUM = RECV_BUFFERS + 100 };
    struct client *clients = calloc(NUM, sizeof *clients);
    for (unsigned i = 0; i < NUM; i++) clients[i] = ws_connect(a);
    for (unsigned i = 0; i < NUM; i++) ws_say(a, &clients[i], 0x81, SLICE("all at once"));
    for (unsigned i = 0; i < NUM; i++) ring_enter(a->n->ring, false, 0); /* the kernel tells of no more than some at a time */
    UNTIL(a, a->messages == NUM);
    assert_true(net_stats(a->n)->recv_enobufs > 0);
    assert_int_equal(net_stats(a->n)->recv_enobufs, net_ring_stats(a->n)->buffers_empty);
    for (unsigned i = 0; i < NUM; i++) client_close(&clients[i]);
    free(clients);
    app_close(a);
}

static void a_core_short_of_memory_refuses_bodies_and_messages(void **state)
{
    struct app *a = *state;
    a->limits.assembly_bytes_max = 300000;
    app_open(a);
    char fill[100000];
    memset(fill, 'm', sizeof fill);
    struct client ws = ws_connect(a), first = client_open(a), second = client_open(a);
    const char *head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n";
    client_say(a, &first, head);
    client_send(a, &first, slice_of(fill, sizeof fill));
    turns(a, 10);
    client_say(a, &second, head);
    client_send(a, &second, slice_of(fill, sizeof fill));
    client_send(a, &second, slice_of(fill, sizeof fill / 2));
    UNTIL(a, client_ended(&second));
    assert_true(slice_starts(buf_slice(&second.in), SLICE("HTTP/1.1 503 ")));
    assert_true(client_has(&second, "\"code\":\"server.overloaded\""));
    ws_say(a, &ws, 0x01, slice_of(fill, sizeof fill)); /* the first piece of a message */
    ws_say(a, &ws, 0x00, slice_of(fill, sizeof fill));
    UNTIL(a, client_has(&ws, "\x88\x0c\x10\x04overloaded")); /* 4100 */
    client_send(a, &first, slice_of(fill, 50000));           /* who was there before is served */
    UNTIL(a, client_got(&first, 150000));
    assert_true(slice_starts(buf_slice(&first.in), SLICE("HTTP/1.1 200 ")));
    client_close(&ws);
    client_close(&first);
    client_close(&second);
    app_close(a);
}

static struct client client_with_body(struct app *a, const char *fields, size_t content_length, struct slice sent)
{
    struct client c = client_open(a);
    struct buf request = {0};
    buf_printf(&request, "POST /echo HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", fields, content_length);
    client_send(a, &c, buf_slice(&request));
    turns(a, 3);
    client_send(a, &c, sent);
    turns(a, 10);
    buf_free(&request);
    return c;
}

static void who_holds_much_is_refused_and_who_holds_little_is_served(void **state)
{
    enum { LEN = 900000, CLIENTS = 5 };
    struct app *a = *state;
    a->limits.assembly_bytes_max = 6u << 20;
    app_open(a);
    char *fill = calloc(1, LEN);
    struct client many[CLIENTS];
    unsigned refused = 0;
    for (unsigned i = 0; i < CLIENTS; i++) many[i] = client_with_body(a, "X-Account: 0\r\n", LEN + 1, slice_of(fill, LEN));
    for (unsigned i = 0; i < CLIENTS; i++) refused += client_has(&many[i], "HTTP/1.1 503 ");
    assert_in_range(refused, 1, CLIENTS - 1);
    assert_in_range(a->accounts[0].assembly, 2u << 20, 3u << 20); /* half of it */
    struct client other = client_with_body(a, "X-Account: 1\r\n", LEN + 1, slice_of(fill, LEN));
    client_send(a, &other, SLICE("x"));
    UNTIL(a, client_got(&other, LEN + 1));
    assert_true(slice_starts(buf_slice(&other.in), SLICE("HTTP/1.1 200 ")));
    for (unsigned i = 0; i < CLIENTS; i++) client_close(&many[i]);
    client_close(&other);
    free(fill);
    app_close(a);
    assert_int_equal(a->accounts[0].assembly, 0);
    assert_int_equal(a->accounts[1].assembly, 0);
}

static void an_account_with_a_bound_never_holds_more(void **state)
{
    enum { LEN = 10000, CLIENTS = 20 };
    struct app *a = *state;
    a->accounts[0].assembly_max = 100000;
    app_open(a);
    char fill[LEN] = {0};
    struct client many[CLIENTS];
    unsigned refused = 0;
    for (unsigned i = 0; i < CLIENTS; i++) many[i] = client_with_body(a, "X-Account: 0\r\n", LEN + 1, slice_of(fill, LEN));
    for (unsigned i = 0; i < CLIENTS; i++) refused += client_has(&many[i], "HTTP/1.1 503 ");
    assert_in_range(refused, CLIENTS / 2, CLIENTS - 1);
    assert_in_range(a->accounts[0].assembly, 1, 100000);
    for (unsigned i = 0; i < CLIENTS; i++) client_close(&many[i]);
    app_close(a);
}

static void a_body_whose_head_is_refused_is_not_kept(void **state)
{
    struct app *a = *state;
    a->refuse_bodies = true;
    app_open(a);
    char *fill = calloc(1, 500000);
    struct client c = client_with_body(a, "", 600000, slice_of(fill, 500000));
    assert_int_equal(a->body_len, 0);
    assert_int_equal(net_stats(a->n)->assembly_bytes, 0);
    UNTIL(a, client_ended(&c));
    assert_true(client_has(&c, "HTTP/1.1 200 "));
    assert_true(client_has(&c, "Connection: close\r\n"));
    client_close(&c);
    c = client_with_body(a, "", 1001, slice_of(fill, 1000)); /* a little is taken from anybody */
    client_send(a, &c, SLICE("x"));
    UNTIL(a, client_got(&c, 1001));
    assert_int_equal(a->body_len, 1001);
    assert_false(client_has(&c, "Connection: close\r\n"));
    client_close(&c);
    free(fill);
    app_close(a);
}

static void a_client_that_pipelines_and_does_not_read_holds_little(void **state)
{
    enum { LEN = 4000, REQUESTS = 60 };
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    int bytes = 4096;
    assert_int_equal(setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    assert_int_equal(setsockopt(a->listen_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    client_close(&c); /* opened before that was set */
    c = client_open(a);
    assert_int_equal(setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    struct buf request = {0}, all = {0};
    BUF_LIT(&request, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n");
    for (unsigned i = 0; i < LEN; i++) buf_char(&request, 'e');
    for (unsigned i = 0; i < REQUESTS; i++) buf_slice_append(&all, buf_slice(&request));
    size_t held = 0;
    struct slice rest = buf_slice(&all);
    for (unsigned idle = 0; idle < 50; idle++) {
        ssize_t n = rest.len ? send(c.fd, rest.data, rest.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (n > 0) rest = slice_from(rest, (size_t)n);
        turn(a);
        if (net_reply_bytes(a->n) > held) held = net_reply_bytes(a->n);
    }
    assert_in_range(held, HTTP_REPLY_PAUSE_BYTES / 2, HTTP_REPLY_PAUSE_BYTES + LEN + 512);
    client_close(&c);
    buf_free(&request);
    buf_free(&all);
    app_close(a);
}

/* The admin socket is served although everybody else fills the core. */
static void the_trusted_listener_comes_first(void **state)
{
    struct app *a = *state;
    a->limits.connections_max = 2;
    app_open(a);
    char why[256], path[64];
    struct net *other;
    snprintf(path, sizeof path, "/tmp/net_test.%d.sock", (int)getpid());
    const struct net_handlers handlers = {app_request, app_message, app_drain, app_closed, a, NULL, NULL, NULL, NULL};
    struct net_listener listeners[2] = {{.fd = a->listen_fd}, {.trusted = 1}};
    struct park park;
    assert_int_equal(park_init(&park, NULL, NULL), STATUS_OK);
    assert_int_equal(listener_open_unix(&listeners[1].fd, path, why, sizeof why), STATUS_OK);
    net_stop_accepting(a->n);
    turns(a, 3);
    assert_int_equal(net_open(&other, &handlers, &a->limits, &a->clock, &park, 1, why, sizeof why), STATUS_OK);
    assert_int_equal(net_start(other, listeners, 2), STATUS_OK);
    struct net *first = a->n;
    a->n = other;

    struct client crowd[3];
    for (unsigned i = 0; i < 3; i++) {
        crowd[i] = client_open(a);
        client_say(a, &crowd[i], "GET /crowd HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    UNTIL(a, client_has(&crowd[0], "/crowd"));
    turns(a, 10);
    assert_int_equal(net_connections(other), 1); /* the last slot is kept for the operator */
    struct client admin = {.fd = connect_unix(path)};
    client_say(a, &admin, "GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&admin, "/who"));
    assert_string_equal(a->peer, "unix");
    assert_int_equal(a->admins, 1);
    client_close(&admin);
    UNTIL(a, net_connections(other) == 1);
    turns(a, 10);
    assert_false(client_has(&crowd[1], "/crowd") || client_has(&crowd[2], "/crowd"));
    for (unsigned i = 0; i < 3; i++) client_close(&crowd[i]);
    UNTIL(a, net_connections(other) == 0);
    net_close(other);
    park_close(&park);
    close(listeners[1].fd);
    unlink(path);
    a->n = first;
    app_close(a);
}

static void accepts_that_fail_back_off(void **state)
{
    struct app *a = *state;
    app_open(a);
    char why[256];
    struct net *other;
    const struct net_handlers handlers = {app_request, app_message, app_drain, app_closed, a, NULL, NULL, NULL, NULL};
    assert_int_equal(net_open(&other, &handlers, &a->limits, &a->clock, &a->park, 1, why, sizeof why), STATUS_OK);
    int not_listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* accept answers EINVAL at once */
    const struct net_listener listener = {.fd = not_listening};
    assert_int_equal(net_start(other, &listener, 1), STATUS_OK);
    for (unsigned i = 0; i < 50; i++) net_poll(other);
    uint64_t errors = net_stats(other)->accept_errors;
    assert_int_equal(errors, 1);
    uint64_t before_ns = clock_mono_ns(clock_real());
    net_wait(other, UINT64_MAX);
    assert_true(clock_mono_ns(clock_real()) - before_ns > ACCEPT_BACKOFF_MS * 500000ull);
    net_poll(other);
    net_poll(other);
    assert_int_equal(net_stats(other)->accept_errors, 2 * errors);
    net_close(other);
    close(not_listening);
    app_close(a);
}

static void accepting_stops_when_told(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = client_open(a);
    client_say(a, &c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&c, "/x"));
    net_stop_accepting(a->n);
    turns(a, 3);
    struct client late = client_open(a);
    client_say(a, &late, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(a, 20);
    assert_false(client_has(&late, "/x"));
    assert_int_equal(net_connections(a->n), 1);
    client_close(&c);
    client_close(&late);
    app_close(a);
}

static void *wake_soon(void *context)
{
    struct app *a = context;
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    park_wake(&a->park);
    return NULL;
}

static void another_thread_wakes_a_waiting_core_again_and_again(void **state)
{
    struct app *a = *state;
    app_open(a);
    turns(a, 2);
    for (unsigned i = 0; i < 3; i++) {
        pthread_t waker;
        park_prepare(&a->park);
        uint64_t before_ns = clock_mono_ns(clock_real());
        pthread_create(&waker, NULL, wake_soon, a);
        net_wait(a->n, net_now_ns(a->n) + 60 * SECOND);
        uint64_t waited_ns = clock_mono_ns(clock_real()) - before_ns;
        park_done(&a->park);
        assert_true(waited_ns > 20000000 && waited_ns < 30 * SECOND); /* woken, not timed out */
        net_poll(a->n);
        pthread_join(waker, NULL);
    }
    app_close(a);
}

#define NET_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct rlimit descriptors = {4096, 4096};
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    if (now.rlim_cur < descriptors.rlim_cur) setrlimit(RLIMIT_NOFILE, &descriptors);
    const struct CMUnitTest tests[] = {
        NET_TEST(a_request_is_answered_and_the_connection_kept),
        NET_TEST(pipelined_requests_are_answered_in_order),
        NET_TEST(a_pipelined_request_waits_for_the_late_answer_before_it),
        NET_TEST(pipelining_beyond_what_is_held_loses_nothing),
        NET_TEST(a_head_may_come_in_any_pieces),
        NET_TEST(a_chunked_body_is_handed_up_whole),
        NET_TEST(a_body_of_the_largest_length_is_echoed),
        NET_TEST(a_body_too_large_is_refused_and_the_answer_is_readable),
        NET_TEST(a_waiting_client_is_told_to_continue),
        NET_TEST(head_gets_the_head_alone),
        NET_TEST(what_is_not_http_is_refused_as_a_problem),
        NET_TEST(http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept),
        NET_TEST(a_reply_that_closes_lets_the_client_read_it),
        NET_TEST(a_half_closed_client_gets_all_its_answers),
        NET_TEST(an_answer_to_a_client_that_has_gone_goes_nowhere),
        NET_TEST(a_websocket_echoes_text_and_fragments),
        NET_TEST(frames_right_behind_the_upgrade_are_not_lost),
        NET_TEST(the_largest_message_is_echoed_and_a_longer_one_refused),
        NET_TEST(the_peers_close_is_echoed),
        NET_TEST(behind_both_close_frames_the_connection_is_closed_at_once),
        NET_TEST(our_close_waits_for_the_peers),
        NET_TEST(a_protocol_error_closes_with_its_code),
        NET_TEST(a_connection_aborted_in_its_handler_is_closed_once),
        NET_TEST(too_many_requests_in_flight_pause_reading),
        NET_TEST(a_flood_into_a_paused_connection_is_left_in_the_socket),
        NET_TEST(a_client_that_does_not_read_its_answers_is_not_read_from),
        NET_TEST(a_slow_reader_fills_its_queue_and_then_gets_every_byte_in_order),
        NET_TEST(a_send_into_a_full_socket_waits_for_room),
        NET_TEST(ephemerals_are_bounded_and_dropped_for_durable_pushes),
        NET_TEST(a_close_that_drops_pushes_drops_the_pages_behind_them),
        NET_TEST(a_frame_longer_than_the_cap_passes_an_empty_queue),
        NET_TEST(a_wanted_drain_comes_once_when_the_queue_is_empty),
        NET_TEST(one_frame_reaches_a_thousand_and_is_freed_once),
        NET_TEST(sends_beyond_the_scratch_wait_for_the_next_turn),
        NET_TEST(one_send_is_bounded_in_frames_and_bytes),
        NET_TEST(clients_beyond_the_bound_wait_in_the_backlog),
        NET_TEST(with_places_for_refusals_who_is_too_many_is_told_so),
        NET_TEST(a_bound_may_be_shared_and_what_is_let_in_is_counted_back),
        NET_TEST(a_refused_request_comes_without_its_body_and_waits_for_nobody),
        NET_TEST(more_refusals_than_there_are_places_for_end_without_a_word),
        NET_TEST(a_peer_that_does_not_end_is_waited_for_so_long_and_no_longer),
        NET_TEST(who_has_ended_gives_its_place_to_another),
        NET_TEST(who_said_that_nothing_follows_is_not_waited_for),
        NET_TEST(answers_are_charged_to_whoever_asked),
        NET_TEST(deadlines_of_http_close_slow_and_silent_clients),
        NET_TEST(a_silent_websocket_is_pinged_and_then_closed),
        NET_TEST(a_reader_that_makes_no_progress_is_closed_as_too_slow),
        NET_TEST(who_says_little_is_polled_and_who_says_much_has_a_receive_armed),
        NET_TEST(who_falls_silent_is_polled_again_and_heard_when_it_speaks),
        NET_TEST(what_comes_while_the_wait_changes_is_read),
        NET_TEST(a_half_closed_client_is_noticed_whatever_it_waits_with),
        NET_TEST(teardown_under_load_leaks_nothing),
        NET_TEST(closing_the_net_frees_open_connections),
        NET_TEST(more_input_than_receive_buffers_is_read_in_the_end),
        NET_TEST(a_core_short_of_memory_refuses_bodies_and_messages),
        NET_TEST(who_holds_much_is_refused_and_who_holds_little_is_served),
        NET_TEST(an_account_with_a_bound_never_holds_more),
        NET_TEST(a_body_whose_head_is_refused_is_not_kept),
        NET_TEST(a_client_that_pipelines_and_does_not_read_holds_little),
        NET_TEST(the_trusted_listener_comes_first),
        NET_TEST(accepts_that_fail_back_off),
        NET_TEST(accepting_stops_when_told),
        NET_TEST(another_thread_wakes_a_waiting_core_again_and_again),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
