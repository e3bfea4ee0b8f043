#include "harness.h"

#include <stdio.h>

#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "kv_row.h"

/* What nobody may repeat any more is deleted, and nothing else. Rows are put by hand: days of traffic would be slow. */

#define DAY_MS 86400000ull
#define TENANT_OF(h) ((h)->tenant)

static void row_put(struct harness *h, const struct key *key, struct buf *value)
{
    kv_row_put(h->kv, KV_IDEMPOTENCY, key, buf_slice(value));
    buf_free(value);
}

static void answer_key(struct harness *h, struct key *key, unsigned number)
{
    char text[32];
    snprintf(text, sizeof text, "/join %06u", number);
    key_answer(key, TENANT_OF(h), 7, slice_str(text));
}

static void put_answer(struct harness *h, unsigned number, uint64_t made_ms)
{
    struct key key;
    struct buf value = {0};
    struct answer_record r = {.payload_hash = 1, .created_ms = made_ms, .http_status = 200, .answer = SLICE("{}")};
    answer_key(h, &key, number);
    answer_record_encode(&value, &r);
    row_put(h, &key, &value);
}

static void put_run(struct harness *h, uint64_t room, uint64_t first_seq, uint64_t newest_ms)
{
    struct key key;
    struct buf value = {0};
    struct idempotency_run_record r = {.last_seq = first_seq + 9, .newest_ms = newest_ms};
    key_idempotency_run(&key, TENANT_OF(h), room, first_seq);
    idempotency_run_record_encode(&value, &r);
    row_put(h, &key, &value);
}

static bool is_there(struct harness *h, const struct key *key)
{
    struct buf value = {0};
    enum status s = kv_get(h->kv, KV_IDEMPOTENCY, key_slice(key), &value);
    buf_free(&value);
    return s == STATUS_OK;
}

static bool answer_there(struct harness *h, unsigned number)
{
    struct key key;
    answer_key(h, &key, number);
    return is_there(h, &key);
}

static bool run_there(struct harness *h, uint64_t room, uint64_t first_seq)
{
    struct key key;
    key_idempotency_run(&key, TENANT_OF(h), room, first_seq);
    return is_there(h, &key);
}

/* sweep lets a whole pass go by, and the pause to the next one. */
static void sweep(struct harness *h, unsigned steps)
{
    harness_advance(h, SWEEP_INTERVAL_MS);
    for (unsigned i = 0; i < steps; i++) {
        harness_settle(h);
        harness_advance(h, SWEEP_PAUSE_MS);
        harness_settle(h);
    }
}

static void answers_go_after_eight_days_and_not_before(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    uint64_t now = h->wall_ms;
    put_answer(h, 1, now - 9 * DAY_MS);
    put_answer(h, 2, now - 7 * DAY_MS);
    put_answer(h, 3, now);
    sweep(h, 3);
    assert_false(answer_there(h, 1));
    assert_true(answer_there(h, 2) && answer_there(h, 3));
    harness_advance(h, 2 * DAY_MS);
    sweep(h, 3);
    assert_false(answer_there(h, 2));
    assert_true(answer_there(h, 3));
}

static void old_runs_go_but_for_a_rooms_newest(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    uint64_t now = h->wall_ms, old = now - 20 * DAY_MS;
    for (uint64_t first = 1; first <= 31; first += 10) put_run(h, 1001, first, old + first); /* all old */
    put_run(h, 1002, 1, old);
    put_run(h, 1002, 11, now);
    put_run(h, 1002, 21, now);
    put_run(h, 1003, 1, old); /* alone */
    put_run(h, 1004, 1, now);
    sweep(h, 4);
    assert_false(run_there(h, 1001, 1) || run_there(h, 1001, 11) || run_there(h, 1001, 21));
    assert_true(run_there(h, 1001, 31));
    assert_false(run_there(h, 1002, 1));
    assert_true(run_there(h, 1002, 11) && run_there(h, 1002, 21));
    assert_true(run_there(h, 1003, 1) && run_there(h, 1004, 1));
}

