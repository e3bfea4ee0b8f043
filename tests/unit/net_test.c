#include "net_app.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../net/connection.h"
#include "../../net/listener.h"
#include "../../src/base/limits.h"

/* Listening, who is let in, and the wait of a turn, over a real net (net_app.h). Its siblings net_*_test.c show what
 * becomes of a connection. */

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

/* The admin socket is served although everybody else fills the core. */
static void the_trusted_listener_comes_first(void **state)
{
    struct app *a = *state;
    a->limits.connections_max = 2;
    app_open(a);
    char why[256], path[64];
    struct net *other;
    snprintf(path, sizeof path, "/tmp/net_test.%d.sock", (int)getpid());
    const struct net_handlers handlers = app_handlers(a);
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

/* crossing: a net with two public listeners and one place. */
struct crossing {
    struct app *a;
    struct net *first;
    struct park park;
    int fds[2];
    uint16_t ports[2];
};

static void crossing_open(struct crossing *x, struct app *a)
{
    char why[256], name[LISTENER_NAME_LEN];
    const struct listener_tcp tcp = {.address = "127.0.0.1:0", .reuse_port = true};
    const struct net_handlers handlers = app_handlers(a);
    app_open(a);
    net_stop_accepting(a->n);
    turns(a, 3);
    *x = (struct crossing){.a = a, .first = a->n};
    a->limits.connections_max = 1;
    assert_int_equal(park_init(&x->park, NULL, NULL), STATUS_OK);
    assert_int_equal(net_open(&a->n, &handlers, &a->limits, &a->clock, &x->park, 1, why, sizeof why), STATUS_OK);
    struct net_listener listeners[2] = {{0}, {0}};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(listener_open_tcp(&x->fds[i], name, &tcp, why, sizeof why), STATUS_OK);
        x->ports[i] = (uint16_t)atoi(strrchr(name, ':') + 1);
        listeners[i].fd = x->fds[i];
    }
    assert_int_equal(net_start(a->n, listeners, 2), STATUS_OK);
}

