#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "../../src/core/notice.h"

static void an_op_keeps_copies_of_its_text(void **state)
{
    struct harness *h = *state;
    char text[] = "ding dong";
    harness_open(h, 1);
    struct op *op = op_new(harness_core(h, 0), OP_ROOM_SEND, 9);
    struct slice first = op_keep(op, slice_of(text, 4)), second = op_keep(op, slice_of(text + 4, 5));
    struct slice none = op_keep(op, (struct slice){0});
    memset(text, '~', sizeof text);
    assert_memory_equal(first.data, "ding", 4);
    assert_memory_equal(second.data, " dong", 5);
    assert_int_equal(none.len, 0);
    op_free(op);
}

static void the_first_error_stays(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct op *op = op_new(harness_core(h, 0), OP_ROOM_GET, 0);
    assert_false(op_failed(op));
    assert_false(op_fail(op, ERR_ROOM_NOT_FOUND, "gone", "room"));
    assert_false(op_fail(op, ERR_STORE_UNKNOWN, "later", NULL));
    assert_true(op_failed(op));
    assert_int_equal(op->error.code, ERR_ROOM_NOT_FOUND);
    assert_string_equal(op->error.detail, "gone");
    assert_string_equal(op->error.field, "room");
    op_free(op);
}

static void an_op_is_of_the_core_and_the_time_it_was_made_in(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    harness_advance(h, 1234);
    harness_settle(h);
    struct op *op = op_new(harness_core(h, 2), OP_ROOM_GET, 0);
    assert_int_equal(op->origin, 2);
    assert_true(op->now_ms == h->wall_ms && op->started_ns == h->mono_ns);
    assert_true(op->answered);
    assert_int_equal(op->conn.generation, 0); /* nobody waits unless it is said who */
    op_free(op);
}

static void a_notice_carries_its_texts(void **state)
{
    struct harness *h = *state;
    char id[] = "ann", body[] = "body";
    harness_open(h, 2);
    struct notice *n = notice_new(harness_core(h, 1), NOTICE_JOINED, 5, 6, SLICE("ann"), 7, 8, slice_of(body, 4));
    struct notice *bare = notice_new(harness_core(h, 0), NOTICE_LEFT, 5, 6, slice_of(id, 3), 7, 8, (struct slice){0});
    memset(id, '~', sizeof id);
    memset(body, '~', sizeof body);
    assert_true(slice_is(notice_user_id(n), "ann") && slice_is(notice_body(n), "body"));
    assert_true(slice_is(notice_user_id(bare), "ann") && notice_body(bare).len == 0);
    assert_true(n->from_core == 1 && n->tenant == 5 && n->user == 6 && n->room == 7 && n->seq == 8);
    free(n);
    free(bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_op_keeps_copies_of_its_text),
        TEST(the_first_error_stays),
        TEST(an_op_is_of_the_core_and_the_time_it_was_made_in),
        TEST(a_notice_carries_its_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
