#include "harness.h"
#include "kv_row.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A WebSocket's session: how it begins, what it is sent first, and that nothing is missing and nothing comes twice. */

#define expect_event(client, type, number) \
    do { \
        const char *heard_event = client_hear(client); \
        expect_text(heard_event, "{\"type\":\"" type "\""); \
        assert_int_equal(number_in(heard_event, "seq"), (number)); \
    } while (0)

/* expect_resumed holds a `resumed` against what it should say. */
static void expect_resumed(struct client *c, uint64_t room, bool recovered, uint64_t from, uint64_t head)
{
    const char *heard = client_hear(c);
    expect_text(heard, "{\"type\":\"resumed\"");
    expect_text(heard, room_name(room).text);
    expect_text(heard, recovered ? "\"recovered\":true" : "\"recovered\":false");
    assert_int_equal(number_in(heard, "from"), from);
    assert_int_equal(number_in(heard, "head"), head);
}

/* --- hello --------------------------------------------------------------------------------------- */

static void hello_is_answered_by_welcome_with_all_rooms(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t one = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), two = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, one, 3);
    settled(h, harness_ack(h, 0, &ann, one, NULL, 2, false));
    settled(h, harness_ack(h, 0, &ann, one, NULL, 1, true));
    struct client *c = socket_open(h, 1, "ann", "{\"type\":\"hello\",\"id\":\"h\"}");
    const char *welcome = c->text.data;
    expect_text(welcome, "{\"type\":\"welcome\",\"re\":\"h\",\"session_id\":\"s_");
    expect_text(
        welcome,
        "\"user_id\":\"ann\",\"server_time\":\"2026-01-01T00:00:00.000Z\",\"limits\":{\"content_chars\":10000,");
    assert_int_equal(count_in(welcome, "\"room_id\""), 2);
    expect_text(welcome, room_name(two).text);
    expect_text(welcome, "\"epoch\":1,\"head\":3,\"delivered\":2,\"read\":1}");
    client_hears_nothing(c); /* without a resume it begins live */
    settled(h, harness_send(h, 0, &ann, one, "ding"));
    expect_event(c, "message", 4);
    settled(h, harness_send(h, 0, &ann, two, "dong"));
    expect_event(c, "message", 1);
}

static void hello_with_a_list_serves_those_rooms_and_refuses_the_others(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t mine = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), also = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    uint64_t secret = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&bob));
    struct client *c = socket_open(h, 0, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"id\":7,\"rooms\":[\"%s\",\"%s\"]}", room_name(mine).text,
               room_name(secret).text);
    expect_text(client_hear(c), "{\"type\":\"error\",\"re\":7,\"code\":\"room.not_found\"");
    const char *welcome = client_hear(c);
    expect_text(welcome, "\"type\":\"welcome\"");
    assert_int_equal(count_in(welcome, "\"room_id\""), 1);
    expect_text(welcome, room_name(mine).text);
    settled(h, harness_send(h, 0, &ann, also, "not asked for"));
    settled(h, harness_send(h, 0, &bob, secret, "not for ann"));
    settled(h, harness_send(h, 0, &ann, mine, "ding"));
    expect_event(c, "message", 1);
    expect_text(c->text.data, room_name(mine).text);
    client_hears_nothing(c);
}

static void hello_without_rooms_serves_none(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    uint64_t later = harness_room(h, ROOM_GROUP, 0, PEOPLE(&bob));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    expect_text(c->text.data, "\"rooms\":[]}");
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &ann, later));
    client_hears_nothing(c);
}

static void a_socket_that_says_no_hello_is_closed_in_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_person(h, "ann");
    struct client *c = socket_open(h, 0, "ann", NULL), *good = socket_open(h, 0, "ann", HELLO_NONE);
    client_say(c, "{\"type\":\"ack\",\"id\":1,\"room_id\":\"x\",\"seq\":1}");
    expect_text(client_hear(c), "\"code\":\"hello.required\"");
    harness_advance(h, HELLO_TIMEOUT_MS - 1);
    client_hears_nothing(c);
    harness_advance(h, 1);
    assert_int_equal(client_hear_close(c), 4001);
    client_hears_nothing(good);
}

