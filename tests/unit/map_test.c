#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "../../src/base/hash.h"
#include "../../src/base/map.h"

#define KEYS 600u

struct entry {
    unsigned key;
    bool in;
};

static bool entry_is(const void *value, const void *key)
{
    return ((const struct entry *)value)->key == *(const unsigned *)key;
}

static void assert_same(const struct map *m, const struct entry *entries, uint64_t (*hash)(unsigned key))
{
    unsigned expected = 0, walked = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        void *found = map_find(m, hash(k), entry_is, &k);
        assert_ptr_equal(found, entries[k].in ? &entries[k] : NULL);
        expected += entries[k].in;
    }
    assert_int_equal(m->len, expected);
    uint32_t at = 0;
    bool seen[KEYS] = {false};
    for (const struct entry *e; (e = map_next(m, &at)); walked++) {
        assert_true(e->in && !seen[e->key]);
        seen[e->key] = true;
    }
    assert_int_equal(walked, expected);
}

/* Random inserts and removals against a plain array: first growing, then shrinking, then around the same size. */
static void churn(uint64_t (*hash)(unsigned key))
{
    struct entry entries[KEYS];
    struct map m = {0};
    for (unsigned k = 0; k < KEYS; k++) entries[k] = (struct entry){k, false};
    uint64_t seed = 1;
    for (unsigned step = 0; step < 30000; step++) {
        unsigned k = (unsigned)(hash_u64(seed++) % KEYS);
        unsigned inserts_percent = step < 10000 ? 80 : step < 20000 ? 20 : 50;
        bool insert = hash_u64(seed++) % 100 < inserts_percent;
        if (insert && !entries[k].in) {
            map_insert(&m, hash(k), &entries[k]);
            entries[k].in = true;
        } else if (!insert) {
            assert_int_equal(map_remove(&m, hash(k), &entries[k]), entries[k].in);
            entries[k].in = false;
        }
        if (step % 97 == 0) assert_same(&m, entries, hash);
    }
    for (unsigned k = 0; k < KEYS; k++) {
        if (entries[k].in) assert_true(map_remove(&m, hash(k), &entries[k]));
        entries[k].in = false;
    }
    assert_same(&m, entries, hash);
    map_free(&m);
}

static uint64_t spread(unsigned key)
{
    return hash_u64(key + 1);
}

static uint64_t eight_runs(unsigned key)
{
    return (key % 8) * 0x1000000001ull * 64; /* long runs of equal hashes, side by side */
}

static uint64_t at_the_end(unsigned key)
{
    return UINT64_MAX - key % 3; /* runs that begin in the last slots and go on in the first */
}

static uint64_t neighbours(unsigned key)
{
    return key / 2; /* runs that push each other along */
}

static void spread_keys_match_a_plain_array(void **state)
{
    churn(spread);
}

static void runs_of_equal_hashes_survive_removals(void **state)
{
    churn(eight_runs);
}

static void runs_around_the_table_end_survive_removals(void **state)
{
    churn(at_the_end);
}

static void overlapping_runs_survive_removals(void **state)
{
    churn(neighbours);
}

static void an_empty_map_finds_removes_and_walks_nothing(void **state)
{
    struct map m = {0};
    unsigned key = 1;
    uint32_t at = 0;
    assert_null(map_find(&m, 1, entry_is, &key));
    assert_false(map_remove(&m, 1, &key));
    assert_null(map_next(&m, &at));
    map_free(&m);
    struct entry e = {1, true};
    map_insert(&m, 1, &e);
    map_free(&m);
    assert_null(map_find(&m, 1, entry_is, &key));
    assert_int_equal(m.len, 0);
}

static void removal_takes_exactly_the_pointer(void **state)
{
    struct map m = {0};
    struct entry a = {1, true}, b = {1, true};
    unsigned key = 1;
    map_insert(&m, 5, &a);
    assert_false(map_remove(&m, 5, &b));
    assert_ptr_equal(map_find(&m, 5, entry_is, &key), &a);
    assert_true(map_remove(&m, 5, &a));
    assert_null(map_find(&m, 5, entry_is, &key));
    map_free(&m);
}

static void the_table_is_never_fuller_than_three_quarters(void **state)
{
    struct map m = {0};
    struct entry e = {0, true};
    for (unsigned i = 0; i < 5000; i++) {
        map_insert(&m, hash_u64(i), &e);
        assert_true((uint64_t)m.len * 4 <= (uint64_t)(m.mask + 1) * 3);
        assert_true(((m.mask + 1) & m.mask) == 0);
    }
    assert_true((uint64_t)m.len * 8 > m.mask); /* nor much emptier than it must be */
    map_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread_keys_match_a_plain_array),
        cmocka_unit_test(runs_of_equal_hashes_survive_removals),
        cmocka_unit_test(runs_around_the_table_end_survive_removals),
        cmocka_unit_test(overlapping_runs_survive_removals),
        cmocka_unit_test(an_empty_map_finds_removes_and_walks_nothing),
        cmocka_unit_test(removal_takes_exactly_the_pointer),
        cmocka_unit_test(the_table_is_never_fuller_than_three_quarters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
