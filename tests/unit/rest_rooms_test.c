#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"
#include "kv_row.h"

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
        assert_int_equal(call_at(c, "POST", "/join", first, "bob", "Idempotency-Key: k\r\n", ""), 200);
        assert_string_equal(c->text.data, "{\"success\":true,\"changed\":1,\"seq\":1}");
    }
    for (unsigned i = 0; i < 2; i++) { /* the path is part of the key */
        assert_int_equal(call_at(c, "POST", "/leave", first, "bob", "Idempotency-Key: k\r\n", ""), 200);
        assert_string_equal(c->text.data, "{\"success\":true,\"changed\":1,\"seq\":2}");
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            call_at(c, "POST", "/members", first, "ann", "Idempotency-Key: m\r\n", "{\"members\":[\"cat\"]}"), 200);
        assert_string_equal(c->text.data, "{\"success\":true,\"changed\":1,\"seq\":3}");
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

static void a_room_that_is_not_to_be_had_fails_the_whole_list(void **state)
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
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 503);
    expect_text(c->text.data, "\"code\":\"store.read_only\"");
}

static void a_last_message_that_cannot_be_read_is_not_listed_as_none(void **state)
{
    struct harness *h = *state;
    struct key key;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    key_log(&key, h->tenant, room, 2);
    kv_row_put(h->kv, KV_LOG, &key, SLICE("damaged"));
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 503);
    expect_text(c->text.data, "\"code\":\"store.read_failed\"");
}

static void a_page_of_rooms_ends_when_it_is_long_enough(void **state)
{
    struct harness *h = *state;
    enum { NUM = 90 };
    uint64_t rooms[NUM];
    struct buf body = {0};
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    struct client *c = client_open(h, 0);
    BUF_LIT(&body, "{\"content\":\"x\",\"meta\":\"");
    for (unsigned i = 0; i < 60000; i++) buf_char(&body, 'm');
    BUF_LIT(&body, "\"}");
    buf_char(&body, '\0');
    for (unsigned i = 0; i < NUM; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
        assert_int_equal(call_at(c, "POST", "/messages", room_name(rooms[i]).text, "ann", "", body.data), 201);
    }
    buf_free(&body);
    char path[96] = "/v1/rooms?limit=1000";
    unsigned pages = 0, listed = 0;
    for (const char *next = path; next; pages++) {
        assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
        assert_in_range(c->text.len, 1, HISTORY_BYTES_MAX + 70000);
        for (const char *at = c->text.data; (at = strstr(at, "\"type\":\"group\"")); at++) {
            assert_memory_equal(at - ID_TEXT_LEN - 2 - sizeof("\"tenant_id\":\"") + 1 - ID_TEXT_LEN - 2,
                                room_name(rooms[listed]).text, ID_TEXT_LEN);
            listed++;
        }
        next = strstr(c->text.data, "\"next\":\"");
        if (next) snprintf(path, sizeof path, "/v1/rooms?limit=1000&cursor=%.15s", next + 8);
    }
    assert_int_equal(listed, NUM);
    assert_int_equal(pages, 2);
}

static void members_are_listed_in_one_order_and_paged(void **state)
{
    struct harness *h = *state;
    enum { NUM = MEMBERS_PER_REQUEST_MAX };
    static bool seen[NUM];
    struct buf body = {0};
    char room[16], path[64];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    BUF_LIT(&body, "{\"type\":\"group\",\"members\":[");
    for (unsigned i = 0; i < NUM; i++) buf_printf(&body, "%s\"u%u\"", i ? "," : "", i);
    BUF_LIT(&body, "]}");
    buf_char(&body, '\0');
    room_post(c, "ann", body.data, room);
    buf_free(&body);
    assert_int_equal(call_at(c, "GET", "/members", room, "ann", "", NULL), 200); /* a page is as long as it may be */
    assert_int_equal(count_in(c->text.data, "\"user_id\""), PAGE_LIMIT_MAX);
    expect_no_text(c->text.data, "\"next\":null");
    char *whole = strdup(c->text.data);
    const char *in_order = whole;
    unsigned num = 0, members = 0;
    snprintf(path, sizeof path, "/members?limit=7");
    for (const char *next = path; next;) {
        assert_int_equal(call_at(c, "GET", path, room, "u5", "", NULL), 200);
        assert_in_range(count_in(c->text.data, "\"user_id\""), 1, 7);
        for (const char *at = c->text.data; (at = strstr(at, "{\"user_id\":\"")); at++, members++) {
            char id[32];
            snprintf(id, sizeof id, "%.*s", (int)strcspn(at + 12, "\"") + 13, at);
            if (members < PAGE_LIMIT_MAX) assert_non_null(in_order = strstr(in_order, id));
            unsigned n = at[12] == 'u' ? (unsigned)atoi(at + 13) : NUM;
            if (n == NUM) continue; /* ann */
            assert_false(seen[n]);
            seen[n] = true;
            num++;
        }
        next = strstr(c->text.data, "\"next\":\"");
        if (next) snprintf(path, sizeof path, "/members?limit=7&cursor=%.*s", (int)strcspn(next + 8, "\""), next + 8);
    }
    free(whole);
    assert_int_equal(num, NUM);
    assert_int_equal(members, NUM + 1);
    assert_int_equal(call_at(c, "GET", "/members?cursor=x", room, "ann", "", NULL), 400);
    assert_int_equal(call_at(c, "GET", "/members?limit=0", room, "ann", "", NULL), 400);
    assert_int_equal(call_at(c, "GET", "/members", room, "eve", "", NULL), 403);
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

static void a_direct_rooms_idempotency_key_counts(void **state)
{
    static const char with_bob[] = "{\"type\":\"dm\",\"members\":[\"bob\"]}",
                      with_cat[] = "{\"type\":\"dm\",\"members\":[\"cat\"]}";
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: k\r\n", with_bob), 201);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: k\r\n", with_cat), 422);
    expect_text(c->text.data, "\"code\":\"idempotency.mismatch\"");
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: k\r\n", "{\"type\":\"group\"}"), 422);
    for (unsigned i = 0; i < 2; i++) /* the room is there already */
        assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: l\r\n", with_bob), 200);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: l\r\n", with_cat), 422);
    harness_restart(h, END_POWER_LOST);
    c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: l\r\n", with_cat), 422);
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "Idempotency-Key: m\r\n", with_cat), 201);
}