/* The clock jumps, as after a pause of the whole process. */
static void a_hello_that_came_while_the_process_was_paused_is_heard(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_person(h, "ann");
    struct client *c = socket_open(h, 0, "ann", NULL), *silent = socket_open(h, 0, "ann", NULL);
    client_hears_nothing(c);
    client_say(c, HELLO_ALL);
    harness_advance(h, HELLO_TIMEOUT_MS + 1);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    assert_int_equal(client_hear_close(silent), 4001);
}

static void hello_is_said_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_person(h, "ann");
    struct client *c = socket_open(h, 0, "ann", HELLO_ALL);
    client_say(c, HELLO_ALL);
    expect_text(client_hear(c), "\"code\":\"hello.repeated\"");
    client_hears_nothing(c);
}

/* --- resume -------------------------------------------------------------------------------------- */

static void a_resume_replays_what_was_missed_then_goes_live(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 4);
    struct client *c = socket_open(h, 1, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,2]}}", room_name(room).text);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    expect_resumed(c, room, true, 3, 4);
    expect_event(c, "message", 3);
    expect_event(c, "message", 4);
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    expect_event(c, "message", 5);
    client_hears_nothing(c);
}

static void a_resume_at_the_head_has_nothing_to_replay(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 4);
    struct client *c = socket_open(h, 0, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,4]}}", room_name(room).text);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    expect_resumed(c, room, true, 5, 4);
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    expect_event(c, "message", 5);
}

static void a_resume_that_does_not_hold_says_from_where_it_is_void(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    harness_restart(h, END_KILLED);
    harness_fill(h, &ann, room, 5);
    struct client *c = socket_open(h, 0, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,4]}}", room_name(room).text); /* epoch 1 ended at 3 */
    client_hear(c);
    expect_resumed(c, room, false, 4, 5);
    expect_event(c, "message", 4);
    expect_event(c, "message", 5);
    client_hears_nothing(c);
}

static void a_long_replay_comes_in_pages_without_a_hole(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    unsigned num = 2 * REPLAY_BATCH_EVENTS + 50;
    for (unsigned i = 0; i < num; i++) harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    struct client *c = socket_open(h, 1, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,0]}}", room_name(room).text);
    client_hear(c);
    expect_resumed(c, room, true, 1, num);
    for (unsigned seq = 1; seq <= num; seq++) {
        expect_event(c, "message", seq);
        if (seq == 10) harness_send(h, 0, &ann, room, "during the replay");
    }
    expect_event(c, "message", num + 1);
    client_hears_nothing(c);
}

static void events_during_a_replay_come_behind_it_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann)), head = 3;
    harness_fill(h, &ann, room, head);
    harness_core(h, 1)->tail_bytes_max = 0; /* what goes out live is not in memory either */
    for (unsigned num_live = 1; num_live <= 2; num_live++) {
        struct client *c = socket_open(h, 1, "ann", NULL);
        h->hold_readers = true;
        client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,1]}}", room_name(room).text);
        client_hear(c);
        expect_resumed(c, room, true, 2, head);
        for (unsigned i = 0; i < num_live; i++) settled(h, harness_send(h, 0, &ann, room, "during the replay"));
        head += num_live;
        client_hears_nothing(c); /* held: nothing overtakes the replay */
        h->hold_readers = false;
        for (unsigned seq = 2; seq <= head; seq++) expect_event(c, "message", seq);
        settled(h, harness_send(h, 0, &ann, room, "live"));
        expect_event(c, "message", ++head);
        client_hears_nothing(c);
    }
}

/* --- a socket served at once
 * ------------------------------------------------------------------------------------------ */

