#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../net/websocket.h"
#include "../../src/chat/event.h"

/* How an event looks to clients. */

static struct log_record message(void)
{
    return (struct log_record){.tenant = 1,
                               .room = 7,
                               .seq = 9,
                               .kind = LOG_MESSAGE,
                               .created_ms = HARNESS_START_MS + 5,
                               .sender = 3,
                               .sender_id = SLICE("ann"),
                               .content = SLICE("ding")};
}

/* shown encodes a record; the text lives until the next call. It holds the measure against what was written. */
static const char *shown(const struct log_record *r, enum event_shape shape)
{
    static char text[4096];
    size_t len = event_json_len(r, shape);
    assert_true(len < sizeof text);
    memset(text, '~', sizeof text);
    assert_ptr_equal(event_json(text, r, shape), text + len);
    assert_int_equal(text[len], '~');
    text[len] = '\0';
    return text;
}

static void a_push_is_a_flat_object(void **state)
{
    struct log_record r = message();
    char expected[512];
    snprintf(expected, sizeof expected,
             "{\"type\":\"message\",\"room_id\":\"%s\",\"message_id\":\"m%s_9\",\"seq\":9,\"sender_id\":\"ann\","
             "\"content\":\"ding\",\"meta\":null,\"message_type\":\"text\",\"client_id\":null,"
             "\"created_at\":\"2026-01-01T00:00:00.005Z\"}",
             room_name(7).text, room_name(7).text + 1);
    assert_string_equal(shown(&r, EVENT_PUSH), expected);
}

static void a_message_of_a_page_has_all_members(void **state)
{
    struct log_record r = message();
    r.client_id = SLICE("c-1");
    r.message_type = SLICE("card");
    r.meta = SLICE("{ \"a\" : [1, 2] }");
    r.reply_to = 4;
    const char *text = shown(&r, EVENT_MESSAGE);
    assert_int_equal(strncmp(text, "{\"room_id\":", 11), 0);
    expect_no_text(text, "\"type\":");
    expect_text(text, "\"meta\":{ \"a\" : [1, 2] },\"message_type\":\"card\",\"client_id\":\"c-1\",\"reply_to\":4,");
    expect_text(text, "\"edited_at\":null,\"deleted_at\":null}");
    expect_text(shown(&r, EVENT_PUSH), "\"reply_to\":4");
    r.reply_to = 0;
    expect_text(shown(&r, EVENT_MESSAGE), "\"reply_to\":null");
    expect_no_text(shown(&r, EVENT_PUSH), "reply_to");
}

static void a_reply_is_shown_as_it_was_given(void **state)
{
    struct log_record r = message();
    char expected[64];
    r.reply_to = 4;
    r.flags = LOG_REPLY_BY_ID;
    snprintf(expected, sizeof expected, "\"reply_to\":\"m%s_4\"", room_name(7).text + 1);
    expect_text(shown(&r, EVENT_MESSAGE), expected);
}

static void texts_are_escaped(void **state)
{
    struct log_record r = message();
    r.content = SLICE("\"\\\n\x01 \xc3\xa9");
    r.sender_id = SLICE("a\"b");
    expect_text(shown(&r, EVENT_PUSH), "\"sender_id\":\"a\\\"b\",\"content\":\"\\\"\\\\\\n\\u0001 \xc3\xa9\"");
}

static void events_of_every_kind_name_themselves(void **state)
{
    static const struct {
        enum log_kind kind;
        const char *type;
    } rows[] = {{LOG_JOINED, "user_joined"},    {LOG_LEFT, "user_left"},          {LOG_ROOM_UPDATED, "room.updated"},
                {LOG_EDITED, "message.edited"}, {LOG_DELETED, "message.deleted"}, {LOG_REACTION, "reaction"}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct log_record r = message();
        char expected[64];
        r.kind = (uint8_t)rows[i].kind;
        r.content = SLICE("\"user_ids\":[\"bob\"]");
        snprintf(expected, sizeof expected, "{\"type\":\"%s\",\"room_id\":\"%s\",\"seq\":9,", rows[i].type,
                 room_name(7).text);
        const char *text = shown(&r, EVENT_PUSH);
        assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
        expect_text(text, ",\"user_ids\":[\"bob\"],\"actor_id\":\"ann\",\"created_at\":");
        r.content = (struct slice){0};
        r.sender_id = (struct slice){0};
        expect_text(shown(&r, EVENT_PUSH), "\"seq\":9,\"actor_id\":null,\"created_at\":");
    }
}

static void whatever_is_shown_is_json(void **state)
{
    struct json_parser *p = json_parser_new(1 << 16);
    struct json_node root;
    for (unsigned kind = LOG_MESSAGE; kind <= LOG_REACTION; kind++) {
        struct log_record r = message();
        r.kind = (uint8_t)kind;
        if (kind != LOG_MESSAGE) r.content = SLICE("\"a\":1");
        assert_int_equal(json_parse_copy(p, &root, slice_str(shown(&r, EVENT_PUSH))), JSON_OK);
    }
    json_parser_free(p);
}

static void a_frame_is_the_push_behind_its_header(void **state)
{
    static const size_t lens[] = {4, 60000, 70000}; /* the payload's length takes 2, 4 and 10 bytes of header */
    for (unsigned i = 0; i < 3; i++) {
        struct log_record r = message();
        char *content = malloc(lens[i]);
        assert_non_null(content);
        memset(content, 'x', lens[i]);
        r.content = slice_of(content, lens[i]);
        size_t len = event_frame_len(&r), payload = event_json_len(&r, EVENT_PUSH);
        char *frame = malloc(len), *json = malloc(payload);
        assert_true(frame && json);
        assert_ptr_equal(event_frame(frame, &r), frame + len);
        assert_int_equal(len, payload + ws_header_len(payload));
        assert_int_equal((unsigned char)frame[0], 0x81);
        event_json(json, &r, EVENT_PUSH);
        assert_memory_equal(frame + len - payload, json, payload);
        free(json);
        free(frame);
        free(content);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_push_is_a_flat_object),
        cmocka_unit_test(a_message_of_a_page_has_all_members),
        cmocka_unit_test(a_reply_is_shown_as_it_was_given),
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(events_of_every_kind_name_themselves),
        cmocka_unit_test(whatever_is_shown_is_json),
        cmocka_unit_test(a_frame_is_the_push_behind_its_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
