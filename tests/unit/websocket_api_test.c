#include "harness.h"

#include <stdio.h>
#include <string.h>

/* Requests over a WebSocket: what they need, and the shape of their answers. */

/* expect_code says something and expects an error with that code. */
static void expect_code(struct client *c, const char *said, const char *code)
{
    char expected[96];
    client_say(c, "%s", said);
    snprintf(expected, sizeof expected, "\"code\":\"%s\"", code);
    const char *heard = client_hear(c);
    expect_text(heard, "{\"type\":\"error\"");
    expect_text(heard, expected);
}

static void the_id_goes_back_as_it_came(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    static const char *const ids[] = {"1", "-5", "18446744073709551615", "\"x\"", "\"\\u00e9\\n\"", "\"\""};
    for (unsigned i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        char expected[96];
        client_say(c, "{\"type\":\"ping\",\"id\":%s}", ids[i]);
        snprintf(expected, sizeof expected, "{\"type\":\"pong\",\"re\":%s}", ids[i]);
        assert_string_equal(client_hear(c), expected);
    }
    client_say(c, "{\"type\":\"ping\"}");
    assert_string_equal(client_hear(c), "{\"type\":\"pong\"}");
    client_say(c, "{\"type\":\"ping\",\"id\":null}");
    assert_string_equal(client_hear(c), "{\"type\":\"pong\"}");
}

static void what_is_no_request_is_told_so(void **state)
{
    struct harness *h = *state;
    char long_id[128];
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    expect_code(c, "{", "json.malformed");
    expect_code(c, "[1]", "json.not_object");
    expect_code(c, "{}", "type.missing");
    expect_code(c, "{\"type\":5,\"id\":1}", "type.missing");
    expect_text(c->text.data, "\"re\":1");
    expect_code(c, "{\"type\":\"no such\"}", "type.unknown");
    expect_code(c, "{\"type\":\"ping\",\"id\":1.5}", "id.invalid");
    expect_code(c, "{\"type\":\"ping\",\"id\":[1]}", "id.invalid");
    expect_code(c, "{\"type\":\"ping\",\"id\":true}", "id.invalid");
    snprintf(long_id, sizeof long_id, "{\"type\":\"ping\",\"id\":\"%065d\"}", 1);
    expect_code(c, long_id, "id.invalid");
    snprintf(long_id, sizeof long_id, "{\"type\":\"ping\",\"id\":\"%064d\"}", 1);
    client_say(c, "%s", long_id);
    expect_text(client_hear(c), "pong");
}

static void binary_messages_end_the_socket(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    client_say_binary(c, "{\"type\":\"ping\"}");
    expect_text(client_hear(c), "\"code\":\"message.binary\"");
    assert_int_equal(client_hear_close(c), 1003);
}

/* --- sending ------------------------------------------------------------------------------------- */

static void a_send_is_answered_by_ok_and_pushed_to_the_sender_too(void **state)
{
    struct harness *h = *state;
    char expected[256];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO_ALL);
    client_say(c,
               "{\"type\":\"send_message\",\"id\":3,\"room_id\":\"%s\",\"content\":\"ding\",\"meta\":{ \"a\":1 },"
               "\"client_id\":\"c1\"}",
               room_name(room).text);
    snprintf(expected, sizeof expected,
             "{\"type\":\"ok\",\"re\":3,\"room_id\":\"%s\",\"message_id\":\"m%s_1\",\"seq\":1,\"created_at\":"
             "\"2026-01-01T00:00:00.000Z\"}",
             room_name(room).text, room_name(room).text + 1);
    unsigned oks = 0, pushes = 0;
    for (unsigned i = 0; i < 2; i++) {
        const char *heard = client_hear(c);
        oks += strcmp(heard, expected) == 0;
        pushes += strstr(heard, "\"type\":\"message\"") && strstr(heard, "\"meta\":{ \"a\":1 }") &&
                  strstr(heard, "\"client_id\":\"c1\"");
    }
    assert_int_equal(oks, 1);
    assert_int_equal(pushes, 1);
    client_hears_nothing(c);
}