static void a_plain_socket_gets_what_it_missed_since_its_last_ack(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 4);
    settled(h, harness_ack(h, 0, &ann, room, NULL, 2, false));
    struct client *c = client_open(h, 1);
    assert_int_equal(client_upgrade(c, "ann", ""), 101);
    expect_resumed(c, room, true, 3, 4);
    expect_event(c, "message", 3);
    expect_event(c, "message", 4);
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    expect_event(c, "message", 5);
}

static void a_device_is_served_from_its_own_cursor(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 4);
    settled(h, harness_ack(h, 0, &ann, room, "phone", 1, false));
    settled(h, harness_ack(h, 0, &ann, room, NULL, 3, false));
    struct client *phone = client_open(h, 0), *fresh = client_open(h, 0), *by_query = client_open(h, 0);
    assert_int_equal(client_upgrade(phone, "ann", "X-Device-Id: phone\r\n"), 101);
    expect_resumed(phone, room, true, 2, 4);
    assert_int_equal(client_upgrade(fresh, "ann", "X-Device-Id: tablet\r\n"), 101);
    expect_resumed(fresh, room, true, 4, 4);
    assert_int_equal(client_upgrade(by_query, "ann", ""), 101);
    expect_resumed(by_query, room, true, 4, 4);
}

static void a_late_hello_is_welcomed_but_chooses_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = client_open(h, 0);
    assert_int_equal(client_upgrade(c, "ann", ""), 101);
    expect_resumed(c, room, true, 1, 0);
    client_say(c, "{\"type\":\"hello\",\"id\":1}");
    const char *welcome = client_hear(c);
    expect_text(welcome, "{\"type\":\"welcome\",\"re\":1");
    expect_text(welcome, room_name(room).text);
    client_say(c, HELLO_NONE);
    expect_text(client_hear(c), "\"code\":\"hello.late\"");
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    settled(h, harness_send(h, 0, &ann, room, "still served"));
    expect_event(c, "message", 1);
}

/* --- memberships that change
 * ------------------------------------------------------------------------------------------- */

static void a_room_joined_later_reaches_every_socket_of_the_user(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    struct client *sockets[3];
    for (unsigned i = 0; i < 3; i++) sockets[i] = socket_open(h, i, "bob", HELLO_ALL);
    struct client *none = socket_open(h, 0, "bob", HELLO_NONE);
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room));
    settled(h, harness_send(h, 0, &ann, room, "hello bob"));
    for (unsigned i = 0; i < 3; i++) {
        expect_resumed(sockets[i], room, true, 3, 3);
        expect_event(sockets[i], "user_joined", 3); /* from its own join on */
        expect_event(sockets[i], "message", 4);
        client_hears_nothing(sockets[i]);
    }
    client_hears_nothing(none);
}

static void a_new_room_reaches_the_sockets_of_its_members(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    struct client *c = socket_open(h, 1, "bob", HELLO_ALL);
    uint64_t room = harness_room(h, ROOM_DM, 0, PEOPLE(&ann, &bob));
    expect_resumed(c, room, true, 1, 0);
    settled(h, harness_send(h, 0, &ann, room, "hello bob"));
    expect_event(c, "message", 1);
}

static void a_removed_member_hears_of_it_and_nothing_after(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann, &bob));
    struct client *near = socket_open(h, 0, "bob", HELLO_ALL), *far = socket_open(h, 1, "bob", HELLO_ALL);
    struct client *stays = socket_open(h, 1, "ann", HELLO_ALL);
    harness_send(h, 0, &ann, room, "before");
    harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &bob, 0);
    harness_send(h, 0, &ann, room, "after");
    struct client *both[] = {near, far};
    for (unsigned i = 0; i < 2; i++) {
        expect_text(client_hear(both[i]), "\"presence.update\",\"user_id\":\"ann\"");
        expect_event(both[i], "message", 1);
        expect_event(both[i], "user_left", 2);
    }
    expect_event(stays, "message", 1);
    expect_event(stays, "user_left", 2);
    expect_event(stays, "message", 3);
    settled(h, harness_send(h, 0, &ann, room, "much later"));
    client_hears_nothing(near);
    client_hears_nothing(far);
    assert_int_equal(harness_core(h, 0)->num_subscriptions, 0);
}

