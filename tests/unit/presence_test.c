#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/presence.h"
#include "../../src/core/notice.h"

/* Presence: what is told when, and what is left of it. */

#define PATIENCE_NS 5000000000ull

static void expect_update(struct client *c, const char *user, const char *status)
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, "{\"type\":\"presence.update\",\"user_id\":\"%s\",\"status\":\"%s\"}", user,
             status);
    assert_string_equal(client_hear(c), wanted);
}

static uint32_t connections(struct harness *h)
{
    uint32_t sum = 0;
    for (unsigned core = 0; core < h->gateway.num_cores; core++) sum += net_connections(harness_core(h, core)->net);
    return sum;
}

/* The end of a connection comes over the real ring, when the kernel finds the time for it. */
static void leave(struct harness *h, struct client *c)
{
    uint32_t before = connections(h);
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    client_close(c);
    while (connections(h) == before && clock_mono_ns(clock_real()) < until_ns) harness_settle(h);
    assert_int_equal(connections(h), before - 1);
    harness_settle(h);
}

static uint64_t online(struct harness *h)
{
    uint64_t sum = 0;
    for (unsigned core = 0; core < h->gateway.num_cores; core++) sum += harness_core(h, core)->num_online;
    return sum;
}

/* watch asks for a room's presence and returns the answer. */
static const char *watch(struct client *c, uint64_t room)
{
    client_say(c, "{\"type\":\"presence.subscribe\",\"id\":2,\"room_id\":\"%s\"}", room_name(room).text);
    return client_hear(c);
}

/* --- coming and going ---------------------------------------------------------------------------- */

static void offline_comes_when_the_grace_is_over(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct client *first = socket_open(h, 0, "ann", HELLO_ALL), *second = socket_open(h, 1, "ann", HELLO_ALL);
    expect_update(listener, "ann", "online");
    leave(h, first);
    harness_advance(h, 2 * PRESENCE_GRACE_MS);
    client_hears_nothing(listener); /* one is left */
    leave(h, second);
    harness_advance(h, PRESENCE_GRACE_MS - 1);
    client_hears_nothing(listener);
    assert_int_equal(online(h), 2);
    harness_advance(h, 1);
    expect_update(listener, "ann", "offline");
    client_hears_nothing(listener);
    assert_int_equal(online(h), 1);
}

static void who_is_back_within_the_grace_was_never_away(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    expect_update(listener, "ann", "online");
    for (unsigned i = 0; i < 3; i++) {
        leave(h, socket);
        harness_advance(h, PRESENCE_GRACE_MS - 1);
        socket = socket_open(h, 1, "ann", HELLO_ALL);
        harness_advance(h, 2 * PRESENCE_GRACE_MS);
    }
    client_hears_nothing(listener);
    assert_int_equal(online(h), 2);
}

static void who_goes_before_the_rooms_are_loaded_was_never_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    harness_restart(h, END_CLEAN);
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    settled(h, harness_go(h, harness_op(h, 0, OP_USER_GET, &ann, 0, 0))); /* known, its rooms not loaded */
    struct client *socket = socket_open(h, 0, "ann", NULL);
    h->hold_readers = true;
    client_say(socket, HELLO_ALL);
    leave(h, socket);
    h->hold_readers = false;
    harness_advance(h, 2 * PRESENCE_GRACE_MS);
    client_hears_nothing(listener);
    assert_int_equal(online(h), 1);
}

static void who_comes_and_goes_before_it_is_told_is_told_of_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct core *core = harness_core(h, 0);
    core->presence_due_ns = UINT64_MAX; /* a core with much else to tell */
    for (unsigned i = 0; i < 5; i++) {
        leave(h, socket_open(h, 0, "ann", HELLO_ALL));
        harness_advance(h, PRESENCE_GRACE_MS);
    }
    client_hears_nothing(listener);
    assert_int_equal(core->presence_pending.len, 1);
    core->presence_due_ns = 0;
    expect_update(listener, "ann", "offline");
    client_hears_nothing(listener);
    assert_int_equal(core->presence_pending.len, 0);
}

/* A storm is told in slices, with a pause between them. */
static void a_turn_looks_at_no_more_than_its_slice(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct core *core = harness_core(h, 0);
    core->presence_due_ns = UINT64_MAX;
    for (uint64_t i = 0; i < PRESENCE_SLICE; i++) { /* each costs two looks: the room and the listener */
        char id[16];
        snprintf(id, sizeof id, "u%llu", (unsigned long long)i);
        notice_post(core, 0,
                    notice_new(core, NOTICE_PRESENCE, h->tenant, 1000000 + i, slice_str(id), 0, 0, slice_of(&room, 8)));
    }
    core->presence_due_ns = 0;
    harness_turn(h, 0);
    assert_int_equal(core->presence_pending.len, PRESENCE_SLICE / 2);
    harness_turn(h, 0);
    assert_int_equal(core->presence_pending.len, PRESENCE_SLICE / 2);
    harness_advance(h, 10);
    harness_turn(h, 0);
    assert_int_equal(core->presence_pending.len, 0);
    assert_true(net_stats(core->net)->ephemerals_dropped > 0); /* more than one socket's share at once */
    client_hear(listener);
}

