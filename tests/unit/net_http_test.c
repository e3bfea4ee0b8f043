#include "net_app.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "../../src/base/limits.h"

/* Requests and answers, over a real net (net_app.h). */

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

static unsigned count_of(struct client *c, const char *text)
{
    unsigned count = 0;
    client_read(c);
    for (char *at = c->in.data; at && (at = strstr(at, text)); at++) count++;
    return count;
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

int main(void)
{
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
    };
    return cmocka_run_group_tests_name("net_http", tests, NULL, NULL);
}
