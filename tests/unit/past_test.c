#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/limits.h"
#include "../../src/notify/past.h"

static void nobody_is_known_at_first(void **state)
{
    struct past_table t = {0};
    assert_null(past_find(&t, 1, 2));
    past_heard(&t, 1, 2, 3); /* which makes nobody known */
    assert_null(past_find(&t, 1, 2));
    past_free(&t);
}

static void what_is_heard_of_lowers_the_beginning(void **state)
{
    struct past_table t = {0};
    past_set(&t, &(struct past){.tenant = 1, .user = 2, .from = PAST_NOTHING_WAITS, .seen = 70});
    past_heard(&t, 1, 2, 90);
    assert_int_equal(past_find(&t, 1, 2)->from, 90);
    past_heard(&t, 1, 2, 95);
    assert_int_equal(past_find(&t, 1, 2)->from, 90);
    past_heard(&t, 1, 2, 80);
    assert_int_equal(past_find(&t, 1, 2)->from, 80);
    assert_int_equal(past_find(&t, 1, 2)->seen, 70);
    assert_null(past_find(&t, 9, 2));
    past_free(&t);
}

static void of_two_users_in_one_place_the_newer_is_known(void **state)
{
    struct past_table t = {0};
    past_set(&t, &(struct past){.tenant = 1, .user = 1, .from = 5});
    uint64_t other = 2;
    for (; past_find(&t, 1, 1); other++) past_set(&t, &(struct past){.tenant = 1, .user = other, .from = 6});
    other--;
    assert_int_equal(past_find(&t, 1, other)->from, 6);
    past_heard(&t, 1, 1, 3); /* is not taken for the other's */
    assert_int_equal(past_find(&t, 1, other)->from, 6);
    past_free(&t);
}

static void the_table_has_so_many_places_and_no_more(void **state)
{
    struct past_table t = {0};
    unsigned known = 0;
    for (uint64_t user = 1; user <= 4 * PAST_USERS; user++)
        past_set(&t, &(struct past){.tenant = 1, .user = user, .from = 5});
    for (uint64_t user = 1; user <= 4 * PAST_USERS; user++) known += past_find(&t, 1, user) != NULL;
    assert_in_range(known, PAST_USERS / 2, PAST_USERS);
    past_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_known_at_first),
        cmocka_unit_test(what_is_heard_of_lowers_the_beginning),
        cmocka_unit_test(of_two_users_in_one_place_the_newer_is_known),
        cmocka_unit_test(the_table_has_so_many_places_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
