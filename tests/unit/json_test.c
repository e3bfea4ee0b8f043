#define _GNU_SOURCE /* memmem */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../src/base/buf.h"
#include "../../src/base/hash.h"
#include "../../src/base/json.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct json_parser *parser;

static int parser_open(void **state)
{
    parser = json_parser_new(1 << 20);
    return parser == NULL;
}

static int parser_close(void **state)
{
    json_parser_free(parser);
    return 0;
}

/* parse reads a text from memory that ends where the text ends, so a read behind it is a sanitizer's error. */
static enum json_error parse(struct json_node *root, const char *text, size_t len)
{
    char *exact = malloc(len ? len : 1);
    memcpy(exact, text, len);
    enum json_error error = json_parse_copy(parser, root, slice_of(exact, len));
    free(exact);
    return error;
}

static struct json_node parsed(const char *text)
{
    struct json_node root;
    assert_int_equal(parse(&root, text, strlen(text)), JSON_OK);
    return root;
}

static struct json_node member(const char *text, const char *name)
{
    struct json_node value;
    assert_true(json_get(parsed(text), name, &value));
    return value;
}

static void assert_slice(struct slice s, const char *text, size_t len)
{
    assert_int_equal(s.len, len);
    assert_memory_equal(s.data, text, len);
}

/* --- the grammar --------------------------------------------------------------------------------------------- */

/* clang-format off */
static const char *const valid_texts[] = {
    "0", "-0", "1", "true", "false", "null", "\"\"", "[]", "{}", " [ ] ", "\t\n\r {} \t", "[1,2]", "[[],[[]]]",
    "[-0.0]", "[0e1]", "[0e+1]", "[1E-2]", "[1.5e+300]", "[1e400]", "[-1e400]", "[1e-400]", "[123e45678901234567890]",
    "[18446744073709551615]", "[18446744073709551616]", "[-9223372036854775808]", "[-9223372036854775809]",
    "[1234567890123456789012345678901234567890,1]", "99999999999999999999", "[1e400,\"1e400x\",{\"1e9999\":1}]",
    "{\"\":0}", "{\"a\":1,\"a\":2}", "{\"a\":[{\"b\":{}}]}", "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]", "[\"\\u0000\"]",
    "[\"\\uD834\\uDd1e\"]", "[\"\\ud800\"]", "[\"\\uDC00\\ud800\"]", "[\"\\\\ud800\"]", "[\"\\ud800\\n\", 1e999]",
    "[\"\\n\\ud800\\t\"]", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "[\"\x7f\"]", "[\"\xf4\x8f\xbf\xbf\"]",
    "[\"\xef\xbb\xbf\"]",
};
/* clang-format on */

/* clang-format off */
static const char *const invalid_texts[] = {
    "", " ", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1 2]", "[1,,2]", "[]]", "[}", "{]", "[1]x",
    "1 2", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}", "{\"a\" 1}", "{\"a\",1}", "{1:1}", "{a:1}", "{'a':1}",
    "{\"a\":1 \"b\":2}", "{\"a\":1}}", "{\"a\"::1}", "{:1}", "[\"a\":1]", "[:]", "[\"", "[\"a", "\"", "[\"\\\"]",
    "[\"\\x\"]", "[\"\\u12\"]", "[\"\\u12G4\"]", "[\"\\U0041\"]", "[\"\\ud800\\u\"]", "[\"\\ud800\\x\"]", "[\"\\",
    "['a']", "[\"a\nb\"]", "[\"\t\"]", "[\"\x01\"]", "[01]", "[-01]", "[00]", "[1.]", "[.1]", "[-.1]", "[1.e1]",
    "[1e]", "[1e+]", "[1e1.5]", "[+1]", "[--1]", "[-]", "[- 1]", "[1-2]", "[0x10]", "[1_000]", "[1e400x]", "[01e400]",
    "[99999999999999999999a]", "[1e400 1]", "[1e400.]", "[1.e400]", "[-1e400-]", "[NaN]", "[Infinity]", "[-Infinity]",
    "[nan]", "[inf]", "tru", "truE", "True", "truee", "nul", "nulll", "fals", "[true false]", "// a\n1", "/* */ 1",
    "[1] // a", "#1", "\xef\xbb\xbf[]", "\f[]", "\v1", "[\xc2\xa0]", "[\"\x80\"]", "[\"\xc0\x80\"]",
    "[\"\xed\xa0\x80\"]", "[\"\xf4\x90\x80\x80\"]", "[\"\xe2\x82\"]", "[\xff]", "\xff\xfe[\x01]", "*", "<a>",
    "[1e400,\"\\ud800\"", "[\"\\ud800\",]",
};
/* clang-format on */

