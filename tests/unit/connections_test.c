#define _GNU_SOURCE /* memmem */
#include "harness.h"

#include <stdio.h>

/* Who is connected, and being closed by the operator. */

static void list(struct client *c, const char *query)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/admin/connections%s", query);
    assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 200);
}

static unsigned kick(struct client *c, const char *body)
{
    return client_call(c, "POST", "/v1/admin/kick", NULL, OPERATOR, body);
}

/* text_behind copies the text behind `mark` in the last answer, up to the next quote. */
static void text_behind(struct client *c, const char *mark, char out[64])
{
    const char *at = strstr(c->text.data, mark);
    if (!at) fail_msg("no %s in: %s", mark, c->text.data);
    at += strlen(mark);
    snprintf(out, 64, "%.*s", (int)strcspn(at, "\""), at);
}

static void tenant_text(struct client *c, char out[64])
{
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, OPERATOR, NULL), 200);
    text_behind(c, "\"tenant_id\":\"", out);
}

static void connections_of_all_cores_are_listed_with_who_they_are(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann");
    harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    socket_open(h, 0, "ann", HELLO_ALL);
    socket_open(h, 2, "ann", NULL);
    struct client *c = client_open(h, 1);
    list(c, "");
    assert_int_equal(count_in(c->text.data, "\"connection_id\":\"c_"), 3);
    assert_int_equal(count_in(c->text.data, "\"kind\":\"websocket\""), 2);
    assert_int_equal(count_in(c->text.data, "\"user_id\":\"ann\""), 2);
    assert_int_equal(count_in(c->text.data, "\"user_id\":null"), 1); /* the operator's own */
    expect_text(c->text.data, "\"peer\":\"127.0.0.1\"");
    expect_text(c->text.data, "\"rooms\":1,\"queued_bytes\":0,\"replaying\":false,\"core\":0}");
    expect_text(c->text.data, "],\"next\":null}");
}

static void a_page_goes_on_where_the_one_before_ended_across_cores(void **state)
{
    struct harness *h = *state;
    char next[64], path[128];
    harness_open(h, 3);
    harness_person(h, "ann");
    for (unsigned i = 0; i < 6; i++) socket_open(h, i % 3, "ann", HELLO_ALL);
    struct client *c = client_open(h, 0);
    unsigned seen = 0, pages = 0;
    for (snprintf(path, sizeof path, "?limit=2"); path[0]; pages++) {
        list(c, path);
        seen += count_in(c->text.data, "\"connection_id\"");
        path[0] = '\0';
        if (strstr(c->text.data, "\"next\":null")) continue;
        text_behind(c, "\"next\":\"", next);
        snprintf(path, sizeof path, "?limit=2&cursor=%s", next);
    }
    assert_int_equal(seen, 7);
    assert_int_equal(pages, 4);
    assert_int_equal(client_call(c, "GET", "/v1/admin/connections?cursor=c_1", NULL, OPERATOR, NULL), 400);
}

static void a_list_can_be_of_one_tenant_and_one_user(void **state)
{
    struct harness *h = *state;
    char tenant[64], query[128];
    harness_open(h, 2);
    harness_person(h, "ann");
    harness_person(h, "bob");
    socket_open(h, 0, "ann", HELLO_ALL);
    socket_open(h, 1, "bob", HELLO_ALL);
    struct client *c = client_open(h, 0);
    tenant_text(c, tenant);
    snprintf(query, sizeof query, "?tenant_id=%s", tenant);
    list(c, query);
    assert_int_equal(count_in(c->text.data, "\"connection_id\""), 2);
    snprintf(query, sizeof query, "?tenant_id=%s&user_id=bob", tenant);
    list(c, query);
    assert_int_equal(count_in(c->text.data, "\"connection_id\""), 1);
    expect_text(c->text.data, "\"user_id\":\"bob\"");
    assert_int_equal(client_call(c, "GET", "/v1/admin/connections?user_id=bob", NULL, OPERATOR, NULL), 400);
    assert_int_equal(client_call(c, "GET", "/v1/admin/connections?tenant_id=t_0", NULL, OPERATOR, NULL), 404);
}

