#include "harness.h"

#include <stdio.h>

/* The status of the process: figures, and warnings that say what to do. */

static void status(struct client *c)
{
    assert_int_equal(client_call(c, "GET", "/v1/admin/status", NULL, OPERATOR, NULL), 200);
}

static void a_gateway_that_is_well_warns_of_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    h->config.store_reserve = 0;
    struct client *c = client_open(h, 0);
    status(c);
    expect_text(c->text.data, "\"state\":\"serving\"");
    expect_text(c->text.data, "\"warnings\":[]}");
    assert_int_equal(count_in(c->text.data, "{\"core\":"), 2);
}

static void figures_follow_what_happens(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    socket_open(h, 1, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 5);
    harness_advance(h, 200);
    struct client *c = client_open(h, 0);
    status(c);
    assert_int_equal(number_in(c->text.data, "messages"), 5);
    assert_int_equal(number_in(c->text.data, "sessions"), 1);
    assert_int_equal(number_in(c->text.data, "tenants"), 1);
    assert_int_equal(number_in(c->text.data, "oldest_ms"), 0);
    assert_true(number_in(c->text.data, "syncs") > 0);
}

static void a_write_that_waits_long_is_warned_of(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    for (unsigned i = 0; i < 6; i++) harness_advance(h, 300);
    struct client *c = client_open(h, 0);
    status(c);
    assert_true(number_in(c->text.data, "oldest_ms") >= 1000);
    expect_text(c->text.data, "A write has waited more than a second");
    h->hold_syncer = false;
    harness_settle(h);
    harness_advance(h, 200);
    harness_settle(h); /* gauges are copied ten times a second */
    status(c);
    assert_int_equal(number_in(c->text.data, "oldest_ms"), 0);
}

static uint64_t asked_of_the_store(struct kv *kv, const char *property)
{
    fail_msg("a core asked the store for %s, and may have to wait for its lock", property);
    return 0;
}

static void the_store_is_shown_as_the_main_thread_saw_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    h->gateway.store_property = asked_of_the_store;
    atomic_store(&h->gateway.vitals.memory[MEMORY_MEMTABLES], 4711);
    atomic_store(&h->gateway.vitals.memory[MEMORY_BLOCK_CACHE], 815);
    metric_set(&h->gateway.vitals.metrics, METRIC_STORE_DELAYED_WRITE_RATE, 1000);
    struct client *c = client_open(h, 0);
    status(c);
    assert_int_equal(number_in(c->text.data, "buffer_bytes"), 4711);
    assert_int_equal(number_in(c->text.data, "store_cache_bytes"), 815);
    expect_text(c->text.data, "The store holds writes back");
}

static void what_is_wrong_is_warned_of_with_what_to_do(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    status(c);
    expect_text(c->text.data, "\"state\":\"read_only\"");
    expect_text(c->text.data, "make room on the file system");
    atomic_store(&h->gateway.disk, DISK_OK);
    kv_fake_fail(h->kv, false, true);
    client_call(c, "GET", "/v1/users/me", "ann", "", NULL); /* a write */
    status(c);
    expect_text(c->text.data, "then restart the gateway");
    assert_int_equal(number_in(c->text.data, "errors") > 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gateway_that_is_well_warns_of_nothing),
        TEST(figures_follow_what_happens),
        TEST(a_write_that_waits_long_is_warned_of),
        TEST(the_store_is_shown_as_the_main_thread_saw_it),
        TEST(what_is_wrong_is_warned_of_with_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
