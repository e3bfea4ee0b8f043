#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "../../src/base/buf.h"
#include "../../src/base/hash.h"
#include "../../src/base/json.h"

static void assert_buf(const struct buf *b, const char *text)
{
    assert_int_equal(b->len, strlen(text));
    assert_memory_equal(b->data, text, b->len);
}

static void appending_keeps_every_byte_over_growth(void **state)
{
    struct buf b = {0};
    for (unsigned i = 0; i < 10000; i++) {
        char text[16];
        buf_append(&b, text, (size_t)snprintf(text, sizeof text, "%u,", i));
    }
    const char *at = b.data;
    for (unsigned i = 0; i < 10000; i++) {
        char text[16];
        int len = snprintf(text, sizeof text, "%u,", i);
        assert_memory_equal(at, text, (size_t)len);
        at += len;
    }
    assert_ptr_equal(at, b.data + b.len);
    buf_free(&b);
    assert_null(b.data);
    buf_free(&b);
}

static void appending_nothing_needs_no_memory(void **state)
{
    struct buf b = {0};
    buf_append(&b, NULL, 0);
    buf_slice_append(&b, (struct slice){0});
    assert_null(b.data);
    assert_int_equal(buf_slice(&b).len, 0);
}

static void a_reserve_makes_room_for_that_many_bytes_more(void **state)
{
    struct buf b = {0};
    for (size_t more = 1; more < 100000; more = more * 3 + 1) {
        buf_reserve(&b, more);
        assert_true(b.cap - b.len >= more);
        b.len += more;
    }
    buf_free(&b);
}

static void printing_grows_to_any_length(void **state)
{
    for (int width = 0; width < 1100; width++) { /* also the lengths that just fill the buffer */
        struct buf b = {0};
        buf_printf(&b, "%s", "x");
        buf_printf(&b, "%*d|", width, 7);
        size_t expected = 1 + (width > 1 ? (size_t)width : 1) + 1;
        assert_int_equal(b.len, expected);
        assert_memory_equal(b.data + b.len - 2, "7|", 2);
        buf_free(&b);
    }
}

static void consuming_moves_the_rest_to_the_front(void **state)
{
    struct buf b = {0};
    BUF_LIT(&b, "abcdef");
    buf_consume(&b, 0);
    buf_consume(&b, 2);
    assert_buf(&b, "cdef");
    buf_char(&b, 'g');
    assert_buf(&b, "cdefg");
    buf_consume(&b, 5);
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void numbers_are_written_in_decimal(void **state)
{
    for (unsigned bit = 0; bit < 64; bit++)
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t v = ((uint64_t)1 << bit) + (uint64_t)delta;
            char expected[24];
            snprintf(expected, sizeof expected, "%llu", (unsigned long long)v);
            struct buf b = {0};
            buf_u64(&b, v);
            assert_buf(&b, expected);
            buf_free(&b);
        }
}

static void json_strings_escape_what_rfc_8259_names(void **state)
{
    static const struct {
        struct slice raw;
        const char *quoted;
    } cases[] = {{{"", 0}, "\"\""},
                 {{"abc", 3}, "\"abc\""},
                 {{"\"\\/", 3}, "\"\\\"\\\\/\""},
                 {{"\b\t\n\f\r", 5}, "\"\\b\\t\\n\\f\\r\""},
                 {{"\0\x01\x0b\x1f", 4}, "\"\\u0000\\u0001\\u000b\\u001f\""},
                 {{"\x7f\xc3\xa9\xf0\x9f\x98\x80", 7}, "\"\x7f\xc3\xa9\xf0\x9f\x98\x80\""},
                 {{"a\"b", 3}, "\"a\\\"b\""}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        buf_json_string(&b, cases[i].raw);
        assert_buf(&b, cases[i].quoted);
        assert_int_equal(json_escaped_len(cases[i].raw), strlen(cases[i].quoted) - 2);
        buf_free(&b);
    }
}

/* Random strings over characters of every kind, read back by the parser. */
/* Texts are looked at eight bytes at a time: every byte, at every place of a word and of what is left behind it. */
static void a_byte_is_escaped_wherever_it_stands(void **state)
{
    char text[21], out[6 * sizeof text];
    for (unsigned byte = 0; byte < 256; byte++) {
        bool plain = byte >= 0x20 && byte != '"' && byte != '\\';
        for (size_t len = 1; len <= sizeof text; len++) {
            for (size_t at = 0; at < len; at++) {
                memset(text, at % 2 ? 0xff : ' ', len);
                text[at] = (char)byte;
                struct slice s = slice_of(text, len);
                size_t more = json_escaped_len(s) - len;
                assert_true(plain ? more == 0 : more == 1 || more == 5);
                assert_ptr_equal(json_escape(out, s), out + len + more);
                assert_memory_equal(out, text, at);
                assert_true(plain ? out[at] == text[at] : out[at] == '\\');
                assert_memory_equal(out + at + 1 + more, text + at + 1, len - at - 1);
            }
        }
    }
}

static void any_text_escaped_reads_back_as_itself(void **state)
{
    struct json_parser *parser = json_parser_new(1 << 16);
    uint64_t seed = 1;
    for (unsigned round = 0; round < 3000; round++) {
        struct buf text = {0}, quoted = {0};
        for (uint64_t n = hash_u64(seed++) % 200; n > 0; n--) {
            uint64_t kind = hash_u64(seed++) % 4;
            if (kind == 0)
                buf_char(&text, (char)(hash_u64(seed++) % 0x20));
            else if (kind == 1)
                buf_char(&text, (char)(0x20 + hash_u64(seed++) % 0x60));
            else if (kind == 2)
                BUF_LIT(&text, "\xe2\x82\xac");
            else
                buf_char(&text, "\"\\/"[hash_u64(seed++) % 3]);
        }
        buf_json_string(&quoted, buf_slice(&text));
        struct json_node root;
        assert_int_equal(json_parse_copy(parser, &root, buf_slice(&quoted)), JSON_OK);
        assert_true(slice_eq(json_string(root), buf_slice(&text)));
        assert_int_equal(json_escaped_len(buf_slice(&text)) + 2, quoted.len);
        buf_free(&text);
        buf_free(&quoted);
    }
    json_parser_free(parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appending_keeps_every_byte_over_growth),
        cmocka_unit_test(appending_nothing_needs_no_memory),
        cmocka_unit_test(a_reserve_makes_room_for_that_many_bytes_more),
        cmocka_unit_test(printing_grows_to_any_length),
        cmocka_unit_test(consuming_moves_the_rest_to_the_front),
        cmocka_unit_test(numbers_are_written_in_decimal),
        cmocka_unit_test(json_strings_escape_what_rfc_8259_names),
        cmocka_unit_test(a_byte_is_escaped_wherever_it_stands),
        cmocka_unit_test(any_text_escaped_reads_back_as_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