static void whoever_returns_at_once_stays_subscribed(void **state)
{
    /* the news of the leave comes from the room's home, that of the return over the user's: they may cross */
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann"), bob = harness_person_at(h, "bob", 0);
    uint64_t room = harness_room_at(h, 2, ROOM_GROUP, PEOPLE(&ann, &bob));
    struct client *c = socket_open(h, 1, bob.id, NULL);
    client_say(c, HELLO_ALL);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    harness_ask(h, 2, OP_ROOM_LEAVE, &bob, room);
    harness_ask(h, 2, OP_ROOM_JOIN, &bob, room);
    harness_turn(h, 2);
    commit_writer_step(h->gateway.commit);
    commit_syncer_step(h->gateway.commit);
    harness_turn(h, 2); /* both are durable: one run, and news to both cores */
    harness_turn(h, 0); /* the user's home passes the return on … */
    harness_turn(h, 1); /* … and the socket's core hears of it first */
    harness_settle(h);
    settled(h, harness_send(h, 0, &ann, room, "welcome back"));
    uint64_t last = 0;
    for (bool through = false; !through;) {
        const char *heard = client_hear(c);
        if (strstr(heard, "\"type\":\"resumed\"")) {
            last = number_in(heard, "from") - 1; /* it may be told again, but from there on without a hole */
            continue;
        }
        assert_int_equal(number_in(heard, "seq"), last + 1);
        last = number_in(heard, "seq");
        through = last == 3;
    }
    client_hears_nothing(c);
}

static void a_join_while_the_socket_opens_is_served_too(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t slow = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob)),
             quick = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_restart(h, END_CLEAN);
    settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, quick));
    settled(h, harness_rooms(h, 0, &bob, NULL));
    struct client *c = socket_open(h, 0, "bob", NULL);
    h->hold_readers = true;
    client_say(c, HELLO_ALL);
    client_hears_nothing(c); /* the slow room is being loaded */
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, quick));
    h->hold_readers = false;
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    expect_text(c->text.data, room_name(slow).text);
    settled(h, harness_send(h, 0, &ann, quick, "hello bob"));
    const char *heard = client_hear(c);
    if (strstr(heard, "\"type\":\"resumed\"")) heard = client_hear(c);
    expect_text(heard, "\"type\":\"user_joined\"");
    expect_event(c, "message", 2);
}

/* --- slow readers
 * --------------------------------------------------------------------------------------------------------- */

static void a_reader_that_is_too_slow_catches_up_without_a_hole(void **state)
{
    struct harness *h = *state;
    static char content[8192];
    h->config.limits_send_queue = 64 << 10;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *slow = socket_open(h, 1, "ann", HELLO_ALL), *quick = socket_open(h, 1, "ann", HELLO_ALL);
    memset(content, 'x', sizeof content - 1);
    unsigned num = 1200; /* 9 MB: far more than the kernel's buffers and the queue take */
    for (unsigned seq = 1; seq <= num; seq++) {
        harness_send(h, 0, &ann, room, content);
        if (seq % 3 == 0) /* runs of several events: what is refused is a whole run */
            for (unsigned i = seq - 2; i <= seq; i++) expect_event(quick, "message", i);
    }
    assert_true(harness_core(h, 1)->metrics.value[METRIC_REPLAYS] > 0);
    for (unsigned seq = 1; seq <= num; seq++) {
        expect_event(slow, "message", seq);
        if (seq == 100) harness_send(h, 0, &ann, room, "while it catches up");
    }
    expect_event(slow, "message", num + 1);
    client_hears_nothing(slow);
    settled(h, harness_send(h, 0, &ann, room, "live again"));
    expect_event(slow, "message", num + 2);
}

