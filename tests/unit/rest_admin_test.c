#define _GNU_SOURCE /* memmem */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "../../src/chat/ids.h"

/* Tenants and keys for the operator. */

/* text_of copies the text behind `"name":"` of the last answer. */
static const char *text_of(struct client *c, const char *name, char out[128])
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":\"", name);
    const char *at = strstr(c->text.data, quoted);
    if (!at) fail_msg("no %s in: %s", name, c->text.data);
    at += strlen(quoted);
    snprintf(out, 128, "%.*s", (int)strcspn(at, "\""), at);
    return out;
}

/* use makes a member's request with a key of its own. */
static unsigned use(struct client *c, const char *key, const char *method, const char *path, const char *body)
{
    char headers[256];
    snprintf(headers, sizeof headers, "X-API-Key: %s\r\nX-User-Id: ann\r\n", key);
    return client_call(c, method, path, NULL, headers, body);
}

static void a_new_tenants_key_works_at_once_and_is_shown_once(void **state)
{
    struct harness *h = *state;
    char id[128], key[128], path[256];
    harness_open(h, 2);
    struct client *c = client_open(h, 1), *other = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}"), 201);
    expect_text(c->text.data, "\"name\":\"Chimes\",\"api_key\":\"ck_");
    text_of(c, "tenant_id", id);
    text_of(c, "api_key", key);
    assert_int_equal(use(other, key, "GET", "/v1/users/me", NULL), 200);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s", id);
    assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 200);
    expect_text(c->text.data, "\"state\":\"active\"");
    expect_no_text(c->text.data, "api_key");
    snprintf(path, sizeof path, "/v1/admin/tenants/%s/keys", id);
    assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"role\":\"server\",\"state\":\"active\""), 1);
    expect_no_text(c->text.data, key + 16);
}

static void tenants_do_not_see_each_other(void **state)
{
    struct harness *h = *state;
    char key[128], path[64];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = client_open(h, 0);
    client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}");
    text_of(c, "api_key", key);
    snprintf(path, sizeof path, "/v1/rooms/%s", room_name(room).text);
    assert_int_equal(use(c, key, "GET", path, NULL), 404); /* the same user id, another user */
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
    assert_int_equal(use(c, key, "GET", "/v1/rooms", NULL), 200);
    expect_text(c->text.data, "\"items\":[]");
}

static void tenants_are_listed_in_pages(void **state)
{
    struct harness *h = *state;
    char next[128], path[256], body[64];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < 4; i++) {
        snprintf(body, sizeof body, "{\"name\":\"tenant %u\"}", i);
        assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, body), 201);
    }
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants?limit=3", NULL, OPERATOR, NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"tenant_id\""), 3);
    snprintf(path, sizeof path, "/v1/admin/tenants?limit=3&cursor=%s", text_of(c, "next", next));
    assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"tenant_id\""), 2);
    expect_text(c->text.data, "\"name\":\"tenant 3\"");
    expect_text(c->text.data, "\"next\":null}");
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants?cursor=x", NULL, OPERATOR, NULL), 400);
}

static void a_tenant_is_changed_switched_off_and_deleted(void **state)
{
    struct harness *h = *state;
    char id[128], key[128], path[256];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}");
    text_of(c, "tenant_id", id);
    text_of(c, "api_key", key);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s", id);
    static const char *const faulty[] = {"{\"state\":\"deleted\"}", "{\"durability\":\"slow\"}", "{\"config\":5}",
                                         "{\"name\":7}"};
    for (unsigned i = 0; i < 4; i++) assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR, faulty[i]), 400);
    assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR,
                                 "{\"name\":\"Gongs\",\"durability\":\"fast\",\"config\":{ \"a\":1 }}"),
                     200);
    expect_text(c->text.data, "\"name\":\"Gongs\",\"state\":\"active\",\"durability\":\"fast\",\"config\":{ \"a\":1 }");
    assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR, "{\"state\":\"disabled\"}"), 200);
    expect_text(c->text.data, "\"name\":\"Gongs\",\"state\":\"disabled\"");
    assert_int_equal(use(c, key, "GET", "/v1/users/me", NULL), 403);
    assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR, "{\"state\":\"active\"}"), 200);
    assert_int_equal(use(c, key, "GET", "/v1/users/me", NULL), 200);
    assert_int_equal(client_call(c, "DELETE", path, NULL, OPERATOR, NULL), 204);
    assert_int_equal(use(c, key, "GET", "/v1/users/me", NULL), 401);
    assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 404);
    assert_int_equal(client_call(c, "DELETE", path, NULL, OPERATOR, NULL), 404);
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, OPERATOR, NULL), 200);
    expect_no_text(c->text.data, id);
}

