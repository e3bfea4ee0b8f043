#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Membership (room_append.c): who may change it, what it writes, and that nobody is told of a change which a crash
 * could still take back. */

/* members_of lists a room's members as `who` is shown them; the text lives until the test ends. */
static const char *members_of(struct harness *h, const struct person *who, uint64_t room)
{
    struct answer *a = harness_ask(h, 0, OP_ROOM_MEMBERS, who, room);
    harness_settle(h);
    expect_ok(a);
    return a->out.data;
}

static void expect_role(struct harness *h, const struct person *who, uint64_t room, const char *role)
{
    char expected[64];
    struct answer *a = harness_ask(h, 0, OP_ROOM_GET, who, room);
    harness_settle(h);
    expect_ok(a);
    snprintf(expected, sizeof expected, "\"role\":\"%s\"", role);
    expect_text(a->out.data, expected);
}

/* --- joining ------------------------------------------------------------------------------------- */

static void a_public_room_is_joined_by_an_event(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    struct answer *joined = settled(h, harness_ask(h, 1, OP_ROOM_JOIN, &bob, room));
    expect_ok(joined);
    assert_string_equal(joined->out.data, "{\"success\":true,\"changed\":1,\"seq\":3}");
    expect_role(h, &bob, room, "member");
    struct answer *events = settled(h, harness_events(h, 0, &bob, room, 2));
    expect_text(events->out.data, "\"type\":\"user_joined\"");
    expect_text(events->out.data, "\"user_ids\":[\"bob\"],\"actor_id\":\"bob\"");
    struct answer *rooms = settled(h, harness_rooms(h, 0, &bob, NULL));
    assert_int_equal(rooms->num_positions, 1);
    assert_int_equal(rooms->positions[0].joined_seq, 3);
}

static void joining_again_changes_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *again = settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &ann, room));
    expect_ok(again);
    assert_string_equal(again->out.data, "{\"success\":true,\"changed\":0,\"seq\":null}");
    expect_role(h, &ann, room, "admin");
    assert_int_equal(settled(h, harness_send(h, 0, &ann, room, "x"))->seq, 1);
}

static void joining_again_is_not_answered_before_the_first_join_is_durable(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    struct answer *again = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    struct answer *added = harness_change(h, 0, OP_ROOM_ADD, &ann, room, &bob, 0);
    harness_settle(h);
    expect_waiting(first);
    expect_waiting(again);
    expect_waiting(added);
    h->hold_syncer = false;
    harness_settle(h);
    assert_int_equal(number_in(first->out.data, "changed"), 1);
    assert_int_equal(number_in(again->out.data, "changed"), 0);
    assert_int_equal(number_in(added->out.data, "changed"), 0);
}

static void hidden_rooms_are_not_joined(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), eve = harness_person(h, "eve");
    struct answer *private =
        settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &eve, harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann))));
    struct answer *secret =
        settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &eve, harness_room(h, ROOM_CHANNEL, ROOM_PRIVATE, PEOPLE(&ann))));
    struct answer *direct =
        settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &eve, harness_room(h, ROOM_DM, 0, PEOPLE(&ann, &bob))));
    expect_error(private, ERR_ROOM_NOT_FOUND);
    expect_error(secret, ERR_ROOM_NOT_FOUND);
    expect_error(direct, ERR_ROOM_NOT_FOUND);
}

static void a_full_room_takes_nobody(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->config.limits_members_per_room = 2;
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room)));
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &cat, room)), ERR_ROOM_FULL);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_ADD, &ann, room, &cat, 0)), ERR_ROOM_FULL);
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room)));
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &cat, room)));
}

static void large_rooms_are_told_a_count(void **state)
{
    struct harness *h = *state;
    h->config.limits_presence_room_members = 1;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &cat, room));
    struct answer *events = settled(h, harness_events(h, 0, &ann, room, 0));
    assert_int_equal(count_in(events->out.data, "\"user_ids\":[\"bob\"]"), 1); /* two members: not above the bound */
    assert_int_equal(count_in(events->out.data, "\"count\":1"), 1);
    expect_no_text(events->out.data, "\"user_ids\":[\"cat\"]");
}

/* --- adding -------------------------------------------------------------------------------------- */

/* add_all asks for a list of members at once. */
static struct answer *add_all(struct harness *h, const struct person *who, uint64_t room,
                              const struct person *const *whom, unsigned num)
{
    struct op *op = harness_op(h, 0, OP_ROOM_ADD, who, room, num * USER_ID_BYTES_MAX);
    op->members = calloc(num, sizeof *op->members);
    assert_non_null(op->members);
    op->num_members = num;
    for (unsigned i = 0; i < num; i++)
        op->members[i] = (struct op_member){.user = whom[i]->number, .user_id = op_keep(op, slice_str(whom[i]->id))};
    return settled(h, harness_go(h, op));
}

