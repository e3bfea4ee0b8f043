/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "src/auth/rate_limit.h"
#include "src/base/limits.h"

#define SECOND 1000000000ull
#define START (1000 * SECOND)

static unsigned taken(_Atomic uint64_t *bucket, uint32_t per_second, uint64_t now_ns, unsigned tries)
{
    struct rate_state state;
    unsigned num = 0;
    while (tries--) num += rate_take(&state, bucket, per_second, now_ns);
    return num;
}

static void a_quiet_bucket_gives_one_seconds_worth_at_once_and_no_more(void **state)
{
    _Atomic uint64_t bucket = 0;
    assert_int_equal(taken(&bucket, 10, START, 50), 10);
    assert_int_equal(taken(&bucket, 10, START + SECOND / 2, 50), 5);
    assert_int_equal(taken(&bucket, 10, START + 60 * SECOND, 50), 10);
}

static void over_time_a_bucket_gives_its_rate(void **state)
{
    _Atomic uint64_t bucket = 0;
    unsigned num = 0;
    for (uint64_t ms = 0; ms < 100000; ms++) num += taken(&bucket, 37, START + ms * 1000000, 3);
    assert_in_range(num, 3700, 3700 + 37);
}

static void the_state_says_what_is_left_and_when(void **context)
{
    _Atomic uint64_t bucket = 0;
    struct rate_state state;
    assert_true(rate_take(&state, &bucket, 4, START));
    assert_int_equal(state.limit, 4);
    assert_int_equal(state.remaining, 3);
    assert_int_equal(state.full_in_ns, SECOND / 4);
    assert_int_equal(taken(&bucket, 4, START, 3), 3);
    assert_false(rate_take(&state, &bucket, 4, START));
    assert_int_equal(state.remaining, 0);
    assert_int_equal(state.wait_ns, SECOND / 4);
    assert_int_equal(state.full_in_ns, SECOND);
    assert_true(rate_take(&state, &bucket, 4, START + state.wait_ns)); /* the wait that was named is enough */
}

static void a_limit_of_one_a_second_lets_one_through(void **state)
{
    _Atomic uint64_t bucket = 0;
    assert_int_equal(taken(&bucket, 1, START, 5), 1);
    assert_int_equal(taken(&bucket, 1, START + SECOND - 1, 5), 0);
    assert_int_equal(taken(&bucket, 1, START + SECOND, 5), 1);
}

/* --- several cores ----------------------------------------------------------------------------------- */

struct racer {
    _Atomic uint64_t *bucket;
    unsigned num;
};

static void *race(void *context)
{
    struct racer *r = context;
    r->num = taken(r->bucket, 20000, START, 50000);
    return NULL;
}