/* --- who listens --------------------------------------------------------------------------------- */

/* Somebody in many rooms is told of room by room, also when each of them has other listeners. */
static void one_change_is_told_in_slices_too(void **state)
{
    struct harness *h = *state;
    struct client *listeners[6];
    char id[16];
    unsigned told = 0;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    for (unsigned i = 0; i < 6; i++) {
        snprintf(id, sizeof id, "listener%u", i);
        struct person listener = harness_person(h, id);
        harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &listener));
        listeners[i] = socket_open(h, 0, id, HELLO_ALL);
    }
    harness_advance(h, 1000);
    harness_settle(h);
    core->presence_due_ns = UINT64_MAX;
    socket_open(h, 0, "ann", HELLO_ALL);
    core->presence_due_ns = 0;
    core->presence_sends_max = 1;
    harness_turn(h, 0);
    for (unsigned i = 0; i < 20; i++) harness_settle(h); /* what was told has come; the clock stands in the pause */
    for (unsigned i = 0; i < 6; i++) told += client_read(listeners[i]);
    assert_int_equal(told, 2); /* as many as it may, and the room that went beyond */
    for (unsigned i = 0; i < 3; i++) {
        harness_advance(h, 10);
        harness_settle(h);
    }
    for (unsigned i = 0; i < 6; i++) expect_update(listeners[i], "ann", "online");
}

static void a_watch_needs_no_subscription_and_leaves_nothing_behind(void **state)
{
    struct harness *h = *state;
    h->config.limits_presence_room_members = 1;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann, &bob));
    struct client *asked = socket_open(h, 1, "bob", HELLO_NONE), *silent = socket_open(h, 1, "bob", HELLO_ALL);
    const char *answer = watch(asked, room);
    expect_text(answer, "\"items\":[{\"user_id\":\"bob\",\"status\":\"online\",\"last_seen\":null}],\"next\":null");
    expect_text(watch(asked, room), "\"type\":\"ok\""); /* twice is once */
    struct client *socket = socket_open(h, 0, "ann", HELLO_NONE);
    expect_update(asked, "ann", "online");
    client_hears_nothing(asked);
    client_hears_nothing(silent);
    leave(h, silent);
    leave(h, asked);
    leave(h, socket);
    for (unsigned core = 0; core < 2; core++) {
        assert_int_equal(harness_core(h, core)->watches.len, 0);
        assert_int_equal(harness_core(h, core)->local_rooms.len, 0);
    }
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->core_mask, 0);
}

/* rooms_sized lets every core see the setting, and the news of it arrive. */
static void rooms_sized(struct harness *h, uint64_t members)
{
    h->config.limits_presence_room_members = members;
    for (unsigned i = 0; i < 4; i++) harness_turns(h);
}

static void a_reloaded_bound_holds_for_rooms_that_are_loaded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann, &bob));
    struct client *near = socket_open(h, 0, "bob", HELLO_ALL), *far = socket_open(h, 1, "bob", HELLO_ALL);
    rooms_sized(h, 1);
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    client_hears_nothing(near);
    client_hears_nothing(far);
    rooms_sized(h, 2);
    leave(h, socket);
    harness_advance(h, PRESENCE_GRACE_MS);
    expect_update(near, "ann", "offline");
    expect_update(far, "ann", "offline");
}