static void a_list_of_members_is_one_event_of_those_who_are_new(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    uint64_t room = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann));
    struct answer *added = add_all(h, &ann, room, PEOPLE(&bob, &ann, &cat, &bob));
    assert_string_equal(added->out.data, "{\"success\":true,\"changed\":2,\"seq\":1}");
    struct answer *events = settled(h, harness_events(h, 0, &cat, room, 0));
    assert_int_equal(count_in(events->out.data, "\"type\":"), 1);
    expect_text(events->out.data, "\"user_ids\":[\"bob\",\"cat\"],\"actor_id\":\"ann\"");
    assert_string_equal(add_all(h, &ann, room, PEOPLE(&bob))->out.data,
                        "{\"success\":true,\"changed\":0,\"seq\":null}");
}

static void only_admins_add(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), eve = harness_person(h, "eve");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    expect_error(add_all(h, &bob, room, PEOPLE(&eve)), ERR_ROOM_NOT_ADMIN);
    expect_error(add_all(h, &eve, room, PEOPLE(&eve)), ERR_ROOM_NOT_MEMBER);
    expect_no_text(members_of(h, &ann, room), "eve");
}

/* --- leaving and removing ------------------------------------------------------------------------ */

static void who_has_left_is_no_member(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct answer *left = settled(h, harness_ask(h, 1, OP_ROOM_LEAVE, &bob, room));
    assert_string_equal(left->out.data, "{\"success\":true,\"changed\":1,\"seq\":1}");
    expect_error(settled(h, harness_send(h, 0, &bob, room, "x")), ERR_ROOM_NOT_MEMBER);
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room)), ERR_ROOM_NOT_MEMBER);
    assert_int_equal(settled(h, harness_rooms(h, 0, &bob, NULL))->num_positions, 0);
    struct answer *events = settled(h, harness_events(h, 0, &ann, room, 0));
    expect_text(events->out.data, "\"type\":\"user_left\"");
    expect_text(events->out.data, "\"user_ids\":[\"bob\"]");
    harness_restart(h, END_POWER_LOST);
    expect_error(settled(h, harness_send(h, 0, &bob, room, "x")), ERR_ROOM_NOT_MEMBER);
    assert_int_equal(settled(h, harness_rooms(h, 0, &bob, NULL))->num_positions, 0);
}

static void a_returning_member_begins_at_its_join(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    harness_fill(h, &ann, room, 4);
    settled(h, harness_ack(h, 0, &bob, room, NULL, 3, true));
    settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room)); /* 5 */
    harness_fill(h, &ann, room, 7);
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room)); /* 8 */
    for (unsigned restarted = 0; restarted < 2; restarted++) {
        struct answer *rooms = settled(h, harness_rooms(h, 0, &bob, NULL));
        assert_int_equal(rooms->num_positions, 1);
        assert_int_equal(rooms->positions[0].joined_seq, 8);
        assert_int_equal(rooms->positions[0].delivered, 8);
        assert_int_equal(rooms->positions[0].read, 8);
        if (!restarted) harness_restart(h, END_CLEAN);
    }
}

static void only_admins_remove_others(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    struct person eve = harness_person(h, "eve");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob, &cat));
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &bob, room, &cat, 0)), ERR_ROOM_NOT_ADMIN);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &eve, 0)), ERR_MEMBER_NOT_FOUND);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &eve, room, &eve, 0)), ERR_ROOM_NOT_MEMBER);
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &cat, 0)));
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &bob, room, &bob, 0))); /* oneself: like leaving */
    const char *left = members_of(h, &ann, room);
    assert_int_equal(count_in(left, "user_id"), 1);
}

static void a_direct_room_keeps_its_two_members(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), eve = harness_person(h, "eve");
    uint64_t room = harness_room(h, ROOM_DM, 0, PEOPLE(&ann, &bob));
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &ann, room)), ERR_ROOM_DM_FIXED);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_ADD, &ann, room, &eve, 0)), ERR_ROOM_DM_FIXED);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &bob, 0)), ERR_ROOM_DM_FIXED);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &ann, 0)), ERR_ROOM_DM_FIXED);
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &bob, MEMBER_ADMIN)), ERR_ROOM_DM_FIXED);
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &eve, room)), ERR_ROOM_NOT_FOUND);
    assert_int_equal(settled(h, harness_send(h, 0, &bob, room, "still"))->seq, 1);
}

/* --- roles --------------------------------------------------------------------------------------- */