static void a_pass_comes_through_many_rows_in_steps(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    uint64_t now = h->wall_ms, old = now - 20 * DAY_MS;
    for (unsigned i = 0; i < 1000; i++) put_answer(h, i, i % 3 ? old : now);
    for (uint64_t first = 1; first < 6000; first += 10) put_run(h, 500, first, old);
    for (uint64_t room = 501; room < 700; room++) {
        put_run(h, room, 1, old);
        put_run(h, room, 11, now);
    }
    sweep(h, 20);
    for (unsigned i = 0; i < 1000; i++) assert_int_equal(answer_there(h, i), i % 3 == 0);
    for (uint64_t first = 1; first < 5991; first += 10) assert_false(run_there(h, 500, first));
    assert_true(run_there(h, 500, 5991));
    for (uint64_t room = 501; room < 700; room++) {
        assert_false(run_there(h, room, 1));
        assert_true(run_there(h, room, 11));
    }
    uint64_t swept = atomic_load(&harness_core(h, 0)->metrics.value[METRIC_IDEMPOTENCY_SWEPT]);
    assert_int_equal(swept, 666 + 599 + 199);
}

static void a_step_looks_at_so_many_rows_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    for (unsigned i = 0; i < SWEEP_LOOKS + 1; i++) put_answer(h, i, h->wall_ms - 20 * DAY_MS);
    harness_advance(h, SWEEP_INTERVAL_MS);
    harness_settle(h);
    assert_false(answer_there(h, SWEEP_LOOKS - 1));
    assert_true(answer_there(h, SWEEP_LOOKS));
    harness_advance(h, SWEEP_PAUSE_MS);
    harness_settle(h);
    assert_false(answer_there(h, SWEEP_LOOKS));
}

static void a_room_without_its_old_runs_still_knows_its_repeats(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    for (unsigned i = 1; i <= IDEMPOTENCY_RUN; i++) {
        char key[32];
        snprintf(key, sizeof key, "old %u", i);
        expect_ok(settled(h, harness_send_once(h, 0, &ann, room, "x", key)));
    }
    harness_advance(h, 9 * DAY_MS);
    for (unsigned i = 1; i <= IDEMPOTENCY_RUN; i++) {
        char key[32];
        snprintf(key, sizeof key, "new %u", i);
        expect_ok(settled(h, harness_send_once(h, 0, &ann, room, "x", key)));
    }
    harness_settle(h);
    assert_true(run_there(h, room, 1) && run_there(h, room, IDEMPOTENCY_RUN + 1));
    sweep(h, 4);
    assert_false(run_there(h, room, 1));
    assert_true(run_there(h, room, IDEMPOTENCY_RUN + 1));
    harness_restart(h, END_POWER_LOST);
    struct answer *again = settled(h, harness_send_once(h, 0, &ann, room, "x", "new 7"));
    expect_ok(again);
    assert_int_equal(again->seq, IDEMPOTENCY_RUN + 7);
    struct answer *behind = settled(h, harness_send_once(h, 0, &ann, room, "x", "fresh"));
    assert_int_equal(behind->seq, 2 * IDEMPOTENCY_RUN + 1);
}

static void a_store_that_fails_ends_the_pass_and_the_next_one_goes_on(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    put_answer(h, 1, h->wall_ms - 9 * DAY_MS);
    kv_fake_fail(h->kv, true, false);
    sweep(h, 3);
    kv_fake_fail(h->kv, false, false);
    harness_restart(h, END_KILLED);
    assert_true(answer_there(h, 1));
    sweep(h, 3);
    assert_false(answer_there(h, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_go_after_eight_days_and_not_before),
        TEST(old_runs_go_but_for_a_rooms_newest),
        TEST(a_pass_comes_through_many_rows_in_steps),
        TEST(a_step_looks_at_so_many_rows_and_no_more),
        TEST(a_room_without_its_old_runs_still_knows_its_repeats),
        TEST(a_store_that_fails_ends_the_pass_and_the_next_one_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
