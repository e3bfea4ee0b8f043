#include "net_app.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "../../net/connection.h"

/* What a connection waits for input with, and that nothing is missed while that changes, over a real net
 * (net_app.h). */

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
        skip_time(a, RECV_QUIET_MS / 2 * 1000000ull); /* no timer asks so early */
        turns(a, 3);
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

/* The clock jumps, as after a pause of the whole process: what came meanwhile counts, although its timer is due too. */
static void who_spoke_while_the_process_was_paused_is_heard_and_kept(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client ws = ws_connect(a), http = client_open(a);
    client_say(a, &http, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(a, client_has(&http, "/first"));
    turn(a);
    ws_say(a, &ws, 0x81, SLICE("still here"));
    client_say(a, &http, "GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
    a->skipped_ns += 90 * SECOND;
    UNTIL(a, client_has(&ws, "still here") && client_has(&http, "/second"));
    assert_int_equal(net_stats(a->n)->timeouts, 0);
    assert_int_equal(net_connections(a->n), 2);
    client_close(&ws);
    client_close(&http);
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

/* A reset meets a poll with something to read, to send, both or nothing, before and behind a turn. */
static void a_reset_is_noticed_while_it_is_polled(void **state)
{
    struct app *a = *state;
    const struct linger reset = {.l_onoff = 1};
    app_open(a);
    for (unsigned i = 0; i < 16; i++) {
        struct client c = ws_connect(a);
        assert_int_equal(waits_with(a), WAIT_POLL);
        if (i & 1) net_reply_text(a->n, net_conn(a->n, a->last_ws), SLICE("a word"));
        if (i & 2) turn(a);
        if (i & 4) ws_say(a, &c, 0x81, SLICE("the last word"));
        setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        client_close(&c);
        if (i & 8) turn(a);
    }
    app_close(a);
}

static void what_comes_byte_by_byte_is_whole_in_the_end(void **state)
{
    struct app *a = *state;
    a->stop_echo = true;
    app_open(a);
    struct client c = ws_connect(a);
    struct buf frame = {0};
    frame_masked(&frame, 0x81, SLICE("one byte at a time"));
    for (unsigned round = 0; round < 4; round++) { /* with so many turns between two bytes */
        for (size_t i = 0; i < frame.len; i++) {
            client_send(a, &c, slice_of(frame.data + i, 1));
            turns(a, round);
        }
        UNTIL(a, a->messages == round + 1);
        assert_true(slice_is(buf_slice(&a->last_message), "one byte at a time"));
    }
    buf_free(&frame);
    client_close(&c);
    app_close(a);
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
    for (unsigned i = 0; i < NUM; i++)
        ring_enter(a->n->ring, false, 0); /* the kernel tells of no more than some at a time */
    UNTIL(a, a->messages == NUM);
    assert_true(net_stats(a->n)->recv_enobufs > 0);
    assert_int_equal(net_stats(a->n)->recv_enobufs, net_ring_stats(a->n)->buffers_empty);
    for (unsigned i = 0; i < NUM; i++) client_close(&clients[i]);
    free(clients);
    app_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(who_says_little_is_polled_and_who_says_much_has_a_receive_armed),
        NET_TEST(who_falls_silent_is_polled_again_and_heard_when_it_speaks),
        NET_TEST(what_comes_while_the_wait_changes_is_read),
        NET_TEST(who_spoke_while_the_process_was_paused_is_heard_and_kept),
        NET_TEST(a_half_closed_client_is_noticed_whatever_it_waits_with),
        NET_TEST(a_reset_is_noticed_while_it_is_polled),
        NET_TEST(what_comes_byte_by_byte_is_whole_in_the_end),
        NET_TEST(more_input_than_receive_buffers_is_read_in_the_end),
    };
    return cmocka_run_group_tests_name("net_receive", tests, app_descriptors, NULL);
}
