#include "harness.h"

#include <stdio.h>

#include "../../src/chat/typing.h"

/* Typing: what is shown of what users say, and when it ends. */

/* pass lets time pass, and every core take notice of it. */
static void pass(struct harness *h, uint64_t ms)
{
    harness_advance(h, ms);
    harness_settle(h);
    harness_turns(h);
}

static void say(struct harness *h, const struct person *who, uint64_t room, bool stop)
{
    struct op *op = harness_op(h, 0, OP_ROOM_TYPING, who, room, 0);
    op->in.typing.stop = stop;
    expect_ok(settled(h, harness_go(h, op)));
}

static void expect_typing(struct client *c, const char *user, const char *action)
{
    char part[160];
    snprintf(part, sizeof part, "\"user_id\":\"%s\",\"action\":\"%s\"}", user, action);
    const char *heard = client_hear(c);
    expect_text(heard, "{\"type\":\"typing\",\"room_id\":\"");
    expect_text(heard, part);
}

struct scene {
    struct person ann, bob;
    uint64_t room;
    struct client *listener; /* bob's */
};

static struct scene scene_open(struct harness *h, unsigned num_cores)
{
    struct scene s;
    harness_open(h, num_cores);
    s.ann = harness_person(h, "ann");
    s.bob = harness_person(h, "bob");
    s.room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&s.ann, &s.bob));
    s.listener = socket_open(h, num_cores - 1, "bob", HELLO_ALL);
    return s;
}

static void expect_nothing_kept(struct harness *h, uint64_t room)
{
    assert_int_equal(harness_core(h, 0)->typings.len, 0);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->num_typing, 0);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->num_typing_shown, 0);
}

static void a_start_is_shown_once_in_three_seconds(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 2);
    say(h, &s.ann, s.room, false);
    expect_typing(s.listener, "ann", "start");
    pass(h, TYPING_REPEAT_MS - 1);
    say(h, &s.ann, s.room, false);
    client_hears_nothing(s.listener);
    pass(h, 1);
    say(h, &s.ann, s.room, false);
    expect_typing(s.listener, "ann", "start");
    say(h, &s.ann, s.room, true);
    expect_typing(s.listener, "ann", "stop");
    say(h, &s.ann, s.room, true);
    client_hears_nothing(s.listener);
    pass(h, TYPING_REPEAT_MS);
    client_hears_nothing(s.listener);
    expect_nothing_kept(h, s.room);
}

static void typing_ends_when_it_is_not_renewed(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 1);
    say(h, &s.ann, s.room, false);
    expect_typing(s.listener, "ann", "start");
    pass(h, TYPING_REPEAT_MS - 1);
    say(h, &s.ann, s.room, false); /* not shown, and still a renewal */
    pass(h, TYPING_TIMEOUT_MS - 1);
    client_hears_nothing(s.listener);
    pass(h, 1);
    expect_typing(s.listener, "ann", "stop");
    client_hears_nothing(s.listener);
    expect_nothing_kept(h, s.room);
}

static void a_start_that_came_too_soon_is_shown_later_if_it_still_holds(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 1);
    for (unsigned round = 0; round < 2; round++) {
        say(h, &s.ann, s.room, false);
        expect_typing(s.listener, "ann", "start");
        say(h, &s.ann, s.room, true);
        expect_typing(s.listener, "ann", "stop");
        say(h, &s.ann, s.room, false);
        client_hears_nothing(s.listener);
        if (round == 1) say(h, &s.ann, s.room, true);
        pass(h, TYPING_REPEAT_MS);
        if (round == 1) break;
        expect_typing(s.listener, "ann", "start");
        pass(h, TYPING_REPEAT_MS);
        say(h, &s.ann, s.room, true);
        expect_typing(s.listener, "ann", "stop");
    }
    client_hears_nothing(s.listener);
    expect_nothing_kept(h, s.room);
}

