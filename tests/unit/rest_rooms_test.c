#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rooms, members and users over REST. */

/* room_post makes a room and returns its id; the text lives in `out`. */
static const char *room_post(struct client *c, const char *user, const char *body, char out[16])
{
    unsigned status = client_call(c, "POST", "/v1/rooms", user, "", body);
    if (status != 201 && status != 200) fail_msg("%u %s", status, c->text.data);
    const char *id = strstr(c->text.data, "\"room_id\":\"");
    assert_non_null(id);
    snprintf(out, 16, "%.15s", id + 11);
    return out;
}

/* call_at makes a request under a room's path. */
static unsigned call_at(struct client *c, const char *method, const char *rest, const char *room, const char *user,
                        const char *headers, const char *body)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/rooms/%s%s", room, rest);
    return client_call(c, method, path, user, headers, body);
}

static void a_room_is_made_with_what_describes_it(void **state)
{
    struct harness *h = *state;
    char room[16];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    room_post(c, "ann",
              "{\"type\":\"group\",\"name\":\"Bells\",\"description\":\"d\",\"avatar_url\":\"u\",\"is_private\":true,"
              "\"max_participants\":3,\"settings\":{\"history\":\"since_join\", "
              "\"x\":1},\"members\":[\"bob\",\"ann\",\"bob\"]}",
              room);
    expect_text(c->text.data,
                "\"type\":\"group\",\"unique_key\":null,\"name\":\"Bells\",\"description\":\"d\",\"avatar_url\":\"u\"");
    expect_text(c->text.data,
                "\"is_private\":true,\"max_participants\":3,\"settings\":{\"history\":\"since_join\", \"x\":1}");
    expect_text(c->text.data, "\"member_count\":2,\"last_seq\":0");
    expect_text(c->text.data, "\"role\":\"admin\"}");
    assert_int_equal(call_at(c, "GET", "", room, "bob", "", NULL), 200);
    expect_text(c->text.data, "\"role\":\"member\"}");
    assert_int_equal(call_at(c, "POST", "/members", room, "ann", "", "{\"members\":[\"cat\",\"dan\"]}"),
                     409); /* three at most */
    assert_int_equal(call_at(c, "POST", "/members", room, "ann", "", "{\"members\":[\"cat\"]}"), 200);
    assert_int_equal(number_in(c->text.data, "seq"), 1);
    assert_int_equal(call_at(c, "GET", "/members", room, "cat", "", NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"user_id\""), 3);
}

static void faulty_rooms_are_refused(void **state)
{
    struct harness *h = *state;
    char text[1024];
    static const struct {
        const char *body, *field;
        unsigned status;
    } rows[] = {
        {"{}", "type", 400},
        {"{\"type\":\"party\"}", "type", 400},
        {"{\"type\":5}", "type", 400},
        {"{\"type\":\"group\",\"name\":5}", "name", 400},
        {"{\"type\":\"group\",\"is_private\":\"yes\"}", "is_private", 400},
        {"{\"type\":\"group\",\"max_participants\":10001}", "max_participants", 400},
        {"{\"type\":\"group\",\"settings\":[]}", "settings", 400},
        {"{\"type\":\"group\",\"members\":\"bob\"}", "members", 400},
        {"{\"type\":\"group\",\"members\":[5]}", "members", 400},
        {"{\"type\":\"group\",\"members\":[\"\"]}", "members", 400},
        {"{\"type\":\"group\",\"members\":[\"a\\nb\"]}", "members", 400},
        {"{\"type\":\"group\",\"max_participants\":1,\"members\":[\"bob\"]}", "members", 409},
        {"{\"type\":\"dm\"}", "members", 400},
        {"{\"type\":\"dm\",\"members\":[\"ann\"]}", "members", 400},
        {"{\"type\":\"dm\",\"members\":[\"bob\",\"cat\"]}", "members", 400},
        {"{\"type\":\"dm\",\"members\":[\"bob\",\"cat\",\"dan\"]}", "members", 400},
    };
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned status = client_call(c, "POST", "/v1/rooms", "ann", "", rows[i].body);
        if (status != rows[i].status) fail_msg("%s: %u", rows[i].body, status);
        snprintf(text, sizeof text, "\"field\":\"%s\"", rows[i].field);
        expect_text(c->text.data, text);
    }
    snprintf(text, sizeof text, "{\"type\":\"group\",\"name\":\"%0257d\"}", 1);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", text), 400);
    snprintf(text, sizeof text, "{\"type\":\"group\",\"members\":[\"%0129d\"]}", 1);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", text), 400);
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 200);
    expect_text(c->text.data, "{\"items\":[],\"next\":null}");
}

