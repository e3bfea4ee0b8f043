#include "net_app.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "../../net/ring.h"
#include "../../src/base/limits.h"

/* What input, bodies and answers may hold of a core's memory, and who is refused then, over a real net (net_app.h). */

/* Clients that have connected and sent before they are accepted are all read in the same instant. */
static void more_input_than_receive_buffers_is_read_in_the_end(void **state)
{
    struct app *a = *state;
    a->stop_echo = a->listen_twice = true;
    app_open(a);
    enum { NUM = 2 * ACCEPTS_ARMED_MAX, LEN = 60000 };
    _Static_assert(NUM * LEN > RECV_BUFFERS * RECV_BUFFER_BYTES, "more than there is room for");
    struct client *clients = calloc(NUM, sizeof *clients);
    struct buf text = {0};
    char *payload = malloc(LEN);
    memset(payload, 'i', LEN);
    buf_append(&text, UPGRADE, sizeof UPGRADE - 1);
    frame_masked(&text, 0x81, slice_of(payload, LEN));
    for (unsigned i = 0; i < NUM; i++) {
        clients[i] = client_open(a);
        ssize_t n = send(clients[i].fd, text.data, text.len, MSG_NOSIGNAL);
        assert_int_equal(n, text.len);
    }
    UNTIL(a, a->messages == NUM);
    assert_true(net_stats(a->n)->recv_enobufs > 0);
    assert_int_equal(net_stats(a->n)->recv_enobufs, net_ring_stats(a->n)->buffers_empty);
    for (unsigned i = 0; i < NUM; i++) client_close(&clients[i]);
    free(clients);
    free(payload);
    buf_free(&text);
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
    for (unsigned i = 0; i < CLIENTS; i++)
        many[i] = client_with_body(a, "X-Account: 0\r\n", LEN + 1, slice_of(fill, LEN));
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
    for (unsigned i = 0; i < CLIENTS; i++)
        many[i] = client_with_body(a, "X-Account: 0\r\n", LEN + 1, slice_of(fill, LEN));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(more_input_than_receive_buffers_is_read_in_the_end),
        NET_TEST(a_core_short_of_memory_refuses_bodies_and_messages),
        NET_TEST(who_holds_much_is_refused_and_who_holds_little_is_served),
        NET_TEST(an_account_with_a_bound_never_holds_more),
        NET_TEST(a_body_whose_head_is_refused_is_not_kept),
        NET_TEST(answers_are_charged_to_whoever_asked),
        NET_TEST(a_client_that_pipelines_and_does_not_read_holds_little),
    };
    return cmocka_run_group_tests_name("net_memory", tests, app_descriptors, NULL);
}
