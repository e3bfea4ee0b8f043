#include "log_lines.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/api/access.h"

/* Lines that log.access asks for, caught before they leave. */

static struct harness *opened(void **state, enum config_log_access access)
{
    struct harness *h = *state;
    h->config.log_access = access;
    harness_open(h, 2);
    lines_catch();
    return h;
}

static void nothing_is_kept_while_it_is_off(void **state)
{
    struct harness *h = opened(state, CONFIG_ACCESS_OFF);
    struct client *c = client_open(h, 0);
    client_call(c, "GET", "/v1/users/me", "ann", "", NULL);
    client_call(c, "GET", "/v1/nowhere", NULL, "", NULL);
    assert_null(harness_core(h, 0)->access);
    assert_string_equal(lines(), "");
}

static void a_request_is_told_once_with_who_asked(void **state)
{
    struct harness *h = opened(state, CONFIG_ACCESS_ALL);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/users/me?secret=1", "ann", "", NULL), 200);
    assert_int_equal(count_in(lines(), "\n"), 1);
    expect_text(
        lines(),
        "\"event\":\"request\",\"method\":\"GET\",\"route\":\"/users/me\",\"path\":\"/v1/users/me\",\"status\":200,");
    expect_text(lines(), "\"user\":\"ann\",");
    assert_null(strstr(lines(), "secret"));
    /* the next one on the same connection has nothing of it */
    lines_forget();
    assert_int_equal(client_call(c, "GET", "/v1/users/me", NULL, "", NULL), 401);
    expect_text(lines(), "\"status\":401,\"code\":\"auth.missing\"");
    assert_null(strstr(lines(), "\"user\""));
}

static void successes_are_left_out_when_errors_are_wanted(void **state)
{
    struct harness *h = opened(state, CONFIG_ACCESS_ERRORS);
    struct client *c = client_open(h, 0);
    client_call(c, "GET", "/v1/users/me", "ann", "", NULL);
    client_call(c, "GET", "/v1/nowhere", NULL, "", NULL);
    assert_int_equal(count_in(lines(), "\n"), 1);
    expect_text(lines(), "\"route\":\"none\",\"path\":\"/v1/nowhere\",\"status\":404,\"code\":\"route.not_found\"");
}

static void a_caller_who_left_is_told_as_499_although_the_place_is_taken_again(void **state)
{
    struct harness *h = opened(state, CONFIG_ACCESS_ALL);
    struct client *c = client_open(h, 0);
    h->hold_syncer = true;
    struct buf request = {0};
    buf_printf(&request,
               "POST /v1/rooms HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: zoe\r\nContent-Length: 16\r\n\r\n"
               "{\"type\":\"group\"}",
               h->api_key);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    harness_settle(h);
    const struct linger reset = {.l_onoff = 1}; /* one that only stops sending still gets its answer */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(c);
    for (unsigned i = 0; i < 200; i++) {
        harness_turns(h);
        usleep(100);
    }
    assert_int_equal(client_call(client_open(h, 0), "GET", "/health", NULL, "", NULL), 200);
    h->hold_syncer = false;
    harness_settle(h);
    const char *told = lines();
    expect_text(told, "\"path\":\"/health\",\"status\":200,");
    expect_text(told, "\"method\":\"POST\",\"route\":\"/rooms\",\"path\":\"/v1/rooms\",\"status\":499,");
}

static void a_socket_is_told_when_it_opens_and_when_it_closes(void **state)
{
    struct harness *h = opened(state, CONFIG_ACCESS_ALL);
    struct client *c = socket_open(h, 1, "ann", "{\"type\":\"hello\",\"device\":\"phone\"}");
    expect_text(lines(),
                "\"event\":\"websocket_open\",\"method\":\"GET\",\"route\":\"/ws\",\"path\":\"/ws\",\"status\":101,");
    lines_forget();
    client_say_binary(c, "x");
    assert_int_equal(client_hear_close(c), 1003);
    client_close(c);
    for (unsigned i = 0; i < 1000 && !*lines(); i++) harness_turns(h);
    expect_text(lines(), "\"event\":\"websocket_close\",\"code\":1003,\"reason\":\"server\",");
    expect_text(lines(), "\"messages_in\":2,");
    expect_text(lines(), "\"user\":\"ann\",\"device\":\"phone\",");
}

static void patterns_are_shown_with_colons(void **state)
{
    char text[ROUTE_TEXT_MAX];
    assert_string_equal(access_route(ROUTE_MEMBER_ROLE, text), "/rooms/:room/members/:user");
    assert_string_equal(access_route(ROUTES, text), "none");
    for (unsigned r = 0; r < ROUTES; r++) assert_null(strpbrk(access_route(r, text), "{}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CAUGHT(nothing_is_kept_while_it_is_off),
        CAUGHT(a_request_is_told_once_with_who_asked),
        CAUGHT(successes_are_left_out_when_errors_are_wanted),
        CAUGHT(a_caller_who_left_is_told_as_499_although_the_place_is_taken_again),
        CAUGHT(a_socket_is_told_when_it_opens_and_when_it_closes),
        cmocka_unit_test(patterns_are_shown_with_colons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
