#include "net_app.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/base/limits.h"

/* What waits to be sent, in which order it leaves, and in how many sends, over a real net (net_app.h). */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(a_slow_reader_fills_its_queue_and_then_gets_every_byte_in_order),
        NET_TEST(a_send_into_a_full_socket_waits_for_room),
        NET_TEST(ephemerals_are_bounded_and_dropped_for_durable_pushes),
        NET_TEST(a_close_that_drops_pushes_drops_the_pages_behind_them),
        NET_TEST(a_frame_longer_than_the_cap_passes_an_empty_queue),
        NET_TEST(a_wanted_drain_comes_once_when_the_queue_is_empty),
        NET_TEST(one_frame_reaches_a_thousand_and_is_freed_once),
        NET_TEST(sends_beyond_the_scratch_wait_for_the_next_turn),
        NET_TEST(one_send_is_bounded_in_frames_and_bytes),
    };
    return cmocka_run_group_tests_name("net_send", tests, app_descriptors, NULL);
}