static void every_valid_text_is_accepted(void **state)
{
    for (size_t i = 0; i < COUNT(valid_texts); i++)
        if (!json_valid(slice_str(valid_texts[i]))) fail_msg("refused: %s", valid_texts[i]);
}

static void every_invalid_text_is_refused(void **state)
{
    for (size_t i = 0; i < COUNT(invalid_texts); i++) {
        struct json_node root;
        if (json_valid(slice_str(invalid_texts[i]))) fail_msg("valid: %s", invalid_texts[i]);
        if (parse(&root, invalid_texts[i], strlen(invalid_texts[i])) == JSON_OK)
            fail_msg("parsed: %s", invalid_texts[i]);
    }
    assert_false(json_valid(slice_of("1\0", 2)));
    assert_false(json_valid(slice_of("[\"a\0a\"]", 7)));
    assert_false(json_valid(slice_of(NULL, 0)));
}

static void validity_has_no_depth_bound_and_never_recurses(void **state)
{
    size_t depth = 100000;
    char *text = malloc(2 * depth);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    assert_true(json_valid(slice_of(text, 2 * depth)));
    assert_false(json_valid(slice_of(text, 2 * depth - 1)));
    assert_false(json_valid(slice_of(text, depth)));
    for (size_t i = 0; i + 5 <= depth; i += 5) memcpy(text + i, "[{\"\":", 5);
    assert_false(json_valid(slice_of(text, depth)));
    free(text);
}

/* A text is damaged at random; what then still parses must be valid, and what is valid and small must parse. */
static void parsing_and_validity_agree_on_damaged_texts(void **state)
{
    static const char bytes[] = "{}[]:,\"\\ \n0123456789.eE+-truefalsn\x01\x80\xc3";
    uint64_t seed = 1;
    unsigned parses = 0;
    for (unsigned round = 0; round < 200000; round++) {
        char text[128];
        const char *from = valid_texts[hash_u64(seed++) % COUNT(valid_texts)];
        size_t len = strlen(from);
        memcpy(text, from, len);
        for (unsigned n = (unsigned)(hash_u64(seed++) % 3); n > 0; n--) {
            size_t at = hash_u64(seed++) % len;
            text[at] = bytes[hash_u64(seed++) % (sizeof bytes - 1)];
        }
        struct json_node root;
        bool ok = json_parse_copy(parser, &root, slice_of(text, len)) == JSON_OK;
        bool valid = json_valid(slice_of(text, len));
        bool surrogate = memmem(text, len, "\\u", 2) != NULL;
        if (ok ? !valid : valid && !surrogate) fail_msg("parse %d, valid %d: %.*s", ok, valid, (int)len, text);
        parses += ok;
    }
    assert_true(parses > 10000 && parses < 190000);
}

/* --- parsing ------------------------------------------------------------------------------------------------- */

static void nodes_tell_their_types(void **state)
{
    static const struct {
        const char *text;
        enum json_type type;
    } cases[] = {{"null", JSON_NULL},
                 {"true", JSON_BOOL},
                 {"false", JSON_BOOL},
                 {"1", JSON_NUMBER},
                 {"-1", JSON_NUMBER},
                 {"1.5", JSON_NUMBER},
                 {"1e999", JSON_NUMBER},
                 {"\"a\"", JSON_STRING},
                 {"[]", JSON_ARRAY},
                 {"{}", JSON_OBJECT},
                 {"18446744073709551615", JSON_NUMBER}};
    for (size_t i = 0; i < COUNT(cases); i++) assert_int_equal(json_type_of(parsed(cases[i].text)), cases[i].type);
}

