#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tenants and keys: who is let in, and that an answered change holds on every core. */

static bool lets_in(struct harness *h, unsigned core, const char *key)
{
    return directory_authenticate(harness_core(h, core), slice_str(key)) != NULL;
}

static struct answer *key_make(struct harness *h, unsigned core, enum key_role role)
{
    struct op *op = harness_op(h, core, OP_KEY_CREATE, NULL, 0, API_KEY_TEXT_MAX);
    op->tenant = h->tenant;
    op->in.directory.key.role = (uint8_t)role;
    return harness_go(h, op);
}

static struct answer *key_take(struct harness *h, uint32_t tenant, const char *key)
{
    struct op *op = harness_op(h, 0, OP_KEY_REVOKE, NULL, 0, 16);
    op->tenant = tenant;
    op->in.directory.prefix = op_keep(op, slice_of(key + 3, 12)); /* ck_prefix_secret */
    return harness_go(h, op);
}

static struct answer *tenant_change(struct harness *h, enum tenant_state tenant_state, const char *name)
{
    struct op *op = harness_op(h, 0, OP_TENANT_UPDATE, NULL, 0, 64);
    op->tenant = h->tenant;
    op->in.directory.tenant.state = (uint8_t)tenant_state;
    if (name) op->in.directory.tenant.name = op_keep(op, slice_str(name));
    return harness_go(h, op);
}

static const char *tenant_name(struct harness *h, unsigned core, char out[64])
{
    struct tenant *t = directory_tenant(&harness_core(h, core)->directory, h->tenant);
    snprintf(out, 64, "%.*s", SLICE_FMT(buf_slice(&t->name)));
    return out;
}

/* --- letting in ---------------------------------------------------------------------------------- */

static void only_the_whole_key_lets_in(void **state)
{
    struct harness *h = *state;
    char wrong[API_KEY_TEXT_MAX + 2];
    harness_open(h, 1);
    assert_true(lets_in(h, 0, h->api_key));
    size_t len = strlen(h->api_key);
    for (size_t i = 0; i < len; i++) { /* each character counts */
        memcpy(wrong, h->api_key, len + 1);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        assert_false(lets_in(h, 0, wrong));
    }
    memcpy(wrong, h->api_key, len + 1);
    wrong[len - 1] = '\0';
    assert_false(lets_in(h, 0, wrong));
    snprintf(wrong, sizeof wrong, "%s0", h->api_key);
    assert_false(lets_in(h, 0, wrong));
    assert_false(lets_in(h, 0, ""));
}

static void keys_are_kept_as_a_hash_alone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct kv_iter *i = kv_iter_open(h->kv, KV_KEYS, (struct slice){0}, (struct slice){0});
    unsigned rows = 0;
    for (bool on = kv_iter_first(h->kv, i); on; on = kv_iter_next(h->kv, i), rows++) {
        struct slice value = kv_iter_value(h->kv, i);
        for (size_t at = 0; at + 16 <= value.len; at++)
            assert_int_not_equal(memcmp(value.data + at, h->api_key + 16, 16), 0);
    }
    assert_int_equal(kv_iter_close(h->kv, i), STATUS_OK);
    assert_int_equal(rows, 1);
}

static void keys_outlive_every_end(void **state)
{
    struct harness *h = *state;
    static const enum harness_end ends[] = {END_CLEAN, END_KILLED, END_POWER_LOST};
    harness_open(h, 3);
    for (unsigned i = 0; i < 3; i++) {
        harness_restart(h, ends[i]);
        for (unsigned core = 0; core < 3; core++) assert_true(lets_in(h, core, h->api_key));
    }
}

/* --- changes
 * ---------------------------------------------------------------------------------------------------------- */

static void a_new_key_is_answered_once_it_is_durable_and_known_everywhere(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    h->hold_syncer = true;
    struct answer *made = key_make(h, 1, KEY_ROLE_READ);
    harness_settle(h);
    expect_waiting(made);
    commit_syncer_step(h->gateway.commit);
    harness_turn(h, 0);
    harness_turn(h, 1);
    harness_turn(h, 0);
    harness_turn(h, 1);
    expect_waiting(made); /* core 2 does not know it yet */
    harness_settle(h);
    expect_ok(made);
    assert_int_equal(made->http_status, 201);
    for (unsigned core = 0; core < 3; core++) {
        struct api_key *k = directory_authenticate(harness_core(h, core), slice_str(made->out.data));
        assert_non_null(k);
        assert_int_equal(k->role, KEY_ROLE_READ);
        assert_int_equal(k->tenant->number, h->tenant);
    }
}

