#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"

/* Reading the fields of a request. */

/* reading parses an object; the parser is the core's own. */
static struct fields reading(struct harness *h, const char *json)
{
    struct fields f = {0};
    assert_int_equal(json_parse_copy(harness_core(h, 0)->json, &f.object, slice_str(json)), JSON_OK);
    return f;
}

/* refused holds a fault against its code and field. */
#define refused(f, what, where) \
    do { \
        assert_string_equal(error_rows[(f).error.code].code, error_rows[what].code); \
        assert_string_equal((f).error.field, (where)); \
    } while (0)

static void absent_and_null_are_alike(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    static const char *const texts[] = {"{}", "{\"a\":null}"};
    for (unsigned i = 0; i < 2; i++) {
        struct slice text = SLICE("kept");
        uint64_t number = 7;
        bool flag = true;
        struct fields f = reading(h, texts[i]);
        assert_true(field_text(&f, "a", &text, 10, false) && field_u64(&f, "a", &number, false) &&
                    field_bool(&f, "a", &flag));
        assert_true(slice_is(text, "kept") && number == 7 && flag);
        assert_false(field_text(&f, "a", &text, 10, true));
        refused(f, ERR_FIELD_MISSING, "a");
        f.error.code = ERR_NONE;
        assert_false(field_u64(&f, "a", &number, true));
        refused(f, ERR_FIELD_MISSING, "a");
    }
}

static void a_field_of_another_type_is_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct slice text;
    uint64_t number;
    bool flag;
    struct fields f = reading(h, "{\"t\":5,\"n\":\"5\",\"b\":1}");
    assert_false(field_text(&f, "t", &text, 10, false));
    refused(f, ERR_FIELD_INVALID, "t");
    f.error.code = ERR_NONE;
    assert_false(field_u64(&f, "n", &number, false));
    refused(f, ERR_FIELD_INVALID, "n");
    f.error.code = ERR_NONE;
    assert_false(field_bool(&f, "b", &flag));
    refused(f, ERR_FIELD_INVALID, "b");
}

static void the_first_fault_is_told(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    uint64_t number;
    struct fields f = reading(h, "{\"a\":-1,\"b\":1.5}");
    assert_false(field_u64(&f, "a", &number, false));
    assert_false(field_u64(&f, "b", &number, false));
    refused(f, ERR_FIELD_INVALID, "a");
}

static void lengths_count_characters(void **state)
{
    struct harness *h = *state;
    struct slice text;
    harness_open(h, 1);
    struct fields f = reading(h, "{\"a\":\"\xc3\xa9\xc3\xa9\xc3\xa9\",\"e\":\"\"}");
    assert_true(field_text(&f, "a", &text, 3, true));
    assert_int_equal(text.len, 6);
    assert_true(field_text(&f, "e", &text, 3, false));
    assert_int_equal(text.len, 0);
    assert_false(field_text(&f, "a", &text, 2, true));
    refused(f, ERR_FIELD_TOO_LONG, "a");
    f.error.code = ERR_NONE;
    assert_false(field_text(&f, "e", &text, 3, true));
    refused(f, ERR_FIELD_INVALID, "e");
}

static void user_ids_are_short_text_without_controls(void **state)
{
    char id[USER_ID_BYTES_MAX + 1];
    memset(id, 'x', sizeof id);
    assert_true(user_id_valid(slice_of(id, 1)) && user_id_valid(slice_of(id, USER_ID_BYTES_MAX)));
    assert_false(user_id_valid(slice_of(id, 0)));
    assert_false(user_id_valid(slice_of(id, USER_ID_BYTES_MAX + 1)));
    assert_true(user_id_valid(SLICE("\xe2\x98\x83 a:b/c%")));
    assert_false(user_id_valid(SLICE("a\nb")));
    assert_false(user_id_valid(SLICE("a\0b")));
    assert_false(user_id_valid(SLICE("a\x7f")));
    assert_false(user_id_valid(SLICE("a\xff")));
}

/* message_of reads the fields of a message to room 7. */
static bool message_of(struct harness *h, struct fields *f, const char *json, struct message_fields *m)
{
    *f = reading(h, json);
    return message_fields_read(harness_core(h, 0), f, slice_str(json), 7, m);
}