static void a_request_without_an_id_hears_of_errors_only(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    client_say(c, "{\"type\":\"send_message\",\"room_id\":\"%s\",\"content\":\"ding\"}", room_name(room).text);
    client_hears_nothing(c);
    client_say(c, "{\"type\":\"ack\",\"room_id\":\"%s\",\"seq\":1}", room_name(room).text);
    client_hears_nothing(c);
    client_say(c, "{\"type\":\"send_message\",\"room_id\":\"%s\",\"content\":\"ding\"}", room_name(room + 1).text);
    const char *heard = client_hear(c);
    expect_text(heard, "{\"type\":\"error\",\"code\":\"room.not_found\"");
    expect_no_text(heard, "\"re\":");
}

static void the_same_client_id_means_the_same_on_both_ways_in(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE), *rest = client_open(h, 0);
    char path[64];
    snprintf(path, sizeof path, "/v1/rooms/%s/messages", room_name(room).text);
    client_say(c, "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"%s\",\"content\":\"ding\",\"client_id\":\"k\"}",
               room_name(room).text);
    assert_int_equal(number_in(client_hear(c), "seq"), 1);
    assert_int_equal(client_call(rest, "POST", path, "ann", "Idempotency-Key: k\r\n", "{\"content\":\"ding\"}"), 201);
    assert_int_equal(number_in(rest->text.data, "seq"), 1);
    client_say(c, "{\"type\":\"send_message\",\"id\":2,\"room_id\":\"%s\",\"content\":\"dong\",\"client_id\":\"k\"}",
               room_name(room).text);
    expect_text(client_hear(c), "\"re\":2,\"code\":\"idempotency.mismatch\"");
}

static void faulty_fields_are_named(void **state)
{
    struct harness *h = *state;
    char text[256];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct room_name room = room_name(harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    static const struct {
        const char *said, *code, *field;
    } rows[] = {
        {"{\"type\":\"send_message\",\"content\":\"x\"}", "field.missing", "room_id"},
        {"{\"type\":\"send_message\",\"room_id\":\"r_1\",\"content\":\"x\"}", "room.not_found", "room_id"},
        {"{\"type\":\"send_message\",\"room_id\":\"%s\"}", "field.missing", "content"},
        {"{\"type\":\"send_message\",\"room_id\":\"%s\",\"content\":\"\"}", "field.invalid", "content"},
        {"{\"type\":\"send_message\",\"room_id\":\"%s\",\"content\":\"x\",\"reply_to\":1}", "message.reply_not_found",
         "reply_to"},
        {"{\"type\":\"ack\",\"room_id\":\"%s\"}", "field.missing", "seq"},
        {"{\"type\":\"read\",\"room_id\":\"%s\",\"seq\":-1}", "field.invalid", "seq"},
        {"{\"type\":\"ack\",\"room_id\":\"%s\",\"seq\":1}", "ack.beyond_head", "seq"},
        {"{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":\"1\"}", "field.invalid", "after_seq"},
        {"{\"type\":\"unsubscribe\",\"room_id\":\"%s\"}", "subscription.none", "room_id"},
        {"{\"type\":\"history\",\"room_id\":\"%s\",\"limit\":0}", "field.invalid", "limit"},
        {"{\"type\":\"history\",\"room_id\":\"%s\",\"limit\":1001}", "field.invalid", "limit"},
        {"{\"type\":\"sync\",\"cursor\":\"x\"}", "cursor.invalid", "cursor"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char field[64];
        const char *at = strstr(rows[i].said, "%s");
        if (at)
            snprintf(text, sizeof text, "%.*s%s%s", (int)(at - rows[i].said), rows[i].said, room.text, at + 2);
        else
            snprintf(text, sizeof text, "%s", rows[i].said);
        expect_code(c, text, rows[i].code);
        snprintf(field, sizeof field, "\"field\":\"%s\"", rows[i].field);
        expect_text(c->text.data, field);
    }
    client_hears_nothing(c);
}

static void a_hello_with_faulty_wishes_may_be_said_again(void **state)
{
    struct harness *h = *state;
    char text[256];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct room_name room = room_name(harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)));
    struct client *c = socket_open(h, 0, "ann", NULL);
    expect_code(c, "{\"type\":\"hello\",\"rooms\":\"some\"}", "field.invalid");
    expect_code(c, "{\"type\":\"hello\",\"rooms\":5}", "field.invalid");
    expect_code(c, "{\"type\":\"hello\",\"rooms\":[5]}", "field.invalid");
    expect_code(c, "{\"type\":\"hello\",\"resume\":[]}", "field.invalid");
    expect_code(c, "{\"type\":\"hello\",\"resume\":{\"x\":[1,1]}}", "field.invalid");
    static const char *const positions[] = {"5", "[1]", "[1,2,3]", "[1,-2]", "[\"1\",2]"};
    for (unsigned i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "{\"type\":\"hello\",\"resume\":{\"%s\":%s}}", room.text, positions[i]);
        expect_code(c, text, "field.invalid");
    }
    snprintf(text, sizeof text, "{\"type\":\"hello\",\"device\":\"%065d\"}", 1);
    expect_code(c, text, "field.too_long");
    client_say(c, HELLO_ALL);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
}