/* --- ends ------------------------------------------------------------------------------------------ */

static void a_socket_may_close_while_its_rooms_are_loaded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    for (unsigned core = 0; core < 2; core++) {
        harness_restart(h, END_CLEAN);
        struct client *with_hello = socket_open(h, core, "ann", NULL), *at_once = client_open(h, core);
        assert_int_equal(client_upgrade(at_once, "ann", ""), 101);
        h->hold_readers = true;
        client_say(with_hello, HELLO_ALL);
        harness_settle(h);
        client_close(with_hello);
        client_close(at_once);
        for (unsigned i = 0; i < 50; i++) harness_settle(h);
        h->hold_readers = false;
        harness_settle(h);
        struct client *again = socket_open(h, core, "ann", HELLO_ALL);
        client_hears_nothing(again);
        client_close(again);
        harness_settle(h);
    }
}

static void a_socket_whose_rooms_cannot_be_read_is_told_to_try_again(void **state)
{
    struct harness *h = *state;
    struct key key;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    harness_restart(h, END_CLEAN);
    key_user_room(&key, h->tenant, ann.number, 4711);
    kv_row_put(h->kv, KV_USER_ROOMS, &key, SLICE("damaged"));
    struct client *with_hello = socket_open(h, 0, "ann", NULL), *at_once = client_open(h, 1);
    client_say(with_hello, HELLO_ALL);
    assert_int_equal(client_hear_close(with_hello), 4100);
    assert_int_equal(client_upgrade(at_once, "ann", ""), 101);
    assert_int_equal(client_hear_close(at_once), 4100);
}

/* damage_room makes a room unreadable from the next start on. */
static void damage_room(struct harness *h, uint64_t room)
{
    struct key key;
    key_room(&key, h->tenant, room);
    kv_row_put(h->kv, KV_ROOMS, &key, SLICE("damaged"));
    harness_restart(h, END_CLEAN);
}

static void a_socket_is_not_served_without_a_room_that_cannot_be_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t good = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), bad = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, good, 1);
    damage_room(h, bad);
    struct client *all = socket_open(h, 0, "ann", NULL), *list = socket_open(h, 1, "ann", NULL);
    client_say(all, HELLO_ALL);
    assert_int_equal(client_hear_close(all), 4100);
    assert_int_equal(all->text.len, 0); /* no welcome that leaves it out */
    client_say(list, "{\"type\":\"hello\",\"id\":1,\"rooms\":[\"%s\"]}", room_name(bad).text);
    assert_int_equal(client_hear_close(list), 4100);
    struct client *at_once = client_open(h, 1);
    assert_int_equal(client_upgrade(at_once, "ann", ""), 101);
    assert_int_equal(client_hear_close(at_once), 4100);
}

static void a_room_joined_later_that_is_not_to_be_had_ends_the_socket(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann"), bob = harness_person_at(h, "bob", 0), cat = harness_person(h, "cat");
    uint64_t room = harness_room_at(h, 2, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, bob.id, HELLO_ALL);
    harness_ask(h, 2, OP_ROOM_JOIN, &bob, room);
    harness_turn(h, 2);
    commit_writer_step(h->gateway.commit);
    commit_syncer_step(h->gateway.commit);
    harness_turn(h, 2); /* durable: the news goes out over the user's home */
    kv_fake_fail(h->kv, false, true);
    harness_ask(h, 2, OP_ROOM_JOIN, &cat, room); /* never durable: the room no longer says who is in it */
    harness_turn(h, 2);
    commit_writer_step(h->gateway.commit);
    commit_syncer_step(h->gateway.commit);
    harness_turn(h, 2);
    assert_int_equal(client_hear_close(c), 4100);
}