static void keys_are_made_with_a_role_and_revoked(void **state)
{
    struct harness *h = *state;
    char id[128], first[128], key[128], prefix[128], path[300];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}");
    text_of(c, "tenant_id", id);
    text_of(c, "api_key", first);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s/keys", id);
    assert_int_equal(client_call(c, "POST", path, NULL, OPERATOR, "{\"role\":\"owner\"}"), 400);
    assert_int_equal(client_call(c, "POST", path, NULL, OPERATOR, ""), 201);
    expect_text(c->text.data, "\"role\":\"server\"");
    assert_int_equal(client_call(c, "POST", path, NULL, OPERATOR, "{\"role\":\"read\"}"), 201);
    text_of(c, "api_key", key);
    text_of(c, "key_id", prefix);
    assert_int_equal(use(c, first, "GET", "/v1/users/me", NULL), 200);
    assert_int_equal(use(c, key, "GET", "/v1/users/me", NULL), 200);
    assert_int_equal(use(c, key, "POST", "/v1/rooms", "{\"type\":\"group\"}"), 403);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s/keys/%s", id, prefix);
    assert_int_equal(client_call(c, "DELETE", path, NULL, OPERATOR, NULL), 204);
    assert_int_equal(use(c, key, "GET", "/v1/users/me", NULL), 401);
    assert_int_equal(use(c, first, "GET", "/v1/users/me", NULL), 200);
    assert_int_equal(client_call(c, "DELETE", path, NULL, OPERATOR, NULL), 404);
}

static void faulty_tenants_are_refused(void **state)
{
    struct harness *h = *state;
    char body[256];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{}"), 400);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"\"}"), 400);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "not json"), 400);
    snprintf(body, sizeof body, "{\"name\":\"%0129d\"}", 1);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, body), 400);
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants/t_x", NULL, OPERATOR, NULL), 404);
    kv_fake_fail(h->kv, false, true);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}"), 503);
    expect_text(c->text.data, "\"code\":\"store.unknown\"");
    expect_no_text(c->text.data, "ck_");
}

static void keys_are_listed_in_pages(void **state)
{
    struct harness *h = *state;
    char id[128], next[128], keys[256], path[512], seen[16] = "";
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"Chimes\"}");
    snprintf(keys, sizeof keys, "/v1/admin/tenants/%s/keys", text_of(c, "tenant_id", id));
    for (unsigned i = 0; i < 4; i++) assert_int_equal(client_call(c, "POST", keys, NULL, OPERATOR, ""), 201);
    snprintf(path, sizeof path, "%s?limit=2", keys);
    for (unsigned page = 0; page < 3; page++) {
        assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 200);
        assert_int_equal(count_in(c->text.data, "\"key_id\""), page < 2 ? 2 : 1);
        for (const char *at = c->text.data; (at = strstr(at, "\"key_id\":\"")); at++) {
            char listed[16];
            snprintf(listed, sizeof listed, "%.12s", at + 10);
            assert_true(strcmp(listed, seen) > 0);
            snprintf(seen, sizeof seen, "%s", listed);
        }
        if (page == 2) break;
        snprintf(path, sizeof path, "%s?limit=2&cursor=%s", keys, text_of(c, "next", next));
    }
    expect_text(c->text.data, "\"next\":null}");
    static const char *const faulty[] = {"limit=0", "limit=1001", "cursor=x", "cursor=00000000000G",
                                         "cursor=0000000000000"};
    for (unsigned i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s?%s", keys, faulty[i]);
        assert_int_equal(client_call(c, "GET", path, NULL, OPERATOR, NULL), 400);
    }
}

/* --- requests that are sent again ---------------------------------------------------------------- */

#define ONCE OPERATOR "Idempotency-Key: k\r\n"

static void a_repeated_tenant_or_key_gets_the_first_answer(void **state)
{
    struct harness *h = *state;
    char first[512], id[128], keys[256];
    harness_open(h, 2);
    struct client *c = client_open(h, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Chimes\"}"), 201);
        if (i == 0) snprintf(first, sizeof first, "%s", c->text.data);
        assert_string_equal(c->text.data, first);
        harness_advance(h, SHOWN_KEYS_MS / 4);
    }
    snprintf(keys, sizeof keys, "/v1/admin/tenants/%s/keys", text_of(c, "tenant_id", id));
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Gongs\"}"), 422);
    expect_text(c->text.data, "\"code\":\"idempotency.mismatch\"");
    for (unsigned i = 0; i < 2; i++) { /* the path is part of the key */
        assert_int_equal(client_call(c, "POST", keys, NULL, ONCE, "{\"role\":\"read\"}"), 201);
        if (i == 0) snprintf(first, sizeof first, "%s", c->text.data);
        assert_string_equal(c->text.data, first);
    }
    assert_int_equal(client_call(c, "GET", keys, NULL, OPERATOR, NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"key_id\""), 2);
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, OPERATOR, NULL), 200);
    assert_int_equal(count_in(c->text.data, "\"tenant_id\""), 2); /* the harness has one */
}

