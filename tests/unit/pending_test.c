/* carillonctl is no library: its pure parts are taken in as they are. */
#include "../../tools/ctl/pending.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void only_the_oldest_message_is_on_its_way(void **state)
{
    (void)state;
    struct pendings p;
    pendings_init(&p, 7);
    assert_null(pendings_next(&p, 0));
    pendings_add(&p, SLICE("one"));
    pendings_add(&p, SLICE("two"));
    struct pending *first = pendings_next(&p, 0);
    assert_int_equal(first->number, 1);
    first->due_ms = PENDING_SENT;
    assert_null(pendings_next(&p, 1000000)); /* the second waits for the first one's answer */
    assert_false(pendings_done(&p, 2));
    assert_true(pendings_done(&p, 1));
    assert_int_equal(pendings_next(&p, 0)->number, 2);
    pendings_free(&p);
}

static void a_message_put_off_holds_the_others_back(void **state)
{
    (void)state;
    struct pendings p;
    pendings_init(&p, 7);
    pendings_add(&p, SLICE("one"));
    pendings_add(&p, SLICE("two"));
    p.items[0].due_ms = 500;
    assert_null(pendings_next(&p, 499));
    assert_int_equal(pendings_next(&p, 500)->number, 1);
    pendings_free(&p);
}

static void a_message_keeps_its_client_id_and_chats_have_different_ones(void **state)
{
    (void)state;
    struct pendings p;
    struct buf once = {0}, again = {0};
    pendings_init(&p, 0xabc);
    pendings_add(&p, SLICE("a \"b\""));
    pending_request(&once, &p, &p.items[0], "r_1");
    pending_request(&again, &p, &p.items[0], "r_1");
    assert_true(slice_is(buf_slice(&once), "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"r_1\","
                                           "\"client_id\":\"ctl-0000000000000abc-1\",\"content\":\"a \\\"b\\\"\"}"));
    assert_true(slice_eq(buf_slice(&once), buf_slice(&again)));
    buf_free(&once);
    buf_free(&again);
    pendings_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_oldest_message_is_on_its_way),
        cmocka_unit_test(a_message_put_off_holds_the_others_back),
        cmocka_unit_test(a_message_keeps_its_client_id_and_chats_have_different_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
