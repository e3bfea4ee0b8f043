#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Health, readiness, metrics, statistics. */

static void health_says_what_the_store_can_do(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_advance(h, 5000);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
    expect_text(c->text.data, "{\"status\":\"ok\",\"service\":\"carillon\",");
    expect_text(c->text.data,
                "\"uptime_s\":5,\"db_writable\":true,\"epoch\":1,\"checks\":{\"store\":\"ok\",\"disk\":\"ok\"");
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 503);
    expect_text(c->text.data, "\"db_writable\":false");
    expect_text(c->text.data, "\"disk\":\"reserve_reached\"");
    atomic_store(&h->gateway.disk, DISK_OK);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
}

static void health_says_that_the_store_has_failed(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    kv_fake_fail(h->kv, false, true);
    client_call(c, "GET", "/v1/users/me", "ann", "", NULL); /* a write */
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 503);
    expect_text(c->text.data, "\"store\":\"read_only\"");
    assert_int_equal(client_call(c, "GET", "/ready", NULL, "", NULL), 503);
}

static void a_core_that_does_not_turn_is_not_healthy(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
    expect_text(c->text.data, "\"cores\":\"ok\"");
    unsigned stuck;
    h->mono_ns += (CORE_STUCK_MS + 1) * 1000000ull;
    harness_turn(h, 0);
    assert_false(gateway_cores_alive(&h->gateway, &stuck, harness_core(h, 0)->now_ns));
    assert_int_equal(stuck, 1);
    client_send(c, SLICE("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
    for (unsigned i = 0; i < 200; i++) { /* the other core sleeps on */
        harness_turn(h, 0);
        usleep(100);
    }
    assert_int_equal(client_answer(c), 503);
    expect_text(c->head.data, "Retry-After: ");
    expect_text(c->text.data, "\"db_writable\":true");
    expect_text(c->text.data, "\"cores\":\"stuck\"");
    harness_turn(h, 1);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
}

static void a_stopping_server_is_healthy_but_not_ready(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/ready", NULL, "", NULL), 200);
    assert_string_equal(c->text.data, "{\"ready\":true}");
    atomic_store(&h->gateway.draining, true);
    assert_int_equal(client_call(c, "GET", "/ready", NULL, "", NULL), 503);
    expect_text(c->head.data, "Connection: close"); /* the next request belongs to another server */
    assert_int_equal(client_call(client_open(h, 0), "GET", "/health", NULL, "", NULL), 200);
}

static void every_metric_is_shown_once_with_its_head(void **state)
{
    struct harness *h = *state;
    char head[160];
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/metrics", NULL, "", NULL), 200);
    expect_text(c->head.data, "Content-Type: text/plain; version=0.0.4");
    for (unsigned i = 0; i < METRICS; i++) {
        snprintf(head, sizeof head, "# TYPE %s ", metric_rows[i].name);
        if (count_in(c->text.data, head) != 1) fail_msg("%s: %u", metric_rows[i].name, count_in(c->text.data, head));
    }
}

static void what_happened_is_counted(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *near = socket_open(h, 0, "ann", HELLO_ALL),
                  *far = socket_open(h, 1, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 3);
    client_hear(near);
    client_hear(far);
    harness_advance(h, 200);
    harness_settle(h);
    struct client *c = client_open(h, 1);
    client_call(c, "GET", "/v1/rooms", NULL, "", NULL); /* 401 */
    assert_int_equal(client_call(c, "GET", "/metrics", NULL, "", NULL), 200);
    expect_text(c->text.data, "\ncarillon_messages_total 3\n");
    expect_text(c->text.data, "\ncarillon_deliveries_total 6\n");
    expect_text(c->text.data, "\ncarillon_cross_core_deliveries_total 3\n");
    expect_text(c->text.data, "\nwebsocket_connections_active 2\n");
    expect_text(c->text.data, "\ncarillon_errors_total{code=\"auth.missing\"} 1\n");
    expect_text(c->text.data, "carillon_http_requests_total{method=\"GET\",endpoint=\"/rooms\",status=\"4xx\"} 1\n");
    expect_text(c->text.data, "carillon_store_writable 1\n");
}

static void statistics_are_for_the_operator(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/admin/stats", NULL, OPERATOR, NULL), 200);
    expect_text(c->text.data, "\"epoch\":1,\"cores\":2,\"tenants\":1,\"db_writable\":true");
}

static void the_page_is_at_the_root_alone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/", NULL, "", NULL), 200);
    expect_text(c->head.data, "Content-Type: text/html");
    assert_int_equal(client_call(c, "GET", "/v1/", NULL, "", NULL), 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(health_says_what_the_store_can_do),
        TEST(health_says_that_the_store_has_failed),
        TEST(a_core_that_does_not_turn_is_not_healthy),
        TEST(a_stopping_server_is_healthy_but_not_ready),
        TEST(every_metric_is_shown_once_with_its_head),
        TEST(what_happened_is_counted),
        TEST(statistics_are_for_the_operator),
        TEST(the_page_is_at_the_root_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
