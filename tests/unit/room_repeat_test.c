#include "harness.h"

#include <stdio.h>
#include <string.h>

/* Idempotency-Key on joins, leaves and added members: the first answer again, across restarts. */

static struct answer *ask_once(struct harness *h, unsigned core, enum op_kind kind, const struct person *who,
                               uint64_t room, const char *key, uint64_t payload_hash)
{
    struct slice once = slice_str(key);
    struct op *op = harness_op(h, core, kind, who, room, once.len);
    op->client_id = op_keep(op, once);
    op->payload_hash = payload_hash;
    return harness_go(h, op);
}

static void a_repeated_join_gets_the_first_answer(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    assert_string_equal(first->out.data, "{\"success\":true,\"changed\":1,\"seq\":1}");
    struct answer *again = settled(h, ask_once(h, 1, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    harness_restart(h, END_POWER_LOST);
    struct answer *restarted = settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    assert_string_equal(again->out.data, first->out.data);
    assert_string_equal(restarted->out.data, first->out.data);
    assert_int_equal(restarted->http_status, 200);
}

static void repeats_at_once_make_one_change(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1);
    struct answer *second = ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1);
    harness_settle(h);
    expect_waiting(first);
    expect_waiting(second);
    h->hold_syncer = false;
    harness_settle(h);
    assert_string_equal(first->out.data, "{\"success\":true,\"changed\":1,\"seq\":1}");
    assert_string_equal(second->out.data, first->out.data);
    assert_int_equal(settled(h, harness_send(h, 0, &ann, room, "x"))->seq, 2);
}

static void a_repeated_leave_does_not_leave_again_after_a_return(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct answer *left = settled(h, ask_once(h, 0, OP_ROOM_LEAVE, &bob, room, "/leave k", 1));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room));
    struct answer *again = settled(h, ask_once(h, 0, OP_ROOM_LEAVE, &bob, room, "/leave k", 1));
    expect_ok(again);
    assert_string_equal(again->out.data, left->out.data);
    expect_ok(settled(h, harness_send(h, 0, &bob, room, "still here")));
}

static void an_answer_without_a_change_is_kept_too(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    h->hold_syncer = true;
    struct answer *first = ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1);
    harness_settle(h);
    expect_waiting(first); /* answered when it is kept */
    h->hold_syncer = false;
    harness_settle(h);
    assert_string_equal(first->out.data, "{\"success\":true,\"changed\":0,\"seq\":null}");
    settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room));
    struct answer *again = settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    assert_string_equal(again->out.data, first->out.data);
    expect_error(settled(h, harness_send(h, 0, &bob, room, "x")), ERR_ROOM_NOT_MEMBER);
}

static void another_body_under_the_same_key_is_a_mismatch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    expect_error(settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 2)), ERR_IDEMPOTENCY_MISMATCH);
    /* the key is the user's own */
    expect_ok(settled(h, ask_once(h, 0, OP_ROOM_JOIN, &ann, room, "/join k", 2)));
}

static void a_refusal_is_not_kept(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->config.limits_members_per_room = 2;
    struct person cat = harness_person(h, "cat");
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &cat, room));
    expect_error(settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1)), ERR_ROOM_FULL);
    settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &cat, room));
    expect_ok(settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1)));
}

static void commands_behind_a_look_up_keep_their_place(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_readers = true;
    struct answer *joined = ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1);
    struct answer *sent = harness_send(h, 0, &bob, room, "hello"); /* allowed only behind the join */
    harness_settle(h);
    expect_waiting(sent);
    h->hold_readers = false;
    harness_settle(h);
    assert_int_equal(number_in(joined->out.data, "seq"), 1);
    expect_ok(sent);
    assert_int_equal(sent->seq, 2);
}

static void a_failed_store_refuses_and_keeps_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    kv_fake_fail(h->kv, false, true);
    struct answer *kept = settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join k", 1));
    struct answer *later = settled(h, ask_once(h, 0, OP_ROOM_JOIN, &bob, room, "/join l", 1));
    assert_int_not_equal(kept->error.code, ERR_NONE);
    assert_int_not_equal(later->error.code, ERR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repeated_join_gets_the_first_answer),
        TEST(repeats_at_once_make_one_change),
        TEST(a_repeated_leave_does_not_leave_again_after_a_return),
        TEST(an_answer_without_a_change_is_kept_too),
        TEST(another_body_under_the_same_key_is_a_mismatch),
        TEST(a_refusal_is_not_kept),
        TEST(commands_behind_a_look_up_keep_their_place),
        TEST(a_failed_store_refuses_and_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
