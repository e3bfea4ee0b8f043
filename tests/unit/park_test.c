#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <time.h>

#include "../../src/base/clock.h"
#include "../../src/base/hash.h"
#include "../../src/base/park.h"

#define ROUNDS 40000u
#define LOST_NS 3000000000u /* a sleep that ends by this timeout slept through its wake-up */

/* Two threads hand a number to and fro; each looks for it for a random moment, then sleeps until the other has raised
 * it. The moments let one side go to sleep just when the other hands over, which is where a wake-up can get lost. A
 * lost one is a sleep of LOST_NS at whose end the number is there: without it, the other thread has just not run. */
struct side {
    struct park park;
    _Atomic unsigned arrived;
    struct side *other;
    uint64_t seed;
    unsigned lost, slept;
};

static void wait_for(struct side *s, unsigned round)
{
    for (uint64_t looks = hash_u64(s->seed++) % 512; looks > 0; looks--)
        if (atomic_load_explicit(&s->arrived, memory_order_acquire) >= round) return;
    while (atomic_load_explicit(&s->arrived, memory_order_acquire) < round) {
        park_prepare(&s->park);
        if (atomic_load_explicit(&s->arrived, memory_order_acquire) < round) {
            uint64_t began = clock_mono_ns(clock_real());
            park_block(&s->park, LOST_NS);
            s->slept++;
            s->lost += clock_mono_ns(clock_real()) - began >= LOST_NS &&
                       atomic_load_explicit(&s->arrived, memory_order_acquire) >= round;
        }
        park_done(&s->park);
        if (s->lost > 1) return; /* enough to fail; do not wait it all out */
    }
}

static void hand_over(struct side *s, unsigned round)
{
    atomic_store_explicit(&s->other->arrived, round, memory_order_release);
    park_wake(&s->other->park);
}

static void *answer(void *argument)
{
    struct side *s = argument;
    for (unsigned round = 1; round <= ROUNDS && s->lost < 2; round++) {
        wait_for(s, round);
        hand_over(s, round);
    }
    return NULL;
}

static void no_wake_up_is_lost_between_two_threads(void **state)
{
    static struct side a, b;
    assert_int_equal(park_init(&a.park, NULL, NULL), STATUS_OK);
    assert_int_equal(park_init(&b.park, NULL, NULL), STATUS_OK);
    a.seed = 1;
    b.seed = 1u << 30;
    a.other = &b;
    b.other = &a;
    pthread_t thread;
    pthread_create(&thread, NULL, answer, &b);
    for (unsigned round = 1; round <= ROUNDS && a.lost < 2; round++) {
        hand_over(&a, round);
        wait_for(&a, round);
    }
    hand_over(&a, ROUNDS);
    pthread_join(thread, NULL);
    assert_int_equal(a.lost + b.lost, 0);
    assert_true(a.slept > 0 && b.slept > 0); /* else nothing was tried */
    park_close(&a.park);
    park_close(&b.park);
}

/* The same race without sleeping, often enough to show a missing fence: two threads start a round together; one goes
 * to sleep and looks once more, the other publishes and wakes. Either the look or the wake must have seen the other. */
#define RACES 500000u
#define RACES_NS 10000000000u /* on a crowded machine, where a round may cost a turn of the scheduler, fewer must do */

struct race {
    struct park park;
    _Alignas(64) _Atomic unsigned work;
    _Atomic unsigned last; /* round */
    _Alignas(64) _Atomic unsigned at[2]; /* the step each thread has reached */
    bool saw_work, woke;
    unsigned lost, seen, woken;
};

static void step_together(struct race *r, unsigned who, unsigned step)
{
    atomic_store_explicit(&r->at[who], step, memory_order_release);
    for (unsigned looks = 0; atomic_load_explicit(&r->at[!who], memory_order_acquire) < step; looks++)
        if (looks % 4096 == 4095) sched_yield();
}

/* Where threads take turns on one CPU, or under valgrind, only a yield lets the other one go first. */
static void pause_a_little(uint64_t seed)
{
    if (hash_u64(~seed) % 4096 == 0) sched_yield();
    for (volatile uint64_t n = hash_u64(seed) % 64; n > 0; n--) {}
}

static void *publish_and_wake(void *argument)
{
    struct race *r = argument;
    for (unsigned round = 1; round <= atomic_load(&r->last); round++) {
        step_together(r, 1, 2 * round);
        pause_a_little(round);
        atomic_store_explicit(&r->work, round, memory_order_release);
        r->woke = park_wake(&r->park);
        step_together(r, 1, 2 * round + 1);
    }
    return NULL;
}