static void a_direct_room_is_made_once_whichever_way_it_is_named(void **state)
{
    struct harness *h = *state;
    char made[16], found[16];
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", "{\"type\":\"dm\",\"members\":[\"bob\"]}"), 201);
    snprintf(made, sizeof made, "%.15s", strstr(c->text.data, "\"room_id\":\"") + 11);
    static const struct {
        const char *user, *body;
    } rows[] = {
        {"ann", "{\"type\":\"dm\",\"members\":[\"ann\",\"bob\"]}"},
        {"ann", "{\"type\":\"dm\",\"members\":[\"bob\",\"ann\"]}"},
        {"bob", "{\"type\":\"dm\",\"members\":[\"ann\"]}"},
    };
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(room_post(c, rows[i].user, rows[i].body, found), made);
        expect_text(c->head.data, "HTTP/1.1 200 ");
    }
}

static void a_repeated_request_gets_the_first_answer(void **state)
{
    struct harness *h = *state;
    char first[16], again[16];
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: k\r\n", "{\"type\":\"group\"}"), 201);
    snprintf(first, sizeof first, "%.15s", strstr(c->text.data, "\"room_id\":\"") + 11);
    assert_int_equal(client_call(c, "POST", "/api/v1/rooms", "ann", "Idempotency-Key: k\r\n", "{\"type\":\"group\"}"),
                     201);
    snprintf(again, sizeof again, "%.15s", strstr(c->text.data, "\"room_id\":\"") + 11);
    assert_string_equal(again, first);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: k\r\n", "{\"type\":\"channel\"}"),
                     422);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(call_at(c, "POST", "/join", first, "bob", "Idempotency-Key: k\r\n", ""),
                         200); /* the path is part of the key */
        assert_string_equal(c->text.data, "{\"success\":true,\"changed\":1,\"seq\":1}");
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            call_at(c, "POST", "/members", first, "ann", "Idempotency-Key: m\r\n", "{\"members\":[\"cat\"]}"), 200);
        assert_string_equal(c->text.data, "{\"success\":true,\"changed\":1,\"seq\":2}");
    }
    assert_int_equal(call_at(c, "POST", "/members", first, "ann", "Idempotency-Key: m\r\n", "{\"members\":[\"dan\"]}"),
                     422);
}

static void members_are_changed_and_removed(void **state)
{
    struct harness *h = *state;
    char room[16];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    room_post(c, "ann", "{\"type\":\"group\",\"members\":[\"bob\"]}", room);
    assert_int_equal(call_at(c, "PATCH", "/members/bob", room, "ann", "", "{\"role\":\"owner\"}"), 400);
    assert_int_equal(call_at(c, "PATCH", "/members/bob", room, "ann", "", "{}"), 400);
    assert_int_equal(call_at(c, "PATCH", "/members/bob", room, "ann", "", "{\"role\":\"admin\"}"), 200);
    assert_int_equal(call_at(c, "PATCH", "/members/ann", room, "bob", "", "{\"role\":\"member\"}"), 200);
    assert_int_equal(call_at(c, "DELETE", "/members/bob", room, "ann", "", NULL), 403);
    assert_int_equal(call_at(c, "DELETE", "/members/cat", room, "bob", "", NULL), 404);
    expect_text(c->text.data, "\"code\":\"member.not_found\"");
    assert_int_equal(call_at(c, "DELETE", "/members/ann", room, "bob", "", NULL), 200);
    assert_int_equal(call_at(c, "POST", "/leave", room, "ann", "", NULL), 403);
    assert_int_equal(call_at(c, "POST", "/members", room, "bob", "", "{\"members\":[]}"), 400);
    assert_int_equal(call_at(c, "POST", "/members", room, "bob", "", "{}"), 400);
    assert_int_equal(call_at(c, "POST", "/leave", room, "bob", "", NULL), 200);
}

