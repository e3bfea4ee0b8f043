#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>

#include "../../net/send_queue.h"

static _Atomic int64_t account;

/* numbered makes a frame whose bytes tell which one it is; freeing it lowers `account` by one. */
static struct frame *numbered(unsigned number, uint32_t len)
{
    struct frame *f = frame_new(1, len);
    memset(frame_data(f), (int)(number % 251), len);
    f->account = &account;
    f->charged = 1;
    account++;
    frame_ref(f, 0);
    return f;
}

static void an_empty_queue_is_a_zeroed_one(void **state)
{
    struct send_queue q = {0};
    struct send_pool pool;
    struct iovec part;
    size_t bytes;
    send_pool_init(&pool);
    assert_true(send_queue_empty(&q));
    assert_int_equal(send_queue_peek(&q, &bytes, &part, 1, 100), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(send_queue_clear(&q, &pool, 0), 0);
    send_pool_close(&pool);
}

static void few_entries_take_no_chunk_and_many_give_theirs_back(void **state)
{
    struct send_queue q = {0};
    struct send_pool pool;
    send_pool_init(&pool);
    send_queue_push(&q, &pool, numbered(0, 10), 1);
    assert_int_equal(pool.in_use, 0);
    for (unsigned i = 0; i < 3 * SEND_CHUNK_ENTRIES; i++) send_queue_push(&q, &pool, numbered(i, 10), 1);
    assert_int_equal(pool.in_use, 3);
    assert_int_equal(send_queue_sent(&q, &pool, 0, 10 * (1 + SEND_CHUNK_ENTRIES)),
                     1 + SEND_CHUNK_ENTRIES);
    assert_int_equal(pool.in_use, 2);
    assert_int_equal(send_queue_clear(&q, &pool, 0), 10 * 2 * SEND_CHUNK_ENTRIES);
    assert_int_equal(pool.in_use, 0);
    assert_int_equal(account, 0);
    send_pool_close(&pool);
}

static void a_partly_sent_head_goes_on_where_it_stopped(void **state)
{
    struct send_queue q = {0};
    struct send_pool pool;
    struct iovec parts[4];
    size_t bytes;
    send_pool_init(&pool);
    struct frame *a = numbered(1, 100), *b = numbered(2, 50);
    send_queue_push(&q, &pool, a, 0);
    send_queue_push(&q, &pool, b, 1);
    assert_int_equal(send_queue_sent(&q, &pool, 0, 60), 0);
    assert_int_equal(send_queue_class_bytes(&q, 0), 40);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 4, 1000), 2);
    assert_int_equal(bytes, 90);
    assert_ptr_equal(parts[0].iov_base, frame_data(a) + 60);
    assert_int_equal(parts[0].iov_len, 40);
    assert_ptr_equal(parts[1].iov_base, frame_data(b));
    assert_int_equal(send_queue_sent(&q, &pool, 0, 50), 1); /* the rest of the first, ten of the second */
    assert_int_equal(send_queue_bytes(&q), 40);
    assert_int_equal(send_queue_sent(&q, &pool, 0, 40), 1);
    assert_true(send_queue_empty(&q) && account == 0);
    send_pool_close(&pool);
}

static void a_peek_ends_at_its_bounds_but_gives_one_entry(void **state)
{
    struct send_queue q = {0};
    struct send_pool pool;
    struct iovec parts[64];
    size_t bytes;
    send_pool_init(&pool);
    send_queue_push(&q, &pool, numbered(0, 5000), 1);
    for (unsigned i = 0; i < 40; i++) send_queue_push(&q, &pool, numbered(i, 100), 1);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 64, 1000), 1);
    assert_int_equal(bytes, 5000);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 64, 5250), 3);
    assert_int_equal(bytes, 5200);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 30, 100000), 30);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 64, 100000), 41);
    assert_int_equal(bytes, 9000);
    send_queue_clear(&q, &pool, 0);
    send_pool_close(&pool);
}