/* What is said last holds, also while the answer to what was said before is on its way. */
static void unsubscribing_right_behind_a_watch_ends_it(void **state)
{
    struct harness *h = *state;
    static const char *const people[2][2] = {{"ann", "bob"}, {"cat", "dan"}};
    harness_open(h, 2);
    for (unsigned home = 0; home < 2; home++) {
        struct person listener = harness_person(h, people[home][0]), comer = harness_person(h, people[home][1]);
        uint64_t room = harness_room_at(h, home, ROOM_GROUP, PEOPLE(&listener, &comer));
        for (unsigned subscribed = 0; subscribed < 2; subscribed++) {
            harness_restart(h, END_CLEAN); /* the room is not loaded: an answer takes its time */
            struct client *c = socket_open(h, 0, listener.id, HELLO_NONE);
            h->hold_readers = true;
            if (subscribed) client_say(c, "{\"type\":\"subscribe\",\"room_id\":\"%s\"}", room_name(room).text);
            client_say(c, "{\"type\":\"presence.subscribe\",\"id\":2,\"room_id\":\"%s\"}", room_name(room).text);
            client_say(c, "{\"type\":\"presence.unsubscribe\",\"id\":3,\"room_id\":\"%s\"}", room_name(room).text);
            for (unsigned i = 0; i < 50; i++) harness_settle(h); /* both have come, neither can be answered */
            h->hold_readers = false;
            expect_text(client_hear(c), "{\"type\":\"ok\",\"re\":2,");
            assert_string_equal(client_hear(c), "{\"type\":\"ok\",\"re\":3}");
            socket_open(h, 1, comer.id, HELLO_ALL);
            client_hears_nothing(c);
            assert_int_equal(harness_core(h, 0)->watches.len, 0);
        }
    }
}

static void a_refused_watch_leaves_nothing_behind(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *stranger = socket_open(h, 1, "bob", HELLO_ALL);
    expect_text(watch(stranger, room), "\"room.not_member\"");
    assert_int_equal(harness_core(h, 1)->local_rooms.len, 0);
    harness_settle(h);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->core_mask, 0);
}

static void the_list_of_a_room_of_many_goes_on_behind_its_cursor(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person people[5];
    const struct person *members[5];
    for (unsigned i = 0; i < 5; i++) {
        char id[8];
        snprintf(id, sizeof id, "user%u", i);
        people[i] = harness_person(h, id);
        members[i] = &people[i];
    }
    uint64_t room = harness_room(h, ROOM_GROUP, 0, members, 5), after = 0;
    socket_open(h, 0, "user4", HELLO_NONE);
    struct core *core = harness_core(h, 0);
    char all[1024] = "";
    for (unsigned page = 0; page < 5; page++) { /* the bytes let one in at a time */
        struct op *op = harness_op(h, 0, OP_ROOM_PRESENCE, &people[0], room, 0);
        op->in.presence.limit = PAGE_LIMIT_MAX;
        op->in.presence.after = after;
        struct answer *a = settled(h, harness_go(h, op));
        expect_ok(a);
        struct op asked = {.out = a->out};
        asked.out.len--; /* the NUL that the harness put behind it */
        struct buf out = {0};
        presence_page(&out, core, &asked, false, 1);
        buf_char(&out, '\0');
        strcat(all, out.data);
        if (page < 4)
            after = strtoull(strstr(out.data, "\"next\":\"") + 8, NULL, 10);
        else
            expect_text(out.data, "\"next\":null");
        buf_free(&out);
    }
    assert_int_equal(count_in(all, "\"user_id\""), 5);
    assert_int_equal(count_in(all, "\"online\""), 1);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(count_in(all, people[i].id), 1);
}

static void the_oldest_last_seen_is_forgotten(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    static const struct slice none;
    for (uint64_t i = 0; i <= PRESENCE_REMEMBERED_MAX; i++)
        notice_post(core, 0,
                    notice_new(core, NOTICE_PRESENCE, h->tenant, 1000000 + i, none, 0, HARNESS_START_MS, none));
    assert_int_equal(core->last_seen.len, PRESENCE_REMEMBERED_MAX);
    struct buf out = {0};
    presence_object(&out, core, 1000000, SLICE("first"));
    presence_object(&out, core, 1000001, SLICE("second"));
    buf_char(&out, '\0');
    assert_string_equal(out.data,
                        "{\"user_id\":\"first\",\"status\":\"offline\",\"last_seen\":null}"
                        "{\"user_id\":\"second\",\"status\":\"offline\",\"last_seen\":\"2026-01-01T00:00:00.000Z\"}");
    buf_free(&out);
}

/* --- bounds -------------------------------------------------------------------------------------- */

static void a_turn_of_telling_ends_when_it_has_cost_enough(void **state)
{
    assert_true(presence_goes_on(PRESENCE_SLICE - 1, PRESENCE_SENDS - 1, 2 * PRESENCE_SENDS, PRESENCE_SENDS));
    assert_false(presence_goes_on(PRESENCE_SLICE, 0, 1, PRESENCE_SENDS));
    assert_false(presence_goes_on(1, PRESENCE_SENDS, PRESENCE_SENDS + 1, PRESENCE_SENDS));
    assert_true(presence_goes_on(1, PRESENCE_SENDS, PRESENCE_SENDS, PRESENCE_SENDS)); /* the same sockets once more */
    /* 1.3 ms of looking and 12.3 ms of sending; telling and pause together are five times as long */
    assert_in_range(presence_pause_ns(PRESENCE_SLICE, 0), (PRESENCE_SHARE - 1) * 1300000,
                    (PRESENCE_SHARE - 1) * 1320000);
    assert_in_range(presence_pause_ns(0, PRESENCE_SENDS), (PRESENCE_SHARE - 1) * 12200000,
                    (PRESENCE_SHARE - 1) * 12400000);
}

