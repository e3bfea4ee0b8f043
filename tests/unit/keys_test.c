#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../storage/keys.h"
#include "../../storage/kv.h"
#include "next_random.h"

/* Numbers of every magnitude, so that carries between all bytes are met. */
static uint64_t some_number(void) { return next_random() >> (next_random() % 64); }

static void assert_key(const struct key *k, const char *bytes, size_t len)
{
    assert_int_equal(k->len, len);
    assert_memory_equal(k->bytes, bytes, len);
}
#define ASSERT_KEY(k, literal) assert_key((k), (literal), sizeof(literal) - 1)

static void keys_lie_in_bytes_as_documented(void **state)
{
    struct key k;
    key_meta(&k, SLICE("epoch"));
    ASSERT_KEY(&k, "epoch");
    key_tenant(&k, 0x01020304);
    ASSERT_KEY(&k, "\1\2\3\4");
    key_api_key(&k, 7, SLICE("pre"));
    ASSERT_KEY(&k, "\0\0\0\7pre");
    key_name(&k, 7, NAME_USER, SLICE("ann"));
    ASSERT_KEY(&k, "\0\0\0\7uann");
    key_user(&k, 7, 9);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09");
    key_room(&k, 7, 0x0102030405060708);
    ASSERT_KEY(&k, "\0\0\0\7\1\2\3\4\5\6\7\x08");
    key_member(&k, 7, 8, 9);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x09");
    key_user_room(&k, 7, 9, 8);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x08");
    key_log(&k, 7, 8, 256);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\1\0");
    key_change(&k, 7, 8, 1, 2);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2");
    key_cursor(&k, 7, 9, SLICE("phone"), 8);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09\5phone\0\0\0\0\0\0\0\x08");
    key_idempotency_run(&k, 7, 8, 4097);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\x10\1");
    key_answer(&k, 7, 9, SLICE("/rooms k1"));
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09/rooms k1");
    key_outbox(&k, 7, 9, 256);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\1\0");
    key_notification(&k, 7, 9, 256, NOTIFICATION_END);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\1\0\1");
    key_dead_letter(&k, 7, 256, 9);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\x09");
    key_subscription(&k, 7, 9, SLICE("news"));
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\x09news");
    key_subscriber(&k, 7, SLICE("news"), 9);
    ASSERT_KEY(&k, "\0\0\0\7\0\0\0\0\0\0\0\0\4news\0\0\0\0\0\0\0\x09");
}

