#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>

#include "../../net/timer.h"

static void a_timer_fires_at_its_tick_and_not_before(void **state)
{
    struct timer_wheel wheel;
    struct timer t = {0};
    timer_wheel_init(&wheel, 5);
    assert_int_equal(timer_wheel_next(&wheel), TIMER_NEVER);
    timer_arm(&wheel, &t, 12);
    assert_true(timer_armed(&t));
    assert_int_equal(timer_wheel_next(&wheel), 12);
    timer_wheel_advance(&wheel, 11);
    assert_null(timer_pop(&wheel));
    timer_wheel_advance(&wheel, 12);
    assert_ptr_equal(timer_pop(&wheel), &t);
    assert_false(timer_armed(&t));
    assert_null(timer_pop(&wheel));
    assert_int_equal(timer_wheel_next(&wheel), TIMER_NEVER);
}

static void arming_again_moves_the_deadline(void **state)
{
    struct timer_wheel wheel;
    struct timer t = {0};
    timer_wheel_init(&wheel, 0);
    timer_arm(&wheel, &t, 10);
    timer_arm(&wheel, &t, 20);
    assert_int_equal(timer_due(&t), 20);
    timer_wheel_advance(&wheel, 19);
    assert_null(timer_pop(&wheel));
    timer_arm(&wheel, &t, 3); /* has passed: the next tick */
    assert_int_equal(timer_wheel_next(&wheel), 20);
    timer_wheel_advance(&wheel, 20);
    assert_ptr_equal(timer_pop(&wheel), &t);
}

static void a_cancelled_timer_never_fires_even_when_it_has_expired(void **state)
{
    struct timer_wheel wheel;
    struct timer a = {0}, b = {0};
    timer_wheel_init(&wheel, 0);
    timer_cancel(&wheel, &a); /* not armed */
    timer_arm(&wheel, &a, 10);
    timer_cancel(&wheel, &a);
    assert_int_equal(timer_wheel_next(&wheel), TIMER_NEVER);
    timer_arm(&wheel, &a, 10);
    timer_arm(&wheel, &b, 10);
    timer_wheel_advance(&wheel, 10);
    assert_int_equal(timer_wheel_next(&wheel), 10); /* there is something to pop right now */
    struct timer *first = timer_pop(&wheel);
    timer_cancel(&wheel, first == &a ? &b : &a);
    assert_null(timer_pop(&wheel));
}

static void a_deadline_beyond_one_turn_of_the_wheel_waits_for_its_own(void **state)
{
    struct timer_wheel wheel;
    struct timer far = {0}, near = {0};
    timer_wheel_init(&wheel, 0);
    timer_arm(&wheel, &far, 100 + 2 * TIMER_SLOTS);
    timer_arm(&wheel, &near, 100);
    timer_wheel_advance(&wheel, 100);
    assert_ptr_equal(timer_pop(&wheel), &near);
    assert_null(timer_pop(&wheel));
    timer_wheel_advance(&wheel, 99 + 2 * TIMER_SLOTS);
    assert_null(timer_pop(&wheel));
    timer_wheel_advance(&wheel, 100 + 2 * TIMER_SLOTS);
    assert_ptr_equal(timer_pop(&wheel), &far);
}

static void a_long_pause_expires_everything_that_was_due(void **state)
{
    struct timer_wheel wheel;
    enum { NUM = 500 };
    struct timer timers[NUM] = {0};
    timer_wheel_init(&wheel, 0);
    for (unsigned i = 0; i < NUM; i++) timer_arm(&wheel, &timers[i], 1 + i * 37);
    timer_wheel_advance(&wheel, 1 + (NUM - 1) * 37);
    unsigned expired = 0;
    while (timer_pop(&wheel)) expired++;
    assert_int_equal(expired, NUM);
}

/* Random arms, cancels and advances against a table of deadlines. */
static void the_wheel_agrees_with_a_plain_table(void **state)
{
    enum { NUM = 64 };
    struct timer_wheel wheel;
    struct timer timers[NUM];
    uint32_t due[NUM], now = 1000;
    memset(timers, 0, sizeof timers);
    memset(due, 0, sizeof due); /* 0: not armed */
    timer_wheel_init(&wheel, now);
    srandom(1);
    for (unsigned round = 0; round < 200000; round++) {
        unsigned i = (unsigned)random() % NUM;
        unsigned what = (unsigned)random() % 4;
        if (what == 0) {
            due[i] = now + 1 + (unsigned)random() % (round % 2 ? 50 : 3000);
            timer_arm(&wheel, &timers[i], due[i]);
        } else if (what == 1) {
            due[i] = 0;
            timer_cancel(&wheel, &timers[i]);
        } else {
            uint32_t next = timer_wheel_next(&wheel), earliest = TIMER_NEVER;
            for (unsigned k = 0; k < NUM; k++)
                if (due[k] && due[k] < earliest) earliest = due[k];
            assert_true(next <= earliest && next > now);
            now += (unsigned)random() % (round % 3000 == 0 ? 5000 : 20);
            timer_wheel_advance(&wheel, now);
            for (struct timer *t; (t = timer_pop(&wheel));) {
                assert_true(due[t - timers] && due[t - timers] <= now);
                due[t - timers] = 0;
            }
            for (unsigned k = 0; k < NUM; k++) assert_true(due[k] == 0 || due[k] > now);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_fires_at_its_tick_and_not_before),
        cmocka_unit_test(arming_again_moves_the_deadline),
        cmocka_unit_test(a_cancelled_timer_never_fires_even_when_it_has_expired),
        cmocka_unit_test(a_deadline_beyond_one_turn_of_the_wheel_waits_for_its_own),
        cmocka_unit_test(a_long_pause_expires_everything_that_was_due),
        cmocka_unit_test(the_wheel_agrees_with_a_plain_table),
    };
    return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