static bool user_exists(struct client *c, const char *id)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/users/%s", id);
    unsigned status = client_call(c, "GET", path, "ann", "", NULL);
    if (status != 200 && status != 404) fail_msg("GET %s: %u", path, status);
    return status == 200;
}

static void who_may_not_add_members_makes_no_users(void **state)
{
    struct harness *h = *state;
    char room[16], hidden[16], direct[16];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    room_post(c, "ann", "{\"type\":\"group\",\"members\":[\"bob\"]}", room);
    room_post(c, "ann", "{\"type\":\"group\",\"is_private\":true}", hidden);
    room_post(c, "ann", "{\"type\":\"dm\",\"members\":[\"bob\"]}", direct);
    const struct {
        const char *user, *room;
        unsigned status;
    } rows[] = {{"bob", room, 403}, {"eve", room, 403}, {"eve", hidden, 404}, {"ann", direct, 409}};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(call_at(c, "POST", "/members", rows[i].room, rows[i].user, "", "{\"members\":[\"new\"]}"),
                         rows[i].status);
        assert_false(user_exists(c, "new"));
    }
    assert_int_equal(call_at(c, "POST", "/members", room, "ann", "", "{\"members\":[\"new\"]}"), 200);
    expect_text(c->text.data, "\"changed\":1");
    assert_true(user_exists(c, "new"));
}

static void naming_a_member_makes_no_user(void **state)
{
    struct harness *h = *state;
    char room[16], hidden[16];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    room_post(c, "ann", "{\"type\":\"group\",\"members\":[\"bob\"]}", room);
    room_post(c, "ann", "{\"type\":\"group\",\"is_private\":true}", hidden);
    const struct {
        const char *user, *room, *code;
    } rows[] = {{"ann", room, "member.not_found"},
                {"bob", room, "room.not_admin"},
                {"eve", room, "room.not_member"},
                {"eve", hidden, "room.not_found"}};
    for (unsigned i = 0; i < 4; i++) {
        char code[64];
        snprintf(code, sizeof code, "\"code\":\"%s\"", rows[i].code);
        call_at(c, "DELETE", "/members/new", rows[i].room, rows[i].user, "", NULL);
        expect_text(c->text.data, code);
        call_at(c, "PATCH", "/members/new", rows[i].room, rows[i].user, "", "{\"role\":\"admin\"}");
        expect_text(c->text.data, code);
        assert_false(user_exists(c, "new"));
    }
}

static void added_members_are_answered_again_to_an_admin_no_more(void **state)
{
    struct harness *h = *state;
    char room[16];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    room_post(c, "ann", "{\"type\":\"group\",\"members\":[\"bob\"]}", room);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            call_at(c, "POST", "/members", room, "ann", "Idempotency-Key: m\r\n", "{\"members\":[\"cat\"]}"), 200);
        expect_text(c->text.data, "\"changed\":1,\"seq\":1}");
        if (i == 0) assert_int_equal(call_at(c, "POST", "/leave", room, "ann", "", NULL), 200);
    }
    assert_int_equal(call_at(c, "POST", "/members", room, "ann", "Idempotency-Key: n\r\n", "{\"members\":[\"dan\"]}"),
                     403);
}

static void a_room_shows_the_durability_that_holds_for_it(void **state)
{
    struct harness *h = *state;
    char room[16];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    room_post(c, "ann", "{\"type\":\"group\"}", room);
    expect_text(c->text.data, "\"durability\":\"fsync\"");
    directory_tenant(&harness_core(h, 0)->directory, h->tenant)->durability = 2;
    assert_int_equal(call_at(c, "GET", "", room, "ann", "", NULL), 200);
    expect_text(c->text.data, "\"durability\":\"fast\"");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            call_at(c, "POST", "/messages", room, "ann", "", "{\"content\":\"x\",\"client_id\":\"a\"}"), 201);
        expect_text(c->text.data, "\"durability\":\"fast\"}");
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
        TEST(a_direct_rooms_idempotency_key_counts),
        TEST(who_may_not_add_members_makes_no_users),
        TEST(naming_a_member_makes_no_user),
        TEST(added_members_are_answered_again_to_an_admin_no_more),
        TEST(a_room_shows_the_durability_that_holds_for_it),
        TEST(a_room_that_is_not_to_be_had_fails_the_whole_list),
        TEST(a_last_message_that_cannot_be_read_is_not_listed_as_none),
        TEST(a_page_of_rooms_ends_when_it_is_long_enough),
        TEST(members_are_listed_in_one_order_and_paged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
