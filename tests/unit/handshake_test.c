#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../net/handshake.h"
#include "../../src/base/limits.h"

/* parsed reads a request whose fields these lines are; they have to live as long as it. */
static struct http_request parsed(char text[1024], const char *lines)
{
    struct http_limits limits = {HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX, HTTP_BODY_BYTES_MAX};
    struct http_request request;
    enum http_error error;
    int len = snprintf(text, 1024, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    assert_in_range(len, 1, 1023);
    assert_int_equal(http_parse_head(&request, &error, slice_of(text, (size_t)len), &limits), HTTP_DONE);
    return request;
}

static bool protocols_valid(const char *lines)
{
    char text[1024];
    struct http_request request = parsed(text, lines);
    return handshake_protocols_valid(&request);
}

static bool extensions_valid(const char *value)
{
    char text[1024], line[512];
    snprintf(line, sizeof line, "sec-websocket-extensions: %s\r\n", value);
    struct http_request request = parsed(text, line);
    return handshake_extensions_valid(&request);
}

static bool offers(const char *lines)
{
    char text[1024];
    struct http_request request = parsed(text, lines);
    return handshake_offers(&request, "chat.v1");
}

#define PROTOCOL "Sec-WebSocket-Protocol: "

static void subprotocols_are_a_list_of_tokens(void **state)
{
    static const char *const good[] = {"",
                                       PROTOCOL "a\r\n",
                                       PROTOCOL "a,b\r\n",
                                       PROTOCOL ", a\t,,b ,\r\n",
                                       PROTOCOL "\r\n" PROTOCOL "a\r\n"};
    static const char *const bad[] = {PROTOCOL "\r\n",          PROTOCOL ", ,\r\n",     PROTOCOL "a b\r\n",
                                      PROTOCOL "a;b\r\n",       PROTOCOL "\"a\"\r\n",   PROTOCOL "a, b/c\r\n",
                                      PROTOCOL "a\r\n" PROTOCOL "(b)\r\n", PROTOCOL "\xc3\xa4\r\n"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_true(protocols_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(protocols_valid(bad[i]));
}

static void a_subprotocol_is_offered_by_its_whole_name(void **state)
{
    assert_true(offers(PROTOCOL "chat.v1\r\n"));
    assert_true(offers(PROTOCOL "a, chat.v1\r\n"));
    assert_true(offers(PROTOCOL "chat.v1,a\r\n"));
    assert_true(offers(PROTOCOL "a\r\n" PROTOCOL "b,,\tchat.v1 \r\n"));
    assert_false(offers(""));
    assert_false(offers(PROTOCOL "\r\n"));
    assert_false(offers(PROTOCOL "chat.v12, xchat.v1, chat.v, Chat.v1, chat\r\n"));
}

static void extensions_keep_to_their_grammar(void **state)
{
    static const char *const good[] = {"a",           "a,b",        " , a,, b ,",       "a;b",
                                       "a; b=c",      "a;b;c=d;e",  "a ; b = c",        "a; b=\"c\"",
                                       "a;b=\"\\c\"", "a;b=c, d;e", "x!#$%&'*+-.^_`|~0"};
    static const char *const bad[] = {
        "",        " ",           ",",           ";",        "a;",           "a;;b",   "a b",
        "a=b",     "a;=b",        "a;b=",        "a;b=c=d",  "a;b=c d",      "a;b=\"", "a;b=\"\"",
        "a;b=\"c", "a;b=\"c d\"", "a;b=\"c\"d",  "a;b=\"\\", "a;b=\"\\\"\"", "\"a\"",  "a, b;",
        "a/b",     "\xc3\xa4",    "a;b=\xc3\xa4"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_true(extensions_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(extensions_valid(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subprotocols_are_a_list_of_tokens),
        cmocka_unit_test(a_subprotocol_is_offered_by_its_whole_name),
        cmocka_unit_test(extensions_keep_to_their_grammar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