static void integers_are_exact_over_64_bits(void **state)
{
    uint64_t v;
    assert_true(json_u64(parsed("0"), &v));
    assert_int_equal(v, 0);
    assert_true(json_u64(parsed("9007199254740993"), &v)); /* 2^53 + 1, which no double holds */
    assert_true(v == 9007199254740993u);
    assert_true(json_u64(parsed("9223372036854775808"), &v));
    assert_true(v == 1ull << 63);
    assert_true(json_u64(parsed("18446744073709551615"), &v));
    assert_true(v == UINT64_MAX);
}

static void what_is_no_unsigned_integer_is_not_read_as_one(void **state)
{
    static const char *const texts[] = {"-1",
                                        "1.0",
                                        "1e2",
                                        "0.5",
                                        "\"1\"",
                                        "true",
                                        "null",
                                        "[1]",
                                        "{}",
                                        "-9223372036854775808",
                                        "18446744073709551616",
                                        "1e400",
                                        "-99999999999999999999"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        uint64_t v = 7;
        assert_false(json_u64(parsed(texts[i]), &v));
        assert_int_equal(v, 7);
    }
}

static void booleans_are_read_and_nothing_else_is(void **state)
{
    bool v = false;
    assert_true(json_bool(parsed("true"), &v) && v);
    assert_true(json_bool(parsed("false"), &v) && !v);
    assert_false(json_bool(parsed("1"), &v));
    assert_false(json_bool(parsed("null"), &v));
}

static void numbers_beyond_64_bits_leave_their_neighbours_alone(void **state)
{
    const char *text = "{\"big\":123456789012345678901234567890,\"seq\":42,\"s\":\"1e999\",\"e\":[-1E+999, 7]}";
    uint64_t v;
    assert_true(json_u64(member(text, "seq"), &v));
    assert_int_equal(v, 42);
    assert_slice(json_string(member(text, "s")), "1e999", 5);
    assert_int_equal(json_type_of(member(text, "big")), JSON_NUMBER);
    struct json_iter i = json_array(member(text, "e"));
    struct json_node n;
    assert_true(json_array_next(&i, &n) && json_type_of(n) == JSON_NUMBER && !json_u64(n, &v));
    assert_true(json_array_next(&i, &n) && json_u64(n, &v) && v == 7);
}

static void a_padded_text_is_not_written_to(void **state)
{
    char text[128 + JSON_PADDING] = "[1e999,18446744073709551616]", before[sizeof text];
    memcpy(before, text, sizeof text);
    struct json_node root;
    assert_int_equal(json_parse(parser, &root, slice_str(text)), JSON_OK);
    assert_int_equal(json_array_len(root), 2);
    assert_memory_equal(text, before, sizeof text);
}