static int sign(int v) { return (v > 0) - (v < 0); }
static int compare_u64(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static void key_order_is_numeric_order(void **state)
{
    for (int n = 0; n < 100000; n++) {
        uint32_t tenant[2] = {(uint32_t)some_number(), 0};
        uint64_t room[2] = {some_number(), 0}, seq[2] = {some_number(), some_number()};
        tenant[1] = n % 2 ? tenant[0] : (uint32_t)some_number();
        room[1] = n % 3 ? room[0] : some_number();
        struct key k[2];
        for (int i = 0; i < 2; i++) key_log(&k[i], tenant[i], room[i], seq[i]);
        int order = compare_u64(tenant[0], tenant[1]);
        if (!order) order = compare_u64(room[0], room[1]);
        if (!order) order = compare_u64(seq[0], seq[1]);
        assert_int_equal(sign(kv_key_compare(key_slice(&k[0]), key_slice(&k[1]))), order);
    }
}

static void keys_parse_back_into_their_numbers(void **state)
{
    for (int n = 0; n < 10000; n++) {
        uint32_t tenant = (uint32_t)some_number(), tenant_read;
        uint64_t room = some_number(), target = some_number(), seq = some_number(), v;
        struct key k;
        key_change(&k, tenant, room, target, seq);
        struct slice rest = key_slice(&k);
        assert_true(key_parse_u32(&rest, &tenant_read));
        assert_int_equal(tenant_read, tenant);
        assert_true(key_parse_u64(&rest, &v) && v == room);
        assert_true(key_parse_u64(&rest, &v) && v == target);
        assert_true(key_parse_u64(&rest, &v) && v == seq);
        assert_int_equal(rest.len, 0);
    }
}

static void parsing_refuses_short_keys_and_takes_nothing(void **state)
{
    uint32_t small;
    uint64_t large;
    for (size_t len = 0; len < 8; len++) {
        struct slice rest = slice_of("\1\2\3\4\5\6\7", len);
        assert_false(key_parse_u64(&rest, &large));
        assert_int_equal(rest.len, len);
        if (len < 4) assert_false(key_parse_u32(&rest, &small));
    }
}

static void prefix_end_is_the_first_key_behind_the_prefix(void **state)
{
    for (int n = 0; n < 100000; n++) {
        char bytes[8];
        size_t prefix_len = next_random() % 5, len = next_random() % 9;
        for (size_t i = 0; i < 8; i++) bytes[i] = (char)(next_random() % 3 ? 0xff : next_random());
        struct key end;
        key_prefix_end(&end, slice_of(bytes, prefix_len));
        char other[8];
        memcpy(other, bytes, 8);
        if (len) other[next_random() % len] ^= (char)(next_random() % 4 ? 0 : 1);
        struct slice key = slice_of(other, len), prefix = slice_of(bytes, prefix_len);
        bool inside = kv_key_compare(key, prefix) >= 0 && (end.len == 0 || kv_key_compare(key, key_slice(&end)) < 0);
        assert_int_equal(inside, slice_starts(key, prefix));
    }
}

static void a_prefix_of_highest_bytes_has_no_end(void **state)
{
    struct key end;
    key_prefix_end(&end, SLICE("\xff\xff\xff\xff"));
    assert_int_equal(end.len, 0);
    key_prefix_end(&end, SLICE("\x01\xff\xff"));
    ASSERT_KEY(&end, "\x02");
}

static void cursors_of_one_device_do_not_mix_with_another(void **state)
{
    struct key k, prefix, end;
    /* the prefix of device "a": everything before the room */
    key_cursor(&prefix, 1, 2, SLICE("a"), 0);
    prefix.len -= 8;
    key_prefix_end(&end, key_slice(&prefix));
    key_cursor(&k, 1, 2, SLICE("a"), UINT64_MAX);
    assert_true(kv_key_compare(key_slice(&k), key_slice(&end)) < 0);
    key_cursor(&k, 1, 2, SLICE("ab"), 0);
    assert_false(slice_starts(key_slice(&k), key_slice(&prefix)));
    key_cursor(&k, 1, 2, SLICE(""), 0x6100000000000000ULL); /* a room whose first byte is "a" */
    assert_false(slice_starts(key_slice(&k), key_slice(&prefix)));
}

static void runs_of_a_room_lie_apart_from_kept_answers(void **state)
{
    struct key prefix, end, k;
    key_room(&prefix, 7, 1);
    key_prefix_end(&end, key_slice(&prefix));
    key_answer(&k, 7, UINT64_MAX, SLICE("\xff"));
    assert_true(kv_key_compare(key_slice(&k), key_slice(&prefix)) < 0);
    key_idempotency_run(&k, 7, 1, UINT64_MAX);
    assert_true(kv_key_compare(key_slice(&k), key_slice(&end)) < 0);
    key_idempotency_run(&k, 7, 2, 1);
    assert_true(kv_key_compare(key_slice(&k), key_slice(&end)) >= 0);
}

static char text[KEY_TEXT_MAX + 1];

static void make_too_long_name(struct key *k) { key_name(k, 1, NAME_DM, slice_of(text, KEY_TEXT_MAX + 1)); }
static void make_too_long_answer(struct key *k) { key_answer(k, 1, 2, slice_of(text, KEY_TEXT_MAX + 1)); }
static void make_empty_answer(struct key *k) { key_answer(k, 1, 2, SLICE("")); }
static void make_run_of_room_0(struct key *k) { key_idempotency_run(k, 1, 0, 1); }
static void make_run_from_seq_0(struct key *k) { key_idempotency_run(k, 1, 1, 0); }

static void assert_aborts(void (*make)(struct key *k))
{
    pid_t child = fork();
    if (child == 0) {
        close(2);
        struct key k;
        make(&k);
        _exit(0);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGABRT);
}

static void too_long_text_aborts(void **state)
{
    struct key k;
    key_name(&k, 1, NAME_DM, slice_of(text, KEY_TEXT_MAX));
    assert_int_equal(k.len, 5 + KEY_TEXT_MAX);
    key_answer(&k, 1, 3, slice_of(text, KEY_TEXT_MAX));
    assert_int_equal(k.len, 20 + KEY_TEXT_MAX);
    assert_aborts(make_too_long_name);
    assert_aborts(make_too_long_answer);
}

static void idempotency_keys_that_could_be_taken_for_the_other_kind_abort(void **state)
{
    assert_aborts(make_run_of_room_0);
    assert_aborts(make_run_from_seq_0);
    assert_aborts(make_empty_answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_lie_in_bytes_as_documented),
        cmocka_unit_test(key_order_is_numeric_order),
        cmocka_unit_test(keys_parse_back_into_their_numbers),
        cmocka_unit_test(parsing_refuses_short_keys_and_takes_nothing),
        cmocka_unit_test(prefix_end_is_the_first_key_behind_the_prefix),
        cmocka_unit_test(a_prefix_of_highest_bytes_has_no_end),
        cmocka_unit_test(cursors_of_one_device_do_not_mix_with_another),
        cmocka_unit_test(runs_of_a_room_lie_apart_from_kept_answers),
        cmocka_unit_test(too_long_text_aborts),
        cmocka_unit_test(idempotency_keys_that_could_be_taken_for_the_other_kind_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
