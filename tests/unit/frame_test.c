#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "../../net/frame.h"

static void the_bytes_lie_behind_the_counters(void **state)
{
    for (unsigned cores = 1; cores <= 64; cores *= 4) {
        struct frame *f = frame_new(cores, 1000);
        assert_int_equal((uintptr_t)f % 64, 0);
        assert_true((char *)&f->cores[cores] <= frame_data(f));
        assert_int_equal(f->len, 1000);
        memset(frame_data(f), 0xff, 1000);
        for (unsigned i = 0; i < cores; i++) assert_int_equal(frame_core_of(f, i)->refs, 0);
        frame_let_go(f); /* the maker's own hold: a frame that nobody wanted */
    }
}

static void a_private_frame_counts_for_whichever_core_has_it(void **state)
{
    struct frame *f = frame_new(1, 1);
    frame_ref(f, 7);
    frame_ref(f, 7);
    assert_int_equal(f->cores[0].refs, 2);
    frame_unref(f, 7);
    assert_int_equal(f->cores[0].refs, 1);
    frame_unref(f, 7);
}

/* The counts of three cores are more than what it says. */
static void all_of_a_frame_is_charged_until_the_last_core_lets_go(void **state)
{
    const int64_t whole = (int64_t)(sizeof(struct frame) + 3 * sizeof(struct frame_core) + 100);
    _Atomic int64_t account = 5;
    struct frame *f = frame_new(3, 100);
    frame_charge(f, &account);
    assert_int_equal(account, 5 + whole);
    frame_hold(f, 3);
    frame_ref(f, 0);
    frame_ref(f, 0);
    frame_ref(f, 2);
    frame_let_go(f); /* core 1 had no subscriber after all */
    frame_unref(f, 0);
    frame_unref(f, 2);
    assert_int_equal(account, 5 + whole);
    frame_unref(f, 0);
    assert_int_equal(account, 5);
}

#define CORES 4u
#define FRAMES 2000u

struct sharing {
    struct frame **frames;
    unsigned core;
};

static void *use_frames(void *context)
{
    struct sharing *s = context;
    for (unsigned i = 0; i < FRAMES; i++) {
        for (unsigned k = 0; k < 5; k++) frame_ref(s->frames[i], s->core);
        assert_int_equal(frame_data(s->frames[i])[9], (char)i);
        for (unsigned k = 0; k < 5; k++) frame_unref(s->frames[i], s->core);
    }
    return NULL;
}

static void cores_share_a_frame_and_the_last_frees_it(void **state)
{
    _Atomic int64_t account = FRAMES * 10;
    struct frame *frames[FRAMES];
    pthread_t threads[CORES];
    struct sharing shares[CORES];
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = frame_new(CORES, 10);
        frames[i]->account = &account;
        frames[i]->charged = 10;
        memset(frame_data(frames[i]), (int)i, 10);
        frame_hold(frames[i], CORES);
    }
    for (unsigned i = 0; i < CORES; i++) {
        shares[i] = (struct sharing){frames, i};
        pthread_create(&threads[i], NULL, use_frames, &shares[i]);
    }
    for (unsigned i = 0; i < CORES; i++) pthread_join(threads[i], NULL);
    assert_int_equal(account, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_lie_behind_the_counters),
        cmocka_unit_test(a_private_frame_counts_for_whichever_core_has_it),
        cmocka_unit_test(all_of_a_frame_is_charged_until_the_last_core_lets_go),
        cmocka_unit_test(cores_share_a_frame_and_the_last_frees_it),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