static void a_message_ends_its_sender_s_typing_alone(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 2);
    struct client *other = socket_open(h, 0, "ann", HELLO_ALL);
    expect_text(client_hear(s.listener), "presence.update");
    say(h, &s.ann, s.room, false);
    say(h, &s.bob, s.room, false);
    expect_typing(s.listener, "ann", "start");
    expect_typing(other, "bob", "start");
    settled(h, harness_send(h, 0, &s.ann, s.room, "done"));
    expect_typing(s.listener, "ann", "stop");
    expect_text(client_hear(s.listener), "\"type\":\"message\"");
    expect_text(client_hear(other), "\"type\":\"message\"");
    client_hears_nothing(other);
}

static void a_leave_ends_typing(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 2);
    say(h, &s.ann, s.room, false);
    expect_typing(s.listener, "ann", "start");
    settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &s.ann, s.room));
    expect_typing(s.listener, "ann", "stop"); /* not durable: it overtakes the walk that brings the leave */
    expect_text(client_hear(s.listener), "\"type\":\"user_left\"");
    pass(h, TYPING_REPEAT_MS);
    client_hears_nothing(s.listener);
    expect_nothing_kept(h, s.room);
}

static void no_more_than_twenty_are_shown_in_one_room(void **state)
{
    struct harness *h = *state;
    struct person people[TYPING_SHOWN_MAX + 2];
    const struct person *members[TYPING_SHOWN_MAX + 2];
    harness_open(h, 1);
    for (unsigned i = 0; i < TYPING_SHOWN_MAX + 2; i++) {
        char id[8];
        snprintf(id, sizeof id, "user%u", i);
        people[i] = harness_person(h, id);
        members[i] = &people[i];
    }
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, members, TYPING_SHOWN_MAX + 2);
    const struct person *listening = &people[TYPING_SHOWN_MAX + 1], *late = &people[TYPING_SHOWN_MAX];
    struct client *listener = socket_open(h, 0, listening->id, HELLO_ALL);
    for (unsigned i = 0; i < TYPING_SHOWN_MAX; i++) {
        say(h, &people[i], room, false);
        expect_typing(listener, people[i].id, "start");
    }
    say(h, late, room, false);
    client_hears_nothing(listener);
    say(h, &people[0], room, true);
    expect_typing(listener, people[0].id, "stop");
    say(h, late, room, false);
    expect_typing(listener, late->id, "start");
    pass(h, TYPING_TIMEOUT_MS);
    for (unsigned i = 0; i < TYPING_SHOWN_MAX; i++) expect_text(client_hear(listener), "\"action\":\"stop\"");
    client_hears_nothing(listener);
    expect_nothing_kept(h, room);
}

static void a_room_is_kept_while_somebody_types_in_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    say(h, &ann, room, false);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->num_typing, 1);
    harness_restart(h, END_CLEAN); /* and a stop frees what is kept */
    assert_int_equal(harness_core(h, 0)->typings.len, 0);
}

static void a_core_keeps_so_many_who_type_and_no_more(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct room *r = room_find(core, h->tenant, s.room);
    for (uint64_t i = 0; i < TYPING_MAX; i++) typing_start(core, r, 1000000 + i, SLICE("somebody"));
    assert_int_equal(core->typings.len, TYPING_MAX);
    typing_start(core, r, s.ann.number, SLICE("ann"));
    assert_int_equal(core->typings.len, TYPING_MAX);
    typing_stop(core, r, 1000000 + TYPING_SHOWN_MAX); /* was not shown: nothing is left of it */
    typing_start(core, r, s.ann.number, SLICE("ann"));
    assert_int_equal(core->typings.len, TYPING_MAX);
    typing_stop(core, r, s.ann.number);
    assert_int_equal(core->typings.len, TYPING_MAX - 1);
    pass(h, TYPING_TIMEOUT_MS);
    expect_nothing_kept(h, s.room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_start_is_shown_once_in_three_seconds),
        TEST(typing_ends_when_it_is_not_renewed),
        TEST(a_start_that_came_too_soon_is_shown_later_if_it_still_holds),
        TEST(a_message_ends_its_sender_s_typing_alone),
        TEST(a_leave_ends_typing),
        TEST(no_more_than_twenty_are_shown_in_one_room),
        TEST(a_room_is_kept_while_somebody_types_in_it),
        TEST(a_core_keeps_so_many_who_type_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
