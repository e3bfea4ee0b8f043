#include "harness.h"

#include <stdio.h>
#include <string.h>

/* A request's way in and out: route, caller, answer. The table of routes is walked, so that a new row is held to the
 * same rules. */

#define TARGET_MAX 256u

/* target writes a path that matches a route: parameters are ids of nothing. */
static const char *target(const struct route *r, char out[TARGET_MAX])
{
    size_t len = (size_t)snprintf(out, TARGET_MAX, "%s", r->who == WHO_ANYONE ? "" : "/v1");
    for (const char *at = r->pattern; *at;) {
        if (*at != '{') {
            out[len++] = *at++;
            continue;
        }
        const char *value = strncmp(at, "{room}", 6) == 0     ? room_name(4711).text
                            : strncmp(at, "{tenant}", 8) == 0 ? "t_x"
                                                              : "x";
        len += (size_t)snprintf(out + len, TARGET_MAX - len, "%s", value);
        at = strchr(at, '}') + 1;
    }
    out[len] = '\0';
    return out;
}

static bool needs_member(unsigned route)
{
    return routes[route].who == WHO_MEMBER || route == ROUTE_WS;
}

static void every_route_of_members_asks_for_key_and_user(void **state)
{
    struct harness *h = *state;
    char path[TARGET_MAX], headers[256];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < ROUTES; i++) {
        if (!needs_member(i)) continue;
        const char *method = http_method_name(routes[i].method);
        target(&routes[i], path);
        assert_int_equal(client_call(c, method, path, NULL, "", NULL), 401);
        expect_text(c->text.data, "\"code\":\"auth.missing\"");
        expect_text(c->head.data, "WWW-Authenticate: ApiKey\r\n");
        assert_int_equal(client_call(c, method, path, NULL, "X-API-Key: ck_no\r\nX-User-Id: ann\r\n", NULL), 401);
        expect_text(c->text.data, "\"code\":\"auth.invalid_key\"");
        snprintf(headers, sizeof headers, "X-API-Key: %s\r\n", h->api_key);
        assert_int_equal(client_call(c, method, path, NULL, headers, NULL), 400);
        expect_text(c->text.data, "\"code\":\"auth.user_required\"");
        snprintf(headers, sizeof headers, "X-API-Key: %s\r\nX-User-Id: %0129d\r\n", h->api_key, 1);
        assert_int_equal(client_call(c, method, path, NULL, headers, NULL), 400);
        expect_text(c->text.data, "\"code\":\"auth.invalid_user_id\"");
        snprintf(headers, sizeof headers, "X-Master-Key: " MASTER_KEY "\r\nX-User-Id: ann\r\n");
        assert_int_equal(client_call(c, method, path, NULL, headers, NULL), 401); /* the operator is nobody's user */
    }
}

static void every_route_of_the_operator_asks_for_the_master_key(void **state)
{
    struct harness *h = *state;
    char path[TARGET_MAX];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < ROUTES; i++) {
        if (routes[i].who != WHO_OPERATOR) continue;
        const char *method = http_method_name(routes[i].method);
        target(&routes[i], path);
        assert_int_equal(client_call(c, method, path, "ann", "", NULL), 401);
        expect_text(c->text.data, "\"code\":\"auth.operator_required\"");
        assert_int_equal(client_call(c, method, path, "ann", "X-Master-Key: the-master-kez\r\n", NULL), 401);
        expect_text(c->text.data, "\"code\":\"auth.invalid_master_key\"");
        assert_int_not_equal(client_call(c, method, path, NULL, OPERATOR, NULL), 401);
    }
}

static void without_a_master_key_no_master_key_is_right(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    h->config.admin_master_key[0] = '\0';
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/admin/stats", NULL, "X-Master-Key: \r\n", NULL), 401);
}

static void a_read_key_may_use_what_only_reads(void **state)
{
    struct harness *h = *state;
    char path[TARGET_MAX];
    harness_open(h, 1);
    harness_person(h, "ann");
    directory_authenticate(harness_core(h, 0), slice_str(h->api_key))->role = KEY_ROLE_READ;
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < ROUTES; i++) {
        if (routes[i].who != WHO_MEMBER) continue;
        unsigned status = client_call(c, http_method_name(routes[i].method), target(&routes[i], path), "ann", "", NULL);
        bool reads = routes[i].method == HTTP_GET || i == ROUTE_SYNC_POST || i == ROUTE_TICKET_CREATE;
        if (reads == (status == 403)) fail_msg("%s %s: %u", http_method_name(routes[i].method), path, status);
    }
}

