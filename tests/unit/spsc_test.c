#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "../../src/base/spsc.h"

static struct spsc ring;

static int ring_of_four(void **state)
{
    return spsc_init(&ring, 4) != STATUS_OK;
}

static int ring_free(void **state)
{
    spsc_free(&ring);
    return 0;
}

static enum status push(uint64_t v)
{
    struct spsc_cell cell = {{v, ~v, v, v, v, v, v, v + 1}};
    return spsc_push(&ring, &cell);
}

/* pop takes the next cell, or UINT64_MAX when there is none. */
static uint64_t pop(void)
{
    struct spsc_cell *cell = spsc_peek(&ring);
    if (!cell) return UINT64_MAX;
    uint64_t v = cell->word[0];
    assert_true(cell->word[1] == ~v && cell->word[7] == v + 1);
    spsc_pop(&ring);
    return v;
}

static void cells_are_seen_only_after_publishing(void **state)
{
    assert_int_equal(push(1), STATUS_OK);
    assert_int_equal(push(2), STATUS_OK);
    assert_true(spsc_empty(&ring));
    assert_true(spsc_publish(&ring));
    assert_false(spsc_publish(&ring)); /* nothing new */
    assert_false(spsc_empty(&ring));
    assert_int_equal(push(3), STATUS_OK);
    assert_int_equal(pop(), 1);
    assert_int_equal(pop(), 2);
    assert_true(pop() == UINT64_MAX);
    assert_true(spsc_publish(&ring));
    assert_int_equal(pop(), 3);
}

static void a_full_ring_says_so_until_cells_are_released(void **state)
{
    for (uint64_t i = 0; i < 4; i++) assert_int_equal(push(i), STATUS_OK);
    assert_int_equal(push(9), STATUS_FULL);
    spsc_publish(&ring);
    assert_int_equal(push(9), STATUS_FULL);
    assert_int_equal(pop(), 0);
    assert_int_equal(push(9), STATUS_FULL); /* popped, but the consumer may still use the cell */
    spsc_release(&ring);
    assert_int_equal(push(4), STATUS_OK);
    assert_int_equal(push(9), STATUS_FULL);
    spsc_publish(&ring);
    for (uint64_t i = 1; i <= 4; i++) assert_int_equal(pop(), i);
    assert_true(pop() == UINT64_MAX);
}

static void a_refused_push_leaves_the_ring_as_it_was(void **state)
{
    for (uint64_t i = 0; i < 4; i++) assert_int_equal(push(i), STATUS_OK);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(push(99), STATUS_FULL);
    spsc_publish(&ring);
    for (uint64_t i = 0; i < 4; i++) assert_int_equal(pop(), i);
    assert_true(pop() == UINT64_MAX);
}

static void a_peeked_cell_stays_the_same_until_popped(void **state)
{
    assert_int_equal(push(5), STATUS_OK);
    assert_int_equal(push(6), STATUS_OK);
    spsc_publish(&ring);
    struct spsc_cell *cell = spsc_peek(&ring);
    assert_ptr_equal(cell, spsc_peek(&ring));
    assert_int_equal(cell->word[0], 5);
    spsc_pop(&ring);
    assert_ptr_not_equal(cell, spsc_peek(&ring));
}

static void depth_counts_what_is_published_and_not_released(void **state)
{
    assert_int_equal(push(1), STATUS_OK);
    assert_int_equal(push(2), STATUS_OK);
    assert_int_equal(spsc_depth(&ring), 0);
    spsc_publish(&ring);
    assert_int_equal(spsc_depth(&ring), 2);
    pop();
    assert_int_equal(spsc_depth(&ring), 2);
    spsc_release(&ring);
    assert_int_equal(spsc_depth(&ring), 1);
}

/* Positions count up for ever; the ring starts just before they pass 2^32. */
static void positions_wrap_around_2_to_the_32(void **state)
{
    uint32_t start = UINT32_MAX - 5;
    ring.head = ring.tail = ring.published_seen = ring.released_seen = start;
    atomic_store(&ring.published, start);
    atomic_store(&ring.released, start);
    uint64_t in = 0, out = 0;
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 4; i++) assert_int_equal(push(in++), STATUS_OK);
        assert_int_equal(push(99), STATUS_FULL);
        spsc_publish(&ring);
        assert_int_equal(spsc_depth(&ring), 4);
        for (unsigned i = 0; i < 4; i++) assert_int_equal(pop(), out++);
        assert_true(pop() == UINT64_MAX);
        spsc_release(&ring);
        assert_int_equal(spsc_depth(&ring), 0);
    }
    assert_true(ring.tail < start);
}

#define CELLS_SENT 300000u

struct consumer {
    uint64_t taken, wrong;
};

/* The consumer checks every word, so a cell seen before it was written whole, or written again too early, shows. */
static void *consume(void *argument)
{
    struct consumer *c = argument;
    while (c->taken < CELLS_SENT) {
        struct spsc_cell *cell = spsc_peek(&ring);
        if (!cell) {
            spsc_release(&ring);
            sched_yield();
            continue;
        }
        for (unsigned w = 0; w < 8; w++) c->wrong += cell->word[w] != c->taken * 8 + w;
        spsc_pop(&ring);
        if (++c->taken % 3 == 0) spsc_release(&ring);
    }
    return NULL;
}

static void two_threads_pass_every_cell_once_in_order(void **state)
{
    spsc_free(&ring);
    assert_int_equal(spsc_init(&ring, 64), STATUS_OK);
    struct consumer consumer = {0};
    pthread_t thread;
    pthread_create(&thread, NULL, consume, &consumer);
    for (uint64_t i = 0; i < CELLS_SENT; i++) {
        struct spsc_cell cell;
        for (unsigned w = 0; w < 8; w++) cell.word[w] = i * 8 + w;
        while (spsc_push(&ring, &cell) == STATUS_FULL) {
            spsc_publish(&ring);
            sched_yield();
        }
        if (i % 5 == 0) spsc_publish(&ring);
    }
    spsc_publish(&ring);
    pthread_join(thread, NULL);
    assert_int_equal(consumer.taken, CELLS_SENT);
    assert_int_equal(consumer.wrong, 0);
}

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, ring_of_four, ring_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(cells_are_seen_only_after_publishing),
        RING_TEST(a_full_ring_says_so_until_cells_are_released),
        RING_TEST(a_refused_push_leaves_the_ring_as_it_was),
        RING_TEST(a_peeked_cell_stays_the_same_until_popped),
        RING_TEST(depth_counts_what_is_published_and_not_released),
        RING_TEST(positions_wrap_around_2_to_the_32),
        RING_TEST(two_threads_pass_every_cell_once_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
