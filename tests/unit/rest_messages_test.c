#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "../../src/chat/ids.h"

/* Messages and acks over REST. */

#define PATH_MAX_HERE 160u

struct place {
    struct client *client;
    struct person ann;
    uint64_t room;
    char messages[PATH_MAX_HERE], events[PATH_MAX_HERE];
};

/* place_open starts a gateway with ann in a room and a connection on another core than the room's home. */
static struct place place_open(struct harness *h)
{
    struct place p;
    harness_open(h, 2);
    p.ann = harness_person(h, "ann");
    p.room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&p.ann));
    p.client = client_open(h, 1);
    snprintf(p.messages, sizeof p.messages, "/v1/rooms/%s/messages", room_name(p.room).text);
    snprintf(p.events, sizeof p.events, "/v1/rooms/%s/events", room_name(p.room).text);
    return p;
}

static void a_message_is_answered_with_its_place_in_the_log(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    char expected[256];
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "", "{\"content\":\"ding\",\"unknown\":[1]}"),
                     201);
    snprintf(expected, sizeof expected,
             "{\"room_id\":\"%s\",\"message_id\":\"m%s_1\",\"seq\":1,\"created_at\":\"2026-01-01T00:00:00.000Z\"}",
             room_name(p.room).text, room_name(p.room).text + 1);
    assert_string_equal(p.client->text.data, expected);
}

static void what_was_sent_comes_back_in_the_list(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    client_call(p.client, "POST", p.messages, "ann", "",
                "{\"content\":\"caf\\u00e9 \\\"x\\\"\",\"meta\": {\"a\" : 1.50} "
                ",\"message_type\":\"card\",\"client_id\":\"k\"}");
    client_call(p.client, "POST", p.messages, "ann", "", "{\"content\":\"re\",\"reply_to\":1}");
    assert_int_equal(client_call(p.client, "GET", p.messages, "ann", "", NULL), 200);
    expect_text(p.client->text.data, "{\"items\":[{");
    expect_text(
        p.client->text.data,
        "\"content\":\"caf\xc3\xa9 \\\"x\\\"\",\"meta\":{\"a\" : 1.50},\"message_type\":\"card\",\"client_id\":\"k\",");
    expect_text(p.client->text.data, "\"reply_to\":1,");
    expect_text(p.client->text.data, "],\"next\":null}");
}

static void the_header_is_the_same_as_the_field(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "Idempotency-Key: k\r\n", "{\"content\":\"x\"}"),
                     201);
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "", "{\"content\":\"x\",\"client_id\":\"k\"}"),
                     201);
    assert_int_equal(number_in(p.client->text.data, "seq"), 1);
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "Idempotency-Key: k\r\n", "{\"content\":\"y\"}"),
                     422);
    expect_text(p.client->text.data, "\"code\":\"idempotency.mismatch\"");
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "Idempotency-Key: other\r\n",
                                 "{\"content\":\"x\",\"client_id\":\"k\"}"),
                     201); /* the field counts */
    assert_int_equal(number_in(p.client->text.data, "seq"), 1);
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", "Idempotency-Key: \r\n", "{\"content\":\"x\"}"),
                     400);
    char header[128];
    snprintf(header, sizeof header, "Idempotency-Key: %065d\r\n", 1);
    assert_int_equal(client_call(p.client, "POST", p.messages, "ann", header, "{\"content\":\"x\"}"), 400);
    expect_text(p.client->text.data, "\"code\":\"idempotency.key_invalid\"");
}

static void lists_are_paged_both_ways(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    static const struct {
        const char *query;
        unsigned num;
        const char *part;
    } rows[] = {
        {"", 7, "\"next\":null"},
        {"?limit=3", 3, "\"next\":\"3\""},
        {"?limit=3&cursor=3", 3, "\"next\":\"6\""},
        {"?after_seq=5", 2, "\"seq\":6,"},
        {"?before_seq=3", 2, "\"seq\":2,"},
        {"?before_seq=3&limit=1", 1, "\"seq\":2,"},
        {"?after_seq=7", 0, "\"items\":[]"},
    };
    harness_fill(h, &p.ann, p.room, 7);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[2 * PATH_MAX_HERE];
        snprintf(path, sizeof path, "%s%s", p.messages, rows[i].query);
        assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 200);
        assert_int_equal(count_in(p.client->text.data, "\"message_id\""), rows[i].num);
        expect_text(p.client->text.data, rows[i].part);
        snprintf(path, sizeof path, "%s%s", p.events, rows[i].query);
        assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 200);
        assert_int_equal(count_in(p.client->text.data, "\"type\":\"message\""), rows[i].num);
    }
    static const char *const faulty[] = {"?limit=0",      "?limit=1001",  "?limit=x",
                                         "?after_seq=-1", "?before_seq=", "?cursor=x"};
    for (unsigned i = 0; i < sizeof faulty / sizeof faulty[0]; i++) {
        char path[2 * PATH_MAX_HERE];
        snprintf(path, sizeof path, "%s%s", p.messages, faulty[i]);
        assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 400);
    }
}

