/* carillonctl is no library: its pure parts are taken in as they are. */
#include "../../tools/ctl/table.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../tools/ctl/style.c" /* NOLINT(bugprone-suspicious-include) */

#include <locale.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct json_node parsed(struct json_parser *p, struct slice text)
{
    struct json_node root;
    assert_int_equal(json_parse_copy(p, &root, text), JSON_OK);
    return root;
}

static void assert_written(FILE *out, char **text, const char *expected)
{
    fclose(out);
    assert_string_equal(*text, expected);
    free(*text);
}

static void text_of_others_never_steers_the_terminal(void **state)
{
    (void)state;
    struct buf out = {0};
    text_shown(&out, SLICE("a\033[2J\r\n\t\x7f" "\xc2\x9b" "é\xc2\xa0z"));
    buf_char(&out, '\0');
    assert_string_equal(out.data, "a\\x1b[2J\\x0d\\n\\t\\x7f\\x9bé\xc2\xa0z");
    buf_free(&out);
}

static void columns_align_by_characters_not_bytes(void **state)
{
    (void)state;
    struct json_parser *p = json_parser_new(4096);
    struct table t;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    table_init(&t, "name,seq,none");
    table_add(&t, parsed(p, SLICE("{\"name\":\"éé\",\"seq\":1,\"other\":5}")));
    table_add(&t, parsed(p, SLICE("{\"seq\":18446744073709551615,\"name\":null}")));
    table_add(&t, parsed(p, SLICE("{\"name\":true,\"seq\":-1,\"none\":[]}")));
    table_print(&t, out);
    assert_written(out, &text,
                   "NAME  SEQ                   NONE\n"
                   "éé    1                     -\n"
                   "-     18446744073709551615  -\n"
                   "yes   …                     …\n");
    table_free(&t);
    json_parser_free(p);
}

static void wide_characters_take_two_columns(void **state)
{
    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    assert_int_equal(text_columns(SLICE("第二 é")), 6);
    assert_int_equal(text_columns(SLICE("e\xcc\x81")), 1); /* an accent that combines */
    assert_int_equal(text_columns(SLICE("")), 0);
}

static void an_empty_table_still_has_its_head(void **state)
{
    (void)state;
    struct table t;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    table_init(&t, "a,b");
    table_print(&t, out);
    assert_written(out, &text, "A  B\n");
    table_free(&t);
}

static void figures_alone_are_flush_right(void **state)
{
    (void)state;
    struct json_parser *p = json_parser_new(4096);
    struct slice object = SLICE("{\"messages\":7,\"ok\":true,\"bytes\":1.25e3}");
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    object_print(object, parsed(p, object), NULL, out);
    assert_written(out, &text,
                   "messages       7\n"
                   "ok          true\n"
                   "bytes     1.25e3\n");
    json_parser_free(p);
}

static void an_object_is_a_plain_list_with_the_objects_in_it_laid_out(void **state)
{
    (void)state;
    struct json_parser *p = json_parser_new(4096);
    struct slice object =
        SLICE("{\"id\":\"t_1\",\"n\":12,\"settings\":{\"a\":[1],\"b\":{\"c\":2}},\"none\":{},\"name\":null}");
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    object_print(object, parsed(p, object), NULL, out);
    assert_written(out, &text,
                   "id          t_1\n"
                   "n           12\n"
                   "settings.a  [1]\n"
                   "settings.b  {\"c\":2}\n"
                   "none        {}\n"
                   "name        -\n");
    json_parser_free(p);
}

static void a_member_of_any_name_has_its_value(void **state)
{
    (void)state;
    struct json_parser *p = json_parser_new(4096);
    struct slice object =
        SLICE("{\"\\u00e4\":1,\"a\":2,\"a\":3,\"\\u0000\":4,"
              "\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg\":{\"x\":5}}");
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    object_print(object, parsed(p, object), NULL, out);
    assert_written(out, &text,
                   "\xc3\xa4                                                                         1\n"
                   "a                                                                         2\n"
                   "a                                                                         3\n"
                   "\\x00                                                                      4\n"
                   "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg.x  5\n");
    json_parser_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_others_never_steers_the_terminal),
        cmocka_unit_test(columns_align_by_characters_not_bytes),
        cmocka_unit_test(wide_characters_take_two_columns),
        cmocka_unit_test(an_empty_table_still_has_its_head),
        cmocka_unit_test(figures_alone_are_flush_right),
        cmocka_unit_test(an_object_is_a_plain_list_with_the_objects_in_it_laid_out),
        cmocka_unit_test(a_member_of_any_name_has_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