static void a_revoked_key_lets_nobody_in_anywhere_ever_again(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct answer *made = settled(h, key_make(h, 0, KEY_ROLE_SERVER));
    expect_ok(settled(h, key_take(h, h->tenant, made->out.data)));
    for (unsigned core = 0; core < 3; core++) assert_false(lets_in(h, core, made->out.data));
    expect_error(settled(h, key_take(h, h->tenant, made->out.data)), ERR_KEY_NOT_FOUND);
    harness_restart(h, END_POWER_LOST);
    for (unsigned core = 0; core < 3; core++) assert_false(lets_in(h, core, made->out.data));
    assert_true(lets_in(h, 2, h->api_key));
}

static void a_key_is_revoked_by_its_own_tenant_only(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    expect_error(settled(h, key_take(h, h->tenant + 1, h->api_key)), ERR_KEY_NOT_FOUND);
    expect_error(settled(h, key_take(h, h->tenant, "ck_000000000000_")), ERR_KEY_NOT_FOUND);
    assert_true(lets_in(h, 0, h->api_key));
}

static void revoking_closes_the_keys_sockets_and_no_others(void **state)
{
    struct harness *h = *state;
    char first_key[sizeof h->api_key];
    harness_open(h, 2);
    struct client *by_first[2], *by_second[2];
    memcpy(first_key, h->api_key, sizeof first_key);
    for (unsigned i = 0; i < 2; i++) by_first[i] = socket_open(h, i, "ann", HELLO_ALL);
    struct answer *made = settled(h, key_make(h, 0, KEY_ROLE_SERVER));
    snprintf(h->api_key, sizeof h->api_key, "%s", made->out.data);
    for (unsigned i = 0; i < 2; i++) by_second[i] = socket_open(h, i, "ann", HELLO_ALL);
    expect_ok(settled(h, key_take(h, h->tenant, first_key)));
    for (unsigned i = 0; i < 2; i++) assert_int_equal(client_hear_close(by_first[i]), 4004);
    for (unsigned i = 0; i < 2; i++) client_hears_nothing(by_second[i]);
}

static void a_disabled_tenant_loses_its_sockets_and_a_deleted_one_its_keys(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = socket_open(h, 1, "ann", HELLO_ALL);
    expect_ok(settled(h, tenant_change(h, TENANT_DISABLED, NULL)));
    assert_int_equal(client_hear_close(c), 4004);
    assert_true(lets_in(h, 1, h->api_key)); /* known, and told so: 403 tenant.disabled */
    expect_ok(settled(h, tenant_change(h, TENANT_ACTIVE, NULL)));
    struct client *again = socket_open(h, 1, "ann", HELLO_ALL);
    expect_ok(settled(h, tenant_change(h, TENANT_DELETED, NULL)));
    assert_int_equal(client_hear_close(again), 4004);
    for (unsigned core = 0; core < 2; core++) assert_false(lets_in(h, core, h->api_key));
    expect_error(settled(h, tenant_change(h, TENANT_ACTIVE, NULL)), ERR_TENANT_NOT_FOUND);
    expect_error(settled(h, key_make(h, 0, KEY_ROLE_SERVER)), ERR_TENANT_NOT_FOUND);
    harness_restart(h, END_CLEAN);
    assert_false(lets_in(h, 0, h->api_key));
}

static void an_update_lays_what_was_given_over_what_is_there(void **state)
{
    struct harness *h = *state;
    char name[64];
    harness_open(h, 2);
    expect_ok(settled(h, tenant_change(h, 0, "Chimes")));
    expect_ok(settled(h, tenant_change(h, TENANT_DISABLED, NULL)));
    harness_restart(h, END_CLEAN);
    for (unsigned core = 0; core < 2; core++) {
        assert_string_equal(tenant_name(h, core, name), "Chimes");
        assert_int_equal(directory_tenant(&harness_core(h, core)->directory, h->tenant)->state, TENANT_DISABLED);
    }
}

static void updates_at_once_all_hold(void **state)
{
    struct harness *h = *state;
    char name[64];
    harness_open(h, 2);
    struct answer *renamed = tenant_change(h, 0, "Chimes"), *disabled = tenant_change(h, TENANT_DISABLED, NULL);
    harness_settle(h);
    expect_ok(renamed);
    expect_ok(disabled);
    assert_string_equal(tenant_name(h, 1, name), "Chimes");
    assert_int_equal(directory_tenant(&harness_core(h, 1)->directory, h->tenant)->state, TENANT_DISABLED);
}