static void a_token_that_is_not_valid_ends_the_socket(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", NULL);
    expect_code(c, "{\"type\":\"hello\",\"token\":\"x\"}", "auth.invalid_token");
    assert_int_equal(client_hear_close(c), 4001);
}

/* --- marks --------------------------------------------------------------------------------------- */

static void acks_move_the_sockets_device(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    struct client *c = socket_open(h, 0, "ann", "{\"type\":\"hello\",\"rooms\":\"none\",\"device\":\"phone\"}");
    client_say(c, "{\"type\":\"ack\",\"id\":1,\"room_id\":\"%s\",\"seq\":4}", room_name(room).text);
    assert_string_equal(client_hear(c), "{\"type\":\"ok\",\"re\":1}");
    client_say(c, "{\"type\":\"read\",\"id\":2,\"room_id\":\"%s\",\"seq\":3}", room_name(room).text);
    assert_string_equal(client_hear(c), "{\"type\":\"ok\",\"re\":2}");
    struct answer *phone = settled(h, harness_rooms(h, 0, &ann, "phone"));
    assert_true(phone->positions[0].delivered == 4 && phone->positions[0].read == 3);
}

/* --- subscriptions
 * ------------------------------------------------------------------------------------------------------ */

static void subscribing_begins_live_or_behind_a_seq(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    struct client *live = socket_open(h, 0, "ann", HELLO_NONE), *behind = socket_open(h, 1, "ann", HELLO_NONE);
    client_say(live, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(live), "{\"type\":\"ok\",\"re\":1,\"room_id\":");
    expect_text(live->text.data, "\"epoch\":1,\"head\":3}");
    client_hears_nothing(live);
    client_say(behind, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\",\"after_seq\":1}", room_name(room).text);
    assert_int_equal(number_in(client_hear(behind), "head"), 3);
    expect_text(client_hear(behind), "\"type\":\"resumed\"");
    assert_int_equal(number_in(behind->text.data, "from"), 2);
    for (uint64_t seq = 2; seq <= 3; seq++) assert_int_equal(number_in(client_hear(behind), "seq"), seq);
    settled(h, harness_send(h, 0, &ann, room, "4"));
    assert_int_equal(number_in(client_hear(live), "seq"), 4);
    assert_int_equal(number_in(client_hear(behind), "seq"), 4);
}

static void subscribing_twice_delivers_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    for (unsigned i = 1; i <= 2; i++) {
        client_say(c, "{\"type\":\"subscribe\",\"id\":%u,\"room_id\":\"%s\"}", i, room_name(room).text);
        assert_int_equal(number_in(client_hear(c), "re"), i);
    }
    assert_int_equal(harness_core(h, 0)->num_subscriptions, 1);
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    assert_int_equal(number_in(client_hear(c), "seq"), 1);
    client_hears_nothing(c);
}