static void a_message_is_read_with_its_bounds(void **state)
{
    struct harness *h = *state;
    struct fields f;
    struct message_fields m;
    char json[512], id[MESSAGE_ID_TEXT_MAX + 1];
    h->config.limits_content_chars = 3;
    harness_open(h, 1);
    assert_true(message_of(h, &f, "{\"content\":\"\xc3\xa9\xc3\xa9\xc3\xa9\"}", &m));
    assert_true(m.content.len == 6 && m.meta.len == 0 && m.client_id.len == 0 && m.reply_to == 0);
    assert_false(message_of(h, &f, "{\"content\":\"abcd\"}", &m));
    refused(f, ERR_CONTENT_TOO_LONG, "content");
    assert_int_equal(error_rows[ERR_CONTENT_TOO_LONG].http_status, 413);
    assert_false(message_of(h, &f, "{\"content\":\"\"}", &m));
    refused(f, ERR_FIELD_INVALID, "content");
    assert_false(message_of(h, &f, "{}", &m));
    refused(f, ERR_FIELD_MISSING, "content");
    snprintf(json, sizeof json, "{\"content\":\"x\",\"client_id\":\"%065d\"}", 1);
    assert_false(message_of(h, &f, json, &m));
    refused(f, ERR_FIELD_TOO_LONG, "client_id");
    snprintf(json, sizeof json, "{\"content\":\"x\",\"message_type\":\"%033d\"}", 1);
    assert_false(message_of(h, &f, json, &m));
    refused(f, ERR_FIELD_TOO_LONG, "message_type");
    for (unsigned i = 0; i < 2; i++) { /* bytes, not characters */
        snprintf(json, sizeof json, "{\"content\":\"x\",\"%s\":\"%.*s\"}", i ? "client_id" : "message_type",
                 i ? 66 : 34,
                 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
                 "\xa9\xc3\xa9"
                 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
                 "\xa9\xc3\xa9"
                 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
        assert_false(message_of(h, &f, json, &m));
        assert_int_equal(f.error.code, ERR_FIELD_TOO_LONG);
    }
    *message_id_text(id, 7, 5) = '\0';
    snprintf(json, sizeof json, "{\"content\":\"x\",\"reply_to\":\"%s\"}", id);
    assert_true(message_of(h, &f, json, &m));
    assert_true(m.reply_to == 5 && m.reply_by_id);
    assert_true(message_of(h, &f, "{\"content\":\"x\",\"reply_to\":5}", &m));
    assert_true(m.reply_to == 5 && !m.reply_by_id);
    *message_id_text(id, 8, 5) = '\0';
    snprintf(json, sizeof json, "{\"content\":\"x\",\"reply_to\":\"%s\"}", id); /* of another room */
    assert_false(message_of(h, &f, json, &m));
    refused(f, ERR_REPLY_NOT_FOUND, "reply_to");
    assert_false(message_of(h, &f, "{\"content\":\"x\",\"reply_to\":0}", &m));
    refused(f, ERR_REPLY_NOT_FOUND, "reply_to");
    assert_false(message_of(h, &f, "{\"content\":\"x\",\"reply_to\":true}", &m));
    refused(f, ERR_FIELD_INVALID, "reply_to");
}

static void meta_is_kept_as_it_was_sent(void **state)
{
    struct harness *h = *state;
    struct fields f;
    struct message_fields m;
    harness_open(h, 1);
    static const char *const metas[] = {"1.50", "\"\\u0041\"", "[ 1 ,2]", "{ \"b\" : {}, \"a\":1 }", "true"};
    for (unsigned i = 0; i < 5; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"meta\": %s ,\"content\":\"x\"}", metas[i]);
        assert_true(message_of(h, &f, json, &m));
        assert_true(slice_is(m.meta, metas[i]));
    }
    assert_true(message_of(h, &f, "{\"meta\":null,\"content\":\"x\"}", &m));
    assert_int_equal(m.meta.len, 0);
    char *large = malloc(META_BYTES_MAX + 64);
    assert_non_null(large);
    for (unsigned over = 0; over < 2; over++) {
        int len = snprintf(large, META_BYTES_MAX + 64, "{\"content\":\"x\",\"meta\":\"%0*d\"}",
                           (int)(META_BYTES_MAX - 2 + over), 1);
        assert_true(len > 0);
        assert_int_equal(message_of(h, &f, large, &m), !over);
    }
    refused(f, ERR_FIELD_TOO_LONG, "meta");
    free(large);
}

static void a_room_field_is_a_room_id(void **state)
{
    struct harness *h = *state;
    char json[64];
    uint64_t room = 0;
    harness_open(h, 1);
    snprintf(json, sizeof json, "{\"room_id\":\"%s\"}", room_name(4711).text);
    struct fields f = reading(h, json);
    assert_true(field_room(&f, "room_id", &room));
    assert_int_equal(room, 4711);
    f = reading(h, "{\"room_id\":\"r_0000000000000\"}");
    assert_false(field_room(&f, "room_id", &room));
    refused(f, ERR_ROOM_NOT_FOUND, "room_id");
}

static void page_limits_have_bounds(void **state)
{
    assert_false(page_limit_valid(0));
    assert_true(page_limit_valid(1) && page_limit_valid(PAGE_LIMIT_MAX));
    assert_false(page_limit_valid(PAGE_LIMIT_MAX + 1));
    assert_false(page_limit_valid(UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(absent_and_null_are_alike),
        TEST(a_field_of_another_type_is_refused),
        TEST(the_first_fault_is_told),
        TEST(lengths_count_characters),
        cmocka_unit_test(user_ids_are_short_text_without_controls),
        TEST(a_message_is_read_with_its_bounds),
        TEST(meta_is_kept_as_it_was_sent),
        TEST(a_room_field_is_a_room_id),
        cmocka_unit_test(page_limits_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
