#include "harness.h"
#include "kv_row.h"

#include <stdio.h>
#include <string.h>

static void homes_are_the_same_after_every_start_and_spread(void **state)
{
    struct harness *h = *state;
    unsigned rooms[64], users[64], count[2][3] = {{0}};
    char id[16];
    harness_open(h, 3);
    for (unsigned restarted = 0; restarted < 2; restarted++) {
        for (unsigned i = 0; i < 64; i++) {
            snprintf(id, sizeof id, "user %u", i);
            unsigned room = gateway_room_home(&h->gateway, 1, i + 1),
                     user = gateway_user_home(&h->gateway, 1, slice_str(id));
            assert_true(room < 3 && user < 3);
            if (restarted) assert_true(room == rooms[i] && user == users[i]);
            rooms[i] = room;
            users[i] = user;
            count[0][room]++;
            count[1][user]++;
        }
        if (!restarted) harness_restart(h, END_KILLED);
    }
    for (unsigned core = 0; core < 3; core++) assert_true(count[0][core] > 10 && count[1][core] > 10);
}

static void numbers_are_given_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    uint64_t first = gateway_number(&h->gateway), second = gateway_number(&h->gateway);
    assert_true(first >= 1 && second == first + 1);
}

static void fingerprints_outlive_a_start_and_tables_do_not(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct hash_key fingerprint = h->gateway.fingerprint_key, hash = h->gateway.hash_key;
    harness_restart(h, END_CLEAN);
    assert_memory_equal(&h->gateway.fingerprint_key, &fingerprint, sizeof fingerprint);
    assert_memory_not_equal(&h->gateway.hash_key, &hash, sizeof hash);
    assert_memory_not_equal(&h->gateway.hash_key, &fingerprint, sizeof fingerprint);
    assert_memory_not_equal(h->gateway.pepper, &fingerprint, sizeof fingerprint); /* nothing of the pepper shows */
}

static void the_epoch_rises_at_unclean_ends_only(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    assert_int_equal(h->gateway.epoch, 1);
    harness_restart(h, END_CLEAN);
    assert_int_equal(h->gateway.epoch, 1);
    harness_restart(h, END_KILLED);
    assert_int_equal(h->gateway.epoch, 2);
    harness_restart(h, END_POWER_LOST);
    assert_int_equal(h->gateway.epoch, 3);
}

static void a_damaged_directory_is_refused_with_a_sentence(void **state)
{
    struct harness *h = *state;
    char why[256] = "";
    struct key key;
    harness_open(h, 1);
    key_tenant(&key, 9);
    kv_row_put(h->kv, KV_TENANTS, &key, SLICE("damaged"));
    struct gateway g = {
        .config = &h->config, .clock = &h->clock, .random = &h->random, .store = &h->store, .num_cores = 2};
    assert_int_equal(gateway_open(&g, why, sizeof why), STATUS_CORRUPT);
    expect_text(why, "verify-store");
    gateway_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(homes_are_the_same_after_every_start_and_spread), TEST(numbers_are_given_once),
        TEST(fingerprints_outlive_a_start_and_tables_do_not),  TEST(the_epoch_rises_at_unclean_ends_only),
        TEST(a_damaged_directory_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
