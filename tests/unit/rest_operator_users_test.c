#define _GNU_SOURCE /* memmem */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

/* The users of a tenant, for the operator. */

static unsigned get(struct client *c, const char *path)
{
    return client_call(c, "GET", path, NULL, OPERATOR, NULL);
}

/* users_path names the first tenant that is listed: the harness's own. */
static const char *users_path(struct client *c, const char *user, const char *more, char out[192])
{
    assert_int_equal(get(c, "/v1/admin/tenants"), 200);
    const char *at = strstr(c->text.data, "\"tenant_id\":\"");
    assert_non_null(at);
    snprintf(out, 192, "/v1/admin/users%s?tenant_id=%.15s%s", user, at + 13, more);
    return out;
}

static void users_are_listed_in_pages_oldest_first(void **state)
{
    struct harness *h = *state;
    char path[192];
    harness_open(h, 2);
    static const char *const names[] = {"zoe", "ann", "bob"};
    for (unsigned i = 0; i < 3; i++) harness_person(h, names[i]);
    struct client *c = client_open(h, 0);
    assert_int_equal(get(c, users_path(c, "", "&limit=2", path)), 200);
    assert_true(strstr(c->text.data, "\"zoe\"") < strstr(c->text.data, "\"ann\""));
    expect_no_text(c->text.data, "\"bob\"");
    char more[64];
    snprintf(more, sizeof more, "&limit=2&cursor=%llu", strtoull(strstr(c->text.data, "\"next\":\"") + 8, NULL, 10));
    assert_int_equal(get(c, users_path(c, "", more, path)), 200);
    expect_text(c->text.data, "{\"items\":[{\"user_id\":\"bob\",\"display_name\":null,\"created_at\":\"");
    expect_text(c->text.data, "],\"next\":null}");
}

static void a_user_is_listed_only_when_durable(void **state)
{
    struct harness *h = *state;
    char path[192];
    harness_open(h, 2);
    struct client *c = client_open(h, 0), *ann = client_open(h, 1);
    users_path(c, "", "", path);
    h->hold_syncer = true;
    struct buf request = {0};
    buf_printf(&request, "GET /v1/users/me HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: ann\r\n\r\n", h->api_key);
    client_send(ann, buf_slice(&request)); /* makes her */
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    request.len = 0;
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: x\r\n" OPERATOR "\r\n", path);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    client_read(c);
    assert_null(memmem(c->in.data, c->in.len, "ann", 3)); /* readable by now, but a power loss may take her back */
    h->hold_syncer = false;
    assert_int_equal(client_answer(c), 200);
    expect_text(c->text.data, "\"user_id\":\"ann\"");
}

static void a_user_is_shown_with_rooms_and_asking_makes_nobody(void **state)
{
    struct harness *h = *state;
    char path[192], room_text[64];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = client_open(h, 0);
    assert_int_equal(get(c, users_path(c, "/ann", "", path)), 200);
    snprintf(room_text, sizeof room_text, "\"num_rooms\":1,\"rooms\":[{\"room_id\":\"%s\",", room_name(room).text);
    expect_text(c->text.data, room_text);
    assert_int_equal(get(c, users_path(c, "/nobody", "", path)), 404);
    assert_int_equal(get(c, users_path(c, "", "", path)), 200);
    expect_no_text(c->text.data, "nobody");
}

static void the_tenant_must_be_named_and_exist(void **state)
{
    struct harness *h = *state;
    char path[192];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(get(c, "/v1/admin/users"), 400);
    expect_text(c->text.data, "\"code\":\"field.missing\"");
    assert_int_equal(get(c, "/v1/admin/users/ann"), 400);
    assert_int_equal(get(c, "/v1/admin/users?tenant_id=t_0"), 404);
    assert_int_equal(get(c, users_path(c, "", "&cursor=x", path)), 400);
}

static void a_user_whom_a_failing_store_did_not_keep_is_not_listed(void **state)
{
    struct harness *h = *state;
    char path[192];
    harness_open(h, 1);
    harness_person(h, "ann");
    struct client *c = client_open(h, 0);
    users_path(c, "", "", path);
    kv_fake_fail(h->kv, true, true);
    client_call(c, "GET", "/v1/users/me", "bob", "", NULL); /* a write, which poisons the pipeline */
    unsigned status = get(c, path);
    assert_true(status == 200 || status == 503);
    expect_no_text(c->text.data, "bob"); /* what never became durable is not shown */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(users_are_listed_in_pages_oldest_first),
        TEST(a_user_is_listed_only_when_durable),
        TEST(a_user_is_shown_with_rooms_and_asking_makes_nobody),
        TEST(the_tenant_must_be_named_and_exist),
        TEST(a_user_whom_a_failing_store_did_not_keep_is_not_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
