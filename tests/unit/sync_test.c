#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"

/* Everything missing in every room, paged. */

/* sync asks over REST and expects a success; the text lives until the client's next answer. */
static const char *sync_of(struct client *c, const char *user, const char *body)
{
    unsigned status = client_call(c, "POST", "/v1/sync", user, "", body);
    if (status != 200) fail_msg("%u %s", status, c->text.data);
    return c->text.data;
}

static void without_wishes_every_room_begins_behind_its_cursor(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t one = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), two = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, one, 3);
    harness_fill(h, &ann, two, 2);
    settled(h, harness_ack(h, 0, &ann, one, NULL, 1, false));
    settled(h, harness_ack(h, 0, &ann, two, NULL, 2, false));
    struct client *c = client_open(h, 1);
    const char *text = sync_of(c, "ann", "");
    const char *first = strstr(text, room_name(one).text), *second = strstr(text, room_name(two).text);
    assert_true(first && second && first < second); /* in the order of their numbers */
    expect_text(text, "\"epoch\":1,\"recovered\":true,\"from\":2,\"head\":3,\"events\":[{");
    expect_text(text, "\"epoch\":1,\"recovered\":true,\"from\":3,\"head\":2,\"events\":[]}],\"next\":null}");
    assert_int_equal(count_in(text, "\"type\":\"message\""), 2);
}

static void a_device_begins_behind_its_own_cursor(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    settled(h, harness_ack(h, 0, &ann, room, "phone", 2, false));
    settled(h, harness_ack(h, 0, &ann, room, NULL, 4, false));
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/sync", "ann", "X-Device-Id: phone\r\n", "{}"), 200);
    assert_int_equal(number_in(c->text.data, "from"), 3);
    assert_int_equal(number_in(sync_of(c, "ann", "{}"), "from"), 5);
}

static void positions_that_a_client_holds_are_checked(void **state)
{
    struct harness *h = *state;
    char body[256];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)),
             foreign = harness_room(h, ROOM_GROUP, 0, PEOPLE(&bob));
    harness_fill(h, &ann, room, 3);
    struct client *c = client_open(h, 0);
    snprintf(body, sizeof body, "{\"rooms\":{\"%s\":[1,2],\"%s\":[1,0],\"no room\":[1,1]}}", room_name(room).text,
             room_name(foreign).text);
    const char *good = sync_of(c, "ann", body);
    expect_text(good, "\"recovered\":true,\"from\":3");
    expect_no_text(good, room_name(foreign).text);
    snprintf(body, sizeof body, "{\"rooms\":{\"%s\":[7,2]}}", room_name(room).text);
    expect_text(sync_of(c, "ann", body), "\"recovered\":false,\"from\":1");
}

static void pages_go_over_all_rooms_without_a_hole(void **state)
{
    struct harness *h = *state;
    uint64_t rooms[3], next_seq[3] = {1, 1, 1};
    char body[128] = "{\"limit\":4}";
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    for (unsigned i = 0; i < 3; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        harness_fill(h, &ann, rooms[i], 3 + i);
    }
    struct client *c = client_open(h, 0);
    unsigned pages = 0, events = 0;
    for (bool more = true; more; pages++) {
        assert_true(pages < 10);
        const char *text = sync_of(c, "ann", body);
        unsigned here = 0;
        for (const char *at = text; (at = strstr(at, "{\"type\":\"message\",\"room_id\":\"")); at += 10, here++)
            for (unsigned i = 0; i < 3; i++)
                if (strncmp(at + sizeof("{\"type\":\"message\",\"room_id\":\"") - 1, room_name(rooms[i]).text,
                            ID_TEXT_LEN) == 0)
                    assert_int_equal(number_in(at, "seq"), next_seq[i]++);
        assert_in_range(here, 0, 4);
        events += here;
        const char *next = strstr(text, "\"next\":\"");
        more = next != NULL;
        if (more)
            snprintf(body, sizeof body, "{\"limit\":4,\"cursor\":\"%.*s\"}", (int)strcspn(next + 8, "\""), next + 8);
    }
    assert_int_equal(events, 3 + 4 + 5);
    assert_int_equal(pages, 3);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(next_seq[i], 4 + i);
}