static void the_list_shows_head_cursors_and_last_message_and_is_paged(void **state)
{
    struct harness *h = *state;
    char path[64];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t rooms[3];
    for (unsigned i = 0; i < 3; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        if (i) harness_fill(h, &ann, rooms[i], i + 1);
    }
    harness_ask(h, 0, OP_ROOM_JOIN, &bob, rooms[1]); /* an event that is no message */
    harness_ack(h, 0, &ann, rooms[1], NULL, 1, true);
    harness_settle(h);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/rooms?limit=2", "ann", "", NULL), 200);
    expect_text(c->head.data, "X-Total-Rooms: 3\r\n");
    assert_int_equal(count_in(c->text.data, "\"last_seq\""), 2);
    expect_text(c->text.data, "\"head\":0,\"delivered\":0,\"read\":0,\"unread\":0,\"last_message\":null}");
    expect_text(c->text.data, "\"head\":3,\"delivered\":1,\"read\":1,\"unread\":2,\"last_message\":{\"room_id\":");
    expect_text(c->text.data, "\"seq\":2,\"sender_id\":\"ann\",\"content\":\"2\"");
    snprintf(path, sizeof path, "\"next\":\"%s\"}", room_name(rooms[1]).text);
    expect_text(c->text.data, path);
    snprintf(path, sizeof path, "/v1/rooms?limit=2&cursor=%s", room_name(rooms[1]).text);
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"last_seq\""), 1);
    expect_text(c->text.data, room_name(rooms[2]).text);
    expect_text(c->text.data, "],\"next\":null}");
    assert_int_equal(client_call(c, "GET", "/v1/rooms?cursor=x", "ann", "", NULL), 400);
    assert_int_equal(client_call(c, "GET", "/v1/rooms?limit=0", "ann", "", NULL), 400);
}

static void more_members_than_a_request_may_name_are_refused(void **state)
{
    struct harness *h = *state;
    struct buf body = {0};
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    BUF_LIT(&body, "{\"type\":\"group\",\"members\":[");
    for (unsigned i = 0; i <= MEMBERS_PER_REQUEST_MAX; i++) buf_printf(&body, "%s\"u%u\"", i ? "," : "", i);
    BUF_LIT(&body, "]}");
    buf_char(&body, '\0');
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", body.data), 400);
    expect_text(c->text.data, "\"code\":\"field.too_many\"");
    char *last = strrchr(body.data, ',');
    snprintf(last, 3, "]}");
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", body.data), 201);
    assert_int_equal(number_in(c->text.data, "member_count"), MEMBERS_PER_REQUEST_MAX + 1);
    buf_free(&body);
}

static void who_has_gone_leaves_no_trace_of_the_answer(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    static const char *const asked[] = {"GET /v1/rooms", "GET /v1/users/me", "POST /v1/sync"};
    for (unsigned i = 0; i < 3; i++) {
        harness_restart(h, END_CLEAN);
        struct client *c = client_open(h, 1);
        struct buf request = {0};
        h->hold_readers = true;
        buf_printf(&request, "%s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: ann\r\nContent-Length: 0\r\n\r\n",
                   asked[i], h->api_key);
        client_send(c, buf_slice(&request));
        buf_free(&request);
        for (unsigned n = 0; n < 20; n++) harness_settle(h);
        client_close(c);
        for (unsigned n = 0; n < 1000 && net_connections(harness_core(h, 1)->net); n++) harness_settle(h);
        h->hold_readers = false;
        harness_settle(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_room_is_made_with_what_describes_it),
        TEST(faulty_rooms_are_refused),
        TEST(a_direct_room_is_made_once_whichever_way_it_is_named),
        TEST(a_repeated_request_gets_the_first_answer),
        TEST(members_are_changed_and_removed),
        TEST(the_list_shows_head_cursors_and_last_message_and_is_paged),
        TEST(more_members_than_a_request_may_name_are_refused),
        TEST(who_has_gone_leaves_no_trace_of_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