static void dropping_a_class_leaves_the_others_and_what_is_being_sent(void **state)
{
    struct send_queue q = {0};
    struct send_pool pool;
    struct iovec parts[64];
    size_t bytes;
    send_pool_init(&pool);
    for (unsigned i = 0; i < 30; i++) send_queue_push(&q, &pool, numbered(i, 10), i % 3);
    /* entries 2, 5, … 29 are of class 2; the first four entries are pinned, so 2 stays */
    assert_int_equal(send_queue_drop(&q, &pool, 0, 2, 4), 9 * 10);
    assert_int_equal(account, 21);
    assert_int_equal(send_queue_class_bytes(&q, 2), 10);
    unsigned num = send_queue_peek(&q, &bytes, parts, 64, 10000), expected = 0;
    assert_int_equal(num, 21);
    for (unsigned i = 0; i < num; i++, expected++) {
        if (expected > 2 && expected % 3 == 2) expected++;
        assert_int_equal(*(unsigned char *)parts[i].iov_base, expected);
    }
    assert_int_equal(send_queue_drop(&q, &pool, 0, 2, 0), 10);
    assert_int_equal(send_queue_drop(&q, &pool, 0, 2, 0), 0);
    send_queue_sent(&q, &pool, 0, 5); /* the head, of class 0, is half out: it must stay whole */
    assert_int_equal(send_queue_drop(&q, &pool, 0, 0, 0), 9 * 10);
    assert_int_equal(send_queue_class_bytes(&q, 0), 5);
    assert_int_equal(send_queue_peek(&q, &bytes, parts, 64, 10000), 11);
    assert_int_equal(parts[0].iov_len, 5);
    send_queue_clear(&q, &pool, 0);
    assert_int_equal(account, 0);
    send_pool_close(&pool);
}

/* Random pushes, partial sends and drops against a plain array; what comes out must be the same bytes in order. */
static void the_queue_agrees_with_a_plain_array(void **state)
{
    enum { MODEL = 4096 };
    static struct {
        unsigned number, class, len;
    } model[MODEL];
    unsigned len = 0, sent_of_head = 0, number = 0;
    struct send_queue q = {0};
    struct send_pool pool;
    struct iovec parts[64];
    size_t bytes;
    send_pool_init(&pool);
    srandom(7);
    for (unsigned round = 0; round < 50000; round++) {
        unsigned what = (unsigned)random() % 10;
        if (what < 5 && len < 200) {
            model[len].number = number;
            model[len].class = (unsigned)random() % 3;
            model[len].len = 1 + (unsigned)random() % 300;
            send_queue_push(&q, &pool, numbered(number, model[len].len), model[len].class);
            number++;
            len++;
        } else if (what < 9) {
            unsigned num = send_queue_peek(&q, &bytes, parts, 1 + (unsigned)random() % 64, (unsigned)random() % 2000);
            assert_true(num <= len && (num > 0) == (len > 0));
            for (unsigned i = 0; i < num; i++) {
                assert_int_equal(parts[i].iov_len, model[i].len - (i ? 0 : sent_of_head));
                assert_int_equal(*(unsigned char *)parts[i].iov_base, model[i].number % 251);
            }
            size_t sent = bytes ? (size_t)random() % (bytes + 1) : 0;
            send_queue_sent(&q, &pool, 0, sent);
            while (len && sent >= model[0].len - sent_of_head) {
                sent -= model[0].len - sent_of_head;
                sent_of_head = 0;
                memmove(model, model + 1, --len * sizeof model[0]);
            }
            sent_of_head += (unsigned)sent;
        } else if (random() % 20 == 0) {
            unsigned class = (unsigned)random() % 3, pinned = (unsigned)random() % 3, kept = 0;
            send_queue_drop(&q, &pool, 0, class, pinned);
            for (unsigned i = 0; i < len; i++)
                if (i < pinned || (i == 0 && sent_of_head) || model[i].class != class) model[kept++] = model[i];
            len = kept;
        }
        size_t by_class[3] = {0};
        for (unsigned i = 0; i < len; i++) by_class[model[i].class] += model[i].len - (i ? 0 : sent_of_head);
        for (unsigned k = 0; k < 3; k++) assert_int_equal(send_queue_class_bytes(&q, k), by_class[k]);
        assert_int_equal(send_queue_len(&q), len);
        assert_int_equal(account, len);
    }
    send_queue_clear(&q, &pool, 0);
    assert_int_equal(pool.in_use, 0);
    send_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_queue_is_a_zeroed_one),
        cmocka_unit_test(few_entries_take_no_chunk_and_many_give_theirs_back),
        cmocka_unit_test(a_partly_sent_head_goes_on_where_it_stopped),
        cmocka_unit_test(a_peek_ends_at_its_bounds_but_gives_one_entry),
        cmocka_unit_test(dropping_a_class_leaves_the_others_and_what_is_being_sent),
        cmocka_unit_test(the_queue_agrees_with_a_plain_array),
    };
    return cmocka_run_group_tests_name("send_queue", tests, NULL, NULL);
}