static void ignore_signal(struct park *p) {}

static void either_the_sleeper_sees_the_work_or_the_waker_the_sleeper(void **state)
{
    static const struct park_ops ops = {ignore_signal, NULL};
    static struct race r;
    assert_int_equal(park_init(&r.park, &ops, NULL), STATUS_OK);
    r.last = RACES;
    uint64_t ends_ns = clock_mono_ns(clock_real()) + RACES_NS;
    pthread_t thread;
    pthread_create(&thread, NULL, publish_and_wake, &r);
    for (unsigned round = 1; round <= r.last; round++) {
        if (clock_mono_ns(clock_real()) > ends_ns)
            r.last = round; /* seen by the other one before it asks for another */
        step_together(&r, 0, 2 * round);
        pause_a_little(round + RACES);
        park_prepare(&r.park);
        r.saw_work = atomic_load_explicit(&r.work, memory_order_acquire) == round;
        step_together(&r, 0, 2 * round + 1);
        park_done(&r.park);
        r.lost += !r.saw_work && !r.woke;
        r.seen += r.saw_work;
        r.woken += r.woke;
    }
    pthread_join(thread, NULL);
    assert_int_equal(r.lost, 0);
    assert_true(r.seen > 0 && r.woken > 0); /* both sides came first at times */
}

static bool readable(const struct park *p)
{
    struct pollfd wait = {.fd = p->fd, .events = POLLIN};
    return poll(&wait, 1, 0) == 1;
}

static void waking_costs_a_signal_only_while_the_other_sleeps(void **state)
{
    struct park p;
    assert_int_equal(park_init(&p, NULL, NULL), STATUS_OK);
    assert_false(park_wake(&p));
    assert_false(readable(&p));
    park_prepare(&p);
    assert_true(park_wake(&p));
    assert_false(park_wake(&p)); /* one signal a sleep */
    assert_int_equal(atomic_load(&p.wakes), 1);
    assert_true(readable(&p));
    park_drain(&p);
    assert_false(readable(&p));
    park_drain(&p); /* harmless */
    park_prepare(&p);
    park_done(&p);
    assert_false(park_wake(&p));
    park_close(&p);
    park_close(&p);
}

static void a_signal_sent_before_blocking_ends_it_at_once(void **state)
{
    struct park p;
    assert_int_equal(park_init(&p, NULL, NULL), STATUS_OK);
    park_prepare(&p);
    park_wake(&p);
    uint64_t began = clock_mono_ns(clock_real());
    park_block(&p, LOST_NS);
    assert_true(clock_mono_ns(clock_real()) - began < LOST_NS);
    assert_false(readable(&p)); /* the signal is used up */
    park_close(&p);
}

static void blocking_ends_at_the_timeout(void **state)
{
    struct park p;
    assert_int_equal(park_init(&p, NULL, NULL), STATUS_OK);
    park_prepare(&p);
    uint64_t began = clock_mono_ns(clock_real());
    park_block(&p, 20000000);
    uint64_t slept = clock_mono_ns(clock_real()) - began;
    assert_true(slept >= 20000000 && slept < LOST_NS);
    park_block(&p, 0);
    park_done(&p);
    park_close(&p);
}

static unsigned signals;
static uint64_t blocked_ns;

static void count_signal(struct park *p)
{
    ++*(unsigned *)p->ops_context;
}

static void note_block(struct park *p, uint64_t timeout_ns)
{
    blocked_ns = timeout_ns;
}

static void a_simulator_replaces_signal_and_block(void **state)
{
    static const struct park_ops ops = {count_signal, note_block};
    struct park p;
    assert_int_equal(park_init(&p, &ops, &signals), STATUS_OK);
    assert_int_equal(p.fd, -1);
    park_prepare(&p);
    assert_true(park_wake(&p));
    assert_int_equal(signals, 1);
    park_block(&p, 77);
    assert_int_equal(blocked_ns, 77);
    park_drain(&p);
    park_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_up_is_lost_between_two_threads),
        cmocka_unit_test(either_the_sleeper_sees_the_work_or_the_waker_the_sleeper),
        cmocka_unit_test(waking_costs_a_signal_only_while_the_other_sleeps),
        cmocka_unit_test(a_signal_sent_before_blocking_ends_it_at_once),
        cmocka_unit_test(blocking_ends_at_the_timeout),
        cmocka_unit_test(a_simulator_replaces_signal_and_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
