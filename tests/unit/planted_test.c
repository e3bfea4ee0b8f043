#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/base/planted.h"

#if PLANTED_BUILD

static void one_bug_is_on_at_a_time(void **state)
{
    const char *before = planted_name();
    assert_true(planted_choose("none"));
    assert_false(PLANTED(ack_before_sync) || PLANTED(seq_reused));
    assert_true(planted_choose("seq_reused"));
    assert_true(PLANTED(seq_reused) && !PLANTED(ack_before_sync));
    assert_string_equal(planted_name(), "seq_reused");
    assert_true(planted_choose(before));
}

static void an_unknown_name_changes_nothing(void **state)
{
    const char *before = planted_name();
    assert_false(planted_choose("no_such_bug"));
    assert_false(planted_choose(""));
    assert_string_equal(planted_name(), before);
}

static void every_row_says_what_it_breaks(void **state)
{
    for (unsigned bug = PLANTED_NONE + 1; bug < PLANTED_BUGS; bug++) {
        const struct planted_row *row = planted_row((enum planted)bug);
        assert_true(strlen(row->breaks) > 0);
        assert_true(row->sentence[strlen(row->sentence) - 1] == '.');
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_bug_is_on_at_a_time),
    cmocka_unit_test(an_unknown_name_changes_nothing),
    cmocka_unit_test(every_row_says_what_it_breaks),
};

#else

_Static_assert(PLANTED(ack_before_sync) == 0, "a constant, so that what it guards is not compiled");

static void no_bug_is_planted(void **state)
{
    assert_int_equal(PLANTED_BUILD, 0);
    assert_string_equal(planted_name(), "");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(no_bug_is_planted),
};

#endif

int main(void)
{
    return cmocka_run_group_tests_name("planted", tests, NULL, NULL);
}
