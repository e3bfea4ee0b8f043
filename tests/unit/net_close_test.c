#include "net_app.h"

#include <sys/socket.h>

#include "../../src/base/limits.h"

/* Deadlines, how connections end, and what is left of them, over a real net (net_app.h). */

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

/* The clock jumps, as after a pause of the whole process. */
static void a_silent_websocket_is_not_closed_unasked_after_a_pause(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client gone = ws_connect(a), alive = ws_connect(a);
    skip_time(a, 90 * SECOND);
    UNTIL(a, client_got(&gone, 2) && client_got(&alive, 2));
    assert_memory_equal(gone.in.data, "\x89\x00", 2);
    assert_memory_equal(alive.in.data, "\x89\x00", 2);
    ws_say(a, &alive, 0x8a, SLICE(""));
    turns(a, 3);
    skip_time(a, 28 * SECOND);
    assert_false(client_got(&gone, 3));
    skip_time(a, 2 * SECOND);
    UNTIL(a, client_has(&gone, "\x88\x06\x03\xe9idle"));
    assert_false(client_ended(&alive));
    assert_int_equal(net_stats(a->n)->timeouts, 1);
    client_close(&gone);
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

/* The clock jumps, as after a pause of the whole process, behind which the send comes later than the timers. */
static void a_reader_that_took_what_was_there_while_the_process_was_paused_is_kept(void **state)
{
    struct app *a = *state;
    app_open(a);
    struct client c = ws_connect(a);
    struct conn *conn = net_conn(a->n, a->last_ws);
    struct frame *f = text_frame(60000, 'q');
    size_t sent = 0;
    frame_ref(f, 0);
    for (; net_send(a->n, conn, f, CONN_DURABLE) == STATUS_OK; sent += f->len) turn(a);
    frame_unref(f, 0);
    turns(a, 3);
    assert_true(net_stats(a->n)->short_sends > 0);
    client_read(&c);
    a->skipped_ns += 40 * SECOND;
    UNTIL(a, client_got(&c, sent));
    assert_int_equal(net_stats(a->n)->slow_closed, 0);
    assert_ptr_equal(net_conn(a->n, a->last_ws), conn);
    client_close(&c);
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
                client_say(a, c, UPGRADE);
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
    app_end(a);
    client_close(&ws);
    client_close(&partial);
    client_close(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(a_peer_that_does_not_end_is_waited_for_so_long_and_no_longer),
        NET_TEST(who_has_ended_gives_its_place_to_another),
        NET_TEST(who_said_that_nothing_follows_is_not_waited_for),
        NET_TEST(deadlines_of_http_close_slow_and_silent_clients),
        NET_TEST(a_silent_websocket_is_pinged_and_then_closed),
        NET_TEST(a_silent_websocket_is_not_closed_unasked_after_a_pause),
        NET_TEST(a_reader_that_makes_no_progress_is_closed_as_too_slow),
        NET_TEST(a_reader_that_took_what_was_there_while_the_process_was_paused_is_kept),
        NET_TEST(teardown_under_load_leaks_nothing),
        NET_TEST(closing_the_net_frees_open_connections),
    };
    return cmocka_run_group_tests_name("net_close", tests, NULL, NULL);
}