static void a_page_judges_a_room_by_the_callers_position_until_it_has_begun_it(void **state)
{
    struct harness *h = *state;
    uint64_t rooms[2];
    char wish[128], body[256];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    for (unsigned i = 0; i < 2; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        harness_fill(h, &ann, rooms[i], 3);
    }
    /* the second room's position is of no epoch of this store */
    snprintf(wish, sizeof wish, "\"rooms\":{\"%s\":[1,0],\"%s\":[7,2]}", room_name(rooms[0]).text,
             room_name(rooms[1]).text);
    static const struct {
        unsigned limit;
        const char *recovered[3]; /* the first room of each page, and what it begins with */
        uint64_t from[3];
    } rows[] = {
        {3, {"\"recovered\":true", "\"recovered\":false", NULL}, {1, 1}}, /* cut before the second room */
        {4, {"\"recovered\":true", "\"recovered\":true", NULL}, {1, 2}},  /* cut in it: said on the page before */
    };
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < 2; i++) {
        char cursor[64] = "";
        for (unsigned page = 0; page < 2; page++) {
            snprintf(body, sizeof body, "{%s,\"limit\":%u%s}", wish, rows[i].limit, cursor);
            const char *answer = sync_of(c, "ann", body), *next = strstr(answer, "\"next\":\"");
            expect_text(answer, rows[i].recovered[page]);
            assert_int_equal(number_in(answer, "from"), rows[i].from[page]);
            if (i == 1 && page == 0) expect_text(answer, "\"recovered\":false,\"from\":1");
            if (i == 0 && page == 1) expect_no_text(answer, "\"recovered\":true");
            assert_int_equal(next != NULL, page == 0);
            if (next) snprintf(cursor, sizeof cursor, ",\"cursor\":\"%.*s\"", (int)strcspn(next + 8, "\""), next + 8);
        }
    }
}

static void a_room_that_is_not_to_be_had_fails_the_whole_sync(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    kv_fake_fail(h->kv, false, true);
    harness_ask(h, 0, OP_ROOM_JOIN, &bob, room); /* never durable: the room no longer says who is in it */
    harness_settle(h);
    struct client *c = client_open(h, 1);
    assert_int_equal(client_call(c, "POST", "/v1/sync", "ann", "", "{}"), 503);
    expect_text(c->text.data, "\"code\":\"store.read_only\"");
}

static void faulty_requests_are_refused(void **state)
{
    struct harness *h = *state;
    static const struct {
        const char *body, *code;
    } rows[] = {
        {"{\"limit\":0}", "field.invalid"},
        {"{\"limit\":1001}", "field.invalid"},
        {"{\"limit\":\"5\"}", "field.invalid"},
        {"{\"cursor\":\"x\"}", "cursor.invalid"},
        {"{\"cursor\":5}", "field.invalid"},
        {"{\"rooms\":[]}", "field.invalid"},
        {"{\"rooms\":{\"r\":5}}", "field.invalid"},
        {"{\"rooms\":{\"r\":[1]}}", "field.invalid"},
        {"{\"rooms\":{\"r\":[1,2,3]}}", "field.invalid"},
        {"[]", "json.not_object"},
    };
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(client_call(c, "POST", "/v1/sync", "ann", "", rows[i].body), 400);
        expect_text(c->text.data, rows[i].code);
    }
}

static void a_room_left_meanwhile_is_left_out(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t stays = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob)),
             left = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    harness_restart(h, END_CLEAN);
    settled(h, harness_rooms(h, 0, &bob, NULL));
    settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, stays));
    settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, left));
    h->hold_syncer = true;
    struct answer *leave = harness_ask(h, 0, OP_ROOM_LEAVE, &bob, left); /* his list still has it */
    harness_settle(h);
    struct client *c = client_open(h, 0);
    struct buf request = {0};
    buf_printf(&request,
               "POST /v1/sync HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: bob\r\nContent-Length: 0\r\n\r\n",
               h->api_key);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    assert_int_equal(c->in.len, 0); /* it waits for the change */
    h->hold_syncer = false;
    assert_int_equal(client_answer(c), 200);
    expect_ok(leave);
    expect_text(c->text.data, room_name(stays).text);
    expect_no_text(c->text.data, room_name(left).text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_wishes_every_room_begins_behind_its_cursor),
        TEST(a_device_begins_behind_its_own_cursor),
        TEST(positions_that_a_client_holds_are_checked),
        TEST(pages_go_over_all_rooms_without_a_hole),
        TEST(faulty_requests_are_refused),
        TEST(a_room_left_meanwhile_is_left_out),
        TEST(a_page_judges_a_room_by_the_callers_position_until_it_has_begun_it),
        TEST(a_room_that_is_not_to_be_had_fails_the_whole_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