static struct client crossing_client(struct crossing *x, unsigned listener)
{
    x->a->port = x->ports[listener];
    struct client c = client_open(x->a);
    client_say(x->a, &c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    return c;
}

static void crossing_close(struct crossing *x)
{
    UNTIL(x->a, net_connections(x->a->n) == 0);
    net_close(x->a->n);
    park_close(&x->park);
    for (unsigned i = 0; i < 2; i++) close(x->fds[i]);
    x->a->n = x->first;
    app_close(x->a);
}

/* An accept that waits at one listener must not keep the last slot from those who come to the other one. */
static void the_last_slot_goes_to_the_listener_at_which_somebody_waits(void **state)
{
    struct crossing x;
    crossing_open(&x, *state);
    for (unsigned i = 0; i < 4; i++) {
        turns(x.a, 3); /* nobody waits anywhere */
        struct client c = crossing_client(&x, i % 2);
        UNTIL(x.a, client_has(&c, "/x"));
        client_close(&c);
        UNTIL(x.a, net_connections(x.a->n) == 0);
    }
    crossing_close(&x);
}

static void two_listeners_with_clients_have_the_last_slot_in_turns(void **state)
{
    struct crossing x;
    struct client c[2][3];
    crossing_open(&x, *state);
    for (unsigned i = 0; i < 6; i++) c[i % 2][i / 2] = crossing_client(&x, i % 2);
    unsigned served[2] = {0, 0};
    for (unsigned i = 0; i < 6; i++) {
        UNTIL(x.a, (served[0] < 3 && client_has(&c[0][served[0]], "/x")) ||
                       (served[1] < 3 && client_has(&c[1][served[1]], "/x")));
        unsigned listener = served[0] < 3 && client_has(&c[0][served[0]], "/x") ? 0 : 1;
        client_close(&c[listener][served[listener]++]);
        UNTIL(x.a, net_connections(x.a->n) == 0 || i < 5);
        if (i % 2) assert_int_equal(served[0], served[1]);
    }
    crossing_close(&x);
}

/* The look becomes due between a turn's accepts and its wait. */
static void a_look_for_clients_that_is_due_is_not_slept_over(void **state)
{
    struct crossing x;
    struct app *a = *state;
    crossing_open(&x, a);
    turns(a, 3);
    assert_int_equal(a->n->waiting[0].armed, 1);
    struct client c = crossing_client(&x, 1);
    net_poll(a->n);
    a->skipped_ns += ACCEPT_LOOK_MS * 1000000ull;
    net_timers(a->n);
    net_flush(a->n);
    uint64_t before_ns = clock_mono_ns(clock_real());
    net_wait(a->n, net_now_ns(a->n) + SECOND);
    assert_true(clock_mono_ns(clock_real()) - before_ns < SECOND / 2);
    UNTIL(a, client_has(&c, "/x"));
    client_close(&c);
    crossing_close(&x);
}

static void a_burst_of_more_clients_than_accepts_may_be_armed_is_served(void **state)
{
    struct app *a = *state;
    struct client crowd[2 * ACCEPTS_ARMED_MAX];
    app_open(a);
    for (unsigned i = 0; i < 2 * ACCEPTS_ARMED_MAX; i++) {
        crowd[i] = client_open(a);
        client_say(a, &crowd[i], "GET /burst HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for (unsigned i = 0; i < 2 * ACCEPTS_ARMED_MAX; i++) UNTIL(a, client_has(&crowd[i], "/burst"));
    for (unsigned i = 0; i < 2 * ACCEPTS_ARMED_MAX; i++) client_close(&crowd[i]);
    app_close(a);
}

static void accepts_that_fail_back_off(void **state)
{
    struct app *a = *state;
    app_open(a);
    char why[256];
    struct net *other;
    const struct net_handlers handlers = app_handlers(a);
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

static _Atomic bool woken;

static void *wake_soon(void *context)
{
    struct app *a = context;
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    atomic_store(&woken, true);
    park_wake(&a->park);
    return NULL;
}

/* valgrind 3.19 does not know that io_uring_enter(2) waits: no other thread goes on meanwhile. */
static bool under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded && strstr(preloaded, "/vgpreload_");
}

static void another_thread_wakes_a_waiting_core_again_and_again(void **state)
{
    struct app *a = *state;
    if (under_valgrind()) skip();
    app_open(a);
    turns(a, 2);
    for (unsigned i = 0; i < 3; i++) {
        pthread_t waker;
        atomic_store(&woken, false);
        uint64_t before_ns = clock_mono_ns(clock_real());
        pthread_create(&waker, NULL, wake_soon, a);
        while (!atomic_load(&woken)) { /* it may wake for a timer of its own */
            park_prepare(&a->park);
            if (!atomic_load(&woken)) net_wait(a->n, before_ns + 60 * SECOND);
            park_done(&a->park);
            turns(a, 1);
        }
        assert_true(clock_mono_ns(clock_real()) - before_ns < 30 * SECOND); /* woken, not timed out */
        pthread_join(waker, NULL);
    }
    app_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(clients_beyond_the_bound_wait_in_the_backlog),
        NET_TEST(with_places_for_refusals_who_is_too_many_is_told_so),
        NET_TEST(a_bound_may_be_shared_and_what_is_let_in_is_counted_back),
        NET_TEST(a_refused_request_comes_without_its_body_and_waits_for_nobody),
        NET_TEST(more_refusals_than_there_are_places_for_end_without_a_word),
        NET_TEST(the_trusted_listener_comes_first),
        NET_TEST(the_last_slot_goes_to_the_listener_at_which_somebody_waits),
        NET_TEST(two_listeners_with_clients_have_the_last_slot_in_turns),
        NET_TEST(a_look_for_clients_that_is_due_is_not_slept_over),
        NET_TEST(a_burst_of_more_clients_than_accepts_may_be_armed_is_served),
        NET_TEST(accepts_that_fail_back_off),
        NET_TEST(accepting_stops_when_told),
        NET_TEST(another_thread_wakes_a_waiting_core_again_and_again),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