static void a_kick_closes_the_one_connection_it_names(void **state)
{
    struct harness *h = *state;
    char id[64], body[128];
    harness_open(h, 2);
    harness_person(h, "ann");
    struct client *ann = socket_open(h, 1, "ann", HELLO_ALL), *c = client_open(h, 0);
    list(c, "");
    const char *at = strstr(c->text.data, "\"kind\":\"websocket\"");
    assert_non_null(at);
    snprintf(id, sizeof id, "%.18s", at - 20); /* …"connection_id":"c_…","kind": */
    snprintf(body, sizeof body, "{\"connection_id\":\"%s\"}", id);
    assert_int_equal(kick(c, body), 200);
    assert_string_equal(c->text.data, "{\"closed\":1}");
    assert_int_equal(client_hear_close(ann), 4003);
    assert_int_equal(kick(c, body), 200);
    assert_string_equal(c->text.data, "{\"closed\":0}"); /* it has gone */
}

static void a_kick_closes_all_of_a_user_or_a_tenant_and_nobody_elses(void **state)
{
    struct harness *h = *state;
    char tenant[64], body[192];
    harness_open(h, 2);
    harness_person(h, "ann");
    harness_person(h, "bob");
    struct client *ann = socket_open(h, 0, "ann", HELLO_ALL), *too = socket_open(h, 1, "ann", HELLO_ALL);
    struct client *bob = socket_open(h, 0, "bob", HELLO_ALL), *c = client_open(h, 0);
    tenant_text(c, tenant);
    snprintf(body, sizeof body, "{\"tenant_id\":\"%s\",\"user_id\":\"ann\",\"reason\":\"out\"}", tenant);
    assert_int_equal(kick(c, body), 200);
    assert_string_equal(c->text.data, "{\"closed\":2}");
    assert_int_equal(client_hear_close(ann), 4003);
    assert_int_equal(client_hear_close(too), 4003);
    client_hears_nothing(bob);
    assert_int_equal(bob->close_code, 0);
    snprintf(body, sizeof body, "{\"tenant_id\":\"%s\"}", tenant);
    assert_int_equal(kick(c, body), 200);
    assert_string_equal(c->text.data, "{\"closed\":1}");
    assert_int_equal(client_hear_close(bob), 4003);
}

static void a_kick_that_names_nobody_or_too_much_is_refused(void **state)
{
    struct harness *h = *state;
    char body[512];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(kick(c, "{}"), 400);
    assert_int_equal(kick(c, "{\"user_id\":\"ann\"}"), 400);
    assert_int_equal(kick(c, "{\"connection_id\":\"c_0\"}"), 400);
    assert_int_equal(kick(c, "{\"connection_id\":\"c_0000000000000000\",\"tenant_id\":\"t_1\"}"), 400);
    assert_int_equal(kick(c, "{\"tenant_id\":\"t_0\"}"), 404);
    snprintf(body, sizeof body, "{\"connection_id\":\"c_0000000000000000\",\"reason\":\"%0124d\"}", 1);
    assert_int_equal(kick(c, body), 400);
    assert_int_equal(kick(c, "{\"connection_id\":\"c_0000000000000000\"}"), 200); /* of another run */
    assert_string_equal(c->text.data, "{\"closed\":0}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connections_of_all_cores_are_listed_with_who_they_are),
        TEST(a_page_goes_on_where_the_one_before_ended_across_cores),
        TEST(a_list_can_be_of_one_tenant_and_one_user),
        TEST(a_kick_closes_the_one_connection_it_names),
        TEST(a_kick_closes_all_of_a_user_or_a_tenant_and_nobody_elses),
        TEST(a_kick_that_names_nobody_or_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