static void repeats_at_once_make_one_tenant(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c[3];
    struct buf request = {0};
    static const char body[] = "{\"name\":\"Chimes\"}";
    buf_printf(&request, "POST /v1/admin/tenants HTTP/1.1\r\nHost: x\r\n" ONCE "Content-Length: %zu\r\n\r\n%s",
               strlen(body), body);
    h->hold_readers = true; /* all of them are there before the first is looked up */
    for (unsigned i = 0; i < 3; i++) {
        c[i] = client_open(h, i % 2);
        client_send(c[i], buf_slice(&request));
        for (unsigned n = 0; n < 20; n++) harness_settle(h);
    }
    buf_free(&request);
    h->hold_readers = false;
    for (unsigned i = 0; i < 3; i++) assert_int_equal(client_answer(c[i]), 201);
    assert_string_equal(c[1]->text.data, c[0]->text.data);
    assert_string_equal(c[2]->text.data, c[0]->text.data);
}

static void a_repeat_whose_key_is_shown_no_more_names_what_was_made(void **state)
{
    struct harness *h = *state;
    char id[128], key[128], key_id[128], keys[256];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Chimes\"}");
    text_of(c, "tenant_id", id);
    snprintf(keys, sizeof keys, "/v1/admin/tenants/%s/keys", id);
    client_call(c, "POST", keys, NULL, ONCE, "");
    text_of(c, "key_id", key_id);
    text_of(c, "api_key", key);
    harness_advance(h, SHOWN_KEYS_MS);
    for (unsigned i = 0; i < 2; i++) { /* too late, then after a restart */
        c = client_open(h, 0);
        assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Chimes\"}"), 409);
        expect_text(c->text.data, "\"code\":\"idempotency.expired\"");
        expect_text(c->text.data, id);
        assert_int_equal(client_call(c, "POST", keys, NULL, ONCE, ""), 409);
        expect_text(c->text.data, key_id);
        expect_no_text(c->text.data, key + 16);
        assert_int_equal(client_call(c, "POST", keys, NULL, ONCE, "{\"role\":\"read\"}"), 422);
        harness_restart(h, END_POWER_LOST);
    }
    struct kv_iter *i = kv_iter_open(h->kv, KV_IDEMPOTENCY, (struct slice){0}, (struct slice){0});
    unsigned rows = 0;
    for (bool on = kv_iter_first(h->kv, i); on; on = kv_iter_next(h->kv, i), rows++) {
        struct slice value = kv_iter_value(h->kv, i);
        assert_null(memmem(value.data, value.len, key + 16, 16));
    }
    assert_int_equal(kv_iter_close(h->kv, i), STATUS_OK);
    assert_int_equal(rows, 2);
}

static void a_tenant_that_was_not_kept_is_made_by_the_repeat(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    kv_fake_fail(h->kv, false, true);
    for (unsigned i = 0; i < 2; i++) /* unknown, and then still not claimed to be there */
        assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Chimes\"}"), 503);
    harness_restart(h, END_POWER_LOST);
    c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, ONCE, "{\"name\":\"Chimes\"}"), 201);
}

static void the_rate_of_a_tenant_has_a_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    char id[ID_TEXT_LEN + 1] = "", path[64], body[96];
    tenant_id_text(id, h->tenant);
    snprintf(path, sizeof path, "/v1/admin/tenants/%s", id);
    snprintf(body, sizeof body, "{\"config\":{\"limits\":{\"tenant_rate\":%u}}}", REQUEST_RATE_MAX);
    assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR, body), 200);
    assert_int_equal(directory_tenant(&harness_core(h, 0)->directory, h->tenant)->rate, REQUEST_RATE_MAX);
    snprintf(body, sizeof body, "{\"config\":{\"limits\":{\"tenant_rate\":%u}}}", REQUEST_RATE_MAX + 1);
    assert_int_equal(client_call(c, "PATCH", path, NULL, OPERATOR, body), 400);
    expect_text(c->text.data, "\"code\":\"field.invalid\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_tenants_key_works_at_once_and_is_shown_once),
        TEST(tenants_do_not_see_each_other),
        TEST(tenants_are_listed_in_pages),
        TEST(a_tenant_is_changed_switched_off_and_deleted),
        TEST(keys_are_made_with_a_role_and_revoked),
        TEST(faulty_tenants_are_refused),
        TEST(keys_are_listed_in_pages),
        TEST(a_repeated_tenant_or_key_gets_the_first_answer),
        TEST(repeats_at_once_make_one_tenant),
        TEST(a_repeat_whose_key_is_shown_no_more_names_what_was_made),
        TEST(a_tenant_that_was_not_kept_is_made_by_the_repeat),
        TEST(the_rate_of_a_tenant_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