static void subscribing_again_behind_a_seq_starts_again_from_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    struct client *c = socket_open(h, 1, "ann", HELLO_NONE);
    for (unsigned round = 0; round < 2; round++) { /* the second time all three requests come at once */
        client_say(c, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
        if (round == 0) assert_int_equal(number_in(client_hear(c), "re"), 1);
        client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\",\"after_seq\":2}", room_name(room).text);
        if (round == 1)
            client_say(c, "{\"type\":\"subscribe\",\"id\":3,\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
        uint64_t wanted = round == 0 ? 3 : 1, from = 0, next = 0;
        while (from != wanted || next != 4) {
            const char *heard = client_hear(c);
            if (strstr(heard, "\"type\":\"resumed\""))
                from = next = number_in(heard, "from");
            else if (next && strstr(heard, "\"type\":\"message\""))
                assert_int_equal(number_in(heard, "seq"), next++);
        }
        client_hears_nothing(c);
        client_say(c, "{\"type\":\"unsubscribe\",\"id\":4,\"room_id\":\"%s\"}", room_name(room).text);
        assert_int_equal(number_in(client_hear(c), "re"), 4);
    }
}

static void a_subscription_right_behind_hello_gets_what_it_asked_for(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person_at(h, "ann", 1);
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    settled(
        h, harness_rooms(h, 1, &ann, NULL)); /* so that hello asks for the room at once, just before the subscription */
    struct client *c = socket_open(h, 1, ann.id, NULL);
    client_say(c, HELLO_ALL); /* live */
    client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
    uint64_t next = 0;
    while (next != 4) {
        const char *heard = client_hear(c);
        if (strstr(heard, "\"type\":\"resumed\""))
            next = number_in(heard, "from");
        else if (strstr(heard, "\"type\":\"message\""))
            assert_int_equal(number_in(heard, "seq"), next++);
    }
    client_hears_nothing(c);
    settled(h, harness_send(h, 0, &ann, room, "live"));
    assert_int_equal(number_in(client_hear(c), "seq"), 4);
}

/* expect_whole hears everything that comes: from `next` to `last` in order, where a `resumed` may go back but never
 * ahead. Returns how many times it was resumed. */
static unsigned expect_whole(struct client *c, uint64_t next, uint64_t last)
{
    unsigned resumed = 0;
    harness_settle(c->harness);
    while (next <= last || client_read(c)) {
        const char *heard = client_hear(c);
        if (strstr(heard, "\"type\":\"resumed\"")) {
            assert_in_range(number_in(heard, "from"), 1, next);
            next = number_in(heard, "from");
            resumed++;
        } else if (strstr(heard, "\"sender_id\"") || strstr(heard, "\"actor_id\"")) {
            assert_int_equal(number_in(heard, "seq"), next++);
        }
        harness_settle(c->harness);
    }
    assert_int_equal(next, last + 1);
    client_hears_nothing(c);
    return resumed;
}

static void a_resume_holds_when_a_subscription_comes_right_behind_it(void **state)
{
    struct harness *h = *state;
    static const char *const behind[] = {"", ",\"after_seq\":4", ",\"after_seq\":0"};
    for (unsigned i = 0; i < 3; i++) {
        if (i == 0) harness_open(h, 2);
        struct person ann = harness_person(h, "ann");
        uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        harness_fill(h, &ann, room, 5);
        for (unsigned core = 0; core < 2; core++) {
            harness_restart(h, END_CLEAN);
            struct client *c = socket_open(h, core, "ann", NULL);
            h->hold_readers = true; /* cold: the subscription is answered first, while hello still loads the user */
            client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,2]}}", room_name(room).text);
            client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\"%s}", room_name(room).text, behind[i]);
            client_hears_nothing(c);
            h->hold_readers = false;
            uint64_t next = 0;
            bool welcomed = false, answered = false, resumed = false;
            while (!welcomed || !answered || !resumed || next != 6 || client_read(c)) {
                const char *heard = client_hear(c);
                welcomed |= strstr(heard, "\"type\":\"welcome\"") != NULL;
                answered |= strstr(heard, "\"type\":\"ok\"") != NULL;
                if (strstr(heard, "\"type\":\"resumed\"")) {
                    next = number_in(heard, "from");
                    resumed |= next <= 3;
                } else if (next && strstr(heard, "\"type\":\"message\"")) {
                    assert_int_equal(number_in(heard, "seq"), next++);
                }
                harness_settle(h);
            }
        }
    }
}

