/* The command line is no library: its pure parts are taken in as they are. */
#include "../../src/cli/nearest.c" /* NOLINT(bugprone-suspicious-include) */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void distance_counts_each_slip_of_typing_once(void **state)
{
    (void)state;
    assert_int_equal(nearest_distance("serve", "serve"), 0);
    assert_int_equal(nearest_distance("serv", "serve"), 1);
    assert_int_equal(nearest_distance("sserve", "serve"), 1);
    assert_int_equal(nearest_distance("sarve", "serve"), 1);
    assert_int_equal(nearest_distance("srevee", "serve"), 2);
    assert_int_equal(nearest_distance("", "dev"), 3);
    assert_int_equal(nearest_distance("dev", ""), 3);
    assert_int_equal(nearest_distance("abcdefghijklmnopqrstuvwxyz012345", "b"), 31); /* the longest allowed */
}

static void distance_counts_swapped_neighbours_once(void **state)
{
    (void)state;
    assert_int_equal(nearest_distance("sevre", "serve"), 1);
    assert_int_equal(nearest_distance("vde", "dev"), 2);
}

static void better_keeps_the_closest_name(void **state)
{
    (void)state;
    unsigned distance = UINT_MAX;
    assert_true(nearest_better("chekc-json", "check-config", &distance) == false);
    assert_true(nearest_better("chekc-json", "check-json", &distance));
    assert_int_equal(distance, 1);
    assert_false(nearest_better("chekc-json", "check-json", &distance)); /* no closer than the one it has */
}

static void better_makes_no_absurd_guess(void **state)
{
    (void)state;
    unsigned distance = UINT_MAX;
    assert_false(nearest_better("x", "dev", &distance));
    assert_false(nearest_better("status", "serve", &distance));
    assert_false(nearest_better("a-name-that-is-longer-than-any-of-those-known", "serve", &distance));
    assert_int_equal(distance, UINT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_counts_each_slip_of_typing_once),
        cmocka_unit_test(distance_counts_swapped_neighbours_once),
        cmocka_unit_test(better_keeps_the_closest_name),
        cmocka_unit_test(better_makes_no_absurd_guess),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