static void rooms_beyond_a_sockets_bound_are_told(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX + 2; i++) harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"id\":1}");
    expect_text(client_hear(c),
                "{\"type\":\"error\",\"re\":1,\"code\":\"subscription.full\",\"detail\":\"2 rooms are left out");
    assert_int_equal(count_in(client_hear(c), "\"room_id\""), SUBSCRIPTIONS_MAX);
    uint64_t later = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    expect_text(client_hear(c), "{\"type\":\"error\",\"code\":\"subscription.full\"");
    expect_text(c->text.data, room_name(later).text);
    client_hears_nothing(c);
}

static void a_replay_that_cannot_be_read_ends_the_socket_not_the_order(void **state)
{
    struct harness *h = *state;
    struct key key;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 4);
    key_log(&key, h->tenant, room, 3);
    kv_row_put(h->kv, KV_LOG, &key, SLICE("damaged"));
    struct client *c = socket_open(h, 0, "ann", NULL);
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,0]}}", room_name(room).text);
    client_hear(c);
    expect_resumed(c, room, true, 1, 4);
    assert_int_equal(client_hear_close(c), 4200);
}

static void a_closed_socket_leaves_no_subscription_behind(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann, &bob));
    struct client *c = socket_open(h, 1, "bob", HELLO_ALL), *other = socket_open(h, 1, "ann", HELLO_ALL);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->core_mask, 1u << 1);
    client_close(c);
    for (unsigned i = 0; i < 1000 && harness_core(h, 1)->num_sessions > 1; i++) harness_settle(h);
    assert_int_equal(harness_core(h, 1)->num_subscriptions, 1);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->core_mask, 1u << 1); /* one is left there */
    client_close(other);
    for (unsigned i = 0; i < 1000 && harness_core(h, 1)->num_sessions; i++) harness_settle(h);
    harness_settle(h);
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->core_mask, 0);
}

static void draining_tells_every_socket_when_to_come_back(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    harness_person(h, "ann");
    struct client *one = socket_open(h, 0, "ann", HELLO_ALL), *two = socket_open(h, 1, "ann", NULL);
    atomic_store(&h->gateway.draining, true);
    expect_text(client_hear(one), "{\"type\":\"server.shutdown\",\"reconnect_after_ms\":");
    expect_text(client_hear(two), "{\"type\":\"server.shutdown\",\"reconnect_after_ms\":");
    assert_int_equal(client_hear_close(one), 1001);
    assert_int_equal(client_hear_close(two), 1001);
}

static void what_was_asked_before_a_drain_is_answered_and_nothing_new_is_begun(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 1, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    h->hold_syncer = true;
    client_say(c, "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"%s\",\"content\":\"before\"}",
               room_name(room).text);
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    atomic_store(&h->gateway.draining, true);
    expect_text(client_hear(c), "{\"type\":\"server.shutdown\",\"reconnect_after_ms\":");
    client_say(c, "{\"type\":\"send_message\",\"id\":2,\"room_id\":\"%s\",\"content\":\"after\"}",
               room_name(room).text);
    expect_text(client_hear(c), "\"re\":2,\"code\":\"server.draining\"");
    harness_advance(h, 500);
    client_hears_nothing(c);
    assert_int_equal(c->close_code, 0);
    h->hold_syncer = false;
    expect_text(client_hear(c), "{\"type\":\"ok\",\"re\":1,");
    harness_advance(h, 500);
    assert_int_equal(client_hear_close(c), 1001);
}

static void rest_goes_on_reading_in_a_drain_and_writes_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_person(h, "ann");
    struct client *c = client_open(h, 0), *other = client_open(h, 0), *operator = client_open(h, 0);
    atomic_store(&h->gateway.draining, true);
    harness_settle(h);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", "{\"type\":\"group\"}"), 503);
    expect_text(c->text.data, "\"code\":\"server.draining\"");
    expect_text(c->head.data, "Retry-After: 1");
    assert_int_equal(client_call(other, "GET", "/v1/rooms", "ann", "", NULL), 200);
    assert_int_equal(client_call(operator, "GET", "/v1/admin/status", NULL, OPERATOR, NULL), 200);
    expect_text(operator->text.data, "\"state\":\"draining\"");
}

