#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/base/log_queue.h"

static void lines_come_out_whole_and_in_order(void **state)
{
    struct log_queue q;
    assert_int_equal(log_queue_init(&q, 1024), STATUS_OK);
    struct slice line;
    assert_false(log_queue_peek(&q, &line));
    /* many times around, with every length, so that lines meet the ring's end at every place */
    for (unsigned i = 1; i < 5000; i++) {
        char text[128], other[128];
        memset(text, 'a' + (int)(i % 26), sizeof text);
        memset(other, 'A' + (int)(i % 26), sizeof other);
        size_t len = 1 + i % 127, other_len = 1 + (i * 7) % 127;
        assert_true(log_queue_push(&q, slice_of(text, len)));
        assert_true(log_queue_push(&q, slice_of(other, other_len)));
        assert_true(log_queue_bytes(&q) >= len + other_len);
        assert_true(log_queue_peek(&q, &line));
        assert_true(slice_eq(line, slice_of(text, len)));
        log_queue_pop(&q);
        assert_true(log_queue_peek(&q, &line));
        assert_true(slice_eq(line, slice_of(other, other_len)));
        log_queue_pop(&q);
        assert_false(log_queue_peek(&q, &line));
        assert_int_equal(log_queue_bytes(&q), 0);
    }
    log_queue_free(&q);
}

static void a_full_queue_refuses_and_takes_again(void **state)
{
    struct log_queue q;
    assert_int_equal(log_queue_init(&q, 256), STATUS_OK);
    struct slice line;
    unsigned pushed = 0;
    while (log_queue_push(&q, SLICE("0123456789ab"))) pushed++;
    assert_int_equal(pushed, 256 / 16);
    assert_int_equal(log_queue_bytes(&q), 256);
    assert_true(log_queue_peek(&q, &line));
    log_queue_pop(&q);
    assert_true(log_queue_push(&q, SLICE("0123456789ab")));
    assert_false(log_queue_push(&q, SLICE("x")));
    for (unsigned i = 0; i < pushed; i++) {
        assert_true(log_queue_peek(&q, &line));
        assert_true(slice_is(line, "0123456789ab"));
        log_queue_pop(&q);
    }
    assert_false(log_queue_peek(&q, &line));
    log_queue_free(&q);
}

/* As a writer sees it that was held up between looking at what is reserved and at what is released. */
static void a_reader_that_has_come_further_is_no_full_queue(void **state)
{
    struct log_queue q;
    assert_int_equal(log_queue_init(&q, 256), STATUS_OK);
    atomic_store(&q._released, 64);
    assert_true(log_queue_push(&q, SLICE("0123456789ab")));
    log_queue_free(&q);
}

#define WRITERS 4u
#define LINES 20000u

static struct log_queue shared;

static void *push_lines(void *argument)
{
    unsigned id = *(unsigned *)argument;
    for (unsigned i = 0; i < LINES; i++) {
        char text[160];
        int len = snprintf(text, sizeof text, "%u %u %.*s", id, i, (int)(i % 90), "................................"
                           "........................................................................");
        while (!log_queue_push(&shared, slice_of(text, (size_t)len))) sched_yield();
    }
    return NULL;
}

static void lines_of_several_threads_keep_their_order(void **state)
{
    pthread_t threads[WRITERS];
    unsigned ids[WRITERS], next[WRITERS] = {0};
    assert_int_equal(log_queue_init(&shared, 4096), STATUS_OK);
    for (unsigned i = 0; i < WRITERS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, push_lines, &ids[i]), 0);
    }
    for (unsigned taken = 0; taken < WRITERS * LINES;) {
        struct slice line;
        if (!log_queue_peek(&shared, &line)) {
            sched_yield();
            continue;
        }
        char text[160] = "";
        assert_true(line.len < sizeof text);
        memcpy(text, line.data, line.len);
        unsigned id, number;
        assert_int_equal(sscanf(text, "%u %u ", &id, &number), 2);
        assert_true(id < WRITERS);
        assert_int_equal(number, next[id]++);
        assert_int_equal(strspn(strrchr(text, ' ') + 1, "."), number % 90);
        log_queue_pop(&shared);
        taken++;
    }
    for (unsigned i = 0; i < WRITERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(log_queue_bytes(&shared), 0);
    log_queue_free(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_whole_and_in_order),
        cmocka_unit_test(a_full_queue_refuses_and_takes_again),
        cmocka_unit_test(a_reader_that_has_come_further_is_no_full_queue),
        cmocka_unit_test(lines_of_several_threads_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