static void a_subscription_while_the_socket_opens_leaves_the_resume_to_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t slow = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    harness_restart(h, END_CLEAN);
    settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, room));
    settled(h, harness_rooms(h, 0, &ann, NULL));
    struct client *c = socket_open(h, 0, "ann", NULL);
    h->hold_readers = true;
    /* not an epoch of the store */
    client_say(c, "{\"type\":\"hello\",\"resume\":{\"%s\":[9,2]}}", room_name(room).text);
    client_hears_nothing(c); /* the slow room is being loaded */
    client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(c), "{\"type\":\"ok\",\"re\":2");
    h->hold_readers = false;
    expect_text(client_hear(c), "{\"type\":\"welcome\"");
    expect_text(c->text.data, room_name(slow).text);
    expect_text(client_hear(c), "\"type\":\"resumed\"");
    expect_text(c->text.data, "\"recovered\":false,\"from\":1,\"head\":5}");
    assert_int_equal(expect_whole(c, 1, 5), 0);
}

static void the_last_of_two_subscriptions_in_flight_holds(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    struct client *c = socket_open(h, 1, "ann", HELLO_NONE);
    h->hold_syncer = true;
    harness_ask(h, 0, OP_ROOM_JOIN, &bob, room); /* both wait for it at the room's home */
    harness_settle(h);
    client_say(c, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
    client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
    client_hears_nothing(c);
    h->hold_syncer = false;
    assert_int_equal(number_in(client_hear(c), "re"), 1);
    assert_int_equal(number_in(client_hear(c), "re"), 2);
    assert_int_equal(expect_whole(c, 1, 6), 1);
}

static void a_page_read_for_an_earlier_wish_is_not_taken_for_a_later_one(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    h->hold_readers = true;
    for (unsigned i = 1; i <= 2; i++) {
        client_say(c, "{\"type\":\"subscribe\",\"id\":%u,\"room_id\":\"%s\",\"after_seq\":%u}", i, room_name(room).text,
                   i == 1 ? 0 : 3);
        assert_int_equal(number_in(client_hear(c), "re"), i);
        assert_int_equal(number_in(client_hear(c), "from"), i == 1 ? 1 : 4);
    }
    h->hold_readers = false;
    assert_int_equal(expect_whole(c, 4, 5), 0);
    settled(h, harness_send(h, 0, &ann, room, "live"));
    assert_int_equal(number_in(client_hear(c), "seq"), 6);
}

static void a_subscription_that_meets_the_one_of_a_join_holds(void **state)
{
    struct harness *h = *state;
    for (unsigned order = 0; order < 2; order++) {
        if (order == 0) harness_open(h, 3);
        char name[8];
        snprintf(name, sizeof name, "bob%u", order);
        struct person ann = harness_person(h, "ann"), bob = harness_person_at(h, name, 0);
        uint64_t room = harness_room_at(h, 2, ROOM_GROUP, PEOPLE(&ann));
        harness_fill(h, &ann, room, 3);
        struct client *c = socket_open(h, 1, bob.id, HELLO_ALL);
        harness_ask(h, 2, OP_ROOM_JOIN, &bob, room);
        harness_turn(h, 2);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
        harness_turn(h, 2); /* durable, and the news on its way to the user's home */
        if (order) {
            harness_turn(h, 0);
            harness_turn(h, 1); /* the socket's core has heard of it, and asks */
        }
        client_say(c, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
        for (unsigned i = 0; i < 100; i++) harness_turn(h, 1); /* the subscription first, or behind the join's own */
        harness_turn(h, 0);
        harness_turn(h, 1);
        const char *first = client_hear(c);
        if (order) assert_int_equal(number_in(first, "from"), 4);
        else assert_int_equal(number_in(first, "re"), 1);
        expect_whole(c, order ? 4 : 1, 4);
        settled(h, harness_send(h, 0, &ann, room, "live"));
        assert_int_equal(number_in(client_hear(c), "seq"), 5);
        client_hears_nothing(c);
    }
}

static void unsubscribing_ends_the_pushes(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_ALL);
    client_say(c, "{\"type\":\"unsubscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
    assert_string_equal(client_hear(c), "{\"type\":\"ok\",\"re\":1}");
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    client_hears_nothing(c);
    expect_code(c, "{\"type\":\"unsubscribe\",\"room_id\":\"no room\"}", "subscription.none");
}

static void rooms_of_others_are_not_subscribed(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person bob = harness_person(h, "bob");
    uint64_t public = harness_room(h, ROOM_GROUP, 0, PEOPLE(&bob)),
             private = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&bob));
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    client_say(c, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(public).text);
    expect_text(client_hear(c), "\"re\":1,\"code\":\"room.not_member\"");
    client_say(c, "{\"type\":\"subscribe\",\"id\":2,\"room_id\":\"%s\"}", room_name(private).text);
    expect_text(client_hear(c), "\"re\":2,\"code\":\"room.not_found\"");
    settled(h, harness_send(h, 0, &bob, public, "x"));
    client_hears_nothing(c);
    assert_int_equal(harness_core(h, 0)->local_rooms.len, 0);
}

