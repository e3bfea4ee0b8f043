#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/limits.h"
#include "../../src/notify/backoff.h"

static void the_wait_doubles_up_to_an_hour(void **state)
{
    uint64_t expected = 10000;
    for (uint32_t attempts = 1; attempts <= 100; attempts++) {
        if (expected > RETRY_MAX_MS) expected = RETRY_MAX_MS;
        assert_int_equal(backoff_ms(10000, attempts, 0), expected - expected / 4);
        assert_int_equal(backoff_ms(10000, attempts, expected / 4), expected);
        assert_int_equal(backoff_ms(10000, attempts, expected / 2), expected + expected / 4);
        assert_int_equal(backoff_longest_ms(10000, attempts), expected + expected / 4);
        expected *= 2;
    }
}

static void chance_moves_it_by_a_quarter_at_most(void **state)
{
    uint64_t random = 88172645463325252ull, low = UINT64_MAX, high = 0;
    for (int i = 0; i < 100000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t wait = backoff_ms(1000, 3, random);
        if (wait < low) low = wait;
        if (wait > high) high = wait;
    }
    assert_int_equal(low, 3000);
    assert_int_equal(high, 5000);
}

static void the_shortest_wait_is_none(void **state)
{
    assert_in_range(backoff_ms(1, 1, 12345), 1, 1);
    assert_in_range(backoff_ms(1, UINT32_MAX, UINT64_MAX), RETRY_MAX_MS - RETRY_MAX_MS / 4,
                    RETRY_MAX_MS + RETRY_MAX_MS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_wait_doubles_up_to_an_hour),
        cmocka_unit_test(chance_moves_it_by_a_quarter_at_most),
        cmocka_unit_test(the_shortest_wait_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
