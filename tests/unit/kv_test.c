#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../storage/keys.h"
#include "../../storage/kv.h"

/* What every store behind kv.h is told by the same functions: names, order and ranges. */

/* They stand on disk: a store would not find its rows under another one. */
static void column_families_have_the_names_that_are_on_disk(void **state)
{
    static const char *const on_disk[] = {"meta",          "tenants",       "keys",        "names",      "users",
                                          "sessions",      "rooms",         "members",     "user_rooms", "log",
                                          "changes",       "cursors",       "idempotency", "outbox",     "dead_letters",
                                          "notifications", "subscriptions", "audit"};
    assert_int_equal(KV_CFS, sizeof on_disk / sizeof *on_disk);
    for (unsigned cf = 0; cf < KV_CFS; cf++) assert_string_equal(kv_cf_name((enum kv_cf)cf), on_disk[cf]);
}

static int sign(int order) { return (order > 0) - (order < 0); }

static void keys_are_ordered_by_bytes_and_a_prefix_comes_first(void **state)
{
    static const struct slice ascending[] = {{"", 0},     {"\0", 1},       {"\0\0", 2}, {"\0\x01", 2}, {"\x01", 1},
                                             {"a", 1},    {"a\0", 2},      {"aa", 2},   {"b", 1},      {"\x7f", 1},
                                             {"\x80", 1}, {"\x80\xff", 2}, {"\xff", 1}, {"\xff\0", 2}};
    unsigned num = sizeof ascending / sizeof *ascending;
    for (unsigned a = 0; a < num; a++)
        for (unsigned b = 0; b < num; b++)
            assert_int_equal(sign(kv_key_compare(ascending[a], ascending[b])), sign((int)a - (int)b));
}

static void a_range_has_a_beginning_before_its_end(void **state)
{
    assert_true(kv_range_valid(KV_META, SLICE("a"), SLICE("b")));
    assert_true(kv_range_valid(KV_META, SLICE(""), SLICE("a")));
    assert_false(kv_range_valid(KV_META, SLICE("a"), SLICE("a")));
    assert_false(kv_range_valid(KV_META, SLICE("b"), SLICE("a")));
    assert_false(kv_range_valid(KV_CFS, SLICE("a"), SLICE("b")));
}

/* A deletion that begins inside a room would be met by every read of that room (storage/README.md). */
static void in_the_log_a_range_begins_with_a_room_or_a_tenant(void **state)
{
    struct key tenant, room, event, last;
    key_tenant(&tenant, 1);
    key_room(&room, 1, 2);
    key_log(&event, 1, 2, 3);
    key_tenant(&last, 2);
    assert_true(kv_range_valid(KV_LOG, key_slice(&tenant), key_slice(&last)));
    assert_true(kv_range_valid(KV_LOG, key_slice(&room), key_slice(&last)));
    assert_false(kv_range_valid(KV_LOG, key_slice(&event), key_slice(&last)));
    assert_true(kv_range_valid(KV_CHANGES, key_slice(&event), key_slice(&last)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(column_families_have_the_names_that_are_on_disk),
        cmocka_unit_test(keys_are_ordered_by_bytes_and_a_prefix_comes_first),
        cmocka_unit_test(a_range_has_a_beginning_before_its_end),
        cmocka_unit_test(in_the_log_a_range_begins_with_a_room_or_a_tenant),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
