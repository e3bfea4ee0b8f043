#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/chat/ids.h"

static const uint64_t numbers[] = {1, 2, 3, 1000, UINT32_MAX, 1ull << 32, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
#define NUM_NUMBERS (sizeof numbers / sizeof numbers[0])

static void an_id_carries_its_number(void **state)
{
    char text[MESSAGE_ID_TEXT_MAX];
    uint64_t room, seq;
    for (size_t i = 0; i < NUM_NUMBERS; i++) {
        assert_int_equal(room_id_text(text, numbers[i]) - text, ID_TEXT_LEN);
        assert_true(room_id_parse(slice_of(text, ID_TEXT_LEN), &room));
        assert_true(room == numbers[i]);
        for (size_t n = 0; n < NUM_NUMBERS; n++) {
            size_t len = (size_t)(message_id_text(text, numbers[i], numbers[n]) - text);
            assert_in_range(len, ID_TEXT_LEN + 2, MESSAGE_ID_TEXT_MAX);
            assert_true(message_id_parse(slice_of(text, len), &room, &seq));
            assert_true(room == numbers[i] && seq == numbers[n]);
        }
    }
}

static void tenant_ids_hold_32_bits(void **state)
{
    char text[ID_TEXT_LEN];
    uint32_t tenant;
    assert_int_equal(tenant_id_text(text, UINT32_MAX) - text, ID_TEXT_LEN);
    assert_true(tenant_id_parse(slice_of(text, ID_TEXT_LEN), &tenant));
    assert_int_equal(tenant, UINT32_MAX);
    room_id_text(text, 1ull << 32);
    text[0] = 't';
    assert_false(tenant_id_parse(slice_of(text, ID_TEXT_LEN), &tenant));
}

static void zero_names_nothing(void **state)
{
    char text[ID_TEXT_LEN];
    uint64_t room;
    uint32_t tenant;
    room_id_text(text, 0);
    assert_false(room_id_parse(slice_of(text, ID_TEXT_LEN), &room));
    tenant_id_text(text, 0);
    assert_false(tenant_id_parse(slice_of(text, ID_TEXT_LEN), &tenant));
}

static void neighbours_look_unlike(void **state)
{
    char a[ID_TEXT_LEN], b[ID_TEXT_LEN];
    unsigned same = 0;
    room_id_text(a, 41);
    room_id_text(b, 42);
    for (unsigned i = 2; i < ID_TEXT_LEN; i++) same += a[i] == b[i];
    assert_true(same < 6);
}

static void only_what_was_written_is_read(void **state)
{
    char text[MESSAGE_ID_TEXT_MAX + 1];
    uint64_t room, seq;
    uint32_t tenant;
    room_id_text(text, 12345);
    assert_false(tenant_id_parse(slice_of(text, ID_TEXT_LEN), &tenant)); /* the letter counts */
    assert_false(room_id_parse(slice_of(text, ID_TEXT_LEN - 1), &room));
    assert_false(room_id_parse(slice_of(text, 0), &room));
    assert_false(room_id_parse((struct slice){0}, &room));
    for (unsigned i = 0; i < ID_TEXT_LEN; i++) { /* no character outside the alphabet, in any place */
        static const char wrong[] = {'u', 'I', 'l', 'o', 'A', ' ', '\0', '\xff', '-'};
        for (unsigned n = 0; n < sizeof wrong; n++) {
            room_id_text(text, 12345);
            text[i] = wrong[n];
            assert_false(room_id_parse(slice_of(text, ID_TEXT_LEN), &room));
        }
    }
    room_id_text(text, UINT64_MAX);
    text[2] = 'g'; /* more than 64 bits */
    assert_false(room_id_parse(slice_of(text, ID_TEXT_LEN), &room));
    size_t len = (size_t)(message_id_text(text, 7, 5) - text);
    assert_true(message_id_parse(slice_of(text, len), &room, &seq));
    assert_false(message_id_parse(slice_of(text, len - 1), &room, &seq)); /* no seq */
    text[len - 1] = '0';
    assert_false(message_id_parse(slice_of(text, len), &room, &seq));
    text[len] = '5';
    assert_false(message_id_parse(slice_of(text, len + 1), &room, &seq)); /* one way to write a number */
    text[len - 1] = '-';
    assert_false(message_id_parse(slice_of(text, len + 1), &room, &seq));
}

static void dead_letters_are_named_by_tenant_notification_and_user(void **state)
{
    char text[DEAD_LETTER_ID_TEXT_LEN];
    uint32_t tenant;
    uint64_t number, user;
    assert_ptr_equal(dead_letter_id_text(text, 3, UINT64_MAX, 5), text + DEAD_LETTER_ID_TEXT_LEN);
    assert_true(dead_letter_id_parse(slice_of(text, sizeof text), &tenant, &number, &user));
    assert_true(tenant == 3 && number == UINT64_MAX && user == 5);
    assert_false(dead_letter_id_parse(slice_of(text, sizeof text - 1), &tenant, &number, &user));
    text[20] = 'u';
    assert_false(dead_letter_id_parse(slice_of(text, sizeof text), &tenant, &number, &user));
    dead_letter_id_text(text, 3, 4, 0);
    assert_false(dead_letter_id_parse(slice_of(text, sizeof text), &tenant, &number, &user));
    notification_id_text(text, 77);
    assert_true(notification_id_parse(slice_of(text, ID_TEXT_LEN), &number) && number == 77);
    assert_false(room_id_parse(slice_of(text, ID_TEXT_LEN), &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_carries_its_number),
        cmocka_unit_test(tenant_ids_hold_32_bits),
        cmocka_unit_test(zero_names_nothing),
        cmocka_unit_test(neighbours_look_unlike),
        cmocka_unit_test(only_what_was_written_is_read),
        cmocka_unit_test(dead_letters_are_named_by_tenant_notification_and_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