static void one_message_is_found_by_seq_or_id(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    char path[2 * PATH_MAX_HERE], id[MESSAGE_ID_TEXT_MAX + 1];
    harness_fill(h, &p.ann, p.room, 2);
    snprintf(path, sizeof path, "%s/2", p.messages);
    assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 200);
    assert_int_equal(number_in(p.client->text.data, "seq"), 2);
    *message_id_text(id, p.room, 1) = '\0';
    snprintf(path, sizeof path, "%s/%s", p.messages, id);
    assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 200);
    assert_int_equal(number_in(p.client->text.data, "seq"), 1);
    *message_id_text(id, p.room + 1, 1) = '\0'; /* another room's */
    snprintf(path, sizeof path, "%s/%s", p.messages, id);
    assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 404);
    static const char *const nothing[] = {"0", "3", "x", "-1"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", p.messages, nothing[i]);
        assert_int_equal(client_call(p.client, "GET", path, "ann", "", NULL), 404);
        expect_text(p.client->text.data, "\"code\":\"message.not_found\"");
    }
}

static void acks_and_reads_move_the_cursor_of_the_device(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    char body[96], header[128];
    harness_fill(h, &p.ann, p.room, 3);
    snprintf(body, sizeof body, "{\"room_id\":\"%s\",\"seq\":2}", room_name(p.room).text);
    assert_int_equal(client_call(p.client, "POST", "/v1/acks", "ann", "X-Device-Id: phone\r\n", body), 200);
    assert_string_equal(p.client->text.data, "{\"success\":true}");
    snprintf(body, sizeof body, "{\"room_id\":\"%s\",\"seq\":1}", room_name(p.room).text);
    assert_int_equal(client_call(p.client, "POST", "/v1/reads", "ann", "X-Device-Id: phone\r\n", body), 200);
    struct answer *a = harness_rooms(h, 0, &p.ann, "phone");
    harness_settle(h);
    for (uint32_t i = 0; i < a->num_positions; i++)
        if (a->positions[i].room == p.room) assert_true(a->positions[i].delivered == 2 && a->positions[i].read == 1);
    snprintf(body, sizeof body, "{\"room_id\":\"%s\",\"seq\":4}", room_name(p.room).text);
    assert_int_equal(client_call(p.client, "POST", "/v1/acks", "ann", "", body), 409);
    snprintf(header, sizeof header, "X-Device-Id: %065d\r\n", 1);
    assert_int_equal(client_call(p.client, "POST", "/v1/acks", "ann", header, body), 400);
    assert_int_equal(client_call(p.client, "POST", "/v1/acks", "ann", "", "{\"seq\":1}"), 400);
}

static void nobody_else_reads_the_room(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    char path[2 * PATH_MAX_HERE];
    uint64_t secret = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&p.ann));
    assert_int_equal(client_call(p.client, "GET", p.messages, "eve", "", NULL), 403);
    expect_text(p.client->text.data, "\"code\":\"room.not_member\"");
    snprintf(path, sizeof path, "/v1/rooms/%s/messages", room_name(secret).text);
    assert_int_equal(client_call(p.client, "GET", path, "eve", "", NULL), 404);
    assert_int_equal(client_call(p.client, "POST", path, "eve", "", "{\"content\":\"x\"}"), 404);
    expect_text(p.client->text.data, "\"code\":\"room.not_found\"");
    assert_int_equal(client_call(p.client, "GET", "/v1/rooms/no-room/messages", "ann", "", NULL), 404);
}

static void an_answer_waits_for_the_disk(void **state)
{
    struct harness *h = *state;
    struct place p = place_open(h);
    struct buf request = {0};
    h->hold_syncer = true;
    buf_printf(&request,
               "POST %s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: ann\r\nContent-Length: "
               "15\r\n\r\n{\"content\":\"x\"}",
               p.messages, h->api_key);
    client_send(p.client, buf_slice(&request));
    buf_free(&request);
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    assert_true(commit_pending(harness_core(h, 0)->commit) > 0);
    client_read(p.client);
    assert_int_equal(p.client->in.len, 0);
    h->hold_syncer = false;
    assert_int_equal(client_answer(p.client), 201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_is_answered_with_its_place_in_the_log),
        TEST(what_was_sent_comes_back_in_the_list),
        TEST(the_header_is_the_same_as_the_field),
        TEST(lists_are_paged_both_ways),
        TEST(one_message_is_found_by_seq_or_id),
        TEST(acks_and_reads_move_the_cursor_of_the_device),
        TEST(nobody_else_reads_the_room),
        TEST(an_answer_waits_for_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
