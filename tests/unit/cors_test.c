#include <stdlib.h>
#include <string.h>

#include "harness.h"

/* What pages of other origins are told. */

static struct client *asked(struct harness *h, const char *listed, const char *method, const char *path,
                            const char *headers)
{
    free(h->config.cors_origins);
    h->config.cors_origins = strdup(listed);
    struct client *c = client_open(h, 0);
    client_call(c, method, path, strcmp(method, "OPTIONS") ? "ann" : NULL, headers, NULL);
    return c;
}

#define LISTED "https://a.example, http://b.example:81"

static void only_a_listed_origin_is_allowed(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = asked(h, LISTED, "GET", "/v1/users/me", "Origin: http://b.example:81\r\n");
    expect_text(c->head.data, "Access-Control-Allow-Origin: http://b.example:81\r\n");
    expect_text(c->head.data, "Vary: Origin\r\n");
    expect_text(c->head.data, "Access-Control-Expose-Headers: ");
    expect_no_text(c->head.data, "Allow-Credentials");
    static const char *const others[] = {"", "Origin: null\r\n", "Origin: http://b.example\r\n", "Origin: *\r\n",
                                         "Origin: https://a.example, http://b.example:81\r\n", "Origin: \r\n"};
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        c = asked(h, LISTED, "GET", "/v1/users/me", others[i]);
        expect_no_text(c->head.data, "Access-Control");
        expect_text(c->head.data, "Vary: Origin\r\n");
    }
}

static void nothing_is_said_when_nothing_is_listed(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = asked(h, "", "GET", "/v1/users/me", "Origin: https://a.example\r\n");
    expect_no_text(c->head.data, "Access-Control");
    expect_no_text(c->head.data, "Vary");
}

static void a_star_allows_all_and_an_exact_origin_goes_before_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = asked(h, "*, https://a.example", "GET", "/v1/users/me", "Origin: https://any.example\r\n");
    expect_text(c->head.data, "Access-Control-Allow-Origin: *\r\n");
    c = asked(h, "*, https://a.example", "GET", "/v1/users/me", "Origin: https://a.example\r\n");
    expect_text(c->head.data, "Access-Control-Allow-Origin: https://a.example\r\n");
}

static void errors_and_late_answers_are_readable_too(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = asked(h, LISTED, "GET", "/v1/nowhere", "Origin: https://a.example\r\n");
    expect_text(c->text.data, "route.not_found");
    expect_text(c->head.data, "Access-Control-Allow-Origin: https://a.example\r\n");
    c = asked(h, LISTED, "GET", "/v1/rooms", "Origin: https://a.example\r\n"); /* answered by way of other cores */
    expect_text(c->head.data, "Access-Control-Allow-Origin: https://a.example\r\n");
    expect_text(c->head.data, "X-Total-Rooms: 0\r\n");
}

static void the_next_request_of_a_connection_has_its_own_origin(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = asked(h, LISTED, "GET", "/v1/users/me", "Origin: https://a.example\r\n");
    assert_int_equal(client_call(c, "GET", "/v1/users/me", "ann", "", NULL), 200);
    expect_no_text(c->head.data, "Access-Control");
}

static void a_preflight_names_what_may_be_sent(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    const char *wish = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"
                       "Access-Control-Request-Headers: x-api-key,x-user-id\r\n";
    struct client *c = asked(h, LISTED, "OPTIONS", "/v1/auth/tickets", wish);
    expect_text(c->head.data, "HTTP/1.1 204 ");
    expect_text(c->head.data, "Access-Control-Allow-Origin: https://a.example\r\n");
    expect_text(c->head.data, "Access-Control-Allow-Methods: OPTIONS, POST\r\n");
    expect_text(c->head.data, "X-API-Key");
    expect_no_text(c->head.data, "X-Master-Key");
    c = asked(h, LISTED, "OPTIONS", "/v1/auth/tickets", "Origin: https://b.example\r\n");
    expect_no_text(c->head.data, "Access-Control");
    expect_text(c->head.data, "Allow: OPTIONS, POST\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_a_listed_origin_is_allowed),
        TEST(nothing_is_said_when_nothing_is_listed),
        TEST(a_star_allows_all_and_an_exact_origin_goes_before_it),
        TEST(errors_and_late_answers_are_readable_too),
        TEST(the_next_request_of_a_connection_has_its_own_origin),
        TEST(a_preflight_names_what_may_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
