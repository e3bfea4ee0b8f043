#include "harness.h"

#include <stdio.h>
#include <string.h>

/* Making rooms: everything in one entry, a DM once for each pair, an Idempotency-Key once for each body. */

/* --- rooms --------------------------------------------------------------------------------------- */

static void a_room_exists_for_its_members_once_it_is_durable(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    h->hold_syncer = true;
    struct answer *created = harness_create(h, 1, ROOM_GROUP, 0, PEOPLE(&ann, &bob), NULL, 0);
    harness_settle(h);
    expect_waiting(created);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(created);
    assert_int_equal(created->http_status, 201);
    assert_int_equal(created->core, 1);
    expect_text(created->out.data, "\"last_seq\":0");
    expect_text(created->out.data, "\"role\":\"admin\"");
    struct answer *rooms = settled(h, harness_rooms(h, 0, &bob, NULL));
    assert_int_equal(rooms->num_positions, 1);
    assert_int_equal(rooms->positions[0].room, created->room);
    expect_text(settled(h, harness_ask(h, 0, OP_ROOM_GET, &bob, created->room))->out.data, "\"role\":\"member\"");
    assert_int_equal(settled(h, harness_send(h, 0, &bob, created->room, "first"))->seq, 1); /* creation takes no seq */
}

static void a_room_that_the_power_took_was_not_made(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    h->hold_syncer = true;
    struct answer *created = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "POST /rooms k", 1);
    harness_settle(h);
    harness_restart(h, END_POWER_LOST);
    expect_error(created, ERR_STORE_UNKNOWN);
    assert_int_equal(settled(h, harness_rooms(h, 0, &ann, NULL))->num_positions, 0);
    struct answer *again = settled(h, harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "POST /rooms k", 1));
    expect_ok(again);
    assert_int_equal(settled(h, harness_rooms(h, 0, &ann, NULL))->num_positions, 1);
}

static void numbers_are_never_given_twice(void **state)
{
    struct harness *h = *state;
    static const enum harness_end ends[] = {END_KILLED, END_POWER_LOST, END_CLEAN};
    uint64_t last = 0;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    for (unsigned i = 0; i < 3; i++) {
        uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        assert_true(room > last && room > ann.number);
        last = room;
        harness_restart(h, ends[i]);
    }
}

/* --- direct rooms -------------------------------------------------------------------------------- */

static void a_direct_room_is_found_from_either_side(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    struct answer *made = settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &bob), NULL, 0));
    struct answer *found = settled(h, harness_create(h, 1, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0));
    struct answer *other = settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &cat), NULL, 0));
    expect_ok(made);
    assert_int_equal(made->http_status, 201);
    expect_text(made->out.data, "\"unique_key\":\"dm:ann:bob\"");
    expect_ok(found);
    assert_int_equal(found->http_status, 200);
    assert_int_equal(found->room, made->room);
    assert_int_equal(other->http_status, 201);
    assert_int_not_equal(other->room, made->room);
    harness_restart(h, END_POWER_LOST);
    assert_int_equal(settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0))->room, made->room);
}

static void pairs_whose_ids_hold_the_separator_do_not_meet(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person a = harness_person(h, "a"), b_c = harness_person(h, "b:c"), a_b = harness_person(h, "a:b");
    struct person c = harness_person(h, "c"), a_escaped_b = harness_person(h, "a%3Ab");
    uint64_t rooms[3] = {
        settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&a, &b_c), NULL, 0))->room,
        settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&a_b, &c), NULL, 0))->room,
        settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&a_escaped_b, &c), NULL, 0))->room,
    };
    assert_true(rooms[0] && rooms[0] != rooms[1] && rooms[1] != rooms[2] && rooms[0] != rooms[2]);
}

static void ids_of_full_length_make_a_direct_room_of_their_own(void **state)
{
    struct harness *h = *state;
    char long_a[USER_ID_BYTES_MAX + 1], long_b[USER_ID_BYTES_MAX + 1];
    harness_open(h, 1);
    memset(long_a, ':', USER_ID_BYTES_MAX);
    long_a[USER_ID_BYTES_MAX] = '\0';
    memcpy(long_b, long_a, sizeof long_b);
    long_b[USER_ID_BYTES_MAX - 1] = 'b';
    struct person a = harness_person(h, long_a), b = harness_person(h, long_b);
    long_b[USER_ID_BYTES_MAX - 1] = 'c';
    struct person c = harness_person(h, long_b);
    struct answer *made = settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&a, &b), NULL, 0));
    struct answer *found = settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&b, &a), NULL, 0));
    struct answer *other = settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&a, &c), NULL, 0));
    expect_ok(made);
    assert_int_equal(found->room, made->room);
    assert_int_not_equal(other->room, made->room);
}