static void admins_give_and_take_the_role(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_CHANNEL, 0, PEOPLE(&ann, &bob));
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &bob, room, &bob, MEMBER_ADMIN)), ERR_ROOM_NOT_ADMIN);
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &bob, MEMBER_ADMIN)));
    expect_ok(settled(h, harness_send(h, 0, &bob, room, "now I may")));
    struct answer *events = settled(h, harness_events(h, 0, &ann, room, 0));
    expect_text(events->out.data, "\"type\":\"room.updated\"");
    expect_text(events->out.data, "\"user_id\":\"bob\",\"role\":\"admin\"");
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &bob, room, &ann, MEMBER_MEMBER)));
    harness_restart(h, END_POWER_LOST);
    expect_role(h, &bob, room, "admin");
    expect_role(h, &ann, room, "member");
    expect_error(settled(h, harness_send(h, 0, &ann, room, "no more")), ERR_ROOM_READ_ONLY);
}

static void the_last_admin_does_not_step_down_while_others_are_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    expect_error(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &ann, MEMBER_MEMBER)), ERR_ROOM_LAST_ADMIN);
    expect_role(h, &ann, room, "admin");
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &bob, MEMBER_ADMIN)));
    expect_ok(settled(h, harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &ann, MEMBER_MEMBER)));
}

static void who_was_there_longest_inherits_from_the_last_admin(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), old = harness_person(h, "old"), young = harness_person(h, "young");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &old, room));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &young, room));
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &ann, room)));
    expect_role(h, &old, room, "admin");
    expect_role(h, &young, room, "member");
    harness_restart(h, END_POWER_LOST);
    expect_role(h, &old, room, "admin");
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &old, room)));
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &young, room))); /* nobody is left to inherit */
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &ann, room)));
}

/* --- before the change is durable ---------------------------------------------------------------- */

static void who_reads_the_membership_waits_for_the_change(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    h->hold_syncer = true;
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    harness_settle(h);
    struct answer *waiting[] = {
        harness_ask(h, 0, OP_ROOM_GET, &ann, room),    harness_ask(h, 1, OP_ROOM_MEMBERS, &ann, room),
        harness_events(h, 0, &bob, room, 0),           harness_position(h, 1, &bob, room, POSITION_LIVE, 0, 0),
        harness_ack(h, 0, &bob, room, NULL, 1, false),
    };
    struct answer *sent = harness_send(h, 0, &ann, room, "commands go on");
    harness_settle(h);
    for (unsigned i = 0; i < 5; i++) expect_waiting(waiting[i]);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(joined);
    for (unsigned i = 0; i < 5; i++) {
        expect_ok(waiting[i]);
        assert_true(waiting[i]->order > joined->order);
    }
    assert_int_equal(sent->seq, 3);
}

static void a_join_that_the_power_took_did_not_happen(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    harness_settle(h);
    harness_restart(h, END_POWER_LOST);
    expect_error(joined, ERR_STORE_UNKNOWN);
    assert_int_equal(count_in(members_of(h, &ann, room), "user_id"), 1);
    expect_error(settled(h, harness_send(h, 0, &bob, room, "x")), ERR_ROOM_NOT_MEMBER);
    assert_int_equal(settled(h, harness_rooms(h, 0, &bob, NULL))->num_positions, 0);
}

static void after_a_failed_store_an_undurable_membership_is_not_shown(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    kv_fake_fail(h->kv, false, true);
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    struct answer *reader = harness_ask(h, 0, OP_ROOM_MEMBERS, &ann, room);
    harness_settle(h);
    expect_error(joined, ERR_STORE_UNKNOWN);
    expect_error(reader, ERR_STORE_READ_ONLY);
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_MEMBERS, &ann, room)), ERR_STORE_READ_ONLY);
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_MEMBERS, &ann, other)));
    assert_int_equal(settled(h, harness_rooms(h, 0, &bob, NULL))->num_positions, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_public_room_is_joined_by_an_event),
        TEST(joining_again_changes_nothing),
        TEST(joining_again_is_not_answered_before_the_first_join_is_durable),
        TEST(hidden_rooms_are_not_joined),
        TEST(a_full_room_takes_nobody),
        TEST(large_rooms_are_told_a_count),
        TEST(a_list_of_members_is_one_event_of_those_who_are_new),
        TEST(only_admins_add),
        TEST(who_has_left_is_no_member),
        TEST(a_returning_member_begins_at_its_join),
        TEST(only_admins_remove_others),
        TEST(a_direct_room_keeps_its_two_members),
        TEST(admins_give_and_take_the_role),
        TEST(the_last_admin_does_not_step_down_while_others_are_there),
        TEST(who_was_there_longest_inherits_from_the_last_admin),
        TEST(who_reads_the_membership_waits_for_the_change),
        TEST(a_join_that_the_power_took_did_not_happen),
        TEST(after_a_failed_store_an_undurable_membership_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