static void threads_together_get_no_more_than_one(void **state)
{
    _Atomic uint64_t bucket = 0;
    struct racer racers[4];
    pthread_t threads[4];
    unsigned num = 0;
    for (unsigned i = 0; i < 4; i++) {
        racers[i] = (struct racer){&bucket, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        num += racers[i].num;
    }
    assert_int_equal(num, 20000);
}

/* --- addresses --------------------------------------------------------------------------------------- */

static const struct hash_key key = {{1, 2}};

static void v4(uint8_t out[16], uint32_t number)
{
    memset(out, 0, 10);
    memset(out + 10, 0xff, 2);
    memcpy(out + 12, &number, 4);
}

static unsigned taken_at(struct rate_table *t, const uint8_t address[16], uint64_t now_ns, unsigned tries)
{
    struct rate_state state;
    unsigned num = 0;
    while (tries--) num += rate_table_take(&state, t, address, 5, now_ns);
    return num;
}

static void each_address_has_its_own_bucket(void **state)
{
    struct rate_table *t = rate_table_new(&key);
    uint8_t a[16], b[16];
    v4(a, 1);
    v4(b, 2);
    assert_int_equal(taken_at(t, a, START, 9), 5);
    assert_int_equal(taken_at(t, b, START, 9), 5);
    assert_int_equal(taken_at(t, a, START, 9), 0);
    rate_table_free(t);
}

static void an_ipv6_network_of_64_bits_is_one_client(void **state)
{
    struct rate_table *t = rate_table_new(&key);
    uint8_t a[16] = {0x20, 1, 13, 0xb8, [7] = 1, [15] = 1}, same[16], other[16];
    memcpy(same, a, 16);
    memcpy(other, a, 16);
    same[9] = 77;
    other[7] = 2;
    assert_int_equal(taken_at(t, a, START, 9), 5);
    assert_int_equal(taken_at(t, same, START, 9), 0);
    assert_int_equal(taken_at(t, other, START, 9), 5);
    rate_table_free(t);
}

static void a_flood_of_addresses_is_forgotten_and_not_kept(void **state)
{
    struct rate_table *t = rate_table_new(&key);
    uint8_t address[16], busy[16];
    v4(busy, 0);
    /* busy stays known while others come and go: theirs are full again after a fifth of a second, its own never */
    unsigned num = 0;
    for (uint32_t i = 1; i <= 4 * RATE_SLOTS; i++) {
        uint64_t now_ns = START + i * 20000ull;
        v4(address, i);
        assert_int_equal(taken_at(t, address, now_ns, 1), 1);
        num += taken_at(t, busy, now_ns, 1);
    }
    unsigned seconds = (unsigned)(4 * RATE_SLOTS * 20000ull / SECOND);
    assert_in_range(num, 5 * seconds, 5 * seconds + 10);
    rate_table_free(t);
}

/* The places where one address may stand: the one nearest to full goes, and no other. */
static void so_many_busy_addresses_share_a_set(void **state)
{
    struct rate_table *t = rate_table_new(&key);
    uint8_t sharing[RATE_WAYS + 1][16], address[16];
    uint64_t wanted = 0;
    for (uint32_t number = 0, num = 0; num <= RATE_WAYS; number++) {
        v4(address, number);
        uint64_t set = (hash_bytes(&key, slice_of(address, 16)) >> 32) % (RATE_SLOTS / RATE_WAYS);
        if (num == 0) wanted = set;
        if (set == wanted) memcpy(sharing[num++], address, 16);
    }
    for (unsigned i = 0; i < RATE_WAYS; i++) assert_int_equal(taken_at(t, sharing[i], START + i, 9), 5);
    for (unsigned i = 0; i < RATE_WAYS; i++) assert_int_equal(taken_at(t, sharing[i], START + i, 1), 0);
    assert_int_equal(taken_at(t, sharing[RATE_WAYS], START + RATE_WAYS, 9), 5);
    for (unsigned i = 1; i <= RATE_WAYS; i++) assert_int_equal(taken_at(t, sharing[i], START + RATE_WAYS, 1), 0);
    assert_int_equal(taken_at(t, sharing[0], START + RATE_WAYS, 9), 5); /* it had been forgotten */
    rate_table_free(t);
}

static void the_highest_rate_that_may_be_named_is_held(void **state)
{
    _Atomic uint64_t bucket = 0;
    assert_int_equal(taken(&bucket, REQUEST_RATE_MAX, START, 1), 1);
    struct rate_state after;
    assert_true(rate_take(&after, &bucket, REQUEST_RATE_MAX, START));
    assert_int_equal(after.remaining, REQUEST_RATE_MAX - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_bucket_gives_one_seconds_worth_at_once_and_no_more),
        cmocka_unit_test(over_time_a_bucket_gives_its_rate),
        cmocka_unit_test(the_state_says_what_is_left_and_when),
        cmocka_unit_test(a_limit_of_one_a_second_lets_one_through),
        cmocka_unit_test(threads_together_get_no_more_than_one),
        cmocka_unit_test(each_address_has_its_own_bucket),
        cmocka_unit_test(an_ipv6_network_of_64_bits_is_one_client),
        cmocka_unit_test(a_flood_of_addresses_is_forgotten_and_not_kept),
        cmocka_unit_test(so_many_busy_addresses_share_a_set),
        cmocka_unit_test(the_highest_rate_that_may_be_named_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