static void many_who_fall_away_at_once_leave_in_turns(void **state)
{
    struct harness *h = *state;
    static struct client *sockets[PRESENCE_LEAVING_TURN + 1];
    h->config.limits_connections = PRESENCE_LEAVING_TURN + 1;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    for (unsigned i = 0; i <= PRESENCE_LEAVING_TURN; i++) {
        char id[16];
        snprintf(id, sizeof id, "user%u", i);
        sockets[i] = socket_open(h, 0, id, HELLO_NONE);
    }
    assert_int_equal(core->num_online, PRESENCE_LEAVING_TURN + 1);
    for (unsigned i = 0; i <= PRESENCE_LEAVING_TURN; i++) client_close(sockets[i]);
    for (unsigned i = 0; i < 100; i++) harness_settle(h);
    harness_advance(h, PRESENCE_GRACE_MS);
    harness_turn(h, 0);
    assert_int_equal(core->num_online, 1);
    harness_turn(h, 0);
    assert_int_equal(core->num_online, 0);
}

static void changes_that_wait_have_a_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob, &cat));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct core *core = harness_core(h, 0);
    core->presence_due_ns = UINT64_MAX;
    notice_post(core, 0,
                notice_new(core, NOTICE_PRESENCE, h->tenant, ann.number, slice_str("ann"), 0, 0, slice_of(&room, 8)));
    size_t one = core->presence_bytes;
    assert_in_range(one, 8, 200);
    core->presence_bytes = PRESENCE_BYTES_MAX - one + 1; /* as if so much waited */
    notice_post(core, 0,
                notice_new(core, NOTICE_PRESENCE, h->tenant, cat.number, slice_str("cat"), 0, 0, slice_of(&room, 8)));
    assert_int_equal(core->presence_dropped, 1);
    core->presence_bytes--;
    notice_post(core, 0,
                notice_new(core, NOTICE_PRESENCE, h->tenant, cat.number, slice_str("cat"), 0, 0, slice_of(&room, 8)));
    assert_int_equal(core->presence_dropped, 1);
    assert_int_equal(core->presence_bytes, PRESENCE_BYTES_MAX);
    core->presence_bytes = 2 * one;
    core->presence_due_ns = 0;
    expect_update(listener, "ann", "online");
    expect_update(listener, "cat", "online");
    assert_int_equal(core->presence_bytes, 0);
}

/* Who joins, leaves and joins again while a change waits makes it no longer. */
static void a_change_names_a_room_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob)),
             other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct client *listener = socket_open(h, 0, "bob", HELLO_ALL);
    struct core *core = harness_core(h, 0);
    core->presence_due_ns = UINT64_MAX;
    notice_post(core, 0,
                notice_new(core, NOTICE_PRESENCE, h->tenant, ann.number, slice_str("ann"), 0, 0, slice_of(&room, 8)));
    size_t one = core->presence_bytes;
    for (unsigned i = 0; i < 100; i++)
        notice_post(
            core, 0,
            notice_new(core, NOTICE_PRESENCE, h->tenant, ann.number, slice_str("ann"), other, 0, slice_of(&other, 8)));
    assert_int_equal(core->presence_bytes, one + 8);
    core->presence_due_ns = 0;
    expect_update(listener, "ann", "online");
    client_hears_nothing(listener);
    assert_int_equal(core->presence_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(offline_comes_when_the_grace_is_over),
        TEST(who_is_back_within_the_grace_was_never_away),
        TEST(who_goes_before_the_rooms_are_loaded_was_never_there),
        TEST(who_comes_and_goes_before_it_is_told_is_told_of_once),
        TEST(a_turn_looks_at_no_more_than_its_slice),
        TEST(one_change_is_told_in_slices_too),
        TEST(a_watch_needs_no_subscription_and_leaves_nothing_behind),
        TEST(a_reloaded_bound_holds_for_rooms_that_are_loaded),
        TEST(unsubscribing_right_behind_a_watch_ends_it),
        TEST(a_refused_watch_leaves_nothing_behind),
        TEST(the_list_of_a_room_of_many_goes_on_behind_its_cursor),
        TEST(the_oldest_last_seen_is_forgotten),
        TEST(a_turn_of_telling_ends_when_it_has_cost_enough),
        TEST(many_who_fall_away_at_once_leave_in_turns),
        TEST(changes_that_wait_have_a_bound),
        TEST(a_change_names_a_room_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
