#include "notify_harness.h"

#include <string.h>

/* Making notifications: how many users, bytes and rows, and who has a turn in between. */

/* turns_until_answered counts rounds in which the cores turn and each thread of the store does one thing. */
static unsigned turns_until_answered(struct harness *h, struct answer *a)
{
    unsigned turns = 0;
    for (; !a->done && turns < 1000; turns++) {
        harness_turns(h);
        reader_step(h->gateway.readers, 0);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
    }
    expect_ok(a);
    return turns;
}

/* The walk that counts, and the making of rows, are cut into slices between which others have their turn. */
static void a_large_one_lets_others_pass(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 5000))));
    harness_restart(h, END_CLEAN);
    watch_store(h);
    struct answer *many = harness_go(h, notify_many(h, &ann, 5000));
    unsigned turns = turns_until_answered(h, many);
    assert_in_range(watched.most_rows, 1, OUTBOX_COUNT_ROWS + 1);
    assert_in_range(turns, 5000 / OUTBOX_COUNT_ROWS + 5000 / CREATION_SLICE, 999);
    assert_int_equal(tenant_of(h)->waiting, 10000);
    unwatch_store(h);
}

static void a_tenant_makes_so_many_at_a_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 1))));
    h->hold_syncer = true;
    struct answer *answers[CREATIONS_TENANT_MAX];
    for (unsigned i = 0; i < CREATIONS_TENANT_MAX; i++) answers[i] = harness_go(h, notify_many(h, &ann, 2));
    struct answer *refused = settled(h, harness_go(h, notify_many(h, &ann, 2)));
    expect_error(refused, ERR_SERVER_OVERLOADED);
    h->hold_syncer = false;
    harness_settle(h);
    for (unsigned i = 0; i < CREATIONS_TENANT_MAX; i++) expect_ok(answers[i]);
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 2))));
    assert_int_equal(tenant_of(h)->waiting, 1 + 2 * (CREATIONS_TENANT_MAX + 1));
}

static void what_is_refused_late_returns_its_places(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    static char payload[PAYLOAD_BYTES_MAX];
    memset(payload, '1', sizeof payload);
    struct op *op = notify_many(h, &ann, 600);
    op->in.notify.payload = slice_of(payload, sizeof payload);
    expect_error(settled(h, harness_go(h, op)), ERR_NOTIFICATION_TOO_LARGE);
    assert_int_equal(tenant_of(h)->waiting, 0);
    assert_int_equal(tenant_of(h)->users.len, 0);
}

static void large_payloads_are_made_into_rows_a_little_at_a_time(void **state)
{
    struct harness *h = *state;
    static char payload[10002];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    memset(payload, '"', sizeof payload);
    memset(payload + 1, 'x', sizeof payload - 2);
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1))); /* the tenant is counted */
    struct answer *many = notify_go(h, &ann, slice_of(payload, sizeof payload), ann.number, 200);
    unsigned turns = turns_until_answered(h, many);
    assert_in_range(turns, 200 * sizeof payload / CREATION_SLICE_BYTES, 999);
}

static void a_notification_has_so_many_users_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct answer *most = settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX));
    expect_ok(most);
    assert_int_equal(number_in(most->out.data, "users"), NOTIFY_TARGETS_MAX);
    expect_error(settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX + 1)), ERR_TOO_MANY_ITEMS);
}

static void the_rows_of_a_notification_fit_one_batch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct slice payload = payload_of(PAYLOAD_BYTES_MAX);
    uint32_t fits = NOTIFY_BYTES_MAX / (PAYLOAD_BYTES_MAX + 200);
    expect_ok(settled(h, notify_go(h, &ann, payload, 1000, fits)));
    expect_error(settled(h, notify_go(h, &ann, payload, 1000, NOTIFY_BYTES_MAX / PAYLOAD_BYTES_MAX)),
                 ERR_NOTIFICATION_TOO_LARGE);
}

static void a_pipeline_that_has_filled_meanwhile_takes_no_rows(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    h->hold_readers = true;
    struct answer *made = notify_go(h, &ann, SLICE("1"), ann.number, 1);
    harness_settle(h);
    core->pending_bytes += COMMIT_PENDING_BYTES_MAX + 1;
    h->hold_readers = false;
    expect_error(settled(h, made), ERR_STORE_OVERLOADED);
    core->pending_bytes -= COMMIT_PENDING_BYTES_MAX + 1;
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_large_one_lets_others_pass),
        TEST(a_tenant_makes_so_many_at_a_time),
        TEST(what_is_refused_late_returns_its_places),
        TEST(large_payloads_are_made_into_rows_a_little_at_a_time),
        TEST(a_notification_has_so_many_users_and_no_more),
        TEST(the_rows_of_a_notification_fit_one_batch),
        TEST(a_pipeline_that_has_filled_meanwhile_takes_no_rows),
    };
    return cmocka_run_group_tests_name("notify_create", tests, NULL, NULL);
}
