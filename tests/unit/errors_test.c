#include "harness.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* The table of errors, and how one is written for REST and for WebSocket. */

static void every_code_is_unique_and_dotted(void **state)
{
    for (unsigned a = 1; a < ERRORS; a++) {
        const struct error_row *row = &error_rows[a];
        assert_non_null(strchr(row->code, '.'));
        for (const char *c = row->code; *c; c++) assert_true(islower((unsigned char)*c) || *c == '.' || *c == '_');
        for (unsigned b = a + 1; b < ERRORS; b++) assert_string_not_equal(row->code, error_rows[b].code);
        assert_true(strlen(row->title) > 0);
    }
}

static void what_may_succeed_later_is_a_status_that_says_so(void **state)
{
    for (unsigned i = 1; i < ERRORS; i++) {
        unsigned status = error_rows[i].http_status;
        assert_in_range(status, 400, 507);
        assert_int_equal(error_rows[i].temporary, status == 503 || status == 507 || status == 429);
    }
}

static const char *written(struct buf *out)
{
    buf_char(out, '\0');
    return out->data;
}

static void a_problem_has_the_members_of_rfc_9457_and_the_code(void **state)
{
    struct buf out = {0};
    struct error e = {ERR_FIELD_INVALID, "Expected a \"string\"", "content"};
    error_problem(&out, &e, 0xabc);
    assert_string_equal(written(&out),
                        "{\"type\":\"about:blank\",\"title\":\"A field has the wrong type or value\",\"status\":400,"
                        "\"status_code\":400,\"code\":\"field.invalid\",\"detail\":\"Expected a \\\"string\\\"\","
                        "\"field\":\"content\",\"request_id\":\"0000000000000abc\"}");
    out.len = 0;
    error_problem(&out, &(struct error){.code = ERR_ROOM_NOT_FOUND}, 1);
    expect_text(written(&out), "\"detail\":\"No such room\",\"request_id\"");
    buf_free(&out);
}

static void a_websocket_error_carries_the_requests_id(void **state)
{
    struct buf out = {0};
    error_frame(&out, &(struct error){.code = ERR_STORE_OVERLOADED}, SLICE("\"x\""));
    assert_string_equal(written(&out), "{\"type\":\"error\",\"re\":\"x\",\"code\":\"store.overloaded\","
                                       "\"detail\":\"Too much is waiting for the disk\",\"temporary\":true}");
    out.len = 0;
    error_frame(&out, &(struct error){ERR_FIELD_MISSING, NULL, "seq"}, (struct slice){0});
    assert_string_equal(written(&out),
                        "{\"type\":\"error\",\"code\":\"field.missing\",\"detail\":\"A required field is missing\","
                        "\"field\":\"seq\",\"temporary\":false}");
    buf_free(&out);
}

static void a_failed_entry_is_unknown_only_when_it_was_handed_over(void **state)
{
    assert_int_equal(store_error(STATUS_UNKNOWN), ERR_STORE_UNKNOWN);
    assert_int_equal(store_error(STATUS_IO), ERR_STORE_READ_ONLY);
    assert_int_equal(store_error(STATUS_READ_ONLY), ERR_STORE_READ_ONLY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_is_unique_and_dotted),
        cmocka_unit_test(what_may_succeed_later_is_a_status_that_says_so),
        cmocka_unit_test(a_problem_has_the_members_of_rfc_9457_and_the_code),
        cmocka_unit_test(a_websocket_error_carries_the_requests_id),
        cmocka_unit_test(a_failed_entry_is_unknown_only_when_it_was_handed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
