#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/slice.h"

static void slices_compare_by_length_and_bytes(void **state)
{
    assert_true(slice_eq(SLICE("abc"), SLICE("abc")));
    assert_false(slice_eq(SLICE("abc"), SLICE("abd")));
    assert_false(slice_eq(SLICE("abc"), SLICE("ab")));
    assert_true(slice_eq(SLICE("a\0b"), SLICE("a\0b")));
    assert_false(slice_eq(SLICE("a\0b"), SLICE("a\0c")));
    assert_true(slice_eq((struct slice){0}, SLICE("")));
    assert_true(slice_is(SLICE("abc"), "abc"));
    assert_false(slice_is(SLICE("abc"), "abcd"));
    assert_int_equal(slice_str(NULL).len, 0);
    assert_int_equal(slice_str("four").len, 4);
}

static void case_is_ignored_for_ascii_letters_only(void **state)
{
    assert_true(slice_eq_nocase(SLICE("Content-Length"), SLICE("cONTENT-lENGTH")));
    assert_false(slice_eq_nocase(SLICE("a"), SLICE("ab")));
    assert_false(slice_eq_nocase(SLICE("a"), SLICE("b")));
    for (unsigned c = 0; c < 256; c++)
        for (unsigned d = 0; d < 256; d++) {
            char x = (char)c, y = (char)d;
            bool letters = (c | 0x20) == (d | 0x20) && (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
            assert_int_equal(slice_eq_nocase(slice_of(&x, 1), slice_of(&y, 1)), c == d || letters);
        }
}

static void prefixes_are_found_and_cut_off(void **state)
{
    assert_true(slice_starts(SLICE("/v1/rooms"), SLICE("/v1")));
    assert_true(slice_starts(SLICE("/v1"), SLICE("/v1")));
    assert_false(slice_starts(SLICE("/v"), SLICE("/v1")));
    assert_false(slice_starts(SLICE("/v2/rooms"), SLICE("/v1")));
    assert_true(slice_is(slice_from(SLICE("/v1/rooms"), 3), "/rooms"));
    assert_true(slice_is(slice_from(SLICE("abc"), 0), "abc"));
    assert_int_equal(slice_from(SLICE("abc"), 3).len, 0);
    struct slice abc = SLICE("abc");
    assert_ptr_equal(slice_from(abc, 100).data, abc.data + 3);
}

static void whole_decimal_numbers_are_read_exactly(void **state)
{
    uint64_t v;
    assert_true(slice_u64(SLICE("0"), &v) && v == 0);
    assert_true(slice_u64(SLICE("007"), &v) && v == 7);
    assert_true(slice_u64(SLICE("18446744073709551615"), &v) && v == UINT64_MAX);
    assert_true(slice_u64(SLICE("18446744073709551609"), &v) && v == UINT64_MAX - 6);
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "1.0",
                                      "0x1",
                                      "1e3",
                                      "a",
                                      ":",
                                      "/",
                                      "18446744073709551616",
                                      "18446744073709551620",
                                      "99999999999999999999",
                                      "000000000000000000001"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        v = 42;
        assert_false(slice_u64(slice_str(bad[i]), &v));
        assert_int_equal(v, 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_by_length_and_bytes),
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(prefixes_are_found_and_cut_off),
        cmocka_unit_test(whole_decimal_numbers_are_read_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