static void strings_come_unescaped_and_may_hold_nul(void **state)
{
    assert_slice(json_string(parsed("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")), "\"\\/\b\f\n\r\t", 8);
    assert_slice(json_string(parsed("\"a\\u0000b\"")), "a\0b", 3);
    assert_slice(json_string(parsed("\"\\u00e9\\u20AC\\ud83d\\ude00\"")), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
    assert_slice(json_string(parsed("\"\"")), "", 0);
}

static void half_a_surrogate_pair_is_malformed(void **state)
{
    static const char *const texts[] = {"\"\\ud800\"",        "\"\\udc00\"",        "\"\\ud800\\u0041\"",
                                        "\"\\ud800\\ud800\"", "\"\\udfff\\ud800\"", "[1e999,\"\\uDBFFx\"]"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct json_node root;
        assert_int_equal(parse(&root, texts[i], strlen(texts[i])), JSON_MALFORMED);
    }
}

static void bad_utf8_is_told_apart(void **state)
{
    struct json_node root;
    assert_int_equal(parse(&root, "\"\xff\"", 3), JSON_BAD_UTF8);
    assert_int_equal(parse(&root, "\"\xed\xa0\x80\"", 5), JSON_BAD_UTF8);
}

static void nesting_is_bounded(void **state)
{
    struct buf text = {0};
    for (unsigned depth = 1; depth <= JSON_DEPTH_MAX + 2; depth++) {
        text.len = 0;
        for (unsigned i = 0; i < depth; i++) buf_append(&text, i % 2 ? "{\"a\":" : "[", i % 2 ? 5 : 1);
        BUF_LIT(&text, "1");
        for (unsigned i = depth; i-- > 0;) buf_char(&text, i % 2 ? '}' : ']');
        struct json_node root;
        assert_int_equal(parse(&root, text.data, text.len), depth <= JSON_DEPTH_MAX ? JSON_OK : JSON_TOO_DEEP);
    }
    buf_free(&text);
}

static void texts_are_bounded(void **state)
{
    struct json_parser *small = json_parser_new(10);
    struct json_node root;
    assert_int_equal(json_parse_copy(small, &root, SLICE("\"12345678\"")), JSON_OK);
    assert_int_equal(json_parse_copy(small, &root, SLICE("\"123456789\"")), JSON_TOO_LARGE);
    char padded[11 + JSON_PADDING] = "\"123456789\"";
    assert_int_equal(json_parse(small, &root, slice_of(padded, 11)), JSON_TOO_LARGE);
    assert_int_equal(json_parse_copy(small, &root, SLICE("[1]")), JSON_OK);
    json_parser_free(small);
    json_parser_free(NULL);
}

static void a_parser_grows_to_its_bound_and_is_reused_after_errors(void **state)
{
    struct json_parser *p = json_parser_new(1 << 20);
    struct buf text = {0};
    for (size_t numbers = 1; numbers < 300000; numbers *= 3) {
        text.len = 0;
        buf_char(&text, '[');
        for (size_t i = 0; i < numbers; i++) buf_append(&text, i ? ",1" : "1", i ? 2 : 1);
        struct json_node root;
        assert_int_equal(json_parse_copy(p, &root, buf_slice(&text)), JSON_MALFORMED);
        buf_char(&text, ']');
        assert_int_equal(json_parse_copy(p, &root, buf_slice(&text)), JSON_OK);
        assert_int_equal(json_array_len(root), numbers);
    }
    buf_free(&text);
    json_parser_free(p);
}

static void walks_visit_every_child_in_order(void **state)
{
    struct json_node root = parsed("{\"a\":[1,[2,3],{\"x\":4}],\"b\":1.5,\"\":null}"), value, inner;
    static const char *const keys[] = {"a", "b", ""};
    struct slice key;
    struct json_iter i = json_object(root);
    for (size_t k = 0; k < COUNT(keys); k++) {
        assert_true(json_object_next(&i, &key, &value));
        assert_true(slice_is(key, keys[k]));
    }
    assert_int_equal(json_type_of(value), JSON_NULL);
    assert_false(json_object_next(&i, &key, &value));
    assert_false(json_object_next(&i, &key, &value));
    assert_true(json_get(root, "a", &value));
    assert_int_equal(json_array_len(value), 3);
    i = json_array(value);
    assert_true(json_array_next(&i, &inner) && json_type_of(inner) == JSON_NUMBER);
    assert_true(json_array_next(&i, &inner) && json_type_of(inner) == JSON_ARRAY && json_array_len(inner) == 2);
    assert_true(json_array_next(&i, &inner) && json_type_of(inner) == JSON_OBJECT);
    assert_false(json_array_next(&i, &inner));
    i = json_array(parsed("[]"));
    assert_false(json_array_next(&i, &inner));
    i = json_object(parsed("{}"));
    assert_false(json_object_next(&i, &key, &inner));
}

static void the_first_of_repeated_names_wins(void **state)
{
    const char *text = "{\"a\":1,\"\\u0061\":2,\"a\":3}";
    uint64_t v;
    assert_true(json_u64(member(text, "a"), &v));
    assert_int_equal(v, 1);
    assert_slice(json_raw_member(slice_str(text), "a"), "1", 1);
}

static void get_finds_names_exactly_and_only_in_objects(void **state)
{
    struct json_node out;
    struct json_node root = parsed("{\"ab\":1,\"a\\u0000b\":2,\"A\":3,\"nested\":{\"a\":4}}");
    assert_false(json_get(root, "a", &out));
    assert_false(json_get(root, "abc", &out));
    assert_true(json_get(root, "A", &out));
    assert_false(json_get(parsed("[\"a\"]"), "a", &out));
    assert_false(json_get(parsed("\"a\""), "a", &out));
}

/* --- raw members --------------------------------------------------------------------------------------------- */

static void raw_members_come_back_byte_for_byte(void **state)
{
    static const char *const values[] = {"1",
                                         "-1.50e+3",
                                         "1e999",
                                         "true",
                                         "null",
                                         "\"\"",
                                         "\"a\\\"}],\\\\\"",
                                         "[]",
                                         "{}",
                                         "[1, [2 ,{\"meta\":\"]\"}] ]",
                                         "{ \"a\" : \"}\" , \"b\":[ ] }"};
    static const char *const frames[] = {
        "{\"meta\":%s}", " {\t\"x\" : [\"meta\", {\"meta\": 0}] ,\n\"meta\" :  %s  , \"z\":1} ",
        "{\"y\":{\"meta\":[]},\"m\\u0065ta\":%s\n}", "{\"\":\"\\\"meta\\\":0\",\"meta\":%s,\"meta\":0}"};
    for (size_t f = 0; f < COUNT(frames); f++)
        for (size_t v = 0; v < COUNT(values); v++) {
            struct buf text = {0};
            const char *hole = strstr(frames[f], "%s");
            buf_append(&text, frames[f], (size_t)(hole - frames[f]));
            buf_slice_append(&text, slice_str(values[v]));
            buf_slice_append(&text, slice_str(hole + 2));
            assert_true(json_valid(buf_slice(&text)));
            assert_slice(json_raw_member(buf_slice(&text), "meta"), values[v], strlen(values[v]));
            buf_free(&text);
        }
}

static void an_absent_raw_member_is_null(void **state)
{
    static const char *const texts[] = {"{}",
                                        " { } ",
                                        "{\"a\":1}",
                                        "{\"a\":{\"meta\":1}}",
                                        "{\"metas\":1,\"met\":2}",
                                        "{\"a\":\"meta\"}",
                                        "{\"m\\u00e9ta\":1}",
                                        "{\"\\u006deta\\u0000\":1}"};
    for (size_t i = 0; i < COUNT(texts); i++) assert_null(json_raw_member(slice_str(texts[i]), "meta").data);
}

/* --- UTF-8 --------------------------------------------------------------------------------------------------- */

static void utf8_is_checked_and_its_characters_counted(void **state)
{
    assert_true(json_utf8_valid(slice_of(NULL, 0)));
    assert_true(json_utf8_valid(SLICE("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
    assert_int_equal(json_utf8_chars(SLICE("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")), 4);
    assert_int_equal(json_utf8_chars(slice_of(NULL, 0)), 0);
    static const char *const bad[] = {
        "\x80",         "\xc3",
        "\xc0\xaf",     "\xe0\x80\x80",
        "\xed\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf8",         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xe2\x82"};
    for (size_t i = 0; i < COUNT(bad); i++) assert_false(json_utf8_valid(slice_str(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_valid_text_is_accepted),
        cmocka_unit_test(every_invalid_text_is_refused),
        cmocka_unit_test(validity_has_no_depth_bound_and_never_recurses),
        cmocka_unit_test(parsing_and_validity_agree_on_damaged_texts),
        cmocka_unit_test(nodes_tell_their_types),
        cmocka_unit_test(integers_are_exact_over_64_bits),
        cmocka_unit_test(what_is_no_unsigned_integer_is_not_read_as_one),
        cmocka_unit_test(booleans_are_read_and_nothing_else_is),
        cmocka_unit_test(numbers_beyond_64_bits_leave_their_neighbours_alone),
        cmocka_unit_test(a_padded_text_is_not_written_to),
        cmocka_unit_test(strings_come_unescaped_and_may_hold_nul),
        cmocka_unit_test(half_a_surrogate_pair_is_malformed),
        cmocka_unit_test(bad_utf8_is_told_apart),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(texts_are_bounded),
        cmocka_unit_test(a_parser_grows_to_its_bound_and_is_reused_after_errors),
        cmocka_unit_test(walks_visit_every_child_in_order),
        cmocka_unit_test(the_first_of_repeated_names_wins),
        cmocka_unit_test(get_finds_names_exactly_and_only_in_objects),
        cmocka_unit_test(raw_members_come_back_byte_for_byte),
        cmocka_unit_test(an_absent_raw_member_is_null),
        cmocka_unit_test(utf8_is_checked_and_its_characters_counted),
    };
    return cmocka_run_group_tests(tests, parser_open, parser_close);
}
