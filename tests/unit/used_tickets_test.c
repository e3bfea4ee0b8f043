#include "../../src/auth/used_tickets.h"

/* cmocka needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/hash.h"

/* One use for each ticket, and nothing remembered for longer than that needs. */

#define LIFE_NS (TICKET_LIFE_MS * 1000000ull)

static void a_ticket_is_used_once_while_it_lives(void **state)
{
    struct used_tickets u;
    uint8_t one[TICKET_NONCE_BYTES] = {1}, two[TICKET_NONCE_BYTES] = {1, [15] = 1}; /* of the same hash */
    used_tickets_init(&u);
    assert_int_equal(used_tickets_add(&u, 100, 100 + LIFE_NS, one), STATUS_OK);
    assert_int_equal(used_tickets_add(&u, 100, 100 + LIFE_NS, one), STATUS_EXISTS);
    assert_int_equal(used_tickets_add(&u, 101, 100 + LIFE_NS, two), STATUS_OK);
    assert_int_equal(used_tickets_add(&u, 99 + LIFE_NS, 100 + LIFE_NS, one), STATUS_EXISTS);
    assert_int_equal(used_tickets_add(&u, 100 + LIFE_NS, 100 + LIFE_NS, one), STATUS_INVALID);
    used_tickets_free(&u);
}

static void a_used_ticket_is_forgotten_once_it_has_ended(void **state)
{
    struct used_tickets u;
    used_tickets_init(&u);
    for (uint64_t i = 0; i < 100; i++) {
        uint8_t nonce[TICKET_NONCE_BYTES] = {(uint8_t)i};
        assert_int_equal(used_tickets_add(&u, i * LIFE_NS / 10, i * LIFE_NS / 10 + 1, nonce), STATUS_OK);
        assert_true(u._by_nonce.len <= 10);
    }
    used_tickets_free(&u);
}

/* The core that gave the ticket out may be ahead of the home's turn. */
static void a_used_ticket_is_remembered_until_it_has_ended(void **state)
{
    struct used_tickets u;
    uint8_t nonce[TICKET_NONCE_BYTES] = {1};
    used_tickets_init(&u);
    assert_int_equal(used_tickets_add(&u, 100, 105 + LIFE_NS, nonce), STATUS_OK);
    assert_int_equal(used_tickets_add(&u, 104 + LIFE_NS, 105 + LIFE_NS, nonce), STATUS_EXISTS);
    assert_int_equal(used_tickets_add(&u, 105 + LIFE_NS, 105 + LIFE_NS, nonce), STATUS_INVALID);
    used_tickets_free(&u);
}

static void a_full_memory_refuses_and_uses_nothing_up(void **state)
{
    struct used_tickets u;
    uint8_t nonce[TICKET_NONCE_BYTES] = {0};
    used_tickets_init(&u);
    for (uint32_t i = 0; i < TICKETS_USED_MAX; i++) {
        memcpy(nonce, &(uint64_t){hash_u64(i + 1)}, 8);
        assert_int_equal(used_tickets_add(&u, 0, LIFE_NS, nonce), STATUS_OK);
    }
    memset(nonce, 0, sizeof nonce);
    assert_int_equal(used_tickets_add(&u, 1, 2 * LIFE_NS, nonce), STATUS_FULL);
    assert_int_equal(used_tickets_add(&u, LIFE_NS, 2 * LIFE_NS, nonce), STATUS_OK);
    used_tickets_free(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_is_used_once_while_it_lives),
        cmocka_unit_test(a_used_ticket_is_forgotten_once_it_has_ended),
        cmocka_unit_test(a_used_ticket_is_remembered_until_it_has_ended),
        cmocka_unit_test(a_full_memory_refuses_and_uses_nothing_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