static void concurrent_creations_of_one_direct_room_make_one(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    struct answer *created[6];
    unsigned made = 0;
    h->hold_syncer = true;
    for (unsigned i = 0; i < 6; i++)
        created[i] = i % 2 ? harness_create(h, i % 3, ROOM_DM, 0, PEOPLE(&ann, &bob), NULL, 0)
                           : harness_create(h, i % 3, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0);
    harness_settle(h);
    for (unsigned i = 0; i < 6; i++) expect_waiting(created[i]);
    h->hold_syncer = false;
    harness_settle(h);
    for (unsigned i = 0; i < 6; i++) {
        expect_ok(created[i]);
        assert_int_equal(created[i]->room, created[0]->room);
        made += created[i]->http_status == 201;
    }
    assert_int_equal(made, 1);
    assert_int_equal(settled(h, harness_rooms(h, 0, &ann, NULL))->num_positions, 1);
}

/* --- Idempotency-Key
 * --------------------------------------------------------------------------------------------------- */

static void the_same_key_makes_one_room(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    h->hold_syncer = true;
    struct answer *first = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7);
    struct answer *at_once = harness_create(h, 1, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7);
    struct answer *of_bob = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&bob), "/rooms k", 7);
    harness_settle(h);
    expect_waiting(at_once);
    h->hold_syncer = false;
    harness_settle(h);
    struct answer *later = settled(h, harness_create(h, 1, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7));
    harness_restart(h, END_POWER_LOST);
    struct answer *restarted = settled(h, harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7));
    struct answer *const same[] = {at_once, later, restarted};
    expect_ok(first);
    for (unsigned i = 0; i < 3; i++) {
        expect_ok(same[i]);
        assert_int_equal(same[i]->room, first->room);
        assert_int_equal(same[i]->http_status, 201);
    }
    assert_int_not_equal(of_bob->room, first->room);
}

static void the_same_key_with_another_body_is_a_mismatch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct answer *first = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7);
    struct answer *at_once = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 8);
    harness_settle(h);
    expect_ok(first);
    expect_error(at_once, ERR_IDEMPOTENCY_MISMATCH);
    expect_error(settled(h, harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 8)),
                 ERR_IDEMPOTENCY_MISMATCH);
}

static void a_mismatch_does_not_speak_for_those_who_wait_with_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct answer *first = settled(h, harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7));
    struct answer *wrong = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 8);
    struct answer *right = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 7);
    harness_settle(h);
    expect_error(wrong, ERR_IDEMPOTENCY_MISMATCH);
    expect_ok(right);
    assert_int_equal(right->room, first->room);
}

/* --- a store that fails
 * ---------------------------------------------------------------------------------------------------- */

static void whoever_waits_for_a_creation_that_fails_is_told(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    h->hold_syncer = true;
    struct answer *first = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &bob), NULL, 0);
    struct answer *second = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0);
    harness_settle(h);
    kv_fake_fail(h->kv, false, true);
    h->hold_syncer = false;
    harness_settle(h);
    expect_error(first, ERR_STORE_UNKNOWN);
    expect_error(second, ERR_STORE_UNKNOWN);
    expect_error(settled(h, harness_create(h, 0, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0)), ERR_STORE_READ_ONLY);
    assert_int_equal(harness_core(h, 0)->dms_opening.len, 0);
}

static void one_key_for_two_direct_rooms_at_once_makes_one(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    h->hold_readers = true;
    struct answer *first = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &bob), "/rooms k", 1);
    struct answer *again = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &bob), "/rooms k", 1);
    struct answer *other = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&ann, &cat), "/rooms k", 2);
    struct answer *group = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), "/rooms k", 3);
    struct answer *keyless = harness_create(h, 0, ROOM_DM, 0, PEOPLE(&bob, &ann), NULL, 0);
    h->hold_readers = false;
    harness_settle(h);
    expect_ok(first);
    assert_int_equal(first->http_status, 201);
    expect_ok(again);
    assert_int_equal(again->http_status, 201);
    assert_true(again->room == first->room && keyless->room == first->room);
    assert_int_equal(keyless->http_status, 200);
    expect_error(other, ERR_IDEMPOTENCY_MISMATCH);
    expect_error(group, ERR_IDEMPOTENCY_MISMATCH);
    assert_int_equal(harness_core(h, 0)->dms_opening.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_room_exists_for_its_members_once_it_is_durable),
        TEST(a_room_that_the_power_took_was_not_made),
        TEST(numbers_are_never_given_twice),
        TEST(a_direct_room_is_found_from_either_side),
        TEST(pairs_whose_ids_hold_the_separator_do_not_meet),
        TEST(ids_of_full_length_make_a_direct_room_of_their_own),
        TEST(concurrent_creations_of_one_direct_room_make_one),
        TEST(the_same_key_makes_one_room),
        TEST(the_same_key_with_another_body_is_a_mismatch),
        TEST(a_mismatch_does_not_speak_for_those_who_wait_with_it),
        TEST(whoever_waits_for_a_creation_that_fails_is_told),
        TEST(one_key_for_two_direct_rooms_at_once_makes_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
