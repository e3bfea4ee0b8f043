#include "../../src/auth/shown_keys.h"

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../src/base/limits.h"

/* The API keys that a repeated request is answered with. */

static void add(struct shown_keys *s, uint64_t now_ns, unsigned n)
{
    char request[32], key[32];
    const struct shown_key answer = {.payload_hash = n, .created_ms = n + 1, .tenant = n + 2};
    int request_len = snprintf(request, sizeof request, "/path key %u", n);
    int key_len = snprintf(key, sizeof key, "ck_%u", n);
    shown_keys_add(s, now_ns, slice_of(request, (size_t)request_len), &answer, slice_of(key, (size_t)key_len));
}

static const struct shown_key *find(struct shown_keys *s, uint64_t now_ns, unsigned n)
{
    char request[32];
    int len = snprintf(request, sizeof request, "/path key %u", n);
    return shown_keys_find(s, now_ns, slice_of(request, (size_t)len));
}

static void an_answer_is_found_by_its_request(void **state)
{
    struct shown_keys s;
    shown_keys_init(&s);
    assert_null(find(&s, 0, 1));
    add(&s, 0, 1);
    add(&s, 0, 2);
    const struct shown_key *k = find(&s, 0, 2);
    assert_non_null(k);
    assert_true(k->payload_hash == 2 && k->created_ms == 3 && k->tenant == 4);
    assert_true(slice_is(shown_key_text(k), "ck_2"));
    assert_null(find(&s, 0, 3));
    shown_keys_free(&s);
}

static void an_answer_is_forgotten_in_time(void **state)
{
    struct shown_keys s;
    uint64_t until_ns = SHOWN_KEYS_MS * 1000000ull;
    shown_keys_init(&s);
    add(&s, 0, 1);
    add(&s, 1, 2);
    assert_non_null(find(&s, until_ns - 1, 1));
    assert_null(find(&s, until_ns, 1));
    assert_non_null(find(&s, until_ns, 2));
    shown_keys_drop_old(&s, until_ns + 1);
    assert_int_equal(s._len, 0);
    shown_keys_free(&s);
}

static void a_full_table_forgets_the_oldest(void **state)
{
    struct shown_keys s;
    shown_keys_init(&s);
    for (unsigned n = 0; n <= SHOWN_KEYS_MAX; n++) add(&s, n, n);
    assert_int_equal(s._len, SHOWN_KEYS_MAX);
    assert_null(find(&s, SHOWN_KEYS_MAX, 0));
    assert_non_null(find(&s, SHOWN_KEYS_MAX, 1));
    assert_non_null(find(&s, SHOWN_KEYS_MAX, SHOWN_KEYS_MAX));
    shown_keys_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_found_by_its_request),
        cmocka_unit_test(an_answer_is_forgotten_in_time),
        cmocka_unit_test(a_full_table_forgets_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