/* --- reading
 * --------------------------------------------------------------------------------------------------------------- */

static void history_and_sync_are_answered_in_place(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    struct client *c = socket_open(h, 1, "ann", HELLO_NONE);
    client_say(c, "{\"type\":\"history\",\"id\":1,\"room_id\":\"%s\",\"after_seq\":1,\"limit\":1}",
               room_name(room).text);
    expect_text(client_hear(c), "{\"type\":\"ok\",\"re\":1,\"items\":[{");
    expect_text(c->text.data, "\"seq\":2,");
    expect_text(c->text.data, "],\"next\":\"2\"}");
    client_say(c, "{\"type\":\"sync\",\"id\":2,\"rooms\":{\"%s\":[1,2]}}", room_name(room).text);
    expect_text(client_hear(c), "{\"type\":\"ok\",\"re\":2,\"rooms\":[{");
    expect_text(c->text.data, "\"recovered\":true,\"from\":3,\"head\":3,\"events\":[{");
    expect_text(c->text.data, "],\"next\":null}");
}

static void a_read_key_only_reads(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    directory_authenticate(harness_core(h, 0), slice_str(h->api_key))->role = KEY_ROLE_READ;
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    client_say(c, "{\"type\":\"send_message\",\"room_id\":\"%s\",\"content\":\"x\"}", room_name(room).text);
    expect_text(client_hear(c), "\"code\":\"auth.forbidden\"");
    client_say(c, "{\"type\":\"ack\",\"room_id\":\"%s\",\"seq\":0}", room_name(room).text);
    expect_text(client_hear(c), "\"code\":\"auth.forbidden\"");
    client_say(c, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(c), "\"type\":\"ok\"");
}