static void a_disabled_tenant_is_told_so(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    directory_tenant(&harness_core(h, 0)->directory, h->tenant)->state = TENANT_DISABLED;
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 403);
    expect_text(c->text.data, "\"code\":\"tenant.disabled\"");
}

static void both_prefixes_mean_the_same_and_chat_paths_need_one(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/api/v1/rooms", "ann", "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/rooms", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v1rooms", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v2/rooms", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v1/rooms/", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/v1/health", NULL, "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/v1", NULL, "", NULL), 404);
}

static void a_wrong_method_is_told_the_right_ones(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "DELETE", "/v1/rooms", "ann", "", NULL), 405);
    expect_text(c->text.data, "\"code\":\"route.method_not_allowed\"");
    expect_text(c->head.data, "Allow: OPTIONS, HEAD, GET, POST\r\n");
    assert_int_equal(client_call(c, "OPTIONS", "/v1/rooms", NULL, "", NULL), 204);
    expect_text(c->head.data, "Allow: OPTIONS, HEAD, GET, POST\r\n");
    assert_int_equal(client_call(c, "GET", "/no/such/thing", NULL, "", NULL), 404);
    expect_text(c->text.data, "\"code\":\"route.not_found\"");
}

static void parameters_are_percent_decoded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    harness_person(h, "a/b \xc3\xa9");
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/users/a%2Fb%20%C3%A9", "ann", "", NULL), 200);
    expect_text(c->text.data, "{\"user_id\":\"a/b \xc3\xa9\"");
    assert_int_equal(client_call(c, "GET", "/v1/users/", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v1/users/a%2", "ann", "", NULL), 400); /* and closed: no request at all */
}

static void answers_are_counted_by_route_and_code(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    client_call(c, "GET", "/v1/rooms", "ann", "", NULL);
    client_call(c, "GET", "/v1/rooms", NULL, "", NULL);
    client_call(c, "GET", "/nowhere", NULL, "", NULL);
    struct core *core = harness_core(h, 0);
    assert_int_equal(core->route_status[ROUTE_ROOM_LIST * 6 + 2], 1);
    assert_int_equal(core->route_status[ROUTE_ROOM_LIST * 6 + 4], 1);
    assert_int_equal(core->route_status[ROUTES * 6 + 4], 1); /* no route: a row of its own */
    assert_int_equal(core->error_count[ERR_AUTH_MISSING], 1);
    assert_int_equal(core->route_seconds[ROUTE_ROOM_LIST].count, 2);
}

static void the_acting_user_comes_into_being(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    assert_int_equal(client_call(c, "GET", "/v1/users/new", "ann", "", NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v1/users/me", "new", "", NULL), 200);
    expect_text(c->text.data, "{\"user_id\":\"new\"");
    assert_int_equal(client_call(c, "GET", "/v1/users/new", "ann", "", NULL), 200);
}

static void an_overloaded_store_says_when_to_come_back(void **state)
{
    struct harness *h = *state;
    char path[64];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    snprintf(path, sizeof path, "/v1/rooms/%s/messages", room_name(harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann))).text);
    struct client *c = client_open(h, 0);
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    assert_int_equal(client_call(c, "POST", path, "ann", "", "{\"content\":\"x\"}"), 507);
    expect_text(c->text.data, "\"code\":\"store.disk_full\"");
    expect_text(c->head.data, "Retry-After: 1\r\n");
    expect_text(c->head.data, "Content-Type: application/problem+json\r\n");
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
}

static void the_echo_is_there_only_when_it_is_switched_on(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/debug/echo", NULL, "", "ding"), 404);
    assert_int_equal(client_call(c, "GET", "/debug/ws-echo", NULL, "", NULL), 404);
    h->config.debug_echo = true;
    assert_int_equal(client_call(c, "PUT", "/debug/echo", NULL, "", "ding"), 200);
    assert_string_equal(c->text.data, "ding");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_route_of_members_asks_for_key_and_user),
        TEST(every_route_of_the_operator_asks_for_the_master_key),
        TEST(without_a_master_key_no_master_key_is_right),
        TEST(a_read_key_may_use_what_only_reads),
        TEST(a_disabled_tenant_is_told_so),
        TEST(both_prefixes_mean_the_same_and_chat_paths_need_one),
        TEST(a_wrong_method_is_told_the_right_ones),
        TEST(parameters_are_percent_decoded),
        TEST(answers_are_counted_by_route_and_code),
        TEST(the_acting_user_comes_into_being),
        TEST(an_overloaded_store_says_when_to_come_back),
        TEST(the_echo_is_there_only_when_it_is_switched_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