static void a_drain_waits_for_answers_that_are_on_their_way(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    int bytes = 8192;
    assert_int_equal(setsockopt(h->listen_fd[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    struct client *c = client_open(h, 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    for (unsigned i = 0; i < 20; i++) client_send(c, SLICE("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"));
    harness_settle(h);
    atomic_store(&h->gateway.draining, true);
    harness_settle(h);
    harness_advance(h, 500);
    harness_turns(h);
    assert_int_equal(atomic_load(&core->connections), 1);
    for (unsigned i = 0; i < 20 && client_answer(c) == 200; i++)
        if (strstr(c->head.data, "Connection: close")) break;
    expect_text(c->head.data, "Connection: close"); /* the whole of an answer that says so */
    client_close(c);
    harness_settle(h);
    harness_advance(h, 500);
    harness_turns(h);
    assert_int_equal(atomic_load(&core->connections), 0);
}

static void a_core_remembers_so_many_users_without_a_session(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", HELLO_ALL);
    char id[16];
    for (unsigned i = 0; i < KNOWN_IDLE_MAX + 2; i++) {
        snprintf(id, sizeof id, "u%u", i);
        known_user_add(core, h->tenant, slice_str(id), 1000 + i);
    }
    assert_int_equal(core->num_known_idle, KNOWN_IDLE_MAX);
    assert_null(known_user_find(core, h->tenant, SLICE("u0"))); /* the oldest */
    assert_non_null(known_user_find(core, h->tenant, slice_str(id)));
    assert_non_null(known_user_find(core, h->tenant, SLICE("ann"))); /* who has a session is not idle */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hello_is_answered_by_welcome_with_all_rooms),
        TEST(hello_with_a_list_serves_those_rooms_and_refuses_the_others),
        TEST(hello_without_rooms_serves_none),
        TEST(a_socket_that_says_no_hello_is_closed_in_time),
        TEST(a_hello_that_came_while_the_process_was_paused_is_heard),
        TEST(hello_is_said_once),
        TEST(a_resume_replays_what_was_missed_then_goes_live),
        TEST(a_resume_at_the_head_has_nothing_to_replay),
        TEST(a_resume_that_does_not_hold_says_from_where_it_is_void),
        TEST(a_long_replay_comes_in_pages_without_a_hole),
        TEST(events_during_a_replay_come_behind_it_once),
        TEST(a_plain_socket_gets_what_it_missed_since_its_last_ack),
        TEST(a_device_is_served_from_its_own_cursor),
        TEST(a_late_hello_is_welcomed_but_chooses_nothing),
        TEST(a_room_joined_later_reaches_every_socket_of_the_user),
        TEST(a_new_room_reaches_the_sockets_of_its_members),
        TEST(a_removed_member_hears_of_it_and_nothing_after),
        TEST(whoever_returns_at_once_stays_subscribed),
        TEST(a_join_while_the_socket_opens_is_served_too),
        TEST(a_reader_that_is_too_slow_catches_up_without_a_hole),
        TEST(a_socket_may_close_while_its_rooms_are_loaded),
        TEST(a_socket_whose_rooms_cannot_be_read_is_told_to_try_again),
        TEST(a_replay_that_cannot_be_read_ends_the_socket_not_the_order),
        TEST(a_closed_socket_leaves_no_subscription_behind),
        TEST(draining_tells_every_socket_when_to_come_back),
        TEST(what_was_asked_before_a_drain_is_answered_and_nothing_new_is_begun),
        TEST(rest_goes_on_reading_in_a_drain_and_writes_nothing),
        TEST(a_drain_waits_for_answers_that_are_on_their_way),
        TEST(a_socket_is_not_served_without_a_room_that_cannot_be_read),
        TEST(a_room_joined_later_that_is_not_to_be_had_ends_the_socket),
        TEST(rooms_beyond_a_sockets_bound_are_told),
        TEST(a_core_remembers_so_many_users_without_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
