#include "net_app.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "../../src/base/limits.h"

/* Upgrades, messages, closing handshakes and reading that pauses, over a real net (net_app.h). */

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
    buf_append(&both, UPGRADE, sizeof UPGRADE - 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("net_websocket", tests, NULL, NULL);
}