static void a_deleted_tenant_is_not_brought_back_by_an_update_at_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct answer *deleted = tenant_change(h, TENANT_DELETED, NULL), *renamed = tenant_change(h, 0, "Chimes");
    harness_settle(h);
    expect_ok(deleted);
    expect_error(renamed, ERR_TENANT_NOT_FOUND);
    assert_false(lets_in(h, 1, h->api_key));
    harness_restart(h, END_CLEAN);
    assert_false(lets_in(h, 1, h->api_key));
}

static void keys_and_tenants_are_taken_away_when_nothing_new_is_taken(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct answer *made = settled(h, key_make(h, 0, KEY_ROLE_SERVER));
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    atomic_store(&harness_core(h, 0)->frames_bytes, (int64_t)FRAMES_BYTES_MAX + 1);
    expect_error(settled(h, key_make(h, 0, KEY_ROLE_SERVER)), ERR_STORE_DISK_FULL);
    expect_error(settled(h, tenant_change(h, TENANT_DISABLED, "Chimes")), ERR_STORE_DISK_FULL);
    expect_ok(settled(h, key_take(h, h->tenant, made->out.data)));
    assert_false(lets_in(h, 1, made->out.data));
    expect_ok(settled(h, tenant_change(h, TENANT_DISABLED, NULL)));
    expect_error(settled(h, tenant_change(h, TENANT_ACTIVE, NULL)), ERR_STORE_DISK_FULL);
    expect_ok(settled(h, tenant_change(h, TENANT_DELETED, NULL)));
    assert_false(lets_in(h, 1, h->api_key));
    atomic_store(&harness_core(h, 0)->frames_bytes, 0);
}

/* --- a store that fails
 * ------------------------------------------------------------------------------------------------- */

static void a_change_that_the_power_took_did_not_happen(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    h->hold_syncer = true;
    struct answer *revoked = key_take(h, h->tenant, h->api_key);
    harness_settle(h);
    expect_waiting(revoked);
    assert_true(lets_in(h, 0, h->api_key));
    harness_restart(h, END_POWER_LOST);
    assert_true(lets_in(h, 0, h->api_key));
}

static void a_change_that_fails_is_told_and_not_applied(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    kv_fake_fail(h->kv, false, true);
    struct answer *first = key_take(h, h->tenant, h->api_key), *second = tenant_change(h, 0, "Chimes");
    harness_settle(h);
    expect_error(first, ERR_STORE_UNKNOWN);
    assert_int_not_equal(second->error.code, ERR_NONE);
    for (unsigned core = 0; core < 2; core++) assert_true(lets_in(h, core, h->api_key));
    expect_error(settled(h, key_make(h, 0, KEY_ROLE_SERVER)), ERR_STORE_READ_ONLY);
}

static void the_operators_objects_show_no_secret(void **state)
{
    struct harness *h = *state;
    struct buf out = {0};
    harness_open(h, 1);
    directory_tenant_json(&out, directory_tenant(&harness_core(h, 0)->directory, h->tenant));
    directory_key_json(&out, directory_authenticate(harness_core(h, 0), slice_str(h->api_key)));
    buf_char(&out, '\0');
    expect_text(out.data, "\"name\":\"Bells\",\"state\":\"active\",\"durability\":\"default\",\"config\":{},\"created_"
                          "at\":\"2026-01-01T");
    expect_text(out.data, "\"role\":\"server\",\"state\":\"active\"");
    expect_no_text(out.data, h->api_key + 16);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_the_whole_key_lets_in),
        TEST(keys_are_kept_as_a_hash_alone),
        TEST(keys_outlive_every_end),
        TEST(a_new_key_is_answered_once_it_is_durable_and_known_everywhere),
        TEST(a_revoked_key_lets_nobody_in_anywhere_ever_again),
        TEST(a_key_is_revoked_by_its_own_tenant_only),
        TEST(revoking_closes_the_keys_sockets_and_no_others),
        TEST(a_disabled_tenant_loses_its_sockets_and_a_deleted_one_its_keys),
        TEST(an_update_lays_what_was_given_over_what_is_there),
        TEST(updates_at_once_all_hold),
        TEST(a_deleted_tenant_is_not_brought_back_by_an_update_at_once),
        TEST(keys_and_tenants_are_taken_away_when_nothing_new_is_taken),
        TEST(a_change_that_the_power_took_did_not_happen),
        TEST(a_change_that_fails_is_told_and_not_applied),
        TEST(the_operators_objects_show_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
