#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/hash.h"

/* The key and the messages of the SipHash paper: bytes 00 01 02 …; its appendix A gives the tag for 15 bytes, the
 * authors' vectors those for the other lengths. */
static void keyed_hashes_are_siphash_2_4(void **state)
{
    const struct hash_key key = {{0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull}};
    char message[16];
    for (unsigned i = 0; i < sizeof message; i++) message[i] = (char)i;
    assert_true(hash_bytes(&key, slice_of(message, 15)) == 0xa129ca6149be45e5ull);
    assert_true(hash_bytes(&key, slice_of(message, 0)) == 0x726fdb47dd0e0e31ull);
    assert_true(hash_bytes(&key, slice_of(message, 1)) == 0x74f839c593dc67fdull);
    assert_true(hash_bytes(&key, slice_of(message, 8)) == 0x93f5f5799a932462ull);
    assert_true(hash_bytes(&key, slice_of(NULL, 0)) == 0x726fdb47dd0e0e31ull);
}

static void another_key_gives_another_hash(void **state)
{
    const struct hash_key a = {{1, 2}}, b = {{1, 3}}, c = {{0, 2}};
    assert_true(hash_bytes(&a, SLICE("room")) != hash_bytes(&b, SLICE("room")));
    assert_true(hash_bytes(&a, SLICE("room")) != hash_bytes(&c, SLICE("room")));
}

/* FNV-1a's published values for "", "a" and "foobar", mixed as text homes are; tenant 0 adds nothing. */
static void text_homes_are_mixed_fnv_1a(void **state)
{
    assert_true(hash_text_home(0, SLICE("")) == hash_u64(0xcbf29ce484222325ull));
    assert_true(hash_text_home(0, SLICE("a")) == hash_u64(0xaf63dc4c8601ec8cull));
    assert_true(hash_text_home(0, SLICE("foobar")) == hash_u64(0x85944171f73967e8ull));
    assert_true(hash_text_home(1, SLICE("a")) != hash_text_home(2, SLICE("a")));
}

static void numbers_are_mixed_as_murmurhash3_does(void **state)
{
    assert_true(hash_u64(0) == 0);
    assert_true(hash_u64(1) == 0xb456bcfc34c2cb2cull);
    assert_true(hash_u64(2) == 0x3abf2a20650683e7ull);
}

/* Consecutive numbers and similar names must not gather on one core. */
static void homes_are_spread_over_the_cores(void **state)
{
    for (unsigned cores = 2; cores <= 64; cores++) {
        unsigned by_number[64] = {0}, by_text[64] = {0};
        for (uint64_t i = 0; i < 64000; i++) {
            char name[16] = "user-";
            size_t len = 5;
            for (uint64_t rest = i; rest; rest /= 10) name[len++] = (char)('0' + rest % 10);
            by_number[hash_u64(i) % cores]++;
            by_text[hash_text_home(7, slice_of(name, len)) % cores]++;
        }
        for (unsigned core = 0; core < cores; core++) {
            unsigned even = 64000 / cores;
            assert_in_range(by_number[core], even * 8 / 10, even * 12 / 10);
            assert_in_range(by_text[core], even * 8 / 10, even * 12 / 10);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keyed_hashes_are_siphash_2_4),    cmocka_unit_test(another_key_gives_another_hash),
        cmocka_unit_test(text_homes_are_mixed_fnv_1a),     cmocka_unit_test(numbers_are_mixed_as_murmurhash3_does),
        cmocka_unit_test(homes_are_spread_over_the_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
