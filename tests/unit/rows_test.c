#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../src/notify/rows.h"

static void rows_stay_what_they_were_while_their_bytes_move(void **state)
{
    struct rows r = {0};
    struct key key;
    char text[64];
    for (unsigned i = 0; i < 1000; i++) {
        key_outbox(&key, 1, 2, i);
        if (i % 3 == 0) rows_delete(&r, KV_OUTBOX, &key);
        else buf_printf(rows_put(&r, KV_NOTIFICATIONS, &key), "value %u", i);
    }
    rows_finish(&r);
    assert_int_equal(r.num, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        const struct commit_row *row = &r.rows[i];
        key_outbox(&key, 1, 2, i);
        assert_true(slice_eq(row->key, key_slice(&key)));
        assert_int_equal(row->op, i % 3 == 0 ? COMMIT_DELETE : COMMIT_PUT);
        assert_int_equal(row->cf, i % 3 == 0 ? KV_OUTBOX : KV_NOTIFICATIONS);
        snprintf(text, sizeof text, "value %u", i);
        assert_true(slice_is(row->value, i % 3 == 0 ? "" : text));
    }
    rows_free(&r);
    assert_null(r.rows);
}

static void a_put_without_a_value_is_an_empty_one(void **state)
{
    struct rows r = {0};
    struct key key;
    key_tenant(&key, 7);
    rows_put(&r, KV_META, &key);
    rows_delete(&r, KV_META, &key);
    rows_put(&r, KV_META, &key);
    rows_finish(&r);
    assert_int_equal(r.num, 3);
    assert_true(r.rows[0].value.len == 0 && r.rows[2].value.len == 0 && slice_eq(r.rows[2].key, key_slice(&key)));
    rows_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_stay_what_they_were_while_their_bytes_move),
        cmocka_unit_test(a_put_without_a_value_is_an_empty_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