static void nothing_is_lost_when_the_asker_has_gone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO_NONE);
    h->hold_syncer = true;
    client_say(c, "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"%s\",\"content\":\"x\"}", room_name(room).text);
    client_say(c, "{\"type\":\"history\",\"id\":2,\"room_id\":\"%s\"}", room_name(room).text);
    client_say(c, "{\"type\":\"subscribe\",\"id\":3,\"room_id\":\"%s\"}", room_name(room).text);
    harness_settle(h);
    client_close(c);
    for (unsigned i = 0; i < 1000 && harness_core(h, 1)->num_sessions; i++) harness_settle(h);
    h->hold_syncer = false;
    harness_settle(h);
    struct answer *events = settled(h, harness_events(h, 0, &ann, room, 0));
    assert_int_equal(count_in(events->out.data, "\"type\":"), 1);
}

/* misuse says what is no operation and expects an answer. */
static void misuse(struct client *c, unsigned times)
{
    while (times--) expect_code(c, "{\"type\":\"no.such\"}", "type.unknown");
}

static void mistakes_count_in_a_row_and_in_a_window(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    misuse(c, MISUSES_MAX - 1);
    client_say(c, "{\"type\":\"ping\"}");
    assert_string_equal(client_hear(c), "{\"type\":\"pong\"}");
    misuse(c, MISUSES_MAX - 1); /* an operation begins the row anew */
    harness_advance(h, ABUSE_WINDOW_MS);
    misuse(c, MISUSES_MAX - 1); /* and so does time */
    harness_advance(h, ABUSE_WINDOW_MS - 1000);
    client_say(c, "{\"type\":\"no.such\"}");
    assert_int_equal(client_hear_close(c), 4008);
}

static void refusals_count_in_a_window(void **state)
{
    struct harness *h = *state;
    h->config.limits_tenant_rate = 1;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", NULL);
    harness_advance(h, 1000); /* the handshake has emptied the bucket */
    client_say(c, HELLO_NONE);
    expect_text(client_hear(c), "\"type\":\"welcome\"");
    for (unsigned i = 0; i < RATE_REFUSALS_MAX; i++) expect_code(c, "{\"type\":\"ping\"}", "rate.limited");
    harness_advance(h, ABUSE_WINDOW_MS);
    client_say(c, "{\"type\":\"ping\"}");
    assert_string_equal(client_hear(c), "{\"type\":\"pong\"}");
    for (unsigned i = 0; i < RATE_REFUSALS_MAX; i++) expect_code(c, "{\"type\":\"ping\"}", "rate.limited");
    client_say(c, "{\"type\":\"ping\"}");
    assert_int_equal(client_hear_close(c), 4129);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_id_goes_back_as_it_came),
        TEST(what_is_no_request_is_told_so),
        TEST(binary_messages_end_the_socket),
        TEST(a_send_is_answered_by_ok_and_pushed_to_the_sender_too),
        TEST(a_request_without_an_id_hears_of_errors_only),
        TEST(the_same_client_id_means_the_same_on_both_ways_in),
        TEST(faulty_fields_are_named),
        TEST(a_hello_with_faulty_wishes_may_be_said_again),
        TEST(a_token_that_is_not_valid_ends_the_socket),
        TEST(acks_move_the_sockets_device),
        TEST(subscribing_begins_live_or_behind_a_seq),
        TEST(subscribing_twice_delivers_once),
        TEST(subscribing_again_behind_a_seq_starts_again_from_there),
        TEST(a_subscription_right_behind_hello_gets_what_it_asked_for),
        TEST(unsubscribing_ends_the_pushes),
        TEST(rooms_of_others_are_not_subscribed),
        TEST(history_and_sync_are_answered_in_place),
        TEST(a_read_key_only_reads),
        TEST(nothing_is_lost_when_the_asker_has_gone),
        TEST(a_resume_holds_when_a_subscription_comes_right_behind_it),
        TEST(a_subscription_while_the_socket_opens_leaves_the_resume_to_it),
        TEST(the_last_of_two_subscriptions_in_flight_holds),
        TEST(a_page_read_for_an_earlier_wish_is_not_taken_for_a_later_one),
        TEST(a_subscription_that_meets_the_one_of_a_join_holds),
        TEST(mistakes_count_in_a_row_and_in_a_window),
        TEST(refusals_count_in_a_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
